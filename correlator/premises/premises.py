"""One site, model and live state in one object: what rules, findings and alerts ask of a place.

`Premises` has the methods of `correlator.rules.places.Places` (it does not import it; a test checks).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from functools import cached_property
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Final

import msgspec

from correlator.clock import utc_text, zone_named, zone_rules_version
from correlator.events.event import Event
from correlator.events.kinds import KINDS
from correlator.premises.graph import SiteGraph
from correlator.premises.live import LiveState
from correlator.premises.model import Asset, Site, Window
from correlator.premises.resolve import Resolver
from correlator.premises.speaks import Speakers
from correlator.premises.vocabulary import KIND_CLASSES, OUTSIDE

# Most specific first (design: finding on device, host, door, zone, then account, person). An address is
# a host's; a reader or contact says less than the door it hangs at.
PLACE_KINDS: Final = ("device", "host", "ip", "mac", "door", "reader", "sensor", "camera", "zone")
OTHER_KINDS: Final = ("software", "data_store", "service", "network", "account", "badge", "person")
# Within one kind the thing something was done to says more about the place than the one that did it.
_ROLE_ORDER: Final = {"target": 0, "where": 1, "via": 2, "observer": 3, "actor": 4, "origin": 5}
_SETTLED_MAX: Final = 200_000


class Premises:
    """A site with its live state. Names are as in messages; assets are ids of the site graph.

    Reads for an event come before `observe(event)`: the state is then what was known before it.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.site_id: str = site.id
        self.name: str = site.name
        self.timezone: tzinfo = site.timezone
        self.graph = SiteGraph(site)
        self.assets: dict[str, Asset] = self.graph.nodes
        self.live = LiveState(self.graph)
        self.resolver = Resolver(self.graph, self.live)
        self.live.person_of = self.person_of
        self.live.credential = self.resolver.credential
        self._find = self.resolver.find
        self._telling = self.live.kinds
        self._speakers = Speakers(site, self.graph)
        self._listed = frozenset(name for name, note in site.sources.items() if note.assets)
        self._settled: dict[str, set[str]] = {kind: set() for kind in KIND_CLASSES}
        self._windows = _by_start(site.windows.values())

    @classmethod
    def empty(cls, site_id: str, zone: tzinfo | str = "UTC") -> Premises:
        """A site that knows nothing but its id and time zone, for correlation without a site file."""
        name = zone if isinstance(zone, str) else str(zone)
        return cls(Site(site_id, site_id, zone_named(zone) if isinstance(zone, str) else zone, name))

    @cached_property
    def config_hash(self) -> str:
        """64 hex digits over everything the site file says that may decide and the version of the time zone rules;
        the order of its sections and items does not matter, except where order means something (contacts, the
        sides of a door). Where on the globe the site is decides nothing."""
        plain = msgspec.to_builtins(self.site, enc_hook=lambda _zone: self.site.timezone_name)
        for one in (plain, *plain["floors"].values()):
            del one["coordinates"]
        del plain["unlocode"]
        plain["relations"] = sorted(msgspec.json.encode(one, order="sorted").decode() for one in plain["relations"])
        plain["tzdata"] = zone_rules_version()
        return sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()

    # ---- live state ---------------------------------------------------------------------------

    def observe(self, event: Event) -> None:
        """Fold an event that passed the edge stage into live state, and count the names in it that the
        site does not know. Once for each event, after everything about it has been read."""
        settled = self._settled
        for entity in event.entities:
            ids = settled.get(entity.kind)
            if ids is not None and entity.id not in ids:
                self._settle(ids, entity.kind, entity.id, event.time_ms)
        if event.kind in self._telling:
            self.live.observe(event, self.resolve)

    def _settle(self, ids: set[str], kind: str, entity_id: str, t_ms: int) -> None:
        asset = self._find(kind, entity_id, t_ms)
        if not asset and not (kind == "ip" and _foreign(entity_id)):
            self.live.count_unknown(kind, entity_id, t_ms)
            return
        node = self.assets.get(asset)
        # Who has an address may change, unless the site file gives it for good; a foreign one stays foreign.
        if kind != "ip" or not asset or self.resolver.lasting_ip(entity_id):
            if node is not None and node.span.limited:
                return
            if len(ids) >= _SETTLED_MAX:
                ids.clear()
            ids.add(entity_id)

    def changes(self) -> list[tuple[str, bytes | None]]:
        """State entries changed since the last call, by key."""
        return self.live.changes()

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All state entries, by key."""
        return self.live.snapshot()

    def restore(self, entries: Iterable[tuple[str, bytes | None]]) -> None:
        """Take over the state of a snapshot (with later changes after it, if any)."""
        self.live.restore(entries)

    # ---- names --------------------------------------------------------------------------------

    def foreign(self, event: Event) -> Event | None:
        """The event that tells so when a source speaks for a device that is not on its list, else None."""
        return self._speakers.foreign(event, self.resolve) if event.source in self._listed else None

    def resolve(self, kind: str, entity_id: str, t_ms: int) -> str:
        """The asset an entity stands for at that time, or "unknown:<kind>:<id>"."""
        return self._find(kind, entity_id, t_ms) or f"unknown:{kind}:{entity_id}"

    def unknowns(self) -> list[tuple[str, str, int, int, int]]:
        """(kind, id, events, first_ms, last_ms) of names no asset has, most frequent first."""
        return self.live.unknowns()

    def unknown_yaml(self) -> str:
        """YAML to paste into the site file for the names no asset has; "" if there are none."""
        return unknown_yaml(self.unknowns())

    def person_of(self, kind: str, entity_id: str, t_ms: int) -> str | None:
        """The person behind a badge or account at that time (a person: itself if known).

        Outside every validity it is who held it last before, else who will hold it first.
        """
        if kind == "person":
            return self._find("person", entity_id, t_ms) or None
        if kind not in ("badge", "account"):
            return None
        held = self.resolver.holder(kind, entity_id, t_ms)
        return held[1] if held is not None else None

    def owns(self, person: str, kind: str, entity_id: str, t_ms: int) -> bool | None:
        """Whether the account or badge is the person's at that time; None if either is unknown."""
        owner, named = self.person_of(kind, entity_id, t_ms), self._find("person", person, t_ms)
        return None if owner is None or not named else owner == named

    def validity(self, kind: str, entity_id: str, t_ms: int) -> str:
        """valid | expired | not_yet | superseded | disabled | unknown, of a badge or account.

        disabled: switched off in the file or by an event. superseded: valid by its dates, but its holder
        has one of the same kind, issued later (by valid_from), that is valid now.
        """
        held = self.resolver.holder(kind, entity_id, t_ms) if kind in ("badge", "account") else None
        if held is None:
            return "unknown"
        credential, holder = held
        span = credential.span
        told = self.live.account_state(credential.id) if kind == "account" else None
        if told is not None and told[1] <= t_ms:
            if told[0] != "enabled":
                return "disabled"
        elif credential.disabled_from_ms is not None and credential.disabled_from_ms <= t_ms:
            return "disabled"
        if span.to_ms is not None and span.to_ms <= t_ms:
            return "expired"
        if span.from_ms is not None and t_ms < span.from_ms:
            return "not_yet"
        if kind == "badge":
            for other in self.site.people[holder].badges:
                if other.id != credential.id and other.span.from_ms is not None and other.span.holds(t_ms):
                    switched_off = other.disabled_from_ms is not None and other.disabled_from_ms <= t_ms
                    if not switched_off and (span.from_ms is None or span.from_ms < other.span.from_ms):
                        return "superseded"
        return "valid"

    # ---- places -------------------------------------------------------------------------------

    def zones_of(self, asset: str, t_ms: int) -> tuple[str, ...]:
        """The zones an asset stands in; () if unknown.

        A door: both sides, without "outside"; so too a reader, lock or contact of a door. A camera: the
        zones it covers. Software: where its hosts stand. A part: where the whole stands.
        """
        return self.graph.zones_of(asset, t_ms)

    def coordinates_of(self, asset: str, t_ms: int) -> tuple[float, float] | None:
        """Latitude and longitude of the building an asset stands in, None if the file does not say."""
        for zone in self.zones_of(asset, t_ms):
            return self.site.floors[self.site.zones[zone].floor].coordinates or self.site.coordinates
        return None

    def event_place(self, event: Event) -> str:
        """The most specific placed asset of an event: device, host, door, reader, sensor, camera, zone.

        If none of these has a place: the first known one of them, or else account, badge or person; if
        the site knows nothing of the event, "unknown:<kind>:<id>"; "" if it names nothing at all.
        """
        unplaced = unknown = ""
        t_ms = event.time_ms
        for rank, kind, entity_id in _ranked(event):
            asset = self._find(kind, entity_id, t_ms)
            if asset:
                if rank < len(PLACE_KINDS) and self.graph.zones_of(asset, t_ms):
                    return asset
                unplaced = unplaced or asset
            elif not unknown:
                unknown = f"unknown:{kind}:{entity_id}"
        return unplaced or unknown

    def event_assets(self, event: Event) -> list[tuple[str, str]]:
        """(role, asset) of each entity that can be a thing of the site, in the event's order; names that
        lead nowhere as "unknown:<kind>:<id>"."""
        found = {
            (entity.role, self.resolve(entity.kind, entity.id, event.time_ms)): None
            for entity in event.entities
            if entity.kind in KIND_CLASSES
        }
        return list(found)

    def doors_between(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        """Fewest doors on a way from any of the first zones to any of the second; 0 = same zone or an open
        passage. No way leads through "outside"."""
        return self.graph.doors_between(zones_a, zones_b)

    def walk_ms(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        """Shortest walking time between the zones, ms; 0 = same zone."""
        return self.graph.walk_ms(zones_a, zones_b)

    def covers(self, camera: str, asset: str, t_ms: int) -> bool | None:
        """Whether the camera covers the asset or one of its zones."""
        return self.graph.covers(camera, asset, t_ms)

    def reachable(self, host_a: str, host_b: str, t_ms: int) -> bool | None:
        """Whether a path of network relations leads from the first host to the second."""
        return self.graph.reachable(host_a, host_b, t_ms)

    def working_hours(self, zone: str, t_ms: int) -> bool | None:
        """Whether the time falls into the zone's declared hours; None if it declares none."""
        return self.graph.working_hours(zone, t_ms)

    def restricted(self, asset: str, t_ms: int) -> bool | None:
        """Whether the asset is, or stands in, a restricted zone; a door: whether either side is."""
        return self.graph.restricted(asset, t_ms)

    def floor_of(self, asset: str, t_ms: int) -> str:
        """Floor id of an asset, "" if unknown."""
        return self.graph.floor_of(asset, t_ms)

    def building_of(self, asset: str, t_ms: int) -> str:
        """Building of an asset, "" if unknown."""
        floor = self.site.floors.get(self.graph.floor_of(asset, t_ms))
        return floor.building if floor is not None else ""

    # ---- people now ---------------------------------------------------------------------------

    def presence(self, person: str, t_ms: int) -> tuple[str, float, int] | None:
        """(zone or "outside", confidence 0..1, ms since last seen) of a person; None if never seen."""
        return self.live.presence(self._find("person", person, t_ms) or person, t_ms)

    def last_seen(self, kind: str, entity_id: str) -> tuple[str, int] | None:
        """(zone or "outside", time ms) where a badge or person was last seen before now."""
        if kind == "badge":
            return self.live.last_seen(kind, self.resolver.credential(kind, entity_id))
        return self.live.last_seen(kind, self._find("person", entity_id, 0) or entity_id)

    def unused_ms(self, kind: str, entity_id: str, t_ms: int) -> int | None:
        """How long before t_ms a badge or account was last used with success; None if never."""
        if kind not in ("badge", "account"):
            return None
        used_ms = self.live.used_ms(kind, self.resolver.credential(kind, entity_id))
        return None if used_ms is None else max(0, t_ms - used_ms)

    # ---- windows ------------------------------------------------------------------------------

    def declare(self, windows: Iterable[Window]) -> None:
        """Windows that people declared beside those of the site file; one of the same id takes its place. They
        are no part of the state here: whoever takes people's decisions keeps them."""
        self._windows = _by_start(({**self.site.windows, **{one.id: one for one in windows}}).values())

    def in_window(self, event: Event) -> bool:
        """Whether a declared window covers the event's place, people and kind at its time."""
        return any(self._fits(window, event) for window in self._open_windows(event))

    def event_windows(self, event: Event) -> tuple[str, ...]:
        """Ids of all windows open at the event's time and place, whether or not it fits into them."""
        return tuple(window.id for window in self._open_windows(event))

    def _open_windows(self, event: Event) -> list[Window]:
        t_ms = event.time_ms
        found: list[Window] = []
        assets: set[str] | None = None
        zones: set[str] = set()
        for window in self._windows:
            if window.from_ms > t_ms:
                break
            if t_ms >= window.to_ms:
                continue
            if assets is None:
                assets = {asset for _, asset in self.event_assets(event)}
                zones = set(self.graph.zones_of(self.event_place(event), t_ms))
            if not zones.isdisjoint(window.zones) or not assets.isdisjoint(window.assets):
                found.append(window)
        return found

    def _fits(self, window: Window, event: Event) -> bool:
        """People: everybody the event names must be announced, so an unknown badge never fits. A critical
        event only fits where its kind is announced by name."""
        named = any(event.kind == kind or (kind[-1] == "*" and event.kind.startswith(kind[:-1]))
                    for kind in window.kinds)  # fmt: skip
        if window.kinds and not named:
            return False
        level = event.level or (KINDS[event.kind].level if event.kind in KINDS else "")
        if level == "critical" and event.kind not in window.kinds:
            return False
        if window.people:
            for entity in event.entities:
                if entity.kind in ("person", "badge", "account"):
                    person = self.person_of(entity.kind, entity.id, event.time_ms)
                    if person not in window.people:
                        return False
        return True

    # ---- words --------------------------------------------------------------------------------

    def describe(self, asset: str) -> str:
        """An asset in plain words: "Pharmacy store (Ground floor, Building A)", "door Pharmacy store -
        Corridor", "Dispensing PC 2 (Pharmacy store)", "host pc7 (not in the site file)"."""
        site = self.site
        if asset.startswith("unknown:"):
            _, kind, entity_id = asset.split(":", 2)
            return f"{kind.replace('_', ' ')} {entity_id} (not in the site file)"
        if asset == OUTSIDE:
            return OUTSIDE
        zone = site.zones.get(asset)
        if zone is not None:
            floor = site.floors.get(zone.floor)
            where = [floor.name, floor.building] if floor is not None else []
            inside = ", ".join(part for part in where if part)
            return f"{zone.name} ({inside})" if inside else zone.name
        door = site.doors.get(asset)
        if door is not None:
            sides = " - ".join(self._zone_name(side) for side in door.between)
            return f"{door.name} ({sides})" if door.name else f"door {sides}"
        node = self.assets.get(asset)
        if node is None:
            return asset
        if node.asset_class in ("badge", "account"):
            people = dict.fromkeys(person for _, person in self.resolver.holdings(node.asset_class, node.name))
            names = " / ".join(self.describe(person) for person in people)
            return f"{node.asset_class} {node.name} of {names}"
        if node.asset_class == "protection":
            return f"protection {asset} of {self.describe(site.protections[asset].asset)}"
        name = node.name or f"{node.asset_class.replace('_', ' ')} {asset}"
        return f"{name} ({self._zone_name(node.zone)})" if node.zone else name

    def _zone_name(self, zone: str) -> str:
        known = self.site.zones.get(zone)
        return known.name if known is not None else zone


_RANK: Final = {kind: rank for rank, kind in enumerate((*PLACE_KINDS, *OTHER_KINDS))}


def _by_start(windows: Iterable[Window]) -> list[Window]:
    return sorted(windows, key=lambda window: (window.from_ms, window.id))


def _ranked(event: Event) -> list[tuple[int, str, str]]:
    """(rank, kind, id) of the event's entities that can be assets, the most specific place first."""
    found = [
        (_RANK[entity.kind], _ROLE_ORDER[entity.role], index, entity.kind, entity.id)
        for index, entity in enumerate(event.entities)
        if entity.kind in _RANK
    ]
    found.sort()
    return [(rank, kind, entity_id) for rank, _, _, kind, entity_id in found]


def _foreign(ip: str) -> bool:
    """Whether an address is no address of a site's own networks."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    return not address.is_private or address.is_multicast or address.is_loopback or address.is_unspecified


# ---- names to paste -------------------------------------------------------------------------------

_PASTED_CLASS: Final = {"software": "software", "data_store": "data_store", "network": "network", "host": "host",
                        "ip": "host", "mac": "host", "camera": "camera", "reader": "reader",
                        "sensor": "sensor", "device": "device"}  # fmt: skip


def unknown_yaml(unknowns: Sequence[tuple[str, str, int, int, int]]) -> str:
    """YAML to paste for (kind, id, events, first_ms, last_ms): people, assets, and, as comments, zones,
    doors and services, which need a place or needs that only a person knows. "" for none."""
    if not unknowns:
        return ""
    lines = ["# Names in messages that the site file does not know. Correct what is guessed, then paste."]
    people = [one for one in unknowns if one[0] in ("person", "badge", "account")]
    if people:
        lines.append("people:")
        for kind, entity_id, *seen in people:
            if kind == "person":
                body = f"{{id: {_quoted(entity_id)}}}"
            else:
                holder = _quoted(f"holder-of-{entity_id}")
                body = f"{{id: {holder}, {kind}s: [{{id: {_quoted(entity_id)}}}]}}"
            lines.append(f"  - {body}  # {_seen(seen)}")
    assets = [one for one in unknowns if one[0] in _PASTED_CLASS]
    if assets:
        lines.append("assets:")
        for kind, entity_id, *seen in assets:
            body = f"id: {_quoted(entity_id)}, class: {_PASTED_CLASS[kind]}"
            if kind in ("ip", "mac"):
                body = f"id: {_quoted(f'host-{entity_id}')}, class: host, {kind}: [{_quoted(entity_id)}]"
            lines.append(f"  - {{{body}}}  # {_seen(seen)}; add zone")
    for kind, entity_id, *seen in unknowns:
        if kind == "zone":
            lines.append(f"# zone, under its floor: {{id: {_quoted(entity_id)}}}  # {_seen(seen)}")
        elif kind == "door":
            lines.append(f"# door, under its floor: {{id: {_quoted(entity_id)}, between: [ , ]}}  # {_seen(seen)}")
        elif kind == "service":
            lines.append(f"# service: {{id: {_quoted(entity_id)}, criticality: , needs: }}  # {_seen(seen)}")
    return "\n".join(lines) + "\n"


def _seen(seen: Sequence[Any]) -> str:
    count, first_ms, last_ms = seen
    times = "once" if count == 1 else f"{count} times"
    return f"{times}, first {utc_text(first_ms)}, last {utc_text(last_ms)}"


def _quoted(text: str) -> str:
    """A text as YAML scalar that reads back as itself (JSON strings are YAML double-quoted scalars)."""
    return msgspec.json.encode(text).decode()
