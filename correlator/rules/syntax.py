"""What a rule file says, as plain frozen values: the AST between the loader and the compiler.

Source: Sigma specification 2.1.0 (rules, correlations, filters) and the 2.2 draft's boolean
conditions; extensions under `x-correlator`. The run-time meaning of each part is docs/rules.md.
A rule is referred to by its `key`: its id where it has one, else its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COUNT_TYPES = ("event_count", "value_count")
TEMPORAL_TYPES = ("temporal", "temporal_ordered")
METRIC_TYPES = ("value_sum", "value_avg", "value_percentile", "value_median")
CORRELATION_TYPES = COUNT_TYPES + TEMPORAL_TYPES + METRIC_TYPES
OPERATORS = ("gt", "gte", "lt", "lte", "eq", "neq")


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands; line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class LogSource:
    """Sigma `logsource`; "" where a part is not given."""

    product: str = ""
    category: str = ""
    service: str = ""


# ---- detection conditions: a tree over field tests --------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One field against one value, modifiers already applied.

    test: "equals" (any case unless cased; value str, int, float, bool or None), "wildcard" (value is a
    tuple of literal str, "*" and "?" tokens as Wild), "regex" (RE2 pattern text; flags as in `flags`),
    "cidr", "lt" "lte" "gt" "gte" (number), "exists" (value bool), "field" (value names another field;
    how = equals|startswith|endswith|contains in `flags`), "time" (`flags` is minute, hour, day, week,
    month or year; value int), "keyword" (field is "": searched in the message text), "never".
    neq: the Sigma `neq` modifier: true when the field is present and the test fails.
    """

    field: str
    test: str
    value: Any
    flags: str = ""
    cased: bool = False
    neq: bool = False


@dataclass(frozen=True, slots=True)
class Wild:
    """A wildcard inside a "wildcard" value: "*" any run of characters, "?" exactly one."""

    sign: str


@dataclass(frozen=True, slots=True)
class All:
    """True when every part is."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Any_:
    """True when at least one part is."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True when the part is not."""

    part: Any


@dataclass(frozen=True, slots=True)
class RuleRef:
    """In a correlation's boolean condition: the rule with this key is present in the window."""

    key: str


@dataclass(frozen=True, slots=True)
class Threshold:
    """`gte: 3`, or a range of two; every bound must hold. Values may be int or float."""

    bounds: tuple[tuple[str, float], ...]

    @property
    def needs_window_end(self) -> bool:
        """lt, lte, eq and neq can only be decided when the window is over."""
        return any(operator not in ("gt", "gte") for operator, _ in self.bounds)

    def holds(self, value: float) -> bool:
        """Whether every bound holds for a value."""
        for operator, bound in self.bounds:
            if operator == "gte":
                ok = value >= bound
            elif operator == "gt":
                ok = value > bound
            elif operator == "lt":
                ok = value < bound
            elif operator == "lte":
                ok = value <= bound
            elif operator == "eq":
                ok = value == bound
            else:
                ok = value != bound
            if not ok:
                return False
        return True


# ---- x-correlator ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operand:
    """`step.field` of a `where` entry. step: index into the rule's `sequence` if it gives one, else into
    `rules` (an absent rule too); -1 = the event itself (detection rules). field "" = the place of the
    event."""

    step: int
    field: str


@dataclass(frozen=True, slots=True)
class Where:
    """One condition of `x-correlator.where`.

    predicate: a word of `WHERE_PREDICATES`; operands in order; options as given (durations in ms,
    numbers, lists of words); negated by `not:`.
    """

    predicate: str
    operands: tuple[Operand, ...]
    options: tuple[tuple[str, Any], ...] = ()
    negated: bool = False
    position: Position | None = field(default=None, repr=False)


# predicate -> (number of operands, {option: kind}, what it says)
WHERE_PREDICATES: dict[str, tuple[int, dict[str, str], str]] = {
    "same": (2, {}, "both values are equal (lists: have a common element)"),
    "different": (2, {}, "both values are present and not equal"),
    "greater": (2, {"by": "number"}, "the first number is greater than the second (plus `by`)"),
    "same-zone": (2, {}, "both places have a zone in common"),
    "within-doors": (2, {"doors": "number"}, "at most `doors` doors lie between the two places"),
    "sooner-than-walk": (2, {"factor": "number"}, "the second came sooner than the walk between the places takes"),
    "camera-covers": (2, {}, "the camera covers the place"),
    "in-zone": (2, {}, "the thing stands in that zone"),
    "reachable": (2, {}, "the second host is reachable from the first over the network"),
    "owns": (2, {}, "the person owns the account or holds the badge"),
    "person-in-zone": (2, {"confidence": "number"}, "the person is known to be in the zone now"),
    "person-on-site": (1, {"confidence": "number"}, "the person is known to be inside the site now"),
    "last-seen": (2, {"within": "duration"}, "the badge or person was last seen in that zone"),
    "working-hours": (1, {}, "the event falls into the working hours of the zone"),
    "in-window": (1, {}, "a declared window covers the event"),
    "restricted": (1, {}, "the zone or place is restricted"),
    "validity": (1, {"is": "words"}, "the badge or account is valid|expired|not_yet|superseded|disabled|unknown"),
    "unused": (1, {"for": "duration"}, "the badge or account was used before, but not for that long"),
    "known": (1, {}, "the site model knows the thing"),
}


# ---- rules -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One in-file test under `x-correlator.tests`: events in, matches expected.

    events: maps {at: "0s", ...fields}; expect: number of matches (0 = silence); name: a sentence.
    until_ms: how long after the start the test runs, 0 = until everything is decided. start_ms: the
    time of `at: 0s`, 0 = any. site: a site file's content written into the test; site_file: or the path of
    one, relative to the rule file.
    """

    name: str
    events: tuple[dict[str, Any], ...]
    expect: int
    position: Position = field(repr=False)
    until_ms: int = 0
    site: dict[str, Any] | None = None
    start_ms: int = 0
    site_file: str = ""


@dataclass(frozen=True, slots=True)
class RuleHead:
    """What detections and correlations have in common."""

    key: str
    id: str
    name: str
    title: str
    level: str
    tags: tuple[str, ...]
    description: str
    falsepositives: tuple[str, ...]
    status: str
    position: Position = field(repr=False)  # what decides is told by `repr`: it is the same wherever the rule stands
    asset: str = ""  # x-correlator.asset, e.g. "b.door" (correlation) or "door" (detection)
    threat_type: str = ""
    tests: tuple[RuleTest, ...] = field(default=(), repr=False)
    where: tuple[Where, ...] = ()
    said: str = ""  # x-correlator.says: the plain sentence for a facility manager
    asset_operand: Operand | None = None  # `asset` resolved: step as in `where`, -1 in a detection


@dataclass(frozen=True, slots=True)
class DetectionRule:
    """A Sigma detection rule: log source, and a condition tree of FieldTest, All, Any_, Not."""

    head: RuleHead
    logsource: LogSource
    condition: Any


@dataclass(frozen=True, slots=True)
class CorrelationRule:
    """A Sigma correlation rule with references resolved to keys.

    rules: keys as listed; sequence: keys in order (temporal_ordered; may repeat a key), () = as `rules`.
    aliases: alias -> {rule key: field}. condition: Threshold (count, metric; temporal = number of
    different rules) or a tree of RuleRef, All, Any_, Not (temporal types; default All of all).
    absent: "", "before", "between", "after" or "around" (no `absent` given but a `not`).
    percentile: for value_percentile. select: "episode" or "each".
    """

    head: RuleHead
    type: str
    rules: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan_ms: int
    condition: Any
    sequence: tuple[str, ...] = ()
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    percentile: float = 95.0
    generate: bool = False
    absent: str = ""
    max_gap_ms: int = 0
    select: str = "episode"


@dataclass(frozen=True, slots=True)
class RuleException:
    """What a site does not want to hear of: the matches of a rule, or what comes of a kind of event, there
    and then. A match that fits is written as `excepted` and becomes no finding.

    rule: key of a rule, "" where `kind` (of events) is given. fields: (name, texts), each of which must hold
    of the group or of the deciding event. asset: id of the finding's asset, "": any. from_ms: -1 without a
    beginning; both ms UTC, the end not included.
    """

    rule: str
    kind: str
    fields: tuple[tuple[str, tuple[str, ...]], ...]
    asset: str
    from_ms: int
    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Everything loaded, ready to compile.

    correlations are in an order in which each comes after those it refers to. used: keys that a
    correlation refers to and that do not print by themselves (no `generate`). exceptions: of the overlay.
    """

    detections: dict[str, DetectionRule]
    correlations: dict[str, CorrelationRule]
    used: frozenset[str]
    exceptions: tuple[RuleException, ...] = ()
