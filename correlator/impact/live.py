"""The impact of open threats as they grow: seeds from findings, conditions from live state.

For each threat its paths are kept and revised. The paths are only a saving of work: from the same findings,
live state and time, a restored engine works out the same. State is what a threat watches in live state, since
that says when it is looked at again, and the counters.

Taken from live state, at the time of the revision:
    a giver of a protection that is offline, disabled or tampered with, or was hit   -> it gives nothing
    a door that is locked / stands open                -> `lock` stands in the way / it is easier to pass
    somebody who works in a room and was last seen there -> `guard`, weakly, in that room
A finding that fits a declared window is announced work and starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import msgspec

from correlator.errors import StateRefused
from correlator.events.event import LEVELS
from correlator.events.threat import Advice, Finding
from correlator.impact.conditions import Conditions
from correlator.impact.graph import RELATION_NUMBER, THREAT_NUMBER, THREATS
from correlator.impact.measures import Advisor, Measure, load_measures
from correlator.impact.model import Assessment, ImpactModel
from correlator.impact.paths import Paths
from correlator.impact.rules import PPM, RuleBase, load_rules
from correlator.impact.services import services_hit
from correlator.impact.settings import ImpactSettings
from correlator.impact.table import Bearing
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
_WORKS_IN: Final = RELATION_NUMBER["works_in"] * 2 + 1
_WATCH: Final = "1/watch/"
_COUNTERS: Final = "1/counters"
_pack: Final = msgspec.msgpack.Encoder(order="sorted").encode
_unpack: Final = msgspec.msgpack.Decoder().decode
Watch = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # doors, zones, givers of protections
_SEVERITY: Final = {5: "critical", 4: "high", 3: "medium", 2: "low", 1: "low"}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a threat may lead to now, as far as it decides anything; `LiveImpact.tell` has the rest.

    loss: criticality x likelihood, summed over the care services. severity: a level from the care services
    likely to be hit, "" for none. services: those services with their level. key: changes when these services
    do or when the expected loss doubles or halves; that is told at once.
    """

    loss: float
    severity: str
    services: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """See the text of the class; "" for nothing."""
        loss = int(self.loss * 10).bit_length()
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
    assessment: Assessment | None = None
    advice: tuple[tuple[Advice, ...], float] | None = None


class _Now:
    """How what bears on one threat stands at one moment: read once for what is watched already, and, while
    new states are reached, for what bears on their steps before these are weighed."""

    def __init__(self, impact: LiveImpact, kept: _Kept, seeds: Mapping[int, int], t_ms: int) -> None:
        self._impact = impact
        self._kept = kept
        self._t_ms = t_ms
        # Who gives a protection, and the protection itself, is gone when hit; a camera that reports is not.
        givers = impact.model.protections.by_giver
        self._dark = {
            state // THREATS for state in seeds if state % THREATS in _DISABLING and state // THREATS in givers
        }
        self._eased: set[int] = set()
        self._barriers: dict[int, dict[str, int]] = {}
        self.conditions = Conditions(self._dark, self._eased, self._barriers)
        self._read(kept.doors, kept.zones, kept.givers)

    def look(self, bearing: Bearing) -> frozenset[int]:
        """Reads what bears on the steps of a state; the assets whose steps it changes."""
        kept = self._kept
        doors, zones, givers = bearing
        new = doors - kept.doors, zones - kept.zones, givers - kept.givers
        ids = self._impact.model.graph.ids
        kept.watched.update([ids[asset] for asset in new[0] | new[2]])
        kept.doors |= doors
        kept.zones |= zones
        kept.givers |= givers
        return self._read(*new)

    def _read(self, doors: Iterable[int], zones: Iterable[int], givers: Iterable[int]) -> frozenset[int]:
        impact, changed = self._impact, set[int]()
        ids, live, by_giver = impact.model.graph.ids, impact.premises.live, impact.model.protections.by_giver
        for giver in givers:
            health = live.health(ids[giver])
            if health is not None and health[0] != "ok":
                self._dark.add(giver)
                changed.update(by_giver.get(giver, ()))
        for door in doors:
            opened, locked, _ = live.door(ids[door])
            if opened:
                self._eased.add(door)
                changed.add(door)
            elif locked:
                self._barriers[door] = {"lock": LOCKED}
                changed.add(door)
        for zone in zones:
            if impact.attended(zone, self._t_ms):
                self._barriers[zone] = {"guard": ATTENDED}
                changed.add(zone)
        return frozenset(changed)


class LiveImpact:
    """Impact and advice of the open threats of one site. The model is made when first needed."""

    def __init__(
        self,
        premises: Premises,
        rules: RuleBase | None = None,
        measures: Sequence[Measure] | None = None,
        settings: ImpactSettings | None = None,
    ) -> None:
        self.premises = premises
        self._rules = rules
        self._measures = measures
        self._settings = settings
        self._model: ImpactModel | None = None
        self._advisor: Advisor | None = None
        self._threats: dict[str, _Kept] = {}
        self._restored: dict[str, Watch] = {}  # what threats watch that were not revised since they were restored
        self._changed: set[str] = set()
        self._counted: dict[str, int] = {}  # before the restore
        self._told_counters: dict[str, int] = {}
        self._workers: dict[int, tuple[str, ...]] = {}

    @property
    def model(self) -> ImpactModel:
        """The impact model of the site."""
        if self._model is None:
            rules = self._rules or _shipped_rules()
            self._model = ImpactModel.of_site(self.premises, rules.rules, self._settings)
        return self._model

    def revise(self, threat: str, findings: Iterable[Finding], t_ms: int) -> Outlook:
        """What these findings of a threat may lead to as things stand at t_ms (ms UTC)."""
        model = self.model
        kept = self._threats.get(threat)
        if kept is None:
            kept = self._threats[threat] = self._kept(threat)
        watched = len(kept.doors) + len(kept.zones) + len(kept.givers)
        seeds, starts_ms = self._seeds(findings)
        epoch = model.table.epoch(t_ms)
        paths = kept.paths
        now = _Now(self, kept, seeds, t_ms)
        if seeds != kept.seeds or epoch != paths.epoch or now.conditions != paths.conditions:
            paths.revise(seeds, now.conditions, epoch, now.look)
            kept.outlook = kept.assessment = kept.advice = None
        if starts_ms != kept.starts_ms:
            kept.starts_ms, kept.assessment = starts_ms, None
        if kept.outlook is None:
            kept.seeds = seeds
            model.counters["impact_paths_refused"] += paths.refused
            kept.outlook = self._outlook(model.hit_services(paths, services_hit(paths, explain=False)))
        if len(kept.doors) + len(kept.zones) + len(kept.givers) > watched:
            self._changed.add(threat)
        return kept.outlook

    def _kept(self, threat: str) -> _Kept:
        """A threat without paths, with what it watched when it was restored; a new one watches nothing yet."""
        model = self.model
        kept = _Kept(Paths(model.table, model.settings))
        index = model.graph.index
        doors, zones, givers = self._restored.pop(threat, ((), (), ()))
        kept.doors.update(index[one] for one in doors if one in index)
        kept.zones.update(index[one] for one in zones if one in index)
        kept.givers.update(index[one] for one in givers if one in index)
        kept.watched.update((*doors, *givers))
        self._changed.add(threat)
        return kept

    def tell(self, threat: str) -> Assessment:
        """All that a threat may lead to, with paths and times, as last revised."""
        kept = self._threats[threat]
        if kept.assessment is None:
            kept.assessment = self.model.assess(kept.paths, kept.starts_ms)
        return kept.assessment

    def advise(self, threat: str) -> tuple[tuple[Advice, ...], float]:
        """(counter-measures, expected loss with the advised ones) for a threat as last revised."""
        kept = self._threats.get(threat)
        if kept is None:
            return (), 0.0
        if kept.advice is None and kept.outlook is not None and kept.outlook.loss < self.model.settings.least_saving:
            kept.advice = (), kept.outlook.loss  # there is not that much to save
        if kept.advice is None:
            if self._advisor is None:
                measures = _shipped_measures() if self._measures is None else self._measures
                self._advisor = Advisor(self.model, measures)
            plan = self._advisor.plan(kept.paths, kept.paths.epoch)
            kept.advice = self._advisor.advice(plan), plan.loss_after
        return kept.advice

    def knows(self, threat: str) -> bool:
        """Whether the threat was revised, here or before the restore."""
        return threat in self._threats or threat in self._restored

    def watches(self, threat: str, assets: Iterable[str]) -> bool:
        """Whether the live state of one of these assets bears on the threat's impact."""
        kept = self._threats.get(threat)
        if kept is not None:
            return any(asset in kept.watched for asset in assets)
        doors, _, givers = self._restored.get(threat, ((), (), ()))
        return any(asset in doors or asset in givers for asset in assets)

    def forget(self, threat: str) -> None:
        """The threat is closed or merged."""
        known = self._threats.pop(threat, None) is not None
        if self._restored.pop(threat, None) is not None or known:
            self._changed.add(threat)

    # ---- state ---------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Entries changed (None: deleted) since the last call, by key."""
        found: dict[str, bytes | None] = {f"{_WATCH}{one}": self._entry(one) for one in self._changed}
        self._changed.clear()
        counted = self.counters()
        if counted != self._told_counters:
            self._told_counters = counted
            found[_COUNTERS] = _pack(counted)
        return sorted(found.items())

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All entries, by key."""
        found = [(f"{_WATCH}{one}", entry) for one in (*self._threats, *self._restored)
                 if (entry := self._entry(one)) is not None]  # fmt: skip
        counted = self.counters()
        return sorted([*found, (_COUNTERS, _pack(counted))] if counted else found)

    def restore(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """Takes a snapshot into a fresh object. Raises StateRefused."""
        for key, value in entries:
            if key == _COUNTERS:
                self._counted = self._told_counters = _unpack(value)
            elif key.startswith(_WATCH):
                doors, zones, givers = _unpack(value)
                self._restored[key.removeprefix(_WATCH)] = tuple(doors), tuple(zones), tuple(givers)
            else:
                raise StateRefused(f"state entry {key!r} of impact is of no component that this release knows")

    def _entry(self, threat: str) -> bytes | None:
        kept = self._threats.get(threat)
        if kept is None:
            watch = self._restored.get(threat)
            return None if watch is None else _pack(watch)
        ids = self.model.graph.ids
        return _pack([sorted(ids[one] for one in some) for some in (kept.doors, kept.zones, kept.givers)])

    def counters(self) -> dict[str, int]:
        """What was bounded so far, 0 left out."""
        now = self._model.counters if self._model is not None else {}
        found = {name: self._counted.get(name, 0) + now.get(name, 0) for name in {**self._counted, **now}}
        return {name: count for name, count in found.items() if count}

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
                ppm, t_ms = SEED_PPM.get(finding.level, 0), finding.t_ms
                if ppm > seeds.get(state, -1):
                    seeds[state] = ppm
                if t_ms < starts_ms.get(state, t_ms + 1):
                    starts_ms[state] = t_ms
        return seeds, starts_ms

    def attended(self, zone: int, t_ms: int) -> bool:
        """Whether somebody who works in a room was last seen there and is still believed there."""
        graph, live = self.model.graph, self.premises.live
        workers = self._workers.get(zone)
        if workers is None:
            workers = self._workers[zone] = tuple(graph.ids[one] for one in graph.related(zone, _WORKS_IN))
        for person in workers:
            seen = live.presence(person, t_ms)
            if seen is not None and seen[0] == graph.ids[zone] and seen[1] >= 0.5:
                return True
        return False

    def _outlook(self, hit: Mapping[int, int]) -> Outlook:
        model = self.model
        least = round(model.settings.severity_from * PPM)
        criticality = model.graph.criticality
        services = tuple(
            (model.graph.ids[service], _SEVERITY.get(criticality.get(service, 0), ""))
            for service, ppm in hit.items()
            if ppm >= least
        )
        levels = [level for _, level in services if level]
        return Outlook(model.loss(hit), max(levels, key=LEVELS.index, default=""), services)


@cache
def _shipped_rules() -> RuleBase:
    return load_rules()


@cache
def _shipped_measures() -> tuple[Measure, ...]:
    return load_measures()
