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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from correlator.events.event import Entity, Event
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.hiding import IdentityPaths, hide
from correlator.sources.logparts import (
    account_entity,
    ends,
    host_entity,
    ip_entity,
    log_time,
    mac_entity,
    part,
    present,
    word,
)
from correlator.sources.reading import Unreadable, need_text, parse_object

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


Fields = dict[str, Any]


def _alert_level(alert: Fields) -> str:
    severity = alert.get("severity")
    if type(severity) is not int:
        return ""
    level = _LEVEL_OF_SEVERITY.get(severity, "informational" if severity > 3 else "")
    marks = part(alert, "metadata").get("signature_severity")
    if marks and "Critical" in (marks if type(marks) is list else [marks]):
        return "high"
    return level


# ---- what the types of records differ in -----------------------------------------------------------


def _modbus(data: Fields) -> str:
    request = part(part(data, "modbus"), "request")
    return _controller("Write" in word(request.get("access_type")) or "write" in request)


def _dnp3(data: Fields) -> str:
    record = part(data, "dnp3")
    application = part(part(record, "request"), "application") or part(record, "application")
    code = application.get("function_code")
    return _controller(type(code) is int and code in _DNP3_WRITES)


def _enip(data: Fields) -> str:
    service = word(part(part(part(data, "enip"), "request"), "cip").get("service")).lower()
    return _controller(service.startswith(_CIP_WRITES) or "_write" in service)


def _controller(writes: bool) -> str:
    return "controller.written" if writes else "controller.read"


def _dhcp(data: Fields) -> str:
    return "dhcp.lease" if part(data, "dhcp").get("dhcp_type") == "ack" else "network.connection"


def _krb5(data: Fields) -> str:
    krb5 = part(data, "krb5")
    failed = krb5.get("msg_type") == "KRB_ERROR" or bool(krb5.get("failed_request"))
    return "kerberos.failed" if failed else "kerberos.ticket"


def _alert_mark(data: Fields) -> tuple[Any, str]:
    alert = part(data, "alert")
    return data.get("tx_id"), f"{alert.get('gid')}:{alert.get('signature_id')}"


def _anomaly_mark(data: Fields) -> tuple[Any, str]:
    return data.get("tx_id"), word(part(data, "anomaly").get("event"))


def _file_mark(data: Fields) -> tuple[Any, str]:
    file = part(data, "fileinfo")
    return file.get("tx_id"), f"{file.get('file_id')}:{file.get('filename')}:{file.get('size')}"


def _flow_mark(data: Fields) -> tuple[Any, str]:
    return data.get("tx_id"), ""


@dataclass(frozen=True, slots=True)
class _Type:
    """What records of one `event_type` are. Whatever a type does not say is as for a plain connection.

    kind     the kind of the event, or what decides it
    mark     (transaction, what tells records of one flow, type and instant apart); None: such records
             may repeat in one packet (protocols with several records of a transaction, statistics), and
             are never taken for repetitions
    account  who acts, as written
    """

    kind: str | Callable[[Fields], str] = "network.connection"
    mark: Callable[[Fields], tuple[Any, str]] | None = None
    account: Callable[[Fields], Any] | None = None


_TYPES: Final[dict[str, _Type]] = {
    "alert": _Type("ids.alert", _alert_mark),
    "anomaly": _Type("ids.anomaly", _anomaly_mark),
    "flow": _Type("network.flow", _flow_mark),
    "netflow": _Type("network.flow"),
    **dict.fromkeys(("dns", "mdns", "llmnr"), _Type("dns.query")),
    **dict.fromkeys(("http", "http2", "doh2", "websocket"), _Type("http.request")),
    **dict.fromkeys(("tls", "quic"), _Type("tls.handshake")),
    "ssh": _Type("ssh.connection"),
    "smb": _Type("smb.access", account=lambda data: part(part(data, "smb"), "ntlmssp").get("user")),
    "nfs": _Type("smb.access"),
    **dict.fromkeys(("rdp", "rfb"), _Type("rdp.connection")),
    **dict.fromkeys(("smtp", "pop3", "imap"), _Type("mail.transferred")),
    "fileinfo": _Type("file.transferred", _file_mark),
    **dict.fromkeys(("ftp_data", "tftp"), _Type("file.transferred")),
    "arp": _Type("arp.seen"),
    "mqtt": _Type("mqtt.message", account=lambda data: part(part(data, "mqtt"), "connect").get("username")),
    **dict.fromkeys(("stats", "engine"), _Type("ids.stats")),
    "modbus": _Type(_modbus),
    "dnp3": _Type(_dnp3),
    "enip": _Type(_enip),
    "dhcp": _Type(_dhcp),
    "krb5": _Type(_krb5, account=lambda data: word(part(data, "krb5").get("cname")).partition("/")[0]),
}
_OTHER: Final = _Type()  # also a type that a later version adds


def _entities(event_type: str, data: Fields, talk: tuple[Entity, ...]) -> tuple[Entity, ...]:
    """The entities of a record whose two ends are `talk`, without who acted."""
    if event_type == "arp":
        arp = part(data, "arp")
        return present(
            ip_entity("origin", arp.get("src_ip") or data.get("src_ip")),
            mac_entity("origin", arp.get("src_mac")),
            ip_entity("target", arp.get("dest_ip") or data.get("dest_ip")),
        )
    if event_type == "dhcp":
        dhcp = part(data, "dhcp")
        return present(
            mac_entity("origin", dhcp.get("client_mac")),
            ip_entity("target", dhcp.get("assigned_ip")),
            host_entity("origin", dhcp.get("hostname")),
        )
    if "ether" not in data:
        return talk
    ether = part(data, "ether")
    return (*talk, *present(mac_entity("origin", ether.get("src_mac")), mac_entity("target", ether.get("dest_mac"))))


def _summary(event_type: str, data: Fields, way: str) -> str:
    if event_type == "alert":
        alert = part(data, "alert")
        blocked = " (blocked)" if alert.get("action") == "blocked" else ""
        return f"{word(alert.get('signature'))}{way}{blocked}"
    if event_type == "anomaly":
        return f"{word(part(data, 'anomaly').get('event'))}{way}"
    return f"{event_type}{way}"


def _remove_passwords(data: Fields) -> None:
    connect = part(part(data, "mqtt"), "connect")
    if "password" in connect:
        connect["password"] = "(removed)"  # noqa: S105 - it says that there was one
    ftp = part(data, "ftp")
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
    of = _TYPES.get(event_type, _OTHER)
    account = of.account(data) if of.account is not None else None
    native_id = ""
    flow = data.get("flow_id")
    if of.mark is not None and type(flow) is int:
        transaction, mark = of.mark(data)
        native_id = f"{flow}/{transaction}/{event_type}/{stamp}/{mark}"
    hide(context.identity, data, _IDENTITY_PATHS)
    talk, way = ends(data.get("src_ip"), data.get("dest_ip"))
    entities = _entities(event_type, data, talk)
    if account:
        entities += present(account_entity(context.identity, "actor", account))
    if event_type == "fileinfo" and (name := word(part(data, "fileinfo").get("filename"))):
        entities += (entity("target", "file", name),)
    return [
        context.event(
            message,
            of.kind if isinstance(of.kind, str) else of.kind(data),
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=native_id,
            entities=entities,
            attributes=data,
            level=level,
            summary=_summary(event_type, data, way),
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
