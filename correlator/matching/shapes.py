"""The shapes that are not decided inline: k of n, boolean conditions, chains with gaps or conditions,
and the running metrics.

Each `holds_*` looks at a group's windows right after an event was appended and says whether the
condition holds now, and until the expiry of which event.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any, Final, final

from correlator.matching.state import SHIFT, TIME, Cell, Episode, Window
from correlator.rules.fields import number_of

if TYPE_CHECKING:
    from correlator.matching.conditions import Taken
    from correlator.matching.plan import Rule

LOOK_BACK: Final = 64  # events of a step tried for conditions between events (docs/rules.md, where_chooses_latest)


@final
class Chosen:
    """A condition that holds.

    floor    position of the event whose expiry ends it
    value    the aggregate
    entries  the chosen events where they are not simply the window: (position, id, inner episode)
    first    position of the first event of the chain
    taken    per step, what conditions captured of the chosen event
    """

    __slots__ = ("entries", "first", "floor", "taken", "value")

    def __init__(self, floor: int, value: float, entries: list[tuple[int, str, Episode | None]] | None) -> None:
        self.floor = floor
        self.value = value
        self.entries = entries
        self.first = floor
        self.taken: list[Taken | None] | None = None


def holds_count(rule: Rule, cell: Cell, position: int) -> Chosen | None:
    """event_count off the fast path: the k-th newest entry is inside the window."""
    window = cell.wins[rule.slots[0].index]
    assert window is not None
    size = len(window.pos)
    if size < rule.k or window.pos[size - rule.k] < (position & TIME) - rule.span:
        return None
    value = size - bisect_left(window.pos, (position & TIME) - rule.span)
    return Chosen(window.pos[size - rule.k], value, None)


def holds_distinct(rule: Rule, cell: Cell, position: int) -> Chosen | None:
    """value_count off the fast path: newest entries first, until k values are seen."""
    window = cell.wins[rule.slots[0].index]
    assert window is not None
    assert window.vals is not None
    seen: set[str] = set()
    floor = -1
    for place in range(len(window.pos) - 1, -1, -1):
        if window.pos[place] < (position & TIME) - rule.span:
            break
        seen.update(window.vals[place][0])
        if floor < 0 and len(seen) >= rule.k:
            floor = window.pos[place]
    return Chosen(floor, len(seen), None) if floor >= 0 else None


def holds_presence(rule: Rule, cell: Cell, position: int) -> Chosen | None:
    """temporal off the fast path: boolean conditions, k of n, conditions between events."""
    if rule.where is not None:
        return _presence_where(rule, cell, position)
    newest = [-1] * len(rule.slots)
    for step in rule.positive:
        window = cell.wins[rule.slots[step].index]
        if window is not None:
            newest[step] = window.last
    return _presence(rule, newest, position)


def _presence(rule: Rule, newest: list[int], position: int) -> Chosen | None:
    oldest = (position & TIME) - rule.span
    if rule.tree is None:
        ranked = sorted((newest[step] for step in rule.positive), reverse=True)
        floor = ranked[rule.k - 1] if rule.k <= len(ranked) else -1
    else:
        floor = _floor(rule.tree, newest)
    if floor < oldest or floor < 0:
        return None
    return Chosen(floor, sum(1 for step in rule.positive if newest[step] >= max(oldest, 0)), None)


def _floor(tree: Any, newest: list[int]) -> int:
    """The position whose expiry makes a tree false: `and` the oldest of its parts, `or` the newest."""
    if type(tree) is int:
        return newest[tree]
    kind, parts = tree
    each = [_floor(part, newest) for part in parts]
    return min(each) if kind == "and" else max(each)


def _presence_where(rule: Rule, cell: Cell, position: int) -> Chosen | None:
    """The new event stays fixed; for each other rule, in order, its latest event that fits."""
    conditions = rule.where
    assert conditions is not None
    oldest = (position & TIME) - rule.span
    newest = [-1] * len(rule.slots)
    entries: list[tuple[int, str, Episode | None]] = []
    taken: list[Taken | None] = [None] * rule.step_count
    others: list[int] = []
    for step in rule.positive:
        window = cell.wins[rule.slots[step].index]
        if window is None:
            continue
        assert window.vals is not None
        captured = window.vals[-1][2].get(step) if window.last == position else None
        if captured is None:
            others.append(step)
        elif conditions.holds_with(step, captured, taken):
            newest[step] = position
            taken[step] = captured
            entries.append((*window.pairs[-1], window.vals[-1][1]))
        else:
            return None
    for step in others:
        window = cell.wins[rule.slots[step].index]
        assert window is not None
        assert window.vals is not None
        for place in range(len(window.pos) - 1, max(-1, len(window.pos) - 1 - LOOK_BACK), -1):
            at = window.pos[place]
            if at < oldest:
                break
            _, inner, by_step = window.vals[place]
            captured = by_step.get(step)
            if captured is not None and conditions.holds_with(step, captured, taken):
                newest[step] = at
                taken[step] = captured
                entries.append((*window.pairs[place], inner))
                break
    chosen = _presence(rule, newest, position)
    if chosen is None:
        return None
    entries.sort(key=lambda entry: (entry[0], entry[1]))
    chosen.entries = entries
    chosen.first = entries[0][0]
    chosen.taken = taken
    return chosen


def holds_chain(rule: Rule, cell: Cell, position: int) -> Chosen | None:
    """temporal_ordered off the fast path: latest events first, going back where a gap or condition fails."""
    oldest = (position & TIME) - rule.span
    gap_ms = rule.max_gap_ms
    windows: list[Window] = []
    for index in rule.seq:
        window = cell.wins[index]
        if window is None or window.last < oldest:
            return None  # a step that has no event at all: nothing is tried
        windows.append(window)
    places = [0] * len(windows)
    taken: list[Taken | None] = [None] * rule.step_count
    failed: set[tuple[int, int]] = set()

    def back(step: int, before: int) -> bool:
        """Finds an event for this step and those before it, strictly before a position."""
        if step < 0:
            return True
        window = windows[step]
        place = bisect_left(window.pos, before) - 1
        tried = 0
        while place >= 0 and tried < LOOK_BACK:
            at = window.pos[place]
            if at < oldest or (gap_ms and (before >> SHIFT) - (at >> SHIFT) > gap_ms):
                return False
            if rule.where is None:
                if (step, place) not in failed:
                    places[step] = place
                    if back(step - 1, at):
                        return True
                    failed.add((step, place))
            else:
                assert window.vals is not None
                captured = window.vals[place][2].get(rule.steps[step])
                if captured is not None and rule.where.holds_with(rule.steps[step], captured, taken):
                    places[step] = place
                    taken[rule.steps[step]] = captured
                    if back(step - 1, at):
                        return True
                    taken[rule.steps[step]] = None
                tried += 1
            place -= 1
        return False

    last = len(windows) - 1
    final = windows[last]
    places[last] = len(final.pos) - 1
    if rule.where is not None:
        assert final.vals is not None
        captured = final.vals[-1][2].get(rule.steps[last])
        if captured is None or not rule.where.holds_with(rule.steps[last], captured, taken):
            return None
        taken[rule.steps[last]] = captured
    if not back(last - 1, position):
        return None
    first = windows[0].pos[places[0]]
    value = len(rule.positive)
    entries: list[tuple[int, str, Episode | None]] | None = None
    if rule.where is not None:
        entries = []
        for window, place in zip(windows, places, strict=True):
            inner = window.vals[place][1] if window.vals is not None else None
            entries.append((*window.pairs[place], inner))
    chosen = Chosen(first, value, entries)
    chosen.first = first
    chosen.taken = taken
    return chosen


# Every finite double is a whole number of these: sums are exact and independent of order.
_EXACT_BITS: Final = 1_074


@final
class Metric:
    """Running sum, average, percentile or median of the numbers in a window.

    Sums are kept as exact whole numbers, so adding and removing never drifts; percentile and median
    keep the numbers sorted. `head` is the absolute index of the first entry still counted.
    """

    __slots__ = ("_count", "_fine", "_kind", "_numbers", "_percentile", "_whole", "head", "holding")

    def __init__(self, kind: str, percentile: float) -> None:
        self._kind = kind
        self._percentile = percentile
        self._count = 0
        self._whole = 0
        self._fine = 0
        self._numbers: list[float] = []
        self.head = 0
        self.holding = False

    def state(self) -> list[Any]:
        """Everything kept, as plain values (big numbers as text: msgpack ends at 64 bits)."""
        return [self._count, str(self._whole), str(self._fine), self._numbers, self.head, self.holding]

    def set_state(self, state: list[Any]) -> None:
        """Takes back what `state` gave."""
        self._count, whole, fine, self._numbers, self.head, self.holding = state
        self._whole, self._fine = int(whole), int(fine)

    @staticmethod
    def number(value: Any) -> float | None:
        """The number a value is or reads as; None for all else."""
        return number_of(value)

    def add(self, number: float) -> None:
        """Takes a number in."""
        self._change(number, 1)
        if self._kind in ("value_percentile", "value_median"):
            insort(self._numbers, number)

    def remove(self, number: float) -> None:
        """Takes a number that was added out again."""
        self._change(number, -1)
        if self._kind in ("value_percentile", "value_median"):
            del self._numbers[bisect_left(self._numbers, number)]

    def _change(self, number: float, sign: int) -> None:
        self._count += sign
        if type(number) is int:
            self._whole += sign * number
        else:
            above, below = number.as_integer_ratio()
            self._fine += sign * above * ((1 << _EXACT_BITS) // below)

    def value(self) -> float | None:
        """The metric, None of an empty window."""
        if not self._count:
            return None
        if self._kind == "value_sum":
            return self._sum()
        if self._kind == "value_avg":
            return self._average()
        numbers = self._numbers
        if self._kind == "value_percentile":
            return numbers[max(1, ceil(self._percentile * len(numbers) / 100)) - 1]
        half = len(numbers) // 2
        if len(numbers) % 2:
            return numbers[half]
        middle = (numbers[half - 1] + numbers[half]) / 2
        return middle if isfinite(middle) else numbers[half - 1] / 2 + numbers[half] / 2

    def _sum(self) -> float:
        if not self._fine:
            return self._whole
        return _quotient((self._whole << _EXACT_BITS) + self._fine, 1 << _EXACT_BITS)

    def _average(self) -> float:
        if not self._fine:
            return _quotient(self._whole, self._count)
        return _quotient((self._whole << _EXACT_BITS) + self._fine, self._count << _EXACT_BITS)


def _quotient(above: int, below: int) -> float:
    try:
        return above / below
    except OverflowError:
        return float("inf") if above > 0 else float("-inf")
