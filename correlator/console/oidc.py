"""Logging in at the hospital's own identity provider: OpenID Connect, code flow with PKCE and nonce.

The provider says who somebody is and in which groups; the groups decide the role. Source: OpenID Connect Core 1.0,
sections 3.1.2 (code flow) and 3.1.3.7 (ID token validation); RFC 7636 (PKCE, S256); RFC 9207 is not asked for.
What a login needs between its two requests travels in a cookie of the browser itself, so any replica may end it.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import msgspec
import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from correlator.console.settings import OidcSettings, is_safe
from correlator.console.users import User, user_of
from correlator.errors import CorrelatorError, UsageError

COOKIE: Final = "__Host-oidc"
ENDS_S: Final = 300  # so long somebody may take at the provider
CALLBACK: Final = "/oidc/callback"
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_TIMEOUT_S: Final = 5.0
_KEPT_S: Final = 3_600.0
_LEEWAY_S: Final = 60


class LoginRefused(CorrelatorError):
    """The provider does not answer, or says something that does not hold, or gives no role."""


class Pending(Struct, frozen=True):
    """What a login needs to end: secrets of the browser that began it. to: where it leads."""

    state: str
    nonce: str
    verifier: str
    to: str


class Provider:
    """One identity provider. Its description and keys are fetched when they are first needed, and every hour."""

    def __init__(self, settings: OidcSettings) -> None:
        self.settings = settings
        self._redirect = settings.url.rstrip("/") + CALLBACK
        self._about: dict[str, Any] = {}
        self._keys = KeySet([])
        self._fetched_s = 0.0
        self._secret = ""
        if settings.client_secret_file is not None:
            try:
                self._secret = settings.client_secret_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise UsageError(f"{settings.client_secret_file}: cannot be read: {error.strerror}") from error

    def begin(self, to: str) -> tuple[str, str]:
        """(address to send the browser to, value of the cookie). Raises LoginRefused."""
        self._describe()
        pending = Pending(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), to)
        url, _ = self._session(pending).create_authorization_url(
            self._about["authorization_endpoint"], state=pending.state, nonce=pending.nonce,
            code_verifier=pending.verifier,
        )  # fmt: skip
        return url, msgspec.json.encode(pending).hex()

    def end(self, cookie: str, state: str, code: str, error: str) -> tuple[User, str]:
        """(who it is, where the login leads). state, code, error: parameters of the callback. Raises LoginRefused."""
        try:
            pending = msgspec.json.decode(bytes.fromhex(cookie), type=Pending)
        except (ValueError, msgspec.DecodeError) as broken:
            raise LoginRefused("this login was not begun here") from broken
        if not secrets.compare_digest(pending.state.encode(), state.encode()):
            raise LoginRefused("this login was not begun here")
        if error or not code:
            raise LoginRefused(f"the provider says {error or 'nothing'}")
        self._describe()
        try:
            token = self._session(pending).fetch_token(
                self._about["token_endpoint"], code=code, grant_type="authorization_code",
                code_verifier=pending.verifier, timeout=_TIMEOUT_S,
            )  # fmt: skip
        except (AuthlibBaseError, requests.RequestException, ValueError) as failed:
            raise LoginRefused(f"the provider gave no token: {failed}") from failed
        return self._user(str(token.get("id_token", "")), pending.nonce), pending.to

    def _user(self, id_token: str, nonce: str) -> User:
        claims = self._claims(id_token)
        rules = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S, iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": self.settings.client_id}, sub={"essential": True},
            exp={"essential": True}, iat={"essential": True}, nonce={"essential": True, "value": nonce},
        )  # fmt: skip
        try:
            rules.validate(claims)
        except JoseError as error:
            raise LoginRefused(f"the ID token does not hold: {error}") from error
        name = str(claims.get(self.settings.name_claim) or "")[:100]
        told = claims.get(self.settings.groups_claim)
        groups = {str(one) for one in told} if isinstance(told, list) else {str(told)}
        user = user_of(name, groups, self.settings.roles, self.settings.sites)
        if user is None:
            raise LoginRefused("the provider knows you, but none of your groups has a role here")
        return user

    def _claims(self, id_token: str) -> dict[str, Any]:
        for fresh in (False, True):  # a key may be new
            if fresh:
                self._fetched_s = 0.0
                self._describe()
            try:
                return jwt.decode(id_token, self._keys, algorithms=_ALGORITHMS).claims
            except (JoseError, ValueError) as error:
                why = error
        raise LoginRefused(f"the ID token does not hold: {why}")

    def _session(self, pending: Pending) -> OAuth2Session:
        session: OAuth2Session = OAuth2Session(
            self.settings.client_id, self._secret or None, scope=self.settings.scope, redirect_uri=self._redirect,
            state=pending.state, code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
        )  # fmt: skip
        return session

    def _describe(self) -> None:
        """Description and keys of the provider (OpenID Connect Discovery 1.0, section 4)."""
        if time.monotonic() - self._fetched_s < _KEPT_S and self._about:
            return
        try:
            about = self._get(self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if about.get("issuer") != self.settings.issuer:
                raise LoginRefused(f"the provider calls itself {about.get('issuer')!r}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not is_safe(str(about.get(name, ""))):
                    raise LoginRefused(f"the provider's {name} is not over TLS")
            self._keys = KeySet.import_key_set(self._get(about["jwks_uri"]))  # type: ignore[arg-type]
        except (requests.RequestException, ValueError, msgspec.MsgspecError, JoseError) as error:
            raise LoginRefused(f"the provider does not answer: {type(error).__name__}") from error
        self._about, self._fetched_s = about, time.monotonic()

    @staticmethod
    def _get(url: str) -> dict[str, Any]:
        answer = requests.get(url, timeout=_TIMEOUT_S, allow_redirects=False)
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=dict[str, Any])
