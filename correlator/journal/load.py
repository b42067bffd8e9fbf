"""Alarm load of the people who are told, after ISA-18.2 (2016, section 16) and EEMUA 191 (edition 3).

An alert is one message that asks a person to act. Figures are of one operator position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from correlator.clock import DAY_MS, MINUTE_MS

WINDOW_MS = 10 * MINUTE_MS
ACCEPTABLE_PER_10_MIN, MANAGEABLE_PER_10_MIN, FLOOD_PER_10_MIN = 1, 2, 10
CHATTER_COUNT, CHATTER_MS = 3, MINUTE_MS
TARGET_SHARES = {"low": 0.80, "medium": 0.15, "high": 0.05}  # critical: under 1 %


class Alert(Struct, frozen=True, gc=False):
    """An alert as it was sent: when (ms UTC), how severe, what made it, and when it was answered (-1: not)."""

    t_ms: int
    severity: str
    source: str
    answered_ms: int = -1


class Load(Struct, frozen=True):
    """What an operator bears from `from_ms` to `to_ms`.

    per_10_min   mean number of alerts in ten minutes
    peak         most alerts in any ten minutes
    flood_share  share of ten-minute intervals with more than ten alerts; under 0.01 is good
    shares       share of alerts by severity
    top_ten      the ten sources with the most alerts and their share of all
    chattering   sources with three alerts within a minute
    stale        alerts not answered for a day
    """

    alerts: int
    from_ms: int
    to_ms: int
    per_10_min: float
    peak: int
    flood_share: float
    shares: dict[str, float]
    top_ten: tuple[tuple[str, float], ...]
    chattering: tuple[str, ...]
    stale: int

    @property
    def verdict(self) -> str:
        """acceptable, manageable or too much."""
        if self.flood_share >= 0.01:
            return "too much"
        if self.per_10_min <= ACCEPTABLE_PER_10_MIN:
            return "acceptable"
        return "manageable" if self.per_10_min <= MANAGEABLE_PER_10_MIN else "too much"


def load(alerts: Iterable[Alert], from_ms: int, to_ms: int) -> Load:
    """The load of the alerts with from_ms <= t_ms < to_ms."""
    told = sorted((one for one in alerts if from_ms <= one.t_ms < to_ms), key=lambda one: (one.t_ms, one.source))
    intervals = max(1, -(-(to_ms - from_ms) // WINDOW_MS))
    by_interval = Counter((one.t_ms - from_ms) // WINDOW_MS for one in told)
    times = [one.t_ms for one in told]
    sources = Counter(one.source for one in told)
    by_source: dict[str, list[int]] = {}
    for one in told:
        by_source.setdefault(one.source, []).append(one.t_ms)
    count = len(told)
    severities = Counter(one.severity for one in told)
    return Load(
        alerts=count,
        from_ms=from_ms,
        to_ms=to_ms,
        per_10_min=round(count / intervals, 3),
        peak=_most_within(times, WINDOW_MS),
        flood_share=round(sum(n > FLOOD_PER_10_MIN for n in by_interval.values()) / intervals, 4),
        shares={name: round(n / count, 4) for name, n in sorted(severities.items())},
        top_ten=tuple(
            (name, round(n / count, 4))
            for name, n in sorted(sources.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
        ),
        chattering=tuple(
            sorted(name for name, when in by_source.items() if _most_within(when, CHATTER_MS) >= CHATTER_COUNT)
        ),
        stale=sum((one.answered_ms if one.answered_ms >= 0 else to_ms) - one.t_ms > DAY_MS for one in told),
    )


def _most_within(times: list[int], span_ms: int) -> int:
    """The largest number of times in any half-open interval of a length; times ascending."""
    most = first = 0
    for last, t_ms in enumerate(times):
        while times[first] <= t_ms - span_ms:
            first += 1
        most = max(most, last - first + 1)
    return most
