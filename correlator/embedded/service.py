"""`correlator run --embedded`: all receivers, the deciding thread and the printed account in one process.

    event loop (main thread)    followed files, syslog, HTTP
    thread "mqtt"               the bridge
    thread "core"               numbers, decodes, folds, writes (core.py)

A stop (SIGTERM, Ctrl-C) closes the receivers first, then writes what they handed over, then ends. An
error of the core or the bridge ends the process with its message; a supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TextIO

import msgspec

from correlator.bridge.settings import BridgeSettings
from correlator.embedded.core import Core, Submission
from correlator.embedded.log import EmbeddedLog
from correlator.embedded.mqtt import EmbeddedBridge
from correlator.embedded.settings import EmbeddedSettings
from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.health import Health
from correlator.ingest.heartbeat import Heartbeats
from correlator.ingest.intake import Intake
from correlator.ingest.logs import Log
from correlator.ingest.raw import RawMessage
from correlator.ingest.settings import IngestSettings
from correlator.ingest.sources import SourceRow, SourceTable
from correlator.inputs import InputsSettings, Reading
from correlator.inputs.process import input_names
from correlator.inputs.receivers import Receivers
from correlator.inputs.sink import now_ms
from correlator.journal.fold import DEFAULT_MAX_SHELF_MS
from correlator.privacy.evidence import Locker
from correlator.privacy.private import Private
from correlator.run.account import account
from correlator.run.bodies import Bundle, site_from
from correlator.run.collector import settle_collector
from correlator.run.rendering import Rendered

STUCK_S = 30.0  # a core that commits nothing this long is told to be blind

_log = Log("embedded")


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that correlator.yaml says about an embedded site, read and checked."""

    bundle: Bundle
    rows: Sequence[SourceRow]
    ingest: IngestSettings
    inputs: InputsSettings
    bridge: BridgeSettings
    embedded: EmbeddedSettings
    max_shelf_ms: int = DEFAULT_MAX_SHELF_MS
    private: Private | None = None

    def input_names(self) -> list[str]:
        """Names of all inputs that are received here, sorted."""
        names = {one.to for one in self.bridge.routes} | set(input_names(self.inputs))
        return sorted(names)


class LogSink:
    """A sink of receivers on the event loop: keeps messages in the embedded log."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def keep(self, messages: Sequence[RawMessage], reading: Reading | None = None, key: str = "") -> None:
        """Returns once all messages and the position of a followed file are committed."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()

        def answer() -> None:
            if not kept.done():  # its receiver may have been stopped
                kept.set_result(None)

        def done() -> None:
            loop.call_soon_threadsafe(answer)

        self._core.submit(Submission(messages=messages, reading=reading, key=key, done=done))
        await kept

    def congestion(self) -> str:
        """Why nothing can be kept at the moment, "" while all is well."""
        return self._core.congestion()


class Service:
    """One embedded site. out: where threats are told; as_json: as JSON lines instead of the account."""

    def __init__(self, parts: Parts, out: TextIO, *, as_json: bool = False) -> None:
        self.parts = parts
        self._out: TextIO | None = out
        self._as_json = as_json
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._zone = site_from(parts.bundle.bodies, parts.bundle.configuration.site).timezone
        self._receivers: Receivers | None = None
        self._is_ready = False

    def run(self) -> int:
        """Works until stopped by a signal. Raises CorrelatorError for what no waiting mends."""
        settle_collector()
        names = self.parts.input_names()
        if not names:
            raise UsageError("nothing is received: give bridge.routes, or inputs.files, syslog or http")
        rows = [_named_as_here(row, names) for row in self.parts.rows]
        known = {row.input for row in rows}
        for name in names:
            if name not in known:
                raise UsageError(f"input {name!r} has no source: ingest.sources says which dialect reads it")
        private = self.parts.private
        locker = Locker(private.vault) if private is not None else None
        log = EmbeddedLog(self.parts.embedded.file, write=True, locker=locker)
        try:
            return self._run(log, names, rows)
        finally:
            log.close()

    def _run(self, log: EmbeddedLog, names: Sequence[str], rows: Sequence[SourceRow]) -> int:
        parts = self.parts
        site = parts.bundle.site_id
        table = SourceTable(rows, {site: self._zone})
        core = Core(
            log, parts.embedded, Intake(table, parts.ingest), parts.bundle, names, self._told,
            waiting_since_ms=self._waiting_since_ms, max_shelf_ms=parts.max_shelf_ms,
            private=parts.private,
        )  # fmt: skip
        threads = [self._thread("core", core.run)]
        if parts.bridge.routes:
            bridge = EmbeddedBridge(parts.bridge, core, self._stop)
            threads.append(self._thread("mqtt", bridge.run))
        metrics.started_ms.labels("embedded").set(now_ms())
        try:
            asyncio.run(self._receive(core, log))
        finally:
            self._stop.set()
            for thread in threads[1:]:
                thread.join()
            core.stop()
            threads[0].join()
        if self._error is not None:
            raise self._error
        return 0

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - told by the main thread, which ends the process
                self._error = self._error or error
            finally:
                self._stop.set()

        thread = threading.Thread(target=guarded, name=name)
        thread.start()
        return thread

    # ---- receivers -------------------------------------------------------------------------------

    async def _receive(self, core: Core, log: EmbeddedLog) -> None:
        parts = self.parts
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        while not core.ready.is_set():
            if self._stop.is_set():
                return
            await asyncio.sleep(0.02)
        self._receivers = Receivers(parts.inputs, parts.bundle.site_id, LogSink(core), log)
        health = Health(
            parts.embedded.health_host,
            parts.embedded.health_port,
            alive=lambda: now_ms() - core.committed_ms < STUCK_S * 1000 or bool(core.congestion()),
            ready=lambda: self._is_ready and not core.congestion(),
        )
        heartbeats = Heartbeats(parts.embedded.heartbeats, "embedded", lambda: self._blind(core))
        beating = asyncio.ensure_future(heartbeats.run())
        try:
            await self._receivers.run(self._stop.is_set, self._ready)
        finally:
            health.stop()
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def _ready(self) -> None:
        self._is_ready = True
        _log.info("ready", site=self.parts.bundle.site_id, count=len(self.parts.input_names()))

    def _waiting_since_ms(self, name: str) -> int:
        return -1 if self._receivers is None else self._receivers.waiting_since_ms(name)

    def _blind(self, core: Core) -> tuple[int, str]:
        """(since when correlation is blind, ms UTC, and why), (0, "") while it sees."""
        why = core.congestion()
        if why:
            return core.committed_ms, why
        if now_ms() - core.committed_ms > STUCK_S * 1000:
            return core.committed_ms, "the deciding thread stands still"
        return 0, ""

    # ---- telling ---------------------------------------------------------------------------------

    def _told(self, messages: Sequence[Rendered]) -> None:
        out = self._out
        if out is None:
            return
        try:
            for message in messages:
                if message.topic == "threats":
                    out.write(self._words(message.value))
            out.flush()
        except (BrokenPipeError, ValueError):
            self._out = None  # whoever read has gone; the log has it all
            _log.warning("reader_gone")

    def _words(self, value: bytes) -> str:
        if self._as_json:
            return value.decode() + "\n"
        threat: dict[str, Any] = msgspec.json.decode(value)
        return "\n".join(account(threat, self._zone)) + "\n\n"


def _named_as_here(row: SourceRow, names: Sequence[str]) -> SourceRow:
    """On Kafka the input `eve` is the raw topic `raw.eve`; the same settings serve both carriers."""
    name = row.input.removeprefix("raw.")
    return replace(row, input=name) if row.input not in names and name in names else row
