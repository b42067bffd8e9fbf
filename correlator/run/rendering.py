"""Outputs as messages: JSON bytes with their key and headers, none over 512 KB.

The same for Kafka topics and for what the embedded carrier keeps, so that both tell the same bytes.
Headers are CloudEvents 1.0 in binary mode (Kafka protocol binding: `ce_` and the attribute's name) and a
W3C `traceparent`. Ids derive from what is told: a message that is written twice has the same id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from correlator.events.event import LEVEL_RANK, Reject
from correlator.events.ids import digest
from correlator.events.threat import EnrichedEvent, Match, Threat
from correlator.matching import Outputs

LIMIT_BYTES: Final = 512 * 1024
LONG_VALUE: Final = 1_000  # an attribute longer than this goes first when an event is too large
TYPE: Final = "correlator"

_json: Final = msgspec.json.Encoder(order="deterministic")


class Rendered(Struct, frozen=True, gc=False):
    """One message. topic: name without prefix; cut: evidence was left out to keep the limit."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    cut: bool = False
    site: str = ""


def rendered(outputs: Outputs, site: str) -> list[Rendered]:
    """The messages of what was decided, in the order of topics: events, matches, threats, rejects."""
    key = site.encode()
    found: list[Rendered] = []
    for enriched in outputs.enriched:
        found.append(_message("events.enriched", key, enriched, "event", enriched.event.id, site, _less_event))
    for match in outputs.matches:
        state = "early" if match.early else str(match.revision)
        found.append(_message("matches", key, match, "match", f"{match.id}/{state}", site, _less_match))
    for threat in outputs.threats:
        name = f"{threat.id}/{threat.revision}"
        found.append(_message("threats", threat.id.encode(), threat, "threat", name, site, _less_threat))
    for one in outputs.rejects:
        found.append(reject_message(one))
    return found


def reject_message(one: Reject) -> Rendered:
    """A reject as a message; its id tells position and reason."""
    name = digest(one.site, one.raw or one.origin, one.reason, one.detail)
    return _message("rejects", (one.site or "_unknown").encode(), one, "reject", name, one.site, _less_reject)


def _message(
    topic: str, key: bytes, told: Any, kind: str, name: str, site: str, less: Callable[[Any, int], Any]
) -> Rendered:
    value = _json.encode(msgspec.to_builtins(told) if kind == "threat" else told)
    cut = 0
    while len(value) > LIMIT_BYTES:
        cut += 1
        value = _json.encode(msgspec.to_builtins(less(told, cut)) if kind == "threat" else less(told, cut))
    trace = name.partition("/")[0]
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", name.encode()),
        ("ce_source", f"urn:correlator:site:{site}".encode()),
        ("ce_type", f"{TYPE}.{kind}".encode()),
        ("content-type", b"application/json"),
        ("traceparent", traceparent(trace).encode()),
    )
    return Rendered(topic, key, value, headers, bool(cut), site)


def traceparent(name: str) -> str:
    """W3C trace context of a thing with an id: the same thing, the same trace, whoever tells it."""
    trace = name if len(name) == 32 and set(name) <= set("0123456789abcdef") else digest(name)
    return f"00-{trace}-{digest(trace)[:16]}-01"


# ---- less evidence: each call gives about half of what the one before gave ------------------------


def _less_threat(threat: Threat, cut: int) -> Threat:
    """The members of the strongest findings first, then the earliest; the rest is counted."""
    rank: dict[str, int] = {}
    for step in threat.steps:
        for event in step.events:
            rank[event] = max(rank.get(event, 0), LEVEL_RANK.get(step.level, 0) + 1)
    keep = len(threat.members) >> cut
    strongest = sorted(threat.members, key=lambda one: (-rank.get(one.id, 0), one.time_ms, one.id))[:keep]
    kept = {one.id for one in strongest}
    steps = tuple(
        msgspec.structs.replace(
            step,
            events=step.events[: max(1, len(step.events) >> cut)],
            truncated=step.truncated + len(step.events) - max(min(1, len(step.events)), len(step.events) >> cut),
        )
        for step in threat.steps[: max(1, len(threat.steps) if cut < 8 else len(threat.steps) >> (cut - 7))]
    )
    return msgspec.structs.replace(
        threat,
        members=tuple(one for one in threat.members if one.id in kept),
        steps=steps,
        truncated=threat.truncated + len(threat.members) - keep,
    )


def _less_match(match: Match, cut: int) -> Match:
    keep = len(match.events) >> cut
    return msgspec.structs.replace(
        match, events=match.events[:keep], inner=match.inner[: len(match.inner) >> (cut - 1)],
        truncated=match.truncated + len(match.events) - keep, group=match.group if cut < 20 else {},
    )  # fmt: skip


def _less_event(enriched: EnrichedEvent, cut: int) -> EnrichedEvent:
    event = enriched.event
    short = {
        name: value
        for name, value in event.attributes.items()
        if cut == 1 and len(_json.encode(value)) <= LONG_VALUE and len(event.attributes) < 400
    }
    text = event.text[: LONG_VALUE if cut < 3 else 0]
    summary = event.summary[:LONG_VALUE]
    return msgspec.structs.replace(
        enriched, event=msgspec.structs.replace(event, carried=short, text=text, summary=summary)
    )


def _less_reject(one: Reject, cut: int) -> Reject:
    return msgspec.structs.replace(
        one, payload=one.payload[: len(one.payload) >> cut], channel=one.channel[:LONG_VALUE]
    )
