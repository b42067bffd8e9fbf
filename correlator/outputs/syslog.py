"""Syslog as a carrier: RFC 5424 messages, framed by octet count (RFC 6587 section 3.4.1; RFC 5425 over TLS).

CEF and LEEF are texts that travel in it.
"""

from __future__ import annotations

from correlator.events.threat import Threat
from correlator.outputs.format import About, is_closed, rfc3339

FACILITY = 13  # log audit (RFC 5424, table 1)
SEVERITIES = {"informational": 6, "low": 5, "medium": 4, "high": 3, "critical": 2}
ENTERPRISE = "32473"  # private enterprise number of examples (RFC 5612)
_BOM = b"\xef\xbb\xbf"


def message(threat: Threat, about: About, text: str, msgid: str) -> bytes:
    """One RFC 5424 message (section 6) with the threat's id and site as structured data."""
    priority = FACILITY * 8 + SEVERITIES.get(threat.severity, 5)
    state = "close" if is_closed(threat) else "create" if threat.revision == 1 else "update"
    params = (("id", threat.id), ("revision", str(threat.revision)), ("site", threat.site), ("activity", state))
    data = "".join(f' {name}="{_param(value)}"' for name, value in params)
    head = (
        f"<{priority}>1 {rfc3339(threat.decided_ms)} {_name(about.host, 255)} correlator - {_name(msgid, 32)}"
        f" [threat@{ENTERPRISE}{data}] "
    )
    return head.encode("ascii") + _BOM + text.encode()


def framed(body: bytes) -> bytes:
    """The message with its length in front, for TCP and TLS."""
    return str(len(body)).encode() + b" " + body


def _name(text: str, longest: int) -> str:
    """A header field: printable ASCII without spaces (section 6, PRINTUSASCII), "-" for nothing."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text)[:longest] or "-"


def _param(text: str) -> str:
    """A PARAM-VALUE (section 6.3.3): backslash, quote and bracket escaped; ASCII, so that every reader can."""
    text = "".join(char if " " <= char <= "~" else "?" for char in text)
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
