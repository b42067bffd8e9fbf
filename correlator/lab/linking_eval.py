"""Judges linking on generated hospitals: `python -m correlator.lab.linking_eval`, or `make linking-eval`.

A chain is *found* when two thirds of its steps, from at least two domains, are in one reported threat
(score 4 or more), and *clean* when besides at least half of that threat's members are its steps. A twin
counts as reported when two thirds of it are in one reported threat. A *false* threat holds no two steps
of one chain. *Foreign*: reported threats with two steps or more, of whose members more than half are
not steps. Seeds for tuning and seeds kept aside do not overlap.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from correlator.clock import DAY_MS, HOUR_MS
from correlator.lab.hospitals import TEMPI, Hospital, hospital
from correlator.linking.settings import LinkingSettings
from correlator.premises import Premises, read_site
from correlator.run.link import Line, link_lines, threats_json

PEOPLE: Final = "people"  # of a variant: findings name badges and accounts, see `hospital`
TEMPO: Final = "tempi"  # of a variant: how long chains wait between steps, see `hospital`
TUNING: Final = range(1, 41)
ASIDE: Final = range(1001, 1041)


@dataclass(slots=True)
class Score:
    """Counts over hospitals; quick: chains whose steps are all within two hours."""

    chains: int = 0
    found: int = 0
    clean: int = 0
    quick: int = 0
    quick_clean: int = 0
    twins: int = 0
    twins_reported: int = 0
    false_watch: int = 0
    false_threat: int = 0
    foreign: int = 0
    reported: int = 0
    members: int = 0
    members_right: int = 0
    days: int = 0

    def add(self, other: Score) -> None:
        """Adds another's counts."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def row(self, name: str) -> str:
        """A line of the table."""
        return (
            f"| {name} | {self.chains} | {self.found} | {self.clean} | {self.quick_clean}/{self.quick} "
            f"| {self.twins_reported}/{self.twins} | {self.false_watch / max(1, self.days):.3f} "
            f"| {self.false_threat / max(1, self.days):.3f} | {self.foreign} "
            f"| {self.members_right / max(1, self.members):.2f} |"
        )


HEADER: Final = (
    "| variant | chains | found | clean | clean of quick | twins | false a site-day >= 4 | >= 8 | foreign "
    "| members that belong |\n|---|---|---|---|---|---|---|---|---|---|"
)


def judge(one: Hospital, threats: Iterable[dict[str, Any]]) -> Score:
    """What threats (as `correlator link` prints them) are worth on a hospital."""
    score = Score(days=one.days - 1)
    step_of = {id_: at for at, planted in enumerate(one.planted) for id_ in planted.ids if not planted.twin}
    reported = [set(threat["members"]) for threat in threats if threat["score"] >= 4]
    scores = [threat["score"] for threat in threats if threat["score"] >= 4]
    for planted in one.planted:
        best, clean = False, False
        for members in reported:
            inside = [at for at, id_ in enumerate(planted.ids) if id_ in members]
            if 3 * len(inside) >= 2 * len(planted.ids) and len({planted.domains[at] for at in inside}) >= 2:
                best = True
                clean = clean or 2 * len(inside) >= len(members)
        if planted.twin:
            score.twins += 1
            score.twins_reported += best
            continue
        quick = planted.span_ms <= 2 * HOUR_MS
        score.chains += 1
        score.found += best
        score.clean += clean
        score.quick += quick
        score.quick_clean += quick and clean
    for members, value in zip(reported, scores, strict=True):
        score.reported += 1
        steps = [step_of[id_] for id_ in members if id_ in step_of]
        most = max((steps.count(at) for at in set(steps)), default=0)
        if most < 2:
            score.false_watch += 1
            score.false_threat += value >= 8
        else:
            score.members += len(members)
            score.members_right += len(steps)
            score.foreign += 2 * len(steps) < len(members)
    return score


def premises_of(one: Hospital) -> Premises:
    """The hospital's site as a site file would give it."""
    site, faults = read_site(json.dumps(one.site), f"hospital-{one.seed}")
    if site is None or any(fault.severity == "error" for fault in faults):
        raise AssertionError(faults[:5])
    return Premises(site)


def run(seed: int, variants: dict[str, dict[str, Any]]) -> dict[str, Score]:
    """One hospital under several settings."""
    scores = {}
    made: dict[tuple[Any, ...], Hospital] = {}
    for name, changes in variants.items():
        kind = bool(changes.get(PEOPLE)), changes.get(TEMPO, TEMPI)
        of = made.get(kind)
        if of is None:
            of = made[kind] = hospital(seed, people=kind[0], tempi=kind[1])
        lines = [msgspec.convert(one, Line) for one in of.findings]
        settings = LinkingSettings(**{word: value for word, value in changes.items() if word not in (PEOPLE, TEMPO)})
        engine = link_lines(premises_of(of), lines, of.from_ms, settings)
        scores[name] = judge(of, threats_json(engine))
    return scores


def _run(task: tuple[int, dict[str, dict[str, Any]]]) -> dict[str, Score]:
    return run(*task)


def table(seeds: Iterable[int], variants: dict[str, dict[str, Any]], workers: int = 2) -> dict[str, Score]:
    """The sum over hospitals, by variant."""
    total = {name: Score() for name in variants}
    with multiprocessing.Pool(workers) as pool:
        for scores in pool.imap_unordered(_run, [(seed, variants) for seed in seeds]):
            for name, score in scores.items():
                total[name].add(score)
    return total


DESIGNED: Final[dict[str, Any]] = {
    "hours": False,
    "floors": False,
    "company": False,
    "look_back": None,
    "rate_shape": 0.0,
    "tail_shape": 0.0,
    "tail_class": 0.0,
    "surge_half_life_ms": 0,
    "expected_cap": 99.0,
    "predicted": 0.7,
    "cost_floor": 1.5,
    "cost_slope": 0.0,
    "join_slope": 0.0,
    "pace_shape": 0.0,
    "open_from": -7.0,
    "prior_ms": 30 * DAY_MS,
    "reach_cut": 0.01,
    "new_domain": 1.5,
    "rank": 4.0,
    "merge": 2.0,
    "parent": -4.0,
    "fringe": -99.0,
    "fringe_slope": 0.0,
    "late_ms": 8 * DAY_MS,
    "side_from": 1000,
}
EVEN: Final = ((1, 120),)  # chains without a pace: each delay for itself from a minute to two hours
# The first design (but for weights of relation types and habits, which are no settings), then what each change alone
# does to the defaults when it is taken back.
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "first design": DESIGNED,
    "first design, no typed rules": {**DESIGNED, "predicted": 0.0},
    "defaults": {},
    "without time of day": {"hours": False},
    "without floors beside classes": {"floors": False},
    "without gamma shrinkage of rates and tails": {"rate_shape": 0.0, "tail_shape": 0.0},
    "without spate": {"surge_half_life_ms": 0},
    "without company": {"company": False},
    "without cost by delay": {"cost_floor": 1.5, "cost_slope": 0.0, "join_slope": 0.0},
    "opened by rare findings only": {"open_from": -7.0, "prior_ms": 30 * DAY_MS},
    "without a pace": {"pace_shape": 0.0},
    "parts held together by late links": {"late_ms": 8 * DAY_MS},
    "with sides that add little": {"side_from": 1000},
    "merged from 2 on": {"merge": 2.0, "parent": -4.0},
    "merged from 6 on": {"merge": 6.0},
    "weak threats stand back little": {"rank": 4.0},
    "later followers need be little better": {"join_slope": 2.0},
    "leaves kept": {"fringe": -99.0, "fringe_slope": 0.0},
    "late leaves need be no better": {"fringe_slope": 0.0},
    "chains without a pace": {TEMPO: EVEN},
    "chains without a pace, and none asked": {TEMPO: EVEN, "pace_shape": 0.0},
    "findings name people": {PEOPLE: True},
    "findings name people, not used": {PEOPLE: True, "anchors": False},
}


def main() -> int:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", choices=("tuning", "aside"), default="tuning")
    arguments.add_argument("--count", type=int, default=40)
    arguments.add_argument(
        "--variant", action="append", choices=sorted(VARIANTS), help="only this one; may be repeated"
    )
    arguments.add_argument("--workers", type=int, default=2)
    given = arguments.parse_args()
    seeds = list(TUNING if given.seeds == "tuning" else ASIDE)[: given.count]
    sys.stdout.write(f"{len(seeds)} hospitals, seeds {seeds[0]}-{seeds[-1]} ({given.seeds})\n\n{HEADER}\n")
    for name, score in table(
        seeds, {name: VARIANTS[name] for name in given.variant or VARIANTS}, given.workers
    ).items():
        sys.stdout.write(score.row(name) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
