"""What goes wrong with real sensors, cameras and badge systems; one test a trap."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from correlator.clock import parse_iso
from correlator.events import Entity, Event, Identity, Reject, StateValue
from correlator.sources import DIALECTS, Context, Message, map_settings, prepared_settings

T = parse_iso("2026-03-01T02:00:00Z")[0]


def decode(
    dialect: str, channel: str, payload: Any, received_ms: int = T, settings: Any = None, **about: Any
) -> list[Event | Reject]:
    chosen = DIALECTS[dialect]
    context = Context(site="h1", source="src", clock=chosen.clock, dialect=dialect, settings=settings)
    body = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    return chosen.decode(Message(channel, body, received_ms, **about), context)


def one(made: list[Event | Reject]) -> Event:
    assert len(made) == 1
    assert isinstance(made[0], Event), made
    return made[0]


def kinds(made: list[Event | Reject]) -> list[str]:
    return [event.kind if isinstance(event, Event) else f"reject:{event.reason}" for event in made]


def only_reject(made: list[Event | Reject]) -> Reject:
    assert len(made) == 1
    assert isinstance(made[0], Reject), made
    return made[0]


class Upper(Identity):
    """Tokens that differ from what they stand for."""

    def token(self, kind: str, value: str) -> str:
        return f"{kind}#{len(value)}"


# ---- zigbee2mqtt -----------------------------------------------------------------------------------


def test_contact_true_is_closed() -> None:
    closed = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True}))
    assert (closed.kind, closed.state) == ("contact.closed", StateValue("sensor", "c1", "contact", "closed"))
    opened = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": False}))
    assert (opened.kind, opened.state) == ("contact.opened", StateValue("sensor", "c1", "contact", "open"))


def test_a_battery_report_repeats_the_cached_contact_as_state() -> None:
    made = decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True, "tamper": True, "battery": 41})
    states = [event.state for event in made if isinstance(event, Event)]
    assert states == [
        StateValue("sensor", "c1", "contact", "closed"),
        StateValue("sensor", "c1", "tamper", "on", alarm=True),
    ]


def test_an_attribute_is_missing_or_null_until_its_first_report() -> None:
    made = decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": None, "occupancy": True})
    assert kinds(made) == ["motion.detected"]


def test_a_friendly_name_holds_slashes_and_spaces() -> None:
    made = decode("zigbee2mqtt", "zigbee2mqtt/floor 1/pharmacy/door contact", {"contact": True})
    assert one(made).entity("sensor") == "floor 1/pharmacy/door contact"
    made = decode("zigbee2mqtt", "zigbee2mqtt/floor 1/door contact/availability", {"state": "offline"})
    assert one(made).entity("sensor") == "floor 1/door contact"


def test_a_renamed_device_keeps_its_identity_by_ieee_address() -> None:
    settings = {"devices": {"0x00158d00abcd0001": {"sensor": "s-17", "door": "d1"}}}
    body = {"contact": False, "device": {"ieeeAddr": "0x00158d00abcd0001", "friendlyName": "new name"}}
    made = one(decode("zigbee2mqtt", "zigbee2mqtt/new name", body, settings=settings))
    assert made.entities == (Entity("observer", "sensor", "s-17"), Entity("where", "door", "d1"))


def test_a_device_is_known_by_its_address_whatever_it_said_without_it_before() -> None:
    dialect = DIALECTS["zigbee2mqtt"]
    settings = {"devices": {"0x00158d00abcd0001": {"sensor": "s-17"}}}
    context = Context(site="h1", source="src", clock=dialect.clock, dialect="zigbee2mqtt", settings=settings)
    for address, sensor in ((None, "hall"), ("0x00158d00abcd0001", "s-17"), ("0x00158d00abcd0002", "hall")):
        body = {"contact": False, **({} if address is None else {"device": {"ieeeAddr": address}})}
        made = one(dialect.decode(Message("zigbee2mqtt/hall", json.dumps(body).encode(), T), context))
        assert made.entity("sensor") == sensor


def test_last_seen_comes_in_three_forms_and_is_absent_by_default() -> None:
    forms = ("2026-03-01T02:00:00.000Z", "2026-03-01T03:00:00+01:00", T)
    for form in forms:
        event = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True, "last_seen": form}, T + 700))
        assert (event.time_ms, event.time_quality) == (T, "device")
    event = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True}, T + 700))
    assert (event.time_ms, event.time_quality, event.device_ms) == (T + 700, "received", None)


def test_a_coordinator_that_lost_its_clock_is_not_believed() -> None:
    event = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True, "last_seen": "1970-01-01T00:02:10Z"}))
    assert (event.time_ms, event.time_quality) == (T, "unset")


def test_state_cached_for_hours_and_sent_on_startup_is_skewed() -> None:
    event = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": False, "last_seen": T - 9 * 3_600_000}))
    assert (event.time_ms, event.time_quality) == (T, "skewed")


def test_lock_pins_leave_no_trace_and_users_are_tokens() -> None:
    body = {
        "lock_state": "unlocked",
        "action": "keypad_unlock",
        "action_user": "slot-user-7",
        "action_code": "135792",
        "pin_code": {"user": 7, "pin_code": "135791"},
        "users": {"7": {"status": "enabled", "pin_code": "135793"}},
        "last": {"keypad_pin": "135794"},
    }
    chosen = DIALECTS["zigbee2mqtt"]
    context = Context(site="h1", source="src", clock=chosen.clock, identity=Upper(), dialect="zigbee2mqtt")
    made = chosen.decode(Message("zigbee2mqtt/l1", json.dumps(body).encode(), T), context)
    assert kinds(made) == ["door.unlocked"]
    said = msgspec.json.encode(made).decode()
    assert "13579" not in said
    assert "slot-user-7" not in said
    assert one(made).entity("person", "actor") == "person#11"
    broken = only_reject(
        chosen.decode(Message("zigbee2mqtt/l1", json.dumps(body | {"contact": 7}).encode(), T), context)
    )
    assert broken.payload == b"", "the reject of a lock's message would carry the PIN"


def test_an_action_user_of_null_is_nobody() -> None:
    made = one(decode("zigbee2mqtt", "zigbee2mqtt/l1", {"lock_state": "locked", "action_user": None}))
    assert made.entities == (Entity("observer", "sensor", "l1"), Entity("where", "door", "l1"))


def test_a_retained_action_is_not_a_new_press() -> None:
    assert decode("zigbee2mqtt", "zigbee2mqtt/b1", {"action": "emergency"}, retained=True) == []
    assert kinds(decode("zigbee2mqtt", "zigbee2mqtt/b1", {"action": "emergency"})) == ["panic.pressed"]


def test_output_attribute_publishes_one_topic_an_attribute() -> None:
    made = one(decode("zigbee2mqtt", "zigbee2mqtt/ward 3/c1/contact", "false"))
    assert (made.kind, made.entity("sensor")) == ("contact.opened", "ward 3/c1")
    assert kinds(decode("zigbee2mqtt", "zigbee2mqtt/l1/lock_state", "locked")) == ["door.locked"]


def test_devices_that_announce_themselves_have_not_joined() -> None:
    for what, said in (("device_announce", []), ("device_interview", []), ("device_joined", ["device.joined"])):
        body = {"type": what, "data": {"friendly_name": "hall", "ieee_address": "0x00158d00abcd0001"}}
        assert kinds(decode("zigbee2mqtt", "zigbee2mqtt/bridge/event", body)) == said


def test_a_zero_byte_payload_is_a_deletion() -> None:
    for dialect, topic in (
        ("zigbee2mqtt", "zigbee2mqtt/c1"),
        ("frigate", "frigate/available"),
        ("onvif", "ctl/onvif-ej/Door/State/DoorAlarm/&d"),
    ):
        assert decode(dialect, topic, "", retained=True) == []


def test_a_duplicate_without_device_time_counts_only_with_the_dup_flag() -> None:
    first = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True}, T, qos=1, packet_id=7))
    again = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True}, T + 30, qos=1, packet_id=7, dup=True))
    other = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": True}, T + 60, qos=1, packet_id=8, dup=True))
    assert not first.dedupe
    assert first.id != again.id
    assert (first.mqtt_dup, again.mqtt_dup) == (False, True)
    assert first.dup_key == again.dup_key != ""
    assert other.dup_key != first.dup_key, "an equal message of its own, of which the first delivery was lost"


def test_messages_queued_while_the_bridge_was_away_say_so() -> None:
    event = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", {"contact": False}, T, queued_since_ms=T - 900_000))
    assert (event.time_ms, event.time_quality) == (T, "queued")
    body = {"contact": False, "last_seen": T - 600_000}
    event = one(decode("zigbee2mqtt", "zigbee2mqtt/c1", body, T, queued_since_ms=T - 900_000))
    assert (event.time_ms, event.time_quality) == (T - 600_000, "device")


# ---- frigate ---------------------------------------------------------------------------------------


def tracked(change: str, before: dict[str, Any] | None = None, **after: Any) -> dict[str, Any]:
    thing = {
        "id": "1772330399.1-abc", "camera": "cam1", "frame_time": T / 1000, "label": "person", "sub_label": None,
        "entered_zones": [], "current_zones": [], "false_positive": False,
    }  # fmt: skip
    return {"type": change, "before": thing | (before or {}), "after": thing | after}


def test_an_end_that_never_comes_leaves_nothing_open() -> None:
    for change in ("new", "update", "end"):
        for event in decode("frigate", "frigate/events", tracked(change)):
            assert isinstance(event, Event)
            assert event.state is None


def test_many_updates_of_one_person_give_an_event_only_on_a_zone_change() -> None:
    quiet = tracked("update", {"entered_zones": ["a"]}, entered_zones=["a"], score=0.9)
    assert decode("frigate", "frigate/events", quiet) == []
    moved = tracked("update", {"entered_zones": ["a"]}, entered_zones=["a", "b"])
    assert kinds(decode("frigate", "frigate/events", moved)) == ["person.moved"]


def test_a_native_id_names_one_message_not_one_tracked_object() -> None:
    first = one(decode("frigate", "frigate/events", tracked("new")))
    later = one(decode("frigate", "frigate/events", tracked("end", frame_time=T / 1000 + 5), T + 5_000))
    again = one(decode("frigate", "frigate/events", tracked("end", frame_time=T / 1000 + 5), T + 9_000))
    assert first.id != later.id == again.id
    assert again.dedupe


def test_frame_times_are_float_seconds() -> None:
    event = one(decode("frigate", "frigate/events", tracked("new", frame_time=T / 1000 + 0.123456), T + 900))
    assert (event.time_ms, event.sub_ns) == (T + 123, 456_000)


def test_face_names_plates_and_pictures_do_not_travel() -> None:
    body = tracked(
        "update", sub_label=["Rosa Beispiel", 0.79], recognized_license_plate="ZZ 407 QX", thumbnail="/9j/4AAQ"
    )
    chosen = DIALECTS["frigate"]
    context = Context(site="h1", source="src", clock=chosen.clock, identity=Upper(), dialect="frigate")
    made = chosen.decode(Message("frigate/events", json.dumps(body).encode(), T), context)
    assert kinds(made) == ["face.recognised"]
    said = msgspec.json.encode(made).decode()
    assert not any(clear in said for clear in ("Rosa", "ZZ 407", "4AAQ"))
    assert one(made).entity("person", "actor") == "person#13"


def test_stopped_is_as_dark_as_offline() -> None:
    for word in ("offline", "stopped"):
        event = one(decode("frigate", "frigate/available", word))
        assert event.kind == "recorder.offline"
        assert event.state == StateValue("software", "frigate", "availability", word, alarm=True)


def test_online_comes_again_at_every_reconnect_and_is_only_state() -> None:
    event = one(decode("frigate", "frigate/available", "online", retained=True))
    assert event.retained
    assert event.state == StateValue("software", "frigate", "availability", "online")


def test_a_dark_camera_is_an_alarm_for_each_role() -> None:
    detect = one(decode("frigate", "frigate/cam1/status/detect", "offline"))
    record = one(decode("frigate", "frigate/cam1/status/record", "online"))
    assert detect.state == StateValue("camera", "cam1", "status.detect", "offline", alarm=True)
    assert record.state == StateValue("camera", "cam1", "status.record", "online")


def test_pictures_and_counters_are_no_errors() -> None:
    assert decode("frigate", "frigate/cam1/person", "3") == []
    chosen = DIALECTS["frigate"]
    context = Context(site="h1", source="src", clock=chosen.clock, dialect="frigate")
    assert chosen.decode(Message("frigate/cam1/person/snapshot", b"\xff\xd8\xff\xe0\x00", T), context) == []


def test_a_review_alerts_once_when_it_becomes_an_alert() -> None:
    review = {"id": "1.5-x", "camera": "cam1", "start_time": T / 1000, "data": {"zones": []}}

    def change(word: str, was: str, now: str) -> list[str]:
        body = {"type": word, "before": review | {"severity": was}, "after": review | {"severity": now}}
        return kinds(decode("frigate", "frigate/reviews", body))

    assert change("new", "detection", "detection") == []
    assert change("update", "detection", "alert") == ["analytics.alert"]
    assert change("update", "alert", "alert") == []
    assert change("end", "alert", "alert") == []


def test_documentation_examples_with_comments_are_rejects() -> None:
    made = decode("frigate", "frigate/events", '{"type": "new", // new, update, end\n "after": {}}')
    assert only_reject(made).reason == "not_json"


# ---- onvif -----------------------------------------------------------------------------------------


def notice(topic: str, source: dict[str, Any], data: dict[str, Any], **about: Any) -> list[Event | Reject]:
    settings = about.pop("settings", None)
    body = {"UtcTime": "2026-03-01T02:00:00Z", "Source": source, "Data": data}
    return decode("onvif", f"dev/1/onvif-ej/{topic}", body, T + 100, settings=settings, **about)


def test_a_property_is_state_whether_retained_or_live() -> None:
    for retained in (False, True):
        made = one(notice("Door/State/DoorAlarm/&d1", {"DoorToken": "d1"}, {"State": "Normal"}, retained=retained))
        assert made.state == StateValue("door", "d1", "alarm", "normal")
        assert made.retained is retained


def test_forced_and_held_are_alarms_of_the_door() -> None:
    forced = one(notice("Door/State/DoorAlarm/&d1", {"DoorToken": "d1"}, {"State": "DoorForcedOpen"}))
    assert (forced.kind, forced.state) == ("door.forced", StateValue("door", "d1", "alarm", "forced", alarm=True))
    held = one(notice("Door/State/DoorAlarm/&d1", {"DoorToken": "d1"}, {"State": "DoorOpenTooLong"}))
    assert (held.kind, held.state) == ("door.held", StateValue("door", "d1", "alarm", "held", alarm=True))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("Locked", "door.locked"), ("DoubleLocked", "door.locked"), ("LockedDown", "door.locked"),
        ("Blocked", "door.locked"), ("Unlocked", "door.unlocked"), ("Accessed", "door.unlocked"),
        ("LockedOpen", "door.unlocked"),
    ],
)  # fmt: skip
def test_a_locked_open_door_is_open_and_a_blocked_one_is_not(mode: str, kind: str) -> None:
    made = one(notice("Door/State/DoorMode/&d1", {"DoorToken": "d1"}, {"State": mode}))
    assert made.kind == kind
    assert made.state is not None
    assert made.state.value.replace("_", "") in mode.lower()


def test_a_topic_of_a_vendors_namespace_is_no_error() -> None:
    assert notice("acme:Lift/State", {"Token": "1"}, {"State": "Stuck"}) == []
    assert kinds(notice("tns1:Door/State/DoorTamper", {"DoorToken": "d1"}, {"State": "TamperDetected"})) == [
        "door.tamper"
    ]


def test_granted_is_not_entered() -> None:
    source = {"AccessPointToken": "ap1"}
    said = [
        one(notice(f"AccessControl/{topic}/Credential/&ap1", source, {"CredentialToken": "c-9"})).kind
        for topic in ("AccessGranted", "AccessTaken", "AccessNotTaken")
    ]
    assert said == ["badge.granted", "badge.entered", "badge.not_entered"]


def test_an_unknown_reason_of_denial_is_kept_as_it_is() -> None:
    data = {"CredentialToken": "c-9", "Reason": "pt:vendor:Maintenance"}
    event = one(notice("AccessControl/Denied/Credential/&ap1", {"AccessPointToken": "ap1"}, data))
    assert event.kind == "badge.denied"
    assert event.attributes["Data"]["Reason"] == "pt:vendor:Maintenance"


def test_a_credential_not_found_is_an_unknown_badge() -> None:
    for topic in ("AccessControl/Denied/CredentialNotFound", "AccessControl/Denied/CredentialNotFound/Card"):
        event = one(notice(f"{topic}/&ap1", {"AccessPointToken": "ap1"}, {"Card": "04A2C9"}))
        assert (event.kind, event.entity("badge", "actor")) == ("badge.unknown", "04A2C9")


def test_values_come_quoted_or_bare() -> None:
    for value, kind in ((True, "motion.detected"), ("true", "motion.detected"), ("0", "motion.cleared")):
        made = notice("RuleEngine/CellMotionDetector/Motion", {"VideoSource": 1}, {"IsMotion": value})
        assert one(made).kind == kind


def test_an_ampersand_in_the_topic_begins_the_source_values() -> None:
    made = one(notice("RuleEngine/LineDetector/Crossed/&1/2/Fence", {"VideoSource": "1"}, {"ObjectId": "4"}))
    assert (made.kind, made.entities) == ("line.crossed", (Entity("observer", "camera", "dev/1"),))


def test_a_digital_input_can_be_a_door() -> None:
    settings = {"devices": {"dev/1/in2": {"sensor": "s2", "door": "d2"}}}
    source = {"InputToken": "in2"}
    made = one(notice("Device/Trigger/DigitalInput", source, {"LogicalState": "true"}, settings=settings))
    assert (made.kind, made.state) == ("door.opened", StateValue("door", "d2", "contact", "open"))


def test_axis_words_the_same_topics_with_namespaces_and_texts() -> None:
    body = {
        "timestamp": T, "topic": "onvif:Device/axis:Sensor/PIR", "message": {"source": {"sensor": "0"}, "data": {"state": "1"}},
    }  # fmt: skip
    event = one(decode("onvif", "axis/00408c000007/event/x", body, T + 100))
    assert (event.kind, event.time_ms, event.entity("sensor")) == ("motion.detected", T, "axis/00408c000007/0")
    del body["timestamp"]
    assert one(decode("onvif", "axis/00408c000007/event/x", body, T + 100)).time_quality == "received"
    named = one(decode("onvif", "free/text", body | {"serial": "00408c000008"}, T + 100))
    assert named.entity("sensor") == "00408c000008/0"
    assert only_reject(decode("onvif", "free/text", {"connected": True})).reason == "not_this_dialect"


# ---- access control and maps ------------------------------------------------------------------------


def access(named: str, payload: Any, received_ms: int = T + 500, **site: Any) -> list[Event | Reject]:
    settings, _ = prepared_settings("access", {"map": named, **site}, "sources.yaml")
    return decode("access", "inputs/x", payload, received_ms, settings=settings)


ESP = {"type": "access", "time": T // 1000, "isKnown": "true", "access": "Always", "uid": "04b1", "hostname": "ctl3"}


def test_esp_rfid_booleans_are_texts() -> None:
    assert kinds(access("esp-rfid", ESP)) == ["badge.granted"]
    assert kinds(access("esp-rfid", ESP | {"isKnown": "false"})) == ["badge.unknown"]


def test_two_doors_of_one_controller_are_two_events() -> None:
    made = access("esp-rfid", ESP | {"access": ["Always", "Denied"], "doorName": ["store", "lab"]})
    said = [(event.kind, event.entity("door")) for event in made if isinstance(event, Event)]
    assert said == [("badge.granted", "store"), ("badge.denied", "lab")]


def test_a_tag_published_on_two_topics_counts_once() -> None:
    second_copy = {"uid": "04b1", "username": "x", "access": "Always", "time": T // 1000}
    assert access("esp-rfid", second_copy) == []


def test_a_controller_before_its_first_time_sync_is_not_believed() -> None:
    event = one(access("esp-rfid", ESP | {"time": 37}))
    assert (event.time_ms, event.time_quality) == (T + 500, "unset")


def test_a_controller_that_shifts_its_clock_by_its_zone_is_not_believed() -> None:
    event = one(access("esp-rfid", ESP | {"time": T // 1000 + 3600}))
    assert (event.time_ms, event.time_quality, event.device_ms) == (T + 500, "skewed", T + 3_600_000)


def test_onguard_ships_utc_or_local_time_under_other_names() -> None:
    utc = one(
        access(
            "onguard",
            {"event_time_utc": "2026-03-01T02:00:00", "event": "Granted Access", "cardnum": 7, "readerdesc": "R1"},
        )
    )
    body = {"event_time_local": "2026-03-01T03:00:00", "event": "Granted Access", "cardnumber": 7, "device": "R1"}
    untrusted = one(access("onguard-local", body))
    local = one(access("onguard-local", body, zone="Europe/Rome"))
    assert (utc.time_ms, utc.time_quality) == (local.time_ms, local.time_quality) == (T, "device")
    assert (untrusted.time_ms, untrusted.time_quality) == (T + 500, "received")
    assert utc.entities == local.entities == untrusted.entities


def test_net2_is_read_by_number_not_by_its_localised_text() -> None:
    body = {"eventTime": "2026-03-01T03:00:00+01:00", "id": 7, "deviceName": "A", "eventDescription": "Tür offen"}
    for number, kind in ((20, "badge.granted"), ("26", "badge.granted"), (24, "badge.denied"), (93, "door.held")):
        event = one(access("net2", body | {"eventType": number}))
        assert (event.kind, event.time_ms, event.dedupe) == (kind, T, True)


def test_a_local_time_without_zone_is_not_trusted_until_the_site_gives_one(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "maps" / "vpn.yaml").read_text().replace(", zone: Europe/Rome", "")
    (tmp_path / "local.yaml").write_text(text)
    line = "03/01/2026 03:00:00,login,someone,198.51.100.9,gw1"
    spec = map_settings({"map": "local.yaml"}, str(tmp_path / "x"))
    event = one(decode("mapped", "x", line, T + 500, settings=spec))
    assert (event.device_ms, event.time_quality) == (None, "received")
    spec = map_settings({"map": "local.yaml", "zone": "Europe/Rome"}, str(tmp_path / "x"))
    event = one(decode("mapped", "x", line, T + 500, settings=spec))
    assert (event.device_ms, event.time_quality) == (T, "device")


def test_the_site_gives_its_own_names_to_doors() -> None:
    event = one(access("esp-rfid", ESP | {"doorName": "Main"}, names={"door": {"Main": "d1"}}))
    assert event.entity("door", "where") == "d1"
    assert event.attributes["doorName"] == "Main"


def test_a_number_for_a_badge_is_its_text_and_zero_is_none() -> None:
    body = {"event_time_utc": "2026-03-01T02:00:00", "readerdesc": "R1", "event": "Granted Access", "cardnum": 500231}
    assert one(access("onguard", body)).entity("badge") == "500231"
    assert one(access("onguard", body | {"cardnum": 0})).entity("badge") == ""


def test_one_transaction_is_one_event_however_often_it_is_polled() -> None:
    body = {
        "event_time_utc": "2026-03-01T02:00:00", "panelname": "P4", "serialnum": 9, "readerdesc": "R1", "event": "Granted Access",
    }  # fmt: skip
    first, again = one(access("onguard", body)), one(access("onguard", body, T + 60_000))
    assert first.dedupe
    assert first.id == again.id


def test_without_an_id_equal_lines_are_not_duplicates() -> None:
    event = one(access("esp-rfid", ESP))
    assert not event.dedupe
    assert not event.dup_key


def test_gallagher_quotes_hold_commas() -> None:
    line = (
        '"gallagher","2026-03-01T02:00:00Z","5","Main","Cold store","exit","Beispiel, Holder","31-8","No Entry Taken"'
    )
    event = one(access("gallagher", line))
    assert (event.kind, event.attributes["cardholder"], event.attributes["direction"]) == (
        "badge.not_entered", "Beispiel, Holder", "out",
    )  # fmt: skip


def test_names_repeated_in_free_text_are_tokens_too() -> None:
    spec, _ = prepared_settings("mapped", {"map": "pumps.yaml"}, str(Path(__file__).parent / "maps" / "x"))
    body = {"what": "dose", "device": {"name": "pump-7"}, "user": "Nurse-Beispiel", "msg": "dose by Nurse-Beispiel"}
    chosen = DIALECTS["mapped"]
    context = Context(site="h1", source="s", clock=chosen.clock, identity=Upper(), dialect="mapped", settings=spec)
    event = one(chosen.decode(Message("x", json.dumps(body).encode(), T), context))
    assert (event.text, event.attributes["msg"]) == ("dose by person#14", "dose by person#14")
    assert event.entity("person", "actor") == "person#14"


def test_a_source_without_a_map_is_a_reject_not_silence() -> None:
    assert only_reject(decode("mapped", "x", {"a": 1})).reason == "unmapped"


def test_a_summer_hour_that_comes_twice_is_read_as_the_first() -> None:
    spec, _ = prepared_settings("mapped", {"map": "vpn.yaml"}, str(Path(__file__).parent / "maps" / "x"))
    event = one(decode("mapped", "x", "10/25/2026 02:30:00,login,someone,198.51.100.9,gw1", settings=spec))
    assert event.device_ms == int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp() * 1000)
