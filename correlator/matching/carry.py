"""State under changed rules: what is kept of the entries when another rule set goes on with them.

Waiting events, remembered ids and last values do not depend on rules and are kept. Windows and episodes
belong to rules: they are kept as a whole if the rule set is the same, else dropped and counted.
"""

from __future__ import annotations

from typing import Final

import msgspec

from correlator.matching.plan import Plan
from correlator.matching.snapshot import VERSION

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode


def carried_over(entries: list[tuple[str, bytes]], old: Plan, new: Plan) -> tuple[list[tuple[str, bytes]], int]:
    """(entries of an engine with `old` as one with `new` may restore them, number dropped)."""
    if old.hash == new.hash:
        return entries, 0
    kept: list[tuple[str, bytes]] = []
    dropped = 0
    for key, value in entries:
        _, _, rest = key.partition("/")
        if rest.startswith(("cell/", "episode/")):
            dropped += 1
        elif rest == "engine":
            head = _unpack(value)
            head[0] = new.hash
            kept.append((f"{VERSION}/engine", _pack(head)))
        else:
            kept.append((key, value))
    return kept, dropped
