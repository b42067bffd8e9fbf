"""What tests of the bridge share: a bridge as its own process, devices that publish, and what came into Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import paho.mqtt.client as mqtt
import yaml
from confluent_kafka import Message

from correlator.lab.brokers import KafkaBroker, MosquittoBroker
from tests.brokers.fixtures import read_all

ROOT = Path(__file__).resolve().parent.parent.parent


def settings_file(folder: Path, mosquitto: MosquittoBroker, kafka: KafkaBroker, prefix: str, **bridge) -> Path:
    """A correlator.yaml; topic names get the prefix and a dot."""
    mqtt_part = {"host": mosquitto.host, "port": mosquitto.port, **bridge.pop("mqtt", {})}
    settings = {
        "kafka": {"bootstrap": kafka.bootstrap, "prefix": f"{prefix}.", "unconfirmed_end_ms": 2_000},
        "bridge": {
            "id": f"{prefix}-bridge",
            "mqtt": mqtt_part,
            "routes": [{"topics": [f"{prefix}/#"], "to": "raw.mqtt", "site": "h1"}],
            "alive_file": str(folder / "alive"),
            **bridge,
        },
    }
    file = folder / f"{settings['bridge']['id']}.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


class BridgeProcess:
    """`correlator bridge run` as a process of its own; module: what stands in for `correlator`."""

    def __init__(self, config: Path, module: str = "correlator") -> None:
        self.config = config
        self.module = module
        self.log = config.with_suffix(".log")
        self.process: subprocess.Popen | None = None

    def start(self, ready: bool = True) -> BridgeProcess:
        seen = self.said("ready")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "bridge", "run", "--config", str(self.config)],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        if ready:
            self.wait_for("ready", seen + 1)
        return self

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def said(self, what: str) -> int:
        """How often the log says it."""
        return self.text().count(f'"what": "{what}"')

    def wait_for(self, what: str, times: int = 1, seconds: float = 40.0) -> None:
        until = time.monotonic() + seconds
        while self.said(what) < times:
            assert self.process.poll() is None, f"the bridge ended\n{self.text()}"
            assert time.monotonic() < until, f"the bridge did not say {what!r} {times} times\n{self.text()}"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


class Device(threading.Thread):
    """Publishes numbered messages at a rate, as QoS 1, through outages of the broker.

    sent grows with what was handed to the client, acknowledged with what the broker has taken; `finish` waits
    until it has taken all. After an outage what was on the way is sent again before anything new, as order needs.
    """

    def __init__(self, broker: MosquittoBroker, topic: str, rate: int, count: int) -> None:
        super().__init__(daemon=True)
        self.topic, self.rate, self.count = topic, rate, count
        self.sent = self.acknowledged = 0
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=topic.replace("/", "-"), clean_session=False
        )
        self.client.max_queued_messages_set(0)
        self.client.max_inflight_messages_set(200)
        self.client.reconnect_delay_set(1, 1)
        self.broken = False
        self.client.on_publish = self._published
        self.client.on_disconnect = self._disconnected
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def _published(self, *_: object) -> None:
        self.acknowledged += 1

    def _disconnected(self, *_: object) -> None:
        self.broken = True

    def run(self) -> None:
        started = time.monotonic()
        while self.sent < self.count:
            if self.broken:
                if self.acknowledged < self.sent:
                    time.sleep(0.02)
                    continue
                self.broken = False
            self.client.publish(self.topic, b"%d" % self.sent, qos=1)
            self.sent += 1
            ahead = self.sent / self.rate - (time.monotonic() - started)
            if ahead > 0.005:
                time.sleep(ahead)
        until = time.monotonic() + 60
        while self.acknowledged < self.count and time.monotonic() < until:
            time.sleep(0.05)

    def finish(self) -> None:
        self.join(90)
        self.client.loop_stop()
        self.client.disconnect()
        assert self.acknowledged == self.count


class Arrived:
    """What stands in a raw topic, by the number that is the payload."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.times = Counter(int(one.value()) for one in messages)
        self.flagged = Counter(int(one.value()) for one in messages if header(one, "correlator-dup") == b"1")

    def lost(self, count: int) -> list[int]:
        return [number for number in range(count) if number not in self.times]

    def repeated(self) -> int:
        return sum(self.times.values()) - len(self.times)

    def unflagged_repeats(self) -> list[int]:
        return [number for number, times in self.times.items() if self.flagged[number] < times - 1]

    def first_in_order(self) -> bool:
        """Whether the first delivery of each message stands in the order of sending."""
        seen, order = set(), []
        for one in self.messages:
            number = int(one.value())
            if number not in seen:
                seen.add(number)
                order.append(number)
        return order == sorted(order)


def header(message: Message, name: str) -> bytes:
    return dict(message.headers() or []).get(name, b"")


def wait_for_arrival(kafka: KafkaBroker, topic: str, count: int, seconds: float = 60.0) -> Arrived:
    """Reads the topic until `count` different numbers stand in it, or the time is over."""
    until = time.monotonic() + seconds
    while True:
        arrived = Arrived(read_all(kafka.bootstrap, topic))
        if len(arrived.times) >= count or time.monotonic() > until:
            return arrived
        time.sleep(0.2)
