"""People as tokens on Kafka: no topic but the raw ones names anybody, and evidence is under lock."""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka.admin import AdminClient

from correlator.config.kept import OnKafka
from correlator.delivery.evidence import Keeper
from correlator.privacy.evidence import Locker, without
from correlator.privacy.vault import Vault
from tests.brokers.fixtures import read_all
from tests.stream.conftest import system  # noqa: F401 - a fixture

from .keeping import key, named_in

pytestmark = pytest.mark.xdist_group("brokers")


def test_topics_name_nobody_but_the_raw_ones_and_evidence_opens_with_the_vault(system, tmp_path):  # noqa: F811
    vault_file = tmp_path / "vault.sqlite3"
    keys = [{"id": "k1", "file": str(key(tmp_path, "k1"))}]
    one = system(privacy={"tokens": True, "keys": keys, "vault": str(vault_file)}).prepare()
    one.start("ingest")
    one.start("worker")
    one.send_scenario()
    one.wait_done()
    vault, stop = Vault(vault_file), threading.Event()
    keeper = Keeper(one.kafka, stop, Locker(vault))
    keeper.start()
    kept, until = OnKafka(one.kafka), time.monotonic() + 30
    while sum(1 for _ in kept.evidence()) < 20 or not vault.counts()["threat"]:
        assert keeper.failure is None and time.monotonic() < until, keeper.failure
        time.sleep(0.2)
    stop.set()
    keeper.join(15)
    values = {row.value for row in vault.everybody()}
    topics = AdminClient({"bootstrap.servers": one.bootstrap}).list_topics(timeout=15).topics
    naming = {
        name.removeprefix(one.prefix): named_in(
            b"\n".join(m.value() or b"" for m in read_all(one.bootstrap, name)), values
        )
        for name in topics
        if name.startswith(one.prefix)
    }
    assert {name for name, found in naming.items() if found} <= {name for name in naming if name.startswith("raw.")}
    assert naming["raw.mqtt"] and {"config", "events", "state", "threats", "evidence"} <= naming.keys()
    logs = b"".join(file.read_bytes() for file in one.folder.glob("*.log"))
    assert logs and named_in(logs, values) == []
    messages = {
        m.value() for name in topics if name.startswith(f"{one.prefix}raw.") for m in read_all(one.bootstrap, name)
    }
    first = next(kept.evidence())
    opened = Locker(vault).open(first.event, first.payload)
    assert opened in messages
    left = without(opened, dict.fromkeys(values, "tok-gone"))
    kept.replace({first.event: Locker(vault).seal(first.event, left)})
    again = next(row for row in kept.evidence() if row.event == first.event)
    assert Locker(vault).open(first.event, again.payload) == left
