"""How a time is read: offsets, fractions, and what is no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.clock import parse_iso, zone_named

NOON_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z


@pytest.mark.parametrize(
    ("text", "ms", "below"),
    [
        ("2026-03-01T12:00:00Z", 0, 0),
        ("2026-03-01 12:00:00Z", 0, 0),
        ("2026-03-01T12:00:00.2Z", 200, 0),
        ("2026-03-01T12:00:00,250Z", 250, 0),
        ("2026-03-01T13:00:00.250+0100", 250, 0),
        ("2026-03-01T06:30:00.250721-05:30", 250, 721_000),
        ("2026-03-01T12:00:00.2507Z", 250, 700_000),
        ("2026-03-01T12:00:00.2507211Z", 250, 721_100),
        ("2026-03-01T13:00:00.250721123+01:00", 250, 721_123),
        ("2026-03-01T12:00:00.0000009Z", 0, 900),
        ("20260301T120000Z", 0, 0),
        ("20260301T120000.1234567Z", 123, 456_700),
        ("2026-W09-7T12:00:00Z", 0, 0),
        ("2026-03-01T12:01:13+00:01:13", 0, 0),
    ],
)
def test_a_time_with_offset_is_read_to_the_nanosecond(text: str, ms: int, below: int) -> None:
    assert parse_iso(text) == (NOON_MS + ms, below)
    assert parse_iso(text, zone_named("Europe/Rome")) == (NOON_MS + ms, below)


@pytest.mark.parametrize(
    "text",
    ["", "12:00", "2026-03-01T12:00:00", "2026-03-01T12:00:00ZZ", "2026-03-01T12:00:00Z+0100",
     "2026-03-01T12:00:00+01:00+0100", "2026-03-01T25:00:00Z", "2026-02-30T12:00:00+0100", "2026-03-01T12:00:00+2500"],
)  # fmt: skip
def test_what_is_no_time_or_names_no_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_iso(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    stamp=st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31)),
    minutes=st.integers(-23 * 60, 23 * 60),
    colon=st.booleans(),
)
def test_a_time_of_any_offset_is_the_instant_it_names(stamp: datetime, minutes: int, colon: bool) -> None:
    aware = stamp.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = aware.isoformat()
    us = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_iso(text if colon else text[:-3] + text[-2:]) == (us // 1000, us % 1000 * 1000)
