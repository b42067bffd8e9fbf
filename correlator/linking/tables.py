"""Typed propagation rules as a distribution over kinds: what a finding of one kind makes expected next.

Two YAML tables (`correlator/linking/tables/`): event kind -> threat type, and threat type -> threat
types it may lead to. Of K kinds with a type, the rules predict a set S after f; with `predicted` = p a
kind in S gets ln(p K/|S| + 1 - p), any other typed kind ln(1 - p): as much mass is taken as is given,
so a rule base cannot make threats run away. Untyped kinds get 0. What cannot follow gets no link.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from correlator.errors import Fault, FaultyFile
from correlator.events.kinds import KINDS
from correlator.marked import MarkedDict, MarkedList, load_bytes
from correlator.premises.vocabulary import THREAT_TYPES

FOLDER: Final = Path(__file__).resolve().parent / "tables"
NAMES: Final = ("kinds.yaml", "follows.yaml")
NEVER: Final = float("-inf")


@dataclass(frozen=True)
class LinkTables:
    """type_of: event kind -> threat type; leads_to and never: threat type -> threat types."""

    type_of: dict[str, str]
    leads_to: dict[str, frozenset[str]]
    never: dict[str, frozenset[str]] = field(default_factory=dict)

    def kind_type(self, kind: str, threat_type: str = "") -> str:
        """The threat type of a finding: its own, else its kind's, "" if neither is known."""
        if threat_type in THREAT_TYPES:
            return threat_type
        return self.type_of.get(kind) or self.type_of.get(kind.replace("-", ".").replace("_", ".", 1), "")

    def expected(self, predicted: float, cap: float) -> dict[str, dict[str, float]]:
        """threat type f -> threat type g -> nats that g is more expected after f than without it."""
        typed = list(self.type_of.values())
        table: dict[str, dict[str, float]] = {}
        for first, following in self.leads_to.items():
            size = sum(one in following for one in typed)
            hit = min(cap, math.log(predicted * len(typed) / size + 1 - predicted)) if size else 0.0
            never = self.never.get(first, frozenset())
            table[first] = {
                then: NEVER if then in never else hit if then in following else math.log(1 - predicted)
                for then in THREAT_TYPES
            }
        return table


@cache
def shipped_tables() -> LinkTables:
    """The tables that come along. Raises FaultyFile."""
    return load_tables(FOLDER)


def load_tables(folder: Path) -> LinkTables:
    """`kinds.yaml` and `follows.yaml` of a folder, checked against the vocabularies. Raises FaultyFile."""
    return tables_of([(str(path), path.read_bytes()) for path in table_files(folder)])


def table_files(folder: Path) -> list[Path]:
    """The two files of a folder. Raises FaultyFile if one is missing."""
    files = [folder / name for name in NAMES]
    missing = [Fault(str(file), 0, 0, "the table is missing") for file in files if not file.is_file()]
    if missing:
        raise FaultyFile(missing)
    return files


def tables_of(texts: Sequence[tuple[str, bytes]]) -> LinkTables:
    """As `load_tables`, of (name, bytes) of the two files in the order of NAMES. Raises FaultyFile."""
    faults: list[Fault] = []
    (kinds, kinds_file), (follows, follows_file) = [_one(name, data, faults) for name, data in texts]
    type_of: dict[str, str] = {}
    for kind, threat_type in _items(kinds, kinds_file, faults):
        if kind not in KINDS:
            faults.append(_fault(kinds, kind, kinds_file, f"{kind!r} is no event kind"))
        elif _known(threat_type, kinds, kind, kinds_file, faults):
            type_of[kind] = threat_type
    leads_to: dict[str, frozenset[str]] = {}
    never: dict[str, frozenset[str]] = {}
    for first, entry in _items(follows, follows_file, faults):
        if not _known(first, follows, first, follows_file, faults):
            continue
        for word, into in _items(entry, follows_file, faults):
            if word not in ("leads_to", "never"):
                faults.append(_fault(entry, word, follows_file, f"{word!r} is neither leads_to nor never"))
            elif not isinstance(into, MarkedList):
                faults.append(_fault(entry, word, follows_file, f"{word} is a list of threat types"))
            elif sum(_known(one, entry, word, follows_file, faults) for one in into) == len(
                into
            ):  # every fault is told
                (leads_to if word == "leads_to" else never)[first] = frozenset(into)
    if faults:
        raise FaultyFile(faults)
    return LinkTables(type_of, leads_to, never)


def _one(name: str, data: bytes, faults: list[Fault]) -> tuple[Any, str]:
    documents = load_bytes(data, name)
    if len(documents) != 1:
        faults.append(Fault(name, 0, 0, "the file holds exactly one document"))
        return MarkedDict((0, 0)), name
    return documents[0], name


def _items(data: Any, file: str, faults: list[Fault]) -> list[tuple[str, Any]]:
    if isinstance(data, MarkedDict):
        return list(data.items())
    faults.append(Fault(file, 1, 1, "a map is expected here"))
    return []


def _known(word: Any, data: Any, key: str, file: str, faults: list[Fault]) -> bool:
    if isinstance(word, str) and word in THREAT_TYPES:
        return True
    faults.append(_fault(data, key, file, f"{word!r} is no threat type"))
    return False


def _fault(data: MarkedDict, key: str, file: str, message: str) -> Fault:
    line, column = data.keys_at[key]
    return Fault(file, line, column, message)
