"""`journal verify` finds what was edited, removed or put in between."""

from __future__ import annotations

import sqlite3

import pytest
from click.testing import CliRunner

from correlator.cli.journal import journal as command
from correlator.clock import DAY_MS
from correlator.journal.action import Act, from_bytes, to_bytes
from correlator.journal.fold import Fold
from correlator.journal.store import SqliteJournal
from correlator.journal.verify import due, verify

SITE = "h1"


def note(number: int) -> Act:
    return Act(
        id=f"n{number}", site=SITE, who="p-1", verb="note", at_ms=number, threat="t", args={"text": f"note {number}"}
    )


@pytest.fixture
def file(tmp_path):
    """A journal with two anchors: three notes, an anchor, three notes, an anchor a day later, one note."""
    path = tmp_path / "log.sqlite3.actions"
    journal, fold, written = SqliteJournal(path), Fold(SITE), {}
    for number in range(7):
        acts = [note(number)]
        if number in (3, 6):
            acts = [*due({SITE: fold}, written, number // 3 * DAY_MS), *acts]
        for act in acts:
            journal.append(act)
            fold.add(act)
    journal.close()
    return path


def checked(file) -> tuple[int, list[int]]:
    (found,) = verify(SqliteJournal(file))
    return found.anchored, [position for position, _ in found.broken]


def test_what_nobody_touched_fits(file):
    assert checked(file) == (8, [])  # three, an anchor, three, an anchor


@pytest.mark.parametrize(
    ("position", "broken"), [(2, [4, 8]), (6, [8]), (9, [])], ids=["before both", "between", "behind"]
)
def test_an_edited_record_breaks_every_anchor_behind_it(file, position, broken):
    with sqlite3.connect(file) as db:
        (body,) = db.execute("SELECT body FROM actions WHERE position = ?", (position,)).fetchone()
        act = from_bytes(body)
        act.args["text"] = "something else"
        db.execute("UPDATE actions SET body = ? WHERE position = ?", (to_bytes(act), position))
    db.close()
    assert checked(file)[1] == broken


def test_a_record_that_is_gone_shows(file):
    with sqlite3.connect(file) as db:
        db.execute("DELETE FROM actions WHERE position = 3")
    db.close()
    assert checked(file)[1] == [4, 8]


def test_a_record_put_in_between_shows(file):
    acts = [act for _, act in SqliteJournal(file).read(-1)]
    other = SqliteJournal(file.with_name("other"))
    for act in [*acts[:2], note(99), *acts[2:]]:
        other.append(act)
    other.close()
    assert checked(file.with_name("other"))[1] == [5, 9]


def test_an_anchor_that_was_overtaken_still_tells_of_what_it_saw(tmp_path):
    fold = Fold(SITE)
    fold.add(note(0))
    (late,) = due({SITE: fold}, {}, 5)
    fold.add(note(1))
    assert fold.add(late).reason == "another action came first"
    journal = SqliteJournal(tmp_path / "j")
    for act in (note(0), note(1), late):
        journal.append(act)
    (found,) = verify(journal)
    journal.close()
    assert (found.broken, found.anchored) == ((), 2)


def test_the_command_says_where_it_does_not_fit(file, tmp_path, monkeypatch):
    (tmp_path / "correlator.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    log = str(tmp_path / "log.sqlite3")
    good = CliRunner().invoke(command, ["verify", "--embedded", log], standalone_mode=False)
    assert (good.return_value, "8 actions" in good.output or "9 actions" in good.output) == (0, True)
    with sqlite3.connect(file) as db:
        body = to_bytes(note(77))
        db.execute("UPDATE actions SET body = ? WHERE position = 1", (body,))
    db.close()
    bad = CliRunner().invoke(command, ["verify", "--embedded", log], standalone_mode=False)
    assert bad.return_value == 1
    assert "does not fit" in bad.output
