"""The brokers that other tests rely on: real, of the tested version, and as they are deployed."""

from __future__ import annotations

import os
import re
import time

import paho.mqtt.client as mqtt
import pytest
from confluent_kafka import Producer

from correlator.errors import UsageError
from correlator.lab import brokers
from correlator.lab.brokers import KafkaBroker, MosquittoBroker, port_is_open
from tests.brokers.fixtures import read_all


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def test_kafka_keeps_port_and_data_when_it_is_stopped_and_killed(kafka, topics):
    topic = topics("kept")
    produce(kafka.bootstrap, topic, [b"before"])
    port = kafka.port
    kafka.stop()
    assert not kafka.running
    assert not port_is_open(port)
    kafka.start()
    produce(kafka.bootstrap, topic, [b"between"])
    kafka.kill()
    kafka.start()
    produce(kafka.bootstrap, topic, [b"after"])
    assert [one.value() for one in read_all(kafka.bootstrap, topic)] == [b"before", b"between", b"after"]


def test_mosquitto_keeps_a_retained_message_when_it_is_killed(mosquitto, unique):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    client.publish(unique, b"kept", qos=1, retain=True).wait_for_publish(10)
    client.loop_stop()
    client.disconnect()
    store = mosquitto.folder / "persistence" / "mosquitto.db"
    until = time.monotonic() + 20
    while not (store.exists() and unique.encode() in store.read_bytes()):
        assert time.monotonic() < until, "the store was not written although autosave_interval is 1"
        time.sleep(0.1)
    mosquitto.kill()
    mosquitto.start()
    assert received_once(mosquitto.port, unique) == b"kept"


def received_once(port: int, topic: str) -> bytes:
    got: list[bytes] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: got.append(message.payload)
    client.connect("127.0.0.1", port)
    client.subscribe(topic, qos=1)
    until = time.monotonic() + 10
    while not got and time.monotonic() < until:
        client.loop(0.1)
    client.disconnect()
    return got[0]


def test_kafka_starts_with_an_id_that_looks_like_an_option(tmp_path, monkeypatch):
    chance = os.urandom
    monkeypatch.setattr(brokers.os, "urandom", lambda count: b"\xf8" + chance(count - 1))  # "-..." in base64
    broker = KafkaBroker(tmp_path)
    try:
        assert broker.start().running
    finally:
        broker.stop()


def test_a_broker_says_that_its_port_is_in_use(mosquitto, tmp_path):
    with pytest.raises(UsageError, match=rf"port {mosquitto.port} is in use"):
        MosquittoBroker(tmp_path / "second", port=mosquitto.port).start()


def test_a_broker_that_does_not_start_shows_its_log(own_mosquitto):
    nowhere = {"certfile": "/nowhere/server.crt", "keyfile": "/nowhere/server.key"}
    with pytest.raises(UsageError, match="Mosquitto ended with code") as told:
        own_mosquitto(options=nowhere)
    assert "/nowhere/server.crt" in str(told.value)


@pytest.mark.parametrize(
    ("broker", "line"),
    [(KafkaBroker, brokers.INSTALL_JAVA), (MosquittoBroker, brokers.INSTALL_MOSQUITTO)],
)
def test_a_missing_program_is_an_error_with_the_one_line_that_installs_it(broker, line, tmp_path, monkeypatch):
    monkeypatch.setattr(brokers, "_found", lambda program: None)
    with pytest.raises(UsageError, match=re.escape(line)):
        broker(tmp_path / "none").start()


def test_the_versions_are_the_tested_ones(mosquitto, root):
    pom = (root / "deploy" / "kafka" / "pom.xml").read_text()
    assert f"<artifactId>kafka_2.13</artifactId><version>{brokers.KAFKA_VERSION}</version>" in pom
    log = (mosquitto.folder / "server.log").read_text()
    assert f"mosquitto version {brokers.MOSQUITTO_VERSION}." in log
