"""Only what the journal's fold accepted, and what decides, is copied into the log."""

from __future__ import annotations

from typing import Any

from correlator.clock import HOUR_MS
from correlator.journal.action import Act
from correlator.journal.relay import Relay

T = 1_772_438_400_000


def taken(*asked: tuple[str, str, dict[str, Any]], **more: Any) -> list[tuple[str, dict[str, Any]]]:
    relay = Relay()
    found = []
    for n, (verb, who, args) in enumerate(asked):
        given = {"id": f"a{n}", "site": "s", "threat": "t-1", "at_ms": T + n, **more}
        action = relay.take(Act(verb=verb, who=who, args=args, **given))  # type: ignore[arg-type]
        if action is not None:
            assert action.at_ms == T + n
            found.append((action.kind, action.body))
    return found


def test_a_close_carries_the_verdict_given_with_it_or_before():
    by = {"who": "p", "threat": "t-1"}
    assert taken(("close", "p", {"verdict": "false"})) == [("close", {"verdict": "false", **by})]
    assert taken(("verdict", "p", {"verdict": "true"}), ("note", "p", {"text": "x"}), ("close", "p", {})) == [
        ("verdict", {"verdict": "true", **by}),
        ("close", {"verdict": "true", **by}),
    ]


def test_what_the_fold_refuses_or_knows_is_not_copied():
    assert taken(("close", "p", {})) == [], "closing needs a verdict"
    assert taken(("close", "p", {"verdict": "true"}), ("close", "q", {"verdict": "false"})) == [
        ("close", {"verdict": "true", "who": "p", "threat": "t-1"})
    ]
    assert taken(("assign", "p", {}), ("close", "q", {"verdict": "true"}), seen_version=0) == [], "taken by another"
    assert taken(("reopen", "p", {})) == []
    assert taken(("window", "p", {"to_ms": T + HOUR_MS})) == [], "it needs a reason"
    assert taken(("close", "p", {"verdict": "true"}), denied="a viewer may not") == []
    twice = [("verdict", "p", {"verdict": "true"}), ("verdict", "p", {"verdict": "true"})]
    assert len(taken(*twice, id="same")) == 1


def test_what_decides_nothing_is_not_copied():
    quiet = ("ack", "assign", "release", "note", "shelve", "handover", "notified", "reveal", "login")
    args = {"text": "x", "reason": "r", "until_ms": T + HOUR_MS, "from": "q", "step": "1"}
    assert taken(*[(verb, "p", args) for verb in quiet]) == []
