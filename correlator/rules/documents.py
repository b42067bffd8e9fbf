"""A rule file's text, where things stand in it, and the list its faults are collected in."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from correlator.errors import Fault
from correlator.marked import Mark, MarkedDict, MarkedList
from correlator.rules.syntax import Position


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word most like this one, else all of them if they are few, else ""."""
    words = sorted(known)
    close = get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"one of: {', '.join(words)}" if len(words) <= 30 else ""


class RuleFile:
    """One file being read: its name as shown, its text, and what was found in it.

    `faults` holds errors and warnings, `notes` remarks on portability (severity "note").
    """

    __slots__ = ("faults", "name", "notes", "text", "_line_starts")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.faults: list[Fault] = []
        self.notes: list[Fault] = []
        self._line_starts = [0]
        for index, char in enumerate(text):
            if char == "\n":
                self._line_starts.append(index + 1)

    def error(self, mark: Mark, message: str, hint: str = "") -> None:
        """Something for which the file is refused."""
        self.faults.append(Fault(self.name, mark[0], mark[1], message, hint))

    def warning(self, mark: Mark, message: str, hint: str = "") -> None:
        """Something that is used, with a loss or a doubt."""
        self.faults.append(Fault(self.name, mark[0], mark[1], message, hint, "warning"))

    def note(self, mark: Mark, message: str, hint: str = "") -> None:
        """A remark of `rules check`: what other readers of this file would say."""
        self.notes.append(Fault(self.name, mark[0], mark[1], message, hint, "note"))

    def position(self, mark: Mark) -> Position:
        """The mark with the file's name."""
        return Position(self.name, mark[0], mark[1])

    def inside(self, mark: Mark, value: str, offset: int) -> Mark:
        """Where character `offset` of a scalar's value stands; `mark` is where the scalar starts.

        Walks value and source side by side, so quotes, block scalars and folded lines are stepped over.
        """
        place = self._line_starts[min(mark[0] - 1, len(self._line_starts) - 1)] + mark[1] - 1
        text = self.text
        if place < len(text) and text[place] in "'\"":
            place += 1
        elif place < len(text) and text[place] in "|>":
            place = text.find("\n", place) + 1 or len(text)
        for char in value[: offset + 1]:
            if not char.isspace():
                found = text.find(char, place)
                if found < 0:
                    return mark
                place = found + 1
        if offset < len(value) and not value[offset].isspace():
            place -= 1
        line = _line_of(self._line_starts, place)
        return line + 1, place - self._line_starts[line] + 1

    def unknown_keys(self, part: MarkedDict, known: Iterable[str], what: str) -> None:
        """An error for each key that is none of the known ones, with the nearest right word."""
        words = tuple(known)
        for key in part:
            if key not in words:
                self.error(part.keys_at[key], f"{what} has no key {key!r}", nearest(key, words))


def _line_of(starts: list[int], place: int) -> int:
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if starts[middle] <= place:
            low = middle
        else:
            high = middle - 1
    return low


def text_list(file: RuleFile, part: MarkedDict, key: str, what: str) -> list[tuple[str, Mark]]:
    """The texts under a key that holds one text or a list of texts, each with its mark; faults else.

    Numbers count as text (an unquoted name 4625). An absent or null key gives an empty list.
    """
    value = part.get(key)
    if value is None:
        return []
    items: list[tuple[Any, Mark]]
    if isinstance(value, MarkedList):
        items = list(zip(value, value.items_at, strict=True))
    else:
        items = [(value, part.values_at[key])]
    found = []
    for item, mark in items:
        if isinstance(item, str) or type(item) is int:
            found.append((str(item), mark))
        else:
            file.error(mark, f"{what} must be a text or a list of texts")
    return found
