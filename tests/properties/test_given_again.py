"""What an MQTT broker gives again counts once, however often a bridge was killed and however long it was away.

A seeded broker: messages that give one to five events each, some with the same content as one before and some
without a device time; a bridge that is killed at any moment, after it handed a message on and before it
acknowledged it; another bridge of the site that goes on meanwhile; and state that is written and read back.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from correlator.clock import MINUTE_MS
from correlator.matching import Engine, EngineSettings, Outputs, Record
from correlator.matching.deliveries import KEPT_ALARMS, KEPT_MESSAGES
from correlator.rules.load import load_rules
from correlator.rules.syntax import RuleSet
from correlator.sources.dialect import ClockPolicy, Context, Message

INFLIGHT = 400  # of a broker in small; Mosquitto: max_inflight_messages 1000 (docs/bridge.md)
WINDOW_MS = MINUTE_MS
SETTINGS = EngineSettings(max_late_ms=10**12, dup_window_ms=WINDOW_MS, enriched="all", track_changes=True)


RULES = """
title: Door opened
id: 2f2f8f4c-1111-4c51-9d6e-5b1c5a1f0001
name: door_opened
level: critical
logsource: {category: access}
detection:
  selection: {kind: door.open}
  condition: selection
"""


class Hall:
    """Two sources of a site and the engine that takes what their bridges hand on."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.written: dict[str, bytes] = {}
        self.context = {name: Context("h1", name, ClockPolicy()) for name in ("doors", "gates")}
        self.offset = 0
        self.left: list[str] = []  # origins of the events that were folded
        self.early: list[str] = []  # events told on arrival
        self.engine = self._fresh()

    def _fresh(self) -> Engine:
        return Engine("h1", self.rules, settings=SETTINGS, filter_logsource=False)

    def hand_on(self, source: str, message: Message, events: int, device_ms: int | None) -> None:
        """What ingest makes of one delivery, and what the engine tells of it."""
        self.offset += 1
        message = msgspec.structs.replace(message, raw=f"raw.{source}/0:{self.offset}")
        made = [
            self.context[source].event(message, "door.open", index=index, device_ms=device_ms and device_ms + index)
            for index in range(events)
        ]
        self._take(self.engine.receive(Record(events=made, input=source, ticks={"clock": message.received_ms})))

    def end(self) -> None:
        self._take(self.engine.finish(None))

    def _take(self, outputs: Outputs) -> None:
        assert not outputs.rejects
        self.left += [one.event.origin for one in outputs.enriched if one.event.source == "doors"]
        self.early += [one.decided_by for one in outputs.matches if one.early]

    def checkpoint(self) -> None:
        for key, value in self.engine.changes():
            if value is None:
                del self.written[key]
            else:
                self.written[key] = value
        assert self.written == dict(self.engine.snapshot())

    def crash(self, dice: random.Random) -> None:
        """A new engine with what the last one had written, which was just now."""
        self.checkpoint()
        self.engine = self._fresh()
        entries = list(self.written.items())
        dice.shuffle(entries)
        self.engine.restore(entries)
        assert dict(self.engine.snapshot()) == self.written


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> RuleSet:
    file = tmp_path_factory.mktemp("rules") / "doors.yml"
    file.write_text(RULES)
    return load_rules([file]).rules


def day(rules: RuleSet, seed: int, away_ms: Callable[[random.Random], int], messages: int) -> tuple[list[str], Hall]:
    """(origins of what was published, once for each of its events; the hall at the day's end)."""
    dice = random.Random(seed)
    hall = Hall(rules)
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
        life, acknowledged = dice.randint(150, 900), 0
        behind = dice.randint(0, min(INFLIGHT, life - 100))
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
        for number in range(min(away // 20, 500)):
            gate = Message("gates/1", b"%d" % number, now_ms + number * 20, qos=1, packet_id=number % 65_535 + 1)
            hall.hand_on("gates", gate, 1, None)
        now_ms += away
        hall.checkpoint()
        if dice.random() < 0.5:
            hall.crash(dice)
    hall.end()
    return wanted, hall


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bridge_killed_again_and_again_gives_each_message_once(rules: RuleSet, seed: int) -> None:
    wanted, hall = day(rules, seed, lambda dice: dice.randint(0, 5_000), messages=700)
    assert sorted(hall.left) == sorted(wanted)
    assert len(set(hall.early)) == len(hall.early), "told on arrival once"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bridge_that_was_away_for_an_hour_gives_each_message_once(rules: RuleSet, seed: int) -> None:
    wanted, hall = day(rules, 100 + seed, lambda dice: dice.randint(30, 90) * MINUTE_MS, messages=700)
    assert sorted(hall.left) == sorted(wanted)
    assert len(set(hall.early)) == len(hall.early), "told on arrival once"


def test_what_a_source_sends_again_is_told_on_arrival_once(rules: RuleSet) -> None:
    hall = Hall(rules)
    for number in range(3):
        message = Message("doors/1", b"x", 1_000 + number, raw=f"raw.doors/0:{number}")
        event = hall.context["doors"].event(message, "door.open", device_ms=500, native_id="a1")
        hall._take(hall.engine.receive(Record(events=[event], input="doors")))
    assert len(hall.early) == 1


def test_what_is_remembered_is_bounded_for_each_source(rules: RuleSet) -> None:
    hall = Hall(rules)
    for number in range(2 * KEPT_MESSAGES):
        hall.hand_on("doors", Message("doors/1", b"%d" % number, number * 40, qos=1, packet_id=1), 2, None)
        if number % 1_000 == 0:
            hall.checkpoint()
    given = hall.engine.deliveries.sources["doors"]
    assert KEPT_MESSAGES <= len(given.chunk_of) <= KEPT_MESSAGES + 200
    assert sum(map(len, given.chunks.values())) == len(given.chunk_of)
    assert len(hall.engine.sorter.seen) <= 2 * 2 * WINDOW_MS // 40
    assert len(hall.engine.early_told.numbers) == KEPT_ALARMS


def test_messages_that_no_broker_gives_again_are_not_remembered(rules: RuleSet) -> None:
    hall = Hall(rules)
    hall.hand_on("doors", Message("doors/1", b"x", 40), 2, None)
    hall.end()
    assert len(hall.left) == 2
    assert not hall.engine.deliveries.sources
