"""The background: deterministic, in formats that the inputs read, and silent about the story."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from correlator.clock import DAY_MS, MINUTE_MS
from correlator.events.event import Event
from correlator.lab.background import ODDITIES, background
from correlator.lab.building import OUTSIDE, read_building
from correlator.run.scenario import BackgroundMessage, Batch, Scenario, load_scenario, packaged_scenarios

# Between them these two have every input that the background knows; the controls' replays are in
# test_scenarios.py.
NAMES = ("patient-data-theft", "vaccine-theft")
ROUNDING = 1.01


@cache
def scenario(name: str) -> Scenario:
    return load_scenario(packaged_scenarios()[name])


@cache
def made(name: str) -> tuple[BackgroundMessage, ...]:
    return tuple(background(scenario(name)))


@cache
def batches(name: str) -> tuple[Batch, ...]:
    """What the background alone gives: the scenario's own lines are left out."""
    return tuple(one for one in scenario(name).events(made(name)) if one.origin.startswith("background:"))


def events(name: str) -> list[Event]:
    return [event for batch in batches(name) for event in batch.events]


def in_time(name: str) -> list[Event]:
    return sorted(events(name), key=lambda event: event.time_ms)


def test_the_same_seed_gives_the_same_bytes():
    assert tuple(background(scenario("vaccine-theft"))) == made("vaccine-theft")


def test_another_seed_gives_another_day():
    other = list(background(scenario("vaccine-theft"), seed=1))
    assert len(set(other) & set(made("vaccine-theft"))) < len(other) / 100


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_at_least_as_many_messages_as_wished_and_twenty_thousand_events(name):
    assert len(made(name)) >= scenario(name).wish.events
    assert len(events(name)) >= 20_000


@pytest.mark.parametrize("name", NAMES)
def test_every_input_reads_it_without_a_reject(name):
    assert [one for batch in batches(name) for one in batch.rejects] == []


@pytest.mark.parametrize("name", NAMES)
def test_it_fills_the_day_that_ends_at_until_in_order_of_receipt(name):
    received = [message[3] for message in made(name)]
    until_ms = scenario(name).until_ms
    assert received == sorted(received)
    assert until_ms - DAY_MS <= received[0] < received[-1] < until_ms


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_late(name):
    late = [one for one in events(name) if one.received_ms - one.time_ms > scenario(name).lateness_ms]
    assert late == []


def test_every_opening_of_a_door_with_readers_follows_a_granted_badge():
    granted: dict[str, int] = {}
    for event in in_time("vaccine-theft"):
        door = event.entity("door")
        if event.kind == "badge.granted":
            granted[door] = event.time_ms
        elif event.kind == "door.opened" and event.source == "access":
            assert event.time_ms - granted[door] < 10_000, event


def test_doors_open_and_close_in_turn():
    state: dict[str, str] = {}
    for event in in_time("vaccine-theft"):
        if event.kind in ("door.opened", "door.closed"):
            assert state.get(event.entity("door")) != event.kind, event
            state[event.entity("door")] = event.kind


def test_nobody_walks_faster_than_the_site_says():
    building = read_building(scenario("vaccine-theft").site)
    last: dict[str, tuple[str, int]] = {}
    for event in in_time("vaccine-theft"):
        if event.kind != "badge.granted":
            continue
        badge, door = event.entity("badge"), building.doors[event.entity("door")]
        before = next(zone for zone in door.between if door.readers.get(zone) == event.entity("reader"))
        if badge in last and OUTSIDE not in (last[badge][0], before):
            zone, since_ms = last[badge]
            walk_ms = sum(one.walk_ms for one, _, _ in building.way(zone, before)) if zone != before else 0
            assert (event.time_ms - since_ms) * ROUNDING >= walk_ms, event
        last[badge] = (door.other(before), event.time_ms)


def test_people_log_on_in_the_room_they_are_in():
    building = read_building(scenario("vaccine-theft").site)
    hosts = {host.id: host.zone for host in building.hosts}
    badge_of = {person.account: person.badge for person in building.people}
    place: dict[str, str] = {}
    logons = 0
    for event in in_time("vaccine-theft"):
        if event.kind == "badge.granted":
            door = building.doors[event.entity("door")]
            before = next(zone for zone in door.between if door.readers.get(zone) == event.entity("reader"))
            place[event.entity("badge")] = door.other(before)
        elif event.kind == "host.logon" and event.source == "windows":
            logons += 1
            assert place[badge_of[event.entity("account")]] == hosts[event.entity("host")], event
    assert logons > 100


def test_oddities_happen_no_more_often_than_documented():
    counted = Counter(event.kind for event in events("vaccine-theft"))
    alerts = [event for event in events("vaccine-theft") if event.kind == "ids.alert"]
    assert 0 < counted["badge.denied"] <= ODDITIES["badge denied"][0]
    assert 0 < counted["badge.unknown"] <= ODDITIES["unknown card"][0]
    assert 0 < counted["door.held"] <= ODDITIES["door held"][0]
    assert 0 < counted["camera.offline"] <= ODDITIES["camera blip"][0]
    assert 0 < counted["host.logon_failed"] <= 2 * ODDITIES["logon failed"][0]
    assert len(alerts) == ODDITIES["minor network alert"][0]
    assert {event.level for event in alerts} <= {"informational", "low"}


@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_alone_what_the_scenarios_own_lines_speak_of(name):
    spoken: dict[str, list[int]] = {}
    people: set[str] = set()
    for batch in scenario(name).events():
        for event in batch.events:
            if event.retained:
                continue
            for entity in event.entities:
                if entity.kind in ("door", "sensor"):
                    spoken.setdefault(entity.id, []).append(event.time_ms)
                if entity.kind == "badge":
                    people.add(entity.id)
    for event in events(name):
        assert event.entity("badge") not in people, event
        thing = event.entity("door") or event.entity("sensor")
        # Closing and the end of a motion may reach a few minutes into the time left alone.
        assert all(abs(event.time_ms - at) > 15 * MINUTE_MS for at in spoken.get(thing, ())), event


def test_the_documented_table_of_oddities_is_the_one_in_the_code(root):
    text = (root / "docs" / "scenarios.md").read_text()
    for name, (count, what) in ODDITIES.items():
        assert f"| {name} | {count} | {what} |" in text
