"""YAML with positions: plain dicts and lists that remember where each key and value stood.

Built from libyaml's event stream, not from node trees: a site of 100,000 assets loads in seconds and
without a second copy of the file in memory. YAML 1.1 scalars as `yaml.safe_load` reads them, except
that timestamps and "yes/no/on/off" stay text (a zone called "no" is a zone, and Sigma files quote
dates in several ways). Anchors and aliases work; a merge key ("<<") does not and is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from correlator.errors import Fault, FaultyFile

Mark = tuple[int, int]  # line and column, from 1


class MarkedDict(dict[str, Any]):
    """A mapping; `mark` is where it starts, `keys_at[k]` / `values_at[k]` where key and value stand."""

    __slots__ = ("keys_at", "mark", "values_at")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.keys_at: dict[str, Mark] = {}
        self.values_at: dict[str, Mark] = {}


class MarkedList(list[Any]):
    """A sequence; `items_at[i]` is where item i stands."""

    __slots__ = ("items_at", "mark")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.items_at: list[Mark] = []


_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F_]+")
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)?\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first in "-+.0123456789":
        if _INT.fullmatch(text):
            return int(text.replace("_", ""))
        if _HEX.fullmatch(text):
            return int(text.replace("_", ""), 16)
        if _OCTAL.fullmatch(text):
            return int(text.replace("_", ""), 8)
        if _FLOAT.fullmatch(text) and any(c.isdigit() for c in text):
            return float(text.replace("_", ""))
    return text


def load_documents(text: str, file: str) -> list[Any]:
    """All documents of a YAML text: MarkedDict, MarkedList or scalars.

    Raises FaultyFile with the position for broken YAML, a key given twice, a key that is not text,
    a merge key or an alias to nothing.
    """
    faults: list[Fault] = []
    documents: list[Any] = []
    try:
        for document in _documents(text, file, faults):
            documents.append(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = error.problem or error.context or "cannot be read"
        faults.append(Fault(file, line, column, f"not valid YAML: {what}", "check indentation, quotes and brackets"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        faults.append(Fault(file, line, 1, f"not valid YAML: {error.reason}", "save the file as UTF-8 text"))
    if faults:
        raise FaultyFile(faults)
    return documents


def load_file(path: Path, shown: str | None = None) -> list[Any]:
    """`load_documents` of a file. Raises FaultyFile also if it is missing or not UTF-8."""
    name = shown if shown is not None else str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FaultyFile([Fault(name, 0, 0, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise FaultyFile([Fault(name, 0, 0, f"is not UTF-8 text (byte {error.start})")]) from error
    return load_documents(text, name)


def _documents(text: str, file: str, faults: list[Fault]) -> Iterator[Any]:
    stack: list[tuple[Any, str | None, Mark | None]] = []  # container, pending key, its mark
    anchors: dict[str, Any] = {}
    container: Any = None
    key: str | None = None
    key_mark: Mark | None = None
    root: Any = None

    def place(value: Any, mark: Mark) -> None:
        nonlocal key, key_mark, root
        if container is None:
            root = value
        elif type(container) is MarkedList:
            container.append(value)
            container.items_at.append(mark)
        elif key is None:
            if isinstance(value, MarkedDict | MarkedList) or value is None:
                faults.append(Fault(file, mark[0], mark[1], "a key must be text", "quote it"))
                value = f"?{mark[0]}:{mark[1]}"
            key, key_mark = str(value), mark
            if key in container:
                first = container.keys_at[key]
                faults.append(Fault(file, mark[0], mark[1], f"key {key!r} is given twice", f"first on line {first[0]}"))
            elif key == "<<":
                faults.append(Fault(file, mark[0], mark[1], "merge keys (<<) are not supported", "write the keys out"))
        else:
            container[key] = value
            container.keys_at[key] = key_mark  # type: ignore[assignment]
            container.values_at[key] = mark
            key = None

    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        mark = (event.start_mark.line + 1, event.start_mark.column + 1)
        kind = type(event)
        if kind is yaml.ScalarEvent:
            value: Any = event.value
            # A key stays as written: 007 and 7 are different badges.
            wants_key = type(container) is MarkedDict and key is None
            if event.implicit[0] and not wants_key:
                value = _scalar(value)
            if event.anchor:
                anchors[event.anchor] = value
            place(value, mark)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            made: Any = MarkedDict(mark) if kind is yaml.MappingStartEvent else MarkedList(mark)
            if event.anchor:
                anchors[event.anchor] = made
            place(made, mark)
            stack.append((container, key, key_mark))
            container, key = made, None
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            container, key, key_mark = stack.pop()
        elif kind is yaml.AliasEvent:
            if event.anchor not in anchors:
                faults.append(Fault(file, mark[0], mark[1], f"alias *{event.anchor} points to nothing"))
            place(anchors.get(event.anchor), mark)
        elif kind is yaml.DocumentEndEvent:
            anchors.clear()
            yield root
            root = None
