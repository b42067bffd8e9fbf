"""How far a followed file has been read, told so that the place is found again after any restart.

A file is known by device and inode while it lives under one file system, and by a fingerprint (a hash
of its first bytes) when it was copied, compressed or moved. Positions count in the input's own stream
of bytes: `base` is where the present file begins in it, so a line's place grows for ever, across
rotations.
"""

from __future__ import annotations

import asyncio
import sqlite3
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from correlator.errors import UsageError

FINGERPRINT_BYTES = 1024  # the beginning of a file that tells it from others; logs begin with a time


class FilePosition(Struct, frozen=True):
    """Up to where a file has been read.

    device, inode   as `stat` gives them; 0 where unknown
    offset          bytes of this file that are done, always the end of a line
    line            lines that are done
    base            place of the file's first byte in the input's whole stream
    head_bytes, head   length and blake2b-128 of the beginning that was hashed ("" at offset 0)
    read_ms         when it was last read, ms UTC
    """

    device: int
    inode: int
    offset: int
    line: int
    base: int
    head_bytes: int
    head: str
    read_ms: int


class Reading(Struct, frozen=True):
    """Lines of one file that are handed on together: where they end, and when they were first read.

    start, end   place of the first and behind the last byte in the input's stream
    received_ms  the receive time of all these lines, kept so that a second read gives the same
    after        position once they are kept
    """

    input: str
    path: str
    start: int
    end: int
    received_ms: int
    after: FilePosition


class Positions(Protocol):
    """Remembers positions of followed files by (input, path)."""

    def position(self, input: str, path: str) -> FilePosition | None:
        """Where to go on, None for a file never read."""
        ...

    def pending(self, input: str, path: str) -> Reading | None:
        """Lines that were read and perhaps handed on, but not known to be kept."""
        ...


def fingerprint(beginning: bytes) -> str:
    """The hash of a file's first bytes, "" for none."""
    return blake2b(beginning, digest_size=16).hexdigest() if beginning else ""


_SCHEMA = """
CREATE TABLE IF NOT EXISTS position (
    input TEXT NOT NULL, path TEXT NOT NULL, done BLOB, pending BLOB, PRIMARY KEY (input, path)
) STRICT, WITHOUT ROWID
"""
_position = msgspec.msgpack.Decoder(FilePosition)
_reading = msgspec.msgpack.Decoder(Reading)
_pack = msgspec.msgpack.Encoder()


class PositionFile:
    """Positions in a small SQLite file, for sinks that keep messages elsewhere (a broker).

    Before lines are handed on, `begin` writes their extent and receive time; `done` moves the position
    on when they are kept. A crash in between reads the same lines again with the same receive time, so
    they become the same events.
    """

    def __init__(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"{file}: positions of followed files cannot be kept there: {error}") from error

    def position(self, input: str, path: str) -> FilePosition | None:
        """Where to go on, None for a file never read."""
        value = self._value("done", input, path)
        return None if value is None else _position.decode(value)

    def pending(self, input: str, path: str) -> Reading | None:
        """Lines that were read and perhaps handed on, but not known to be kept."""
        value = self._value("pending", input, path)
        return None if value is None else _reading.decode(value)

    async def begin(self, reading: Reading) -> None:
        """Notes lines that are about to be handed on. Raises sqlite3.Error (a full disk, say)."""
        await asyncio.to_thread(self._write, reading, _pack.encode(reading), None)

    async def done(self, reading: Reading) -> None:
        """Moves the position behind lines that are kept. Raises sqlite3.Error."""
        await asyncio.to_thread(self._write, reading, None, _pack.encode(reading.after))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _value(self, column: str, input: str, path: str) -> bytes | None:
        query = f"SELECT {column} FROM position WHERE input = ? AND path = ?"  # noqa: S608 - "done" or "pending"
        row = self._db.execute(query, (input, path)).fetchone()
        return None if row is None else row[0]

    def _write(self, reading: Reading, pending: bytes | None, done: bytes | None) -> None:
        self._db.execute(
            "INSERT INTO position (input, path, done, pending) VALUES (?, ?, ?, ?) ON CONFLICT (input, path)"
            " DO UPDATE SET done = coalesce(excluded.done, done), pending = excluded.pending",
            (reading.input, reading.path, done, pending),
        )
