"""Plain words for rules and messages, without badge numbers.

What a message said comes from its dialect's summary, else from its kind; a badge number in it is
replaced by a short mark that is the same for the same badge, so that steps can be told apart.
"""

from __future__ import annotations

from typing import Any

from correlator.clock import duration_text
from correlator.events.event import Event
from correlator.events.ids import digest
from correlator.events.kinds import KINDS
from correlator.rules.syntax import All, Any_, CorrelationRule, Not, RuleRef, Threshold
from correlator.rules.where import where_text

_OPERATOR = {"gt": "more than", "gte": "at least", "lt": "fewer than", "lte": "at most", "eq": "exactly",
             "neq": "not"}  # fmt: skip


def mark(badge: str) -> str:
    """A badge without its number: "badge #3fa2", the same for the same badge."""
    return f"badge #{digest('mark', badge)[:4]}"


def said(event: Event, person: str = "") -> str:
    """What a message said, in one sentence, with badge numbers replaced by their marks."""
    kind = KINDS.get(event.kind)
    text = event.summary or (kind.says if kind is not None else event.kind)
    for entity in event.entities:
        if entity.kind == "badge" and entity.id in text:
            text = text.replace(f"badge {entity.id}", mark(entity.id)).replace(entity.id, mark(entity.id))
    if person and person not in text:
        text = f"{text} ({person})"
    return text


def masked(group: dict[str, Any]) -> dict[str, Any]:
    """A group whose badge values are marks."""
    return {name: mark(str(value)) if name.rpartition(".")[2] == "badge" else value for name, value in group.items()}


def _title(key: str, rules: dict[str, Any]) -> str:
    rule = rules.get(key)
    return f'"{rule.head.title}"' if rule is not None else key


def expected_absent(rule: Any, rules: dict[str, Any]) -> tuple[str, ...]:
    """What an absence rule expected and did not happen, in words."""
    if not isinstance(rule, CorrelationRule) or isinstance(rule.condition, Threshold):
        return ()
    span = duration_text(rule.timespan_ms)
    when = {
        "before": f"in the {span} before",
        "after": f"within {span} after",
        "between": "in between",
    }.get(rule.absent, f"within {span} before or after")
    return tuple(f"{_title(key, rules)} {when}" for key in _refused(rule.condition, False))


def _refused(condition: Any, negated: bool) -> list[str]:
    if isinstance(condition, RuleRef):
        return [condition.key] if negated else []
    if isinstance(condition, Not):
        return _refused(condition.part, not negated)
    return [key for part in condition.parts for key in _refused(part, negated)]


def condition_words(rule: Any, rules: dict[str, Any]) -> str:
    """What made a correlation fire, in words; "" for a single event."""
    if not isinstance(rule, CorrelationRule):
        return ""
    span = duration_text(rule.timespan_ms)
    names = [_title(key, rules) for key in rule.rules]
    if isinstance(rule.condition, Threshold):
        bounds = " and ".join(f"{_OPERATOR[operator]} {bound:g}" for operator, bound in rule.condition.bounds)
        what = {
            "event_count": f"{bounds} of {' or '.join(names)}",
            "value_count": f"{bounds} different {' and '.join(rule.fields)} in {' or '.join(names)}",
            "value_sum": f"sum of {' '.join(rule.fields)} {bounds}",
            "value_avg": f"average of {' '.join(rule.fields)} {bounds}",
            "value_median": f"median of {' '.join(rule.fields)} {bounds}",
            "value_percentile": f"{rule.percentile:g}th percentile of {' '.join(rule.fields)} {bounds}",
        }.get(rule.type, f"{bounds} of {', '.join(names)}")
    elif rule.type == "temporal_ordered":
        refused = set(_refused(rule.condition, False))
        steps = [key for key in (rule.sequence or rule.rules) if key not in refused]
        what = ", then ".join(_title(key, rules) for key in steps)
    else:
        what = _tree_words(rule.condition, rules)
    text = f"{what}, within {span}"
    if rule.group_by:
        text += f", same {' and '.join(rule.group_by)}"
    listed = rule.sequence or rule.rules
    labels = [rules[key].head.name or rules[key].head.title if key in rules else key for key in listed]
    for where in rule.head.where:
        text += f"; {where_text(where, labels)}"
    return text


def _tree_words(condition: Any, rules: dict[str, Any]) -> str:
    if isinstance(condition, RuleRef):
        return _title(condition.key, rules)
    if isinstance(condition, Not):
        return f"without {_tree_words(condition.part, rules)}"
    joint = " and " if isinstance(condition, All) else " or "
    words = joint.join(_tree_words(part, rules) for part in condition.parts)
    return f"({words})" if isinstance(condition, Any_) else words
