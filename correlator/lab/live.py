"""`make live`: the whole system on one machine, started natively under one supervisor.

Starts Kafka and Mosquitto, then the services as the containers start them (the same commands, one process
each), plays a scenario with the simulator, and prints threats as they appear. A service that ends is started
again, as a container would be, and given up after a few times. Everything ends with the supervisor.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from confluent_kafka import Consumer, KafkaException, TopicPartition

from correlator.clock import local
from correlator.console.users import User, Users
from correlator.errors import UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.lab.background import background
from correlator.lab.brokers import KAFKA_VERSION, KafkaBroker, MosquittoBroker, free_port, missing_programs
from correlator.lab.simulate import MQTT_TOPIC, KafkaPath, MqttPath, Played, Player, paths_of
from correlator.run.account import account
from correlator.run.expect import check, load_expect
from correlator.run.linking import save_baseline, usual
from correlator.run.partition import OFFSET
from correlator.run.replay import scenario_rules
from correlator.run.scenario import PACK, Scenario, load_scenario
from correlator.stream.state import read_topic, whole
from correlator.stream.topics import EVENTS

Write = Callable[[str], object]

# Name -> command, in the order of starting; docker-compose.yml has the same.
SERVICES: Final[dict[str, tuple[str, ...]]] = {
    "bridge": ("bridge", "run"),
    "ingest": ("ingest",),
    "worker": ("worker",),
}
# Beside them: pages to look at it all, on this machine only.
CONSOLE: Final = ("console", "run", "--state", "console-state")
PERSON: Final = "analyst"
BASELINE: Final = "rates.baseline"
PLAY_S: Final = 60.0  # how long a scenario takes to play, unless a speed is given
_READY_S: Final = 180.0
_STOP_S: Final = 20.0
_RESTARTS: Final = 5
_RESTART_AFTER_S: Final = 1.0
_WORK_OFF_S: Final = 300.0
_LOG_TAIL: Final = 12
_INTERRUPTED: Final = 130


class Service:
    """One of our processes, restarted when it ends by itself."""

    def __init__(self, name: str, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.command = [sys.executable, "-m", "correlator", *arguments, "--config", str(folder / "correlator.yaml")]
        self.log = folder / f"{name}.log"
        self.restarts = 0
        self._environment = {**os.environ, **environment}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._from_byte = 0

    def start(self) -> None:
        """Starts it; `ready` says when it works."""
        self._from_byte = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends them in order
            )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it has said that it works since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._from_byte)
            return b'"what": "ready"' in log.read()

    def stop(self) -> None:
        """SIGTERM, and the hard way after a while."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-_LOG_TAIL:])


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What `correlator live` was asked. speed: None plays in about a minute; folder: None is a temporary one."""

    once: bool = False
    speed: float | None = None
    kafka_port: int = 0
    mqtt_port: int = 0
    folder: Path | None = None
    with_background: bool = True


def live_settings(scenario: Scenario, kafka: str, mqtt: tuple[str, int], folder: Path) -> dict[str, Any]:
    """correlator.yaml of a scenario's site on these brokers, as plain values."""
    said = yaml.safe_load((scenario.folder / "scenario.yaml").read_text(encoding="utf-8"))
    filters = [
        topic for one in scenario.inputs if one.carrier == "mqtt" for source in one.sources for topic in source.topics
    ]
    site: dict[str, Any] = {
        "site": str(scenario.site_file.resolve()),
        "rules": [PACK if one == PACK else str(Path(one).resolve()) for one in scenario.rules],
        "engine": {"lateness_ms": scenario.lateness_ms},
    }
    if scenario.overlay is not None:
        site["overlay"] = str(scenario.overlay.resolve())
    return {
        "sites": [site],
        "kafka": {"bootstrap": kafka},
        "topics": {"partitions": 1, "raw_partitions": 1},
        "bridge": {
            "id": "bridge",
            "mqtt": {"host": mqtt[0], "port": mqtt[1]},
            "routes": [{"topics": list(dict.fromkeys(filters)), "to": MQTT_TOPIC, "site": scenario.site_id}],
            "alive_file": str(folder / "bridge.alive"),
            "trust_sender_time": True,
        },
        "ingest": {"sources": list(_sources(scenario, said)), "trust_sender_time": True},
    }


def _sources(scenario: Scenario, said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The inputs of scenario.yaml as `ingest.sources`."""
    for one in said["inputs"]:
        for route in one.get("routes", [one]):
            source = {
                "input": MQTT_TOPIC if one["carrier"] == "mqtt" else f"raw.{one['name']}",
                "dialect": route["dialect"],
                "source": route.get("source", one["name"]),
                "site": scenario.site_id,
            }
            if "topics" in route:
                source["topics"] = [route["topics"]] if isinstance(route["topics"], str) else list(route["topics"])
            if "map" in route:
                source["map"] = str((scenario.folder / route["map"]).resolve())
            source |= {word: route[word] for word in ("settings", "clock") if word in route}
            yield source


class Live:
    """The running system. `run` does everything; `stop` may be set from a signal handler."""

    def __init__(self, folder: Path, options: LiveOptions, stop: threading.Event, write: Write) -> None:
        self.scenario = load_scenario(folder)
        self.options = options
        self.stop = stop
        self.write = write
        self.services: list[Service] = []
        self.threats: dict[str, dict[str, Any]] = {}
        self._last_lines: dict[str, str] = {}
        self._failure = ""
        self._played: Played | None = None

    def run(self) -> int:
        """0 when stopped, or (once) when the expectations hold; 1 when they do not. Raises UsageError."""
        if missing := missing_programs():
            raise UsageError("\n".join(missing))
        with ExitStack() as stack:
            folder = self._folder(stack)
            kafka = stack.enter_context(KafkaBroker(folder / "kafka", client_port=self.options.kafka_port))
            self.write(f"Kafka {KAFKA_VERSION}   {kafka.bootstrap}\n")
            mosquitto = stack.enter_context(MosquittoBroker(folder / "mosquitto", port=self.options.mqtt_port))
            self.write(f"Mosquitto     {mosquitto.address}\n")
            settings = live_settings(self.scenario, kafka.bootstrap, (mosquitto.host, mosquitto.port), folder)
            port, password = free_port(), secrets.token_urlsafe(12)
            settings["console"] = {"port": port, "users": "users.yaml"}
            if self.options.with_background:
                self._learn(settings["sites"][0], folder)
            Users(folder / "users.yaml").put(User(PERSON, "analyst"), password)
            file = folder / "correlator.yaml"
            file.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
            for arguments in (("topics", "create"), ("config", "apply")):
                self._command(arguments, file)
            stack.callback(self._stop_services)
            self._start_services(folder)
            self.write(f"console       http://localhost:{port} (name {PERSON}, password {password})\n")
            return self._watch(KafkaSettings(bootstrap=kafka.bootstrap), (mosquitto.host, mosquitto.port), stack)

    def _folder(self, stack: ExitStack) -> Path:
        if self.options.folder is not None:
            self.options.folder.mkdir(parents=True, exist_ok=True)
            return self.options.folder.resolve()
        folder = Path(tempfile.mkdtemp(prefix="correlator-live-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _learn(self, site: dict[str, Any], folder: Path) -> None:
        """Folds the scenario's history, so that linking speaks on the day that is played."""
        entries = usual(self.scenario, scenario_rules(self.scenario), background, None)
        if entries:
            save_baseline(entries, folder / BASELINE)
            site["linking"] = {"baseline": BASELINE}

    def _command(self, arguments: tuple[str, ...], file: Path) -> None:
        command = [sys.executable, "-m", "correlator", *arguments, "--config", str(file)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UsageError(f"correlator {' '.join(arguments)} failed\n{done.stdout}{done.stderr}".rstrip())

    # ---- services --------------------------------------------------------------------------------

    def _start_services(self, folder: Path) -> None:
        for name, arguments in {**SERVICES, "console": CONSOLE}.items():
            service = Service(name, arguments, folder, {"CORRELATOR_WORKER__DATA_DIR": str(folder / "worker")})
            self.services.append(service)
            service.start()
        until = time.monotonic() + _READY_S
        for service in self.services:
            while not service.ready and not self.stop.is_set():
                if not service.running:
                    raise UsageError(f"{service.name} ended while starting\n{service.tail()}")
                if time.monotonic() > until:
                    raise UsageError(f"{service.name} was not ready within {_READY_S:.0f} s\n{service.tail()}")
                time.sleep(0.05)
        self.write(f"running       {', '.join(one.name for one in self.services)}\n")

    def _stop_services(self) -> None:
        for service in self.services:
            service.stop()

    def _keep_running(self) -> None:
        """Starts again what has ended. Raises UsageError for what ends again and again."""
        for service in self.services:
            if service.running:
                continue
            if service.restarts >= _RESTARTS:
                raise UsageError(f"{service.name} ended {_RESTARTS + 1} times\n{service.tail()}")
            service.restarts += 1
            last = service.tail().splitlines()[-1:] or [""]
            self.write(f"{service.name} ended and is started again: {last[0]}\n")
            self.stop.wait(_RESTART_AFTER_S)
            service.start()

    # ---- play and watch --------------------------------------------------------------------------

    def _watch(self, kafka: KafkaSettings, mqtt: tuple[str, int], stack: ExitStack) -> int:
        scenario = self.scenario
        mqtt_path, kafka_path = MqttPath(*mqtt), KafkaPath(kafka, scenario)
        stack.callback(mqtt_path.close)
        first_ms = next((one.received_ms for *_, one in scenario.read()), scenario.until_ms)
        speed = self.options.speed or max((scenario.until_ms - first_ms) / 1000 / PLAY_S, 1.0)
        player = Player(scenario, paths_of(scenario, mqtt_path, kafka_path), speed=speed)
        self.write(f"playing       {scenario.name}, {speed:,.0f} times as fast as it happened\n\n")
        thread = threading.Thread(target=self._play, args=(player,), name="player", daemon=True)
        thread.start()
        reader = _reader(kafka)
        stack.callback(reader.close)
        stack.callback(thread.join, _STOP_S)
        stack.callback(self.stop.set)
        done_until = 0.0
        while not self.stop.is_set():
            self._tell_new(reader)
            self._keep_running()
            if self._failure:
                raise UsageError(self._failure)
            if self._played is None or not self.options.once:
                continue
            done_until = done_until or time.monotonic() + _WORK_OFF_S
            if self._worked_off(kafka):
                self._tell_new(reader, wait_s=1.0)
                return self._verdict(self._played)
            if time.monotonic() > done_until:
                raise UsageError(f"the system has not worked off the scenario {_WORK_OFF_S:.0f} s after its end")
        self._accounts()
        return _INTERRUPTED if self.options.once else 0

    def _play(self, player: Player) -> None:
        try:
            played = player.play(self.stop, with_background=self.options.with_background)
        except UsageError as error:
            self._failure = str(error)
        else:
            if not self.stop.is_set():
                self._played = played

    def _tell_new(self, reader: Consumer, wait_s: float = 0.25) -> None:
        for message in reader.consume(100, timeout=wait_s):
            value = message.value()
            if message.error() is not None or value is None:
                continue
            threat: dict[str, Any] = msgspec.json.decode(value)
            known = self.threats.get(threat["id"])
            self.threats[threat["id"]] = threat
            line = _line(threat, known, self.scenario)
            if line != self._last_lines.get(threat["id"]):  # a revision may say what only its account shows
                self._last_lines[threat["id"]] = line
                self.write(f"{line}\n")

    def _worked_off(self, kafka: KafkaSettings) -> bool:
        """Whether everything sent is taken in, and the outputs of all of it are committed."""
        try:
            return _taken_in(kafka, self.scenario) and _folded(kafka) and _taken_in(kafka, self.scenario)
        except KafkaException:
            return False  # a broker that was just stopped and started: ask again

    def _verdict(self, played: Played) -> int:
        self._accounts()
        self.write(f"{played.messages} messages played\n")
        if not self.scenario.expect_file.exists():
            self.write("no expect.yaml: nothing to compare with\n")
            return 0
        told = [one for one in self.threats.values() if one["phase"] != "merged"]
        problems = check(load_expect(self.scenario.expect_file), told)
        for problem in problems:
            self.write(f"not as expected: {problem}\n")
        if not problems:
            self.write("all expectations hold\n")
        return 1 if problems else 0

    def _accounts(self) -> None:
        told = [one for one in self.threats.values() if one["phase"] != "merged"]
        told.sort(key=lambda one: (one["first_ms"], one["id"]))
        self.write("\n")
        for threat in told:
            self.write("\n".join(account(threat, self.scenario.zone)) + "\n")


def _line(threat: Mapping[str, Any], known: Mapping[str, Any] | None, scenario: Scenario) -> str:
    """One revision in one line: when, how bad, what, and what is new about it."""
    at = f"{local(threat['last_ms'], scenario.zone):%H:%M:%S}"
    what = f"{at}  {threat['severity'].upper():8}  {threat['title']}"
    told = [f"{len(threat.get('members', ()))} events"]
    if known is None:
        told.insert(0, "new")
    elif threat["phase"] != known["phase"]:
        told.append(f"{known['phase']} -> {threat['phase']}")
    if known is not None and threat["severity"] != known["severity"]:
        told.append(f"was {known['severity']}")
    return f"{what} ({', '.join(told)})"


def _reader(kafka: KafkaSettings) -> Consumer:
    """Reads all of `threats`, committed records only."""
    reader = Consumer(
        kafka.client(
            group__id="correlator-live", enable__auto__commit=False, auto__offset__reset="earliest",
            isolation__level="read_committed",
        )
    )  # fmt: skip
    topic = kafka.topic("threats")
    partitions = reader.list_topics(topic, timeout=15).topics[topic].partitions
    reader.assign([TopicPartition(topic, one, 0) for one in sorted(partitions)])
    return reader


def _taken_in(kafka: KafkaSettings, scenario: Scenario) -> bool:
    """Whether ingest has stored positions behind all that the raw topics hold."""
    raw = sorted({MQTT_TOPIC if one.carrier == "mqtt" else f"raw.{one.name}" for one in scenario.inputs})
    reader = Consumer(kafka.client(group__id=f"{kafka.prefix}correlator-ingest", enable__auto__commit=False))
    try:
        ends = {at: reader.get_watermark_offsets(at, timeout=15)[1] for at in _partitions(reader, kafka, raw)}
        return all(one.offset >= ends[one] for one in reader.committed(list(ends), timeout=15) if ends[one])
    finally:
        reader.close()


def _partitions(reader: Consumer, kafka: KafkaSettings, names: list[str]) -> list[TopicPartition]:
    known = reader.list_topics(timeout=15).topics
    return [TopicPartition(kafka.topic(name), one) for name in names for one in known[kafka.topic(name)].partitions]


def _folded(kafka: KafkaSettings) -> bool:
    """Whether the outputs of every record of the log are committed."""
    reader = Consumer(kafka.client(group__id=f"{kafka.prefix}correlator-read", enable__auto__commit=False))
    try:
        ends = {
            at.partition: reader.get_watermark_offsets(at, timeout=15)[1] for at in _partitions(reader, kafka, [EVENTS])
        }
    finally:
        reader.close()
    for partition, end in ends.items():
        if not end:
            continue
        entries, _ = whole(read_topic(kafka, "state", partition))
        if OFFSET not in entries or msgspec.msgpack.decode(entries[OFFSET]) < end - 1:
            return False
    return True
