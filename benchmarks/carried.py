"""`python -m benchmarks.carried worker --config FILE`: the worker as it is, but of the records that it reads and decodes
the engine folds only those that bring a configuration. What it then takes is the carriage."""

from __future__ import annotations

import sys

from correlator.cli.main import main
from correlator.matching import Outputs
from correlator.run.log import LogRecord
from correlator.run.site_engine import SiteEngine

fold = SiteEngine.receive


def receive(self: SiteEngine, record: LogRecord) -> Outputs:
    return Outputs() if record.configuration is None else fold(self, record)


SiteEngine.receive = receive  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
