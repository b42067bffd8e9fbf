"""STIX 2.1 (OASIS Standard, 10 June 2021): a bundle for sharing a threat, not for streaming alerts.

An incident (section 4.9, a stub with name and description) with the evidence in a property extension
(section 7.3), the site as identity, and an attack pattern for each technique. Ids are UUIDs of version 5,
so that the same threat gives the same bundle.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from correlator.clock import DAY_MS
from correlator.events.threat import Threat
from correlator.outputs.format import (
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

_SPACE = UUID("5f0c6a0e-6c0b-5f5b-9d6e-0b6d6f2f7c11")
_CREATED = rfc3339(20_454 * DAY_MS)  # 2026-01-01: when the extension and the patterns were first published
MAX_EVIDENCE = 500


def _id(kind: str, *of: str) -> str:
    return f"{kind}--{uuid5(_SPACE, '/'.join(of))}"


EXTENSION = _id("extension-definition", "correlator", "composite-threat", "1")


def render(threat: Threat, about: About) -> bytes:
    """A JSON bundle."""
    threat = bounded(threat)
    product = _object("identity", ("product",), _CREATED, _CREATED, name="Correlator", identity_class="system")
    site = _object(
        "identity",
        ("site", threat.site),
        _CREATED,
        _CREATED,
        name=site_words(threat, about),
        identity_class="organization",
        sectors=["healthcare"],
    )
    opened, decided = rfc3339(threat.opened_ms), rfc3339(max(threat.decided_ms, threat.opened_ms))
    incident = _object(
        "incident",
        ("incident", threat.site, threat.id),
        opened,
        decided,
        name=threat.title or threat.id,
        description=story(threat),
        created_by_ref=product["id"],
        labels=sorted({*threat.domains, *threat.threat_types}),
        extensions={EXTENSION: _extension(threat)},
    )
    if about.link:
        incident["external_references"] = [{"source_name": "correlator", "url": about.link + threat.id}]
    objects: list[dict[str, Any]] = [product, site, _definition(str(product["id"])), incident]
    objects.append(_relation("targets", incident, site, opened))
    for technique in techniques(threat):
        pattern = _object(
            "attack-pattern",
            ("technique", technique),
            _CREATED,
            _CREATED,
            name=technique,
            external_references=[{"source_name": "mitre-attack", "external_id": technique}],
        )
        objects += [pattern, _relation("uses", incident, pattern, opened)]
    bundle = {"type": "bundle", "id": _id("bundle", threat.id, str(threat.revision)), "objects": objects}
    return json_bytes(bundle)


def _object(kind: str, of: tuple[str, ...], created: str, modified: str, **properties: Any) -> dict[str, Any]:
    head = {"type": kind, "spec_version": "2.1", "id": _id(kind, *of), "created": created, "modified": modified}
    return {**head, **{name: value for name, value in properties.items() if value not in ("", [])}}


def _relation(how: str, source: dict[str, Any], target: dict[str, Any], created: str) -> dict[str, Any]:
    ends = {"relationship_type": how, "source_ref": source["id"], "target_ref": target["id"]}
    return _object("relationship", (how, source["id"], target["id"]), created, created, **ends)


def _definition(author: str) -> dict[str, Any]:
    return {
        "type": "extension-definition",
        "spec_version": "2.1",
        "id": EXTENSION,
        "created": _CREATED,
        "modified": _CREATED,
        "created_by_ref": author,
        "name": "Composite threat of a cyber-physical correlator",
        "description": "Phase, severity, places and evidence of an incident; described by schemas/threat.schema.json.",
        "schema": "https://json-schema.org/draft/2020-12/schema",
        "version": "1.0.0",
        "extension_types": ["property-extension"],
    }


def _extension(threat: Threat) -> dict[str, Any]:
    said: dict[str, Any] = {
        "extension_type": "property-extension",
        "threat": threat.id,
        "revision": threat.revision,
        "phase": threat.phase,
        "closed": is_closed(threat),
        "severity": threat.severity,
        "first_seen": rfc3339(threat.first_ms),
        "last_seen": rfc3339(threat.last_ms),
        "places": list(threat.places),
        "own_techniques": [one for one in threat.techniques if one not in techniques(threat)],
        "evidence": [
            {
                "id": member.id,
                "time": rfc3339(member.time_ms),
                "kind": member.kind,
                "said": member.said,
                "place": member.place_name or member.place,
            }
            for member in threat.members[:MAX_EVIDENCE]
        ],
        "evidence_left_out": max(0, len(threat.members) - MAX_EVIDENCE) + threat.truncated,
    }
    return {name: value for name, value in said.items() if value not in ("", [])}


FORMAT = Format(
    name="stix",
    version="2.1",
    document="STIX 2.1, OASIS Standard",
    media_type="application/stix+json;version=2.1",
    render=render,
    fields=(
        ("incident.id", "UUIDv5 of site and id"),
        ("incident.name, incident.description", "title, the steps in plain words"),
        ("incident.created, incident.modified", "opened_ms, decided_ms"),
        ("incident.labels", "domains, threat_types"),
        ("attack-pattern.external_references[].external_id", "techniques of ATT&CK"),
        ("identity (organization)", "site"),
        ("extension", "id, revision, phase, severity, first_ms, last_ms, places, own techniques, members"),
    ),
)
