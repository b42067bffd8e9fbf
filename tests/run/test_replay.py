"""`correlator replay`: exit codes, what --out receives, --json, rejects, pace, and an interrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from correlator.clock import utc_text
from correlator.errors import FaultyFile, UsageError
from correlator.events.event import SCHEMA_VERSION
from tests.run.small import RULES, START_MS, Line, ndjson, run_replay, write_scenario

ROOT = Path(__file__).resolve().parents[2]
FORCED = """\
threats:
  - name: door forced
    severity: {at_least: critical}
    members: [{at: "inputs/doors.ndjson:2", needed: true}]
"""
LINES = [Line(0, "granted", badge="770017"), Line(20, "forced"), Line(40, "granted", "d-pharmacy", "770018")]


# ---- exit codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expect", "code", "says"),
    [
        (LINES[:2], FORCED, 0, "all expectations hold"),
        (LINES[:1], FORCED, 1, "not as expected: expected threat 'door forced' was not found"),
        (LINES[:1], "silence: true\n", 0, "all expectations hold"),
        (LINES[:2], "silence: true\n", 1, "not as expected: unexpected threat"),
        (LINES[:2], "", 0, "no expect.yaml: nothing to compare with"),
    ],
)
def test_the_exit_code_says_whether_expectations_hold(tmp_path, lines, expect, code, says):
    told = run_replay(write_scenario(tmp_path, lines, expect=expect))
    assert told.code == code
    assert says in told.err


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "correlator", "replay", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_unusable_input_is_exit_code_2(tmp_path):
    (write_scenario(tmp_path, LINES) / "site.yaml").write_text("site: {id: small, nmae: x}\n", encoding="utf-8")
    done = command(tmp_path)
    assert done.returncode == 2
    assert "site.yaml:1:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scenario_that_is_not_there(tmp_path):
    with pytest.raises(UsageError):
        run_replay(tmp_path / "none")


def test_a_faulty_rule_is_refused_with_its_place(tmp_path):
    folder = write_scenario(tmp_path, LINES, rules=RULES.replace("type: temporal\n", "type: temporol\n"))
    with pytest.raises(FaultyFile, match=r"rules\.yml:\d+:\d+: "):
        run_replay(folder)


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file"):
        run_replay(write_scenario(tmp_path / "scenario", LINES), tmp_path / "out")


# ---- what is told --------------------------------------------------------------------------------------


def test_the_account_tells_place_time_and_proof_and_no_badge_number(tmp_path):
    told = run_replay(write_scenario(tmp_path, LINES))
    assert told.out.startswith("small: 1 threat\n")
    for part in ("CRITICAL  Door forced", "Monday 02 March 2026, 09:00:20", "<inputs/doors.ndjson:2>"):
        assert part in told.out
    assert "77001" not in told.out


def test_json_prints_one_line_a_threat_and_nothing_else(tmp_path):
    told = run_replay(write_scenario(tmp_path, [*LINES, Line(2000, "forced", "d-pharmacy")]), as_json=True)
    threats = [json.loads(line) for line in told.out.splitlines()]
    assert [threat["first_ms"] for threat in threats] == [START_MS + 20_000, START_MS + 2_000_000]
    assert {threat["schema_version"] for threat in threats} == {SCHEMA_VERSION}


def test_two_runs_write_the_same_bytes(tmp_path):
    folder = write_scenario(tmp_path / "scenario", [*LINES, "not json"])
    written = []
    for name in ("a", "b"):
        run_replay(folder, tmp_path / name)
        written.append({path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())})
    assert written[0] == written[1]


# ---- --out ---------------------------------------------------------------------------------------------


def test_out_holds_every_file_that_is_promised(tmp_path):
    out = tmp_path / "deep/out"
    run_replay(write_scenario(tmp_path / "scenario", [*LINES, "not json"]), out)
    assert {path.name for path in out.iterdir()} == {
        "threats.ndjson", "matches.ndjson", "events.ndjson", "decoded.ndjson", "rejects.ndjson", "unknown.json",
        "replay.json",
    }  # fmt: skip
    assert [event["origin"] for event in ndjson(out / "decoded.ndjson")] == [
        f"inputs/doors.ndjson:{line}" for line in (1, 2, 3)
    ]
    # A critical detection leaves on arrival and once more, with the same id, in its turn.
    early, in_turn = ndjson(out / "matches.ndjson")
    assert early == in_turn | {"early": True}
    assert in_turn["title"] == "Door forced"
    about = json.loads((out / "replay.json").read_text(encoding="utf-8"))
    assert about["scenario"] == str((tmp_path / "scenario").resolve())
    assert about["zone"] == "Europe/Rome"
    assert about["counts"] == {"messages": 4, "events": 3, "silent": 0, "rejects": 1}


@pytest.mark.parametrize("name", ["threats", "matches", "events", "rejects"])
def test_each_line_that_leaves_bears_its_schema_version(tmp_path, name):
    run_replay(write_scenario(tmp_path / "scenario", [*LINES, "not json"]), tmp_path / "out")
    lines = ndjson(tmp_path / "out" / f"{name}.ndjson")
    assert lines
    assert {line["schema_version"] for line in lines} == {SCHEMA_VERSION}


def test_entities_that_the_site_does_not_know_are_listed(tmp_path):
    run_replay(
        write_scenario(tmp_path / "scenario", [Line(0, "opened", "d-cellar"), Line(1, "opened")]), tmp_path / "out"
    )
    unknown = json.loads((tmp_path / "out/unknown.json").read_text(encoding="utf-8"))
    assert [(one["kind"], one["id"], one["count"]) for one in unknown] == [("door", "d-cellar", 1)]


def test_an_earlier_replay_in_the_same_folder_is_overwritten(tmp_path):
    out = tmp_path / "out"
    run_replay(write_scenario(tmp_path / "a", [*LINES, "not json"]), out)
    run_replay(write_scenario(tmp_path / "b", LINES[:1]), out)
    assert ndjson(out / "threats.ndjson") == []
    assert ndjson(out / "rejects.ndjson") == []


# ---- rejects -------------------------------------------------------------------------------------------


def test_what_cannot_be_taken_is_counted_kept_with_its_bytes_and_the_rest_goes_on(tmp_path):
    broken = ["not json", '{"what": "opened"}', '{"time": "2026-03-02T08:00:30Z", "what": "unheard of"}']
    out = tmp_path / "out"
    told = run_replay(write_scenario(tmp_path / "scenario", [LINES[0], *broken, LINES[1]]), out)
    rejects = ndjson(out / "rejects.ndjson")
    assert [one["origin"] for one in rejects] == [f"inputs/doors.ndjson:{line}" for line in (2, 3, 4)]
    assert rejects[0]["reason"] == "not_json"
    assert all(one["detail"] and one["payload"] for one in rejects)
    assert "3 rejected" in told.err
    assert f"rejects are in {out / 'rejects.ndjson'}" in told.err
    assert "1 threat" in told.out


def test_a_message_that_says_nothing_modelled_is_counted_as_silent(tmp_path):
    assert "1 messages that say nothing modelled" in run_replay(write_scenario(tmp_path, [Line(0, "idle")])).err


# ---- time ----------------------------------------------------------------------------------------------


def test_time_goes_on_to_until_and_no_further(tmp_path):
    lines = [Line(0, "denied"), Line(10, "opened"), Line(600, "opened")]
    out = tmp_path / "out"
    run_replay(write_scenario(tmp_path / "scenario", lines, until=utc_text(START_MS + 30_000)), out)
    told = [one["event"]["origin"] for one in ndjson(out / "events.ndjson")]
    assert told == ["inputs/doors.ndjson:1", "inputs/doors.ndjson:2"]
    # A field that stands at its schema's default is left out; of state that is "open".
    states = {one["title"]: one.get("state", "open") for one in ndjson(out / "matches.ndjson")}
    assert states["Refused, then opened"] == "open"


def test_a_paced_replay_decides_the_same_and_takes_its_time(tmp_path):
    folder = write_scenario(tmp_path / "scenario", LINES)
    run_replay(folder, tmp_path / "fast")
    started = time.monotonic()
    run_replay(folder, tmp_path / "paced", speed=100)
    # 40 s of events at 100 a second; the last message is waited for.
    assert time.monotonic() - started >= 0.25
    for name in ("threats", "matches", "events", "decoded"):
        assert (tmp_path / f"paced/{name}.ndjson").read_bytes() == (tmp_path / f"fast/{name}.ndjson").read_bytes()


def test_an_interrupt_ends_the_replay_with_130_and_no_traceback(tmp_path):
    folder = write_scenario(tmp_path / "scenario", [Line(0, "granted"), Line(3600, "granted")])
    running = subprocess.Popen(
        [sys.executable, "-m", "correlator", "replay", str(folder), "--out", str(tmp_path / "out"), "--speed", "1x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "out/rejects.ndjson").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
