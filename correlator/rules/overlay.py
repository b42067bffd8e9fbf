"""A site's changes to the rules: `rules-overlay.yaml` (docs/rules.md section 10).

`rules` maps a rule's id or name to what is changed of it, always with a reason; `lists` gives the
placeholders of `|expand` their values; `exceptions` says of what the site wants to hear nothing for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from correlator.clock import parse_iso
from correlator.events.event import LEVELS
from correlator.events.kinds import KINDS
from correlator.marked import Mark, MarkedDict, MarkedList
from correlator.rules.correlations import bounds_of
from correlator.rules.documents import RuleFile, nearest
from correlator.rules.extensions import duration_at
from correlator.rules.fields import keys_of
from correlator.rules.syntax import RuleException, Threshold

OVERLAY_NAME = "rules-overlay.yaml"  # a file of this name among rules is no rule file
_KEYS = ("rules", "lists", "exceptions")
_EXCEPTION_KEYS = ("rule", "kind", "fields", "asset", "from", "until", "reason")
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
    """An overlay as read; `rules` is keyed as written, by id or name, and so are the rules of exceptions,
    each with the place of its rule."""

    rules: dict[str, RuleChange] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    exceptions: tuple[tuple[RuleException, Mark], ...] = ()


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
    return Overlay(rules, _lists(file, document), _exceptions(file, document))


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


def _exceptions(file: RuleFile, document: MarkedDict) -> tuple[tuple[RuleException, Mark], ...]:
    section = document.get("exceptions")
    if section is None:
        return ()
    if not isinstance(section, MarkedList):
        file.error(document.values_at["exceptions"], "exceptions must be a list", "of maps with rule or kind")
        return ()
    found = []
    for part, mark in zip(section, section.items_at, strict=True):
        if not isinstance(part, MarkedDict):
            file.error(
                mark, "an exception must be a mapping", "such as {rule: ..., asset: ..., until: ..., reason: ...}"
            )
            continue
        exception = _exception(file, part)
        if exception is not None:
            found.append((exception, part.values_at.get("rule", part.mark)))
    return tuple(found)


def _exception(file: RuleFile, part: MarkedDict) -> RuleException | None:
    before = len(file.faults)
    file.unknown_keys(part, _EXCEPTION_KEYS, "an exception")
    texts = {key: _text(file, part, key) for key in ("rule", "kind", "asset", "reason")}
    kind = texts["kind"]
    if bool(texts["rule"]) is bool(kind):
        file.error(part.mark, "an exception names a rule or a kind of event", "exactly one of rule: and kind:")
    if kind and kind not in KINDS:
        file.error(part.values_at["kind"], f"there is no kind of event {kind!r}", nearest(kind, KINDS))
    fields = _fields(file, part)
    if "fields" not in part and "asset" not in part:
        file.error(part.mark, "an exception names fields or an asset", "to be rid of a rule everywhere, switch it off")
    if not texts["reason"].strip():
        file.error(part.values_at.get("reason", part.mark), "an exception needs a reason",
                   "one sentence for the next person")  # fmt: skip
    if part.get("until") is None:
        file.error(part.mark, "an exception needs an end", "until: 2026-12-31T18:00:00+01:00")
    from_ms, until_ms = _instant(file, part, "from"), _instant(file, part, "until")
    if 0 <= until_ms <= from_ms:
        file.error(part.values_at["until"], "until must lie behind from")
    if len(file.faults) > before:
        return None
    return RuleException(texts["rule"], kind, fields, texts["asset"], from_ms, until_ms, texts["reason"])


def _text(file: RuleFile, part: MarkedDict, key: str) -> str:
    value = part.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    file.error(part.values_at[key], f"{key} must be a text")
    return ""


def _fields(file: RuleFile, part: MarkedDict) -> tuple[tuple[str, tuple[str, ...]], ...]:
    fields = part.get("fields")
    if fields is None:
        return ()
    if not isinstance(fields, MarkedDict) or not fields:
        file.error(part.values_at["fields"], "fields must be a mapping", "of a field's name to a value or a list")
        return ()
    found = []
    for name in fields:
        value = fields[name]
        values = keys_of(list(value) if isinstance(value, MarkedList) else value)
        if not values:
            file.error(fields.values_at[name], f"the field {name!r} needs a value or a list of values")
        found.append((name, values))
    return tuple(sorted(found))


def _instant(file: RuleFile, part: MarkedDict, key: str) -> int:
    """A time in ms UTC, -1 if there is none or it is a fault."""
    value = part.get(key)
    if value is None:
        return -1
    try:
        return parse_iso(str(value))[0]
    except ValueError:
        file.error(part.values_at[key], f"{key} must be a time with its offset", "such as 2026-12-31T18:00:00+01:00")
        return -1


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
