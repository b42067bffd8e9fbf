"""What the floor plan draws: every room with a name that can be read, doors and devices as they stand."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.console import plan
from correlator.premises import load_site
from correlator.premises.live import LiveState
from tests.console.conftest import ROOT

SITE = ROOT / "scenarios" / "vaccine-theft" / "site.yaml"
WORDS = {
    "room_alert": "{name}: {severity} threat open", "room_quiet": "{name}: nothing open", "room_people": "people: {count}",
    "room_dark": "dark: {count}", "critical": "critical",
}  # fmt: skip


@pytest.fixture(scope="module")
def places():
    return load_site(SITE)


def live_of(places, **cells: list) -> LiveState:
    live = LiveState(places.graph)
    live.restore((key, msgspec.json.encode(value)) for key, value in cells.items())
    return live


def test_a_label_lies_inside_its_room_also_where_the_room_has_corners():
    corner = ((6, 12.5), (14, 12.5), (14, 21), (0, 21), (0, 16.5), (6, 16.5))
    left, top, right, bottom = plan._inside(corner)
    for x in (left + 0.01, right - 0.01):
        for y in (top + 0.01, bottom - 0.01):
            assert plan._holds(corner, x, y)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=90), st.floats(3, 60), st.floats(1, 30))
def test_letters_are_never_too_small_to_read(name, width, height):
    lines, letters = plan._fitted(name, width, height, 1.0)
    assert letters >= 0.85
    assert 1 <= len(lines) <= 3
    if letters > 0.851:
        assert max(map(plan._wide, lines)) * letters <= width + 1e-6


def test_doors_are_drawn_as_they_stand_and_say_so(places):
    live = live_of(places, **{
        "open/d-pharmacy": [1, True], "open/d-technical": [1, False], "locked/d-cold-store": [1, True],
    })  # fmt: skip
    words = {**WORDS, "door_open": "open", "door_closed": "closed", "door_locked": "locked"}
    drawn = plan.svg(places, "f0", plan.rooms(places, "f0", {}, live, 1, words), words, live)
    doors = dict(re.findall(r'<g class="door (\w+)"><title>(?:door )?([^<]*)</title>', drawn))
    states = dict(re.findall(r"<title>(?:door )?([^<:]*): (open|closed|locked)</title>", drawn))
    assert states["North corridor - Pharmacy"] == "open"
    assert states["North corridor - Technical room north"] == "closed"
    assert states["Pharmacy - Pharmacy cold store"] == "locked"
    assert set(doors) == {"open", "closed", "locked", "unknown"}


def test_rooms_count_who_is_believed_inside_and_what_is_dark(places):
    person = next(iter(places.site.people))
    live = live_of(places, **{
        f"person/{person}": [1_000, "z-pharmacy", 0.95, "badge.entered"], "health/cam-corridor-0n": [1, "offline"],
    })  # fmt: skip
    rooms = {one.zone: one for one in plan.rooms(places, "f0", {}, live, 1_000, WORDS)}
    assert (rooms["z-pharmacy"].people, rooms["z-corridor-0n"].dark) == (1, 1)
    later = {one.zone: one for one in plan.rooms(places, "f0", {}, live, 1_000 + 3 * 3_600_000, WORDS)}
    assert later["z-pharmacy"].people == 0  # nobody knows any more
    drawn = plan.svg(places, "f0", rooms.values(), WORDS, live)
    assert 'aria-label="Pharmacy: nothing open, people: 1"' in drawn
    assert 'aria-label="North corridor: nothing open, dark: 1"' in drawn
