"""How quick impact is: `python -m benchmarks.impact [--quick] [--json FILE]`.

    spread    from one finding to the likelihood of everything it reaches and of every service, at 500,
              10,000, 100,000 and 1,000,000 assets of a generated campus; memory of the graph
    revision  a threat grows by a finding, or a camera, door or person changes: the paths and the services
              as they then stand, and what is told of them, on a site of 10,000 assets
    advice    the best set of up to three counter-measures against a threat of several findings
    graphs    the links of one state in our arrays, in networkx and (where installed) in rustworkx
    load      a site file of 10,000 and 100,000 assets, each in a process of its own: from YAML, and as kept
              from the time before (`correlator.kept`); then the impact of findings on the loaded site, and
              the most memory that the process had

Findings are spread evenly over all assets that some rule starts from; the threat is one of those the
rules know for that class of asset. Processor time of one core; of fifteen times that a question is asked
the best counts. The links of states are warm, as after the first minutes of a running engine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.measure import machine, one_core, table, timed
from benchmarks.memory import resident_bytes
from correlator.events.event import Entity, Event
from correlator.events.threat import Finding
from correlator.impact.graph import THREATS, state_of
from correlator.impact.live import LiveImpact
from correlator.impact.measures import Advisor, load_measures
from correlator.impact.model import ImpactModel
from correlator.impact.rules import PPM, load_rules
from correlator.impact.services import services_hit
from correlator.lab.campus import Campus
from correlator.premises import Premises, load_site
from correlator.premises.vocabulary import ASSET_CLASSES
from correlator.run.collector import settle_collector

RULES = load_rules().rules
CLASSES = tuple(ASSET_CLASSES)
T = 1_772_438_400_000
PASSES = 15  # the best time of each question counts: what others do on a machine makes it slower, never faster
TIMES = ("p50 ms", "p95", "p99", "longest")


def starts() -> dict[str, list[str]]:
    """Asset class -> threats that some rule starts from."""
    found: dict[str, dict[str, None]] = {}
    for rule in RULES:
        for asset_class in rule.sources or CLASSES:
            found.setdefault(asset_class, {}).update(dict.fromkeys(rule.threats))
    return {asset_class: list(threats) for asset_class, threats in found.items()}


def findings(campus: Campus, count: int, seed: int) -> list[tuple[int, str]]:
    """(asset, threat), evenly over the assets."""
    dice, known = Random(seed), starts()
    found: list[tuple[int, str]] = []
    while len(found) < count:
        asset = dice.randrange(len(campus.ids))
        threats = known.get(CLASSES[campus.classes[asset]])
        if threats:
            found.append((asset, dice.choice(threats)))
    return found


def best(passes: list[list[float]]) -> list[float]:
    """The best time of each question over some passes."""
    return [min(times) for times in zip(*passes, strict=True)]


def quantiles(times_s: list[float]) -> dict[str, float]:
    times = sorted(times_s)
    return {
        "p50_ms": round(statistics.median(times) * 1000, 3),
        "p95_ms": round(times[int(len(times) * 0.95)] * 1000, 3),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 3),
        "max_ms": round(times[-1] * 1000, 3),
    }


def whole(model: ImpactModel, seed: int) -> int:
    """Works out everything that follows from one state; gives the number of paths."""
    paths = model.paths({seed: PPM})
    for state in paths.reached:
        paths.likelihood(state)
    model.hit_services(paths, services_hit(paths))
    return len(paths.states)


def times_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The cells of `TIMES`."""
    return f"{row['p50_ms']:.3f}", f"{row['p95_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['max_ms']:.1f}"


def say(text: str) -> None:
    print(f"{text}\n", flush=True)


def spread(assets: int, count: int) -> dict[str, Any]:
    gc.collect()
    before = resident_bytes()
    campus = Campus(assets)
    started = time.process_time()
    graph = campus.graph()
    compiled_s = time.process_time() - started
    model = ImpactModel(graph, RULES, campus.protections)
    memory = resident_bytes() - before
    seeds = [state_of(asset, threat) for asset, threat in findings(campus, count, 5)]
    settle_collector()

    reached = [whole(model, seed) for seed in seeds]
    times = best([[timed(lambda seed=seed: whole(model, seed)) for seed in seeds] for _ in range(PASSES)])
    gc.unfreeze()
    reached.sort()
    return {
        "assets": len(campus.ids), "relations": campus.edges, **quantiles(times),
        "paths_p99": reached[int(len(reached) * 0.99)], "paths_max": reached[-1],
        "compile_s": round(compiled_s, 1), "memory_mb": round(memory / 1e6),
    }  # fmt: skip


def site(assets: int) -> tuple[Premises, Campus]:
    """A campus as a site file says it."""
    campus = Campus(assets)
    with tempfile.TemporaryDirectory() as folder:
        return load_site(_written(campus, Path(folder))), campus


def _written(campus: Campus, folder: Path) -> Path:
    path = folder / "campus.yaml"
    with path.open("w", encoding="utf-8") as out:
        out.writelines(campus.site_yaml())
    return path


def loads(assets: int) -> dict[str, Any]:
    """A site file loaded from YAML and then as kept, each by a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = _written(Campus(assets), Path(folder))
        words = [sys.executable, "-m", "benchmarks.impact", "--load", str(path)]
        environment = {**os.environ, "CORRELATOR_CACHE": str(Path(folder) / "cache")}
        return {
            way: json.loads(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)
            for way in ("from YAML", "as kept")
        }


def most_resident_bytes() -> int:
    """The most resident memory that this process had since it began; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def load(path: Path) -> dict[str, Any]:
    """Loads a site file and asks for the impact of 500 findings; seconds of this process and its most memory."""
    started = time.process_time()
    premises = load_site(path)
    taken_s = time.process_time() - started
    model = ImpactModel.of_site(premises, RULES)
    dice, known, graph = Random(5), starts(), model.graph
    seeds = []
    while len(seeds) < 500:
        asset = dice.randrange(len(graph.ids))
        if threats := known.get(CLASSES[graph.classes[asset]]):
            seeds.append(state_of(asset, dice.choice(threats)))
    settle_collector()
    times = best([[timed(lambda seed=seed: whole(model, seed)) for seed in seeds] for _ in range(PASSES)])
    return {"load_s": round(taken_s, 2), "peak_mb": round(most_resident_bytes() / 1e6), **quantiles(times)}


def revision(premises: Premises, campus: Campus, threats: int) -> dict[str, Any]:
    """Each threat grows by ten findings near each other; between them a door or camera changes."""
    dice, known = Random(3), starts()
    live = LiveImpact(premises)
    wards: dict[str, list[int]] = {}
    for asset, name in enumerate(campus.ids):
        wards.setdefault(name.partition(":")[2] or name, [])
        ward = "-".join((name.partition(":")[2] or name).split("-")[:2])
        if CLASSES[campus.classes[asset]] in known:
            wards.setdefault(ward, []).append(asset)
    places = [assets for assets in wards.values() if len(assets) > 50]
    settle_collector()
    passes: list[tuple[list[float], list[float]]] = []
    for turn in range(1 + PASSES):  # the first turn warms the links
        dice.seed(3)
        grown: list[float] = []
        moved: list[float] = []
        passes.append((grown, moved))
        for number in range(threats):
            found: list[Finding] = []
            near = dice.choice(places)
            for step in range(10):
                asset = dice.choice(near)
                threat = dice.choice(known[CLASSES[campus.classes[asset]]])
                t_ms = T + number * 1_000_000 + step * 10_000
                found.append(Finding(
                    id=f"{turn}-{number}-{step}", site="campus", kind="k", title="t", asset=campus.ids[asset], t_ms=t_ms,
                    domain="cyber", level=dice.choice(("medium", "high", "critical")), threat_type=threat,
                ))  # fmt: skip
                started = time.process_time()
                live.revise(str(number), found, t_ms)
                grown.append(time.process_time() - started)
                door = dice.choice([one for one in near if CLASSES[campus.classes[one]] == "door"])
                camera = dice.choice(near)
                premises.observe(Event(
                    id=f"{2 * turn}-{number:08d}{step:02d}".zfill(32), site="campus", source="s", dialect="d",
                    kind=dice.choice(("door.opened", "door.closed", "door.locked", "door.unlocked")), time_ms=t_ms, received_ms=t_ms,
                    entities=(Entity("where", "door", campus.ids[door]),),
                ))  # fmt: skip
                premises.observe(Event(
                    id=f"{2 * turn + 1}-{number:08d}{step:02d}".zfill(32), site="campus", source="s", dialect="d",
                    kind=dice.choice(("camera.offline", "camera.online")), time_ms=t_ms, received_ms=t_ms,
                    entities=(Entity("observer", "camera", campus.ids[camera]),),
                ))  # fmt: skip
                started = time.process_time()
                live.revise(str(number), found, t_ms + 1)
                moved.append(time.process_time() - started)
            live.forget(str(number))
    gc.unfreeze()
    by_finding, by_state = (best([one[at] for one in passes[1:]]) for at in (0, 1))
    return {"by a finding": quantiles(by_finding), "by live state": quantiles(by_state)}


def advice(campus: Campus, threats: int) -> dict[str, Any]:
    model = ImpactModel(campus.graph(), RULES, campus.protections)
    advisor = Advisor(model, load_measures())
    picked = findings(campus, threats * 4, 9)
    times, tried = [], []
    for number in range(threats):
        seeds = {state_of(asset, threat): PPM for asset, threat in picked[number * 4 : number * 4 + 4]}
        paths = model.paths(seeds)
        started = time.process_time()
        tried.append(advisor.plan(paths, 0).tried)
        times.append(time.process_time() - started)
    return {**quantiles(times), "sets_worked_out_p50": statistics.median(tried)}


def graphs(campus: Campus) -> dict[str, float]:
    """Microseconds to find the links of a state in the flat arrays and in graph libraries, where installed."""
    graph = campus.graph()
    table = ImpactModel(graph, RULES, campus.protections).table
    states = [state_of(asset, threat) for asset, threat in findings(campus, 5_000, 4)]
    rules = table._groups  # class and threat -> group -> steps
    edges = [
        (source, target, relation)
        for columns in (campus.written, campus.implied)
        for source, target, relation in zip(columns.sources, columns.targets, columns.relations, strict=True)
    ]

    def wanted(state: int, neighbours: Any) -> int:
        groups = rules.get(graph.classes[state // THREATS] * THREATS + state % THREATS, {})
        found = 0
        for other, relation_and_way in neighbours:
            found += len(groups.get(relation_and_way * len(CLASSES) + graph.classes[other], ()))
        return found

    def us(look: Any) -> float:
        started = time.process_time()
        for state in states:
            look(state)
        return round((time.process_time() - started) / len(states) * 1e6, 2)

    taken = {"flat arrays": us(lambda state: table._find(state, 0))}
    import networkx as nx

    plain: nx.MultiDiGraph[int] = nx.MultiDiGraph()
    plain.add_edges_from((source, target, relation) for source, target, relation in edges)

    def by_networkx(state: int) -> int:
        asset = state // THREATS
        out = ((other, 2 * key) for _, other, key in plain.out_edges(asset, keys=True))
        back = ((other, 2 * key + 1) for other, _, key in plain.in_edges(asset, keys=True))
        return wanted(state, (one for both in (out, back) for one in both))

    taken["networkx"] = us(by_networkx)
    try:
        import rustworkx as rx
    except ImportError:
        return taken
    rust = rx.PyDiGraph()
    rust.add_nodes_from(range(len(campus.ids)))
    rust.add_edges_from(edges)

    def by_rustworkx(state: int) -> int:
        asset = state // THREATS
        out = ((other, 2 * key) for _, other, key in rust.out_edges(asset))
        back = ((other, 2 * key + 1) for other, _, key in rust.in_edges(asset))
        return wanted(state, (one for both in (out, back) for one in both))

    taken["rustworkx"] = us(by_rustworkx)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="How quick impact is.")
    parser.add_argument("--quick", action="store_true", help="Small sizes, to see that it runs.")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="Write the figures here as well.")
    arguments = parser.parse_args()
    one_core()
    if arguments.load:
        print(json.dumps(load(arguments.load)))
        return
    sizes = (500, 2_000) if arguments.quick else (500, 10_000, 100_000, 1_000_000)
    count = 200 if arguments.quick else 2_000
    figures: dict[str, Any] = {"machine": machine(), "spread": {}}
    say("  ".join(f"{name}: {value}" for name, value in figures["machine"].items()))
    rows = []
    for size in sizes:
        row = figures["spread"][str(size)] = spread(size, count)
        rows.append((
            f"{row['assets']:,}", f"{row['relations']:,}", *times_of(row), f"{row['paths_p99']:,}", f"{row['memory_mb']:,}",
        ))  # fmt: skip
    say(table(("impact of one finding: assets", "relations", *TIMES, "paths p99", "graph MB"), rows))
    say("SAFECARE published less than 1,000 ms at 500 assets")
    premises, campus = site(2_000 if arguments.quick else 10_000)
    found = figures["revision"] = revision(premises, campus, 5 if arguments.quick else 100)
    head = f"revision, {len(campus.ids):,} assets and {campus.edges:,} relations"
    say(table((head, *TIMES), [(what, *times_of(found[what])) for what in ("by a finding", "by live state")]))
    figures["load"] = {size: loads(size) for size in ((2_000,) if arguments.quick else (10_000, 100_000))}
    say(table(("site file loaded", "assets", "s", "most memory MB", *(f"impact {one}" for one in TIMES)), [
        (way, f"{size:,}", f"{one['load_s']:.1f}", f"{one['peak_mb']:,}", *times_of(one))
        for size, ways in figures["load"].items() for way, one in ways.items()
    ]))  # fmt: skip
    found = figures["advice"] = advice(campus, 5 if arguments.quick else 100)
    say(table(("best set of counter-measures, four findings", *TIMES), [("", *times_of(found))]))
    figures["graphs"] = graphs(campus)
    say(table(("links of a state by", "us"), [(one, f"{us:.2f}") for one, us in figures["graphs"].items()]))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
