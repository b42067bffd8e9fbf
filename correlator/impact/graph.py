"""The site graph as flat arrays, and rules compiled onto it: what a threat on an asset leads to.

An asset is a number, a threat type is a number, and a *state* is `asset * THREATS + threat`: that threat
on that asset. The neighbours of an asset stand together, grouped by (relation, way, class of the
neighbour), so that a rule looks only at the group it speaks of, and the cost of a question follows what
is reached and not the size of the site. Nothing here changes after construction except a cache.

Own arrays and not a graph library: rules read a neighbour's class and relation, so a matrix or a
library's edge iterator would have to be filtered again in Python (docs/impact.md has the measurement).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from correlator.impact.rules import PPM, Rule
from correlator.premises.graph import SiteGraph
from correlator.premises.model import ALWAYS, Need, Span
from correlator.premises.vocabulary import ASSET_CLASSES, RELATION_TYPES, THREAT_TYPES

CLASS_NUMBER: Final = {name: number for number, name in enumerate(ASSET_CLASSES)}
RELATION_NUMBER: Final = {name: number for number, name in enumerate(RELATION_TYPES)}
THREAT_NUMBER: Final = {name: number for number, name in enumerate(THREAT_TYPES)}
THREAT_NAMES: Final = tuple(THREAT_TYPES)
THREATS: Final = len(THREAT_TYPES)
_CLASSES: Final = len(ASSET_CLASSES)
_SERVICE: Final = CLASS_NUMBER["service"]
LINKS_KEPT: Final = 200_000  # states whose links are remembered; a full cache is emptied, which changes nothing

# One step a rule allows: (state it leads to, likelihood in ppm before protections, number of the rule).
Link = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class EdgeNote:
    """What a relation says beyond its type: strength in ppm, its own delay (None: the rule's), validity."""

    strength: int = PPM
    delay_ms: int | None = None
    span: Span = ALWAYS


@dataclass(frozen=True, slots=True)
class Group:
    """Of these parts (assets by number, or groups) at least `k` must work."""

    k: int
    parts: tuple[int | Group, ...]

    def leaves(self) -> frozenset[int]:
        """Every asset below."""
        found: set[int] = set()
        for part in self.parts:
            found |= {part} if isinstance(part, int) else part.leaves()
        return frozenset(found)


class FlatGraph:
    """Assets and relations as arrays.

    ids, classes   asset number -> id, class number
    notes          (source, relation * 2 + way, target) -> what that relation says for itself; both ways
    needs          service -> what it needs
    boundaries     sorted times (ms UTC) at which the validity of some relation begins or ends
    """

    def __init__(
        self,
        ids: Sequence[str],
        classes: bytes,
        sources: Sequence[int],
        targets: Sequence[int],
        relations: Sequence[int],
        notes: dict[int, EdgeNote] | None = None,
        needs: dict[int, Group] | None = None,
        criticality: dict[int, int] | None = None,
    ) -> None:
        """relations: relation number of each edge; notes: by position of the edge."""
        self.ids = ids
        self.classes = classes
        self.needs = needs or {}
        self.criticality = criticality or {}
        self.notes: dict[tuple[int, int, int], EdgeNote] = {}
        self._compile(sources, targets, relations, notes or {})
        times = {ms for note in self.notes.values() for ms in (note.span.from_ms, note.span.to_ms) if ms is not None}
        self.boundaries = sorted(times)
        self._index: dict[str, int] = {}

    @property
    def index(self) -> dict[str, int]:
        """Asset id -> number; made when first asked for."""
        if not self._index:
            self._index = {name: number for number, name in enumerate(self.ids)}
        return self._index

    def _compile(
        self, sources: Sequence[int], targets: Sequence[int], relations: Sequence[int], notes: dict[int, EdgeNote]
    ) -> None:
        """Counting sort of both ends of every edge by asset, then each asset's part by group and neighbour."""
        size = len(self.classes)
        starts = array("I", bytes(4 * (size + 2)))
        for node in sources:
            starts[node + 2] += 1
        for node in targets:
            starts[node + 2] += 1
        for node in range(2, size + 2):
            starts[node] += starts[node - 1]
        packed = array("Q", bytes(8 * 2 * len(sources)))
        classes = self.classes
        for source, target, relation in zip(sources, targets, relations, strict=True):
            place = starts[source + 1]
            packed[place] = (relation * 2 * _CLASSES + classes[target]) << 32 | target
            starts[source + 1] = place + 1
            place = starts[target + 1]
            packed[place] = ((relation * 2 + 1) * _CLASSES + classes[source]) << 32 | source
            starts[target + 1] = place + 1
        plain: set[tuple[int, int, int]] = set()
        if notes:
            self._take_notes(sources, targets, relations, notes, plain)
        self.first_group = array("I", [0])
        self.group_code = array("H")
        self.group_start = array("I")
        self.neighbours = array("I")
        for node in range(size):
            last = -1
            for one in sorted(set(packed[starts[node] : starts[node + 1]])):
                code = one >> 32
                if code != last:
                    self.group_code.append(code)
                    self.group_start.append(len(self.neighbours))
                    last = code
                self.neighbours.append(one & 0xFFFFFFFF)
            self.first_group.append(len(self.group_code))
        self.group_start.append(len(self.neighbours))

    def _take_notes(
        self,
        sources: Sequence[int],
        targets: Sequence[int],
        relations: Sequence[int],
        notes: dict[int, EdgeNote],
        plain: set[tuple[int, int, int]],
    ) -> None:
        """A relation that is written twice holds as the plain one, if one of the two says nothing special."""
        for number, note in notes.items():
            source, target, relation = sources[number], targets[number], relations[number]
            self.notes.setdefault((source, relation * 2, target), note)
            self.notes.setdefault((target, relation * 2 + 1, source), note)
        for number, (source, target, relation) in enumerate(zip(sources, targets, relations, strict=True)):
            if number not in notes and (source, relation * 2, target) in self.notes:
                plain.add((source, relation * 2, target))
                plain.add((target, relation * 2 + 1, source))
        for key in plain:
            del self.notes[key]

    @property
    def edges(self) -> int:
        """Relations, each counted once."""
        return len(self.neighbours) // 2

    def neighbours_of(self, asset: int) -> Iterable[int]:
        """Numbers of all assets that a relation joins to this one, either way; some may come twice."""
        first, last = self.first_group[asset], self.first_group[asset + 1]
        return self.neighbours[self.group_start[first] : self.group_start[last]] if last > first else ()


def flat_graph(graph: SiteGraph) -> FlatGraph:
    """The arrays of a site. A relation of strength 0 is severed and left out."""
    site = graph.site
    ids = list(graph.nodes)
    index = {name: number for number, name in enumerate(ids)}
    classes = bytes(CLASS_NUMBER[asset.asset_class] for asset in graph.nodes.values())
    sources, targets, relations = array("I"), array("I"), bytearray()
    notes: dict[int, EdgeNote] = {}
    for one in graph.relations:
        if one.strength == 0 or one.source not in index or one.target not in index:
            continue
        if one.strength is not None or one.span.limited or (one.delay_ms is not None and one.type != "leads_to"):
            strength = PPM if one.strength is None else round(min(one.strength, 1.0) * PPM)
            notes[len(sources)] = EdgeNote(strength, one.delay_ms, one.span)
        sources.append(index[one.source])
        targets.append(index[one.target])
        relations.append(RELATION_NUMBER[one.type])
    needs = {index[service.id]: _group(service.needs, index) for service in site.services.values()}
    criticality = {index[asset.id]: asset.criticality for asset in graph.nodes.values() if asset.criticality}
    return FlatGraph(ids, classes, sources, targets, relations, notes, needs, criticality)


def _group(need: Need, index: dict[str, int]) -> Group:
    parts = tuple(index[part] if isinstance(part, str) else _group(part, index) for part in need.of)
    return Group(need.k, parts)


# ---- rules on the graph ---------------------------------------------------------------------------------

_Steps = tuple[tuple[int, int, int], ...]  # (threat it becomes, ppm, number of the rule)


class RuleTable:
    """Rules by the class and threat they start from, and the links of a state over a graph."""

    def __init__(self, graph: FlatGraph, rules: Sequence[Rule]) -> None:
        self.graph = graph
        self.rules = tuple(rules)
        self.services = frozenset(asset for asset, number in enumerate(graph.classes) if number == _SERVICE)
        self.leaves = {service: group.leaves() for service, group in graph.needs.items()}
        self._itself: dict[int, _Steps] = {}
        self._groups: dict[int, dict[int, _Steps]] = {}
        self._links: dict[tuple[int, int], tuple[Link, ...]] = {}
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
                    head = (RELATION_NUMBER[relation] * 2 + (way == "against")) * _CLASSES
                    for target in targets:
                        code = head + CLASS_NUMBER[target]
                        groups[code] = (*groups.get(code, ()), (step, ppm, number))

    def epoch(self, t_ms: int) -> int:
        """Which of the spans between validity boundaries a time lies in."""
        return bisect_right(self.graph.boundaries, t_ms)

    def links(self, state: int, epoch: int) -> tuple[Link, ...]:
        """What a state leads to in an epoch, before protections. Of several rules that lead to the same
        state the likeliest counts: they tell of one cause."""
        key = (state, epoch)
        found = self._links.get(key)
        if found is None:
            if len(self._links) >= LINKS_KEPT:
                self._links.clear()
            found = self._links[key] = self._find(state, epoch)
        return found

    def _find(self, state: int, epoch: int) -> tuple[Link, ...]:
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
        return tuple((to, weight, number) for to, (weight, number) in best.items())

    def _strength(self, asset: int, code: int, neighbour: int, epoch: int) -> int:
        note = self.graph.notes.get((asset, code // _CLASSES, neighbour))
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


def state_of(asset: int, threat: str) -> int:
    """The number of a state."""
    return asset * THREATS + THREAT_NUMBER[threat]
