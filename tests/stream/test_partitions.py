"""Partitions: their number is changed by a second system beside the first; who gets none that it should have ends."""

from __future__ import annotations

import time

import pytest


def test_with_another_number_of_partitions_every_message_is_told_by_the_old_or_the_new_system(house):
    old = house(partitions=1).prepare()
    processes = [old.start("ingest"), old.start("worker")]
    for number in range(5):
        old.alert(number)
    old.flush()
    old.wait_done()
    time.sleep(1.5)  # lateness and a promise, so that all is decided
    old.wait_done()
    assert [process.stop() for process in processes] == [0, 0]
    new = house(partitions=3).prepare()
    new.start("worker")
    new.start("ingest")
    for number in range(5, 9):
        new.alert(number)
    new.flush()
    new.wait_for("matches", lambda _: len(new.messages("matches")) >= 4)
    told = [event["event"]["summary"] for one in (old, new) for event in one.messages("events.enriched")]
    assert len(told) == len(set(told)) == 9
    written = {partition for partition, end in new.ends(f"{new.prefix}events").items() if end}
    assert len(written) == 1, "a site stays in one partition"


@pytest.mark.parametrize(
    ("settings", "module", "environment", "said"),
    [
        ({"ingest": {"process": {"unread_end_ms": 2_000}}}, "tests.stream.left_out", {}, "left_out"),
        ({"ingest": {"process": {"unread_end_ms": 2_000}}}, "tests.stream.left_out", {"ASKS_NOBODY": "1"}, "left_out"),
        ({"kafka": {"unconfirmed_end_ms": 2_000}}, "tests.brokers.held", {}, "not_confirmed"),
    ],
    ids=["its share", "Kafka", "confirmation"],
)
def test_an_ingest_process_that_waits_in_vain_ends_and_its_successor_reads_everything(
    house, settings, module, environment, said
):
    one = house(**settings).prepare()
    stuck = one.start("ingest", name="stuck", module=module, wait=False, **environment)
    one.alert(1)
    one.flush()
    assert stuck.popen.wait(60) == 75
    stuck.wait_said(said)
    one.start("ingest")
    one.start("worker")
    one.wait_for("events.enriched", lambda told: told["event"]["kind"] == "ids.alert")


def test_an_ingest_process_beside_one_that_reads_everything_waits_for_its_turn(house):
    one = house(ingest={"process": {"unread_end_ms": 1_000}}).prepare()
    one.start("ingest", name="first")
    spare = one.start("ingest", name="spare", module="tests.stream.left_out", wait=False)
    one.start("worker")
    time.sleep(12)  # two looks at the group
    one.alert(1)
    one.flush()
    one.wait_for("events.enriched", lambda told: told["event"]["kind"] == "ids.alert")
    assert spare.running
