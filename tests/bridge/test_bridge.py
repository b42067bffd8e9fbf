"""The bridge between a real Mosquitto and a real Kafka: what it carries, and that nothing is lost on the way."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import paho.mqtt.publish as publish
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from correlator.ingest.raw import from_headers
from tests.bridge.runs import BridgeProcess, Device, header, settings_file, wait_for_arrival
from tests.brokers.fixtures import read_all


@pytest.fixture
def bridge(kafka, mosquitto, topics, unique, tmp_path):
    """Starts bridges with settings beside the usual ones; ends them with the test."""
    topics("raw.mqtt")
    topics("rejects")
    started = []

    def make(ready=True, module="correlator", **settings) -> BridgeProcess:
        made = BridgeProcess(settings_file(tmp_path, mosquitto, kafka, unique, **settings), module)
        started.append(made)
        return made.start(ready)

    yield make
    for one in started:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def taken(kafka, topic, count, seconds=20.0):
    until = time.monotonic() + seconds
    while len(found := read_all(kafka.bootstrap, topic)) < count:
        assert time.monotonic() < until, f"{len(found)} of {count} records in {topic}"
        time.sleep(0.05)
    return found


def send(mosquitto, *messages):
    publish.multiple(
        [{"topic": topic, "payload": payload, "qos": 1, "retain": retain} for topic, payload, retain in messages],
        hostname="127.0.0.1", port=mosquitto.port,
    )  # fmt: skip


# ---- what a record holds -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_payload_is_the_devices_bytes_and_the_headers_say_the_rest(bridge, kafka, mosquitto, unique, version):
    running = bridge(mqtt={"version": version})
    payload = bytes(range(256)) + '{"é": "\\ud800"}'.encode()
    before_ms = time.time_ns() // 1_000_000
    send(mosquitto, (f"{unique}/door/ü", payload, False))
    (record,) = taken(kafka, f"{unique}.raw.mqtt", 1)
    assert record.value() == payload
    assert record.key() == b"h1"
    raw = from_headers(record.headers(), payload, input="x", offset=0, channel="", received_ms=0, raw="")
    assert raw.site == "h1"
    assert raw.message.channel == f"{unique}/door/ü"
    assert before_ms <= raw.message.received_ms <= time.time_ns() // 1_000_000
    assert (raw.message.retained, raw.message.dup, raw.message.queued_since_ms) == (False, False, 0)
    assert header(record, "correlator-qos") == b"1"
    assert header(record, "correlator-receiver") == f"{unique}-bridge".encode()
    assert running.stop() == 0


def test_a_retained_message_is_marked_and_taken_once_in_a_session(bridge, kafka, mosquitto, unique):
    send(mosquitto, (f"{unique}/state", b"open", True))
    running = bridge()
    (record,) = taken(kafka, f"{unique}.raw.mqtt", 1)
    assert header(record, "correlator-retained") == b"1"
    running.stop()
    running.start()
    send(mosquitto, (f"{unique}/state", b"closed", True))
    records = taken(kafka, f"{unique}.raw.mqtt", 2)
    assert [(one.value(), header(one, "correlator-retained")) for one in records] == [(b"open", b"1"), (b"closed", b"")]
    send(mosquitto, (f"{unique}/state", b"", True))


def test_too_large_and_unmapped_messages_become_rejects(bridge, kafka, mosquitto, unique):
    routes = [{"topics": f"{unique}/+/event", "to": "raw.mqtt", "site_level": 1, "sites": ["h1", "h2"]}]
    bridge(routes=routes, max_payload_bytes=1024)
    send(
        mosquitto,
        (f"{unique}/h3/event", b"whose?", False),
        (f"{unique}/h1/event", b"x" * 1025, False),
        (f"{unique}/h2/event", b"fine", False),
    )
    rejects = [json.loads(one.value()) for one in taken(kafka, f"{unique}.rejects", 2)]
    assert [(one["reason"], one["site"], one["size"]) for one in rejects] == [
        ("unmapped", "_unknown", 6),
        ("too_large", "h1", 1025),
    ]
    assert [(one.key(), one.value()) for one in read_all(kafka.bootstrap, f"{unique}.raw.mqtt")] == [(b"h2", b"fine")]


def test_what_kafka_finds_too_large_becomes_a_reject(bridge, kafka, mosquitto, topics, unique):
    topics("raw.small", **{"max.message.bytes": "2000"})
    bridge(routes=[{"topics": f"{unique}/#", "to": "raw.small", "site": "h1"}])
    noise = random.Random(7).randbytes(5000)  # Kafka's limit is for what is left after compression
    send(mosquitto, (f"{unique}/a", noise, False), (f"{unique}/b", b"after", False))
    (reject,) = [json.loads(one.value()) for one in taken(kafka, f"{unique}.rejects", 1)]
    assert (reject["reason"], reject["channel"], reject["size"]) == ("too_large", f"{unique}/a", 5000)
    assert [one.value() for one in taken(kafka, f"{unique}.raw.small", 1)] == [b"after"]


def test_two_bridges_with_filters_of_their_own_share_the_work(bridge, kafka, mosquitto, unique):
    for which in ("a", "b"):
        bridge(
            id=f"{unique}-{which}",
            routes=[{"topics": f"{unique}/{which}/#", "to": "raw.mqtt", "site": "h1"}],
        )
    send(mosquitto, *[(f"{unique}/{which}/x", b"%d" % n, False) for n in range(50) for which in "ab"])
    records = taken(kafka, f"{unique}.raw.mqtt", 100)
    by = {
        which: [int(r.value()) for r in records if header(r, "correlator-receiver").endswith(which.encode())]
        for which in "ab"
    }
    assert by == {"a": list(range(50)), "b": list(range(50))}


# ---- the simulator's times -----------------------------------------------------------------------------


def publish_with(mosquitto, topic, payload, **user):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [(name.replace("_", "-"), value) for name, value in user.items()]
    client.publish(topic, payload, qos=1, properties=properties).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def test_a_trusted_senders_time_and_origin_are_taken_and_its_promises_go_the_same_way(bridge, kafka, mosquitto, unique):
    bridge(trust_sender_time=True)
    publish_with(
        mosquitto, f"{unique}/x", b"1", correlator_received_ms="1600000000123", correlator_origin="inputs/a.ndjson:7"
    )
    publish_with(mosquitto, "correlator/tick", b"1600000000200")
    message, promise = taken(kafka, f"{unique}.raw.mqtt", 2)
    assert header(message, "correlator-received-ms") == b"1600000000123"
    assert header(message, "correlator-origin") == b"inputs/a.ndjson:7"
    assert header(promise, "correlator-tick-ms") == b"1600000000200"
    assert promise.key() == b"h1"
    assert promise.value() in (b"", None)


def test_without_trust_a_sender_has_no_say_over_times(bridge, kafka, mosquitto, unique):
    bridge()
    before_ms = time.time_ns() // 1_000_000
    publish_with(mosquitto, f"{unique}/x", b"1", correlator_received_ms="1600000000123", correlator_origin="x:1")
    publish_with(mosquitto, "correlator/tick", b"1600000000200")
    publish_with(mosquitto, f"{unique}/x", b"2")
    records = taken(kafka, f"{unique}.raw.mqtt", 2)
    assert [one.value() for one in records] == [b"1", b"2"]
    assert int(header(records[0], "correlator-received-ms")) >= before_ms
    assert header(records[0], "correlator-origin") == b""


# ---- away and back -------------------------------------------------------------------------------------


def test_what_the_broker_kept_meanwhile_says_since_when(bridge, kafka, mosquitto, unique):
    running = bridge()
    send(mosquitto, (f"{unique}/x", b"live", False))
    taken(kafka, f"{unique}.raw.mqtt", 1)
    time.sleep(1.5)  # the alive file is touched once a second
    running.kill()
    killed_ms = time.time_ns() // 1_000_000
    send(mosquitto, *[(f"{unique}/x", b"kept %d" % n, False) for n in range(30)])
    running.start()
    taken(kafka, f"{unique}.raw.mqtt", 31)
    time.sleep(0.5)
    send(mosquitto, (f"{unique}/x", b"live again", False))
    records = taken(kafka, f"{unique}.raw.mqtt", 32)
    since = [int(header(one, "correlator-queued-since-ms") or 0) for one in records]
    assert since[0] == since[-1] == 0
    assert len(set(since[1:-1])) == 1
    assert killed_ms - 2500 <= since[1] <= killed_ms


def test_back_pressure_stops_reading_and_keeps_the_connection(bridge, kafka, mosquitto, unique):
    running = bridge(max_waiting_messages=200, mqtt={"keepalive_s": 5})
    device = Device(mosquitto, f"{unique}/x", rate=500, count=4000)
    kafka.stop()
    device.start()
    running.wait_for("reading_paused")
    time.sleep(12)  # more than twice the keep-alive: the broker drops a client that is silent for 7.5 s
    assert running.said("disconnected") == 0, running.text()
    assert running.process.poll() is None
    kafka.start()
    device.finish()
    arrived = wait_for_arrival(kafka, f"{unique}.raw.mqtt", 4000)
    assert arrived.lost(4000) == []
    assert arrived.repeated() == 0
    assert arrived.first_in_order()
    assert running.said("disconnected") == 0
    memory_mb = int(Path(f"/proc/{running.process.pid}/statm").read_text().split()[1]) * 4096 / 1e6
    assert memory_mb < 150


# ---- refusals ------------------------------------------------------------------------------------------


def test_a_missing_topic_is_said_with_the_command_that_makes_it(bridge, unique):
    running = bridge(ready=False, rejects="nowhere")
    assert running.process.wait(30) == 2
    assert f"topic {unique}.nowhere" in running.text()
    assert "`correlator topics create` makes it" in running.text()


@pytest.mark.parametrize(
    "module", ["tests.bridge.lost", "tests.brokers.held"], ids=["finds nobody", "is not confirmed"]
)
def test_a_bridge_that_alone_gets_nothing_into_kafka_ends_and_the_next_one_takes_everything(
    bridge, kafka, mosquitto, unique, module
):
    lost = bridge(module=module)
    send(mosquitto, (f"{unique}/door", b"{}", False))
    assert lost.process.wait(60) == 2
    assert "Kafka answers, but does not confirm what this process writes" in lost.text()
    bridge()
    (record,) = taken(kafka, f"{unique}.raw.mqtt", 1)
    assert record.value() == b"{}"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_two_bridges_with_the_same_id_are_told(bridge, unique, version):
    both = [bridge(mqtt={"version": version}), bridge(mqtt={"version": version}, ready=False)]
    until = time.monotonic() + 20
    while all(one.process.poll() is None for one in both):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert {one.process.poll() for one in both} <= {2, None}
    assert f"another client has the id '{unique}-bridge'" in both[0].text()


def test_a_settings_file_with_faults_lists_them_all(tmp_path, capsys):
    from correlator.cli.main import main

    file = tmp_path / "correlator.yaml"
    file.write_text(
        'bridge:\n  id: "a b"\n  routes:\n    - {topics: "a/#/b", site: h1}\n    - {topics: "c/#"}\n  speed: 3\n'
    )
    assert main(["bridge", "run", "--config", str(file)]) == 2
    told = capsys.readouterr().err
    assert f"{file}:2:7: bridge.id" in told
    assert "'a/#/b' is no topic filter" in told
    assert f"{file}:5:7: bridge.routes.1: give site or site_level" in told
    assert f"{file}:6:3: there is no setting 'speed' here" in told
    assert "4 errors" in told
