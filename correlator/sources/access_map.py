"""Access control by map: badge systems differ in the names of their fields and little else.

Follows: the map of the source. Shipped maps (correlator/sources/maps/): esp-rfid, and the shapes of
Lenel OnGuard, Paxton Net2, Gallagher and Siemens exports. Their events are moments ("badge denied"),
not states, so every message counts and none seeds.
"""

from __future__ import annotations

from correlator.sources.dialect import ClockPolicy, Dialect
from correlator.sources.fieldmap import decode_mapped
from correlator.sources.mapfile import check_map_settings

DIALECT = Dialect(
    name="access",
    title="Access control described by a map",
    follows="the map of the source; docs/sources.md, Maps",
    transport="lines",
    clock=ClockPolicy(basis="device", zone=None),
    polarity={},
    retain="ignore",
    native_id="the fields named by the map's `id`",
    duplicates="native",
    identity_fields={"uid": "badge", "username": "person", "cardnum": "badge", "emp_id": "person", "cardNo": "badge",
                     "firstName": "person", "surname": "person"},
    decode_message=decode_mapped,
    check_settings=check_map_settings,
)  # fmt: skip
