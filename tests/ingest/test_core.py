"""Raw messages through intake and the site's engine tell what a replay tells."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import msgspec
import pytest

from correlator.errors import RecordRefused
from correlator.events.event import Event
from correlator.events.threat import Threat
from correlator.ingest.intake import Intake
from correlator.ingest.raw import CHANNEL, LINE, RECEIVED_MS, TICK_MS, RawMessage, from_headers, to_headers
from correlator.ingest.settings import IngestSettings
from correlator.ingest.sources import SourceRow, SourceTable
from correlator.run.log import Configuration, LogRecord, decode, encode
from correlator.sources import DIALECTS, Context, Message
from tests.ingest.carried import engine_for, log_of, replayed, scenario, told


@pytest.mark.parametrize("name", ["vaccine-theft", "patient-data-theft", "fire-drill", "contractor-window"])
@pytest.mark.parametrize("pack", [1, 500])
def test_a_scenario_through_intake_and_log_tells_the_replays_threats_byte_for_byte(name: str, pack: int) -> None:
    one = scenario(name)
    records, made, intake = log_of(one, pack_events=pack)
    engine = engine_for(one, made)
    threats: list[Threat] = []
    for record in records:
        threats += engine.receive(record).threats
    assert [told(threat) for threat in threats] == replayed(one)
    if "theft" in name:
        linked = [step.joined for threat in threats for step in threat.steps if step.gain]
        assert any(why.startswith("follows") for why in linked), "linking over the graph is on"
    counts = intake.counts
    seen = counts.silent + sum(counts.rejected.values()) + counts.ticks_taken
    assert counts.received - seen <= counts.events, "every message is event, silence, reject or promise"


def test_records_read_again_from_any_offset_in_other_packs_change_nothing() -> None:
    one = scenario("vaccine-theft")
    once, made, _ = log_of(one, pack_events=500)
    again, _, _ = log_of(one, pack_events=7)
    dice = random.Random(7)
    engine = engine_for(one, made)
    threats: list[Threat] = []
    behind = 0
    for record in once:
        threats += engine.receive(record).threats
        if record.input and dice.random() < 0.3:  # a process that took over reads on from an earlier offset
            for other in again:
                if other.input == record.input and other.first <= record.last < other.last + 40:
                    engine_before = engine.counters()["folded"]
                    if other.last <= record.last:
                        assert not engine.receive(other).threats
                        behind += 1
                        assert engine.counters()["folded"] == engine_before
    assert behind > 20
    assert [told(threat) for threat in threats] == replayed(one)


def test_an_engine_restored_from_its_changes_at_any_record_goes_on_the_same() -> None:
    one = scenario("vaccine-theft")
    records, made, _ = log_of(one, pack_events=20)
    engine = engine_for(one, made)
    entries: dict[str, bytes] = {}
    threats: list[Threat] = []
    dice = random.Random(11)
    for record in records:
        threats += engine.receive(record).threats
        if dice.random() < 0.05:
            for key, value in engine.changes():
                if value is None:
                    entries.pop(key, None)
                else:
                    entries[key] = value
            assert entries == dict(engine.snapshot())
            engine = engine_for(one, made)
            engine.restore(sorted(entries.items()))
    assert [told(threat) for threat in threats] == replayed(one)


def test_what_a_message_says_beside_its_payload_travels_in_headers() -> None:
    message = Message(
        "ward 3/door", b"{}", 7, retained=True, dup=True, queued_since_ms=3, line=5, origin="x:5", qos=1, packet_id=9
    )
    for sent in (message, Message("ward 3/door", b"{}", 7)):
        headers = to_headers(sent, site="h1", receiver="bridge-1")
        raw = from_headers(headers, b"{}", input="raw.x/0", offset=3, channel="raw.x", received_ms=-1, raw="")
        assert (raw.message, raw.site) == (sent, "h1")


def test_headers_of_another_writer_that_say_nothing_are_as_if_they_were_not_there() -> None:
    headers: list[tuple[str, bytes]] = [(RECEIVED_MS, None), (TICK_MS, None), (CHANNEL, None), (LINE, b"x")]  # type: ignore[list-item]
    raw = from_headers(headers, b"{}", input="raw.x/0", offset=3, channel="raw.x", received_ms=7, raw="raw.x/0:3")
    assert (raw.message.received_ms, raw.message.channel, raw.message.line, raw.tick_ms) == (7, "raw.x", 0, -1)


def test_a_message_that_trips_over_a_bug_of_a_dialect_is_a_reject_and_the_next_one_is_taken() -> None:
    def broken(message: Message, context: Context) -> list[Event]:
        raise IndexError("a bug, put here by a test")

    good = DIALECTS["suricata"]
    rows = [
        SourceRow("raw.bad", replace(good, decode_message=broken), Context("", "bad", good.clock, dialect="suricata")),
        SourceRow("raw.good", good, Context("", "good", good.clock, dialect="suricata")),
    ]
    intake = Intake(SourceTable(rows), IngestSettings())
    alert = b'{"timestamp": "2026-03-01T00:00:00Z", "event_type": "alert", "src_ip": "192.0.2.1", "alert": {"signature": "x", "severity": 1}}'
    for name in ("raw.bad", "raw.good"):
        intake.take(RawMessage(f"{name}/0", 0, "h1", Message(name, alert, 1_772_323_200_000)), 0)
    intake.flush(0)
    assert [reject.reason for reject in intake.drain_rejects()] == ["engine_error"]
    assert [record.input for _, record in intake.drain()] == ["raw.good/0"]
    assert intake.done() == {"raw.bad/0": 1, "raw.good/0": 1}


def taking(**settings: int | bool) -> Intake:
    dialect = DIALECTS["suricata"]
    rows = [SourceRow("raw.a", dialect, Context("", "a", dialect.clock, dialect="suricata"))]
    return Intake(SourceTable(rows), IngestSettings(**settings))


def line(offset: int, site: str = "h1") -> RawMessage:
    said = {"timestamp": "2026-03-01T00:00:00Z", "event_type": "alert", "flow_id": offset, "src_ip": "192.0.2.1",
            "alert": {"signature": "x", "severity": 1}}  # fmt: skip
    return RawMessage("raw.a/0", offset, site, Message("eve", json.dumps(said).encode(), 1_772_323_200_000 + offset))


def test_a_record_closes_when_it_is_full_or_has_waited() -> None:
    intake = taking(pack_events=3, pack_ms=5)
    for offset in range(4):
        intake.take(line(offset), now_ms=100)
    assert [(record.first, record.last) for _, record in intake.drain()] == [(0, 2)]
    intake.poll(now_ms=104)
    assert intake.drain() == []
    assert intake.done() == {"raw.a/0": 3}, "what waits is read again after a crash"
    intake.poll(now_ms=105)
    assert [(record.first, record.last) for _, record in intake.drain()] == [(3, 3)]
    assert intake.done() == {"raw.a/0": 4}


def test_an_input_promises_only_what_it_has_been_read_up_to_and_only_when_a_site_was_silent() -> None:
    intake = taking(tick_ms=100)
    intake.declare("h1", ["raw.a/0"], now_ms=0)
    intake.declare("h2", ["raw.a/0"], now_ms=0)
    intake.drain()
    intake.take(line(0), now_ms=50)
    intake.flush(60)
    intake.drain()
    intake.caught_up("raw.a/0", as_of_ms=110, now_ms=111)
    assert [record.ticks for _, record in intake.drain()] == [{"h2": {"raw.a/0": 110}}], "h1 spoke 50 ms ago"
    intake.take(line(1), now_ms=200)
    intake.caught_up("raw.a/0", as_of_ms=205, now_ms=206)
    out = [record for _, record in intake.drain()]
    assert [len(record.events) for record in out] == [1, 0], "what was taken stands before the promise"
    assert out[1].ticks == {"h1": {"raw.a/0": 205}}


def test_silent_sites_of_a_partition_share_a_record_and_others_do_not() -> None:
    intake = taking()
    intake._partition_of = {"h1": 0, "h2": 0, "h3": 1}.__getitem__
    for site in ("h1", "h2", "h3"):
        intake.declare(site, ["raw.a/0"], now_ms=0)
    intake.drain()
    intake.caught_up("raw.a/0", as_of_ms=500, now_ms=500)
    assert [(site, sorted(record.ticks)) for site, record in intake.drain()] == [("h1", ["h1", "h2"]), ("h3", ["h3"])]


def test_an_input_that_nobody_reads_is_taken_out_once_after_a_while_and_only_then() -> None:
    intake = taking(input_idle_ms=1_000)
    intake.declare("h1", ["raw.a/0", "raw.b/0"], now_ms=0)
    intake.drain()
    for now_ms in (10, 900, 1_010, 2_000):
        intake.unread(["raw.b/0"], now_ms)
    assert [record.inputs_out for _, record in intake.drain()] == [("raw.b/0",)]
    intake.read_again(["raw.b/0"])
    intake.unread(["raw.b/0"], 3_000)
    assert intake.drain() == []


def test_the_configuration_stands_first_and_is_repeated_once_a_day_with_the_inputs() -> None:
    intake = taking()
    intake.configure("h1", Configuration(1, "r", "s", "e"), now_ms=0)
    intake.declare("h1", ["raw.a/0"], now_ms=0)
    intake.take(line(0), now_ms=1)
    intake.poll(86_400_000)
    out = [record for _, record in intake.drain()]
    assert [record.configuration is not None for record in out] == [True, False, False, True]
    assert out[3].ticks == {"h1": {"raw.a/0": 0}}
    assert len(out[2].events) == 1


def test_a_message_of_no_site_and_one_of_no_source_are_rejects_with_their_bytes() -> None:
    intake = taking()
    intake.take(line(0, site=""), now_ms=0)
    intake.take(RawMessage("raw.z/0", 0, "h1", Message("q", b"bytes", 5)), now_ms=0)
    found = intake.drain_rejects()
    assert [(reject.site, reject.reason) for reject in found] == [("_unknown", "unmapped"), ("h1", "unmapped")]
    assert found[1].payload == b"bytes"


def test_a_record_of_another_version_or_of_broken_bytes_is_refused_with_a_type() -> None:
    good = encode(LogRecord("h1", configuration=Configuration(1, "r", "s", "e")))
    assert decode(good).configuration == Configuration(1, "r", "s", "e")
    for bad in (b"", b"\x03" + good[1:], good[:-3], good[:1] + b"\xc1"):
        with pytest.raises(RecordRefused):
            decode(bad)


def test_a_record_of_version_1_holds_attributes_as_a_map_and_is_read_too() -> None:
    event = Event("0" * 32, "h1", "doors", "access", "door.opened", 1, 2, carried={"kind": "x", "n": [1, {"a": None}]})
    before = msgspec.structs.replace(event)
    of_version_1 = b"\x01" + msgspec.msgpack.encode(LogRecord("h1", "raw.a/0", 0, 0, (before,), (0,)))
    written = encode(LogRecord("h1", "raw.a/0", 0, 0, (event,), (0,)))
    assert len(written) != len(of_version_1)
    for data in (of_version_1, written):
        (found,) = decode(data).events
        assert found.names_kind()
        assert found.attributes == {"kind": "x", "n": [1, {"a": None}]}
        assert msgspec.json.encode(found) == msgspec.json.encode(before)
