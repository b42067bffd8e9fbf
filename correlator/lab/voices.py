"""What devices and tools say of ordinary life: payload bytes in the raw shapes of the shipped scenarios.

Each function makes one message. Shapes follow the same documents as the dialects that read them; the
badge controller, appointment system, mail gateway and building control speak as the shipped scenarios'
maps (scenarios/*/maps) expect.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec

from correlator.clock import local, utc_text

_encode = msgspec.json.Encoder().encode


def iso_local(t_ms: int, zone: tzinfo) -> str:
    """RFC 3339 with the zone's offset and milliseconds."""
    return local(t_ms, zone).isoformat(timespec="milliseconds")


def iso_basic_offset(t_ms: int, zone: tzinfo, digits: int = 6) -> str:
    """As Suricata (6 digits) and Wazuh (3 digits) write it: "2021-03-18T07:49:07.217004+0100"."""
    clock = local(t_ms, zone)
    fraction = f"{t_ms % 1000:03d}" + "0" * (digits - 3)
    return f"{clock:%Y-%m-%dT%H:%M:%S}.{fraction}{clock:%z}"


def access(
    t_ms: int, zone: tzinfo, event: str, door: str, reader: str = "", side: str = "", credential: str = "",
    reason: str = "",
) -> bytes:  # fmt: skip
    """A badge controller: granted, denied, unknown (with reader), opened, closed, held (without)."""
    said: dict[str, Any] = {"time": iso_local(t_ms, zone), "event": event, "door": door}
    for key, value in (("reader", reader), ("side", side), ("credential", credential), ("reason", reason)):
        if value:
            said[key] = value
    return _encode(said)


def contact(t_ms: int, closed: bool, battery: int) -> bytes:
    """A Zigbee door contact with its whole cached state; contact true is closed."""
    return _encode({
        "contact": closed, "battery": battery, "battery_low": False, "tamper": False,
        "linkquality": 90 + battery % 50, "voltage": 2_400 + 6 * battery, "last_seen": utc_text(t_ms),
    })  # fmt: skip


def motion(t_ms: int, occupied: bool, battery: int, lux: int) -> bytes:
    """A Zigbee motion sensor."""
    return _encode({
        "occupancy": occupied, "battery": battery, "illuminance": lux, "linkquality": 80 + battery % 60,
        "voltage": 2_400 + 6 * battery, "last_seen": utc_text(t_ms),
    })  # fmt: skip


def smoke(t_ms: int, battery: int) -> bytes:
    """A Zigbee smoke detector that reports its health."""
    return _encode({
        "smoke": False, "battery": battery, "battery_low": False, "tamper": False,
        "linkquality": 90 + battery % 50, "last_seen": utc_text(t_ms),
    })  # fmt: skip


def temperature(t_ms: int, celsius: float, battery: int) -> bytes:
    """A Zigbee temperature probe."""
    return _encode({
        "temperature": round(celsius, 1), "battery": battery, "linkquality": 85 + battery % 40,
        "last_seen": utc_text(t_ms),
    })  # fmt: skip


def frigate(kind: str, object_id: str, camera: str, start_ms: int, t_ms: int, box_x: int, score: float) -> bytes:
    """One tracked person of Frigate: new, update or end."""

    def side(at_ms: int, end: bool) -> dict[str, Any]:
        return {
            "id": object_id, "camera": camera, "frame_time": at_ms / 1000, "label": "person", "sub_label": None,
            "top_score": score, "score": score, "false_positive": False, "start_time": start_ms / 1000,
            "end_time": at_ms / 1000 if end else None, "box": [box_x, 220, box_x + 88, 470], "area": 22_000,
            "region": [260, 120, 660, 520], "current_zones": [], "entered_zones": [], "stationary": False,
            "motionless_count": 0, "position_changes": 1, "active": not end, "has_snapshot": False, "has_clip": False,
        }  # fmt: skip

    return _encode({"type": kind, "before": side(start_ms, False), "after": side(t_ms, kind == "end")})


def suricata_flow(t_ms: int, zone: tzinfo, flow_id: int, source: tuple[str, int], target: tuple[str, int],
                  packets: int, octets: int, age_s: int, app: str) -> bytes:  # fmt: skip
    """A finished flow of Suricata EVE."""
    return _encode({
        "timestamp": iso_basic_offset(t_ms, zone), "flow_id": flow_id, "in_iface": "span0", "event_type": "flow",
        "src_ip": source[0], "src_port": source[1], "dest_ip": target[0], "dest_port": target[1],
        "proto": "UDP" if app == "dns" else "TCP", "app_proto": app,
        "flow": {
            "pkts_toserver": packets, "pkts_toclient": packets + packets // 3, "bytes_toserver": octets,
            "bytes_toclient": octets * 4, "start": iso_basic_offset(t_ms - age_s * 1000, zone),
            "end": iso_basic_offset(t_ms, zone), "age": age_s, "state": "closed", "reason": "shutdown",
            "alerted": False,
        },
    })  # fmt: skip


def suricata_alert(t_ms: int, zone: tzinfo, flow_id: int, source: tuple[str, int], target: tuple[str, int],
                   signature: tuple[int, str, str, int]) -> bytes:  # fmt: skip
    """An alert of Suricata EVE; signature = (id, text, category, severity), severity 1 is the highest."""
    number, text, category, severity = signature
    return _encode({
        "timestamp": iso_basic_offset(t_ms, zone), "flow_id": flow_id, "in_iface": "span0", "event_type": "alert",
        "src_ip": source[0], "src_port": source[1], "dest_ip": target[0], "dest_port": target[1], "proto": "TCP",
        "alert": {
            "action": "allowed", "gid": 1, "signature_id": number, "rev": 2, "signature": text,
            "category": category, "severity": severity,
        },
    })  # fmt: skip


def zeek_conn(t_ms: int, uid: str, source: tuple[str, int], target: tuple[str, int], service: str,
              duration_s: float, sent: int, got: int) -> bytes:  # fmt: skip
    """A line of Zeek's conn.log in JSON; ts is epoch seconds."""
    return _encode({
        "_path": "conn", "ts": t_ms / 1000, "uid": uid, "id.orig_h": source[0], "id.orig_p": source[1],
        "id.resp_h": target[0], "id.resp_p": target[1], "proto": "tcp", "service": service,
        "duration": round(duration_s, 3), "orig_bytes": sent, "resp_bytes": got, "conn_state": "SF",
        "local_orig": True, "local_resp": True, "missed_bytes": 0, "history": "ShADadfF", "orig_pkts": 8 + sent // 900,
        "resp_pkts": 8 + got // 900,
    })  # fmt: skip


def windows(t_ms: int, zone: tzinfo, host: str, number: int, fields: dict[str, Any]) -> bytes:
    """A Windows Security event as NXLog ships it: EventTime local and naive, @timestamp in UTC."""
    return _encode({
        "EventTime": f"{local(t_ms, zone):%Y-%m-%d %H:%M:%S}", "@timestamp": utc_text(t_ms), "Hostname": host,
        "EventID": number, "Channel": "Security", "SourceName": "Microsoft-Windows-Security-Auditing",
        "Severity": "INFO", **fields,
    })  # fmt: skip


def logon(host: str, account: str, domain: str, kind: int, logon_id: str) -> dict[str, Any]:
    """Fields of 4624, 4625 and 4634 for somebody at the console (2) or who unlocks it (7)."""
    return {
        "SubjectUserName": f"{host.upper()}$", "TargetUserName": account, "TargetDomainName": domain,
        "TargetLogonId": logon_id, "LogonType": str(kind), "LogonProcessName": "User32",
        "AuthenticationPackageName": "Negotiate", "WorkstationName": host.upper(), "IpAddress": "127.0.0.1",
        "IpPort": "0",
    }  # fmt: skip


def wazuh(t_ms: int, zone: tzinfo, number: int, level: int, text: str, groups: list[str], agent: tuple[str, str, str],
          decoder: str, data: dict[str, str], line: str, place: str) -> bytes:  # fmt: skip
    """An alert of Wazuh 4.x; agent = (id, name, ip)."""
    return _encode({
        "timestamp": iso_basic_offset(t_ms, zone, 3),
        "rule": {"level": level, "description": text, "id": str(number), "firedtimes": 1, "mail": False,
                 "groups": groups},
        "agent": {"id": agent[0], "name": agent[1], "ip": agent[2]}, "manager": {"name": "wazuh-manager"},
        "id": f"{t_ms // 1000}.{t_ms % 1_000_000}", "full_log": line, "decoder": {"name": decoder}, "data": data,
        "location": place,
    })  # fmt: skip


def syslog(t_ms: int, host: str, program: str, pid: int, severity: int, text: str) -> bytes:
    """An RFC 5424 line of facility 4 (security) or 9 (clock daemon)."""
    facility = 9 if program == "CRON" else 4
    return f"<{facility * 8 + severity}>1 {utc_text(t_ms)} {host} {program} {pid} - - {text}".encode()


def appointment(t_ms: int, zone: tzinfo, number: int, account: str, host: str, old_ms: int, new_ms: int) -> bytes:
    """The audit line of one appointment that was moved."""
    return _encode({
        "time": iso_local(t_ms, zone), "action": "move", "appointment": f"VAC-{number}", "user": account,
        "workstation": host, "from": local(old_ms, zone).isoformat(timespec="seconds"),
        "to": local(new_ms, zone).isoformat(timespec="seconds"),
    })  # fmt: skip


def mail(t_ms: int, zone: tzinfo, queue_id: str, verdict: str, score: float, domain: str, ip: str, account: str,
         subject: str) -> bytes:  # fmt: skip
    """A line of the mail gateway; verdict clean, spam or suspicious."""
    return _encode({
        "time": iso_local(t_ms, zone), "queue_id": queue_id, "verdict": verdict,
        "action": "rejected" if verdict == "spam" else "delivered", "score": score, "from_domain": domain,
        "client_ip": ip, "mailbox": account, "subject": subject, "attachment": "",
    })  # fmt: skip


def building(t_ms: int, zone: tzinfo, point: str, device: str, status: str, text: str) -> bytes:
    """A point of the building control; status normal, reading, lost, restored, unreachable ..."""
    return _encode({
        "time": iso_local(t_ms, zone), "point": point, "device": device, "status": status, "text": text,
    })  # fmt: skip


def record(t_ms: int, zone: tzinfo, action: str, account: str, host: str, count: int, patient_group: str) -> bytes:
    """The audit line of the health record: query, export, change."""
    return _encode({
        "time": iso_local(t_ms, zone), "action": action, "user": account, "workstation": host,
        "record_count": count, "selection": patient_group,
    })  # fmt: skip


def midnight_ms(t_ms: int, zone: tzinfo) -> int:
    """The local midnight at or before a time, ms UTC."""
    clock = local(t_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return round((clock.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1000
