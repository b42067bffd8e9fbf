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
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.hiding import Hidden, IdentityPaths
from correlator.sources.logparts import account_entity, host_entity, ip_entity, iso_time, present
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
_IDENTITY_PATHS: Final = IdentityPaths(SECURITY_IDENTITY, flat=True)

_LOGON_IDS: Final = ("TargetLogonId", "SubjectLogonId", "LogonId", "TargetLinkedLogonId")
_CONSOLE: Final = frozenset({"2", "7", "11"})
_LOGON_WORDS: Final = {
    "2": "console logon", "3": "network logon", "4": "batch logon", "5": "service logon", "7": "console logon",
    "8": "network logon", "9": "logon with new credentials", "10": "remote desktop logon", "11": "console logon",
    "13": "console logon",
}  # fmt: skip


# ---- shapes -------------------------------------------------------------------------------------


def _dict(value: Any) -> Fields:
    return value if type(value) is dict else {}


def _text(value: Any) -> str:
    return value if type(value) is str else ""


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
    system = _dict(root.get("System"))
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
    user = _dict(winlog.get("user"))
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
            return int(digits, 16) if digits[:2].lower() == "0x" else int(digits)
        except ValueError:
            raise Unreadable("wrong_type", "field 'EventID' is no number") from None
    if value is None:
        raise Unreadable("missing_field", "field 'EventID' is missing")
    raise Unreadable("wrong_type", "field 'EventID' must be a number")


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
        try:
            return iso_time(utc_time if _has_offset(utc_time[19:]) else utc_time.replace(" ", "T") + "Z")
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

_SECURITY: Final[dict[int, str]] = {
    1102: "log.cleared",
    4624: "host.logon",
    4625: "host.logon_failed",
    4634: "host.logoff",
    4647: "host.logoff",
    4648: "privilege.assigned",
    4657: "registry.changed",
    4663: "file.accessed",
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
    4768: "kerberos.ticket",
    4769: "kerberos.ticket",
    4771: "kerberos.failed",
    4776: "host.logon_failed",
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
    6416: "usb.attached",
}
_SYSTEM: Final[dict[int, str]] = {104: "log.cleared", 7045: "service.installed", 7036: "service.started"}
_DEFENDER: Final[dict[int, str]] = {
    1006: "file.verdict",
    1007: "file.verdict",
    1008: "file.verdict",
    1015: "host.alert",
    1116: "file.verdict",
    1117: "file.verdict",
    1118: "file.verdict",
    1119: "file.verdict",
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
_SYSMON: Final[dict[int, str]] = {
    1: "process.created",
    2: "file.changed",
    3: "network.connection",
    4: "protection.enabled",
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
_TABLES: Final[tuple[tuple[str, dict[int, str]], ...]] = (
    ("sysmon", _SYSMON),
    ("defender", _DEFENDER),
    ("security-auditing", _SECURITY),
    ("eventlog", {**_SYSTEM, 1102: "log.cleared"}),
    ("service control manager", _SYSTEM),
)


@lru_cache(maxsize=1024)
def _table(channel: str, provider: str) -> dict[int, str]:
    channel, provider = channel.lower(), provider.lower()
    if channel == "security":
        return _SECURITY
    if channel == "system":
        return _SYSTEM
    for word, table in _TABLES:
        if word in channel or word in provider:
            return table
    return {}


def is_sysmon(fields: Fields) -> bool:
    """Whether flat fields are of a Sysmon record."""
    return "sysmon" in _text(fields.get("Channel")).lower() or "sysmon" in _text(fields.get("Provider_Name")).lower()


_STATUS_OK: Final = frozenset({"", "0x0", "0x00000000", "0"})


def _is_usb_storage(fields: Fields) -> bool:
    """6416 is any plug-and-play device: storage is USBSTOR, USB class 08 or a portable device on USB."""
    device = _text(fields.get("DeviceId")).upper()
    compatible = _text(fields.get("CompatibleIds")).upper()
    if "USBSTOR" in device or "USB\\CLASS_08" in compatible:
        return True
    return _text(fields.get("ClassName")).upper() == "WPD" and device.startswith("USB")


def _refine(event_id: int, kind: str, fields: Fields, table: dict[int, str]) -> tuple[str, str]:
    """(kind, level) where the fields decide; level "" keeps the kind's own."""
    if table is _SECURITY:
        if event_id in (4768, 4769, 4776):
            failed = str(fields.get("Status", "")).lower() not in _STATUS_OK
            if event_id == 4776:
                return (kind if failed else "host.note"), ""
            return ("kerberos.failed" if failed else kind), ""
        if event_id == 6416:
            return (kind if _is_usb_storage(fields) else "host.note"), ""
        if event_id == 4663:
            return (kind if fields.get("ObjectType", "File") == "File" else "host.note"), ""
    elif table is _SYSTEM:
        if event_id == 7036:
            state = _text(fields.get("param2")).lower()
            words = {"stopped": "service.stopped", "running": "service.started"}
            return words.get(state, "host.note"), ""
    elif table is _DEFENDER:
        if kind == "file.verdict":
            if event_id in (1007, 1117):  # the action succeeded: the threat is dealt with
                return kind, "low"
            severity = _text(fields.get("Severity Name")).lower()
            return kind, {"low": "low", "moderate": "medium"}.get(severity, "")
    elif table is _SYSMON and event_id == 4:
        return ("protection.disabled" if _text(fields.get("State")).lower() == "stopped" else kind), ""
    return kind, ""


# ---- entities -----------------------------------------------------------------------------------


class _Accounts(NamedTuple):
    """The accounts of a message as written, read before they are replaced by tokens."""

    subject: Any
    target: Any
    user: Any
    member: Any


_COMMON_NAME: Final = re.compile(r"(?i)cn=((?:[^,\\]|\\.)+)")


def _member(fields: Fields) -> str:
    """Who was added to a group: the common name of MemberName (a DN), which is "-" on workstations; then the SID."""
    member = _text(fields.get("MemberName"))
    common = _COMMON_NAME.match(member)
    return common[1] if common else member if member not in ("", "-") else _text(fields.get("MemberSid"))


def _accounts(kind: str, fields: Fields) -> _Accounts:
    return _Accounts(
        fields.get("SubjectUserName"),
        fields.get("TargetUserName"),
        fields.get("User") or fields.get("Detection User") or fields.get("SourceUser"),
        _member(fields) if kind == "group.member_added" else None,
    )


_DEFENDER_PATH: Final = re.compile(r"^(?:file|containerfile|webfile|behavior|process|regkey|amsi|uefi):_?")
_MOST_FILES = 8


def _defender_files(fields: Fields) -> list[Entity | None]:
    r"""The files of `Path`: "file:_C:\a.js;containerfile:_C:\b.zip->inner", without what lies inside."""
    made: list[Entity | None] = []
    for part in _text(fields.get("Path")).split(";")[:_MOST_FILES]:
        name = _DEFENDER_PATH.sub("", part.strip(), count=1).partition("->")[0]
        if name and not part.strip().startswith(("process:", "behavior:", "regkey:")):
            one = entity("target", "file", name)
            if one not in made:
                made.append(one)
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


def _entities(kind: str, fields: Fields, accounts: _Accounts, context: Context, host: Entity) -> tuple[Entity, ...]:
    identity = context.identity
    made: list[Entity | None] = [host]
    if kind in _NEEDS_TARGET_ACCOUNT:
        target = account_entity(identity, "target", accounts.target, machines=True)
        if target is None:
            raise Unreadable("missing_field", "field 'TargetUserName' names no account")
        made.append(target)
        made.append(account_entity(identity, "actor", accounts.subject))
    elif kind == "group.member_added":
        made.append(account_entity(identity, "target", accounts.member, machines=True))
        made.append(account_entity(identity, "actor", accounts.subject))
    elif kind in _TARGET_ACTS:
        made.append(account_entity(identity, "actor", accounts.target or accounts.subject))
        made.append(ip_entity("origin", fields.get("IpAddress")))
        station = host_entity("origin", fields.get("WorkstationName") or fields.get("Workstation"))
        if station is not None and station.id != host.id:
            made.append(station)
    else:
        made.append(account_entity(identity, "actor", accounts.subject or accounts.user))
        if kind == "privilege.assigned" and accounts.target:
            made.append(account_entity(identity, "target", accounts.target))
        if "IpAddress" in fields:
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
    service = fields.get("ServiceName") if kind.startswith("service.") else None
    if type(service) is str and service:
        made.append(entity("target", "software", service))
    return present(*made)


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
        return f"{_text(fields.get('Threat Name')) or 'malware'} on {host}"
    if event_id == 4648:
        return f"explicit credentials of {_name(entities, 'target') or 'an account'} used on {host}"
    if kind == "usb.attached":
        return f"{_text(fields.get('DeviceDescription')) or 'USB storage'} attached to {host}"
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
    for name in _LOGON_IDS:
        value = fields.get(name)
        if type(value) is int:
            fields[name] = hex(value)
        elif type(value) is str and not value.islower():
            fields[name] = value.lower()
    device_ms, sub_ns = _time(fields, given, context)
    table = _table(_text(fields.get("Channel"))[:200], _text(fields.get("Provider_Name"))[:200])
    kind = table.get(event_id, "host.note")
    kind, level = _refine(event_id, kind, fields, table)
    accounts = _accounts(kind, fields)
    hidden = Hidden(context.identity)
    if accounts.member:
        hidden.add("account", accounts.member)
    hidden.hide(fields, _IDENTITY_PATHS)
    if table is _DEFENDER:
        for name in [name for name in fields if " " in name]:
            fields.setdefault(name.replace(" ", ""), fields[name])
    if kind == "network.connection":  # its target is the other end; the host only saw it
        host = entity("observer", "host", host.id)
    entities = _entities(kind, fields, accounts, context, host)
    record = fields.get("EventRecordID", fields.get("RecordNumber"))
    native_id = ""
    if type(record) is int or (type(record) is str and record):
        native_id = f"{host.id}/{fields.get('Channel')}/{record}/{event_id}/{device_ms}"
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
