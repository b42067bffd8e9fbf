"""The seam between findings and threats: who decides to which threat a finding belongs.

The linker owns its graph, its rates and its idea of time (the findings' `t_ms`, in the order they are
placed). `correlator.threats` keeps the books: members, phases, revisions, evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from correlator.events.threat import Finding


class Placement(Struct, frozen=True, gc=False):
    """Where a finding went.

    threat   id of the threat it opened or joined, None: it stays alone
    opened   it opened that threat
    gain     what it adds to the threat's score, nats (0 where the linker does not score)
    terms    the parts of the gain by name, whose sum is the gain, and words for a person
    merged   threats that this finding made one: (from, into)
    parent   a threat that may have led to a new one, for later adoption
    adopted  ids of earlier findings that had stayed alone and now follow into the threat
    score    the threat's score in nats, None where the linker does not score
    previous the quiet or closed threat that the finding would have joined, where it opened a new one for that
    """

    threat: str | None
    opened: bool
    gain: float = 0.0
    terms: tuple[tuple[str, float], ...] = ()
    merged: tuple[tuple[str, str], ...] = ()
    parent: str | None = None
    adopted: tuple[str, ...] = ()
    reason: str = ""
    score: float | None = None
    previous: str | None = None


class Linker(Protocol):
    """Decides where findings belong; deterministic, no I/O, state as entries."""

    def place(self, finding: Finding) -> Placement:
        """Places one finding; called in the order of the log, and again when a finding has grown."""
        ...

    def close(self, threat: str) -> None:
        """The threat no longer grows (idle, or a person closed it)."""
        ...

    def verdict(self, threat: str, verdict: str, at_ms: int, into: str = "") -> None:
        """Learns from a person's verdict on an open threat: confirmed, benign, false, or duplicate of the open
        threat `into`, which takes it in."""
        ...

    def reopen(self, threat: str, findings: Sequence[Finding]) -> tuple[str, ...]:
        """A closed threat grows again. findings: its members. Returns ids of findings that had stayed alone and
        now follow into it."""
        ...

    def changes(self) -> list[tuple[str, bytes | None]]:
        """State entries changed (None: deleted) since the last call."""
        ...

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All state entries, sorted by key."""
        ...

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes a snapshot's entries into a fresh linker. Raises StateRefused."""
        ...
