"""Folds events, in total order, into matches: groups, windows, and the rules that read them.

Nothing here knows about arrival, batches or clocks: `fold` is called with one event after the other
in total order, `advance` says that time has passed. The four common shapes (count, distinct count,
all present, ordered) are decided inline on shared windows; every other rule goes through
`correlator.matching.general`. What each decision means is docs/rules.md.

An event costs what it may change: a rule whose episode is known to hold still (`Cell.dues`) is passed by
with one comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop
from typing import Final, final

from correlator.events.event import Event
from correlator.events.threat import Match
from correlator.matching.deadlines import ANCHOR, BUCKET, CLOSE, NEVER
from correlator.matching.episodes import FOREVER, Episodes, chain_start, floor_of, joint_keys
from correlator.matching.general import General
from correlator.matching.plan import Feed, Keyspace, Plan, Slot
from correlator.matching.records import EngineSettings
from correlator.matching.shapes import Metric
from correlator.matching.state import SHIFT, TIME, Cell, Episode, Window
from correlator.rules.fields import MISSING, keys_of

SWEEP_EVERY_MS: Final = 60_000  # at least this long between two looks for groups that nothing needs any more


@final
class Matcher:
    """Rule matching of one site. `episodes.out` collects matches in the order they are decided."""

    def __init__(self, site: str, plan: Plan, settings: EngineSettings) -> None:
        self.site = site
        self.plan = plan
        self.max_groups = settings.max_groups
        self.episodes = Episodes(site, plan, settings)
        self.deadlines = self.episodes.deadlines
        self.general = General(self.episodes, settings.group_idle_ms)
        self.started = False
        if not self.episodes.keeps:
            # An episode is over two timespans after its floor; no deadline says so, a later event finds out. Events
            # of earlier steps do not look, so that what they push out of their window may be the floor.
            for keyspace in plan.keyspaces:
                keyspace.horizon *= 2
            for rule in plan.rules:
                if rule.form == "ordered":
                    for index in rule.slot_set:
                        slot = rule.keyspace.slots[index]
                        slot.horizon = max(slot.horizon, 2 * rule.span)

    # ---- time ----------------------------------------------------------------------------------

    def advance(self, before_ms: int) -> None:
        """Decides all deadlines that lie before a time, in order."""
        deadlines, general = self.deadlines, self.general
        near = deadlines.near
        while True:
            far = deadlines.reach(before_ms)
            if far:
                self._reached(far)
                continue
            if not near or near[0][0] >= before_ms:
                break
            due_ms, _, kind, what = heappop(near)
            if kind == CLOSE:
                self._end_due(what, due_ms)
            elif kind == ANCHOR:
                general.anchor_due(what, due_ms)
            else:
                general.window_end(what, due_ms)
            if self.episodes.inner:
                self._drain(due_ms)
        deadlines.settle()

    def _reached(self, far: list[Episode]) -> None:
        """A bucket of ends is near: each gets its place in order, or in the bucket to which it has moved."""
        deadlines = self.deadlines
        near_ms = (deadlines.reached + 1) << BUCKET
        rules = self.plan.rules
        for episode in far:
            if not episode.open:
                continue
            rule = rules[episode.rule]
            due_ms = episode.due_ms
            if rule.place >= 0:
                cell = rule.keyspace.cells[episode.key]
                # At least this long, by what is known already; exactly, only where that is near.
                due_ms = (cell.dues[rule.place] >> SHIFT) + rule.span_ms
                if due_ms < near_ms:
                    due_ms = self.episodes.last_chance_ms(episode, rule, cell)
            deadlines.put_end(due_ms, episode)

    def _end_due(self, episode: Episode, due_ms: int) -> None:
        if not episode.open or due_ms != episode.due_ms:
            return
        rule = self.plan.rules[episode.rule]
        cell = rule.keyspace.cells[episode.key]
        if rule.shape == "metric" and not rule.tumble:
            last_chance_ms = self.general.metric_chance_ms(episode, rule, cell, due_ms - rule.span_ms)
        else:
            last_chance_ms = self.episodes.last_chance_ms(episode, rule, cell)
        if last_chance_ms > due_ms:
            self.deadlines.put_end(last_chance_ms, episode)
        else:
            self.episodes.close(episode, rule, cell)

    def next_deadline_ms(self) -> int:
        """Nothing falls due before this time; -1 if nothing ever does."""
        due_ms = self.deadlines.due_ms
        return due_ms if due_ms < NEVER else -1

    def end_of_input(self) -> None:
        """Decides every pending deadline once, as if nothing more came (docs/rules.md, open_at_end)."""
        self.general.ending = True
        self.advance(1 << 62)

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
        deadlines = self.deadlines
        if t_ms != deadlines.now_ms:
            deadlines.now_ms = t_ms
            deadlines.now_n = 0
        else:
            deadlines.now_n += 1
        position = (t_ms << SHIFT) | deadlines.now_n
        late = event.late_ms > 0
        carried = event.carried
        attributes = carried if type(carried) is dict else event.attributes
        for number in hits:
            if plan.standalone[number]:
                self.episodes.out.append(self.episodes.single(number, event))
            if late:
                continue
            for feed in plan.producers[number].feeds:
                accessors = feed.accessors
                if len(accessors) == 1:
                    field = feed.attribute
                    value = attributes.get(field, MISSING) if field else accessors[0].get(event)
                    if type(value) is str:
                        if value:
                            self._enter(feed, value, t_ms, position, event.id, event, None)
                    elif value is not MISSING:
                        for key in keys_of(value):
                            self._enter(feed, key, t_ms, position, event.id, event, None)
                elif not accessors:
                    self._enter(feed, "", t_ms, position, event.id, event, None)
                else:
                    for key in joint_keys([accessor.get(event) for accessor in accessors]):
                        self._enter(feed, key, t_ms, position, event.id, event, None)
        if self.general.later:
            self.general.look_later()
        if self.episodes.inner:
            self._drain(t_ms)
        return hits

    def _start(self, t_ms: int) -> None:
        """Rules without group-by and with an upper bound count from the first event of all."""
        self.started = True
        for rule in self.plan.global_rules:
            cell = self._cell(rule.keyspace, "", t_ms << SHIFT)
            if cell is not None:
                self.general.open_window(rule, "", cell, t_ms, t_ms)
                if rule.keyspace.dirty is not None:
                    rule.keyspace.dirty.add("")

    def _drain(self, t_ms: int) -> None:
        """Hands decided inner matches to the rules that refer to them, inner rules first."""
        queue = self.episodes.inner
        while queue:
            best = 0
            for place in range(1, len(queue)):
                if queue[place][0].index < queue[best][0].index:
                    best = place
            rule, episode = queue.pop(best)
            producer = rule.producer
            assert producer is not None
            position = (self.deadlines.now_ms << SHIFT) | self.deadlines.now_n
            # For the rules above, an inner match is an event that has its fields and happens now.
            source = Event(
                id=episode.id, site=self.site, source="", dialect="", kind="", time_ms=t_ms, received_ms=t_ms,
                carried=episode.fields,
            )  # fmt: skip
            for feed in producer.feeds:
                keys = joint_keys([accessor.get(source) for accessor in feed.accessors]) if feed.accessors else ("",)
                for key in keys:
                    self._enter(feed, key, t_ms, position, episode.id, source, episode)
            if self.general.later:
                self.general.look_later()

    def _enter(
        self, feed: Feed, key: str, t_ms: int, position: int, event_id: str, source: Event, inner: Episode | None
    ) -> None:
        """One producer's result reaches one group: into the windows, then the rules that read them."""
        keyspace = feed.keyspace
        cell = keyspace.cells.get(key)
        if keyspace.dirty is not None:
            keyspace.dirty.add(key)
        if type(cell) is not Cell:
            if cell is None and feed.lean:
                if self._admits(keyspace, t_ms):
                    keyspace.cells[key] = (feed.slots[0].index, position, event_id)
                return
            cell = self._cell(keyspace, key, position)
            if cell is None:
                return
        elif cell.touched == position and not cell.doubled:
            for slot in feed.slots:
                for mate in slot.mates:
                    if cell.lasts[mate] == position:
                        cell.doubled = True
        cell.touched = position
        pair = (position, event_id)
        for slot in feed.slots:
            if slot.capture:
                if not slot.general:
                    self._distinct(slot, cell, key, position, pair, source)
                elif slot.general[0].shape == "metric":
                    self.general.metric(
                        slot.general[0], slot, cell, key, t_ms, position, event_id, source, inner, feed.key
                    )
                else:
                    self.general.captured(
                        slot.general[0], slot, cell, key, t_ms, position, event_id, source, inner, feed.key
                    )
                continue
            window = cell.wins[slot.index]
            if window is None:
                window = Window()
                cell.wins[slot.index] = window
            elif window.last == position:
                continue  # one event that two pooled rules match counts once
            window.pos.append(position)
            window.pairs.append(pair)
            window.last = cell.lasts[slot.index] = position
            if slot.inline:
                self._decide(slot, window, cell, key, position, event_id, source)
            for rule in slot.general:
                self.general.entered(rule, slot, cell, key, t_ms, position, event_id, source)
            if len(window.pos) >= window.prune_at:
                self.episodes.prune(cell, window, slot, position)

    # ---- the common shapes ---------------------------------------------------------------------

    def _decide(
        self, slot: Slot, window: Window, cell: Cell, key: str, position: int, event_id: str, source: Event
    ) -> None:
        """The rules on a window that just got an entry: does the condition of each hold now?"""
        dues = cell.dues
        lasts = cell.lasts
        episodes = self.episodes
        keeps = episodes.keeps
        now = position & TIME
        for look in slot.counts:
            place = look.place
            due = dues[place]
            if due < now:
                entries, k = window.pos, look.number
                if len(entries) >= k and entries[-k] + look.span >= now:
                    if due >= 0 and (keeps or due + look.span >= now):
                        dues[place] = entries[-k] + look.span
                    else:
                        episodes.holds(look.rule, cell, key, position, event_id, source, entries[-k])
                        dues = cell.dues
                elif due >= 0:
                    episodes.lapses(look.rule, cell, position)
        for look in slot.pairs:
            place = look.place
            due = dues[place]
            if due < now:
                floor = lasts[look.number]
                if floor + look.span >= now:
                    if due >= 0 and (keeps or due + look.span >= now):
                        dues[place] = floor + look.span
                    else:
                        episodes.holds(look.rule, cell, key, position, event_id, source, floor)
                        dues = cell.dues
                elif due >= 0:
                    episodes.lapses(look.rule, cell, position)
        for look in slot.alls:
            place = look.place
            due = dues[place]
            if due < now:
                assert look.pick is not None
                floor = min(look.pick(lasts))
                if floor + look.span >= now:
                    if due >= 0 and (keeps or due + look.span >= now):
                        dues[place] = floor + look.span
                    else:
                        episodes.holds(look.rule, cell, key, position, event_id, source, floor)
                        dues = cell.dues
                elif due >= 0:
                    episodes.lapses(look.rule, cell, position)
        for look in slot.ordered_last:
            place = look.place
            due = dues[place]
            if due < now:
                span = look.span
                held = lasts[look.number] + span >= now
                floor = chain_start(look.rule, cell, position, now - span) if held else -1
                if floor >= 0:
                    if due >= 0 and (keeps or due + span >= now):
                        dues[place] = floor + span
                    else:
                        episodes.holds(look.rule, cell, key, position, event_id, source, floor)
                        dues = cell.dues
                elif due >= 0:
                    episodes.lapses(look.rule, cell, position)

    def _distinct(
        self, slot: Slot, cell: Cell, key: str, position: int, pair: tuple[int, str], source: Event
    ) -> None:  # fmt: skip
        """value_count on the shared window: constant work an event and rule.

        An entry counts while no later one has its value, so adding and expiring touch one number each. What
        has expired is taken out only when the number left would make a condition true.
        """
        rules = slot.distincts
        accessors = rules[0].rule.value_accessors
        field = slot.value_field
        carried = source.carried
        attributes = carried if type(carried) is dict else source.attributes
        one = attributes.get(field, MISSING) if field else accessors[0].get(source)
        values: Sequence[str]
        if type(one) is str and one and len(accessors) == 1:
            values = (one,)
        else:
            values = joint_keys([accessor.get(source) for accessor in accessors])
            if not values:
                return
        window = cell.wins[slot.index]
        if window is None:
            window = cell.wins[slot.index] = Window.of_values(len(rules))
        elif window.last == position:
            return
        newest, again, heads, entries, vals = window.newest, window.again, window.heads, window.pos, window.vals
        assert newest is not None
        assert again is not None
        assert heads is not None
        assert vals is not None
        base = window.base
        size = base + len(entries)
        window.last = cell.lasts[slot.index] = position
        start, before = size, -1  # before: of a value, its newest entry until now
        for value in values:
            if size > start:  # of several values, all but the last are counted here, and the last below
                for at in range(0, len(heads), 2):
                    heads[at + 1] += before < heads[at]
            before = newest.get(value, -1)
            if before >= 0:
                again[before - base] = 1
            newest[value] = size
            size += 1
            entries.append(position)
            window.pairs.append(pair)
            vals.append(value)
            again.append(0)
        now = position & TIME
        dues = cell.dues
        keeps = self.episodes.keeps
        at = 0
        for look in rules:
            head, distinct = heads[at], heads[at + 1]
            if before < head:
                distinct += 1
                heads[at + 1] = distinct
            place, k = look.place, look.number
            if distinct >= k:
                due = dues[place]
                if due < now:
                    oldest = now - look.span
                    while entries[head - base] < oldest:
                        if not again[head - base]:
                            distinct -= 1
                        head += 1
                    heads[at], heads[at + 1] = head, distinct
                    if distinct < k:
                        if due >= 0:
                            self.episodes.lapses(look.rule, cell, position)
                    else:
                        # It goes on holding until the k-th newest value's newest entry expires.
                        floor = floor_of(look.rule, cell, FOREVER)
                        if due >= 0 and (keeps or due + look.span >= now):
                            dues[place] = floor + look.span
                        else:
                            self.episodes.holds(look.rule, cell, key, position, pair[1], source, floor)
                            dues = cell.dues
            elif dues[place] >= 0:
                self.episodes.lapses(look.rule, cell, position)
            at += 2
        if len(entries) >= window.prune_at:
            self.episodes.prune(cell, window, slot, position)

    # ---- groups --------------------------------------------------------------------------------

    def _cell(self, keyspace: Keyspace, key: str, position: int) -> Cell | None:
        """The group's cell, made if need be; None if the keyspace is full and the group is refused."""
        cells = keyspace.cells
        cell = cells.get(key)
        if cell is None:
            if not self._admits(keyspace, position >> SHIFT):
                return None
            cell = Cell(len(keyspace.slots), keyspace.no_dues, position)
            cells[key] = cell
        elif type(cell) is tuple:
            slot, first, event_id = cell
            window = Window()
            window.pos.append(first)
            window.pairs.append((first, event_id))
            window.last = first
            cell = Cell(len(keyspace.slots), keyspace.no_dues, first)
            cell.wins[slot] = window
            cell.lasts[slot] = first
            cell.doubled = first == position
            cells[key] = cell
        return cell

    def _admits(self, keyspace: Keyspace, t_ms: int) -> bool:
        """Whether there is room for a new group.

        A full keyspace drops its youngest group if that has a single event: a flood of keys displaces itself.
        """
        if t_ms >= keyspace.sweep_at_ms:
            self._sweep(keyspace, t_ms)
        if len(keyspace.cells) < self.max_groups:
            return True
        key, cell = keyspace.cells.popitem()
        if type(cell) is tuple:
            keyspace.dropped += 1
            if keyspace.dirty is not None:
                keyspace.dirty.add(key)
            return True
        keyspace.cells[key] = cell
        keyspace.refused += 1
        return False

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
        if keyspace.dirty is not None:
            keyspace.dirty.update(dead)

    def open_matches(self) -> list[Match]:
        """What is still open, as it stands, in the order it was opened."""
        return self.episodes.open_matches()

    def groups(self) -> int:
        """How many groups are alive, over all keyspaces."""
        return sum(len(keyspace.cells) for keyspace in self.plan.keyspaces)


def _busy(cell: Cell) -> bool:
    """Whether anchors or consecutive windows still wait in a group."""
    return cell.extras is not None and any(type(extra) is not Metric for extra in cell.extras.values())
