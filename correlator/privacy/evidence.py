"""Raw messages of evidence under lock: what is shown of them, and what opens them.

A raw message is encrypted (AES-256-GCM, NIST SP 800-38D) with the key of the threat it belongs to, which
the vault keeps; before any threat has it, with a key of its own event. When somebody is erased, tokens that
lead nowhere take the place of what named them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from correlator.errors import CorrelatorError
from correlator.privacy.vault import Vault

_MAGIC: Final = b"\x00CE1"  # no line or payload of a device begins with it
_NONCE: Final = 12  # bytes, NIST SP 800-38D section 8.2


class Locked(CorrelatorError):
    """A raw message that cannot be opened: its key is gone, or it is damaged."""


class Locker:
    """Locks what is kept with keys of a vault. Raises sqlite3.OperationalError while the vault cannot be written."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def seal(self, owner: str, event: str, payload: bytes, now_ms: int) -> bytes:
        """A raw message under the key of its owner; the event's id is authenticated with it."""
        nonce = os.urandom(_NONCE)
        secret = self.vault.secret_for(owner, now_ms)
        return _head(owner) + nonce + AESGCM(secret).encrypt(nonce, payload, event.encode())

    def reseal(self, threat: str, event: str, sealed: bytes, now_ms: int) -> bytes | None:
        """The message under the key of the threat it now belongs to; None if it is under a threat's already,
        or can be opened no more. The event's own key is then to be forgotten, once this is written."""
        try:
            return self.seal(threat, event, self.open(event, sealed), now_ms) if _owner(sealed) == event else None
        except Locked:
            return None

    def replace(self, event: str, kept: bytes, payload: bytes, now_ms: int) -> bytes:
        """Another payload under the key that a message is under."""
        return self.seal(_owner(kept) if kept.startswith(_MAGIC) else event, event, payload, now_ms)

    def forget(self, event: str) -> None:
        """Deletes an event's own key."""
        self.vault.forget_secret(event)

    def open(self, event: str, kept: bytes) -> bytes:
        """The raw message; what was kept before messages were locked is as it was. Raises Locked."""
        if not kept.startswith(_MAGIC):
            return kept
        owner = _owner(kept)
        secret = self.vault.secret_of(owner)
        if secret is None:
            raise Locked(f"the key of {owner} is gone: the message can no longer be read")
        start = len(_head(owner))
        try:
            return AESGCM(secret).decrypt(kept[start : start + _NONCE], kept[start + _NONCE :], event.encode())
        except (InvalidTag, ValueError) as error:
            raise Locked(f"the message of event {event} is damaged") from error


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


def _owner(sealed: bytes) -> str:
    """Whose key a message is under: an event's own, or a threat's."""
    size = sealed[len(_MAGIC)] if len(sealed) > len(_MAGIC) else 0
    return sealed[len(_MAGIC) + 1 : len(_MAGIC) + 1 + size].decode("ascii", "replace")


def _head(owner: str) -> bytes:
    name = owner.encode("ascii")
    return _MAGIC + bytes([len(name)]) + name
