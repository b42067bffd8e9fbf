"""The life of an event, top to bottom. Every carrier calls this and nothing beside it.

    message --sources.decode--> Event
      sorter    waits until the watermark passes it; repeated deliveries end here   matching/sorter.py
      edges     of repeated states only changes go on                               matching/edges.py
      match     windows, sequences, absences of the rules                           matching/matcher.py
      live      doors, presence and health as they now stand                        premises/live.py
      threats   matches into composite threats with their evidence                  threats/book.py
    --> matches, threats, events with their places, rejects

No I/O, no clock: `receive` folds one record of the log and returns what was decided.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Any

from correlator.linking.api import Linker
from correlator.linking.shared import SharedEvidenceLinker
from correlator.matching import Engine, EngineSettings, Outputs, Record
from correlator.rules.syntax import RuleSet
from correlator.threats.book import ThreatBook


class Pipeline:
    """Engine and threats of one site.

    places: the site model with live state (`correlator.premises.Premises`), or None.
    """

    def __init__(
        self,
        site: str,
        rules: RuleSet,
        places: Any = None,
        settings: EngineSettings | None = None,
        zone: tzinfo = UTC,
        linker: Linker | None = None,
    ) -> None:
        self.places = places
        self.book = ThreatBook(site, rules, linker if linker is not None else SharedEvidenceLinker(), places)
        self.engine = Engine(site, rules, places, settings, zone, sink=self.book)

    def receive(self, record: Record) -> Outputs:
        """Folds one record, then everything that its promises allow to be decided."""
        outputs = self.engine.receive(record)
        outputs.threats = self.book.drain()
        return outputs

    def finish(self, until_ms: int) -> Outputs:
        """Lets time go on to `until_ms` (ms UTC) and no further; what is undecided is told as open."""
        outputs = self.engine.finish(until_ms)
        open_matches = self.engine.matcher.open_matches()
        outputs.matches.extend(open_matches)
        outputs.threats = self.book.drain() + self.book.open_threats(open_matches)
        return outputs

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All state entries, by key."""
        entries = [(f"engine/{key}", value) for key, value in self.engine.snapshot()]
        entries += [(f"threats/{key}", value) for key, value in self.book.snapshot()]
        if self.places is not None:
            entries += [(f"live/{key}", value) for key, value in self.places.snapshot()]
        return sorted(entries)

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes a snapshot into a fresh pipeline with the same rules and site. Raises StateRefused."""
        parts: dict[str, list[tuple[str, bytes]]] = {"engine": [], "threats": [], "live": []}
        for key, value in entries:
            part, _, rest = key.partition("/")
            parts[part].append((rest, value))
        self.engine.restore(parts["engine"])
        self.book.restore(parts["threats"])
        if self.places is not None:
            self.places.restore(parts["live"])

    def counters(self) -> dict[str, int]:
        """What was dropped, repeated or late so far."""
        return {**self.engine.counters(), "evidence_missing": self.book.evidence_missing}
