"""One fact of the journal: who asked for what. The fold (`fold.py`) says whether it held.

Key of the topic is the site, so the actions of a site are in total order. Bytes are JSON with sorted
keys; `at_ms` (ms UTC) is the time of the process that wrote it, and the only time the fold knows.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field

from correlator.events.event import schema_version

Verb = Literal[
    "ack", "assign", "release", "step", "note", "shelve", "unshelve", "window", "exception", "state",
    "verdict", "close", "reopen", "handover", "notified", "reveal", "login", "anchor", "warn", "export", "erase",
]  # fmt: skip

# Verbs that the relay copies into the engine's log, because they change what is decided there.
DECIDING: Final = frozenset({"verdict", "exception", "window", "close", "reopen", "state"})
VERDICTS: Final = ("true", "benign", "false", "duplicate", "drill")
MAX_TEXT: Final = 4_000  # characters of a note or a reason


class Act(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A fact asked for.

    id            chosen by the asker; a second one with the same id is a retry and folds to nothing
    threat        id, "" where the action is about none
    who           pseudonym of a person, or name of a process ("notifier")
    seen_version  version of the threat's handling that the asker saw; -1 where it does not matter
    denied        why the asker was not allowed to ask; such an action is kept and changes nothing
    """

    id: str
    site: str
    who: str
    verb: Verb
    at_ms: int
    threat: str = ""
    seen_version: int = -1
    args: dict[str, Any] = {}
    denied: str = ""
    schema_version: str = field(default_factory=schema_version)


_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(Act).decode


def to_bytes(act: Act) -> bytes:
    """The action's bytes; equal actions give equal bytes."""
    return _encode(act)


def from_bytes(data: bytes) -> Act:
    """The action of some bytes. Raises ValueError (msgspec's) for what is none."""
    return _decode(data)
