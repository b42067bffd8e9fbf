"""Events of a rule file's own tests (`x-correlator.tests`).

A test writes an event as a flat map: `at` (a duration since the test's start), `kind`, the entities
by their kind (`door: d1`, `target.host: pc-1`), and everything else as attributes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from correlator.clock import duration_ms
from correlator.events.event import ENTITY_KINDS, LEVELS, Entity, Event, StateValue
from correlator.events.ids import digest
from correlator.events.kinds import KINDS
from correlator.rules.documents import nearest
from correlator.rules.fields import entity_kind_of

DEFAULT_START_MS: Final = 1_772_409_600_000  # 2026-03-02T00:00:00Z, a Monday

_ZERO = re.compile(r"0\s*(?:ms|[smhdw])?")

# Keys of an event that are no attributes and no entities.
SPEC_KEYS: Final = (
    "at", "received", "kind", "source", "dialect", "text", "level", "retained", "state.attribute", "state.value",
)  # fmt: skip

# The role of an entity that the kind's table does not place.
_USUAL_ROLE: dict[str, str] = {
    "zone": "where", "door": "where", "reader": "where", "sensor": "observer", "camera": "observer",
    "device": "observer", "host": "target", "ip": "origin", "mac": "origin", "network": "via", "person": "actor",
    "badge": "actor", "account": "actor", "process": "target", "file": "target", "url": "target",
    "software": "target", "data_store": "target", "service": "target",
}  # fmt: skip


class BadEvent(ValueError):
    """A test's event that cannot be made: the key that is wrong, and what would be right."""

    def __init__(self, key: str, message: str, hint: str = "") -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message
        self.hint = hint


def offset_ms(value: Any, key: str = "at") -> int:
    """Milliseconds of an `at`: "0s", "90s", "250ms", or 0. Raises BadEvent."""
    if value == 0 and type(value) is int:
        return 0
    if isinstance(value, str):
        if _ZERO.fullmatch(value.strip()):
            return 0
        try:
            return duration_ms(value)
        except ValueError as error:
            raise BadEvent(key, str(error)) from error
    raise BadEvent(key, "a duration such as 0s or 250ms is expected")


def role_in(event_kind: str, entity_kind: str) -> str:
    """The role an entity plays in an event of a kind: the kind's table, else what is usual."""
    kind = KINDS.get(event_kind)
    if kind is not None:
        for role in kind.roles:
            name, _, kinds = role.partition(":")
            if entity_kind in kinds.split("|"):
                return name
    if entity_kind == "account" and event_kind.startswith("account."):
        return "target"
    return _USUAL_ROLE[entity_kind]


def event_of(spec: dict[str, Any], index: int, base_ms: int, site: str) -> Event:
    """The event that a test writes. Raises BadEvent.

    index: place in the test's list, which decides ties. base_ms: the time of `at: 0s`, ms UTC.
    `received` (a duration, default = at) makes late events; `text`, `level`, `source`, `dialect`,
    `retained`, `state.attribute` and `state.value` fill the event's own fields.
    """
    if "at" not in spec:
        raise BadEvent("at", "the event has no time", "add at: 0s")
    time_ms = base_ms + offset_ms(spec["at"])
    received_ms = base_ms + offset_ms(spec["received"], "received") if "received" in spec else time_ms
    kind = _text(spec, "kind", "log.entry")
    if kind not in KINDS:
        raise BadEvent("kind", f"there is no event kind {kind!r}", nearest(kind, KINDS))
    level = _text(spec, "level", "")
    if level and level not in LEVELS:
        raise BadEvent("level", f"{level!r} is no level", nearest(level, LEVELS))
    entities: list[Entity] = []
    attributes: dict[str, Any] = {}
    for key, value in spec.items():
        if key in SPEC_KEYS:
            continue
        role, entity_kind = entity_kind_of(key)
        if not entity_kind:
            attributes[key] = value
            continue
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str | int) or isinstance(one, bool) or one == "":
                raise BadEvent(key, f"the id of a {entity_kind} must be a text")
            entities.append(Entity(role or role_in(kind, entity_kind), entity_kind, str(one)))
    state = None
    if "state.value" in spec:
        about = entities[0] if entities else Entity("observer", "sensor", "")
        state = StateValue(about.kind, about.id, _text(spec, "state.attribute", ""), _text(spec, "state.value", ""))
    source = _text(spec, "source", "test")
    return Event(
        id=digest("rule test", site, source, str(index)),
        site=site,
        source=source,
        dialect=_text(spec, "dialect", "test"),
        kind=kind,
        time_ms=time_ms,
        received_ms=received_ms,
        entities=tuple(entities),
        carried=attributes,
        state=state,
        level=level,
        text=_text(spec, "text", ""),
        seq=index,
        retained=spec.get("retained") is True,
        origin=f"event {index + 1}",
    )


def _text(spec: dict[str, Any], key: str, default: str) -> str:
    value = spec.get(key)
    if value is None:
        return default
    if isinstance(value, dict | list):
        raise BadEvent(key, "a text is expected")
    return str(value).lower() if isinstance(value, bool) else str(value)


assert set(_USUAL_ROLE) == set(ENTITY_KINDS), "every entity kind has a usual role"
