"""The stream on a real broker on loopback: `python -m benchmarks.stream [--quick] [--groups N]`.

    ingest     raw messages of a hospital day to records of the log, one process
    carriage   events from the log through Faust and the engine with no rules and nothing enriched, one worker
    worker     the same with the rule pack and the site, to threats; and the same records folded without Kafka
    recovery   a killed worker's time to be ready again, by live groups

Seconds are processor time of the process, all its threads, so that a shared machine disturbs little; the
broker's own is told beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import yaml
from confluent_kafka import Producer

from benchmarks.measure import machine, table, thousands
from correlator.config.load import load, site_bundle
from correlator.events import Event
from correlator.lab.brokers import KafkaBroker
from correlator.run.bodies import Bundle
from correlator.run.log import LogRecord, encode
from correlator.run.site_engine import SiteEngine
from correlator.sources import Message
from correlator.stream.applied import in_force
from correlator.stream.ingest import IngestProcess
from tests.ingest.carried import ordinary, raw_messages, scenario, scenario_table
from tests.stream.system import Process, System

CLOCK_TICK = os.sysconf("SC_CLK_TCK")
RECORD_EVENTS = 500


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICK


def system(kafka: KafkaBroker, folder: Path, name: str, **settings: Any) -> System:
    made = folder / name
    made.mkdir()
    return System(kafka.bootstrap, name, made, scenario("vaccine-theft"), **settings)


def ingest(kafka: KafkaBroker, folder: Path, count: int) -> list[str]:
    one = system(kafka, folder, "ingest").prepare()
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
    before, began = process.intake.counts.received, time.process_time()
    while process.intake.counts.received < sent:
        process.turn()
    spent = time.process_time() - began
    process.finish()
    done = sent - before
    return ["ingest, messages", thousands(done), f"{spent:.1f}", thousands(done / spent),
            f"{cpu_s(kafka.process.pid) - broker:.1f}"]  # type: ignore[union-attr]  # fmt: skip


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


def worker(kafka: KafkaBroker, folder: Path, count: int, *, bare: bool) -> list[list[str]]:
    name = "carriage" if bare else "worker"
    one = system(kafka, folder, name)
    if bare:
        said = yaml.safe_load(one.file.read_text())
        rules = one.folder / "none.yml"
        rules.write_text(
            "title: none\nname: none\nlogsource: {product: correlator}\ndetection: {a: {kind: no.such}, condition: a}\n"
        )
        said["sites"][0] |= {"rules": [str(rules)], "engine": {"enriched": "off"}}
        one.file.write_text(yaml.safe_dump(said))
    one.prepare()
    applied = in_force(one.kafka)[0][one.scenario.site_id].configuration
    events = events_of_a_day(one.scenario)
    log = [encode(LogRecord(one.scenario.site_id, configuration=applied))]
    log += [encode(record) for record in records(one.scenario.site_id, events, count)]
    process = one.start("worker")
    broker, began, wall = cpu_s(kafka.process.pid), cpu_s(process.popen.pid), time.monotonic()  # type: ignore[union-attr]
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 4 << 20, "log_level": 2})
    for value in log:
        while True:
            try:
                producer.produce(f"{one.prefix}events", value, one.scenario.site_id.encode(), partition=0)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(60)
    one.wait_done_worker()
    spent, elapsed = cpu_s(process.popen.pid) - began, time.monotonic() - wall
    rows = [[f"{name}, events", thousands(count), f"{spent:.1f}", thousands(count / spent),
             f"{cpu_s(kafka.process.pid) - broker:.1f}"]]  # type: ignore[union-attr]  # fmt: skip
    one.stop()
    bundle = site_bundle(load(one.file), load(one.file).settings.sites[0])
    alone = folded_s(bundle, log)
    rows.append(["  folded without Kafka", thousands(count), f"{alone:.1f}", thousands(count / alone), ""])
    rows.append([f"  ratio; on the wall {elapsed:.1f} s", "", "", f"{alone / spent:.2f}", ""])
    return rows


def folded_s(bundle: Bundle, log: list[bytes]) -> float:
    """Processor seconds of the same records through the site's engine, decoding included."""
    from correlator.run.log import decode

    engine = SiteEngine(bundle.site_id, bundle.bodies)
    began = time.process_time()
    for value in log:
        engine.receive(decode(value))
    return time.process_time() - began


def recovery(kafka: KafkaBroker, folder: Path, groups: int) -> list[str]:
    one = system(kafka, folder, f"recovery{groups}", worker={"checkpoint_ms": 5_000, "instance": "w"})
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
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 4 << 20, "log_level": 2})
    producer.produce(f"{one.prefix}events", encode(LogRecord(site, configuration=applied)), site.encode(), partition=0)
    start_ms = one.scenario.until_ms - 86_400_000
    for first in range(0, groups, RECORD_EVENTS):
        batch = tuple(
            alert(site, number, start_ms + number // 20) for number in range(first, min(first + RECORD_EVENTS, groups))
        )
        value = encode(
            LogRecord(
                site, "raw.suricata/0", first, first + len(batch) - 1, batch, tuple(range(first, first + len(batch)))
            )
        )
        while True:
            try:
                producer.produce(f"{one.prefix}events", value, site.encode(), partition=0)
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(60)
    first_worker = one.start("worker", wait=False)
    first_worker.wait_said("ready", 900)
    one.wait_done_worker(900)
    time.sleep(6)
    first_worker.kill()
    began = time.monotonic()
    second: Process = one.start("worker", wait=False)
    second.wait_said("ready", 900)
    elapsed = time.monotonic() - began
    rss = int(next(line.split()[1] for line in Path(f"/proc/{second.popen.pid}/status").read_text().splitlines()
                   if line.startswith("VmRSS")))  # fmt: skip
    opened = second.said("partition_open")[-1]
    one.stop()
    return [f"recovery, {thousands(groups)} groups", f"{elapsed:.1f} s", f"{opened['elapsed_ms'] / 1000:.1f} s open",
            f"{rss / 1024:.0f} MB", f"{opened['records']} records folded again"]  # fmt: skip


def alert(site: str, number: int, at_ms: int) -> Event:
    from correlator.events import Entity

    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Event(
        id=f"{number:032x}", site=site, source="suricata", dialect="suricata", kind="ids.alert", time_ms=at_ms,
        received_ms=at_ms, entities=(Entity("actor", "ip", address),),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--groups", type=int, default=1_000_000, help="live groups of the recovery")
    given = parser.parse_args()
    scale = 20 if given.quick else 1
    print(" ".join(f"{name} {value}" for name, value in machine().items()))
    with tempfile.TemporaryDirectory() as where, KafkaBroker(Path(where) / "kafka") as kafka:
        folder = Path(where)
        rows = [ingest(kafka, folder, 200_000 // scale)]
        rows += worker(kafka, folder, 500_000 // scale, bare=True)
        rows += worker(kafka, folder, 100_000 // scale, bare=False)
        print(table(["what", "count", "processor s", "a second and core", "broker's s"], rows))
        print("  ".join(recovery(kafka, folder, given.groups // (50 if given.quick else 1))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
