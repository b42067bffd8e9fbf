"""Commands that look into an embedded log beside the process that writes it: replay, rejects, state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import TextIO

import msgspec

from correlator.clock import local
from correlator.embedded.log import RAW_PREFIX, EmbeddedLog
from correlator.errors import UsageError
from correlator.events.event import Reject
from correlator.run.backup import read_state, words, write_state
from correlator.run.log import Configuration, LogRecord, decode
from correlator.run.partition import configurations

_CHUNK = 500


class LogOfFile:
    """An embedded log as `correlator.run.relog.LogReader`. Raises UsageError as EmbeddedLog does."""

    def __init__(self, file: Path) -> None:
        self._log = EmbeddedLog(file, write=False)

    def bodies(self) -> Mapping[str, bytes]:
        """Bodies of the configurations that the records name."""
        return self._log.bodies()

    def read(self, newest: int = 0) -> Iterator[tuple[str, LogRecord]]:
        """(offset, record), oldest first; of the last so many if `newest` is given. Raises RecordRefused."""
        offset = max(self._log.log_start(), self._log.next_offset - newest if newest else 0)
        while rows := self._log.records(offset, _CHUNK):
            for at, value in rows:
                yield f"events:{at}", decode(value)
            offset = rows[-1][0] + 1

    def in_force(self) -> Mapping[str, Configuration]:
        """What the site has, by saved state."""
        return configurations(self._log.state())

    def close(self) -> None:
        """Closes the file."""
        self._log.close()


# ---- state -------------------------------------------------------------------------------------


def export_state(file: Path, to: Path, out: TextIO) -> int:
    """Writes the state to a file; the process may run. Raises UsageError."""
    log = EmbeddedLog(file, write=False)
    try:
        entries = log.state()
    finally:
        log.close()
    count = write_state(to, "embedded", 1, ((0, key, value) for key, value in sorted(entries.items())))
    out.write(f"{words(0, entries)}\n{to}: {count} entries\n")
    return 0


def import_state(file: Path, given: Path, out: TextIO) -> int:
    """Puts an exported state in the place of the present one; the process must not run. Raises UsageError."""
    _, state = read_state(given, "embedded")
    entries = state.get(0, {})
    log = EmbeddedLog(file, write=True)
    try:
        log.replace_state(entries)
    except sqlite3.Error as error:
        raise UsageError(f"{file}: cannot be written: {error}") from error
    finally:
        log.close()
    out.write(f"{words(0, entries)}\n")
    return 0


# ---- rejects -----------------------------------------------------------------------------------


def list_rejects(file: Path, out: TextIO, *, reason: str, site: str, last: int) -> int:
    """The newest rejects, oldest first: number, time, site, source, reason, detail; then their number by reason."""
    log = EmbeddedLog(file, write=False)
    try:
        counts: dict[str, int] = {}
        shown: list[tuple[int, Reject]] = []
        for number, one in _rejects(log, reason):
            if site and one.site != site:
                continue
            counts[one.reason] = counts.get(one.reason, 0) + 1
            shown.append((number, one))
            if len(shown) > 2 * last:
                del shown[:-last]
    finally:
        log.close()
    for number, one in shown[-last:] if last else ():
        at = f"{local(one.received_ms, UTC):%Y-%m-%d %H:%M:%S}Z" if one.received_ms > 0 else "-"
        out.write(f"{number:<8} {at}  {one.site}  {one.source or '-'}  {one.reason}: {one.detail}\n")
    for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        out.write(f"{count:>8}  {name}\n")
    return 0


def show_reject(file: Path, position: str, out: TextIO) -> int:
    """One reject with its raw bytes as text, whole if the log still has the message. Raises UsageError."""
    log = EmbeddedLog(file, write=False)
    try:
        one = _one(log, position)
        number = one.raw.removeprefix(RAW_PREFIX)
        raw = log.raw(int(number)) if one.raw.startswith(RAW_PREFIX) and number.isdigit() else None
    finally:
        log.close()
    for name, value in msgspec.to_builtins(one).items():
        if name != "payload":
            out.write(f"{name}: {value}\n")
    payload = raw.message.payload if raw is not None else one.payload
    out.write(f"\n{payload.decode('utf-8', 'backslashreplace')}\n")
    if one.size > len(payload):
        out.write(f"\nthe first {len(payload)} of {one.size} bytes\n")
    return 0


def retry_reject(file: Path, position: str, out: TextIO) -> int:
    """Has the running process take the message of a reject again. Raises UsageError where bytes are missing."""
    log = EmbeddedLog(file, write=False)
    try:
        one = _one(log, position)
        number = one.raw.removeprefix(RAW_PREFIX)
        there = number.isdigit() and log.raw(int(number)) is not None
        if not there and one.size > len(one.payload):
            raise UsageError(f"only {len(one.payload)} of {one.size} bytes were kept; it cannot be taken again")
        log.retry([int(position)])
    finally:
        log.close()
    out.write(f"{position} is taken again by the running process, or by the next one\n")
    return 0


def _rejects(log: EmbeddedLog, reason: str) -> Iterator[tuple[int, Reject]]:
    after = 0
    while rows := log.rejects(reason, after):
        for number, value in rows:
            yield number, msgspec.json.decode(value, type=Reject)
        after = rows[-1][0]


def _one(log: EmbeddedLog, position: str) -> Reject:
    value = log.reject(int(position)) if position.isdigit() and len(position) < 19 else None
    if value is None:
        raise UsageError(f"there is no reject {position}; `correlator rejects list` shows their numbers")
    return msgspec.json.decode(value, type=Reject)
