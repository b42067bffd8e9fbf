"""`correlator outputs`: threats to other systems."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from correlator.cli.ending import guarded
from correlator.cli.options import (
    PATH,
    Group,
    config_option,
    examples,
    health_options,
    kafka_guarded,
    log_level_option,
    on_kafka,
    process_on_kafka,
    settings_of,
)


@click.group(cls=Group, epilog=examples("correlator outputs list", "correlator outputs try ocsf out/threats.ndjson"))
def outputs() -> None:
    """Deliver threats to other systems: OCSF, IDMEFv2, CEF and others."""


@outputs.command("list", epilog=examples("correlator outputs list"))
def list_formats() -> int:
    """The formats, each with the document it follows."""

    def work() -> int:
        from correlator.outputs.formats import FORMATS

        for form in FORMATS.values():
            click.echo(f"{form.name:14}{form.document}")
        return 0

    return guarded(work)


@outputs.command("try", epilog=examples("correlator outputs try cef out/threats.ndjson --link https://siem.example/"))
@click.argument("name", metavar="FORMAT")
@click.argument("file", type=PATH)
@click.option("--link", default="", help="Address of a threat's page; its id follows.")
@click.option("--site", "site_file", type=PATH, metavar="FILE", help="The site file: name and place of the site.")
def try_format(name: str, file: Path, link: str, site_file: Path | None) -> int:
    """Print what would be sent for each threat of a file (JSON lines, as `replay --out` writes them)."""

    def work() -> int:
        from correlator import __version__
        from correlator.errors import UsageError
        from correlator.outputs.format import About
        from correlator.outputs.formats import FORMATS
        from correlator.outputs.reading import revisions
        from correlator.premises import load_site
        from correlator.sources.settings import nearest

        form = FORMATS.get(name)
        if form is None:
            raise UsageError(f"there is no format {name!r}: {nearest(name, FORMATS)}")
        about = About(version=__version__, link=link, place=load_site(site_file) if site_file is not None else None)
        for threat in revisions(file):
            click.echo(form.render(threat, about).decode())
        return 0

    return guarded(work)


@outputs.command(epilog=examples("correlator outputs run", "correlator outputs run --config h1/correlator.yaml"))
@config_option
@log_level_option
@health_options("OUTPUTS")
def run(file: Path, log_level: str, health_host: str, health_port: int) -> int:
    """Deliver threats from Kafka to all outputs of correlator.yaml and keep evidence, until stopped (SIGTERM).

    Each output goes on where it stood. One that cannot deliver waits and tries again; what the other
    side will never take goes to the topic rejects. Raw messages of matches and notable events are copied to
    the topic evidence, also without any output.
    """

    def work() -> int:
        import signal
        import threading
        import time

        from correlator.delivery.process import run as deliver_all
        from correlator.ingest.health import Health
        from correlator.ingest.logs import log_to
        from correlator.premises import load_site
        from correlator.privacy.evidence import Locker
        from correlator.privacy.vault import Vault

        loaded = settings_of(file)
        log_to(sys.stderr, log_level)
        process_on_kafka(loaded, "outputs")
        privacy = loaded.settings.privacy
        locker = Locker(Vault(privacy.vault)) if privacy.tokens else None
        if locker is not None:  # keys of evidence that the topic has let go
            locker.vault.trim(time.time_ns() // 1_000_000 - loaded.settings.topics.evidence_retention_h * 3_600_000)
        # Names and places of sites leave, nobody's name: this needs no keys, also where people are tokens.
        sites = [load_site(loaded.folder / one.site) for one in loaded.settings.sites]
        places = {one.site_id: one for one in sites}
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        health = Health(health_host, health_port, lambda: not stop.is_set(), lambda: not stop.is_set())
        try:
            deliver_all(loaded.settings.outputs, loaded.settings.kafka, stop, locker, places)
        finally:
            health.stop()
        return 0

    return kafka_guarded(work)


@outputs.command(epilog=examples("correlator outputs status"))
@config_option
def status(file: Path) -> int:
    """How far each output is: threats done, threats waiting."""

    def work() -> int:
        from correlator.delivery.process import status as statuses

        loaded = on_kafka(file)
        for name, done, waiting in statuses(loaded.settings.outputs, loaded.settings.kafka):
            click.echo(f"{name:20}{done:>10} done{waiting:>10} waiting")
        return 0

    return kafka_guarded(work)
