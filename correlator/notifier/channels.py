"""Sends a message through a receiver's channel. Apprise knows the channels; retries are the outbox's.

What Apprise does not tell is when a busy receiver wants to be asked again (Retry-After). All its HTTP channels go
through requests, whose adapter is listened to here.

Channels proven here on real peers: mailto, ntfy, mqtt, json (webhook). The others of Apprise work as its
documentation says.
"""

from __future__ import annotations

import logging
import re
import time
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import apprise
from msgspec import Struct
from requests.adapters import HTTPAdapter

from correlator.clock import retry_after_ms
from correlator.words.message import Message

_TIMEOUT_S = 5
_TYPES = {"critical": apprise.NotifyType.FAILURE, "high": apprise.NotifyType.WARNING}
_NTFY_PRIORITIES = {"critical": 5, "high": 4, "medium": 3, "low": 2, "informational": 1}
_INCIDENT = {"pagerduty": "dedup", "opsgenie": "alias"}
_SECRET = re.compile(r"(?<=://)[^/@\s]*@|(?<=[?&])(?:token|pass|key|secret)[^=&\s]*=[^&\s]*", re.IGNORECASE)


class Result(Struct, frozen=True):
    """Whether the channel took the message; error without secrets, "" if it did. retry_after_ms: how long the
    receiver asked to be left alone, 0 if it did not."""

    ok: bool
    error: str = ""
    retry_after_ms: int = 0


_asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)  # Retry-After of each answer to a message
_build_response = HTTPAdapter.build_response


def _listening(self: HTTPAdapter, req: Any, resp: Any) -> Any:
    response = _build_response(self, req, resp)
    asked = _asked.get()
    if asked is not None:
        asked.append(response.headers.get("Retry-After", ""))
    return response


HTTPAdapter.build_response = _listening  # type: ignore[method-assign]


def send(url: str, message: Message, severity: str, key: str) -> Result:
    """Sends now and waits for the channel's answer, at most about ten seconds.

    key: the outbox row's key, carried along where a channel has a place for it, so that a receiver can
    tell a repetition from a second message. Its beginning is the threat: mails of one threat are one thread,
    and in PagerDuty and Opsgenie a threat is one incident.
    """
    target = apprise.Apprise()
    if not target.add(_with_options(url, severity, key)):
        return Result(False, f"{_scheme(url)} is no channel that Apprise knows, or its URL is incomplete")
    said: list[str] = []
    asked: list[str] = []  # not a plain text: Apprise sends in a thread with a copy of this context
    _asked.set(asked)
    took = target.notify(
        body=message.body,
        title=message.subject,
        notify_type=_TYPES.get(severity, apprise.NotifyType.INFO),
        log_callback=lambda entry, _channel: said.append(str(getattr(entry, "message", entry))),
        log_level=logging.WARNING,
    )
    if took:
        return Result(True)
    wait_ms = retry_after_ms(asked[-1] if asked else "", time.time_ns() // 1_000_000)
    return Result(False, masked(said[-1] if said else "the channel refused it"), wait_ms)


def _scheme(url: str) -> str:
    return urlsplit(url).scheme or "the channel"


def _with_options(url: str, severity: str, key: str) -> str:
    """The URL with timeouts, and what the kind of channel needs to say severity and key."""
    options = [f"cto={_TIMEOUT_S}", f"rto={_TIMEOUT_S}"]
    scheme = _scheme(url)
    if scheme in ("ntfy", "ntfys"):
        # Without image=no the address of a public icon goes out.
        options += ["image=no", f"priority={_NTFY_PRIORITIES.get(severity, 3)}"]
    elif scheme in ("mailto", "mailtos"):
        ids = "%20".join(f"%3C{_token(one)}%40correlator%3E" for one in (key.partition("/")[0], key))
        options += [f"%2BReferences={ids}", "%2BAuto-Submitted=auto-generated"]
    elif scheme in ("pagerduty", "opsgenie"):
        options += [f"{_INCIDENT[scheme]}={_token(key.partition('/')[0])}"]
    elif scheme in ("json", "jsons"):
        options += [f"%2BIdempotency-Key={_token(key)}"]
    return url + ("&" if "?" in url else "?") + "&".join(options)


def _token(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", ".", key)


def masked(text: str) -> str:
    """A text without the user parts and tokens of URLs in it."""
    return _SECRET.sub("***", text)[:300]
