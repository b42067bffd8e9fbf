"""Where the people of a hospital are over a day: shifts, errands, ways through doors.

One person is simulated at a time, so nobody's day depends on anybody else's. Somebody without a valid
badge, or whom the scenario's own lines speak of, stays away; a door, host or sensor that those lines
speak of is left alone around that time (`Claims`), because two stories about one door would not fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from random import Random
from typing import Final

from correlator.clock import MINUTE_MS, SECOND_MS
from correlator.lab.building import OUTSIDE, Building, Person

# Nobody of the background passes a claimed door within this time of a scenario's line about it: as
# long as the longest window in which the rule pack relates a door to what happened around it.
CLAIM_MARGIN_MS: Final = 20 * MINUTE_MS
_WAIT_MS: Final = 7 * MINUTE_MS

# role -> words in the ids of the zones that errands lead to; the nearest zone with the word is meant.
ERRANDS: Final[dict[str, tuple[str, ...]]] = {
    "nurse": ("med-room", "med-room", "nurses", "nurses", "cafeteria"),
    "vaccination nurse": ("waiting", "cafeteria"),
    "triage nurse": ("emergency", "emergency", "cafeteria"),
    "doctor": ("nurses", "emergency", "cafeteria"),
    "consultant": ("nurses", "ward-1a", "ward-1b", "cafeteria"),
    "pharmacist": ("cold-store", "cold-store", "cold-store", "goods", "cafeteria"),
    "receptionist": ("waiting", "cafeteria"),
    "radiographer": ("emergency", "cafeteria"),
    "guard": ("lobby", "corridor-0n", "corridor-0s", "goods", "corridor-1", "corridor-2"),
    "technician": ("corridor-0n", "corridor-1", "corridor-2", "goods"),
    "system administrator": ("admin", "corridor-1"),
    "porter": ("ward-1a", "ward-1b", "ward-2a", "ward-2b", "radiology", "emergency"),
    "cleaner": ("ward-1a", "ward-2a", "lobby", "waiting", "corridor-2", "corridor-0s"),
    "records clerk": ("admin", "cafeteria"),
}
_OTHER_ERRANDS: Final = ("cafeteria", "lobby")
_ROUND_THE_CLOCK: Final = frozenset({"nurse", "doctor", "triage nurse", "guard"})
# Shifts as (first, last) minute of the day, with the share of people who have them; the rest is off.
_SHIFTS: Final = ((6 * 60 + 30, 14 * 60 + 45, 0.34), (14 * 60, 22 * 60 + 15, 0.30), (21 * 60 + 30, 7 * 60 + 15, 0.16))
_DAY_SHIFT: Final = (7 * 60 + 20, 16 * 60 + 30, 0.85)


class Claims:
    """Which things the scenario's own lines speak of, and when."""

    def __init__(self, spoken: Iterable[tuple[str, int]], margin_ms: int = CLAIM_MARGIN_MS) -> None:
        """spoken: (id of a door, sensor, camera, host, badge or account; time ms), in any order."""
        self._margin_ms = margin_ms
        self._times: dict[str, list[int]] = {}
        for thing, t_ms in spoken:
            self._times.setdefault(thing, []).append(t_ms)
        for times in self._times.values():
            times.sort()

    def ever(self, thing: str) -> bool:
        """Whether the lines speak of it at any time."""
        return thing in self._times

    def free(self, thing: str, t_ms: int) -> bool:
        """Whether no line speaks of it within the margin of a time."""
        times = self._times.get(thing)
        if times is None:
            return True
        at = bisect_left(times, t_ms - self._margin_ms)
        return at == len(times) or times[at] > t_ms + self._margin_ms


@dataclass(frozen=True, slots=True)
class Passage:
    """Somebody goes through a door at t_ms (when the badge is read, or the door is pushed)."""

    t_ms: int
    person: Person
    door: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Stay:
    """Somebody is in a zone; at_work: in the zone where they work."""

    from_ms: int
    to_ms: int
    person: Person
    zone: str
    at_work: bool


@dataclass(frozen=True, slots=True)
class Day:
    """Everything people do on a day, each list in no particular order."""

    passages: list[Passage]
    stays: list[Stay]


def live(building: Building, claims: Claims, random: Random, start_ms: int, end_ms: int, zone: tzinfo) -> Day:
    """A day of all people. start_ms is midnight local time; times are ms UTC."""
    day = Day([], [])
    for person in building.people:
        if not person.badge or claims.ever(person.badge) or (person.account and claims.ever(person.account)):
            continue
        walker = _Walker(building, claims, random, person, day, start_ms, end_ms, zone)
        walker.work(*_shift(person, random, start_ms, end_ms))
    return day


def _shift(person: Person, random: Random, start_ms: int, end_ms: int) -> tuple[int, int]:
    """(from, to) of today's work, (0, 0) for a day off; a night shift that began yesterday starts at
    `start_ms`, one that begins today ends at `end_ms`."""
    drawn, jitter = random.random(), round(random.gauss(0, 9) * MINUTE_MS)
    if person.role not in _ROUND_THE_CLOCK:
        first, last, share = _DAY_SHIFT
        if drawn > share:
            return 0, 0
        return start_ms + first * MINUTE_MS + jitter, start_ms + last * MINUTE_MS + jitter
    for first, last, share in _SHIFTS:
        if drawn < share:
            if first < last:
                return start_ms + first * MINUTE_MS + jitter, start_ms + last * MINUTE_MS + jitter
            if random.random() < 0.5:
                return start_ms, start_ms + last * MINUTE_MS + jitter
            return start_ms + first * MINUTE_MS + jitter, end_ms
        drawn -= share
    return 0, 0


class _Walker:
    """One person's day."""

    def __init__(
        self, building: Building, claims: Claims, random: Random, person: Person, day: Day,
        start_ms: int, end_ms: int, zone: tzinfo,
    ) -> None:  # fmt: skip
        self.building = building
        self.claims = claims
        self.random = random
        self.person = person
        self.day = day
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.zone = zone
        self.errands = self._errands()

    def _errands(self) -> list[str]:
        """The zones this person's errands lead to; a word met twice is wanted twice as often."""
        found = []
        for word in ERRANDS.get(self.person.role, _OTHER_ERRANDS):
            near = [
                (sum(door.walk_ms for door, _, _ in way), zone)
                for zone in self.building.zones
                if word in zone and zone != self.person.base and (way := self.building.way(self.person.base, zone))
            ]
            if near:
                found.append(min(near)[1])
        return found

    def work(self, from_ms: int, to_ms: int) -> None:
        """The day from arrival to leaving. Nothing if there is no way in, or a day off."""
        if to_ms <= from_ms:
            return
        base = self.person.base
        now = from_ms
        if from_ms != self.start_ms:  # a shift that began yesterday goes on where it was
            arrived = self._walk(OUTSIDE, base, now, to_ms)
            if arrived is None:
                return
            now = arrived
        while True:
            until = min(to_ms, now + self._minutes(18, 75))
            if self.errands and until < to_ms - 30 * MINUTE_MS:
                errand = self.random.choice(self.errands)
                out = self._walk(base, errand, until, to_ms)
                if out is not None:
                    self._stay(now, until, base)
                    back_from = out + self._minutes(3, 16)
                    back = self._walk(errand, base, back_from, self.end_ms)
                    self._stay(out, back_from if back is not None else to_ms, errand)
                    if back is None:
                        return
                    now = back
                    continue
            if until >= to_ms:
                leaves_ms = max(now, to_ms)  # an errand may have taken longer than the shift
                self._stay(now, leaves_ms, base)
                if leaves_ms < self.end_ms:
                    self._walk(base, OUTSIDE, leaves_ms, self.end_ms)
                return
            self._stay(now, until, base)
            now = until

    def _minutes(self, least: int, most: int) -> int:
        return round(self.random.uniform(least, most) * MINUTE_MS)

    def _stay(self, from_ms: int, to_ms: int, zone: str) -> None:
        self.day.stays.append(Stay(from_ms, min(to_ms, self.end_ms), self.person, zone, zone == self.person.base))

    def _walk(self, start: str, goal: str, now: int, latest_ms: int) -> int | None:
        """Goes there as soon as the way is free; the time of arrival, None if that is too late."""
        way = self.building.way(start, goal)
        if not way:
            return None
        while now <= latest_ms:
            passages = []
            at = now
            for door, before, after in way:
                at += round(door.walk_ms * self.random.uniform(1.0, 1.4))
                passages.append(Passage(at, self.person, door.id, before, after))
            arrival = at + round(self.random.uniform(3, 12) * SECOND_MS)
            if arrival < self.end_ms and all(self._may_pass(one) for one in passages):
                self.day.passages.extend(passages)
                return arrival
            now += _WAIT_MS
        return None

    def _may_pass(self, passage: Passage) -> bool:
        things = [passage.door, self.building.doors[passage.door].contact]
        if not all(self.claims.free(thing, passage.t_ms) for thing in things if thing):
            return False
        if passage.after == OUTSIDE:
            return True
        leaving = not self.building.zones[passage.after].restricted
        return leaving or self.building.open_at(passage.after, passage.t_ms + 20 * MINUTE_MS, self.zone)
