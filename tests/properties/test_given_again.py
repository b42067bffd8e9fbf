"""What an MQTT broker gives again counts once, however often a bridge was killed and however long it was away.

A seeded broker: messages that give one to five events each, some with the same content as one before and some
without a device time; a bridge that is killed at any moment, after it handed a message on and before it
acknowledged it; another bridge of the site that goes on meanwhile; and state that is written and read back.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from correlator.clock import MINUTE_MS
from correlator.events.event import Event
from correlator.matching.deliveries import KEPT_MESSAGES
from correlator.matching.sorter import Sorter
from correlator.sources.dialect import ClockPolicy, Context, Message

INFLIGHT = 1_000  # Mosquitto's max_inflight_messages, as docs/bridge.md asks
WINDOW_MS = MINUTE_MS


class Hall:
    """Two sources of a site and the sorter that takes what their bridges hand on."""

    def __init__(self) -> None:
        self.sorter = Sorter(lateness_ms=2_000, max_late_ms=10**12, dup_window_ms=WINDOW_MS)
        self.sorter.track()
        self.written: dict[str, bytes] = {}
        self.context = {name: Context("h1", name, ClockPolicy()) for name in ("doors", "gates")}
        self.offset = 0
        self.left: list[Event] = []

    def hand_on(self, source: str, message: Message, events: int, device_ms: int | None) -> None:
        """What ingest makes of one delivery, and what the watermark lets out behind it."""
        self.offset += 1
        message = Message(
            message.channel, message.payload, message.received_ms, dup=message.dup, qos=message.qos,
            packet_id=message.packet_id, raw=f"raw.{source}/0:{self.offset}", origin=message.origin,
        )  # fmt: skip
        for index in range(events):
            self.sorter.add(
                self.context[source].event(message, "door.open", index=index, device_ms=device_ms and device_ms + index)
            )
        self.let_out(message.received_ms - 2_000)

    def let_out(self, watermark_ms: int) -> None:
        while 0 <= self.sorter.next_ms() <= watermark_ms:
            self.left += self.sorter.pop()

    def checkpoint(self) -> None:
        for key, value in self.sorter.changes():
            if value is None:
                del self.written[key]
            else:
                self.written[key] = value
        assert self.written == dict(self.sorter.entries())

    def crash(self, dice: random.Random) -> None:
        """A new worker with what the last one had written, which was just now."""
        self.checkpoint()
        old, self.sorter = self.sorter, Sorter(2_000, 10**12, WINDOW_MS)
        self.sorter.track()
        entries = list(self.written.items())
        dice.shuffle(entries)
        for key, value in entries:
            self.sorter.restore_entry(key, value)
        self.sorter.released_ms, self.sorter.forget_at_ms = old.released_ms, old.forget_at_ms
        assert dict(self.sorter.entries()) == self.written


def day(seed: int, away_ms: Callable[[random.Random], int], messages: int) -> tuple[list[str], list[str]]:
    """(origins of what was published, origins of the events that left), each message's once an event."""
    dice = random.Random(seed)
    hall = Hall()
    now_ms = 1_700_000_000_000
    wanted: list[str] = []
    waiting: list[tuple[Message, int, int | None]] = []
    for number in range(messages):
        events, clock = dice.randint(1, 5), dice.random() < 0.5
        payload = b"open" if dice.random() < 0.3 else b"open %d" % number
        message = Message(
            "doors/1", payload, 0, qos=1, packet_id=number % 65_535 + 1, origin=f"{number}",
        )  # fmt: skip
        waiting.append((message, events, 1_700_000_000_000 + number * 40 if clock else None))
        wanted += [f"{number}"] * events
    handed: set[str] = set()
    while waiting:
        # A bridge's life: it hands on, acknowledges behind that, and is killed with up to INFLIGHT not acknowledged.
        life, acknowledged = dice.randint(200, 1_500), 0
        behind = dice.randint(0, INFLIGHT)
        for place, (message, events, device_ms) in enumerate(waiting[:life]):
            now_ms += 40
            hall.hand_on(
                "doors",
                Message(
                    message.channel, message.payload, now_ms, dup=message.origin in handed, qos=1,
                    packet_id=message.packet_id, origin=message.origin,
                ),
                events, None if device_ms is None else device_ms,
            )  # fmt: skip
            handed.add(message.origin)
            acknowledged = max(0, place + 1 - behind)
        # What the broker had sent and the bridge did not get to is given again too, as if it were known.
        handed |= {message.origin for message, _, _ in waiting[: acknowledged + INFLIGHT]}
        del waiting[:acknowledged]
        away = away_ms(dice)
        for number in range(min(away // 20, 2_500)):
            gate = Message("gates/1", b"%d" % number, now_ms + number * 20, qos=1, packet_id=number % 65_535 + 1)
            hall.hand_on("gates", gate, 1, None)
        now_ms += away
        hall.checkpoint()
        if dice.random() < 0.5:
            hall.crash(dice)
    hall.let_out(1 << 60)
    return wanted, [event.origin for event in hall.left if event.source == "doors"]


@pytest.mark.parametrize("seed", range(3))
def test_a_bridge_killed_again_and_again_gives_each_message_once(seed: int) -> None:
    wanted, left = day(seed, lambda dice: dice.randint(0, 5_000), messages=2_000)
    assert sorted(left) == sorted(wanted)


@pytest.mark.parametrize("seed", range(3))
def test_a_bridge_that_was_away_for_an_hour_gives_each_message_once(seed: int) -> None:
    wanted, left = day(100 + seed, lambda dice: dice.randint(30, 90) * MINUTE_MS, messages=2_000)
    assert sorted(left) == sorted(wanted)


def test_what_is_remembered_is_bounded_for_each_source() -> None:
    hall = Hall()
    for number in range(10 * KEPT_MESSAGES):
        hall.hand_on("doors", Message("doors/1", b"%d" % number, number * 40, qos=1, packet_id=1), 2, None)
        if number % 1_000 == 0:
            hall.checkpoint()
    given = hall.sorter.deliveries.sources["doors"]
    assert KEPT_MESSAGES <= len(given.chunk_of) <= KEPT_MESSAGES + 200
    assert sum(map(len, given.chunks.values())) == len(given.chunk_of)
    assert len(hall.sorter.seen) <= 2 * 2 * WINDOW_MS // 40


def test_messages_that_no_broker_gives_again_are_not_remembered() -> None:
    hall = Hall()
    hall.hand_on("doors", Message("doors/1", b"x", 40), 2, None)
    hall.let_out(1 << 60)
    assert len(hall.left) == 2
    assert not hall.sorter.deliveries.sources
