"""Webhooks: POST /v1/<input> with a bearer token; a JSON value, or NDJSON one message a line.

    202  every message of the body is kept                401  no token, or not that of an input so named
    405  not POST                                         413  the body is larger than the input takes
    429  nothing can be kept now, or too much waits; Retry-After says when to come again
    503  it was not kept in time; it may be later: send it again, repeats are recognised where they can be

A body is taken as it is: whether it is a message is ingest's business, and a broken one is a reject that
can be looked up. `application/x-ndjson` (or jsonl, or json-seq) is split into lines, anything else is one
message. A sender that repeats a request after a lost answer names it (Idempotency-Key, or GitHub's
X-GitHub-Delivery): what is kept already is answered 202 and not kept again. With `trust_sender_time` the
headers of `correlator.ingest.raw` are honoured: receive time, channel, origin, line, site, and a promise
instead of a body.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence

from aiohttp import web

from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.logs import Log
from correlator.ingest.raw import RawMessage, from_headers
from correlator.inputs.settings import HttpInput, HttpServer
from correlator.inputs.sink import Clock, Sink, Stamp, now_ms
from correlator.inputs.tls import server_context

RETRY_AFTER_S = 5
SPLIT_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-seq"})
# IETF draft "The Idempotency-Key HTTP Header Field", and GitHub's webhooks.
DELIVERY_HEADERS = ("Idempotency-Key", "X-GitHub-Delivery")
_LONGEST_KEY = 200

_log = Log("inputs")


class HttpListener:
    """One server for all webhook inputs; each has its own path, token and body limit."""

    def __init__(
        self,
        server: HttpServer,
        inputs: Sequence[HttpInput],
        site: str,
        sink: Sink,
        *,
        trust_sender_time: bool = False,
        clock: Clock = now_ms,
    ) -> None:
        self._server = server
        self._inputs = {one.name: _Endpoint(one, one.site or site, Stamp(clock)) for one in inputs}
        self._sink = sink
        self._trust = trust_sender_time
        self._waiting_bytes = 0
        self._runner: web.AppRunner | None = None
        self.port = server.port

    async def start(self) -> None:
        """Binds the address. Raises UsageError."""
        largest = max((one.settings.max_body_bytes for one in self._inputs.values()), default=0)
        app = web.Application(client_max_size=largest)
        app.router.add_post("/v1/{input}", self._post)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        tls = server_context(self._server.tls) if self._server.tls is not None else None
        site = web.TCPSite(self._runner, self._server.host, self._server.port, ssl_context=tls, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            where = f"{self._server.host}:{self._server.port}"
            raise UsageError(f"webhooks: cannot listen on {where}: {error.strerror or error}") from error
        self.port = self._runner.addresses[0][1]
        _log.info("listening", input=",".join(self._inputs), host=self._server.host, port=self.port)

    async def close(self) -> None:
        """Takes no new request; those under way are answered."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        endpoint = self._inputs.get(request.match_info["input"])
        # An unknown input is answered like a wrong token: names are not for probing.
        if endpoint is None or not endpoint.lets_in(request.headers.get("Authorization", "")):
            metrics.input_refused.labels(endpoint.settings.name if endpoint else "_unknown", "token").inc()
            return _refusal(401, "a bearer token of this input is needed", {"WWW-Authenticate": "Bearer"})
        name = endpoint.settings.name
        limit = endpoint.settings.max_body_bytes
        if request.content_length is not None and request.content_length > limit:
            return self._too_large(name, limit)
        why = self._sink.congestion()
        if why or self._waiting_bytes >= self._server.max_waiting_bytes:
            metrics.input_refused.labels(name, "congested").inc()
            return _refusal(429, why or "too much waits to be kept", {"Retry-After": str(RETRY_AFTER_S)})
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._too_large(name, limit)
        if len(body) > limit:
            return self._too_large(name, limit)
        messages = self._messages(endpoint, request, body)
        self._waiting_bytes += len(body)
        metrics.input_waiting.labels(name).set(self._waiting_bytes)
        try:
            keeping = asyncio.ensure_future(self._sink.keep(messages, key=_delivery(request)))
            await asyncio.wait_for(asyncio.shield(keeping), self._server.keep_timeout_s)
        except TimeoutError:
            metrics.input_refused.labels(name, "timeout").inc()
            return _refusal(503, "not kept in time", {"Retry-After": str(RETRY_AFTER_S)})
        except ValueError:
            return self._too_large(name, limit)
        finally:
            self._waiting_bytes -= len(body)
            metrics.input_waiting.labels(name).set(self._waiting_bytes)
        metrics.received.labels(name).inc(len(messages))
        metrics.received_bytes.labels(name).inc(len(body))
        return web.json_response({"kept": len(messages)}, status=202)

    def _messages(self, endpoint: _Endpoint, request: web.Request, body: bytes) -> list[RawMessage]:
        payloads = [body]
        if request.content_type in SPLIT_TYPES:
            payloads = [line for line in (part.strip(b"\r\x1e ") for part in body.split(b"\n")) if line]
        headers: list[tuple[str, bytes]] = []
        if self._trust:
            headers = [
                (key.lower(), value.encode("utf-8", "surrogateescape"))
                for key, value in request.headers.items()
                if key.lower().startswith("correlator-")
            ]
        received_ms = endpoint.stamp()
        channel = f"http/{endpoint.settings.name}"
        messages = []
        for payload in payloads:
            number = endpoint.number()
            raw = f"{channel}:{received_ms}.{number}"
            one = from_headers(
                headers, payload, input=endpoint.settings.name, offset=number, channel=channel,
                received_ms=received_ms, raw=raw,
            )  # fmt: skip
            messages.append(one if one.site else RawMessage(one.input, number, endpoint.site, one.message, one.tick_ms))
        return messages

    def _too_large(self, name: str, limit: int) -> web.Response:
        metrics.input_refused.labels(name, "too_large").inc()
        return _refusal(413, f"the body is larger than {limit} bytes", {})


class _Endpoint:
    """One input: its token, stamp and numbering."""

    def __init__(self, settings: HttpInput, site: str, stamp: Stamp) -> None:
        self.settings = settings
        self.site = site
        self.stamp = stamp
        self._token = _token_of(settings).encode()
        self._next = 0

    def lets_in(self, authorization: str) -> bool:
        """Whether the header bears this input's token; takes as long for a nearly right one as for any."""
        scheme, _, given = authorization.partition(" ")
        return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token) and (
            scheme.lower() == "bearer"
        )

    def number(self) -> int:
        """The next message's number."""
        self._next += 1
        return self._next - 1


def _delivery(request: web.Request) -> str:
    """The sender's name for the delivery, "" if it gives none; long ones are not remembered."""
    for name in DELIVERY_HEADERS:
        key = request.headers.get(name, "")
        if key:
            return f"{request.match_info['input']}/{key}" if len(key) <= _LONGEST_KEY else ""
    return ""


def _token_of(settings: HttpInput) -> str:
    if settings.token is not None:
        return settings.token.get_secret_value()
    assert settings.token_file is not None
    try:
        token = settings.token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"input {settings.name}: {settings.token_file}: no token can be read: {error}") from error
    if len(token) < 16:
        raise UsageError(f"input {settings.name}: {settings.token_file}: a token has at least 16 characters")
    return token


def _refusal(status: int, why: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"error": why}, status=status, headers=headers)
