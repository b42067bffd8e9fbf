"""Time in the stream: silence, absences, pauses and take-overs of ingest, by the machine's own clock."""

from __future__ import annotations

import time

from tests.stream.house import now_ms


def test_an_absence_is_told_while_nothing_more_arrives(house):
    one = house().prepare()
    one.start("ingest")
    one.start("worker")
    one.door("c-store", open=False)
    one.door("c-main", open=False)
    one.flush()
    time.sleep(0.5)
    one.door("c-store", open=True)
    one.door("c-main", open=True)
    one.flush()
    time.sleep(0.5)
    one.door("c-main", open=False)
    one.flush()
    match = one.wait_for("matches", lambda match: match["rule"] == "left_open")
    assert match["group"] == {"door": "d-store"}
    time.sleep(3)
    assert len({match["id"] for match in one.messages("matches") if match["rule"] == "left_open"}) == 1


def test_nothing_is_late_when_ingest_was_away_for_20_minutes(house):
    one = house().prepare()
    end_ms = now_ms()
    start_ms = end_ms - 20 * 60_000
    for number in range(600):  # one input has three times as much to catch up as the other
        at_ms = start_ms + number * 2_000
        one.alert(number, at_ms=at_ms, received_ms=at_ms + 40)
        if number % 3 == 0:
            one.door("c-store", open=bool(number % 2), at_ms=at_ms + 900, received_ms=at_ms + 930)
    one.flush()
    one.start("worker")
    one.start("ingest")
    one.wait_for("matches", lambda _: len(one.told("events.enriched")) >= 790)
    counters = one.counters()
    assert counters["late"] == 0
    assert counters["clock_regress"] == 0
    assert counters["no_configuration"] == 0


def test_one_of_two_ingest_processes_is_killed_and_the_other_takes_over_with_nothing_late(house):
    one = house().prepare()
    one.start("worker")
    first = one.start("ingest", name="first")
    second = one.start("ingest", name="second")
    second.wait_said("ready")
    until = time.monotonic() + 8
    number = 0
    while time.monotonic() < until:
        one.alert(number)
        one.door("c-store", open=bool(number % 2))
        one.flush()
        number += 1
        if number == 60:
            (first if first.running else second).kill()
        time.sleep(0.02)
    one.wait_for(
        "events.enriched", lambda _: sum(b"TEST number" in v for _, v in one.told("events.enriched")) == number
    )
    one.none_twice(one.told("events.enriched"), "events.enriched")
    counters = one.counters()
    assert counters["late"] == 0


def test_an_input_that_nobody_reads_is_taken_out_and_told_and_comes_back(house):
    one = house(ingest={"process": {"session_ms": 2_000}, "input_idle_ms": 2_000}).prepare()
    one.start("ingest")
    one.start("worker")
    one.alert(1)
    one.flush()
    one.wait_for("matches", lambda match: match["rule"] == "alert")
    one.command("inputs", "out", "house", "raw.mqtt/0")
    threat = one.wait_for("threats", lambda threat: "correlator.health.input_out" in threat["threat_types"])
    assert threat["phase"] == "threat"
    one.door("c-store", open=True)
    one.flush()
    one.wait_for("threats", lambda again: again["id"] == threat["id"] and again["phase"] == "quiet")
