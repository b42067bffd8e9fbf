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


def test_many_places_are_cut_and_counted_since_each_step_names_its_own():
    assert "  where    z1; z2; z3; z4; z5; z6; and 2 more" in text(places=tuple(f"z{n}" for n in range(1, 9)))


def test_one_moment_is_no_span():
    assert "  when     Monday 02 March 2026, 09:00:00 (Europe/Rome)" in text(last_ms=T).splitlines()


def test_a_threat_over_midnight_names_both_days():
    assert "09:00:00 to Tuesday 03 March 2026, 09:00:00 (Europe/Rome), 24 h 0 min" in text(last_ms=T + 86_400_000)


def test_steps_that_are_alike_and_stand_together_are_told_as_one_with_all_their_proofs():
    told = text(
        step("Scan", "a", place_name="pc-1"),
        step("Scan", "b", t_ms=T + 61_000, place_name="pc-2"),
        step("Login", "c"),
        step("Scan", "d", place_name="pc-3"),
        members=[member(name, n) for n, name in enumerate("abcd")],
    ).splitlines()
    heads = [line for line in told if line.startswith("  ") and line[2].isdigit()]
    assert heads == [
        "  1 to 2. 09:00:00 to 09:01:01  Scan [high], 2 times - pc-1; pc-2",
        "  3. 09:00:00  Login [high]",
        "  4. 09:00:00  Scan [high] - pc-3",
    ]
    assert [line.split("<")[1] for line in told if "<in/a" in line] == [f"in/a:{n}>" for n in range(4)]


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


def test_many_proofs_told_before_are_only_counted():
    members = [member(name, n) for n, name in enumerate("abcde")]
    told = text(step("one", *"abcd"), step("two", *"abcde"), members=members)
    assert told.count("<in/a:") == 5
    assert "         and 4 that are told above" in told.splitlines()


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
