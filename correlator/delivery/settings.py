"""Settings of deliveries: the part `outputs:` of correlator.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from correlator.ingest.kafka import KafkaSettings

Severity = Literal["informational", "low", "medium", "high", "critical"]
FormatName = Literal["ocsf", "idmefv2", "ecs", "cef", "leef", "stix", "alertmanager"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TopicTarget(_Part):
    """A Kafka topic, on the same cluster unless another is named; key: threat id."""

    kind: Literal["kafka"] = Field(description="kafka")
    topic: str = Field(min_length=1, description="name of the topic; threats.ocsf, for instance")
    cluster: KafkaSettings | None = Field(default=None, description="another cluster (Azure Event Hubs, say)")


class SyslogTarget(_Part):
    """A syslog receiver: RFC 5424 over TCP or TLS with octet counting, or one datagram a message (UDP)."""

    kind: Literal["syslog"] = Field(description="syslog")
    host: str = Field(min_length=1, description="name or address")
    port: int = Field(ge=1, le=65_535, description="port; 6514 for TLS")
    transport: Literal["tls", "tcp", "udp"] = Field(default="tls", description="udp cuts what is long, and loses")
    ca_file: Path | None = Field(default=None, description="CA certificates, PEM; default: those of the system")
    certificate_file: Path | None = Field(default=None, description="our certificate (mutual TLS), PEM")
    key_file: Path | None = Field(default=None, description="key of our certificate, PEM")


class HttpTarget(_Part):
    """An HTTP receiver that takes one message a POST."""

    kind: Literal["http"] = Field(description="http")
    url: str = Field(pattern=r"^https?://", description="address; it holds no secret")
    headers: dict[str, str] = Field(default_factory=dict, description="further headers")
    token: SecretStr | None = Field(default=None, description="sent as Authorization: `scheme` token")
    token_file: Path | None = Field(default=None, description="file whose first line is the token")
    scheme: str = Field(default="Bearer", description="Bearer; Splunk for its event collector; ApiKey for Elastic")
    ca_file: Path | None = Field(default=None, description="CA certificates, PEM; default: those of the system")
    wrap: Literal["", "splunk", "elastic"] = Field(
        default="", description="splunk: {event: ...}; elastic: a _bulk request with the threat's id"
    )

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file say the same: keep one")
        return self


class FileTarget(_Part):
    """A file to which one line a message is appended, for an agent that follows it."""

    kind: Literal["file"] = Field(description="file")
    path: Path = Field(description="the file")


Target = Annotated[TopicTarget | SyslogTarget | HttpTarget | FileTarget, Field(discriminator="kind")]


class OutputSettings(_Part):
    """One output: what goes there, in which format, and where."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="its name; delivery positions are kept under it")
    format: FormatName = Field(description="`correlator outputs list` names them")
    severity: Severity = Field(default="low", description="at least this")
    watches: bool = Field(default=False, description="also what is only watched (phase watch)")
    sites: tuple[str, ...] = Field(default=(), description="ids of sites; without them all")
    to: Target = Field(description="where")
    link: str = Field(default="", description="address of a threat's page, its id follows")
    give_up_min: int = Field(
        default=0, ge=0, description="a message refused this long goes to `rejects`; 0: the output waits for ever"
    )

    @model_validator(mode="after")
    def _text_over_syslog(self) -> Self:
        if self.to.kind == "syslog" and self.format not in ("cef", "leef"):
            raise ValueError("syslog carries cef or leef")
        if self.format == "alertmanager" and self.to.kind not in ("http", "kafka"):
            raise ValueError("Alertmanager takes HTTP")
        return self
