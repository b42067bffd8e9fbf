"""A public warning drafted from a threat: Common Alerting Protocol 1.2 (OASIS Standard, 1 July 2010).

What this makes is a draft: `status` says so until a person with that right approves it, and a drill stays an
exercise for ever. Scope is Private to the addresses named, unless the approval says Public. What replaces an
earlier warning names it in `references`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC
from typing import Final

from msgspec import Struct

from correlator.clock import local
from correlator.events.threat import Threat
from correlator.premises import Premises
from correlator.words.language import Language
from correlator.words.message import frame, headline, named, steps_for

NAMESPACE: Final = "urn:oasis:names:tc:emergency:cap:1.2"
_LANGUAGES: Final = {"en": "en", "fr": "fr-FR", "it": "it-IT"}
_SEVERITIES: Final = {"informational": "Minor", "low": "Minor", "medium": "Moderate", "high": "Severe",
                      "critical": "Extreme"}  # fmt: skip
_FIRE, _HEALTH, _INFRA = {"fire", "gas-release"}, {"patient-harm"}, {"power-loss", "flooding", "supply-loss"}


class Approval(Struct, frozen=True):
    """A person with the right to warn in public let it go. scope: Public, or Private to `addresses`.

    kind: Alert, Update or Cancel; before: when the earlier warnings of this threat were approved, ms UTC, oldest
    first. Their number is part of the identifier, so that each warning has its own.
    """

    who: str
    at_ms: int
    scope: str = "Private"
    addresses: tuple[str, ...] = ()
    kind: str = "Alert"
    before: tuple[int, ...] = ()


def draft(
    threat: Threat,
    places: Premises,
    languages: Sequence[Language],
    sender: str,
    approval: Approval | None = None,
    *,
    drill: bool = False,
) -> bytes:
    """The alert as XML. sender: a name without blank, comma, "<" and "&" (section 3.2.1), such as a mail address.

    Raises ValueError for a sender or addresses that CAP does not take.
    """
    if not sender or any(char in sender for char in " ,<&"):
        raise ValueError("a CAP sender has no blank, comma, < or &")
    alert = ET.Element("alert", xmlns=NAMESPACE)
    before = approval.before if approval is not None else ()
    kind = approval.kind if approval is not None and before else "Alert"
    _add(alert, "identifier", f"{threat.id}.{len(before) + 1}")
    _add(alert, "sender", sender)
    _add(alert, "sent", _sent(threat.decided_ms if approval is None else approval.at_ms, places))
    _add(alert, "status", "Exercise" if drill else "Draft" if approval is None else "Actual")
    _add(alert, "msgType", kind)
    scope = "Private" if approval is None or drill else approval.scope
    _add(alert, "scope", scope)
    if scope == "Private":
        addresses = approval.addresses if approval is not None and approval.addresses else (sender,)
        if any('"' in one for one in addresses):
            raise ValueError("a CAP address is not empty and has no quotation mark")
        _add(alert, "addresses", " ".join(f'"{one}"' if " " in one else one for one in addresses))
    if kind != "Alert":  # section 3.2.1, references: sender,identifier,sent of the messages replaced
        replaced = (f"{sender},{threat.id}.{number},{_sent(at_ms, places)}" for number, at_ms in enumerate(before, 1))
        _add(alert, "references", " ".join(replaced))
    for language in languages:
        _info(alert, threat, places, language, drill=drill)
    ET.indent(alert)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(alert, encoding="unicode").encode() + b"\n"


def _info(alert: ET.Element, threat: Threat, places: Premises, language: Language, *, drill: bool) -> None:
    info = ET.SubElement(alert, "info")
    title = headline(threat, places, language)
    if drill:
        title = f"{frame('drill', language)} - {title}"
    _add(info, "language", _LANGUAGES[language])
    _add(info, "category", _category(threat))
    _add(info, "event", title)
    _add(info, "urgency", "Immediate" if threat.severity in ("high", "critical") else "Expected")
    _add(info, "severity", _SEVERITIES.get(threat.severity, "Unknown"))
    _add(info, "certainty", "Observed" if threat.severity == "critical" else "Likely")
    _add(info, "senderName", named(places.site.name or threat.site))
    _add(info, "headline", title[:160])
    steps = [one.text[language] for one in steps_for(threat)][:2]
    if steps:
        _add(info, "instruction", " ".join(steps))
    area = ET.SubElement(info, "area")
    zones = {zone for asset in threat.assets for zone in places.zones_of(asset, threat.last_ms)}
    names = [places.site.zones[zone].name for zone in sorted(zones) if zone in places.site.zones]
    _add(area, "areaDesc", ", ".join(map(named, names[:10])) or named(places.site.name or threat.site))


def _category(threat: Threat) -> str:
    types = set(threat.threat_types)
    for category, words in (("Fire", _FIRE), ("Health", _HEALTH), ("Infra", _INFRA)):
        if types & words:
            return category
    return "Security"


def _sent(t_ms: int, places: Premises) -> str:
    """`2026-10-24T23:14:00+02:00`: whole seconds and a numeric offset, never Z (section 3.2.1, sent)."""
    text = local(t_ms, places.site.timezone or UTC).replace(microsecond=0).isoformat()
    return text.replace("Z", "+00:00")


def _add(parent: ET.Element, name: str, text: str) -> None:
    # XML 1.0 has no control characters but tab and line breaks; a device's text may hold some.
    ET.SubElement(parent, name).text = "".join(char for char in text if char >= " " or char in "\t\n")
