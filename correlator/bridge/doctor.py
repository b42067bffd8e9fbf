"""`correlator bridge doctor`: what stands between the devices and Kafka, tried for real.

Brokers refuse and drop without a word: Mosquitto answers "granted" to a subscription it will not serve, and
drops what exceeds its queue. So nothing is asked that can be tried: the doctor connects as `<bridge id>-doctor`,
leaves, lets messages wait for it, comes back and counts. What it publishes goes to its own status topic and,
to try the right to read, to topics that end in /correlator-probe and are no device's.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported at run time, not in its stubs
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from correlator.bridge.mapping import PROBE_LEVEL, raw_topics
from correlator.bridge.session import apply_tls, new_client, refusal_words
from correlator.bridge.settings import STATUS_TOPIC, BridgeSettings
from correlator.errors import UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.refusals import error_words
from correlator.sources import topic_matches

_ANSWER_S: Final = 5.0
_QUEUED: Final = 1_200  # more than Mosquitto's default of 1000 waiting messages
_QUEUED_QOS0: Final = 20
_TEMPORARY_EXPIRY_S: Final = 300
_DAY_MS: Final = 86_400_000
_KAFKA_S: Final = 10.0
_HEADERS_BYTES: Final = 70_000

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. level: "ok", "warning" or "problem"; change: what to do about it."""

    level: str
    what: str
    change: str = ""


def examine(settings: BridgeSettings, kafka: KafkaSettings, *, listen_s: float = 5.0) -> Iterator[Finding]:
    """Findings as they are made, MQTT first. listen_s: how long to wait for messages of devices."""
    yield from _settings(settings)
    yield from _mqtt(settings, listen_s)
    yield from _kafka(settings, kafka)


def _settings(settings: BridgeSettings) -> Iterator[Finding]:
    if not settings.routes:
        yield Finding(PROBLEM, "the bridge has no routes", "bridge.routes: [{topics: zigbee2mqtt/#, site: h1}]")
    if settings.mqtt.version != "5":
        yield Finding(
            WARNING,
            "MQTT 3.1.1 does not say why something is refused, nor when another client takes the session",
            'bridge.mqtt.version: "5" where the broker knows it',
        )
    if settings.mqtt.tls is None:
        yield Finding(
            WARNING, "the connection to MQTT is not encrypted", "bridge.mqtt.tls, or a network of its own for it"
        )
    if settings.alive_file is None:
        yield Finding(
            WARNING,
            "after a restart the bridge does not know since when the broker kept messages for it",
            "bridge.alive_file: a path on a disk that stays",
        )
    if settings.trust_sender_time:
        yield Finding(WARNING, "receive times are taken from senders", "trust_sender_time: false outside simulations")


# ---- MQTT --------------------------------------------------------------------------------------------


class _Refused(Exception):
    """The broker does not let us in, or cannot be reached; the text is for the operator."""


class _Caller:
    """A client that waits for answers. One connection at a time, one session id."""

    def __init__(self, settings: BridgeSettings) -> None:
        self.settings = settings
        self.id = f"{settings.id}-doctor"
        self.topic = STATUS_TOPIC + self.id
        self.received: list[tuple[str, bytes]] = []
        self.session_present = False
        self.properties: Any = None
        self._answers: dict[int, Any] = {}
        self._reason: ReasonCode | None = None

    @contextmanager
    def connected(self, expiry_s: int, *, fresh: bool = False) -> Iterator[mqtt.Client]:
        """A connection; the session lives expiry_s after it (0: not at all). Raises _Refused."""
        client = new_client(self.settings, self.id, keep_session=expiry_s > 0 and not fresh)
        client.on_connect = self._on_connect
        client.on_message = lambda _client, _data, message: self.received.append(
            (message.topic, bytes(message.payload))
        )
        client.on_subscribe = lambda _client, _data, mid, reasons, _properties: self._answers.update({mid: reasons})
        client.on_publish = lambda _client, _data, mid, reason, _properties: self._answers.update({mid: reason})
        apply_tls(client, self.settings.mqtt.tls)
        properties, more = None, {}
        if self.settings.mqtt.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = expiry_s
            more = {"clean_start": fresh}
        self._reason = None
        at = f"{self.settings.mqtt.host}:{self.settings.mqtt.port}"
        try:
            client.connect(self.settings.mqtt.host, self.settings.mqtt.port, 60, properties=properties, **more)  # type: ignore[arg-type]
        except ssl.SSLCertVerificationError as error:
            raise _Refused(f"the certificate of {at} is not trusted (bridge.mqtt.tls.ca): {error.verify_message}")
        except OSError as error:
            raise _Refused(f"no MQTT broker at {at} (bridge.mqtt.host, port, tls): {error}")
        client.loop_start()
        try:
            if not self._wait(lambda: self._reason is not None):
                raise _Refused(f"{at} accepts connections and does not answer MQTT (is TLS on at one end only?)")
            assert self._reason is not None
            if self._reason.is_failure:
                raise _Refused(refusal_words(self._reason, self.settings))
            yield client
        finally:
            client.disconnect()
            client.loop_stop()

    def _on_connect(
        self, _: mqtt.Client, __: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        self.session_present, self.properties, self._reason = flags.session_present, properties, reason

    def subscribe(self, client: mqtt.Client, topic: str) -> None:
        """Subscribes at QoS 1. Raises _Refused if the broker says so."""
        mid = client.subscribe(topic, 1)[1] or 0
        if not self._wait(lambda: mid in self._answers):
            raise _Refused(f"the broker does not answer the subscription to {topic!r}")
        for reason in self._answers.pop(mid):
            if reason.is_failure:
                raise _Refused(f"the broker refuses the subscription to {topic!r}: {reason}")

    def publish(self, client: mqtt.Client, topic: str, payload: bytes) -> str:
        """Publishes at QoS 1; "" or why the broker refuses (MQTT 5 only: 3.1.1 refuses in silence)."""
        mid = client.publish(topic, payload, qos=1).mid
        if not self._wait(lambda: mid in self._answers):
            return "no answer"
        reason = self._answers.pop(mid)
        return str(reason) if reason.is_failure else ""

    def arrived(self, payload: bytes, seconds: float = _ANSWER_S) -> bool:
        """Whether a message with this payload comes in time."""
        return self._wait(lambda: any(one == payload for _, one in self.received), seconds)

    @staticmethod
    def _wait(done: Callable[[], bool], seconds: float = _ANSWER_S) -> bool:
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True


def _mqtt(settings: BridgeSettings, listen_s: float) -> Iterator[Finding]:
    caller = _Caller(settings)
    try:
        with caller.connected(0, fresh=True):
            yield Finding(OK, f"MQTT broker {settings.mqtt.host}:{settings.mqtt.port} lets the bridge in")
            yield from _announced(settings, caller.properties)
        yield from _rights(settings, caller, listen_s)
        yield from _queue(settings, caller)
    except _Refused as refused:
        yield Finding(PROBLEM, str(refused), "nothing further about MQTT can be tried until this is mended")


def _announced(settings: BridgeSettings, properties: Any) -> Iterator[Finding]:
    """What a broker of MQTT 5 says of itself when it lets us in."""
    if properties is None:
        return
    if getattr(properties, "MaximumQoS", 2) < 1:
        yield Finding(PROBLEM, "the broker offers QoS 0 only: messages will be lost", "another broker, or its setting")
    largest = getattr(properties, "MaximumPacketSize", None)
    if largest is not None and largest < settings.max_payload_bytes:
        yield Finding(
            WARNING, f"the broker drops messages over {largest} bytes without a word",
            f"mosquitto.conf: max_packet_size {settings.max_payload_bytes + 65_536}, or none",
        )  # fmt: skip
    if getattr(properties, "RetainAvailable", 1) == 0:
        yield Finding(WARNING, "the broker keeps no retained messages: states are unknown until they change")


def _rights(settings: BridgeSettings, caller: _Caller, listen_s: float) -> Iterator[Finding]:
    """Whether the bridge may read: its own status topic, and each filter of its routes."""
    with caller.connected(0, fresh=True) as client:
        caller.subscribe(client, caller.topic)
        token = secrets.token_hex(8).encode()
        refused = caller.publish(client, caller.topic, token)
        if refused or not caller.arrived(token):
            yield Finding(
                PROBLEM, f"the bridge may not write and read {STATUS_TOPIC}#" + (f": {refused}" if refused else ""),
                f"ACL file: user {settings.mqtt.user or '(anonymous)'}: topic readwrite {STATUS_TOPIC}#",
            )  # fmt: skip
        filters = [one for route in settings.routes for one in route.topics]
        for filter in filters:
            caller.subscribe(client, filter)
        silent = [one for one in filters if not _probe(caller, client, one)]
        until = time.monotonic() + (listen_s if silent else 0.0)
        while silent and time.monotonic() < until:
            silent = [one for one in silent if not any(topic_matches(one, topic) for topic, _ in caller.received)]
            time.sleep(0.05)
        for filter in filters:
            if filter not in silent:
                yield Finding(OK, f"messages of {filter!r} arrive")
            else:
                yield Finding(
                    WARNING,
                    f"nothing of {filter!r} arrived in {listen_s:g} s: its devices are silent, or the broker does not"
                    " let the bridge read it (it says granted either way)",
                    f"ACL file: user {settings.mqtt.user or '(anonymous)'}: topic read {filter}",
                )


def _probe(caller: _Caller, client: mqtt.Client, filter: str) -> bool:
    """Whether a message of our own comes through a filter; also False where we may not write, as it should be."""
    levels = [PROBE_LEVEL if level in ("+", "#") else level for level in filter.split("/")]
    if levels[-1] != PROBE_LEVEL:
        return False  # a topic of a device: nothing is written there
    token = secrets.token_hex(8).encode()
    return not caller.publish(client, "/".join(levels), token) and caller.arrived(token, 1.0)


def _queue(settings: BridgeSettings, caller: _Caller) -> Iterator[Finding]:
    """Leaves, lets messages wait, comes back and counts."""
    with caller.connected(_TEMPORARY_EXPIRY_S, fresh=True) as client:
        caller.subscribe(client, caller.topic)
    writer = _Caller(settings)
    writer.id += "-writer"
    count = 0
    with writer.connected(0, fresh=True) as client:
        for number in range(_QUEUED):
            info = client.publish(caller.topic, b"%d" % number, qos=1)
            if number % 20 == 19:  # what is not answered waits in our own client
                with suppress(RuntimeError, ValueError):
                    info.wait_for_publish(_ANSWER_S)
        for number in range(_QUEUED_QOS0):
            client.publish(caller.topic, b"q%d" % number, qos=0)
        writer.publish(client, caller.topic, b"last")
    caller.received.clear()
    with caller.connected(_TEMPORARY_EXPIRY_S):
        if not caller.session_present:
            yield Finding(
                PROBLEM, "the broker does not keep the session of an absent bridge: what comes meanwhile is lost",
                "mosquitto.conf: persistence true, and persistent_client_expiration not shorter than an absence",
            )  # fmt: skip
            return
        caller.arrived(b"last", 10.0)
        time.sleep(0.2)
        payloads = {payload for _, payload in caller.received}
        count = sum(b"%d" % number in payloads for number in range(_QUEUED))
        count_qos0 = sum(b"q%d" % number in payloads for number in range(_QUEUED_QOS0))
    with caller.connected(0, fresh=True):
        pass  # takes the session away again
    if count == _QUEUED:
        yield Finding(OK, f"the broker kept all of {_QUEUED} messages for an absent bridge")
    else:
        # With QoS 0 messages in the queue Mosquitto 2.0.11 drops QoS 1 messages when the client comes back.
        cure = (
            "max_queued_messages 0 and max_queued_bytes 268435456 (bytes for the longest absence)"
            if count_qos0 == 0
            else "queue_qos0_messages false: with it, QoS 1 messages are dropped as well; and max_queued_messages 0"
        )
        yield Finding(
            PROBLEM, f"of {_QUEUED} messages for an absent bridge the broker kept {count} and dropped the others",
            f"mosquitto.conf: {cure}",
        )  # fmt: skip
    if count_qos0 < _QUEUED_QOS0:
        yield Finding(
            WARNING, f"of {_QUEUED_QOS0} messages of QoS 0 for an absent bridge the broker kept {count_qos0}",
            "devices whose messages must survive an absence of the bridge publish at QoS 1",
        )  # fmt: skip
    yield Finding(
        OK, "whether the queue survives a crash of the broker cannot be tried from here",
        "mosquitto.conf: persistence true and autosave_interval 1",
    )  # fmt: skip


# ---- Kafka -------------------------------------------------------------------------------------------


def _kafka(settings: BridgeSettings, kafka: KafkaSettings) -> Iterator[Finding]:
    told: list[str] = []
    admin = AdminClient(kafka.client(error_cb=lambda error: told.append(error_words(error))))
    names = [kafka.topic(name) for name in raw_topics(settings)]
    try:
        admin.list_topics(timeout=_KAFKA_S)
    except KafkaException as error:
        admin.poll(0)
        yield Finding(PROBLEM, told[0] if told else error_words(error.args[0]), "kafka: in correlator.yaml")
        return
    yield Finding(OK, f"Kafka at {kafka.bootstrap} lets the bridge in")
    described = admin.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=_KAFKA_S
    )
    for name in names:
        try:
            topic = described[name].result()
        except KafkaException as error:
            yield Finding(PROBLEM, f"topic {name}: {error_words(error.args[0])}", "`correlator topics create`")
            continue
        allowed = topic.authorized_operations
        if allowed is not None and AclOperation.WRITE not in allowed:
            who = kafka.username or "(anonymous)"
            yield Finding(PROBLEM, f"the bridge may not write topic {name}", f"ACL: User:{who} WRITE TOPIC {name}")
        else:
            yield Finding(OK, f"topic {name} can be written, {len(topic.partitions)} partitions")
        yield from _topic_settings(settings, admin, name)


def _topic_settings(settings: BridgeSettings, admin: AdminClient, name: str) -> Iterator[Finding]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    try:
        entries = admin.describe_configs([resource], request_timeout=_KAFKA_S)[resource].result()
    except KafkaException:
        return  # the right to see a topic's settings is not needed to run
    needed = settings.max_payload_bytes + _HEADERS_BYTES
    if int(entries["max.message.bytes"].value) < needed:
        yield Finding(
            WARNING, f"topic {name} takes records up to {entries['max.message.bytes'].value} bytes",
            f"max.message.bytes={needed} or more; larger messages become rejects meanwhile",
        )  # fmt: skip
    kept_ms = int(entries["retention.ms"].value)
    if name != settings.rejects and 0 <= kept_ms < 3 * _DAY_MS:
        yield Finding(
            WARNING, f"topic {name} keeps messages {kept_ms / _DAY_MS:.1f} days only",
            "retention.ms=259200000: ingest may be away over a weekend",
        )  # fmt: skip


def tell(findings: Iterator[Finding], write: Callable[[str], object]) -> int:
    """Writes findings as they come; 1 if one is a problem, else 0. Raises UsageError as `examine` does."""
    count = {OK: 0, WARNING: 0, PROBLEM: 0}
    for finding in findings:
        count[finding.level] += 1
        write(f"{finding.level:8} {finding.what}\n")
        if finding.change:
            write(f"{'':8} -> {finding.change}\n")
    problems, warnings = count[PROBLEM], count[WARNING]
    write(f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}\n")
    return 1 if problems else 0


__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "UsageError", "examine", "tell"]
