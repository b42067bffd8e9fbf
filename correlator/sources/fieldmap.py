"""Declarative maps at work: what a map file compiles to, and the one decoder that obeys it.

Two grammars share this core and are described in docs/sources.md: `map: mapped` (any newline-JSON, CSV
or key=value lines) and `map: access` (badge systems, which differ mostly in names). `mapfile` compiles.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from functools import lru_cache
from operator import methodcaller
from typing import Any, Final

from correlator.clock import NoZone, epoch_ms, parse_iso
from correlator.events.event import Entity, Event
from correlator.events.kinds import KINDS, missing_roles
from correlator.sources.dialect import Context, Message, entity
from correlator.sources.hiding import Hidden
from correlator.sources.logparts import account_entity, host_entity, ip_entity, mac_entity
from correlator.sources.reading import Unreadable, parse_object

IGNORE: Final = "ignore"  # in a kind table: the message is understood and says nothing
_MOST_KEPT = 16_384  # combinations of texts remembered by a map, each of texts of at most:
_LONGEST_KEPT = 64
_MOST_PARTS = 256  # elements of an `each` list; a controller has at most a few dozen doors
_MAX_ABS_MS = 10**14  # beyond this nothing is a time, and it must fit 64 bits on the wire

Getter = Callable[[dict[str, Any]], Any]
Values = Callable[[dict[str, Any]], tuple[Any, ...]]


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
            raise Unreadable("unmapped", f"the map names no such {'/'.join(self.names)}", text)
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
class _Who:
    """What a combination of texts comes to: entities, own names (direction, reason), and tokens.

    tokens: identity field -> what stands there in the attributes; None where a list or object is taken
    out. hidden: replaces the clear values elsewhere; None where tokens are the values themselves.
    fit: the kinds whose required roles these entities are known to fill.
    """

    entities: tuple[Entity, ...]
    extra: tuple[tuple[str, str], ...]
    tokens: tuple[tuple[str, str | None], ...]
    hidden: Hidden | None
    fit: set[str]


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A compiled map. `version` is the first 16 hex digits of the file's SHA-256.

    The last four fields follow from the others: badge systems say the same few things of the same few
    doors and people, so what a combination of texts comes to is remembered. The memory is bounded and
    changes no result.
    """

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
    kind_values: Values = field(init=False, repr=False)
    entity_values: Values = field(init=False, repr=False)
    kinds_seen: dict[Any, tuple[str, str]] = field(init=False, repr=False, default_factory=dict)
    entities_seen: dict[Any, _Who] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        of_kind = [test.name for test in self.where]
        if type(self.kind) is Value:
            of_kind += self.kind.names
        elif type(self.kind) is tuple:
            of_kind += [test.name for case in self.kind for test in case.tests]
        if self.level is not None:
            of_kind += self.level.names
        values = [rule.value for rule in self.entities] + [value for _, value in self.extra]
        of_entities = [name for value in values for name in value.names] + [name for name, _ in self.identity]
        object.__setattr__(self, "kind_values", values_of(of_kind))
        object.__setattr__(self, "entity_values", values_of(of_entities))

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


def values_of(names: Iterable[str]) -> Values:
    """Reads the fields of those names, each once, as `getter_of` does."""
    each = tuple(dict.fromkeys(names))
    if not any("." in name for name in each):
        return lambda data: tuple(map(data.get, each))
    getters = [getter_of(name) for name in each]
    return lambda data: tuple([getter(data) for getter in getters])


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


def _line(payload: bytes, spec: MapSpec) -> dict[str, Any] | None:
    """The fields of a CSV or key=value line; None for the header line of a CSV file."""
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
def _strptime_ms(text: str, pattern: str, zone: tzinfo | None, year: int) -> int:
    """ms of a time by pattern. Raises ValueError if it is none; NoZone if it has no offset and there is no zone."""
    if year:  # in front of the pattern, so that 29 February is read in its year
        text, pattern = f"{year} {text}", f"%Y {pattern}"
    stamp = datetime.strptime(text, pattern)  # noqa: DTZ007 - the zone is decided in the next lines
    if stamp.tzinfo is None:
        if zone is None:
            raise NoZone(f"{text!r} has no offset and no zone is declared")
        stamp = stamp.replace(tzinfo=zone)
    return parse_iso(stamp.isoformat())[0]


def _time(data: dict[str, Any], rule: Time, context: Context) -> tuple[int | None, int]:
    value: Any = rule.getters[0](data) if len(rule.getters) == 1 else None
    if type(value) not in (str, int, float):
        texts = [text_of(getter(data), rule.names).strip() for getter in rule.getters]
        value = " ".join(texts) if all(texts) else ""
    if type(value) is str:
        value = value.strip()
        if not value:
            return None, 0
        if len(value) > 64:
            raise Unreadable("wrong_type", f"field {'/'.join(rule.names)!r} is no time")
    zone = rule.zone if rule.zone is not None else context.clock.zone
    try:
        if rule.form == "epoch":
            made = _epoch(value, rule.unit_ns)
        elif rule.form == "iso":
            made = parse_iso(str(value), zone)
        else:
            made = _strptime_ms(str(value), rule.form, zone, rule.year), 0
    except NoZone:  # such a time is not trusted
        return None, 0
    except (ValueError, OverflowError) as error:
        raise Unreadable("wrong_type", f"field {'/'.join(rule.names)!r} is no time", value) from error
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
    data = parse_object(message.payload) if spec.format == "json" else _line(message.payload, spec)
    if data is None:
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
    lists: dict[str, list[Any]] = {}
    for name in names:
        items = data.get(name)
        if type(items) is list:
            lists[name] = items
    if not lists:
        return [data]
    count = max(len(items) for items in lists.values())
    if count > _MOST_PARTS:
        raise Unreadable("wrong_type", f"a list of {count} elements; the limit is {_MOST_PARTS}")
    rest = {name: value for name, value in data.items() if name not in lists}
    nested = any(type(value) is dict or type(value) is list for value in rest.values())
    # What nests is copied all the way down, because tokens replace values in place later.
    return [
        (deepcopy(rest) if nested else rest)
        | {name: (items[at] if at < len(items) else None) for name, items in lists.items()}
        for at in range(count)
    ]


def _event(message: Message, context: Context, spec: MapSpec, data: dict[str, Any], index: int) -> Event | None:
    key = _key(spec.kind_values(data))
    known = spec.kinds_seen.get(key) if key is not None else None
    if known is None:
        known = _told(spec, data)
        if key is not None:
            _remember(spec.kinds_seen, key, known)
    kind, level = known
    if kind == IGNORE:
        return None
    device_ms: int | None = None
    sub_ns = 0
    if spec.time is not None:
        device_ms, sub_ns = _time(data, spec.time, context)
    key = _key(spec.entity_values(data))
    whole_key = (context.identity, key)  # tokens are part of the result
    who = spec.entities_seen.get(whole_key) if key is not None else None
    if who is None:
        who = _who(spec, data, context)
        if key is not None:
            _remember(spec.entities_seen, whole_key, who)
    if kind not in who.fit:
        gaps = missing_roles(KINDS[kind], who.entities)
        if gaps:
            what = f"{kind} needs {' and '.join(gaps)}; the fields for it are absent or empty"
            raise Unreadable("missing_field", what)
        who.fit.add(kind)
    native_id = ""
    if spec.id:
        parts = [text_of(getter(data), ("id",)) for getter in spec.id]
        native_id = "/".join(parts) if all(parts) else ""
    text = _text(spec, message, data) if spec.text else ""
    seq = _seq(spec.seq, data) if spec.seq is not None else 0
    attributes = _attributes(spec, data, who)
    if who.hidden is not None and text:
        text = who.hidden.text(text)
    return context.event(
        message,
        kind,
        index=index,
        device_ms=device_ms,
        sub_ns=sub_ns,
        native_id=native_id,
        entities=who.entities,
        attributes=attributes,
        level=level,
        text=text,
        seq=seq,
        dedupe_content=spec.repeats,
    )


def _key(values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The values as a key of the memory; None for values that are not worth it or would be mistaken.

    true equals 1 and 1.0 in Python, so only texts and whole numbers are taken.
    """
    for value in values:
        if type(value) is str:
            if len(value) > _LONGEST_KEPT:
                return None
        elif value is not None and not (type(value) is int and -(10**18) < value < 10**18):
            return None
    return values


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= _MOST_KEPT:
        memory.clear()
    memory[key] = value


def _told(spec: MapSpec, data: dict[str, Any]) -> tuple[str, str]:
    """Kind and level of a record; `ignore` where the map's filter leaves it out."""
    if not all(test.holds(data) for test in spec.where):
        return IGNORE, ""
    level = spec.level.read(data, spec.absent) if spec.level is not None else None
    return _kind(spec, data), level or ""


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
    if spec.text == "raw":
        return message.payload.decode("utf-8", "replace").rstrip("\r\n")
    return text_of(getter_of(spec.text)(data), (spec.text,))


def _seq(getter: Getter, data: dict[str, Any]) -> int:
    text = text_of(getter(data), ("seq",)).strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Unreadable("wrong_type", "the sequence number must be a whole number")
    return int(text)


def _who(spec: MapSpec, data: dict[str, Any], context: Context) -> _Who:
    tokens: list[tuple[str, str | None]] = []
    hidden: Hidden | None = None
    for name, kind in spec.identity:
        holder, key = _holder(data, name)
        value = holder.get(key)
        if type(value) is list or type(value) is dict:
            tokens.append((name, None))  # what is in there may name people
            continue
        clear = text_of(value, (name,)).strip()
        if clear:
            token = context.identity.token(kind, clear)
            tokens.append((name, token))
            if token != clear:
                hidden = hidden or Hidden(context.identity)
                hidden.add(kind, clear)
    extra = ((name, value.read(data, spec.absent)) for name, value in spec.extra)
    told = tuple((name, said) for name, said in extra if said is not None)
    return _Who(_entities(spec, data, context), told, tuple(tokens), hidden, set())


def _attributes(spec: MapSpec, data: dict[str, Any], who: _Who) -> dict[str, Any]:
    """The attributes to keep, with tokens wherever an identifying value stands. `data` is used up."""
    for name in spec.drop:
        holder, key = _holder(data, name)
        holder.pop(key, None)
    attributes = data if spec.attributes is None else _chosen(data, spec.attributes)
    for name, said in who.extra:
        attributes[name] = said
    hidden = who.hidden
    if hidden is not None:
        attributes = {name: _hide(value, hidden) for name, value in attributes.items()}
    for name, token in who.tokens:
        holder, key = _holder(attributes, name)
        if key in holder:
            holder[key] = token
    return attributes


def _hide(value: Any, hidden: Hidden) -> Any:
    if type(value) is str:
        return hidden.text(value)
    if type(value) is dict:
        return {key: _hide(item, hidden) for key, item in value.items()}
    if type(value) is list:
        return [_hide(item, hidden) for item in value]
    return value


def _chosen(data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    made = {}
    for name in names:
        value = getter_of(name)(data)
        if value is not None:
            made[name] = value
    return made


def _holder(data: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The mapping in which a dotted name ends, and its last part; an empty one if there is no way to it."""
    if name in data or "." not in name:
        return data, name
    at: Any = data
    *parents, last = name.split(".")
    for part in parents:
        at = at.get(part)
        if type(at) is not dict:
            return {}, last
    return at, last
