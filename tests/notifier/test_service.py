"""The notifier at work: a threat becomes a message; people's answers and crashes change what must change."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from correlator.ingest import metrics
from correlator.journal.action import Act
from correlator.journal.feeds import FileFeed
from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from correlator.notifier.channels import Result
from correlator.notifier.outbox import LEASE_MS, Outbox
from correlator.notifier.service import Notifier, try_channels
from tests.notifier.cases import T0, THREATS, made
from tests.notifier.chaos import killed

M = 60_000


class House:
    """A notifier on files, with a channel that notes what it is given."""

    def __init__(self, folder: Path, places, **settings) -> None:
        self.file = folder / "threats.ndjson"
        self.file.touch()
        self.journal = SqliteJournal(folder / "journal.db")
        self.box = Outbox(folder / "outbox.db")
        self.out: list[tuple[str, str]] = []
        self.bodies: list[str] = []
        self.broken: set[str] = set()
        self.view = View(folder / "view.db")
        self.feed = FileFeed(self.file, self.journal)
        chosen = made(**settings)
        self.notifier = Notifier(chosen, self.feed, self.view, self.box, self.journal, {"h-test": places}, self._send)

    def _send(self, url, message, severity, key) -> Result:
        name = key.split("/")[2] if key.count("/") > 2 else key
        if name in self.broken:
            return Result(ok=False, error="503")
        self.out.append((key, message.subject))
        self.bodies.append(message.body)
        return Result(ok=True)

    def tell(self, threat) -> None:
        with self.file.open("ab") as file:
            file.write(msgspec.json.encode(threat) + b"\n")

    def act(self, verb, at_ms, threat=THREATS["combined"].id, **args) -> None:
        self.journal.append(
            Act(id=f"{verb}{at_ms}", site="h-test", who="p-1", verb=verb, at_ms=at_ms, threat=threat, args=args)
        )

    def sent(self) -> list[str]:
        return [key.split("/", 1)[1] for key, _ in self.out]


@pytest.fixture
def house(tmp_path, places):
    return House(tmp_path, places, escalation=[{"after_min": 5, "receivers": ["manager"]}])


def test_a_threat_becomes_one_message_and_the_journal_knows(house, threat):
    house.tell(threat)
    assert house.notifier.step(T0) == 1
    house.tell(msgspec.structs.replace(threat, revision=9))
    assert house.notifier.step(T0 + 1_000) == 0
    assert house.sent() == ["first/desk/0"]
    assert [act.verb for _, act in house.journal.read(-1)] == ["notified"]


def test_an_answer_stops_what_was_not_due_yet(house, threat):
    house.tell(threat)
    house.notifier.step(T0)
    house.notifier.step(T0 + 6_000)
    house.act("ack", T0 + M)
    house.notifier.step(T0 + 2 * M)
    house.notifier.step(T0 + 6 * M)
    assert house.sent() == ["first/desk/0"]
    assert {row.occasion: row.state for row in house.box.all()} == {"first": "sent", "escalated": "dropped"}


def test_without_an_answer_the_next_one_is_told(house, threat):
    house.tell(threat)
    for later_ms in (0, 6_000, 4 * M, 5 * M + 1_000):
        house.notifier.step(T0 + later_ms)
    assert house.sent() == ["first/desk/0", "escalated/manager/1"]


def test_what_is_taken_and_forgotten_comes_back_to_everybody(house, threat):
    house.tell(threat)
    house.notifier.step(T0)
    house.act("ack", T0 + M)
    for minute in range(2, 110, 2):
        house.notifier.step(T0 + minute * M)
    assert house.sent()[:3] == ["first/desk/0", "reminder/desk/1.1", "reminder/desk/1.2"]
    assert "escalated/manager/1.1" in house.sent()


def test_a_dead_channel_is_told_through_another(tmp_path, places, threat):
    receivers = [
        {"name": "desk", "url": "json://a/", "on_failure": "manager"},
        {"name": "manager", "url": "json://b/"},
    ]
    house = House(tmp_path, places, receivers=receivers, give_up_min=10)
    house.broken.add("desk")
    house.tell(threat)
    for second in range(0, 1_300, 10):
        house.notifier.step(T0 + second * 1_000)
    assert [subject for _, subject in house.out] == ["The alert channel of desk is not working."]


def test_a_busy_channel_is_asked_again_when_it_said_and_the_message_leaves_once(tmp_path, places, threat):
    house, times = House(tmp_path, places), []

    def send(*_told) -> Result:
        times.append(now_ms)
        return Result(True) if len(times) > 1 else Result(False, "429", 90_000)

    house.notifier._send = send
    house.tell(threat)
    for second in range(0, 200, 10):
        now_ms = T0 + second * 1_000
        house.notifier.step(now_ms)
    assert times == [T0, T0 + 90_000]
    assert [row.state for row in house.box.all()] == ["sent"]


def test_a_test_message_goes_to_every_receiver_at_once(house):
    assert [(name, result.ok) for name, result in try_channels(house.notifier.settings, house._send)] == [
        ("desk", True), ("manager", True), ("it", True),
    ]  # fmt: skip


def test_a_receiver_gets_no_more_than_its_hours_worth_but_all_that_is_critical(tmp_path, places, threat):
    house = House(tmp_path, places, receivers=[{"name": "desk", "url": "json://a/", "per_hour": 3}])
    for n in range(10):
        severity = "critical" if n > 7 else "high"
        house.tell(msgspec.structs.replace(threat, id=f"{n:032x}", severity=severity))
    for _ in range(3):
        house.notifier.step(T0)
    assert len(house.out) == 5
    for minute in range(0, 240, 5):
        house.notifier.step(T0 + minute * M)
    assert [subject for _, subject in house.out[5:]] == ["5 threats that were held back"]
    assert {row.state for row in house.box.all()} == {"sent"}


def test_a_reopened_threat_escalates_anew(house, threat):
    house.tell(threat)
    house.notifier.step(T0)
    house.act("close", T0 + M, verdict="false")
    house.notifier.step(T0 + 2 * M)
    house.act("reopen", T0 + 3 * M)
    for minute in (4, 9):
        house.notifier.step(T0 + minute * M)
    assert house.sent() == ["first/desk/0", "escalated/manager/1.1"]


def test_what_was_read_before_the_end_of_a_burst_is_told_at_its_end(house, threat, monkeypatch):
    house.notifier.step(T0)
    house.tell(threat)
    monkeypatch.setattr(house.feed, "caught_up", lambda: False)
    assert house.notifier.step(T0 + 1_000) == 0
    monkeypatch.setattr(house.feed, "caught_up", lambda: True)
    assert house.notifier.step(T0 + 2_000) == 1


def test_a_flood_of_alerts_is_measured_and_said_once(tmp_path, places, threat, caplog):
    house = House(tmp_path, places)
    for n in range(11):
        house.tell(msgspec.structs.replace(threat, id=f"{n:032x}"))
    for later_ms in (0, 6_000, 12_000):
        house.notifier.step(T0 + later_ms)
    assert metrics.alerts_10_min.labels(receiver="desk")._value.get() == 11
    assert [one.told["count"] for one in caplog.records if one.message == "alert_flood"] == [11]
    house.notifier.step(T0 + 11 * M)
    assert metrics.alerts_10_min.labels(receiver="desk")._value.get() == 0


NIGHT = [{"name": "desk", "url": "json://a/", "quiet": [{"from": "22:00", "to": "06:00"}]}]


def test_what_quiet_hours_held_arrives_in_the_morning_as_one_message(tmp_path, places, threat):
    house = House(tmp_path, places, receivers=NIGHT)
    for n, severity in enumerate(["low", "critical", "high", "medium"]):
        house.tell(msgspec.structs.replace(threat, id=f"{n:032x}", severity=severity))
    house.notifier.step(T0)
    assert house.sent() == ["first/desk/0"]  # the critical one
    house.act("close", T0 + M, threat=f"{3:032x}", verdict="benign")
    morning_ms = T0 + 7 * 60 * M
    assert house.notifier.step(morning_ms) == 1
    assert house.out[1][1] == "2 threats that were held back"
    lines = house.bodies[1].splitlines()[2:]
    assert [line.rsplit("(", 1)[1] for line in lines] == ["high)", "low)"]
    assert {row.threat[-1:] or row.occasion: row.state for row in house.box.all()} == {
        "0": "sent", "1": "sent", "2": "sent", "3": "dropped", "digest": "sent",
    }  # fmt: skip
    notified = [act.args["key"] for _, act in house.journal.read(-1) if act.verb == "notified"]
    assert [key.split("/")[1] for key in notified] == ["first", "digest", "first", "first"]


def test_what_becomes_critical_in_the_night_does_not_wait_for_the_morning(tmp_path, places, threat):
    house = House(tmp_path, places, receivers=NIGHT)
    house.tell(threat)
    house.notifier.step(T0)
    house.tell(msgspec.structs.replace(threat, severity="critical", revision=9))
    house.notifier.step(T0 + M)
    assert [one.split("/")[0] for one in house.sent()] == ["grown"]


def test_one_held_message_arrives_as_itself(tmp_path, places, threat):
    house = House(tmp_path, places, receivers=NIGHT)
    house.tell(threat)
    house.notifier.step(T0)
    house.notifier.step(T0 + 7 * 60 * M)
    assert house.sent() == ["first/desk/0"]


def test_a_digest_whose_sender_died_leaves_again_with_the_same_key(tmp_path, places, threat):
    house = House(tmp_path, places, receivers=NIGHT)
    for n in range(3):
        house.tell(msgspec.structs.replace(threat, id=f"{n:032x}"))
    house.notifier.step(T0)
    morning_ms = T0 + 7 * 60 * M
    house.box.gather(morning_ms)
    (claimed,) = house.box.claim(morning_ms)  # and dies
    house.notifier.step(morning_ms + LEASE_MS)
    assert [key for key, _ in house.out] == [claimed.key]


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_point_nothing_is_lost_and_a_double_has_the_same_key(tmp_path, seed):
    """`python -m tests.notifier.chaos` does the same at more points."""
    told = killed(tmp_path, seed)
    assert (told.lost, told.strange, told.rows) == (0, 0, {"sent": 60})
    assert told.doubled <= 2  # at most the one in flight at each kill
