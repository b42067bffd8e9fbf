"""YAML texts whose values are replaced: parsed to nodes, changed in place, written again without comments.

Everything that is not replaced keeps its text, its quotes and its order, so the readers of rules and
sites read the same from what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml

_TEXT: Final = "tag:yaml.org,2002:str"
_NO_TEXT: Final = frozenset({"tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"})
_WIDTH: Final = 1 << 30
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def documents(text: str) -> list[Any]:
    """The documents of a text as nodes; [] for what is no YAML (its reader tells why)."""
    try:
        return [one for one in yaml.compose_all(text, Loader=_Loader) if one is not None]
    except yaml.YAMLError:
        return []


def written(nodes: Sequence[Any]) -> str:
    """The text of documents; deterministic."""
    made: str = yaml.serialize_all(
        nodes, Dumper=_Dumper, explicit_start=True, allow_unicode=True, width=_WIDTH, encoding=None
    )
    return made


def part(node: Any, key: str) -> Any:
    """The value of a key of a mapping, None where there is none."""
    return next((value for name, value in pairs(node) if name.value == key), None)


def pairs(node: Any) -> list[tuple[Any, Any]]:
    """(key, value) of a mapping whose keys are scalars, [] for every other node."""
    if not isinstance(node, yaml.MappingNode):
        return []
    return [(key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]


def items(node: Any) -> list[Any]:
    """The items of a sequence, [] for every other node."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def scalars(node: Any) -> Iterator[Any]:
    """Every value below a node, keys not among them."""
    if isinstance(node, yaml.ScalarNode):
        yield node
    for _, value in pairs(node):
        yield from scalars(value)
    for one in items(node):
        yield from scalars(one)


def text_in(node: Any) -> str | None:
    """The text or number of a scalar as it is written; None for null, true and false and what is no scalar."""
    if not isinstance(node, yaml.ScalarNode) or node.tag in _NO_TEXT:
        return None
    return str(node.value)


def put(node: Any, text: str) -> None:
    """Makes a scalar this text."""
    node.tag, node.value, node.style = _TEXT, text, '"'


def scalar(text: str) -> Any:
    """A new scalar."""
    return yaml.ScalarNode(_TEXT, text, style='"')


def sequence(nodes: Sequence[Any]) -> Any:
    """A new sequence."""
    return yaml.SequenceNode("tag:yaml.org,2002:seq", list(nodes), flow_style=True)


def mapping(of: dict[str, str]) -> Any:
    """A new mapping of texts."""
    return yaml.MappingNode("tag:yaml.org,2002:map", [(scalar(key), scalar(one)) for key, one in of.items()])


def add(node: Any, key: str, value: Any) -> None:
    """Adds a key to a mapping."""
    node.value.append((scalar(key), value))


def set_part(node: Any, key: str, value: Any) -> None:
    """Puts another value under a key that a mapping has."""
    node.value = [(name, value if getattr(name, "value", None) == key else old) for name, old in node.value]


def drop(node: Any, key: str) -> None:
    """Takes a key out of a mapping."""
    if isinstance(node, yaml.MappingNode):
        node.value = [(name, value) for name, value in node.value if getattr(name, "value", None) != key]


def mark(node: Any) -> tuple[int, int]:
    """Line and column of a node, from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1
