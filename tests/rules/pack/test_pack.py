"""What every rule of the pack owes its reader, and that each does what its own tests say."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from sigma.collection import SigmaCollection

from correlator.events.event import LEVELS
from correlator.events.kinds import KINDS
from correlator.premises.load import check_site
from correlator.premises.vocabulary import THREAT_TYPES
from correlator.rulepack import PACK
from correlator.rules.check import check
from correlator.rules.load import load_rules
from correlator.rules.syntax import CorrelationRule, DetectionRule, RuleTest
from correlator.run.rule_commands import run_test
from tests.rules.pack.table import ROOT, THEMES, documents, is_reported, markdown

RULES = [(path.name, rule) for path in sorted(PACK.glob("*.yml")) for rule in documents(path)]
REPORTED = [rule for _, rule in RULES if is_reported(rule)]
HELPERS = [rule for _, rule in RULES if not is_reported(rule)]
LOADED = load_rules([PACK])
LOADED_RULES: list[DetectionRule | CorrelationRule] = [
    *LOADED.rules.detections.values(), *LOADED.rules.correlations.values()
]  # fmt: skip
TESTS = [
    pytest.param(rule, test, id=f"{rule.head.name}: {test.name}") for rule in LOADED_RULES for test in rule.head.tests
]
CRITICAL = {"badge_duress", "fire_alarm", "smoke", "gas", "panic"}  # life safety, each a threat by itself


def named(rules: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", rules, ids=lambda rule: rule["name"])


def values_of(part: Any, key: str) -> list[Any]:
    """Every value of a field in a detection, modifiers aside."""
    if isinstance(part, list):
        return [value for item in part for value in values_of(item, key)]
    if not isinstance(part, dict):
        return []
    found = []
    for name, value in part.items():
        if name.partition("|")[0] == key:
            found += value if isinstance(value, list) else [value]
        else:
            found += values_of(value, key)
    return found


def test_the_pack_and_the_site_of_its_tests_load_without_a_fault() -> None:
    assert LOADED.faults == ()
    assert len(LOADED_RULES) == len(RULES)
    for site in sorted((PACK / "test-sites").glob("*.yaml")):
        assert check_site(site) == []


@pytest.mark.parametrize(("rule", "test"), TESTS)
def test_a_rule_does_what_its_own_test_says(rule: DetectionRule | CorrelationRule, test: RuleTest) -> None:
    assert len(run_test(LOADED.rules, rule, test)) == test.expect


def test_the_pack_has_at_least_forty_rules_and_every_file_is_a_theme() -> None:
    assert len(REPORTED) >= 40
    assert {name for name, _ in RULES} == {"events.yml", *(f"{theme}.yml" for theme in THEMES)}


def test_ids_and_names_and_titles_are_unique_and_ids_are_random_uuids() -> None:
    for key in ("id", "name", "title"):
        values = [rule[key] for _, rule in RULES if key != "title" or is_reported(rule)]
        assert len(values) == len(set(values)), key
    assert all(UUID(rule["id"]).version == 4 for _, rule in RULES)


@named(REPORTED)
def test_a_rule_says_what_it_finds_and_when_it_is_wrong(rule: dict[str, Any]) -> None:
    assert set(rule) >= {"title", "id", "name", "status", "description", "level", "tags", "falsepositives"}
    assert rule["level"] in LEVELS
    assert rule["level"] != "informational"
    assert rule["falsepositives"]
    extension = rule["x-correlator"]
    assert extension["threat-type"] in THREAT_TYPES
    assert re.fullmatch(r"[A-Z].*\.", extension["says"])
    assert len(extension["says"]) <= 120


@named(REPORTED)
def test_tags_are_techniques_of_attack_or_our_own(rule: dict[str, Any]) -> None:
    assert rule["tags"]
    for tag in rule["tags"]:
        namespace, _, word = tag.partition(".")
        assert namespace in {"attack", "x-cps"}
        if namespace == "attack":
            assert re.fullmatch(r"t[0-9]{4}(\.[0-9]{3})?", word)
        else:
            assert word in THREAT_TYPES


def test_only_life_safety_is_critical() -> None:
    assert {rule["name"] for rule in REPORTED if rule["level"] == "critical"} == CRITICAL


def test_a_lone_door_alarm_stays_below_high() -> None:
    levels = {rule["name"]: LEVELS.index(rule["level"]) for rule in REPORTED}
    for name in ("door_forced", "door_held", "door_held_often", "door_opened_without_grant", "door_opened_after_hours"):
        assert levels[name] <= LEVELS.index("medium"), name


@named([rule for _, rule in RULES if "detection" in rule])
def test_every_kind_exists_and_is_one_of_the_log_source(rule: dict[str, Any]) -> None:
    kinds = values_of(rule["detection"], "kind")
    assert kinds
    assert rule["logsource"]["product"] == "correlator"
    category = rule["logsource"].get("category")
    for kind in kinds:
        assert kind in KINDS
        assert category in {None, kind.partition(".")[0]}


@named(HELPERS)
def test_a_helper_serves_a_rule_and_alerts_nobody(rule: dict[str, Any]) -> None:
    assert rule["level"] == "informational"
    assert any(rule["name"] in other.get("correlation", {}).get("rules", ()) for _, other in RULES)


@named([rule for rule in REPORTED if "correlation" in rule])
def test_a_correlation_refers_to_helpers_only_so_that_no_rule_falls_silent(rule: dict[str, Any]) -> None:
    helpers = {helper["name"] for helper in HELPERS}
    assert set(rule["correlation"]["rules"]) <= helpers


@named(REPORTED)
def test_a_rule_has_a_hit_and_a_near_miss_of_its_own(rule: dict[str, Any]) -> None:
    tests = rule["x-correlator"]["tests"]
    assert {test["expect"] > 0 for test in tests} == {True, False}
    assert len({test["name"] for test in tests}) == len(tests)
    for test in tests:
        assert len(test["name"].split()) >= 2
        assert all(event["kind"] in KINDS for event in test["events"])
        if "site" in test:
            assert (PACK / test["site"]).is_file()


@named(REPORTED)
def test_test_events_fit_the_roles_of_their_kind(rule: dict[str, Any]) -> None:
    """A test about an event that no source could send proves nothing."""
    for test in rule["x-correlator"]["tests"]:
        for event in test["events"]:
            for role in KINDS[event["kind"]].roles:
                wanted, _, kinds = role.partition(":")
                names = {name for kind in kinds.split("|") for name in (kind, f"{wanted}.{kind}")}
                assert names & set(event), (test["name"], event["kind"], role)


def test_pysigma_reads_the_whole_pack() -> None:
    """Every file stays a valid Sigma file; what `rules check` calls ours stands where others do not look."""
    collection = SigmaCollection.from_dicts([rule for _, rule in RULES], collect_errors=True)
    assert collection.errors == []
    assert len(collection.rules) == len(RULES)
    collection.resolve_rule_references()


def test_only_what_rules_check_calls_ours_is_not_portable() -> None:
    """No rule of the pack leans on something that another reader would read as more than we mean."""
    assert {fault.severity for fault in check(LOADED)} == {"note"}


def test_the_documentation_shows_every_rule_as_the_files_have_it() -> None:
    assert (ROOT / "docs" / "rulepack.md").read_text(encoding="utf-8") == markdown()
