"""Counter-measures: a catalogue as data, and which of them, up to three together, help care most.

A measure puts a barrier up at an asset. What it saves is found by asking the same paths again with the
barrier; what it harms by asking what would follow from its own side effect. The set that is advised has
the least

    expected loss with the barriers and the side effects + cost of the measures

among all sets of up to `advice` measures, measures of the catalogue being tried at every asset where they
block something that was reached. With more than `max_measures` candidates only the best ones alone are
combined; `bound` then says what no set of any of them could go below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from correlator.errors import Fault, FaultyFile
from correlator.events.threat import Advice
from correlator.impact.conditions import NOTHING
from correlator.impact.graph import CLASS_NUMBER, CLASSES, RELATION_NUMBER, THREAT_NUMBER, THREATS
from correlator.impact.model import ImpactModel
from correlator.impact.paths import UNAVAILABLE, Paths, from_log, log_missed
from correlator.impact.reading import Reader
from correlator.impact.rules import PPM, Text, texts_of
from correlator.impact.services import services_hit
from correlator.impact.words import ANY, BARRIERS
from correlator.marked import MarkedDict, load_bytes
from correlator.premises.vocabulary import ASSET_CLASSES, RELATION_TYPES, THREAT_TYPES

SHIPPED_MEASURES: Final = Path(__file__).parent / "measures"
_KEYS: Final = {
    "id": True, "says": True, "on": True, "barrier": True, "degree": True, "requires": False, "cost": True,
    "harms": False, "takes": False, "who": False,
}  # fmt: skip
_WAYS: Final = ("along", "against", "either")


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of counter-measure.

    on         classes of assets it can be done at (() = any)
    degree     ppm of what the barrier blocks that it stops
    requires   groups of (relation, way, class): a neighbour of each must be there
    harms      (threat number, ppm): what doing it does to the asset, (-1, 0) for nothing
    cost       in units of one service of criticality 1 lost for sure
    """

    id: str
    says: str
    on: tuple[str, ...]
    barrier: str
    degree: int
    requires: tuple[frozenset[int], ...]
    harms: tuple[int, int]
    cost: float
    takes_ms: int
    who: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A measure at an asset.

    saves: expected loss it takes away alone; in an advised set what would come back without it, its own
    side effects subtracted. harms: expected loss it causes by itself.
    """

    measure: Measure
    asset: int
    saves: float
    harms: float

    @property
    def net(self) -> float:
        """What is won by doing this alone."""
        return self.saves - self.harms - self.measure.cost


@dataclass(frozen=True, slots=True)
class Plan:
    """The advised set and how it was found.

    loss, loss_after   expected loss without measures; with the set, its side effects included
    total              loss_after plus costs: what the set was chosen by
    bound              no set of up to three of any candidates has a lower total
    complete           every candidate took part in sets: `total` is the least there is
    tried              sets that were worked out; others could not be better
    """

    chosen: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    loss: float
    loss_after: float
    total: float
    bound: float
    complete: bool
    tried: int


# ---- the catalogue --------------------------------------------------------------------------------------


def load_measures(paths: Sequence[Path] = ()) -> tuple[Measure, ...]:
    """Measures of files and folders, the shipped ones without any. Raises FaultyFile with every fault."""
    measures, faults = check_measures(paths)
    if faults:
        raise FaultyFile(faults)
    return measures


def check_measures(paths: Sequence[Path] = ()) -> tuple[tuple[Measure, ...], list[Fault]]:
    """The measures that can be used, and every fault. Raises UsageError for a path that is not there."""
    return measures_of(texts_of(paths or [SHIPPED_MEASURES]))


def measures_of(texts: Iterable[Text]) -> tuple[tuple[Measure, ...], list[Fault]]:
    """As `check_measures`, of (name, bytes) of files."""
    found: dict[str, Measure] = {}
    faults: list[Fault] = []
    for name, data in texts:
        try:
            documents = load_bytes(data, name)
        except FaultyFile as error:
            faults += error.faults
            continue
        for document in documents:
            reader = Reader(name)
            if reader.keys(document, "a file of counter-measures", {"measures": True}):
                for item in reader.maps(document, "measures", "a counter-measure", _KEYS):
                    _take(reader, item, found)
            faults += reader.faults
    return tuple(found.values()), sorted(faults)


def _take(reader: Reader, item: MarkedDict, found: dict[str, Measure]) -> None:
    before = len(reader.faults)
    on = reader.words(item, "on", [*ASSET_CLASSES, ANY], "asset class")
    says = reader.text(item, "says")
    if says and "{asset}" not in says:
        reader.fault(reader.at(item, "says"), "'says' must name the place as {asset}")
    measure = Measure(
        id=reader.text(item, "id"), says=says, on=() if ANY in on else on,
        barrier=reader.word(item, "barrier", BARRIERS, "barrier"),
        degree=round((reader.number(item, "degree", 0, 1) or 0) * PPM), requires=_requires(reader, item),
        harms=_harms(reader, item), cost=reader.number(item, "cost", 0, 1_000) or 0.0,
        takes_ms=reader.duration(item["takes"], reader.at(item, "takes")) if "takes" in item else 0,
        who=reader.text(item, "who"),
    )  # fmt: skip
    if measure.id in found:
        reader.fault(reader.at(item, "id"), f"counter-measure {measure.id!r} is given twice")
    if len(reader.faults) == before:
        found[measure.id] = measure


def _requires(reader: Reader, item: MarkedDict) -> tuple[frozenset[int], ...]:
    found = []
    for one in reader.maps(item, "requires", "a precondition", {"over": True, "way": False, "on": True}):
        relations = reader.words(one, "over", RELATION_TYPES, "relation type")
        way = reader.word(one, "way", _WAYS, "way") or "along"
        classes = reader.words(one, "on", ASSET_CLASSES, "asset class")
        ways = {"along": (0,), "against": (1,), "either": (0, 1)}[way]
        found.append(frozenset(
            (RELATION_NUMBER[relation] * 2 + one_way) * CLASSES + CLASS_NUMBER[name]
            for relation in relations for one_way in ways for name in classes
        ))  # fmt: skip
    return tuple(found)


def _harms(reader: Reader, item: MarkedDict) -> tuple[int, int]:
    value: Any = item.get("harms")
    if value is None or not reader.keys(
        value, "'harms'", {"threat": True, "likelihood": True}, reader.at(item, "harms")
    ):
        return (-1, 0)
    threat = reader.word(value, "threat", THREAT_TYPES, "threat type")
    likelihood = reader.number(value, "likelihood", 0, 1) or 0
    return (THREAT_NUMBER[threat], round(likelihood * PPM)) if threat else (-1, 0)


# ---- the best set ---------------------------------------------------------------------------------------


class Advisor:
    """Finds counter-measures for what paths lead to. Side effects are remembered: they hold for the site."""

    def __init__(self, model: ImpactModel, measures: Sequence[Measure]) -> None:
        self.model = model
        self.measures = tuple(measures)
        self._side_effects: dict[tuple[int, int, int], dict[int, int]] = {}

    def plan(self, paths: Paths, epoch: int) -> Plan:
        """The best set of up to `advice` measures (settings) against these paths."""
        settings = self.model.settings
        lean = paths.stricter(paths.conditions)
        before = self._loss(self._services(lean), ())
        everywhere = self._places(lean) if before else []
        floor = self._with_barriers(lean, everywhere)
        places = everywhere[: settings.max_places]
        candidates = [self._candidate(lean, measure, asset, before, epoch) for measure, asset in places]
        candidates.sort(key=lambda one: (-one.net, -one.saves, one.measure.id, one.asset))
        pool = candidates[: settings.max_measures]
        best, best_after, tried = self._search(lean, pool, before, epoch)
        best_total = round(best_after + sum(one.measure.cost for one in best), 6)
        if before - best_total < settings.least_saving:
            best, best_total, best_after = (), before, before
        best = tuple(
            replace(one, saves=round(self._with_barriers(lean, others, epoch) - best_after, 6))
            for one, others in ((one, [(c.measure, c.asset) for c in best if c is not one]) for one in best)
        )
        cheapest = min((measure.cost for measure, _ in everywhere), default=0.0)
        return Plan(
            chosen=best, candidates=tuple(one for one in candidates if one.saves > 0), loss=before,
            loss_after=best_after, total=best_total, bound=min(before, round(floor + cheapest, 6)),
            complete=len(everywhere) <= min(settings.max_measures, settings.max_places), tried=tried,
        )  # fmt: skip

    def _search(
        self, lean: Paths, pool: Sequence[Candidate], before: float, epoch: int
    ) -> tuple[tuple[Candidate, ...], float, int]:
        """(the set of up to `advice` candidates with the least total, the loss it leaves, sets worked out).

        Branch and bound, exact: a set that lacks c leaves at least what all others together leave.
        """
        places = [(one.measure, one.asset) for one in pool]
        lacking = [self._with_barriers(lean, [*places[:at], *places[at + 1 :]]) for at in range(len(places))]
        worst_first = sorted(range(len(pool)), key=lambda at: -lacking[at])
        best: tuple[int, ...] = ()
        best_total, best_after, tried = before, before, 0
        sets = [chosen for size in range(1, self.model.settings.advice + 1)
                for chosen in combinations(range(len(pool)), size)]  # fmt: skip
        # Sets of what helps most alone come first: the sooner a good one is found, the more can be left out.
        sets.sort(key=lambda chosen: (-sum(pool[at].net for at in chosen), chosen))
        for chosen in sets:
            cost = sum(pool[at].measure.cost for at in chosen)
            least = next((lacking[at] for at in worst_first if at not in chosen), 0.0)
            if round(least + cost, 6) > best_total:
                continue
            tried += 1
            left = self._with_barriers(lean, [places[at] for at in chosen], epoch)
            total = round(left + cost, 6)
            if (total, len(chosen), chosen) < (best_total, len(best), best):
                best, best_total, best_after = chosen, total, left
        return tuple(pool[at] for at in best), best_after, tried

    def _with_barriers(self, lean: Paths, places: Sequence[tuple[Measure, int]], epoch: int | None = None) -> float:
        """Expected loss with these measures; with an epoch their side effects count as well."""
        conditions = lean.conditions.with_barriers(
            (asset, measure.barrier, measure.degree) for measure, asset in places
        )
        effects = [] if epoch is None else [self._side_effect(measure, asset, epoch) for measure, asset in places]
        return self._loss(self._services(lean.stricter(conditions)), effects)

    def advice(self, plan: Plan) -> tuple[Advice, ...]:
        """A plan as it is told: the advised set, then what else would help, the best first."""
        chosen = {(one.measure.id, one.asset) for one in plan.chosen}
        rest = [one for one in plan.candidates if (one.measure.id, one.asset) not in chosen and one.net > 0]
        found = []
        for one in (*plan.chosen, *rest[: self.model.settings.advice]):
            name = self.model.graph.ids[one.asset]
            place = self.model.describe(name)
            found.append(Advice(
                measure=one.measure.id, says=one.measure.says.replace("{asset}", place), asset=name, place_name=place,
                saves=one.saves, harms=one.harms, cost=one.measure.cost, advised=(one.measure.id, one.asset) in chosen,
                takes_ms=one.measure.takes_ms, who=one.measure.who,
            ))  # fmt: skip
        return tuple(found)

    def _places(self, paths: Paths) -> list[tuple[Measure, int]]:
        """Measures at assets where they block a step that was taken, first where most loss passes."""
        passes = self._loss_passing(paths)
        by_kind: dict[str, list[int]] = {}
        for asset, kind in sorted(passes):
            by_kind.setdefault(kind, []).append(asset)
        classes = self.model.graph.classes
        found = []
        for measure in self.measures:
            on = {CLASS_NUMBER[name] for name in measure.on} or set(CLASS_NUMBER.values())
            for asset in by_kind.get(measure.barrier, ()):
                if classes[asset] in on and self._possible(measure, asset, paths):
                    found.append((measure, asset))
        # The gravest first: what a measure saves is at most what passes there times its degree.
        found.sort(key=lambda one: (
            one[0].cost - passes[one[1], one[0].barrier] * one[0].degree / PPM, one[0].id, one[1],
        ))  # fmt: skip
        return found

    def _loss_passing(self, paths: Paths) -> dict[tuple[int, str], float]:
        """(asset, barrier that blocks a step there) -> criticality x likelihood of all paths over such steps:
        more than that a measure there cannot save."""
        rules, criticality = self.model.table.rules, self.model.graph.criticality
        passes: dict[tuple[int, str], float] = {}

        def add(number: int, ends: tuple[int, int], loss: float) -> None:
            for kind in rules[number].blocked_by:
                for asset in ends:
                    passes[asset, kind] = passes.get((asset, kind), 0.0) + loss

        behind: dict[int, float] = {}
        for service, stops in paths.ends.items():
            for label, step, number in stops:
                loss = criticality.get(service, 0) * (paths.products[label] / PPM) * (step / PPM)
                behind[label] = behind.get(label, 0.0) + loss
                add(number, (paths.states[label] // THREATS, service), loss)
        hits = services_hit(paths, explain=False)
        for service, hit in hits.items():
            for to, step, number in paths.links(service * THREATS + UNAVAILABLE):
                other = to // THREATS
                if other in hits:
                    loss = criticality.get(other, 0) * (hit.likelihood / PPM) * (step / PPM)
                    add(number, (service, other), loss)
        for label in range(len(paths.states) - 1, -1, -1):
            asset, parent = paths.states[label] // THREATS, paths.parents[label]
            if asset in self.model.table.services:
                own = criticality.get(asset, 0) * paths.products[label] / PPM
                behind[label] = behind.get(label, 0.0) + own
            if parent >= 0 and label in behind:
                behind[parent] = behind.get(parent, 0.0) + behind[label]
                add(paths.numbers[label], (paths.states[parent] // THREATS, asset), behind[label])
        return passes

    def _possible(self, measure: Measure, asset: int, paths: Paths) -> bool:
        """Preconditions hold, and nothing as strong stands there already."""
        if paths.conditions.barriers.get(asset, {}).get(measure.barrier, 0) >= measure.degree:
            return False
        if not measure.requires:
            return True
        graph = self.model.graph
        codes = set(graph.group_code[graph.first_group[asset] : graph.first_group[asset + 1]])
        return all(codes & wanted for wanted in measure.requires)

    def _candidate(self, paths: Paths, measure: Measure, asset: int, before: float, epoch: int) -> Candidate:
        after = self._with_barriers(paths, [(measure, asset)])
        harm = self._loss(self._side_effect(measure, asset, epoch), ())
        return Candidate(measure, asset, round(before - after, 6), harm)

    def _services(self, paths: Paths) -> dict[int, int]:
        return self.model.hit_services(paths, services_hit(paths, explain=False))

    def _side_effect(self, measure: Measure, asset: int, epoch: int) -> dict[int, int]:
        """Services hit by doing the measure where nothing else happens, service -> ppm."""
        threat, ppm = measure.harms
        if threat < 0:
            return {}
        key = (threat * 1_000_003 + ppm, asset, epoch)
        found = self._side_effects.get(key)
        if found is None:
            paths = Paths(self.model.table, self.model.settings)
            paths.revise({asset * THREATS + threat: ppm}, NOTHING, epoch)
            found = self._side_effects[key] = self._services(paths)
        return found

    def _loss(self, services: Mapping[int, int], side_effects: Sequence[Mapping[int, int]]) -> float:
        """Expected loss: criticality x the chance that a service is hit by the threat or by what is done."""
        logs = {service: log_missed(ppm) for service, ppm in services.items()}
        for effect in side_effects:
            for service, ppm in effect.items():
                logs[service] = logs.get(service, 0) + log_missed(ppm)
        criticality = self.model.graph.criticality
        return round(sum(criticality.get(service, 0) * from_log(log) for service, log in logs.items()) / PPM, 6)
