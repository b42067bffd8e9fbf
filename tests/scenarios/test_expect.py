"""Expectations: what is compared, what fails, and what a faulty expect.yaml is told."""

from __future__ import annotations

import msgspec
import pytest

from correlator.errors import FaultyFile
from correlator.events.threat import Evidence, Threat
from correlator.run.expect import Expectation, ExpectedThreat, Member, check, load_expect


def threat(*origins: str, id: str = "t1", severity: str = "high", revision: int = 1, phase: str = "threat") -> dict:
    members = tuple(
        Evidence(id=f"e{at}", time_ms=at, kind="door.opened", source="s", said="door opened", origin=origin)
        for at, origin in enumerate(origins)
    )
    made = Threat(
        id=id, site="s", title=f"threat {id}", phase=phase, revision=revision, severity=severity, first_ms=0, last_ms=1,
        opened_ms=0, decided_ms=1, members=members,
    )  # fmt: skip
    return msgspec.to_builtins(made)


def wanted(*origins: str, name: str = "w", **more) -> ExpectedThreat:
    return ExpectedThreat(name, tuple(Member(origin) for origin in origins), **more)


def problems(expected: list[ExpectedThreat], found: list[dict]) -> list[str]:
    return check(Expectation(tuple(expected)), found)


def test_the_same_members_are_as_expected():
    assert problems([wanted("a:1", "a:2")], [threat("a:2", "a:1")]) == []


def test_a_missing_member_fails():
    assert problems([wanted("a:1", "a:2")], [threat("a:1")]) == ["threat 'w' lacks a:2"]


def test_an_extra_member_fails_and_is_told_with_what_it_said():
    (told,) = problems([wanted("a:1")], [threat("a:1", "a:2")])
    assert told == "threat 'w' has members that were not expected: a:2 (door opened)"


def test_an_extra_member_that_is_allowed_does_not_fail():
    allowed = wanted("a:1", allow_extra=("background:*",))
    assert problems([allowed], [threat("a:1", "background:77")]) == []


def test_a_further_threat_fails():
    (told,) = problems([wanted("a:1")], [threat("a:1"), threat("b:9", id="t2")])
    assert "unexpected threat 'threat t2'" in told
    assert "b:9" in told


def test_an_expected_threat_that_shares_no_member_was_not_found():
    told = problems([wanted("a:1")], [threat("b:1")])
    assert told[0] == "expected threat 'w' was not found"
    assert "unexpected threat" in told[1]


def test_each_expected_threat_is_compared_with_the_one_that_has_most_in_common():
    first, second = threat("a:1", "b:2", id="t1"), threat("a:2", "a:3", "b:1", id="t2")
    assert problems([wanted("a:2", "a:3", "b:1", name="x"), wanted("a:1", "b:2", name="y")], [first, second]) == []


def test_two_expected_threats_are_not_both_met_by_one():
    assert problems([wanted("a:1", name="x"), wanted("a:2", name="y")], [threat("a:1", "a:2")]) == [
        "threat 'x' has members that were not expected: a:2 (door opened)",
        "expected threat 'y' was not found",
    ]


@pytest.mark.parametrize(
    ("severity", "told"),
    [
        ("low", ["threat 'w' is low; at least medium was expected"]),
        ("medium", []),
        ("high", []),
        ("critical", ["threat 'w' is critical; at most high was expected"]),
    ],
)
def test_severity_has_bounds(severity, told):
    expected = wanted("a:1", at_least="medium", at_most="high")
    assert problems([expected], [threat("a:1", severity=severity)]) == told


def test_silence_fails_on_any_threat_and_holds_without():
    assert problems([], []) == []
    assert len(problems([], [threat("a:1")])) == 1


def test_the_last_revision_counts_and_merged_threats_do_not():
    found = [
        threat("a:1", "x:1", revision=1), threat("a:1", revision=2),
        threat("a:1", id="t0", revision=3, phase="merged"),
    ]  # fmt: skip
    assert problems([wanted("a:1")], found) == []


# ---- expect.yaml -----------------------------------------------------------------------------------


def test_a_range_of_lines_is_a_member_each(tmp_path):
    file = tmp_path / "expect.yaml"
    file.write_text('threats: [{name: x, members: [{at: "i.log:3-5", redundant: two are enough}]}]')
    (expected,) = load_expect(file).threats
    assert expected.members == tuple(Member(f"i.log:{line}", "two are enough") for line in (3, 4, 5))
    assert not any(member.needed for member in expected.members)


MEMBERS = 'members: [{at: "i.log:3", needed: true}]'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("threat: []", "expect.yaml has no word 'threat' (did you mean 'threats'?)"),
        ("{}", "give either silence: true or threats"),
        ("silence: true\nthreats: []", "give either silence: true or threats"),
        ("silence: yes", "silence can only be true"),
        ("threats: []", "threats must be a list with at least one threat"),
        ("threats: [x]", ":1:11: a threat is a mapping"),
        (f"threats: [{{{MEMBERS}}}]", "a threat needs a name"),
        ("threats: [{name: x}]", "a threat needs members"),
        ('threats: [{name: x, members: [{at: "i.log:3"}]}]', "a member is either needed or redundant"),
        ('threats: [{name: x, members: [{at: "i.log:3", needed: false}]}]', "needed can only be true (redundant: <why"),
        ('threats: [{name: x, members: [{at: "i.log", needed: true}]}]', "at must be file:line or file:first-last"),
        ('threats: [{name: x, members: [{at: "i.log:5-3", needed: true}]}]', "lines count from 1 and go upwards"),
        (f"threats: [{{name: x, {MEMBERS}, severity: {{at_least: hihg}}}}]", "no level 'hihg' (did you mean 'high'?)"),
        (f"threats: [{{name: x, {MEMBERS}, allow_extra: b}}]", "allow_extra must be a list of origins"),
    ],
)
def test_a_faulty_expectation_is_refused_with_a_hint(text, says, tmp_path):
    file = tmp_path / "expect.yaml"
    file.write_text(text)
    with pytest.raises(FaultyFile) as caught:
        load_expect(file)
    assert says in str(caught.value)
