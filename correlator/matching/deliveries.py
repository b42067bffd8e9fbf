"""What came before: messages that an MQTT broker gives again, and events that were told on arrival.

A broker gives again what was on its way and not acknowledged when its client went away, however long ago
that was (MQTT 5.0, 4.4): with the DUP flag, the same content and the same packet identifier. `Event.dup_key` stands
for both; where a source names its messages, their name stands for the content. At most `max_inflight_messages` are
on their way at once (docs/bridge.md asks for 1000), so the newest messages of each source are enough, whatever else
the site sends meanwhile. It is asked in the order of the log, in which the copies of a message stand as they were
delivered.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Final

import msgspec

from correlator.events.event import Event
from correlator.matching.state import to_write

KEPT_MESSAGES: Final = 2_000  # a source, in messages: twice what is on its way
KEPT_ALARMS: Final = 1_000  # events told on arrival: single critical ones, of which a site has few
CHUNK: Final = 100  # messages are written and forgotten by so many

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[tuple[str, str]]).decode
_unpack_number: Final = msgspec.msgpack.Decoder(int).decode


class _Given:
    """The newest messages of one source. chunks: number -> {dup_key: the delivery that counted}, oldest first."""

    __slots__ = ("chunk_of", "chunks", "newest")

    def __init__(self) -> None:
        self.chunks: dict[int, dict[str, str]] = {}
        self.chunk_of: dict[str, int] = {}
        self.newest = 0


class Deliveries:
    """Remembers the newest messages of each source; one seen again is among the newest again."""

    def __init__(self) -> None:
        self.sources: dict[str, _Given] = {}
        # (source, chunk) that changed, None: not tracked; and keys that are in the written state.
        self.dirty: set[tuple[str, int]] | None = None
        self.written: set[str] = set()

    def again(self, event: Event) -> bool:
        """Whether the event's message is one that counted before, given again. Takes the message in.

        The events of one delivery are told from those of the next by where the message lies (`raw`).
        """
        given = self.sources.get(event.source)
        if given is None:
            given = self.sources[event.source] = _Given()
        key, raw = event.dup_key, event.raw
        chunk = given.chunk_of.get(key)
        if chunk is not None:
            counted = given.chunks[chunk][key]
            if counted == raw:
                return False  # a further event of that delivery
            if event.mqtt_dup:
                self._remember(given, event.source, key, counted)
                return True
        self._remember(given, event.source, key, raw)
        return False

    def _remember(self, given: _Given, source: str, key: str, raw: str) -> None:
        chunks, dirty = given.chunks, self.dirty
        newest = given.newest
        chunk = given.chunk_of.get(key)
        if chunk is not None and chunk != newest:
            del chunks[chunk][key]
            if not chunks[chunk]:
                del chunks[chunk]
            if dirty is not None:
                dirty.add((source, chunk))
        there = chunks.get(newest)
        if there is None:
            there = chunks[newest] = {}
        elif len(there) >= CHUNK and key not in there:
            newest = given.newest = newest + 1
            there = chunks[newest] = {}
            oldest = next(iter(chunks))
            if len(given.chunk_of) - len(chunks[oldest]) >= KEPT_MESSAGES:
                for one in chunks.pop(oldest):
                    del given.chunk_of[one]
                if dirty is not None:
                    dirty.add((source, oldest))
        there[key] = raw
        given.chunk_of[key] = newest
        if dirty is not None:
            dirty.add((source, newest))

    # ---- state ---------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Entries changed since the last call; None deletes one that was written."""
        assert self.dirty is not None
        there = ((f"given/{chunk}/{source}", self.sources[source].chunks.get(chunk)) for source, chunk in self.dirty)
        found = to_write(self.written, ((key, None if one is None else _pack(list(one.items()))) for key, one in there))
        self.dirty.clear()
        return found

    def entries(self) -> list[tuple[str, bytes]]:
        """All entries: "given/<chunk>/<source>" -> [dup_key, delivery that counted]."""
        return [
            (f"given/{chunk}/{source}", _pack(list(there.items())))
            for source, given in self.sources.items()
            for chunk, there in given.chunks.items()
        ]

    def restore_entry(self, key: str, value: bytes) -> None:
        """Takes one entry back in, in any order of chunks."""
        _, number, source = key.split("/", 2)
        self.written.add(key)
        given = self.sources.setdefault(source, _Given())
        chunk = int(number)
        later = chunk < given.newest
        given.chunks[chunk] = dict(_unpack(value))
        given.chunk_of.update(dict.fromkeys(given.chunks[chunk], chunk))
        given.newest = max(given.newest, chunk)
        if later:
            given.chunks = dict(sorted(given.chunks.items()))


class Newest:
    """The newest `bound` ids; an older one is as good as new."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.numbers: dict[str, int] = {}
        self.dirty: set[str] | None = None  # ids that came or went; None: not tracked
        self.written: set[str] = set()
        self._next = 0

    def add(self, one: str) -> bool:
        """Takes an id in; False if it is among them already."""
        numbers = self.numbers
        if one in numbers:
            return False
        numbers[one] = self._next
        self._next += 1
        gone = next(iter(numbers)) if len(numbers) > self.bound else ""
        if gone:
            del numbers[gone]
        if self.dirty is not None:
            self.dirty.update((one, gone) if gone else (one,))
        return True

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Entries changed since the last call; None deletes one that was written."""
        assert self.dirty is not None
        there = ((f"alarm/{one}", self.numbers.get(one)) for one in self.dirty)
        found = to_write(self.written, ((key, None if number is None else _pack(number)) for key, number in there))
        self.dirty.clear()
        return found

    def entries(self) -> list[tuple[str, bytes]]:
        """All entries: "alarm/<id>" -> its number."""
        return [(f"alarm/{one}", _pack(number)) for one, number in self.numbers.items()]

    def restore_entry(self, key: str, value: bytes) -> None:
        """Takes one entry back in, in any order."""
        number = _unpack_number(value)
        self.written.add(key)
        self.numbers[key.partition("/")[2]] = number
        if number < self._next:
            self.numbers = dict(sorted(self.numbers.items(), key=itemgetter(1)))
        self._next = max(self._next, number + 1)
