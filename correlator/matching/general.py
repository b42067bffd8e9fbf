"""Decides every rule that is not decided inline: conditions on other events, k of n, metrics, absences,
upper bounds, chains of rules, match by match.

Entries of such a rule carry what its conditions and members need, in windows of its own; what holds and
until when, `correlator.matching.shapes` says.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, final

from correlator.events.event import Event
from correlator.matching.deadlines import ANCHOR, WINDOW_END
from correlator.matching.episodes import Episodes, by_place, fields_of, group_of, joint_keys
from correlator.matching.plan import Rule, Slot
from correlator.matching.shapes import Chosen, Metric, holds_chain, holds_count, holds_distinct, holds_presence
from correlator.matching.state import SHIFT, TIME, Anchor, Cell, Episode, Tumble, Window


@final
class General:
    """The rules off the fast path.

    later: conditions between events, looked at once per rule and group when all windows have the event.
    ending: input has ended, so consecutive windows end with the one at hand.
    """

    def __init__(self, episodes: Episodes, group_idle_ms: int) -> None:
        self.episodes = episodes
        self.group_idle_ms = group_idle_ms
        self.later: list[tuple[Rule, Cell, str, int, int, str, Event]] = []
        self.ending = False

    def captured(
        self, rule: Rule, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str,
        source: Event, inner: Episode | None, producer: str,
    ) -> None:  # fmt: skip
        """A slot of one rule's own: captures what its conditions and members need."""
        captured: Any = None
        if rule.shape == "distinct":
            captured = joint_keys([accessor.get(source) for accessor in rule.value_accessors])
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
            self.episodes.prune(cell, window, slot, position)
        assert window.vals is not None
        window.pos.append(position)
        window.pairs.append((position, event_id))
        window.vals.append((captured, inner, taken))
        window.last = cell.lasts[slot.index] = position
        self.entered(rule, slot, cell, key, t_ms, position, event_id, source)

    def look_later(self) -> None:
        """Conditions between events, once per rule and group after all windows have the event."""
        later, self.later = self.later, []
        for rule, cell, key, t_ms, position, event_id, source in later:
            chosen = holds_presence(rule, cell, position)
            self._found(rule, cell, key, t_ms, position, event_id, source, chosen)

    def _counts_where(self, rule: Rule, producer: str, source: Event) -> bool:
        """Counts and metrics take conditions on single events only: they narrow which events count."""
        conditions = rule.where
        assert conditions is not None
        return all(
            conditions.holds_alone(step, conditions.capture(step, source))
            for step, key in enumerate(rule.rule.rules)
            if key == producer
        )

    def entered(
        self, rule: Rule, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str, source: Event
    ) -> None:
        """An event (or an inner match) is in a slot's window: decides whether the rule's condition holds now."""
        if rule.tumble:
            self._into_window(rule, slot, cell, key, t_ms, position, event_id, source)
            return
        if rule.negative and slot.index not in rule.positive_slots:
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
            self.episodes.grow(episode, rule, cell, episode.hold_ms, episode.value, position)
        else:
            episode.gap = True
            self.episodes.changed(episode)

    def _found(
        self, rule: Rule, cell: Cell, key: str, t_ms: int, position: int, event_id: str, source: Event,
        chosen: Chosen | None,
    ) -> None:  # fmt: skip
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        if chosen is None:
            if episode is not None:
                if rule.shape == "chain" and not rule.where and not rule.negative and t_ms <= episode.hold_ms:
                    self.episodes.grow(episode, rule, cell, episode.hold_ms, episode.value, position)
                else:
                    episode.gap = True
                    self.episodes.changed(episode)
            return
        if rule.negative:
            self._anchor(rule, cell, key, t_ms, position, event_id, source, chosen)
            return
        if rule.each:
            self.episodes.start(rule, cell, key, position, event_id, source, chosen)
            return
        hold_ms = (chosen.floor >> SHIFT) + rule.span_ms
        if episode is None:
            self.episodes.start(rule, cell, key, position, event_id, source, chosen)
        elif chosen.entries is None:
            self.episodes.grow(episode, rule, cell, hold_ms, chosen.value, position)
        else:
            self.episodes.add_chosen(episode, chosen)
            episode.hold_ms = hold_ms
            episode.value = chosen.value
            episode.last_pos = position
            self.episodes.changed(episode)

    # metrics ------------------------------------------------------------------------------------

    def metric(
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
            self.episodes.close(episode, rule, cell)
            episode = None
        if len(window.pos) >= window.prune_at:
            self.episodes.prune(cell, window, slot, position)
        assert window.vals is not None
        assert rule.threshold is not None
        window.pos.append(position)
        window.pairs.append((position, event_id))
        window.vals.append((number, inner, None))
        window.last = cell.lasts[slot.index] = position
        metric.add(number)
        value = metric.value()
        if value is not None and rule.threshold.holds(value):
            metric.holding = True
            if rule.each:
                chosen = Chosen(position, value, None)
                self.episodes.start(rule, cell, key, position, event_id, source, chosen)
            elif episode is None:
                # Its end is looked for from the start, expiry by expiry.
                chosen = Chosen(position, value, None)
                self.episodes.start(rule, cell, key, position, event_id, source, chosen, t_ms)
            else:
                self.episodes.grow(episode, rule, cell, t_ms + rule.span_ms, value, position)
        else:
            metric.holding = False
            if episode is not None:
                # The event itself ended it: it held until the ms before.
                if episode.hold_ms >= t_ms:
                    episode.hold_ms = t_ms - 1
                    self.episodes.deadlines.put_end(episode.hold_ms + rule.span_ms, episode)
                episode.gap = True
                self.episodes.changed(episode)

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
                        self.episodes.changed(episode)
        metric.head = place + window.base

    def metric_chance_ms(self, episode: Episode, rule: Rule, cell: Cell, at_ms: int) -> int:
        """Up to when something can still prolong a metric's episode that held at a time.

        Looked at no further than the next expiry after that time.
        """
        window = cell.wins[rule.slots[0].index]
        metric = None if cell.extras is None else cell.extras.get(rule.index)
        if window is not None and metric is not None:
            self._expire_metric(rule, cell, window, metric, episode, (at_ms + 1) << SHIFT)
            self.episodes.changed(episode)
            place = metric.head - window.base
            if metric.holding and place < len(window.pos):
                next_ms: int = window.pos[place] >> SHIFT
                return next_ms + 2 * rule.span_ms
        return episode.hold_ms + rule.span_ms

    # absence ------------------------------------------------------------------------------------

    def _anchor(
        self, rule: Rule, cell: Cell, key: str, t_ms: int, position: int, event_id: str, source: Event,
        chosen: Chosen,
    ) -> None:  # fmt: skip
        anchor = Anchor(position, event_id, t_ms, 0)
        anchor.value = int(chosen.value)
        anchor.group = group_of(rule, key, source)
        anchor.fields = fields_of(rule, anchor.group, source)
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
            anchor.serial = self.episodes.deadlines.arm(anchor.due_ms, ANCHOR, (rule, key, anchor))

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
                found.append((*window.pairs[place], inner))
        found.sort(key=by_place)
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

    def anchor_due(self, what: tuple[Rule, str, Anchor], due_ms: int) -> None:
        """The time within which something was expected after an anchor is over: a match if it did not come."""
        rule, key, anchor = what
        cell = rule.keyspace.cells.get(key)
        assert type(cell) is Cell
        assert cell.extras is not None
        pending = cell.extras[rule.index]
        pending.remove(anchor)
        if not pending:
            del cell.extras[rule.index]
        if rule.keyspace.dirty is not None:
            rule.keyspace.dirty.add(key)
        at_ms = anchor.pos >> SHIFT
        last = ((due_ms + 1) << SHIFT) - 1
        first = (at_ms + 1) << SHIFT if rule.absent == "after" else (at_ms << SHIFT) - rule.span
        if not self._present(rule, cell, first, last, anchor):
            self._decided(rule, cell, key, due_ms, self.episodes.deadlines.position(due_ms), anchor)

    def _decided(self, rule: Rule, cell: Cell, key: str, t_ms: int, position: int, anchor: Anchor) -> None:
        """An absence is true at this instant: it opens, prolongs or is a match of its own."""
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        if episode is None:
            episode = Episode(rule.index, key, t_ms, position)
            episode.group = anchor.group
            episode.fields = anchor.fields
            episode.decided_by = anchor.id
            self.episodes.add_anchor(episode, anchor)
            episode.value = anchor.value
            episode.last_pos = position
            self.episodes.begin(episode, rule, cell)
            return
        self.episodes.add_anchor(episode, anchor)
        episode.hold_ms = t_ms
        episode.value = anchor.value
        self.episodes.changed(episode)

    # upper bounds -------------------------------------------------------------------------------

    def open_window(self, rule: Rule, key: str, cell: Cell, start_ms: int, last_event_ms: int) -> Tumble:
        """Lays the next of a group's consecutive windows, [start_ms, start_ms + span), and arms its end."""
        if cell.extras is None:
            cell.extras = {}
        tumble = Tumble(start_ms, start_ms + rule.span_ms, 0)
        tumble.last_event_ms = last_event_ms
        cell.extras[rule.index] = tumble
        tumble.serial = self.episodes.deadlines.arm(tumble.end_ms, WINDOW_END, (rule, key))
        return tumble

    def _into_window(
        self, rule: Rule, slot: Slot, cell: Cell, key: str, t_ms: int, position: int, event_id: str,
        source: Event, number: float | int | None = None, inner: Episode | None = None,
    ) -> None:  # fmt: skip
        tumble = None if cell.extras is None else cell.extras.get(rule.index)
        if tumble is None:
            tumble = self.open_window(rule, key, cell, t_ms, t_ms)
        tumble.last_event_ms = t_ms
        tumble.group = group_of(rule, key, source)
        tumble.fields = fields_of(rule, tumble.group, source)
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

    def window_end(self, what: tuple[Rule, str], due_ms: int) -> None:
        """A consecutive window is over: decides its value, and lays the next one."""
        rule, key = what
        cell = rule.keyspace.cells.get(key)
        assert type(cell) is Cell
        assert cell.extras is not None
        if rule.keyspace.dirty is not None:
            rule.keyspace.dirty.add(key)
        tumble: Tumble = cell.extras[rule.index]
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        value = self._window_value(rule, tumble)
        assert rule.threshold is not None
        if value is not None and rule.threshold.holds(value):
            position = self.episodes.deadlines.position(due_ms)
            first_ms = tumble.start_ms
            if rule.each or episode is None:
                made = Episode(rule.index, key, due_ms, position)
                made.group = tumble.group
                made.fields = tumble.fields
                made.value = value
                made.span_first_ms, made.span_last_ms = first_ms, due_ms
                self.episodes.add_window(made, tumble)
                made.decided_by = next((one for one in reversed(tumble.ids) if one), "")
                self.episodes.begin(made, rule, cell)
            else:
                self.episodes.add_window(episode, tumble)
                episode.hold_ms = due_ms
                episode.value = value
                episode.span_last_ms = due_ms
                self.episodes.changed(episode)
        if self.ending:
            del cell.extras[rule.index]
            return
        grouped = bool(rule.keyspace.names)
        if grouped and due_ms + rule.span_ms > tumble.last_event_ms + self.group_idle_ms:
            del cell.extras[rule.index]
            return
        following = Tumble(due_ms, due_ms + rule.span_ms, 0)
        following.last_event_ms = tumble.last_event_ms
        following.group, following.fields = tumble.group, tumble.fields
        cell.extras[rule.index] = following
        following.serial = self.episodes.deadlines.arm(following.end_ms, WINDOW_END, what)

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
