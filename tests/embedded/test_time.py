"""Clocks and outages: what comes late or with a wrong time changes nothing but itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from correlator.clock import HOUR_MS, MINUTE_MS
from correlator.embedded import EmbeddedLog
from correlator.ingest.raw import RawMessage
from correlator.run.scenario import Scenario, load_scenario
from correlator.sources.dialect import Message
from tests.ingest.carried import last_promises, raw_messages, scenario
from tests.stream.house import HOUSE, alert_said, door_said

from .feeding import Running

T = 1_772_438_400_000  # 2026-03-02T08:00:00Z


def told(one: Scenario, file: Path, messages: list[RawMessage], topic: str) -> list[dict[str, Any]]:
    """What a run tells on a topic."""
    running = Running(one, file)
    running.feed(messages)
    end_ms = max(one.until_ms, max(each.message.received_ms for each in messages)) + one.lateness_ms + 1
    running.feed([msgspec.structs.replace(each, tick_ms=end_ms) for each in last_promises(one, messages)])
    running.close()
    log = EmbeddedLog(file, write=False)
    found, after = [], 0
    while rows := log.outputs(topic, after):
        found += [json.loads(value) for _, value in rows]
        after = rows[-1][0]
    log.close()
    return found


def house_messages(ahead_ms: int) -> list[RawMessage]:
    """Two doors and a network sensor for a few minutes; one door's clock is so much ahead."""
    found: list[RawMessage] = []
    for n in range(60):
        at_ms = T + n * 5_000
        for number, (sensor, clock_ms) in enumerate((("c-main", at_ms + ahead_ms), ("c-store", at_ms))):
            said = door_said(open=n % 2 == 1, at_ms=clock_ms, quality=n)
            found.append(raw("raw.mqtt/0", n * 2 + number, f"zigbee2mqtt/{sensor}", said.payload, at_ms + 40))
        found.append(raw("raw.suricata/0", n, "eve.json", alert_said(n, at_ms=at_ms).payload, at_ms + 60))
    return found


def raw(input: str, offset: int, channel: str, payload: bytes, received_ms: int) -> RawMessage:
    return RawMessage(input, offset, "house", Message(channel, payload, received_ms, origin=f"{channel}:{offset}"))


def test_a_device_clock_one_hour_ahead_changes_only_its_own_events(tmp_path):
    one = load_scenario(HOUSE)
    right = told(one, tmp_path / "right.sqlite3", house_messages(0), "events.enriched")
    wrong = told(one, tmp_path / "wrong.sqlite3", house_messages(HOUR_MS), "events.enriched")

    def others(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in found if "c-main" not in one["event"]["origin"]]

    assert len(others(right)) >= 100
    assert others(wrong) == others(right)
    mine = [one["event"] for one in wrong if "c-main" in one["event"]["origin"]]
    assert len(mine) == len(right) - len(others(right))
    assert {one["time_quality"] for one in mine} != {"device"}
    assert not any(one.get("late_ms") for one in mine)


def test_a_bridge_cut_off_in_the_break_in_that_delivers_40_minutes_later_still_brings_the_door(tmp_path):
    one = scenario("vaccine-theft")
    forced = "inputs/access.ndjson:67"
    messages = list(raw_messages(one))
    cut_ms = next(each.message.received_ms for each in messages if each.message.origin == forced) - MINUTE_MS
    late, kept = [], []
    for each in messages:
        at_ms = each.message.received_ms
        if each.input != "raw.mqtt/0" or not cut_ms <= at_ms < cut_ms + 40 * MINUTE_MS:
            kept.append(each)
            continue
        queued = msgspec.structs.replace(
            each.message, received_ms=cut_ms + 40 * MINUTE_MS + len(late), queued_since_ms=cut_ms
        )
        late.append(msgspec.structs.replace(each, message=queued))
    behind = next(
        (n for n, each in enumerate(kept) if each.message.received_ms > late[0].message.received_ms), len(kept)
    )
    offsets: dict[str, int] = {}
    ordered = []
    for each in [*kept[:behind], *late, *kept[behind:]]:
        offsets[each.input] = offsets.get(each.input, -1) + 1
        ordered.append(msgspec.structs.replace(each, offset=offsets[each.input]))
    threats = {threat["id"]: threat for threat in told(one, tmp_path / "log.sqlite3", ordered, "threats")}
    members = {member["origin"]: member for threat in threats.values() for member in threat["members"]}
    assert members[forced]["late_ms"] > 30 * MINUTE_MS
    largest = max(threats.values(), key=lambda threat: len(threat["members"]))
    assert forced in {member["origin"] for member in largest["members"]}
