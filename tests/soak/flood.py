"""A flood of fresh keys against a slow attack: `python -m tests.soak.flood --keys 1000000`.

Ten simulated weeks. On the first day one address does the first step of an attack, on the last day the second;
in between every day brings so many addresses never seen before, each with the first step too. The engine of a
partition folds it as a worker does, with a checkpoint every simulated hour into a table that stands for the
compacted topic. The attack must be told, and memory and state must level off at the bound of groups.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec

from correlator.clock import DAY_MS, HOUR_MS
from correlator.events import Entity, Event
from correlator.matching import EngineSettings
from correlator.rules.load import rules_text
from correlator.run.bodies import Bundle, bundle
from correlator.run.deciding import Deciding
from correlator.run.log import LogRecord, encode
from correlator.run.partition import PartitionEngine

RULES = """\
title: First step
name: first
logsource: {product: correlator}
detection: {s: {kind: ids.alert}, condition: s}
---
title: Second step
name: second
logsource: {product: correlator}
detection: {s: {kind: usb.attached}, condition: s}
---
title: First step, and weeks later the second
name: slow
level: high
correlation: {type: temporal_ordered, rules: [first, second], group-by: [ip], timespan: 80d}
"""
T = 1_772_438_400_000
DAYS = 70
RECORD_EVENTS = 500


def made(folder: Path, groups: int) -> Bundle:
    """The bodies of a site with that one rule."""
    assert not rules_text(RULES).errors
    site, rules = folder / "site.yaml", folder / "rules.yml"
    site.write_text("site: {id: s, name: Soak, timezone: UTC}\n")
    rules.write_text(RULES)
    deciding = Deciding(EngineSettings(lateness_ms=1_000, max_groups=groups, enriched="off"))
    return bundle(site, [rules], None, deciding)


def event(number: int, kind: str, address: str, at_ms: int) -> Event:
    return Event(
        id=f"{number:032x}", site="s", source="ids", dialect="suricata", kind=kind, time_ms=at_ms, received_ms=at_ms,
        entities=(Entity("actor", "ip", address),),
    )  # fmt: skip


def rss_mb() -> int:
    """Memory of this process now."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


def run(folder: Path, keys: int, groups: int) -> int:
    """Prints a row a week; 0 when the attack was told and all levels off."""
    built = made(folder, groups)
    engine = PartitionEngine(0, built.bodies)
    engine.open({}, 0, 1)
    topic: dict[str, bytes] = {}
    offset = number = 0
    matches: list[dict[str, object]] = []
    weeks: list[tuple[int, int, int]] = []

    def fold(record: LogRecord) -> None:
        nonlocal offset
        for message in engine.fold(offset, encode(record)):
            if message.topic == "matches":
                matches.append(msgspec.json.decode(message.value))
        offset += 1

    fold(LogRecord("s", configuration=msgspec.structs.replace(built.configuration, serial=1)))
    began = time.monotonic()
    attacker = "198.51.100.7"
    fold(LogRecord("s", "raw.ids/0", 0, 0, (event(0, "ids.alert", attacker, T),), (0,)))
    print(
        "| week | events | groups dropped or refused | memory MB | state entries | state MB | events/s |\n|"
        + "--:|" * 7
    )
    for day in range(DAYS):
        start_ms = T + day * DAY_MS + HOUR_MS
        for hour in range(24):
            count = keys // 24 + (hour < keys % 24)
            for first in range(0, count, RECORD_EVENTS):
                many = min(RECORD_EVENTS, count - first)
                at_ms = start_ms + hour * HOUR_MS + first * HOUR_MS // max(count, 1)
                batch = tuple(event(number + n + 1, "ids.alert", f"k{number + n}", at_ms + n) for n in range(many))
                span = tuple(range(number + 1, number + many + 1))
                fold(LogRecord("s", "raw.ids/0", span[0], span[-1], batch, span))
                number += many
            for key, value in engine.checkpoint():
                if value is None:
                    topic.pop(key, None)
                else:
                    topic[key] = value
        if day % 7 == 6:
            size = sum(map(len, topic.values()))
            weeks.append((rss_mb(), len(topic), size))
            counters = engine.sites["s"].counters()
            gone = counters["groups_dropped"] + counters["groups_refused"]
            rate = number / (time.monotonic() - began)
            row = (day // 7 + 1, number, gone, weeks[-1][0], len(topic), size // 1_000_000, int(rate))
            print("| " + " | ".join(f"{value:,}" for value in row) + " |", flush=True)
    end_ms = T + DAYS * DAY_MS + 2 * HOUR_MS
    fold(LogRecord("s", "raw.ids/0", number + 1, number + 1, (event(number + 1, "usb.attached", attacker, end_ms),),
                   (number + 1,)))  # fmt: skip
    fold(LogRecord("s", ticks={"s": {"raw.ids/0": end_ms + HOUR_MS}}))
    told = [one for one in matches if one["group"] == {"ip": attacker}]
    level = all(weeks[9][n] <= weeks[4][n] * 1.1 + 20 for n in range(3))
    print(f"\nthe attack of week 1 and 10 was {'told' if told else 'NOT told'}; "
          f"memory and state {'level off' if level else 'GROW'} from week 5 to 10")  # fmt: skip
    return 0 if told and level else 1


def main() -> int:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="fresh keys a day")
    parser.add_argument("--groups", type=int, default=0, help="engine.max_groups; by default as many as keys a day")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), given.keys, given.groups or given.keys)


if __name__ == "__main__":
    sys.exit(main())
