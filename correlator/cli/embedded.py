"""`correlator run --embedded`: one site in one process, without Kafka."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from correlator.cli.ending import guarded
from correlator.cli.options import config_option, examples, log_level_option, on_kafka


def embedded_parts(file: Path) -> Any:
    """What correlator.yaml says about its one site, read and checked. Raises FaultyFile, UsageError."""
    from correlator.clock import HOUR_MS
    from correlator.config.load import check, load, private_of
    from correlator.embedded.service import Parts
    from correlator.errors import UsageError
    from correlator.ingest.sources import source_rows

    loaded = load(file)
    settings = loaded.settings
    private = private_of(loaded)
    bundles = check(loaded, private)
    if len(bundles) != 1:
        raise UsageError(f"{file}: the embedded carrier is for one site; `sites:` names {len(bundles)}")
    (bundle,) = bundles.values()
    identity = private.identity if private is not None else None
    found = source_rows(settings.ingest.sources, str(loaded.file), identity)
    rows = [replace(row, site=row.site or bundle.site_id) for row in found]
    embedded = settings.embedded.model_copy(update={"file": loaded.folder / settings.embedded.file})
    return Parts(
        bundle,
        rows,
        settings.ingest,
        settings.inputs,
        settings.bridge,
        embedded,
        settings.console.max_shelf_h * HOUR_MS,
        private,
    )


@click.command(
    epilog=examples(
        "correlator run --embedded",
        "correlator run --embedded -c h1/correlator.yaml",
        "correlator run --embedded --json | jq .title",
    )
)
@click.option("--embedded", is_flag=True, help="All in this process, with a SQLite log in Kafka's place.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print each revision of a threat as a JSON line.")
@log_level_option
def run(embedded: bool, file: Path, as_json: bool, log_level: str) -> int:
    """Receive, correlate and tell threats, on one machine.

    Takes MQTT, files, syslog and HTTP, and prints threats as they appear, until stopped.

    One SQLite file holds everything: what was received, state, and what was told. Killed at any moment,
    it goes on where it was; with a full disk it waits and says so. On Kafka the same work is done by
    `correlator bridge`, `ingest` and `worker`.
    """
    if not embedded:
        raise click.UsageError("say --embedded; on Kafka start `correlator bridge run`, `ingest` and `worker`")
    from correlator.embedded.service import Service
    from correlator.ingest.logs import log_to

    def work() -> int:
        parts = embedded_parts(file)
        log_to(sys.stderr, log_level)
        return Service(parts, sys.stdout, as_json=as_json).run()

    return guarded(work)


def replay_log(
    log: Path,
    out: Any,
    *,
    config: Path,
    site: str,
    since: str | None,
    until: str | None,
    rules: tuple[str, ...],
    overlay: Path | None,
    as_json: bool,
) -> int:
    """The work of `correlator replay --from-log`. log: a file, or "kafka", where config says which.

    Raises UsageError, FaultyFile, BodyMissing.
    """
    from correlator.errors import UsageError
    from correlator.run.relog import other_rules, read_back, tell

    if overlay is not None and not rules:
        raise UsageError("--overlay belongs to --rules")
    other = other_rules(rules, overlay) if rules else None
    with _log_at(log, config, site) as (reader, of):
        found = read_back(reader, site=of, from_ms=_time(since, "--from"), to_ms=_time(until, "--to"), rules=other)
    tell(found, out, as_json=as_json)
    return 0


def explain_log(
    log: Path, out: Any, config: Path, site: str, what: str, why_not: str | None, as_json: bool, svg: Path | None
) -> int:
    """The work of `correlator explain` on a carrier's log: a threat, why a rule did not match, or why two findings
    are not linked.

    log: a file, or "kafka", where config says which. what, why_not: a threat; a message (or "") and a rule; or two
    findings. Raises UsageError, FaultyFile, BodyMissing, KafkaException.
    """
    from correlator.errors import UsageError
    from correlator.run.explain import explain_threat
    from correlator.run.whynot_links import explain_pair_in_log
    from correlator.run.whynot_log import explain_rule_in_log, rule_in_force

    if str(log) == "kafka" and why_not is None:
        return explain_threat(_told_on_kafka(config), what, out, as_json=as_json, svg=svg)
    with _log_at(log, config, site) as (reader, of):
        if why_not is None:
            return explain_threat(_told_in_log(log, reader), what, out, as_json=as_json, svg=svg)
        try:
            rule = rule_in_force(reader, of, why_not)
        except UsageError:
            if not what:
                raise
            lines = explain_pair_in_log(reader, of, why_not, what)
        else:
            lines = explain_rule_in_log(reader, of, rule, what)
        out.writelines(f"{line}\n" for line in lines)
    return 0


def _told_in_log(log: Path, reader: Any) -> Any:
    from correlator.config.kept import InLog
    from correlator.run.explain import ToldByCarrier
    from correlator.run.relog import zone_in

    return ToldByCarrier(InLog(log), lambda site: zone_in(reader, site), f"the embedded log {log}")


def _told_on_kafka(config: Path) -> Any:
    from correlator.clock import zone_named
    from correlator.config.kept import OnKafka
    from correlator.run.explain import ToldByCarrier
    from correlator.stream.applied import in_force

    kafka = on_kafka(config).settings.kafka
    zones = {one.site: zone_named(one.zone) for one in in_force(kafka)[0].values()}
    return ToldByCarrier(OnKafka(kafka), lambda site: zones.get(site, zone_named("UTC")), "the topic threats")


@contextmanager
def _log_at(log: Path, config: Path, site: str) -> Iterator[tuple[Any, str]]:
    """A carrier's log to read, and the site that is asked about. Raises UsageError, FaultyFile, KafkaException."""
    from correlator.embedded.reading import LogOfFile

    reader: Any
    if str(log) == "kafka":
        reader, site = _log_of_topic(config, site)
    else:
        reader = LogOfFile(log)
    try:
        yield reader, site
    finally:
        reader.close()


def _log_of_topic(config: Path, site: str) -> tuple[Any, str]:
    from correlator.config.load import check
    from correlator.errors import UsageError
    from correlator.stream.backup import LogOfTopic

    loaded = on_kafka(config)
    sites = sorted(check(loaded))
    if not site and len(sites) != 1:
        raise UsageError(f"{config} has the sites {', '.join(sites)}: --site says which")
    return LogOfTopic(loaded.settings.kafka, site or sites[0]), site or sites[0]


def _time(text: str | None, option: str) -> int:
    from correlator.clock import parse_iso
    from correlator.errors import UsageError

    if text is None:
        return -1
    try:
        return parse_iso(text)[0]
    except ValueError as error:
        raise UsageError(
            f"{option}: {text!r} is not a time; RFC 3339 with offset: 2026-03-01T07:30:00+01:00"
        ) from error
