"""Every identifying value enters an event here and nowhere else (design 8.1).

Today a token is the value itself, trimmed. Later a keyed hash takes its place without any dialect
changing, which is why a test checks that no attribute, text or summary carries a value that did not
come through `token`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

# What identifies a person or can be traced to one. Doors and hosts are things of the site.
IDENTIFYING_KINDS: Final = frozenset({"person", "badge", "account"})


class Identity:
    """Makes tokens. One per site; stateless today."""

    __slots__ = ()

    def token(self, kind: str, value: str) -> str:
        """The token that stands for an identifying value of an entity kind, in all events alike."""
        return value.strip()


@lru_cache(maxsize=64)
def keeps_values(identity: Identity) -> bool:
    """Whether tokens are the values themselves, so that there is nothing to hide in a text."""
    return all(identity.token(kind, "p-000") == "p-000" for kind in sorted(IDENTIFYING_KINDS))
