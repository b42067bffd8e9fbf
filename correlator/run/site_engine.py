"""One site's engine as a carrier feeds it: records of the log in, outputs and state entries out.

Over the pipeline it puts what the log says beside events: configurations, decisions of people, health.

    receive(record, offset) -> Outputs    folds one record of the log
    changes() / snapshot() / restore()    state entries, the pipeline's and its own

No I/O, no clock. A configuration takes effect at its position in the log; bodies come from the
carrier by hash. What goes wrong with the system itself (a gap in the log, an event that could not be
folded, an input taken out) is told as a threat of kind `correlator.health.*`, so that whoever watches
threats sees it; its id derives from what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from correlator.clock import DAY_MS
from correlator.errors import StateRefused
from correlator.events.event import Event, Reject
from correlator.events.ids import digest
from correlator.events.threat import Step, Threat
from correlator.linking.linker import GraphLinker
from correlator.matching import Outputs, Record
from correlator.rules.syntax import RuleSet
from correlator.run.bodies import baseline_from, rules_from, settings_from, site_from, tables_from
from correlator.run.deciding import pipeline_of
from correlator.run.log import Action, Configuration, LogRecord
from correlator.run.pipeline import Pipeline

VERSION: Final = "1"
ACTIONS_REMEMBERED: Final = 100_000  # ids of decisions, so that one copied twice counts once; oldest go first
RULE_SETS_KEPT: Final = 8  # earlier rule sets whose rules open threats may still name
HEALTH: Final = "correlator.health"
CONFIGURATION: Final = f"site/{VERSION}/configuration"  # key of the entry that says what is in force

_pack: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_unpack: Final = msgspec.msgpack.Decoder().decode
read_configuration: Final = msgspec.msgpack.Decoder(Configuration).decode
_unpack_threat: Final = msgspec.msgpack.Decoder(Threat).decode


@dataclass(slots=True)
class SiteCounts:
    """What happened beside folding; part of the state."""

    no_configuration: int = 0
    configurations: int = 0
    entries_dropped: int = 0  # state of rules that a configuration changed
    actions: int = 0
    actions_repeated: int = 0
    actions_unsupported: int = 0
    poisoned: int = 0


@dataclass(slots=True)
class SiteEngine:
    """The engine of one site. bodies: what the carrier has of the configuration, by sha-256.

    poisoned: what folding failed at three times (FoldFailed.at): an event is rejected, a deadline
    passed over.
    """

    site: str
    bodies: Mapping[str, bytes]
    configuration: Configuration | None = None
    pipeline: Pipeline | None = None
    counts: SiteCounts = field(default_factory=SiteCounts)
    poisoned: frozenset[str] = frozenset()
    _earlier: list[str] = field(default_factory=list)
    _actions: dict[str, None] = field(default_factory=dict)
    _health: dict[str, Threat] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)
    _gone: set[str] = field(default_factory=set)  # keys written under an earlier configuration

    # ---- folding -------------------------------------------------------------------------------

    def receive(self, record: LogRecord) -> Outputs:
        """Folds one record: configuration first, then decisions, then events and promises.

        Raises BodyMissing, StateRefused or FaultyFile for a configuration that cannot be taken, and
        FoldFailed for a bug of ours; the engine is of no use after either.
        """
        outputs = Outputs()
        if record.configuration is not None:
            self._configure(record.configuration)
        for action in record.actions:
            self._act(action, outputs)
        ticks = record.ticks.get(self.site, {})
        pipeline = self.pipeline
        if pipeline is None:
            self.counts.no_configuration += len(record.events)
            if record.events:
                self._dirty.add("counts")
            outputs.rejects.extend(_no_configuration(event) for event in record.events)
            return outputs
        for name in record.inputs_out:
            self._input_out(name, outputs)
        if record.input:
            self._input_back(record.input, outputs)
        for name in ticks:
            self._input_back(name, outputs)
        folded = pipeline.receive(
            Record(
                events=list(record.events),
                ticks=ticks,
                input=record.input,
                span=(record.first, record.last) if record.first >= 0 else None,
                inputs_out=record.inputs_out,
                offsets=record.offsets,
            )
        )
        if outputs.threats or outputs.rejects:
            folded.threats[:0] = outputs.threats
            folded.rejects[:0] = outputs.rejects
        if self._health:
            self._close_old(folded)
        return folded

    def watermark_ms(self) -> int:
        """Everything of the site before this time is decided; -1 before the first promise."""
        return self.pipeline.engine.watermark_ms() if self.pipeline is not None else -1

    def learning(self) -> bool:
        """Whether the site is in its learning day: linking over the graph is on and does not speak yet."""
        linker = self.pipeline.book.linker if self.pipeline is not None else None
        return isinstance(linker, GraphLinker) and linker.learning(self.watermark_ms())

    def counters(self) -> dict[str, int]:
        """Every number of the engine and of this class."""
        own = {name: getattr(self.counts, name) for name in SiteCounts.__dataclass_fields__}
        return own if self.pipeline is None else {**self.pipeline.counters(), **own}

    # ---- configuration -------------------------------------------------------------------------

    def _configure(self, wanted: Configuration) -> None:
        known = self.configuration
        if known is not None and (wanted.serial < known.serial or wanted == known):
            return
        if known is not None and _same_bodies(wanted, known):
            self.configuration = wanted
            self._dirty.add("configuration")
            return
        pipeline = self._made(wanted)
        before = self.pipeline
        if before is not None and known is not None:
            self._gone |= {key for key, _ in (*before.changes(), *before.snapshot())}
            self.counts.entries_dropped += pipeline.take_over(before)
            if wanted.rules != known.rules:
                earlier = [one for one in [known.rules, *self._earlier] if one != wanted.rules]
                self._earlier = earlier[:RULE_SETS_KEPT]
                self._dirty.add("earlier")
        self.pipeline = pipeline
        self.configuration = wanted
        self.counts.configurations += 1
        self._dirty |= {"configuration", "counts"}

    def _made(self, wanted: Configuration) -> Pipeline:
        places = site_from(self.bodies, wanted.site)
        known = self.configuration
        earlier = [known.rules, *self._earlier] if known is not None and known.rules != wanted.rules else self._earlier
        retired = [rules_from(self.bodies, one).rules for one in earlier if one in self.bodies]
        pipeline = pipeline_of(
            places,
            rules_from(self.bodies, wanted.rules).rules,
            settings_from(self.bodies, wanted.settings),
            tables_from(self.bodies, wanted.tables),
            baseline_from(self.bodies, wanted.baseline),
            retired=_merged(retired),
        )
        pipeline.engine.poisoned = self.poisoned
        return pipeline

    def poison(self, at: frozenset[str]) -> None:
        """What folding failed at, from saved state: it is left out from now on."""
        self.poisoned = at
        if self.pipeline is not None:
            self.pipeline.engine.poisoned = at

    # ---- decisions of people -------------------------------------------------------------------

    def _act(self, action: Action, outputs: Outputs) -> None:
        """Takes a decision once; one whose id was seen changes nothing."""
        if action.id in self._actions:
            self.counts.actions_repeated += 1
            self._dirty.add("counts")
            return
        self._actions[action.id] = None
        while len(self._actions) > ACTIONS_REMEMBERED:
            del self._actions[next(iter(self._actions))]
        self.counts.actions += 1
        self._dirty |= {"actions", "counts"}
        threat = self._health.get(str(action.body.get("threat", "")))
        if action.kind == "close" and threat is not None:
            self._close(threat, action.at_ms, outputs)
            return
        fault = "the site has no configuration yet"
        if self.pipeline is not None:
            fault = self.pipeline.act(action.id, action.kind, action.at_ms, action.body)
        if fault:
            self.counts.actions_unsupported += 1
            outputs.rejects.append(_refused(self.site, action, fault))

    # ---- health --------------------------------------------------------------------------------

    def gap(self, first: int, after: int, count: int, outputs: Outputs) -> None:
        """Tells that the log's records from one offset up to before another are gone."""
        says = (
            f"{count} records of the log, offsets {first} to {after - 1}, were deleted before they were read;"
            " what they held was not correlated"
        )
        self._tell("gap", f"{first}-{after}", "critical", "A part of the log is missing", says, outputs)

    def left_out(self, at: str, detail: str, outputs: Outputs) -> None:
        """Tells that an event or deadline was left out because folding it failed three times."""
        self.counts.poisoned += 1
        self._dirty.add("counts")
        self._tell("poison", at, "critical", "An event could not be correlated", f"{at}: {detail}", outputs)

    def _input_out(self, name: str, outputs: Outputs) -> None:
        assert self.pipeline is not None
        if name in self.pipeline.engine.promised:
            says = f"nobody reads {name}; what it brings later will count as late"
            self._tell("input_out", name, "high", f"Input {name} is not read", says, outputs)

    def _input_back(self, name: str, outputs: Outputs) -> None:
        if self._health:
            for threat in [one for one in self._health.values() if one.title == f"Input {name} is not read"]:
                self._close(threat, self.watermark_ms(), outputs)

    def _tell(self, kind: str, what: str, level: str, title: str, says: str, outputs: Outputs) -> None:
        t_ms = max(self.watermark_ms(), 0)
        threat_id = digest(self.site, HEALTH, kind, what, str(t_ms))
        rule = f"{HEALTH}.{kind}"
        step = Step(finding=threat_id, rule=rule, title=title, says=says, level=level, t_ms=t_ms, joined="opened it")
        threat = Threat(
            id=threat_id, site=self.site, title=title, phase="threat", revision=1, severity=level, first_ms=t_ms,
            last_ms=t_ms, opened_ms=t_ms, decided_ms=t_ms, threat_types=(rule,), steps=(step,),
        )  # fmt: skip
        self._health[threat_id] = threat
        self._dirty.add("health")
        outputs.threats.append(threat)

    def _close_old(self, outputs: Outputs) -> None:
        """Health is news for a day of event time; what goes on is told again when it happens again."""
        now_ms = self.watermark_ms()
        for threat in [one for one in self._health.values() if now_ms - one.opened_ms > DAY_MS]:
            self._close(threat, now_ms, outputs)

    def _close(self, threat: Threat, now_ms: int, outputs: Outputs) -> None:
        del self._health[threat.id]
        self._dirty.add("health")
        decided_ms = max(now_ms, threat.decided_ms)
        closed = msgspec.structs.replace(threat, phase="quiet", revision=threat.revision + 1, decided_ms=decided_ms)
        outputs.threats.append(closed)

    # ---- state ---------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Entries changed (None: deleted) since the last call, by key."""
        found: dict[str, bytes | None] = {f"site/{VERSION}/{name}": self._entry(name) for name in self._dirty}
        self._dirty.clear()
        if self.pipeline is not None:
            found.update(self.pipeline.changes())
            if self._gone:
                found.update(dict.fromkeys(self._gone))
                found.update(self.pipeline.snapshot())
                self._gone.clear()
        return sorted(found.items())

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All entries, by key."""
        found = [(f"site/{VERSION}/{name}", value) for name in _OWN if (value := self._entry(name)) is not None]
        return sorted([*found, *(self.pipeline.snapshot() if self.pipeline is not None else [])])

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes entries into a fresh engine. Raises StateRefused, BodyMissing."""
        of_pipeline: list[tuple[str, bytes]] = []
        for key, value in entries:
            if not key.startswith("site/"):
                of_pipeline.append((key, value))
                continue
            _, version, name = key.split("/", 2)
            if version != VERSION or name not in _OWN:
                raise StateRefused(f"state entry {key!r} is not of this release, which reads site/{VERSION}/...")
            if name == "configuration":
                self.configuration = read_configuration(value)
            elif name == "counts":
                self.counts = SiteCounts(**_unpack(value))
            elif name == "earlier":
                self._earlier = _unpack(value)
            elif name == "actions":
                self._actions = dict.fromkeys(_unpack(value))
            else:
                self._health = {one.id: one for one in map(_unpack_threat, _unpack(value))}
        if self.configuration is not None:
            self.pipeline = self._made(self.configuration)
            self.pipeline.restore(of_pipeline)

    def _entry(self, name: str) -> bytes | None:
        if name == "configuration":
            return None if self.configuration is None else _pack(self.configuration)
        if name == "counts":
            return _pack({one: getattr(self.counts, one) for one in SiteCounts.__dataclass_fields__})
        if name == "earlier":
            return _pack(self._earlier) if self._earlier else None
        if name == "actions":
            return _pack(list(self._actions)) if self._actions else None
        return _pack([_pack(one) for one in self._health.values()]) if self._health else None


_OWN: Final = ("configuration", "counts", "earlier", "actions", "health")


def _refused(site: str, action: Action, fault: str) -> Reject:
    return Reject(
        site=site,
        source=action.body.get("who", ""),
        dialect="",
        reason="unmapped",
        detail=f"{action.kind} {action.id}: {fault}",
        channel="console.actions",
        received_ms=action.at_ms,
        payload=msgspec.json.encode(action, order="deterministic"),
    )


def _same_bodies(one: Configuration, other: Configuration) -> bool:
    return one.bodies() == other.bodies()


def _merged(rule_sets: list[RuleSet]) -> RuleSet | None:
    """Rules of earlier sets by key, the newest first; None without any."""
    if not rule_sets:
        return None
    made = RuleSet({}, {}, frozenset())
    for one in reversed(rule_sets):
        made.detections.update(one.detections)
        made.correlations.update(one.correlations)
    return made


def _no_configuration(event: Event) -> Reject:
    return Reject(
        site=event.site,
        source=event.source,
        dialect=event.dialect,
        reason="no_configuration",
        detail=f"event {event.id} stands in the log before the first configuration of its site",
        received_ms=event.received_ms,
        origin=event.origin,
        raw=event.raw,
    )
