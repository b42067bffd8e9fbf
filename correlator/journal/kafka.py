"""The journal as the Kafka topic `console.actions`: key = site, not compacted, kept for ever.

A position is the offset in the site's partition. Writers are idempotent and wait for all replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from correlator.journal.action import Act, from_bytes, to_bytes
from correlator.journal.store import JournalAway

TOPIC: Final = "console.actions"
GROUP: Final = "correlator-view"  # librdkafka asks for a name; nothing is committed in it
WRITE_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 10.0


def group_for(actions: str, name: str = GROUP) -> str:
    """A group's name with the prefix that the journal's topic has."""
    return actions.removesuffix(TOPIC) + name


class KafkaJournal:
    """The journal of one partition. client: settings of librdkafka that reach the broker, rights included."""

    def __init__(self, client: Mapping[str, Any], partition: int = 0, topic: str = TOPIC) -> None:
        self._topic, self._partition = topic, partition
        self.unreadable = 0
        self._producer = Producer(
            {
                **client,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
                "partitioner": "murmur2_random",
                # Shorter than what append waits: a write it gave up must not appear later by itself.
                "message.timeout.ms": int(WRITE_TIMEOUT_S * 1000) - 500,
            }
        )
        self._consumer = Consumer(
            {
                **client,
                "group.id": group_for(topic),
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )

    def append(self, act: Act) -> int:
        """Writes an action and returns its offset. Raises JournalAway when no broker took it in time."""
        told: list[tuple[KafkaError | None, Message]] = []
        try:
            self._producer.produce(
                self._topic,
                to_bytes(act),
                key=act.site.encode(),
                on_delivery=lambda error, message: told.append((error, message)),
            )
        except (BufferError, KafkaException) as refused:
            raise JournalAway(str(refused)) from refused
        self._producer.flush(WRITE_TIMEOUT_S)
        if not told:
            raise JournalAway("no broker answered")
        error, message = told[0]
        if error is not None:
            raise JournalAway(error.str())
        offset = message.offset()
        assert offset is not None
        return offset

    def read(self, after: int) -> Iterator[tuple[int, Act]]:
        """The actions behind an offset up to the end of the partition as it stands. Raises JournalAway.

        What is no action counts for nothing, as in the views; `unreadable` counts it.
        """
        here = TopicPartition(self._topic, self._partition)
        try:
            first, end = self._consumer.get_watermark_offsets(here, timeout=READ_TIMEOUT_S)
        except KafkaException as refused:
            raise JournalAway(str(refused)) from refused
        at = max(after + 1, first)
        if at >= end:
            return
        self._consumer.assign([TopicPartition(self._topic, self._partition, at)])
        while at < end:
            messages = self._consumer.consume(500, timeout=READ_TIMEOUT_S)
            if not messages:
                raise JournalAway("the broker stopped answering")
            for message in messages:
                error = message.error()
                if error is not None:
                    raise JournalAway(error.str())
                offset, value = message.offset(), message.value()
                assert offset is not None
                at = offset + 1
                if value is None:
                    continue
                try:
                    act = from_bytes(value)
                except ValueError:
                    self.unreadable += 1
                    continue
                yield offset, act

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()
