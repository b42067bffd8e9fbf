"""All formats by name."""

from __future__ import annotations

from typing import Final

from correlator.outputs import alertmanager, cef, ecs, idmefv2, leef, ocsf, stix
from correlator.outputs.format import Format

FORMATS: Final[dict[str, Format]] = {
    module.FORMAT.name: module.FORMAT for module in (ocsf, idmefv2, ecs, cef, leef, stix, alertmanager)
}
