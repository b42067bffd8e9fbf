"""Each shipped scenario: the real replay finds what is expected, and each step is there for a reason."""

from __future__ import annotations

import io
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from correlator.lab.background import background
from correlator.matching import Record
from correlator.premises import check_site
from correlator.run.expect import Expectation, check, load_expect
from correlator.run.replay import make_pipeline, replay, scenario_rules
from correlator.run.scenario import Scenario, load_scenario, packaged_scenarios

FOLDERS = packaged_scenarios()
NAMES = sorted(FOLDERS)
# Words that would tell a reader of a capture which of its lines belong to the story.
MARKS = re.compile(
    r"attack|malicious|intruder|thief|theft|steal|stolen|scenario|exercise|drill|step ?\d|simulat|fake|ground.?truth",
    re.IGNORECASE,
)


@cache
def rules(name: str) -> Any:
    return scenario_rules(load_scenario(FOLDERS[name]))


@cache
def expected(name: str) -> Expectation:
    return load_expect(FOLDERS[name] / "expect.yaml")


@cache
def whole(name: str) -> list[dict[str, Any]]:
    return threats_of(load_scenario(FOLDERS[name]), name)


def threats_of(scenario: Scenario, name: str) -> list[dict[str, Any]]:
    """The threats of the scenario's own lines, without background, as they stand at `until`."""
    pipeline, _ = make_pipeline(scenario, rules(name))
    found: dict[str, dict[str, Any]] = {}
    events = [event for batch in scenario.events() for event in batch.events]
    for outputs in (pipeline.receive(Record(events=events)), pipeline.finish(scenario.until_ms)):
        for threat in outputs.threats:
            found[threat.id] = msgspec.to_builtins(threat)
    return [threat for threat in found.values() if threat["phase"] != "merged"]


def without(name: str, origin: str, folder: Path) -> list[dict[str, Any]]:
    """The threats when one line is left blank, so that all others keep their numbers."""
    shutil.copytree(FOLDERS[name], folder)
    file, _, line = origin.rpartition(":")
    lines = (folder / file).read_text().split("\n")
    assert lines[int(line) - 1]
    lines[int(line) - 1] = ""
    (folder / file).write_text("\n".join(lines))
    return threats_of(load_scenario(folder), name)


def outcome(threats: list[dict[str, Any]], leaving_out: str = "") -> list[Any]:
    """What a person is told: severity, which rules spoke, and the proofs, but for one."""
    return sorted(
        (
            threat["severity"],
            sorted({step["title"] for step in threat["steps"]}),
            sorted({member["origin"] for member in threat["members"]} - {leaving_out}),
        )
        for threat in threats
    )


MEMBERS = [(name, member) for name in NAMES for threat in expected(name).threats for member in threat.members]


@pytest.mark.parametrize("name", NAMES)
def test_the_replay_with_background_finds_what_is_expected_and_nothing_else(name):
    told, errors = io.StringIO(), io.StringIO()
    code = replay(
        FOLDERS[name], out=None, speed=None, as_json=True, progress=False, stdout=told, stderr=errors,
        background=background,
    )  # fmt: skip
    assert code == 0, errors.getvalue()
    assert len(told.getvalue().splitlines()) == len(expected(name).threats)


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_the_same_without_background(name):
    assert check(expected(name), whole(name)) == []


@pytest.mark.parametrize(("name", "member"), MEMBERS, ids=[f"{name} {one.origin}" for name, one in MEMBERS])
def test_removing_a_needed_line_changes_the_outcome_and_removing_a_redundant_one_does_not(name, member, tmp_path):
    rest = outcome(without(name, member.origin, tmp_path / name), member.origin)
    assert (rest != outcome(whole(name), member.origin)) == member.needed


def test_without_its_window_the_fire_drill_is_a_threat(tmp_path):
    assert threats_without_window("fire-drill", tmp_path)


def test_without_its_window_the_contractor_is_a_threat(tmp_path):
    assert threats_without_window("contractor-window", tmp_path)


def test_somebody_elses_badge_does_not_fit_the_contractors_window(tmp_path):
    folder = tmp_path / "contractor-window"
    shutil.copytree(FOLDERS["contractor-window"], folder)
    capture = folder / "inputs" / "access.ndjson"
    capture.write_text(capture.read_text().replace("b-1090", "b-1041"))
    assert threats_of(load_scenario(folder), "contractor-window")


def threats_without_window(name: str, tmp_path: Path) -> list[dict[str, Any]]:
    folder = tmp_path / name
    shutil.copytree(FOLDERS[name], folder)
    site = folder / "site.yaml"
    text = site.read_text()
    cut = re.sub(r"^windows:\n(?:  .*\n)+", "windows: []\n", text, flags=re.MULTILINE)
    assert cut != text
    site.write_text(cut)
    return threats_of(load_scenario(folder), name)


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_a_capture_is_marked_as_part_of_the_story(name):
    for file in sorted((FOLDERS[name] / "inputs").iterdir()):
        found = MARKS.search(file.read_text())
        assert found is None, f"{file.name}: {found[0]}"


@pytest.mark.parametrize("name", NAMES)
def test_every_line_of_a_capture_is_taken(name):
    rejects = [one for batch in load_scenario(FOLDERS[name]).events() for one in batch.rejects]
    assert rejects == []


@pytest.mark.parametrize("name", NAMES)
def test_the_site_file_is_without_fault(name):
    assert check_site(FOLDERS[name] / "site.yaml") == []


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_where_it_comes_from_and_why_it_has_rules(name):
    text = (FOLDERS[name] / "README.md").read_text()
    assert "## Provenance" in text
    assert (FOLDERS[name] / "rules").is_dir() == ("## Rules" in text)
