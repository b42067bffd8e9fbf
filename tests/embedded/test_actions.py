"""What people decide in the console's journal reaches the embedded log, each decision once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from correlator.embedded import EmbeddedLog
from correlator.embedded.reading import LogOfFile
from correlator.journal.action import Act
from correlator.journal.store import SqliteJournal, beside
from correlator.run.relog import read_back
from tests.ingest.carried import acts_on, replayed, scenario

from .feeding import Running, in_pieces, messages_of, threats_of

NAME = "vaccine-theft"


def people_write(file: Path, acts: list[Act]) -> None:
    journal = SqliteJournal(beside(file))
    for act in acts:
        journal.append(act)
    journal.close()


def copied(file: Path) -> list[str]:
    reader = LogOfFile(file)
    found = [action.id for _, record in reader.read() for action in record.actions]
    reader.close()
    return found


@pytest.mark.parametrize("restarts", [0, 4])
def test_decisions_give_the_same_threats_as_in_a_replay_whatever_is_restarted(tmp_path, restarts):
    one, file = scenario(NAME), tmp_path / "log.sqlite3"
    acts = acts_on(one)
    people_write(file, acts[:4])
    messages = messages_of(one)
    running = Running(one, file)
    running.feed([])
    running.close()
    people_write(file, acts[4:])
    size = len(messages) // (restarts + 1) + 1
    for at in range(0, len(messages), size):
        running = Running(one, file)
        in_pieces(messages[at : at + size], 100, running.feed)
        running.close()
    log = EmbeddedLog(file, write=False)
    found = threats_of(log)
    log.close()
    assert found == replayed(one, acts=acts)
    assert found != replayed(one), "they change what is told"
    assert copied(file) == ["a0", "a1", "a2", "a5", "a6", "a7"], "no refused, denied or other one"
    phases = [msgspec.json.decode(threat)["phase"] for threat in found]
    assert phases.count("quiet") >= 1
    reader = LogOfFile(file)
    again = read_back(reader)
    reader.close()
    last = {threat["id"]: threat for threat in map(msgspec.json.decode, found)}
    assert {one.id for one in again.in_force.told()} == {name for name, it in last.items() if it["phase"] != "merged"}


def test_a_journal_that_cannot_be_read_stops_nothing(tmp_path):
    one, file = scenario(NAME), tmp_path / "log.sqlite3"
    beside(file).write_bytes(b"this is no database" * 100)
    running = Running(one, file)
    in_pieces(messages_of(one), 400, running.feed)
    running.close()
    log = EmbeddedLog(file, write=False)
    assert threats_of(log) == replayed(one)
    log.close()
