"""What loading makes of files that are right: values, references, filters, overlay, extensions, notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from correlator.events import KINDS, Entity
from correlator.rules.check import check, explain_rule, predicates_table
from correlator.rules.extensions import CORRELATION_KEYS, OPTION_WORDS, TEST_KEYS
from correlator.rules.load import LoadedRules, load_rules, rules_text
from correlator.rules.syntax import (
    WHERE_PREDICATES,
    All,
    Any_,
    CorrelationRule,
    FieldTest,
    Not,
    Operand,
    RuleRef,
    Threshold,
)
from correlator.rules.testing import BadEvent, event_of
from correlator.rules.where import REQUIRED_OPTIONS

ROOT = Path(__file__).parents[3]
UUID = "1b0c5e0e-0d7a-4c1b-9d38-5f1f6a0c9d01"
BASE = "".join(
    f"---\n{{title: {name}, name: {name}, logsource: {{product: correlator}}, "
    f"detection: {{selection: {{act: '{name}'}}, condition: selection}}}}\n"
    for name in ("a", "b", "x", "y")
)


def loaded(text: str, **options: Any) -> LoadedRules:
    found = rules_text(text, "r.yml", **options)
    assert not found.errors, [str(fault) for fault in found.errors]
    return found


def correlation(section: str, block: str = "{}") -> CorrelationRule:
    text = f"{BASE}---\ntitle: r\nname: r\ncorrelation: {section}\nx-correlator: {block}\n"
    return loaded(text).rules.correlations["r"]


# ---- heads and references ----------------------------------------------------------------------


def test_a_rule_is_known_by_its_id_else_its_name_else_its_title() -> None:
    one = "logsource: {product: correlator}\ndetection: {s: {f: 1}, condition: s}\n"
    text = f"title: t1\nid: {UUID.upper()}\nname: n1\n{one}---\ntitle: t2\nname: n2\n{one}---\ntitle: t3\n{one}"
    assert sorted(loaded(text).rules.detections) == [UUID, "n2", "t3"]


def test_a_rule_without_level_is_medium() -> None:
    head = loaded(BASE).rules.detections["a"].head
    assert (head.level, str(head.position)) == ("medium", "r.yml:2:1")


def test_rules_are_referred_to_by_id_in_any_case_or_by_name() -> None:
    text = (
        f"title: t1\nid: {UUID}\nname: n1\nlogsource: {{product: correlator}}\ndetection: {{s: {{f: 1}}, condition: s}}\n"
        f"{BASE}---\ntitle: r\nname: r\ncorrelation: {{type: temporal, rules: [{UUID.upper()}, a], timespan: 1m, "
        f"condition: a AND {UUID}, group-by: [who], aliases: {{who: {{n1: user}}}}}}\n"
    )
    rule = loaded(text).rules.correlations["r"]
    assert rule.rules == (UUID, "a")
    assert rule.condition == All((RuleRef("a"), RuleRef(UUID)))
    assert rule.aliases == {"who": {UUID: "user"}}


@pytest.mark.parametrize(
    ("condition", "tree"),
    [
        ("a", RuleRef("a")),
        ("a and b", All((RuleRef("a"), RuleRef("b")))),
        ("a or b and x", Any_((RuleRef("a"), All((RuleRef("b"), RuleRef("x")))))),
        ("(a OR b) AND NOT x", All((Any_((RuleRef("a"), RuleRef("b"))), Not(RuleRef("x"))))),
        ("not (x or y) and a", All((RuleRef("a"), Not(RuleRef("x")), Not(RuleRef("y"))))),
        ("a and not not b", All((RuleRef("a"), RuleRef("b")))),
        ("not (not a or x)", All((RuleRef("a"), Not(RuleRef("x"))))),
        ("a and not (x or not b)", All((RuleRef("a"), RuleRef("b"), Not(RuleRef("x"))))),
    ],
)
def test_boolean_conditions_come_to_what_must_and_what_must_not_happen(condition: str, tree: Any) -> None:
    assert correlation(f"{{type: temporal, timespan: 1m, condition: {condition!r}}}").condition == tree


def test_without_a_condition_all_rules_must_happen() -> None:
    rule = correlation("{type: temporal_ordered, rules: [b, a], timespan: 90s}")
    assert (rule.condition, rule.sequence, rule.timespan_ms) == (All((RuleRef("b"), RuleRef("a"))), (), 90_000)


def test_generate_is_taken_at_both_places_and_prints_the_rules_referred_to() -> None:
    part = "correlation: {type: temporal, rules: [a], timespan: 1m"
    assert loaded(f"{BASE}---\ntitle: r\n{part}}}\n").rules.used == {"a"}
    assert loaded(f"{BASE}---\ntitle: r\n{part}, generate: true}}\n").rules.used == set()
    assert loaded(f"{BASE}---\ntitle: r\ngenerate: true\n{part}}}\n").rules.used == set()


def test_a_rule_that_one_correlation_wants_printed_is_printed() -> None:
    part = "correlation: {type: temporal, rules: [a], timespan: 1m"
    text = f"{BASE}---\ntitle: r\n{part}}}\n---\ntitle: s\n{part}, generate: true}}\n"
    assert loaded(text).rules.used == set()


def test_counts_metrics_and_ranges() -> None:
    rule = correlation("{type: value_count, rules: a, timespan: 1h, condition: {gte: 3, lt: 7.5, field: [u, v]}}")
    assert (rule.condition, rule.fields) == (Threshold((("gte", 3), ("lt", 7.5))), ("u", "v"))
    rule = correlation("{type: value_percentile, rules: [a], timespan: 1h, condition: {gt: 1, field: u}}")
    assert rule.percentile == 95.0


# ---- x-correlator ------------------------------------------------------------------------------


def test_operands_count_through_the_sequence() -> None:
    rule = correlation(
        "{type: temporal_ordered, rules: [a, b, x], timespan: 1m, condition: a and b and not x}",
        "{sequence: [a, b, a], absent: between, max-gap: 5s, select: each, asset: 'a#2.door', "
        "where: [{same: [a.host, 'a#2.host']}, {different: [b, x.user]}]}",
    )
    assert rule.sequence == ("a", "b", "a")
    assert (rule.absent, rule.max_gap_ms, rule.select) == ("between", 5_000, "each")
    assert (rule.head.asset, rule.head.asset_operand) == ("a#2.door", Operand(2, "door"))
    assert [where.operands for where in rule.head.where] == [
        (Operand(0, "host"), Operand(2, "host")),
        (Operand(1, ""), Operand(2, "user")),  # an absent rule: its index in `rules`
    ]


def test_without_a_sequence_operands_count_through_the_rules() -> None:
    rule = correlation(
        "{type: temporal, rules: [a, x, b], timespan: 1m, condition: a and not x and b}",
        "{where: [{not: {greater: [b.n.m, x.n], by: 2}}]}",
    )
    (where,) = rule.head.where
    assert where.operands == (Operand(2, "n.m"), Operand(1, "n"))
    assert (where.negated, where.options, rule.absent) == (True, (("by", 2),), "around")


def test_the_longest_rule_name_that_fits_is_meant() -> None:
    base = (
        BASE + "---\n{title: ab, name: a.b, logsource: {product: correlator}, detection: {s: {f: 1}, condition: s}}\n"
    )
    text = f"{base}---\ntitle: r\nname: r\ncorrelation: {{type: temporal, rules: [a, a.b], timespan: 1m}}\n"
    rule = loaded(text + "x-correlator: {where: [{same: [a.c, a.b.c]}]}\n").rules.correlations["r"]
    assert rule.head.where[0].operands == (Operand(0, "c"), Operand(1, "c"))


def test_a_detection_has_conditions_on_its_own_event() -> None:
    text = "title: r\nname: r\nlogsource: {product: correlator}\ndetection: {s: {f: 1}, condition: s}\n"
    rule = loaded(text + "x-correlator: {asset: host, where: [{owns: [person, account]}, {in-window: event}]}\n")
    head = rule.rules.detections["r"].head
    assert head.asset_operand == Operand(-1, "host")
    assert [where.operands for where in head.where] == [
        (Operand(-1, "person"), Operand(-1, "account")),
        (Operand(-1, ""),),
    ]


def test_tests_in_a_file_are_read_with_their_place() -> None:
    text = """
title: r
name: r
logsource: {product: correlator}
detection: {s: {f: 1}, condition: s}
x-correlator:
  tests:
    - name: it fires
      start: 2026-03-02T08:00:00+01:00
      until: 1h
      site: sites/small.yaml
      events:
        - {at: 0m, kind: door.opened, door: d1}
      expect: 1
"""
    (test,) = loaded(text).rules.detections["r"].head.tests
    assert (test.name, test.expect, test.until_ms, test.site_file) == ("it fires", 1, 3_600_000, "sites/small.yaml")
    assert (str(test.position), test.start_ms) == ("r.yml:8:7", 1_772_434_800_000)


# ---- events of tests ---------------------------------------------------------------------------


def test_an_event_of_a_test() -> None:
    spec = {"at": "3s", "kind": "badge.granted", "door": "d1", "badge": ["b1", "b2"], "target.host": "h1", "user": "u",
            "nested": {"x": 1}, "text": "hello", "level": "high", "source": "acs"}  # fmt: skip
    event = event_of(spec, 4, 10_000, "h1")
    assert event.entities == (
        Entity("where", "door", "d1"), Entity("actor", "badge", "b1"), Entity("actor", "badge", "b2"),
        Entity("target", "host", "h1"),
    )  # fmt: skip
    assert event.attributes == {"user": "u", "nested": {"x": 1}}
    assert (event.time_ms, event.received_ms, event.seq, event.text) == (13_000, 13_000, 4, "hello")
    assert (event.site, event.source, event.level, event.kind) == ("h1", "acs", "high", "badge.granted")


def test_events_of_a_test_have_ids_of_their_own_that_stay_the_same() -> None:
    same = {"at": "0s", "kind": "door.opened"}
    ids = [event_of(same, index, 0, "h1").id for index in (0, 1)]
    assert len(set(ids)) == 2
    assert ids == [event_of(same, index, 0, "h1").id for index in (0, 1)]


def test_a_late_event_and_a_state_of_a_test() -> None:
    event = event_of({"at": "1s", "received": "1m", "kind": "door.opened", "door": "d1", "state.attribute": "contact",
                      "state.value": "open"}, 0, 0, "h1")  # fmt: skip
    assert event.received_ms - event.time_ms == 59_000
    assert event.state is not None
    assert (event.state.kind, event.state.id, event.state.attribute, event.state.value) == (
        "door",
        "d1",
        "contact",
        "open",
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_entity_takes_the_role_that_the_kinds_table_gives_it(kind: str) -> None:
    for wanted in KINDS[kind].roles:
        role, _, kinds = wanted.partition(":")
        for entity_kind in kinds.split("|"):
            event = event_of({"at": 0, "kind": kind, entity_kind: "it"}, 0, 0, "h1")
            assert event.entities == (Entity(role, entity_kind, "it"),)


def test_an_event_without_a_time_is_refused() -> None:
    with pytest.raises(BadEvent, match="no time"):
        event_of({"kind": "door.opened"}, 0, 0, "h1")


# ---- filters and overlay -----------------------------------------------------------------------


FILTER = """---
title: f
logsource: {{product: correlator}}
filter: {{rules: {}, quiet: {{who: p-017}}, condition: not quiet}}
"""


def test_a_filter_narrows_the_rules_it_names_whose_log_source_it_covers() -> None:
    text = BASE + FILTER.format("[a]")
    rules = loaded(text).rules.detections
    assert rules["a"].condition == All((FieldTest("act", "equals", "a"), Not(FieldTest("who", "equals", "p-017"))))
    assert rules["b"].condition == FieldTest("act", "equals", "b")


def test_a_filter_for_any_rule_narrows_all_of_its_log_source() -> None:
    text = BASE + FILTER.format("any")
    assert all(isinstance(rule.condition, All) for rule in loaded(text).rules.detections.values())


def test_a_site_changes_rules_with_a_reason() -> None:
    text = f"{BASE}---\ntitle: r\nname: r\ncorrelation: {{type: event_count, rules: [a], timespan: 1m, condition: {{gte: 2}}}}\n"
    overlay = """
rules:
  r: {level: high, timespan: 5m, condition: {gte: 9}, reason: many people here}
  b: {enabled: false, reason: no such door}
"""
    found = loaded(text, overlay=overlay)
    rule = found.rules.correlations["r"]
    assert (rule.head.level, rule.timespan_ms, rule.condition) == ("high", 300_000, Threshold((("gte", 9),)))
    assert sorted(found.rules.detections) == ["a", "x", "y"]
    assert found.changed == (("b", "no such door"), ("r", "many people here"))


def test_a_rule_and_all_that_need_it_can_be_switched_off_together() -> None:
    text = f"{BASE}---\ntitle: r\nname: r\ncorrelation: {{type: temporal, rules: [a], timespan: 1m}}\n"
    found = loaded(text, overlay="rules: {a: {enabled: false, reason: q}, r: {enabled: false, reason: q}}")
    assert not found.rules.correlations
    assert "a" not in found.rules.detections


def test_an_overlay_file_beside_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(BASE)
    (tmp_path / "rules-overlay.yaml").write_text("rules: {a: {enabled: false, reason: q}}")
    assert "a" in load_rules([tmp_path]).rules.detections
    assert "a" not in load_rules([tmp_path], overlay=tmp_path / "rules-overlay.yaml").rules.detections


# ---- notes and words ---------------------------------------------------------------------------


def test_a_plain_rule_has_no_note() -> None:
    text = f"""
title: r
id: {UUID}
logsource: {{product: windows, service: security}}
detection: {{s: {{EventID: 4625}}, condition: s}}
"""
    assert check(loaded(text)) == []


def test_check_says_which_parts_are_not_plain_sigma() -> None:
    text = f"""
title: r
id: {UUID}
generate: true
correlation:
  type: value_median
  rules: [a]
  timespan: 500ms
  condition: {{gte: 3, lt: 9, field: n}}
x-correlator: {{select: each}}
"""
    notes = [str(fault) for fault in check(loaded(text + BASE)) if fault.line < 11]
    assert notes == [
        "r.yml:4:1: note: pySigma ignores `generate` at the document's root",
        "r.yml:6:3: note: no group-by: one group for all events (the Sigma schema wants group-by)",
        "r.yml:6:9: note: value_median is not in Sigma 2.1 (pySigma knows it)",
        "r.yml:8:13: note: a timespan in milliseconds is ours (Sigma has s, m, h and d)",
        "r.yml:9:14: note: a range of two bounds (the specification has it, pySigma refuses it)",
        "r.yml:10:16: note: a match for every event is ours (under x-correlator, which other readers ignore)",
    ]


def test_check_warns_of_a_rule_that_is_tried_on_every_event() -> None:
    text = f"title: r\nid: {UUID}\nlogsource: {{product: correlator}}\ndetection: {{s: {{path|contains: x}}, condition: s}}\n"
    assert any("tried on every one" in fault.message for fault in check(loaded(text)))


def test_a_correlation_in_plain_words() -> None:
    text = (
        BASE
        + """
---
title: Taken from the store
name: r
level: high
correlation: {type: temporal_ordered, rules: [a, b, x], group-by: [badge, zone], timespan: 10m, condition: a and b and not x}
x-correlator:
  sequence: [a, b, a]
  absent: before
  max-gap: 1m
  says: Somebody came and went.
  asset: b.door
  where: [{not: {same: [a.door, 'a#2.door']}}]
"""
    )
    rules = loaded(text).rules
    assert explain_rule(rules.correlations["r"], rules).split("\n") == [
        "Taken from the store (high)",
        "  says: Somebody came and went.",
        "  a, then b, then a with the same badge and zone within 10m",
        "  and no x in the 10m before",
        "  at most 1m between one step and the next",
        "  where not: the door of `a` and the door of `a#2` are the same",
        "  stands at: b.door",
    ]


def test_a_detection_in_plain_words() -> None:
    text = """
title: r
name: r
logsource: {product: windows, service: security}
detection:
  s: {EventID: [1, 2], user|endswith: '$'}
  f: {path|contains|cased: Tmp}
  condition: s and not f
"""
    assert explain_rule(loaded(text).rules.detections["r"]).split("\n") == [
        "r (medium)",
        "  looks at: product windows, service security",
        "  an event matches when",
        "    all of",
        "      all of",
        "        at least one of",
        "          EventID is 1",
        "          EventID is 2",
        '        user ends with "$"',
        '      not: path contains "Tmp" (case counts)',
    ]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{type: event_count, rules: [a, b], timespan: 1h, condition: {gte: 3, lt: 5}}",
         "at least 3 and fewer than 5 events of a or b within 1h"),
        ("{type: value_count, rules: [a], timespan: 1h, group-by: [u], condition: {gt: 3, field: [v, w]}}",
         "more than 3 different values of v and w in events of a with the same u within 1h"),
        ("{type: value_percentile, rules: [a], timespan: 1h, condition: {lte: 3, field: v, percentile: 99}}",
         "the 99th percentile of v in events of a within 1h is at most 3"),
        ("{type: temporal, rules: [a, b, x], timespan: 1h, condition: {gte: 2}}",
         "at least 2 of these within 1h: a, b, x"),
        ("{type: temporal, rules: [a, b, x], timespan: 1h, condition: a and (b or x)}",
         "a and (b or x) within 1h, in any order"),
    ],
)  # fmt: skip
def test_each_type_in_plain_words(section: str, words: str) -> None:
    text = f"{BASE}---\ntitle: r\nname: r\ncorrelation: {section}\n"
    rules = loaded(text).rules
    assert explain_rule(rules.correlations["r"], rules).split("\n")[1].strip() == words


def test_the_table_of_predicates_names_each() -> None:
    table = predicates_table()
    assert all(f"{word}: " in table for word in WHERE_PREDICATES)


# ---- the schema of the block -------------------------------------------------------------------

SCHEMA = json.loads((ROOT / "schemas/rule/x-correlator.schema.json").read_text())


def test_the_schema_knows_the_words_that_the_loader_knows() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(CORRELATION_KEYS)
    assert set(SCHEMA["$defs"]["test"]["properties"]) == set(TEST_KEYS)
    assert tuple(SCHEMA["$defs"]["validity"]["enum"]) == OPTION_WORDS["validity"]
    forms = {form["required"][0]: form for form in SCHEMA["$defs"]["condition"]["oneOf"]}
    assert set(forms) == {*WHERE_PREDICATES, "not"}
    for word, (count, options, _) in WHERE_PREDICATES.items():
        form = forms[word]
        assert set(form["properties"]) == {word, *options}
        assert form["properties"][word]["$ref"].endswith("pair" if count == 2 else "single")
        assert tuple(form["required"][1:]) == REQUIRED_OPTIONS.get(word, ())


def test_the_rule_pack_fits_the_schema() -> None:
    validator = Draft202012Validator(SCHEMA)
    count = 0
    for path in sorted((ROOT / "correlator/rulepack").glob("*.yml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and "x-correlator" in document:
                problems = [f"{document['title']}: {one.json_path} {one.message}"
                            for one in validator.iter_errors(document["x-correlator"])]  # fmt: skip
                assert problems == []
                count += 1
    assert count > 20
