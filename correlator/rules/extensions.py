"""The `x-correlator` block of a rule: what Sigma has no words for (docs/rules.md section 8).

Its JSON Schema is schemas/rule/x-correlator.schema.json; a test keeps the two alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from correlator.clock import duration_ms, parse_iso
from correlator.marked import Mark, MarkedDict, MarkedList
from correlator.rules.documents import RuleFile, nearest
from correlator.rules.fields import number_of
from correlator.rules.syntax import WHERE_PREDICATES, Operand, RuleTest, Where
from correlator.rules.testing import BadEvent, event_of, offset_ms
from correlator.rules.where import REQUIRED_OPTIONS

BLOCK = "x-correlator"
COMMON_KEYS = ("asset", "threat-type", "says", "where", "tests")
CORRELATION_KEYS = (*COMMON_KEYS, "absent", "sequence", "max-gap", "select")
ABSENT = ("before", "between", "after")
SELECT = ("episode", "each")
TEST_KEYS = ("name", "events", "expect", "until", "start", "site")
OPTION_WORDS: dict[str, tuple[str, ...]] = {
    "validity": ("valid", "expired", "not_yet", "superseded", "disabled", "unknown"),
}
EVENT_ITSELF = "event"  # operand of a detection rule: the place of the event


@dataclass(slots=True)
class Steps:
    """The rules that operands of a correlation count through.

    names: for each step, what it may be called (name, id); absent: for each rule that the condition
    negates, (names, step). `says` lists them for hints.
    """

    names: list[tuple[str, ...]]
    absent: list[tuple[tuple[str, ...], int]] = field(default_factory=list)

    def says(self) -> str:
        """The names, as a hint lists them."""
        called = [names[0] for names in self.names] + [names[0] for names, _ in self.absent]
        return ", ".join(dict.fromkeys(called))


@dataclass(slots=True)
class Extension:
    """The block as read. `marks` tells where each of its keys stands."""

    asset: str = ""
    asset_operand: Operand | None = None
    threat_type: str = ""
    said: str = ""
    where: tuple[Where, ...] = ()
    tests: tuple[RuleTest, ...] = ()
    absent: str = ""
    max_gap_ms: int = 0
    select: str = "episode"
    marks: dict[str, Mark] = field(default_factory=dict)


def block_of(file: RuleFile, document: MarkedDict, known: Sequence[str]) -> MarkedDict | None:
    """The `x-correlator` mapping of a document, None without one; unknown keys are faults."""
    block = document.get(BLOCK)
    if block is None:
        return None
    if not isinstance(block, MarkedDict):
        file.error(document.values_at[BLOCK], f"{BLOCK} must be a mapping")
        return None
    file.unknown_keys(block, known, BLOCK)
    for key in block:
        if block[key] is None:
            file.warning(block.keys_at[key], f"{key} is empty", "give it a value, or take it out")
    return block


def sequence_of(file: RuleFile, block: MarkedDict | None) -> list[tuple[str, Mark]]:
    """The rule references of `sequence`, [] without one."""
    if block is None or block.get("sequence") is None:
        return []
    value = block["sequence"]
    if not isinstance(value, MarkedList) or not all(isinstance(item, str) for item in value):
        file.error(block.values_at["sequence"], "sequence must be a list of rules", "such as [a, b, a]")
        return []
    return list(zip(value, value.items_at, strict=True))


def read_extension(file: RuleFile, block: MarkedDict | None, steps: Steps | None) -> Extension:
    """Everything of the block but `sequence`. steps: of a correlation; None in a detection rule."""
    made = Extension()
    if block is None:
        return made
    made.marks = {key: block.keys_at[key] for key in block}
    made.threat_type = _text(file, block, "threat-type")
    made.said = _text(file, block, "says")
    made.absent = _word(file, block, "absent", ABSENT, "")
    made.select = _word(file, block, "select", SELECT, "episode")
    made.asset = _text(file, block, "asset")
    if made.asset:
        made.asset_operand = _operand(file, made.asset, block.values_at["asset"], steps)
    if block.get("max-gap") is not None:
        made.max_gap_ms = duration_at(file, block, "max-gap") or 0
    made.where = _where(file, block, steps)
    made.tests = _tests(file, block)
    return made


def duration_at(file: RuleFile, part: MarkedDict, key: str) -> int | None:
    """The milliseconds of a duration under a key; a fault and None if it is none."""
    value = part[key]
    if not isinstance(value, str):
        file.error(part.values_at[key], f"{key} must be a duration such as 10s, 5m or 2h", "a number needs its unit")
        return None
    try:
        return duration_ms(value)
    except ValueError as error:
        file.error(part.values_at[key], str(error))
        return None


def _text(file: RuleFile, block: MarkedDict, key: str) -> str:
    value = block.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        file.error(block.values_at[key], f"{key} must be a text")
        return ""
    return value


def _word(file: RuleFile, block: MarkedDict, key: str, words: Sequence[str], default: str) -> str:
    value = _text(file, block, key)
    if value and value not in words:
        file.error(block.values_at[key], f"{key} cannot be {value!r}", nearest(value, words))
        return default
    return value or default


# ---- operands ----------------------------------------------------------------------------------


def _operand(file: RuleFile, text: str, mark: Mark, steps: Steps | None) -> Operand | None:
    """`rule.field`, `rule#2.field` or `rule` of a correlation; `field` or `event` of a detection."""
    if steps is None:
        return Operand(-1, "" if text == EVENT_ITSELF else text)
    best: tuple[str, int] | None = None
    candidates = [(name, step) for step, names in enumerate(steps.names) for name in names]
    for names, step in steps.absent:
        candidates += [(name, step) for name in names]
    for name, step in candidates:
        if name and (text == name or text.startswith((f"{name}.", f"{name}#"))):
            if best is None or len(name) > len(best[0]):
                best = (name, step)
    if best is None:
        file.error(mark, f"{text!r} names no rule of this correlation", f"write rule.field; rules: {steps.says()}")
        return None
    name, step = best
    rest = text[len(name) :]
    if rest.startswith("#"):
        number, dot, field_name = rest[1:].partition(".")
        uses = [index for index, names in enumerate(steps.names) if name in names]
        if not number.isdigit() or not 1 <= int(number) <= len(uses):
            file.error(mark, f"{text!r}: the sequence has {name!r} {len(uses)} times", f"such as {name}#1.field")
            return None
        step = uses[int(number) - 1]
        rest = dot + field_name
    if rest == ".":
        file.error(mark, f"{text!r}: the field after the dot is missing")
        return None
    return Operand(step, rest[1:])


# ---- where -------------------------------------------------------------------------------------


def _where(file: RuleFile, block: MarkedDict, steps: Steps | None) -> tuple[Where, ...]:
    value = block.get("where")
    if value is None:
        return ()
    if not isinstance(value, MarkedList):
        file.error(block.values_at["where"], "where must be a list of conditions", "start each with a dash")
        return ()
    found = []
    for entry, mark in zip(value, value.items_at, strict=True):
        made = _entry(file, entry, mark, steps, negated=False)
        if made is not None:
            found.append(made)
    return tuple(found)


def _entry(file: RuleFile, entry: Any, mark: Mark, steps: Steps | None, *, negated: bool) -> Where | None:
    if not isinstance(entry, MarkedDict):
        file.error(mark, "a condition must be a mapping", "such as same: [a.host, b.host]")
        return None
    if "not" in entry:
        for key in entry:
            if key != "not":
                file.error(entry.keys_at[key], f"{key!r} must stand inside of `not`")
                return None
        return _entry(file, entry["not"], entry.values_at["not"], steps, negated=not negated)
    predicates = [key for key in entry if key in WHERE_PREDICATES]
    if len(predicates) != 1:
        if predicates:
            file.error(entry.keys_at[predicates[1]], "one condition has one predicate", "start another list entry")
        else:
            key = next(iter(entry), "")
            file.error(entry.keys_at.get(key, mark), f"no predicate {key!r}", nearest(key, WHERE_PREDICATES))
        return None
    word = predicates[0]
    count, options, _ = WHERE_PREDICATES[word]
    at = entry.values_at[word]
    value = entry[word]
    written = list(zip(value, value.items_at, strict=True)) if isinstance(value, MarkedList) else [(value, at)]
    if len(written) != count or not all(isinstance(text, str) and text for text, _ in written):
        shape = f"{word}: [a.field, b.field]" if count == 2 else f"{word}: a.field"
        file.error(at, f"{word} takes {count} operand{'s' if count > 1 else ''}", f"such as {shape}")
        return None
    operands = [_operand(file, text, where, steps) for text, where in written]
    given: list[tuple[str, Any]] = []
    for key in entry:
        if key == word:
            continue
        if key not in options:
            hint = nearest(key, options) if options else f"{word} has no options"
            file.error(entry.keys_at[key], f"{word} has no option {key!r}", hint)
            return None
        read = _option(file, entry, key, options[key], word)
        if read is None:
            return None
        given.append((key, read))
    for needed in REQUIRED_OPTIONS.get(word, ()):
        if needed not in entry:
            file.error(mark, f"{word} needs {needed!r}", _OPTION_FORM[options[needed]].format(needed))
            return None
    if any(operand is None for operand in operands):
        return None
    # Sorted, so that the order of keys in the file changes nothing that is compiled or hashed.
    return Where(word, tuple(op for op in operands if op), tuple(sorted(given)), negated, file.position(mark))


_OPTION_FORM = {"number": "such as {}: 2", "duration": "such as {}: 10m", "words": "such as {}: [expired]"}


def _option(file: RuleFile, entry: MarkedDict, key: str, kind: str, word: str) -> Any:
    value, at = entry[key], entry.values_at[key]
    if kind == "number":
        if isinstance(value, str) or number_of(value) is None:
            file.error(at, f"{key} must be a number")
            return None
        return value
    if kind == "duration":
        return duration_at(file, entry, key)
    items = list(zip(value, value.items_at, strict=True)) if isinstance(value, MarkedList) else [(value, at)]
    allowed = OPTION_WORDS[word]
    for item, mark in items:
        if item not in allowed:
            file.error(mark, f"{key} cannot be {item!r}", nearest(str(item), allowed))
            return None
    return tuple(item for item, _ in items)


# ---- tests -------------------------------------------------------------------------------------


def _tests(file: RuleFile, block: MarkedDict) -> tuple[RuleTest, ...]:
    value = block.get("tests")
    if value is None:
        return ()
    if not isinstance(value, MarkedList):
        file.error(block.values_at["tests"], "tests must be a list", "start each test with a dash")
        return ()
    found = []
    for entry, mark in zip(value, value.items_at, strict=True):
        made = _test(file, entry, mark)
        if made is not None:
            found.append(made)
    return tuple(found)


def _test(file: RuleFile, entry: Any, mark: Mark) -> RuleTest | None:
    if not isinstance(entry, MarkedDict):
        file.error(mark, "a test must be a mapping", "with name, events and expect")
        return None
    file.unknown_keys(entry, TEST_KEYS, "a test")
    events, expect, name = entry.get("events"), entry.get("expect"), entry.get("name")
    fine = True
    if not isinstance(name, str) or not name.strip():
        file.error(entry.values_at.get("name", mark), "a test needs a name", "one sentence of what it shows")
        fine = False
    if type(expect) is not int or expect < 0:
        at = entry.values_at.get("expect", mark)
        file.error(at, "expect must be the number of matches", "0 means silence")
        fine = False
    if not isinstance(events, MarkedList):
        file.error(entry.values_at.get("events", mark), "a test needs a list of events", "events: [{at: 0s, ...}]")
        return None
    for spec, at in zip(events, events.items_at, strict=True):
        if not isinstance(spec, MarkedDict):
            file.error(at, "an event must be a mapping", "such as {at: 0s, kind: door.opened, door: d1}")
            fine = False
            continue
        try:
            event_of(spec, 0, 0, "check")
        except BadEvent as problem:
            file.error(spec.values_at.get(problem.key, at), problem.message, problem.hint)
            fine = False
    until_ms = _checked(file, entry, "until", offset_ms)
    start_ms = _checked(file, entry, "start", _start)
    site = entry.get("site")
    if site is not None and not isinstance(site, MarkedDict | str):
        file.error(entry.values_at["site"], "site must be a path from this file's folder, or a site's content")
        fine = False
    if not fine or until_ms is None or start_ms is None:
        return None
    return RuleTest(
        name=str(name), events=tuple(events), expect=int(expect or 0), position=file.position(mark),
        until_ms=until_ms, site=site if isinstance(site, dict) else None, start_ms=start_ms,
        site_file=site if isinstance(site, str) else "",
    )  # fmt: skip


def _checked(file: RuleFile, entry: MarkedDict, key: str, read: Callable[[Any], int]) -> int | None:
    if entry.get(key) is None:
        return 0
    try:
        return read(entry[key])
    except BadEvent as problem:
        file.error(entry.values_at[key], problem.message, problem.hint)
    except ValueError as error:
        file.error(entry.values_at[key], str(error), "such as 2026-03-02T08:00:00+01:00")
    return None


def _start(value: Any) -> int:
    return parse_iso(str(value))[0]
