"""Where the files live that are read and not run: schemas, scenarios, rule pack, ready-made maps.

In a checkout schemas and scenarios stand at its top, in an installed wheel inside the package; the
rule pack and the maps are inside the package in both.
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


def scenario(name: Path) -> Path:
    """The scenario folder a user means: a path as given, else the shipped one of that name.

    Gives the path as given when neither exists, so that the message about it names what was typed.
    """
    if not name.exists() and len(name.parts) == 1:
        shipped = folder("scenarios") / name
        if shipped.is_dir():
            return shipped
    return name


def scenario_names() -> list[str]:
    """Names of the shipped scenarios, sorted."""
    top = folder("scenarios")
    return sorted(path.parent.name for path in top.glob("*/scenario.yaml"))
