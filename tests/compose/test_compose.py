"""docker-compose.yml, without Docker: every service of ours is started natively as it is written there.

Command, environment, ports, health check and order come from the file; only names of hosts become addresses of
this machine, container ports become free ones, and paths in the container become paths here.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path

import paho.mqtt.publish as publish
import pytest
import yaml

from correlator.config.privacy import new_key
from correlator.config.secure import Authority
from correlator.lab.brokers import KAFKA_VERSION, KafkaBroker, MosquittoBroker, free_port, kafka_jars
from correlator.lab.live import SERVICES
from tests.brokers.fixtures import read_all

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in COMPOSE.items() if "build" in service}
PORT = re.compile(r"\b(91\d\d|5514|8443)\b")


def in_order() -> list[str]:
    """Our services, each after those it depends on."""
    needs = {name: set(service.get("depends_on", ())) for name, service in COMPOSE.items()}
    return [name for name in TopologicalSorter(needs).static_order() if name in OURS]


class Machine:
    """Where the containers' names, ports and paths are on this machine."""

    def __init__(self, folder: Path, kafka: KafkaBroker, mosquitto: MosquittoBroker, *, tokens: bool = False) -> None:
        self.folder, self.tokens = folder, tokens
        self.config = folder / "etc"
        shutil.copytree(ROOT / "deploy/config", self.config)
        for name in ("correlator", "keys", "vault"):
            (folder / f"volume-{name}").mkdir(mode=0o700)
        self.hosts = {"kafka:9092": kafka.bootstrap, "mosquitto": mosquitto.host, "1883": str(mosquitto.port)}
        self.ports: dict[str, str] = {}
        text = (self.config / "correlator.yaml").read_text()
        if tokens:  # topics of their own: those of the other run hold people as they are
            text = text.replace("\n# privacy:", "\nprivacy:") + "kafka: {prefix: tokens.}\n"
        assert ("\nprivacy:" in text) == tokens
        (self.config / "correlator.yaml").write_text(text)
        (self.config / "users.yaml").write_text("users: []\n")
        certificate, key = Authority.new().issue("localhost", ["localhost"])
        (self.config / "tls").mkdir()
        (self.config / "tls/console.crt").write_bytes(certificate)
        (self.config / "tls/console.key").write_bytes(key)

    def native(self, text: str) -> str:
        if text in self.hosts:
            return self.hosts[text]
        return PORT.sub(lambda found: self.ports.setdefault(found[0], str(free_port())), text).replace(
            "/tmp/", f"{self.folder}/tmp-"
        )

    def mounted(self, service: dict, text: str) -> str:
        """Paths in a container become those of its volumes here; what it does not mount is nowhere."""
        volumes = [volume.split(":")[:2] for volume in service["volumes"]]
        there = {to: str(self.folder / f"volume-{name}") for name, to in volumes if not name.startswith("./")}
        for path in ("/var/lib/correlator-keys", "/var/lib/correlator-vault", "/var/lib/correlator"):
            text = text.replace(path + "/", there.get(path, "/nowhere") + "/")
        return text

    def settings(self, name: str, service: dict) -> Path:
        """The folder that the service has as /etc/correlator."""
        folder = self.folder / f"etc-{name}"
        shutil.copytree(self.config, folder)
        file = folder / "correlator.yaml"
        file.write_text(self.mounted(service, self.native(file.read_text())))
        return folder

    def environment(self, service: dict) -> dict[str, str]:
        said = {
            name: self.mounted(service, self.native(str(value)))
            for name, value in service.get("environment", {}).items()
        }
        return {**os.environ, "PYTHONPATH": str(ROOT), **said}

    def command(self, service: dict) -> list[str]:
        words = (self.mounted(service, self.native(word)) for word in service["command"])
        return [sys.executable, "-m", "correlator", *words]

    def healthy(self, service: dict) -> bool:
        kind, *test = service["healthcheck"]["test"]
        assert kind == "CMD"
        test = [sys.executable if word == "python" else self.native(word) for word in test]
        return subprocess.run(test, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("tokens", [False, True], ids=["as written", "people as tokens"])
def test_every_service_starts_as_written_becomes_healthy_and_stops(tokens, kafka, mosquitto, tmp_path):
    machine = Machine(tmp_path, kafka, mosquitto, tokens=tokens)
    events = "tokens.events" if tokens else "events"
    if tokens:
        new_key(tmp_path / "volume-keys" / "k1", io.StringIO())
    running: dict[str, subprocess.Popen] = {}
    logs = {name: (machine.folder / f"{name}.log").open("wb") for name in OURS}
    try:
        for name in in_order():
            service = OURS[name]
            process = subprocess.Popen(
                machine.command(service), cwd=machine.settings(name, service), env=machine.environment(service),
                stdin=subprocess.DEVNULL, stdout=logs[name], stderr=logs[name],
            )  # fmt: skip
            running[name] = process
            if "healthcheck" not in service:
                assert process.wait(120) == 0, (machine.folder / f"{name}.log").read_text()
        for name, service in OURS.items():
            until = time.monotonic() + 120
            while "healthcheck" in service and not machine.healthy(service):
                assert running[name].poll() is None, (machine.folder / f"{name}.log").read_text()
                assert time.monotonic() < until, (machine.folder / f"{name}.log").read_text()
                time.sleep(0.2)
        publish.single(
            "zigbee2mqtt/contact-pharmacy", b'{"contact": false}', 1, hostname="127.0.0.1", port=mosquitto.port
        )
        until = time.monotonic() + 30
        while not any(b"d-pharmacy" in (one.value() or b"") for one in read_all(kafka.bootstrap, events)):
            assert time.monotonic() < until, "the message did not reach the log"
            time.sleep(0.2)
        assert (tmp_path / "volume-vault" / "vault.sqlite3").exists() == tokens
        for process in running.values():
            process.terminate()
        for name, process in running.items():
            assert process.wait(40) == 0, f"{name}\n" + (machine.folder / f"{name}.log").read_text()[-2000:]
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        for log in logs.values():
            log.close()


def test_brokers_are_the_tested_ones_with_the_files_that_run_natively():
    assert COMPOSE["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert COMPOSE["mosquitto"]["image"] == "eclipse-mosquitto:2.0.11"
    assert "./deploy/kafka/server.properties:/mnt/shared/config/server.properties:ro" in COMPOSE["kafka"]["volumes"]
    mounted = "./deploy/mosquitto/mosquitto.conf:/mosquitto/config/mosquitto.conf:ro"
    assert mounted in COMPOSE["mosquitto"]["volumes"]


def test_the_images_own_setup_takes_the_mounted_properties(tmp_path):
    mounted, defaults, final = (tmp_path / name for name in ("mounted", "defaults", "final"))
    for folder in (mounted, defaults, final):
        folder.mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (defaults / name).touch()
    text = (ROOT / "deploy/kafka/server.properties").read_text()
    (mounted / "server.properties").write_text(text.replace("/var/lib/kafka/data", str(tmp_path / "data")))
    done = subprocess.run(
        ["java", "-cp", f"{kafka_jars()}/*", "kafka.docker.KafkaDockerWrapper", "setup", "--default-configs-dir",
         str(defaults), "--mounted-configs-dir", str(mounted), "--final-configs-dir", str(final)],
        env={**os.environ, "CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data/meta.properties").exists()


def test_the_live_system_runs_the_same_commands():
    assert {name: tuple(COMPOSE[name]["command"]) for name in SERVICES} == SERVICES


def test_our_containers_may_do_as_little_as_they_need():
    for name, service in OURS.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert all(volume.endswith(":ro") for volume in service["volumes"] if volume.startswith("./")), name
    assert "\nUSER correlator\n" in (ROOT / "Dockerfile").read_text()


def test_every_port_that_is_published_is_one_that_a_service_listens_on():
    settings = yaml.safe_load((ROOT / "deploy/config/correlator.yaml").read_text())
    listening = {str(one["port"]) for one in settings["inputs"]["syslog"]} | {"1883", str(settings["console"]["port"])}
    published = {port.split("/")[0].split(":")[1] for one in COMPOSE.values() for port in one.get("ports", ())}
    assert published == listening
    for name, service in OURS.items():
        said = [str(value) for key, value in service.get("environment", {}).items() if key.endswith("HEALTH_PORT")]
        assert said == service.get("expose", []), name
