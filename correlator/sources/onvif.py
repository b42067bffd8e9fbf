"""ONVIF Profile M events as JSON over MQTT, and the same topics as Axis devices wrap them.

Follows: ONVIF Core Specification, "MQTT/JSON event broker"; Access Control and Door Control service
specifications (event topics); Axis "MQTT event bridge". The traps are in docs/sources.md.

    <prefix>/onvif-ej/<topic>[/&<source value>/...]   {"UtcTime", "Source": {}, "Data": {}}
    any topic                                        {"timestamp", "topic": "onvif:...", "message": {"source", "data"}}

A property is published retained, and nothing in the payload tells its first value from a change: it is
given as state. Granted is not entered: `badge.granted` and `badge.entered` are two messages. Settings:

    devices: {<prefix> or <prefix>/<video source, sensor or input token>: {camera|sensor|door|zone: id}}
    doors: {<DoorToken>: {door: d1}}
    access_points: {<AccessPointToken>: {reader: r1, door: d1}}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from correlator.clock import epoch_ms, parse_iso
from correlator.errors import Fault
from correlator.events.event import Entity, Event, StateValue
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity, state
from correlator.sources.reading import Unreadable, parse_object
from correlator.sources.settings import check_tables

_MARK: Final = "/onvif-ej/"

# Door/State/<topic> -> (attribute of the door, {State: (kind, value, alarm)}); Door Control, section
# "Door state". A state not named here (Unknown, NotSupported) says nothing.
_DOOR_STATES: Final[dict[str, tuple[str, dict[str, tuple[str, str, bool]]]]] = {
    "DoorPhysicalState": ("contact", {
        "Open": ("door.opened", "open", False),
        "Closed": ("door.closed", "closed", False),
        "Fault": ("door.fault", "fault", True),
    }),
    "DoorMode": ("mode", {
        "Locked": ("door.locked", "locked", False),
        "DoubleLocked": ("door.locked", "locked", False),
        "LockedDown": ("door.locked", "locked_down", False),
        "Blocked": ("door.locked", "blocked", False),
        "Unlocked": ("door.unlocked", "unlocked", False),
        "Accessed": ("door.unlocked", "accessed", False),
        "LockedOpen": ("door.unlocked", "locked_open", False),
    }),
    "LockPhysicalState": ("lock", {
        "Locked": ("door.locked", "locked", False),
        "Unlocked": ("door.unlocked", "unlocked", False),
        "Fault": ("door.fault", "fault", True),
    }),
    "DoubleLockPhysicalState": ("double_lock", {
        "Locked": ("door.locked", "locked", False),
        "Unlocked": ("door.unlocked", "unlocked", False),
        "Fault": ("door.fault", "fault", True),
    }),
    "DoorAlarm": ("alarm", {
        "Normal": ("door.normal", "normal", False),
        "DoorForcedOpen": ("door.forced", "forced", True),
        "DoorOpenTooLong": ("door.held", "held", True),
    }),
    "DoorTamper": ("tamper", {
        "NotInTamper": ("door.normal", "off", False),
        "TamperDetected": ("door.tamper", "on", True),
    }),
    "DoorFault": ("fault", {
        "NotInFault": ("door.normal", "off", False),
        "FaultDetected": ("door.fault", "on", True),
    }),
}  # fmt: skip

# AccessControl/<topic> -> kind; Access Control, section "Event topics". Requests and timeouts decide nothing.
_ACCESS: Final[dict[str, str]] = {
    "AccessGranted": "badge.granted",
    "AccessTaken": "badge.entered",
    "AccessNotTaken": "badge.not_entered",
    "Denied": "badge.denied",
    "Duress": "badge.duress",
}

# topic -> (field of Data, attribute, kind when true, kind when false or "", is an alarm)
_FLAGS: Final[dict[str, tuple[str, str, str, str, bool]]] = {
    "VideoSource/MotionAlarm": ("State", "motion", "motion.detected", "motion.cleared", False),
    "RuleEngine/CellMotionDetector/Motion": ("IsMotion", "motion", "motion.detected", "motion.cleared", False),
    "RuleEngine/MotionRegionDetector/Motion": ("State", "motion", "motion.detected", "motion.cleared", False),
    "RuleEngine/FieldDetector/ObjectsInside": ("IsInside", "inside", "presence.detected", "presence.cleared", False),
    "RuleEngine/TamperDetector/Tamper": ("IsTamper", "tamper", "camera.tamper", "camera.tamper_cleared", True),
    **{
        f"VideoSource/{topic}/{service}": ("State", attribute, "camera.tamper", "camera.tamper_cleared", True)
        for topic, attribute in (("GlobalSceneChange", "scene"), ("ImageTooBlurry", "blurry"), ("ImageTooDark", "dark"))
        for service in ("ImagingService", "AnalyticsService", "RecordingService")
    },
    "VideoSource/SignalLoss": ("State", "signal_loss", "camera.offline", "camera.online", True),
    "Device/Sensor/PIR": ("state", "motion", "motion.detected", "motion.cleared", False),
    "Device/axis:Sensor/PIR": ("state", "motion", "motion.detected", "motion.cleared", False),
    "Device/Trigger/DigitalInput": ("LogicalState", "contact", "contact.opened", "contact.closed", False),
    "Device/axis:IO/Port": ("state", "contact", "contact.opened", "contact.closed", False),
}

# topics that tell a moment, not a state
_MOMENTS: Final[dict[str, str]] = {
    "RuleEngine/LineDetector/Crossed": "line.crossed",
    "RuleEngine/LoiteringDetector/ObjectIsLoitering": "loitering.detected",
    "Device/Sensor/Temperature/High": "temperature.high",
    "Device/Sensor/Temperature/Low": "temperature.low",
    "Device/Sensor/RelativeHumidity/High": "humidity.high",
    "Device/Sensor/AbsoluteHumidity/High": "humidity.high",
}
_TRUE: Final = frozenset({"true", "1", "active", "on"})
_FALSE: Final = frozenset({"false", "0", "inactive", "off"})
# What may name a person or a credential, wherever it stands in Source or Data.
_IDENTITIES: Final[dict[str, str]] = {
    "CredentialToken": "badge",
    "CredentialHolderName": "person",
    "IdentifierValue": "badge",
    "Card": "badge",
}


class _Notice(Struct, frozen=True, gc=False):
    """One message in the shape both transports come to."""

    prefix: str
    topic: str
    source: dict[str, Any]
    data: dict[str, Any]
    device_ms: int | None
    sub_ns: int


_Handler = Callable[[_Notice, Message, Context], list[Event]]


def _decode(message: Message, context: Context) -> list[Event]:
    if not message.payload:  # the property is gone: a retained message was deleted
        return []
    channel = message.channel
    known = context.memory.get(channel) or context.remember(channel, _taken(channel))
    if known[0]:
        _, prefix, topic, handler = known
        notice = _profile_m(message, context, prefix, topic)
    else:
        notice = _axis(message)
        handler = _handler(notice.topic) if len(notice.topic) <= 256 else None
    if handler is None:
        return []
    events = handler(notice, message, context)
    if message.retained:
        return [event for event in events if event.state is not None]
    return events


def _taken(channel: str) -> tuple[bool, str, str, _Handler | None]:
    """(whether it is a topic of Profile M, its prefix, the ONVIF topic, what takes that)."""
    prefix, mark, rest = channel.partition(_MARK)
    topic = rest.partition("/&")[0]  # what follows repeats the source values
    return bool(mark), prefix, topic, _handler(topic) if len(topic) <= 256 else None


def _profile_m(message: Message, context: Context, prefix: str, topic: str) -> _Notice:
    body = parse_object(message.payload)
    stamp = body.get("UtcTime")
    device_ms, sub_ns = None, 0
    if stamp is not None:
        if type(stamp) is not str:
            raise Unreadable("wrong_type", "field 'UtcTime' must be a text")
        try:
            device_ms, sub_ns = parse_iso(stamp, context.clock.zone)
        except (ValueError, OverflowError) as error:
            raise Unreadable("wrong_type", "field 'UtcTime' is no ISO 8601 time") from error
    return _Notice(prefix, topic, _part(body, "Source"), _part(body, "Data"), device_ms, sub_ns)


def _axis(message: Message) -> _Notice:
    """Axis' own wrapping. The namespaces are words here: "onvif:Device/axis:Sensor/PIR"."""
    body = parse_object(message.payload)
    topic = body.get("topic")
    if type(topic) is not str or "message" not in body:
        raise Unreadable("not_this_dialect", "neither an onvif-ej topic nor an Axis event")
    inside = _part(body, "message")
    stamp = body.get("timestamp")
    device_ms, sub_ns = None, 0
    if stamp is not None:
        if type(stamp) is not int and type(stamp) is not float:
            raise Unreadable("wrong_type", "field 'timestamp' must be a number")
        if not -1e15 < stamp < 1e15:
            raise Unreadable("impossible_time", "field 'timestamp' is not in milliseconds")
        device_ms, sub_ns = (int(stamp), 0) if abs(stamp) < 1e11 else epoch_ms(stamp)
    serial = body.get("serial")
    prefix = serial if type(serial) is str and serial else message.channel.partition("/event/")[0]
    topic = topic.removeprefix("onvif:")
    return _Notice(prefix, topic, _part(inside, "source"), _part(inside, "data"), device_ms, sub_ns)


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise Unreadable("wrong_type", f"field {name!r} must be an object")
    return value


@lru_cache(maxsize=1_024)
def _handler(topic: str) -> _Handler | None:
    """What takes a topic; None for topics that we do not model."""
    topic = topic.removeprefix("tns1:")
    first, _, rest = topic.partition("/")
    if first == "Door" and rest.startswith("State/"):
        return _door if rest[6:] in _DOOR_STATES else None
    if first == "AccessControl":
        return _access if rest.partition("/")[0] in _ACCESS else None
    if topic in _FLAGS:
        return _flag
    if topic in _MOMENTS:
        return _moment
    if first == "CameraApplicationPlatform":
        return _application
    return None


def _door(notice: _Notice, message: Message, context: Context) -> list[Event]:
    attribute, says = _DOOR_STATES[notice.topic.removeprefix("tns1:")[11:]]
    token = _token(notice.source, "DoorToken")
    value = _text(notice.data, "State")
    if value is None:
        raise Unreadable("missing_field", "field 'Data.State' is missing or empty")
    if value not in says:
        return []
    kind, word, alarm = says[value]
    door = ((context.settings or {}).get("doors") or {}).get(token, {}).get("door", token)
    held = state("door", door, attribute, word, alarm)
    return [_event(notice, message, context, kind, (entity("where", "door", door),), held)]


def _access(notice: _Notice, message: Message, context: Context) -> list[Event]:
    topic = notice.topic.removeprefix("tns1:AccessControl/").removeprefix("AccessControl/")
    kind = _ACCESS[topic.partition("/")[0]]
    if topic.startswith("Denied/CredentialNotFound"):
        kind = "badge.unknown"
    token = _token(notice.source, "AccessPointToken")
    about = ((context.settings or {}).get("access_points") or {}).get(token, {})
    entities = [entity("where", "reader", about.get("reader", token))]
    if "door" in about:
        entities.append(entity("where", "door", about["door"]))
    badge = _text(notice.data, "CredentialToken") or _text(notice.data, "IdentifierValue") or _text(notice.data, "Card")
    if badge:
        entities.append(entity("actor", "badge", context.identity.token("badge", badge)))
    holder = _text(notice.data, "CredentialHolderName")
    if holder:
        entities.append(entity("actor", "person", context.identity.token("person", holder)))
    return [_event(notice, message, context, kind, tuple(entities), None)]


def _flag(notice: _Notice, message: Message, context: Context) -> list[Event]:
    field, attribute, kind_on, kind_off, alarm = _FLAGS[notice.topic.removeprefix("tns1:")]
    value = notice.data.get(field)
    if value is None:
        raise Unreadable("missing_field", f"field 'Data.{field}' is missing")
    on = _bool(value, field)
    entities = _observer(notice, context, "camera" if kind_on.startswith("camera.") else "")
    first = entities[0]
    kind = kind_on if on else kind_off
    holder = (first.kind, first.id)
    if attribute == "contact":
        word = "open" if on else "closed"
        doors = [one.id for one in entities if one.kind == "door"]
        if doors:
            kind = "door.opened" if on else "door.closed"
            holder = ("door", doors[0])
    else:
        word = "on" if on else "off"
    return [_event(notice, message, context, kind, entities, state(*holder, attribute, word, alarm and on))]


def _moment(notice: _Notice, message: Message, context: Context) -> list[Event]:
    kind = _MOMENTS[notice.topic.removeprefix("tns1:")]
    camera = "camera" if kind in ("line.crossed", "loitering.detected") else ""
    return [_event(notice, message, context, kind, _observer(notice, context, camera), None)]


def _application(notice: _Notice, message: Message, context: Context) -> list[Event]:
    """An analytics application on the camera: `active` rises and falls; only the rise is told."""
    value = notice.data.get("active")
    if value is None:
        return []
    on = _bool(value, "active")
    entities = _observer(notice, context, "camera")
    if not on:
        return []
    return [_event(notice, message, context, "analytics.alert", entities, None)]


def _observer(notice: _Notice, context: Context, must_be: str) -> tuple[Entity, ...]:
    """Who saw it: the camera, or the sensor or input of a device, and where it is by the settings."""
    source = notice.source
    part = ""
    kind = "sensor"
    for name, of in (
        ("VideoSource", "camera"), ("VideoSourceConfigurationToken", "camera"), ("VideoSourceToken", "camera"),
        ("Source", "camera"), ("device", "camera"), ("InputToken", "sensor"), ("SensorID", "sensor"),
        ("sensor", "sensor"), ("port", "sensor"),
    ):  # fmt: skip
        value = _text(source, name)
        if value is not None:
            part, kind = value, of
            break
    kind = must_be or kind
    devices = (context.settings or {}).get("devices") or {}
    about = devices.get(f"{notice.prefix}/{part}") or devices.get(notice.prefix) or {}
    # One camera a device is the rule; the parts of a device need names of their own.
    id = notice.prefix if kind == "camera" or not part else f"{notice.prefix}/{part}"
    made = [entity("observer", kind, about.get(kind, id) or "unnamed")]
    made += [entity("where", where, about[where]) for where in ("door", "zone") if where in about]
    return tuple(made)


def _event(
    notice: _Notice,
    message: Message,
    context: Context,
    kind: str,
    entities: tuple[Entity, ...],
    held: StateValue | None,
) -> Event:
    return context.event(
        message,
        kind,
        device_ms=notice.device_ms,
        sub_ns=notice.sub_ns,
        entities=entities,
        attributes={
            "topic": notice.topic,
            "Source": _cleaned(notice.source, context),
            "Data": _cleaned(notice.data, context),
        },
        state=held,
        dedupe_content=True,
    )


def _cleaned(part: dict[str, Any], context: Context) -> dict[str, Any]:
    if part.keys().isdisjoint(_IDENTITIES):
        return part
    made = {}
    for key, value in part.items():
        kind = _IDENTITIES.get(key)
        if kind is None:
            made[key] = value
        elif value is not None:
            made[key] = context.identity.token(kind, _plain(value, key))
    return made


def _token(source: dict[str, Any], name: str) -> str:
    value = _text(source, name)
    if not value:
        raise Unreadable("missing_field", f"field 'Source.{name}' is missing or empty")
    return value


def _text(part: dict[str, Any], name: str) -> str | None:
    """A value that may be quoted or bare."""
    value = part.get(name)
    return None if value is None else _plain(value, name)


def _plain(value: Any, name: str) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int or type(value) is float:
        return str(value)
    raise Unreadable("wrong_type", f"field {name!r} must be a text or a number")


def _bool(value: Any, name: str) -> bool:
    word = _plain(value, name).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Unreadable("wrong_type", f"field 'Data.{name}' must be true or false")


def _check(settings: Any, file: str) -> Sequence[Fault]:
    tables = {
        "devices": ("camera", "sensor", "door", "zone"),
        "doors": ("door",),
        "access_points": ("reader", "door"),
    }
    return check_tables(settings, file, "onvif", tables)


DIALECT = Dialect(
    name="onvif",
    title="ONVIF Profile M over MQTT",
    follows="ONVIF Core Specification, MQTT/JSON events; Access Control and Door Control, event topics",
    transport="mqtt",
    clock=ClockPolicy(basis="device", zone=UTC),
    polarity={
        "Data.State": {
            '"Open"': "door.opened",
            '"Closed"': "door.closed",
            '"Locked"': "door.locked",
            '"Unlocked"': "door.unlocked",
            '"DoorForcedOpen"': "door.forced",
            '"DoorOpenTooLong"': "door.held",
            '"TamperDetected"': "door.tamper",
        },
        "Data.IsMotion": {"true": "motion.detected", '"false"': "motion.cleared"},
        "Data.LogicalState": {"true": "contact.opened", '"false"': "contact.closed"},
    },
    retain="seed",
    native_id="",
    duplicates="content",
    identity_fields={
        "Data.CredentialToken": "badge",
        "Data.CredentialHolderName": "person",
        "Data.IdentifierValue": "badge",
        "Data.Card": "badge",
    },
    decode_message=_decode,
    check_settings=_check,
)
