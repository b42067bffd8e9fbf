"""Suricata EVE: alerts, anomalies, flows and protocol records of an intrusion detection sensor.

Follows: Suricata user guide, "Eve JSON Output"; field names of the EVE JSON schema (Suricata 8). One
object a line. Attributes are the object as it is: `alert.signature`, `alert.metadata` (lists of texts),
`dest_ip` (not dst_ip). Passwords in `mqtt.connect.password` and FTP PASS are taken out.

Level of an alert, from `alert.severity` where 1 is the most severe:

    1 high, 2 medium, 3 low, 4 and more informational; `metadata.signature_severity` Critical gives high.

Never critical: a signature is a guess, and critical leaves on the fast lane. What an alert is about is
decided by rules; the dialect only names it.
"""

from __future__ import annotations

from typing import Any, Final

from correlator.events.event import Entity, Event
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.logparts import (
    Hidden,
    IdentityPaths,
    account_entity,
    host_entity,
    ip_entity,
    log_time,
    mac_entity,
    present,
)
from correlator.sources.reading import Unreadable, need_text, parse_object

_KINDS: Final[dict[str, str]] = {
    "alert": "ids.alert",
    "anomaly": "ids.anomaly",
    "flow": "network.flow",
    "netflow": "network.flow",
    "dns": "dns.query",
    "mdns": "dns.query",
    "llmnr": "dns.query",
    "http": "http.request",
    "http2": "http.request",
    "doh2": "http.request",
    "websocket": "http.request",
    "tls": "tls.handshake",
    "quic": "tls.handshake",
    "ssh": "ssh.connection",
    "smb": "smb.access",
    "nfs": "smb.access",
    "rdp": "rdp.connection",
    "rfb": "rdp.connection",
    "smtp": "mail.transferred",
    "pop3": "mail.transferred",
    "imap": "mail.transferred",
    "fileinfo": "file.transferred",
    "ftp_data": "file.transferred",
    "tftp": "file.transferred",
    "arp": "arp.seen",
    "mqtt": "mqtt.message",
    "stats": "ids.stats",
    "engine": "ids.stats",
}
# dhcp, krb5, modbus, dnp3 and enip are decided by their content; every other type, also one that a later
# version adds, is a connection with that protocol.

_LEVEL_OF_SEVERITY: Final = {1: "high", 2: "medium", 3: "low"}

# DNP3 function codes that change something (IEEE 1815 table 4-1): write, select, operate, direct operate
# with and without answer, cold and warm restart, initialise data and application, start, stop and save,
# enable and disable unsolicited answers, assign class.
_DNP3_WRITES: Final = frozenset({2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22})
# CIP services that change something (CIP volume 1, appendix A), as Suricata spells them.
_CIP_WRITES: Final = ("set", "write", "reset", "start", "stop", "create", "delete", "apply", "restore", "save")

IDENTITY_FIELDS: Final[dict[str, str]] = {
    "smb.ntlmssp.user": "account",
    "krb5.cname": "account",
    "mqtt.connect.username": "account",
    "pgsql.request.startup_parameters.user": "account",
    "smtp.mail_from": "account",
    "smtp.rcpt_to": "account",
    "email.from": "account",
    "email.to": "account",
    "email.cc": "account",
}
_IDENTITY_PATHS: Final = IdentityPaths(IDENTITY_FIELDS)


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    return value if type(value) is dict else {}


def _word(value: Any) -> str:
    return value if type(value) is str else ""


def _alert_level(alert: dict[str, Any]) -> str:
    severity = alert.get("severity")
    if type(severity) is not int:
        return ""
    level = _LEVEL_OF_SEVERITY.get(severity, "informational" if severity > 3 else "")
    marks = _part(alert, "metadata").get("signature_severity")
    if marks and "Critical" in (marks if type(marks) is list else [marks]):
        return "high"
    return level


def _control_kind(kind: str, data: dict[str, Any]) -> str:
    """controller.written if a request of this industrial protocol changes something, else controller.read."""
    record = _part(data, kind)
    request = _part(record, "request")
    if kind == "modbus":
        writes = "Write" in _word(request.get("access_type")) or "write" in request
    elif kind == "dnp3":
        application = _part(request, "application") or _part(record, "application")
        code = application.get("function_code")
        writes = type(code) is int and code in _DNP3_WRITES
    else:
        service = _word(_part(request, "cip").get("service")).lower()
        writes = service.startswith(_CIP_WRITES) or "_write" in service
    return "controller.written" if writes else "controller.read"


def _kind(event_type: str, data: dict[str, Any]) -> str:
    kind = _KINDS.get(event_type)
    if kind:
        return kind
    if event_type in ("modbus", "dnp3", "enip"):
        return _control_kind(event_type, data)
    if event_type == "dhcp":
        return "dhcp.lease" if _part(data, "dhcp").get("dhcp_type") == "ack" else "network.connection"
    if event_type == "krb5":
        krb5 = _part(data, "krb5")
        failed = krb5.get("msg_type") == "KRB_ERROR" or bool(krb5.get("failed_request"))
        return "kerberos.failed" if failed else "kerberos.ticket"
    return "network.connection"


def _native_id(event_type: str, data: dict[str, Any], stamp: str) -> str:
    """Names one record: several records of one packet differ in signature, anomaly, file or transaction.

    "" where that is not so (records without flow, statistics, protocols that write several records of
    one transaction in one packet): such lines are never taken for repetitions.
    """
    flow = data.get("flow_id")
    if type(flow) is not int:
        return ""
    tx = data.get("tx_id")
    if event_type == "alert":
        alert = _part(data, "alert")
        mark = f"{alert.get('gid')}:{alert.get('signature_id')}"
    elif event_type == "anomaly":
        mark = _word(_part(data, "anomaly").get("event"))
    elif event_type == "fileinfo":
        file = _part(data, "fileinfo")
        tx = file.get("tx_id")
        mark = f"{file.get('file_id')}:{file.get('filename')}:{file.get('size')}"
    elif event_type == "flow":
        mark = ""
    else:
        return ""
    return f"{flow}/{tx}/{event_type}/{stamp}/{mark}"


def _entities(event_type: str, data: dict[str, Any], context: Context, account: Any) -> tuple[Entity, ...]:
    source, target = data.get("src_ip"), data.get("dest_ip")
    if event_type == "arp":
        arp = _part(data, "arp")
        return present(
            ip_entity("origin", arp.get("src_ip") or source),
            mac_entity("origin", arp.get("src_mac")),
            ip_entity("target", arp.get("dest_ip") or target),
        )
    if event_type == "dhcp":
        dhcp = _part(data, "dhcp")
        return present(
            mac_entity("origin", dhcp.get("client_mac")),
            ip_entity("target", dhcp.get("assigned_ip")),
            host_entity("origin", dhcp.get("hostname")),
        )
    made = [ip_entity("origin", source), ip_entity("target", target)]
    ether = data.get("ether")
    if type(ether) is dict:
        made.append(mac_entity("origin", ether.get("src_mac")))
        made.append(mac_entity("target", ether.get("dest_mac")))
    if account:
        made.append(account_entity(context.identity, "actor", account))
    if event_type == "fileinfo":
        name = _word(_part(data, "fileinfo").get("filename"))
        if name:
            made.append(entity("target", "file", name))
    return present(*made)


def _account(event_type: str, data: dict[str, Any]) -> Any:
    if event_type == "krb5":
        return _word(_part(data, "krb5").get("cname")).partition("/")[0]
    if event_type == "smb":
        return _part(_part(data, "smb"), "ntlmssp").get("user")
    if event_type == "mqtt":
        return _part(_part(data, "mqtt"), "connect").get("username")
    return None


def _summary(event_type: str, data: dict[str, Any]) -> str:
    way = ""
    source, target = data.get("src_ip"), data.get("dest_ip")
    if type(source) is str and type(target) is str:
        way = f" from {source} to {target}"
    if event_type == "alert":
        alert = _part(data, "alert")
        blocked = " (blocked)" if alert.get("action") == "blocked" else ""
        return f"{_word(alert.get('signature'))}{way}{blocked}"
    if event_type == "anomaly":
        return f"{_word(_part(data, 'anomaly').get('event'))}{way}"
    return f"{event_type}{way}"


def _remove_passwords(data: dict[str, Any]) -> None:
    connect = _part(_part(data, "mqtt"), "connect")
    if "password" in connect:
        connect["password"] = "(removed)"  # noqa: S105 - it says that there was one
    ftp = _part(data, "ftp")
    if ftp.get("command") == "PASS":
        ftp["command_data"] = "(removed)"


def decode_message(message: Message, context: Context) -> list[Event]:
    """The one event of an EVE line.

    `timestamp` is the sensor's local time with an offset without colon ("+0100"). Raises Unreadable:
    missing_field or wrong_type for `timestamp`, `event_type` and the object named by an alert.
    """
    data = parse_object(message.payload)
    event_type = data.get("event_type")
    if type(event_type) is not str or not event_type:
        if event_type is None and "timestamp" not in data:
            raise Unreadable("not_this_dialect", "neither 'timestamp' nor 'event_type': no EVE line")
        event_type = need_text(data, "event_type")
    stamp = need_text(data, "timestamp")
    device_ms, sub_ns = log_time(stamp, "timestamp")
    level = ""
    if event_type == "alert":
        alert = data.get("alert")
        if type(alert) is not dict:
            raise Unreadable("missing_field" if alert is None else "wrong_type", "an alert needs the object 'alert'")
        need_text(alert, "signature")
        level = _alert_level(alert)
    elif event_type in ("mqtt", "ftp"):
        _remove_passwords(data)
    account = _account(event_type, data)
    native_id = _native_id(event_type, data, stamp)
    if not _IDENTITY_PATHS.first.isdisjoint(data):
        Hidden(context.identity).hide(data, _IDENTITY_PATHS)
    return [
        context.event(
            message,
            _kind(event_type, data),
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=native_id,
            entities=_entities(event_type, data, context, account),
            attributes=data,
            level=level,
            summary=_summary(event_type, data),
        )
    ]


DIALECT: Final = Dialect(
    name="suricata",
    title="Suricata EVE JSON",
    follows="Suricata user guide, Eve JSON Output; EVE JSON schema of Suricata 8",
    transport="lines",
    clock=ClockPolicy(),
    polarity={},
    retain="ignore",
    native_id="flow_id, tx_id, event_type, timestamp and signature, anomaly or file (alert, anomaly, fileinfo, flow)",
    duplicates="native",
    identity_fields=IDENTITY_FIELDS,
    decode_message=decode_message,
)
