"""Keeps the view up to date and tells open pages that something changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from correlator.ingest import metrics
from correlator.journal.feeds import Feed
from correlator.journal.store import JournalAway
from correlator.journal.view import View

POLL_S = 0.1
BEAT_S = 10.0
QUEUE = 16  # changes a slow page may lag behind; then it is dropped and connects again


class Hub:
    """One task reads the feed; every open page has a bounded queue of "changed" numbers."""

    def __init__(self, feed: Feed, view: View) -> None:
        self._feed, self._view = feed, view
        self._pages: set[asyncio.Queue[int]] = set()
        self._moved = asyncio.Condition()
        self._ending = False
        self.number = view.total()  # the id of stream messages: where the view stands, on any replica
        self.away = ""  # why the source does not answer, "" while it does

    async def run(self) -> None:
        """Reads until cancelled."""
        while not self._ending:
            try:
                touched = await asyncio.to_thread(self._feed.poll, self._view, POLL_S)
                self.away = ""
            except JournalAway as error:
                touched, self.away = set(), str(error)
                await asyncio.sleep(1)
            if touched:
                self.changed()
            async with self._moved:
                self._moved.notify_all()
            await asyncio.sleep(0 if touched else POLL_S)

    def changed(self) -> None:
        """Tells all pages."""
        self.number = self._view.total()
        for page in list(self._pages):
            try:
                page.put_nowait(self.number)
            except asyncio.QueueFull:
                self._pages.discard(page)

    async def until(self, held: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until something holds in the view."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._moved:
                while not held():
                    await self._moved.wait()
        return held()

    async def stream(self, after: int, alive: Callable[[], bool]) -> AsyncIterator[str]:
        """Server-sent events (HTML Living Standard, section 9.2): "changed" with its number as id, and a
        "beat" every 10 s, at which `alive` is asked whether the session still holds."""
        page: asyncio.Queue[int] = asyncio.Queue(QUEUE)
        self._pages.add(page)
        metrics.console_streams.inc()
        try:
            yield f"event: beat\nid: {self.number}\ndata: {self.number}\n\n"
            if self.number != after >= 0:  # something came between the page and its stream
                yield f"event: changed\nid: {self.number}\ndata: {self.number}\n\n"
            while not self._ending and page in self._pages:
                try:
                    number = await asyncio.wait_for(page.get(), 1.0 if self._ending else BEAT_S)
                except TimeoutError:
                    if not alive():
                        return
                    yield f"event: beat\nid: {self.number}\ndata: {self.number}\n\n"
                    continue
                while not page.empty():
                    number = page.get_nowait()
                if not alive():
                    return
                yield f"event: changed\nid: {number}\ndata: {number}\n\n"
        finally:
            self._pages.discard(page)
            metrics.console_streams.dec()

    def end(self) -> None:
        """Ends all streams, so that the server can stop."""
        self._ending = True
        for page in list(self._pages):
            with contextlib.suppress(asyncio.QueueFull):
                page.put_nowait(self.number)

    @property
    def pages(self) -> int:
        """Open streams."""
        return len(self._pages)
