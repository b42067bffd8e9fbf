"""`correlator config check | show | apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

import yaml

from correlator.config.load import check, load, missing_files, shown
from correlator.errors import BodyMissing, FaultyFile
from correlator.ingest.kafka import KafkaSettings
from correlator.run.bodies import Bundle, Chunks, rules_from, settings_from, site_from
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
        out.write(f"site {name}: {len(rules.detections)} detections, {len(rules.correlations)} correlations\n")
    sources = loaded.settings.ingest.sources
    out.write(f"{len(sources)} sources on {len({one.input for one in sources})} inputs\n")
    for name in loaded.from_environment:
        out.write(f"from the environment: {name}\n")
    out.write(f"{file}: no fault\n")
    return 0


def show(file: Path, out: TextIO) -> int:
    """Prints what is in force for a process started here: file, environment and defaults; secrets masked."""
    loaded = load(file)
    said: dict[str, Any] = shown(loaded)
    out.write(yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=120))
    for name in loaded.from_environment:
        out.write(f"# from the environment: {name}\n")
    return 0


def apply_file(file: Path, out: TextIO, *, dry_run: bool) -> int:
    """Says what will change for each site, then writes it. All or nothing: a fault anywhere refuses it."""
    loaded = load(file)
    bundles = check(loaded)
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
    lines += _changed_settings(chunks, old, made)
    return lines


def _changed_settings(chunks: Chunks, old: Configuration, made: Bundle) -> list[str]:
    if old.settings == made.configuration.settings:
        return []
    try:
        before = settings_from(chunks.bodies, old.settings)
    except BodyMissing:
        return ["~ engine settings"]
    after = settings_from(made.bodies, made.configuration.settings)
    names = [name for name in type(after).__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
    return [f"~ {name}: {getattr(before, name)} -> {getattr(after, name)}" for name in names] or ["~ time zone rules"]
