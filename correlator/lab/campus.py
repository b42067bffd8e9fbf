"""Hospital campuses of any size from a seed: to measure with, up to a million assets.

A campus is buildings; a building has a core network, a server room, power and cooling, and floors; a
floor is a ward: a corridor, rooms with doors and readers, beds with devices, workstations, its own
network, power strip and air handler, the people who work there and the services it gives. Proportions
are those of a general hospital as its plans show them: one network a ward, two workstations for each
service, two generators a building. The same size and seed give the same campus.

`Campus.graph()` is the flat graph the impact model works on; `Campus.site_yaml()` the site file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from random import Random

from correlator.impact.graph import CLASS_NUMBER, RELATION_NUMBER, FlatGraph, Group
from correlator.premises.model import Protection
from correlator.premises.vocabulary import ASSET_CLASSES, OUTSIDE, RELATION_TYPES

_CLASS_NAMES = tuple(ASSET_CLASSES)
_RELATION_NAMES = tuple(RELATION_TYPES)
FLOORS = 6  # wards of one building
ROOMS = 12  # rooms on one corridor


class Campus:
    """Assets by number, relations as three columns, and what the site file needs beside.

    written    relations a site file lists; implied: those that follow from its structure
    doors      (door, zone, zone or -1 for outside, floor)
    people     (person, badge, account, zone)
    services   service -> needs; criticality: asset -> 1..5
    """

    def __init__(self, assets: int, seed: int = 1) -> None:
        """assets: at least so many, rounded up to whole wards."""
        self.seed = seed
        self.ids: list[str] = []
        self.classes = bytearray()
        self.zone_of = array("i")  # asset -> zone it stands in, -1
        self.written = _Columns()
        self.implied = _Columns()
        self.doors: list[tuple[int, int, int, int]] = []
        self.floor_names: list[str] = []
        self.zone_floor: dict[int, int] = {}
        self.people: list[tuple[int, int, int, int]] = []
        self.services: dict[int, Group] = {}
        self.criticality: dict[int, int] = {}
        self.protections: list[Protection] = []
        self._random = Random(seed)
        building = 0
        while len(self.ids) < assets:
            building += 1
            self._building(building, assets)

    # ---- making --------------------------------------------------------------------------------

    def _new(self, name: str, asset_class: str, zone: int = -1, criticality: int = 0) -> int:
        number = len(self.ids)
        self.ids.append(name)
        self.classes.append(CLASS_NUMBER[asset_class])
        self.zone_of.append(zone)
        if zone >= 0:
            self.implied.add(number, zone, "in_zone")
        if criticality:
            self.criticality[number] = criticality
        return number

    def _zone(self, name: str, floor: int) -> int:
        zone = self._new(name, "zone")
        self.zone_floor[zone] = floor
        return zone

    def _door(self, name: str, outer: int, inner: int, floor: int) -> int:
        door = self._new(name, "door")
        self.doors.append((door, outer, inner, floor))
        for zone in (outer, inner):
            if zone >= 0:
                self.implied.add(zone, door, "leads_to")
                self.implied.add(door, zone, "leads_to")
        return door

    def _building(self, number: int, limit: int) -> None:
        b = f"b{number}"
        link = self.written.add
        floor = len(self.floor_names)
        self.floor_names.append(f"{b}-f0")
        lobby = self._zone(f"{b}-lobby", floor)
        self._door(f"{b}-d-main", -1, lobby, floor)
        technical = self._zone(f"{b}-technical", floor)
        servers = self._zone(f"{b}-servers", floor)
        core = self._new(f"{b}-core", "network")
        mains = self._new(f"{b}-mains", "supply", technical)
        generators = [self._new(f"{b}-generator-{one}", "building_device", technical, 3) for one in (1, 2)]
        chiller = self._new(f"{b}-chiller", "building_device", technical, 3)
        link(chiller, mains, "depends_on")
        link(chiller, servers, "controls")
        access = self._new(f"{b}-access", "controller", servers, 4)
        hosts: list[int] = []
        programs: list[int] = []
        stores: list[int] = []
        for name in ("ehr", "lab", "pacs", "pharmacy", "mail"):
            host = self._new(f"{b}-srv-{name}", "host", servers, 3)
            program = self._new(f"{b}-app-{name}", "software", criticality=3)
            store = self._new(f"{b}-data-{name}", "data_store", criticality=4)
            for one, other, relation in (
                (host, program, "hosts"), (host, store, "holds"), (program, store, "depends_on"),
                (host, core, "connects"), (host, mains, "depends_on"),
            ):  # fmt: skip
                link(one, other, relation)
            hosts.append(host)
            programs.append(program)
            stores.append(store)
        link(access, hosts[0], "depends_on")
        for name, zone in (("technical", technical), ("servers", servers)):
            door = self._door(f"{b}-d-{name}", lobby, zone, floor)
            link(access, door, "controls")
            self._protect(f"{b}-watch-{name}", door, "forced-entry", access, 0.6)
        link(self._new(f"{b}-cam-lobby", "camera", lobby), lobby, "covers")
        power = self._new(f"{b}-s-power", "service", criticality=3)
        self._needs(power, Group(1, (mains, *generators)))
        stairs = lobby
        for ward in range(1, FLOORS + 1):
            if len(self.ids) >= limit and ward > 1:
                return
            stairs = self._ward(f"{b}-w{ward}", stairs, core, mains, access, programs)

    def _ward(self, w: str, below: int, core: int, mains: int, access: int, programs: list[int]) -> int:
        dice, link = self._random, self.written.add
        floor = len(self.floor_names)
        self.floor_names.append(w)
        stairs = self._zone(f"{w}-stairs", floor)
        self._door(f"{w}-d-stairs", below, stairs, floor)
        corridor = self._zone(f"{w}-corridor", floor)
        door = self._door(f"{w}-d-ward", stairs, corridor, floor)
        link(access, door, "controls")
        lan = self._new(f"{w}-lan", "network")
        link(lan, core, "site_link")
        ups = self._new(f"{w}-ups", "building_device", corridor, 2)
        link(ups, mains, "depends_on")
        air = self._new(f"{w}-air", "building_device", corridor, 2)
        link(air, ups, "depends_on")
        camera = self._new(f"{w}-cam", "camera", corridor)
        for asset, relation in ((corridor, "covers"), (door, "covers"), (lan, "connects"), (ups, "depends_on")):
            link(camera, asset, relation)
        rooms: list[int] = []
        stations: list[int] = []
        devices: list[int] = []
        for number in range(1, ROOMS + 1):
            room = self._room(f"{w}-r{number}", corridor, floor, camera, air)
            rooms.append(room)
            stations += self._things(f"{w}-r{number}", room, lan, ups, programs, devices)
        people = [self._person(f"{w}-p{number}", dice.choice(rooms), stations, programs) for number in range(1, 27)]
        for number in range(1, 5):
            mine = dice.sample(rooms, 2)
            desks = tuple(dice.sample(stations, 2))
            service = self._new(f"{w}-s{number}", "service", criticality=dice.randint(1, 5))
            kit: tuple[int, ...] = tuple(dice.sample(devices, 3))
            parts: tuple[int | Group, ...] = (*mine, Group(1, desks), dice.choice(programs), Group(2, kit))
            self._needs(service, Group(len(parts), parts))
            if dice.random() < 0.3:
                link(service, dice.choice(people), "depends_on")
        self._protect(f"{w}-watch", door, "forced-entry", camera, 0.5)
        self._protect(f"{w}-firewall", lan, "reconnaissance", -1, 0.4)
        return stairs

    def _room(self, name: str, corridor: int, floor: int, camera: int, air: int) -> int:
        dice, link = self._random, self.written.add
        room = self._zone(name, floor)
        door = self._door(f"{name}-d", corridor, room, floor)
        link(air, room, "controls")
        if dice.random() < 0.5:
            reader = self._new(f"{name}-reader", "reader", corridor)
            link(reader, door, "controls")
        if dice.random() < 0.5:
            link(camera, door, "covers")
        for kind in ("motion", "smoke"):
            link(room, self._new(f"{name}-{kind}", "sensor", room), "monitored_by")
        return room

    def _things(self, name: str, room: int, lan: int, ups: int, programs: list[int], devices: list[int]) -> list[int]:
        dice, link = self._random, self.written.add
        stations: list[int] = []
        for number in range(1, dice.randint(2, 3) + 1):
            host = self._new(f"{name}-pc{number}", "host", room, 1)
            program = self._new(f"{name}-client{number}", "software")
            link(host, lan, "connects")
            link(host, ups, "depends_on")
            link(host, program, "hosts")
            for other in dice.sample(programs, 2):
                link(program, other, "depends_on")
            link(host, self._new(f"{name}-local{number}", "data_store"), "holds")
            stations.append(host)
        for number in range(1, dice.randint(3, 5) + 1):
            device = self._new(f"{name}-dev{number}", "medical_device", room, dice.randint(0, 3))
            link(device, lan, "connects")
            link(device, ups, "depends_on")
            link(device, stations[0], "monitored_by")
            link(device, dice.choice(programs), "depends_on")
            probe = self._new(f"{name}-probe{number}", "sensor", room)
            link(device, probe, "monitored_by")
            for asset, relation in ((ups, "depends_on"), (lan, "connects"), (device, "part_of")):
                link(probe, asset, relation)
            devices.append(device)
        stock = self._new(f"{name}-stock", "supply", room, 1)
        link(stock, devices[-1], "depends_on")
        return stations

    def _person(self, name: str, room: int, stations: list[int], programs: list[int]) -> int:
        dice = self._random
        person = self._new(name, "person")
        badge, account = self._new(f"badge:{name}-b", "badge"), self._new(f"account:{name}-a", "account")
        self.people.append((person, badge, account, room))
        self.implied.add(person, badge, "holds")
        self.implied.add(person, account, "owns")
        self.implied.add(person, room, "works_in")
        for host in dice.sample(stations, 24):
            self.written.add(account, host, "holds")
        for program in dice.sample(programs, 3):
            self.written.add(account, program, "holds")
        return person

    def _needs(self, service: int, group: Group) -> None:
        self.services[service] = group
        for asset in sorted(group.leaves()):
            self.implied.add(service, asset, "depends_on")

    def _protect(self, name: str, asset: int, threat: str, giver: int, degree: float) -> None:
        protection = self._new(name, "protection")
        self.implied.add(protection, asset, "protects")
        of = (self.ids[giver],) if giver >= 0 else ()
        self.protections.append(Protection(name, self.ids[asset], (threat,), of, degree))

    # ---- using ---------------------------------------------------------------------------------

    @property
    def edges(self) -> int:
        """Relations, written and implied."""
        return len(self.written.sources) + len(self.implied.sources)

    def graph(self) -> FlatGraph:
        """The campus as the impact model reads it."""
        both = (self.written, self.implied)
        sources, targets, relations = array("I"), array("I"), bytearray()
        for columns in both:
            sources.extend(columns.sources)
            targets.extend(columns.targets)
            relations.extend(columns.relations)
        return FlatGraph(
            self.ids, bytes(self.classes), sources, targets, relations, needs=self.services,
            criticality=self.criticality,
        )  # fmt: skip

    def site_yaml(self) -> Iterator[str]:
        """The site file, line by line."""
        ids, names = self.ids, _CLASS_NAMES
        yield f"# A generated campus: seed {self.seed}, {len(ids):,} assets, {self.edges:,} relations.\n"
        yield "site: {id: campus, name: Generated campus, timezone: Europe/Rome}\n"
        zones: dict[int, list[int]] = {}
        for zone, floor in self.zone_floor.items():
            zones.setdefault(floor, []).append(zone)
        doors: dict[int, list[tuple[int, int, int, int]]] = {}
        for one in self.doors:
            doors.setdefault(one[3], []).append(one)
        yield "floors:\n"
        for floor, name in enumerate(self.floor_names):
            yield f"  - id: {name}\n    zones:\n"
            for place in zones.get(floor, ()):
                yield f"      - {{id: {ids[place]}}}\n"
            if floor in doors:
                yield "    doors:\n"
            for door, outer, inner, _ in doors.get(floor, ()):
                yield f"      - {{id: {ids[door]}, between: [{ids[outer] if outer >= 0 else OUTSIDE}, {ids[inner]}]}}\n"
        elsewhere = {"zone", "door", "person", "badge", "account", "service", "protection"}
        yield "assets:\n"
        for number, asset in enumerate(ids):
            asset_class = names[self.classes[number]]
            if asset_class not in elsewhere:
                at = f", zone: {ids[self.zone_of[number]]}" if self.zone_of[number] >= 0 else ""
                grave = f", criticality: {self.criticality[number]}" if number in self.criticality else ""
                yield f"  - {{id: {asset}, class: {asset_class}{at}{grave}}}\n"
        yield "people:\n"
        for person, badge, account, zone in self.people:
            held = f"badges: [{{id: {ids[badge][6:]}}}], accounts: [{{id: {ids[account][8:]}}}]"
            yield f"  - {{id: {ids[person]}, {held}, works_in: [{ids[zone]}]}}\n"
        yield "relations:\n"
        written = self.written
        for source, target, relation in zip(written.sources, written.targets, written.relations, strict=True):
            ends = f'from: "{ids[source]}", to: "{ids[target]}"'
            yield f"  - {{{ends}, type: {_RELATION_NAMES[relation]}}}\n"
        yield "services:\n"
        for service, group in self.services.items():
            yield f"  - {{id: {ids[service]}, criticality: {self.criticality[service]}, needs: {self._need(group)}}}\n"
        yield "protections:\n"
        for guard in self.protections:
            of = f", of: [{', '.join(guard.of)}]" if guard.of else ""
            against = ", ".join(guard.against)
            yield f"  - {{id: {guard.id}, asset: {guard.asset}, against: [{against}]{of}, degree: {guard.degree}}}\n"

    def _need(self, group: Group) -> str:
        parts = ", ".join(self.ids[part] if isinstance(part, int) else self._need(part) for part in group.parts)
        if group.k == len(group.parts):
            return f"{{all_of: [{parts}]}}"
        if group.k == 1:
            return f"{{any_of: [{parts}]}}"
        return f"{{k_of: {{k: {group.k}, of: [{parts}]}}}}"


class _Columns:
    """Relations as three columns of numbers."""

    def __init__(self) -> None:
        self.sources = array("I")
        self.targets = array("I")
        self.relations = bytearray()

    def add(self, source: int, target: int, relation: str) -> None:
        """One more relation."""
        self.sources.append(source)
        self.targets.append(target)
        self.relations.append(RELATION_NUMBER[relation])
