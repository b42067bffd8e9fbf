"""Settings of the console: the part `console:` of correlator.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, model_validator

from correlator.words.language import Language

_HEADER = "^[A-Za-z][A-Za-z0-9-]{0,60}$"


def is_safe(url: str) -> bool:
    """TLS, or this machine."""
    found = urlsplit(url)
    return found.scheme == "https" or (found.scheme == "http" and found.hostname in ("127.0.0.1", "::1", "localhost"))


class CaseSettings(BaseModel):
    """A case system: analysts send it a threat by hand, as an OCSF Detection Finding in a POST."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="where it takes new cases")
    token_file: Path | None = Field(default=None, description="what it wants as `Authorization: Bearer`")
    link: str = Field(default="", description="address of a threat's page for the case; the id follows")

    @model_validator(mode="after")
    def _secured(self) -> Self:
        if not is_safe(self.url):
            raise ValueError(f"{self.url} must begin with https://")
        return self


class OidcSettings(BaseModel):
    """Login at an identity provider (OpenID Connect, code flow with PKCE). Local users may log in beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(description="the provider as it calls itself, such as https://login.hospital.example/realms/h1")
    client_id: str = Field(description="what the provider calls this console")
    client_secret_file: Path | None = Field(default=None, description="its secret; without one PKCE alone protects")
    url: str = Field(description="this console as browsers reach it; /oidc/callback is added for the provider")
    scope: str = Field(default="openid profile", description="what is asked for, beside openid")
    name_claim: str = Field(default="sub", description="the claim that stands in the journal: a pseudonym")
    groups_claim: str = Field(default="groups", description="the claim that lists groups")
    roles: dict[str, Literal["viewer", "operator", "analyst", "admin"]] = Field(
        min_length=1, description="group: role; the highest counts, without one nobody gets in"
    )
    sites: dict[str, tuple[str, ...]] = Field(
        default={}, description="group: sites its people may see; people in none of these groups see all"
    )

    @model_validator(mode="after")
    def _secured(self) -> Self:
        for one in (self.issuer, self.url):
            if not is_safe(one):
                raise ValueError(f"{one} must begin with https://")
        return self


class ProxySettings(BaseModel):
    """Login by headers of a proxy that people have logged in at. They count only from its addresses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    addresses: tuple[IPvAnyNetwork, ...] = Field(
        min_length=1, description="addresses or networks of the proxy; whoever else sends its headers says nothing"
    )
    name_header: str = Field(
        default="X-Forwarded-User", pattern=_HEADER, description="who it is: a pseudonym, since the journal keeps it"
    )
    groups_header: str = Field(default="X-Forwarded-Groups", pattern=_HEADER, description="groups, with commas between")
    roles: dict[str, Literal["viewer", "operator", "analyst", "admin"]] = Field(
        min_length=1, description="group: role; the highest counts, without one nobody gets in"
    )
    sites: dict[str, tuple[str, ...]] = Field(
        default={}, description="group: sites its people may see; people in none of these groups see all"
    )


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
    oidc: OidcSettings | None = Field(default=None, description="login at an identity provider")
    proxy: ProxySettings | None = Field(default=None, description="login by headers of a proxy")
    cases: CaseSettings | None = Field(default=None, description="case system that analysts send threats to")
    max_shelf_h: int = Field(default=8, ge=1, le=72, description="longest time on a shelf")

    @model_validator(mode="after")
    def _secured(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.certificate is None and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"listening on {self.host} needs certificate and key: sessions must not travel in clear")
        return self
