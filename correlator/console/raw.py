"""The raw message behind a piece of evidence, with what identifies a person blacked out.

What identifies a person is what the source's own dialect says does: the message is decoded once more with an
identity that writes down every value it is asked for (design: every identifying value enters an event through
`Identity.token`), and these values are blacked out wherever they stand in the message. A message that its
dialect cannot read again is not shown at all; the whole text is for who has the right and says why (`reveal`).
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from correlator.events.event import Reject
from correlator.events.identity import IDENTIFYING_KINDS, Identity
from correlator.privacy.evidence import without
from correlator.sources import Context, Dialect, Message
from correlator.sources.logparts import account_name

SHOWN_CHARACTERS: Final = 20_000
MARK: Final = "█████"


class Raw(Struct, frozen=True):
    """A raw message as somebody kept it. payload may be cut; size and sha256 are of the whole.

    dialect, context: who reads it, None where the settings do not say any more.
    """

    message: Message
    size: int
    sha256: str
    dialect: Dialect | None = None
    context: Context | None = None


class Shown(Struct, frozen=True):
    """A raw message on a page. redacted: values were blacked out; hidden: all of it is."""

    channel: str
    text: str
    size: int
    sha256: str
    received_ms: int
    redacted: int = 0
    hidden: bool = False
    cut: bool = False


class _Noting(Identity):
    """Notes what a dialect takes for identifying and answers with the mark."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: set[str] = set()

    def token(self, kind: str, value: str) -> str:
        """The mark for what identifies a person; everything else as it is."""
        plain = value.strip()
        if kind not in IDENTIFYING_KINDS or not plain:
            return plain
        self.values.add(plain)
        if kind == "account" and (name := account_name(plain)):
            self.values.add(name)
        return MARK


def raw_of(message: Message, dialect: Dialect | None, context: Context | None) -> Raw:
    """A whole message with its hash."""
    return Raw(message, len(message.payload), sha256(message.payload).hexdigest(), dialect, context)


def shown(raw: Raw, *, whole: bool) -> Shown:
    """The message as text. whole: nothing is blacked out."""
    message = raw.message
    text = _text(message.payload)
    told = Shown(
        message.channel, text[:SHOWN_CHARACTERS], raw.size, raw.sha256, message.received_ms,
        cut=len(text) > SHOWN_CHARACTERS or raw.size > len(message.payload),
    )  # fmt: skip
    if whole:
        return told
    values = identifying(raw)
    if values is None:
        return msgspec.structs.replace(told, text="", hidden=True, cut=False)
    marks = dict.fromkeys(values, MARK)
    text, channel = (without(one.encode(), marks).decode() for one in (told.text, message.channel))
    count = text.count(MARK) - told.text.count(MARK)
    return msgspec.structs.replace(told, channel=channel, text=text, redacted=count)


def identifying(raw: Raw) -> set[str] | None:
    """The values in a message that identify somebody; None where nobody can say."""
    if raw.dialect is None or raw.context is None or raw.size > len(raw.message.payload):
        return None
    noting = _Noting()
    try:
        found = raw.dialect.decode(raw.message, replace(raw.context, identity=noting))
    except Exception:  # noqa: BLE001 - whatever it is, nobody can say what stands in the message
        return None
    return None if any(isinstance(one, Reject) for one in found) else noting.values


def _text(payload: bytes) -> str:
    """JSON indented, anything else as UTF-8 with marks for what is none."""
    try:
        return msgspec.json.format(payload, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload.decode("utf-8", "replace")
