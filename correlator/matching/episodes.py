"""The life of an episode: it opens, has gaps, ends, and is told as a match.

Episodes of the shapes decided inline are **lazy**. While their condition holds they are not touched by
events: their members are the entries of the windows from `from_pos` on, and floor, last_pos and value
follow from the windows when somebody asks (`catch_up`). Windows keep the members of open episodes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import product
from operator import itemgetter
from typing import Any, Final, final

from msgspec.structs import replace

from correlator.events.event import Event
from correlator.events.ids import match_id
from correlator.events.threat import Match
from correlator.matching.deadlines import Deadlines
from correlator.matching.plan import Plan, Rule, Slot
from correlator.matching.records import EngineSettings
from correlator.matching.shapes import Chosen
from correlator.matching.state import NO_EPISODES, SHIFT, TIME, Anchor, Cell, Episode, Tumble, Window
from correlator.rules.fields import MISSING, keys_of
from correlator.rules.syntax import RuleHead

JOIN: Final = "\x1f"
FOREVER: Final = 1 << 63  # a position after all others
POSITION: Final = itemgetter(0)


@final
class Episodes:
    """Opens, ends and tells the episodes of one site. `out` collects matches in the order they are decided.

    keeps: whether episodes decided inline are kept; where only openings are told, those that no rule refers to are not.
    inner: episodes that just happened for the rules above them. dirty: episodes that changed since the last
    look, None if nobody looks.
    """

    def __init__(self, site: str, plan: Plan, settings: EngineSettings) -> None:
        self.site = site
        self.plan = plan
        self.out: list[Match] = []
        self.deadlines = Deadlines()
        self.inner: list[tuple[Rule, Episode]] = []
        self.dirty: set[Episode] | None = None
        self.dropped_window_events = 0
        self.max_members = settings.max_members
        self.max_window_events = settings.max_window_events
        self.tell_open = settings.tells != "final"
        self.keeps = settings.tells != "first"
        # What all matches of a rule, and of a detection that stands alone, have in common.
        self.rule_heads = [head_of(site, rule.key, rule.rule.head) for rule in plan.rules]
        self.single_heads = [head_of(site, one.head.key, one.head) for one in plan.detections]

    # ---- shapes decided inline -----------------------------------------------------------------

    def holds(
        self, rule: Rule, cell: Cell, key: str, position: int, event_id: str, source: Event, floor: int
    ) -> None:  # fmt: skip
        """The condition of a rule decided inline holds at this event and did not before, up to the expiry of
        what stands at `floor`."""
        place = rule.place
        if not self.keeps and rule.producer is None:
            self._first(rule, cell, key, position, event_id, source, floor)
            return
        episode = None if cell.eps is None else cell.eps.get(rule.index)
        if episode is not None:
            # It holds again, and all that came since is in the window: it came after the condition had ceased to
            # hold, and one timespan after that the episode would have ended.
            if rule.producer is not None:
                self.list_members(episode, rule, cell)
            episode.gap = False
            cell.dues[place] = floor + rule.span
            if self.dirty is not None:
                self.dirty.add(episode)
            return
        if cell.dues is rule.keyspace.no_dues:
            cell.dues = cell.dues.copy()
        cell.dues[place] = floor + rule.span
        episode = self._new(rule, key, position, event_id, source)
        episode.floor = floor
        episode.last_pos = position
        episode.value = rule.members or value_of(rule, cell, position, FOREVER)
        episode.from_pos = (position & TIME) - rule.span
        if cell.eps is None:
            cell.eps = {}
        self._enlist(episode, rule, cell, (floor >> SHIFT) + rule.span_ms)

    def lapses(self, rule: Rule, cell: Cell, position: int) -> None:
        """An event found that a rule decided inline does not hold any more: a gap, from before this event."""
        if not self.keeps and rule.producer is None:
            cell.dues[rule.place] = -self._over(rule, cell, position)
            return
        assert cell.eps is not None
        episode = cell.eps[rule.index]
        catch_up(episode, rule, cell, position)
        episode.gap = True
        cell.dues[rule.place] = -1
        if self.dirty is not None:
            self.dirty.add(episode)

    def _first(
        self, rule: Rule, cell: Cell, key: str, position: int, event_id: str, source: Event, floor: int
    ) -> None:  # fmt: skip
        """As `holds`, where only the opening is told: nothing is kept but up to when an episode goes on."""
        if cell.dues is rule.keyspace.no_dues:
            cell.dues = cell.dues.copy()
        due = cell.dues[rule.place]
        over = self._over(rule, cell, position) if due >= 0 else -due
        cell.dues[rule.place] = floor + rule.span
        if over >= position & TIME:
            return
        pairs = self._stretch(rule, cell, (position & TIME) - rule.span)
        value = rule.members or value_of(rule, cell, position, FOREVER)
        truncated = 0
        if len(pairs) > self.max_members:
            truncated = len(pairs) - self.max_members
            del pairs[self.max_members :]
        opened_ms = position >> SHIFT
        group = (key,) if rule.keyspace.names else ()
        self.out.append(
            replace(
                self.rule_heads[rule.index],
                id=match_id(self.site, rule.key, group, pairs[0][1], opened_ms),
                group=group_of(rule, key, source),
                first_ms=pairs[0][0] >> SHIFT,
                last_ms=opened_ms,
                opened_ms=opened_ms,
                decided_by=event_id,
                value=value,
                events=tuple([one for _, one in pairs]),
                truncated=truncated,
            )
        )

    def _over(self, rule: Rule, cell: Cell, before: int) -> int:
        """The position from which on an episode that held at its last event before another is over."""
        floor = max(cell.dues[rule.place] - rule.span, floor_of(rule, cell, before))
        return floor + 2 * rule.span

    def list_members(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        """Lists the members up to `last_pos` in the episode, for rules above it that will tell them."""
        if episode.last_pos < episode.from_pos:
            return
        pairs = self._members(episode, rule, cell)
        if len(pairs) > self.max_members:
            episode.truncated += len(pairs) - self.max_members
            episode.span_last_ms = max(episode.span_last_ms, pairs[-1][0] >> SHIFT)
            del pairs[self.max_members :]
        episode.pos = [at for at, _ in pairs]
        episode.ids = [one for _, one in pairs]
        episode.from_pos = episode.last_pos + 1
        episode.taken = None
        if self.dirty is not None:
            self.dirty.add(episode)

    def _members(self, episode: Episode, rule: Rule, cell: Cell) -> list[tuple[int, str]]:
        """(position, id) of the members up to `last_pos`, in total order, each once."""
        pairs = list(zip(episode.pos, episode.ids, strict=True)) if episode.ids else []
        slots, taken = rule.slot_set, episode.taken
        first, last = episode.from_pos, episode.last_pos
        for index in slots:
            window = cell.wins[index]
            if window is None or window.last < first:
                continue
            entries = window.pos
            begin = bisect_left(entries, first if taken is None else taken.get(index, first))
            if window.last > last:
                pairs += window.pairs[begin : bisect_left(entries, last + 1)]
            else:
                pairs += window.pairs[begin:]
        return _in_order(pairs, rule, cell)

    def _stretch(self, rule: Rule, cell: Cell, first: int) -> list[tuple[int, str]]:
        """(position, id) of what the windows of a rule hold from a position on, in total order, each once."""
        pairs: list[tuple[int, str]] = []
        for index in rule.slot_set:
            window = cell.wins[index]
            if window is not None and window.last >= first:
                pairs += window.pairs[bisect_left(window.pos, first) :]
        return _in_order(pairs, rule, cell)

    # ---- windows -------------------------------------------------------------------------------

    def prune(self, cell: Cell, window: Window, slot: Slot, position: int) -> None:
        """Drops entries that no rule can look at any more and no open episode has still to list.

        Of the latter a window keeps no more than an episode lists; over its own bound, the oldest go.
        """
        entries = window.pos
        cut = bisect_left(entries, (position & TIME) - slot.horizon)
        bound = False
        if len(entries) - cut > self.max_window_events:
            over = len(entries) - self.max_window_events
            self.dropped_window_events += over - cut
            cut = over
            bound = True
        if cut and cell.eps is not None:
            first = FOREVER
            for index, episode in cell.eps.items():
                if index in slot.inline and episode.from_pos < first:
                    first = episode.from_pos
            keep = bisect_left(entries, first, 0, cut)
            if bound or cut - keep > self.max_members:
                self._take(cell, window, slot, cut)
            else:
                cut = keep
        if cut:
            window.drop(cut)
        window.prune_at = max(32, 2 * len(window.pos))

    def _take(self, cell: Cell, window: Window, slot: Slot, cut: int) -> None:
        """Lists the members that stand among the first entries of a window, before it forgets them."""
        edge = window.pos[cut - 1]
        assert cell.eps is not None
        for index, episode in cell.eps.items():
            if index not in slot.inline or episode.from_pos > edge:
                continue
            upto = edge
            if episode.gap:
                upto = min(edge, episode.last_pos)
            elif self.plan.rules[index].form == "ordered":
                episode.floor = max(episode.floor, floor_of(self.plan.rules[index], cell, FOREVER))
                upto = min(edge, held_upto(episode, self.plan.rules[index]))
            if episode.taken is None:
                episode.taken = {}
            start = episode.taken.get(slot.index, episode.from_pos)
            if start > upto:
                continue
            episode.taken[slot.index] = upto + 1
            begin, end = bisect_left(window.pos, start), bisect_left(window.pos, upto + 1)
            room = max(self.max_members - len(episode.ids), 0)
            if end - begin > room:
                episode.truncated += end - begin - room
                episode.span_last_ms = max(episode.span_last_ms, window.pos[end - 1] >> SHIFT)
                end = begin + room
            episode.pos += window.pos[begin:end]
            episode.ids += [one for _, one in window.pairs[begin:end]]
            if self.dirty is not None:
                self.dirty.add(episode)

    # ---- every other shape ---------------------------------------------------------------------

    def changed(self, episode: Episode) -> None:
        """Notes that an episode is not as it was last written."""
        if self.dirty is not None:
            self.dirty.add(episode)

    def start(
        self, rule: Rule, cell: Cell, key: str, position: int, event_id: str, source: Event, chosen: Chosen,
        holds_ms: int = -1,
    ) -> None:  # fmt: skip
        """Opens an episode (`each`: makes a match) of a rule off the fast path."""
        episode = self._new(rule, key, position, event_id, source)
        episode.floor = chosen.floor
        episode.hold_ms = (chosen.floor >> SHIFT) + rule.span_ms
        episode.value = chosen.value
        if chosen.entries is not None:
            self.add_chosen(episode, chosen)
        else:
            self._look_back(episode, rule, cell, position)
        episode.last_pos = position
        self.begin(episode, rule, cell, holds_ms)

    def grow(
        self, episode: Episode, rule: Rule, cell: Cell, hold_ms: int, value: float | int | None, position: int
    ) -> None:
        """The condition holds, so the window's new events are members."""
        episode.hold_ms = hold_ms
        episode.value = value
        self._look_back(episode, rule, cell, position)
        episode.gap = False
        episode.last_pos = position
        if self.dirty is not None:
            self.dirty.add(episode)

    def _look_back(self, episode: Episode, rule: Rule, cell: Cell, position: int) -> None:
        """Takes in what the windows hold and the episode has not taken yet, in total order."""
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
                found.append((*window.pairs[place], inner))
        found.sort(key=by_place)
        for at, one, inner in found:
            if inner is None:
                if at > taken:
                    self._member(episode, at, one)
            else:
                episode.add_inner(inner)

    def add_chosen(self, episode: Episode, chosen: Chosen) -> None:
        """Takes in the chosen events of conditions between events, each once."""
        assert chosen.entries is not None
        have = set(episode.ids)
        for at, one, inner in chosen.entries:
            if inner is not None:
                episode.add_inner(inner)
            elif one not in have:
                self._member(episode, at, one)

    def add_anchor(self, episode: Episode, anchor: Anchor) -> None:
        """Takes in what stood in the window of an absence's anchor, each once."""
        have = set(episode.ids)
        for at, one in zip(anchor.members, anchor.ids, strict=True):
            if one not in have:
                self._member(episode, at, one)
        for inner in anchor.inner:
            episode.add_inner(inner)

    def add_window(self, episode: Episode, tumble: Tumble) -> None:
        """Takes in the entries of a consecutive window."""
        for at, one in zip(tumble.pos, tumble.ids, strict=True):
            if one:
                self._member(episode, at, one)
        for inner in tumble.inner:
            episode.add_inner(inner)

    def _member(self, episode: Episode, at: int, event_id: str) -> None:
        if len(episode.ids) < self.max_members:
            episode.pos.append(at)
            episode.ids.append(event_id)
        else:
            episode.truncated += 1
            episode.span_last_ms = at >> SHIFT

    # ---- opening and ending --------------------------------------------------------------------

    def _new(self, rule: Rule, key: str, position: int, event_id: str, source: Event) -> Episode:
        episode = Episode(rule.index, key, position >> SHIFT, position)
        episode.group = group_of(rule, key, source)
        if rule.producer is not None:
            episode.fields = fields_of(rule, episode.group, source)
        episode.decided_by = event_id
        return episode

    def begin(self, episode: Episode, rule: Rule, cell: Cell, holds_ms: int = -1) -> None:
        """A new episode off the fast path: its place in the group, its first report, the rules above it.

        holds_ms: up to when it is known to hold, where that does not follow from the episode.
        """
        if rule.each:
            episode.open = False
            if not rule.quiet:
                self._final(episode, rule, cell)
            if rule.producer is not None:
                self.identify(episode, rule, cell)
                self.inner.append((rule, episode))
            return
        if cell.eps is None:
            cell.eps = {}
        self._enlist(episode, rule, cell, episode.hold_ms if holds_ms < 0 else holds_ms)

    def _enlist(self, episode: Episode, rule: Rule, cell: Cell, holds_ms: int) -> None:
        """A new episode of a group, known to hold up to a time."""
        assert cell.eps is not None
        cell.eps[rule.index] = episode
        if self.dirty is not None:
            self.dirty.add(episode)
        self.deadlines.arm_end(holds_ms + rule.span_ms, episode)
        producer = rule.producer
        if producer is not None and rule.place >= 0:
            self.list_members(episode, rule, cell)
        if self.tell_open and not rule.quiet:
            episode.told = True
            self.out.append(self.told(episode, rule, cell, "open"))
        if producer is not None:
            self.identify(episode, rule, cell)
            self.inner.append((rule, episode))

    def identify(self, episode: Episode, rule: Rule, cell: Cell, evidence: str = "") -> None:
        """Gives an episode its id, which derives from site, rule, group, first evidence and opening time.

        Match by match (`each`) several share their first evidence: there the deciding event tells them apart.
        evidence: the first evidence where it is known.
        """
        if episode.id:
            return
        if evidence:
            pass
        elif rule.each and episode.decided_by:
            evidence = episode.decided_by
        elif episode.ids:
            evidence = episode.ids[episode.pos.index(min(episode.pos))]
        elif episode.from_pos >= 0:
            evidence = _first_evidence(rule, cell, episode.from_pos)
        elif episode.inner:
            evidence = episode.inner[0].id
        else:
            evidence = episode.decided_by or f"window {episode.span_first_ms}"
        group = (episode.key,) if rule.keyspace.names else ()
        episode.id = match_id(self.site, rule.key, group, evidence, episode.opened_ms)

    def last_chance_ms(self, episode: Episode, rule: Rule, cell: Cell) -> int:
        """Up to when something can still prolong an episode if nothing more comes."""
        place = rule.place
        if place < 0:
            return episode.hold_ms + rule.span_ms
        if cell.dues[place] >= 0:
            episode.floor = max(episode.floor, floor_of(rule, cell, FOREVER))
            cell.dues[place] = episode.floor + rule.span
        return (episode.floor >> SHIFT) + 2 * rule.span_ms

    def close(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        """Ends an episode that has just been looked at (`last_chance_ms`, where it is decided inline); it is
        reported once every inner match has its final form."""
        assert cell.eps is not None
        if rule.place >= 0:
            if cell.dues[rule.place] >= 0:
                settle(episode, rule, cell, FOREVER)
                cell.dues[rule.place] = -1
            if rule.producer is not None:
                self.list_members(episode, rule, cell)
        if not episode.id and (rule.place < 0 or rule.quiet):
            self.identify(episode, rule, cell)  # else telling it does so, which sorts its members anyway
        episode.open = False
        del cell.eps[rule.index]
        if not cell.eps:
            cell.eps = None
        dirty = rule.keyspace.dirty
        if dirty is not None:
            dirty.add(episode.key)
        self._end(episode, rule, cell)

    def _end(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        if self.dirty is not None:
            self.dirty.add(episode)
        running = next((inner for inner in _all_inner(episode) if inner.open), None) if episode.inner else None
        if running is not None:
            running.waiting = [*running.waiting, episode]
            if self.dirty is not None:
                self.dirty.add(running)
            return
        if not rule.quiet:
            self._final(episode, rule, cell)
        waiting, episode.waiting = episode.waiting, NO_EPISODES
        for outer in waiting:
            # An outer rule is none of those decided inline: its members are listed, wherever it stood.
            self._end(outer, self.plan.rules[outer.rule], cell)

    def _final(self, episode: Episode, rule: Rule, cell: Cell) -> None:
        if episode.told:
            if not self.keeps:
                return
            episode.revision += 1
        episode.told = True
        self.out.append(self.told(episode, rule, cell, "final"))

    # ---- matches -------------------------------------------------------------------------------

    def told(self, episode: Episode, rule: Rule, cell: Cell, state: str) -> Match:
        """The match message of an episode as it stands; cell: its group, where the rule is decided inline."""
        pairs = self._members(episode, rule, cell) if rule.place >= 0 else _flat(episode)
        if not episode.id:
            self.identify(episode, rule, cell, pairs[0][1] if rule.place >= 0 else "")
        last_ms = pairs[-1][0] >> SHIFT if pairs else episode.span_last_ms
        truncated = episode.truncated
        if truncated:
            last_ms = max(last_ms, episode.span_last_ms)
        if len(pairs) > self.max_members:
            truncated += len(pairs) - self.max_members
            del pairs[self.max_members :]
        value = episode.value
        # Over a template of the rule: a call with more than 15 named fields costs several times as much.
        return replace(
            self.rule_heads[rule.index],
            id=episode.id,
            group=episode.group,
            first_ms=pairs[0][0] >> SHIFT if pairs else episode.span_first_ms,
            last_ms=last_ms,
            opened_ms=episode.opened_ms,
            decided_by=episode.decided_by,
            value=round(value, 6) if type(value) is float else value,
            events=tuple([one for _, one in pairs]),
            inner=tuple([inner.id for inner in episode.inner]) if episode.inner else (),
            state=state,
            revision=episode.revision,
            truncated=truncated,
        )

    def single(self, number: int, event: Event, early: bool = False) -> Match:
        """The match of a detection that stands alone: one episode an event."""
        time_ms = event.time_ms
        head = self.single_heads[number]
        return replace(
            head,
            id=match_id(self.site, head.rule, (), event.id, time_ms),
            first_ms=time_ms,
            last_ms=time_ms,
            opened_ms=time_ms,
            decided_by=event.id,
            events=(event.id,),
            state="final",
            early=early,
            late=event.late_ms > 0,
        )

    def open_matches(self) -> list[Match]:
        """What is still open, as it stands, in the order it was opened.

        An episode that has ended but waits for the final form of an inner one is open too.
        """
        found: dict[str, tuple[Episode, Cell]] = {}
        todo: list[tuple[Episode, Cell]] = []
        rules = self.plan.rules
        for keyspace in self.plan.keyspaces:
            for cell in keyspace.cells.values():
                if type(cell) is not Cell or cell.eps is None:
                    continue
                for index, episode in cell.eps.items():
                    rule = rules[index]
                    if rule.place >= 0:
                        if not episode.gap:
                            catch_up(episode, rule, cell, FOREVER)
                        if rule.producer is not None:
                            self.list_members(episode, rule, cell)
                    self.identify(episode, rule, cell)
                    todo.append((episode, cell))
        while todo:
            episode, cell = todo.pop()
            found[episode.id] = episode, cell
            todo.extend((outer, cell) for outer in episode.waiting)
        ordered = sorted(found.values(), key=lambda one: (one[0].opened_pos, one[0].serial, one[0].id))
        return [self.told(one, rules[one.rule], cell, "open") for one, cell in ordered if not rules[one.rule].quiet]


# ---- what follows from the windows of a shape decided inline --------------------------------------


def catch_up(episode: Episode, rule: Rule, cell: Cell, before: int) -> None:
    """Brings floor, last_pos and value of an episode that held up to its last event before a position."""
    # It only moves on; where a flood pushed its event out of the window, it stays.
    episode.floor = max(episode.floor, floor_of(rule, cell, before))
    settle(episode, rule, cell, before)


def settle(episode: Episode, rule: Rule, cell: Cell, before: int) -> None:
    """As `catch_up`, where floor is known."""
    if rule.form == "ordered":
        # Events of earlier steps are looked at only here: those after its expiry are no members.
        before = min(before, held_upto(episode, rule) + 1)
    last = -1
    for index in rule.slot_set:
        at = cell.lasts[index]
        if at >= before:
            at = _last_before(cell.wins[index], before)
        if at > last:
            last = at
    episode.last_pos = last
    episode.value = rule.members or value_of(rule, cell, last, before)


def floor_of(rule: Rule, cell: Cell, before: int) -> int:
    """The position whose expiry ends the condition of a rule that held at its last event before a position."""
    form, lasts = rule.form, cell.lasts
    if form == "ordered":
        step = rule.seq[-1]
        at = lasts[step]
        return chain_start(rule, cell, at if at < before else _last_before(cell.wins[step], before), 0)
    if form == "all":
        floor = FOREVER
        for index in rule.slot_set:
            at = lasts[index]
            if at >= before:
                at = _last_before(cell.wins[index], before)
            if at < floor:
                floor = at
        return floor
    window = cell.wins[rule.slot_set[0]]
    assert window is not None
    place = bisect_left(window.pos, before)
    if form == "count":
        return window.pos[max(place - rule.k, 0)]
    assert window.vals is not None
    seen: set[str] = set()
    while place and len(seen) < rule.k:
        place -= 1
        seen.add(window.vals[place])
    return window.pos[place]


def value_of(rule: Rule, cell: Cell, last: int, before: int) -> int:
    """The count or distinct count at the last event before a position, which stands at `last`."""
    window = cell.wins[rule.slot_set[0]]
    assert window is not None
    end = bisect_left(window.pos, before)
    first = bisect_left(window.pos, (last & TIME) - rule.span)
    if rule.form == "count":
        return end - first
    assert window.vals is not None
    return len(set(window.vals[first:end]))


def chain_start(rule: Rule, cell: Cell, at: int, oldest: int) -> int:
    """Where the latest chain begins whose last event stands at a position; -1 if before `oldest`.

    From that event back, always the latest event before.
    """
    lasts = cell.lasts
    for step in rule.back:
        last = lasts[step]
        if last < at:
            at = last
        else:
            window = cell.wins[step]
            assert window is not None
            place = bisect_left(window.pos, at)
            at = window.pos[place - 1] if place else -1
        if at < oldest:
            return -1
    return at


def held_upto(episode: Episode, rule: Rule) -> int:
    """The last position at which the condition of a rule decided inline holds without further events."""
    return episode.floor + rule.span | ~TIME


def head_of(site: str, rule: str, head: RuleHead) -> Match:
    """What all matches of a rule have in common."""
    return Match(
        id="", site=site, rule=rule, title=head.title, level=head.level, first_ms=0, last_ms=0, opened_ms=0,
        threat_type=head.threat_type, asset=head.asset, tags=head.tags,
    )  # fmt: skip


def held_ms(episode: Episode, rule: Rule) -> int:
    """Last instant at which the condition holds without further events."""
    return (episode.floor >> SHIFT) + rule.span_ms if rule.place >= 0 else episode.hold_ms


def _last_before(window: Window | None, before: int) -> int:
    """The last position of a window whose last is not before a position."""
    assert window is not None
    entries = window.pos
    place = len(entries) - 2  # mostly it is the last but one
    if place < 0 or entries[place] >= before:
        place = bisect_left(entries, before) - 1
    return entries[place] if place >= 0 else -1


def _first_evidence(rule: Rule, cell: Cell, from_pos: int) -> str:
    """Id of the first event from a position on in the windows of a rule."""
    first, evidence = FOREVER, ""
    for index in rule.slot_set:
        window = cell.wins[index]
        if window is not None and window.last >= from_pos:
            place = bisect_left(window.pos, from_pos)
            if window.pos[place] < first:
                first, evidence = window.pairs[place]
    return evidence


# ---- members ------------------------------------------------------------------------------------


def _in_order(pairs: list[tuple[int, str]], rule: Rule, cell: Cell) -> list[tuple[int, str]]:
    if len(rule.slot_set) > 1 or rule.form == "distinct":
        # Several windows, or one that holds an event once per value.
        pairs.sort(key=POSITION)
        if cell.doubled or len(rule.slot_set) == 1:
            pairs = list(dict.fromkeys(pairs))
    return pairs


def by_place(entry: tuple[int, str, Episode | None]) -> tuple[int, str]:
    """Sorts what windows hold in total order, inner matches of one event by id."""
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


# ---- groups -------------------------------------------------------------------------------------


def group_of(rule: Rule, key: str, source: Event) -> dict[str, Any]:
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


def fields_of(rule: Rule, group: dict[str, Any], source: Event) -> dict[str, Any]:
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


def joint_keys(values: Sequence[Any]) -> Sequence[str]:
    """Keys of several fields together: every combination; none if one is missing."""
    if len(values) == 1:
        value = values[0]
        if type(value) is str:
            return (value,) if value else ()
        return () if value is MISSING else keys_of(value)
    each = [() if value is MISSING else keys_of(value) for value in values]
    return [JOIN.join(combination) for combination in product(*each)]
