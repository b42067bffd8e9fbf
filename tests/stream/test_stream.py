"""The whole stream on a real Kafka tells what a replay tells."""

from __future__ import annotations

import json

import pytest

from tests.ingest.carried import replayed, scenario


@pytest.mark.parametrize("name", ["vaccine-theft", "patient-data-theft"])
def test_a_scenario_through_the_stream_tells_the_replays_threats_byte_for_byte(system, name):
    one = system(name).prepare()
    ingest, worker = one.start("ingest"), one.start("worker")
    one.send_scenario()
    one.wait_done()
    assert one.threats() == sorted(replayed(scenario(name)))
    for topic in ("matches", "events.enriched", "rejects"):
        one.none_twice(one.told(topic), topic)
    told = [json.loads(line) for line in one.command("replay", "--from-log", "kafka", "--json").splitlines()]
    last = {threat["id"]: threat for threat in map(json.loads, replayed(scenario(name)))}
    standing = {name: threat["revision"] for name, threat in last.items() if threat["phase"] != "merged"}
    assert {threat["id"]: threat["revision"] for threat in told} == standing, "the log read back tells the same"
    assert ingest.stop() == 0
    assert worker.stop() == 0
