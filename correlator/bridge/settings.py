"""Settings of a bridge: the part `bridge:` of correlator.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from correlator.sources import filter_problem
from correlator.sources.dialect import MAX_PAYLOAD_BYTES

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]

STATUS_TOPIC = "correlator/bridge/"  # + id: the bridge needs to read and write it


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MqttTls(_Settings):
    """Encryption towards the MQTT broker; certificate and key where it asks clients for theirs (mTLS)."""

    ca: Path = Field(description="PEM file: who signed the broker's certificate")
    certificate: Path | None = Field(default=None, description="PEM file: our certificate")
    key: Path | None = Field(default=None, description="PEM file: our private key")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give certificate and key, or neither")
        return self


class MqttSettings(_Settings):
    """The MQTT broker and our session at it."""

    host: str = Field(default="localhost", description="name or address of the broker")
    port: int = Field(default=1883, ge=1, le=65535, description="1883, or 8883 with TLS")
    version: Literal["5", "3.1.1"] = Field(default="5", description="protocol; 5 says why something is refused")
    tls: MqttTls | None = Field(default=None, description="encryption; without it the network must be closed")
    user: str = Field(default="", description="user name; empty: none")
    password: SecretStr | None = Field(
        default=None, description="its password; better password_file or the environment"
    )
    password_file: Path | None = Field(default=None, description="file that holds the password")
    keepalive_s: int = Field(default=30, ge=5, le=3600, description="silence after which a connection counts as dead")
    session_expiry_s: int = Field(
        default=604_800,
        ge=60,
        le=0xFFFF_FFFE,
        description="how long the broker keeps messages for an absent bridge (MQTT 5)",
    )

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        if not self.user and (self.password is not None or self.password_file is not None):
            raise ValueError("a password needs a user")
        return self

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, version: object) -> object:
        return str(version) if isinstance(version, int | float) else version


class RouteSettings(_Settings):
    """Messages of some topics go to one raw topic and belong to one site."""

    topics: tuple[str, ...] = Field(min_length=1, description="MQTT topic filters with + and #")
    to: Name = Field(default="raw.mqtt", description="raw Kafka topic")
    site: str = Field(default="", description="site of all these messages")
    site_level: int | None = Field(
        default=None, ge=0, le=32, description="level of the MQTT topic that names the site, from 0; instead of site"
    )
    sites: tuple[str, ...] = Field(default=(), description="with site_level: the sites that may be named there")
    sensitive: bool = Field(
        default=False, description="rejects hold no byte of a message; so too where a source of `to` is sensitive"
    )

    @field_validator("topics", mode="before")
    @classmethod
    def _listed(cls, topics: object) -> object:
        return (topics,) if isinstance(topics, str) else topics

    @field_validator("topics")
    @classmethod
    def _filters(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for one in topics:
            if problem := filter_problem(one):
                raise ValueError(f"{one!r} is no topic filter: {problem}")
            if one.startswith("$share/"):
                raise ValueError(f"{one!r}: a shared subscription breaks the order of a site's messages")
        return topics

    @model_validator(mode="after")
    def _one_site(self) -> Self:
        if bool(self.site) == (self.site_level is not None):
            raise ValueError("give site or site_level, one of them")
        if (self.site_level is not None) != bool(self.sites):
            raise ValueError("site_level needs the list `sites` of sites that may be named, and only it takes one")
        return self


class BridgeSettings(_Settings):
    """One bridge. Several run side by side with ids of their own and filters that do not overlap."""

    id: Name = Field(default="bridge", description="MQTT client id, and the receiver in the headers; never change it")
    mqtt: MqttSettings = MqttSettings()
    routes: tuple[RouteSettings, ...] = Field(default=(), description="which topics go where; the first fit counts")
    rejects: Name = Field(default="rejects", description="Kafka topic for what cannot be taken")
    reject_bytes: bool = Field(default=True, description="rejects hold the message; never where people are tokens")
    max_payload_bytes: int = Field(
        default=MAX_PAYLOAD_BYTES, ge=1024, le=MAX_PAYLOAD_BYTES, description="larger messages are rejects"
    )
    max_waiting_messages: int = Field(
        default=20_000, ge=10, le=1_000_000, description="messages not yet in Kafka at which reading from MQTT pauses"
    )
    max_waiting_bytes: int = Field(
        default=67_108_864, ge=1_048_576, description="bytes not yet in Kafka at which reading from MQTT pauses"
    )
    linger_ms: int = Field(default=5, ge=0, le=1000, description="longest a message waits for others to Kafka")
    alive_file: Path | None = Field(
        default=None,
        description="a file touched every second: tells after a restart since when the broker kept messages for us",
    )
    trust_sender_time: bool = Field(
        default=False, description="take receive times and promises from the sender (simulation only)"
    )
    health_host: str = Field(default="127.0.0.1", description="address of /live, /ready and /metrics")
    health_port: int = Field(default=0, ge=0, le=65_535, description="port of /live, /ready and /metrics; 0: off")

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        filters = [one for route in self.routes for one in route.topics]
        twice = sorted({one for one in filters if filters.count(one) > 1})
        if twice:
            raise ValueError(f"topic filter {twice[0]!r} stands in two routes")
        return self
