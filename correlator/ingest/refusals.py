"""Kafka's errors in words: what happened, and what an operator can do about it."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

# librdkafka's own texts name the mechanism, not the remedy.
_WORDS: Final[dict[int, str]] = {
    KafkaError._AUTHENTICATION: "Kafka refuses username or password (kafka.username, kafka.password_file)",
    KafkaError._SSL: "TLS to Kafka fails: kafka.ca_file must be who signed the brokers' certificates",
    KafkaError._ALL_BROKERS_DOWN: "no Kafka broker can be reached (kafka.bootstrap)",
    KafkaError._TRANSPORT: "the connection to Kafka failed (kafka.bootstrap; is TLS on at one end only?)",
    KafkaError._RESOLVE: "the name of the Kafka broker is not known (kafka.bootstrap)",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "Kafka refuses this user access to a topic (docs/operations.md, rights)",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "Kafka refuses this user access to a group (docs/operations.md, rights)",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "Kafka refuses this user an act on the whole cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Kafka refuses this user its transactional id",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "the topic does not exist; `correlator topics create` makes it",
    KafkaError._UNKNOWN_TOPIC: "the topic does not exist; `correlator topics create` makes it",
    KafkaError.MSG_SIZE_TOO_LARGE: "the record is larger than the topic takes (max.message.bytes)",
}

# What no waiting mends: a process ends and says why.
HOPELESS: Final = frozenset({
    KafkaError._AUTHENTICATION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
})  # fmt: skip


def error_words(error: KafkaError) -> str:
    """What happened and what mends it, ending with the client's own text."""
    words = _WORDS.get(error.code())
    return f"{words}: {error.str()}" if words else f"Kafka: {error.str()}"
