"""Conditions on an event, or between events of a correlation: `x-correlator.where`.

What a condition needs of an event is captured when that event is folded, as one plain tuple
(value, asset, zones, time_ms), so that the matcher keeps no events. A condition about one event is
answered at its capture: the tuple's value is then True, False or None. A condition about two events
is answered from both tuples when the later one is folded; what it asks of live state is asked then.
None means not known, and counts as false, negated or not (docs/rules.md section 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from correlator.clock import duration_text
from correlator.events.event import Event
from correlator.rules.fields import MISSING, accessor_of, entity_kind_of, keys_of, number_of
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


@final
class Capture:
    """Takes what one operand needs from an event of its step.

    kind: "value" (the field's value alone), "place" (with asset and zones) or "answer" (the condition
    itself, of one event). step: as in `Operand`. Unpacks as (step, kind, field).
    """

    __slots__ = ("_accessors", "_kinds", "_places", "_where", "field", "kind", "step")

    def __init__(self, where: Where, operands: Sequence[Operand], kind: str, index: int, places: Places | None) -> None:
        self.step = operands[0].step
        self.kind = kind
        self.field = operands[0].field
        self._where = where
        self._places = places
        self._accessors = tuple(accessor_of(operand.field, places) for operand in operands)
        means = _MEANS.get(where.predicate, ("host", "host"))
        self._kinds = tuple(
            entity_kind_of(operand.field)[1] or means[min(index + place, len(means) - 1)]
            for place, operand in enumerate(operands)
        )

    def __iter__(self) -> Any:
        return iter((self.step, self.kind, self.field))

    def capture_values(self, event: Event) -> Captured:
        """What the condition needs of this event."""
        if self.kind != "answer":
            return self._taken(0, event)
        if self._where.predicate == "in-window":
            return (None if self._places is None else self._places.in_window(event), "", (), event.time_ms)
        taken = [self._taken(index, event) for index in range(len(self._accessors))]
        kinds = self._kinds
        return _answer(self._where, taken, kinds, self._places), "", (), event.time_ms

    def _taken(self, index: int, event: Event) -> Captured:
        accessor, kind = self._accessors[index], self._kinds[index]
        places, time_ms = self._places, event.time_ms
        if not accessor.field:
            place = places.event_place(event) if places is not None else ""
            zones = places.zones_of(place, time_ms) if places is not None and place else ()
            return place or None, place, zones, time_ms
        value = accessor.get(event)
        if value is MISSING:
            return None, "", (), time_ms
        if places is None or self._where.predicate in _PLAIN_VALUES:
            return value, "", (), time_ms
        keys = keys_of(value)
        if not keys:
            return value, "", (), time_ms
        if kind == "zone":
            return value, keys[0], keys, time_ms
        asset = keys[0] if accessor.field == "asset" else places.resolve(kind, keys[0], time_ms)
        return value, asset, places.zones_of(asset, time_ms), time_ms


@final
class WhereTest:
    """One compiled condition.

    captures: what to take, one per operand in order, or a single "answer" when all operands are of one
    event. `test` wants one `Captured` per capture, in the same order.
    steps: the steps whose events it needs, in order of the captures.
    """

    __slots__ = ("_kinds", "_places", "captures", "steps", "where")

    def __init__(self, where: Where, places: Places | None) -> None:
        self.where = where
        self._places = places
        operands = where.operands
        if len({operand.step for operand in operands}) == 1:
            self.captures: tuple[Capture, ...] = (Capture(where, operands, "answer", 0, places),)
        else:
            kind = "value" if where.predicate in _PLAIN_VALUES else "place"
            self.captures = tuple(
                Capture(where, (operand,), kind, index, places) for index, operand in enumerate(operands)
            )
        self.steps = tuple(capture.step for capture in self.captures)
        means = _MEANS.get(where.predicate, ("host", "host"))
        self._kinds = tuple(
            entity_kind_of(operand.field)[1] or means[min(index, len(means) - 1)]
            for index, operand in enumerate(operands)
        )

    def test(self, values: Sequence[Captured]) -> bool | None:
        """Whether the condition holds of captured values, `not` applied; None = not known = false."""
        if len(self.captures) == 1:
            answer: bool | None = values[0][0]
        else:
            answer = _answer(self.where, values, self._kinds, self._places)
        if answer is None:
            return None
        return answer is not self.where.negated


def compile_where(where: Where, places: Places | None) -> WhereTest:
    """The test of one `where` entry. Without a site model only same, different and greater are known."""
    return WhereTest(where, places)


def _option(where: Where, name: str, default: Any) -> Any:
    for key, value in where.options:
        if key == name:
            return value
    return default


def _answer(where: Where, values: Sequence[Captured], kinds: Sequence[str], places: Places | None) -> bool | None:
    """The predicate, before `not`."""
    word = where.predicate
    first = values[0]
    second = values[1] if len(values) > 1 else first
    if word in ("same", "different"):
        mine, theirs = keys_of(first[0]), keys_of(second[0])
        if not mine or not theirs:
            return None
        common = any(key in theirs for key in mine)
        return common if word == "same" else not common
    if word == "greater":
        left, right = number_of(first[0]), number_of(second[0])
        if left is None or right is None:
            return None
        return bool(left > right + _option(where, "by", 0))
    if places is None:
        return None
    if len(values) > 1:
        return _of_two(where, first, second, kinds, places)
    return _of_one(where, first, kinds[0], places)


def _of_one(where: Where, value: Captured, kind: str, places: Places) -> bool | None:
    word, time_ms = where.predicate, value[3]
    keys = keys_of(value[0])
    if not keys:
        return None
    entity = keys[0]
    if word == "working-hours":
        known = [hours for zone in value[2] if (hours := places.working_hours(zone, time_ms)) is not None]
        return any(known) if known else None
    if word == "restricted":
        assets = value[2] if kind == "zone" else (value[1],)
        answers = [places.restricted(asset, time_ms) for asset in assets if _known_asset(asset)]
        told = [answer for answer in answers if answer is not None]
        return any(told) if told else None
    if word == "validity":
        return places.validity(kind, entity, time_ms) in _option(where, "is", ())
    if word == "unused":
        unused_ms = places.unused_ms(kind, entity, time_ms)
        return None if unused_ms is None else unused_ms >= _option(where, "for", 0)
    if word == "known":
        asset = places.resolve(kind, entity, time_ms) if kind == "zone" else value[1]
        return not (asset or "unknown:").startswith("unknown:")
    if word == "person-on-site":
        return _present(where, _person(value, kind, places), None, time_ms, places)
    raise ValueError(f"no such predicate of one event: {word!r}")


def _known_asset(asset: str) -> bool:
    return bool(asset) and not asset.startswith("unknown:")


def _person(value: Captured, kind: str, places: Places) -> str | None:
    """The person an operand means: by name, or as the holder of a badge or owner of an account."""
    keys = keys_of(value[0])
    if not keys:
        return None
    if kind == "person":
        return keys[0]
    return places.person_of(kind, keys[0], value[3])


def _present(
    where: Where, person: str | None, zones: Sequence[str] | None, time_ms: int, places: Places
) -> bool | None:
    """Whether a person is known to be in one of the zones (None: anywhere inside)."""
    seen = places.presence(person, time_ms) if person else None
    if seen is None:
        return None
    zone, confidence, _ = seen
    if confidence < _option(where, "confidence", DEFAULT_CONFIDENCE):
        return None
    return zone != "outside" if zones is None else zone in zones


def _of_two(where: Where, first: Captured, second: Captured, kinds: Sequence[str], places: Places) -> bool | None:
    word = where.predicate
    later_ms = max(first[3], second[3])
    mine, theirs = keys_of(first[0]), keys_of(second[0])
    if not mine or not theirs:
        return None
    if word == "person-in-zone":
        return _present(where, _person(first, kinds[0], places), second[2], later_ms, places) if second[2] else None
    if word == "last-seen":
        seen = places.last_seen(kinds[0], mine[0])
        if seen is None or not second[2]:
            return None
        zone, seen_ms = seen
        within = _option(where, "within", None)
        return zone in second[2] and (within is None or later_ms - seen_ms <= within)
    if word == "owns":
        person = _person(first, kinds[0], places)
        return None if person is None else places.owns(person, kinds[1], theirs[0], later_ms)
    if not _known_asset(first[1]) or not _known_asset(second[1]):
        return None
    if word == "camera-covers":
        return places.covers(first[1], second[1], later_ms)
    if word == "reachable":
        return places.reachable(first[1], second[1], later_ms)
    if not first[2] or not second[2]:
        return None
    if word in ("same-zone", "in-zone"):
        return any(zone in second[2] for zone in first[2])
    if word == "within-doors":
        doors = places.doors_between(first[2], second[2])
        return None if doors is None else doors <= _option(where, "doors", 0)
    if word == "sooner-than-walk":
        walk_ms = places.walk_ms(first[2], second[2])
        if walk_ms is None:
            return None
        return abs(second[3] - first[3]) < walk_ms * float(_option(where, "factor", DEFAULT_FACTOR))
    raise ValueError(f"no such predicate of two events: {word!r}")


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
