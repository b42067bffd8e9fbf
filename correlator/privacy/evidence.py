"""Raw messages of evidence under lock.

A raw message is encrypted with a key of its own. The vault keeps that key, under the key of the threat that
the message is evidence of as soon as there is one: who deletes a threat's key has deleted what it locked,
on whatever topic or disk it stands. When somebody is erased, tokens that lead nowhere take the place of
what named them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from correlator.privacy.locks import Locked, unwrapped, wrapped
from correlator.privacy.vault import Vault

_MAGIC: Final = b"\x00CE1"  # no line or payload of a device begins with it


class Locker:
    """Locks what is kept with keys of a vault. Raises sqlite3.OperationalError while the vault cannot be written."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def prepare(self, events: Iterable[str], now_ms: int) -> None:
        """Makes the keys of events, all at once, before `seal` is asked for any."""
        self.vault.make_secrets(events, now_ms)

    def seal(self, event: str, payload: bytes) -> bytes:
        """A raw message under the key of its event. Raises Locked where the key of its threat was deleted."""
        return _MAGIC + wrapped(self.vault.secret_of(event), payload, event)

    def claim(self, threat: str, events: Iterable[str], now_ms: int) -> None:
        """Notes that events are evidence of a threat: its key opens theirs. The first threat keeps them."""
        self.vault.claim(threat, events, now_ms)

    def open(self, event: str, kept: bytes) -> bytes:
        """The raw message; what was kept before messages were locked is as it was. Raises Locked."""
        if not kept.startswith(_MAGIC):
            return kept
        return unwrapped(self.vault.secret_of(event), kept[len(_MAGIC) :], event)


def sealed(locker: Locker | None, event: str, payload: bytes) -> bytes | None:
    """A raw message as it is kept: under lock if there is a locker; None where its threat's evidence was erased."""
    if locker is None:
        return payload
    try:
        return locker.seal(event, payload)
    except Locked:
        return None


def without(payload: bytes, tokens: Mapping[str, str]) -> bytes:
    """A message in which values stand as their tokens, whole words in any case, also as JSON writes them.

    tokens: value -> what stands for it.
    """
    forms: dict[str, str] = {}
    for value, token in tokens.items():
        for form in (value, msgspec.json.encode(value)[1:-1].decode()):
            forms.setdefault(form.lower(), token)
    if not forms:
        return payload
    either = "|".join(re.escape(one) for one in sorted(forms, key=lambda one: (-len(one), one)))
    words = re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])", re.IGNORECASE)
    text = payload.decode("utf-8", "surrogateescape")
    return words.sub(lambda found: forms.get(found[0].lower(), "***"), text).encode("utf-8", "surrogateescape")
