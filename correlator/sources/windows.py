"""Windows event logs: Security, System, Defender and Sysmon records, whatever shipped them.

Follows: Microsoft Learn, "Appendix L: Events to monitor" and the pages of the single events; Sysmon 15,
"Events"; Microsoft Defender Antivirus, "Event IDs". Shapes that are understood, one object a line:

    NXLog             flat: EventID, Channel, Hostname, TargetUserName, ...
    Winlogbeat        {"@timestamp", "winlog": {"event_id", "channel", "computer_name", "event_data": {...}}}
    event XML as JSON {"Event": {"System": {...}, "EventData": {...} or "UserData": {...}}}, also without "Event"

Attributes are flat and carry the names that Sigma rules use (EventID as number, Channel, Provider_Name,
Computer and the names of EventData); the rest of an NXLog object stays as it is. Defender's names hold
spaces ("Threat Name"); they are kept and given without spaces too, as Sigma writes them. Logon ids given
as numbers become the hexadecimal text of Windows, so that a logon and its logoff join across shippers.

Time: SystemTime or an own time with offset; Sysmon's UtcTime (UTC by definition); `@timestamp`. NXLog's
EventTime is local time without offset: it is used only if the source's clock policy names a zone, and is
then preferred to `@timestamp`, which in a Logstash chain is the time of shipping.

`host` in an NXLog or Logstash object is the collector, never the machine that logged.
LogonType 2 (console), 7 (unlock) and 11 (cached) mean that somebody stands at the machine: the summary
says "console logon".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple

from correlator.clock import parse_iso
from correlator.events.event import Entity, Event
from correlator.events.identity import Identity
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.hiding import Hidden, IdentityPaths, hide
from correlator.sources.logparts import account_entity, host_entity, ip_entity, part, word
from correlator.sources.reading import Unreadable, parse_object

Fields = dict[str, Any]

_SYSMON_ACCOUNTS: Final = ("User", "UserID", "AccountName", "SourceUser", "TargetUser", "ParentUser")
_SECURITY_ACCOUNTS: Final = (
    "SubjectUserName", "SubjectUserSid", "TargetUserName", "TargetUserSid", "TargetSid", "TargetOutboundUserName",
    "MemberName", "MemberSid", "SamAccountName", "UserPrincipalName", "OldTargetUserName", "NewTargetUserName",
    "Detection User", "DetectionUser", "Remediation User", "RemediationUser",
)  # fmt: skip
SYSMON_IDENTITY: Final[dict[str, str]] = dict.fromkeys(_SYSMON_ACCOUNTS, "account")
# A stream of several channels holds Sysmon records too.
SECURITY_IDENTITY: Final[dict[str, str]] = {
    **dict.fromkeys(_SECURITY_ACCOUNTS, "account"),
    **SYSMON_IDENTITY,
    "DisplayName": "person",
}

_LOGON_IDS: Final = ("TargetLogonId", "SubjectLogonId", "LogonId", "TargetLinkedLogonId")
_LOGON_WORDS: Final = {
    "2": "console logon", "3": "network logon", "4": "batch logon", "5": "service logon", "7": "console logon",
    "8": "network logon", "9": "logon with new credentials", "10": "remote desktop logon", "11": "console logon",
    "13": "console logon",
}  # fmt: skip


# ---- shapes -------------------------------------------------------------------------------------


def _scalar(value: Any) -> Any:
    """The value of an XML element that a converter wrote as text, number or {"#text": ..., attributes}."""
    if type(value) is dict:
        for name in ("#text", "_text", "text", "Value", "value"):
            if name in value:
                return value[name]
        return None
    return value


def _xml_attribute(value: Any, name: str) -> Any:
    """An attribute of a converted XML element: {"#attributes": {n: v}}, {"@n": v} or {n: v}."""
    if type(value) is not dict:
        return None
    inner = value.get("#attributes")
    if type(inner) is not dict:
        inner = value.get("_attributes")
    if type(inner) is dict:
        return inner.get(name)
    return value.get(f"@{name}", value.get(name))


def _event_data(value: Any) -> Fields:
    """EventData as {name: value}, also from the list form [{"@Name": ..., "#text": ...}]."""
    if type(value) is not dict:
        return {}
    data = value.get("Data")
    if type(data) is list:
        made: Fields = {}
        for at, item in enumerate(data):
            name = _xml_attribute(item, "Name")
            if type(name) is str:
                made[name] = _scalar(item)
            elif not isinstance(item, dict):
                made[f"param{at + 1}"] = item
        return made
    return {name: item for name, item in value.items() if name != "#attributes"}


def _from_xml(root: Fields) -> tuple[Fields, Any]:
    system = part(root, "System")
    fields: Fields = {}
    user_data = root.get("UserData")
    if type(user_data) is dict:
        for inner in user_data.values():
            if type(inner) is dict:
                fields.update(inner)
    fields.update(_event_data(root.get("EventData")))
    fields["EventID"] = _scalar(system.get("EventID"))
    fields["Channel"] = _scalar(system.get("Channel"))
    fields["Computer"] = _scalar(system.get("Computer"))
    fields["Provider_Name"] = _xml_attribute(system.get("Provider"), "Name")
    fields["EventRecordID"] = _scalar(system.get("EventRecordID"))
    for name in ("Level", "Task", "Opcode", "Keywords", "Version"):
        if name in system:
            fields[name] = _scalar(system[name])
    user = _xml_attribute(system.get("Security"), "UserID")
    if user is not None:
        fields["UserID"] = user
    return fields, _xml_attribute(system.get("TimeCreated"), "SystemTime")


def _from_winlogbeat(data: Fields, winlog: Fields) -> tuple[Fields, Any]:
    fields: Fields = {}
    user_data = winlog.get("user_data")
    if type(user_data) is dict:
        fields.update(user_data)
    event_data = winlog.get("event_data")
    if type(event_data) is dict:
        fields.update(event_data)
    fields["EventID"] = winlog.get("event_id")
    fields["Channel"] = winlog.get("channel")
    fields["Computer"] = winlog.get("computer_name")
    fields["Provider_Name"] = winlog.get("provider_name")
    fields["EventRecordID"] = winlog.get("record_id")
    user = part(winlog, "user")
    if "identifier" in user:
        fields["UserID"] = user["identifier"]
    if "message" in data:
        fields["Message"] = data["message"]
    return fields, data.get("@timestamp")


def _merged(data: Fields) -> tuple[Fields, Any]:
    """(flat fields, UTC time text or None) of an object that holds the record further down."""
    event = data.get("Event")
    if type(event) is dict:
        return _from_xml(event)
    winlog = data.get("winlog")
    if type(winlog) is dict:
        return _from_winlogbeat(data, winlog)
    if type(data.get("System")) is dict:
        return _from_xml(data)
    if "EventData" in data:
        merged = {**data, **_event_data(data.pop("EventData"))}
        merged.pop("EventData", None)
        data = merged
    _name_origin(data)
    return data, None


def _name_origin(data: Fields) -> None:
    """Gives a flat record the names that Sigma rules use for its provider and computer."""
    if "Provider_Name" not in data:
        provider = data.get("SourceName") or data.get("ProviderName")
        if provider is not None:
            data["Provider_Name"] = provider
    if "Computer" not in data:
        name = data.get("Hostname") or data.get("ComputerName")
        if name is not None:
            data["Computer"] = name


def _event_id(value: Any) -> int:
    """The id of a record that does not give it as a number."""
    if type(value) is str:
        digits = value.strip()
        try:
            number = int(digits, 16) if digits[:2].lower() == "0x" else int(digits)
        except ValueError:
            raise Unreadable("wrong_type", "field 'EventID' is no number") from None
        if not -(2**63) <= number < 2**63:  # no event id, and no number that travels on
            raise Unreadable("wrong_type", "field 'EventID' is out of range")
        return number
    if value is None:
        raise Unreadable("missing_field", "field 'EventID' is missing")
    raise Unreadable("wrong_type", "field 'EventID' must be a number")


class _Shape(NamedTuple):
    """What the names of a record's fields tell; records of one event id have the same ones.

    whole: the record may lie further down. times: where a time may stand beside UtcTime.
    """

    whole: bool
    times: tuple[str, ...]
    logon_ids: tuple[str, ...]
    identity: IdentityPaths
    with_spaces: tuple[str, ...]


_PARTS: Final = frozenset({"Event", "winlog", "System", "EventData"})


@lru_cache(maxsize=1_024)
def _known_shape(names: tuple[str, ...]) -> _Shape:
    identity = {name: kind for name, kind in SECURITY_IDENTITY.items() if name in names}
    return _Shape(
        not _PARTS.isdisjoint(names),
        tuple(name for name in ("TimeCreated", "EventTime", "@timestamp") if name in names),
        tuple(name for name in _LOGON_IDS if name in names),
        IdentityPaths(identity, flat=True),
        tuple(name for name in names if " " in name),
    )


_LONGEST_NAMED = 16_384  # bytes of a record whose names are remembered


def _shape(fields: Fields, size: int) -> _Shape:
    return (_known_shape if size <= _LONGEST_NAMED else _known_shape.__wrapped__)(tuple(fields))


# ---- time ---------------------------------------------------------------------------------------


def _has_offset(text: str) -> bool:
    return text[-1:] in ("Z", "z") or text[-6:-5] in ("+", "-") or text[-5:-4] in ("+", "-")


@lru_cache(maxsize=8192)
def _local_time(text: str, zone: tzinfo) -> tuple[int, int]:
    """A whole second of a zone; a busy log has many records of the same second."""
    return parse_iso(text, zone)


def _read_time(text: str, context: Context) -> tuple[int, int] | None:
    """A time with offset as it is, one without in the declared zone; None if there is neither."""
    zone = context.clock.zone
    try:
        if len(text) > 19 and _has_offset(text[19:]):
            return parse_iso(text)
        if zone is None:
            return None
        return _local_time(text, zone) if len(text) == 19 else parse_iso(text, zone)
    except (ValueError, OverflowError) as error:
        raise Unreadable("wrong_type", "a time is no time", text[:40]) from error


def _time(fields: Fields, shape: _Shape, given: Any, context: Context) -> tuple[int | None, int]:
    utc_time = fields.get("UtcTime")
    if type(utc_time) is str and len(utc_time) >= 19:  # Sysmon's own, in UTC without saying so
        try:
            return parse_iso(utc_time, UTC)
        except (ValueError, OverflowError) as error:
            raise Unreadable("wrong_type", "field 'UtcTime' is no time") from error
    if type(given) is str and given:
        return _read_time(given, context) or (None, 0)
    for name in shape.times:
        text = fields[name]
        if type(text) is str and text:
            made = _read_time(text, context)
            if made is not None:
                return made
    return None, 0


# ---- kinds --------------------------------------------------------------------------------------

# (kind, level) where the fields decide; level "" keeps the kind's own.
_Refined = tuple[str, str]
_Table = dict[int, str | Callable[[Fields], _Refined]]

_STATUS_OK: Final = frozenset({"", "0x0", "0x00000000", "0"})


def _is_usb_storage(fields: Fields) -> bool:
    """6416 is any plug-and-play device: storage is USBSTOR, USB class 08 or a portable device on USB."""
    device = word(fields.get("DeviceId")).upper()
    compatible = word(fields.get("CompatibleIds")).upper()
    if "USBSTOR" in device or "USB\\CLASS_08" in compatible:
        return True
    return word(fields.get("ClassName")).upper() == "WPD" and device.startswith("USB")


def _failed(fields: Fields) -> bool:
    return str(fields.get("Status", "")).lower() not in _STATUS_OK


def _kerberos(fields: Fields) -> _Refined:
    return ("kerberos.failed" if _failed(fields) else "kerberos.ticket"), ""


def _validated(fields: Fields) -> _Refined:
    return ("host.logon_failed" if _failed(fields) else "host.note"), ""


def _plugged_in(fields: Fields) -> _Refined:
    return ("usb.attached" if _is_usb_storage(fields) else "host.note"), ""


def _accessed(fields: Fields) -> _Refined:
    return ("file.accessed" if fields.get("ObjectType", "File") == "File" else "host.note"), ""


def _service_state(fields: Fields) -> _Refined:
    words = {"stopped": "service.stopped", "running": "service.started"}
    return words.get(word(fields.get("param2")).lower(), "host.note"), ""


def _threat_found(fields: Fields) -> _Refined:
    severity = word(fields.get("Severity Name")).lower()
    return "file.verdict", {"low": "low", "moderate": "medium"}.get(severity, "")


def _threat_removed(_: Fields) -> _Refined:
    return "file.verdict", "low"  # the action succeeded: the threat is dealt with


def _sensor_state(fields: Fields) -> _Refined:
    stopped = word(fields.get("State")).lower() == "stopped"
    return ("protection.disabled" if stopped else "protection.enabled"), ""


_SECURITY: Final[_Table] = {
    1102: "log.cleared",
    4624: "host.logon",
    4625: "host.logon_failed",
    4634: "host.logoff",
    4647: "host.logoff",
    4648: "privilege.assigned",
    4657: "registry.changed",
    4663: _accessed,
    4672: "privilege.assigned",
    4688: "process.created",
    4689: "process.ended",
    4697: "service.installed",
    4698: "task.created",
    4616: "policy.changed",
    4719: "policy.changed",
    4739: "policy.changed",
    4720: "account.created",
    4741: "account.created",
    4722: "account.enabled",
    4723: "account.changed",
    4724: "account.password_reset",
    4725: "account.disabled",
    4726: "account.deleted",
    4743: "account.deleted",
    4738: "account.changed",
    4742: "account.changed",
    4767: "account.changed",
    4781: "account.changed",
    4740: "account.locked_out",
    4728: "group.member_added",
    4732: "group.member_added",
    4756: "group.member_added",
    4768: _kerberos,
    4769: _kerberos,
    4771: "kerberos.failed",
    4776: _validated,
    4800: "host.locked",
    4801: "host.unlocked",
    4946: "policy.changed",
    4947: "policy.changed",
    4948: "policy.changed",
    4950: "policy.changed",
    5024: "protection.enabled",
    5025: "protection.disabled",
    5140: "smb.access",
    5145: "smb.access",
    5156: "network.connection",
    6416: _plugged_in,
}
_SYSTEM: Final[_Table] = {104: "log.cleared", 7045: "service.installed", 7036: _service_state}
_DEFENDER: Final[_Table] = {
    1006: _threat_found,
    1007: _threat_removed,
    1008: _threat_found,
    1015: "host.alert",
    1116: _threat_found,
    1117: _threat_removed,
    1118: _threat_found,
    1119: _threat_found,
    1121: "host.alert",
    2000: "protection.updated",
    2002: "protection.updated",
    5000: "protection.enabled",
    5001: "protection.disabled",
    5007: "policy.changed",
    5009: "protection.enabled",
    5010: "protection.disabled",
    5011: "protection.enabled",
    5012: "protection.disabled",
    5013: "host.alert",
}
_SYSMON: Final[_Table] = {
    1: "process.created",
    2: "file.changed",
    3: "network.connection",
    4: _sensor_state,
    5: "process.ended",
    6: "driver.loaded",
    7: "module.loaded",
    8: "process.injected",
    9: "file.accessed",
    10: "process.accessed",
    11: "file.created",
    12: "registry.changed",
    13: "registry.changed",
    14: "registry.changed",
    15: "file.created",
    16: "policy.changed",
    17: "pipe.created",
    18: "pipe.created",
    19: "wmi.subscribed",
    20: "wmi.subscribed",
    21: "wmi.subscribed",
    22: "dns.query",
    23: "file.deleted",
    25: "process.injected",
    26: "file.deleted",
    27: "host.alert",
    28: "host.alert",
    29: "file.created",
}

# Which table: by the end of the channel or provider, in lower case. "Security" must come after the
# longer names that hold the word.
_TABLES: Final[tuple[tuple[str, _Table], ...]] = (
    ("sysmon", _SYSMON),
    ("defender", _DEFENDER),
    ("security-auditing", _SECURITY),
    ("eventlog", {**_SYSTEM, 1102: "log.cleared"}),
    ("service control manager", _SYSTEM),
)


def _table(channel: str, provider: str) -> _Table:
    """Event id -> kind, or what decides it, for a channel and provider; empty if we know neither."""
    channel, provider = channel.lower(), provider.lower()
    if channel == "security":
        return _SECURITY
    if channel == "system":
        return _SYSTEM
    for name, table in _TABLES:
        if name in channel or name in provider:
            return table
    return {}


@lru_cache(maxsize=4_096)
def _says(event_id: int, channel: str, provider: str) -> tuple[str | Callable[[Fields], _Refined], bool]:
    """(kind, or what decides it; whether it is Defender's) of an event id of a channel and provider."""
    table = _table(channel, provider)
    return table.get(event_id, "host.note"), table is _DEFENDER


_SYSMON_CHANNEL: Final = "Microsoft-Windows-Sysmon/Operational"


def is_sysmon(fields: Fields) -> bool:
    """Whether flat fields are of a Sysmon record."""
    channel = fields.get("Channel")
    if channel == _SYSMON_CHANNEL:
        return True
    return "sysmon" in word(channel).lower() or "sysmon" in word(fields.get("Provider_Name")).lower()


# ---- entities -----------------------------------------------------------------------------------


_COMMON_NAME: Final = re.compile(r"(?i)cn=((?:[^,\\]|\\.)+)")


def _member(fields: Fields) -> str:
    """Who was added to a group: the common name of MemberName (a DN), which is "-" on workstations; then the SID."""
    member = word(fields.get("MemberName"))
    common = _COMMON_NAME.match(member)
    return common[1] if common else member if member not in ("", "-") else word(fields.get("MemberSid"))


_DEFENDER_PATH: Final = re.compile(r"^(?:file|containerfile|webfile|behavior|process|regkey|amsi|uefi):_?")
_MOST_FILES = 8


def _defender_files(fields: Fields) -> list[Entity]:
    r"""The files of `Path`: "file:_C:\a.js;containerfile:_C:\b.zip->inner", without what lies inside."""
    made: list[Entity] = []
    for one in word(fields.get("Path")).split(";")[:_MOST_FILES]:
        name = _DEFENDER_PATH.sub("", one.strip(), count=1).partition("->")[0]
        if name and not one.strip().startswith(("process:", "behavior:", "regkey:")):
            file = entity("target", "file", name)
            if file not in made:
                made.append(file)
    return made


# What a kind is about: (kind of the entity, fields that name it, the first that is filled).
_THINGS: Final = {
    "file.created": ("file", ("TargetFilename",)),
    "file.changed": ("file", ("TargetFilename",)),
    "file.deleted": ("file", ("TargetFilename",)),
    "file.accessed": ("file", ("ObjectName", "Device")),
    "process.created": ("process", ("Image", "NewProcessName")),
    "process.ended": ("process", ("Image", "ProcessName")),
    "module.loaded": ("file", ("ImageLoaded",)),
    "driver.loaded": ("file", ("ImageLoaded",)),
    "process.injected": ("process", ("TargetImage",)),
    "process.accessed": ("process", ("TargetImage",)),
    **dict.fromkeys(("service.installed", "service.started", "service.stopped"), ("software", ("ServiceName",))),
}
_NOTHING: Final[tuple[str, tuple[str, ...]]] = ("", ())


_Told = list[Entity]  # what a record is about so far; the machine stands first


def _add(told: _Told, one: Entity | None) -> None:
    if one is not None:
        told.append(one)


def _changed_account(told: _Told, fields: Fields, identity: Identity) -> None:
    """Raises Unreadable("missing_field") where no account is named."""
    target = account_entity(identity, "target", fields.get("TargetUserName"), machines=True)
    if target is None:
        raise Unreadable("missing_field", "field 'TargetUserName' names no account")
    told.append(target)
    _add(told, account_entity(identity, "actor", fields.get("SubjectUserName")))


def _added_member(told: _Told, fields: Fields, identity: Identity) -> None:
    _add(told, account_entity(identity, "target", _member(fields), machines=True))
    _add(told, account_entity(identity, "actor", fields.get("SubjectUserName")))


def _target_acts(told: _Told, fields: Fields, identity: Identity) -> None:
    who = account_entity(identity, "actor", fields.get("TargetUserName") or fields.get("SubjectUserName"))
    if who is not None:
        told.append(who)


def _user_acts(told: _Told, fields: Fields, identity: Identity) -> None:
    user = fields.get("SubjectUserName") or fields.get("User")
    user = user or fields.get("Detection User") or fields.get("SourceUser")
    who = account_entity(identity, "actor", user)
    if who is not None:
        told.append(who)


def _privileged(told: _Told, fields: Fields, identity: Identity) -> None:
    _user_acts(told, fields, identity)
    _add(told, account_entity(identity, "target", fields.get("TargetUserName")))


def _nothing_else(told: _Told, fields: Fields, kind: str) -> None:
    pass


def _where_from(told: _Told, fields: Fields, kind: str) -> None:
    """Where somebody who logs on sits."""
    origin = ip_entity("origin", fields.get("IpAddress"))
    if origin is not None:
        told.append(origin)
    station = host_entity("origin", fields.get("WorkstationName") or fields.get("Workstation"))
    if station is not None and station.id != told[0].id:
        told.append(station)


def _things(told: _Told, fields: Fields, kind: str) -> None:
    """The address, and the file, process or service that a record is about."""
    if "IpAddress" in fields:
        _add(told, ip_entity("origin", fields["IpAddress"]))
    of, names = _THINGS.get(kind, _NOTHING)
    for name in names:
        value = fields.get(name)
        if type(value) is str and value:
            told.append(entity("target", of, value))
            return


def _connection(told: _Told, fields: Fields, kind: str) -> None:
    told[0] = entity("observer", "host", told[0].id)  # its target is the other end; the host only saw it
    _things(told, fields, kind)
    _add(told, ip_entity("origin", fields.get("SourceIp") or fields.get("SourceAddress")))
    _add(told, ip_entity("target", fields.get("DestinationIp") or fields.get("DestAddress")))


def _verdict(told: _Told, fields: Fields, kind: str) -> None:
    _things(told, fields, kind)
    told.extend(_defender_files(fields))


# ---- summaries ----------------------------------------------------------------------------------


def _name(entities: tuple[Entity, ...], role: str) -> str:
    """The account of a role, or the machine whose account it is."""
    for one in entities[1:]:
        if one.role == role and one.kind in ("account", "host"):
            return one.id
    return ""


_Summary = Callable[[Fields, tuple[Entity, ...]], str]


def _logon_summary(fields: Fields, entities: tuple[Entity, ...]) -> str:
    words = _LOGON_WORDS.get(str(fields.get("LogonType", "")), "logon")
    return f"{words} of {_name(entities, 'actor') or 'a system account'} on {entities[0].id}"


def _failed_summary(fields: Fields, entities: tuple[Entity, ...]) -> str:
    return f"failed {_logon_summary(fields, entities)}"


def _verdict_summary(fields: Fields, entities: tuple[Entity, ...]) -> str:
    return f"{word(fields.get('Threat Name')) or 'malware'} on {entities[0].id}"


def _credentials_summary(fields: Fields, entities: tuple[Entity, ...]) -> str:
    if fields["EventID"] != _EXPLICIT_CREDENTIALS:
        return ""
    return f"explicit credentials of {_name(entities, 'target') or 'an account'} used on {entities[0].id}"


def _usb_summary(fields: Fields, entities: tuple[Entity, ...]) -> str:
    return f"{word(fields.get('DeviceDescription')) or 'USB storage'} attached to {entities[0].id}"


_EXPLICIT_CREDENTIALS: Final = 4648


class _Telling(NamedTuple):
    """How records of a kind are told: who acts on whose account, what else they are about, in what words."""

    accounts: Callable[[_Told, Fields, Identity], None] = _user_acts
    things: Callable[[_Told, Fields, str], None] = _things
    summary: _Summary | None = None


_TELLING: Final[dict[str, _Telling]] = {
    **dict.fromkeys(
        ("account.created", "account.changed", "account.enabled", "account.disabled", "account.deleted",
         "account.locked_out", "account.password_reset"),
        _Telling(_changed_account, _nothing_else),
    ),
    "group.member_added": _Telling(_added_member, _nothing_else),
    # The account that acts is not the subject: somebody who logs on or is refused.
    **dict.fromkeys(
        ("host.logoff", "host.locked", "host.unlocked", "kerberos.ticket", "kerberos.failed"),
        _Telling(_target_acts, _where_from),
    ),
    "host.logon": _Telling(_target_acts, _where_from, _logon_summary),
    "host.logon_failed": _Telling(_target_acts, _where_from, _failed_summary),
    "privilege.assigned": _Telling(_privileged, _things, _credentials_summary),
    "network.connection": _Telling(_user_acts, _connection),
    "file.verdict": _Telling(_user_acts, _verdict, _verdict_summary),
    "usb.attached": _Telling(_user_acts, _things, _usb_summary),
}  # fmt: skip
_OTHERS: Final = _Telling()


# ---- decode -------------------------------------------------------------------------------------


def _flat_message(message: Message) -> tuple[Fields, _Shape, Any]:
    fields, given = parse_object(message.payload), None
    size = len(message.payload)
    shape = _shape(fields, size)
    if shape.whole:
        fields, given = _merged(fields)
        shape = _shape(fields, size)
    else:
        _name_origin(fields)
    if fields.get("EventID") is None and fields.get("Channel") is None and fields.get("Provider_Name") is None:
        raise Unreadable("not_this_dialect", "no EventID, Channel or provider: not a Windows event")
    return fields, shape, given


def _decode(message: Message, context: Context, fields: Fields, shape: _Shape, given: Any) -> list[Event]:
    event_id = fields.get("EventID")
    if type(event_id) is not int:
        event_id = fields["EventID"] = _event_id(event_id)
    computer = fields.get("Computer")
    host = host_entity("target", computer)
    if host is None:
        missing = computer is None or type(computer) is str
        raise Unreadable(
            "missing_field" if missing else "wrong_type",
            "no computer name ('Hostname', 'Computer' or 'winlog.computer_name')",
        )
    for name in shape.logon_ids:
        value = fields[name]
        if type(value) is str:
            fields[name] = value.lower()
        elif type(value) is int:
            fields[name] = hex(value)
    device_ms, sub_ns = _time(fields, shape, given, context)
    channel = fields.get("Channel")
    provider = fields.get("Provider_Name")
    says, defender = _says(
        event_id, channel[:200] if type(channel) is str else "", provider[:200] if type(provider) is str else ""
    )
    kind, level = (says, "") if type(says) is str else says(fields)  # type: ignore[operator]
    telling = _TELLING.get(kind, _OTHERS)
    told = [host]
    telling.accounts(told, fields, context.identity)
    if kind == "group.member_added" and (member := _member(fields)):
        hidden = Hidden(context.identity)
        hidden.add("account", member)
        hidden.hide(fields, shape.identity)
    else:
        hide(context.identity, fields, shape.identity)
    if defender:
        for name in shape.with_spaces:
            fields.setdefault(name.replace(" ", ""), fields[name])
    telling.things(told, fields, kind)
    entities = tuple(told)
    record = fields.get("EventRecordID", fields.get("RecordNumber"))
    native_id = ""
    if type(record) is int or (type(record) is str and record):
        native_id = f"{host.id}/{channel}/{record}/{event_id}/{device_ms}"
    return [
        context.event(
            message,
            kind,
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=native_id,
            entities=entities,
            attributes=fields,
            level=level,
            summary="" if telling.summary is None else telling.summary(fields, entities),
        )
    ]


def decode_security(message: Message, context: Context) -> list[Event]:
    """The one event of a Windows record of any channel; ids that are not modelled give host.note.

    A Sysmon record in a mixed stream is understood too. Raises Unreadable: missing_field or wrong_type
    for EventID, the computer name, a time, and TargetUserName where an account is the subject.
    """
    return _decode(message, context, *_flat_message(message))


def decode_sysmon(message: Message, context: Context) -> list[Event]:
    """The one event of a Sysmon record. Raises Unreadable("not_this_dialect") for other channels."""
    fields, shape, given = _flat_message(message)
    if not is_sysmon(fields):
        raise Unreadable("not_this_dialect", "neither channel nor provider is Sysmon")
    return _decode(message, context, fields, shape, given)


def _dialect(
    name: str,
    title: str,
    follows: str,
    decode: Callable[[Message, Context], list[Event]],
    identity_fields: dict[str, str],
) -> Dialect:
    return Dialect(
        name=name,
        title=title,
        follows=follows,
        transport="lines",
        clock=ClockPolicy(zone=None),
        polarity={},
        retain="ignore",
        native_id="computer, Channel, EventRecordID or RecordNumber, EventID and time",
        duplicates="native",
        identity_fields=identity_fields,
        decode_message=decode,
    )


SECURITY: Final = _dialect(
    "windows-security",
    "Windows event logs (Security, System, Defender)",
    "Microsoft Learn, Windows security auditing events; Defender Antivirus event ids",
    decode_security,
    SECURITY_IDENTITY,
)
SYSMON: Final = _dialect("sysmon", "Sysmon", "Sysinternals Sysmon 15, Events", decode_sysmon, SYSMON_IDENTITY)
