"""Patients and faces in what cannot be read: audit records, HL7, DICOM, FHIR, face recognition.

Of a message of a sensitive source that is not taken nothing is kept anywhere but where it was received.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from correlator.bridge.mapping import Mapping, MqttMessage
from correlator.config.load import load
from correlator.events.event import Reject
from correlator.ingest.intake import Intake
from correlator.ingest.raw import RawMessage
from correlator.ingest.settings import IngestSettings, SourceSettings
from correlator.ingest.sources import SourceTable, source_rows
from correlator.sources import Message

from .keeping import NOW_MS

ROOT = Path(__file__).parents[2]
NAMES = ("ROSSI", "Mario", "RSSMRA80A01")  # of a patient; 80A01 is the beginning of a tax number
WHO = "ROSSI^Mario^RSSMRA80A01"

MAPS = {
    "hl7": "map: mapped\nformat: csv\ndelimiter: '|'\ncolumns: [seg, sep, app, site, to, at, time, who, what]\n"
           "time: {field: time, format: '%Y%m%d%H%M%S', zone: UTC}\n"
           "kind: {field: what, table: {ADT^A01: log.entry}}\n",
    "dicom": "map: mapped\nformat: json\nkind: {field: PatientName, table: {anonymous: log.entry}}\n"
             "time: {field: StudyDate, format: iso}\n",
    "fhir": "map: mapped\nformat: json\nkind: {field: action, table: {R: log.entry}}\n"
            "time: {field: recorded, format: iso}\n",
    "faces": "map: mapped\nformat: json\nkind: {field: name, table: {stranger: log.entry}}\n"
             "time: {field: at, format: epoch}\n",
}  # fmt: skip
# What comes, each in a way that cannot be read.
SHAPES = {
    "atna": [
        f"<85>1 {WHO} host app - IHE+RFC-3881 - <AuditMessage/>",
        f"<85>1 2026-11-30T10:00:00Z host app - IHE+RFC-3881 [{WHO} <AuditMessage><Participant UserID='{WHO}'/>",
        f"<999>1 2026-11-30T10:00:00Z host app - - - {WHO}",
    ],
    "hl7": [
        f"MSH|^~\\&|ADT|H1|LAB|H1|20261130100000|{WHO}|{WHO}",
        f"MSH|^~\\&|ADT|H1|LAB|H1|{WHO}|-|ADT^A01",
        f"PID|1||{WHO}",
        f'MSH|^~\\&|ADT|H1|LAB|H1|20261130100000|"{WHO}|ADT^A01',
    ],
    "dicom": [
        json.dumps({"PatientName": WHO, "StudyDate": "2026-11-30T10:00:00Z"}),
        json.dumps({"PatientName": "anonymous", "StudyDate": WHO}),
        json.dumps({"PatientName": {"Alphabetic": WHO}}),
        '{"PatientName": "' + WHO,
    ],
    "fhir": [
        json.dumps({"resourceType": "AuditEvent", "action": WHO, "recorded": "2026-11-30T10:00:00Z"}),
        json.dumps({"resourceType": "AuditEvent", "action": "R", "recorded": f"2026-11-30 {WHO}"}),
        json.dumps([{"resourceType": "Patient", "name": WHO}]),
    ],
    "faces": [
        json.dumps({"name": WHO, "at": 1_796_000_000}),
        json.dumps({"name": "stranger", "at": WHO}),
        json.dumps({"name": ["stranger", WHO], "at": 1_796_000_000}),
        WHO,
    ],
    "frigate": [
        json.dumps({"type": WHO, "before": {}, "after": {"sub_label": WHO}}),
        json.dumps({"type": "new", "after": {"sub_label": {"name": WHO}, "camera": "c", "id": "1"}, "before": {}}),
        WHO,
    ],
}  # fmt: skip


def source(folder: Path, shape: str, *, sensitive: bool) -> SourceSettings:
    """A row of `ingest.sources` as an operator writes it. Frigate is sensitive by itself."""
    settings = {"input": f"raw.{shape}", "sensitive": sensitive}
    if shape == "atna":
        return SourceSettings(dialect="syslog", **settings)
    if shape == "frigate":
        return SourceSettings(dialect="frigate", input="raw.frigate")
    (folder / f"{shape}.yaml").write_text(MAPS[shape])
    return SourceSettings(dialect="mapped", map=str(folder / f"{shape}.yaml"), **settings)


def rejects(folder: Path, shape: str, *, sensitive: bool) -> list[Reject]:
    """What ingest makes of all messages of a shape."""
    settings = IngestSettings(sources=(source(folder, shape, sensitive=sensitive),))
    intake = Intake(SourceTable(source_rows(settings.sources, "correlator.yaml")), settings)
    channel = "frigate/events" if shape == "frigate" else f"raw.{shape}"
    for number, text in enumerate(SHAPES[shape]):
        message = Message(channel, text.encode(), NOW_MS, raw=f"raw.{shape}/0:{number}")
        intake.take(RawMessage(f"raw.{shape}/0", number, "h1", message), 0)
    return intake.drain_rejects()


def named(data: bytes) -> list[str]:
    """Which of the names stand in some bytes; a payload stands in JSON as base64."""
    text = data.decode("utf-8", "replace").lower()
    return [one for one in NAMES if one.lower() in text]


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_of_a_message_that_is_not_taken_stands_in_its_reject(shape, tmp_path):
    made = rejects(tmp_path, shape, sensitive=True)
    assert len(made) == len(SHAPES[shape])
    for one, text in zip(made, SHAPES[shape], strict=True):
        assert named(msgspec.json.encode(one)) == [], one.detail
        assert (one.payload, one.size, len(one.sha256)) == (b"", len(text.encode()), 64)
        assert one.reason
        assert one.raw


@pytest.mark.parametrize("shape", [one for one in SHAPES if one != "frigate"])
def test_of_other_sources_the_reject_holds_the_message_and_says_which_value_it_was(shape, tmp_path):
    made = rejects(tmp_path, shape, sensitive=False)
    assert all(named(one.payload) for one in made)
    assert shape == "atna" or any(named(one.detail.encode()) for one in made)


def test_a_bridge_keeps_nothing_of_what_is_too_large_for_it_where_a_source_is_sensitive(tmp_path):
    (tmp_path / "fhir.yaml").write_text(MAPS["fhir"])
    (tmp_path / "correlator.yaml").write_text(
        "bridge:\n"
        "  max_payload_bytes: 1024\n"
        "  routes:\n"
        "    - {topics: 'fhir/#', to: raw.fhir, site: h1}\n"
        "    - {topics: 'frigate/#', to: raw.cameras, site: h1}\n"
        "    - {topics: 'ids/#', to: raw.ids, site: h1}\n"
        "    - {topics: 'lab/#', to: raw.lab, site_level: 1, sites: [h1], sensitive: true}\n"
        "ingest:\n"
        "  sources:\n"
        "    - {input: raw.fhir, dialect: mapped, map: fhir.yaml, sensitive: true}\n"
        "    - {input: raw.cameras, dialect: frigate}\n"
        "    - {input: raw.ids, dialect: suricata}\n"
    )
    mapping = Mapping(load(tmp_path / "correlator.yaml").settings.bridge)
    kept = {}
    for topic in ("fhir/a", "frigate/events", "ids/eve", "lab/h9/x"):
        (record,) = mapping.records(MqttMessage(topic=topic, payload=WHO.encode() * 100, received_ms=NOW_MS))
        assert record.reason == ("unmapped" if topic == "lab/h9/x" else "too_large")
        kept[topic] = "payload" in json.loads(record.value)
    assert kept == {"fhir/a": False, "frigate/events": False, "ids/eve": True, "lab/h9/x": False}


def test_a_running_system_names_nobody_beside_its_raw_messages(tmp_path):
    shapes = [one for one in SHAPES if one != "frigate"]  # which comes over MQTT
    inputs, sources = [], []
    for shape in shapes:
        row = source(tmp_path, shape, sensitive=True)
        (tmp_path / f"{shape}.log").write_text("".join(f"{text}\n" for text in SHAPES[shape]))
        inputs.append({"name": shape, "path": f"{shape}.log", "poll_ms": 20})
        sources.append(row.model_dump(include={"input", "dialect", "map", "sensitive"}))
    (tmp_path / "site.yaml").write_text("site: {id: h1, timezone: UTC}\n")
    (tmp_path / "correlator.yaml").write_text(json.dumps({
        "sites": [{"site": "site.yaml", "rules": []}], "inputs": {"files": inputs}, "ingest": {"sources": sources},
        "embedded": {"file": "log.sqlite3"},
    }))  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "correlator", "run", "--embedded", "--json", "--log-level", "debug"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    expected = sum(len(SHAPES[shape]) for shape in shapes)
    try:
        until = time.monotonic() + 60
        while found_in(tmp_path / "log.sqlite3") < expected:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, "not everything was refused in a minute"
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)
    assert [named(one) for one in said] == [[], []]
    db = sqlite3.connect(tmp_path / "log.sqlite3")
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    holding = {table for table in tables for row in db.execute(f"SELECT * FROM {table}") if named(repr(row).encode())}
    db.close()
    assert holding == {"raw"}


def found_in(log: Path) -> int:
    """How many rejects an embedded log has by now."""
    if not log.exists():
        return 0
    db = sqlite3.connect(log)
    try:
        return db.execute("SELECT COUNT(*) FROM output WHERE topic = 'rejects'").fetchone()[0]
    except sqlite3.OperationalError:  # its tables are not there yet
        return 0
    finally:
        db.close()
