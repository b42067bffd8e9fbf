"""Settings of the console: the part `console:` of correlator.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from correlator.words.language import Language


class ConsoleSettings(BaseModel):
    """`correlator console run`. Without TLS only on loopback, behind nothing or a proxy on the same machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8443, ge=1, le=65_535, description="port to listen on")
    certificate: Path | None = Field(default=None, description="certificate chain, PEM")
    key: Path | None = Field(default=None, description="its key, PEM")
    users: Path | None = Field(default=None, description="file of users; `correlator console user` writes it")
    language: Language = Field(default="en", description="of people who have not chosen one")
    idle_min: int = Field(default=30, ge=1, description="a session ends this long after its last request")
    session_h: int = Field(default=12, ge=1, le=24, description="a session ends after this long in any case")
    max_shelf_h: int = Field(default=8, ge=1, le=72, description="longest time on a shelf")

    @model_validator(mode="after")
    def _secured(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.certificate is None and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"listening on {self.host} needs certificate and key: sessions must not travel in clear")
        return self
