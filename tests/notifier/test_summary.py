"""Once a week somebody is told what the week was like, at its hour, once, whatever was down in between."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from correlator.clock import HOUR_MS
from correlator.journal.action import Act
from correlator.journal.feeds import _health
from correlator.journal.view import View
from correlator.notifier.outbox import Outbox
from correlator.notifier.planning import summaries
from correlator.notifier.service import Notifier
from correlator.notifier.summary import WEEK_MS, week
from correlator.words.several import summary_message
from tests.notifier.cases import T0, THREATS, made
from tests.notifier.test_service import House

ROME = ZoneInfo("Europe/Rome")
MONDAY = {"day": "mon", "at": "07:00", "receivers": ["desk"]}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-10-26T06:59+01:00", None),  # a week is past for almost a week
        ("2026-10-26T07:00+01:00", "2026-10-26T07:00+01:00"),
        ("2026-10-27T06:59+01:00", "2026-10-26T07:00+01:00"),  # the notifier was down: late, but not lost
        ("2026-10-27T07:00+01:00", None),
        ("2026-10-19T12:00+02:00", "2026-10-19T07:00+02:00"),
    ],
)
def test_a_summary_is_due_at_its_hour_on_the_wall_and_at_most_a_day_late(now, due):
    rows = summaries(made(summary=MONDAY), "h-test", ms(now), ROME)
    assert [row.due_ms for row in rows] == ([] if due is None else [ms(due)])


def enriched(kind: str, t_ms: int, thing: str, place: str = "Ward 3") -> bytes:
    event = {"site": "h-test", "source": "s", "kind": kind, "time_ms": t_ms,
             "entities": [{"role": "observer", "kind": kind.partition(".")[0], "id": thing}]}  # fmt: skip
    return msgspec.json.encode({"event": event, "place_name": place})


def test_the_figures_are_those_of_the_week(tmp_path, places):
    """Three threats are told; one is real, one false; a camera is dark, another is back, a battery is low."""
    house = House(tmp_path, places, summary=MONDAY, receivers=[{"name": "desk", "url": "json://a/", "language": "en"}])
    begin_ms = ms("2026-10-19T07:00+02:00")
    for n, severity in enumerate(["high", "high", "critical"]):
        house.tell(msgspec.structs.replace(THREATS["combined"], id=f"{n:032x}", severity=severity))
        house.notifier.step(begin_ms + (n + 1) * 24 * HOUR_MS)
    for n, verdict in ((0, "true"), (1, "false")):
        house.journal.append(
            Act(id=f"c{n}", site="h-test", who="p-1", verb="close", at_ms=begin_ms + 90 * HOUR_MS, threat=f"{n:032x}",
                args={"verdict": verdict})
        )  # fmt: skip
    for kind, hours, thing in [
        ("camera.offline", 5, "cam-a"), ("camera.offline", 5, "cam-b"), ("camera.online", 6, "cam-b"),
        ("sensor.battery_low", 7, "pir-1"), ("host.offline", 8, "pc-1"), ("camera.offline", -1, "cam-old"),
        ("door.opened", 9, "d-1"),
    ]:  # fmt: skip
        _health(house.view, enriched(kind, begin_ms + hours * HOUR_MS, thing))
    house.notifier.step(begin_ms + WEEK_MS + HOUR_MS)  # the clock went back in between: seven days and an hour
    (key, subject), body = house.out[-1], house.bodies[-1]
    assert key == f"h-test/summary/desk/{ms('2026-10-26T07:00+01:00')}"
    assert subject == "Test hospital: week of 19.10. to 26.10."
    assert body.splitlines()[2:] == [
        "Threats raised: 3 (1 critical, 2 high).",
        "Real: 1, false: 1, harmless or drill: 0, still open: 1.",
        "Alerts in ten minutes: 0.003 on average, 1 at most; that is acceptable.",
        "Went dark and is not known to be back: 1. camera cam-a (Ward 3).",
        "Low batteries: 1. sensor pir-1 (Ward 3).",
    ]
    sent = len(house.out)
    house.notifier.step(begin_ms + WEEK_MS + 2 * HOUR_MS)
    assert len(house.out) == sent


@pytest.mark.parametrize("language", ["en", "fr", "it"])
def test_an_empty_week_is_said_in_every_language(language, places):
    told = summary_message(week(Outbox(":memory:"), View(":memory:"), "h-test", T0), places, language)
    assert "{" not in told.body
    assert len(told.body.splitlines()) == 7


def test_a_notifier_that_lost_its_outbox_learns_from_the_journal_what_left(tmp_path, places, threat):
    house = House(tmp_path, places)
    house.tell(threat)
    assert house.notifier.step(T0) == 1
    fresh = Notifier(
        house.notifier.settings, house.feed, house.view, Outbox(":memory:"), house.journal, {"h-test": places},
        house._send,
    )  # fmt: skip
    assert [fresh.step(T0 + later_ms) for later_ms in (1_000, 60_000)] == [0, 0]
    (known,) = fresh.outbox.all()
    (there,) = house.box.all()
    assert (known.key, known.state, known.ended_ms) == (there.key, "sent", there.ended_ms)
