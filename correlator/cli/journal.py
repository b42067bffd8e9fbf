"""Where console and notifier get threats and actions from: Kafka, or an embedded log with a journal beside it.

And `correlator journal verify`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from correlator.cli.options import PATH, Group, config_option, examples, kafka_guarded, on_kafka, settings_of
from correlator.clock import DAY_MS, HOUR_MS

if TYPE_CHECKING:
    from correlator.config.load import Loaded
    from correlator.ingest.kafka import KafkaSettings
    from correlator.journal.feeds import Feed
    from correlator.journal.store import Journal
    from correlator.journal.view import View


def journal_of(kafka: KafkaSettings, embedded: Path | None) -> Journal:
    """The journal alone. embedded: file of an embedded log, beside which it is; None for Kafka."""
    from correlator.journal.kafka import TOPIC, KafkaJournal
    from correlator.journal.store import SqliteJournal

    if embedded is not None:
        return SqliteJournal(embedded.with_name(embedded.name + ".actions"))
    return KafkaJournal(kafka.client(), topic=kafka.topic(TOPIC))


def sources(kafka: KafkaSettings, embedded: Path | None, view: View) -> tuple[Feed, Journal]:
    """Feed and journal. embedded: file of an embedded log, None for Kafka. Raises UsageError, JournalAway."""
    from correlator.journal.feeds import ENRICHED, KafkaFeed, LogFeed
    from correlator.journal.kafka import TOPIC
    from correlator.journal.store import SqliteJournal

    journal = journal_of(kafka, embedded)
    if embedded is not None:
        assert isinstance(journal, SqliteJournal)
        return LogFeed(embedded, journal), journal
    return KafkaFeed(kafka.client(), view, kafka.topic("threats"), kafka.topic(TOPIC), kafka.topic(ENRICHED)), journal


def kept_ms(loaded: Loaded, embedded: Path | None) -> int:
    """How long threats are kept where they come from, and so in the files of console and notifier."""
    if embedded is not None:
        return int(loaded.settings.embedded.keep_told_days * DAY_MS)
    return loaded.settings.topics.threats_retention_h * HOUR_MS


@click.group(cls=Group, epilog=examples("correlator journal verify"))
def journal() -> None:
    """What people did: the journal of their actions."""


@journal.command(
    epilog=examples("correlator journal verify", "correlator journal verify --embedded correlator.sqlite3")
)
@config_option
@click.option("--embedded", type=PATH, metavar="LOG", help="The journal beside this embedded log instead of Kafka.")
def verify(file: Path, embedded: Path | None) -> int:
    """Check that no record was edited, removed or put in between. Exit code 1 if one was."""

    def work() -> int:
        from correlator.clock import utc_text
        from correlator.journal.verify import verify as check

        wrong, journal = (
            0,
            journal_of((on_kafka(file) if embedded is None else settings_of(file)).settings.kafka, embedded),
        )
        for one in check(journal):
            click.echo(f"{one.site}: {one.actions} actions, {one.anchors} anchors, hash {one.chain[:16]}")
            for position, at_ms in one.broken:
                click.echo(f"  the anchor of {utc_text(at_ms)} (position {position}) does not fit: something before it"
                           " was changed")  # fmt: skip
            rest = one.actions - one.anchored
            if rest and not one.broken:
                click.echo(f"  the last {rest} stand behind the last anchor; nobody can say yet")
            wrong += len(one.broken)
        if journal.unreadable:
            click.echo(f"{journal.unreadable} records are no actions and count for nothing")
        return 1 if wrong else 0

    return kafka_guarded(work)
