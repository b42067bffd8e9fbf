"""What `correlator config apply` leaves on the topic `config`: bodies, and which of them each site has.

Bodies stand under `<sha-256>/<n>/<of>` and never change. Under `site/<id>` stands which bodies are in
force; ingest reads it and writes configuration records, so that the log decides from where on.
"""

from __future__ import annotations

from typing import Final

import msgspec
from confluent_kafka import KafkaException, Producer
from msgspec import Struct

from correlator.errors import StateRefused, UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.run.bodies import Bundle, chunks
from correlator.run.log import Configuration
from correlator.stream.state import read_topic
from correlator.stream.topics import CONFIG

POINTER: Final = "site/"


class Applied(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a site has. zone: its time zone, which dialects need."""

    site: str
    configuration: Configuration
    zone: str = "UTC"


_read: Final = msgspec.json.Decoder(Applied).decode
_write: Final = msgspec.json.Encoder(order="deterministic").encode


def read_applied(key: str, value: bytes) -> Applied | None:
    """What a record of `config` says of a site; None for a body. Raises StateRefused."""
    if not key.startswith(POINTER):
        return None
    try:
        return _read(value)
    except msgspec.DecodeError as error:
        raise StateRefused(
            f"{key} on the topic config cannot be read: {error}; apply the configuration again"
        ) from error


def in_force(kafka: KafkaSettings) -> tuple[dict[str, Applied], set[str]]:
    """(site -> what it has, hashes of the bodies that are there), read from Kafka.

    Raises UsageError if it cannot be reached or the topic is missing.
    """
    try:
        records = read_topic(kafka, CONFIG, 0)
    except KafkaException as error:
        raise UsageError(f"topic {kafka.topic(CONFIG)} cannot be read: {error.args[0].str()}") from error
    found = [one for key, value in records.items() if (one := read_applied(key, value)) is not None]
    parts: dict[str, int] = {}
    whole: set[str] = set()
    for key in records:
        if not key.startswith(POINTER):
            name, _, count = key.split("/")
            parts[name] = parts.get(name, 0) + 1
            if parts[name] == int(count):
                whole.add(name)
    return {one.site: one for one in found}, whole


def apply(kafka: KafkaSettings, bundle: Bundle, zone: str, before: Applied | None, there: set[str]) -> Applied:
    """Writes a site's bodies, and when they are all there, which ones it has. Raises UsageError."""
    serial = before.configuration.serial + 1 if before is not None else 1
    applied = Applied(bundle.site_id, msgspec.structs.replace(bundle.configuration, serial=serial), zone)
    producer = Producer(kafka.client(enable__idempotence=True, compression__type="lz4", message__timeout__ms=60_000))
    for name, body in sorted(bundle.bodies.items()):
        if name not in there:
            for key, part in chunks(name, body):
                _send(producer, kafka.topic(CONFIG), key, part)
    _flush(producer)
    _send(producer, kafka.topic(CONFIG), POINTER + bundle.site_id, _write(applied))
    _flush(producer)
    return applied


def _send(producer: Producer, topic: str, key: str, value: bytes) -> None:
    def delivered(error: object, _message: object) -> None:
        if error is not None:
            raise UsageError(f"{topic} cannot be written: {error}")

    producer.produce(topic, value, key.encode(), partition=0, on_delivery=delivered)


def _flush(producer: Producer) -> None:
    if producer.flush(90):
        raise UsageError("Kafka does not take the configuration; nothing is in force that was not before")
