"""A site's changes to the rules: `rules-overlay.yaml` (docs/rules.md section 10).

`rules` maps a rule's id or name to what is changed of it, always with a reason; `lists` gives the
placeholders of `|expand` their values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from correlator.events.event import LEVELS
from correlator.marked import Mark, MarkedDict, MarkedList
from correlator.rules.correlations import bounds_of
from correlator.rules.documents import RuleFile, nearest
from correlator.rules.extensions import duration_at
from correlator.rules.syntax import Threshold

OVERLAY_NAME = "rules-overlay.yaml"  # a file of this name among rules is no rule file
_KEYS = ("rules", "lists")
_CHANGE_KEYS = ("enabled", "level", "timespan", "condition", "reason")


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What a site changes of one rule; "" 0 None: unchanged. marks: where each key stands."""

    enabled: bool
    level: str
    timespan_ms: int
    condition: Threshold | None
    reason: str
    mark: Mark
    marks: dict[str, Mark]


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay as read; `rules` is keyed as written, by id or name."""

    rules: dict[str, RuleChange] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_overlay(file: RuleFile, document: object) -> Overlay:
    """The overlay of a file's only document; faults go to the file."""
    if document is None:
        return Overlay()
    if not isinstance(document, MarkedDict):
        file.error((1, 1), "an overlay must be a mapping", "with rules: and lists:")
        return Overlay()
    file.unknown_keys(document, _KEYS, "an overlay")
    rules: dict[str, RuleChange] = {}
    section = document.get("rules")
    if isinstance(section, MarkedDict):
        for ref in section:
            change = _change(file, section[ref], section.keys_at[ref])
            if change is not None:
                rules[ref] = change
    elif section is not None:
        file.error(document.values_at["rules"], "rules must be a mapping", "of a rule's id or name to its changes")
    return Overlay(rules, _lists(file, document))


def _change(file: RuleFile, part: object, mark: Mark) -> RuleChange | None:
    if not isinstance(part, MarkedDict):
        file.error(mark, "the changes of a rule must be a mapping", "such as {enabled: false, reason: ...}")
        return None
    file.unknown_keys(part, _CHANGE_KEYS, "a rule's change")
    reason = part.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        file.error(part.values_at.get("reason", mark), "a change needs a reason", "one sentence for the next person")
    enabled = part.get("enabled", True)
    if not isinstance(enabled, bool):
        file.error(part.values_at["enabled"], "enabled must be true or false")
    level = part.get("level")
    if level is not None and level not in LEVELS:
        file.error(part.values_at["level"], f"{level!r} is no level", nearest(str(level), LEVELS))
        level = None
    timespan_ms = duration_at(file, part, "timespan") if part.get("timespan") is not None else None
    condition = part.get("condition")
    bounds = None
    if isinstance(condition, MarkedDict):
        file.unknown_keys(condition, ("gt", "gte", "lt", "lte", "eq", "neq"), "a changed condition")
        bounds = bounds_of(file, condition)
    elif condition is not None:
        file.error(part.values_at["condition"], "a changed condition must be a map such as {gte: 20}")
    return RuleChange(enabled is not False, level or "", timespan_ms or 0, bounds, str(reason or ""), mark,
                      dict(part.keys_at))  # fmt: skip


def _lists(file: RuleFile, document: MarkedDict) -> dict[str, tuple[str, ...]]:
    section = document.get("lists")
    if section is None:
        return {}
    if not isinstance(section, MarkedDict):
        file.error(document.values_at["lists"], "lists must be a mapping", "of a placeholder's name to its values")
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for name in section:
        values = section[name]
        if not isinstance(values, MarkedList):
            file.error(section.values_at[name], f"the list {name!r} must be a list")
            continue
        texts = []
        for value, mark in zip(values, values.items_at, strict=True):
            if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
                texts.append(str(value))
            else:
                file.error(mark, "a value of a list must be a text or a number")
        if not values:
            file.error(section.values_at[name], f"the list {name!r} is empty", "a rule that uses it could never match")
        found[name] = tuple(texts)
    return found
