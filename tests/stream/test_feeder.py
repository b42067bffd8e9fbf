"""When a worker writes, and that it ends soon when told to; whoever comes next goes on and tells nothing twice."""

from __future__ import annotations

from correlator.events import Entity, Event
from correlator.lab.brokers import KafkaBroker
from correlator.run.log import LogRecord, encode
from correlator.stream.applied import in_force
from correlator.stream.feeder import Feeder
from correlator.stream.settings import WorkerSettings
from correlator.stream.worker import EXIT_UNAVAILABLE
from tests.stream.house import House

RECORDS = 300


def alert(number: int) -> Event:
    at_ms = 1_767_000_000_000 + number * 1_000
    return Event(
        id=f"{number:032x}", site="house", source="suricata", dialect="suricata", kind="ids.alert", time_ms=at_ms,
        received_ms=at_ms, entities=(Entity("actor", "ip", "198.51.100.7"), Entity("target", "ip", "192.0.2.20")),
    )  # fmt: skip


def log_of(one: House, alerts: int) -> list[bytes]:
    """A log: the configuration, then an alert a second; each is decided when the next is there."""
    log = [LogRecord("house", configuration=in_force(one.kafka)[0]["house"].configuration)]
    log += [LogRecord("house", "raw.suricata/0", n, n, (alert(n),), (n,)) for n in range(alerts)]
    producer = one.producer()
    values = [encode(record) for record in log]
    for value in values:
        producer.produce(f"{one.prefix}events", value, b"house", partition=0)
    assert producer.flush(30) == 0
    return values


def test_records_that_tell_nothing_cost_no_transaction_until_the_next_checkpoint(house):
    one = house().prepare()
    now_s = 0.0
    settings = WorkerSettings(batch_records=1, checkpoint_ms=1_000)
    feeder = Feeder(one.kafka, settings, lambda: now_s)
    feeder.open(0)
    for offset, value in enumerate(log_of(one, 10)):
        feeder.feed(0, [(offset, value)])
    assert feeder.transactions == len(one.told("matches")) == 9
    killed, feeder = feeder, Feeder(one.kafka, settings, lambda: now_s)
    feeder.open(0)
    assert feeder.partitions[0].engine.counts.refolded == 11, "all that stands behind the last checkpoint"
    feeder.rest()
    assert feeder.transactions == 0, "no checkpoint is due"
    now_s = 1.0
    feeder.rest()
    last = Feeder(one.kafka, settings, lambda: now_s)
    last.open(0)
    assert last.partitions[0].engine.applied == killed.partitions[0].engine.applied == 10
    assert last.partitions[0].engine.counts.refolded == 0
    one.none_twice(one.told("matches"), "matches")


def test_a_stop_in_the_middle_of_a_long_log_waits_for_the_batch_at_hand_and_not_for_the_log(house):
    one = house().prepare()
    log_of(one, RECORDS)
    settings = WorkerSettings(batch_records=20)
    told_to_stop, next_one = Feeder(one.kafka, settings), Feeder(one.kafka, settings)
    told_to_stop.stop()
    told_to_stop.open(0)
    assert told_to_stop.partitions[0].engine.applied == 19
    told_to_stop.checkpoint()
    next_one.open(0)
    assert next_one.partitions[0].engine.applied == RECORDS
    assert next_one.partitions[0].engine.counts.refolded == 0, "a stop leaves a checkpoint"
    matches = one.told("matches")
    one.none_twice(matches, "matches")
    assert len(matches) == RECORDS - 1, "the last one waits for what may come before it"


def test_a_stop_while_kafka_is_away_ends_before_a_supervisor_would_kill(tmp_path):
    with KafkaBroker(tmp_path / "kafka") as kafka:
        one = House(kafka.bootstrap, "away", tmp_path).prepare()
        worker = one.start("worker")
        kafka.stop()
        assert worker.stop() == EXIT_UNAVAILABLE, "it ended itself and was not killed"
        assert worker.said("ended")[-1]["reason"] == "stop_held_up"
