"""Drawings of a threat as SVG: when its steps happened, where, what joined them, what they may lead to.

Pure functions of a threat (and the site) to text. Every drawing has a name for screen readers and a table beside it
on the page that says the same (`correlator.lab.report`). Texts of devices are put on one line, cut and escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise

from msgspec import Struct

from correlator.clock import local
from correlator.events.text import one_line, shortened
from correlator.events.threat import Impact, ImpactStep, Step, Threat
from correlator.premises import Premises

WIDE, STEP_GAP = 1060.0, 22.0  # pixels: of a drawing as a page shows it, and between two steps at least
MOST_IMPACTS = 8
ROOM_W, ROOM_H, BAND_H, GAP, DOOR = 120.0, 64.0, 48.0, 14.0, 16.0
FLOOR_W, PILL_W = 640.0, 38.0  # of a floor with outlines; of the numbers of steps on it

Point = tuple[float, float]


def ordered(threat: Threat) -> list[Step]:
    """The steps in order of time, as they are numbered everywhere."""
    return sorted(threat.steps, key=lambda one: (one.t_ms, one.finding))


def label(text: str, longest: int = 40) -> str:
    """A text as it may stand in a drawing."""
    return escape(shortened(one_line(text), longest))


# ---- when ----------------------------------------------------------------------------------------


def timeline(threat: Threat, places: Premises) -> str:
    """Steps by domain, from left to right. Gaps grow with the logarithm of the time between two steps."""
    steps = ordered(threat)
    domains = {one.id: one.domain for one in threat.members}
    lanes = list(dict.fromkeys(_domain(step, domains) for step in steps))
    lanes.sort(key=lambda one: ("cyber", "physical", "building").index(one) if one in KNOWN_DOMAINS else 3)
    gaps = [math.log1p((after.t_ms - before.t_ms) / 1000) for before, after in pairwise(steps)]
    room = WIDE - 130 - STEP_GAP * len(gaps)
    scale = min(max(room, 0.0) / (sum(gaps) or 1.0), 40.0)
    xs = [80.0]
    for gap in gaps:
        xs.append(xs[-1] + STEP_GAP + scale * gap)
    width, top, high = max(xs[-1] + 50, WIDE), 16.0, 46.0
    bottom = top + high * len(lanes)
    parts = [_open(width, bottom + 34, "When: steps by domain, in order of time")]
    for number, lane in enumerate(lanes):
        y = top + high * (number + 0.5)
        parts.append(f'<line class="lane" x1="60" y1="{y}" x2="{width - 20:.1f}" y2="{y}"/>')
        parts.append(f'<text class="small" x="4" y="{y + 4}">{label(lane)}</text>')
    told = -math.inf
    for number, (step, x) in enumerate(zip(steps, xs, strict=True), 1):
        y = top + high * (lanes.index(_domain(step, domains)) + 0.5)
        when = local(step.t_ms, places.site.timezone)
        if x - told >= 58:
            told = x
            parts.append(f'<line class="tick" x1="{x:.1f}" y1="{y + 11}" x2="{x:.1f}" y2="{bottom + 4}"/>')
            parts.append(f'<text class="small mid" x="{x:.1f}" y="{bottom + 18}">{when:%H:%M:%S}</text>')
        parts.append(_dot(number, x, y, step, f"{when:%H:%M:%S}"))
    return "".join([*parts, "</svg>"])


KNOWN_DOMAINS = ("cyber", "physical", "building")


def _domain(step: Step, domains: Mapping[str, str]) -> str:
    return next((domains[one] for one in reversed(step.events) if domains.get(one)), "other")


def _dot(number: int, x: float, y: float, step: Step, when: str) -> str:
    title = f"{number}. {when} {step.title} - {step.place_name} ({step.level})"
    return (
        f'<g class="dot {escape(step.level)}"><title>{label(title, 200)}</title>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="10"/><text class="mid" x="{x:.1f}" y="{y + 3.5:.1f}">{number}</text></g>'
    )


# ---- where ---------------------------------------------------------------------------------------


class Room(Struct, frozen=True):
    """A room as drawn: its rectangle or outline, in the drawing's units."""

    zone: str
    name: str
    outline: tuple[Point, ...]

    @property
    def core(self) -> tuple[float, float, float, float]:
        """Left, right, top, bottom of a rectangle inside it: a rectangular room itself, else around the point of a
        grid that is farthest from all walls."""
        left, right, top, bottom = _bounds(self)
        if len(self.outline) == 4:
            return left, right, top, bottom
        grid = [
            (left + (right - left) * (n + 0.5) / 16, top + (bottom - top) * (m + 0.5) / 16)
            for n in range(16)
            for m in range(16)
        ]
        x, y = max(grid, key=lambda point: _clearance(point, self.outline))
        free = max(_clearance((x, y), self.outline), 10.0)
        return x - 1.4 * free, x + 1.4 * free, y - free, y + free


class Visit(Struct, frozen=True):
    """Steps that follow each other in one room: numbers from first to last, level of the gravest."""

    zone: str
    first: int
    last: int
    level: str


def floors(threat: Threat, places: Premises) -> list[tuple[str, str]]:
    """(name of the floor, its plan) for each floor on which something happened, in the site's order.

    The way of the threat is drawn from room to room in the order of its steps; a site without outlines gets a
    layout by its doors: corridors as bands, their rooms above and below.
    """
    steps = ordered(threat)
    at = {number: _zone(step, threat, places) for number, step in enumerate(steps, 1)}
    told = []
    for floor, about in places.site.floors.items():
        here = {number: zone for number, zone in at.items() if zone and places.site.zones[zone].floor == floor}
        if here:
            told.append((about.name, _plan(floor, places, steps, here)))
    return told


def _zone(step: Step, threat: Threat, places: Premises) -> str:
    known = [one for one in places.zones_of(step.asset, step.t_ms) if one in places.site.zones] if step.asset else []
    if known:
        return known[0]
    by_id = {one.id: one for one in threat.members}
    for event in reversed(step.events):
        place = by_id[event].place if event in by_id else ""
        for zone in places.zones_of(place, step.t_ms) if place else ():
            if zone in places.site.zones:
                return zone
    return ""


def _plan(floor: str, places: Premises, steps: Sequence[Step], here: Mapping[int, str]) -> str:
    rooms = layout(floor, places)
    points = [point for room in rooms.values() for point in room.outline]
    left, top = min(x for x, _ in points), min(y for _, y in points)
    width, height = max(x for x, _ in points) - left + 20, max(y for _, y in points) - top + 20
    parts = [_open(width, height, f"Where: {places.site.floors[floor].name}", left - 10, top - 10)]
    walls = _doors(floor, places, rooms)
    parts += [_line("passage", *wall) for wall in walls if math.dist(*wall) > DOOR]  # below the rooms
    visits = _visits(here, steps)
    worst = {zone: _worst(one.level for one in visits if one.zone == zone) for zone in here.values()}
    # Rooms with something wrong come last, so that their thick outline is not painted over; names lie above all.
    for zone in sorted(rooms, key=lambda one: one in worst):
        outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in rooms[zone].outline)
        state = f"room {escape(worst[zone])}" if zone in worst else "room"
        parts.append(f'<polygon class="{state}" points="{outline}"/>')
    for room in rooms.values():
        left, right, top, _ = room.core
        name = label(room.name, max(int((right - left) / 6.2), 6))
        parts.append(f'<text class="small mid" x="{(left + right) / 2:.1f}" y="{top + 14:.1f}">{name}</text>')
    parts += [_line("door", *wall) for wall in walls if math.dist(*wall) <= DOOR]
    spots = _spots(rooms, visits)
    if len(spots) > 1:
        parts.append(f'<polyline class="way" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
    for one, (x, y) in zip(visits, spots, strict=True):
        named = "; ".join(f"{number}. {steps[number - 1].title}" for number in range(one.first, one.last + 1))
        parts.append(_pill(one, x, y, named))
    return "".join([*parts, "</svg>"])


def _visits(here: Mapping[int, str], steps: Sequence[Step]) -> list[Visit]:
    """Steps in order of number, those that follow each other in one room as one."""
    told: list[Visit] = []
    for number, zone in sorted(here.items()):
        level = steps[number - 1].level
        if told and told[-1].zone == zone and told[-1].last == number - 1:
            told[-1] = Visit(zone, told[-1].first, number, _worst((told[-1].level, level)))
        else:
            told.append(Visit(zone, number, number, level))
    return told


def _pill(one: Visit, x: float, y: float, title: str) -> str:
    text = str(one.first) if one.first == one.last else f"{one.first}-{one.last}"
    wide = PILL_W if len(text) > 2 else 20.0
    return (
        f'<g class="dot {escape(one.level)}"><title>{label(title, 400)}</title>'
        f'<rect x="{x - wide / 2:.1f}" y="{y - 10:.1f}" width="{wide:.1f}" height="20" rx="10"/>'
        f'<text class="mid" x="{x:.1f}" y="{y + 3.5:.1f}">{text}</text></g>'
    )


def _doors(floor: str, places: Premises, rooms: Mapping[str, Room]) -> list[tuple[Point, Point]]:
    """Where doors are drawn: where the site file says so on a floor with outlines, else between their rooms."""
    scale = _scale(floor, places)
    walls = []
    for door in places.site.doors.values():
        if scale and door.floor == floor and door.at is not None:
            x, y = door.at[0] * scale, door.at[1] * scale
            walls.append(((x - DOOR / 2, y), (x + DOOR / 2, y)))
        elif door.between[0] in rooms and door.between[1] in rooms:
            walls.append(_wall(rooms[door.between[0]], rooms[door.between[1]]))
    return walls


def _scale(floor: str, places: Premises) -> float:
    """Pixels a metre on a floor whose zones all have outlines, else 0."""
    outlines = [zone.outline for zone in places.site.zones.values() if zone.floor == floor]
    if not outlines or any(len(outline) < 3 for outline in outlines):
        return 0.0
    xs = [x for outline in outlines for x, _ in outline]
    return FLOOR_W / max(max(xs) - min(xs), 1.0)


def _line(kind: str, a: Point, b: Point) -> str:
    return f'<line class="{kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'


def _spots(rooms: Mapping[str, Room], visits: Sequence[Visit]) -> list[Point]:
    """Where the visits stand: in rows inside their room, in their order."""
    spots: dict[Visit, Point] = {}
    for zone in dict.fromkeys(one.zone for one in visits):
        those = [one for one in visits if one.zone == zone]
        left, right, top, bottom = rooms[zone].core
        top += 16  # below the room's name
        fit = max(1, min(len(those), int((right - left - 8) / (PILL_W + 2))))
        rows = -(-len(those) // fit)
        step_y = min(23.0, (bottom - top) / rows)
        for place, one in enumerate(those):
            row, column = divmod(place, fit)
            count = min(fit, len(those) - row * fit)
            x = (left + right) / 2 + (column - (count - 1) / 2) * (PILL_W + 2)
            spots[one] = (x, (top + bottom) / 2 + (row - (rows - 1) / 2) * step_y)
    return [spots[one] for one in visits]


def _wall(one: Room, other: Room) -> tuple[Point, Point]:
    """The door between two rooms: a bar along the wall they share, or a line from wall to wall."""
    ax0, ax1, ay0, ay1 = _bounds(one)
    bx0, bx1, by0, by1 = _bounds(other)
    left, right, top, bottom = max(ax0, bx0), min(ax1, bx1), max(ay0, by0), min(ay1, by1)
    x, y = (left + right) / 2, (top + bottom) / 2
    if right - left > DOOR and abs(bottom - top) < 1:
        return (x - DOOR / 2, y), (x + DOOR / 2, y)
    if bottom - top > DOOR and abs(right - left) < 1:
        return (x, y - DOOR / 2), (x, y + DOOR / 2)
    if right - left > DOOR:  # above each other, with something between
        return (x, bottom), (x, top)
    return ((ax0 + ax1) / 2, (ay0 + ay1) / 2), ((bx0 + bx1) / 2, (by0 + by1) / 2)


def _bounds(room: Room) -> tuple[float, float, float, float]:
    """Left, right, top, bottom."""
    xs, ys = [x for x, _ in room.outline], [y for _, y in room.outline]
    return min(xs), max(xs), min(ys), max(ys)


def _clearance(point: Point, outline: Sequence[Point]) -> float:
    """How far a point is from the nearest wall; negative outside (crossing number)."""
    x, y = point
    inside = False
    nearest = math.inf
    for (ax, ay), (bx, by) in zip(outline, (*outline[1:], outline[0]), strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
            inside = not inside
        along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / max((bx - ax) ** 2 + (by - ay) ** 2, 1e-9)
        along = min(max(along, 0.0), 1.0)
        nearest = min(nearest, math.dist(point, (ax + along * (bx - ax), ay + along * (by - ay))))
    return nearest if inside else -nearest


def layout(floor: str, places: Premises) -> dict[str, Room]:
    """The rooms of a floor by zone: as outlined in the site file, else by doors."""
    zones = {id: zone for id, zone in places.site.zones.items() if zone.floor == floor}
    scale = _scale(floor, places)
    if scale:
        return {
            id: Room(id, zone.name, tuple((x * scale, y * scale) for x, y in zone.outline))
            for id, zone in zones.items()
        }
    beside: dict[str, list[str]] = {id: [] for id in zones}
    for door in places.site.doors.values():
        a, b = door.between
        if a in zones and b in zones:
            beside[a].append(b)
            beside[b].append(a)
    hubs = [id for id in zones if len(beside[id]) >= 4] or sorted(zones, key=lambda zone: -len(beside[zone]))[:1]
    groups = _groups(hubs, beside)
    width = max(4, *(-(-len(members) // 2) for members in groups.values())) * ROOM_W
    made: dict[str, Room] = {}
    y = 0.0
    for hub, members in groups.items():
        half = -(-len(members) // 2)
        above, below = members[:half], members[half:]
        for number, id in enumerate(above):
            made[id] = _box(id, zones[id].name, number * width / len(above), y, width / len(above), ROOM_H)
        y += ROOM_H if above else 0.0
        if hub:
            made[hub] = _box(hub, zones[hub].name, 0.0, y, width, BAND_H)
            y += BAND_H
        for number, id in enumerate(below):
            made[id] = _box(id, zones[id].name, number * width / len(below), y, width / len(below), ROOM_H)
        y += (ROOM_H if below else 0.0) + GAP
    return made


def _groups(hubs: Sequence[str], beside: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Each hub with the rooms nearest to it, rooms behind a room next to it; "" for what no door leads to."""
    groups: dict[str, list[str]] = {hub: [] for hub in hubs}
    seen = set(hubs)
    edge = [(hub, hub) for hub in hubs]
    while edge:
        following = []
        for hub, at in edge:
            for near in sorted(set(beside[at]) - seen):
                seen.add(near)
                behind = groups[hub].index(at) + 1 if at in groups[hub] else len(groups[hub])
                groups[hub].insert(behind, near)
                following.append((hub, near))
        edge = following
    lost = [id for id in beside if id not in seen]
    return groups | ({"": lost} if lost else {})


def _box(id: str, name: str, x: float, y: float, width: float, height: float) -> Room:
    return Room(id, name, ((x, y), (x + width, y), (x + width, y + height), (x, y + height)))


# ---- what joined them ----------------------------------------------------------------------------


def links(threat: Threat) -> str:
    """Steps from top to bottom, with arcs to the step that each has evidence in common with or follows."""
    steps = ordered(threat)
    high, left = 24.0, 150.0
    parts = [_open(1000, high * len(steps) + 12, "Links: which step joined by which")]
    for number in range(len(steps)):
        found = joined_to(steps, number)
        if found is not None:
            other, shares = found
            y1, y2 = high * (other + 0.5) + 6, high * (number + 0.5) + 6
            bow = min(18 + 6.0 * abs(number - other), left - 20)
            kind = "shares" if shares else "follows"
            parts.append(
                f'<path class="{kind}" d="M{left - 11} {y1:.1f} C{left - 11 - bow} {y1:.1f} {left - 11 - bow} {y2:.1f}'
                f' {left - 11} {y2:.1f}"/>'
            )
    for number, step in enumerate(steps):
        y = high * (number + 0.5) + 6
        parts.append(_dot(number + 1, left, y, step, ""))
        gain = f"{step.gain:+.1f}" if step.gain else ""
        parts.append(f'<text class="small" x="{left + 16}" y="{y + 4:.1f}">{gain}</text>')
        parts.append(f'<text x="{left + 60}" y="{y + 4:.1f}">{label(step.title, 56)}</text>')
        parts.append(f'<text class="small" x="{left + 450}" y="{y + 4:.1f}">{label(step.place_name, 62)}</text>')
    return "".join([*parts, "</svg>"])


def joined_to(steps: Sequence[Step], number: int) -> tuple[int, bool] | None:
    """(index of the step that a step joined by, whether they share evidence); None for what began it.

    Of those that share an event: the one that the reason for joining names, else the nearest earlier, else the
    nearest later one (a rule that needed it). Else the nearest earlier one at the place that the reason names.
    """
    step = steps[number]
    events = set(step.events)
    near = (*range(number - 1, -1, -1), *range(number + 1, len(steps)))
    sharing = [other for other in near if events & set(steps[other].events)]
    sharing.sort(key=lambda other: f'"{steps[other].title}"' not in step.joined)
    if sharing:
        return sharing[0], True
    for other in range(number - 1, -1, -1):
        if steps[other].place_name and steps[other].place_name in step.joined.partition(": something")[0]:
            return other, False
    return None


# ---- what they may lead to -----------------------------------------------------------------------


def impact(threat: Threat) -> str:
    """The paths to the gravest consequences, from left to right; likelihood and middle time on each."""
    shown = threat.impact[:MOST_IMPACTS]
    columns: list[list[tuple[str, str]]] = []
    told: dict[tuple[str, str], ImpactStep] = {}
    edges: dict[tuple[tuple[str, str], tuple[str, str]], str] = {}
    depth: dict[tuple[str, str], int] = {}
    for one in shown:
        for number, step in enumerate(one.path):
            key = (step.asset, step.threat_type)
            told.setdefault(key, step)
            depth[key] = max(depth.get(key, 0), number)
        for before, after in pairwise(one.path):
            edges[(before.asset, before.threat_type), (after.asset, after.threat_type)] = after.says
    for key in told:
        while len(columns) <= depth[key]:
            columns.append([])
        columns[depth[key]].append(key)
    wide, high = 256.0, 52.0
    rows = max((len(column) for column in columns), default=0)
    spots = {
        key: (10 + wide * x, 10 + high * (y + (rows - len(column)) / 2))
        for x, column in enumerate(columns)
        for y, key in enumerate(column)
    }
    parts = [_open(max(20 + wide * len(columns) - 40, 300), 20 + high * rows, "Impact: what it may lead to")]
    for (one_end, other_end), says in edges.items():
        (ax, ay), (bx, by) = spots[one_end], spots[other_end]
        ax, ay, by = ax + 210, ay + 20, by + 20
        curve = f"M{ax:.1f} {ay:.1f} C{ax + 24:.1f} {ay:.1f} {bx - 24:.1f} {by:.1f} {bx:.1f} {by:.1f}"
        parts.append(f'<path class="edge" d="{curve}"><title>{label(says, 200)}</title></path>')
    ends = {(one.asset, one.threat_type): one for one in shown}
    for key, (x, y) in spots.items():
        parts.append(_consequence(told[key], ends.get(key), x, y))
    return "".join([*parts, "</svg>"])


def _consequence(step: ImpactStep, end: Impact | None, x: float, y: float) -> str:
    kind = "service" if end is not None and end.service else "end" if end is not None else "on-the-way"
    likely = end.likelihood if end is not None else step.likelihood
    return (
        f'<g class="node {kind}"><title>{label(step.says or step.threat_type, 200)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="210" height="40" rx="4"/>'
        f'<text x="{x + 7:.1f}" y="{y + 16:.1f}">{label(step.place_name or step.asset, 28)}</text>'
        f'<text class="small" x="{x + 7:.1f}" y="{y + 32:.1f}">{label(step.threat_type, 24)} {likely:.0%}</text></g>'
    )


# ---- shared --------------------------------------------------------------------------------------


def _open(width: float, height: float, name: str, x: float = 0.0, y: float = 0.0) -> str:
    box = f"{x:.1f} {y:.1f} {width:.1f} {height:.1f}"
    return (
        f'<svg viewBox="{box}" width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{label(name, 80)}">'
        f"<title>{label(name, 80)}</title>"
    )


_LEVELS = ("informational", "low", "medium", "high", "critical")


def _worst(levels: Iterable[str]) -> str:
    return max(levels, key=lambda one: _LEVELS.index(one) if one in _LEVELS else -1)
