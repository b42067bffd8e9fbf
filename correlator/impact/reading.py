"""Reads our own YAML files into plain values, with every fault of a file found in one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from correlator.clock import duration_ms
from correlator.errors import Fault
from correlator.marked import Mark, MarkedDict, MarkedList
from correlator.premises.load import nearest


class Reader:
    """One file's values. Every method takes a map and a key; what is wrong becomes a fault at its place."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []

    def fault(self, at: Mark, message: str, hint: str = "") -> None:
        """One more fault, at (line, column)."""
        self.faults.append(Fault(self.file, at[0], at[1], message, hint))

    @staticmethod
    def at(data: Any, key: str | int | None = None) -> Mark:
        """Where a key's value, an item or the whole container stands."""
        if isinstance(data, MarkedDict):
            return data.values_at.get(key, data.mark) if isinstance(key, str) else data.mark
        if isinstance(data, MarkedList):
            return data.items_at[key] if isinstance(key, int) else data.mark
        return (0, 0)

    def keys(self, data: Any, what: str, known: Mapping[str, bool], at: Mark = (1, 1)) -> bool:
        """Whether it is a map; faults for keys that are unknown or missing. known: key -> required."""
        if not isinstance(data, MarkedDict):
            self.fault(at, f"{what} must be a map of keys and values")
            return False
        for key in data:
            if key not in known:
                self.fault(data.keys_at[key], f"{what} has no key {key!r}", self._nearest(key, known))
        for key, required in known.items():
            if required and key not in data:
                self.fault(data.mark, f"{what} needs {key!r}")
        return True

    def maps(self, data: Any, key: str, what: str, known: Mapping[str, bool]) -> Iterator[MarkedDict]:
        """The maps of a list, those that are maps."""
        value = data.get(key)
        if value is None:
            return
        if not isinstance(value, MarkedList):
            self.fault(self.at(data, key), f"{key!r} must be a list")
            return
        for index, item in enumerate(value):
            if self.keys(item, what, known, self.at(value, index)):
                yield item

    def text(self, data: Any, key: str) -> str:
        """A text, "" if there is none; a fault if it is something else."""
        value = data.get(key)
        if value is None:
            return ""
        if not isinstance(value, str) or not value.strip():
            self.fault(self.at(data, key), f"{key!r} must be text")
            return ""
        return value.strip()

    def words(self, data: Any, key: str, among: Iterable[str], what: str) -> tuple[str, ...]:
        """One word or a list of words, each one of a closed list."""
        value = data.get(key)
        if value is None:
            return ()
        known = list(among)
        items = list(enumerate(value)) if isinstance(value, MarkedList) else [(None, value)]
        found = []
        for index, word in items:
            at = self.at(data, key) if index is None else self.at(value, index)
            if isinstance(word, str) and word in known:
                found.append(word)
            else:
                self.fault(at, f"{word!r} is no {what}", self._nearest(str(word), known))
        return tuple(dict.fromkeys(found))

    def word(self, data: Any, key: str, among: Iterable[str], what: str) -> str:
        """One word of a closed list, "" if there is none."""
        value = data.get(key)
        if isinstance(value, MarkedList):
            self.fault(self.at(data, key), f"{key!r} takes one {what}")
            return ""
        found = self.words(data, key, among, what)
        return found[0] if found else ""

    def number(self, data: Any, key: str, low: float, high: float) -> float | None:
        """A number between two bounds, both included."""
        value = data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.fault(self.at(data, key), f"{key!r} must be a number from {low:g} to {high:g}")
            return None
        return float(value)

    def duration(self, value: Any, at: Mark) -> int:
        """Milliseconds of "5m"; 0 for "0" and 0."""
        if value in (0, "0", "0s"):
            return 0
        try:
            return duration_ms(str(value))
        except ValueError as error:
            self.fault(at, str(error))
            return 0

    @staticmethod
    def _nearest(word: str, among: Iterable[str]) -> str:
        known = list(among)
        close = nearest(word, known)
        if close:
            return f"did you mean {close!r}?"
        return f"one of {', '.join(known)}" if len(known) <= 15 else ""
