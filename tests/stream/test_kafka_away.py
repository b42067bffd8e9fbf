"""Kafka stops and comes back: nothing is told twice or lost, state behind an open transaction is not read."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from correlator.ingest.kafka import KafkaSettings
from correlator.run.rendering import Rendered
from correlator.stream import state
from correlator.stream.state import Fenced, StateWriter, read_topic, whole
from tests.brokers.fixtures import read_all


@pytest.fixture
def settings(kafka, unique) -> KafkaSettings:
    made = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{unique}.")
    admin = AdminClient(made.client())
    names = {"state": 1, "events.enriched": 2, "matches": 2, "threats": 2, "rejects": 1}
    for future in admin.create_topics([NewTopic(made.topic(name), count, 1) for name, count in names.items()]).values():
        future.result(30)
    return made


def test_state_behind_an_open_transaction_is_not_read(settings, monkeypatch):
    StateWriter(settings, "worker", 0).write([], [("_offset", b"1")])
    other = Producer(settings.client(transactional__id="another"))
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(settings.topic("state"), b"x", b"another", partition=0)
    other.flush(30)
    monkeypatch.setattr(state, "READ_TIMEOUT_S", 3.0)
    with pytest.raises(KafkaException, match="stays open"):
        StateWriter(settings, "worker", 0)
    other.abort_transaction(30)
    monkeypatch.undo()
    StateWriter(settings, "worker", 0).write([], [("_offset", b"2")])
    assert whole(read_topic(settings, "state", 0))[0] == {"_offset": b"2"}
    assert not read_all(settings.bootstrap, settings.topic("threats")), "nobody reads what was given up"


@pytest.mark.parametrize("entries", [1, 300_000])
def test_whoever_was_fenced_says_so_however_much_it_was_about_to_write(settings, entries):
    former = StateWriter(settings, "worker", 0)
    former.write([], [("_offset", b"1")])
    StateWriter(settings, "worker", 0)
    with pytest.raises(Fenced):
        former.write([], ((f"site|{n}", b"of many") for n in range(entries)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kafka_stopped_in_mid_commit_nothing_is_told_twice_and_nothing_is_lost(kafka, settings, seed):
    def work(writer: StateWriter, first: int, stop: threading.Event) -> None:
        number = first
        while not stop.is_set():
            told = [Rendered("threats", b"t%d" % n, b"%d" % number, (), False, "s") for n in range(8)]
            try:
                writer.write(told, [("_offset", b"%d" % number)])
            except (Fenced, KafkaException):
                return
            number += 1

    stop = threading.Event()
    first = threading.Thread(target=work, args=(StateWriter(settings, "worker", 0), 1, stop))
    first.start()
    time.sleep(random.Random(seed).uniform(0.3, 1.0))
    kafka.stop()
    kafka.start()
    writer = StateWriter(settings, "worker", 0)  # the first is fenced
    told = int(whole(read_topic(settings, "state", 0))[0]["_offset"])
    stop.set()
    first.join(60)
    stop.clear()
    second = threading.Thread(target=work, args=(writer, told + 1, stop))
    second.start()
    time.sleep(0.5)
    stop.set()
    second.join(60)
    last = int(whole(read_topic(settings, "state", 0))[0]["_offset"])
    found = Counter(int(message.value()) for message in read_all(kafka.bootstrap, settings.topic("threats")))
    assert found == dict.fromkeys(range(1, last + 1), 8)


def test_a_worker_looks_for_a_kafka_that_is_away_without_haste(kafka, house):
    worker = house().prepare().start("worker")
    kafka.stop()
    before = len(worker.lines())
    time.sleep(3)
    said = len(worker.lines()) - before
    kafka.start()
    assert 0 < said < 200
