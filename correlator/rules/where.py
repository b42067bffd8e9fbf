"""Conditions on an event, or between events of a correlation: `x-correlator.where`.

What a condition needs of an event is captured when that event is folded, as one plain tuple
(value, asset, zones, time_ms), so that the matcher keeps no events. A condition about one event is
answered at its capture: the tuple's value is then True, False or None. A condition about two events
is answered from both tuples when the later one is folded; what it asks of live state is asked then.
None means not known, and counts as false, negated or not (docs/rules.md section 8).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from correlator.clock import duration_text
from correlator.events.event import Event
from correlator.rules.fields import MISSING, Accessor, accessor_of, entity_kind_of, keys_of, number_of
from correlator.rules.places import Places
from correlator.rules.syntax import Operand, Where

Captured = tuple[Any, str, tuple[str, ...], int]
"""(value, asset, zones, time_ms): the operand's value (None if absent), the asset it stands for ("" if
none), the zones that asset stands in then, the event's time. Plain values, fit for state entries."""

DEFAULT_CONFIDENCE: Final = 0.5
DEFAULT_FACTOR: Final = 1.0

# What must be given besides the operands.
REQUIRED_OPTIONS: dict[str, tuple[str, ...]] = {
    "within-doors": ("doors",),
    "validity": ("is",),
    "unused": ("for",),
}

# The entity kind of an operand whose field is none of our names (an attribute that holds an id).
_MEANS: dict[str, tuple[str, ...]] = {
    "camera-covers": ("camera", "device"),
    "in-zone": ("host", "zone"),
    "reachable": ("host", "host"),
    "owns": ("person", "account"),
    "person-in-zone": ("person", "zone"),
    "person-on-site": ("person",),
    "last-seen": ("badge", "zone"),
    "working-hours": ("zone",),
    "restricted": ("zone",),
    "validity": ("badge",),
    "unused": ("badge",),
    "known": ("host",),
}
_PLAIN_VALUES = ("same", "different", "greater")  # need no site model
# Conditions on one event that ask nothing of the place its operand stands at.
_PLACELESS = (*_PLAIN_VALUES, "validity", "unused", "person-on-site", "owns")


# ---- operands ----------------------------------------------------------------------------------


class Reader(ABC):
    """Takes what a condition needs from one event."""

    __slots__ = ()

    @abstractmethod
    def take(self, event: Event) -> Captured:
        """The tuple that is kept of the event."""


@final
class _Value(Reader):
    """A field's value alone."""

    __slots__ = ("_accessor",)

    def __init__(self, accessor: Accessor) -> None:
        self._accessor = accessor

    def take(self, event: Event) -> Captured:
        value = self._accessor.get(event)
        return None if value is MISSING else value, "", (), event.time_ms


@final
class _Place(Reader):
    """Where the event happened: an operand without a field."""

    __slots__ = ("_places",)

    def __init__(self, places: Places) -> None:
        self._places = places

    def take(self, event: Event) -> Captured:
        time_ms = event.time_ms
        place = self._places.event_place(event)
        return place or None, place, self._places.zones_of(place, time_ms) if place else (), time_ms


@final
class _Zones(Reader):
    """A field that names zones."""

    __slots__ = ("_accessor",)

    def __init__(self, accessor: Accessor) -> None:
        self._accessor = accessor

    def take(self, event: Event) -> Captured:
        value = self._accessor.get(event)
        if value is MISSING:
            return None, "", (), event.time_ms
        keys = keys_of(value)
        return value, keys[0] if keys else "", keys, event.time_ms


@final
class _Named(Reader):
    """A field that names a thing of the site, with the zones that it stands in."""

    __slots__ = ("_accessor", "_is_asset", "_kind", "_places")

    def __init__(self, accessor: Accessor, kind: str, places: Places) -> None:
        self._accessor = accessor
        self._kind = kind
        self._places = places
        self._is_asset = accessor.field == "asset"

    def take(self, event: Event) -> Captured:
        value = self._accessor.get(event)
        time_ms = event.time_ms
        if value is MISSING:
            return None, "", (), time_ms
        name = _first_key(value)
        if not name:
            return value, "", (), time_ms
        asset = name if self._is_asset else self._places.resolve(self._kind, name, time_ms)
        return value, asset, self._places.zones_of(asset, time_ms), time_ms


@final
class _Nothing(Reader):
    """An operand that only a site model could tell, where there is none."""

    __slots__ = ()

    def take(self, event: Event) -> Captured:
        return None, "", (), event.time_ms


def _reader(field: str, kind: str, places: Places | None, *, placed: bool) -> Reader:
    """How an operand is taken. placed: with its asset and zones."""
    if not field:
        return _Place(places) if places is not None else _Nothing()
    accessor = accessor_of(field, places)
    if places is None or not placed:
        return _Value(accessor)
    return _Zones(accessor) if kind == "zone" else _Named(accessor, kind, places)


@final
class Capture:
    """Takes what one operand needs from an event of its step.

    kind: "value" (the field's value alone), "place" (with asset and zones) or "answer" (the condition
    itself, of one event). step: as in `Operand`. Unpacks as (step, kind, field).
    """

    __slots__ = ("_reader", "field", "kind", "step")

    def __init__(self, operand: Operand, kind: str, reader: Reader) -> None:
        self.step = operand.step
        self.kind = kind
        self.field = operand.field
        self._reader = reader

    def __iter__(self) -> Any:
        return iter((self.step, self.kind, self.field))

    def capture_values(self, event: Event) -> Captured:
        """What the condition needs of this event."""
        return self._reader.take(event)


# ---- conditions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What a predicate is given beside the values: entity kinds of its operands, its options, and the site.

    places: `Places`, or None for predicates that compare values alone.
    """

    kinds: tuple[str, ...]
    options: dict[str, Any]
    places: Any


Answer = Callable[[Captured, Captured, Asked], bool | None]


@final
class _Answered(Reader):
    """A condition whose operands are all of one event: the answer is what is taken."""

    __slots__ = ("_answer", "_asked", "_readers")

    def __init__(self, answer: Answer | None, readers: Sequence[Reader], asked: Asked) -> None:
        self._answer = answer
        self._readers = tuple(readers)
        self._asked = asked

    def take(self, event: Event) -> Captured:
        return self.answer(event), "", (), event.time_ms

    def answer(self, event: Event) -> bool | None:
        """The predicate of this event, before `not`."""
        answer = self._answer
        if answer is None:
            return None
        readers = self._readers
        first = readers[0].take(event)
        return answer(first, readers[1].take(event) if len(readers) > 1 else first, self._asked)


@final
class _InWindow(Reader):
    """Whether a declared window covers the event, which is asked of the whole event."""

    __slots__ = ("_places",)

    def __init__(self, places: Places | None) -> None:
        self._places = places

    def take(self, event: Event) -> Captured:
        return self.answer(event), "", (), event.time_ms

    def answer(self, event: Event) -> bool | None:
        """The predicate of this event, before `not`."""
        return None if self._places is None else self._places.in_window(event)


@final
class WhereTest:
    """One compiled condition.

    captures: what to take, one per operand in order, or a single "answer" when all operands are of one
    event. `test` wants one `Captured` per capture, in the same order.
    steps: the steps whose events it needs, in order of the captures.
    """

    __slots__ = ("_alone", "_answer", "_asked", "captures", "steps", "where")

    def __init__(self, where: Where, places: Places | None) -> None:
        self.where = where
        operands = where.operands
        word = where.predicate
        means = _MEANS.get(word, ("host", "host"))
        kinds = tuple(
            entity_kind_of(operand.field)[1] or means[min(place, len(means) - 1)]
            for place, operand in enumerate(operands)
        )
        self._answer = _ANSWERS.get(word) if places is not None or word in _PLAIN_VALUES else None
        self._asked = Asked(kinds, dict(where.options), places)
        self._alone: _Answered | _InWindow | None = None
        alone = len({operand.step for operand in operands}) == 1
        placed = word not in (_PLACELESS if alone else _PLAIN_VALUES)
        readers = [
            _reader(operand.field, kind, places, placed=placed) for operand, kind in zip(operands, kinds, strict=True)
        ]
        if alone:
            in_window = word == "in-window"
            self._alone = _InWindow(places) if in_window else _Answered(self._answer, readers, self._asked)
            self.captures: tuple[Capture, ...] = (Capture(operands[0], "answer", self._alone),)
        else:
            kind = "place" if placed else "value"
            self.captures = tuple(
                Capture(operand, kind, reader) for operand, reader in zip(operands, readers, strict=True)
            )
        self.steps = tuple(capture.step for capture in self.captures)

    def test(self, values: Sequence[Captured]) -> bool | None:
        """Whether the condition holds of captured values, `not` applied; None = not known = false."""
        answer: bool | None = None
        if self._alone is not None:
            answer = values[0][0]
        elif self._answer is not None:
            answer = self._answer(values[0], values[1], self._asked)
        return None if answer is None else answer is not self.where.negated

    def answer_of_one(self) -> Callable[[Event], bool | None]:
        """What answers for the one event that all operands are of, before `not`."""
        assert self._alone is not None
        return self._alone.answer


def compile_where(where: Where, places: Places | None) -> WhereTest:
    """The test of one `where` entry. Without a site model only same, different and greater are known."""
    return WhereTest(where, places)


# ---- predicates --------------------------------------------------------------------------------
# Each takes the captured operands (a lone one twice) and what is asked, and answers before `not`.


def _first_key(value: Any) -> str:
    """The first group key of a value, "" if it gives none."""
    if type(value) is str:
        return value
    keys = keys_of(value)
    return keys[0] if keys else ""


def _same(first: Captured, second: Captured, asked: Asked) -> bool | None:
    mine, theirs = keys_of(first[0]), keys_of(second[0])
    if not mine or not theirs:
        return None
    return any(key in theirs for key in mine)


def _different(first: Captured, second: Captured, asked: Asked) -> bool | None:
    same = _same(first, second, asked)
    return None if same is None else not same


def _greater(first: Captured, second: Captured, asked: Asked) -> bool | None:
    left, right = number_of(first[0]), number_of(second[0])
    if left is None or right is None:
        return None
    return bool(left > right + asked.options.get("by", 0))


def _working_hours(value: Captured, _: Captured, asked: Asked) -> bool | None:
    if not _first_key(value[0]):
        return None
    told = None
    for zone in value[2]:
        working = asked.places.working_hours(zone, value[3])
        if working:
            return True
        if working is not None:
            told = False
    return told


def _restricted(value: Captured, _: Captured, asked: Asked) -> bool | None:
    if not _first_key(value[0]):
        return None
    told = None
    for asset in value[2] if asked.kinds[0] == "zone" else (value[1],):
        if _known_asset(asset):
            restricted = asked.places.restricted(asset, value[3])
            if restricted:
                return True
            if restricted is not None:
                told = False
    return told


def _validity(value: Captured, _: Captured, asked: Asked) -> bool | None:
    name = _first_key(value[0])
    if not name:
        return None
    return asked.places.validity(asked.kinds[0], name, value[3]) in asked.options.get("is", ())


def _unused(value: Captured, _: Captured, asked: Asked) -> bool | None:
    name = _first_key(value[0])
    unused_ms = asked.places.unused_ms(asked.kinds[0], name, value[3]) if name else None
    return None if unused_ms is None else unused_ms >= asked.options.get("for", 0)


def _known(value: Captured, _: Captured, asked: Asked) -> bool | None:
    name = _first_key(value[0])
    if not name:
        return None
    return _known_asset(asked.places.resolve("zone", name, value[3]) if asked.kinds[0] == "zone" else value[1])


def _person_on_site(value: Captured, _: Captured, asked: Asked) -> bool | None:
    return _present(asked, _person(value, asked), None, value[3])


def _known_asset(asset: str) -> bool:
    return bool(asset) and not asset.startswith("unknown:")


def _person(value: Captured, asked: Asked) -> str | None:
    """The person an operand means: by name, or as the holder of a badge or owner of an account."""
    name, kind = _first_key(value[0]), asked.kinds[0]
    if kind == "person":
        return name or None
    return asked.places.person_of(kind, name, value[3]) if name else None


def _present(asked: Asked, person: str | None, zones: Sequence[str] | None, time_ms: int) -> bool | None:
    """Whether a person is known to be in one of the zones (None: anywhere inside)."""
    seen = asked.places.presence(person, time_ms) if person else None
    if seen is None:
        return None
    zone, confidence, _ = seen
    if confidence < asked.options.get("confidence", DEFAULT_CONFIDENCE):
        return None
    return zone != "outside" if zones is None else zone in zones


def _person_in_zone(first: Captured, second: Captured, asked: Asked) -> bool | None:
    if not second[2] or not _first_key(second[0]):
        return None
    return _present(asked, _person(first, asked), second[2], max(first[3], second[3]))


def _last_seen(first: Captured, second: Captured, asked: Asked) -> bool | None:
    name = _first_key(first[0])
    seen = asked.places.last_seen(asked.kinds[0], name) if name and _first_key(second[0]) else None
    if seen is None or not second[2]:
        return None
    zone, seen_ms = seen
    within = asked.options.get("within")
    return zone in second[2] and (within is None or max(first[3], second[3]) - seen_ms <= within)


def _owns(first: Captured, second: Captured, asked: Asked) -> bool | None:
    name = _first_key(second[0])
    person = _person(first, asked) if name else None
    return None if person is None else asked.places.owns(person, asked.kinds[1], name, max(first[3], second[3]))


def _both_known(first: Captured, second: Captured) -> bool:
    return _known_asset(first[1]) and _known_asset(second[1])


def _camera_covers(first: Captured, second: Captured, asked: Asked) -> bool | None:
    return asked.places.covers(first[1], second[1], max(first[3], second[3])) if _both_known(first, second) else None


def _reachable(first: Captured, second: Captured, asked: Asked) -> bool | None:
    return asked.places.reachable(first[1], second[1], max(first[3], second[3])) if _both_known(first, second) else None


def _both_placed(first: Captured, second: Captured) -> bool:
    return bool(first[2]) and bool(second[2]) and _both_known(first, second)


def _shared_zone(first: Captured, second: Captured, asked: Asked) -> bool | None:
    return any(zone in second[2] for zone in first[2]) if _both_placed(first, second) else None


def _within_doors(first: Captured, second: Captured, asked: Asked) -> bool | None:
    doors = asked.places.doors_between(first[2], second[2]) if _both_placed(first, second) else None
    return None if doors is None else doors <= asked.options.get("doors", 0)


def _sooner_than_walk(first: Captured, second: Captured, asked: Asked) -> bool | None:
    walk_ms = asked.places.walk_ms(first[2], second[2]) if _both_placed(first, second) else None
    if walk_ms is None:
        return None
    return bool(abs(second[3] - first[3]) < walk_ms * float(asked.options.get("factor", DEFAULT_FACTOR)))


_ANSWERS: Final[dict[str, Answer]] = {
    "same": _same, "different": _different, "greater": _greater,
    "working-hours": _working_hours, "restricted": _restricted, "validity": _validity, "unused": _unused,
    "known": _known, "person-on-site": _person_on_site,
    "person-in-zone": _person_in_zone, "last-seen": _last_seen, "owns": _owns,
    "camera-covers": _camera_covers, "reachable": _reachable, "same-zone": _shared_zone, "in-zone": _shared_zone,
    "within-doors": _within_doors, "sooner-than-walk": _sooner_than_walk,
}  # fmt: skip


# ---- words -------------------------------------------------------------------------------------


def operand_text(operand: Operand, steps: Sequence[str] = ()) -> str:
    """An operand in words: "the badge", or with names of steps "the badge of `grant`"."""
    subject = f"the {operand.field}" if operand.field else "the place"
    return f"{subject} of `{steps[operand.step]}`" if 0 <= operand.step < len(steps) else subject


def where_text(where: Where, steps: Sequence[str] = ()) -> str:
    """A condition in plain words; steps: the names of the rules that operands count through."""
    names = [operand_text(operand, steps) for operand in where.operands]
    first, second = names[0], names[-1]
    word = where.predicate
    opt = dict(where.options)
    said = {
        "same": f"{first} and {second} are the same",
        "different": f"{first} and {second} differ",
        "greater": f"{first} is greater than {second}" + (f" by more than {opt['by']}" if opt.get("by") else ""),
        "same-zone": f"{first} and {second} share a zone",
        "within-doors": f"at most {opt.get('doors', 0)} doors lie between {first} and {second}",
        "sooner-than-walk": f"{second} came sooner than the walk from {first} takes",
        "camera-covers": f"{first} covers {second}",
        "in-zone": f"{first} stands in {second}",
        "reachable": f"{second} is reachable over the network from {first}",
        "owns": f"{first} owns {second}",
        "person-in-zone": f"{first} is known to be in {second}",
        "person-on-site": f"{first} is known to be on site",
        "last-seen": f"{first} was last seen in {second}"
        + (f" within {duration_text(opt['within'])}" if opt.get("within") else ""),
        "working-hours": f"it falls into the working hours of {first}",
        "in-window": "a declared window covers the event",
        "restricted": f"{first} is restricted",
        "validity": f"{first} is {' or '.join(opt.get('is', ()))}",
        "unused": f"{first} had not been used for {duration_text(opt.get('for', 0))}",
        "known": f"the site model knows {first}",
    }[word]
    return f"not: {said}" if where.negated else said
