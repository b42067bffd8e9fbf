"""A real Apache Kafka and a real Mosquitto as child processes, for `make live`, tests and benchmarks.

Kafka comes as jars by Maven (once, into a cache folder), Mosquitto from the system's packages. Both read
the files under deploy/ that the containers mount; only addresses, ports and data folders are set anew, so
what is tested here is what is deployed. A broker keeps port and data over stop() and start(), and ends with
the process that started it.

A missing program raises UsageError with the one line that installs it.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from correlator.data import folder as data_folder
from correlator.errors import UsageError

KAFKA_VERSION = "4.4.0"  # as in deploy/kafka/pom.xml and docker-compose.yml
MOSQUITTO_VERSION = "2.0"  # the series that is tested

INSTALL_JAVA = "apt-get install --yes --no-install-recommends openjdk-17-jre-headless maven"
INSTALL_MOSQUITTO = "apt-get install --yes --no-install-recommends mosquitto"

LOOPBACK = "127.0.0.1"
# Below the range from which the system takes ports of outgoing connections: a stopped broker finds its
# port free again, and a client that tries it meanwhile cannot be connected to itself.
_PORTS = range(20_000, 30_000)
_START_S = 120.0
_STOP_S = 20.0
_POLL_S = 0.05
_LOG_TAIL = 15

# For an empty broker on a busy machine: less to set up at start.
_KAFKA_NATIVE = {"num.recovery.threads.per.data.dir": "1", "log.cleaner.dedupe.buffer.size": "16777216"}


def free_port() -> int:
    """A port that nothing listens on now, outside the range of outgoing connections."""
    dice = random.SystemRandom()
    for _ in range(200):
        port = dice.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise UsageError(f"no free port between {_PORTS[0]} and {_PORTS[-1]}")


def port_is_open(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


class BrokerProcess(ABC):
    """A broker that this process started: start, stop, kill, and what its log said last."""

    name = "broker"

    def __init__(self, folder: Path, port: int, host: str) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What starts it in the foreground."""

    def _working_folder(self) -> Path:
        return self.folder

    def _ready(self) -> bool:
        return port_is_open(self.port)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> Self:
        """Starts the broker and returns when it accepts connections.

        Raises UsageError if a program is missing, the port is taken, or it ends or hangs while
        starting; the text ends with the last lines of its log.
        """
        if self.running:
            return self
        if port_is_open(self.port):
            raise UsageError(f"port {self.port} is in use; {self.name} cannot start there")
        command = self._command()
        with (self.folder / "stdout.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self._working_folder(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs Python in the child
            )  # fmt: skip
        until = time.monotonic() + _START_S
        while not self._ready():
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise UsageError(f"{self.name} ended with code {code} while starting\n{self.log()}")
            if time.monotonic() > until:
                self.kill()
                raise UsageError(f"{self.name} did not open port {self.port} within {_START_S:.0f} s\n{self.log()}")
            time.sleep(_POLL_S)
        return self

    def stop(self) -> None:
        """Ends it in order (SIGTERM), the hard way after 20 s; data stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once (SIGKILL), as a power cut would; data stays as it is on disk."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.process = None

    def log(self) -> str:
        """The last lines of what it wrote."""
        lines: list[str] = []
        for file in ("server.log", "stdout.log"):
            with suppress(OSError):
                lines += (self.folder / file).read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:]
        return "\n".join(lines)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class KafkaBroker(BrokerProcess):
    """One Kafka node (broker and controller) on loopback.

    folder      holds its data and logs; made if missing
    properties  the properties file to start from (default: deploy/kafka/server.properties); relative
                paths in it are relative to its folder
    settings    properties that are set beside or above those of the file
    users       SCRAM-SHA-512 users (name -> password) that exist before the first start
    client_port of the listener for clients; the controller takes one of its own. 0: a free one
    """

    name = "Kafka"

    def __init__(
        self,
        folder: Path,
        *,
        client_port: int = 0,
        host: str = LOOPBACK,
        properties: Path | None = None,
        settings: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        heap_mb: int = 384,
    ) -> None:
        super().__init__(folder.resolve(), client_port, host)
        self.controller_port = free_port()
        self.properties = (properties or data_folder("deploy") / "kafka" / "server.properties").resolve()
        self.settings = dict(settings or {})
        self.users = dict(users or {})
        self.heap_mb = heap_mb

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"{self.host}:{self.port}"

    def _working_folder(self) -> Path:
        return self.properties.parent

    def _command(self) -> Sequence[str]:
        java = _program("java", "Java 17", INSTALL_JAVA)
        jars = kafka_jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "server.properties"
        _write_properties(file, self._native())
        file.chmod(0o600)  # a secured broker's passwords stand in it
        logging = self.folder / "log4j2.properties"
        _write_properties(logging, {
            "rootLogger.level": "WARN", "rootLogger.appenderRef.f.ref": "F", "appender.f.type": "File",
            "appender.f.name": "F", "appender.f.fileName": str(self.folder / "server.log"),
            "appender.f.layout.type": "PatternLayout", "appender.f.layout.pattern": "%d %p %c{1}: %m%n",
        })  # fmt: skip
        base = [java, f"-Dlog4j2.configurationFile={logging}", "-Djava.awt.headless=true", "-XX:+UseSerialGC"]
        path = ["-cp", f"{jars}/*"]
        if not (self.folder / "data" / "meta.properties").exists():
            identity = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
            # With "=": every 64th id begins with "-", which would be taken for an option.
            format_ = ["kafka.tools.StorageTool", "format", f"--cluster-id={identity}", "-c", str(file)]
            for user, password in self.users.items():
                format_ += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
            done = subprocess.run(
                [*base, "-Xmx256m", "-XX:TieredStopAtLevel=1", *path, *format_],
                cwd=self._working_folder(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise UsageError(f"Kafka's storage cannot be formatted\n{done.stdout}{done.stderr}".rstrip())
        return [*base, f"-Xms{self.heap_mb}m", f"-Xmx{self.heap_mb}m", *path, "kafka.Kafka", str(file)]

    def _native(self) -> dict[str, str]:
        """The file's properties with this node's ports and folders."""
        found = read_properties(self.properties)
        controllers = found["controller.listener.names"].split(",")
        names = [entry.split("://")[0] for entry in found["listeners"].split(",")]
        at = {name: self.controller_port if name in controllers else self.port for name in names}
        found["listeners"] = ",".join(f"{name}://{self.host}:{port}" for name, port in at.items())
        found["advertised.listeners"] = ",".join(
            f"{name}://{self.host}:{port}" for name, port in at.items() if name not in controllers
        )
        found["controller.quorum.voters"] = f"{found['node.id']}@{self.host}:{self.controller_port}"
        found["log.dirs"] = str(self.folder / "data")
        return {**found, **_KAFKA_NATIVE, **self.settings}


class MosquittoBroker(BrokerProcess):
    """One Mosquitto on loopback.

    folder   holds its persistence and log; made if missing
    config   the file to start from (default: deploy/mosquitto/mosquitto.conf), with one listener;
             relative paths in it are relative to its folder
    options  option -> value that are set beside or above those of the file; None takes an option out
    """

    name = "Mosquitto"

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        config: Path | None = None,
        options: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__(folder.resolve(), port, host)
        self._log_from = 0
        self.config = (config or data_folder("deploy") / "mosquitto" / "mosquitto.conf").resolve()
        self.options = dict(options or {})

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{self.host}:{self.port}"

    def _working_folder(self) -> Path:
        return self.config.parent

    def _command(self) -> Sequence[str]:
        mosquitto = _program("mosquitto", "Mosquitto 2.0", INSTALL_MOSQUITTO)
        data = self.folder / "persistence"
        data.mkdir(parents=True, exist_ok=True)
        mine: dict[str, str | None] = {"persistence_location": f"{data}/", "log_dest": f"file {self.folder}/server.log"}
        if os.geteuid() == 0:
            mine["user"] = "root"  # it would become another user, who may not enter a private folder
        wanted = {**mine, **self.options}
        lines = [f"listener {self.port} {self.host}"]
        for line in self.config.read_text(encoding="utf-8").splitlines():
            words = line.split(maxsplit=1)
            if words and not line.startswith("#") and words[0] != "listener" and words[0] not in wanted:
                lines.append(line)
        lines += [f"{option} {value}" for option, value in wanted.items() if value is not None]
        self._log_from = self._log_size()
        file = self.folder / "mosquitto.conf"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [mosquitto, "-c", str(file)]

    def _ready(self) -> bool:
        # It listens before it has read its certificates, and may end then.
        with suppress(OSError), (self.folder / "server.log").open("rb") as log:
            log.seek(self._log_from)
            return b" running\n" in log.read()
        return False

    def _log_size(self) -> int:
        log = self.folder / "server.log"
        return log.stat().st_size if log.exists() else 0


# ---- programs and files ------------------------------------------------------------------------------


def missing_programs() -> list[str]:
    """What starting the brokers still needs, one line each with the command that installs it."""
    lines = []
    if _found("java") is None or _found("mvn") is None:
        lines.append(f"Kafka needs Java 17 and Maven: {INSTALL_JAVA}")
    if _found("mosquitto") is None:
        lines.append(f"Mosquitto is needed: {INSTALL_MOSQUITTO}")
    return lines


def kafka_jars() -> Path:
    """The folder with the broker's jars; fetched by Maven when it is not there (43 MB).

    In CORRELATOR_CACHE, else XDG_CACHE_HOME or ~/.cache, under correlator/. Several processes may ask
    at once. Raises UsageError.
    """
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(os.environ.get("CORRELATOR_CACHE") or Path(home) / "correlator")
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = _program("mvn", "Maven", INSTALL_JAVA)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        fetched = cache / f"kafka-{KAFKA_VERSION}.part"
        shutil.rmtree(fetched, ignore_errors=True)
        shutil.copy(data_folder("deploy") / "kafka" / "pom.xml", cache / "pom.xml")
        done = subprocess.run(
            [maven, "-B", "-ntp", "-q", "-f", str(cache / "pom.xml"), "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={fetched}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not fetched.is_dir():
            raise UsageError(f"Maven could not fetch Kafka {KAFKA_VERSION}\n{done.stdout[-2000:]}{done.stderr[-500:]}")
        fetched.rename(jars)
    return jars


def read_properties(path: Path) -> dict[str, str]:
    """Keys and values of a Java properties file of plain `key=value` lines."""
    entries = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in entries if not key.lstrip().startswith("#")}


def _write_properties(path: Path, entries: Mapping[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in entries.items()), encoding="utf-8")


def _found(program: str) -> str | None:
    # Debian keeps mosquitto where only root's PATH looks.
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def _program(program: str, what: str, install: str) -> str:
    found = _found(program)
    if found is None:
        raise UsageError(f"{what} is needed and there is no `{program}`; on Debian or Ubuntu: {install}")
    return found


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """In the child: asks the system to end it when the process that started it has gone."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
