"""Every Sigma modifier, with what hits and what nearly does (modifiers.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sigma.modifiers import modifier_mapping

from correlator.clock import parse_iso, zone_named
from correlator.events import Event
from correlator.rules.load import rules_text
from correlator.rules.predicates import Predicate, compile_condition

ROWS = yaml.safe_load((Path(__file__).parent / "modifiers.yaml").read_text())
TIME_MS = parse_iso("2026-03-01T23:30:00Z")[0]
OVERLAY = "lists: {hosts: [pc-1, pc-2], two: [a, b], globs: ['srv-*']}"
RULE = """
title: one line
name: r
logsource: {{product: correlator}}
detection:
  selection:
    {line}
  condition: selection
"""


def predicate_of(line: str) -> Predicate:
    loaded = rules_text(RULE.format(line=line), overlay=OVERLAY)
    assert not loaded.faults, [str(fault) for fault in loaded.faults]
    rule = loaded.rules.detections["r"]
    return compile_condition(rule.condition, rule.logsource, (), None, zone_named("Europe/Rome"))


def event_with(value: Any, attributes: dict[str, Any]) -> Event:
    given = dict(attributes) if value == "absent" else {**attributes, "f": value}
    return Event(
        id="0", site="s", source="x", dialect="mapped", kind="log.entry", time_ms=TIME_MS, received_ms=TIME_MS,
        carried=given,
    )  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["line"])
def test_a_line_hits_and_misses(row: dict[str, Any]) -> None:
    predicate = predicate_of(row["line"])
    for wanted, values in ((True, row["hit"]), (False, row["miss"])):
        for value in values:
            event = event_with(value, row.get("event", {}))
            assert predicate.test(event) is wanted, value
            assert predicate.explain(event)[0].holds is wanted, value


def test_every_modifier_of_pysigma_has_a_row() -> None:
    used = {name for row in ROWS for name in row["line"].partition(":")[0].split("|")[1:]}
    spelled_out = {"ignorecase": "i", "multiline": "m", "dotall": "s"}
    assert {spelled_out.get(name, name) for name in modifier_mapping} - used == set()


def keyword(line: str, text: str, attributes: dict[str, Any]) -> bool:
    loaded = rules_text(RULE.format(line="").replace("selection:\n    \n", f"selection:\n{line}\n"))
    assert not loaded.faults, [str(fault) for fault in loaded.faults]
    rule = loaded.rules.detections["r"]
    event = Event(
        id="0", site="s", source="x", dialect="mapped", kind="log.entry", time_ms=0, received_ms=0, text=text,
        carried=attributes,
    )  # fmt: skip
    found = compile_condition(rule.condition, rule.logsource, (), None, zone_named("UTC"))
    assert found.explain(event)[0].holds is found.test(event)
    return found.test(event)


@pytest.mark.parametrize(
    ("line", "text", "attributes", "hits"),
    [
        ("    - failed password", "sshd: Failed password for x", {}, True),
        ("    - failed password", "sshd: failed  password", {}, False),
        ("    - 4625", "event 4625 seen", {}, True),
        ("    - 'a*c'", "xx a and c yy", {}, True),
        ("    - 'a?c'", "xx ac yy", {}, False),
        ("    '|all': [one, two]", "two one", {}, True),
        ("    '|all': [one, two]", "one", {}, False),
        ("    '|cased': Bad", "bad", {}, False),
        ("    '|re': 'b[ao]d'", "so bod", {}, True),
        ("    '|re': 'b[ao]d'", "so BOD", {}, False),
        ("    - needle", "", {"deep": {"list": ["a NEEDLE here"]}}, True),
        ("    - needle", "other text", {"a": "needle"}, False),
        ("    - needle", "", {"needle": 1}, False),
        ("    '|neq': bad", "all good", {}, True),
    ],
)
def test_keywords(line: str, text: str, attributes: dict[str, Any], hits: bool) -> None:
    assert keyword(line, text, attributes) is hits


def test_a_pattern_that_re2_refuses_runs_with_backtracking_only_where_the_settings_allow_it() -> None:
    text = RULE.format(line="f|re: 'a(?=b)'")
    assert rules_text(text).errors
    loaded = rules_text(text, regex_backtracking=True)
    assert not loaded.faults
    rule = loaded.rules.detections["r"]
    found = compile_condition(rule.condition, rule.logsource, (), None, zone_named("UTC"))
    assert found.test(event_with("xab", {}))
    assert found.test(event_with("x" * 62 + "ab", {}))
    assert not found.test(event_with("x" * 63 + "ab", {})), "the 65th character is not looked at"
