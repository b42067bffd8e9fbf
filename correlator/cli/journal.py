"""Where console and notifier get threats and actions from: Kafka, or an embedded log with a journal beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from correlator.ingest.kafka import KafkaSettings
    from correlator.journal.feeds import Feed
    from correlator.journal.store import Journal
    from correlator.journal.view import View


def sources(kafka: KafkaSettings, embedded: Path | None, view: View) -> tuple[Feed, Journal]:
    """Feed and journal. embedded: file of an embedded log, None for Kafka. Raises UsageError, JournalAway."""
    from correlator.journal.feeds import KafkaFeed, LogFeed
    from correlator.journal.kafka import TOPIC, KafkaJournal
    from correlator.journal.store import SqliteJournal

    if embedded is not None:
        journal = SqliteJournal(embedded.with_name(embedded.name + ".actions"))
        return LogFeed(embedded, journal), journal
    feed = KafkaFeed(kafka.client(), view, kafka.topic("threats"), kafka.topic(TOPIC))
    return feed, KafkaJournal(kafka.client(), topic=kafka.topic(TOPIC))
