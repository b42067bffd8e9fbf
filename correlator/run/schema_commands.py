"""`correlator schemas write`."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from correlator.events.schema import MAJOR, PUBLISHED, schema_text


def write(directory: Path, stdout: TextIO) -> int:
    """Writes every schema to <directory>/<name>/<major>.json, prints the paths, gives 0. Raises OSError."""
    for name in PUBLISHED:
        path = directory / name / f"{MAJOR}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(schema_text(name), encoding="utf-8")
        print(path, file=stdout)
    return 0
