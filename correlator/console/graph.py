"""Two pictures of a threat with the tables that say the same: how its findings hang together, and what it leads to.

Both are SVG without script, font or link. A picture helps the eye; everything in it stands in the table too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

import msgspec
from msgspec import Struct

from correlator.console.plan import short
from correlator.events.threat import Evidence, Step, Threat
from correlator.impact.picture import impact_rows, paths_picture
from correlator.words.language import Language
from correlator.words.message import type_words

MOST_FINDINGS, MOST_PATHS = 60, 8
_ACROSS: Final = 64
_DOWN: Final = 74
_LEFT: Final = 110
_R: Final = 17
_TOP: Final = 66  # room for the bows above the first lane
_NAME, _TYPE = 29, 22  # letters that fit into a box of the picture


class Link(Struct, frozen=True):
    """A finding of a threat: its number in the story, and the numbers of those it shares evidence with."""

    number: int
    domain: str
    level: str
    title: str
    place: str
    joined: str
    gain: str
    terms: str
    shares: tuple[tuple[int, int], ...]  # (number of another finding, events in common)


def links(threat: Threat) -> list[Link]:
    """The findings in the order of the story, each with what ties it to others."""
    steps = in_order(threat)
    domains = {one.id: one.domain for one in threat.members}
    events = [frozenset(step.events) for step in steps]
    told = []
    for number, step in enumerate(steps):
        shares = tuple(
            (other + 1, common)
            for other, those in enumerate(events)
            if other != number and (common := len(those & events[number]))
        )
        domain = next((domains[one] for one in step.events if domains.get(one)), "")
        terms = ", ".join(f"{name} {value:+.1f}" for name, value in step.terms.items())
        told.append(
            Link(number + 1, domain, step.level, short(step.title), short(step.place_name), short(step.joined),
                 f"{step.gain:+.1f}" if step.gain or step.terms else "", terms, shares)
        )  # fmt: skip
    return told


def in_order(threat: Threat) -> list[Step]:
    """The findings in the order in which they were decided."""
    return sorted(threat.steps, key=lambda step: (step.t_ms, step.finding))


def links_svg(found: Sequence[Link], title: str) -> str:
    """Findings by time from left to right, a lane for each domain, a line where two share evidence; "" for one."""
    shown = found[:MOST_FINDINGS]
    if len(shown) < 2:
        return ""
    lanes = sorted({one.domain for one in shown})
    at = {one.number: (_LEFT + index * _ACROSS, _TOP + lanes.index(one.domain) * _DOWN)
          for index, one in enumerate(shown)}  # fmt: skip
    width, height = _LEFT + len(shown) * _ACROSS, _TOP - 30 + len(lanes) * _DOWN
    parts = [f'<svg class="links" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
             f"<title>{escape(title)}</title>"]  # fmt: skip
    for index, lane in enumerate(lanes):
        parts.append(f'<text class="lane" x="4" y="{_TOP + 4 + index * _DOWN}">{escape(lane or "-")}</text>')
        y = _TOP + index * _DOWN
        parts.append(f'<path class="lane" d="M{_LEFT - 30} {y}H{width - 10}"/>')
    for one in shown:
        for other, common in one.shares:
            if other < one.number and other in at:
                parts.append(_line(at[other], at[one.number], common))
    for one in shown:
        x, y = at[one.number]
        says = escape(f"{one.number}. {one.title}" + (f" ({one.place})" if one.place else ""))
        parts.append(
            f'<g class="{escape(one.level)}"><title>{says}</title><circle cx="{x}" cy="{y}" r="{_R}"/>'
            f'<text x="{x}" y="{y + 5}">{one.number}</text></g>'
        )
    parts.append("</svg>")
    return "".join(parts)


def _line(start: tuple[int, int], end: tuple[int, int], common: int) -> str:
    """A bow above the lane for two in the same, a slanted line between lanes; thicker where more is shared."""
    (x1, y1), (x2, y2) = start, end
    thick = min(1.0 + common * 0.5, 4.0)
    if y1 == y2:
        bow = min(14 + (x2 - x1) // 12, 34)
        shape = f"M{x1} {y1 - _R}C{x1} {y1 - _R - bow} {x2} {y2 - _R - bow} {x2} {y2 - _R}"
    else:
        shape = f"M{x1} {y1}L{x2} {y2}"
    return f'<path class="tie" stroke-width="{thick:.1f}" d="{shape}"/>'


def impact_svg(threat: Threat, language: Language, title: str, called: Callable[[str, str], str]) -> str:
    """The gravest paths as a row each, "" where nothing is in danger. called: (asset, its name) -> what it is
    called here."""
    hits: list[dict[str, Any]] = [msgspec.to_builtins(one) for one in threat.impact[:MOST_PATHS] if one.path]
    if not hits:
        return ""
    for hit in hits:
        for path in (hit["path"], *hit.get("together", ())):
            for step in path:
                step["threat_type"] = _cut(type_words(step["threat_type"], language), _TYPE)
                step["place_name"] = _cut(called(step["asset"], step["place_name"]), _NAME)
    return paths_picture(title, impact_rows(hits))


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def evidence_of(threat: Threat, event: str) -> Evidence | None:
    """The member event with an id."""
    return next((one for one in threat.members if one.id == event), None)
