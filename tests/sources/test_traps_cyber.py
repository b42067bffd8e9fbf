"""What is easy to get wrong in logs of intrusion detection, virus scanners, hosts and syslog.

One sentence a trap. Messages have the shapes of the real ones; devices, hosts and accounts are invented.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from correlator.clock import parse_iso, utc_text, zone_named
from correlator.events import Event, Identity, Reject
from correlator.sources import DIALECTS, Context, Message
from correlator.sources.logparts import account_name, host_name, ip_entity, mac_entity

RECEIVED_MS = 1_772_330_400_400  # 2026-03-01T02:00:00.400Z


def decode(
    name: str,
    payload: Any,
    *,
    channel: str = "inputs/x.log",
    received_ms: int = RECEIVED_MS,
    zone: str | None = "",
    settings: Any = None,
    identity: Identity | None = None,
) -> list[Event | Reject]:
    dialect = DIALECTS[name]
    clock = dialect.clock if zone == "" else replace(dialect.clock, zone=zone_named(zone) if zone else None)
    context = Context("h1", "src-1", clock, identity or Identity(), dialect=name, settings=settings)
    body = payload if isinstance(payload, str) else json.dumps(payload)
    return dialect.decode(Message(channel, body.encode(), received_ms, line=1), context)


def event(name: str, payload: Any, **how: Any) -> Event:
    (made,) = decode(name, payload, **how)
    assert isinstance(made, Event), made
    return made


def reject(name: str, payload: Any, **how: Any) -> Reject:
    (made,) = decode(name, payload, **how)
    assert isinstance(made, Reject), made
    return made


# ---- Suricata ----------------------------------------------------------------------------------------


def eve(**fields: Any) -> dict[str, Any]:
    alert = {"action": "allowed", "gid": 1, "signature_id": 9000001, "rev": 1, "signature": "EXAMPLE x", "severity": 2}
    line = {
        "timestamp": "2026-03-01T03:00:00.251547+0100",
        "flow_id": 586497171462735,
        "event_type": "alert",
        "src_ip": "192.0.2.14",
        "dest_ip": "198.51.100.5",
        "proto": "TCP",
        "alert": {**alert, **fields.pop("alert", {})},
    }
    return {**line, **fields}


def test_suricata_time_is_local_with_an_offset_without_colon() -> None:
    made = event("suricata", eve())
    assert utc_text(made.time_ms) == "2026-03-01T02:00:00.251Z"
    assert made.sub_ns == 547_000
    assert made.time_quality == "device"


@pytest.mark.parametrize(("severity", "level"), [(1, "high"), (2, "medium"), (3, "low"), (4, "informational")])
def test_suricata_severity_1_is_the_highest(severity: int, level: str) -> None:
    assert event("suricata", eve(alert={"severity": severity})).level == level


def test_suricata_metadata_values_are_lists_and_critical_raises_the_level_to_high_not_to_critical() -> None:
    made = event("suricata", eve(alert={"severity": 3, "metadata": {"signature_severity": ["Critical"]}}))
    assert made.level == "high"
    assert made.attributes["alert"]["metadata"]["signature_severity"] == ["Critical"]


def test_suricata_keeps_its_own_nested_names_so_that_rules_find_them() -> None:
    made = event("suricata", eve(community_id="1:x="))
    assert made.attributes["alert"]["signature"] == "EXAMPLE x"
    assert made.attributes["dest_ip"] == "198.51.100.5"
    assert "dst_ip" not in made.attributes


def test_suricata_arp_and_dhcp_join_hardware_address_and_address() -> None:
    dhcp = {"type": "reply", "dhcp_type": "ack", "client_mac": "00:00:5E:00:53:77", "assigned_ip": "192.0.2.77"}
    lease = event("suricata", eve(event_type="dhcp", dhcp=dhcp))
    assert (lease.entity("mac", "origin"), lease.entity("ip", "target")) == ("00:00:5e:00:53:77", "192.0.2.77")
    arp = {"opcode": "reply", "src_mac": "00:00:5e:00:53:66", "src_ip": "192.0.2.66", "dest_ip": "192.0.2.1"}
    seen = event("suricata", eve(event_type="arp", arp=arp))
    assert (seen.entity("mac", "origin"), seen.entity("ip", "origin")) == ("00:00:5e:00:53:66", "192.0.2.66")


def test_suricata_ethernet_addresses_become_entities() -> None:
    made = event("suricata", eve(ether={"src_mac": "00:00:5e:00:53:14", "dest_mac": "00:00:5e:00:53:05"}))
    assert made.entity("mac", "origin") == "00:00:5e:00:53:14"
    assert made.entity("mac", "target") == "00:00:5e:00:53:05"


def test_suricata_fields_of_a_later_version_do_not_matter() -> None:
    assert event("suricata", eve(new_in_9={"a": 1})).kind == "ids.alert"
    assert event("suricata", eve(tx_guessed=True)).kind == "ids.alert"
    assert event("suricata", eve(event_type="new_protocol")).kind == "network.connection"


def test_suricata_two_signatures_on_one_packet_are_two_alerts_and_a_shipped_copy_is_one() -> None:
    first, second = event("suricata", eve()), event("suricata", eve(alert={"signature_id": 9000002}))
    assert first.id != second.id
    copy = event("suricata", eve(agent="filebeat"), channel="elsewhere", received_ms=RECEIVED_MS + 500)
    assert copy.id == first.id and copy.dedupe


def test_suricata_records_without_a_name_of_their_own_are_never_taken_for_repetitions() -> None:
    assert not event("suricata", eve(event_type="mqtt", mqtt={"pingreq": {}})).dedupe
    assert not event("suricata", eve(event_type="stats", flow_id=None)).dedupe


def test_suricata_passwords_seen_on_the_wire_are_taken_out() -> None:
    made = event("suricata", eve(event_type="mqtt", mqtt={"connect": {"username": "p-017", "password": "geheim"}}))
    assert "geheim" not in json.dumps(made.attributes)
    made = event("suricata", eve(event_type="ftp", ftp={"command": "PASS", "command_data": "geheim"}))
    assert "geheim" not in json.dumps(made.attributes)


def test_suricata_a_time_before_the_clock_was_set_is_not_believed() -> None:
    made = event("suricata", eve(timestamp="1969-12-31T16:04:21.000000-0800"))
    assert (made.time_quality, made.time_ms) == ("unset", RECEIVED_MS)


# ---- Zeek --------------------------------------------------------------------------------------------


def zeek(**fields: Any) -> dict[str, Any]:
    line = {"_path": "conn", "ts": 1772330400.251547, "uid": "CTest1", "id.orig_h": "192.0.2.14",
            "id.resp_h": "192.0.2.54"}  # fmt: skip
    line.update(fields)
    return {name: value for name, value in line.items() if value is not None}


@pytest.mark.parametrize("ts", [1772330400.251547, "2026-03-01T02:00:00.251547Z", 1772330400251, "1772330400.251"])
def test_zeek_time_is_an_epoch_with_fraction_or_in_ms_or_iso(ts: Any) -> None:
    assert event("zeek", zeek(ts=ts)).time_ms == 1_772_330_400_251


def test_zeek_microseconds_survive_the_double() -> None:
    assert event("zeek", zeek()).sub_ns == 547_000


def test_zeek_log_is_told_by_the_file_name_where_path_is_absent() -> None:
    line = zeek(_path=None)
    assert event("zeek", line, channel="/opt/zeek/logs/current/conn.log").kind == "network.flow"
    assert event("zeek", line, channel="/opt/zeek/logs/dns.02:00:00-03:00:00.log").kind == "dns.query"
    assert reject("zeek", line, channel="zeek-topic").reason == "missing_field"


def test_zeek_tsv_is_refused_with_the_setting_that_mends_it() -> None:
    for line in ("#separator \\x09", "1772330400.251\tCTest1\t192.0.2.14"):
        made = reject("zeek", line)
        assert made.reason == "not_json"
        assert "use_json=T" in made.detail


def test_zeek_keys_stay_flat_and_dotted() -> None:
    assert event("zeek", zeek()).attributes["id.orig_h"] == "192.0.2.14"


def test_zeek_unset_fields_are_absent_also_where_they_are_written_as_a_dash() -> None:
    made = event("zeek", zeek(service="-", answers="(empty)", tunnel_parents=[]))
    assert "service" not in made.attributes and "answers" not in made.attributes
    assert made.attributes["tunnel_parents"] == []


def test_zeek_client_is_an_account_in_kerberos_and_a_banner_in_ssh() -> None:
    made = event("zeek", zeek(_path="kerberos", client="P-017/HOSPITAL.EXAMPLE"))
    assert made.entity("account") == "p-017"
    assert event("zeek", zeek(_path="ssh", client="SSH-2.0-OpenSSH_9.6")).entity("account") == ""


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"_path": "modbus", "func": "WRITE_SINGLE_REGISTER"}, "controller.written"),
        ({"_path": "modbus", "func": "MASK_WRITE_REGISTER"}, "controller.written"),
        ({"_path": "modbus", "func": "READ_HOLDING_REGISTERS"}, "controller.read"),
        ({"_path": "modbus", "func": "unknown-100"}, "controller.read"),
        ({"_path": "dnp3", "fc_request": "DIRECT_OPERATE"}, "controller.written"),
        ({"_path": "bacnet", "pdu_service": "read_property"}, "controller.read"),
        ({"_path": "s7comm", "function_name": "PLC Stop"}, "controller.written"),
    ],
)
def test_zeek_tells_what_changes_a_controller_from_what_reads_it(fields: dict[str, Any], kind: str) -> None:
    assert event("zeek", zeek(**fields)).kind == kind


# ---- Wazuh -------------------------------------------------------------------------------------------


def wazuh(**fields: Any) -> dict[str, Any]:
    rule = {"level": 5, "description": "x", "id": "5710", "groups": ["syslog"], **fields.pop("rule", {})}
    return {
        "timestamp": "2026-03-01T02:00:00.250+0000",
        "rule": rule,
        "agent": {"id": "006", "name": "WS-LAB-2", "ip": "192.0.2.32"},
        "manager": {"name": "wazuh-1"},
        "id": "1772330400.4870",
        **fields,
    }


@pytest.mark.parametrize(
    ("level", "ours"),
    [(0, "informational"), (3, "informational"), (4, "low"), (6, "low"), (7, "medium"), (11, "medium"), (12, "high"),
     (14, "high"), (15, "critical"), (16, "critical"), (99, "critical")],
)  # fmt: skip
def test_wazuh_levels_0_to_16_follow_the_table(level: int, ours: str) -> None:
    assert event("wazuh", wazuh(rule={"level": level})).level == ours


def test_wazuh_agent_000_is_the_manager_and_has_no_address() -> None:
    made = event("wazuh", wazuh(agent={"id": "000", "name": "some-label"}))
    assert made.entity("host", "target") == "wazuh-1"
    assert made.entity("ip") == ""


def test_wazuh_ids_are_unique_to_one_manager_only() -> None:
    one, other = event("wazuh", wazuh()), event("wazuh", wazuh(manager={"name": "wazuh-2"}))
    assert one.id != other.id
    assert one.dedupe


def test_wazuh_5_is_another_format_and_says_so() -> None:
    line = {"@timestamp": "2026-03-01T02:00:00.250Z", "wazuh": {"agent": {"id": "006"}}, "rule": {"id": "5710"}}
    made = reject("wazuh", line)
    assert made.reason == "not_this_dialect"
    assert "Wazuh 5" in made.detail


def test_wazuh_data_values_are_texts_and_stay_texts() -> None:
    made = event("wazuh", wazuh(data={"srcip": "192.0.2.66", "srcport": "40022"}))
    assert made.attributes["data"]["srcport"] == "40022"
    assert made.entity("ip", "origin") == "192.0.2.66"


def test_wazuh_full_log_is_the_text_that_keyword_rules_search() -> None:
    assert event("wazuh", wazuh(full_log="ossec: Agent stopped")).text == "ossec: Agent stopped"


# ---- ClamAV ------------------------------------------------------------------------------------------


def test_clamav_without_log_time_has_no_time() -> None:
    made = event("clamav", "/srv/in/plan.pdf: Example.Trojan.A FOUND")
    assert (made.device_ms, made.time_quality, made.time_ms) == (None, "received", RECEIVED_MS)


def test_clamav_log_time_is_local_without_offset() -> None:
    line = "Sun Mar  1 03:00:00 2026 -> /srv/in/plan.pdf: Example.Trojan.A FOUND"
    assert utc_text(event("clamav", line, zone="Europe/Rome").time_ms) == "2026-03-01T02:00:00.000Z"
    wrong = event("clamav", line, zone="UTC")
    assert (wrong.time_quality, wrong.time_ms) == ("skewed", RECEIVED_MS)
    assert event("clamav", line, zone=None).time_quality == "received"


def test_clamav_a_path_may_hold_a_colon_and_a_space() -> None:
    made = event("clamav", "/srv/in: old/a: b.pdf: Example.Trojan.A FOUND")
    assert made.attributes["Filename"] == "/srv/in: old/a: b.pdf"
    assert made.attributes["Signature"] == "Example.Trojan.A"


def test_clamav_extended_information_is_no_part_of_the_signature() -> None:
    made = event("clamav", "/srv/x: Example.Trojan.A(44D88612FEA8A8F36DE82E1278ABB02F:68) FOUND")
    assert made.attributes == {
        "Signature": "Example.Trojan.A", "md5": "44d88612fea8a8f36de82e1278abb02f", "size": 68, "Filename": "/srv/x",
    }  # fmt: skip


def test_clamav_a_stream_is_no_file_and_its_peer_is_the_origin() -> None:
    made = event("clamav", "instream(192.0.2.40@40312): Example.Trojan.A FOUND")
    assert made.entity("file") == ""
    assert made.entity("ip", "origin") == "192.0.2.40"
    assert event("clamav", "stream(127.0.0.1@3310): Example.Trojan.A FOUND").entity("ip") == ""


@pytest.mark.parametrize(
    ("signature", "kind", "level"),
    [
        ("Example.Trojan.A", "file.verdict", ""),
        ("Example.Trojan.A.UNOFFICIAL", "file.verdict", ""),
        ("Heuristics.Phishing.Email.SpoofedDomain", "file.verdict", "low"),
        ("PUA.Win.Tool.Example", "file.verdict", "low"),
        ("Heuristics.Limits.Exceeded.MaxFileSize", "file.scan_failed", ""),
        ("Heuristics.Encrypted.Zip", "file.scan_failed", ""),
    ],
)
def test_clamav_guesses_and_unwanted_programs_are_not_malware(signature: str, kind: str, level: str) -> None:
    made = event("clamav", f"/srv/x: {signature} FOUND")
    assert (made.kind, made.level) == (kind, level)


def test_clamav_a_third_partys_signature_is_marked() -> None:
    assert event("clamav", "/srv/x: Example.A.UNOFFICIAL FOUND").attributes["unofficial"] is True


def test_clamav_repeats_of_on_access_scans_are_kept() -> None:
    assert not event("clamav", "/srv/x: Example.A FOUND").dedupe


def test_clamav_lines_about_nothing_give_nothing() -> None:
    for line in ("/srv/x: OK", "SelfCheck: Database status OK.", "Infected files: 0", "----------- SCAN SUMMARY"):
        assert decode("clamav", line) == []


def test_clamav_json_names_a_file_by_the_way_to_it() -> None:
    report = {
        "Magic": "CLAMJSONv0",
        "FileName": "set.zip",
        "ContainedObjects": [{"FileName": "a.exe", "Viruses": ["X.A"]}],
    }
    assert event("clamav", report).attributes["Filename"] == "set.zip->a.exe"


# ---- Windows -----------------------------------------------------------------------------------------


def windows(**fields: Any) -> dict[str, Any]:
    line = {
        "EventID": 4624,
        "Channel": "Security",
        "Hostname": "WS-PHARM-1.hospital.example",
        "host": "collector-1",
        "@timestamp": "2026-03-01T02:00:00.250Z",
        "SourceName": "Microsoft-Windows-Security-Auditing",
        "TargetUserName": "P-017",
        "TargetDomainName": "HOSPITAL",
        "LogonType": "2",
    }
    line.update(fields)
    return {name: value for name, value in line.items() if value is not None}


def winlogbeat(event_data: dict[str, Any], **winlog: Any) -> dict[str, Any]:
    head = {"channel": "Security", "computer_name": "WS-PHARM-1.hospital.example", "event_id": "4624", "record_id": 7,
            "provider_name": "Microsoft-Windows-Security-Auditing"}  # fmt: skip
    return {"@timestamp": "2026-03-01T02:00:00.250Z", "host": {"name": "collector-1"},
            "winlog": {**head, "event_data": event_data, **winlog}}  # fmt: skip


def xml(event_data: Any, **system: Any) -> dict[str, Any]:
    head = {"Provider": {"#attributes": {"Name": "Microsoft-Windows-Security-Auditing"}}, "EventID": 4624,
            "TimeCreated": {"#attributes": {"SystemTime": "2026-03-01T02:00:00.2507211Z"}}, "EventRecordID": 7,
            "Channel": "Security", "Computer": "WS-PHARM-1.hospital.example"}  # fmt: skip
    return {"Event": {"System": {**head, **system}, "EventData": event_data}}


def test_windows_one_logon_from_three_shippers_is_the_same_fact() -> None:
    data = {"TargetUserName": "P-017", "TargetDomainName": "HOSPITAL", "LogonType": "2"}
    made = [event("windows-security", line) for line in (windows(), winlogbeat(data), xml(data))]
    assert {one.kind for one in made} == {"host.logon"}
    assert {one.entities for one in made} == {made[0].entities}
    assert {one.time_ms for one in made} == {1_772_330_400_250}
    for one in made:
        for name, value in {"EventID": 4624, "Channel": "Security", **data}.items():
            assert one.attributes[name] == value
        assert one.attributes["Computer"] == "WS-PHARM-1.hospital.example"
        assert one.attributes["Provider_Name"] == "Microsoft-Windows-Security-Auditing"


def test_windows_host_is_the_machine_that_logged_never_the_collector() -> None:
    assert event("windows-security", windows()).entity("host") == "ws-pharm-1"
    assert event("windows-security", winlogbeat({})).entity("host") == "ws-pharm-1"
    assert reject("windows-security", windows(Hostname=None)).reason == "missing_field"


@pytest.mark.parametrize("logon_type", ["2", 7, "11"])
def test_windows_logon_types_2_7_and_11_are_somebody_at_the_console(logon_type: Any) -> None:
    made = event("windows-security", windows(LogonType=logon_type))
    assert made.summary.startswith("console logon")
    assert made.attributes["LogonType"] == logon_type


def test_windows_a_network_logon_is_not_at_the_console() -> None:
    made = event("windows-security", windows(LogonType="3", IpAddress="192.0.2.66"))
    assert made.summary.startswith("network logon")


@pytest.mark.parametrize(
    ("address", "origin"),
    [("-", ""), ("::1", ""), ("127.0.0.1", ""), ("::ffff:192.0.2.66", "192.0.2.66"), ("2001:DB8::66", "2001:db8::66"),
     ("fe80::1%12", "fe80::1")],
)  # fmt: skip
def test_windows_addresses_may_be_a_dash_loopback_or_mapped(address: str, origin: str) -> None:
    made = event("windows-security", windows(IpAddress=address))
    assert made.entity("ip", "origin") == origin
    assert made.attributes["IpAddress"] == address


def test_windows_machine_accounts_are_machines_and_the_system_is_nobody() -> None:
    assert event("windows-security", windows(TargetUserName="WS-LAB-2$")).entity("host", "actor") == "ws-lab-2"
    for nobody in ("SYSTEM", "ANONYMOUS LOGON", "DWM-1", "-"):
        made = event("windows-security", windows(TargetUserName=nobody))
        assert [one for one in made.entities if one.role == "actor"] == []


def test_windows_naive_event_time_counts_only_with_a_declared_zone() -> None:
    line = windows(EventTime="2026-03-01 03:00:00", **{"@timestamp": "2026-03-01T02:00:02.000Z"})
    assert utc_text(event("windows-security", line).time_ms) == "2026-03-01T02:00:02.000Z"
    assert utc_text(event("windows-security", line, zone="Europe/Rome").time_ms) == "2026-03-01T02:00:00.000Z"
    alone = event("windows-security", windows(EventTime="2026-03-01 03:00:00", **{"@timestamp": None}))
    assert (alone.device_ms, alone.time_quality) == (None, "received")


def test_windows_seven_digits_of_a_second_are_kept() -> None:
    made = event("windows-security", xml({"TargetUserName": "p-017"}))
    assert (made.time_ms % 1000, made.sub_ns) == (250, 721_100)


@pytest.mark.parametrize("number", [4624, "4624", "0x1210", {"#text": 4624, "#attributes": {"Qualifiers": "0"}}])
def test_windows_event_ids_come_as_number_or_text_or_with_qualifiers(number: Any) -> None:
    made = event("windows-security", xml({"TargetUserName": "p-017"}, EventID=number))
    assert made.attributes["EventID"] == 4624


def test_an_event_id_beyond_64_bits_is_a_reject_and_travels_nowhere() -> None:
    made = reject("windows-security", windows(EventID=10**25))
    assert (made.reason, made.detail) == ("wrong_type", "field 'EventID' is out of range")


@pytest.mark.parametrize("logon_id", ["0x11f1a90", "0x11F1A90", 0x11F1A90])
def test_windows_logon_ids_join_across_shippers(logon_id: Any) -> None:
    assert event("windows-security", windows(TargetLogonId=logon_id)).attributes["TargetLogonId"] == "0x11f1a90"


def test_windows_message_codes_stay_as_they_are() -> None:
    assert event("windows-security", windows(ElevatedToken="%%1843")).attributes["ElevatedToken"] == "%%1843"


def test_windows_accounts_are_one_account_with_and_without_domain() -> None:
    assert {account_name(name) for name in ("HOSPITAL\\P-017", "p-017@HOSPITAL.EXAMPLE", " p-017 ")} == {"p-017"}


def test_windows_ids_mean_something_only_within_their_channel() -> None:
    disk = windows(EventID=7, Channel="System", SourceName="disk")
    assert event("windows-security", disk).kind == "host.note"
    module = windows(EventID=7, Channel="Microsoft-Windows-Sysmon/Operational", SourceName="Microsoft-Windows-Sysmon")
    assert event("windows-security", module).kind == "module.loaded"
    assert event("sysmon", module).kind == "module.loaded"
    assert reject("sysmon", disk).reason == "not_this_dialect"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"DeviceId": "USBSTOR\\Disk&Ven_X\\1", "ClassName": "DiskDrive"}, "usb.attached"),
        ({"DeviceId": "USB\\VID_1&PID_2\\1", "CompatibleIds": "USB\\Class_08&SubClass_06"}, "usb.attached"),
        ({"DeviceId": "USB\\VID_1&PID_2\\1", "ClassName": "WPD"}, "usb.attached"),
        ({"DeviceId": "SCSI\\Disk&Ven_X\\1", "ClassName": "DiskDrive"}, "host.note"),
        ({"DeviceId": "USB\\VID_1&PID_3\\1", "ClassName": "Keyboard"}, "host.note"),
        ({"DeviceId": "SWD\\RemoteDisplayEnum\\x", "ClassName": "Display"}, "host.note"),
    ],
)
def test_windows_6416_is_any_device_and_only_storage_on_usb_is_usb_storage(fields: dict[str, str], kind: str) -> None:
    assert event("windows-security", windows(EventID=6416, TargetUserName=None, **fields)).kind == kind


def test_windows_cleared_log_names_who_did_it_in_user_data() -> None:
    line = xml({}, EventID=1102)
    del line["Event"]["EventData"]
    line["Event"]["UserData"] = {"LogFileCleared": {"SubjectUserName": "p-017"}}
    made = event("windows-security", line)
    assert (made.kind, made.entity("account", "actor")) == ("log.cleared", "p-017")


def test_windows_a_refused_ticket_is_a_failure() -> None:
    assert event("windows-security", windows(EventID=4768, Status="0x0")).kind == "kerberos.ticket"
    assert event("windows-security", windows(EventID=4768, Status="0x6")).kind == "kerberos.failed"


def test_windows_records_of_a_cleared_log_start_again_and_are_not_repetitions() -> None:
    first = event("windows-security", windows(RecordNumber=1))
    again = event("windows-security", windows(RecordNumber=1, **{"@timestamp": "2026-03-01T02:00:00.260Z"}))
    assert first.dedupe and again.dedupe
    assert first.id != again.id


# ---- Defender ----------------------------------------------------------------------------------------


def defender(event_id: int, **data: Any) -> dict[str, Any]:
    channel = "Microsoft-Windows-Windows Defender/Operational"
    return xml(data, EventID=event_id, Channel=channel, Provider={"@Name": "Microsoft-Windows-Windows Defender"})


def test_defender_names_hold_spaces_and_are_found_without_them_too() -> None:
    made = event(
        "windows-security", defender(1116, **{"Threat Name": "Trojan:Win32/Example.A", "Severity Name": "Severe"})
    )
    assert made.attributes["Threat Name"] == made.attributes["ThreatName"] == "Trojan:Win32/Example.A"
    assert (made.kind, made.level) == ("file.verdict", "")


def test_defender_detection_and_action_share_the_detection_id_and_the_action_is_low() -> None:
    data = {"Detection ID": "{511224D4-0000-0000-0000-000000000001}", "Threat Name": "X"}
    detected, acted = (event("windows-security", defender(number, **data)) for number in (1116, 1117))
    assert detected.attributes["Detection ID"] == acted.attributes["Detection ID"]
    assert acted.level == "low"


def test_defender_path_is_a_list_with_prefixes_and_inner_names() -> None:
    path = "file:_C:\\a.exe;containerfile:_C:\\in.zip;file:_C:\\in.zip->x.exe;process:_pid:7"
    made = event("windows-security", defender(1116, Path=path))
    files = [one.id for one in made.entities if one.kind == "file"]
    assert files == ["C:\\a.exe", "C:\\in.zip"]


def test_defender_time_is_when_it_was_written_not_the_detection_time_inside() -> None:
    made = event("windows-security", defender(1116, **{"Detection Time": "2026-03-01T01:00:00.000Z"}))
    assert made.time_ms == 1_772_330_400_250


def test_defender_switched_off_is_protection_disabled() -> None:
    assert event("windows-security", defender(5001)).kind == "protection.disabled"


# ---- Sysmon ------------------------------------------------------------------------------------------


def sysmon(event_id: int, **data: Any) -> dict[str, Any]:
    return windows(
        EventID=event_id, Channel="Microsoft-Windows-Sysmon/Operational", SourceName="Microsoft-Windows-Sysmon",
        TargetUserName=None, LogonType=None, UtcTime="2026-03-01 02:00:00.111", **data,
    )  # fmt: skip


def test_sysmon_utc_time_is_utc_without_saying_so() -> None:
    assert event("sysmon", sysmon(1), zone="Europe/Rome").time_ms == 1_772_330_400_111


def test_sysmon_connection_belongs_to_its_two_ends_and_was_seen_by_the_host() -> None:
    made = event("sysmon", sysmon(3, SourceIp="192.0.2.32", DestinationIp="198.51.100.5"))
    assert (made.entity("ip", "origin"), made.entity("ip", "target")) == ("192.0.2.32", "198.51.100.5")
    assert made.entity("host", "observer") == "ws-pharm-1"


def test_sysmon_stopped_is_protection_switched_off() -> None:
    assert event("sysmon", sysmon(4, State="Stopped")).kind == "protection.disabled"
    assert event("sysmon", sysmon(4, State="Started")).kind == "protection.enabled"


# ---- syslog ------------------------------------------------------------------------------------------


FAILED = "Failed password for invalid user p-017 from 192.0.2.66 port 40022 ssh2"


def test_syslog_3164_has_no_zone_and_takes_the_declared_one() -> None:
    line = f"<38>Mar  1 03:00:00 ws-lab-2 sshd[812]: {FAILED}"
    assert utc_text(event("syslog", line, zone="Europe/Rome").time_ms) == "2026-03-01T02:00:00.000Z"
    assert event("syslog", line, zone="UTC").time_quality == "skewed"
    assert event("syslog", line, zone=None).time_quality == "received"


@pytest.mark.parametrize(
    ("text", "received", "time"),
    [
        ("Dec 31 23:59:59", "2026-01-01T00:00:01+00:00", "2025-12-31T23:59:59.000Z"),
        ("Jan  1 00:00:01", "2025-12-31T23:59:59+00:00", "2026-01-01T00:00:01.000Z"),
        ("Feb 29 12:00:00", "2024-02-29T12:00:05+00:00", "2024-02-29T12:00:00.000Z"),
    ],
)
def test_syslog_3164_year_is_the_one_nearest_to_the_receive_time(text: str, received: str, time: str) -> None:
    made = event("syslog", f"<38>{text} ws-lab-2 app: x", received_ms=parse_iso(received)[0])
    assert (utc_text(made.time_ms), made.time_quality) == (time, "device")


def test_syslog_3164_replayed_without_receive_time_takes_the_year_of_the_settings() -> None:
    line = "<38>Mar  1 02:00:00 ws-lab-2 app: x"
    assert event("syslog", line, received_ms=-1).time_ms == -1
    made = event("syslog", line, received_ms=-1, settings={"year": 2026})
    assert utc_text(made.time_ms) == "2026-03-01T02:00:00.000Z"


def test_syslog_host_name_may_be_missing_behind_a_relay() -> None:
    for line in ("<38>Mar  1 02:00:00 sshd[812]: x", "Mar  1 02:00:00 [sshd]: x", "sshd[812]: x"):
        made = event("syslog", line)
        assert made.entity("host", "target") == "src-1"
        assert made.attributes["appname"] == "sshd"
        assert made.text == "x"
    assert event("syslog", "sshd[812]: x", settings={"host": "WS-LAB-2"}).entity("host") == "ws-lab-2"


def test_syslog_message_repeated_is_that_many_events() -> None:
    line = f"Mar  1 02:00:00 ws-lab-2 sshd[812]: message repeated 5 times: [ {FAILED}]"
    made = decode("syslog", line)
    assert [one.kind for one in made if isinstance(one, Event)] == ["host.logon_failed"] * 5
    assert len({one.id for one in made if isinstance(one, Event)}) == 5


def test_syslog_a_forged_number_of_repetitions_makes_at_most_100_events() -> None:
    line = f"Mar  1 02:00:00 ws-lab-2 sshd[812]: message repeated 999999999 times: [ {FAILED}]"
    made = decode("syslog", line)
    assert len(made) == 100
    assert isinstance(made[0], Event) and made[0].attributes["repeated"] == 999_999_999


def test_syslog_equal_lines_of_one_second_are_not_dropped() -> None:
    assert not event("syslog", f"Mar  1 02:00:00 ws-lab-2 sshd[812]: {FAILED}").dedupe


@pytest.mark.parametrize("program", ["sshd", "sshd-session", "sshd-auth"])
def test_sshd_has_several_program_names(program: str) -> None:
    made = event("syslog", f"Mar  1 02:00:00 ws-lab-2 {program}[812]: {FAILED}")
    assert made.kind == "host.logon_failed"
    said = {name: made.attributes[name] for name in ("user", "src_ip", "src_port", "method", "invalid_user")}
    assert said == {
        "user": "p-017",
        "src_ip": "192.0.2.66",
        "src_port": 40022,
        "method": "password",
        "invalid_user": True,
    }


def test_sshd_user_names_cannot_forge_the_address() -> None:
    forged = "x from 203.0.113.9 port 22 ssh2"
    line = f"Mar  1 02:00:00 ws-lab-2 sshd[812]: Failed password for invalid user {forged} from 192.0.2.66 port 1 ssh2"
    made = event("syslog", line)
    assert made.entity("ip", "origin") == "192.0.2.66"
    assert made.attributes["user"] == forged


def test_sshd_one_attempt_counts_once_however_many_lines_it_writes() -> None:
    lines = (
        "Invalid user p-017 from 192.0.2.66 port 40022",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.66  user=p-017",
        FAILED,
        "Connection closed by invalid user p-017 192.0.2.66 port 40022 [preauth]",
    )
    kinds = [event("syslog", f"Mar  1 02:00:00 ws-lab-2 sshd[812]: {line}").kind for line in lines]
    assert kinds == ["host.note", "host.note", "host.logon_failed", "host.note"]


def test_syslog_5424_values_are_unescaped_and_the_mark_is_no_part_of_the_text() -> None:
    line = '<38>1 2026-03-01T02:00:00.251547Z WS-LAB-2 app 9 ID1 [a@32473 x="q\\" b\\] s\\\\ n\\n"][meta sequenceId="7"] \ufeffhi'
    made = event("syslog", line)
    assert made.attributes["structured_data"]["a@32473"]["x"] == 'q" b] s\\ n\\n'
    assert (made.text, made.seq, made.sub_ns) == ("hi", 7, 547_000)
    assert (made.attributes["facility"], made.attributes["severity"]) == (4, 6)


def test_syslog_5424_nil_values_are_absent() -> None:
    made = event("syslog", "<13>1 - - - - - -")
    assert made.attributes == {"facility": 1, "severity": 5}
    assert (made.text, made.device_ms) == ("", None)


def test_syslog_octet_counts_of_a_stream_are_tolerated() -> None:
    plain = event("syslog", "<13>1 2026-03-01T02:00:00Z ws-lab-2 app - - - hi")
    counted = event("syslog", "49 <13>1 2026-03-01T02:00:00Z ws-lab-2 app - - - hi")
    assert (counted.attributes, counted.text, counted.time_ms) == (plain.attributes, plain.text, plain.time_ms)


@pytest.mark.parametrize(
    "line",
    [
        "dnsmasq-dhcp[5386]: DHCPACK(eth0) 192.0.2.77 00:00:5e:00:53:77 pump-7",
        "Mar  1 02:00:00 ws-lab-2 dhcpd[4842]: DHCPACK on 192.0.2.77 to 00:00:5e:00:53:77 (pump-7) via eth0",
        "2026-03-01 02:00:00.251 INFO  [kea-dhcp4.leases/24.1] DHCP4_LEASE_ALLOC [hwtype=1 00:00:5e:00:53:77], cid=[no info], tid=0x1: lease 192.0.2.77 has been allocated for 300 seconds",
    ],
)
def test_syslog_leases_of_three_servers_join_hardware_address_and_address(line: str) -> None:
    made = event("syslog", line)
    assert made.kind == "dhcp.lease"
    assert (made.entity("mac", "origin"), made.entity("ip", "target")) == ("00:00:5e:00:53:77", "192.0.2.77")


def test_syslog_bytes_that_are_not_utf_8_do_not_hide_a_line() -> None:
    dialect = DIALECTS["syslog"]
    context = Context("h1", "src-1", dialect.clock, dialect="syslog")
    payload = (
        b"Mar  1 02:00:00 ws-lab-2 sshd[812]: Failed password for invalid user \xff\xfe from 192.0.2.66 port 1 ssh2"
    )
    (made,) = dialect.decode(Message("x", payload, RECEIVED_MS), context)
    assert isinstance(made, Event)
    assert (made.kind, made.entity("ip", "origin")) == ("host.logon_failed", "192.0.2.66")


def test_syslog_settings_are_checked_and_every_fault_is_told() -> None:
    check = DIALECTS["syslog"].check_settings
    assert check is not None
    assert check({"host": "ws-lab-2", "year": 2026, "nameless": ["ntpd"]}, "sources.yaml") == []
    assert len(check({"hosts": "x", "year": "2026", "host": "", "nameless": "ntpd"}, "sources.yaml")) == 4


# ---- names and tokens ----------------------------------------------------------------------------------


class Marked(Identity):
    __slots__ = ()

    def token(self, kind: str, value: str) -> str:
        return f"{kind}#{len(value.strip())}"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("windows-security", windows(SubjectUserName="p-017", Message="Account Name: p-017", ProcessName="C:\\Users\\p-017\\x.exe")),
        ("sysmon", sysmon(1, User="HOSPITAL\\p-017", CommandLine="x.exe /user:HOSPITAL\\p-017", CurrentDirectory="C:\\Users\\P-017\\")),
        ("syslog", "Mar  1 02:00:00 ws-lab-2 sudo:  p-017 : TTY=pts/4 ; PWD=/home/p-017 ; USER=root ; COMMAND=/bin/ls /home/p-017"),
        ("syslog", f"Mar  1 02:00:00 ws-lab-2 sshd[812]: {FAILED}"),
        ("syslog", "Mar  1 02:00:00 ws-lab-2 CRON[9]: (p-017) CMD (/home/p-017/x)"),
        ("wazuh", wazuh(data={"srcuser": "p-017"}, full_log="login of P-017 failed", rule={"description": "login of p-017"})),
        ("zeek", zeek(_path="ftp", user="p-017", arg="ftp://192.0.2.54/home/p-017/x")),
        ("suricata", eve(event_type="krb5", krb5={"cname": "p-017", "sname": "host/p-017"})),
    ],
)  # fmt: skip
def test_an_account_stands_in_no_field_text_or_summary_but_as_its_token(name: str, line: Any) -> None:
    assert "p-017" in json.dumps(event(name, line).attributes).lower() + event(name, line).text.lower()
    made = event(name, line, identity=Marked())
    said = json.dumps([made.attributes, made.text, made.summary, [one.id for one in made.entities]]).lower()
    assert "p-017" not in said
    assert "account#" in said


def test_a_short_name_is_not_replaced_inside_other_words() -> None:
    line = "Mar  1 02:00:00 ws-lab-2 app[9]: user=in opened inside of in"
    made = event("syslog", line, identity=Marked(), settings={"named": ["app"]})
    assert made.text == "user=account#2 opened inside of account#2"


UNKNOWN = "<13>1 2026-03-01T02:00:00.250Z ws-lab-2 app 9 - "


@pytest.mark.parametrize(
    "text",
    [
        "session of P-017 took 4 s",
        "p-017: lunch",
        "report by nobody, seen by P-017 and P-018",
        "user=p-018 met P-017",
        "Grüße von P-017",
        "p-017",
        "x" * 8_200 + " user=p-017",
        "P-017=1",
    ],
)
def test_the_text_of_an_unknown_program_is_withheld_whatever_is_recognised_in_it(text: str) -> None:
    clear = event("syslog", f"{UNKNOWN}- {text}")
    assert (clear.text, "text_withheld" in clear.attributes) == (text, False)
    made = event("syslog", f"{UNKNOWN}- {text}", identity=Marked())
    assert (made.kind, made.text, made.attributes["text_withheld"]) == ("host.note", "", True)
    assert event("syslog", f"{UNKNOWN}- {text}", identity=Marked(), settings={"nameless": ["app"]}).text
    assert "p-017" not in json.dumps(made.attributes).lower()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("(p-017) CMD (/home/p-017/backup)", "(account#5) CMD (/home/account#5/backup)"),
        ("report made by P-017", "report made by account#5"),
        ("mail to p-017@hospital.example", "mail to account#22"),
        ("no right for 'p-017', P-017 was told", "no right for 'account#5', account#5 was told"),
    ],
)
def test_a_listed_program_keeps_its_text_and_what_it_names_is_replaced_wherever_it_stands(
    text: str, shown: str
) -> None:
    listed = {"named": ["app"]}
    assert event("syslog", f"{UNKNOWN}- {text}", identity=Marked(), settings=listed).text == shown
    assert event("syslog", f"{UNKNOWN}- {text}".replace(" app ", " CRON "), identity=Marked()).text == shown
    made = event("syslog", f"{UNKNOWN}- lunch of P-017", identity=Marked(), settings=listed)
    assert (made.text, made.attributes["text_withheld"]) == ("", True)


def test_structured_data_of_an_unknown_program_keeps_no_name() -> None:
    line = f'{UNKNOWN}[meta sequenceId="7"][a@32473 userName="P-017" note="p-017 left"] p-017 left'
    assert event("syslog", line).attributes["structured_data"]["a@32473"]["note"] == "p-017 left"
    made = event("syslog", line, identity=Marked())
    assert made.attributes["structured_data"] == {"meta": {"sequenceId": "7"}}
    made = event("syslog", line, identity=Marked(), settings={"nameless": ["app"]})
    assert made.attributes["structured_data"]["a@32473"] == {"userName": "account#5", "note": "account#5 left"}
    assert made.text == "account#5 left"
    made = event("syslog", line, identity=Marked(), settings={"named": ["app"]})
    assert made.attributes["structured_data"] == {"meta": {"sequenceId": "7"}}
    made = event(
        "syslog", line.replace("] p-017 left", "] user=P-017 left"), identity=Marked(), settings={"named": ["app"]}
    )
    assert made.attributes["structured_data"]["a@32473"] == {"userName": "account#5"}
    made = event("syslog", line.replace("] p-017 left", "]"), identity=Marked())
    assert made.attributes["structured_data"] == {"meta": {"sequenceId": "7"}}


def test_a_program_that_names_nobody_keeps_its_text() -> None:
    made = event("syslog", f"{UNKNOWN}- clock stepped 4 s", identity=Marked(), settings={"nameless": ["app"]})
    assert (made.text, "text_withheld" in made.attributes) == ("clock stepped 4 s", False)


@pytest.mark.parametrize(
    ("text", "name"),
    [("WS5.hospital.example", "ws5"), ("ws5.", "ws5"), ("\\\\WS5", "ws5"), ("192.0.2.5", "192.0.2.5"),
     ("::ffff:192.0.2.5", "192.0.2.5"), ("localhost", ""), ("-", ""), ("", "")],
)  # fmt: skip
def test_host_names_have_one_form(text: str, name: str) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize("text", ["00-00-5E-00-53-77", "0000.5e00.5377", "00:00:5E:00:53:77"])
def test_hardware_addresses_have_one_form(text: str) -> None:
    made = mac_entity("origin", text)
    assert made is not None and made.id == "00:00:5e:00:53:77"


def test_unset_addresses_are_no_entities() -> None:
    for text in ("0.0.0.0", "::", "::1", "-", "", "x", 7, None, ["192.0.2.5"]):
        assert ip_entity("origin", text) is None
    for text in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "-", 7):
        assert mac_entity("origin", text) is None
