"""`correlator bridge doctor` on real brokers: what it finds in good ones, and each way a broker loses messages."""

from __future__ import annotations

import pytest

from correlator.bridge.doctor import PROBLEM, WARNING, examine
from correlator.bridge.dry_run import told
from correlator.bridge.mapping import Mapping, MqttMessage
from correlator.bridge.settings import BridgeSettings
from correlator.config.load import load
from correlator.config.secure import mosquitto_hash
from tests.bridge.runs import settings_file


@pytest.fixture
def findings(kafka, unique, tmp_path, topics):
    """What the doctor says of a Mosquitto: `findings(mosquitto, mqtt={...})`, as "level what -> change"."""

    def run(mosquitto, make_topics=True, **bridge):
        if make_topics:
            topics("raw.mqtt", **{"max.message.bytes": "2097152", "retention.ms": "604800000"})
            topics("rejects")
        settings = load(settings_file(tmp_path, mosquitto, kafka, unique, **bridge)).settings
        return [
            f"{one.level} {one.what} -> {one.change}" for one in examine(settings.bridge, settings.kafka, listen_s=0.5)
        ]

    return run


def wrong(found: list[str]) -> list[str]:
    return [one for one in found if one.startswith((PROBLEM, WARNING))]


def test_the_deployed_brokers_are_found_good(findings, mosquitto, unique):
    found = findings(mosquitto)
    assert [one for one in found if one.startswith(PROBLEM)] == []
    assert [one.partition(" -> ")[0] for one in wrong(found)] == [
        "warning the connection to MQTT is not encrypted",
        "warning of 20 messages of QoS 0 for an absent bridge the broker kept 0",
    ]
    assert any(f"messages of '{unique}/#' arrive" in one for one in found)
    assert any("the broker kept all of 1200 messages for an absent bridge" in one for one in found)
    assert any(f"topic {unique}.raw.mqtt can be written, 1 partitions" in one for one in found)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_queued_messages": "100"}, "messages for an absent bridge the broker kept"),
        ({"max_queued_messages": None, "max_queued_bytes": None}, "messages for an absent bridge the broker kept"),
        (
            {"queue_qos0_messages": "true"},
            "kept 1180 and dropped the others -> mosquitto.conf: queue_qos0_messages false",
        ),
        ({"max_packet_size": "20000"}, "the broker drops messages over 20000 bytes without a word"),
        ({"retain_available": "false"}, "the broker keeps no retained messages"),
    ],
    ids=["a small queue", "the default queue", "QoS 0 kept", "small packets", "no retained messages"],
)
def test_a_setting_that_drops_in_silence_is_found(findings, own_mosquitto, options, says):
    assert any(says in one for one in wrong(findings(own_mosquitto(options=options)))), options


def users(folder, acl: str) -> dict[str, str | None]:
    (folder / "passwd").write_text(f"bridge:{mosquitto_hash('right')}\n")
    (folder / "acl").write_text(acl)
    return {"allow_anonymous": "false", "password_file": str(folder / "passwd"), "acl_file": str(folder / "acl")}


def test_a_right_that_the_broker_refuses_in_silence_is_found(findings, own_mosquitto, unique, tmp_path):
    broker = own_mosquitto(options=users(tmp_path, "user bridge\ntopic readwrite correlator/bridge/#\n"))
    found = wrong(findings(broker, mqtt={"user": "bridge", "password": "right"}))
    assert any(
        f"nothing of '{unique}/#' arrived" in one and f"user bridge: topic read {unique}/#" in one for one in found
    ), found


def test_a_refused_status_topic_is_found(findings, own_mosquitto, unique, tmp_path):
    broker = own_mosquitto(options=users(tmp_path, f"user bridge\ntopic readwrite {unique}/#\n"))
    found = wrong(findings(broker, mqtt={"user": "bridge", "password": "right"}))
    assert any("the bridge may not write and read correlator/bridge/#: Not authorized" in one for one in found), found


def test_a_wrong_password_is_found(findings, own_mosquitto, tmp_path):
    broker = own_mosquitto(options=users(tmp_path, ""))
    found = findings(broker, mqtt={"user": "bridge", "password": "wrong"})
    assert any("problem the MQTT broker does not let user 'bridge' in" in one for one in found), found


def test_missing_topics_and_short_retention_are_found(findings, mosquitto, topics, unique):
    topics("raw.mqtt", **{"retention.ms": "3600000", "max.message.bytes": "100000"})
    found = wrong(findings(mosquitto, make_topics=False))
    assert any(f"problem topic {unique}.rejects" in one and "`correlator topics create`" in one for one in found)
    assert any("keeps messages 0.0 days only" in one for one in found)
    assert any("takes records up to 100000 bytes" in one for one in found)


def test_a_broker_that_is_not_there_is_found(findings, mosquitto):
    found = findings(mosquitto, mqtt={"port": 1})
    assert any(f"problem no MQTT broker at {mosquitto.host}:1" in one for one in found)


def test_a_probe_is_carried_no_further_by_a_running_bridge():
    mapping = Mapping(BridgeSettings.model_validate({"routes": [{"topics": "ev/#", "site": "h1"}]}))
    assert list(mapping.records(MqttMessage("ev/correlator-probe", b"x", 1))) == []


def test_a_dry_run_shows_what_each_message_would_become():
    mapping = Mapping(
        BridgeSettings.model_validate({
            "routes": [{"topics": "ev/+/door", "to": "raw.doors", "site_level": 1, "sites": ["h1"]}],
            "max_payload_bytes": 1024,
        })
    )  # fmt: skip
    assert told(mapping, MqttMessage("ev/h1/door", b"{}", 1, qos=1, retained=True)) == [
        "ev/h1/door (2 bytes) -> raw.doors key h1 site h1, qos 1, retained 1"
    ]
    assert told(mapping, MqttMessage("ev/h2/door", b"{}", 1)) == [
        "ev/h2/door (2 bytes) -> reject (unmapped) on rejects"
    ]
    assert told(mapping, MqttMessage("ev/h1/door", b"x" * 2000, 1)) == [
        "ev/h1/door (2000 bytes) -> reject (too_large) on rejects"
    ]
