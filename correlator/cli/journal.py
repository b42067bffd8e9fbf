"""Where console and notifier get threats and actions from: Kafka, or an embedded log with a journal beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
