"""A field name -> its value in an event; values as text, number and group keys.

Look-up order (docs/rules.md section 2): the source's own names as one key, then part by part, then
our names, then absent. Hot: one accessor is made per field of a rule and called for every event that
reaches the rule.
"""

from __future__ import annotations

import re
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

# How a field that is no attribute is looked up.
_PLAIN = 0  # not at all
_KIND, _SOURCE, _DIALECT, _SITE, _LEVEL, _TIME, _ATTRIBUTE, _VALUE = 1, 2, 3, 4, 5, 6, 7, 8
_ENTITY = 9  # first entity of a kind, in one role if given
_PERSON, _ZONE, _FLOOR, _BUILDING, _ASSET = 10, 11, 12, 13, 14  # resolved by the site model

_OWN: dict[str, int] = {
    "kind": _KIND,
    "source": _SOURCE,
    "dialect": _DIALECT,
    "site": _SITE,
    "level": _LEVEL,
    "time_ms": _TIME,
    "state.attribute": _ATTRIBUTE,
    "state.value": _VALUE,
    "person": _PERSON,
    "zone": _ZONE,
    "floor": _FLOOR,
    "building": _BUILDING,
    "asset": _ASSET,
}
OUR_NAMES: Final = frozenset({*_OWN, *ENTITY_KINDS, *(f"{role}.{kind}" for role in ROLES for kind in ENTITY_KINDS)})


def entity_kind_of(field: str) -> tuple[str, str]:
    """(role, entity kind) of one of our names such as "badge" or "target.host"; ("", "") else."""
    role, _, kind = field.rpartition(".")
    if kind in ENTITY_KINDS and (not role or role in ROLES):
        return role, kind
    return "", ""


@final
class Accessor:
    """Reads one field of events. "@kind" and "@dialect" read the event's own, past any attribute."""

    __slots__ = ("_direct", "_how", "_kind", "_parts", "_places", "_role", "field")

    def __init__(self, field: str, places: Places | None) -> None:
        self.field = field
        self._places = places
        self._direct = field.startswith("@")
        name = field[1:] if self._direct else field
        self._parts = tuple(name.split(".")) if "." in name else ()
        self._role, self._kind = entity_kind_of(name)
        self._how = _OWN.get(name, _ENTITY if self._kind else _PLAIN)

    def get(self, event: Event) -> Any:
        """The field's value, MISSING if it is absent. Lists and objects come as they are."""
        if not self._direct:
            value = event.attributes.get(self.field, MISSING)
            if value is not MISSING:
                return value
            if self._parts:
                value = _descend(event.attributes, self._parts, 0)
                if value is not MISSING:
                    return value
        if self._how == _PLAIN:
            return MISSING
        return self._ours(event)

    def _ours(self, event: Event) -> Any:
        how = self._how
        if how == _KIND:
            return event.kind
        if how == _ENTITY:
            return event.entity(self._kind, self._role) or MISSING
        if how == _DIALECT:
            return event.dialect
        if how == _SOURCE:
            return event.source
        if how == _SITE:
            return event.site
        if how == _LEVEL:
            if event.level:
                return event.level
            kind = KINDS.get(event.kind)
            return kind.level if kind else MISSING
        if how == _TIME:
            return event.time_ms
        if how == _ATTRIBUTE:
            return event.state.attribute if event.state else MISSING
        if how == _VALUE:
            return event.state.value if event.state else MISSING
        return self._resolved(event)

    def _resolved(self, event: Event) -> Any:
        """person, zone, floor, building, asset: an entity says it, else the site model."""
        how = self._how
        if how == _PERSON:
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
        if how == _ZONE:
            zone = event.entity("zone")
            if zone:
                return zone
        if self._places is None:
            return MISSING
        place = self._places.event_place(event)
        if not place:
            return MISSING
        if how == _ASSET:
            return place
        if how == _ZONE:
            zones = self._places.zones_of(place, event.time_ms)
            if not zones:
                return MISSING
            return zones[0] if len(zones) == 1 else list(zones)
        if how == _FLOOR:
            return self._places.floor_of(place, event.time_ms) or MISSING
        return self._places.building_of(place, event.time_ms) or MISSING


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
