"""Bytes of a live group: `python -m benchmarks.memory GROUPS` prints them as JSON, for a process of its own.

GROUPS events of one type, each with a key of its own, meet one event_count rule with a long timespan,
so that each leaves a group with one entry. Counted is what the process grew by (resident memory): the
key, the event's id and the window of each group are in it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

from benchmarks.works import RECORD_EVENTS, SETTINGS, START_MS, Rule, event_of, loaded, sigma
from correlator.matching import Engine, Record


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def bytes_per_group(groups: int) -> tuple[float, int]:
    """(bytes a group, groups)."""
    rule = Rule(0, "event_count", ("A",), "key", 100_000, 3)
    engine = Engine("bench", loaded(sigma([rule])), settings=SETTINGS, filter_logsource=False)
    gc.collect()
    before = resident_bytes()
    for start in range(0, groups, RECORD_EVENTS):
        events = []
        for number in range(start, min(start + RECORD_EVENTS, groups)):
            ts = START_MS + number
            events.append(event_of({"id": number + 1, "ts": ts, "type": "A", "key": f"g{number:07d}"}, ts))
        engine.receive(Record(events=events))
    engine.finish(START_MS + groups)
    gc.collect()
    if engine.counters()["folded"] != groups or engine.counters()["groups_dropped"]:
        raise SystemExit("not every event left a group")
    return (resident_bytes() - before) / groups, groups


if __name__ == "__main__":
    per_group, made = bytes_per_group(int(sys.argv[1]))
    print(json.dumps({"bytes_per_group": per_group, "groups": made}))
