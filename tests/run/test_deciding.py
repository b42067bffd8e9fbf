"""What decides beside rules and site: settings and tables of linking and impact as a part of the configuration."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from correlator.errors import FaultyFile, StateRefused
from correlator.impact.settings import ImpactSettings
from correlator.ingest.meter import SiteMeter
from correlator.ingest.metrics import REGISTRY
from correlator.linking.linker import GraphLinker
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import FOLDER
from correlator.matching import EngineSettings
from correlator.matching.carry import unchanged
from correlator.matching.plan import compile_rules
from correlator.premises import load_site
from correlator.rules.load import rules_text
from correlator.run.bodies import TableFiles, baseline_from, bundle, settings_from, sha256, tables_from
from correlator.run.deciding import Deciding
from correlator.run.log import LogRecord
from correlator.run.site_engine import SiteEngine
from tests.ingest.carried import log_of, scenario, scenario_bundle
from tests.run.small import RULES, SITE

OWN_RULE = """\
rules:
  - id: power-loss-stops-dependants
    says: our machines have batteries
    if: {threat: power-loss, on: supply}
    over: depends_on
    way: against
    then: {threat: system-failure, on: device}
    likelihood: 0.1
    delay: [1h, 4h]
"""


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def made(site: Path, deciding: Deciding | None = None, tables: TableFiles | None = None):
    return bundle(site, ["pack"], None, deciding or Deciding(), tables or TableFiles())


def test_settings_of_linking_and_impact_come_back_from_the_configuration(site):
    wanted = Deciding(
        EngineSettings(lateness_ms=7, track_changes=True), LinkingSettings(join=1.25), ImpactSettings(gamma="noisy_or")
    )
    given = made(site, wanted)
    assert settings_from(given.bodies, given.configuration.settings) == wanted
    off = made(site, replace(wanted, linking=None, impact=None))
    assert settings_from(off.bodies, off.configuration.settings) == replace(wanted, linking=None, impact=None)


@pytest.mark.parametrize(
    "other",
    [Deciding(linking=LinkingSettings(join=1.25)), Deciding(linking=None), Deciding(impact=ImpactSettings(told=7))],
)
def test_another_setting_is_another_configuration(site, other):
    assert made(site).configuration == made(site).configuration
    assert made(site, other).configuration.settings != made(site).configuration.settings


def test_an_own_impact_rule_takes_the_place_of_the_shipped_one(site, tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_RULE)
    given = made(site, tables=TableFiles(impact_rules=(tmp_path / "own.yaml",)))
    found = tables_from(given.bodies, given.configuration.tables).impact_rules.rules
    plain = tables_from({}, "").impact_rules.rules
    assert len(found) == len(plain)
    assert [one.likelihood for one in found if one.id == "power-loss-stops-dependants"] == [(100_000,)]


def test_tables_in_another_folder_are_the_same_configuration(site, tmp_path):
    for where in ("a", "b"):
        (tmp_path / where / "impact").mkdir(parents=True)
        (tmp_path / where / "impact/own.yaml").write_text(OWN_RULE)
        shutil.copytree(FOLDER, tmp_path / where / "links")
    one, other = (
        made(site, tables=TableFiles(tmp_path / where / "links", (tmp_path / where / "impact",)))
        for where in ("a", "b")
    )
    assert one.configuration.tables == other.configuration.tables != made(site).configuration.tables


def test_every_fault_of_a_table_is_told_with_its_place(site, tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_RULE.replace("on: device", "on: devise"))
    shutil.copytree(FOLDER, tmp_path / "links")
    (tmp_path / "links/kinds.yaml").write_text("door.forcd: forced-entry\n")
    with pytest.raises(FaultyFile) as found:
        made(site, tables=TableFiles(tmp_path / "links", (tmp_path / "own.yaml",)))
    told = [str(fault) for fault in found.value.faults]
    assert told[0].startswith(f"{tmp_path}/links/kinds.yaml:1:1: 'door.forcd' is no event kind")
    assert told[1].startswith(f"{tmp_path}/own.yaml:7:")


def test_a_setting_of_a_later_release_is_refused(site):
    given = made(site)
    form, kind, engine, zones, linking, impact = msgspec.msgpack.decode(given.bodies[given.configuration.settings])
    body = msgspec.msgpack.encode([form, kind, engine, zones, {**linking, "foresight": 2}, impact])
    with pytest.raises(StateRefused, match="foresight"):
        settings_from({sha256(body): body}, sha256(body))


def test_a_rule_decides_the_same_wherever_it_stands():
    one, moved = rules_text(RULES, "a/rules.yml").rules, rules_text("# moved\n\n" + RULES, "b/other.yml").rules
    plans = [compile_rules(rules, None, None) for rules in (one, moved)]  # type: ignore[arg-type]
    assert plans[0].hash == plans[1].hash
    assert unchanged(plans[0]) == unchanged(plans[1])


# ---- switching linking on and off in a running log -------------------------------------------------------


def test_linking_switched_off_and_on_goes_on_with_the_threats_that_are_open():
    one = scenario("vaccine-theft")
    records, warm, _ = log_of(one, pack_events=20)
    off = bundle(
        one.site_file, ["pack", *(Path(rule) for rule in one.rules if rule != "pack")], one.overlay,
        Deciding(EngineSettings(lateness_ms=one.lateness_ms), linking=None),
    )  # fmt: skip
    engine = SiteEngine(one.site_id, {**warm.bodies, **off.bodies})
    revisions: dict[str, int] = {}
    kept: dict[str, bytes] = {}
    for number, record in enumerate(records):
        if number in (len(records) // 3, len(records) // 2):
            names = off.configuration if number < len(records) // 2 else warm.configuration
            again = msgspec.structs.replace(names, serial=1 + number)
            engine.receive(LogRecord(one.site_id, configuration=again))
            assert isinstance(engine.pipeline.book.linker, GraphLinker) == (names is warm.configuration)
        for threat in engine.receive(record).threats:
            assert threat.revision == revisions.get(threat.id, 0) + 1, "no threat begins anew"
            revisions[threat.id] = threat.revision
        for key, value in engine.changes():
            kept[key] = value
            if value is None:
                del kept[key]
    assert kept == dict(engine.snapshot())
    assert max(revisions.values()) > 10
    assert engine.pipeline.book.linker.engine.closed == [], "ended threats are not kept"


def test_a_baseline_counts_only_where_nothing_was_learned_yet():
    one = scenario("fire-drill")
    made = scenario_bundle(one)
    entries = baseline_from(made.bodies, made.configuration.baseline)
    warm = GraphLinker(load_site(one.site_file), baseline=entries)
    assert not warm.learning(one.until_ms)
    fresh = GraphLinker(load_site(one.site_file), baseline=entries)
    fresh.restore(GraphLinker(load_site(one.site_file)).snapshot())
    assert fresh.snapshot() == warm.snapshot(), "linking was off before: it starts from the baseline"
    assert dict(warm.changes()) == dict(warm.snapshot()), "and the baseline is written as state"
    some = [(key, value) for key, value in warm.snapshot() if "/asset/" not in key]
    fresh.restore(some)
    assert not any("/asset/" in key for key, _ in fresh.snapshot()), "what was forgotten stays so"


@pytest.mark.parametrize(
    ("linking", "warm", "learns"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_site_says_that_it_is_in_its_learning_day(linking, warm, learns):
    one = scenario("fire-drill")
    records, made, _ = log_of(one, pack_events=500)
    deciding = Deciding(
        EngineSettings(lateness_ms=one.lateness_ms), LinkingSettings() if linking else None, ImpactSettings()
    )
    if not warm:
        made = bundle(one.site_file, ["pack"], one.overlay, deciding)
        first = msgspec.structs.replace(made.configuration, serial=1)
        records = [msgspec.structs.replace(records[0], configuration=first), *records[1:]]
    engine = SiteEngine(one.site_id, made.bodies)
    for record in records:
        engine.receive(record)
    SiteMeter(one.site_id).engine(engine, one.until_ms)
    assert engine.learning() == learns
    assert REGISTRY.get_sample_value("correlator_learning", {"site": one.site_id}) == learns
