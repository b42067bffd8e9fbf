"""Compiles a rule set: which detection feeds which window, which rule reads which windows.

A **producer** is what makes entries: a detection, or a correlation that another one refers to. A
**keyspace** is a way to group (group-by fields, aliases resolved); all rules that group alike share it
and its groups. A **slot** of a keyspace is one window per group: the entries of one set of producers,
with what must be captured. Rules share slots, so an event is looked up once per keyspace and kept
once per slot, whatever the number of rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import tzinfo
from operator import itemgetter
from typing import Any, final

from correlator.events.ids import digest
from correlator.matching.conditions import Conditions
from correlator.matching.select import DetectionIndex
from correlator.matching.state import SHIFT
from correlator.rules.fields import Accessor, accessor_of, is_attribute
from correlator.rules.predicates import compile_condition
from correlator.rules.syntax import (
    TEMPORAL_TYPES,
    All,
    Any_,
    CorrelationRule,
    DetectionRule,
    Not,
    RuleRef,
    RuleSet,
    Threshold,
)

# What a slot keeps beside time and id: () nothing, ("distinct", field, ...), ("number", field); a rule off
# the fast path has slots of its own: (..., "of", rule key, step).
Capture = tuple[str, ...]


@final
class Look:
    """A rule decided inline as one of its windows looks at it. An object, since mostly only `place` is asked for.

    place, span  as of the rule
    number       what an event is held against: k of a count; the other slot of a pair, the first of a sequence
    pick         picks the other slots of a rule with more
    """

    __slots__ = ("number", "pick", "place", "rule", "span")

    def __init__(self, rule: Rule, number: int, pick: Callable[[list[int]], tuple[int, ...]] | None = None) -> None:
        self.rule = rule
        self.place = rule.place
        self.span = rule.span
        self.number = number
        self.pick = pick


@final
class Slot:
    """One window per group of a keyspace. Rules by the way they are decided on a new entry."""

    def __init__(self, index: int, producers: frozenset[str], capture: Capture) -> None:
        self.index = index
        self.producers = producers
        self.capture = capture
        self.horizon = 0  # positions older than this behind the newest are of no use
        self.counts: list[Look] = []
        self.distincts: list[Look] = []
        self.pairs: list[Look] = []
        self.alls: list[Look] = []
        self.ordered_last: list[Look] = []
        self.value_field = ""  # what distinct counts count, where it can only be an attribute of that very name
        self.mates: set[int] = set()  # other slots of rules that are decided inline on several
        self.inline: set[int] = set()  # indexes of the rules above
        self.general: list[Rule] = []
        self.lean = True  # a first entry alone can decide nothing


@final
class Keyspace:
    """One way to group. `cells`: key -> Cell, or (slot, position, id) while a group has one entry."""

    def __init__(self, index: int, names: tuple[str, ...]) -> None:
        self.index = index
        self.names = names
        self.slots: list[Slot] = []
        self.no_dues: list[int] = []  # `Cell.dues` of a group without episodes, never written to
        self.cells: dict[str, Any] = {}
        self.horizon = 0
        self.idle_rules = False  # some rule keeps its groups until group_idle
        self.dropped = 0
        self.refused = 0
        self.dirty: set[str] | None = None  # groups that changed since the last look, None if nobody looks
        self.sweep_at_ms = -1
        self.id = ""
        self.grouping = ""  # what it groups by, whatever its slots: equal in two plans, equal groups


@final
class Feed:
    """How one producer's results reach one keyspace: field names (and accessors) and slots to append to."""

    def __init__(self, key: str, keyspace: Keyspace, fields: tuple[str, ...], accessors: tuple[Accessor, ...]) -> None:
        self.key = key
        self.keyspace = keyspace
        self.fields = fields
        self.accessors = accessors
        # The one field, where it can only be an attribute of that very name.
        self.attribute = fields[0] if len(fields) == 1 and is_attribute(fields[0]) else ""
        self.slots: list[Slot] = []
        self.lean = False


@final
class Producer:
    """A detection or a correlation that others refer to."""

    def __init__(self, key: str, number: int) -> None:
        self.key = key
        self.number = number
        self.feeds: list[Feed] = []


@final
class Rule:
    """A compiled correlation.

    form: "count", "distinct", "all", "ordered" are decided on the fast path; "general" is not. The
    general one has shape "count", "distinct", "metric", "presence" or "chain", and may be decided at
    window ends (`tumble`), by an absence (`absent`), match by match (`each`) or with conditions between
    events (`where`).
    """

    def __init__(self, index: int, rule: CorrelationRule, keyspace: Keyspace) -> None:
        self.index = index
        self.place = -1  # in `Cell.dues`, of a rule decided inline
        self.key = rule.head.key
        self.rule = rule
        self.keyspace = keyspace
        self.span_ms = rule.timespan_ms
        self.span = rule.timespan_ms << SHIFT
        self.slots: list[Slot] = []  # one per listed rule (counts: one pooled), in order
        self.steps: list[int] = []  # per step of the chain: how `where` operands count it
        self.seq: list[int] = []  # per step of the chain: slot index
        self.back: tuple[int, ...] = ()  # slot indexes of the steps before the last, going back
        self.slot_steps: dict[int, list[int]] = {}  # slot index -> the steps its events can stand at
        self.negative_steps: list[int] = []  # per negative rule: its step
        self.step_count = 0
        self.slot_set: list[int] = []
        self.form = "general"
        self.shape = "presence"
        self.k = 1
        self.members = 0  # the value of a match of form "all" or "ordered": how many rules it lists
        self.threshold: Threshold | None = None
        self.tree: Any = None
        self.positive: list[int] = []  # indexes into rule.rules
        self.positive_slots: frozenset[int] = frozenset()  # the indexes of their slots
        self.negative: list[int] = []
        self.absent = ""
        self.tumble = False
        self.each = rule.select == "each"
        self.metric = ""
        self.max_gap_ms = rule.max_gap_ms
        self.where: Conditions | None = None
        self.quiet = False
        self.chained = False
        self.producer: Producer | None = None
        self.carry: tuple[str, ...] = ()
        self.carry_accessors: list[Accessor] = []
        self.group_accessors: dict[str, list[Accessor]] = {}
        self.value_accessors: list[Accessor] = []


@final
class Plan:
    """Everything compiled; immutable once built but for the groups that live in the keyspaces."""

    def __init__(self) -> None:
        self.producers: list[Producer] = []
        self.by_key: dict[str, Producer] = {}
        self.detections: list[DetectionRule] = []
        self.standalone: list[bool] = []
        self.rules: list[Rule] = []
        self.keyspaces: list[Keyspace] = []
        self.global_rules: list[Rule] = []
        self.index: DetectionIndex
        self.critical: DetectionIndex
        self.has_critical = False
        self.critical_kinds: frozenset[str] | None = None  # kinds that a critical detection can hit; None: any
        self.hash = ""


def compile_rules(rules: RuleSet, places: Any, zone: tzinfo, filter_logsource: bool = True) -> Plan:
    """The plan of a rule set. places: the site (`correlator.rules.places.Places`), or None.

    Raises ValueError for a rule that the loader should have refused (a bug of ours).
    """
    return _Compiler(rules, places).compile(zone, filter_logsource)


@final
class _Compiler:
    def __init__(self, rules: RuleSet, places: Any) -> None:
        self.rules = rules
        self.places = places
        self.plan = Plan()
        self.referred = {key for rule in rules.correlations.values() for key in rule.rules}
        self.keyspaces: dict[tuple[Any, ...], Keyspace] = {}
        self.aliases: dict[int, dict[str, dict[str, str]]] = {}  # keyspace index -> aliases of its rules

    def compile(self, zone: tzinfo, filter_logsource: bool) -> Plan:
        plan, rules = self.plan, self.rules
        plan.index = DetectionIndex(self.places)
        plan.critical = DetectionIndex(self.places)
        for key in sorted(rules.detections):
            self._detection(rules.detections[key], zone, filter_logsource)
        plan.critical_kinds = plan.critical.kinds()
        for index, rule in enumerate(rules.correlations.values()):
            plan.rules.append(self._correlation(index, rule))
            if rule.head.key in self.referred:
                plan.rules[-1].producer = self._producer(rule.head.key)
        for compiled in plan.rules:
            _register(compiled)
        self._connect()
        self._carry()
        for keyspace in plan.keyspaces:
            aliases = repr(sorted(self.aliases[keyspace.index].items()))
            slots = ("\x1e".join((*sorted(slot.producers), "|", *slot.capture)) for slot in keyspace.slots)
            keyspace.grouping = digest("\x1e".join(keyspace.names), aliases)
            keyspace.id = digest("\x1e".join(keyspace.names), aliases, *slots)[:12]
        plan.global_rules = [rule for rule in plan.rules if rule.tumble and not rule.keyspace.names]
        plan.hash = digest(
            repr([rules.detections[key] for key in sorted(rules.detections)]),
            repr(list(rules.correlations.values())),
            repr(sorted(rules.used)),
        )
        return plan

    def _producer(self, key: str) -> Producer:
        producer = Producer(key, len(self.plan.producers))
        self.plan.producers.append(producer)
        self.plan.by_key[key] = producer
        return producer

    def _detection(self, detection: DetectionRule, zone: tzinfo, filter_logsource: bool) -> None:
        plan = self.plan
        predicate = compile_condition(
            detection.condition,
            detection.logsource,
            detection.head.where,
            self.places,
            zone,
            filter_logsource=filter_logsource,
        )
        producer = self._producer(detection.head.key)
        plan.index.add(producer.number, predicate)
        plan.detections.append(detection)
        alone = detection.head.key not in self.rules.used
        plan.standalone.append(alone)
        if alone and detection.head.level == "critical":
            plan.critical.add(producer.number, predicate)
            plan.has_critical = True

    def _correlation(self, index: int, rule: CorrelationRule) -> Rule:
        keyspace = self._keyspace(rule)
        compiled = Rule(index, rule, keyspace)
        compiled.quiet = rule.head.key in self.rules.used
        compiled.chained = any(key in self.rules.correlations for key in rule.rules)
        if isinstance(rule.condition, Threshold):
            compiled.threshold = rule.condition
            compiled.tumble = rule.condition.needs_window_end
        compiled.step_count = max(len(rule.sequence), len(rule.rules)) + len(rule.rules)
        if rule.head.where:
            compiled.where = Conditions(rule.head.where, self.places, compiled.step_count)
        if rule.type in TEMPORAL_TYPES:
            self._temporal(compiled, rule)
        else:
            self._pooled(compiled, rule)
        compiled.slot_set = sorted({slot.index for slot in compiled.slots})
        return compiled

    def _keyspace(self, rule: CorrelationRule) -> Keyspace:
        """Rules share a keyspace when they group alike; an alias makes one of its own."""
        aliases = {name: rule.aliases[name] for name in rule.group_by if name in rule.aliases}
        told = tuple((name, tuple(sorted(fields.items()))) for name, fields in sorted(aliases.items()))
        found = self.keyspaces.get((rule.group_by, told))
        if found is None:
            found = Keyspace(len(self.plan.keyspaces), rule.group_by)
            self.keyspaces[(rule.group_by, told)] = found
            self.aliases[found.index] = aliases
            self.plan.keyspaces.append(found)
        return found

    def _pooled(self, compiled: Rule, rule: CorrelationRule) -> None:
        assert compiled.threshold is not None
        capture: Capture = ()
        if rule.type == "event_count":
            compiled.shape = "count"
        elif rule.type == "value_count":
            compiled.shape, capture = "distinct", ("distinct", *rule.fields)
        else:
            compiled.shape, capture = "metric", ("number", *rule.fields)
            compiled.metric = rule.type
        compiled.k = _least(compiled.threshold)
        plain = not (compiled.chained or compiled.tumble or compiled.each or compiled.where)
        if plain and compiled.shape in ("count", "distinct"):
            compiled.form = compiled.shape
        if compiled.form == "general":  # decided with a window of its own
            capture = (*capture, "of", rule.head.key)
        compiled.slots = [_slot(compiled.keyspace, frozenset(rule.rules), capture, compiled.span)]

    def _temporal(self, compiled: Rule, rule: CorrelationRule) -> None:
        compiled.shape = "chain" if rule.type == "temporal_ordered" else "presence"
        if isinstance(rule.condition, Threshold):
            compiled.positive = list(range(len(rule.rules)))
            compiled.k = _least(rule.condition)
            everything = compiled.k == len(rule.rules)
            if compiled.shape == "chain" and not everything and not compiled.tumble:
                raise ValueError(f"{rule.head.key}: a sequence needs all its steps")
        else:
            names, refused, tree = split_absence(rule.condition)
            compiled.positive = [step for step, key in enumerate(rule.rules) if key in names]
            compiled.negative = [step for step, key in enumerate(rule.rules) if key in refused]
            compiled.absent = rule.absent or ("around" if refused else "")
            compiled.tree = _slots_of(tree, rule.rules)
            everything = (
                isinstance(tree, All)
                and len(tree.parts) == len(rule.rules)
                and all(isinstance(part, RuleRef) for part in tree.parts)
            )
        looks_ahead = compiled.absent in ("after", "around")
        for step, key in enumerate(rule.rules):
            capture: Capture = ("of", rule.head.key, str(step)) if compiled.where or compiled.chained else ()
            horizon = compiled.span * 2 if looks_ahead else compiled.span
            compiled.slots.append(_slot(compiled.keyspace, frozenset((key,)), capture, horizon))
        listed = rule.sequence if compiled.shape == "chain" and rule.sequence else rule.rules
        refused_keys = {rule.rules[step] for step in compiled.negative}
        if compiled.shape == "chain":
            compiled.steps = [step for step, key in enumerate(listed) if key not in refused_keys]
            compiled.seq = [compiled.slots[rule.rules.index(listed[step])].index for step in compiled.steps]
        compiled.positive_slots = frozenset(compiled.slots[step].index for step in compiled.positive)
        for step, key in enumerate(listed):
            compiled.slot_steps.setdefault(compiled.slots[rule.rules.index(key)].index, []).append(step)
        for number, step in enumerate(compiled.negative):
            key = rule.rules[step]
            of_key = listed.index(key) if key in listed else len(listed) + number
            compiled.negative_steps.append(of_key)
            if key not in listed:
                compiled.slot_steps.setdefault(compiled.slots[step].index, []).append(of_key)
        plain = not (compiled.chained or compiled.tumble or compiled.each or compiled.where or compiled.negative)
        if plain and everything:
            if compiled.shape == "presence":
                compiled.form = "all"
                compiled.k = compiled.members = len(rule.rules)
            elif not compiled.max_gap_ms:
                compiled.form = "ordered"
                compiled.members = len(rule.rules)

    def _connect(self) -> None:
        """Feeds: which slots of which keyspaces each producer appends to."""
        for keyspace in self.plan.keyspaces:
            aliases = self.aliases[keyspace.index]
            for slot in keyspace.slots:
                for key in sorted(slot.producers):
                    producer = self.plan.by_key[key]
                    feed = next((one for one in producer.feeds if one.keyspace is keyspace), None)
                    if feed is None:
                        fields = tuple(aliases.get(name, {}).get(key, name) for name in keyspace.names)
                        feed = Feed(key, keyspace, fields, tuple(accessor_of(name, self.places) for name in fields))
                        producer.feeds.append(feed)
                    feed.slots.append(slot)
        for producer in self.plan.producers:
            for feed in producer.feeds:
                feed.slots.sort(key=lambda slot: slot.index)
                feed.lean = len(feed.slots) == 1 and feed.slots[0].lean

    def _carry(self) -> None:
        """Fields an inner rule must hand to the rules above it, from its deciding event."""
        needed: dict[str, set[str]] = {}
        for compiled in reversed(self.plan.rules):
            rule = compiled.rule
            own = needed.get(rule.head.key, set())
            compiled.carry = tuple(sorted(own))
            compiled.carry_accessors = [accessor_of(name, self.places) for name in compiled.carry]
            compiled.group_accessors = {
                key: [accessor_of(rule.aliases.get(name, {}).get(key, name), self.places) for name in rule.group_by]
                for key in rule.rules
            }
            compiled.value_accessors = [accessor_of(name, self.places) for name in rule.fields]
            for step, key in enumerate(rule.rules):
                if key in self.rules.correlations:
                    asks = {rule.aliases.get(name, {}).get(key, name) for name in rule.group_by} | set(rule.fields)
                    asks |= {one.field for where in rule.head.where for one in where.operands if one.step == step}
                    needed.setdefault(key, set()).update(asks | own)


def _least(threshold: Threshold) -> int:
    """Smallest whole number above all lower bounds; at least 1, since nothing is decided before an event."""
    least = 1
    for operator, bound in threshold.bounds:
        if operator == "gte":
            least = max(least, math.ceil(bound))
        elif operator == "gt":
            least = max(least, math.floor(bound) + 1)
    return least


def _slot(keyspace: Keyspace, producers: frozenset[str], capture: Capture, horizon: int) -> Slot:
    for slot in keyspace.slots:
        if slot.producers == producers and slot.capture == capture:
            break
    else:
        slot = Slot(len(keyspace.slots), producers, capture)
        keyspace.slots.append(slot)
    slot.horizon = max(slot.horizon, horizon)
    keyspace.horizon = max(keyspace.horizon, horizon)
    return slot


def _register(compiled: Rule) -> None:
    """Enters a rule where its slots look for it, by the way it is decided."""
    slots = [compiled.keyspace.slots[index] for index in compiled.slot_set]
    if compiled.form == "general":
        for slot in slots:
            slot.general.append(compiled)
            slot.lean = False
        return
    compiled.place = len(compiled.keyspace.no_dues)
    compiled.keyspace.no_dues.append(-1)
    for slot in slots:
        slot.inline.add(compiled.index)
        slot.mates.update(other.index for other in slots if other is not slot)
    alone_decides = len(compiled.seq or slots) < 2
    if compiled.form == "count":
        slots[0].counts.append(Look(compiled, compiled.k))
        slots[0].counts.sort(key=lambda one: (one.number, one.place))
        alone_decides = compiled.k < 2
    elif compiled.form == "distinct":
        slots[0].distincts.append(Look(compiled, compiled.k))
        fields = compiled.rule.fields
        slots[0].value_field = fields[0] if len(fields) == 1 and is_attribute(fields[0]) else ""
    elif compiled.form == "all":
        for slot in slots:
            others = [other.index for other in slots if other is not slot]
            if len(others) == 1:
                slot.pairs.append(Look(compiled, others[0]))
            else:
                # Alone, a slot looks at itself twice: its newest entry is the one that just came.
                slot.alls.append(Look(compiled, 0, itemgetter(*(others or [slot.index] * 2))))
    else:
        first = compiled.seq[0]
        compiled.back = tuple(reversed(compiled.seq[:-1]))
        # An earlier step completes nothing: whether its events are members is looked at when somebody asks.
        compiled.keyspace.slots[compiled.seq[-1]].ordered_last.append(Look(compiled, first))
    if alone_decides:
        slots[0].lean = False


def _slots_of(tree: Any, rules: tuple[str, ...]) -> Any:
    """The positive tree with indexes into `rules` for references."""
    if isinstance(tree, RuleRef):
        return rules.index(tree.key)
    kind = "and" if isinstance(tree, All) else "or"
    return (kind, tuple(_slots_of(part, rules) for part in tree.parts))


def split_absence(condition: Any) -> tuple[set[str], set[str], Any]:
    """(positive keys, negated keys, positive tree) of a boolean condition.

    Raises ValueError unless it comes to `positive and not x and not y` (docs/rules.md section 6).
    """
    positive: list[Any] = []
    negative: set[str] = set()

    def walk(part: Any, negated: bool) -> None:
        if isinstance(part, Not):
            walk(part.part, not negated)
        elif isinstance(part, RuleRef):
            if negated:
                negative.add(part.key)
            else:
                positive.append(part)
        elif isinstance(part, All) is not negated:
            for one in part.parts:
                walk(one, negated)
        elif isinstance(part, Any_) and not negated and not _has_not(part):
            positive.append(part)
        else:
            raise ValueError("only `positive and not x and not y` can be decided in time")

    walk(condition, False)
    if not positive:
        raise ValueError("a condition needs a rule that must occur")
    tree = All(tuple(positive))
    return _names(tree), negative, tree


def _names(tree: Any) -> set[str]:
    if isinstance(tree, RuleRef):
        return {tree.key}
    return {key for part in tree.parts for key in _names(part)}


def _has_not(condition: Any) -> bool:
    if isinstance(condition, Not):
        return True
    return not isinstance(condition, RuleRef) and any(_has_not(part) for part in condition.parts)
