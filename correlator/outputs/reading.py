"""Threats back from a file of JSON lines, such as a replay writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from correlator.errors import UsageError
from correlator.events.threat import Threat

_decode: Final = msgspec.json.Decoder(Threat).decode


def revisions(file: Path) -> Iterator[Threat]:
    """All revisions, in order. Raises UsageError with file:line for what is no threat, OSError."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _decode(line)
            except msgspec.DecodeError as error:
                raise UsageError(f"{file}:{number}: not a threat: {error}") from error


def newest(file: Path) -> list[Threat]:
    """The newest revision of each threat, in the order of their first. Raises as `revisions`."""
    return list({one.id: one for one in revisions(file)}.values())
