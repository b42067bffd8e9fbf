"""A small hospital for linking tests, and days of ordinary findings in it."""

from __future__ import annotations

from random import Random
from typing import Any

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from correlator.events.kinds import KINDS
from correlator.linking.engine import Item, LinkEngine
from correlator.linking.ground import SiteGround
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import shipped_tables
from correlator.premises import Premises, site_of

START_MS = 1_772_409_600_000  # 2026-03-02T00:00:00Z
ROOMS = 24


def ward_site(cut: str = "") -> dict[str, Any]:
    """Two buildings of `ROOMS` rooms each along corridors, each room with a door, a PC and a sensor; a pharmacy store
    in the first. Nothing joins the buildings. cut: a relation "from>to" to leave out."""
    floors, assets, relations = [], [], []
    for building in ("a", "b"):
        corridor, camera, net = f"{building}-corridor", f"{building}-camera", f"{building}-net"
        zones = [{"id": corridor, "name": f"Corridor {building}"}]
        doors = []
        assets += [{"id": camera, "class": "camera", "zone": corridor}, {"id": net, "class": "network"}]
        relations.append({"from": camera, "to": corridor, "type": "covers"})
        for number in range(ROOMS):
            room = f"{building}-room-{number}"
            zones.append({"id": room, "name": f"Room {building} {number}"})
            doors.append({"id": f"{building}-door-{number}", "between": [corridor, room]})
            assets += [
                {"id": f"{building}-pc-{number}", "class": "host", "zone": room},
                {"id": f"{building}-sensor-{number}", "class": "sensor", "zone": room},
            ]
            if number % 4 == 1:
                relations.append({"from": f"{building}-pc-{number}", "to": net, "type": "connects"})
        assets += [{"id": f"{building}-stock", "class": "software"}]
        relations += [
            {"from": f"{building}-pc-0", "to": f"{building}-stock", "type": "connects"},
            {"from": camera, "to": f"{building}-door-0", "type": "covers"},
        ]
        floors.append({"id": f"{building}-floor", "name": f"Floor {building}", "zones": zones, "doors": doors})
    relations = [one for one in relations if f"{one['from']}>{one['to']}" != cut]
    people = [{"id": "p-1", "badges": [{"id": "b-1"}], "accounts": [{"id": "u-1"}], "works_in": ["a-room-0"]}]
    return {
        "site": {"id": "ward", "name": "Ward", "timezone": "Europe/Rome"},
        "floors": floors,
        "assets": assets,
        "people": people,
        "relations": relations,
    }


def premises(cut: str = "") -> Premises:
    """The ward's site model."""
    return site_of(ward_site(cut), "ward")


def engine(places: Premises | None = None, from_ms: int | None = None, **changes: Any) -> LinkEngine:
    """A fresh engine over the ward."""
    settings = LinkingSettings(**changes)
    places = places if places is not None else premises()
    return LinkEngine("ward", SiteGround(places, settings), shipped_tables(), settings, from_ms)


def item(kind: str, asset: str, t_ms: int, level: str = "", name: str = "") -> Item:
    """A finding; its id tells what it is."""
    known = KINDS[kind]
    return Item(name or f"{kind}@{asset}@{t_ms}", kind, asset, t_ms, known.domain, level or known.level)


_ORDINARY = (
    ("door.held", "door", 3, "low"), ("badge.denied", "door", 4, "low"), ("host.logon_failed", "pc", 8, "low"),
    ("host.alert", "pc", 3, "low"), ("usb.attached", "pc", 1.5, "low"), ("sensor.offline", "sensor", 3, "low"),
    ("temperature.high", "sensor", 2, "medium"), ("service.installed", "pc", 0.5, "medium"),
)  # fmt: skip


def ordinary(seed: int, days: int, buildings: str = "ab", start_ms: int = START_MS) -> list[Item]:
    """Days of unrelated findings, about 50 a day, in order."""
    dice = Random(seed)
    made = []
    for day in range(days):
        for kind, thing, mean, level in _ORDINARY:
            for building in buildings:
                for _ in range(int(mean) + (dice.random() < mean % 1)):
                    t_ms = start_ms + day * DAY_MS + dice.randrange(DAY_MS)
                    made.append(item(kind, f"{building}-{thing}-{dice.randrange(ROOMS)}", t_ms, level))
    made.sort(key=lambda one: (one.t_ms, one.id))
    return made


def theft(t_ms: int, building: str = "a", rooms: tuple[int, int, int] = (0, 0, 0)) -> list[Item]:
    """Camera dark, door forced, USB on the dispensing PC, stock record altered: within twelve minutes."""
    return [
        item("camera.offline", f"{building}-camera", t_ms),
        item("door.forced", f"{building}-door-{rooms[0]}", t_ms + 3 * MINUTE_MS),
        item("usb.attached", f"{building}-pc-{rooms[1]}", t_ms + 7 * MINUTE_MS),
        item("stock.changed", f"{building}-stock", t_ms + 12 * MINUTE_MS),
    ]


def fold(into: LinkEngine, items: list[Item]) -> LinkEngine:
    """Places items in total order."""
    for one in sorted(items, key=lambda one: (one.t_ms, one.id)):
        into.place(one)
    return into


def told(of: LinkEngine) -> list[tuple[str, float, tuple[str, ...]]]:
    """(id, score, members) of every threat that is reported."""
    return [
        (threat.id, round(threat.score, 6), tuple(sorted(threat.members)))
        for threat in of.all_threats()
        if threat.score >= of.settings.watch
    ]


def evening(day: int) -> int:
    """21:00 of the n-th day."""
    return START_MS + day * DAY_MS + 21 * HOUR_MS
