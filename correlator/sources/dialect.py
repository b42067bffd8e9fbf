"""What a dialect is: a pure function from one message to events, and a declaration of how it behaves.

    decode(message, context) -> [Event | Reject, ...]

A dialect keeps nothing between messages, reads no clock and drops nothing silently: a message that
says nothing we model gives an empty list and is counted as such by the caller; one that is broken
gives a Reject. Edges ("the door *became* open") are not made here: a dialect says what the message
says and marks it as state (`Event.state`); the engine lets only changes pass.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from correlator.clock import IMPOSSIBLE_FROM_MS, UNSET_BEFORE_MS
from correlator.events.event import Entity, Event, Reject, RejectReason, StateValue
from correlator.events.identity import Identity
from correlator.events.ids import content_event_id, native_event_id

MAX_PAYLOAD_BYTES = 1_048_576  # larger messages are rejected: EVE and Wazuh lines stay far below
MAX_DEPTH = 64  # nesting of JSON; real messages of the sources here stay below 12
REJECT_KEEPS_BYTES = 65_536


INTERNED = 65_536  # entities and states kept for reuse; a hospital has fewer sensors, doors and badges
_INTERN_CHARS = 256  # longer ids are made anew each time, so that a flood of them cannot fill memory


def entity(role: str, kind: str, id: str) -> Entity:
    """An Entity, the same object for the same words: most messages are about the same few things."""
    if len(id) > _INTERN_CHARS:
        return Entity(role, kind, id)
    return _entity(role, kind, id)


def state(kind: str, id: str, attribute: str, value: str, alarm: bool = False) -> StateValue:
    """A StateValue, the same object for the same words."""
    if len(id) > _INTERN_CHARS or len(value) > _INTERN_CHARS:
        return StateValue(kind, id, attribute, value, alarm)
    return _state(kind, id, attribute, value, alarm)


_entity = lru_cache(maxsize=INTERNED)(Entity)
_state = lru_cache(maxsize=INTERNED)(StateValue)


class Message(Struct, frozen=True, gc=False, omit_defaults=True):
    """Bytes as a device or tool sent them.

    channel      MQTT topic, or path of the file or listener
    received_ms  receive time UTC, stamped once; -1 for a replayed line that never had one (its device
                 time then counts, and the reader of the file fills in the rest)
    retained     MQTT: replay on subscribe; a state seed, never an event
    queued_since_ms  when the broker began to queue because we were away; 0 if live
    line         line number in the file, from 1; 0 if not from a file
    origin, raw  copied into the events
    """

    channel: str
    payload: bytes
    received_ms: int
    retained: bool = False
    dup: bool = False
    queued_since_ms: int = 0
    line: int = 0
    origin: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class ClockPolicy:
    """How far a source's clock is trusted.

    basis    "device": device time while it is within `skew_ms` of the receive time; "received": never
    zone     the zone of device times without offset; None: such a time is not trusted at all
    skew_ms  largest believable difference between device and receive time, both ways; beyond it
             (a jump, a wrong zone) `received_ms` is used and time_quality is "skewed"
    A device time before 2001 is an unset clock: `received_ms`, time_quality "unset".
    """

    basis: str = "device"
    zone: tzinfo | None = UTC
    skew_ms: int = 300_000


@dataclass(slots=True)
class Context:
    """What a dialect may know besides the message. `settings` is the dialect's own (a map, options)."""

    site: str
    source: str
    clock: ClockPolicy
    identity: Identity = field(default_factory=Identity)
    dialect: str = ""
    zone: tzinfo = UTC
    settings: Any = None
    map_version: str = ""

    def event(
        self,
        message: Message,
        kind: str,
        *,
        index: int = 0,
        device_ms: int | None = None,
        sub_ns: int = 0,
        native_id: str = "",
        entities: tuple[Entity, ...] = (),
        attributes: dict[str, Any] | None = None,
        state: StateValue | None = None,
        level: str = "",
        summary: str = "",
        text: str = "",
        seq: int = 0,
        dedupe_content: bool = False,
    ) -> Event:
        """One event of a message, with its id and its time decided by the clock policy.

        index tells the events of one message apart (0, 1, ...). native_id: what the source calls this
        very message; its repetitions are then dropped. dedupe_content: the source re-sends equal
        messages (same channel, payload, device time); those are dropped too; without a device time
        only a delivery with the MQTT DUP flag is.
        """
        received_ms = message.received_ms
        quality = "device"
        if device_ms is None:
            time_ms, sub_ns = received_ms, 0
            quality = "queued" if message.queued_since_ms else "received"
        elif self.clock.basis != "device":
            time_ms, sub_ns, quality = received_ms, 0, "received"
        elif device_ms < UNSET_BEFORE_MS:
            time_ms, sub_ns, quality = received_ms, 0, "unset"
        elif received_ms < 0:
            time_ms = received_ms = device_ms
        elif message.queued_since_ms and message.queued_since_ms - self.clock.skew_ms <= device_ms <= (
            received_ms + self.clock.skew_ms
        ):
            time_ms = device_ms
        elif -self.clock.skew_ms <= device_ms - received_ms <= self.clock.skew_ms:
            time_ms = device_ms
        else:
            time_ms, sub_ns, quality = received_ms, 0, "skewed"
        dup_key = ""
        if native_id:
            event_id = native_event_id(self.site, self.source, native_id, index)
        else:
            stamp = device_ms if device_ms is not None else message.received_ms
            event_id = content_event_id(self.site, self.source, message.channel, message.payload, stamp, index)
            if dedupe_content and device_ms is None:
                dup_key = content_event_id(self.site, self.source, message.channel, message.payload, 0, index)
        if state is None and not (message.retained or message.dup or dup_key or text or level or self.map_version):
            # Most messages: what stands at its default costs time to pass.
            return Event(
                id=event_id,
                site=self.site,
                source=self.source,
                dialect=self.dialect,
                kind=kind,
                time_ms=time_ms,
                received_ms=received_ms,
                entities=entities,
                attributes=attributes if attributes is not None else {},
                summary=summary,
                sub_ns=sub_ns,
                seq=seq or message.line,
                device_ms=device_ms,
                time_quality=quality,
                dedupe=bool(native_id) or (dedupe_content and device_ms is not None),
                origin=message.origin,
                raw=message.raw,
            )
        return Event(
            id=event_id,
            site=self.site,
            source=self.source,
            dialect=self.dialect,
            kind=kind,
            time_ms=time_ms,
            received_ms=received_ms,
            entities=entities,
            attributes=attributes if attributes is not None else {},
            state=state,
            level=level,
            summary=summary,
            text=text,
            sub_ns=sub_ns,
            seq=seq or message.line,
            device_ms=device_ms,
            time_quality=quality,
            retained=message.retained,
            dedupe=bool(native_id) or (dedupe_content and device_ms is not None),
            dup_key=dup_key,
            mqtt_dup=message.dup,
            origin=message.origin,
            raw=message.raw,
            map_version=self.map_version,
        )

    def reject(self, message: Message, reason: RejectReason, detail: str) -> Reject:
        """The typed reject of a message, with its raw bytes."""
        return reject(self.site, self.source, self.dialect, message, reason, detail)


def reject(site: str, source: str, dialect: str, message: Message, reason: RejectReason, detail: str) -> Reject:
    """A Reject from its parts; keeps the first 64 KB of the payload, size and sha-256 of the whole."""
    payload = message.payload
    return Reject(
        site=site,
        source=source,
        dialect=dialect,
        reason=reason,
        detail=detail[:500],
        channel=message.channel,
        received_ms=message.received_ms,
        payload=payload[:REJECT_KEEPS_BYTES],
        size=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        origin=message.origin,
        raw=message.raw,
    )


class Unreadable(Exception):
    """Raised inside a dialect where a message cannot be taken; `decode` turns it into a Reject."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect's own statement of how it behaves; one contract test checks it against the code.

    follows         document and section of the format
    transport       "mqtt" (topic and payload) or "lines" (one message a line)
    polarity        which value of which field means what, where devices disagree ("contact: true is
                    closed"); field -> {value as JSON text: event kind}
    retain          "seed": a retained message seeds state; "reject"/"ignore" never taken as an event
    native_id       what names one message, "" if nothing does
    duplicates      "native" | "content" | "none": how a repeated delivery is recognised
    identity_fields attribute path -> entity kind; such values stand in events only as tokens
    sensitive       rejects keep no bytes (patient data, faces)
    """

    name: str
    title: str
    follows: str
    transport: str
    clock: ClockPolicy
    polarity: dict[str, dict[str, str]]
    retain: str
    native_id: str
    duplicates: str
    identity_fields: dict[str, str]
    decode_message: Callable[[Message, Context], list[Event]]
    sensitive: bool = False
    check_settings: Callable[[Any, str], Sequence[object]] | None = None

    def decode(self, message: Message, context: Context) -> list[Event | Reject]:
        """Events of a message, or one Reject. Never raises for what a message contains."""
        if len(message.payload) > MAX_PAYLOAD_BYTES:
            detail = f"{len(message.payload)} bytes; the limit is {MAX_PAYLOAD_BYTES}"
            return [self._reject(message, context, "too_large", detail)]
        try:
            events: list[Event | Reject] = list(self.decode_message(message, context))
        except Unreadable as error:
            return [self._reject(message, context, error.reason, error.detail)]
        for event in events:
            if isinstance(event, Event) and (event.time_ms >= IMPOSSIBLE_FROM_MS or event.time_ms < -1):
                detail = f"time {event.time_ms} ms is not in 1970..2099"
                return [self._reject(message, context, "impossible_time", detail)]
        return events

    def _reject(self, message: Message, context: Context, reason: RejectReason, detail: str) -> Reject:
        made = context.reject(message, reason, detail)
        return msgspec.structs.replace(made, payload=b"") if self.sensitive else made


_json = msgspec.json.Decoder()
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(payload: bytes) -> Any:
    """Plain Python values of a JSON text. Raises Unreadable (empty, not_utf8, not_json, too_deep).

    Lone surrogates become U+FFFD, since neither RE2 nor UTF-8 output can carry them. Whole numbers
    that do not fit 64 bits become their text, since msgpack cannot carry them; rules read both alike.
    """
    if not payload.strip():
        raise Unreadable("empty", "no bytes where a JSON value should be")
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        raise Unreadable("too_deep", f"nests deeper than {MAX_DEPTH}")
    try:
        value = _json.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        try:
            payload.decode("utf-8")
        except UnicodeDecodeError as bad:
            raise Unreadable("not_utf8", f"byte {bad.start} is not UTF-8") from error
        if _SURROGATE.search(payload):
            return parse_json(_replace_surrogates(payload))
        raise Unreadable("not_json", str(error)) from error
    if _SURROGATE.search(payload):
        value = _clean(value)
    try:
        _pack(value)  # a microsecond; looking at each value takes several
    except OverflowError:
        value = _fitting(value)
    return value


def _replace_surrogates(payload: bytes) -> bytes:
    return re.sub(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
                  lambda found: found[0] if len(found[0]) == 12 else b"\\ufffd", payload)  # fmt: skip


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8") if not value.isascii() else value
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


_pack = msgspec.msgpack.Encoder().encode


def _fitting(value: Any) -> Any:
    if type(value) is int:
        return value if -(2**63) <= value < 2**64 else str(value)
    if type(value) is list:
        return [_fitting(item) for item in value]
    if type(value) is dict:
        return {key: _fitting(item) for key, item in value.items()}
    return value


def _depth(payload: bytes) -> int:
    """Largest nesting of brackets outside strings."""
    deepest = depth = 0
    in_string = escaped = False
    for byte in payload:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x7B, 0x5B):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (0x7D, 0x5D):
            depth -= 1
    return deepest


def parse_object(payload: bytes) -> dict[str, Any]:
    """`parse_json` of a message that must be a JSON object. Raises Unreadable("wrong_type") otherwise."""
    value = parse_json(payload)
    if type(value) is not dict:
        raise Unreadable("wrong_type", f"a JSON object was expected, this is {_type_name(value)}")
    return value


def _type_name(value: Any) -> str:
    return {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list",
            dict: "an object", type(None): "null"}.get(type(value), type(value).__name__)  # fmt: skip


def need_text(data: dict[str, Any], name: str) -> str:
    """A field that must be a non-empty text. Raises Unreadable naming the field."""
    value = data.get(name)
    if type(value) is str and value:
        return value
    if value is None or value == "":
        raise Unreadable("missing_field", f"field {name!r} is missing or empty")
    raise Unreadable("wrong_type", f"field {name!r} must be a text, this is {_type_name(value)}")


def optional_text(data: dict[str, Any], name: str) -> str:
    """A field's text, "" if absent or null. Raises Unreadable("wrong_type") for anything but a text."""
    value = data.get(name)
    if value is None:
        return ""
    if type(value) is str:
        return value
    raise Unreadable("wrong_type", f"field {name!r} must be a text, this is {_type_name(value)}")


def need_number(data: dict[str, Any], name: str) -> float | int:
    """A field that must be a JSON number. Raises Unreadable naming the field."""
    value = data.get(name)
    if type(value) is int or type(value) is float:
        return value
    if value is None:
        raise Unreadable("missing_field", f"field {name!r} is missing")
    raise Unreadable("wrong_type", f"field {name!r} must be a number, this is {_type_name(value)}")
