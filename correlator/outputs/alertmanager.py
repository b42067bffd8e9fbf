"""Prometheus Alertmanager, API v2, POST /api/v2/alerts: a list with one alert.

The label set is the alert's identity there, so only what never changes is a label; severity rises and is
an annotation. Alertmanager forgets an alert at `endsAt`: an open threat is sent again before that, a
closed one ends at the moment it was decided.
"""

from __future__ import annotations

from correlator.clock import MINUTE_MS
from correlator.events.threat import Threat
from correlator.outputs.format import About, Format, bounded, is_closed, json_bytes, rfc3339, story

MAX_ANNOTATION = 4_000
STAY_MS = 5 * MINUTE_MS


def render(threat: Threat, about: About) -> bytes:
    """A JSON list with one postableAlert."""
    threat = bounded(threat)
    starts_ms = threat.opened_ms
    decided_ms = max(threat.decided_ms, starts_ms)  # an end before the start is refused there
    ends_ms = decided_ms if is_closed(threat) else about.until_ms or decided_ms + STAY_MS
    alert = {
        "labels": {
            "alertname": "CompositeThreat",
            "site": threat.site,
            "threat": threat.id,
        },
        "annotations": {
            "summary": threat.title[:MAX_ANNOTATION],
            "description": story(threat)[:MAX_ANNOTATION],
            "severity": threat.severity,
            "phase": threat.phase,
            "revision": str(threat.revision),
            "places": ", ".join(threat.places)[:MAX_ANNOTATION],
            "domains": ", ".join(threat.domains),
        },
        "startsAt": rfc3339(starts_ms),
        "endsAt": rfc3339(ends_ms),
    }
    if about.link:
        alert["generatorURL"] = about.link + threat.id
    return json_bytes([alert])


FORMAT = Format(
    name="alertmanager",
    version="v2",
    document="Prometheus Alertmanager, OpenAPI v2, postableAlerts",
    media_type="application/json",
    render=render,
    fields=(
        ("labels.threat", "id"),
        ("labels.site", "site"),
        ("annotations.summary", "title"),
        ("annotations.description", "the steps in plain words"),
        ("annotations.severity", "severity (not a label: a rise would make a second alert)"),
        ("annotations.phase, annotations.revision", "phase, revision"),
        ("annotations.places, annotations.domains", "places, domains"),
        ("startsAt", "opened_ms"),
        ("endsAt", "decided_ms when the phase is quiet or merged, else when it must have been sent again"),
        ("generatorURL", "link"),
    ),
)
