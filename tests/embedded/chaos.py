"""Kills and full disks of the embedded carrier at random moments: `python -m tests.embedded.chaos` prints a table.

Each run plays the vaccine theft, with an ordinary day around it, over a real Mosquitto and real webhooks,
kills the process with SIGKILL again and again meanwhile (or fills its disk), and compares every revision of
every threat with an undisturbed replay, and every message with what became of it.

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
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from correlator.embedded import EmbeddedLog
from correlator.embedded.reading import LogOfFile
from correlator.lab.brokers import MosquittoBroker
from correlator.lab.simulate import MqttPath, Player, paths_of
from tests.ingest.carried import ordinary, replayed, scenario

from .feeding import threats_of
from .process import EmbeddedProcess, Tmpfs, WebhookPath, free_port, settings_of, wait

HOUR_MS = 3_600_000
DISK_MB = 400
AROUND = 7_500  # every other message of the day
RATE = 500  # messages a second that flow whenever something is disturbed


@dataclass(slots=True)
class Result:
    """One run. moments: seconds after the first message; rates: messages a second in the half second before each;
    again: requests and MQTT messages that came twice."""

    kind: str
    seed: int
    moments: list[float] = field(default_factory=list)
    rates: list[int] = field(default_factory=list)
    again: int = 0
    messages: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0

    def good(self) -> bool:
        return bool(self.moments) and not (self.lost or self.doubled or self.wrong)


def run(kind: str, folder: Path, mosquitto: MosquittoBroker, seed: int, times: int, wanted: list[bytes]) -> Result:
    """One run, disturbed so many times while the messages flow. kind: kill, or disk (folder is a small one)."""
    one = scenario("vaccine-theft")
    result = Result(kind, seed)
    port, dice, stop = free_port(), random.Random(seed), threading.Event()
    process = EmbeddedProcess(folder, settings_of(one, mosquitto, port))
    process.out, process.errors = folder.parent / "out.ndjson", folder.parent / "log.ndjson"
    disk = Tmpfs(folder, DISK_MB)
    hooks = WebhookPath(port, stop)
    path = MqttPath("127.0.0.1", mosquitto.port)
    player = Player(one, paths_of(one, path, hooks), tick_ms=HOUR_MS)
    playing = threading.Thread(target=lambda: player.play(stop, ordinary=ordinary(one, AROUND)))
    with process:
        playing.start()
        wait(lambda: bool(player.played.messages), 60)
        started = time.monotonic()
        while len(result.moments) < times:
            rate = _flowing(playing, player, dice)
            if not rate:
                break
            result.moments.append(round(time.monotonic() - started, 2))
            result.rates.append(rate)
            if kind == "kill":
                process.kill()
                process.start()
            else:
                disk.fill()
                time.sleep(dice.uniform(1.5, 4.0))
                disk.free(DISK_MB)
        playing.join(300)
        until = time.monotonic() + 60
        while len(_told(process.file)) < len(wanted) and time.monotonic() < until:
            time.sleep(0.3)
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
    sent = {event.origin for batch in one.events(ordinary(one, AROUND)) for event in batch.events}
    result.lost += len(sent - set(origins))
    # Each promise is a message on every webhook and one over MQTT.
    promises = player.played.promises * (1 + sum(given.carrier != "mqtt" for given in one.inputs))
    result.again = hooks.repeated + max(0, result.messages - player.played.messages - promises)
    return result


def _flowing(playing: threading.Thread, player: Player, dice: random.Random) -> int:
    """Messages a second when a moment drawn has come and `RATE` flow again; 0 when all are sent before."""
    time.sleep(dice.uniform(0.0, 1.5))
    while playing.is_alive():
        began, before = time.monotonic(), player.played.messages
        time.sleep(0.5)
        rate = round((player.played.messages - before) / (time.monotonic() - began))
        if rate >= RATE and playing.is_alive():
            return rate
    return 0


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
    parser.add_argument("--results", type=Path, help="a file that gets a line of each run and may have some already")
    given = parser.parse_args()
    lines = given.results.read_text().splitlines() if given.results is not None and given.results.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    have = {(one.kind, one.seed) for one in results}
    wanted: list[bytes] = []
    for kind in given.kind or ["kill", "disk"]:
        for seed in range(given.seed, given.seed + given.runs):
            if (kind, seed) in have:
                continue
            wanted = wanted or replayed(scenario("vaccine-theft"), AROUND)
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                mosquitto = stack.enter_context(MosquittoBroker(folder / "mosquitto"))
                if kind == "disk":
                    stack.enter_context(Tmpfs(folder / "site", DISK_MB))
                one = run(kind, folder / "site", mosquitto, seed, given.times, wanted)
                if given.results is not None:
                    with given.results.open("a") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
                    if not one.good():
                        shutil.copytree(folder, given.results.with_suffix("") / f"{kind}-{seed}", dirs_exist_ok=True)
            results.append(one)
            print("exact" if one.good() else "NOT EXACT", one, flush=True)
    print("\n".join(table(results)))
    return 0 if all(one.good() for one in results) else 1


def table(results: list[Result]) -> Iterator[str]:
    """Rows of docs/reliability.md. none again: runs in which nothing was delivered twice."""
    yield (
        "| disturbed by | runs | times | least messages/s | messages | delivered again | none again | lost | doubled"
        " | wrong |"
    )
    yield "|---|" + "--:|" * 9
    for kind in dict.fromkeys(one.kind for one in results):
        mine = [one for one in results if one.kind == kind]
        numbers = [
            len(mine), sum(len(one.moments) for one in mine), min((rate for one in mine for rate in one.rates), default=0),
            sum(one.messages for one in mine), sum(one.again for one in mine), sum(not one.again for one in mine),
            *(sum(getattr(one, name) for one in mine) for name in ("lost", "doubled", "wrong")),
        ]  # fmt: skip
        yield f"| {kind} | " + " | ".join(f"{number:,}" for number in numbers) + " |"


if __name__ == "__main__":
    sys.exit(main())
