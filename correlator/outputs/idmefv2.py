"""IDMEFv2, draft-08 (Version 2.D.V08): the alert format made for cyber and physical together.

Each revision is a message of its own; `PredID` names the message it replaces, `CorrelID` the events
that led to it. The enumerations are those of the draft's JSON Schema, its spelling included
(`Theft.Equiment`).
"""

from __future__ import annotations

import re
from typing import Any

from correlator.events.ids import digest
from correlator.events.threat import Evidence, Threat
from correlator.outputs.format import (
    PRODUCT,
    About,
    Format,
    bounded,
    is_closed,
    json_bytes,
    rfc3339,
    site_words,
    story,
    techniques,
    uuid_of,
)

VERSION = "2.D.V08"
PRIORITIES = {"informational": "Info", "low": "Low", "medium": "Medium", "high": "High", "critical": "High"}
MAX_MEMBERS = 500
_UNLOCODE = re.compile("[A-Z]{2} ?[A-Z]{3}")

# threat type -> category of draft-08; "Other.Undetermined" where it has none.
CATEGORIES = {
    "intrusion": "Access.Unauthorized",
    "forced-entry": "Access.Forced",
    "tailgating": "Access.Tailgating",
    "unauthorised-presence": "Access.Unauthorized",
    "badge-misuse": "Access.Compromise",
    "loitering": "Recon.Landscape",
    "crowd": "Safety.Other",
    "theft": "Theft.Equiment",
    "sabotage": "Sabotage.Equipment",
    "device-tampering": "Sabotage.Tampering",
    "surveillance-loss": "Sabotage.Disruption",
    "violence": "Safety.Agression",
    "fire": "Safety.Fire",
    "flooding": "Hydro.Flood",
    "gas-release": "Safety.Other",
    "power-loss": "Availability.Outage",
    "unsuitable-temperature": "Availability.Failure",
    "supply-loss": "SupplyChain.Disruption",
    "reconnaissance": "Recon.Network",
    "phishing": "SocialEng.Phishing",
    "credential-attack": "Access.Compromise",
    "account-misuse": "Access.Compromise",
    "account-change": "Access.Other",
    "exploitation": "Access.Compromise",
    "malware": "Malware.Other",
    "removable-media": "Operational.Policy Violation",
    "rogue-device": "Access.Unauthorized",
    "privilege-escalation": "Access.Escalation",
    "persistence": "Access.Backdoor",
    "defence-evasion": "Sabotage.Disruption",
    "lateral-movement": "Access.Compromise",
    "command-and-control": "Malware.Backdoor",
    "data-access": "Theft.Data",
    "data-manipulation": "Sabotage.Data",
    "data-theft": "Theft.Data",
    "data-destruction": "Sabotage.Data",
    "ransomware": "Malware.Ransomware",
    "denial-of-service": "Availability.DoS",
    "control-manipulation": "Sabotage.Tampering",
    "alarm-suppression": "Sabotage.Disruption",
    "system-failure": "Availability.Failure",
    "service-unavailable": "Availability.Outage",
    "patient-harm": "Safety.Other",
}


def message_id(threat_id: str, revision: int) -> str:
    """The UUID of the message that tells one revision of a threat."""
    return uuid_of(digest("idmefv2", threat_id, str(revision)))


def render(threat: Threat, about: About) -> bytes:
    """One JSON object."""
    threat = bounded(threat)
    shown = threat.members[:MAX_MEMBERS]
    body: dict[str, Any] = {
        "Version": VERSION,
        "ID": message_id(threat.id, threat.revision),
        "OrganisationName": site_words(threat, about),
        "EntityId": threat.site,
        "EntitySector": ["Health.HealthcareProviders"],
        "Type": _types(threat),
        "Category": sorted({CATEGORIES.get(one, "Other.Undetermined") for one in threat.threat_types})
        or ["Other.Undetermined"],
        "AltCategory": [*techniques(threat), *(f"correlator:{one}" for one in threat.threat_types)],
        "Cause": "Unknown",
        "Description": threat.title,
        "Note": story(threat),
        "Status": ["Closed" if is_closed(threat) else "Open"],
        "Priority": PRIORITIES.get(threat.severity, "Unknown"),
        "CreateTime": rfc3339(threat.decided_ms),
        "StartTime": rfc3339(threat.first_ms),
        "EndTime": rfc3339(threat.last_ms),
        "AltNames": [threat.id],
        "CorrelID": [uuid_of(member.id) for member in shown],
        "Analyzer": {
            "Name": PRODUCT,
            "Model": f"{PRODUCT} {about.version}",
            "Category": ["SIEM.SIEM"],
            "Data": ["Alert", "Log"],
            "Method": ["Correlation", "Graph-based"],
        },
        "Sensor": _sensors(shown, about),
        "Target": _targets(threat, about),
    }
    if threat.revision > 1:
        body["PredID"] = [message_id(threat.id, threat.revision - 1)]
    if threat.merged_into:
        body["RelID"] = [uuid_of(threat.merged_into)]
    if about.link:
        body["Ref"] = [about.link + threat.id]
    return json_bytes({key: value for key, value in body.items() if value != []})


def _types(threat: Threat) -> list[str]:
    if not threat.domains:  # about the correlation itself: an input that nobody reads, a gap in the log
        return ["Availability"]
    cyber = "cyber" in threat.domains
    physical = bool({"physical", "building"} & set(threat.domains))
    if cyber and physical:
        return ["Combined"]
    return ["Cyber"] if cyber else ["Physical"]


def _located(asset: str, t_ms: int, about: About) -> dict[str, str]:
    """Where on the globe an asset of the site stands: its building's coordinates ("+43.77, +11.25", the draft's
    reading of ISO 6709) and the site's UN/LOCODE."""
    place = about.place
    if place is None or not place.zones_of(asset, t_ms):
        return {}
    found = place.coordinates_of(asset, t_ms)
    told = {"GeoLocation": f"{found[0]:+.6f}, {found[1]:+.6f}"} if found is not None else {}
    # The draft takes letters only, the code list has digits 2 to 9 too.
    return told | ({"UnLocation": place.site.unlocode} if _UNLOCODE.fullmatch(place.site.unlocode) else {})


def _sensors(members: tuple[Evidence, ...], about: About) -> list[dict[str, Any]]:
    """One entry a source and place, in the order of first mention."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for member in members:
        place = member.place_name or member.place
        sensor = {"Name": member.source}
        if place:
            sensor |= {"Location": place, **_located(member.place, member.time_ms, about)}
        told.setdefault((member.source, place), sensor)
    return list(told.values())


def _targets(threat: Threat, about: About) -> list[dict[str, Any]]:
    names = {step.asset: step.place_name for step in threat.steps if step.asset}
    return [
        {
            "ID": uuid_of(digest("asset", threat.site, asset)),
            "Note": asset,
            "Location": names.get(asset) or asset,
            **_located(asset, threat.last_ms, about),
        }
        for asset in threat.assets
    ]


FORMAT = Format(
    name="idmefv2",
    version=VERSION,
    document="IDMEFv2, draft-lehmann-idmefv2-08",
    media_type="application/json",
    render=render,
    fields=(
        ("ID", "of (id, revision)"),
        ("PredID", "ID of the revision before"),
        ("RelID", "merged_into"),
        ("CorrelID", "member event ids"),
        ("AltNames", "id"),
        ("EntityId, OrganisationName", "site and its name"),
        ("Type", "Combined when cyber meets physical or building, else Cyber or Physical"),
        ("Category", "threat_types by a table"),
        ("AltCategory", "techniques of ATT&CK, threat_types"),
        ("Description, Note", "title, the steps in plain words"),
        ("Status", "Closed when the phase is quiet or merged, else Open"),
        ("Priority", "severity; the draft has nothing above High"),
        ("CreateTime", "decided_ms"),
        ("StartTime, EndTime", "first_ms, last_ms"),
        ("Sensor", "sources of the members, with place"),
        ("Target", "assets, with place"),
        ("Sensor[].GeoLocation, Target[].GeoLocation", "coordinates of the building or site, from the site file"),
        ("Sensor[].UnLocation, Target[].UnLocation", "UN/LOCODE of the site file"),
    ),
)
