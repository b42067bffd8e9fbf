"""Small random rule sets and event lists in which things happen: few keys, few kinds of events, spans of a
few seconds, and times that fall on edges and on each other.

Rules are made as syntax trees, so what is drawn does not depend on the loader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from correlator.events import Event
from correlator.rules.syntax import (
    METRIC_TYPES,
    All,
    Any_,
    CorrelationRule,
    DetectionRule,
    FieldTest,
    LogSource,
    Not,
    Operand,
    Position,
    RuleHead,
    RuleRef,
    RuleSet,
    Threshold,
    Where,
)

START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
LATENESS_MS = 2_000
SPANS_MS = (1_000, 2_000, 3_000, 5_000)
DETECTIONS = ("a", "b", "c", "x", "ab")
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """Rules, events in the order they arrive, and `until` (None: end of input)."""

    rules: RuleSet
    events: tuple[Event, ...]
    until_ms: int | None = None


# ---- rules ---------------------------------------------------------------------------------------


def _head(name: str, where: tuple[Where, ...] = ()) -> RuleHead:
    return RuleHead(
        key=name, id="", name=name, title=name, level="low", tags=(), description="", falsepositives=(), status="",
        position=Position("drawn.yml", 1, 1), where=where,
    )  # fmt: skip


def detection(name: str) -> DetectionRule:
    """`act` is one of the letters of the name."""
    tests = tuple(FieldTest("act", "equals", letter) for letter in name)
    return DetectionRule(_head(name), LogSource(), tests[0] if len(tests) == 1 else Any_(tests))


def _bounds(values: tuple[float, ...]) -> st.SearchStrategy[Threshold]:
    value = st.sampled_from(values)
    low = st.tuples(st.sampled_from(("gte", "gte", "gte", "gt")), value).map(lambda one: Threshold((one,)))
    other = st.tuples(st.sampled_from(("lt", "lte", "eq", "neq")), value).map(lambda one: Threshold((one,)))
    both = st.tuples(value, value).map(lambda two: Threshold((("gte", min(two)), ("lt", max(two) + 1))))
    return st.one_of(low, low, low, other, both)


COUNTS = _bounds((1, 2, 2, 3))
METRICS = _bounds((1, 2, 2.5, 4, 5))


def _where(draw: Draw, kind: str, names: tuple[str, ...]) -> tuple[Where, ...]:
    if draw(st.integers(0, 4)):
        return ()
    one = st.sampled_from(range(len(names)))
    first = draw(one)
    second = draw(one) if kind.startswith("temporal") else first
    predicate = draw(st.sampled_from(("same", "different", "greater")))
    fields = ("v", "w") if predicate == "greater" else ("h", "g" if first == second else "h")
    operands = (Operand(first, fields[0]), Operand(second, fields[1]))
    return (Where(predicate, operands, negated=draw(st.sampled_from((False, False, True)))),)


def _positive(draw: Draw, keys: list[str]) -> Any:
    refs = tuple(RuleRef(key) for key in keys)
    if len(refs) > 1 and draw(st.integers(0, 3)) == 0:
        return Any_(refs) if len(refs) == 2 else All((Any_(refs[:2]), *refs[2:]))
    return refs[0] if len(refs) == 1 else All(refs)


def _condition(draw: Draw, ordered: bool, rules: tuple[str, ...]) -> tuple[Any, str]:
    """(condition, absent) of a temporal type over these rules."""
    absence = draw(st.booleans()) and len(rules) > 1
    if not absence:
        if ordered:
            return All(tuple(RuleRef(key) for key in rules)), ""
        if draw(st.integers(0, 3)) == 0:
            return draw(_bounds(tuple(range(1, len(rules) + 1)))), ""
        return _positive(draw, list(rules)), ""
    positive, negated = list(rules[:-1]), [rules[-1]]
    if len(positive) > 2:
        negated.append(positive.pop())
    good = All(tuple(RuleRef(key) for key in positive)) if ordered else _positive(draw, positive)
    bad = Not(RuleRef(negated[0])) if len(negated) == 1 else Not(Any_(tuple(RuleRef(key) for key in negated)))
    ways = ["before", "after", "around"] + (["between"] if len(positive) > 1 else [])
    return All((good, bad)), draw(st.sampled_from(ways))


@st.composite
def correlations(draw: Draw, name: str, known: tuple[str, ...]) -> CorrelationRule:
    """One correlation over some of the known rules."""
    kind = draw(
        st.sampled_from((
            "event_count", "value_count", "temporal", "temporal", "temporal", "temporal_ordered", "temporal_ordered",
            "temporal_ordered", "value_sum", "value_avg", "value_percentile", "value_median",
        ))
    )  # fmt: skip
    most = 4 if kind.startswith("temporal") else 2
    least = 2 if kind == "temporal_ordered" else 1
    rules = tuple(draw(st.lists(st.sampled_from(known), min_size=least, max_size=most, unique=True)))
    sequence: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    condition: Any
    absent = ""
    if kind == "event_count":
        condition = draw(COUNTS)
    elif kind == "value_count":
        fields = draw(st.sampled_from((("h",), ("h",), ("h", "g"))))
        condition = draw(COUNTS)
    elif kind.startswith("value_"):
        fields = ("v",)
        condition = draw(METRICS)
    else:
        condition, absent = _condition(draw, kind == "temporal_ordered", rules)
        if kind == "temporal_ordered" and not absent and draw(st.integers(0, 3)) == 0:
            sequence = (*rules, rules[0])
    tumbles = isinstance(condition, Threshold) and condition.needs_window_end
    # Conditions between events at a window's end, and which of its rules an event triggers when it is two of
    # them at once, are left open by docs/rules.md.
    with_where = not kind.startswith("temporal") or not (tumbles or {"a", "ab"} <= {*rules} or {"b", "ab"} <= {*rules})
    return CorrelationRule(
        head=_head(name, _where(draw, kind, sequence or rules) if with_where else ()),
        type=kind,
        rules=rules,
        group_by=draw(st.sampled_from(((), ("k",), ("k",), ("k",), ("k", "h")))),
        timespan_ms=draw(st.sampled_from(SPANS_MS)),
        condition=condition,
        sequence=sequence,
        aliases=draw(st.sampled_from(({}, {}, {}, {"k": {rules[0]: "h"}}))),
        fields=fields,
        percentile=draw(st.sampled_from((95.0, 50.0))) if kind == "value_percentile" else 95.0,
        absent=absent,
        max_gap_ms=draw(st.sampled_from((0, 0, 500, 1_000))) if kind == "temporal_ordered" else 0,
        select=draw(st.sampled_from(("episode", "episode", "episode", "each"))),
    )


@st.composite
def rule_sets(draw: Draw, most: int = 3, chained: bool = True) -> RuleSet:
    """One to three correlations; a later one may refer to an earlier one. Detections that nothing uses print."""
    made: dict[str, CorrelationRule] = {}
    for number in range(draw(st.integers(1, most))):
        name = f"r{number}"
        known = DETECTIONS + (tuple(made) if chained and draw(st.booleans()) else ())
        made[name] = draw(correlations(name, known))
    quiet = frozenset(key for rule in made.values() for key in rule.rules)
    loud = frozenset(draw(st.sets(st.sampled_from(DETECTIONS + tuple(made)), max_size=1)))
    made = {key: replace(rule, generate=key in loud) for key, rule in made.items()}
    return RuleSet({name: detection(name) for name in DETECTIONS}, made, quiet - loud)


@st.composite
def alike(draw: Draw) -> RuleSet:
    """Three correlations over the same rules and groups, which may share windows: only spans, types, conditions
    differ."""
    first = draw(correlations("r0", DETECTIONS))
    made = {"r0": first}
    for name in ("r1", "r2"):
        other = replace(
            first,
            head=replace(first.head, key=name, name=name),
            timespan_ms=draw(st.sampled_from(SPANS_MS)),
            select=draw(st.sampled_from(("episode", "episode", "each"))),
        )
        if not first.type.startswith("temporal"):
            kind = draw(st.sampled_from(("event_count", "value_count", *METRIC_TYPES)))
            metric = kind in METRIC_TYPES
            other = replace(
                other,
                type=kind,
                fields=("v",) if metric else ("h",) if kind == "value_count" else (),
                condition=draw(METRICS if metric else COUNTS),
            )
        made[name] = other
    quiet = frozenset(first.rules)
    return RuleSet({name: detection(name) for name in DETECTIONS}, made, quiet)


# ---- events ----------------------------------------------------------------------------------------

_ABSENT = object()
_TIMES = st.integers(0, 24).map(lambda half: half * 500)
_SHIFTS = st.sampled_from((0, 0, 0, 0, 0, 1, -1, 250))
_DELAYS = st.sampled_from((0, 0, 0, 300, 1_000, 1_999, 2_000))
_LATE = st.sampled_from((0, 0, 0, 0, 0, 300, 1_000, 2_000, 2_001, 4_000))
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "act": st.sampled_from(("a", "a", "b", "b", "c", "x", "other")),
    "k": st.sampled_from(("u", "u", "u", "u", "v", 1, "1", 1.0, True, "true", None, "", _ABSENT, ["u", "v"], {"n": 1})),
    "h": st.sampled_from(("p", "p", "p", "q", "q", ["p", "q"], 1, "1", None, _ABSENT)),
    "g": st.sampled_from(("p", "q", _ABSENT)),
    "v": st.sampled_from((0, 1, 2, 3, 5, "4", 2.5, -2, True, "n", _ABSENT)),
    "w": st.sampled_from((1, 2, 3, _ABSENT)),
}


@st.composite
def events(draw: Draw, most: int = 14, late: bool = True, site: str = "s") -> list[Event]:
    """Events with unique ids in the order they arrive; some late, many at one time."""
    drawn = draw(
        st.lists(
            st.tuples(
                _TIMES, _SHIFTS, _LATE if late else _DELAYS, st.sampled_from(("s1", "s2")), st.integers(0, 2),
                st.fixed_dictionaries(_FIELDS),
            ),
            min_size=min(4, most),
            max_size=most,
        )
    )  # fmt: skip
    made = []
    for number, (at_ms, shift_ms, delay_ms, source, seq, fields) in enumerate(drawn):
        time_ms = START_MS + max(at_ms + shift_ms, 0)
        made.append(
            Event(
                id=f"{number * 7919 % 10007:032x}",
                site=site,
                source=source,
                dialect="mapped",
                kind="log.entry",
                time_ms=time_ms,
                received_ms=time_ms + delay_ms,
                seq=seq,
                carried={key: value for key, value in fields.items() if value is not _ABSENT},
            )
        )
    return sorted(made, key=lambda event: event.received_ms)


@st.composite
def cases(draw: Draw, most: int = 14, late: bool = True, chained: bool = True) -> Case:
    """Rules and events; half of them end at an `until` that no event lies after."""
    rules = draw(rule_sets(chained=chained))
    made = tuple(draw(events(most, late)))
    last_ms = max(max(event.time_ms, event.received_ms - LATENESS_MS) for event in made)
    until_ms = draw(st.sampled_from((None, None, last_ms, last_ms + 1_000, last_ms + 2_500, last_ms + 9_000)))
    return Case(rules, made, until_ms)


def at_other_receive_times(event: Event, delay_ms: int) -> Event:
    """The same event received at another time, on the same side of lateness."""
    from msgspec.structs import replace as with_values

    if event.received_ms - event.time_ms > LATENESS_MS:
        return event
    return with_values(event, received_ms=event.time_ms + delay_ms)
