"""Kills and full disks of the embedded carrier at random moments: `python -m tests.embedded.chaos` prints a table.

Each run plays the vaccine theft, with an ordinary day around it, over a real Mosquitto and real webhooks,
kills the process with SIGKILL again and again meanwhile (or fills its disk), and compares every revision of
every threat with an undisturbed replay, and every message with what became of it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from correlator.embedded import EmbeddedLog
from correlator.embedded.reading import LogOfFile
from correlator.lab.background import background
from correlator.lab.brokers import MosquittoBroker
from correlator.lab.simulate import MqttPath, Player, paths_of
from correlator.matching import Record
from correlator.run.scenario import Scenario
from tests.ingest.carried import scenario, told, warm_pipeline

from .feeding import threats_of
from .process import EmbeddedProcess, Tmpfs, WebhookPath, free_port, settings_of, wait

HOUR_MS = 3_600_000
DISK_MB = 400


@dataclass(slots=True)
class Result:
    """One run. again: requests and MQTT messages that came twice; rate: messages a second, its outages included."""

    kind: str
    seed: int
    times: int = 0
    rate: int = 0
    again: int = 0
    messages: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0

    def good(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


def expected(one: Scenario) -> list[bytes]:
    """Every revision of every threat that an undisturbed replay tells, background included."""
    pipeline = warm_pipeline(one)
    threats = []
    for batch in one.events(background(one)):
        if batch.received_ms <= one.until_ms:
            threats += pipeline.receive(Record(events=list(batch.events))).threats
    threats += pipeline.receive(Record(ticks={"": one.until_ms + one.lateness_ms + 1})).threats
    return [told(threat) for threat in threats]


def run(kind: str, folder: Path, mosquitto: MosquittoBroker, seed: int, times: int, wanted: list[bytes]) -> Result:
    """One run, disturbed so many times while the messages flow. kind: kill, or disk (folder is a small one)."""
    one = scenario("vaccine-theft")
    result = Result(kind, seed)
    port, dice, stop = free_port(), random.Random(seed), threading.Event()
    process = EmbeddedProcess(folder, settings_of(one, mosquitto, port))
    process.out, process.errors = folder.parent / "out.ndjson", folder.parent / "log.ndjson"
    disk = Tmpfs(folder, DISK_MB)
    hooks = WebhookPath(port, [], stop)
    path = MqttPath("127.0.0.1", mosquitto.port)
    player = Player(one, paths_of(one, path, hooks), tick_ms=HOUR_MS)
    playing = threading.Thread(target=player.play, args=(stop,))
    with process:
        started = time.monotonic()
        playing.start()
        while playing.is_alive() and result.times < times:
            time.sleep(dice.uniform(0.1, 1.5))
            if kind == "kill":
                process.kill()
                process.start()
            else:
                disk.fill()
                time.sleep(dice.uniform(1.5, 4.0))
                disk.free(DISK_MB)
            result.times += 1
        playing.join(900)
        result.rate = int(player.played.messages / (time.monotonic() - started))
        try:
            wait(lambda: len(_told(process.file)) >= len(wanted), 120)
        except AssertionError:
            result.lost = len(wanted) - len(_told(process.file))
        stop.set()
        process.stop()
    path.close()
    hooks.close()
    found = _told(process.file)
    result.lost = sum((Counter(wanted) - Counter(found)).values())
    result.doubled = sum((Counter(found) - Counter(set(found))).values())
    result.wrong = int(found != wanted)
    log = EmbeddedLog(process.file, write=False)
    result.messages = log.next_raw - 1
    log.close()
    reader = LogOfFile(process.file)
    origins = Counter(event.origin for _, record in reader.read() for event in record.events)
    reader.close()
    sent = {event.origin for batch in one.events(background(one)) for event in batch.events}
    result.lost += len(sent - set(origins))
    result.again = hooks.repeated + max(0, result.messages - player.played.messages)
    return result


def _told(file: Path) -> list[bytes]:
    log = EmbeddedLog(file, write=False)
    try:
        return threats_of(log)
    finally:
        log.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs of each kind")
    parser.add_argument("--times", type=int, default=4, help="kills or full disks in a run")
    parser.add_argument("--seed", type=int, default=1, help="the first run's seed; each run adds one")
    parser.add_argument("--kind", choices=["kill", "disk"], action="append", help="only this; may be repeated")
    given = parser.parse_args()
    wanted = expected(scenario("vaccine-theft"))
    results: list[Result] = []
    for kind in given.kind or ["kill", "disk"]:
        for seed in range(given.seed, given.seed + given.runs):
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                mosquitto = stack.enter_context(MosquittoBroker(folder / "mosquitto"))
                if kind == "disk":
                    stack.enter_context(Tmpfs(folder / "site", DISK_MB))
                results.append(run(kind, folder / "site", mosquitto, seed, given.times, wanted))
            print(results[-1], flush=True)
    print("\n".join(table(results)))
    return 0 if all(one.good() for one in results) else 1


def table(results: list[Result]) -> Iterator[str]:
    yield "| disturbed by | runs | times | least messages/s | messages | delivered again | lost | doubled | wrong |"
    yield "|---|" + "--:|" * 8
    for kind in dict.fromkeys(one.kind for one in results):
        mine = [one for one in results if one.kind == kind]
        sums = [sum(getattr(one, name) for one in mine) for name in ("messages", "again", "lost", "doubled", "wrong")]
        numbers = [len(mine), sum(one.times for one in mine), min(one.rate for one in mine), *sums]
        yield f"| {kind} | " + " | ".join(f"{number:,}" for number in numbers) + " |"


if __name__ == "__main__":
    sys.exit(main())
