"""No crash loop: what cannot be folded, what is gone, what is older than it should be ends in a working system."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from correlator.cli.main import main
from correlator.embedded import Core, EmbeddedLog
from correlator.events.event import Event, Reject
from correlator.events.threat import Threat
from correlator.matching.matcher import Matcher
from tests.ingest.carried import replayed, scenario, scenario_bundle

from .feeding import Running, in_pieces, messages_of, threats_of

NAME = "contractor-window"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with a scenario in it."""
    file = tmp_path_factory.mktemp("log") / "log.sqlite3"
    running = Running(scenario(NAME), file)
    in_pieces(messages_of(scenario(NAME)), 100, running.feed)
    running.close()
    return file


def told_threats(file: Path) -> list[Threat]:
    log = EmbeddedLog(file, write=False)
    found = [msgspec.json.decode(value, type=Threat) for _, value in log.outputs("threats")]
    log.close()
    return found


def rejects_of(file: Path) -> list[Reject]:
    log = EmbeddedLog(file, write=False)
    found = [msgspec.json.decode(value, type=Reject) for _, value in log.rejects()]
    log.close()
    return found


def test_an_event_that_folding_fails_at_is_left_out_at_the_third_try_and_everything_else_is_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = scenario(NAME)
    fold, met = Matcher.fold, []

    def failing(self: Matcher, event: Event, order_ms: int) -> object:
        if len(met) == 0 and event.kind == "door.opened":
            met.append(event.id)
        if met and event.id == met[0]:
            met.append(event.id)
            raise ZeroDivisionError("a bug of ours")
        return fold(self, event, order_ms)

    scenario_bundle(one)  # what is usual is learned before
    monkeypatch.setattr(Matcher, "fold", failing)
    running = Running(one, tmp_path / "log.sqlite3")
    messages = messages_of(one)
    in_pieces(messages, 50, running.feed)
    running.close()
    assert len(met) == 4, "three tries, and never again"
    left_out = [reject for reject in rejects_of(tmp_path / "log.sqlite3") if reject.reason == "engine_error"]
    assert [met[0] in reject.detail for reject in left_out] == [True]
    health = [one for one in told_threats(tmp_path / "log.sqlite3") if "could not be correlated" in one.title]
    assert [one.severity for one in health][:1] == ["critical"]
    log = EmbeddedLog(tmp_path / "log.sqlite3", write=False)
    assert log.counts()["events"] == log.next_offset
    log.close()


def test_a_log_whose_beginning_is_trimmed_is_folded_from_where_it_begins(tmp_path: Path, whole: Path) -> None:
    file = tmp_path / "log.sqlite3"
    shutil.copy(whole, file)
    with sqlite3.connect(file) as db:
        db.execute("DELETE FROM state")
        db.execute("DELETE FROM output")
        db.execute("DELETE FROM events WHERE offset BETWEEN 1 AND 3")
        db.execute("DELETE FROM events WHERE offset = 0")
    db.close()
    running = Running(scenario(NAME), file)
    running.close()
    assert not [one for one in told_threats(file) if "missing" in one.title], "nothing was promised about the rest"
    assert {reject.reason for reject in rejects_of(file)} <= {"no_configuration"}


def test_records_that_are_gone_before_they_were_folded_are_told_and_the_rest_is_folded(
    tmp_path: Path, whole: Path
) -> None:
    one = scenario(NAME)
    file = tmp_path / "log.sqlite3"
    messages = messages_of(one)
    running = Running(one, file)
    running.feed(messages[:100])
    running.close()
    older = tmp_path / "older.gz"
    assert main(["state", "export", str(older), "--log", str(file)]) == 0
    running = Running(one, file)
    in_pieces(messages[100:], 50, running.feed)
    running.close()
    assert main(["state", "import", str(older), "--log", str(file)]) == 0
    with sqlite3.connect(file) as db:  # and retention has removed what follows the older state
        at = msgspec.msgpack.decode(db.execute("SELECT value FROM state WHERE key = '_checkpoint'").fetchone()[0])
        db.execute("DELETE FROM events WHERE offset <= ?", (at + 2,))
        db.commit()
    db.close()
    running = Running(one, file)
    running.close()
    gaps = [threat for threat in told_threats(file) if "part of the log is missing" in threat.title]
    assert [gap.severity for gap in gaps] == ["critical"]
    assert f"offsets {at + 1} to {at + 2}" in gaps[0].steps[0].says
    assert "log_gap" in {reject.reason for reject in rejects_of(file)}


def test_a_restored_backup_of_the_whole_file_goes_on_from_what_it_holds(tmp_path: Path) -> None:
    one = scenario(NAME)
    file = tmp_path / "log.sqlite3"
    messages = messages_of(one)
    running = Running(one, file)
    in_pieces(messages[:150], 50, running.feed)
    running.close()
    shutil.copy(file, tmp_path / "backup.sqlite3")
    running = Running(one, file)
    running.feed(messages[150:200])
    running.close()
    shutil.copy(tmp_path / "backup.sqlite3", file)
    for left in tmp_path.glob("log.sqlite3-*"):
        left.unlink()
    running = Running(one, file)
    in_pieces(messages[150:], 50, running.feed)
    running.close()
    log = EmbeddedLog(file, write=False)
    assert threats_of(log) == replayed(one)
    log.close()


def test_a_configuration_that_changes_is_in_force_from_the_next_start_on(tmp_path: Path) -> None:
    one = scenario(NAME)
    file = tmp_path / "log.sqlite3"
    running = Running(one, file)
    running.feed(messages_of(one)[:50])
    running.close()
    running = Running(one, file)
    engine = running.core._engine.sites[one.site_id]
    assert engine.configuration is not None
    assert engine.configuration.serial == 1, "the same files are the same configuration"
    running.close()
    changed = scenario("fire-drill")
    running = Running(changed, file)
    running.close()
    assert isinstance(running.core, Core)
    engine = running.core._engine.sites[changed.site_id]
    assert engine.configuration is not None
    assert engine.configuration.serial == 2


def test_the_file_levels_off_while_messages_go_on_and_on(tmp_path: Path) -> None:
    one = scenario(NAME)
    limit = 1_200_000
    # Size alone decides: nothing is too old, and what a checkpoint holds back does not depend on the machine's speed.
    running = Running(
        one,
        tmp_path / "log.sqlite3",
        max_bytes=limit,
        retention_s=0.000_001,
        checkpoint_ms=0,
        keep_raw_days=36_500,
        keep_events_days=36_500,
        keep_movement_days=36_500,
        keep_rejects_days=36_500,
        keep_told_days=36_500,
        keep_evidence_days=36_500,
    )
    # Days between the rounds: a threat that goes on for ever is state, which no retention takes away.
    messages, apart_ms = messages_of(one), 10 * 86_400_000
    sizes = []
    for round_ in range(60):
        shifted = [
            msgspec.structs.replace(
                raw,
                tick_ms=raw.tick_ms + round_ * apart_ms if raw.tick_ms >= 0 else -1,
                message=msgspec.structs.replace(
                    raw.message,
                    received_ms=raw.message.received_ms + round_ * apart_ms,
                    payload=raw.message.payload + b" " * 500,
                ),
            )
            for raw in messages
        ]
        in_pieces(shifted, 400, running.feed)
        for _ in range(6):
            running.feed([])
        sizes.append(running.log.bytes_used())
    running.close()
    # Rows go in portions, so the size is a saw under the limit.
    assert max(sizes) <= limit
    assert max(sizes) > limit / 2, "the limit was met"
    log = EmbeddedLog(tmp_path / "log.sqlite3", write=False)
    assert log.counts()["raw"] < 60 * len(messages) / 2, "the oldest went"
    log.close()
