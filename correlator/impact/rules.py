"""Rules of impact: from YAML files to plain values, and the faults of the files.

A rule says: *this threat on an asset of this class leads, over this relation, to that threat on an asset
of that class*, how likely, how soon, with what effect, and what stands in the way. docs/impact.md has the
language. A rule is data: nothing in a file can make the engine do anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any, Final

from correlator.errors import Fault, FaultyFile, UsageError
from correlator.impact.reading import Reader
from correlator.impact.words import ANY, BARRIERS, EFFECTS, ITSELF, SAME, WAYS
from correlator.marked import MarkedDict, MarkedList, load_bytes
from correlator.premises.vocabulary import ASSET_CLASSES, RELATION_TYPES, THREAT_TYPES

Text = tuple[str, bytes]  # a file's name and content

PPM: Final = 1_000_000
SHIPPED: Final = Path(__file__).parent / "rules"

# Nothing follows with certainty; below one, a circle of rules cannot lift itself.
MOST_LIKELY: Final = 0.99

_RULE_KEYS: Final = {
    "id": True, "says": True, "if": True, "over": True, "way": False, "then": True, "likelihood": False,
    "delay": True, "effect": False, "blocked_by": False, "published": False,
}  # fmt: skip
_TEST_KEYS: Final = {"name": True, "assets": True, "relations": False, "at": True, "expect": False, "never": False}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, checked.

    threats, sources     the threat on the asset it starts from, and that asset's class (() = any)
    over                 (relation type, "along" | "against") pairs; () = the same asset
    threat, targets      what it becomes ("" = the same threat), and on which classes (() = any)
    likelihood           per pair of `over` (one if the same asset), parts per million
    delay_ms             p10, p50, p90 of the time from cause to consequence
    effects              (effect, weight 0..1), in the order of the table
    blocked_by           barriers that keep it from happening
    published            number of the published SAFECARE example it reproduces, 0 for none
    """

    id: str
    says: str
    threats: tuple[str, ...]
    sources: tuple[str, ...]
    over: tuple[tuple[str, str], ...]
    threat: str
    targets: tuple[str, ...]
    likelihood: tuple[int, ...]
    delay_ms: tuple[int, int, int]
    effects: tuple[tuple[str, float], ...]
    blocked_by: tuple[str, ...]
    published: int
    file: str = field(repr=False)
    line: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class RuleTest:
    """A small site, what happens there, and what must (not) follow.

    expect: asset -> threat -> (least, most) likelihood; never: asset -> threats.
    """

    name: str
    assets: tuple[tuple[str, str], ...]
    relations: tuple[tuple[str, str, str], ...]
    at: str
    threat: str
    expect: tuple[tuple[str, str, float, float], ...]
    never: tuple[tuple[str, str], ...]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class RuleBase:
    """Rules in the order of files and lines, and the tests that came with them."""

    rules: tuple[Rule, ...]
    tests: tuple[RuleTest, ...]

    def with_own(self, own: RuleBase) -> RuleBase:
        """These and a site's own rules beside them; an own one takes the place of one with its id."""
        rules = {rule.id: rule for rule in self.rules}
        rules.update({rule.id: rule for rule in own.rules})
        return RuleBase(tuple(rules.values()), (*self.tests, *own.tests))


def load_rules(paths: Sequence[Path] = ()) -> RuleBase:
    """Rules of files and folders (*.yaml, *.yml); the shipped ones without any.

    Raises FaultyFile with every fault of all files, UsageError for a path that is not there.
    """
    base, faults = check_rules(paths)
    if faults:
        raise FaultyFile(faults)
    return base


def check_rules(paths: Sequence[Path] = ()) -> tuple[RuleBase, list[Fault]]:
    """The rules that can be used, and every fault. Raises UsageError for a path that is not there."""
    return rules_of(texts_of(paths or [SHIPPED]))


def rules_of(texts: Iterable[Text]) -> tuple[RuleBase, list[Fault]]:
    """As `check_rules`, of (name, bytes) of files."""
    rules: dict[str, Rule] = {}
    tests: list[RuleTest] = []
    faults: list[Fault] = []
    for name, data in texts:
        try:
            documents = load_bytes(data, name)
        except FaultyFile as error:
            faults += error.faults
            continue
        for document in documents:
            reader = Reader(name)
            _read_document(reader, document, rules, tests)
            faults += reader.faults
    return RuleBase(tuple(rules.values()), tuple(tests)), sorted(faults)


def texts_of(paths: Iterable[Path]) -> list[Text]:
    """(path, bytes) of every YAML file behind files and folders. Raises UsageError."""
    try:
        return [(str(path), path.read_bytes()) for path in rule_files(paths)]
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error


def rule_files(paths: Iterable[Path]) -> list[Path]:
    """The YAML files behind files and folders, folders in the order of names. Raises UsageError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")])
            if not inside:
                raise UsageError(f"{path}: holds no rule file (*.yaml)")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return found


def _read_document(reader: Reader, document: Any, rules: dict[str, Rule], tests: list[RuleTest]) -> None:
    if not reader.keys(document, "a file of impact rules", {"rules": False, "tests": False}):
        return
    for item in reader.maps(document, "rules", "a rule", _RULE_KEYS):
        rule = _rule(reader, item)
        if rule is None:
            continue
        first = rules.get(rule.id)
        if first is not None:
            at = reader.at(item, "id")
            reader.fault(at, f"rule {rule.id!r} is given twice", f"first in {first.file}:{first.line}")
        else:
            rules[rule.id] = rule
    for item in reader.maps(document, "tests", "a test", _TEST_KEYS):
        test = _test(reader, item)
        if test is not None:
            tests.append(test)


def _rule(reader: Reader, item: MarkedDict) -> Rule | None:
    before = len(reader.faults)
    rule_id, says = reader.text(item, "id"), reader.text(item, "says")
    threats: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    target_threat = ""
    cause, result = item.get("if"), item.get("then")
    ends = {"threat": True, "on": True}
    if "if" in item and reader.keys(cause, "'if'", ends, reader.at(item, "if")):
        threats = reader.words(cause, "threat", THREAT_TYPES, "threat type")
        sources = _classes(reader, cause)
    if "then" in item and reader.keys(result, "'then'", ends, reader.at(item, "then")):
        target_threat = reader.word(result, "threat", [*THREAT_TYPES, SAME], "threat type")
        targets = _classes(reader, result)
    over = _over(reader, item)
    likelihood = reader.number(item, "likelihood", 0.001, MOST_LIKELY)
    shares = _likelihoods(reader, item, over, likelihood)
    delay = _delay(reader, item)
    effects = _effects(reader, item)
    blocked_by = reader.words(item, "blocked_by", BARRIERS, "barrier")
    published = reader.number(item, "published", 1, 99)
    if not over and (target_threat == SAME or target_threat in threats):
        reader.fault(
            reader.at(result, "threat"), "the rule feeds itself: the same threat on the same asset",
            "name another threat, or a relation to go over",
        )  # fmt: skip
    if "service-unavailable" in threats and sources == ("service",) and targets != ("service",):
        reader.fault(
            reader.at(result, "on"), "only services follow from a service that cannot be given",
            "write `on: service`; what the service lacks is a rule of its own",
        )  # fmt: skip
    if len(reader.faults) > before:
        return None
    return Rule(
        id=rule_id, says=says, threats=threats, sources=sources, over=over,
        threat="" if target_threat == SAME else target_threat, targets=targets, likelihood=shares, delay_ms=delay,
        effects=effects, blocked_by=blocked_by, published=int(published or 0), file=reader.file, line=item.mark[0],
    )  # fmt: skip


def _classes(reader: Reader, data: Any) -> tuple[str, ...]:
    found = reader.words(data, "on", [*ASSET_CLASSES, ANY], "asset class")
    return () if ANY in found else found


def _over(reader: Reader, item: MarkedDict) -> tuple[tuple[str, str], ...]:
    relations = reader.words(item, "over", [*RELATION_TYPES, ITSELF], "relation type")
    way = reader.word(item, "way", WAYS, "way") or "along"
    if ITSELF in relations:
        if len(relations) > 1 or "way" in item:
            reader.fault(reader.at(item, "over"), "'itself' stands alone and has no way")
        return ()
    ways = ("along", "against") if way == "both" else (way,)
    return tuple((relation, one) for relation in relations for one in ways)


def _likelihoods(
    reader: Reader, item: MarkedDict, over: tuple[tuple[str, str], ...], likelihood: float | None
) -> tuple[int, ...]:
    """The rule's own likelihood, else the relation's impact weight in the table of docs/site.md."""
    if "likelihood" in item:
        return (round((likelihood or 0) * PPM),) * max(1, len(over))
    if not over:
        reader.fault(item.mark, "a rule over 'itself' needs 'likelihood'")
        return (0,)
    found = []
    for relation, way in over:
        kind = RELATION_TYPES[relation]
        weight = kind.impact_forward if way == "along" else kind.impact_backward
        if weight == 0:
            reader.fault(
                reader.at(item, "over"), f"harm does not go {way} {relation} by itself", "give the rule a 'likelihood'"
            )
        found.append(round(min(weight, MOST_LIKELY) * PPM))
    return tuple(found)


def _delay(reader: Reader, item: MarkedDict) -> tuple[int, int, int]:
    value = item.get("delay")
    if value is None:
        return (0, 0, 0)
    if not isinstance(value, MarkedList) or len(value) not in (2, 3):
        reader.fault(reader.at(item, "delay"), "'delay' takes [p10, p90] or [p10, p50, p90]", "such as [5m, 2h]")
        return (0, 0, 0)
    times = [reader.duration(one, reader.at(value, index)) for index, one in enumerate(value)]
    if times != sorted(times):
        reader.fault(reader.at(item, "delay"), "'delay' must rise from p10 to p90")
    if len(times) == 2:  # the middle of a spread over orders of magnitude is their geometric mean
        times.insert(1, isqrt(max(times[0], 1_000) * times[1]) if times[1] else 0)
    return times[0], min(times[1], times[2]), times[2]


def _effects(reader: Reader, item: MarkedDict) -> tuple[tuple[str, float], ...]:
    value = item.get("effect")
    if value is None or not reader.keys(value, "'effect'", dict.fromkeys(EFFECTS, False), reader.at(item, "effect")):
        return ()
    weights = {name: reader.number(value, name, 0, 1) for name in value if name in EFFECTS}
    return tuple((name, weights[name] or 0.0) for name in EFFECTS if weights.get(name))


# ---- tests ----------------------------------------------------------------------------------------------


def _test(reader: Reader, item: MarkedDict) -> RuleTest | None:
    before = len(reader.faults)
    assets: dict[str, str] = {}
    listed = item.get("assets")
    if isinstance(listed, MarkedDict):
        for asset in listed:
            assets[asset] = reader.word(listed, asset, ASSET_CLASSES, "asset class")
    else:
        reader.fault(reader.at(item, "assets"), "'assets' is a map: name: class")
    relations = _test_relations(reader, item, assets)
    at, threat = _pair(reader, item, "at", assets)
    expect: list[tuple[str, str, float, float]] = []
    for asset, name, bounds, mark in _expected(reader, item, "expect", assets):
        low, high = bounds if isinstance(bounds, MarkedList) and len(bounds) == 2 else (bounds, bounds)
        if not all(isinstance(one, int | float) and 0 <= one <= 1 for one in (low, high)):
            reader.fault(mark, "a likelihood from 0 to 1, or [least, most]")
            continue
        expect.append((asset, name, float(low), float(high)))
    never = [(asset, name) for asset, name, _, _ in _expected(reader, item, "never", assets)]
    name = reader.text(item, "name")
    if len(reader.faults) > before:
        return None
    return RuleTest(
        name, tuple(assets.items()), relations, at, threat, tuple(expect), tuple(never), reader.file, item.mark[0]
    )


def _test_relations(reader: Reader, item: MarkedDict, assets: dict[str, str]) -> tuple[tuple[str, str, str], ...]:
    found = []
    value = item.get("relations", ())
    for index, one in enumerate(value):
        at = reader.at(value, index)
        parts = str(one).split()
        if len(parts) != 3 or parts[1] not in RELATION_TYPES or not {parts[0], parts[2]} <= set(assets):
            reader.fault(at, f"{one!r} is no relation of this test", "asset relation_type asset, such as a leads_to b")
        else:
            found.append((parts[0], parts[1], parts[2]))
    return tuple(found)


def _pair(reader: Reader, item: MarkedDict, key: str, assets: dict[str, str]) -> tuple[str, str]:
    value = item.get(key)
    if not isinstance(value, MarkedDict) or len(value) != 1:
        reader.fault(reader.at(item, key), f"{key!r} is one asset and its threat", "at: {room: fire}")
        return "", ""
    asset = next(iter(value))
    if asset not in assets:
        reader.fault(value.keys_at[asset], f"{asset!r} is no asset of this test", f"one of {', '.join(assets)}")
    return asset, reader.word(value, asset, THREAT_TYPES, "threat type")


def _expected(reader: Reader, item: MarkedDict, key: str, assets: dict[str, str]) -> list[tuple[str, str, Any, Any]]:
    """(asset, threat, value, mark): `asset: {threat: value}`, or `asset: [threats]` for `never`."""
    found: list[tuple[str, str, Any, Any]] = []
    if key not in item:
        return found
    value = item[key]
    if not isinstance(value, MarkedDict):
        reader.fault(reader.at(item, key), f"{key!r} is a map: asset: threats")
        return found
    for asset, threats in value.items():
        if asset not in assets:
            reader.fault(value.keys_at[asset], f"{asset!r} is no asset of this test", f"one of {', '.join(assets)}")
        elif key == "expect" and isinstance(threats, MarkedDict):
            for threat, bounds in threats.items():
                if threat not in THREAT_TYPES:
                    reader.fault(threats.keys_at[threat], f"{threat!r} is no threat type")
                found.append((asset, threat, bounds, reader.at(threats, threat)))
        else:
            names = reader.words(value, asset, THREAT_TYPES, "threat type")
            found += [(asset, name, (0, 1), reader.at(value, asset)) for name in names]
    return found
