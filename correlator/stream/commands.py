"""The work behind `correlator topics`, `rejects` and `inputs out`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Final, TextIO

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from correlator.clock import local
from correlator.errors import UsageError
from correlator.events.event import Reject
from correlator.ingest.kafka import KafkaSettings
from correlator.run.log import LogRecord, encode
from correlator.stream.settings import TopicSettings
from correlator.stream.state import messages_of, range_of
from correlator.stream.topics import EVENTS, REJECTS, create, plan

_reject: Final = msgspec.json.Decoder(Reject).decode


# ---- topics ------------------------------------------------------------------------------------


def create_topics(
    kafka: KafkaSettings, topics: TopicSettings, raw: list[str], out: TextIO, *, outputs: list[str], dry_run: bool
) -> int:
    """Prints what will be made, then makes it. 1 if something else is not as it should be."""
    steps = plan(kafka, topics, raw, outputs)
    for step in steps:
        out.write(f"{'!' if step.do is None else '+'} {step.says}\n")
    if not steps:
        out.write("all topics are there and as they should be\n")
    out.flush()
    if not dry_run:
        create(kafka, steps)
    return 1 if any(step.serious for step in steps) else 0


def check_topics(
    kafka: KafkaSettings, topics: TopicSettings, raw: list[str], out: TextIO, *, outputs: list[str]
) -> int:
    """Says what is missing or different; 1 if anything is."""
    steps = plan(kafka, topics, raw, outputs)
    for step in steps:
        out.write(f"{'missing' if step.do is not None else 'differs'}: {step.says}\n")
    out.write("all topics are there and as they should be\n" if not steps else "")
    return 1 if steps else 0


# ---- rejects -----------------------------------------------------------------------------------


def list_rejects(kafka: KafkaSettings, out: TextIO, *, reason: str, site: str, last: int) -> int:
    """The newest rejects, oldest first: position, time, site, source, reason, detail; then their number by reason."""
    found: list[tuple[str, Reject]] = []
    counts: dict[str, int] = {}
    for position, one in _read_rejects(kafka, out):
        if (reason and one.reason != reason) or (site and one.site != site):
            continue
        counts[one.reason] = counts.get(one.reason, 0) + 1
        found.append((position, one))
        if len(found) > 2 * last:
            del found[:-last]
    for position, one in found[-last:]:
        at = f"{local(one.received_ms, UTC):%Y-%m-%d %H:%M:%S}Z" if one.received_ms > 0 else "-"
        out.write(f"{position:<8} {at}  {one.site}  {one.source or '-'}  {one.reason}: {one.detail}\n")
    for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        out.write(f"{count:>8}  {name}\n")
    return 0


def show_reject(kafka: KafkaSettings, position: str, out: TextIO) -> int:
    """One reject with its raw bytes as text (what is not UTF-8 as escapes). Raises UsageError."""
    one = _at(kafka, position)
    for name, value in msgspec.to_builtins(one).items():
        if name != "payload":
            out.write(f"{name}: {value}\n")
    out.write(f"\n{one.payload.decode('utf-8', 'backslashreplace')}\n")
    if one.size > len(one.payload):
        out.write(f"\nthe first {len(one.payload)} of {one.size} bytes\n")
    return 0


def retry_reject(kafka: KafkaSettings, position: str, out: TextIO) -> int:
    """Sends the raw message of a reject again, to the end of the raw topic it came from.

    Its receive time stays: the event comes late, as it is. Raises UsageError where the raw topic has let it go.
    """
    one = _at(kafka, position)
    message = _raw_message(kafka, one)
    producer = Producer(
        kafka.client(enable__idempotence=True, partitioner="murmur2_random", message__timeout__ms=30_000)
    )
    topic = kafka.topic(one.raw.partition("/")[0])
    producer.produce(topic, message.value(), message.key(), headers=message.headers())
    if producer.flush(35):
        raise UsageError(f"Kafka does not take it; {position} stays as it is")
    out.write(f"sent again to {topic}\n")
    return 0


def _raw_message(kafka: KafkaSettings, one: Reject) -> Message:
    """The message in its raw topic, with all its headers."""
    place, _, offset = one.raw.rpartition(":")
    topic, slash, partition = place.rpartition("/")
    if not slash or not partition.isdigit() or not offset.isdigit() or not topic.startswith("raw."):
        raise UsageError(f"the reject came from {one.raw or 'nowhere'}, not from a raw topic; it cannot be sent again")
    reader = _reader(kafka)
    try:
        reader.assign([TopicPartition(kafka.topic(topic), int(partition), int(offset))])
        for message in reader.consume(1, timeout=15):
            if message.error() is None and message.offset() == int(offset):
                return message
    finally:
        reader.close()
    raise UsageError(f"{one.raw} is no longer in its raw topic; what is left of it: `rejects show`")


def _read_rejects(kafka: KafkaSettings, out: TextIO) -> Iterator[tuple[str, Reject]]:
    """(position, reject) of the whole topic, partition by partition; says on `out` what is none."""
    topic = kafka.topic(REJECTS)
    reader = _reader(kafka)
    try:
        known = reader.list_topics(topic, timeout=15).topics[topic]
        if known.error is not None:
            raise UsageError(f"there is no topic {topic}")
        for partition in sorted(known.partitions):
            place = TopicPartition(topic, partition, 0)
            start, end = range_of(reader, place)
            reader.assign([place])
            if start < end:
                for message in messages_of(reader, topic, end):
                    value = message.value() or b""
                    try:
                        yield f"{partition}:{message.offset()}", _reject(value)
                    except msgspec.DecodeError as error:  # another writer's
                        out.write(f"{partition}:{message.offset()} is no reject: {error}\n")
    except KafkaException as error:
        raise UsageError(f"{topic} cannot be read: {error.args[0].str()}") from error
    finally:
        reader.close()


def _at(kafka: KafkaSettings, position: str) -> Reject:
    partition, _, offset = position.partition(":")
    if not partition.isdigit() or not offset.isdigit():
        raise UsageError(f"{position!r} is no position; `correlator rejects list` shows them, such as 0:17")
    reader = _reader(kafka)
    try:
        reader.assign([TopicPartition(kafka.topic(REJECTS), int(partition), int(offset))])
        for message in reader.consume(1, timeout=15):
            if message.error() is None and message.offset() == int(offset):
                return _reject(message.value() or b"")
    except msgspec.DecodeError as error:
        raise UsageError(f"{position} is no reject: {error}") from error
    finally:
        reader.close()
    raise UsageError(f"there is no reject {position}")


def _reader(kafka: KafkaSettings) -> Consumer:
    return Consumer(
        kafka.client(
            group__id=f"{kafka.prefix}correlator-read", enable__auto__commit=False, isolation__level="read_committed",
            auto__offset__reset="earliest", enable__partition__eof=True,
        )
    )  # fmt: skip


# ---- inputs ------------------------------------------------------------------------------------


def take_input_out(kafka: KafkaSettings, site: str, input: str, out: TextIO) -> int:
    """Writes into the site's log that an input's promises are no longer waited for."""
    producer = Producer(
        kafka.client(enable__idempotence=True, partitioner="murmur2_random", message__timeout__ms=30_000)
    )
    producer.produce(kafka.topic(EVENTS), encode(LogRecord(site=site, inputs_out=(input,))), site.encode())
    if producer.flush(35):
        raise UsageError("Kafka does not take it; nothing has changed")
    out.write(f"site {site} no longer waits for {input}; its next message brings it back\n")
    return 0
