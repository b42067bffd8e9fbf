"""The `where` conditions of one correlation, by the steps whose events they need.

A step counts through the rule's sequence if it has one, else through its listed rules. What a
condition needs of an event is captured when that event is folded (`correlator.rules.where`), so
windows keep plain values and no events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from correlator.events.event import Event
from correlator.rules.places import Places
from correlator.rules.syntax import Where
from correlator.rules.where import Captured, WhereTest, compile_where

Taken = tuple[Captured, ...]
"""Everything captured of one step's event, in the order of `Conditions.by_step[step]`."""


@final
class Conditions:
    """All conditions of a rule; each must hold."""

    def __init__(self, wheres: Sequence[Where], places: Places | None, steps: int) -> None:
        self.tests: list[WhereTest] = [compile_where(where, places) for where in wheres]
        self.by_step: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
        for number, test in enumerate(self.tests):
            for place, step in enumerate(test.steps):
                self.by_step[step].append((number, place))

    def capture(self, step: int, event: Event) -> Taken:
        """What the conditions need of an event that stands at a step."""
        return tuple([self.tests[number].captures[place].capture_values(event) for number, place in self.by_step[step]])

    def holds_alone(self, step: int, taken: Taken) -> bool:
        """Whether the conditions on this step's event alone hold."""
        for (number, _), value in zip(self.by_step[step], taken, strict=True):
            test = self.tests[number]
            if len(test.captures) == 1 and test.test((value,)) is not True:
                return False
        return True

    def holds_with(self, step: int, taken: Taken, others: Sequence[Taken | None], strict: bool = False) -> bool:
        """Whether the conditions between this step and the steps already chosen hold.

        others[i] is what was captured at step i, None where no event is chosen yet; a condition with a
        step that is not chosen is not looked at, or fails (`strict`): nothing more will be chosen.
        """
        for (number, place), value in zip(self.by_step[step], taken, strict=True):
            test = self.tests[number]
            if len(test.captures) == 1:
                continue
            values: list[Captured] = []
            for other_place, other_step in enumerate(test.steps):
                if other_place == place:
                    values.append(value)
                    continue
                chosen = others[other_step]
                if chosen is None:
                    if strict:
                        return False
                    break
                values.append(chosen[self.by_step[other_step].index((number, other_place))])
            else:
                if test.test(values) is not True:
                    return False
        return True
