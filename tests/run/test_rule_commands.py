"""`correlator rules check | explain | test`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from correlator.errors import FaultyFile, UsageError
from correlator.rules.load import load_rules
from correlator.rules.testing import DEFAULT_START_MS
from correlator.run import rule_commands
from correlator.run.rule_commands import find_rule, only, run_test

RULES = """\
title: Door opened
id: 5c1f0e0a-3c55-4a52-9a1c-0d6f0b7e1a01
name: opened
logsource: {product: correlator}
detection: {s: {kind: door.opened}, condition: s}
---
title: Window opened
name: other
logsource: {product: correlator}
detection: {s: {kind: contact.opened}, condition: s}
---
title: Door opened twice
name: twice
level: high
correlation:
  type: event_count
  rules: [opened]
  group-by: [door]
  timespan: 1m
  condition: {gte: 2}
x-correlator:
  tests:
    - name: two openings of one door
      events:
        - {at: 0s, kind: door.opened, door: d-1}
        - {at: 30s, kind: door.opened, door: d-1}
      expect: 1
    - name: openings of two doors
      events:
        - {at: 0s, kind: door.opened, door: d-1}
        - {at: 30s, kind: door.opened, door: d-2}
      expect: 0
"""


@pytest.fixture
def rules(tmp_path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        path = tmp_path / "rules.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def told(work: Callable[[io.StringIO], int]) -> tuple[int, str]:
    stdout = io.StringIO()
    return work(stdout), stdout.getvalue()


# ---- check ---------------------------------------------------------------------------------------------


def test_check_of_good_rules_is_exit_code_0(rules):
    path = rules(RULES)
    code, text = told(lambda out: rule_commands.check([path], None, out))
    assert code == 0
    assert text.splitlines()[-1] == "2 detections, 1 correlations; no errors"


def test_check_prints_every_fault_with_its_place_and_is_exit_code_2(rules):
    path = rules(RULES.replace("level: high", "level: hihg").replace("condition: {gte: 2}", "condition: {gte: two}"))
    code, text = told(lambda out: rule_commands.check([path], None, out))
    assert code == 2
    assert f"{path}:14:8: " in text
    assert f"{path}:20:" in text
    assert text.splitlines()[-1].endswith("errors")


def test_check_notes_what_is_not_plain_sigma(rules):
    path = rules(RULES.replace("x-correlator:\n", "x-correlator:\n  select: each\n"))
    assert "note: " in told(lambda out: rule_commands.check([path], None, out))[1]


def test_check_without_paths_checks_the_rule_pack():
    code, text = told(lambda out: rule_commands.check([], None, out))
    assert code == 0
    assert text.endswith("no errors\n")


# ---- explain and find ----------------------------------------------------------------------------------


def test_explain_says_what_a_rule_finds(rules):
    path = rules(RULES)
    code, text = told(lambda out: rule_commands.explain([path], "twice", out))
    assert code == 0
    assert "Door opened twice" in text
    assert "1m" in text


def test_explain_refuses_a_faulty_file(rules):
    with pytest.raises(FaultyFile):
        rule_commands.explain([rules("title: x\n")], "x", io.StringIO())


@pytest.mark.parametrize("wanted", ["opened", "Door opened", "5c1f0e0a-3c55-4a52-9a1c-0d6f0b7e1a01", "5c1f0e"])
def test_a_rule_is_found_by_name_title_id_or_the_beginning_of_its_id(rules, wanted):
    assert find_rule(load_rules([rules(RULES)]).rules, wanted).head.name == "opened"


@pytest.mark.parametrize(("wanted", "says"), [("opend", "near: opened"), ("5c1f", "no rule '5c1f'")])
def test_a_rule_that_is_not_there_is_refused_with_near_names(rules, wanted, says):
    with pytest.raises(UsageError, match=says):
        find_rule(load_rules([rules(RULES)]).rules, wanted)


# ---- test ----------------------------------------------------------------------------------------------


def test_tests_that_hold_are_exit_code_0(rules):
    path = rules(RULES)
    assert told(lambda out: rule_commands.test([path], out)) == (0, "2 tests, 0 failed\n")


def test_a_test_that_fails_is_named_with_its_place_and_what_was_found(rules):
    path = rules(RULES.replace("expect: 1", "expect: 3"))
    code, text = told(lambda out: rule_commands.test([path], out))
    assert code == 1
    line = RULES.splitlines().index("    - name: two openings of one door") + 1
    assert f"{path}:{line}:7: Door opened twice: two openings of one door: 1 matches, 3 expected" in text
    assert "2026-03-02T00:00:00.000Z to 2026-03-02T00:00:30.000Z {'door': 'd-1'} value 2, 2 events" in text
    assert text.endswith("2 tests, 1 failed\n")


def test_a_test_without_a_start_begins_at_the_default_start(rules):
    loaded = load_rules([rules(RULES)]).rules
    rule = find_rule(loaded, "twice")
    (found,) = run_test(loaded, rule, rule.head.tests[0])
    assert found.first_ms == DEFAULT_START_MS


def test_a_start_is_taken(rules):
    path = rules(RULES.replace("      expect: 1", "      start: 2026-05-01T08:00:00+02:00\n      expect: 1"))
    loaded = load_rules([path]).rules
    rule = find_rule(loaded, "twice")
    (found,) = run_test(loaded, rule, rule.head.tests[0])
    assert found.first_ms == 1_777_615_200_000


def test_a_rule_is_tested_with_those_it_refers_to_and_no_others(rules):
    loaded = load_rules([rules(RULES)]).rules
    subset = only(loaded, find_rule(loaded, "twice"))
    assert {one.head.name for one in subset.detections.values()} == {"opened"}
    assert {one.head.name for one in subset.correlations.values()} == {"twice"}
    assert only(loaded, find_rule(loaded, "opened")).used == frozenset()
