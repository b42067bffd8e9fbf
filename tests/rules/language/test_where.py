"""Every predicate of `x-correlator.where`, over a house written out by hand (house.py)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from correlator.events import Entity, Event
from correlator.rules.load import rules_text
from correlator.rules.places import Places
from correlator.rules.syntax import WHERE_PREDICATES
from correlator.rules.testing import role_in
from correlator.rules.where import WhereTest, compile_where, where_text
from tests.rules.language.house import House

ENTITIES = ("door", "host", "badge", "account", "person", "camera", "zone")


def event(time_ms: int = 0, **given: Any) -> Event:
    entities = tuple(Entity(role_in("log.entry", key), key, value) for key, value in given.items() if key in ENTITIES)
    attributes = {key: value for key, value in given.items() if key not in ENTITIES}
    return Event(id="0", site="s", source="x", dialect="d", kind="log.entry", time_ms=time_ms, received_ms=time_ms,
                 entities=entities, carried=attributes)  # fmt: skip


def condition(text: str, places: Places | None = None) -> WhereTest:
    """The condition of a sequence a, b; `event` operands are written as a detection's."""
    one_event = not any(f"{name}." in text or f"{name}," in text or f"{name}]" in text for name in "ab")
    entry = yaml.safe_load(text)
    if one_event:
        document: dict[str, Any] = {"title": "r", "name": "r", "logsource": {"product": "correlator"},
                                    "detection": {"s": {"f": 1}, "condition": "s"}}  # fmt: skip
    else:
        document = {
            "title": "r",
            "name": "r",
            "correlation": {"type": "temporal", "rules": ["a", "b"], "timespan": "1m"},
        }
    bases = [{"title": n, "name": n, "logsource": {"product": "correlator"}, "detection": {"s": {"f": n}, "condition": "s"}}
             for n in "ab"]  # fmt: skip
    loaded = rules_text(yaml.safe_dump_all([*bases, {**document, "x-correlator": {"where": [entry]}}]))
    assert not loaded.errors, loaded.errors
    rule = loaded.rules.detections.get("r") or loaded.rules.correlations["r"]
    return compile_where(rule.head.where[0], places)


def outcome(test: WhereTest, *events: Event) -> bool | None:
    return test.test([capture.capture_values(events[max(capture.step, 0)]) for capture in test.captures])


TWO: list[tuple[str, dict[str, Any], dict[str, Any], bool | None]] = [
    ("same: [a.user, b.login]", {"user": "x"}, {"login": "x"}, True),
    ("same: [a.user, b.login]", {"user": "x"}, {"login": "X"}, False),
    ("same: [a.user, b.login]", {"user": 1}, {"login": ["2", "1"]}, True),
    ("same: [a.user, b.login]", {"user": "x"}, {}, None),
    ("same: [a.user, b.login]", {"user": "x"}, {"login": ""}, None),
    ("different: [a.user, b.user]", {"user": "x"}, {"user": "y"}, True),
    ("different: [a.user, b.user]", {"user": ["x", "y"]}, {"user": "y"}, False),
    ("different: [a.user, b.user]", {"user": "x"}, {"user": None}, None),
    ("greater: [a.n, b.n]", {"n": 3}, {"n": "2"}, True),
    ("greater: [a.n, b.n]", {"n": 2}, {"n": 2}, False),
    ("greater: [a.n, b.n]", {"n": True}, {"n": 0}, None),
    ("{greater: [a.n, b.n], by: 2}", {"n": 5}, {"n": 3}, False),
    ("{greater: [a.n, b.n], by: 2}", {"n": 5.5}, {"n": 3}, True),
    ("same-zone: [a, b]", {"door": "d-1"}, {"host": "h-1"}, True),
    ("same-zone: [a.door, b.host]", {"door": "d-0"}, {"host": "h-1"}, False),
    ("same-zone: [a.door, b.host]", {"door": "d-9"}, {"host": "h-1"}, None),
    ("same-zone: [a, b]", {}, {"host": "h-1"}, None),
    ("{within-doors: [a.door, b.door], doors: 1}", {"door": "d-0"}, {"door": "d-2"}, True),
    ("{within-doors: [a.door, b.host], doors: 1}", {"door": "d-0"}, {"host": "h-2"}, False),
    ("{within-doors: [a.door, b.host], doors: 2}", {"door": "d-0"}, {"host": "h-2"}, True),
    ("sooner-than-walk: [a.door, b.host]", {"door": "d-0"}, {"host": "h-2", "time_ms": 19_999}, True),
    ("sooner-than-walk: [a.door, b.host]", {"door": "d-0"}, {"host": "h-2", "time_ms": 20_000}, False),
    ("{sooner-than-walk: [a.door, b.host], factor: 0.5}", {"door": "d-0"}, {"host": "h-2", "time_ms": 9_999}, True),
    ("{sooner-than-walk: [a.door, b.host], factor: 0.5}", {"door": "d-0"}, {"host": "h-2", "time_ms": 10_000}, False),
    ("sooner-than-walk: [a.door, b.door]", {"door": "d-0"}, {"door": "d-1"}, False),
    ("sooner-than-walk: [a.door, b.door]", {"door": "d-0"}, {"door": "d-9"}, None),
    ("{within-doors: [a.door, b.door], doors: 1}", {"door": "d-0"}, {"badge": "b-1"}, None),
    ("in-zone: [a.host, b.zone]", {"host": "h-9"}, {"zone": "z-store"}, None),
    ("camera-covers: [a.camera, b.door]", {"camera": "cam-1"}, {"door": "d-1"}, True),
    ("camera-covers: [a.camera, b.host]", {"camera": "cam-1"}, {"host": "h-1"}, False),
    ("camera-covers: [a.camera, b.host]", {"camera": "cam-2"}, {"host": "h-1"}, None),
    ("in-zone: [a.host, b.zone]", {"host": "h-1"}, {"zone": "z-pharmacy"}, True),
    ("in-zone: [a.computer, b.room]", {"computer": "h-1"}, {"room": "z-store"}, False),
    ("reachable: [a.host, b.host]", {"host": "h-1"}, {"host": "h-2"}, True),
    ("reachable: [a.host, b.host]", {"host": "h-2"}, {"host": "h-1"}, False),
    ("reachable: [a.host, b.host]", {"host": "h-7"}, {"host": "h-1"}, None),
    ("owns: [a.person, b.account]", {"person": "p-017"}, {"account": "acc-1"}, True),
    ("owns: [a.badge, b.account]", {"badge": "b-2"}, {"account": "acc-1"}, False),
    ("owns: [a.badge, b.account]", {"badge": "b-9"}, {"account": "acc-1"}, None),
    ("owns: [a.badge, b.account]", {"badge": "b-1"}, {"account": "acc-9"}, None),
    ("person-in-zone: [a.person, b.zone]", {"person": "p-017"}, {"zone": "z-pharmacy"}, True),
    ("person-in-zone: [a.badge, b.host]", {"badge": "b-1"}, {"host": "h-2"}, False),
    ("person-in-zone: [a.person, b.zone]", {"person": "p-019"}, {"zone": "z-hall"}, None),
    ("{person-in-zone: [a.person, b.zone], confidence: 0.1}", {"person": "p-019"}, {"zone": "z-hall"}, True),
    ("person-in-zone: [a.person, b.zone]", {"person": "p-099"}, {"zone": "z-hall"}, None),
    ("last-seen: [a.badge, b.zone]", {"badge": "b-1"}, {"zone": "z-hall"}, True),
    ("last-seen: [a.badge, b.zone]", {"badge": "b-1"}, {"zone": "z-store"}, False),
    ("last-seen: [a.badge, b.zone]", {"badge": "b-2"}, {"zone": "z-hall"}, None),
    ("{last-seen: [a.badge, b.zone], within: 1s}", {"badge": "b-1"}, {"zone": "z-hall", "time_ms": 1_500}, True),
    ("{last-seen: [a.badge, b.zone], within: 1s}", {"badge": "b-1"}, {"zone": "z-hall", "time_ms": 1_501}, False),
]
ONE: list[tuple[str, dict[str, Any], bool | None]] = [
    ("person-on-site: person", {"person": "p-017"}, True),
    ("person-on-site: badge", {"badge": "b-2"}, False),
    ("person-on-site: person", {"person": "p-019"}, None),
    ("person-on-site: badge", {"badge": "b-9"}, None),
    ("working-hours: zone", {"zone": "z-hall", "time_ms": 1_000}, True),
    ("working-hours: zone", {"zone": "z-hall", "time_ms": 2_000}, False),
    ("working-hours: door", {"door": "d-1", "time_ms": 1_500}, True),
    ("working-hours: event", {"door": "d-0", "time_ms": 1_500}, True),
    ("working-hours: zone", {"zone": "z-store", "time_ms": 1_500}, None),
    ("in-window: event", {"time_ms": 2_000}, True),
    ("in-window: event", {"time_ms": 1_999}, False),
    ("restricted: event", {"host": "h-1"}, True),
    ("restricted: door", {"door": "d-0"}, False),
    ("restricted: door", {"door": "d-9"}, None),
    ("restricted: zone", {"door": "d-1"}, True),
    ("{validity: badge, is: [valid]}", {"badge": "b-1"}, True),
    ("{validity: badge, is: [expired, disabled]}", {"badge": "b-1"}, False),
    ("{validity: badge, is: unknown}", {"badge": "b-9"}, True),
    ("{validity: badge, is: [valid]}", {}, None),
    ("{unused: badge, for: 1m}", {"badge": "b-1"}, True),
    ("{unused: badge, for: 61s}", {"badge": "b-1"}, False),
    ("{unused: badge, for: 1s}", {"badge": "b-9"}, None),
    ("known: host", {"host": "h-1"}, True),
    ("known: host", {"host": "h-9"}, False),
    ("known: zone", {"zone": "z-9"}, False),
    ("known: host", {}, None),
    ("same: [user, owner]", {"user": "x", "owner": "x"}, True),
    ("same-zone: [door, host]", {"door": "d-2", "host": "h-1"}, True),
    ("owns: [person, account]", {"person": "p-018", "account": "acc-1"}, False),
]


@pytest.mark.parametrize(("text", "first", "second", "wanted"), TWO)
def test_a_condition_between_two_events(
    text: str, first: dict[str, Any], second: dict[str, Any], wanted: bool | None
) -> None:
    events = event(**first), event(**second)
    assert outcome(condition(text, House()), *events) is wanted
    negated = condition(f"not: {text}" if text.startswith("{") else f"not: {{{text}}}", House())
    assert outcome(negated, *events) is (None if wanted is None else not wanted), "what is not known stays unknown"


@pytest.mark.parametrize(("text", "given", "wanted"), ONE)
def test_a_condition_on_one_event(text: str, given: dict[str, Any], wanted: bool | None) -> None:
    assert outcome(condition(text, House()), event(**given)) is wanted
    negated = condition(f"not: {text}" if text.startswith("{") else f"not: {{{text}}}", House())
    assert outcome(negated, event(**given)) is (None if wanted is None else not wanted)


def test_every_predicate_has_rows_for_true_false_and_not_known() -> None:
    seen: dict[str, set[bool | None]] = {word: set() for word in WHERE_PREDICATES}
    for text, *_, wanted in [*TWO, *ONE]:
        seen[text.lstrip("{").partition(":")[0]].add(wanted)
    assert {word for word, results in seen.items() if results != {True, False, None}} == {"in-window"}


@pytest.mark.parametrize("text", [text for text, *_ in [*TWO, *ONE]])
def test_without_a_site_model_only_values_are_known(text: str) -> None:
    test = condition(text)
    word = text.lstrip("{").partition(":")[0]
    given = {"user": "x", "owner": "x", "login": "y", "n": 1, "door": "d-1", "host": "h-1", "badge": "b-1"}
    found = outcome(test, event(**given), event(**given))
    assert (found is None) is (word not in ("same", "different", "greater"))


def test_a_condition_on_one_event_is_answered_when_it_is_captured() -> None:
    test = condition("working-hours: zone", House())
    (capture,) = test.captures
    assert (test.steps, capture.kind) == ((-1,), "answer")
    assert capture.capture_values(event(1_500, zone="z-hall")) == (True, "", (), 1_500)


def test_captured_values_are_plain_and_tell_value_asset_zones_and_time() -> None:
    first, second = condition("same-zone: [a.door, b.host]", House()).captures
    assert (tuple(first), tuple(second)) == ((0, "place", "door"), (1, "place", "host"))
    assert first.capture_values(event(7, door="d-1")) == ("d-1", "d-1", ("z-hall", "z-pharmacy"), 7)
    assert first.capture_values(event(7)) == (None, "", (), 7)


def test_conditions_read_as_sentences() -> None:
    said = {text: where_text(condition(text).where, ("grant", "logon")) for text, *_ in [*TWO, *ONE]}
    assert said["same: [a.user, b.login]"] == "the user of `grant` and the login of `logon` are the same"
    assert said["{within-doors: [a.door, b.door], doors: 1}"] == (
        "at most 1 doors lie between the door of `grant` and the door of `logon`"
    )
    assert said["{unused: badge, for: 61s}"] == "the badge had not been used for 61s"
    assert said["{validity: badge, is: [expired, disabled]}"] == "the badge is expired or disabled"
