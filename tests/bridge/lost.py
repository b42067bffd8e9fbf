"""`correlator`, whose bridge loses Kafka for ever: its producer is one that reaches nobody."""

from __future__ import annotations

import sys

from confluent_kafka import Producer

from correlator.bridge.bridge import Bridge
from correlator.cli.main import main

await_kafka = Bridge._await_kafka


def found_and_lost(self: Bridge) -> None:
    await_kafka(self)
    self._producer = Producer(
        {"bootstrap.servers": "127.0.0.1:1", "log_level": 2, "error_cb": self._kafka_error, "message.timeout.ms": 0}
    )


Bridge._await_kafka = found_and_lost  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
