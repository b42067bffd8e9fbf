"""Conditions written as text: `a and not (b or c)`, `1 of sel*`.

One grammar for detection conditions (Sigma 2.1, "condition") and for the boolean conditions of
correlations (2.2 draft): not binds tightest, then and, then or; words in any case, since the 2.2
draft writes them in upper case. Offsets count characters of the text from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from correlator.rules.syntax import All, Any_, Not

_TOKEN = re.compile(r"\s*([()]|[^\s()]+)")
MAX_NESTING = 64  # deeper conditions are a slip; the limit keeps the parser off Python's stack limit


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a condition, and where it stands."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Some:
    """`1 of pattern`, `any of pattern`, `all of pattern`; pattern "them" or a name with "*"."""

    every: bool
    pattern: str
    offset: int


Tree = Name | Some | All | Any_ | Not


class BadCondition(Exception):
    """What is wrong with a condition, where, and what would be right."""

    def __init__(self, offset: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message
        self.hint = hint


class _Parser:
    __slots__ = ("depth", "of_allowed", "place", "text", "tokens")

    def __init__(self, text: str, of_allowed: bool) -> None:
        self.text = text
        self.of_allowed = of_allowed
        self.place = 0
        self.depth = 0
        self.tokens = [(found[1], found.start(1)) for found in _TOKEN.finditer(text)]

    def word(self, ahead: int = 0) -> str:
        index = self.place + ahead
        return self.tokens[index][0].lower() if index < len(self.tokens) else ""

    def offset(self) -> int:
        return self.tokens[self.place][1] if self.place < len(self.tokens) else len(self.text)

    def either(self) -> Tree:
        parts = [self.both()]
        while self.word() == "or":
            self.place += 1
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Any_(tuple(parts))

    def both(self) -> Tree:
        parts = [self.negated()]
        while self.word() == "and":
            self.place += 1
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def negated(self) -> Tree:
        if self.word() == "not":
            self.enter()
            self.place += 1
            part = self.negated()
            self.depth -= 1
            return Not(part)
        return self.single()

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise BadCondition(self.offset(), f"the condition nests deeper than {MAX_NESTING}")

    def single(self) -> Tree:
        offset, word = self.offset(), self.word()
        if word == "(":
            self.enter()
            self.place += 1
            inside = self.either()
            if self.word() != ")":
                hint = f"opened at character {offset + 1}"
                raise BadCondition(self.offset(), "a closing parenthesis is missing", hint)
            self.place += 1
            self.depth -= 1
            return inside
        if word in ("", ")", "and", "or"):
            seen = f"not {self.tokens[self.place][0]!r}" if word else "but the condition ends"
            raise BadCondition(offset, f"a name is expected here, {seen}")
        if self.word(1) == "of":
            if not self.of_allowed:
                raise BadCondition(offset, "`1 of` and `all of` are not part of a correlation's condition",
                                   "name the rules, or use a count such as {gte: 2}")  # fmt: skip
            if word not in ("1", "any", "all"):
                raise BadCondition(offset, f"{word!r} of: only 1, any and all can stand before `of`")
            self.place += 2
            if self.word() in ("", "(", ")", "and", "or", "not"):
                raise BadCondition(self.offset(), "a pattern such as `selection*`, or `them`, is expected after `of`")
            pattern = self.tokens[self.place][0]
            self.place += 1
            return Some(word == "all", pattern, offset)
        name = self.tokens[self.place][0]
        self.place += 1
        return Name(name, offset)


def parse_condition(text: str, *, of_allowed: bool) -> Tree:
    """The tree of a condition. Raises BadCondition with the offset of what is wrong."""
    bar = text.find("|")
    if bar >= 0:
        raise BadCondition(bar, "the pipe syntax (`| count() by ...`) is no longer part of Sigma",
                           "write a correlation document: type event_count, group-by, timespan, condition")  # fmt: skip
    parser = _Parser(text, of_allowed)
    tree = parser.either()
    if parser.place < len(parser.tokens):
        seen = parser.tokens[parser.place][0]
        raise BadCondition(parser.offset(), f"`and`, `or` or the end is expected here, not {seen!r}")
    return tree
