"""Files of console and notifier let go of what is over, count it, and tell nobody anything twice."""

from __future__ import annotations

import msgspec

from correlator.clock import DAY_MS
from correlator.console.facts import Facts
from correlator.ingest.metrics import REGISTRY
from correlator.journal.action import Act
from correlator.journal.view import View
from tests.notifier.cases import T0, THREATS
from tests.notifier.test_service import House

YEAR_MS = 365 * DAY_MS
THREAT = THREATS["combined"]


def told(number: int, **changes):
    return msgspec.structs.replace(THREAT, id=f"{number:032x}", decided_ms=T0, **changes)


def act(verb: str, at_ms: int, threat: str = "", **args) -> Act:
    return Act(
        id=f"{verb}-{threat}-{at_ms}", site="h-test", who="p-1", verb=verb, at_ms=at_ms, threat=threat, args=args
    )


QUIET, OPEN, CLOSED, LATER, AGAIN = (told(n, phase="quiet" if n == 1 else "threat") for n in range(1, 6))
ACTS = [
    act("note", T0, QUIET.id, text="seen"),
    act("ack", T0, OPEN.id),
    act("close", T0 + DAY_MS, CLOSED.id, verdict="true"),
    act("close", T0 + 2 * YEAR_MS, LATER.id, verdict="true"),
    act("close", T0, AGAIN.id, verdict="true"),
    act("reopen", T0 + DAY_MS, AGAIN.id),
    act("login", T0, held=True),
    act("exception", T0, id="e", rule="r", asset="d-store", reason="known", from_ms=T0, until_ms=T0 + DAY_MS),
    act("note", T0, "f" * 32, text="of a threat whose topic let it go"),
    act("login", T0 + 2 * YEAR_MS, held=True),
]


def built(*acts: Act) -> View:
    view = View(":memory:")
    with view.batch():
        for threat in (QUIET, OPEN, CLOSED, LATER, AGAIN):
            view.add_threat(threat)
        for position, one in enumerate(acts):
            view.add_act(one, position)
        view.add_health("h-test", "camera cam-1", "Store", "offline", T0)
        view.add_health("h-test", "camera cam-2", "Store", "offline", T0 + 2 * YEAR_MS)
    return view


def test_what_is_over_goes_and_what_is_open_or_was_touched_stays():
    view = built(*ACTS)
    assert dict(view.trim(T0 + YEAR_MS)) == {"threats": 2, "handlings": 3, "acts": 5, "declared": 1, "health": 1}
    assert [view.threat(one.id) is not None for one in (QUIET, OPEN, CLOSED, LATER, AGAIN)] == [
        False, True, False, True, True,
    ]  # fmt: skip
    assert view.threat(OPEN.id).handling.acked_by == "p-1"
    kept = [(one.verb, one.threat) for _, one, _ in view.acts("h-test")]
    assert kept == [("ack", OPEN.id), ("close", LATER.id), ("close", AGAIN.id), ("reopen", AGAIN.id), ("login", "")]
    assert [one.thing for one in view.health("h-test")] == ["camera cam-2"]
    assert sum(view.trim(T0 + YEAR_MS).values()) == 0


def test_a_trimmed_view_goes_on_as_one_that_is_built_anew_and_trimmed_then():
    first, rest = ACTS[:6], ACTS[6:]
    one, other = built(*first), built(*ACTS)
    one.trim(T0 + YEAR_MS)
    with one.batch():
        for position, late in enumerate(rest, len(first)):
            one.add_act(late, position)
    for view in (one, other):
        view.trim(T0 + YEAR_MS)
    assert one.digest() == other.digest()
    assert one.fold("h-test").chain == built(*ACTS).fold("h-test").chain  # the journal's hash is of all of it


def test_a_notifier_that_trims_tells_no_open_threat_again_and_counts_what_went(tmp_path, places):
    house = House(tmp_path, places, escalation=[{"after_min": 5, "receivers": ["manager"]}])
    house.notifier._keep_ms = YEAR_MS
    before = REGISTRY.get_sample_value("correlator_view_trimmed_total", {"process": "notifier", "table": "outbox"}) or 0
    house.tell(OPEN)
    house.tell(CLOSED)
    for minute in (0, 1, 6, 7):
        house.notifier.step(T0 + minute * 60_000)
    house.act("close", T0 + DAY_MS, CLOSED.id, verdict="false", mandatory=[], reason="-")
    house.notifier.step(T0 + DAY_MS)
    sent = len(house.out)
    assert sent >= 4
    for day in (366, 367, 400):
        house.notifier.step(T0 + day * DAY_MS)
    assert house.view.threat(CLOSED.id) is None
    assert house.box.of(CLOSED.id) == []
    assert len(house.box.of(OPEN.id)) >= 2
    assert len(house.out) == sent
    after = REGISTRY.get_sample_value("correlator_view_trimmed_total", {"process": "notifier", "table": "outbox"})
    assert after - before >= 2


def test_facts_let_go_of_sources_rejects_and_evidence_nobody_has_any_more(places):
    facts = Facts({"h-test": places}, as_of_ms=T0 + YEAR_MS)
    facts.add_kept("old", 0, 1, T0)
    facts.add_kept("new", 0, 2, T0 + YEAR_MS)
    facts.add_kept("erased", 0, 3, T0 + YEAR_MS)
    facts.drop_kept("erased")
    gone = facts.trim(T0 + DAY_MS)
    assert (gone["kept"], sum(gone.values())) == (1, 1)
    assert [facts.kept(one) for one in ("old", "new", "erased")] == [None, (0, 2), None]
