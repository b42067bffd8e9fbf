"""Locks: AES-256-GCM (NIST SP 800-38D) with a fresh nonce each time, and what it belongs to authenticated with it."""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from correlator.errors import CorrelatorError

KEY_BYTES: Final = 32
_NONCE: Final = 12  # bytes, section 8.2


class Locked(CorrelatorError):
    """A raw message that cannot be opened: its key is gone, or it is damaged."""


def wrapped(secret: bytes, content: bytes, name: str) -> bytes:
    """Some content under a key. name: what it belongs to; it opens under no other."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(secret).encrypt(nonce, content, name.encode())


def unwrapped(secret: bytes, locked: bytes, name: str) -> bytes:
    """What `wrapped` locked. Raises Locked for a damaged one, or one that belongs to something else."""
    try:
        return AESGCM(secret).decrypt(locked[:_NONCE], locked[_NONCE:], name.encode())
    except (InvalidTag, ValueError) as error:
        raise Locked(f"what is kept of {name} is damaged") from error
