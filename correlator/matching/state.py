"""What the matcher keeps: windows, groups and episodes. Hot and plain: slots, ints, lists of ids.

A **position** is the one number that orders everything: `time_ms << 20 | n`, n counting what was
folded in that millisecond (events first, then deadlines). Windows compare positions, so edges are
exact in ms and order inside a millisecond is strict.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Final, TypeVar, final

SHIFT: Final = 20
TIME: Final = -1 << SHIFT  # position & TIME: the start of its millisecond, where windows have their edges


@final
class Window:
    """Entries of one slot of one group, oldest first, in parallel lists.

    pos      positions, to look for one; pairs: (position, id), one pair an event, shared by all its windows
    base     absolute index of the first entry kept (entries before it were pruned)
    last     position of the newest entry, -1 if there never was one
    vals     captured values, or the inner episodes of a chained slot; None where nothing is captured
    newest   value -> absolute index of its newest entry, ordered by recency (distinct counts only)
    again    1 where the entry's value was seen again later
    heads    per distinct-count rule of the slot: absolute index of an entry no later than the first in its
             window, and the number of distinct values from there
    """

    __slots__ = ("again", "base", "heads", "last", "newest", "pairs", "pos", "prune_at", "vals")

    def __init__(self) -> None:
        self.pos: list[int] = []
        self.pairs: list[tuple[int, str]] = []
        self.vals: list[Any] | None = None
        self.base = 0
        self.last = -1
        self.prune_at = 32
        self.newest: dict[str, int] | None = None
        self.again: bytearray | None = None
        self.heads: list[int] | None = None

    @classmethod
    def of_values(cls, rules: int) -> Window:
        """An empty window whose distinct values that many rules count."""
        window = cls()
        window.vals, window.newest, window.again, window.heads = [], {}, bytearray(), [0] * (2 * rules)
        return window

    def drop(self, cut: int) -> None:
        """Forgets the first entries."""
        if self.newest is not None and self.again is not None and self.heads is not None and self.vals is not None:
            heads, again = self.heads, self.again
            for place in range(0, len(heads), 2):
                behind = max(heads[place] - self.base, 0)
                if behind < cut:
                    heads[place + 1] -= again.count(0, behind, cut)
                    heads[place] = self.base + cut
            for place in range(cut):
                if not again[place]:
                    del self.newest[self.vals[place]]
            del again[:cut]
        del self.pos[:cut]
        del self.pairs[:cut]
        if self.vals is not None:
            del self.vals[:cut]
        self.base += cut


@final
class Cell:
    """One group of a keyspace: a window per slot, its open episodes and the extras of a few rules.

    lasts    per slot: position of the newest entry, -1 if there never was one
    dues     per rule decided inline (`Rule.place`): -1 while it has no episode or one with a gap, else a
             position up to which it is known to hold; looked up anew only once that has passed. Where only
             openings are told, minus the position up to which an episode with a gap goes on when it holds again
    born     position of its first event
    touched  position of its last event
    doubled  one event may stand in several windows of a rule
    eps      rule index -> open episode
    extras   rule index -> running metric, pending anchors or consecutive window
    """

    __slots__ = ("born", "doubled", "dues", "eps", "extras", "lasts", "touched", "wins")

    def __init__(self, slots: int, dues: list[int], born: int) -> None:
        self.wins: list[Window | None] = [None] * slots
        self.lasts: list[int] = [-1] * slots
        self.dues = dues  # shared by all groups of the keyspace until the first episode opens
        self.eps: dict[int, Episode] | None = None
        self.extras: dict[int, Any] | None = None
        self.born = born
        self.touched = born
        self.doubled = False


@final
class Episode:
    """A rule's open (or just ended) result for one group.

    hold_ms   last instant at which the condition is known to hold without further events; for the shapes
              decided inline it follows from `floor`, the position of the event whose expiry ends it
    gap       an event came while the condition did not hold: the next one that holds looks back
    due_ms    when its end is looked for next
    last_pos  position up to which events are members

    While an episode of a shape decided inline holds, its floor, last_pos and value follow from the windows
    and are not kept up (`episodes.look`): an event that changes nothing costs nothing.

    from_pos  where the stretch of windows begins whose events are members but not listed yet
    taken     slot index -> position up to which that stretch is listed, where a window was pruned meanwhile
    pos, ids  members, in the order taken; inner: the episodes of inner rules that are members
    span_first_ms, span_last_ms  the windows that decided, for an episode without members
    waiting   outer episodes that have ended and wait for this one's final form
    users     outer windows and episodes that still need this one
    """

    __slots__ = (
        "decided_by", "due_ms", "fields", "floor", "from_pos", "gap", "group", "hold_ms", "id", "ids", "inner",
        "key", "last_pos", "late", "open", "opened_ms", "opened_pos", "pos", "revision", "rule", "serial",
        "span_first_ms", "span_last_ms", "taken", "told", "truncated", "value", "waiting",
    )  # fmt: skip

    def __init__(self, rule: int, key: str, opened_ms: int, opened_pos: int) -> None:
        self.id = ""
        self.rule = rule
        self.key = key
        self.group: dict[str, Any] = {}
        self.opened_ms = opened_ms
        self.opened_pos = opened_pos
        self.decided_by = ""
        self.hold_ms = opened_ms
        self.value: float | int | None = None
        self.pos: list[int] = []
        self.ids: list[str] = []
        self.inner: list[Episode] = NO_EPISODES
        self.last_pos = -1
        self.from_pos = -1
        self.taken: dict[int, int] | None = None
        self.floor = -1
        self.due_ms = -1
        self.gap = False
        self.open = True
        self.late = False
        self.revision = 1
        self.truncated = 0
        self.serial = 0
        self.span_first_ms = opened_ms
        self.span_last_ms = opened_ms
        self.waiting: list[Episode] = NO_EPISODES
        self.fields: dict[str, Any] = self.group
        self.told = False

    def add_inner(self, inner: Episode) -> None:
        """Makes an inner rule's episode a member, once."""
        if self.inner is NO_EPISODES:
            self.inner = [inner]
        elif inner not in self.inner:
            self.inner.append(inner)


# Shared by all episodes that have none; never appended to.
NO_EPISODES: Final[list[Episode]] = []


@final
class Anchor:
    """An event at which the positive part of an absence held, waiting for its deadline."""

    __slots__ = ("due_ms", "fields", "group", "id", "ids", "inner", "members", "pos", "serial", "taken", "value")

    def __init__(self, pos: int, event_id: str, due_ms: int, serial: int) -> None:
        self.pos = pos
        self.id = event_id
        self.due_ms = due_ms
        self.serial = serial
        self.members: list[int] = []
        self.ids: list[str] = []
        self.inner: list[Episode] = []
        self.value = 0
        self.group: dict[str, Any] = {}
        self.fields: dict[str, Any] = {}
        self.taken: list[Any] | None = None


@final
class Tumble:
    """The consecutive window of a rule with an upper bound: entries of the window that ends at `end_ms`."""

    __slots__ = ("end_ms", "fields", "group", "ids", "inner", "last_event_ms", "pos", "serial", "start_ms", "vals")

    def __init__(self, start_ms: int, end_ms: int, serial: int) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.serial = serial
        self.last_event_ms = start_ms
        self.pos: list[int] = []
        self.ids: list[str] = []
        self.vals: list[Any] = []
        self.inner: list[Episode] = []
        self.group: dict[str, Any] = {}
        self.fields: dict[str, Any] = {}


# ---- entries -----------------------------------------------------------------------------------


Key = TypeVar("Key", bound=Hashable)


def to_write(written: set[Key], changed: Iterable[tuple[Key, bytes | None]]) -> list[tuple[Key, bytes | None]]:
    """What of changed entries is to be written, None to delete one. written: keys that stand there, kept true.

    An entry that came and went between two calls is nothing to write.
    """
    found: list[tuple[Key, bytes | None]] = []
    for key, value in changed:
        if value is not None:
            written.add(key)
        elif key in written:
            written.discard(key)
        else:
            continue
        found.append((key, value))
    return found
