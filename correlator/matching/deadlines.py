"""Where time stands and what falls due when: a heap of what is near, buckets of ends that are far.

Most ends of episodes move on before they come, so they wait in buckets of some seconds without an
order, and only those whose bucket is reached are looked at and put in order.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Final, final

from correlator.matching.state import SHIFT, Episode

CLOSE: Final = 0
ANCHOR: Final = 1
WINDOW_END: Final = 2

ENDS_LAST: Final = 1 << 40  # added to the serial of an episode's end
BUCKET: Final = 12  # a bucket is 1 << 12 ms
NEVER: Final = 1 << 62


@final
class Deadlines:
    """Deadlines of one instant fall in the order of their making; ends of episodes after all others, since
    what is decided at that instant can still prolong them.

    near     (due ms, serial, CLOSE | ANCHOR | WINDOW_END, what), a heap
    far      number of a bucket -> episodes that end no earlier; far_at is the heap of these numbers
    reached  the last bucket that was taken out; what falls into it or before is near
    due_ms   nothing falls due before this time
    now_ms, now_n  the last position
    """

    def __init__(self) -> None:
        self.near: list[tuple[int, int, int, Any]] = []
        self.far: dict[int, list[Episode]] = {}
        self.far_at: list[int] = []
        self.reached = -1
        self.serial = 0
        self.due_ms = NEVER
        self.now_ms = -1
        self.now_n = 0

    def position(self, t_ms: int) -> int:
        """The next position at a time; times never go back."""
        if t_ms != self.now_ms:
            self.now_ms = t_ms
            self.now_n = 0
        else:
            self.now_n += 1
        return (t_ms << SHIFT) | self.now_n

    def settle(self) -> None:
        """Finds `due_ms` anew after some have fallen."""
        due_ms = self.near[0][0] if self.near else NEVER
        if self.far_at:
            due_ms = min(due_ms, self.far_at[0] << BUCKET)
        self.due_ms = due_ms

    def arm(self, due_ms: int, kind: int, what: Any) -> int:
        """Makes a deadline (ANCHOR, WINDOW_END); gives its serial."""
        self.serial += 1
        self.put(due_ms, self.serial, kind, what)
        return self.serial

    def put(self, due_ms: int, serial: int, kind: int, what: Any) -> None:
        """Puts a deadline (ANCHOR, WINDOW_END) with a serial of its own."""
        heappush(self.near, (due_ms, serial, kind, what))
        if due_ms < self.due_ms:
            self.due_ms = due_ms

    def arm_end(self, due_ms: int, episode: Episode) -> None:
        """Makes the deadline of an episode's end."""
        self.serial += 1
        episode.serial = self.serial + ENDS_LAST
        self.put_end(due_ms, episode)

    def put_end(self, due_ms: int, episode: Episode) -> None:
        """Looks for an episode's end at this time, and no more at any other."""
        episode.due_ms = due_ms
        bucket = due_ms >> BUCKET
        if bucket <= self.reached:
            heappush(self.near, (due_ms, episode.serial, CLOSE, episode))
            if due_ms < self.due_ms:
                self.due_ms = due_ms
            return
        waiting = self.far.get(bucket)
        if waiting is None:
            self.far[bucket] = [episode]
            heappush(self.far_at, bucket)
            if bucket << BUCKET < self.due_ms:
                self.due_ms = bucket << BUCKET
        else:
            waiting.append(episode)

    def reach(self, before_ms: int) -> list[Episode]:
        """The next bucket of episodes if it begins before a time and before all that is near, else nothing."""
        if not self.far_at:
            return NOTHING
        bucket = self.far_at[0]
        begins_ms = bucket << BUCKET
        if begins_ms >= before_ms or (self.near and self.near[0][0] < begins_ms):
            return NOTHING
        heappop(self.far_at)
        self.reached = bucket
        return self.far.pop(bucket)


NOTHING: Final[list[Episode]] = []
