"""The vocabulary of event kinds: `<object>.<what_happened>`, one table.

Adding a kind is free; renaming one is a major version. Every table keyed by kind (findings, rates,
phrases) is checked against this one by a test.

roles: what must be present for the event to mean anything, as "role:kind|kind". OCSF classes are of
OCSF 1.8.0 (class_uid); 0 is base_event, because OCSF has no class for doors, badges or rooms.
Notable: worth a line of its own in a story and in `events.enriched`, even if no rule matched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from correlator.events.event import ENTITY_KINDS, LEVELS, ROLES


@dataclass(frozen=True, slots=True)
class Kind:
    """One event kind; `says` is its plain English phrase, used when a message brings no summary."""

    name: str
    domain: str
    roles: tuple[str, ...]
    ocsf: int
    level: str
    notable: bool
    says: str


P, C, B = "physical", "cyber", "building"
I, L, M, H, X = LEVELS  # informational, low, medium, high, critical
_DOOR = ("where:door",)
_READER = ("where:door|reader",)
_PLACE = ("observer:sensor|device|camera",)
_CAM = ("observer:camera",)
_HOST = ("target:host",)
_NET: tuple[str, ...] = ()

_ROWS: tuple[tuple[str, str, tuple[str, ...], int, str, bool, str], ...] = (
    # doors and locks
    ("door.opened", P, _DOOR, 0, I, False, "door opened"),
    ("door.closed", P, _DOOR, 0, I, False, "door closed"),
    ("door.locked", P, _DOOR, 0, I, False, "door locked"),
    ("door.unlocked", P, _DOOR, 0, I, False, "door unlocked"),
    ("door.forced", P, _DOOR, 0, M, True, "door forced open"),
    ("door.held", P, _DOOR, 0, L, True, "door held open too long"),
    ("door.tamper", P, _DOOR, 0, H, True, "door hardware tampered with"),
    ("door.fault", P, _DOOR, 0, L, True, "door hardware fault"),
    ("door.normal", P, _DOOR, 0, I, False, "door alarm ended"),
    # badges and readers
    ("badge.granted", P, _READER, 0, I, False, "badge granted"),
    ("badge.entered", P, _READER, 0, I, False, "person passed after a granted badge"),
    ("badge.not_entered", P, _READER, 0, I, False, "badge granted but nobody passed"),
    ("badge.denied", P, _READER, 0, L, True, "badge denied"),
    ("badge.unknown", P, _READER, 0, L, True, "unknown badge presented"),
    ("badge.duress", P, _READER, 0, X, True, "duress code entered"),
    ("door.exit_requested", P, _READER, 0, I, False, "exit button pressed"),
    ("reader.tamper", P, ("where:reader|door",), 0, H, True, "badge reader tampered with"),
    ("reader.offline", P, ("observer:reader",), 0, M, True, "badge reader does not answer"),
    ("reader.online", P, ("observer:reader",), 0, I, False, "badge reader answers again"),
    # sensors
    ("motion.detected", P, _PLACE, 0, I, False, "motion seen"),
    ("motion.cleared", P, _PLACE, 0, I, False, "motion ended"),
    ("presence.detected", P, _PLACE, 0, I, False, "somebody is present"),
    ("presence.cleared", P, _PLACE, 0, I, False, "nobody is present"),
    ("contact.opened", P, _PLACE, 0, I, False, "contact opened"),
    ("contact.closed", P, _PLACE, 0, I, False, "contact closed"),
    ("vibration.detected", P, _PLACE, 0, L, True, "vibration felt"),
    ("vibration.cleared", P, _PLACE, 0, I, False, "vibration ended"),
    ("glass.broken", P, _PLACE, 0, H, True, "glass broken"),
    ("panic.pressed", P, _PLACE, 0, X, True, "panic button pressed"),
    ("button.pressed", P, _PLACE, 0, I, False, "button pressed"),
    ("sensor.tamper", P, _PLACE, 0, H, True, "sensor tampered with"),
    ("sensor.tamper_cleared", P, _PLACE, 0, I, False, "sensor tamper ended"),
    ("sensor.offline", P, _PLACE, 0, L, True, "sensor does not answer"),
    ("sensor.online", P, _PLACE, 0, I, False, "sensor answers again"),
    ("sensor.battery_low", P, _PLACE, 0, L, True, "battery of a sensor is low"),
    ("sensor.battery_ok", P, _PLACE, 0, I, False, "battery of a sensor is good"),
    ("sensor.reading", B, _PLACE, 0, I, False, "reading of a sensor"),
    ("device.joined", P, _PLACE, 5019, L, True, "device joined the sensor network"),
    ("device.left", P, _PLACE, 5019, L, True, "device left the sensor network"),
    # building
    ("fire.alarm", B, _PLACE, 0, X, True, "fire alarm"),
    ("fire.cleared", B, _PLACE, 0, I, True, "fire alarm ended"),
    ("smoke.detected", B, _PLACE, 0, X, True, "smoke detected"),
    ("smoke.cleared", B, _PLACE, 0, I, True, "smoke ended"),
    ("gas.detected", B, _PLACE, 0, X, True, "gas detected"),
    ("gas.cleared", B, _PLACE, 0, I, True, "gas ended"),
    ("water.leak", B, _PLACE, 0, M, True, "water leak"),
    ("water.cleared", B, _PLACE, 0, I, False, "water leak ended"),
    ("temperature.high", B, _PLACE, 0, M, True, "temperature too high"),
    ("temperature.low", B, _PLACE, 0, M, True, "temperature too low"),
    ("temperature.normal", B, _PLACE, 0, I, False, "temperature normal again"),
    ("humidity.high", B, _PLACE, 0, L, True, "humidity too high"),
    ("power.lost", B, _PLACE, 0, H, True, "power lost"),
    ("power.restored", B, _PLACE, 0, I, True, "power restored"),
    ("setpoint.changed", B, ("target:device|sensor|host",), 5019, L, True, "set-point changed"),
    # cameras
    ("camera.offline", P, _CAM, 0, L, True, "camera went dark"),
    ("camera.online", P, _CAM, 0, I, False, "camera sees again"),
    ("camera.disabled", P, _CAM, 0, M, True, "camera switched off by configuration"),
    ("camera.tamper", P, _CAM, 0, H, True, "camera covered, turned or defocused"),
    ("camera.tamper_cleared", P, _CAM, 0, I, False, "camera view normal again"),
    ("recorder.offline", P, ("observer:device|host|software",), 0, M, True, "video recorder does not answer"),
    ("recorder.online", P, ("observer:device|host|software",), 0, I, False, "video recorder answers again"),
    ("person.seen", P, _CAM, 0, I, False, "person seen by a camera"),
    ("person.moved", P, _CAM, 0, I, False, "person moved to another camera zone"),
    ("person.left", P, _CAM, 0, I, False, "person left the picture"),
    ("object.seen", P, _CAM, 0, I, False, "object seen by a camera"),
    ("object.moved", P, _CAM, 0, I, False, "object moved"),
    ("object.left", P, _CAM, 0, I, False, "object left the picture"),
    ("face.recognised", P, _CAM, 0, I, False, "known face seen"),
    ("line.crossed", P, _CAM, 0, L, True, "line crossed"),
    ("loitering.detected", P, _CAM, 0, L, True, "somebody loiters"),
    ("crowd.detected", P, _CAM, 0, L, True, "crowd gathers"),
    ("analytics.alert", P, _CAM, 0, L, True, "video analytics alert"),
    # logons and accounts
    ("host.logon", C, _HOST, 3002, I, False, "logon"),
    ("host.logon_failed", C, _HOST, 3002, L, False, "logon failed"),
    ("host.logoff", C, _HOST, 3002, I, False, "logoff"),
    ("host.unlocked", C, _HOST, 3002, I, False, "workstation unlocked"),
    ("host.locked", C, _HOST, 3002, I, False, "workstation locked"),
    ("host.offline", C, _HOST, 0, L, True, "host does not answer"),
    ("host.online", C, _HOST, 0, I, False, "host answers"),
    ("account.created", C, ("target:account",), 3001, M, True, "account created"),
    ("account.changed", C, ("target:account",), 3001, L, False, "account changed"),
    ("account.enabled", C, ("target:account",), 3001, L, True, "account enabled"),
    ("account.disabled", C, ("target:account",), 3001, L, True, "account disabled"),
    ("account.deleted", C, ("target:account",), 3001, L, True, "account deleted"),
    ("account.locked_out", C, ("target:account",), 3001, L, True, "account locked out"),
    ("account.password_reset", C, ("target:account",), 3001, L, True, "password reset"),
    ("group.member_added", C, (), 3006, M, True, "member added to a group"),
    ("privilege.assigned", C, _HOST, 3003, I, False, "special privileges assigned"),
    ("kerberos.ticket", C, (), 3002, I, False, "Kerberos ticket issued"),
    ("kerberos.failed", C, (), 3002, L, False, "Kerberos pre-authentication failed"),
    # hosts
    ("process.created", C, _HOST, 1007, I, False, "process started"),
    ("process.ended", C, _HOST, 1007, I, False, "process ended"),
    ("process.accessed", C, _HOST, 1007, I, False, "process opened another process"),
    ("process.injected", C, _HOST, 1007, M, True, "thread created in another process"),
    ("module.loaded", C, _HOST, 1005, I, False, "module loaded"),
    ("driver.loaded", C, _HOST, 1005, L, False, "driver loaded"),
    ("file.created", C, _HOST, 1001, I, False, "file created"),
    ("file.changed", C, _HOST, 1001, L, False, "file changed"),
    ("file.deleted", C, _HOST, 1001, I, False, "file deleted"),
    ("file.accessed", C, _HOST, 1001, I, False, "file opened"),
    ("file.verdict", C, (), 2004, H, True, "malicious file found"),
    ("file.scan_failed", C, (), 0, L, True, "file could not be scanned"),
    ("registry.changed", C, _HOST, 201001, I, False, "registry changed"),
    ("pipe.created", C, _HOST, 0, I, False, "named pipe created"),
    ("wmi.subscribed", C, _HOST, 0, M, True, "WMI subscription changed"),
    ("service.installed", C, _HOST, 201002, M, True, "service installed"),
    ("service.stopped", C, _HOST, 201002, L, False, "service stopped"),
    ("service.started", C, _HOST, 201002, I, False, "service started"),
    ("task.created", C, _HOST, 1006, L, True, "scheduled task created"),
    ("usb.attached", C, _HOST, 5019, L, True, "USB storage attached"),
    ("usb.detached", C, _HOST, 5019, I, False, "USB storage detached"),
    ("log.cleared", C, _HOST, 1008, H, True, "event log cleared"),
    ("protection.disabled", C, _HOST, 5019, H, True, "protection switched off"),
    ("protection.enabled", C, _HOST, 5019, I, True, "protection switched on"),
    ("protection.updated", C, (), 5019, I, False, "protection updated"),
    ("policy.changed", C, _HOST, 5019, L, True, "security policy changed"),
    ("command.run", C, _HOST, 1007, I, False, "privileged command run"),
    ("host.alert", C, _HOST, 2004, L, True, "host security alert"),
    ("host.note", C, _HOST, 0, I, False, "host log entry"),
    ("integrity.changed", C, _HOST, 1001, M, True, "watched file changed"),
    # network
    ("network.connection", C, _NET, 4001, I, False, "network connection"),
    ("network.flow", C, _NET, 4001, I, False, "network flow ended"),
    ("network.weird", C, _NET, 4001, I, False, "odd network behaviour"),
    ("dns.query", C, _NET, 4003, I, False, "DNS query"),
    ("http.request", C, _NET, 4002, I, False, "HTTP request"),
    ("tls.handshake", C, _NET, 4001, I, False, "TLS handshake"),
    ("ssh.connection", C, _NET, 4007, I, False, "SSH connection"),
    ("smb.access", C, _NET, 4006, I, False, "file share accessed"),
    ("rdp.connection", C, _NET, 4005, I, False, "remote desktop connection"),
    ("mail.transferred", C, _NET, 4009, I, False, "mail transferred"),
    ("file.transferred", C, _NET, 4001, I, False, "file carried over the network"),
    ("dhcp.lease", C, _NET, 4004, I, False, "address leased"),
    ("arp.seen", C, _NET, 0, I, False, "ARP message"),
    ("mqtt.message", C, _NET, 4001, I, False, "MQTT message on the network"),
    ("host.discovered", C, _NET, 0, L, False, "new host on the network"),
    ("ids.alert", C, _NET, 2004, M, True, "intrusion detection alert"),
    ("ids.anomaly", C, _NET, 2004, L, False, "protocol anomaly"),
    ("ids.notice", C, _NET, 2004, L, True, "network monitor notice"),
    ("ids.stats", C, _NET, 0, I, False, "network monitor statistics"),
    # controllers, care applications, the correlator itself
    ("controller.programming", C, ("target:device|host",), 5019, H, True, "controller in programming mode"),
    ("controller.written", C, (), 4001, L, True, "controller written over the network"),
    ("controller.read", C, (), 4001, I, False, "controller read over the network"),
    ("record.queried", C, (), 6005, I, False, "records queried"),
    ("record.exported", C, (), 6005, M, True, "records exported"),
    ("record.changed", C, (), 6005, I, False, "record changed"),
    ("appointment.changed", C, (), 6005, I, False, "appointment changed"),
    ("stock.changed", C, (), 6005, I, False, "stock record changed"),
    ("mail.suspicious", C, (), 2004, M, True, "suspicious mail"),
    ("source.silent", C, (), 0, L, True, "source fell silent"),
    ("source.heard", C, (), 0, I, False, "source is heard again"),
    ("source.foreign", C, ("target:sensor|camera|device|reader|door",), 0, I, False, "another's device spoken for"),
    ("log.entry", C, (), 0, I, False, "log entry"),
)  # fmt: skip

KINDS: Final[dict[str, Kind]] = {row[0]: Kind(*row) for row in _ROWS}

for _kind in KINDS.values():  # a slip in the table is a bug of ours: fail at import, not at an alert
    assert _kind.level in LEVELS, _kind
    for _role in _kind.roles:
        _name, _, _of = _role.partition(":")
        assert _name in ROLES, _kind
        assert set(_of.split("|")) <= set(ENTITY_KINDS), _kind


def missing_roles(kind: Kind, entities: tuple[object, ...]) -> list[str]:
    """The required roles that no entity of the event fills, as written in the table."""
    have = {(entity.role, entity.kind) for entity in entities}  # type: ignore[attr-defined]
    gaps = []
    for role in kind.roles:
        name, _, kinds = role.partition(":")
        if not any((name, one) in have for one in kinds.split("|")):
            gaps.append(role)
    return gaps
