"""Declarative maps: a YAML file that says which field is which, and the one decoder that obeys it.

Two grammars share this core and are described in docs/sources.md: `map: mapped` (any newline-JSON, CSV
or key=value lines) and `map: access` (badge systems, which differ mostly in names). A map is compiled
once by `load_map`; every fault of the file is reported in one run, with line and column.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from importlib.resources import files
from operator import methodcaller
from pathlib import Path
from typing import Any, Final

from correlator.clock import epoch_ms, parse_iso, zone_named
from correlator.errors import Fault, FaultyFile
from correlator.events.event import ENTITY_KINDS, LEVELS, ROLES, Entity, Event
from correlator.events.identity import IDENTIFYING_KINDS
from correlator.events.kinds import KINDS, missing_roles
from correlator.marked import MarkedDict, load_file
from correlator.sources.dialect import Context, Message, Unreadable, entity, parse_object
from correlator.sources.logparts import Hidden, account_entity, host_entity, ip_entity, mac_entity
from correlator.sources.settings import key_fault, nearest, unknown_words, value_fault

IGNORE: Final = "ignore"  # in a kind table: the message is understood and says nothing
_MOST_PARTS = 256  # elements of an `each` list; a controller has at most a few dozen doors
_MAX_ABS_MS = 10**14  # beyond this nothing is a time, and it must fit 64 bits on the wire
_UNIT_NS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

Getter = Callable[[dict[str, Any]], Any]


# ---- what a map compiles to -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Value:
    """Where a text comes from: the first of `getters` that gives one, through a table.

    table: text in lower case -> word; strict: a text that the table does not name is a reject, else it
    stays as it is. default: when no field gives a text (strict: also when the table has no such text).
    """

    getters: tuple[Getter, ...]
    names: tuple[str, ...]
    table: dict[str, str] | None = None
    default: str | None = None
    strict: bool = False

    def read(self, data: dict[str, Any], absent: frozenset[str]) -> str | None:
        """The text, None if there is none. Raises Unreadable (unmapped, wrong_type)."""
        text = ""
        for getter in self.getters:
            value = getter(data)
            if value is not None:
                text = value.strip() if type(value) is str else text_of(value, self.names)
                if text and text.lower() not in absent:
                    break
                text = ""
        if not text:
            return self.default
        if self.table is None:
            return text
        found = self.table.get(text.lower())
        if found is not None:
            return found
        if not self.strict:
            return text
        if self.default is None:
            raise Unreadable("unmapped", f"the map names no {'/'.join(self.names)} {text[:80]!r}")
        return self.default


@dataclass(frozen=True, slots=True)
class Test:
    """One line of `where` or `when`: a field against texts, wildcard patterns, or absence."""

    getter: Getter
    name: str
    texts: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    or_absent: bool

    def holds(self, data: dict[str, Any]) -> bool:
        """Whether the field has one of the values; compared as text, in any case."""
        value = self.getter(data)
        if value is None:
            return self.or_absent
        shape = type(value)
        if shape is dict or shape is list:
            return False
        text = (value.strip() if shape is str else text_of(value, (self.name,))).lower()
        if text in self.texts or (not text and self.or_absent):
            return True
        return any(pattern.fullmatch(text) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a case list: all tests hold -> the kind."""

    tests: tuple[Test, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Time:
    """Where the time is and how it is written.

    form: "iso", "epoch", or a strptime pattern; unit_ns: fixed unit of an epoch, 0 = by magnitude;
    zone: of times without offset; None = the source's clock policy decides.
    """

    getters: tuple[Getter, ...]
    names: tuple[str, ...]
    form: str
    unit_ns: int = 0
    zone: tzinfo | None = None
    year: int = 0


@dataclass(frozen=True, slots=True)
class EntityRule:
    """role:kind, and where its id comes from."""

    role: str
    kind: str
    value: Value


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A compiled map. `version` is the first 16 hex digits of the file's SHA-256."""

    name: str
    dialect: str
    version: str
    format: str
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    separator: str = ""
    time: Time | None = None
    kind: str | Value | tuple[Case, ...] = ""
    level: Value | None = None
    entities: tuple[EntityRule, ...] = ()
    attributes: tuple[str, ...] | None = None
    extra: tuple[tuple[str, Value], ...] = ()
    text: str = ""
    id: tuple[Getter, ...] = ()
    seq: Getter | None = None
    where: tuple[Test, ...] = ()
    each: tuple[str, ...] = ()
    identity: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    repeats: bool = False
    names: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def needs_header(self) -> bool:
        """A CSV map without `columns`: the reader of the file gives them with `with_header`."""
        return self.format == "csv" and not self.columns

    def with_header(self, line: str) -> MapSpec:
        """The map with the columns of a file's first line."""
        return replace(self, columns=tuple(cell.strip() for cell in _cells(line.lstrip("\ufeff"), self.delimiter)))


# ---- reading a message -----------------------------------------------------------------------------


def text_of(value: Any, names: Sequence[str]) -> str:
    """The text form of a JSON scalar: true, 17, 17.5. Raises Unreadable for lists and objects."""
    shape = type(value)
    if shape is str:
        return str(value)
    if shape is bool:
        return "true" if value else "false"
    if shape is int:
        return str(value) if -(10**30) < value < 10**30 else ""
    if shape is float:
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if value is None:
        return ""
    raise Unreadable("wrong_type", f"field {'/'.join(names)!r} must be a text, a number or true/false")


def getter_of(name: str) -> Getter:
    """Reads a field: the dotted name as one key first, then part by part."""
    if "." not in name:
        return methodcaller("get", name)
    parts = name.split(".")

    def get(data: dict[str, Any]) -> Any:
        found = data.get(name)
        if found is not None:
            return found
        found = data
        for part in parts:
            if type(found) is not dict:
                return None
            found = found.get(part)
        return found

    return get


def _cells(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise Unreadable("not_csv", str(error)) from error
    except StopIteration:  # pragma: no cover - a line with a quote is never an empty file
        return []


_PAIR = re.compile(r'([\w.@-]{1,64})=("(?:[^"\\]|\\.)*"|[^\s,;]*)')


def _pairs(line: str, separator: str) -> dict[str, Any]:
    if separator:
        split = (part.partition("=") for part in line.split(separator))
        found = {key.strip(): value.strip().strip('"') for key, equals, value in split if equals}
    else:
        found = {
            key: value[1:-1].replace('\\"', '"') if value[:1] == '"' and len(value) > 1 else value
            for key, value in _PAIR.findall(line)
        }
    if not found:
        raise Unreadable("not_this_dialect", "no key=value pair in the line")
    return found


def _record(payload: bytes, spec: MapSpec) -> dict[str, Any] | None:
    """The fields of a message; None for the header line of a CSV file."""
    if spec.format == "json":
        return parse_object(payload)
    if not payload.strip():
        raise Unreadable("empty", "no bytes where a line should be")
    try:
        line = payload.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Unreadable("not_utf8", f"byte {error.start} is not UTF-8") from error
    if spec.format == "kv":
        return _pairs(line, spec.separator)
    if not spec.columns:
        raise Unreadable("not_csv", "the map has no columns and the file's first line was not given")
    cells = _cells(line, spec.delimiter)
    if len(cells) != len(spec.columns):
        raise Unreadable("not_csv", f"{len(cells)} cells, the map has {len(spec.columns)} columns")
    if tuple(cells) == spec.columns:
        return None
    return dict(zip(spec.columns, cells, strict=True))


@lru_cache(maxsize=8_192)
def _strptime_ms(text: str, pattern: str, zone: tzinfo | None, year: int) -> int | None:
    """ms of a time by pattern; None if it has no offset and there is no zone."""
    if year:  # in front of the pattern, so that 29 February is read in its year
        text, pattern = f"{year} {text}", f"%Y {pattern}"
    stamp = datetime.strptime(text, pattern)  # noqa: DTZ007 - the zone is decided in the next lines
    if stamp.tzinfo is None:
        if zone is None:
            return None
        stamp = stamp.replace(tzinfo=zone)
    return parse_iso(stamp.isoformat())[0]


@lru_cache(maxsize=8_192)
def _iso_ms(text: str, zone: tzinfo | None) -> tuple[int, int] | None:
    if zone is None and datetime.fromisoformat(text).tzinfo is None:
        return None
    return parse_iso(text, zone)


def _time(data: dict[str, Any], rule: Time, context: Context) -> tuple[int | None, int]:
    values = [getter(data) for getter in rule.getters]
    if len(values) == 1 and (type(values[0]) is int or type(values[0]) is float):
        value: Any = values[0]
    else:
        texts = [text_of(value, rule.names).strip() for value in values]
        if not all(texts):
            return None, 0
        value = " ".join(texts)
        if len(value) > 64:
            raise Unreadable("wrong_type", f"field {'/'.join(rule.names)!r} is no time")
    zone = rule.zone if rule.zone is not None else context.clock.zone
    try:
        if rule.form == "epoch":
            made: tuple[int, int] | None = _epoch(value, rule.unit_ns)
        elif rule.form == "iso":
            made = _iso_ms(str(value), zone)
        else:
            ms = _strptime_ms(str(value), rule.form, zone, rule.year)
            made = None if ms is None else (ms, 0)
    except (ValueError, OverflowError) as error:
        raise Unreadable("wrong_type", f"field {'/'.join(rule.names)!r} is no time: {error}"[:200]) from error
    if made is None:  # no offset and no zone: such a time is not trusted
        return None, 0
    if abs(made[0]) >= _MAX_ABS_MS:
        raise Unreadable("impossible_time", f"field {'/'.join(rule.names)!r} is out of range")
    return made


def _epoch(value: Any, unit_ns: int) -> tuple[int, int]:
    if type(value) is str:
        value = int(value) if value.lstrip("-").isdigit() else float(value)
    if not -1e21 < value < 1e21:
        raise ValueError("out of range")
    if not unit_ns:
        return epoch_ms(value)
    ns = value * unit_ns if type(value) is int else round(value * (unit_ns / 1_000)) * 1_000
    return ns // 1_000_000, ns % 1_000_000


# ---- making events ---------------------------------------------------------------------------------


def decode_mapped(message: Message, context: Context) -> list[Event]:
    """Events of a message by the map in `context.settings`. Raises Unreadable."""
    spec = context.settings
    if type(spec) is not MapSpec:
        raise Unreadable("unmapped", "no map is set for this source")
    if message.retained or not message.payload:  # a kept message is not something that happened now
        return []
    data = _record(message.payload, spec)
    if data is None:
        return []
    for test in spec.where:
        if not test.holds(data):
            return []
    if not spec.each:
        made = _event(message, context, spec, data, 0)
        return [] if made is None else [made]
    events = []
    for index, part in enumerate(_parts(data, spec.each)):
        made = _event(message, context, spec, part, index)
        if made is not None:
            events.append(made)
    return events


def _parts(data: dict[str, Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """One record an element where fields hold parallel lists (one a door); else the record itself."""
    lists = {name: data[name] for name in names if type(data.get(name)) is list}
    if not lists:
        return [data]
    count = max(len(items) for items in lists.values())
    if count > _MOST_PARTS:
        raise Unreadable("wrong_type", f"a list of {count} elements; the limit is {_MOST_PARTS}")
    # Copies all the way down, because tokens replace values in place later.
    return [
        deepcopy(data) | {name: (items[at] if at < len(items) else None) for name, items in lists.items()}
        for at in range(count)
    ]


def _event(message: Message, context: Context, spec: MapSpec, data: dict[str, Any], index: int) -> Event | None:
    kind = _kind(spec, data)
    if kind == IGNORE:
        return None
    device_ms: int | None = None
    sub_ns = 0
    if spec.time is not None:
        device_ms, sub_ns = _time(data, spec.time, context)
    entities = _entities(spec, data, context)
    gaps = missing_roles(KINDS[kind], entities)
    if gaps:
        raise Unreadable("missing_field", f"{kind} needs {' and '.join(gaps)}; the fields for it are absent or empty")
    level = spec.level.read(data, spec.absent) if spec.level is not None else None
    extra = {name: value.read(data, spec.absent) for name, value in spec.extra}
    native_id = ""
    if spec.id:
        parts = [text_of(getter(data), ("id",)) for getter in spec.id]
        native_id = "/".join(parts) if all(parts) else ""
    text = _text(spec, message, data)
    seq = _seq(spec, data)

    attributes, text = _attributes(spec, data, extra, text, context)
    return context.event(
        message,
        kind,
        index=index,
        device_ms=device_ms,
        sub_ns=sub_ns,
        native_id=native_id,
        entities=entities,
        attributes=attributes,
        level=level or "",
        text=text,
        seq=seq,
        dedupe_content=spec.repeats,
    )


def _kind(spec: MapSpec, data: dict[str, Any]) -> str:
    rule = spec.kind
    if type(rule) is str:
        return rule
    if type(rule) is Value:
        kind = rule.read(data, spec.absent)
        if kind is None:
            raise Unreadable("missing_field", f"field {'/'.join(rule.names)!r} tells the kind and is missing or empty")
        return kind
    assert type(rule) is tuple
    for case in rule:
        for test in case.tests:
            if not test.holds(data):
                break
        else:
            return case.kind
    raise Unreadable("unmapped", "no case of the map fits the message")


def _entities(spec: MapSpec, data: dict[str, Any], context: Context) -> tuple[Entity, ...]:
    made = []
    for rule in spec.entities:
        text = rule.value.read(data, spec.absent)
        if not text:
            continue
        names = spec.names.get(rule.kind)
        if names:
            text = names.get(text, text)
        one = _named(rule.role, rule.kind, text, context)
        if one is not None and one.id:
            made.append(one)
    return tuple(made)


def _named(role: str, kind: str, text: str, context: Context) -> Entity | None:
    if kind in ("badge", "person"):
        return entity(role, kind, context.identity.token(kind, text))
    if kind == "account":
        return account_entity(context.identity, role, text, machines=True)
    if kind == "host":
        return host_entity(role, text)
    if kind == "ip":
        return ip_entity(role, text)
    if kind == "mac":
        return mac_entity(role, text)
    return entity(role, kind, text)


def _text(spec: MapSpec, message: Message, data: dict[str, Any]) -> str:
    if not spec.text:
        return ""
    if spec.text == "raw":
        return message.payload.decode("utf-8", "replace").rstrip("\r\n")
    return text_of(getter_of(spec.text)(data), (spec.text,))


def _seq(spec: MapSpec, data: dict[str, Any]) -> int:
    if spec.seq is None:
        return 0
    text = text_of(spec.seq(data), ("seq",)).strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Unreadable("wrong_type", "the sequence number must be a whole number")
    return int(text)


def _attributes(
    spec: MapSpec, data: dict[str, Any], extra: dict[str, str | None], text: str, context: Context
) -> tuple[dict[str, Any], str]:
    """The attributes to keep and the text, with tokens wherever an identifying value stands."""
    hidden = Hidden(context.identity)
    tokens: list[tuple[str, str]] = []
    for name, kind in spec.identity:
        holder, key = _holder(data, name)
        if holder is None or holder.get(key) is None:
            continue
        value = holder[key]
        if type(value) is list or type(value) is dict:
            holder[key] = None  # what is in there may name people
            continue
        clear = text_of(value, (name,))
        if clear:
            tokens.append((name, hidden.add(kind, clear)))
    for name in spec.drop:
        holder, key = _holder(data, name)
        if holder is not None:
            holder.pop(key, None)
    attributes = data if spec.attributes is None else _chosen(data, spec.attributes)
    for name, said in extra.items():
        if said is not None:
            attributes[name] = said
    hidden.hide(attributes, ())
    for name, token in tokens:
        holder, key = (attributes, name) if name in attributes else _holder(attributes, name)
        if holder is not None and key in holder:
            holder[key] = token
    return attributes, hidden.text(text) if text else ""


def _chosen(data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    made = {}
    for name in names:
        value = getter_of(name)(data)
        if value is not None:
            made[name] = value
    return made


def _holder(data: dict[str, Any], name: str) -> tuple[dict[str, Any] | None, str]:
    """The mapping in which a dotted name ends, and its last part; None if there is no way to it."""
    if name in data or "." not in name:
        return data, name
    at: Any = data
    *parents, last = name.split(".")
    for part in parents:
        at = at.get(part)
        if type(at) is not dict:
            return None, last
    return at, last


# ---- loading a map ---------------------------------------------------------------------------------

_COMMON_WORDS: Final = (
    "map", "name", "title", "follows", "format", "columns", "delimiter", "separator", "time", "id", "seq", "where",
    "each", "attributes", "text", "identity", "drop", "level", "absent", "repeats", "names",
)  # fmt: skip
_MAPPED_WORDS: Final = ("kind", "entities")
# word of an access map -> (role, kind)
_ACCESS_ENTITIES: Final = {
    "badge": ("actor", "badge"),
    "person": ("actor", "person"),
    "account": ("actor", "account"),
    "door": ("where", "door"),
    "reader": ("where", "reader"),
    "zone": ("where", "zone"),
    "sensor": ("observer", "sensor"),
    "controller": ("observer", "device"),
}
_ACCESS_EXTRA: Final = ("direction", "reason")
_ACCESS_WORDS: Final = ("event", *_ACCESS_ENTITIES, *_ACCESS_EXTRA)
_FORMATS: Final = ("json", "csv", "kv")


def load_map(path: Path | str, shown: str | None = None) -> MapSpec:
    """The compiled map of a file. Raises FaultyFile with everything that is wrong in it."""
    path = Path(path)
    file = shown if shown is not None else str(path)
    documents = load_file(path, file)
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if len(documents) != 1 or not isinstance(documents[0], MarkedDict):
        raise FaultyFile([Fault(file, 1, 1, "a map file holds one mapping", "it begins with `map: mapped`")])
    return _Loader(file, documents[0]).load(version, path.stem)


def shipped_maps() -> dict[str, Path]:
    """The maps that come with the package: name -> file."""
    folder = Path(str(files("correlator.sources"))) / "maps"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def map_settings(settings: Any, file: str) -> MapSpec:
    """The map that the settings of a source name, with the site's own names and zone in it.

    settings: {map: shipped name or path relative to `file`, names?: {entity kind: {name in the
    messages: id of the site model}}, zone?: zone of times without offset}. Raises FaultyFile.
    """
    if not isinstance(settings, dict):
        raise FaultyFile([Fault(file, 0, 0, "settings of a mapped source must be a mapping", "{map: <file>}")])
    faults = unknown_words(settings, ("map", "names", "zone"), file, "settings of a mapped source")
    named = settings.get("map")
    spec: MapSpec | None = None
    if not isinstance(named, str) or not named:
        faults.append(key_fault(settings, "map", file, "map is missing", f"a file, or {', '.join(shipped_maps())}"))
    else:
        path = shipped_maps().get(named) or Path(file).parent / named
        if not path.is_file():
            hint = nearest(named, shipped_maps())
            faults.append(value_fault(settings, "map", file, f"map {named!r} is no file and comes not with us", hint))
        else:
            try:
                spec = load_map(path)
            except FaultyFile as error:
                faults += error.faults
    names = _names(settings, file, faults)
    zone: tzinfo | None = None
    if "zone" in settings:
        try:
            zone = zone_named(str(settings["zone"]))
        except ValueError as error:
            faults.append(value_fault(settings, "zone", file, str(error)))
    if faults or spec is None:
        raise FaultyFile(faults)
    time = spec.time
    if time is not None and zone is not None and time.zone is None:
        time = replace(time, zone=zone)
    return replace(spec, time=time, names=spec.names | names)


def check_map_settings(settings: Any, file: str) -> Sequence[Fault]:
    """What `map_settings` would refuse, as faults."""
    try:
        map_settings(settings, file)
    except FaultyFile as error:
        return error.faults
    return ()


def _names(owner: dict[str, Any], file: str, faults: list[Fault]) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {}
    tables = owner.get("names")
    if tables is None:
        return made
    if not isinstance(tables, dict):
        faults.append(value_fault(owner, "names", file, "names must be a mapping", "{door: {<name>: <id>}}"))
        return made
    faults += unknown_words(tables, ENTITY_KINDS, file, "names")
    for kind, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(id, str) for id in table.values()):
            faults.append(value_fault(tables, kind, file, f"names.{kind} must map texts to ids"))
        else:
            made[kind] = dict(table)
    return made


class _Loader:
    """Reads one map document and collects its faults."""

    def __init__(self, file: str, document: MarkedDict) -> None:
        self.file = file
        self.document = document
        self.faults: list[Fault] = []

    def load(self, version: str, stem: str) -> MapSpec:
        document = self.document
        dialect = document.get("map")
        if dialect not in ("mapped", "access"):
            fault = value_fault if "map" in document else key_fault
            hint = nearest(str(dialect), ("mapped", "access"))
            raise FaultyFile([fault(document, "map", self.file, "map must be `mapped` or `access`", hint)])
        own = _MAPPED_WORDS if dialect == "mapped" else _ACCESS_WORDS
        self.faults += unknown_words(document, (*_COMMON_WORDS, *own), self.file, f"a {dialect} map")
        format = self._word(document, "format", _FORMATS, "json")
        columns = self._texts("columns") if "columns" in document else ()
        if columns and format != "csv":
            self._fault("columns", "columns belong to `format: csv`")
        time = self._time()
        if dialect == "mapped":
            entities = self._entities()
            kind = self._kind("kind")
            extra: tuple[tuple[str, Value], ...] = ()
        else:
            entities = tuple(
                EntityRule(role, of, self._value(document, word))
                for word, (role, of) in _ACCESS_ENTITIES.items()
                if word in document
            )
            kind = self._kind("event")
            extra = tuple((word, self._value(document, word)) for word in _ACCESS_EXTRA if word in document)
        self._check_roles(kind, entities, "kind" if dialect == "mapped" else "event")
        level = self._level()
        attributes = self._attributes()
        identity = self._identity(entities)
        if format == "csv":
            self._check_columns(columns)
        spec = MapSpec(
            name=self._plain("name", stem),
            dialect=dialect,
            version=version,
            format=format,
            columns=columns,
            delimiter=self._character("delimiter", ","),
            separator=self._plain("separator", ""),
            time=time,
            kind=kind,
            level=level,
            entities=entities,
            attributes=attributes,
            extra=extra,
            text=self._plain("text", ""),
            id=tuple(getter_of(name) for name in self._texts("id")),
            seq=getter_of(self._plain("seq", "")) if "seq" in document else None,
            where=self._tests(document, "where"),
            each=self._texts("each"),
            identity=identity,
            drop=self._texts("drop"),
            absent=frozenset(text.lower() for text in self._texts("absent")),
            repeats=self._flag("repeats"),
            names=_names(document, self.file, self.faults),
        )
        if self.faults:
            raise FaultyFile(self.faults)
        return spec

    # -- small words

    def _fault(self, key: str, message: str, hint: str = "", owner: Any = None) -> None:
        owner = self.document if owner is None else owner
        fault = value_fault if key in owner else key_fault
        made = fault(owner, key, self.file, message, hint)
        if not made.line:  # the key is missing: point at the mapping that should have it
            line, column = getattr(owner, "mark", (1, 1))
            made = Fault(self.file, line, column, message, hint)
        self.faults.append(made)

    def _plain(self, key: str, default: str) -> str:
        value = self.document.get(key, default)
        if isinstance(value, str):
            return value
        self._fault(key, f"{key} must be a text", "quote it")
        return default

    def _character(self, key: str, default: str) -> str:
        value = self._plain(key, default)
        if len(value) == 1:
            return value
        self._fault(key, f"{key} must be one character", r'a tab is "\t"')
        return default

    def _flag(self, key: str) -> bool:
        value = self.document.get(key, False)
        if not isinstance(value, bool):
            self._fault(key, f"{key} must be true or false")
        return value is True

    def _word(self, owner: dict[str, Any], key: str, words: Sequence[str], default: str) -> str:
        value = owner.get(key, default)
        if value in words:
            return str(value)
        self._fault(key, f"{key} has no word {value!r}", nearest(str(value), words), owner)
        return default

    def _texts(self, key: str, owner: dict[str, Any] | None = None) -> tuple[str, ...]:
        owner = self.document if owner is None else owner
        value = owner.get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
            return tuple(value)
        self._fault(key, f"{key} must be a text or a list of texts", "", owner)
        return ()

    # -- values and tests

    def _value(
        self, owner: dict[str, Any], key: str, words: Sequence[str] | None = None, what: str = ""
    ) -> Value:
        """A field, a list of fields (the first that is filled), {field, table, default} or {value}.

        words: what a table, a default and a constant may say (then a strict table).
        """
        given = owner[key]
        strict = words is not None
        if not isinstance(given, dict):
            names = self._texts(key, owner)
            return Value(tuple(getter_of(name) for name in names), names, strict=strict)
        self.faults += unknown_words(given, ("field", "table", "default", "value"), self.file, key)
        if "value" in given:
            return Value((), (), default=self._said(given, "value", words, what))
        names = self._texts("field", given)
        if not names:
            self._fault("field", f"{key} needs a field", "field: <name>, or value: <constant>", given)
        table: dict[str, str] | None = None
        if "table" in given:
            table = {}
            if isinstance(given["table"], dict):
                for text in given["table"]:
                    table[text.lower()] = self._said(given["table"], text, words, what)
            else:
                self._fault("table", "table must be a mapping", "{<value>: <word>}", given)
        default = self._said(given, "default", words, what) if "default" in given else None
        return Value(tuple(getter_of(name) for name in names), names, table, default, strict)

    def _said(self, owner: dict[str, Any], key: str, words: Sequence[str] | None, what: str) -> str:
        value = owner[key]
        if not isinstance(value, str):
            if isinstance(value, bool | int | float) and words is None:
                return text_of(value, (key,))
            self._fault(key, f"{key} must be a text", "quote it", owner)
            return ""
        if words is not None and value not in words:
            self._fault(key, f"{value!r} is no {what}", nearest(value, words), owner)
        return value

    def _tests(self, owner: dict[str, Any], key: str) -> tuple[Test, ...]:
        given = owner.get(key)
        if given is None:
            return ()
        if not isinstance(given, dict):
            self._fault(key, f"{key} must be a mapping", "{<field>: <value or list of values>}", owner)
            return ()
        return tuple(self._test(given, name) for name in given)

    def _test(self, given: dict[str, Any], name: str) -> Test:
        values = given[name] if isinstance(given[name], list) else [given[name]]
        texts, patterns, or_absent = set(), [], False
        for value in values:
            if value is None or value == "":
                or_absent = True
            elif isinstance(value, list | dict):
                self._fault(name, f"{name} must be a value or a list of values", "", given)
            elif isinstance(value, str) and "*" in value:
                literal = (re.escape(part) for part in value.lower().split("*"))
                patterns.append(re.compile(".*".join(literal), re.DOTALL))
            else:
                texts.add(text_of(value, (name,)).lower())
        return Test(getter_of(name), name, frozenset(texts), tuple(patterns), or_absent)

    # -- the parts of a map

    def _time(self) -> Time | None:
        given = self.document.get("time")
        if given is None:
            return None
        if isinstance(given, str):
            given = {"field": given}
        if not isinstance(given, dict):
            self._fault("time", "time must be a field or a mapping", "{field: <name>, format: iso}")
            return None
        self.faults += unknown_words(given, ("field", "format", "zone", "unit", "year"), self.file, "time")
        names = self._texts("field", given)
        if not names:
            self._fault("field", "time needs a field", "field: <name>", given)
        form = given.get("format", "iso")
        if form not in ("iso", "epoch") and not (isinstance(form, str) and "%" in form):
            hint = "iso, epoch, or a pattern such as %d/%m/%Y %H:%M:%S"
            self._fault("format", f"{form!r} is no time format", hint, given)
            form = "iso"
        unit_ns = 0
        if "unit" in given:
            unit_ns = _UNIT_NS[self._word(given, "unit", tuple(_UNIT_NS), "s")]
            if form != "epoch":
                self._fault("unit", "unit belongs to `format: epoch`", "", given)
        year = given.get("year", 0)
        if not isinstance(year, int) or isinstance(year, bool) or not (year == 0 or 1970 <= year < 2100):
            self._fault("year", "year must be a number", "the year of the file", given)
            year = 0
        if "%" in form:
            self._check_pattern(given, form, year)
        zone: tzinfo | None = None
        if "zone" in given:
            try:
                zone = zone_named(str(given["zone"]))
            except ValueError as error:
                self._fault("zone", str(error), "", given)
        return Time(tuple(getter_of(name) for name in names), names, form, unit_ns, zone, year)

    def _check_pattern(self, given: dict[str, Any], form: str, year: int) -> None:
        if not any(sign in form for sign in ("%Y", "%y", "%c", "%x")) and not year:
            self._fault("format", "the pattern has no year", "add `year: 2026`, or %Y to the pattern", given)
        try:
            datetime.strptime(datetime(2026, 3, 1, 2, 14, 5, tzinfo=UTC).strftime(form), form)  # noqa: DTZ007
        except (ValueError, re.error) as error:
            self._fault("format", f"the pattern cannot be read: {error}", "see Python's strptime", given)

    def _kind(self, key: str) -> str | Value | tuple[Case, ...]:
        given = self.document.get(key)
        words = (*KINDS, IGNORE)
        if given is None:
            self._fault(key, f"{key} is missing", "a kind, {field, table}, or a list of {when, is}")
            return IGNORE
        if isinstance(given, str):
            return self._said(self.document, key, words, "event kind")
        if isinstance(given, list):
            return tuple(self._case(given, at) for at in range(len(given)))
        if isinstance(given, dict):
            if "table" not in given:
                self._fault("table", f"{key} by field needs a table", "table: {<value>: <kind>}", given)
            return self._value(self.document, key, words, "event kind")
        self._fault(key, f"{key} must be a text, a mapping or a list")
        return IGNORE

    def _case(self, cases: list[Any], at: int) -> Case:
        case = cases[at]
        line, column = getattr(cases, "items_at", [(0, 0)] * len(cases))[at]
        if not isinstance(case, dict) or "is" not in case:
            hint = "{when: {<field>: <value>}, is: <kind>}"
            self.faults.append(Fault(self.file, line, column, "a case needs `is`", hint))
            return Case((), IGNORE)
        self.faults += unknown_words(case, ("when", "is"), self.file, "a case")
        return Case(self._tests(case, "when"), self._said(case, "is", (*KINDS, IGNORE), "event kind"))

    def _level(self) -> Value | None:
        if "level" not in self.document:
            return None
        given = self.document["level"]
        if isinstance(given, str) and given in LEVELS:
            return Value((), (), default=given)
        if isinstance(given, dict):
            if "value" not in given and "table" not in given:
                self._fault("table", "level by field needs a table", "table: {<value>: <level>}", given)
            return self._value(self.document, "level", LEVELS, "level")
        self._fault("level", f"{given!r} is no level", nearest(str(given), LEVELS))
        return None

    def _entities(self) -> tuple[EntityRule, ...]:
        given = self.document.get("entities", [])
        if not isinstance(given, list):
            self._fault("entities", "entities must be a list", "- {role: target, kind: host, field: <name>}")
            return ()
        made = []
        for at, one in enumerate(given):
            if not isinstance(one, dict):
                line, column = getattr(given, "items_at", [(0, 0)] * len(given))[at]
                hint = "{role: target, kind: host, field: <name>}"
                self.faults.append(Fault(self.file, line, column, "an entity must be a mapping", hint))
                continue
            words = ("role", "kind", "field", "table", "default", "value")
            self.faults += unknown_words(one, words, self.file, "an entity")
            for word in ("role", "kind"):
                if word not in one:
                    self._fault(word, f"an entity needs {word}", "", one)
            role = self._word(one, "role", ROLES, "target") if "role" in one else "target"
            kind = self._word(one, "kind", ENTITY_KINDS, "host") if "kind" in one else "host"
            value = MarkedDict(getattr(one, "mark", (0, 0)))
            for key, item in one.items():
                if key in ("field", "table", "default", "value"):
                    value[key] = item
                    value.keys_at[key] = getattr(one, "keys_at", {}).get(key, (0, 0))
                    value.values_at[key] = getattr(one, "values_at", {}).get(key, (0, 0))
            made.append(EntityRule(role, kind, self._value({"entity": value}, "entity")))
        return tuple(made)

    def _check_roles(self, kind: str | Value | tuple[Case, ...], entities: tuple[EntityRule, ...], key: str) -> None:
        """A kind whose required roles no entity of the map can fill would reject every message."""
        if isinstance(kind, str):
            said = {kind}
        elif isinstance(kind, Value):
            said = {*(kind.table or {}).values(), *([kind.default] if kind.default else [])}
        else:
            said = {case.kind for case in kind}
        for name in sorted(said):
            if name in KINDS:
                for gap in missing_roles(KINDS[name], entities):
                    self._fault(key, f"{name} needs an entity {gap}, and the map names none")

    def _attributes(self) -> tuple[str, ...] | None:
        if self.document.get("attributes", "all") == "all":
            return None
        return self._texts("attributes")

    def _identity(self, entities: tuple[EntityRule, ...]) -> tuple[tuple[str, str], ...]:
        made = {
            name: rule.kind for rule in entities if rule.kind in IDENTIFYING_KINDS for name in rule.value.names
        }
        given = self.document.get("identity")
        if given is not None:
            if not isinstance(given, dict):
                self._fault("identity", "identity must be a mapping", "{<field>: person|badge|account}")
            else:
                for name in given:
                    made[name] = self._said(given, name, sorted(IDENTIFYING_KINDS), "identifying kind")
        return tuple(made.items())

    def _check_columns(self, columns: tuple[str, ...]) -> None:
        if len(set(columns)) != len(columns):
            self._fault("columns", "a column is named twice")
