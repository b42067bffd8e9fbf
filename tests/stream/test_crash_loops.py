"""What could kill one worker after another ends in a working system that complains (design: no crash loop)."""

from __future__ import annotations

import time

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from correlator.run.partition import IMPORTING
from correlator.stream.state import StateWriter
from tests.brokers.fixtures import read_all


def trim_log(house, upto: int, topic: str = "events") -> None:
    """Deletes a topic's records before an offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": house.bootstrap, "log_level": 2})
    at = TopicPartition(house.prefix + topic, 0, upto)
    for future in admin.delete_records([at]).values():
        future.result(15)


def log_end(house) -> int:
    return house.ends(f"{house.prefix}events")[0]


def is_health(kind: str):
    return lambda threat: f"correlator.health.{kind}" in threat["threat_types"]


def test_an_event_that_kills_the_worker_three_times_is_rejected_and_the_rest_is_folded(house):
    one = house().prepare()
    one.start("ingest")
    worker = one.start("worker", module="tests.stream.seeded_bug")
    one.alert(1)
    one.alert(2, note="POISON")
    one.alert(3)
    one.flush()
    deaths = 0
    while deaths < 3:
        assert worker.popen.wait(60) == 70
        deaths += 1
        worker = one.start("worker", module="tests.stream.seeded_bug", wait=False)
    reject = one.wait_for("rejects", lambda reject: reject["reason"] == "engine_error")
    assert reject["origin"] == "raw.suricata:1"
    threat = one.wait_for("threats", is_health("poison"))
    assert threat["severity"] == "critical"
    one.wait_for("matches", lambda match: match["rule"] == "alert" and len(one.messages("matches")) >= 2)
    assert len([match for match in one.messages("matches") if match["rule"] == "alert"]) == 2
    assert worker.running
    one.none_twice(one.told("matches"), "matches")
    one.none_twice(one.told("rejects"), "rejects")


def test_an_output_that_is_too_large_is_cut_and_written(house):
    one = house().prepare()
    one.start("ingest")
    worker = one.start("worker")
    one.alert(1, payload_printable="x" * 700_000)
    one.alert(2)
    one.flush()
    one.wait_for("matches", lambda _: len(one.messages("matches")) >= 2)
    large = next(value for _, value in one.told("events.enriched") if b"TEST number 1" in value)
    assert len(large) <= 512 * 1024
    assert worker.running


def test_a_log_whose_beginning_is_gone_when_the_worker_first_starts_is_read_from_where_it_begins(house):
    one = house().prepare()
    ingest = one.start("ingest")
    one.alert(1)
    one.flush()
    time.sleep(1)
    trim_log(one, log_end(one))
    one.alert(2)
    one.flush()
    time.sleep(1)
    one.start("worker")
    reject = one.wait_for("rejects", lambda reject: reject["reason"] == "no_configuration")
    assert reject["origin"] == "raw.suricata:1"
    assert ingest.stop() == 0
    one.start("ingest")  # it repeats the configuration when it starts
    one.alert(3)
    one.flush()
    one.wait_for("matches", lambda match: match["rule"] == "alert")
    assert [event["event"]["origin"] for event in one.messages("events.enriched")] == ["raw.suricata:2"]


def test_a_worker_that_was_away_for_longer_than_the_log_is_kept_goes_on_and_tells_the_gap(house):
    one = house().prepare()
    one.start("ingest")
    worker = one.start("worker")
    one.alert(1)
    one.flush()
    one.wait_for("matches", lambda match: match["rule"] == "alert")
    assert worker.stop() == 0
    one.alert(2)
    one.flush()
    time.sleep(1)
    trim_log(one, log_end(one))
    one.alert(3)
    one.flush()
    one.start("worker")
    threat = one.wait_for("threats", is_health("gap"))
    assert threat["severity"] == "critical"
    reject = one.wait_for("rejects", lambda reject: reject["reason"] == "log_gap")
    assert "were gone unread" in reject["detail"]
    one.wait_for("matches", lambda match: len(one.messages("matches")) >= 2)
    one.none_twice(one.told("threats"), "threats")


def test_a_worker_that_shall_stop_at_a_gap_says_so_and_ends(house):
    one = house(worker={"stop_on_gap": True}).prepare()
    one.start("ingest")
    worker = one.start("worker")
    one.alert(1)
    one.flush()
    one.wait_for("matches", lambda match: match["rule"] == "alert")
    assert worker.stop() == 0
    time.sleep(1)
    trim_log(one, log_end(one))
    worker = one.start("worker", wait=False)
    assert worker.popen.wait(60) == 78
    assert "stop_on_gap" in worker.said("ended")[-1]["detail"]


def test_state_from_an_older_backup_tells_again_what_came_since_with_the_same_ids_and_bytes(house):
    one = house().prepare()
    one.start("ingest")
    worker = one.start("worker")
    one.alert(1)
    one.flush()
    one.wait_for("matches", lambda match: match["rule"] == "alert")
    assert worker.stop() == 0
    said = one.command("state", "export", str(one.folder / "state.gz"))
    assert "partition 0: " in said
    assert "house" in said
    one.start("worker", name="second")
    for number in (2, 3):
        one.alert(number)
    one.flush()
    one.wait_for("matches", lambda _: len(one.messages("matches")) >= 3)
    second = one.processes[-1]
    one.command("state", "import", str(one.folder / "state.gz"))
    assert second.popen.wait(30) == 75, "whoever still works is fenced"
    one.start("worker", name="third")
    one.alert(4)
    one.flush()
    one.wait_for("matches", lambda match: "TEST number 4" in str(one.told("events.enriched")))
    one.wait_done()
    found = one.told("matches")
    assert len(found) > len(set(found)), "what came since the backup is told again"
    assert len({name for name, _ in found}) == len(set(found)), "the same id, the same bytes"
    assert len({name for name, _ in found}) == 4


def test_a_state_that_was_imported_in_part_starts_no_worker_until_it_is_imported_again(house):
    one = house().prepare()
    one.start("ingest")
    worker = one.start("worker")
    one.alert(1)
    one.flush()
    one.wait_for("matches", lambda match: match["rule"] == "alert")
    assert worker.stop() == 0
    state = one.folder / "state.gz"
    one.command("state", "export", str(state))
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    assert "state.gz: " in one.command("state", "import", str(state), code=2)
    StateWriter(one.kafka, "correlator-worker", 0).write([], [(IMPORTING, b"1")])
    worker = one.start("worker", name="second", wait=False)
    assert worker.popen.wait(60) == 78
    assert "run `correlator state import` again" in worker.said("ended")[-1]["detail"]
    state.write_bytes(whole)
    one.command("state", "import", str(state))
    one.start("worker", name="third")
    one.alert(2)
    one.flush()
    one.wait_for("matches", lambda _: len(one.messages("matches")) == 2)


def test_a_worker_whose_configuration_is_not_there_ends_with_a_clear_word(house):
    one = house().prepare()
    one.start("ingest")
    one.alert(1)
    one.flush()
    time.sleep(1)
    producer = Producer({"bootstrap.servers": one.bootstrap, "log_level": 2})
    for message in read_all(one.bootstrap, f"{one.prefix}config"):
        if not message.key().startswith(b"site/"):
            producer.produce(f"{one.prefix}config", None, message.key(), partition=0)
    assert producer.flush(15) == 0
    worker = one.start("worker", wait=False)
    assert worker.popen.wait(60) == 78
    assert "`correlator config apply` writes them" in worker.said("ended")[-1]["detail"]
    one.command("config", "apply")
    one.start("worker", name="again")
    one.wait_for("matches", lambda match: match["rule"] == "alert")
