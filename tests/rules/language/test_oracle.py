"""pySigma is the oracle: what it accepts is accepted here, and detections mean the same tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sigma.collection import SigmaCollection
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.types import SigmaExpansion

from correlator.rules.load import rules_text
from correlator.rules.syntax import All, Any_, CorrelationRule, FieldTest, Not, RuleRef, Threshold

HERE = Path(__file__).parent
CORPUS = sorted((HERE.parent / "sigma_corpus").rglob("rules/*.yml"))


def same_shape(tree: Any) -> Any:
    """pySigma's condition as nested tuples: and/or flattened, leaves by field alone."""
    if isinstance(tree, ConditionNOT):
        return ("not", same_shape(tree.args[0]))
    if isinstance(tree, ConditionAND | ConditionOR):
        word = "and" if isinstance(tree, ConditionAND) else "or"
        return joined(word, [same_shape(part) for part in tree.args])
    if isinstance(tree, ConditionFieldEqualsValueExpression | ConditionValueExpression):
        field = getattr(tree, "field", "")
        if isinstance(tree.value, SigmaExpansion):
            return joined("or", [(field,) for _ in tree.value.values])
        return (field,)
    raise TypeError(type(tree))


def our_shape(tree: Any) -> Any:
    if isinstance(tree, Not):
        return ("not", our_shape(tree.part))
    if isinstance(tree, All | Any_):
        return joined("and" if isinstance(tree, All) else "or", [our_shape(part) for part in tree.parts])
    assert isinstance(tree, FieldTest)
    return ("not", (tree.field,)) if tree.neq else (tree.field,)


def joined(word: str, parts: list[Any]) -> Any:
    flat: list[Any] = []
    for part in parts:
        flat.extend(part[1:] if part[0] == word and len(part) > 1 else [part])
    return flat[0] if len(flat) == 1 else (word, *flat)


def documents() -> Iterator[Any]:
    for path in CORPUS:
        for document in yaml.safe_load_all(path.read_text()):
            if document:
                yield pytest.param(document, id=document["title"])


@pytest.mark.parametrize("document", list(documents()))
def test_the_corpus_is_read_as_pysigma_reads_it(document: dict[str, Any]) -> None:
    theirs = SigmaRule.from_dict(yaml.safe_load(yaml.safe_dump(document, sort_keys=False)))
    loaded = rules_text(yaml.safe_dump(document, sort_keys=False))
    assert not loaded.errors
    (ours,) = loaded.rules.detections.values()
    shapes = [same_shape(one.parsed) for one in theirs.detection.parsed_condition]
    assert our_shape(ours.condition) == joined("or", shapes)


# ---- random detections -------------------------------------------------------------------------

NAMES = ("sel_a", "sel_b", "filter", "_hidden", "other-one")
TEXTS = st.text(alphabet="ab*?\\-/% .", max_size=6)
SCALARS = st.one_of(TEXTS, st.integers(-3, 70), st.booleans(), st.none(), st.floats(-2, 2, width=16))
MODIFIERS = st.lists(
    st.sampled_from([
        "contains", "startswith", "endswith", "all", "re", "i", "cased", "windash", "base64", "base64offset", "wide",
        "lt", "gte", "exists", "fieldref", "cidr", "hour", "neq", "utf16", "nonsense",
    ]),
    max_size=3,
)  # fmt: skip
ITEMS = st.tuples(st.sampled_from(["f", "g", ""]), MODIFIERS, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)))
ITEM_MAPS = st.lists(ITEMS, min_size=1, max_size=3).map(
    lambda items: {"|".join([field, *modifiers]): value for field, modifiers, value in items}
)
SELECTIONS = st.one_of(ITEM_MAPS, SCALARS, st.lists(st.one_of(ITEM_MAPS, SCALARS), min_size=1, max_size=3))
ATOMS = st.sampled_from([*NAMES, "1 of sel_*", "all of sel_*", "any of them", "1 of _*", "all of nothing*", "missing"])
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        inner.map(lambda one: f"not {one}"),
        inner.map(lambda one: f"({one})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), SELECTIONS, min_size=1, max_size=4), CONDITIONS)
def test_what_pysigma_accepts_is_accepted_and_means_the_same(selections: dict[str, Any], condition: str) -> None:
    document = {
        "title": "t", "logsource": {"product": "correlator"}, "detection": {**selections, "condition": condition},
    }  # fmt: skip
    try:
        theirs = SigmaRule.from_dict(document)
        shape = same_shape(theirs.detection.parsed_condition[0].parsed)
    except (SigmaError, AttributeError, TypeError):
        shape = None  # pySigma stumbles over some types instead of refusing them
    loaded = rules_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    assert all(fault.line and fault.column for fault in loaded.faults)
    if shape is not None:
        if any(fault.message.startswith(NOT_OURS) for fault in loaded.errors):
            return
        assert not loaded.errors, (document, loaded.errors)
        assert our_shape(loaded.rules.detections["t"].condition) == shape


# Refused here on purpose although pySigma lets it pass.
NOT_OURS = ("a keyword must be a text or a number", "re takes a text")


# ---- correlations ------------------------------------------------------------------------------

BASES = [
    {"title": name, "name": name, "logsource": {"product": "correlator"},
     "detection": {"selection": {"act": name}, "condition": "selection"}}
    for name in ("a", "b", "c")
]  # fmt: skip
COUNT = {"gte": 3}
ACCEPTED: list[dict[str, Any]] = [
    {"type": "event_count", "rules": ["a"], "group-by": ["u"], "timespan": "10m", "condition": {"gte": 3}},
    {"type": "EVENT_COUNT", "rules": "a", "group-by": "u", "timespan": "1w", "condition": {"lt": 3}},
    {"type": "event_count", "rules": ["a", "b"], "timespan": "1M", "condition": {"neq": 0}},
    {"type": "event_count", "rules": ["a", "a"], "timespan": "1y", "condition": {"eq": 2.5}},
    {"type": "event_count", "rules": ["a"], "timespan": "1h", "condition": {"gt": "3"}},
    {"type": "value_count", "rules": ["a"], "group-by": [], "timespan": "2h", "condition": {"lte": 3, "field": "x"}},
    {"type": "value_count", "rules": ["a"], "timespan": "2h", "condition": {"gte": 3, "field": ["x", "y"]}},
    {"type": "value_sum", "rules": ["a"], "timespan": "2d", "condition": {"gte": 3.5, "field": "x"}},
    {"type": "value_avg", "rules": ["a"], "timespan": "2d", "condition": {"gte": 3, "field": "x"}},
    {"type": "value_median", "rules": ["a"], "timespan": "2d", "condition": {"gte": 3, "field": "x"}},
    {"type": "value_percentile", "rules": ["a"], "timespan": "2d",
     "condition": {"gte": 3, "field": "x", "percentile": 99}},
    {"type": "temporal", "rules": ["a", "b"], "group-by": ["u"], "timespan": "10s"},
    {"type": "temporal", "rules": ["a", "b", "c"], "timespan": "10s", "condition": {"gte": 2}},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "condition": "a and not b"},
    {"type": "temporal", "timespan": "10s", "condition": "a and (b or c)"},
    {"type": "temporal_ordered", "rules": ["a", "b"], "timespan": "10s", "generate": True},
    {"type": "temporal_ordered", "rules": ["a", "b"], "timespan": "10s", "condition": "a and b"},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "group-by": ["who"],
     "aliases": {"who": {"a": "user", "b": "account"}}},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "group-by": ["who"], "aliases": {"who": {"a": "user"}}},
]  # fmt: skip
REFUSED_BY_BOTH: list[dict[str, Any]] = [
    {"type": "event_count", "rules": ["a"], "timespan": "10m"},
    {"type": "event_count", "rules": ["a"], "timespan": "10", "condition": COUNT},
    {"type": "event_count", "rules": ["a"], "timespan": "0s", "condition": COUNT},
    {"type": "event_count", "rules": ["a"], "timespan": "1h30m", "condition": COUNT},
    {"type": "event_count", "rules": ["a"], "condition": COUNT},
    {"type": "event_count", "rules": ["nobody"], "timespan": "10m", "condition": COUNT},
    {"type": "event_count", "timespan": "10m", "condition": COUNT},
    {"type": "event_count", "rules": ["a"], "timespan": "10m", "condition": {"field": "x"}},
    {"type": "event_count", "rules": ["a"], "timespan": "10m", "condition": {"gte": "many"}},
    {"type": "event_count", "rules": ["a"], "timespan": "10m", "condition": "a and b"},
    {"type": "value_count", "rules": ["a"], "timespan": "10m", "condition": COUNT},
    {"type": "value_sum", "rules": ["a"], "timespan": "10m", "condition": COUNT},
    {"type": "counts", "rules": ["a"], "timespan": "10m", "condition": COUNT},
    {"rules": ["a"], "timespan": "10m", "condition": COUNT},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "condition": "a"},
    {"type": "temporal", "rules": ["a"], "timespan": "10s", "condition": "a and b"},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "condition": "a and"},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "generate": "perhaps"},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "aliases": {"u": "x"}},
]
MORE_HERE: list[dict[str, Any]] = [
    {"type": "event_count", "rules": ["a"], "timespan": "10m", "condition": {"gte": 3, "lt": 9}},
    {"type": "event_count", "rules": ["a"], "timespan": "500ms", "condition": COUNT},
    {"type": "temporal", "rules": ["a", "b"], "timespan": "10s", "condition": "a AND NOT b"},
    {"type": "ordered_temporal", "rules": ["a", "b"], "timespan": "10s"},
]


def ours(section: dict[str, Any]) -> CorrelationRule | None:
    text = yaml.safe_dump_all([*BASES, {"title": "r", "name": "r", "correlation": section}], sort_keys=False)
    loaded = rules_text(text)
    assert all(fault.line and fault.column for fault in loaded.faults)
    return loaded.rules.correlations.get("r") if not loaded.errors else None


def theirs(section: dict[str, Any]) -> SigmaCorrelationRule | None:
    try:
        found = SigmaCollection.from_dicts([*BASES, {"title": "r", "name": "r", "correlation": section}])
        found.resolve_rule_references()
    except (SigmaError, AttributeError):
        return None
    (rule,) = [one for one in found.rules if isinstance(one, SigmaCorrelationRule)]
    return rule


@pytest.mark.parametrize("section", ACCEPTED, ids=repr)
def test_a_correlation_of_pysigma_means_the_same_here(section: dict[str, Any]) -> None:
    there, here = theirs(section), ours(section)
    assert there is not None
    assert here is not None
    assert here.type == there.type.name.lower()
    assert here.timespan_ms == there.timespan.seconds * 1000
    assert here.group_by == tuple(there.group_by or ())
    assert here.generate is there.generate
    if isinstance(here.condition, Threshold):
        assert here.condition.bounds == ((there.condition.op.name.lower(), there.condition.count),)
    else:
        named = set(keys_of(here.condition))
        assert named == {one.rule.name for one in there.referenced_rules}


def keys_of(tree: Any) -> list[str]:
    if isinstance(tree, RuleRef):
        return [tree.key]
    return [key for part in (tree.parts if hasattr(tree, "parts") else [tree.part]) for key in keys_of(part)]


@pytest.mark.parametrize("section", REFUSED_BY_BOTH, ids=repr)
def test_a_correlation_that_pysigma_refuses_is_refused(section: dict[str, Any]) -> None:
    assert theirs(section) is None
    assert ours(section) is None


@pytest.mark.parametrize("section", MORE_HERE, ids=repr)
def test_a_correlation_that_only_this_reader_takes(section: dict[str, Any]) -> None:
    assert theirs(section) is None
    assert ours(section) is not None
