"""An event: one normalised fact from one message, and what a message that gave none becomes.

Times are integer milliseconds UTC. Every struct is frozen: stages that add something (lateness,
places) make a new value or keep it beside the event.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field

# Version of the messages that leave us, major.minor: a minor one only adds optional fields.
SCHEMA_VERSION = "1.0"


def schema_version() -> str:
    """The version that a new message bears. A factory, since `omit_defaults` would leave a plain default out."""
    return SCHEMA_VERSION


EntityKind = Literal[
    "zone", "door", "reader", "sensor", "camera", "device", "host", "ip", "mac", "network",
    "person", "badge", "account", "process", "file", "url", "software", "data_store", "service",
]  # fmt: skip
Role = Literal["actor", "target", "where", "via", "observer", "origin"]
Level = Literal["informational", "low", "medium", "high", "critical"]
TimeQuality = Literal["device", "received", "queued", "unset", "skewed"]
Domain = Literal["physical", "cyber", "building"]

ENTITY_KINDS: tuple[str, ...] = EntityKind.__args__  # type: ignore[attr-defined]
ROLES: tuple[str, ...] = Role.__args__  # type: ignore[attr-defined]
LEVELS: tuple[str, ...] = Level.__args__  # type: ignore[attr-defined]
LEVEL_RANK: dict[str, int] = {level: rank for rank, level in enumerate(LEVELS)}


class Entity(Struct, frozen=True, gc=False):
    """A named thing an event is about. `id` is what `Identity.token` gave for it."""

    role: str
    kind: str
    id: str


class StateValue(Struct, frozen=True, gc=False):
    """What a state-like message says of one thing: "contact of this sensor is open".

    The engine keeps the last value per (source, entity, attribute) and lets only changes pass
    (design: edges are made in the engine). `alarm` marks a value that is an alarm by itself, so that
    a first-ever live one is not swallowed as a seed.
    """

    kind: str
    id: str
    attribute: str
    value: str
    alarm: bool = False


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode
_put: Final = msgspec.structs.force_setattr


# Not keyword-only: `Context.event` makes every event of every message and gives the fields in this order.
class Event(Struct, frozen=True, gc=False, omit_defaults=True, rename={"carried": "attributes"}):
    """One normalised fact.

    id            32 hex digits, see `correlator.events.ids`
    kind          a word of `correlator.events.kinds.KINDS`
    time_ms       device time where the source's clock policy trusts it, else `received_ms`
    sub_ns, seq   what the message gives below the millisecond; the source's own sequence number
    attributes    the source's own names and values; identifying values only as tokens
    text          the message's free text (a syslog MSG, a log line), identities as tokens; keyword
                  rules search it. Empty where a message has only fields.
    summary       one plain sentence of what the message said, identities as tokens
    level         overrides the kind's default level when not empty
    dedupe        a second event with this id within `dup_window_ms` is a repeated delivery and is
                  dropped; otherwise it is numbered and kept
    dup_key       what its message repeats when an MQTT broker gives it again, with `mqtt_dup`; "" where
                  none does
    origin        "inputs/x.ndjson:12", the place a person can look up; `raw` the carrier's position
    late_ms, first_seen   written by the engine only
    """

    id: str
    site: str
    source: str
    dialect: str
    kind: str
    time_ms: int
    received_ms: int
    entities: tuple[Entity, ...] = ()
    carried: dict[str, Any] | bytes = {}  # the attributes; as msgpack from the log, since of many nobody asks for them
    state: StateValue | None = None
    level: str = ""
    summary: str = ""
    text: str = ""
    sub_ns: int = 0
    seq: int = 0
    device_ms: int | None = None
    time_quality: str = "device"
    retained: bool = False
    dedupe: bool = False
    dup_key: str = ""
    mqtt_dup: bool = False
    origin: str = ""
    raw: str = ""
    map_version: str = ""
    late_ms: int = 0
    first_seen: bool = False

    @property
    def attributes(self) -> dict[str, Any]:
        """The source's own names and values, read from what the log carries once. Raises msgspec.DecodeError."""
        carried = self.carried
        if isinstance(carried, dict):
            return carried
        read: dict[str, Any] = _unpack(carried)
        _put(self, "carried", read)  # another form of the same value: the event stays what it is
        return read

    def names_kind(self) -> bool:
        """Whether there is an attribute called `kind`, which hides the event's own kind from fields of rules."""
        carried = self.carried
        if isinstance(carried, bytes) and b"kind" not in carried:
            return False  # mostly; without reading them
        return "kind" in self.attributes

    def pack(self) -> None:
        """Makes `carried` what the log carries."""
        carried = self.carried
        if carried and isinstance(carried, dict):
            _put(self, "carried", _pack(carried))

    def entity(self, kind: str, role: str = "") -> str:
        """The id of the first entity of that kind (and role, if given), "" if there is none."""
        for entity in self.entities:
            if entity.kind == kind and (not role or entity.role == role):
                return entity.id
        return ""


RejectReason = Literal[
    "empty",                # nothing in the message where something must be
    "too_large",            # payload over MAX_PAYLOAD_BYTES
    "too_deep",             # nesting over MAX_DEPTH
    "not_utf8",
    "not_json",
    "not_csv",
    "not_this_dialect",     # readable, but not a message of the declared dialect
    "missing_field",
    "wrong_type",
    "impossible_time",
    "unmapped",             # no route, or a value the map does not name
    "too_late",             # older than max_late_ms
    "no_configuration",
    "engine_error",
    "log_gap",              # records of the log that were gone before they were folded
    "unreadable_event",     # on events.enriched, met by the evidence keeper
    "unreadable_threat",    # on threats, met by an output
    "output_refused",       # a threat that an output's receiver will never take
]  # fmt: skip
REJECT_REASONS: tuple[str, ...] = RejectReason.__args__  # type: ignore[attr-defined]


class Reject(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A message or event that could not be taken, with its reason; never silent.

    `payload` is the raw message (JSON writes it as base64); over 64 KB only its first 64 KB are kept,
    `size` and `sha256` tell of the whole.
    """

    site: str
    source: str
    dialect: str
    reason: RejectReason
    detail: str
    channel: str = ""
    received_ms: int = 0
    payload: bytes = b""
    size: int = 0
    sha256: str = ""
    origin: str = ""
    raw: str = ""
    schema_version: str = field(default_factory=schema_version)


class KeptMessage(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A raw message kept as evidence of an event; of more than 64 KB the first 64 KB (JSON writes base64).

    `size` and `sha256` tell of the whole message, `raw` where it stood.
    """

    event: str
    site: str
    channel: str
    received_ms: int
    payload: bytes
    size: int
    sha256: str
    raw: str = ""
    schema_version: str = field(default_factory=schema_version)
