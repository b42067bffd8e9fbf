"""Why a rule did not match: the rule is run again over the replay's events, and then eased part by part.

The engine itself is the judge. Beside the rule run forms of it that are wider in one respect (without
one condition, ungrouped, with a longer timespan, without its absence, with any bound); the first wider
form that matches names the part that failed, and its match holds the values it met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from itertools import combinations
from typing import Any, Protocol

from correlator.clock import duration_text, local
from correlator.events.event import Event
from correlator.events.threat import EnrichedEvent, Match
from correlator.matching import Engine, EngineSettings, Record
from correlator.matching.plan import split_absence
from correlator.premises import Premises
from correlator.rules.fields import MISSING, accessor_of, keys_of
from correlator.rules.predicates import Predicate, Step, compile_condition, shown
from correlator.rules.syntax import (
    TEMPORAL_TYPES,
    All,
    CorrelationRule,
    DetectionRule,
    Operand,
    RuleRef,
    RuleSet,
    Threshold,
    Where,
)
from correlator.rules.where import where_text
from correlator.run.replay import RECORD_EVENTS
from correlator.run.rule_commands import only
from correlator.threats.words import condition_words, mark, said


class Ground(Protocol):
    """The site that a rule is run again on: a scenario is one, and so is what a log has in force."""

    @property
    def site_id(self) -> str:
        """Its id."""
        ...

    @property
    def zone(self) -> tzinfo:
        """Its time zone."""
        ...

    @property
    def lateness_ms(self) -> int:
        """How long an event may take to come."""
        ...

    @property
    def until_ms(self) -> int:
        """Time goes on to here and no further."""
        ...

    def premises(self) -> Premises:
        """Its model, fresh."""
        ...


AnyRule = DetectionRule | CorrelationRule

_ANY_NUMBER = 1e300
_EVENTS_SHOWN = 8
_ALTERNATIVES_SHOWN = 4


def plain(value: Any, event: Event) -> str:
    """A value in words, with the badge numbers of its event replaced by their marks."""
    text = shown(value)
    for entity in event.entities:
        if entity.kind == "badge" and entity.id:
            text = text.replace(entity.id, mark(entity.id))
    return text


# ---- running again -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Run:
    """What a set of rules made of the events; a `Sink` of the engine.

    keys: event id -> keys of the rules it is a member of; look: called with each event as the rules see
    it, while the site stands as it then did, and with the keys of the detections it hits.
    """

    zone: Any
    look: Callable[[Event, tuple[str, ...]], None] | None = None
    enriched: dict[str, EnrichedEvent] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    matches: dict[str, dict[str, Match]] = field(default_factory=dict)

    def seen(self, event: Event, enriched: EnrichedEvent | None) -> None:
        """An event that passed sorter and edges."""
        assert enriched is not None
        if enriched.rules:
            self.enriched[event.id] = enriched
            self.keys.setdefault(event.id, set()).update(enriched.rules)
        if self.look is not None:
            self.look(event, enriched.rules)

    def told(self, match: Match) -> None:
        """A match opened, grew or ended; the last one told counts."""
        if not match.early:
            self.matches.setdefault(match.rule, {})[match.id] = match

    def next_deadline_ms(self) -> int:
        """None of its own."""
        return -1

    def advance(self, before_ms: int) -> None:
        """Nothing to do."""

    def of(self, key: str) -> list[Match]:
        """The matches of a rule, the earliest first."""
        return sorted(self.matches.get(key, {}).values(), key=lambda one: (one.first_ms, one.id))

    def events_of(self, match: Match) -> list[Event]:
        """The members of a match that hit a detection, in order."""
        return [self.enriched[one].event for one in match.events if one in self.enriched]


def _run(
    ground: Ground,
    rules: RuleSet,
    events: Sequence[Event],
    places: Premises,
    look: Callable[[Event, tuple[str, ...]], None] | None = None,
) -> _Run:
    """Runs rules over the events of a replay; every rule reports, also those that others refer to."""
    run = _Run(ground.zone, look)
    loud = replace(rules, used=frozenset())
    settings = EngineSettings(lateness_ms=ground.lateness_ms, enriched="all")
    engine = Engine(ground.site_id, loud, places, settings, ground.zone, sink=run)
    for start in range(0, len(events), RECORD_EVENTS):
        engine.receive(Record(events=list(events[start : start + RECORD_EVENTS])))
    engine.finish(ground.until_ms)
    for match in engine.matcher.open_matches():
        run.told(match)
    for key, found in run.matches.items():
        for match in found.values():
            for event_id in match.events:
                run.keys.setdefault(event_id, set()).add(key)
    return run


# ---- answers -----------------------------------------------------------------------------------


def explain_rule_silence(ground: Ground, rules: RuleSet, rule: AnyRule, events: Sequence[Event]) -> Iterator[str]:
    """How often a rule matched, and what failed if it never did. events: as decoded, in order of receipt."""
    if isinstance(rule, DetectionRule):
        yield from _detection_silence(ground, rules, rule, events)
        return
    yield from _correlation_silence(ground, rules, rule, events, None)


def explain_rule_at(
    ground: Ground, rules: RuleSet, rule: AnyRule, events: Sequence[Event], origin: str
) -> Iterator[str]:
    """What of a rule failed on the events of one message. origin: as the events bear it, or their raw position."""
    if isinstance(rule, DetectionRule):
        yield from _detection_at(ground, rules, rule, events, origin)
        return
    yield from _correlation_silence(ground, rules, rule, events, origin)


def _count(many: int, word: str) -> str:
    return f"{many} {word}" + ("" if many == 1 else "es" if word == "match" else "s")


def _title(rule: AnyRule) -> str:
    name = rule.head.name or rule.head.id
    return f'"{rule.head.title}"' + (f" ({name})" if name else "")


def _when(ms: int, ground: Ground) -> str:
    return f"{local(ms, ground.zone):%d %b %H:%M:%S}"


def _event_line(event: Event, ground: Ground) -> str:
    return f"{_when(event.time_ms, ground)}  {said(event)}  <{event.origin or event.raw or event.id}>"


# ---- detections --------------------------------------------------------------------------------


def _predicate(rule: DetectionRule, ground: Ground, places: Premises) -> Predicate:
    return compile_condition(rule.condition, rule.logsource, rule.head.where, places, ground.zone)


def _detection_silence(ground: Ground, rules: RuleSet, rule: DetectionRule, events: Sequence[Event]) -> Iterator[str]:
    places = ground.premises()
    predicate = _predicate(rule, ground, places)
    best: tuple[float, Event, list[Step]] | None = None
    hits: list[Event] = []

    def look(event: Event, keys: tuple[str, ...]) -> None:
        nonlocal best
        if rule.head.key in keys:
            hits.append(event)
        elif not hits:
            steps = predicate.explain(event)
            score = _score(_tree(steps))
            if best is None or score > best[0]:
                best = score, event, steps

    _run(ground, only(rules, rule), events, places, look)
    if hits:
        yield f"{_title(rule)} matched {_count(len(hits), 'event')}; the first:"
        yield f"  {_event_line(hits[0], ground)}"
        return
    yield f"{_title(rule)} matched none of {_count(len(events), 'event')}"
    if best is None:
        return
    score, event, steps = best
    if score == 0:
        yield "no event came near: not one part of the rule held for any"
        yield from (line for line in _failed_lines(steps, event) if not line.startswith("     met:"))
        return
    yield "the event that came nearest:"
    yield f"  {_event_line(event, ground)}"
    yield from _failed_lines(steps, event)


def _detection_at(
    ground: Ground, rules: RuleSet, rule: DetectionRule, events: Sequence[Event], origin: str
) -> Iterator[str]:
    places = ground.premises()
    predicate = _predicate(rule, ground, places)
    found: list[tuple[Event, bool, list[Step]]] = []

    def look(event: Event, keys: tuple[str, ...]) -> None:
        if origin in (event.origin, event.raw, event.id):
            found.append((event, rule.head.key in keys, predicate.explain(event)))

    _run(ground, only(rules, rule), events, places, look)
    if not found:
        yield from _unseen(origin)
        return
    for event, hit, steps in found:
        yield _event_line(event, ground)
        if hit:
            yield f"  {_title(rule)} matched this event"
        else:
            yield f"  {_title(rule)} did not match this event ({event.kind}):"
            yield from _failed_lines(steps, event)


def _unseen(origin: str) -> Iterator[str]:
    yield f"no rule saw the message at {origin}: it repeats a state that was known already, or an earlier delivery"


# A part of an explanation and its own parts.
_Part = tuple[Step, list[Any]]


def _tree(steps: Sequence[Step]) -> _Part:
    """The parts as a tree again; steps are in the order of `Predicate.explain`, the whole first."""
    path: list[_Part] = []
    for step in steps:
        part: _Part = (step, [])
        del path[step.depth :]
        if path:
            path[-1][1].append(part)
        path.append(part)
    return path[0]


def _score(part: _Part) -> float:
    """How far an event got: 1 if the part holds, the share of what holds of several that all must."""
    step, parts = part
    if step.holds:
        return 1.0
    if step.says == "all of" and parts:
        return sum(_score(one) for one in parts) / len(parts)
    if step.says == "at least one of" and parts:
        return max(_score(one) for one in parts)
    return 0.0


def _failed(part: _Part, wanted: bool) -> Iterator[tuple[Step, bool]]:
    """The questions that decided that a part did not come out as wanted, each with what was wanted of it."""
    step, parts = part
    if not parts:
        yield step, wanted
    elif step.says == "not":
        yield from _failed(parts[0], not wanted)
    else:
        guilty = [one for one in parts if one[0].holds is not wanted]
        one_is_enough = (step.says == "all of") is wanted
        for one in guilty[:1] if one_is_enough else guilty:
            yield from _failed(one, wanted)


def _failed_lines(steps: Sequence[Step], event: Event) -> Iterator[str]:
    failed = list(_failed(_tree(steps), True))
    if len(failed) > 1:
        yield "  none of these came out as the rule needs it:"
    for step, wanted in failed[:_ALTERNATIVES_SHOWN]:
        needs = step.says if wanted else f"not: {step.says}"
        yield f"  needed: {needs}"
        if step.field:
            yield f"     met: {step.field} is {plain(step.met, event)}"
        elif step.met is not MISSING:
            yield f"     met: {plain(step.met, event)}"
    if len(failed) > _ALTERNATIVES_SHOWN:
        yield f"  and {len(failed) - _ALTERNATIVES_SHOWN} more alternatives"


# ---- correlations ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wider:
    """A wider form of a correlation. part: what is left out, in words; about: the `where` entry, if it is one."""

    part: str
    rule: CorrelationRule
    about: Where | None = None
    grouping: bool = False
    absence: bool = False


def _correlation_silence(
    ground: Ground, rules: RuleSet, rule: CorrelationRule, events: Sequence[Event], origin: str | None
) -> Iterator[str]:
    every: dict[str, AnyRule] = {**rules.detections, **rules.correlations}
    places = ground.premises()
    subset = only(rules, rule)
    mine: list[Event] = []

    def look(event: Event, _: tuple[str, ...]) -> None:
        if origin in (event.origin, event.raw, event.id):
            mine.append(event)

    run = _run(ground, subset, events, places, look)
    wanted = {event.id for event in mine} if origin is not None else None
    if wanted is not None:
        if not mine:
            assert origin is not None
            yield from _unseen(origin)
            return
        for event in mine:
            yield _event_line(event, ground)
        if not any(run.keys.get(one, set()) & set(rule.rules) for one in wanted):
            yield f"  {_title(rule)} does not count this message: it is none of the rules it refers to"
            for key in rule.rules:
                for line in explain_rule_at(ground, rules, every[key], events, mine[0].id):
                    if line.startswith("  "):
                        yield f"  {line}"
            return
        for key in rule.rules:
            if any(key in run.keys.get(one, set()) for one in wanted):
                yield f"  it is {_title(every[key])}"
    found = _about_these(run.of(rule.head.key), wanted)
    yield f"{_title(rule)} needs: {condition_words(rule, every)}"
    if found:
        those = " with this message" if wanted is not None else ""
        yield f"it matched: {_count(len(found), 'match')}{those}; the first:"
        yield from _member_lines(run, found[0], rule, every, ground)
        return
    yield "it never matched" if wanted is None else "it did not match with this message"
    absent = _absent_keys(rule)
    missing = [key for key in rule.rules if key not in absent and not run.of(key)]
    for key in rule.rules:
        yield f"  {_count(len(run.of(key)), 'match')} of {_title(every[key])}"
    if missing and (rule.type in TEMPORAL_TYPES or len(missing) == len(rule.rules)):
        for key in missing:
            yield f"this part never happened: {_title(every[key])}"
            for line in explain_rule_silence(ground, rules, every[key], events):
                yield f"  {line}"
        return
    places = ground.premises()
    forms = list(_wider_forms(rule, _length_ms(events)))
    values = _with_any_bound(rule)
    eased = [form.rule for form in forms] + ([values] if values is not None else [])
    correlations = {**subset.correlations, **{one.head.key: one for one in eased}}
    run = _run(ground, replace(subset, correlations=correlations), events, places)
    if values is not None:
        yield from _nearest_value(run, rule, values, every, ground, wanted)
    for form in forms:
        matched = _about_these(run.of(form.rule.head.key), wanted)
        if matched:
            yield f"this part failed: {form.part}; without it the nearest is"
            yield from _member_lines(run, matched[0], rule, every, ground)
            yield from _what_it_met(run, matched[0], form, rule, every, places, ground)
            return
    if values is None:
        yield "more than two of its parts failed at once; no two of them left out make it match"


def _about_these(matches: list[Match], wanted: set[str] | None) -> list[Match]:
    return [one for one in matches if wanted is None or wanted & set(one.events)]


def _absent_keys(rule: CorrelationRule) -> set[str]:
    return set() if isinstance(rule.condition, Threshold) else split_absence(rule.condition)[1]


def _length_ms(events: Sequence[Event]) -> int:
    times = [event.time_ms for event in events]
    return max(times) - min(times) if times else 0


def _wider_forms(rule: CorrelationRule, longest_ms: int) -> Iterator[_Wider]:
    """Each part left out alone, then each two of them; the least change first.

    longest_ms: a timespan this long takes in everything, so none is tried beyond it.
    """
    single = list(_single_changes(rule, longest_ms))
    number = 0
    for part, change, about, kind in single:
        number += 1
        yield _form(rule, number, part, change(rule), about, kind)
    for (part_a, change_a, about_a, kind_a), (part_b, change_b, about_b, kind_b) in combinations(single, 2):
        if kind_a == kind_b == "timespan":
            continue
        number += 1
        kind = kind_a if kind_a in ("group", "absence") else kind_b
        part = f"{part_a}, and {part_b}"
        yield _form(rule, number, part, change_b(change_a(rule)), about_a or about_b, kind)


_Change = tuple[str, Callable[[CorrelationRule], CorrelationRule], Where | None, str]


def _form(
    rule: CorrelationRule, number: int, part: str, wider: CorrelationRule, about: Where | None, kind: str
) -> _Wider:
    head = replace(wider.head, key=f"{rule.head.key}~{number}", id="")
    return _Wider(part, replace(wider, head=head), about, kind == "group", kind == "absence")


def _single_changes(rule: CorrelationRule, longest_ms: int) -> Iterator[_Change]:
    labels = rule.sequence or rule.rules
    for where in rule.head.where:
        yield f"the condition that {where_text(where, labels)}", _without_where(where), where, "where"
    if _absent_keys(rule):
        yield "the rule that must be absent was there", _without_absence, None, "absence"
    if rule.max_gap_ms:
        yield f"at most {duration_text(rule.max_gap_ms)} between the steps", _without_gap, None, "gap"
    if rule.group_by:
        yield f"the same {' and '.join(rule.group_by)}", _ungrouped, None, "group"
    if rule.type == "temporal_ordered" and not rule.sequence:
        yield "the order of the steps", _unordered, None, "order"
    span_ms = rule.timespan_ms
    while span_ms < longest_ms:
        span_ms = min(span_ms * 4, longest_ms)
        yield f"within {duration_text(rule.timespan_ms)}", _lasting(span_ms), None, "timespan"


def _without_where(where: Where) -> Callable[[CorrelationRule], CorrelationRule]:
    def change(rule: CorrelationRule) -> CorrelationRule:
        kept = tuple(one for one in rule.head.where if one.predicate != where.predicate or one != where)
        return replace(rule, head=replace(rule.head, where=kept))

    return change


def _lasting(span_ms: int) -> Callable[[CorrelationRule], CorrelationRule]:
    return lambda rule: replace(rule, timespan_ms=span_ms)


def _without_gap(rule: CorrelationRule) -> CorrelationRule:
    return replace(rule, max_gap_ms=0)


def _ungrouped(rule: CorrelationRule) -> CorrelationRule:
    return replace(rule, group_by=(), aliases={})


def _unordered(rule: CorrelationRule) -> CorrelationRule:
    return replace(rule, type="temporal", max_gap_ms=0)


def _without_absence(rule: CorrelationRule) -> CorrelationRule:
    """The positive part alone; conditions on the absent rules go, and operands count through what is left."""
    names, absent, tree = split_absence(rule.condition)
    listed = rule.sequence or rule.rules
    kept = [step for step, key in enumerate(listed) if key not in absent]
    place = {step: number for number, step in enumerate(kept)}

    def moved(where: Where) -> Where:
        operands = tuple(Operand(place[one.step], one.field) for one in where.operands)
        return replace(where, operands=operands)

    wheres = tuple(moved(one) for one in rule.head.where if all(operand.step in place for operand in one.operands))
    return replace(
        rule,
        head=replace(rule.head, where=wheres),
        rules=tuple(key for key in rule.rules if key in names),
        sequence=tuple(key for key in rule.sequence if key not in absent),
        condition=tree if len(names) > 1 else All((RuleRef(next(iter(names))),)),
        absent="",
    )


def _with_any_bound(rule: CorrelationRule) -> CorrelationRule | None:
    """A form that tells the value of every window, for rules that compare one with a bound."""
    if not isinstance(rule.condition, Threshold) or rule.type == "temporal_ordered":
        return None
    if rule.condition.needs_window_end:
        bound = ("lte", _ANY_NUMBER)
    else:
        bound = ("gte", 1.0 if rule.type in ("event_count", "value_count", "temporal") else -_ANY_NUMBER)
    head = replace(rule.head, key=f"{rule.head.key}~value", id="")
    return replace(rule, head=head, condition=Threshold((bound,)), select="each")


def _distance(threshold: Threshold, value: float) -> float:
    """How far a value is from what is asked for; 0 if all bounds hold."""
    return 0.0 if threshold.holds(value) else min(abs(value - bound) for _, bound in threshold.bounds)


# ---- what the nearest attempt met --------------------------------------------------------------


def _nearest_value(
    run: _Run,
    rule: CorrelationRule,
    values: CorrelationRule,
    every: dict[str, AnyRule],
    ground: Ground,
    wanted: set[str] | None,
) -> Iterator[str]:
    tried = [one for one in _about_these(run.of(values.head.key), wanted) if one.value is not None]
    if not tried:
        return
    threshold: Threshold = rule.condition
    best = min(tried, key=lambda one: (_distance(threshold, one.value or 0), one.first_ms, one.id))
    bounds = " and ".join(f"{operator} {bound:g}" for operator, bound in threshold.bounds)
    yield f"the nearest value in any window of {duration_text(rule.timespan_ms)} is {best.value:g}; needed: {bounds}"
    yield from _member_lines(run, best, rule, every, ground)


def _member_lines(
    run: _Run, match: Match, rule: CorrelationRule, every: dict[str, AnyRule], ground: Ground
) -> Iterator[str]:
    members = run.events_of(match)
    for event in members[:_EVENTS_SHOWN]:
        labels = [every[key].head.name or every[key].head.title for key in rule.rules if key in run.keys[event.id]]
        yield f"  {_event_line(event, ground)}" + (f"  [{', '.join(labels)}]" if labels else "")
    if len(members) > _EVENTS_SHOWN:
        yield f"  and {len(members) - _EVENTS_SHOWN} more"


def _what_it_met(
    run: _Run,
    match: Match,
    form: _Wider,
    rule: CorrelationRule,
    every: dict[str, AnyRule],
    places: Premises,
    ground: Ground,
) -> Iterator[str]:
    """The values that the part that failed met in the nearest attempt."""
    members = run.events_of(match)
    if form.about is not None:
        listed = rule.sequence or rule.rules
        for operand in form.about.operands:
            for event in members:
                if listed[operand.step] in run.keys[event.id]:
                    label = every[listed[operand.step]].head.name or every[listed[operand.step]].head.title
                    met = _operand_value(run, operand, event, places)
                    where = event.origin or event.raw
                    yield f"    met: {operand.field or 'the place'} of `{label}` is {met}  <{where}>"
    if form.grouping:
        for event in members[:_EVENTS_SHOWN]:
            parts = []
            for name in rule.group_by:
                key = next((one for one in rule.rules if one in run.keys[event.id]), "")
                source = rule.aliases.get(name, {}).get(key, name)
                parts.append(f"{name} is {plain(accessor_of(source, places).get(event), event)}")
            yield f"    met: {', '.join(parts)}  <{event.origin or event.raw}>"
    if form.absence:
        first_ms, last_ms = match.first_ms - rule.timespan_ms, match.last_ms + rule.timespan_ms
        for key in sorted(_absent_keys(rule)):
            near = [
                one
                for one in run.of(key)
                if first_ms <= one.first_ms and one.last_ms <= last_ms and _of_group(run, one, key, match, rule, places)
            ]
            for one in near[:_ALTERNATIVES_SHOWN]:
                for event in run.events_of(one)[:1]:
                    yield f"    met: {_title(every[key])}: {_event_line(event, ground)}"


def _of_group(run: _Run, found: Match, key: str, match: Match, rule: CorrelationRule, places: Premises) -> bool:
    """Whether a match of a listed rule belongs to the group of a match of the rule itself."""
    for name, value in match.group.items():
        source = rule.aliases.get(name, {}).get(key, name)
        if found.group:
            met: Any = found.group.get(source)
        else:
            met = next((accessor_of(source, places).get(event) for event in run.events_of(found)), MISSING)
        if not set(keys_of(met)) & set(keys_of(value)):
            return False
    return True


def _operand_value(run: _Run, operand: Operand, event: Event, places: Premises) -> str:
    if not operand.field:
        return run.enriched[event.id].place_name or "not known"
    return plain(accessor_of(operand.field, places).get(event), event)
