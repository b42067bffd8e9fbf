"""The SAFECARE-compatible mode: score 1 - gamma, full barriers, no likelihood, no time, no decay.

    score of an asset under a threat = 1 - gamma of its protections against that threat,
    0 if every path of rules from the incident to it holds an asset whose score is 0

As published (Hannou et al., IEEE Access 10, 2022, section on impact propagation): an unprotected asset
scores 1 however far away it is, and what is weakly hit harms what follows as much as what is strongly
hit. Rules are those of the quantitative mode; their likelihoods and delays are not looked at, and neither
is redundancy, which the published model does not have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from correlator.impact.conditions import NOTHING, Conditions
from correlator.impact.graph import THREATS
from correlator.impact.model import ImpactModel
from correlator.impact.rules import PPM


@dataclass(frozen=True, slots=True)
class Score:
    """A state the incident reaches. score in ppm; path: (state, number of the rule) from the incident on,
    -1 at the start, the shortest; stopped: the score is 0, nothing follows from here."""

    state: int
    score: int
    path: tuple[tuple[int, int], ...]

    @property
    def stopped(self) -> bool:
        """Whether a full barrier stands here."""
        return self.score == 0


def scores(
    model: ImpactModel, incidents: Iterable[int], conditions: Conditions = NOTHING, t_ms: int = 0
) -> dict[int, Score]:
    """The score of every state that some path of rules reaches, barriers included, by state.

    incidents: states; they happened and score 1. Breadth first: each state once, since one path without a
    full barrier is enough for it and the path changes no score.
    """
    epoch = model.table.epoch(t_ms)
    found = {state: Score(state, PPM, ((state, -1),)) for state in sorted(incidents)}
    queue = deque(found)
    most = model.settings.max_paths
    while queue:
        state = queue.popleft()
        for to, _, number in model.table.links(state, epoch):
            if to in found:
                continue
            if len(found) >= most:
                model.counters["impact_paths_refused"] += 1
                continue
            through = PPM - model.protections.gamma_of(to, conditions.dark)
            for kind in model.table.rules[number].blocked_by:
                for asset in (state // THREATS, to // THREATS):
                    through = min(through, PPM - conditions.barriers.get(asset, {}).get(kind, 0))
            found[to] = Score(to, through, (*found[state].path, (to, number)))
            if through:
                queue.append(to)
    return found
