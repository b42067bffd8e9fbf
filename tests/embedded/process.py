"""`correlator run --embedded` as users start it, and a sender that plays a scenario into it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Queue
from typing import Any, Self

import yaml

from correlator.ingest.raw import TICK_MS, to_headers
from correlator.lab.brokers import MosquittoBroker, free_port
from correlator.run.scenario import Scenario
from correlator.sources import Message
from tests.ingest.carried import baseline_of

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef0123"
WAITING_REQUESTS = 20  # of a webhook, not yet answered


def settings_of(one: Scenario, mosquitto: MosquittoBroker | None, http_port: int, **embedded: Any) -> dict[str, Any]:
    """correlator.yaml of a scenario: MQTT over the broker, every log as a webhook, the sender's time trusted."""
    said = yaml.safe_load((one.folder / "scenario.yaml").read_text())
    sources, topics, hooks = [], [], []
    for given in said["inputs"]:
        lines = given["carrier"] == "lines"
        for route in [given] if lines else given["routes"]:
            source = {
                "input": given["name"] if lines else "raw.mqtt",
                "dialect": route["dialect"],
                "source": route.get("source", given["name"]),
                "clock": route.get("clock", {}),
            }
            if "map" in route:
                source["map"] = str(one.folder / route["map"])
            if "settings" in route:
                source["settings"] = route["settings"]
            if not lines:
                filters = route["topics"] if isinstance(route["topics"], list) else [route["topics"]]
                source["topics"] = filters
                topics += filters
            sources.append(source)
        if lines:
            hooks.append({"name": given["name"], "token": TOKEN, "max_body_bytes": 1_100_000})
    rules = [rule if rule == "pack" else str(one.folder / rule) for rule in said["rules"]]
    site: dict[str, Any] = {"site": str(one.site_file), "rules": rules, "engine": {"lateness_ms": one.lateness_ms}}
    if baseline := baseline_of(one):
        site["linking"] = {"baseline": str(baseline)}
    made: dict[str, Any] = {
        "sites": [site],
        "inputs": {"http_server": {"port": http_port}, "http": hooks, "trust_sender_time": True},
        "ingest": {"sources": sources, "trust_sender_time": True},
        "embedded": {"file": "log.sqlite3", **embedded},
    }
    if mosquitto is not None:
        made["bridge"] = {
            "id": "embedded-test",
            "mqtt": {"port": mosquitto.port},
            "trust_sender_time": True,
            "routes": [{"topics": topics, "site": one.site_id}],
        }
    return made


class EmbeddedProcess:
    """One process on one folder; started, killed and started again."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.file = folder / "log.sqlite3"
        self.out = folder / "out.ndjson"
        self.errors = folder / "log.ndjson"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "correlator.yaml").write_text(yaml.safe_dump(settings))
        self._bridged = "bridge" in settings
        self._process: subprocess.Popen[bytes] | None = None
        self._ready_before = 0

    def start(self, *, ready: bool = True) -> EmbeddedProcess:
        self._ready_before = len(self.said("ready", part="embedded"))
        with self.out.open("ab") as out, self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "correlator", "run", "--embedded", "--json", "-c", str(self.folder / "correlator.yaml")],
                cwd=ROOT, stdout=out, stderr=errors, env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        if ready:
            wait(lambda: self.ready() or self.ended(), 60)
            assert not self.ended(), self.errors.read_text()
        return self

    def ready(self) -> bool:
        """Whether it has said so since it was started."""
        return len(self.said("ready", part="embedded")) > self._ready_before

    def supervise(self, seconds: float = 60) -> None:
        """Waits until it is ready; where it ends before (the disk is still full), it is started again."""
        until = time.monotonic() + seconds
        while not self.ready():
            assert time.monotonic() < until, self.errors.read_text()
            if self.ended():
                self.start(ready=False)
            time.sleep(0.05)

    def ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self, seconds: float = 30) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def said(self, what: str, part: str = "") -> list[dict[str, Any]]:
        """Log lines of one kind."""
        found = []
        for line in self.errors.read_text().splitlines() if self.errors.exists() else []:
            if f'"{what}"' in line:
                told = json.loads(line)
                if told.get("what") == what and (not part or told["part"] == part):
                    found.append(told)
        return found

    def __enter__(self) -> Self:
        self.start()
        if self._bridged:
            # Mosquitto keeps for a session what is published after its first subscription, nothing before.
            wait(lambda: bool(self.said("ready", part="bridge")), 60)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


class WebhookPath:
    """Sends a scenario's logs to the webhooks, one request a message, again and again until it is answered 202.

    Each log has a sender of its own, which keeps its order, as different devices would.
    repeated: messages that were given again because the answer to the first time never came.
    """

    def __init__(self, port: int, stop: threading.Event) -> None:
        self._port = port
        self._stop = stop
        self._senders: dict[str, Queue[tuple[bytes, dict[str, str]] | None]] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._failed: BaseException | None = None
        self.repeated = 0

    def send(self, name: str, message: Message) -> None:
        headers = {key: value.decode() for key, value in to_headers(message, site="", receiver="")}
        self._post(name, message.payload, headers)

    def promise(self, names: Iterable[str], at_ms: int) -> None:
        for name in names:
            self._post(name, b"", {TICK_MS: str(at_ms)})

    def flush(self) -> None:
        """Returns when everything was answered, or all has stopped."""
        for waiting in self._senders.values():
            waiting.join()
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        for waiting in self._senders.values():
            waiting.put(None)

    def _post(self, name: str, body: bytes, headers: dict[str, str]) -> None:
        self._number += 1
        headers |= {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": str(self._number)}
        if name not in self._senders:
            self._senders[name] = Queue(WAITING_REQUESTS)
            threading.Thread(target=self._run, args=(name, self._senders[name]), daemon=True).start()
        self._senders[name].put((body, headers))

    def _run(self, name: str, waiting: Queue[tuple[bytes, dict[str, str]] | None]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while (request := waiting.get()) is not None:
            try:
                self._give(connection, name, *request)
            except BaseException as error:  # noqa: BLE001 - raised again by flush
                self._failed = error
            waiting.task_done()
        connection.close()

    def _give(
        self, connection: http.client.HTTPConnection, name: str, body: bytes, headers: dict[str, str]
    ) -> None:  # fmt: skip
        given_before = False
        while not self._stop.is_set():
            try:
                connection.request("POST", f"/v1/{name}", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 202:
                    with self._lock:
                        self.repeated += given_before
                    return
                assert answer.status in (429, 503), (answer.status, name)
            except (OSError, http.client.HTTPException) as error:
                given_before |= not isinstance(error, ConnectionRefusedError)
                connection.close()
            time.sleep(0.05)


class Tmpfs:
    """A small file system of its own, so that its disk can be full."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._run("mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m", "tmpfs", str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._run("umount", "-l", str(self.folder))

    def fill(self) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def free(self, megabytes: int) -> None:
        (self.folder / "ballast").unlink()
        self._run("mount", "-o", f"remount,size={megabytes}m", str(self.folder))

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True)


def wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


__all__ = ["EmbeddedProcess", "Tmpfs", "WebhookPath", "free_port", "settings_of", "wait"]
