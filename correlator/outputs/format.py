"""What all renderers share: their declaration, what they know beside the threat, common words.

A renderer is a pure function from one revision of a threat to the bytes of another system's format.
It decides nothing: which threats go where is the settings' business (`correlator outputs`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from correlator.events.text import one_line as one_line  # noqa: PLC0414 - renderers and the console read it here
from correlator.events.text import shortened, straight
from correlator.events.threat import Step, Threat
from correlator.premises import Premises

MAX_TEXT: Final = 1_000
VENDOR: Final = "Correlator"
PRODUCT: Final = "cyber-physical correlator"

_json = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class About:
    """What a renderer knows beside the threat.

    version  of this product
    host     name of the sending machine for formats that carry one, "-" for none
    link     address of a threat's page, its id follows ("https://console.example/threats/"); "" for none
    place    the site's model: its name and where it is; None where it is not known, then its id names it
    until_ms  for receivers that forget an alert nobody repeats (Alertmanager): until when an open one stays, ms
        UTC; 0: five minutes from when it was decided
    """

    version: str
    host: str = "-"
    link: str = ""
    place: Premises | None = None
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Format:
    """A format as it declares itself.

    fields: rows (native field, what it holds in our words) of docs/outputs.md; a test compares them
    with what the renderer writes.
    """

    name: str
    version: str
    document: str
    media_type: str
    render: Callable[[Threat, About], bytes]
    fields: tuple[tuple[str, str], ...]


def json_bytes(value: Any) -> bytes:
    """JSON with keys in the order of the alphabet, so that equal threats are equal bytes."""
    return _json.encode(value)


def rfc3339(t_ms: int) -> str:
    """`2021-03-18T05:31:22.104Z`: ms UTC as RFC 3339, section 5.6."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{t_ms % 1000:03d}Z"


def bounded(threat: Threat) -> Threat:
    """The threat with every text cut to MAX_TEXT characters and without marks of direction.

    A device may be called anything, a megabyte of it too: a message must fit where it goes, and read as written.
    """
    told = msgspec.to_builtins(threat)
    safe = _safe(told)
    return threat if safe == told else msgspec.convert(safe, Threat)


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return shortened(straight(value), MAX_TEXT)
    if isinstance(value, dict):
        return {_safe(key): _safe(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(one) for one in value]
    return value


def uuid_of(id: str) -> str:
    """An id of 32 hex digits in the form 8-4-4-4-12."""
    return f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:32]}"


def site_words(threat: Threat, about: About) -> str:
    """Words for the site."""
    return about.place.name if about.place is not None else threat.site


def is_closed(threat: Threat) -> bool:
    """Whether the threat grows no more: quiet, or part of another one now."""
    return threat.phase in ("quiet", "merged")


def techniques(threat: Threat) -> tuple[str, ...]:
    """ATT&CK technique ids (T....) of a threat, without our own `x-cps-...`."""
    return tuple(one for one in threat.techniques if one[:1] == "T" and one[1:5].isdigit())


def story(threat: Threat, limit: int = 12) -> str:
    """What happened, one sentence a step, in order; steps that say the same are told once."""
    said: list[str] = []
    for step in sorted(threat.steps, key=lambda one: (one.t_ms, one.finding)):
        sentence = _sentence(step)
        if sentence not in said:
            said.append(sentence)
    more = len(said) - limit
    text = " ".join(said[:limit])
    return f"{text} And {more} more." if more > 0 else text


def _sentence(step: Step) -> str:
    text = (step.says or step.title).rstrip(". ")
    return f"{text} ({step.place_name})." if step.place_name else f"{text}."
