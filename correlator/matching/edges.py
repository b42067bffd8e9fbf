"""Makes edges: of messages that repeat a state, only the changes pass.

Many devices send their whole cached state with every report and again on restart, so "contact is
open" proves nothing; "contact was closed and is open now" does. One last value is kept per
(source, kind of thing, thing, attribute).
"""

from __future__ import annotations

from typing import Final

import msgspec

from correlator.events.event import Event

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(tuple[str, int]).decode


class EdgeStage:
    """Last values, and the decision whether an event is a change.

    seeded: retained or first-ever values, which only set the state; unchanged: repetitions.
    """

    def __init__(self) -> None:
        self.last: dict[tuple[str, str, str, str], tuple[str, int]] = {}
        self.seeded = 0
        self.unchanged = 0
        self.dirty: set[str] | None = None

    def passes(self, event: Event) -> Event | None:
        """The event if it is news, marked `first_seen` if it is a first alarm; None if it only seeds."""
        state = event.state
        if state is None:
            if event.retained:  # replay on subscribe of something that is no state: old news
                self.seeded += 1
                return None
            return event
        key = (event.source, state.kind, state.id, state.attribute)
        known = self.last.get(key)
        time_ms = event.time_ms
        if event.late_ms and known is not None and time_ms < known[1]:
            # It cannot say what is true now; what it says happened all the same.
            return None if event.retained else event
        if known is not None and known[0] == state.value:
            self.unchanged += 1
            return None
        self.last[key] = (state.value, time_ms)
        if self.dirty is not None:
            self.dirty.add("\x1f".join(key))
        if event.retained:
            self.seeded += 1
            return None
        if known is None:
            if state.alarm:
                return msgspec.structs.replace(event, first_seen=True)
            self.seeded += 1
            return None
        return event

    def entry(self, key: str) -> bytes | None:
        """State entry of a key: (value, time ms)."""
        source, kind, thing, attribute = key.split("\x1f")
        known = self.last.get((source, kind, thing, attribute))
        return None if known is None else _pack(known)

    def entry_keys(self) -> list[str]:
        """Keys of all state entries."""
        return ["\x1f".join(key) for key in self.last]

    def restore_entry(self, key: str, value: bytes) -> None:
        """Takes one entry back in."""
        source, kind, thing, attribute = key.split("\x1f")
        self.last[(source, kind, thing, attribute)] = _unpack(value)
