"""The impact model of one site: rules on its graph, and what follows from what was found.

`assess` turns the paths from some seeds into what a person is told: which care services and assets are
hit, how likely, how soon, by which path. It decides nothing by clock or chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from correlator.events.threat import Impact, ImpactStep
from correlator.impact.conditions import NOTHING, Conditions, Protections
from correlator.impact.graph import THREAT_NAMES, THREAT_NUMBER, THREATS, FlatGraph, flat_graph
from correlator.impact.paths import UNAVAILABLE, Paths, from_log, log_missed
from correlator.impact.rules import PPM, Rule
from correlator.impact.services import Cause, ServiceHit, services_hit
from correlator.impact.settings import ImpactSettings
from correlator.impact.table import RuleTable
from correlator.impact.words import EFFECTS
from correlator.premises import Premises
from correlator.premises.model import Protection

Times = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What may follow.

    impacts     the gravest first; `more` were left out
    loss        criticality x likelihood, summed over the care services hit; by_effect keeps the four apart
    services    service number -> likelihood in ppm that it is hit in any way
    refused     paths not followed because a bound was met (0: all within the cutoff)
    """

    impacts: tuple[Impact, ...]
    more: int
    loss: float
    by_effect: dict[str, float]
    services: dict[int, int]
    refused: int


class ImpactModel:
    """A site's graph, rules and protections, ready to be asked.

    describe: an asset in words. counters: what was bounded so far.
    """

    def __init__(
        self,
        graph: FlatGraph,
        rules: Iterable[Rule],
        protections: Iterable[Protection] = (),
        settings: ImpactSettings | None = None,
        describe: Callable[[str], str] = str,
    ) -> None:
        self.settings = settings or ImpactSettings()
        self.graph = graph
        self.protections = Protections(graph, tuple(protections), self.settings.gamma)
        self.table = RuleTable(graph, tuple(rules), self.protections)
        self.describe = describe
        self.counters = {"impact_paths_refused": 0, "impact_unknown_seeds": 0}

    @classmethod
    def of_site(cls, premises: Premises, rules: Iterable[Rule], settings: ImpactSettings | None = None) -> ImpactModel:
        """The model of a loaded site."""
        graph = flat_graph(premises.graph)
        return cls(graph, rules, premises.site.protections.values(), settings, premises.describe)

    def seed(self, asset: str, threat: str) -> int | None:
        """The state of a found threat, None if the site does not know the asset or the word is none."""
        number = self.graph.index.get(asset)
        if number is None or threat not in THREAT_NUMBER:
            return None
        return number * THREATS + THREAT_NUMBER[threat]

    def paths(
        self, seeds: Mapping[int, int], conditions: Conditions = NOTHING, t_ms: int = 0, into: Paths | None = None
    ) -> Paths:
        """Everything that follows from the seeds (state -> ppm); into: paths to revise instead of new ones."""
        paths = into if into is not None else Paths(self.table, self.settings)
        paths.revise(seeds, conditions, self.table.epoch(t_ms))
        self.counters["impact_paths_refused"] += paths.refused
        return paths

    # ---- what is told --------------------------------------------------------------------------

    def assess(self, paths: Paths, starts_ms: Mapping[int, int] | None = None) -> Assessment:
        """What the paths come to. starts_ms: seed state -> when it was found, ms UTC."""
        hits = services_hit(paths)
        services = self.hit_services(paths, hits)
        criticality, least = self.graph.criticality, round(self.settings.told_from * PPM)
        ranked: list[tuple[int, int, int]] = []
        for state in paths.reached:
            if state not in paths.seeds:
                ppm = paths.likelihood(state)
                if ppm >= least:
                    ranked.append((-max(1, criticality.get(state // THREATS, 0)) * ppm, -ppm, state))
        for service, hit in hits.items():
            state = service * THREATS + UNAVAILABLE
            if hit.likelihood >= least and state not in paths.seeds:
                weight = 1 + criticality.get(service, 0)
                ranked.append((-weight * hit.likelihood, -hit.likelihood, state))
        ranked.sort()
        told = [self._impact(paths, hits, state, starts_ms or {}) for _, _, state in ranked[: self.settings.told]]
        return Assessment(
            tuple(told), len(ranked) - len(told), self.loss(services), self._by_effect(paths, hits), services,
            paths.refused,
        )  # fmt: skip

    def loss(self, services: Mapping[int, int]) -> float:
        """Expected loss: criticality x likelihood, summed over the services (service -> ppm)."""
        criticality = self.graph.criticality
        return round(sum(criticality.get(service, 0) * ppm for service, ppm in services.items()) / PPM, 6)

    def hit_services(self, paths: Paths, hits: Mapping[int, ServiceHit]) -> dict[int, int]:
        """Service number -> likelihood in ppm that it is hit in any way, by number."""
        logs: dict[int, int] = {service: log_missed(hit.likelihood) for service, hit in hits.items()}
        for service, states in self._service_states(paths).items():
            ends = [(label, PPM) for state in states for label in paths.labels_of[state]]
            logs[service] = logs.get(service, 0) + log_missed(paths.union(ends))
        return {service: from_log(logs[service]) for service in sorted(logs)}

    def _service_states(self, paths: Paths) -> dict[int, list[int]]:
        """Service -> its states that paths reach, without its unavailability."""
        found: dict[int, list[int]] = {}
        for state in sorted(paths.at_services):
            found.setdefault(state // THREATS, []).append(state)
        return found

    def _by_effect(self, paths: Paths, hits: Mapping[int, ServiceHit]) -> dict[str, float]:
        found = dict.fromkeys(EFFECTS, 0.0)
        criticality = self.graph.criticality
        rules = self.table.rules
        for service in sorted(hits):
            hit = hits[service]
            if hit.because:
                for effect, degree in rules[hit.because[0].number].effects:
                    found[effect] += criticality.get(service, 0) * hit.likelihood / PPM * degree
        for service, states in sorted(self._service_states(paths).items()):
            for state in states:
                label = paths.best(state)
                if paths.numbers[label] >= 0:
                    for effect, degree in rules[paths.numbers[label]].effects:
                        found[effect] += criticality.get(service, 0) * paths.likelihood(state) / PPM * degree
        return {effect: round(loss, 6) for effect, loss in found.items() if loss}

    def _impact(self, paths: Paths, hits: Mapping[int, ServiceHit], state: int, starts_ms: Mapping[int, int]) -> Impact:
        asset, threat = divmod(state, THREATS)
        if threat == UNAVAILABLE and asset in hits:
            hit = hits[asset]
            chains = [self._chain(paths, hits, state, cause) for cause in hit.because]
            times = [self.cause_times_ms(paths, hits, cause, state) for cause in hit.because] or [((0, 0, 0), 0)]
            # All of a redundant need must be gone: the last of them decides.
            (low, middle, high), start = max(times, key=lambda one: one[0][1])
            likelihood, ways = hit.likelihood, hit.ways
            effects = self.table.rules[hit.because[0].number].effects if hit.because else ()
        else:
            label = paths.best(state)
            chains = [self._steps(paths, label)]
            low, middle, high = paths.times_ms(label)
            start = paths.states[paths.path(label)[0]]
            likelihood, ways = paths.likelihood(state), len(paths.labels_of[state])
            effects = self.table.rules[paths.numbers[label]].effects if paths.numbers[label] >= 0 else ()
        name = self.graph.ids[asset]
        return Impact(
            asset=name, place_name=self.describe(name), threat_type=THREAT_NAMES[threat],
            likelihood=likelihood / PPM, p10_ms=low, p50_ms=middle, p90_ms=high, from_ms=starts_ms.get(start, 0),
            service=asset in self.table.services, criticality=self.graph.criticality.get(asset, 0),
            effects=dict(effects), ways=ways, path=chains[0] if chains else (), together=tuple(chains[1:]),
        )  # fmt: skip

    def cause_times_ms(self, paths: Paths, hits: Mapping[int, ServiceHit], cause: Cause, to: int) -> tuple[Times, int]:
        """(p10, p50, p90 until a cause stops what it stops, seed state the clock starts at)."""
        step = self.table.delay_ms(cause.source, cause.number, to)
        if cause.label >= 0:
            before, seed = paths.times_ms(cause.label), paths.states[paths.path(cause.label)[0]]
        else:
            hit = hits[cause.source // THREATS]
            inner = [self.cause_times_ms(paths, hits, one, cause.source) for one in hit.because]
            before, seed = max(inner, key=lambda one: one[0][1]) if inner else ((0, 0, 0), cause.source)
        return add_times(before, step), seed

    def _chain(self, paths: Paths, hits: Mapping[int, ServiceHit], state: int, cause: Cause) -> tuple[ImpactStep, ...]:
        """The steps that lead to a service by one cause."""
        if cause.label >= 0:
            steps = self._steps(paths, cause.label)
        else:
            hit = hits[cause.source // THREATS]
            steps = self._chain(paths, hits, cause.source, hit.because[0]) if hit.because else ()
        return (*steps, self._step(cause.source, state, cause.step, cause.likelihood, cause.number))

    def _steps(self, paths: Paths, label: int) -> tuple[ImpactStep, ...]:
        found = []
        before = -1
        for one in paths.path(label):
            state = paths.states[one]
            found.append(self._step(before, state, paths.steps[one], paths.products[one], paths.numbers[one]))
            before = state
        return tuple(found)

    def _step(self, before: int, state: int, step: int, product: int, number: int) -> ImpactStep:
        asset, threat = divmod(state, THREATS)
        name = self.graph.ids[asset]
        rule = self.table.rules[number] if number >= 0 else None
        return ImpactStep(
            asset=name, place_name=self.describe(name), threat_type=THREAT_NAMES[threat], step=step / PPM,
            likelihood=product / PPM, rule=rule.id if rule is not None else "",
            says=rule.says if rule is not None else "",
            p50_ms=self.table.delay_ms(before, number, state)[1] if number >= 0 else 0,
        )  # fmt: skip


def add_times(before: Times, step: Times) -> Times:
    """Times of a path and of one more step: middles add, spreads add in squares."""
    middle = before[1] + step[1]
    low = ((before[1] - before[0]) ** 2 + (step[1] - step[0]) ** 2) ** 0.5
    high = ((before[2] - before[1]) ** 2 + (step[2] - step[1]) ** 2) ** 0.5
    return max(0, middle - round(low)), middle, middle + round(high)
