"""A sink in memory that keeps what it is given, can be held up, and remembers positions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from correlator.ingest.raw import RawMessage
from correlator.inputs import FilePosition, Reading


class Kept:
    """messages in the order kept; `hold()` makes it wait as a full disk would, `free()` ends that."""

    def __init__(self) -> None:
        self.messages: list[RawMessage] = []
        self.positions: dict[tuple[str, str], FilePosition] = {}
        self.open: dict[tuple[str, str], Reading] = {}
        self.readings: list[Reading] = []
        self.keys: list[str] = []
        self._free = asyncio.Event()
        self._free.set()
        self._why = ""

    async def keep(self, messages: Sequence[RawMessage], reading: Reading | None = None, key: str = "") -> None:
        await self._free.wait()
        self.keys.append(key)
        self.messages += messages
        if reading is not None:
            self.readings.append(reading)
            self.positions[reading.input, reading.path] = reading.after

    def congestion(self) -> str:
        return self._why

    def hold(self, why: str = "the disk is full") -> None:
        self._why = why
        self._free.clear()

    def free(self) -> None:
        self._why = ""
        self._free.set()

    def position(self, input: str, path: str) -> FilePosition | None:
        return self.positions.get((input, path))

    def pending(self, input: str, path: str) -> Reading | None:
        return self.open.get((input, path))

    @property
    def payloads(self) -> list[bytes]:
        return [one.message.payload for one in self.messages]


async def until(condition, seconds: float = 10.0) -> None:
    """Waits until a condition holds; fails when it does not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)
