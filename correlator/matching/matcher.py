"""Folds events, in total order, into matches: windows, episodes and deadlines.

Nothing here knows about arrival, batches or clocks: `fold` is called with one event after the other
in total order, `advance` says that time has passed. The four common shapes (count, distinct count,
all present, ordered) are decided inline on shared windows; every other rule goes through
`correlator.matching.shapes`. What each decision means is docs/rules.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import islice, product
from typing import Any, Final, final

from correlator.events.event import Event
from correlator.events.ids import match_id
from correlator.events.threat import Match
from correlator.matching.plan import Feed, Keyspace, Plan, Rule, Slot
from correlator.matching.records import EngineSettings
from correlator.matching.shapes import Chosen, Metric, holds_chain, holds_count, holds_distinct, holds_presence
from correlator.matching.state import NO_EPISODES, SHIFT, TIME, Anchor, Cell, Episode, Tumble, Window
from correlator.rules.fields import MISSING, keys_of

CLOSE: Final = 0
ANCHOR: Final = 1
WINDOW_END: Final = 2

SWEEP_EVERY_MS: Final = 60_000  # at least this long between two looks for groups that nothing needs any more

ENDS_LAST: Final = 1 << 40
JOIN: Final = "\x1f"


@final
class Matcher:
    """Rule matching of one site. `out` collects matches in the order they are decided."""

    def __init__(self, site: str, plan: Plan, settings: EngineSettings) -> None:
        self.site = site
        self.plan = plan
        self.settings = settings
        self.out: list[Match] = []
        self.timers: list[tuple[int, int, int, Any]] = []
        self.serial = 0
        self.now_ms = -1
        self.now_n = 0
        self.started = False
        self.ending = False
        self.inner: list[tuple[Rule, Episode]] = []
        self.later: list[tuple[Rule, Cell, str, int, int, str, Event]] = []
        self.dropped_window_events = 0
        self.dirty_cells: set[tuple[int, str]] | None = None
        self.max_members = settings.max_members
        self.tell_open = settings.tell_open

    # ---- time ----------------------------------------------------------------------------------

    def _position(self, t_ms: int) -> int:
        """The next position at a time; times never go back."""
        if t_ms != self.now_ms:
            self.now_ms = t_ms
            self.now_n = 0
        else:
            self.now_n += 1
        return (t_ms << SHIFT) | self.now_n

    def advance(self, before_ms: int) -> None:
        """Decides all deadlines that lie before a time, in order."""
        timers = self.timers
        while timers and timers[0][0] < before_ms:
            due_ms, serial, kind, what = heappop(timers)
            if kind == CLOSE:
                self._close_due(what, due_ms, serial)
            elif kind == ANCHOR:
                self._anchor_due(what, due_ms)
            else:
                self._window_end(what, due_ms)
            if self.inner:
                self._drain(due_ms)

    def next_deadline_ms(self) -> int:
        """When the next deadline falls, -1 if there is none."""
        return self.timers[0][0] if self.timers else -1

    def end_of_input(self) -> None:
        """Decides every pending deadline once, as if nothing more came (docs/rules.md, open_at_end)."""
        self.ending = True
        self.advance(1 << 62)

    def _arm(self, due_ms: int, kind: int, what: Any) -> int:
        """Deadlines of one instant fall in the order of their making; ends of episodes after all others,
        since what is decided at that instant can still prolong them."""
        self.serial += 1
        serial = self.serial + ENDS_LAST if kind == CLOSE else self.serial
        heappush(self.timers, (due_ms, serial, kind, what))
        return serial

    # ---- events --------------------------------------------------------------------------------

    def fold(self, event: Event, t_ms: int) -> list[int]:
        """Folds one event at its place in the order; returns the numbers of the detections it hits.

        t_ms is the event's time, or for a late event the time at which it is folded. All deadlines
        before t_ms must have been decided.
        """
        plan = self.plan
        if not self.started:
            self._start(t_ms)
        hits = plan.index.hits(event)
        if not hits:
            return hits
        position = self._position(t_ms)
        late = event.late_ms > 0
        standalone = plan.standalone
        for number in hits:
            if standalone[number]:
                self.out.append(self.single(number, event))
            if late:
                continue
            producer = plan.producers[number]
            for feed in producer.feeds:
                accessors = feed.accessors
                if len(accessors) == 1:
                    value = accessors[0].get(event)
                    if type(value) is str:
                        if value:
                            self._enter(feed, value, t_ms, position, event.id, event, None)
                    elif value is not MISSING:
                        for key in keys_of(value):
                            self._enter(feed, key, t_ms, position, event.id, event, None)
                elif not accessors:
                    self._enter(feed, "", t_ms, position, event.id, event, None)
                else:
                    for key in _joint_keys([accessor.get(event) for accessor in accessors]):
                        self._enter(feed, key, t_ms, position, event.id, event, None)
        if self.later:
            self._look_later()
        if self.inner:
            self._drain(t_ms)
        return hits

    def _look_later(self) -> None:
        """Conditions between events, once per rule and group after all windows have the event."""
        later, self.later = self.later, []
        for rule, cell, key, t_ms, position, event_id, source in later:
            chosen = holds_presence(rule, cell, position)
            self._found(rule, cell, key, t_ms, position, event_id, source, chosen)

    def single(self, number: int, event: Event, early: bool = False) -> Match:
        """The match of a detection that stands alone: one episode an event."""
        head = self.plan.detections[number].head
        return Match(
            id=match_id(self.site, head.key, (), event.id, event.time_ms),
            site=self.site,
            rule=head.key,
            title=head.title,
            level=head.level,
            first_ms=event.time_ms,
            last_ms=event.time_ms,
            opened_ms=event.time_ms,
            decided_by=event.id,
            events=(event.id,),
            state="final",
            early=early,
            late=event.late_ms > 0,
            threat_type=head.threat_type,
            asset=head.asset,
            tags=head.tags,
        )

    def _start(self, t_ms: int) -> None:
        """Rules without group-by and with an upper bound count from the first event of all."""
        self.started = True
        for rule in self.plan.global_rules:
            cell = self._cell(rule.keyspace, "", t_ms << SHIFT)
            if cell is not None:
                self._open_window(rule, "", cell, t_ms, t_ms)
                if self.dirty_cells is not None:
                    self.dirty_cells.add((rule.keyspace.index, ""))

    def _drain(self, t_ms: int) -> None:
        """Hands decided inner matches to the rules that refer to them, inner rules first."""
        queue = self.inner
        while queue:
            best = 0
            for place in range(1, len(queue)):
                if queue[place][0].index < queue[best][0].index:
                    best = place
            rule, episode = queue.pop(best)
            producer = rule.producer
            assert producer is not None
            position = (self.now_ms << SHIFT) | self.now_n
            # For the rules above, an inner match is an event that has its fields and happens now.
            source = Event(
                id=episode.id, site=self.site, source="", dialect="", kind="", time_ms=t_ms, received_ms=t_ms,
                attributes=episode.fields,
            )  # fmt: skip
            for feed in producer.feeds:
                keys = _joint_keys([accessor.get(source) for accessor in feed.accessors]) if feed.accessors else ("",)
                for key in keys:
                    self._enter(feed, key, t_ms, position, episode.id, source, episode)
            if self.later:
                self._look_later()

    def _cell(self, keyspace: Keyspace, key: str, position: int) -> Cell | None:
        """The group's cell, made if need be; None if the keyspace is full and the group is refused."""
        cells = keyspace.cells
        cell = cells.get(key)
        if cell is None:
            if not self._admits(keyspace, position >> SHIFT):
                return None
            cell = Cell(len(keyspace.slots), position)
            cells[key] = cell
        elif type(cell) is tuple:
            slot, first, event_id = cell
            window = Window()
            window.pos.append(first)
            window.ids.append(event_id)
            window.last = first
            cell = Cell(len(keyspace.slots), first)
            cell.wins[slot] = window
            cell.lasts[slot] = first
            cells[key] = cell
        return cell

    def _admits(self, keyspace: Keyspace, t_ms: int) -> bool:
        """Whether there is room for a new group.

        A full keyspace drops its youngest group if that has a single event: a flood of keys displaces itself.
        """
        if t_ms >= keyspace.sweep_at_ms:
            self._sweep(keyspace, t_ms)
        if len(keyspace.cells) < self.settings.max_groups:
            return True
        key, cell = keyspace.cells.popitem()
        if type(cell) is tuple:
            keyspace.dropped += 1
            if self.dirty_cells is not None:
                self.dirty_cells.add((keyspace.index, key))
            return True
        keyspace.cells[key] = cell
        keyspace.refused += 1
        return False

    def _enter(
        self, feed: Feed, key: str, t_ms: int, position: int, event_id: str, source: Event, inner: Episode | None
    ) -> None:
        """One producer's result reaches one group: into the windows, then the rules that read them."""
        keyspace = feed.keyspace
        cell = keyspace.cells.get(key)
        if self.dirty_cells is not None:
            self.dirty_cells.add((keyspace.index, key))
        if type(cell) is not Cell:
            if cell is None and feed.lean:
                if self._admits(keyspace, t_ms):
                    keyspace.cells[key] = (feed.slots[0].index, position, event_id)
                return
            cell = self._cell(keyspace, key, position)
            if cell is None:
                return
        cell.touched = position
        for slot in feed.slots:
            if slot.capture:
                if slot.general:
                    rule = slot.general[0]
                    if rule.shape == "metric":
                        self._metric(rule, slot, cell, key, t_ms, position, event_id, source, inner, feed.key)
                    else:
                        self._captured(rule, slot, cell, key, t_ms, position, event_id, source, inner, feed.key)
                else:
                    self._distinct(slot, cell, key, t_ms, position, event_id, source)
                continue
            window = cell.wins[slot.index]
            if window is None:
                window = Window()
                cell.wins[slot.index] = window
            elif window.last == position:
                continue  # one event that two pooled rules match counts once
            elif len(window.pos) >= window.prune_at:
                self._prune(cell, window, slot, position)
            window.pos.append(position)
            window.ids.append(event_id)
            window.last = cell.lasts[slot.index] = position
            if slot.counts:
                self._counts(slot, window, cell, key, position, event_id, source)
            if slot.pairs or slot.alls:
                self._alls(slot, cell, key, position, event_id, source)
            if slot.ordered_last:
                self._ordered(slot, cell, key, position, event_id, source)
            if cell.eps is not None:
                for rule in slot.ordered_rest:
                    episode = cell.eps.get(rule.index)
                    if episode is not None:
                        if episode.floor < (position & TIME) - rule.span or episode.gap:
                            episode.gap = True
                        else:
                            episode.last_pos = position
            for rule in slot.general:
                self._general(rule, slot, cell, key, t_ms, position, event_id, source)

    def _prune(self, cell: Cell, window: Window, slot: Slot, position: int) -> None:
        """Drops entries that no rule can look at any more; over the bound, the oldest."""
        cut = bisect_left(window.pos, (position & TIME) - slot.horizon)
        if len(window.pos) - cut >= self.settings.max_window_events:
            more = len(window.pos) - self.settings.max_window_events + 1
            self.dropped_window_events += more - cut
            cut = more
        if cut and cell.eps is not None:
            edge = window.pos[cut - 1]
            for index, episode in cell.eps.items():
                if 0 <= episode.from_pos <= edge and slot.index in self.plan.rules[index].slot_set:
                    self._take(episode, slot.index, window, edge)
        if cut:
            if window.newest is not None:
                assert window.again is not None
                assert window.vals is not None
                heads = window.heads
                for place in range(0, len(heads) if heads is not None else 0, 2):
                    assert heads is not None
                    behind = max(heads[place] - window.base, 0)
                    if behind < cut:
                        heads[place + 1] -= window.again.count(0, behind, cut)
                        heads[place] = window.base + cut
                for place in range(cut):
                    if not window.again[place]:
                        window.newest.pop(window.vals[place], None)
                del window.again[:cut]
            del window.pos[:cut]
            del window.ids[:cut]
            if window.vals is not None:
                del window.vals[:cut]
            window.base += cut
        window.prune_at = max(32, 2 * len(window.pos))

    # ---- the common shapes ---------------------------------------------------------------------

    def _counts(
        self, slot: Slot, window: Window, cell: Cell, key: str, position: int, event_id: str, source: Event
    ) -> None:
        entries = window.pos
        size = len(entries)
        eps = cell.eps
        now = position & TIME
        for k, span, index, rule in slot.counts:
            if k <= size and entries[size - k] >= now - span:
                episode = None if eps is None else eps.get(index)
                if episode is None:
                    value = size - bisect_left(entries, now - span)
                    self._open(rule, cell, key, position, event_id, source, entries[size - k], value)
                    eps = cell.eps
                else:
                    if episode.gap:
                        self._regain(episode, rule, cell, now - span)
                    episode.floor = entries[size - k]
                    episode.last_pos = position
                    episode.value = size - bisect_left(entries, now - span)
            elif eps is None:
                if k > size:
                    return
            else:
                episode = eps.get(index)
                if episode is not None:
                    episode.gap = True

    def _alls(self, slot: Slot, cell: Cell, key: str, position: int, event_id: str, source: Event) -> None:
        """temporal: the newest entries of all steps are inside the window."""
        lasts = cell.lasts
        eps = cell.eps
        now = position & TIME
        for span, other, index, rule in slot.pairs:
            least = lasts[other]
            if least >= now - span:
                episode = None if eps is None else eps.get(index)
                if episode is None:
                    self._open(rule, cell, key, position, event_id, source, least, 2)
                    eps = cell.eps
                else:
                    if episode.gap:
                        self._regain(episode, rule, cell, now - span)
                    episode.floor = least
                    episode.last_pos = position
            elif eps is not None and index in eps:
                eps[index].gap = True
        for span, pick, index, rule in slot.alls:
            least = min(pick(lasts))
            if least >= now - span:
                episode = None if eps is None else eps.get(index)
                if episode is None:
                    self._open(rule, cell, key, position, event_id, source, least, rule.k)
                    eps = cell.eps
                else:
                    if episode.gap:
                        self._regain(episode, rule, cell, now - span)
                    episode.floor = least
                    episode.last_pos = position
            elif eps is not None and index in eps:
                eps[index].gap = True

    def _ordered(self, slot: Slot, cell: Cell, key: str, position: int, event_id: str, source: Event) -> None:
        wins = cell.wins
        lasts = cell.lasts
        eps = cell.eps
        now = position & TIME
        for span, first, back, index, rule in slot.ordered_last:
            oldest = now - span
            at = -1
            if lasts[first] >= oldest:
                # The latest chain: from this event back, always the latest event before.
                at = position
                for step in back:
                    last = lasts[step]
                    if last < at:
                        at = last
                    else:
                        entries = wins[step].pos  # type: ignore[union-attr]
                        place = bisect_left(entries, at)
                        at = entries[place - 1] if place else -1
                    if at < oldest:
                        at = -1
                        break
            if at >= 0:
                episode = None if eps is None else eps.get(index)
                if episode is None:
                    self._open(rule, cell, key, position, event_id, source, at, len(rule.rule.rules))
                    eps = cell.eps
                else:
                    if episode.gap:
                        self._regain(episode, rule, cell, oldest)
                    episode.floor = at
                    episode.last_pos = position
            elif eps is not None:
                episode = eps.get(index)
                if episode is not None:
                    if episode.floor < oldest or episode.gap:
                        episode.gap = True
                    else:
                        episode.last_pos = position

    def _regain(self, episode: Episode, rule: Rule, cell: Cell, oldest: int) -> None:
        """The condition holds again: what came since and is still in the window is taken in too."""
        self._settle(episode, rule, cell)
        episode.from_pos = max(oldest, episode.last_pos + 1)
        episode.gap = False

    def _settle(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        """Lists the members of the stretch that held without a break."""
        if episode.from_pos < 0 or episode.last_pos < episode.from_pos:
            return
        for index in rule.slot_set:
            window = cell.wins[index]
            if window is not None and window.last >= episode.from_pos:
                self._take(episode, index, window, episode.last_pos)
        episode.from_pos = episode.last_pos + 1
        episode.taken = None

    def _take(self, episode: Episode, index: int, window: Window, upto: int) -> None:
        """Lists the members that stand in one window, up to a position, before the window forgets them."""
        start = episode.from_pos if episode.taken is None else episode.taken.get(index, episode.from_pos)
        end = min(upto, episode.last_pos) + 1
        first, last = bisect_left(window.pos, start), bisect_left(window.pos, end)
        if episode.taken is None:
            episode.taken = {}
        episode.taken[index] = end
        room = self.max_members - len(episode.ids)
        if last - first > room:
            episode.truncated += last - first - room
            episode.span_last_ms = max(episode.span_last_ms, window.pos[last - 1] >> SHIFT)
            last = first + room
        episode.pos += window.pos[first:last]
        episode.ids += window.ids[first:last]

    def _distinct(
        self, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str, source: Event
    ) -> None:
        """value_count on the shared window: constant work an event and rule.

        An entry counts while no later one has its value, so adding and expiring touch one number each.
        """
        rules = slot.distincts
        accessors = rules[0].value_accessors
        one = accessors[0].get(source)
        if len(accessors) == 1 and type(one) is str and one:
            values: Sequence[str] = (one,)
        else:
            values = _joint_keys([accessor.get(source) for accessor in accessors])
        if not values:
            return
        window = cell.wins[slot.index]
        if window is None:
            window = Window()
            window.vals = []
            window.newest = {}
            window.again = bytearray()
            window.heads = [0] * (2 * len(rules))
            cell.wins[slot.index] = window
        elif window.last == position:
            return
        elif len(window.pos) >= window.prune_at:
            self._prune(cell, window, slot, position)
        newest, again, heads, entries, vals = window.newest, window.again, window.heads, window.pos, window.vals
        assert newest is not None
        assert again is not None
        assert heads is not None
        assert vals is not None
        for value in values:
            before = newest.pop(value, -1)
            if before >= window.base:
                again[before - window.base] = 1
            newest[value] = window.base + len(entries)
            entries.append(position)
            window.ids.append(event_id)
            vals.append(value)
            again.append(0)
            for place in range(0, len(heads), 2):
                if before < heads[place]:
                    heads[place + 1] += 1
        window.last = cell.lasts[slot.index] = position
        base = window.base
        eps = cell.eps
        for place, rule in enumerate(rules):
            head = heads[2 * place]
            distinct = heads[2 * place + 1]
            oldest = (position & TIME) - rule.span
            while entries[head - base] < oldest:
                if not again[head - base]:
                    distinct -= 1
                head += 1
            heads[2 * place] = head
            heads[2 * place + 1] = distinct
            episode = None if eps is None else eps.get(rule.index)
            if distinct >= rule.k:
                # It goes on holding until the k-th newest value's newest entry expires.
                kth = next(islice(reversed(newest.values()), rule.k - 1, None))
                floor = entries[kth - base]
                if episode is None:
                    self._open(rule, cell, key, position, event_id, source, floor, distinct)
                    eps = cell.eps
                else:
                    if episode.gap:
                        self._regain(episode, rule, cell, oldest)
                    episode.floor = floor
                    episode.last_pos = position
                    episode.value = distinct
            elif episode is not None:
                episode.gap = True

    # ---- every other shape ---------------------------------------------------------------------

    def _captured(
        self, rule: Rule, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str,
        source: Event, inner: Episode | None, producer: str,
    ) -> None:  # fmt: skip
        """A slot of one rule's own: captures what its conditions and members need."""
        captured: Any = None
        if rule.shape == "distinct":
            captured = _joint_keys([accessor.get(source) for accessor in rule.value_accessors])
            if not captured:
                return
        taken: dict[int, Any] | None = None
        if rule.where is not None:
            if rule.shape in ("count", "distinct"):
                if not self._counts_where(rule, producer, source):
                    return
            else:
                taken = {}
                for step in rule.slot_steps[slot.index]:
                    one = rule.where.capture(step, source)
                    if rule.where.holds_alone(step, one):
                        taken[step] = one
                if not taken:
                    return
        window = cell.wins[slot.index]
        if window is None:
            window = Window()
            window.vals = []
            cell.wins[slot.index] = window
        elif window.last == position and inner is None:
            return
        elif len(window.pos) >= window.prune_at:
            self._prune(cell, window, slot, position)
        assert window.vals is not None
        window.pos.append(position)
        window.ids.append(event_id)
        window.vals.append((captured, inner, taken))
        window.last = cell.lasts[slot.index] = position
        self._general(rule, slot, cell, key, t_ms, position, event_id, source)

    def _counts_where(self, rule: Rule, producer: str, source: Event) -> bool:
        """Counts and metrics take conditions on single events only: they narrow which events count."""
        conditions = rule.where
        assert conditions is not None
        return all(
            conditions.holds_alone(step, conditions.capture(step, source))
            for step, key in enumerate(rule.rule.rules)
            if key == producer
        )

    def _general(
        self, rule: Rule, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str, source: Event
    ) -> None:
        if rule.tumble:
            self._into_window(rule, slot, cell, key, t_ms, position, event_id, source)
            return
        if rule.negative and slot.index not in [rule.slots[step].index for step in rule.positive]:
            return  # an event that must be absent decides nothing; deadlines look for it
        if rule.shape == "count":
            chosen = holds_count(rule, cell, position)
        elif rule.shape == "distinct":
            chosen = holds_distinct(rule, cell, position)
        elif rule.shape == "chain":
            if slot.index != rule.seq[-1]:
                self._beside_chain(rule, cell, position, event_id)
                return
            chosen = holds_chain(rule, cell, position)
        elif rule.where is not None:
            # Looked at once an event stands at all its steps.
            if not any(one[0] is rule and one[2] == key for one in self.later):
                self.later.append((rule, cell, key, t_ms, position, event_id, source))
            return
        else:
            chosen = holds_presence(rule, cell, position)
        self._found(rule, cell, key, t_ms, position, event_id, source, chosen)

    def _beside_chain(self, rule: Rule, cell: Cell, position: int, event_id: str) -> None:
        """An event of a step that is not the last: it can only be a member while the chain holds."""
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        if episode is None or rule.where is not None or rule.negative:
            return
        if (position >> SHIFT) <= episode.hold_ms:
            self._grow(episode, rule, cell, episode.hold_ms, episode.value, position)
        else:
            episode.gap = True

    def _found(
        self, rule: Rule, cell: Cell, key: str, t_ms: int, position: int, event_id: str, source: Event,
        chosen: Chosen | None,
    ) -> None:  # fmt: skip
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        if chosen is None:
            if episode is not None:
                if rule.shape == "chain" and not rule.where and not rule.negative and t_ms <= episode.hold_ms:
                    self._grow(episode, rule, cell, episode.hold_ms, episode.value, position)
                else:
                    episode.gap = True
            return
        if rule.negative:
            self._anchor(rule, cell, key, t_ms, position, event_id, source, chosen)
            return
        if rule.each:
            self._each(rule, cell, key, position, event_id, source, chosen)
            return
        hold_ms = (chosen.floor >> SHIFT) + rule.span_ms
        if episode is None:
            self._open(rule, cell, key, position, event_id, source, chosen.floor, chosen.value, chosen)
        elif chosen.entries is None:
            self._grow(episode, rule, cell, hold_ms, chosen.value, position)
        else:
            self._add_chosen(episode, chosen)
            episode.hold_ms = hold_ms
            episode.value = chosen.value
            episode.last_pos = position

    # metrics ------------------------------------------------------------------------------------

    def _metric(
        self, rule: Rule, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str,
        source: Event, inner: Episode | None, producer: str,
    ) -> None:  # fmt: skip
        """Sum, average, percentile or median, kept up with each event and expiry."""
        number = Metric.number(rule.value_accessors[0].get(source))
        if number is None or (rule.where is not None and not self._counts_where(rule, producer, source)):
            return
        if rule.tumble:
            waiting = None if cell.extras is None else cell.extras.get(rule.index)
            if waiting is not None and waiting.pos and waiting.pos[-1] == position and inner is None:
                return  # one event that two pooled rules match counts once
            self._into_window(rule, slot, cell, key, t_ms, position, event_id, source, number, inner)
            return
        if cell.extras is None:
            cell.extras = {}
        metric = cell.extras.get(rule.index)
        if metric is None:
            metric = Metric(rule.metric, rule.rule.percentile)
            cell.extras[rule.index] = metric
        window = cell.wins[slot.index]
        if window is None:
            window = Window()
            window.vals = []
            cell.wins[slot.index] = window
        elif window.last == position and inner is None:
            return
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        self._expire_metric(rule, cell, window, metric, episode, position)
        if episode is not None and t_ms > episode.hold_ms + rule.span_ms:
            self._close(episode, rule, cell)
            episode = None
        if len(window.pos) >= window.prune_at:
            self._prune(cell, window, slot, position)
        assert window.vals is not None
        assert rule.threshold is not None
        window.pos.append(position)
        window.ids.append(event_id)
        window.vals.append((number, inner, None))
        window.last = cell.lasts[slot.index] = position
        metric.add(number)
        value = metric.value()
        if value is not None and rule.threshold.holds(value):
            metric.holding = True
            if rule.each:
                chosen = Chosen(position, value, None)
                self._each(rule, cell, key, position, event_id, source, chosen)
            elif episode is None:
                self._open(rule, cell, key, position, event_id, source, position, value)
            else:
                self._grow(episode, rule, cell, t_ms + rule.span_ms, value, position)
        else:
            metric.holding = False
            if episode is not None:
                # The event itself ended it: it held until the ms before.
                if episode.hold_ms >= t_ms:
                    episode.hold_ms = t_ms - 1
                episode.gap = True

    def _expire_metric(
        self, rule: Rule, cell: Cell, window: Window, metric: Metric, episode: Episode | None, position: int
    ) -> None:
        """Takes expired entries out; finds the instant at which an open episode stopped holding."""
        oldest = (position & TIME) - rule.span
        assert window.vals is not None
        assert rule.threshold is not None
        entries = window.pos
        place = metric.head - window.base
        while place < len(entries) and entries[place] < oldest:
            at_ms = entries[place] >> SHIFT
            while place < len(entries) and entries[place] >> SHIFT == at_ms and entries[place] < oldest:
                metric.remove(window.vals[place][0])
                place += 1
            if metric.holding:
                value = metric.value()
                if value is None or not rule.threshold.holds(value):
                    metric.holding = False
                    if episode is not None:
                        episode.hold_ms = at_ms + rule.span_ms
                        episode.gap = True
        metric.head = place + window.base

    def _metric_holds(self, rule: Rule, cell: Cell, episode: Episode, at_ms: int) -> int:
        """Up to when a metric is known to hold, looked at no further than needed: the next expiry after
        at_ms; -1 if it stopped holding by then (`hold_ms` says when)."""
        window = cell.wins[rule.slots[0].index]
        metric = None if cell.extras is None else cell.extras.get(rule.index)
        if window is None or metric is None:
            return -1
        self._expire_metric(rule, cell, window, metric, episode, (at_ms + 1) << SHIFT)
        place = metric.head - window.base
        if not metric.holding or place >= len(window.pos):
            return -1
        next_ms: int = window.pos[place] >> SHIFT
        return next_ms + rule.span_ms

    # absence ------------------------------------------------------------------------------------

    def _anchor(
        self, rule: Rule, cell: Cell, key: str, t_ms: int, position: int, event_id: str, source: Event,
        chosen: Chosen,
    ) -> None:  # fmt: skip
        anchor = Anchor(position, event_id, t_ms, 0)
        anchor.value = int(chosen.value)
        anchor.group = self._group(rule, key, source)
        anchor.fields = self._fields(rule, anchor.group, source)
        anchor.taken = chosen.taken
        if chosen.entries is not None:
            anchor.members = [at for at, _, _ in chosen.entries]
            anchor.ids = [one for _, one, inner in chosen.entries if inner is None]
            anchor.inner = [inner for _, _, inner in chosen.entries if inner is not None]
            anchor.members = [at for at, _, inner in chosen.entries if inner is None]
        else:
            self._gather_positive(rule, cell, position, anchor)
        mode = rule.absent
        if mode == "before":
            if not self._present(rule, cell, (position & TIME) - rule.span, (t_ms << SHIFT) - 1, anchor):
                self._decided(rule, cell, key, t_ms, position, anchor)
        elif mode == "between":
            if not self._present(rule, cell, chosen.first + 1, position - 1, anchor):
                self._decided(rule, cell, key, t_ms, position, anchor)
        else:
            anchor.due_ms = t_ms + rule.span_ms
            if cell.extras is None:
                cell.extras = {}
            cell.extras.setdefault(rule.index, []).append(anchor)
            anchor.serial = self._arm(anchor.due_ms, ANCHOR, (rule, key, anchor))

    def _gather_positive(self, rule: Rule, cell: Cell, position: int, anchor: Anchor) -> None:
        oldest = (position & TIME) - rule.span
        found: list[tuple[int, str, Episode | None]] = []
        for step in rule.positive:
            window = cell.wins[rule.slots[step].index]
            if window is None:
                continue
            for place in range(bisect_left(window.pos, oldest), len(window.pos)):
                if window.pos[place] > position:
                    break
                inner = window.vals[place][1] if window.vals is not None else None
                found.append((window.pos[place], window.ids[place], inner))
        found.sort(key=_by_place)
        for at, one, inner in found:
            if inner is None:
                anchor.members.append(at)
                anchor.ids.append(one)
            else:
                anchor.inner.append(inner)

    def _present(self, rule: Rule, cell: Cell, first: int, last: int, anchor: Anchor) -> bool:
        """Whether an event that must be absent lies in [first, last] (positions)."""
        for rule_step, step in zip(rule.negative, rule.negative_steps, strict=True):
            window = cell.wins[rule.slots[rule_step].index]
            if window is None:
                continue
            place = bisect_left(window.pos, first)
            while place < len(window.pos) and window.pos[place] <= last:
                if rule.where is None or anchor.taken is None:
                    return True
                assert window.vals is not None
                captured = window.vals[place][2].get(step)
                if captured is not None and rule.where.holds_with(step, captured, anchor.taken, strict=True):
                    return True
                place += 1
        return False

    def _anchor_due(self, what: tuple[Rule, str, Anchor], due_ms: int) -> None:
        rule, key, anchor = what
        cell = rule.keyspace.cells.get(key)
        assert type(cell) is Cell
        assert cell.extras is not None
        pending = cell.extras[rule.index]
        pending.remove(anchor)
        if not pending:
            del cell.extras[rule.index]
        if self.dirty_cells is not None:
            self.dirty_cells.add((rule.keyspace.index, key))
        at_ms = anchor.pos >> SHIFT
        last = ((due_ms + 1) << SHIFT) - 1
        first = (at_ms + 1) << SHIFT if rule.absent == "after" else (at_ms << SHIFT) - rule.span
        if not self._present(rule, cell, first, last, anchor):
            self._decided(rule, cell, key, due_ms, self._position(due_ms), anchor)

    def _decided(self, rule: Rule, cell: Cell, key: str, t_ms: int, position: int, anchor: Anchor) -> None:
        """An absence is true at this instant: it opens, prolongs or is a match of its own."""
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        if episode is None:
            episode = Episode(rule.index, key, t_ms, position)
            episode.group = anchor.group
            episode.fields = anchor.fields
            episode.decided_by = anchor.id
            self._add_members(episode, anchor)
            episode.value = anchor.value
            episode.last_pos = position
            self._begin(episode, rule, cell)
            return
        self._add_members(episode, anchor)
        episode.hold_ms = t_ms
        episode.value = anchor.value

    def _add_members(self, episode: Episode, anchor: Anchor) -> None:
        have = set(episode.ids)
        for at, one in zip(anchor.members, anchor.ids, strict=True):
            if one not in have:
                self._member(episode, at, one)
        for inner in anchor.inner:
            episode.add_inner(inner)

    # upper bounds -------------------------------------------------------------------------------

    def _open_window(self, rule: Rule, key: str, cell: Cell, start_ms: int, last_event_ms: int) -> Tumble:
        if cell.extras is None:
            cell.extras = {}
        tumble = Tumble(start_ms, start_ms + rule.span_ms, 0)
        tumble.last_event_ms = last_event_ms
        cell.extras[rule.index] = tumble
        tumble.serial = self._arm(tumble.end_ms, WINDOW_END, (rule, key))
        return tumble

    def _into_window(
        self, rule: Rule, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str,
        source: Event, number: float | int | None = None, inner: Episode | None = None,
    ) -> None:  # fmt: skip
        tumble = None if cell.extras is None else cell.extras.get(rule.index)
        if tumble is None:
            tumble = self._open_window(rule, key, cell, t_ms, t_ms)
        tumble.last_event_ms = t_ms
        tumble.group = self._group(rule, key, source)
        tumble.fields = self._fields(rule, tumble.group, source)
        window = cell.wins[slot.index]
        if rule.shape == "metric":
            value: Any = number
        else:
            assert window is not None
            captured = window.vals[-1] if window.vals is not None else None
            if rule.shape == "distinct":
                value = captured[0]  # type: ignore[index]
            else:
                value = next(step for step, one in enumerate(rule.slots) if one is slot)
            inner = captured[1] if captured is not None else None
        if inner is not None:
            tumble.inner.append(inner)
        tumble.pos.append(position)
        tumble.ids.append(event_id if inner is None else "")
        tumble.vals.append(value)

    def _window_end(self, what: tuple[Rule, str], due_ms: int) -> None:
        rule, key = what
        cell = rule.keyspace.cells.get(key)
        assert type(cell) is Cell
        assert cell.extras is not None
        if self.dirty_cells is not None:
            self.dirty_cells.add((rule.keyspace.index, key))
        tumble: Tumble = cell.extras[rule.index]
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        value = self._window_value(rule, tumble)
        assert rule.threshold is not None
        if value is not None and rule.threshold.holds(value):
            position = self._position(due_ms)
            first_ms = tumble.start_ms
            if rule.each or episode is None:
                made = Episode(rule.index, key, due_ms, position)
                made.group = tumble.group
                made.fields = tumble.fields
                made.value = value
                made.span_first_ms, made.span_last_ms = first_ms, due_ms
                self._take_window(made, tumble)
                made.decided_by = next((one for one in reversed(tumble.ids) if one), "")
                self._begin(made, rule, cell)
            else:
                self._take_window(episode, tumble)
                episode.hold_ms = due_ms
                episode.value = value
                episode.span_last_ms = due_ms
        if self.ending:
            del cell.extras[rule.index]
            return
        grouped = bool(rule.keyspace.names)
        if grouped and due_ms + rule.span_ms > tumble.last_event_ms + self.settings.group_idle_ms:
            del cell.extras[rule.index]
            return
        following = Tumble(due_ms, due_ms + rule.span_ms, 0)
        following.last_event_ms = tumble.last_event_ms
        following.group, following.fields = tumble.group, tumble.fields
        cell.extras[rule.index] = following
        following.serial = self._arm(following.end_ms, WINDOW_END, what)

    def _take_window(self, episode: Episode, tumble: Tumble) -> None:
        for at, one in zip(tumble.pos, tumble.ids, strict=True):
            if one:
                self._member(episode, at, one)
        for inner in tumble.inner:
            episode.add_inner(inner)

    def _window_value(self, rule: Rule, tumble: Tumble) -> float | int | None:
        if rule.shape == "metric":
            metric = Metric(rule.metric, rule.rule.percentile)
            for number in tumble.vals:
                metric.add(number)
            return metric.value()
        if rule.shape == "distinct":
            return len({value for values in tumble.vals for value in values})
        if rule.shape == "count":
            return len(set(zip(tumble.pos, tumble.ids, strict=True)))
        return len(set(tumble.vals))

    # ---- episodes ------------------------------------------------------------------------------

    def _open(
        self, rule: Rule, cell: Cell, key: str, position: int, event_id: str, source: Event, floor: int,
        value: float | int | None, chosen: Chosen | None = None,
    ) -> None:  # fmt: skip
        episode = Episode(rule.index, key, position >> SHIFT, position)
        episode.group = self._group(rule, key, source)
        if rule.producer is not None:
            episode.fields = self._fields(rule, episode.group, source)
        episode.decided_by = event_id
        episode.floor = floor
        episode.hold_ms = (floor >> SHIFT) + rule.span_ms
        episode.value = value
        if rule.form != "general":
            episode.from_pos = (position & TIME) - rule.span
        elif chosen is not None and chosen.entries is not None:
            self._add_chosen(episode, chosen)
        else:
            self._look_back(episode, rule, cell, position)
        episode.last_pos = position
        self._begin(episode, rule, cell)

    def _begin(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        """A new episode: its place in the group, its first report, the rules above it."""
        if rule.each:
            episode.open = False
            if not rule.quiet:
                self._final(episode, rule, cell)
        else:
            if cell.eps is None:
                cell.eps = {}
            cell.eps[rule.index] = episode
            holds_ms = held_ms(episode, rule)
            if rule.shape == "metric" and not rule.tumble:
                holds_ms = self._metric_holds(rule, cell, episode, episode.opened_ms)
            episode.serial = self._arm(holds_ms + rule.span_ms, CLOSE, episode)
            if self.tell_open and not rule.quiet:
                self.identify(episode, rule, cell)
                episode.told = True
                self.out.append(self.told(episode, rule, "open"))
        if rule.producer is not None:
            self.identify(episode, rule, cell)
            self.inner.append((rule, episode))

    def identify(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        """Gives an episode its id, which derives from site, rule, group, first evidence and opening time.

        Match by match (`each`) several share their first evidence: there the deciding event tells them apart.
        """
        self._settle(episode, rule, cell)
        if episode.id:
            return
        if rule.each and episode.decided_by:
            evidence = episode.decided_by
        elif episode.ids:
            evidence = episode.ids[episode.pos.index(min(episode.pos))]
        elif episode.inner:
            evidence = episode.inner[0].id
        else:
            evidence = episode.decided_by or f"window {episode.span_first_ms}"
        group = (episode.key,) if rule.keyspace.names else ()
        episode.id = match_id(self.site, rule.key, group, evidence, episode.opened_ms)

    def _each(
        self, rule: Rule, cell: Cell, key: str, position: int, event_id: str, source: Event, chosen: Chosen
    ) -> None:
        self._open(rule, cell, key, position, event_id, source, position, chosen.value, chosen)

    def _look_back(self, episode: Episode, rule: Rule, cell: Cell, position: int) -> None:
        """Off the fast path: takes in what the windows hold and the episode has not taken yet, in total order."""
        # An inner match stands at the position of the event that decided it, which may be taken already.
        taken = episode.last_pos
        oldest = max((position & TIME) - rule.span, taken)
        found: list[tuple[int, str, Episode | None]] = []
        for index in rule.slot_set:
            window = cell.wins[index]
            if window is None or window.last < oldest:
                continue
            for place in range(bisect_left(window.pos, oldest), len(window.pos)):
                inner = window.vals[place][1] if rule.chained and window.vals is not None else None
                found.append((window.pos[place], window.ids[place], inner))
        found.sort(key=_by_place)
        for at, one, inner in found:
            if inner is None:
                if at > taken:
                    self._member(episode, at, one)
            else:
                episode.add_inner(inner)

    def _add_chosen(self, episode: Episode, chosen: Chosen) -> None:
        assert chosen.entries is not None
        have = set(episode.ids)
        for at, one, inner in chosen.entries:
            if inner is not None:
                episode.add_inner(inner)
            elif one not in have:
                self._member(episode, at, one)

    def _member(self, episode: Episode, at: int, event_id: str) -> None:
        if len(episode.ids) < self.max_members:
            episode.pos.append(at)
            episode.ids.append(event_id)
        else:
            episode.truncated += 1
            episode.span_last_ms = at >> SHIFT

    def _grow(
        self, episode: Episode, rule: Rule, cell: Cell, hold_ms: int, value: float | int | None, position: int
    ) -> None:
        """Off the fast path: the condition holds, so the window's new events are members."""
        episode.hold_ms = hold_ms
        episode.value = value
        self._look_back(episode, rule, cell, position)
        episode.gap = False
        episode.last_pos = position

    def _close_due(self, episode: Episode, due_ms: int, serial: int) -> None:
        if not episode.open:
            return
        rule = self.plan.rules[episode.rule]
        cell = rule.keyspace.cells.get(episode.key)
        assert type(cell) is Cell
        if rule.shape == "metric" and not rule.tumble:
            holds_ms = self._metric_holds(rule, cell, episode, due_ms - rule.span_ms)
            last_chance_ms = (holds_ms if holds_ms >= 0 else episode.hold_ms) + rule.span_ms
        else:
            last_chance_ms = held_ms(episode, rule) + rule.span_ms
        if last_chance_ms > due_ms:
            heappush(self.timers, (last_chance_ms, serial, CLOSE, episode))
            return
        self._close(episode, rule, cell)

    def _close(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        self.identify(episode, rule, cell)
        episode.open = False
        if self.dirty_cells is not None:
            self.dirty_cells.add((rule.keyspace.index, episode.key))
        if cell.eps is not None:
            cell.eps.pop(rule.index, None)
            if not cell.eps:
                cell.eps = None
        self._finish_episode(episode, rule)

    def _finish_episode(self, episode: Episode, rule: Rule) -> None:
        """Reports the final form, once every inner match has its own."""
        running = [inner for inner in _all_inner(episode) if inner.open]
        if running:
            running[0].waiting = [*running[0].waiting, episode]
            return
        if not rule.quiet:
            self._final(episode, rule)
        waiting, episode.waiting = episode.waiting, NO_EPISODES
        for outer in waiting:
            self._finish_episode(outer, self.plan.rules[outer.rule])

    def _final(self, episode: Episode, rule: Rule, cell: Cell | None = None) -> None:
        if cell is not None:
            self.identify(episode, rule, cell)
        if episode.told:
            episode.revision += 1
        episode.told = True
        self.out.append(self.told(episode, rule, "final"))

    def told(self, episode: Episode, rule: Rule, state: str) -> Match:
        """The match message of an episode as it stands."""
        truncated = episode.truncated
        if rule.form != "general":
            _put_in_order(episode, rule)
            pos, ids = episode.pos, tuple(episode.ids)
        else:
            pairs = _flat(episode)
            if len(pairs) > self.max_members:
                truncated += len(pairs) - self.max_members
                pairs = pairs[: self.max_members]
            pos = [at for at, _ in pairs]
            ids = tuple([one for _, one in pairs])
        head = rule.rule.head
        first_ms = pos[0] >> SHIFT if pos else episode.span_first_ms
        last_ms = pos[-1] >> SHIFT if pos else episode.span_last_ms
        if episode.truncated:
            last_ms = max(last_ms, episode.span_last_ms)
        value = episode.value
        return Match(
            id=episode.id,
            site=self.site,
            rule=rule.key,
            title=head.title,
            level=head.level,
            group=episode.group,
            first_ms=first_ms,
            last_ms=last_ms,
            opened_ms=episode.opened_ms,
            decided_by=episode.decided_by,
            value=round(value, 6) if type(value) is float else value,
            events=ids,
            inner=tuple([inner.id for inner in episode.inner]),
            state=state,  # type: ignore[arg-type]
            revision=episode.revision,
            truncated=truncated,
            threat_type=head.threat_type,
            asset=head.asset,
            tags=head.tags,
        )

    def open_matches(self) -> list[Match]:
        """What is still open, as it stands, in the order it was opened.

        An episode that has ended but waits for the final form of an inner one is open too.
        """
        found: dict[str, Episode] = {}
        todo: list[Episode] = []
        for rule in self.plan.rules:
            for cell in rule.keyspace.cells.values():
                episode = cell.eps.get(rule.index) if type(cell) is Cell and cell.eps is not None else None
                if episode is not None:
                    self.identify(episode, rule, cell)
                    todo.append(episode)
        while todo:
            episode = todo.pop()
            found[episode.id] = episode
            todo.extend(episode.waiting)
        ordered = sorted(found.values(), key=lambda one: (one.opened_pos, one.serial, one.id))
        rules = self.plan.rules
        return [self.told(one, rules[one.rule], "open") for one in ordered if not rules[one.rule].quiet]

    # ---- groups --------------------------------------------------------------------------------

    def _group(self, rule: Rule, key: str, source: Event) -> dict[str, Any]:
        """Group-by names with the values as the deciding event wrote them."""
        names = rule.keyspace.names
        if not names:
            return {}
        if len(names) == 1:
            # Most groups are one text: the key is the value as written.
            for accessors in rule.group_accessors.values():
                value = accessors[0].get(source)
                if type(value) is str and value == key:
                    return {names[0]: value}
            return {names[0]: _as_written(rule, 0, key, source)}
        return {
            name: _as_written(rule, place, part, source)
            for place, (name, part) in enumerate(zip(names, key.split(JOIN), strict=True))
        }

    def _fields(self, rule: Rule, group: dict[str, Any], source: Event) -> dict[str, Any]:
        """What an inner match shows to the rules above it: its group, then its deciding event's fields."""
        if not rule.carry:
            return group
        fields = dict(group)
        for name, accessor in zip(rule.carry, rule.carry_accessors, strict=True):
            if name not in fields:
                value = accessor.get(source)
                if value is not MISSING:
                    fields[name] = value
        return fields

    def _sweep(self, keyspace: Keyspace, t_ms: int) -> None:
        """Forgets groups that no rule can look at any more; invisible in the results.

        Called when a group is made and a sweep is due: only events make groups, so silence needs none.
        """
        keyspace.sweep_at_ms = t_ms + max(keyspace.horizon >> SHIFT, SWEEP_EVERY_MS)
        oldest = (t_ms << SHIFT) - keyspace.horizon
        dead: list[str] = []
        for key, cell in keyspace.cells.items():
            if type(cell) is tuple:
                if cell[1] < oldest:
                    dead.append(key)
            elif cell.touched < oldest and cell.eps is None and not _busy(cell):
                dead.append(key)
        for key in dead:
            del keyspace.cells[key]
        if self.dirty_cells is not None:
            self.dirty_cells.update((keyspace.index, key) for key in dead)

    def groups(self) -> int:
        """How many groups are alive, over all keyspaces."""
        return sum(len(keyspace.cells) for keyspace in self.plan.keyspaces)

    def restore_timers(self, timers: list[tuple[int, int, int, Any]]) -> None:
        """Puts the timers of restored episodes, anchors and windows in place."""
        self.timers = timers
        heapify(self.timers)


def held_ms(episode: Episode, rule: Rule) -> int:
    """Last instant at which the condition holds without further events."""
    return (episode.floor >> SHIFT) + rule.span_ms if rule.form != "general" else episode.hold_ms


def _busy(cell: Cell) -> bool:
    """Whether anchors or consecutive windows still wait in a group."""
    return cell.extras is not None and any(type(extra) is not Metric for extra in cell.extras.values())


def _put_in_order(episode: Episode, rule: Rule) -> None:
    """Members of several windows, or of one that holds an event once per value: in total order, each once."""
    if len(rule.slot_set) > 1 or rule.form == "distinct":
        members = dict(zip(episode.pos, episode.ids, strict=True))
        episode.pos = sorted(members)
        episode.ids = [members[at] for at in episode.pos]


def _by_place(entry: tuple[int, str, Episode | None]) -> tuple[int, str]:
    return entry[0], entry[1]


def _all_inner(episode: Episode) -> list[Episode]:
    found: list[Episode] = []
    for inner in episode.inner:
        found.append(inner)
        found.extend(_all_inner(inner))
    return found


def _flat(episode: Episode) -> list[tuple[int, str]]:
    """(position, event id) of all members, inner ones included, in total order, each once."""
    pairs = list(zip(episode.pos, episode.ids, strict=True))
    for inner in _all_inner(episode):
        pairs.extend(zip(inner.pos, inner.ids, strict=True))
    return sorted(set(pairs))


def _as_written(rule: Rule, place: int, text: str, source: Event) -> Any:
    """The value of a group-by field in the deciding event whose key is `text`; the key if none fits."""
    for key in rule.rule.rules:
        value = rule.group_accessors[key][place].get(source)
        if value is MISSING:
            continue
        for one in value if type(value) is list else (value,):
            if text in keys_of(one):
                return one
    return text


def _joint_keys(values: Sequence[Any]) -> Sequence[str]:
    """Keys of several fields together: every combination; none if one is missing."""
    if len(values) == 1:
        value = values[0]
        if type(value) is str:
            return (value,) if value else ()
        return () if value is MISSING else keys_of(value)
    each = [() if value is MISSING else keys_of(value) for value in values]
    return [JOIN.join(combination) for combination in product(*each)]
