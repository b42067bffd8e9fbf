"""The account of a threat: what a person reads."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from correlator.run.account import account

ROME = ZoneInfo("Europe/Rome")
T = 1_772_438_400_000  # 2026-03-02T08:00:00Z


def member(name: str, seconds: int, **more):
    return {
        "id": name,
        "time_ms": T + seconds * 1000,
        "said": f"door {name} opened",
        "origin": f"in/a:{seconds}",
    } | more


def step(title: str, *events: str, **more):
    return {"title": title, "level": "high", "t_ms": T, "joined": "opened it", "events": list(events)} | more


def threat(*steps, members=(), **more):
    base = {
        "id": "0123456789abcdef", "title": "Door forced", "severity": "high", "phase": "threat", "revision": 2,
        "first_ms": T, "last_ms": T + 90_400, "steps": list(steps), "members": list(members),
    }  # fmt: skip
    return base | more


def text(*steps, **more) -> str:
    return "\n".join(account(threat(*steps, **more), ROME))


def test_the_head_says_what_where_when_and_how_it_stands():
    lines = account(threat(places=("Pharmacy", "Hall"), domains=("cyber", "physical"), techniques=("T1078",)), ROME)
    assert lines[:6] == [
        "HIGH  Door forced",
        "  where    Pharmacy; Hall",
        "  when     Monday 02 March 2026, 09:00:00 to 09:01:30 (Europe/Rome), 1 min 30 s",
        "  domains  cyber, physical",
        "  state    threat, revision 2, id 0123456789ab",
        "  methods  T1078",
    ]


def test_a_place_that_is_not_known_is_said_so():
    assert "  where    place unknown" in text()


def test_a_step_says_why_it_belongs_what_its_rule_asks_and_what_did_not_happen():
    told = text(
        step(
            "Opened without a badge",
            "a",
            says="Nobody held a badge to the reader.",
            place_name="Pharmacy",
            condition="an opening without a grant",
            group={"door": "d-1"},
            expected_absent=["a grant in the 10s before"],
        ),
        members=[member("a", 5, place_name="Pharmacy door")],
    )
    for line in (
        "  1. 09:00:00  Opened without a badge [high] - Pharmacy",
        "       Nobody held a badge to the reader.",
        "       why: opened it",
        "       rule: an opening without a grant (door d-1)",
        "       expected and did not happen: a grant in the 10s before",
        "         09:00:05  door a opened at Pharmacy door  <in/a:5>",
    ):
        assert line in told.splitlines()


def test_a_proof_told_before_is_marked_and_a_late_one_says_how_late():
    told = text(step("one", "a"), step("two", "a", "b"), members=[member("a", 1), member("b", 2, late_ms=61_400)])
    assert told.count("(see above)") == 1
    assert "door b opened, late by 61s  <in/a:2>" in told


def test_a_proof_without_a_file_shows_the_carriers_position_or_its_id():
    raw, bare = member("a", 1, origin="", raw="events:3:17"), member("b", 2, origin="")
    told = text(step("one", "a", "b"), members=[raw, bare])
    assert "<events:3:17>" in told
    assert "<b>" in told


def test_many_proofs_are_cut_and_counted():
    members = [member(str(number), number) for number in range(11)]
    told = text(step("one", *(one["id"] for one in members)), members=members, truncated=4)
    assert told.count("<in/a:") == 8
    assert "         and 3 more" in told
    assert "  and 4 more events than are listed here" in told


def test_windows_are_named():
    assert "  windows  w-1, w-2" in text(windows=("w-1", "w-2"))
