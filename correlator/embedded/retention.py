"""Retention of the embedded log, by age and by size, a little with each turn.

By age each table has its own days. When the file is larger than `max_bytes`, the oldest raw messages go,
then the oldest records, then what was told, then evidence: what can be told again least goes last.
Records that state does not hold yet are never removed.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from correlator.clock import DAY_MS
from correlator.embedded.log import EmbeddedLog
from correlator.embedded.settings import EmbeddedSettings
from correlator.ingest import metrics
from correlator.ingest.logs import Log
from correlator.inputs.sink import Clock
from correlator.privacy.private import Private

ROWS: Final = 2_000  # at once, so that no turn waits long
DELIVERY_DAYS: Final = 2.0  # senders repeat a delivery for hours, not for days
MOVEMENT: Final = ("events.enriched", "matches")  # who was where and when
BY_SIZE: Final = ("raw", "events", "output", "evidence")

_log = Log("embedded")


class Retention:
    """Removes what is too old or too much; `step` is called by the thread that writes."""

    def __init__(
        self, log: EmbeddedLog, settings: EmbeddedSettings, site: str, clock: Clock, private: Private | None = None
    ) -> None:
        self._log_file = log
        self._site = site
        self._settings = settings
        self._clock = clock
        self._private = private
        self._looked_at = 0.0
        self._more = False

    def step(self, applied: int) -> None:
        """Removes up to ROWS rows of each table when it is time; `applied`: last record that state may need."""
        at = time.monotonic()
        if not self._more and at - self._looked_at < self._settings.retention_s:
            return
        self._looked_at = at
        try:
            removed = self._by_age(applied)
            removed += self._by_size(applied)
            if removed:
                self._log_file.shrink()
        except sqlite3.OperationalError as error:
            _log.warning("retention_failed", detail=str(error))
            removed = 0
        # Without waiting for the next time: a portion was full, or the file is still too large and there was something.
        self._more = removed >= ROWS or (removed > 0 and self._log_file.bytes_used() > self._settings.max_bytes)
        metrics.log_bytes.set(self._log_file.bytes_used())
        metrics.log_oldest_ms.set(self._log_file.oldest_ms())
        entries, size = self._log_file.state_size()
        metrics.state_entries.labels(self._site).set(entries)
        metrics.state_bytes.labels(self._site).set(size)

    def _by_age(self, applied: int) -> int:
        settings, now = self._settings, self._clock()
        removed = 0
        ages: tuple[tuple[str, float, tuple[str, ...]], ...] = (
            ("raw", settings.keep_raw_days, ()),
            ("events", settings.keep_events_days, ()),
            ("output", settings.keep_movement_days, MOVEMENT),
            ("output", settings.keep_rejects_days, ("rejects",)),
            ("output", settings.keep_told_days, ()),
            ("evidence", settings.keep_evidence_days, ()),
            ("delivery", DELIVERY_DAYS, ()),
        )
        for table, days, topics in ages:
            count = self._log_file.trim(table, now - int(days * DAY_MS), ROWS, self._kept_from(applied), topics)
            metrics.log_trimmed.labels("age").inc(count)
            removed += count
        if self._private is not None:
            self._private.vault.trim(now - int(settings.keep_evidence_days * DAY_MS))
        return removed

    def _by_size(self, applied: int) -> int:
        for table in BY_SIZE:
            if self._log_file.bytes_used() <= self._settings.max_bytes:
                return 0
            count = self._log_file.trim_oldest(table, ROWS, self._kept_from(applied))
            if count:
                metrics.log_trimmed.labels("size").inc(count)
                return count
        return 0

    def _kept_from(self, applied: int) -> int:
        """The last checkpoint may be a moment old: records since then are folded again after a crash."""
        return min(applied, self._log_file.checkpoint())
