"""Loading map files: the two grammars of docs/sources.md, "Maps", compiled to a `MapSpec`.

Every fault of a file is reported in one run, with line and column and the word that was meant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from correlator.clock import zone_named
from correlator.errors import Fault, FaultyFile
from correlator.events.event import ENTITY_KINDS, LEVELS, ROLES
from correlator.events.identity import IDENTIFYING_KINDS
from correlator.events.kinds import KINDS, missing_roles
from correlator.marked import MarkedDict, load_file
from correlator.sources.fieldmap import (
    IGNORE,
    Case,
    EntityRule,
    MapSpec,
    Test,
    Time,
    Value,
    getter_of,
    text_of,
)
from correlator.sources.settings import key_fault, nearest, unknown_words, value_fault

_UNIT_NS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
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


GRAMMARS: Final = ("mapped", "access")


def load_map(path: Path | str, shown: str | None = None) -> MapSpec:
    """The compiled map of a file. Raises FaultyFile with everything that is wrong in it."""
    path = Path(path)
    file = shown if shown is not None else str(path)
    documents = load_file(path, file)
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if len(documents) != 1 or not isinstance(documents[0], MarkedDict):
        raise FaultyFile([Fault(file, 1, 1, "a map file holds one mapping", "it begins with `map: mapped`")])
    return _Loader(file, documents[0]).load(version, path.stem)


def _version(path: Path, document: MarkedDict) -> str:
    """Of the file's bytes; of the values alone where the document stands inside another file or in none."""
    whole = path.is_file() and load_file(path) == [document]
    return hashlib.sha256(path.read_bytes() if whole else repr(document).encode()).hexdigest()[:16]


def shipped_maps() -> dict[str, Path]:
    """The maps that come with the package: name -> file."""
    folder = Path(str(files("correlator.sources"))) / "maps"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def map_settings(settings: Any, file: str) -> MapSpec:
    """The map that the settings of a source name, with the site's own names and zone in it.

    settings: {map: shipped name or path relative to `file`, names?: {entity kind: {name in the
    messages: id of the site model}}, zone?: zone of times without offset}; or a whole map document
    that was read from `file`; or a MapSpec, which is returned as it is. Raises FaultyFile.
    """
    if isinstance(settings, MapSpec):
        return settings
    if isinstance(settings, MarkedDict) and settings.get("map") in GRAMMARS:
        return _Loader(file, settings).load(_version(Path(file), settings), Path(file).stem)
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
        if dialect not in GRAMMARS:
            self._fault("map", "map must be `mapped` or `access`", nearest(str(dialect), GRAMMARS))
            raise FaultyFile(self.faults)
        own = _MAPPED_WORDS if dialect == "mapped" else _ACCESS_WORDS
        self.faults += unknown_words(document, (*_COMMON_WORDS, *own), self.file, f"a map for {dialect}")
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

    def _value(self, owner: dict[str, Any], key: str, words: Sequence[str] | None = None, what: str = "") -> Value:
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
        made = {name: rule.kind for rule in entities if rule.kind in IDENTIFYING_KINDS for name in rule.value.names}
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
