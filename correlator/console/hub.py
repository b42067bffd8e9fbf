"""Keeps view, board and facts up to date and tells open pages that something changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from correlator.console.board import Board
from correlator.console.facts import Facts, FactsFeed
from correlator.ingest import metrics
from correlator.journal.feeds import Feed
from correlator.journal.store import JournalAway
from correlator.journal.view import View

POLL_S: Final = 0.1
FACTS_S: Final = 1.0  # how things stand in the building may be a second old
BEAT_S: Final = 10.0
CALM_S: Final = 0.5  # a page is told at most twice a second: each time it asks for its list again
QUEUE: Final = 64  # changes a slow page may lag behind; then it is dropped and connects again
TRIM_S: Final = 3_600.0


class Hub:
    """Two tasks read the feeds; every open page has a bounded queue of "changed" numbers.

    keep_ms: how long view and facts keep what is over, 0: for ever.
    """

    def __init__(
        self, feed: Feed, view: View, board: Board, facts: Facts, facts_feed: FactsFeed | None = None, keep_ms: int = 0
    ) -> None:
        self._feed, self._view, self._keep_ms = feed, view, keep_ms
        self._trim_s = time.monotonic() + TRIM_S
        self.board, self.facts, self.facts_feed = board, facts, facts_feed
        self._pages: dict[asyncio.Queue[int], str] = {}  # of which threat a page tells, "" for all
        self._moved = asyncio.Condition()
        self._ending = False
        self.number = view.total()  # the id of stream messages: where the view stands, on any replica
        self.away = ""  # why the source does not answer, "" while it does
        self.facts_away = ""
        self.caught_up = False

    async def run(self) -> None:
        """Reads until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            if self.facts_feed is not None:
                tasks.create_task(self._look_around(self.facts_feed))

    async def _read(self) -> None:
        while not self._ending:
            try:
                touched = await asyncio.to_thread(self._poll)
                self.away = ""
                self.caught_up = self.caught_up or self._feed.caught_up()
            except JournalAway as error:
                touched, self.away = set(), str(error)
                await asyncio.sleep(1)
            if touched:
                self.changed(touched)
            async with self._moved:
                self._moved.notify_all()
            await asyncio.sleep(0 if touched else POLL_S)

    def _poll(self) -> set[str]:
        touched = self._feed.poll(self._view, POLL_S)
        if touched:
            self.board.refresh(touched)
        if self._keep_ms and self.caught_up and time.monotonic() > self._trim_s:
            self._trim_s = time.monotonic() + TRIM_S
            metrics.trimmed("console", self._view.trim(self.facts.now_ms() - self._keep_ms))
        return touched

    async def _look_around(self, feed: FactsFeed) -> None:
        trim_s = time.monotonic() + TRIM_S
        while not self._ending:
            try:
                changed = await asyncio.to_thread(feed.poll, self.facts)
                self.facts_away = ""
            except Exception as error:  # noqa: BLE001 - whatever it is, the list goes on without the facts
                changed, self.facts_away = False, f"{type(error).__name__}: {error}"
            if changed:
                self.changed(())
            if time.monotonic() > trim_s:
                trim_s = time.monotonic() + TRIM_S
                before_ms = self.facts.now_ms() - self._keep_ms if self._keep_ms else 0
                metrics.trimmed("console", await asyncio.to_thread(self.facts.trim, before_ms))
            await asyncio.sleep(FACTS_S)

    def changed(self, touched: Iterable[str]) -> None:
        """Tells the pages: those of all threats, and those of one that is among these."""
        self.number = self._view.total()
        named = set(touched)
        for page, threat in list(self._pages.items()):
            if threat and threat not in named:
                continue
            try:
                page.put_nowait(self.number)
            except asyncio.QueueFull:
                self._pages.pop(page, None)

    async def until(self, held: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until something holds in the view."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._moved:
                while not held():
                    await self._moved.wait()
        return held()

    async def stream(self, after: int, alive: Callable[[], bool], threat: str = "") -> AsyncIterator[str]:
        """Server-sent events (HTML Living Standard, section 9.2): "changed" with its number as id, and a
        "beat" every 10 s, at which `alive` is asked whether the session still holds. threat: of this one only."""
        page: asyncio.Queue[int] = asyncio.Queue(QUEUE)
        self._pages[page] = threat
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
                await asyncio.sleep(CALM_S)
        finally:
            self._pages.pop(page, None)
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
