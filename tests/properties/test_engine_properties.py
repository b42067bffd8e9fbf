"""What never changes a result, over random rules and events; and that two matchers agree.

`PROPERTY_EXAMPLES=20` multiplies the number of examples and draws new ones each run; without it the same
examples run every time, so that a red build means a changed engine. `PROPERTY_SHRINK=0` shows the first
failing example as it was drawn.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as with_values

from correlator.events import Event
from correlator.matching import Outputs, Record
from correlator.rules.syntax import RuleSet
from tests.properties import strategies
from tests.properties.strategies import LATENESS_MS, Case
from tests.reference import matcher, run_engine

SHRINK = os.environ.get("PROPERTY_SHRINK", "1") == "1"
TIMES = int(os.environ.get("PROPERTY_EXAMPLES", "0"))
ALL = run_engine.settings(LATENESS_MS, enriched="all", dup_window_ms=60_000)
TRACKED = replace(ALL, track_changes=True)


def examples(number: int) -> Any:
    return settings(
        max_examples=number * max(TIMES, 1),
        derandomize=not TIMES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if SHRINK else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


def _told(case: Case, **how: Any) -> bytes:
    """Every byte of what the engine tells of its matches, revisions included."""
    return run_engine.as_bytes(run_engine.run(case.rules, case.events, ALL, case.until_ms, **how))


def _outputs(case: Case, records: list[Record]) -> bytes:
    """Every byte of everything the engine tells."""
    engine = run_engine.new_engine(case.rules, ALL)
    outputs = run_engine.fold(engine, records)
    return _bytes([*outputs, engine.finish(case.until_ms)])


def _bytes(outputs: list[Outputs]) -> bytes:
    """All outputs one after the other: where a record ends is not part of it."""
    joined = Outputs()
    for output in outputs:
        joined.matches += output.matches
        joined.enriched += output.enriched
        joined.rejects += output.rejects
    return run_engine.as_bytes([joined.matches, joined.enriched, joined.rejects])


@examples(400)
@given(strategies.cases())
def test_the_engine_and_the_reference_matcher_agree(case: Case) -> None:
    expected = matcher.match(case.rules, case.events, LATENESS_MS, case.until_ms)
    found = run_engine.last_forms(run_engine.run(case.rules, case.events, ALL, case.until_ms))
    assert run_engine.shapes(found) == run_engine.shapes(expected)


@examples(100)
@given(strategies.cases(), st.sampled_from((10_000, 12_000)))
def test_both_forget_a_group_that_has_been_idle(case: Case, idle_ms: int) -> None:
    expected = matcher.match(case.rules, case.events, LATENESS_MS, case.until_ms, idle_ms)
    chosen = replace(ALL, group_idle_ms=idle_ms)
    found = run_engine.last_forms(run_engine.run(case.rules, case.events, chosen, case.until_ms))
    assert run_engine.shapes(found) == run_engine.shapes(expected)


@examples(60)
@given(strategies.cases(), st.data())
def test_the_order_of_arrival_within_the_lateness_changes_nothing(case: Case, data: st.DataObject) -> None:
    delay = st.integers(0, LATENESS_MS)
    shuffled = [strategies.at_other_receive_times(event, data.draw(delay)) for event in case.events]
    again = replace(case, events=tuple(sorted(shuffled, key=lambda event: event.received_ms)))
    assert _told(again) == _told(case)


@examples(60)
@given(strategies.cases(), st.data())
def test_repeated_deliveries_change_nothing(case: Case, data: st.DataObject) -> None:
    once = tuple(with_values(event, dedupe=True) for event in case.events)
    repeats = data.draw(st.lists(st.tuples(st.sampled_from(once), st.integers(0, 3_000)), max_size=6))
    copies = [with_values(event, received_ms=event.received_ms + later_ms) for event, later_ms in repeats]
    twice = tuple(sorted([*once, *copies], key=lambda event: event.received_ms))
    # A log does not go on beyond its `until`.
    until_ms = None if case.until_ms is None else max(case.until_ms, twice[-1].received_ms)
    assert _told(Case(case.rules, twice, until_ms)) == _told(Case(case.rules, once, until_ms))


@examples(40)
@given(strategies.cases())
def test_a_record_that_is_read_twice_changes_nothing(case: Case) -> None:
    records = [replace(record, span=(number, number)) for number, record in enumerate(run_engine.log(case.events, 3))]
    twice = [record for record in records for record in (record, record)]
    assert _outputs(case, twice + records) == _outputs(case, records)


@examples(60)
@given(strategies.cases(most=30))
def test_packing_into_records_of_1_50_or_500_events_changes_no_byte(case: Case) -> None:
    # Few events are drawn, so they are repeated in later seconds until there are several records of 50.
    longer = replace(case, events=_repeated(case.events, 120), until_ms=None)
    one = _outputs(longer, run_engine.log(longer.events, 1))
    assert _outputs(longer, run_engine.log(longer.events, 50)) == one
    assert _outputs(longer, run_engine.log(longer.events, 500)) == one


@examples(60)
@given(strategies.cases())
def test_the_frequency_of_ticks_changes_no_byte(case: Case) -> None:
    silent = _outputs(case, run_engine.log(case.events))
    assert _outputs(case, run_engine.log(case.events, tick_ms=100)) == silent
    assert _outputs(case, run_engine.log(case.events, tick_ms=700)) == silent


@examples(250)
@given(strategies.cases(), st.one_of(st.none(), st.integers(0, 31)))
def test_snapshot_and_restore_at_any_event_change_no_byte(case: Case, only: int | None) -> None:
    # At every event, or at one.
    records = run_engine.log(case.events)
    cuts = range(len(records) + 1) if only is None else [only % (len(records) + 1)]
    engine = run_engine.new_engine(case.rules, ALL)
    outputs = []
    for number, record in enumerate(records):
        if number in cuts:
            engine = _restored(case, engine.snapshot())
        outputs.append(engine.receive(record))
    if len(records) in cuts:
        engine = _restored(case, engine.snapshot())
    outputs.append(engine.finish(case.until_ms))
    assert _bytes(outputs) == _outputs(case, records)


@examples(120)
@given(strategies.cases(), st.data())
def test_changed_entries_add_up_to_the_snapshot_and_restore_the_same(case: Case, data: st.DataObject) -> None:
    records = run_engine.log(case.events)
    cut = data.draw(st.integers(0, len(records)))
    engine = run_engine.new_engine(case.rules, TRACKED)
    kept: dict[Any, Any] = {}
    outputs = []
    for number, record in enumerate(records):
        if number == cut:
            engine = _restored(case, sorted(kept.items()))
        outputs.append(engine.receive(record))
        for key, value in engine.changes():
            if value is None:
                kept.pop(key, None)
            else:
                kept[key] = value
        assert sorted(kept.items()) == engine.snapshot()
    outputs.append(engine.finish(case.until_ms))
    assert _bytes(outputs) == _outputs(case, records)


@examples(150)
@given(strategies.alike(), strategies.events())
def test_rules_that_share_windows_do_not_influence_each_other(rules: RuleSet, events: list[Event]) -> None:
    together = run_engine.run(rules, events, ALL)
    for name, rule in rules.correlations.items():
        alone = run_engine.run(replace(rules, correlations={name: rule}), events, ALL)
        assert run_engine.as_bytes([one for one in together if one.rule == name]) == run_engine.as_bytes(
            [one for one in alone if one.rule == name]
        )


@examples(40)
@given(strategies.rule_sets(), strategies.events(site="north"), strategies.events(site="south"))
def test_two_sites_in_one_log_share_nothing(rules: Any, north: list[Event], south: list[Event]) -> None:
    sites = {"north": north, "south": south}
    alone = {}
    for site, events in sites.items():
        engine = run_engine.new_engine(rules, ALL, site=site)
        alone[site] = _bytes([*run_engine.fold(engine, run_engine.log(events)), engine.finish(None)])
    engines = {site: run_engine.new_engine(rules, ALL, site=site) for site in sites}
    told: dict[str, list[Outputs]] = {site: [] for site in sites}
    for record in run_engine.merged(run_engine.log(north), run_engine.log(south)):
        site = record.events[0].site
        told[site].append(engines[site].receive(record))
    for site, engine in engines.items():
        assert _bytes([*told[site], engine.finish(None)]) == alone[site]


@settings(examples(1), max_examples=1)
@given(st.lists(strategies.cases(), min_size=25, max_size=25))
def test_another_hash_seed_changes_no_byte(tmp_path_factory: Any, cases: list[Case]) -> None:
    path = tmp_path_factory.mktemp("cases") / "cases.pickle"
    path.write_bytes(pickle.dumps(cases))
    assert _digest_with_hash_seed("1", path) == _digest_with_hash_seed("2", path) == digest_of(path)


def digest_of(path: Path) -> str:
    """One digest over all that the engine tells of the pickled cases, states included."""
    made = hashlib.blake2b(digest_size=16)
    for case in pickle.loads(path.read_bytes()):
        engine = run_engine.new_engine(case.rules, ALL)
        made.update(_bytes(run_engine.fold(engine, run_engine.log(case.events))))
        made.update(repr(engine.snapshot()).encode())
        made.update(_bytes([engine.finish(case.until_ms)]))
    return made.hexdigest()


def _digest_with_hash_seed(seed: str, path: Path) -> str:
    code = f"from tests.properties.test_engine_properties import *; print(digest_of(Path({str(path)!r})))"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def _restored(case: Case, entries: Any) -> Any:
    engine = run_engine.new_engine(case.rules, TRACKED)
    engine.restore(entries)
    return engine


def _repeated(events: tuple[Event, ...], least: int) -> tuple[Event, ...]:
    made: list[Event] = []
    turn = 0
    while len(made) < least:
        later_ms = turn * 4_000
        made += [
            with_values(
                event,
                id=f"{turn:04x}{event.id[4:]}",
                time_ms=event.time_ms + later_ms,
                received_ms=event.received_ms + later_ms,
            )
            for event in events
        ]
        turn += 1
    return tuple(sorted(made, key=lambda event: event.received_ms))
