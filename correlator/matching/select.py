"""Finds the detections that an event can match at all: most events of a hospital should meet none.

Each detection gives anchors, (field, lower-cased value) pairs of which one must hold for it to be
true. They are kept in one table per field; an event is looked up once per field, however many rules
there are. A detection without anchors is tried on every event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, final

from correlator.events.event import Event
from correlator.rules.fields import MISSING, OUR_NAMES, Accessor, accessor_of
from correlator.rules.places import Places
from correlator.rules.predicates import Anchors, Predicate, anchor_rank

Test = Callable[[Event], bool]


@final
class Candidate:
    """A detection in the index: `number` of its producer, and the test that decides (None: the anchor did)."""

    __slots__ = ("number", "test")

    def __init__(self, number: int, test: Test | None) -> None:
        self.number = number
        self.test = test


Table = dict[str, list[Candidate]]  # lower-cased text of a field's value -> the detections that ask for it


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

    def __init__(self, places: Places | None) -> None:
        self._places = places
        self._added: list[tuple[int, tuple[Anchors, ...], bool, Test]] = []
        self._by_kind: Table = {}  # "@kind": the event's own kind
        self._kind_field: Table = {}  # "kind": an attribute of that name, else the event's own
        self._plain: list[tuple[str, Table]] = []  # fields that can only be an attribute of that very name
        self._fields: list[tuple[Accessor, Table]] = []
        self._always: list[Candidate] = []

    def add(self, number: int, predicate: Predicate) -> None:
        """Puts a detection in, under the number of its producer."""
        self._added.append((number, predicate.choices, predicate.exact, predicate.test))

    def freeze(self) -> None:
        """Ends building: each detection goes where the fewest others are.

        Of several field values that a detection asks for, one is its place in the index. The field comes
        first (one look-up of `kind` serves many rules), then how many detections could stand at the value.
        """
        crowd = Counter(
            anchor for _, choices, _, _ in self._added for anchor in {one for choice in choices for one in choice}
        )
        tables: dict[str, Table] = {}
        for number, choices, exact, test in self._added:
            if not choices:
                self._always.append(Candidate(number, test))
                continue
            chosen = min(
                choices,
                key=lambda choice: (anchor_rank(choice)[0], sum(crowd[one] for one in choice), choice),
            )
            candidate = Candidate(number, None if exact else test)
            for field, text in sorted(set(chosen)):
                table = self._by_kind if field == "@kind" else tables.setdefault(field, {})
                table.setdefault(text, []).append(candidate)
        self._kind_field = tables.pop("kind", {})
        for field in sorted(tables):
            if "." in field or field.startswith("@") or field in OUR_NAMES:
                self._fields.append((accessor_of(field, self._places), tables[field]))
            else:
                self._plain.append((field, tables[field]))

    def kinds(self) -> frozenset[str] | None:
        """The event kinds that can hit anything; None if other fields decide that too."""
        if self._always or self._plain or self._fields:
            return None
        return frozenset(self._by_kind) | frozenset(self._kind_field)

    def hits(self, event: Event) -> list[int]:
        """Numbers of the detections that are true for the event, ascending, each once."""
        found: list[int] = []
        candidates = self._by_kind.get(event.kind)
        if candidates is not None:
            for candidate in candidates:
                test = candidate.test
                if test is None or test(event):
                    found.append(candidate.number)
        attributes = event.attributes
        value = attributes.get("kind", event.kind)
        if type(value) is str:
            candidates = self._kind_field.get(value.lower())
            if candidates is not None:
                for candidate in candidates:
                    test = candidate.test
                    if test is None or test(event):
                        found.append(candidate.number)
        else:
            _try_value(value, self._kind_field, event, found)
        for field, table in self._plain:
            value = attributes.get(field, MISSING)
            if type(value) is str:
                candidates = table.get(value.lower())
                if candidates is not None:
                    for candidate in candidates:
                        test = candidate.test
                        if test is None or test(event):
                            found.append(candidate.number)
            elif value is not MISSING:
                _try_value(value, table, event, found)
        for accessor, table in self._fields:
            value = accessor.get(event)
            if type(value) is str:
                candidates = table.get(value.lower())
                if candidates is not None:
                    for candidate in candidates:
                        test = candidate.test
                        if test is None or test(event):
                            found.append(candidate.number)
            elif value is not MISSING:
                _try_value(value, table, event, found)
        for candidate in self._always:
            if candidate.test(event):  # type: ignore[misc]
                found.append(candidate.number)
        if len(found) > 1:
            found = sorted(set(found))
        return found


def _try_value(value: Any, table: Table, event: Event, found: list[int]) -> None:
    """As in `hits`, for a number, a truth value or a list (each element)."""
    for item in value if type(value) is list else (value,):
        for candidate in table.get(anchor_text(item), _NONE):
            test = candidate.test
            if test is None or test(event):
                found.append(candidate.number)


_NONE: Final[list[Candidate]] = []
