"""The stream as its users run it: topics, configuration, ingest and workers as processes, on a real broker."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition

from correlator.cli.main import main
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.raw import TICK_MS, RawMessage, to_headers
from correlator.run.partition import OFFSET, PartitionEngine
from correlator.run.scenario import Scenario
from correlator.stream.feeder import Feeder
from correlator.stream.settings import WorkerSettings
from correlator.stream.state import read_topic, whole
from tests.brokers.fixtures import read_all
from tests.ingest.carried import baseline_of, raw_messages, without_raw

ROOT = Path(__file__).parents[2]
TICK_EVERY_MS = 600_000  # of scenario time
BEFORE_STOP_S = 20


class Process:
    """One process of ours; its log lines are kept."""

    def __init__(
        self, arguments: list[str], log: Path, environment: dict[str, str] | None = None, module: str = "correlator"
    ) -> None:
        self.log = log
        self.from_byte = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=file, stderr=file,
                stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            )  # fmt: skip

    def lines(self) -> list[dict[str, Any]]:
        with self.log.open("rb") as file:
            file.seek(self.from_byte)
            found = []
            for line in file.read().splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    found.append({"what": "text", "detail": line.decode("utf-8", "replace")})
            return found

    def said(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("what") == what]

    def wait_said(self, what: str, timeout_s: float = 60.0) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if found := self.said(what):
                return found[-1]
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.02)
        raise AssertionError(f"{what!r} was not said within {timeout_s} s\n{self.log.read_text()[-3000:]}")

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        if self.running:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(BEFORE_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode


class System:
    """A scenario's site on Kafka. settings: parts of correlator.yaml that differ from the usual."""

    def __init__(
        self, bootstrap: str, prefix: str, folder: Path, scenario: Scenario, *, partitions: int = 1,
        trust: bool = True, **settings: Any,
    ) -> None:  # fmt: skip
        self.bootstrap = bootstrap
        self.prefix = f"{prefix}."
        self.folder = folder
        self.scenario = scenario
        self.kafka = KafkaSettings(bootstrap=bootstrap, prefix=self.prefix)
        self.partitions = partitions
        self.processes: list[Process] = []
        self.file = folder / "correlator.yaml"
        given: dict[str, Any] = {
            "kafka": {"bootstrap": bootstrap, "prefix": self.prefix},
            "topics": {"partitions": partitions, "raw_partitions": 1},
            "sites": [self._site()],
            "ingest": {"sources": self._sources(), "trust_sender_time": trust},
            "worker": {"session_ms": 3_000},
        }
        for name, part in settings.items():
            given[name] = {**given.get(name, {}), **part}
        given["ingest"].setdefault("process", {"session_ms": 3_000})
        self.file.write_text(yaml.safe_dump(given, sort_keys=False))

    def _site(self) -> dict[str, Any]:
        one = self.scenario
        return {
            "site": str(one.site_file.resolve()),
            "rules": ["pack" if rule == "pack" else str(Path(rule).resolve()) for rule in one.rules],
            "engine": {"lateness_ms": one.lateness_ms},
            **({"linking": {"baseline": str(baseline)}} if (baseline := baseline_of(one)) else {}),
            **({"overlay": str(one.overlay.resolve())} if one.overlay else {}),
        }

    def _sources(self) -> list[dict[str, Any]]:
        """The routes of scenario.yaml as `ingest.sources`."""
        said = yaml.safe_load((self.scenario.folder / "scenario.yaml").read_text())
        found = []
        for one in said["inputs"]:
            for route in one.get("routes", [one]):
                source: dict[str, Any] = {
                    "input": "raw.mqtt" if one["carrier"] == "mqtt" else f"raw.{one['name']}",
                    "dialect": route["dialect"], "source": route.get("source", one["name"]),
                }  # fmt: skip
                if "topics" in route:
                    source["topics"] = [route["topics"]] if isinstance(route["topics"], str) else route["topics"]
                if "map" in route:
                    source["map"] = str((self.scenario.folder / route["map"]).resolve())
                for word in ("settings", "clock"):
                    if word in route:
                        source[word] = route[word]
                found.append(source)
        return found

    # ---- commands and processes ----------------------------------------------------------------

    def command(self, *arguments: str, code: int | None = 0) -> str:
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            given = main([*arguments, "--config", str(self.file)])
        assert code is None or given == code, out.getvalue()
        return out.getvalue()

    def prepare(self) -> System:
        self.command("topics", "create")
        self.command("config", "apply")
        return self

    def start(
        self, what: str, *, name: str = "", wait: bool = True, more: tuple[str, ...] = (),
        module: str = "correlator", **environment: str,
    ) -> Process:  # fmt: skip
        log = self.folder / f"{name or what}.log"
        process = Process([*what.split(), "--config", str(self.file), *more], log, environment, module)
        self.processes.append(process)
        if wait:
            process.wait_said("ready")
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.stop()

    # ---- messages ------------------------------------------------------------------------------

    def producer(self) -> Producer:
        return Producer({
            "bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True,
            "log_level": 2, "linger.ms": 2,
        })  # fmt: skip

    def send(self, messages: Iterable[RawMessage], *, a_second: float = 0.0, ticks: bool = True) -> int:
        """Sends raw messages as bridge and simulator do; in trust mode with their promises. Returns how many."""
        producer = self.producer()
        site = self.scenario.site_id.encode()
        sent = 0
        ticked_ms = 0
        inputs: set[str] = set()
        began = time.monotonic()
        for one in messages:
            topic = self.prefix + one.input.rpartition("/")[0]
            received_ms = one.message.received_ms
            inputs.add(topic)
            headers: list[Any] = to_headers(one.message, site=one.site, receiver="test")
            producer.produce(topic, one.message.payload, site, headers=headers)
            sent += 1
            if ticks and received_ms - ticked_ms > TICK_EVERY_MS:
                self.tick(producer, inputs, received_ms)
                ticked_ms = received_ms
            if not sent % 1000:
                producer.poll(0)
            if a_second and not sent % 20:
                ahead_s = sent / a_second - (time.monotonic() - began)
                if ahead_s > 0:
                    producer.flush(5)
                    time.sleep(ahead_s)
        assert producer.flush(30) == 0
        return sent

    def tick(self, producer: Producer, topics: Iterable[str], tick_ms: int) -> None:
        for topic in sorted(topics):
            headers = [(TICK_MS, str(tick_ms).encode()), ("correlator-site", self.scenario.site_id.encode())]
            producer.produce(topic, b"", self.scenario.site_id.encode(), headers=headers)

    def raw_topics(self) -> list[str]:
        said = yaml.safe_load(self.file.read_text())
        return sorted({self.prefix + one["input"] for one in said["ingest"]["sources"]})

    def finish(self) -> None:
        """Lets time go on to `until`, on every input."""
        producer = self.producer()
        self.tick(producer, self.raw_topics(), self.scenario.until_ms + self.scenario.lateness_ms + 1)
        assert producer.flush(30) == 0

    def send_scenario(self, *, around: int = 0, a_second: float = 0.0) -> int:
        sent = self.send(raw_messages(self.scenario, around), a_second=a_second)
        self.finish()
        return sent

    # ---- what came out -------------------------------------------------------------------------

    def ends(self, topic: str) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"{self.prefix}ends", "log_level": 2})
        try:
            count = len(consumer.list_topics(topic, timeout=15).topics[topic].partitions)
            return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=15)[1] for n in range(count)}
        finally:
            consumer.close()

    def taken_in(self) -> bool:
        """Whether ingest has stored positions behind all that was sent."""
        topics = self.raw_topics()
        wanted = {(topic, n): end for topic in topics for n, end in self.ends(topic).items() if end}
        consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": f"{self.prefix}correlator-ingest", "log_level": 2,
        })  # fmt: skip
        try:
            found = consumer.committed([TopicPartition(topic, n) for topic, n in wanted], timeout=15)
        finally:
            consumer.close()
        return all(one.offset >= wanted[one.topic, one.partition] for one in found)

    def worked_off(self) -> bool:
        """Whether the outputs of every record of the log are committed."""
        for partition, end in self.ends(f"{self.prefix}events").items():
            if end:
                entries, _ = whole(read_topic(self.kafka, "state", partition))
                if OFFSET not in entries or msgspec.msgpack.decode(entries[OFFSET]) < end - 1:
                    return False
        return True

    def wait_done(self, timeout_s: float = 180.0) -> None:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self.taken_in() and self.worked_off() and self.taken_in():
                return
            time.sleep(0.2)
        logs = "\n".join(f"--- {one.log.name}\n{one.log.read_text()[-1500:]}" for one in self.processes)
        raise AssertionError(f"not done within {timeout_s} s\n{logs}")

    def wait_done_worker(self, timeout_s: float = 600.0) -> None:
        """As wait_done, for a log that was written without ingest."""
        until = time.monotonic() + timeout_s
        while not self.worked_off():
            assert time.monotonic() < until, "the worker is not done"
            time.sleep(0.2)

    def engine(self) -> PartitionEngine:
        """The state as it is written, opened beside the worker."""
        feeder = Feeder(self.kafka, WorkerSettings())
        feeder.read_bodies()
        engine = PartitionEngine(0, feeder._chunks.bodies)
        entries, _ = whole(read_topic(self.kafka, "state", 0))
        engine.open(entries, 0, 1 << 60)
        return engine

    def counters(self) -> dict[str, int]:
        """The engine's counters as they are written."""
        return self.engine().sites[self.scenario.site_id].counters()

    def told(self, topic: str) -> list[tuple[str, bytes]]:
        """(ce_id, value) of every committed message of a topic."""
        found = []
        for message in read_all(self.bootstrap, self.prefix + topic):
            headers = dict(message.headers() or [])
            found.append((headers["ce_id"].decode(), message.value()))
        return found

    def threats(self) -> list[bytes]:
        """Every revision without the carrier's positions, sorted; each once, or the test fails."""
        found = self.told("threats")
        self.none_twice(found, "threats")
        return sorted(without_raw(value) for _, value in found)

    def none_twice(self, found: list[tuple[str, bytes]], topic: str) -> None:
        twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1]
        assert not twice, f"{len(twice)} ids were told twice on {topic}, such as {twice[0]}"
