"""What people decide in console.actions reaches the engine through its log."""

from __future__ import annotations

import time

from correlator.journal.action import Act
from correlator.journal.kafka import TOPIC, KafkaJournal
from correlator.run.log import decode
from tests.brokers.fixtures import read_all
from tests.ingest.carried import acts_on, replayed


def journal(house) -> KafkaJournal:
    return KafkaJournal(house.kafka.client(), topic=house.kafka.topic(TOPIC))


def alarm(house, number: int) -> None:
    """An alert that is a threat by itself."""
    house.alert(number, alert={"signature": f"TEST alarm {number}", "severity": 1, "category": "alarm", "rev": 1,
                               "signature_id": 9_000_002, "action": "allowed", "gid": 1})  # fmt: skip
    house.flush()


def act(verb: str, threat: str, id: str, **more) -> Act:
    return Act(id=id, site="house", who="p-017", verb=verb, at_ms=time.time_ns() // 1_000_000, threat=threat, **more)


def test_a_close_in_the_journal_quiets_the_threat_once_and_what_comes_later_is_another(house):
    one = house().prepare()
    one.start("ingest")
    one.start("worker")
    alarm(one, 1)
    threat = one.wait_for("threats", lambda threat: threat["phase"] == "threat")
    people = journal(one)
    people.append(act("note", threat["id"], "a1", args={"text": "looking"}))
    people.append(act("close", threat["id"], "a2", denied="a viewer may not close"))
    people.append(act("close", threat["id"], "a3", args={"verdict": "true"}))
    people.append(act("close", threat["id"], "a3", args={"verdict": "true"}))
    people.close()
    closed_ms = time.time_ns() // 1_000_000
    ended = one.wait_for("threats", lambda again: again["id"] == threat["id"] and again["phase"] == "quiet")
    assert ended["revision"] > threat["revision"]
    assert threat["decided_ms"] <= ended["decided_ms"] <= closed_ms
    alarm(one, 2)
    other = one.wait_for("threats", lambda again: again["id"] != threat["id"])
    assert other["phase"] == "threat"
    counters = one.counters()
    assert (counters["actions"], counters["actions_repeated"], counters["actions_unsupported"]) == (1, 0, 0)
    assert [again["phase"] for again in one.messages("threats") if again["id"] == threat["id"]].count("quiet") == 1


def test_decisions_in_a_scenario_give_the_replays_bytes_and_a_restarted_ingest_copies_none_again(system):
    one = system("vaccine-theft").prepare()
    acts = acts_on(one.scenario)
    people = KafkaJournal(one.kafka.client(), topic=one.kafka.topic(TOPIC))
    for given in acts[:5]:
        people.append(given)
    ingest = one.start("ingest")
    one.start("worker")
    until = time.monotonic() + 30
    while copied(one) != ["a0", "a1", "a2"]:
        assert time.monotonic() < until, copied(one)
        time.sleep(0.1)
    assert ingest.stop() == 0
    for given in acts[5:]:
        people.append(given)
    people.close()
    one.start("ingest", name="again")
    while len(copied(one)) < 6:
        assert time.monotonic() < until + 30, copied(one)
        time.sleep(0.1)
    one.send_scenario()
    one.wait_done()
    assert copied(one) == ["a0", "a1", "a2", "a5", "a6", "a7"], "none twice, no refused or denied one"
    assert one.threats() == sorted(replayed(one.scenario, acts=acts))


def copied(one) -> list[str]:
    """Ids of the decisions in the log."""
    records = [decode(message.value()) for message in read_all(one.bootstrap, f"{one.prefix}events")]
    return [action.id for record in records for action in record.actions]
