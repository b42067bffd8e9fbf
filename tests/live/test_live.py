"""`correlator live` and `correlator simulate` as a person runs them: one command, the whole system, its threats."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.raw import from_headers
from correlator.lab.brokers import free_port
from correlator.lab.simulate import KafkaPath
from correlator.run.scenario import load_scenario
from tests.brokers.fixtures import read_all

ROOT = Path(__file__).resolve().parents[2]


def correlator(*arguments: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "correlator", *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more,
    )  # fmt: skip


def children_of(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if str(folder) in line and "pytest" not in line.split()[:3] and "correlator live" not in line:
                found.append(line)
    return found


def answers(port: int, until: float) -> bool:
    """Whether the console says that it is ready, in time."""
    while time.monotonic() < until:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            time.sleep(0.2)
    return False


def test_the_vaccine_theft_is_found_through_mqtt_and_kafka(tmp_path):
    process = correlator("live", "vaccine-theft", "--once", "--no-background", "--speed", "4000x",
                         "--folder", str(tmp_path / "live"))  # fmt: skip
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert "all expectations hold" in said
    assert "<inputs/access.ndjson:" in said
    assert "CRITICAL" in said
    assert children_of(tmp_path / "live") == []


def test_ctrl_c_ends_everything(tmp_path):
    folder = tmp_path / "live"
    process = correlator("live", "fire-drill", "--no-background", "--folder", str(folder), start_new_session=True)
    until = time.monotonic() + 200
    logs = [folder / "worker.log", folder / "console.log"]
    while not all(log.exists() and '"what": "ready"' in log.read_text() for log in logs):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.2)
    assert len(children_of(folder)) == 6  # two brokers, three services, the console
    assert answers(yaml.safe_load((folder / "correlator.yaml").read_text())["console"]["port"], until)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert children_of(folder) == []


def test_a_port_in_use_is_said(tmp_path):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        process = correlator("live", "--kafka-port", str(port), "--folder", str(tmp_path / "live"))
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"port {port} is in use; Kafka cannot start there" in said
    assert "Traceback" not in said


# ---- the simulator ---------------------------------------------------------------------------------------


def test_logs_are_played_with_their_times_places_and_promises(kafka, topics, unique):
    scenario = load_scenario(ROOT / "scenarios/vaccine-theft")
    lines = [one for one in scenario.inputs if one.carrier == "lines"]
    for one in lines:
        topics(f"raw.{one.name}")
    path = KafkaPath(KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{unique}."), scenario)
    wanted = {one.name: [] for one in lines}
    for name, _, _, message in scenario.read():
        if name in wanted:
            path.send(name, message)
            wanted[name].append((message.payload, message.received_ms, message.origin, message.line, message.channel))
    path.promise(wanted, 123)
    path.flush()
    for name, sent in wanted.items():
        found = [
            from_headers(one.headers(), one.value() or b"", input=name, offset=0, channel="", received_ms=0, raw="")
            for one in read_all(kafka.bootstrap, f"{unique}.raw.{name}")
        ]
        got = [one.message for one in found[:-1]]
        assert [(m.payload, m.received_ms, m.origin, m.line, m.channel) for m in got] == sent
        assert [one.tick_ms for one in found] == [-1] * len(sent) + [123]
        assert {one.site for one in found} == {scenario.site_id}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mqtt", "127.0.0.1:1"], "no MQTT broker at 127.0.0.1:1"),
        (["--kafka", "localhost"], "'localhost' is not host:port"),
        ([], "needs --mqtt"),
    ],
)
def test_a_simulation_that_cannot_be_played_says_why(arguments, says):
    process = correlator("simulate", "vaccine-theft", *arguments)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert says in said
    assert "Traceback" not in said
