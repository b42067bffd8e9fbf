"""A scenario of a few lines, written into a folder by the test that needs it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from correlator.clock import utc_text
from correlator.run.replay import replay

START_MS = 1_772_438_400_000  # 2026-03-02T08:00:00Z, a Monday

SITE = """\
site: {id: small, name: Small clinic, timezone: Europe/Rome}
floors:
  - id: ground
    name: Ground floor
    zones:
      - {id: z-hall, name: Hall}
      - {id: z-pharmacy, name: Pharmacy, restricted: true}
    doors:
      - {id: d-main, name: Main entrance, between: [outside, z-hall]}
      - {id: d-pharmacy, name: Pharmacy door, between: [z-hall, z-pharmacy], walk_ms: 5000}
people:
  - {id: p-017, badges: [{id: "770017"}], works_in: [z-pharmacy]}
"""
MAP = """\
map: mapped
time: time
kind:
  field: what
  table: {denied: badge.denied, granted: badge.granted, opened: door.opened, forced: door.forced, idle: ignore}
entities:
  - {role: where, kind: door, field: door}
  - {role: actor, kind: badge, field: badge}
attributes: [what, note]
"""
SCENARIO = """\
name: small
site: site.yaml
until: "2026-03-02T10:00:00Z"
rules: [rules]
inputs:
  - {name: doors, file: inputs/doors.ndjson, carrier: lines, dialect: mapped, map: maps/doors.yaml}
"""
RULES = """\
title: Refused badge
name: refused
logsource: {product: correlator}
detection: {s: {kind: badge.denied}, condition: s}
---
title: Door opened
name: opened
logsource: {product: correlator}
detection: {s: {kind: door.opened}, condition: s}
---
title: Badge let in
name: let_in
logsource: {product: correlator}
detection: {s: {kind: badge.granted}, condition: s}
---
title: Door forced
name: forced
level: critical
logsource: {product: correlator}
detection: {s: {kind: door.forced}, condition: s}
---
title: Badge refused three times
name: refused_often
level: medium
correlation:
  type: event_count
  rules: [refused]
  group-by: [badge]
  timespan: 1m
  condition: {gte: 3}
---
title: Refused, then opened
name: refused_then_opened
level: high
correlation:
  type: temporal_ordered
  rules: [refused, opened]
  group-by: [door]
  timespan: 1m
---
title: Opened without a badge
name: opened_unasked
level: high
correlation:
  type: temporal
  rules: [opened, let_in]
  group-by: [door]
  timespan: 10s
  condition: opened and not let_in
x-correlator: {absent: before}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the doors' log, `at` seconds after the start."""

    at: float
    what: str
    door: str = "d-main"
    badge: str = ""
    note: str = ""

    def __str__(self) -> str:
        said = {"time": utc_text(START_MS + int(self.at * 1000)), "what": self.what, "door": self.door}
        said |= {name: value for name, value in (("badge", self.badge), ("note", self.note)) if value}
        return json.dumps(said)


def write_scenario(
    folder: Path, lines: Iterable[Line | str], *, rules: str = RULES, expect: str = "", until: str = ""
) -> Path:
    """Writes the scenario and gives its folder; a line given as text stands in the log as it is."""
    for name in ("inputs", "maps", "rules"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    scenario = SCENARIO.replace("2026-03-02T10:00:00Z", until) if until else SCENARIO
    (folder / "scenario.yaml").write_text(scenario, encoding="utf-8")
    (folder / "site.yaml").write_text(SITE, encoding="utf-8")
    (folder / "maps/doors.yaml").write_text(MAP, encoding="utf-8")
    (folder / "rules/rules.yml").write_text(rules, encoding="utf-8")
    (folder / "inputs/doors.ndjson").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if expect:
        (folder / "expect.yaml").write_text(expect, encoding="utf-8")
    return folder


@dataclass(frozen=True, slots=True)
class Told:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def run_replay(folder: Path, out: Path | None = None, *, speed: float | None = None, as_json: bool = False) -> Told:
    """Replays a scenario in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = replay(folder, out=out, speed=speed, as_json=as_json, progress=False, stdout=stdout, stderr=stderr)
    return Told(code, stdout.getvalue(), stderr.getvalue())


def ndjson(path: Path) -> list[dict]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
