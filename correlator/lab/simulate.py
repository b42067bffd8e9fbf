"""`correlator simulate`: plays a scenario's messages into the brokers, as its devices would have sent them.

MQTT inputs are published to the MQTT broker; logs go to their raw topics on Kafka, or to webhooks. Each
message carries the scenario's receive time, its place in the capture and its line, which bridge, inputs and
ingest take under `trust_sender_time`. Each input also gets promises ("everything received up to T is here"),
down the same path as its messages, so that whatever is dead on that path holds time up. The last promise is
the scenario's `until`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import paho.mqtt.client as mqtt
from confluent_kafka import KafkaError, Producer
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from correlator.errors import UsageError
from correlator.events.event import Reject
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.raw import RECEIVED_MS, RECEIVER, SITE, TICK_MS, TICK_TOPIC, to_headers
from correlator.ingest.refusals import error_words
from correlator.lab.background import background as make_background
from correlator.run.scenario import BackgroundMessage, Scenario, load_scenario
from correlator.sources import Message

RECEIVER_NAME: Final = "simulator"
MQTT_TOPIC: Final = "raw.mqtt"
FASTEST_TICK_MS: Final = 60_000  # of scenario time, where nothing paces the play
TICK_MS_REAL: Final = 100  # of the machine's time, where something does
_WAITING_MESSAGES: Final = 2_000  # handed over and not yet taken by a broker
_GIVE_UP_S: Final = 120.0


def raw_topic(scenario: Scenario, name: str) -> str:
    """The raw topic of an input of a scenario: all of MQTT share one, each log has its own."""
    return MQTT_TOPIC if scenario.input_named(name).carrier == "mqtt" else f"raw.{name}"


class Path_(Protocol):
    """One way into the system; `send` and `promise` keep their order."""

    def send(self, name: str, message: Message) -> None:
        """Hands over a message of the input so named."""
        ...

    def promise(self, names: Iterable[str], at_ms: int) -> None:
        """Hands over, for each of the inputs, the promise up to at_ms."""
        ...

    def flush(self) -> None:
        """Returns when all that was handed over is taken. Raises UsageError if it is not."""
        ...


class MqttPath:
    """Publishes to an MQTT broker, QoS 1, through outages of it."""

    def __init__(self, host: str, port: int, *, user: str = "", password: str = "", ca: Path | None = None) -> None:
        self._lock = threading.Condition()
        self._waiting = 0
        self._refused = ""
        self._broken = False
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"simulator-{time.time_ns():x}", protocol=mqtt.MQTTv5
        )
        self._client.max_inflight_messages_set(500)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(1, 2)
        if user:
            self._client.username_pw_set(user, password)
        if ca is not None:
            self._client.tls_set(str(ca))
        self._client.on_publish = self._published
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        try:
            self._client.connect(host, port, clean_start=False, properties=properties)
        except OSError as error:
            raise UsageError(f"no MQTT broker at {host}:{port}: {error}") from error
        self._client.loop_start()

    def _connected(self, _: mqtt.Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if reason.is_failure:
            self._tell_refused(f"the MQTT broker refuses the simulator: {reason}")

    def _disconnected(self, *_: Any) -> None:
        with self._lock:
            self._broken = True

    def _published(self, _: mqtt.Client, __: Any, ___: int, reason: Any, ____: Any) -> None:
        with self._lock:
            self._waiting -= 1
            self._lock.notify()
        if reason.is_failure:
            self._tell_refused(f"the MQTT broker refuses a message: {reason}")

    def _tell_refused(self, why: str) -> None:
        with self._lock:
            self._refused = self._refused or why
            self._lock.notify()

    def send(self, name: str, message: Message) -> None:
        """Publishes on the message's own topic; what the capture says besides is in user properties."""
        headers = to_headers(message, site="", receiver="")
        self._publish(
            message.channel, message.payload, [(key, value.decode()) for key, value in headers[:1] + headers[2:]]
        )

    def promise(self, names: Iterable[str], at_ms: int) -> None:
        """Publishes the promise once: the bridge gives it to each of its raw topics."""
        if any(True for _ in names):
            self._publish(TICK_TOPIC, str(at_ms).encode(), [])

    def _publish(self, topic: str, payload: bytes, said: list[tuple[str, str]]) -> None:
        self._wait(_WAITING_MESSAGES)
        if self._broken:
            # What was on the way is sent again by the client, and must arrive before anything new.
            self._wait(0)
            self._wait_connected()
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if said:
            properties.UserProperty = said
        with self._lock:
            self._waiting += 1
        self._client.publish(topic, payload, qos=1, properties=properties)

    def _wait(self, most: int) -> None:
        until = time.monotonic() + _GIVE_UP_S
        with self._lock:
            while self._waiting > most and not self._refused:
                if not self._lock.wait(1.0) and time.monotonic() > until:
                    raise UsageError(f"the MQTT broker has not taken {self._waiting} messages for {_GIVE_UP_S:.0f} s")
            if self._refused:
                raise UsageError(self._refused)

    def _wait_connected(self) -> None:
        until = time.monotonic() + _GIVE_UP_S
        while not self._client.is_connected():
            if time.monotonic() > until:
                raise UsageError(f"the MQTT broker has been away for {_GIVE_UP_S:.0f} s")
            time.sleep(0.02)
        self._broken = False

    def flush(self) -> None:
        """Returns when the broker has taken everything."""
        self._wait(0)

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()


class KafkaPath:
    """Writes raw records, as a log shipper with our headers would. site: the key of every record."""

    def __init__(self, kafka: KafkaSettings, scenario: Scenario) -> None:
        self._kafka = kafka
        self._scenario = scenario
        self._site = scenario.site_id
        self._refused = ""
        self._producer = Producer(
            kafka.client(
                enable__idempotence=True, acks="all", message__timeout__ms=int(_GIVE_UP_S * 1000), linger__ms=2,
                partitioner="murmur2_random", error_cb=self._error,
            )
        )  # fmt: skip

    def _error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION:
            self._refused = error_words(error)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._refused = self._refused or error_words(error)

    def send(self, name: str, message: Message) -> None:
        """Writes to the input's raw topic."""
        self._produce(name, message.payload, to_headers(message, site=self._site, receiver=RECEIVER_NAME))

    def promise(self, names: Iterable[str], at_ms: int) -> None:
        """Writes the promise to each raw topic."""
        text = str(at_ms).encode()
        for name in names:
            self._produce(
                name, b"", [(TICK_MS, text), (RECEIVED_MS, text), (SITE, self._site.encode()),
                            (RECEIVER, RECEIVER_NAME.encode())],
            )  # fmt: skip

    def _produce(self, name: str, payload: bytes, headers: list[tuple[str, bytes]]) -> None:
        topic = self._kafka.topic(raw_topic(self._scenario, name))
        while True:
            try:
                self._producer.produce(
                    topic, payload, self._site.encode(), headers=list(headers), on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                break
        self._producer.poll(0)
        self._check()

    def _check(self) -> None:
        if self._refused:
            raise UsageError(self._refused)

    def flush(self) -> None:
        """Returns when Kafka has everything."""
        left = self._producer.flush(_GIVE_UP_S)
        self._check()
        if left:
            raise UsageError(f"Kafka has not taken {left} records for {_GIVE_UP_S:.0f} s")

    def close(self) -> None:
        """Nothing: what was flushed is in Kafka."""


@dataclass(slots=True)
class Played:
    """What was played. skipped: lines of captures that are no messages, and messages after `until`."""

    messages: int = 0
    promises: int = 0
    skipped: int = 0
    inputs: dict[str, int] = field(default_factory=dict)


class Player:
    """Plays a scenario over paths.

    paths   input name -> the way its messages go
    speed   scenario seconds in a second; None: as fast as the brokers take it
    tick_ms how often each input promises, in scenario time; None: every 100 ms of the machine's time
    """

    def __init__(
        self, scenario: Scenario, paths: dict[str, Path_], *, speed: float | None = None, tick_ms: int | None = None
    ) -> None:
        self.scenario = scenario
        self.paths = paths
        self.speed = speed
        paced = max(TICK_MS_REAL, round(TICK_MS_REAL * speed)) if speed is not None else FASTEST_TICK_MS
        self.tick_ms = tick_ms if tick_ms is not None else paced
        self.played = Played()

    @property
    def last_promise_ms(self) -> int:
        """Lets the watermark pass `until` and no further."""
        return self.scenario.until_ms + self.scenario.lateness_ms + 1

    def play(
        self,
        stop: threading.Event,
        *,
        with_background: bool = True,
        ordinary: Iterable[BackgroundMessage] | None = None,
    ) -> Played:
        """Plays to the end or until stopped. Raises UsageError when a broker refuses.

        ordinary: messages around the scenario's own, in place of the background that it wishes for.
        """
        if ordinary is None:
            ordinary = make_background(self.scenario) if with_background and self.scenario.wish is not None else ()
        clock = _Pace(self.speed, stop)
        next_tick_ms = -1
        for name, _, _, message in self.scenario.read(ordinary):
            if isinstance(message, Reject) or message.received_ms > self.scenario.until_ms:
                self.played.skipped += 1
                continue
            if next_tick_ms < 0:
                clock.begin(message.received_ms)
                self._promise(message.received_ms - 1)
                next_tick_ms = message.received_ms + self.tick_ms
            while next_tick_ms < message.received_ms:
                if not clock.reach(next_tick_ms):
                    return self.played
                self._promise(next_tick_ms)
                next_tick_ms += self.tick_ms
            if not clock.reach(message.received_ms):
                return self.played
            self.paths[name].send(name, message)
            self.played.messages += 1
            self.played.inputs[name] = self.played.inputs.get(name, 0) + 1
        self._promise(self.last_promise_ms)
        for path in self._distinct():
            path.flush()
        return self.played

    def _promise(self, at_ms: int) -> None:
        for path in self._distinct():
            path.promise([name for name, its in self.paths.items() if its is path], at_ms)
        self.played.promises += 1

    def _distinct(self) -> Iterator[Path_]:
        seen: list[Path_] = []
        for path in self.paths.values():
            if not any(path is one for one in seen):
                seen.append(path)
                yield path


class _Pace:
    """Lets scenario time pass `speed` times as fast as the machine's."""

    def __init__(self, speed: float | None, stop: threading.Event) -> None:
        self._speed = speed
        self._stop = stop
        self._first_ms = 0
        self._started = 0.0

    def begin(self, at_ms: int) -> None:
        self._first_ms, self._started = at_ms, time.monotonic()

    def reach(self, at_ms: int) -> bool:
        """Waits until it is that time; False when stopped."""
        if self._speed is None:
            return not self._stop.is_set()
        ahead_s = (at_ms - self._first_ms) / 1000 / self._speed - (time.monotonic() - self._started)
        return not self._stop.wait(ahead_s) if ahead_s > 0 else not self._stop.is_set()


def paths_of(scenario: Scenario, mqtt_path: Path_ | None, lines_path: Path_ | None) -> dict[str, Path_]:
    """The path of each input. Raises UsageError for an input that has none."""
    found: dict[str, Path_] = {}
    for one in scenario.inputs:
        path = mqtt_path if one.carrier == "mqtt" else lines_path
        if path is None:
            needed = "--mqtt" if one.carrier == "mqtt" else "--kafka"
            raise UsageError(f"input {one.name!r} of {scenario.name} needs {needed}: it is {one.carrier}")
        found[one.name] = path
    return found


def simulate(
    folder: Path,
    *,
    mqtt_at: tuple[str, int] | None,
    kafka: KafkaSettings | None,
    speed: float | None,
    tick_ms: int | None,
    with_background: bool,
    stop: threading.Event,
    write: Callable[[str], object],
) -> int:
    """Plays a scenario and says what it played; gives 0. Raises UsageError, FaultyFile."""
    scenario = load_scenario(folder)
    mqtt_path = MqttPath(*mqtt_at) if mqtt_at is not None else None
    kafka_path = KafkaPath(kafka, scenario) if kafka is not None else None
    try:
        player = Player(scenario, paths_of(scenario, mqtt_path, kafka_path), speed=speed, tick_ms=tick_ms)
        played = player.play(stop, with_background=with_background)
    finally:
        if mqtt_path is not None:
            mqtt_path.close()
    for name, count in played.inputs.items():
        write(f"{count:>8}  {name}\n")
    write(f"{played.messages} messages played, {played.promises} promises to each input, {played.skipped} skipped\n")
    return 0
