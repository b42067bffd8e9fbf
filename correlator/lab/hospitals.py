"""Seeded hospitals with a week of findings: ordinary noise, planted attack chains, scattered twins, controls.

What linking is judged on (docs/linking.md): `hospital(seed)` gives a site in the grammar of site.yaml
and findings as `correlator link` reads them. Noise follows the hospital's rhythm (day and night differ
fourfold), some assets are far noisier than others, some pairs of findings always come together, and
there are drills, noisy detector days, works in a room and shift changes. A chain is an attack that
crosses domains along the graph, three to six steps, a minute to ten hours apart. A twin has the same
findings at the same intervals on assets that have nothing to do with each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from correlator.events.kinds import KINDS

START_MS: Final = 1_772_409_600_000  # 2026-03-02T00:00:00Z, a Monday
TEMPI: Final = ((1, 10), (2, 40), (10, 110), (45, 600))  # minutes between two steps of a chain, from and to
_HOURS: Final = (3, 2, 2, 2, 2, 3, 5, 8, 9, 9, 9, 9, 8, 8, 9, 9, 8, 7, 6, 5, 5, 4, 4, 3)


@dataclass(frozen=True, slots=True)
class Planted:
    """A chain or its twin: finding ids in order, their domains, ms from the first to the last."""

    name: str
    ids: tuple[str, ...]
    domains: tuple[str, ...]
    span_ms: int
    twin: bool


@dataclass(slots=True)
class Hospital:
    """A generated site with its findings, sorted by (t_ms, id). from_ms: what is before only teaches."""

    seed: int
    site: dict[str, Any]
    findings: list[dict[str, Any]]
    planted: list[Planted]
    from_ms: int
    days: int


@dataclass(slots=True)
class _Plan:
    """The building while it is made. Rooms know their door, corridor and things."""

    zones: list[dict[str, Any]] = field(default_factory=list)
    floors: list[dict[str, Any]] = field(default_factory=list)
    assets: list[dict[str, Any]] = field(default_factory=list)
    relations: list[dict[str, Any]] = field(default_factory=list)
    people: list[dict[str, Any]] = field(default_factory=list)
    rooms: list[_Room] = field(default_factory=list)
    by_class: dict[str, list[str]] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    floor_of: dict[str, int] = field(default_factory=dict)

    def add(self, id_: str, cls: str, zone: str, floor: int, listed: bool = True) -> str:
        """A thing in a zone."""
        if listed:
            self.assets.append({"id": id_, "class": cls, **({"zone": zone} if zone else {})})
        self.by_class.setdefault(cls, []).append(id_)
        self.floor_of[id_] = floor
        return id_

    def relate(self, source: str, target: str, type_: str) -> None:
        """A relation."""
        self.relations.append({"from": source, "to": target, "type": type_})


@dataclass(slots=True)
class _Room:
    zone: str
    kind: str
    floor: int
    corridor: str
    door: str
    reader: str = ""
    camera: str = ""
    pcs: list[str] = field(default_factory=list)
    sensors: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    network: str = ""


_ROOM_KINDS: Final = (
    ("ward", 46),
    ("office", 14),
    ("nurses", 9),
    ("store", 8),
    ("lab", 7),
    ("imaging", 5),
    ("theatre", 5),
    ("technical", 6),
)


def hospital(
    seed: int,
    days: int = 7,
    chains: int = 4,
    noise: float | None = None,
    *,
    people: bool = False,
    tempi: tuple[tuple[int, int], ...] = TEMPI,
) -> Hospital:
    """The hospital of a seed: 60 to 300 rooms, about 500 findings a day, `chains` chains and as many twins.

    people: findings name a badge or account beside the asset, as their sources do; all else stays the same.
    tempi: minutes between two steps, from and to; each chain draws one of them and all its delays from that.
    """
    dice = Random(f"hospital/{seed}")
    plan = _build(dice)
    findings: list[dict[str, Any]] = []
    level = noise if noise is not None else dice.uniform(380, 620)
    _noise(plan, dice, findings, days, level)
    _disturbances(plan, dice, findings, days)
    planted: list[Planted] = []
    start_ms = START_MS + DAY_MS
    names = dice.sample(sorted(CHAINS), k=min(len(CHAINS), chains))
    for at, name in enumerate(names):
        _plant(plan, dice, findings, planted, name, f"c{at}", start_ms, days, tempi)
    for one in findings:
        one.setdefault("id", "")
    findings.sort(key=lambda one: (one["t_ms"], one["kind"], one["asset"], one["id"]))
    for at, one in enumerate(findings):
        if not one["id"]:
            one["id"] = f"n{at:06d}"
    if people:
        _name_people(plan, Random(f"hospital/{seed}/people"), findings, planted)
    return Hospital(seed, _site(plan, seed), findings, planted, start_ms, days)


# ---- the building --------------------------------------------------------------------------------------


def _build(dice: Random) -> _Plan:
    plan = _Plan()
    rooms = dice.randint(60, 300)
    per_floor = dice.randint(18, 40)
    floors = max(1, round(rooms / per_floor))
    stairs: list[str] = []
    for floor in range(floors):
        zones: list[dict[str, Any]] = []
        doors: list[dict[str, Any]] = []
        net = plan.add(f"net-{floor}", "network", "", floor)
        if floor:
            plan.relate(net, "net-0", dice.choice(("connects", "site_link")))
        stair = f"z-stairs-{floor}"
        zones.append({"id": stair, "name": f"Stairs {floor}"})
        plan.add(stair, "zone", "", floor, listed=False)
        stairs.append(stair)
        controller = plan.add(f"door-controller-{floor}", "controller", stair, floor)
        plan.relate(controller, net, "connects")
        here = rooms // floors
        corridors = max(1, round(here / dice.randint(8, 14)))
        before = stair
        for number in range(corridors):
            corridor = f"z-corridor-{floor}-{number}"
            zones.append({"id": corridor, "name": f"Corridor {floor}.{number}"})
            plan.add(corridor, "zone", "", floor, listed=False)
            between = f"d-corridor-{floor}-{number}"
            doors.append({"id": between, "between": [before, corridor]})
            plan.add(between, "door", "", floor, listed=False)
            before = corridor
            camera = plan.add(f"cam-{floor}-{number}", "camera", corridor, floor)
            plan.relate(camera, corridor, "covers")
            plan.relate(camera, net, "connects")
            for at in range(number * here // corridors, (number + 1) * here // corridors):
                _room(plan, dice, floor, at, corridor, camera, net, controller, zones, doors)
        plan.floors.append({"id": f"floor-{floor}", "name": f"Floor {floor}", "zones": zones, "doors": doors})
        if floor:
            lower = f"d-stairs-{floor}"
            doors.append({"id": lower, "between": [stairs[floor - 1], stair]})
            plan.add(lower, "door", "", floor, listed=False)
    _servers(plan, dice)
    return plan


def _room(
    plan: _Plan,
    dice: Random,
    floor: int,
    number: int,
    corridor: str,
    camera: str,
    net: str,
    controller: str,
    zones: list[dict[str, Any]],
    doors: list[dict[str, Any]],
) -> None:
    kinds = [kind for kind, _ in _ROOM_KINDS]
    kind = dice.choices(kinds, [weight for _, weight in _ROOM_KINDS])[0]
    name = f"{floor}-{number}"
    zone, door = f"z-{kind}-{name}", f"d-{name}"
    restricted = kind in ("store", "lab", "technical", "theatre")
    zones.append({"id": zone, "name": f"{kind} {name}", "restricted": restricted})
    doors.append({"id": door, "between": [corridor, zone]})
    plan.add(zone, "zone", "", floor, listed=False)
    plan.add(door, "door", "", floor, listed=False)
    room = _Room(zone, kind, floor, corridor, door, camera=camera, network=net)
    if restricted or dice.random() < 0.2:
        room.reader = plan.add(f"reader-{name}", "reader", "", floor)
        plan.relate(room.reader, door, "part_of")
        plan.relate(controller, door, "controls")
        if dice.random() < 0.5:
            plan.relate(camera, door, "covers")
    if kind != "ward" or dice.random() < 0.15:
        for at in range(dice.choice((1, 1, 2)) if kind != "technical" else dice.choice((0, 1))):
            pc = plan.add(f"pc-{name}-{at}", "host", zone, floor)
            plan.relate(pc, net, "connects")
            room.pcs.append(pc)
    if restricted or dice.random() < 0.3:
        room.sensors.append(plan.add(f"motion-{name}", "sensor", zone, floor))
    if kind in ("store", "lab", "theatre", "technical"):
        room.sensors.append(plan.add(f"temp-{name}", "sensor", zone, floor))
    if kind in ("ward", "imaging", "theatre", "lab"):
        for at in range(dice.choice((0, 1, 1, 2))):
            device = plan.add(f"med-{name}-{at}", "medical_device", zone, floor)
            plan.relate(device, net, "connects")
            room.devices.append(device)
    if kind == "technical":
        machine = plan.add(f"hvac-{name}", "controller", zone, floor)
        plan.relate(machine, net, "connects")
        room.devices.append(machine)
    for at in range(dice.choice((0, 1, 1, 2)) if kind != "technical" else 1):
        person = f"p-{name}-{at}"
        plan.people.append(
            {
                "id": person,
                "badges": [{"id": f"b-{name}-{at}"}],
                "accounts": [{"id": f"u-{name}-{at}"}],
                "works_in": [zone],
            }
        )
        plan.add(f"badge:b-{name}-{at}", "badge", "", floor, listed=False)
        plan.add(f"account:u-{name}-{at}", "account", "", floor, listed=False)
        room.people.append(f"{name}-{at}")
    plan.rooms.append(room)


def _servers(plan: _Plan, dice: Random) -> None:
    """Servers with what they host, in technical rooms; controllers of air and power over the rooms they serve."""
    technical = [room for room in plan.rooms if room.kind == "technical"]
    if not technical:
        plan.rooms[0].kind = "technical"
        technical = [plan.rooms[0]]
    home = dice.choice(technical)
    if not home.devices:
        machine = plan.add("hvac-main", "controller", home.zone, home.floor)
        plan.relate(machine, home.network, "connects")
        home.devices.append(machine)
    for name in ("ehr", "stock", "pacs", "video", "access"):
        server = plan.add(f"srv-{name}", "host", home.zone, home.floor)
        plan.relate(server, "net-0", "connects")
        app = plan.add(f"app-{name}", "software", "", home.floor)
        data = plan.add(f"data-{name}", "data_store", "", home.floor)
        plan.relate(server, app, "hosts")
        plan.relate(app, data, "depends_on")
        plan.servers[name] = server
    users = {"store": "stock", "imaging": "pacs", "office": "ehr", "nurses": "ehr", "lab": "ehr", "theatre": "ehr"}
    for room in plan.rooms:
        for pc in room.pcs:
            if room.kind in users:
                plan.relate(pc, f"app-{users[room.kind]}", "connects")
            plan.by_class.setdefault("pc", []).append(pc)
        for device in room.devices:
            if room.pcs and not device.startswith("hvac"):
                plan.relate(room.pcs[0], device, "controls")
    for camera in plan.by_class["camera"]:
        plan.relate(camera, "srv-video", "monitored_by")
    for controller in plan.by_class["controller"]:
        if controller.startswith("door-"):
            plan.relate(controller, "srv-access", "depends_on")
    machines = [device for room in technical for device in room.devices]
    served = [room for room in plan.rooms if room.kind in ("theatre", "lab", "store")]
    for room in served:
        near = min((abs(plan.floor_of[one] - room.floor), one) for one in machines)[1]
        plan.relate(near, room.zone, "controls")
    power = plan.add("power-main", "supply", home.zone, home.floor)
    for name in sorted(plan.servers):
        plan.relate(plan.servers[name], power, "depends_on")
    plan.relate(home.devices[0], power, "controls")


def _site(plan: _Plan, seed: int) -> dict[str, Any]:
    return {
        "site": {"id": f"hospital-{seed}", "name": f"Hospital {seed}", "timezone": "Europe/Rome"},
        "floors": plan.floors,
        "assets": plan.assets,
        "people": plan.people,
        "relations": plan.relations,
    }


# ---- noise ---------------------------------------------------------------------------------------------

# kind, class of asset, share of the day's findings, levels, rhythm (1 as the hospital, 0 all day the same,
# -1 mostly at night)
_NOISE: Final[tuple[tuple[str, str, float, str, int], ...]] = (
    ("door.held", "door", 9, "low", 1),
    ("badge.denied", "reader", 10, "low", 1),
    ("badge.unknown", "reader", 3, "low", 1),
    ("door.forced", "door", 0.8, "medium", 1),
    ("door.unlocked", "door", 2, "informational", 1),
    ("presence.detected", "sensor", 7, "informational", -1),
    ("sensor.offline", "sensor", 5, "low", 0),
    ("sensor.tamper", "sensor", 0.3, "medium", 1),
    ("temperature.high", "sensor", 4, "medium", 1),
    ("camera.offline", "camera", 3, "low", 0),
    ("camera.disabled", "camera", 0.3, "medium", 1),
    ("loitering.detected", "camera", 4, "low", 1),
    ("crowd.detected", "camera", 3, "low", 1),
    ("host.logon_failed", "pc", 14, "low", 1),
    ("host.logon_failed", "controller", 1, "low", 1),
    ("account.locked_out", "account", 4, "low", 1),
    ("account.changed", "account", 2, "low", 1),
    ("usb.attached", "pc", 3, "low", 1),
    ("host.alert", "host", 5, "low", 0),
    ("host.alert", "medical_device", 1.5, "low", 0),
    ("file.verdict", "host", 0.6, "medium", 1),
    ("protection.disabled", "host", 0.4, "medium", 1),
    ("process.injected", "host", 0.5, "medium", 1),
    ("ids.alert", "host", 6, "low", 0),
    ("ids.alert", "controller", 0.6, "low", 0),
    ("ids.notice", "network", 5, "informational", 0),
    ("host.discovered", "network", 2, "low", 1),
    ("host.offline", "host", 3, "low", 1),
    ("host.offline", "medical_device", 3, "low", 1),
    ("device.joined", "medical_device", 1, "low", 1),
    ("integrity.changed", "medical_device", 0.4, "medium", 1),
    ("setpoint.changed", "controller", 1.5, "low", 1),
    ("controller.written", "controller", 1, "low", 1),
    ("policy.changed", "host", 1, "low", 1),
    ("service.installed", "host", 1, "medium", 1),
    ("task.created", "host", 2, "low", 0),
    ("record.exported", "data_store", 1, "medium", 1),
    ("record.changed", "software", 2, "informational", 1),
    ("stock.changed", "software", 2, "informational", 1),
    ("mail.suspicious", "account", 5, "low", 1),
    ("power.lost", "supply", 0.1, "medium", 0),
)
# What always comes along with a finding on the same asset: (kind, chance).
_ALONG: Final = {
    "door.held": ("door.unlocked", 0.3),
    "host.logon_failed": ("policy.changed", 0.02),
    "ids.alert": ("host.alert", 0.5),
    "service.installed": ("task.created", 0.5),
    "device.joined": ("host.offline", 0.4),
}


def _moment(dice: Random, days: int, rhythm: int) -> int:
    day = dice.randrange(days)
    if rhythm == 0:
        return START_MS + day * DAY_MS + dice.randrange(DAY_MS)
    weights = _HOURS if rhythm > 0 else tuple(11 - one for one in _HOURS)
    hour = dice.choices(range(24), weights)[0]
    return START_MS + day * DAY_MS + hour * HOUR_MS + dice.randrange(HOUR_MS)


def _finding(kind: str, asset: str, t_ms: int, level: str = "", id_: str = "") -> dict[str, Any]:
    known = KINDS[kind]
    made = {"kind": kind, "asset": asset, "t_ms": t_ms, "domain": known.domain, "level": level or known.level}
    if made["level"] == "critical":
        made["level"] = "high"
    if id_:
        made["id"] = id_
    return made


def _noise(plan: _Plan, dice: Random, out: list[dict[str, Any]], days: int, a_day: float) -> None:
    total = sum(row[2] for row in _NOISE if plan.by_class.get(row[1]))
    for kind, cls, share, level, rhythm in _NOISE:
        assets = plan.by_class.get(cls)
        if not assets:
            continue
        weights = [dice.gammavariate(0.5, 1.0) + 0.02 for _ in assets]
        for _ in range(_poisson(dice, a_day * days * share / total)):
            asset = dice.choices(assets, weights)[0]
            t_ms = _moment(dice, days, rhythm)
            out.append(_finding(kind, asset, t_ms, level))
            also, chance = _ALONG.get(kind, ("", 0.0))
            if also and dice.random() < chance:
                out.append(_finding(also, asset, t_ms + dice.randrange(90 * SECOND_MS), level))
            if dice.random() < 0.1:  # it repeats within the episode
                out.append(_finding(kind, asset, t_ms + dice.randrange(8 * MINUTE_MS), level))
    for _ in range(3):  # a thing that flaps for hours
        kind, cls, level = dice.choice(
            (("sensor.offline", "sensor", "low"), ("camera.offline", "camera", "low"), ("host.offline", "host", "low"))
        )
        asset, at = dice.choice(plan.by_class[cls]), _moment(dice, days, 0)
        for _ in range(dice.randint(10, 40)):
            out.append(_finding(kind, asset, at, level))
            at += int(dice.expovariate(1 / (25 * MINUTE_MS)))


def _poisson(dice: Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    limit, product, n = math.exp(-mean), dice.random(), 0
    while product > limit:
        product *= dice.random()
        n += 1
    return n


def _disturbances(plan: _Plan, dice: Random, out: list[dict[str, Any]], days: int) -> None:
    """A drill, a noisy detector day, works in rooms, shift changes: what must stay silent."""
    floor = dice.randrange(len(plan.floors))
    rooms = [room for room in plan.rooms if room.floor == floor]
    at = START_MS + dice.randrange(1, days) * DAY_MS + 10 * HOUR_MS + dice.randrange(4 * HOUR_MS)
    for room in dice.sample(rooms, k=min(len(rooms), 18)):
        out.append(_finding("door.held", room.door, at + dice.randrange(20 * MINUTE_MS), "low"))
        if dice.random() < 0.3:
            out.append(_finding("crowd.detected", room.camera, at + dice.randrange(25 * MINUTE_MS), "low"))
        if room.reader and dice.random() < 0.4:
            out.append(_finding("badge.denied", room.reader, at + dice.randrange(30 * MINUTE_MS), "low"))
    kind, cls, level = dice.choice(
        (
            ("ids.alert", "host", "medium"),
            ("host.alert", "medical_device", "low"),
            ("camera.offline", "camera", "low"),
            ("integrity.changed", "medical_device", "medium"),
            ("loitering.detected", "camera", "low"),
            ("sensor.tamper", "sensor", "medium"),
        )
    )
    assets = plan.by_class.get(cls, [])
    at = START_MS + dice.randrange(1, days) * DAY_MS + dice.randrange(DAY_MS)
    for _ in range(dice.randint(30, 90) if assets else 0):
        out.append(_finding(kind, dice.choice(assets), at + dice.randrange(12 * HOUR_MS), level))
    for _ in range(days // 2):
        room = dice.choice([one for one in plan.rooms if one.pcs or one.devices])
        at = START_MS + dice.randrange(days) * DAY_MS + 8 * HOUR_MS + dice.randrange(8 * HOUR_MS)
        thing = (room.pcs + room.devices)[0]
        out.append(_finding("door.held", room.door, at, "low"))
        out.append(_finding("host.offline", thing, at + dice.randrange(5, 60) * MINUTE_MS, "low"))
        if room.sensors:
            out.append(_finding("sensor.offline", room.sensors[0], at + dice.randrange(5, 60) * MINUTE_MS, "low"))
    for day in range(days):
        for hour in (6, 14, 22):
            at = START_MS + day * DAY_MS + hour * HOUR_MS
            for reader in dice.sample(plan.by_class["reader"], k=min(3, len(plan.by_class["reader"]))):
                out.append(_finding("badge.denied", reader, at + dice.randrange(20 * MINUTE_MS), "low"))


# ---- chains --------------------------------------------------------------------------------------------

Steps = list[tuple[str, str, str]]  # kind, asset, class to scatter over


def _some(plan: _Plan, dice: Random, wanted: Callable[[_Room], bool]) -> _Room | None:
    rooms = [room for room in plan.rooms if wanted(room)]
    return dice.choice(rooms) if rooms else None


def _drug_theft(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: one.kind == "store" and bool(one.pcs))
    return (
        []
        if room is None
        else [
            ("camera.offline", room.camera, "camera"),
            ("door.forced", room.door, "door"),
            ("usb.attached", room.pcs[0], "pc"),
            ("stock.changed", "app-stock", "software"),
        ]
    )


def _record_theft(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: one.kind in ("office", "nurses") and bool(one.pcs))
    return (
        []
        if room is None
        else [
            ("door.held", room.door, "door"),
            ("host.logon_failed", room.pcs[0], "pc"),
            ("usb.attached", room.pcs[0], "pc"),
            ("record.exported", "data-ehr", "data_store"),
        ]
    )


def _ransomware(plan: _Plan, dice: Random) -> Steps:
    name = dice.choice(("ehr", "pacs", "stock"))
    home = next(
        room
        for room in plan.rooms
        if plan.floor_of[plan.servers[name]] == room.floor
        and room.kind == "technical"
        and any(one["id"] == plan.servers[name] and one["zone"] == room.zone for one in plan.assets)
    )
    steps = [("badge.denied", home.reader, "reader")] if home.reader else []
    return [
        *steps,
        ("door.forced", home.door, "door"),
        ("process.injected", plan.servers[name], "host"),
        ("protection.disabled", plan.servers[name], "host"),
        ("file.verdict", f"app-{name}", "software"),
    ]


def _air(plan: _Plan, dice: Random) -> Steps:
    pairs = [
        (one["from"], one["to"]) for one in plan.relations if one["type"] == "controls" and one["to"].startswith("z-")
    ]
    if not pairs:
        return []
    machine, zone = dice.choice(pairs)
    room = next(one for one in plan.rooms if one.zone == zone)
    return [
        ("ids.alert", machine, "controller"),
        ("setpoint.changed", machine, "controller"),
        ("temperature.high", room.sensors[-1], "sensor"),
        ("door.held", room.door, "door"),
    ]


def _medical(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: bool(one.devices) and one.kind in ("ward", "imaging", "theatre"))
    if room is None:
        return []
    steps = [("loitering.detected", room.camera, "camera"), ("door.held", room.door, "door")]
    if room.sensors:
        steps.append(("presence.detected", room.sensors[0], "sensor"))
    return [
        *steps,
        ("integrity.changed", room.devices[0], "medical_device"),
        ("host.alert", room.devices[0], "medical_device"),
    ]


def _rogue_device(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: bool(one.pcs) and one.kind in ("office", "lab"))
    return (
        []
        if room is None
        else [
            ("badge.unknown", room.reader, "reader") if room.reader else ("door.held", room.door, "door"),
            ("door.forced", room.door, "door"),
            ("service.installed", room.pcs[0], "host"),
            ("host.discovered", room.network, "network"),
            ("ids.alert", room.pcs[-1], "host"),
        ]
    )


def _insider(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: bool(one.people) and bool(one.pcs) and bool(one.reader))
    return (
        []
        if room is None
        else [
            ("account.changed", f"account:u-{room.people[0]}", "account"),
            ("badge.denied", room.reader, "reader"),
            ("door.unlocked", room.door, "door"),
            ("policy.changed", room.pcs[0], "host"),
            (
                "record.exported" if room.kind != "store" else "stock.changed",
                "data-ehr" if room.kind != "store" else "app-stock",
                "data_store" if room.kind != "store" else "software",
            ),
        ]
    )


def _access_control(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: bool(one.reader) and bool(one.sensors))
    return (
        []
        if room is None
        else [
            ("ids.alert", "srv-access", "host"),
            ("controller.written", f"door-controller-{room.floor}", "controller"),
            ("door.unlocked", room.door, "door"),
            ("presence.detected", room.sensors[0], "sensor"),
            ("sensor.tamper", room.sensors[-1], "sensor"),
        ]
    )


def _blinded(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: bool(one.sensors))
    return (
        []
        if room is None
        else [
            ("host.logon_failed", "srv-video", "host"),
            ("camera.disabled", room.camera, "camera"),
            ("door.forced", room.door, "door"),
            ("sensor.tamper", room.sensors[0], "sensor"),
        ]
    )


def _power(plan: _Plan, dice: Random) -> Steps:
    room = _some(
        plan,
        dice,
        lambda one: (
            one.kind == "technical"
            and "srv-ehr" in [asset["id"] for asset in plan.assets if asset.get("zone") == one.zone]
        ),
    )
    return (
        []
        if room is None
        else [
            ("camera.offline", room.camera, "camera"),
            ("door.forced", room.door, "door"),
            ("controller.written", room.devices[0], "controller"),
            ("power.lost", "power-main", "supply"),
            ("host.offline", dice.choice(sorted(plan.servers.values())), "host"),
        ]
    )


def _phishing(plan: _Plan, dice: Random) -> Steps:
    room = _some(plan, dice, lambda one: bool(one.people) and bool(one.pcs) and bool(one.devices))
    return (
        []
        if room is None
        else [
            ("mail.suspicious", f"account:u-{room.people[0]}", "account"),
            ("process.injected", room.pcs[0], "host"),
            ("task.created", room.pcs[0], "host"),
            ("integrity.changed", room.devices[0], "medical_device"),
            ("sensor.offline", room.sensors[0], "sensor") if room.sensors else ("door.unlocked", room.door, "door"),
        ]
    )


CHAINS: Final[dict[str, Callable[[_Plan, Random], Steps]]] = {
    "drug theft": _drug_theft,
    "record theft": _record_theft,
    "ransomware with local help": _ransomware,
    "air of a theatre": _air,
    "medical device": _medical,
    "rogue device": _rogue_device,
    "insider": _insider,
    "access control": _access_control,
    "blinded cameras": _blinded,
    "power": _power,
    "phishing to device": _phishing,
}


def _plant(
    plan: _Plan,
    dice: Random,
    out: list[dict[str, Any]],
    planted: list[Planted],
    name: str,
    id_: str,
    start_ms: int,
    days: int,
    tempi: tuple[tuple[int, int], ...],
) -> None:
    steps = CHAINS[name](plan, dice)
    if len(steps) < 3:
        return
    low, high = dice.choice(tempi)
    waits = [int(math.exp(dice.uniform(math.log(low), math.log(high))) * MINUTE_MS) for _ in steps[1:]]
    for twin in (False, True):
        span = sum(waits)
        at = start_ms + dice.randrange(max(HOUR_MS, (days - 1) * DAY_MS - span - HOUR_MS))
        ids: list[str] = []
        domains: list[str] = []
        used: set[str] = set()
        for number, (kind, asset, cls) in enumerate(steps):
            if number:
                at += waits[number - 1]
            if twin:
                asset = _elsewhere(plan, dice, cls, used)
            finding = _finding(
                kind, asset, at, "" if KINDS[kind].level != "high" else "medium", f"{id_}{'t' if twin else ''}-{number}"
            )
            out.append(finding)
            ids.append(finding["id"])
            domains.append(finding["domain"])
        planted.append(Planted(name, tuple(ids), tuple(domains), sum(waits), twin))


def _elsewhere(plan: _Plan, dice: Random, cls: str, used: set[str]) -> str:
    """An asset of the class in a room that no earlier step of the twin was in."""
    for _ in range(50):
        asset = dice.choice(plan.by_class[cls])
        room = asset.split("-", 1)[-1].rsplit("-", 1)[0]
        if room not in used:
            break
    used.add(room)
    return asset


# ---- people --------------------------------------------------------------------------------------------

# Kinds whose sources name who did it: what they name.
_NAMES: Final = {
    "badge.denied": "badge:b",
    "door.unlocked": "badge:b",
    **dict.fromkeys(
        (
            "host.logon_failed",
            "usb.attached",
            "service.installed",
            "task.created",
            "process.injected",
            "protection.disabled",
            "policy.changed",
            "record.exported",
            "record.changed",
            "stock.changed",
            "controller.written",
            "setpoint.changed",
            "camera.disabled",
        ),
        "account:u",
    ),
}
_NAMED: Final = 0.8  # part of the findings in which the source says it
_AT_HOME: Final = 0.7  # part of the ordinary ones that is of somebody who works there


def _name_people(plan: _Plan, dice: Random, findings: list[dict[str, Any]], planted: list[Planted]) -> None:
    """Gives findings the badge or account that their source names: of a chain always the same person's."""
    everybody = [person for room in plan.rooms for person in room.people]
    at_home = {room.zone.split("-", 2)[2]: room.people for room in plan.rooms}
    chain_of = {id_: at for at, one in enumerate(planted) if not one.twin for id_ in one.ids}
    attacker: dict[int, str] = {}
    for one in findings:  # whose account was taken over, or who the insider is
        at = chain_of.get(one["id"])
        if at is not None and one["asset"].startswith("account:"):
            attacker[at] = one["asset"].removeprefix("account:u-")
    for one in findings:
        names = _NAMES.get(one["kind"])
        if names is None or dice.random() > _NAMED:
            continue
        own = at_home.get("-".join(one["asset"].split("-")[1:3]), [])
        ordinary = dice.choice(own if own and dice.random() < _AT_HOME else everybody)
        at = chain_of.get(one["id"])
        person = ordinary if at is None else attacker.setdefault(at, ordinary)
        one["anchors"] = [f"{names}-{person}"]
