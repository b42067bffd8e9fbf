"""Exceptions of the overlay: what fits is written as excepted and becomes no finding."""

from __future__ import annotations

import pytest

from correlator.clock import MINUTE_MS
from correlator.events import Entity, Event
from correlator.matching import Record
from correlator.premises import site_of
from correlator.rules.load import rules_text
from correlator.run.pipeline import Pipeline

RULES = """\
title: Refused badge
name: refused
logsource: {product: correlator}
detection: {s: {kind: badge.denied}, condition: s}
---
title: Two refused badges
name: two
level: medium
correlation: {type: event_count, rules: [refused], group-by: [door], timespan: 10m, condition: {gte: 2}}
---
title: Fire
name: fire
level: critical
logsource: {product: correlator}
detection: {s: {kind: smoke.detected}, condition: s}
"""
SITE = {
    "site": {"id": "s", "name": "S", "timezone": "UTC"},
    "floors": [{
        "id": "f", "name": "F", "zones": [{"id": "z-a"}, {"id": "z-b"}],
        "doors": [{"id": "d-1", "between": ["outside", "z-a"]}, {"id": "d-2", "between": ["z-a", "z-b"]}],
    }],
    "assets": [{"id": "smoke-1", "class": "sensor", "zone": "z-a"}],
}  # fmt: skip
T = 1_772_438_400_000  # 2026-03-02T08:00:00Z
REST = 'until: "2026-03-02T12:00:00Z", reason: q'


def event(number: int, kind: str, t_ms: int, attributes: dict[str, str], *entities: Entity) -> Event:
    return Event(id=f"{number:032x}", site="s", source="acs", dialect="mapped", kind=kind, time_ms=t_ms,
                 received_ms=t_ms, entities=entities, carried=attributes)  # fmt: skip


def refused(door: str, t_ms: int = T) -> list[Event]:
    where = Entity("where", "door", door)
    return [
        event(int(door[2:]) * 10 + n, "badge.denied", t_ms + n * MINUTE_MS, {"why": "expired"}, where) for n in (0, 1)
    ]


def decided(overlay: str, events: list[Event]) -> tuple[dict[str, set[str]], int]:
    """(rule name and group or decider -> states its match was written in, number of threats)."""
    loaded = rules_text(RULES, overlay=overlay)
    assert not loaded.errors
    line = Pipeline("s", loaded.rules, site_of(SITE, "s"))
    outputs = [line.receive(Record(events=[one])) for one in sorted(events, key=lambda one: one.time_ms)]
    outputs.append(line.finish(T + 3 * 3_600_000))
    states: dict[str, set[str]] = {}
    for match in (match for one in outputs for match in one.matches if not match.early):
        states.setdefault(f"{match.title} {match.group.get('door', '')}".strip(), set()).add(match.state)
    return states, len({threat.id for one in outputs for threat in one.threats})


@pytest.mark.parametrize(
    ("exception", "excepted"),
    [
        ("{rule: two, fields: {door: d-1}, %s}", True),
        ("{rule: two, fields: {door: [d-7, d-1]}, %s}", True),
        ("{rule: two, fields: {door: d-2}, %s}", False),
        ("{rule: two, fields: {door: D-1}, %s}", False),
        ("{rule: two, asset: d-1, %s}", True),
        ("{rule: two, asset: d-2, %s}", False),
        ("{rule: two, asset: d-1, fields: {door: d-1}, %s}", True),
        ("{rule: two, asset: d-1, fields: {door: d-2}, %s}", False),
        ("{rule: two, fields: {why: expired}, %s}", True),
        ("{rule: two, fields: {why: unknown}, %s}", False),
        ("{kind: badge.denied, asset: d-1, %s}", True),
        ("{kind: badge.unknown, asset: d-1, %s}", False),
        ('{rule: two, asset: d-1, from: "2026-03-02T08:01:00Z", %s}', True),
        ('{rule: two, asset: d-1, from: "2026-03-02T08:02:00Z", %s}', False),
        ('{rule: two, asset: d-1, until: "2026-03-02T08:01:00Z", reason: q}', False),
        ('{rule: two, asset: d-1, until: "2026-03-02T08:01:00.001Z", reason: q}', True),
    ],
)
def test_a_match_fits_by_rule_or_kind_fields_asset_and_time(exception: str, excepted: bool) -> None:
    overlay = "exceptions:\n  - " + (exception % REST if "%s" in exception else exception)
    states, threats = decided(overlay, refused("d-1"))
    assert states == {"Two refused badges d-1": {"excepted"} if excepted else {"open", "final"}}
    assert threats == (0 if excepted else 1)


def test_what_does_not_fit_goes_on_as_ever() -> None:
    states, threats = decided(f"exceptions: [{{rule: two, asset: d-1, {REST}}}]", [*refused("d-1"), *refused("d-2")])
    assert states == {"Two refused badges d-1": {"excepted"}, "Two refused badges d-2": {"open", "final"}}
    assert threats == 1


def test_a_single_event_fits_by_its_kind() -> None:
    smoke = event(99, "smoke.detected", T, {}, Entity("observer", "sensor", "smoke-1"))
    assert decided(f"exceptions: [{{kind: smoke.detected, asset: smoke-1, {REST}}}]", [smoke]) == (
        {"Fire": {"excepted"}},
        0,
    )
    assert decided(f"exceptions: [{{kind: smoke.detected, asset: smoke-2, {REST}}}]", [smoke]) == (
        {"Fire": {"final"}},
        1,
    )
