"""The same works in other engines, where they are installed: rsigma (a command) and eql (a package).

rsigma: `cargo install rsigma --version 0.23.0 --locked`. It reads the events as NDJSON and parses them,
so its figure includes decoding; the time of a run over no events is taken off. eql knows sequences
only, so it runs work A.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.works import SETTINGS, Rule, bodies, sigma

EVIDENCE_IDS = SETTINGS.max_members


def rsigma_command() -> list[str]:
    """The words that start rsigma's evaluation, [] where it is not installed."""
    program = shutil.which("rsigma")
    if program is None:
        return []
    for words in (["engine", "eval"], ["eval"]):
        if subprocess.run([program, *words, "--help"], capture_output=True, check=False).returncode == 0:
            return [program, *words]
    return []


def rsigma(
    command: list[str], rules: Sequence[Rule], count: int, runs: int = 1, *, evidence: bool = False
) -> tuple[float, str]:
    """(seconds, the median of some runs; lines written) on `count` events; each correlation is silent for one
    timespan after it fired, the nearest it has to an episode. evidence: each alert names up to
    `EVIDENCE_IDS` of its events, as a match of ours does; rsigma's own setting is none."""
    with tempfile.TemporaryDirectory() as folder:
        file, events, none = Path(folder, "rules.yml"), Path(folder, "events.ndjson"), Path(folder, "none.ndjson")
        file.write_text(sigma(rules, suppress=True))
        none.write_text("")
        with events.open("w") as out:
            for body in bodies(count):
                out.write(json.dumps(body, separators=(",", ":")) + "\n")
        words = [*command, "--rules", str(file), "--no-detections", "--timestamp-field", "ts", "--no-stats"]
        words += ["--max-state-entries", "100000000"]  # at its own bound it drops alerts without a word
        if evidence:
            words += ["--correlation-event-mode", "refs", "--max-correlation-events", str(EVIDENCE_IDS)]
        start_s, _ = _fed(words, none)
        taken = [_fed(words, events) for _ in range(runs)]
        seconds = statistics.median(one for one, _ in taken)
        return max(seconds - start_s, 1e-9), str(taken[0][1])


def _fed(words: list[str], events: Path) -> tuple[float, int]:
    before = _children_s()
    with events.open("rb") as given:
        done = subprocess.run(words, stdin=given, capture_output=True, check=False)
    seconds = _children_s() - before
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr.decode("utf-8", "replace")[-300:])
    return seconds, done.stdout.count(b"\n")


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def has_eql() -> bool:
    return importlib.util.find_spec("eql") is not None


def eql(rules: Sequence[Rule], count: int) -> tuple[float, str]:
    """(seconds, results) of ordered rules as EQL sequences, on events decoded beforehand."""
    import eql as package  # type: ignore[import-not-found, import-untyped]

    found = 0

    def told(_: Any) -> None:
        nonlocal found
        found += 1

    engine = package.PythonEngine()
    with package.parser.elasticsearch_syntax, package.parser.skip_optimizations:
        for rule in rules:
            steps = " ".join(f'[any where type == "{type_}"]' for type_ in rule.types)
            engine.add_query(package.parse_query(f"sequence by {rule.by} with maxspan={rule.span_s}s {steps}"))
    engine.add_output_hook(told)
    # eql's times are Windows file times: 100 ns since 1601.
    given = [package.Event("any", body["ts"] * 10_000, body) for body in bodies(count)]
    started = time.process_time()
    engine.stream_events(given)
    return time.process_time() - started, str(found)
