"""Where the facts come from: the folder of a replay, an embedded log, or Kafka."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from correlator.console.facts import Facts
from correlator.console.raw import Raw, raw_of
from correlator.errors import CorrelatorError, UsageError
from correlator.events.event import Event, KeptMessage, Reject
from correlator.events.threat import Evidence, Match
from correlator.ingest.raw import from_headers
from correlator.ingest.sources import SourceTable, input_name
from correlator.journal.kafka import GROUP
from correlator.journal.store import JournalAway
from correlator.premises import Premises
from correlator.privacy.evidence import Locker
from correlator.run.partition import SITE_MARK
from correlator.run.scenario import Scenario, capture_message
from correlator.sources import Context, Dialect, Message
from correlator.sqlite import read_only

_LIVE: Final = "live/"
_LEARNED: Final = "1/linker/site"  # its first element: since when rates are learned (correlator.linking.state)
_WHOLE: Final = b"\x00"  # first byte of a state entry that stands in one record (docs/streaming.md)
_TURN: Final = 2_000  # records taken at once
_TIMEOUT_S: Final = 5.0

T = TypeVar("T")


class _Enriched(msgspec.Struct):
    event: Event
    place: str = ""
    rules: list[str] = []


_match: Final = msgspec.json.Decoder(Match).decode
_enriched: Final = msgspec.json.Decoder(_Enriched).decode
_event: Final = msgspec.json.Decoder(Event).decode
_reject: Final = msgspec.json.Decoder(Reject).decode
_kept: Final = msgspec.json.Decoder(KeptMessage).decode
_list: Final = msgspec.msgpack.Decoder(list[Any]).decode


def _add_place(facts: Facts, told: _Enriched) -> None:
    if told.place and told.rules:
        facts.add_place(told.event.site, told.event.id, told.place, told.event.time_ms)


def _add_enriched(facts: Facts, value: bytes) -> None:
    told = _enriched(value)
    facts.add_event(told.event)
    _add_place(facts, told)


_TAKEN: Final[dict[str, Callable[[Facts, bytes], None]]] = {
    "matches": lambda facts, value: facts.add_match(_match(value)),
    "events.enriched": _add_enriched,
    "rejects": lambda facts, value: facts.add_reject(_reject(value)),
}


class ReplayFacts:
    """The folder that `correlator replay --out` wrote, and the scenario whose captures hold the raw messages."""

    def __init__(self, out: Path, scenario: Scenario | None, places: Premises) -> None:
        self._out, self._scenario, self._places = out, scenario, places
        self._read = False

    def poll(self, facts: Facts) -> bool:
        """Reads all of it once."""
        if self._read:
            return False
        self._read = True
        with facts.batch():
            for match in _lines(self._out / "matches.ndjson", _match):
                facts.add_match(match)
            for told in _lines(self._out / "events.ndjson", _enriched):
                _add_place(facts, told)
            for reject in _lines(self._out / "rejects.ndjson", _reject):
                facts.add_reject(reject)
            for event in sorted(self._decoded(), key=lambda one: (one.time_ms, one.received_ms)):
                facts.add_event(event)
                self._places.observe(event)
        facts.stands(self._places.site.id, dict(self._places.live.snapshot()))
        return True

    def raw(self, site: str, evidence: Evidence) -> Raw | None:
        """The line of a capture that the origin names; generated traffic has none."""
        name, _, number = evidence.origin.rpartition(":")
        if self._scenario is None or not number.isdigit():
            return None
        for one in self._scenario.inputs:
            if one.file == name:
                line = _line(one.path, int(number))
                if line is None:
                    return None
                message = Message(name, line, evidence.time_ms, line=int(number), origin=evidence.origin)
                if one.carrier == "mqtt":
                    message = capture_message(line, int(number), evidence.origin)
                source = one.source_of(message.channel)
                return raw_of(message, source.dialect if source else None, source.context if source else None)
        return None

    def close(self) -> None:
        """Nothing stays open."""

    def _decoded(self) -> Iterator[Event]:
        yield from _lines(self._out / "decoded.ndjson", _event)


def _lines(path: Path, read: Callable[[bytes], T]) -> Iterator[T]:
    """The messages of a file; none where it is missing."""
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                yield read(line)


def _line(path: Path, number: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return next((line.rstrip(b"\r\n") for at, line in enumerate(file, 1) if at == number), None)
    except OSError:
        return None


class LogFacts:
    """An embedded log (SQLite), which another process writes.

    sources: who reads a message, for blacking out; locker: opens messages that are kept under lock.
    """

    def __init__(self, log: Path, sources: SourceTable, locker: Locker | None = None) -> None:
        self._sources, self._locker = sources, locker
        self._checkpoint: bytes | None = None
        try:
            self._db = read_only(log)
            self._db.execute("SELECT event FROM evidence LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise UsageError(f"{log} is no embedded log: {error}") from error

    def poll(self, facts: Facts) -> bool:
        """Takes up to 2,000 messages behind where the facts stand, and live state if it changed."""
        try:
            rows = self._db.execute(
                "SELECT id, topic, value FROM output WHERE topic IN ('matches', 'events.enriched', 'rejects')"
                " AND id > ? ORDER BY id LIMIT ?",
                (max(facts.position("output"), 0), _TURN),
            ).fetchall()
            with facts.batch():
                for number, topic, value in rows:
                    _take(facts, topic, value)
                    facts.reached("output", number)
            return self._stands(facts) or bool(rows)
        except sqlite3.Error as error:
            raise JournalAway(f"the embedded log cannot be read: {error}") from error

    def _stands(self, facts: Facts) -> bool:
        row = self._db.execute("SELECT value FROM state WHERE key = '_checkpoint'").fetchone()
        if row is None or row[0] == self._checkpoint:
            return False
        self._checkpoint = row[0]
        entries: dict[str, dict[str, bytes]] = {}
        for site in facts.places:
            head = f"{site}{SITE_MARK}"
            rows = self._db.execute("SELECT key, value FROM state WHERE key >= ? AND key < ?",
                                    (f"{head}{_LIVE}", f"{head}{_LIVE[:-1]}0"))  # fmt: skip
            entries[site] = {key[len(head) + len(_LIVE) :]: value for key, value in rows}
            learned_key = f"{head}threats/{_LEARNED}"
            learned = self._db.execute("SELECT value FROM state WHERE key = ?", (learned_key,)).fetchone()
            if learned is not None:
                facts.learning_from_ms[site] = int(_list(learned[0])[0])
        changed = False
        for site, told in entries.items():
            live = facts.live.get(site)
            if live is None or dict(live.snapshot()) != told:
                facts.stands(site, told)
                changed = True
        return changed

    def raw(self, site: str, evidence: Evidence) -> Raw | None:
        """The message kept as evidence, else the one in the log if it is still there."""
        row = self._db.execute(
            "SELECT channel, payload, received_ms, size, sha256 FROM evidence WHERE event = ?", (evidence.id,)
        ).fetchone()
        if row is not None:
            channel, kept, received_ms, size, sha256 = row
            payload = _opened(self._locker, evidence.id, kept)
            if payload is None:
                return None
            reader = _reader(self._sources, evidence.source, site, channel)
            return Raw(Message(channel, payload, received_ms), size, sha256, *reader)
        number = evidence.raw.removeprefix("log:")
        if not number.isdigit():
            return None
        row = self._db.execute("SELECT input, headers, payload FROM raw WHERE id = ?", (int(number),)).fetchone()
        if row is None:
            return None
        headers = msgspec.msgpack.decode(row[1], type=list[tuple[str, bytes]])
        message = from_headers(headers, row[2], input=row[0], offset=int(number), channel=row[0], received_ms=0,
                               raw=evidence.raw).message  # fmt: skip
        return raw_of(message, *_reader(self._sources, evidence.source, site, message.channel))

    def close(self) -> None:
        """Lets go of the log."""
        self._db.close()


class KafkaFacts:
    """The topics `matches`, `events.enriched`, `rejects`, `evidence` from where the facts stand, and `state` from
    its start.

    client: settings of librdkafka; topic: name of ours -> as the cluster calls it. sources: who reads a message,
    for blacking out; locker: opens messages that are kept under lock. A message that is not kept as evidence is
    looked for where it was received.
    """

    def __init__(
        self, client: Mapping[str, Any], topic: Callable[[str], str], facts: Facts, sources: SourceTable,
        locker: Locker | None = None,
    ) -> None:  # fmt: skip
        self._client, self._topic, self._sources, self._locker = dict(client), topic, sources, locker
        self._facts = facts
        self._entries: dict[str, dict[str, bytes]] = {site: {} for site in facts.places}
        self._changed: set[str] = set()
        self._stood = 0.0
        self.unreadable = 0
        self._names = {topic(one): one for one in (*_TAKEN, "evidence", "state")}
        self._consumer = Consumer({**client, "group.id": GROUP, "enable.auto.commit": False,
                                   "isolation.level": "read_committed"})  # fmt: skip
        parts = []
        try:
            known = self._consumer.list_topics(timeout=_TIMEOUT_S).topics
        except KafkaException as error:
            raise JournalAway(str(error)) from error
        for there, name in self._names.items():
            for partition in known[there].partitions if there in known else ():
                after = facts.position(f"{name}/{partition}") if name != "state" else -1
                parts.append(TopicPartition(there, partition, after + 1 if after >= 0 else 0))
        self._consumer.assign(parts)

    def poll(self, facts: Facts) -> bool:
        """Takes up to 2,000 records; live state at most once a second."""
        messages = self._consumer.consume(_TURN, timeout=0.2)
        took = False
        with facts.batch():
            for message in messages:
                there, value, offset = message.topic(), message.value(), message.offset()
                if message.error() is not None or there is None or offset is None:
                    continue
                name = self._names[there]
                if name == "state":
                    self._entry(facts, (message.key() or b"").decode("utf-8", "replace"), value)
                    continue
                took = True
                if name == "evidence":
                    event = (message.key() or b"").decode("utf-8", "replace")
                    if value is None:
                        facts.drop_kept(event)
                    else:
                        facts.add_kept(event, message.partition() or 0, offset, message.timestamp()[1])
                elif value is not None:
                    try:
                        _take(facts, name, value)
                    except msgspec.DecodeError:
                        self.unreadable += 1
                facts.reached(f"{name}/{message.partition()}", offset)
        if self._changed and time.monotonic() - self._stood > 1.0:
            self._stood = time.monotonic()
            for site in self._changed:
                facts.stands(site, self._entries[site])
            self._changed.clear()
            return True
        return took

    def _entry(self, facts: Facts, key: str, value: bytes | None) -> None:
        site, mark, rest = key.partition(SITE_MARK)
        if not mark or site not in self._entries:
            return
        if rest == f"threats/{_LEARNED}" and value is not None and value[:1] == _WHOLE:
            facts.learning_from_ms[site] = int(_list(value[1:])[0])
        if not rest.startswith(_LIVE):
            return
        name = rest.removeprefix(_LIVE)
        if value is None:
            self._entries[site].pop(name, None)
        elif value[:1] == _WHOLE:
            self._entries[site][name] = value[1:]
        self._changed.add(site)

    def raw(self, site: str, evidence: Evidence) -> Raw | None:
        """The message kept as evidence, else the one where it was received if it is still there."""
        at = self._facts.kept(evidence.id)
        if at is not None:
            message = self._fetch("evidence", *at)
            value = message.value() if message is not None else None
            if value is not None:
                kept = _kept(value)
                payload = _opened(self._locker, evidence.id, kept.payload)
                if payload is None:
                    return None
                reader = _reader(self._sources, evidence.source, site, kept.channel)
                return Raw(Message(kept.channel, payload, kept.received_ms), kept.size, kept.sha256, *reader)
        input, _, number = evidence.raw.rpartition(":")
        _, slash, partition = input.rpartition("/")
        if not slash or not partition.isdigit() or not number.isdigit():
            return None
        message = self._fetch(input_name(input), int(partition), int(number))
        if message is None:
            return None
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        told = from_headers([(name, value or b"") for name, value in headers], message.value() or b"", input=input,
                            offset=int(number), channel=input_name(input), received_ms=message.timestamp()[1],
                            raw=evidence.raw).message  # fmt: skip
        return raw_of(told, *_reader(self._sources, evidence.source, site, told.channel))

    def _fetch(self, topic: str, partition: int, offset: int) -> Any:
        """The record at a position, None if it is gone. Raises JournalAway."""
        consumer = Consumer({**self._client, "group.id": GROUP, "enable.auto.commit": False,
                             "auto.offset.reset": "latest", "isolation.level": "read_committed"})  # fmt: skip
        try:
            consumer.assign([TopicPartition(self._topic(topic), partition, offset)])
            message = next(iter(consumer.consume(1, timeout=_TIMEOUT_S)), None)
        except KafkaException as error:
            raise JournalAway(str(error)) from error
        finally:
            consumer.close()
        return message if message is not None and message.error() is None and message.offset() == offset else None

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


def _opened(locker: Locker | None, event: str, kept: bytes) -> bytes | None:
    """A message as it was; None where it is locked and its key is gone."""
    try:
        return kept if locker is None else locker.open(event, kept)
    except CorrelatorError:
        return None


def _take(facts: Facts, topic: str, value: bytes) -> None:
    _TAKEN[topic](facts, value)


def _reader(sources: SourceTable, source: str, site: str, channel: str) -> tuple[Dialect | None, Context | None]:
    reader = sources.reader(sources.input_of(source, channel), site, channel)
    return (reader.dialect, reader.context) if reader is not None else (None, None)


def scenario_of(folder: Path) -> Scenario | None:
    """The scenario of a folder, None where it is gone or changed so that it cannot be read."""
    from correlator.run.scenario import load_scenario

    try:
        return load_scenario(folder)
    except CorrelatorError:
        return None
