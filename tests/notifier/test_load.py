"""Alarm load equals a count made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.journal.load import Alert, load

M = 60_000
H = 60 * M


def test_figures_of_a_quiet_hour():
    alerts = [Alert(5 * M, "low", "door-1", 6 * M), Alert(31 * M, "high", "door-2", 40 * M)]
    told = load(alerts, 0, H)
    assert (told.alerts, told.per_10_min, told.peak, told.flood_share, told.verdict) == (2, 0.333, 1, 0.0, "acceptable")
    assert told.shares == {"high": 0.5, "low": 0.5}
    assert told.top_ten == (("door-1", 0.5), ("door-2", 0.5))


def test_eleven_alerts_in_ten_minutes_are_a_flood():
    told = load([Alert(n * 1_000 * 30, "low", f"s{n}") for n in range(11)], 0, H)
    assert (told.peak, told.flood_share, told.verdict) == (11, 0.1667, "too much")


@pytest.mark.parametrize(("gap_ms", "chatters"), [(29_999, True), (30_000, False)])
def test_three_alerts_of_a_source_within_a_minute_chatter(gap_ms, chatters):
    told = load([Alert(n * gap_ms, "low", "door-1") for n in range(3)], 0, H)
    assert told.chattering == (("door-1",) if chatters else ())


def test_what_is_not_answered_for_a_day_is_stale():
    day = 24 * H
    told = load([Alert(0, "low", "a"), Alert(0, "low", "b", day), Alert(0, "low", "c", day + 1)], 0, 2 * day)
    assert told.stale == 2


@given(st.lists(st.integers(0, 3 * H - 1), max_size=60))
def test_the_peak_is_that_of_a_plain_count(times):
    told = load([Alert(t, "low", "s") for t in times], 0, 3 * H)
    assert told.peak == max([sum(1 for u in times if t <= u < t + 10 * M) for t in times], default=0)
