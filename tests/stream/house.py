"""A small house whose messages tests make as they go: doors on MQTT, alerts of a network sensor on a topic of its own."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from correlator.ingest.raw import to_headers
from correlator.run.scenario import load_scenario
from correlator.sources import Message
from correlator.stream.applied import in_force
from tests.stream.system import System

HOUSE = Path(__file__).parent / "house"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class House(System):
    """The house on Kafka. Without `trust` times are the machine's own."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, **settings: Any) -> None:
        settings.setdefault("trust", False)
        super().__init__(bootstrap, prefix, folder, load_scenario(HOUSE), **settings)
        self.sender = self.producer()
        self.sent = 0

    def door(self, sensor: str, *, open: bool, at_ms: int = 0, received_ms: int = 0) -> None:
        """A contact of a door says how it stands, by the device's clock at `at_ms`."""
        at_ms = at_ms or now_ms()
        message = door_said(open=open, at_ms=at_ms, quality=90 + self.sent % 9)
        self._send("raw.mqtt", f"zigbee2mqtt/{sensor}", message.payload, received_ms or at_ms)

    def alert(self, number: int, *, at_ms: int = 0, received_ms: int = 0, **more: Any) -> None:
        """The network sensor raises an alert; `more` goes into it."""
        at_ms = at_ms or now_ms()
        self._send("raw.suricata", "eve.json", alert_said(number, at_ms=at_ms, **more).payload, received_ms or at_ms)

    def _send(self, topic: str, channel: str, payload: bytes, received_ms: int) -> None:
        message = Message(channel, payload, received_ms, origin=f"{topic}:{self.sent}")
        headers: Any = to_headers(message, site="house", receiver="test")
        self.sender.produce(self.prefix + topic, payload, b"house", headers=headers)
        self.sent += 1

    def flush(self) -> None:
        assert self.sender.flush(30) == 0

    # ---- what came out -------------------------------------------------------------------------

    def messages(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(value) for _, value in self.told(topic)]

    def wait_for(self, topic: str, wanted: Any, timeout_s: float = 60.0) -> dict[str, Any]:
        """The first message of a topic that `wanted` likes."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            for message in self.messages(topic):
                if wanted(message):
                    return message
            time.sleep(0.2)
        raise AssertionError(f"{topic} has nothing of the kind: {self.messages(topic)[-5:]}")

    def serial(self) -> int:
        return in_force(self.kafka)[0]["house"].configuration.serial


def door_said(*, open: bool, at_ms: int, quality: int = 90) -> Message:
    """What a contact of a door says."""
    said = {"contact": not open, "linkquality": quality, "last_seen": iso(at_ms)}
    return Message("", json.dumps(said).encode(), at_ms)


def alert_said(number: int, *, at_ms: int, **more: Any) -> Message:
    """What the network sensor says of an alert; `more` goes into it."""
    said = {
        "timestamp": iso(at_ms), "flow_id": number, "event_type": "alert", "src_ip": "198.51.100.7",
        "dest_ip": "192.0.2.20", "proto": "TCP", "src_port": 40_000, "dest_port": 445,
        "alert": {"signature_id": 9_000_001, "rev": 1, "signature": f"TEST number {number}", "severity": 2,
                  "action": "allowed", "gid": 1, "category": "test"}, **more,
    }  # fmt: skip
    return Message("eve.json", json.dumps(said).encode(), at_ms)


def iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
