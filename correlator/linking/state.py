"""Linking's state as entries (component, version, key, value): changed entries, all of them, and back.

    1/linker/asset/<id>    rates, tail and burst of an asset, its latest episodes
    1/linker/kind/<kind>   rates of a kind by class and hour, its habits
    1/linker/site          the site's tail and hours, counters
    1/linker/threat/<id>   an open threat

Restored in order of the keys: threats refer to episodes of assets by id and bring those that no asset
keeps any more. Reaches and the index of what is near are rebuilt from threats and graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from correlator.errors import StateRefused
from correlator.linking.engine import TERMS, Episode, Link, LinkEngine, ThreatState
from correlator.linking.rates import WHO, AssetState, KindState

PREFIX: Final = "1/linker/"
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode


def snapshot(engine: LinkEngine) -> list[tuple[str, bytes]]:
    """All state entries, sorted by key."""
    rates = engine.rates
    entries = [(f"{PREFIX}asset/{name}", _asset(engine, name)) for name in rates.assets]
    entries += [(f"{PREFIX}kind/{name}", _kind(kind)) for name, kind in rates.kinds.items()]
    entries += [(f"{PREFIX}threat/{name}", _threat(engine, threat)) for name, threat in engine.threats.items()]
    if rates.start_ms >= 0:
        entries.append((f"{PREFIX}site", _site(engine)))
    return sorted(entries)


def changes(engine: LinkEngine) -> list[tuple[str, bytes | None]]:
    """Entries changed (None: deleted) since the last call, sorted by key."""
    entries: list[tuple[str, bytes | None]] = []
    for name in engine.changed_assets:
        entries.append((f"{PREFIX}asset/{name}", _asset(engine, name) if name in engine.rates.assets else None))
    for name in engine.changed_kinds:
        kind = engine.rates.kinds.get(name)
        entries.append((f"{PREFIX}kind/{name}", _kind(kind) if kind is not None else None))
    for name in engine.changed_threats:
        threat = engine.threats.get(name)
        entries.append((f"{PREFIX}threat/{name}", _threat(engine, threat) if threat is not None else None))
    if entries:
        entries.append((f"{PREFIX}site", _site(engine)))
    engine.changed_assets.clear()
    engine.changed_kinds.clear()
    engine.changed_threats.clear()
    return sorted(entries, key=lambda entry: entry[0])


def restore(engine: LinkEngine, entries: Iterable[tuple[str, bytes]]) -> None:
    """Takes entries into an engine. Raises StateRefused for what this release does not read."""
    for key, value in sorted(entries):
        part, _, name = key.removeprefix(PREFIX).partition("/")
        if not key.startswith(PREFIX) or part not in ("asset", "kind", "site", "threat"):
            raise StateRefused(f"linker state {key!r} is not of this release")
        data = _unpack(value)
        if part == "asset":
            _restore_asset(engine, name, data)
        elif part == "kind":
            _restore_kind(engine, name, data)
        elif part == "site":
            _restore_site(engine, data)
        else:
            _restore_threat(engine, name, data)


def rates_of(entries: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """What a baseline keeps of a snapshot: rates, tails and habits, but no threats."""
    return [(key, value) for key, value in entries if not key.startswith(f"{PREFIX}threat/")]


# ---- assets, kinds, site -----------------------------------------------------------------------------


def _asset(engine: LinkEngine, name: str) -> bytes:
    state = engine.rates.assets[name]
    latest = engine.latest(name)
    recent = engine.recent(name)
    kept = {episode.id: _episode(episode) for episode in (*latest.values(), *recent)}
    return _pack(
        [
            state.cls,
            state.floor,
            sorted(state.rates.items()),
            sorted(state.tail.items()),
            state.tail_ms,
            state.burst_ms,
            state.burst_bin,
            state.burst_kinds,
            sorted(kept.items()),
            sorted((kind, one.id) for kind, one in latest.items()),
            [one.id for one in recent],
        ]
    )


def _restore_asset(engine: LinkEngine, name: str, data: list[Any]) -> None:
    state = AssetState(name, data[0], data[1])
    rates = engine.rates
    old = rates.assets.get(name)
    rates.assets[name] = state
    if old is None:
        rates.named += state.cls.startswith(WHO)
        rates.of_class[state.cls] = rates.of_class.get(state.cls, 0) + 1
        rates.of_class[state.floor] = rates.of_class.get(state.floor, 0) + 1
    state.rates = dict(data[2])
    rates.pairs_kept += len(state.rates) - (len(old.rates) if old is not None else 0)
    state.tail = dict(data[3])
    state.tail_ms, state.burst_ms, state.burst_bin, state.burst_kinds = data[4:8]
    kept = {id_: _episode_of(one, state) for id_, one in data[8]}
    engine.keep(name, {kind: kept[id_] for kind, id_ in data[9]}, [kept[id_] for id_ in data[10]])


def _kind(kind: KindState) -> bytes:
    return _pack(
        [
            kind.first_ms,
            kind.count,
            kind.hours,
            sorted(kind.groups.items()),
            sorted(kind.recent.items()),
            sorted(kind.pairs.items()),
        ]
    )


def _restore_kind(engine: LinkEngine, name: str, data: list[Any]) -> None:
    kind = engine.rates.kinds[name] = KindState(data[0])
    kind.count, kind.hours = data[1], data[2]
    kind.groups, kind.recent, kind.pairs = dict(data[3]), dict(data[4]), dict(data[5])


def _site(engine: LinkEngine) -> bytes:
    rates = engine.rates
    return _pack(
        [
            rates.start_ms,
            engine.from_ms,
            rates.tail,
            sorted(rates.class_tail.items()),
            rates.tail_ms,
            rates.hours,
            rates.heard,
            sorted(rates.doubted.items()),
            sorted({**engine.counters, **rates.counters}.items()),
        ]
    )


def _restore_site(engine: LinkEngine, data: list[Any]) -> None:
    rates = engine.rates
    (
        rates.start_ms,
        engine.from_ms,
        rates.tail,
        class_tail,
        rates.tail_ms,
        rates.hours,
        rates.heard,
        doubted,
        counters,
    ) = data
    rates.doubted = dict(doubted)
    rates.class_tail = dict(class_tail)
    for name, value in counters:
        (rates.counters if name in rates.counters else engine.counters)[name] = value


# ---- episodes and threats ------------------------------------------------------------------------------


def _episode(one: Episode) -> list[Any]:
    return [
        one.id,
        one.kind,
        one.type,
        one.domain,
        list(one.tactics),
        one.evidence,
        one.calm,
        one.t_ms,
        one.last_ms,
        one.counted_ms,
        one.size,
        one.bin,
        one.chance,
        one.root_chance,
        one.warm_ms,
        one.threat,
    ]


def _episode_of(data: list[Any], place: AssetState) -> Episode:
    one = Episode.__new__(Episode)
    (
        one.id,
        one.kind,
        one.type,
        one.domain,
        tactics,
        one.evidence,
        one.calm,
        one.t_ms,
        one.last_ms,
        one.counted_ms,
        one.size,
        one.bin,
        one.chance,
        one.root_chance,
        one.warm_ms,
        one.threat,
    ) = data
    one.tactics = tuple(tactics)
    one.anchors, one.habit = (), 0.0  # asked only at its onset
    one.place = place
    return one


def _threat(engine: LinkEngine, threat: ThreatState) -> bytes:
    episodes = {**threat.episodes, **{touch.episode.id: touch.episode for touch in threat.touches.values()}}
    parent = [threat.parent[0], list(threat.parent[1])] if threat.parent is not None else None
    return _pack(
        [
            threat.score,
            list(threat.root) if threat.root is not None else None,
            threat.opened_by,
            [list(link) for link in threat.members.values()],
            [list(link) for link in threat.notes],
            [[one.place.asset, _episode(one)] for one in episodes.values()],
            list(threat.episodes),
            [[touch.asset, touch.episode.id, touch.log_resp, list(touch.since)] for touch in threat.touches.values()],
            sorted(threat.kinds.items()),
            sorted(threat.tactics),
            sorted(threat.domains),
            sorted(threat.bursts.items()),
            sorted(threat.crowd.items()),
            threat.counted,
            threat.counted_gain,
            parent,
            threat.reported,
            threat.aliases,
            threat.first_ms,
            threat.last_ms,
        ]
    )


def _restore_threat(engine: LinkEngine, name: str, data: list[Any]) -> None:
    threat = ThreatState(name, data[18])
    (
        threat.score,
        root,
        threat.opened_by,
        members,
        notes,
        episodes,
        mine,
        touches,
        kinds,
        tactics,
        domains,
        bursts,
        crowd,
        threat.counted,
        threat.counted_gain,
        parent,
        threat.reported,
        threat.aliases,
        threat.first_ms,
        threat.last_ms,
    ) = data
    known: dict[str, Episode] = {}
    for asset, one in episodes:
        kept = {episode.id: episode for episode in (*engine.latest(asset).values(), *engine.recent(asset))}
        known[one[0]] = kept.get(one[0]) or _episode_of(one, engine.rates.assets[asset])
    threat.root = _link_of(root) if root is not None else None
    links = [_link_of(one) for one in members]
    threat.members = {link.target: link for link in links}
    threat.notes = [_link_of(one) for one in notes]
    threat.episodes = {id_: known[id_] for id_ in mine}
    threat.kinds, threat.crowd = dict(kinds), dict(crowd)
    threat.bursts = {asset: list(burst) for asset, burst in bursts}
    threat.tactics, threat.domains = set(tactics), set(domains)
    threat.parent = (parent[0], _link_of(parent[1])) if parent is not None else None
    engine.readmit(threat, [(asset, known[id_], log_resp, tuple(since)) for asset, id_, log_resp, since in touches])


def _link_of(data: list[Any]) -> Link:
    source, target, x, gain, terms, delay_ms, how = data
    if len(terms) < len(TERMS):  # of before links were weighed by the pace of their threat
        terms.insert(TERMS.index("pace"), 0.0)
    return Link(source, target, x, gain, tuple(terms), delay_ms, how)
