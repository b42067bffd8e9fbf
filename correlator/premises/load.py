"""Site files: YAML to `Site`, with every fault of a file found in one run.

Sections are read in a fixed order, so their order in the file does not matter. A thing with a fault is
still taken into the tables of names, so that one slip does not show up again at each reference to it.
Written by hand and not with a schema library: 100,000 assets take about a second here, the rest of the
load is libyaml.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec

from correlator.clock import parse_iso, zone_named, zone_rules_version
from correlator.errors import Fault, FaultyFile
from correlator.events.kinds import KINDS
from correlator.kept import keep, read_kept
from correlator.marked import Mark, MarkedDict, MarkedList, load_documents, no_collection
from correlator.premises.model import (
    ALWAYS,
    DOOR_WALK_MS,
    Address,
    Asset,
    Contact,
    Credential,
    Door,
    Floor,
    Minutes,
    Need,
    Person,
    Protection,
    Relation,
    Service,
    Site,
    SourceNote,
    Span,
    Window,
    Zone,
)
from correlator.premises.premises import Premises
from correlator.premises.vocabulary import ASSET_CLASSES, OUTSIDE, RELATION_TYPES, THREAT_TYPES, WEEKDAYS

KEPT_FROM_BYTES: Final = 1_000_000  # a smaller file is read anew in a third of a second
_ALSO_READS: Final = ("clock.py", "marked.py", "events/kinds.py")  # beside this folder, what reading depends on
NEAREST_AMONG = 3_000  # above this many names only those that begin or end alike are compared
NEAREST_FAULTS = 200  # after this many faults no nearest word is looked for

_NOWHERE: Mark = (0, 0)

# What stands in each map: key -> required.
_KEYS: dict[str, dict[str, bool]] = {
    "site file": {
        "site": True, "floors": False, "assets": False, "people": False, "relations": False, "services": False,
        "protections": False, "windows": False, "contacts": False, "sources": False, "tokens": False,
    },
    "site": {"id": True, "name": False, "timezone": True, "coordinates": False, "unlocode": False},
    "floor": {
        "id": True, "name": False, "building": False, "zones": False, "doors": False, "background": False,
        "coordinates": False,
    },
    "zone": {"id": True, "name": False, "outline": False, "restricted": False, "hours": False, "aliases": False},
    "door": {
        "id": True, "name": False, "between": True, "at": False, "one_way": False, "walk_ms": False, "aliases": False,
    },
    "asset": {
        "id": True, "class": True, "zone": False, "name": False, "aliases": False, "ip": False, "mac": False,
        "criticality": False, "valid_from": False, "valid_to": False,
    },
    "address": {"ip": True, "valid_from": False, "valid_to": False},
    "person": {
        "id": True, "name": False, "roles": False, "badges": False, "accounts": False, "works_in": False,
        "aliases": False,
    },
    "badge": {"id": True, "valid_from": False, "valid_to": False, "disabled_from": False},
    "account": {"id": True, "valid_from": False, "valid_to": False, "disabled_from": False},
    "relation": {
        "from": True, "to": True, "type": True, "valid_from": False, "valid_to": False, "strength": False,
        "delay_ms": False,
    },
    "service": {"id": True, "name": False, "criticality": True, "needs": True},
    "group of needs": {"all_of": False, "any_of": False, "k_of": False},
    "k_of": {"k": True, "of": True},
    "protection": {"id": True, "asset": True, "against": True, "of": False, "degree": True},
    "window": {
        "id": True, "zones": False, "assets": False, "people": False, "kinds": False, "from": True, "to": True,
        "why": True,
    },
    "contact": {"role": True, "name": False, "phone": True, "zones": False},
    "source": {"name": True, "reliability": True, "assets": False},
}  # fmt: skip
_KNOWN = {what: frozenset(keys) for what, keys in _KEYS.items()}
_REQUIRED = {what: tuple(key for key, required in keys.items() if required) for what, keys in _KEYS.items()}

# Classes with a section of their own.
_ELSEWHERE = {
    "zone": "zones are written under their floor", "door": "doors are written under a floor",
    "service": "services have a section of their own", "person": "people have a section of their own",
    "badge": "badges are written under the person who holds them",
    "account": "accounts are written under the person who owns them",
    "protection": "protections have a section of their own",
}  # fmt: skip

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SPAN_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|(24:00))")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")  # the usual case, ten times faster than ip_address
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_UNLOCODE = re.compile(r"[A-Z]{2} ?[A-Z2-9]{3}")
_PLAIN = re.compile(r"[^\s,\]}#]+(?:#[^\s,\]}]+)*")


def load_site(path: Path) -> Premises:
    """The premises a site file describes. Raises FaultyFile with every error of the file.

    What a large file says is kept for the next time (`correlator.kept`).
    """
    return load_site_text(_bytes(path), str(path))


def load_site_text(data: bytes, file: str) -> Premises:
    """As `load_site`, of the bytes of a site file; `file` is how faults name it."""
    with no_collection():
        key = _cache_key(data) if len(data) >= KEPT_FROM_BYTES else ""
        site = _kept_site(key) if key else None
        if site is None:
            site, faults = read_site(_decoded(data, file), file)
            errors = [fault for fault in faults if fault.severity == "error"]
            if site is None or errors:
                raise FaultyFile(errors)
            if key:
                name = site.timezone_name
                keep("site", key, msgspec.msgpack.encode(site, enc_hook=lambda _zone: name))
        return Premises(site)


def _cache_key(data: bytes) -> str:
    """Names what a site file's bytes say to this code: another release, reader or time zone table may
    read the same bytes in another way."""
    key = sha256(f"{zone_rules_version()} {msgspec.__version__}".encode())
    here = Path(__file__).parent
    for path in (*sorted(here.glob("*.py")), *(here.parent / name for name in _ALSO_READS)):
        key.update(sha256(path.read_bytes()).digest())
    key.update(sha256(data).digest())
    return key.hexdigest()


def _kept_site(key: str) -> Site | None:
    """The site as it was read before, None if it was not or cannot be read back."""
    body = read_kept("site", key)
    if body is None:
        return None
    try:
        return msgspec.msgpack.decode(body, type=Site, dec_hook=lambda _type, name: zone_named(name))
    except (msgspec.MsgspecError, ValueError):
        return None


def check_site(path: Path) -> list[Fault]:
    """Every fault and warning of a site file, by position; [] for a good one."""
    try:
        return read_site(_decoded(_bytes(path), str(path)), str(path))[1]
    except FaultyFile as error:
        return list(error.faults)


def site_of(data: Any, file: str) -> Premises:
    """The premises of an already parsed site (a rule test's own `site:`). Raises FaultyFile."""
    reader = _Reader(file, "")
    site = reader.read(data)
    if site is None or any(fault.severity == "error" for fault in reader.faults):
        raise FaultyFile(reader.faults)
    return Premises(site)


def read_site(text: str, file: str) -> tuple[Site | None, list[Fault]]:
    """The site of a YAML text as far as it can be read, and all faults, by position.

    With errors among the faults the site is incomplete and must not be used. None: not a site at all.
    """
    try:
        documents = load_documents(text, file)
    except FaultyFile as error:
        return None, list(error.faults)
    reader = _Reader(file, text)
    if len(documents) != 1:
        reader.fault((1, 1) if documents else _NOWHERE, "a site file holds exactly one document", "start with site:")
        return None, reader.faults
    site = reader.read(documents[0])
    return site, sorted(set(reader.faults))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FaultyFile([Fault(str(path), 0, 0, f"cannot be read: {error.strerror}")]) from error


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FaultyFile([Fault(file, 0, 0, f"is not UTF-8 text (byte {error.start})")]) from error


def nearest(word: str, among: Iterable[str]) -> str:
    """The most similar of the words, "" if none is similar."""
    words = list(among)
    if len(words) > NEAREST_AMONG:
        words = [
            one for one in words
            if abs(len(one) - len(word)) <= 2 and (one[:3] == word[:3] or one[-3:] == word[-3:])
        ]  # fmt: skip
    found = difflib.get_close_matches(word, words[:NEAREST_AMONG], n=1)
    if not found:
        lower = {one.lower(): one for one in words}
        return lower.get(word.lower(), "")
    return found[0]


class _Reader:
    """One run over one file. `nodes` maps each asset id to (class, the map it stands in)."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.lines: list[str] | None = None
        self.faults: list[Fault] = []
        self.zone_of_time: tzinfo = UTC
        self.nodes: dict[str, tuple[str, Any]] = {}
        self.aliases: dict[tuple[str, str], tuple[str, Any]] = {}
        self.addresses: dict[str, list[tuple[Span, str]]] = {}
        self.macs_taken: dict[str, str] = {}

    # ---- faults and positions -------------------------------------------------------------------

    def fault(self, at: Mark, message: str, hint: str = "", severity: str = "error") -> None:
        self.faults.append(Fault(self.file, at[0], at[1], message, hint, severity))

    def hint(self, word: str, among: Iterable[str], otherwise: str = "") -> str:
        if len(self.faults) >= NEAREST_FAULTS:
            return otherwise
        near = nearest(word, among)
        return f"did you mean {near!r}?" if near else otherwise

    @staticmethod
    def at(data: Any, key: str | int | None = None) -> Mark:
        """Where a map or list starts, or where its value `key` stands."""
        if isinstance(data, MarkedDict):
            return data.values_at.get(key, data.mark) if isinstance(key, str) else data.mark
        if isinstance(data, MarkedList):
            return data.items_at[key] if isinstance(key, int) else data.mark
        return _NOWHERE

    def _as_written(self, value: Any, at: Mark) -> str:
        """The text of a scalar that YAML read as a number: badge 0417 is not 271."""
        if at[0] and self.text:
            if self.lines is None:
                self.lines = self.text.splitlines()
            found = _PLAIN.match(self.lines[at[0] - 1], at[1] - 1)
            if found:
                return found[0]
        return str(value)

    # ---- values -------------------------------------------------------------------------------

    def map(self, data: Any, what: str, at: Mark) -> bool:
        """Whether this is a map; its unknown and missing keys become faults."""
        if not isinstance(data, Mapping):
            self.fault(
                at, f"{_a(what)} must be a map with {', '.join(_REQUIRED[what]) or 'keys'}, this is {_kind(data)}"
            )
            return False
        known = _KNOWN[what]
        if not data.keys() <= known:
            for key in data:
                if key not in known:
                    where = data.keys_at[key] if isinstance(data, MarkedDict) else _NOWHERE
                    self.fault(where, f"unknown key {key!r} in {_a(what)}", self.hint(key, known, _one_of(known)))
        for key in _REQUIRED[what]:
            if data.get(key) is None:
                self.fault(self.at(data, key), f"{_a(what)} needs {key!r}")
        return True

    def items(self, data: Any, key: str, what: str) -> Iterator[tuple[Any, Mark]]:
        """The entries of a list under a key with their positions; anything else is a fault."""
        value = data.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.fault(self.at(data, key), f"{key!r} must be a list of {what}, this is {_kind(value)}", "write [ ... ]")
            return
        for index, item in enumerate(value):
            yield item, _NOWHERE if not isinstance(value, MarkedList) else value.items_at[index]

    def maps(self, data: Any, key: str, what: str) -> Iterator[Any]:
        """The maps of a list under a key, each with its keys checked."""
        for item, at in self.items(data, key, _plural(what)):
            if self.map(item, what, at):
                yield item

    def word(self, data: Any, key: str) -> str:
        """A text as written, "" if absent or wrong (a fault)."""
        value = data.get(key)
        if type(value) is str:
            if not value:
                self.fault(self.at(data, key), f"{key!r} is empty")
            return value
        if value is None:
            return ""
        if isinstance(value, list | Mapping):
            self.fault(self.at(data, key), f"{key!r} must be a text, this is {_kind(value)}")
            return ""
        return self._as_written(value, self.at(data, key))

    def words(self, data: Any, key: str) -> list[tuple[str, Mark]]:
        """The texts of a list with their positions."""
        found = []
        for item, at in self.items(data, key, "texts"):
            if item is None or item == "" or isinstance(item, list | Mapping):
                self.fault(at, f"{key!r} must hold texts, this is {_kind(item)}")
            else:
                found.append((item if isinstance(item, str) else self._as_written(item, at), at))
        return found

    def flag(self, data: Any, key: str) -> bool:
        value = data.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.fault(self.at(data, key), f"{key!r} must be true or false, this is {value!r}")
        return False

    def number(self, data: Any, key: str, low: float, high: float | None, whole: bool) -> float | None:
        value = data.get(key)
        if value is None:
            return None
        good = (isinstance(value, int) and not isinstance(value, bool)) or (not whole and isinstance(value, float))
        if good and low <= value and (high is None or value <= high):
            return float(value)
        what = "a whole number" if whole else "a number"
        wanted = f"{what} from {low:g} to {high:g}" if high is not None else f"{what} not below {low:g}"
        shown = value if isinstance(value, str | int | float) else _kind(value)
        self.fault(self.at(data, key), f"{key!r} must be {wanted}, this is {shown}")
        return None

    def time(self, data: Any, key: str, end: bool = False) -> int | None:
        """Ms UTC of a date or time; a date is the whole local day, so as an end it is included."""
        value = data.get(key)
        if value is None:
            return None
        text = value if isinstance(value, str) else ""
        try:
            if _DATE.fullmatch(text):
                day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
                midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone_of_time)
                return int(midnight.timestamp()) * 1_000
            return parse_iso(text, self.zone_of_time)[0]
        except (ValueError, OverflowError):
            at = self.at(data, key)
            shown = self._as_written(value, at) if not isinstance(value, list | Mapping) else _kind(value)
            self.fault(at, f"{key!r} must be a date or time, this is {shown}", "such as 2026-03-01 or 2026-03-01T07:30")
            return None

    def span(self, data: Any, start: str = "valid_from", end: str = "valid_to") -> Span:
        if data.get(start) is None and data.get(end) is None:
            return ALWAYS
        from_ms, to_ms = self.time(data, start), self.time(data, end, end=True)
        if from_ms is not None and to_ms is not None and to_ms <= from_ms:
            self.fault(self.at(data, end), f"{end!r} is not after {start!r}", f"{start} is {data[start]}")
        return Span(from_ms, to_ms)

    def chosen(self, data: Any, key: str, among: Mapping[str, Any], what: str) -> str:
        """A word of a closed vocabulary, "" with a fault if it is none."""
        word = self.word(data, key)
        if word and word not in among:
            self.fault(self.at(data, key), f"unknown {what} {word!r}", self.hint(word, among, _one_of(among)))
            return ""
        return word

    # ---- names --------------------------------------------------------------------------------

    def declare(self, data: Any, asset_class: str, asset: str) -> bool:
        """Take an id into the name space; False if there is none or it is taken."""
        if not asset:
            return False
        if asset == OUTSIDE or asset.startswith("unknown:"):
            self.fault(self.at(data, "id"), f"{asset!r} cannot be an id", "the word is reserved")
            return False
        if asset in self.nodes:
            first_class, first = self.nodes[asset]
            self.fault(self.at(data, "id"), f"id {asset!r} is given twice", _first(first_class, self.at(first, "id")))
            return False
        self.nodes[asset] = (asset_class, data)
        self.alias(data, asset_class, asset, asset)
        return True

    def alias(self, data: Any, asset_class: str, alias: str, asset: str, at: Mark | None = None) -> None:
        """Take a name that messages use; one name means one thing of a class."""
        known = self.aliases.get((asset_class, alias))
        if known is None:
            self.aliases[asset_class, alias] = (asset, data)
        elif known[0] != asset:
            self.fault(
                at or self.at(data, "id"), f"{alias!r} already names another {asset_class}", f"it is {known[0]!r}"
            )

    def other_names(self, data: Any, asset_class: str, asset: str) -> tuple[str, ...]:
        if data.get("aliases") is None:
            return ()
        found = self.words(data, "aliases")
        for alias, at in found:
            self.alias(data, asset_class, alias, asset, at)
        return tuple(alias for alias, _ in found)

    def known(self, name: str, at: Mark, classes: tuple[str, ...] = ()) -> bool:
        """Whether a reference leads to something (of these classes); a fault if not."""
        node = self.nodes.get(name)
        what = " or ".join(_plain(one) for one in classes) or "asset"
        if node is None:
            among: Iterable[str] = self.nodes
            if classes:
                among = [one for one, (asset_class, _) in self.nodes.items() if asset_class in classes]
            self.fault(at, f"there is no {what} {name!r}", self.hint(name, among))
            return False
        if classes and node[0] not in classes:
            self.fault(at, f"{name!r} is {_a(_plain(node[0]))}, here {_a(what)} is needed")
            return False
        return True

    def references(self, data: Any, key: str, classes: tuple[str, ...] = ()) -> tuple[str, ...]:
        if data.get(key) is None:
            return ()
        return tuple(name for name, at in self.words(data, key) if self.known(name, at, classes))

    # ---- sections -----------------------------------------------------------------------------

    def read(self, data: Any) -> Site | None:
        if not self.map(data, "site file", self.at(data) if isinstance(data, MarkedDict) else (1, 1)):
            return None
        head = data.get("site") if isinstance(data.get("site"), Mapping) else {}
        if data.get("site") is not None:
            self.map(data["site"], "site", self.at(data, "site"))
        timezone_name = self.word(head, "timezone") or "UTC"
        try:
            self.zone_of_time = zone_named(timezone_name)
        except ValueError as error:
            self.fault(self.at(head, "timezone"), str(error), self.hint(timezone_name, _timezones()))
        floors, zones, doors = self.floors(data)
        assets = self.assets(data)
        people_at = list(self.maps(data, "people", "person"))
        for person in people_at:
            self.declare(person, "person", self.word(person, "id"))
        services_at = list(self.maps(data, "services", "service"))
        services_at = [item for item in services_at if self.declare(item, "service", self.word(item, "id"))]
        protections_at = list(self.maps(data, "protections", "protection"))
        protections_at = [item for item in protections_at if self.declare(item, "protection", self.word(item, "id"))]
        people = self.people(people_at)
        relations = self.relations(data)
        services = {service.id: service for service in map(self.service, services_at)}
        self.circles(services, services_at)
        protections = {one.id: one for one in map(self.protection, protections_at)}
        site = Site(
            id=self.word(head, "id"),
            name=self.word(head, "name") or self.word(head, "id"),
            timezone=self.zone_of_time,
            timezone_name=timezone_name,
            floors=floors,
            zones=zones,
            doors=doors,
            assets=assets,
            people=people,
            relations=relations,
            services=services,
            protections=protections,
            windows=self.windows(data),
            contacts=self.contacts(data),
            sources=self.sources(data),
            tokens=self.tokens(data),
            coordinates=self.coordinates(head),
            unlocode=self.unlocode(head),
        )
        self.warn(site)
        return site

    def floors(self, data: Any) -> tuple[dict[str, Floor], dict[str, Zone], dict[str, Door]]:
        floors: dict[str, Floor] = {}
        zones: dict[str, Zone] = {}
        doors: dict[str, Door] = {}
        floors_at: dict[str, Any] = {}
        doors_at: list[tuple[str, Any]] = []
        for item in self.maps(data, "floors", "floor"):
            floor = self.word(item, "id")
            if floor in floors_at:
                self.fault(self.at(item, "id"), f"id {floor!r} is given twice",
                           _first("floor", self.at(floors_at[floor], "id")))  # fmt: skip
                continue
            floors_at[floor] = item
            floors[floor] = Floor(
                floor, self.word(item, "name") or floor, self.word(item, "building"), self.word(item, "background"),
                self.coordinates(item),
            )  # fmt: skip
            for zone in self.maps(item, "zones", "zone"):
                made = self.zone(zone, floor)
                if made is not None:
                    zones[made.id] = made
            doors_at += [(floor, door) for door in self.maps(item, "doors", "door")]
        for floor, item in doors_at:  # after all zones: a stair leads to another floor
            door = self.door(item, floor)
            if door is not None:
                doors[door.id] = door
        return floors, zones, doors

    def coordinates(self, item: Any) -> tuple[float, float] | None:
        """Latitude and longitude, WGS 84."""
        if item.get("coordinates") is None:
            return None
        at = self.at(item, "coordinates")
        found = self.point(item["coordinates"], at, "[latitude, longitude]")
        if found is not None and not (-90 <= found[0] <= 90 and -180 <= found[1] <= 180):
            self.fault(at, "coordinates are degrees: latitude -90 to 90, then longitude -180 to 180")
            return None
        return found

    def unlocode(self, item: Any) -> str:
        text = self.word(item, "unlocode")
        if text and not _UNLOCODE.fullmatch(text):
            self.fault(self.at(item, "unlocode"), f"{text!r} is no UN/LOCODE", "country and place, such as IT FLR")
            return ""
        return text

    def zone(self, item: Any, floor: str) -> Zone | None:
        zone = self.word(item, "id")
        taken = self.declare(item, "zone", zone)
        made = Zone(
            id=zone,
            name=self.word(item, "name") or zone,
            floor=floor,
            restricted=self.flag(item, "restricted"),
            hours=self.hours(item),
            outline=self.outline(item),
            aliases=self.other_names(item, "zone", zone),
        )
        return made if taken else None

    def hours(self, item: Any) -> tuple[tuple[Minutes, ...], ...] | None:
        hours = item.get("hours")
        if hours is None:
            return None
        if not isinstance(hours, Mapping):
            self.fault(self.at(item, "hours"), f"'hours' must be a map of weekdays, this is {_kind(hours)}",
                       'such as {mon: ["07:00-19:00"]}')  # fmt: skip
            return None
        week: list[tuple[Minutes, ...]] = [()] * 7
        for day in hours:
            if day not in WEEKDAYS:
                where = hours.keys_at[day] if isinstance(hours, MarkedDict) else _NOWHERE
                self.fault(where, f"unknown weekday {day!r}", self.hint(day, WEEKDAYS, _one_of(WEEKDAYS)))
                continue
            spans = []
            for text, at in self.words(hours, day):
                found = _SPAN_OF_DAY.fullmatch(text)
                if not found:
                    self.fault(at, f"{text!r} is no span of a day", 'such as "07:00-19:00" or "22:00-06:00"')
                    continue
                start = int(found[1]) * 60 + int(found[2])
                end = 24 * 60 if found[5] else int(found[3]) * 60 + int(found[4])
                if start == end:
                    self.fault(at, f"{text!r} starts and ends at the same time", 'a whole day is "00:00-24:00"')
                    continue
                spans.append((start, end))
            week[WEEKDAYS.index(day)] = tuple(sorted(spans))
        return tuple(week)

    def outline(self, item: Any) -> tuple[tuple[float, float], ...]:
        points = []
        for point, at in self.items(item, "outline", "points [x, y]"):
            made = self.point(point, at)
            if made is not None:
                points.append(made)
        if item.get("outline") is not None and len(points) < 3:
            self.fault(self.at(item, "outline"), "an outline needs at least three points [x, y]")
        return tuple(points)

    def point(self, value: Any, at: Mark, hint: str = "[x, y]") -> tuple[float, float] | None:
        if isinstance(value, list) and len(value) == 2:
            x, y = value
            if all(isinstance(one, int | float) and not isinstance(one, bool) for one in (x, y)):
                return float(x), float(y)
        self.fault(at, "a point must be two numbers", hint)
        return None

    def door(self, item: Any, floor: str) -> Door | None:
        door = self.word(item, "id")
        taken = self.declare(item, "door", door)
        sides = [(name, at) for name, at in self.words(item, "between")]
        if item.get("between") is not None and len(sides) != 2:
            self.fault(self.at(item, "between"), f"a door lies between two zones, here are {len(sides)}",
                       "[zone, zone] or [outside, zone]")  # fmt: skip
            sides = []
        good = [name == OUTSIDE or self.known(name, at, ("zone",)) for name, at in sides]
        if len(sides) == 2 and sides[0][0] == sides[1][0]:
            self.fault(sides[1][1], f"both sides of the door are {sides[0][0]!r}", "name two different zones")
            good = [False]
        walk_ms = self.number(item, "walk_ms", 0, None, whole=True)
        at = item.get("at")
        names = self.other_names(item, "door", door)
        place = self.point(at, self.at(item, "at")) if at is not None else None
        one_way = self.flag(item, "one_way")
        if not taken or not sides or not all(good):
            return None
        return Door(
            id=door,
            name=self.word(item, "name"),
            floor=floor,
            between=(sides[0][0], sides[1][0]),
            one_way=one_way,
            walk_ms=int(walk_ms) if walk_ms is not None else DOOR_WALK_MS,
            at=place,
            aliases=names,
        )

    def assets(self, data: Any) -> dict[str, Asset]:
        assets: dict[str, Asset] = {}
        for item in self.maps(data, "assets", "asset"):
            asset = self.word(item, "id")
            asset_class = self.word(item, "class")
            if asset_class in _ELSEWHERE:
                self.fault(self.at(item, "class"), f"an asset here cannot be {_a(_plain(asset_class))}",
                           _ELSEWHERE[asset_class])  # fmt: skip
            elif asset_class and asset_class not in ASSET_CLASSES:
                allowed = [name for name in ASSET_CLASSES if name not in _ELSEWHERE]
                self.fault(self.at(item, "class"), f"unknown class {asset_class!r}",
                           self.hint(asset_class, allowed, _one_of(allowed)))  # fmt: skip
                asset_class = "device"
            taken = self.declare(item, asset_class, asset)
            zone = self.word(item, "zone")
            if zone and (zone not in self.nodes or self.nodes[zone][0] != "zone"):
                self.known(zone, self.at(item, "zone"), ("zone",))
            criticality = self.number(item, "criticality", 0, 5, whole=True)
            span = self.span(item)
            made = Asset(
                id=asset,
                asset_class=asset_class,
                name=self.word(item, "name"),
                zone=zone,
                criticality=int(criticality or 0),
                ips=self.ips(item, asset, span) if item.get("ip") is not None else (),
                macs=self.macs(item, asset) if item.get("mac") is not None else (),
                aliases=self.other_names(item, asset_class, asset),
                span=span,
            )
            if taken:
                assets[asset] = made
        return assets

    def ips(self, item: Any, asset: str, life: Span) -> tuple[Address, ...]:
        addresses = []
        for entry, at in self.items(item, "ip", "addresses"):
            span, text, mark = life, entry, at
            if isinstance(entry, Mapping):
                if not self.map(entry, "address", at):
                    continue
                text, mark = self.word(entry, "ip"), self.at(entry, "ip")
                span = self.span(entry)
            try:
                ip = text if isinstance(text, str) else ""
                if not _IPV4.fullmatch(ip):
                    ip = str(ip_address(ip))
            except ValueError:
                shown = text if isinstance(text, str) else self._as_written(text, mark)
                self.fault(mark, f"{shown!r} is no IP address", "such as 10.20.0.15 or 2001:db8::15")
                continue
            holders = self.addresses.setdefault(ip, [])
            for other_span, other in holders:
                if other_span.overlaps(span):
                    again = "is given twice" if other == asset else f"is that of {other!r} too at the same time"
                    self.fault(mark, f"IP address {ip} {again}", "give valid_from and valid_to, or correct one")
                    break
            holders.append((span, asset))
            addresses.append(Address(ip, span))
        return tuple(addresses)

    def macs(self, item: Any, asset: str) -> tuple[str, ...]:
        macs = []
        for text, at in self.words(item, "mac"):
            mac = text.lower().replace("-", ":")
            if not _MAC.fullmatch(mac):
                self.fault(at, f"{text!r} is no MAC address", "such as 02:00:5e:10:00:01")
                continue
            other = self.macs_taken.setdefault(mac, asset)
            if other != asset:
                self.fault(at, f"MAC address {mac} is that of {other!r} too", "correct one")
            macs.append(mac)
        return tuple(macs)

    def people(self, items: list[Any]) -> dict[str, Person]:
        people: dict[str, Person] = {}
        held: dict[tuple[str, str], list[tuple[Span, str]]] = {}
        for item in items:
            person = self.word(item, "id")
            made = Person(
                id=person,
                name=self.word(item, "name"),
                roles=tuple(role for role, _ in self.words(item, "roles")),
                badges=self.credentials(item, "badges", "badge", person, held),
                accounts=self.credentials(item, "accounts", "account", person, held),
                works_in=self.references(item, "works_in", ("zone",)),
                aliases=self.other_names(item, "person", person),
            )
            people.setdefault(person, made)
        return people

    def credentials(
        self, item: Any, key: str, what: str, person: str, held: dict[tuple[str, str], list[tuple[Span, str]]]
    ) -> tuple[Credential, ...]:
        made = []
        for entry, at in self.items(item, key, _plural(what)):
            if isinstance(entry, Mapping):
                if not self.map(entry, what, at):
                    continue
                name, mark = self.word(entry, "id"), self.at(entry, "id")
                span, disabled = self.span(entry), self.time(entry, "disabled_from")
            elif entry is None or isinstance(entry, list):
                self.fault(at, f"{_a(what)} must be an id or a map with id, this is {_kind(entry)}")
                continue
            else:
                name = entry if isinstance(entry, str) else self._as_written(entry, at)
                mark, span, disabled = at, ALWAYS, None
            if not name:
                continue
            holders = held.setdefault((what, name), [])
            for other_span, other in holders:
                if other_span.overlaps(span):
                    who = "twice by the same person" if other == person else f"by {other!r} too at the same time"
                    verb = "held" if what == "badge" else "owned"
                    self.fault(mark, f"{what} {name!r} is {verb} {who}", "end one before the other begins (valid_to)")
                    break
            holders.append((span, person))
            self.nodes.setdefault(f"{what}:{name}", (what, entry))
            made.append(Credential(name, span, disabled))
        return tuple(made)

    def relations(self, data: Any) -> tuple[Relation, ...]:
        relations = []
        for item in self.maps(data, "relations", "relation"):
            kind = self.chosen(item, "type", RELATION_TYPES, "relation type")
            source, target = self.word(item, "from"), self.word(item, "to")
            good = bool(kind and source and target)
            for key, name in (("from", source), ("to", target)):
                if name and name not in self.nodes:
                    good = self.known(name, self.at(item, key)) and good
            if good and source == target:
                self.fault(self.at(item, "to"), f"{source!r} is related to itself", "name two different things")
            elif good:
                self.ends(item, kind, source, target)
            strength = self.number(item, "strength", 0, 1, whole=False)
            delay_ms = self.number(item, "delay_ms", 0, None, whole=True)
            relations.append(
                Relation(source, target, kind, self.span(item), strength, None if delay_ms is None else int(delay_ms))
            )
        return tuple(relations)

    def ends(self, item: Any, kind: str, source: str, target: str) -> None:
        """A fault when an end of a relation is of a class that it cannot have."""
        relation = RELATION_TYPES[kind]
        classes = self.nodes[source][0], self.nodes[target][0]
        for key, name, allowed, index in (("from", source, relation.sources, 0), ("to", target, relation.targets, 1)):
            if allowed and classes[index] not in allowed:
                turned = (not relation.sources or classes[1] in relation.sources) and (
                    not relation.targets or classes[0] in relation.targets
                )
                hint = f"turn it round: from: {target}, to: {source}" if turned else _one_of(allowed)
                self.fault(self.at(item, key), f"{name!r} is {_a(_plain(classes[index]))}, {key!r} of {kind} cannot be",
                           hint)  # fmt: skip
                return

    def service(self, item: Any) -> Service:
        service = self.word(item, "id")
        criticality = self.number(item, "criticality", 0, 5, whole=True)
        needs = item.get("needs")
        part = self.need(needs, self.at(item, "needs")) if needs is not None else None
        if part is None or isinstance(part, str):
            part = Need(1, (part,)) if part is not None else Need(0, ())
        return Service(service, self.word(item, "name") or service, int(criticality or 0), part)

    def need(self, value: Any, at: Mark) -> Need | str | None:
        """A need: an id or a group; None with a fault."""
        if not isinstance(value, Mapping):
            if value is None or isinstance(value, list):
                self.fault(at, f"a need is an id or a group, this is {_kind(value)}", "{all_of: [ ... ]}")
                return None
            name = value if isinstance(value, str) else self._as_written(value, at)
            return name if self.known(name, at) else None
        if not self.map(value, "group of needs", at) or not value.keys() <= _KNOWN["group of needs"]:
            return None
        if len(value) != 1:
            self.fault(at, "a group of needs has exactly one of all_of, any_of, k_of", "nest groups instead")
            return None
        how = next(iter(value))
        holder, key = value, how
        wanted: float | None = None
        if how == "k_of":
            if not self.map(value[how], "k_of", self.at(value, how)):
                return None
            holder, key = value[how], "of"
            wanted = self.number(holder, "k", 1, None, whole=True)
        parts = [self.need(part, where) for part, where in self.items(holder, key, "needs")]
        if isinstance(holder.get(key), list) and not parts:
            self.fault(self.at(holder, key), f"{key!r} is empty", "name at least one need")
        k = len(parts) if how == "all_of" else 1 if how == "any_of" else int(wanted or 1)
        if parts and k > len(parts):
            self.fault(self.at(holder, "k"), f"k is {k}, but only {len(parts)} needs are listed", f"1 to {len(parts)}")
        return Need(k, tuple(part for part in parts if part is not None))

    def circles(self, services: dict[str, Service], items: list[Any]) -> None:
        """One fault for each circle of services that need each other."""
        needed = {one: [name for name in made.needs.ids() if name in services] for one, made in services.items()}
        where = {self.word(item, "id"): self.at(item, "needs") for item in items}
        done: set[str] = set()
        for start in services:
            path: list[str] = []
            stack = [(start, iter(needed[start]))] if start not in done else []
            path.append(start)
            while stack:
                name, rest = stack[-1]
                following = next(rest, None)
                if following is None:
                    done.add(name)
                    stack.pop()
                    path.pop()
                elif following in path:
                    circle = [*path[path.index(following) :], following]
                    self.fault(where[following], f"services need each other in a circle: {' -> '.join(circle)}",
                               "take one of these needs out")  # fmt: skip
                elif following not in done:
                    stack.append((following, iter(needed[following])))
                    path.append(following)

    def protection(self, item: Any) -> Protection:
        asset = self.word(item, "asset")
        if asset:
            self.known(asset, self.at(item, "asset"))
        against = []
        for threat, at in self.words(item, "against"):
            if threat not in THREAT_TYPES:
                self.fault(at, f"unknown threat type {threat!r}",
                           self.hint(threat, THREAT_TYPES, "the words are listed in docs/site.md"))  # fmt: skip
            against.append(threat)
        degree = self.number(item, "degree", 0, 1, whole=False)
        return Protection(self.word(item, "id"), asset, tuple(against), self.references(item, "of"), degree or 0.0)

    def windows(self, data: Any) -> dict[str, Window]:
        windows: dict[str, Window] = {}
        first: dict[str, Any] = {}
        for item in self.maps(data, "windows", "window"):
            window = self.word(item, "id")
            if window in first:
                self.fault(self.at(item, "id"), f"id {window!r} is given twice",
                           _first("window", self.at(first[window], "id")))  # fmt: skip
            first.setdefault(window, item)
            span = self.span(item, "from", "to")
            if not item.get("zones") and not item.get("assets"):
                self.fault(self.at(item), f"window {window!r} names no place", "give zones or assets")
            windows[window] = Window(
                id=window,
                from_ms=span.from_ms or 0,
                to_ms=span.to_ms or 0,
                why=self.word(item, "why"),
                zones=self.references(item, "zones", ("zone",)),
                assets=self.references(item, "assets"),
                people=self.references(item, "people", ("person",)),
                kinds=self.kinds(item),
            )
        return windows

    def kinds(self, item: Any) -> tuple[str, ...]:
        found = []
        for kind, at in self.words(item, "kinds"):
            group = kind.endswith(".*") and any(one.startswith(kind[:-1]) for one in KINDS)
            if kind not in KINDS and not group:
                self.fault(at, f"unknown event kind {kind!r}", self.hint(kind, KINDS, "or a group such as door.*"))
            found.append(kind)
        return tuple(found)

    def contacts(self, data: Any) -> tuple[Contact, ...]:
        return tuple(
            Contact(
                role=self.word(item, "role"),
                phone=self.word(item, "phone"),
                name=self.word(item, "name"),
                zones=self.references(item, "zones", ("zone",)),
            )
            for item in self.maps(data, "contacts", "contact")
        )

    def sources(self, data: Any) -> dict[str, SourceNote]:
        sources: dict[str, SourceNote] = {}
        for item in self.maps(data, "sources", "source"):
            name = self.word(item, "name")
            if name in sources:
                self.fault(self.at(item, "name"), f"source {name!r} is given twice")
            reliability = self.number(item, "reliability", 0, 1, whole=False)
            sources[name] = SourceNote(name, reliability or 0.0, self.references(item, "assets"))
        return sources

    def tokens(self, data: Any) -> dict[str, str]:
        value = data.get("tokens")
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.fault(self.at(data, "tokens"), f"'tokens' must be a map, this is {_kind(value)}")
            return {}
        return {name: self.word(value, name) for name in value}

    # ---- warnings -----------------------------------------------------------------------------

    def warn(self, site: Site) -> None:
        """What makes the site less useful than it could be, though it can be used."""
        sides = {zone for door in site.doors.values() for zone in door.between}
        linked = {name for one in site.relations if one.type == "leads_to" for name in (one.source, one.target)}
        for zone in site.zones:
            if zone not in sides and zone not in linked:
                self._warning(zone, f"zone {zone!r} has no door", "nobody is ever expected there; add its door")
        placed = {one.source for one in site.relations if one.type in ("in_zone", "part_of")}
        placed |= {one.target for one in site.relations if one.type == "hosts"}
        at_a_door = {one.source for one in site.relations if one.type in ("controls", "part_of")}
        for asset in site.assets.values():
            if asset.asset_class == "host" and not asset.zone and asset.id not in placed:
                self._warning(asset.id, f"host {asset.id!r} stands in no zone", "give its zone, or what hosts it")
            elif asset.asset_class == "reader" and asset.id not in at_a_door:
                self._warning(asset.id, f"reader {asset.id!r} belongs to no door",
                              f"relations: {{from: {asset.id}, to: <door>, type: controls}}")  # fmt: skip

    def _warning(self, node: str, message: str, hint: str) -> None:
        self.fault(self.at(self.nodes[node][1], "id"), message, hint, "warning")


def _kind(value: Any) -> str:
    """What a value is, in the words of a YAML author."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "a map"
    return f"{value!r}"


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _plain(asset_class: str) -> str:
    return asset_class.replace("_", " ")


def _plural(what: str) -> str:
    return {"person": "people", "address": "addresses"}.get(what, f"{what}s")


def _first(what: str, at: Mark) -> str:
    return f"first, as {_a(_plain(what))}, on line {at[0]}"


def _one_of(words: Iterable[str]) -> str:
    named = sorted(words)
    return f"one of {', '.join(named)}" if len(named) > 1 else f"only {named[0]}"


def _timezones() -> list[str]:
    from zoneinfo import available_timezones  # reads hundreds of files: only when a name was wrong

    return sorted(available_timezones())
