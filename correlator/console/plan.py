"""The floor plan as SVG, made on the server: rooms with what is wrong in them, doors, cameras, sensors.

The list is the truth and the plan mirrors it: both are made from the same threats. A site without outlines
gets a layout of boxes; the drawing decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape

from msgspec import Struct

from correlator.premises import Premises
from correlator.premises.model import Zone

BOX, GAP = 12.0, 1.0  # metres: rooms without outline
MARKS = {"critical": "◆", "high": "▲", "medium": "■", "low": "●", "informational": "●"}


class Room(Struct, frozen=True):
    """A room as drawn: outline in the units of the floor, its label, what is wrong there ("" if nothing)."""

    zone: str
    name: str
    outline: tuple[tuple[float, float], ...]
    severity: str = ""
    threats: int = 0
    people: int = 0


def rooms(places: Premises, floor: str, worst: Mapping[str, tuple[str, int]], people: Mapping[str, int]) -> list[Room]:
    """The rooms of a floor. worst: zone -> (severity, number of open threats); people: zone -> how many."""
    zones = [zone for zone in places.site.zones.values() if zone.floor == floor]
    drawn = [zone for zone in zones if len(zone.outline) >= 3]
    boxes = dict(zip((zone.id for zone in zones), _boxes(len(zones)), strict=True)) if not drawn else {}
    top = max((y for zone in drawn for _, y in zone.outline), default=0.0) + GAP
    extra = iter(_boxes(len(zones) - len(drawn), top))
    told = []
    for zone in zones:
        outline = zone.outline if len(zone.outline) >= 3 else boxes.get(zone.id) or next(extra)
        severity, threats = worst.get(zone.id, ("", 0))
        told.append(Room(zone.id, zone.name, tuple(outline), severity, threats, people.get(zone.id, 0)))
    return told


def _boxes(count: int, top: float = 0.0) -> list[tuple[tuple[float, float], ...]]:
    """Squares in rows, about as wide as high."""
    if count <= 0:
        return []
    across = max(1, math.ceil(math.sqrt(count * 1.6)))
    made: list[tuple[tuple[float, float], ...]] = []
    for number in range(count):
        x, y = (number % across) * (BOX + GAP), top + (number // across) * (BOX * 0.6 + GAP)
        made.append(((x, y), (x + BOX, y), (x + BOX, y + BOX * 0.6), (x, y + BOX * 0.6)))
    return made


def svg(places: Premises, floor: str, drawn: Iterable[Room], words: Mapping[str, str]) -> str:
    """The drawing. words: "room_alert" with {name}, {severity}, {count}; "room_quiet" with {name}; severities."""
    listed = list(drawn)
    points = [point for room in listed for point in room.outline]
    if not points:
        return ""
    left, top = min(x for x, _ in points), min(y for _, y in points)
    right, bottom = max(x for x, _ in points), max(y for _, y in points)
    pad = max(right - left, bottom - top, 1.0) * 0.02
    box = f"{left - pad:.2f} {top - pad:.2f} {right - left + 2 * pad:.2f} {bottom - top + 2 * pad:.2f}"
    size = max(right - left, bottom - top, 1.0) / 60
    name = places.site.floors[floor].name if floor in places.site.floors else floor
    parts = [f'<svg class="plan" viewBox="{box}" role="group" aria-label="{escape(name)}">']
    # Rooms with something wrong come last, so that their thick outline is not painted over.
    for room in sorted(listed, key=lambda one: (one.severity != "", one.zone)):
        parts.append(_room(room, size, words))
    for door in places.site.doors.values():
        if door.floor == floor and door.at is not None:
            parts.append(_door(door.at, size, door.name or door.id))
    parts.append("</svg>")
    return "".join(parts)


def _room(room: Room, size: float, words: Mapping[str, str]) -> str:
    outline = " ".join(f"{x:.2f},{y:.2f}" for x, y in room.outline)
    middle_x = sum(x for x, _ in room.outline) / len(room.outline)
    middle_y = sum(y for _, y in room.outline) / len(room.outline)
    if room.severity:
        label = words["room_alert"].format(name=room.name, severity=words[room.severity], count=room.threats)
    else:
        label = words["room_quiet"].format(name=room.name)
    state = f"room {room.severity}" if room.severity else "room"
    width = max(x for x, _ in room.outline) - min(x for x, _ in room.outline)
    letters = min(size * 1.3, width / max(len(room.name), 6) * 1.7)
    at = f'x="{middle_x:.2f}" y="{middle_y - letters:.2f}" font-size="{size * 2.2:.2f}"'
    mark = f'<text class="mark" {at}>{MARKS[room.severity]}</text>' if room.severity else ""
    people = f" · {room.people}" if room.people else ""
    below = f'x="{middle_x:.2f}" y="{middle_y + letters:.2f}" font-size="{letters:.2f}"'
    return (
        f'<a href="/?zone={escape(room.zone)}" class="{state}" aria-label="{escape(label)}">'
        f'<polygon points="{outline}"/>{mark}'
        f"<text {below}>{escape(room.name)}{people}</text></a>"
    )


def _door(at: tuple[float, float], size: float, name: str) -> str:
    where = f'cx="{at[0]:.2f}" cy="{at[1]:.2f}" r="{size * 0.5:.2f}"'
    return f'<circle class="door" {where}><title>{escape(name)}</title></circle>'


def zone_of(zones: Mapping[str, Zone], name: str) -> str:
    """A zone's name, its id if it has none."""
    zone = zones.get(name)
    return zone.name if zone is not None else name
