"""The embedded log: one SQLite file (WAL) with messages, records, state and what was told.

    raw        messages as received, by their number; `raw` of an event is `log:<number>`
    events     records of the log, the same bytes as on the Kafka topic `events`, by offset
    state      state entries; output: what was told, the same bytes as on Kafka topics
    evidence   raw messages of matches and notable events, kept longer than `raw`
    delivery   names that senders gave to what was kept, so that a repeat is known
    position   how far followed files were read; body: bodies of the configuration by sha-256

Everything that belongs together is written by `write` in one transaction with synchronous=FULL, so that
after a crash, or a loss of power, all of it is there or none. One process writes; others may read, and
may put numbers of rejects into `retry`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from correlator.errors import CorrelatorError, StateRefused, UsageError
from correlator.ingest.raw import RawMessage, from_headers, to_headers
from correlator.inputs import FilePosition, Reading
from correlator.privacy.evidence import Locker, sealed
from correlator.run.evidence import EVIDENCE_BYTES, Wanted
from correlator.run.log import LogRecord
from correlator.run.partition import CHECKPOINT
from correlator.run.rendering import Rendered
from correlator.sources.dialect import Message

FORMAT: Final = 1
RAW_PREFIX: Final = "log:"

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE raw (
    id INTEGER PRIMARY KEY, input TEXT NOT NULL, received_ms INTEGER NOT NULL, headers BLOB NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX raw_received ON raw (received_ms);
CREATE TABLE events (offset INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX events_at ON events (at_ms);
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE output (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, at_ms INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    headers BLOB NOT NULL, reason TEXT
) STRICT;
CREATE INDEX output_topic ON output (topic, id);
CREATE INDEX output_at ON output (at_ms);
CREATE INDEX output_reason ON output (reason, id) WHERE reason IS NOT NULL;
CREATE TABLE evidence (
    event TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, site TEXT NOT NULL,
    channel TEXT NOT NULL, payload BLOB NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_at ON evidence (at_ms);
CREATE TABLE position (
    input TEXT NOT NULL, path TEXT NOT NULL, done BLOB NOT NULL, PRIMARY KEY (input, path)
) STRICT, WITHOUT ROWID;
CREATE TABLE head (
    input TEXT NOT NULL, channel TEXT NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (input, channel)
) STRICT, WITHOUT ROWID;
CREATE TABLE body (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE delivery (id INTEGER PRIMARY KEY, name TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT;
CREATE INDEX delivery_at ON delivery (at_ms);
CREATE TABLE retry (output INTEGER PRIMARY KEY) STRICT;
"""

_pack: Final = msgspec.msgpack.Encoder().encode
_headers: Final = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode
_position: Final = msgspec.msgpack.Decoder(FilePosition).decode
_number: Final = msgspec.msgpack.Decoder(int).decode
_reason: Final = msgspec.json.Decoder(type=msgspec.defstruct("_Reason", [("reason", str, "")])).decode


@dataclass(slots=True)
class Turn:
    """What one transaction writes. raw: messages with the number each has got; next_raw: the next number."""

    raw: list[RawMessage] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    records: list[tuple[int, int, bytes]] = field(default_factory=list)  # offset, written at (ms UTC), bytes
    outputs: list[Rendered] = field(default_factory=list)
    entries: list[tuple[str, bytes | None]] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    claims: dict[str, list[str]] = field(default_factory=dict)  # threat -> events that are its evidence
    heads: list[RawMessage] = field(default_factory=list)  # first lines that name the columns of their files
    bodies: dict[str, bytes] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    retried: list[int] = field(default_factory=list)
    taken: list[LogRecord] = field(default_factory=list)  # the records, not yet encoded, for metrics
    actions: int = 0  # position in the journal up to which decisions are in the log; 0: not looked
    at_ms: int = 0
    next_raw: int = 0

    def empty(self) -> bool:
        """Whether there is nothing to write."""
        parts = (
            self.raw,
            self.readings,
            self.records,
            self.outputs,
            self.entries,
            self.bodies,
            self.keys,
            self.retried,
        )
        return not any(parts)


@dataclass(frozen=True, slots=True)
class Kept:
    """A raw message kept as evidence; the payload may be cut, size and sha256 tell of the whole."""

    event: str
    received_ms: int
    site: str
    channel: str
    payload: bytes
    size: int
    sha256: str


class EmbeddedLog:
    """The file, open for writing by this process alone or for reading beside it. locker: locks evidence.

    Raises UsageError (no such file, no database, another process writes) and StateRefused (a newer
    format). Methods that write are called by one thread.
    """

    def __init__(self, file: Path, *, write: bool, locker: Locker | None = None) -> None:
        self.file = file
        self._locker = locker
        self._lock: IO[bytes] | None = None
        if write:
            self._lock = _locked(file)
        elif not file.is_file():
            raise UsageError(f"{file}: there is no embedded log")
        try:
            self._db = self._connect(write)
            self._prepare(write)
            # Followed files ask from another thread than the one that writes.
            self._reader = self._connect(write=False) if write else self._db
        except sqlite3.Error as error:
            self.close()
            raise UsageError(f"{file}: no usable embedded log: {error}") from error
        except CorrelatorError:
            self.close()
            raise
        self._reading = threading.Lock()
        self.next_raw, self.next_offset, self.next_output = self._numbers()

    def close(self) -> None:
        """Closes the file; another process may write then."""
        for name in ("_reader", "_db"):
            if hasattr(self, name):
                getattr(self, name).close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, turn: Turn) -> None:
        """Writes all of a turn, or nothing. Raises sqlite3.OperationalError (a full disk, say): try again later."""
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO raw VALUES (?, ?, ?, ?, ?)",
                ((one.offset, one.input, one.message.received_ms, _headers_of(one), one.message.payload)
                 for one in turn.raw),
            )  # fmt: skip
            db.executemany(
                "INSERT INTO head VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET raw = excluded.raw",
                ((one.input, one.message.channel, one.message.payload) for one in turn.heads),
            )
            db.executemany(
                "INSERT INTO position VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET done = excluded.done",
                ((one.input, one.path, _pack(one.after)) for one in turn.readings),
            )
            db.executemany("INSERT INTO events VALUES (?, ?, ?)", turn.records)
            db.executemany(
                "INSERT INTO output VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((number, one.topic, turn.at_ms, one.key, one.value, _pack(one.headers), _reason_of(one))
                 for number, one in enumerate(turn.outputs, self.next_output)),
            )  # fmt: skip
            db.executemany("DELETE FROM state WHERE key = ?", ((key,) for key, value in turn.entries if value is None))
            db.executemany(
                "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (entry for entry in turn.entries if entry[1] is not None),
            )
            if self._locker is not None and turn.wanted:
                self._locker.prepare([one.event for one in turn.wanted], turn.at_ms)
            for wanted in turn.wanted:
                self._keep(wanted, turn.at_ms)
            if self._locker is not None:
                for threat, events in turn.claims.items():
                    self._locker.claim(threat, events, turn.at_ms)
            db.executemany("INSERT OR IGNORE INTO body VALUES (?, ?)", turn.bodies.items())
            db.executemany("INSERT INTO delivery (name, at_ms) VALUES (?, ?)", ((one, turn.at_ms) for one in turn.keys))
            db.executemany("DELETE FROM retry WHERE output = ?", ((one,) for one in turn.retried))
            next_raw = max(turn.next_raw, self.next_raw)
            next_offset = turn.records[-1][0] + 1 if turn.records else self.next_offset
            next_output = self.next_output + len(turn.outputs)
            db.executemany(
                "UPDATE meta SET value = ? WHERE key = ?",
                [(next_raw, "next_raw"), (next_offset, "next_offset"), (next_output, "next_output")],
            )
            if turn.actions:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('actions', ?)", (turn.actions,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self.next_raw, self.next_offset, self.next_output = next_raw, next_offset, next_output

    def _keep(self, wanted: Wanted, at_ms: int) -> None:
        number = wanted.raw.removeprefix(RAW_PREFIX)
        if not number.isdigit():
            return
        row = self._db.execute("SELECT input, headers, payload FROM raw WHERE id = ?", (int(number),)).fetchone()
        if row is None:
            return
        message = _message(int(number), *row)
        payload = message.message.payload
        kept = sealed(self._locker, wanted.event, payload[:EVIDENCE_BYTES])
        if kept is None:
            return
        self._db.execute(
            "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (wanted.event, at_ms, message.message.received_ms, wanted.site, message.message.channel,
             kept, len(payload), hashlib.sha256(payload).hexdigest()),
        )  # fmt: skip

    def replace_state(self, entries: Mapping[str, bytes]) -> None:
        """Puts other state entries in the place of all there are. Raises sqlite3.OperationalError."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM state")
            self._db.executemany("INSERT INTO state VALUES (?, ?)", entries.items())

    # ---- reading ---------------------------------------------------------------------------------

    def state(self) -> dict[str, bytes]:
        """All state entries."""
        return dict(self._db.execute("SELECT key, value FROM state"))

    def state_size(self) -> tuple[int, int]:
        """(entries, bytes) of saved state."""
        entries, size = self._db.execute("SELECT count(*), coalesce(sum(length(value)), 0) FROM state").fetchone()
        return int(entries), int(size)

    def checkpoint(self) -> int:
        """Offset of the last record that saved state holds, -1 without state."""
        row = self._db.execute("SELECT value FROM state WHERE key = ?", (CHECKPOINT,)).fetchone()
        return -1 if row is None else int(_number(row[0]))

    def bodies(self) -> dict[str, bytes]:
        """Bodies of all configurations that were in force, by sha-256."""
        return dict(self._db.execute("SELECT name, value FROM body"))

    def log_start(self) -> int:
        """Offset of the oldest record that is kept; the next offset if there is none."""
        found = self._db.execute("SELECT min(offset) FROM events").fetchone()[0]
        return self.next_offset if found is None else int(found)

    def records(self, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` records from an offset on, in order."""
        query = "SELECT offset, record FROM events WHERE offset >= ? ORDER BY offset LIMIT ?"
        return list(self._db.execute(query, (first, limit)))

    def outputs(self, topic: str, after: int = 0, limit: int = 1_000) -> list[tuple[int, bytes]]:
        """(number, value) of what was told on a topic, behind a number, in order."""
        query = "SELECT id, value FROM output WHERE topic = ? AND id > ? ORDER BY id LIMIT ?"
        return list(self._db.execute(query, (topic, after, limit)))

    def rejects(self, reason: str = "", after: int = 0, limit: int = 1_000) -> list[tuple[int, bytes]]:
        """(number, JSON) of rejects, of one reason or all, behind a number, in order."""
        if not reason:
            return self.outputs("rejects", after, limit)
        query = "SELECT id, value FROM output WHERE reason = ? AND id > ? ORDER BY id LIMIT ?"
        return list(self._db.execute(query, (reason, after, limit)))

    def reject(self, number: int) -> bytes | None:
        """The JSON of one reject, None if there is no such number."""
        row = self._db.execute("SELECT value FROM output WHERE topic = 'rejects' AND id = ?", (number,)).fetchone()
        return None if row is None else row[0]

    def raw(self, number: int) -> RawMessage | None:
        """A raw message by its number, None if retention has removed it."""
        row = self._db.execute("SELECT input, headers, payload FROM raw WHERE id = ?", (number,)).fetchone()
        return None if row is None else _message(number, *row)

    def raw_of(self, events: Iterable[str]) -> Iterator[Kept]:
        """The evidence kept for events, by their ids."""
        query = "SELECT event, received_ms, site, channel, payload, size, sha256 FROM evidence WHERE event = ?"
        for event in events:
            row = self._db.execute(query, (event,)).fetchone()
            if row is not None:
                yield Kept(*row)

    def heads(self) -> list[tuple[str, str, bytes]]:
        """(input, channel, first line) of followed files, for dialects whose first line names the columns."""
        return list(self._db.execute("SELECT input, channel, raw FROM head"))

    def deliveries(self, limit: int) -> list[str]:
        """Names of the newest deliveries, oldest first."""
        query = "SELECT name FROM (SELECT id, name FROM delivery ORDER BY id DESC LIMIT ?) ORDER BY id"
        return [name for (name,) in self._db.execute(query, (limit,))]

    def actions(self) -> int:
        """Position in the journal up to which people's decisions are in the log, 0 at first."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'actions'").fetchone()
        return 0 if row is None else int(row[0])

    def retries(self) -> list[int]:
        """Numbers of rejects that somebody wants taken again."""
        return [number for (number,) in self._db.execute("SELECT output FROM retry ORDER BY output")]

    def counts(self) -> dict[str, int]:
        """Rows of each table."""
        names = ("raw", "events", "state", "output", "evidence")
        return {one: self._db.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in names}  # noqa: S608

    def position(self, input: str, path: str) -> FilePosition | None:
        """Where a followed file goes on, None if it was never read."""
        query = "SELECT done FROM position WHERE input = ? AND path = ?"
        with self._reading:
            row = self._reader.execute(query, (input, path)).fetchone()
        return None if row is None else _position(row[0])

    def pending(self, input: str, path: str) -> Reading | None:
        """Nothing is ever half kept here: lines and position are one transaction."""
        return None

    # ---- retention -------------------------------------------------------------------------------

    def bytes_used(self) -> int:
        """Bytes of the file that hold rows."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def trim(self, table: str, before_ms: int, limit: int, keep_from: int = -1, topics: Sequence[str] = ()) -> int:
        """Removes up to `limit` rows of raw, events, output or evidence that are older; gives their number.

        keep_from: records from this offset on stay, whatever their age. topics: of output, these only.
        """
        column, key = _AGES[table]
        bound = f" AND offset < {int(keep_from)}" if table == "events" and keep_from >= 0 else ""
        if topics:
            bound += f" AND topic IN ({', '.join('?' * len(topics))})"
        query = (
            f"DELETE FROM {table} WHERE {key} IN"  # noqa: S608 - names of our own tables
            f" (SELECT {key} FROM {table} WHERE {column} < ?{bound} ORDER BY {column} LIMIT ?)"
        )
        return self._db.execute(query, (before_ms, *topics, limit)).rowcount

    def trim_oldest(self, table: str, limit: int, keep_from: int = -1) -> int:
        """Removes the `limit` oldest rows of a table, whatever their age; gives their number."""
        return self.trim(table, 1 << 62, limit, keep_from)

    def shrink(self, pages: int = 1_000) -> None:
        """Gives free pages back to the file system."""
        self._db.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()

    def oldest_ms(self) -> int:
        """Receive time of the oldest raw message, 0 if there is none."""
        return int(self._db.execute("SELECT coalesce(min(received_ms), 0) FROM raw").fetchone()[0])

    def evidence(self) -> Iterator[Kept]:
        """All evidence, as it is kept (locked, where it is)."""
        yield from (Kept(*row) for row in self._db.execute(
            "SELECT event, received_ms, site, channel, payload, size, sha256 FROM evidence ORDER BY event"
        ))  # fmt: skip

    def replace_evidence(self, payloads: dict[str, bytes]) -> None:
        """Puts other payloads in the place of kept ones, by event; works beside the running process.

        Raises UsageError.
        """
        self._beside("UPDATE evidence SET payload = ? WHERE event = ?", [(new, one) for one, new in payloads.items()])

    def retry(self, numbers: Sequence[int]) -> None:
        """Asks the running process to take rejects again; works beside it. Raises UsageError."""
        self._beside("INSERT OR IGNORE INTO retry VALUES (?)", [(number,) for number in numbers])

    def _beside(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            db = sqlite3.connect(self.file, timeout=30, isolation_level=None)
            try:
                db.execute("PRAGMA secure_delete=ON")
                db.executemany(statement, rows)
            finally:
                db.close()
        except sqlite3.Error as error:
            raise UsageError(f"{self.file}: cannot be written: {error}") from error

    # ---- opening ---------------------------------------------------------------------------------

    def _connect(self, write: bool) -> sqlite3.Connection:
        mode = "rwc" if write else "ro"
        db = sqlite3.connect(
            f"{self.file.resolve().as_uri()}?mode={mode}", uri=True, timeout=30, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        if write:
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA journal_size_limit=67108864")
        return db

    def _prepare(self, write: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise StateRefused(f"{self.file} was written by a newer release (format {version}); upgrade this one")
        if version == FORMAT:
            return
        if not write:
            raise UsageError(f"{self.file}: there is no embedded log in this file")
        if self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise UsageError(f"{self.file} is a database of another program")
        start = "".join(f"INSERT INTO meta VALUES ('{name}', {first});" for name, first in _FIRST)  # noqa: S608 - ours
        self._db.executescript(f"BEGIN; {_SCHEMA} {start} PRAGMA user_version={FORMAT}; COMMIT;")

    def _numbers(self) -> tuple[int, int, int]:
        found: dict[str, int] = dict(self._db.execute("SELECT key, value FROM meta"))
        return found["next_raw"], found["next_offset"], found["next_output"]


_FIRST: Final = (("next_raw", 1), ("next_offset", 0), ("next_output", 1))
# table -> (column that tells the age, key)
_AGES: Final = {
    "raw": ("received_ms", "id"),
    "events": ("at_ms", "offset"),
    "output": ("at_ms", "id"),
    "evidence": ("at_ms", "event"),
    "delivery": ("at_ms", "id"),
}


def _locked(file: Path) -> IO[bytes]:
    """A lock that ends with the process: two writers would tell everything twice."""
    lock = file.with_name(file.name + ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("wb")
    except OSError as error:
        raise UsageError(f"{file}: the embedded log cannot be written there: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise UsageError(f"{file}: another process is writing this log") from error
    os.set_inheritable(held.fileno(), False)
    return held


def _headers_of(one: RawMessage) -> bytes:
    return _pack(to_headers(one.message, site=one.site, receiver=one.input))


def _message(number: int, input: str, headers: bytes, payload: bytes) -> RawMessage:
    return from_headers(
        _headers(headers), payload, input=input, offset=number, channel=input, received_ms=0,
        raw=f"{RAW_PREFIX}{number}",
    )  # fmt: skip


def _reason_of(one: Rendered) -> str | None:
    if one.topic != "rejects":
        return None
    found: Any = _reason(one.value)
    return str(found.reason)


def numbered(one: RawMessage, number: int) -> RawMessage:
    """A raw message with its number in the log, which its events will tell."""
    message = one.message
    return RawMessage(
        one.input, number, one.site,
        Message(
            message.channel, message.payload, message.received_ms, message.retained, message.dup,
            message.queued_since_ms, message.line, message.origin, f"{RAW_PREFIX}{number}", message.qos,
            message.packet_id,
        ),
        one.tick_ms,
    )  # fmt: skip
