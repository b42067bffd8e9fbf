"""How things stand: what is dark, open, locked or put up as a barrier, and what that does to a step.

    likelihood of a step = rule's likelihood x strength of the relation
                           x (1 - degree) for each barrier that blocks the rule at either end
                           x (1 - gamma of the protections of the target against the threat it becomes)

All numbers are parts per million in whole numbers, rounded down, so that more protection never gives
more likelihood, not even in the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from correlator.impact.graph import THREAT_NUMBER, THREATS, FlatGraph
from correlator.impact.rules import MOST_LIKELY, PPM, Rule
from correlator.impact.settings import Gamma
from correlator.premises.model import Protection

_MOST: Final = round(MOST_LIKELY * PPM)
# A door that stands open: half of what would have failed at it succeeds.
OPEN_EASES: Final = PPM // 2


@dataclass(frozen=True, slots=True)
class Conditions:
    """How things stand at one moment.

    dark      assets that do not work or were hit: protections they give lose that share
    eased     doors that stand open: what a lock would block is likelier there
    barriers  asset -> barrier -> degree in ppm
    """

    dark: AbstractSet[int] = frozenset()
    eased: AbstractSet[int] = frozenset()
    barriers: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    def with_barriers(self, more: Iterable[tuple[int, str, int]]) -> Conditions:
        """The same with further barriers; of two of one kind at one asset the stronger counts."""
        barriers = {asset: dict(kinds) for asset, kinds in self.barriers.items()}
        for asset, kind, degree in more:
            kinds = barriers.setdefault(asset, {})
            kinds[kind] = max(degree, kinds.get(kind, 0))
        return Conditions(self.dark, self.eased, barriers)


NOTHING: Final = Conditions()
_NONE: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Guarded:
    """One protection of an asset: its number among the site's, who gives it, degree in ppm."""

    id: str
    givers: tuple[int, ...]
    degree: int


class Protections:
    """The protections of a site by the state they guard."""

    def __init__(self, graph: FlatGraph, protections: Iterable[Protection], gamma: Gamma) -> None:
        self.gamma = gamma
        self.of_state: dict[int, tuple[Guarded, ...]] = {}
        self.by_giver: dict[int, tuple[int, ...]] = {}  # giver -> assets it guards
        self.guarded: set[int] = set()
        for one in protections:
            asset = graph.index[one.asset]
            node = graph.index.get(one.id)
            # The protection is an asset itself: hit as such, it is gone whoever gives it.
            givers = tuple(graph.index[giver] for giver in one.of) or ((node,) if node is not None else ())
            guarded = Guarded(one.id, givers, round(one.degree * PPM))
            for threat in one.against:
                state = asset * THREATS + THREAT_NUMBER[threat]
                self.of_state[state] = (*self.of_state.get(state, ()), guarded)
            self.guarded.add(asset)
            for giver in (*givers, *(() if node is None else (node,))):
                self.by_giver[giver] = (*self.by_giver.get(giver, ()), asset)
        self._nodes = {one.id: graph.index.get(one.id, -1) for one in protections}

    def degree(self, guarded: Guarded, dark: AbstractSet[int]) -> int:
        """What a protection still gives: its degree times the share of givers that work, ppm."""
        if not dark or not (guarded.givers or guarded.id in self._nodes):
            return guarded.degree
        if self._nodes.get(guarded.id, -1) in dark:
            return 0
        working = sum(giver not in dark for giver in guarded.givers)
        return guarded.degree * working // len(guarded.givers) if guarded.givers else guarded.degree

    def gamma_of(self, state: int, dark: AbstractSet[int]) -> int:
        """How far the protections of a state hold together, ppm (PPM: a full barrier)."""
        guarded = self.of_state.get(state)
        if not guarded:
            return 0
        degrees = [self.degree(one, dark) for one in guarded]
        if self.gamma == "max":
            return max(degrees)
        if self.gamma == "capped_sum":
            return min(PPM, sum(degrees))
        through = PPM
        for degree in sorted(degrees):  # rounded up, so that a further protection never takes anything away
            through = -(-through * (PPM - degree) // PPM)
        return PPM - through


def most_likely(ppm: int, rule: Rule) -> int:
    """The most that `weight` can give, whatever the conditions."""
    return ppm + (_MOST - ppm) * OPEN_EASES // PPM if "lock" in rule.blocked_by and ppm < _MOST else ppm


def weight(
    ppm: int, rule: Rule, source: int, target: int, conditions: Conditions, protections: Protections
) -> int:  # fmt: skip
    """The likelihood of one step in ppm; source and target are states, ppm the rule's own likelihood."""
    blocked_by = rule.blocked_by
    if blocked_by:
        at, to = source // THREATS, target // THREATS
        if "lock" in blocked_by and (at in conditions.eased or to in conditions.eased):
            ppm = most_likely(ppm, rule)
        here, there = conditions.barriers.get(at, _NONE), conditions.barriers.get(to, _NONE)
        if here or there:
            for kind in blocked_by:
                ppm = ppm * (PPM - max(here.get(kind, 0), there.get(kind, 0))) // PPM
    gamma = protections.gamma_of(target, conditions.dark)
    return ppm * (PPM - gamma) // PPM
