"""The notifier at work: takes what is new into the view, plans messages, sends what is due.

Every replica finds the same rows and learns from the journal which of them left; only the one that owns the
journal's partition sends. `step` does one round and returns, so that a test can drive it with a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from correlator.clock import HOUR_MS, MINUTE_MS
from correlator.events.ids import digest
from correlator.ingest import metrics
from correlator.ingest.logs import Log
from correlator.journal.action import Act
from correlator.journal.feeds import Feed
from correlator.journal.load import FLOOD_PER_10_MIN, WINDOW_MS
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
    summaries,
    too_many,
    warnings,
)
from correlator.notifier.routes import situation
from correlator.notifier.settings import NotifierSettings, Receiver, channel_url
from correlator.notifier.summary import week
from correlator.premises import Premises
from correlator.words.message import Message, Occasion, frame, headline, is_drill, message
from correlator.words.several import digest_message, summary_message

WHO: Final = "notifier"
STALLED_MS: Final = 5 * MINUTE_MS  # nothing leaves for so long: alerting is dead, whatever the reason
LOOK_AROUND_MS: Final = 5_000  # timers of threats about which nothing new came are looked at this often
_log = Log("notifier")
Send = Callable[[str, Message, str, str], channels.Result]


class Notifier:
    """The alerts of sites. places: the site model by site id; send: takes (url, message, severity, key).

    mine: whether this process is the one that sends; it is asked in each round. keep_ms: how long view and outbox
    keep what is over, 0: for ever.
    """

    def __init__(
        self,
        settings: NotifierSettings,
        feed: Feed,
        view: View,
        outbox: Outbox,
        journal: Journal,
        places: Mapping[str, Premises],
        send: Send = channels.send,
        mine: Callable[[], bool] = lambda: True,
        keep_ms: int = 0,
    ) -> None:
        self.settings = settings
        self.outbox = outbox
        self._feed, self._view, self._journal, self._places, self._send = feed, view, journal, places, send
        self._mine = mine
        self._keep_ms, self._trimmed_ms = keep_ms, 0
        self._looked_ms = 0
        self._looked_at_all = False
        self._touched: set[str] = set()  # threats about which something new was read and that are not planned yet
        self._flooded: set[str] = set()
        self.turned_ms = 0  # when a round last came to its end with everything read

    def step(self, now_ms: int, timeout_s: float = 0.0) -> int:
        """One round; how many messages left. Raises JournalAway when threats cannot be read."""
        self._touched |= self._feed.poll(self._view, timeout_s)
        if not self._feed.caught_up():
            return 0  # acknowledgements may still come behind the threats: nothing is sent on half the story
        for site in self._places:
            self._learn(site)
        if now_ms - self._looked_ms >= LOOK_AROUND_MS:
            self._looked_ms = now_ms
            due, failed, overdue_ms = self.outbox.depth(now_ms)
            metrics.outbox.labels(state="due").set(due)
            metrics.outbox.labels(state="failed").set(failed)
            metrics.outbox_oldest_ms.set(overdue_ms)
            self._measure_load(now_ms)
            for site, places in self._places.items():
                self.outbox.ask(summaries(self.settings, site, now_ms, places.site.timezone))
            # Timers of what nobody touched are rows already; at the start all are looked at, since the last process
            # may have died between view and outbox.
            timed = self._view.threats(handled_only=self._looked_at_all, limit=100_000)
            self._looked_at_all = True
            self._touched |= {listed.threat.id for listed in timed}
        touched, self._touched = self._touched, set()
        with self.outbox.batch():
            for threat in sorted(touched):
                listed = self._view.threat(threat)
                if listed is not None:
                    self._plan(listed, now_ms)
        left = self._deliver(now_ms) if self._mine() else 0
        self._trim(now_ms)
        self.turned_ms = now_ms
        return left

    def _trim(self, now_ms: int) -> None:
        """Once an hour, between rounds: first the view, then messages about threats that it no longer has."""
        if not self._keep_ms or now_ms - self._trimmed_ms < HOUR_MS:
            return
        self._trimmed_ms = now_ms
        metrics.trimmed("notifier", self._view.trim(now_ms - self._keep_ms))
        gone = self.outbox.trim(now_ms - self._keep_ms, lambda threat: self._view.threat(threat) is not None)
        metrics.trimmed("notifier", {"outbox": gone})

    def _measure_load(self, now_ms: int) -> None:
        """Alerts of each receiver in ten minutes (EEMUA 191); the beginning of a flood is said in the log."""
        for receiver in self.settings.receivers:
            count = self.outbox.sent_since(receiver.name, now_ms - WINDOW_MS)
            metrics.alerts_10_min.labels(receiver=receiver.name).set(count)
            if count > FLOOD_PER_10_MIN and receiver.name not in self._flooded:
                _log.warning("alert_flood", receiver=receiver.name, count=count)
                self._flooded.add(receiver.name)
            elif count <= FLOOD_PER_10_MIN:
                self._flooded.discard(receiver.name)

    def blind(self, now_ms: int) -> tuple[int, str]:
        """Since when nobody can be told (ms UTC), and why; (0, "") while alerting works. For heartbeats."""
        if now_ms - self.turned_ms > STALLED_MS:
            return self.turned_ms or 1, "no round of the notifier came to its end"
        _, _, overdue_ms = self.outbox.depth(now_ms)
        if self._mine() and overdue_ms > STALLED_MS:
            return now_ms - overdue_ms, "messages are due and do not leave"
        return 0, ""

    def _learn(self, site: str) -> None:
        """Takes from the journal what left already: sent by the owner before, or by this process with a lost outbox."""
        after = self.outbox.learned(site)
        while acts := self._view.acts(site, after=after):
            after = acts[-1][0]
            noted = (act for _, act, outcome in acts if act.verb == "notified" and outcome.result == "done")
            self.outbox.learn(site, after, [row for act in noted if (row := _noted(act)) is not None])

    # ---- planning ------------------------------------------------------------------------------

    def _plan(self, listed: Listed, now_ms: int) -> None:
        threat, handling = listed.threat, listed.handling
        places = self._places.get(threat.site)
        if places is None:
            return
        one = situation(threat, places)
        self.outbox.ask(warnings(self.settings, threat, one, handling, now_ms))
        if handling.state == "closed" or threat.phase in ("quiet", "merged"):
            self.outbox.drop(threat.id, CLOSED_DROPS, now_ms, "closed before it left")
            return
        if handling.state != "new":
            self.outbox.drop(threat.id, ANSWERED_DROPS, now_ms, "answered before it was due")
        zone = places.site.timezone
        while self.outbox.ask(plan(self.settings, threat, one, handling, self.outbox.of(threat.id), now_ms, zone)):
            pass  # escalation counts from the first messages, which were only just asked for
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
        self.outbox.gather(now_ms)
        for row in self.outbox.claim(now_ms):
            if too_many(self.settings, row, self.outbox.sent_since(row.receiver, now_ms - HOUR_MS)):
                self.outbox.hold(row.key, now_ms + OVERFLOW_WAIT_MS)
                continue
            text = self._text(row, now_ms)
            if text is None:
                self.outbox.end(row.key, now_ms, "there is nothing to tell any more")
                continue
            result = _through(self.settings.receiver(row.receiver), text, row.severity, row.key, self._send)
            if result.ok:
                members = self.outbox.members(row.key)
                self.outbox.sent(row.key, now_ms)
                for one in (row, *members):
                    self._journal.append(_notice(one, now_ms))
                left += 1
            elif self.outbox.failed(
                row, result.error, now_ms, self.settings.give_up_min * MINUTE_MS, result.retry_after_ms
            ):
                self._dead(row, now_ms)
        return left

    def _text(self, row: Row, now_ms: int) -> Message | None:
        receiver = self.settings.receiver(row.receiver)
        places = self._places.get(row.site)
        if row.occasion == "dead_channel":
            text = frame("dead_channel", receiver.language, receiver=row.why)
            return Message(text, text)
        if row.occasion == "digest":
            held = [self._view.threat(threat) for threat in dict.fromkeys(one.threat for one in self._held(row))]
            told = [(one.threat, self._places[one.threat.site]) for one in held if one is not None]
            return digest_message(told, receiver.language, self.settings.link) if told else None
        if row.occasion == "summary" and places is not None:
            return summary_message(week(self.outbox, self._view, row.site, row.due_ms), places, receiver.language)
        listed = self._view.threat(row.threat)
        if listed is None or places is None:
            return None
        if row.occasion == "warning":
            number = int(row.key.rsplit("/", 1)[1])
            return Message(headline(listed.threat, places, receiver.language), listed.handling.warnings[number].xml)
        minutes = (now_ms - listed.handling.touched_ms) // MINUTE_MS if listed.handling.touched_ms else 0
        link = self.settings.link + row.threat if self.settings.link else ""
        drill = is_drill(listed.threat, places)
        return message(listed.threat, places, receiver.language, Occasion(row.occasion, minutes), link, drill=drill)

    def _held(self, row: Row) -> list[Row]:
        return [one for one in self.outbox.members(row.key) if one.site in self._places]

    def _dead(self, row: Row, now_ms: int) -> None:
        """A dead channel is told to somebody else, once an hour."""
        other = self.settings.receiver(row.receiver).on_failure
        if other and row.occasion != "dead_channel":
            key = f"dead/{row.receiver}/{now_ms // HOUR_MS}/{other}"
            told = Row(key, row.site, row.threat, other, "dead_channel", "critical", row.receiver, now_ms, now_ms)
            self.outbox.ask([told])


def _notice(row: Row, now_ms: int) -> Act:
    """The action that tells the journal that a message left, so that whoever sends next knows."""
    args = {"key": row.key, "receiver": row.receiver, "occasion": row.occasion, "severity": row.severity,
            "why": row.why, "made_ms": row.made_ms}  # fmt: skip
    return Act(
        id=digest("notified", row.key), site=row.site, who=WHO, verb="notified", at_ms=now_ms, threat=row.threat,
        args=args,
    )  # fmt: skip


def _noted(act: Act) -> Row | None:
    """The row of such an action; None if it does not say enough."""
    args = act.args
    texts = [args.get(name) for name in ("key", "receiver", "occasion", "severity", "why")]
    if not all(isinstance(one, str) for one in texts) or not isinstance(args.get("made_ms"), int):
        return None
    key, receiver, occasion, severity, why = (str(one) for one in texts)
    return Row(
        key, act.site, act.threat, receiver, occasion, severity, why, args["made_ms"], args["made_ms"],
        state="sent", ended_ms=act.at_ms,
    )  # fmt: skip


def try_channels(settings: NotifierSettings, send: Send = channels.send) -> Iterator[tuple[str, channels.Result]]:
    """Sends a test message to every receiver; name and result of each as it comes."""
    for receiver in settings.receivers:
        text = frame("test", receiver.language)
        yield receiver.name, _through(receiver, Message(text, text), "low", f"test/{receiver.name}", send)


def _through(receiver: Receiver, text: Message, severity: str, key: str, send: Send) -> channels.Result:
    try:
        url = channel_url(receiver)
    except OSError as error:
        return channels.Result(False, f"{receiver.url_file}: {error.strerror}")
    return send(url, text, severity, key)
