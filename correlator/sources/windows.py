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
from datetime import tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple

from correlator.clock import parse_iso
from correlator.events.event import Entity, Event
from correlator.events.identity import Identity
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.hiding import Hidden, IdentityPaths, hide
from correlator.sources.logparts import account_entity, host_entity, ip_entity, iso_time, part, word
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
_CONSOLE: Final = frozenset({"2", "7", "11"})
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


def _flatten(data: Fields) -> tuple[Fields, Any]:
    """(flat fields, UTC time text or None). The time of a flat object is looked for later."""
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
    if "Provider_Name" not in data:
        provider = data.get("SourceName") or data.get("ProviderName")
        if provider is not None:
            data["Provider_Name"] = provider
    if "Computer" not in data:
        name = data.get("Hostname") or data.get("ComputerName")
        if name is not None:
            data["Computer"] = name
    return data, None


def _event_id(value: Any) -> int:
    if type(value) is int:
        return value
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


class _Names(NamedTuple):
    """What the names of a record's fields tell; records of one event id have the same ones."""

    logon_ids: tuple[str, ...]
    identity: IdentityPaths
    with_spaces: tuple[str, ...]


@lru_cache(maxsize=1_024)
def _names(names: tuple[str, ...]) -> _Names:
    identity = {name: kind for name, kind in SECURITY_IDENTITY.items() if name in names}
    return _Names(
        tuple(name for name in _LOGON_IDS if name in names),
        IdentityPaths(identity, flat=True),
        tuple(name for name in names if " " in name),
    )


_LONGEST_NAMED = 16_384  # bytes of a record whose names are remembered


# ---- time ---------------------------------------------------------------------------------------


def _has_offset(text: str) -> bool:
    return text[-1:] in ("Z", "z") or text[-6:-5] in ("+", "-") or text[-5:-4] in ("+", "-")


@lru_cache(maxsize=8192)
def _local_time(text: str, zone: tzinfo) -> tuple[int, int]:
    """A whole second of a zone; a busy log has many records of the same second."""
    return parse_iso(text, zone)


def _read_time(text: str, context: Context) -> tuple[int, int] | None:
    """A time with offset as it is, one without in the declared zone; None if there is neither."""
    try:
        if len(text) > 19 and _has_offset(text[19:]):
            return iso_time(text)
        zone = context.clock.zone
        if zone is None:
            return None
        return _local_time(text, zone) if len(text) == 19 else parse_iso(text, zone)
    except (ValueError, OverflowError) as error:
        raise Unreadable("wrong_type", f"{text[:40]!r} is no time") from error


def _time(fields: Fields, given: Any, context: Context) -> tuple[int | None, int]:
    utc_time = fields.get("UtcTime")
    if type(utc_time) is str and len(utc_time) >= 19:  # Sysmon's own, in UTC without saying so
        naive = utc_time[20:].isdigit() or not _has_offset(utc_time[19:])
        try:
            return iso_time(f"{utc_time}Z" if naive else utc_time)
        except (ValueError, OverflowError) as error:
            raise Unreadable("wrong_type", "field 'UtcTime' is no time") from error
    if type(given) is str and given:
        candidates: tuple[Any, ...] = (given,)
    else:
        candidates = (fields.get("TimeCreated"), fields.get("EventTime"), fields.get("@timestamp"))
    for text in candidates:
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


@lru_cache(maxsize=1_024)
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


def _defender_files(fields: Fields) -> list[Entity | None]:
    r"""The files of `Path`: "file:_C:\a.js;containerfile:_C:\b.zip->inner", without what lies inside."""
    made: list[Entity | None] = []
    for one in word(fields.get("Path")).split(";")[:_MOST_FILES]:
        name = _DEFENDER_PATH.sub("", one.strip(), count=1).partition("->")[0]
        if name and not one.strip().startswith(("process:", "behavior:", "regkey:")):
            file = entity("target", "file", name)
            if file not in made:
                made.append(file)
    return made


_NEEDS_TARGET_ACCOUNT: Final = frozenset({
    "account.created", "account.changed", "account.enabled", "account.disabled", "account.deleted",
    "account.locked_out", "account.password_reset",
})  # fmt: skip
# The account that acts, where it is not the subject: somebody who logs on or is refused.
_TARGET_ACTS: Final = frozenset({
    "host.logon", "host.logon_failed", "host.logoff", "host.locked", "host.unlocked", "kerberos.ticket",
    "kerberos.failed",
})  # fmt: skip
_FILE_FIELDS: Final = {
    "file.created": ("TargetFilename",),
    "file.changed": ("TargetFilename",),
    "file.deleted": ("TargetFilename",),
    "file.accessed": ("ObjectName", "Device"),
    "process.created": ("Image", "NewProcessName"),
    "process.ended": ("Image", "ProcessName"),
    "module.loaded": ("ImageLoaded",),
    "driver.loaded": ("ImageLoaded",),
    "process.injected": ("TargetImage",),
    "process.accessed": ("TargetImage",),
}


def _accounts(kind: str, fields: Fields, identity: Identity, member: str) -> tuple[Entity | None, ...]:
    """Who acted and on whose account, from fields as they are written.

    Raises Unreadable("missing_field") where the event is about an account and none is named.
    """
    subject = fields.get("SubjectUserName")
    if kind in _NEEDS_TARGET_ACCOUNT:
        target = account_entity(identity, "target", fields.get("TargetUserName"), machines=True)
        if target is None:
            raise Unreadable("missing_field", "field 'TargetUserName' names no account")
        return target, account_entity(identity, "actor", subject)
    if kind == "group.member_added":
        added = account_entity(identity, "target", member, machines=True)
        return added, account_entity(identity, "actor", subject)
    if kind in _TARGET_ACTS:
        return (account_entity(identity, "actor", fields.get("TargetUserName") or subject),)
    user = subject or fields.get("User") or fields.get("Detection User") or fields.get("SourceUser")
    actor = account_entity(identity, "actor", user)
    if kind == "privilege.assigned":
        return actor, account_entity(identity, "target", fields.get("TargetUserName"))
    return (actor,)


def _entities(kind: str, fields: Fields, host: Entity, accounts: tuple[Entity | None, ...]) -> tuple[Entity, ...]:
    made = [host, *accounts]
    if kind in _TARGET_ACTS:
        made.append(ip_entity("origin", fields.get("IpAddress")))
        station = host_entity("origin", fields.get("WorkstationName") or fields.get("Workstation"))
        if station is not None and station.id != host.id:
            made.append(station)
    elif kind not in _NEEDS_TARGET_ACCOUNT and kind != "group.member_added" and "IpAddress" in fields:
        made.append(ip_entity("origin", fields["IpAddress"]))
    if kind == "file.verdict":
        made.extend(_defender_files(fields))
    elif kind == "network.connection":
        made.append(ip_entity("origin", fields.get("SourceIp") or fields.get("SourceAddress")))
        made.append(ip_entity("target", fields.get("DestinationIp") or fields.get("DestAddress")))
    else:
        for name in _FILE_FIELDS.get(kind, ()):
            value = fields.get(name)
            if type(value) is str and value:
                made.append(entity("target", "process" if kind.startswith("process.") else "file", value))
                break
        if kind.startswith("service.") and (service := word(fields.get("ServiceName"))):
            made.append(entity("target", "software", service))
    return tuple([one for one in made if one is not None])


# ---- summaries ----------------------------------------------------------------------------------


def _name(entities: tuple[Entity, ...], role: str) -> str:
    """The account of a role, or the machine whose account it is."""
    for one in entities[1:]:
        if one.role == role and one.kind in ("account", "host"):
            return one.id
    return ""


def _summary(event_id: int, kind: str, fields: Fields, entities: tuple[Entity, ...]) -> str:
    host = entities[0].id
    who = _name(entities, "actor")
    if kind in ("host.logon", "host.logon_failed"):
        words = _LOGON_WORDS.get(str(fields.get("LogonType", "")), "logon")
        if kind == "host.logon_failed":
            words = f"failed {words}"
        return f"{words} of {who or 'a system account'} on {host}"
    if kind == "file.verdict":
        return f"{word(fields.get('Threat Name')) or 'malware'} on {host}"
    if event_id == 4648:
        return f"explicit credentials of {_name(entities, 'target') or 'an account'} used on {host}"
    if kind == "usb.attached":
        return f"{word(fields.get('DeviceDescription')) or 'USB storage'} attached to {host}"
    return ""


def is_console_logon(fields: Fields) -> bool:
    """Whether a 4624 was made at the machine itself: LogonType 2, 7 or 11."""
    return str(fields.get("LogonType", "")) in _CONSOLE


# ---- decode -------------------------------------------------------------------------------------


def _flat_message(message: Message) -> tuple[Fields, Any]:
    data = parse_object(message.payload)
    fields, given = _flatten(data)
    if fields.get("EventID") is None and fields.get("Channel") is None and fields.get("Provider_Name") is None:
        raise Unreadable("not_this_dialect", "no EventID, Channel or provider: not a Windows event")
    return fields, given


def _decode(message: Message, context: Context, fields: Fields, given: Any) -> list[Event]:
    event_id = _event_id(fields.get("EventID"))
    fields["EventID"] = event_id
    computer = fields.get("Computer")
    host = host_entity("target", computer)
    if host is None:
        missing = computer is None or type(computer) is str
        raise Unreadable(
            "missing_field" if missing else "wrong_type",
            "no computer name ('Hostname', 'Computer' or 'winlog.computer_name')",
        )
    names = (_names if len(message.payload) <= _LONGEST_NAMED else _names.__wrapped__)(tuple(fields))
    for name in names.logon_ids:
        value = fields[name]
        if type(value) is int:
            fields[name] = hex(value)
        elif type(value) is str and not value.islower():
            fields[name] = value.lower()
    device_ms, sub_ns = _time(fields, given, context)
    channel = fields.get("Channel")
    table = _table(word(channel)[:200], word(fields.get("Provider_Name"))[:200])
    says = table.get(event_id, "host.note")
    kind, level = (says, "") if isinstance(says, str) else says(fields)
    member = _member(fields) if kind == "group.member_added" else ""
    accounts = _accounts(kind, fields, context.identity, member)
    if member:
        hidden = Hidden(context.identity)
        hidden.add("account", member)
        hidden.hide(fields, names.identity)
    else:
        hide(context.identity, fields, names.identity)
    if table is _DEFENDER:
        for name in names.with_spaces:
            fields.setdefault(name.replace(" ", ""), fields[name])
    if kind == "network.connection":  # its target is the other end; the host only saw it
        host = entity("observer", "host", host.id)
    entities = _entities(kind, fields, host, accounts)
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
            summary=_summary(event_id, kind, fields, entities),
        )
    ]


def decode_security(message: Message, context: Context) -> list[Event]:
    """The one event of a Windows record of any channel; ids that are not modelled give host.note.

    A Sysmon record in a mixed stream is understood too. Raises Unreadable: missing_field or wrong_type
    for EventID, the computer name, a time, and TargetUserName where an account is the subject.
    """
    fields, given = _flat_message(message)
    return _decode(message, context, fields, given)


def decode_sysmon(message: Message, context: Context) -> list[Event]:
    """The one event of a Sysmon record. Raises Unreadable("not_this_dialect") for other channels."""
    fields, given = _flat_message(message)
    if not is_sysmon(fields):
        raise Unreadable("not_this_dialect", "neither channel nor provider is Sysmon")
    return _decode(message, context, fields, given)


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
