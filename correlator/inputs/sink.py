"""Where receivers put what they receive, and the one place where a receive time is stamped.

The contract between a receiver and a sink:

- `keep` returns when every message is kept for good (a committed transaction, an acknowledgement by
  the broker). Until then the receiver acknowledges nothing and reads nothing more of that input.
- While nothing can be kept (full disk, broker away) `keep` waits and `congestion` says why. Receivers
  that can refuse (HTTP) look at it first.
- The position of a followed file goes along with its lines, so that both are kept or neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from correlator.ingest.raw import RawMessage
from correlator.inputs.positions import Reading

Clock = Callable[[], int]


def now_ms() -> int:
    """The machine's time, ms UTC."""
    return time.time_ns() // 1_000_000


class Sink(Protocol):
    """Keeps raw messages of any number of inputs; messages of one input keep their order."""

    async def keep(self, messages: Sequence[RawMessage], reading: Reading | None = None, key: str = "") -> None:
        """Returns once all messages, and the position of a followed file, are kept for good.

        key: the sender's name for this delivery; one that is kept already is not kept again. Raises
        ValueError for a message that can never be kept (larger than the carrier takes).
        """
        ...

    def congestion(self) -> str:
        """Why nothing can be kept at the moment, in words; "" while all is well."""
        ...


class Stamp:
    """Receive times of one input: the machine's time, never running backwards.

    When the machine's clock is set back, the last time is given until it is reached again, so that an
    input keeps what it promised.
    """

    __slots__ = ("_clock", "_last_ms")

    def __init__(self, clock: Clock = now_ms) -> None:
        self._clock = clock
        self._last_ms = -1

    def __call__(self) -> int:
        """The receive time of what came now, ms UTC."""
        self._last_ms = max(self._last_ms, self._clock())
        return self._last_ms
