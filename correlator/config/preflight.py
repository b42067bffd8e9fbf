"""What is asked of Kafka before a component starts: whether a broker answers, and what it refuses the component.

Kafka's clients wait for ever, and silently, for a broker that is away and for a group that is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]  # as in secure.py

from correlator.config.rights import Right, kafka_rights
from correlator.config.settings import Settings
from correlator.errors import UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.refusals import HOPELESS, error_words

_ANSWER_S = 15.0
_TRY_S = 2.0


def reach(kafka: KafkaSettings, away: Callable[[str], None], wait_s: float) -> None:
    """Returns as soon as a broker answers. away: told once, in words, why none does.

    Raises UsageError if none does for wait_s, or at once for what no waiting mends.
    """
    told: list[KafkaError] = []
    admin = AdminClient(kafka.client(error_cb=told.append))
    until_s = time.monotonic() + wait_s
    said = False
    while True:
        try:
            admin.list_topics(timeout=_TRY_S)
            return
        except KafkaException as error:
            admin.poll(0)
            # What broke a connection says more than the time-out of the question.
            reasons = [*told, error.args[0]]
            hopeless = next((one for one in reasons if one.code() in HOPELESS), None)
            words = error_words(hopeless or reasons[0])
            if hopeless is not None or time.monotonic() >= until_s:
                raise UsageError(f"{words}; given up after {wait_s:.0f} s" if said else words) from error
            if not said:
                away(words)
                said = True


def refuse_early(settings: Settings, component: str) -> None:
    """Raises UsageError that lists the rights a component lacks; without SASL there are none to lack.

    A broker that cannot be reached now is none of it: the component waits for it as ever.
    """
    if not settings.kafka.security.startswith("sasl"):
        return
    rights = [one for one in kafka_rights(settings) if one.user == component and not one.prefixed]
    told: list[KafkaError] = []
    admin = AdminClient(settings.kafka.client(error_cb=told.append))
    topics = [one for one in rights if one.kind == "TOPIC"]
    groups = [one for one in rights if one.kind == "GROUP"]
    if component == "worker":
        groups.append(Right(component, "GROUP", settings.kafka.prefix + settings.worker.app, "READ"))
    try:
        lacking = _lacking(admin, topics, groups)
    except KafkaException as error:
        admin.poll(0)
        refused = next((one for one in [*told, error.args[0]] if one.code() in HOPELESS), None)
        if refused is not None:
            raise UsageError(error_words(refused)) from error
        return
    if lacking:
        listed = "\n".join(f"  {one.operation} {one.kind} {one.name}" for one in lacking)
        raise UsageError(
            f"Kafka refuses user {settings.kafka.username!r} what {component} needs (`correlator secure apply`,"
            f" docs/operations.md):\n{listed}"
        )


def _lacking(admin: AdminClient, topics: Sequence[Right], groups: Sequence[Right]) -> list[Right]:
    found: list[Right] = []
    names = sorted({one.name for one in topics})
    known = admin.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=_ANSWER_S)
    for one in topics:
        try:
            allowed = known[one.name].result().authorized_operations
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue  # the component says itself which topic is missing
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
            allowed = []
        if allowed is not None and AclOperation[one.operation] not in allowed:
            found.append(one)
    names = sorted({one.name for one in groups})
    asked = admin.describe_consumer_groups(names, include_authorized_operations=True, request_timeout=_ANSWER_S)
    for one in groups:
        try:
            allowed = asked[one.name].result().authorized_operations
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                continue
            if error.args[0].code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                if found:
                    continue  # a group's coordinator may be away for a moment; what the topics lack is known
                raise
            allowed = []
        if allowed is not None and AclOperation[one.operation] not in allowed:
            found.append(one)
    return found
