"""Lines described by a map: any newline-JSON, CSV or key=value log, and badge systems, without code.

Follows: the map itself; both grammars are in docs/sources.md, "Maps". `context.settings` is the `MapSpec`
that `map_settings` made. Badge systems differ in the names of their fields and little else; shipped maps
(correlator/sources/maps/) cover esp-rfid and the shapes of Lenel OnGuard, Paxton Net2, Gallagher and others.
What a map tells are moments ("badge denied"), not states, so every message counts and none seeds.
"""

from __future__ import annotations

from typing import Final

from correlator.sources.dialect import ClockPolicy, Dialect
from correlator.sources.fieldmap import decode_mapped
from correlator.sources.mapfile import check_map_settings


def _dialect(name: str, title: str, identity_fields: dict[str, str]) -> Dialect:
    return Dialect(
        name=name,
        title=title,
        follows="the map of the source; docs/sources.md, Maps",
        transport="lines",
        # Without a zone in the map, the settings or the source, a time without offset is not trusted.
        clock=ClockPolicy(basis="device", zone=None),
        polarity={},
        retain="ignore",
        native_id="the fields named by the map's `id`",
        duplicates="native",
        identity_fields=identity_fields,
        decode_message=decode_mapped,
        check_settings=check_map_settings,
    )


MAPPED: Final = _dialect("mapped", "Lines described by a map", {})
# The fields that the shipped maps declare; a site's own map names its own.
ACCESS: Final = _dialect("access", "Access control described by a map", {
    "uid": "badge", "username": "person", "cardnum": "badge", "emp_id": "person", "cardNo": "badge",
    "firstName": "person", "surname": "person",
})  # fmt: skip
