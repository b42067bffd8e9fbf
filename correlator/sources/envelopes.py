"""Envelopes: what Filebeat, Vector and Fluent Bit wrap around a line on its way to a raw topic.

Follows: Filebeat 8, exported fields of the log inputs (`message`, `event.original`, `log.file.path`,
`log.offset`, `@timestamp`); Vector, output of the file and socket sources in its log namespace
(`message`, `file`, `offset`, `timestamp`); Fluent Bit, tail input and Kafka output in JSON (`log`, a path
and an offset key, `@timestamp` as a number or ISO 8601). Wazuh ships alerts.json by Filebeat; Suricata's
own outputs (files, sockets, Redis) write the bare line and need no envelope.

An envelope is opened before a dialect sees the message: the line becomes the payload, the file its
channel, the offset its place among lines of one millisecond. Everything else of the envelope stays
behind. A shipper's clock says when it read the line. It is not the receive time, since no process of ours
was there; a source says so if it is to count (`envelope_time`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from correlator.clock import IMPOSSIBLE_FROM_MS, UNSET_BEFORE_MS, epoch_ms, parse_iso
from correlator.sources.dialect import Message
from correlator.sources.reading import Unreadable, parse_object

WRITERS: Final = ("none", "filebeat", "vector", "fluentbit")
TIMES: Final = ("ignored", "queued", "received")

_LARGEST_OFFSET: Final = 2**53


class _Original(Struct):
    original: str | None = None


class _File(Struct):
    path: str | None = None


class _Log(Struct):
    file: _File | None = None
    offset: int | None = None


class _Filebeat(Struct):
    event: _Original | None = None
    event_original: str | None = field(default=None, name="event.original")
    message: str | None = None
    json: dict[str, Any] | None = None
    log: _Log | None = None
    time: str | float | None = field(default=None, name="@timestamp")

    def line(self) -> str | bytes | None:
        """The line as it was read; the object that a parser of Filebeat made of it, where it kept no line."""
        original = self.event_original or (self.event.original if self.event is not None else None)
        return original or self.message or (msgspec.json.encode(self.json) if self.json is not None else None)

    def place(self) -> tuple[str | None, int | None]:
        """(path of the file, offset in it)."""
        log = self.log
        return (None, None) if log is None else (log.file.path if log.file is not None else None, log.offset)


class _Vector(Struct):
    message: str | None = None
    file: str | None = None
    offset: int | None = None
    time: str | None = field(default=None, name="timestamp")

    def line(self) -> str | bytes | None:
        return self.message

    def place(self) -> tuple[str | None, int | None]:
        return self.file, self.offset


class _FluentBit(Struct):
    log: str | None = None
    message: str | None = None
    file: str | None = None
    filename: str | None = None
    offset: int | None = None
    time: str | float | None = field(default=None, name="@timestamp")

    def line(self) -> str | bytes | None:
        return self.log or self.message

    def place(self) -> tuple[str | None, int | None]:
        return self.file or self.filename, self.offset


_Kind = type[_Filebeat] | type[_Vector] | type[_FluentBit]
_KINDS: Final[dict[str, tuple[_Kind, str]]] = {
    "filebeat": (_Filebeat, "event.original, message or json"),
    "vector": (_Vector, "message"),
    "fluentbit": (_FluentBit, "log or message"),
}
_decoders: Final = {kind: msgspec.json.Decoder(kind) for kind, _ in _KINDS.values()}


def opener(writer: str, time: str = "ignored") -> Callable[[Message], Message] | None:
    """What opens a writer's envelopes (`Context.opener`), None for "none".

    time: what the envelope's own time is taken for. "ignored"; "queued": the shipper kept the line since
    then, so that a device time from before the receive time is believed; "received": the receive time of
    a line that has none (a replayed capture), never instead of one.
    The function raises Unreadable for what is no such envelope or holds no line. Raises ValueError for
    unknown words.
    """
    if writer not in WRITERS or time not in TIMES:
        raise ValueError(f"no envelope {writer!r} with time {time!r}")
    return None if writer == "none" else partial(_opened, *_KINDS[writer], time)


def _opened(kind: _Kind, where: str, time: str, message: Message) -> Message:
    envelope = _read(kind, message.payload)
    line = envelope.line()
    if not line:
        raise Unreadable("missing_field", f"the envelope holds no line ({where})")
    path, offset = envelope.place()
    received_ms, queued_since_ms = message.received_ms, message.queued_since_ms
    if time != "ignored":
        stamp_ms = _time(envelope.time)
        if time == "queued" and not queued_since_ms:
            queued_since_ms = stamp_ms
        elif time == "received" and received_ms < 0:
            received_ms = stamp_ms
    return msgspec.structs.replace(
        message,
        channel=path or message.channel,
        payload=line.rstrip("\r\n").encode("utf-8", "replace") if isinstance(line, str) else line,
        received_ms=received_ms,
        queued_since_ms=queued_since_ms,
        line=message.line if offset is None or not 0 <= offset < _LARGEST_OFFSET else offset + 1,
    )


def _read(kind: _Kind, payload: bytes) -> _Filebeat | _Vector | _FluentBit:
    try:
        return _decoders[kind].decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = parse_object(payload)  # tells what is wrong with the text, and mends lone surrogates
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Unreadable("wrong_type", f"envelope: {error}") from error


def _time(value: str | float | None) -> int:
    if value is None:
        raise Unreadable("missing_field", "the envelope holds no time")
    try:
        ms = parse_iso(value)[0] if isinstance(value, str) else epoch_ms(value)[0]
    except (ValueError, OverflowError) as error:
        raise Unreadable("wrong_type", "the envelope's time is no time", value) from error
    if not UNSET_BEFORE_MS <= ms < IMPOSSIBLE_FROM_MS:
        raise Unreadable("impossible_time", "the envelope's time is out of range", value)
    return ms
