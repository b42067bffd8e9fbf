"""Kills at random moments, and what came of it: `python -m tests.stream.chaos` prints the table of docs/reliability.md.

A run sends a scenario with an ordinary day around it at `RATE` messages a second and kills a process with
SIGKILL again and again meanwhile, some of the time exactly inside a transaction or checkpoint, or stops and
starts a broker. Then it compares what is told with an undisturbed replay of the same messages, and every raw
message must be accounted for: an event in the log once, a duplicate that was known as one, a reject, or a
message that says nothing. The last kind lets the machine's own clock count and compares members, not times.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from correlator.ingest.intake import Intake
from correlator.ingest.settings import IngestSettings
from correlator.lab.brokers import KafkaBroker, MosquittoBroker
from correlator.lab.simulate import KafkaPath, MqttPath
from correlator.run.log import decode
from correlator.run.scenario import Scenario
from tests.brokers.fixtures import read_all
from tests.ingest.carried import raw_messages, replay_of, scenario, scenario_table
from tests.stream.house import House
from tests.stream.system import TICK_EVERY_MS, Process, System

RATE = 600
AROUND = 4_000
IN_WRITING = ("transaction", "checkpoint")


@dataclass(slots=True)
class Result:
    """One run. inside: kills that hit a transaction or checkpoint; again: records delivered twice."""

    kind: str
    kills: int = 0
    inside: int = 0
    again: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    unaccounted: int = 0
    problems: list[str] = field(default_factory=list)

    def good(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.unaccounted or self.problems)


class Killer(threading.Thread):
    """Kills a process every now and then and starts it again, after `pause_s`, while `on` is set."""

    def __init__(
        self, start: Callable[[], Process], dice: random.Random, result: Result, pause_s: tuple[float, float],
        *, aim: bool,
    ) -> None:  # fmt: skip
        super().__init__(daemon=True)
        self.begin = start
        self.dice = dice
        self.result = result
        self.pause_s = pause_s
        self.aim = aim
        self.on = threading.Event()
        self.on.set()
        self.process = start()
        self.others: list[tuple[Process, Callable[[], Process]]] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.on.is_set():
                if not self.others:
                    self.process.wait_said("ready")
                time.sleep(self.dice.uniform(0.1, 1.5))
                if not self.on.is_set():
                    return
                if self.aim and self.dice.random() < 0.6:
                    self._wait_for_writing()
                if self.others and self.others[0][0].log.stat().st_mtime > self.process.log.stat().st_mtime:
                    (other, begin_other), *_ = self.others
                    self.others = [(self.process, self.begin)]
                    self.process, self.begin = other, begin_other
                self.process.kill()
                self.result.kills += 1
                last = [line for line in self.process.lines() if line.get("what") in (*IN_WRITING, "committed")]
                self.result.inside += bool(last) and last[-1]["what"] in IN_WRITING
                time.sleep(self.dice.uniform(*self.pause_s))
                self.process = self.begin()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error

    def _wait_for_writing(self) -> None:
        log = self.process.log
        size = log.stat().st_size
        until = time.monotonic() + 2
        with log.open("rb") as file:
            file.seek(size)
            while time.monotonic() < until:
                new = file.read()
                if new and new.rstrip().endswith(b"}"):
                    line = new.splitlines()[-1]
                    if b'"transaction"' in line or b'"checkpoint"' in line:
                        return

    def end(self) -> Process:
        self.on.clear()
        self.join(90)
        if self.error is not None:
            raise self.error
        return self.process


@dataclass(frozen=True, slots=True)
class Expected:
    """What the undisturbed run tells, and how the messages are accounted for."""

    scenario: Scenario
    around: int
    threats: list[bytes]
    events: Counter[str]  # by origin
    rejects: Counter[str]
    duplicates: int  # that the messages have of themselves


def expected(name: str, around: int) -> Expected:
    one = scenario(name)
    intake = Intake(scenario_table(one), IngestSettings(trust_sender_time=True, pack_events=1))
    events: Counter[str] = Counter()
    rejects: Counter[str] = Counter()
    for message in raw_messages(one, around):
        intake.take(message, 0)
        for _, record in intake.drain():
            events.update(event.origin for event in record.events)
        rejects.update(reject.origin for reject in intake.drain_rejects())
    threats, counters = replay_of(one, around)
    return Expected(one, around, sorted(threats), events, rejects, counters["duplicates"])


def run(bootstrap: str, prefix: str, folder: Path, kind: str, wanted: Expected, seed: int, rate: int = RATE) -> Result:
    """One run of a kind: "ingest", "worker at once", "worker take-over", "two workers"."""
    dice = random.Random(seed)
    result = Result(kind)
    settings: dict[str, object] = {"worker": {"session_ms": 2_000, "checkpoint_ms": dice.choice([0, 200, 1_000])}}
    if kind == "ingest":
        settings["ingest"] = {"process": {"session_ms": 2_000}}
    system = System(bootstrap, prefix, folder, wanted.scenario, **settings).prepare()
    try:
        killer = _start(system, kind, dice, result)
        system.send(raw_messages(wanted.scenario, wanted.around), a_second=rate)
        killer.end()
        system.finish()
        system.wait_done()
        _judge(system, wanted, result)
    except AssertionError as error:
        result.problems.append(str(error)[-1500:])
    finally:
        system.stop()
    return result


def _start(system: System, kind: str, dice: random.Random, result: Result) -> Killer:
    debug = ("--log-level", "debug")
    if kind == "ingest":
        system.start("worker")

        def begin() -> Process:
            return system.start("ingest", wait=False, CORRELATOR_INGEST__PROCESS__INSTANCE="i1")

        killer = Killer(begin, dice, result, (0.0, 0.3), aim=False)
    else:
        system.start("ingest")
        fixed = kind == "worker at once"

        def begin() -> Process:
            instance = {"CORRELATOR_WORKER__INSTANCE": "w1"} if fixed else {}
            return system.start("worker", wait=False, more=debug, **instance)

        killer = Killer(begin, dice, result, (0.0, 0.2) if fixed else (0.0, 4.0), aim=True)
        if kind == "two workers":  # the other one takes over; whichever works is killed
            killer.process.wait_said("ready")
            other = system.start("worker", name="other", more=debug, wait=False)
            killer.others = [(other, lambda: system.start("worker", name="other", more=debug, wait=False))]
    killer.process.wait_said("ready")
    killer.start()
    return killer


def _judge(system: System, wanted: Expected, result: Result, duplicates: int = 0) -> None:
    """duplicates: events that came twice over MQTT and that the engine knew as such."""
    found = system.told("threats")
    names = Counter(name for name, _ in found)
    result.doubled = sum(count - 1 for count in names.values())
    for topic in ("matches", "events.enriched"):
        result.doubled += sum(count - 1 for count in Counter(name for name, _ in system.told(topic)).values())
    if not result.doubled:
        threats = Counter(system.threats())
        reference = Counter(wanted.threats)
        result.lost = sum((reference - threats).values())
        result.wrong = sum((threats - reference).values())
    in_log: Counter[str] = Counter()
    seen: dict[str, int] = {}
    again = 0
    for message in read_all(system.bootstrap, f"{system.prefix}events"):
        record = decode(message.value())
        for event, offset in zip(record.events, record.offsets, strict=True):
            if offset > seen.get(record.input, -1):
                in_log[event.origin] += 1
            else:
                again += 1
        if record.input:
            seen[record.input] = max(seen.get(record.input, -1), record.last)
    rejects = {json.loads(value)["origin"] for _, value in system.told("rejects")}
    twice = sum((in_log - wanted.events).values())
    result.unaccounted = sum((wanted.events - in_log).values()) + abs(twice - duplicates)
    result.unaccounted += len(wanted.rejects.keys() ^ rejects)
    result.again = twice
    if result.kind == "ingest":
        result.again = again
        return
    for log in {process.log for process in system.processes}:
        for line in log.read_text().splitlines():
            if '"partition_open"' in line or '"went_on"' in line:
                result.again += int(json.loads(line)["records"])


# ---- the whole way, from an MQTT broker ----------------------------------------------------------


class Street(threading.Thread):
    """Devices that publish to Mosquitto and logs that are shipped to Kafka, at a rate. While `gate` is held by
    another they wait, and the brokers have taken all that was sent."""

    def __init__(self, system: System, mosquitto: MosquittoBroker, messages: list[Any], rate: int) -> None:
        super().__init__(daemon=True)
        self.gate = threading.Lock()
        self.mqtt = MqttPath(mosquitto.host, mosquitto.port)
        self.error: BaseException | None = None
        self.sent = 0
        self._lines = KafkaPath(system.kafka, system.scenario)
        self._logs = [one.name for one in system.scenario.inputs if one.carrier != "mqtt"]
        self._system, self._messages, self._rate = system, messages, rate

    def run(self) -> None:
        try:
            self._play()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error

    def _play(self) -> None:
        ticked_ms, began = 0, time.monotonic()
        for one in self._messages:
            name = one.input.removeprefix("raw.").rpartition("/")[0]
            with self.gate:
                (self.mqtt if name == "mqtt" else self._lines).send(name, one.message)
                if one.message.received_ms - ticked_ms > TICK_EVERY_MS:
                    ticked_ms = one.message.received_ms
                    self._promise(ticked_ms)
            self.sent += 1
            ahead_s = self.sent / self._rate - (time.monotonic() - began)
            if ahead_s > 0.01:
                time.sleep(ahead_s)
        with self.gate:
            self._promise(self._system.scenario.until_ms + self._system.scenario.lateness_ms + 1)
            self._lines.flush()
            self.mqtt.flush()

    def _promise(self, at_ms: int) -> None:
        self.mqtt.promise(["mqtt"], at_ms)
        self._lines.promise(self._logs, at_ms)

    def finish(self) -> None:
        self.join(180)
        self.mqtt.close()
        if self.error is not None:
            raise self.error


class Supervisor(threading.Thread):
    """Starts a process again when it ends, as systemd or compose would. `held`: whoever stops one on purpose."""

    def __init__(self, begin: dict[str, Callable[[], Process]]) -> None:
        super().__init__(daemon=True)
        self.begin = begin
        self.processes = {name: start() for name, start in begin.items()}
        self.on = threading.Event()
        self.on.set()

    def run(self) -> None:
        while self.on.is_set():
            for name, process in self.processes.items():
                if not process.running:
                    self.processes[name] = self.begin[name]()
            time.sleep(0.1)

    def ready(self) -> None:
        for process in self.processes.values():
            process.wait_said("ready")


def run_whole(
    brokers: tuple[KafkaBroker, MosquittoBroker], prefix: str, folder: Path, kind: str, wanted: Expected, seed: int,
    rate: int = RATE,
) -> Result:  # fmt: skip
    """One run of "bridge", "Mosquitto" or "Kafka": Mosquitto, bridge, Kafka, ingest, worker, with outages of one."""
    kafka, mosquitto = brokers
    dice = random.Random(seed)
    result = Result(kind)
    one = wanted.scenario
    filters = sorted({topic for source in _sources_of(one) for topic in source})
    bridge = {
        "id": prefix, "mqtt": {"host": mosquitto.host, "port": mosquitto.port}, "trust_sender_time": True,
        "alive_file": str(folder / "alive"), "routes": [{"topics": filters, "site": one.site_id}],
    }  # fmt: skip
    system = System(kafka.bootstrap, prefix, folder, one, bridge=bridge, worker={"session_ms": 2_000}).prepare()

    def starter(what: str, **environment: str) -> Callable[[], Process]:
        return lambda: system.start(what, name=what.partition(" ")[0], wait=False, **environment)

    # The bridge subscribes before anything is published: what nobody subscribed to, a broker does not keep.
    supervisor = Supervisor({
        "bridge": starter("bridge run"),
        "ingest": starter("ingest", CORRELATOR_INGEST__PROCESS__INSTANCE="i1"),
        "worker": starter("worker", CORRELATOR_WORKER__INSTANCE="w1"),
    })  # fmt: skip
    try:
        supervisor.ready()
        supervisor.start()
        street = Street(system, mosquitto, list(raw_messages(one, wanted.around)), rate)
        street.start()
        while street.is_alive():
            time.sleep(dice.uniform(0.5, 3.0))
            if not street.is_alive() or (kind != "bridge" and result.kills):
                break
            _disturb(kind, brokers, supervisor, street, dice)
            result.kills += 1
        street.finish()
        system.wait_done()
        _until(lambda: len(system.told("threats")) >= len(wanted.threats), 60)
        supervisor.on.clear()
        supervisor.join(5)
        assert supervisor.processes["worker"].stop() == 0
        _judge(system, wanted, result, system.counters()["duplicates"] - wanted.duplicates)
    except AssertionError as error:
        result.problems.append(str(error)[-1500:])
    finally:
        supervisor.on.clear()
        supervisor.join(5)
        system.stop()
    return result


def _disturb(
    kind: str, brokers: tuple[KafkaBroker, MosquittoBroker], supervisor: Supervisor, street: Street, dice: random.Random
) -> None:
    kafka, mosquitto = brokers
    if kind == "bridge":
        supervisor.processes["bridge"].kill()  # and the supervisor starts it again
    elif kind == "Kafka":
        kafka.stop()
        time.sleep(dice.uniform(0.0, 2.0))
        kafka.start()
    else:
        # What devices had on the way would be published twice by them, which is not what is asked here.
        with street.gate:
            street.mqtt.flush()
            mosquitto.stop()
            time.sleep(dice.uniform(0.0, 1.0))
            mosquitto.start()


def _sources_of(one: Scenario) -> Iterator[tuple[str, ...]]:
    for given in one.inputs:
        if given.carrier == "mqtt":
            yield from (source.topics for source in given.sources)


def _until(wanted: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not wanted() and time.monotonic() < until:
        time.sleep(0.2)


# ---- by the machine's own clock ------------------------------------------------------------------


def run_own_clock(bootstrap: str, prefix: str, folder: Path, kind: str, seed: int, rate: int = RATE) -> Result:
    """As `run`, without times that a sender gives: every alert must be an event told once, whatever its time."""
    dice = random.Random(seed)
    result = Result(f"{kind}, own clock")
    settings: dict[str, Any] = {"worker": {"session_ms": 2_000}, "ingest": {"process": {"session_ms": 2_000}}}
    house = House(bootstrap, prefix, folder, **settings).prepare()
    count = 8 * rate
    try:
        killer = _start(house, kind, dice, result)
        began = time.monotonic()
        for number in range(count):
            house.alert(number)
            if number % 20 == 0:
                house.flush()
                time.sleep(max(0.0, number / rate - (time.monotonic() - began)))
        house.flush()
        killer.end()
        _until(lambda: len({name for name, _ in house.told("events.enriched")}) >= count, 90)
        origins = Counter(json.loads(value)["event"]["origin"] for _, value in house.told("events.enriched"))
        sent = Counter(f"raw.suricata:{number}" for number in range(count))
        result.lost, result.doubled = sum((sent - origins).values()), sum((origins - sent).values())
        for topic in ("matches", "threats"):
            result.doubled += sum(times - 1 for times in Counter(name for name, _ in house.told(topic)).values())
    except AssertionError as error:
        result.problems.append(str(error)[-1500:])
    finally:
        house.stop()
    return result


KINDS = ("ingest", "worker at once", "worker take-over", "two workers")
WHOLE = ("bridge", "Mosquitto", "Kafka")


def table(results: list[Result]) -> Iterator[str]:
    yield "| killed | runs | kills | inside a transaction | delivered again | lost | doubled | wrong | unaccounted |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for kind in dict.fromkeys(one.kind for one in results):
        mine = [one for one in results if one.kind == kind]
        sums = [sum(getattr(one, name) for one in mine) for name in
                ("kills", "inside", "again", "lost", "doubled", "wrong", "unaccounted")]  # fmt: skip
        yield f"| {kind} | {len(mine)} | " + " | ".join(f"{number:,}" for number in sums) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs of each kind")
    parser.add_argument("--seed", type=int, default=1000, help="the first run's seed; each run adds one")
    parser.add_argument("--kind", choices=[*KINDS, *WHOLE, "own clock"], action="append", help="only this; repeatable")
    given = parser.parse_args()
    wanted = expected("vaccine-theft", AROUND)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        with KafkaBroker(folder / "kafka") as kafka, MosquittoBroker(folder / "mosquitto") as mosquitto:
            for kind in given.kind or (*KINDS, *WHOLE, "own clock"):
                for number in range(len(KINDS) if kind == "own clock" else given.runs):
                    where = folder / f"{kind.replace(' ', '-')}-{number}"
                    where.mkdir()
                    prefix, seed = f"c{given.seed}-{len(results)}", given.seed + number
                    if kind == "own clock":
                        one = run_own_clock(kafka.bootstrap, prefix, where, KINDS[number], seed)
                    elif kind in WHOLE:
                        one = run_whole((kafka, mosquitto), prefix, where, kind, wanted, seed)
                    else:
                        one = run(kafka.bootstrap, prefix, where, kind, wanted, seed)
                    results.append(one)
                    print(f"{one.kind} {number + 1}: {one.kills} kills, {one.inside} inside, {one.again} again,"
                          f" {'exact' if one.good() else one}", flush=True)  # fmt: skip
    print("\n".join(table(results)))
    return 0 if all(one.good() for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
