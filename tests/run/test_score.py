"""`replay --score`: precision, recall and F over findings, links and threats, worked by hand."""

from __future__ import annotations

import pytest

from correlator.run.expect import Expectation, ExpectedThreat, Member
from correlator.run.score import score, score_lines


def threat(name, *origins):
    members = [{"id": origin, "origin": origin} for origin in origins]
    return {"id": name, "revision": 1, "phase": "threat", "members": members}


EXPECTED = Expectation((ExpectedThreat("theft", tuple(Member(f"a:{n}") for n in (1, 2, 3, 4)), allow_extra=("x:*",)),))


def test_findings_links_and_threats_are_counted_apart():
    found = score(EXPECTED, [threat("one", "a:1", "a:2", "a:3", "b:1", "x:9"), threat("two", "c:1", "c:2")])
    findings, links, threats = found["findings"], found["links"], found["threats"]
    assert (findings.right, findings.found, findings.expected) == (3, 6, 4)
    assert (findings.precision, findings.recall) == (0.5, 0.75)
    assert findings.f == pytest.approx(0.6)
    assert (links.right, links.found, links.expected) == (3, 7, 6)
    assert (threats.right, threats.found, threats.expected) == (1, 2, 1)


def test_a_threat_of_less_than_half_of_the_expected_is_not_it():
    assert score(EXPECTED, [threat("one", "a:1")])["threats"].right == 0


def test_silence_that_was_expected_scores_full_and_one_threat_in_it_scores_nothing():
    assert {one.f for one in score(Expectation(), []).values()} == {1.0}
    loud = score(Expectation(), [threat("one", "a:1", "a:2")])
    assert {one.precision for one in loud.values()} == {0.0}


def test_the_table_says_what_was_counted():
    assert "4 right of 4 found, 4 expected" in "\n".join(
        score_lines(score(EXPECTED, [threat("one", *(f"a:{n}" for n in (1, 2, 3, 4)))]))
    )
