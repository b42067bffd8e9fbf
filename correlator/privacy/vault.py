"""The vault: the one file that leads from tokens back to identities, and holds the keys of evidence.

    identity   token -> kind and value, since when
    erased     tokens that lead nowhere for good: what is seen again is not written again
    threat     id -> its key; evidence  event -> the key of its raw message, under that of its threat

Mode 600, a file of its own on the machine of ingest, outputs and console; they may use it at the same
time. What is deleted is overwritten (SQLite's secure_delete).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from correlator.errors import StateRefused, UsageError
from correlator.privacy.locks import KEY_BYTES, Locked, unwrapped, wrapped
from correlator.sources.logparts import account_name
from correlator.sqlite import transaction

FORMAT: Final = 1
LONGEST_VALUE: Final = 1_000
_SCHEMA: Final = """
CREATE TABLE identity (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL, name TEXT NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_name ON identity (name);
CREATE INDEX identity_last ON identity (last_ms);
CREATE TABLE erased (token TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE threat (id TEXT PRIMARY KEY, secret BLOB NOT NULL, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE evidence (
    event TEXT PRIMARY KEY, secret BLOB NOT NULL, threat TEXT NOT NULL, at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


class Identified(Struct, frozen=True):
    """What a token stands for. first_ms, last_ms: when it was first made, and last (to a day), ms UTC."""

    token: str
    kind: str
    value: str
    first_ms: int
    last_ms: int = 0


class Vault:
    """The file. write: it is made if missing; else a missing one is an error.

    Raises UsageError (missing, no vault, readable by others) and StateRefused (a newer format). Methods
    that write raise sqlite3.OperationalError when the disk does not take it.
    """

    def __init__(self, file: Path, *, write: bool = True) -> None:
        self.file = file
        try:
            if write:
                file.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
            elif not file.is_file():
                raise UsageError(f"{file}: there is no vault")
            if file.stat().st_mode & 0o077:
                raise UsageError(f"{file} can be read by others; chmod 600 {file}")
        except OSError as error:
            raise UsageError(f"{file}: the vault cannot be opened: {error.strerror}") from error
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise UsageError(f"{file}: no usable vault: {error}") from error

    def _prepare(self) -> None:
        with transaction(self._db):
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT:
                raise StateRefused(f"{self.file} was written by a newer release (format {version}); upgrade this one")
            if version < FORMAT:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={FORMAT}")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    # ---- identities ------------------------------------------------------------------------------

    def learn(self, found: Iterable[tuple[str, str, str]], now_ms: int) -> None:
        """Writes what (token, kind, value) tokens stand for, and that they were seen now; erased ones stay away."""
        rows = [(token, kind, value[:LONGEST_VALUE], _name(kind, value), now_ms) for token, kind, value in found]
        with self._lock, transaction(self._db):
            self._db.executemany(
                "INSERT INTO identity SELECT ?1, ?2, ?3, ?4, ?5, ?5"
                " WHERE NOT EXISTS (SELECT 1 FROM erased WHERE token = ?1)"
                " ON CONFLICT DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)",
                rows,
            )

    def find(self, token: str) -> Identified | None:
        """What a token stands for; None if it leads nowhere (any more)."""
        rows = self._rows("WHERE token = ?", token)
        return rows[0] if rows else None

    def tokens_of(self, values: Iterable[str], kind: str = "") -> list[Identified]:
        """Everything known of somebody by their names, badges and accounts; accounts with any domain."""
        found: dict[str, Identified] = {}
        for value in values:
            for name in {value.strip().lower(), account_name(value)} - {""}:
                for one in self._rows("WHERE name = ?", name):
                    same = one.value.lower() == value.strip().lower() or one.kind == "account"
                    if same and kind in ("", one.kind):
                        found[one.token] = one
        return sorted(found.values(), key=lambda one: (one.kind, one.value, one.first_ms, one.token))

    def everybody(self) -> list[Identified]:
        """All that is known, by kind and value."""
        return self._rows("ORDER BY kind, value, token")

    def _rows(self, where: str, *values: str) -> list[Identified]:
        query = f"SELECT token, kind, value, first_ms, last_ms FROM identity {where}"  # noqa: S608 - our own words
        with self._lock:
            return [Identified(*row) for row in self._db.execute(query, values)]

    def erase(self, tokens: Sequence[str], now_ms: int) -> int:
        """Makes tokens lead nowhere for good; gives how many led somewhere."""
        with self._lock, transaction(self._db):
            self._db.executemany("INSERT OR IGNORE INTO erased VALUES (?, ?)", ((one, now_ms) for one in tokens))
            done = self._db.executemany("DELETE FROM identity WHERE token = ?", ((one,) for one in tokens)).rowcount
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done

    def let_go(self, before_ms: int) -> int:
        """Deletes identities that were seen last before a time; gives how many."""
        with self._lock:
            return self._db.execute("DELETE FROM identity WHERE last_ms < ?", (before_ms,)).rowcount

    # ---- keys of evidence ------------------------------------------------------------------------

    def make_secrets(self, events: Iterable[str], now_ms: int) -> None:
        """Makes keys for the raw messages of events that have none, in one transaction."""
        rows = [(event, secrets.token_bytes(KEY_BYTES), now_ms) for event in events]
        with self._lock, transaction(self._db):
            self._db.executemany("INSERT OR IGNORE INTO evidence VALUES (?, ?, '', ?)", rows)

    def secret_of(self, event: str) -> bytes:
        """The key of an event's raw message. Raises Locked where it, or that of its threat, is gone."""
        with self._lock:
            row = self._db.execute(
                "SELECT evidence.secret, evidence.threat, threat.secret FROM evidence"
                " LEFT JOIN threat ON threat.id = evidence.threat WHERE event = ?",
                (event,),
            ).fetchone()
        if row is None or (row[1] and row[2] is None):
            raise Locked(f"the key of event {event} is gone: its message can no longer be read")
        return bytes(row[0]) if not row[1] else unwrapped(row[2], row[0], event)

    def claim(self, threat: str, events: Iterable[str], now_ms: int) -> None:
        """Puts the keys of events that belong to no threat yet under the key of this one, made if there is none."""
        with self._lock, transaction(self._db):
            secret = self._db.execute(
                "INSERT INTO threat VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at_ms = max(at_ms, excluded.at_ms)"
                " RETURNING secret",
                (threat, secrets.token_bytes(KEY_BYTES), now_ms),
            ).fetchone()[0]
            for event in events:
                row = self._db.execute("SELECT secret, threat FROM evidence WHERE event = ?", (event,)).fetchone()
                if row is None or not row[1]:
                    own = row[0] if row is not None else secrets.token_bytes(KEY_BYTES)
                    self._db.execute(
                        "INSERT INTO evidence VALUES (?, ?, ?, ?)"
                        " ON CONFLICT DO UPDATE SET secret = excluded.secret, threat = excluded.threat",
                        (event, wrapped(secret, own, event), threat, now_ms),
                    )

    def forget_threat(self, threat: str) -> bool:
        """Deletes a threat's key: its raw messages can be read no more, wherever they stand. False: there is none."""
        with self._lock:
            done = self._db.execute("DELETE FROM threat WHERE id = ?", (threat,)).rowcount > 0
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done

    def trim(self, before_ms: int) -> int:
        """Deletes keys of messages kept before a time, and of threats that got none since; gives how many."""
        with self._lock:
            count = self._db.execute("DELETE FROM evidence WHERE at_ms < ?", (before_ms,)).rowcount
            return count + self._db.execute("DELETE FROM threat WHERE at_ms < ?", (before_ms,)).rowcount

    def counts(self) -> dict[str, int]:
        """Rows of each table."""
        with self._lock:
            return {
                one: self._db.execute(f"SELECT count(*) FROM {one}").fetchone()[0]  # noqa: S608 - our own words
                for one in ("identity", "erased", "threat", "evidence")
            }


def _name(kind: str, value: str) -> str:
    name = account_name(value) if kind == "account" else ""
    return (name or value.strip().lower())[:LONGEST_VALUE]
