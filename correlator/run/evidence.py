"""Which raw messages are evidence: those of matches and notable events, as the engine tells them.

Whoever keeps evidence (the embedded log, `outputs` on Kafka) looks at every told message with `wanted`
and copies the raw message it names, at most EVIDENCE_BYTES of it beside its whole size and sha-256. It
does so as messages are told, so that the first steps of a slow attack outlive the raw log.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from correlator.events.kinds import KINDS
from correlator.run.rendering import Rendered

EVIDENCE_BYTES: Final = 65_536
_NOTABLE: Final = frozenset(kind.name for kind in KINDS.values() if kind.notable)


class Wanted(Struct, frozen=True):
    """An event whose raw message is to be kept; raw: its position in the carrier."""

    event: str
    site: str
    raw: str


class _Event(Struct):
    id: str
    site: str
    kind: str
    raw: str = ""


class _Enriched(Struct):
    event: _Event
    rules: list[str] = []


class _Member(Struct):
    id: str


class _Threat(Struct):
    id: str
    members: list[_Member] = []


_threat: Final = msgspec.json.Decoder(_Threat).decode
_enriched: Final = msgspec.json.Decoder(_Enriched).decode


def wanted(message: Rendered) -> Wanted | None:
    """What a told message wants kept: an event that hit a rule or is notable; None for all else."""
    if message.topic != "events.enriched":
        return None
    told = _enriched(message.value)
    event = told.event
    if not event.raw or not (told.rules or event.kind in _NOTABLE):
        return None
    return Wanted(event.id, event.site, event.raw)


def members_of(threat: bytes) -> tuple[str, list[str]]:
    """(id, ids of the member events) of a threat as it is told."""
    told = _threat(threat)
    return told.id, [one.id for one in told.members]
