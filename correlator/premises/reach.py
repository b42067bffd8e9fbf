"""What can lead to what: the site graph compiled to flat arrays, and how far a cause can travel.

`Adjacency` is the compiled graph: both directions of every relation as arcs, grouped by the node they
start at. It carries no weights, so that linking (how a cause travels) and impact (what breaks) can lay
their own over it.

`ReachTable` is linking's: from each asset a max-product search over arcs, cut off where the product is
small, kept until the set of valid relations changes. The weight of an arc is divided by the number of
arcs of its type and direction at its start: a server with 150 clients passes each of them a 150th.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from correlator.premises.graph import SiteGraph
from correlator.premises.model import Relation
from correlator.premises.vocabulary import RELATION_TYPES

CACHED_ASSETS: Final = 200_000  # reaches kept; a full cache is emptied, which costs time and changes nothing


class Adjacency:
    """The graph's relations as flat arrays.

    ids       node number -> asset id, in the order of the site file; `index` is the way back
    relations relation number -> Relation
    starts    arcs of node n are starts[n] .. starts[n + 1] - 1
    targets   arc -> node number at its end
    codes     arc -> 2 * relation number, + 1 where the arc runs against the relation

    Relations with strength 0 are severed and have no arcs.
    """

    def __init__(self, graph: SiteGraph) -> None:
        self.ids: list[str] = list(graph.nodes)
        self.index: dict[str, int] = {name: at for at, name in enumerate(self.ids)}
        self.relations: tuple[Relation, ...] = graph.relations
        index = self.index
        ends = [
            (number, index[one.source], index[one.target])
            for number, one in enumerate(self.relations)
            if one.strength != 0 and one.source in index and one.target in index and one.source != one.target
        ]
        starts = array("q", bytes(8 * (len(self.ids) + 1)))
        for _, source, target in ends:
            starts[source + 1] += 1
            starts[target + 1] += 1
        for node in range(len(self.ids)):
            starts[node + 1] += starts[node]
        free = array("q", starts)
        self.targets = array("q", bytes(16 * len(ends)))
        self.codes = array("q", bytes(16 * len(ends)))
        for number, source, target in ends:
            for start, end, code in ((source, target, 2 * number), (target, source, 2 * number + 1)):
                at = free[start]
                free[start] += 1
                self.targets[at] = end
                self.codes[at] = code
        self.starts = starts
        changes = {
            ms
            for number, _, _ in ends
            for ms in (self.relations[number].span.from_ms, self.relations[number].span.to_ms)
            if ms is not None
        }
        self.boundaries: list[int] = sorted(changes)

    def epoch(self, t_ms: int) -> int:
        """A number that changes exactly when the set of valid relations does."""
        return bisect_right(self.boundaries, t_ms) if self.boundaries else 0

    def arcs(self, node: int, t_ms: int) -> Iterator[tuple[int, Relation, bool]]:
        """(node at the end, relation, whether along it) of the arcs valid at that time."""
        for at in range(self.starts[node], self.starts[node + 1]):
            relation = self.relations[self.codes[at] >> 1]
            if not self.boundaries or relation.span.holds(t_ms):
                yield self.targets[at], relation, not self.codes[at] & 1


@dataclass(frozen=True, slots=True)
class Step:
    """One arc of a path: from `source` to `target` over a relation type; `weight` is what it passes on."""

    source: str
    target: str
    type: str
    along: bool
    weight: float


@dataclass(slots=True)
class Reach:
    """Where a cause at `asset` can lead.

    weights    asset -> product of the weights on the best path, 1.0 for itself
    log_share  asset -> ln of its part of the sum of all weights: how much of what happens would go there
    total      the sum
    """

    asset: str
    weights: dict[str, float]
    log_share: dict[str, float]
    total: float


class ReachTable:
    """Reaches of all assets of a site; pure but for its cache. cut: the smallest product that counts."""

    def __init__(self, graph: SiteGraph, cut: float = 0.02, split: float = 1.0) -> None:
        self.adjacency = Adjacency(graph)
        self.cut = cut
        self.split = split
        self._reach: dict[tuple[str, int], Reach] = {}
        self._arcs: dict[tuple[int, int], list[tuple[float, int, Relation, bool]]] = {}

    def of(self, asset: str, t_ms: int) -> Reach:
        """The reach of an asset at that time; an asset the site does not know reaches itself only."""
        key = asset, self.adjacency.epoch(t_ms)
        found = self._reach.get(key)
        if found is None:
            if len(self._reach) >= CACHED_ASSETS:
                self._reach.clear()
            weights = self._search(asset, t_ms)[0]
            total = math.fsum(weights.values())
            share = {name: math.log(weight / total) for name, weight in weights.items()}
            found = self._reach[key] = Reach(asset, weights, share, total)
        return found

    def path(self, start: str, goal: str, t_ms: int) -> tuple[Step, ...]:
        """The best path between two assets, () if there is none within the cut or they are one."""
        ids = self.adjacency.ids
        came = self._search(start, t_ms)[1]
        steps: list[Step] = []
        at = self.adjacency.index.get(goal, -1)
        while at in came:
            source, weight, relation, along = came[at]
            steps.append(Step(ids[source], ids[at], relation.type, along, weight))
            at = source
        return tuple(reversed(steps))

    def _search(self, asset: str, t_ms: int) -> tuple[dict[str, float], dict[int, tuple[int, float, Relation, bool]]]:
        """(asset -> weight, node -> how the best path came to it)."""
        start = self.adjacency.index.get(asset)
        if start is None:
            return {asset: 1.0}, {}
        ids, cut = self.adjacency.ids, self.cut
        best: dict[int, float] = {start: 1.0}
        came: dict[int, tuple[int, float, Relation, bool]] = {}
        done: dict[str, float] = {}
        heap = [(-1.0, start)]
        while heap:
            minus, node = heappop(heap)
            so_far = -minus
            if so_far < best[node]:
                continue
            done[ids[node]] = so_far
            for weight, target, relation, along in self._weighted(node, t_ms):
                product = so_far * weight
                if product < cut:
                    break  # arcs stand in falling order of weight
                if product > best.get(target, 0.0):
                    best[target] = product
                    came[target] = node, weight, relation, along
                    heappush(heap, (-product, target))
        return done, came

    def _weighted(self, node: int, t_ms: int) -> list[tuple[float, int, Relation, bool]]:
        """(weight, target, relation, along) of a node's arcs, heaviest first, lighter than the cut left out."""
        key = node, self.adjacency.epoch(t_ms)
        known = self._arcs.get(key)
        if known is not None:
            return known
        arcs = list(self.adjacency.arcs(node, t_ms))
        count: dict[tuple[str, bool], int] = {}
        for _, relation, along in arcs:
            count[relation.type, along] = count.get((relation.type, along), 0) + 1
        made: list[tuple[float, int, Relation, bool]] = []
        for target, relation, along in arcs:
            kind = RELATION_TYPES[relation.type]
            weight = relation.strength
            if weight is None:
                weight = kind.forward if along else kind.backward
            weight /= count[relation.type, along] ** self.split
            if weight >= self.cut:
                made.append((weight, target, relation, along))
        made.sort(key=lambda arc: (-arc[0], arc[1]))
        self._arcs[key] = made
        return made
