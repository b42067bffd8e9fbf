"""`correlator notifier`: alerts for people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from correlator.cli.ending import guarded
from correlator.cli.journal import kept_ms, sources
from correlator.cli.options import (
    PATH,
    Group,
    config_option,
    examples,
    health_options,
    kafka_guarded,
    log_level_option,
    process_on_kafka,
    settings_of,
)


def _settings(loaded: Any) -> Any:
    from correlator.errors import UsageError

    if loaded.settings.notifier is None:
        raise UsageError(f"{loaded.file} has no section notifier; docs/notifier.md shows one")
    return loaded.settings.notifier


def _places(loaded: Any) -> dict[str, Any]:
    from correlator.config.load import site_models

    return {places.site.id: places for places in site_models(loaded)}


@click.group(cls=Group, epilog=examples("correlator notifier run", "correlator notifier routes out/threats.ndjson"))
def notifier() -> None:
    """Tell people about threats: who, when, how, in which words."""


@notifier.command(epilog=examples("correlator notifier routes out/threats.ndjson --at 2026-10-25T03:00+01:00"))
@click.argument("threats", type=PATH)
@config_option
@click.option("--at", default="", metavar="TIME", help="As if it were that time (RFC 3339); default: the threat's own.")
def routes(threats: Path, file: Path, at: str) -> int:
    """Say who would be told of the threats in a file (JSON lines, as replay --out writes them), and why."""

    def work() -> int:
        from correlator.clock import local, parse_iso
        from correlator.errors import UsageError
        from correlator.notifier.routes import choose, quiet_until_ms, situation
        from correlator.outputs.reading import newest

        loaded = settings_of(file)
        settings, places = _settings(loaded), _places(loaded)
        try:
            at_ms = parse_iso(at)[0] if at else -1
        except ValueError as error:
            raise UsageError(f"--at {at}: {error}; write 2026-10-25T03:00+01:00") from error
        for threat in newest(threats):
            if threat.site not in places:
                raise UsageError(f"{file} has no site {threat.site!r}, of which the threat is")
            zone = places[threat.site].site.timezone
            now_ms = at_ms if at_ms >= 0 else threat.decided_ms
            click.echo(f"{threat.title} ({threat.severity}, {threat.phase})")
            if threat.phase != "threat":
                click.echo(f"  nobody: the phase is {threat.phase}")
                continue
            chosen = choose(settings, situation(threat, places[threat.site]), now_ms, zone)
            if not chosen:
                click.echo("  nobody: a drill is not told outside of the site")
            for one in chosen:
                quiet = settings.receiver(one.receiver).quiet
                until_ms = now_ms if threat.severity == "critical" else quiet_until_ms(quiet, now_ms, zone)
                held = f", held until {local(until_ms, zone):%a %H:%M}" if until_ms > now_ms else ""
                click.echo(f"  {one.receiver}: {one.why}{held}")
        return 0

    return guarded(work)


@notifier.command(epilog=examples("correlator notifier preview out/threats.ndjson --site site.yaml --language it"))
@click.argument("threats", type=PATH)
@click.option("--site", "site_file", type=PATH, required=True, metavar="FILE", help="The site file.")
@click.option("--language", type=click.Choice(["en", "fr", "it"]), default="en", show_default=True)
@click.option(
    "--as", "form", type=click.Choice(["message", "cacao", "cap"]), default="message", show_default=True,
    help="The message, the playbook as CACAO 2.0, or a public warning as CAP 1.2 (a draft).",
)  # fmt: skip
def preview(threats: Path, site_file: Path, language: Any, form: str) -> int:
    """Print what people would read about the threats in a file."""

    def work() -> int:
        from correlator.outputs.reading import newest
        from correlator.premises import load_site
        from correlator.words import cacao, cap
        from correlator.words.message import Occasion, is_drill, message

        places = load_site(site_file)
        for threat in newest(threats):
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


@notifier.command(epilog=examples("correlator notifier status", "correlator notifier status --all"))
@click.option("--state", type=PATH, default="notifier-state", show_default=True, metavar="DIR", help="View and outbox.")
@click.option("--all", "everything", is_flag=True, help="Also what was sent or dropped long ago.")
def status(state: Path, everything: bool) -> int:
    """Say what became of each message: due, sent, failed and why, seen and by whom.

    Exit code 1 if a message failed for good.
    """

    def work() -> int:
        import time

        from correlator.clock import DAY_MS, utc_text
        from correlator.errors import UsageError
        from correlator.journal.view import View
        from correlator.notifier.outbox import Outbox

        if not (state / "outbox.db").is_file():
            raise UsageError(f"{state} has no outbox.db; --state names the folder of `correlator notifier run`")
        outbox, view = Outbox(state / "outbox.db"), View(state / "view.db")
        since_ms = 0 if everything else time.time_ns() // 1_000_000 - DAY_MS
        rows = [one for one in outbox.all() if one.state in ("due", "failed") or one.ended_ms >= since_ms]
        for row in rows:
            listed = view.threat(row.threat)
            at_ms = row.ended_ms or row.due_ms
            told = f"{row.state:9}{utc_text(at_ms)}  {row.receiver:16} {row.occasion:10} {row.threat[:12]:12} {row.why}"
            if row.state == "sent" and listed is not None and listed.handling.acked_ms:
                told += f"; seen by {listed.handling.acked_by} {utc_text(listed.handling.acked_ms)}"
            elif row.last_error:
                told += f"; {row.attempt} tries: {row.last_error}" if row.state != "dropped" else f"; {row.last_error}"
            click.echo(told)
        counts = {name: sum(row.state == name for row in rows) for name in ("due", "sent", "failed", "dropped")}
        click.echo(", ".join(f"{count} {name}" for name, count in counts.items()), err=True)
        return 1 if counts["failed"] else 0

    return guarded(work)


@notifier.command(
    epilog=examples(
        "correlator notifier warn 3f2a", "correlator notifier warn 3f2a --approve p-001 --why 'gas in the street'"
    )
)
@click.argument("threat")
@config_option
@click.option("--embedded", type=PATH, metavar="LOG", help="Threats of this embedded log instead of Kafka.")
@click.option("--state", type=PATH, default="notifier-state", show_default=True, metavar="DIR", help="View and outbox.")
@click.option("--approve", "who", default="", metavar="WHO", help="Approve it: the pseudonym of one who may.")
@click.option("--why", default="", help="Why people must be warned.")
@click.option("--address", "addresses", multiple=True, help="Only for these; without, the warning is public.")
@click.option("--cancel", is_flag=True, help="Take the last warning back.")
def warn(
    threat: str, file: Path, embedded: Path | None, state: Path, who: str, why: str, addresses: tuple[str, ...],
    cancel: bool,
) -> int:  # fmt: skip
    """Print the public warning (CAP 1.2) drafted from a threat; with --approve let it go.

    THREAT is an id or its beginning. Without --approve nothing leaves. With it the text as printed goes to
    `warnings.receivers` of correlator.yaml, and the journal keeps who let it go and why.
    """

    def work() -> int:
        import time

        from correlator.cli.journal import journal_of
        from correlator.errors import UsageError
        from correlator.journal.view import View
        from correlator.journal.warning import warning

        loaded = settings_of(file)
        chosen, places = _settings(loaded).warnings, _places(loaded)
        if chosen is None:
            raise UsageError(f"{file} has no notifier.warnings: who may approve one, and where it goes")
        if not (state / "view.db").is_file():
            raise UsageError(f"{state} has no view.db; --state names the folder of `correlator notifier run`")
        found = [
            one
            for one in View(state / "view.db").threats(open_only=False, limit=1_000_000)
            if one.threat.id.startswith(threat)
        ]
        if len(found) != 1:
            raise UsageError(f"{len(found)} threats have an id that begins with {threat}")
        listed = found[0]
        if listed.threat.site not in places:
            raise UsageError(f"{file} has no site {listed.threat.site!r}, of which the threat is")
        here = places[listed.threat.site]
        if who and who not in chosen.approvers:
            raise UsageError(f"{who} may not approve a warning; notifier.warnings.approvers names who may")
        if who and not why.strip():
            raise UsageError("--why is missing: the journal keeps why people were warned")
        if not who:
            from correlator.words import cap
            from correlator.words.language import LANGUAGES
            from correlator.words.message import is_drill

            drill = is_drill(listed.threat, here)
            click.echo(cap.draft(listed.threat, here, LANGUAGES, chosen.sender, drill=drill).decode(), nl=False)
            click.echo("a draft: nothing has left", err=True)
            return 0
        try:
            act = warning(
                listed.threat, here, listed.handling, chosen.sender, who=who, reason=why,
                at_ms=time.time_ns() // 1_000_000, addresses=addresses, cancel=cancel,
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(str(error)) from error
        journal_of(loaded.settings.kafka, embedded).append(act)
        click.echo(act.args["xml"], nl=False)
        click.echo(f"approved by {who}: the notifier sends it to {', '.join(chosen.receivers)}", err=True)
        return 0

    return kafka_guarded(work)


@notifier.command("test-alert", epilog=examples("correlator notifier test-alert"))
@config_option
def test_alert(file: Path) -> int:
    """Send a test message to every receiver now, and say which arrived; exit code 1 if one did not."""

    def work() -> int:
        from correlator.notifier.service import try_channels

        failed = 0
        for name, result in try_channels(_settings(settings_of(file))):
            failed += not result.ok
            click.echo(f"{name}: sent" if result.ok else f"{name}: failed: {result.error}")
        return 1 if failed else 0

    return guarded(work)


@notifier.command(
    epilog=examples(
        "correlator notifier run --state /var/lib/correlator", "correlator notifier run --embedded correlator.sqlite3"
    )
)
@config_option
@log_level_option
@click.option("--embedded", type=PATH, metavar="LOG", help="Threats of this embedded log instead of Kafka.")
@click.option("--state", type=PATH, default="notifier-state", show_default=True, metavar="DIR", help="View and outbox.")
@health_options("NOTIFIER")
def run(file: Path, log_level: str, embedded: Path | None, state: Path, health_host: str, health_port: int) -> int:
    """Tell people about the threats on Kafka, or in an embedded log, until stopped (SIGTERM).

    Several may run: all read, one sends, and when it dies another goes on.
    """

    def work() -> int:
        import signal
        import threading
        import time

        from correlator.ingest.health import Health
        from correlator.ingest.heartbeat import beat_in_thread
        from correlator.ingest.logs import log_to
        from correlator.journal.kafka import TOPIC
        from correlator.journal.view import View
        from correlator.notifier.outbox import Outbox
        from correlator.notifier.ownership import Ownership
        from correlator.notifier.service import Notifier

        loaded = settings_of(file)
        settings = _settings(loaded)
        log_to(sys.stderr, log_level)
        if embedded is None:
            process_on_kafka(loaded, "notifier")
        state.mkdir(parents=True, exist_ok=True)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        view = View(state / "view.db", settings.max_shelf_h * 3_600_000)
        feed, journal = sources(loaded.settings.kafka, embedded, view)
        kafka = loaded.settings.kafka
        owner = None if embedded is not None else Ownership(kafka.client(), kafka.topic(TOPIC))
        mine = owner.mine if owner is not None else lambda: True
        outbox = Outbox(state / "outbox.db")
        service = Notifier(
            settings, feed, view, outbox, journal, _places(loaded), mine=mine, keep_ms=kept_ms(loaded, embedded)
        )
        service.turned_ms = time.time_ns() // 1_000_000
        beat_in_thread(settings.heartbeats, "notifier", lambda: service.blind(time.time_ns() // 1_000_000))
        turned_s = time.monotonic()
        health = Health(health_host, health_port, lambda: time.monotonic() - turned_s < 60, feed.caught_up)
        try:
            while not stop.is_set():
                service.step(time.time_ns() // 1_000_000, 0.2)
                turned_s = time.monotonic()
        finally:
            health.stop()
            if owner is not None:
                owner.close()
        feed.close()
        return 0

    return kafka_guarded(work)
