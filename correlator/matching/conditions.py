"""The `where` conditions of one correlation, by the steps whose events they need.

A step counts through the rule's sequence if it has one, else through its listed rules. What a
condition needs of an event is captured when that event is folded (`correlator.rules.where`), so
windows keep plain values and no events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from correlator.events.event import Event
from correlator.rules.places import Places
from correlator.rules.syntax import Where
from correlator.rules.where import Captured, WhereTest, compile_where

Taken = tuple[Captured, ...]
"""Everything captured of one step's event, in the order of the conditions."""


@final
class Conditions:
    """All conditions of a rule; each must hold."""

    def __init__(self, wheres: Sequence[Where], places: Places | None, steps: int) -> None:
        tests = [compile_where(where, places) for where in wheres]
        # Per step: (condition, which of its operands) whose value is taken of the step's event.
        listed = [
            [(test, place) for test in tests for place, at in enumerate(test.steps) if at == step]
            for step in range(steps)
        ]
        # The same, worked out for what is asked of every event: what takes each value; the conditions on one
        # event, with the place of their value in `Taken`; those between events, with (step, place) per operand.
        self._takes: list[list[Callable[[Event], Captured]]] = [
            [test.captures[place].capture_values for test, place in of_step] for of_step in listed
        ]
        self._alone: list[list[tuple[int, WhereTest]]] = [
            [(at, test) for at, (test, _) in enumerate(of_step) if len(test.captures) == 1] for of_step in listed
        ]
        self._between: list[list[tuple[WhereTest, list[tuple[int, int]]]]] = [
            [
                (test, [(step, listed[step].index((test, place))) for place, step in enumerate(test.steps)])
                for test, _ in of_step
                if len(test.captures) > 1
            ]
            for of_step in listed
        ]

    def capture(self, step: int, event: Event) -> Taken:
        """What the conditions need of an event that stands at a step."""
        return tuple([take(event) for take in self._takes[step]])

    def holds_alone(self, step: int, taken: Taken) -> bool:
        """Whether the conditions on this step's event alone hold."""
        alone = self._alone[step]
        return not alone or all(test.test((taken[at],)) is True for at, test in alone)

    def holds_with(self, step: int, taken: Taken, others: Sequence[Taken | None], strict: bool = False) -> bool:
        """Whether the conditions between this step and the steps already chosen hold.

        others[i] is what was captured at step i, None where no event is chosen yet; a condition with a
        step that is not chosen is not looked at, or fails (`strict`): nothing more will be chosen.
        """
        for test, operands in self._between[step]:
            values: list[Captured] = []
            for of_step, at in operands:
                chosen = taken if of_step == step else others[of_step]
                if chosen is None:
                    if strict:
                        return False
                    break
                values.append(chosen[at])
            else:
                if test.test(values) is not True:
                    return False
        return True
