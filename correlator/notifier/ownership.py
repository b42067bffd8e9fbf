"""Which of several notifiers sends: the one to whom Kafka's consumer group gives the journal's partition.

The others read along and find the same rows, so that whoever comes next goes on. An owner that dies or hangs
loses the partition after SESSION_MS; what it sent and could not note is sent again under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from correlator.journal.kafka import group_for

GROUP: Final = "correlator-notifier"
SESSION_MS: Final = 10_000


class Ownership:
    """Membership in the group. client: settings of librdkafka that reach the broker; topic: the journal's name."""

    def __init__(self, client: Mapping[str, Any], topic: str) -> None:
        self._owned: set[int] = set()
        self._consumer = Consumer(
            {**client, "group.id": group_for(topic, GROUP), "enable.auto.commit": False,
             "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": SESSION_MS // 4}
        )  # fmt: skip
        self._consumer.subscribe([topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)

    def mine(self) -> bool:
        """Whether this process sends now. Never waits."""
        self._consumer.poll(0)  # nothing is read: it lets the group's changes through
        return bool(self._owned)

    def close(self) -> None:
        """Leaves the group, so that another one takes over at once."""
        self._consumer.close()

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        consumer.pause(partitions)
        self._owned |= {one.partition for one in partitions}

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned -= {one.partition for one in partitions}
