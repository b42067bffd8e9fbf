"""Finds the detections that an event can match at all: most events of a hospital should meet none.

Each detection gives anchors, (field, lower-cased value) pairs of which one must hold for it to be
true. They are kept in one table per field; an event is looked up once per field, however many rules
there are. A detection without anchors is tried on every event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, final

from correlator.events.event import Event
from correlator.rules.fields import MISSING, Accessor


@final
class Candidate:
    """A detection in the index: `number` of its producer, and the test that decides (None: the anchor did)."""

    __slots__ = ("number", "test")

    def __init__(self, number: int, test: Any) -> None:
        self.number = number
        self.test = test


def anchor_text(value: Any) -> str:
    """How a scalar is looked up: lower-cased text, 4625.0 as "4625", true as "true"."""
    if type(value) is str:
        return value.lower()
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value).lower()


@final
class DetectionIndex:
    """Which detections an event hits, in the order of their numbers."""

    def __init__(self, places: Any) -> None:
        self._places = places
        self._by_kind: dict[str, list[Candidate]] = {}
        self._tables: dict[str, dict[str, list[Candidate]]] = {}
        self._fields: list[tuple[Accessor, dict[str, list[Candidate]]]] = []
        self._always: list[Candidate] = []
        self._plain = True

    def add(self, number: int, anchors: Iterable[tuple[str, str]] | None, exact: bool, test: Any) -> None:
        """Puts a detection in; test is a callable of an Event, anchors as described above."""
        candidate = Candidate(number, None if exact else test)
        if anchors is None:
            self._always.append(Candidate(number, test))
            return
        pairs = sorted(set(anchors))
        for field, text in pairs:
            if field == "@kind":
                self._by_kind.setdefault(text, []).append(candidate)
            else:
                self._tables.setdefault(field, {}).setdefault(text, []).append(candidate)

    def freeze(self) -> None:
        """Ends building."""
        self._fields = [(Accessor(field, self._places), self._tables[field]) for field in sorted(self._tables)]

    def hits(self, event: Event) -> list[int]:
        """Numbers of the detections that are true for the event, ascending, each once."""
        found: list[int] = []
        candidates = self._by_kind.get(event.kind)
        if candidates is not None:
            for candidate in candidates:
                test = candidate.test
                if test is None or test(event):
                    found.append(candidate.number)
        for accessor, table in self._fields:
            value = accessor.get(event)
            if value is MISSING:
                continue
            if type(value) is str:
                candidates = table.get(value.lower())
            elif type(value) is list:
                for item in value:
                    for candidate in table.get(anchor_text(item), _NONE):
                        if candidate.test is None or candidate.test(event):
                            found.append(candidate.number)
                continue
            else:
                candidates = table.get(anchor_text(value))
            if candidates is not None:
                for candidate in candidates:
                    test = candidate.test
                    if test is None or test(event):
                        found.append(candidate.number)
        for candidate in self._always:
            if candidate.test(event):
                found.append(candidate.number)
        if len(found) > 1:
            found = sorted(set(found))
        return found


_NONE: Final[list[Candidate]] = []
