"""`correlator ingest`, `worker`, `topics`, `rejects`, `inputs`: the stream on Kafka."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from correlator.cli.options import (
    PATH,
    Group,
    config_option,
    examples,
    kafka_guarded,
    log_level_option,
    on_kafka,
    process_on_kafka,
    settings_of,
)

_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done and do nothing.")


# ---- processes -------------------------------------------------------------------------------------------


@click.command(epilog=examples("correlator ingest", "correlator ingest --config h1/correlator.yaml"))
@config_option
@log_level_option
def ingest(file: Path, log_level: str) -> int:
    """Turn raw messages on Kafka into records of the log.

    Several processes share the raw partitions. What one had not finished another reads again, and
    nothing counts twice.
    """

    def work() -> int:
        from correlator.clock import HOUR_MS
        from correlator.config.load import private_of
        from correlator.config.preflight import refuse_early
        from correlator.ingest.logs import log_to
        from correlator.stream.ingest import IngestProcess

        loaded = settings_of(file)
        log_to(sys.stderr, log_level)
        process_on_kafka(loaded, "ingest")
        refuse_early(loaded.settings, "ingest")
        settings = loaded.settings
        max_shelf_ms = settings.console.max_shelf_h * HOUR_MS
        return IngestProcess(
            settings.kafka,
            settings.ingest.process,
            settings.ingest,
            str(loaded.file),
            max_shelf_ms,
            private_of(loaded),
        ).run()

    return kafka_guarded(work)


@click.command(epilog=examples("correlator worker", "CORRELATOR_WORKER__INSTANCE=w1 correlator worker"))
@config_option
@log_level_option
def worker(file: Path, log_level: str) -> int:
    """Correlate: fold the log into matches and threats.

    Workers share the log's partitions. One that is killed at any moment loses nothing and tells nothing
    twice; another goes on after `worker.session_ms`.
    """

    def work() -> int:
        from correlator.config.preflight import refuse_early
        from correlator.ingest.logs import log_to
        from correlator.stream.worker import Worker

        loaded = settings_of(file)
        log_to(sys.stderr, log_level)
        process_on_kafka(loaded, "worker")
        refuse_early(loaded.settings, "worker")
        return Worker(loaded.settings.kafka, loaded.settings.worker).run()

    return kafka_guarded(work)


# ---- topics ----------------------------------------------------------------------------------------------


@click.group(cls=Group)
def topics() -> None:
    """Make and check the topics on Kafka."""


def _raw(settings: Any) -> list[str]:
    return sorted({one.input for one in settings.ingest.sources} | {one.to for one in settings.bridge.routes})


def _told(settings: Any) -> list[str]:
    """Topics of outputs on this cluster."""
    targets = [one.to for one in settings.outputs if one.to.kind == "kafka"]
    return sorted({one.topic for one in targets if one.cluster is None})


@topics.command("create", epilog=examples("correlator topics create --dry-run", "correlator topics create"))
@config_option
@_dry_run
def topics_create(file: Path, dry_run: bool) -> int:
    """Print the plan, then make the topics that are missing. What exists is never changed.

    The number of partitions of `events` is a decision for life: it says where each site's log stands.
    """

    def work() -> int:
        from correlator.stream.commands import create_topics

        settings = on_kafka(file).settings
        return create_topics(
            settings.kafka, settings.topics, _raw(settings), sys.stdout, outputs=_told(settings), dry_run=dry_run
        )

    return kafka_guarded(work)


@topics.command("check", epilog=examples("correlator topics check"))
@config_option
def topics_check(file: Path) -> int:
    """Say which topics are missing or not as the settings want them; exit code 1 if any."""

    def work() -> int:
        from correlator.stream.commands import check_topics

        settings = on_kafka(file).settings
        return check_topics(settings.kafka, settings.topics, _raw(settings), sys.stdout, outputs=_told(settings))

    return kafka_guarded(work)


# ---- rejects ---------------------------------------------------------------------------------------------


_log_file = click.option("--log", type=PATH, metavar="LOG", help="Look into this embedded log instead of Kafka.")


@click.group(cls=Group)
def rejects() -> None:
    """See messages that could not be taken, and send them again."""


@rejects.command(
    "list", epilog=examples("correlator rejects list", "correlator rejects list --reason not_json --last 5")
)
@config_option
@_log_file
@click.option("--reason", default="", metavar="WORD", help="Only this reason.")
@click.option("--site", default="", metavar="ID", help="Only this site.")
@click.option("--last", default=50, show_default=True, metavar="N", help="How many to show.")
def rejects_list(file: Path, reason: str, site: str, last: int, log: Path | None) -> int:
    """Show the newest rejects with their positions, and how many there are by reason."""

    def work() -> int:
        if log is not None:
            from correlator.embedded import reading

            return reading.list_rejects(log, sys.stdout, reason=reason, site=site, last=last)
        from correlator.stream.commands import list_rejects

        return list_rejects(on_kafka(file).settings.kafka, sys.stdout, reason=reason, site=site, last=last)

    return kafka_guarded(work)


@rejects.command("show", epilog=examples("correlator rejects show 0:17"))
@click.argument("position")
@config_option
@_log_file
def rejects_show(position: str, file: Path, log: Path | None) -> int:
    """Show one reject: its reason, where it came from, and its bytes."""

    def work() -> int:
        if log is not None:
            from correlator.embedded import reading

            return reading.show_reject(log, position, sys.stdout)
        from correlator.stream.commands import show_reject

        return show_reject(on_kafka(file).settings.kafka, position, sys.stdout)

    return kafka_guarded(work)


@rejects.command("retry", epilog=examples("correlator rejects retry 0:17"))
@click.argument("position")
@config_option
@_log_file
def rejects_retry(position: str, file: Path, log: Path | None) -> int:
    """Send the raw message of a reject again, after a map or dialect was mended.

    It keeps its receive time, so its events come late and are marked so.
    """

    def work() -> int:
        if log is not None:
            from correlator.embedded import reading

            return reading.retry_reject(log, position, sys.stdout)
        from correlator.stream.commands import retry_reject

        return retry_reject(on_kafka(file).settings.kafka, position, sys.stdout)

    return kafka_guarded(work)


# ---- inputs ----------------------------------------------------------------------------------------------


@click.group(cls=Group)
def inputs() -> None:
    """Receive files, syslog, webhooks; let go of one that is gone."""


@inputs.command("out", epilog=examples("correlator inputs out h1 raw.mqtt/3"))
@click.argument("site")
@click.argument("name", metavar="INPUT")
@config_option
def inputs_out(site: str, name: str, file: Path) -> int:
    """Let a site no longer wait for an input that was taken away (INPUT: raw topic, slash, partition)."""

    def work() -> int:
        from correlator.stream.commands import take_input_out

        return take_input_out(on_kafka(file).settings.kafka, site, name, sys.stdout)

    return kafka_guarded(work)


# ---- state -----------------------------------------------------------------------------------------------


_of_log = click.option("--log", type=PATH, metavar="LOG", help="Of this embedded log instead of Kafka.")


@click.group(cls=Group)
def state() -> None:
    """Keep the engines' state as a file, and restore it."""


@state.command(
    "export",
    epilog=examples("correlator state export state.gz", "correlator state export state.gz --log correlator.sqlite3"),
)
@click.argument("to", type=PATH, metavar="STATE")
@config_option
@_of_log
def state_export(to: Path, file: Path, log: Path | None) -> int:
    """Write the state of all partitions to a file. What correlates may go on meanwhile.

    The state says to which record of the log it belongs; the log itself is no part of it.
    """

    def work() -> int:
        if log is not None:
            from correlator.embedded import reading

            return reading.export_state(log, to, sys.stdout)
        from correlator.stream.backup import export_state

        return export_state(on_kafka(file).settings.kafka, to, sys.stdout)

    return kafka_guarded(work)


@state.command(
    "import",
    epilog=examples("correlator state import state.gz", "correlator state import state.gz --log correlator.sqlite3"),
)
@click.argument("given", type=PATH, metavar="STATE")
@config_option
@_of_log
def state_import(given: Path, file: Path, log: Path | None) -> int:
    """Put an exported state in the place of the present one. Stop what correlates first.

    The next start folds the log from where that state stands: what was told since is told again, with the
    same ids and bytes. Records that the log no longer has are told as a gap.
    """

    def work() -> int:
        if log is not None:
            from correlator.embedded import reading

            return reading.import_state(log, given, sys.stdout)
        from correlator.stream.backup import import_state

        settings = on_kafka(file).settings
        return import_state(settings.kafka, settings.worker.app, given, sys.stdout)

    return kafka_guarded(work)
