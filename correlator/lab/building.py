"""A site file as somebody who walks through it sees it: zones, doors, readers, ways.

Reads the plain values of site.yaml and nothing else. What the site file cannot say is read from ids:
a sensor whose id begins with motion-, contact-, smoke- or temp- is one of that sort.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from correlator.clock import MINUTE_MS, local

OUTSIDE: Final = "outside"
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DEFAULT_WALK_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Zone:
    """hours: weekday word -> (first, last) minute of the day; None: always open."""

    id: str
    floor: str
    restricted: bool
    hours: dict[str, tuple[int, int]] | None


@dataclass(frozen=True, slots=True)
class Door:
    """A door between two zones (or outside). readers: zone one stands in -> reader used there."""

    id: str
    between: tuple[str, str]
    walk_ms: int
    one_way: bool
    readers: dict[str, str] = field(default_factory=dict)
    contact: str = ""

    def other(self, zone: str) -> str:
        """The zone on the other side."""
        return self.between[1] if self.between[0] == zone else self.between[0]


@dataclass(frozen=True, slots=True)
class Host:
    """A workstation or server: id, zone, first address."""

    id: str
    zone: str
    ip: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who works here: the badge and account valid on the day ("" if none)."""

    id: str
    role: str
    badge: str
    account: str
    base: str


@dataclass(frozen=True, slots=True)
class Building:
    """The whole site, indexed for walking. covers: camera -> zones and doors in its view."""

    zones: dict[str, Zone]
    doors: dict[str, Door]
    hosts: tuple[Host, ...]
    cameras: dict[str, frozenset[str]]
    sensors: dict[str, str]
    people: tuple[Person, ...]

    def sensors_named(self, prefix: str) -> list[str]:
        """Ids of the sensors of one sort, sorted."""
        return sorted(name for name in self.sensors if name.startswith(prefix))

    def open_at(self, zone: str, t_ms: int, tz: Any) -> bool:
        """Whether a zone's declared hours hold at a time; a zone without hours is always open."""
        hours = self.zones[zone].hours
        if hours is None:
            return True
        clock = local(t_ms, tz)
        span = hours.get(_DAYS[clock.weekday()])
        return span is not None and span[0] <= clock.hour * 60 + clock.minute < span[1]

    def way(self, start: str, goal: str) -> list[tuple[Door, str, str]]:
        """The shortest walk as (door, from zone, to zone); [] if there is none.

        Leads through no restricted zone except those next to the goal's own door, and to the outside
        only through doors with a reader: that is how staff move.
        """
        best: dict[str, int] = {start: 0}
        came: dict[str, tuple[Door, str]] = {}
        queue = [(0, start)]
        while queue:
            cost, zone = heapq.heappop(queue)
            if zone == goal:
                break
            if cost > best[zone]:
                continue
            for door in self._doors_of(zone):
                after = door.other(zone)
                if OUTSIDE in (zone, after) and (not door.readers or {zone, after}.isdisjoint({start, goal})):
                    continue
                if door.one_way or (after != goal and not self._passable(after, goal)):
                    continue
                reached = cost + door.walk_ms
                if reached < best.get(after, 1 << 62):
                    best[after] = reached
                    came[after] = (door, zone)
                    heapq.heappush(queue, (reached, after))
        steps: list[tuple[Door, str, str]] = []
        zone = goal
        while zone != start:
            if zone not in came:
                return []
            door, before = came[zone]
            steps.append((door, before, zone))
            zone = before
        return steps[::-1]

    def _doors_of(self, zone: str) -> Iterable[Door]:
        return (door for door in self.doors.values() if zone in door.between)

    def _passable(self, zone: str, goal: str) -> bool:
        if zone == OUTSIDE:
            return False
        if not self.zones[zone].restricted:
            return True
        return any(zone in door.between and goal in door.between for door in self.doors.values())


def _minutes(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return _minute(first), _minute(last)


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * (MINUTE_MS // 1_000) + int(minute)


def read_building(site: dict[str, Any]) -> Building:
    """The building of a site file's plain values; the file has been checked before."""
    zones: dict[str, Zone] = {}
    doors: dict[str, Door] = {}
    for floor in site.get("floors") or ():
        for zone in floor.get("zones") or ():
            hours = zone.get("hours")
            spans = None if hours is None else {day: _minutes(listed[0]) for day, listed in hours.items() if listed}
            zones[zone["id"]] = Zone(zone["id"], floor["id"], zone.get("restricted") is True, spans)
        for door in floor.get("doors") or ():
            first, second = door["between"]
            walk_ms = door.get("walk_ms", _DEFAULT_WALK_MS)
            doors[door["id"]] = Door(door["id"], (first, second), walk_ms, door.get("one_way") is True)
    assets = {asset["id"]: asset for asset in site.get("assets") or ()}
    cameras: dict[str, set[str]] = {id: set() for id, asset in assets.items() if asset["class"] == "camera"}
    for relation in site.get("relations") or ():
        source, target, word = relation["from"], relation["to"], relation["type"]
        if word == "covers" and source in cameras:
            cameras[source].add(target)
        elif word == "controls" and target in doors and assets[source]["class"] == "reader":
            doors[target].readers[assets[source].get("zone", OUTSIDE)] = source
        elif word == "monitored_by" and source in doors:
            found = doors[source]
            doors[source] = Door(found.id, found.between, found.walk_ms, found.one_way, found.readers, target)
    hosts = tuple(
        Host(id, asset.get("zone", ""), (asset.get("ip") or [""])[0])
        for id, asset in assets.items()
        if asset["class"] == "host"
    )
    sensors = {id: asset.get("zone", "") for id, asset in assets.items() if asset["class"] == "sensor"}
    people = tuple(_person(person) for person in site.get("people") or () if person.get("works_in"))
    return Building(zones, doors, hosts, {id: frozenset(seen) for id, seen in cameras.items()}, sensors, people)


def _person(person: dict[str, Any]) -> Person:
    badges = [one["id"] for one in person.get("badges") or () if "valid_to" not in one]
    accounts = [one["id"] for one in person.get("accounts") or () if not {"valid_to", "disabled_from"} & one.keys()]
    roles = person.get("roles") or [""]
    return Person(
        person["id"], roles[0], badges[0] if badges else "", accounts[0] if accounts else "", person["works_in"][0]
    )
