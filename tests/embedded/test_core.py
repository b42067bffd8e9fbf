"""The embedded carrier tells what a replay tells, whatever interrupts it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from correlator.clock import MINUTE_MS
from correlator.embedded import EmbeddedLog
from correlator.embedded.log import numbered
from correlator.errors import StateRefused, UsageError
from correlator.events.event import Reject
from correlator.events.threat import Threat
from correlator.ingest.raw import RawMessage
from correlator.sources.dialect import Message
from tests.ingest.carried import replayed, scenario

from .feeding import Running, in_pieces, messages_of, threats_of


@pytest.mark.parametrize("name", ["vaccine-theft", "patient-data-theft", "fire-drill", "contractor-window"])
def test_a_scenario_tells_the_replays_threats_byte_for_byte(tmp_path: Path, name: str) -> None:
    one = scenario(name)
    running = Running(one, tmp_path / "log.sqlite3")
    in_pieces(messages_of(one), 97, running.feed)
    running.close()
    log = EmbeddedLog(tmp_path / "log.sqlite3", write=False)
    assert threats_of(log) == replayed(one)
    log.close()


@pytest.mark.parametrize("checkpoint_ms", [0, 3_600_000])
def test_restarts_at_any_place_change_nothing(tmp_path: Path, checkpoint_ms: int) -> None:
    one = scenario("vaccine-theft")
    messages = messages_of(one)
    for start in range(0, len(messages), 500):
        running = Running(one, tmp_path / "log.sqlite3", checkpoint_ms=checkpoint_ms)
        running.feed(messages[start : start + 500])
        running.close()
    log = EmbeddedLog(tmp_path / "log.sqlite3", write=False)
    assert threats_of(log) == replayed(one)
    log.close()


def test_every_message_is_kept_as_received_and_evidence_of_threats_outlives_it(tmp_path: Path) -> None:
    one = scenario("vaccine-theft")
    messages = messages_of(one)
    running = Running(one, tmp_path / "log.sqlite3", keep_raw_days=0.001, retention_s=0.01)
    running.feed(messages)
    running.feed([])
    for _ in range(10):
        running.feed([])
    running.close()
    log = EmbeddedLog(tmp_path / "log.sqlite3", write=False)
    assert log.counts()["raw"] == 0, "the scenario is years old"
    threats = [msgspec.json.decode(value, type=Threat) for _, value in log.outputs("threats")]
    members = {member.id: member for threat in threats for member in threat.members}
    kept = {one.event: one for one in log.raw_of(sorted(members))}
    assert set(kept) == set(members)
    sent = {message.message.payload for message in messages}
    assert all(one.payload in sent for one in kept.values())
    log.close()


def test_a_broken_message_is_a_reject_found_by_its_reason_and_can_be_taken_again(tmp_path: Path) -> None:
    one = scenario("vaccine-theft")
    site = one.site_id
    running = Running(one, tmp_path / "log.sqlite3")
    broken = Message("inputs/eve.json", b'{"event_type": "alert"', 1_616_046_000_000, origin="inputs/eve.json:9")
    unmapped = Message("attic/window", b"{}", 1_616_046_000_000)
    running.feed([RawMessage("raw.suricata/0", 0, site, broken), RawMessage("raw.mqtt/0", 0, site, unmapped)])
    beside = EmbeddedLog(tmp_path / "log.sqlite3", write=False)
    assert len(beside.rejects()) == 2
    ((number, text),) = beside.rejects("not_json")
    found = msgspec.json.decode(text, type=Reject)
    assert (found.payload, found.origin, found.site) == (broken.payload, broken.origin, site)
    assert beside.reject(number) == text
    assert beside.reject(number + 99) is None
    beside.retry([number])
    for _ in range(300):
        running.feed([])
        if len(beside.rejects("not_json")) == 2:
            break
        running.core._looked_at = 0.0
    assert len(beside.rejects("not_json")) == 2, "taken again, and as broken as before"
    assert beside.retries() == []
    running.close()
    beside.close()


def test_only_one_process_writes_a_log(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.sqlite3", write=True)
    with pytest.raises(UsageError, match="another process is writing"):
        EmbeddedLog(tmp_path / "log.sqlite3", write=True)
    log.close()
    EmbeddedLog(tmp_path / "log.sqlite3", write=True).close()


def test_a_message_numbered_by_the_log_keeps_all_that_it_said() -> None:
    message = Message(
        "ward 3/door", b"{}", 7, retained=True, dup=True, queued_since_ms=3, line=5, origin="x:5", qos=1, packet_id=9
    )
    made = numbered(RawMessage("raw.x/0", 0, "h1", message), 12)
    assert (made.offset, made.message) == (12, msgspec.structs.replace(message, raw=made.message.raw))
    assert made.message.raw.endswith("12")


def test_a_file_that_is_no_log_of_this_release_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no embedded log"):
        EmbeddedLog(tmp_path / "none.sqlite3", write=False)
    (tmp_path / "text.sqlite3").write_text("this is a text and no database, whatever its name says " * 20)
    with pytest.raises(UsageError, match="no usable embedded log"):
        EmbeddedLog(tmp_path / "text.sqlite3", write=True)
    other = sqlite3.connect(tmp_path / "other.sqlite3")
    other.execute("CREATE TABLE t (a)")
    other.close()
    with pytest.raises(UsageError, match="another program"):
        EmbeddedLog(tmp_path / "other.sqlite3", write=True)
    EmbeddedLog(tmp_path / "newer.sqlite3", write=True).close()
    newer = sqlite3.connect(tmp_path / "newer.sqlite3")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(StateRefused, match="newer release"):
        EmbeddedLog(tmp_path / "newer.sqlite3", write=True)


@pytest.mark.parametrize("restarts", [False, True])
def test_what_the_mqtt_broker_gives_again_long_after_is_told_once(tmp_path: Path, restarts: bool) -> None:
    one, file = scenario("vaccine-theft"), tmp_path / "log.sqlite3"
    # As a bridge gives them: on their way at quality of service 1, each with a packet identifier.
    messages = [
        msgspec.structs.replace(
            each, message=msgspec.structs.replace(each.message, qos=1, packet_id=number % 65_535 + 1)
        )
        for number, each in enumerate(messages_of(one))
    ]
    half = len(messages) // 2
    at_ms = messages[half].message.received_ms
    inputs = sorted({message.input for message in messages})
    promised = [RawMessage(name, 0, one.site_id, messages[0].message, at_ms) for name in inputs]
    again = [
        msgspec.structs.replace(each, message=msgspec.structs.replace(each.message, dup=True))
        for each in messages[:half] if each.input == "raw.mqtt/0" and each.tick_ms < 0
    ]  # fmt: skip
    assert at_ms - again[0].message.received_ms > 10 * MINUTE_MS
    running = Running(one, file)
    running.feed([*messages[:half], *promised])
    if restarts:
        running.close()
        running = Running(one, file)
    running.feed(again)
    running.feed(messages[half:])
    counters = running.core._engine.sites[one.site_id].counters()
    running.close()
    log = EmbeddedLog(file, write=False)
    assert threats_of(log) == replayed(one)
    log.close()
    assert counters["duplicates"] >= len(again) // 2
