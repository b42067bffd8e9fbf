"""Whatever a rule file holds, the loader answers with faults that have a place, and never raises."""

from __future__ import annotations

import copy
from datetime import UTC
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.events import Event
from correlator.rules.check import check, explain_rule
from correlator.rules.load import rules_text
from correlator.rules.predicates import compile_condition

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    document
    for path in sorted((ROOT / "correlator/rulepack").glob("*.yml"))
    for document in yaml.safe_load_all(path.read_text())
]
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=8),
              st.sampled_from(["a.b", "*", "%x%", "(", "not", "1 of", "10s", "#2", "'", "\ud800".encode("utf-8", "replace")
                               .decode()])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=4,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


@st.composite
def damaged(draw: Any) -> Any:
    """A rule of the pack with one to three of its parts replaced, dropped or renamed."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([one for one in places(document) if one]))
        inside: Any = document
        for step in path[:-1]:
            inside = inside[step]
        how = draw(st.sampled_from(["replace", "drop", "rename"]))
        if how == "replace":
            inside[path[-1]] = draw(ODD)
        else:
            value = inside.pop(path[-1])
            if how == "rename" and isinstance(inside, dict):
                inside[draw(st.text(min_size=1, max_size=6))] = value
    return document


@settings(max_examples=120, deadline=None)
@given(damaged())
def test_a_damaged_rule_is_answered_with_faults(document: Any) -> None:
    loaded = rules_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    assert all(fault.line and fault.column for fault in loaded.faults)
    check(loaded)
    event = Event(id="0", site="s", source="x", dialect="d", kind="door.opened", time_ms=0, received_ms=0)
    for rule in loaded.rules.detections.values():
        predicate = compile_condition(rule.condition, rule.logsource, rule.head.where, None, UTC)
        assert predicate.explain(event)[0].holds is predicate.test(event)
        assert explain_rule(rule)
    for correlation in loaded.rules.correlations.values():
        assert explain_rule(correlation, loaded.rules)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abt:-[]{}|>'\"#&*!% \n,?", max_size=60))
def test_any_text_is_answered_with_faults(text: str) -> None:
    for loaded in (rules_text(text), rules_text("", overlay=text)):
        assert all(fault.line and fault.column for fault in loaded.faults)
        check(loaded)
