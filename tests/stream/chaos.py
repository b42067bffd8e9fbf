"""Kills at random moments, and what came of it: `python -m tests.stream.chaos` prints the table of docs/reliability.md.

A run sends a scenario with an ordinary day around it at `RATE` messages a second and kills a process with
SIGKILL again and again meanwhile, some of the time exactly inside a transaction or checkpoint. Then it
compares what is told with an undisturbed replay of the same messages, and every raw message must be
accounted for: an event in the log once, a reject, or a message that says nothing.
"""

from __future__ import annotations

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

from correlator.ingest.intake import Intake
from correlator.ingest.settings import IngestSettings
from correlator.lab.brokers import KafkaBroker
from correlator.run.log import decode
from correlator.run.scenario import Scenario
from tests.brokers.fixtures import read_all
from tests.ingest.carried import raw_messages, replayed, scenario, scenario_table
from tests.stream.system import Process, System

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
    return Expected(one, around, sorted(replayed(one, around)), events, rejects)


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


def _judge(system: System, wanted: Expected, result: Result) -> None:
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
    result.unaccounted = sum((wanted.events - in_log).values()) + sum((in_log - wanted.events).values())
    result.unaccounted += len(wanted.rejects.keys() ^ rejects)
    if result.kind == "ingest":
        result.again = again
        return
    for log in {process.log for process in system.processes}:
        for line in log.read_text().splitlines():
            if '"partition_open"' in line or '"went_on"' in line:
                result.again += int(json.loads(line)["records"])


KINDS = ("ingest", "worker at once", "worker take-over", "two workers")


def table(results: list[Result]) -> Iterator[str]:
    yield "| killed | runs | kills | inside a transaction | delivered again | lost | doubled | wrong | unaccounted |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for kind in dict.fromkeys(one.kind for one in results):
        mine = [one for one in results if one.kind == kind]
        sums = [sum(getattr(one, name) for one in mine) for name in
                ("kills", "inside", "again", "lost", "doubled", "wrong", "unaccounted")]  # fmt: skip
        yield f"| {kind} | {len(mine)} | " + " | ".join(f"{number:,}" for number in sums) + " |"


def main(arguments: list[str]) -> int:
    runs = int(arguments[0]) if arguments else 20
    kinds = arguments[1:] or list(KINDS)
    wanted = expected("vaccine-theft", AROUND)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka") as kafka:
        for kind in kinds:
            for number in range(runs):
                where = Path(folder) / f"{kind.replace(' ', '-')}-{number}"
                where.mkdir()
                one = run(kafka.bootstrap, f"c{len(results)}", where, kind, wanted, seed=1000 + len(results))
                results.append(one)
                print(f"{kind} {number + 1}/{runs}: {one.kills} kills, {one.inside} inside, {one.again} again,"
                      f" {'exact' if one.good() else one}", flush=True)  # fmt: skip
    print("\n".join(table(results)))
    return 0 if all(one.good() for one in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
