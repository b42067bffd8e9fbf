"""The benchmarks run, and what they compare is the same work. Nothing here looks at a time."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import linking, works


def test_the_quick_run_prints_every_part_and_writes_json(root, tmp_path):
    file = tmp_path / "figures.json"
    parts = ("decode", "works", "touch", "memory", "linking")
    words = [sys.executable, "-m", "benchmarks", *parts, "--quick", "--json", str(file)]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert set(figures) == {"machine", *parts}
    assert set(figures["works"]) == {f"{work}-{count}" for work in ("A", "B", "C", "C2") for count in (1, 8)}
    assert all(rate["messages_per_s"] > 0 for rate in figures["decode"].values())


def test_findings_that_all_open_an_episode_do_and_the_others_mostly_extend_one():
    premises = linking.site(1_000)
    opening = linking.opening(premises, 2_000)
    _, engine = linking.run(premises, opening)
    assert engine.counters["episodes"] == 2_000
    assert any(link.source for threat in engine.all_threats() for link in threat.members.values())
    extending = linking.extending(premises, 20_000)
    _, engine = linking.run(premises, extending)
    assert len(extending) == 20_000
    assert 400 <= engine.counters["episodes"] <= 600
    assert linking.digest(engine) == linking.digest(linking.run(premises, extending)[1])


def test_the_console_is_measured_with_pages_that_see_every_new_threat(root, tmp_path):
    file = tmp_path / "figures.json"
    words = [sys.executable, "-m", "benchmarks.console", "--threats", "200", "--pages", "2", "--rounds", "1"]
    done = subprocess.run([*words, "--json", str(file)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert {"machine", "answer_s", "shown_s", "effect_ms"} <= set(figures)
    assert figures["shown_s"]["max"] > 0


def test_an_unknown_part_is_refused(root):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "speed"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no part 'speed'" in done.stderr


def test_events_arriving_late_give_the_same_results():
    for make in works.WORKS.values():
        rules = works.loaded(works.sigma(make(8)))
        in_order = works.run(rules, works.events(6_000), digest=True)[1:]
        assert works.run(rules, works.late_events(6_000), digest=True)[1:] == in_order


def test_rules_of_a_work_are_all_different():
    for make in works.WORKS.values():
        assert len({rule.id for rule in make(1000)}) == 1000
