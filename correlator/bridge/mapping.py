"""What one MQTT message becomes: a record for a raw topic, promises of the simulator, or a reject.

A pure function of message and settings; `correlator bridge run` sends what it says and
`correlator bridge dry-run` shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from correlator.bridge.settings import STATUS_TOPIC, BridgeSettings, RouteSettings
from correlator.events.event import RejectReason
from correlator.ingest.raw import (
    DUP,
    LINE,
    ORIGIN,
    RECEIVED_MS,
    RECEIVER,
    RETAINED,
    SITE,
    TICK_MS,
    TICK_TOPIC,
    to_headers,
)
from correlator.run.rendering import reject_message
from correlator.sources import Message, topic_matches
from correlator.sources.dialect import reject

UNKNOWN_SITE: Final = "_unknown"
PROBE_LEVEL: Final = "correlator-probe"  # last level of a topic on which the doctor tries its rights
_PROBE_END: Final = f"/{PROBE_LEVEL}"
_REMEMBERED: Final = 65_536  # topics whose route is kept; a flood of new ones starts the memory afresh
_LONGEST_REMEMBERED: Final = 512


class MqttMessage(Struct, frozen=True, gc=False):
    """A message as the MQTT broker delivered it.

    received_ms     when we took it, ms UTC; queued_since_ms: since when the broker kept messages, 0: live
    user            user properties of MQTT 5
    packet_id       0 at QoS 0
    """

    topic: str
    payload: bytes
    received_ms: int
    qos: int = 0
    retained: bool = False
    dup: bool = False
    queued_since_ms: int = 0
    user: tuple[tuple[str, str], ...] = ()
    packet_id: int = 0


class KafkaRecord(Struct, frozen=True, gc=False):
    """A record to be written.

    reason: why it is a reject, "" for a message that is taken; message: what it was made of, None for a promise.
    """

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    reason: str = ""
    message: Message | None = None


class Mapping:
    """Maps messages by the routes of one bridge."""

    def __init__(self, settings: BridgeSettings) -> None:
        self.settings = settings
        self._known: dict[str, tuple[RouteSettings, str] | str] = {}

    def records(self, message: MqttMessage) -> Sequence[KafkaRecord]:
        """What a message becomes: one record; for a promise one for each raw topic and site.

        A probe of `correlator bridge doctor` becomes nothing.
        """
        settings = self.settings
        if message.topic.endswith(_PROBE_END):
            return ()
        if message.topic == TICK_TOPIC and settings.trust_sender_time:
            return self._promises(message)
        taken = self._trusted(message) if settings.trust_sender_time else _taken(message)
        found = self._route(message.topic)
        if isinstance(found, str):
            return [self._reject(taken, UNKNOWN_SITE, "unmapped", found)]
        route, site = found
        if len(message.payload) > settings.max_payload_bytes:
            what = f"{len(message.payload)} bytes; at most {settings.max_payload_bytes} are taken"
            return [self._reject(taken, site, "too_large", what)]
        headers = to_headers(taken, site=site, receiver=settings.id)
        return [KafkaRecord(route.to, site.encode(), message.payload, headers, message=taken)]

    @staticmethod
    def _trusted(message: MqttMessage) -> Message:
        """The message as its sender tells it: how a capture says that it came."""
        said = dict(message.user)
        return Message(
            channel=message.topic,
            payload=message.payload,
            received_ms=_number(said.get(RECEIVED_MS, ""), message.received_ms),
            retained=message.retained or said.get(RETAINED) == "1",
            dup=message.dup or said.get(DUP) == "1",
            line=_number(said.get(LINE, ""), 0),
            origin=said.get(ORIGIN, ""),
            qos=message.qos,
            packet_id=message.packet_id,
        )

    def refused(self, record: KafkaRecord, detail: str) -> KafkaRecord:
        """The reject of a record that Kafka finds too large."""
        assert record.message is not None
        return self._reject(record.message, record.key.decode(), "too_large", detail)

    def unreadable_topic(self, topic: bytes, payload: bytes, received_ms: int) -> KafkaRecord:
        """The reject of a message whose topic is not UTF-8, which MQTT forbids."""
        message = Message(topic.decode("utf-8", "replace"), payload, received_ms)
        return self._reject(message, UNKNOWN_SITE, "not_utf8", "the MQTT topic is not UTF-8")

    def _promises(self, message: MqttMessage) -> list[KafkaRecord]:
        text = message.payload.decode("ascii", "replace")
        if _number(text, -1) < 0:
            taken = Message(message.topic, message.payload, message.received_ms)
            return [self._reject(taken, UNKNOWN_SITE, "wrong_type", "a promise is a number of milliseconds")]
        pairs = {(route.to, site) for route in self.settings.routes for site in (route.sites or (route.site,))}
        return [
            KafkaRecord(
                topic, site.encode(), b"",
                [(TICK_MS, text.encode()), (RECEIVED_MS, text.encode()), (SITE, site.encode()),
                 (RECEIVER, self.settings.id.encode())],
            )
            for topic, site in sorted(pairs)
        ]  # fmt: skip

    def _route(self, topic: str) -> tuple[RouteSettings, str] | str:
        """The route and site of a topic, or why there is none."""
        try:
            return self._known[topic]
        except KeyError:
            pass
        found = self._found(topic)
        if len(topic) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[topic] = found
        return found

    def _found(self, topic: str) -> tuple[RouteSettings, str] | str:
        for route in self.settings.routes:
            if not any(topic_matches(one, topic) for one in route.topics):
                continue
            if route.site_level is None:
                return route, route.site
            levels = topic.split("/")
            named = levels[route.site_level] if route.site_level < len(levels) else ""
            if named in route.sites:
                return route, named
            return f"level {route.site_level} of the topic names no site of this route"
        return "no route of this bridge takes the topic"

    def _reject(self, message: Message, site: str, reason: RejectReason, detail: str) -> KafkaRecord:
        at = f"{self.settings.id}@{message.received_ms}"  # a reject of a bridge has no position in a log
        told = reject(site, self.settings.id, "", msgspec.structs.replace(message, raw=at), reason, detail)
        if not self.settings.reject_bytes or self._sensitive(message.channel):
            told = msgspec.structs.replace(told, payload=b"")
        made = reject_message(told)
        return KafkaRecord(self.settings.rejects, made.key, made.value, list(made.headers), reason, message)

    def _sensitive(self, topic: str) -> bool:
        """Whether a route that would take the topic is sensitive."""
        return any(
            route.sensitive and any(topic_matches(one, topic) for one in route.topics)
            for route in self.settings.routes
        )  # fmt: skip


def raw_topics(settings: BridgeSettings) -> list[str]:
    """The Kafka topics a bridge writes to, rejects included, sorted."""
    return sorted({route.to for route in settings.routes} | {settings.rejects})


def subscriptions(settings: BridgeSettings) -> list[str]:
    """The topic filters a bridge subscribes to, its own status topic included."""
    filters = [one for route in settings.routes for one in route.topics]
    if settings.trust_sender_time and not any(topic_matches(one, TICK_TOPIC) for one in filters):
        filters.append(TICK_TOPIC)
    return [*filters, status_topic(settings)]


def status_topic(settings: BridgeSettings) -> str:
    """The MQTT topic on which a bridge sends itself markers."""
    return STATUS_TOPIC + settings.id


def _taken(message: MqttMessage) -> Message:
    return Message(
        channel=message.topic,
        payload=message.payload,
        received_ms=message.received_ms,
        retained=message.retained,
        dup=message.dup,
        queued_since_ms=message.queued_since_ms,
        qos=message.qos,
        packet_id=message.packet_id,
    )


def _number(text: str, absent: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else absent
