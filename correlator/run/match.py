"""`correlator match`: rules over files of JSON lines, without site, scenario or set-up.

Without a map every key of a line is a field, log sources restrict nothing, and the time is the first of
`@timestamp`, `timestamp`, `time`, `ts`, as RFC 3339 or an epoch number. Files are merged by the largest
time read so far in each; a line more than the lateness behind it is late: it takes part in single-event
detections and in nothing that counts. End of input decides everything that is open.

Standard output holds one JSON line a match and nothing else:
    {"rule": {"id", "title", "name"}, "group": {}, "first_ms", "last_ms", "value", "events": [{"id", "file", "line"}]}
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import IO, Any, TextIO

import msgspec

from correlator.clock import IMPOSSIBLE_FROM_MS, epoch_ms, parse_iso
from correlator.errors import FaultyFile, UsageError
from correlator.events.event import Event, Reject
from correlator.events.ids import content_event_id, event_head
from correlator.events.threat import Match
from correlator.matching import Engine, EngineSettings, Record, Tells
from correlator.matching.sorter import TOTAL_ORDER
from correlator.premises import Premises, load_site
from correlator.rules.load import load_rules
from correlator.rules.syntax import RuleHead
from correlator.run.collector import settle_collector
from correlator.sources import DIALECTS, ClockPolicy, Context, Dialect, MapSpec, Message, load_map
from correlator.sources.dialect import MAX_PAYLOAD_BYTES
from correlator.sources.reading import Unreadable, parse_object

TIME_KEYS = ("@timestamp", "timestamp", "time", "ts")
SITE = "match"
RECORD_EVENTS = 500
SHOWN_UNREADABLE = 5
MAX_MEMBERS = 1_000_000  # a batch has memory for all members; a stream would bound them

_json = msgspec.json.Encoder()


class _Input:
    """One file: its events in reading order, each received at the largest time read so far."""

    def __init__(
        self, name: str, number: int, lines: IO[bytes], site: str, mapped: tuple[Dialect, Context] | None
    ) -> None:
        self.name = name
        self._number = number
        self._lines = lines
        self._site = site
        self._head = event_head(site, name, name)
        self._mapped = mapped
        self.read = 0
        self.unreadable: list[tuple[int, str]] = []
        self.unreadable_count = 0

    def events(self) -> Iterator[tuple[int, int, int, list[Event]]]:
        """(receive time, file number, line, events) per readable line."""
        received_ms = -1
        for line, payload in enumerate(self._lines, 1):
            payload = payload.rstrip(b"\r\n")
            if not payload.strip():
                continue
            self.read += 1
            try:
                found = self._decode(payload, line)
            except Unreadable as error:
                self._bad(line, f"{error.reason}: {error.detail}")
                continue
            if not found:
                continue
            received_ms = max(received_ms, *(event.time_ms for event in found))
            yield (
                received_ms,
                self._number,
                line,
                [msgspec.structs.replace(event, received_ms=received_ms) for event in found],
            )

    def _bad(self, line: int, why: str) -> None:
        self.unreadable_count += 1
        if len(self.unreadable) < SHOWN_UNREADABLE:
            self.unreadable.append((line, why))

    def _decode(self, payload: bytes, line: int) -> list[Event]:
        if self._mapped is None:
            return [self._plain(payload, line)]
        dialect, context = self._mapped
        if isinstance(context.settings, MapSpec) and context.settings.needs_header:
            spec = context.settings.with_header(payload.decode("utf-8", "replace"))
            self._mapped = (dialect, replace(context, settings=spec))
            return []
        events: list[Event] = []
        for place, one in enumerate(dialect.decode(Message(self.name, payload, -1, line=line), context)):
            if isinstance(one, Reject):
                raise Unreadable(one.reason, one.detail)
            if one.time_ms < 0:
                raise Unreadable(
                    "missing_field",
                    "no time that can be trusted; one without offset needs `zone` in the map's `time`, or --site",
                )
            events.append(msgspec.structs.replace(one, id=self._located(one.id, line), seq=one.seq or line + place))
        return events

    def _plain(self, payload: bytes, line: int) -> Event:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise Unreadable("too_large", f"{len(payload)} bytes; the limit is {MAX_PAYLOAD_BYTES}")
        fields = parse_object(payload)
        time_ms, sub_ns = line_time(fields)
        return Event(
            id=self._located(content_event_id(self._head, payload, time_ms, 0), line),
            site=self._site,
            source=self.name,
            dialect="plain",
            kind="log.entry",
            time_ms=time_ms,
            received_ms=time_ms,
            carried=fields,
            text=payload.decode("utf-8", "replace"),
            sub_ns=sub_ns,
            seq=line,
        )

    def _located(self, event_id: str, line: int) -> str:
        # The engine only compares ids: the place travels in them, so that no table of all lines is kept.
        return f"{event_id}:{self._number}:{line}"


def line_time(fields: dict[str, Any]) -> tuple[int, int]:
    """(ms UTC, nanoseconds below) of a line's time field. Raises Unreadable."""
    for key in TIME_KEYS:
        value = fields.get(key)
        if value is None:
            continue
        try:
            if type(value) is str:
                stamp = epoch_ms(_number(value)) if _is_number(value) else parse_iso(value)
            elif type(value) is int or type(value) is float:
                stamp = epoch_ms(value)
            else:
                raise Unreadable("wrong_type", f"field {key!r} must be a time as text or number")
        except (ValueError, OverflowError) as error:
            raise Unreadable("impossible_time", f"field {key!r}: {error}") from error
        if not 0 <= stamp[0] < IMPOSSIBLE_FROM_MS:
            raise Unreadable("impossible_time", f"field {key!r}: {value!r} is not in 1970..2099")
        return stamp
    raise Unreadable("missing_field", f"no time: none of {', '.join(TIME_KEYS)} is there")


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit() and text.isascii()


def _number(text: str) -> float | int:
    return float(text) if "." in text else int(text)


def match(
    *,
    rules: list[Path],
    site: Path | None,
    map_file: Path | None,
    lateness_ms: int,
    files: list[Path],
    tells: Tells,
    strict: bool,
    sort: bool,
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    """Matches rules against files; 0, or 1 with `strict` when lines were late or unreadable.

    tells: print each match once, in its final form ("final") or as it opens ("first"), or every revision as it is
    decided ("growing"). sort: sort all lines by time first. Raises UsageError and FaultyFile for unusable input.
    """
    loaded = load_rules(rules)
    for fault in loaded.faults:
        if fault.severity != "error":
            stderr.write(f"{fault}\n")
    if loaded.errors:
        raise FaultyFile(loaded.errors)
    premises = load_site(site) if site is not None else None
    spec = load_map(map_file) if map_file is not None else None
    engine = Engine(
        premises.site_id if premises is not None else SITE,
        loaded.rules,
        premises,
        EngineSettings(lateness_ms=lateness_ms, max_late_ms=1 << 60, dup_window_ms=0, enriched="off",
                       max_members=MAX_MEMBERS, tells=tells),
        premises.timezone if premises is not None else UTC,
        filter_logsource=spec is not None,
    )  # fmt: skip
    heads: dict[str, RuleHead] = {
        **{key: rule.head for key, rule in loaded.rules.detections.items()},
        **{key: rule.head for key, rule in loaded.rules.correlations.items()},
    }
    with ExitStack() as opened:
        settle_collector()
        inputs = [_open(path, number, spec, premises, opened) for number, path in enumerate(files)]
        names = [one.name for one in inputs]
        for found in _matched(engine, inputs, sort):
            for one in found:
                if not one.early:
                    stdout.write(_line(one, heads[one.rule], names, tells == "growing"))
    return _summary(engine, inputs, strict, stderr)


def _open(path: Path, number: int, spec: MapSpec | None, premises: Premises | None, opened: ExitStack) -> _Input:
    name = str(path)
    if name == "-":
        lines: IO[bytes] = sys.stdin.buffer
    else:
        try:
            lines = opened.enter_context(path.open("rb"))
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror}") from error
        if path.is_dir():
            raise UsageError(f"{name} is a folder; name its files")
    site = premises.site_id if premises is not None else SITE
    mapped = None
    if spec is not None:
        dialect = DIALECTS[spec.dialect]
        clock = ClockPolicy(zone=premises.timezone if premises is not None else dialect.clock.zone)
        mapped = (
            dialect,
            Context(site=site, source=name, clock=clock, dialect=dialect.name, settings=spec, map_version=spec.version),
        )
    return _Input(name, number, lines, site, mapped)


def _matched(engine: Engine, inputs: list[_Input], sort: bool) -> Iterator[list[Match]]:
    """Matches in the order they are decided, record by record."""
    lines: Iterator[tuple[int, int, int, list[Event]]] = heapq.merge(
        *(one.events() for one in inputs), key=lambda item: item[:3]
    )
    if sort:
        every = [event for _, _, _, events in lines for event in events]
        every.sort(key=TOTAL_ORDER)
        lines = iter([(event.time_ms, 0, 0, [msgspec.structs.replace(event, received_ms=event.time_ms)])
                      for event in every])  # fmt: skip
    waiting: list[Event] = []
    for _, _, _, events in lines:
        waiting.extend(events)
        if len(waiting) >= RECORD_EVENTS:
            yield engine.receive(Record(events=waiting)).matches
            waiting = []
    if waiting:
        yield engine.receive(Record(events=waiting)).matches
    yield engine.finish(None).matches


def _line(match: Match, head: RuleHead, names: list[str], follow: bool) -> str:
    events = []
    for located in match.events:
        event_id, number, line = located.rsplit(":", 2)
        events.append({"id": event_id, "file": names[int(number)], "line": int(line)})
    told: dict[str, Any] = {
        "rule": {"id": head.id or None, "title": head.title, "name": head.name or None},
        "group": match.group,
        "first_ms": match.first_ms,
        "last_ms": match.last_ms,
        "value": match.value,
        "events": events,
    }
    if match.late:
        told["late"] = True
    if follow:
        told["state"] = match.state
        told["revision"] = match.revision
        told["match"] = match.id
    return _json.encode(told).decode() + "\n"


def _summary(engine: Engine, inputs: list[_Input], strict: bool, stderr: TextIO) -> int:
    counters = engine.counters()
    unreadable = 0
    for one in inputs:
        unreadable += one.unreadable_count
        for line, why in one.unreadable:
            stderr.write(f"{one.name}:{line}: skipped, {why}\n")
        if one.unreadable_count > len(one.unreadable):
            stderr.write(f"{one.name}: and {one.unreadable_count - len(one.unreadable)} more lines skipped\n")
    late = counters["late"]
    stderr.write(f"{sum(one.read for one in inputs)} lines, {unreadable} unreadable, {late} later than the lateness\n")
    for name in ("groups_dropped", "groups_refused", "window_events_dropped"):
        if counters[name]:
            stderr.write(f"{name.replace('_', ' ')}: {counters[name]}\n")
    return 1 if strict and (late or unreadable) else 0
