"""A detection document, turned into a tree of field tests.

Values and modifiers are read by pySigma (SigmaDetectionItem), so that `base64offset`, `windash` and
the others mean here what they mean everywhere; structure, condition and positions are ours, because
pySigma gives none. Regular expressions are checked with RE2 at load time.
"""

from __future__ import annotations

import re as backtracking_re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from sigma.exceptions import SigmaError
from sigma.modifiers import modifier_mapping
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine
from sigma.rule.detection import SigmaDetectionItem
from sigma.types import (
    CompareOperators,
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
)

from correlator.events.kinds import KINDS
from correlator.marked import Mark, MarkedDict, MarkedList
from correlator.rules.booleans import BadCondition, Name, Some, Tree, parse_condition
from correlator.rules.documents import RuleFile, nearest
from correlator.rules.predicates import regex_problem
from correlator.rules.syntax import All, Any_, FieldTest, Not, Wild

Condition = FieldTest | All | Any_ | Not

MAX_TESTS = 20_000  # field tests of one rule; more comes only from aliases that multiply
MAX_EXPANSIONS = 10_000  # values that placeholders of one value may become
TIME_PARTS = ("minute", "hour", "day", "week", "month", "year")
_COMPARE = {
    CompareOperators.LT: "lt",
    CompareOperators.LTE: "lte",
    CompareOperators.GT: "gt",
    CompareOperators.GTE: "gte",
}
_REGEX_FLAGS = {"IGNORECASE": "i", "MULTILINE": "m", "DOTALL": "s"}
_AROUND = {"startswith": "^", "endswith": "$", "contains": ""}


class _NoCheck(RegexEngine):
    """Lets pySigma take any pattern: ours is checked once, with its flags, by `refused`."""

    def compile(self, pattern: str, flags: int = 0) -> Any:
        return pattern

    @property
    def error(self) -> type[Exception]:
        return ValueError


_POLICY = SigmaPolicy(regex_engine=_NoCheck())


def all_of(parts: Sequence[Any]) -> Any:
    """All of the parts; a single part is itself."""
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def any_of(parts: Sequence[Any]) -> Any:
    """Any of the parts; a single part is itself."""
    return parts[0] if len(parts) == 1 else Any_(tuple(parts))


# ---- regular expressions -----------------------------------------------------------------------


_REWRITES: tuple[tuple[str, str], ...] = (
    (r"\(\?[=!]", "RE2 has no look-ahead: write a second selection, under `not` in the condition for (?!"),
    (r"\(\?<[=!]", "RE2 has no look-behind: put what stands before into the pattern, or write a second test"),
    (r"\\[1-9]|\(\?P=", "RE2 has no back-references: list the alternatives, or compare two fields with `fieldref`"),
    (r"\(\?>|[*+?}]\+", "RE2 needs no atomic groups or possessive quantifiers: write the plain form"),
    (r"\(\?\(", "RE2 has no conditionals: write two patterns in a list"),
    (r"\{\d*,?\d{4,}", "RE2 repeats at most 1000 times: write a smaller bound, or use *"),
    (r"\\u[0-9a-fA-F]{4}", r"write the character itself, or \x{201c}"),
    (r"\\Z", r"the end of the text is \z in RE2"),
    (r"\\", "check the escapes: in a YAML text in double quotes a backslash is written twice"),
)


def refused(test: FieldTest) -> tuple[str, str] | None:
    """Why a pattern cannot run, and how to write it otherwise; None if it can."""
    problem = regex_problem(test)
    if problem is None:
        return None
    if "b" in test.flags:
        return f"the regular expression is not valid: {problem}", ""
    hint = next((hint for sign, hint in _REWRITES if backtracking_re.search(sign, str(test.value))), "")
    return f"RE2 refuses the regular expression: {problem}", hint


# ---- values ------------------------------------------------------------------------------------


class DetectionReader:
    """Reads the detections of one file. lists: what `|expand` placeholders stand for."""

    __slots__ = ("_count", "backtracking", "file", "lists")

    def __init__(self, file: RuleFile, lists: Mapping[str, tuple[str, ...]], *, backtracking: bool = False) -> None:
        self.file = file
        self.lists = lists
        self.backtracking = backtracking
        self._count = 0

    def read(self, section: Any, mark: Mark, *, keys: tuple[str, ...] = ("condition",)) -> Condition | None:
        """The tree of a `detection` (or `filter`) section, None if it has faults.

        keys: what in the section is no selection.
        """
        file = self.file
        before = len([fault for fault in file.faults if fault.severity == "error"])
        if not isinstance(section, MarkedDict):
            file.error(mark, "the detection must be a mapping of selections and a condition")
            return None
        selections: dict[str, Condition | None] = {}
        self._count = 0
        for name in section:
            if name == "timeframe" and "timeframe" not in keys:
                file.warning(section.keys_at[name], "timeframe is no longer part of Sigma and is ignored",
                             "write a correlation document with a timespan")  # fmt: skip
            elif name not in keys:
                selections[name] = self._selection(section[name], section.values_at[name])
        if not selections:
            file.error(section.mark, "the detection has no selection", "add one, such as selection: {field: value}")
        conditions = self._conditions(section, selections)
        if len([fault for fault in file.faults if fault.severity == "error"]) > before:
            return None
        return any_of(conditions)  # type: ignore[no-any-return]

    # -- condition

    def _conditions(self, section: MarkedDict, selections: dict[str, Condition | None]) -> list[Condition]:
        """One tree per condition; several conditions are alternatives."""
        file = self.file
        value = section.get("condition")
        if value is None or value == []:
            file.error(section.mark, "the detection has no condition", "add one, such as `condition: selection`")
            return []
        if isinstance(value, MarkedList):
            written = list(zip(value, value.items_at, strict=True))
        else:
            written = [(value, section.values_at["condition"])]
        trees: list[Condition] = []
        used: set[str] = set()
        for text, mark in written:
            if not isinstance(text, str):
                file.error(mark, "a condition must be a text")
                continue
            try:
                tree = self._resolve(parse_condition(text, of_allowed=True), selections, used)
            except BadCondition as problem:
                file.error(file.inside(mark, text, problem.offset), problem.message, problem.hint)
                continue
            if tree is not None:
                trees.append(tree)
        if len(trees) == len(written):
            for name in selections:
                if name not in used:
                    file.warning(section.keys_at[name], f"the condition never uses {name!r}")
        return trees

    def _resolve(self, tree: Tree, selections: dict[str, Condition | None], used: set[str]) -> Condition | None:
        """The tree with selections in the place of names; None if one of them is faulty."""
        if isinstance(tree, Name):
            if tree.text not in selections:
                raise BadCondition(
                    tree.offset, f"the detection has no selection {tree.text!r}", nearest(tree.text, selections)
                )
            used.add(tree.text)
            return selections[tree.text]
        if isinstance(tree, Some):
            names = _chosen(tree.pattern, selections)
            if not names:
                raise BadCondition(
                    tree.offset, f"no selection fits {tree.pattern!r}", f"there are: {', '.join(selections)}"
                )
            used.update(names)
            parts = [selections[name] for name in names]
            return None if None in parts else (all_of(parts) if tree.every else any_of(parts))
        if isinstance(tree, Not):
            part = self._resolve(tree.part, selections, used)
            return None if part is None else Not(part)
        resolved = [self._resolve(part, selections, used) for part in tree.parts]
        return None if None in resolved else replace(tree, parts=tuple(resolved))

    # -- selections

    def _selection(self, definition: Any, mark: Mark) -> Condition | None:
        file = self.file
        if isinstance(definition, MarkedDict):
            if not definition:
                file.error(mark, "the selection is empty")
                return None
            parts = [self._item(key, definition[key], definition.keys_at[key], definition.values_at[key])
                     for key in definition]  # fmt: skip
            return None if None in parts else all_of(parts)
        if not isinstance(definition, MarkedList):
            return self._item("", definition, mark, mark)
        if not definition:
            file.error(mark, "the selection is empty")
            return None
        if not any(isinstance(item, MarkedDict | MarkedList) for item in definition):
            return self._item("", definition, mark, mark)
        inner = [self._selection(item, at) for item, at in zip(definition, definition.items_at, strict=True)]
        return None if None in inner else any_of(inner)

    def _item(self, key: str, value: Any, key_mark: Mark, value_mark: Mark) -> Condition | None:
        """The tree of one `field|modifier: value` line."""
        file = self.file
        field, *modifiers = key.split("|")
        modifiers = ["wide" if name == "utf16le" else name for name in modifiers]
        offset = len(field) + 1
        for name in modifiers:
            if name not in modifier_mapping:
                at = file.inside(key_mark, key, offset)
                file.error(at, f"unknown modifier {name!r}", nearest(name, modifier_mapping))
                return None
            offset += len(name) + 1
        if isinstance(value, MarkedList):
            values = list(zip(value, value.items_at, strict=True))
        else:
            values = [(value, value_mark)]
        self._count += max(1, len(values))
        if self._count > MAX_TESTS:
            file.error(key_mark, f"the detection has more than {MAX_TESTS} values", "use a list in the overlay file")
            return None
        around = ""
        if "re" in modifiers:
            # Anchoring is done on our side: pySigma writes it into the pattern, and for unanchored
            # engines `re|startswith` would then match anywhere.
            around = "".join(_AROUND[name] for name in modifiers if name in _AROUND)
            modifiers = [name for name in modifiers if name not in _AROUND]
        if not values:
            if not field:
                file.error(value_mark, "a keyword list must not be empty")
                return None
            file.warning(value_mark, "an empty list means null in Sigma", "write null, or the values")
            values = [(None, value_mark)]
            modifiers = [name for name in modifiers if name == "neq"]
        parts: list[Condition] = []
        item: SigmaDetectionItem | None = None
        faulty = False
        for one, mark in values:
            if isinstance(one, MarkedDict | MarkedList):
                file.error(mark, "a value must be a text, a number, true, false or null")
                faulty = True
                continue
            try:
                if "re" in modifiers and not isinstance(one, str):
                    if one is None or isinstance(one, bool):
                        raise _Refused(f"re takes a text, this is {one!r}", "put it in quotes")
                    one = str(one)
                item = SigmaDetectionItem.from_mapping("|".join([field, *modifiers]), one, policy=_POLICY)
                part = all_of([self._value(field, made, around, mark) for made in item.value])
            except _Refused as problem:
                file.error(mark, str(problem), problem.hint)
                faulty = True
            except SigmaError as problem:
                file.error(mark, *_explained(problem, modifiers, one))
                faulty = True
            else:
                parts.append(part)
                if field == "kind":
                    self._check_kind(part, mark)
        if faulty or item is None:
            return None
        made = all_of(parts) if "all" in modifiers else any_of(parts)
        return _differs(made) if item.negated else made  # type: ignore[no-any-return]

    def _check_kind(self, part: Any, mark: Mark) -> None:
        if isinstance(part, FieldTest) and part.test == "equals" and isinstance(part.value, str):
            if "." in part.value and part.value.lower() not in KINDS:
                self.file.warning(mark, f"no event has the kind {part.value!r}", nearest(part.value.lower(), KINDS))

    def _value(self, field: str, value: SigmaType, around: str, mark: Mark) -> Condition:
        """The tree of one value with its modifiers applied."""
        if isinstance(value, SigmaExpansion):
            return any_of([self._value(field, one, around, mark) for one in value.values])  # type: ignore[no-any-return]
        if isinstance(value, SigmaString):
            cased = isinstance(value, SigmaCasedString)
            texts = [_text_test(field, parts, cased) for parts in self._expanded(value.s)]
            return any_of(texts)  # type: ignore[no-any-return]
        if isinstance(value, SigmaRegularExpression):
            return self._regex(field, value, around)
        if not field:
            if isinstance(value, SigmaBool | SigmaNumber) and not isinstance(value, SigmaTimestampPart):
                plain = value.boolean if isinstance(value, SigmaBool) else value.number
                return FieldTest("", "keyword", str(plain).lower())
            raise _Refused("a keyword must be a text or a number", "name a field in front of the modifier")
        if isinstance(value, SigmaTimestampPart):
            return FieldTest(field, "time", int(value.number), value.timestamp_part.name.lower())
        if isinstance(value, SigmaNumber):
            return FieldTest(field, "equals", value.number)
        if isinstance(value, SigmaBool):
            return FieldTest(field, "equals", value.boolean)
        if isinstance(value, SigmaNull):
            return FieldTest(field, "equals", None)
        if isinstance(value, SigmaCIDRExpression):
            return FieldTest(field, "cidr", str(value.network))
        if isinstance(value, SigmaCompareExpression):
            return FieldTest(field, _COMPARE[value.op], value.number.number)
        if isinstance(value, SigmaExists):
            return FieldTest(field, "exists", value.exists)
        if isinstance(value, SigmaFieldReference):
            how = {(False, False): "equals", (True, False): "startswith", (False, True): "endswith"}
            return FieldTest(field, "field", value.field, how.get((value.starts_with, value.ends_with), "contains"))
        raise _Refused(f"values of the kind {type(value).__name__} are not supported")

    def _regex(self, field: str, value: SigmaRegularExpression, around: str) -> Condition:
        flags = "".join(sorted(_REGEX_FLAGS[flag.name] for flag in value.flags)) + around
        tests = []
        for parts in self._expanded(value.regexp.s):
            pattern = "".join(_sign(part) if isinstance(part, Wild) else part for part in parts)
            test = FieldTest(field, "regex", pattern, flags)
            problem = refused(test)
            if problem and self.backtracking:
                test = replace(test, flags=flags + "b")
                problem = refused(test)
            if problem:
                raise _Refused(*problem)
            tests.append(test)
        return any_of(tests)  # type: ignore[no-any-return]

    def _expanded(self, parts: Sequence[Any]) -> list[tuple[str | Wild, ...]]:
        """A Sigma string's parts with each placeholder replaced by every value of its list."""
        choices: list[list[tuple[str | Wild, ...]]] = []
        count = 1
        for part in parts:
            if isinstance(part, Placeholder):
                if part.name not in self.lists:
                    hint = f"add `lists: {{{part.name}: [...]}}` to the overlay file"
                    if self.lists:
                        hint += f"; there are: {', '.join(sorted(self.lists))}"
                    raise _Refused(f"nothing gives the placeholder %{part.name}% its values", hint)
                choices.append([tuple(_plain(SigmaString(text).s)) for text in self.lists[part.name]])
            else:
                choices.append([tuple(_plain([part]))])
            count *= len(choices[-1])
            if count > MAX_EXPANSIONS:
                raise _Refused(f"the placeholders give more than {MAX_EXPANSIONS} values", "use shorter lists")
        return [_joined(chosen) for chosen in product(*choices)]


class _Refused(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _explained(problem: SigmaError, modifiers: Sequence[str], value: Any) -> tuple[str, str]:
    """pySigma's message and, for the frequent slips, what would be right."""
    message = str(problem)
    if "exists" in modifiers and not isinstance(value, bool):
        return "exists takes true or false", "write true or false"
    for name in (*TIME_PARTS, "lt", "lte", "gt", "gte"):
        if name in modifiers and isinstance(value, str):
            return f"{name} takes a number, this is a text", "write the number without quotes"
    for name in ("contains", "startswith", "endswith"):
        if name in modifiers and not isinstance(value, str):
            return f"{name} takes a text, this is {value!r}", "put it in quotes"
    return message, ""


def _sign(wild: Wild) -> str:
    return wild.sign


def _plain(parts: Sequence[Any]) -> list[str | Wild]:
    signs = {SpecialChars.WILDCARD_MULTI: Wild("*"), SpecialChars.WILDCARD_SINGLE: Wild("?")}
    return [part if isinstance(part, str) else signs[part] for part in parts]


def _joined(chosen: Sequence[tuple[str | Wild, ...]]) -> tuple[str | Wild, ...]:
    """The parts of all choices in one row, neighbouring texts joined."""
    made: list[str | Wild] = []
    for parts in chosen:
        for part in parts:
            if made and isinstance(part, str) and isinstance(made[-1], str):
                made[-1] += part
            else:
                made.append(part)
    return tuple(made)


def _text_test(field: str, parts: tuple[str | Wild, ...], cased: bool) -> FieldTest:
    if any(isinstance(part, Wild) for part in parts):
        return FieldTest(field, "wildcard" if field else "keyword", parts, cased=cased)
    text = "".join(part for part in parts if isinstance(part, str))
    return FieldTest(field, "equals" if field else "keyword", text, cased=cased)


def _differs(tree: Any) -> Any:
    """The `neq` of a tree: pushed down to the fields, so that each must be present and differ."""
    if isinstance(tree, All):
        return Any_(tuple(_differs(part) for part in tree.parts))
    if isinstance(tree, Any_):
        return All(tuple(_differs(part) for part in tree.parts))
    if tree.test == "exists":
        return replace(tree, value=not tree.value)
    return replace(tree, neq=True)


def _chosen(pattern: str, selections: Mapping[str, Any]) -> list[str]:
    """The selections that a pattern of `1 of` means; names with a leading "_" only where it asks for them."""
    if pattern.lower() == "them":
        return [name for name in selections if not name.startswith("_")]
    wanted = backtracking_re.compile(".*".join(backtracking_re.escape(part) for part in pattern.split("*")))
    return [
        name for name in selections if wanted.fullmatch(name) and (pattern.startswith("_") or not name.startswith("_"))
    ]
