"""Messages about several threats: what quiet hours held, and what a week was like. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from correlator.clock import local
from correlator.events.event import LEVELS
from correlator.events.threat import Threat
from correlator.premises import Premises
from correlator.words.language import Language
from correlator.words.message import Message, frame, headline, is_drill, named, severity_words

MOST_LINES = 40  # of a digest; further threats are counted
MOST_NAMES = 15  # of sensors in one line


class Week(Struct, frozen=True):
    """The figures of a week. Times in ms UTC.

    raised       threats that were told, by severity           still_open   of these, not closed and not quiet
    verdicts     what people said of them, by verdict          dark, low    (thing, words for its place)
    per_10_min, peak, verdict   alarm load (`correlator.journal.load`): mean, most in any ten minutes, judgement
    """

    from_ms: int
    to_ms: int
    raised: dict[str, int]
    verdicts: dict[str, int]
    still_open: int
    dark: tuple[tuple[str, str], ...]
    low: tuple[tuple[str, str], ...]
    per_10_min: float
    peak: int
    verdict: str


def digest_message(told: Sequence[tuple[Threat, Premises]], language: Language, link: str = "") -> Message:
    """One message for several threats that were held: gravest first, a line each. link: its id follows."""
    ordered = sorted(told, key=lambda one: (-LEVELS.index(one[0].severity), one[0].first_ms, one[0].id))
    subject = frame("digest", language, count=len(ordered))
    lines = [subject, ""]
    for threat, places in ordered[:MOST_LINES]:
        drill = f"{frame('drill', language)} - " if is_drill(threat, places) else ""
        since = f"{local(threat.first_ms, places.site.timezone):%d.%m. %H:%M}"
        where = f" {link}{threat.id}" if link else ""
        severity = severity_words(threat.severity, language)
        lines.append(f"- {since} {drill}{headline(threat, places, language)} ({severity}){where}")
    if len(ordered) > MOST_LINES:
        lines.append("- " + frame("more", language, count=len(ordered) - MOST_LINES))
    return Message(subject, "\n".join(lines) + "\n")


def summary_message(week: Week, places: Premises, language: Language) -> Message:
    """The summary of a week in plain words."""
    zone = places.site.timezone
    first, last = (f"{local(one, zone):%d.%m.}" for one in (week.from_ms, week.to_ms - 1))
    subject = frame("summary", language, site=named(places.site.name or places.site.id), first=first, last=last)
    raised = ", ".join(
        f"{week.raised[one]} {severity_words(one, language)}" for one in reversed(LEVELS) if one in week.raised
    )
    count = sum(week.raised.values())
    true, false = week.verdicts.get("true", 0), week.verdicts.get("false", 0)
    others = sum(week.verdicts.values()) - true - false
    lines = [
        subject,
        "",
        frame("raised", language, count=count, severities=raised) if count else frame("none_raised", language),
        frame("judged", language, true=true, false=false, others=others, open=week.still_open),
        frame("load", language, mean=f"{week.per_10_min:g}", peak=week.peak, verdict=frame(week.verdict, language)),
        _things("dark", "none_dark", week.dark, language),
        _things("batteries", "none_low", week.low, language),
    ]
    return Message(subject, "\n".join(lines) + "\n")


def _things(some: str, none: str, things: tuple[tuple[str, str], ...], language: Language) -> str:
    if not things:
        return frame(none, language)
    names = [f"{named(thing)} ({named(place)})" if place else named(thing) for thing, place in things]
    more = [frame("more", language, count=len(names) - MOST_NAMES)] if len(names) > MOST_NAMES else []
    return frame(some, language, count=len(names), names=", ".join([*names[:MOST_NAMES], *more]))
