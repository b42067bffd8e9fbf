"""A raw message on its way from whoever received it to ingest: the value and its headers.

The same on a Kafka topic `raw.*` and in the embedded log. The payload stays the device's bytes; what
the receiver knows beside them travels in headers (names below; values are ASCII text, UTF-8 for
topics), so that the payload of any other writer of a raw topic (Filebeat, Vector, ...) is taken too.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from correlator.sources.dialect import Message

RECEIVED_MS = "correlator-received-ms"  # when the first of our processes saw it, ms UTC; stamped once
QUEUED_SINCE_MS = "correlator-queued-since-ms"  # since when the broker had to keep messages for us
CHANNEL = "correlator-channel"  # MQTT topic, path of a file, name of a listener
RETAINED = "correlator-retained"  # "1": MQTT RETAIN
DUP = "correlator-dup"  # "1": MQTT DUP
QOS = "correlator-qos"
PACKET_ID = "correlator-packet-id"  # MQTT: the same when the broker gives a message again
RECEIVER = "correlator-receiver"  # id of the bridge or input that took it
SITE = "correlator-site"
ORIGIN = "correlator-origin"  # inputs/x.ndjson:12, from the simulator
TICK_MS = "correlator-tick-ms"  # no message but a promise: everything received up to then is before this record
LINE = "correlator-line"  # line number in a followed file, from 1

TICK_TOPIC = "correlator/tick"  # MQTT topic on which the simulator promises


class RawMessage(Struct, frozen=True, gc=False):
    """One entry of a raw partition, followed file or listener ("input").

    input    name of the raw partition, file or listener; `<topic>/<partition>` on Kafka
    offset   position in the input, growing
    site     site it belongs to; "" where only a route knows
    tick_ms  a promise of the input instead of a message; -1: a message
    """

    input: str
    offset: int
    site: str
    message: Message
    tick_ms: int = -1


_DIGITS = 20  # a number of more does not fit 64 bits

Headers = Iterable[tuple[str, bytes]]


def to_headers(message: Message, *, site: str, receiver: str) -> list[tuple[str, bytes]]:
    """The headers that carry what the payload does not say; what has its default is left out."""
    headers = [(RECEIVED_MS, str(message.received_ms).encode()), (CHANNEL, message.channel.encode())]
    texts = (
        (SITE, site),
        (RECEIVER, receiver),
        (QOS, str(message.qos) if message.qos else ""),
        (PACKET_ID, str(message.packet_id) if message.packet_id else ""),
        (RETAINED, "1" if message.retained else ""),
        (DUP, "1" if message.dup else ""),
        (QUEUED_SINCE_MS, str(message.queued_since_ms) if message.queued_since_ms else ""),
        (LINE, str(message.line) if message.line else ""),
        (ORIGIN, message.origin),
    )
    headers += [(name, text.encode()) for name, text in texts if text]
    return headers


def from_headers(
    headers: Headers, payload: bytes, input: str, offset: int, channel: str, received_ms: int, raw: str
) -> RawMessage:
    """The raw message of an entry; what the headers do not say is as given.

    channel, received_ms: for entries of writers that are not ours (the topic's name, the record's
    timestamp). A header that is no number counts as absent.
    """
    site = origin = ""
    retained = dup = False
    queued_since_ms = line = qos = packet_id = 0
    tick_ms = -1
    # One pass with comparisons is twice as fast as a dict of so few; what nearly every message says comes first.
    for name, value in headers:
        if not value:  # a header of another writer may have no value at all
            continue
        if name == RECEIVED_MS:
            received_ms = _number(value, received_ms)
        elif name == CHANNEL:
            channel = value.decode("utf-8", "replace")
        elif name == QOS:
            qos = 1 if value == b"1" else _number(value, 0)
        elif name == PACKET_ID:
            packet_id = _number(value, 0)
        elif name == SITE:
            site = value.decode("utf-8", "replace")
        elif name == ORIGIN:
            origin = value.decode("utf-8", "replace")
        elif name == RETAINED:
            retained = value == b"1"
        elif name == DUP:
            dup = value == b"1"
        elif name == QUEUED_SINCE_MS:
            queued_since_ms = _number(value, 0)
        elif name == LINE:
            line = _number(value, 0)
        elif name == TICK_MS:
            tick_ms = _number(value, -1)
    message = Message(channel, payload, received_ms, retained, dup, queued_since_ms, line, origin, raw, qos, packet_id)
    return RawMessage(input, offset, site, message, tick_ms)


def _number(value: bytes, absent: int) -> int:
    return int(value) if value.isdigit() and len(value) < _DIGITS else absent
