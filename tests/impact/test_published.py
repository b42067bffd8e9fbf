"""The published SAFECARE model: the eight rules, the theft of vaccines step by step, and the score.

Sources: Hannou et al., "Semantic-Based Approach for Cyber-Physical Cascading Effects Within Healthcare
Infrastructures", IEEE Access 10 (2022), DOI 10.1109/ACCESS.2022.3171252: the rule examples, the scenario
of the theft and the score 1 - gamma with full barriers. Sites and degrees here are ours; scores are worked
by hand from that formula.
"""

from __future__ import annotations

from random import Random

import pytest

from correlator.impact.conditions import NOTHING, Conditions
from correlator.impact.graph import THREAT_NAMES, THREATS
from correlator.impact.model import ImpactModel
from correlator.impact.rules import PPM, load_rules
from correlator.impact.safecare import scores
from correlator.impact.settings import ImpactSettings
from tests.impact.sites import (
    graph_of,
    model_of,
    protection,
    random_model,
    random_protections,
    random_rules,
    random_seeds,
    random_site,
)


def table(model: ImpactModel, *incidents: tuple[str, str]) -> dict[tuple[str, str], float]:
    """(asset, threat) -> score, of everything the incidents reach."""
    found = scores(model, [model.seed(asset, threat) for asset, threat in incidents])
    return {
        (model.graph.ids[state // THREATS], THREAT_NAMES[state % THREATS]): one.score / PPM
        for state, one in found.items()
    }


# ---- the eight rules ------------------------------------------------------------------------------------

EIGHT = [
    # number, assets, relations, needs, incident, impacts that follow, impacts that must not
    (1, {"mail": "software", "server": "host", "lan": "network"},
     ["server hosts mail", "mail connects lan"], {},
     ("mail", "phishing"), [("lan", "reconnaissance")], []),
    (2, {"app": "software", "hall": "zone", "reception": "service"},
     [], {"reception": ("all", "app", "hall")},
     ("app", "data-manipulation"), [("hall", "crowd")], [("hall", "fire")]),
    (3, {"room": "zone", "door": "door", "store": "zone", "stock": "supply", "cabinet": "medical_device"},
     ["room leads_to door", "door leads_to store", "stock in_zone store", "cabinet in_zone store"], {},
     ("room", "loitering"),
     [("door", "forced-entry"), ("stock", "theft"), ("cabinet", "sabotage")], []),
    (4, {"pc": "host", "records": "software"},
     ["pc hosts records"], {},
     ("pc", "device-tampering"), [("records", "data-theft"), ("pc", "removable-media")], []),
    (5, {"probe": "sensor", "mains": "supply", "fan": "building_device", "theatre": "zone", "surgery": "service"},
     ["theatre monitored_by probe", "fan controls theatre", "fan depends_on mains"], {"surgery": ("all", "theatre")},
     ("theatre", "unsuitable-temperature"), [("surgery", "service-unavailable")], []),
    (6, {"ahu": "building_device", "theatre": "zone", "surgery": "service"},
     ["ahu controls theatre"], {"surgery": ("all", "theatre")},
     ("ahu", "data-manipulation"), [("theatre", "unsuitable-temperature"), ("surgery", "patient-harm")], []),
    (7, {"server": "host", "ehr": "software"},
     ["server hosts ehr"], {},
     ("server", "fire"), [("ehr", "system-failure")], []),
    (8, {"pc": "host", "hall": "zone", "reception": "service"},
     ["pc in_zone hall"], {"reception": ("all", "pc")},
     ("pc", "malware"), [("reception", "service-unavailable")],
     [("hall", threat) for threat in ("malware", "fire", "crowd", "unsuitable-temperature")]),
]  # fmt: skip


@pytest.mark.parametrize(("number", "assets", "relations", "needs", "incident", "impacts", "nothing"), EIGHT)
def test_the_published_rule_is_reproduced(number, assets, relations, needs, incident, impacts, nothing):
    found = table(model_of(assets, relations, needs), incident)
    for impact in impacts:
        assert found[impact] == 1.0  # unprotected
    for impact in nothing:
        assert impact not in found


@pytest.mark.parametrize("cause", [("probe", "data-manipulation"), ("mains", "power-loss"), ("fan", "system-failure")])
def test_each_published_cause_of_a_wrong_temperature_reaches_surgery(cause):
    _, assets, relations, needs, *_ = EIGHT[4]
    assert table(model_of(assets, relations, needs), cause)["surgery", "service-unavailable"] == 1.0


def test_every_published_rule_is_named_in_the_shipped_rules():
    assert {rule.published for rule in load_rules().rules} >= set(range(1, 9))


# ---- the theft of vaccines ------------------------------------------------------------------------------

HOSPITAL = {
    "mail": "host", "scheduling": "host", "firewall": "device", "segmentation": "device", "lan": "network",
    "app": "software", "reception": "service", "waiting": "zone", "corridor": "zone", "guard": "device",
    "camera": "camera", "door": "door", "pharmacy": "zone", "freezer": "device", "vaccines": "supply",
    "door-technical": "door", "technical": "zone", "power": "building_device", "ehr-server": "host", "ehr": "software",
    "records": "service", "vaccination": "service",
}  # fmt: skip
WAYS = [
    "mail connects lan", "scheduling connects lan", "scheduling hosts app", "waiting leads_to door",
    "corridor leads_to door", "door leads_to pharmacy", "freezer in_zone pharmacy", "vaccines in_zone pharmacy",
    "vaccines depends_on freezer", "pharmacy leads_to door-technical", "door-technical leads_to technical",
    "power in_zone technical", "freezer depends_on power", "ehr-server depends_on power", "ehr-server hosts ehr",
]  # fmt: skip
NEEDS = {"reception": ("all", "app", "waiting"), "records": ("all", "ehr"), "vaccination": ("all", "vaccines", "app")}


def hospital(*protections):
    return model_of(HOSPITAL, WAYS, NEEDS, protections=protections)


THEFT = [
    # step of the scenario, incident, what follows by the model
    (2, ("mail", "phishing"), [("lan", "reconnaissance"), ("scheduling", "exploitation"), ("scheduling", "malware")]),
    (3, ("app", "data-manipulation"), [("reception", "data-manipulation"), ("waiting", "crowd")]),
    (4, ("waiting", "crowd"), [("waiting", "loitering"), ("reception", "service-unavailable")]),
    (5, ("corridor", "loitering"), [("door", "forced-entry"), ("pharmacy", "intrusion")]),
    (6, ("door", "badge-misuse"), [("pharmacy", "intrusion"), ("vaccines", "theft"), ("freezer", "theft")]),
    (7, ("vaccines", "theft"), [("vaccination", "service-unavailable")]),
    (8, ("pharmacy", "fire"), [
        ("freezer", "fire"), ("door-technical", "fire"), ("technical", "fire"), ("power", "power-loss"),
        ("ehr-server", "system-failure"), ("ehr", "system-failure"), ("records", "service-unavailable"),
        ("vaccines", "supply-loss"), ("vaccination", "service-unavailable"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("step", "incident", "effects"), THEFT)
def test_each_step_of_the_theft_has_its_published_effects(step, incident, effects):
    found = table(hospital(), incident)
    for effect in effects:
        assert found[effect] == 1.0


def test_the_theft_leads_to_stock_theft_fire_power_cut_and_a_stopped_campaign():
    """The direct and indirect effects the paper lists, from the first mail alone where nothing protects."""
    found = table(hospital(), ("mail", "phishing"))
    for effect in (
        ("vaccines", "theft"), ("pharmacy", "fire"), ("power", "power-loss"), ("ehr", "system-failure"),
        ("records", "service-unavailable"), ("vaccination", "service-unavailable"),
    ):  # fmt: skip
        assert found[effect] == 1.0


# Scores by hand: 1 - gamma of what protects the asset against that threat.
SCORES = [
    # gamma, degrees of firewall and segmentation against the scan of the network -> its score
    ("max", (0.9, 0.6), 0.1),
    ("capped_sum", (0.7, 0.5), 0.0),  # together over 100 %: a full barrier
    ("capped_sum", (0.3, 0.5), 0.2),
    ("noisy_or", (0.3, 0.5), 0.35),  # 0.7 x 0.5
]


@pytest.mark.parametrize(("gamma", "degrees", "score"), SCORES)
def test_the_score_is_one_minus_gamma(gamma, degrees, score):
    model = model_of(HOSPITAL, WAYS, NEEDS, gamma=gamma, protections=[
        protection("firewall-rule", "lan", "reconnaissance", degrees[0], ("firewall",)),
        protection("segments", "lan", "reconnaissance", degrees[1], ("segmentation",)),
    ])  # fmt: skip
    found = table(model, ("mail", "phishing"))
    assert found["lan", "reconnaissance"] == pytest.approx(score, abs=1e-6)
    if score:
        assert found["scheduling", "exploitation"] == 1.0  # no decay: weakly hit harms what follows in full
    else:
        assert ("scheduling", "exploitation") not in found  # nothing passes a full barrier


def test_firewall_and_segmentation_block_the_cyber_branch_and_not_the_physical_one():
    barrier = [
        protection("firewall-rule", "lan", "reconnaissance", 0.7, ("firewall",)),
        protection("segments", "lan", "reconnaissance", 0.5, ("segmentation",)),
    ]
    model = model_of(HOSPITAL, WAYS, NEEDS, gamma="capped_sum", protections=barrier)
    cyber = table(model, ("mail", "phishing"))
    assert cyber["lan", "reconnaissance"] == 0.0
    assert not [asset for asset, threat in cyber if asset in ("app", "waiting", "vaccines", "pharmacy")]
    physical = table(model, ("corridor", "loitering"))
    assert physical["vaccines", "theft"] == 1.0
    assert physical["vaccination", "service-unavailable"] == 1.0


def test_the_score_of_an_asset_does_not_depend_on_how_far_or_how_weakly_what_leads_to_it_is_hit():
    model = hospital(protection("watch", "door", "forced-entry", 0.9, ("camera",)))
    found = table(model, ("corridor", "loitering"))
    assert found["door", "forced-entry"] == pytest.approx(0.1)
    assert found["vaccines", "theft"] == 1.0


def test_a_protection_that_is_dark_gives_nothing():
    model = hospital(protection("watch", "door", "forced-entry", 1.0, ("camera",)))
    start = [model.seed("corridor", "loitering")]
    stolen = model.seed("vaccines", "theft")
    assert stolen not in scores(model, start)
    dark = Conditions(dark=frozenset({model.graph.index["camera"]}))
    assert scores(model, start, dark)[stolen].score == PPM


# ---- against the definition, slowly ---------------------------------------------------------------------


def slow_scores(model: ImpactModel, incidents: list[int]) -> dict[int, int]:
    """Straight from the definition: every simple path of rules; 0 if each holds an asset of score 0 before
    its end, else 1 - gamma there."""

    def one_minus_gamma(state: int) -> int:
        return PPM - model.protections.gamma_of(state, frozenset())

    found = dict.fromkeys(incidents, PPM)

    def walk(path: list[int]) -> None:
        for to, _, _ in model.table.links(path[-1], 0):
            if to in path:
                continue
            if to not in incidents:
                found[to] = one_minus_gamma(to)
            if to in incidents or one_minus_gamma(to) > 0:
                walk([*path, to])

    for incident in incidents:
        walk([incident])
    return found


@pytest.mark.parametrize("gamma", ["max", "capped_sum", "noisy_or"])
@pytest.mark.parametrize("seed", range(60))
def test_the_mode_equals_a_slow_direct_implementation(seed, gamma):
    dice = Random(seed)
    assets, relations, needs, criticality = random_site(dice, size=8, edges=11)
    model = ImpactModel(
        graph_of(assets, relations, needs, criticality),
        random_rules(dice, 14),
        random_protections(dice, assets, 10),
        ImpactSettings(gamma=gamma),
    )
    incidents = sorted(random_seeds(model, dice, 2))
    assert {state: one.score for state, one in scores(model, incidents).items()} == slow_scores(model, incidents)


@pytest.mark.parametrize("seed", range(30))
def test_a_path_to_a_score_passes_no_full_barrier(seed):
    model, dice = random_model(seed)
    found = scores(model, random_seeds(model, dice, 2), NOTHING)
    for score in found.values():
        for state, _ in score.path[:-1]:
            assert found[state].score > 0
