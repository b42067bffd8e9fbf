"""The stream on real brokers on loopback: `python -m benchmarks.stream [--quick] [--part NAME ...]`.

    latency    a message's way from Mosquitto to the topic threats, beyond lateness and tick, at 1,000 and 2,000/s,
               with a further input that is silent
    ingest     raw messages of a hospital day to records of the log, one process
    carriage   events from the log through Faust to an engine that folds none of them, one worker; as they are and
               without attributes, which are half of an event
    worker     the same with the rule pack and the site, to threats; and the same records folded without Kafka
    checkpoint the same with state written with every transaction (checkpoint_ms 0) and at checkpoints
    two        two workers on two partitions beside one worker on both, by the clock
    recovery   a killed worker's time to be ready again, by live groups

Seconds are processor time of the process, all its threads, so that a shared machine disturbs little; the
broker's own is told beside it. `latency`, `two` and `recovery` go by the clock and need a quiet machine.
Of several runs (--runs) the one with the middle figure is told, with the figures of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.measure import machine, table, thousands
from correlator.config.load import load, site_bundle
from correlator.events import Entity, Event
from correlator.lab.brokers import KafkaBroker, MosquittoBroker
from correlator.lab.simulate import TICK_MS_REAL
from correlator.run.bodies import Bundle
from correlator.run.collector import settle_collector
from correlator.run.log import LogRecord, decode, encode
from correlator.run.partition import OFFSET
from correlator.run.site_engine import SiteEngine
from correlator.sources import Message
from correlator.stream.applied import in_force
from correlator.stream.ingest import IngestProcess
from correlator.stream.state import messages_of, range_of
from tests.ingest.carried import ordinary, raw_messages, scenario, scenario_table
from tests.stream.house import House, door_said
from tests.stream.system import Process, System

read_int = msgspec.msgpack.Decoder(int).decode
CLOCK_TICK = os.sysconf("SC_CLK_TCK")
RECORD_EVENTS = 500
LOOK_S = 0.25
PARTS = ("latency", "ingest", "carriage", "worker", "checkpoint", "two", "recovery")
HEAD = ("what", "count", "processor s", "a second and core", "broker's s")
HEADS = {
    "latency": ("asked/s", "sent/s", "threats", "p50 ms", "p99 ms", "lost", "cores: bridge / ingest / worker / Kafka / Mosquitto", "MB"),
    "two": ("what", "events", "s", "events/s", "workers' processor s", "broker's"),
    "recovery": ("groups", "built in s", "ready in s", "of it open", "processor s", "entries", "MB written",
                 "folded again", "MB before", "MB after, now / most"),
}  # fmt: skip
Rows = list[list[str]]  # a row of one cell is said below the table
Work = Callable[[str], tuple[float, Rows]]


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICK


def system(kafka: KafkaBroker, folder: Path, name: str, **settings: Any) -> System:
    made = folder / name
    made.mkdir()
    return System(kafka.bootstrap, name, made, scenario("vaccine-theft"), **settings)


def memory_mb(pid: int) -> str:
    """Resident memory of a process now, and the most it ever had."""
    said = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return " / ".join(f"{int(said[name].split()[0]) / 1024:.0f}" for name in ("VmRSS", "VmHWM"))


def disk_mb(kafka: KafkaBroker, prefix: str) -> str:
    """What the topics of a system take on the broker's disk, the largest first."""
    size: dict[str, int] = {}
    for file in kafka.folder.rglob(f"{prefix}*/*.log"):
        topic = file.parent.name.removeprefix(prefix).rpartition("-")[0]
        size[topic] = size.get(topic, 0) + file.stat().st_size
    found = sorted(((count / 1e6, topic) for topic, count in size.items()), reverse=True)
    return ", ".join(f"{topic} {count:.1f}" for count, topic in found if count >= 0.1)


class Written:
    """How far the outputs of each partition are committed. Waiting looks at the end of `state` only, and seldom, so
    that it takes little from what is measured; `count` reads all of it when the clock has stopped."""

    def __init__(self, one: System) -> None:
        self._places = [TopicPartition(f"{one.prefix}state", partition) for partition in range(one.partitions)]
        self._consumer = Consumer({"bootstrap.servers": one.bootstrap, "group.id": f"{one.prefix}written",
                                   "enable.partition.eof": True})  # fmt: skip

    def wait(self, last: dict[int, int], timeout_s: float = 600.0) -> float:
        """Returns when the record `last` of each partition is done: the time, s UTC, at which that was written."""
        until = time.monotonic() + timeout_s
        times = []
        for partition, offset in last.items():
            while (said := self._last(self._places[partition]))[0] < offset:
                assert time.monotonic() < until, f"the worker is not done: {said[0]} of {offset} in {partition}"
                time.sleep(LOOK_S)
            times.append(said[1])
        return max(times)

    def _last(self, place: TopicPartition) -> tuple[int, float]:
        """The last record that a partition's state says is done, and when it said so; -1: none."""
        end = range_of(self._consumer, place)[1] - 1  # the last offset is the transaction's own mark
        if end < 1:
            return -1, 0.0
        self._consumer.assign([TopicPartition(place.topic, place.partition, end - 1)])
        (last,) = messages_of(self._consumer, place.topic, end)
        self._consumer.unassign()
        assert last.key() == OFFSET.encode()
        return read_int((last.value() or b"")[1:]), last.timestamp()[1] / 1000

    def count(self) -> tuple[int, int]:
        """(entries, their bytes) that were written; closes it."""
        entries = size = 0
        for place in self._places:
            self._consumer.assign([TopicPartition(place.topic, place.partition, range_of(self._consumer, place)[0])])
            for message in messages_of(self._consumer, place.topic):
                entries += 1
                size += len(message.key() or b"") + len(message.value() or b"")
        self._consumer.close()
        return entries, size


def sender(kafka: KafkaBroker, **more: str) -> Producer:
    """A producer that writes as ingest does."""
    return Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 4 << 20, "log_level": 2, **more,
                     "compression.type": "lz4",
                     "queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_000_000})  # fmt: skip


def ingest(kafka: KafkaBroker, folder: Path, name: str, count: int) -> tuple[float, Rows]:
    one = system(kafka, folder, name).prepare()
    day = list(raw_messages(one.scenario, count))
    sent = 0
    while sent < count:
        sent += one.send(day[: count - sent], ticks=False)
    settings = load(one.file).settings
    process = IngestProcess(settings.kafka, settings.ingest.process, settings.ingest, str(one.file))
    process.start()
    while process.intake.counts.received == 0:
        process.turn()
    broker = cpu_s(kafka.process.pid)  # type: ignore[union-attr]
    settle_collector()  # as IngestProcess.run does
    before, began = process.intake.counts.received, time.process_time()
    while process.intake.counts.received < sent:
        process.turn()
    spent = time.process_time() - began
    broker = cpu_s(kafka.process.pid) - broker  # type: ignore[union-attr]
    process.finish()
    done = sent - before
    return done / spent, [
        ["ingest, messages", thousands(done), f"{spent:.1f}", thousands(done / spent), f"{broker:.1f}"],
        [f"ingest: MB on disk: {disk_mb(kafka, one.prefix)}"],
    ]


RULES = """\
title: The main door opens
name: main_opened
level: critical
logsource: {product: correlator}
detection: {s: {kind: door.opened, door: d-main}, condition: s}
"""


def latency(
    kafka: KafkaBroker, mosquitto: MosquittoBroker, folder: Path, name: str, rate: int, seconds: int
) -> tuple[float, Rows]:
    """Two doors move over MQTT; each tenth message is of the main door, and each opening of it is a threat.

    The network sensor's input is silent all the time.
    """
    made = folder / name
    made.mkdir()
    bridge = {"id": name, "mqtt": {"host": mosquitto.host, "port": mosquitto.port},
              "alive_file": str(made / "alive"), "routes": [{"topics": ["zigbee2mqtt/#"], "site": "house"}]}  # fmt: skip
    house = House(kafka.bootstrap, name, made, bridge=bridge)
    rules = made / "rules.yml"
    rules.write_text(RULES)
    settings = yaml.safe_load(house.file.read_text())
    settings["sites"][0]["rules"] = [str(rules)]
    house.file.write_text(yaml.safe_dump(settings))
    house.prepare()
    for what in ("bridge run", "ingest", "worker"):
        house.start(what, name=what.partition(" ")[0])
    pids = [one.popen.pid for one in house.processes]
    pids += [broker.process.pid for broker in (kafka, mosquitto)]  # type: ignore[union-attr]
    heard: dict[int, float] = {}
    stop = threading.Event()
    listening = threading.Thread(target=_listen, args=(house, heard, stop))
    listening.start()
    devices = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    devices.max_inflight_messages_set(1_000)
    devices.connect(mosquitto.host, mosquitto.port)
    devices.loop_start()
    sent: dict[int, float] = {}
    began, used = time.monotonic(), [cpu_s(pid) for pid in pids]
    moved_ms = 0
    for number in range(rate * seconds):
        at_ms = time.time_ns() // 1_000_000
        main = number % 10 == 0
        if main:  # never two moves of a door in one millisecond: their order would be that of their ids
            moved_ms = at_ms = max(at_ms, moved_ms + 1)
        said = door_said(open=number % 20 == 0 if main else number % 2 == 0, at_ms=at_ms, quality=number % 200)
        last = devices.publish(f"zigbee2mqtt/c-{'main' if main else 'store'}", said.payload, qos=1)
        if number % 20 == 0:
            sent[at_ms] = time.time()
        ahead_s = (number + 1) / rate - (time.monotonic() - began)
        if ahead_s > 0.001:
            time.sleep(ahead_s)
    last.wait_for_publish(30)
    spent = [cpu_s(pid) - before for pid, before in zip(pids, used, strict=True)]
    elapsed = time.monotonic() - began
    memory = " / ".join(memory_mb(one.popen.pid).partition(" ")[0] for one in house.processes)
    until = time.monotonic() + 15
    while heard.keys() < sent.keys() and time.monotonic() < until:
        time.sleep(0.1)
    devices.disconnect()
    devices.loop_stop()
    stop.set()
    listening.join()
    house.stop()
    warm_ms = min(sent) + seconds * 333  # in the first third the broker's own compiler has the processor
    allowed_s = (house.scenario.lateness_ms + TICK_MS_REAL) / 1000
    late = sorted(heard[at_ms] - sent[at_ms] - allowed_s for at_ms in sent if at_ms in heard and at_ms > warm_ms)
    lost = sum(at_ms not in heard for at_ms in sent)
    p50, p99 = (late[int(len(late) * q)] * 1000 for q in (0.5, 0.99))
    cores = " / ".join(f"{one / elapsed:.2f}" for one in spent)
    row = [f"{rate:,}", f"{rate * seconds / elapsed:,.0f}", f"{len(late):,}", f"{p50:.0f}", f"{p99:.0f}", str(lost)]
    return p99, [[*row, cores, memory]]


def _listen(house: House, heard: dict[int, float], stop: threading.Event) -> None:
    consumer = Consumer({"bootstrap.servers": house.bootstrap, "group.id": "bench", "fetch.wait.max.ms": 10})
    topic = f"{house.prefix}threats"
    consumer.assign(
        [TopicPartition(topic, n, 0) for n in consumer.list_topics(topic, timeout=15).topics[topic].partitions]
    )
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            at = time.time()
            threat = json.loads(message.value() or b"{}")
            heard.setdefault(threat["first_ms"], at)
    consumer.close()


def two(kafka: KafkaBroker, folder: Path, name: str, count: int) -> tuple[float, Rows]:
    """The same log in two partitions, folded by one worker and by two. It is written in one transaction before the
    clock starts and appears at once, so that making it takes nothing from the workers."""
    rows = []
    rates = []
    for workers in (1, 2):
        one = system(kafka, folder, f"{name}-{workers}", partitions=2).prepare()
        log = log_of(one, count)
        processes = [one.start("worker", name=f"worker{n}", wait=False) for n in range(workers)]
        until = time.monotonic() + 60
        while sum(len(process.said("partition_open")) for process in processes) < 2 or any(
            not process.said("assigned") for process in processes
        ):
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(4)  # whoever came first has given one up
        written = Written(one)
        producer = sender(kafka, **{"transactional.id": one.prefix})
        producer.init_transactions()
        producer.begin_transaction()
        for value in log:
            for partition in (0, 1):
                producer.produce(f"{one.prefix}events", value, one.scenario.site_id.encode(), partition=partition)
        producer.flush(60)
        broker, used = cpu_s(kafka.process.pid), [cpu_s(one.popen.pid) for one in processes]  # type: ignore[union-attr]
        began = time.time()
        producer.commit_transaction()
        elapsed = written.wait({0: len(log) - 1, 1: len(log) - 1}) - began
        spent = [cpu_s(process.popen.pid) - before for process, before in zip(processes, used, strict=True)]
        share = cpu_s(kafka.process.pid) - broker  # type: ignore[union-attr]
        written.count()
        one.stop()
        rates.append(2 * count / elapsed)
        rows.append([f"{workers} worker{'s' * (workers - 1)}, two partitions", thousands(2 * count), f"{elapsed:.1f}",
                     thousands(rates[-1]), " + ".join(f"{value:.1f}" for value in spent), f"{share:.1f}"])  # fmt: skip
    ratio = rates[1] / rates[0]
    rows.append(["  ratio", "", "", f"{ratio:.2f}", "", ""])
    return ratio, rows


def log_of(one: System, count: int, *, attributes: bool = True) -> list[bytes]:
    """The records of `count` events of ordinary days, behind the one that names the configuration."""
    site = one.scenario.site_id
    configuration = in_force(one.kafka)[0][site].configuration
    events = events_of_a_day(one.scenario)
    if not attributes:
        events = [msgspec.structs.replace(event, carried={}) for event in events]
    made = records(site, events, count)
    return [encode(LogRecord(site, configuration=configuration)), *map(encode, made)]


def events_of_a_day(one: Any) -> list[Event]:
    """An ordinary day: what a site without an attack says, decoded."""
    table_ = scenario_table(one)
    carriers = {given.name: given.carrier for given in one.inputs}
    found: list[Event] = []
    for name, channel, payload, received_ms in ordinary(one, 18_000):
        input = "raw.mqtt" if carriers[name] == "mqtt" else f"raw.{name}"
        reader = table_.reader(input, one.site_id, channel)
        if reader is not None:
            message = Message(channel, payload, received_ms)
            found += [event for event in reader.dialect.decode(message, reader.context) if isinstance(event, Event)]
    return found


def records(site: str, events: list[Event], count: int) -> Iterable[LogRecord]:
    """`count` events: the day again and again, each time a day later with ids of its own."""
    shift = made = 0
    batch: list[Event] = []
    offset = 0
    while made < count:
        for event in events:
            moved = event.time_ms + shift
            batch.append(msgspec.structs.replace(
                event, id=f"{shift // 86_400_000:08x}{event.id[8:]}", time_ms=moved, received_ms=event.received_ms + shift,
            ))  # fmt: skip
            made += 1
            if len(batch) == RECORD_EVENTS or made >= count:
                yield LogRecord(site, "raw.mqtt/0", offset, offset + len(batch) - 1, tuple(batch),
                                tuple(range(offset, offset + len(batch))))  # fmt: skip
                offset += len(batch)
                batch = []
                if made >= count:
                    return
        shift += 86_400_000


def worker(
    kafka: KafkaBroker, folder: Path, name: str, count: int, *, checkpoint_ms: int = 1_000
) -> tuple[float, Rows]:
    """Events of ordinary days from the log to the outputs; and the same records folded without Kafka."""
    one = system(kafka, folder, name, worker={"checkpoint_ms": checkpoint_ms})
    one.prepare()
    log = log_of(one, count)
    bundle = site_bundle(load(one.file), load(one.file).settings.sites[0])
    before = folded_s(bundle, log)
    said, spent = worked_off(kafka, one, log, f"worker, checkpoint_ms {checkpoint_ms}", count)
    # Before and after, since a shared machine is not as fast at all times.
    alone = (before + folded_s(bundle, log)) / 2
    rows = [
        said[0],
        ["  folded without Kafka", thousands(count), f"{alone:.1f}", thousands(count / alone), ""],
        ["  ratio", "", "", f"{alone / spent:.2f}", ""],
        *said[1:],
    ]
    return alone / spent, rows


def carriage(kafka: KafkaBroker, folder: Path, name: str, count: int, *, attributes: bool) -> tuple[float, Rows]:
    """The same by a worker that reads, decodes and marks, and whose engine folds nothing."""
    one = system(kafka, folder, name)
    one.prepare()
    log = log_of(one, count, attributes=attributes)
    size = sum(map(len, log)) // count
    rows, spent = worked_off(kafka, one, log, f"carriage, {size} B an event", count, module="benchmarks.carried")
    return count / spent, rows


def worked_off(
    kafka: KafkaBroker, one: System, log: list[bytes], what: str, count: int, module: str = "correlator"
) -> tuple[Rows, float]:
    """(rows, processor seconds) of a worker that finds the log, `count` events, and works it off."""
    process = one.start("worker", module=module)
    written = Written(one)
    broker, began, wall = cpu_s(kafka.process.pid), cpu_s(process.popen.pid), time.time()  # type: ignore[union-attr]
    producer = sender(kafka)
    for value in log:
        producer.produce(f"{one.prefix}events", value, one.scenario.site_id.encode(), partition=0)
        producer.poll(0)
    producer.flush(60)
    elapsed = written.wait({0: len(log) - 1}) - wall
    spent = cpu_s(process.popen.pid) - began
    broker = cpu_s(kafka.process.pid) - broker  # type: ignore[union-attr]
    entries, _ = written.count()
    memory = memory_mb(process.popen.pid)
    one.stop()
    rows = [
        [what, thousands(count), f"{spent:.1f}", thousands(count / spent), f"{broker:.1f}"],
        [f"{what}: {elapsed:.1f} s by the clock; {entries:,} entries of state; memory now / most {memory} MB"],
        [f"  MB on disk: {disk_mb(kafka, one.prefix)}"],
    ]
    return rows, spent


def folded_s(bundle: Bundle, log: list[bytes]) -> float:
    """Processor seconds of the same records, decoded and through the site's engine."""
    engine = SiteEngine(bundle.site_id, bundle.bodies)
    settle_collector()  # as replay and the worker do
    began = time.process_time()
    for value in log:
        engine.receive(decode(value))
    return time.process_time() - began


def recovery(kafka: KafkaBroker, folder: Path, name: str, groups: int) -> tuple[float, Rows]:
    """A worker whose state is `groups` live groups is killed; the next one under its id goes on."""
    one = system(kafka, folder, name, worker={"instance": "w"})
    said = yaml.safe_load(one.file.read_text())
    rules = one.folder / "rules.yml"
    rules.write_text(
        "title: a\nname: a\nlogsource: {product: correlator}\n"
        "detection: {s: {kind: ids.alert}, condition: s}\n---\ntitle: many\nname: many\nlevel: low\n"
        "correlation: {type: event_count, rules: [a], group-by: [ip], timespan: 7d, condition: {gte: 5}}\n"
    )
    said["sites"][0] |= {"rules": [str(rules)], "engine": {"enriched": "off"}}
    one.file.write_text(yaml.safe_dump(said))
    one.prepare()
    site = one.scenario.site_id
    applied = in_force(one.kafka)[0][site].configuration
    producer = sender(kafka)
    producer.produce(f"{one.prefix}events", encode(LogRecord(site, configuration=applied)), site.encode(), partition=0)
    start_ms = one.scenario.until_ms - 86_400_000
    count = 1
    for first in range(0, groups, RECORD_EVENTS):
        numbers = range(first, min(first + RECORD_EVENTS, groups))
        batch = tuple(alert(site, number, start_ms + number // 20) for number in numbers)
        value = encode(LogRecord(site, "raw.suricata/0", first, numbers[-1], batch, tuple(numbers)))
        producer.produce(f"{one.prefix}events", value, site.encode(), partition=0)
        producer.poll(0)
        count += 1
    # A promise lets time go on, so that no event waits and every group is in its window.
    over_ms = start_ms + groups // 20 + one.scenario.lateness_ms + 1
    over = encode(LogRecord(ticks={site: {"raw.suricata/0": over_ms}}))
    producer.produce(f"{one.prefix}events", over, site.encode(), partition=0)
    producer.flush(60)
    began = time.monotonic()
    former = one.start("worker", wait=False)
    written = Written(one)
    written.wait({0: count}, 900)
    folded_in_s = time.monotonic() - began
    former.wait_said("ready", 60)
    former_memory = memory_mb(former.popen.pid)
    entries, size = written.count()
    former.kill()
    began = time.monotonic()
    second: Process = one.start("worker", wait=False)
    second.wait_said("ready", 900)
    elapsed = time.monotonic() - began
    memory, spent = memory_mb(second.popen.pid), cpu_s(second.popen.pid)
    opened = second.said("partition_open")[-1]
    one.stop()
    return elapsed, [[
        thousands(groups), f"{folded_in_s:.0f}", f"{elapsed:.1f}", f"{opened['elapsed_ms'] / 1000:.1f}", f"{spent:.1f}",
        f"{entries:,}", f"{size / 1e6:.0f}", f"{opened['records']:,}", former_memory, memory,
    ]]  # fmt: skip


def alert(site: str, number: int, at_ms: int) -> Event:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Event(
        id=f"{number:032x}", site=site, source="suricata", dialect="suricata", kind="ids.alert", time_ms=at_ms,
        received_ms=at_ms, entities=(Entity("actor", "ip", address),),
    )  # fmt: skip


def middle(runs: int, name: str, run: Work) -> tuple[Rows, str]:
    """(rows of the run with the middle figure, the figures of all). Each run has topics of its own."""
    taken = sorted((run(f"{name}-{number}") for number in range(runs)), key=lambda one: one[0])
    figures = ", ".join(f"{figure:,.2f}" if figure < 10_000 else thousands(figure) for figure, _ in taken)
    return taken[(runs - 1) // 2][1], figures


def works(part: str, kafka: KafkaBroker, mosquitto: MosquittoBroker, folder: Path, given: Any) -> dict[str, Work]:
    """What a part measures, by name."""
    scale = 20 if given.quick else 1
    if part == "latency":
        seconds = 30 // min(scale, 6)
        return {
            f"latency{rate}": partial(latency, kafka, mosquitto, folder, rate=rate, seconds=seconds)
            for rate in given.rate or (1_000, 2_000)
        }
    if part == "ingest":
        return {part: partial(ingest, kafka, folder, count=200_000 // scale)}
    if part == "carriage":
        return {
            f"{part}{'' if attributes else '-without-attributes'}": partial(
                carriage, kafka, folder, count=1_000_000 // scale, attributes=attributes
            )
            for attributes in (True, False)
        }
    if part == "worker":
        return {part: partial(worker, kafka, folder, count=100_000 // scale)}
    if part == "checkpoint":
        return {
            f"{part}{ms}": partial(worker, kafka, folder, count=100_000 // scale, checkpoint_ms=ms) for ms in (0, 1_000)
        }
    if part == "two":
        return {part: partial(two, kafka, folder, count=100_000 // scale)}
    return {part: partial(recovery, kafka, folder, groups=given.groups // (50 if given.quick else 1))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    parser.add_argument("--runs", type=int, default=3, help="runs of each part, of which the middle one is told")
    parser.add_argument("--rate", type=int, action="append", help="messages a second of latency; may be repeated")
    parser.add_argument("--groups", type=int, default=1_000_000, help="live groups of the recovery")
    given = parser.parse_args()
    print(" ".join(f"{name} {value}" for name, value in machine().items()))
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        with KafkaBroker(folder / "kafka") as kafka, MosquittoBroker(folder / "mosquitto") as mosquitto:
            for part in given.part or PARTS:
                rows: Rows = []
                for name, work in works(part, kafka, mosquitto, folder, given).items():
                    found, figures = middle(1 if given.quick else given.runs, name, work)
                    rows += found
                    print(f"{name}, each run: {figures}", flush=True)
                print(table(HEADS.get(part, HEAD), [tuple(row) for row in rows if len(row) > 1]))
                print("".join(f"{row[0]}\n" for row in rows if len(row) == 1), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
