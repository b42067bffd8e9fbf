"""`correlator schemas write`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from correlator.events.schema import MAJOR, PUBLISHED, schema_text


def write(directory: Path, others: Mapping[str, str], stdout: TextIO) -> int:
    """Writes every schema to <directory>/<name>/<major>.json, prints the paths, gives 0. Raises OSError.

    others: path in the directory -> text, of what later stages publish beside messages.
    """
    texts = {f"{name}/{MAJOR}.json": schema_text(name) for name in PUBLISHED}
    for name, text in {**texts, **others}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path, file=stdout)
    return 0
