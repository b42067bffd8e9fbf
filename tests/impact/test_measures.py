"""Counter-measures: where they can be done, what they save and harm, and the best set."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from correlator.errors import FaultyFile
from correlator.impact.conditions import NOTHING
from correlator.impact.graph import THREAT_NUMBER, THREATS
from correlator.impact.measures import Advisor, Candidate, Measure, load_measures
from correlator.impact.model import ImpactModel
from correlator.impact.paths import Paths, from_log, log_missed
from correlator.impact.rules import PPM
from correlator.impact.services import services_hit
from correlator.impact.words import BARRIERS
from tests.impact.sites import model_of, random_model, random_seeds

SHIPPED = load_measures()


def measure(name: str, barrier: str, degree: float = 0.8, cost: float = 0.1, harms=(-1, 0), on=(), requires=()):
    return Measure(name, f"{name} {{asset}}", on, barrier, round(degree * PPM), requires, harms, cost, 0, "")


WARD = {
    "corridor": "zone", "door": "door", "store": "zone", "stock": "supply", "care": "service", "panel": "controller",
}  # fmt: skip
WAY = ["corridor leads_to door", "door leads_to store", "stock in_zone store"]


def ward(*more, **settings):
    return model_of(WARD, [*WAY, *more], needs={"care": ("all", "stock")}, criticality={"care": 5}, **settings)


def plan_of(model: ImpactModel, measures, at="corridor", threat="loitering"):
    paths = model.paths({model.seed(at, threat): PPM})
    return Advisor(model, measures).plan(paths, 0)


def test_a_guard_is_worth_what_he_costs_or_is_not_advised():
    model = ward()
    # 0.25 x 0.8 x 0.3 x 0.9 of a service of criticality 5
    loss = 5 * 0.25 * 0.8 * 0.3 * 0.9
    cheap = plan_of(model, [measure("guard", "guard", 0.8, cost=0.01)])
    assert cheap.loss == pytest.approx(loss, abs=1e-5)
    assert cheap.chosen
    assert plan_of(model, [measure("guard", "guard", 0.8, cost=5)]).chosen == ()


def test_a_measure_needs_its_preconditions():
    lock = next(one for one in SHIPPED if one.id == "lock-door")
    assert plan_of(ward(), [lock]).candidates == ()
    found = plan_of(ward("panel controls door"), [lock]).candidates
    assert [one.measure.id for one in found] == ["lock-door"]


def test_what_stands_already_is_not_advised_again():
    model = ward()
    paths = Paths(model.table, model.settings)
    door = model.graph.index["door"]
    paths.revise({model.seed("corridor", "loitering"): PPM}, NOTHING.with_barriers([(door, "guard", 800_000)]), 0)
    found = Advisor(model, [measure("guard", "guard", 0.8)]).plan(paths, 0)
    assert door not in [one.asset for one in found.candidates]


def test_isolating_the_server_that_care_needs_harms_as_well():
    model = model_of(
        {"server": "host", "lan": "network", "ehr": "software", "data": "data_store", "care": "service"},
        ["server connects lan", "server hosts ehr", "server holds data"],
        needs={"care": ("all", "ehr")},
        criticality={"care": 5},
    )
    isolate = next(one for one in SHIPPED if one.id == "isolate-host")
    plan = plan_of(model, [isolate], at="server", threat="exploitation")
    (found,) = [one for one in plan.candidates if one.measure.id == "isolate-host"]
    # The server is off: 0.8 x 0.9 hosted x 0.9 service, criticality 5.
    assert found.harms == pytest.approx(5 * 0.8 * 0.9 * 0.9, abs=1e-5)
    assert found.saves < found.harms
    assert plan.chosen == ()


def exhaustive(model: ImpactModel, seeds, candidates, most: int = 3):
    """The least total over all sets, each worked out from scratch."""

    def loss(services, effects=()):
        logs = {one: log_missed(ppm) for one, ppm in services.items()}
        for effect in effects:
            for one, ppm in effect.items():
                logs[one] = logs.get(one, 0) + log_missed(ppm)
        return round(sum(model.graph.criticality.get(one, 0) * from_log(log) for one, log in logs.items()) / PPM, 6)

    def services(paths):
        return model.hit_services(paths, services_hit(paths))

    best = (loss(services(model.paths(seeds))), 0)
    for size in range(1, most + 1):
        for chosen in combinations(candidates, size):
            conditions = NOTHING.with_barriers((one.asset, one.measure.barrier, one.measure.degree) for one in chosen)
            effects = []
            for one in chosen:
                if one.measure.harms[0] >= 0:
                    threat, ppm = one.measure.harms
                    effects.append(services(model.paths({one.asset * THREATS + threat: ppm})))
            left = loss(services(model.paths(seeds, conditions)), effects)
            total = round(left + sum(one.measure.cost for one in chosen), 6)
            best = min(best, (total, size))
    return best[0]


@pytest.mark.parametrize("seed", range(200))
def test_the_best_set_equals_exhaustive_search(seed):
    """Graphs with at most twelve counter-measures, against every set of up to three worked out anew."""
    model, dice = random_model(seed, size=16, edges=46, cutoff=0.06, least_saving=0)
    seeds = random_seeds(model, dice, 3)
    paths = model.paths(seeds)
    advisor = Advisor(model, random_measures(dice))
    plan = advisor.plan(paths, 0)
    assert plan.bound <= plan.total
    lean = paths.stricter(paths.conditions)
    places = advisor._places(lean) if plan.loss else []
    if plan.complete:
        candidates = [Candidate(one, asset, 0.0, 0.0) for one, asset in places]
        assert len(candidates) <= 12
        assert plan.total == exhaustive(model, seeds, candidates)
    else:
        assert len(places) > 12


def random_measures(dice: Random) -> list[Measure]:
    stops = THREAT_NUMBER["system-failure"]
    return [
        measure("guard", "guard", dice.choice((0.5, 0.9)), cost=dice.choice((0.02, 0.1, 0.4)), on=("zone", "door")),
        measure("lock", "lock", 0.8, cost=dice.choice((0.02, 0.2)), on=("door", "zone", "device")),
        measure("isolate", "isolation", 0.9, cost=0.05, on=("host", "network"),
                harms=(stops, dice.choice((100_000, 600_000)))),
        measure("paper", "manual-procedure", 0.6, cost=dice.choice((0.1, 0.5)), on=("service",)),
    ]  # fmt: skip


def test_the_random_graphs_are_worth_searching():
    """Enough of them have several candidates, and enough need more than one measure."""
    several = together = 0
    for seed in range(60):
        model, dice = random_model(seed, size=16, edges=46, cutoff=0.06, least_saving=0)
        plan = Advisor(model, random_measures(dice)).plan(model.paths(random_seeds(model, dice, 3)), 0)
        several += len(plan.candidates) >= 4
        together += len(plan.chosen) >= 2
    assert (several, together) >= (20, 15)
    assert together >= 15


@pytest.mark.parametrize("seed", range(40))
def test_paths_made_stricter_are_those_found_anew(seed):
    """What makes trying many sets cheap is exact."""
    model, dice = random_model(seed, cutoff=0.03)
    seeds = random_seeds(model, dice, 2)
    paths = model.paths(seeds)
    barriers = [
        (dice.randrange(len(model.graph.ids)), dice.choice(("guard", "lock", "isolation")), 700_000) for _ in range(3)
    ]
    conditions = NOTHING.with_barriers(barriers)
    quick, slow = paths.stricter(conditions), model.paths(seeds, conditions)
    one = {service: hit.likelihood for service, hit in services_hit(quick).items() if hit.likelihood}
    other = {service: hit.likelihood for service, hit in services_hit(slow).items() if hit.likelihood}
    assert one == other


def test_the_same_question_has_the_same_answer():
    model, dice = random_model(3)
    seeds = random_seeds(model, dice, 3)
    first = Advisor(model, SHIPPED).plan(model.paths(seeds), 0)
    assert first == Advisor(model, SHIPPED).plan(model.paths(seeds), 0)


def test_a_catalogue_with_slips_is_refused_with_places(tmp_path):
    path = tmp_path / "measures.yaml"
    path.write_text(
        "measures:\n"
        "  - {id: a, says: lock it, on: door, barrier: lock, degree: 0.5, cost: 1}\n"
        "  - {id: b, says: 'lock {asset}', on: dor, barrier: lok, degree: 2, cost: -1}\n"
        "  - {id: c, says: 'lock {asset}', on: door, barrier: lock, degree: 1, cost: 1, wo: x}\n"
    )
    with pytest.raises(FaultyFile) as caught:
        load_measures([path])
    told = [str(one).removeprefix(f"{path}:") for one in caught.value.faults]
    assert told == [
        "2:19: 'says' must name the place as {asset}",
        "3:39: 'dor' is no asset class (did you mean 'door'?)",
        "3:53: 'lok' is no barrier (did you mean 'lock'?)",
        "3:66: 'degree' must be a number from 0 to 1",
        "3:75: 'cost' must be a number from 0 to 1000",
        "4:80: a counter-measure has no key 'wo' (did you mean 'who'?)",
    ]


def test_the_shipped_catalogue_names_each_barrier():
    assert {one.barrier for one in SHIPPED} == set(BARRIERS)
