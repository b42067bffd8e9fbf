"""`correlator ingest`: raw topics to `events`, at least once and in order.

One loop: take messages, hand them to the intake, write what it gives, and store positions once what
was read before them is acknowledged. Records carry raw offsets, so what is read twice after a crash or
a take-over is dropped by the engine, exactly.

A promise ("everything received up to T is in the log") needs to know the end of the raw partition at
T: the broker is asked for it, and the promise is made when that position has been passed.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Final

import msgspec
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exports are not marked

from correlator.clock import zone_named
from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.health import Health
from correlator.ingest.heartbeat import beat_in_thread
from correlator.ingest.intake import Intake
from correlator.ingest.kafka import UNCONFIRMED, Confirmations, KafkaSettings
from correlator.ingest.logs import Log
from correlator.ingest.meter import decoded
from correlator.ingest.raw import from_headers
from correlator.ingest.settings import IngestSettings
from correlator.ingest.sources import SourceTable, source_rows
from correlator.journal.action import from_bytes
from correlator.journal.fold import DEFAULT_MAX_SHELF_MS
from correlator.journal.relay import Relay
from correlator.privacy.private import Private
from correlator.run.collector import settle_collector
from correlator.run.log import encode
from correlator.run.rendering import reject_message
from correlator.stream.applied import Applied, read_applied
from correlator.stream.settings import IngestProcessSettings
from correlator.stream.state import READ_TIMEOUT_S
from correlator.stream.topics import ACTIONS, CONFIG, EVENTS, REJECTS

_log: Final = Log("ingest")
TAKE_S: Final = 0.002  # longest wait for more messages in one turn: it adds to every event's latency
EXIT_LEFT_OUT: Final = 75  # sysexits.h EX_TEMPFAIL: a supervisor starts it again
GROUP_EVERY_MS: Final = 5_000  # how often it is looked for partitions that nobody reads
CONFIG_EVERY_MS: Final = 500


def partition_of(site: str, partitions: int) -> int:
    """The partition of a site's records: Kafka's own (murmur2) partitioner, as every writer here uses it."""
    return int(murmur2(site.encode()) & 0x7FFFFFFF) % partitions


class IngestProcess:
    """One ingest process. file: correlator.yaml, beside which maps stand; max_shelf_ms: as the console has it."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: IngestProcessSettings,
        ingest: IngestSettings,
        file: str = "correlator.yaml",
        max_shelf_ms: int = DEFAULT_MAX_SHELF_MS,
        private: Private | None = None,
    ) -> None:
        self.kafka = kafka
        self.settings = settings
        self.ingest = ingest
        self.rows = source_rows(ingest.sources, file, private.identity if private is not None else None)
        self._private = private
        self.raw = sorted({row.input for row in self.rows})
        self.produced = 0
        self._admin = AdminClient(kafka.client())
        known = self._admin.list_topics(timeout=READ_TIMEOUT_S).topics
        for name in (EVENTS, REJECTS, CONFIG, *self.raw):
            if kafka.topic(name) not in known:
                raise UsageError(f"there is no topic {kafka.topic(name)}; `correlator topics create` makes it")
        self._partitions = {name: len(known[kafka.topic(name)].partitions) for name in (EVENTS, *self.raw)}
        self._has_actions = kafka.topic(ACTIONS) in known
        self._max_shelf_ms = max_shelf_ms
        self._relays: dict[int, tuple[Relay, int]] = {}  # of assigned partitions: (relay, first offset to copy)
        self._applied: dict[str, Applied] = {}
        self._table = SourceTable(self.rows)
        self.intake = Intake(self._table, ingest, lambda site: partition_of(site, self._partitions[EVENTS]))
        self._producer = Producer(
            kafka.client(
                enable__idempotence=True, acks="all", message__timeout__ms=0, linger__ms=0,
                partitioner="murmur2_random", queue__buffering__max__messages=200_000, compression__type="lz4",
            )
        )  # fmt: skip
        self._consumer = Consumer(
            kafka.client(
                group__id=kafka.prefix + settings.group, enable__auto__commit=False, auto__offset__reset="earliest",
                partition__assignment__strategy="cooperative-sticky", session__timeout__ms=settings.session_ms,
                heartbeat__interval__ms=max(settings.session_ms // 4, 250), fetch__wait__max__ms=100,
                queued__min__messages=20_000, isolation__level="read_committed",
                **({"group__instance__id": settings.instance} if settings.instance else {}),
            )
        )  # fmt: skip
        self._config = Consumer(
            kafka.client(group__id=f"{kafka.prefix}correlator-read", enable__auto__commit=False,
                         auto__offset__reset="earliest", enable__partition__eof=True)
        )  # fmt: skip
        self._positions: dict[tuple[str, int], int] = {}  # of assigned partitions: next offset to read
        self._places: dict[tuple[str, int], tuple[str, str]] = {}  # (name without prefix, name of the input)
        self._assigned = False
        # An epoch is what was written between two notes: [writes not yet acknowledged], positions behind it.
        self._epoch: list[int] = [0]
        self._epochs: deque[tuple[list[int], dict[str, int]]] = deque()
        self._silent = 0
        self._noted: dict[str, int] = {}
        self._fatal: KafkaError | None = None
        self._confirmations = Confirmations(kafka)
        self._ends: tuple[int, dict[TopicPartition, Future[Any]]] | None = None
        self._group: dict[str, Future[Any]] | None = None
        self._left_out_ms = 0  # since when it holds nothing of what nobody else reads; 0: it is not so
        self._stopping = False
        self._turn_s = time.monotonic()

    # ---- life ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Runs until it is told to stop (SIGTERM, SIGINT); what was taken is then written and noted.

        Raises UsageError, KafkaException.
        """
        settle_collector()
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        metrics.started_ms.labels(process="ingest").set_to_current_time()
        health = Health(self.settings.health_host, self.settings.health_port, self.alive, self.ready)
        beat_in_thread(self.settings.heartbeats, "ingest", self.blind)
        try:
            self.start()
            while not self._stopping:
                self.turn()
            self.finish()
        finally:
            health.stop()
        return 0

    def stop(self, *_: object) -> None:
        """Asks the loop to end after this turn."""
        self._stopping = True

    def alive(self) -> bool:
        """Whether the loop turns."""
        return time.monotonic() - self._turn_s < 60

    def blind(self) -> tuple[int, str]:
        """(since when, ms UTC; 0: it sees; why)."""
        silent_s = time.monotonic() - self._turn_s
        if silent_s < 30:
            return 0, ""
        return _now_ms() - int(silent_s * 1000), "nothing can be written to Kafka"

    def ready(self) -> bool:
        """Whether it takes part in the group."""
        return self._assigned and not self._stopping

    def start(self) -> None:
        """Reads what is in force, then asks for partitions."""
        self._config.assign([TopicPartition(self.kafka.topic(CONFIG), 0, 0)])
        while not self._read_config(0.1):
            pass
        topics = [self.kafka.topic(name) for name in self.raw]
        if self._has_actions:
            topics.append(self.kafka.topic(ACTIONS))
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        self._group_ms = self._config_ms = self._commit_ms = self._tick_ms = _now_ms()

    def turn(self) -> None:
        """One turn of the loop: take, pack, write, promise, note."""
        messages = self._consumer.consume(self.settings.fetch_records, timeout=TAKE_S)
        now_ms = _now_ms()
        self._turn_s = time.monotonic()
        self._take(messages, now_ms)
        self._promise(now_ms)
        self.intake.poll(now_ms)
        self._write()
        self._producer.poll(0)
        if self._fatal is not None:
            raise KafkaException(self._fatal)
        self._look_for_confirmations()
        if now_ms - self._commit_ms >= self.settings.commit_ms:
            self._commit_ms = now_ms
            silent, self._silent = self._silent, self.intake.counts.silent
            whose = next(iter(self._applied), "_unknown") if len(self._applied) < 2 else "_several"
            metrics.silent.labels(whose).inc(self._silent - silent)
            self._note()
            self._commit()
        if now_ms - self._config_ms >= CONFIG_EVERY_MS:
            self._config_ms = now_ms
            self._read_config(0)
        if now_ms - self._group_ms >= GROUP_EVERY_MS:
            self._group_ms = now_ms
            self._look_for_unread(now_ms)

    def finish(self) -> None:
        """Writes and notes what was taken, and leaves the group."""
        self._settle()
        self._consumer.close()
        self._config.close()
        _log.info("stopped", records=self.produced)

    # ---- messages ------------------------------------------------------------------------------

    def _take(self, messages: Iterable[Message], now_ms: int) -> None:
        take, positions, places = self.intake.take, self._positions, self._places
        for message in messages:
            error, offset, topic, partition = message.error(), message.offset(), message.topic(), message.partition()
            if error is not None:
                if error.code() in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                    continue
                raise KafkaException(error)
            if offset is None or topic is None or partition is None:
                continue  # cannot be: only errors are without a position
            at = (topic, partition)
            place = places.get(at)
            if place is None:
                name = topic.removeprefix(self.kafka.prefix)
                place = places[at] = name, f"{name}/{partition}"
            name, input = place
            if name == ACTIONS:
                if partition in self._relays:
                    self._relay_action(message, partition, offset)
                    positions[at] = max(offset + 1, positions[at])
                continue
            positions[at] = offset + 1
            headers: Any = message.headers()
            take(
                from_headers(
                    headers or (), message.value() or b"", input, offset, name, message.timestamp()[1],
                    f"{input}:{offset}",
                ),
                now_ms,
            )  # fmt: skip

    def _relay_action(self, message: Message, partition: int, offset: int) -> None:
        """Copies a decision of a person into the log, if it is one that decides and was not copied before."""
        try:
            act = from_bytes(message.value() or b"")
        except msgspec.DecodeError as error:
            _log.warning("action_unreadable", offset=offset, detail=str(error))
            return
        relay, first = self._relays[partition]
        action = relay.take(act)
        if action is not None and offset >= first:
            self.intake.act(act.site, action)

    def _write(self) -> None:
        events, rejects = self.kafka.topic(EVENTS), self.kafka.topic(REJECTS)
        partitions = self._partitions[EVENTS]
        if self._private is not None:
            self._private.flush(_now_ms())  # no token leaves before the vault knows it
        for site, record in self.intake.drain():
            if record.events:
                decoded(site, record.events)
            self._send(events, encode(record), site.encode(), None, partition_of(site, partitions))
        for one in self.intake.drain_rejects():
            metrics.rejects.labels(one.site or "_unknown", one.reason).inc()
            made = reject_message(one)
            self._send(rejects, made.value, made.key, list(made.headers), -1)

    def _send(self, topic: str, value: bytes, key: bytes, headers: Any, partition: int) -> None:
        epoch = self._epoch
        epoch[0] += 1

        def delivered(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                self._fatal = error
            else:
                epoch[0] -= 1
                self._confirmations.confirmed()

        while True:
            try:
                self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=delivered)
            except BufferError:
                self._producer.poll(0.05)
                self._look_for_confirmations()
            else:
                self.produced += 1
                return

    def _look_for_confirmations(self) -> None:
        if self._confirmations.lost(len(self._producer)):
            _log.error("not_confirmed", detail=UNCONFIRMED, waiting=len(self._producer))
            os._exit(EXIT_LEFT_OUT)  # an orderly end would wait for the same; what is not stored is read again

    # ---- positions -----------------------------------------------------------------------------

    def _note(self) -> None:
        """Remembers positions that may be stored once everything written so far is acknowledged."""
        positions = self._all_positions()
        if not self._epoch[0] and positions == self._noted:
            return
        self._noted = positions
        self._epochs.append((self._epoch, positions))
        self._epoch = [0]

    def _all_positions(self) -> dict[str, int]:
        done = {f"{self.kafka.prefix}{name}": at for name, at in self.intake.done().items()}
        for (topic, partition), at in self._positions.items():
            if topic.removeprefix(self.kafka.prefix) == ACTIONS:
                done[f"{topic}/{partition}"] = at
        return done

    def _commit(self, *, wait: bool = False) -> None:
        """Stores the newest positions before which everything is acknowledged."""
        positions: dict[str, int] = {}
        while self._epochs and self._epochs[0][0][0] == 0:
            _, positions = self._epochs.popleft()
        offsets = []
        for name, at in positions.items():
            topic, _, partition = name.rpartition("/")
            if (topic, int(partition)) in self._positions:
                offsets.append(TopicPartition(topic, int(partition), at))
        if not offsets:
            return
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            # They are stored next time; until then a successor would read a little more again.
            _log.warning("positions_not_stored", detail=error.args[0].str())

    def _settle(self) -> None:
        """Writes all that was taken and stores positions behind it."""
        self.intake.flush(_now_ms())
        self._write()
        self._note()
        self._producer.flush(READ_TIMEOUT_S)
        self._commit(wait=True)

    # ---- partitions ----------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        partitions = consumer.committed(partitions, timeout=READ_TIMEOUT_S)
        for stored in partitions:
            start, _ = consumer.get_watermark_offsets(stored, timeout=READ_TIMEOUT_S)
            first = self._positions[stored.topic, stored.partition] = max(stored.offset, start)
            if stored.topic.removeprefix(self.kafka.prefix) == ACTIONS:
                # Which decisions hold follows from all that was asked for before them.
                self._relays[stored.partition] = Relay(self._max_shelf_ms), first
                stored.offset = start
        consumer.incremental_assign(partitions)
        before, self._assigned = self._assigned, True
        _log.info("assigned" if before else "ready", count=len(self._positions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle()
        self._drop(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(partitions)

    def _drop(self, partitions: Iterable[TopicPartition]) -> None:
        for one in partitions:
            self._positions.pop((one.topic, one.partition), None)
            if one.topic.removeprefix(self.kafka.prefix) == ACTIONS:
                self._relays.pop(one.partition, None)
            self.intake.close(f"{one.topic.removeprefix(self.kafka.prefix)}/{one.partition}")
        _log.info("revoked", count=len(self._positions))

    # ---- promises ------------------------------------------------------------------------------

    def _promise(self, now_ms: int) -> None:
        """Asks for the ends of the raw partitions; promises for those that have been read up to them."""
        if self._ends is not None:
            as_of_ms, futures = self._ends
            if not all(future.done() for future in futures.values()):
                return
            self._ends = None
            for at, future in futures.items():
                error = future.exception()
                if error is not None:
                    continue  # the broker is away or the partition moves: no promise now
                position = self._positions.get((at.topic, at.partition))
                if position is None:
                    continue
                input = f"{at.topic.removeprefix(self.kafka.prefix)}/{at.partition}"
                behind = future.result().offset - position
                metrics.lag.labels(input).set(max(behind, 0))
                if behind <= 0:
                    self.intake.caught_up(input, as_of_ms, now_ms)
        if now_ms - self._tick_ms >= self.ingest.tick_ms and not self.ingest.trust_sender_time:
            self._tick_ms = now_ms
            wanted = {
                TopicPartition(topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
                for topic, partition in self._positions
                if topic.removeprefix(self.kafka.prefix) != ACTIONS
            }
            if wanted:
                self._ends = (now_ms, self._admin.list_offsets(wanted, request_timeout=5))

    def _look_for_unread(self, now_ms: int) -> None:
        """Inputs that no process of the group reads are taken out after a while."""
        if self._group is not None:
            futures, self._group = self._group, None
            for future in futures.values():
                if not future.done() or future.exception() is not None:
                    self._look_for_itself(None, now_ms)
                    return
                members = future.result().members
                read = {(one.topic, one.partition) for member in members for one in member.assignment.topic_partitions}
                every = {f"{name}/{n}" for name in self.raw for n in range(self._partitions[name])}
                have = {f"{topic.removeprefix(self.kafka.prefix)}/{n}" for topic, n in read}
                self.intake.read_again(sorted(every & have))
                self.intake.unread(sorted(every - have), now_ms)
                mine = self._consumer.memberid()
                others = {
                    f"{one.topic.removeprefix(self.kafka.prefix)}/{one.partition}"
                    for member in members if member.member_id != mine
                    for one in member.assignment.topic_partitions
                }  # fmt: skip
                self._look_for_itself(bool(every - others), now_ms)
        group = self.kafka.prefix + self.settings.group
        self._group = self._admin.describe_consumer_groups([group], request_timeout=5)

    def _look_for_itself(self, anything: bool | None, now_ms: int) -> None:
        """Ends a process that holds nothing for long although there is something that no other member of the group
        reads (`anything`), or although Kafka answers and only this process cannot ask it (None).

        After a restart of Kafka the client library may wait for ever: the process lives, and nothing is read.
        """
        if self._positions or anything is False:
            self._left_out_ms = 0
        elif not self._left_out_ms:
            self._left_out_ms = now_ms
        elif now_ms - self._left_out_ms >= self.settings.unread_end_ms:
            if anything is None and not self.kafka.answers():
                self._left_out_ms = now_ms
                return
            _log.error("left_out", since_ms=self._left_out_ms)
            self._settle()
            os._exit(EXIT_LEFT_OUT)  # leaving the group in order would wait for what does not answer

    # ---- configuration -------------------------------------------------------------------------

    def _read_config(self, timeout_s: float) -> bool:
        """Takes what is new on the topic `config`; True when it is read to its end."""
        found: dict[str, Applied] = {}
        ended = False
        while True:
            batch = self._config.consume(1_000, timeout=timeout_s)
            for message in batch:
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    ended = True
                    continue
                one = read_applied((message.key() or b"").decode(), message.value() or b"")
                if one is not None:
                    found[one.site] = one
            if not batch or ended:
                break
        for site in sorted(found):
            self._configure(found[site])
        return ended

    def _configure(self, applied: Applied) -> None:
        now_ms = _now_ms()
        known = self._applied.get(applied.site)
        if known == applied:
            return
        self._applied[applied.site] = applied
        if known is None or known.zone != applied.zone:
            zones = {site: zone_named(one.zone) for site, one in self._applied.items()}
            self._table = self.intake.sources = SourceTable(self.rows, zones)
        self.intake.configure(applied.site, applied.configuration, now_ms)
        if known is None:
            self.intake.declare(applied.site, self.inputs_of(applied.site), now_ms)
        _log.info("configured", site=applied.site, hash=applied.configuration.rules[:12])

    def inputs_of(self, site: str) -> list[str]:
        """The raw partitions in which messages of a site may stand."""
        found: set[str] = set()
        for one in self.ingest.sources:
            if one.site in ("", site):
                count = self._partitions[one.input]
                numbers = range(count) if one.spread else [partition_of(site, count)]
                found.update(f"{one.input}/{n}" for n in numbers)
        return sorted(found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
