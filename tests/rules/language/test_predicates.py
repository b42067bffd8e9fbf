"""Compiled predicates: they agree with a plain evaluator, with their own explanation and with their anchors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.clock import zone_named
from correlator.events import Entity, Event
from correlator.events.kinds import KINDS
from correlator.rules.fields import MISSING, accessor_of
from correlator.rules.logsource import CATEGORIES, PRODUCTS, SERVICES
from correlator.rules.predicates import Known, Predicate, compile_condition
from correlator.rules.syntax import All, Any_, FieldTest, LogSource, Not, Wild
from tests.rules.language import naive

ROME = zone_named("Europe/Rome")
FIELDS = st.sampled_from(["f", "g", "deep.down", "kind", "door", "where.door", "n"])
TEXT = st.text(alphabet="aAbB01.*?[-", max_size=4)
VALUES = st.one_of(TEXT, st.integers(-2, 12), st.sampled_from([1.0, 2.5, -0.0, 1e16, 1e300]), st.booleans())
KIND = st.sampled_from(["door.opened", "badge.denied", "log.entry"])
WILD_VALUE = st.lists(st.one_of(st.sampled_from([Wild("*"), Wild("?")]), TEXT), min_size=1, max_size=5).map(tuple)
PATTERN = st.sampled_from(["a", "^a", "a.b", "[01]+$", "(a|b)1", "^$", "A?b"])
CIDR = st.sampled_from(["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"])
FLAG = st.booleans()


def made(test: str, value: st.SearchStrategy[Any], flags: st.SearchStrategy[str] = st.just("")) -> Any:
    cased = FLAG if test in ("equals", "wildcard") else st.just(False)
    return st.builds(FieldTest, FIELDS, st.just(test), value, flags, cased, FLAG)


TESTS = st.one_of(
    made("equals", st.one_of(VALUES, KIND, st.none())),
    made("equals", st.one_of(VALUES, KIND)),
    made("wildcard", WILD_VALUE.filter(lambda parts: any(isinstance(part, Wild) for part in parts))),
    made("regex", PATTERN),
    made("cidr", CIDR),
    st.sampled_from(["lt", "lte", "gt", "gte"]).flatmap(lambda how: made(how, st.sampled_from([0, 1, 2.5, 11]))),
    st.builds(FieldTest, FIELDS, st.just("exists"), FLAG),
    made("field", FIELDS, st.sampled_from(["equals", "startswith", "endswith", "contains"])),
    made("time", st.integers(0, 12), st.sampled_from(["minute", "hour", "day", "week", "month", "year"])),
    st.builds(FieldTest, st.just(""), st.just("keyword"), st.one_of(TEXT, WILD_VALUE), st.just(""), FLAG, FLAG),
)
TREES = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda parts: All(tuple(parts))),
        st.lists(inner, min_size=1, max_size=4).map(lambda parts: Any_(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=8,
)
SCALAR = st.one_of(VALUES, st.none(), st.sampled_from(["192.0.2.9", "2001:db8::1", "11", "2.5", "true", "1e16"]))
FIELD_VALUE = st.one_of(
    SCALAR, st.lists(SCALAR, max_size=3), st.dictionaries(st.sampled_from("ab"), SCALAR, max_size=1)
)
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "f": FIELD_VALUE,
        "g": FIELD_VALUE,
        "n": SCALAR,
        "kind": st.one_of(KIND, SCALAR),
        "deep": st.one_of(SCALAR, st.fixed_dictionaries({}, optional={"down": FIELD_VALUE})),
        "deep.down": FIELD_VALUE,
    },
)


@st.composite
def events(draw: Any) -> Event:
    entities = draw(st.lists(st.builds(Entity, st.sampled_from(["where", "via"]), st.just("door"), st.sampled_from("ab")),
                             max_size=2))  # fmt: skip
    return Event(
        id="0", site="s", source="x", dialect="mapped", kind=draw(KIND), time_ms=draw(st.integers(0, 2_000_000_000_000)),
        received_ms=0, entities=tuple(entities), carried=draw(ATTRIBUTES), text=draw(st.one_of(st.just(""), TEXT)),
    )  # fmt: skip


def compiled(tree: Any) -> Predicate:
    return compile_condition(tree, LogSource(), (), None, ROME)


def anchored(predicate: Predicate, event: Event) -> bool:
    """Whether an index over the anchors would let the event through."""
    assert predicate.anchors is not None
    for field, text in predicate.anchors:
        value = accessor_of(field, None).get(event)
        if value is not MISSING:
            for one in value if isinstance(value, list) else [value]:
                if str(one).lower() == text:
                    return True
    return False


@settings(max_examples=250, deadline=None)
@given(TREES, st.lists(events(), min_size=1, max_size=4))
def test_a_predicate_a_plain_evaluator_its_explanation_and_its_anchors_agree(tree: Any, seen: list[Event]) -> None:
    predicate = compiled(tree)
    for event in seen:
        result = predicate.test(event)
        assert result is naive.holds(tree, event, ROME)
        assert predicate.explain(event)[0].holds is result
        if predicate.anchors is not None:
            assert anchored(predicate, event) or not result, "an anchor never misses"
            if predicate.exact:
                assert anchored(predicate, event) is result, "an exact anchor decides alone"


@settings(max_examples=250, deadline=None)
@given(TREES, st.lists(events(), min_size=1, max_size=4))
def test_what_kind_and_dialect_settle_decides_as_the_whole_does(tree: Any, seen: list[Event]) -> None:
    source = LogSource("correlator", "door", "mapped")
    for predicate in (compiled(tree), compile_condition(tree, source, (), None, ROME)):
        for event in seen:
            left = predicate.settled(Known(event.kind, event.dialect, "kind" not in event.attributes))
            assert (left if isinstance(left, bool) else left.test(event)) is predicate.test(event)


def test_of_a_rule_about_one_kind_nothing_is_left_to_ask_of_other_kinds() -> None:
    tree = All((FieldTest("kind", "equals", "door.opened"), FieldTest("f", "equals", "x")))
    predicate = compile_condition(tree, LogSource("correlator", "door"), (), None, ROME)
    assert predicate.settled(Known("badge.denied", "mapped", plain=True)) is False
    left = predicate.settled(Known("door.opened", "mapped", plain=True))
    assert isinstance(left, Predicate)
    assert left.choices == ((("f", "x"),),)
    assert left.exact
    shadowed = predicate.settled(Known("door.opened", "mapped", plain=False))
    assert isinstance(shadowed, Predicate)
    assert (("kind", "door.opened"),) in shadowed.choices


def test_an_explanation_shows_each_part_with_the_value_it_met() -> None:
    tree = All((
        FieldTest("kind", "equals", "badge.denied"),
        Any_((FieldTest("n", "gte", 3), FieldTest("f", "wildcard", ("a", Wild("*"))))),
        Not(FieldTest("g", "equals", "x")),
    ))  # fmt: skip
    event = Event(id="0", site="s", source="x", dialect="d", kind="badge.denied", time_ms=0, received_ms=0,
                  carried={"n": 2, "g": "X"})  # fmt: skip
    told = [("  " * step.depth + step.says, step.met, step.holds) for step in compiled(tree).explain(event)]
    assert told == [
        ("all of", MISSING, False),
        ('  kind is "badge.denied"', "badge.denied", True),
        ("  not", MISSING, False),
        ('    g is "x"', "X", True),
        ("  at least one of", MISSING, False),
        ('    f starts with "a"', MISSING, False),
        ("    n >= 3", 2, False),
    ]


# ---- anchors -----------------------------------------------------------------------------------

KIND_TEST = FieldTest("kind", "equals", "door.opened")
NUMBER = FieldTest("EventID", "equals", 4625)
OTHER = FieldTest("user", "equals", "Admin")
LIKE = FieldTest("path", "wildcard", (Wild("*"), "x"))


@pytest.mark.parametrize(
    ("tree", "anchors"),
    [
        (KIND_TEST, (("kind", "door.opened"),)),
        (OTHER, (("user", "admin"),)),
        (NUMBER, (("EventID", "4625"), ("EventID", "4625.0"))),
        (FieldTest("on", "equals", True), (("on", "true"),)),
        (All((OTHER, KIND_TEST, LIKE)), (("kind", "door.opened"),)),
        (All((OTHER, NUMBER)), (("EventID", "4625"), ("EventID", "4625.0"))),
        (All((LIKE, OTHER)), (("user", "admin"),)),
        (Any_((KIND_TEST, OTHER)), (("kind", "door.opened"), ("user", "admin"))),
        (Any_((KIND_TEST, LIKE)), None),
        (LIKE, None),
        (Not(OTHER), None),
        (FieldTest("f", "equals", None), None),
        (FieldTest("f", "equals", "a", neq=True), None),
        (FieldTest("f", "never", None), ()),
    ],
)
def test_anchors_name_the_most_selective_shared_field(tree: Any, anchors: Any) -> None:
    found = compiled(tree).anchors
    assert (found if found is None else tuple(sorted(found))) == anchors


@pytest.mark.parametrize(
    ("tree", "exact"),
    [(KIND_TEST, True), (Any_((KIND_TEST, FieldTest("kind", "equals", "door.closed"))), True), (NUMBER, False),
     (FieldTest("f", "equals", "a", cased=True), False), (All((KIND_TEST, OTHER)), False),
     (FieldTest("f", "equals", "none"), False), (FieldTest("f", "equals", "[1]"), False)],
)  # fmt: skip
def test_a_lone_equals_is_decided_by_its_anchor(tree: Any, exact: bool) -> None:
    assert compiled(tree).exact is exact


def test_a_rule_of_patterns_alone_falls_back_on_its_log_source() -> None:
    source = LogSource("windows", "process_creation")
    found = compile_condition(LIKE, source, (), None, ROME)
    assert found.anchors is not None
    assert ("@kind", "process.created") in found.anchors
    assert {field for field, _ in found.anchors} == {"@kind", "EventID"}
    assert compile_condition(LIKE, source, (), None, ROME, filter_logsource=False).anchors is None


# ---- log sources -------------------------------------------------------------------------------


def logged(event_kind: str, dialect: str, **attributes: Any) -> Event:
    return Event(id="0", site="s", source="x", dialect=dialect, kind=event_kind, time_ms=0, received_ms=0,
                 carried=attributes)  # fmt: skip


SYSMON = "Microsoft-Windows-Sysmon/Operational"


@pytest.mark.parametrize(
    ("source", "event", "fits"),
    [
        (LogSource("windows", service="security"), logged("host.logon", "windows-security", Channel="Security"), True),
        (LogSource("windows", service="security"), logged("host.logon", "windows-security", Channel="System"), False),
        (LogSource("windows", service="security"), logged("log.entry", "mapped", Channel="security"), True),
        (LogSource("windows", service="sysmon"), logged("process.created", "sysmon", EventID=1), True),
        (LogSource("windows"), logged("host.logon", "syslog"), False),
        (LogSource("windows", "process_creation"), logged("process.created", "sysmon", EventID=1), True),
        (LogSource("windows", "process_creation"), logged("log.entry", "mapped", EventID=1, Channel=SYSMON), True),
        (LogSource("windows", "process_creation"), logged("log.entry", "mapped", EventID=1, Channel="System"), False),
        (
            LogSource("windows", "process_creation"),
            logged("log.entry", "mapped", EventID=4688, Channel="Security"),
            True,
        ),
        (LogSource("windows", "process_creation"), logged("process.created", "auditd"), False),
        (LogSource("linux", "process_creation"), logged("process.created", "auditd"), True),
        (LogSource(category="process_creation"), logged("process.created", "wazuh"), True),
        (LogSource("windows", "registry_set"), logged("registry.changed", "sysmon", EventID=13), True),
        (LogSource("windows", "registry_set"), logged("registry.changed", "sysmon", EventID=12), False),
        (LogSource("zeek", service="dns"), logged("dns.query", "zeek"), True),
        (LogSource("zeek", service="dns"), logged("dns.query", "suricata"), False),
        (LogSource("zeek", service="conn"), logged("dns.query", "zeek"), False),
        (LogSource("linux", service="sshd"), logged("host.logon_failed", "syslog", appname="sshd"), True),
        (LogSource("linux", service="sshd"), logged("command.run", "syslog", appname="sudo"), False),
        (LogSource("linux", service="auth"), logged("command.run", "syslog", appname="sudo"), True),
        (LogSource("suricata", "ids"), logged("ids.alert", "suricata"), True),
        (LogSource(category="antivirus"), logged("file.verdict", "clamav"), True),
        (LogSource("correlator"), logged("door.opened", "mapped"), True),
        (LogSource("correlator", "door"), logged("door.opened", "mapped"), True),
        (LogSource("correlator", "door"), logged("badge.denied", "mapped"), False),
        (LogSource("correlator", "door"), logged("badge.denied", "mapped", kind="door.opened"), False),
        (LogSource("correlator", service="frigate"), logged("person.seen", "frigate"), True),
        (LogSource("nobody_knows", "nothing"), logged("door.opened", "mapped"), True),
    ],
)
def test_a_log_source_lets_through(source: LogSource, event: Event, fits: bool) -> None:
    found = compile_condition(None, source, (), None, ROME)
    assert found.test(event) is fits
    assert compile_condition(None, source, (), None, ROME, filter_logsource=False).test(event)


def test_the_log_source_table_names_only_kinds_there_are() -> None:
    trees = [*PRODUCTS.values(), *CATEGORIES.values(), *(one for table in SERVICES.values() for one in table.values())]
    named = {test.value for tree in trees if tree is not None for test in leaves(tree) if test.field == "@kind"}
    assert named - set(KINDS) == set()


def leaves(tree: Any) -> list[FieldTest]:
    if isinstance(tree, FieldTest):
        return [tree]
    return [leaf for part in (getattr(tree, "parts", None) or (tree.part,)) for leaf in leaves(part)]
