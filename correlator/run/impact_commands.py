"""What `correlator impact check|test|whatif|export` do: functions from arguments and streams to an exit code."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from correlator.errors import FaultyFile, UsageError
from correlator.impact.conditions import Conditions
from correlator.impact.export import cytoscape, graphml, impact_parts, site_parts
from correlator.impact.graph import CLASS_NUMBER, RELATION_NUMBER, THREAT_NAMES, THREATS, FlatGraph
from correlator.impact.measures import SHIPPED_MEASURES, Advisor, Measure, check_measures, load_measures
from correlator.impact.model import Assessment, ImpactModel
from correlator.impact.paths import UNAVAILABLE
from correlator.impact.picture import Box, impact_rows, paths_picture
from correlator.impact.rules import PPM, SHIPPED, Rule, RuleBase, RuleTest, check_rules, load_rules, rule_files
from correlator.impact.safecare import Score, scores
from correlator.impact.services import services_hit
from correlator.impact.settings import Gamma, ImpactSettings
from correlator.impact.tell import account_lines, percent
from correlator.marked import MarkedDict, load_file
from correlator.premises import Premises, load_site
from correlator.premises.load import nearest
from correlator.premises.vocabulary import THREAT_TYPES

MOST_IN_PICTURE = 12
_json = msgspec.json.Encoder(order="deterministic")


# ---- check and test ------------------------------------------------------------------------------------


def check(paths: Sequence[Path], out: TextIO) -> int:
    """Writes what is wrong in files of impact rules and counter-measures; the shipped ones without paths."""
    rules, measures = _sorted_files(paths or [SHIPPED, SHIPPED_MEASURES])
    base, faults = check_rules(rules) if rules else (RuleBase((), ()), [])
    known, more = check_measures(measures) if measures else ((), [])
    faults = sorted([*faults, *more])
    for fault in faults:
        print(fault, file=out)
    if faults:
        print(f"{len(faults)} error{'s' * (len(faults) != 1)}", file=out)
        return 2
    print(f"good: {len(base.rules)} rules, {len(base.tests)} tests, {len(known)} counter-measures", file=out)
    return 0


def test(paths: Sequence[Path], out: TextIO) -> int:
    """Runs the tests that rule files carry, over their own rules and the shipped ones; 1 when one fails."""
    base = load_rules(paths)
    rules = load_rules().with_own(base).rules if paths else base.rules
    failed = 0
    for one in base.tests:
        problems = run_test(one, rules)
        failed += bool(problems)
        for problem in problems:
            print(f"{one.file}:{one.line}: {one.name}: {problem}", file=out)
    print(f"{len(base.tests)} tests, {failed} failed" if failed else f"{len(base.tests)} tests passed", file=out)
    return 1 if failed else 0


def run_test(test: RuleTest, rules: Sequence[Rule]) -> list[str]:
    """What does not hold of one test of a rule file; [] if it passes."""
    names = [name for name, _ in test.assets]
    number = {name: at for at, name in enumerate(names)}
    graph = FlatGraph(
        names, bytes(CLASS_NUMBER[asset_class] for _, asset_class in test.assets),
        [number[source] for source, _, _ in test.relations], [number[target] for _, _, target in test.relations],
        [RELATION_NUMBER[relation] for _, relation, _ in test.relations],
    )  # fmt: skip
    model = ImpactModel(graph, rules)
    seed = model.seed(test.at, test.threat)
    assert seed is not None  # the reader has checked the words
    paths = model.paths({seed: PPM})
    found = {state: paths.likelihood(state) for state in paths.reached}
    for service, hit in services_hit(paths).items():
        found[service * THREATS + UNAVAILABLE] = hit.likelihood
    problems = []
    for asset, threat, low, high in test.expect:
        state = model.seed(asset, threat)
        ppm = found.get(state, 0) if state is not None else 0
        if not round(low * PPM) - 1 <= ppm <= round(high * PPM) + 1:
            wanted = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            problems.append(f"{threat} on {asset} has likelihood {ppm / PPM:g}, expected {wanted}")
    for asset, threat in test.never:
        state = model.seed(asset, threat)
        if state in found:
            problems.append(f"{threat} on {asset} is reached, likelihood {found[state] / PPM:g}")
    return problems


def _sorted_files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(files of rules, files of counter-measures), told apart by what they begin with."""
    rules: list[Path] = []
    measures: list[Path] = []
    for path in rule_files(paths):
        try:
            documents = load_file(path)
        except FaultyFile:
            documents = []  # `check_rules` tells the fault
        is_catalogue = any(isinstance(one, MarkedDict) and "measures" in one for one in documents)
        (measures if is_catalogue else rules).append(path)
    return rules, measures


# ---- what if -------------------------------------------------------------------------------------------


def whatif(
    *,
    site: Path,
    at: Sequence[str],
    threat: str,
    mode: str,
    gamma: Gamma | None,
    rules: Sequence[Path],
    dark: Sequence[str],
    do: Sequence[str],
    as_json: bool,
    svg: Path | None,
    when_ms: int | None,
    out: TextIO,
) -> int:
    """Says what follows from a threat at some assets. Raises FaultyFile and UsageError.

    dark: assets that do not work; do: counter-measures "measure@asset" that are in place.
    """
    premises = load_site(site)
    settings = ImpactSettings(gamma=gamma) if gamma is not None else ImpactSettings()
    base = load_rules().with_own(load_rules(rules)) if rules else load_rules()
    model = ImpactModel.of_site(premises, base.rules, settings)
    if threat not in THREAT_TYPES:
        raise UsageError(f"{threat!r} is no threat type{_meant(threat, THREAT_TYPES)}")
    seeds = {_known(model, asset) * THREATS + THREAT_NAMES.index(threat): PPM for asset in at}
    measures = load_measures()
    conditions = _conditions(model, dark, do, measures)
    moment_ms = when_ms if when_ms is not None else int(time.time() * 1000)
    if mode == "safecare":
        return _whatif_safecare(model, premises, seeds, conditions, moment_ms, as_json, svg, out)
    paths = model.paths(seeds, conditions, moment_ms)
    assessment = model.assess(paths)
    advisor = Advisor(model, measures)
    plan = advisor.plan(paths, paths.epoch)
    answer: dict[str, Any] = {
        "site": premises.site_id, "mode": mode, "at": list(at), "threat": threat,
        "impact": msgspec.to_builtins(assessment.impacts), "impact_truncated": assessment.more,
        "expected_loss": assessment.loss, "by_effect": assessment.by_effect,
        "expected_loss_advised": plan.loss_after, "advice": msgspec.to_builtins(advisor.advice(plan)),
        "advice_bound": {"total": plan.total, "no_set_below": plan.bound, "complete": plan.complete},
        "paths": len(paths.states), "paths_refused": paths.refused,
    }  # fmt: skip
    if svg is not None:
        title = f"{threat} at {', '.join(model.describe(one) for one in at)}"
        svg.write_text(paths_picture(title, impact_rows(answer["impact"][:MOST_IN_PICTURE])), encoding="utf-8")
    if as_json:
        out.write(_json.encode(answer).decode() + "\n")
    else:
        _tell(answer, model, assessment, out)
    return 0


def _tell(answer: dict[str, Any], model: ImpactModel, assessment: Assessment, out: TextIO) -> None:
    places = ", ".join(model.describe(one) for one in answer["at"])
    print(f"{answer['threat']} at {places}: {THREAT_TYPES[answer['threat']].says}", file=out)
    lines = account_lines(answer)
    if not assessment.impacts:
        print(f"  nothing follows with a likelihood of {percent(model.settings.told_from)} or more", file=out)
    for line in lines:
        print(line, file=out)
    if assessment.by_effect:
        parts = ", ".join(f"{effect} {loss:.2f}" for effect, loss in assessment.by_effect.items())
        print(f"  of care services: {parts}", file=out)
    bound = answer["advice_bound"]
    if not bound["complete"]:
        print(
            f"  advice: best of the {model.settings.max_measures} measures that help most alone; no set of any can "
            f"come below {bound['no_set_below']:.2f} (loss and cost; advised: {bound['total']:.2f})", file=out,
        )  # fmt: skip
    if answer["paths_refused"]:
        print(f"  bounded: {answer['paths_refused']} unlikely paths were not followed (max_paths)", file=out)


def _whatif_safecare(
    model: ImpactModel, premises: Premises, seeds: dict[int, int], conditions: Conditions, t_ms: int, as_json: bool,
    svg: Path | None, out: TextIO,
) -> int:  # fmt: skip
    found = scores(model, seeds, conditions, t_ms)
    ranked = sorted((one for one in found.values() if one.state not in seeds), key=lambda one: (-one.score, one.state))
    answer: dict[str, Any] = {
        "site": premises.site_id, "mode": "safecare", "impact": [_score(model, one, found) for one in ranked],
    }  # fmt: skip
    if svg is not None:
        rows = [
            [
                Box(step["place_name"], step["threat_type"], step["score"], "")
                for step in one["path"]
            ]
            for one in answer["impact"][:MOST_IN_PICTURE]
        ]  # fmt: skip
        svg.write_text(paths_picture("SAFECARE mode", rows), encoding="utf-8")
    if as_json:
        out.write(_json.encode(answer).decode() + "\n")
        return 0
    print(f"{len(ranked)} impacts (score 1 - gamma; 0 is a full barrier)", file=out)
    for one in answer["impact"]:
        steps = " > ".join(f"{step['place_name']}: {step['threat_type']}" for step in one["path"])
        print(f"  {one['score']:.2f}  {one['place_name']}: {one['threat_type']}\n        {steps}", file=out)
    return 0


def _score(model: ImpactModel, score: Score, found: Mapping[int, Score]) -> dict[str, Any]:
    def step(state: int, number: int) -> dict[str, Any]:
        name = model.graph.ids[state // THREATS]
        rule = model.table.rules[number].id if number >= 0 else ""
        return {
            "asset": name, "place_name": model.describe(name), "threat_type": THREAT_NAMES[state % THREATS],
            "score": found[state].score / PPM, "rule": rule,
        }  # fmt: skip

    path = [step(state, number) for state, number in score.path]
    last = path[-1]
    return {
        "asset": last["asset"], "place_name": last["place_name"], "threat_type": last["threat_type"],
        "score": score.score / PPM, "path": path,
    }  # fmt: skip


def _known(model: ImpactModel, asset: str) -> int:
    number = model.graph.index.get(asset)
    if number is None:
        raise UsageError(f"the site has no asset {asset!r}{_meant(asset, model.graph.index)}")
    return number


def _meant(word: str, among: Any) -> str:
    close = nearest(word, among)
    return f"; did you mean {close!r}?" if close else ""


def _conditions(
    model: ImpactModel, dark: Sequence[str], do: Sequence[str], measures: Sequence[Measure]
) -> Conditions:  # fmt: skip
    by_id = {measure.id: measure for measure in measures}
    barriers = []
    for one in do:
        name, _, asset = one.partition("@")
        if name not in by_id or not asset:
            raise UsageError(f"{one!r} is no counter-measure at an asset such as lock-door@d-1{_meant(name, by_id)}")
        barriers.append((_known(model, asset), by_id[name].barrier, by_id[name].degree))
    return Conditions(dark=frozenset(_known(model, one) for one in dark)).with_barriers(barriers)


# ---- export --------------------------------------------------------------------------------------------


def export(
    *, site: Path, at: Sequence[str], threat: str | None, kind: str, when_ms: int | None, out: TextIO
) -> int:  # fmt: skip
    """Writes a site's graph, or what follows from a threat, as GraphML or Cytoscape JSON."""
    premises = load_site(site)
    if bool(at) != bool(threat):
        raise UsageError("--at and --threat go together; without both the whole site is written")
    if threat:
        if threat not in THREAT_TYPES:
            raise UsageError(f"{threat!r} is no threat type{_meant(threat, THREAT_TYPES)}")
        model = ImpactModel.of_site(premises, load_rules().rules)
        seeds = {_known(model, asset) * THREATS + THREAT_NAMES.index(threat): PPM for asset in at}
        moment_ms = when_ms if when_ms is not None else int(time.time() * 1000)
        nodes, edges = impact_parts(model, model.paths(seeds, t_ms=moment_ms))
    else:
        nodes, edges = site_parts(premises.graph, premises.describe)
    if kind == "graphml":
        for line in graphml(nodes, edges):
            out.write(line)
    else:
        out.write(cytoscape(nodes, edges).decode())
    return 0
