"""The engine up to the match: arrival, order, edges, matching. No I/O, no clock, no chance.

    receive(record) -> Outputs     folds one record, then all that its promises allow
    finish(until_ms) -> Outputs    replay: `until`; None: end of input, everything is decided
    changes() / snapshot() / restore(entries)

`correlator.run.pipeline` puts threats behind it; the rule commands and the tests use it alone.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Any, Protocol

from correlator.errors import FoldFailed
from correlator.events.event import Event, Reject
from correlator.events.kinds import KINDS
from correlator.events.threat import EnrichedEvent, Match
from correlator.matching import snapshot
from correlator.matching.deliveries import KEPT_ALARMS, Deliveries, Newest
from correlator.matching.edges import EdgeStage
from correlator.matching.matcher import Matcher
from correlator.matching.plan import compile_rules
from correlator.matching.records import EngineSettings, Outputs, Record
from correlator.matching.snapshot import Written
from correlator.matching.sorter import Sorter
from correlator.rules.syntax import RuleSet

NOTABLE = frozenset(kind.name for kind in KINDS.values() if kind.notable)
FOREVER = 1 << 62


class Sink(Protocol):
    """Who listens to what was decided, in order: the threats, or nobody."""

    def told(self, match: Match) -> None:
        """A match was opened, ended or decided at once."""
        ...

    def seen(self, event: Event, enriched: EnrichedEvent | None) -> None:
        """An event that hit a detection or is notable was folded; matches it decided follow."""
        ...

    def next_deadline_ms(self) -> int:
        """When something of the sink's own falls due, -1 if nothing does."""
        ...

    def advance(self, before_ms: int) -> None:
        """Decides the sink's own deadlines that lie before a time."""
        ...


class Engine:
    """Folds records of one site. See the module's text for the surface.

    places: the site model with its live state (`correlator.rules.places.Places`, and `observe`), or
    None for plain correlation. filter_logsource=False: log sources restrict nothing (`match`).
    """

    def __init__(
        self,
        site: str,
        rules: RuleSet,
        places: Any = None,
        settings: EngineSettings | None = None,
        zone: tzinfo = UTC,
        *,
        filter_logsource: bool = True,
        sink: Sink | None = None,
    ) -> None:
        self.site = site
        self.settings = settings if settings is not None else EngineSettings()
        if self.settings.tells == "first" and self.settings.track_changes:
            raise ValueError("an engine that tells openings only keeps no state")
        self.places = places
        self.plan = compile_rules(rules, places, zone, filter_logsource)
        self.sorter = Sorter(self.settings.lateness_ms, self.settings.max_late_ms, self.settings.dup_window_ms)
        self.edges = EdgeStage()
        self.deliveries = Deliveries()
        self.early_edges = EdgeStage()
        self.early_told = Newest(KEPT_ALARMS)
        self.matcher = Matcher(site, self.plan, self.settings)
        self.sink = sink
        self.promised: dict[str, int] = {}
        self.spans: dict[str, int] = {}
        self.outputs = Outputs()
        self.folded = 0
        self.repeated_records = 0
        self.written: Written | None = None  # what `changes` has told so far
        # What folding failed at three times, by FoldFailed.at: such an event is rejected, not folded.
        self.poisoned: frozenset[str] = frozenset()
        if self.settings.track_changes:
            snapshot.track(self)

    # ---- surface -------------------------------------------------------------------------------

    def receive(self, record: Record) -> Outputs:
        """Folds one record, then everything that its promises allow to be decided."""
        outputs = self.outputs = Outputs()
        events = record.events
        if record.span is not None:
            first, last = record.span
            known = self.spans.get(record.input, -1)
            if last <= known:
                self.repeated_records += 1
                return outputs
            if first <= known and record.offsets:
                self.repeated_records += 1
                events = [one for one, offset in zip(events, record.offsets, strict=True) if offset > known]
            self.spans[record.input] = last
        promised = self.promised
        add = self.sorter.add
        latest = promised.get(record.input, -1)
        urgent, kinds = self.plan.has_critical, self.plan.critical_kinds
        remembers = self.settings.dup_window_ms > 0
        for event in events:
            if event.received_ms > latest:
                latest = event.received_ms
            if event.dup_key and remembers and self.deliveries.again(event):
                self.sorter.duplicates += 1
                continue
            try:
                if urgent and (
                    kinds is None
                    or event.kind in kinds
                    or event.state is not None
                    or event.retained
                    or (event.id not in self.poisoned and event.names_kind())
                ):
                    self._fast_lane(event)
            except Exception as error:
                raise FoldFailed(event.id, error) from error
            if not add(event):
                outputs.rejects.append(_too_late(event, self.settings.max_late_ms))
        if record.events:
            promised[record.input] = latest
        for name, tick_ms in record.ticks.items():
            if tick_ms > promised.get(name, -1):
                promised[name] = tick_ms
        for name in record.inputs_out:
            promised.pop(name, None)
        if promised:
            self._decide(min(promised.values()) - self.settings.lateness_ms)
        return outputs

    def finish(self, until_ms: int | None) -> Outputs:
        """Ends the log: time goes on to `until_ms` and no further, or everything is decided (None)."""
        outputs = self.outputs = Outputs()
        if until_ms is None:
            self._decide(FOREVER, last=True)
        else:
            self._decide(until_ms + 1)
        return outputs

    def changes(self) -> list[tuple[str, bytes | None]]:
        """State entries changed (None: deleted) since the last call, by key. Needs `track_changes`."""
        return snapshot.changes(self)

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All state entries, by key. Raises ValueError for an engine that tells openings only."""
        if self.settings.tells == "first":
            raise ValueError("an engine that tells openings only keeps no state")
        return snapshot.entries(self)

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes state entries into a fresh engine. Raises StateRefused for what it cannot read."""
        snapshot.restore(self, entries)

    def watermark_ms(self) -> int:
        """Everything before this time is decided; -1 before the first promise."""
        return min(self.promised.values()) - self.settings.lateness_ms if self.promised else -1

    def counters(self) -> dict[str, int]:
        """What was dropped, repeated or late so far: every bound has its number."""
        keyspaces = self.plan.keyspaces
        return {
            "folded": self.folded,
            "waiting": self.sorter.waiting,
            "late": self.sorter.late,
            "too_late": self.sorter.too_late,
            "duplicates": self.sorter.duplicates,
            "numbered": self.sorter.numbered,
            "repeated_records": self.repeated_records,
            "clock_regress": self.sorter.clock_regress,
            "state_seeded": self.edges.seeded,
            "state_unchanged": self.edges.unchanged,
            "groups_dropped": sum(keyspace.dropped for keyspace in keyspaces),
            "groups_refused": sum(keyspace.refused for keyspace in keyspaces),
            "window_events_dropped": self.matcher.episodes.dropped_window_events,
        }

    # ---- deciding ------------------------------------------------------------------------------

    def _decide(self, before_ms: int, last: bool = False) -> None:
        """Folds waiting events and deadlines in order of time, up to a time."""
        sorter, matcher, sink = self.sorter, self.matcher, self.sink
        deadlines = matcher.deadlines
        times, poisoned = sorter.times, self.poisoned
        while times and times[0] < before_ms:
            order_ms = times[0]
            if deadlines.due_ms < order_ms or (sink is not None and -1 < sink.next_deadline_ms() < order_ms):
                self._deadlines(order_ms)
            for event in sorter.pop():
                if poisoned and event.id in poisoned:
                    self.outputs.rejects.append(engine_error(event))
                    continue
                try:
                    self._fold(event, order_ms)
                except Exception as error:
                    raise FoldFailed(event.id, error) from error
        if last:
            if sink is None:
                matcher.end_of_input()
                self._hand_out()
            else:
                matcher.general.ending = True
                self._deadlines(before_ms)
        else:
            self._deadlines(before_ms)

    def _deadlines(self, before_ms: int) -> None:
        """Deadlines of rules and threats before a time, each in its turn."""
        matcher, sink = self.matcher, self.sink
        if sink is None:
            matcher.advance(before_ms)
            self._hand_out()
            return
        while True:
            rules_ms, threats_ms = matcher.next_deadline_ms(), sink.next_deadline_ms()
            due_ms = rules_ms
            try:
                if 0 <= rules_ms < before_ms and not 0 <= threats_ms < rules_ms:
                    matcher.advance(rules_ms + 1)
                    self._hand_out()
                elif 0 <= threats_ms < before_ms:
                    due_ms = threats_ms
                    sink.advance(threats_ms + 1)
                else:
                    return
            except Exception as error:
                # The deadline has left its queue: known as poisoned, time goes on behind it.
                if f"deadline/{due_ms}" not in self.poisoned:
                    raise FoldFailed(f"deadline/{due_ms}", error) from error

    def _fold(self, event: Event, order_ms: int) -> None:
        """The life of one event behind the sorter: edge, match, live state."""
        self.folded += 1
        if event.state is not None or event.retained:
            passed = self.edges.passes(event)
            if passed is None:
                if self.places is not None:
                    self._observe(event, order_ms)  # a retained or first value says how things stand
                return
            event = passed
        hits = self.matcher.fold(event, order_ms)
        settings = self.settings
        if settings.enriched != "off":
            notable = event.kind in NOTABLE
            if hits or notable or settings.enriched == "all":
                enriched = self._enrich(event, hits)
                if self.sink is not None:
                    self.sink.seen(event, enriched)
                if notable or settings.enriched == "all" or hits:
                    self.outputs.enriched.append(enriched)
        if self.matcher.episodes.out:
            self._hand_out()
        if self.places is not None:
            self._observe(event, order_ms)

    def _observe(self, event: Event, order_ms: int) -> None:
        """Live state takes the event; a source that spoke for another's device is an event of its own."""
        self.places.observe(event)
        foreign = self.places.foreign(event)
        if foreign is not None:
            self._fold(foreign, order_ms)

    def _hand_out(self) -> None:
        out = self.matcher.episodes.out
        if not out:
            return
        self.outputs.matches.extend(out)
        if self.sink is not None:
            for match in out:
                self.sink.told(match)
        out.clear()

    def _fast_lane(self, event: Event) -> None:
        """A single-event detection of level critical leaves on arrival, once, with the id it will keep."""
        if event.id in self.poisoned:
            return
        if event.state is not None or event.retained:
            passed = self.early_edges.passes(event)
            if passed is None:
                return
            event = passed
        kinds = self.plan.critical_kinds
        if kinds is not None and event.kind not in kinds and not event.names_kind():
            return
        hits = self.plan.critical.hits(event)
        if not hits or not self.early_told.add(event.id):
            return
        for number in hits:
            self.outputs.matches.append(self.matcher.episodes.single(number, event, early=True))

    def _enrich(self, event: Event, hits: list[int]) -> EnrichedEvent:
        event.attributes  # noqa: B018  # read now, where an event that cannot be read is a reject; told as a mapping
        rules = tuple([self.plan.producers[number].key for number in hits])
        places = self.places
        if places is None:
            return EnrichedEvent(event=event, rules=rules)
        place = places.event_place(event)
        person = ""
        for kind in ("person", "badge", "account"):
            holder = event.entity(kind)
            if holder:
                person = places.person_of(kind, holder, event.time_ms) or ""
                if person:
                    break
        return EnrichedEvent(
            event=event,
            assets=tuple(places.event_assets(event)),
            place=place,
            place_name=places.describe(place) if place else "",
            zones=tuple(places.zones_of(place, event.time_ms)) if place else (),
            person=person,
            windows=places.event_windows(event),
            in_window=places.in_window(event),
            rules=rules,
        )


def engine_error(event: Event) -> Reject:
    """The reject of an event that could not be folded."""
    return Reject(
        site=event.site,
        source=event.source,
        dialect=event.dialect,
        reason="engine_error",
        detail=f"folding event {event.id} failed three times; it was left out",
        received_ms=event.received_ms,
        origin=event.origin,
        raw=event.raw,
    )


def _too_late(event: Event, max_late_ms: int) -> Reject:
    return Reject(
        site=event.site,
        source=event.source,
        dialect=event.dialect,
        reason="too_late",
        detail=f"event {event.id} of {event.time_ms} ms was received {event.received_ms - event.time_ms} ms later;"
        f" the limit is {max_late_ms}",
        received_ms=event.received_ms,
        origin=event.origin,
        raw=event.raw,
    )
