"""Finds the detections that an event can match at all: most events of a hospital should meet none.

What a detection asks of kind and dialect is answered once for all events that have them in common
(`Predicate.settled`). Of what is left, each detection gives anchors, (field, lower-cased value) pairs
of which one must hold for it to be true. They are kept in one table per field; an event is looked up
once per field, however many rules there are. A detection without anchors is tried on every event of
its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, final

from correlator.events.event import Event
from correlator.rules.fields import MISSING, Accessor, accessor_of, is_attribute
from correlator.rules.places import Places
from correlator.rules.predicates import Known, Predicate, anchor_rank

Test = Callable[[Event], bool]

MAX_SELECTIONS: Final = 4_096  # pairs of dialect and kind; when there are more, they are all made anew

NO_HITS: Final[list[int]] = []  # one for all events without a hit; nobody changes what `hits` returns


@final
class Candidate:
    """A detection in the index: `number` of its producer, and the test that decides (None: it is sure)."""

    __slots__ = ("number", "test")

    def __init__(self, number: int, test: Test | None) -> None:
        self.number = number
        self.test = test


@final
class Bucket:
    """The detections that ask for one value of a field; sure: their numbers, where none needs a test, else None."""

    __slots__ = ("candidates", "sure")

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        self.sure: list[int] | None = []

    def add(self, candidate: Candidate) -> None:
        """Puts a detection in; they come by number."""
        self.candidates.append(candidate)
        self.sure = [one.number for one in self.candidates] if not any(one.test for one in self.candidates) else None


Table = dict[str, Bucket]  # lower-cased text of a field's value -> the detections that ask for it


def anchor_text(value: Any) -> str:
    """How a scalar is looked up: lower-cased text, 4625.0 as "4625", true as "true"."""
    if type(value) is str:
        return value.lower()
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value).lower()


@final
class Selection:
    """The detections that events of one dialect and kind can hit.

    plain: fields that can only be an attribute of that very name; fields: all others; always: tried or
    sure on each event.
    """

    __slots__ = ("always", "fields", "plain")

    def __init__(self, left: list[tuple[int, Predicate | bool]], places: Places | None) -> None:
        self.always: list[Candidate] = []
        self.plain: list[tuple[str, Table]] = []
        self.fields: list[tuple[Accessor, Table]] = []
        # Each detection goes where the fewest others are: of several field values that it asks for, one is
        # its place. The field comes first, then how many detections could stand at the value.
        asking = [(number, predicate) for number, predicate in left if isinstance(predicate, Predicate)]
        crowd = Counter(
            anchor for _, predicate in asking for anchor in {one for choice in predicate.choices for one in choice}
        )
        tables: dict[str, Table] = {}
        for number, predicate in left:
            if not isinstance(predicate, Predicate):
                self.always.append(Candidate(number, None))
                continue
            if not predicate.choices:
                self.always.append(Candidate(number, predicate.test))
                continue
            chosen = min(
                predicate.choices,
                key=lambda choice: (anchor_rank(choice)[0], sum(crowd[one] for one in choice), choice),
            )
            candidate = Candidate(number, None if predicate.exact else predicate.beyond(chosen))
            for field, text in sorted(set(chosen)):
                tables.setdefault(field, {}).setdefault(text, Bucket()).add(candidate)
        for field in sorted(tables):
            if is_attribute(field):
                self.plain.append((field, tables[field]))
            else:
                self.fields.append((accessor_of(field, places), tables[field]))


@final
class DetectionIndex:
    """Which detections an event hits, in the order of their numbers."""

    def __init__(self, places: Places | None) -> None:
        self._places = places
        self._added: list[tuple[int, Predicate]] = []
        # dialect -> kind -> selection; `_shadowed` is for events with an attribute "kind" of their own.
        self._plain: dict[str, dict[str, Selection]] = {}
        self._shadowed: dict[str, dict[str, Selection]] = {}
        self._made = 0

    def add(self, number: int, predicate: Predicate) -> None:
        """Puts a detection in, under the number of its producer."""
        self._added.append((number, predicate))

    def kinds(self) -> frozenset[str] | None:
        """The event kinds that can hit anything; None if other fields decide that too."""
        found: set[str] = set()
        for _, predicate in self._added:
            choices = [one for one in predicate.choices if all(field in ("kind", "@kind") for field, _ in one)]
            if not choices:
                return None
            found.update(text for _, text in choices[0])
        return frozenset(found)

    def candidates(self) -> Iterator[Candidate]:
        """What was sorted in for the kinds of events seen so far, each once; for measuring."""
        found: dict[int, Candidate] = {}
        for selections in (*self._plain.values(), *self._shadowed.values()):
            for selection in selections.values():
                listed = [selection.always]
                listed += [one.candidates for _, table in selection.plain for one in table.values()]
                listed += [one.candidates for _, table in selection.fields for one in table.values()]
                found.update((id(one), one) for ones in listed for one in ones)
        return iter(found.values())

    def hits(self, event: Event) -> list[int]:
        """Numbers of the detections that are true for the event, ascending, each once."""
        carried = event.carried
        shadowed = "kind" in carried if type(carried) is dict else event.names_kind()
        selections = (self._shadowed if shadowed else self._plain).get(event.dialect, _NO_SELECTIONS)
        selection = selections.get(event.kind)
        if selection is None:
            selection = self._select(event)
        attributes = _NO_ATTRIBUTES
        if selection.plain:
            attributes = carried if type(carried) is dict else event.attributes
        # Most events find nothing in the tables, or one entry: no list is made for them.
        found = selection.always
        several = False  # more than one list of candidates
        sure: list[int] | None = None
        for field, table in selection.plain:
            value = attributes.get(field, MISSING)
            if type(value) is str:
                bucket = table.get(value.lower())
                if bucket is None:
                    pass
                elif found:
                    found = found + bucket.candidates
                    several, sure = True, None
                else:
                    found, sure = bucket.candidates, bucket.sure
            elif value is not MISSING:
                found = found + _of_value(value, table)
                several, sure = True, None
        # The same for fields that are no plain attributes; written out, so that no event pays for a call.
        for accessor, table in selection.fields:
            value = accessor.get(event)
            if type(value) is str:
                bucket = table.get(value.lower())
                if bucket is None:
                    pass
                elif found:
                    found = found + bucket.candidates
                    several, sure = True, None
                else:
                    found, sure = bucket.candidates, bucket.sure
            elif value is not MISSING:
                found = found + _of_value(value, table)
                several, sure = True, None
        if sure is not None:
            return sure
        if not found:
            return NO_HITS
        hits: list[int] = []
        for candidate in found:
            test = candidate.test
            if test is None or test(event):
                hits.append(candidate.number)
        if several and len(hits) > 1:
            hits = sorted(set(hits))
        return hits

    def _select(self, event: Event) -> Selection:
        """Makes the selection for the first event of its dialect and kind."""
        if self._made >= MAX_SELECTIONS:
            self._plain.clear()
            self._shadowed.clear()
            self._made = 0
        shadowed = event.names_kind()
        known = Known(event.kind, event.dialect, not shadowed)
        left = [(number, predicate.settled(known)) for number, predicate in self._added]
        selection = Selection([one for one in left if one[1] is not False], self._places)
        selections = self._shadowed if shadowed else self._plain
        selections.setdefault(event.dialect, {})[event.kind] = selection
        self._made += 1
        return selection


def _of_value(value: Any, table: Table) -> list[Candidate]:
    """What a number, a truth value or a list (each element) leaves."""
    found: list[Candidate] = []
    for item in value if type(value) is list else (value,):
        bucket = table.get(anchor_text(item))
        if bucket is not None:
            found = found + bucket.candidates
    return found


_NO_SELECTIONS: Final[dict[str, Selection]] = {}
_NO_ATTRIBUTES: Final[dict[str, Any]] = {}
