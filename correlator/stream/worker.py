"""`correlator worker`: a Faust agent that feeds the engine, and how the process lives and ends.

Faust brings records and shares partitions among workers; it keeps no tables and decides nothing. The
agent hands batches to the feeder's one thread and leaves its loop body only when they are committed.
Anything unexpected ends the process at once, before Faust could acknowledge: the next one goes on from
what is written.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import faust
import uvloop
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from confluent_kafka import KafkaException

from correlator.errors import CorrelatorError, FoldFailed
from correlator.ingest import metrics
from correlator.ingest.health import Health
from correlator.ingest.heartbeat import beat_in_thread
from correlator.ingest.kafka import MESSAGE_BYTES, KafkaSettings
from correlator.ingest.logs import Log
from correlator.run.collector import settle_collector
from correlator.stream.feeder import Feeder
from correlator.stream.settings import WorkerSettings
from correlator.stream.state import Fenced
from correlator.stream.topics import EVENTS

_log: Final = Log("worker")

# Exit codes of sysexits.h: a supervisor restarts after each of them.
EXIT_BUG: Final = 70
EXIT_UNAVAILABLE: Final = 69
EXIT_FENCED: Final = 75
EXIT_CONFIGURATION: Final = 78
STOP_S: Final = 8.0  # container managers kill after ten seconds
REST_S: Final = 0.25  # least time between looks for partitions that have fallen silent
AWAY_S: Final = 0.1  # between two looks for a Kafka that is away
BLIND_S: Final = 30.0  # inputs promise several times a second; so long without a record is no silence


class _Runner(faust.Worker):
    """Faust's way to run; says that it is to end before it begins to take anything down."""

    told_to_stop: Callable[[], None]

    async def stop(self) -> None:
        self.told_to_stop()
        await super().stop()


class Worker:
    """One worker process. `run` returns its exit code after an orderly stop (SIGTERM, SIGINT)."""

    def __init__(self, kafka: KafkaSettings, settings: WorkerSettings) -> None:
        self.settings = settings
        self.feeder = Feeder(kafka, settings)
        self.owned: set[int] = set()
        self._scratch = tempfile.TemporaryDirectory(prefix="correlator-worker-", ignore_cleanup_errors=True)
        self.app = self._faust_app(kafka)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._stopping = False
        self._joined = False

    def run(self) -> int:
        """Runs until it is told to stop."""
        settle_collector()
        _look_patiently()
        metrics.started_ms.labels(process="worker").set_to_current_time()
        health = Health(self.settings.health_host, self.settings.health_port, self.alive, self.ready)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        beat_in_thread(self.settings.heartbeats, "worker", self.blind)
        uvloop.install()  # Faust's consumer runs a loop of its own in another thread
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        runner = _Runner(
            self.app, loop=loop, loglevel="WARN", override_logging=False, redirect_stdouts=False, quiet=True
        )
        runner.told_to_stop = self._stop
        runner.spinner = None  # it would write terminal codes among the log lines
        try:
            runner.execute_from_commandline()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 0
        finally:
            health.stop()
            self._scratch.cleanup()
        return code

    def alive(self) -> bool:
        """Whether commits do not stand still."""
        return time.monotonic() - self.feeder.progress_s < self.settings.stall_s

    def blind(self) -> tuple[int, str]:
        """(since when, ms UTC; 0: it sees, or others have all partitions; why)."""
        silent_s = time.monotonic() - self.feeder.progress_s
        if not self.owned or silent_s < BLIND_S:
            return 0, ""
        since_ms = time.time_ns() // 1_000_000 - int(silent_s * 1000)
        return since_ms, "no record was folded: ingest neither writes events nor promises, or Kafka is away"

    def ready(self) -> bool:
        """Whether every partition that this worker was given is open and caught up."""
        return self._joined and not self._stopping and self.owned <= self.feeder.partitions.keys()

    # ---- Faust ---------------------------------------------------------------------------------

    def _faust_app(self, kafka: KafkaSettings) -> faust.App:
        settings = self.settings
        data_dir = settings.data_dir or Path(self._scratch.name)
        app = faust.App(
            kafka.prefix + settings.app,
            version=1,
            broker=[f"kafka://{address.strip()}" for address in kafka.bootstrap.split(",")],
            broker_credentials=_credentials(kafka),
            store="memory://",
            topic_allow_declare=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=settings.instance or None,
            broker_session_timeout=settings.session_ms / 1000,
            broker_heartbeat_interval=settings.session_ms / 4000,
            broker_commit_interval=1,
            stream_buffer_maxsize=65_536,
            cython_optimizations=True,
            consumer_max_fetch_size=MESSAGE_BYTES,
            producer_acks=-1,
            web_enabled=False,
            worker_redirect_stdouts=False,
            datadir=str(data_dir),
        )
        topic = app.topic(
            kafka.topic(EVENTS), key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes
        )
        app.agent(topic, name="engine", concurrency=1)(self._agent)
        app.timer(max(settings.checkpoint_ms / 1000, REST_S))(self._rest)
        signals: Any = app  # their types do not know handlers with named arguments
        signals.on_partitions_assigned.connect(self._assigned)
        signals.on_partitions_revoked.connect(self._revoked)
        signals.on_before_shutdown.connect(self._shutdown)
        return app

    async def _agent(self, stream: Any) -> None:
        loop = asyncio.get_running_loop()
        within_s = self.settings.batch_ms / 1000
        async for events in stream.take_events(self.settings.batch_records, within_s):
            groups: dict[int, list[tuple[int, bytes]]] = {}
            for event in events:
                message = event.message
                groups.setdefault(message.partition, []).append((message.offset, message.value))
            await loop.run_in_executor(self._executor, self._guarded, self._feed, groups)

    async def _rest(self, *_: Any) -> None:
        self._executor.submit(self._guarded, self.feeder.rest)

    async def _assigned(self, _app: Any, assigned: Any = (), **_: Any) -> None:
        wanted = {one.partition for one in assigned}
        gone, self.owned = self.feeder.partitions.keys() - wanted, wanted
        _log.info("assigned", count=len(wanted))
        self._executor.submit(self._guarded, self._take_over, wanted, gone)

    async def _revoked(self, _app: Any, revoked: Any = (), **_: Any) -> None:
        self.owned = self.owned - {one.partition for one in revoked}

    def _stop(self) -> None:
        """Begins an orderly stop. What holds it up (Kafka is away) holds it no longer than STOP_S: all is written."""
        if not self._stopping:
            self._stopping = True
            self.feeder.stop()
            late = threading.Timer(
                STOP_S, self._end, (EXIT_UNAVAILABLE, "stop_held_up", TimeoutError(f"no end within {STOP_S:.0f} s"))
            )
            late.daemon = True
            late.start()

    async def _shutdown(self, _app: Any, **_: Any) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._guarded, self.feeder.checkpoint)
        _log.info("stopped", records=self.feeder.written)

    # ---- in the engine's thread ----------------------------------------------------------------

    def _take_over(self, wanted: set[int], gone: set[int]) -> None:
        for partition in gone:
            self.feeder.close(partition)
        for partition in sorted(wanted):
            if partition in self.owned and not self._stopping:
                self.feeder.open(partition)
        self._joined = True
        if self.ready():
            _log.info("ready", count=len(self.owned))

    def _feed(self, groups: dict[int, list[tuple[int, bytes]]]) -> None:
        for partition, records in sorted(groups.items()):
            # What was in Faust's buffer when a partition was revoked is the new owner's.
            if partition in self.owned and partition in self.feeder.partitions:
                self.feeder.feed(partition, records)

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """Runs work; any error ends the process here and now, so that nothing is acknowledged."""
        try:
            work(*arguments)
        except Fenced as error:
            self._end(EXIT_FENCED, "fenced", error)
        except FoldFailed as error:
            self._end(EXIT_BUG, "fold_failed", error)
        except CorrelatorError as error:
            self._end(EXIT_CONFIGURATION, "cannot_go_on", error)
        except KafkaException as error:
            self._end(EXIT_UNAVAILABLE, "kafka", error)
        except BaseException as error:  # noqa: BLE001 - whatever it is, memory is of no use any more
            self._end(EXIT_BUG, "bug", error)

    def _end(self, code: int, what: str, error: BaseException) -> None:
        _log.critical("ended", reason=what, code=code, detail=f"{type(error).__name__}: {error}"[:2000])
        sys.stderr.flush()
        os._exit(code)

    def _watch(self) -> None:
        """Ends a worker whose commits stand still although the log has more for it."""
        while True:
            time.sleep(min(5.0, self.settings.stall_s / 3))
            if self.alive() or not self._joined:
                continue
            try:
                behind = self.feeder.behind() if self.feeder.partitions else 0
            except KafkaException:
                continue  # the broker is away; nobody can commit
            if behind and not self.alive():
                self._end(EXIT_BUG, "stalled", TimeoutError(f"{behind} records wait and none was committed"))
            if not behind:
                self.feeder.progress_s = time.monotonic()


def _look_patiently() -> None:
    """Lets aiokafka (0.14) wait when no broker could be asked for metadata.

    Its fetcher asks again at once, thousands of times a second, with a line of log each, for as long as Kafka is away.
    """
    ask = AIOKafkaClient._metadata_update

    async def patient(client: Any, *arguments: Any) -> bool:
        known: bool = await ask(client, *arguments)
        if not known:
            await asyncio.sleep(AWAY_S)
        return known

    AIOKafkaClient._metadata_update = patient


def _credentials(kafka: KafkaSettings) -> Any:
    """What aiokafka needs for the same connection."""
    if kafka.security == "plaintext":
        return None
    context = None
    if kafka.security in ("ssl", "sasl_ssl"):
        context = ssl.create_default_context(cafile=str(kafka.ca_file) if kafka.ca_file else None)
        if kafka.certificate_file is not None:
            context.load_cert_chain(kafka.certificate_file, kafka.key_file)
    if kafka.security == "ssl":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=kafka.username, password=kafka.secret(), ssl_context=context, mechanism=kafka.mechanism
    )
