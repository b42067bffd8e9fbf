"""The family tree of errors.

    CorrelatorError
    ├── UsageError        wrong argument or missing file; the caller can mend it (exit code 2)
    ├── FaultyFile        a rule, site, map, scenario or settings file with faults (exit code 2);
    │                     carries every fault of one run with file, line and column
    ├── StateRefused      saved state that this release cannot read; says what to do
    ├── RecordRefused     a record of the log that this release cannot read
    ├── BodyMissing       a configuration record names a body that is not at hand
    └── FoldFailed        folding met a bug of ours at an event or deadline; `at` names it

Anything else that leaves this package is a bug of ours. A broken *message* is none of these:
it is data and becomes a `correlator.events.Reject`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in a file: returned by checkers, never raised alone.

    line and column count from 1; 0 means "the file as a whole". `hint` says what would be right.
    severity: "error" (the file is refused) or "warning" (it is used; something is lost or unwise).
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        mark = "" if self.severity == "error" else f"{self.severity}: "
        return f"{where}: {mark}{self.message}" + (f" ({self.hint})" if self.hint else "")


class CorrelatorError(Exception):
    """Root of what this package raises on purpose."""


class UsageError(CorrelatorError):
    """A wrong argument, a missing file, an impossible combination of options."""


class FaultyFile(CorrelatorError):
    """A file of the user's that cannot be used; `faults` lists everything found in one run."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class StateRefused(CorrelatorError):
    """State of an unknown or newer version; the text says which release reads it."""


class RecordRefused(CorrelatorError):
    """A record of the log that is broken or of another version."""


class BodyMissing(CorrelatorError):
    """A body (rules, site, settings) that a configuration record names is not at hand."""


class FoldFailed(CorrelatorError):
    """Folding failed. `at` is the event's id, or "deadline/<ms>"; the cause is chained.

    The engine's memory is of no use after it: start again from saved state.
    """

    def __init__(self, at: str, error: BaseException) -> None:
        super().__init__(f"folding failed at {at}: {type(error).__name__}: {error}")
        self.at = at
