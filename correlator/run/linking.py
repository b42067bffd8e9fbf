"""Linking over the site graph in replay: with what was learned before, and how right it was.

A scenario may name `history: {seed, days}`: ordinary days before the scenario's own, made as its
background is, folded for their rates only. `correlator baseline` saves such rates to a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from correlator.clock import DAY_MS
from correlator.errors import UsageError
from correlator.linking.linker import GraphLinker
from correlator.linking.settings import LinkingSettings
from correlator.linking.state import rates_of
from correlator.matching import EngineSettings, Record
from correlator.rules.load import LoadedRules
from correlator.rules.syntax import RuleSet
from correlator.run.deciding import Entries
from correlator.run.pipeline import Pipeline
from correlator.run.scenario import BackgroundMessage, History, Scenario

Background = Callable[..., Iterable[BackgroundMessage]]  # correlator.lab.background.background
HISTORY_EVENTS: Final = 24_000  # messages of a day of history where the scenario wishes for no background
HISTORY_DAYS: Final = 3  # where the scenario names no history
RECORD_EVENTS: Final = 500


def without_correlations(rules: RuleSet) -> RuleSet:
    """The detections alone: what linking has when no rule combines anything."""
    return replace(rules, correlations={})


def learned(scenario: Scenario, loaded: LoadedRules, history: History, background: Background) -> Entries:
    """Rates from the ordinary days of a history, which end where the scenario's own day begins."""
    days = history.days
    wished = scenario.wish.events if scenario.wish is not None else HISTORY_EVENTS
    premises = scenario.premises()
    linker = GraphLinker(premises, LinkingSettings(warm_up_ms=(days + 1) * DAY_MS))
    pipeline = Pipeline(
        scenario.site_id,
        without_correlations(loaded.rules),
        premises,
        EngineSettings(lateness_ms=scenario.lateness_ms),
        scenario.zone,
        linker=linker,
    )
    for day in range(days, 0, -1):
        before = replace(scenario, until_ms=scenario.until_ms - day * DAY_MS)
        events: list[Any] = []
        for batch in before.ordinary(background(before, history.seed + day, wished)):
            events.extend(batch.events)
            if len(events) >= RECORD_EVENTS:
                pipeline.receive(Record(events=events))
                events = []
        pipeline.receive(Record(events=events))
        pipeline.finish(before.until_ms)
    entries = rates_of(linker.snapshot())
    return [(key, value) for key, value in entries if key not in ("1/linker", "1/linker/told")]


def usual(scenario: Scenario, loaded: LoadedRules, background: Background | None, baseline: Path | None) -> Entries:
    """What is usual at a scenario's site: from a saved baseline, else from the scenario's own or its history.

    () without any: linking learns for a day. Raises UsageError.
    """
    file = baseline or scenario.baseline
    if file is not None:
        return load_baseline(file)
    history = scenario.history
    if history is None and scenario.wish is not None:
        history = History(scenario.seed + 1, HISTORY_DAYS)
    return learned(scenario, loaded, history, background) if history is not None and background is not None else ()


def save_baseline(entries: Entries, path: Path) -> None:
    """Writes learned rates to a file."""
    try:
        path.write_bytes(msgspec.msgpack.encode(["correlator-baseline", 1, entries]))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def load_baseline(path: Path) -> Entries:
    """Reads what `save_baseline` wrote. Raises UsageError."""
    try:
        data = msgspec.msgpack.decode(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: is no baseline of this program") from error
    if not isinstance(data, list) or len(data) != 3 or data[:2] != ["correlator-baseline", 1]:
        raise UsageError(f"{path}: is no baseline that this release reads")
    return [(key, value) for key, value in data[2]]
