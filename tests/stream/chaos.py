"""Kills at random moments, and what came of it: `python -m tests.stream.chaos` prints the table of docs/reliability.md.

A run sends a scenario with an ordinary day around it at `RATE` messages a second and kills a process with
SIGKILL again and again meanwhile, some of the time exactly inside a transaction, checkpoint or rebalance, or stops
and starts a broker. Then it compares what is told with an undisturbed replay of the same messages, and every raw
message must be accounted for: an event in the log once, a duplicate that was known as one, a reject, or a
message that says nothing. The last kind lets the machine's own clock count and compares members, not times.

With `--results FILE` each run is a JSON line of that file as soon as it is over; runs that stand there already are
not made again, and the table is of all of them. What a run that was not exact left behind is kept beside the file.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import msgspec
from confluent_kafka.admin import AdminClient

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
LEAST = 500  # messages a second that flow whenever something is disturbed
AROUND = 4_000  # about eight seconds of messages
WRITING = ("transaction", "checkpoint")
JOINING = ("assigned", "partition_open")  # said before "ready": the worker takes its partitions over


@dataclass(frozen=True, slots=True)
class Kill:
    """One disturbance. at_s: since the first message; rate: messages a second until then; inside: transaction,
    checkpoint, rebalance or nothing; away_s: how long what was stopped stayed away."""

    what: str
    at_s: float
    rate: int
    inside: str = ""
    away_s: float = 0.0


@dataclass(slots=True)
class Result:
    """One run. again: records delivered twice; the other numbers must be 0."""

    kind: str
    seed: int
    kills: list[Kill] = field(default_factory=list)
    again: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    unaccounted: int = 0
    problems: list[str] = field(default_factory=list)

    def good(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.unaccounted or self.problems)

    def __str__(self) -> str:
        kills = ", ".join(
            f"{one.what} {one.at_s:.1f} s {one.rate}/s{' in a ' + one.inside if one.inside else ''}"
            for one in self.kills
        )
        bad = f"lost {self.lost}, doubled {self.doubled}, wrong {self.wrong}, unaccounted {self.unaccounted}"
        said = "exact" if self.good() else f"NOT EXACT: {bad} {self.problems}"
        return f"{self.kind}, seed {self.seed}: {kills}; {self.again} again; {said}"


# A run in three steps, at whose ends it yields: processes started; messages sent and processes killed; judged.
Steps = Iterator[None]


class Flow:
    """Messages on their way, counted. least: messages a second that must flow before anything is disturbed."""

    def __init__(self, messages: Iterable[Any], least: int = LEAST) -> None:
        self.messages = messages
        self.least = least
        self.sent = 0
        self.over = False
        self._began = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        self._began = time.monotonic()
        for one in self.messages:
            yield one
            self.sent += 1
        self.over = True

    def wait(self) -> None:
        """Returns when `least` messages a second have flowed so far, as they nearly always have, or all are sent."""
        until = time.monotonic() + 30
        while self.sent < (time.monotonic() - self._began) * self.least and not self.over and time.monotonic() < until:
            time.sleep(0.01)

    def kill(self, what: str, inside: str = "", away_s: float = 0.0) -> Kill:
        """What is noted of something that happens now."""
        at_s = time.monotonic() - self._began
        return Kill(what, round(at_s, 2), round(self.sent / max(at_s, 0.001)), inside, away_s)


class Killer(threading.Thread):
    """Kills a process every now and then and starts it again, after `pause_s`, while `on` is set."""

    def __init__(
        self, start: Callable[[], Process], dice: random.Random, result: Result, flow: Flow,
        pause_s: tuple[float, float], *, aim: bool,
    ) -> None:  # fmt: skip
        super().__init__(daemon=True)
        self.begin = start
        self.dice = dice
        self.result = result
        self.flow = flow
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
                self._wait_for_its_moment()
                if not self.on.is_set():
                    return
                if self.others and self.others[0][0].log.stat().st_mtime > self.process.log.stat().st_mtime:
                    (other, begin_other), *_ = self.others
                    self.others = [(self.process, self.begin)]
                    self.process, self.begin = other, begin_other
                kill = self.flow.kill(self.process.log.stem)
                self.process.kill()
                self.result.kills.append(replace(kill, inside=_inside(self.process.lines())))
                time.sleep(self.dice.uniform(*self.pause_s))
                self.process = self.begin()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error

    def _wait_for_its_moment(self) -> None:
        if self.aim and self.result.kills and self.dice.random() < 0.3:
            self._wait_until_said(JOINING, 6.0)  # whoever takes over is killed in the middle of it
            return
        if not self.others:
            self.process.wait_said("ready")
        time.sleep(self.dice.uniform(0.1, 1.5))
        self.flow.wait()
        if self.flow.over:
            self.on.clear()
        if self.aim and self.dice.random() < 0.7:
            self._wait_until_said(self.dice.choice([WRITING, WRITING[1:]]), 1.0)

    def _wait_until_said(self, words: tuple[str, ...], seconds: float) -> None:
        """Returns when one of these words is the newest that the process, or the other one, has said."""
        wanted = tuple(f'"{word}"'.encode() for word in words)
        ends = {log: log.stat().st_size for log in (self.process.log, *(other.log for other, _ in self.others))}
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.on.is_set():
            for log, end in ends.items():
                with log.open("rb") as file:
                    file.seek(end)
                    new = file.read()
                if new.endswith(b"\n"):
                    ends[log] = end + len(new)
                    if any(word in new.splitlines()[-1] for word in wanted):
                        return
            time.sleep(0.001)

    def end(self) -> Process:
        self.on.clear()
        self.join(90)
        if self.error is not None:
            raise self.error
        assert self.result.kills, "nothing was killed"
        return self.process


def _inside(lines: list[dict[str, Any]]) -> str:
    """What a process was in the middle of, by the last that it said of itself."""
    said = [str(line["what"]) for line in lines if line.get("what") in (*WRITING, *JOINING, "committed", "ready")]
    if said and said[-1] in WRITING:
        return said[-1]
    return "rebalance" if said and said[-1] in JOINING else ""


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


def stream(
    bootstrap: str, prefix: str, folder: Path, wanted: Expected, result: Result, least: int = LEAST
) -> Steps:  # fmt: skip
    """Raw topics to threats: "ingest", "worker at once", "worker take-over", "two workers"."""
    kind, dice = result.kind, random.Random(result.seed)
    settings: dict[str, Any] = {"worker": {"session_ms": 2_000, "checkpoint_ms": dice.choice([0, 200, 1_000])}}
    if kind == "ingest":
        settings["ingest"] = {"process": {"session_ms": 2_000}}
    # With two partitions the site's own goes from one of two workers to the other when one joins or leaves.
    partitions = 2 if kind == "two workers" else 1
    system = System(bootstrap, prefix, folder, wanted.scenario, partitions=partitions, **settings).prepare()
    try:
        flow = Flow(raw_messages(wanted.scenario, wanted.around), least)
        killer = _start(system, kind, dice, result, flow)
        yield
        killer.start()
        system.send(flow, a_second=RATE)
        killer.end()
        yield
        system.finish()
        system.wait_done()
        _judge(system, wanted, result)
    finally:
        _over(system, result)


def _start(system: System, kind: str, dice: random.Random, result: Result, flow: Flow) -> Killer:
    debug = ("--log-level", "debug")
    if kind == "ingest":
        steady = system.start("worker", wait=False)

        def begin() -> Process:
            return system.start("ingest", wait=False, CORRELATOR_INGEST__PROCESS__INSTANCE="i1")

        killer = Killer(begin, dice, result, flow, (0.0, 0.3), aim=False)
    else:
        steady = system.start("ingest", wait=False)
        fixed = kind == "worker at once"

        def begin() -> Process:
            instance = {"CORRELATOR_WORKER__INSTANCE": "w1"} if fixed else {}
            return system.start("worker", wait=False, more=debug, **instance)

        killer = Killer(begin, dice, result, flow, (0.0, 0.2) if fixed else (0.0, 4.0), aim=True)
        if kind == "two workers":  # the other one joins while messages flow; whichever works is killed

            def begin_other() -> Process:
                return system.start("worker", name="other", more=debug, wait=False)

            killer.process.wait_said("ready")
            killer.others = [(begin_other(), begin_other)]
    killer.process.wait_said("ready")
    steady.wait_said("ready")
    return killer


def _over(system: System, result: Result) -> None:
    """Ends what still runs. Of an exact run nothing is kept, so that the broker does not grow from run to run; of
    another what was told, what lay in the log and how the raw messages came is written beside its own logs."""
    for process in system.processes:
        process.kill()
    admin = AdminClient({"bootstrap.servers": system.bootstrap, "log_level": 2})
    names = [name for name in admin.list_topics(timeout=15).topics if name.startswith(system.prefix)]
    if result.good():
        for future in admin.delete_topics(names).values():
            future.result(30)
        return
    for topic in ("threats", "matches", "events.enriched"):
        lines = [name.encode() + b" " + value for name, value in system.told(topic)]
        (system.folder / f"{topic}.told").write_bytes(b"\n".join(lines))
    with (system.folder / "events.ndjson").open("wb") as file:
        for message in read_all(system.bootstrap, f"{system.prefix}events"):
            record = decode(message.value())
            file.writelines(msgspec.json.encode([record.input, one]) + b"\n" for one in record.events)
    with (system.folder / "raw.ndjson").open("wb") as file:
        for topic in sorted(name for name in names if name.startswith(f"{system.prefix}raw.")):
            for message in read_all(system.bootstrap, topic):
                headers = {name: value.decode(errors="replace") for name, value in message.headers() or []}
                position = [topic, message.partition(), message.offset(), message.timestamp()[1], headers]
                file.write(msgspec.json.encode(position) + b"\n")


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
    result.again = twice + again + _folded_again(system)


def _folded_again(system: System) -> int:
    """Records that a worker folded and that a later one was given or folded again: what was not committed, what came
    after the last checkpoint, and what Kafka delivered although it was committed."""
    count = 0
    folded: dict[int, int] = {}
    logs = {process.log for process in system.processes}
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines() if line.startswith("{")]
    for line in sorted(lines, key=lambda line: line["at"]):
        what = line["what"]
        if what in WRITING:
            folded[line["partition"]] = max(line["offset"], folded.get(line["partition"], -1))
        elif what == "partition_open":
            count += max(0, folded.get(line["partition"], -1) + 1 - line["from_offset"])
        elif what == "went_on":
            count += line["records"]
    return count


# ---- the whole way, from an MQTT broker ----------------------------------------------------------


class Street(threading.Thread):
    """Devices that publish to Mosquitto and logs that are shipped to Kafka, at a rate. While `gate` is held by
    another they wait, and the brokers have taken all that was sent."""

    def __init__(self, system: System, mosquitto: MosquittoBroker, messages: list[Any], rate: int) -> None:
        super().__init__(daemon=True)
        self.gate = threading.Lock()
        self.mqtt = MqttPath(mosquitto.host, mosquitto.port)
        self.error: BaseException | None = None
        self.flow = Flow(messages)
        self._lines = KafkaPath(system.kafka, system.scenario)
        self._logs = [one.name for one in system.scenario.inputs if one.carrier != "mqtt"]
        self._system, self._rate = system, rate

    def run(self) -> None:
        try:
            self._play()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error

    def _play(self) -> None:
        ticked_ms, began = 0, time.monotonic()
        for one in self.flow:
            name = one.input.removeprefix("raw.").rpartition("/")[0]
            with self.gate:
                (self.mqtt if name == "mqtt" else self._lines).send(name, one.message)
                if one.message.received_ms - ticked_ms > TICK_EVERY_MS:
                    ticked_ms = one.message.received_ms
                    self._promise(ticked_ms)
            ahead_s = self.flow.sent / self._rate - (time.monotonic() - began)
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
    """Starts a process again when it ends, as systemd or compose would."""

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


def whole_way(
    brokers: tuple[KafkaBroker, MosquittoBroker], prefix: str, folder: Path, wanted: Expected, result: Result,
    rate: int = RATE,
) -> Steps:  # fmt: skip
    """Mosquitto, bridge, Kafka, ingest, worker: "bridge", "Mosquitto", "Kafka", or "two at once" of all five."""
    kafka, mosquitto = brokers
    kind, dice = result.kind, random.Random(result.seed)
    one = wanted.scenario
    filters = sorted({topic for source in _sources_of(one) for topic in source})
    bridge = {
        "id": prefix, "mqtt": {"host": mosquitto.host, "port": mosquitto.port}, "trust_sender_time": True,
        "alive_file": str(folder / "alive"), "routes": [{"topics": filters, "site": one.site_id}],
    }  # fmt: skip
    system = System(kafka.bootstrap, prefix, folder, one, bridge=bridge, worker={"session_ms": 2_000}).prepare()

    def starter(what: str, *more: str, **environment: str) -> Callable[[], Process]:
        return lambda: system.start(what, name=what.partition(" ")[0], wait=False, more=more, **environment)

    # The bridge subscribes before anything is published: what nobody subscribed to, a broker does not keep.
    supervisor = Supervisor({
        "bridge": starter("bridge run"),
        "ingest": starter("ingest", CORRELATOR_INGEST__PROCESS__INSTANCE="i1"),
        "worker": starter("worker", "--log-level", "debug", CORRELATOR_WORKER__INSTANCE="w1"),
    })  # fmt: skip
    try:
        supervisor.ready()
        yield
        supervisor.start()
        street = Street(system, mosquitto, list(raw_messages(one, wanted.around)), rate)
        street.start()
        while street.is_alive():
            time.sleep(dice.uniform(0.5, 3.0))
            if not street.is_alive() or (result.kills and kind not in ("bridge", "two at once")):
                break
            street.flow.wait()
            if street.flow.over:
                break
            what = dice.sample(sorted(DISTURBED), 2) if kind == "two at once" else [kind]
            result.kills.append(_disturb(what, brokers, supervisor, street, dice))
        street.finish()
        assert result.kills, "nothing was disturbed"
        yield
        # What Mosquitto still holds for a bridge that is just starting is not in Kafka yet.
        _until(lambda: len(system.told("threats")) >= len(wanted.threats), 240)
        system.wait_done()
        supervisor.on.clear()
        supervisor.join(5)
        assert supervisor.processes["worker"].stop() == 0
        _judge(system, wanted, result, system.counters()["duplicates"] - wanted.duplicates)
    finally:
        supervisor.on.clear()
        if supervisor.is_alive():
            supervisor.join(5)
        _over(system, result)


DISTURBED = ("bridge", "ingest", "worker", "Kafka", "Mosquitto")


def _disturb(
    what: list[str], brokers: tuple[KafkaBroker, MosquittoBroker], supervisor: Supervisor, street: Street,
    dice: random.Random,
) -> Kill:  # fmt: skip
    """Kills these processes (the supervisor starts them again), stops these brokers and starts them after a while."""
    kafka, mosquitto = brokers
    stopped = [broker for name, broker in (("Kafka", kafka), ("Mosquitto", mosquitto)) if name in what]
    # What devices had on the way would be published twice by them, which is not what is asked here.
    with street.gate if "Mosquitto" in what else nullcontext():
        if "Mosquitto" in what:
            street.mqtt.flush()
        kill, began = street.flow.kill(" and ".join(what)), time.monotonic()
        for broker in stopped:
            broker.stop()
        for name in set(what) & supervisor.processes.keys():
            supervisor.processes[name].kill()
        if stopped:
            time.sleep(dice.uniform(0.0, 2.0))
        for broker in stopped:
            broker.start()
        return replace(kill, away_s=round(time.monotonic() - began, 2) if stopped else 0.0)


def _sources_of(one: Scenario) -> Iterator[tuple[str, ...]]:
    for given in one.inputs:
        if given.carrier == "mqtt":
            yield from (source.topics for source in given.sources)


def _until(wanted: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not wanted() and time.monotonic() < until:
        time.sleep(0.2)


# ---- by the machine's own clock ------------------------------------------------------------------


def own_clock(bootstrap: str, prefix: str, folder: Path, kind: str, result: Result, rate: int = RATE) -> Steps:
    """As `stream`, without times that a sender gives: every alert must be an event told once, whatever its time."""
    settings: dict[str, Any] = {"worker": {"session_ms": 2_000}, "ingest": {"process": {"session_ms": 2_000}}}
    house = House(bootstrap, prefix, folder, **settings).prepare()
    count = 8 * rate
    try:
        flow = Flow(range(count))
        killer = _start(house, kind, random.Random(result.seed), result, flow)
        yield
        killer.start()
        began = time.monotonic()
        for number in flow:
            house.alert(number)
            if number % 20 == 0:
                house.flush()
                time.sleep(max(0.0, number / rate - (time.monotonic() - began)))
        house.flush()
        killer.end()
        yield
        _until(lambda: len({name for name, _ in house.told("events.enriched")}) >= count, 90)
        origins = Counter(json.loads(value)["event"]["origin"] for _, value in house.told("events.enriched"))
        sent = Counter(f"raw.suricata:{number}" for number in range(count))
        result.lost, result.doubled = sum((sent - origins).values()), sum((origins - sent).values())
        for topic in ("matches", "threats"):
            result.doubled += sum(times - 1 for times in Counter(name for name, _ in house.told(topic)).values())
        result.again = _folded_again(house)
    finally:
        _over(house, result)


# ---- many runs -----------------------------------------------------------------------------------

KINDS = ("worker at once", "worker take-over", "two workers", "ingest")
WHOLE = ("bridge", "Kafka", "Mosquitto", "two at once")
OWN = tuple(f"{kind}, own clock" for kind in KINDS)


def advance(steps: Steps, result: Result) -> None:
    """One step of a run; what fails in it is a problem of the run."""
    try:
        next(steps, None)
    except Exception as error:  # noqa: BLE001 - told as the run's result
        result.problems.append(f"{type(error).__name__}: {error}"[-1500:])


def run(bootstrap: str, prefix: str, folder: Path, kind: str, wanted: Expected, seed: int) -> Result:
    """One run of a kind of KINDS, from beginning to end, however fast the machine is."""
    result = Result(kind, seed)
    steps = stream(bootstrap, prefix, folder, wanted, result, least=0)
    for _ in range(3):
        advance(steps, result)
    return result


def runs(wanted: list[tuple[str, int]], folder: Path, keep: Path | None) -> Iterator[Result]:
    """Runs of these kinds and seeds; each one's processes start while the one before it is judged.

    keep: where to leave the logs of runs that were not exact.
    """
    if not wanted:
        return
    told = expected("vaccine-theft", AROUND)
    with (
        KafkaBroker(folder / "kafka") as kafka,
        MosquittoBroker(folder / "mosquitto") as mosquitto,
        ThreadPoolExecutor(1) as ahead,
    ):

        def begin(result: Result, home: Path) -> Steps:
            home.mkdir()
            prefix = f"c{result.seed}-{home.name}"
            if result.kind in WHOLE:
                return whole_way((kafka, mosquitto), prefix, home, told, result)
            if result.kind in OWN:
                return own_clock(kafka.bootstrap, prefix, home, result.kind.partition(",")[0], result)
            return stream(kafka.bootstrap, prefix, home, told, result)

        every = [(Result(kind, seed), folder / f"run-{number}") for number, (kind, seed) in enumerate(wanted)]
        steps = [begin(result, home) for result, home in every]
        starting = [ahead.submit(advance, steps[0], every[0][0])]
        for number, (result, home) in enumerate(every):
            starting[number].result()
            advance(steps[number], result)
            if number + 1 < len(every):
                starting.append(ahead.submit(advance, steps[number + 1], every[number + 1][0]))
            advance(steps[number], result)
            if keep is not None and not result.good():
                shutil.copytree(home, keep / f"{result.kind.replace(' ', '-')}-{result.seed}", dirs_exist_ok=True)
            shutil.rmtree(home)
            yield result


def read_results(file: Path | None) -> list[Result]:
    """The runs that a file of results has."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    said = [json.loads(line) for line in lines]
    return [Result(**{**one, "kills": [Kill(**kill) for kill in one["kills"]]}) for one in said]


def table(results: list[Result]) -> Iterator[str]:
    """Rows of docs/reliability.md. none again: runs in which nothing was delivered twice."""
    yield (
        "| disturbed | runs | kills or stops | inside | least messages/s | delivered again | none again | lost"
        " | doubled | wrong | unaccounted | other faults |"
    )
    yield "|---|" + "--:|" * 11
    for kind in dict.fromkeys(one.kind for one in results):
        mine = [one for one in results if one.kind == kind]
        kills = [kill for one in mine for kill in one.kills]
        numbers = [
            len(mine), len(kills), sum(bool(kill.inside) for kill in kills), min((kill.rate for kill in kills), default=0),
            sum(one.again for one in mine), sum(not one.again for one in mine),
            *(sum(getattr(one, name) for one in mine) for name in ("lost", "doubled", "wrong", "unaccounted")),
            sum(bool(one.problems) for one in mine),
        ]  # fmt: skip
        yield f"| {kind} | " + " | ".join(f"{number:,}" for number in numbers) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs of each kind; four at most by the machine's clock")
    parser.add_argument("--seed", type=int, default=1000, help="the first run's seed; each run adds one")
    parser.add_argument("--kind", choices=[*KINDS, *WHOLE, *OWN], action="append", help="only this; repeatable")
    parser.add_argument("--results", type=Path, help="a file that gets a line of each run and may have some already")
    given = parser.parse_args()
    results = read_results(given.results)
    have = {(one.kind, one.seed) for one in results}
    asked = [
        (kind, given.seed + number)
        for kind in given.kind or (*KINDS, *WHOLE, *OWN)
        for number in range(1 if kind in OWN and not given.kind else given.runs)
    ]
    out: TextIO = sys.stdout  # what runs ask of our own commands is not shown
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        keep = given.results.with_suffix("") if given.results is not None else None
        for one in runs([one for one in asked if one not in have], Path(name), keep):
            results.append(one)
            print(one, file=out, flush=True)
            if given.results is not None:
                with given.results.open("a") as file:
                    file.write(json.dumps(asdict(one)) + "\n")
    print("\n".join(table(results)))
    return 0 if all(one.good() for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
