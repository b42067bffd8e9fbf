"""`correlator explain` of an embedded log: a threat down to kept messages, and why two findings are not linked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sqlite3
from pathlib import Path

import pytest

from correlator.cli.main import main
from correlator.embedded.reading import LogOfFile
from correlator.run.replay import scenario_rules
from correlator.run.rule_commands import find_rule
from correlator.run.whynot import explain_rule_silence
from correlator.run.whynot_links import explain_pair
from tests.ingest.carried import SCENARIOS, replayed, scenario, warm_pipeline

from .feeding import Running, in_pieces, messages_of

NAME = "vaccine-theft"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("log") / "log.sqlite3"
    running = Running(scenario(NAME), file)
    in_pieces(messages_of(scenario(NAME)), 400, running.feed)
    running.close()
    return file


@pytest.fixture(scope="module")
def theft() -> dict:
    """The gravest threat as it was last told."""
    last = {threat["id"]: threat for threat in map(json.loads, replayed(scenario(NAME)))}
    return max(last.values(), key=lambda threat: len(threat["steps"]))


def said(capsys, *words: str, code: int = 0) -> str:
    given = main(["explain", *words])
    told = capsys.readouterr()
    assert given == code, told.err
    return told.err if code else told.out


def events_of(log: Path) -> list:
    reader = LogOfFile(log)
    try:
        return [event for _, record in reader.read() for event in record.events]
    finally:
        reader.close()


def test_a_threat_is_told_with_its_revisions_and_the_messages_that_are_kept(log, theft, capsys):
    text = said(capsys, theft["id"][:10], "--from", str(log))
    account, _, rest = text.partition("Revisions")
    history, _, proofs = rest.partition("Evidence")
    assert theft["title"] in account
    assert "(Europe/Rome)" in account
    assert "  opened" in history
    assert f"{theft['revision']:>3}. " in history
    payloads = {hashlib.sha256(one.message.payload).hexdigest()[:16]: one for one in messages_of(scenario(NAME))}
    shown = re.findall(r"message: (\d+) bytes on (\S+), kept as evidence, sha-256 (\w+)", proofs)
    members = {event for step in theft["steps"] for event in step["events"]}
    assert len(shown) >= len(members)
    for size, channel, sha in shown:
        assert (len(payloads[sha].message.payload), payloads[sha].message.channel) == (int(size), channel)


def test_json_has_terms_paths_and_proofs_and_the_picture_the_paths(log, theft, tmp_path, capsys):
    picture = tmp_path / "paths.svg"
    found = json.loads(said(capsys, theft["id"], "--from", str(log), "--json", "--svg", str(picture)))
    assert found["threat"]["steps"] == theft["steps"]
    assert found["history"][0]["says"] == "opened"
    assert len(found["history"]) == theft["revision"]
    linked = [step for step in found["threat"]["steps"] if step.get("terms")]
    assert linked, "no step says its terms"
    assert all(impact["path"] for impact in found["threat"]["impact"])
    assert found["evidence"].keys() == {event for step in theft["steps"] for event in step["events"]}
    assert all(one["kind"] and one["message"]["sha256"] for one in found["evidence"].values())
    assert theft["impact"][0]["path"][0]["threat_type"] in picture.read_text()
    assert "--json and --svg are for a threat" in said(
        capsys, "--why-not", "a", "b", "--json", "--from", str(log), code=2
    )


def test_proofs_outlive_what_was_told_as_events(log, theft, tmp_path, capsys):
    later = tmp_path / "log.sqlite3"
    with sqlite3.connect(log) as old, sqlite3.connect(later) as new:
        old.backup(new)
        new.execute("DELETE FROM output WHERE topic = 'events.enriched'")
        new.execute("DELETE FROM evidence WHERE event = ?", (theft["members"][0]["id"],))
    new.close()
    text = said(capsys, theft["id"], "--from", str(later)).partition("Evidence")[2]
    gone, kept = theft["members"][:2]
    assert f"{kept['kind']}  <" in text
    assert "kept as evidence, sha-256" in text
    assert f"{gone['kind']}  <" not in text


def findings_of(theft: dict) -> list[str]:
    return [step["finding"] for step in theft["steps"]]


@pytest.mark.parametrize("pair", [(0, 1), (1, -1), (-1, 2)])
def test_two_findings_are_weighed_by_the_state_at_that_position_as_a_replay_weighs_them(log, theft, capsys, pair):
    one = scenario(NAME)
    first, second = (findings_of(theft)[at] for at in pair)
    lines = list(explain_pair(warm_pipeline(one), events_of(log), one.until_ms, first, second, one.zone))
    assert said(capsys, "--why-not", first, second, "--from", str(log)).splitlines() == lines
    assert f"both are in the threat {theft['id'][:12]}" in lines


def test_a_finding_is_named_by_the_number_of_its_message_too(log, theft, capsys):
    raw = {event.id: event.raw for event in events_of(log)}
    steps = [step for step in theft["steps"] if step["events"]]
    first, last = raw[steps[0]["events"][0]], raw[steps[-1]["events"][0]]
    assert first.startswith("log:")
    text = said(capsys, "--why-not", first, last, "--from", str(log))
    assert steps[0]["title"] in text
    assert steps[-1]["title"] in text


def test_a_log_without_its_beginning_says_that_what_was_before_does_not_count(log, theft, tmp_path, capsys):
    shorter = tmp_path / "log.sqlite3"
    with sqlite3.connect(log) as old, sqlite3.connect(shorter) as new:
        old.backup(new)
        new.execute("DELETE FROM events WHERE offset < 1")
    new.close()
    text = said(capsys, "--why-not", *findings_of(theft)[-2:], "--from", str(shorter))
    assert text.startswith("the log begins at events:1: how often things happened before that does not count here\n")
    assert len(text.splitlines()) > 2


def test_what_cannot_be_answered_is_said_in_one_line(log, theft, tmp_path, capsys):
    of = ("--from", str(log))
    assert "is no finding of what this log holds" in said(
        capsys, "--why-not", theft["steps"][0]["finding"], "zz", *of, code=2
    )
    assert "there is no threat 'zz'; there are: " in said(capsys, "zz", *of, code=2)
    assert "no rule 'campaign-smoke'; near: campaign_smoke" in said(capsys, "--why-not", "campaign-smoke", *of, code=2)
    elsewhere = ("--why-not", "a", "b", "--site", "elsewhere", *of)
    assert "the log holds nothing of that site" in said(capsys, *elsewhere, code=2)
    (tmp_path / "text").write_text("no database")
    assert "no usable embedded log" in said(capsys, "zz", "--from", str(tmp_path / "text"), code=2)
    assert "holds no replay" in said(capsys, "zz", "--from", str(SCENARIOS / "none.sqlite3"), code=2)


@pytest.mark.parametrize("name", ["campaign_crowd", "campaign_smoke", "campaign_shell_then_scan", "campaign_rebooking"])
def test_a_rule_is_run_again_over_the_log_as_over_a_replay(log, name, capsys):
    one = scenario(NAME)
    rules = scenario_rules(one).rules
    events = events_of(log)
    until = dataclasses.replace(one, until_ms=max(event.received_ms for event in events))
    lines = list(explain_rule_silence(until, rules, find_rule(rules, name), events))
    assert said(capsys, "--why-not", name, "--from", str(log)).splitlines() == lines
    assert len(lines) >= 1


def test_a_rule_is_asked_about_one_message_by_its_position_in_the_log(log, capsys):
    opened = next(event for event in events_of(log) if event.kind == "door.opened")
    of = ("--from", str(log))
    text = said(capsys, "--why-not", "campaign_smoke", opened.raw, *of)
    assert opened.raw.startswith("log:")
    assert '"Smoke" (campaign_smoke) did not match this event (door.opened):' in text
    assert said(capsys, "--why-not", "campaign_smoke", opened.id, *of) == text
    assert said(capsys, "--why-not", "campaign_smoke", opened.origin, *of) == text
    assert "no event of log:999999 is among the newest" in said(
        capsys, "--why-not", "campaign_smoke", "log:999999", *of, code=2
    )


def test_of_a_log_that_holds_more_the_newest_events_are_looked_at(log, capsys, monkeypatch):
    monkeypatch.setattr("correlator.run.whynot_log.MOST_EVENTS", 20)
    assert "of this log the newest 20 events are looked at" in said(
        capsys, "--why-not", "campaign_smoke", "--from", str(log)
    )
