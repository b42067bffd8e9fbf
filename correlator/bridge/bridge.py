"""The running bridge: one thread reads MQTT and acknowledges, one collects what Kafka has written.

    MQTT socket --read--> Mapping --produce--> librdkafka --delivered--> acknowledge, in order
        ^                                          |
        +---- not read while too much waits <------+

Nothing is lost on the way: a QoS 1 message is acknowledged to the MQTT broker when Kafka has it, on the
connection it came by and in the order it came (MQTT 5, 4.6 asks for it; mosquitto #2301 is what happens
otherwise). Whatever kills the bridge before that, the broker's persistent session delivers it again, with
DUP set. QoS 0 messages have no such guarantee: one that is in memory when the bridge is killed is gone.

While Kafka is away the bridge stops reading at a bound and keeps the connection alive with pings of its own:
paho's keep-alive would end a connection whose answers it does not read.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import paho.mqtt.client as mqtt
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from correlator.bridge.mapping import KafkaRecord, Mapping, MqttMessage, raw_topics, status_topic, subscriptions
from correlator.bridge.session import apply_tls, new_client, refusal_words
from correlator.bridge.settings import BridgeSettings
from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.kafka import UNCONFIRMED, Confirmations, KafkaSettings
from correlator.ingest.logs import Log
from correlator.ingest.refusals import HOPELESS, error_words

_BURST: Final = 256  # messages read before acknowledgements have their turn
_PINGREQ: Final = b"\xc0\x00"  # MQTT 5, 3.12
_TURN_S: Final = 0.25  # longest wait of the loop; signals and the alive file have their turn then
_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_CLOSE_S: Final = 10.0
_MARKER_QUIET_S: Final = 2.0  # so long without a message: nothing was queued any more, marker or not
_MARKER_LIMIT_S: Final = 600.0
_SHORT_S: Final = 2.0
_SHORT_CONNECTIONS: Final = 6
_STALLED_S: Final = 60.0
_UNAVAILABLE: Final = frozenset({0x88, 0x89, 0x97, 0x9F})  # server unavailable, busy, quota, rate: wait and try again


class _Flight:
    """A message on its way into Kafka. pieces: records that Kafka has not confirmed yet."""

    __slots__ = ("connection", "mid", "pieces", "qos", "size")

    def __init__(self, connection: int, mid: int, qos: int, size: int, pieces: int) -> None:
        self.connection = connection
        self.mid = mid
        self.qos = qos
        self.size = size
        self.pieces = pieces


_Delivered = Callable[[_Flight, KafkaRecord, KafkaError | None, Message], None]


class Bridge:
    """Carries messages until `stop` is set. One instance runs once.

    stop: set by a signal handler or another thread.
    """

    def __init__(self, settings: BridgeSettings, kafka: KafkaSettings, stop: threading.Event) -> None:
        if not settings.routes:
            raise UsageError("the bridge has no routes: bridge.routes says which topics go where")
        self.settings = settings
        self.kafka = kafka
        self.stop = stop
        self.log = Log("bridge")
        self.mapping = Mapping(settings)
        self.failure = ""
        self._flights: deque[_Flight] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._taken = 0
        self._last_ms = 0
        self._connection = 0
        self._connected_at = 0.0
        self._short_connections = 0
        self._attempt = 0
        self._answered = False
        self._session_known = False
        self._queued_since_ms = 0
        self._marker = b""
        self._marker_from = 0.0
        self._marker_quiet_from = 0.0
        self._last_connected_ms = _touched_ms(settings.alive_file)
        self._keepalive_s = float(settings.mqtt.keepalive_s)
        self._last_sent = self._last_heard = self._second = 0.0
        self._turned = time.monotonic()
        self._kafka_away = False
        self._away_since = 0.0
        self._alive_failed = False
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._ring, False)
        self._rung = False
        self._confirmations = Confirmations(kafka)
        self._producer = self._new_producer()
        self._one_by_one: Producer | None = None
        self._collector = threading.Thread(target=self._collect, name="kafka-deliveries", daemon=True)
        self._collecting = True
        self._client = self._new_client()

    # ---- life ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Runs until stopped. Raises UsageError when something is refused that no waiting mends."""
        try:
            self._await_kafka()
            self._collector.start()
            while not self._ended():
                if self._connect():
                    self._serve()
        finally:
            self._close()
        if self.failure:
            raise UsageError(self.failure)

    def alive(self) -> bool:
        """Whether the loop turns, also while a broker is away."""
        return time.monotonic() - self._turned < _STALLED_S

    def ready(self) -> bool:
        """Whether messages are read and Kafka takes them."""
        return self._client.is_connected() and not self._kafka_away and not self._ended()

    def _ended(self) -> bool:
        return self.stop.is_set() or bool(self.failure)

    def _close(self) -> None:
        """Gives what waits its last chance; what is not acknowledged comes again to the next bridge."""
        if self._collector.is_alive():
            if not self.failure:
                for producer in filter(None, (self._producer, self._one_by_one)):
                    producer.flush(_CLOSE_S)
            self._collecting = False
            self._collector.join(_CLOSE_S)
        self._settle()
        sock = self._socket()
        if sock is not None:
            with suppress(OSError, ValueError):
                sock.settimeout(_TURN_S)
                self._client.disconnect()
                self._client.loop_write()
                sock.close()
        for producer in filter(None, (self._producer, self._one_by_one)):
            producer.purge()
        os.close(self._bell)
        os.close(self._ring)
        self.log.info("stopped", id=self.settings.id, waiting=len(self._flights))

    def _pause(self, attempt: int) -> None:
        """Waits before another try; a stop ends it at once."""
        self._turned = time.monotonic()
        self.stop.wait(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])

    # ---- Kafka -----------------------------------------------------------------------------------

    def _new_producer(self, **more: Any) -> Producer:
        settings = self.settings
        return Producer(
            self.kafka.client(
                **more,
                client__id=settings.id,
                enable__idempotence=True,
                acks="all",
                message__timeout__ms=0,  # for ever: what Kafka does not take is not acknowledged
                linger__ms=settings.linger_ms,
                compression__type="lz4",
                partitioner="murmur2_random",  # as Java and aiokafka do, so that a site has one partition for all
                queue__buffering__max__messages=2 * settings.max_waiting_messages + 10_000,
                queue__buffering__max__kbytes=min(2 * settings.max_waiting_bytes // 1024 + 65_536, 2_097_151),
                error_cb=self._kafka_error,
            )
        )

    def _await_kafka(self) -> None:
        """Returns when every topic is there. Raises UsageError for a missing or refused one."""
        attempt = 0
        while not self._ended():
            try:
                for name in raw_topics(self.settings):
                    topic = self.kafka.topic(name)
                    error = self._producer.list_topics(topic, timeout=5.0).topics[topic].error
                    if error is None:
                        continue
                    if error.code() in HOPELESS:
                        raise UsageError(f"topic {topic}: {error_words(error)}")
                    raise KafkaException(error)
            except KafkaException as error:
                self._producer.poll(0)  # an authentication failure is told through the error callback only
                self._kafka_is_away(error.args[0])
                self._pause(attempt)
                attempt += 1
                continue
            self._kafka_is_back()
            return

    def _collect(self) -> None:
        """In its own thread: takes Kafka's confirmations as they come."""
        while self._collecting:
            if self._one_by_one is not None:
                self._one_by_one.poll(0)
            self._producer.poll(0.2 if self._one_by_one is None else 0.01)
            if self._kafka_away and (time.monotonic() - self._away_since) * 1000 >= self.kafka.unconfirmed_end_ms:
                self._look_for_kafka()
            waiting = sum(map(len, filter(None, (self._producer, self._one_by_one))))
            if self._confirmations.lost(waiting + self._kafka_away):
                self._fail(UNCONFIRMED)

    def _look_for_kafka(self) -> None:
        """Asks whether Kafka is back, where no confirmation says so since nothing is sent. Waits for 5 s at most."""
        self._away_since = time.monotonic()
        with suppress(KafkaException):
            self._producer.list_topics(timeout=5.0)
            self._kafka_is_back()

    def _kafka_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in HOPELESS:
            self._fail(error_words(error))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._kafka_is_away(error)

    def _kafka_is_away(self, error: KafkaError) -> None:
        if not self._kafka_away:
            self._kafka_away = True
            self._away_since = time.monotonic()
            metrics.congested.labels("bridge").set(1)
            self.log.error("kafka_away", detail=error_words(error))

    def _kafka_is_back(self) -> None:
        if self._kafka_away:
            self._kafka_away = False
            self._confirmations.confirmed()
            metrics.congested.labels("bridge").set(0)
            self.log.info("kafka_back")

    def _produce(
        self, flight: _Flight, record: KafkaRecord, by: Producer | None = None, then: _Delivered | None = None
    ) -> None:
        (by or self._producer).produce(
            self.kafka.topic(record.topic),
            record.value,
            record.key,
            headers=list(record.headers),
            on_delivery=partial(then or self._delivered, flight, record),
        )
        if record.reason:
            metrics.rejects.labels(record.key.decode(), record.reason).inc()

    def _delivered(self, flight: _Flight, record: KafkaRecord, error: KafkaError | None, _: Message) -> None:
        """Kafka has a record, or refuses it. Called in the collecting thread."""
        if error is None:
            flight.pieces -= 1
            self._confirmations.confirmed()
            if self._kafka_away:
                self._kafka_is_back()
            self._wake()
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE and not record.reason:
            # A topic that takes less than a batch refuses all of it: each is tried once more, by itself.
            if self._one_by_one is None:
                self._one_by_one = self._new_producer(batch__num__messages=1)
                self.log.warning("topic_takes_little", topic=self.kafka.topic(record.topic), detail=error_words(error))
            self._produce(flight, record, self._one_by_one, self._delivered_alone)
        else:
            # Going on would lose it or change the order; the broker gives all of it to the next bridge again.
            self._fail(f"topic {self.kafka.topic(record.topic)}: {error_words(error)}")

    def _delivered_alone(self, flight: _Flight, record: KafkaRecord, error: KafkaError | None, of: Message) -> None:
        if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._produce(flight, self.mapping.refused(record, error_words(error)))
        else:
            self._delivered(flight, record, error, of)

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why
        self._wake()

    def _wake(self) -> None:
        if not self._rung:
            self._rung = True
            with suppress(BlockingIOError, OSError):
                os.write(self._ring, b"!")

    # ---- MQTT: session ---------------------------------------------------------------------------

    def _new_client(self) -> mqtt.Client:
        client = new_client(self.settings, self.settings.id)
        client.manual_ack_set(True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        apply_tls(client, self.settings.mqtt.tls)
        return client

    def _connect(self) -> bool:
        mqtt_settings = self.settings.mqtt
        properties = None
        if mqtt_settings.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = mqtt_settings.session_expiry_s
        more: dict[str, Any] = {"clean_start": False} if properties else {}
        try:
            self._client.connect(
                mqtt_settings.host, mqtt_settings.port, mqtt_settings.keepalive_s, properties=properties, **more
            )
        except ssl.SSLCertVerificationError as error:
            self._fail(f"the MQTT broker's certificate is not trusted (bridge.mqtt.tls.ca): {error.verify_message}")
            return False
        except OSError as error:
            if self._attempt == 0:
                self.log.error("mqtt_away", host=mqtt_settings.host, port=mqtt_settings.port, detail=str(error))
            self._pause(self._attempt)
            self._attempt += 1
            return False
        self._last_sent = self._last_heard = time.monotonic()
        self._answered = False
        return True

    def _on_connect(
        self, client: mqtt.Client, _: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._answered = True
        if reason.is_failure:
            if reason.value not in _UNAVAILABLE:
                self._fail(refusal_words(reason, self.settings))
            else:
                self.log.error("mqtt_refused", detail=str(reason))
            return
        self._keepalive_s = float(getattr(properties, "ServerKeepAlive", self.settings.mqtt.keepalive_s))
        self._connection += 1
        self._attempt = 0
        now = self._connected_at = time.monotonic()
        if flags.session_present:
            # Until our marker is back the broker gives what it kept while we were away.
            self._queued_since_ms = self._last_connected_ms or self._earliest_queued_ms()
            self._marker_from = self._marker_quiet_from = now
        elif self._session_known or self._last_connected_ms:
            self.log.warning("session_lost", id=self.settings.id, since_ms=self._last_connected_ms)
        self._session_known = True
        self._marker = secrets.token_hex(8).encode()
        client.subscribe([(one, self._options(one)) for one in subscriptions(self.settings)])
        client.publish(status_topic(self.settings), self._marker, qos=1)
        self.log.info("connected", id=self.settings.id, since_ms=self._queued_since_ms)

    def _options(self, topic: str) -> Any:
        if self.settings.mqtt.version != "5":
            return 1
        # Retained messages once, when the subscription is new: the session keeps what changes later.
        handling = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
        return SubscribeOptions(qos=1, retainHandling=handling)

    def _earliest_queued_ms(self) -> int:
        return _now_ms() - self.settings.mqtt.session_expiry_s * 1000

    def _on_subscribe(self, _: mqtt.Client, __: Any, ___: int, reasons: list[ReasonCode], ____: Any) -> None:
        for filter, reason in zip(subscriptions(self.settings), reasons, strict=False):
            if reason.is_failure:
                self._fail(f"the MQTT broker refuses the subscription to {filter!r}: {reason}")
        if not self.failure:
            self.log.info("ready", id=self.settings.id, topics=len(reasons))

    def _on_publish(self, _: mqtt.Client, __: Any, ___: int, reason: ReasonCode, ____: Any) -> None:
        if reason.is_failure:
            self.log.warning("marker_refused", topic=status_topic(self.settings), detail=str(reason))

    def _on_disconnect(self, _: mqtt.Client, __: Any, ___: mqtt.DisconnectFlags, reason: ReasonCode, ____: Any) -> None:
        self._marker = b""
        if self._ended() or not self._answered:
            return
        self.log.warning("disconnected", id=self.settings.id, detail=str(reason))
        # Mosquitto closes a session that another client takes over without a word.
        short = self._connected_at and time.monotonic() - self._connected_at < _SHORT_S
        self._short_connections = self._short_connections + 1 if short else 0
        if self._short_connections >= _SHORT_CONNECTIONS:
            self._fail(
                f"the MQTT broker let the bridge in {_SHORT_CONNECTIONS} times and dropped it at once: another client"
                f" has the id {self.settings.id!r}; every bridge needs one of its own (bridge.id)"
            )

    # ---- MQTT: messages --------------------------------------------------------------------------

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        self._taken += 1
        received_ms = self._last_ms = max(self._last_ms, _now_ms())
        try:
            topic = message.topic
        except UnicodeDecodeError:
            records = [self.mapping.unreadable_topic(message._topic, bytes(message.payload), received_ms)]
        else:
            if topic == status_topic(self.settings):
                self._marker_is_back(message)
                return
            given = MqttMessage(
                topic,
                bytes(message.payload),
                received_ms,
                message.qos,
                bool(message.retain),
                bool(message.dup),
                self._queued_since_ms,
                _user_properties(message.properties),
                message.mid if message.qos else 0,
            )
            records = list(self.mapping.records(given))
        if self._queued_since_ms:
            self._marker_quiet_from = time.monotonic()
        flight = _Flight(self._connection, message.mid, message.qos, _size(records), len(records))
        self._flights.append(flight)
        self._waiting_bytes += flight.size
        for record in records:
            self._produce(flight, record)
            if not record.reason:
                metrics.received.labels(record.topic).inc()
                metrics.received_bytes.labels(record.topic).inc(len(record.value))

    def _marker_is_back(self, message: mqtt.MQTTMessage) -> None:
        if message.payload == self._marker:
            self._queued_since_ms = 0
        self._flights.append(_Flight(self._connection, message.mid, message.qos, 0, 0))

    def _socket(self) -> socket.socket | None:
        # paho's type also allows its own sockets for websockets, which we do not use.
        return cast("socket.socket | None", self._client.socket())

    def _settle(self) -> None:
        """Acknowledges, in the order they came, the messages that Kafka has."""
        flights = self._flights
        while flights and flights[0].pieces == 0:
            flight = flights.popleft()
            self._waiting_bytes -= flight.size
            if flight.qos and flight.connection == self._connection and self._client.socket() is not None:
                self._client.ack(flight.mid, flight.qos)
                self._last_sent = time.monotonic()

    def _serve(self) -> None:
        """Reads and acknowledges until this connection ends."""
        client = self._client
        while not self._ended():
            sock = self._socket()
            if sock is None:
                self._connection_ended()
                return
            self._bound()
            reading: list[Any] = [self._bell] if self._paused else [self._bell, sock]
            writing: list[Any] = [sock] if client.want_write() else []
            left_over = isinstance(sock, ssl.SSLSocket) and not self._paused and sock.pending() > 0
            can_read, can_write, _ = select.select(reading, writing, [], 0.0 if left_over else _TURN_S)
            if self._bell in can_read:
                self._answer_bell()
            self._settle()
            if can_write:
                client.loop_write()
            if sock in can_read or left_over:
                self._last_heard = time.monotonic()
                self._read()
            self._each_turn(sock)

    def _connection_ended(self) -> None:
        """Waits before the next try: the longer, the more often the broker has not even answered."""
        if not self._answered and not self._ended():
            if self._attempt == 0:
                why = "the MQTT broker closes the connection before it answers: is TLS on at one end only, or does it"
                self.log.error("mqtt_away", detail=f"{why} ask for a certificate (bridge.mqtt.tls)?")
            self._attempt += 1
        self._pause(self._attempt)

    def _read(self) -> None:
        """Reads what is there, up to a burst, and no further than the bound."""
        for _ in range(_BURST):
            before = self._taken
            if self._client.loop_read() != mqtt.MQTT_ERR_SUCCESS or self._taken == before:
                return
            if self._full():
                return

    def _full(self) -> bool:
        return (
            len(self._flights) >= self.settings.max_waiting_messages
            or self._waiting_bytes >= self.settings.max_waiting_bytes
        )

    def _bound(self) -> None:
        """Pauses reading when too much waits, until half of it is gone."""
        settings = self.settings
        if not self._paused and self._full():
            self._paused = True
            self.log.warning("reading_paused", waiting=len(self._flights), bytes=self._waiting_bytes)
        elif (
            self._paused
            and len(self._flights) <= settings.max_waiting_messages // 2
            and self._waiting_bytes <= settings.max_waiting_bytes // 2
        ):
            self._paused = False
            self._last_heard = time.monotonic()
            self.log.info("reading_resumed", waiting=len(self._flights), bytes=self._waiting_bytes)

    def _answer_bell(self) -> None:
        self._rung = False  # first, so that a ring from now on is a new one
        with suppress(BlockingIOError):
            os.read(self._bell, 4096)

    def _each_turn(self, sock: socket.socket) -> None:
        now = self._turned = time.monotonic()
        if now - self._last_sent > self._keepalive_s / 2 and not self._client.want_write():
            self._last_sent = now
            with suppress(OSError, ValueError):  # a dead socket shows at the next read
                sock.send(_PINGREQ)
        if not self._paused and now - self._last_heard > 1.5 * self._keepalive_s:
            self.log.warning("mqtt_silent", seconds=int(now - self._last_heard))
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            self._client.loop_read()
        if self._queued_since_ms and not self._paused:
            self._end_queue_without_marker(now)
        if now - self._second >= 1.0:
            self._second = now
            self._each_second()

    def _end_queue_without_marker(self, now: float) -> None:
        if now - self._marker_quiet_from > _MARKER_QUIET_S or now - self._marker_from > _MARKER_LIMIT_S:
            self._queued_since_ms = 0
            self.log.warning("marker_missing", topic=status_topic(self.settings))

    def _each_second(self) -> None:
        metrics.input_waiting.labels(self.settings.id).set(self._waiting_bytes)
        metrics.input_connections.labels(self.settings.id).set(1)
        # Only once the queue is empty: a bridge killed while it drains finds the older time again.
        if self._client.is_connected() and not self._queued_since_ms:
            self._last_connected_ms = _now_ms()
            self._touch_alive_file()

    def _touch_alive_file(self) -> None:
        """A disk that is full or gone costs the time stamp of the next absence, and no message."""
        file = self.settings.alive_file
        if file is None:
            return
        try:
            file.touch()
            os.utime(file, ns=(self._last_connected_ms * 1_000_000, self._last_connected_ms * 1_000_000))
        except OSError as error:
            if not self._alive_failed:
                self.log.warning("alive_file_not_written", path=str(file), detail=str(error.strerror))
            self._alive_failed = True
        else:
            self._alive_failed = False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _size(records: list[KafkaRecord]) -> int:
    size = 0
    for record in records:
        size += len(record.value)
        for name, value in record.headers:
            size += len(name) + len(value)
    return size


def _user_properties(properties: Properties | None) -> tuple[tuple[str, str], ...]:
    return tuple(getattr(properties, "UserProperty", ()))


def _touched_ms(file: Path | None) -> int:
    """When the file was last touched, ms UTC; 0 if there is none."""
    if file is None or not file.exists():
        return 0
    return file.stat().st_mtime_ns // 1_000_000
