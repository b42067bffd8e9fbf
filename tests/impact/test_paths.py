"""Likelihoods of what follows: all paths above a cutoff, shared steps once, redundancy, common causes."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from correlator.impact.conditions import NOTHING, Conditions
from correlator.impact.graph import RELATION_NUMBER, THREATS, EdgeNote, FlatGraph
from correlator.impact.model import ImpactModel
from correlator.impact.paths import UNAVAILABLE, Paths
from correlator.impact.rules import PPM
from correlator.impact.services import services_hit
from correlator.impact.settings import ImpactSettings
from correlator.lab.campus import Campus
from correlator.premises.model import Span
from tests.impact.sites import (
    RULES,
    ask,
    graph_of,
    likelihood,
    model_of,
    protection,
    random_model,
    random_protections,
    random_rules,
    random_seeds,
    random_site,
)


def everything(model: ImpactModel, paths: Paths) -> dict[str, object]:
    """What paths come to, without the order in which they were found."""
    ways = {
        state: sorted(tuple(paths.states[one] for one in paths.path(label)) for label in labels)
        for state, labels in paths.labels_of.items()
    }
    hits = services_hit(paths)
    return {
        "ways": ways,
        "likelihood": {state: paths.likelihood(state) for state in ways},
        "services": {service: hit.likelihood for service, hit in hits.items()},
        "causes": {service: [cause.source for cause in hit.because] for service, hit in hits.items()},
        "told": model.assess(paths).impacts,
    }


# ---- worked by hand -------------------------------------------------------------------------------------


def test_a_path_is_the_product_of_its_steps():
    model = model_of(
        {"mains": "supply", "chiller": "building_device", "theatre": "zone", "surgery": "service"},
        ["chiller depends_on mains", "chiller controls theatre"],
        needs={"surgery": ("all", "theatre")},
        criticality={"surgery": 5},
    )
    paths = ask(model, "mains", "power-loss")
    assert likelihood(model, paths, "chiller", "system-failure") == 0.9
    assert likelihood(model, paths, "theatre", "unsuitable-temperature") == 0.45  # 0.9 x 0.5
    surgery = model.graph.index["surgery"]
    assert services_hit(paths)[surgery].likelihood == 360_000  # x 0.8


def test_two_ways_that_share_no_step_are_independent():
    model = model_of(
        {"corridor": "zone", "reader": "reader", "door": "door"},
        ["corridor leads_to door", "reader in_zone corridor", "reader controls door"],
    )
    paths = ask(model, "corridor", "loitering")
    # 0.25 through the door itself, 0.25 x 0.5 by way of the reader: 1 - 0.75 x 0.875
    assert likelihood(model, paths, "door", "forced-entry") == 0.34375


def test_a_step_that_several_ways_share_counts_once():
    """Without this, many ways through one bottleneck would be likelier than the bottleneck."""
    assets = {"mail": "host", "lan": "network", "ehr": "software", "service": "service"}
    assets |= {f"pc{number}": "host" for number in range(20)}
    relations = ["mail connects lan"]
    for number in range(20):
        relations += [f"pc{number} connects lan", f"pc{number} hosts ehr"]
    model = model_of(assets, relations, cutoff=0.001)
    paths = ask(model, "mail", "phishing")
    network = likelihood(model, paths, "lan", "reconnaissance")
    assert likelihood(model, paths, "ehr", "malware") < network


@pytest.mark.parametrize(
    ("need", "expected"),
    [
        (("all", "g1", "g2"), 1 - (1 - 0.81) ** 2),
        (("any", "g1", "g2"), 0.81**2),
        ((1, "g1", "g2"), 0.81**2),
        ((2, "g1", "g2", "g3"), 3 * 0.81**2 * (1 - 0.81) + 0.81**3),
        (("all", "g1", ("any", "g2", "g3")), 1 - (1 - 0.81) * (1 - 0.81**2)),
    ],
)
def test_redundancy_counts(need, expected):
    """Each generator fails for a reason of its own: 0.9 that it stops, 0.9 that the service stops with it."""
    assets = {f"m{number}": "supply" for number in (1, 2, 3)} | {
        f"g{number}": "building_device" for number in (1, 2, 3)
    }
    model = model_of(
        assets | {"care": "service"}, [f"g{number} depends_on m{number}" for number in (1, 2, 3)], needs={"care": need}
    )
    paths = model.paths({model.seed(f"m{number}", "power-loss"): PPM for number in (1, 2, 3)})
    assert services_hit(paths)[model.graph.index["care"]].likelihood / PPM == pytest.approx(expected, abs=3e-6)


def test_a_service_fed_by_two_generators_survives_one():
    model = model_of(
        {"g1": "building_device", "g2": "building_device", "care": "service"}, [], needs={"care": ("any", "g1", "g2")}
    )
    paths = ask(model, "g1", "system-failure")
    hit = services_hit(paths).get(model.graph.index["care"])
    assert hit is None or hit.likelihood == 0


def test_two_generators_in_the_room_that_burns_are_one_risk():
    model = model_of(
        {
            "corridor": "zone",
            "door": "door",
            "room": "zone",
            "g1": "building_device",
            "g2": "building_device",
            "care": "service",
        },
        ["corridor leads_to door", "door leads_to room", "g1 in_zone room", "g2 in_zone room"],
        needs={"care": ("any", "g1", "g2")},
        cutoff=0.001,
    )
    paths = ask(model, "corridor", "fire")
    room = likelihood(model, paths, "room", "fire")
    each_given_room = 0.6 * 0.95
    apart = (room * each_given_room) ** 2
    together = room * each_given_room**2
    found = services_hit(paths)[model.graph.index["care"]].likelihood / PPM
    assert found > 5 * apart
    assert found >= together - 1e-6


def test_times_add_in_the_middle_and_in_squares_at_the_edges():
    model = model_of({"a": "host", "b": "software", "s": "service"}, ["a hosts b"], needs={"s": ("all", "b")})
    paths = ask(model, "a", "ransomware")
    told = {(one.asset, one.threat_type): one for one in model.assess(paths).impacts}
    service = told["s", "service-unavailable"]
    # hosts: 0, 1 min, 15 min; service: 1 min, 10 min, 1 h
    assert service.p50_ms == 11 * 60_000
    assert service.p90_ms == pytest.approx((11 + (14**2 + 50**2) ** 0.5) * 60_000, abs=2)
    assert service.p10_ms == pytest.approx((11 - (1**2 + 9**2) ** 0.5) * 60_000, abs=2)


# ---- against plain enumeration --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_every_path_above_the_cutoff_is_there_and_no_other(seed):
    model, dice = random_model(seed, cutoff=0.05)
    seeds = random_seeds(model, dice, 2)
    paths = model.paths(seeds)
    found = {
        tuple(paths.states[one] for one in paths.path(label)) for labels in paths.labels_of.values() for label in labels
    }
    expected = set()

    def follow(path, ppm):
        expected.add(tuple(path))
        for to, step, _ in model.table.links(path[-1], 0):
            asset = to // THREATS
            sent = ppm * step // PPM
            left = {state // THREATS for state in path}
            if to % THREATS == UNAVAILABLE or sent < 50_000:
                continue
            if asset in left and (asset != path[-1] // THREATS or to in path):
                continue
            follow([*path, to], sent)

    for state, ppm in seeds.items():
        follow([state], ppm)
    assert found == expected


# Sites whose trees of paths have 4 to 13 steps, few enough to list; the first seven reach a state over several paths.
@pytest.mark.parametrize(
    "seed", [35, 173, 236, 262, 467, 494, 563, 2, 27, 30, 31, 46, 53, 60, 68, 85, 97, 112, 143, 200]
)
def test_the_likelihood_is_the_chance_that_one_of_the_paths_comes_off(seed):
    """Against all outcomes of all steps of the tree of paths, each on or off."""
    model, dice = random_model(seed, cutoff=0.1)
    paths = model.paths(random_seeds(model, dice, 1))
    labels = range(len(paths.states))
    assert 4 <= len(paths.states) <= 13
    totals = dict.fromkeys(paths.labels_of, 0.0)
    for outcome in product((True, False), repeat=len(paths.states)):
        chance = 1.0
        alive = {}
        for label in labels:
            step = paths.steps[label] / PPM
            chance *= step if outcome[label] else 1 - step
            parent = paths.parents[label]
            alive[label] = outcome[label] and (parent < 0 or alive[parent])
        for state, here in paths.labels_of.items():
            if any(alive[label] for label in here):
                totals[state] += chance
    for state, total in totals.items():
        assert paths.likelihood(state) / PPM == pytest.approx(total, abs=1e-5)


# ---- properties -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("gamma", ["max", "capped_sum", "noisy_or"])
def test_adding_a_protection_never_raises_an_impact(seed, gamma):
    dice = Random(seed)
    assets, relations, needs, criticality = random_site(dice)
    rules = random_rules(dice)
    graph = graph_of(assets, relations, needs, criticality)
    protections = random_protections(dice, assets)
    settings = ImpactSettings(gamma=gamma, cutoff=0.01)
    before = ImpactModel(graph, rules, protections[:-1], settings)
    after = ImpactModel(graph, rules, protections, settings)
    seeds = random_seeds(before, dice, 2)
    one, other = before.paths(seeds), after.paths(seeds)
    for state in other.reached:
        assert other.likelihood(state) <= one.likelihood(state)
    hits = services_hit(one)
    for service, hit in services_hit(other).items():
        assert hit.likelihood <= hits[service].likelihood
    assert after.assess(other).loss <= before.assess(one).loss


@pytest.mark.parametrize("seed", range(60))
def test_removing_an_edge_never_adds_a_path(seed):
    dice = Random(seed)
    assets, relations, needs, criticality = random_site(dice)
    rules = random_rules(dice)
    fewer = list(relations)
    fewer.remove(dice.choice(fewer))
    before = ImpactModel(graph_of(assets, relations, needs, criticality), rules, settings=ImpactSettings(cutoff=0.02))
    after = ImpactModel(graph_of(assets, fewer, needs, criticality), rules, settings=ImpactSettings(cutoff=0.02))
    seeds = random_seeds(before, dice, 2)
    one, other = before.paths(seeds), after.paths(seeds)

    def ways(paths):
        return {
            tuple(paths.states[at] for at in paths.path(label)) for here in paths.labels_of.values() for label in here
        }

    assert ways(other) <= ways(one)
    for state in other.reached:
        assert other.likelihood(state) <= one.likelihood(state)


def steps_of(model: ImpactModel, dice: Random, count: int):
    """A story: seeds come and grow, assets go dark and come back, doors are locked and opened."""
    names = range(len(model.graph.ids))
    seeds: dict[int, int] = {}
    conditions = NOTHING
    for _ in range(count):
        what = dice.randrange(5)
        if what <= 1:
            seeds = {**seeds, **random_seeds(model, dice, 1)}
        elif what == 2:
            dark = set(conditions.dark) ^ {dice.choice(names)}
            conditions = Conditions(frozenset(dark), conditions.eased, conditions.barriers)
        elif what == 3:
            eased = set(conditions.eased) ^ {dice.choice(names)}
            conditions = Conditions(conditions.dark, frozenset(eased), conditions.barriers)
        else:
            barriers = dict(conditions.barriers)
            asset = dice.choice(names)
            if asset in barriers:
                del barriers[asset]
            else:
                barriers[asset] = {dice.choice(("guard", "lock", "isolation")): dice.choice((300_000, 900_000))}
            conditions = Conditions(conditions.dark, conditions.eased, barriers)
        yield dict(seeds), conditions


@pytest.mark.parametrize("seed", range(60))
def test_a_revision_gives_what_starting_anew_gives(seed):
    model, dice = random_model(seed, cutoff=0.02)
    kept = Paths(model.table, model.settings)
    for seeds, conditions in steps_of(model, dice, 12):
        kept.revise(seeds, conditions, 0)
        fresh = model.paths(seeds, conditions)
        assert everything(model, kept) == everything(model, fresh)


@pytest.mark.parametrize("seed", range(20))
def test_a_revision_with_a_bound_met_gives_what_starting_anew_gives(seed):
    model, dice = random_model(seed, cutoff=0.01, max_paths=40)
    kept = Paths(model.table, model.settings)
    for seeds, conditions in steps_of(model, dice, 8):
        kept.revise(seeds, conditions, 0)
        assert everything(model, kept) == everything(model, model.paths(seeds, conditions))
        assert sum(len(labels) for labels in kept.labels_of.values()) <= 40


def test_a_revision_visits_at_most_three_times_the_nodes_whose_value_changed():

    campus = Campus(3_000, seed=7)
    model = ImpactModel(campus.graph(), RULES, campus.protections)
    dice = Random(7)
    visited = changed = 0
    names = [asset for asset, kind in enumerate(model.graph.classes) if kind in (0, 1, 10, 4)]
    for _ in range(40):
        paths = Paths(model.table, model.settings)
        seeds: dict[int, int] = {}
        conditions = NOTHING
        for number in range(6):
            before = {state: paths.likelihood(state) for state in paths.reached}
            services = {one: hit.likelihood for one, hit in services_hit(paths).items()} if number else {}
            if number % 3 == 2:
                asset = dice.choice([state // THREATS for state in paths.reached])
                conditions = conditions.with_barriers([(asset, "guard", 500_000), (asset, "isolation", 500_000)])
            else:
                asset = dice.choice(names)
                threat = {0: "intrusion", 1: "forced-entry", 10: "malware", 4: "surveillance-loss"}
                seeds = {
                    **seeds,
                    model.seed(model.graph.ids[asset], threat.get(model.graph.classes[asset], "fire")): PPM,
                }
            paths.revise(seeds, conditions, 0)
            after = {state: paths.likelihood(state) for state in paths.reached}
            now = {one: hit.likelihood for one, hit in services_hit(paths).items()}
            different = {state for state in after.keys() | before.keys() if after.get(state) != before.get(state)}
            different |= {
                one * THREATS + UNAVAILABLE for one in now.keys() | services.keys() if now.get(one) != services.get(one)
            }
            assert different <= paths.visited | {one * THREATS + UNAVAILABLE for one in now}
            visited += len(paths.visited)
            changed += len(different)
            assert len(paths.visited) <= 3 * max(1, len(different)), (number, len(paths.visited), len(different))
    assert changed > 1_000  # the story moved something
    assert visited <= 1.2 * changed


# ---- protections ----------------------------------------------------------------------------------------

GUARDED = {"corridor": "zone", "door": "door", "store": "zone", "cam": "camera", "guard": "device"}
WAY = ["corridor leads_to door", "door leads_to store"]


@pytest.mark.parametrize(
    ("gamma", "degrees", "expected"),
    [
        ("max", (0.6, 0.5), 0.6),
        ("capped_sum", (0.6, 0.5), 1.0),
        ("capped_sum", (0.3, 0.5), 0.8),
        ("noisy_or", (0.6, 0.5), 0.8),
        ("max", (), 0.0),
    ],
)
def test_protections_combine_by_gamma(gamma, degrees, expected):
    protections = [protection(f"p{at}", "door", "forced-entry", one, ("cam",)) for at, one in enumerate(degrees)]
    model = model_of(GUARDED, WAY, protections=protections, gamma=gamma)
    paths = ask(model, "corridor", "loitering")
    assert likelihood(model, paths, "door", "forced-entry") == pytest.approx(0.25 * (1 - expected), abs=1e-6)


def test_a_dark_camera_protects_nothing_and_one_of_two_half():
    model = model_of(
        GUARDED, WAY, protections=[protection("p", "door", "forced-entry", 0.8, ("cam", "guard"))], cutoff=0.01
    )
    index = model.graph.index
    shares = []
    for dark in ((), ("cam",), ("cam", "guard")):
        paths = ask(model, "corridor", "loitering", conditions=Conditions(dark=frozenset(index[one] for one in dark)))
        shares.append(likelihood(model, paths, "door", "forced-entry"))
    assert shares == [pytest.approx(0.25 * (1 - degree), abs=1e-6) for degree in (0.8, 0.4, 0.0)]


def test_a_locked_door_is_harder_and_an_open_one_easier():
    model = model_of(GUARDED, WAY)
    door = model.graph.index["door"]
    plain = likelihood(model, ask(model, "corridor", "loitering"), "door", "forced-entry")
    locked = NOTHING.with_barriers([(door, "lock", 600_000)])
    assert likelihood(model, ask(model, "corridor", "loitering", conditions=locked), "door", "forced-entry") == 0.1
    opened = Conditions(eased=frozenset({door}))
    eased = likelihood(model, ask(model, "corridor", "loitering", conditions=opened), "door", "forced-entry")
    assert plain == 0.25
    assert eased == pytest.approx(0.25 + 0.5 * (0.99 - 0.25))


# ---- bad input ------------------------------------------------------------------------------------------


def test_circles_and_self_loops_end():
    model = model_of(
        {"a": "zone", "b": "zone", "c": "zone"},
        ["a leads_to b", "b leads_to c", "c leads_to a", "b leads_to a", "a part_of b", "b part_of a", "a leads_to a"],
        cutoff=0.001,
    )
    paths = ask(model, "a", "intrusion")
    assert likelihood(model, paths, "a", "intrusion") == 1
    assert 0 < likelihood(model, paths, "c", "intrusion") < 1


def test_a_circle_lifts_nothing():
    """What comes round to where it was adds nothing: with and without the way back the likelihood is the same."""
    assets = {"s": "zone", "a": "zone", "b": "zone", "c": "zone"}
    one_way = model_of(assets, ["s leads_to a", "a leads_to b", "b leads_to c"], cutoff=0.001)
    round_about = model_of(assets, ["s leads_to a", "a leads_to b", "b leads_to c", "c leads_to a"], cutoff=0.001)
    for zone in ("a", "b", "c"):
        first = likelihood(one_way, ask(one_way, "s", "intrusion"), zone, "intrusion")
        assert likelihood(round_about, ask(round_about, "s", "intrusion"), zone, "intrusion") == first


def test_where_everything_reaches_everything_the_likeliest_paths_are_kept_and_the_rest_is_counted():
    names = [f"z{number}" for number in range(40)]
    relations = [f"{one} leads_to {other}" for one in names for other in names if one != other]
    model = model_of(dict.fromkeys(names, "zone"), relations, max_paths=500)
    paths = ask(model, "z0", "intrusion")
    assert len(paths.states) == 500
    assert paths.refused > 0
    assert model.counters["impact_paths_refused"] == paths.refused
    assert all(likelihood(model, paths, name, "intrusion") >= 0.3 for name in names[1:])
    assert model.assess(paths).refused == paths.refused


def test_relations_are_followed_only_while_they_are_valid():

    plain = graph_of({"pc": "host", "lan": "network"}, ["pc connects lan"])
    graph = FlatGraph(
        plain.ids,
        plain.classes,
        [0],
        [1],
        [RELATION_NUMBER["connects"]],
        notes={0: EdgeNote(span=Span(1_000, 2_000))},
    )
    model = ImpactModel(graph, RULES)
    paths = Paths(model.table, model.settings)
    for t_ms, expected in ((0, 0.0), (1_500, 0.5), (2_000, 0.0)):
        model.paths({model.seed("pc", "malware"): PPM}, t_ms=t_ms, into=paths)
        assert likelihood(model, paths, "lan", "reconnaissance") == expected


def test_strength_multiplies_and_a_relations_own_delay_stands_for_the_rules():

    plain = graph_of({"pc": "host", "lan": "network"}, [])
    graph = FlatGraph(
        plain.ids,
        plain.classes,
        [0],
        [1],
        [RELATION_NUMBER["connects"]],
        notes={0: EdgeNote(strength=500_000, delay_ms=60_000)},
    )
    model = ImpactModel(graph, RULES)
    paths = ask(model, "pc", "malware")
    assert likelihood(model, paths, "lan", "reconnaissance") == 0.25
    told = model.assess(paths).impacts
    assert next(one.p50_ms for one in told if one.asset == "lan") == 60_000
