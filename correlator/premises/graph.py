"""The site graph: all nodes and relations, and the questions about ways, places and reach.

`SiteGraph.networkx` is the public graph (networkx); everything the engine asks for each event is answered from
flat tables instead. Pure: nothing here changes after construction except caches.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from correlator.clock import MINUTE_MS, local
from correlator.premises.model import ALWAYS, Asset, Relation, Site, Span
from correlator.premises.vocabulary import NETWORK_RELATIONS, OUTSIDE

if TYPE_CHECKING:
    import networkx as nx

# Time on foot over open ground between two doors that lead outside, where nothing better is known.
OUTSIDE_WALK_MS = 60_000
PASSAGE_WALK_MS = 5_000  # an open passage (zone leads_to zone) without delay_ms
PLACING_DEPTH = 8  # software on a virtual machine on a server in a rack in a room: 4
CACHE_ENTRIES = 100_000  # per question; a full cache is emptied, which costs time and changes nothing

Link = tuple[str, str, int, int]  # other zone, door ("" for none), doors passed, ms on foot


class SiteGraph:
    """Flat tables over a `Site`.

    nodes      asset id -> Asset, for every node: also zones, doors, people, `badge:<id>` ...
    relations  declared ones and those that follow from the file's structure (in_zone, leads_to, holds,
               owns, works_in, depends_on of services, protects)
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.nodes: dict[str, Asset] = {}
        self._add_nodes()
        self.relations: tuple[Relation, ...] = (*site.relations, *_structure(site))
        self.door_of: dict[str, str] = {}  # reader, contact or lock -> the door it belongs to
        self.covered: dict[str, list[tuple[str, Span]]] = {}
        self._within: dict[str, list[tuple[str, Span]]] = {}  # asset -> what it stands in, is part of, runs on
        self._network: dict[str, list[tuple[str, Span]]] = {}
        self._links: dict[str, list[Link]] = {zone: [] for zone in site.zones}
        self._links[OUTSIDE] = []
        self._boundaries: list[int] = []
        self._index()
        self._doors_between: dict[tuple[tuple[str, ...], tuple[str, ...]], int | None] = {}
        self._walk_ms: dict[tuple[tuple[str, ...], tuple[str, ...]], int | None] = {}
        self._zones: dict[str, tuple[str, ...]] = {}
        self._reach: dict[tuple[str, int], frozenset[str]] = {}
        self._restricted = frozenset(zone.id for zone in site.zones.values() if zone.restricted)
        self._minute = (-1, (0, 0))

    def _add_nodes(self) -> None:
        site = self.site
        for zone in site.zones.values():
            self.nodes[zone.id] = Asset(zone.id, "zone", zone.name, aliases=zone.aliases)
        for door in site.doors.values():
            self.nodes[door.id] = Asset(door.id, "door", door.name, aliases=door.aliases)
        self.nodes.update(site.assets)
        for person in site.people.values():
            self.nodes[person.id] = Asset(person.id, "person", person.name, aliases=person.aliases)
            for badge in person.badges:
                self.nodes.setdefault(f"badge:{badge.id}", Asset(f"badge:{badge.id}", "badge", badge.id))
            for account in person.accounts:
                self.nodes.setdefault(f"account:{account.id}", Asset(f"account:{account.id}", "account", account.id))
        for service in site.services.values():
            self.nodes[service.id] = Asset(service.id, "service", service.name, criticality=service.criticality)
        for protection in site.protections.values():
            self.nodes[protection.id] = Asset(protection.id, "protection")

    def _index(self) -> None:
        boundaries: set[int] = set()
        for door in self.site.doors.values():
            first, second = door.between
            self._links[first].append((second, door.id, 1, door.walk_ms))
            if not door.one_way:
                self._links[second].append((first, door.id, 1, door.walk_ms))
        zones, doors = self.site.zones, self.site.doors
        for relation in self.site.relations:
            source, target, kind, span = relation.source, relation.target, relation.type, relation.span
            if relation.strength == 0:
                continue
            boundaries.update(ms for ms in (span.from_ms, span.to_ms) if ms is not None)
            # A controller or door server works many doors from afar; only a reader hangs beside its own.
            beside = kind == "part_of" or (kind == "controls" and self.nodes[source].asset_class == "reader")
            if beside and target in doors:
                self.door_of.setdefault(source, target)
            if kind in ("in_zone", "part_of"):
                self._within.setdefault(source, []).append((target, span))
            if kind == "covers":
                self.covered.setdefault(source, []).append((target, span))
            if kind == "hosts":
                self._within.setdefault(target, []).append((source, span))
            if kind == "leads_to" and source in zones and target in zones:
                walk_ms = PASSAGE_WALK_MS if relation.delay_ms is None else relation.delay_ms
                self._links[source].append((target, "", 0, walk_ms))
                self._links[target].append((source, "", 0, walk_ms))
            if kind in NETWORK_RELATIONS and not (source in zones or target in zones):
                self._network.setdefault(source, []).append((target, span))
                self._network.setdefault(target, []).append((source, span))
        self._boundaries = sorted(boundaries)

    @cached_property
    def networkx(self) -> nx.MultiDiGraph[str]:
        """The whole graph for everybody else's tools.

        Nodes carry asset_class, name, zone, criticality; edges are keyed by relation type and carry
        type, valid_from_ms, valid_to_ms, strength and delay_ms (None where not given).
        """
        import networkx as nx  # costs a third of a second, and the engine does without

        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(site=self.site.id, name=self.site.name)
        for asset in self.nodes.values():
            graph.add_node(
                asset.id,
                asset_class=asset.asset_class,
                name=asset.name,
                zone=asset.zone,
                criticality=asset.criticality,
            )
        for relation in self.relations:
            graph.add_edge(
                relation.source,
                relation.target,
                type=relation.type,
                valid_from_ms=relation.span.from_ms,
                valid_to_ms=relation.span.to_ms,
                strength=relation.strength,
                delay_ms=relation.delay_ms,
            )
        return graph

    # ---- places -------------------------------------------------------------------------------

    def zones_of(self, asset: str, t_ms: int) -> tuple[str, ...]:
        """Where an asset is: see `Premises.zones_of`."""
        known = self._zones.get(asset)
        if known is not None:
            return known
        zones, limited = self._place(asset, t_ms, PLACING_DEPTH)
        if not limited and asset in self.nodes:
            self._zones[asset] = zones
        return zones

    def _place(self, asset: str, t_ms: int, depth: int) -> tuple[tuple[str, ...], bool]:
        """(zones, whether the answer depends on the time)."""
        site = self.site
        if asset in site.zones:
            return (asset,), False
        door = site.doors.get(asset) or site.doors.get(self.door_of.get(asset, ""))
        if door is not None:
            return tuple(zone for zone in door.between if zone != OUTSIDE), False
        node = self.nodes.get(asset)
        if node is None or depth == 0:
            return (), False
        limited = node.span.limited
        found: list[str] = []
        if node.asset_class == "camera":
            seen, limited = self._gather(self.covered.get(asset, ()), t_ms, depth, limited)
            found += seen
        if not found and node.zone:
            found.append(node.zone)
        if not found:
            within, limited = self._gather(self._within.get(asset, ()), t_ms, depth, limited)
            found += within
        return tuple(dict.fromkeys(found)), limited

    def _gather(
        self, parents: Iterable[tuple[str, Span]], t_ms: int, depth: int, limited: bool
    ) -> tuple[list[str], bool]:
        found: list[str] = []
        for parent, span in parents:
            limited = limited or span.limited
            if span.holds(t_ms):
                zones, more = self._place(parent, t_ms, depth - 1)
                found += zones
                limited = limited or more
        return found, limited

    def covers(self, camera: str, asset: str, t_ms: int) -> bool | None:
        """Whether a camera sees an asset: named in `covers`, or standing in a zone it covers. A camera
        without `covers` sees the zone it stands in. None if either is unknown or has no place."""
        if camera not in self.nodes or asset not in self.nodes:
            return None
        if any(target == asset and span.holds(t_ms) for target, span in self.covered.get(camera, ())):
            return True
        seen, zones = self.zones_of(camera, t_ms), self.zones_of(asset, t_ms)
        if not seen or not zones:
            return None
        if camera in self.covered:  # a camera on a door does not see all of the rooms on both sides
            seen = tuple(target for target, span in self.covered[camera] if span.holds(t_ms))
        return any(zone in seen for zone in zones)

    def floor_of(self, asset: str, t_ms: int) -> str:
        """Floor id of a door or of the first zone an asset stands in, "" if unknown."""
        door = self.site.doors.get(asset)
        if door is not None:
            return door.floor
        zones = self.zones_of(asset, t_ms)
        return self.site.zones[zones[0]].floor if zones else ""

    def restricted(self, asset: str, t_ms: int) -> bool | None:
        """Whether a zone, or any zone the asset stands in, is restricted; None if it has no place."""
        zones = self.zones_of(asset, t_ms)
        return not self._restricted.isdisjoint(zones) if zones else None

    def working_hours(self, zone: str, t_ms: int) -> bool | None:
        """Whether the time is in the zone's hours, by the wall clock of the site; end not included."""
        place = self.site.zones.get(zone)
        if place is None or place.hours is None:
            return None
        weekday, minute = self._wall_clock(t_ms // MINUTE_MS)
        for start, end in place.hours[weekday]:
            if start <= minute and (minute < end or end <= start):
                return True
        return any(minute < end < start for start, end in place.hours[weekday - 1])

    def _wall_clock(self, minutes: int) -> tuple[int, int]:
        """(weekday, minute of the day) at the site, of minutes since 1970; events of one minute ask alike."""
        if minutes != self._minute[0]:
            now = local(minutes * MINUTE_MS, self.site.timezone)
            self._minute = minutes, (now.weekday(), now.hour * 60 + now.minute)
        return self._minute[1]

    # ---- ways ---------------------------------------------------------------------------------

    def doors_between(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        """Fewest doors on a way from any of the first zones to any of the second; None: no way.

        Over open ground every outer door is next to every other, which says nothing about nearness:
        a way may begin or end outside, but not lead through it. Open passages cost no door.
        """
        return self._cached(self._doors_between, zones_a, zones_b, self._fewest_doors)

    def walk_ms(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        """Shortest time on foot between the zones; outside is crossed in `OUTSIDE_WALK_MS`."""
        return self._cached(self._walk_ms, zones_a, zones_b, self._fastest)

    @staticmethod
    def _cached(
        cache: dict[tuple[tuple[str, ...], tuple[str, ...]], int | None],
        zones_a: Sequence[str],
        zones_b: Sequence[str],
        find: Callable[[tuple[str, ...], tuple[str, ...]], int | None],
    ) -> int | None:
        key = tuple(zones_a), tuple(zones_b)
        if key in cache:
            return cache[key]
        found = find(*key)
        if len(cache) >= CACHE_ENTRIES:
            cache.clear()
        cache[key] = found
        return found

    def _fewest_doors(self, zones_a: tuple[str, ...], zones_b: tuple[str, ...]) -> int | None:
        return self._shortest(zones_a, zones_b, lambda link: link[2], None)

    def _fastest(self, zones_a: tuple[str, ...], zones_b: tuple[str, ...]) -> int | None:
        return self._shortest(zones_a, zones_b, lambda link: link[3], OUTSIDE_WALK_MS)

    def _shortest(
        self, starts: tuple[str, ...], goals: tuple[str, ...], cost: Callable[[Link], int], outside: int | None
    ) -> int | None:
        """Dijkstra. outside: what crossing it costs, None: not crossed."""
        wanted = {zone for zone in goals if zone in self._links}
        heap = [(0, zone) for zone in sorted(set(starts)) if zone in self._links]
        best = {zone: 0 for _, zone in heap}
        while heap:
            so_far, zone = heapq.heappop(heap)
            if zone in wanted:
                return so_far
            if so_far > best[zone]:
                continue
            if zone == OUTSIDE and zone not in starts:
                if outside is None:
                    continue
                so_far += outside
            for link in self._links[zone]:
                total = so_far + cost(link)
                if total < best.get(link[0], total + 1):
                    best[link[0]] = total
                    heapq.heappush(heap, (total, link[0]))
        return None

    # ---- networks -----------------------------------------------------------------------------

    def reachable(self, host_a: str, host_b: str, t_ms: int) -> bool | None:
        """Whether network relations lead from one to the other at that time; None if either has none."""
        if host_a not in self._network or host_b not in self._network:
            return None
        epoch = bisect_right(self._boundaries, t_ms)
        reach = self._reach.get((host_a, epoch))
        if reach is None:
            reach = self._spread(host_a, t_ms)
            if len(self._reach) >= CACHE_ENTRIES:
                self._reach.clear()
            for member in reach:  # relations are passable both ways, so it is the same set for each of them
                self._reach[member, epoch] = reach
        return host_b in reach

    def _spread(self, start: str, t_ms: int) -> frozenset[str]:
        reached, open_ends = {start}, [start]
        while open_ends:
            for other, span in self._network[open_ends.pop()]:
                if other not in reached and span.holds(t_ms):
                    reached.add(other)
                    open_ends.append(other)
        return frozenset(reached)


def _structure(site: Site) -> Iterable[Relation]:
    """The relations that follow from the structure of the file."""
    for asset in site.assets.values():
        if asset.zone:
            yield Relation(asset.id, asset.zone, "in_zone", asset.span)
    for door in site.doors.values():
        first, second = (zone if zone != OUTSIDE else "" for zone in door.between)
        if first:
            yield Relation(first, door.id, "leads_to", delay_ms=door.walk_ms)
            if not door.one_way:
                yield Relation(door.id, first, "leads_to", delay_ms=door.walk_ms)
        if second:
            yield Relation(door.id, second, "leads_to", delay_ms=door.walk_ms)
            if not door.one_way:
                yield Relation(second, door.id, "leads_to", delay_ms=door.walk_ms)
    for person in site.people.values():
        for badge in person.badges:
            yield Relation(person.id, f"badge:{badge.id}", "holds", badge.span)
        for account in person.accounts:
            yield Relation(person.id, f"account:{account.id}", "owns", account.span)
        for zone in person.works_in:
            yield Relation(person.id, zone, "works_in", ALWAYS)
    for service in site.services.values():
        for need in dict.fromkeys(service.needs.ids()):
            yield Relation(service.id, need, "depends_on", ALWAYS)
    for protection in site.protections.values():
        yield Relation(protection.id, protection.asset, "protects", ALWAYS)
