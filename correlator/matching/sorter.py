"""Puts events into total order before anything decides about them.

An event waits until the watermark has passed it: the smallest receive time that the site's inputs
have promised, minus the lateness. Lateness is a property of the event (its receive time minus its
own), never of how the log was packed or ticked, so equal logs give equal marks.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final

import msgspec

from correlator.events.event import Event
from correlator.events.ids import repeated_id
from correlator.matching.state import to_write

TOTAL_ORDER = attrgetter("time_ms", "sub_ns", "source", "seq", "id")

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack_waiting: Final = msgspec.msgpack.Decoder(list[tuple[int, list[Event]]]).decode
_unpack_seen: Final = msgspec.msgpack.Decoder(list[tuple[str, int, int]]).decode

BLOCK_MS: Final = 250  # waiting events and remembered ids are written by blocks of so much time


class Sorter:
    """Buckets of one millisecond, sorted when the watermark passes them.

    Drops what a source sent again (`Event.dedupe`) and numbers events that are equal in everything their id
    is made of; ids are remembered for `dup_window_ms` of event time (0: nothing is dropped or numbered, for
    logs whose ids are unique by construction).
    """

    def __init__(self, lateness_ms: int, max_late_ms: int, dup_window_ms: int) -> None:
        self.lateness_ms = lateness_ms
        self.max_late_ms = max_late_ms
        self.dup_window_ms = dup_window_ms
        self.buckets: dict[int, list[Event]] = {}
        self.times: list[int] = []
        # id -> (order time, count); `seen_at` says by blocks of time when each may be forgotten.
        self.seen: dict[str, tuple[int, int]] = {}
        self.seen_at: dict[int, list[str]] = {}
        self.seen_blocks: deque[int] = deque()  # its keys, ascending, as order times leave
        self.forget_at_ms = 0
        self.released_ms = -1  # every bucket below has left
        self.waiting = 0
        self.duplicates = 0
        self.numbered = 0
        self.late = 0
        self.too_late = 0
        self.clock_regress = 0
        # Blocks of time to which something waiting was added and whose ids changed; None: not tracked.
        self.dirty: tuple[set[int], set[int]] | None = None
        self.written: tuple[set[int], set[int]] = (set(), set())  # blocks that are in the written state
        self.written_to_ms = -1  # released_ms when it was written

    def add(self, event: Event) -> bool:
        """Takes an event in; False if it is older than `max_late_ms` (a reject)."""
        order = event.time_ms
        late_ms = event.received_ms - self.lateness_ms - order
        if late_ms > 0:
            if late_ms > self.max_late_ms:
                self.too_late += 1
                return False
            self.late += 1
            order += late_ms
            event = msgspec.structs.replace(event, late_ms=late_ms)
        if order < self.released_ms:
            # An input whose receive times ran backwards: folded now, after what has left.
            self.clock_regress += 1
            order = self.released_ms
        bucket = self.buckets.get(order)
        if bucket is None:
            self.buckets[order] = [event]
            heappush(self.times, order)
        else:
            bucket.append(event)
        self.waiting += 1
        if self.dirty is not None:
            self.dirty[0].add(order // BLOCK_MS)
        return True

    def next_ms(self) -> int:
        """Order time of the earliest waiting bucket, -1 if nothing waits."""
        return self.times[0] if self.times else -1

    def pop(self) -> list[Event]:
        """The earliest bucket in total order, without repeated deliveries. Call only if one waits."""
        order = heappop(self.times)
        self.released_ms = order
        bucket = self.buckets.pop(order)
        self.waiting -= len(bucket)
        if len(bucket) > 1:
            bucket.sort(key=TOTAL_ORDER)
        if self.dup_window_ms:
            return self._without_repeats(bucket, order)
        return bucket

    def _without_repeats(self, bucket: list[Event], order: int) -> list[Event]:
        seen = self.seen
        if order >= self.forget_at_ms:
            self._forget(order)
        block = order // BLOCK_MS
        if block in self.seen_at:
            remembered = self.seen_at[block]
        else:
            remembered = self.seen_at[block] = []
            self.seen_blocks.append(block)
        if self.dirty is not None:
            self.dirty[1].add(block)
        oldest = order - self.dup_window_ms
        kept = bucket
        for place, event in enumerate(bucket):
            last = seen.get(event.id)
            if last is None:
                seen[event.id] = (order, 1)
                remembered.append(event.id)
                if kept is not bucket:
                    kept.append(event)
                continue
            if kept is bucket:
                kept = bucket[:place]
            if self.dirty is not None:
                self.dirty[1].add(last[0] // BLOCK_MS)  # it is no longer told there
            # An equal event is a repetition only for a while.
            count = 1 if last[0] < oldest else last[1] + 1
            repeats = count > 1 and event.dedupe
            seen[event.id] = (order, count - repeats)  # what is dropped takes no number from the next one
            remembered.append(event.id)
            if repeats:
                self.duplicates += 1
                continue
            if count > 1:
                self.numbered += 1
                event = msgspec.structs.replace(event, id=repeated_id(event.id, count))
            kept.append(event)
        return kept

    def _forget(self, order: int) -> None:
        """Drops ids older than the window, the oldest first; runs once per half window."""
        oldest = order - self.dup_window_ms
        seen, blocks = self.seen, self.seen_blocks
        while blocks and (blocks[0] + 1) * BLOCK_MS <= oldest:
            block = blocks.popleft()
            for key in self.seen_at.pop(block):
                last = seen.get(key)
                if last is not None and last[0] // BLOCK_MS == block:
                    del seen[key]
            if self.dirty is not None:
                if block in self.written[1]:
                    self.dirty[1].add(block)
                else:
                    self.dirty[1].discard(block)  # it came and went: nothing to write
        self.forget_at_ms = order + self.dup_window_ms // 2

    # ---- state ---------------------------------------------------------------------------------

    def track(self) -> None:
        """Starts to note what changes."""
        self.dirty = (set(), set())

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Entries changed since the last call; None deletes one that was written."""
        assert self.dirty is not None
        added, remembered = self.dirty
        waiting = {order // BLOCK_MS for order in self.buckets}
        # Events leave in order of time: whole blocks of them, and part of the one that the last to leave was in.
        left = self.written[0] - waiting
        if self.released_ms != self.written_to_ms:
            left |= self.written[0] & {self.released_ms // BLOCK_MS}
            self.written_to_ms = self.released_ms
        found: list[tuple[str, bytes | None]] = []
        for what, blocks, there, written in (
            ("wait", (added & waiting) | left, waiting, self.written[0]),
            ("seen", remembered, self.seen_at, self.written[1]),
        ):
            changed = [(block, self._entry(what, block) if block in there else None) for block in blocks]
            found += [(f"{what}/{block}", value) for block, value in to_write(written, changed)]
        added.clear()
        remembered.clear()
        return found

    def entries(self) -> list[tuple[str, bytes]]:
        """All entries."""
        keys = [("wait", block) for block in {order // BLOCK_MS for order in self.buckets}]
        keys += [("seen", block) for block in self.seen_at]
        found = ((f"{what}/{block}", self._entry(what, block)) for what, block in keys)
        return [(key, value) for key, value in found if value is not None]

    def _entry(self, what: str, block: int) -> bytes | None:
        """What waits in a block of time, [order, events]; or what was seen in it, [id, order, count]."""
        if what == "wait":
            buckets = self.buckets
            first = block * BLOCK_MS
            waiting = [(order, buckets[order]) for order in range(first, first + BLOCK_MS) if order in buckets]
            return _pack([(order, sorted(bucket, key=TOTAL_ORDER)) for order, bucket in waiting]) if waiting else None
        seen = self.seen
        # An id that was seen again later is told there: one id, one place.
        told = {
            one: seen[one] for one in self.seen_at.get(block, ()) if one in seen and seen[one][0] // BLOCK_MS == block
        }
        return _pack([(one, order, count) for one, (order, count) in sorted(told.items())]) if told else None

    def restore_entry(self, key: str, value: bytes) -> None:
        """Takes one entry back in."""
        what, _, text = key.partition("/")
        block = int(text)
        self.written[what == "seen"].add(block)
        if what == "wait":
            for order, events in _unpack_waiting(value):
                self.buckets[order] = events
                heappush(self.times, order)
                self.waiting += len(events)
        else:
            told = _unpack_seen(value)
            if block not in self.seen_at:
                insort(self.seen_blocks, block)
            self.seen_at[block] = [one for one, _, _ in told]
            for one, order, count in told:
                self.seen[one] = (order, count)
