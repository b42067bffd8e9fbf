"""The embedded carrier as a process, on a real Mosquitto and real webhooks: killed, filled up, left alone."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from correlator.embedded import EmbeddedLog
from correlator.embedded.reading import LogOfFile
from correlator.events.threat import Threat
from correlator.lab.brokers import MosquittoBroker
from correlator.lab.simulate import MqttPath, Player, paths_of
from correlator.run.scenario import Scenario
from tests.ingest.carried import replayed, scenario, told

from .feeding import threats_of
from .process import TOKEN, EmbeddedProcess, Tmpfs, WebhookPath, free_port, settings_of, wait


class Playing:
    """A scenario on its way into a process, in a thread."""

    def __init__(self, one: Scenario, mosquitto: MosquittoBroker, http_port: int, background: bool) -> None:
        self.stop = threading.Event()
        self.hooks = WebhookPath(http_port, self.stop)
        self._mqtt = MqttPath("127.0.0.1", mosquitto.port)
        self._player = Player(one, paths_of(one, self._mqtt, self.hooks), tick_ms=3_600_000)
        self._thread = threading.Thread(target=self._play, args=(background,))
        self.error: BaseException | None = None

    def _play(self, background: bool) -> None:
        try:
            self._player.play(self.stop, with_background=background)
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self.error = error

    def start(self) -> None:
        self._thread.start()

    def playing(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        over = not self._thread.is_alive()
        self.stop.set()
        self._thread.join(30)
        self._mqtt.close()
        self.hooks.close()
        assert over, "the scenario is still playing"
        if self.error is not None:
            raise self.error


REPLAYED = cache(lambda name: replayed(scenario(name)))


def told_by(process: EmbeddedProcess) -> list[bytes]:
    log = EmbeddedLog(process.file, write=False)
    try:
        return threats_of(log)
    finally:
        log.close()


@pytest.fixture
def mosquitto(tmp_path: Path):
    with MosquittoBroker(tmp_path / "mosquitto") as broker:
        yield broker


def kills(folder: Path, mosquitto: MosquittoBroker, count: int, seed: int, *, background: bool) -> dict[str, int]:
    """Plays the vaccine theft while the process is killed `count` times; threats must be the replay's."""
    one = scenario("vaccine-theft")
    port = free_port()
    process = EmbeddedProcess(folder, settings_of(one, mosquitto, port))
    dice = random.Random(seed)
    with process:
        playing = Playing(one, mosquitto, port, background)
        playing.start()
        for _ in range(count):
            time.sleep(dice.uniform(0.05, 1.2))
            process.kill()
            process.start(ready=dice.random() < 0.5)
        playing.join(300)
        wait(lambda: len(told_by(process)) >= len(REPLAYED(one.name)), 60)
        process.supervise()  # one that is still starting would end by the signal and not in order
        assert process.stop() == 0
    assert told_by(process) == REPLAYED(one.name)
    return {"kills": count, "repeated requests": playing.hooks.repeated}


def test_the_vaccine_theft_over_mqtt_and_webhooks_tells_the_replays_threats_byte_for_byte(tmp_path, mosquitto):
    one = scenario("vaccine-theft")
    port = free_port()
    with EmbeddedProcess(tmp_path / "site", settings_of(one, mosquitto, port)) as process:
        playing = Playing(one, mosquitto, port, background=False)
        playing.start()
        playing.join(120)
        wait(lambda: len(told_by(process)) >= len(REPLAYED(one.name)), 60)
        assert process.stop() == 0
        assert told_by(process) == REPLAYED(one.name)
        printed = [msgspec.json.decode(line, type=Threat) for line in process.out.read_bytes().splitlines()]
        assert [told(threat) for threat in printed] == REPLAYED(one.name)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_any_moment_it_loses_nothing_and_tells_nothing_twice(tmp_path, mosquitto, seed):
    kills(tmp_path / "site", mosquitto, 2, seed, background=False)


def test_an_absence_is_told_while_nothing_arrives_any_more_and_an_idle_site_writes_next_to_nothing(tmp_path):
    here = Path(__file__).parent / "silence"
    port = free_port()
    settings = {
        "sites": [{"site": str(here / "site.yaml"), "rules": [str(here / "rules")]}],
        "inputs": {"http_server": {"port": port}, "http": [{"name": "ping", "token": TOKEN}]},
        "ingest": {"sources": [{"input": "ping", "dialect": "mapped", "map": str(here / "map.yaml")}]},
        "embedded": {"file": "log.sqlite3", "health_port": free_port()},
    }
    with EmbeddedProcess(tmp_path / "site", settings) as process:
        at = f"http://127.0.0.1:{settings['embedded']['health_port']}"
        assert [urlopen(f"{at}/{one}").status for one in ("live", "ready")] == [200, 200]
        hooks = WebhookPath(port, threading.Event())
        now = datetime.now(UTC).isoformat()
        hooks._post("ping", b'{"time": "%s", "status": "unreachable", "host": "ws-1"}' % now.encode(), {})
        hooks.flush()
        hooks.close()
        started = time.monotonic()
        wait(lambda: b"Host stays away" in process.out.read_bytes(), 60)
        assert time.monotonic() - started > 4.5, "three seconds of silence and two of lateness"
        log = EmbeddedLog(process.file, write=False)
        time.sleep(1)
        scraped = urlopen(f"{at}/metrics").read().decode()
        assert 'correlator_received_total{input="ping"} 1.0' in scraped
        assert 'correlator_matches_total{rule="0d0e9f2a-6a0a-4f6c-9d69-1c1b8a6d0003",site="h1"} ' in scraped
        records = log.counts()["events"]
        time.sleep(3)
        assert log.counts()["events"] - records <= 2
        log.close()
        assert process.stop() == 0


def test_a_followed_file_gives_every_line_once_through_rotation_and_kills(tmp_path):
    here = Path(__file__).parent / "silence"
    file = tmp_path / "ping.ndjson"
    settings = {
        "sites": [{"site": str(here / "site.yaml"), "rules": [str(here / "rules")]}],
        "inputs": {"files": [{"name": "ping", "path": str(file), "poll_ms": 10}]},
        "ingest": {"sources": [{"input": "raw.ping", "dialect": "mapped", "map": str(here / "map.yaml")}]},
        "embedded": {"file": "log.sqlite3"},
    }
    start = datetime.now(UTC)

    def write(first: int, count: int) -> None:
        with file.open("a") as log:
            for n in range(first, first + count):
                at = (start + timedelta(milliseconds=n)).isoformat()
                log.write(f'{{"time": "{at}", "status": "reachable", "host": "ws-{n}"}}\n')

    file.touch()
    with EmbeddedProcess(tmp_path / "site", settings) as process:
        for part in range(3):
            write(part * 3000, 3000)
            time.sleep(0.1 + part * 0.1)
            process.kill()
            if part == 1:
                file.rename(file.with_name("ping.ndjson.1"))
                file.touch()
            process.start()
        wait(lambda: read(process)[0] == 9000, 60)
        assert process.stop() == 0
    count, payloads, events = read(process)
    assert (count, payloads, events) == (9000, 9000, 9000)


def read(process: EmbeddedProcess) -> tuple[int, int, int]:
    """Raw messages, different ones among them, and different events."""
    reader = LogOfFile(process.file)
    events = {event.id for _, record in reader.read() for event in record.events}
    reader.close()
    log = EmbeddedLog(process.file, write=False)
    raw = [log.raw(number) for number in range(1, log.next_raw)]
    log.close()
    return len(raw), len({one.message.payload for one in raw if one is not None}), len(events)


@pytest.mark.parametrize("killed", [False, True], ids=["waits", "killed while it waits"])
def test_a_full_disk_holds_up_the_receivers_and_loses_nothing(tmp_path, mosquitto, killed):
    one = scenario("vaccine-theft")
    port = free_port()
    site = tmp_path / "site"
    with Tmpfs(site, megabytes=2) as disk:
        process = EmbeddedProcess(site, settings_of(one, mosquitto, port))
        process.out, process.errors = tmp_path / "out.ndjson", tmp_path / "log.ndjson"
        with process:
            disk.fill()
            playing = Playing(one, mosquitto, port, background=False)
            playing.start()
            wait(lambda: bool(process.said("cannot_write")), 30)
            time.sleep(1.5)
            assert playing.playing()
            if killed:
                process.kill()
                process.start(ready=False)
                time.sleep(1)
            disk.free(megabytes=64)
            if killed:
                process.supervise()
            playing.join(120)
            wait(lambda: len(told_by(process)) >= len(REPLAYED(one.name)), 60)
            assert killed or process.said("can_write_again")
            assert process.stop() == 0
        assert told_by(process) == REPLAYED(one.name)
