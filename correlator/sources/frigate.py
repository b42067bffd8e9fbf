"""Frigate: tracked persons and objects, reviews, known faces, cameras and recorder that go dark.

Follows: Frigate 0.17 documentation, "MQTT"; the traps are in docs/sources.md. Topics below the prefix
(setting `topic_prefix`, default "frigate"):

    events                 new / update / end of one tracked object; many updates an object
    reviews                new / update / end of a review item, severity detection or alert
    tracked_object_update  face, classification, plate, description of a tracked object
    available              online / offline (last will) / stopped of the recorder
    <camera>/status/<role> online / offline / disabled
    <camera>/motion        ON / OFF

Counters, statistics and snapshots (binary) give nothing. Only changes that a `before`/`after` pair
shows give an event, because an object is updated several times a second. Settings:

    topic_prefix: frigate
    cameras: {<camera>: {camera: c1, zone: z1, zones: {<Frigate zone>: z2}}}
    recorder: nvr1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, Final

from correlator.errors import Fault
from correlator.events.event import Entity, Event
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity, state
from correlator.sources.reading import Unreadable, need_number, need_text, optional_text, parse_object
from correlator.sources.settings import check_tables

_SEEN: Final = {
    ("new", True): "person.seen", ("update", True): "person.moved", ("end", True): "person.left",
    ("new", False): "object.seen", ("update", False): "object.moved", ("end", False): "object.left",
}  # fmt: skip
_STATUS: Final = {"online": "camera.online", "offline": "camera.offline", "disabled": "camera.disabled"}
_AVAILABLE: Final = {"online": "recorder.online", "offline": "recorder.offline", "stopped": "recorder.offline"}
_MOTION: Final = {"ON": ("motion.detected", "on"), "OFF": ("motion.cleared", "off")}
# Pictures of faces, and paths to them, do not travel with an event.
_PICTURES: Final = frozenset({"thumbnail", "snapshot", "thumb_path", "path_data"})
_NAMES: Final = frozenset({"recognized_license_plate", "name", "plate"})


def _decode(message: Message, context: Context) -> list[Event]:
    topic = message.channel
    handler, camera, role = context.memory.get(topic) or context.remember(topic, _taken(topic, context))
    if not message.payload:  # a retained message was deleted
        return []
    if handler is _status or handler is _motion:
        return handler(message, context, camera, role)
    if handler is _available:
        return _available(message, context)
    if handler is None or message.retained:  # published live; a kept copy is a thing of the past
        return []
    return handler(message, context)


def _prefix(context: Context) -> str:
    return str((context.settings or {}).get("topic_prefix", "frigate"))


def _taken(topic: str, context: Context) -> tuple[Callable[..., list[Event]] | None, str, str]:
    """(what takes a topic, the camera, its role); None for topics that we do not model."""
    prefix = _prefix(context)
    if not topic.startswith(prefix + "/"):
        raise Unreadable("not_this_dialect", f"topic is not below {prefix}/")
    rest = topic[len(prefix) + 1 :]
    if rest == "available":
        return _available, "", ""
    camera, _, about = rest.partition("/")
    if about.startswith("status/"):
        return _status, camera, about[7:]
    if about == "motion":
        return _motion, camera, ""
    return _LIVE.get(rest), "", ""


def _tracked(message: Message, context: Context) -> list[Event]:
    data = parse_object(message.payload)
    change = need_text(data, "type")
    after = _part(data, "after")
    before = data.get("before")
    if type(before) is not dict:
        before = {}
    camera = need_text(after, "camera")
    label = need_text(after, "label")
    stamp = need_number(after, "frame_time")
    native_id = f"{need_text(after, 'id')}/{change}/{stamp}"
    seen = _SEEN.get((change, label == "person"))
    if seen is None:
        raise Unreadable("wrong_type", "field 'type' must be new, update or end")
    if after.get("false_positive") is True:
        return []
    kinds = []
    if change != "update" or _zones(after, "entered_zones") != _zones(before, "entered_zones"):
        kinds.append(seen)
    name = _face(after)
    if label == "person" and name and (change == "new" or name != _face(before)):
        kinds.append("face.recognised")
    if not kinds:
        return []
    device_ms, sub_ns = _seconds(stamp, "after.frame_time")
    entities = _where(context, camera, _zones(after, "current_zones"))
    person = context.identity.token("person", name) if name else ""
    _clean(message.payload, data, context)
    return [
        context.event(
            message,
            kind,
            index=index,
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=native_id,
            entities=(*entities, entity("actor", "person", person)) if person and label == "person" else entities,
            attributes=data,
        )
        for index, kind in enumerate(kinds)
    ]


def _review(message: Message, context: Context) -> list[Event]:
    data = parse_object(message.payload)
    change = need_text(data, "type")
    after = _part(data, "after")
    severity = need_text(after, "severity")
    camera = need_text(after, "camera")
    review = need_text(after, "id")
    before = data.get("before")
    was = before.get("severity") if type(before) is dict else None
    if change == "end" or severity != "alert" or (change == "update" and was == "alert"):
        return []
    device_ms, sub_ns = None, 0
    if change == "new":  # an update tells only when the review began, not when it became an alert
        device_ms, sub_ns = _seconds(need_number(after, "start_time"), "after.start_time")
    found = after.get("data")
    zones = _zones(found, "zones") if type(found) is dict else []
    entities = _where(context, camera, zones)
    _clean(message.payload, data, context)
    return [
        context.event(
            message,
            "analytics.alert",
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=f"{review}/{change}/{severity}",
            entities=entities,
            attributes=data,
        )
    ]


def _object_update(message: Message, context: Context) -> list[Event]:
    data = parse_object(message.payload)
    change = need_text(data, "type")
    if change != "face" or not optional_text(data, "name"):
        return []
    camera = need_text(data, "camera")
    stamp = need_number(data, "timestamp")
    device_ms, sub_ns = _seconds(stamp, "timestamp")
    person = context.identity.token("person", need_text(data, "name"))
    native_id = f"{need_text(data, 'id')}/{change}/{stamp}"
    _clean(message.payload, data, context)
    return [
        context.event(
            message,
            "face.recognised",
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=native_id,
            entities=(*_where(context, camera, []), entity("actor", "person", person)),
            attributes=data,
        )
    ]


_LIVE: Final = {"events": _tracked, "reviews": _review, "tracked_object_update": _object_update}


def _available(message: Message, context: Context) -> list[Event]:
    word = _word(message, _AVAILABLE)
    named = (context.settings or {}).get("recorder")
    kind, id = ("device", named) if named else ("software", _prefix(context))
    # "stopped" is a clean end, but the cameras are as blind as after a crash.
    return [
        context.event(
            message,
            _AVAILABLE[word],
            entities=(entity("observer", kind, id),),
            attributes={"available": word},
            state=state(kind, id, "availability", word, word != "online"),
            dedupe_content=True,
        )
    ]


def _status(message: Message, context: Context, camera: str, role: str) -> list[Event]:
    word = _word(message, _STATUS)
    entities = _where(context, camera, [])
    # One value a role: a recording stream may be lost while detection goes on.
    return [
        context.event(
            message,
            _STATUS[word],
            entities=entities,
            attributes={"status": word, "role": role},
            state=state("camera", entities[0].id, f"status.{role}", word, word == "offline"),
            dedupe_content=True,
        )
    ]


def _motion(message: Message, context: Context, camera: str, _: str) -> list[Event]:
    kind, value = _MOTION[_word(message, _MOTION)]
    entities = _where(context, camera, [])
    return [
        context.event(
            message,
            kind,
            entities=entities,
            attributes={"motion": value},
            state=state("camera", entities[0].id, "motion", value),
            dedupe_content=True,
        )
    ]


def _word(message: Message, words: dict[str, Any]) -> str:
    """The bare word that is the whole payload, possibly quoted."""
    word = message.payload[:64].strip().strip(b'"').decode("utf-8", "replace")
    if word not in words:
        raise Unreadable("wrong_type", f"the payload must be one of {', '.join(words)}")
    return word


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    if type(value) is dict:
        return value
    raise Unreadable("missing_field" if value is None else "wrong_type", f"field {name!r} must be an object")


def _zones(of: dict[str, Any], name: str) -> list[str]:
    value = of.get(name)
    if not value and (value is None or type(value) is list):
        return []
    if type(value) is not list or not all(type(zone) is str for zone in value):
        raise Unreadable("wrong_type", f"field {name!r} must be a list of texts")
    return value


def _face(of: dict[str, Any]) -> str:
    """The name in `sub_label`: null, ["name", score], or the bare name of older releases."""
    value = of.get("sub_label")
    if value is None:
        return ""
    if type(value) is list and value and type(value[0]) is str:
        return value[0]
    if type(value) is str:
        return value
    raise Unreadable("wrong_type", "field 'sub_label' must be null, a name, or a name with its score")


def _seconds(value: float, name: str) -> tuple[int, int]:
    """Epoch seconds with fraction, as ms and ns below."""
    if not 0 <= value < 1e11:
        raise Unreadable("impossible_time", f"field {name!r} is not in epoch seconds")
    microseconds = round(value * 1_000_000)  # as far as a double tells the present
    return microseconds // 1_000, microseconds % 1_000 * 1_000


def _clean(payload: bytes, data: dict[str, Any], context: Context) -> None:
    """Takes pictures out, and puts tokens where names and plates stand; in place, the values are ours.

    Nearly every message is three objects: itself, `before` and `after`. Where the bytes have another
    opening brace, names may stand further down, and all of it is looked through.
    """
    before, after = data.get("before"), data.get("after")
    if type(before) is dict and type(after) is dict and payload.count(b"{") == 3:
        _clean_object(before, context)
        _clean_object(after, context)
        if len(data) > 3:  # more than these two and the type
            _clean_object(data, context)
    else:
        _clean_deep(data, context)


_NAMING: Final = _PICTURES | _NAMES | {"sub_labels"}


def _clean_object(value: dict[str, Any], context: Context) -> None:
    face = value.get("sub_label")  # null for everybody who is not known
    if face is not None:
        value["sub_label"] = _tokens(face, context)
    if value.keys().isdisjoint(_NAMING):
        return
    for key in [key for key in value if key in _PICTURES]:
        del value[key]
    for key, item in value.items():
        if key in _NAMES and type(item) is str and item:
            value[key] = _tokens(item, context)
        elif key == "sub_labels":
            value[key] = [_tokens(one, context) for one in item] if type(item) is list else None


def _clean_deep(value: Any, context: Context) -> None:
    if type(value) is dict:
        _clean_object(value, context)
        inner = [item for key, item in value.items() if key not in ("sub_label", "sub_labels")]
    else:
        inner = value
    for item in inner:
        if type(item) is dict or type(item) is list:
            _clean_deep(item, context)


def _tokens(value: Any, context: Context) -> Any:
    """A name, or ["name", score], with the name as token. Anything else may be a name too: dropped."""
    if type(value) is str:
        return context.identity.token("person", value)
    if type(value) is list and value and type(value[0]) is str:
        return [context.identity.token("person", value[0]), *(one for one in value[1:] if type(one) is float)]
    return None


def _where(context: Context, camera: str, zones: list[str]) -> tuple[Entity, ...]:
    """The camera, and the zones of the site that the settings name for it."""
    key = ("", camera, *zones)  # beside the topics in the memory
    return context.memory.get(key) or context.remember(key, _placed(context.settings or {}, camera, zones))


def _placed(settings: dict[str, Any], camera: str, zones: list[str]) -> tuple[Entity, ...]:
    about = (settings.get("cameras") or {}).get(camera, {})
    made = [entity("observer", "camera", about.get("camera", camera))]
    names = about.get("zones") or {}
    placed = [names[zone] for zone in zones if zone in names]
    if not placed and "zone" in about:
        placed = [about["zone"]]
    made += [entity("where", "zone", zone) for zone in dict.fromkeys(placed)]
    return tuple(made)


def _check(settings: Any, file: str) -> Sequence[Fault]:
    tables = {"cameras": ("camera", "zone", "zones")}
    return check_tables(settings, file, "frigate", tables, texts=("topic_prefix", "recorder"), maps=("zones",))


DIALECT = Dialect(
    name="frigate",
    title="Frigate network video recorder",
    follows="Frigate 0.17 documentation, MQTT",
    transport="mqtt",
    clock=ClockPolicy(basis="device", zone=UTC),
    polarity={"type": {'"new"': "person.seen", '"end"': "person.left"}},
    retain="seed",
    native_id="tracked objects: id, type and frame_time of the message; reviews: id, type and severity",
    duplicates="native",
    identity_fields={
        "after.sub_label": "person",
        "before.sub_label": "person",
        "after.recognized_license_plate": "person",
        "after.data.sub_labels": "person",
        "name": "person",
    },
    decode_message=_decode,
    sensitive=True,
    check_settings=_check,
)
