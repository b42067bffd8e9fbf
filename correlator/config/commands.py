"""`correlator config check | show | apply`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import yaml
from pydantic import BaseModel

from correlator.config.load import Loaded, check, load, missing_files, private_of, shown
from correlator.errors import BodyMissing, FaultyFile
from correlator.impact.measures import Measure
from correlator.impact.rules import Rule
from correlator.ingest.kafka import KafkaSettings
from correlator.run.bodies import Bundle, Chunks, rules_from, settings_from, site_from, tables_from
from correlator.run.log import Configuration
from correlator.stream.applied import Applied, apply, in_force
from correlator.stream.state import read_topic
from correlator.stream.topics import CONFIG


def check_file(file: Path, out: TextIO) -> int:
    """Reads the file and all it names; says what it holds. Raises FaultyFile, UsageError."""
    loaded = load(file)
    bundles = check(loaded)
    if faults := missing_files(loaded):
        raise FaultyFile(faults)
    for name, made in bundles.items():
        rules = rules_from(made.bodies, made.configuration.rules).rules
        out.write(
            f"site {name}: {len(rules.detections)} detections, {len(rules.correlations)} correlations, {_parts(made)}\n"
        )
    sources = loaded.settings.ingest.sources
    out.write(f"sources: {len(sources)}, of inputs: {len({one.input for one in sources})}\n")
    for name in loaded.from_environment:
        out.write(f"from the environment: {name}\n")
    out.write(f"{file}: no fault\n")
    return 0


def _parts(made: Bundle) -> str:
    """Linking and impact of a site, in words."""
    deciding = settings_from(made.bodies, made.configuration.settings)
    tables = tables_from(made.bodies, made.configuration.tables)
    said = "no linking over the graph"
    if deciding.linking is not None:
        said = "linking " + ("from a baseline" if made.configuration.baseline else "after a day of learning")
    if deciding.impact is None:
        return f"{said}, no impact"
    return f"{said}, {len(tables.impact_rules.rules)} impact rules, {len(tables.measures)} counter-measures"


def show(file: Path, out: TextIO) -> int:
    """Prints what is in force for a process started here: file, environment and defaults; secrets masked."""
    loaded = load(file)
    said: dict[str, Any] = shown(loaded)
    out.write(yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=120))
    for name in loaded.from_environment:
        out.write(f"# from the environment: {name}\n")
    return 0


def apply_file(file: Path, out: TextIO, reach: Callable[[Loaded], None], *, dry_run: bool) -> int:
    """Says what will change for each site, then writes it. All or nothing: a fault anywhere refuses it.

    reach: asked once the files are in order, before Kafka is.
    """
    loaded = load(file)
    private = private_of(loaded)
    bundles = check(loaded, private)
    reach(loaded)
    if private is not None and not dry_run:
        private.flush(time.time_ns() // 1_000_000)
    kafka = loaded.settings.kafka
    before, there = in_force(kafka)
    zones = {name: site_from(made.bodies, made.configuration.site).site.timezone_name for name, made in bundles.items()}
    wanted: list[Bundle] = []
    for name, made in bundles.items():
        known = before.get(name)
        lines = changes(kafka, known, made)
        if known is not None and made.bodies.keys() - there:
            lines.append("bodies that Kafka no longer has are written again")
        if known is not None and not lines and known.zone == zones[name]:
            out.write(f"site {name}: nothing changes\n")
            continue
        wanted.append(made)
        out.write(f"site {name}:\n" + "".join(f"  {line}\n" for line in lines))
    for name in sorted(before.keys() - bundles.keys()):
        out.write(f"site {name}: is not in {file}; it keeps what it has\n")
    if not bundles:
        out.write(f"{file} names no site\n")
    if dry_run or not wanted:
        return 0
    for made in wanted:
        done = apply(kafka, made, zones[made.site_id], before.get(made.site_id), there)
        out.write(f"site {made.site_id}: configuration {done.configuration.serial} is written\n")
    return 0


def changes(kafka: KafkaSettings, known: Applied | None, made: Bundle) -> list[str]:
    """What a site's new configuration changes, in words; empty if nothing."""
    new = made.configuration
    rules = rules_from(made.bodies, new.rules).rules
    every = {**rules.detections, **rules.correlations}
    if known is None:
        return [f"new: {len(rules.detections)} detections, {len(rules.correlations)} correlations"]
    old = known.configuration
    if old.bodies() == new.bodies():
        return []
    chunks = Chunks()
    for key, value in read_topic(kafka, CONFIG, 0).items():
        if not key.startswith("site/"):
            chunks.add(key, value)
    lines: list[str] = []
    if old.rules != new.rules:
        try:
            earlier = rules_from(chunks.bodies, old.rules).rules
        except BodyMissing:
            return [*lines, "the rules change; what is in force is not there to compare with"]
        before = {**earlier.detections, **earlier.correlations}
        lines += [f"+ rule {key}" for key in sorted(every.keys() - before.keys())]
        lines += [f"- rule {key}; its open windows are dropped" for key in sorted(before.keys() - every.keys())]
        lines += [
            f"~ rule {key}; its open windows begin anew"
            for key in sorted(every.keys() & before.keys())
            if repr(every[key]) != repr(before[key])
        ]
        if not lines:
            lines.append("rule files change in form only; every rule decides as before")
    if old.site != new.site:
        lines.append("~ site model")
    return [*lines, *_changed_settings(chunks, old, made), *_changed_tables(chunks, old, made)]


def _changed_settings(chunks: Chunks, old: Configuration, made: Bundle) -> list[str]:
    if old.settings == made.configuration.settings:
        return []
    try:
        before = asdict(settings_from(chunks.bodies, old.settings))
    except BodyMissing:
        return ["~ settings of engine, linking and impact"]
    after = asdict(settings_from(made.bodies, made.configuration.settings))
    lines = []
    for part, now in after.items():
        was, now = _plain(before[part]), _plain(now)
        if was is None or now is None:
            if was != now:
                lines.append(f"~ {part}: {'off -> on' if was is None else 'on -> off'}")
            continue
        prefix = "" if part == "engine" else f"{part}."
        lines += [f"~ {prefix}{name}: {was[name]} -> {now[name]}" for name in now if was[name] != now[name]]
    return lines or ["~ time zone rules"]


def _plain(settings: Any) -> dict[str, Any] | None:
    return settings.model_dump() if isinstance(settings, BaseModel) else settings


def _changed_tables(chunks: Chunks, old: Configuration, made: Bundle) -> list[str]:
    """What of the tables of linking and impact changes, rule by rule."""
    new = made.configuration
    lines: list[str] = []
    if old.tables != new.tables:
        try:
            before = tables_from(chunks.bodies, old.tables)
        except BodyMissing:
            return ["~ tables of linking and impact"]
        after = tables_from(made.bodies, new.tables)
        if before.links != after.links:
            lines.append("~ tables of linking")
        lines += _changed_items("impact rule", before.impact_rules.rules, after.impact_rules.rules)
        lines += _changed_items("counter-measure", before.measures, after.measures)
        lines = lines or ["tables of linking and impact change in form only"]
    if old.baseline != new.baseline:
        lines.append("~ baseline; it counts where nothing was learned yet")
    return lines


def _changed_items(what: str, before: Sequence[Rule | Measure], after: Sequence[Rule | Measure]) -> list[str]:
    old, new = {one.id: one for one in before}, {one.id: one for one in after}
    return [
        *(f"+ {what} {name}" for name in new if name not in old),
        *(f"- {what} {name}" for name in old if name not in new),
        *(f"~ {what} {name}" for name in new if name in old and repr(new[name]) != repr(old[name])),
    ]
