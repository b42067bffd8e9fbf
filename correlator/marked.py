"""YAML with positions: plain dicts and lists that remember where each key and value stood.

Built from libyaml's event stream, not from node trees: a site of 100,000 assets loads in seconds and
without a second copy of the file in memory. YAML 1.1 scalars as `yaml.safe_load` reads them, except
that timestamps and "yes/no/on/off" stay text (a zone called "no" is a zone, and Sigma files quote
dates in several ways). Anchors and aliases work; a merge key ("<<") does not and is a fault.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from correlator.errors import Fault, FaultyFile

Mark = tuple[int, int]  # line and column, from 1


# A position is kept as one integer, line << _COLUMN_BITS | column, because a tuple for each key and
# each value costs more memory and time than the values themselves.
_COLUMN_BITS = 20
_COLUMN_MASK = (1 << _COLUMN_BITS) - 1


class MarkedDict(dict[str, Any]):
    """A mapping; `mark` is where it starts, `keys_at[k]` / `values_at[k]` where key and value stand."""

    __slots__ = ("_at", "_keys_at", "_values_at", "mark")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self._at: list[int] = []  # key, value, key, value ... in the order of the mapping
        self._keys_at: dict[str, Mark] | None = None
        self._values_at: dict[str, Mark] | None = None

    @property
    def keys_at(self) -> dict[str, Mark]:
        """Where each key stands."""
        if self._keys_at is None:
            self._keys_at = {key: _mark(at) for key, at in zip(self, self._at[0::2], strict=False)}
        return self._keys_at

    @property
    def values_at(self) -> dict[str, Mark]:
        """Where each value stands."""
        if self._values_at is None:
            self._values_at = {key: _mark(at) for key, at in zip(self, self._at[1::2], strict=False)}
        return self._values_at


class MarkedList(list[Any]):
    """A sequence; `items_at[i]` is where item i stands."""

    __slots__ = ("_at", "_items_at", "mark")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self._at: list[int] = []
        self._items_at: list[Mark] | None = None

    @property
    def items_at(self) -> list[Mark]:
        """Where each item stands."""
        if self._items_at is None:
            self._items_at = [_mark(at) for at in self._at]
        return self._items_at


def _mark(at: int) -> Mark:
    return at >> _COLUMN_BITS, at & _COLUMN_MASK


_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F_]+")
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)?\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip


_SPECIAL_STARTS = frozenset("-+.0123456789~nNtTfF")  # no other plain scalar is anything but text


def _scalar(text: str) -> Any:
    if text and text[0] not in _SPECIAL_STARTS:
        return text
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


@contextmanager
def no_collection() -> Iterator[None]:
    """While a large file is read: what is made stays alive, so collecting cycles only costs time (half of it)."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def load_documents(text: str, file: str) -> list[Any]:
    """All documents of a YAML text: MarkedDict, MarkedList or scalars.

    Raises FaultyFile with the position for broken YAML, a key given twice, a key that is not text,
    a merge key or an alias to nothing.
    """
    faults: list[Fault] = []
    documents: list[Any] = []
    try:
        with no_collection():
            documents = _documents(text, file, faults)
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
        data = path.read_bytes()
    except OSError as error:
        raise FaultyFile([Fault(name, 0, 0, f"cannot be read: {error.strerror}")]) from error
    return load_bytes(data, name)


def load_bytes(data: bytes, file: str) -> list[Any]:
    """`load_documents` of a file's bytes. Raises FaultyFile also if they are not UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FaultyFile([Fault(file, 0, 0, f"is not UTF-8 text (byte {error.start})")]) from error
    return load_documents(text, file)


def _documents(text: str, file: str, faults: list[Fault]) -> list[Any]:
    """One pass over libyaml's events. Written out in one loop: it runs 25 times for each asset of a site."""
    documents: list[Any] = []
    stack: list[tuple[Any, str | None, int]] = []  # outer container, its pending key, where that stands
    anchors: dict[str, Any] = {}
    container: Any = None
    in_map = False
    key: str | None = None
    key_at = 0
    root: Any = None
    scalar_event, map_start, list_start = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
    map_end, list_end = yaml.MappingEndEvent, yaml.SequenceEndEvent
    next_event = yaml.CSafeLoader(text).get_event
    while True:
        event: Any = next_event()
        kind = type(event)
        if kind is map_end or kind is list_end:
            container, key, key_at = stack.pop()
            in_map = type(container) is MarkedDict
            continue
        start = event.start_mark
        at = (start.line + 1 << _COLUMN_BITS) + start.column + 1
        opened = False
        if kind is scalar_event:
            value: Any = event.value
            # A key stays as written: 007 and 7 are different badges.
            if (key is not None or not in_map) and event.implicit[0]:
                value = _scalar(value)
            if event.anchor:
                anchors[event.anchor] = value
        elif kind is map_start or kind is list_start:
            mark = (start.line + 1, start.column + 1)
            value = MarkedDict(mark) if kind is map_start else MarkedList(mark)
            opened = True
            if event.anchor:
                anchors[event.anchor] = value
        elif kind is yaml.AliasEvent:
            if event.anchor not in anchors:
                line, column = _mark(at)
                faults.append(Fault(file, line, column, f"alias *{event.anchor} points to nothing"))
            value = anchors.get(event.anchor)
        elif kind is yaml.DocumentEndEvent:
            documents.append(root)
            anchors.clear()
            root = None
            continue
        elif kind is yaml.StreamEndEvent:
            return documents
        else:  # the start of the stream or of a document
            continue

        if in_map:
            if key is None:
                key, key_at = _key(value, at, container, file, faults), at
            else:
                if key not in container:
                    container._at += (key_at, at)
                container[key] = value
                key = None
        elif container is None:
            root = value
        else:
            container.append(value)
            container._at.append(at)
        if opened:
            stack.append((container, key, key_at))
            container, key, in_map = value, None, kind is map_start


def _key(value: Any, at: int, container: MarkedDict, file: str, faults: list[Fault]) -> str:
    """The text of a key; a fault if it is none, is given twice or is a merge key."""
    line, column = _mark(at)
    if isinstance(value, MarkedDict | MarkedList) or value is None:
        faults.append(Fault(file, line, column, "a key must be text", "quote it"))
        return f"?{line}:{column}"
    key = str(value)
    if key in container:
        first = _mark(container._at[2 * list(container).index(key)])
        faults.append(Fault(file, line, column, f"key {key!r} is given twice", f"first on line {first[0]}"))
    elif key == "<<":
        faults.append(Fault(file, line, column, "merge keys (<<) are not supported", "write the keys out"))
    return key
