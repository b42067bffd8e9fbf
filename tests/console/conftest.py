"""Consoles as processes, two replicas where wanted, and browsers of people."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from correlator.lab.brokers import free_port
from tests.console.client import Browser
from tests.notifier.cases import THREATS

ROOT = Path(__file__).parents[2]


class House:
    """Threats, a journal, and consoles on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        (folder / "threats.ndjson").touch()

    def tell(self, *threats) -> None:
        with (self.folder / "threats.ndjson").open("ab") as file:
            for threat in threats:
                file.write(msgspec.json.encode(threat) + b"\n")

    def start(self, replica: str = "", port: int = 0) -> int:
        port = port or free_port()
        command = [sys.executable, "-m", "tests.console.house", str(self.folder), str(port), replica]
        process = subprocess.Popen(command, cwd=ROOT)
        self.processes[replica] = (process, port)
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the console did not start"
            assert time.monotonic() < end, "the console did not answer"
            try:
                if Browser(port).get("/health/ready").status == 200:
                    return port
            except OSError:
                time.sleep(0.05)

    def kill(self, replica: str = "") -> int:
        process, port = self.processes.pop(replica)
        process.kill()
        process.wait(10)
        return port

    def stop(self, replica: str = "") -> int:
        process, _ = self.processes.pop(replica)
        process.terminate()
        return process.wait(15)


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    for replica in list(made.processes):
        made.kill(replica)


@pytest.fixture(scope="module")
def open_house(tmp_path_factory):
    """One console for the tests of a module that only look, or look after themselves."""
    made = House(tmp_path_factory.mktemp("house"))
    made.tell(*THREATS.values())
    made.start()
    yield made
    for replica in list(made.processes):
        made.kill(replica)


@pytest.fixture(scope="module")
def browsers(open_house):
    """A logged-in browser of each role."""
    port = open_house.processes[""][1]
    told = {}
    for role in ("viewer", "operator", "analyst", "admin"):
        told[role] = Browser(port)
        assert told[role].login(f"p-{role}").status == 303
    return told


def until(held, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not held():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
