"""What `rules check` and `rules explain` say: portability and slips of a rule, and a rule in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from correlator.clock import duration_text
from correlator.errors import Fault
from correlator.rules.fields import OUR_NAMES
from correlator.rules.load import LoadedRules
from correlator.rules.logsource import OURS
from correlator.rules.predicates import compile_condition, test_text
from correlator.rules.syntax import (
    WHERE_PREDICATES,
    All,
    Any_,
    CorrelationRule,
    DetectionRule,
    FieldTest,
    LogSource,
    Not,
    RuleHead,
    RuleRef,
    RuleSet,
    Threshold,
    Where,
)
from correlator.rules.where import where_text

Rule = DetectionRule | CorrelationRule

# ---- portability -------------------------------------------------------------------------------


def check(loaded: LoadedRules) -> list[Fault]:
    """Every fault and remark, sorted by place: "error", "warning", and "note" for portability.

    A rule that any Sigma 2.1 reader takes as we do has no note. Notes name what is of the 2.2 draft,
    of pySigma, or ours.
    """
    found = [*loaded.faults, *loaded.notes]
    for detection in loaded.rules.detections.values():
        found.extend(_detection_notes(detection))
    both: list[Rule] = [*loaded.rules.detections.values(), *loaded.rules.correlations.values()]
    for rule in both:
        found.extend(_head_notes(rule))
    return sorted(dict.fromkeys(found))


def _note(head: RuleHead, message: str, hint: str = "", severity: str = "note") -> Fault:
    at = head.position
    return Fault(at.file, at.line, at.column, message, hint, severity)


def _head_notes(rule: Rule) -> Iterator[Fault]:
    head = rule.head
    if not head.id:
        yield _note(head, f"the rule {head.key!r} has no id", "other tools keep rules apart by id; a UUID does")
    if head.where and isinstance(rule, CorrelationRule) and not rule.group_by:
        yield _note(head, "conditions between events over one group of all events", "a group-by makes it cheaper")


def _detection_notes(rule: DetectionRule) -> Iterator[Fault]:
    if rule.logsource.product == OURS:
        yield _note(rule.head, "the log source is ours", "elsewhere a mapping to fields and tables is needed")
    else:
        ours = sorted({test.field for test in field_tests(rule.condition)} & OUR_NAMES - _SHARED)
        if ours:
            yield _note(rule.head, f"our names for fields: {', '.join(ours)}", "elsewhere they need a mapping")
    if anchors_missing(rule):
        yield _note(
            rule.head,
            "nothing selects the events that this rule looks at, so it is tried on every one",
            "a test such as kind: ... or EventID: ... makes it cheap",
            "warning",
        )


# Names of ours that are as likely the source's own.
_SHARED = frozenset({"host", "source", "service", "user", "level", "file", "process", "url", "ip", "mac"})


def field_tests(tree: Any) -> Iterator[FieldTest]:
    """Every field test of a condition tree."""
    if isinstance(tree, FieldTest):
        yield tree
    elif isinstance(tree, Not):
        yield from field_tests(tree.part)
    elif isinstance(tree, All | Any_):
        for part in tree.parts:
            yield from field_tests(part)


def anchors_missing(rule: DetectionRule) -> bool:
    """Whether no index can select the events of a detection."""
    return compile_condition(rule.condition, rule.logsource, (), None, UTC).anchors is None


# ---- plain words -------------------------------------------------------------------------------

_AMOUNT = {
    "gt": "more than {}",
    "gte": "at least {}",
    "lt": "fewer than {}",
    "lte": "at most {}",
    "eq": "exactly {}",
    "neq": "any number but {}",
}


def explain_rule(rule: Rule, rules: RuleSet | None = None) -> str:
    """A rule in plain words, several lines. rules: to call the rules it refers to by name and title."""
    head = rule.head
    lines = [f"{head.title} ({head.level})"]
    if head.said:
        lines.append(f"  says: {head.said}")
    lines += _detection_words(rule) if isinstance(rule, DetectionRule) else _correlation_words(rule, rules)
    if head.asset:
        lines.append(f"  stands at: {head.asset}")
    if head.threat_type:
        lines.append(f"  threat type: {head.threat_type}")
    if head.falsepositives:
        lines.append(f"  may be harmless: {'; '.join(head.falsepositives)}")
    return "\n".join(lines)


def _detection_words(rule: DetectionRule) -> list[str]:
    lines = [f"  looks at: {_source_words(rule.logsource)}", "  an event matches when"]
    lines += _tree_words(rule.condition, 2)
    for where in rule.head.where:
        lines.append(f"    and {where_text(where)}")
    return lines


def _source_words(logsource: LogSource) -> str:
    if logsource == LogSource(product=OURS):
        return "all events"
    given = (("product", logsource.product), ("category", logsource.category), ("service", logsource.service))
    return ", ".join(f"{name} {value}" for name, value in given if value)


def _tree_words(tree: Any, depth: int) -> list[str]:
    """One line a part, indented by nesting."""
    space = "  " * depth
    if isinstance(tree, All | Any_):
        lines = [f"{space}{'all of' if isinstance(tree, All) else 'at least one of'}"]
        for part in tree.parts:
            lines += _tree_words(part, depth + 1)
        return lines
    if isinstance(tree, Not):
        inner = _tree_words(tree.part, depth)
        return [f"{space}not: {inner[0].strip()}", *inner[1:]]
    return [f"{space}{test_text(tree)}"]


def _correlation_words(rule: CorrelationRule, rules: RuleSet | None) -> list[str]:
    span = duration_text(rule.timespan_ms)
    names = {key: _name_of(key, rules) for key in rule.rules}
    per = f" with the same {' and '.join(rule.group_by)}" if rule.group_by else ""
    of = " or ".join(names.values()) if len(names) < 5 else f"{len(names)} rules"
    steps = [names[key] for key in rule.sequence or rule.rules]
    lines = []
    if rule.type == "event_count" and isinstance(rule.condition, Threshold):
        lines.append(f"  {_amounts(rule.condition)} events of {of}{per} within {span}")
    elif rule.type == "value_count" and isinstance(rule.condition, Threshold):
        fields = " and ".join(rule.fields)
        lines.append(f"  {_amounts(rule.condition)} different values of {fields} in events of {of}{per} within {span}")
    elif isinstance(rule.condition, Threshold) and rule.type not in ("temporal", "temporal_ordered"):
        what = {
            "value_sum": "the sum",
            "value_avg": "the mean",
            "value_median": "the median",
            "value_percentile": f"the {rule.percentile:g}th percentile",
        }[rule.type]
        lines.append(f"  {what} of {' '.join(rule.fields)} in events of {of}{per} within {span} is ")
        lines[-1] += _amounts(rule.condition)
    elif isinstance(rule.condition, Threshold):
        lines.append(f"  {_amounts(rule.condition)} of these within {span}{per}: {', '.join(names.values())}")
    else:
        lines += _temporal_words(rule, names, per, span, steps)
    if rule.max_gap_ms:
        lines.append(f"  at most {duration_text(rule.max_gap_ms)} between one step and the next")
    for alias, meant in sorted(rule.aliases.items()):
        said = ", ".join(f"{field} in {names.get(key, _name_of(key, rules))}" for key, field in sorted(meant.items()))
        lines.append(f"  {alias} means {said}")
    lines += [f"  where {_where_words(where, rule, names)}" for where in rule.head.where]
    if rule.select == "each":
        lines.append("  every event that makes it true is a match of its own")
    return lines


def _where_words(where: Where, rule: CorrelationRule, names: dict[str, str]) -> str:
    return where_text(where, _step_names(rule, names))


def _step_names(rule: CorrelationRule, names: dict[str, str]) -> list[str]:
    """The names of the steps; a rule's second use is `name#2`."""
    seen: dict[str, int] = {}
    found = []
    for key in rule.sequence or rule.rules:
        seen[key] = seen.get(key, 0) + 1
        found.append(names[key] if seen[key] == 1 else f"{names[key]}#{seen[key]}")
    return found


def _temporal_words(
    rule: CorrelationRule, names: dict[str, str], per: str, span: str, steps: Sequence[str]
) -> list[str]:
    parts = list(rule.condition.parts) if isinstance(rule.condition, All) else [rule.condition]
    absent = [names[part.part.key] for part in parts if isinstance(part, Not)]
    positive = [part for part in parts if not isinstance(part, Not)]
    if rule.type == "temporal_ordered":
        order = [step for step in steps if step not in absent]
        lines = [f"  {', then '.join(order)}{per} within {span}"]
    else:
        said = " and ".join(_ref_words(part, names) for part in positive)
        lines = [f"  {said}{per}" + (f" within {span}, in any order" if len(positive) > 1 else "")]
    if absent:
        when = {
            "before": f"in the {span} before",
            "after": f"in the {span} after",
            "between": "between its first and last event",
            "around": f"in the {span} before or after",
        }[rule.absent]
        lines.append(f"  and no {' and no '.join(absent)} {when}")
    return lines


def _ref_words(tree: Any, names: dict[str, str]) -> str:
    if isinstance(tree, RuleRef):
        return names[tree.key]
    joint = " and " if isinstance(tree, All) else " or "
    return "(" + joint.join(_ref_words(part, names) for part in tree.parts) + ")"


def _name_of(key: str, rules: RuleSet | None) -> str:
    rule: Rule | None = None
    if rules is not None:
        rule = rules.detections.get(key) or rules.correlations.get(key)
    return (rule.head.name or rule.head.title) if rule is not None else key


def _amounts(threshold: Threshold) -> str:
    return " and ".join(_AMOUNT[operator].format(f"{bound:g}") for operator, bound in threshold.bounds)


def predicates_table() -> str:
    """The words of `where` with operands and options, one a line: `rules explain --predicates`."""
    lines = []
    for word, (count, options, says) in WHERE_PREDICATES.items():
        form = f"{word}: [a.field, b.field]" if count == 2 else f"{word}: a.field"
        extra = "".join(f", {name}: {kind}" for name, kind in options.items())
        lines.append(f"{form}{extra}\n    {says}")
    return "\n".join(lines)
