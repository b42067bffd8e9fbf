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

from dataclasses import replace
from datetime import UTC, tzinfo
from operator import itemgetter
from typing import Any

from correlator.errors import StateRefused
from correlator.events.identity import renamed
from correlator.impact.live import LiveImpact
from correlator.linking.api import Linker
from correlator.linking.linker import GraphLinker
from correlator.linking.shared import SharedEvidenceLinker
from correlator.matching import Engine, EngineSettings, Outputs, Record
from correlator.matching.carry import carried_over
from correlator.rules.syntax import RuleSet
from correlator.threats.book import ThreatBook
from correlator.threats.decisions import Decision


class Pipeline:
    """Engine and threats of one site.

    places: the site model with live state (`correlator.premises.Premises`), or None. retired: rules of
    an earlier configuration that decide no more but whose findings open threats still hold. impact: what
    threats may lead to, or None. `correlator.run.deciding` makes one as carriers run it.
    """

    def __init__(
        self,
        site: str,
        rules: RuleSet,
        places: Any = None,
        settings: EngineSettings | None = None,
        zone: tzinfo = UTC,
        linker: Linker | None = None,
        retired: RuleSet | None = None,
        impact: LiveImpact | None = None,
    ) -> None:
        self.places = places
        self._tokens: dict[str, str] = places.site.tokens if places is not None else {}
        told = rules if retired is None else _with_retired(rules, retired)
        self.impact = impact
        self.book = ThreatBook(site, told, linker if linker is not None else SharedEvidenceLinker(), places, impact)
        self.engine = Engine(site, rules, places, settings, zone, sink=self.book)

    def receive(self, record: Record) -> Outputs:
        """Folds one record, then everything that its promises allow to be decided."""
        if self._tokens:
            record = replace(record, events=[renamed(event, self._tokens) for event in record.events])
        outputs = self.engine.receive(record)
        outputs.matches = self.book.as_written(outputs.matches)
        outputs.threats = self.book.drain()
        return outputs

    def finish(self, until_ms: int) -> Outputs:
        """Lets time go on to `until_ms` (ms UTC) and no further; what is undecided is told as open."""
        outputs = self.engine.finish(until_ms)
        open_matches = self.engine.matcher.open_matches()
        outputs.matches.extend(open_matches)
        outputs.matches = self.book.as_written(outputs.matches)
        outputs.threats = self.book.drain() + self.book.open_threats(open_matches)
        return outputs

    def next_due_ms(self) -> int:
        """Time of the earliest that waits to be decided, an event or a deadline; -1 if nothing waits.

        A carrier need not write promises to its log before the watermark can pass this time.
        """
        engine = self.engine
        times = (engine.sorter.next_ms(), engine.matcher.next_deadline_ms(), self.book.next_deadline_ms())
        return min((one for one in times if one >= 0), default=-1)

    def act(self, id: str, kind: str, at_ms: int, body: dict[str, Any]) -> str:
        """Takes a decision of a person (docs/streaming.md, "Decisions"). Returns why it cannot be taken, "" if it is.

        It acts between the events before and behind at_ms, which the process stamped that took it; at the
        watermark if that is later.
        """
        return self.book.decide(Decision(id, kind, max(at_ms, self.engine.watermark_ms()), body))

    def take_over(self, before: Pipeline) -> int:
        """Goes on where a pipeline with other rules or another site stopped; before anything is folded.

        State of rules whose compiled form is the same is kept, and what linking has learned while it stays on.
        Returns how many entries were dropped.
        """
        kept: list[tuple[str, bytes]] = []
        of_engine: list[tuple[str, bytes]] = []
        for key, value in before.snapshot():
            if key.startswith("engine/"):
                of_engine.append((key.removeprefix("engine/"), value))
            else:
                kept.append((key, value))
        carried, dropped = carried_over(of_engine, before.engine.plan, self.engine.plan)
        was, now = before.book.linker, self.book.linker
        if isinstance(was, GraphLinker) and isinstance(now, SharedEvidenceLinker):  # linking was switched off
            by_graph = [one for one in kept if one[0].startswith("threats/1/linker/")]
            kept = [one for one in kept if one not in by_graph]
            dropped += len(by_graph)
        self.restore([*kept, *((f"engine/{key}", value) for key, value in carried)])
        if isinstance(was, GraphLinker) and isinstance(now, SharedEvidenceLinker):
            now.rename(was.names())
        return dropped

    def changes(self) -> list[tuple[str, bytes | None]]:
        """State entries changed (None: deleted) since the last call, by key. Needs `track_changes`."""
        found: list[tuple[str, bytes | None]] = [(f"engine/{key}", value) for key, value in self.engine.changes()]
        found += [(f"threats/{key}", value) for key, value in self.book.changes()]
        if self.impact is not None:
            found += [(f"impact/{key}", value) for key, value in self.impact.changes()]
        if self.places is not None:
            found += [(f"live/{key}", value) for key, value in self.places.changes()]
        return sorted(found, key=itemgetter(0))

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All state entries, by key."""
        entries = [(f"engine/{key}", value) for key, value in self.engine.snapshot()]
        entries += [(f"threats/{key}", value) for key, value in self.book.snapshot()]
        if self.impact is not None:
            entries += [(f"impact/{key}", value) for key, value in self.impact.snapshot()]
        if self.places is not None:
            entries += [(f"live/{key}", value) for key, value in self.places.snapshot()]
        return sorted(entries)

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes a snapshot into a fresh pipeline with the same rules and site. Raises StateRefused."""
        parts: dict[str, list[tuple[str, bytes]]] = {"engine": [], "threats": [], "impact": [], "live": []}
        for key, value in entries:
            part, _, rest = key.partition("/")
            if part not in parts:
                raise StateRefused(f"state entry {key!r} is of no component that this release knows")
            parts[part].append((rest, value))
        self.engine.restore(parts["engine"])
        self.book.restore(parts["threats"])
        if self.impact is not None:
            self.impact.restore(parts["impact"])
        if self.places is not None:
            self.places.restore(parts["live"])

    def counters(self) -> dict[str, int]:
        """What was dropped, repeated or late so far."""
        linker, impact = self.book.linker, self.impact
        return {
            **self.engine.counters(),
            **self.book.counters(),
            **(linker.counters() if isinstance(linker, GraphLinker) else {}),
            **(impact.counters() if impact is not None else {}),
        }


def _with_retired(rules: RuleSet, retired: RuleSet) -> RuleSet:
    return replace(
        rules,
        detections={**retired.detections, **rules.detections},
        correlations={**retired.correlations, **rules.correlations},
    )
