"""IBM Log Event Extended Format 2.0 (QRadar LEEF guide), tab-separated, in RFC 5424 syslog."""

from __future__ import annotations

from correlator.events.threat import Threat
from correlator.outputs import syslog
from correlator.outputs.format import (
    PRODUCT,
    VENDOR,
    About,
    Format,
    bounded,
    is_closed,
    one_line,
    rfc3339,
    story,
    techniques,
)

SEVERITIES = {"informational": 1, "low": 3, "medium": 5, "high": 8, "critical": 10}
MAX_MESSAGE = 1_000


def text(threat: Threat, about: About) -> str:
    """The LEEF line without syslog header; `x09` in the header says that tabs stand between attributes."""
    threat = bounded(threat)
    head = (VENDOR, PRODUCT, about.version, f"threat-{threat.phase}")
    pairs = (
        ("cat", ",".join(threat.threat_types)),
        ("devTime", rfc3339(threat.decided_ms)),
        ("devTimeFormat", "yyyy-MM-dd'T'HH:mm:ss.SSSX"),
        ("sev", str(SEVERITIES.get(threat.severity, 1))),
        ("threatId", threat.id),
        ("revision", str(threat.revision)),
        ("activity", "close" if is_closed(threat) else "create" if threat.revision == 1 else "update"),
        ("title", threat.title),
        ("site", threat.site),
        ("firstSeen", rfc3339(threat.first_ms)),
        ("lastSeen", rfc3339(threat.last_ms)),
        ("domains", ",".join(threat.domains)),
        ("places", ",".join(threat.places)[:MAX_MESSAGE]),
        ("assets", ",".join(threat.assets)[:MAX_MESSAGE]),
        ("techniques", ",".join(techniques(threat))),
        ("evidenceCount", str(len(threat.members) + threat.truncated)),
        ("msg", story(threat)[:MAX_MESSAGE]),
        ("url", about.link + threat.id if about.link else ""),
    )
    # LEEF has no escape: what could end a value or a line is a space.
    attributes = "\t".join(f"{key}={one_line(value)}" for key, value in pairs if value)
    return "LEEF:2.0|" + "|".join(one_line(one).replace("|", "/") for one in head) + f"|x09|{attributes}"


def render(threat: Threat, about: About) -> bytes:
    """One RFC 5424 message, without frame."""
    return syslog.message(threat, about, text(threat, about), "LEEF")


FORMAT = Format(
    name="leef",
    version="2.0",
    document="IBM Log Event Extended Format 2.0, over RFC 5424",
    media_type="text/plain",
    render=render,
    fields=(
        ("EventID", "phase, as threat-<phase>"),
        ("cat", "threat_types"),
        ("devTime", "decided_ms"),
        ("sev", "severity: informational 1, low 3, medium 5, high 8, critical 10"),
        ("threatId", "id"),
        ("revision", "revision"),
        ("activity", "create, update, close"),
        ("title", "title"),
        ("site", "site"),
        ("firstSeen, lastSeen", "first_ms, last_ms"),
        ("domains, places, assets", "domains, places, assets"),
        ("techniques", "techniques of ATT&CK"),
        ("evidenceCount", "number of members"),
        ("msg", "the steps in plain words"),
        ("url", "link"),
    ),
)
