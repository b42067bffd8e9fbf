"""`correlator replay --score`: how much of what was expected was found, and how much of what was found was expected.

Three levels, each by precision, recall and F (harmonic mean), against expect.yaml:

    findings  messages that are evidence of a told threat, against the expected members of any threat
    links     pairs of such messages in one told threat, against pairs in one expected threat
    threats   told threats that are an expected one: at least half of its expected members, and of its own

Messages that `allow_extra` names are neither right nor wrong. Where silence is expected nothing can be
missed: recall is then 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any

from correlator.run.expect import Expectation, last_revisions, origins_of


@dataclass(frozen=True, slots=True)
class Measure:
    """right: found and expected; found and expected: all of each."""

    right: int
    found: int
    expected: int

    @property
    def precision(self) -> float:
        """The part of what was found that was expected; 1 where nothing was found."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """The part of what was expected that was found; 1 where nothing was expected."""
        return self.right / self.expected if self.expected else 1.0

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def score(expect: Expectation, threats: Iterable[Mapping[str, Any]]) -> dict[str, Measure]:
    """findings, links and threats. threats: as `expect.check` takes them."""
    wanted = [frozenset(member.origin for member in one.members) for one in expect.threats]
    allowed = [pattern for one in expect.threats for pattern in one.allow_extra]
    expected = frozenset().union(*wanted) if wanted else frozenset()
    told = [
        frozenset(
            origin
            for origin in origins_of(threat)
            if origin in expected or not any(fnmatchcase(origin, pattern) for pattern in allowed)
        )
        for threat in last_revisions(threats)
    ]
    found = frozenset().union(*told) if told else frozenset()
    pairs_wanted = {pair for one in wanted for pair in combinations(sorted(one), 2)}
    pairs_told = {pair for one in told for pair in combinations(sorted(one), 2)}
    right = sum(any(2 * len(one & other) >= max(len(one), len(other)) for other in told) for one in wanted)
    return {
        "findings": Measure(len(found & expected), len(found), len(expected)),
        "links": Measure(len(pairs_told & pairs_wanted), len(pairs_told), len(pairs_wanted)),
        "threats": Measure(right, len(told), len(wanted)),
    }


def score_lines(measures: Mapping[str, Measure]) -> list[str]:
    """A table for a person."""
    lines = [f"{'':10}{'precision':>10}{'recall':>10}{'F':>10}"]
    for name, one in measures.items():
        numbers = f"{one.precision:10.3f}{one.recall:10.3f}{one.f:10.3f}"
        lines.append(f"{name:10}{numbers}   {one.right} right of {one.found} found, {one.expected} expected")
    return lines
