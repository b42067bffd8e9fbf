"""The engine's state as entries: (key, bytes), so that only what changed need be written.

Keys: "1/<component>/<rest>", 1 being the version of the entries' form. Values are msgpack.

    engine            positions, counters, promises
    wait, seen        sorter: events that wait, ids that are remembered
    given             newest messages that an MQTT broker may give again
    alarm             newest events that were told on arrival
    edge, early       last values of state-like things, in total order and in order of arrival
    cell              one group of a keyspace: windows, episodes by id, anchors, consecutive windows
    episode           an open episode, or an ended one that a window, episode or report still needs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from correlator.errors import StateRefused
from correlator.matching.deadlines import ANCHOR, WINDOW_END
from correlator.matching.episodes import FOREVER, floor_of, held_ms
from correlator.matching.shapes import Metric
from correlator.matching.state import Anchor, Cell, Episode, Tumble, Window

if TYPE_CHECKING:
    from correlator.matching.engine import Engine
    from correlator.matching.plan import Keyspace, Rule

VERSION: Final = "1"

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode


class Written:
    """What `changes` has told so far of groups and episodes: who refers to which episodes.

    users: episode id -> how many told groups and episodes refer to it. At none its entry is deleted.
    """

    def __init__(self) -> None:
        self.cells: dict[tuple[int, str], frozenset[str]] = {}
        self.episodes: dict[str, frozenset[str]] = {}
        self.users: dict[str, int] = {}

    def refer(self, before: frozenset[str], now: frozenset[str], unused: list[str]) -> None:
        """References of one group or episode changed; ids that nobody refers to go to `unused`."""
        for one in now - before:
            self.users[one] = self.users.get(one, 0) + 1
        for one in before - now:
            left = self.users[one] - 1
            self.users[one] = left
            if not left:
                unused.append(one)


def track(engine: Engine) -> None:
    """Starts to note what changes."""
    engine.sorter.track()
    engine.edges.dirty = set()
    engine.early_edges.dirty = set()
    engine.deliveries.dirty = set()
    engine.early_told.dirty = set()
    for keyspace in engine.plan.keyspaces:
        keyspace.dirty = set()
    engine.matcher.episodes.dirty = set()
    engine.written = Written()


def entries(engine: Engine) -> list[tuple[str, bytes]]:
    """All entries, sorted by key."""
    found: dict[str, bytes] = {f"{VERSION}/engine": _engine_entry(engine)}
    for part in (engine.sorter, engine.deliveries, engine.early_told):
        found.update((f"{VERSION}/{key}", value) for key, value in part.entries())
    for name, stage in (("edge", engine.edges), ("early", engine.early_edges)):
        for key in stage.entry_keys():
            value = stage.entry(key)
            if value is not None:
                found[f"{VERSION}/{name}/{key}"] = value
    episodes: dict[str, Episode] = {}
    for keyspace in engine.plan.keyspaces:
        for key, cell in keyspace.cells.items():
            episodes.update(_cell_episodes(engine, cell))
            found[_cell_key(keyspace, key)] = _cell_entry(cell)
    todo = list(episodes.values())
    while todo:
        episode = todo.pop()
        found[_episode_key(episode.id)] = _episode_entry(engine, episode)
        for one in _episode_refers(episode):
            if one.id not in episodes:
                episodes[one.id] = one
                todo.append(one)
    return sorted(found.items())


def changes(engine: Engine) -> list[tuple[str, bytes | None]]:
    """Entries changed since the last call, sorted by key; None deletes. It costs what changed, not what is kept."""
    sorter = engine.sorter
    if engine.written is None or sorter.dirty is None:
        raise ValueError("changes() needs the setting track_changes")
    found: dict[str, bytes | None] = {f"{VERSION}/engine": _engine_entry(engine)}
    for part in (sorter, engine.deliveries, engine.early_told):
        found.update((f"{VERSION}/{key}", value) for key, value in part.changes())
    for name, stage in (("edge", engine.edges), ("early", engine.early_edges)):
        assert stage.dirty is not None
        for key in stage.dirty:
            found[f"{VERSION}/{name}/{key}"] = stage.entry(key)
        stage.dirty.clear()
    _changed_groups(engine, engine.written, found)
    return sorted(found.items())


def _changed_groups(engine: Engine, written: Written, found: dict[str, bytes | None]) -> None:
    """Groups that changed; episodes that changed or that a group or episode newly refers to; what nobody needs."""
    unused: list[str] = []
    todo: dict[str, Episode] = {}
    for keyspace in engine.plan.keyspaces:
        assert keyspace.dirty is not None
        for key in keyspace.dirty:
            cell = keyspace.cells.get(key)
            episodes = _cell_episodes(engine, cell)
            found[_cell_key(keyspace, key)] = None if cell is None else _cell_entry(cell)
            place = (keyspace.index, key)
            now = frozenset(episodes)
            written.refer(written.cells.pop(place, NOBODY), now, unused)
            if now:
                written.cells[place] = now
                todo.update((name, one) for name, one in episodes.items() if name not in written.episodes)
        keyspace.dirty.clear()
    dirty = engine.matcher.episodes.dirty
    assert dirty is not None
    todo.update((one.id, one) for one in dirty if written.users.get(one.id) or one.id in written.episodes)
    dirty.clear()
    while todo:
        _, episode = todo.popitem()
        found[_episode_key(episode.id)] = _episode_entry(engine, episode)
        refers = {one.id: one for one in _episode_refers(episode)}
        now = frozenset(refers)
        before = written.episodes.get(episode.id, NOBODY)
        written.episodes[episode.id] = now
        written.refer(before, now, unused)
        todo.update((name, one) for name, one in refers.items() if name not in written.episodes)
    while unused:
        name = unused.pop()
        if written.users.get(name) == 0:
            del written.users[name]
            found[_episode_key(name)] = None
            written.refer(written.episodes.pop(name), NOBODY, unused)


def restore(engine: Engine, given: list[tuple[str, bytes]]) -> None:
    """Takes entries into a fresh engine with the same rules."""
    cells: list[tuple[Keyspace, str, list[Any]]] = []
    episodes: dict[str, Episode] = {}
    raw_episodes: list[list[Any]] = []
    by_id = {keyspace.id: keyspace for keyspace in engine.plan.keyspaces}
    for key, value in given:
        version, _, rest = key.partition("/")
        if version != VERSION:
            raise StateRefused(f"state entry {key!r} is of version {version}; this release reads {VERSION}")
        component, _, name = rest.partition("/")
        if component == "engine":
            _restore_engine(engine, _unpack(value))
        elif component in ("wait", "seen"):
            engine.sorter.restore_entry(rest, value)
        elif component == "given":
            engine.deliveries.restore_entry(rest, value)
        elif component == "alarm":
            engine.early_told.restore_entry(rest, value)
        elif component == "edge":
            engine.edges.restore_entry(name, value)
        elif component == "early":
            engine.early_edges.restore_entry(name, value)
        elif component == "cell":
            keyspace_id, _, group = name.partition("/")
            if keyspace_id in by_id:
                cells.append((by_id[keyspace_id], group, _unpack(value)))
        elif component == "episode":
            raw_episodes.append(_unpack(value))
        else:
            raise StateRefused(f"state entry {key!r} is of no component that this release knows")
    for raw in raw_episodes:
        episode = _read_episode(raw)
        episodes[episode.id] = episode
    for raw in raw_episodes:
        episode = episodes[raw[0]]
        episode.inner = [episodes[one] for one in raw[-2]]
        episode.waiting = [episodes[one] for one in raw[-1]]
    cells.sort(key=lambda one: one[2][0])
    for keyspace, group, raw in cells:
        cell = keyspace.cells[group] = _read_cell(engine, keyspace, group, raw, episodes)
        if engine.written is not None:
            now = frozenset(_cell_episodes(engine, cell))
            if now:
                engine.written.cells[(keyspace.index, group)] = now
                engine.written.refer(NOBODY, now, [])
    if engine.written is not None:
        for episode in episodes.values():
            now = engine.written.episodes[episode.id] = frozenset(one.id for one in _episode_refers(episode))
            engine.written.refer(NOBODY, now, [])


NOBODY: Final[frozenset[str]] = frozenset()


def _cell_key(keyspace: Keyspace, key: str) -> str:
    return f"{VERSION}/cell/{keyspace.id}/{key}"


def _episode_key(episode_id: str) -> str:
    return f"{VERSION}/episode/{episode_id}"


def _engine_entry(engine: Engine) -> bytes:
    matcher, sorter, deadlines = engine.matcher, engine.sorter, engine.matcher.deadlines
    return _pack([
        engine.plan.hash, deadlines.now_ms, deadlines.now_n, deadlines.serial, matcher.started,
        sorted(engine.promised.items()), sorted(engine.spans.items()),
        [sorter.released_ms, sorter.forget_at_ms, sorter.duplicates, sorter.numbered, sorter.late, sorter.too_late,
         sorter.clock_regress, engine.edges.seeded, engine.edges.unchanged, engine.folded, engine.repeated_records,
         matcher.episodes.dropped_window_events],
        [[keyspace.id, keyspace.dropped, keyspace.refused] for keyspace in engine.plan.keyspaces],
    ])  # fmt: skip


def _restore_engine(engine: Engine, raw: list[Any]) -> None:
    plan_hash, now_ms, now_n, serial, started, promised, spans, counts, keyspaces = raw
    if plan_hash != engine.plan.hash:
        raise StateRefused("this state was written under other rules; start from the log, or restore with those rules")
    matcher, sorter, deadlines = engine.matcher, engine.sorter, engine.matcher.deadlines
    deadlines.now_ms, deadlines.now_n, deadlines.serial, matcher.started = now_ms, now_n, serial, started
    engine.promised = dict(promised)
    engine.spans = dict(spans)
    (sorter.released_ms, sorter.forget_at_ms, sorter.duplicates, sorter.numbered, sorter.late, sorter.too_late,
     sorter.clock_regress, engine.edges.seeded, engine.edges.unchanged, engine.folded, engine.repeated_records,
     matcher.episodes.dropped_window_events) = counts  # fmt: skip
    counted = {keyspace_id: (dropped, refused) for keyspace_id, dropped, refused in keyspaces}
    for keyspace in engine.plan.keyspaces:
        keyspace.dropped, keyspace.refused = counted.get(keyspace.id, (0, 0))


# ---- groups ------------------------------------------------------------------------------------


def _cell_entry(cell: Any) -> bytes:
    if type(cell) is tuple:
        return _pack([cell[1], list(cell)])
    windows = [
        None if window is None else [
            window.pos, [one for _, one in window.pairs], _vals(window), window.base, window.last, window.prune_at,
            list(window.newest.items()) if window.newest is not None else None,
            bytes(window.again) if window.again is not None else None, window.heads,
        ]
        for window in cell.wins
    ]  # fmt: skip
    open_ids = {} if cell.eps is None else {index: episode.id for index, episode in cell.eps.items()}
    extras: dict[int, Any] = {}
    for index, extra in (cell.extras or {}).items():
        if type(extra) is Metric:
            extras[index] = ["metric", *extra.state()]
        elif type(extra) is Tumble:
            extras[index] = [
                "window", extra.start_ms, extra.end_ms, extra.serial, extra.last_event_ms, extra.pos, extra.ids,
                extra.vals, [inner.id for inner in extra.inner], extra.group, extra.fields,
            ]  # fmt: skip
        else:
            extras[index] = ["anchors", [
                [one.pos, one.id, one.due_ms, one.serial, one.members, one.ids, [inner.id for inner in one.inner],
                 one.value, one.group, one.fields, one.taken]
                for one in extra
            ]]  # fmt: skip
    return _pack([cell.born, None, cell.touched, windows, open_ids, extras])


def _vals(window: Window) -> Any:
    if window.vals is None or not window.vals or type(window.vals[0]) is str:
        return window.vals
    return [[value, None if inner is None else inner.id, taken] for value, inner, taken in window.vals]


def _read_cell(engine: Engine, keyspace: Keyspace, key: str, raw: list[Any], episodes: dict[str, Episode]) -> Any:
    if raw[1] is not None:
        slot, position, event_id = raw[1]
        return (slot, position, event_id)
    born, _, touched, windows, open_ids, extras = raw
    cell = Cell(len(keyspace.slots), keyspace.no_dues, born)
    cell.touched = touched
    cell.doubled = True  # not written: to look once more costs little
    for index, one in enumerate(windows):
        if one is None:
            continue
        window = Window()
        window.pos, ids, vals, window.base, window.last, window.prune_at, newest, again, window.heads = one
        window.pairs = list(zip(window.pos, ids, strict=True))
        window.newest = None if newest is None else dict(newest)
        window.again = None if again is None else bytearray(again)
        if vals and type(vals[0]) is list:
            vals = [
                (tuple(value) if type(value) is list else value, None if inner is None else episodes[inner],
                 None if taken is None else {step: _read_taken(captured) for step, captured in taken.items()})
                for value, inner, taken in vals
            ]  # fmt: skip
        window.vals = vals
        cell.wins[index] = window
        cell.lasts[index] = window.last
    rules, deadlines = engine.plan.rules, engine.matcher.deadlines
    if open_ids:
        cell.eps = {}
        for index, episode_id in open_ids.items():
            episode = cell.eps[index] = episodes[episode_id]
            rule = rules[index]
            if _holding(episode, rule):
                if cell.dues is keyspace.no_dues:
                    cell.dues = cell.dues.copy()
                episode.floor = floor_of(rule, cell, FOREVER)
                cell.dues[rule.place] = episode.floor + rule.span
            # A metric's end is looked for from the start again: what is known of it changes nothing told.
            due_ms = episode.opened_ms if rule.shape == "metric" and not rule.tumble else held_ms(episode, rule)
            deadlines.put_end(due_ms + rule.span_ms, episode)
    for index, extra in extras.items():
        if cell.extras is None:
            cell.extras = {}
        rule = rules[index]
        if extra[0] == "metric":
            metric = cell.extras[index] = Metric(rule.metric, rule.rule.percentile)
            metric.set_state(extra[1:])
        elif extra[0] == "window":
            tumble = Tumble(extra[1], extra[2], extra[3])
            tumble.last_event_ms, tumble.pos, tumble.ids, vals = extra[4:8]
            tumble.vals = [tuple(value) if type(value) is list else value for value in vals]
            tumble.inner = [episodes[one] for one in extra[8]]
            tumble.group, tumble.fields = extra[9], extra[10]
            cell.extras[index] = tumble
            deadlines.put(tumble.end_ms, tumble.serial, WINDOW_END, (rule, key))
        else:
            pending = cell.extras[index] = []
            for one in extra[1]:
                anchor = Anchor(one[0], one[1], one[2], one[3])
                anchor.members, anchor.ids = one[4], one[5]
                anchor.inner = [episodes[inner] for inner in one[6]]
                anchor.value, anchor.group, anchor.fields = one[7:10]
                anchor.taken = None if one[10] is None else [
                    None if taken is None else _read_taken(taken) for taken in one[10]
                ]  # fmt: skip
                pending.append(anchor)
                deadlines.put(anchor.due_ms, anchor.serial, ANCHOR, (rule, key, anchor))
    return cell


def _read_taken(captured: list[Any]) -> tuple[Any, ...]:
    return tuple((value, asset, tuple(zones), time_ms) for value, asset, zones, time_ms in captured)


# ---- episodes ----------------------------------------------------------------------------------


def _cell_episodes(engine: Engine, cell: Any) -> dict[str, Episode]:
    """The episodes that a group refers to, by id; open ones get their ids when they are first told, here or there."""
    found: dict[str, Episode] = {}
    if type(cell) is not Cell:
        return found
    if cell.eps is not None:
        for index, episode in cell.eps.items():
            if not episode.id:
                engine.matcher.episodes.identify(episode, engine.plan.rules[index], cell)
            found[episode.id] = episode
    for window in cell.wins:
        if window is not None and window.vals and type(window.vals[0]) is tuple:
            for _, inner, _ in window.vals:
                if inner is not None:
                    found[inner.id] = inner
    for extra in (cell.extras or {}).values():
        if type(extra) is Tumble:
            found.update((inner.id, inner) for inner in extra.inner)
        elif type(extra) is list:
            found.update((inner.id, inner) for one in extra for inner in one.inner)
    return found


def _episode_refers(episode: Episode) -> list[Episode]:
    """What an episode refers to: inner episodes, and outer ones that wait for it."""
    return [*episode.inner, *episode.waiting]


def _holding(episode: Episode, rule: Rule) -> bool:
    """Whether floor, last_pos and value follow from the windows (`correlator.matching.episodes`)."""
    return rule.place >= 0 and episode.open and not episode.gap


_PLAIN: Final = (
    "id", "rule", "key", "group", "opened_ms", "opened_pos", "decided_by", "hold_ms", "value", "pos", "ids",
    "last_pos", "from_pos", "taken", "floor", "gap", "open", "late", "revision", "truncated",
    "serial", "span_first_ms", "span_last_ms", "fields", "told",
)  # fmt: skip


def _episode_entry(engine: Engine, episode: Episode) -> bytes:
    plain = [getattr(episode, name) for name in _PLAIN]
    if _holding(episode, engine.plan.rules[episode.rule]):
        for place in _FOLLOWS:
            plain[place] = None
    return _pack([*plain, [one.id for one in episode.inner], [one.id for one in episode.waiting]])


_FOLLOWS: Final = tuple(_PLAIN.index(name) for name in ("floor", "last_pos", "value"))


def _read_episode(raw: list[Any]) -> Episode:
    episode = Episode(raw[1], raw[2], 0, 0)
    for name, value in zip(_PLAIN, raw, strict=False):
        if value is not None:
            setattr(episode, name, value)
    return episode
