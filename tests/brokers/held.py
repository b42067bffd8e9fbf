"""`correlator`, to which Kafka confirms nothing although it answers: its producers keep what they are given.

Such a client was seen after a restart of Kafka on a busy machine (docs/reliability.md); how to bring it about is not
known, so one stands in for it that waits a quarter of an hour for more to send.
"""

from __future__ import annotations

import sys
from typing import Any

from correlator.cli.main import main
from correlator.ingest.kafka import KafkaSettings

client = KafkaSettings.client


def keeping(self: KafkaSettings, **more: Any) -> dict[str, Any]:
    made = client(self, **more)
    return made | {"linger.ms": 900_000} if "enable.idempotence" in made else made


KafkaSettings.client = keeping  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
