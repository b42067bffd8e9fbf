"""Identities in place: tokens in the declared fields of a message and wherever else their values stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from correlator.events.identity import Identity
from correlator.sources.logparts import account_name

Path = tuple[str, ...]


class IdentityPaths:
    """`identity_fields` of a declaration, ready to be looked up; flat: a dotted name is one key.

    first  the keys at the top of a message that lead to such a field
    """

    __slots__ = ("first", "tree")

    def __init__(self, fields: dict[str, str], *, flat: bool = False) -> None:
        # key -> what lies below it, or (path, kind) where a field ends: a branch that a message does not
        # have costs one look, however many fields are declared below it.
        self.tree: dict[str, Any] = {}
        for name, kind in fields.items():
            path = (name,) if flat else tuple(name.split("."))
            at = self.tree
            for part in path[:-1]:
                at = at.setdefault(part, {})
            at[path[-1]] = (path, kind)
        self.first = frozenset(self.tree)


def hide(identity: Identity, data: dict[str, Any], fields: IdentityPaths) -> bool:
    """`Hidden.hide` for a message in which nothing else needs to be hidden; whether anything was replaced."""
    if data.keys().isdisjoint(fields.first) or not _names_somebody(identity.token, fields.tree, data):
        return False
    Hidden(identity).hide(data, fields)
    return True


def _names_somebody(token: Callable[[str, str], str], tree: dict[str, Any], data: dict[str, Any]) -> bool:
    """Whether a declared field holds what its token would replace."""
    for key, below in tree.items():
        if key in data:
            value = data[key]
            if type(below) is tuple:
                if type(value) is str:
                    if value and token(below[1], value) is not value:
                        return True
                elif type(value) is list:
                    return True
            elif type(value) is dict and _names_somebody(token, below, value):
                return True
    return False


def _collect(tree: dict[str, Any], data: dict[str, Any], found: list[tuple[Path, str, Any]]) -> None:
    """Adds (path, kind, value) of the fields that a message holds, in the order of the declaration."""
    for key, below in tree.items():
        if key in data:
            value = data[key]
            if type(below) is tuple:
                found.append((below[0], below[1], value))
            elif type(value) is dict:
                _collect(below, value, found)


class Hidden:
    """The identifying values of one message and what stands for them in its event.

    `hide` replaces the declared fields of a decoded message in place by their tokens, and every other
    place of the message that repeats one of the values (a path, a command line, a message text). With
    an identity whose tokens are the values themselves it changes nothing and costs a look at each field.
    """

    __slots__ = ("_identity", "_pattern", "_tokens")

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._tokens: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, kind: str, value: str) -> str:
        """The token of a value; the value and its canonical form are hidden in texts from now on."""
        token = self._identity.token(kind, value)
        if token != value.strip():
            self._tokens[value.strip().lower()] = token
            if kind == "account":
                name = account_name(value)
                if name:
                    self._tokens.setdefault(name, self._identity.token(kind, name))
            self._pattern = None
        return token

    def text(self, text: str) -> str:
        """A text with every known value replaced, whole words only, in any case."""
        if not self._tokens:
            return text
        if self._pattern is None:
            words = sorted((w for w in self._tokens if sum(map(str.isalnum, w)) > 1), key=len, reverse=True)
            if not words:
                return text
            either = "|".join(map(re.escape, words))
            self._pattern = re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])", re.IGNORECASE)
        tokens = self._tokens
        return self._pattern.sub(lambda found: tokens.get(found[0].lower(), "***"), text)

    def _everywhere(self, value: Any) -> Any:
        if type(value) is str:
            return self.text(value)
        if type(value) is dict:
            return {key: self._everywhere(item) for key, item in value.items()}
        if type(value) is list:
            return [self._everywhere(item) for item in value]
        return value

    def hide(self, data: dict[str, Any], fields: IdentityPaths) -> None:
        """Replaces in `data`: first wherever a value is repeated, then the declared fields themselves."""
        declared: list[tuple[Path, str, Any]] = []
        _collect(fields.tree, data, declared)
        found: list[tuple[Path, Any]] = []
        make = self._identity.token
        for path, kind, value in declared:
            if type(value) is str and value:
                token: Any = make(kind, value)
                if token is value:
                    continue
                token = self.add(kind, value)
            elif type(value) is list:
                token = [self.add(kind, one) if type(one) is str and one else one for one in value]
            else:
                continue
            if token != value:
                found.append((path, token))
        if self._tokens:
            for key, value in data.items():
                data[key] = self._everywhere(value)
        for path, token in found:
            at = data
            for part in path[:-1]:
                at = at[part]
            at[path[-1]] = token
