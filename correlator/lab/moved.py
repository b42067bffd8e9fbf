"""A scenario's findings moved to unrelated places must not be one threat: `python -m correlator.lab.moved`.

The findings that a scenario gives to linking without correlation rules are taken as they came; those of
its own messages are moved, each to an asset of the same class that the others do not reach, and so is
whom they name: what one person does in many places is no coincidence. Times and kinds stay. Told is in
how many seeded runs a reported threat holds half as many of them as in place.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from correlator.events.threat import Finding, Threat
from correlator.lab.background import background
from correlator.linking import state
from correlator.linking.engine import Item, LinkEngine
from correlator.linking.ground import SiteGround
from correlator.linking.linker import GraphLinker, item_of
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import shipped_tables
from correlator.matching import Record
from correlator.premises import Premises
from correlator.run.expect import check, load_expect
from correlator.run.linking import usual
from correlator.run.replay import make_pipeline, scenario_rules
from correlator.run.scenario import load_scenario, packaged_scenarios

RUNS: Final = 40
CONTROLS: Final = ("contractor-window", "fire-drill")
SEEDS: Final = (101, 202, 303)
Entries = Sequence[tuple[str, bytes]]


class Given(msgspec.Struct):
    """What a scenario gives to linking: all findings in order, ids of its own, the site, what is usual there."""

    items: list[Item]
    own: set[str]
    premises: Premises
    usual: Entries


def given(folder: Path) -> Given:
    """Findings of a scenario folder. Raises UsageError and FaultyFile."""
    scenario = load_scenario(folder)
    loaded = scenario_rules(scenario)
    entries = usual(scenario, loaded, background, None)
    pipeline, premises = make_pipeline(scenario, loaded, "only", entries)
    taken = Given([], set(), premises, entries)
    origins: dict[str, str] = {}
    linker = pipeline.book.linker
    assert isinstance(linker, GraphLinker)

    def look(engine: LinkEngine, finding: Finding) -> None:
        item = item_of(finding)
        taken.items.append(item)
        if any(origins.get(event, "").startswith("inputs/") for event in finding.events):
            taken.own.add(item.id)

    linker.watch = look
    ordinary = background(scenario) if scenario.wish is not None else ()
    for batch in scenario.events(ordinary):
        if batch.received_ms <= scenario.until_ms and batch.events:
            origins.update((event.id, event.origin) for event in batch.events)
            pipeline.receive(Record(events=list(batch.events)))
    pipeline.finish(scenario.until_ms)
    return taken


def together(of: Given, seed: int | None) -> int:
    """The most of the scenario's own findings in one reported threat. seed: moves them; None: in place."""
    settings = LinkingSettings()
    ground = SiteGround(of.premises, settings)
    engine = LinkEngine(of.premises.site_id, ground, shipped_tables(), settings)
    state.restore(engine, of.usual)
    engine.from_ms = 0
    to = {} if seed is None else _moves(of, ground, Random(f"moved/{seed}"))
    for item in of.items:
        if item.id in of.own and to:
            named = tuple(to[item.kind, item.asset, one] for one in item.anchors)
            item = msgspec.structs.replace(item, asset=to[item.kind, item.asset], anchors=named)
        engine.place(item)
    parts = [part for threat in engine.all_threats() for part in engine.settled(threat)]
    return max((len(of.own & set(one.members)) for one in parts if one.score >= settings.watch), default=0)


def _moves(of: Given, ground: SiteGround, dice: Random) -> dict[tuple[str, ...], str]:
    """(kind, asset) of the scenario, and (kind, asset, whom it names) -> another asset of its class that no
    earlier one reaches, where there is one."""
    by_class: dict[str, list[str]] = {}
    for name, node in sorted(of.premises.assets.items()):
        by_class.setdefault(node.asset_class, []).append(name)
    moves: dict[tuple[str, ...], str] = {}
    near: set[str] = set()
    own = [item for item in of.items if item.id in of.own]
    placed = [(item.kind, item.asset) for item in own]
    named = [(item.kind, item.asset, one) for item in own for one in item.anchors]
    for what in dict.fromkeys([*placed, *named]):
        asset = what[-1]
        cls = ground.place_of(asset)[0]
        free = [one for one in by_class.get(cls, [asset]) if one not in near and one != asset]
        to = dice.choice(free or by_class.get(cls, [asset]))
        moves[what] = to
        near |= set(ground.reach(to, of.items[0].t_ms).log_share)
    return moves


def surprises(folder: Path, seed: int) -> list[str]:
    """What a scenario tells against its expectation with linking on and another seed of ordinary traffic."""
    scenario = replace(load_scenario(folder), seed=seed)
    loaded = scenario_rules(scenario)
    pipeline, _ = make_pipeline(scenario, loaded, "graph", usual(scenario, loaded, background, None))
    told: list[Threat] = []
    for batch in scenario.events(background(scenario) if scenario.wish is not None else ()):
        if batch.received_ms <= scenario.until_ms and batch.events:
            told += pipeline.receive(Record(events=list(batch.events))).threats
    told += pipeline.finish(scenario.until_ms).threats
    return check(load_expect(scenario.expect_file), [msgspec.to_builtins(one) for one in told])


def main() -> int:
    """Prints in how many runs moved findings were reported, and what controls tell under three seeds.

    1 if more than one run in twenty is reported, or a control is not silent.
    """
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=RUNS)
    arguments.add_argument("scenario", nargs="*", default=["vaccine-theft", "patient-data-theft"])
    told = arguments.parse_args()
    worst = 0
    for name in told.scenario:
        of = given(packaged_scenarios()[name])
        whole = together(of, None)
        moved = [together(of, seed) for seed in range(told.runs)]
        again = sum(2 * many >= whole for many in moved)
        worst = max(worst, again)
        sys.stdout.write(
            f"{name}: {whole} of {len(of.own)} own findings in one threat in place; moved, a threat holds half as many"
            f" in {again} of {told.runs} runs (at most {max(moved)})\n"
        )
    loud = 0
    for name in CONTROLS:
        for seed in SEEDS:
            problems = surprises(packaged_scenarios()[name], seed)
            loud += bool(problems)
            sys.stdout.write(f"{name}, background seed {seed}: {'; '.join(problems) or 'silent'}\n")
    return 0 if 20 * worst <= told.runs and not loud else 1


if __name__ == "__main__":
    sys.exit(main())
