"""`correlator privacy`: tokens and who is behind them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from correlator.cli.ending import guarded
from correlator.cli.journal import journal_of
from correlator.cli.options import PATH, Group, config_option, examples, kafka_guarded, settings_of

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _asking(command: _Command) -> _Command:
    """Options of commands that look behind tokens."""
    for option in (
        click.option("--site", default="", metavar="ID", help="The site in whose journal it stands, if several."),
        click.option("--embedded", type=PATH, metavar="LOG", help="The embedded log; without it: Kafka."),
        click.option("--as", "name", required=True, metavar="NAME", help="You, a user of the console."),
        click.option("--why", "reason", required=True, metavar="REASON", help="Stands in the journal."),
        config_option,
    ):
        command = option(command)
    return command


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True))
    return sys.stdin.readline().rstrip("\n")


def _asked(file: Path, embedded: Path | None, name: str, site: str, reason: str) -> tuple[Any, Any, Any]:
    """(settings, who asks, what is kept)."""
    from correlator.config.kept import InLog, OnKafka
    from correlator.config.privacy import asker

    loaded = settings_of(file)
    kept = InLog(embedded) if embedded is not None else OnKafka(loaded.settings.kafka)
    return loaded, asker(loaded, name, _password, site, reason, journal_of(loaded.settings.kafka, embedded)), kept


@click.group(cls=Group, epilog=examples("correlator privacy keys show", "correlator privacy vault"))
def privacy() -> None:
    """People as tokens: keys, vault, reveal, export, erase."""


@privacy.command(
    epilog=examples(
        "correlator privacy reveal tok-k1-4zr6dk7qmyfrutv3bgl5o4xk6a --as p-017 --why 'case 12'",
        "correlator privacy reveal 9f86d081884c7d659a2feaa0c55ad015 --as p-017 --why 'case 12'",
    )
)
@click.argument("what", metavar="TOKEN|EVENT")
@_asking
def reveal(what: str, file: Path, reason: str, name: str, embedded: Path | None, site: str) -> int:
    """Say who a token stands for, or print the raw message of an event.

    Needs the role analyst and your password (asked for, or one line of standard input).
    """
    from correlator.config.privacy import reveal as work

    def told() -> int:
        loaded, who, kept = _asked(file, embedded, name, site, reason)
        return work(loaded, who, what, kept, sys.stdout)

    return kafka_guarded(told)


@privacy.command(
    epilog=examples("correlator privacy export p-017 --as p-001 --why 'asked for on 3 May' > p-017.ndjson")
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_asking
def export(names: tuple[str, ...], file: Path, reason: str, name: str, embedded: Path | None, site: str) -> int:
    """Print everything kept of one person, as JSON lines; others in it stay tokens.

    NAME is a person, badge or account; the site file adds the others of the same person. Needs the role admin.
    """
    from correlator.config.privacy import export as work

    def told() -> int:
        loaded, who, kept = _asked(file, embedded, name, site, reason)
        return work(loaded, who, list(names), kept, sys.stdout)

    return kafka_guarded(told)


@privacy.command(epilog=examples("correlator privacy erase p-017 --as p-001 --why 'left, asked for it'"))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--threat", metavar="ID", help="The raw messages of a threat instead of a person.")
@_asking
def erase(
    names: tuple[str, ...], threat: str | None, file: Path, reason: str, name: str, embedded: Path | None, site: str
) -> int:
    """Take one person out: the vault forgets them and kept messages are redacted. It cannot be undone.

    Logs, journal and threats keep tokens that lead nowhere. With --threat its key is deleted, and no raw message
    of it can be read again. Needs the role admin.
    """
    from correlator.config.privacy import erase as work
    from correlator.config.privacy import erase_threat

    if bool(names) is (threat is not None):
        raise click.UsageError("name a person, or a threat with --threat")

    def told() -> int:
        loaded, who, kept = _asked(file, embedded, name, site, reason)
        if threat is not None:
            return erase_threat(loaded, who, threat, sys.stdout)
        return work(loaded, who, list(names), kept, sys.stdout)

    return kafka_guarded(told)


@privacy.command(epilog=examples("correlator privacy vault"))
@config_option
def vault(file: Path) -> int:
    """Say what the vault holds, in numbers."""
    from correlator.config.privacy import show_vault

    return guarded(lambda: show_vault(settings_of(file).settings.privacy, sys.stdout))


@privacy.group()
def keys() -> None:
    """The keys that make tokens."""


@keys.command("show", epilog=examples("correlator privacy keys show"))
@config_option
def keys_show(file: Path) -> int:
    """Say which key makes tokens, and until when the others are matched."""
    from datetime import UTC, datetime

    from correlator.config.privacy import now_ms, show_keys

    today = datetime.fromtimestamp(now_ms() / 1000, UTC).date()
    return guarded(lambda: show_keys(settings_of(file).settings.privacy, today, sys.stdout))


@keys.command("new", epilog=examples("correlator privacy keys new keys/k2"))
@click.argument("file", type=PATH)
def keys_new(file: Path) -> int:
    """Write a fresh key to FILE, which must not exist; name it first in privacy.keys."""
    from correlator.config.privacy import new_key

    return guarded(lambda: new_key(file, sys.stdout))
