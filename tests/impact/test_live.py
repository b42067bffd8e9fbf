"""Impact of threats as they grow: seeds from findings, conditions from live state, told in event time."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from correlator.errors import StateRefused
from correlator.events.event import Entity, Event
from correlator.events.threat import Finding, Threat
from correlator.impact.live import LiveImpact
from correlator.lab.campus import Campus
from correlator.marked import load_documents
from correlator.matching import EngineSettings, Record
from correlator.premises.load import site_of
from correlator.rules.load import load_rules
from correlator.run.deciding import Deciding, pipeline_of
from correlator.run.pipeline import Pipeline

T = 1_772_438_400_000  # 2026-03-02T08:00:00Z
SITE = """\
site: {id: h1, name: Small hospital, timezone: Europe/Rome}
floors:
  - id: f0
    zones: [{id: z-hall}, {id: z-store, restricted: true}, {id: z-ward}]
    doors:
      - {id: d-main, between: [outside, z-hall]}
      - {id: d-store, between: [z-hall, z-store]}
      - {id: d-ward, between: [z-hall, z-ward]}
assets:
  - {id: cam-1, class: camera, zone: z-hall}
  - {id: stock, class: supply, zone: z-store, criticality: 4}
  - {id: panel, class: controller, zone: z-hall}
relations:
  - {from: cam-1, to: d-store, type: covers}
  - {from: cam-1, to: z-hall, type: covers}
  - {from: panel, to: d-store, type: controls}
people:
  - {id: p-017, badges: [{id: "7017"}], works_in: [z-store]}
services:
  - {id: s-pharmacy, name: Hospital pharmacy, criticality: 5, needs: stock}
protections:
  - {id: watch, asset: d-store, against: [forced-entry], of: [cam-1], degree: 0.8}
windows:
  - {id: w-lift, zones: [z-hall], kinds: [loitering.detected], from: "2026-03-03T00:00:00Z", to: "2026-03-04T00:00:00Z",
     why: Lift service}
"""
RULES = """\
title: Somebody loiters
name: loiters
level: critical
logsource: {product: correlator}
x-correlator: {threat-type: unauthorised-presence}
detection: {s: {kind: loitering.detected}, condition: s}
---
title: Door forced
name: forced
level: critical
logsource: {product: correlator}
x-correlator: {threat-type: forced-entry}
detection: {s: {kind: door.forced}, condition: s}
---
title: Somebody loiters, then a door is forced
name: both
level: high
x-correlator: {threat-type: intrusion}
correlation: {type: temporal, rules: [loiters, forced], timespan: 1d, generate: true}
"""


def premises():
    return site_of(load_documents(SITE, "site.yaml")[0], "site.yaml")


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(RULES)
    loaded = load_rules([path])
    assert not loaded.errors, loaded.errors
    return loaded.rules


def event(number: int, kind: str, seconds: int, *entities: tuple[str, str, str]) -> Event:
    t_ms = T + seconds * 1000
    return Event(
        id=f"{number:032x}",
        site="h1",
        source="s",
        dialect="d",
        kind=kind,
        time_ms=t_ms,
        received_ms=t_ms,
        carried={"direction": "in"} if kind.startswith("badge.") else {},
        entities=tuple(Entity(role, entity_kind, name) for role, entity_kind, name in entities),
    )


STORY = [
    event(1, "loitering.detected", 0, ("observer", "camera", "cam-1"), ("where", "zone", "z-hall")),
    event(2, "camera.offline", 60, ("observer", "camera", "cam-1")),
    event(3, "camera.online", 120, ("observer", "camera", "cam-1")),
    event(4, "door.locked", 180, ("where", "door", "d-store")),
    event(5, "door.unlocked", 240, ("where", "door", "d-store")),
    event(6, "badge.entered", 300, ("where", "door", "d-store"), ("actor", "badge", "7017")),
    event(7, "door.forced", 400, ("where", "door", "d-store")),
    event(8, "camera.offline", 500, ("observer", "camera", "cam-1")),
]


def fresh(rules) -> Pipeline:
    return pipeline_of(premises(), rules, Deciding(EngineSettings(lateness_ms=0), linking=None))


def run(rules, events, size: int = 1, restart_every: int = 0) -> list[Threat]:
    """Every revision told, the events in records of `size`, a new pipeline after every so many records."""
    pipeline = fresh(rules)
    told: list[Threat] = []
    records = [events[at : at + size] for at in range(0, len(events), size)]
    for number, some in enumerate(records, 1):
        told += pipeline.receive(Record(events=list(some), ticks={"i": some[-1].time_ms}, input="i")).threats
        if restart_every and number % restart_every == 0:
            entries = pipeline.snapshot()
            pipeline = fresh(rules)
            pipeline.restore(entries)
    told += pipeline.finish(T + 3_600_000).threats
    return told


def chance(threat: Threat, asset: str, threat_type: str) -> float:
    return next((one.likelihood for one in threat.impact if (one.asset, one.threat_type) == (asset, threat_type)), 0.0)


def test_a_threat_tells_what_it_may_lead_to_and_what_to_do(rules):
    last = run(rules, STORY)[-1]
    (service,) = [one for one in last.impact if one.service]
    assert (service.asset, service.threat_type, service.criticality) == ("s-pharmacy", "service-unavailable", 5)
    assert [step.asset for step in service.path] == ["d-store", "z-store", "stock", "s-pharmacy"]
    assert last.expected_loss == pytest.approx(5 * service.likelihood, abs=1e-5)
    assert last.expected_loss_advised < last.expected_loss
    assert any(one.advised for one in last.advice)


def test_the_severity_counts_care_services_likely_to_be_hit():
    live = LiveImpact(premises())
    low = live.revise("t", [finding("a", "z-hall", "loitering", "low")], T)
    assert low.severity == ""
    grave = live.revise("t", [finding("a", "stock", "theft", "high")], T)
    assert grave.severity == "critical"  # 0.8 x 0.9 of a service of criticality 5
    assert grave.services == (("s-pharmacy", "critical"),)


def finding(name: str, asset: str, threat_type: str, level: str = "critical", windows=(), t_ms: int = T) -> Finding:
    return Finding(
        id=name,
        site="h1",
        kind="k",
        title="t",
        asset=asset,
        t_ms=t_ms,
        domain="physical",
        level=level,
        threat_type=threat_type,
        windows=windows,
    )


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], 0.25 * 0.2),  # protected by 0.8
        (STORY[1:2], 0.25),  # the camera is dark
        (STORY[1:3], 0.25 * 0.2),  # and sees again
        (STORY[3:4], 0.25 * 0.4 * 0.2),  # the door is locked
        (STORY[1:2] + STORY[3:4], 0.25 * 0.4),
        ([event(9, "door.opened", 0, ("where", "door", "d-store"))], (0.25 + 0.5 * 0.74) * 0.2),
    ],
)
def test_protections_doors_and_health_are_those_of_that_moment(events, expected):
    site = premises()
    for one in events:
        site.observe(one)
    live = LiveImpact(site)
    live.revise("t", [finding("a", "z-hall", "loitering")], T + 1_000_000)
    told = {(one.asset, one.threat_type): one.likelihood for one in live.tell("t").impacts}
    assert told.get(("d-store", "forced-entry"), 0.0) == pytest.approx(expected if expected >= 0.05 else 0.0, abs=2e-6)


def test_staff_in_a_room_hinder_who_breaks_in_until_they_have_been_gone_for_long():
    site = premises()
    live = LiveImpact(site)
    found = [finding("a", "d-store", "forced-entry")]

    def into_store(t_ms: int) -> float:
        live.revise("t", found, t_ms)
        impacts = live.tell("t").impacts
        return next(one.likelihood for one in impacts if (one.asset, one.threat_type) == ("z-store", "intrusion"))

    assert into_store(T) == 0.8
    site.observe(event(1, "badge.entered", 0, ("where", "door", "d-store"), ("actor", "badge", "7017")))
    assert into_store(T + 60_000) == pytest.approx(0.8 * 0.7, abs=1e-6)
    assert into_store(T + 86_400_000) == 0.8


def test_what_was_hit_gives_no_protection_any_more():
    live = LiveImpact(premises())
    alone = live.revise("one", [finding("a", "z-hall", "loitering")], T)
    with_camera = live.revise(
        "two", [finding("a", "z-hall", "loitering"), finding("b", "cam-1", "surveillance-loss")], T
    )
    assert with_camera.loss > 2 * alone.loss


def test_announced_work_starts_nothing():
    live = LiveImpact(premises())
    outlook = live.revise("t", [finding("a", "stock", "theft", windows=("w-lift",))], T)
    assert live.tell("t").impacts == ()
    assert outlook.severity == outlook.key == ""


def test_a_finding_the_model_cannot_place_has_no_impact():
    live = LiveImpact(premises())
    found = [finding("a", "unknown:host:pc9", "malware"), finding("b", "stock", ""), finding("c", "stock", "nonsense")]
    assert live.revise("t", found, T).loss == 0
    assert live.tell("t").impacts == ()


def test_a_camera_that_goes_dark_revises_the_threat_it_bears_on(rules):
    told = run(rules, STORY[:2])
    before, after = told[0], told[-1]
    assert chance(before, "d-store", "forced-entry") < chance(after, "d-store", "forced-entry") == 0.27
    assert [one.revision for one in told] == [1, 2]


@pytest.mark.parametrize("restart_every", [1, 2, 3])
def test_a_restored_engine_tells_the_same(rules, restart_every):
    assert encode(run(rules, STORY, restart_every=restart_every)) == encode(run(rules, STORY))


@pytest.mark.parametrize("size", [2, 4, len(STORY)])
def test_how_events_are_packed_changes_nothing(rules, size):
    assert encode(run(rules, STORY, size)) == encode(run(rules, STORY))


def encode(threats: list[Threat]) -> list[bytes]:
    return [msgspec.json.encode(one) for one in threats]


def test_severity_never_falls_while_a_threat_is_open(rules):
    ranks = ("informational", "low", "medium", "high", "critical")
    told = [ranks.index(one.severity) for one in run(rules, STORY) if one.phase == "threat"]
    assert told == sorted(told)


def test_what_a_threat_watches_is_state_and_outlives_a_restart():
    live = LiveImpact(premises())
    live.revise("t", [finding("a", "z-hall", "loitering")], T)
    written = dict(live.changes())
    assert written == dict(live.snapshot())
    again = LiveImpact(premises())
    again.restore(written.items())
    assert again.knows("t")
    assert again.watches("t", ["cam-1"])
    assert not again.watches("t", ["panel"])
    assert dict(again.snapshot()) == written
    again.revise("t", [finding("a", "z-hall", "loitering")], T)
    assert dict(again.snapshot()) == written
    again.forget("t")
    assert dict(again.changes()) == dict.fromkeys(written)
    with pytest.raises(StateRefused):
        again.restore([("2/watch/t", b"")])


def test_merged_and_closed_threats_are_forgotten():
    live = LiveImpact(premises())
    live.revise("t", [finding("a", "z-hall", "loitering")], T)
    assert live.watches("t", ["cam-1"])
    assert not live.watches("t", ["panel"])
    live.forget("t")
    assert not live.watches("t", ["cam-1"])
    assert live.advise("t") == ((), 0.0)


def test_a_hundred_thousand_findings_on_one_asset_are_one_seed():
    live = LiveImpact(premises())
    found = [finding(str(number), "z-hall", "loitering", t_ms=T + number) for number in range(100_000)]
    outlook = live.revise("t", found, T)
    assert outlook == LiveImpact(premises()).revise("t", found[:1], T)


@pytest.mark.parametrize("seed", range(12))
def test_a_threat_that_grew_is_told_as_one_that_is_looked_at_for_the_first_time(seed, campus_site):
    """Findings come one by one, doors and cameras change in between; the kept paths give what new ones give."""
    dice = Random(seed)
    site = site_of(load_documents(campus_site, "campus.yaml")[0], "campus.yaml")
    live = LiveImpact(site)
    names = [name for name in site.assets if name.startswith("b1-w1")]
    doors = [name for name in names if site.assets[name].asset_class == "door"]
    things = [name for name in names if site.assets[name].asset_class == "camera"]
    badges = [person for person in site.site.people.values() if person.id.startswith("b1-w1")]
    found: list[Finding] = []
    moved = 0
    for step in range(12):
        t_ms = T + step * 60_000
        what = dice.randrange(4)
        if what <= 1 or not found:
            asset = dice.choice(names)
            threat = dice.choice(("intrusion", "forced-entry", "malware", "fire", "loitering", "system-failure"))
            level = dice.choice(("medium", "high", "critical"))
            found.append(finding(f"f{step}", asset, threat, level, t_ms=t_ms))
        elif what == 2:
            kind = dice.choice(("door.opened", "door.closed", "door.locked", "door.unlocked"))
            site.observe(event(step, kind, step * 60, ("where", "door", dice.choice(doors))))
        else:
            site.observe(
                event(
                    step,
                    dice.choice(("camera.offline", "camera.online")),
                    step * 60,
                    ("observer", "camera", dice.choice(things)),
                )
            )
            one = dice.choice(badges).badges[0].id
            site.observe(
                event(
                    step + 100,
                    "badge.entered",
                    step * 60,
                    ("where", "door", dice.choice(doors)),
                    ("actor", "badge", one),
                )
            )
        kept, fresh = live.revise("t", found, t_ms), LiveImpact(site)
        assert kept == fresh.revise("t", found, t_ms)
        assert live.tell("t") == fresh.tell("t")
        assert live.advise("t") == fresh.advise("t")
        moved += bool(live.tell("t").impacts)
    assert moved > 3


@pytest.fixture(scope="module")
def campus_site() -> str:
    return "".join(Campus(60, seed=5).site_yaml())
