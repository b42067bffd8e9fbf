"""What a dialect is: a pure function from one message to events, and a declaration of how it behaves.

    decode(message, context) -> [Event | Reject, ...]

A dialect keeps nothing between messages, reads no clock and drops nothing silently: a message that
says nothing we model gives an empty list and is counted as such by the caller; one that is broken
gives a Reject. Edges ("the door *became* open") are not made here: a dialect says what the message
says and marks it as state (`Event.state`); the engine lets only changes pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from correlator.clock import IMPOSSIBLE_FROM_MS, UNSET_BEFORE_MS
from correlator.events.event import Entity, Event, Reject, RejectReason, StateValue, TimeQuality
from correlator.events.identity import Identity
from correlator.events.ids import content_event_id, event_head, native_event_id
from correlator.sources.reading import Unreadable

MAX_PAYLOAD_BYTES = 1_048_576  # larger messages are rejected: EVE and Wazuh lines stay far below
REJECT_KEEPS_BYTES = 65_536


INTERNED = 65_536  # entities and states kept for reuse; a hospital has fewer sensors, doors and badges
_REMEMBERED = 16_384
_INTERN_CHARS = 256  # longer ids are made anew each time, so that a flood of them cannot fill memory

T = TypeVar("T")


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
    qos          MQTT: 1 and 2 may be delivered again, then with `dup` and the same `packet_id` (MQTT 5.0, 2.2.1)
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
    qos: int = 0
    packet_id: int = 0


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

    def time_of(self, device_ms: int | None, received_ms: int, queued_since_ms: int) -> tuple[int, TimeQuality]:
        """(time of an event in ms UTC, time_quality): the device time where it is trusted, else `received_ms`.

        A message that waited in a broker may be as old as the queue. Without a receive time (-1) a device
        time that is set counts, whatever it says.
        """
        if device_ms is None:
            return received_ms, "queued" if queued_since_ms else "received"
        if self.basis != "device":
            return received_ms, "received"
        if device_ms < UNSET_BEFORE_MS:
            return received_ms, "unset"
        skew_ms = self.skew_ms
        if received_ms < 0 or -skew_ms <= device_ms - received_ms <= skew_ms:
            return device_ms, "device"
        if queued_since_ms and queued_since_ms - skew_ms <= device_ms <= received_ms + skew_ms:
            return device_ms, "device"
        return received_ms, "skewed"


@dataclass(slots=True)
class Context:
    """What a dialect may know besides the message. `settings` is the dialect's own (a map, options).

    opener: opens the envelope in which a shipper wrapped the message (correlator.sources.envelopes).
    memory: what a dialect worked out from the settings for a topic, camera or device, kept with
    `remember`. It follows from the rest and changes no result.
    """

    site: str
    source: str
    clock: ClockPolicy
    identity: Identity = field(default_factory=Identity)
    dialect: str = ""
    zone: tzinfo = UTC
    settings: Any = None
    map_version: str = ""
    opener: Callable[[Message], Message] | None = None
    memory: dict[Any, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    _head: Any = field(init=False, repr=False, compare=False)
    _heads: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
    _keyed: tuple[Message | None, str] = field(init=False, repr=False, compare=False, default=(None, ""))

    def __post_init__(self) -> None:
        self._head = event_head(self.site, self.source)

    def remember(self, key: str | tuple[str, ...], value: T) -> T:
        """The value; kept under the key unless that is long. A flood of keys starts the memory afresh."""
        if len(key) <= _INTERN_CHARS if type(key) is str else sum(map(len, key)) <= _INTERN_CHARS:
            if len(self.memory) >= _REMEMBERED:
                self.memory.clear()
            self.memory[key] = value
        return value

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
        messages (same channel, payload, device time); those are dropped too. What the broker delivers
        again (the MQTT DUP flag) is dropped whatever the source declares, by `dup_key`.
        """
        received_ms = message.received_ms
        time_ms, quality = self.clock.time_of(device_ms, received_ms, message.queued_since_ms)
        if quality != "device":
            sub_ns = 0
        elif received_ms < 0:
            received_ms = time_ms
        dedupe, dup_key = True, ""
        if native_id:
            event_id = native_event_id(self._head, native_id, index)
        else:
            head = self._heads.get(message.channel) or self._head_of(message.channel)
            payload = message.payload
            event_id = content_event_id(head, payload, message.received_ms if device_ms is None else device_ms, index)
            dedupe = dedupe_content and device_ms is not None
        if message.qos:
            keyed, dup_key = self._keyed
            if keyed is not message:
                dup_key = self._dup_key_of(message, event_id if native_id or device_ms is not None else "")
        # In the order in which Event declares them: by name they would cost as much as all the rest here.
        return Event(
            event_id,
            self.site,
            self.source,
            self.dialect,
            kind,
            time_ms,
            received_ms,
            entities,
            {} if attributes is None else attributes,
            state,
            level,
            summary,
            text,
            sub_ns,
            seq or message.line,
            device_ms,
            quality,
            message.retained,
            dedupe,
            dup_key,
            message.dup,
            message.origin,
            message.raw,
            self.map_version,
        )

    def _dup_key_of(self, message: Message, named: str) -> str:
        """Content and packet identifier. named: id of its first event where that is the same on every delivery."""
        if named:
            key = f"{named}.{message.packet_id:x}"
        else:
            head = self._heads.get(message.channel) or self._head_of(message.channel)
            key = content_event_id(head, message.payload, message.packet_id, 0)
        self._keyed = (message, key)
        return key

    def _head_of(self, channel: str) -> Any:
        head = event_head(self.site, self.source, channel)
        if len(channel) <= _INTERN_CHARS:
            if len(self._heads) >= _REMEMBERED:
                self._heads.clear()
            self._heads[channel] = head
        return head

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
    sensitive       rejects keep no bytes and no value of a message (patient data, faces)
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
            inner = message if context.opener is None else context.opener(message)
            events = self.decode_message(inner, context)
        except Unreadable as error:
            return [self._reject(message, context, error.reason, error.detail if self.sensitive else str(error))]
        for event in events:
            if not -1 <= event.time_ms < IMPOSSIBLE_FROM_MS:
                detail = f"time {event.time_ms} ms is not in 1970..2099"
                return [self._reject(message, context, "impossible_time", detail)]
        return events  # type: ignore[return-value]  # a list of one of the two; nothing is added to it

    def _reject(self, message: Message, context: Context, reason: RejectReason, detail: str) -> Reject:
        made = context.reject(message, reason, detail)
        return msgspec.structs.replace(made, payload=b"") if self.sensitive else made
