"""The list in memory: of every open threat what its line and the plan need, kept up with the view.

A page is a slice of it, so that ten thousand open threats cost a page no more than ten. Lines of threats that
are closed or quiet are made when somebody asks for them. The view is the truth; this can be made from it at any
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC

from msgspec import Struct

from correlator.clock import local
from correlator.console import plan
from correlator.console.plan import short
from correlator.events.threat import Threat
from correlator.journal.view import SEVERITY_RANK, Listed, View
from correlator.premises import Premises
from correlator.words.language import LANGUAGES, Language
from correlator.words.message import headline, is_drill, severity_words


class Line(Struct, frozen=True, gc=False):
    """A threat as the list knows it. titles: by language; zones and place: where it is; times in ms UTC."""

    id: str
    site: str
    severity: str
    phase: str
    state: str
    owner: str
    titles: dict[str, str]
    place: str
    zones: tuple[str, ...]
    first_ms: int
    last_ms: int
    decided_ms: int
    shelf_from_ms: int
    shelf_until_ms: int
    shelf_who: str
    shelf_reason: str
    drill: bool

    @property
    def order(self) -> tuple[int, int, str]:
        """Highest severity first, then newest."""
        return -SEVERITY_RANK.get(self.severity, 0), -self.decided_ms, self.id


class ListRow(Struct, frozen=True):
    """A line of the list in one language; times are local texts."""

    id: str
    site: str
    severity: str
    mark: str
    severity_word: str
    phase: str
    state: str
    owner: str
    title: str
    place: str
    first: str
    last: str
    shelved_until: str
    drill: bool


def time_text(t_ms: int, places: Premises | None, form: str = "%d.%m. %H:%M") -> str:
    """A time on the site's wall clock."""
    return local(t_ms, places.site.timezone if places is not None else UTC).strftime(form)


def zones_of(threat: Threat, places: Premises | None) -> tuple[str, ...]:
    """The zones a threat is in."""
    if places is None:
        return ()
    return tuple(dict.fromkeys(zone for asset in threat.assets for zone in places.zones_of(asset, threat.last_ms)))


def is_open(listed: Listed) -> bool:
    """Whether a threat stands in the list: neither quiet nor merged, and not closed by people."""
    return listed.threat.phase in ("threat", "watch") and listed.handling.state != "closed"


def line_of(listed: Listed, places: Premises | None) -> Line:
    """A threat as a line."""
    threat, handling = listed.threat, listed.handling
    zones = zones_of(threat, places)
    titles: dict[str, str]
    if places is not None and threat.steps:
        titles = {one: short(headline(threat, places, one)) for one in LANGUAGES}
    else:
        titles = dict.fromkeys(map(str, LANGUAGES), short(threat.title))
    names = [plan.zone_of(places.site.zones, zone) for zone in zones] if places is not None else list(threat.places)
    shelf = handling.shelf
    return Line(
        id=threat.id,
        site=threat.site,
        severity=threat.severity,
        phase=threat.phase,
        state=handling.state,
        owner=handling.owner or handling.acked_by,
        titles=titles,
        place=short(", ".join(names[:3])),
        zones=zones,
        first_ms=threat.first_ms,
        last_ms=threat.last_ms,
        decided_ms=threat.decided_ms,
        shelf_from_ms=shelf.at_ms if shelf is not None else 0,
        shelf_until_ms=shelf.until_ms if shelf is not None else 0,
        shelf_who=shelf.who if shelf is not None else "",
        shelf_reason=shelf.reason if shelf is not None else "",
        drill=places is not None and is_drill(threat, places),
    )


def row_of(line: Line, places: Premises | None, language: Language, now_ms: int) -> ListRow:
    """A line in a language at a time."""
    shelved = line.shelf_from_ms <= now_ms < line.shelf_until_ms
    return ListRow(
        id=line.id,
        site=line.site,
        severity=line.severity,
        mark=plan.MARKS.get(line.severity, "●"),
        severity_word=severity_words(line.severity, language),
        phase=line.phase,
        state=line.state,
        owner=line.owner,
        title=line.titles[language],
        place=line.place,
        first=time_text(line.first_ms, places),
        last=time_text(line.last_ms, places),
        shelved_until=time_text(line.shelf_until_ms, places, "%H:%M") if shelved else "",
        drill=line.drill,
    )


class Board:
    """Lines of all open threats of all sites. `refresh` may run in another thread than `lines`."""

    def __init__(self, view: View, places: Mapping[str, Premises]) -> None:
        self._view, self.places = view, places
        self._lines: dict[str, Line] = {}
        self._sorted: list[Line] = []
        self.version = 0
        self.refresh(view.open_ids())

    def refresh(self, ids: Iterable[str]) -> None:
        """Takes what the view now says of some threats; names of none are passed over."""
        for name in ids:
            listed = self._view.threat(name) if name else None
            if listed is not None and is_open(listed):
                self._lines[name] = line_of(listed, self.places.get(listed.threat.site))
            else:
                self._lines.pop(name, None)
        self._order()

    def lines(self) -> list[Line]:
        """All of them, highest severity first, then newest; not to be changed."""
        return self._sorted

    def _order(self) -> None:
        self._sorted = sorted(self._lines.values(), key=lambda one: one.order)
        self.version += 1
