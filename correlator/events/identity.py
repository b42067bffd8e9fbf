"""Every identifying value enters an event here and nowhere else (design 8.1).

A token is the value itself, trimmed; where correlator.yaml says so it is a keyed hash
(`correlator.privacy`), which is why a test checks that no attribute, text or summary carries a value
that did not come through `token`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from correlator.events.event import Entity, Event

# What identifies a person or can be traced to one. Doors and hosts are things of the site.
IDENTIFYING_KINDS: Final = frozenset({"person", "badge", "account"})


class Identity:
    """Makes tokens. keyed: tokens are never the values themselves, but for names that identify nobody."""

    __slots__ = ()
    keyed: ClassVar[bool] = False

    def token(self, kind: str, value: str) -> str:
        """The token that stands for an identifying value of an entity kind, in all events alike."""
        return value.strip()


@lru_cache(maxsize=64)
def keeps_values(identity: Identity) -> bool:
    """Whether tokens are the values themselves, so that there is nothing to hide in a text."""
    return not identity.keyed and all(identity.token(kind, "p-000") == "p-000" for kind in sorted(IDENTIFYING_KINDS))


def renamed(event: Event, names: Mapping[str, str]) -> Event:
    """The event with other ids and attribute values wherever `names` has one for them."""
    entities = tuple(Entity(one.role, one.kind, names[one.id]) if one.id in names else one for one in event.entities)
    return replace(event, entities=entities, carried=_renamed(event.attributes, names))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if type(value) is str:
        return names.get(value, value)
    if type(value) is dict:
        return {key: _renamed(one, names) for key, one in value.items()}
    if type(value) is list:
        return [_renamed(one, names) for one in value]
    return value
