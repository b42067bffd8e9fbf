"""A condition tree evaluated the plain way, from docs/rules.md section 2: one event, no site, no compiling.

Shares no code with the compiled predicates; for tests only.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from datetime import datetime, tzinfo
from typing import Any

from correlator.events import Event
from correlator.rules.syntax import All, Any_, FieldTest, Not, Wild

ABSENT = object()


def holds(tree: Any, event: Event, zone: tzinfo) -> bool:
    if isinstance(tree, All):
        return all([holds(part, event, zone) for part in tree.parts])
    if isinstance(tree, Any_):
        return any([holds(part, event, zone) for part in tree.parts])
    if isinstance(tree, Not):
        return not holds(tree.part, event, zone)
    if tree.test == "keyword":
        texts = [event.text] if event.text else list(texts_in(event.attributes))
        found = any(wild(("*", *parts_of(tree), "*"), text, cased=tree.cased) for text in texts)
        return found is not tree.neq
    if tree.test == "time":
        return in_time(tree, event, zone) is not tree.neq
    value = look_up(tree.field, event)
    if tree.test == "exists":
        return (value is not ABSENT) is tree.value
    elements = value if isinstance(value, list) else [value]
    found = any([satisfied(tree, one, event) for one in elements])
    return (value is not ABSENT and not found) if tree.neq else found


def look_up(field: str, event: Event) -> Any:
    if field in event.attributes:
        return event.attributes[field]
    value: Any = event.attributes
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            break
        value = value[part]
    else:
        return value
    if field == "kind":
        return event.kind
    role, _, kind = field.rpartition(".")
    for entity in event.entities:
        if entity.kind == kind and role in ("", entity.role):
            return entity.id
    return ABSENT


def text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value == value // 1 and abs(value) < 1e16 else repr(value)
    return None


def texts_in(value: Any) -> Any:
    if isinstance(value, dict):
        for one in value.values():
            yield from texts_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts_in(one)
    elif text(value) is not None:
        yield text(value)


def parts_of(test: FieldTest) -> tuple[Any, ...]:
    """A value's texts and wildcards, the latter as "*" and "?" inside of 1-tuples."""
    if not isinstance(test.value, tuple):
        return (("text", str(test.value)),)
    return tuple(part.sign if isinstance(part, Wild) else ("text", part) for part in test.value)


def wild(parts: tuple[Any, ...], value: str, *, cased: bool) -> bool:
    """fnmatch with every literal character in brackets, so that only our wildcards are wild."""
    pattern = ""
    for part in parts:
        pattern += part if isinstance(part, str) else "".join(f"[{c}]" if c in "*?[" else c for c in part[1])
    if not cased:
        pattern, value = pattern.lower(), value.lower()
    return fnmatch.fnmatchcase(value, pattern)


def number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value, re.ASCII):
        return None
    return float(value) if isinstance(value, str | int | float) else None


def in_time(test: FieldTest, event: Event, zone: tzinfo) -> bool:
    stamp = datetime.fromtimestamp(event.time_ms / 1000, zone)
    parts = {"week": stamp.isocalendar().week, "minute": stamp.minute, "hour": stamp.hour}
    parts |= {"day": stamp.day, "month": stamp.month, "year": stamp.year}
    return parts[test.flags] == test.value


def satisfied(test: FieldTest, value: Any, event: Event) -> bool:
    if test.test == "equals" and test.value is None:
        return value is None or value is ABSENT
    if test.test in ("lt", "lte", "gt", "gte"):
        mine = number(value)
        if mine is None:
            return False
        return {"lt": mine < test.value, "lte": mine <= test.value, "gt": mine > test.value}.get(
            test.test, mine >= test.value
        )
    mine_text = text(value)
    if mine_text is None:
        return False
    if test.test == "equals":
        wanted = text(test.value)
        return mine_text == wanted if test.cased else mine_text.lower() == str(wanted).lower()
    if test.test == "wildcard":
        return wild(parts_of(test), mine_text, cased=test.cased)
    if test.test == "regex":
        return re.search(test.value, mine_text) is not None
    if test.test == "cidr":
        try:
            return isinstance(value, str) and ipaddress.ip_address(value) in ipaddress.ip_network(test.value)
        except ValueError:
            return False
    assert test.test == "field"
    other = look_up(test.value, event)
    theirs = [text(one) for one in (other if isinstance(other, list) else [other])]
    mine_low = mine_text.lower()
    for one in theirs:
        if one is None:
            continue
        low = one.lower()
        if {"equals": mine_low == low, "startswith": mine_low.startswith(low), "endswith": mine_low.endswith(low)}.get(
            test.flags, low in mine_low
        ):
            return True
    return False
