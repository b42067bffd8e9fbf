"""Where a view gets threats, actions and the health of sensors from: one protocol, on Kafka or on the files
of one machine."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from msgspec import Struct

from correlator.clock import DAY_MS
from correlator.errors import UsageError
from correlator.events.threat import Threat
from correlator.journal import kafka
from correlator.journal.action import from_bytes
from correlator.journal.store import JournalAway, SqliteJournal
from correlator.journal.view import HEALTH, View
from correlator.sqlite import read_only

THREATS: Final = "threats"
ENRICHED: Final = "events.enriched"
HEALTH_DAYS: Final = 8  # how far a fresh view reads back for the health of sensors: a week and the day of its summary
TIMEOUT_S: Final = 10.0


class _Entity(Struct):
    kind: str
    id: str


class _Event(Struct):
    site: str
    source: str
    kind: str
    time_ms: int
    entities: list[_Entity] = []


class _Enriched(Struct):
    event: _Event
    place_name: str = ""


_enriched: Final = msgspec.json.Decoder(_Enriched).decode
_threat: Final = msgspec.json.Decoder(Threat).decode


class Feed(Protocol):
    """Brings a view up to date."""

    def poll(self, view: View, timeout_s: float) -> set[str]:
        """Takes what is new into the view, in one transaction, and returns the ids of threats concerned.
        Waits up to timeout_s for something. Raises JournalAway if the source does not answer."""
        ...

    def caught_up(self) -> bool:
        """Whether the view stood at the end of its sources after the last poll."""
        ...

    def close(self) -> None:
        """Lets go of the sources."""
        ...


class KafkaFeed:
    """The topics `threats` and `console.actions`, all partitions, from where the view stands.

    client: settings of librdkafka that reach the broker, rights included. enriched: topic of events, for the
    health of sensors; "" for none. unreadable counts records that are no threat or action; they are passed over.
    """

    def __init__(
        self, client: Mapping[str, Any], view: View, threats: str = THREATS, actions: str = kafka.TOPIC,
        enriched: str = "",
    ) -> None:  # fmt: skip
        self.unreadable = 0
        self._threats, self._enriched = threats, enriched
        settings = {**client, "group.id": kafka.group_for(actions), "enable.auto.commit": False,
                    "enable.partition.eof": True, "isolation.level": "read_committed"}  # fmt: skip
        self._consumer = Consumer(settings)
        parts: list[TopicPartition] = []
        try:
            topics = self._consumer.list_topics(timeout=TIMEOUT_S).topics
        except KafkaException as error:
            raise JournalAway(str(error)) from error
        for topic in (threats, actions):
            if topic not in topics:
                raise JournalAway(f"topic {topic} does not exist; `correlator topics create` makes it")
            for partition in topics[topic].partitions:
                after = view.position(_source(topic, partition))
                parts.append(TopicPartition(topic, partition, after + 1 if after >= 0 else 0))
        if enriched in topics:
            parts += self._lately(view, enriched, list(topics[enriched].partitions))
        self._waiting = {(one.topic, one.partition) for one in parts}
        self._consumer.assign(parts)

    def poll(self, view: View, timeout_s: float) -> set[str]:
        """Takes up to 500 records."""
        touched: set[str] = set()
        messages = self._consumer.consume(500, timeout=timeout_s)
        with view.batch():
            for message in messages:
                error = message.error()
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF and topic is not None and partition is not None:
                        self._waiting.discard((topic, partition))
                    elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                        raise JournalAway(error.str())
                    continue  # librdkafka tries the rest again by itself
                assert topic is not None
                assert partition is not None
                assert offset is not None
                value = message.value()
                if value is not None:
                    touched |= self._take(view, topic, offset, value)
                view.reached(_source(topic, partition), offset)
        return touched

    def caught_up(self) -> bool:
        """Whether every partition's end was reached once."""
        return not self._waiting

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()

    def _lately(self, view: View, topic: str, partitions: list[int]) -> list[TopicPartition]:
        """Where to begin with a topic of which only the last days matter."""
        since_ms = time.time_ns() // 1_000_000 - HEALTH_DAYS * DAY_MS
        positions = {one: view.position(_source(topic, one)) for one in partitions}
        asked = [TopicPartition(topic, one, since_ms) for one, after in positions.items() if after < 0]
        found = self._consumer.offsets_for_times(asked, timeout=TIMEOUT_S) if asked else []
        return [*found, *(TopicPartition(topic, one, after + 1) for one, after in positions.items() if after >= 0)]

    def _take(self, view: View, topic: str, offset: int, value: bytes) -> set[str]:
        try:
            if topic == self._enriched:
                _health(view, value)
                return set()
            if topic == self._threats:
                threat = _threat(value)
                return {threat.id} if view.add_threat(threat) else set()
            act = from_bytes(value)
        except msgspec.DecodeError:
            self.unreadable += 1
            return set()
        view.add_act(act, offset)
        named = act.args.get("threats")
        return {act.threat, *(str(one) for one in named)} if isinstance(named, list) else {act.threat}


def _source(topic: str, partition: int) -> str:
    return f"{topic}/{partition}"


def _health(view: View, value: bytes) -> None:
    """Notes what an enriched event says about the health of a sensor, camera or reader."""
    if not (b'line"' in value or b".battery_" in value):  # most events say nothing about it: not even decoded
        return
    told = _enriched(value)
    event = told.event
    thing, _, what = event.kind.partition(".")
    if what not in HEALTH:
        return
    name = next((one.id for one in event.entities if one.kind == thing), "") or event.source
    view.add_health(event.site, f"{thing} {name}", told.place_name, what, event.time_ms)


class FileFeed:
    """A file of threats (one JSON line a revision, as `correlator replay --out` writes it) and a journal in SQLite."""

    def __init__(self, threats: Path, journal: SqliteJournal) -> None:
        self._threats, self._journal = threats, journal
        self.unreadable = 0

    def poll(self, view: View, timeout_s: float) -> set[str]:
        """Takes all complete lines and all actions behind where the view stands."""
        touched: set[str] = set()
        with view.batch():
            touched |= self._lines(view)
            for position, act in self._journal.read(view.position("journal")):
                view.add_act(act, position)
                view.reached("journal", position)
                touched.add(act.threat)
                touched.update(_named(act.args.get("threats")))
        return touched

    def caught_up(self) -> bool:
        """A file is read to its end in each poll."""
        return True

    def close(self) -> None:
        """Nothing stays open."""

    def _lines(self, view: View) -> set[str]:
        touched: set[str] = set()
        at = max(view.position("threats"), 0)
        with self._threats.open("rb") as file:
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                at += len(line)
                try:
                    threat = _threat(line)
                except msgspec.DecodeError:
                    self.unreadable += 1
                    continue
                if view.add_threat(threat):
                    touched.add(threat.id)
        view.reached("threats", at)
        return touched


class LogFeed:
    """The threats of an embedded log (a SQLite file that another process writes) and a journal in SQLite.

    Reads threats and enriched events of the table `output` only: (id, topic, ..., value), ids growing.
    Raises UsageError where the file is no such log.
    """

    def __init__(self, log: Path, journal: SqliteJournal) -> None:
        self._journal = journal
        self.unreadable = 0
        self._ended = False
        if not log.is_file():
            raise UsageError(f"there is no {log}; `correlator run --embedded` writes it")
        try:
            self._db = read_only(log)
            self._db.execute("SELECT id, topic, value FROM output LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise UsageError(f"{log} is no embedded log: {error}") from error

    def poll(self, view: View, timeout_s: float) -> set[str]:
        """Takes up to 500 records and all actions behind where the view stands; waits a little if there is nothing."""
        after = max(view.position(THREATS), 0)
        query = "SELECT id, topic, value FROM output WHERE topic IN (?, ?) AND id > ? ORDER BY id LIMIT 500"
        try:
            rows = self._db.execute(query, (THREATS, ENRICHED, after)).fetchall()
        except sqlite3.Error as error:
            raise JournalAway(f"the embedded log cannot be read: {error}") from error
        acts = list(self._journal.read(view.position("journal")))
        self._ended = len(rows) < 500
        if not rows and not acts:
            time.sleep(timeout_s)
            return set()
        touched: set[str] = set()
        with view.batch():
            for number, topic, value in rows:
                touched |= self._take(view, topic, value)
                view.reached(THREATS, number)
            for position, act in acts:
                view.add_act(act, position)
                view.reached("journal", position)
                touched |= {act.threat, *_named(act.args.get("threats"))}
        return touched

    def caught_up(self) -> bool:
        """Whether the last poll read the log to its end."""
        return self._ended

    def close(self) -> None:
        """Lets go of the log."""
        self._db.close()

    def _take(self, view: View, topic: str, value: bytes) -> set[str]:
        try:
            if topic == ENRICHED:
                _health(view, value)
                return set()
            threat = _threat(value)
        except msgspec.DecodeError:
            self.unreadable += 1
            return set()
        return {threat.id} if view.add_threat(threat) else set()


def _named(value: object) -> Iterable[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
