"""The evidence keeper on Kafka: raw messages of matches and notable events, copied as they are told.

It reads `events.enriched`, fetches the raw message that each wanted event came from, and writes it to
`evidence` under the event's id, so that a slow attack keeps its first steps when the raw topics have
forgotten them. Positions are stored behind what is acknowledged; a repeat writes the same record again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from correlator.delivery.rejects import Rejects
from correlator.events.event import KeptMessage
from correlator.ingest import metrics
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.logs import Log
from correlator.ingest.raw import from_headers
from correlator.privacy.evidence import Locker, sealed
from correlator.run.evidence import EVIDENCE_BYTES, Wanted, members_of, wanted
from correlator.run.rendering import Rendered

ENRICHED: Final = "events.enriched"
THREATS: Final = "threats"
EVIDENCE: Final = "evidence"
CLAIMS_REMEMBERED: Final = 100_000  # pieces of evidence known to be some threat's; an older one is looked at again
GROUP: Final = "outputs-evidence"
BATCH: Final = 500
READ_ON: Final = 1_000  # messages between two wanted ones that are read over; behind more it jumps
WAIT_S: Final = 10.0

_log: Final = Log("outputs")
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Keeper(threading.Thread):
    """Keeps evidence until `stop` is set. failure: what ended it before. locker: locks the messages."""

    def __init__(self, kafka: KafkaSettings, stop: threading.Event, locker: Locker | None = None) -> None:
        super().__init__(name="evidence", daemon=True)
        self.failure: BaseException | None = None
        self.kept = self.gone = 0
        self._refused: KafkaError | None = None
        self._kafka, self._ending, self._locker = kafka, stop, locker
        self._rejects = Rejects(kafka, "evidence")
        self._claimed: dict[str, None] = {}  # evidence that threats have, the newest
        self._producer = Producer(
            kafka.client(enable__idempotence=True, acks="all", partitioner="murmur2_random", compression__type="lz4")
        )

    def run(self) -> None:
        """Reads, fetches, writes."""
        told, raw = self._reader(), self._reader()
        try:
            listened = [ENRICHED, *([THREATS] if self._locker is not None else [])]
            told.subscribe([self._kafka.topic(name) for name in listened])
            while not self._ending.is_set():
                messages = [one for one in told.consume(BATCH, timeout=0.2) if _usable(one)]
                if messages:
                    self._keep(raw, self._taken(messages))
                    told.commit(asynchronous=False)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.failure = error
            self._ending.set()
        finally:
            told.close()
            raw.close()

    def _reader(self) -> Consumer:
        return Consumer(
            self._kafka.client(
                group__id=self._kafka.prefix + GROUP, auto__offset__reset="earliest", enable__auto__commit=False,
                isolation__level="read_committed", session__timeout__ms=10_000,
            )
        )  # fmt: skip

    def _taken(self, messages: list[Message]) -> list[Wanted]:
        """What the messages want kept; threats among them claim theirs. What cannot be read is a reject."""
        found: list[Wanted] = []
        for message in messages:
            value = message.value() or b""
            try:
                if message.topic() == self._kafka.topic(THREATS):
                    self._claim(value)
                elif (one := wanted(Rendered(ENRICHED, b"", value, ()))) is not None:
                    found.append(one)
            except msgspec.DecodeError as error:
                # The outputs reject threats that cannot be read; said once is enough.
                if message.topic() != self._kafka.topic(THREATS):
                    self._rejects.write(message, "unreadable_event", str(error))
        return found

    def _keep(self, reader: Consumer, listed: list[Wanted]) -> None:
        if self._locker is not None and listed:
            self._locker.prepare([one.event for one in listed], time.time_ns() // 1_000_000)
        by_place: dict[str, dict[int, list[Wanted]]] = {}
        for one in listed:
            place, _, offset = one.raw.rpartition(":")
            if place.startswith("raw.") and offset.isdigit():
                by_place.setdefault(place, {}).setdefault(int(offset), []).append(one)
        for place, offsets in sorted(by_place.items()):
            topic, _, partition = place.rpartition("/")
            found: set[int] = set()
            for at, message in self._fetch(reader, TopicPartition(self._kafka.topic(topic), int(partition)), offsets):
                found.add(at)
                for one in offsets[at]:
                    self._write(one, message, topic)
            self._missing([one for at, its in offsets.items() if at not in found for one in its])
        if self._producer.flush(30):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "writing evidence"))
        if self._refused is not None:
            raise KafkaException(self._refused)

    def _fetch(self, reader: Consumer, at: TopicPartition, offsets: Iterable[int]) -> Iterator[tuple[int, Message]]:
        """(offset, message) of those at some offsets of a partition that are still there, in order."""
        start, end = reader.get_watermark_offsets(at, timeout=WAIT_S)
        left = sorted(offset for offset in offsets if start <= offset < end)
        position = -1
        while left:
            if not position <= left[0] <= position + READ_ON or position < 0:
                position = left[0]
                reader.assign([TopicPartition(at.topic, at.partition, position)])
            batch = [one for one in reader.consume(min(BATCH, left[-1] - position + 1), timeout=WAIT_S) if _usable(one)]
            if not batch:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"reading {at.topic}/{at.partition}"))
            for message in batch:
                offset = message.offset()
                assert offset is not None
                position = offset + 1
                while left and left[0] < offset:
                    del left[0]  # gone from the middle, as compaction leaves it
                if left and left[0] == offset:
                    del left[0]
                    yield offset, message
        reader.unassign()

    def _claim(self, threat: bytes) -> None:
        """Puts the keys of a threat's evidence under its own."""
        assert self._locker is not None
        name, events = members_of(threat) if threat else ("", [])
        if new := [event for event in events if event not in self._claimed]:
            self._locker.claim(name, new, time.time_ns() // 1_000_000)
            self._claimed.update(dict.fromkeys(new))
            while len(self._claimed) > CLAIMS_REMEMBERED:
                del self._claimed[next(iter(self._claimed))]

    def _write(self, one: Wanted, message: Message, channel: str) -> None:
        payload = message.value() or b""
        headers: Any = message.headers() or []
        raw = from_headers(
            headers, payload, input=channel, offset=0, channel=channel, received_ms=message.timestamp()[1], raw=one.raw
        )
        told = sealed(self._locker, one.event, payload[:EVIDENCE_BYTES])
        if told is None:
            return
        kept = KeptMessage(
            event=one.event, site=one.site, channel=raw.message.channel, received_ms=raw.message.received_ms,
            payload=told, size=len(payload), sha256=hashlib.sha256(payload).hexdigest(),
            raw=one.raw,
        )  # fmt: skip
        metrics.evidence_kept.labels(one.site).inc()
        topic, key = self._kafka.topic(EVIDENCE), one.event.encode()
        while True:
            try:
                self._producer.produce(topic, _encode(kept), key, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._refused = error
            return
        self.kept += 1

    def _missing(self, gone: list[Wanted]) -> None:
        for one in gone:
            _log.warning("evidence_gone", id=one.event, site=one.site, detail=f"{one.raw} is no longer there")
        self.gone += len(gone)


def _usable(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.retriable() or error.code() in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN):
        return False
    raise KafkaException(error)
