"""Tokens: an identity whose values are keyed hashes, with the key's name in each.

    tok-k2-4zr6dk7qmyfrutv3bgl5o4xk6a     HMAC-SHA-256(key k2, kind || 0 || value), its first 128 bits

A plain hash of a badge number can be found by trying all numbers; without the key nobody can try. Values
are compared in lower case and without blanks around them, as rules compare texts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import ClassVar, Final

from correlator.errors import UsageError
from correlator.events.identity import Identity
from correlator.privacy.clear import stays_clear
from correlator.privacy.settings import KeySettings, PrivacySettings
from correlator.sources.logparts import account_name

TOKEN: Final = re.compile(r"tok-([a-z0-9]{1,12})-[a-z2-7]{26}")
_KEPT: Final = 65_536  # tokens kept for reuse; a flood of values starts afresh
_LONGEST_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Key:
    """A secret of 32 bytes and its name."""

    id: str
    secret: bytes

    def token(self, kind: str, value: str) -> str:
        """The token of a value."""
        message = kind.encode() + b"\0" + value.strip().lower().encode("utf-8", "surrogatepass")
        made = hmac.digest(self.secret, message, hashlib.sha256)[:16]
        return f"tok-{self.id}-{base64.b32encode(made).decode().rstrip('=').lower()}"


Learned = Callable[[str, str, str], None]


class KeyedIdentity(Identity):
    """An identity with keys, the newest first: it makes tokens by the first, and knows those of all.

    learned(token, kind, value): told of each value that a token was made of, at least once a process.
    """

    __slots__ = ("_clear", "_known", "_learned", "keys")
    keyed: ClassVar[bool] = True

    def __init__(self, keys: Sequence[Key], clear: Sequence[str] = (), learned: Learned | None = None) -> None:
        self.keys = tuple(keys)
        self._clear = frozenset(one.strip().lower() for one in clear)
        self._learned = learned
        self._known: dict[tuple[str, str], str] = {}

    def token(self, kind: str, value: str) -> str:
        """The token of a value; names that identify nobody stay as they are."""
        known = self._known.get((kind, value))
        if known is not None:
            return known
        if self.is_clear(kind, value):
            return value.strip()
        made = self.keys[0].token(kind, value)
        if self._learned is not None:
            self._learned(made, kind, value.strip())
        if len(value) <= _LONGEST_KEPT:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[kind, value] = made
        return made

    def is_clear(self, kind: str, value: str) -> bool:
        """Whether a value stays as it is."""
        if kind == "account" and self._clear:
            name = value.strip().lower()
            if name in self._clear or account_name(name) in self._clear:
                return True
        return stays_clear(kind, value)

    def note_again(self) -> None:
        """Tells `learned` once more of the values that are remembered: they are still in use."""
        if self._learned is not None:
            for (kind, value), token in self._known.items():
                self._learned(token, kind, value.strip())

    def tokens(self, kind: str, value: str) -> tuple[str, ...]:
        """What may stand for a value in events: its token by every key, the newest first, or the value itself."""
        if self.is_clear(kind, value):
            return (value.strip(),)
        older = tuple(key.token(kind, value) for key in self.keys[1:])
        if self._learned is not None:
            for token in older:
                self._learned(token, kind, value.strip())
        return (self.token(kind, value), *older)


def expires(key: KeySettings, settings: PrivacySettings) -> date | None:
    """The first day on which a replaced key is no longer matched; None for the key that makes tokens."""
    return None if key.replaced is None else key.replaced + timedelta(days=settings.old_keys_days)


def read_keys(settings: PrivacySettings, today: date) -> list[Key]:
    """The keys that are matched on a day. Raises UsageError for a file that is missing, open to others or no key."""
    made: list[Key] = []
    for one in settings.keys:
        end = expires(one, settings)
        if end is None or today < end:
            made.append(_read(one))
    return made


def _read(one: KeySettings) -> Key:
    try:
        mode, text = one.file.stat().st_mode, one.file.read_text(encoding="ascii").strip()
        secret = bytes.fromhex(text)
    except OSError as error:
        raise UsageError(f"key {one.id}: {one.file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"key {one.id}: {one.file} is no key; it holds 64 hex digits") from error
    if mode & 0o077:
        raise UsageError(f"key {one.id}: {one.file} can be read by others; chmod 600 {one.file}")
    if len(secret) != 32:
        raise UsageError(f"key {one.id}: {one.file} holds {len(secret)} bytes; a key has 32")
    return Key(one.id, secret)
