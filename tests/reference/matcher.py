"""A slow matcher that follows docs/rules.md word by word, to compare the engine with.

It imports the event struct and the rule syntax and nothing else of the product. It keeps every event
in a list and recomputes every window from scratch, so that each function can be read against the
paragraph of docs/rules.md that its comment names. It knows no site model: predicates of
`where` other than same, different and greater are refused, and so is a field that only a site resolves.

Order of reading: `match` (the whole), `Happening` (what a window holds), `_event_decided`,
`_window_decided`, `_absence_decided` (the three ways a correlation is decided), `_Chain` (who is who).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_address, ip_network
from typing import Any

from correlator.events import KINDS, Event
from correlator.rules.syntax import (
    All,
    Any_,
    CorrelationRule,
    DetectionRule,
    FieldTest,
    Not,
    RuleRef,
    RuleSet,
    Threshold,
    Where,
    Wild,
)

DAY_MS = 86_400_000
ABSENT = object()
Place = tuple[Any, ...]
Look = Callable[[str], Any]


class NotCovered(Exception):
    """The rule asks for something that this matcher leaves to hand-worked vectors."""


@dataclass(slots=True)
class Found:
    """One match. `group` maps the rule's group-by names to values as the deciding event wrote them."""

    rule: str
    group: dict[str, Any]
    first_ms: int
    last_ms: int
    value: float | int | None
    events: tuple[str, ...]
    opened_ms: int
    open: bool


@dataclass(slots=True)
class Episode:
    """A match in the making; `pieces` are all happenings it has taken in."""

    place: Place
    opened_ms: int
    look: Look
    group: dict[str, Any]
    pieces: list[Happening] = field(default_factory=list)
    value: float | int | None = None
    silent_from_ms: int = 0
    silent_to_ms: int = 0
    last_chance_ms: float = 0

    def take(self, members: list[Seen]) -> None:
        """Members are taken in once."""
        self.pieces += [one.it for one in members if not any(one.it is piece for piece in self.pieces)]


@dataclass(slots=True, eq=False)
class Happening:
    """What a rule contributes to a window: an event, or an inner match at the time it was decided.

    place: where it stands in the total order. An event: (time_ms, 0, sub_ns, source, seq, id).
    A deadline: (time_ms, 1, how many rules lie below it, place of what created it, rank of the
    rule, key of the group), so after all events of its millisecond, and after what happens below it then. An inner match has the place of the event or deadline that opened it.
    """

    t_ms: int
    place: Place
    look: Look
    event: Event | None = None
    inner: Episode | None = None

    @property
    def same(self) -> object:
        """What makes it one thing, whatever the rule that saw it: the event, or the inner match."""
        return self.event.id if self.event else id(self.inner)


@dataclass(slots=True)
class Seen:
    """A happening as a listed rule sees it: the rule's key, and its group values as written."""

    key: str
    it: Happening
    group: dict[str, Any]


def match(
    rules: RuleSet,
    events: Iterable[Event],
    lateness_ms: int,
    until_ms: int | None = None,
    group_idle_ms: int = 7 * DAY_MS,
) -> list[Found]:
    """All matches of rules that print, by (opened_ms, rule, group).

    events: of one site, any order, ids unique. until_ms None closes everything at end of input
    (`open_at_end`); else nothing after it is folded and what can still grow is `open`.
    """
    run = _Run(rules, list(events), lateness_ms, until_ms, group_idle_ms)
    return run.all_matches()


def group_key(value: Any) -> str | None:
    """`key_1_and_text_1_same`, `missing_key_joins_nothing`: the key of one value, None if it has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, str) and value:
        return value
    return None


class _Run:
    def __init__(
        self, rules: RuleSet, events: list[Event], lateness_ms: int, until_ms: int | None, group_idle_ms: int
    ) -> None:
        self.rules = rules
        self.until_ms = until_ms
        self.group_idle_ms = group_idle_ms
        self.lateness_ms = lateness_ms
        self.ranks = {key: rank for rank, key in enumerate(rules.correlations)}
        # `late_takes_no_part_in_windows`: a late event is folded at received - lateness.
        folded = []
        for event in events:
            late = event.received_ms - event.time_ms > lateness_ms
            fold_ms = event.received_ms - lateness_ms if late else event.time_ms
            if until_ms is None or fold_ms <= until_ms:
                folded.append((fold_ms, late, event))
        self.folded = sorted(folded, key=lambda one: (one[0], event_place(one[2])))
        self.first_ms = min((fold_ms for fold_ms, _, _ in folded), default=None)
        self.end_ms = max((fold_ms for fold_ms, _, _ in folded), default=0)
        self.order = {event.id: event_place(event) for _, _, event in folded}
        self.happenings: dict[str, list[Happening]] = {}

    def all_matches(self) -> list[Found]:
        out: list[Found] = []
        for key, detection in self.rules.detections.items():
            out += self.detect(key, detection)
        for key, correlation in self.rules.correlations.items():
            out += self.correlate(key, correlation)
        reported = [found for found in out if found.rule not in self.rules.used]
        return sorted(
            reported,
            key=lambda found: (found.opened_ms, found.rule, sorted(_shown(found)), found.first_ms, found.events),
        )

    # ---- detections ---------------------------------------------------------------------------

    def detect(self, key: str, rule: DetectionRule) -> list[Found]:
        """`detection_one_episode_an_event`."""
        out = []
        self.happenings[key] = []
        for _, late, event in self.folded:
            look = event_look(event)
            if not (logsource_fits(rule) and tree_holds(rule.condition, event, look)):
                continue
            if not all(_predicate(where, [look] * len(where.operands)) for where in rule.head.where):
                continue
            out.append(Found(key, {}, event.time_ms, event.time_ms, None, (event.id,), event.time_ms, False))
            if not late:
                self.happenings[key].append(Happening(event.time_ms, event_place(event), look, event))
        return out

    # ---- correlations -------------------------------------------------------------------------

    def correlate(self, key: str, rule: CorrelationRule) -> list[Found]:
        episodes: list[Episode] = []
        for group, seen in self.groups(rule).items():
            for part, forgotten_ms in self.until_forgotten(rule, seen):
                if _negated(rule):
                    episodes += self._absence_decided(rule, group, part, forgotten_ms)
                elif isinstance(rule.condition, Threshold) and rule.condition.needs_window_end:
                    episodes += self._window_decided(rule, group, part, forgotten_ms)
                else:
                    episodes += self._event_decided(rule, part, forgotten_ms)
        episodes.sort(key=lambda episode: episode.place)
        # `inner_happens_when_decided`: once, when it opens.
        self.happenings[key] = [
            Happening(episode.opened_ms, episode.place, episode.look, None, episode) for episode in episodes
        ]
        return [self.found(key, episode) for episode in episodes]

    def depth(self, rule: CorrelationRule) -> int:
        """0 for a rule over detections, one more than the deepest inner rule else."""
        inner = [self.rules.correlations[key] for key in rule.rules if key in self.rules.correlations]
        return 1 + max(map(self.depth, inner)) if inner else 0

    def found(self, key: str, episode: Episode) -> Found:
        """`first_last_of_members`, `inner_members`, `open_at_end`."""
        ids = sorted(self.member_ids(episode), key=lambda one: self.order[one])
        first, last = episode.silent_from_ms, episode.silent_to_ms
        if ids:
            first, last = self.order[ids[0]][0], self.order[ids[-1]][0]
        return Found(
            key, episode.group, first, last, episode.value, tuple(ids), episode.opened_ms, self.is_open(episode)
        )

    def is_open(self, episode: Episode) -> bool:
        """Whether it may still grow after `until`, itself or through an inner match."""
        if self.until_ms is None:
            return False
        inner = [piece.inner for piece in episode.pieces if piece.inner is not None]
        return episode.last_chance_ms > self.until_ms or any(self.is_open(one) for one in inner)

    def member_ids(self, episode: Episode) -> set[str]:
        ids: set[str] = set()
        for piece in episode.pieces:
            if piece.event is not None:
                ids.add(piece.event.id)
            elif piece.inner is not None:
                ids |= self.member_ids(piece.inner)
        return ids

    def groups(self, rule: CorrelationRule) -> dict[tuple[str, ...], list[Seen]]:
        """Section 3: every happening of a listed rule, under each group it joins, in total order."""
        out: dict[tuple[str, ...], list[Seen]] = {}
        if not rule.group_by:
            out[()] = []  # `no_group_by_one_group`
        for key in dict.fromkeys(rule.rules):
            for it in self.happenings.get(key, ()):
                if not (_counts(rule, key, it) and _is_member(rule, Seen(key, it, {}))):
                    continue  # neither in the group for this rule nor the start of its windows
                for group, written in _groups_of(rule, key, it.look):
                    out.setdefault(group, []).append(Seen(key, it, written))
        for seen in out.values():
            seen.sort(key=lambda one: one.it.place)
        return out

    def until_forgotten(self, rule: CorrelationRule, seen: list[Seen]) -> Iterator[tuple[list[Seen], float]]:
        """`group_forgotten`: the happenings between two forgettings, and when the second falls."""
        if not rule.group_by:
            yield seen, math.inf
            return
        part: list[Seen] = []
        for one in seen:
            if part and one.it.t_ms > part[-1].it.t_ms + self.group_idle_ms:
                yield part, part[-1].it.t_ms + self.group_idle_ms
                part = []
            part.append(one)
        if part:
            yield part, part[-1].it.t_ms + self.group_idle_ms

    # ---- gt, gte, temporal: decided at events -----------------------------------------------------

    def _event_decided(self, rule: CorrelationRule, seen: list[Seen], forgotten_ms: float) -> list[Episode]:
        """Section 4. The condition is looked at at each event of the group, over [t - T, t]."""
        span = rule.timespan_ms
        episodes: list[Episode] = []
        held_until: float = -math.inf  # last instant at which the condition held, as known so far
        found_ms: float = -math.inf  # last event that found it true
        for place, now in _instants(seen):
            t = now[0].it.t_ms
            window = [one for one in seen if one.it.place <= place and t - span <= one.it.t_ms]
            value, holds = _decide(rule, window, place)
            if rule.select == "each" and not _completes(rule, window, place):
                continue
            if holds:
                if not (t <= held_until + span and rule.select == "episode"):
                    episodes.append(Episode(place, t, _fields_of(now[-1]), now[-1].group))
                    episodes[-1].silent_from_ms = t - span
                episodes[-1].silent_to_ms = t
                episodes[-1].value = value
                episodes[-1].take(_members(rule, window, place))
                found_ms = t
                held_until = max(held_until, _held_until(rule, window, place))
            elif rule.type in METRICS:
                # An event can make a metric false: the last instant of truth is the one before.
                held_until = min(held_until, max(t - 1, found_ms))
            if episodes and rule.select == "episode":
                episodes[-1].last_chance_ms = min(held_until + span, forgotten_ms)
        return episodes

    # ---- lt, lte, eq, neq: decided at the end of consecutive windows --------------------------------

    def _window_decided(
        self, rule: CorrelationRule, group: tuple[str, ...], seen: list[Seen], forgotten_ms: float
    ) -> list[Episode]:
        """`upper_bounds_at_window_end`."""
        if not rule.group_by:
            if self.first_ms is None:
                return []
            from_ms, created = self.first_ms, (self.first_ms, 0, *event_place(self.folded[0][2])[2:])
        else:
            from_ms, created = seen[0].it.t_ms, seen[0].it.place
        span = rule.timespan_ms
        input_end_ms = max([self.end_ms] + [one.it.t_ms for one in seen])
        episodes: list[Episode] = []
        held_until: float = -math.inf
        first_window = True
        while True:
            to_ms = from_ms + span
            if to_ms > forgotten_ms:
                break
            if self.until_ms is not None and to_ms > self.until_ms:
                break
            if self.until_ms is None and not (first_window or from_ms < input_end_ms):
                break
            deadline = (to_ms, 1, self.depth(rule), created, self.ranks[rule.head.key], group)
            window = [
                one for one in seen if from_ms < one.it.t_ms <= to_ms or (first_window and one.it.t_ms == from_ms)
            ]
            value, holds = _decide(rule, window, None)
            if holds:
                if not (to_ms <= held_until + span and rule.select == "episode"):
                    last = window[-1] if window else None
                    known = [one for one in seen if one.it.t_ms <= to_ms]
                    written = known[-1].group if known else {}
                    look = _fields_of(last) if last else _group_fields(written)
                    episodes.append(Episode(deadline, to_ms, look, last.group if last else written))
                    episodes[-1].silent_from_ms = from_ms
                episodes[-1].silent_to_ms = to_ms
                episodes[-1].value = value
                episodes[-1].take(window)
                held_until = to_ms
                episodes[-1].last_chance_ms = min(to_ms + span, forgotten_ms) if rule.select == "episode" else to_ms
            from_ms, created, first_window = to_ms, deadline, False
        return episodes

    # ---- absence ------------------------------------------------------------------------------

    def _absence_decided(
        self, rule: CorrelationRule, group: tuple[str, ...], seen: list[Seen], forgotten_ms: float
    ) -> list[Episode]:
        """Section 6. Each event at which the positive part holds is an anchor with one decision."""
        span = rule.timespan_ms
        negated = _negated(rule)
        positive = [one for one in seen if one.key not in negated]
        episodes: list[Episode] = []
        held_until: float = -math.inf
        for place, now in _instants(positive):
            t = now[0].it.t_ms
            window = [one for one in positive if one.it.place <= place and t - span <= one.it.t_ms]
            value, holds = _decide(rule, window, place)
            if not holds or not _completes(rule, window, place):
                continue
            chosen = _chosen(rule, window, place)
            decided_ms, decided = t, place
            if rule.absent in ("after", "around"):
                decided_ms, decided = t + span, (t + span, 1, self.depth(rule), place, self.ranks[rule.head.key], group)
            if decided_ms > forgotten_ms or (self.until_ms is not None and decided_ms > self.until_ms):
                continue
            if any(_is_in_the_way(rule, one, t, chosen) for one in seen if one.key in negated):
                continue
            if not (decided_ms <= held_until + span and rule.select == "episode"):
                episodes.append(Episode(decided, decided_ms, _fields_of(now[-1]), now[-1].group))
                episodes[-1].silent_from_ms = t - span
            episodes[-1].silent_to_ms = decided_ms
            episodes[-1].value = value
            episodes[-1].take(_members(rule, window, place))
            held_until = decided_ms
            if rule.select == "episode":
                episodes[-1].last_chance_ms = min(decided_ms + span, forgotten_ms)
        return episodes


METRICS = ("value_sum", "value_avg", "value_percentile", "value_median")


def _is_in_the_way(rule: CorrelationRule, x: Seen, t: int, chosen: dict[int, Seen]) -> bool:
    """Whether an event of the absent rule counts as present for the anchor at t."""
    span = rule.timespan_ms
    if rule.absent == "around":
        near = t - span <= x.it.t_ms <= t + span
    elif rule.absent == "after":
        near = t < x.it.t_ms <= t + span
    elif rule.absent == "before":
        near = t - span <= x.it.t_ms < t
    else:
        places = [one.it.place for one in chosen.values()]
        near = min(places) < x.it.place < max(places)
    # `where_on_absent`
    step = _steps(rule).index(x.key)
    naming = [where for where in rule.head.where if any(operand.step == step for operand in where.operands)]
    return near and all(_where_holds(rule, where, {**chosen, step: x}) for where in naming)


def _instants(seen: list[Seen]) -> Iterator[tuple[Place, list[Seen]]]:
    """Places in total order with what stands at each: one look at the condition a place."""
    for place, now in itertools.groupby(seen, key=lambda one: one.it.place):
        yield place, list(now)


def _held_until(rule: CorrelationRule, window: list[Seen], place: Place) -> float:
    """`holds_until_expiry`: the last instant at which a window found true is true with no further events."""
    for t in sorted({one.it.t_ms for one in window}):
        gone_ms = t + rule.timespan_ms + 1
        left = [one for one in window if one.it.t_ms >= gone_ms - rule.timespan_ms]
        if not _decide(rule, left, place)[1]:
            return gone_ms - 1
    return math.inf


# ---- section 5: what a window says -----------------------------------------------------------------


def _decide(rule: CorrelationRule, window: list[Seen], place: Place | None) -> tuple[float | int | None, bool]:
    """(value, whether the condition holds) for what is in a window; for absences of the positive part.

    place: the event at which it is looked at, None at a window's end.
    """
    condition = rule.condition
    if rule.type in ("temporal", "temporal_ordered"):
        chosen = _chosen(rule, window, place)
        if rule.head.where and rule.type == "temporal":
            present = {_steps(rule)[step] for step in chosen}
        else:
            present = {one.key for one in window}
        if rule.type == "temporal_ordered":
            if isinstance(condition, Threshold) or any(type(part) is not RuleRef for part in _split(condition)[0]):
                raise NotCovered("temporal_ordered with another condition than `a and b and not x`")
            return len(present), bool(chosen)
        if isinstance(condition, Threshold):
            return len(present), condition.holds(len(present))
        return len(present), _present(_positive_part(condition), present)
    value = _aggregate(rule, window)
    return value, value is not None and condition.holds(value)


def _aggregate(rule: CorrelationRule, window: list[Seen]) -> float | int | None:
    if rule.type == "event_count":
        return len({one.it.same for one in window})
    if rule.type == "value_count":
        return len({values for one in window for values in _value_tuples(rule, one)})
    numbers: dict[object, Fraction] = {}
    for one in window:
        number = _number(_read(rule, one)(rule.fields[0]))
        if number is not None:
            numbers.setdefault(one.it.same, number)
    if not numbers:
        return None
    ranked = sorted(numbers.values())
    n = len(ranked)
    if rule.type == "value_sum":
        result = sum(ranked, Fraction(0))
    elif rule.type == "value_avg":
        result = sum(ranked, Fraction(0)) / n
    elif rule.type == "value_percentile":
        result = ranked[max(math.ceil(Fraction(str(rule.percentile)) / 100 * n), 1) - 1]
    else:
        result = (ranked[(n - 1) // 2] + ranked[n // 2]) / 2
    return float(result)


def _is_member(rule: CorrelationRule, one: Seen) -> bool:
    """`value_count_distinct`, `metric_numbers_only`: whether an event counts at all."""
    if rule.type == "value_count":
        return bool(_value_tuples(rule, one))
    if rule.type in METRICS:
        return _number(_read(rule, one)(rule.fields[0])) is not None
    return True


def _value_tuples(rule: CorrelationRule, one: Seen) -> list[tuple[str, ...]]:
    read = _read(rule, one)
    choices = []
    for name in rule.fields:
        value = read(name)
        elements = value if isinstance(value, list | tuple) else [value]
        choices.append([key for key in map(_value_key, elements) if key is not None])
    return list(itertools.product(*choices))


def _value_key(value: Any) -> str | None:
    return "" if value == "" and isinstance(value, str) else group_key(value)


NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def _number(value: Any) -> Fraction | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Fraction(str(value)) if math.isfinite(value) else None
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return Fraction(value)
    return None


def _present(tree: Any, present: set[str]) -> bool:
    if isinstance(tree, RuleRef):
        return tree.key in present
    if isinstance(tree, All):
        return all(_present(part, present) for part in tree.parts)
    if isinstance(tree, Any_):
        return any(_present(part, present) for part in tree.parts)
    raise NotCovered(f"a condition with {tree!r}")


def _negated(rule: CorrelationRule) -> set[str]:
    """The rules that must be absent; empty for a rule without absence."""
    return set() if isinstance(rule.condition, Threshold) else _split(rule.condition)[1]


def _positive_part(condition: Any) -> Any:
    return All(tuple(_split(condition)[0]))


def _split(tree: Any, under_not: bool = False) -> tuple[list[Any], set[str]]:
    """(positive conjuncts, negated rules) of a condition that comes to `positive and not x and not y`."""
    if isinstance(tree, Not):
        return _split(tree.part, not under_not)
    if isinstance(tree, RuleRef):
        return ([], {tree.key}) if under_not else ([tree], set())
    if isinstance(tree, Any_ if under_not else All):
        positive: list[Any] = []
        negated: set[str] = set()
        for part in tree.parts:
            more_positive, more_negated = _split(part, under_not)
            positive += more_positive
            negated |= more_negated
        return positive, negated
    if under_not:
        raise NotCovered("an absence that cannot be decided in time")
    return [tree], set()


# ---- who is who: steps, chains, conditions between events --------------------------------------------


def _steps(rule: CorrelationRule) -> tuple[str, ...]:
    return rule.sequence or rule.rules


def _chosen(rule: CorrelationRule, window: list[Seen], place: Place | None) -> dict[int, Seen]:
    """Step -> event: the latest chain (temporal_ordered), or each rule's event (temporal); {} if none."""
    negated = _negated(rule)
    steps = [step for step, key in enumerate(_steps(rule)) if key not in negated]
    if rule.type == "temporal_ordered":
        for chain in _chains(rule, steps, window, {}):
            return chain
        return {}
    if not rule.head.where:
        return {step: one for step in steps for one in window if one.key == _steps(rule)[step]}
    # `where_chooses_latest`: the triggering event is kept, for each other rule the latest that fits.
    if place is None:
        raise NotCovered("conditions between events at the end of a window")
    # An event stands at a step only if the conditions on it alone hold.
    chosen = {
        step: one
        for step in steps
        for one in window
        if one.it.place == place and one.key == _steps(rule)[step] and _where_so_far(rule, {step: one})
    }
    if not chosen or not _where_so_far(rule, chosen):
        return {}
    for step in steps:
        if step not in chosen:
            for one in reversed(window):
                if one.key == _steps(rule)[step] and _where_so_far(rule, {**chosen, step: one}):
                    chosen[step] = one
                    break
    return chosen


def _chains(
    rule: CorrelationRule, steps: list[int], window: list[Seen], later: dict[int, Seen]
) -> Iterator[dict[int, Seen]]:
    """`ordered_strict`, `max_gap`: every chain, the latest first, worked out from the last step back."""
    if not steps:
        yield later
        return
    following = later.get(min(later)) if later else None
    for one in reversed(window):
        if one.key != _steps(rule)[steps[-1]]:
            continue
        if following is not None and not one.it.place < following.it.place:
            continue
        if following is not None and rule.max_gap_ms and following.it.t_ms - one.it.t_ms > rule.max_gap_ms:
            continue
        chain = {**later, steps[-1]: one}
        if _where_so_far(rule, chain):
            yield from _chains(rule, steps[:-1], window, chain)


def _completes(rule: CorrelationRule, window: list[Seen], place: Place) -> bool:
    """Whether the event at this place is the one that a chain of temporal_ordered ends with."""
    chosen = _chosen(rule, window, place)
    return rule.type != "temporal_ordered" or (bool(chosen) and chosen[max(chosen)].it.place == place)


def _members(rule: CorrelationRule, window: list[Seen], place: Place) -> list[Seen]:
    """`episode_takes_window`; with conditions between events only the events that satisfy them."""
    if rule.head.where and rule.type.startswith("temporal"):
        return list(_chosen(rule, window, place).values())
    return window


def _where_so_far(rule: CorrelationRule, chosen: dict[int, Seen]) -> bool:
    """Whether every condition whose operands are all chosen holds."""
    return all(
        _where_holds(rule, where, chosen)
        for where in rule.head.where
        if all(operand.step in chosen for operand in where.operands)
    )


def _where_holds(rule: CorrelationRule, where: Where, chosen: dict[int, Seen]) -> bool:
    looks = []
    for operand in where.operands:
        if operand.step not in chosen:
            return False  # `where_unknown_is_false`
        looks.append(_read(rule, chosen[operand.step]))
    return _predicate(where, looks)


def _counts(rule: CorrelationRule, key: str, it: Happening) -> bool:
    """`where_on_counts`: conditions of a count or metric narrow which events of a rule count."""
    if rule.type.startswith("temporal"):
        return True
    one = Seen(key, it, {})
    for where in rule.head.where:
        steps = {operand.step for operand in where.operands}
        if steps <= {-1, _steps(rule).index(key)} and not _predicate(where, [_read(rule, one)] * len(where.operands)):
            return False
    return True


def _predicate(where: Where, looks: Sequence[Look]) -> bool:
    """`where_unknown_is_false` for the predicates that need no site."""
    values = []
    for operand, look in zip(where.operands, looks, strict=True):
        if not operand.field:
            raise NotCovered("the place of an event")
        values.append(look(operand.field))
    if where.predicate in ("same", "different"):
        first, second = (
            {key for key in map(group_key, value if isinstance(value, list | tuple) else [value]) if key is not None}
            for value in values
        )
        if not first or not second:
            return False
        result = bool(first & second) == (where.predicate == "same")
    elif where.predicate == "greater":
        numbers = [_number(value) for value in values]
        if numbers[0] is None or numbers[1] is None:
            return False
        result = numbers[0] > numbers[1] + Fraction(str(dict(where.options).get("by", 0)))
    else:
        raise NotCovered(f"the predicate {where.predicate}")
    return result != where.negated


# ---- section 3: groups and what a rule reads ---------------------------------------------------------


def _read(rule: CorrelationRule, one: Seen) -> Look:
    return _aliased(rule, one.key, one.it.look)


def _aliased(rule: CorrelationRule, key: str, look: Look) -> Look:
    """`alias_by_name_or_id`: an alias shadows a field in the rules it lists."""

    def read(name: str) -> Any:
        return look(rule.aliases.get(name, {}).get(key, name))

    return read


def _groups_of(rule: CorrelationRule, key: str, look: Look) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """`missing_key_joins_nothing`, `array_joins_each`: (group, values as written) that an event joins."""
    read = _aliased(rule, key, look)
    choices: list[dict[str, Any]] = []
    for name in rule.group_by:
        value = read(name)
        distinct: dict[str, Any] = {}
        for element in value if isinstance(value, list | tuple) else [value]:
            made = group_key(element)
            if made is not None:
                distinct.setdefault(made, element)
        choices.append(distinct)
    return [
        (group, {name: choice[part] for name, choice, part in zip(rule.group_by, choices, group, strict=True)})
        for group in itertools.product(*choices)
    ]


def _fields_of(one: Seen) -> Look:
    """`inner_fields`: the group's values under their names, then the fields of the deciding event."""
    own = _group_fields(one.group)

    def look(name: str) -> Any:
        value = own(name)
        return one.it.look(name) if value is ABSENT else value

    return look


def _group_fields(group: dict[str, Any]) -> Look:
    return lambda name: group.get(name, ABSENT)


def _shown(found: Found) -> list[tuple[str, str]]:
    return [(name, str(group_key(value))) for name, value in found.group.items()]


# ---- sections 1 and 2: order, fields, detections -------------------------------------------------------


def event_place(event: Event) -> Place:
    """`total_order`: (time_ms, sub_ns, source, seq, id), before the deadlines of its millisecond."""
    return (event.time_ms, 0, event.sub_ns, event.source, event.seq, event.id)


def event_look(event: Event) -> Look:
    """`field_lookup`: the source's own names (whole, then part by part), then our names, then absent."""

    def look(name: str) -> Any:
        if name in event.attributes:
            return event.attributes[name]
        value: Any = event.attributes
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                break
            value = value[part]
        else:
            return value
        own = {
            "kind": event.kind,
            "source": event.source,
            "dialect": event.dialect,
            "site": event.site,
            "time_ms": event.time_ms,
            "level": event.level or (KINDS[event.kind].level if event.kind in KINDS else ABSENT),
            "state.attribute": event.state.attribute if event.state else ABSENT,
            "state.value": event.state.value if event.state else ABSENT,
        }
        if name in own:
            return own[name]
        role, _, kind = name.rpartition(".")
        return event.entity(kind, role) or ABSENT

    return look


def logsource_fits(rule: DetectionRule) -> bool:
    """Log sources are a table of the product: rules given to this matcher have none."""
    if (rule.logsource.product or "correlator") != "correlator" or rule.logsource.category or rule.logsource.service:
        raise NotCovered("a log source")
    return True


def tree_holds(tree: Any, event: Event, look: Look) -> bool:
    """A detection's condition on one event."""
    if isinstance(tree, All):
        return all(tree_holds(part, event, look) for part in tree.parts)
    if isinstance(tree, Any_):
        return any(tree_holds(part, event, look) for part in tree.parts)
    if isinstance(tree, Not):
        return not tree_holds(tree.part, event, look)
    assert isinstance(tree, FieldTest), tree
    return _test_holds(tree, event, look)


def _test_holds(test: FieldTest, event: Event, look: Look) -> bool:
    if test.test == "never":
        return False
    if test.test == "keyword":
        texts = [event.text] if event.text else [str(value) for value in event.attributes.values()]
        return any(_equal_or_in(test, text) for text in texts)
    value = look(test.field)
    if test.test == "exists":
        return (value is not ABSENT) == test.value
    if test.test == "equals" and test.value is None:
        absent = value is ABSENT or value is None
        return not absent if test.neq else absent
    if value is ABSENT:
        return False
    holds = any(
        _element_holds(test, element, event, look)
        for element in (value if isinstance(value, list | tuple) else [value])
    )
    return holds != test.neq


def _equal_or_in(test: FieldTest, text: str) -> bool:
    if isinstance(test.value, tuple):
        return re.search(_pattern(test.value), text, re.IGNORECASE | re.DOTALL) is not None
    return str(test.value).lower() in text.lower()


def _element_holds(test: FieldTest, element: Any, event: Event, look: Look) -> bool:
    if test.test == "equals":
        return _equal(test.value, element, test.cased)
    if test.test == "wildcard":
        text = _text(element)
        flags = re.DOTALL if test.cased else re.DOTALL | re.IGNORECASE
        return text is not None and re.fullmatch(_pattern(test.value), text, flags) is not None
    if test.test in ("lt", "lte", "gt", "gte"):
        number = _number(element)
        return number is not None and Threshold(((test.test, test.value),)).holds(float(number))
    if test.test == "field":
        other = look(test.value)
        if other is ABSENT or other is None or element is None:
            return False
        mine, theirs = _text(element), _text(other)
        if mine is None or theirs is None:
            return False
        if not test.cased:
            mine, theirs = mine.lower(), theirs.lower()
        how = test.flags or "equals"
        if how == "equals":
            return mine == theirs
        return theirs in mine if how == "contains" else bool(getattr(mine, how)(theirs))
    if test.test == "time":
        raise NotCovered("parts of the local time")
    if test.test == "cidr":
        try:
            return ip_address(str(element)) in ip_network(str(test.value), strict=False)
        except ValueError:
            return False
    if test.test == "regex":
        flags = sum(getattr(re, letter.upper()) for letter in test.flags)
        text = _text(element)
        return text is not None and re.search(test.value, text, flags) is not None
    raise NotCovered(f"the test {test.test}")


def _equal(wanted: Any, value: Any, cased: bool) -> bool:
    """`any_case`: text without case unless cased; a number equals its text form; true is not 1."""
    if isinstance(wanted, bool) != isinstance(value, bool):
        return False
    if isinstance(wanted, int | float) and isinstance(value, int | float):
        return wanted == value
    first, second = _text(wanted), _text(value)
    if first is None or second is None:
        return False
    return first == second if cased else first.lower() == second.lower()


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return group_key(value)
    return value if isinstance(value, str) else None


def _pattern(tokens: Sequence[Any]) -> str:
    return "".join(
        {"*": ".*", "?": "."}[token.sign] if isinstance(token, Wild) else re.escape(token) for token in tokens
    )
