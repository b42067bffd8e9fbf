"""`correlator`, whose ingest takes none of the partitions that its group gives it, as a client library that is stuck."""

from __future__ import annotations

import sys
from typing import Any

from correlator.cli.main import main
from correlator.stream.ingest import IngestProcess


def taking_nothing(_: IngestProcess, consumer: Any, __: Any) -> None:
    consumer.incremental_assign([])


IngestProcess._on_assign = taking_nothing  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
