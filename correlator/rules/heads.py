"""What detections, correlations and filters have in common: id, name, title, level and the rest.

Source: Sigma specification 2.1.0, "Rules" and "Correlations"; `level` is optional there, and a rule
without one is "medium" here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from correlator.events.event import LEVELS
from correlator.marked import Mark, MarkedDict, MarkedList
from correlator.rules.documents import RuleFile, nearest, text_list

DEFAULT_LEVEL = "medium"
STATUSES = ("stable", "test", "experimental", "deprecated", "unsupported")
TITLE_MAX = 256

# Keys that Sigma knows at a document's root. Others are allowed there and ignored; one that is nearly
# a known one is a slip worth a warning.
HEAD_KEYS = (
    "title", "id", "name", "related", "taxonomy", "status", "description", "license", "author", "references",
    "date", "modified", "tags", "scope", "level", "falsepositives", "fields", "x-correlator",
)  # fmt: skip
DETECTION_KEYS = (*HEAD_KEYS, "logsource", "detection", "generate")
CORRELATION_KEYS = (*HEAD_KEYS, "correlation", "generate")
FILTER_KEYS = (*HEAD_KEYS, "logsource", "filter")

_TAG = re.compile(r"[a-z0-9_-]+\.[a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Head:
    """The common part as read; `key` is the id, else the name, else the title."""

    key: str
    id: str
    name: str
    title: str
    level: str
    tags: tuple[str, ...]
    description: str
    falsepositives: tuple[str, ...]
    status: str
    mark: Mark


def same_id(text: str) -> str:
    """The form in which ids are compared: a UUID in lower case with hyphens, anything else as written."""
    try:
        return str(UUID(text))
    except ValueError:
        return text


def read_head(file: RuleFile, document: MarkedDict, known: tuple[str, ...]) -> Head:
    """The common part of a rule document; what is wrong with it goes to the file's faults."""
    for key in document:
        if key not in known:
            hint = nearest(key, known)
            if hint.startswith("did you mean"):
                file.warning(document.keys_at[key], f"{key!r} is not a Sigma key and is ignored", hint)
    title = _text(file, document, "title")
    if "title" not in document:
        file.error(document.mark, "the rule has no title", "add `title:`, at most 256 characters")
    elif len(title) > TITLE_MAX:
        file.error(document.values_at["title"], f"the title has {len(title)} characters; {TITLE_MAX} are allowed")
    rule_id = _text(file, document, "id")
    if rule_id:
        rule_id = same_id(rule_id)
        try:
            UUID(rule_id)
        except ValueError:
            file.warning(document.values_at["id"], f"the id {rule_id!r} is not a UUID", "other Sigma readers refuse it")
    name = _text(file, document, "name")
    if not name and "name" in document and document["name"] is not None:
        file.error(document.values_at["name"], "the name must not be empty")
    return Head(
        key=rule_id or name or title,
        id=rule_id,
        name=name,
        title=title,
        level=_word(file, document, "level", LEVELS, DEFAULT_LEVEL),
        tags=_tags(file, document),
        description=_text(file, document, "description"),
        falsepositives=tuple(text for text, _ in _list(file, document, "falsepositives")),
        status=_word(file, document, "status", STATUSES, ""),
        mark=document.mark,
    )


def _text(file: RuleFile, document: MarkedDict, key: str) -> str:
    value: Any = document.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, MarkedDict | MarkedList):
        file.error(document.values_at[key], f"{key} must be a text")
        return ""
    # YAML reads `id: 1234` as a number and `title: true` as a truth value; the words are meant.
    return str(value).lower() if isinstance(value, bool) else str(value)


def _word(file: RuleFile, document: MarkedDict, key: str, words: tuple[str, ...], default: str) -> str:
    value = _text(file, document, key)
    if not value:
        return default
    if value.lower() in words:
        return value.lower()
    file.error(document.values_at[key], f"{value!r} is not a Sigma {key}", nearest(value, words))
    return default


def _list(file: RuleFile, document: MarkedDict, key: str) -> list[tuple[str, Mark]]:
    value = document.get(key)
    if value is not None and not isinstance(value, MarkedList):
        file.error(document.values_at[key], f"{key} must be a list", f"write {key}: [...]")
        return []
    return text_list(file, document, key, key)


def _tags(file: RuleFile, document: MarkedDict) -> tuple[str, ...]:
    tags = []
    for tag, mark in _list(file, document, "tags"):
        if not _TAG.fullmatch(tag):
            file.warning(mark, f"{tag!r} is not a tag of the form namespace.name", "such as attack.t1078")
        tags.append(tag)
    return tuple(tags)
