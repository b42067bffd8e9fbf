"""Which MQTT topic is which source: topic filters as of MQTT 3.1.1, section 4.7.

"+" is one whole level, also an empty one ("a/+" fits "a/" but not "a"). "#" is the rest, its parent
included, and stands only as the last level ("a/#" fits "a" and "a/b/c"). A filter that begins with a
wildcard fits no topic that begins with "$".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_REMEMBERED = 65_536  # topics whose route is kept; a flood of new ones starts the memory afresh
_LONGEST_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Route:
    """Messages of the topics that `filter` fits are of `dialect` and belong to `source`.

    settings: the dialect's own (for access and mapped: a MapSpec).
    """

    filter: str
    dialect: str
    source: str
    settings: Any = None


def filter_problem(filter: str) -> str:
    """What is wrong with a topic filter, "" if nothing is (section 4.7.1)."""
    if not filter:
        return "a topic filter is not empty"
    if "\0" in filter:
        return "a topic filter holds no NUL"
    levels = filter.split("/")
    for at, level in enumerate(levels):
        if "#" in level and (level != "#" or at != len(levels) - 1):
            return "# stands alone, as the last level"
        if "+" in level and level != "+":
            return "+ stands alone in its level"
    return ""


def topic_matches(filter: str, topic: str) -> bool:
    """Whether a topic filter fits a topic; a faulty filter fits nothing."""
    if filter_problem(filter) or not topic or "+" in topic or "#" in topic:
        return False
    return _fits(filter.split("/"), topic.split("/"))


def _fits(filter: list[str], topic: list[str]) -> bool:
    if topic[0][:1] == "$" and filter[0] in ("+", "#"):
        return False
    for at, level in enumerate(filter):
        if level == "#":
            return True
        if at >= len(topic):
            return False
        if level not in ("+", topic[at]):
            return False
    return len(filter) == len(topic)


def route(topic: str, routes: Sequence[Route]) -> Route | None:
    """The first route whose filter fits, None if none does (such a message is a reject: unmapped)."""
    for one in routes:
        if topic_matches(one.filter, topic):
            return one
    return None


class Router:
    """`route` for a stream of messages: splits the filters once and remembers the topics it saw."""

    __slots__ = ("_filters", "_known")

    def __init__(self, routes: Sequence[Route]) -> None:
        self._filters = [(one.filter.split("/"), one) for one in routes if not filter_problem(one.filter)]
        self._known: dict[str, Route | None] = {}

    def route(self, topic: str) -> Route | None:
        """The first route whose filter fits, None if none does."""
        try:
            return self._known[topic]
        except KeyError:
            pass
        found = None
        if topic and "+" not in topic and "#" not in topic:
            levels = topic.split("/")
            found = next((one for filter, one in self._filters if _fits(filter, levels)), None)
        if len(topic) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[topic] = found
        return found
