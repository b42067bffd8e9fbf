"""The notifier as people run it: a process, real peers, real time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from aiosmtpd.controller import Controller
from confluent_kafka import Producer

from correlator.embedded.log import EmbeddedLog, Turn
from correlator.journal.kafka import KafkaJournal
from correlator.journal.store import SqliteJournal
from correlator.lab.brokers import free_port
from correlator.run.rendering import Rendered
from tests.notifier.cases import HERE, THREATS
from tests.notifier.peers import webhook
from tests.notifier.test_channels import Mailbox

pytestmark = pytest.mark.xdist_group("brokers")
ROOT = Path(__file__).resolve().parents[2]
THREAT = THREATS["combined"]


def numbered(n: int):
    return msgspec.structs.replace(THREAT, id=f"{n:032x}")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "correlator", "notifier", *arguments]


@contextmanager
def running(*arguments: str):
    process = subprocess.Popen(
        command("run", *arguments), cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        said = process.communicate(timeout=30)[1].decode()
        assert process.returncode in (0, -9), said


def until(held, seconds: float = 60.0) -> float:
    began = time.monotonic()
    while not held():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def log(tmp_path):
    made = EmbeddedLog(tmp_path / "log.sqlite3", write=True)
    yield made
    made.close()


def tell(log, *threats) -> None:
    outputs = [Rendered("threats", b"k", msgspec.json.encode(one), ()) for one in threats]
    log.write(Turn(outputs=outputs, at_ms=1))


def test_a_threat_is_in_the_mailbox_within_five_seconds_and_one_can_ask_what_became_of_it(log, tmp_path):
    """Mails over SMTP, the heartbeat while it runs, the receipts and an approved warning, with one process."""
    box, folder = Mailbox(), str(tmp_path / "state")
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    with webhook() as pulse, webhook() as town:
        (tmp_path / "correlator.yaml").write_text(
            f"sites: [{{site: {HERE / 'site.yaml'}}}]\n"
            "notifier:\n"
            "  receivers:\n"
            f"    - {{name: guard, url: 'mailto://127.0.0.1:{controller.port}?from=c@h.example&to=g@h.example&mode=insecure'}}\n"
            f"    - {{name: town, url: 'json://127.0.0.1:{town.port}/'}}\n"
            "  routes: {receivers: [guard]}\n"
            "  warnings: {approvers: [p-001], receivers: [town], sender: security@h.example}\n"
            f"  heartbeats: [{{kind: http, url: 'http://127.0.0.1:{pulse.port}/alive', every_s: 0.2}}]\n"
        )
        config = ["--config", str(tmp_path / "correlator.yaml")]
        try:
            with running(*config, "--embedded", str(log.file), "--state", folder):
                tell(log, numbered(0))
                until(lambda: box.mails)  # the process starts
                took_s = []
                for n in range(1, 6):
                    tell(log, numbered(n))
                    took_s.append(until(lambda n=n: len(box.mails) == n + 1))
                print(f"threat to mailbox: {max(took_s):.2f} s at most")
                assert max(took_s) < 5
                until(lambda: len(pulse.got) > 2)
                call = command("warn", f"{3:032x}", *config, "--embedded", str(log.file), "--state", folder)
                draft = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
                assert "<status>Draft</status>" in draft.stdout
                wrong = subprocess.run(
                    [*call, "--approve", "p-002", "--why", "gas"], cwd=ROOT, capture_output=True, text=True, check=False
                )
                assert (wrong.returncode, "p-002 may not approve" in wrong.stderr) == (2, True)
                assert town.got == []
                subprocess.run([*call, "--approve", "p-001", "--why", "gas"], cwd=ROOT, capture_output=True, check=True)
                until(lambda: town.got)
                assert b"<status>Actual</status>" in town.got[0][2]
        finally:
            controller.stop()
        beats = len(pulse.got)
        time.sleep(0.5)
        assert len(pulse.got) == beats  # nobody is told that alerting lives when it does not
    status = subprocess.run(command("status", "--state", folder), cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in status.stdout.splitlines()] == ["sent"] * 7
    assert status.stderr == "0 due, 7 sent, 0 failed, 0 dropped\n"
    journal = SqliteJournal(log.file.with_name(log.file.name + ".actions"))
    assert [act.verb for _, act in journal.read(-1)].count("warn") == 1


def test_of_two_notifiers_one_sends_and_when_it_dies_the_other_goes_on(kafka, topics, unique, tmp_path):
    topics("threats")
    topics("console.actions", partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})

    def publish(*numbers: int) -> None:
        for n in numbers:
            producer.produce(f"{unique}.threats", msgspec.json.encode(numbered(n)), f"{n:032x}".encode())
        assert producer.flush(15) == 0

    journal = KafkaJournal({"bootstrap.servers": kafka.bootstrap}, topic=f"{unique}.console.actions")
    with webhook() as peer, closing(journal):
        (tmp_path / "correlator.yaml").write_text(
            f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: '{unique}.'}}\n"
            f"sites: [{{site: {HERE / 'site.yaml'}}}]\n"
            f"notifier: {{receivers: [{{name: guard, url: 'json://127.0.0.1:{peer.port}/'}}], routes: {{receivers: [guard]}}}}\n"
        )
        config = ["--config", str(tmp_path / "correlator.yaml")]
        with running(*config, "--state", str(tmp_path / "a")) as first:
            publish(*range(5))
            until(lambda: len(peer.got) == 5)
            with running(*config, "--state", str(tmp_path / "b")):
                until(lambda: (tmp_path / "b/outbox.db").exists())
                publish(5)
                until(lambda: len(list(journal.read(-1))) == 6)  # nothing is in flight when it is killed
                first.kill()
                publish(6, 7)
                until(lambda: len(peer.got) >= 8)
        keys = [headers["Idempotency-Key"] for _, headers, _ in peer.got]
    assert sorted(set(keys)) == [f"{n:032x}.first.guard.0" for n in range(8)]
    assert len(keys) == 8
