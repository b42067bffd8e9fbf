"""The rule language: what is refused and where, and what the shipped rules cover."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from correlator.impact.graph import THREAT_NUMBER
from correlator.impact.rules import SHIPPED, check_rules, load_rules
from correlator.impact.words import BARRIERS, EFFECTS, tables_markdown
from correlator.premises.vocabulary import ASSET_CLASSES, RELATION_TYPES, THREAT_TYPES
from correlator.run.impact_commands import run_test

FAULTS = yaml.safe_load((Path(__file__).parent / "faults.yaml").read_text(encoding="utf-8"))
BASE = load_rules()


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case["name"])
def test_a_file_with_faults_is_refused_with_every_place(case, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(case["text"], encoding="utf-8")
    _, faults = check_rules([path])
    assert [str(one).removeprefix(f"{path}:").replace(str(path), "FILE") for one in faults] == case["faults"]


@pytest.mark.parametrize("test", BASE.tests, ids=lambda test: test.name)
def test_the_tests_of_the_shipped_rules_hold(test):
    assert run_test(test, BASE.rules) == []


def test_the_shipped_rules_cover_the_five_patterns():
    used = {RELATION_TYPES[relation].pattern for rule in BASE.rules for relation, _ in rule.over}
    assert used >= {"operational dependency", "leads-to", "hosts-content", "controls", "whole-part"}


@pytest.mark.parametrize(
    ("what", "threat", "asset_class"),
    [
        ("power", "power-loss", "supply"), ("power", "power-loss", "building_device"),
        ("cooling", "system-failure", "building_device"), ("cooling", "unsuitable-temperature", "zone"),
        ("network", "reconnaissance", "network"), ("network", "denial-of-service", "network"),
        ("access control", "control-manipulation", "controller"), ("access control", "badge-misuse", "reader"),
        ("medical devices", "malware", "medical_device"), ("medical devices", "theft", "medical_device"),
        ("data", "data-manipulation", "data_store"), ("data", "data-theft", "data_store"),
        ("staff", "violence", "person"), ("services", "service-unavailable", "service"),
    ],
)  # fmt: skip
def test_the_shipped_rules_cover(what, threat, asset_class):
    assert any(threat in rule.threats and asset_class in (rule.sources or ASSET_CLASSES) for rule in BASE.rules)


def test_all_four_effects_and_all_barriers_are_used():
    assert {effect for rule in BASE.rules for effect, _ in rule.effects} == set(EFFECTS)
    assert {barrier for rule in BASE.rules for barrier in rule.blocked_by} == set(BARRIERS)


def test_every_threat_type_starts_a_rule_or_is_an_end():
    """What people feel in the end leads to nothing more."""
    ends = {"patient-harm"}
    starts = {threat for rule in BASE.rules for threat in rule.threats}
    assert set(THREAT_TYPES) - starts <= ends


def test_rules_without_a_likelihood_take_the_weight_of_their_relation(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n  - {id: a, says: x, if: {threat: fire, on: zone}, over: [leads_to, part_of],\n"
        "     way: both, then: {threat: fire, on: any}, delay: [1s, 100s]}\n"
    )
    (rule,) = load_rules([path]).rules
    assert rule.over == (("leads_to", "along"), ("leads_to", "against"), ("part_of", "along"), ("part_of", "against"))
    weights = [RELATION_TYPES["leads_to"].impact_forward, RELATION_TYPES["leads_to"].impact_backward,
               RELATION_TYPES["part_of"].impact_forward, RELATION_TYPES["part_of"].impact_backward]  # fmt: skip
    assert [ppm / 1_000_000 for ppm in rule.likelihood] == weights
    assert rule.delay_ms == (1_000, 10_000, 100_000)  # the middle is the geometric mean


def test_a_rule_that_loops_over_the_graph_is_no_fault(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n  - {id: a, says: x, if: {threat: fire, on: any}, over: leads_to, way: both,\n"
        "     then: {threat: same, on: any}, likelihood: 0.99, delay: [0, 1m]}\n"
    )
    assert load_rules([path]).rules[0].threat == ""


def test_the_page_shows_the_closed_words(root):
    assert tables_markdown().strip() in (root / "docs" / "impact.md").read_text(encoding="utf-8")


def test_threat_numbers_are_stable_within_a_state():
    assert len(THREAT_NUMBER) == len(set(THREAT_NUMBER.values())) == len(THREAT_TYPES)
    assert SHIPPED.is_dir()
