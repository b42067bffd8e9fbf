"""Each message is one row that ends as sent, failed or dropped, whoever sends and whoever dies."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.events.threat import Impact
from correlator.journal.fold import Handling, Shelf
from correlator.notifier.outbox import LEASE_MS, Outbox, Row, retry_ms
from correlator.notifier.planning import back_to_queue, plan
from correlator.notifier.routes import situation
from tests.notifier.cases import T0, THREATS, made

M = 60_000


def row(key="t/first/desk/0", due_ms=0, made_ms=0) -> Row:
    return Row(key, "h-test", "t", "desk", "first", "high", "the default route", made_ms, due_ms)


def test_what_is_asked_for_twice_is_one_row():
    box = Outbox(":memory:")
    assert [box.ask([row()]), box.ask([row(due_ms=5)])] == [1, 0]
    assert box.all() == [row()]


def test_a_claimed_row_is_nobody_elses_until_its_lease_is_over():
    box = Outbox(":memory:")
    box.ask([row()])
    assert [len(box.claim(10)), len(box.claim(10)), len(box.claim(10 + LEASE_MS))] == [1, 0, 1]


def test_forty_refusals_and_then_success_are_one_row_that_was_sent():
    box = Outbox(":memory:")
    box.ask([row()])
    now_ms = 0
    for _ in range(40):
        now_ms = max(now_ms, box.next_due_ms())
        (claimed,) = box.claim(now_ms)
        assert not box.failed(claimed, "503", now_ms, give_up_ms=10**9)
    now_ms = box.next_due_ms()
    (claimed,) = box.claim(now_ms)
    box.sent(claimed.key, now_ms)
    (end,) = box.all()
    assert (end.state, end.attempt, box.next_due_ms()) == ("sent", 41, -1)


def test_a_channel_that_fails_too_long_is_given_up():
    box = Outbox(":memory:")
    box.ask([row()])
    (claimed,) = box.claim(0)
    assert not box.failed(claimed, "503", 59 * M, 60 * M)
    (claimed,) = box.claim(61 * M)
    assert box.failed(claimed, "503", 61 * M, 60 * M)
    assert [(one.state, one.last_error) for one in box.all()] == [("failed", "503")]


def test_waiting_doubles_up_to_five_minutes_and_differs_between_messages():
    waits = [retry_ms("k", n) for n in range(1, 12)]
    for n, wait in enumerate(waits):
        base = min(1_000 * 2**n, 5 * M)
        assert base <= wait <= base * 5 // 4
    assert retry_ms("k", 9) == retry_ms("k", 9)
    assert len({retry_ms(f"k{n}", 9) for n in range(20)}) > 10


def test_a_receiver_that_says_when_to_come_back_is_not_asked_before():
    box = Outbox(":memory:")
    box.ask([row()])
    (claimed,) = box.claim(0)
    box.failed(claimed, "429", 0, 10**9, retry_after_ms=90_000)
    assert box.next_due_ms() == 90_000


def test_patience_that_is_asked_for_does_not_put_off_that_a_channel_is_dead():
    box = Outbox(":memory:")
    box.ask([row()])
    (claimed,) = box.claim(0)
    assert not box.failed(claimed, "503", 0, 60 * M, retry_after_ms=24 * 60 * M)
    assert box.next_due_ms() == 60 * M
    (claimed,) = box.claim(60 * M)
    assert box.failed(claimed, "503", 60 * M, 60 * M, retry_after_ms=24 * 60 * M)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30))
def test_senders_that_die_lose_nothing(rounds):
    """A sender that claims and dies leaves a row that the next one sends, with the same key."""
    box = Outbox(":memory:")
    box.ask([row(f"t/first/desk/{n}") for n in range(5)])
    now_ms, delivered = 0, []
    for _, dies in [*rounds, *[(0, False)] * 6]:
        now_ms += LEASE_MS
        for claimed in box.claim(now_ms, 2):
            delivered.append(claimed.key)
            if not dies:
                box.sent(claimed.key, now_ms)
    assert {one.state for one in box.all()} == {"sent"}
    assert set(delivered) == {f"t/first/desk/{n}" for n in range(5)}


# ---- planning ----------------------------------------------------------------------------------


@pytest.fixture
def planned(places):
    """Plans a threat again and again into one outbox, as the notifier does."""
    box = Outbox(":memory:")

    def again(threat, now_ms, handling=None, **settings) -> list[str]:
        chosen = made(**settings)
        one = situation(threat, places)
        rows = plan(chosen, threat, one, handling or Handling(), box.of(threat.id), now_ms, places.site.timezone)
        box.ask(rows)
        return [f"{one.occasion} {one.receiver} +{(one.due_ms - T0) / M:g}" for one in box.of(threat.id)]

    return again


def test_a_threat_is_told_once_however_often_it_is_revised(planned, threat):
    for n in range(50):
        told = planned(msgspec.structs.replace(threat, revision=threat.revision + n), T0 + n * 1_000)
    assert told == ["first desk +0"]


def test_a_higher_severity_is_told_once_and_not_before_five_minutes(planned, threat):
    planned(threat, T0)
    worse = msgspec.structs.replace(threat, severity="critical", revision=9)
    assert planned(worse, T0 + M) == ["first desk +0", "grown desk +5"]
    assert planned(worse, T0 + 20 * M) == ["first desk +0", "grown desk +5"]


def test_a_further_care_service_in_danger_is_told_once(planned, threat):
    planned(threat, T0)
    hit = Impact(asset="s-dispensing", place_name="Dispensing", threat_type="service-unavailable", likelihood=0.5,
                 p10_ms=0, p50_ms=M, p90_ms=2 * M, service=True)  # fmt: skip
    for later in (1, 6, 7):
        told = planned(msgspec.structs.replace(threat, impact=(*threat.impact, hit)), T0 + later * M)
    assert told == ["first desk +0", "grown desk +5"]


def test_nobody_answers_and_others_are_told_at_their_time(planned, threat):
    steps = [{"after_min": 5, "receivers": ["manager"]}, {"after_min": 15, "receivers": ["it", "manager"]}]
    planned(threat, T0, escalation=steps)
    told = planned(threat, T0 + M, escalation=steps)
    assert told == ["first desk +0", "escalated it +15", "escalated manager +5", "escalated manager +15"]


def test_what_was_taken_over_and_forgotten_is_brought_back_to_mind(planned, threat):
    planned(threat, T0)
    taken = Handling(state="acknowledged", acked_by="p-1", version=1, touched_ms=T0 + M)
    assert planned(threat, T0 + 30 * M, taken) == ["first desk +0"]
    assert planned(threat, T0 + 31 * M, taken) == ["first desk +0", "reminder desk +31"]
    assert planned(threat, T0 + 32 * M, taken) == ["first desk +0", "reminder desk +31"]
    assert not back_to_queue(made(), taken, T0 + 90 * M)
    assert back_to_queue(made(), taken, T0 + 91 * M)


@pytest.mark.parametrize(
    ("severity", "due"),
    [("high", "first desk +400.983"), ("critical", "first desk +0")],
    ids=["held", "critical passes"],
)
def test_quiet_hours_hold_what_is_not_critical(planned, threat, severity, due):
    quiet = [{"name": "desk", "url": "json://a/", "quiet": [{"from": "22:00", "to": "06:00"}]}]
    told = planned(msgspec.structs.replace(threat, severity=severity), T0, receivers=quiet)
    assert [one[:18] for one in told] == [due[:18]]


def test_a_shelf_holds_until_it_ends_or_the_threat_gets_worse(planned, threat):
    shelf = Shelf("p-1", T0, T0 + 60 * M, "known noise", "high")
    handling = Handling(shelf=shelf)
    assert planned(threat, T0, handling) == []
    worse = msgspec.structs.replace(threat, severity="critical")
    assert planned(worse, T0, handling) == ["first desk +0"]


def test_after_its_shelf_a_threat_is_told(planned, threat):
    handling = Handling(shelf=Shelf("p-1", T0, T0 + 60 * M, "known noise", "high"))
    assert planned(threat, T0 + 60 * M, handling) == ["first desk +60"]


@pytest.mark.parametrize("name", ["opened", "merged"])
def test_a_watch_and_a_merged_threat_alert_nobody(planned, name):
    assert planned(THREATS[name], T0) == []


def test_a_closed_threat_alerts_nobody(planned, threat):
    assert planned(threat, T0, Handling(state="closed", verdict="true")) == []
