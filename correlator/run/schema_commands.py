"""`correlator schemas write`."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from correlator.events.schema import write_schemas


def write(directory: Path, stdout: TextIO) -> int:
    """Writes the JSON Schemas, prints their paths, gives exit code 0. Raises OSError."""
    for path in write_schemas(directory):
        print(path, file=stdout)
    return 0
