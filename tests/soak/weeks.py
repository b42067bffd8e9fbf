"""Ten simulated weeks of an embedded site: `python -m tests.soak.weeks`.

So many messages a day come from a door and a network sensor, with the clock that the process reads going along. What is kept is kept for weeks, not for ever, so from the fifth week on memory, state and file must stay
where they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from pathlib import Path

import msgspec

from correlator.clock import DAY_MS
from correlator.embedded import Core, EmbeddedLog, EmbeddedSettings, Submission
from correlator.ingest.intake import Intake
from correlator.ingest.raw import RawMessage
from correlator.ingest.settings import IngestSettings
from correlator.run.scenario import load_scenario
from tests.ingest.carried import scenario_bundle, scenario_table
from tests.soak.flood import rss_mb
from tests.stream.house import HOUSE, alert_said, door_said

T = 1_772_438_400_000
WEEKS = 10
INPUTS = ("raw.mqtt", "raw.suricata")


def day(number: int, messages: int) -> list[RawMessage]:
    """A day's messages in order: a door opens and closes, the sensor alerts, in turn; each hundredth time the door
    is left open, which is a threat."""
    found = []
    for n in range(0, messages, 3):
        at_ms = T + number * DAY_MS + n * DAY_MS // messages
        closed_ms = at_ms + (5_000 if n % 300 == 0 else 1_000)
        for open_, then_ms in ((True, at_ms), (False, closed_ms)):
            said = door_said(open=open_, at_ms=then_ms)
            message = msgspec.structs.replace(said, channel="zigbee2mqtt/c-main", received_ms=then_ms + 30)
            found.append(RawMessage("raw.mqtt", 0, "house", message))
        alert = alert_said(number * messages + n, at_ms=closed_ms)
        message = msgspec.structs.replace(alert, received_ms=closed_ms + 40)
        found.append(RawMessage("raw.suricata", 0, "house", message))
    return found


def run(file: Path, messages: int, keep_days: float) -> int:
    """Prints a row a week; 0 when all levels off."""
    one = load_scenario(HOUSE)
    log = EmbeddedLog(file, write=True)
    settings = EmbeddedSettings(
        file=file, keep_raw_days=keep_days, keep_events_days=keep_days, keep_told_days=keep_days,
        keep_movement_days=keep_days, keep_rejects_days=keep_days, keep_evidence_days=keep_days, retention_s=0.001,
        checkpoint_ms=0,  # a week may be over before the next checkpoint, and its state would be that of an earlier one
    )  # fmt: skip
    now = [T]
    told = [0]

    def count(outputs: object) -> None:
        told[0] += len(outputs)  # type: ignore[arg-type]

    ingest = IngestSettings(trust_sender_time=True)
    core = Core(log, settings, Intake(scenario_table(one), ingest), scenario_bundle(one), INPUTS, count,
                clock=lambda: now[0])  # fmt: skip
    thread = threading.Thread(target=core.run)
    thread.start()
    weeks: list[tuple[int, int, int, int]] = []
    sent = 0
    print("| week | messages | told | memory MB | state entries | state KB | file MB |\n|" + "--:|" * 7)
    for number in range(WEEKS * 7):
        listed = day(number, messages)
        sent += len(listed)
        for first in range(0, len(listed), 500):
            now[0] = listed[first].message.received_ms
            _feed(core, listed[first : first + 500])
        now[0] = T + (number + 1) * DAY_MS
        _feed(core, [RawMessage(name, 0, "house", listed[0].message, now[0]) for name in INPUTS])
        if number % 7 == 6:
            for _ in range(20):
                _feed(core, [])
            entries, size = log.state_size()
            weeks.append((rss_mb(), entries, size, log.bytes_used()))
            row = (number // 7 + 1, sent, told[0], weeks[-1][0], entries, size // 1000,
                   weeks[-1][3] // 1_000_000)  # fmt: skip
            print("| " + " | ".join(f"{value:,}" for value in row) + " |", flush=True)
    core.stop()
    thread.join(30)
    log.close()
    level = all(weeks[9][n] <= weeks[4][n] * 1.1 + 20 for n in range(4))
    print(f"\nmemory, state and file {'level off' if level else 'GROW'} from week 5 to 10")
    return 0 if level else 1


def _feed(core: Core, messages: list[RawMessage]) -> None:
    done = threading.Event()
    core.submit(Submission(messages=messages, done=done.set))
    assert done.wait(60), core.congestion()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2_000, help="a day")
    parser.add_argument("--keep", type=float, default=14, help="days for which everything is kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder) / "log.sqlite3", given.messages, given.keep)


if __name__ == "__main__":
    sys.exit(main())
