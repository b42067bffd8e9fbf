"""Times and durations: the only place that knows units.

Inside the engine a time is an `int`: milliseconds since 1970-01-01T00:00:00Z. Nothing here reads a
clock; times come from messages and are passed in.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from zoneinfo import ZoneInfo, reset_tzpath

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

# Sigma 2.1 has s, m, h, d; pySigma adds w, M and y (a mean month and a mean year); ms is ours.
UNIT_MS: dict[str, int] = {
    "ms": 1,
    "s": SECOND_MS,
    "m": MINUTE_MS,
    "h": HOUR_MS,
    "d": DAY_MS,
    "w": 7 * DAY_MS,
    "M": 2_629_746 * SECOND_MS,
    "y": 31_556_952 * SECOND_MS,
}
reset_tzpath(())  # the rules of the locked tzdata package hold, not those of whatever machine this is

_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d|w|M|y)")

# A device that has lost its clock counts from 1970, 2000 or its firmware's date.
UNSET_BEFORE_MS = 978_307_200_000  # 2001-01-01T00:00:00Z
IMPOSSIBLE_FROM_MS = 4_102_444_800_000  # 2100-01-01T00:00:00Z


def duration_ms(text: str) -> int:
    """Milliseconds of "500ms", "10s", "5m", "2h", "1d", "1w", "1M" or "1y".

    Raises ValueError for anything else, for zero and for compounds such as "1h30m".
    """
    found = _DURATION.fullmatch(text.strip())
    if not found or int(found[1]) == 0:
        raise ValueError(f"{text!r} is not a duration such as 500ms, 10s, 5m, 2h or 1d")
    return int(found[1]) * UNIT_MS[found[2]]


def duration_text(ms: int) -> str:
    """The shortest exact form of a duration: 90000 -> "90s", 3600000 -> "1h"."""
    for unit in ("d", "h", "m", "s"):
        if ms and ms % UNIT_MS[unit] == 0:
            return f"{ms // UNIT_MS[unit]}{unit}"
    return f"{ms}ms"


def retry_after_ms(header: str, now_ms: int) -> int:
    """How long an HTTP server asks to be left alone (Retry-After: seconds or a date; RFC 9110, section 10.2.3);
    0 if it says nothing that can be read, a day at most."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:10]) * SECOND_MS, DAY_MS)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return 0
    wait_ms = int(then.replace(tzinfo=then.tzinfo or UTC).timestamp()) * SECOND_MS - now_ms
    return min(max(0, wait_ms), DAY_MS)


def epoch_ms(value: float) -> tuple[int, int]:
    """(ms, nanoseconds below the ms) of an epoch number in s, ms, us or ns, told apart by magnitude.

    1e11 s is the year 5138 and 1e11 ms is March 1973, so the bands do not meet for any time that a
    log can hold. Floats are seconds with a fraction (Zeek, Frigate) unless they are that large.
    """
    size = abs(value)
    if size < 1e11:
        scale_ns = 1_000_000_000
    elif size < 1e14:
        scale_ns = 1_000_000
    elif size < 1e17:
        scale_ns = 1_000
    else:
        scale_ns = 1
    if isinstance(value, int):
        total_ns = value * scale_ns
    else:
        # A double holds a present-day epoch to about 0.2 us: round there, not in the ms.
        total_ns = round(value * (scale_ns // 1_000)) * 1_000 if scale_ns >= 1_000 else round(value)
    return total_ns // 1_000_000, total_ns % 1_000_000


class NoZone(ValueError):
    """A time without offset where no zone is declared."""


_FRACTION = re.compile(r"[.,](\d+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH_NAIVE = datetime(1970, 1, 1)  # noqa: DTZ001 - what a clock says before its offset is taken off
_DATETIME_CHARS = len("YYYY-MM-DDThh:mm:ss.ffffff")  # a longer one has digits that `datetime` drops
# "+0100" and "+01:00" -> ms, as zones have them: whole quarters of an hour
_OFFSETS_MS: dict[str, int] = {
    f"{sign}{quarters // 4:02d}{colon}{quarters % 4 * 15:02d}": one * quarters * 15 * MINUTE_MS
    for sign, one in (("+", 1), ("-", -1))
    for colon in ("", ":")
    for quarters in range(15 * 4)
}


def parse_iso(text: str, naive_zone: tzinfo | None = None) -> tuple[int, int]:
    """(ms, nanoseconds below the ms) of an ISO 8601 / RFC 3339 time.

    Takes what Python 3.11's `fromisoformat` takes, so "+0100" and "Z" too; digits beyond the
    microsecond are kept in the second number. A time without offset is read in `naive_zone`.
    Raises ValueError if it is no time; NoZone, which is one, if it has no offset and `naive_zone` is None.
    """
    # Nearly all have this layout. Two times of one zone are subtracted seven times as fast as of two zones.
    clock, offset_ms = text[:-6], _OFFSETS_MS.get(text[-6:])
    if offset_ms is None:
        clock, offset_ms = (text[:-1], 0) if text[-1:] == "Z" else (text[:-5], _OFFSETS_MS.get(text[-5:]))
    if offset_ms is not None and text[13:14] == ":" and len(clock) <= _DATETIME_CHARS:
        naive = datetime.fromisoformat(clock)
        if naive.tzinfo is None:  # else two offsets were given
            us = (naive - _EPOCH_NAIVE) // _MICROSECOND
            return us // 1_000 - offset_ms, us % 1_000 * 1_000
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is not None:
        passed = stamp - _EPOCH
    elif naive_zone is UTC:
        passed = stamp - _EPOCH_NAIVE
    elif naive_zone is not None:
        passed = stamp.replace(tzinfo=naive_zone) - _EPOCH
    else:
        raise NoZone(f"{text!r} has no offset and no zone is declared")
    us = passed // _MICROSECOND
    ms, below = us // 1_000, us % 1_000 * 1_000
    if text[13:14] == ":" and len(text) <= _DATETIME_CHARS:
        return ms, below
    fraction = _FRACTION.search(text)
    if fraction and len(fraction[1]) > 6:
        below = int(fraction[1][3:9].ljust(6, "0"))
    return ms, below


def utc_text(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, "2026-03-01T02:14:05.250Z"."""
    stamp = _EPOCH + timedelta(milliseconds=ms)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def local(ms: int, zone: tzinfo) -> datetime:
    """The wall-clock time of a zone, as an aware datetime."""
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)


def zone_rules_version() -> str:
    """The version of the time zone rules, which are part of what decides."""
    return version("tzdata")


def zone_named(name: str) -> tzinfo:
    """The zone of an IANA name, "UTC" or an offset such as "+02:00". Raises ValueError."""
    if name in ("UTC", "Z"):
        return UTC
    offset = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", name)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return ZoneInfo(name)
    except Exception as error:  # zoneinfo raises KeyError, ValueError or OSError by kind of name
        raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Rome") from error
