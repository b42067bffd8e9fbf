"""Many messages, of which one in twenty is broken, through the stream: `python -m tests.soak.messages --count 1000000`.

Alerts of a network sensor and contacts of doors go through ingest and a worker on a real Kafka. The broken ones
are broken in the ways of `WAYS`, each with the reason by which it must be found again. At the end every message
is an event in the log, a reject with its own reason and its own bytes, or a message that says nothing; memory is
read from the processes on the way.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from correlator.ingest.raw import to_headers
from correlator.lab.brokers import KafkaBroker
from correlator.run.log import decode
from correlator.sources import Message
from tests.brokers.fixtures import read_all
from tests.stream.house import House, alert_said, door_said

START_MS = 1_772_438_400_000
EVE, DOOR = "raw.suricata", "raw.mqtt"


def _eve(**more: object) -> Callable[[dict[str, object]], bytes]:
    return lambda said: json.dumps({**said, **more}).encode()


def _without(name: str) -> Callable[[dict[str, object]], bytes]:
    return lambda said: json.dumps({key: value for key, value in said.items() if key != name}).encode()


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[dict[str, object]], bytes]:
    return lambda said: change(json.dumps(said).encode())


# what is done to a good message -> (topic, reason it is rejected with, how)
WAYS: dict[str, tuple[str, str, Callable[[dict[str, object]], bytes]]] = {
    "nothing in it": (EVE, "empty", lambda _: b""),
    "blanks only": (EVE, "empty", lambda _: b"  \n"),
    "cut in the middle": (EVE, "not_json", _bytes(lambda data: data[: len(data) // 2])),
    "last brace missing": (EVE, "not_json", _bytes(lambda data: data[:-1])),
    "two in one": (EVE, "not_json", _bytes(lambda data: data + data)),
    "text": (EVE, "not_json", lambda _: b"suricata is starting"),
    "XML": (EVE, "not_json", lambda _: b"<event><type>alert</type></event>"),
    "single quotes": (EVE, "not_json", _bytes(lambda data: data.replace(b'"', b"'"))),
    "NaN": (EVE, "not_json", _bytes(lambda data: data.replace(b"445", b"NaN"))),
    "a comma too many": (EVE, "not_json", _bytes(lambda data: data.replace(b"}", b",}"))),
    "NUL bytes": (EVE, "not_json", _bytes(lambda data: b"\x00" + data)),
    "Latin-1": (EVE, "not_utf8", _bytes(lambda data: data.replace(b"TEST", b"T\xc9ST"))),
    "UTF-16": (EVE, "not_utf8", _bytes(lambda data: data.decode().encode("utf-16"))),
    "random bytes": (EVE, "not_utf8", lambda _: bytes(range(128, 200))),
    "nested 200 deep": (EVE, "too_deep", _bytes(lambda data: data[:-1] + b', "x": ' + b"[" * 200 + b"]" * 200 + b"}")),
    "a list": (EVE, "wrong_type", _bytes(lambda data: b"[" + data + b"]")),
    "a number": (EVE, "wrong_type", lambda _: b"42"),
    "null": (EVE, "wrong_type", lambda _: b"null"),
    "no kind": (EVE, "missing_field", _without("event_type")),
    "no time": (EVE, "missing_field", _without("timestamp")),
    "no alert": (EVE, "missing_field", _without("alert")),
    "kind is a number": (EVE, "wrong_type", _eve(event_type=7)),
    "alert is a text": (EVE, "wrong_type", _eve(alert="yes")),
    "time is a list": (EVE, "wrong_type", _eve(timestamp=[])),
    "time is no time": (EVE, "wrong_type", _eve(timestamp="yesterday")),
    "month 13": (EVE, "wrong_type", _eve(timestamp="2026-13-01T00:00:00.000000+0000")),
    "year 9999": (EVE, "impossible_time", _eve(timestamp="9999-01-01T00:00:00.000000+0000")),
    "contact is a text": (DOOR, "wrong_type", _eve(contact="perhaps")),
    "contact, cut": (DOOR, "not_json", _bytes(lambda data: data[:10])),
    "a topic nobody has": (DOOR, "unmapped", _bytes(lambda data: data)),
}


def message(number: int) -> tuple[str, Message, str]:
    """(topic, message, reason it must be rejected with or "") of a number; every twentieth is broken."""
    at_ms = START_MS + number * 20
    topic, channel, reason = (DOOR, "zigbee2mqtt/c-main", "") if number % 4 == 0 else (EVE, "eve.json", "")
    how = None
    if number % 20 == 7:
        way = list(WAYS)[number // 20 % len(WAYS)]
        topic, reason, how = WAYS[way]
        channel = "eve.json" if topic == EVE else "nobody/x" if reason == "unmapped" else "zigbee2mqtt/c-main"
    good = door_said(open=number // 4 % 2 == 0, at_ms=at_ms) if topic == DOOR else alert_said(number, at_ms=at_ms)
    payload = how(json.loads(good.payload)) if how is not None else good.payload
    return topic, Message(channel, payload, at_ms + 5, origin=str(number)), reason


def memory_mb(house: House) -> list[int]:
    """Of ingest and worker, now."""
    found = []
    for process in house.processes:
        status = Path(f"/proc/{process.popen.pid}/status").read_text()
        found.append(int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024)
    return found


def run(house: House, count: int) -> int:
    """Sends, waits, accounts; 0 when nothing is missing and memory stayed where it was."""
    house.prepare()
    house.start("ingest")
    house.start("worker")
    wanted: Counter[tuple[str, str]] = Counter()
    good: set[str] = set()
    sizes = []
    began = time.monotonic()
    for number in range(count):
        topic, one, reason = message(number)
        if reason:
            wanted[reason, one.origin] += 1
        else:
            good.add(one.origin)
        while True:
            try:
                house.sender.produce(
                    house.prefix + topic, one.payload, b"house",
                    headers=to_headers(one, site="house", receiver="soak"),
                )  # fmt: skip
                break
            except BufferError:
                house.sender.poll(0.1)
        if (number + 1) % (count // 10) == 0:
            house.flush()
            house.wait_done(600)
            sizes.append(memory_mb(house))
            rate = (number + 1) / (time.monotonic() - began)
            print(
                f"{number + 1:>9,} messages, ingest {sizes[-1][0]} MB, worker {sizes[-1][1]} MB, {rate:,.0f}/s",
                flush=True,
            )
    producer = house.producer()
    house.tick(producer, house.raw_topics(), START_MS + count * 20 + 60_000)
    assert producer.flush(30) == 0
    house.wait_done(600)
    found = Counter((one["reason"], one["origin"]) for one in map(json.loads, values(house, "rejects")))
    events = {
        event.origin
        for one in read_all(house.bootstrap, f"{house.prefix}events")
        for event in decode(one.value()).events
    }
    lost = len(good - events)
    missing, others = sum((wanted - found).values()), sum((found - wanted).values())
    by_reason = Counter(reason for reason, _ in found)
    print("\n| reason | rejects |\n|---|--:|")
    for reason, number in by_reason.most_common():
        print(f"| {reason} | {number:,} |")
    flat = all(sizes[9][n] <= sizes[4][n] * 1.1 + 10 for n in (0, 1))
    print(f"\n{count:,} messages, {sum(wanted.values()):,} broken in {len(WAYS)} ways: {lost} good ones lost, {missing} broken "
          f"ones not found by their reason, {others} rejects nobody expected; memory {'flat' if flat else 'GROWS'}")  # fmt: skip
    return 0 if not (lost or missing or others) and flat else 1


def values(house: House, topic: str) -> list[bytes]:
    return [value for _, value in house.told(topic)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="messages in all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, KafkaBroker(Path(name) / "kafka") as kafka:
        folder = Path(name) / "site"
        folder.mkdir()
        house = House(kafka.bootstrap, "soak", folder, trust=True)
        try:
            return run(house, given.count)
        finally:
            house.stop()


if __name__ == "__main__":
    sys.exit(main())
