"""All receivers of one process on one event loop, whatever their sink."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from correlator.inputs.files import FileFollower
from correlator.inputs.http import HttpListener
from correlator.inputs.positions import Positions
from correlator.inputs.settings import InputsSettings
from correlator.inputs.sink import Sink
from correlator.inputs.syslog import SyslogListener

_LOOK_S = 0.05


class Receivers:
    """Starts and stops what the settings list. positions: where those of followed files are found."""

    def __init__(self, settings: InputsSettings, site: str, sink: Sink, positions: Positions) -> None:
        self._sink = sink
        self._files = [FileFollower(one, site, sink, positions) for one in settings.files]
        self._syslog = {one.name: SyslogListener(one, site, sink) for one in settings.syslog}
        self._http: HttpListener | None = None
        if settings.http:
            self._http = HttpListener(
                settings.http_server, settings.http, site, sink, trust_sender_time=settings.trust_sender_time
            )

    def waiting_since_ms(self, name: str) -> int:
        """Receive time of an input's oldest message that was not handed to the sink yet; -1 if there is none."""
        listener = self._syslog.get(name)
        return -1 if listener is None else listener.waiting_since_ms()

    async def run(self, stopped: Callable[[], bool], ready: Callable[[], None]) -> None:
        """Binds all addresses, calls `ready`, and works until `stopped` says so.

        Raises UsageError, and whatever ends a receiver.
        """
        try:
            for listener in self._syslog.values():
                await listener.start()
            if self._http is not None:
                await self._http.start()
            ready()
            working = [asyncio.ensure_future(one.run()) for one in self._files]
            working += [asyncio.ensure_future(one.run()) for one in self._syslog.values()]
            try:
                while not stopped():
                    for one in working:
                        if one.done():
                            one.result()
                    await asyncio.sleep(_LOOK_S)
            finally:
                for one in working:
                    one.cancel()
                await asyncio.gather(*working, return_exceptions=True)
        finally:
            await self._close()

    async def _close(self) -> None:
        closing = [asyncio.ensure_future(one.close()) for one in self._syslog.values()]
        if self._http is not None:
            closing.append(asyncio.ensure_future(self._http.close()))
        # What cannot be kept now comes again from whoever waits for its acknowledgement.
        patience_s = 0.1 if self._sink.congestion() else 10.0
        if closing:
            await asyncio.wait(closing, timeout=patience_s)
        for follower in self._files:
            follower.close()
