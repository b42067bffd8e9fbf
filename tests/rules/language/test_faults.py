"""Everything that can be wrong with a rule file, with its place and what would be right (faults.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from correlator.errors import UsageError
from correlator.rules.load import load_rules, rules_text

ROWS = yaml.safe_load((Path(__file__).parent / "faults.yaml").read_text())
# Rules that a row with `base` may refer to; they stand behind its text, so that lines count from 1.
BASE = "".join(
    f"---\n{{title: {name}, name: {name}, logsource: {{product: correlator}}, "
    f"detection: {{selection: {{act: '{name}'}}, condition: selection}}}}\n"
    for name in ("on", "off", "third")
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["faults"][0][:60])
def test_faults_are_told_with_their_place(row: dict[str, Any]) -> None:
    text = row["text"] + (BASE if row.get("base") else "")
    loaded = rules_text(text, "r.yml", overlay=row.get("overlay"))
    assert [str(fault) for fault in loaded.faults] == row["faults"]


def test_a_missing_path_is_the_callers_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_rules([tmp_path / "nowhere"])


def test_all_faults_of_all_files_are_found_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("title: [")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yml").write_text("title: a\n")
    (tmp_path / ".hidden.yml").write_text("nonsense")
    (tmp_path / "rules-overlay.yaml").write_text("rules: {}")
    (tmp_path / "site.yaml").write_text("site: {id: h1}\nfloors: []\n")
    loaded = load_rules([tmp_path], shown=lambda path: path.relative_to(tmp_path).as_posix())
    assert [(fault.file, fault.line) for fault in loaded.faults] == [("a.yml", 2), ("b.yaml", 0), ("sub/c.yml", 1)]


def test_a_rule_with_errors_does_not_take_others_with_it() -> None:
    loaded = rules_text(BASE + "---\ntitle: broken\nname: broken\nlogsource: {}\ndetection: {}\n"
                        "---\ntitle: above\nname: above\ncorrelation: {type: temporal, rules: [on, broken], timespan: 1s}\n"
                        "---\ntitle: beside\nname: beside\ncorrelation: {type: temporal, rules: [on, off], timespan: 1s}\n")  # fmt: skip
    assert sorted(loaded.rules.detections) == ["off", "on", "third"]
    assert sorted(loaded.rules.correlations) == ["beside"]
    assert all("broken" not in fault.message for fault in loaded.errors), "a fault is told once, where it is"


def test_the_result_does_not_depend_on_the_order_of_rules_or_files(tmp_path: Path) -> None:
    documents = [part for part in BASE.split("---\n") if part]
    documents += [
        "{title: in, name: in, correlation: {type: event_count, rules: [on, off], timespan: 1m, condition: {gte: 2}}}\n",
        "{title: out, name: aa, correlation: {type: temporal, rules: [in, third], timespan: 1m}}\n",
    ]
    there = rules_text("---\n".join(documents)).rules
    back = rules_text("---\n".join(reversed(documents))).rules
    assert list(there.correlations) == list(back.correlations) == ["in", "aa"], "inner rules come first"
    assert list(there.detections) == list(back.detections)
    assert there.used == back.used == {"on", "off", "third", "in"}
    for number, document in enumerate(documents):
        (tmp_path / f"{number}.yml").write_text(document)
    one_way = load_rules(sorted(tmp_path.glob("*.yml")))
    other_way = load_rules(sorted(tmp_path.glob("*.yml"), reverse=True))
    assert repr(one_way) == repr(other_way)
