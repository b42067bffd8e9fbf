"""A scenario folder: what it declares, and its captures read as one merged stream of messages.

    scenarios/<name>/
        README.md        story, phases, provenance
        scenario.yaml    the grammar is in docs/scenarios.md
        site.yaml        the site model
        inputs/          captures: MQTT as JSON lines, logs line by line exactly as written
        maps/            maps of the declarative dialects
        rules/           rules of the scenario's own, if any
        expect.yaml      which threats must come out (correlator.run.expect)

Messages of all inputs, and of the background if one is given, come merged by (received_ms, file,
line). A line of a log that does not carry its receive time gets the largest device time read so far
in that input (design 4); a device time after `until` moves nothing.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from correlator.clock import UNSET_BEFORE_MS, duration_ms, parse_iso, zone_named
from correlator.data import folder as data_folder
from correlator.errors import Fault, FaultyFile, UsageError
from correlator.events.event import Event, Reject
from correlator.marked import MarkedDict, MarkedList, load_file
from correlator.premises import Premises, load_site
from correlator.privacy.private import Private
from correlator.sources import (
    DIALECTS,
    ClockPolicy,
    Context,
    Dialect,
    MapSpec,
    Message,
    filter_problem,
    prepared_settings,
    reject,
    topic_matches,
)
from correlator.sources.envelopes import TIMES, WRITERS, opener
from correlator.sources.settings import key_fault, nearest, unknown_words, value_fault

PACK: Final = "pack"
CARRIERS: Final = ("mqtt", "lines")
MAP_DIALECTS: Final = ("access", "mapped")

_WORDS: Final = (
    "name", "site", "lateness", "until", "seed", "inputs", "rules", "overlay", "background", "history", "baseline",
)  # fmt: skip
_NEEDED: Final = ("name", "site", "until", "inputs", "rules")
_INPUT_WORDS: Final = (
    "name", "file", "carrier", "dialect", "source", "clock", "map", "settings", "envelope", "envelope_time", "routes",
)  # fmt: skip
_ROUTE_WORDS: Final = ("topics", "dialect", "source", "clock", "map", "settings")
_CLOCK_WORDS: Final = ("zone", "skew", "basis")
_HISTORY_WORDS: Final = ("seed", "days")
_BACKGROUND_WORDS: Final = ("seed", "events")
_DEFAULT_LATENESS_MS: Final = 2_000

# A message of the background: (input name, MQTT topic or file path, payload, received ms UTC).
BackgroundMessage = tuple[str, str, bytes, int]


@dataclass(frozen=True, slots=True)
class Source:
    """One dialect on one input or route. topics: MQTT filters with + and #; () for a log file.
    map_file: the map as named in scenario.yaml, "" if none. stamped: envelopes say when lines were received."""

    dialect: Dialect
    context: Context
    topics: tuple[str, ...] = ()
    map_file: str = ""
    stamped: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """One capture file. `file` is the path as scenario.yaml names it, and so in every origin."""

    name: str
    file: str
    path: Path
    carrier: str
    sources: tuple[Source, ...]

    def source_of(self, topic: str) -> Source | None:
        """The first route whose topics cover an MQTT topic; a log file has one source for all lines."""
        if self.carrier == "lines":
            return self.sources[0]
        for source in self.sources:
            if any(topic_matches(one, topic) for one in source.topics):
                return source
        return None


@dataclass(frozen=True, slots=True)
class BackgroundWish:
    """What scenario.yaml wants of a background: its seed, and how many messages at least."""

    seed: int
    events: int


@dataclass(frozen=True, slots=True)
class History:
    """Ordinary days before the scenario's own, from which linking learns what is usual."""

    seed: int
    days: int


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one message gave; if both are empty it says nothing we model."""

    input: str
    origin: str
    received_ms: int
    events: tuple[Event, ...]
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario. Times are ms UTC; `rules` holds "pack" and folders, in order."""

    name: str
    folder: Path
    site_file: Path
    site: dict[str, Any]
    site_id: str
    zone: tzinfo
    lateness_ms: int
    until_ms: int
    seed: int
    inputs: tuple[Input, ...]
    rules: tuple[str | Path, ...]
    overlay: Path | None
    wish: BackgroundWish | None
    history: History | None = None
    baseline: Path | None = None
    private: Private | None = None

    def premises(self) -> Premises:
        """The site model, with tokens where people are tokens. Raises FaultyFile."""
        if self.private is None:
            return load_site(self.site_file)
        return self.private.premises(self.site_file.read_bytes(), str(self.site_file))

    def tokenised(self, private: Private) -> Scenario:
        """The scenario with tokens for people, badges and accounts; its files stay as they are."""
        inputs = tuple(
            replace(one, sources=tuple(
                replace(
                    source, dialect=replace(source.dialect, sensitive=True),
                    context=replace(source.context, identity=private.identity),
                )
                for source in one.sources
            ))
            for one in self.inputs
        )  # fmt: skip
        return replace(self, inputs=inputs, private=private)

    @property
    def maps(self) -> list[tuple[str, str]]:
        """(field, kind) of the identities that the maps in use declare."""
        specs = [source.context.settings for source in self.sources]
        return [field for spec in specs if isinstance(spec, MapSpec) for field in spec.identity]

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources of all inputs, in the order of scenario.yaml."""
        return tuple(source for one in self.inputs for source in one.sources)

    @property
    def expect_file(self) -> Path:
        """Where the expectations stand; the file may be missing."""
        return self.folder / "expect.yaml"

    def input_named(self, name: str) -> Input:
        """The input of that name. Raises UsageError."""
        for one in self.inputs:
            if one.name == name:
                return one
        raise UsageError(f"scenario {self.name} has no input {name!r}: {nearest(name, (i.name for i in self.inputs))}")

    def read(
        self, background: Iterable[BackgroundMessage] = ()
    ) -> Iterator[tuple[str, Dialect | None, Context | None, Message | Reject]]:
        """Every message with its receive time, merged; a line that is no message stands as its Reject.

        background: messages in order of receive time (correlator.lab.background makes them); their
        origin is "background:<n>", n from 1.
        """
        for item in self._merged(background):
            source = item.source
            yield (
                item.input,
                source.dialect if source else None,
                source.context if source else None,
                item.message if item.message is not None else item.rejects[0],
            )

    def events(self, background: Iterable[BackgroundMessage] = ()) -> Iterator[Batch]:
        """What every message gives, merged as in `read`; each event has its receive time."""
        for item in self._merged(background):
            yield Batch(item.input, item.origin, item.received_ms, item.events, item.rejects)

    def ordinary(self, background: Iterable[BackgroundMessage]) -> Iterator[Batch]:
        """What messages of a background give by themselves, without the scenario's own."""
        for item in _read_background(self, background):
            yield Batch(item.input, item.origin, item.received_ms, item.events, item.rejects)

    def _merged(self, background: Iterable[BackgroundMessage]) -> Iterator[_Item]:
        streams = [_read_mqtt(self, one) if one.carrier == "mqtt" else _read_lines(self, one) for one in self.inputs]
        streams.append(_read_background(self, background))
        return heapq.merge(*streams, key=_order)


class _Item(msgspec.Struct, gc=False):
    """One message on its way: where it stood, and what its dialect made of it."""

    received_ms: int
    file: str
    line: int
    input: str
    origin: str
    source: Source | None
    message: Message | None
    events: tuple[Event, ...]
    rejects: tuple[Reject, ...]


def _order(item: _Item) -> tuple[int, str, int]:
    return item.received_ms, item.file, item.line


# ---- reading the captures --------------------------------------------------------------------------


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes without line end) of a file's lines that are not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.rstrip(b"\r\n")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _decoded(source: Source, message: Message) -> tuple[tuple[Event, ...], tuple[Reject, ...]]:
    found = source.dialect.decode(message, source.context)
    if found and isinstance(found[0], Reject):  # a message is taken or rejected, never both
        return (), (found[0],)
    return cast("tuple[Event, ...]", tuple(found)), ()


def _read_lines(scenario: Scenario, one: Input) -> Iterator[_Item]:
    """Items of a log file in file order; receive times never fall, since they are a running maximum."""
    source = one.sources[0]
    latest_ms = -1
    waiting: list[_Item] = []  # lines before the first one with a time
    for number, line in _numbered_lines(one.path):
        spec = source.context.settings
        if isinstance(spec, MapSpec) and spec.needs_header:
            headed = spec.with_header(line.decode("utf-8", "replace"))
            source = replace(source, context=replace(source.context, settings=headed))
            continue
        origin = f"{one.file}:{number}"
        message = Message(one.file, line, -1, line=number, origin=origin, raw=origin)
        events, rejects = _decoded(source, message)
        for event in events:
            heard_ms = event.received_ms if source.stamped else event.device_ms
            if heard_ms is not None and UNSET_BEFORE_MS <= heard_ms <= scenario.until_ms:
                latest_ms = max(latest_ms, heard_ms)
        waiting.append(_Item(latest_ms, one.file, number, one.name, origin, source, message, events, rejects))
        if latest_ms >= 0:
            for item in waiting:
                yield _received_at(item, latest_ms)
            waiting.clear()
    for item in waiting:  # no line has a time: all count as received at the end
        yield _received_at(item, scenario.until_ms)


def _received_at(item: _Item, received_ms: int) -> _Item:
    """The item with its receive time wherever -1 stood for "not known"."""
    assert item.message is not None
    item.received_ms = received_ms
    item.message = msgspec.structs.replace(item.message, received_ms=received_ms)
    item.events = tuple(
        msgspec.structs.replace(
            event, received_ms=received_ms, time_ms=received_ms if event.time_ms < 0 else event.time_ms
        )
        for event in item.events
    )
    item.rejects = tuple(msgspec.structs.replace(one, received_ms=received_ms) for one in item.rejects)
    return item


def _read_mqtt(scenario: Scenario, one: Input) -> Iterator[_Item]:
    """Items of an MQTT capture in order of receive time, then line."""
    captured: list[tuple[int, int, bytes]] = []
    latest_ms = 0
    for number, line in _numbered_lines(one.path):
        received_ms = _capture_received_ms(line)
        latest_ms = max(latest_ms, received_ms)
        captured.append((received_ms if received_ms >= 0 else latest_ms, number, line))
    captured.sort(key=lambda row: row[:2])
    for received_ms, number, line in captured:
        origin = f"{one.file}:{number}"
        try:
            message = capture_message(line, number, origin)
        except _BrokenLine as error:
            carrier = Message(one.file, line, received_ms, line=number, origin=origin, raw=origin)
            broken = reject(scenario.site_id, one.name, "", carrier, error.reason, str(error))
            yield _Item(received_ms, one.file, number, one.name, origin, None, None, (), (broken,))
            continue
        source = one.source_of(message.channel)
        if source is None:
            broken = reject(
                scenario.site_id, one.name, "", message, "unmapped", f"no route for topic {message.channel!r}"
            )
            yield _Item(received_ms, one.file, number, one.name, origin, None, message, (), (broken,))
            continue
        events, rejects = _decoded(source, message)
        yield _Item(received_ms, one.file, number, one.name, origin, source, message, events, rejects)


def _read_background(scenario: Scenario, background: Iterable[BackgroundMessage]) -> Iterator[_Item]:
    inputs = {one.name: one for one in scenario.inputs}
    for number, (name, channel, payload, received_ms) in enumerate(background, start=1):
        origin = f"background:{number}"
        # The simulator publishes at QoS 1.
        qos = 1 if inputs[name].carrier == "mqtt" else 0
        message = Message(channel, payload, received_ms, origin=origin, raw=origin, qos=qos)
        source = inputs[name].source_of(channel)
        if source is None:
            raise UsageError(f"the background sends {channel!r} to input {name!r}, which has no route for it")
        events, rejects = _decoded(source, message)
        yield _Item(received_ms, "background", number, name, origin, source, message, events, rejects)


class _BrokenLine(Exception):
    """A line of an MQTT capture that is no captured message."""

    def __init__(self, reason: Any, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Capture(msgspec.Struct):
    topic: str
    received: str | int | float
    payload: msgspec.Raw = msgspec.Raw(b"")
    payload_b64: str | None = None
    qos: int = 0
    retain: bool = False
    dup: bool = False


class _CaptureTime(msgspec.Struct):
    received: str | int | float | None = None


_capture = msgspec.json.Decoder(_Capture)
_capture_time = msgspec.json.Decoder(_CaptureTime)


def _capture_received_ms(line: bytes) -> int:
    """The receive time of a capture line, -1 if it has none that can be read."""
    try:
        value = _capture_time.decode(line).received
        return -1 if value is None else _received_ms(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, OverflowError):
        return -1


def _received_ms(value: str | float) -> int:
    return parse_iso(value)[0] if isinstance(value, str) else int(value)


def capture_message(line: bytes, number: int, origin: str) -> Message:
    """The message of one line {topic, payload | payload_b64, qos, retain, dup, received}.

    payload: a text is sent as it stands, any other JSON value in compact form; `null` or absent is an
    empty payload. received: RFC 3339 or epoch ms. Raises _BrokenLine.
    """
    try:
        found = _capture.decode(line)
        received_ms = _received_ms(found.received)
        if found.payload_b64 is not None:
            payload = base64.b64decode(found.payload_b64, validate=True)
        else:
            payload = _payload_bytes(bytes(found.payload))
    except msgspec.ValidationError as error:
        raise _BrokenLine("missing_field" if "missing" in str(error) else "wrong_type", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _BrokenLine("not_json", f"not a JSON line: {error}") from error
    except (ValueError, OverflowError) as error:
        raise _BrokenLine("wrong_type", str(error)) from error
    if not found.topic:
        raise _BrokenLine("missing_field", "field 'topic' is empty")
    return Message(
        found.topic,
        payload,
        received_ms,
        retained=found.retain,
        dup=found.dup,
        line=number,
        origin=origin,
        raw=origin,
        qos=found.qos,
    )


def _payload_bytes(raw: bytes) -> bytes:
    if raw in (b"", b"null"):
        return b""
    if raw.startswith(b'"'):
        text: str = msgspec.json.decode(raw)
        return text.encode("utf-8", "surrogatepass")
    return bytes(msgspec.json.format(raw, indent=-1))


# ---- loading scenario.yaml -------------------------------------------------------------------------


def packaged_scenarios() -> dict[str, Path]:
    """Name -> folder of the scenarios that come along: those of the wheel, else those of the checkout."""
    folder = data_folder("scenarios")
    if not folder.is_dir():
        return {}
    return {one.name: one for one in sorted(folder.iterdir()) if (one / "scenario.yaml").is_file()}


def load_scenario(path: Path) -> Scenario:
    """A scenario from its folder, or from its scenario.yaml.

    Raises UsageError if there is no scenario, FaultyFile with every fault of scenario.yaml, of its
    maps, and of the few words read from the site file (the site model checks the rest of it).
    """
    file = path / "scenario.yaml" if path.is_dir() else path
    if not file.is_file():
        known = packaged_scenarios()
        hint = f"; scenarios that come along: {', '.join(known)}" if known else ""
        raise UsageError(f"{path} is no scenario: there is no {file.name}{hint}")
    return _Loader(file).load()


class _Loader:
    """Checks one scenario.yaml; collects faults and goes on where it can."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.folder = file.parent
        self.shown = str(file)
        self.faults: list[Fault] = []
        self.site_id = ""
        self.zone: tzinfo = UTC

    def load(self) -> Scenario:
        documents = load_file(self.file, self.shown)
        root = documents[0] if documents else None
        if len(documents) > 1 or not isinstance(root, MarkedDict):
            raise FaultyFile([Fault(self.shown, 1, 1, "a scenario is one mapping", "name:, site:, until:, inputs:")])
        if "sites" in root and "until" not in root:
            what, hint = "settings of processes are no scenario", "correlator replay FOLDER reads its scenario.yaml"
            raise FaultyFile([Fault(self.shown, *root.keys_at["sites"], what, hint)])
        self.faults += unknown_words(root, _WORDS, self.shown, "a scenario")
        for word in _NEEDED:
            if root.get(word) is None:
                self.faults.append(Fault(self.shown, *root.mark, f"{word!r} is missing"))
        name = self._text(root, "name")
        site_file = self._path(root, "site", folder=False)
        site = self._site(site_file)
        until_ms = self._until(root)
        scenario = Scenario(
            name=name,
            folder=self.folder,
            site_file=site_file or self.folder,
            site=site,
            site_id=self.site_id,
            zone=self.zone,
            lateness_ms=self._duration(root, "lateness", _DEFAULT_LATENESS_MS),
            until_ms=until_ms,
            seed=self._int(root, "seed", 0),
            inputs=self._inputs(root),
            rules=self._rules(root),
            overlay=self._path(root, "overlay", folder=False) if root.get("overlay") is not None else None,
            wish=self._background(root),
            history=self._history(root),
            baseline=self._path(root, "baseline", folder=False) if root.get("baseline") is not None else None,
        )
        if self.faults:
            raise FaultyFile(self.faults)
        return scenario

    # -- small readers; each returns something usable even after a fault

    def _at_value(self, owner: Any, key: str, message: str, hint: str = "") -> None:
        self.faults.append(value_fault(owner, key, self.shown, message, hint))

    def _text(self, owner: Any, key: str) -> str:
        value = owner.get(key)
        if isinstance(value, str) and value:
            return value
        if value is not None:
            self._at_value(owner, key, f"{key} must be a text")
        return ""

    def _int(self, owner: Any, key: str, default: int, least: int = 0) -> int:
        value = owner.get(key, default)
        if type(value) is int and value >= least:
            return value
        self._at_value(owner, key, f"{key} must be a whole number from {least}")
        return default

    def _duration(self, owner: Any, key: str, default_ms: int) -> int:
        value = owner.get(key)
        if value is None:
            return default_ms
        try:
            return duration_ms(str(value))
        except ValueError as error:
            self._at_value(owner, key, str(error))
            return default_ms

    def _path(self, owner: Any, key: str, *, folder: bool) -> Path | None:
        text = self._text(owner, key)
        if not text:
            return None
        path = self.folder / text
        if not (path.is_dir() if folder else path.is_file()):
            self._at_value(owner, key, f"there is no {'folder' if folder else 'file'} {text!r}", self._near_file(text))
        return path

    def _near_file(self, text: str) -> str:
        parent = (self.folder / text).parent
        names = [one.name for one in parent.iterdir()] if parent.is_dir() else []
        return nearest(Path(text).name, names) if names else f"{parent} is no folder"

    def _until(self, root: MarkedDict) -> int:
        text = self._text(root, "until")
        if not text:
            return 0
        try:
            return parse_iso(text)[0]
        except ValueError:
            self._at_value(root, "until", f"{text!r} is not a time", "RFC 3339 with offset: 2021-03-19T00:00:00+01:00")
            return 0

    def _site(self, path: Path | None) -> dict[str, Any]:
        """The site file as plain values, and its id and time zone, which dialects need."""
        if path is None or not path.is_file():
            return {}
        try:
            documents = load_file(path)
        except FaultyFile as error:
            self.faults += error.faults
            return {}
        root = documents[0] if documents else None
        head = root.get("site") if isinstance(root, MarkedDict) else None
        if not isinstance(root, MarkedDict) or not isinstance(head, MarkedDict):
            self.faults.append(Fault(str(path), 1, 1, "a site file starts with site: {id, name, timezone}"))
            return {}
        site_id = head.get("id")
        if isinstance(site_id, str) and site_id:
            self.site_id = site_id
        else:
            self.faults.append(value_fault(head, "id", str(path), "site.id must be a text"))
        try:
            self.zone = zone_named(str(head.get("timezone", "UTC")))
        except ValueError as error:
            self.faults.append(value_fault(head, "timezone", str(path), str(error)))
        return root

    def _history(self, root: MarkedDict) -> History | None:
        wish = root.get("history")
        if wish is None:
            return None
        if not isinstance(wish, MarkedDict):
            self._at_value(root, "history", "history is a mapping", "history: {seed: 7, days: 3}")
            return None
        for key in wish:
            if key not in _HISTORY_WORDS:
                self._at_value(wish, key, f"{key!r} is no word of history", "seed, days")
        return History(self._int(wish, "seed", 0), self._int(wish, "days", 3))

    def _background(self, root: MarkedDict) -> BackgroundWish | None:
        wish = root.get("background")
        if wish is None:
            return None
        if not isinstance(wish, MarkedDict):
            self._at_value(root, "background", "background must be a mapping", "{seed: 7, events: 20000}")
            return None
        self.faults += unknown_words(wish, _BACKGROUND_WORDS, self.shown, "background")
        return BackgroundWish(self._int(wish, "seed", 0), self._int(wish, "events", 20_000, least=1))

    def _rules(self, root: MarkedDict) -> tuple[str | Path, ...]:
        entries = root.get("rules")
        if entries is None:
            return ()
        if not isinstance(entries, MarkedList):
            self._at_value(root, "rules", "rules must be a list", f"[{PACK}, rules]")
            return ()
        found: list[str | Path] = []
        for entry, (line, column) in zip(entries, entries.items_at, strict=True):
            if entry == PACK:
                found.append(PACK)
                continue
            folder = self.folder / str(entry)
            if not folder.exists():
                what = f"there is no rule folder {entry!r}"
                self.faults.append(Fault(self.shown, line, column, what, f"a folder, or {PACK} for the rule pack"))
            found.append(folder)
        return tuple(found)

    # -- inputs

    def _inputs(self, root: MarkedDict) -> tuple[Input, ...]:
        entries = root.get("inputs")
        if entries is None:
            return ()
        if not isinstance(entries, MarkedList) or not entries:
            self._at_value(root, "inputs", "inputs must be a list with at least one input")
            return ()
        made: list[Input] = []
        names: dict[str, int] = {}
        for entry, (line, column) in zip(entries, entries.items_at, strict=True):
            if not isinstance(entry, MarkedDict):
                self.faults.append(Fault(self.shown, line, column, "an input is a mapping", "{name:, file:, carrier:}"))
                continue
            one = self._input(entry)
            if one.name in names:
                what = f"input {one.name!r} is given twice"
                self._at_value(entry, "name", what, f"first on line {names[one.name]}")
            names.setdefault(one.name, line)
            made.append(one)
        return tuple(made)

    def _input(self, entry: MarkedDict) -> Input:
        self.faults += unknown_words(entry, _INPUT_WORDS, self.shown, "an input")
        for word in ("name", "file", "carrier"):
            if entry.get(word) is None:
                self.faults.append(Fault(self.shown, *entry.mark, f"{word!r} is missing in an input"))
        name = self._text(entry, "name")
        file = self._text(entry, "file")
        path = self._path(entry, "file", folder=False) or self.folder
        carrier = self._text(entry, "carrier")
        if carrier and carrier not in CARRIERS:
            self._at_value(entry, "carrier", f"there is no carrier {carrier!r}", nearest(carrier, CARRIERS))
        if carrier == "mqtt":
            sources = self._routes(entry)
        else:
            if "routes" in entry:
                what = "routes belong to an input with carrier: mqtt"
                self.faults.append(key_fault(entry, "routes", self.shown, what, "give dialect: instead"))
            sources = (self._source(entry, name, ()),)
        return Input(name, file, path, carrier, tuple(one for one in sources if one is not None))

    def _routes(self, entry: MarkedDict) -> tuple[Source | None, ...]:
        for word in ("dialect", "map", "settings", "source", "clock"):
            if word in entry:
                what = f"{word} of an MQTT input stands in its routes"
                self.faults.append(key_fault(entry, word, self.shown, what, "routes: [{topics:, dialect:}]"))
        routes = entry.get("routes")
        if not isinstance(routes, MarkedList) or not routes:
            what = "an MQTT input needs a list of routes"
            hint = 'routes: [{topics: "zigbee2mqtt/#", dialect: zigbee2mqtt}]'
            self.faults.append(Fault(self.shown, *entry.mark, what, hint))
            return ()
        found: list[Source | None] = []
        for route, (line, column) in zip(routes, routes.items_at, strict=True):
            if not isinstance(route, MarkedDict):
                self.faults.append(Fault(self.shown, line, column, "a route is a mapping", "{topics:, dialect:}"))
                continue
            self.faults += unknown_words(route, _ROUTE_WORDS, self.shown, "a route")
            topics = route.get("topics")
            listed = [topics] if isinstance(topics, str) else topics
            if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
                at = route.values_at.get("topics", route.mark)
                self.faults.append(Fault(self.shown, *at, "topics must be a topic filter or a list of them"))
                listed = []
            for one in listed:
                if problem := filter_problem(one):
                    self._at_value(route, "topics", f"{one!r} is no topic filter: {problem}")
            found.append(self._source(route, str(entry.get("name", "")), tuple(listed)))
        return tuple(found)

    def _source(self, owner: MarkedDict, input_name: str, topics: tuple[str, ...]) -> Source | None:
        word = owner.get("dialect")
        if word is None:
            hint = "`correlator sources list` names them"
            self.faults.append(Fault(self.shown, *owner.mark, "'dialect' is missing", hint))
            return None
        dialect = DIALECTS.get(str(word))
        if dialect is None:
            self._at_value(owner, "dialect", f"there is no dialect {word!r}", nearest(str(word), DIALECTS))
            return None
        settings, version, map_file = self._settings(owner, dialect)
        writer, time = self._envelope(owner, dialect, settings)
        context = Context(
            site=self.site_id,
            source=self._text(owner, "source") or input_name,
            clock=self._clock(owner, dialect),
            dialect=dialect.name,
            zone=self.zone,
            settings=settings,
            map_version=version,
            opener=opener(writer, time),
        )
        return Source(dialect, context, topics, map_file, stamped=time == "received")

    def _envelope(self, owner: MarkedDict, dialect: Dialect, settings: Any) -> tuple[str, str]:
        """(whose envelopes the lines are in, what the envelope's time is taken for)."""
        found = []
        for name, known in (("envelope", WRITERS), ("envelope_time", TIMES)):
            value = owner.get(name, known[0])
            if value not in known:
                self._at_value(owner, name, f"there is no {name} {value!r}", nearest(str(value), known))
                value = known[0]
            found.append(value)
        writer, time = found
        if writer == "none" and time != "ignored":
            self._at_value(owner, "envelope_time", "envelope_time without an envelope", "add envelope: filebeat")
        if writer != "none" and isinstance(settings, MapSpec) and settings.needs_header:
            self._at_value(
                owner, "envelope", "a CSV map for lines in envelopes must name its columns", "columns: [...]"
            )
        return writer, time

    def _settings(self, owner: MarkedDict, dialect: Dialect) -> tuple[Any, str, str]:
        """(settings as the dialect wants them, version of the map, the map as named; "" without one)."""
        settings = owner.get("settings")
        if settings is not None and not isinstance(settings, MarkedDict):
            self._at_value(owner, "settings", "settings must be a mapping")
            return None, "", ""
        if settings is not None and dialect.name not in MAP_DIALECTS and dialect.check_settings is None:
            self.faults.append(key_fault(owner, "settings", self.shown, f"dialect {dialect.name} has no settings"))
        if "map" in owner:
            if dialect.name not in MAP_DIALECTS:
                what = f"dialect {dialect.name} takes no map"
                hint = f"maps belong to {' and '.join(MAP_DIALECTS)}"
                self.faults.append(key_fault(owner, "map", self.shown, what, hint))
                return None, "", ""
            settings = _with(settings, owner, "map")
        elif settings is None and dialect.name in MAP_DIALECTS:
            what = f"dialect {dialect.name} needs a map"
            self.faults.append(Fault(self.shown, *owner.mark, what, "map: maps/access.yaml"))
            return None, "", ""
        try:
            prepared, version = prepared_settings(dialect.name, settings, self.shown)
        except FaultyFile as error:
            self.faults += error.faults
            return None, "", ""
        return prepared, version, str(settings["map"]) if version and settings else ""

    def _clock(self, owner: MarkedDict, dialect: Dialect) -> ClockPolicy:
        policy = dialect.clock
        clock = owner.get("clock")
        if clock is None:
            return policy
        if not isinstance(clock, MarkedDict):
            self._at_value(owner, "clock", "clock must be a mapping", "{zone: Europe/Rome, skew: 5m, basis: device}")
            return policy
        self.faults += unknown_words(clock, _CLOCK_WORDS, self.shown, "clock")
        basis, zone = policy.basis, policy.zone
        if "basis" in clock:
            if clock["basis"] in ("device", "received"):
                basis = str(clock["basis"])
            else:
                self._at_value(clock, "basis", "basis must be device or received")
        if "zone" in clock:
            try:
                zone = None if clock["zone"] in (None, "none") else zone_named(str(clock["zone"]))
            except ValueError as error:
                self._at_value(clock, "zone", str(error))
        return ClockPolicy(basis, zone, self._duration(clock, "skew", policy.skew_ms))


def _with(settings: MarkedDict | None, owner: MarkedDict, word: str) -> MarkedDict:
    """Settings with a word of their owner among them, positions kept."""
    made = MarkedDict(settings.mark if settings is not None else owner.mark)
    if settings is not None:
        made.update(settings)
        made.keys_at.update(settings.keys_at)
        made.values_at.update(settings.values_at)
    made[word] = owner[word]
    made.keys_at[word], made.values_at[word] = owner.keys_at[word], owner.values_at[word]
    return made
