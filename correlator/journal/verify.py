"""Whether a journal is still what it was: every anchor in it holds the hash of all that stands before it.

Anchors are written by the console once a day. Who edits, removes or inserts a record changes the hash of
everything behind it, and the next anchor no longer fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from correlator.clock import DAY_MS
from correlator.events.ids import digest
from correlator.journal.action import Act
from correlator.journal.fold import Fold
from correlator.journal.store import Journal

EVERY_MS: Final = DAY_MS
WRITER: Final = "console"


class Verified(Struct, frozen=True):
    """What is known of a site's journal.

    broken: (position, at_ms) of anchors that do not fit; anchored: actions up to the last anchor that fits, so
    that of the others nobody can say; chain: hash of all of it.
    """

    site: str
    actions: int
    anchors: int
    anchored: int
    broken: tuple[tuple[int, int], ...]
    chain: str


def anchor(fold: Fold, now_ms: int) -> Act:
    """The anchor of a site's journal as it stands; those of one day are one."""
    return Act(
        id=digest("anchor", fold.site, str(now_ms // EVERY_MS)), site=fold.site, who=WRITER, verb="anchor",
        at_ms=now_ms, args={"chain": fold.chain.hex(), "count": fold.count},
    )  # fmt: skip


def verify(journal: Journal) -> Iterator[Verified]:
    """Hashes the whole journal, site by site, and compares with its anchors. Raises JournalAway."""
    chains: dict[str, list[bytes]] = {}  # site -> hash after each number of actions
    anchored: dict[str, int] = {}
    broken: dict[str, list[tuple[int, int]]] = {}
    anchors: Counter[str] = Counter()
    folds: dict[str, Fold] = {}
    for position, act in journal.read(-1):
        fold = folds.setdefault(act.site, Fold(act.site))
        known = chains.setdefault(act.site, [b""])
        if act.verb == "anchor":
            anchors[act.site] += 1
            count = act.args.get("count", len(known) - 1)  # actions that came between do not matter
            if type(count) is int and 0 <= count < len(known) and known[count].hex() == act.args.get("chain"):
                anchored[act.site] = count + 1
            else:
                broken.setdefault(act.site, []).append((position, act.at_ms))
        fold.add(act)
        known.append(fold.chain)
    for site, fold in sorted(folds.items()):
        yield Verified(site, fold.count, anchors[site], anchored.get(site, 0), tuple(broken.get(site, ())),
                       fold.chain.hex())  # fmt: skip


def due(folds: Mapping[str, Fold], written: dict[str, int], now_ms: int) -> list[Act]:
    """Anchors that are to be written now: one a day for each site of which something was written since the last.

    written: site -> day of its last anchor; it is brought up to date.
    """
    made = []
    for site, fold in folds.items():
        day = now_ms // EVERY_MS
        if fold.count and written.get(site) != day:
            written[site] = day
            made.append(anchor(fold, now_ms))
    return made
