"""ArcSight Common Event Format, version 0 (Implementing ArcSight CEF, revision 26), in RFC 5424 syslog."""

from __future__ import annotations

from correlator.events.threat import Threat
from correlator.outputs import syslog
from correlator.outputs.format import PRODUCT, VENDOR, About, Format, bounded, is_closed, one_line, story, techniques

SEVERITIES = {"informational": 1, "low": 3, "medium": 5, "high": 8, "critical": 10}
MAX_BYTES = 8_000  # receivers cut at 8 KB
MAX_MESSAGE = 1_023  # length of `msg`


def text(threat: Threat, about: About) -> str:
    """The CEF line without syslog header."""
    threat = bounded(threat)
    state = "close" if is_closed(threat) else "create" if threat.revision == 1 else "update"
    head = (VENDOR, PRODUCT, about.version, f"threat-{threat.phase}", threat.title)
    pairs: list[tuple[str, str]] = [
        ("externalId", threat.id),
        ("rt", str(threat.decided_ms)),
        ("start", str(threat.first_ms)),
        ("end", str(threat.last_ms)),
        ("act", state),
        ("cat", ",".join(threat.threat_types)),
        ("cnt", str(len(threat.members) + threat.truncated)),
        ("msg", story(threat)[:MAX_MESSAGE]),
        ("cs1Label", "site"),
        ("cs1", threat.site),
        ("cs2Label", "places"),
        ("cs2", _listed(threat.places, 900)),
        ("cs3Label", "techniques"),
        ("cs3", ",".join(techniques(threat))),
        ("cs4Label", "domains"),
        ("cs4", ",".join(threat.domains)),
        ("cs5Label", "assets"),
        ("cs5", _listed(threat.assets, 900)),
        ("cn1Label", "revision"),
        ("cn1", str(threat.revision)),
    ]
    if about.link:
        pairs += [("cs6Label", "link"), ("cs6", about.link + threat.id)]
    severity = SEVERITIES.get(threat.severity, 0)
    told = {key for key, value in pairs if value}
    extension = " ".join(
        f"{key}={_value(value)}" for key, value in pairs if value and key.removesuffix("Label") in told
    )
    return "CEF:0|" + "|".join(_header(one) for one in head) + f"|{severity}|{extension}"


def render(threat: Threat, about: About) -> bytes:
    """One RFC 5424 message, without frame."""
    return syslog.message(threat, about, text(threat, about), "CEF")


def _listed(words: tuple[str, ...], longest: int) -> str:
    """Words with commas between, as many as fit."""
    told = ""
    for word in words:
        if len(told) + len(word) > longest:
            return told + ",..."
        told = f"{told},{word}" if told else word
    return told


def _header(value: str) -> str:
    """Header fields are not empty and escape backslashes. A bar becomes a slash and an equals sign a colon: common
    readers split at an escaped bar too, and look for keys in the whole line."""
    return (one_line(value) or "-").replace("\\", "\\\\").replace("|", "/").replace("=", ":")


def _value(value: str) -> str:
    """Extension values escape backslash and equals sign."""
    return one_line(value).replace("\\", "\\\\").replace("=", "\\=")


FORMAT = Format(
    name="cef",
    version="0",
    document="ArcSight Common Event Format, version 0, over RFC 5424",
    media_type="text/plain",
    render=render,
    fields=(
        ("Device Event Class ID", "phase, as threat-<phase>"),
        ("Name", "title"),
        ("Severity", "severity: informational 1, low 3, medium 5, high 8, critical 10"),
        ("externalId", "id"),
        ("rt", "decided_ms"),
        ("start, end", "first_ms, last_ms"),
        ("act", "create, update, close"),
        ("cat", "threat_types"),
        ("cnt", "number of members"),
        ("msg", "the steps in plain words, cut at 1,023 characters"),
        ("cs1", "site"),
        ("cs2", "places"),
        ("cs3", "techniques of ATT&CK"),
        ("cs4", "domains"),
        ("cs5", "assets"),
        ("cs6", "link"),
        ("cn1", "revision"),
    ),
)
