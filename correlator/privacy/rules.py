"""Rule files with tokens, and what of them cannot be asked of a token.

A token is equal to another or it is not: constants on fields that hold identities become tokens (of every
key that is matched), and what asks for a part of a name is refused, unless only a name that stays clear
can have that part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sigma.types import Placeholder, SigmaString, SpecialChars

from correlator.errors import Fault
from correlator.privacy import rewriting as yaml_of
from correlator.privacy.clear import finds_clear_names
from correlator.privacy.fields import IdentityFields
from correlator.privacy.tokens import TOKEN, KeyedIdentity

_PARTS: Final = ("startswith", "endswith", "contains")
_WHOLE: Final = frozenset({"neq", "cased", "expand"})
_HINT: Final = "tokens can only be compared: name whole values"
_A: Final = {"person": "a person", "badge": "a badge", "account": "an account"}


@dataclass(frozen=True, slots=True)
class _Line:
    """One `field|modifier: value` line of a detection. kind: of the identity in its field, "" for none."""

    owner: Any
    key: Any
    value: Any
    kind: str
    modifiers: tuple[str, ...]

    def values(self) -> list[Any]:
        """The nodes of its values."""
        return yaml_of.items(self.value) or [self.value]


def check(texts: Sequence[tuple[str, str]], fields: IdentityFields) -> list[Fault]:
    """What rules ask of identities that tokens cannot answer. texts: (file as shown, its text)."""
    found = []
    for file, text in texts:
        for document in yaml_of.documents(text):
            for line in _lines(document, fields):
                if line.kind:
                    found += [
                        Fault(file, *yaml_of.mark(node), message, _HINT, severity)
                        for node, message, severity in _unanswerable(line)
                    ]
    return sorted(dict.fromkeys(found))


@dataclass(slots=True)
class TokenisedRules:
    """Rule files and overlay with tokens. known, references: of the site (correlator.privacy.site)."""

    identity: KeyedIdentity
    fields: IdentityFields
    known: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    _lists: dict[str, str] = field(default_factory=dict)  # placeholder on an identity field -> kind

    def rules(self, text: str) -> str:
        """A rule file; its tests and the sites of tests stay behind, since they may name people."""
        nodes = [one for one in yaml_of.documents(text) if yaml_of.part(one, "site") is None]
        for document in nodes:
            yaml_of.drop(yaml_of.part(document, "x-correlator"), "tests")
            for line in _lines(document, self.fields):
                self._line(line)
        return yaml_of.written(nodes)

    def overlay(self, text: str) -> str:
        """The overlay, once all rule files are through: its lists may be what they compare identities with."""
        nodes = yaml_of.documents(text)
        for document in nodes:
            for name, values in yaml_of.pairs(yaml_of.part(document, "lists")):
                kind = self._lists.get(name.value)
                if kind:
                    yaml_of.set_part(yaml_of.part(document, "lists"), name.value, self._tokens(values, kind))
            for exception in yaml_of.items(yaml_of.part(document, "exceptions")):
                for name, values in yaml_of.pairs(yaml_of.part(exception, "fields")):
                    kind = self.fields.kind_of(name.value)
                    if kind:
                        yaml_of.set_part(yaml_of.part(exception, "fields"), name.value, self._tokens(values, kind))
                asset = yaml_of.part(exception, "asset")
                named = self.references.get(yaml_of.text_in(asset) or "")
                if named:
                    yaml_of.put(asset, named)
        return yaml_of.written(nodes)

    def _line(self, line: _Line) -> None:
        if not line.kind:
            if not line.key.value.partition("|")[0]:
                self._keywords(line.value)
            return
        if "expand" in line.modifiers:
            for node in line.values():
                for part in _parsed(node):
                    if isinstance(part, Placeholder):
                        self._lists[part.name] = line.kind
        elif set(line.modifiers) <= _WHOLE:
            yaml_of.set_part(line.owner, line.key.value, self._tokens(line.value, line.kind))

    def _keywords(self, node: Any) -> None:
        """Words searched in texts: one that is an identity of the site stands there as its token."""
        made: list[Any] = []
        for one in yaml_of.items(node) or [node]:
            text = yaml_of.text_in(one) or ""
            kind = self.known.get(text.lower())
            made += [yaml_of.scalar(token) for token in self.identity.tokens(kind, text)] if kind else [one]
        if yaml_of.items(node):
            node.value = made
        elif made[0] is not node:
            yaml_of.put(node, made[0].value)  # what is said from now on has the newest

    def _tokens(self, node: Any, kind: str) -> Any:
        """The node with tokens for whole values; a single value is a list where several keys are matched."""
        made: list[Any] = []
        for one in yaml_of.items(node) or [node]:
            value = _whole(one)
            if value is None or TOKEN.fullmatch(value) or self.identity.is_clear(kind, value):
                made.append(one)
                continue
            tokens = self.identity.tokens(kind, value)
            if value.lower() in self.known:
                tokens = tokens[-1:]  # the engine sees identities of the site by their oldest token
            made += [yaml_of.scalar(token) for token in tokens]
        return made[0] if len(made) == 1 and not yaml_of.items(node) else yaml_of.sequence(made)


# ---- reading -----------------------------------------------------------------------------------------


def _lines(document: Any, fields: IdentityFields) -> Iterator[_Line]:
    logsource = yaml_of.part(document, "logsource")
    product, service = (yaml_of.text_in(yaml_of.part(logsource, one)) or "" for one in ("product", "service"))
    for section in ("detection", "filter"):
        for name, selection in yaml_of.pairs(yaml_of.part(document, section)):
            if name.value not in ("condition", "timeframe", "rules"):
                yield from _selection(name, selection, fields, product, service)


def _selection(name: Any, node: Any, fields: IdentityFields, product: str, service: str) -> Iterator[_Line]:
    inner = yaml_of.items(node)
    if not inner and yaml_of.text_in(node) is not None:
        yield _Line(node, yaml_of.scalar(""), node, "", ())
    if inner and not any(yaml_of.pairs(one) or yaml_of.items(one) for one in inner):
        yield _Line(node, yaml_of.scalar(""), node, "", ())
    for one in inner:
        yield from _selection(name, one, fields, product, service)
    for key, value in yaml_of.pairs(node):
        named, *modifiers = key.value.split("|")
        yield _Line(node, key, value, fields.kind_of(named, product, service) if named else "", tuple(modifiers))


def _parsed(node: Any) -> tuple[Any, ...]:
    """A value's parts as Sigma reads them: texts, wildcards, and placeholders where it has any."""
    text = yaml_of.text_in(node)
    return () if text is None else tuple(SigmaString(text).insert_placeholders().s)


def _whole(node: Any) -> str | None:
    """The value of a node that a field can be equal to; None for null, truth values and patterns."""
    text = yaml_of.text_in(node)
    if text is None:
        return None
    parts = SigmaString(text).s
    return "".join(str(one) for one in parts) if all(isinstance(one, str) for one in parts) else None


def _unanswerable(line: _Line) -> Iterator[tuple[Any, str, str]]:
    """(where, message, severity) of what a token cannot answer."""
    what = f"{line.key.value.partition('|')[0]!r} holds a token, since it is {_A[line.kind]}"
    asked = [one for one in line.modifiers if one not in _WHOLE]
    if "all" in asked and len(asked) == 1:
        yield line.key, f"{what}: it is not all of several values", "error"
    elif asked in (["exists"], ["fieldref"], ["cidr"]):
        pass
    else:
        how = [one for one in asked if one != "all"]
        for node in line.values():
            for part in _partial(node) if not how else [("|".join(how), yaml_of.text_in(node) or "")]:
                found = finds_clear_names(*part) if part[0] in _PARTS else ""
                where = line.key if how else node
                if not found:
                    yield where, f"{what}: {part[0]} cannot be asked of it", "error"
                elif found != "only":
                    yield node, f"{what}: {part[0]} finds names that stay clear, such as {found!r}", "warning"


def _partial(node: Any) -> list[tuple[str, str]]:
    """(startswith, endswith, contains or another word, text) that a value with wildcards means; [] for a whole one."""
    text = yaml_of.text_in(node)
    parts = list(SigmaString(text).s) if text is not None else []
    texts = [one for one in parts if isinstance(one, str)]
    if len(texts) == len(parts) or not texts:
        return []
    first = parts[0]
    if len(texts) > 1 or any(one is SpecialChars.WILDCARD_SINGLE for one in parts):
        return [("a pattern", "".join(texts))]
    if len(parts) == 3:
        return [("contains", texts[0])]
    return [("startswith" if isinstance(first, str) else "endswith", texts[0])]
