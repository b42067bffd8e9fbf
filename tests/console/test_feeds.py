"""Facts of a running site, on an embedded log and on Kafka, are those of the replay of the same messages."""

from __future__ import annotations

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from correlator.console.facts import Facts
from correlator.console.feeds import KafkaFacts, LogFacts
from correlator.console.raw import shown
from correlator.embedded import EmbeddedLog
from correlator.events.event import KeptMessage
from correlator.events.threat import Threat
from correlator.ingest.kafka import KafkaSettings
from correlator.premises import load_site
from tests.embedded.feeding import Running, in_pieces, messages_of
from tests.ingest.carried import scenario, scenario_table

pytestmark = pytest.mark.xdist_group("brokers")
NAME = "vaccine-theft"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The scenario as it went through an embedded log: file, scenario, newest revision of each threat."""
    one, file = scenario(NAME), tmp_path_factory.mktemp("ran") / "log.sqlite3"
    running = Running(one, file)
    in_pieces(messages_of(one), 400, running.feed)
    running.close()
    log = EmbeddedLog(file, write=False)
    told = (msgspec.json.decode(value, type=Threat) for _, value in log.outputs("threats", 0, 100_000))
    threats = {threat.id: threat for threat in told}
    log.close()
    return file, one, threats


def facts_of(one) -> Facts:
    places = load_site(one.site_file)
    return Facts({places.site.id: places}, as_of_ms=one.until_ms)


@pytest.fixture(scope="module")
def from_log(ran):
    file, one, _ = ran
    facts, feed = facts_of(one), LogFacts(file, scenario_table(one))
    while feed.poll(facts):
        pass
    yield facts, feed
    feed.close()


def test_hits_sources_and_live_state_are_those_of_the_messages(ran, from_log):
    file, one, _ = ran
    facts, _ = from_log
    log = EmbeddedLog(file, write=False)
    told = {}
    for _, value in log.outputs("matches", 0, 100_000):
        match = msgspec.json.decode(value)
        if not match.get("early"):
            told[match["id"]] = match
    log.close()
    site = one.site_id
    assert {rule: hits.month for rule, hits in facts.hits(site).items()} == {
        rule: sum(match["rule"] == rule for match in told.values()) for rule in {one["rule"] for one in told.values()}
    }
    assert {"access", "suricata", "windows"} <= {source.source for source in facts.sources(site)}
    live = facts.live[site]
    assert live.health("cam-corridor-0n") is not None
    assert live.health("cam-corridor-0n")[0] == "offline"


def test_the_raw_message_of_each_member_is_found_and_names_nobody(ran, from_log):
    _, one, threats = ran
    _, feed = from_log
    threat = max(threats.values(), key=lambda told: len(told.members))
    people = load_site(one.site_file).site.people.values()
    badges = {badge.id for person in people for badge in person.badges}
    seen = 0
    for member in threat.members:
        raw = feed.raw(one.site_id, member)
        assert raw is not None, member
        told = shown(raw, whole=False)
        assert not told.hidden
        assert not any(badge in told.text for badge in badges)
        seen += told.redacted > 0
    assert seen > 3


def test_on_kafka_the_facts_are_the_same(ran, from_log, kafka, unique):
    file, one, threats = ran
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{unique}.")
    admin = AdminClient(settings.client())
    names = ("matches", "events.enriched", "rejects", "state", "evidence")
    for future in admin.create_topics([NewTopic(settings.topic(name), 1) for name in names]).values():
        future.result(30)
    producer = Producer(settings.client())
    log = EmbeddedLog(file, write=False)
    for name in ("matches", "events.enriched", "rejects"):
        for _, value in log.outputs(name, 0, 1_000_000):
            producer.produce(settings.topic(name), value, one.site_id.encode())
            producer.poll(0)
    for key, value in log.state().items():
        producer.produce(settings.topic("state"), b"\0" + value, key.encode())
        producer.poll(0)
    for kept in log.evidence():
        record = KeptMessage(event=kept.event, site=kept.site, channel=kept.channel, received_ms=kept.received_ms,
                             payload=kept.payload, size=kept.size, sha256=kept.sha256)  # fmt: skip
        producer.produce(settings.topic("evidence"), msgspec.json.encode(record), kept.event.encode())
        producer.poll(0)
    assert producer.flush(60) == 0
    facts = facts_of(one)
    feed = KafkaFacts(settings.client(), settings.topic, facts, scenario_table(one))
    quiet = 0
    while quiet < 8:
        quiet = 0 if feed.poll(facts) else quiet + 1
    expected, of_log = from_log
    site = one.site_id
    assert facts.hits(site) == expected.hits(site)
    assert facts.sources(site) == expected.sources(site)
    assert facts.live[site].snapshot() == expected.live[site].snapshot()
    threat = max(threats.values(), key=lambda told: len(told.members))
    for member in threat.members[:5]:
        found, wanted = feed.raw(site, member), of_log.raw(site, member)
        assert found is not None
        assert (found.message.payload, found.sha256) == (wanted.message.payload, wanted.sha256)
    feed.close()
    log.close()
