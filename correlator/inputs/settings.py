"""Settings of the inputs: what is followed and listened to, and for which site.

Dialects, routes and clocks of an input are ingest's business; here stands only how bytes come in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]
Port = Annotated[int, Field(ge=0, le=65535)]


def raw_topic(input: str) -> str:
    """The raw topic of an input, without the cluster's prefix."""
    return input if input.startswith("raw.") else f"raw.{input}"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsServer(_Settings):
    """Certificates of a listener; clients_ca asks clients for one of theirs (mTLS)."""

    certificate: Path = Field(description="PEM file: the certificate and those that signed it")
    key: Path = Field(description="PEM file: the private key")
    clients_ca: Path | None = Field(default=None, description="PEM file: who signs clients' certificates; asks for one")


class FileInput(_Settings):
    """A log file that is followed, and where its rotated parts go."""

    name: Name = Field(description="name of the input")
    site: str = Field(default="", description="site of its lines; empty: the only site")
    path: Path = Field(description="the live file; it may not exist yet")
    rotated: tuple[str, ...] = Field(
        default=(),
        description="globs of rotated parts, also .gz, .bz2, .xz; default: <path>.* and <path>-*",
    )
    start_at: Literal["start", "end"] = Field(default="start", description="where to begin in a file never read")
    poll_ms: int = Field(default=250, ge=10, le=60_000, description="how often the file is looked at")
    max_line_bytes: int = Field(
        default=1_048_576,
        ge=1024,
        le=16_777_216,
        description="longer lines are cut one byte later, so they are rejects",
    )


class SyslogInput(_Settings):
    """A syslog listener: UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425)."""

    name: Name = Field(description="name of the input")
    site: str = Field(default="", description="site of its messages; empty: the only site")
    protocol: Literal["udp", "tcp", "tls"] = Field(default="udp", description="transport")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = Field(default=5514, description="port; 0: any free one")
    tls: TlsServer | None = Field(default=None, description="certificates; needed for tls")
    max_message_bytes: int = Field(
        default=65_536, ge=480, le=1_048_576, description="longer messages are cut one byte later and marked"
    )
    max_connections: int = Field(default=512, ge=1, le=65_536, description="further connections are closed at once")
    idle_s: int = Field(default=3600, ge=1, description="a connection that says nothing for so long is closed")
    queue_bytes: int = Field(
        default=8_388_608, ge=65_536, description="UDP: bytes waiting to be kept before the socket is left unread"
    )

    @model_validator(mode="after")
    def _tls_has_certificates(self) -> Self:
        if (self.protocol == "tls") != (self.tls is not None):
            raise ValueError("protocol tls needs tls: {certificate, key}, and only it takes them")
        return self


class HttpInput(_Settings):
    """A webhook endpoint: POST /v1/<name> with a bearer token."""

    name: Name = Field(description="name of the input, and the last part of its path")
    site: str = Field(default="", description="site of its messages; empty: the only site")
    token: SecretStr | None = Field(default=None, description="the bearer token; better token_file or the environment")
    token_file: Path | None = Field(default=None, description="file that holds the bearer token")
    max_body_bytes: int = Field(default=4_194_304, ge=1024, le=67_108_864, description="larger bodies are answered 413")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("give token or token_file, and only one of them")
        return self

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < 16:
            raise ValueError("a token has at least 16 characters; `openssl rand -hex 24` makes one")
        return token


class HttpServer(_Settings):
    """The server that all webhook endpoints share."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = Field(default=8480, description="port; 0: any free one")
    tls: TlsServer | None = Field(default=None, description="certificates; without them a proxy should add TLS")
    max_waiting_bytes: int = Field(
        default=33_554_432, ge=65_536, description="bytes of bodies not yet kept; beyond them: 429"
    )
    keep_timeout_s: float = Field(default=30.0, gt=0, description="answer 503 when a body is not kept by then")


class InputsSettings(_Settings):
    """All inputs besides MQTT."""

    id: Name = Field(default="inputs", description="name of this process, the receiver in the headers")
    positions: Path = Field(default=Path("positions.sqlite3"), description="SQLite file with positions, beside Kafka")
    health_host: str = Field(default="127.0.0.1", description="address of /live, /ready and /metrics")
    health_port: Port = Field(default=0, description="port of /live, /ready and /metrics; 0: off")
    files: tuple[FileInput, ...] = Field(default=(), description="followed files")
    syslog: tuple[SyslogInput, ...] = Field(default=(), description="syslog listeners")
    http: tuple[HttpInput, ...] = Field(default=(), description="webhook endpoints")
    http_server: HttpServer = Field(default=HttpServer(), description="where webhooks are listened for")
    trust_sender_time: bool = Field(
        default=False, description="take receive time and ticks from the sender: for the simulator and tests only"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [
            *(one.name for one in self.files),
            *(one.name for one in self.syslog),
            *(one.name for one in self.http),
        ]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"input {twice[0]!r} is given twice")
        return self
