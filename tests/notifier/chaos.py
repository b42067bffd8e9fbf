"""The notifier killed at random points: `python -m tests.notifier.chaos --runs 20` prints a table (about 10 s a run).

Each run sends 60 messages to a webhook that refuses a fifth of the first ones, kills the process twice, and lets a
third one finish. Exit code 1 when a message was lost, or came twice under another key.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.notifier.cases import THREATS
from tests.notifier.peers import webhook

MESSAGES, KILLS = 60, 2
ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    """killed_after: messages that had arrived at each kill; lost, strange: keys missing, keys nobody asked for;
    doubled: messages that came more than once, all under their key; rows: what the outbox says in the end."""

    killed_after: list[int]
    lost: int
    strange: int
    doubled: int
    rows: dict[str, int]


def killed(folder: Path, seed: int) -> Result:
    """One run in an empty folder."""
    dice = random.Random(seed)
    threats = [msgspec.structs.replace(THREATS["combined"], id=f"{n:032x}") for n in range(MESSAGES)]
    (folder / "threats.ndjson").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in threats))
    points = []
    with webhook() as peer:
        peer.answers = [503 if dice.random() < 0.2 else 200 for _ in range(40)]
        command = [sys.executable, "-m", "tests.notifier.process", str(folder), str(peer.port)]
        for kill in (*[True] * KILLS, False):
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
            if kill:
                wanted = len(peer.got) + dice.randint(0, 20)
                delay_s = dice.random() * 0.02
                end = time.monotonic() + 60
                while len(peer.got) < wanted and process.poll() is None and time.monotonic() < end:
                    time.sleep(0.001)
                time.sleep(delay_s)
                points.append(len(peer.got))
                process.send_signal(signal.SIGKILL)
            process.communicate(timeout=120)
        keys = [headers["Idempotency-Key"] for _, headers, _ in peer.got]
    asked = {f"{one.id}.first.desk.0" for one in threats}
    rows = json.loads((folder / "rows.json").read_text())
    return Result(points, len(asked - set(keys)), len(set(keys) - asked), len(keys) - len(set(keys)), rows)


def main() -> int:
    """Prints the table; 1 if a run was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    bad = 0
    print("| run | killed after messages | lost | other keys | twice, same key |\n|--:|---|--:|--:|--:|")
    for seed in range(parser.parse_args().runs):
        with tempfile.TemporaryDirectory() as folder:
            told = killed(Path(folder), seed)
        bad += bool(told.lost or told.strange or told.rows != {"sent": MESSAGES})
        points = ", ".join(map(str, told.killed_after))
        print(f"| {seed} | {points} | {told.lost} | {told.strange} | {told.doubled} |", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
