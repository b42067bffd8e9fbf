"""What protects the pages: headers, cookies, cross-site requests, login rate (ASVS 5.0, level 2)."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "__Host-session"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "strict-transport-security": "max-age=31536000",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
LARGEST_FORM: Final = 64 * 1024


class SecureHeaders:
    """Puts the headers on every response; what is not a static file is never stored."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["cache-control"] = "max-age=86400" if scope["path"].startswith("/static/") else "no-store"
            await send(message)

        await self._app(scope, receive, with_headers)


def same_origin(headers: Headers) -> bool:
    """Whether a state-changing request comes from our own pages (Fetch Metadata, `Sec-Fetch-Site`); browsers
    without it send Origin."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = headers.get("origin"), headers.get("host", "")
    return origin is not None and origin.partition("://")[2] == host


def token_fits(expected: str, given: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))


class LoginRate:
    """How often a name or an address may try: `tries` in `span_ms`, by a sliding count. Bounded: the name or
    address that was quiet longest is forgotten first."""

    def __init__(self, tries: int = 8, span_ms: int = 60_000, remembered: int = 10_000) -> None:
        self._tries, self._span_ms, self._remembered = tries, span_ms, remembered
        self._times: OrderedDict[str, list[int]] = OrderedDict()

    def allowed(self, who: str, now_ms: int) -> bool:
        """Notes a try and tells whether it may go on."""
        times = [t for t in self._times.pop(who, []) if now_ms - t < self._span_ms]
        allowed = len(times) < self._tries
        if allowed:
            times.append(now_ms)
        self._times[who] = times
        while len(self._times) > self._remembered:
            self._times.popitem(last=False)
        return allowed
