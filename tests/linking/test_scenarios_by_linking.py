"""The scenarios that come along, found by the graph alone: no correlation rule, no shared evidence."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from correlator.lab.background import background
from correlator.lab.moved import given, together
from correlator.matching import Record
from correlator.run.linking import learned
from correlator.run.replay import make_pipeline, scenario_rules
from correlator.run.scenario import History, load_scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@cache
def usual(name):
    scenario = load_scenario(SCENARIOS / name)
    return learned(scenario, scenario_rules(scenario), History(scenario.seed + 1, 2), background)


def threats_of(name, linking="only", seed=None):
    scenario = load_scenario(SCENARIOS / name)
    pipeline, _ = make_pipeline(scenario, scenario_rules(scenario), linking, usual(name))
    told = {}
    ordinary = background(scenario, seed)
    events = [
        event for batch in scenario.events(ordinary) if batch.received_ms <= scenario.until_ms for event in batch.events
    ]
    for at in range(0, len(events), 500):
        told.update({one.id: one for one in pipeline.receive(Record(events=events[at : at + 500])).threats})
    told.update({one.id: one for one in pipeline.finish(scenario.until_ms).threats})
    return [one for one in told.values() if one.phase != "merged"]


@pytest.mark.parametrize("name", ["vaccine-theft", "patient-data-theft"])
def test_a_scenario_is_found_across_domains_by_linking_alone(name):
    best = max(threats_of(name), key=lambda one: one.score or 0.0)
    own = [one for one in best.members if one.origin.startswith("inputs/")]
    assert best.score >= 8
    assert len(best.domains) >= 2
    assert 2 * len(own) >= len(best.members)
    assert len(best.steps) >= 5


@pytest.mark.parametrize("seed", [None, 7, 19])
@pytest.mark.parametrize("name", ["contractor-window", "fire-drill"])
def test_a_negative_control_stays_silent_with_linking_on(name, seed):
    assert [one.title for one in threats_of(name, "graph", seed)] == []


def test_the_findings_of_a_theft_moved_to_unrelated_places_are_no_threat():
    """Few runs; `make linking-eval` makes forty of each scenario."""
    of = given(SCENARIOS / "patient-data-theft")
    whole = together(of, None)
    assert whole >= 5
    assert sum(2 * together(of, seed) >= whole for seed in range(4)) == 0
