"""The record of the log, the one thing that changes a decision, and its wire form.

The same bytes stand on the Kafka topic `events` and in the embedded log. A record is about one site:
the events of one input, promises ("ticks") of inputs, inputs that were taken out, a configuration that
is in force from here on, or decisions of people. Only promises may be for several sites, since all
silent inputs of a partition share a record.

Wire form: one byte of version, then msgpack. The version is raised when a field changes its meaning, while new
fields stand at the end and have a default. Version 2 holds the attributes of an event as msgpack of their own, which
is read when somebody asks for them; version 1, which held them as a map, is read, too.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from correlator.errors import RecordRefused
from correlator.events.event import Event

VERSION: Final = 2


class Configuration(Struct, frozen=True, gc=False, omit_defaults=True):
    """The names (sha-256 of their bodies, hex) of what is in force from this record on.

    serial grows with every `correlator config apply`: a record with a smaller one than that in force
    is an old one repeated by a process that has not heard yet, and changes nothing.
    """

    serial: int
    rules: str
    site: str
    settings: str
    tables: str = ""
    baseline: str = ""

    def bodies(self) -> tuple[str, ...]:
        """The hashes that must be at hand to fold on."""
        return tuple(one for one in (self.rules, self.site, self.settings, self.tables, self.baseline) if one)


class Action(Struct, frozen=True, gc=False, omit_defaults=True):
    """A decision of a person, as the relay copied it (correlator.journal.relay). kind: verdict, exception, window,
    close, reopen or state; at_ms: stamped by the process that took it; body: as people asked for it."""

    id: str
    kind: str
    at_ms: int
    body: dict[str, Any] = {}


class LogRecord(Struct, frozen=True, gc=False, array_like=True):
    """One record of the log.

    site        whose record it is; "" if it holds only ticks
    input       the input the events came from, "" without events
    first, last raw offsets of the input that this record covers, both included; -1 without events
    events      in the order received
    offsets     raw offset of each event, so that a part of a record that was read twice is known
    ticks       site -> input -> "everything received up to this time (ms UTC) is in the log"
    inputs_out  inputs whose promises are no longer waited for
    """

    site: str = ""
    input: str = ""
    first: int = -1
    last: int = -1
    events: tuple[Event, ...] = ()
    offsets: tuple[int, ...] = ()
    ticks: dict[str, dict[str, int]] = {}
    inputs_out: tuple[str, ...] = ()
    configuration: Configuration | None = None
    actions: tuple[Action, ...] = ()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(LogRecord).decode
_MARK: Final = bytes([VERSION])
_READ: Final = (_MARK, b"\x01")


def encode(record: LogRecord) -> bytes:
    """The record's bytes; the same record gives the same bytes."""
    for event in record.events:
        if type(event.carried) is dict:
            event.pack()
    return _MARK + _encode(record)


def decode(data: bytes) -> LogRecord:
    """The record of some bytes. Raises RecordRefused: another version, or no record at all."""
    if data[:1] not in _READ:
        found = f"of version {data[0]}" if data else "empty"
        raise RecordRefused(f"a record of the log is {found}; this release reads versions 1 to {VERSION}")
    try:
        return _decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordRefused(f"a record of the log cannot be read: {error}") from error
