"""Small sites for tests of impact: written as relations, or drawn from a seed."""

from __future__ import annotations

from random import Random

from correlator.impact.graph import CLASS_NUMBER, RELATION_NUMBER, FlatGraph, Group
from correlator.impact.model import ImpactModel
from correlator.impact.rules import PPM, Rule, load_rules
from correlator.impact.settings import ImpactSettings
from correlator.premises.model import Protection

RULES = load_rules().rules


def graph_of(assets: dict[str, str], relations: list[str], needs: dict | None = None, criticality: dict | None = None):
    """assets: id -> class; relations: "a leads_to b"; needs: service -> nested lists, see `group`."""
    number = {name: at for at, name in enumerate(assets)}
    parts = [one.split() for one in relations]
    groups = {number[service]: group(need, number) for service, need in (needs or {}).items()}
    for service, need in groups.items():
        for leaf in sorted(need.leaves()):
            parts.append([list(assets)[service], "depends_on", list(assets)[leaf]])
    return FlatGraph(
        list(assets),
        bytes(CLASS_NUMBER[one] for one in assets.values()),
        [number[source] for source, _, _ in parts],
        [number[target] for _, _, target in parts],
        [RELATION_NUMBER[relation] for _, relation, _ in parts],
        needs=groups,
        criticality={number[name]: value for name, value in (criticality or {}).items()},
    )


def group(need, number) -> Group:
    """("all", a, b), ("any", a, b), (2, a, b, c); parts are ids or groups."""
    k, *parts = need
    k = {"all": len(parts), "any": 1}.get(k, k)
    return Group(k, tuple(number[one] if isinstance(one, str) else group(one, number) for one in parts))


def model_of(assets, relations, needs=None, criticality=None, protections=(), rules=RULES, **settings) -> ImpactModel:
    graph = graph_of(assets, relations, needs, criticality)
    return ImpactModel(graph, rules, protections, ImpactSettings(**settings))


def ask(model: ImpactModel, at: str, threat: str, **more):
    return model.paths({model.seed(at, threat): PPM}, **more)


def likelihood(model: ImpactModel, paths, asset: str, threat: str) -> float:
    return paths.likelihood(model.seed(asset, threat)) / PPM


def protection(name: str, asset: str, threat: str, degree: float, of: tuple[str, ...] = ()) -> Protection:
    return Protection(name, asset, (threat,), of, degree)


# ---- drawn from a seed ----------------------------------------------------------------------------------

_CLASSES = ("zone", "door", "host", "network", "software", "device", "supply", "service", "building_device")
_THREATS = ("intrusion", "malware", "fire", "power-loss", "theft", "system-failure")
_RELATIONS = ("leads_to", "hosts", "depends_on", "controls", "connects", "in_zone", "part_of")


def random_rules(dice: Random, count: int = 24) -> tuple[Rule, ...]:
    """Rules between few classes and threats, so that circles and many ways are common."""
    rules = []
    for number in range(count):
        threat, target = dice.choice(_THREATS), dice.choice(_THREATS)
        over = ((dice.choice(_RELATIONS), dice.choice(("along", "against"))),)
        rules.append(
            Rule(
                id=f"r{number}",
                says="",
                threats=(threat,),
                sources=(),
                over=over,
                threat=target,
                targets=tuple(one for one in _CLASSES if one != "service"),
                likelihood=(dice.choice((900_000, 600_000, 300_000, 150_000)),),
                delay_ms=(1_000, 10_000, 60_000),
                effects=(),
                blocked_by=dice.choice(((), ("lock",), ("isolation", "guard"), ("guard",))),
                published=0,
                file="",
                line=0,
            )
        )
    for threat in _THREATS:
        rules.append(
            Rule(
                id=f"stops-{threat}",
                says="",
                threats=(threat,),
                sources=(),
                over=(("depends_on", "against"),),
                threat="service-unavailable",
                targets=("service",),
                likelihood=(900_000,),
                delay_ms=(0, 0, 0),
                effects=(("availability", 1.0),),
                blocked_by=("manual-procedure",),
                published=0,
                file="",
                line=0,
            )
        )
    return tuple(rules)


def random_site(dice: Random, size: int = 14, edges: int = 26):
    """(assets, relations, needs, criticality) of a random site with two services."""
    assets = {f"a{number}": dice.choice([one for one in _CLASSES if one != "service"]) for number in range(size)}
    names = list(assets)
    relations = [f"{dice.choice(names)} {dice.choice(_RELATIONS)} {dice.choice(names)}" for _ in range(edges)]
    relations = [one for one in relations if one.split()[0] != one.split()[2]]
    needs = {}
    for service in ("s1", "s2"):
        assets[service] = "service"
        some = dice.sample(names, 4)
        needs[service] = dice.choice([("all", *some), ("all", some[0], ("any", *some[1:])), (2, *some)])
    return assets, relations, needs, {"s1": 5, "s2": 3}


def random_protections(dice: Random, assets, count: int = 6) -> tuple[Protection, ...]:
    names = [one for one in assets if not one.startswith("s")]
    return tuple(
        Protection(
            f"p{number}",
            dice.choice(names),
            tuple(dice.sample(_THREATS, 2)),
            (dice.choice(names),),
            dice.choice((0.2, 0.5, 0.8, 1.0)),
        )
        for number in range(count)
    )


def random_model(seed: int, size: int = 14, edges: int = 26, **settings) -> tuple[ImpactModel, Random]:
    dice = Random(seed)
    assets, relations, needs, criticality = random_site(dice, size, edges)
    graph = graph_of(assets, relations, needs, criticality)
    rules = random_rules(dice)
    return ImpactModel(graph, rules, random_protections(dice, assets), ImpactSettings(**settings)), dice


def random_seeds(model: ImpactModel, dice: Random, count: int) -> dict[int, int]:
    names = [name for name in model.graph.ids if not name.startswith("s")]
    return {
        model.seed(dice.choice(names), dice.choice(_THREATS)): dice.choice((200_000, 500_000, PPM))
        for _ in range(count)
    }
