"""The dialects: one module each, a pure function from one message to events.

`DIALECTS` is the only list of them; the contract test, `correlator sources list` and the readers of
inputs go by it.
"""

from __future__ import annotations

from typing import Any

from correlator.errors import Fault, FaultyFile
from correlator.sources import (
    clamav,
    frigate,
    mapped,
    onvif,
    suricata,
    syslog,
    wazuh,
    windows,
    zeek,
    zigbee2mqtt,
)
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, reject
from correlator.sources.fieldmap import MapSpec
from correlator.sources.mapfile import load_map, map_settings, shipped_maps
from correlator.sources.routes import Route, Router, filter_problem, route, topic_matches

__all__ = [
    "DIALECTS",
    "ClockPolicy",
    "Context",
    "Dialect",
    "MapSpec",
    "Message",
    "Route",
    "Router",
    "filter_problem",
    "load_map",
    "map_settings",
    "prepared_settings",
    "reject",
    "route",
    "shipped_maps",
    "topic_matches",
]

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        zigbee2mqtt.DIALECT,
        frigate.DIALECT,
        onvif.DIALECT,
        mapped.ACCESS,
        mapped.MAPPED,
        suricata.DIALECT,
        zeek.DIALECT,
        wazuh.DIALECT,
        clamav.DIALECT,
        windows.SECURITY,
        windows.SYSMON,
        syslog.DIALECT,
    )
}


def prepared_settings(dialect: str, settings: Any, file: str) -> tuple[Any, str]:
    """(what belongs into `Context.settings`, `map_version`) for the settings a user wrote for a source.

    For access and mapped the map is loaded, relative to `file`. Raises FaultyFile with every fault.
    """
    if dialect in ("access", "mapped"):
        spec = map_settings(settings, file)
        if spec.dialect != dialect:
            what = f"the map is for dialect {spec.dialect!r}, the source says {dialect!r}"
            raise FaultyFile([Fault(file, 0, 0, what)])
        return spec, spec.version
    check = DIALECTS[dialect].check_settings
    faults = [fault for fault in check(settings, file) if isinstance(fault, Fault)] if check is not None else []
    if faults:
        raise FaultyFile(faults)
    return settings, ""
