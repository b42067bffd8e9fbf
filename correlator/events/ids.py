"""Ids that derive from what they name, so that a replay gives the same ones.

All are blake2b with 16 bytes, as 32 hex digits, over fields joined by U+001F with their lengths, so
that no two field lists run into each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def digest(*fields: str | bytes) -> str:
    """32 hex digits over the fields, order and borders included."""
    made = blake2b(digest_size=16)
    for field in fields:
        data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
        made.update(b"%d\x1f" % len(data))
        made.update(data)
    return made.hexdigest()


def event_head(*fields: str) -> blake2b:
    """What the ids of many events begin with, hashed: site and source, and the channel where content names them.

    Callers keep it and hand it to the functions below, which go on with a copy.
    """
    text = "".join([f"{len(field)}\x1f{field}" for field in fields])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)


def native_event_id(head: blake2b, native_id: str, index: int = 0) -> str:
    """Id of an event whose source names each message; `index` tells events of one message apart."""
    made = head.copy()
    made.update(f"{index}\x1f{native_id}".encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def content_event_id(head: blake2b, payload: bytes, time_ms: int, index: int) -> str:
    """Id from content: `time_ms` is the device time, or `received_ms` where there is none."""
    made = head.copy()
    made.update(b"%d\x1f%d\x1f%b" % (time_ms, index, payload))
    return made.hexdigest()


def repeated_id(event_id: str, n: int) -> str:
    """Id of the n-th (n >= 2) event that is equal in everything its id is made of."""
    return digest(event_id, str(n))


def match_id(site: str, rule: str, group: Iterable[str], first_evidence: str, opened_ms: int) -> str:
    """Id of a rule's episode: site, rule, group, first evidence and the time it was decided."""
    named = "".join([f"{len(part)}\x1f{part}" for part in group])
    text = f"{len(site)}\x1f{site}{len(rule)}\x1f{rule}{named}{len(first_evidence)}\x1f{first_evidence}{opened_ms}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
