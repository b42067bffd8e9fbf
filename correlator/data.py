"""Where the files live that are read and not run: schemas, scenarios, rule pack.

In a checkout schemas and scenarios stand at its top, in an installed wheel inside the package; the
rule pack is inside the package in both.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CARRIED = _PACKAGE / "_data"  # made by the wheel build, absent in a checkout


def folder(name: str) -> Path:
    """The folder "schemas", "scenarios" or "rulepack" of this installation; may not exist."""
    if name == "rulepack":
        return _PACKAGE / name
    return (_CARRIED if _CARRIED.is_dir() else _PACKAGE.parent) / name
