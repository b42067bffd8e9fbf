"""Listens for syslog: UDP (RFC 5426), TCP (RFC 6587), TLS (RFC 5425). What a message says is ingest's business.

Back-pressure: a connection is read on only when what it sent is kept; of UDP a bounded queue waits, then
the socket is left unread and the kernel's buffer fills. What the kernel drops then is counted (Linux
tells how many): UDP has no way to say "wait".
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence

from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.logs import Log
from correlator.ingest.raw import RawMessage
from correlator.inputs.frames import Frames
from correlator.inputs.settings import SyslogInput
from correlator.inputs.sink import Clock, Sink, Stamp, now_ms
from correlator.inputs.tls import server_context
from correlator.sources.dialect import Message

READ_BYTES = 65_536
BATCH_MESSAGES = 500
SOCKET_BUFFER_BYTES = 4_194_304  # asked of the kernel for UDP; it may give less (net.core.rmem_max)
_SO_RXQ_OVFL = 40  # Linux: datagrams dropped so far come along with each datagram

_log = Log("inputs")


class SyslogListener:
    """Hands syslog messages of one address to a sink.

    `start` binds (port 0 takes a free one, then told by `port`), `run` works until cancelled, `close`
    ends connections after what they sent is kept.
    """

    def __init__(self, settings: SyslogInput, site: str, sink: Sink, clock: Clock = now_ms) -> None:
        self.settings = settings
        self.site = settings.site or site
        self.port = settings.port
        self._channel = f"syslog/{settings.name}"
        self._sink = sink
        self._stamp = Stamp(clock)
        self._next = 0
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._kernel_drops = 0

    async def start(self) -> None:
        """Binds the address. Raises UsageError when that fails."""
        settings = self.settings
        try:
            if settings.protocol == "udp":
                self._socket = _udp_socket(settings.host, settings.port)
                self.port = self._socket.getsockname()[1]
                asyncio.get_running_loop().add_reader(self._socket, self._datagrams)
            else:
                tls = server_context(settings.tls) if settings.tls is not None else None
                self._server = await asyncio.start_server(
                    self._connected, settings.host, settings.port, ssl=tls, limit=READ_BYTES
                )
                self.port = self._server.sockets[0].getsockname()[1]
        except OSError as error:
            where = f"{settings.host}:{settings.port}/{settings.protocol}"
            raise UsageError(f"input {settings.name}: cannot listen on {where}: {error.strerror or error}") from error
        _log.info("listening", input=settings.name, host=settings.host, port=self.port)

    async def run(self) -> None:
        """Works until cancelled."""
        if self._socket is None:
            await asyncio.get_running_loop().create_future()
        while True:
            await self._arrived.wait()
            await self._keep_datagrams()

    async def close(self) -> None:
        """Takes no new connection, ends the open ones, keeps what has arrived."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._socket is not None:
            with contextlib.suppress(ValueError):
                asyncio.get_running_loop().remove_reader(self._socket)
            while self._queue:
                await self._keep_datagrams()
            self._socket.close()
            self._socket = None

    def waiting_since_ms(self) -> int:
        """Receive time of the oldest message that was stamped and not handed to the sink yet; -1 if there is none."""
        try:
            return self._queue[0][1]
        except IndexError:
            return -1

    # ---- connections -----------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = self.settings.name
        if len(self._connections) >= self.settings.max_connections:
            metrics.input_refused.labels(name, "connections").inc()
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        open_now = metrics.input_connections.labels(name)
        open_now.inc()
        frames = Frames(self.settings.max_message_bytes)
        try:
            while data := await asyncio.wait_for(reader.read(READ_BYTES), self.settings.idle_s):
                await self._keep(frames.feed(data))
            await self._keep(frames.end())
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            await self._keep(frames.end())
        finally:
            metrics.input_dropped.labels(name, "cut").inc(frames.cut)
            self._connections.discard(task)
            open_now.dec()
            writer.close()

    async def _keep(self, payloads: Sequence[bytes]) -> None:
        # Stamped batch by batch, as they are handed on: none is older than what its input has promised.
        for at in range(0, len(payloads), BATCH_MESSAGES):
            received_ms = self._stamp()
            await self._keep_messages([(payload, received_ms) for payload in payloads[at : at + BATCH_MESSAGES]])

    async def _keep_messages(self, arrived: Sequence[tuple[bytes, int]]) -> None:
        name = self.settings.name
        messages = []
        for payload, received_ms in arrived:
            raw = f"{self._channel}:{received_ms}.{self._next}"
            messages.append(
                RawMessage(name, self._next, self.site, Message(self._channel, payload, received_ms, raw=raw))
            )
            self._next += 1
        await self._sink.keep(messages)
        metrics.received.labels(name).inc(len(messages))
        metrics.received_bytes.labels(name).inc(sum(len(one.message.payload) for one in messages))

    # ---- datagrams -------------------------------------------------------------------------------

    def _datagrams(self) -> None:
        """Takes what waits in the socket, as long as the queue has room."""
        assert self._socket is not None
        limit = self.settings.max_message_bytes
        while self._queued_bytes < self.settings.queue_bytes:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(READ_BYTES, 64)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                _log.warning("socket_error", input=self.settings.name, detail=error.strerror)
                break
            self._count_drops(ancillary)
            payload = data.strip(b"\r\n\0")[: limit + 1]
            if payload:
                self._queue.append((payload, self._stamp()))
                self._queued_bytes += len(payload)
        else:
            asyncio.get_running_loop().remove_reader(self._socket)
        metrics.input_waiting.labels(self.settings.name).set(self._queued_bytes)
        self._arrived.set()

    async def _keep_datagrams(self) -> None:
        batch = [self._queue[at] for at in range(min(len(self._queue), BATCH_MESSAGES))]
        await self._keep_messages(batch)
        full = self._queued_bytes >= self.settings.queue_bytes
        for payload, _ in batch:
            self._queue.popleft()
            self._queued_bytes -= len(payload)
        metrics.input_waiting.labels(self.settings.name).set(self._queued_bytes)
        if full and self._socket is not None and self._queued_bytes < self.settings.queue_bytes:
            asyncio.get_running_loop().add_reader(self._socket, self._datagrams)
        if not self._queue:
            self._arrived.clear()

    def _count_drops(self, ancillary: Sequence[tuple[int, int, bytes]]) -> None:
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL and len(value) >= 4:
                drops = struct.unpack_from("=I", value)[0]
                if drops > self._kernel_drops:
                    lost = drops - self._kernel_drops
                    metrics.input_dropped.labels(self.settings.name, "socket").inc(lost)
                    _log.warning("datagrams_lost", input=self.settings.name, count=lost)
                    self._kernel_drops = drops


def _udp_socket(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        if sys.platform == "linux":
            made.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
