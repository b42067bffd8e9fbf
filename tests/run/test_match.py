"""`correlator match`: rules over files of JSON lines, with nothing set up."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from correlator.errors import FaultyFile, UsageError
from correlator.run.match import match
from tests.run.small import SITE, Told

T = 1_772_438_400  # 2026-03-02T08:00:00Z, s
FAILED = """\
title: Failed login
name: failed
logsource: {product: windows, service: security}
detection: {s: {EventID: 4625}, condition: s}
"""
BURST = f"""\
{FAILED}---
title: Burst of failed logins
id: 3d2e1f40-5a6b-4c7d-8e9f-0a1b2c3d4e5f
name: burst
correlation:
  type: event_count
  rules: [failed]
  group-by: [user]
  timespan: 10s
  condition: {{gte: 2}}
"""
SILENT = f"""\
{FAILED}---
title: Cleared
name: cleared
detection: {{s: {{EventID: 1102}}, condition: s}}
logsource: {{product: windows}}
---
title: Failed and never cleared
name: never_cleared
correlation:
  type: temporal
  rules: [failed, cleared]
  timespan: 1h
  condition: failed and not cleared
x-correlator: {{absent: after}}
"""


def failed(at: float, user: str = "u1") -> dict[str, Any]:
    return {"time": T + at, "EventID": 4625, "user": user}


def write(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


class Bench:
    """Runs `match` in this process over files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rules(self, text: str) -> Path:
        path = self.folder / "rules.yml"
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, rules: str, *files: Iterable[dict[str, Any] | str] | Path, **options: Any) -> Told:
        """files: lines, written to 0.ndjson, 1.ndjson ..., or paths."""
        paths = [
            one if isinstance(one, Path) else write(self.folder / f"{number}.ndjson", one)
            for number, one in enumerate(files)
        ]
        given = {
            "site": None,
            "map_file": None,
            "lateness_ms": 10_000,
            "tells": "final",
            "strict": False,
            "sort": False,
        }
        stdout, stderr = io.StringIO(), io.StringIO()
        code = match(rules=[self.rules(rules)], files=paths, stdout=stdout, stderr=stderr, **(given | options))
        return Told(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def matches(told: Told) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.out.splitlines()]


def lines_of(found: dict[str, Any]) -> list[tuple[str, int]]:
    return [(Path(event["file"]).name, event["line"]) for event in found["events"]]


# ---- what is printed -----------------------------------------------------------------------------------


def test_a_match_is_one_line_of_exactly_this_shape(bench):
    told = bench.run(BURST, [failed(0), {"time": T + 1, "EventID": 1}, failed(3)])
    (found,) = matches(told)
    ids = [event.pop("id") for event in found["events"]]
    assert all(isinstance(one, str) for one in ids)
    assert len(set(ids)) == 2
    file = str(bench.folder / "0.ndjson")
    assert found == {
        "rule": {"id": "3d2e1f40-5a6b-4c7d-8e9f-0a1b2c3d4e5f", "title": "Burst of failed logins", "name": "burst"},
        "group": {"user": "u1"},
        "first_ms": T * 1000,
        "last_ms": (T + 3) * 1000,
        "value": 2,
        "events": [{"file": file, "line": 1}, {"file": file, "line": 3}],
    }
    assert list(found) == ["rule", "group", "first_ms", "last_ms", "value", "events"]


def test_a_detection_that_no_correlation_uses_prints_with_null_value(bench):
    (found,) = matches(bench.run(FAILED, [failed(0)]))
    assert (found["rule"], found["group"], found["value"]) == (
        {"id": None, "title": "Failed login", "name": "failed"},
        {},
        None,
    )


def test_a_detection_that_a_correlation_uses_does_not_print(bench):
    assert [one["rule"]["name"] for one in matches(bench.run(BURST, [failed(0), failed(1)]))] == ["burst"]


def test_every_key_is_a_field_and_log_sources_restrict_nothing(bench):
    rules = FAILED.replace("EventID: 4625", "'a.b|startswith': x")
    found = matches(bench.run(rules, [{"ts": T, "a": {"b": "xy"}}, {"ts": T, "a.b": "xz"}, {"ts": T, "b": "x"}]))
    assert [lines_of(one) for one in found] == [[("0.ndjson", 1)], [("0.ndjson", 2)]]


def test_a_growing_episode_prints_once_in_its_final_form(bench):
    told = bench.run(BURST, [failed(at) for at in range(5)])
    (found,) = matches(told)
    assert found["value"] == 5
    assert len(found["events"]) == 5


def test_follow_prints_the_revisions_as_they_are_decided(bench):
    found = matches(bench.run(BURST, [failed(at) for at in range(5)], tells="growing"))
    assert [(one["state"], one["revision"]) for one in found] == [("open", 1), ("final", 2)]
    assert len({one["match"] for one in found}) == 1
    assert len(found[0]["events"]) == 2


def test_first_prints_each_match_as_it_opens_and_no_more(bench):
    lines = [failed(at) for at in (0, 1, 2, 3, 600, 601, 602)]
    opened = [one for one in matches(bench.run(BURST, lines, tells="growing")) if one["state"] == "open"]
    found = matches(bench.run(BURST, lines, tells="first"))
    assert [len(one["events"]) for one in found] == [2, 2]
    assert list(found[0]) == ["rule", "group", "first_ms", "last_ms", "value", "events"]
    assert found == [{key: one[key] for key in found[0]} for one in opened]


def test_end_of_input_closes_every_window_and_absence(bench):
    found = matches(bench.run(SILENT, [failed(0)]))
    assert [one["rule"]["name"] for one in found] == ["never_cleared"]


def test_nothing_but_matches_goes_to_standard_output(bench):
    told = bench.run(BURST, ["not json", failed(0)])
    assert told.out == ""
    assert "2 lines, 1 unreadable, 0 later than the lateness" in told.err


# ---- time ----------------------------------------------------------------------------------------------

MS = 1_772_438_400_250


@pytest.mark.parametrize("key", ["@timestamp", "timestamp", "time", "ts"])
def test_each_time_key_is_read(bench, key):
    (found,) = matches(bench.run(FAILED, [{key: "2026-03-02T08:00:00.250Z", "EventID": 4625}]))
    assert found["first_ms"] == MS


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        ("2026-03-02T08:00:00.250Z", MS),
        ("2026-03-02T09:00:00.250+01:00", MS),
        (1_772_438_400.25, MS),
        (1_772_438_400, MS - 250),
        (MS, MS),
        (MS * 1_000, MS),
        (MS * 1_000_000, MS),
        (str(MS), MS),
        ("1772438400.25", MS),
    ],
)
def test_epochs_are_told_apart_by_magnitude(bench, time, ms):
    (found,) = matches(bench.run(FAILED, [{"time": time, "EventID": 4625}]))
    assert found["first_ms"] == ms


def test_the_first_time_key_that_is_filled_counts(bench):
    (found,) = matches(bench.run(FAILED, [{"ts": 1, "@timestamp": None, "timestamp": T, "EventID": 4625}]))
    assert found["first_ms"] == T * 1000


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not_json"),
        ("[1]", "wrong_type"),
        ({"EventID": 4625}, "missing_field: no time"),
        ({"time": True, "EventID": 4625}, "wrong_type"),
        ({"time": "yesterday", "EventID": 4625}, "impossible_time"),
        ({"time": "2026-03-02T08:00:00", "EventID": 4625}, "impossible_time"),
        ({"time": -5, "EventID": 4625}, "impossible_time"),
        ({"time": 9e300, "EventID": 4625}, "impossible_time"),
    ],
)
def test_a_line_that_cannot_be_read_is_counted_and_named_and_the_rest_goes_on(bench, line, why):
    told = bench.run(FAILED, [failed(0), line, failed(1)], strict=True)
    assert len(matches(told)) == 2
    assert "0.ndjson:2: skipped, " + why in told.err
    assert "3 lines, 1 unreadable" in told.err
    assert told.code == 1


def test_many_unreadable_lines_are_counted_and_only_the_first_named(bench):
    told = bench.run(FAILED, ["x"] * 8)
    assert told.err.count("skipped, not_json") == 5
    assert "and 3 more lines skipped" in told.err
    assert told.code == 0


# ---- order and lateness --------------------------------------------------------------------------------


def test_files_are_merged_by_time(bench):
    told = bench.run(BURST, [failed(0), failed(100)], [failed(1), failed(101)])
    assert [lines_of(one) for one in matches(told)] == [
        [("0.ndjson", 1), ("1.ndjson", 1)],
        [("0.ndjson", 2), ("1.ndjson", 2)],
    ]
    assert "0 later than the lateness" in told.err


OUT_OF_ORDER = [failed(0), failed(100, "u2"), failed(5)]


def test_a_line_within_the_lateness_counts_in_its_place(bench):
    told = bench.run(BURST, OUT_OF_ORDER, lateness_ms=100_000, strict=True)
    assert [lines_of(one) for one in matches(told)] == [[("0.ndjson", 1), ("0.ndjson", 3)]]
    assert told.code == 0


@pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 1)])
def test_a_line_later_than_the_lateness_is_counted_and_strict_fails(bench, strict, code):
    told = bench.run(BURST, OUT_OF_ORDER, strict=strict)
    assert matches(told) == []
    assert "1 later than the lateness" in told.err
    assert told.code == code


def test_a_late_line_still_hits_a_detection_and_is_marked(bench):
    found = matches(bench.run(FAILED, OUT_OF_ORDER))
    assert sorted((lines_of(one)[0][1], one.get("late", False)) for one in found) == [(1, False), (2, False), (3, True)]


def test_sort_brings_every_line_to_its_place(bench):
    told = bench.run(BURST, OUT_OF_ORDER, sort=True, strict=True)
    assert [lines_of(one) for one in matches(told)] == [[("0.ndjson", 1), ("0.ndjson", 3)]]
    assert "0 later than the lateness" in told.err
    assert told.code == 0


def test_equal_lines_are_events_of_their_own(bench):
    (found,) = matches(bench.run(BURST, [failed(0), failed(0)]))
    assert found["value"] == 2


# ---- map and site --------------------------------------------------------------------------------------

MAP = """\
map: mapped
time: when
kind: {field: what, table: {in: badge.granted}}
entities:
  - {role: where, kind: door, field: door}
  - {role: actor, kind: badge, field: card}
"""
PLACED = """\
title: Somebody enters a restricted room
name: restricted
logsource: {product: correlator, category: badge}
detection: {s: {kind: badge.granted}, condition: s}
x-correlator: {where: [{restricted: door}]}
"""


def test_a_map_makes_events_and_a_site_answers_where_they_are(bench, tmp_path):
    (tmp_path / "map.yaml").write_text(MAP, encoding="utf-8")
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    lines = [
        {"when": "2026-03-02T08:00:00Z", "what": "in", "door": door, "card": "1"} for door in ("d-main", "d-pharmacy")
    ]
    told = bench.run(PLACED, lines, map_file=tmp_path / "map.yaml", site=tmp_path / "site.yaml")
    assert [lines_of(one) for one in matches(told)] == [[("0.ndjson", 2)]]


def test_a_csv_map_without_columns_takes_them_from_the_first_line_of_each_file(bench, tmp_path):
    (tmp_path / "map.yaml").write_text(MAP.replace("time: when", "format: csv\ntime: when"), encoding="utf-8")
    rules = PLACED.replace("x-correlator: {where: [{restricted: door}]}\n", "")
    one = ["when,what,door,card", "2026-03-02T08:00:00Z,in,d-main,1"]
    other = ["card,door,what,when", "2,d-main,in,2026-03-02T08:00:01Z"]
    told = bench.run(rules, one, other, map_file=tmp_path / "map.yaml", strict=True)
    assert [lines_of(one) for one in matches(told)] == [[("0.ndjson", 2)], [("1.ndjson", 2)]]
    assert told.code == 0


def test_with_a_map_log_sources_filter(bench, tmp_path):
    (tmp_path / "map.yaml").write_text(MAP, encoding="utf-8")
    rules = PLACED.replace("x-correlator: {where: [{restricted: door}]}\n", "").replace(
        "category: badge", "category: door"
    )
    line = {"when": "2026-03-02T08:00:00Z", "what": "in", "door": "d-main", "card": "1"}
    assert matches(bench.run(rules, [line], map_file=tmp_path / "map.yaml")) == []


# ---- the command ---------------------------------------------------------------------------------------


def command(*arguments: object, given: str = "") -> Told:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "correlator", "match", *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    return Told(done.returncode, done.stdout, done.stderr)


def test_a_dash_is_standard_input(bench):
    told = command("--rules", bench.rules(FAILED), "-", given=json.dumps(failed(0)) + "\n")
    assert [lines_of(one) for one in matches(told)] == [[("-", 1)]]
    assert told.code == 0


def test_a_rule_file_that_is_not_there_is_exit_code_2(bench, tmp_path):
    told = command("--rules", tmp_path / "none.yml", write(tmp_path / "a.ndjson", [failed(0)]))
    assert told.code == 2
    assert "none.yml" in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_a_faulty_rule_is_refused_with_its_place(bench):
    with pytest.raises(FaultyFile, match=r"rules\.yml:\d+:\d+: "):
        bench.run(BURST.replace("event_count", "event_cuont"), [failed(0)])


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_file_that_cannot_be_read_is_refused(bench, tmp_path, what):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=what):
        bench.run(FAILED, tmp_path / what)
