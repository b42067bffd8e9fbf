"""Where a partition's state stands after a crash, a gap, a poisoned record; without any broker."""

from __future__ import annotations

import random

import msgspec
import pytest

from correlator.errors import FoldFailed
from correlator.run.log import decode, encode
from correlator.run.partition import OFFSET, TRIES, PartitionEngine
from tests.ingest.carried import log_of, scenario, without_raw

READ = ("badge.granted", "badge.denied")  # events that rules look into


class Disk:
    """What a carrier keeps: entries, and messages written in the same transaction."""

    def __init__(self, made) -> None:
        self.made = made
        self.entries: dict[str, bytes] = {}
        self.messages: list[tuple[str, bytes]] = []

    def open(self, start: int, end: int) -> tuple[PartitionEngine, int]:
        engine = PartitionEngine(0, self.made.bodies)
        return engine, engine.open(dict(self.entries), start, end)

    def write(self, messages, entries) -> None:
        self.messages += [(message.topic, message.value) for message in messages]
        for key, value in entries:
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value

    def threats(self) -> list[bytes]:
        return [without_raw(value) for topic, value in self.messages if topic == "threats"]


@pytest.fixture(scope="module")
def log():
    one = scenario("vaccine-theft")
    records, made, _ = log_of(one, pack_events=10)
    return [encode(record) for record in records], made


@pytest.fixture(scope="module")
def undisturbed(log):
    records, made = log
    disk = Disk(made)
    engine, first = disk.open(0, len(records))
    assert first == 0
    for offset, value in enumerate(records):
        disk.write(engine.fold(offset, value), engine.checkpoint())
    return disk


@pytest.mark.parametrize("seed", range(4))
def test_a_crash_after_any_transaction_loses_nothing_and_tells_nothing_twice(log, undisturbed, seed):
    records, made = log
    dice = random.Random(seed)
    disk = Disk(made)
    crashes = 0
    engine, offset = disk.open(0, len(records))
    while offset < len(records):
        messages = []
        for _ in range(dice.randint(1, 25)):
            if offset < len(records):
                messages += engine.fold(offset, records[offset])
                offset += 1
        if dice.random() < 0.25 or not crashes:  # it dies with the batch unwritten
            engine, offset = disk.open(0, len(records))
            crashes += 1
            continue
        if engine.told <= engine.applied:  # while it folds again there is nothing to write
            disk.write(messages, engine.checkpoint() if dice.random() < 0.3 else engine.mark())
    assert crashes > 0
    assert disk.threats() == undisturbed.threats()
    assert len(disk.messages) == len(undisturbed.messages)


def test_a_record_that_was_folded_before_is_skipped_and_a_hole_is_refused(log):
    records, made = log
    engine, _ = Disk(made).open(0, 9)
    engine.fold(0, records[0])
    assert engine.fold(0, records[0]) == []
    assert engine.counts.repeated == 1
    with pytest.raises(ValueError, match="came after"):
        engine.fold(2, records[2])


def test_a_fresh_start_on_a_trimmed_log_is_no_gap(log):
    engine, first = Disk(log[1]).open(40, 90)
    assert first == 40
    assert engine.gap is None


def test_records_that_are_gone_are_told_once_to_each_site(log):
    records, made = log
    disk = Disk(made)
    engine, _ = disk.open(0, 20)
    for offset in range(10):
        disk.write(engine.fold(offset, records[offset]), engine.checkpoint())
    before = len(disk.messages)
    engine, first = disk.open(15, len(records))
    assert first == 15
    assert engine.gap is not None
    disk.write(engine.fold(15, records[15]), engine.checkpoint())
    told = disk.messages[before:]
    assert sum(b"correlator.health.gap" in value for topic, value in told if topic == "threats") == 1
    assert sum(b'"log_gap"' in value for topic, value in told if topic == "rejects") == 1
    engine, first = disk.open(15, len(records))
    assert (first, engine.gap) == (16, None)


def test_a_log_that_was_made_anew_is_not_skipped_silently(log):
    records, made = log
    disk = Disk(made)
    engine, _ = disk.open(0, 20)
    for offset in range(10):
        disk.write(engine.fold(offset, records[offset]), engine.checkpoint())
    engine, first = disk.open(0, 5)
    assert first == 0
    assert engine.gap is not None
    disk.write(engine.fold(0, records[0]), engine.checkpoint())
    assert any(b"correlator.health.gap" in value for _, value in disk.messages)
    assert msgspec.msgpack.decode(disk.entries[OFFSET]) == 0


@pytest.mark.parametrize("count", [1, 3])
def test_what_fails_is_left_out_at_the_third_try_and_only_that(log, undisturbed, monkeypatch, count):
    records, made = log
    from correlator.matching.matcher import Matcher

    fold = Matcher.fold
    victims: list[str] = []

    def failing(self, event, order_ms):
        if len(victims) < count and event.id not in victims:
            victims.append(event.id)
        if event.id in victims:
            raise IndexError("a bug, put here by a test")
        return fold(self, event, order_ms)

    monkeypatch.setattr(Matcher, "fold", failing)
    disk = Disk(made)
    leaves_out(disk, records, count)
    assert len(disk.messages) > len(undisturbed.messages) // 2


def test_an_event_whose_attributes_cannot_be_read_is_left_out_alone(log, undisturbed):
    records, made = list(log[0]), log[1]
    place, record = next(
        (place, one) for place, one in enumerate(map(decode, records)) if one.events[:1] and one.events[0].kind in READ
    )
    spoilt = msgspec.structs.replace(record.events[0], carried=b"\xc1kind")
    records[place] = encode(msgspec.structs.replace(record, events=(spoilt, *record.events[1:])))
    disk = Disk(made)
    leaves_out(disk, records, 1)
    assert len(disk.messages) > len(undisturbed.messages) // 2


def leaves_out(disk: Disk, records: list[bytes], count: int) -> None:
    """Folds the records, restarting as a worker does, until `count` events are rejects after their third try."""
    deaths = 0
    engine, offset = disk.open(0, len(records))
    while offset < len(records):
        try:
            disk.write(engine.fold(offset, records[offset]), engine.checkpoint())
            offset += 1
        except FoldFailed as error:
            disk.write([], engine.failed(offset, error))
            deaths += 1
            assert deaths <= TRIES * count, "what was left out fails again"
            engine, offset = disk.open(0, len(records))
    assert deaths == TRIES * count
    rejects = [msgspec.json.decode(value) for topic, value in disk.messages if topic == "rejects"]
    assert [one["reason"] for one in rejects if one["reason"] == "engine_error"] == ["engine_error"] * count
    said = [msgspec.json.decode(value) for value in disk.threats() if b"correlator.health.poison" in value]
    assert len({(one["id"], one["revision"]) for one in said}) == len(said)
    assert len({one["id"] for one in said}) == count


def test_a_record_that_cannot_be_read_is_a_reject_and_the_next_one_is_folded(log):
    records, made = log
    disk = Disk(made)
    engine, _ = disk.open(0, 3)
    disk.write(engine.fold(0, records[0]), engine.checkpoint())
    disk.write(engine.fold(1, b"\x07nonsense"), engine.checkpoint())
    disk.write(engine.fold(2, records[1]), engine.checkpoint())
    assert [topic for topic, _ in disk.messages].count("rejects") == 1
    assert engine.applied == 2


def test_entries_of_a_newer_release_are_refused_with_words(log):
    disk = Disk(log[1])
    disk.entries = {"_novelty": b"\x00"}
    with pytest.raises(Exception, match="upgrade it"):
        disk.open(0, 1)
