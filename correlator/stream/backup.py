"""`correlator state export|import` on Kafka, and the log of a site read back for `replay --from-log`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

from confluent_kafka import Consumer, TopicPartition

from correlator.errors import UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.run.backup import read_state, words, write_state
from correlator.run.bodies import Chunks
from correlator.run.log import Configuration, LogRecord, decode
from correlator.run.partition import IMPORTING
from correlator.stream.applied import in_force
from correlator.stream.ingest import partition_of
from correlator.stream.state import Fenced, StateWriter, messages_of, range_of, read_topic, whole
from correlator.stream.topics import CONFIG, EVENTS, STATE

TRANSACTION_ENTRIES: Final = 2_000


def export_state(kafka: KafkaSettings, file: Path, out: TextIO) -> int:
    """Writes the committed state of every partition to a file; workers may run. Raises UsageError, KafkaException."""
    count = _partitions(kafka, STATE)

    def entries() -> Iterator[tuple[int, str, bytes]]:
        for partition in range(count):
            found, _ = whole(read_topic(kafka, STATE, partition))
            out.write(words(partition, found) + "\n")
            yield from ((partition, key, value) for key, value in sorted(found.items()))

    written = write_state(file, "stream", count, entries())
    out.write(f"{file}: {written} entries\n")
    return 0


def import_state(kafka: KafkaSettings, app: str, file: Path, out: TextIO) -> int:
    """Puts an exported state in the place of the present one. Raises UsageError, KafkaException.

    A worker that still runs is fenced and ends. Until the last entry is written a mark stands in the state at
    which every worker stops, so an import that was interrupted is done again.
    """
    count, state = read_state(file, "stream")
    there = _partitions(kafka, STATE)
    if count != there:
        raise UsageError(f"{file}: the state of {count} partitions; {kafka.topic(STATE)} has {there}")
    try:
        for partition in range(count):
            _import(kafka, app, partition, state.get(partition, {}))
            out.write(words(partition, state.get(partition, {})) + "\n")
    except Fenced as error:
        raise UsageError("a worker was started meanwhile; stop all workers and import again") from error
    return 0


def _import(kafka: KafkaSettings, app: str, partition: int, entries: Mapping[str, bytes]) -> None:
    writer = StateWriter(kafka, app, partition)
    before, writer.parted = whole(read_topic(kafka, STATE, partition))
    writer.write([], [(IMPORTING, b"1")])
    changes: list[tuple[str, bytes | None]] = [(key, None) for key in sorted(before.keys() - entries.keys())]
    changes += sorted(entries.items())
    for first in range(0, len(changes), TRANSACTION_ENTRIES):
        writer.write([], changes[first : first + TRANSACTION_ENTRIES])
    writer.write([], [(IMPORTING, None)])


class LogOfTopic:
    """A site's log on Kafka as `correlator.run.relog.LogReader`, up to the end it has when it is read."""

    def __init__(self, kafka: KafkaSettings, site: str) -> None:
        self._kafka = kafka
        self._partition = partition_of(site, _partitions(kafka, EVENTS))

    def bodies(self) -> Mapping[str, bytes]:
        """Bodies of all configurations that were applied."""
        chunks = Chunks()
        for key, value in sorted(read_topic(self._kafka, CONFIG, 0).items()):
            if not key.startswith("site/"):
                chunks.add(key, value)
        return chunks.bodies

    def read(self, newest: int = 0) -> Iterator[tuple[str, LogRecord]]:
        """(position, record), oldest first; of the last so many if `newest` is given. Raises RecordRefused,
        KafkaException."""
        consumer = Consumer(
            self._kafka.client(
                group__id=f"{self._kafka.prefix}correlator-read", enable__auto__commit=False,
                isolation__level="read_committed", auto__offset__reset="earliest",
            )
        )  # fmt: skip
        place = f"{EVENTS}/{self._partition}"
        try:
            start, end = range_of(consumer, TopicPartition(self._kafka.topic(EVENTS), self._partition))
            if start == end:
                return
            begin = max(start, end - newest) if newest else start
            consumer.assign([TopicPartition(self._kafka.topic(EVENTS), self._partition, begin)])
            for message in messages_of(consumer, place, end):
                yield f"{place}:{message.offset()}", decode(message.value() or b"")
        finally:
            consumer.close()

    def in_force(self) -> Mapping[str, Configuration]:
        """What was applied last for each site."""
        return {site: one.configuration for site, one in in_force(self._kafka)[0].items()}

    def close(self) -> None:
        """Nothing stays open."""


def _partitions(kafka: KafkaSettings, name: str) -> int:
    consumer = Consumer(kafka.client(group__id=f"{kafka.prefix}correlator-read"))
    try:
        known = consumer.list_topics(kafka.topic(name), timeout=15).topics[kafka.topic(name)]
        if known.error is not None:
            raise UsageError(f"there is no topic {kafka.topic(name)}; `correlator topics create` makes it")
        return len(known.partitions)
    finally:
        consumer.close()
