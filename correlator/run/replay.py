"""`correlator replay`: a scenario's messages through the pipeline, as fast as it goes or paced.

Reads the messages merged by receive time, folds them in records of up to 500 events, and at the end
lets time go on to the scenario's `until`. Writes to --out:

    threats.ndjson   every revision of every threat      matches.ndjson   every match as told
    events.ndjson    events with their places            decoded.ndjson   every event as decoded
    rejects.ndjson   what could not be taken, with bytes unknown.json     entities the site does not know
    replay.json      scenario, rules, counters, for `correlator explain`
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, Self, TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from correlator.clock import local
from correlator.errors import FaultyFile, UsageError
from correlator.events.event import SCHEMA_VERSION, Event, Reject
from correlator.matching import EngineSettings, Outputs, Record
from correlator.premises import Premises
from correlator.privacy.private import Private
from correlator.privacy.settings import PrivacySettings
from correlator.rulepack import PACK as PACK_FOLDER
from correlator.rules.load import LoadedRules, load_rules, rule_texts, rules_of
from correlator.run.account import account
from correlator.run.collector import settle_collector
from correlator.run.deciding import Deciding, Entries, pipeline_of
from correlator.run.expect import check, load_expect
from correlator.run.linking import Background, usual, without_correlations
from correlator.run.pipeline import Pipeline
from correlator.run.scenario import PACK, BackgroundMessage, Batch, Scenario, load_scenario
from correlator.run.score import score, score_lines

RECORD_EVENTS = 500  # as ingest packs them; what a record holds changes no byte of the output
PACE_STEP_S = 0.1

Linking = Literal["graph", "only", "off"]

_json = msgspec.json.Encoder(order="deterministic")


@dataclass(slots=True)
class Counts:
    """What a replay read."""

    messages: int = 0
    events: int = 0
    silent: int = 0
    rejects: int = 0


def scenario_rules(scenario: Scenario) -> LoadedRules:
    """The rules a scenario names. Raises FaultyFile if one of them is faulty."""
    paths = [PACK_FOLDER if one == PACK else Path(one) for one in scenario.rules]
    if scenario.private is not None:
        return _private_rules(scenario.private, paths, scenario)
    # The folder `rules/` may be empty; the loader takes it as it is.
    loaded = load_rules(paths, overlay=scenario.overlay)
    if loaded.errors:
        raise FaultyFile(loaded.errors)
    return loaded


def _private_rules(private: Private, paths: list[Path], scenario: Scenario) -> LoadedRules:
    """As `scenario_rules`, with tokens. Raises FaultyFile."""
    texts = [(str(path / name), data) for path in paths for name, data in rule_texts(path, [path])]
    overlay = scenario.overlay.read_bytes() if scenario.overlay is not None else None
    clear = rules_of(texts, (str(scenario.overlay), overlay) if overlay is not None else None)
    if faults := [*clear.errors, *private.refused(texts)]:
        raise FaultyFile(faults)
    site = scenario.site_file
    made, changes, _, _ = private.texts(texts, overlay, site.read_bytes(), str(site))
    return rules_of(made, (str(scenario.overlay), changes) if changes is not None else None)


def make_pipeline(
    scenario: Scenario, loaded: LoadedRules, linking: Linking = "graph", baseline: Entries = ()
) -> tuple[Pipeline, Premises]:
    """A fresh pipeline with the scenario's site and rules.

    linking: "graph" links over the site graph too, "only" without any correlation rule or shared evidence,
    both with the rates of `baseline`; "off" by shared evidence alone.
    """
    premises = scenario.premises()
    deciding = Deciding(EngineSettings(lateness_ms=scenario.lateness_ms))
    if linking == "off":
        deciding = replace(deciding, linking=None)
    rules = without_correlations(loaded.rules) if linking == "only" else loaded.rules
    return pipeline_of(premises, rules, deciding, baseline=baseline, by_evidence=linking != "only"), premises


def replay(
    scenario: Path,
    *,
    out: Path | None,
    speed: float | None,
    as_json: bool,
    progress: bool,
    stdout: TextIO,
    stderr: TextIO,
    background: Background | None = None,
    linking: Linking = "graph",
    baseline: Path | None = None,
    privacy: PrivacySettings | None = None,
    scored: bool = False,
) -> int:
    """Replays a scenario folder; 0 when its expectations hold, 1 when not.

    privacy: where it says so, people, badges and accounts are tokens in all that is told and written.

    linking: see `make_pipeline`; what is usual comes from `baseline`, else from the scenario's own baseline or
    its history.

    background: makes the ordinary traffic that scenario.yaml wishes for (`correlator.lab`).
    scored: precision, recall and F are printed too. Raises UsageError and FaultyFile for unusable input.
    """
    loaded_scenario = load_scenario(scenario)
    private = None
    if privacy is not None and privacy.tokens:
        private = Private(privacy, loaded_scenario.maps, time.time_ns() // 1_000_000)
        loaded_scenario = loaded_scenario.tokenised(private)
    loaded = scenario_rules(loaded_scenario)
    entries = usual(loaded_scenario, loaded, background, baseline) if linking != "off" else ()
    pipeline, premises = make_pipeline(loaded_scenario, loaded, linking, entries)
    ordinary: Iterable[BackgroundMessage] = ()
    if loaded_scenario.wish is not None and background is not None:
        ordinary = background(loaded_scenario)
    settle_collector()
    counts = Counts()
    threats: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        files = _Files(stack, out, bare=private is not None)
        shown = stack.enter_context(_progress(progress, stderr))
        started = time.monotonic()
        batches = _paced(loaded_scenario.events(ordinary), speed)
        for record in _records(batches, counts, files, shown, loaded_scenario):
            _take(pipeline.receive(record), threats, files)
        _take(pipeline.finish(loaded_scenario.until_ms), threats, files)
        elapsed_s = time.monotonic() - started
        shown.update(0, description="done")
        files.ending(loaded_scenario, scenario, pipeline, premises, counts, linking, baseline)
    if private is not None:
        private.flush(time.time_ns() // 1_000_000)
    told = [threat for threat in threats.values() if threat["phase"] != "merged"]
    told.sort(key=lambda threat: (threat["first_ms"], threat["id"]))
    if as_json:
        for threat in told:
            stdout.write(_json.encode(threat).decode() + "\n")
    else:
        _tell(told, loaded_scenario, stdout)
    expect = load_expect(loaded_scenario.expect_file) if loaded_scenario.expect_file.exists() else None
    problems = check(expect, told) if expect is not None else None
    _summary(counts, pipeline, premises, elapsed_s, out, stderr)
    if scored and expect is not None:
        stderr.write("\n".join(score_lines(score(expect, told))) + "\n")
    if problems is None:
        stderr.write("no expect.yaml: nothing to compare with\n")
        return 0
    for problem in problems:
        stderr.write(f"not as expected: {problem}\n")
    if not problems:
        stderr.write("all expectations hold\n")
    return 1 if problems else 0


def _records(
    batches: Iterable[Batch], counts: Counts, files: _Files, shown: _Shown, scenario: Scenario
) -> Iterator[Record]:
    """Events of the merged inputs in records; they are in order of receive time, so they promise it."""
    events: list[Event] = []
    first_ms = 0
    for batch in batches:
        if batch.received_ms > scenario.until_ms:
            break
        counts.messages += 1
        counts.events += len(batch.events)
        counts.rejects += len(batch.rejects)
        if not batch.events and not batch.rejects:
            counts.silent += 1
        for reject in batch.rejects:
            files.reject(reject)
        events.extend(batch.events)
        first_ms = first_ms or batch.received_ms
        if len(events) >= RECORD_EVENTS:
            files.decoded(events)
            yield Record(events=events)
            events = []
            shown.at(counts, first_ms, batch.received_ms, scenario)
    if events:
        files.decoded(events)
        yield Record(events=events)


def _take(outputs: Outputs, threats: dict[str, dict[str, Any]], files: _Files) -> None:
    for threat in outputs.threats:
        told = msgspec.to_builtins(threat)
        threats[threat.id] = told
        files.write("threats", told)
    for match in outputs.matches:
        files.write("matches", match)
    for enriched in outputs.enriched:
        files.write("events", enriched)
    for reject in outputs.rejects:
        files.reject(reject)


def _paced(batches: Iterable[Batch], speed: float | None) -> Iterator[Batch]:
    """Lets receive times pass `speed` times as fast as they did."""
    if speed is None:
        yield from batches
        return
    first_ms = -1
    started = time.monotonic()
    for batch in batches:
        if first_ms < 0:
            first_ms = batch.received_ms
        ahead_s = (batch.received_ms - first_ms) / 1000 / speed - (time.monotonic() - started)
        if ahead_s > PACE_STEP_S:
            time.sleep(ahead_s)
        yield batch


def _tell(threats: list[dict[str, Any]], scenario: Scenario, stdout: TextIO) -> None:
    count = len(threats)
    many = "no threat" if not count else "1 threat" if count == 1 else f"{count} threats"
    stdout.write(f"{scenario.name}: {many}\n\n")
    for threat in threats:
        stdout.write("\n".join(account(threat, scenario.zone)) + "\n")


def _summary(
    counts: Counts, pipeline: Pipeline, premises: Premises, elapsed_s: float, out: Path | None, stderr: TextIO
) -> None:
    rate = counts.messages / elapsed_s if elapsed_s else 0.0
    stderr.write(
        f"{counts.messages} messages, {counts.events} events, {counts.silent} messages that say nothing modelled,"
        f" {counts.rejects} rejected; {elapsed_s:.1f} s, {rate:,.0f} messages/s\n"
    )
    told = {name: value for name, value in pipeline.counters().items() if value and name != "folded"}
    if told:
        stderr.write("  " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items()) + "\n")
    unknown = premises.unknowns()
    if unknown:
        stderr.write(f"  {len(unknown)} entities are unknown to the site file; `correlator site unknown` lists them\n")
    if counts.rejects and out is not None:
        stderr.write(f"  rejects are in {out / 'rejects.ndjson'}\n")


# ---- files -------------------------------------------------------------------------------------


class _Files:
    """What --out receives; nothing without it."""

    def __init__(self, stack: ExitStack, out: Path | None, *, bare: bool) -> None:
        self.out = out
        self.bare = bare  # rejects without their messages
        self._open: dict[str, IO[bytes]] = {}
        if out is None:
            return
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is a file; --out names a folder")
        out.mkdir(parents=True, exist_ok=True)
        for name in ("threats", "matches", "events", "decoded", "rejects"):
            self._open[name] = stack.enter_context((out / f"{name}.ndjson").open("wb"))

    def write(self, name: str, message: Any) -> None:
        file = self._open.get(name)
        if file is not None:
            file.write(_json.encode(message) + b"\n")

    def reject(self, reject: Reject) -> None:
        self.write("rejects", msgspec.structs.replace(reject, payload=b"") if self.bare else reject)

    def decoded(self, events: list[Event]) -> None:
        if self.out is not None:
            for event in events:
                self.write("decoded", event)

    def ending(
        self,
        scenario: Scenario,
        given: Path,
        pipeline: Pipeline,
        premises: Premises,
        counts: Counts,
        linking: Linking,
        baseline: Path | None,
    ) -> None:
        if self.out is None:
            return
        unknown = [
            {"kind": kind, "id": one, "count": count, "first_ms": first, "last_ms": last}
            for kind, one, count, first, last in premises.unknowns()
        ]
        (self.out / "unknown.json").write_bytes(msgspec.json.format(_json.encode(unknown)) + b"\n")
        about = {
            "schema_version": SCHEMA_VERSION,
            "scenario": str(given.resolve()),
            "name": scenario.name,
            "zone": str(scenario.zone),
            "counts": msgspec.to_builtins(counts),
            "counters": pipeline.counters(),
            "tokens": scenario.private is not None,
            "linking": linking,
            "baseline": str(baseline.resolve()) if baseline is not None else "",
        }
        (self.out / "replay.json").write_bytes(msgspec.json.format(_json.encode(about)) + b"\n")


# ---- progress ----------------------------------------------------------------------------------


class _Shown:
    """A progress bar with rates and event time; silent when not wanted."""

    def __init__(self, wanted: bool, stderr: TextIO) -> None:
        self._bar = None
        if wanted:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
                TimeElapsedColumn(),
                console=Console(file=stderr),
                transient=True,
            )
            self._bar.add_task("replay", total=1.0, told="")
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, counts: Counts, first_ms: int, now_ms: int, scenario: Scenario) -> None:
        if self._bar is None:
            return
        rate = counts.messages / max(time.monotonic() - self._started, 1e-3)
        done = (now_ms - first_ms) / max(scenario.until_ms - first_ms, 1)
        told = f"{local(now_ms, scenario.zone):%d %b %H:%M:%S}  {counts.messages:,} messages  {rate:,.0f}/s"
        self._bar.update(self._bar.task_ids[0], completed=min(done, 1.0), told=told)

    def update(self, _: int, description: str) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=1.0, description=description)


def _progress(wanted: bool, stderr: TextIO) -> _Shown:
    return _Shown(wanted, stderr)
