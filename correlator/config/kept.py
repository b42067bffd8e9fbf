"""What is kept of people, on Kafka or in an embedded log: what was told, and the raw messages of evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from correlator.delivery.evidence import EVIDENCE
from correlator.embedded.log import EmbeddedLog
from correlator.events.event import KeptMessage
from correlator.ingest.kafka import KafkaSettings
from correlator.stream.state import messages_of, range_of

_ROWS: Final = 1_000
_WAIT_S: Final = 30.0
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_kept: Final = msgspec.json.Decoder(KeptMessage).decode


class Kept(Protocol):
    """What is kept. Raises UsageError or KafkaException where it cannot be read or written."""

    def told(self, topic: str) -> Iterator[bytes]:
        """Everything told on a topic, oldest first."""
        ...

    def evidence(self) -> Iterator[KeptMessage]:
        """Every raw message kept as evidence, as it is kept (locked, where it is)."""
        ...

    def replace(self, payloads: Mapping[str, bytes]) -> None:
        """Puts other payloads in the place of kept ones, by event."""
        ...


class InLog:
    """An embedded log, beside the process that writes it."""

    def __init__(self, file: Path) -> None:
        self._log = EmbeddedLog(file, write=False)

    def told(self, topic: str) -> Iterator[bytes]:
        """Everything told on a topic, oldest first."""
        after = 0
        while rows := self._log.outputs(topic, after, _ROWS):
            after = rows[-1][0]
            for _, value in rows:
                yield value

    def evidence(self) -> Iterator[KeptMessage]:
        """Every raw message kept as evidence."""
        for one in self._log.evidence():
            yield KeptMessage(
                event=one.event, site=one.site, channel=one.channel, received_ms=one.received_ms,
                payload=one.payload, size=one.size, sha256=one.sha256,
            )  # fmt: skip

    def replace(self, payloads: Mapping[str, bytes]) -> None:
        """Puts other payloads in the place of kept ones."""
        self._log.replace_evidence(dict(payloads))


class OnKafka:
    """The topics of a cluster. What is replaced on a topic goes with its next compaction."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def told(self, topic: str) -> Iterator[bytes]:
        """Everything told on a topic, by partition."""
        for _, value in self._values(topic):
            yield value

    def evidence(self) -> Iterator[KeptMessage]:
        """Every raw message kept as evidence; of one that was replaced the last."""
        last: dict[str, int] = {event: number for number, (event, _) in enumerate(self._values(EVIDENCE))}
        for number, (event, value) in enumerate(self._values(EVIDENCE)):
            if last.get(event) == number:
                yield _kept(value)

    def replace(self, payloads: Mapping[str, bytes]) -> None:
        """Writes kept messages again with other payloads."""
        producer = Producer(self._kafka.client(enable__idempotence=True, acks="all", partitioner="murmur2_random"))
        refused: list[KafkaError] = []
        for one in [one for one in self.evidence() if one.event in payloads]:
            value = _encode(msgspec.structs.replace(one, payload=payloads[one.event]))
            producer.produce(
                self._kafka.topic(EVIDENCE), value, one.event.encode(),
                on_delivery=lambda error, _: refused.append(error) if error is not None else None,
            )  # fmt: skip
        if producer.flush(_WAIT_S) or refused:
            raise KafkaException(refused[0] if refused else KafkaError(KafkaError._TIMED_OUT, "writing evidence"))

    def _values(self, topic: str) -> Iterator[tuple[str, bytes]]:
        """(key, value) of every record of a topic, by partition and offset."""
        name = self._kafka.topic(topic)
        found = AdminClient(self._kafka.client()).list_topics(timeout=_WAIT_S).topics.get(name)
        for partition in sorted(found.partitions) if found is not None else ():
            consumer = Consumer(
                self._kafka.client(
                    group__id=f"{self._kafka.prefix}correlator-read", enable__auto__commit=False,
                    auto__offset__reset="earliest", isolation__level="read_committed", enable__partition__eof=True,
                )
            )  # fmt: skip
            try:
                place = TopicPartition(name, partition, 0)
                start, end = range_of(consumer, place)
                if start == end:
                    continue
                consumer.assign([place])
                for message in messages_of(consumer, f"{topic}/{partition}", end):
                    value = message.value()
                    if value is not None:
                        yield (message.key() or b"").decode("utf-8", "replace"), value
            finally:
                consumer.close()
