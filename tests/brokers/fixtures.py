"""Real brokers for tests: `kafka` and `mosquitto`, one of each per pytest process, and topics of a test's own.

A test may stop, kill and start them (they keep port and data) as long as it leaves them running: tests of one
process run one after another, and each process of a parallel run has its own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from correlator.lab.brokers import KafkaBroker, MosquittoBroker


@pytest.fixture(scope="session")
def _kafka_of_process(tmp_path_factory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def _mosquitto_of_process(tmp_path_factory) -> Iterator[MosquittoBroker]:
    with MosquittoBroker(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@pytest.fixture
def kafka(_kafka_of_process) -> Iterator[KafkaBroker]:
    """A running Kafka broker; `kafka.bootstrap` is its address."""
    yield _kafka_of_process.start()
    _kafka_of_process.start()


@pytest.fixture
def mosquitto(_mosquitto_of_process) -> Iterator[MosquittoBroker]:
    """A running Mosquitto with the deployed configuration; `mosquitto.port` on loopback."""
    yield _mosquitto_of_process.start()
    _mosquitto_of_process.start()


@pytest.fixture
def own_mosquitto(tmp_path) -> Iterator[Callable[..., MosquittoBroker]]:
    """Makes Mosquittos of the test's own: `own_mosquitto(options={"max_queued_messages": "10"})`."""
    started: list[MosquittoBroker] = []

    def make(**arguments) -> MosquittoBroker:
        started.append(MosquittoBroker(tmp_path / f"mosquitto-{len(started)}", **arguments))
        return started[-1].start()

    yield make
    for broker in started:
        broker.stop()


@pytest.fixture
def unique() -> str:
    """A prefix that no other test uses, for topics, client ids and groups."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def topics(kafka, unique) -> Callable[..., str]:
    """Makes a topic of the test's own: `topics("raw.mqtt", partitions=2, **{"cleanup.policy": "compact"})`."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 2})

    def make(name: str, partitions: int = 1, **config: str) -> str:
        topic = f"{unique}.{name}"
        made = admin.create_topics([NewTopic(topic, partitions, 1, config=config)])
        made[topic].result(15)
        return topic

    return make


def _end(consumer: Consumer, at: TopicPartition) -> int:
    """The end of a partition; a broker that was just started is asked again until it leads it."""
    until = time.monotonic() + 30
    while True:
        try:
            return consumer.get_watermark_offsets(at, timeout=15)[1]
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > until:
                raise
            time.sleep(0.1)


def read_all(bootstrap: str, topic: str, *, isolation: str = "read_committed", **more) -> list[Message]:
    """Everything in a topic up to its end as it is now, partition by partition.

    Assigned, not subscribed: no group, no rebalance, no waiting.
    """
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"read-{uuid.uuid4().hex}", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "isolation.level": isolation, "enable.partition.eof": False,
        "log_level": 2, **more,
    })  # fmt: skip
    try:
        found: list[Message] = []
        for partition in sorted(consumer.list_topics(topic, timeout=15).topics[topic].partitions):
            at = TopicPartition(topic, partition, 0)
            end = _end(consumer, at)
            consumer.assign([at])
            while consumer.position([at])[0].offset < end:
                batch = consumer.consume(10_000, timeout=0.05)  # it waits for all that it is asked for
                found += [one for one in batch if one.error() is None]
                if not batch and consumer.position([at])[0].offset < 0 and end == 0:
                    break
        return found
    finally:
        consumer.close()
