"""Field look-up, text and number forms, group keys (docs/rules.md sections 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.events import Entity, Event
from correlator.events.event import StateValue
from correlator.rules.fields import MISSING, accessor_of, keys_of, number_of, text_of
from tests.rules.language.house import House

EVENT = Event(
    id="0", site="h1", source="acs", dialect="access", kind="badge.granted", time_ms=5, received_ms=6,
    entities=(Entity("where", "door", "d-1"), Entity("via", "door", "d-2"), Entity("actor", "badge", "b-1")),
    carried={
        "plain": 1, "empty": None, "a.b": "flat", "a": {"b": "deep", "c": {"d": [1, 2]}},
        "rows": [{"name": "x"}, {"name": ["y", "z"]}, {"other": 1}, "text"], "door": "theirs", "badge.id": 7,
    },
    state=StateValue("door", "d-1", "lock", "open"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("plain", 1),
        ("empty", None),
        ("absent", MISSING),
        ("a.b", "flat"),
        ("a.c.d", [1, 2]),
        ("a.c", {"d": [1, 2]}),
        ("a.x", MISSING),
        ("plain.x", MISSING),
        ("rows.name", ["x", "y", "z"]),
        ("rows.nothing", MISSING),
        ("badge.id", 7),
        ("door", "theirs"),
        ("where.door", "d-1"),
        ("via.door", "d-2"),
        ("target.door", MISSING),
        ("badge", "b-1"),
        ("host", MISSING),
        ("kind", "badge.granted"),
        ("@kind", "badge.granted"),
        ("source", "acs"),
        ("dialect", "access"),
        ("site", "h1"),
        ("level", "informational"),
        ("time_ms", 5),
        ("state.attribute", "lock"),
        ("state.value", "open"),
        ("person", MISSING),
        ("zone", MISSING),
        ("", MISSING),
    ],
)
def test_a_name_is_looked_up(field: str, value: Any) -> None:
    found = accessor_of(field, None).get(EVENT)
    assert found == value
    assert (found is MISSING) is (value is MISSING)


@pytest.mark.parametrize(
    ("field", "value"),
    [("person", "p-017"), ("zone", ["z-hall", "z-pharmacy"]), ("floor", "f-1"), ("building", "main"), ("asset", "d-1")],
)
def test_the_site_model_answers_where_no_entity_does(field: str, value: Any) -> None:
    assert accessor_of(field, House()).get(EVENT) == value
    nowhere = Event(id="0", site="s", source="x", dialect="d", kind="log.entry", time_ms=0, received_ms=0)
    assert accessor_of(field, House()).get(nowhere) is MISSING


def test_what_an_entity_says_comes_before_the_site_model() -> None:
    event = Event(id="0", site="s", source="x", dialect="d", kind="log.entry", time_ms=0, received_ms=0,
                  entities=(Entity("where", "zone", "z-9"), Entity("actor", "person", "p-9")))  # fmt: skip
    assert accessor_of("zone", House()).get(event) == "z-9"
    assert accessor_of("person", House()).get(event) == "p-9"


def test_an_attribute_shadows_our_name_but_not_the_name_with_an_at_sign() -> None:
    event = Event(id="0", site="s", source="x", dialect="d", kind="log.entry", time_ms=0, received_ms=0,
                  carried={"kind": "Pod", "@kind": "other"})  # fmt: skip
    assert accessor_of("kind", None).get(event) == "Pod"
    assert accessor_of("@kind", None).get(event) == "log.entry"


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (1, ("1",)), (1.0, ("1",)), ("1", ("1",)), (True, ("true",)), ("true", ("true",)), (False, ("false",)),
        (-0.0, ("0",)), (2.5, ("2.5",)), ("Keeps", ("Keeps",)), ("", ()), (None, ()), ({}, ()), ({"a": 1}, ()),
        (MISSING, ()), ([], ()), (["a", "b", "a", 1, "1", None, "", {}], ("a", "b", "1")), ([[1]], ()),
        (("a", "b"), ("a", "b")),
    ],
)  # fmt: skip
def test_group_keys(value: Any, keys: Sequence[str]) -> None:
    assert keys_of(value) == keys


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1), (2.5, 2.5), ("3", 3), ("-3.5", -3.5), ("+1e3", 1000.0), (".5", 0.5), ("5.", 5.0), (True, None), (None, None),
        ("", None), (" 1", None), ("1_000", None), ("0x10", None), ("nan", None), ("inf", None), (float("nan"), None),
        (float("inf"), None), ("1e999", None), ("٣", None), ([1], None), ("9" * 65, None),
    ],
)  # fmt: skip
def test_numbers(value: Any, number: float | None) -> None:
    found = number_of(value)
    assert found == number
    assert type(found) is type(number)


@given(st.one_of(st.integers(), st.floats(allow_nan=False)))
def test_numbers_that_are_equal_have_one_text(value: float) -> None:
    # Whole floats from 1e16 on are written with an exponent, as everywhere; no log counts that far.
    if abs(value) < 1e16 and value == int(value):
        assert text_of(value) == text_of(int(value)) == text_of(float(int(value)))
    else:
        assert text_of(value) == str(value)
