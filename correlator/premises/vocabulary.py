"""The closed words of the site graph: asset classes, relation types, threat types.

Each is one table. `docs/site.md` shows the same tables; a test compares them, `tables_markdown` prints
them. Adding a word is free, renaming one is a major version.

Sources: the asset classes and the five relation patterns are those of the SAFECARE ontology (operational
dependency, leads-to, hosts-content, controls, whole-part); "protection" stands for its protection
module. Technique ids are of MITRE ATT&CK for Enterprise and for ICS; what happens to rooms, doors and
people has no technique there and carries only our own id, `x-cps-<word>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OUTSIDE: Final = "outside"  # the side of a door that is no zone of the site

ASSET_CLASSES: Final[dict[str, str]] = {
    "zone": "a room, corridor or area",
    "door": "a door, gate, lift or stair between two zones",
    "reader": "a badge reader or keypad",
    "sensor": "a contact, motion, glass, temperature, smoke or power sensor",
    "camera": "a camera",
    "controller": "something that operates doors, air, power or lifts",
    "medical_device": "an infusion pump, scanner, ventilator, dispensing cabinet",
    "building_device": "a chiller, generator, freezer, air handler",
    "device": "any other device",
    "host": "a computer, server, phone or virtual machine",
    "network": "a network, segment or VLAN",
    "software": "an application or system software",
    "data_store": "a database, share or archive",
    "service": "a care or support service people depend on",
    "person": "somebody who works or moves here",
    "badge": "a card, tag or code",
    "account": "a login",
    "supply": "power, water, oxygen, drugs, vaccines",
    "protection": "what lowers the effect of a threat: a guard, firewall, camera watch, antivirus",
}

# Things that stand in the building and may be named by any of the device-like entity kinds.
_DEVICES: Final = ("device", "medical_device", "building_device", "controller", "sensor", "reader", "camera", "host")

# Entity kind of an event -> classes of the assets it may name, best first. Kinds that are no things of
# a site (process, file, url) are not here and never resolve.
KIND_CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "zone": ("zone",),
    "door": ("door",),
    "reader": ("reader", "controller", "device"),
    "sensor": ("sensor", *(name for name in _DEVICES if name != "sensor"), "supply"),
    "camera": ("camera",),
    "device": (*_DEVICES, "supply"),
    "host": ("host", *(name for name in _DEVICES if name != "host")),
    "ip": (),  # by address
    "mac": (),
    "network": ("network",),
    "person": ("person",),
    "badge": ("badge",),
    "account": ("account",),
    "software": ("software", "service", "host"),
    "data_store": ("data_store",),
    "service": ("service", "software"),
}


@dataclass(frozen=True, slots=True)
class RelationType:
    """One relation type; `source --type--> target`.

    pattern           SAFECARE pattern
    says              "source ... target" in words; also tells which way round it is written
    sources, targets  asset classes allowed at each end; () allows any
    forward, backward linking weights along and against the relation, 0..1
    impact_forward, impact_backward   how far harm to one end harms the other, 0..1
    """

    name: str
    pattern: str
    says: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    forward: float
    backward: float
    impact_forward: float
    impact_backward: float


_PLACES = ("zone", "door")
_NETWORKED = (*_DEVICES, "network", "software", "data_store")

_RELATION_ROWS: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...], float, float, float, float], ...] = (
    ("in_zone", "hosts-content", "stands in", (), ("zone",), 0.4, 0.9, 0.2, 0.6),
    ("leads_to", "leads-to", "leads to", _PLACES, _PLACES, 0.5, 0.4, 0.4, 0.4),
    ("hosts", "hosts-content", "hosts", (), (), 0.3, 0.2, 0.9, 0.1),
    ("controls", "controls", "controls", (), (), 0.9, 0.05, 0.9, 0.0),
    ("depends_on", "operational dependency", "depends on", (), (), 0.2, 0.8, 0.0, 0.9),
    ("part_of", "whole-part", "is part of", (), (), 0.9, 0.3, 0.5, 0.6),
    ("monitored_by", "operational dependency", "is monitored by", (), (), 0.3, 0.3, 0.0, 0.3),
    ("covers", "protection", "covers", ("camera", "sensor", "device", "building_device"), (), 0.3, 0.15, 0.3, 0.0),
    ("exposed_to", "leads-to", "can be reached from", _NETWORKED, ("network",), 0.3, 0.3, 0.3, 0.3),
    ("connects", "leads-to", "is connected to", _NETWORKED, _NETWORKED, 0.3, 0.3, 0.3, 0.3),
    ("site_link", "leads-to", "is joined, across a firewall or between buildings, to",
     ("zone", "network"), ("zone", "network"), 0.1, 0.1, 0.1, 0.1),
    ("holds", "hosts-content", "holds", (), (), 0.3, 0.9, 0.5, 0.1),
    ("owns", "hosts-content", "owns", ("person",), (), 0.3, 0.9, 0.5, 0.1),
    ("works_in", "leads-to", "works in", ("person",), ("zone",), 0.3, 0.05, 0.1, 0.1),
    ("protects", "protection", "protects", ("protection",), (), 0.0, 0.0, 0.0, 0.0),
)  # fmt: skip

RELATION_TYPES: Final[dict[str, RelationType]] = {row[0]: RelationType(*row) for row in _RELATION_ROWS}

# Relations over which one host can reach another; each is passable both ways.
NETWORK_RELATIONS: Final = frozenset({"connects", "exposed_to", "site_link", "hosts"})


@dataclass(frozen=True, slots=True)
class ThreatType:
    """What may be done to an asset: a word for `threat-type` in rules and `against` in protections.

    domain      physical, cyber or building
    techniques  MITRE ATT&CK ids, () where ATT&CK has none
    own_id      `x-cps-<word>`, always there
    """

    name: str
    domain: str
    says: str
    techniques: tuple[str, ...]

    @property
    def own_id(self) -> str:
        """Our own technique id."""
        return f"x-cps-{self.name}"


_THREAT_ROWS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    # physical
    ("intrusion", "physical", "somebody enters without right", ()),
    ("forced-entry", "physical", "a door or window is broken open", ()),
    ("tailgating", "physical", "somebody slips in behind a badge holder", ()),
    ("unauthorised-presence", "physical", "somebody is where they should not be", ()),
    ("badge-misuse", "physical", "a badge or code is used by somebody else, copied or kept", ()),
    ("loitering", "physical", "somebody waits or spies without reason", ()),
    ("crowd", "physical", "too many people in one place", ()),
    ("theft", "physical", "something is taken away", ()),
    ("sabotage", "physical", "something is damaged or put out of order on purpose", ("T0879",)),
    ("device-tampering", "physical", "a device is opened, moved or interfered with by hand", ("T1200",)),
    ("surveillance-loss", "physical", "cameras or sensors do not see", ("T0815", "T0829")),
    ("violence", "physical", "somebody is threatened or hurt", ()),
    # building
    ("fire", "building", "fire or smoke", ()),
    ("flooding", "building", "water where it should not be", ()),
    ("gas-release", "building", "gas where it should not be", ()),
    ("power-loss", "building", "electric power fails", ("T0826",)),
    ("unsuitable-temperature", "building", "a room or store is too warm or too cold", ("T0831",)),
    ("supply-loss", "building", "water, oxygen, drugs or another supply runs out", ()),
    # cyber
    ("reconnaissance", "cyber", "networks and hosts are scanned", ("T1595", "T1046")),
    ("phishing", "cyber", "people are lured by mail or message", ("T1566",)),
    ("credential-attack", "cyber", "passwords are guessed or stolen", ("T1110", "T1003", "T1552")),
    ("account-misuse", "cyber", "a valid login is used by somebody else or outside its purpose", ("T1078",)),
    ("account-change", "cyber", "accounts or rights are created or widened", ("T1136", "T1098")),
    ("exploitation", "cyber", "a weakness of a host or service is used", ("T1190", "T1210")),
    ("malware", "cyber", "harmful software runs", ("T1204", "T1059")),
    ("removable-media", "cyber", "storage is plugged in", ("T1091", "T0847")),
    ("rogue-device", "cyber", "a device joins a network it does not belong to", ("T1200", "T0860")),
    ("privilege-escalation", "cyber", "rights are raised", ("T1068", "T1548")),
    ("persistence", "cyber", "something is left behind to come back", ("T1543", "T1053", "T1546")),
    ("defence-evasion", "cyber", "protection or logging is switched off or wiped", ("T1562", "T1070")),
    ("lateral-movement", "cyber", "one host is used to reach the next", ("T1021", "T0886")),
    ("command-and-control", "cyber", "a host is steered from outside", ("T1071",)),
    ("data-access", "cyber", "records are read in bulk or without reason", ("T1005", "T1213")),
    ("data-manipulation", "cyber", "records or readings are falsified", ("T1565", "T0836")),
    ("data-theft", "cyber", "data leaves the site", ("T1041", "T1048", "T1052")),
    ("data-destruction", "cyber", "data is wiped", ("T1485",)),
    ("ransomware", "cyber", "data is encrypted for ransom", ("T1486", "T1490")),
    ("denial-of-service", "cyber", "a service, host or network is overloaded or stopped",
     ("T1498", "T1499", "T1489", "T0814")),
    ("control-manipulation", "cyber", "set-points or commands of a controller are changed",
     ("T0831", "T0855", "T0836", "T0858")),
    ("alarm-suppression", "cyber", "alarms are switched off or thresholds moved", ("T0878", "T0838")),
    ("system-failure", "cyber", "a host, application or network does not work", ("T0826",)),
    # what people at the end of the chain feel
    ("service-unavailable", "building", "a care service cannot be given", ("T0826",)),
    ("patient-harm", "physical", "patients come to harm", ("T0880",)),
)  # fmt: skip

THREAT_TYPES: Final[dict[str, ThreatType]] = {row[0]: ThreatType(*row) for row in _THREAT_ROWS}

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def tables_markdown() -> str:
    """The tables of this module as Markdown, the text that `docs/site.md` holds between its markers."""
    lines = ["### Asset classes", "", "| class | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {says} |" for name, says in ASSET_CLASSES.items()]
    lines += ["", "### Relation types", "",
              "| type | `from` ... `to` | from | to | pattern | linking fwd / back | impact fwd / back |",
              "|---|---|---|---|---|---|---|"]  # fmt: skip
    for relation in RELATION_TYPES.values():
        ends = [", ".join(classes) or "any" for classes in (relation.sources, relation.targets)]
        lines.append(
            f"| `{relation.name}` | {relation.says} | {ends[0]} | {ends[1]} | {relation.pattern} "
            f"| {relation.forward:g} / {relation.backward:g} "
            f"| {relation.impact_forward:g} / {relation.impact_backward:g} |"
        )
    lines += ["", "### Threat types", "", "| word | domain | what happens | ATT&CK |", "|---|---|---|---|"]
    for threat in THREAT_TYPES.values():
        ids = ", ".join(threat.techniques) or "-"
        lines.append(f"| `{threat.name}` | {threat.domain} | {threat.says} | {ids} |")
    return "\n".join(lines) + "\n"
