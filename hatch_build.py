"""Build step: a wheel carries schemas and scenarios as package data.

An editable install does not: there `correlator.data` reads them from the checkout, and a copy would
only grow old.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = ("schemas", "scenarios", "deploy")


class CarryData(BuildHookInterface[Any]):
    """Adds the folders in CARRIED to the wheel as correlator/_data/<folder>."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            for folder in CARRIED:
                build_data["force_include"][folder] = f"correlator/_data/{folder}"
