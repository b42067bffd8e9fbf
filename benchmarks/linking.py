"""How quick linking is: findings a second through the engine, every link's terms kept.

    opening     every finding opens an episode, on a campus of 10,000 assets: a day that only teaches, then days
                in which each is weighed against every threat it could belong to
    extending   49 of 50 findings go on with an episode, the others are as before

Findings are spread over the assets that can have them: a kind about a door on doors, about a host on
hosts. The hash is over all threats with members, links and terms, and over the engine's whole state, so
that two versions can be compared that should decide the same.
"""

from __future__ import annotations

import hashlib
import tempfile
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.measure import timed
from correlator.clock import DAY_MS, MINUTE_MS
from correlator.events.event import LEVELS
from correlator.events.kinds import KINDS
from correlator.lab.campus import Campus
from correlator.linking import state
from correlator.linking.engine import Item, LinkEngine
from correlator.linking.ground import SiteGround
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import shipped_tables
from correlator.premises import Premises, load_site
from correlator.run.collector import settle_collector

START_MS: Final = 1_772_438_400_000
DAYS: Final = 20
PART: Final = 1_000  # findings that are timed together: short enough to run undisturbed now and then
OPENS: Final = 50  # of so many findings one opens an episode, where most extend one
# Class of asset -> first words of the kinds of findings that are told of it.
_TOLD_OF: Final = {
    "door": ("door", "badge"), "reader": ("reader", "badge"), "camera": ("camera",), "sensor": ("sensor", "temperature"),
    "host": ("host", "usb", "service", "file", "process", "malware"), "network": ("network", "ids"),
    "medical_device": ("device", "network"), "building_device": ("device", "sensor"), "zone": ("person", "motion"),
}  # fmt: skip


def site(assets: int) -> Premises:
    """The premises of a generated campus."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "campus.yaml"
        with path.open("w", encoding="utf-8") as out:
            out.writelines(Campus(assets).site_yaml())
        return load_site(path)


def places(premises: Premises) -> list[tuple[str, list[str]]]:
    """(asset, kinds of findings it can have), for every asset that can have some."""
    kinds = {
        of: [one for one in sorted(KINDS) if KINDS[one].notable and one.partition(".")[0] in words]
        for of, words in _TOLD_OF.items()
    }
    found = ((name, kinds.get(asset.asset_class, [])) for name, asset in premises.assets.items())
    return [(name, mine) for name, mine in found if mine]


def _item(number: int, kind: str, asset: str, t_ms: int, level: str) -> Item:
    return Item(f"{number:032x}", kind, asset, t_ms, KINDS[kind].domain, level)


def opening(premises: Premises, count: int) -> list[Item]:
    """Findings of which each opens an episode, evenly over `DAYS` days."""
    dice, where, gap_ms = Random(7), places(premises), LinkingSettings().gap_ms
    last: dict[tuple[str, str], int] = {}
    found: list[Item] = []
    while len(found) < count:
        t_ms = START_MS + len(found) * DAYS * DAY_MS // count
        asset, kinds = dice.choice(where)
        kind = dice.choice(kinds)
        if t_ms - last.get((kind, asset), -DAY_MS) > gap_ms:
            last[kind, asset] = t_ms
            level = LEVELS[dice.choice((1, 1, 1, 2, 2, 3))]
            found.append(_item(len(found), kind, asset, t_ms, level))
    return found


def extending(premises: Premises, count: int) -> list[Item]:
    """Findings of which one in `OPENS` opens an episode as in `opening`; the others go on with that of a pair of
    kind and asset that never rests for longer than a minute."""
    fresh = opening(premises, count // OPENS)
    noise = count - len(fresh)
    dice = Random(11)
    pairs = [(asset, dice.choice(kinds)) for asset, kinds in dice.sample(places(premises), _pairs(noise))]
    found = [
        _item(count + number, kind, asset, START_MS + number * DAYS * DAY_MS // noise, "low")
        for number, (asset, kind) in zip(range(noise), cycle(pairs), strict=False)
    ]
    return sorted([*fresh, *found], key=lambda one: (one.t_ms, one.id))


def _pairs(noise: int) -> int:
    return max(1, noise * MINUTE_MS // (DAYS * DAY_MS))


def run(premises: Premises, items: list[Item], ground: SiteGround | None = None) -> tuple[list[float], LinkEngine]:
    """(processor seconds of each part of `PART` findings, the engine afterwards) of placing all findings.

    ground: with the reaches that it knows.
    """
    settings = LinkingSettings()
    ground = ground if ground is not None else SiteGround(premises, settings)
    engine = LinkEngine(premises.site_id, ground, shipped_tables(), settings)

    def place(part: list[Item]) -> None:
        for item in part:
            engine.place(item)

    settle_collector()
    parts = [items[at : at + PART] for at in range(0, len(items), PART)]
    return [timed(lambda part=part: place(part)) for part in parts], engine


def digest(engine: LinkEngine) -> str:
    """Of every threat with its links and their terms, and of all state."""
    found = hashlib.sha256()
    for threat in engine.all_threats():
        links = (*threat.members.values(), *threat.notes)
        found.update(repr((threat.id, threat.score, threat.aliases, links)).encode())
    for key, value in state.snapshot(engine):
        found.update(key.encode() + value)
    return found.hexdigest()[:16]
