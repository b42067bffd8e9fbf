"""`correlator inputs run` on a real Kafka: what is acknowledged is there, once, with its receive time."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from correlator.ingest.raw import LINE, RECEIVED_MS, SITE
from correlator.lab.brokers import free_port
from tests.brokers.fixtures import read_all

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef0123"


class Inputs:
    """The process, on a folder with its settings."""

    def __init__(self, folder: Path, kafka, prefix: str) -> None:
        self.folder = folder
        self.http, self.syslog = free_port(), free_port()
        self.log = folder / "log.ndjson"
        settings = {
            "kafka": {"bootstrap": kafka.bootstrap, "prefix": prefix, "unconfirmed_end_ms": 2_000},
            "inputs": {
                "files": [{"name": "eve", "site": "h1", "path": str(folder / "eve.json"), "poll_ms": 20}],
                "syslog": [{"name": "sys", "site": "h1", "protocol": "tcp", "port": self.syslog}],
                "http": [{"name": "nvr", "site": "h1", "token": TOKEN}],
                "http_server": {"port": self.http},
            },
        }
        (folder / "correlator.yaml").write_text(yaml.safe_dump(settings))
        self.process = None

    def start(self, *, ready: bool = True, module: str = "correlator"):
        before = self.log.read_text().count('"ready"') if self.log.exists() else 0
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", module, "inputs", "run", "-c", str(self.folder / "correlator.yaml")]
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, env=os.environ | {"PYTHONPATH": str(ROOT)})
        if ready:
            deadline = time.monotonic() + 60
            while self.log.read_text().count('"ready"') <= before:
                assert time.monotonic() < deadline, self.log.read_text()
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def post(self, body: bytes, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        connection.request("POST", "/v1/nvr", body, {"Authorization": f"Bearer {TOKEN}", **headers})
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture
def inputs(tmp_path, kafka, topics, unique):
    for name in ("raw.eve", "raw.sys", "raw.nvr"):
        topics(name)
    prefix = f"{unique}."
    made = Inputs(tmp_path, kafka, prefix)
    made.prefix = prefix
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait(10)


def records(kafka, inputs, name):
    return read_all(kafka.bootstrap, f"{inputs.prefix}raw.{name}")


def eventually(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_files_syslog_and_webhooks_reach_their_raw_topics(kafka, inputs):
    (inputs.folder / "eve.json").write_text("".join(f'{{"n": {n}}}\n' for n in range(1000)))
    inputs.start()
    assert inputs.post(b'{"a": 1}', **{"Idempotency-Key": "one"}) == 202
    assert inputs.post(b'{"a": 1}', **{"Idempotency-Key": "one"}) == 202
    with socket.create_connection(("127.0.0.1", inputs.syslog)) as sender:
        sender.sendall(b"9 <34>1 abc<34>def\n")
    eventually(lambda: len(records(kafka, inputs, "eve")) == 1000 and len(records(kafka, inputs, "sys")) == 2)
    assert inputs.stop() == 0
    lines = records(kafka, inputs, "eve")
    assert sorted(one.value() for one in lines) == sorted(b'{"n": %d}' % n for n in range(1000))
    headers = dict(lines[0].headers())
    assert (headers[SITE], lines[0].key()) == (b"h1", b"h1")
    assert headers[LINE].isdigit() and len(headers[RECEIVED_MS]) == 13
    assert [one.value() for one in records(kafka, inputs, "sys")] == [b"<34>1 abc", b"<34>def"]
    assert [one.value() for one in records(kafka, inputs, "nvr")] == [b'{"a": 1}']


def test_killed_while_it_sends_every_line_arrives_and_a_repeated_one_keeps_its_receive_time(kafka, inputs):
    file = inputs.folder / "eve.json"
    file.write_text("")
    inputs.start()
    for kill in range(3):
        with file.open("a") as log:
            log.writelines(f'{{"n": {n}}}\n' for n in range(kill * 4000, kill * 4000 + 4000))
        time.sleep(0.15 * (kill + 1))
        inputs.process.kill()
        inputs.process.wait(10)
        inputs.start()
    eventually(lambda: len({one.value() for one in records(kafka, inputs, "eve")}) == 12_000)
    assert inputs.stop() == 0
    times: dict[bytes, set[bytes]] = {}
    for one in records(kafka, inputs, "eve"):
        times.setdefault(one.value(), set()).add(dict(one.headers())[RECEIVED_MS])
    assert len(times) == 12_000
    assert [value for value, stamps in times.items() if len(stamps) > 1] == []


def test_told_to_stop_while_kafka_is_away_it_ends(tmp_path):
    made = Inputs(tmp_path, SimpleNamespace(bootstrap=f"127.0.0.1:{free_port()}"), "")
    made.start(ready=False)
    try:
        eventually(lambda: '"cannot_keep"' in made.log.read_text())
        assert made.stop() == 0
    finally:
        made.process.kill()
        made.process.wait()


def test_a_missing_topic_is_said_in_words(tmp_path, kafka):
    made = Inputs(tmp_path, kafka, "nothing-here-")
    made.start(ready=False)
    assert made.process.wait(60) == 2
    assert (
        "topic nothing-here-raw.eve: the topic does not exist; `correlator topics create` makes it"
        in made.log.read_text()
    )


def test_a_process_to_which_kafka_confirms_nothing_ends_and_the_next_one_sends_everything(inputs, kafka):
    inputs.start(module="tests.brokers.held")
    (inputs.folder / "eve.json").write_bytes(b'{"event_type":"stats"}\n')
    assert inputs.process.wait(60) == 2
    assert "does not confirm what this process writes" in inputs.log.read_text()
    inputs.start()
    eventually(lambda: records(kafka, inputs, "eve"))
    assert inputs.stop() == 0
    # What the first kept may leave with its end: then it is there twice, with one receive time, and is one event.
    kept = {(one.value(), dict(one.headers())[RECEIVED_MS]) for one in records(kafka, inputs, "eve")}
    assert len(kept) == 1
