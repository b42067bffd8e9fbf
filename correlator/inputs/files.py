"""Follows a log file: new lines as they are written, through rotation, truncation and downtime.

    open the file at its position  ->  read whole lines  ->  hand them on  ->  position moves
    at its end, look at the path:
      the same file, longer               read on
      another file stands there           the old one was moved away: read it to its end, then the new one
      shorter, or it begins otherwise     it was truncated: what was copied away is read from the copy
    after downtime the position's content may be in a rotated part, plain or compressed (rotated.py):
      the rest of that part, then all newer parts, oldest first, then the live file
      not found: that is a gap; it is told, and reading goes on with what is newer

The last line of a live file counts when its newline has come; that of a moved file at its end. Lines
that are read together bear one receive time, and keep it when they are read again after a crash.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from correlator.ingest import metrics
from correlator.ingest.logs import Log
from correlator.ingest.raw import RawMessage
from correlator.inputs.positions import FINGERPRINT_BYTES, FilePosition, Positions, Reading, fingerprint
from correlator.inputs.rotated import COMPRESSED, UNREADABLE, Part, begins_as, open_part, rotated_parts
from correlator.inputs.settings import FileInput
from correlator.inputs.sink import Clock, Sink, Stamp, now_ms
from correlator.sources.dialect import Message

BATCH_LINES = 500
CHUNK_BYTES = 262_144
MOVED_WAIT_S = 1.0  # how long a moved file may still be written to, after its last growth
UNREADABLE_WAIT_S = 30.0  # how long a part that cannot be read through is waited for (gzip may be writing it)

_log = Log("inputs")


@dataclass(slots=True)
class _File:
    """A file that is being read. final: nothing is added to it any more, so a last line needs no newline."""

    path: Path
    handle: BinaryIO
    device: int
    inode: int
    offset: int
    line: int
    base: int
    final: bool


class FileFollower:
    """Hands the lines of one log file to a sink, until cancelled.

    positions: where earlier positions are found; the sink keeps the new ones. clock: machine's time.
    """

    def __init__(self, settings: FileInput, site: str, sink: Sink, positions: Positions, clock: Clock = now_ms) -> None:
        self.settings = settings
        self.site = settings.site or site
        self._path = settings.path
        self._key = str(settings.path)
        self._sink = sink
        self._positions = positions
        self._stamp = Stamp(clock)
        self._file: _File | None = None
        self._waiting: list[Part] = []  # parts to read before the live file, oldest first
        self._quiet_since = -1.0
        self._unread_since = -1.0
        self._scanned = (-1, -1)  # (offset, size) at which no whole line was found
        self._told_missing = False
        self._pending: Reading | None = None
        self._told: FilePosition | None = None  # of the present file
        self._unnoted = False  # the present file was begun, and no position tells of it yet

    async def run(self) -> None:
        """Follows the file until cancelled; a file that cannot be read is told and tried again."""
        while True:
            try:
                more = await self.step()
            except OSError as error:
                _log.warning("file_unreadable", input=self.settings.name, path=self._key, detail=error.strerror)
                more = False
            if not more:
                await asyncio.sleep(self.settings.poll_ms / 1000)

    def close(self) -> None:
        """Closes what is open; the position stands where the sink has it."""
        if self._file is not None:
            self._file.handle.close()
            self._file = None

    async def step(self) -> bool:
        """Reads one batch or looks once whether the file has changed; True if there may be more at once."""
        if self._file is None and not self._open():
            return False
        file = self._file
        assert file is not None
        if self._unnoted and not file.final:  # so that a restart goes on from here, whatever is written meanwhile
            await self._hand_on(file, [], file.offset)
        try:
            lines, end = self._whole_lines(file)
        except UNREADABLE:
            if not file.final:
                raise
            return self._unreadable(file)
        self._unread_since = -1.0
        if not file.final and self._replaced(file):
            _log.info("file_truncated", input=self.settings.name, path=self._key, offset=file.offset)
            self.close()
            return True  # opening finds the copy, if there is one, and goes on behind it
        if lines:
            self._quiet_since = -1.0
            await self._hand_on(file, lines, end)
            return True
        return self._at_end(file)

    # ---- reading -------------------------------------------------------------------------------

    def _whole_lines(self, file: _File) -> tuple[list[tuple[int, bytes]], int]:
        """Up to BATCH_LINES lines with their offsets, and the offset behind the last of them.

        With a reading that is still open from before a crash: exactly its lines.
        """
        limit = self.settings.max_line_bytes
        again = 0
        if self._pending is not None:
            again = max(self._pending.end - file.base - file.offset, 0)
            if self._pending.start != file.base + file.offset:
                self._pending, again = None, 0
        size = _size(file)
        if not file.final and self._scanned == (file.offset, size):
            return [], file.offset
        file.handle.seek(file.offset)
        data = file.handle.read(again or CHUNK_BYTES)
        lines: list[tuple[int, bytes]] = []
        at = 0
        while len(lines) < BATCH_LINES or again:
            found = data.find(b"\n", at)
            if found < 0:
                break
            lines.append((file.offset + at, data[at : min(found, at + limit + 1)]))
            at = found + 1
        if lines:
            return lines, file.offset + at
        line, length = self._long_line(file, data, limit)
        if length:
            return [(file.offset, line)], file.offset + length
        self._scanned = (file.offset, size)
        return [], file.offset

    def _long_line(self, file: _File, data: bytes, limit: int) -> tuple[bytes, int]:
        """The line that starts with `data` and goes on behind it: its first limit + 1 bytes and whole length.

        Length 0: its end is not written yet.
        """
        kept = data[: limit + 1]
        length = len(data)
        while True:
            more = file.handle.read(CHUNK_BYTES) if length else b""
            if not more:
                return (kept, length) if file.final else (b"", 0)
            found = more.find(b"\n")
            part = more if found < 0 else more[:found]
            if len(kept) <= limit:
                kept = (kept + part)[: limit + 1]
            if found >= 0:
                return kept, length + found + 1
            length += len(more)

    async def _hand_on(self, file: _File, lines: list[tuple[int, bytes]], end: int) -> None:
        received_ms = self._stamp()
        start = file.base + file.offset
        if self._pending is not None and lines:
            if self._pending.start == start and self._pending.end == file.base + end:
                received_ms = self._pending.received_ms
            self._pending = None
        messages = []
        for number, (place, line) in enumerate(lines, file.line + 1):
            payload = line.rstrip(b"\r\n")
            if payload.strip():
                where = f"{self._key}:{number}"
                message = Message(self._key, payload, received_ms, line=number, origin=where, raw=where)
                messages.append(RawMessage(self.settings.name, file.base + place, self.site, message))
        after = self._position(file, end, file.line + len(lines), received_ms)
        reading = Reading(self.settings.name, self._key, start, file.base + end, received_ms, after)
        await self._sink.keep(messages, reading)
        file.offset, file.line, self._told = end, after.line, after
        self._unnoted = False
        metrics.received.labels(self.settings.name).inc(len(messages))
        metrics.received_bytes.labels(self.settings.name).inc(sum(len(one.message.payload) for one in messages))

    def _position(self, file: _File, offset: int, line: int, read_ms: int) -> FilePosition:
        head = _beginning(file, min(offset, FINGERPRINT_BYTES))
        return FilePosition(file.device, file.inode, offset, line, file.base, len(head), fingerprint(head), read_ms)

    # ---- the end of what is there ----------------------------------------------------------------

    def _at_end(self, file: _File) -> bool:
        if file.final:
            return self._next(file)
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._moved(file)
        return (found.st_dev, found.st_ino) != (file.device, file.inode) and self._moved(file)

    def _replaced(self, file: _File) -> bool:
        """Whether the file was truncated, or truncated and written again, since its position was told.

        Asked after reading and before handing on, so that no line of the new content passes for the old.
        """
        if _size(file) < file.offset:
            return True
        told = self._told
        return told is not None and not _begins_as_told(file, told)

    def _moved(self, file: _File) -> bool:
        """The path names another file, or none: the old one may still be written to for a moment."""
        now = time.monotonic()
        if self._quiet_since < 0:
            self._quiet_since = now
        if now - self._quiet_since < MOVED_WAIT_S:
            return False
        file.final = True
        return True

    def _next(self, file: _File) -> bool:
        """Goes on behind a file that is read to its end."""
        base = file.base + file.offset
        self.close()
        self._quiet_since = -1.0
        if not self._waiting and file.path == self._path:
            _log.info("file_rotated", input=self.settings.name, path=self._key, line=file.line)
            self._waiting = self._newer_parts(file)
        return self._start_next(base)

    def _start_next(self, base: int) -> bool:
        """Opens the oldest part that waits, else the live file."""
        while self._waiting:
            part = self._waiting.pop(0)
            if self._start(part.path, 0, 0, base, final=True):
                return True
        return self._start(self._path, 0, 0, base, final=False)

    def _newer_parts(self, file: _File) -> list[Part]:
        """Parts that came after a file that has just been read to its end (several rotations at once)."""
        position = self._position_kept()
        parts = rotated_parts(self._path, self.settings.rotated)
        at = next((number for number, part in enumerate(parts) if position is not None and part.is_at(position)), None)
        return [] if at is None else self._not_live(parts[at + 1 :])

    def _not_live(self, parts: list[Part]) -> list[Part]:
        """Parts without one that is the live file's own content (a copy made this moment)."""
        live = self._live_beginning()
        return [part for part in parts if part.beginning != live]

    def _unreadable(self, file: _File) -> bool:
        now = time.monotonic()
        if self._unread_since < 0:
            self._unread_since = now
        if now - self._unread_since < UNREADABLE_WAIT_S and file.path.exists():
            return False
        self._unread_since = -1.0
        self._gap(f"{file.path.name} cannot be read beyond byte {file.offset}")
        return self._next(file)

    # ---- opening ---------------------------------------------------------------------------------

    def _open(self) -> bool:
        """Opens the file at its position, or the rotated part where the position is now."""
        position = self._position_kept()
        self._pending = self._positions.pending(self.settings.name, self._key)
        if position is None:
            return self._first_time()
        parts = rotated_parts(self._path, self.settings.rotated)
        read_ns = position.read_ms * 1_000_000
        if position.head_bytes == 0:  # nothing tells the content: whatever was written since is read
            here = (position.device, position.inode)
            self._waiting = self._not_live(
                [part for part in parts if (part.device, part.inode) == here or part.changed_ns > read_ns]
            )
            return self._start_next(position.base)
        if self._is_live(position):
            return self._start(self._path, position.offset, position.line, position.base, final=False)
        at = next((number for number, part in enumerate(parts) if part.is_at(position)), None)
        if at is not None:
            self._waiting = self._not_live(parts[at + 1 :])
            if self._start(parts[at].path, position.offset, position.line, position.base, final=True):
                return True
        self._waiting = self._not_live([part for part in parts if part.changed_ns > read_ns])
        if not self._start_next(position.base + position.offset):
            return False
        self._gap(f"what followed line {position.line} is gone")
        return True

    def _is_live(self, position: FilePosition) -> bool:
        """Whether the live file is the one a position was in."""
        return self._live_size() >= position.offset and begins_as(self._live_beginning(), position)

    def _first_time(self) -> bool:
        size = self._live_size()
        if size < 0:
            if not self._told_missing:
                self._told_missing = True
                _log.warning("file_missing", input=self.settings.name, path=self._key)
            return False
        if self.settings.start_at == "end" and not self._told_missing:
            return self._start_at_end()
        return self._start(self._path, 0, 0, 0, final=False)

    def _start_at_end(self) -> bool:
        """Begins behind the last whole line; what stands before is counted as lines, not read."""
        if not self._start(self._path, 0, 0, 0, final=False):
            return False
        assert self._file is not None
        done = 0
        while chunk := self._file.handle.read(CHUNK_BYTES):
            last = chunk.rfind(b"\n")
            if last >= 0:
                self._file.offset = done + last + 1
            self._file.line += chunk.count(b"\n")
            done += len(chunk)
        return True

    def _start(self, path: Path, offset: int, line: int, base: int, *, final: bool) -> bool:
        try:
            handle = open_part(path) if final else path.open("rb")
        except FileNotFoundError:
            return False
        found = path.stat()
        if base == 0 and offset == 0 and self._file is None:
            _log.info("file_opened", input=self.settings.name, path=str(path))
        self._file = _File(path, handle, found.st_dev, found.st_ino, offset, line, base, final)
        self._unnoted, self._told = offset == 0, None
        self._scanned = (-1, -1)
        return True

    def _position_kept(self) -> FilePosition | None:
        return self._positions.position(self.settings.name, self._key)

    def _live_beginning(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                return file.read(FINGERPRINT_BYTES)
        except FileNotFoundError:
            return b""

    def _live_size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return -1

    def _gap(self, detail: str) -> None:
        metrics.file_gaps.labels(self.settings.name).inc()
        _log.warning("file_gap", input=self.settings.name, path=self._key, detail=detail)


def _size(file: _File) -> int:
    """Bytes of a plain file; -1 where only reading tells."""
    if file.final and file.path.suffix in COMPRESSED:
        return -1
    here = file.handle.tell()
    size = file.handle.seek(0, 2)
    file.handle.seek(here)
    return size


def _begins_as_told(file: _File, told: FilePosition) -> bool:
    return told.head_bytes == 0 or begins_as(_beginning(file, told.head_bytes), told)


def _beginning(file: _File, size: int) -> bytes:
    file.handle.seek(0)
    return file.handle.read(size)
