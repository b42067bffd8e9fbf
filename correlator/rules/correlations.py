"""A correlation document, turned into a CorrelationRule.

Read by ourselves over the marked YAML: pySigma 2.0.1 refuses ranges, `AND` and ids in conditions and
gives no positions. What it accepts is accepted here (tests/rules/test_oracle.py).
Source: Sigma specification 2.1.0, "Correlations"; boolean conditions of the 2.2 draft.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from correlator.marked import Mark, MarkedDict
from correlator.rules.booleans import BadCondition, Name, Tree, parse_condition
from correlator.rules.documents import RuleFile, nearest, text_list
from correlator.rules.extensions import (
    CORRELATION_KEYS,
    Extension,
    Steps,
    block_of,
    duration_at,
    read_extension,
    sequence_of,
)
from correlator.rules.fields import number_of
from correlator.rules.heads import Head
from correlator.rules.syntax import (
    CORRELATION_TYPES,
    METRIC_TYPES,
    OPERATORS,
    TEMPORAL_TYPES,
    All,
    Any_,
    CorrelationRule,
    Not,
    RuleHead,
    RuleRef,
    Threshold,
)

SECTION_KEYS = ("type", "rules", "generate", "group-by", "timespan", "aliases", "condition")
TYPE_ALIASES = {"ordered_temporal": "temporal_ordered"}  # how one page of the Sigma site names it
DEFAULT_PERCENTILE = 95.0

Resolve = Callable[[str], tuple[str, str, str]]
"""Reference text -> (key, "", "") or ("", message, hint)."""


@dataclass(slots=True)
class Reading:
    """A correlation document being read."""

    file: RuleFile
    document: MarkedDict
    head: Head
    resolve: Resolve
    names_of: Callable[[str], tuple[str, ...]]  # key -> what the rule may be called, name first


def read_correlation(reading: Reading) -> CorrelationRule | None:
    """The rule of a correlation document, None if it has faults."""
    file, document, head = reading.file, reading.document, reading.head
    before = sum(fault.severity == "error" for fault in file.faults)
    section = document["correlation"]
    at = document.values_at["correlation"]
    if not isinstance(section, MarkedDict):
        file.error(at, "correlation must be a mapping")
        return None
    file.unknown_keys(section, SECTION_KEYS, "a correlation")
    kind = _type(file, section)
    refs, condition_tree = _rules_and_condition(reading, section, kind)
    rules = tuple(dict.fromkeys(key for key, _ in refs))
    block = block_of(file, document, CORRELATION_KEYS)
    sequence = _sequence(reading, block, kind, rules)
    aliases = _aliases(reading, section, rules)
    fields, percentile = _fields(file, section, kind)
    group_by = tuple(dict.fromkeys(text for text, _ in text_list(file, section, "group-by", "group-by")))
    timespan_ms = 0
    if section.get("timespan") is None:
        file.error(section.mark, "the correlation has no timespan", "add one, such as timespan: 10m")
    else:
        timespan_ms = duration_at(file, section, "timespan") or 0
        _timespan_notes(file, section)
    condition = _condition(file, section, kind, rules, condition_tree)
    positive, negated = _present_and_absent(condition)
    steps = _steps(reading, rules, sequence, negated)
    extension = read_extension(file, block, steps)
    _check_extension(file, extension, kind, positive, negated, timespan_ms)
    for key in sequence:
        if key in negated and block is not None:
            at = block.values_at["sequence"]
            file.error(at, "the sequence holds a rule that the condition negates", "list only what must happen")
    if not group_by:
        file.note(section.mark, "no group-by: one group for all events", "the Sigma schema wants group-by")
    if sum(fault.severity == "error" for fault in file.faults) > before:
        return None
    return CorrelationRule(
        head=rule_head(file, head, extension),
        type=kind,
        rules=rules,
        group_by=group_by,
        timespan_ms=timespan_ms,
        condition=condition,
        sequence=sequence,
        aliases=aliases,
        fields=fields,
        percentile=percentile,
        generate=_generate(file, document, section),
        absent=extension.absent or ("around" if negated else ""),
        max_gap_ms=extension.max_gap_ms,
        select=extension.select,
    )


def rule_head(file: RuleFile, head: Head, extension: Extension) -> RuleHead:
    """The head of a rule from its common part and its extension block."""
    return RuleHead(
        key=head.key,
        id=head.id,
        name=head.name,
        title=head.title,
        level=head.level,
        tags=head.tags,
        description=head.description,
        falsepositives=head.falsepositives,
        status=head.status,
        position=file.position(head.mark),
        asset=extension.asset,
        threat_type=extension.threat_type,
        tests=extension.tests,
        where=extension.where,
        said=extension.said,
        asset_operand=extension.asset_operand,
    )


def _type(file: RuleFile, section: MarkedDict) -> str:
    value = section.get("type")
    if value is None:
        file.error(section.mark, "the correlation has no type", nearest("", CORRELATION_TYPES))
        return ""
    at = section.values_at["type"]
    word = str(value).lower()
    if word in TYPE_ALIASES:
        file.warning(at, f"{word} is not the name in the specification", f"write {TYPE_ALIASES[word]}")
        word = TYPE_ALIASES[word]
    if word not in CORRELATION_TYPES:
        file.error(at, f"there is no correlation type {value!r}", nearest(word, CORRELATION_TYPES))
        return ""
    if word == "value_median":
        file.note(at, "value_median is not in Sigma 2.1", "pySigma knows it")
    return word


def _generate(file: RuleFile, document: MarkedDict, section: MarkedDict) -> bool:
    """Whether the referred rules print by themselves; given at the root (2.1) or in the section."""
    given = []
    for part in (document, section):
        value = part.get("generate")
        if value is None:
            continue
        if not isinstance(value, bool):
            file.error(part.values_at["generate"], "generate must be true or false")
        given.append(value is True)
        if part is section:
            file.note(part.keys_at["generate"], "`generate` under `correlation` is pySigma's place",
                      "the specification has it at the document's root")  # fmt: skip
        elif value is True:
            file.note(part.keys_at["generate"], "pySigma ignores `generate` at the document's root")
    if len(given) == 2 and given[0] != given[1]:
        file.warning(section.keys_at["generate"], "generate says one thing here and another at the document's root",
                     "true is taken; keep one")  # fmt: skip
    return any(given)


# ---- rules, aliases, sequence ------------------------------------------------------------------


def _resolved(reading: Reading, text: str, mark: Mark) -> str:
    key, message, hint = reading.resolve(text)
    if not key:
        reading.file.error(mark, message, hint)
    return key


def _rules_and_condition(reading: Reading, section: MarkedDict, kind: str) -> tuple[list[tuple[str, Mark]], Any]:
    """([(key, where it is named)], (boolean tree with keys, its text, its mark) or None).

    A boolean condition without `rules` names them itself, in order of appearance (as pySigma has it).
    """
    file = reading.file
    refs: list[tuple[str, Mark]] = []
    for text, mark in text_list(file, section, "rules", "rules"):
        key = _resolved(reading, text, mark)
        if not key:
            continue
        if key == reading.head.key:
            file.error(mark, "the correlation refers to itself")
            continue
        if key in [one for one, _ in refs]:
            file.warning(mark, f"{text!r} is listed twice", "a rule that must happen twice: x-correlator.sequence")
        refs.append((key, mark))
    condition = section.get("condition")
    if not isinstance(condition, str):
        if section.get("rules") is None:
            file.error(section.mark, "the correlation has no rules", "add `rules:` with names or ids")
        elif not refs and not isinstance(section.get("rules"), str) and not section["rules"]:
            file.error(section.values_at["rules"], "the list of rules is empty")
        return refs, None
    text, at = condition, section.values_at["condition"]
    if kind and kind not in TEMPORAL_TYPES:
        file.error(at, f"a boolean condition is for {' and '.join(TEMPORAL_TYPES)}", "write a map such as {gte: 3}")
        return refs, None
    try:
        tree = parse_condition(text, of_allowed=False)
        keyed = _keyed(reading, tree)
    except BadCondition as problem:
        file.error(file.inside(at, text, problem.offset), problem.message, problem.hint)
        return refs, None
    named = _names(keyed, {})
    file.note(at, "boolean conditions are from the Sigma 2.2 draft", "a 2.1 reader refuses them")
    if any(word in text.split() for word in ("AND", "OR", "NOT")):
        file.note(at, "pySigma knows and, or, not in lower case only")
    if section.get("rules") is None:
        file.note(at, "a boolean condition without `rules`", "the 2.2 draft wants the list as well")
        return [(key, at) for key in named], (keyed, text, at)
    listed = [key for key, _ in refs]
    for key, mark in refs:
        if key not in named:
            file.error(mark, f"the condition never uses {_called(reading, key)!r}", "name it there, or take it off")
    for key, offset in named.items():
        if key not in listed:
            where = file.inside(at, text, offset)
            file.error(where, f"{_called(reading, key)!r} is not among the `rules`", "list it there")
    return refs, (keyed, text, at)


def _called(reading: Reading, key: str) -> str:
    return reading.names_of(key)[0]


@dataclass(frozen=True, slots=True)
class _Ref:
    key: str
    offset: int


def _keyed(reading: Reading, tree: Tree) -> Any:
    """The tree with resolved references. Raises BadCondition for one that cannot be resolved."""
    if isinstance(tree, Name):
        key, message, hint = reading.resolve(tree.text)
        if not key:
            raise BadCondition(tree.offset, message, hint)
        if key == reading.head.key:
            raise BadCondition(tree.offset, "the correlation refers to itself")
        return _Ref(key, tree.offset)
    if isinstance(tree, Not):
        return Not(_keyed(reading, tree.part))
    assert isinstance(tree, All | Any_)
    return type(tree)(tuple(_keyed(reading, part) for part in tree.parts))


def _names(tree: Any, found: dict[str, int]) -> dict[str, int]:
    """Key -> offset of its first mention, in order of appearance."""
    if isinstance(tree, _Ref):
        found.setdefault(tree.key, tree.offset)
    elif isinstance(tree, Not):
        _names(tree.part, found)
    else:
        for part in tree.parts:
            _names(part, found)
    return found


def _aliases(reading: Reading, section: MarkedDict, rules: tuple[str, ...]) -> dict[str, dict[str, str]]:
    file = reading.file
    value = section.get("aliases")
    if value is None:
        return {}
    if not isinstance(value, MarkedDict):
        file.error(section.values_at["aliases"], "aliases must be a mapping", "alias: {rule: field}")
        return {}
    found: dict[str, dict[str, str]] = {}
    for alias in value:
        mapping = value[alias]
        if not isinstance(mapping, MarkedDict):
            file.error(value.values_at[alias], f"the alias {alias!r} must be a mapping", "of rule to field")
            continue
        found[alias] = {}
        for ref in mapping:
            key = _resolved(reading, ref, mapping.keys_at[ref])
            if not isinstance(mapping[ref], str) or not mapping[ref]:
                file.error(mapping.values_at[ref], "the name of a field is expected")
                continue
            if not key:
                continue
            if key not in rules:
                file.warning(mapping.keys_at[ref], f"{ref!r} is not among the `rules`; the alias does nothing for it")
            if key in found[alias]:
                file.error(mapping.keys_at[ref], f"the alias {alias!r} names {ref!r} twice, by name and by id")
            found[alias][key] = mapping[ref]
    return found


def _sequence(reading: Reading, block: MarkedDict | None, kind: str, rules: tuple[str, ...]) -> tuple[str, ...]:
    written = sequence_of(reading.file, block)
    if not written or block is None:
        return ()
    file, at = reading.file, block.keys_at["sequence"]
    if kind and kind != "temporal_ordered":
        file.error(at, "sequence is for temporal_ordered")
        return ()
    keys = []
    for text, mark in written:
        key = _resolved(reading, text, mark)
        if key and key not in rules:
            file.error(mark, f"{text!r} is not among the `rules`", "list it there")
        if key:
            keys.append(key)
    if len(set(keys)) < len(keys):
        file.note(at, "a sequence that repeats a rule is ours", "elsewhere this rule asks for less")
    elif tuple(keys) != rules:
        file.note(at, "the order of `sequence` is ours", "elsewhere the order of `rules` counts")
    return tuple(keys)


def _steps(reading: Reading, rules: tuple[str, ...], sequence: tuple[str, ...], negated: frozenset[str]) -> Steps:
    """What operands may name. With a `sequence`, an absent rule's step is its index in `rules`."""
    called = [reading.names_of(key) for key in (sequence or rules)]
    if not sequence:
        return Steps(called)
    return Steps(called, [(reading.names_of(key), index) for index, key in enumerate(rules) if key in negated])


# ---- fields and bounds -------------------------------------------------------------------------


def _fields(file: RuleFile, section: MarkedDict, kind: str) -> tuple[tuple[str, ...], float]:
    """(fields that are counted or reckoned with, percentile)."""
    condition = section.get("condition")
    if not isinstance(condition, MarkedDict):
        return (), DEFAULT_PERCENTILE
    fields = tuple(dict.fromkeys(text for text, _ in text_list(file, condition, "field", "field")))
    needs = kind == "value_count" or kind in METRIC_TYPES
    if needs and not fields:
        file.error(condition.mark, f"{kind} needs a field", "add `field:` to the condition")
    if fields and kind and not needs:
        file.warning(condition.keys_at["field"], f"{kind} takes no field; it is ignored")
        fields = ()
    if len(fields) > 1 and kind in METRIC_TYPES:
        file.error(condition.values_at["field"], f"{kind} takes one field")
    percentile = DEFAULT_PERCENTILE
    if condition.get("percentile") is not None:
        at = condition.values_at["percentile"]
        number = number_of(condition["percentile"])
        if number is None or not 0 < number <= 100:
            file.error(at, "percentile must be a number above 0, at most 100")
        else:
            percentile = float(number)
        if kind and kind != "value_percentile":
            file.warning(condition.keys_at["percentile"], f"{kind} takes no percentile; it is ignored")
        else:
            file.note(at, "the key percentile is pySigma's", "the specification says no percentile")
    return fields, percentile


def _timespan_notes(file: RuleFile, section: MarkedDict) -> None:
    text, at = str(section["timespan"]), section.values_at["timespan"]
    if text.endswith("ms"):
        file.note(at, "a timespan in milliseconds is ours", "Sigma has s, m, h and d")
    elif text[-1:] in ("w", "M", "y"):
        file.note(at, f"the unit {text[-1]} is pySigma's", "Sigma 2.1 has s, m, h and d")


def _condition(file: RuleFile, section: MarkedDict, kind: str, rules: tuple[str, ...], tree: Any) -> Any:
    """A Threshold, or a tree of RuleRef that comes to `positive and not x and not y`."""
    value = section.get("condition")
    if tree is not None:
        keyed, text, at = tree
        try:
            return _in_time(keyed, kind)
        except BadCondition as problem:
            file.error(file.inside(at, text, problem.offset), problem.message, problem.hint)
            return None
    if isinstance(value, MarkedDict):
        if kind == "temporal_ordered":
            file.error(value.mark, "temporal_ordered takes no count: the first k steps and any k steps "
                       "are not told apart", "leave the condition out; all steps must happen")  # fmt: skip
        return _threshold(file, value)
    if value is not None and not isinstance(value, str):
        file.error(section.values_at["condition"], "the condition must be a map such as {gte: 3}, or a text")
    elif value is None and kind and kind not in TEMPORAL_TYPES:
        file.error(section.mark, f"{kind} needs a condition", "such as condition: {gte: 10}")
    if kind in TEMPORAL_TYPES and rules:
        return RuleRef(rules[0]) if len(rules) == 1 else All(tuple(RuleRef(key) for key in rules))
    return None


def _threshold(file: RuleFile, part: MarkedDict) -> Threshold:
    file.unknown_keys(part, (*OPERATORS, "field", "percentile"), "a condition")
    return bounds_of(file, part)


def bounds_of(file: RuleFile, part: MarkedDict) -> Threshold:
    """The bounds of a count condition; at least one is needed, and together they must be satisfiable."""
    bounds: list[tuple[str, float]] = []
    for operator in part:
        if operator not in OPERATORS:
            continue
        at = part.values_at[operator]
        number = number_of(part[operator])
        if number is None:
            file.error(at, f"{operator} must be a number")
            continue
        if isinstance(part[operator], str):
            file.warning(at, f"{operator} is a text; it is read as the number {number}", "leave the quotes out")
        bounds.append((operator, number))
    if not any(operator in part for operator in OPERATORS):
        file.error(part.mark, "the condition has no bound", nearest("", OPERATORS))
    if len(bounds) > 1:
        file.note(part.mark, "a range of two bounds", "the specification has it, pySigma refuses it")
        lows = [bound for operator, bound in bounds if operator in ("gt", "gte", "eq")]
        highs = [bound for operator, bound in bounds if operator in ("lt", "lte", "eq")]
        if lows and highs and max(lows) > min(highs):
            file.error(part.mark, "no number satisfies both bounds")
    return Threshold(tuple(bounds))


# ---- boolean conditions ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Literal:
    ref: _Ref
    absent: bool


def _in_time(tree: Any, kind: str) -> Any:
    """The tree as All(positive parts, then Not(RuleRef) of each absent rule). Raises BadCondition."""
    parts = _conjuncts(_pushed(tree, negated=False))
    positive = [part for part in parts if not (isinstance(part, _Literal) and part.absent)]
    absent = [part.ref for part in parts if isinstance(part, _Literal) and part.absent]
    for part in positive:
        bad = _first_absent(part)
        if bad is not None:
            raise BadCondition(
                bad.offset,
                "an absence inside of `or` cannot be decided in time",
                "only `positive and not x and not y` can; write two correlations",
            )
        if kind == "temporal_ordered" and not isinstance(part, _Literal):
            offset = min(_offsets(part))
            raise BadCondition(offset, "temporal_ordered takes no `or`", "write one correlation for each order")
    if not positive:
        raise BadCondition(absent[0].offset, "the condition needs a rule that must happen", "a and not b")
    seen: dict[str, int] = {}
    for part in positive:
        _names(_unlit(part), seen)
    for ref in absent:
        if ref.key in seen:
            raise BadCondition(ref.offset, "the condition asks for the same rule and for its absence")
    made = [_plain(part) for part in positive]
    made += [Not(RuleRef(key)) for key in dict.fromkeys(ref.key for ref in absent)]
    return made[0] if len(made) == 1 else All(tuple(made))


def _pushed(tree: Any, *, negated: bool) -> Any:
    """`not` moved down to the references, by De Morgan."""
    if isinstance(tree, _Ref):
        return _Literal(tree, negated)
    if isinstance(tree, Not):
        return _pushed(tree.part, negated=not negated)
    parts = tuple(_pushed(part, negated=negated) for part in tree.parts)
    return All(parts) if isinstance(tree, All) is not negated else Any_(parts)


def _conjuncts(tree: Any) -> list[Any]:
    if isinstance(tree, All):
        return [inner for part in tree.parts for inner in _conjuncts(part)]
    return [tree]


def _first_absent(tree: Any) -> _Ref | None:
    if isinstance(tree, _Literal):
        return tree.ref if tree.absent else None
    found = [bad for part in tree.parts if (bad := _first_absent(part)) is not None]
    return found[0] if found else None


def _offsets(tree: Any) -> list[int]:
    if isinstance(tree, _Literal):
        return [tree.ref.offset]
    return [offset for part in tree.parts for offset in _offsets(part)]


def _unlit(tree: Any) -> Any:
    if isinstance(tree, _Literal):
        return tree.ref
    return type(tree)(tuple(_unlit(part) for part in tree.parts))


def _plain(tree: Any) -> Any:
    if isinstance(tree, _Literal):
        return RuleRef(tree.ref.key)
    return type(tree)(tuple(_plain(part) for part in tree.parts))


def _present_and_absent(condition: Any) -> tuple[frozenset[str], frozenset[str]]:
    """(keys that must be present, keys that must not) of a condition in the form of `_in_time`."""
    if condition is None or isinstance(condition, Threshold):
        return frozenset(), frozenset()
    positive: set[str] = set()
    negated: set[str] = set()

    def walk(tree: Any) -> None:
        if isinstance(tree, RuleRef):
            positive.add(tree.key)
        elif isinstance(tree, Not):
            negated.add(tree.part.key)
        else:
            for part in tree.parts:
                walk(part)

    walk(condition)
    return frozenset(positive), frozenset(negated)


def _check_extension(
    file: RuleFile,
    extension: Extension,
    kind: str,
    positive: frozenset[str],
    negated: frozenset[str],
    timespan_ms: int,
) -> None:
    """What the parts of `x-correlator` ask of each other and of the correlation."""
    marks = extension.marks
    if "absent" in marks and not negated:
        file.error(marks["absent"], "absent needs a `not` in the condition", "such as condition: a and not b")
    if extension.absent == "between" and negated and len(positive) < 2:
        file.error(marks["absent"], "absent: between needs two rules that must happen")
    if "max-gap" in marks and kind and kind != "temporal_ordered":
        file.error(marks["max-gap"], "max-gap is for temporal_ordered")
    elif extension.max_gap_ms > timespan_ms > 0:
        file.warning(marks["max-gap"], "max-gap is longer than the timespan and restricts nothing")
    for where in extension.where:
        steps = {operand.step for operand in where.operands}
        if kind and kind not in TEMPORAL_TYPES and len(steps) > 1 and where.position:
            at = (where.position.line, where.position.column)
            file.error(at, f"{kind} takes only conditions on single events", "use temporal or temporal_ordered")
    for key, what in _OURS.items():
        if key in marks:
            file.note(marks[key], what, "under x-correlator, which other readers ignore")


_OURS = {
    "absent": "on which side a rule must be absent is ours",
    "max-gap": "the largest gap between steps is ours",
    "select": "a match for every event is ours",
    "where": "conditions between events are ours",
}
