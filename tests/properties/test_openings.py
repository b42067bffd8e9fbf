"""An engine that tells openings only (`tells="first"`) keeps no episodes of its common shapes, and finds out from the
next event whether an earlier one still went on. It must tell each match as one that keeps them does when it opens."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from correlator.events import Event
from correlator.matching import Engine, Outputs
from correlator.rules.load import rules_text
from correlator.rules.syntax import RuleSet
from tests.properties import strategies
from tests.properties.strategies import Case
from tests.properties.test_engine_properties import ALL
from tests.reference import run_engine

START_MS = 1_772_323_200_000
STEP = "title: {0}\nname: {0}\nlogsource: {{product: x}}\ndetection: {{s: {{type: {0}}}, condition: s}}\n"
CORRELATION = """\
title: {name}
name: {name}
correlation: {{type: {type}, rules: [{rules}], group-by: [key], timespan: {span}s{condition}}}
"""
HOVERING: RuleSet = rules_text(
    "---\n".join(
        [STEP.format(one) for one in "abcd"]
        + [
            CORRELATION.format(name=name, type=type_, rules=rules, span=span, condition=condition)
            for name, type_, rules, span, condition in (
                ("counted", "event_count", "a", 10, ", condition: {gte: 3}"),
                ("any", "event_count", "c", 5, ", condition: {gte: 1}"),
                ("any_host", "value_count", "c", 8, ", condition: {gte: 1, field: host}"),
                ("pooled", "event_count", "a, b", 7, ", condition: {gte: 4}"),
                ("distinct", "value_count", "a", 12, ", condition: {gte: 3, field: host}"),
                ("pair", "temporal", "a, b", 4, ""),
                ("three", "temporal", "a, b, c", 9, ""),
                ("ordered", "temporal_ordered", "a, b", 6, ""),
                ("chain", "temporal_ordered", "a, b, c", 11, ""),
                ("rare_end", "temporal_ordered", "a, d", 20, ""),
                # Its inner rule is decided inline, too, and must keep its episodes.
                ("above", "temporal", "counted, b", 15, ""),
            )
        ]
    )
).rules


def told(rules: RuleSet, events: tuple[Event, ...], until_ms: int | None, **chosen) -> dict[str, list]:
    """What an engine that tells all and one that tells openings tell, in the order they do."""
    found = {}
    for tells in ("growing", "first"):
        engine = run_engine.new_engine(rules, replace(ALL, tells=tells, **chosen))
        outputs: list[Outputs] = [*run_engine.fold(engine, run_engine.log(events, 50)), engine.finish(until_ms)]
        found[tells] = run_engine.matches(outputs)
    opened = {match.id for match in found["growing"] if match.state == "open"}
    found["growing"] = [match for match in found["growing"] if match.state == "open" or match.id not in opened]
    return found


@settings(max_examples=200, derandomize=True, deadline=None, database=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])  # fmt: skip
@given(strategies.cases())
def test_of_any_rules_the_openings_are_told(case: Case) -> None:
    found = told(case.rules, case.events, case.until_ms)
    assert run_engine.as_bytes(found["first"]) == run_engine.as_bytes(found["growing"])


def hovering(seed: int) -> tuple[Event, ...]:
    """Hours in which conditions come and go: bursts, silences about as long as timespans, new groups now and then."""
    dice = random.Random(seed)
    at_ms, events = START_MS, []
    pace = (0,)
    for number in range(6_000):
        if number % 100 == 0:
            pace = dice.choice(
                (
                    (0, 100, 100, 100),
                    (0, 500, 1_000, 4_000),
                    (500, 1_000, 7_000, 1_000 * dice.randrange(25)),
                    (0, 3_000, 26_000),
                )
            )
        at_ms += dice.choice(pace)
        type_ = dice.choices("abcd", (8, 4, 2, 1))[0]
        key = f"k{dice.randrange(3)}" if dice.random() < 0.9 else f"n{number}"
        fields = {"type": type_, "key": key, "host": f"h{dice.randrange(6)}"}
        events.append(
            Event(f"{number:032x}", "s", "s", "mapped", "log.entry", at_ms, at_ms, carried=fields, seq=number)
        )
    return tuple(events)


@pytest.mark.parametrize("seed", range(6))
def test_conditions_that_come_and_go_open_as_often_as_where_episodes_are_kept(seed: int) -> None:
    found = told(HOVERING, hovering(seed), None)
    assert {match.rule for match in found["growing"]} == set(HOVERING.correlations) - {"counted"}
    assert len(found["growing"]) > 500
    assert run_engine.as_bytes(found["first"]) == run_engine.as_bytes(found["growing"])


def test_a_flood_that_pushes_the_first_event_out_of_its_window_opens_nothing_again() -> None:
    steps = [
        ("a", 0),
        ("d", 1_000),
        *(("a", 2_000 + 10 * n) for n in range(60)),
        ("d", 24_000),
        ("a", 30_000),
        ("d", 31_000),
    ]
    events = tuple(
        Event(
            f"{n:032x}",
            "s",
            "s",
            "mapped",
            "log.entry",
            START_MS + ms,
            START_MS + ms,
            carried={"type": type_, "key": "k"},
            seq=n,
        )
        for n, (type_, ms) in enumerate(steps)
    )
    found = told(HOVERING, events, None, max_window_events=6)
    once = {tells: [match for match in found[tells] if match.rule == "rare_end"] for tells in found}
    assert len(once["first"]) == 1
    assert once["first"] == once["growing"]


def test_an_engine_that_tells_openings_only_says_that_it_has_no_state() -> None:
    only = replace(ALL, tells="first")
    with pytest.raises(ValueError, match="keeps no state"):
        run_engine.new_engine(HOVERING, only).snapshot()
    with pytest.raises(ValueError, match="keeps no state"):
        Engine("s", HOVERING, settings=replace(only, track_changes=True))
