"""Serves the application: TLS and HTTP/2 by Granian, since browsers open six streams a host on HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from correlator.console.hub import Hub
from correlator.errors import UsageError
from correlator.ingest.logs import Log

_log = Log("console")


def serve(app: Any, hub: Hub, host: str, port: int, certificate: Path | None = None, key: Path | None = None) -> None:
    """Serves until SIGINT or SIGTERM; open streams end first, so that it stops at once.

    Raises UsageError where the port is taken.
    """
    _probe(host, port)
    asyncio.run(_serve(app, hub, host, port, certificate, key))


async def _serve(app: Any, hub: Hub, host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    server = Server(
        app, address=host, port=port, interface=Interfaces.ASGI, http=HTTPModes.auto, ssl_cert=certificate,
        ssl_key=key, log_enabled=False,
    )  # fmt: skip

    def end() -> None:
        hub.end()
        server.stop()  # type: ignore[no-untyped-call]

    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(server.serve())
    await asyncio.sleep(0)
    _log.info("ready", host=host, port=port)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _probe(host: str, port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"{host}:{port} cannot be listened on: {error.strerror}; --port or console.port"
            ) from error
