"""A raw message on its way from whoever received it to ingest: the value and its headers.

The same on a Kafka topic `raw.*` and in the embedded log. The payload stays the device's bytes; what
the receiver knows beside them travels in headers (names below; values are ASCII text, UTF-8 for
topics), so that the payload of any other writer of a raw topic (Filebeat, Vector, ...) is taken too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
_SELDOM = frozenset({TICK_MS, RETAINED, DUP, QUEUED_SINCE_MS, LINE})

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
    headers: Headers, payload: bytes, *, input: str, offset: int, channel: str, received_ms: int, raw: str
) -> RawMessage:
    """The raw message of an entry; what the headers do not say is as given.

    channel, received_ms: for entries of writers that are not ours (the topic's name, the record's
    timestamp). A header that is no number counts as absent.
    """
    said: Mapping[str, bytes] = dict(headers)
    get = said.get
    told = get(CHANNEL)
    received = get(RECEIVED_MS)
    origin, site = get(ORIGIN), get(SITE)
    if received is not None and received.isdigit() and len(received) < _DIGITS:
        received_ms = int(received)
    if told:
        channel = told.decode("utf-8", "replace")
    text = origin.decode("utf-8", "replace") if origin else ""
    if _SELDOM.isdisjoint(said):
        tick_ms = -1
        message = Message(
            channel, payload, received_ms, False, False, 0, 0, text, raw,
            1 if get(QOS) == b"1" else _number(said, QOS, 0), _number(said, PACKET_ID, 0),  # 1: nearly every one
        )  # fmt: skip
    else:
        tick_ms = _number(said, TICK_MS, -1)
        message = Message(
            channel, payload, received_ms, get(RETAINED) == b"1", get(DUP) == b"1", _number(said, QUEUED_SINCE_MS, 0),
            _number(said, LINE, 0), text, raw, _number(said, QOS, 0), _number(said, PACKET_ID, 0),
        )  # fmt: skip
    return RawMessage(input, offset, site.decode("utf-8", "replace") if site else "", message, tick_ms)


def _number(said: Mapping[str, bytes], name: str, absent: int) -> int:
    value = said.get(name)  # a header of another writer may have no value at all
    return int(value) if value and value.isdigit() and len(value) < _DIGITS else absent
