"""The worker's synchronous half: partitions opened, records folded, transactions written.

Everything here runs in one thread. Whoever feeds it (Faust, or a test) calls `open`, `feed` and
`close`; an exception that leaves any of them means that the process must end, since memory may be
ahead of what is written.

Order of operations on opening (each step relies on the one before):

    1  the transactional producer is made: the former owner is fenced, its open transaction aborted
    2  saved state is read, committed records only
    3  the log is read from where state stands to its present end; what was told before is not told again

So the start is never taken from the consumer group: whatever it delivers first is skipped or read up to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from correlator.errors import BodyMissing, FoldFailed, UsageError
from correlator.ingest import metrics
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.logs import Log
from correlator.ingest.meter import SiteMeter
from correlator.run.bodies import Chunks
from correlator.run.partition import PartitionEngine
from correlator.run.rendering import Rendered
from correlator.stream.settings import WorkerSettings
from correlator.stream.state import StateWriter, messages_of, range_of, read_topic, whole
from correlator.stream.topics import CONFIG, EVENTS, STATE

_log: Final = Log("worker")
METRICS_EVERY_S: Final = 1.0


class _Open:
    """A partition that this worker has."""

    __slots__ = ("checkpoint_s", "engine", "fed", "saved", "written", "writer")

    def __init__(self, engine: PartitionEngine, writer: StateWriter) -> None:
        self.engine = engine
        self.writer = writer
        self.written = engine.told  # last record that a transaction marked; what came since gave nothing
        self.saved = engine.applied  # last record that is in the state as it is written
        self.checkpoint_s = time.monotonic()
        self.fed = False  # something new was written since it was opened


class Feeder:
    """See the module's text. clock: monotonic seconds; only decides when a checkpoint is due."""

    def __init__(
        self, kafka: KafkaSettings, settings: WorkerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.kafka = kafka
        self.settings = settings
        self.partitions: dict[int, _Open] = {}
        self.progress_s = clock()  # when a record was last folded and written, or nothing was left to do
        self.written = 0  # records whose outputs were committed by this process
        self.transactions = 0
        self._stopping = False
        self._clock = clock
        self._chunks = Chunks()
        self._events = kafka.topic(EVENTS)
        self._measured_s = 0.0
        self._meters: dict[str, SiteMeter] = {}
        self._reader: Consumer | None = None

    # ---- partitions ----------------------------------------------------------------------------

    def open(self, partition: int) -> None:
        """Takes a partition over and folds up to the log's present end. Raises whatever makes that impossible."""
        if partition in self.partitions:
            return
        began = self._clock()
        writer = StateWriter(self.kafka, self.settings.app, partition)
        entries, writer.parted = whole(read_topic(self.kafka, STATE, partition))
        if not self._chunks.bodies:
            self.read_bodies()
        start, end = self._log_range(partition)
        engine = PartitionEngine(partition, self._chunks.bodies)
        try:
            first = engine.open(entries, start, end)
        except BodyMissing:
            self.read_bodies()
            engine = PartitionEngine(partition, self._chunks.bodies)
            first = engine.open(entries, start, end)
        if engine.gap is not None:
            _log.critical(
                "log_gap", partition=partition, from_offset=engine.gap.first, to_offset=engine.gap.after,
                count=engine.gap.count,
            )  # fmt: skip
            for site in engine.sites:
                metrics.gaps.labels(site).inc()
            if self.settings.stop_on_gap:
                raise UsageError(
                    f"records {engine.gap.first} to {engine.gap.after - 1} of {self._events}/{partition} are gone and"
                    " stop_on_gap is set; set it to false to go on behind them, or restore a state and log that fit"
                )
        opened = self.partitions[partition] = _Open(engine, writer)
        self._catch_up(partition, end)
        _log.info(
            "partition_open", partition=partition, from_offset=first, to_offset=engine.applied,
            records=engine.counts.refolded, elapsed_ms=round((self._clock() - began) * 1000), events=len(entries),
        )  # fmt: skip
        opened.checkpoint_s = self._clock()
        self.progress_s = self._clock()

    def stop(self) -> None:
        """Asks a reading of the log to end behind the batch at hand. Called in any thread; the process ends next."""
        self._stopping = True

    def close(self, partition: int) -> None:
        """Gives a partition up; its memory goes, what is written stays."""
        self.partitions.pop(partition, None)

    def checkpoint(self) -> None:
        """Writes the state of every partition, before an orderly stop."""
        for opened in self.partitions.values():
            if opened.engine.told == opened.engine.applied:
                self._commit(opened, [], checkpoint=True)

    def rest(self) -> None:
        """Writes the state of partitions that have fallen silent since the last checkpoint."""
        now_s = self._clock()
        for opened in self.partitions.values():
            engine = opened.engine
            if opened.saved < engine.applied == engine.told and self._due(opened, now_s):
                self._commit(opened, [], checkpoint=True)

    # ---- records -------------------------------------------------------------------------------

    def feed(self, partition: int, records: Iterable[tuple[int, bytes]]) -> None:
        """Folds records of an open partition and commits what they gave; returns when it is committed.

        Records folded before are skipped; missing ones are read from the log first.
        """
        opened = self.partitions[partition]
        engine = opened.engine
        batch: list[tuple[int, bytes]] = []
        for offset, value in records:
            if offset > engine.applied + 1 + len(batch):
                self._write(opened, batch)
                batch = []
                if offset > engine.applied + 1:
                    self._catch_up(partition, offset)
                    if self._stopping:
                        return
            batch.append((offset, value))
            if len(batch) >= self.settings.batch_records:
                self._write(opened, batch)
                batch = []
        self._write(opened, batch)
        if self._clock() - self._measured_s >= METRICS_EVERY_S:
            self._measure()

    def _write(self, opened: _Open, batch: list[tuple[int, bytes]]) -> None:
        if not batch:
            return
        engine = opened.engine
        messages: list[Rendered] = []
        for offset, value in batch:
            messages += self._fold(opened, offset, value)
        now_s = self._clock()
        self.progress_s = now_s
        if engine.told <= opened.written or engine.told > engine.applied:
            return  # delivered again, or folded again without output
        due = self._due(opened, now_s)
        if messages or due:
            self._commit(opened, messages, checkpoint=due)
        # Else nothing needs to be written: these records, folded again after a crash, give nothing again.

    def _due(self, opened: _Open, now_s: float) -> bool:
        return (now_s - opened.checkpoint_s) * 1000 >= self.settings.checkpoint_ms

    def _commit(self, opened: _Open, messages: list[Rendered], *, checkpoint: bool) -> None:
        engine = opened.engine
        began_s = self._clock()
        _log.debug("checkpoint" if checkpoint else "transaction", partition=engine.partition, offset=engine.told)
        opened.writer.write(messages, engine.checkpoint() if checkpoint else engine.mark())
        _log.debug("committed", partition=engine.partition)
        self._told(messages)
        if not opened.fed and engine.told > opened.written:
            opened.fed = True
            _log.info("went_on", partition=engine.partition, records=engine.counts.repeated, offset=engine.told)
        self.transactions += 1
        self.written += engine.told - opened.written
        opened.written = engine.told
        if checkpoint:
            opened.checkpoint_s = began_s
            opened.saved = engine.applied
        self.progress_s = self._clock()
        metrics.commit.labels(process="worker").observe(self.progress_s - began_s)

    def _fold(self, opened: _Open, offset: int, value: bytes) -> list[Rendered]:
        engine = opened.engine
        try:
            try:
                return engine.fold(offset, value)
            except BodyMissing:
                self.read_bodies()
                return engine.fold(offset, value)
        except FoldFailed as error:
            opened.writer.write([], engine.failed(offset, error))
            _log.critical("fold_failed", partition=engine.partition, offset=offset, detail=str(error))
            raise

    # ---- reading -------------------------------------------------------------------------------

    def _log_range(self, partition: int) -> tuple[int, int]:
        return range_of(self._consumer(), TopicPartition(self._events, partition))

    def _catch_up(self, partition: int, end: int) -> None:
        """Folds the log from where the partition stands up to before `end`, read by this process itself."""
        opened = self.partitions[partition]
        engine = opened.engine
        if engine.applied + 1 >= end:
            return
        consumer = self._consumer()
        consumer.assign([TopicPartition(self._events, partition, engine.applied + 1)])
        batch: list[tuple[int, bytes]] = []
        try:
            for message in messages_of(consumer, f"{self._events}/{partition}", end):
                offset = message.offset()
                assert offset is not None
                if offset > engine.applied + 1 + len(batch):
                    self._write(opened, batch)
                    batch = []
                    _log.critical("log_gap", partition=partition, from_offset=engine.applied + 1, to_offset=offset)
                    engine.hole(offset)
                batch.append((offset, message.value() or b""))
                if len(batch) >= self.settings.batch_records:
                    self._write(opened, batch)
                    batch = []
                    if self._stopping:
                        return
            self._write(opened, batch)
        finally:
            consumer.unassign()

    def _consumer(self) -> Consumer:
        if self._reader is None:
            self._reader = Consumer(
                self.kafka.client(
                    group__id=f"{self.kafka.prefix}correlator-read", enable__auto__commit=False,
                    isolation__level="read_committed", auto__offset__reset="earliest",
                )
            )  # fmt: skip
        return self._reader

    def read_bodies(self) -> None:
        """Reads the topic `config`: the bodies that configuration records name."""
        for key, value in sorted(read_topic(self.kafka, CONFIG, 0).items()):
            if not key.startswith("site/"):
                self._chunks.add(key, value)

    def behind(self) -> int:
        """Records of this worker's partitions that the log has and that are not folded; asks the broker."""
        count = 0
        for partition, opened in list(self.partitions.items()):
            _, end = self._log_range(partition)
            count += max(0, end - 1 - opened.engine.applied)
        return count

    # ---- measuring -----------------------------------------------------------------------------

    def _measure(self) -> None:
        self._measured_s = self._clock()
        now_ms = time.time_ns() // 1_000_000
        for opened in self.partitions.values():
            for site, engine in opened.engine.sites.items():
                self._meter(site).engine(engine, now_ms)

    def _told(self, messages: list[Rendered]) -> None:
        now_ms = time.time_ns() // 1_000_000
        for one in messages:
            if one.topic != "events.enriched":
                self._meter(one.site).told(one.topic, one.value, now_ms)

    def _meter(self, site: str) -> SiteMeter:
        found = self._meters.get(site)
        if found is None:
            found = self._meters[site] = SiteMeter(site)
        return found
