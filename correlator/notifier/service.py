"""The notifier at work: takes what is new into the view, plans messages, sends what is due.

Only the process that owns a site's alerts runs this; `step` does one round and returns, so that a test can
drive it with a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from correlator.clock import HOUR_MS, MINUTE_MS
from correlator.events.ids import digest
from correlator.ingest import metrics
from correlator.journal.action import Act
from correlator.journal.feeds import Feed
from correlator.journal.store import Journal
from correlator.journal.view import Listed, View
from correlator.notifier import channels
from correlator.notifier.outbox import Outbox, Row
from correlator.notifier.planning import (
    ANSWERED_DROPS,
    CLOSED_DROPS,
    OVERFLOW_WAIT_MS,
    back_to_queue,
    plan,
    too_many,
)
from correlator.notifier.routes import situation
from correlator.notifier.settings import NotifierSettings, channel_url
from correlator.premises import Premises
from correlator.words.message import Message, Occasion, frame, is_drill, message

WHO: Final = "notifier"
LOOK_AROUND_MS: Final = 5_000  # timers of threats about which nothing new came are looked at this often
Send = Callable[[str, Message, str, str], channels.Result]


class Notifier:
    """One site's alerts. places: the site model by site id; send: takes (url, message, severity, key)."""

    def __init__(
        self,
        settings: NotifierSettings,
        feed: Feed,
        view: View,
        outbox: Outbox,
        journal: Journal,
        places: Mapping[str, Premises],
        send: Send = channels.send,
    ) -> None:
        self.settings = settings
        self.outbox = outbox
        self._feed, self._view, self._journal, self._places, self._send = feed, view, journal, places, send
        self._looked_ms = 0

    def step(self, now_ms: int, timeout_s: float = 0.0) -> int:
        """One round; how many messages left. Raises JournalAway when threats cannot be read."""
        touched = self._feed.poll(self._view, timeout_s)
        if not self._feed.caught_up():
            return 0  # acknowledgements may still come behind the threats: nothing is sent on half the story
        if now_ms - self._looked_ms >= LOOK_AROUND_MS:
            self._looked_ms = now_ms
            due, failed, overdue_ms = self.outbox.depth(now_ms)
            metrics.outbox.labels(state="due").set(due)
            metrics.outbox.labels(state="failed").set(failed)
            metrics.outbox_oldest_ms.set(overdue_ms)
            touched = touched | {listed.threat.id for listed in self._view.threats(limit=100_000)}
        for threat in sorted(touched):
            listed = self._view.threat(threat)
            if listed is not None:
                self._plan(listed, now_ms)
        return self._deliver(now_ms)

    def test_all(self, now_ms: int) -> list[tuple[str, channels.Result]]:
        """A test message to every receiver now; name and result of each."""
        told = []
        for receiver in self.settings.receivers:
            text = frame("test", receiver.language)
            told.append(
                (
                    receiver.name,
                    self._through(receiver.name, Message(text, text), "low", f"test/{now_ms}/{receiver.name}"),
                )
            )
        return told

    # ---- planning ------------------------------------------------------------------------------

    def _plan(self, listed: Listed, now_ms: int) -> None:
        threat, handling = listed.threat, listed.handling
        places = self._places.get(threat.site)
        if places is None:
            return
        if handling.state == "closed" or threat.phase in ("quiet", "merged"):
            self.outbox.drop(threat.id, CLOSED_DROPS, now_ms, "closed before it left")
            return
        if handling.state != "new":
            self.outbox.drop(threat.id, ANSWERED_DROPS, now_ms, "answered before it was due")
        rows = plan(
            self.settings, threat, situation(threat, places), handling, self.outbox.of(threat.id), now_ms,
            places.site.timezone,
        )  # fmt: skip
        self.outbox.ask(rows)
        if back_to_queue(self.settings, handling, now_ms):
            act = Act(
                id=digest("release", threat.id, str(handling.version)),
                site=threat.site,
                who=handling.owner or handling.acked_by,
                verb="release",
                at_ms=now_ms,
                threat=threat.id,
                seen_version=handling.version,
                args={"reason": "no news after two reminders", "by": WHO},
            )
            self._journal.append(act)

    # ---- sending -------------------------------------------------------------------------------

    def _deliver(self, now_ms: int) -> int:
        left = 0
        for row in self.outbox.claim(now_ms):
            if too_many(self.settings, row, self.outbox.sent_since(row.receiver, now_ms - HOUR_MS)):
                self.outbox.hold(row.key, now_ms + OVERFLOW_WAIT_MS)
                continue
            text = self._text(row, now_ms)
            if text is None:
                self.outbox.drop(row.threat, (row.occasion,), now_ms, "the threat is gone")
                continue
            result = self._through(row.receiver, text, row.severity, row.key)
            if result.ok:
                self.outbox.sent(row.key, now_ms)
                self._noted(row, now_ms)
                left += 1
            elif self.outbox.failed(row, result.error, now_ms, self.settings.give_up_min * MINUTE_MS):
                self._dead(row, now_ms)
        return left

    def _text(self, row: Row, now_ms: int) -> Message | None:
        receiver = self.settings.receiver(row.receiver)
        if row.occasion == "dead_channel":
            text = frame("dead_channel", receiver.language, receiver=row.why)
            return Message(text, text)
        listed = self._view.threat(row.threat)
        places = self._places.get(row.site)
        if listed is None or places is None:
            return None
        minutes = (now_ms - listed.handling.touched_ms) // MINUTE_MS if listed.handling.touched_ms else 0
        link = self.settings.link + row.threat if self.settings.link else ""
        drill = is_drill(listed.threat, places)
        return message(listed.threat, places, receiver.language, Occasion(row.occasion, minutes), link, drill=drill)

    def _through(self, name: str, text: Message, severity: str, key: str) -> channels.Result:
        try:
            url = channel_url(self.settings.receiver(name))
        except OSError as error:
            return channels.Result(False, f"the channel's file cannot be read: {error.strerror}")
        return self._send(url, text, severity, key)

    def _noted(self, row: Row, now_ms: int) -> None:
        """Tells the journal, so that whoever owns the site next knows."""
        act = Act(
            id=digest("notified", row.key), site=row.site, who=WHO, verb="notified", at_ms=now_ms, threat=row.threat,
            args={"key": row.key, "receiver": row.receiver, "occasion": row.occasion},
        )  # fmt: skip
        self._journal.append(act)

    def _dead(self, row: Row, now_ms: int) -> None:
        """A dead channel is told to somebody else, once an hour."""
        other = self.settings.receiver(row.receiver).on_failure
        if other and row.occasion != "dead_channel":
            key = f"dead/{row.receiver}/{now_ms // HOUR_MS}/{other}"
            told = Row(key, row.site, row.threat, other, "dead_channel", "critical", row.receiver, now_ms, now_ms)
            self.outbox.ask([told])
