"""`correlator notifier`: alerts for people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from correlator.cli.ending import guarded
from correlator.cli.journal import sources
from correlator.cli.stream import _examples, _file, _health, _level, _load, _unreachable

_PATH: Any = click.Path(path_type=Path)


def _settings(loaded: Any) -> Any:
    from correlator.errors import UsageError

    if loaded.settings.notifier is None:
        raise UsageError(f"{loaded.file} has no section notifier; docs/notifier.md shows one")
    return loaded.settings.notifier


def _places(loaded: Any) -> dict[str, Any]:
    from correlator.premises import load_site

    sites = [load_site(loaded.folder / one.site) for one in loaded.settings.sites]
    return {places.site.id: places for places in sites}


def _threats(file: Path) -> list[Any]:
    import msgspec

    from correlator.errors import UsageError
    from correlator.events.threat import Threat

    newest = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            threat = msgspec.json.decode(line, type=Threat)
        except msgspec.DecodeError as error:
            raise UsageError(f"{file}:{number}: not a threat: {error}") from error
        newest[threat.id] = threat
    return list(newest.values())


@click.group(epilog=_examples("correlator notifier run", "correlator notifier routes out/threats.ndjson"))
def notifier() -> None:
    """Tell people: who, when, through what, in which words, and what became of it."""


@notifier.command(epilog=_examples("correlator notifier routes out/threats.ndjson --at 2026-10-25T03:00+01:00"))
@click.argument("threats", type=_PATH)
@_file
@click.option("--at", default="", metavar="TIME", help="As if it were that time (RFC 3339); default: the threat's own.")
def routes(threats: Path, file: Path, at: str) -> int:
    """Say who would be told of the threats in a file (JSON lines, as replay --out writes them), and why."""

    def work() -> int:
        from correlator.clock import local, parse_iso
        from correlator.errors import UsageError
        from correlator.notifier.routes import choose, quiet_until_ms, situation

        loaded = _load(file)
        settings, places = _settings(loaded), _places(loaded)
        try:
            at_ms = parse_iso(at)[0] if at else -1
        except ValueError as error:
            raise UsageError(f"--at {at}: {error}; write 2026-10-25T03:00+01:00") from error
        for threat in _threats(threats):
            if threat.site not in places:
                raise UsageError(f"{file} has no site {threat.site!r}, of which the threat is")
            zone = places[threat.site].site.timezone
            now_ms = at_ms if at_ms >= 0 else threat.decided_ms
            click.echo(f"{threat.title} ({threat.severity}, {threat.phase})")
            if threat.phase != "threat":
                click.echo(f"  nobody: the phase is {threat.phase}")
                continue
            for one in choose(settings, situation(threat, places[threat.site]), now_ms, zone):
                quiet = settings.receiver(one.receiver).quiet
                until_ms = now_ms if threat.severity == "critical" else quiet_until_ms(quiet, now_ms, zone)
                held = f", held until {local(until_ms, zone):%a %H:%M}" if until_ms > now_ms else ""
                click.echo(f"  {one.receiver}: {one.why}{held}")
        return 0

    return guarded(work)


@notifier.command(epilog=_examples("correlator notifier preview out/threats.ndjson --site site.yaml --language it"))
@click.argument("threats", type=_PATH)
@click.option("--site", "site_file", type=_PATH, required=True, metavar="FILE", help="The site file.")
@click.option("--language", type=click.Choice(["en", "fr", "it"]), default="en", show_default=True)
@click.option(
    "--as", "form", type=click.Choice(["message", "cacao", "cap"]), default="message", show_default=True,
    help="The message, the playbook as CACAO 2.0, or a public warning as CAP 1.2 (a draft).",
)  # fmt: skip
def preview(threats: Path, site_file: Path, language: Any, form: str) -> int:
    """Print what people would read about the threats in a file."""

    def work() -> int:
        from correlator.premises import load_site
        from correlator.words import cacao, cap
        from correlator.words.message import Occasion, is_drill, message

        places = load_site(site_file)
        for threat in _threats(threats):
            drill = is_drill(threat, places)
            if form == "cacao":
                click.echo(cacao.playbook(threat, places, language).decode(), nl=False)
            elif form == "cap":
                told = cap.draft(threat, places, [language], f"correlator@{threat.site}", drill=drill)
                click.echo(told.decode(), nl=False)
            else:
                told_message = message(threat, places, language, Occasion(), drill=drill)
                click.echo(f"Subject: {told_message.subject}\n\n{told_message.body}")
        return 0

    return guarded(work)


@notifier.command("test-alert", epilog=_examples("correlator notifier test-alert"))
@_file
def test_alert(file: Path) -> int:
    """Send a test message to every receiver now, and say which arrived; exit code 1 if one did not."""

    def work() -> int:
        from correlator.notifier.channels import send
        from correlator.notifier.settings import channel_url
        from correlator.words.message import Message, frame

        failed = 0
        for receiver in _settings(_load(file)).receivers:
            text = frame("test", receiver.language)
            try:
                result = send(channel_url(receiver), Message(text, text), "low", f"test/{receiver.name}")
                told = "sent" if result.ok else f"failed: {result.error}"
            except OSError as error:
                told = f"failed: {receiver.url_file}: {error.strerror}"
            failed += told != "sent"
            click.echo(f"{receiver.name}: {told}")
        return 1 if failed else 0

    return guarded(work)


@notifier.command(
    epilog=_examples(
        "correlator notifier run --state /var/lib/correlator", "correlator notifier run --embedded correlator.sqlite3"
    )
)
@_file
@_level
@click.option("--embedded", type=_PATH, metavar="LOG", help="Threats of this embedded log instead of Kafka.")
@click.option(
    "--state", type=_PATH, default="notifier-state", show_default=True, metavar="DIR", help="View and outbox."
)
@_health("NOTIFIER")
def run(file: Path, log_level: str, embedded: Path | None, state: Path, health_host: str, health_port: int) -> int:
    """Tell people about the threats on Kafka, or in an embedded log, until stopped (SIGTERM)."""

    def work() -> int:
        import signal
        import threading
        import time

        from correlator.ingest.health import Health
        from correlator.ingest.logs import log_to
        from correlator.journal.view import View
        from correlator.notifier.outbox import Outbox
        from correlator.notifier.service import Notifier

        loaded = _load(file)
        settings = _settings(loaded)
        log_to(sys.stderr, log_level)
        state.mkdir(parents=True, exist_ok=True)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        view = View(state / "view.db", settings.max_shelf_h * 3_600_000)
        feed, journal = sources(loaded.settings.kafka, embedded, view)
        service = Notifier(settings, feed, view, Outbox(state / "outbox.db"), journal, _places(loaded))
        turned_s = time.monotonic()
        health = Health(health_host, health_port, lambda: time.monotonic() - turned_s < 60, feed.caught_up)
        try:
            while not stop.is_set():
                service.step(time.time_ns() // 1_000_000, 0.2)
                turned_s = time.monotonic()
        finally:
            health.stop()
        feed.close()
        return 0

    return _unreachable(work)
