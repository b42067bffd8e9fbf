"""Moves the metrics of a site's engine: the same for every carrier.

Counts of an engine only grow; the metrics get the differences since the last look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from correlator.events.event import Event
from correlator.ingest import metrics
from correlator.run.site_engine import SiteEngine

# counter of the engine -> bound it tells of
_BOUNDS: Final = {
    "groups_dropped": "groups", "groups_refused": "groups_refused", "window_events_dropped": "window_events",
    "linking_evicted": "linking_threats", "linking_members_counted": "linking_members",
    "linking_kinds_shared": "linking_kinds", "linking_rates_dropped": "linking_rates",
    "impact_paths_refused": "impact_paths",
}  # fmt: skip


class _Match(Struct):
    rule: str


class _Threat(Struct):
    id: str
    phase: str
    decided_ms: int = 0


class _Reject(Struct):
    reason: str
    site: str = ""


_match: Final = msgspec.json.Decoder(_Match).decode
_threat: Final = msgspec.json.Decoder(_Threat).decode
_reject: Final = msgspec.json.Decoder(_Reject).decode


class SiteMeter:
    """The metrics of one site. Times are ms UTC by the machine's clock."""

    def __init__(self, site: str) -> None:
        self.site = site
        self._before: dict[str, int] = {}
        self._open: set[str] = set()

    def engine(self, engine: SiteEngine, now_ms: int) -> None:
        """What the engine counted since the last call, and how far its time is behind."""
        counters = engine.counters()
        grown = {name: max(value - self._before.get(name, 0), 0) for name, value in counters.items()}
        self._before = counters
        metrics.folded.labels(self.site).inc(grown.get("folded", 0))
        metrics.late.labels(self.site).inc(grown.get("late", 0))
        metrics.duplicates.labels(self.site, "delivery").inc(grown.get("duplicates", 0))
        metrics.duplicates.labels(self.site, "transport").inc(grown.get("repeated_records", 0))
        metrics.poisoned.labels(self.site).inc(grown.get("poisoned", 0))
        for name, bound in _BOUNDS.items():
            metrics.dropped.labels(self.site, bound).inc(grown.get(name, 0))
        metrics.learning.labels(self.site).set(engine.learning())
        watermark_ms = engine.watermark_ms()
        if watermark_ms >= 0:
            metrics.watermark_delay_ms.labels(self.site).set(max(now_ms - watermark_ms, 0))
        metrics.threats_open.labels(self.site).set(len(self._open))

    def told(self, topic: str, value: bytes, now_ms: int) -> None:
        """A message that was written."""
        if topic == "matches":
            metrics.matches.labels(self.site, _match(value).rule).inc()
        elif topic == "rejects":
            told = _reject(value)
            metrics.rejects.labels(told.site or "_unknown", told.reason).inc()
        elif topic == "threats":
            threat = _threat(value)
            metrics.threats.labels(self.site, threat.phase).inc()
            if threat.phase in ("quiet", "merged"):
                self._open.discard(threat.id)
            else:
                self._open.add(threat.id)
                metrics.end_to_end.labels(self.site).observe(max(now_ms - threat.decided_ms, 0) / 1000)


def decoded(site: str, events: Iterable[Event]) -> None:
    """Events of a site that were decoded: how many by source, and what their clocks said."""
    by_source: dict[str, int] = {}
    skew_ms: dict[str, int] = {}
    for event in events:
        by_source[event.source] = by_source.get(event.source, 0) + 1
        if event.device_ms is not None and not event.retained:
            skew_ms[event.source] = event.received_ms - event.device_ms
    for source, count in by_source.items():
        metrics.events.labels(site, source).inc(count)
    for source, difference in skew_ms.items():
        metrics.clock_skew_ms.labels(source).set(difference)
