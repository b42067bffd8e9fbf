"""A field name -> its value in an event; values as text, number and group keys.

Look-up order (docs/rules.md section 2): the source's own names as one key, then part by part, then
our names, then absent. Hot: one accessor is made per field of a rule and called for every event that
reaches the rule.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from math import isfinite
from typing import Any, Final, final

from correlator.events.event import ENTITY_KINDS, ROLES, Event
from correlator.events.kinds import KINDS
from correlator.rules.places import Places


@final
class Missing:
    """The one value of a field that is absent, told apart from null."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()

_EVENT_WORDS: Final = ("kind", "source", "dialect", "site", "level", "time_ms", "state.attribute", "state.value")
_PLACE_WORDS: Final = ("person", "zone", "floor", "building", "asset")  # resolved by the site model
OUR_NAMES: Final = frozenset({
    *_EVENT_WORDS, *_PLACE_WORDS, *ENTITY_KINDS, *(f"{role}.{kind}" for role in ROLES for kind in ENTITY_KINDS)
})  # fmt: skip


def entity_kind_of(field: str) -> tuple[str, str]:
    """(role, entity kind) of one of our names such as "badge" or "target.host"; ("", "") else."""
    role, _, kind = field.rpartition(".")
    if kind in ENTITY_KINDS and (not role or role in ROLES):
        return role, kind
    return "", ""


def is_attribute(field: str) -> bool:
    """Whether a field can only be an attribute of that very name."""
    return "." not in field and not field.startswith("@") and field not in OUR_NAMES


class Accessor(ABC):
    """Reads one field of events."""

    __slots__ = ("field",)

    def __init__(self, field: str) -> None:
        self.field = field

    @abstractmethod
    def get(self, event: Event) -> Any:
        """The field's value, MISSING if it is absent. Lists and objects come as they are."""


def accessor_of(field: str, places: Places | None) -> Accessor:
    """The accessor of a field; "@kind", "@dialect" and such read the event's own, past any attribute."""
    direct = field[:1] == "@" and field[1:] in OUR_NAMES
    name = field[1:] if direct else field
    if name not in OUR_NAMES:
        return _Dotted(field) if "." in field else _Plain(field)
    if name == "kind" and not direct:
        return _Kind(field)
    ours: _Ours
    role, kind = entity_kind_of(name)
    if name in _PLACE_WORDS:
        ours = _Placed(field, name, places)
    elif kind:
        ours = _OfEntity(field, kind, role)
    else:
        ours = _OfEvent(field, name)
    return _Direct(field, ours) if direct else ours


@final
class _Plain(Accessor):
    """An attribute of that very name."""

    __slots__ = ()

    def get(self, event: Event) -> Any:
        return event.attributes.get(self.field, MISSING)


@final
class _Dotted(Accessor):
    """An attribute of that very name, else part by part."""

    __slots__ = ("_parts",)

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self._parts = tuple(field.split("."))

    def get(self, event: Event) -> Any:
        attributes = event.attributes
        value = attributes.get(self.field, MISSING)
        if value is not MISSING:
            return value
        parts = self._parts
        if len(parts) == 2:  # nearly all are
            inner = attributes.get(parts[0], MISSING)
            if type(inner) is dict:
                return inner.get(parts[1], MISSING)
            return MISSING if inner is MISSING else _descend(inner, parts, 1)
        return _descend(attributes, parts, 0)


@final
class _Kind(Accessor):
    """An attribute "kind", else the event's own."""

    __slots__ = ()

    def get(self, event: Event) -> Any:
        return event.attributes.get("kind", event.kind)


@final
class _Direct(Accessor):
    """One of our names, past any attribute."""

    __slots__ = ("_ours",)

    def __init__(self, field: str, ours: _Ours) -> None:
        super().__init__(field)
        self._ours = ours

    def get(self, event: Event) -> Any:
        return self._ours.own(event)


class _Ours(Accessor):
    """An attribute, else what one of our names means."""

    __slots__ = ("_parts",)

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self._parts = tuple(field.split(".")) if "." in field else ()

    def get(self, event: Event) -> Any:
        attributes = event.attributes
        value = attributes.get(self.field, MISSING)
        if value is MISSING and self._parts:
            value = _descend(attributes, self._parts, 0)
        return self.own(event) if value is MISSING else value

    @abstractmethod
    def own(self, event: Event) -> Any:
        """The value by our name."""


@final
class _OfEntity(_Ours):
    """The first entity of a kind, in one role if given."""

    __slots__ = ("_kind", "_role")

    def __init__(self, field: str, kind: str, role: str) -> None:
        super().__init__(field)
        self._kind = kind
        self._role = role

    def get(self, event: Event) -> Any:
        attributes = event.attributes
        value = attributes.get(self.field, MISSING)
        if value is not MISSING:
            return value
        if self._parts:
            value = _descend(attributes, self._parts, 0)
            if value is not MISSING:
                return value
        kind, role = self._kind, self._role
        for entity in event.entities:
            if entity.kind == kind and (not role or entity.role == role):
                return entity.id or MISSING
        return MISSING

    def own(self, event: Event) -> Any:
        kind, role = self._kind, self._role
        for entity in event.entities:
            if entity.kind == kind and (not role or entity.role == role):
                return entity.id or MISSING
        return MISSING


@final
class _OfEvent(_Ours):
    """A part of the event itself."""

    __slots__ = ("_name",)

    def __init__(self, field: str, name: str) -> None:
        super().__init__(field)
        self._name = name

    def own(self, event: Event) -> Any:
        name = self._name
        if name == "dialect":
            return event.dialect
        if name == "kind":
            return event.kind
        if name == "source":
            return event.source
        if name == "site":
            return event.site
        if name == "level":
            if event.level:
                return event.level
            kind = KINDS.get(event.kind)
            return kind.level if kind else MISSING
        if name == "time_ms":
            return event.time_ms
        if event.state is None:
            return MISSING
        return event.state.attribute if name == "state.attribute" else event.state.value


@final
class _Placed(_Ours):
    """person, zone, floor, building, asset: an entity says it, else the site model."""

    __slots__ = ("_name", "_places")

    def __init__(self, field: str, name: str, places: Places | None) -> None:
        super().__init__(field)
        self._name = name
        self._places = places

    def own(self, event: Event) -> Any:
        name, places = self._name, self._places
        if name == "person":
            return self._person(event)
        if name == "zone":
            zone = event.entity("zone")
            if zone:
                return zone
        place = places.event_place(event) if places is not None else ""
        if places is None or not place:
            return MISSING
        if name == "asset":
            return place
        if name == "zone":
            zones = places.zones_of(place, event.time_ms)
            if not zones:
                return MISSING
            return zones[0] if len(zones) == 1 else list(zones)
        if name == "floor":
            return places.floor_of(place, event.time_ms) or MISSING
        return places.building_of(place, event.time_ms) or MISSING

    def _person(self, event: Event) -> Any:
        person = event.entity("person")
        if person:
            return person
        if self._places is not None:
            for kind in ("badge", "account"):
                holder = event.entity(kind)
                if holder:
                    found = self._places.person_of(kind, holder, event.time_ms)
                    if found:
                        return found
        return MISSING


def _descend(value: Any, parts: tuple[str, ...], index: int) -> Any:
    """A dotted name part by part; through a list of objects it gives the list of what they hold."""
    while index < len(parts):
        if type(value) is dict:
            value = value.get(parts[index], MISSING)
            if value is MISSING:
                return MISSING
            index += 1
        elif type(value) is list:
            found: list[Any] = []
            for item in value:
                inner = _descend(item, parts, index)
                if type(inner) is list:
                    found.extend(inner)
                elif inner is not MISSING:
                    found.append(inner)
            return found or MISSING
        else:
            return MISSING
    return value


# ---- values ------------------------------------------------------------------------------------

# Below this a float without fraction has the text of the integer (1.0 -> "1"); repr() changes to
# the exponent form there.
_WHOLE_BELOW = 1e16


def text_of(value: Any) -> str | None:
    """The text form in which values are compared: 1 and 1.0 give "1", True "true"; None for the rest."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        if value.is_integer() and -_WHOLE_BELOW < value < _WHOLE_BELOW:
            return str(int(value))
        return repr(value)
    return None


_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")


def number_of(value: Any) -> float | None:
    """The number a value is, or that a text is the form of; None for truth values and all else."""
    kind = type(value)
    if kind is int or kind is float:
        number = value
    elif kind is str and len(value) <= 64 and _NUMBER.fullmatch(value):
        number = float(value) if not value.lstrip("+-").isdigit() else int(value)
    else:
        return None
    if type(number) is float and not isfinite(number):
        return None
    return number  # type: ignore[no-any-return]


def keys_of(value: Any) -> tuple[str, ...]:
    """The group keys of a value: 1, 1.0 and "1" are one key, True is "true", case is kept.

    A list gives its distinct elements in order; absent, null, an object and "" give none.
    """
    kind = type(value)
    if kind is str:
        return (value,) if value else ()
    if kind is list or kind is tuple:
        keys: dict[str, None] = {}
        for item in value:
            key = text_of(item)
            if key:
                keys[key] = None
        return tuple(keys)
    key = text_of(value)
    return (key,) if key else ()
