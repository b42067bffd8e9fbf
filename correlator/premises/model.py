"""What a site file says, as plain frozen values, without positions.

Times are ms UTC; validity is [from, to), None on either side means unlimited. Ids are as written in the
file. In the graph a badge is the asset `badge:<id>` and an account `account:<id>`, because the same text
may well name a person, a badge and an account; all other things share one name space.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import tzinfo

DOOR_WALK_MS = 10_000  # crossing a room to a door and passing it, where the file gives no walk_ms

Minutes = tuple[int, int]  # a span of one day in minutes after midnight; end <= start runs into the next day


@dataclass(frozen=True, slots=True)
class Span:
    """A validity, ms UTC: from_ms <= t < to_ms."""

    from_ms: int | None = None
    to_ms: int | None = None

    def holds(self, t_ms: int) -> bool:
        """Whether the time lies inside."""
        return (self.from_ms is None or self.from_ms <= t_ms) and (self.to_ms is None or t_ms < self.to_ms)

    def overlaps(self, other: Span) -> bool:
        """Whether some instant lies in both."""
        starts_before_end = self.from_ms is None or other.to_ms is None or self.from_ms < other.to_ms
        return starts_before_end and (other.from_ms is None or self.to_ms is None or other.from_ms < self.to_ms)

    @property
    def limited(self) -> bool:
        """Whether it has a beginning or an end."""
        return self.from_ms is not None or self.to_ms is not None


ALWAYS = Span()


@dataclass(frozen=True, slots=True)
class Zone:
    """A room, corridor or area. hours: weekday (0 = Monday) -> spans; None = none declared.

    outline: corner points in the units of the floor's background; for pictures only.
    """

    id: str
    name: str
    floor: str
    restricted: bool = False
    hours: tuple[tuple[Minutes, ...], ...] | None = None
    outline: tuple[tuple[float, float], ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Door:
    """Anything people pass between two zones. between: (outer, inner); either may be "outside".

    one_way: only from the first to the second. walk_ms: time to cross to it and through it.
    """

    id: str
    name: str
    floor: str
    between: tuple[str, str]
    one_way: bool = False
    walk_ms: int = DOOR_WALK_MS
    at: tuple[float, float] | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Floor:
    """A floor; building "" where the file names none. background: path or address of a plan. coordinates: of its
    building, None where it stands with the others."""

    id: str
    name: str
    building: str = ""
    background: str = ""
    coordinates: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address of an asset (canonical text) and when it has it."""

    ip: str
    span: Span = ALWAYS


@dataclass(frozen=True, slots=True)
class Asset:
    """A node of the site graph. Zones, doors, people, badges, accounts, services and protections are
    nodes too and have one of these beside their own record. criticality 0..5."""

    id: str
    asset_class: str
    name: str = ""
    zone: str = ""
    criticality: int = 0
    ips: tuple[Address, ...] = ()
    macs: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    span: Span = ALWAYS


@dataclass(frozen=True, slots=True)
class Credential:
    """A badge or account as one person holds it. disabled_from_ms: switched off from then on."""

    id: str
    span: Span = ALWAYS
    disabled_from_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody the site knows; `id` and `aliases` are what messages may call them."""

    id: str
    name: str = ""
    roles: tuple[str, ...] = ()
    badges: tuple[Credential, ...] = ()
    accounts: tuple[Credential, ...] = ()
    works_in: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """`source --type--> target`. strength replaces the type's weights where given (0 = severed)."""

    source: str
    target: str
    type: str
    span: Span = ALWAYS
    strength: float | None = None
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """A group of needs of which at least `k` must be met; an `of` entry is an asset id or a group."""

    k: int
    of: tuple[Need | str, ...]

    def ids(self) -> Iterator[str]:
        """Every id below, in the order written; an id may come twice."""
        for part in self.of:
            if isinstance(part, str):
                yield part
            else:
                yield from part.ids()

    def met(self, working: frozenset[str]) -> bool:
        """Whether the assets that work suffice."""
        return sum(part in working if isinstance(part, str) else part.met(working) for part in self.of) >= self.k


@dataclass(frozen=True, slots=True)
class Service:
    """A care or support service and what it needs."""

    id: str
    name: str
    criticality: int
    needs: Need


@dataclass(frozen=True, slots=True)
class Protection:
    """What lowers the effect of the threat types in `against` on `asset` by `degree` (1 = fully).

    of: the assets that give it; when they are hit or dark it loses effect.
    """

    id: str
    asset: str
    against: tuple[str, ...]
    of: tuple[str, ...]
    degree: float


@dataclass(frozen=True, slots=True)
class Window:
    """Announced work or a drill. Empty people or kinds: any (a critical event needs its kind named)."""

    id: str
    from_ms: int
    to_ms: int
    why: str
    zones: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom to call; without zones for everything."""

    role: str
    phone: str
    name: str = ""
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceNote:
    """How reliable a source is (0..1) and which assets it speaks for."""

    name: str
    reliability: float
    assets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """A whole site file. Every mapping is keyed by id, in the order of the file.

    coordinates: latitude and longitude in degrees (WGS 84); unlocode: the place in UN/LOCODE, such as "IT FLR".
    Both are for other systems and decide nothing. tokens: newer token of an identity -> the one that stands here,
    while two keys are matched (docs/privacy.md).
    """

    id: str
    name: str
    timezone: tzinfo
    timezone_name: str
    floors: dict[str, Floor] = field(default_factory=dict)
    zones: dict[str, Zone] = field(default_factory=dict)
    doors: dict[str, Door] = field(default_factory=dict)
    assets: dict[str, Asset] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    relations: tuple[Relation, ...] = ()
    services: dict[str, Service] = field(default_factory=dict)
    protections: dict[str, Protection] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    contacts: tuple[Contact, ...] = ()
    sources: dict[str, SourceNote] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    coordinates: tuple[float, float] | None = None
    unlocode: str = ""
