"""The parts of correlator.yaml that a bridge needs, read without the rest of the system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from correlator.bridge.settings import BridgeSettings
from correlator.errors import Fault, FaultyFile, UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.marked import MarkedDict, MarkedList, load_file


@dataclass(frozen=True, slots=True)
class BridgeFile:
    """What stands in a settings file for a bridge."""

    bridge: BridgeSettings
    kafka: KafkaSettings


def read_settings(file: Path) -> BridgeFile:
    """The parts `bridge:` and `kafka:`. Raises UsageError, or FaultyFile with every fault and its place."""
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file")
    documents = load_file(file)
    root = documents[0] if documents else None
    if not isinstance(root, MarkedDict):
        raise FaultyFile([Fault(str(file), 1, 1, "settings are one mapping", "bridge:, kafka:")])
    faults: list[Fault] = []
    made: dict[str, Any] = {}
    parts: dict[str, type[BaseModel]] = {"bridge": BridgeSettings, "kafka": KafkaSettings}
    for name, model in parts.items():
        try:
            made[name] = model.model_validate(root.get(name) or {})
        except ValidationError as error:
            faults += _faults(error, root, name, str(file))
    if faults:
        raise FaultyFile(faults)
    return BridgeFile(made["bridge"], made["kafka"])


def _faults(error: ValidationError, root: MarkedDict, part: str, file: str) -> list[Fault]:
    found = []
    for one in error.errors(include_url=False, include_input=False):
        path = (part, *one["loc"])
        line, column = _place(root, path)
        found.append(
            Fault(file, line, column, f"{'.'.join(map(str, path))}: {one['msg'].removeprefix('Value error, ')}")
        )
    return found


def _place(root: Any, path: tuple[Any, ...]) -> tuple[int, int]:
    """Line and column of the value at a path, or of the nearest thing above it that is in the file."""
    mark = root.mark
    for step in path:
        if isinstance(root, MarkedDict) and step in root:
            mark, root = root.values_at[step], root[step]
        elif isinstance(root, MarkedList) and isinstance(step, int) and step < len(root):
            mark, root = root.items_at[step], root[step]
        else:
            break
    return int(mark[0]), int(mark[1])
