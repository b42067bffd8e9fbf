"""Who may do what on Kafka and MQTT: the least each component runs with.

One table for `correlator secure`, the tests that try each right and each refusal, and docs/operations.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from correlator.bridge.mapping import raw_topics, subscriptions
from correlator.bridge.settings import STATUS_TOPIC
from correlator.config.settings import Settings
from correlator.stream.topics import ACTIONS, CONFIG, EVENTS, REJECTS, STATE, TOLD

Kind = Literal["TOPIC", "GROUP", "TRANSACTIONAL_ID", "CLUSTER"]

ADMIN: Final = "admin"
EVIDENCE: Final = "evidence"
THREATS: Final = "threats"
ENRICHED: Final = "events.enriched"
RAW: Final = "raw."
BRIDGE, INGEST, WORKER, OUTPUTS, NOTIFIER, CONSOLE = "bridge", "ingest", "worker", "outputs", "notifier", "console"
INPUTS, SHIPPER, OPERATOR = "inputs", "shipper", "operator"
MQTT_BRIDGE, MQTT_DEVICES = "bridge", "devices"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One right of one Kafka user. prefixed: `name` is the beginning of names."""

    user: str
    kind: Kind
    name: str
    operation: str
    prefixed: bool = False


def kafka_users() -> list[str]:
    """The users of the components, without the administrator."""
    return [BRIDGE, INPUTS, SHIPPER, INGEST, WORKER, OUTPUTS, NOTIFIER, CONSOLE, OPERATOR]


def kafka_rights(settings: Settings) -> list[Right]:
    """Every right, sorted, with the names that these settings give to topics, groups and transactions."""
    return sorted(set(_kafka_rights(settings)))


def _kafka_rights(settings: Settings) -> Iterator[Right]:
    topic = settings.kafka.topic
    prefix = settings.kafka.prefix

    def on(user: str, operation: str, *names: str, prefixed: bool = False) -> Iterator[Right]:
        for name in names:
            yield Right(user, "TOPIC", topic(name), operation, prefixed)

    def group(user: str, name: str, *, prefixed: bool = False) -> Iterator[Right]:
        yield Right(user, "GROUP", prefix + name, "READ", prefixed)

    yield from on(BRIDGE, "WRITE", *raw_topics(settings.bridge))
    for user in (INPUTS, SHIPPER):  # Filebeat, Vector and others write raw topics with a user of their own
        yield from on(user, "WRITE", RAW, prefixed=True)
    yield from on(INPUTS, "WRITE", REJECTS)
    yield from on(INGEST, "READ", RAW, prefixed=True)
    yield from on(INGEST, "READ", CONFIG, ACTIONS)
    yield from on(INGEST, "WRITE", EVENTS, REJECTS)
    yield from group(INGEST, settings.ingest.process.group)
    yield from on(WORKER, "READ", EVENTS, CONFIG, STATE)
    yield from on(WORKER, "WRITE", STATE, REJECTS, *TOLD)
    yield from group(WORKER, settings.worker.app, prefixed=True)
    for operation in ("WRITE", "DESCRIBE"):
        yield Right(WORKER, "TRANSACTIONAL_ID", f"{prefix}{settings.worker.app}-", operation, True)
    yield from on(OUTPUTS, "READ", *TOLD, EVIDENCE)
    yield from on(OUTPUTS, "READ", RAW, prefixed=True)
    yield from on(OUTPUTS, "WRITE", EVIDENCE, REJECTS)
    yield from on(OUTPUTS, "WRITE", f"{THREATS}.", prefixed=True)  # threats.ocsf, threats.idmefv2, ...
    yield from on(OUTPUTS, "WRITE", *_topics_of(settings))
    yield from group(OUTPUTS, "outputs-", prefixed=True)  # a group keeps the position of each output
    yield from on(NOTIFIER, "READ", THREATS, ACTIONS, ENRICHED)
    yield from on(NOTIFIER, "WRITE", ACTIONS)
    yield from on(CONSOLE, "READ", *TOLD, EVIDENCE, ACTIONS, REJECTS, STATE)  # STATE: how doors and devices stand
    yield from on(CONSOLE, "READ", EVENTS, CONFIG)  # why a rule did not match: it is run again
    yield from on(CONSOLE, "WRITE", ACTIONS)
    yield from group(NOTIFIER, "correlator-notifier")  # whoever is in it and has the partition sends
    for user in (NOTIFIER, CONSOLE):
        yield from group(user, "correlator-view")
    # `config apply`, `topics check`, `rejects` and `inputs out` of a person on duty.
    yield from on(OPERATOR, "READ", CONFIG, REJECTS)
    yield from on(OPERATOR, "READ", RAW, prefixed=True)
    yield from on(OPERATOR, "WRITE", CONFIG, EVENTS)
    yield from on(OPERATOR, "WRITE", RAW, prefixed=True)
    yield from on(OPERATOR, "DESCRIBE", EVENTS, STATE, ACTIONS, EVIDENCE, *TOLD)
    yield from on(OPERATOR, "DESCRIBE_CONFIGS", RAW, prefixed=True)
    yield from on(OPERATOR, "DESCRIBE_CONFIGS", EVENTS, STATE, CONFIG, REJECTS, ACTIONS, EVIDENCE, *TOLD)
    for user in (INGEST, WORKER, CONSOLE, OPERATOR):  # readers of whole topics name a group and commit nothing in it
        yield from group(user, "correlator-read")


def _topics_of(settings: Settings) -> list[str]:
    """Topics on this cluster that outputs write and that are not called threats.something."""
    named = [one.to.topic for one in settings.outputs if one.to.kind == "kafka" and one.to.cluster is None]
    return sorted({one for one in named if not one.startswith(f"{THREATS}.")})


def mqtt_acl(settings: Settings) -> str:
    """Mosquitto's acl_file: the bridge reads what its routes name, devices write it, nobody does both."""
    filters = [one for one in subscriptions(settings.bridge) if not one.startswith(STATUS_TOPIC)]
    lines = [
        "# Written by `correlator secure`. A device that can should have a user of its own, with its own topics.",
        "",
    ]
    lines += [f"user {MQTT_BRIDGE}", *(f"topic read {one}" for one in filters), f"topic readwrite {STATUS_TOPIC}#", ""]
    lines += [f"user {MQTT_DEVICES}", *(f"topic write {one}" for one in filters)]
    return "\n".join(lines) + "\n"
