"""`correlator`, whose ingest takes none of the partitions that its group gives it, as a client library that is stuck.

With ASKS_NOBODY it cannot ask Kafka for its group either.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from confluent_kafka.admin import AdminClient

from correlator.cli.main import main
from correlator.stream.ingest import IngestProcess


def taking_nothing(self: IngestProcess, consumer: Any, __: Any) -> None:
    consumer.incremental_assign([])
    if os.environ.get("ASKS_NOBODY"):
        self._admin = AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 2})


IngestProcess._on_assign = taking_nothing  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
