"""The impact of open threats as they grow: seeds from findings, conditions from live state.

For each threat its paths are kept and revised. What is kept is only a saving of work: from the same
findings, live state and time, a restored engine works out the same.

Taken from live state, at the time of the revision:
    a giver of a protection that is offline, disabled or tampered with, or was hit   -> it gives nothing
    a door that is locked / stands open                -> `lock` stands in the way / it is easier to pass
    somebody who works in a room and was last seen there -> `guard`, weakly, in that room
A finding that fits a declared window is announced work and starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from correlator.events.event import LEVELS
from correlator.events.threat import Advice, Finding
from correlator.impact.conditions import NOTHING, Conditions
from correlator.impact.graph import CLASS_NUMBER, RELATION_NUMBER, THREAT_NUMBER, THREATS
from correlator.impact.measures import Advisor, Measure, load_measures
from correlator.impact.model import Assessment, ImpactModel
from correlator.impact.paths import Paths
from correlator.impact.rules import PPM, RuleBase, load_rules
from correlator.impact.settings import ImpactSettings
from correlator.premises import Premises

# How sure a finding of each level is that what it names has happened: the share of such findings that
# turn out true where rules are kept in order (docs/impact.md).
SEED_PPM: Final = dict(zip(LEVELS, (100_000, 200_000, 500_000, 800_000, PPM), strict=True))
LOCKED: Final = 600_000  # a locked door stops this share of those who try it by hand or by badge
ATTENDED: Final = 300_000  # a room where staff are
# Threats that put out of order what they are found on. Fire is not among them: what a smoke sensor or
# camera reports is seen, and where it does burn, its health says so.
_DISABLING: Final = frozenset(
    THREAT_NUMBER[name] for name in (
        "surveillance-loss", "sabotage", "device-tampering", "theft", "power-loss", "supply-loss", "system-failure",
        "denial-of-service", "ransomware", "data-destruction", "defence-evasion", "alarm-suppression", "malware",
        "control-manipulation", "exploitation",
    )
)  # fmt: skip
_DOOR: Final = CLASS_NUMBER["door"]
_ZONE: Final = CLASS_NUMBER["zone"]
_WORKS_IN: Final = RELATION_NUMBER["works_in"] * 2 + 1
_SEVERITY: Final = {5: "critical", 4: "high", 3: "medium", 2: "low", 1: "low"}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a threat may lead to now.

    severity: a level from the care services likely to be hit, "" for none. services: those services with
    their level. key: changes when these services do or when the expected loss doubles or halves; that is
    told at once.
    """

    assessment: Assessment
    severity: str
    services: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """See the text of the class; "" for nothing."""
        loss = int(self.assessment.loss * 10).bit_length()
        named = " ".join(f"{service}={level}" for service, level in self.services)
        return f"{loss} {named}".strip() if loss or named else ""


@dataclass(slots=True)
class _Kept:
    """The paths of one threat and what they watch in live state."""

    paths: Paths
    seeds: dict[int, int] = field(default_factory=dict)
    starts_ms: dict[int, int] = field(default_factory=dict)
    doors: set[int] = field(default_factory=set)
    zones: set[int] = field(default_factory=set)
    givers: set[int] = field(default_factory=set)
    watched: set[str] = field(default_factory=set)
    outlook: Outlook | None = None
    advice: tuple[tuple[Advice, ...], float] | None = None


class LiveImpact:
    """Impact and advice of the open threats of one site. The model is made when first needed."""

    def __init__(
        self,
        premises: Premises,
        rules: RuleBase | None = None,
        measures: Sequence[Measure] | None = None,
        settings: ImpactSettings | None = None,
    ) -> None:
        self._premises = premises
        self._rules = rules
        self._measures = measures
        self._settings = settings
        self._model: ImpactModel | None = None
        self._advisor: Advisor | None = None
        self._threats: dict[str, _Kept] = {}
        self._workers: dict[int, tuple[str, ...]] = {}

    @property
    def model(self) -> ImpactModel:
        """The impact model of the site."""
        if self._model is None:
            rules = self._rules or _shipped_rules()
            self._model = ImpactModel.of_site(self._premises, rules.rules, self._settings)
        return self._model

    def revise(self, threat: str, findings: Iterable[Finding], t_ms: int) -> Outlook:
        """What these findings of a threat may lead to as things stand at t_ms (ms UTC)."""
        model = self.model
        kept = self._threats.get(threat)
        if kept is None:
            kept = self._threats[threat] = _Kept(Paths(model.table, model.settings))
        seeds, starts_ms = self._seeds(findings)
        epoch = model.table.epoch(t_ms)
        paths = kept.paths
        moved = seeds != kept.seeds or epoch != paths.epoch
        conditions = self._conditions(kept, seeds, t_ms)
        while moved or conditions != paths.conditions:
            paths.revise(seeds, conditions, epoch)
            moved = False
            kept.outlook = kept.advice = None
            self._watch(kept, paths.visited)
            conditions = self._conditions(kept, seeds, t_ms)
        if kept.outlook is None or starts_ms != kept.starts_ms:
            kept.seeds, kept.starts_ms = seeds, starts_ms
            model.counters["impact_paths_refused"] += paths.refused
            kept.outlook = self._outlook(model.assess(paths, starts_ms))
        return kept.outlook

    def advise(self, threat: str) -> tuple[tuple[Advice, ...], float]:
        """(counter-measures, expected loss with the advised ones) for a threat as last revised."""
        kept = self._threats.get(threat)
        if kept is None:
            return (), 0.0
        if kept.advice is None:
            if self._advisor is None:
                measures = _shipped_measures() if self._measures is None else self._measures
                self._advisor = Advisor(self.model, measures)
            plan = self._advisor.plan(kept.paths, kept.paths.epoch)
            kept.advice = self._advisor.advice(plan), plan.loss_after
        return kept.advice

    def knows(self, threat: str) -> bool:
        """Whether the threat was revised since this object was made."""
        return threat in self._threats

    def watches(self, threat: str, assets: Iterable[str]) -> bool:
        """Whether the live state of one of these assets bears on the threat's impact."""
        kept = self._threats.get(threat)
        return kept is not None and any(asset in kept.watched for asset in assets)

    def forget(self, threat: str) -> None:
        """The threat is closed or merged."""
        self._threats.pop(threat, None)

    def counters(self) -> dict[str, int]:
        """What was bounded so far; {} before the model was needed."""
        return dict(self._model.counters) if self._model is not None else {}

    # ---- seeds and conditions ------------------------------------------------------------------

    def _seeds(self, findings: Iterable[Finding]) -> tuple[dict[int, int], dict[int, int]]:
        """(state -> ppm, state -> when it was first found) of findings that are no announced work."""
        seeds: dict[int, int] = {}
        starts_ms: dict[int, int] = {}
        for finding in findings:
            if finding.windows or not finding.threat_type:
                continue
            state = self.model.seed(finding.asset, finding.threat_type)
            if state is not None:
                seeds[state] = max(seeds.get(state, 0), SEED_PPM.get(finding.level, 0))
                starts_ms[state] = min(starts_ms.get(state, finding.t_ms), finding.t_ms)
        return seeds, starts_ms

    def _watch(self, kept: _Kept, states: Iterable[int]) -> None:
        """Notes whose live state bears on the steps from these states."""
        model = self.model
        graph, table, protections = model.graph, model.table, model.protections
        for state in states:
            if state not in kept.paths.labels_of:
                continue
            for to, _, _ in table.links(state, kept.paths.epoch):
                for asset in (state // THREATS, to // THREATS):
                    if graph.classes[asset] == _DOOR:
                        kept.doors.add(asset)
                        kept.watched.add(graph.ids[asset])
                    elif graph.classes[asset] == _ZONE:
                        kept.zones.add(asset)
                for guarded in protections.of_state.get(to, ()):
                    kept.givers.update(guarded.givers)
                    kept.watched.update(graph.ids[giver] for giver in guarded.givers)

    def _conditions(self, kept: _Kept, seeds: dict[int, int], t_ms: int) -> Conditions:
        """How what is watched stands; only what matters, so that nothing else costs a revision."""
        if not (kept.doors or kept.zones or kept.givers):
            return NOTHING
        live, ids = self._premises.live, self.model.graph.ids
        # Who gives a protection, and the protection itself, is gone when hit; a camera that reports is not.
        givers = self.model.protections.by_giver
        dark = {state // THREATS for state in seeds if state % THREATS in _DISABLING and state // THREATS in givers}
        for giver in kept.givers:
            health = live.health(ids[giver])
            if health is not None and health[0] != "ok":
                dark.add(giver)
        eased = set()
        barriers: dict[int, dict[str, int]] = {}
        for door in kept.doors:
            opened, locked, _ = live.door(ids[door])
            if opened:
                eased.add(door)
            elif locked:
                barriers[door] = {"lock": LOCKED}
        for zone in kept.zones:
            if any(self._is_there(person, ids[zone], t_ms) for person in self._workers_of(zone)):
                barriers[zone] = {"guard": ATTENDED}
        return Conditions(frozenset(dark), frozenset(eased), barriers)

    def _workers_of(self, zone: int) -> tuple[str, ...]:
        found = self._workers.get(zone)
        if found is None:
            graph = self.model.graph
            found = self._workers[zone] = tuple(graph.ids[one] for one in graph.related(zone, _WORKS_IN))
        return found

    def _is_there(self, person: str, zone: str, t_ms: int) -> bool:
        seen = self._premises.live.presence(person, t_ms)
        return seen is not None and seen[0] == zone and seen[1] >= 0.5

    def _outlook(self, assessment: Assessment) -> Outlook:
        model = self.model
        least = round(model.settings.severity_from * PPM)
        services = tuple(
            (model.graph.ids[service], _SEVERITY.get(model.graph.criticality.get(service, 0), ""))
            for service, ppm in assessment.services.items()
            if ppm >= least
        )
        levels = [level for _, level in services if level]
        return Outlook(assessment, max(levels, key=LEVELS.index, default=""), services)


@cache
def _shipped_rules() -> RuleBase:
    return load_rules()


@cache
def _shipped_measures() -> tuple[Measure, ...]:
    return load_measures()
