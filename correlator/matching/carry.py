"""State under changed rules: what another rule set goes on with.

Waiting events, remembered ids and last values do not depend on rules and are kept. A correlation is
unchanged if it and all it refers to, down to the detections, are written the same; its windows,
episodes, anchors and metrics are kept, whatever else changed around it. What belongs to changed rules is
dropped and counted.

Works on entries: rules are known by number there and windows by their place in a group, and both may
differ between the two plans.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from correlator.events.ids import digest
from correlator.matching.plan import Keyspace, Plan, Slot
from correlator.matching.snapshot import _PLAIN, VERSION

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(strict=False).decode
_RULE: Final = _PLAIN.index("rule")
_TAKEN: Final = _PLAIN.index("taken")


def carried_over(entries: list[tuple[str, bytes]], old: Plan, new: Plan) -> tuple[list[tuple[str, bytes]], int]:
    """(entries of an engine with `old` as one with `new` may restore them, number dropped or cut)."""
    if old.hash == new.hash:
        return entries, 0
    return _Carry(old, new).entries(entries)


def unchanged(plan: Plan) -> dict[str, str]:
    """Rule key -> what it and all it refers to look like, in short."""
    found: dict[str, str] = {}
    for number, detection in enumerate(plan.detections):
        key = detection.head.key
        found[key] = digest(repr(detection), str(plan.standalone[number]))
    for rule in plan.rules:  # each after those it refers to
        parts = [found.get(key, "") for key in rule.rule.rules]
        found[rule.key] = digest(repr(rule.rule), str(rule.quiet), *rule.carry, "|", *parts)
    return found


class _Carry:
    def __init__(self, old: Plan, new: Plan) -> None:
        before, after = unchanged(old), unchanged(new)
        self.same = {key for key, looks in before.items() if after.get(key) == looks}
        self.new = new
        indexes = {rule.key: rule.index for rule in new.rules}
        self.rules = {rule.index: indexes[rule.key] for rule in old.rules if rule.key in self.same}
        spaces = {one.grouping: one for one in new.keyspaces}
        self.spaces: dict[str, tuple[Keyspace, dict[int, int]]] = {}
        self.slots: dict[int, dict[int, int]] = {}  # old rule index -> old slot -> new slot
        for space in old.keyspaces:
            into = spaces.get(space.grouping)
            if into is not None:
                self.spaces[space.id] = (into, self._slots(space, into))
        for rule in old.rules:
            if rule.keyspace.id in self.spaces:
                self.slots[rule.index] = self.spaces[rule.keyspace.id][1]
        self.dropped = 0

    def _slots(self, space: Keyspace, into: Keyspace) -> dict[int, int]:
        """Old place of a window -> its new place, for those whose entries mean the same."""
        places = {(slot.producers, slot.capture): slot for slot in into.slots}
        found: dict[int, int] = {}
        for slot in space.slots:
            other = places.get((slot.producers, slot.capture))
            if other is not None and self._means_the_same(slot, other):
                found[slot.index] = other.index
        return found

    def _means_the_same(self, slot: Slot, other: Slot) -> bool:
        if not slot.producers <= self.same:
            return False
        if "of" in slot.capture and slot.capture[slot.capture.index("of") + 1] not in self.same:
            return False
        # A window counts distinct values for each rule that asks, in their order.
        return [one.rule.key for one in slot.distincts] == [one.rule.key for one in other.distincts]

    def entries(self, given: list[tuple[str, bytes]]) -> tuple[list[tuple[str, bytes]], int]:
        """See `carried_over`."""
        kept: list[tuple[str, bytes]] = []
        cells: list[tuple[str, Any]] = []
        episodes: dict[str, list[Any]] = {}
        for key, value in given:
            _, _, rest = key.partition("/")
            component, _, name = rest.partition("/")
            if component == "cell":
                cells += self._cell(name, _unpack(value))
            elif component == "episode":
                raw = _unpack(value)
                if raw[_RULE] in self.rules:
                    episodes[raw[0]] = self._episode(raw)
                else:
                    self.dropped += 1
            elif component == "engine":
                kept.append((key, self._engine(_unpack(value))))
            else:
                kept.append((key, value))
        needed = self._needed(cells, episodes)
        for name in sorted(needed):
            raw = episodes[name]
            raw[-2] = [one for one in raw[-2] if one in needed]
            raw[-1] = [one for one in raw[-1] if one in needed]
            kept.append((f"{VERSION}/episode/{name}", _pack(raw)))
        kept += [(key, _pack(raw)) for key, raw in cells]
        return sorted(kept), self.dropped

    def _engine(self, head: list[Any]) -> bytes:
        head[0] = self.new.hash
        head[-1] = [
            [self.spaces[space_id][0].id, dropped, refused]
            for space_id, dropped, refused in head[-1]
            if space_id in self.spaces
        ]
        return _pack(head)

    def _cell(self, name: str, raw: list[Any]) -> list[tuple[str, Any]]:
        """The group's entry under the new plan, or nothing."""
        space_id, _, group = name.partition("/")
        if space_id not in self.spaces:
            self.dropped += 1
            return []
        into, places = self.spaces[space_id]
        key = f"{VERSION}/cell/{into.id}/{group}"
        if raw[1] is not None:
            slot, position, event_id = raw[1]
            if slot not in places:
                self.dropped += 1
                return []
            return [(key, [raw[0], [places[slot], position, event_id]])]
        born, _, touched, windows, open_ids, extras = raw
        moved: list[Any] = [None] * len(into.slots)
        cut = False
        for index, window in enumerate(windows):
            if window is not None:
                if index in places:
                    moved[places[index]] = window
                else:
                    cut = True
        open_now = {self.rules[index]: one for index, one in open_ids.items() if index in self.rules}
        extras_now = {self.rules[index]: one for index, one in extras.items() if index in self.rules}
        self.dropped += cut or len(open_now) < len(open_ids) or len(extras_now) < len(extras)
        if not open_now and not extras_now and not any(one is not None for one in moved):
            return []
        return [(key, [born, None, touched, moved, open_now, extras_now])]

    def _episode(self, raw: list[Any]) -> list[Any]:
        places = self.slots.get(raw[_RULE], {})
        raw[_RULE] = self.rules[raw[_RULE]]
        if raw[_TAKEN]:
            raw[_TAKEN] = {places[slot]: upto for slot, upto in raw[_TAKEN].items() if slot in places}
        return raw

    def _needed(self, cells: list[tuple[str, Any]], episodes: dict[str, list[Any]]) -> set[str]:
        """The episodes that kept groups refer to, and those they refer to."""
        todo = [one for _, raw in cells for one in _refers(raw)]
        needed: set[str] = set()
        while todo:
            name = todo.pop()
            if name in episodes and name not in needed:
                needed.add(name)
                todo += [*episodes[name][-2], *episodes[name][-1]]
        return needed


def _refers(raw: list[Any]) -> list[str]:
    """Ids of the episodes that a group's entry names."""
    if raw[1] is not None:
        return []
    _, _, _, windows, open_ids, extras = raw
    found = list(open_ids.values())
    for window in windows:
        if window is not None and window[2] and isinstance(window[2][0], list):
            found += [inner for _, inner, _ in window[2] if inner is not None]
    for extra in extras.values():
        if extra[0] == "window":
            found += extra[8]
        elif extra[0] == "anchors":
            found += [inner for one in extra[1] for inner in one[6]]
    return found
