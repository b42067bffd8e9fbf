"""`correlator explain`: a threat down to its messages, and the part of a rule that failed with what it met."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from correlator.errors import UsageError
from correlator.run.explain import ToldByReplay, explain_threat, why_not
from tests.run.small import RULES, Line, ndjson, run_replay, write_scenario


def replayed(folder: Path, *lines: Line | str, rules: str = RULES) -> Path:
    """The --out folder of a replay of these lines."""
    out = folder / "out"
    run_replay(write_scenario(folder / "scenario", lines, rules=rules), out)
    return out


def threat_of(out: Path, threat: str) -> str:
    told = io.StringIO()
    assert explain_threat(ToldByReplay(out), threat, told) == 0
    return told.getvalue()


def silence_of(out: Path, rule: str, where: str | None = None) -> str:
    told = io.StringIO()
    assert why_not(out, rule, where, told) == 0
    return told.getvalue()


# ---- a threat ------------------------------------------------------------------------------------------


def test_a_threat_is_told_with_its_revisions_and_its_messages(tmp_path):
    out = replayed(
        tmp_path,
        Line(0, "denied", "d-pharmacy", "770017", note="second try"),
        Line(5, "opened", "d-pharmacy"),
        Line(20, "forced", "d-pharmacy"),
    )
    threats = ndjson(out / "threats.ndjson")
    text = threat_of(out, threats[0]["id"][:6])
    account, _, rest = text.partition("Revisions")
    assert "Refused, then opened" in account
    assert "Pharmacy" in account
    history, _, evidence = rest.partition("Evidence")
    assert "1. 02 Mar 09:00:05  opened" in history
    assert 'note: "second try"' in evidence
    assert "badge.denied  <inputs/doors.ndjson:1>" in evidence


def test_a_threat_is_found_by_one_of_its_messages(tmp_path):
    out = replayed(tmp_path, Line(0, "forced", "d-pharmacy"))
    assert "<inputs/doors.ndjson:1>" in threat_of(out, "inputs/doors.ndjson:1")
    with pytest.raises(UsageError, match=r"no threat 'inputs/doors\.ndjson:2'"):
        threat_of(out, "inputs/doors.ndjson:2")


def test_no_badge_number_is_shown(tmp_path):
    out = replayed(tmp_path, *(Line(at, "denied", "d-pharmacy", "770017", note="card 770017") for at in range(3)))
    threat = ndjson(out / "threats.ndjson")[0]["id"]
    texts = [threat_of(out, threat), silence_of(out, "refused_often"), silence_of(out, "forced"),
             silence_of(out, "let_in", "inputs/doors.ndjson:1")]  # fmt: skip
    for text in texts:
        assert "770017" not in text
    assert "badge #" in texts[0]


def test_an_unknown_threat_names_those_there_are(tmp_path):
    out = replayed(tmp_path, Line(0, "forced"))
    known = ndjson(out / "threats.ndjson")[0]["id"][:12]
    with pytest.raises(UsageError, match=f"no threat 'zz'; there are: {known}"):
        explain_threat(ToldByReplay(out), "zz", io.StringIO())


def test_without_threats_it_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"the replay in .* holds none"):
        explain_threat(ToldByReplay(replayed(tmp_path, Line(0, "idle"))), "zz", io.StringIO())


def test_a_beginning_that_fits_several_threats_is_refused(tmp_path):
    out = replayed(tmp_path, Line(0, "forced", "d-main"), Line(60, "forced", "d-pharmacy"))
    assert len({told["id"] for told in ndjson(out / "threats.ndjson")}) == 2
    with pytest.raises(UsageError, match="fits 2 threats"):
        explain_threat(ToldByReplay(out), "", io.StringIO())


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"scenario": "x", "zone": "Nowhere/Land"}'])
def test_a_folder_that_no_replay_wrote_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "replay.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="replay"):
        explain_threat(ToldByReplay(tmp_path), "a", io.StringIO())


# ---- why not: detections -------------------------------------------------------------------------------


def test_a_rule_that_matched_says_how_often(tmp_path):
    out = replayed(tmp_path, Line(0, "denied", badge="1"), Line(1, "denied", badge="2"))
    text = silence_of(out, "refused")
    assert "matched 2 events" in text
    assert "<inputs/doors.ndjson:1>" in text


NOTED = """\
title: Forced at night
name: noted
logsource: {product: correlator}
detection:
  s: {kind: door.forced, note: night}
  other: {note|contains: drill}
  condition: s and not other
"""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([Line(0, "opened"), Line(1, "forced", note="day")], ['needed: note is "night"', 'met: note is "day"', ":2>"]),
        ([Line(0, "forced"), Line(1, "opened")], ['needed: note is "night"', "met: note is absent", ":1>"]),
        ([Line(0, "opened", note="night")], ['needed: kind is "door.forced"', 'met: kind is "door.opened"', ":1>"]),
    ],
)
def test_a_detection_that_never_matched_tells_the_nearest_event(tmp_path, lines, expected):
    text = silence_of(replayed(tmp_path, *lines, rules=NOTED), "noted")
    for part in ["matched none of", *expected]:
        assert part in text


def test_a_part_that_must_not_hold_is_told_as_such(tmp_path):
    rules = NOTED.replace("note: night", "door: d-main")
    text = silence_of(replayed(tmp_path, Line(0, "forced", note="a drill"), rules=rules), "noted")
    assert 'needed: not: note contains "drill"' in text
    assert 'met: note is "a drill"' in text


def test_one_message_is_asked_and_not_the_nearest(tmp_path):
    out = replayed(tmp_path, Line(0, "forced", note="day"), Line(1, "opened", note="night"), rules=NOTED)
    text = silence_of(out, "noted", "inputs/doors.ndjson:2")
    assert 'met: kind is "door.opened"' in text
    assert ": note" not in text


def test_a_message_that_did_match_is_said_to(tmp_path):
    out = replayed(tmp_path, Line(0, "forced", note="night"), rules=NOTED)
    assert "matched this event" in silence_of(out, "noted", "doors.ndjson:1")


# ---- why not: correlations -----------------------------------------------------------------------------


def test_a_correlation_that_matched_shows_its_first_match(tmp_path):
    out = replayed(tmp_path, *(Line(at, "denied", badge="1") for at in range(3)))
    text = silence_of(out, "refused_often")
    assert "it matched: 1 match" in text
    assert text.count("[refused]") == 3


def test_a_part_that_never_happened_is_named_with_its_own_reason(tmp_path):
    text = silence_of(replayed(tmp_path, Line(0, "denied", badge="1"), Line(4, "granted")), "refused_then_opened")
    assert 'this part never happened: "Door opened" (opened)' in text
    assert 'needed: kind is "door.opened"' in text


def test_a_count_tells_the_highest_value_it_reached(tmp_path):
    lines = [Line(0, "denied", badge="1"), Line(1, "denied", badge="2"), Line(30, "denied", badge="1")]
    text = silence_of(replayed(tmp_path, *lines), "refused_often")
    assert "the nearest value in any window of 1m is 2; needed: gte 3" in text
    assert "this part failed: the same badge" in text


def test_an_absence_tells_what_was_there(tmp_path):
    lines = [Line(0, "granted", badge="1"), Line(2, "granted", "d-pharmacy", "1"), Line(3, "opened")]
    text = silence_of(replayed(tmp_path, *lines), "opened_unasked")
    assert "this part failed: the rule that must be absent was there" in text
    assert 'met: "Badge let in" (let_in)' in text
    assert "<inputs/doors.ndjson:1>" in text
    assert "<inputs/doors.ndjson:2>" not in text, "that grant was for another door"


WHERE = RULES.replace(
    "---\ntitle: Opened without", "x-correlator: {where: [{different: [refused.note, opened.note]}]}\n---\ntitle: Opened without"
)  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([Line(0, "denied", note="a"), Line(90, "opened", note="b")], ["this part failed: within 1m"]),
        ([Line(0, "opened", note="b"), Line(9, "denied", note="a")], ["this part failed: the order of the steps"]),
        (
            [Line(0, "denied", "d-main", note="a"), Line(9, "opened", "d-pharmacy", note="b")],
            ["this part failed: the same door", 'met: door is "d-main"', 'met: door is "d-pharmacy"'],
        ),
        (
            [Line(0, "denied", note="a"), Line(9, "opened", note="a")],
            ["this part failed: the condition that the note of", 'met: note of `opened` is "a"'],
        ),
        (
            [Line(0, "denied", "d-main", note="a"), Line(90, "opened", "d-pharmacy", note="b")],
            ["this part failed: the same door, and within 1m"],
        ),
        (
            [Line(0, "opened", "d-main", note="a"), Line(90, "denied", "d-pharmacy", note="a")],
            ["more than two of its parts failed"],
        ),
    ],
)
def test_the_part_that_failed_is_named_with_what_it_met(tmp_path, lines, expected):
    text = silence_of(replayed(tmp_path, *lines, rules=WHERE), "refused_then_opened")
    for part in ["it never matched", *expected]:
        assert part in text


def test_a_message_that_no_part_of_a_correlation_counts(tmp_path):
    out = replayed(tmp_path, Line(0, "denied", badge="1"), Line(1, "granted", badge="1"))
    text = silence_of(out, "refused_often", "inputs/doors.ndjson:2")
    assert "does not count this message" in text
    assert 'needed: kind is "badge.denied"' in text


def test_a_message_in_a_match_and_one_beside_it(tmp_path):
    out = replayed(tmp_path, *(Line(at, "denied", badge="1") for at in range(3)), Line(300, "denied", badge="1"))
    assert "it matched: 1 match with this message" in silence_of(out, "refused_often", "inputs/doors.ndjson:1")
    beside = silence_of(out, "refused_often", "inputs/doors.ndjson:4")
    assert "it did not match with this message" in beside
    assert "the nearest value in any window of 1m is 1" in beside


# ---- why not: what cannot be answered ------------------------------------------------------------------


def test_a_message_that_nobody_sent(tmp_path):
    with pytest.raises(UsageError, match=r"no event came from inputs/doors\.ndjson:9"):
        silence_of(replayed(tmp_path, Line(0, "forced")), "forced", "inputs/doors.ndjson:9")


def test_a_message_that_was_rejected_reached_no_rule(tmp_path):
    out = replayed(tmp_path, Line(0, "forced"), "not json")
    with pytest.raises(UsageError, match="was rejected and reached no rule: not_json"):
        silence_of(out, "forced", "inputs/doors.ndjson:2")


def test_an_unknown_rule_names_near_ones(tmp_path):
    with pytest.raises(UsageError, match=r"near: .*refused_often"):
        silence_of(replayed(tmp_path, Line(0, "forced")), "refused_oftn")


def test_an_unknown_rule_is_no_finding_where_a_message_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"near: .*refused_often"):
        silence_of(replayed(tmp_path, Line(0, "forced")), "refused_oftn", "inputs/doors.ndjson:1")


def test_a_scenario_that_is_gone(tmp_path):
    out = replayed(tmp_path, Line(0, "forced"))
    shutil.rmtree(tmp_path / "scenario")
    with pytest.raises(UsageError, match="scenario of this replay cannot be read any more"):
        silence_of(out, "forced")


def test_rules_are_read_anew_so_that_a_change_can_be_tried(tmp_path):
    out = replayed(tmp_path, Line(0, "denied", badge="1"), Line(1, "denied", badge="1"))
    assert "it never matched" in silence_of(out, "refused_often")
    rules = tmp_path / "scenario/rules/rules.yml"
    rules.write_text(rules.read_text(encoding="utf-8").replace("gte: 3", "gte: 2"), encoding="utf-8")
    assert "it matched: 1 match" in silence_of(out, "refused_often")


def test_a_damaged_file_is_named(tmp_path):
    out = replayed(tmp_path, Line(0, "forced"))
    threat = ndjson(out / "threats.ndjson")[0]["id"]
    (out / "decoded.ndjson").write_text(json.dumps({"id": 3}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"decoded\.ndjson is damaged"):
        explain_threat(ToldByReplay(out), threat, io.StringIO())


# ---- two findings --------------------------------------------------------------------------------------


def test_two_findings_are_named_by_their_messages_and_a_learning_site_says_that_it_links_nothing_yet(tmp_path):
    out = replayed(tmp_path, Line(0, "forced", "d-pharmacy"), Line(20, "denied", "d-pharmacy", "770017"))
    text = silence_of(out, "inputs/doors.ndjson:2", "inputs/doors.ndjson:1")
    assert "still learning" in text
    assert "770017" not in text
    assert text.index("02 Mar 09:00:00") < text.index("02 Mar 09:00:20")


def test_a_message_that_is_no_finding_is_refused_by_its_name(tmp_path):
    out = replayed(tmp_path, Line(0, "forced", "d-pharmacy"), Line(5, "opened", "d-pharmacy"))
    with pytest.raises(UsageError, match=r"'inputs/doors.ndjson:9' is no finding"):
        silence_of(out, "inputs/doors.ndjson:1", "inputs/doors.ndjson:9")
