"""`correlator site lint`: what makes linking and impact blind on a site, and where badges contradict the model.

Nothing of this is wrong in the file's own terms (`site check` finds that); it is what the model does not
know. Exit code 0, with `strict` 1 when something is found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, TextIO

import msgspec

from correlator.clock import MINUTE_MS
from correlator.errors import Fault, UsageError
from correlator.events.event import Event
from correlator.impact.rules import Rule, load_rules
from correlator.linking.tables import shipped_tables
from correlator.marked import MarkedDict, MarkedList, load_file
from correlator.premises import Premises, load_site
from correlator.premises.reach import ReachTable
from correlator.premises.vocabulary import OUTSIDE, THREAT_TYPES
from correlator.rulepack import PACK
from correlator.rules.load import load_rules as load_detection_rules
from correlator.rules.syntax import CorrelationRule, DetectionRule

# A reach should hold a room or a segment (linking.md 3): above this share of the site, and at least this
# many assets, time alone would link.
WIDE_SHARE: Final = 0.1
WIDE_LEAST: Final = 40
SHOWN: Final = 10  # names in one finding
# Badge sequences: further apart than this they are no single walk; so few times prove nothing.
WALK_MOST_MS: Final = 10 * MINUTE_MS
WALKS_LEAST: Final = 3
_WATCHING: Final = ("sensor", "camera", "reader")
_SUPPLYING: Final = ("host", "software", "data_store", "supply", "building_device", "controller", "network")
_PASSED: Final = frozenset({"badge.granted", "badge.entered"})


def lint(path: Path, out_dir: Path | None, rules: Sequence[Path], strict: bool, out: TextIO) -> int:
    """Writes one line a finding, with its place in the file. Raises FaultyFile for a file that cannot be used."""
    premises = load_site(path)
    found = list(lint_site(premises, rules))
    proposals: list[str] = []
    if out_dir is not None:
        found += unknown_badges(out_dir)
        drift = learned_ways(premises, read_passages(premises, out_dir))
        found += [(asset, message, hint) for asset, message, hint, _ in drift]
        proposals = [proposal for *_, proposal in drift]
    places = _positions(path)
    faults = sorted(
        Fault(str(path), *places.get(asset, (0, 0)), message, hint, "warning") for asset, message, hint in found
    )
    for fault in faults:
        print(fault, file=out)
    if proposals:
        print("# What badges were seen to do and the model does not allow. Look at it, then paste.", file=out)
        print("relations:", file=out)
        for proposal in proposals:
            print(f"  - {proposal}", file=out)
    print(f"{path}: {len(faults)} finding{'s' * (len(faults) != 1)}" if faults else f"{path}: nothing found", file=out)
    return 1 if strict and faults else 0


Found = tuple[str, str, str]  # asset it is about ("" for the whole), what is missing, what would mend it


def lint_site(premises: Premises, rules: Sequence[Path] = ()) -> Iterator[Found]:
    """Everything the model alone shows. rules: detection rules whose threat types are looked up."""
    yield from _blind_zones(premises)
    yield from _unplaced_hosts(premises)
    yield from _unreachable(premises)
    yield from _no_service(premises)
    yield from _protections(premises)
    yield from _wide_reaches(premises)
    yield from _threat_types(premises, rules)


# ---- the model alone ------------------------------------------------------------------------------------


def _blind_zones(premises: Premises) -> Iterator[Found]:
    graph = premises.graph
    seen: set[str] = set()
    for relation in graph.relations:
        if relation.type in ("covers", "monitored_by"):
            seen.add(relation.target if relation.type == "covers" else relation.source)
        elif relation.type == "in_zone" and graph.nodes[relation.source].asset_class in _WATCHING:
            seen.add(relation.target)
        elif relation.type == "controls" and graph.nodes[relation.source].asset_class == "reader":
            seen.add(relation.target)
    watched_doors = {door for door in premises.site.doors if door in seen}
    by_door = {zone for door in watched_doors for zone in premises.site.doors[door].between}
    for zone in premises.site.zones.values():
        if zone.id not in seen and zone.id not in by_door:
            yield (
                zone.id,
                f"zone {zone.id!r}: no sensor, camera or reader sees it",
                ("give it one, or a camera that `covers` it: nothing that happens there becomes a finding"),
            )


def _unplaced_hosts(premises: Premises) -> Iterator[Found]:
    for asset in premises.site.assets.values():
        if asset.asset_class in ("host", "medical_device", "camera", "reader") and not premises.zones_of(asset.id, 0):
            if asset.asset_class == "reader" and asset.id in premises.graph.door_of:
                continue
            yield (
                asset.id,
                f"{asset.asset_class.replace('_', ' ')} {asset.id!r} stands in no room",
                ("`zone: ...` joins what happens to it with what happens around it"),
            )


def _unreachable(premises: Premises) -> Iterator[Found]:
    site, graph = premises.site, premises.graph
    outer = [zone for door in site.doors.values() if OUTSIDE in door.between for zone in door.between]
    if outer:
        for zone in site.zones:
            if graph.walk_ms((OUTSIDE,), (zone,)) is None:
                yield zone, f"zone {zone!r}: no way leads there from outside", "a door or a leads_to is missing"
    joined = {end for relation in graph.relations for end in (relation.source, relation.target)}
    for asset in site.assets.values():
        if asset.id not in joined:
            yield asset.id, f"asset {asset.id!r} is related to nothing", "nothing can lead to it or follow from it"


def _no_service(premises: Premises) -> Iterator[Found]:
    """What others depend on or what supplies, from which no service is reached."""
    graph, site = premises.graph, premises.site
    harmed_by: dict[str, set[str]] = defaultdict(set)  # asset -> what is harmed when it is
    supplies: set[str] = set()
    for one in graph.relations:
        if one.type in ("depends_on", "part_of"):
            harmed_by[one.target].add(one.source)
            supplies.add(one.target)
        elif one.type in ("hosts", "holds", "controls"):
            harmed_by[one.source].add(one.target)
    reaches: set[str] = set(site.services)
    serves: dict[str, set[str]] = defaultdict(set)
    for cause, harmed in harmed_by.items():
        for hit in harmed:
            serves[hit].add(cause)
    open_ends = list(site.services)
    while open_ends:
        for cause in serves.get(open_ends.pop(), ()):
            if cause not in reaches:
                reaches.add(cause)
                open_ends.append(cause)
    for asset in site.assets.values():
        matters = asset.id in supplies or asset.criticality >= 3
        if matters and asset.asset_class in _SUPPLYING and asset.id not in reaches:
            yield (
                asset.id,
                f"{asset.asset_class.replace('_', ' ')} {asset.id!r}: no care service depends on it",
                ("name it in a service's `needs`, or what is between: its loss would harm nobody"),
            )
    needed = {one for service in site.services.values() for one in service.needs.ids()}
    for zone in site.zones.values():
        if zone.restricted and zone.id not in needed and zone.id not in reaches:
            holds = any(one.zone == zone.id and one.id in reaches for one in site.assets.values())
            if not holds:
                yield (
                    zone.id,
                    f"restricted zone {zone.id!r}: no care service needs it or anything in it",
                    ("say what it is restricted for: a service, or an asset that one needs"),
                )


def _protections(premises: Premises) -> Iterator[Found]:
    said: dict[tuple[str, str, tuple[str, ...]], tuple[str, float]] = {}
    for one in premises.site.protections.values():
        for threat in one.against:
            key = (one.asset, threat, tuple(sorted(one.of)))
            first = said.setdefault(key, (one.id, one.degree))
            if first[1] != one.degree:
                yield (
                    one.id,
                    f"protections {first[0]!r} and {one.id!r} contradict each other",
                    (f"the same assets protect {one.asset} against {threat} by {first[1]:g} and by {one.degree:g}"),
                )
        if not one.of:
            yield one.id, f"protection {one.id!r} is given by nothing", "`of: [...]`: it would hold for ever"


def _wide_reaches(premises: Premises) -> Iterator[Found]:
    table = ReachTable(premises.graph)
    nodes = premises.graph.nodes
    limit = max(WIDE_LEAST, round(WIDE_SHARE * len(nodes)))
    wide = []
    for asset in nodes:
        size = len(table.of(asset, 0).weights)
        if size > limit:
            wide.append((-size, asset))
    for negative, asset in sorted(wide)[:SHOWN]:
        share = -negative / len(nodes)
        yield (
            asset,
            f"the reach of {asset!r} holds {-negative} of {len(nodes)} assets ({share:.0%})",
            ("split it (a network into segments, a corridor into zones): time alone would link what happens there"),
        )
    if len(wide) > SHOWN:
        yield "", f"{len(wide) - SHOWN} more assets have a reach of more than {limit} assets", ""


def _threat_types(premises: Premises, paths: Sequence[Path]) -> Iterator[Found]:
    """Detection rules without a threat type, and threat types no impact rule starts from."""
    loaded = load_detection_rules(list(paths) or [PACK]).rules
    both: list[DetectionRule | CorrelationRule] = [*loaded.detections.values(), *loaded.correlations.values()]
    untyped = sorted(rule.head.key for rule in both if not rule.head.threat_type and rule.head.level != "informational")
    if untyped:
        yield (
            "",
            f"{len(untyped)} rules name no threat type: {_some(untyped)}",
            ("`x-correlator: {threat-type: ...}`: without one a finding has no impact"),
        )
    used = {rule.head.threat_type for rule in both if rule.head.threat_type}
    used |= set(shipped_tables().type_of.values())
    impact: tuple[Rule, ...] = load_rules().rules
    started = {threat for rule in impact for threat in rule.threats}
    ends = {"service-unavailable", "patient-harm", "theft", "supply-loss", "data-theft"}
    for threat in sorted(used - started - ends):
        says = THREAT_TYPES[threat].says if threat in THREAT_TYPES else "no word of the vocabulary"
        yield "", f"threat type {threat!r} ({says}) leads to nothing", "an impact rule that starts from it is missing"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# ---- with events ----------------------------------------------------------------------------------------


class _Unknown(msgspec.Struct, frozen=True):
    kind: str
    id: str
    count: int


def unknown_badges(out_dir: Path) -> Iterator[Found]:
    """How many badges and accounts in messages nobody holds (from a replay's `unknown.json`); no numbers shown."""
    path = out_dir / "unknown.json"
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Unknown])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; run correlator replay --out first") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: is not the unknown.json of a replay: {error}") from error
    for kind in ("badge", "account"):
        uses = [entry.count for entry in entries if entry.kind == kind]
        if uses:
            yield "", f"{len(uses)} {kind}s without a person, used {sum(uses)} times", "see `correlator site unknown`"


Passage = tuple[str, str, int]  # badge, door, time ms


def read_passages(premises: Premises, out_dir: Path) -> list[Passage]:
    """(badge, door, time) of granted badges in a replay's `decoded.ndjson`, in order of time."""
    path = out_dir / "decoded.ndjson"
    decoder = msgspec.json.Decoder(Event)
    found: list[Passage] = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if b'"badge.' in line:
                    try:
                        event = decoder.decode(line)
                    except msgspec.DecodeError as error:
                        raise UsageError(f"{path}:{number}: is no event of a replay: {error}") from error
                    badge = event.entity("badge")
                    door = _door(premises, event)
                    if event.kind in _PASSED and badge and door:
                        found.append((badge, door, event.time_ms))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; run correlator replay --out first") from error
    return sorted(found, key=lambda one: (one[2], one[0], one[1]))


def _door(premises: Premises, event: Event) -> str:
    for entity in event.entities:
        if entity.kind in ("door", "reader"):
            asset = premises.resolve(entity.kind, entity.id, event.time_ms)
            if asset in premises.site.doors:
                return asset
            if asset in premises.graph.door_of:
                return premises.graph.door_of[asset]
    return ""


def learned_ways(premises: Premises, passages: Sequence[Passage]) -> list[tuple[str, str, str, str]]:
    """(door, message, hint, relation to paste) for pairs of doors that badges pass faster than the model allows.

    A pair counts when at least three walks by at least two badges have a middle time under half of the
    model's way between the doors, or the model has no way at all.
    """
    last: dict[str, tuple[str, int]] = {}
    walks: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for badge, door, t_ms in passages:
        before = last.get(badge)
        last[badge] = (door, t_ms)
        if before is not None and before[0] != door and 0 < t_ms - before[1] <= WALK_MOST_MS:
            walks[before[0], door].append((t_ms - before[1], badge))
    doors, graph = premises.site.doors, premises.graph
    found = []
    for (first, second), times in sorted(walks.items()):
        if len(times) < WALKS_LEAST or len({badge for _, badge in times}) < 2:
            continue
        sides = [tuple(zone for zone in doors[door].between if zone != OUTSIDE) for door in (first, second)]
        if not all(sides) or set(doors[first].between) & set(doors[second].between):
            continue
        middle_ms = round(median(ms for ms, _ in times))
        way_ms = graph.walk_ms(sides[0], sides[1])
        if way_ms is not None and middle_ms * 2 >= way_ms:
            continue
        model = "has no way between them" if way_ms is None else f"needs {way_ms / 1000:.0f} s between them"
        message = (
            f"badges pass {first!r} and then {second!r} within {middle_ms / 1000:.0f} s "
            f"({len(times)} walks), the model {model}"
        )
        near = (sides[0][-1], sides[1][0])
        proposal: dict[str, Any] = {"from": near[0], "to": near[1], "type": "leads_to", "delay_ms": middle_ms}
        found.append((
            first, message, f"a way from {near[0]} to {near[1]} is missing, or a door has its sides wrong",
            "{" + ", ".join(f"{key}: {value}" for key, value in proposal.items()) + "}",
        ))  # fmt: skip
    return found


def _positions(path: Path) -> dict[str, tuple[int, int]]:
    """Where each id stands in the file."""
    found: dict[str, tuple[int, int]] = {}
    stack: list[Any] = list(load_file(path))
    while stack:
        one = stack.pop()
        if isinstance(one, MarkedDict):
            name = one.get("id")
            if isinstance(name, str):
                found.setdefault(name, one.values_at["id"])
            stack += one.values()
        elif isinstance(one, MarkedList):
            stack += one
    return found
