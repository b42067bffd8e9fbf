"""`correlator bridge`: carry MQTT to Kafka, show what would be carried, examine what stands between."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click

from correlator.cli.ending import guarded
from correlator.cli.options import PATH, Group, examples

_config = click.option(
    "-c", "--config", type=PATH, default="correlator.yaml", show_default=True, metavar="FILE",
    help="Settings; the parts `bridge:` and `kafka:` are read.",
)  # fmt: skip


@click.group(cls=Group)
def bridge() -> None:
    """Carry messages from an MQTT broker to Kafka, without losing one."""


@bridge.command(
    "run",
    epilog=examples(
        "correlator bridge run",
        "correlator bridge run --config /etc/correlator/correlator.yaml",
        "correlator bridge run --dry-run",
    ),
)
@_config
@click.option("--dry-run", is_flag=True, help="Show what each message would become; nothing is written or taken.")
def bridge_run(config: Path, dry_run: bool) -> int:
    """Carry messages until stopped (SIGTERM or Ctrl-C).

    A message is acknowledged to the MQTT broker once Kafka has it; what is not acknowledged comes again.
    Several bridges run side by side with ids of their own and topic filters that do not overlap.
    """
    return guarded(lambda: _run(config, dry_run))


def _run(config: Path, dry_run: bool) -> int:
    from correlator.bridge.bridge import Bridge
    from correlator.bridge.dry_run import dry_run as show
    from correlator.config.load import load
    from correlator.ingest.health import Health
    from correlator.ingest.logs import log_to

    settings = load(config).settings
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if dry_run:
        return show(settings.bridge, stop, sys.stdout.write)
    log_to(sys.stderr)
    running = Bridge(settings.bridge, settings.kafka, stop)
    health = Health(settings.bridge.health_host, settings.bridge.health_port, running.alive, running.ready)
    try:
        running.run()
    finally:
        health.stop()
    return 0


@bridge.command("doctor", epilog=examples("correlator bridge doctor", "correlator bridge doctor --listen 60"))
@_config
@click.option("--listen", "listen_s", type=click.FloatRange(0, 3600), default=5.0, show_default=True, metavar="SECONDS",
              help="How long to wait for a message of each topic filter.")  # fmt: skip
def bridge_doctor(config: Path, listen_s: float) -> int:
    """Try what stands between devices and Kafka: reach, rights, kept sessions, settings that drop messages.

    Connects beside the running bridge under the name <id>-doctor. Exit code 1 when something would lose
    messages; every finding says what to change.
    """
    return guarded(lambda: _doctor(config, listen_s))


def _doctor(config: Path, listen_s: float) -> int:
    from correlator.bridge.doctor import examine, tell
    from correlator.config.load import load

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    settings = load(config).settings
    return tell(examine(settings.bridge, settings.kafka, listen_s=listen_s), write)
