"""OCSF 1.8.0, class Detection Finding (2004).

One finding a threat: `finding_info.uid` stays, `activity_id` tells create, update or close. OCSF has no
class and no object for doors, badges and rooms, so a physical member is an evidence with `data` and,
where a device saw it, `device` of type 7 (IOT); the affected assets are `resources`.
"""

from __future__ import annotations

from typing import Any

from correlator.events.threat import Evidence, Threat
from correlator.outputs.format import (
    PRODUCT,
    VENDOR,
    About,
    Format,
    bounded,
    is_closed,
    json_bytes,
    story,
    techniques,
)

CLASS_UID = 2004
SEVERITIES = {
    "informational": (1, "Informational"),
    "low": (2, "Low"),
    "medium": (3, "Medium"),
    "high": (4, "High"),
    "critical": (5, "Critical"),
}
ACTIVITIES = {1: "Create", 2: "Update", 3: "Close"}
_RULE, _IOT = 1, 7
MAX_EVIDENCES = 200  # the rest is counted: a record stays below what a topic takes


def activity(threat: Threat) -> int:
    """1 Create, 2 Update, 3 Close, from revision and phase."""
    if is_closed(threat):
        return 3
    return 1 if threat.revision == 1 else 2


def render(threat: Threat, about: About) -> bytes:
    """One JSON object."""
    threat = bounded(threat)
    severity_id, severity = SEVERITIES.get(threat.severity, (0, "Unknown"))
    act = activity(threat)
    closed = act == 3
    shown = threat.members[:MAX_EVIDENCES]
    body: dict[str, Any] = {
        "activity_id": act,
        "activity_name": ACTIVITIES[act],
        "category_name": "Findings",
        "category_uid": 2,
        "class_name": "Detection Finding",
        "class_uid": CLASS_UID,
        "type_uid": CLASS_UID * 100 + act,
        "type_name": f"Detection Finding: {ACTIVITIES[act]}",
        "time": threat.decided_ms,
        "start_time": threat.first_ms,
        "end_time": threat.last_ms,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 4 if closed else 1,
        "status": "Resolved" if closed else "New",
        "is_alert": threat.phase == "threat",
        "count": len(threat.members) + threat.truncated,
        "message": threat.title,
        "metadata": {
            "version": "1.8.0",
            "product": {"name": PRODUCT, "vendor_name": VENDOR, "version": about.version},
            "uid": f"{threat.id}/{threat.revision}",
            "correlation_uid": threat.id,
            "sequence": threat.revision,
            "tenant_uid": threat.site,
        },
        "finding_info": _finding_info(threat, about),
        "evidences": [_evidence(one) for one in shown],
        "resources": _resources(threat),
        "unmapped": _unmapped(threat, len(threat.members) - len(shown)),
    }
    return json_bytes({key: value for key, value in body.items() if value not in ([], {})})


def _finding_info(threat: Threat, about: About) -> dict[str, Any]:
    info: dict[str, Any] = {
        "uid": threat.id,
        "title": threat.title,
        "desc": story(threat),
        "created_time": threat.opened_ms,
        "modified_time": threat.decided_ms,
        "first_seen_time": threat.first_ms,
        "last_seen_time": threat.last_ms,
        "types": list(threat.threat_types),
        "data_sources": sorted({member.source for member in threat.members}),
        "analytic": {"name": PRODUCT, "type": "Rule", "type_id": _RULE, "version": about.version},
        "attacks": [{"technique": {"uid": one}} for one in techniques(threat)],
        "related_analytics": [
            {"uid": rule, "name": title, "type": "Rule", "type_id": _RULE}
            for rule, title in sorted({(step.rule, step.title) for step in threat.steps if step.rule})
        ],
        "related_events": [
            {"uid": step.finding, "title": step.title, "desc": step.says, "first_seen_time": step.t_ms}
            for step in threat.steps
        ],
        "related_events_count": len(threat.steps),
    }
    if about.link:
        info["src_url"] = about.link + threat.id
    return {key: value for key, value in info.items() if value != []}


def _evidence(member: Evidence) -> dict[str, Any]:
    data = {
        "kind": member.kind,
        "said": member.said,
        "time": member.time_ms,
        "source": member.source,
        "domain": member.domain,
        "place": member.place_name or member.place,
        "origin": member.origin or member.raw,
        "late_ms": member.late_ms,
    }
    told: dict[str, Any] = {
        "uid": member.id,
        "name": member.kind,
        "data": {key: value for key, value in data.items() if value not in ("", 0)},
    }
    if member.domain != "cyber" and member.place:
        told["device"] = {
            "uid": member.place,
            "name": member.place_name or member.place,
            "type_id": _IOT,
            "type": "IOT",
        }
    return told


def _resources(threat: Threat) -> list[dict[str, Any]]:
    names = {step.asset: step.place_name for step in threat.steps if step.asset}
    return [{"uid": asset, "name": names.get(asset) or asset, "namespace": threat.site} for asset in threat.assets]


def _unmapped(threat: Threat, left_out: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "site": threat.site,
        "phase": threat.phase,
        "revision": threat.revision,
        "domains": list(threat.domains),
        "places": list(threat.places),
        "own_techniques": [one for one in threat.techniques if one not in techniques(threat)],
        "windows": list(threat.windows),
        "previous": threat.previous,
        "merged_into": threat.merged_into,
        "reason": threat.reason,
        "evidences_left_out": left_out + threat.truncated,
    }
    return {key: value for key, value in said.items() if value not in ("", [], 0)}


FORMAT = Format(
    name="ocsf",
    version="1.8.0",
    document="OCSF 1.8.0, Detection Finding (class_uid 2004)",
    media_type="application/json",
    render=render,
    fields=(
        ("activity_id", "1 at revision 1, 3 when the phase is quiet or merged, else 2"),
        ("time", "decided_ms"),
        ("start_time, end_time", "first_ms, last_ms"),
        ("severity_id", "severity: informational 1, low 2, medium 3, high 4, critical 5"),
        ("status_id", "1 New, 4 Resolved when the phase is quiet or merged"),
        ("is_alert", "phase is threat (a watch is listed and alerts nobody)"),
        ("message, finding_info.title", "title"),
        ("metadata.uid", "id/revision"),
        ("metadata.tenant_uid", "site"),
        ("finding_info.uid", "id"),
        ("finding_info.desc", "the steps in plain words"),
        ("finding_info.types", "threat_types"),
        ("finding_info.attacks[].technique.uid", "techniques of ATT&CK"),
        ("finding_info.related_analytics[]", "rules of the steps"),
        ("finding_info.related_events[]", "steps: finding, title, words, time"),
        ("evidences[]", "members: id, kind, what the message said, place, file:line"),
        ("resources[]", "assets"),
        ("unmapped", "site, phase, domains, places, own techniques, windows, previous, merged_into"),
    ),
)
