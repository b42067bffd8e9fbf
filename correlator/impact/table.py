"""Rules compiled onto a site graph: what a threat on an asset leads to, in one step.

Nothing here changes after construction except a cache.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from correlator.impact.conditions import NOTHING, Conditions, Protections, most_likely, weight
from correlator.impact.graph import CLASS_NUMBER, CLASSES, RELATION_NUMBER, THREAT_NUMBER, THREATS, FlatGraph
from correlator.impact.rules import PPM, Rule

LINKS_KEPT: Final = 200_000  # states whose links are remembered; a full cache is emptied, which changes nothing
_SERVICE: Final = CLASS_NUMBER["service"]
_DOOR: Final = CLASS_NUMBER["door"]
_ZONE: Final = CLASS_NUMBER["zone"]

# One step a rule allows: (state it leads to, likelihood in ppm, number of the rule).
Link = tuple[int, int, int]
# Doors, zones and givers of protections whose live state bears on what a state leads to.
Bearing = tuple[frozenset[int], frozenset[int], frozenset[int]]
# Links of a state, the assets they lead to, and what bears on them.
Record = tuple[tuple[Link, ...], frozenset[int], Bearing]
_Steps = tuple[tuple[int, int, int], ...]  # (threat it becomes, ppm, number of the rule)


def _likeliest_first(link: Link) -> tuple[int, int]:
    return -link[1], link[0]


class RuleTable:
    """Rules by the class and threat they start from, and the links of a state over a graph."""

    def __init__(self, graph: FlatGraph, rules: Sequence[Rule], protections: Protections) -> None:
        self.graph = graph
        self.protections = protections
        self.rules = tuple(rules)
        self.services = frozenset(asset for asset, number in enumerate(graph.classes) if number == _SERVICE)
        self.leaves = {service: group.leaves() for service, group in graph.needs.items()}
        self._itself: dict[int, _Steps] = {}
        self._groups: dict[int, dict[int, _Steps]] = {}
        self._links: dict[tuple[int, int], tuple[Link, ...]] = {}
        self._raw: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}
        self._records: dict[int, dict[int, Record]] = {}
        self._bounds: dict[int, dict[int, int]] = {}
        for number, rule in enumerate(self.rules):
            self._add(number, rule)

    def _add(self, number: int, rule: Rule) -> None:
        sources = rule.sources or tuple(CLASS_NUMBER)
        targets = rule.targets or tuple(CLASS_NUMBER)
        for name in rule.threats:
            threat = THREAT_NUMBER[name]
            step = THREAT_NUMBER[rule.threat] if rule.threat else threat
            for source in sources:
                key = CLASS_NUMBER[source] * THREATS + threat
                if not rule.over:
                    if source in targets and step != threat:
                        self._itself[key] = (*self._itself.get(key, ()), (step, rule.likelihood[0], number))
                    continue
                groups = self._groups.setdefault(key, {})
                for (relation, way), ppm in zip(rule.over, rule.likelihood, strict=True):
                    head = (RELATION_NUMBER[relation] * 2 + (way == "against")) * CLASSES
                    for target in targets:
                        code = head + CLASS_NUMBER[target]
                        groups[code] = (*groups.get(code, ()), (step, ppm, number))

    def epoch(self, t_ms: int) -> int:
        """Which of the spans between validity boundaries a time lies in."""
        return bisect_right(self.graph.boundaries, t_ms)

    def links(self, state: int, epoch: int) -> tuple[Link, ...]:
        """What a state leads to in an epoch while every protection works and nothing else stands in the way, the
        likeliest first.

        Of several rules that lead to the same state the likeliest counts: they tell of one cause.
        """
        key = (state, epoch)
        found = self._links.get(key)
        if found is None:
            if len(self._links) >= LINKS_KEPT:
                self._links.clear()
            protections, rules = self.protections, self.rules
            links = [
                (to, weight(ppm, rules[number], state, to, NOTHING, protections), number)
                for to, (ppm, number) in self._raw_links(state, epoch).items()
            ]
            links.sort(key=_likeliest_first)
            found = self._links[key] = tuple(links)
        return found

    def weighted(self, state: int, epoch: int, conditions: Conditions) -> tuple[Link, ...]:
        """The same under conditions. Only steps that something bears on are weighed again."""
        protections, rules = self.protections, self.rules
        barriers, eased, dark, guards = conditions.barriers, conditions.eased, conditions.dark, protections.of_state
        own = state // THREATS
        here = own in eased or own in barriers
        links = self.links(state, epoch)
        found: list[Link] | None = None
        raw: dict[int, tuple[int, int]] = {}
        for at, (to, _, number) in enumerate(links):
            asset = to // THREATS
            stands = here or asset in eased or asset in barriers
            if not (stands and rules[number].blocked_by) and not (dark and to in guards):
                continue
            if found is None:
                found, raw = list(links), self._raw_links(state, epoch)
            found[at] = to, weight(raw[to][0], rules[number], state, to, conditions, protections), number
        if found is None:
            return links
        found.sort(key=_likeliest_first)
        return tuple(found)

    def bounds(self, epoch: int) -> dict[int, int]:
        """State -> `bound`, as far as known in an epoch."""
        found = self._bounds.setdefault(epoch, {})
        if len(found) > LINKS_KEPT:
            self._bounds.clear()
            found = self._bounds.setdefault(epoch, {})
        return found

    def bound(self, state: int, epoch: int) -> int:
        """No step from a state is likelier than this, whatever the conditions; ppm. Remembered in `bounds`."""
        steps = [most_likely(ppm, self.rules[number]) for ppm, number in self._raw_links(state, epoch).values()]
        found = max(steps, default=0)
        self.bounds(epoch)[state] = found
        return found

    def records(self, epoch: int) -> dict[int, Record]:
        """State -> `record`, as far as known in an epoch."""
        found = self._records.setdefault(epoch, {})
        if len(found) > LINKS_KEPT:
            self._records.clear()
            found = self._records.setdefault(epoch, {})
        return found

    def record(self, state: int, epoch: int) -> Record:
        """What is asked of a state again and again. Remembered in `records`."""
        links = self.links(state, epoch)
        targets = frozenset(to // THREATS for to, _, _ in links)
        assets = targets | {state // THREATS} if links else targets
        classes, guards = self.graph.classes, self.protections.of_state
        bearing = (
            frozenset(asset for asset in assets if classes[asset] == _DOOR),
            frozenset(asset for asset in assets if classes[asset] == _ZONE),
            frozenset(giver for to, _, _ in links for one in guards.get(to, ()) for giver in one.givers),
        )
        found = links, targets, bearing
        self.records(epoch)[state] = found
        return found

    def _raw_links(self, state: int, epoch: int) -> dict[int, tuple[int, int]]:
        """State it leads to -> (the rule's own likelihood, number of the rule)."""
        key = (state, epoch)
        found = self._raw.get(key)
        if found is None:
            if len(self._raw) >= LINKS_KEPT:
                self._raw.clear()
            found = self._raw[key] = self._find(state, epoch)
        return found

    def step(self, state: int, to: int, epoch: int, conditions: Conditions) -> int:
        """The likelihood in ppm of one of a state's links under conditions."""
        ppm, number = self._raw_links(state, epoch)[to]
        return weight(ppm, self.rules[number], state, to, conditions, self.protections)

    def _find(self, state: int, epoch: int) -> dict[int, tuple[int, int]]:
        graph = self.graph
        asset, threat = divmod(state, THREATS)
        key = graph.classes[asset] * THREATS + threat
        best: dict[int, tuple[int, int]] = {}
        base = asset * THREATS
        for step, ppm, number in self._itself.get(key, ()):
            if ppm > best.get(base + step, (0, 0))[0]:
                best[base + step] = ppm, number
        groups = self._groups.get(key)
        if groups:
            codes, starts, neighbours = graph.group_code, graph.group_start, graph.neighbours
            for group in range(graph.first_group[asset], graph.first_group[asset + 1]):
                steps = groups.get(codes[group])
                if steps is None:
                    continue
                for neighbour in neighbours[starts[group] : starts[group + 1]]:
                    factor = self._strength(asset, codes[group], neighbour, epoch) if graph.notes else PPM
                    if not factor or neighbour == asset:
                        continue
                    for step, ppm, number in steps:
                        weight = ppm * factor // PPM
                        to = neighbour * THREATS + step
                        if weight > best.get(to, (0, 0))[0]:
                            best[to] = weight, number
        return best

    def _strength(self, asset: int, code: int, neighbour: int, epoch: int) -> int:
        note = self.graph.notes.get((asset, code // CLASSES, neighbour))
        if note is None:
            return PPM
        if note.span.limited:
            inside_ms = self.graph.boundaries[epoch - 1] if epoch else self.graph.boundaries[0] - 1
            if not note.span.holds(inside_ms):
                return 0
        return note.strength

    def delay_ms(self, source: int, number: int, target: int) -> tuple[int, int, int]:
        """p10, p50, p90 of one step; a relation's own delay stands for the rule's, with the same spread."""
        rule = self.rules[number]
        low, middle, high = rule.delay_ms
        if not self.graph.notes:
            return low, middle, high
        for relation, way in rule.over:
            code = RELATION_NUMBER[relation] * 2 + (way == "against")
            note = self.graph.notes.get((source // THREATS, code, target // THREATS))
            if note is not None and note.delay_ms is not None:
                if not middle:
                    return note.delay_ms, note.delay_ms, note.delay_ms
                return note.delay_ms * low // middle, note.delay_ms, note.delay_ms * high // middle
        return low, middle, high
