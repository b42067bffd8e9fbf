"""`correlator inputs run`: files, syslog and webhooks to Kafka."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from correlator.cli.ending import guarded
from correlator.cli.options import config_option, examples, log_level_option


@click.command("run", epilog=examples("correlator inputs run", "correlator inputs run -c h1/correlator.yaml"))
@config_option
@log_level_option
def inputs_run(file: Path, log_level: str) -> int:
    """Follow files, listen for syslog and webhooks, and write what comes to raw topics, until stopped (SIGTERM).

    What is acknowledged (a position moved on, a request answered 202) is on Kafka. While Kafka is away
    files wait, connections are not read, and webhooks are answered 429.
    """

    def work() -> int:
        from correlator.config.load import load
        from correlator.ingest.logs import log_to
        from correlator.inputs.process import run_inputs
        from correlator.premises import load_site

        loaded = load(file)
        # Only what the site is called: this process has neither keys nor vault where people are tokens.
        sites = [load_site(loaded.folder / one.site).site_id for one in loaded.settings.sites]
        log_to(sys.stderr, log_level)
        settings = loaded.settings
        return run_inputs(settings.inputs, settings.kafka, sites[0] if len(sites) == 1 else "")

    return guarded(work)
