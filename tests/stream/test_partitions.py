"""The number of partitions is changed as docs/streaming.md says: a second system beside the first."""

from __future__ import annotations

import time


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
