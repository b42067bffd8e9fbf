"""Moves the metrics of the embedded carrier after each committed turn."""

from __future__ import annotations

from correlator.embedded.log import Turn
from correlator.ingest import metrics
from correlator.ingest.intake import Intake
from correlator.ingest.meter import SiteMeter, decoded
from correlator.run.partition import PartitionEngine


class Meter:
    """The metrics of one site's carrier."""

    def __init__(self, site: str) -> None:
        self.site = site
        self._site = SiteMeter(site)
        self._silent = 0

    def turn(self, turn: Turn, engine: PartitionEngine, intake: Intake, now_ms: int) -> None:
        """After a turn was written."""
        site = engine.sites.get(self.site)
        if site is None:
            return
        metrics.evidence_kept.labels(self.site).inc(len(turn.wanted))
        silent, self._silent = self._silent, intake.counts.silent
        metrics.silent.labels(self.site).inc(intake.counts.silent - silent)
        for record in turn.taken:
            decoded(self.site, record.events)
        for message in turn.outputs:
            self._site.told(message.topic, message.value, now_ms)
        self._site.engine(site, now_ms)
