"""How to reach Kafka: the part `kafka:` of correlator.yaml, and what the clients make of it.

One section for bridge, ingest, worker and commands, so that addresses and secrets stand in one place.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from correlator.errors import UsageError

MESSAGE_BYTES = 4 << 20  # largest record between our stages; topics are made with it
UNCONFIRMED = "Kafka answers, but does not confirm what this process writes: it ends, to be started again"


class KafkaSettings(BaseModel):
    """Broker addresses, prefix of topic names, TLS and credentials.

    A password is given by file or by environment (CORRELATOR_KAFKA__PASSWORD) and never printed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap: str = Field(default="127.0.0.1:9092", description="host:port of one or more brokers, by comma")
    prefix: str = Field(default="", description="stands before the name of every topic, group and transaction")
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        default="plaintext", description="how to connect; sasl_ssl in the secured profile"
    )
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(default="SCRAM-SHA-512", description="SASL")
    username: str = Field(default="", description="SASL user")
    password: SecretStr = Field(default=SecretStr(""), description="SASL password; better as password_file")
    password_file: Path | None = Field(default=None, description="file whose first line is the SASL password")
    ca_file: Path | None = Field(default=None, description="CA certificates, PEM")
    certificate_file: Path | None = Field(default=None, description="our certificate (mutual TLS), PEM")
    key_file: Path | None = Field(default=None, description="key of our certificate, PEM")
    unconfirmed_end_ms: int = Field(
        default=30_000,
        ge=1_000,
        description="a bridge, input or ingest to which Kafka confirms nothing for twice as long, although it answers"
        " others, ends, to be started again",
    )

    @model_validator(mode="after")
    def _credentials(self) -> KafkaSettings:
        if self.security.startswith("sasl") and not self.username:
            raise ValueError("security with SASL needs a username")
        return self

    def topic(self, name: str) -> str:
        """The name of one of our topics on this cluster."""
        return self.prefix + name

    def secret(self) -> str:
        """The SASL password. Raises UsageError if its file cannot be read."""
        if self.password_file is None:
            return self.password.get_secret_value()
        try:
            return self.password_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except OSError as error:
            raise UsageError(f"{self.password_file}: the password cannot be read: {error.strerror}") from error

    def client(self, **more: Any) -> dict[str, Any]:
        """The configuration of a confluent-kafka client; `more` as confluent names it, dots as `__`."""
        made: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security,
            "log_level": 2,
            "message.max.bytes": MESSAGE_BYTES,
            # A broker that is just starting tells of no brokers, and a client then knows none for this long (KIP-1102;
            # librdkafka's default is five minutes).
            "metadata.recovery.rebootstrap.trigger.ms": 5_000,
        }
        if self.security.startswith("sasl"):
            made |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.secret(),
            }
        files = (
            ("ssl.ca.location", self.ca_file),
            ("ssl.certificate.location", self.certificate_file),
            ("ssl.key.location", self.key_file),
        )
        made |= {name: str(path) for name, path in files if path is not None}
        return made | {name.replace("__", "."): value for name, value in more.items()}

    def answers(self, timeout_s: float = 5.0) -> bool:
        """Whether a new client reaches Kafka within a time.

        Clients find a broker again that was away; now and then one does not, while a new one does (librdkafka issue
        4615). Who has been lost for long asks this to know which of the two it is.
        """
        try:
            AdminClient(self.client()).list_topics(timeout=timeout_s)
        except KafkaException:
            return False
        return True


class Confirmations:
    """Whether Kafka goes on confirming what a producer that waits for ever was given.

    A client that lost its broker may wait without an end, and without an error, for what a new one gets at once.
    `confirmed` and `lost` may be called in different threads.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self.confirmed()

    def confirmed(self) -> None:
        """A record was confirmed, or Kafka came back."""
        self._since_s = time.monotonic()
        self._answered = False

    def lost(self, waiting: int) -> bool:
        """Whether none was for `unconfirmed_end_ms`, though some are waiting and Kafka answers a new client, and
        for as long again: a broker that has just come back is given the time.

        To be called all the time, since what did not wait before is waited for from then on. While Kafka does
        not answer it takes five seconds, once in `unconfirmed_end_ms`.
        """
        if not waiting:
            self.confirmed()
        now_s = time.monotonic()
        if (now_s - self._since_s) * 1000 < self._kafka.unconfirmed_end_ms:
            return False
        self._since_s = now_s
        before, self._answered = self._answered, self._kafka.answers()
        return before and self._answered
