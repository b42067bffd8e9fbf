"""Outages of what stands around the bridge, in mid-stream: what was lost, what came twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from correlator.lab.brokers import KafkaBroker, MosquittoBroker
from tests.bridge.runs import BridgeProcess, Device, settings_file, wait_for_arrival

RATE = 800  # messages a second asked for; the machine may be busy, and at least 500 must flow
COUNT = 4_000


@dataclass(frozen=True, slots=True)
class Result:
    """One run. rate_per_s: messages that flowed before the outage; redelivered: deliveries beyond the first."""

    outage: str
    sent: int
    lost: int
    redelivered: int
    unflagged: int
    in_order: bool
    rate_per_s: float


Parts = tuple[BridgeProcess, MosquittoBroker, KafkaBroker]


def _kill_bridge(parts: Parts, dice: random.Random) -> None:
    bridge, _, _ = parts
    bridge.kill()
    time.sleep(dice.uniform(0.0, 1.0))
    bridge.start(ready=False)


def _stop_mosquitto(parts: Parts, dice: random.Random) -> None:
    _, mosquitto, _ = parts
    mosquitto.stop()
    time.sleep(dice.uniform(0.0, 1.0))
    mosquitto.start()


def _stop_kafka(parts: Parts, dice: random.Random) -> None:
    _, _, kafka = parts
    kafka.stop()
    time.sleep(dice.uniform(0.0, 1.0))
    kafka.start()


OUTAGES: dict[str, Callable[[Parts, random.Random], None]] = {
    "kill -9 of the bridge": _kill_bridge,
    "Mosquitto stopped and started": _stop_mosquitto,
    "Kafka stopped and started": _stop_kafka,
}


def run_outage(
    outage: str, kafka: KafkaBroker, mosquitto: MosquittoBroker, prefix: str, folder: Path, seed: int
) -> Result:
    """Lets a device publish COUNT messages through the bridge, with one outage at a moment drawn from the seed.

    The topics `<prefix>.raw.mqtt` and `<prefix>.rejects` are there.
    """
    dice = random.Random(seed)
    bridge = BridgeProcess(settings_file(folder, mosquitto, kafka, prefix)).start()
    device = Device(mosquitto, f"{prefix}/x", RATE, COUNT)
    try:
        started = time.monotonic()
        device.start()
        time.sleep(dice.uniform(1.5, COUNT / RATE * 0.6))
        rate = device.sent / (time.monotonic() - started)
        OUTAGES[outage]((bridge, mosquitto, kafka), dice)
        device.finish()
        arrived = wait_for_arrival(kafka, f"{prefix}.raw.mqtt", COUNT, 90)
        assert bridge.process.poll() is None, bridge.text()
    finally:
        if bridge.process.poll() is None:
            bridge.kill()
    return Result(
        outage=outage,
        sent=COUNT,
        lost=len(arrived.lost(COUNT)),
        redelivered=arrived.repeated(),
        unflagged=len(arrived.unflagged_repeats()),
        in_order=arrived.first_in_order(),
        rate_per_s=rate,
    )
