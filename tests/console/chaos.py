"""Kills the console at random points while somebody works: `python -m tests.console.chaos [--runs 20]`.

Every press is repeated with its id until it is answered, as a person would. At the end each answered press stands
in the journal exactly once, and the view that was killed equals one built anew.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from tests.console.client import Browser
from tests.console.conftest import House
from tests.notifier.cases import THREATS

THREAT = THREATS["combined"]
PAGE = f"/threats/{THREAT.id}"


def main(kills: int, seed: int) -> None:
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        house.tell(THREAT)
        port = house.start("a")
        person = Browser(port)
        person.login("p-operator")
        answered: list[str] = []
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                text = f"note {number}"
                while True:
                    try:
                        if person.post(f"{PAGE}/note", PAGE, id=f"n{number}", text=text).status == 303:
                            answered.append(text)
                            break
                    except OSError:
                        time.sleep(0.02)

        worker = threading.Thread(target=work)
        worker.start()
        began = time.monotonic()
        for _ in range(kills):
            time.sleep(dice.uniform(0.0, 0.6))
            house.kill("a")
            house.start("a", port)
        stop.set()
        worker.join()
        house.kill("a")
        written = [act for _, act in SqliteJournal(house.folder / "journal.db").read(-1)]
        fresh = View(":memory:")
        with fresh.batch():
            fresh.add_threat(THREAT)
            for position, act in SqliteJournal(house.folder / "journal.db").read(-1):
                fresh.add_act(act, position)
        notes = Counter(note.text for note in fresh.fold(THREAT.site).handling(THREAT.id).notes)
        twice = len(written) - len({act.id for act in written})
        assert all(notes[text] == 1 for text in answered[-500:]), "an answered press is missing or counts twice"
        assert View(house.folder / "viewa.db").digest() == fresh.digest(), "the killed view differs from a fresh one"
        print(f"{kills} kills in {time.monotonic() - began:.0f} s: {len(answered)} presses answered, none lost, "
              f"{twice} written twice with the same id and counted once; seed {seed}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    main(arguments.runs, arguments.seed)
