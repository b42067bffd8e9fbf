"""Envelopes of shippers: the line inside gives what it gives on its own, and nothing of the envelope gets out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from correlator.errors import FaultyFile
from correlator.events import Event, Reject
from correlator.ingest.settings import SourceSettings
from correlator.ingest.sources import SourceTable, source_rows
from correlator.sources import DIALECTS, Message
from correlator.sources.envelopes import WRITERS, opener
from tests.sources.test_contract import (
    WRONG,
    Sample,
    changed,
    check,
    context_of,
    json_values,
    kinds,
    paths,
    samples,
    without,
)

READ_AT = "2026-03-01T02:00:00.123Z"
READ_AT_MS = 1_772_330_400_123
LINE_DIALECTS = [name for name, dialect in DIALECTS.items() if dialect.transport == "lines"]


def filebeat(line: str, path: str) -> dict[str, Any]:
    return {
        "@timestamp": READ_AT,
        "@metadata": {"beat": "filebeat", "type": "_doc", "version": "8.17.0"},
        "message": line,
        "log": {"offset": 4711, "file": {"path": path}},
        "input": {"type": "filestream"},
        "agent": {"type": "filebeat", "name": "shipper-1"},
        "host": {"name": "shipper-1"},
        "ecs": {"version": "8.0.0"},
    }


def kept_by_a_processor(line: str, path: str) -> dict[str, Any]:
    return filebeat("a processor cut this short", path) | {"event": {"original": line, "dataset": "x"}}


def dotted(line: str, path: str) -> dict[str, Any]:
    return filebeat("a processor cut this short", path) | {"event.original": line}


def vector(line: str, path: str) -> dict[str, Any]:
    return {"file": path, "host": "shipper-1", "message": line, "offset": 4711, "source_type": "file",
            "timestamp": READ_AT}  # fmt: skip


def fluentbit(line: str, path: str) -> dict[str, Any]:
    return {"@timestamp": 1772330400.123, "log": f"{line}\n", "file": path, "offset": 4711}


def fluentbit_iso(line: str, path: str) -> dict[str, Any]:
    return {"@timestamp": READ_AT, "message": line, "filename": path, "offset": 4711, "hostname": "shipper-1"}


WRAPS: list[tuple[str, Callable[[str, str], dict[str, Any]]]] = [
    ("filebeat", filebeat), ("filebeat", kept_by_a_processor), ("filebeat", dotted), ("vector", vector),
    ("fluentbit", fluentbit), ("fluentbit", fluentbit_iso),
]  # fmt: skip
every_wrap = pytest.mark.parametrize(("writer", "wrap"), WRAPS, ids=[wrap.__name__ for _, wrap in WRAPS])


def wrapped(message: Message, wrap: Callable[[str, str], dict[str, Any]]) -> Message:
    payload = json.dumps(wrap(message.payload.decode(), message.channel)).encode()
    return msgspec.structs.replace(message, payload=payload, channel="raw.logs")


def decode(sample: Sample, message: Message, writer: str, time: str = "ignored") -> list[Event | Reject]:
    dialect = DIALECTS[sample.dialect]
    context = replace(context_of(dialect, sample.row), opener=opener(writer, time))
    made = dialect.decode(message, context)
    check(dialect, made)
    return made


def shippable(name: str) -> list[Sample]:
    """Samples that a shipper can carry: texts in UTF-8 that end where the line ends and are not empty."""
    found = []
    for sample in samples(name):
        try:
            text = sample.message.payload.decode()
        except UnicodeDecodeError:
            continue
        if text and text == text.rstrip("\r\n"):
            found.append(sample)
    return found


@every_wrap
@pytest.mark.parametrize("name", LINE_DIALECTS)
def test_a_line_in_an_envelope_gives_what_it_gives_on_its_own(name: str, writer: str, wrap: Any) -> None:
    compared = 0
    for sample in shippable(name):
        alone = decode(sample, msgspec.structs.replace(sample.message, line=4712), "none")
        inside = decode(sample, wrapped(sample.message, wrap), writer)
        assert kinds(inside) == kinds(alone)
        if not any(isinstance(one, Reject) for one in alone):
            assert inside == alone, sample.line
            compared += len(alone)
    assert compared


@every_wrap
def test_a_reject_keeps_the_whole_envelope(writer: str, wrap: Any) -> None:
    sample = samples("suricata")[0]
    message = wrapped(msgspec.structs.replace(sample.message, payload=b'{"timestamp": 7}'), wrap)
    (made,) = decode(sample, message, writer)
    assert isinstance(made, Reject)
    assert (made.reason, made.payload, made.channel) == ("missing_field", message.payload, "raw.logs")


def test_an_object_that_filebeat_parsed_and_kept_no_line_of_is_read_as_that_object() -> None:
    for sample in shippable("suricata"):
        if isinstance(sample.body, dict) and "reject" not in str(sample.row["expect"]):
            envelope = {"@timestamp": READ_AT, "json": sample.body, "log": {"file": {"path": sample.message.channel}}}
            message = msgspec.structs.replace(sample.message, payload=json.dumps(envelope).encode(), channel="raw.logs")
            assert kinds(decode(sample, message, "filebeat")) == sample.row["expect"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"Mar  1 02:00:00 ws-lab-2 app[9]: bare", "not_json"),
        (b'{"message": "\xff"}', "not_utf8"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "too_deep"),
        (b"[]", "wrong_type"),
        (b'"line"', "wrong_type"),
        (b"{}", "missing_field"),
        (b'{"message": ""}', "missing_field"),
        (b'{"message": null, "log": null}', "missing_field"),
        (b'{"message": 7, "log": 7}', "wrong_type"),
    ],
)
@pytest.mark.parametrize("writer", [one for one in WRITERS if one != "none"])
def test_what_is_no_envelope_or_holds_no_line_has_its_reason(writer: str, payload: bytes, reason: str) -> None:
    sample = samples("syslog")[0]
    message = msgspec.structs.replace(sample.message, payload=payload)
    assert kinds(decode(sample, message, writer)) == [f"reject:{reason}"]


def test_a_lone_surrogate_in_an_envelope_becomes_another_character_and_does_not_hide_the_line() -> None:
    sample = samples("syslog")[0]
    payload = rb'{"message": "Mar  1 02:00:00 ws-lab-2 app[9]: x\ud83d y"}'
    (made,) = decode(sample, msgspec.structs.replace(sample.message, payload=payload), "filebeat")
    assert isinstance(made, Event)
    assert made.text.startswith("x") and made.text.endswith(" y")


@every_wrap
def test_any_field_of_an_envelope_may_be_absent_null_or_of_the_wrong_type(writer: str, wrap: Any) -> None:
    sample = samples("syslog")[0]
    body = wrap(sample.message.payload.decode(), sample.message.channel)
    for path in paths(body):
        made = [decode(sample, sample.with_body(without(body, path)), writer)]
        for value in WRONG:
            made.append(decode(sample, sample.with_body(changed(body, path, value)), writer))
        assert all(made), "a line is taken or rejected"


@every_wrap
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_envelopes_give_events_or_rejects(writer: str, wrap: Any, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(shippable(data.draw(st.sampled_from(LINE_DIALECTS)))))
    message = wrapped(sample.message, wrap)
    if data.draw(st.booleans()):
        body = json.loads(message.payload)
        body = changed(body, data.draw(st.sampled_from(list(paths(body)))), data.draw(json_values))
        made = decode(sample, sample.with_body(body), writer, "queued")
    else:
        at = data.draw(st.integers(0, len(message.payload)))
        payload = message.payload[:at] + data.draw(st.binary(max_size=8)) + message.payload[at + 3 :]
        made = decode(sample, msgspec.structs.replace(message, payload=payload), writer)
    check(DIALECTS[sample.dialect], made)


# ---- times -------------------------------------------------------------------------------------------

LINE = "<38>1 2026-03-01T02:00:00.100Z ws-lab-2 app 9 - - hi"
HOUR_MS = 3_600_000


def event(time: str, received_ms: int, writer: str = "filebeat", line: str = LINE) -> Event:
    wrap = dict(WRAPS)[writer]
    message = Message("raw.logs", json.dumps(wrap(line, "/var/log/syslog")).encode(), received_ms)
    (made,) = decode(samples("syslog")[0], message, writer, time)
    assert isinstance(made, Event)
    return made


@pytest.mark.parametrize("writer", ["filebeat", "vector", "fluentbit"])
@pytest.mark.parametrize("time", ["ignored", "queued", "received"])
def test_the_envelopes_time_never_replaces_a_receive_time(time: str, writer: str) -> None:
    received_ms = READ_AT_MS + HOUR_MS
    assert event(time, received_ms, writer).received_ms == received_ms


def test_a_line_that_waited_in_the_shipper_keeps_its_device_time_only_if_the_source_says_so() -> None:
    received_ms = READ_AT_MS + HOUR_MS
    ignored, queued = event("ignored", received_ms), event("queued", received_ms)
    assert (ignored.time_ms, ignored.time_quality) == (received_ms, "skewed")
    assert (queued.time_ms, queued.time_quality) == (READ_AT_MS - 23, "device")


def test_a_line_without_time_that_waited_says_that_it_was_queued() -> None:
    made = event("queued", READ_AT_MS + HOUR_MS, line="<38>ws-lab-2 app[9]: hi")
    assert (made.time_ms, made.time_quality) == (READ_AT_MS + HOUR_MS, "queued")


@pytest.mark.parametrize("writer", ["filebeat", "vector", "fluentbit"])
def test_a_replayed_envelope_without_receive_time_has_its_own_where_the_source_says_so(writer: str) -> None:
    line = "<38>ws-lab-2 app[9]: hi"
    assert event("received", -1, writer, line).received_ms == READ_AT_MS
    assert event("ignored", -1, writer, line).received_ms == -1


@pytest.mark.parametrize(("stamp", "reason"), [(None, "missing_field"), ("noon", "wrong_type"), ("1970-01-01T00:00:01Z", "impossible_time")])  # fmt: skip
def test_a_time_that_is_asked_for_must_be_there(stamp: Any, reason: str) -> None:
    body = filebeat(LINE, "/var/log/syslog") | {"@timestamp": stamp}
    message = Message("raw.logs", json.dumps(body).encode(), READ_AT_MS)
    assert kinds(decode(samples("syslog")[0], message, "filebeat", "queued")) == [f"reject:{reason}"]
    assert kinds(decode(samples("syslog")[0], message, "filebeat")) == ["host.note"]


def test_the_place_in_the_file_orders_lines_of_one_millisecond() -> None:
    assert event("ignored", READ_AT_MS).seq == 4_712


def test_a_log_is_named_by_the_file_that_the_envelope_names() -> None:
    conn = samples("zeek")[0]
    line = '{"ts": 1772330400.5, "uid": "C1", "id.orig_h": "192.0.2.1", "id.resp_h": "192.0.2.2"}'
    message = Message("raw.zeek", json.dumps(filebeat(line, "/opt/zeek/logs/current/conn.log")).encode(), READ_AT_MS)
    assert kinds(decode(conn, message, "filebeat")) == ["network.flow"]


def test_ingest_opens_the_envelopes_of_a_source_that_declares_them() -> None:
    rows = source_rows(
        [SourceSettings(input="raw.wazuh", dialect="wazuh", envelope="filebeat", site="h1")], "correlator.yaml"
    )
    reader = SourceTable(rows).reader("raw.wazuh", "h1", "raw.wazuh")
    assert reader is not None
    for sample in shippable("wazuh"):
        made = reader.dialect.decode(wrapped(sample.message, filebeat), reader.context)
        assert kinds(made) == sample.row["expect"]


def test_ingest_refuses_an_envelope_around_a_csv_file_whose_columns_stand_in_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "records.yaml").write_text("map: mapped\nformat: csv\nkind: log.entry\n")
    source = SourceSettings(input="raw.csv", dialect="mapped", map="records.yaml", envelope="vector")
    with pytest.raises(FaultyFile, match="must name its columns"):
        source_rows([source], str(tmp_path / "correlator.yaml"))


@pytest.mark.parametrize(("writer", "time"), [("beats", "ignored"), ("vector", "now")])
def test_unknown_words_are_no_envelope(writer: str, time: str) -> None:
    with pytest.raises(ValueError, match="no envelope"):
        opener(writer, time)
