"""A view of threats and journal in a SQLite file: what the console lists and the notifier looks at.

Not the truth: rows and the positions they come from are written in one transaction, so a process that is
killed goes on where it stood, and a file that is deleted is built again from the topics.

    threats     newest revision of each threat          handlings   what people did with it
    acts        the journal with outcomes               declared    windows and exceptions
    sites       chain and count of a site's journal     positions   how far each source was read
    health      when a sensor, camera or reader last went dark, came back, had a low or a good battery
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from correlator.events.threat import Threat
from correlator.journal.action import Act, to_bytes
from correlator.journal.fold import DEFAULT_MAX_SHELF_MS, Declared, Fold, Handling, Outcome, seen_key
from correlator.sqlite import transaction

SCHEMA_VERSION: Final = 2
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS threats (
  id TEXT PRIMARY KEY, site TEXT NOT NULL, phase TEXT NOT NULL, severity INTEGER NOT NULL, title TEXT NOT NULL,
  revision INTEGER NOT NULL, opened_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, decided_ms INTEGER NOT NULL,
  body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS threats_by_site ON threats (site, phase, severity, decided_ms);
CREATE TABLE IF NOT EXISTS handlings (
  threat TEXT PRIMARY KEY, site TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL,
  body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acts (
  site TEXT NOT NULL, position INTEGER NOT NULL, threat TEXT NOT NULL, seen BLOB NOT NULL, result TEXT NOT NULL,
  reason TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (site, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS acts_by_threat ON acts (threat);
CREATE TABLE IF NOT EXISTS declared (
  site TEXT NOT NULL, id TEXT NOT NULL, until_ms INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (site, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sites (site TEXT PRIMARY KEY, chain BLOB NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS health (
  site TEXT NOT NULL, thing TEXT NOT NULL, place TEXT NOT NULL, offline INTEGER NOT NULL DEFAULT 0,
  online INTEGER NOT NULL DEFAULT 0, battery_low INTEGER NOT NULL DEFAULT 0, battery_ok INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (site, thing)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (source TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""

# What an event kind says about health, behind its dot; the columns of the table are called the same.
HEALTH: Final = ("offline", "online", "battery_low", "battery_ok")
SEVERITY_RANK: Final = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}

_pack: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_threat: Final = msgspec.msgpack.Decoder(Threat).decode
_handling: Final = msgspec.msgpack.Decoder(Handling).decode
_declared: Final = msgspec.msgpack.Decoder(Declared).decode


class Listed(msgspec.Struct, frozen=True, gc=False):
    """A row of the list: the threat's newest revision and how it is handled."""

    threat: Threat
    handling: Handling


class Opening(msgspec.Struct, frozen=True, gc=False):
    """When a threat opened, how severe it is, the rule of its first finding ("" for none), and when somebody
    answered (-1: nobody)."""

    opened_ms: int
    severity: str
    rule: str
    title: str
    answered_ms: int


class _OpenedStep(msgspec.Struct):
    rule: str = ""


class _Opened(msgspec.Struct):
    """Of a threat only what counting needs: the rest of its body is passed over."""

    id: str
    site: str
    severity: str
    title: str
    opened_ms: int
    steps: list[_OpenedStep] = []


_opened: Final = msgspec.msgpack.Decoder(_Opened).decode


class Health(msgspec.Struct, frozen=True, gc=False):
    """A sensor, camera or reader that said something about its health, 0 for never; times in ms UTC.

    thing: kind and id ("camera cam-store"); place: words for where it is, "" if not known.
    """

    thing: str
    place: str
    offline: int
    online: int
    battery_low: int
    battery_ok: int


class View:
    """The view in one file; ":memory:" for tests. A file of another version is built anew."""

    def __init__(self, path: Path | str, max_shelf_ms: int = DEFAULT_MAX_SHELF_MS) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")  # a lost tail is read again from the topics
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            tables = [name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in tables:
                self._db.execute(f"DROP TABLE {name}")
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._max_shelf_ms = max_shelf_ms
        self._folds: dict[str, Fold] = {}

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    # ---- writing -------------------------------------------------------------------------------

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Everything inside is one transaction, positions included; after an error nothing of it remains."""
        try:
            with transaction(self._db):
                yield
        except BaseException:
            self._folds.clear()  # may hold what was rolled back
            raise

    def reached(self, source: str, position: int) -> None:
        """Notes how far a source (topic and partition, or file) was read."""
        self._db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (source, position))

    def add_threat(self, threat: Threat) -> bool:
        """Takes a revision; False if the view has this one or a newer one already."""
        row = self._db.execute("SELECT revision FROM threats WHERE id = ?", (threat.id,)).fetchone()
        if row is not None and row[0] >= threat.revision:
            return False
        values = (
            threat.id, threat.site, threat.phase, SEVERITY_RANK.get(threat.severity, 0), threat.title,
            threat.revision, threat.opened_ms, threat.last_ms, threat.decided_ms, _pack(threat),
        )  # fmt: skip
        self._db.execute("INSERT OR REPLACE INTO threats VALUES (?,?,?,?,?,?,?,?,?,?)", values)
        return True

    def add_health(self, site: str, thing: str, place: str, what: str, t_ms: int) -> None:
        """Notes what a thing said about its health (`what` is one of HEALTH) at a time; the latest time counts."""
        assert what in HEALTH
        self._db.execute(
            f"INSERT INTO health (site, thing, place, {what}) VALUES (?, ?, ?, ?) ON CONFLICT (site, thing)"  # noqa: S608
            f" DO UPDATE SET {what} = MAX({what}, excluded.{what}), place = excluded.place",
            (site, thing, place, t_ms),
        )

    def add_act(self, act: Act, position: int) -> Outcome:
        """Folds the next action of a site's journal and keeps it with its outcome."""
        fold = self.fold(act.site)
        before = {name: fold.handling(name).version for name in _touched(act)}
        outcome = fold.add(act)
        for name, version in before.items():
            handling = fold.handling(name)
            if handling.version != version:
                row = (name, act.site, handling.state, handling.owner, _pack(handling))
                self._db.execute("INSERT OR REPLACE INTO handlings VALUES (?,?,?,?,?)", row)
        if outcome.result == "done" and act.verb in ("window", "exception"):
            name = str(act.args.get("id") or act.id)
            declared = fold.declared[name]
            self._db.execute(
                "INSERT OR REPLACE INTO declared VALUES (?,?,?,?)", (act.site, name, declared.until_ms, _pack(declared))
            )
        self._db.execute(
            "INSERT OR REPLACE INTO acts VALUES (?,?,?,?,?,?,?)",
            (act.site, position, act.threat, seen_key(act.id), outcome.result, outcome.reason, to_bytes(act)),
        )
        self._db.execute("INSERT OR REPLACE INTO sites VALUES (?,?,?)", (act.site, fold.chain, fold.count))
        return outcome

    def trim(self, before_ms: int) -> Counter[str]:
        """Lets go of what is over and untouched since a time; how many rows of each table.

        Threats that are quiet, merged or closed, with what people did with them; declarations that ended; actions
        that belong to no threat here any more; things not heard of. What is open stays however old it is, and so
        does the hash of the journal, whose truth is the topic. A view built anew and trimmed is this view.
        """
        gone: Counter[str] = Counter()
        with self.batch():
            rows = self._db.execute(
                "SELECT t.id, h.body FROM threats t LEFT JOIN handlings h ON h.threat = t.id WHERE t.decided_ms < ?"
                " AND (t.phase NOT IN ('threat', 'watch') OR h.state = 'closed')",
                (before_ms,),
            ).fetchall()
            over = [(id,) for id, body in rows if body is None or _handling(body).touched_ms < before_ms]
            self._db.executemany("DELETE FROM threats WHERE id = ?", over)
            gone["threats"] = len(over)
            # A threat that its topic let go before this file was built has a handling only.
            rows = self._db.execute(
                "SELECT threat, body FROM handlings WHERE threat NOT IN (SELECT id FROM threats)"
            ).fetchall()
            old = [(threat,) for threat, body in rows if _handling(body).touched_ms < before_ms]
            self._db.executemany("DELETE FROM handlings WHERE threat = ?", old)
            gone["handlings"] = len(old)
            alone = "threat NOT IN (SELECT id FROM threats UNION SELECT threat FROM handlings)"
            for table, which in (
                ("acts", f"json_extract(CAST(body AS TEXT), '$.at_ms') < ? AND {alone}"),
                ("declared", "until_ms < ?"),
                ("health", "MAX(offline, online, battery_low, battery_ok) < ?"),
            ):
                gone[table] = self._db.execute(f"DELETE FROM {table} WHERE {which}", (before_ms,)).rowcount  # noqa: S608
        # Not made anew: pages read the folds from other threads. Ids that were seen stay until the next start.
        for fold in self._folds.values():
            for (threat,) in old:
                fold.handlings.pop(threat, None)
            fold.declared = {name: one for name, one in fold.declared.items() if one.until_ms >= before_ms}
        return gone

    # ---- reading -------------------------------------------------------------------------------

    def position(self, source: str) -> int:
        """How far a source was read, -1 if never."""
        row = self._db.execute("SELECT position FROM positions WHERE source = ?", (source,)).fetchone()
        return -1 if row is None else int(row[0])

    def total(self) -> int:
        """A number that grows with whatever is taken; the same in every view that stands where this one stands."""
        (total,) = self._db.execute("SELECT COALESCE(SUM(position + 1), 0) FROM positions").fetchone()
        return int(total)

    def fold(self, site: str) -> Fold:
        """The fold of a site's journal, as far as it was read."""
        fold = self._folds.get(site)
        if fold is None:
            fold = self._folds[site] = Fold(site, self._max_shelf_ms)
            row = self._db.execute("SELECT chain, count FROM sites WHERE site = ?", (site,)).fetchone()
            if row is not None:
                rows = self._db.execute("SELECT threat, body FROM handlings WHERE site = ?", (site,))
                handlings = {threat: _handling(body) for threat, body in rows}
                rows = self._db.execute("SELECT id, body FROM declared WHERE site = ?", (site,))
                declared = {id: _declared(body) for id, body in rows}
                seen = {key for (key,) in self._db.execute("SELECT seen FROM acts WHERE site = ?", (site,))}
                fold.restore(handlings, declared, row[0], row[1], seen)
        return fold

    def threat(self, id: str) -> Listed | None:
        """The newest revision of a threat and its handling."""
        row = self._db.execute("SELECT body FROM threats WHERE id = ?", (id,)).fetchone()
        if row is None:
            return None
        threat = _threat(row[0])
        return Listed(threat, self.fold(threat.site).handling(id))

    def threats(
        self, sites: tuple[str, ...] = (), *, open_only: bool = True, handled_only: bool = False, text: str = "",
        limit: int = 200, skip: int = 0,
    ) -> list[Listed]:  # fmt: skip
        """Threats for a list: highest severity first, then newest; of all sites if none is named.

        open_only: neither quiet nor merged, and not closed by people. handled_only: people did something with it.
        text: stands in the title.
        """
        where: list[str] = []
        values: list[Any] = []
        if sites:
            where.append(f"t.site IN ({','.join('?' * len(sites))})")
            values += sites
        if open_only:
            where.append("t.phase IN ('threat', 'watch') AND COALESCE(h.state, 'new') != 'closed'")
        if handled_only:
            where.append("h.threat IS NOT NULL")
        if text:
            where.append("t.title LIKE ? ESCAPE '\\'")
            escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            values.append(f"%{escaped}%")
        clause = f"WHERE {' AND '.join(where)}" if where else ""
        rows = self._db.execute(
            f"SELECT t.body FROM threats t LEFT JOIN handlings h ON h.threat = t.id {clause}"  # noqa: S608 - no text of users
            " ORDER BY t.severity DESC, t.decided_ms DESC, t.id LIMIT ? OFFSET ?",
            (*values, limit, skip),
        )
        threats = [_threat(body) for (body,) in rows]
        return [Listed(threat, self.fold(threat.site).handling(threat.id)) for threat in threats]

    def open_ids(self) -> list[str]:
        """Ids of all threats that are neither quiet nor merged, and not closed by people."""
        rows = self._db.execute(
            "SELECT t.id FROM threats t LEFT JOIN handlings h ON h.threat = t.id"
            " WHERE t.phase IN ('threat', 'watch') AND COALESCE(h.state, 'new') != 'closed'"
        )
        return [name for (name,) in rows]

    def since(self, sites: tuple[str, ...], from_ms: int, *, handled: bool = False) -> Iterator[Listed]:
        """Threats of these sites (all if none is named) that were opened at or after a time, in whatever state.

        handled: only those with which people did something, which are few among many.
        """
        clause = f"AND site IN ({','.join('?' * len(sites))})" if sites else ""
        if handled:
            clause += " AND id IN (SELECT threat FROM handlings)"
        rows = self._db.execute(f"SELECT body FROM threats WHERE opened_ms >= ? {clause}", (from_ms, *sites))  # noqa: S608
        for body in (body for (body,) in rows.fetchall()):
            threat = _threat(body)
            yield Listed(threat, self.fold(threat.site).handling(threat.id))

    def openings(self, sites: tuple[str, ...] = ()) -> Iterator[Opening]:
        """Every threat that alerted somebody, by what is needed to count alerts."""
        clause = f"AND site IN ({','.join('?' * len(sites))})" if sites else ""
        rows = self._db.execute(f"SELECT body FROM threats WHERE phase != 'watch' {clause}", sites)  # noqa: S608
        for body in (body for (body,) in rows.fetchall()):
            told = _opened(body)
            handling = self.fold(told.site).handling(told.id)
            rule = told.steps[0].rule if told.steps else ""
            answered_ms = handling.acked_ms or handling.closed_ms or -1
            yield Opening(told.opened_ms, told.severity, rule, told.title, answered_ms)

    def acts(
        self, site: str, *, threat: str = "", after: int = -1, limit: int = 1_000, newest: int = 0
    ) -> list[tuple[int, Act, Outcome]]:
        """The journal of a site, or of one threat in it: position, action, outcome, in their order.

        newest: the last so many instead of the first `limit`.
        """
        clause, values = ("AND threat = ?", (site, after, threat)) if threat else ("", (site, after))
        rows = self._db.execute(
            f"SELECT position, body, result, reason FROM acts WHERE site = ? AND position > ? {clause}"  # noqa: S608
            f" ORDER BY position {'DESC' if newest else ''} LIMIT ?",
            (*values, newest or limit),
        ).fetchall()
        return [
            (position, msgspec.json.decode(body, type=Act), Outcome(result, reason))
            for position, body, result, reason in (reversed(rows) if newest else rows)
        ]

    def health(self, site: str) -> list[Health]:
        """Everything of a site that ever said something about its health, by name."""
        rows = self._db.execute(
            "SELECT thing, place, offline, online, battery_low, battery_ok FROM health WHERE site = ? ORDER BY thing",
            (site,),
        )
        return [Health(*row) for row in rows]

    def digest(self) -> str:
        """A hash over all rows but positions: equal views are equal here, whoever built them."""
        made = blake2b(digest_size=16)
        for table, order in (("threats", "id"), ("handlings", "threat"), ("acts", "site, position"),
                             ("declared", "site, id"), ("sites", "site")):  # fmt: skip
            for row in self._db.execute(f"SELECT * FROM {table} ORDER BY {order}"):  # noqa: S608 - names of ours
                made.update(repr(row).encode())
        return made.hexdigest()


def _touched(act: Act) -> list[str]:
    """Threats whose handling an action may change."""
    if act.verb == "handover":
        named = act.args.get("threats")
        return [str(one) for one in named] if isinstance(named, list | tuple) else []
    return [act.threat] if act.threat else []
