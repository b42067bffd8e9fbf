"""scenario.yaml and the captures: faults with their place, and messages in the order of receipt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from correlator.clock import parse_iso
from correlator.errors import FaultyFile, UsageError
from correlator.events.event import Event, Reject
from correlator.run.scenario import Batch, load_scenario, packaged_scenarios

HERE = Path(__file__).parent
SCENARIO = """\
name: small
site: site.yaml
lateness: 2s
until: "2024-05-03T00:00:00+02:00"
seed: 7
background: {seed: 7, events: 100}
rules: [pack]
inputs:
  - name: zigbee
    file: inputs/sensors.ndjson
    carrier: mqtt
    routes:
      - topics: "zigbee2mqtt/#"
        dialect: zigbee2mqtt
        settings: {devices: {c1: {door: d1}}}
  - {name: ids, file: inputs/eve.json, carrier: lines, dialect: suricata}
  - name: records
    file: inputs/records.csv
    carrier: lines
    clock: {zone: Europe/Rome, skew: 1m, basis: device}
    dialect: mapped
    map: maps/records.yaml
"""
SITE = "site: {id: small, name: Small, timezone: Europe/Rome}\nfloors: []\n"
MAP = """\
map: mapped
format: csv
time: {field: when, format: "%d.%m.%Y %H:%M:%S"}
kind: record.queried
entities: [{role: actor, kind: account, field: who}]
"""
SENSORS = [
    '{"topic": "zigbee2mqtt/c1", "payload": {"contact": true}, "received": "2024-05-02T10:00:02+02:00", "retain": true}',
    '{"topic": "zigbee2mqtt/c1", "payload": {"contact": false}, "received": "2024-05-02T10:00:09+02:00"}',
    '{"topic": "zigbee2mqtt/c1", "payload_b64": "eyJjb250YWN0Ijp0cnVlfQ==", "received": 1714636804000}',
    "",
    "not a capture",
    '{"payload": {"contact": true}, "received": 1714636810000}',
    '{"topic": "other/c1", "payload": "open", "received": 1714636811000}',
]


def eve(clock: str) -> str:
    return (
        f'{{"timestamp": "2024-05-02T{clock}.000000+0200", "flow_id": 1, "event_type": "alert", "src_ip": "10.0.0.1",'
        ' "src_port": 1, "dest_ip": "10.0.0.2", "dest_port": 2, "proto": "TCP", "alert": {"action": "allowed",'
        ' "gid": 1, "signature_id": 9000001, "rev": 1, "signature": "LOCAL", "category": "c", "severity": 3}}'
    )


EVE = ["{broken", eve("10:00:05"), eve("10:00:03"), eve("10:00:07")]
RECORDS = ["when,who", "02.05.2024 10:00:06,u001", "02.05.2024 10:00:08,u002"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (
        ("scenario.yaml", SCENARIO),
        ("site.yaml", SITE),
        ("maps/records.yaml", MAP),
        ("inputs/sensors.ndjson", "\n".join(SENSORS) + "\n"),
        ("inputs/eve.json", "\n".join(EVE) + "\n"),
        ("inputs/records.csv", "\r\n".join(RECORDS) + "\r\n"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


def at(clock: str) -> int:
    return parse_iso(f"2024-05-02T{clock}+02:00")[0]


def by_origin(folder: Path) -> dict[str, Batch]:
    return {batch.origin: batch for batch in load_scenario(folder).events()}


@pytest.mark.parametrize("case", yaml.safe_load((HERE / "faults.yaml").read_text()), ids=lambda case: case["name"])
def test_a_faulty_scenario_is_refused_with_the_place_and_the_word_meant(case, folder):
    text = SCENARIO.replace(case["change"]["this"], case["change"]["by"], 1)
    assert text != SCENARIO
    (folder / "scenario.yaml").write_text(text)
    with pytest.raises(FaultyFile) as caught:
        load_scenario(folder)
    told = "\n".join(str(fault) for fault in caught.value.faults)
    for part in case["says"]:
        assert part in told


@pytest.mark.parametrize("word", ["name", "site", "until", "inputs", "rules"])
def test_a_scenario_without_a_needed_word_says_which(word, folder):
    kept = {key: value for key, value in yaml.safe_load(SCENARIO).items() if key != word}
    (folder / "scenario.yaml").write_text(yaml.safe_dump(kept))
    with pytest.raises(FaultyFile, match=f"'{word}' is missing"):
        load_scenario(folder)


def test_a_folder_without_scenario_names_those_that_come_along(tmp_path):
    with pytest.raises(UsageError, match="vaccine-theft"):
        load_scenario(tmp_path)


def test_four_scenarios_come_along():
    assert list(packaged_scenarios()) == ["contractor-window", "fire-drill", "patient-data-theft", "vaccine-theft"]


def test_inputs_are_merged_by_receive_time_then_file_then_line(folder):
    batches = list(load_scenario(folder).events())
    received = [batch.received_ms for batch in batches]
    assert received == sorted(received)
    assert [batch.origin for batch in batches if batch.events] == [
        "inputs/sensors.ndjson:1", "inputs/sensors.ndjson:3", "inputs/eve.json:2", "inputs/eve.json:3",
        "inputs/records.csv:2", "inputs/eve.json:4", "inputs/records.csv:3", "inputs/sensors.ndjson:2",
    ]  # fmt: skip


def test_a_log_line_is_received_at_the_largest_device_time_so_far(folder):
    found = by_origin(folder)
    late = found["inputs/eve.json:3"]
    assert late.received_ms == at("10:00:05")
    assert [(event.time_ms, event.received_ms) for event in late.events] == [(at("10:00:03"), at("10:00:05"))]


def test_lines_before_the_first_time_are_received_with_it(folder):
    broken = by_origin(folder)["inputs/eve.json:1"]
    assert [reject.reason for reject in broken.rejects] == ["not_json"]
    assert broken.received_ms == broken.rejects[0].received_ms == at("10:00:05")


def test_a_time_after_the_end_moves_no_receive_time(folder):
    lines = [eve("10:00:05"), eve("10:00:05").replace("2024-05-02", "2098-05-02"), eve("10:00:06")]
    (folder / "inputs/eve.json").write_text("\n".join(lines))
    found = by_origin(folder)
    assert found["inputs/eve.json:2"].received_ms == at("10:00:05")
    assert found["inputs/eve.json:3"].received_ms == at("10:00:06")


def test_retained_text_and_base64_reach_the_dialect(folder):
    found = by_origin(folder)
    first, second, third = (found[f"inputs/sensors.ndjson:{line}"].events[0] for line in (1, 2, 3))
    assert (first.kind, first.retained, second.kind, second.retained) == ("door.closed", True, "door.opened", False)
    assert (third.kind, third.received_ms) == ("door.closed", at("10:00:04"))


@pytest.mark.parametrize(("line", "reason"), [(5, "not_json"), (6, "missing_field"), (7, "unmapped")])
def test_a_broken_capture_line_is_a_reject_with_its_bytes(folder, line, reason):
    origin = f"inputs/sensors.ndjson:{line}"
    (reject,) = by_origin(folder)[origin].rejects
    assert (reject.reason, reject.origin, bool(reject.payload)) == (reason, origin, True)


def test_blank_lines_are_no_messages_but_count(folder):
    assert "inputs/sensors.ndjson:4" not in by_origin(folder)


def test_the_first_line_of_a_csv_names_its_columns(folder):
    found = by_origin(folder)
    assert "inputs/records.csv:1" not in found
    (event,) = found["inputs/records.csv:2"].events
    assert (event.entity("account"), event.time_ms) == ("u001", at("10:00:06"))


def test_read_gives_the_messages_that_events_decodes(folder):
    scenario = load_scenario(folder)
    origins = [message.origin for _, _, _, message in scenario.read()]
    assert origins == [batch.origin for batch in scenario.events()]
    broken = [message for _, dialect, _, message in scenario.read() if dialect is None]
    assert [type(one) for one in broken if one.origin.endswith((":5", ":6"))] == [Reject, Reject]


def test_background_messages_are_merged_into_their_input(folder):
    message = ("zigbee", "zigbee2mqtt/c1", b'{"contact":false}', at("10:00:03"))
    batches = list(load_scenario(folder).events([message]))
    (found,) = [batch for batch in batches if batch.origin == "background:1"]
    assert (found.input, found.events[0].kind, found.events[0].received_ms) == ("zigbee", "door.opened", at("10:00:03"))
    assert batches.index(found) == 1


def test_every_event_has_a_receive_time(folder):
    events: list[Event] = [event for batch in load_scenario(folder).events() for event in batch.events]
    assert all(event.received_ms > 0 and event.time_ms > 0 for event in events)


def test_lines_in_envelopes_give_what_they_give_on_their_own_at_the_time_their_shipper_says(folder):
    bare = [one for one in by_origin(folder).values() if one.input == "ids"]
    file = folder / "inputs" / "eve.json"
    lines = file.read_text("utf-8").splitlines()
    stamps = [f"2024-05-02T08:01:{at:02d}.5Z" for at in range(len(lines))]
    file.write_text("".join(
        json.dumps({"timestamp": stamp, "message": line, "file": "inputs/eve.json"}) + "\n"
        for stamp, line in zip(stamps, lines, strict=True)
    ))  # fmt: skip
    text = (folder / "scenario.yaml").read_text()
    plain = "carrier: lines, dialect: suricata"
    for words, received in (
        ("envelope: vector", [one.received_ms for one in bare]),
        # The broken line tells no time and is received with the next.
        ("envelope: vector, envelope_time: received", [parse_iso(stamps[at or 1])[0] for at in range(len(stamps))]),
    ):
        (folder / "scenario.yaml").write_text(text.replace(plain, f"{plain}, {words}"))
        opened = [one for one in by_origin(folder).values() if one.input == "ids"]
        assert [one.received_ms for one in opened] == received
        assert [[event.kind for event in one.events] for one in opened] == [
            [event.kind for event in one.events] for one in bare
        ]
        assert all(one.origin == f"inputs/eve.json:{at}" for at, one in enumerate(opened, 1))
