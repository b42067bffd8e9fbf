"""The floor plan as SVG, made on the server: rooms with what is wrong in them and who is there, doors, cameras,
sensors as they stand now.

The list is the truth and the plan mirrors it: both are made from the same threats. A site without outlines
gets a layout of boxes; the drawing decides nothing. Colour never says anything alone: a state has a shape and
words (the title of each sign, the accessible name of each room).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from html import escape
from itertools import combinations, pairwise
from typing import Final

from msgspec import Struct

from correlator.outputs.format import one_line
from correlator.premises import Premises
from correlator.premises.live import LiveState
from correlator.premises.model import Zone

BOX, GAP, TALL = 12.0, 1.0, 0.68  # metres: rooms without outline
MARKS: Final = {"critical": "◆", "high": "▲", "medium": "■", "low": "●", "informational": "●"}
BELIEVED: Final = 0.3  # from this confidence on somebody counts as still in a room (docs/site.md)
SHOWN_SIGNS, SHOWN_NAME, MOST_CORNERS = 6, 80, 12
LOOKED_AT: Final = 10_000  # characters
_WATCHED: Final = ("camera", "sensor", "reader", "controller", "device", "medical_device", "building_device")
_LETTER, _NARROW, _WIDE = 0.61, 0.36, 0.9  # widths of letters in font sizes, as DejaVu Sans has them
_NARROW_ONES: Final = frozenset("ijlftrIJ.,:;'|!()[]- ")
_WIDE_ONES: Final = frozenset("mwMWQOG@%&")


class Sign(Struct, frozen=True):
    """A device in a room or a door: class of drawing (camera, sensor, door), state, and words for both."""

    kind: str
    state: str
    title: str


class Room(Struct, frozen=True):
    """A room as drawn: outline in the units of the floor, its label, what is wrong there ("" if nothing)."""

    zone: str
    name: str
    outline: tuple[tuple[float, float], ...]
    severity: str = ""
    threats: int = 0
    people: int = 0
    signs: tuple[Sign, ...] = ()

    @property
    def dark(self) -> int:
        """Devices of the room that do not work."""
        return sum(one.state not in ("ok", "unknown") for one in self.signs)


def rooms(
    places: Premises,
    floor: str,
    worst: Mapping[str, tuple[str, int]],
    live: LiveState | None = None,
    now_ms: int = 0,
    words: Mapping[str, str] | None = None,
) -> list[Room]:
    """The rooms of a floor. worst: zone -> (severity, number of open threats); words: of the states."""
    zones = [zone for zone in places.site.zones.values() if zone.floor == floor]
    drawn = [zone for zone in zones if len(zone.outline) >= 3]
    boxes = dict(zip((zone.id for zone in zones), _boxes(len(zones)), strict=True)) if not drawn else {}
    top = max((y for zone in drawn for _, y in zone.outline), default=0.0) + GAP
    extra = iter(_boxes(len(zones) - len(drawn), top))
    signs = devices(places, live, words or {}) if live is not None else {}
    for door in places.site.doors.values() if live is not None else ():
        # A door that the drawing has no place for is told in the rooms it leads to, while it stands open.
        placed = door.at is not None or all(len(z.outline) >= 3 for z in map(places.site.zones.get, door.between) if z)
        if not placed and door_state(live, door.id) == "open":
            title = f"{_short(places.describe(door.id))}: {(words or {}).get('door_open', 'open')}"
            for zone_id in door.between:
                signs.setdefault(zone_id, []).insert(0, Sign("door", "ok", title))
    people = people_by_zone(places, live, now_ms) if live is not None else Counter()
    told = []
    for zone in zones:
        outline = zone.outline if len(zone.outline) >= 3 else boxes.get(zone.id) or next(extra)
        severity, threats = worst.get(zone.id, ("", 0))
        told.append(
            Room(zone.id, _short(zone.name), tuple(outline), severity, threats, people[zone.id],
                 tuple(signs.get(zone.id, ())))
        )  # fmt: skip
    return told


def people_by_zone(places: Premises, live: LiveState, now_ms: int) -> Counter[str]:
    """Zone -> how many of the people the site knows are believed to be there now."""
    seen = (live.presence(one, now_ms) for one in places.site.people)
    return Counter(one[0] for one in seen if one is not None and one[1] >= BELIEVED)


@lru_cache(maxsize=64)
def _watched(places: Premises) -> list[tuple[str, str, str, str]]:
    """(asset, zone, class of drawing, name) of what stands in a room and can fail."""
    return [
        (one.id, one.zone, "camera" if one.asset_class == "camera" else "sensor", _short(one.name or one.id))
        for one in places.site.assets.values() if one.asset_class in _WATCHED and one.zone
    ]  # fmt: skip


def devices(places: Premises, live: LiveState, words: Mapping[str, str]) -> dict[str, list[Sign]]:
    """Zone -> its cameras, sensors and controllers, those that do not work first."""
    found: dict[str, list[Sign]] = {}
    for asset, zone, kind, name in _watched(places):
        health = live.health(asset)
        state = health[0] if health is not None else "unknown"
        found.setdefault(zone, []).append(Sign(kind, state, f"{name}: {words.get(f'health_{state}', state)}"))
    for signs in found.values():
        signs.sort(key=lambda one: (one.state in ("ok", "unknown"), one.kind, one.title))
    return found


def door_state(live: LiveState | None, door: str) -> str:
    """open, closed, locked or unknown, as the newest event says."""
    opened, locked, _ = live.door(door) if live is not None else (None, None, None)
    if opened:
        return "open"
    if locked:
        return "locked"
    return "unknown" if opened is None else "closed"


def _boxes(count: int, top: float = 0.0) -> list[tuple[tuple[float, float], ...]]:
    """Squares in rows, about as wide as high."""
    if count <= 0:
        return []
    across = max(1, math.ceil(math.sqrt(count * 1.2)))
    made: list[tuple[tuple[float, float], ...]] = []
    for number in range(count):
        x, y = (number % across) * (BOX + GAP), top + (number // across) * (BOX * TALL + GAP)
        made.append(((x, y), (x + BOX, y), (x + BOX, y + BOX * TALL), (x, y + BOX * TALL)))
    return made


def svg(
    places: Premises, floor: str, drawn: Iterable[Room], words: Mapping[str, str], live: LiveState | None = None
) -> str:
    """The drawing. words: "room_alert" with {name}, {severity}, {count}; "room_quiet" with {name}; "room_people"
    and "room_dark" with {count}; severities; states of doors."""
    listed = list(drawn)
    points = [point for room in listed for point in room.outline]
    if not points:
        return ""
    left, top = min(x for x, _ in points), min(y for _, y in points)
    right, bottom = max(x for x, _ in points), max(y for _, y in points)
    pad = max(right - left, bottom - top, 1.0) * 0.02
    box = f"{left - pad:.2f} {top - pad:.2f} {right - left + 2 * pad:.2f} {bottom - top + 2 * pad:.2f}"
    size = max(right - left, bottom - top, 1.0) / 52
    name = places.site.floors[floor].name if floor in places.site.floors else floor
    parts = [f'<svg class="plan" viewBox="{box}" role="group" aria-label="{escape(_short(name))}">']
    # Rooms with something wrong come last, so that their thick outline is not painted over.
    for number, room in enumerate(sorted(listed, key=lambda one: (one.severity != "", one.zone))):
        parts.append(_room(room, f"room-{number}", size, words))
    zones = places.site.zones
    outlines = {room.zone: room.outline for room in listed if len(zones[room.zone].outline) >= 3}
    for door in places.site.doors.values():
        if door.floor == floor:
            at = door.at or _between([outlines[one] for one in door.between if one in outlines])
            if at is not None:
                state = door_state(live, door.id)
                title = f"{_short(places.describe(door.id))}: {words.get(f'door_{state}', state)}"
                parts.append(_door(at, size, state, title))
    parts.append("</svg>")
    return "".join(parts)


def _room(room: Room, id: str, size: float, words: Mapping[str, str]) -> str:
    outline = " ".join(f"{x:.2f},{y:.2f}" for x, y in room.outline)
    left, top, right, bottom = _inside(room.outline)
    if room.severity:
        label = words["room_alert"].format(name=room.name, severity=words[room.severity], count=room.threats)
    else:
        label = words["room_quiet"].format(name=room.name)
    if room.people:
        label += ", " + words["room_people"].format(count=room.people)
    if room.dark:
        label += ", " + words["room_dark"].format(count=room.dark)
    state = f"room {room.severity}" if room.severity else "room"
    high = top + size * (2.4 if room.severity or room.people else 0.4)
    low = bottom - size * (1.7 if room.signs else 0.4)
    flat = low - high < size  # too flat for all of it: the name above, signs and mark side by side below
    if flat:
        high = top + size * 0.3
    if low - high < size * 0.85:
        high, low = top, bottom
    lines, letters = _fitted(room.name, (right - left) * (0.82 if room.severity else 0.9), low - high, size)
    middle = (high + low) / 2 - (len(lines) - 1) * letters * 0.575 + letters * 0.35
    texts = "".join(
        f'<text x="{(left + right) / 2:.2f}" y="{middle + number * letters * 1.15:.2f}" font-size="{letters:.2f}">'
        f"{escape(line)}</text>"
        for number, line in enumerate(lines)
    )
    mark, polygon = "", f'<polygon points="{outline}"/>'
    if room.severity:
        # Cut off at the room's own edge: the outlines of two neighbours lie side by side, not over each other.
        polygon = f'<clipPath id="{id}">{polygon}</clipPath><polygon clip-path="url(#{id})" points="{outline}"/>'
        x, y = (right - size * 1.3, bottom - size * 0.4) if flat else (left + size * 1.4, top + size * 2)
        at = f'x="{x:.2f}" y="{y:.2f}" font-size="{size * 1.8:.2f}"'
        mark = f'<text class="mark" {at}>{MARKS[room.severity]}</text>'
    people = ""
    if room.people:
        at = f'x="{right - size * 0.5:.2f}" y="{top + size * 1.7:.2f}" font-size="{size * 1.2:.2f}"'
        people = f'<text class="people" {at}>☺ {room.people}</text>'
    return (
        f'<a href="/?zone={escape(room.zone)}" class="{state}" aria-label="{escape(label)}"><title>{escape(label)}'
        f"</title>{polygon}{mark}{people}{texts}{_signs(room, left, right, bottom, size)}</a>"
    )


def _inside(outline: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest upright rectangle inside a room, among those whose sides go
    through its corners; of a round room the box around it."""
    xs, ys = sorted({x for x, _ in outline}), sorted({y for _, y in outline})
    whole = xs[0], ys[0], xs[-1], ys[-1]
    if len(xs) > MOST_CORNERS or len(ys) > MOST_CORNERS or (len(xs), len(ys)) == (2, 2):
        return whole
    middles_x = [(a + b) / 2 for a, b in pairwise(xs)]
    middles_y = [(a + b) / 2 for a, b in pairwise(ys)]
    filled = [[_holds(outline, x, y) for y in middles_y] for x in middles_x]
    found = [
        (xs[x1], ys[y1], xs[x2], ys[y2])
        for x1, x2 in combinations(range(len(xs)), 2) for y1, y2 in combinations(range(len(ys)), 2)
        if all(all(column[y1:y2]) for column in filled[x1:x2])
    ]  # fmt: skip
    return max(found, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), default=whole)


def _holds(outline: Sequence[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a point lies inside an outline: an odd number of sides is crossed on the way out."""
    crossed = 0
    for (x1, y1), (x2, y2) in pairwise([*outline, outline[0]]):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            crossed += 1
    return crossed % 2 == 1


def _fitted(name: str, width: float, height: float, size: float) -> tuple[list[str], float]:
    """A name in up to three lines, and the size of its letters: as large as fits, never so small that nobody
    can read it; what does not fit then ends in an ellipsis."""
    largest, smallest = size * 1.35, size * 0.85
    best: tuple[list[str], float] = ([name], 0.0)
    for count in (1, 2, 3):
        lines = _wrapped(name, count)
        letters = min(largest, width / max(map(_wide, lines)), height / (len(lines) * 1.15))
        if letters > best[1] + 1e-9:
            best = lines, letters
    if best[1] >= smallest:
        return best
    rows = max(1, int(height / (smallest * 1.15)))
    return [_cut(one, width / smallest) for one in best[0][:rows]], smallest


def _cut(text: str, wide: float) -> str:
    """A text, or its beginning and an ellipsis, not wider than so many font sizes; three letters at least."""
    if _wide(text) <= wide:
        return text
    kept = next((n for n in range(len(text) - 1, 2, -1) if _wide(text[:n] + "…") <= wide), 2)
    return text[:kept] + "…"


def _wide(text: str) -> float:
    """How wide a text is, about, in font sizes."""
    return sum(_NARROW if one in _NARROW_ONES else _WIDE if one in _WIDE_ONES else _LETTER for one in text) or _LETTER


def _wrapped(name: str, count: int) -> list[str]:
    """Words in `count` lines of about the same length."""
    words = name.split()
    if count == 1 or len(words) < count:
        return [name]
    aim = len(name) / count
    lines = [""]
    for number, word in enumerate(words):
        left_over = len(words) - number
        longer = len(lines[-1]) + len(word) / 2 > aim or left_over <= count - len(lines)
        if lines[-1] and longer and len(lines) < count:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _signs(room: Room, left: float, right: float, bottom: float, size: float) -> str:
    """The devices of a room along its lower edge; what does not fit is counted."""
    made = []
    most = min(SHOWN_SIGNS, max(1, int((right - left - size * 1.4) / (size * 1.5))))
    if len(room.signs) > most:
        most = max(1, most - 1)
    for number, sign in enumerate(room.signs[:most]):
        x, y = left + size * (1.3 + number * 1.5), bottom - size * 0.9
        r = size * 0.45
        if sign.kind == "camera":
            shape = f'<path d="M{x - r:.2f} {y - r * 0.7:.2f}h{r * 1.3:.2f}v{r * 1.4:.2f}h-{r * 1.3:.2f}z'
            shape += f'M{x + r * 0.3:.2f} {y:.2f}l{r * 0.7:.2f} -{r * 0.6:.2f}v{r * 1.2:.2f}z"/>'
        elif sign.kind == "door":
            shape = f'<circle class="ring" cx="{x:.2f}" cy="{y:.2f}" r="{r * 0.8:.2f}"/>'
        else:
            shape = f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{r * 0.75:.2f}"/>'
        if sign.state not in ("ok", "unknown"):
            d = r * 1.25
            shape += f'<path class="cross" d="M{x - d:.2f} {y - d:.2f}l{2 * d:.2f} {2 * d:.2f}'
            shape += f'M{x + d:.2f} {y - d:.2f}l-{2 * d:.2f} {2 * d:.2f}"/>'
        made.append(f'<g class="sign {sign.state}"><title>{escape(sign.title)}</title>{shape}</g>')
    more = len(room.signs) - most
    if more > 0:
        x, y = left + size * (1.5 + most * 1.5), bottom - size * 0.55
        made.append(f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size:.2f}">+{more}</text>')
    return "".join(made)


def _between(outlines: Sequence[Sequence[tuple[float, float]]]) -> tuple[float, float] | None:
    """A point for a door whose place the site file does not give: where two outlines are nearest; None for a
    door to the outside."""
    if len(outlines) != 2:
        return None
    ends = [[(x1 + (x2 - x1) * t / 4, y1 + (y2 - y1) * t / 4)
             for (x1, y1), (x2, y2) in zip(one, [*one[1:], one[0]], strict=True) for t in range(4)]
            for one in outlines]  # fmt: skip
    (x1, y1), (x2, y2) = min(((a, b) for a in ends[0] for b in ends[1]), key=lambda pair: math.dist(pair[0], pair[1]))
    return (x1 + x2) / 2, (y1 + y2) / 2


def _door(at: tuple[float, float], size: float, state: str, title: str) -> str:
    """Open: a ring; closed: a bar; locked: a filled square; unknown: a dot."""
    x, y = at
    r = size * 0.5
    if state == "open":
        shape = f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{r:.2f}"/>'
    elif state == "locked":
        shape = f'<rect x="{x - r:.2f}" y="{y - r:.2f}" width="{2 * r:.2f}" height="{2 * r:.2f}"/>'
    elif state == "closed":
        shape = f'<rect x="{x - r * 1.2:.2f}" y="{y - r * 0.4:.2f}" width="{2.4 * r:.2f}" height="{0.8 * r:.2f}"/>'
    else:
        shape = f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{r * 0.4:.2f}"/>'
    return f'<g class="door {state}"><title>{escape(title)}</title>{shape}</g>'


def short(text: str, letters: int = 300) -> str:
    """A text on one line, without what cannot be seen, and not endless: a device may call itself anything."""
    plain = one_line(text[:LOOKED_AT])
    return plain if len(plain) <= letters else plain[: letters - 1] + "…"


def _short(text: str) -> str:
    return short(text, SHOWN_NAME)


def zone_of(zones: Mapping[str, Zone], name: str) -> str:
    """A zone's name, its id if it has none."""
    zone = zones.get(name)
    return zone.name if zone is not None else name
