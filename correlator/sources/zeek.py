"""Zeek logs in JSON: connections, protocols, notices, weirds, industrial protocols.

Follows: Zeek documentation, "Log Files" and the fields of base/protocols/*/main.zeek; ICSNPP packages for
bacnet, enip/cip, s7comm and opcua. One object a line. Attributes are the object as it is, with its flat
dotted keys (`id.orig_h`); unset values written as "-" or "(empty)" are left out, as Zeek does by default.
Passwords are taken out.

Which log a line belongs to: `_path` (json-streaming-logs), the single key of a tagged object
(`{"conn": {...}}`, Kafka writer), else the file name in the channel (`/logs/current/conn.log`).
`ts` is an epoch in seconds with fraction, an epoch in ms, or ISO in UTC, as `LogAscii::json_timestamps`
says. Zeek's own default format is TSV, which is refused with a hint.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from correlator.events.event import Entity, Event
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.hiding import IdentityPaths, hide
from correlator.sources.logparts import account_entity, ends, host_entity, ip_entity, log_time, mac_entity, present
from correlator.sources.reading import Unreadable, parse_object

_KINDS: Final[dict[str, str]] = {
    "conn": "network.flow",
    "dns": "dns.query",
    "http": "http.request",
    "ssl": "tls.handshake",
    "quic": "tls.handshake",
    "ssh": "ssh.connection",
    "rdp": "rdp.connection",
    "rfb": "rdp.connection",
    "smb_files": "smb.access",
    "smb_mapping": "smb.access",
    "smb_cmd": "smb.access",
    "nfs": "smb.access",
    "smtp": "mail.transferred",
    "files": "file.transferred",
    "ftp": "file.transferred",
    "tftp": "file.transferred",
    "dhcp": "dhcp.lease",
    "mqtt_connect": "mqtt.message",
    "mqtt_publish": "mqtt.message",
    "mqtt_subscribe": "mqtt.message",
    "notice": "ids.notice",
    "notice_alarm": "ids.notice",
    "traceroute": "ids.notice",
    "weird": "network.weird",
    "dpd": "ids.anomaly",
    "analyzer": "ids.anomaly",
    "intel": "ids.alert",
    "signatures": "ids.alert",
    "known_hosts": "host.discovered",
    "known_services": "host.discovered",
    "stats": "ids.stats",
    "capture_loss": "ids.stats",
    "telemetry": "ids.stats",
    "broker": "ids.stats",
    "cluster": "ids.stats",
    "reporter": "ids.stats",
    "packet_filter": "ids.stats",
    "loaded_scripts": "ids.stats",
    "config": "ids.stats",
    "print": "ids.stats",
}
# Logs whose kind depends on the line.
_CONTROL: Final = frozenset({
    "modbus", "modbus_detailed", "dnp3", "dnp3_control", "enip", "cip", "s7comm", "s7comm_plus", "bacnet",
    "bacnet_property", "opcua_binary", "opcua_binary_write",
})  # fmt: skip
# Logs about things, not about two ends that talk; all others without an entry are connections.
_ENTRIES: Final = frozenset({"x509", "ocsp", "pe", "software", "known_certs", "known_modbus", "syslog", "netcontrol"})
# Words in function and service names that change a controller. Modbus: WRITE_SINGLE_COIL, MASK_WRITE_REGISTER;
# DNP3: WRITE, DIRECT_OPERATE, SELECT, COLD_RESTART; CIP: Set Attribute Single; BACnet: write_property,
# reinitialize_device, device_communication_control; S7: Write Variable, PLC Stop, Download.
_WRITES: Final = re.compile(
    r"write|operate|select|restart|set[ _]attribute|reinitialize|communication_control|create_object|delete_object|"
    r"plc[ _](?:stop|control)|download|stop|start(?:_appl)?$|reset",
    re.IGNORECASE,
)
_FUNCTION_FIELDS: Final = ("func", "fc_request", "cip_service", "pdu_service", "function_name", "function", "service")

_NATIVE_FIELDS: Final = ("fuid", "trans_depth", "trans_id", "tid", "pdu_type", "note", "name", "action", "func", "path")
_PASSWORDS: Final = frozenset({"password", "community", "psk"})

IDENTITY_FIELDS: Final[dict[str, str]] = {
    "username": "account",
    "user": "account",
    "cookie": "account",
    "mailfrom": "account",
    "rcptto": "account",
    "from": "account",
    "to": "account",
    "cc": "account",
}
# `client` is a principal in kerberos.log and a software banner in ssh.log.
_KERBEROS_FIELDS: Final = {"client": "account"}
_IDENTITY_PATHS: Final = IdentityPaths(IDENTITY_FIELDS, flat=True)
_KERBEROS_PATHS: Final = IdentityPaths(_KERBEROS_FIELDS, flat=True)

# Logs whose lines may have no connection of their own and then name the ends in other fields.
_ABOUT_OTHERS: Final = frozenset({"notice", "intel", "signatures", "traceroute", "files"})
_FILE_NAME: Final = re.compile(r"([a-z][a-z0-9_]*?)(?:[._-]\d[^/\\]*)?(?:\.log)(?:\.gz)?")


@lru_cache(maxsize=4096)
def _path_of_channel(channel: str) -> str:
    """The log's name of ".../conn.log" and of rotated files such as "conn.10:00:00-11:00:00.log"; "" for others."""
    found = _FILE_NAME.fullmatch(re.split(r"[/\\]", channel)[-1])
    return found[1] if found else ""


def _log_and_fields(message: Message) -> tuple[str, dict[str, Any]]:
    payload = message.payload
    if payload[:1] == b"#" or (payload[:1] != b"{" and b"\t" in payload):
        raise Unreadable("not_json", "a Zeek TSV line; set LogAscii::use_json=T (or load policy/tuning/json-logs)")
    data = parse_object(payload)
    path = data.get("_path")
    if path is None and len(data) == 1:
        name, inner = next(iter(data.items()))
        if type(inner) is dict and ("ts" in inner or "uid" in inner):
            return name, inner
    if path is None or path == "":
        path = _path_of_channel(message.channel)
        if not path:
            raise Unreadable("missing_field", "no field '_path', and the channel is not a file such as conn.log")
    elif type(path) is not str:
        raise Unreadable("wrong_type", "field '_path' must be a text")
    return path, data


def _decided_kind(path: str, data: dict[str, Any]) -> str:
    """The kind of a line of a log that `_KINDS` does not name."""
    if path in _CONTROL:
        for name in _FUNCTION_FIELDS:
            value = data.get(name)
            if type(value) is str and _WRITES.search(value):
                return "controller.written"
        return "controller.written" if path == "opcua_binary_write" else "controller.read"
    if path == "kerberos":
        return "kerberos.failed" if data.get("success") is False else "kerberos.ticket"
    return "log.entry" if path in _ENTRIES else "network.connection"


def _entities(path: str, data: dict[str, Any], talk: tuple[Entity, ...]) -> tuple[Entity, ...]:
    """The entities of a line whose two ends are `talk`, without who acted and which file."""
    if path == "dhcp":
        return present(
            mac_entity("origin", data.get("mac")),
            ip_entity("target", data.get("assigned_addr") or data.get("client_addr")),
            host_entity("origin", data.get("host_name")),
        )
    if path.startswith("known_"):
        return present(ip_entity("target", data.get("host")))
    if path in _ABOUT_OTHERS and not (talk and talk[0].role == "origin"):
        if path == "files":
            return present(_first_ip("origin", data.get("tx_hosts")), _first_ip("target", data.get("rx_hosts")))
        return ends(data.get("src") or data.get("src_addr"), data.get("dst") or data.get("dst_addr"))[0]
    if "orig_l2_addr" in data:
        macs = mac_entity("origin", data.get("orig_l2_addr")), mac_entity("target", data.get("resp_l2_addr"))
        return (*talk, *present(*macs))
    return talk


def _first_ip(role: str, hosts: Any) -> Entity | None:
    return ip_entity(role, hosts[0]) if type(hosts) is list and hosts else None


def _account(path: str, data: dict[str, Any]) -> Any:
    if path == "kerberos":
        client = data.get("client")
        return client.partition("/")[0] if type(client) is str else None
    if path == "rdp":
        return data.get("cookie")
    return data.get("username") or data.get("user")


def _summary(path: str, data: dict[str, Any], way: str) -> str:
    if path == "notice":
        text = data.get("msg") or data.get("note")
        if type(text) is str:
            return text
    name = data.get("name") if path == "weird" else None
    return f"{name}{way}" if type(name) is str else f"{path}{way}"


def decode_message(message: Message, context: Context) -> list[Event]:
    """The one event of a log line.

    Raises Unreadable: not_json for TSV, missing_field for `ts` and for a line of no known log.
    """
    path, data = _log_and_fields(message)
    device_ms, sub_ns = log_time(data.get("ts"), "ts")
    if b'"-"' in message.payload or b'"(empty)"' in message.payload:
        for name in [name for name, value in data.items() if value in ("-", "(empty)")]:
            del data[name]
    keys = data.keys()
    if not keys.isdisjoint(_PASSWORDS):
        for name in sorted(_PASSWORDS.intersection(data)):
            data[name] = "(removed)"
    native_id = ""
    uid = data.get("uid")
    if type(uid) is str and uid:
        marks = "" if keys.isdisjoint(_NATIVE_FIELDS) else _marks(data)
        native_id = f"{path}/{uid}/{device_ms}.{sub_ns}/{marks}"
    account = _account(path, data)
    hide(context.identity, data, _KERBEROS_PATHS if path == "kerberos" else _IDENTITY_PATHS)
    talk, way = ends(data.get("id.orig_h"), data.get("id.resp_h"))
    entities = _entities(path, data, talk)
    if account:
        entities += present(account_entity(context.identity, "actor", account))
    filename = data.get("filename")
    if type(filename) is str and filename:
        entities += (entity("target", "file", filename),)
    return [
        context.event(
            message,
            _KINDS.get(path) or _decided_kind(path, data),
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=native_id,
            entities=entities,
            attributes=data,
            summary=_summary(path, data, way),
            text=_text(data) if path == "notice" else "",
        )
    ]


def _marks(data: dict[str, Any]) -> str:
    return "/".join([str(data[name]) for name in _NATIVE_FIELDS if name in data])


def _text(data: dict[str, Any]) -> str:
    message, sub = data.get("msg"), data.get("sub")
    return " ".join(part for part in (message, sub) if type(part) is str)


DIALECT: Final = Dialect(
    name="zeek",
    title="Zeek logs (JSON)",
    follows="Zeek documentation, Log Files; base/frameworks/logging (LogAscii); ICSNPP packages",
    transport="lines",
    clock=ClockPolicy(),
    polarity={},
    retain="ignore",
    native_id="_path, uid and ts, with what tells lines of one connection and instant apart (fuid, trans_id, ...)",
    duplicates="native",
    identity_fields=IDENTITY_FIELDS,
    decode_message=decode_message,
)
