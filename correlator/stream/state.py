r"""State entries on the compacted topic `state`, written in one transaction with the outputs.

The order is what makes it safe (docs/streaming.md): `StateWriter` fences the former owner when it is
made, so it must be made before `read_state`; `write` is begin, outputs, entries, commit, and nothing
counts as done before it returns.

An entry larger than a record may be is written in parts: the entry's own key then holds a first byte
1 and the number of parts, the parts stand at `<key>\x1e<n>`. Others have a first byte 0.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.logs import Log
from correlator.run.rendering import Rendered
from correlator.stream.topics import REJECTS, STATE, TOLD

_log: Final = Log("worker")
PART_BYTES: Final = 900_000
PART_MARK: Final = "\x1e"
_GIVEN_UP: Final = b"_given_up"  # key of records that are aborted, so that nobody reads them
_WHOLE: Final = b"\x00"
_PARTED: Final = b"\x01"
TRANSACTION_MS: Final = 60_000
READ_TIMEOUT_S: Final = 30.0
_TURN_S: Final = 0.05
_NO_LEADER: Final = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})


Headers = list[tuple[str, str | bytes | None]]


class Fenced(Exception):
    """Another worker has taken the partition over; this one must end."""


def parts(key: str, value: bytes | None, before: int) -> list[tuple[str, bytes | None]]:
    """The records of an entry. before: how many parts it was written in last time (0: whole or new)."""
    if value is None or len(value) <= PART_BYTES:
        made: list[tuple[str, bytes | None]] = [(key, None if value is None else _WHOLE + value)]
        count = 0
    else:
        count = -(-len(value) // PART_BYTES)
        made = [(f"{key}{PART_MARK}{n}", value[n * PART_BYTES : (n + 1) * PART_BYTES]) for n in range(count)]
        made.append((key, _PARTED + count.to_bytes(4, "big")))
    made += [(f"{key}{PART_MARK}{n}", None) for n in range(count, before)]
    return made


def whole(records: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, int]]:
    """(entries, number of parts by key of those in parts) of a partition's records."""
    entries: dict[str, bytes] = {}
    parted: dict[str, int] = {}
    for key, value in records.items():
        name, mark, number = key.rpartition(PART_MARK)
        if mark and number.isdigit() and records.get(name, b"")[:1] == _PARTED:
            continue
        if value[:1] == _PARTED:
            count = parted[key] = int.from_bytes(value[1:], "big")
            entries[key] = b"".join(records[f"{key}{PART_MARK}{n}"] for n in range(count))
        else:
            entries[key] = value[1:]
    return entries, parted


def range_of(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """(first offset, offset behind the last) of a partition. Raises KafkaException."""
    until_s = time.monotonic() + READ_TIMEOUT_S
    while True:
        try:
            found = consumer.get_watermark_offsets(place, timeout=READ_TIMEOUT_S)
        except KafkaException as error:
            # A topic that was just made, or a broker that just left, has no leader for a moment.
            if error.args[0].code() not in _NO_LEADER or time.monotonic() > until_s:
                raise
            time.sleep(_TURN_S)
            continue
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"asking for the range of {place.topic}"))
        return found


def messages_of(consumer: Consumer, what: str, end: int = -1) -> Iterator[Message]:
    """Messages of the assigned partition up to before offset `end`, or to its end.

    A consumer that tells the end (enable.partition.eof) does so only when nothing came for a while, which
    never happens in a partition that is written all the time: readers of those give `end` as well. Raises
    KafkaException, also when nothing comes for 30 s; `what` is named then.
    """
    heard_s = time.monotonic()
    while True:
        # It waits for all that it is asked for, so it is asked for little time.
        for message in consumer.consume(10_000, timeout=_TURN_S):
            heard_s = time.monotonic()
            error = message.error()
            if error is None:
                offset = message.offset()
                if end >= 0 and offset is not None and offset >= end:
                    return
                yield message
                if end >= 0 and offset == end - 1:
                    return
            elif error.code() == KafkaError._PARTITION_EOF:
                return
            else:
                raise KafkaException(error)
        if time.monotonic() - heard_s > READ_TIMEOUT_S:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"reading {what}"))


def read_topic(kafka: KafkaSettings, name: str, partition: int) -> dict[str, bytes]:
    """Last value of each key of a partition of a compacted topic, as committed when it is called.

    Raises KafkaException.
    """
    consumer = Consumer(
        kafka.client(
            group__id=f"{kafka.prefix}correlator-read", enable__auto__commit=False, isolation__level="read_committed",
            auto__offset__reset="earliest", enable__partition__eof=True, check__crcs=True,
        )
    )  # fmt: skip
    found: dict[str, bytes] = {}
    try:
        place = TopicPartition(kafka.topic(name), partition, 0)
        start, end = range_of(consumer, place)
        if start == end:
            return found
        consumer.assign([place])
        for message in messages_of(consumer, f"{name}/{partition}", end):
            key, value = (message.key() or b"").decode(), message.value()
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
        return found
    finally:
        consumer.close()


class StateWriter:
    """The transactional producer of one partition. Making it fences whoever had the partition before."""

    def __init__(self, kafka: KafkaSettings, app: str, partition: int) -> None:
        self._kafka = kafka
        self._partition = partition
        self._topics: dict[str, str] = {}
        self._state = kafka.topic(STATE)
        self.parted: dict[str, int] = {}
        self._failed: KafkaError | None = None
        self._producer = Producer(
            kafka.client(
                transactional__id=f"{kafka.prefix}{app}-{partition}",
                transaction__timeout__ms=TRANSACTION_MS,
                linger__ms=5,  # fewer, larger requests; committing sends what waits at once
                delivery__report__only__error=True,
                compression__type="lz4",
                partitioner="murmur2_random",
                queue__buffering__max__messages=1_000_000,
                queue__buffering__max__kbytes=1 << 20,
            )
        )
        self._producer.init_transactions(READ_TIMEOUT_S)
        self._end_what_hangs()

    def write(self, messages: Iterable[Rendered], entries: Iterable[tuple[str, bytes | None]]) -> None:
        """Outputs and entries, all or nothing. Raises Fenced, KafkaException."""
        producer = self._producer
        try:
            producer.begin_transaction()
            for one in messages:
                self._send(self._topic(one.topic), one.key, one.value, list(one.headers), -1)
            for key, value in entries:
                for part, data in parts(key, value, self.parted.get(key, 0)):
                    self._send(self._state, part.encode(), data, None, self._partition)
                if value is not None and len(value) > PART_BYTES:
                    self.parted[key] = -(-len(value) // PART_BYTES)
                else:
                    self.parted.pop(key, None)
            producer.commit_transaction(READ_TIMEOUT_S)
        except KafkaException as error:
            kind = self._reason(error.args[0])
            if kind.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
                raise Fenced(kind.str()) from error
            raise
        if self._failed is not None:
            raise KafkaException(self._failed)

    def _reason(self, error: KafkaError) -> KafkaError:
        """Why a transaction failed. Handing over a message only says that the producer is no longer fit for it."""
        if error.code() not in (KafkaError._STATE, KafkaError._FATAL):
            return error
        try:
            self._producer.abort_transaction(READ_TIMEOUT_S)
        except KafkaException as told:
            reason: KafkaError = told.args[0]
            return reason
        return error

    def _end_what_hangs(self) -> None:
        """Gives up what a former owner wrote in a transaction that was never ended in the partitions themselves.

        Kafka 4.4.0, stopped and started in the middle of a commit, was seen to call a transaction complete without
        having written "committed" into its partitions (docs/reliability.md). What was written there stays hidden,
        state included, until the next commit of this id makes all of it visible, beside the same outputs folded again.
        So that commit must be preceded by an abort in each partition that may be concerned. Raises KafkaException,
        also when something else keeps a transaction open in state.
        """
        place = TopicPartition(self._state, self._partition)
        if not self._hidden(place):
            return
        _log.warning("transaction_given_up", partition=self._partition)
        self._producer.begin_transaction()
        self._send(self._state, _GIVEN_UP, None, None, self._partition)
        for name in (*TOLD, REJECTS):
            topic = self._topic(name)
            for partition in self._producer.list_topics(topic, READ_TIMEOUT_S).topics[topic].partitions:
                self._send(topic, _GIVEN_UP, b"", None, partition)
        self._producer.flush(READ_TIMEOUT_S)
        self._producer.abort_transaction(READ_TIMEOUT_S)
        if self._failed is not None:
            raise KafkaException(self._failed)
        until_s = time.monotonic() + READ_TIMEOUT_S
        while self._hidden(place):
            if time.monotonic() > until_s:
                raise KafkaException(
                    KafkaError(KafkaError._TIMED_OUT, f"a transaction of another writer stays open in {self._state}")
                )
            time.sleep(_TURN_S)

    def _hidden(self, place: TopicPartition) -> bool:
        """Whether readers of committed records do not see the partition to its end."""
        ends = []
        for isolation in ("read_committed", "read_uncommitted"):
            consumer = Consumer(self._kafka.client(group__id=f"{self._kafka.prefix}correlator-read",
                                                   isolation__level=isolation))  # fmt: skip
            try:
                ends.append(range_of(consumer, place)[1])
            finally:
                consumer.close()
        return ends[0] < ends[1]

    def _send(self, topic: str, key: bytes, value: bytes | None, headers: Headers | None, partition: int) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition=partition, headers=headers, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.05)
            else:
                return

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None and self._failed is None:
            self._failed = error

    def _topic(self, name: str) -> str:
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = self._kafka.topic(name)
        return found
