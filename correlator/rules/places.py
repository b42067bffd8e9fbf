"""What rules may ask of the site: the seam between the rule language and the site model.

`correlator.premises` implements it. Times are ms UTC; ids are tokens. None means "not known", and a
predicate about something unknown is false whether negated or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from correlator.events.event import Event


class Places(Protocol):
    """Answers about the site at a time. All methods are pure reads of model and live state."""

    def resolve(self, kind: str, entity_id: str, t_ms: int) -> str:
        """The asset an entity stands for at that time, or "unknown:<kind>:<id>"."""
        ...

    def zones_of(self, asset: str, t_ms: int) -> tuple[str, ...]:
        """The zones an asset stands in (a door: both sides, without "outside"); () if unknown."""
        ...

    def event_place(self, event: Event) -> str:
        """The most specific placed asset of an event: device, host, door, reader, sensor, camera, zone,
        then account, person; "" if it has none."""
        ...

    def person_of(self, kind: str, entity_id: str, t_ms: int) -> str | None:
        """The person behind a badge or account at that time (a person: itself if known)."""
        ...

    def doors_between(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        """Fewest doors on a way from any of the first zones to any of the second; 0 = same zone."""
        ...

    def walk_ms(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        """Shortest walking time between the zones, ms; 0 = same zone."""
        ...

    def covers(self, camera: str, asset: str, t_ms: int) -> bool | None:
        """Whether the camera covers the asset or one of its zones."""
        ...

    def reachable(self, host_a: str, host_b: str, t_ms: int) -> bool | None:
        """Whether a path of network relations leads from the first host to the second."""
        ...

    def owns(self, person: str, kind: str, entity_id: str, t_ms: int) -> bool | None:
        """Whether the account or badge is the person's at that time."""
        ...

    def presence(self, person: str, t_ms: int) -> tuple[str, float, int] | None:
        """(zone or "outside", confidence 0..1, ms since last seen) of a person; None if never seen."""
        ...

    def last_seen(self, kind: str, entity_id: str) -> tuple[str, int] | None:
        """(zone, time ms) where a badge or person was last seen before now."""
        ...

    def unused_ms(self, kind: str, entity_id: str, t_ms: int) -> int | None:
        """How long ago a badge or account was last used before this event; None if never."""
        ...

    def working_hours(self, zone: str, t_ms: int) -> bool | None:
        """Whether the time falls into the zone's declared hours; None if it declares none."""
        ...

    def restricted(self, asset: str, t_ms: int) -> bool | None:
        """Whether the asset is, or stands in, a restricted zone."""
        ...

    def validity(self, kind: str, entity_id: str, t_ms: int) -> str:
        """valid | expired | not_yet | superseded | disabled | unknown."""
        ...

    def in_window(self, event: Event) -> bool:
        """Whether a declared window covers the event's place, people and kind at its time."""
        ...

    def floor_of(self, asset: str, t_ms: int) -> str:
        """Floor id of an asset, "" if unknown."""
        ...

    def building_of(self, asset: str, t_ms: int) -> str:
        """Building of an asset, "" if unknown."""
        ...
