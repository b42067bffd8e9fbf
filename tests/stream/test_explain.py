"""`correlator explain --from kafka`: threats with the evidence store, and why two findings are not linked."""

from __future__ import annotations

import json
import re
import threading
import time

from correlator.delivery.evidence import Keeper
from correlator.run.whynot_links import explain_pair
from correlator.stream.backup import LogOfTopic
from tests.brokers.fixtures import read_all
from tests.ingest.carried import replayed, scenario, warm_pipeline

NAME = "vaccine-theft"


def test_threats_and_pairs_of_findings_are_explained_from_kafka(system):
    given = scenario(NAME)
    one = system(NAME).prepare()
    one.start("ingest")
    one.start("worker")
    one.send_scenario()
    one.wait_done()
    last = {threat["id"]: threat for threat in map(json.loads, replayed(given))}
    theft = max(last.values(), key=lambda threat: len(threat["steps"]))
    members = {event for step in theft["steps"] for event in step["events"]}
    stop = threading.Event()
    keeper = Keeper(one.kafka, stop)
    keeper.start()
    end = time.monotonic() + 60
    while not members <= {message.key().decode() for message in read_all(one.bootstrap, f"{one.prefix}evidence")}:
        assert keeper.failure is None, keeper.failure
        assert time.monotonic() < end
        time.sleep(0.2)
    stop.set()
    keeper.join(15)

    text = one.command("explain", theft["id"][:10], "--from", "kafka")
    assert theft["title"] in text
    assert "(Europe/Rome)" in text
    proofs = text.partition("\nEvidence")[2]
    assert len(re.findall(r"kept as evidence, sha-256 [0-9a-f]{16}$", proofs, re.MULTILINE)) >= len(members)

    first, second = theft["steps"][1]["finding"], theft["steps"][-1]["finding"]
    log = LogOfTopic(one.kafka, given.site_id)
    events = [event for _, record in log.read() for event in record.events]
    lines = list(explain_pair(warm_pipeline(given), events, given.until_ms, first, second, given.zone))
    assert one.command("explain", "--why-not", first, second, "--from", "kafka").splitlines() == lines
    raw = next(event.raw for event in events if event.id in theft["steps"][1]["events"])
    assert theft["steps"][1]["title"] in one.command("explain", "--why-not", raw, second, "--from", "kafka")

    said = one.command("explain", "--why-not", "campaign_smoke", "--from", "kafka")
    assert re.match(r'"Smoke" \(campaign_smoke\) matched \d+ event', said)
    said = one.command("explain", "--why-not", "campaign_smoke", raw, "--from", "kafka")
    assert '"Smoke" (campaign_smoke) did not match this event' in said
    assert len([1 for _ in log.read(5)]) == 5

    assert "there is no threat 'zz'; there are: " in one.command("explain", "zz", "--from", "kafka", code=2)
    said = one.command("explain", "--why-not", "zz", second, "--from", "kafka", code=2)
    assert "'zz' is no finding of what this log holds" in said


def test_a_cluster_without_the_topics_is_said_in_one_line(system):
    one = system(NAME)
    for words in (["zz"], ["--why-not", "a", "b"]):
        told = one.command("explain", *words, "--from", "kafka", code=2)
        assert re.fullmatch(rf"correlator: .*{re.escape(one.prefix)}.*\n", told), told
