"""Live state: what the events so far say about doors, devices, people, badges, accounts and addresses.

State is a set of cells, key -> tuple whose first element is the time (ms UTC) it speaks of. A cell is
overwritten only by an event that is not older, so a late event changes no newer state. Confidence is
not stored decayed: it is decayed when it is read.

    open/<door>, locked/<door>     (t, true|false)
    health/<asset>                 (t, ok|offline|disabled|tampered)
    person/<person>                (t, zone or "outside", confidence, how)
    badge/<badge>                  (t, zone or "outside")            last seen
    used/<kind>:<id>               (t)                               last used with success
    account/<account>              (t, enabled|disabled|deleted)
    lease/<ip>                     (t, [[t, end or null, mac, host], ...])   newest last
    unknown/<kind>:<id>            (last, first, count)
    dropped/<table>                (t, count)

Known things are bounded by the site. Of names that the site does not know a table takes
`UNKNOWN_KEPT`; further ones are counted and not taken, so that a flood of new names pushes out nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from correlator.clock import HOUR_MS
from correlator.events.event import Event
from correlator.premises.graph import SiteGraph
from correlator.premises.vocabulary import OUTSIDE

AssetOf = Callable[[str, str, int], str]  # (entity kind, id, t_ms) -> asset id or "unknown:..."
Cell = tuple[Any, ...]

# Confidence that a person is still where they were last seen halves in this time: people in a hospital
# change rooms about hourly, and most passages inside a ward show no badge.
PRESENCE_HALF_LIFE_MS: Final = HOUR_MS
UNKNOWN_KEPT: Final = 10_000
LEASES_KEPT: Final = 8  # per address

# How sure a sign of a person is at its own time.
ENTERED, GRANTED, FACE, CONSOLE, AT_DOOR, SIDE_UNKNOWN = 0.95, 0.85, 0.7, 0.6, 0.6, 0.5

# Who was last seen behind a door with at least this confidence is taken to come out of it again.
STILL_THERE: Final = 0.25

# Windows logon types at the machine itself: interactive, unlock, cached interactive
# (Microsoft Learn, "4624(S): An account was successfully logged on").
CONSOLE_LOGONS: Final = frozenset({"2", "7", "11"})
_LOGON_TYPE_PATHS: Final = (
    ("LogonType",), ("EventData", "LogonType"), ("Event", "EventData", "LogonType"),
    ("data", "win", "eventdata", "logonType"), ("winlog", "event_data", "LogonType"),
)  # fmt: skip
_INWARD: Final = frozenset({"in", "entry", "enter", "entering", "inside"})
_OUTWARD: Final = frozenset({"out", "exit", "leave", "leaving", "outside"})

_DOOR_OPEN: Final = {
    "door.opened": True, "door.forced": True, "door.held": True, "door.closed": False,
    "contact.opened": True, "contact.closed": False,
}  # fmt: skip
_DOOR_LOCKED: Final = {"door.locked": True, "door.unlocked": False}
_HEALTH: Final = {
    "camera.offline": "offline", "camera.online": "ok", "camera.disabled": "disabled",
    "camera.tamper": "tampered", "camera.tamper_cleared": "ok",
    "sensor.offline": "offline", "sensor.online": "ok", "sensor.tamper": "tampered", "sensor.tamper_cleared": "ok",
    "reader.offline": "offline", "reader.online": "ok", "reader.tamper": "tampered",
    "door.tamper": "tampered", "door.fault": "offline", "door.normal": "ok",
    "recorder.offline": "offline", "recorder.online": "ok", "device.left": "offline", "device.joined": "ok",
    "host.offline": "offline", "host.online": "ok",
    "protection.disabled": "disabled", "protection.enabled": "ok",
}  # fmt: skip
# Kind -> how sure the passage is; 0: nobody passed, the person stands before the door.
_BADGE: Final = {
    "badge.granted": GRANTED, "badge.entered": ENTERED, "badge.duress": GRANTED, "badge.denied": 0.0,
    "badge.not_entered": 0.0, "badge.unknown": 0.0,
}  # fmt: skip
_BADGE_USED: Final = frozenset({"badge.granted", "badge.entered", "badge.duress"})
_ACCOUNT_USED: Final = frozenset({"host.logon", "host.unlocked", "kerberos.ticket", "privilege.assigned"})
_ACCOUNT_STATE: Final = {
    "account.disabled": "disabled", "account.enabled": "enabled", "account.created": "enabled",
    "account.deleted": "deleted",
}  # fmt: skip

_DOOR_KINDS: Final = (*_DOOR_OPEN, *_DOOR_LOCKED)
CONDITIONS: Final = ("ok", "offline", "disabled", "tampered")  # values of health
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder()


class LiveState:
    """Live state of one site. `observe` folds an event that passed the edge stage; reads are pure.

    Reads for an event must come before that event is observed: "last used" is then the use before it.
    `person_of` and `credential` are set by who owns the resolver, which itself reads leases here.
    """

    def __init__(self, graph: SiteGraph) -> None:
        self._graph = graph
        self._cells: dict[str, Cell] = {}
        self._sizes: dict[str, int] = {}
        self._dirty: dict[str, None] = {}
        self.person_of: Callable[[str, str, int], str | None] = _nobody
        self.credential: Callable[[str, str], str] = _as_is
        self._folds: dict[str, Callable[[Event, AssetOf], None]] = {}
        for kinds, fold in (
            (_DOOR_KINDS, self._door),
            (_HEALTH, self._condition),
            (_BADGE, self._badge),
            (_ACCOUNT_USED, self._account_used),
            (_ACCOUNT_STATE, self._account_state),
            (("face.recognised",), self._face),
            (("dhcp.lease",), self._lease),
        ):
            for kind in kinds:
                assert kind not in self._folds or kind.startswith("door."), kind
                self._folds[kind] = fold
        self.kinds: frozenset[str] = frozenset(self._folds)  # kinds of events that say how things stand

    # ---- fold ---------------------------------------------------------------------------------

    def observe(self, event: Event, asset_of: AssetOf) -> None:
        """Fold one event; one whose kind is not among `kinds` changes nothing."""
        fold = self._folds.get(event.kind)
        if fold is not None:
            fold(event, asset_of)

    def put(self, asset: str, attribute: str, value: bool | str, t_ms: int) -> None:
        """How a door (open, locked) or a device (health) of the site stands, as a person says."""
        self._put(attribute, asset, True, (t_ms, value))

    def _put(self, table: str, name: str, known: bool, cell: Cell) -> None:
        key = f"{table}/{name}"
        before = self._cells.get(key)
        if before is None:
            size = self._sizes.get(table, 0)
            if not known:
                if self._sizes.get(f"{table}?", 0) >= UNKNOWN_KEPT:
                    self._drop(table, cell[0])
                    return
                self._sizes[f"{table}?"] = self._sizes.get(f"{table}?", 0) + 1
            self._sizes[table] = size + 1
        elif before[0] > cell[0]:
            return
        elif before == cell:
            return
        self._cells[key] = cell
        self._dirty[key] = None

    def _drop(self, table: str, t_ms: int) -> None:
        key = f"dropped/{table}"
        before = self._cells.get(key, (t_ms, 0))
        self._cells[key] = (max(before[0], t_ms), before[1] + 1)
        self._dirty[key] = None

    def _door(self, event: Event, asset_of: AssetOf) -> None:
        door = self._door_of(event, asset_of)
        if not door:
            return
        table, values = ("open", _DOOR_OPEN) if event.kind in _DOOR_OPEN else ("locked", _DOOR_LOCKED)
        self._put(table, door, True, (event.time_ms, values[event.kind]))

    def _door_of(self, event: Event, asset_of: AssetOf) -> str:
        """The door an event is at, "" if the site knows none: named, or of the reader or contact named."""
        for entity in event.entities:
            if entity.kind in ("door", "reader", "sensor", "device"):
                asset = asset_of(entity.kind, entity.id, event.time_ms)
                if asset in self._graph.site.doors:
                    return asset
                if asset in self._graph.door_of:
                    return self._graph.door_of[asset]
        return ""

    def _condition(self, event: Event, asset_of: AssetOf) -> None:
        first = "target" if event.kind.startswith(("host.", "protection.")) else "observer"
        for entity in event.entities:
            if entity.role in (first, "where"):
                asset = asset_of(entity.kind, entity.id, event.time_ms)
                if asset in self._graph.nodes:
                    self._put("health", asset, True, (event.time_ms, _HEALTH[event.kind]))
                    return

    def _badge(self, event: Event, asset_of: AssetOf) -> None:
        badge = event.entity("badge")
        person = self.person_of("badge", badge, event.time_ms) if badge else None
        if person is None:
            named = event.entity("person")
            person = self.person_of("person", named, event.time_ms) if named else None
        name = self.credential("badge", badge) if badge else ""
        known = f"badge:{name}" in self._graph.nodes
        if name and event.kind in _BADGE_USED:
            self._put("used", f"badge:{name}", known, (event.time_ms,))
        passage = self._passage(event, asset_of, person)
        if passage is None:
            return
        before, behind, side_sure = passage
        sure = _BADGE[event.kind]
        zone = behind if sure else before
        confidence = min(sure or AT_DOOR, side_sure)
        if name:
            self._put("badge", name, known, (event.time_ms, zone))
        if person is not None:
            self._put("person", person, True, (event.time_ms, zone, confidence, event.kind))

    def _passage(self, event: Event, asset_of: AssetOf, person: str | None) -> tuple[str, str, float] | None:
        """(side before the door, side behind it, how sure the direction is); None without a place.

        Direction, first that is known: the reader's own zone is the side before; a one-way door; the
        message's `direction`; the person was last seen on one of the sides. Else inward: `between`
        names the outer side first, and outside is always the outer side.
        """
        reader_zone = ""
        for entity in event.entities:
            if entity.kind == "reader":
                node = self._graph.nodes.get(asset_of("reader", entity.id, event.time_ms))
                reader_zone = node.zone if node is not None else ""
        door = self._graph.site.doors.get(self._door_of(event, asset_of))
        if door is None:
            return (reader_zone, reader_zone, 1.0) if reader_zone else None
        outer, inner = door.between if door.between[1] != OUTSIDE else (door.between[1], door.between[0])
        if reader_zone in door.between:
            return (outer, inner, 1.0) if reader_zone == outer else (inner, outer, 1.0)
        if door.one_way:
            return (*door.between, 1.0)
        direction = str(event.attributes.get("direction", "")).lower()
        if direction in _INWARD:
            return outer, inner, 1.0
        if direction in _OUTWARD:
            return inner, outer, 1.0
        if person is not None:
            last = self.presence(person, event.time_ms)
            if last is not None and last[1] >= STILL_THERE and last[0] == inner:
                return inner, outer, max(last[1], SIDE_UNKNOWN)
        return outer, inner, SIDE_UNKNOWN

    def _face(self, event: Event, asset_of: AssetOf) -> None:
        person = self.person_of("person", event.entity("person"), event.time_ms)
        camera = asset_of("camera", event.entity("camera"), event.time_ms)
        zones = self._graph.zones_of(camera, event.time_ms)
        if person is not None and len(zones) == 1:
            self._put("person", person, True, (event.time_ms, zones[0], FACE, event.kind))

    def _account_used(self, event: Event, asset_of: AssetOf) -> None:
        account = event.entity("account", "actor") or event.entity("account")
        if not account:
            return
        name = self.credential("account", account)
        known = f"account:{name}" in self._graph.nodes
        self._put("used", f"account:{name}", known, (event.time_ms,))
        at_console = event.kind == "host.unlocked" or (event.kind == "host.logon" and _console(event))
        person = self.person_of("account", account, event.time_ms) if at_console else None
        if person is None:
            return
        zones = self._graph.zones_of(asset_of("host", event.entity("host"), event.time_ms), event.time_ms)
        if len(zones) == 1:
            self._put("person", person, True, (event.time_ms, zones[0], CONSOLE, event.kind))

    def _account_state(self, event: Event, asset_of: AssetOf) -> None:
        account = event.entity("account", "target")
        if account:
            name = self.credential("account", account)
            known = f"account:{name}" in self._graph.nodes
            self._put("account", name, known, (event.time_ms, _ACCOUNT_STATE[event.kind]))

    def _lease(self, event: Event, asset_of: AssetOf) -> None:
        """`ip` now belongs to `mac` and `host`; the server itself has role observer."""
        found = {"ip": "", "mac": "", "host": ""}
        for entity in event.entities:
            if entity.kind in found and entity.role != "observer" and not found[entity.kind]:
                found[entity.kind] = entity.id
        ip, mac, host = found["ip"], found["mac"], found["host"]
        if not ip or not (mac or host):
            return
        lasts_s = event.attributes.get("lease_time")
        end_ms = event.time_ms + int(lasts_s * 1_000) if isinstance(lasts_s, int | float) and lasts_s > 0 else None
        before = self._cells.get(f"lease/{ip}")
        leases = [lease for lease in before[1] if lease[0] != event.time_ms] if before is not None else []
        leases = sorted([*leases, [event.time_ms, end_ms, mac, host]], key=lambda lease: lease[0])[-LEASES_KEPT:]
        # A late lease completes the history behind the newest one, so the cell's time is the newest's.
        self._put("lease", ip, False, (leases[-1][0], leases))

    # ---- unknown names ------------------------------------------------------------------------

    def count_unknown(self, kind: str, entity_id: str, t_ms: int) -> None:
        """One more event named something that the site does not know."""
        before = self._cells.get(f"unknown/{kind}:{entity_id}")
        if before is None:
            self._put("unknown", f"{kind}:{entity_id}", False, (t_ms, t_ms, 1))
        else:
            last, first, count = before
            cell = (max(last, t_ms), min(first, t_ms), count + 1)
            self._put("unknown", f"{kind}:{entity_id}", False, cell)

    def unknowns(self) -> list[tuple[str, str, int, int, int]]:
        """(kind, id, events, first_ms, last_ms), most frequent first."""
        found = []
        for key, (last, first, count) in self._table("unknown"):
            kind, _, entity_id = key.partition(":")
            found.append((kind, entity_id, count, first, last))
        return sorted(found, key=lambda one: (-one[2], one[0], one[1]))

    def dropped(self) -> dict[str, int]:
        """Table -> names not taken because the table's bound for unknown names was reached."""
        return {table: cell[1] for table, cell in sorted(self._table("dropped"))}

    def _table(self, table: str) -> Iterator[tuple[str, Cell]]:
        head = f"{table}/"
        return ((key[len(head) :], cell) for key, cell in self._cells.items() if key.startswith(head))

    # ---- reads --------------------------------------------------------------------------------

    def presence(self, person: str, t_ms: int) -> tuple[str, float, int] | None:
        """(zone or "outside", confidence now, ms since then) of a person; None if never seen."""
        cell = self._cells.get(f"person/{person}")
        if cell is None:
            return None
        age_ms = max(0, t_ms - cell[0])
        return cell[1], round(cell[2] * 0.5 ** (age_ms / PRESENCE_HALF_LIFE_MS), 6), age_ms

    def last_seen(self, kind: str, name: str) -> tuple[str, int] | None:
        """(zone, time ms) of a badge or person; None if never seen."""
        cell = self._cells.get(f"{kind}/{name}")
        return None if cell is None or kind not in ("badge", "person") else (cell[1], cell[0])

    def used_ms(self, kind: str, name: str) -> int | None:
        """When a badge or account was last used with success."""
        cell = self._cells.get(f"used/{kind}:{name}")
        return None if cell is None else int(cell[0])

    def account_state(self, account: str) -> tuple[str, int] | None:
        """(enabled|disabled|deleted, since) as the directory last said."""
        cell = self._cells.get(f"account/{account}")
        return None if cell is None else (cell[1], cell[0])

    def lease(self, ip: str, t_ms: int) -> tuple[str, str] | None:
        """(mac, host) that held the address at that time by the leases seen; None if unknown."""
        cell = self._cells.get(f"lease/{ip}")
        if cell is not None:
            for start_ms, end_ms, mac, host in reversed(cell[1]):
                if start_ms <= t_ms:
                    return (mac, host) if end_ms is None or t_ms < end_ms else None
        return None

    def door(self, door: str) -> tuple[bool | None, bool | None, int | None]:
        """(open, locked, since when the newer of both is known); None where no event told."""
        opened, locked = self._cells.get(f"open/{door}"), self._cells.get(f"locked/{door}")
        since = max((cell[0] for cell in (opened, locked) if cell is not None), default=None)
        return opened[1] if opened else None, locked[1] if locked else None, since

    def health(self, asset: str) -> tuple[str, int] | None:
        """(ok|offline|disabled|tampered, since) of a device, host or door; None if no event told."""
        cell = self._cells.get(f"health/{asset}")
        return None if cell is None else (cell[1], cell[0])

    # ---- state --------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Entries changed since the last call, by key. (Nothing is ever deleted.)"""
        keys = sorted(self._dirty)
        self._dirty.clear()
        return [(key, _ENCODER.encode(self._cells[key])) for key in keys]

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All entries, by key."""
        return [(key, _ENCODER.encode(self._cells[key])) for key in sorted(self._cells)]

    def restore(self, entries: Iterable[tuple[str, bytes | None]]) -> None:
        """Become what the entries say; what was there before is forgotten. None deletes an entry."""
        self._cells.clear()
        self._sizes.clear()
        self._dirty.clear()
        for key, data in entries:
            if data is None:
                self._cells.pop(key, None)
            else:
                self._cells[key] = tuple(_DECODER.decode(data))
        for key in self._cells:
            table, _, name = key.partition("/")
            if not self._is_known(table, name):
                self._sizes[f"{table}?"] = self._sizes.get(f"{table}?", 0) + 1

    def _is_known(self, table: str, name: str) -> bool:
        if table == "used":
            return name in self._graph.nodes
        if table in ("badge", "account"):
            return f"{table}:{name}" in self._graph.nodes
        return table not in ("lease", "unknown")


def _nobody(_kind: str, _entity_id: str, _t_ms: int) -> str | None:
    return None


def _as_is(_kind: str, entity_id: str) -> str:
    return entity_id


def _console(event: Event) -> bool:
    """Whether a logon happened at the machine itself; logons without a type are remote or unknown."""
    for path in _LOGON_TYPE_PATHS:
        value: Any = event.attributes
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return str(value) in CONSOLE_LOGONS
    return False
