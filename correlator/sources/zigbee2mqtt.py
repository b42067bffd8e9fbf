"""Zigbee2MQTT: contacts, motion, tamper, smoke, locks, readings, availability.

Follows: Zigbee2MQTT 2.x, "MQTT topics and messages" and the exposes of device pages; the traps are in
docs/sources.md. Topics below the base topic (setting `base`, default "zigbee2mqtt"):

    <friendly name>               device state; the name may hold "/" and spaces
    <friendly name>/<attribute>   the same with `output: attribute`: one bare value a topic
    <friendly name>/availability  {"state": "online"|"offline"}, or the bare word (1.x)
    bridge/state, bridge/event    the bridge itself; devices that join and leave

A message repeats the whole cached state, so each attribute is given as state, with the kind of its
*current value*; whether anything changed is for the engine to see. Settings:

    base: zigbee2mqtt
    devices: {<friendly name or ieee address>: {door: d1, zone: z1, sensor: s1, users: {"3": p-017}}}
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from functools import lru_cache
from typing import Any, Final, NamedTuple

from correlator.clock import epoch_ms, parse_iso
from correlator.errors import Fault
from correlator.events.event import Entity, Event, StateValue
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity, state
from correlator.sources.reading import Unreadable, optional_text, parse_json
from correlator.sources.settings import check_tables

# attribute -> {value: (kind, value as state, alarm)}. `contact: true` is *closed*: the magnet is there.
_FLAGS: Final[dict[str, dict[bool, tuple[str, str, bool]]]] = {
    "contact": {True: ("contact.closed", "closed", False), False: ("contact.opened", "open", False)},
    "occupancy": {True: ("motion.detected", "on", False), False: ("motion.cleared", "off", False)},
    "presence": {True: ("presence.detected", "on", False), False: ("presence.cleared", "off", False)},
    "tamper": {True: ("sensor.tamper", "on", True), False: ("sensor.tamper_cleared", "off", False)},
    "vibration": {True: ("vibration.detected", "on", True), False: ("vibration.cleared", "off", False)},
    "smoke": {True: ("smoke.detected", "on", True), False: ("smoke.cleared", "off", False)},
    "gas": {True: ("gas.detected", "on", True), False: ("gas.cleared", "off", False)},
    "water_leak": {True: ("water.leak", "on", True), False: ("water.cleared", "off", False)},
    "battery_low": {True: ("sensor.battery_low", "on", False), False: ("sensor.battery_ok", "off", False)},
}
# Only a lock has these two; `state` of a lamp is ON or OFF and says nothing here.
_LOCK_STATE: Final = {"locked": "locked", "unlocked": "unlocked", "not_fully_locked": "not_fully_locked"}
_LOCK_WORD: Final = {"LOCK": "locked", "UNLOCK": "unlocked"}
_PANIC: Final = frozenset({"emergency", "panic", "sos"})
_HOUSEKEEPING: Final = frozenset({"linkquality", "battery", "voltage", "last_seen", "action_user"})
# Only looked for where a bare value may be one attribute of a device (`output: attribute`).
_ATTRIBUTE_TOPICS: Final = frozenset({*_FLAGS, "lock_state", "action", "temperature", "humidity"})
_COMMANDS: Final = ("set", "get")
_LONGEST_KEY = 64
_LONGEST_TOPIC = 512


def _split_topic(topic: str, base: str) -> tuple[str, str]:
    """("device"|"availability"|"bridge"|"command", name); name is what stands below the base topic."""
    if not topic.startswith(base + "/"):
        raise Unreadable("not_this_dialect", f"topic is not below {base}/")
    rest = topic[len(base) + 1 :]
    if rest.startswith("bridge/"):
        return "bridge", rest[7:]
    if rest.endswith("/availability"):
        return "availability", rest[:-13]
    name, slash, last = rest.rpartition("/")
    if slash and (last in _COMMANDS or name.endswith(("/set", "/get"))):
        return "command", rest
    if not rest:
        raise Unreadable("not_this_dialect", "topic names no device")
    return "device", rest


_split_cached = lru_cache(maxsize=16_384)(_split_topic)


@lru_cache(maxsize=4_096)
def _is_secret(key: str) -> bool:
    """PINs and codes of locks and keypads: `pin_code`, `action_code`, `users` (slots with their PINs)."""
    low = key.lower()
    return "pin" in low or "code" in low or "password" in low or low == "users"


@lru_cache(maxsize=16_384)
def _placed(sensor: str, door: str, zone: str) -> tuple[Entity, ...]:
    made = [entity("observer", "sensor", sensor)]
    if door:
        made.append(entity("where", "door", door))
    if zone:
        made.append(entity("where", "zone", zone))
    return tuple(made)


def _without_secrets(value: Any) -> Any:
    if type(value) is dict:
        return {
            key: _without_secrets(item)
            for key, item in value.items()
            if len(key) <= _LONGEST_KEY and not _is_secret(key)
        }
    if type(value) is list:
        return [_without_secrets(item) for item in value]
    return value


def _time(data: dict[str, Any], context: Context) -> tuple[int | None, int]:
    """`last_seen` in its three forms: ISO 8601 in UTC, ISO 8601 local with offset, epoch in ms."""
    value = data.get("last_seen")
    if value is None or value == "N/A":  # absent by default; "N/A" until a device was first heard
        return None, 0
    if type(value) is str:
        try:
            return parse_iso(value, context.clock.zone)
        except (ValueError, OverflowError) as error:
            raise Unreadable("wrong_type", "field 'last_seen' is no ISO 8601 time") from error
    if type(value) is int or type(value) is float:
        if not -1e15 < value < 1e15:
            raise Unreadable("impossible_time", "field 'last_seen' is not in milliseconds")
        # The setting says ms; a number below 1e11 cannot be ms of this century and is an unset clock.
        return (int(value), 0) if abs(value) < 1e11 else epoch_ms(value)
    raise Unreadable("wrong_type", "field 'last_seen' must be a text or a number")


def _decode(message: Message, context: Context) -> list[Event]:
    settings = context.settings or {}
    topic = message.channel
    split = _split_cached if len(topic) <= _LONGEST_TOPIC else _split_topic
    what, name = split(topic, settings.get("base", "zigbee2mqtt"))
    if what == "command" or not message.payload:  # empty: a retained message was deleted
        return []
    if what == "device":
        events = _device(message, context, name)
    elif what == "availability":
        events = _availability(message, context, name, settings)
    else:
        events = _bridge(message, context, name, settings)
    if message.retained:  # a button of yesterday is not pressed again
        return [event for event in events if event.state is not None]
    return events


class _Shape(NamedTuple):
    """What the names of a device's attributes tell; messages of one model have the same ones.

    told: (attribute, what its values mean, whether a number in it is a measurement); without secrets.
    """

    told: tuple[tuple[str, dict[bool, tuple[str, str, bool]] | None, bool], ...]
    secret: tuple[str, ...]
    locks: bool
    acts: bool


@lru_cache(maxsize=1_024)
def _known_shape(names: tuple[str, ...]) -> _Shape:
    secret = tuple(name for name in names if len(name) > _LONGEST_KEY or _is_secret(name))
    return _Shape(
        tuple((name, _FLAGS.get(name), name not in _HOUSEKEEPING) for name in names if name not in secret),
        secret,
        "lock_state" in names or "state" in names,
        "action" in names,
    )


_LONGEST_NAMED = 16_384  # bytes of a message whose names are remembered

_Device = tuple[dict[str, Any], str, str, tuple[Entity, ...]]


def _of_settings(about: dict[str, Any], name: str) -> _Device:
    """(settings of a device, its id, its door or "", what its events are about)."""
    sensor, door = about.get("sensor", name), about.get("door", "")
    return about, sensor, door, _placed(sensor, door, about.get("zone", ""))


def _known_device(name: str, data: dict[str, Any], context: Context) -> _Device:
    devices = (context.settings or {}).get("devices") or {}
    about = devices.get(name)
    if not about and type(data.get("device")) is dict:  # which address has this name may change
        address = data["device"].get("ieeeAddr")
        return _of_settings((devices.get(address) if type(address) is str else None) or {}, name)
    return context.remember(name, _of_settings(about or {}, name))


def _device(message: Message, context: Context, name: str) -> list[Event]:
    data, name = _attributes(message, name)
    known: _Device | None = context.memory.get(name)
    if known is None or (not known[0] and "device" in data):
        known = _known_device(name, data, context)
    about, sensor, door, entities = known
    device_ms, sub_ns = _time(data, context)
    names = tuple(data)
    shape = (_known_shape if len(message.payload) <= _LONGEST_NAMED else _known_shape.__wrapped__)(names)

    readings: dict[str, Any] = {}
    found: list[tuple[str, StateValue | None, str, bool]] = []  # kind, state, attribute, is about a lock
    measured = False
    for key, flags, measures in shape.told:
        value = data[key]
        if flags is not None:
            if value is True or value is False:
                kind, word, alarm = flags[value]
                if door and key == "contact":
                    kind = "door.opened" if word == "open" else "door.closed"
                    found.append((kind, state("door", door, "contact", word), key, False))
                else:
                    found.append((kind, state("sensor", sensor, key, word, alarm), key, False))
            elif value is not None:
                raise Unreadable("wrong_type", f"field {key!r} must be true or false")
        elif type(value) is int or type(value) is float:
            measured = measured or measures
            readings[key] = value
        elif type(value) is dict or type(value) is list:
            data[key] = _without_secrets(value)
    attributes = {key: value for key, value in data.items() if key not in shape.secret} if shape.secret else data

    actor = _actor(data, context, about, attributes)
    lock = _lock_word(data) if shape.locks else ""
    if lock:
        kind = "door.locked" if lock == "locked" else "door.unlocked"
        # A lock sits on a door; without settings the door has the lock's name.
        found.append((kind, state("door", door or sensor, "lock", lock), "lock_state", True))
    elif shape.acts and type(data["action"]) is str and data["action"]:
        kind = "panic.pressed" if data["action"].lower() in _PANIC else "button.pressed"
        found.append((kind, None, "action", False))
    if measured or (readings and not found):
        found.append(("sensor.reading", None, "", False))

    events = []
    for index, (kind, held, key, is_lock) in enumerate(found):
        about_this = entities
        if is_lock and not door:
            about_this = (*entities, entity("where", "door", sensor))
        if actor is not None and (is_lock or key == "action"):
            about_this = (*about_this, actor)
        events.append(
            context.event(
                message,
                kind,
                index=index,
                device_ms=device_ms,
                sub_ns=sub_ns,
                entities=about_this,
                attributes=readings if kind == "sensor.reading" else attributes,
                state=held,
                dedupe_content=True,
            )
        )
    return events


def _attributes(message: Message, name: str) -> tuple[dict[str, Any], str]:
    """The device's attributes, and its name; a bare value is the attribute its topic ends with."""
    parent, slash, last = name.rpartition("/")
    try:
        data = parse_json(message.payload)
    except Unreadable as error:
        if not (error.reason == "not_json" and slash and last in _ATTRIBUTE_TOPICS):
            raise
        data = message.payload.decode("utf-8")
    if type(data) is dict:
        return data, name
    if slash and last in _ATTRIBUTE_TOPICS:
        return {last: data}, parent
    if slash and not isinstance(data, list):
        return {}, parent  # one attribute of a device that says nothing here
    raise Unreadable("wrong_type", "a JSON object was expected")


def _actor(data: dict[str, Any], context: Context, about: dict[str, Any], attributes: dict[str, Any]) -> Entity | None:
    """Who used the lock: `action_user`, a slot number or a name; in the attributes only as a token."""
    user = data.get("action_user")
    if user is None or user == "":
        return None
    if type(user) is not int and type(user) is not str:
        raise Unreadable("wrong_type", "field 'action_user' must be a number or a text")
    known = about.get("users") or {}
    token = context.identity.token("person", known.get(str(user), str(user)))
    attributes["action_user"] = token
    return entity("actor", "person", token)


def _lock_word(data: dict[str, Any]) -> str:
    precise = optional_text(data, "lock_state")
    if precise:
        return _LOCK_STATE.get(precise, "")
    word = data.get("state")
    return _LOCK_WORD.get(word, "") if type(word) is str else ""


def _online_word(payload: bytes) -> str:
    """The word "online" or "offline" of {"state": ...} or of the bare word."""
    bare = payload.strip()
    if bare in (b"online", b"offline"):
        return bare.decode("ascii")
    data = parse_json(payload)
    word = data.get("state") if type(data) is dict else data
    if word not in ("online", "offline"):
        raise Unreadable("wrong_type", "availability must be online or offline")
    return str(word)


def _availability(message: Message, context: Context, name: str, settings: dict[str, Any]) -> list[Event]:
    word = _online_word(message.payload)
    about = (settings.get("devices") or {}).get(name) or {}
    sensor = about.get("sensor", name)
    return [
        context.event(
            message,
            f"sensor.{word}",
            entities=_placed(sensor, about.get("door", ""), about.get("zone", "")),
            attributes={"state": word},
            state=state("sensor", sensor, "availability", word, word == "offline"),
            dedupe_content=True,
        )
    ]


def _bridge(message: Message, context: Context, topic: str, settings: dict[str, Any]) -> list[Event]:
    base = settings.get("base", "zigbee2mqtt")
    if topic == "state":
        word = _online_word(message.payload)
        return [
            context.event(
                message,
                f"sensor.{word}",
                entities=(entity("observer", "device", base),),
                attributes={"state": word},
                state=state("device", base, "availability", word, word == "offline"),
                dedupe_content=True,
            )
        ]
    if topic != "event":  # inventory, log, requests and responses
        return []
    data = parse_json(message.payload)
    if type(data) is not dict:
        raise Unreadable("wrong_type", "a JSON object was expected")
    kind = {"device_joined": "device.joined", "device_leave": "device.left"}.get(optional_text(data, "type"))
    if kind is None:
        return []
    about = data.get("data")
    if type(about) is not dict:
        raise Unreadable("missing_field", "field 'data' must be an object")
    name = optional_text(about, "friendly_name") or optional_text(about, "ieee_address")
    if not name:
        raise Unreadable("missing_field", "field 'data.friendly_name' is missing or empty")
    return [
        context.event(
            message,
            kind,
            entities=(entity("observer", "sensor", name),),
            attributes=_without_secrets(data),
            dedupe_content=True,
        )
    ]


def _check(settings: Any, file: str) -> Sequence[Fault]:
    tables = {"devices": ("door", "zone", "sensor", "users")}
    return check_tables(settings, file, "zigbee2mqtt", tables, texts=("base",), maps=("users",))


DIALECT = Dialect(
    name="zigbee2mqtt",
    title="Zigbee2MQTT",
    follows="Zigbee2MQTT 2.x documentation, MQTT topics and messages; device pages (exposes)",
    transport="mqtt",
    clock=ClockPolicy(basis="device", zone=UTC),
    polarity={
        key: {("true" if value else "false"): says[0] for value, says in of.items()} for key, of in _FLAGS.items()
    }
    | {"lock_state": {'"locked"': "door.locked", '"unlocked"': "door.unlocked"}},
    retain="seed",
    native_id="",
    duplicates="content",
    identity_fields={"action_user": "person"},
    decode_message=_decode,
    sensitive=True,
    check_settings=_check,
)
