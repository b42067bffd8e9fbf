"""Raw messages through intake and the site's engine tell what a replay tells."""

from __future__ import annotations

import random

import pytest

from correlator.events.threat import Threat
from tests.ingest.carried import engine_for, log_of, replayed, scenario, told


@pytest.mark.parametrize("name", ["vaccine-theft", "patient-data-theft", "fire-drill", "contractor-window"])
@pytest.mark.parametrize("pack", [1, 500])
def test_a_scenario_through_intake_and_log_tells_the_replays_threats_byte_for_byte(name: str, pack: int) -> None:
    one = scenario(name)
    records, made, intake = log_of(one, pack_events=pack)
    engine = engine_for(one, made)
    threats: list[Threat] = []
    for record in records:
        threats += engine.receive(record).threats
    assert [told(threat) for threat in threats] == replayed(one)
    counts = intake.counts
    seen = counts.silent + sum(counts.rejected.values()) + counts.ticks_taken
    assert counts.received - seen <= counts.events, "every message is event, silence, reject or promise"


def test_records_read_again_from_any_offset_in_other_packs_change_nothing() -> None:
    one = scenario("vaccine-theft")
    once, made, _ = log_of(one, pack_events=500)
    again, _, _ = log_of(one, pack_events=7)
    dice = random.Random(7)
    engine = engine_for(one, made)
    threats: list[Threat] = []
    behind = 0
    for record in once:
        threats += engine.receive(record).threats
        if record.input and dice.random() < 0.3:  # a process that took over reads on from an earlier offset
            for other in again:
                if other.input == record.input and other.first <= record.last < other.last + 40:
                    engine_before = engine.counters()["folded"]
                    if other.last <= record.last:
                        assert not engine.receive(other).threats
                        behind += 1
                        assert engine.counters()["folded"] == engine_before
    assert behind > 20
    assert [told(threat) for threat in threats] == replayed(one)


def test_an_engine_restored_from_its_changes_at_any_record_goes_on_the_same() -> None:
    one = scenario("vaccine-theft")
    records, made, _ = log_of(one, pack_events=20)
    engine = engine_for(one, made)
    entries: dict[str, bytes] = {}
    threats: list[Threat] = []
    dice = random.Random(11)
    for record in records:
        threats += engine.receive(record).threats
        if dice.random() < 0.05:
            for key, value in engine.changes():
                if value is None:
                    entries.pop(key, None)
                else:
                    entries[key] = value
            assert entries == dict(engine.snapshot())
            engine = engine_for(one, made)
            engine.restore(sorted(entries.items()))
    assert [told(threat) for threat in threats] == replayed(one)
