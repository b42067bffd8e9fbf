"""`correlator inputs run`: files, syslog and webhooks to Kafka."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from correlator.cli.ending import guarded

_PATH: Any = click.Path(path_type=Path)


@click.command("run", epilog="\b\nExamples:\n  correlator inputs run\n  correlator inputs run -c h1/correlator.yaml")
@click.option("-c", "--config", "file", type=_PATH, default="correlator.yaml", show_default=True, metavar="FILE",
              help="Settings.")  # fmt: skip
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
              show_default=True, help="Least level that is logged (JSON lines on standard error).")  # fmt: skip
def inputs_run(file: Path, log_level: str) -> int:
    """Follow files, listen for syslog and webhooks, and write what comes to raw topics, until stopped (SIGTERM).

    What is acknowledged (a position moved on, a request answered 202) is on Kafka. While Kafka is away
    files wait, connections are not read, and webhooks are answered 429.
    """

    def work() -> int:
        from correlator.config.load import check, load
        from correlator.ingest.logs import log_to
        from correlator.inputs.process import run_inputs

        loaded = load(file)
        sites = list(check(loaded))
        log_to(sys.stderr, log_level)
        settings = loaded.settings
        return run_inputs(settings.inputs, settings.kafka, sites[0] if len(sites) == 1 else "")

    return guarded(work)
