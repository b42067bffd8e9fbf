"""What pages show beside threats and journal: how things stand in the building, matches of rules, sources.

Like the view it is not the truth: everything here is read from what the engine tells (its state, `matches`,
`events.enriched`, `rejects`) and can be read again. Times are ms UTC.

    placed    where events were that hit a rule
    matched   matches of the last 30 days        heard     sources: newest event, how many were taken here
    refused   rejects by source and reason       kept      where on the topic a message kept as evidence is
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from correlator.clock import DAY_MS
from correlator.console.raw import Raw
from correlator.events.event import Event, Reject
from correlator.events.threat import Evidence, Match
from correlator.premises import Premises
from correlator.premises.live import LiveState
from correlator.sqlite import transaction

KEPT_DAYS: Final = 30
MOST_MATCHES: Final = 500_000  # kept; the oldest go first, and the page says so
LEARNS_MS: Final = DAY_MS  # a site's rates mean little before (docs/linking.md)
SCHEMA_VERSION: Final = 2
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS matched (
  site TEXT NOT NULL, id TEXT NOT NULL, rule TEXT NOT NULL, title TEXT NOT NULL, level TEXT NOT NULL,
  decided_by TEXT NOT NULL, state TEXT NOT NULL, opened_ms INTEGER NOT NULL, revision INTEGER NOT NULL,
  grouped BLOB NOT NULL, PRIMARY KEY (site, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS matched_by_rule ON matched (site, rule, opened_ms, state);
CREATE INDEX IF NOT EXISTS matched_by_time ON matched (opened_ms);
CREATE TABLE IF NOT EXISTS placed (
  site TEXT NOT NULL, event TEXT NOT NULL, place TEXT NOT NULL, time_ms INTEGER NOT NULL,
  PRIMARY KEY (site, event)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS placed_by_time ON placed (time_ms);
CREATE TABLE IF NOT EXISTS heard (
  site TEXT NOT NULL, source TEXT NOT NULL, dialect TEXT NOT NULL, last_ms INTEGER NOT NULL, events INTEGER NOT NULL,
  PRIMARY KEY (site, source)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
  site TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  detail TEXT NOT NULL, PRIMARY KEY (site, source, reason)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (
  event TEXT PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, time_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_by_time ON kept (time_ms);
CREATE TABLE IF NOT EXISTS positions (source TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""


class RuleHits(Struct, frozen=True):
    """How often a rule matched in the last day and in the last 30, how many of those were excepted, and when last."""

    rule: str
    title: str
    level: str
    day: int
    month: int
    excepted: int
    last_ms: int


class Heard(Struct, frozen=True):
    """A source: its newest event, how many were taken here, and rejects by reason with an example."""

    source: str
    dialect: str
    last_ms: int
    events: int
    refused: tuple[tuple[str, int, str], ...] = ()


class MatchRow(Struct, frozen=True):
    """A match as kept here; asset: where the event was that decided it, "" if nobody said."""

    id: str
    rule: str
    title: str
    asset: str
    opened_ms: int
    group: dict[str, Any]


class Facts:
    """The facts of all sites. as_of_ms: 0 where time goes on, else the end of what is looked at (a replay)."""

    def __init__(self, places: Mapping[str, Premises], path: Path | str = ":memory:", as_of_ms: int = 0) -> None:
        self.places, self.as_of_ms = places, as_of_ms
        self.live: dict[str, LiveState] = {}
        self.version = 0  # grows when live state changes
        self.learning_from_ms: dict[str, int] = {}
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")  # a lost tail is read again
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                self._db.execute(f"DROP TABLE {name}")
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def now_ms(self) -> int:
        """The time that "now" means on pages about the building."""
        return self.as_of_ms or time.time_ns() // 1_000_000

    # ---- writing -------------------------------------------------------------------------------

    def batch(self) -> AbstractContextManager[None]:
        """Everything inside is one transaction, positions included."""
        return transaction(self._db)

    def position(self, source: str) -> int:
        """How far a source was read, -1 if never."""
        row = self._db.execute("SELECT position FROM positions WHERE source = ?", (source,)).fetchone()
        return -1 if row is None else int(row[0])

    def reached(self, source: str, position: int) -> None:
        """Notes how far a source was read."""
        self._db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (source, position))

    def add_match(self, match: Match) -> None:
        """Takes a match, or a newer revision of it; early copies are told again in their turn."""
        if match.early:
            return
        self._db.execute(
            "INSERT INTO matched VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET state = excluded.state,"
            " level = excluded.level, revision = excluded.revision WHERE excluded.revision >= revision",
            (match.site, match.id, match.rule, match.title, match.level, match.decided_by, match.state,
             match.opened_ms, match.revision, msgspec.json.encode(match.group)),
        )  # fmt: skip

    def add_event(self, event: Event) -> None:
        """Notes that a source was heard."""
        self._db.execute(
            "INSERT INTO heard VALUES (?,?,?,?,1) ON CONFLICT DO UPDATE SET dialect = excluded.dialect,"
            " last_ms = max(last_ms, excluded.last_ms), events = events + 1",
            (event.site, event.source, event.dialect, event.received_ms),
        )

    def add_place(self, site: str, event: str, place: str, time_ms: int) -> None:
        """Notes on which asset an event was that hit a rule."""
        self._db.execute("INSERT OR IGNORE INTO placed VALUES (?,?,?,?)", (site, event, place, time_ms))

    def add_kept(self, event: str, partition: int, offset: int, time_ms: int) -> None:
        """Notes where, and since when, the raw message of an event is kept as evidence."""
        self._db.execute("INSERT OR REPLACE INTO kept VALUES (?,?,?,?)", (event, partition, offset, time_ms))

    def drop_kept(self, event: str) -> None:
        """The raw message of an event was erased."""
        self._db.execute("DELETE FROM kept WHERE event = ?", (event,))

    def kept(self, event: str) -> tuple[int, int] | None:
        """(partition, offset) of the raw message of an event, None if none is kept."""
        row = self._db.execute("SELECT partition, offset FROM kept WHERE event = ?", (event,)).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

    def add_reject(self, reject: Reject) -> None:
        """Counts a message that was not taken."""
        self._db.execute(
            "INSERT INTO refused VALUES (?,?,?,1,?,?) ON CONFLICT DO UPDATE SET count = count + 1,"
            " last_ms = max(last_ms, excluded.last_ms), detail = excluded.detail",
            (reject.site, reject.source, reject.reason, reject.received_ms, reject.detail[:500]),
        )

    def stands(self, site: str, entries: Mapping[str, bytes]) -> None:
        """Live state of a site, from its state entries (`correlator.premises.live`)."""
        places = self.places.get(site)
        if places is not None:
            fresh = LiveState(places.graph)  # never half: pages read in another thread
            fresh.restore(entries.items())
            self.live[site] = fresh
            self.version += 1

    def trim(self, before_ms: int = 0) -> Counter[str]:
        """Lets go of matches older than 30 days and beyond the bound, of sources and rejects not heard of since a
        time, and of where evidence older than that was kept; how many rows of each table."""
        gone: Counter[str] = Counter()
        oldest_ms = self.now_ms() - KEPT_DAYS * DAY_MS
        with self.batch():
            for table, column, t_ms in (
                ("matched", "opened_ms", oldest_ms), ("placed", "time_ms", oldest_ms), ("kept", "time_ms", before_ms),
                ("heard", "last_ms", before_ms), ("refused", "last_ms", before_ms),
            ):  # fmt: skip
                gone[table] = self._db.execute(f"DELETE FROM {table} WHERE {column} < ?", (t_ms,)).rowcount  # noqa: S608
            (count,) = self._db.execute("SELECT COUNT(*) FROM matched").fetchone()
            if count > MOST_MATCHES:
                gone["matched"] += self._db.execute(
                    "DELETE FROM matched WHERE opened_ms <= (SELECT opened_ms FROM matched ORDER BY opened_ms"
                    " LIMIT 1 OFFSET ?)",
                    (count - MOST_MATCHES - 1,),
                ).rowcount
        return gone

    # ---- reading -------------------------------------------------------------------------------

    def hits(self, site: str) -> dict[str, RuleHits]:
        """Rule -> how often it matched."""
        now_ms = self.now_ms()
        rows = self._db.execute(
            "SELECT rule, max(title), max(level), sum(opened_ms >= ?), count(*), sum(state = 'excepted'),"
            " max(opened_ms) FROM matched WHERE site = ? AND opened_ms >= ? GROUP BY rule",
            (now_ms - DAY_MS, site, now_ms - KEPT_DAYS * DAY_MS),
        )
        return {row[0]: RuleHits(*row) for row in rows}

    def matches(self, site: str, rule: str, limit: int = 50) -> list[MatchRow]:
        """The newest matches of a rule."""
        rows = self._db.execute(
            "SELECT id, rule, title, COALESCE(place, ''), opened_ms, grouped FROM matched m LEFT JOIN placed p"
            " ON p.site = m.site AND p.event = m.decided_by WHERE m.site = ? AND rule = ? AND opened_ms >= ?"
            " ORDER BY opened_ms DESC, id LIMIT ?",
            (site, rule, self.now_ms() - KEPT_DAYS * DAY_MS, limit),
        )
        return [
            MatchRow(id, key, title, of, opened_ms, msgspec.json.decode(grouped))
            for id, key, title, of, opened_ms, grouped in rows
        ]

    def would_hide(self, site: str, rule: str, asset: str, fields: Mapping[str, str]) -> list[MatchRow]:
        """Matches of the last 30 days that an exception would have kept from becoming findings.

        fields: field of the match's group -> value, compared as text; a field that is not in a group fits none
        (the engine also looks at the deciding event, which is not kept here).
        """
        told = [one for one in self.matches(site, rule, MOST_MATCHES) if not asset or one.asset == asset]
        return [one for one in told if all(_has(one.group.get(name), value) for name, value in fields.items())]

    def sources(self, site: str) -> list[Heard]:
        """Every source that was heard or refused, by name."""
        refused: dict[str, list[tuple[str, int, str]]] = {}
        for source, reason, count, detail in self._db.execute(
            "SELECT source, reason, count, detail FROM refused WHERE site = ? ORDER BY count DESC", (site,)
        ):
            refused.setdefault(source, []).append((reason, count, detail))
        rows = self._db.execute("SELECT source, dialect, last_ms, events FROM heard WHERE site = ?", (site,))
        told = {
            source: Heard(source, dialect, last_ms, events, tuple(refused.pop(source, ())))
            for source, dialect, last_ms, events in rows
        }
        told.update((name, Heard(name, "", 0, 0, tuple(reasons))) for name, reasons in refused.items())
        return [told[name] for name in sorted(told)]

    def unknowns(self, site: str) -> list[tuple[str, str, int, int, int]]:
        """(kind, id, events, first_ms, last_ms) of names the site file does not know."""
        live = self.live.get(site)
        return live.unknowns() if live is not None else []


def _has(value: Any, wanted: str) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(str(one) == wanted for one in values if one is not None)


class FactsFeed(Protocol):
    """Brings the facts up to date, and finds raw messages."""

    def poll(self, facts: Facts) -> bool:
        """Takes what is new; whether anything was. Raises JournalAway if the source does not answer."""
        ...

    def raw(self, site: str, evidence: Evidence) -> Raw | None:
        """The raw message of a piece of evidence, None if nobody kept it. Raises JournalAway."""
        ...

    def close(self) -> None:
        """Lets go of the sources."""
        ...
