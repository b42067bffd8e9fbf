"""A threat that is closed no longer grows; what would have joined it opens a new one that names it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from correlator.clock import DAY_MS, MINUTE_MS
from correlator.events import Entity, Event
from correlator.events.threat import Threat
from correlator.matching import Record
from correlator.rules.load import rules_text
from correlator.run.pipeline import Pipeline

RULES = rules_text("""\
title: Refused badge
name: refused
logsource: {product: correlator}
detection: {s: {kind: badge.denied}, condition: s}
---
title: Three refused badges
name: three
level: medium
correlation: {type: event_count, rules: [refused], group-by: [door], timespan: 10m, condition: {gte: 3}}
---
title: Five refused badges in three days
name: five
level: medium
correlation: {type: event_count, rules: [refused], group-by: [door], timespan: 3d, condition: {gte: 5}}
""").rules
T = 1_772_438_400_000


def refused(number: int, t_ms: int, door: str = "d-1") -> Event:
    return Event(
        id=f"{number:032x}", site="s", source="acs", dialect="mapped", kind="badge.denied", time_ms=t_ms,
        received_ms=t_ms, entities=(Entity("where", "door", door), Entity("actor", "badge", "b-9")),
    )  # fmt: skip


def told(events: list[Event], until_ms: int, restart_at: int | None = None) -> list[Threat]:
    line, found = Pipeline("s", RULES), []
    for place, event in enumerate(events):
        if place == restart_at:
            entries, line = line.snapshot(), Pipeline("s", RULES)
            line.restore(entries)
        found += line.receive(Record(events=[event])).threats
    return [*found, *line.finish(until_ms).threats]


THREE = [refused(n, T + n * MINUTE_MS) for n in range(3)]
LATER = [refused(3, T + 2 * DAY_MS), refused(4, T + 2 * DAY_MS + MINUTE_MS)]


@pytest.mark.parametrize("restart_at", [None, 1, 3, 4])
def test_a_finding_that_shares_an_event_with_a_quiet_threat_opens_one_that_names_it(restart_at):
    first, *others = told([*THREE, *LATER], T + 3 * DAY_MS, restart_at)
    (second,) = {one.id for one in others} - {first.id}
    assert {one.previous for one in others if one.id == second} == {first.id}
    assert {one.previous for one in [first, *others] if one.id == first.id} == {""}
    assert [one.phase for one in others if one.id == first.id][-1] == "quiet"


def test_while_a_threat_is_open_such_a_finding_joins_it():
    soon = [refused(3, T + 3_600_000), refused(4, T + 3_600_000 + MINUTE_MS)]
    found = told([*THREE, *soon], T + DAY_MS // 2)
    assert len({one.id for one in found}) == 1
    assert {one.previous for one in found} == {""}


def test_a_match_that_ends_after_its_threat_was_closed_opens_nothing():
    found = told([*THREE, refused(9, T + 3 * DAY_MS, "d-2")], T + 4 * DAY_MS)
    assert [one.phase for one in found] == ["threat", *["threat"] * (len(found) - 2), "quiet"]
    assert len({one.id for one in found}) == 1
    assert all(one.revision + 1 == next_one.revision for one, next_one in pairwise(found))


def test_a_threat_after_another_at_the_same_door_with_nothing_in_common_names_none():
    fresh = [refused(10 + n, T + 9 * DAY_MS + n * MINUTE_MS) for n in range(3)]
    found = told([*THREE, *fresh], T + 9 * DAY_MS + 3_600_000)
    assert len({one.id for one in found}) == 2
    assert {one.previous for one in found} == {""}
