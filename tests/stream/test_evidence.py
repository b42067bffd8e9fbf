"""Raw messages of matches and notable events are kept under their event's id, whatever interrupts the keeper."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import b64decode

from correlator.delivery.evidence import Keeper
from tests.brokers.fixtures import read_all
from tests.stream.test_crash_loops import trim_log


def kept(house) -> dict[str, dict]:
    """What stands in `evidence`, by event."""
    found = read_all(house.bootstrap, f"{house.prefix}evidence")
    return {message.key().decode(): json.loads(message.value()) for message in found}


def until(wanted, keeper: Keeper, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert keeper.failure is None, keeper.failure
        assert time.monotonic() < end
        time.sleep(0.1)


def test_every_message_of_a_match_is_kept_with_its_hash_and_one_that_is_gone_stops_nothing(house):
    one = house().prepare()
    one.start("ingest")
    one.start("worker")
    one.alert(1)
    one.alert(2, payload_printable="x" * 200_000)
    one.flush()
    one.wait_for("matches", lambda _: len(one.messages("matches")) == 2)
    stop = threading.Event()
    keeper = Keeper(one.kafka, stop)
    keeper.start()
    until(lambda: len(kept(one)) == 2, keeper)
    stop.set()
    keeper.join(15)
    one.alert(3)
    one.flush()
    one.wait_for("matches", lambda _: len(one.messages("matches")) == 3)
    trim_log(one, 3, topic="raw.suricata")
    one.alert(4)
    one.flush()
    one.wait_for("matches", lambda _: len(one.messages("matches")) == 4)
    stop = threading.Event()
    again = Keeper(one.kafka, stop)
    again.start()
    until(lambda: len(kept(one)) == 3 and again.gone == 1, again)
    stop.set()
    again.join(15)
    assert (keeper.kept, again.kept) == (2, 1), "it goes on where it stood"
    sent = {message.offset(): message.value() for message in read_all(one.bootstrap, f"{one.prefix}raw.suricata")}
    sizes = []
    for message in kept(one).values():
        payload = b64decode(message["payload"])
        sizes.append(message["size"])
        assert (message["site"], message["channel"]) == ("house", "eve.json")
        assert len(payload) == min(message["size"], 65_536)
        whole = sent.get(int(message["raw"].rpartition(":")[2]))
        if whole is not None:
            assert message["sha256"] == hashlib.sha256(whole).hexdigest()
            assert whole.startswith(payload)
    assert max(sizes) > 200_000
    wanted = {
        event["event"]["id"] for event in one.messages("events.enriched") if event["event"]["raw"] != "raw.suricata/0:2"
    }
    assert kept(one).keys() == wanted
