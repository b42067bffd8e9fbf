"""Who is told of a threat, and why. A pure function of settings, threat, site and time."""

from __future__ import annotations

from datetime import datetime, tzinfo

from msgspec import Struct

from correlator.clock import local
from correlator.events.event import LEVELS
from correlator.events.threat import Threat
from correlator.notifier.settings import DAYS, Match, NotifierSettings, Route, Times
from correlator.premises import Premises
from correlator.words.message import HIT_LIKELIHOOD, is_drill


class Situation(Struct, frozen=True):
    """What routes look at: the threat with the zones and care services it concerns; drill: it is only one."""

    severity: str
    site: str
    zones: frozenset[str]
    services: frozenset[str]
    domains: frozenset[str]
    threat_types: frozenset[str]
    drill: bool = False


class Chosen(Struct, frozen=True):
    """A receiver and the route that chose it, in words."""

    receiver: str
    why: str


def situation(threat: Threat, places: Premises) -> Situation:
    """The situation of a threat on its site."""
    zones = {zone for asset in threat.assets for zone in places.zones_of(asset, threat.last_ms)}
    services = {one.asset for one in threat.impact if one.service and one.likelihood >= HIT_LIKELIHOOD}
    services |= {one for one in threat.assets if one in places.site.services}
    return Situation(
        threat.severity,
        threat.site,
        frozenset(zones),
        frozenset(services),
        frozenset(threat.domains),
        frozenset(threat.threat_types),
        is_drill(threat, places),
    )


def within(times: Times, now: datetime) -> bool:
    """Whether a local time lies in a part of the week. Wall-clock time decides, so a night that the clock
    is set back has its hour twice."""
    minute = now.hour * 60 + now.minute
    begin, end = _minutes(times.begin), _minutes(times.end)
    today, yesterday = DAYS[now.weekday()], DAYS[now.weekday() - 1]
    if begin < end:
        return today in times.days and begin <= minute < end
    return (today in times.days and minute >= begin) or (yesterday in times.days and minute < end)


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def choose(settings: NotifierSettings, one: Situation, at_ms: int, zone: tzinfo) -> list[Chosen]:
    """Receivers in the order of the tree, each once; at least one, since the root has receivers.

    Only a drill may have none: what is outside of the site does not hear of it.
    """
    now = local(at_ms, zone)
    found: dict[str, Chosen] = {}
    for route, path in _fitting(settings.routes, one, now, ()):
        why = " > ".join(path) or "the default route"
        for name in named(settings, route.receivers, route.roles, now):
            found.setdefault(name, Chosen(name, why))
    if not found:  # branches without receivers of their own
        found = {name: Chosen(name, "the default route") for name in settings.routes.receivers}
    return [chosen for name, chosen in found.items() if not (one.drill and settings.receiver(name).outside)]


def named(settings: NotifierSettings, receivers: tuple[str, ...], roles: tuple[str, ...], now: datetime) -> list[str]:
    """Receivers by name, then those of each role who are on duty at a local time; all of a role if nobody is."""
    found = list(receivers)
    for role in roles:
        those = [one for one in settings.receivers if one.role == role]
        on_duty = [one for one in those if not one.duty or any(within(times, now) for times in one.duty)]
        found += [one.name for one in on_duty or those]
    return list(dict.fromkeys(found))


def _fitting(route: Route, one: Situation, now: datetime, path: tuple[str, ...]) -> list[tuple[Route, tuple[str, ...]]]:
    """The branches taken below a route that fits; the route itself if none is."""
    taken: list[tuple[Route, tuple[str, ...]]] = []
    for branch in route.routes:
        reason = _fits(branch.match, one, now)
        if reason is None:
            continue
        taken += _fitting(branch, one, now, (*path, reason))
        if not branch.goes_on:
            return taken
    return taken or [(route, path)]


def _fits(match: Match, one: Situation, now: datetime) -> str | None:
    """Why a match fits, in words; None if it does not."""
    if LEVELS.index(one.severity) < LEVELS.index(match.severity):
        return None
    said = [f"severity {one.severity}"] if match.severity != LEVELS[0] else []
    wanted: tuple[tuple[str, tuple[str, ...], frozenset[str]], ...] = (
        ("site", match.sites, frozenset({one.site})),
        ("zone", match.zones, one.zones),
        ("service", match.services, one.services),
        ("domain", match.domains, one.domains),
        ("threat type", match.threat_types, one.threat_types),
    )
    for word, names, has in wanted:
        if names:
            both = [name for name in names if name in has]
            if not both:
                return None
            said.append(f"{word} {', '.join(both)}")
    if match.times:
        if not any(within(times, now) for times in match.times):
            return None
        said.append(f"at {now:%a %H:%M}")
    return " and ".join(said) or "everything"


def quiet_until_ms(quiet: tuple[Times, ...], at_ms: int, zone: tzinfo) -> int:
    """When the quiet hours that hold now are over, ms UTC; `at_ms` if none hold. Looks a week ahead, by minutes
    of real time, so both nights of a clock change come out right."""
    t_ms = at_ms
    while any(within(times, local(t_ms, zone)) for times in quiet):
        t_ms += 60_000 - t_ms % 60_000
        if t_ms - at_ms > 7 * 86_400_000:
            break
    return t_ms
