"""What people decide follows from the journal alone, whoever reads it and however often."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.journal.action import Act, from_bytes, to_bytes
from correlator.journal.fold import Fold
from correlator.journal.store import JournalAway, SqliteJournal
from correlator.journal.view import View

H = 3_600_000


def act(verb: str, who: str = "p-1", threat: str = "t1", at_ms: int = 1_000, seen: int = -1, **args) -> Act:
    act.count += 1
    return Act(
        id=f"a{act.count}", site="h1", who=who, verb=verb, at_ms=at_ms, threat=threat, seen_version=seen, args=args
    )


act.count = 0


def folded(*acts: Act) -> tuple[Fold, list[str]]:
    fold = Fold("h1")
    return fold, [outcome.reason or outcome.result for outcome in map(fold.add, acts)]


def test_who_takes_first_has_it_and_the_other_reads_by_whom():
    fold, told = folded(act("assign", "p-1", seen=0), act("assign", "p-2", seen=0))
    assert told == ["done", "already taken by p-1"]
    assert fold.handling("t1").owner == "p-1"


def test_who_saw_that_it_is_taken_may_take_it_over():
    fold, told = folded(act("assign", "p-1", seen=0), act("assign", "p-2", seen=1))
    assert told == ["done", "done"]
    assert fold.handling("t1").owner == "p-2"


def test_an_acknowledgement_is_given_once():
    assert folded(act("ack", "p-1"), act("ack", "p-2"), act("ack", "p-1"))[1] == [
        "done", "already taken by p-1", "repeated",
    ]  # fmt: skip


def test_a_retry_with_the_same_id_changes_nothing():
    fold = Fold("h1")
    note = act("note", text="looked at it")
    assert [fold.add(note).result, fold.add(note).result] == ["done", "repeated"]
    assert len(fold.handling("t1").notes) == 1


def test_released_means_back_in_the_queue():
    fold, told = folded(act("ack", "p-1"), act("release", "p-2"), act("release", "p-1"))
    assert told == ["done", "held by p-1", "done"]
    assert fold.handling("t1").state == "new"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"until_ms": 2_000}, "a shelf needs a reason"),
        ({"reason": "noise"}, "a shelf needs an end in the future"),
        ({"reason": "noise", "until_ms": 1_000}, "a shelf needs an end in the future"),
        ({"reason": "noise", "until_ms": 1_001 + 8 * H}, "a shelf lasts at most 8 hours"),
        ({"reason": "noise", "until_ms": 1_000 + 8 * H}, "done"),
    ],
)
def test_a_shelf_has_a_reason_and_an_end(args, told):
    assert folded(act("shelve", **args))[1] == [told]


def test_a_shelf_ends_by_itself():
    fold, _ = folded(act("shelve", reason="noise", until_ms=5_000))
    assert fold.shelved("t1", 4_999) is not None
    assert fold.shelved("t1", 5_000) is None


def test_closing_needs_a_verdict_and_all_mandatory_steps_or_a_reason():
    _, told = folded(
        act("close"),
        act("close", verdict="true", mandatory=["lock", "call"]),
        act("step", step="lock"),
        act("close", verdict="true", mandatory=["lock", "call"]),
        act("close", verdict="true", mandatory=["lock", "call"], reason="nobody answers"),
        act("close", verdict="true"),
        act("reopen"),
    )
    assert told == [
        "closing needs a verdict: true, benign, false, duplicate, drill",
        "mandatory steps are open (lock, call): give a reason",
        "done",
        "mandatory steps are open (call): give a reason",
        "done",
        "repeated",
        "done",
    ]


def test_a_hand_over_moves_what_the_outgoing_person_holds_and_no_more():
    fold, told = folded(
        act("assign", "p-1", "t1"), act("assign", "p-3", "t2"), act("ack", "p-1", "t3"),
        act("handover", "p-2", "", **{"from": "p-1", "threats": ["t1", "t2", "t3"]}),
    )  # fmt: skip
    assert told[-1] == "done"
    assert [fold.handling(one).owner for one in ("t1", "t2", "t3")] == ["p-2", "p-3", "p-2"]


def test_what_nobody_was_allowed_to_do_is_kept_and_changes_nothing():
    refused = msgspec.structs.replace(act("assign", "p-9"), denied="viewers may not assign")
    fold, told = folded(refused)
    assert told == ["viewers may not assign"]
    assert fold.handlings == {}
    assert fold.count == 1


def test_an_edited_journal_no_longer_fits_its_anchor():
    first, second = act("note", text="one"), act("note", text="two")
    fold, _ = folded(first, second)
    anchor = act("anchor", "notifier", "", chain=fold.chain.hex())
    assert folded(first, second, anchor)[1][-1] == "done"
    edited = msgspec.structs.replace(first, args={"text": "won"})
    assert folded(edited, second, anchor)[1][-1] == "the journal is not what it was when this anchor was written"


def test_an_identity_is_revealed_for_a_reason_only():
    assert folded(act("reveal", what="e1"), act("reveal", what="e1", reason="police asks"))[1] == [
        "revealing an identity needs a reason", "done",
    ]  # fmt: skip


# ---- views -------------------------------------------------------------------------------------

people = st.sampled_from(["p-1", "p-2", "p-3"])
things = st.sampled_from(["t1", "t2"])
asked = st.one_of(
    st.tuples(st.sampled_from(["ack", "assign", "release", "reopen", "unshelve"]), people, things, st.just({})),
    st.tuples(st.just("note"), people, things, st.fixed_dictionaries({"text": st.text(max_size=5)})),
    st.tuples(st.just("step"), people, things, st.fixed_dictionaries({"step": st.sampled_from("abc"), "done": st.booleans()})),
    st.tuples(st.just("close"), people, things, st.fixed_dictionaries({"verdict": st.sampled_from(["true", "no"])})),
    st.tuples(st.just("shelve"), people, things, st.just({"reason": "noise", "until_ms": 10**6})),
    st.tuples(st.just("window"), people, st.just(""), st.just({"id": "w", "why": "paint", "to_ms": 10**6})),
)  # fmt: skip


@st.composite
def journals(draw):
    acts = []
    for n, (verb, who, threat, args) in enumerate(draw(st.lists(asked, max_size=25))):
        seen = draw(st.sampled_from([-1, 0, 1, 2]))
        acts.append(
            Act(id=f"a{n}", site="h1", who=who, verb=verb, at_ms=n, threat=threat, seen_version=seen, args=args)
        )
        if draw(st.booleans()) and acts:
            acts.append(acts[draw(st.integers(0, len(acts) - 1))])  # a retry
    return acts


@given(journals(), st.data())
def test_a_view_that_was_closed_at_any_point_is_the_view_that_never_was(tmp_path_factory, acts, data):
    folder = tmp_path_factory.mktemp("views")
    whole = View(":memory:")
    with whole.batch():
        for position, one in enumerate(acts):
            whole.add_act(one, position)
    stops = data.draw(st.sets(st.integers(0, max(len(acts) - 1, 0)), max_size=3))
    view = View(folder / "v.db")
    for position, one in enumerate(acts):
        with view.batch():
            view.add_act(one, position)
            view.reached("journal", position)
        if position in stops:
            view.close()
            view = View(folder / "v.db")
            assert view.position("journal") == position
    assert view.digest() == whole.digest()


def test_what_a_failed_batch_did_is_gone():
    view = View(":memory:")
    with view.batch():
        view.add_act(act("note", text="one"), 0)
    before = view.digest()
    with pytest.raises(RuntimeError), view.batch():
        view.add_act(act("assign"), 1)
        raise RuntimeError
    assert view.digest() == before
    assert view.fold("h1").handling("t1").owner == ""


def test_the_journal_in_a_file_is_read_in_the_order_written(tmp_path: Path):
    journal, other = SqliteJournal(tmp_path / "j.db"), SqliteJournal(tmp_path / "j.db")
    acts = [act("note", text=str(n)) for n in range(5)]
    positions = [(journal if n % 2 else other).append(one) for n, one in enumerate(acts)]
    assert list(journal.read(-1)) == list(zip(positions, acts, strict=True))
    assert list(other.read(positions[2])) == list(zip(positions[3:], acts[3:], strict=True))


def test_threads_that_share_a_journal_each_get_the_position_of_their_own_action(tmp_path):
    journal = SqliteJournal(tmp_path / "j.db")
    with ThreadPoolExecutor(5) as threads:
        reading = threads.submit(lambda: [len(list(journal.read(-1))) for _ in range(100)])
        written = list(threads.map(lambda n: (journal.append(act("note", text=str(n))), str(n)), range(400)))
    assert reading.result() == sorted(reading.result())
    assert sorted(written) == [(position, one.args["text"]) for position, one in journal.read(-1)]


def test_a_locked_file_and_a_reader_in_another_thread_leave_the_journal_away_and_nothing_recorded(tmp_path):
    journal = SqliteJournal(tmp_path / "j.db")
    lock = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(journal.append, act("note", text="lost"))
        while not written.done():
            assert list(journal.read(-1)) == []
        with pytest.raises(JournalAway):
            written.result()
    lock.execute("ROLLBACK")
    lock.close()
    assert list(journal.read(-1)) == []


@given(journals())
def test_an_action_comes_back_from_its_bytes(acts):
    assert [from_bytes(to_bytes(one)) for one in acts] == acts
