"""What an output could not deliver, or a reader of ours could not read, goes to the topic `rejects`."""

from __future__ import annotations

from typing import Final

import msgspec
from confluent_kafka import Message as KafkaMessage
from confluent_kafka import Producer

from correlator.events.event import RejectReason
from correlator.ingest.intake import UNKNOWN_SITE
from correlator.ingest.kafka import KafkaSettings
from correlator.sources.dialect import Message, reject

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Rejects:
    """Writes them as `Reject` messages, like every other reject. name: the output, or `evidence`; their source."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        self._name, self._kafka = name, kafka
        self._producer = Producer(kafka.client(enable__idempotence=True, acks="all"))

    def write(self, told: KafkaMessage, reason: RejectReason, detail: str, site: str = "") -> None:
        """Writes the reject of a told message. site: "" if it cannot be read from the message."""
        topic = (told.topic() or "").removeprefix(self._kafka.prefix)
        message = Message(
            channel=topic, payload=told.value() or b"", received_ms=told.timestamp()[1],
            raw=f"{topic}/{told.partition()}:{told.offset()}",
        )  # fmt: skip
        one = reject(site, self._name, "", message, reason, detail)
        self._producer.produce(self._kafka.topic("rejects"), _encode(one), (site or UNKNOWN_SITE).encode())
        self._producer.flush(10)
