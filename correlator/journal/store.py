"""Where the journal is kept: one protocol, on Kafka for many sites or in SQLite for one machine.

A position is an integer that grows along a site's actions: the offset of the site's partition, or the
row in the table. Nothing is ever changed or deleted.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from correlator.errors import CorrelatorError
from correlator.journal.action import Act, from_bytes, to_bytes

READ_ACTIONS: Final = 1_000  # at once
_SOME: Final = "SELECT position, body FROM actions WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"


class Journal(Protocol):
    """The journal as its readers and writers see it. unreadable: records met that are no actions."""

    unreadable: int

    def append(self, act: Act) -> int:
        """Writes an action and returns its position once it is safe. Raises JournalAway."""
        ...

    def read(self, after: int) -> Iterator[tuple[int, Act]]:
        """The actions behind a position (-1: all) up to the end that stands now, in order. Raises JournalAway."""
        ...


class JournalAway(CorrelatorError):
    """The journal cannot be written or read now; what was to be written is not recorded."""


def beside(log: Path) -> Path:
    """The file of the journal that belongs to an embedded log."""
    return log.with_name(log.name + ".actions")


class SqliteJournal:
    """The journal as a table of a SQLite file (WAL), for one machine and for replays.

    Several processes may open the same file, and several threads use one of these. Writing and reading have a
    connection each: a connection knows one last error and one last position, whichever thread they belong to.
    Raises JournalAway where SQLite cannot write or read.
    """

    def __init__(self, path: Path) -> None:
        self.unreadable = 0  # only this class writes into its table
        self._db, self._writing = _connection(path), threading.Lock()
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS actions (position INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)"
        )
        self._reader, self._reading = _connection(path), threading.Lock()

    def append(self, act: Act) -> int:
        """Writes an action; it is on the disk when this returns."""
        try:
            with self._writing:
                row = self._db.execute("INSERT INTO actions (body) VALUES (?)", (to_bytes(act),)).lastrowid
        except sqlite3.Error as error:
            raise JournalAway(str(error)) from error
        assert row is not None
        return row

    def read(self, after: int) -> Iterator[tuple[int, Act]]:
        """The actions behind a position, in order. Raises JournalAway."""
        (end,) = self._rows("SELECT coalesce(max(position), -1) FROM actions")[0]
        while after < end:
            rows = self._rows(_SOME, after, end, READ_ACTIONS)
            for position, body in rows:
                yield position, from_bytes(body)
            after = rows[-1][0] if rows else end

    def _rows(self, query: str, *values: int) -> list[Any]:
        try:
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise JournalAway(str(error)) from error

    def close(self) -> None:
        """Closes the file."""
        self._reader.close()
        self._db.close()


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
