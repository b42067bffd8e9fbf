"""`correlator console`: threats and floor plan in the browser."""

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
    kafka_guarded,
    log_level_option,
    process_on_kafka,
    settings_of,
)


@click.group(cls=Group, epilog=examples("correlator console open out", "correlator console run"))
def console() -> None:
    """Threats, floor plan and what people do, in the browser."""


@console.command("open", epilog=examples("correlator console open out", "correlator console open out --language it"))
@click.argument("out", type=PATH, default="out")
@click.option("--site", "site_file", type=PATH, metavar="FILE", help="The site file; default: that of the replay.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8080, show_default=True)
@click.option("--language", type=click.Choice(["en", "fr", "it"]), default="en", show_default=True)
def open_(out: Path, site_file: Path | None, port: int, language: Any) -> int:
    """Show what a replay found (the folder it wrote with --out), on this machine only.

    Prints a link that works once. What you do is kept in OUT/console, a journal of its own.
    """

    def work() -> int:
        import secrets

        from correlator.console.local import application
        from correlator.console.server import serve

        entry = secrets.token_urlsafe(24)
        app, hub = application(out, site_file, language, entry)
        click.echo(f"open http://localhost:{port}/enter?key={entry}", err=True)
        click.echo("Ctrl-C ends it", err=True)
        serve(app, hub, "127.0.0.1", port)
        return 0

    return guarded(work)


@console.command(
    epilog=examples(
        "correlator console run --state /var/lib/correlator", "correlator console run --embedded correlator.sqlite3"
    )
)
@config_option
@log_level_option
@click.option("--embedded", type=PATH, metavar="LOG", help="Threats of this embedded log instead of Kafka.")
@click.option("--state", type=PATH, default="console-state", show_default=True, metavar="DIR", help="View, sessions.")
def run(file: Path, log_level: str, embedded: Path | None, state: Path) -> int:
    """Serve the threats on Kafka, until stopped (SIGTERM). Several replicas agree without talking.

    With --embedded: those of one machine without Kafka; what people do is kept beside the log, in LOG.actions.
    """

    def work() -> int:
        from correlator.config.load import private_of
        from correlator.console.app import Approving, Console
        from correlator.console.asking import Asking
        from correlator.console.board import Board
        from correlator.console.facts import Facts
        from correlator.console.feeds import KafkaFacts, LogFacts
        from correlator.console.hub import Hub
        from correlator.console.server import serve
        from correlator.console.users import Sessions, Users
        from correlator.errors import UsageError
        from correlator.ingest.logs import log_to
        from correlator.ingest.sources import SourceTable, source_rows
        from correlator.journal.view import View
        from correlator.premises import load_site
        from correlator.privacy.evidence import Locker
        from correlator.privacy.vault import Vault
        from correlator.rulepack import PACK
        from correlator.rules.load import load_rules

        loaded = settings_of(file)
        settings = loaded.settings.console
        if settings.users is None:
            raise UsageError(f"{file}: console.users is missing; `correlator console user` makes the file")
        log_to(sys.stderr, log_level)
        if embedded is None:
            process_on_kafka(loaded, "console")
        state.mkdir(parents=True, exist_ok=True)
        view = View(state / "view.db", settings.max_shelf_h * 3_600_000)
        feed, journal = sources(loaded.settings.kafka, embedded, view)
        privacy, private = loaded.settings.privacy, private_of(loaded)
        locker = Locker(Vault(privacy.vault, write=False)) if privacy.tokens else None
        places, rules = {}, {}
        for one in loaded.settings.sites:
            path = loaded.folder / one.site
            # With tokens the engine's people are tokens, and so those of the pages.
            site = private.premises(path.read_bytes(), str(path), contacts=True) if private else load_site(path)
            places[site.site.id] = site
            paths = [PACK if name == "pack" else loaded.folder / name for name in one.rules]
            rules[site.site.id] = load_rules(paths, overlay=loaded.folder / one.overlay if one.overlay else None)
        zones = {name: site.timezone for name, site in places.items()}
        table = SourceTable(source_rows(loaded.settings.ingest.sources, str(file)), zones)
        facts = Facts(places, state / "facts.db")
        kafka = loaded.settings.kafka
        around: Any = (
            KafkaFacts(kafka.client(), kafka.topic, facts, table, locker)
            if embedded is None
            else LogFacts(embedded, table, locker)
        )
        notifier = loaded.settings.notifier
        warnings = notifier.warnings if notifier is not None else None
        hub = Hub(feed, view, Board(view, places), facts, around, kept_ms(loaded, embedded))
        app = Console(
            settings, view, hub, journal, places, Users(settings.users),
            Sessions(state / "sessions.db", settings.idle_min * 60_000, settings.session_h * 3_600_000), rules,
            approving=Approving(warnings.approvers, warnings.sender) if warnings is not None else None,
            asking=Asking("--from", str(embedded or "kafka"), "--config", str(file)),
        ).application()  # fmt: skip
        serve(app, hub, settings.host, settings.port, settings.certificate, settings.key)
        feed.close()
        around.close()
        return 0

    return kafka_guarded(work)


@console.command(epilog=examples("correlator console user p-017 --role operator --users users.yaml"))
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "analyst", "admin"]), required=True)
@click.option("--users", type=PATH, default="users.yaml", show_default=True, metavar="FILE", help="The file of users.")
@click.option("--language", type=click.Choice(["en", "fr", "it"]), default=None)
@click.option("--site", "sites", multiple=True, help="May see this site only; several times for several.")
def user(name: str, role: Any, users: Path, language: str | None, sites: tuple[str, ...]) -> int:
    """Add a person or change password and role. The name is a pseudonym: it stands in the journal.

    Asks for the password twice, or reads one line from standard input.
    """

    def work() -> int:
        from correlator.console.users import User, Users
        from correlator.errors import UsageError

        known = Users(users)
        if sys.stdin.isatty():
            password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        else:
            password = sys.stdin.readline().rstrip("\n")
        if not name or len(name) > 100 or name != name.strip():
            raise UsageError("a name has 1 to 100 characters and no blank at its ends")
        known.put(User(name, role, language=language or "", sites=sites), password)
        click.echo(f"{name}: {role}, in {users}")
        return 0

    return guarded(work)
