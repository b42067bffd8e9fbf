"""What people decide takes its turn in event time, and changes only what it says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from correlator.clock import DAY_MS, MINUTE_MS, SECOND_MS
from correlator.events import Entity, Event
from correlator.matching import EngineSettings, Record
from correlator.premises import site_of
from correlator.rules.load import rules_text
from correlator.run.pipeline import Pipeline

from .test_exceptions import RULES, SITE, T, event

HOUR = 60 * MINUTE_MS
PEOPLE = {"people": [{"id": "p-1", "badges": [{"id": "b-1"}]}]}


class House:
    """A site whose events come one by one, each with the promise that all before it is in."""

    def __init__(self) -> None:
        self.line = self._made()
        self.told: list[Any] = []
        self.matches: list[Any] = []
        self.number = 0

    def _made(self) -> Pipeline:
        loaded = rules_text(RULES)
        assert not loaded.errors
        return Pipeline("s", loaded.rules, site_of({**SITE, **PEOPLE}, "s"), EngineSettings(lateness_ms=0))

    def refused(self, door: str, t_ms: int, *, badge: str = "b-9") -> None:
        self.number += 1
        where, who = Entity("where", "door", door), Entity("actor", "badge", badge)
        self.give([event(self.number, "badge.denied", t_ms, {"why": "expired"}, where, who)])

    def twice(self, door: str, t_ms: int, **more: str) -> None:
        """Two refused badges, which are a threat."""
        self.refused(door, t_ms, **more)
        self.refused(door, t_ms + SECOND_MS, **more)

    def give(self, events: list[Event], **more: Any) -> None:
        self._take(self.line.receive(Record(events=events, **more)))

    def until(self, t_ms: int) -> None:
        self._take(self.line.receive(Record(ticks={"": t_ms + 1})))

    def act(self, verb: str, at_ms: int, **body: Any) -> str:
        self.number += 1
        return self.line.act(f"a{self.number}", verb, at_ms, body)

    def restart(self) -> None:
        entries = self.line.snapshot()
        self.line = self._made()
        self.line.restore(entries)
        assert self.line.snapshot() == entries

    def _take(self, outputs: Any) -> None:
        self.told += outputs.threats
        self.matches += [one for one in outputs.matches if not one.early]

    def last(self) -> dict[str, Any]:
        return {one.id: one for one in self.told}


@pytest.fixture(params=[False, True], ids=["", "restarted"])
def house(request: pytest.FixtureRequest):
    made = House()
    made.pause = made.restart if request.param else lambda: None  # type: ignore[attr-defined]
    return made


def opened(house: House, door: str = "d-1", t_ms: int = T) -> str:
    house.twice(door, t_ms)
    house.until(t_ms + 10 * MINUTE_MS)
    return house.told[-1].id


def test_a_close_acts_at_its_own_time_between_the_events_before_and_behind_it(house):
    threat = opened(house)
    at_ms = T + 20 * MINUTE_MS
    assert house.act("close", at_ms, threat=threat, verdict="true") == ""
    house.pause()
    assert house.last()[threat].phase == "threat"
    house.twice("d-1", at_ms + MINUTE_MS)
    house.until(at_ms + 30 * MINUTE_MS)
    closed = [one for one in house.told if one.id == threat][-1]
    assert closed.phase == "quiet"
    assert closed.decided_ms <= at_ms
    assert [one.phase for one in house.last().values()] == ["quiet", "threat"], "what came later is another"


def test_a_reopened_threat_grows_again(house):
    threat = opened(house)
    house.act("close", T + 20 * MINUTE_MS, threat=threat, verdict="false")
    house.until(T + 21 * MINUTE_MS)
    assert house.last()[threat].phase == "quiet"
    house.act("reopen", T + 22 * MINUTE_MS, threat=threat)
    house.pause()
    house.until(T + 23 * MINUTE_MS)
    again = house.last()[threat]
    assert (again.phase, len(again.members), len(again.steps)) == ("threat", 2, 1)
    house.act("close", T + 24 * MINUTE_MS, threat=threat, verdict="true")
    house.until(T + 25 * MINUTE_MS)
    assert house.last()[threat].phase == "quiet"


def test_a_threat_that_ended_long_ago_is_not_reopened_and_this_is_counted(house):
    threat = opened(house)
    house.act("close", T + 20 * MINUTE_MS, threat=threat, verdict="true")
    house.until(T + HOUR)
    for day in range(1, 6):
        house.refused("d-2", T + day * DAY_MS)
    house.act("reopen", T + 6 * DAY_MS, threat=threat)
    house.until(T + 6 * DAY_MS + HOUR)
    assert house.last()[threat].phase == "quiet"
    assert house.line.counters()["decisions_missed"] == 1


def test_a_duplicate_becomes_part_of_the_other_threat(house):
    first, second = opened(house), opened(house, "d-2", T + HOUR)
    house.act("verdict", T + 2 * HOUR, threat=second, verdict="duplicate", of=first)
    house.pause()
    house.until(T + 2 * HOUR + MINUTE_MS)
    last = house.last()
    assert (last[second].phase, last[second].merged_into) == ("merged", first)
    assert (last[first].phase, len(last[first].members)) == ("threat", 4)


def test_an_exception_is_kept_to_from_its_time_on_until_it_ends_and_no_match_told_before_changes(house):
    opened(house)
    body = {"rule": "two", "reason": "a broken reader", "until_ms": T + 3 * HOUR, "fields": {"door": ["d-1"]}}
    assert house.act("exception", T + HOUR, **body) == ""
    house.pause()
    for t_ms in (T + 30 * MINUTE_MS, T + 2 * HOUR, T + 4 * HOUR):
        house.twice("d-1", t_ms)
    house.until(T + 5 * HOUR)
    states = [
        (one.opened_ms - T, one.state == "excepted") for one in house.matches if one.title == "Two refused badges"
    ]
    assert dict(states) == {
        SECOND_MS: False, 30 * MINUTE_MS + SECOND_MS: False, 2 * HOUR + SECOND_MS: True, 4 * HOUR + SECOND_MS: False,
    }  # fmt: skip


def test_what_fits_a_declared_window_opens_no_threat_and_what_does_not_still_does(house):
    window = {"id": "w-1", "zones": ["z-a"], "people": ["p-1"], "kinds": ["badge.denied"], "to_ms": T + 2 * HOUR,
              "reason": "readers are changed"}  # fmt: skip
    assert house.act("window", T, **window) == ""
    house.pause()
    house.twice("d-1", T + MINUTE_MS, badge="b-1")
    house.until(T + HOUR)
    assert not house.told
    house.twice("d-1", T + HOUR + MINUTE_MS, badge="b-9")
    house.until(T + 90 * MINUTE_MS)
    assert len(house.last()) == 1, "another badge was not announced"
    house.twice("d-1", T + 3 * HOUR, badge="b-1")
    house.until(T + 4 * HOUR)
    assert len(house.last()) == 2, "the window is over"


def test_a_state_set_by_hand_stands_from_its_time_on(house):
    assert house.act("state", T, asset="d-1", attribute="open", value=True) == ""
    assert house.act("state", T + MINUTE_MS, asset="smoke-1", attribute="health", value="offline") == ""
    house.pause()
    assert house.line.places.live.door("d-1") == (None, None, None)
    house.until(T + HOUR)
    assert house.line.places.live.door("d-1") == (True, None, T)
    assert house.line.places.live.health("smoke-1") == ("offline", T + MINUTE_MS)


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("close", {"verdict": "true"}, "names no threat"),
        ("verdict", {"threat": "t", "verdict": "maybe"}, "no verdict"),
        ("verdict", {"threat": ["t"], "verdict": ["true"]}, "no verdict"),
        ("state", {"asset": {}, "attribute": [], "value": []}, "the site has no"),
        ("exception", {"rule": "nothing", "until_ms": T}, "no rule"),
        ("exception", {"until_ms": T}, "names a rule or a kind"),
        ("exception", {"kind": "no.such", "until_ms": T}, "no kind"),
        ("exception", {"rule": "two"}, "no end"),
        ("exception", {"rule": "two", "until_ms": T, "fields": ["door"]}, "fields must map"),
        ("window", {"zones": ["z-9"], "to_ms": T}, "the site has no 'z-9'"),
        ("window", {"people": ["p-1"], "to_ms": T}, "names zones or assets"),
        ("window", {"zones": ["z-a"]}, "no end"),
        ("state", {"asset": "d-1", "attribute": "open", "value": "yes"}, "true or false"),
        ("state", {"asset": "smoke-1", "attribute": "open", "value": True}, "no door"),
        ("state", {"asset": "smoke-1", "attribute": "health", "value": "tired"}, "health is one of"),
        ("state", {"asset": "d-1", "attribute": "colour", "value": "red"}, "nothing that can be set"),
        ("state", {"asset": "d-9", "attribute": "open", "value": True}, "the site has no"),
        ("shelve", {}, "nothing is known"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(kind, body, says):
    house = House()
    assert says in house.act(kind, T, **body)
    assert house.line.next_due_ms() == -1


def test_packing_of_events_around_a_decision_changes_no_byte(house):
    def run(size: int) -> list[bytes]:
        one = House()
        events = [
            event(n, "badge.denied", T + n * MINUTE_MS, {}, Entity("where", "door", f"d-{1 + n % 2}"))
            for n in range(1, 40)
        ]
        one.act("exception", T + 12 * MINUTE_MS, rule="two", until_ms=T + 22 * MINUTE_MS, reason="q")
        one.act("window", T + 25 * MINUTE_MS, zones=["z-a", "z-b"], to_ms=T + 30 * MINUTE_MS, reason="q")
        for at in range(0, len(events), size):
            one.give(events[at : at + size])
            if size == 1:
                one.restart()
        one.until(T + 2 * HOUR)
        return sorted(msgspec.json.encode(told) for told in (*one.told, *one.matches))

    assert run(1) == run(7) == run(40)
