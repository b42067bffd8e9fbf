"""The properties that linking must hold (docs/linking.md, "Properties"), by their names there."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from correlator.events.kinds import KINDS
from correlator.lab.hospitals import hospital
from correlator.lab.linking_eval import premises_of
from correlator.linking import state
from correlator.linking.engine import OF_X, PACE_BINS, TERMS, Item, LinkEngine
from correlator.linking.ground import SiteGround
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import shipped_tables

_spec = importlib.util.spec_from_file_location("ward", Path(__file__).parent / "ward.py")
assert _spec is not None and _spec.loader is not None
ward = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ward)

PLACES = ward.premises()
WEEK = ward.ordinary(seed=7, days=6)


def threat_with(of, finding):
    return next((one for one in of.all_threats() if finding in one.members), None)


def best_x(of, touched, target):
    """x of a finding against what touched an asset, from a threat opened by `touched`."""
    of.place(touched)
    placed = of.place(target)
    threat = threat_with(of, target.id)
    return (threat.members[target.id].x if threat and threat.members[target.id].source else None), placed


# ---- 1


def lines_of(items):
    return [
        json.dumps(
            {
                "id": one.id,
                "kind": one.kind,
                "asset": one.asset,
                "t_ms": one.t_ms,
                "domain": one.domain,
                "level": one.level,
            }
        )
        for one in items
    ]


def run_link(folder, lines, seed="0"):
    (folder / "site.json").write_text(json.dumps(ward.ward_site()))
    (folder / "findings.ndjson").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "correlator", "link", "--site", "site.json", "findings.ndjson"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done.stdout


def test_01_order_of_lines_duplicates_and_hash_seed_change_no_byte(tmp_path):
    lines = lines_of([*WEEK, *ward.theft(ward.evening(5))])
    shuffled = lines + lines[::3]
    random.Random(1).shuffle(shuffled)
    first = run_link(tmp_path, lines, "1")
    assert first.count("\n") == 1
    assert run_link(tmp_path, shuffled, "2") == first


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 500))
def test_01_restoring_a_snapshot_at_any_point_changes_nothing(cut):
    items = sorted([*WEEK, *ward.theft(ward.evening(4))], key=lambda one: (one.t_ms, one.id))
    cut = cut * len(items) // 500
    whole = ward.engine(PLACES)
    for one in items[:cut]:
        whole.place(one)
    again = ward.engine(PLACES)
    state.restore(again, state.snapshot(whole))
    for one in items[cut:]:
        whole.place(one)
        again.place(one)
    assert state.snapshot(again) == state.snapshot(whole)
    open_ones = {one.id: one.score for one in whole.threats.values()}
    assert {one.id: one.score for one in again.threats.values()} == open_ones


def test_01_state_of_before_links_knew_the_pace_of_their_threat_is_read():
    theft = ward.theft(ward.evening(5))
    of = ward.fold(ward.engine(PLACES), [*[one for one in WEEK if one.t_ms < theft[0].t_ms], *theft[:3]])
    older = []
    for key, value in state.snapshot(of):
        data = msgspec.msgpack.decode(value)
        if key.startswith(f"{state.PREFIX}threat/"):
            for link in (data[1], *data[3], *data[4], *([data[15][1]] if data[15] else [])):
                del link[4][TERMS.index("pace")]
        older.append((key, msgspec.msgpack.encode(data)))
    again = ward.engine(PLACES)
    state.restore(again, older)
    threat = threat_with(again, theft[0].id)
    for link in threat.members.values():
        assert dict(zip(TERMS, link.terms, strict=True))["pace"] == 0
        assert link.terms[:4] == threat_with(of, theft[0].id).members[link.target].terms[:4]
    assert threat.pace == threat_with(of, theft[0].id).pace != {}


def test_01_changed_entries_add_up_to_the_snapshot():
    items = [*WEEK, *ward.theft(ward.evening(4))]
    kept: dict[str, bytes] = {}
    of = ward.engine(PLACES)
    for number, one in enumerate(sorted(items, key=lambda one: (one.t_ms, one.id))):
        of.place(one)
        if number % 5 == 0:
            for key, value in state.changes(of):
                kept.pop(key, None) if value is None else kept.update({key: value})
    for key, value in state.changes(of):
        kept.pop(key, None) if value is None else kept.update({key: value})
    assert sorted(kept.items()) == state.snapshot(of)


# ---- 2


def test_02_no_link_without_a_path_and_two_unconnected_sites_never_share_a_threat():
    of = ward.fold(ward.engine(PLACES), [*WEEK, *ward.theft(ward.evening(5)), *ward.theft(ward.evening(3), "b")])
    for threat in of.all_threats():
        assert len({member.split("@")[1][0] for member in threat.members}) == 1
    assert len(ward.told(of)) == 2


def test_02_cutting_the_only_edge_splits_the_threat():
    items = [*WEEK, *ward.theft(ward.evening(5))]
    whole = ward.fold(ward.engine(PLACES), items)
    usb, stock = (one.id for one in ward.theft(ward.evening(5))[2:])
    assert threat_with(whole, usb) is threat_with(whole, stock)
    parted = ward.fold(ward.engine(ward.premises(cut="a-pc-0>a-stock")), items)
    assert threat_with(parted, stock) is not threat_with(parted, usb)


# ---- 3


def test_03_a_kind_that_comes_every_few_minutes_for_days_never_opens_a_threat_and_never_lifts_a_score():
    noise = [
        ward.item("ids.anomaly", "a-pc-0", ward.START_MS + at * 7 * MINUTE_MS) for at in range(6 * 24 * 60 // 7)
    ] + [ward.item("host.note", "a-door-0", ward.START_MS + at * 13 * MINUTE_MS) for at in range(6 * 24 * 60 // 13)]
    theft = ward.theft(ward.evening(5))
    heard = [noise[0], noise[6 * 24 * 60 // 7]]  # of both assets, so that N is the same
    plain = ward.fold(ward.engine(PLACES), [*WEEK, *theft, *heard])
    noisy = ward.fold(ward.engine(PLACES), [*WEEK, *theft, *noise])
    names = {one.id for one in noise}
    reported = [one for one in noisy.all_threats() if one.score >= 4]
    assert all(not names & set(one.members) for one in reported)
    assert max(one.score for one in reported) <= max(one.score for one in plain.all_threats())


# ---- 4


def test_04_raising_an_assets_rate_of_equally_rare_findings_never_raises_the_strength_of_a_link_to_it():
    rare = sorted(name for name, kind in KINDS.items() if kind.domain == "cyber" and kind.level != "critical")[:40]
    strengths = []
    for times in (0, 1, 3, 8, 20, 40):
        dice = random.Random(3)
        own = [
            ward.item(kind, "a-pc-0", ward.START_MS + 2 * DAY_MS + dice.randrange(2 * DAY_MS), "low")
            for kind in rare[:times]
        ]
        of = ward.fold(ward.engine(PLACES), [*ward.ordinary(11, 5), *own])
        x, _ = best_x(
            of,
            ward.item("door.forced", "a-door-0", ward.evening(5)),
            ward.item("wmi.subscribed", "a-pc-0", ward.evening(5) + 2 * MINUTE_MS),
        )
        strengths.append(x if x is not None else -math.inf)
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] > strengths[-1]


# ---- 5


def strength(places=PLACES, delay_ms=3 * MINUTE_MS, **changes):
    of = ward.fold(ward.engine(places, **changes), ward.ordinary(11, 5))
    door = ward.item("door.forced", "a-door-0", ward.evening(5), "high")  # so that its threat waits a day
    of.place(door)
    of.advance(ward.evening(5) + delay_ms)
    from correlator.linking.engine import EVIDENCE, Episode

    target = ward.item("service.installed", "a-pc-0", ward.evening(5) + delay_ms)
    place = of.rates.assets[target.asset]
    episode = Episode(target, place, "persistence", EVIDENCE["low"])
    _, surprise = of.rates.rate(place, target.kind, ward.evening(5))
    episode.chance = math.log(of.rates.tail_rates(place, of.rates.bin_of(surprise), ward.evening(5))[1])
    found = of._candidates(episode, target)
    threat = threat_with(of, door.id)
    return found[threat.id][0] if threat.id in found else None


def test_05_x_falls_with_delay_and_beyond_the_horizon_there_is_no_link():
    strengths = [
        strength(delay_ms=delay) for delay in (SECOND_MS, MINUTE_MS, 10 * MINUTE_MS, 3 * HOUR_MS, 20 * HOUR_MS)
    ]
    assert all(first > then for first, then in itertools.pairwise(strengths))
    assert strength(delay_ms=DAY_MS) is None


delays = st.integers(0, DAY_MS - 1)


@given(st.lists(delays, min_size=1, max_size=12), delays, delays)
def test_05_x_falls_with_delay_whatever_the_pace_of_the_threat(known, one, other):
    of = ward.engine(PLACES)
    pace = Counter(round(PACE_BINS * math.log(1 + delay / MINUTE_MS)) for delay in known)
    sooner, later = (-math.log(delay + MINUTE_MS) + of._paced(pace, delay) for delay in sorted((one, other)))
    assert sooner >= later
    assert sooner > later or one == other


@pytest.mark.parametrize(
    ("pace_min", "delay_min", "better"), [(5, 4, True), (5, 60, False), (60, 50, True), (60, 1200, False)]
)
def test_05_a_step_is_worth_more_at_the_pace_of_its_threat_and_less_when_it_comes_much_later(
    pace_min, delay_min, better
):
    of = ward.engine(PLACES)
    once, often = (
        of._paced({round(PACE_BINS * math.log(1 + pace_min)): times}, delay_min * MINUTE_MS) for times in (1, 4)
    )
    assert (once > 0) is better
    assert (often > once) is better


def test_05_the_pace_of_a_threat_only_moves_what_its_delays_are_worth():
    of, steps = ward.engine(PLACES), 20_000
    span = math.log(1 + DAY_MS / MINUTE_MS)
    pace = {4: 1, 7: 2, 9: 1}
    at = [(number + 0.5) * span / steps for number in range(steps)]
    held = math.fsum(math.exp(of._paced(pace, round(MINUTE_MS * math.expm1(one)))) for one in at) / steps
    assert held == pytest.approx(1.0, abs=1e-3)


def test_05_x_falls_with_the_number_of_assets_reached_and_grows_with_edge_weight():
    from correlator.premises import site_of

    def with_more(number, strength_=None):
        site = ward.ward_site()
        site["assets"] += [{"id": f"more-{at}", "class": "host", "zone": "a-room-0"} for at in range(number)]
        if strength_ is not None:
            site["relations"].append({"from": "a-door-0", "to": "a-room-0", "type": "leads_to", "strength": strength_})
        return site_of(site, "ward")

    by_number = [strength(with_more(number)) for number in (0, 2, 5)]
    assert by_number == sorted(by_number, reverse=True)
    assert by_number[0] > by_number[-1]
    by_weight = [strength(with_more(0, weight)) for weight in (0.45, 0.7, 0.95)]
    assert by_weight == sorted(by_weight)
    assert by_weight[0] < by_weight[-1]


# ---- 6


def test_06_an_unrelated_asset_with_its_own_noise_never_becomes_a_member():
    dice = random.Random(5)
    noise = [
        ward.item(
            "host.alert", f"b-pc-{dice.randrange(6)}", ward.START_MS + dice.randrange(6 * DAY_MS), name=f"noise-{at}"
        )
        for at in range(300)
    ]
    theft = ward.theft(ward.evening(5))
    plain = ward.fold(ward.engine(PLACES), [*WEEK, *theft])
    noisy = ward.fold(ward.engine(PLACES), [*WEEK, *theft, *noise])
    first, second = (threat_with(one, theft[0].id) for one in (plain, noisy))
    assert set(first.members) == set(second.members)


# ---- 7


def test_07_repeating_a_finding_within_its_episode_adds_nothing():
    theft = ward.theft(ward.evening(5))
    last = theft[-1]
    again = [ward.item(last.kind, last.asset, last.t_ms + at * SECOND_MS, last.level) for at in range(1, 500, 7)]
    week = [one for one in WEEK if one.t_ms < last.t_ms]
    once = ward.told(ward.fold(ward.engine(PLACES), [*week, *theft]))
    assert once
    assert ward.told(ward.fold(ward.engine(PLACES), [*week, *theft, *again])) == once


def test_07_n_kinds_in_one_burst_add_less_than_n_times_one():
    kinds = ("service.installed", "task.created", "policy.changed", "registry.changed", "log.cleared", "wmi.subscribed")
    gains = []
    week = [one for one in WEEK if one.t_ms < ward.evening(5)]
    of = ward.fold(ward.engine(PLACES), [*week, ward.item("door.forced", "a-door-0", ward.evening(5))])
    for at, kind in enumerate(kinds):
        one = ward.item(kind, "a-pc-0", ward.evening(5) + MINUTE_MS + at * 10 * SECOND_MS, "low")
        of.place(one)
        threat = threat_with(of, one.id)
        gains.append(threat.members[one.id].gain if threat else 0.0)
    assert sum(gains) < len(kinds) * gains[0]


# ---- 8


def test_08_a_habit_learned_on_one_asset_weakens_the_same_burst_on_another():
    habit = []
    for day in range(5):
        for hour in range(0, 24, 2):
            at = ward.START_MS + day * DAY_MS + hour * HOUR_MS
            habit += [
                ward.item("door.unlocked", "b-door-3", at),
                ward.item("door.held", "b-door-3", at + 20 * SECOND_MS),
            ]
    pair = [
        ward.item("door.unlocked", "a-door-5", ward.evening(5)),
        ward.item("door.held", "a-door-5", ward.evening(5) + 20_000),
    ]
    apart = [
        one if one.kind == "door.unlocked" else ward.item("door.held", "b-door-9", one.t_ms + HOUR_MS) for one in habit
    ]

    def x_of(learned):
        of = ward.fold(ward.engine(PLACES), [*WEEK, *learned])
        return of, [of.place(one) for one in pair] and threat_with(of, pair[1].id)

    _, with_habit = x_of(habit)
    _, without = x_of(apart)
    assert without.members[pair[1].id].x > with_habit.members[pair[1].id].x + 1


@pytest.mark.parametrize("habit", [True, False])
def test_08_what_always_comes_along_is_no_step_whoever_else_may_have_led_to_it(habit):
    learned = []
    for hour in range(0, 120, 2):
        at = ward.START_MS + hour * HOUR_MS
        learned += [
            ward.item("door.unlocked", "b-door-3", at),
            ward.item("door.held", "b-door-3", at + 20 * SECOND_MS)
            if habit
            else ward.item("door.held", "b-door-9", at + HOUR_MS),
        ]
    at = ward.evening(5)
    steps = [
        ward.item("camera.offline", "a-camera", at, "high"),
        ward.item("door.unlocked", "a-door-0", at + 3 * MINUTE_MS),
        ward.item("door.held", "a-door-0", at + 3 * MINUTE_MS + 20 * SECOND_MS),
    ]
    of = ward.fold(ward.engine(PLACES), [*WEEK, *learned, *steps])
    along = threat_with(of, steps[0].id).members[steps[2].id]
    assert along.how == ("companion" if habit else "link")
    assert (abs(along.gain) < 1e-9) is habit


# ---- 9


def test_09_a_silent_sites_first_finding_is_no_threat():
    of = ward.engine(PLACES, from_ms=ward.START_MS)
    of.place(ward.item("service.installed", "a-pc-3", ward.START_MS + 30 * DAY_MS))
    assert ward.told(of) == []


def test_09_a_new_detector_switched_on_is_no_threat():
    for seed in range(5):
        dice = random.Random(seed)
        new = [
            ward.item(
                "host.alert",
                f"a-pc-{dice.randrange(24)}",
                ward.evening(4) + dice.randrange(18 * HOUR_MS),
                "medium",
                name=f"new-{at}",
            )
            for at in range(60)
        ]
        week = [one for one in ward.ordinary(seed, 6) if one.kind != "host.alert"]
        names = {one.id for one in new}
        of = ward.fold(ward.engine(PLACES), [*week, *new])
        assert [one for one in ward.told(of) if names & set(one[2])] == []


# ---- 10


@pytest.mark.parametrize("every_h", [1, 6, 24])
def test_10_a_critical_finding_is_reported_at_once_at_any_base_rate(every_h):
    of = ward.engine(PLACES)
    for at in range(5 * 24 // every_h):
        alarm = ward.item("fire.alarm", "a-sensor-3", ward.START_MS + at * every_h * HOUR_MS, "critical")
        placed = of.place(alarm)
        assert placed is not None
        assert placed.threat is not None
        assert placed.threat.score >= of.settings.threat


def test_10_twice_in_a_day_gives_two_episodes_and_not_silence():
    of = ward.engine(PLACES)
    first, second = (
        ward.item("panic.pressed", "a-sensor-3", ward.evening(4) + at, "critical") for at in (0, 3 * HOUR_MS)
    )
    assert of.place(first) is not None
    assert of.place(second) is not None


# ---- 11


def test_11_seven_thousand_findings_on_one_asset_do_not_remove_a_running_attacks_members_elsewhere():
    theft = ward.theft(ward.evening(5))
    flood = [
        ward.item("host.alert", "a-pc-0", ward.evening(5) + 13 * MINUTE_MS + at * SECOND_MS, name=f"flood-{at}")
        for at in range(7200)
    ]
    of = ward.fold(ward.engine(PLACES, gap_ms=1), [*WEEK, *theft])
    before = threat_with(of, theft[0].id)
    members = set(before.members)
    for number, one in enumerate(flood):
        of.place(one)
        assert number % 720 or members <= set(before.members)
    assert members <= set(before.members)
    assert len(before.members) <= len(members) + of.settings.max_members_asset


# ---- 12


def test_12_the_score_is_the_sum_of_what_is_shown():
    for seed in range(3):
        of = ward.fold(ward.engine(PLACES), [*ward.ordinary(seed, 6), *ward.theft(ward.evening(5))])
        for threat in of.all_threats():
            links = [*threat.members.values(), *threat.notes]
            for link in links:
                assert math.fsum(link.terms) == pytest.approx(link.gain, abs=1e-9)
                if link.how not in ("root", "adopted"):
                    assert math.fsum(link.terms[:OF_X]) == pytest.approx(link.x, abs=1e-9)
            assert math.fsum([*(link.gain for link in links), threat.counted_gain]) == pytest.approx(
                threat.score, abs=1e-9
            )


def test_12_a_merge_never_lowers_the_surviving_threats_score_and_closing_loses_no_reported_threat():
    merges = 0
    for seed in range(1, 7):
        made = hospital(seed)
        often = LinkingSettings(merge=2.0, parent=0.0)
        of = LinkEngine("h", SiteGround(premises_of(made), often), shipped_tables(), often, made.from_ms)
        seen: dict[str, float] = {}
        for one in made.findings:
            placed = of.place(Item(one["id"], one["kind"], one["asset"], one["t_ms"], one["domain"], one["level"]))
            for source in placed.merged if placed else ():
                merges += 1
                assert placed.threat.score >= seen.get(source, -math.inf) - 1e-9
                assert placed.threat.score >= seen.get(placed.threat.id, -math.inf) - 1e-9
            for threat in of.threats.values():
                seen[threat.id] = threat.score
        reported = {name for name, score in seen.items() if score >= 4}
        kept = {name for threat in of.all_threats() for name in (threat.id, *threat.aliases)}
        assert reported
        assert reported <= kept
    assert merges


@pytest.mark.parametrize("late_h", [2, 3, 5])
def test_12_parts_that_only_a_late_weak_link_holds_are_scored_each_by_itself(late_h):
    first = ward.theft(ward.evening(5))[:2]
    before = [one for one in WEEK if one.t_ms < first[0].t_ms]
    at = first[0].t_ms + late_h * HOUR_MS
    later = [
        ward.item("door.held", "a-door-0", at),
        ward.item("usb.attached", "a-pc-0", at + 2 * MINUTE_MS),
    ]
    joined = {"join_slope": 2.0, "parent": 1.0, "pace_shape": 0.0}  # so that it grows by such a link
    of = ward.fold(ward.engine(PLACES, **joined), [*before, *first, *later])
    threat = threat_with(of, first[0].id)
    assert threat is threat_with(of, later[1].id)
    parts = of.settled(threat)
    held = [set(part.members) for part in parts]
    assert held[0] == {one.id for one in first}
    assert {one.id for one in later} in held
    assert parts[0].id == threat.id
    assert parts[0].score > of.settings.watch > parts[1].score
    assert set(of.core(threat)) == set(parts[0].members)
    for part in parts:
        links = [*part.members.values(), *part.notes]
        assert math.fsum(link.gain for link in links) == pytest.approx(part.score, abs=1e-9)
        for link in links:
            assert math.fsum(link.terms) == pytest.approx(link.gain, abs=1e-9)
    together = ward.fold(ward.engine(PLACES, **joined, late_ms=DAY_MS), [*before, *first, *later])
    assert len(together.settled(threat_with(together, first[0].id))) == 1


@pytest.mark.parametrize(("kind", "asset"), [("host.alert", "a-pc-0"), ("sensor.offline", "a-sensor-0")])
def test_12_what_adds_little_to_a_threat_of_many_members_is_not_told_with_it(kind, asset):
    few = ward.theft(ward.evening(5))
    before = [one for one in WEEK if one.t_ms < few[0].t_ms]
    many = [*few, ward.item("service.installed", "a-pc-0", few[0].t_ms + 9 * MINUTE_MS)]
    late = ward.item(kind, asset, few[-1].t_ms + 15 * MINUTE_MS)
    for steps, changes, told in (
        (few, {"side_from": 6}, True),
        (few, {}, False),
        (many, {}, False),
        (many, {"side_from": 7}, True),
        (many, {"side": 1.0}, True),
    ):
        of = ward.fold(ward.engine(PLACES, **changes), [*before, *steps, late])
        threat = threat_with(of, late.id)
        assert threat is threat_with(of, steps[0].id)
        best = of.settled(threat)[0]
        assert {one.id for one in steps} == set(best.members) - {late.id}
        assert (late.id in best.members) is told
        assert math.fsum(link.gain for link in (*best.members.values(), *best.notes)) == pytest.approx(best.score)
        assert (late.id in of.core(threat)) is told


def test_12_what_is_grave_by_itself_is_told_however_little_it_adds():
    steps = ward.theft(ward.evening(5))
    before = [one for one in WEEK if one.t_ms < steps[0].t_ms]
    grave = ward.item("host.alert", "a-pc-0", steps[-1].t_ms + 15 * MINUTE_MS, "high")
    of = ward.fold(ward.engine(PLACES, side_from=3, side=20.0), [*before, *steps, grave])
    assert grave.id in of.settled(threat_with(of, grave.id))[0].members


def test_12_a_critical_finding_that_came_late_to_a_threat_is_told_with_it():
    first = ward.theft(ward.evening(5))
    before = [one for one in WEEK if one.t_ms < first[0].t_ms]
    alarm = ward.item("fire.alarm", "a-sensor-0", first[0].t_ms + 3 * HOUR_MS, "critical")
    of = ward.fold(ward.engine(PLACES, late_slope=99), [*before, *first, alarm])
    threat = threat_with(of, alarm.id)
    assert first[0].id in threat.members
    assert [alarm.id in part.members for part in of.settled(threat)[:2]] == [False, True]
    assert {first[0].id, alarm.id} <= set(of.core(threat))


# ---- 13


@pytest.mark.parametrize("seed", range(6))
def test_13_across_domains_is_one_threat_without_a_rule_for_the_combination(seed):
    theft = ward.theft(ward.evening(5))
    of = ward.fold(ward.engine(PLACES), [*ward.ordinary(seed, 6), *theft])
    threat = threat_with(of, theft[0].id)
    assert threat.score >= of.settings.threat
    assert {one.id for one in theft} <= set(threat.members)
    assert threat.domains >= {"physical", "cyber"}


@pytest.mark.parametrize("seed", range(6))
def test_13_the_same_findings_spread_over_unrelated_rooms_are_not(seed):
    dice = random.Random(seed)
    rooms = dice.sample(range(3, 24), 2)
    apart = ward.theft(ward.evening(5), rooms=(rooms[0], rooms[1], 0))
    apart[0] = ward.item("camera.offline", "b-camera", apart[0].t_ms)
    of = ward.fold(ward.engine(PLACES), [*ward.ordinary(seed, 6), *apart])
    names = {one.id for one in apart}
    assert [one for one in ward.told(of) if len(names & set(one[2])) >= 3] == []


# ---- 14


def drill(at, dice):
    return [ward.item("door.held", f"a-door-{room}", at + dice.randrange(20 * MINUTE_MS)) for room in range(20)]


def shift_change(at, dice):
    return [
        ward.item("badge.denied", f"a-door-{dice.randrange(24)}", at + dice.randrange(15 * MINUTE_MS)) for _ in range(8)
    ]


def maintenance(at, dice):
    return [ward.item("door.held", "a-door-7", at), ward.item("sensor.offline", "a-sensor-7", at + 12 * MINUTE_MS)]


def doubled_badge(at, dice):
    return [ward.item("badge.denied", "a-door-4", at), ward.item("badge.denied", "a-door-5", at + 40 * SECOND_MS)]


def skewed_clock(at, dice):
    return [ward.item(one.kind, one.asset, one.t_ms + 7 * MINUTE_MS, one.level) for one in shift_change(at, dice)]


@pytest.mark.parametrize("control", [drill, shift_change, maintenance, doubled_badge, skewed_clock])
@pytest.mark.parametrize("seed", range(3))
def test_14_negative_controls_stay_under_4(control, seed):
    made = control(ward.evening(5) - 8 * HOUR_MS, random.Random(seed))
    names = {one.id for one in made}
    of = ward.fold(ward.engine(PLACES), [*ward.ordinary(seed + 20, 6), *made])
    assert [one for one in ward.told(of) if names & set(one[2])] == []


# ---- bounds


def test_new_kinds_and_pairs_beyond_the_bounds_share_a_rate_are_counted_and_push_nothing_out():
    week = [one for one in WEEK if one.t_ms < ward.evening(4)]
    plain = ward.fold(ward.engine(PLACES), week)
    known = {name: dict(one.rates) for name, one in plain.rates.assets.items()}
    of = ward.engine(PLACES, max_kinds=len(plain.rates.kinds), max_rates=plain.rates.pairs_kept)
    ward.fold(of, week)
    for at in range(300):
        of.place(Item(f"x-{at}", f"made.up-{at}", f"a-pc-{at % 24}", ward.evening(4) + at * SECOND_MS, "cyber", "low"))
    assert len(of.rates.kinds) == len(plain.rates.kinds) + 1  # and one for all others
    assert of.rates.pairs_kept == plain.rates.pairs_kept
    assert sum(len(one.rates) for one in of.rates.assets.values()) == of.rates.pairs_kept
    assert of.rates.counters == {"kinds_shared": 300, "rates_dropped": 300}
    assert {name: of.rates.assets[name].rates for name in known} == known
    again = ward.engine(PLACES, max_kinds=len(plain.rates.kinds), max_rates=plain.rates.pairs_kept)
    state.restore(again, state.snapshot(of))
    assert state.snapshot(again) == state.snapshot(of)
    assert again.rates.pairs_kept == of.rates.pairs_kept
