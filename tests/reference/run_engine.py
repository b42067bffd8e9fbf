"""Runs the real engine the way tests need it: the one place that knows how it is called.

`log` packs events into records, `run` folds them, `last_forms` keeps of each match its last revision, and
`shape` is what is compared with the reference matcher and with hand-worked vectors.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Any

import msgspec

from correlator.events import Event
from correlator.events.threat import Match
from correlator.matching import Engine, EngineSettings, Outputs, Record
from correlator.rules.places import Places
from correlator.rules.syntax import RuleSet
from tests.reference.matcher import Found, group_key

INPUT = "lines"
Entries = list[tuple[Any, Any]]


def settings(lateness_ms: int = 2_000, group_idle_ms: int = 7 * 86_400_000, **others: Any) -> EngineSettings:
    return EngineSettings(lateness_ms=lateness_ms, group_idle_ms=group_idle_ms, **others)


def new_engine(
    rules: RuleSet, chosen: EngineSettings, site: str = "s", zone: tzinfo = UTC, places: Places | None = None
) -> Engine:
    return Engine(site=site, rules=rules, places=places, settings=chosen, zone=zone)


def log(events: Iterable[Event], packing: int = 1, tick_ms: int = 0) -> list[Record]:
    """Records of one input with at most `packing` events, in the order received (ties as given).

    tick_ms: a tick of its own record whenever that much receive time has passed without an event.
    """
    records: list[Record] = []
    packed: list[Event] = []
    last_ms: int | None = None
    for event in sorted(events, key=lambda event: event.received_ms):
        silent_ms = () if last_ms is None or not tick_ms else range(last_ms + tick_ms, event.received_ms, tick_ms)
        if packed and (silent_ms or len(packed) >= packing):
            records.append(Record(events=packed, input=INPUT))
            packed = []
        records += [Record(ticks={INPUT: at_ms}, input=INPUT) for at_ms in silent_ms]
        packed.append(event)
        last_ms = event.received_ms
    if packed:
        records.append(Record(events=packed, input=INPUT))
    return records


def fold(engine: Engine, records: Iterable[Record]) -> list[Outputs]:
    return [engine.receive(record) for record in records]


def run(
    rules: RuleSet,
    events: Iterable[Event],
    chosen: EngineSettings,
    until_ms: int | None = None,
    packing: int = 1,
    tick_ms: int = 0,
    zone: tzinfo = UTC,
    places: Places | None = None,
) -> list[Match]:
    """All matches told, every revision, in the order told. No event may lie after until_ms."""
    engine = new_engine(rules, chosen, zone=zone, places=places)
    outputs = fold(engine, log(events, packing, tick_ms))
    outputs.append(engine.finish(until_ms))
    # An episode that grows tells its opening and its end; what is open is asked for.
    return matches(outputs) + engine.matcher.open_matches()


def run_with_restarts(
    rules: RuleSet, events: Iterable[Event], chosen: EngineSettings, until_ms: int | None = None, zone: tzinfo = UTC
) -> list[Match]:
    """As `run`, but after each event and at the end another engine goes on from the state of the one before."""
    records = log(events)
    if records:
        latest_ms = records[-1].events[-1].received_ms
        records.append(Record(ticks={INPUT: latest_ms + chosen.lateness_ms + 1}, input=INPUT))
    engine = new_engine(rules, chosen, zone=zone)
    outputs = []
    for record in records:
        outputs.append(engine.receive(record))
        entries = engine.snapshot()
        engine = new_engine(rules, chosen, zone=zone)
        engine.restore(entries)
    outputs.append(engine.finish(until_ms))
    return matches(outputs) + engine.matcher.open_matches()


def matches(outputs: Iterable[Outputs]) -> list[Match]:
    return [match for output in outputs for match in output.matches if not match.early]


def last_forms(told: Iterable[Match]) -> list[Match]:
    last: dict[str, Match] = {}
    for match in told:
        last[match.id] = match
    return list(last.values())


def as_bytes(told: Sequence[Any]) -> bytes:
    return msgspec.json.encode(told)


def shape(told: Match | Found) -> dict[str, Any]:
    """What two matchers must agree on: all but ids and texts; groups by their keys."""
    return {
        "rule": told.rule,
        "group": {name: group_key(value) for name, value in told.group.items()},
        "events": list(told.events),
        "value": None if told.value is None else round(float(told.value), 6),
        "first": told.first_ms,
        "last": told.last_ms,
        "decided": told.opened_ms,
        "open": told.open if isinstance(told, Found) else told.state == "open",
    }


def shapes(told: Iterable[Match] | Iterable[Found]) -> list[dict[str, Any]]:
    """In an order that depends on nothing but the content."""
    return sorted(map(shape, told), key=lambda one: msgspec.json.encode(one, order="sorted"))


def merged(*logs: Iterable[Record]) -> list[Record]:
    """Several logs as one, by the receive time of each record's last event or tick."""
    return list(heapq.merge(*logs, key=_promise))


def _promise(record: Record) -> int:
    return max([event.received_ms for event in record.events] + list(record.ticks.values()))
