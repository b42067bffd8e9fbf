"""Raw messages of evidence under lock: what is shown of them, and what opens them.

A raw message is encrypted (AES-256-GCM, NIST SP 800-38D) with the key of the threat it belongs to, which
the vault keeps; before any threat has it, with a key of its own event. Beside it stands what may be shown:
the message as its dialect reads it, with tokens where identities were.
"""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from correlator.errors import CorrelatorError
from correlator.events.event import Event
from correlator.privacy.vault import Vault
from correlator.sources import Context, Dialect, Message

_MAGIC: Final = b"CE1"
_NONCE: Final = 12  # bytes, NIST SP 800-38D section 8.2
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Locked(CorrelatorError):
    """A raw message that cannot be opened: its key is gone, or it is damaged."""


def seal(vault: Vault, owner: str, event: str, payload: bytes, now_ms: int) -> bytes:
    """A raw message under the key of its owner; the event's id is authenticated with it."""
    nonce = os.urandom(_NONCE)
    secret = vault.secret_for(owner, now_ms)
    return _head(owner) + nonce + AESGCM(secret).encrypt(nonce, payload, event.encode())


def unseal(vault: Vault, event: str, sealed: bytes) -> bytes:
    """The raw message. Raises Locked."""
    owner = owner_of(sealed)
    secret = vault.secret_of(owner)
    if secret is None:
        raise Locked(f"the key of {owner} is gone: the message can no longer be read")
    start = len(_head(owner))
    nonce, locked = sealed[start : start + _NONCE], sealed[start + _NONCE :]
    try:
        return AESGCM(secret).decrypt(nonce, locked, event.encode())
    except InvalidTag as error:
        raise Locked(f"the message of event {event} is damaged") from error


def reseal(vault: Vault, owner: str, event: str, sealed: bytes, now_ms: int) -> bytes | None:
    """The message under the key of the threat it now belongs to; None if some threat has it already."""
    before = owner_of(sealed)
    if before != event:
        return None
    payload = unseal(vault, event, sealed)
    return seal(vault, owner, event, payload, now_ms)


def owner_of(sealed: bytes) -> str:
    """Whose key a message is under: an event's own, or a threat's. Raises Locked for what is no such message."""
    if not sealed.startswith(_MAGIC) or len(sealed) < len(_MAGIC) + 1 + _NONCE:
        raise Locked("the message was erased, or is damaged")
    size = sealed[len(_MAGIC)]
    return sealed[len(_MAGIC) + 1 : len(_MAGIC) + 1 + size].decode("ascii", "replace")


def _head(owner: str) -> bytes:
    name = owner.encode("ascii")
    return _MAGIC + bytes([len(name)]) + name


def shown(dialect: Dialect, context: Context, message: Message) -> bytes:
    """What may be shown of a message: the facts its dialect finds, as JSON, with the context's tokens."""
    found: list[dict[str, Any]] = []
    for one in dialect.decode(message, context):
        if isinstance(one, Event):
            said: dict[str, Any] = {"kind": one.kind, "said": one.text or one.summary}
            if one.attributes:
                said["fields"] = one.attributes
            found.append(said)
    return _encode(found)
