"""The site graph as flat arrays.

An asset is a number, a threat type is a number, and a *state* is `asset * THREATS + threat`: that threat
on that asset. The neighbours of an asset stand together, grouped by (relation, way, class of the
neighbour), so that a rule looks only at the group it speaks of, and the cost of a question follows what
is reached and not the size of the site. Nothing here changes after construction except a cache.

Own arrays and not a graph library: rules read a neighbour's class and relation, so a matrix or a
library's edge iterator would have to be filtered again in Python for every edge of an asset.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from correlator.impact.rules import PPM
from correlator.premises.graph import SiteGraph
from correlator.premises.model import ALWAYS, Need, Span
from correlator.premises.vocabulary import ASSET_CLASSES, RELATION_TYPES, THREAT_TYPES

CLASS_NUMBER: Final = {name: number for number, name in enumerate(ASSET_CLASSES)}
RELATION_NUMBER: Final = {name: number for number, name in enumerate(RELATION_TYPES)}
THREAT_NUMBER: Final = {name: number for number, name in enumerate(THREAT_TYPES)}
THREAT_NAMES: Final = tuple(THREAT_TYPES)
THREATS: Final = len(THREAT_TYPES)
CLASSES: Final = len(ASSET_CLASSES)


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
            packed[place] = (relation * 2 * CLASSES + classes[target]) << 32 | target
            starts[source + 1] = place + 1
            place = starts[target + 1]
            packed[place] = ((relation * 2 + 1) * CLASSES + classes[source]) << 32 | source
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

    def related(self, asset: int, relation_and_way: int) -> list[int]:
        """Numbers of the assets at the other end of one relation type and way (relation * 2, + 1 against)."""
        found: list[int] = []
        for group in range(self.first_group[asset], self.first_group[asset + 1]):
            if self.group_code[group] // CLASSES == relation_and_way:
                found += self.neighbours[self.group_start[group] : self.group_start[group + 1]]
        return found

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


def state_of(asset: int, threat: str) -> int:
    """The number of a state."""
    return asset * THREATS + THREAT_NUMBER[threat]
