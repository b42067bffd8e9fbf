"""Every decision of docs/rules.md, by name, on hand-worked vectors (tests/rules/decisions/)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from correlator.clock import parse_iso, zone_named
from correlator.events import Entity, Event
from correlator.rules.load import LoadedRules, rules_text
from tests.reference import matcher, run_engine

HERE = Path(__file__).parent / "decisions"
RULES_MD = Path(__file__).parents[2] / "docs" / "rules.md"
START_MS = parse_iso("2026-03-01T00:00:00Z")[0]
LOGSOURCE = {"product": "correlator"}
OWN_KEYS = ("at", "received", "source", "sub_ns", "kind", "text", "attributes", "entities")


def _vectors() -> list[Any]:
    found = []
    seen: Counter[str] = Counter()
    for path in sorted(HERE.glob("*.yaml")):
        for vector in yaml.safe_load(path.read_text()):
            seen[vector["decision"]] += 1
            found.append(pytest.param(vector, id=f"{vector['decision']}-{seen[vector['decision']]}"))
    return found


VECTORS = _vectors()
WITH_MATCHES = [one for one in VECTORS if "matches" in one.values[0]]
WITH_FAULTS = [one for one in VECTORS if "fault" in one.values[0]]
COVERED = [one for one in WITH_MATCHES if one.values[0].get("reference", True)]


def _documents(vector: dict[str, Any]) -> list[dict[str, Any]]:
    """The Sigma documents of a vector: detections, filters, correlations."""
    made = [
        {"title": letter, "name": letter, "detection": {"selection": {"act": letter}, "condition": "selection"}}
        for letter in vector.get("uses", ())
    ]
    for name, detection in vector.get("detections", {}).items():
        made.append({"title": name, "name": name, **detection})
    for name, narrowing in vector.get("filters", {}).items():
        made.append({"title": name, "filter": narrowing})
    for document in made:
        document["logsource"] = LOGSOURCE
    for name, given in vector.get("correlations", {}).items():
        document = {"title": name, "name": name, **({"correlation": given} if "type" in given else given)}
        correlation = dict(document["correlation"])
        if "x-correlator" in correlation:
            document["x-correlator"] = correlation.pop("x-correlator")
        made.append({**document, "correlation": correlation})
    return made


def _load(vector: dict[str, Any]) -> LoadedRules:
    text = yaml.safe_dump_all(_documents(vector), sort_keys=False)
    return rules_text(text, f"{vector['decision']}.yml")


def _ms(seconds: float) -> int:
    return START_MS + round(seconds * 1000)


def _events(vector: dict[str, Any]) -> list[Event]:
    return [
        Event(
            id=f"{line:032x}",
            site="s",
            source=given.get("source", "lines"),
            dialect="mapped",
            kind=given.get("kind", "log.entry"),
            time_ms=_ms(given["at"]),
            received_ms=_ms(given.get("received", given["at"])),
            seq=line,
            sub_ns=given.get("sub_ns", 0),
            text=given.get("text", ""),
            entities=tuple(Entity(*one) for one in given.get("entities", ())),
            carried={
                **{key: value for key, value in given.items() if key not in OWN_KEYS},
                **given.get("attributes", {}),
            },
        )
        for line, given in enumerate(vector["events"])
    ]


def _expected(vector: dict[str, Any], events: list[Event]) -> list[dict[str, Any]]:
    made = []
    for wanted in vector["matches"]:
        members = [events[line] for line in wanted["events"]]
        first = _ms(wanted["first"]) if "first" in wanted else members[0].time_ms
        last = _ms(wanted["last"]) if "last" in wanted else members[-1].time_ms
        made.append(
            {
                "rule": wanted.get("rule", "r"),
                "group": wanted.get("group", {}),
                "events": [event.id for event in members],
                "value": float(wanted["value"]) if wanted.get("value") is not None else None,
                "first": first,
                "last": last,
                "decided": _ms(wanted["decided"]),
                "open": wanted.get("open", False),
            }
        )
    return made


def _told(found: list[Any], rules: LoadedRules) -> list[dict[str, Any]]:
    """Matches as the vectors write them: rules by name, group values as the match shows them."""
    made = []
    for one in found:
        told = run_engine.shape(one)
        head = (rules.rules.correlations.get(told["rule"]) or rules.rules.detections[told["rule"]]).head
        told["rule"] = head.name
        told["group"] = dict(one.group)
        made.append(told)
    return made


def _sorted(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # repr, so that true is not 1 and "1" is not 1.
    return sorted(told, key=repr)


def _settled(vector: dict[str, Any]) -> tuple[LoadedRules, int, int | None, int]:
    loaded = _load(vector)
    errors = [fault for fault in loaded.faults if fault.severity == "error"]
    assert not errors, [str(fault) for fault in errors]
    until_ms = _ms(vector["until"]) if "until" in vector else None
    return loaded, round(vector.get("lateness", 2) * 1000), until_ms, round(vector.get("group_idle", 604_800) * 1000)


@pytest.mark.parametrize("vector", WITH_MATCHES)
def test_the_engine_keeps(vector: dict[str, Any]) -> None:
    loaded, lateness_ms, until_ms, idle_ms = _settled(vector)
    events = _events(vector)
    told = run_engine.run(
        loaded.rules,
        events,
        run_engine.settings(lateness_ms, idle_ms),
        until_ms,
        zone=zone_named(vector.get("zone", "UTC")),
    )
    found = _told(run_engine.last_forms(told), loaded)
    assert repr(_sorted(found)) == repr(_sorted(_expected(vector, events))), vector["says"]


@pytest.mark.parametrize("vector", WITH_MATCHES)
def test_the_engine_keeps_when_it_is_restarted_after_every_event(vector: dict[str, Any]) -> None:
    loaded, lateness_ms, until_ms, idle_ms = _settled(vector)
    events = _events(vector)
    told = run_engine.run_with_restarts(
        loaded.rules,
        events,
        run_engine.settings(lateness_ms, idle_ms),
        until_ms,
        zone=zone_named(vector.get("zone", "UTC")),
    )
    found = _told(run_engine.last_forms(told), loaded)
    assert repr(_sorted(found)) == repr(_sorted(_expected(vector, events))), vector["says"]


@pytest.mark.parametrize("vector", COVERED)
def test_the_reference_matcher_keeps(vector: dict[str, Any]) -> None:
    loaded, lateness_ms, until_ms, idle_ms = _settled(vector)
    events = _events(vector)
    found = _told(matcher.match(loaded.rules, events, lateness_ms, until_ms, idle_ms), loaded)
    assert repr(_sorted(found)) == repr(_sorted(_expected(vector, events))), vector["says"]


@pytest.mark.parametrize("vector", WITH_FAULTS)
def test_the_rules_are_refused_for(vector: dict[str, Any]) -> None:
    errors = [fault for fault in _load(vector).faults if fault.severity == "error"]
    assert any(vector["fault"] in f"{fault.message} ({fault.hint})" for fault in errors), errors
    assert all(fault.line and fault.column for fault in errors), "each fault has a position"


def test_every_decision_has_a_vector_and_every_vector_a_decision() -> None:
    written = re.findall(r"^\| `(\w+)` \|", RULES_MD.read_text(), re.MULTILINE)
    assert [name for name, count in Counter(written).items() if count > 1] == []
    assert {one.values[0]["decision"] for one in VECTORS} == set(written)
