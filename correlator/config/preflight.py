"""What Kafka refuses a component, asked before it starts: Kafka's consumers wait for ever for a refused group."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]  # as in secure.py

from correlator.config.rights import Right, kafka_rights
from correlator.config.settings import Settings
from correlator.errors import UsageError
from correlator.ingest.refusals import HOPELESS, error_words

_ANSWER_S = 15.0


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
