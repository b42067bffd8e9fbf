"""The topics: who writes them, how they are keyed, how long they are kept.

One table for `correlator topics create|check`, the documentation and the access rules. Sizes: a record
between our stages may have 4 MB, a message that others read 1 MB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package does not mark its re-exports
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from correlator.clock import HOUR_MS
from correlator.errors import UsageError
from correlator.ingest.kafka import MESSAGE_BYTES, KafkaSettings
from correlator.stream.settings import TopicSettings

EVENTS: Final = "events"
STATE: Final = "state"
CONFIG: Final = "config"
REJECTS: Final = "rejects"
ACTIONS: Final = "console.actions"
TOLD: Final = ("events.enriched", "matches", "threats")

_OUTPUT_BYTES: Final = 1 << 20
_KEPT: Final = "-1"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. partitions: "own" (events and state), "raw", or "1"."""

    name: str
    writer: str
    key: str
    partitions: int
    settings: dict[str, str]


def table(topics: TopicSettings, raw: list[str], outputs: Iterable[str] = ()) -> list[Topic]:
    """Every topic of a system with these raw topics and topics of outputs, in the order of the path of an event."""

    def kept(hours: int, policy: str = "delete", size: int = _OUTPUT_BYTES) -> dict[str, str]:
        return {
            "cleanup.policy": policy,
            "retention.ms": str(hours * HOUR_MS),
            "max.message.bytes": str(size),
            "message.timestamp.type": "CreateTime",
        }

    compact = {"cleanup.policy": "compact", "max.message.bytes": str(MESSAGE_BYTES)}
    raw_settings = {**kept(topics.raw_retention_h, size=2 << 20), "message.timestamp.type": "LogAppendTime"}
    return [
        *(Topic(name, "bridge, inputs", "site", topics.raw_partitions, raw_settings) for name in sorted(raw)),
        Topic(EVENTS, "ingest", "site", topics.partitions, kept(topics.events_retention_h, size=MESSAGE_BYTES)),
        Topic("events.enriched", "worker", "site", topics.partitions, kept(topics.told_retention_h)),
        Topic("matches", "worker", "site", topics.partitions, kept(topics.told_retention_h)),
        Topic("threats", "worker", "threat id", topics.partitions, kept(topics.threats_retention_h, "compact,delete")),
        Topic("evidence", "outputs", "event id", topics.partitions,
              kept(topics.evidence_retention_h, "compact,delete")),
        Topic(STATE, "worker", "entry key", topics.partitions, {
            **compact, "min.cleanable.dirty.ratio": "0.2", "segment.ms": str(HOUR_MS),
            "delete.retention.ms": str(24 * HOUR_MS),
        }),
        Topic(REJECTS, "bridge, inputs, ingest, worker", "site", topics.partitions, kept(topics.rejects_retention_h)),
        Topic(CONFIG, "config apply", "sha-256", 1, compact),
        Topic(ACTIONS, "console, notifier", "site", 1, {"cleanup.policy": "delete", "retention.ms": _KEPT}),
        *(
            Topic(name, "outputs", "threat id", topics.partitions, {"cleanup.policy": "compact"})
            for name in sorted(set(outputs))
        ),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, or (do is None) one thing that is wrong and cannot be done here."""

    says: str
    do: NewTopic | None = None
    serious: bool = False


def plan(kafka: KafkaSettings, topics: TopicSettings, raw: list[str], outputs: Iterable[str] = ()) -> list[Step]:
    """What `create` would do and what `check` complains about; empty when all is as it should be.

    Raises UsageError if the cluster cannot be reached.
    """
    admin = AdminClient(kafka.client())
    wanted = table(topics, raw, outputs)
    try:
        known = admin.list_topics(timeout=15).topics
    except KafkaException as error:
        raise UsageError(f"Kafka at {kafka.bootstrap} cannot be reached: {error.args[0].str()}") from error
    steps: list[Step] = []
    there = [one for one in wanted if kafka.topic(one.name) in known]
    said = _configs(admin, [kafka.topic(one.name) for one in there])
    for one in wanted:
        name = kafka.topic(one.name)
        if name not in known:
            made = NewTopic(name, one.partitions, topics.replication, config=one.settings)
            steps.append(Step(f"create {name}: {one.partitions} partitions, {_words(one.settings)}", made))
            continue
        count = len(known[name].partitions)
        if count != one.partitions:
            serious = one.name in (EVENTS, STATE)
            says = f"{name} has {count} partitions, the settings say {one.partitions}"
            steps.append(Step(says + ("; docs/streaming.md tells how to change it" if serious else ""), None, serious))
        for setting, value in one.settings.items():
            found = said.get(name, {}).get(setting, value)
            if setting == "cleanup.policy":
                same = set(found.split(",")) == set(value.split(","))
            elif setting == "max.message.bytes":
                same = int(found) >= int(value)
            else:
                same = found == value
            if not same:
                steps.append(
                    Step(f"{name}: {setting} is {found}, should be {value}", None, setting == "cleanup.policy")
                )
    events, state = kafka.topic(EVENTS), kafka.topic(STATE)
    if events in known and state in known and len(known[events].partitions) != len(known[state].partitions):
        steps.append(Step(f"{events} and {state} must have equally many partitions", None, serious=True))
    return steps


def create(kafka: KafkaSettings, steps: list[Step]) -> None:
    """Makes the topics that a plan wants. Raises UsageError with the first that cannot be made."""
    wanted = [step.do for step in steps if step.do is not None]
    if not wanted:
        return
    admin = AdminClient(kafka.client())  # kept: its answers end with it
    for name, future in admin.create_topics(wanted).items():
        try:
            future.result(30)
        except KafkaException as error:
            raise UsageError(f"topic {name} cannot be made: {error.args[0].str()}") from error


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(asked).items():
        entries: dict[str, Any] = future.result(30)
        found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
    return found


def _words(settings: dict[str, str]) -> str:
    keep = settings.get("retention.ms")
    days = "" if keep is None else ", kept for ever" if keep == _KEPT else f", kept {int(keep) / HOUR_MS / 24:g} days"
    return settings["cleanup.policy"] + days
