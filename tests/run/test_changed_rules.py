"""A configuration record in the middle of a log: what did not change goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from correlator.matching import EngineSettings
from correlator.run.bodies import Bundle, bundle, rules_from
from correlator.run.deciding import Deciding
from correlator.run.log import Configuration, LogRecord
from correlator.run.site_engine import SiteEngine
from tests.ingest.carried import engine_for, log_of, scenario, scenario_bundle

OVERLAY = """\
rules:
  {changed}: {{timespan: 47m, reason: a test changes it}}
  {off}: {{enabled: false, reason: a test switches it off}}
"""


def other_rules(one, folder: Path, changed: str, off: str) -> Bundle:
    overlay = folder / "overlay.yaml"
    overlay.write_text(OVERLAY.format(changed=changed, off=off))
    rules = ["pack" if rule == "pack" else Path(rule) for rule in one.rules]
    return bundle(one.site_file, rules, overlay, Deciding(EngineSettings(lateness_ms=one.lateness_ms)))


def matches(engine: SiteEngine, records: list[LogRecord]) -> list[bytes]:
    found = []
    for record in records:
        found += [msgspec.json.encode(match) for match in engine.receive(record).matches]
    return found


def rule_of(match: bytes) -> str:
    return msgspec.json.decode(match)["rule"]


@pytest.mark.parametrize("tenths", [1, 3, 5])
@pytest.mark.parametrize("again", [False, True])
def test_rules_that_did_not_change_tell_the_same_matches(tmp_path, tenths, again):
    one = scenario("vaccine-theft")
    records, made, _ = log_of(one, pack_events=5)
    undisturbed = engine_for(one, made)
    by_record = [matches(undisturbed, [record]) for record in records]
    told = [match for some in by_record for match in some]
    rules = rules_from(made.bodies, made.configuration.rules).rules
    referred = {key for rule in rules.correlations.values() for key in rule.rules}
    plain = sorted(key for key in rules.correlations if key not in referred)
    often = sorted(plain, key=lambda key: -sum(rule_of(match) == key for match in told))
    changed, off = often[0], often[1]
    second = other_rules(one, tmp_path, changed, off)
    names = second.configuration
    record = LogRecord(one.site_id, configuration=Configuration(2, names.rules, names.site, names.settings))
    engine = SiteEngine(one.site_id, {**made.bodies, **second.bodies})
    # In the middle of what is told, so that windows and episodes are open.
    middle = next(n for n in range(len(records)) if sum(map(len, by_record[:n])) * 10 >= len(told) * tenths)
    entries: dict[str, bytes] = {}
    found = matches(engine, records[:middle])
    keep(entries, engine)
    found += matches(engine, [record])
    keep(entries, engine)
    assert entries == dict(engine.snapshot())
    if again:  # and a process that restores what was written goes on the same
        engine = SiteEngine(one.site_id, {**made.bodies, **second.bodies})
        engine.restore(sorted(entries.items()))
    found += matches(engine, records[middle:])
    # Rules that only the switched-off one used print by themselves from now on.
    other = {changed, off, *rules.correlations[off].rules}
    same = [match for match in told if rule_of(match) not in other]
    assert len(same) > 20, "the scenario must have matches of other rules"
    assert [match for match in found if rule_of(match) not in other] == same
    assert engine.counts.entries_dropped > 0, "and something must have been open"
    before = sum(rule_of(match) == off for match in matches(engine_for(one, made), records[:middle]))
    assert sum(rule_of(match) == off for match in found) == before, "what is switched off tells nothing more"


def keep(entries: dict[str, bytes], engine: SiteEngine) -> None:
    for key, value in engine.changes():
        if value is None:
            entries.pop(key, None)
        else:
            entries[key] = value


def test_an_older_configuration_that_a_process_repeats_changes_nothing(tmp_path):
    one = scenario("vaccine-theft")
    made = scenario_bundle(one)
    engine = SiteEngine(one.site_id, made.bodies)
    first = msgspec.structs.replace(made.configuration, serial=3)
    engine.receive(LogRecord(one.site_id, configuration=first))
    assert engine.counts.configurations == 1
    missing = Configuration(2, "0" * 64, "0" * 64, "0" * 64)
    engine.receive(LogRecord(one.site_id, configuration=missing))
    engine.receive(LogRecord(one.site_id, configuration=first))
    assert engine.configuration == first
    assert engine.counts.configurations == 1
