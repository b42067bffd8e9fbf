"""Elastic Common Schema 9.4: one alert document a revision, `_id` = threat id in the recipe.

ECS has no category for doors and badges: `event.category` is intrusion_detection, and what ECS cannot
say stands under `cps.*`, a namespace of our own (ECS, "Custom fields"). `event.kind` is alert; signal
belongs to Elastic's own detection engine.
"""

from __future__ import annotations

from typing import Any

from correlator.events.threat import Threat
from correlator.outputs.format import (
    PRODUCT,
    VENDOR,
    About,
    Format,
    bounded,
    is_closed,
    json_bytes,
    rfc3339,
    site_words,
    story,
    techniques,
)

SEVERITIES = {"informational": 21, "low": 47, "medium": 73, "high": 87, "critical": 99}
MAX_EVIDENCE = 200


def render(threat: Threat, about: About) -> bytes:
    """One JSON object with nested keys."""
    threat = bounded(threat)
    attack = techniques(threat)
    body: dict[str, Any] = {
        "@timestamp": rfc3339(threat.decided_ms),
        "ecs": {"version": "9.4.0"},
        "message": threat.title,
        "event": {
            "id": threat.id,
            "kind": "alert",
            "category": ["intrusion_detection"],
            "type": ["end" if is_closed(threat) else "start" if threat.revision == 1 else "change"],
            "action": f"threat-{threat.phase}",
            "module": "correlator",
            "dataset": "correlator.threats",
            "severity": SEVERITIES.get(threat.severity, 0),
            "start": rfc3339(threat.first_ms),
            "end": rfc3339(threat.last_ms),
            "created": rfc3339(threat.opened_ms),
            "sequence": threat.revision,
            "reason": story(threat),
        },
        "observer": {"vendor": VENDOR, "product": PRODUCT, "version": about.version, "type": "siem"},
        "organization": {"id": threat.site, "name": site_words(threat, about)},
        "rule": {
            "id": sorted({step.rule for step in threat.steps if step.rule}),
            "name": sorted({step.title for step in threat.steps}),
            "ruleset": "correlator",
        },
        "tags": [*threat.domains, *threat.threat_types],
        "cps": _own(threat),
    }
    if attack:
        body["threat"] = {"framework": "MITRE ATT&CK", "technique": {"id": list(attack)}}
    if about.link:
        body["event"]["url"] = about.link + threat.id
    return json_bytes(body)


def _own(threat: Threat) -> dict[str, Any]:
    said: dict[str, Any] = {
        "phase": threat.phase,
        "severity": threat.severity,
        "domains": list(threat.domains),
        "assets": list(threat.assets),
        "places": list(threat.places),
        "techniques": list(threat.techniques),
        "threat_types": list(threat.threat_types),
        "windows": list(threat.windows),
        "previous": threat.previous,
        "merged_into": threat.merged_into,
        "evidence_count": len(threat.members) + threat.truncated,
        "evidence": [
            {
                "id": member.id,
                "time": rfc3339(member.time_ms),
                "kind": member.kind,
                "said": member.said,
                "source": member.source,
                "place": member.place_name or member.place,
                "origin": member.origin or member.raw,
            }
            for member in threat.members[:MAX_EVIDENCE]
        ],
    }
    return {key: value for key, value in said.items() if value not in ("", [])}


FORMAT = Format(
    name="ecs",
    version="9.4.0",
    document="Elastic Common Schema 9.4.0",
    media_type="application/json",
    render=render,
    fields=(
        ("@timestamp", "decided_ms"),
        ("message", "title"),
        ("event.id", "id"),
        ("event.sequence", "revision"),
        ("event.type", "start at revision 1, end when the phase is quiet or merged, else change"),
        ("event.action", "phase"),
        ("event.severity", "severity: informational 21, low 47, medium 73, high 87, critical 99"),
        ("event.start, event.end", "first_ms, last_ms"),
        ("event.created", "opened_ms"),
        ("event.reason", "the steps in plain words"),
        ("organization.id", "site"),
        ("rule.id, rule.name", "rules of the steps"),
        ("threat.technique.id", "techniques of ATT&CK"),
        ("tags", "domains, threat_types"),
        ("cps.*", "phase, severity, domains, assets, places, own techniques, windows, evidence"),
    ),
)
