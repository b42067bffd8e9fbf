"""Prints the figures of this machine: `python -m benchmarks [PART...] [--json FILE] [--quick]`.

    decode    messages and events a second, by dialect
    works     works A, B, C, C2 at 1, 8, 64 and 1,000 rules, interpreted
    compiled  the same in a process with the hot modules compiled by mypyc; results are compared
    day       bytes to threats, and decoded events with the rule pack, on an ordinary hospital day
    touch     10 rules against 1,000 of which an event can touch no more
    memory    bytes of a live group
    linking   findings a second: when every finding opens an episode, and when most go on with one
    peers     rsigma and eql on the same events, where they are installed

Each figure is the median of three runs on one core, in processor time; decoding is timed in short parts of
which the best of fifteen passes count, linking likewise of five. What they say is in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from benchmarks import compile as compiling
from benchmarks import hospital, linking, peers, works
from benchmarks.measure import machine, median_s, one_core, table, thousands, timed, undisturbed_s
from benchmarks.works import RECORD_EVENTS, WORKS, loaded, sigma
from correlator.events import Event
from correlator.linking.ground import SiteGround
from correlator.linking.settings import LinkingSettings
from correlator.matching import Engine, EngineSettings, Outputs, Record, Tells
from correlator.rules.load import LoadedRules
from correlator.run.collector import settle_collector
from correlator.run.pipeline import Pipeline
from correlator.run.replay import make_pipeline, scenario_rules
from correlator.run.scenario import Scenario

ROOT = Path(__file__).resolve().parent.parent
DECODE_PART = 250  # messages that are timed together: short enough to run undisturbed now and then
SLOW_S = 60.0  # a first run that takes longer is not repeated; the table says so


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    events: int = 200_000
    rule_counts: tuple[int, ...] = (1, 8, 64, 1000)
    decode_messages: int = 10_000
    decode_passes: int = 15
    day_messages: tuple[int, ...] = (24_000, 200_000)
    groups: int = 1_000_000
    findings: int = 100_000
    assets: int = 10_000
    linking_passes: int = 5
    runs: int = 3
    tells: Tells = "growing"


QUICK = Size(
    events=1_000,
    rule_counts=(1, 8),
    decode_messages=50,
    decode_passes=1,
    day_messages=(15_000,),
    groups=2_000,
    findings=2_000,
    assets=1_000,
    linking_passes=1,
    runs=1,
)

Found = dict[str, Any]


def say(text: str) -> None:
    print(text, flush=True)


# ---- parts: each prints its table and returns its figures ------------------------------------------


def decode(size: Size) -> Found:
    found: Found = {}
    rows = []
    sent = hospital.day(hospital.scenario(), size.day_messages[0])
    for name, ones in hospital.by_dialect(sent, size.decode_messages).items():
        events = len(hospital.decoded(ones))
        parts = [ones[at : at + DECODE_PART] for at in range(0, len(ones), DECODE_PART)]
        seconds, spread = undisturbed_s([partial(_decode_all, part) for part in parts], size.decode_passes)
        octets = sum(len(message.payload) for _, message in ones) // len(ones)
        found[name] = {"messages_per_s": len(ones) / seconds, "events_per_s": events / seconds, "bytes": octets}
        rates = (thousands(len(ones) / seconds), thousands(events / seconds))
        rows.append((name, *rates, str(octets), f"{spread:.0%}"))
    say(table(("decode + normalise", "messages/s", "events/s", "bytes", "disturbed"), rows))
    return found


def _decode_all(ones: list[hospital.Sent]) -> None:
    for source, message in ones:
        source.dialect.decode(message, source.context)


def run_works(size: Size) -> Found:
    """Rates, matches and hashes of every work; no output, since it also runs in the compiled process."""
    events = works.events(size.events)
    settle_collector()
    found: Found = {}
    for name, make in WORKS.items():
        for count in size.rule_counts:
            rules = loaded(sigma(make(count)))
            taken, matches, digest = works.run(rules, events, digest=True, tells=size.tells)
            seconds, runs = taken, 1
            if taken < SLOW_S and size.runs > 1:
                others_s = [works.run(rules, events, tells=size.tells)[0] for _ in range(size.runs - 1)]
                seconds, runs = statistics.median([taken, *others_s]), size.runs
            found[f"{name}-{count}"] = {
                "events_per_s": len(events) / seconds, "matches": matches, "hash": digest, "runs": runs,
            }  # fmt: skip
            print(f"  {name}-{count} done", file=sys.stderr, flush=True)
    return found


def interpreted(size: Size) -> Found:
    found = run_works(size)
    say(table(("work-rules", "events/s", "matches", "hash of all results", "runs"), [
        (name, thousands(one["events_per_s"]), f"{one['matches']:,}", one["hash"], str(one["runs"]))
        for name, one in found.items()
    ]))  # fmt: skip
    return found


def compiled(size: Size, plain: Found) -> Found:
    lack = compiling.missing()
    if lack:
        say(f"compiled: not measured, {lack}")
        return {"missing": lack}
    folder = ROOT / "build" / "compiled"
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.compile", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if made.returncode:
        say("compiled: mypyc refused\n" + made.stderr[-2000:])
        return {"refused": made.stderr[-2000:]}
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch, "works.json")
        # -P keeps the checkout out of the path, so that `correlator` is the compiled one.
        path = os.pathsep.join([str(folder), scratch])
        Path(scratch, "benchmarks").symlink_to(ROOT / "benchmarks")
        words = [sys.executable, "-P", "-m", "benchmarks", "--works-only", str(result)]
        words += ["--rules", *map(str, size.rule_counts), "--events", str(size.events), "--runs", str(size.runs)]
        words += ["--tells", size.tells]
        subprocess.run(words, cwd=scratch, env={**os.environ, "PYTHONPATH": path}, check=True)
        told = json.loads(result.read_text())
    if not told["from"].startswith(str(folder)) or told["from"].endswith(".py"):
        raise SystemExit(f"the compiled process ran {told['from']}")
    rows = []
    for name, one in told["works"].items():
        other = plain.get(name)
        rate, same = "", ""
        if other:
            rate = f"{one['events_per_s'] / other['events_per_s']:.2f}x"
            same = "same" if one["hash"] == other["hash"] else "DIFFERENT"
        rows.append((name, thousands(one["events_per_s"]), rate, same, str(one["runs"])))
    say(table(("compiled", "events/s", "to interpreted", "results", "runs"), rows))
    return dict(told["works"])


def day(size: Size) -> Found:
    of = hospital.scenario()
    rules = scenario_rules(of)
    found: Found = {}
    rows = []
    asked: list[str] = []
    for wish in size.day_messages:
        sent = hospital.day(of, wish)
        events = hospital.decoded(sent)

        runs: tuple[tuple[str, int, Callable[[], float]], ...] = (
            ("bytes to threats, messages/s", len(sent), lambda sent=sent: _whole(of, rules, sent)),
            (
                "decoded, pipeline, events/s",
                len(events),
                lambda events=events: _folding(_pipeline(of, rules), events, of),
            ),
            (
                "decoded, engine only, events/s",
                len(events),
                lambda events=events: _folding(_engine(of, rules), events, of),
            ),
        )
        for what, count, run in runs:
            seconds, spread = median_s(run, size.runs)
            found[f"{what} ({len(sent)} messages)"] = count / seconds
            rows.append((what, f"{len(sent):,}", f"{len(events):,}", thousands(count / seconds), f"{spread:.0%}"))
        tests, met = _tests(_engine(of, rules), events)
        found[f"tests an event ({len(sent)} messages)"] = tests / len(events)
        found[f"events that meet a test ({len(sent)} messages)"] = met / len(events)
        asked.append(
            f"{len(events):,} events: {tests / len(events):.2f} tests an event; {met / len(events):.0%} meet any at all"
        )
    rules_count = len(rules.rules.detections) + len(rules.rules.correlations)
    say(f"An ordinary hospital day with the rule pack ({rules_count} rules and detections)")
    say(table(("path", "messages", "events", "a second", "spread"), rows))
    for line in asked:
        say(line)
    return found


def _tests(engine: Engine, events: list[Event]) -> tuple[int, int]:
    """(tests of detections that are run for the events, events for which at least one is)."""
    index = engine.plan.index
    for event in events:
        index.hits(event)
    run = 0

    def counted(test: Callable[[Event], bool]) -> Callable[[Event], bool]:
        def counting(event: Event) -> bool:
            nonlocal run
            run += 1
            return test(event)

        return counting

    for candidate in index.candidates():
        if candidate.test is not None:
            candidate.test = counted(candidate.test)
    met = 0
    for event in events:
        before = run
        index.hits(event)
        met += run > before
    return run, met


def _pipeline(of: Scenario, rules: LoadedRules) -> Pipeline:
    return make_pipeline(of, rules)[0]


def _engine(of: Scenario, rules: LoadedRules) -> Engine:
    settings = EngineSettings(lateness_ms=of.lateness_ms, enriched="off")
    return Engine(of.site_id, rules.rules, _pipeline(of, rules).places, settings, of.zone)


def _whole(of: Scenario, rules: LoadedRules, sent: list[hospital.Sent]) -> float:
    line = _pipeline(of, rules)
    return timed(lambda: _fed(line, sent, of.until_ms))


def _folding(line: Pipeline | Engine, events: list[Event], of: Scenario) -> float:
    return timed(lambda: _folded(line, events, of.until_ms))


def _fed(line: Pipeline, sent: list[hospital.Sent], until_ms: int) -> None:
    events: list[Event] = []
    for source, message in sent:
        for one in source.dialect.decode(message, source.context):
            if isinstance(one, Event):
                events.append(one)
        if len(events) >= RECORD_EVENTS:
            line.receive(Record(events=events))
            events = []
    line.receive(Record(events=events))
    line.finish(until_ms)


def _folded(line: Pipeline | Engine, events: list[Event], until_ms: int) -> Outputs:
    for start in range(0, len(events), RECORD_EVENTS):
        line.receive(Record(events=events[start : start + RECORD_EVENTS]))
    return line.finish(until_ms)


def touch(size: Size) -> Found:
    """Ten rules of C2 and 990 more that ask for types, hosts and users that no event has."""
    ten = works.work_c2(10)
    quiet: list[str] = []
    for at in range(990):
        field, value = (("type", f"T{at:03d}"), ("host", f"absent-{at:03d}"), ("user", f"absent-{at:03d}"))[at % 3]
        quiet.append(
            f"title: quiet {at}\nid: 00000000-0000-4000-8000-{at:012d}\nlogsource:\n  product: bench\ndetection:\n"
            f"  sel:\n    {field}: {value}\n    res: deny\n  condition: sel\nlevel: low\n"
        )
    events = works.events(size.events)
    few = loaded(sigma(ten))
    many = loaded("---\n".join([sigma(ten), *quiet]))
    ten_s, _ = median_s(lambda: works.run(few, events)[0], size.runs)
    thousand_s, _ = median_s(lambda: works.run(many, events)[0], size.runs)
    say(f"1,000 rules of which an event can touch no more than of 10: {thousand_s / ten_s:.2f} times the cost "
        f"({thousands(len(events) / ten_s)} and {thousands(len(events) / thousand_s)} events/s)")  # fmt: skip
    return {"ratio": thousand_s / ten_s, "ten_per_s": len(events) / ten_s, "thousand_per_s": len(events) / thousand_s}


def memory(size: Size) -> Found:
    words = [sys.executable, "-m", "benchmarks.memory", str(size.groups)]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    found: Found = json.loads(told.stdout)
    say(f"memory: {found['bytes_per_group']:.0f} bytes a live group with one event ({found['groups']:,} groups)")
    return found


def linked(size: Size) -> Found:
    """Rates of linking by an engine that knows the site's reaches, and beside it of the first run, which finds them."""
    premises = linking.site(size.assets)
    found: Found = {}
    rows = []
    for name, items in (
        ("every finding opens", linking.opening(premises, size.findings)),
        (f"1 of {linking.OPENS} opens", linking.extending(premises, 5 * size.findings)),
    ):
        ground = SiteGround(premises, LinkingSettings())
        first, engine = linking.run(premises, items, ground)
        told, episodes = sum(one.reported for one in engine.all_threats()), engine.counters["episodes"]
        hashes = {linking.digest(engine)}
        passes = []
        for _ in range(size.linking_passes):
            taken, engine = linking.run(premises, items, ground)
            hashes.add(linking.digest(engine))
            passes.append(taken)
        if len(hashes) != 1:
            raise SystemExit(f"{name}: two runs gave different results")
        best_s = sum(map(min, zip(*passes, strict=True)))
        disturbed = statistics.median(map(sum, passes)) / best_s - 1
        found[name] = {
            "findings_per_s": len(items) / best_s, "first_per_s": len(items) / sum(first), "episodes": episodes,
            "threats_told": told, "hash": next(iter(hashes)),
        }  # fmt: skip
        rates = (thousands(len(items) / best_s), f"{disturbed:.0%}", thousands(len(items) / sum(first)))
        rows.append((name, f"{len(items):,}", f"{episodes:,}", str(told), *rates, next(iter(hashes))))
    say(f"Linking on a campus of {len(premises.assets):,} assets, {linking.DAYS} days, the terms of every link kept")
    head = (
        "findings",
        "all",
        "episodes",
        "threats told",
        "findings/s",
        "disturbed",
        "first run",
        "hash of all results",
    )
    say(table(head, rows))
    return found


def others(size: Size, own: Found) -> Found:
    found: Found = {}
    rows: list[tuple[str, ...]] = []

    def row(engine: str, work: str, rate: float, told: str) -> None:
        found[f"{engine} {work}"] = rate
        ours = own.get(work)
        rows.append((f"{engine} {work}", thousands(rate), told, f"{ours['events_per_s'] / rate:.2f}x" if ours else ""))

    command = peers.rsigma_command()
    if command:
        for name, make in WORKS.items():
            for count in size.rule_counts:
                for engine, evidence in (("rsigma", False), ("rsigma with evidence", True)):
                    seconds, told = peers.rsigma(command, make(count), size.events, size.runs, evidence=evidence)
                    row(engine, f"{name}-{count}", size.events / seconds, told)
    else:
        say("rsigma: not installed (cargo install rsigma --version 0.23.0 --locked)")
    if peers.has_eql():
        for count in (1, 8, 64):
            seconds, told = peers.eql(works.work_a(count), size.events // 10)
            row("eql", f"A-{count}", size.events // 10 / seconds, told)
    else:
        say("eql: not installed (pip install eql)")
    if rows:
        say(table(("other engine", "events/s", "results", "ours to it"), rows))
    return found


PARTS = ("decode", "works", "compiled", "day", "touch", "memory", "linking", "peers")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all without any")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="a smoke test: small, one run, nothing compiled")
    parser.add_argument("--rules", type=int, nargs="+", metavar="N", help="rule counts of the works")
    parser.add_argument("--events", type=int, metavar="N", help="events of the works (200,000)")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of which the median counts (3)")
    parser.add_argument("--tells", choices=get_args(Tells), metavar="WHAT",
                        help="works: of an episode, its opening and its end (growing), only its end (final), as `match` does, "
                             "or only its opening (first), as `match --first` and rsigma do")  # fmt: skip
    parser.add_argument("--works-only", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    size = QUICK if given.quick else Size()
    asked = {
        "rule_counts": given.rules and tuple(given.rules), "events": given.events, "runs": given.runs,
        "tells": given.tells,
    }  # fmt: skip
    size = replace(size, **{name: value for name, value in asked.items() if value})
    if arguments is None:
        one_core()
    if given.works_only:
        from correlator.matching import matcher

        told = {"from": matcher.__file__, "works": run_works(size)}
        given.works_only.write_text(json.dumps(told))
        return 0
    wanted = given.parts or [part for part in PARTS if not (given.quick and part == "compiled")]
    figures: Found = {"machine": machine()}
    say("  ".join(f"{name}: {value}" for name, value in figures["machine"].items()) + "\n")
    for part in PARTS:
        if part not in wanted:
            continue
        if part in RUN_BESIDE:
            figures[part] = RUN_BESIDE[part](size, figures.get("works", {}))
        else:
            figures[part] = RUN[part](size)
        say("")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


RUN: dict[str, Callable[[Size], Found]] = {
    "decode": decode, "works": interpreted, "day": day, "touch": touch, "memory": memory,
    "linking": linked,
}  # fmt: skip
RUN_BESIDE: dict[str, Callable[[Size, Found], Found]] = {"compiled": compiled, "peers": others}  # beside our works


if __name__ == "__main__":
    raise SystemExit(main())
