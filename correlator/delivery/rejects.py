"""What an output could not deliver, or a reader of ours could not read, goes to the topic `rejects`."""

from __future__ import annotations

import msgspec
from confluent_kafka import Producer

from correlator.ingest.kafka import KafkaSettings


class Rejects:
    """Writes them. name: the output, or `evidence`."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        self._name, self._topic = name, kafka.topic("rejects")
        self._producer = Producer(kafka.client(enable__idempotence=True, acks="all"))

    def write(self, site: str, value: bytes, reason: str, detail: str) -> None:
        """One record with the first 64 KB of `value`; site "": not known."""
        body = {
            "reason": reason, "detail": detail, "output": self._name, "site": site or "_unknown",
            "bytes": len(value), "raw": value[:65_536].decode("utf-8", "replace"), "schema_version": "1.0",
        }  # fmt: skip
        self._producer.produce(self._topic, msgspec.json.encode(body), (site or "_unknown").encode())
        self._producer.flush(10)
