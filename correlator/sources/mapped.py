"""Mapped lines: any newline-JSON, CSV or key=value log, with a YAML map and without code.

Follows: the map itself; grammar in docs/sources.md, "Maps". `context.settings` is the `MapSpec` that
`load_map` or `map_settings` made.
"""

from __future__ import annotations

from correlator.sources.dialect import ClockPolicy, Dialect
from correlator.sources.fieldmap import MapSpec, decode_mapped
from correlator.sources.mapfile import check_map_settings, load_map, map_settings, shipped_maps

__all__ = ["DIALECT", "MapSpec", "load_map", "map_settings", "shipped_maps"]

DIALECT = Dialect(
    name="mapped",
    title="Lines described by a map",
    follows="the map of the source; docs/sources.md, Maps",
    transport="lines",
    # Without a zone in the map, the settings or the source, a time without offset is not trusted.
    clock=ClockPolicy(basis="device", zone=None),
    polarity={},
    retain="ignore",
    native_id="the fields named by the map's `id`",
    duplicates="native",
    identity_fields={},
    decode_message=decode_mapped,
    check_settings=check_map_settings,
)
