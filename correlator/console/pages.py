"""What the pages show, as plain values: functions of view, site models and time. No requests here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from msgspec import Struct

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS, local
from correlator.console import plan
from correlator.events.event import LEVELS
from correlator.events.threat import Threat
from correlator.journal.load import Alert, load
from correlator.journal.view import Listed, View
from correlator.outputs.format import one_line
from correlator.premises import Premises
from correlator.words import cacao as cacao_words
from correlator.words import cap as cap_words
from correlator.words.language import LANGUAGES, Language
from correlator.words.message import (
    PlaybookStep,
    headline,
    is_drill,
    severity_words,
    steps_for,
    steps_in_words,
    type_words,
)

LISTED = 300
LOAD_DAYS = 7
JOURNAL_ROWS = 500


class ListRow(Struct, frozen=True):
    """A line of the list; times are local texts."""

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
    zones: tuple[str, ...]
    shelved_until: str
    drill: bool


def _time(t_ms: int, places: Premises | None, form: str = "%d.%m. %H:%M") -> str:
    return local(t_ms, places.site.timezone if places is not None else UTC).strftime(form)


def _language(text: str) -> Language:
    return next((one for one in LANGUAGES if one == text), "en")


def _zones(threat: Threat, places: Premises | None) -> tuple[str, ...]:
    if places is None:
        return ()
    return tuple(dict.fromkeys(zone for asset in threat.assets for zone in places.zones_of(asset, threat.last_ms)))


def row(listed: Listed, places: Premises | None, language: str, now_ms: int) -> ListRow:
    """A threat as a line of the list."""
    threat, handling = listed.threat, listed.handling
    zones = _zones(threat, places)
    shelf = handling.shelf
    shelved = shelf is not None and shelf.at_ms <= now_ms < shelf.until_ms
    title = headline(threat, places, _language(language)) if places is not None and threat.steps else threat.title
    names = [plan.zone_of(places.site.zones, zone) for zone in zones] if places is not None else list(threat.places)
    return ListRow(
        id=threat.id,
        site=threat.site,
        severity=threat.severity,
        mark=plan.MARKS.get(threat.severity, "●"),
        severity_word=severity_words(threat.severity, _language(language)),
        phase=threat.phase,
        state=handling.state,
        owner=handling.owner or handling.acked_by,
        title=one_line(title),
        place=", ".join(names[:3]),
        first=_time(threat.first_ms, places),
        last=_time(threat.last_ms, places),
        zones=zones,
        shelved_until=_time(shelf.until_ms, places, "%H:%M") if shelved and shelf is not None else "",
        drill=places is not None and is_drill(threat, places),
    )


def overview(
    view: View,
    all_places: Mapping[str, Premises],
    sites: tuple[str, ...],
    texts: Mapping[str, Mapping[str, str]],
    language: str,
    now_ms: int,
    *,
    text: str,
    zone: str,
    floor: str,
    everything: bool,
    mine: str,
) -> dict[str, Any]:
    """The list, filtered, and the plan of one floor. The plan shows every open threat, whatever the filter."""
    listed = view.threats(sites, open_only=True, limit=10_000)
    shown = view.threats(sites, open_only=not everything, text=text, limit=LISTED) if everything or text else listed
    rows = [row(one, all_places.get(one.threat.site), language, now_ms) for one in shown[:LISTED]]
    if zone:
        rows = [one for one in rows if zone in one.zones]
    if mine:
        rows = [one for one in rows if one.owner == mine]
    site, places = _planned(all_places, sites, rows)
    worst: dict[str, tuple[str, int]] = {}
    for one in listed:
        if one.threat.site == site and one.threat.phase == "threat":
            for name in _zones(one.threat, places):
                severity, count = worst.get(name, ("", 0))
                graver = not severity or LEVELS.index(one.threat.severity) > LEVELS.index(severity)
                worst[name] = (one.threat.severity if graver else severity, count + 1)
    drawing, floors, at = "", [], floor
    if places is not None:
        floors = [(one.id, one.name) for one in places.site.floors.values()]
        counts = {
            one: sum(n for name, (_, n) in worst.items() if places.site.zones[name].floor == one) for one, _ in floors
        }
        if floor not in counts:
            at = max(counts, key=lambda one: (counts[one], -list(counts).index(one))) if counts else ""
        words = {name: texts[name][language] for name in ("room_alert", "room_quiet")}
        words |= {name: severity_words(name, _language(language)) for name in LEVELS}
        drawing = plan.svg(places, at, plan.rooms(places, at, worst, {}), words)
    return {
        "rows": rows,
        "more": max(0, len(shown) - LISTED),
        "drawing": drawing,
        "floors": floors,
        "floor": at,
        "text": text,
        "zone": zone,
        "zone_name": plan.zone_of(places.site.zones, zone) if places is not None and zone else "",
        "everything": everything,
        "mine": bool(mine),
        "site_name": places.site.name if places is not None else "",
    }


def _planned(
    all_places: Mapping[str, Premises], sites: tuple[str, ...], rows: list[ListRow]
) -> tuple[str, Premises | None]:
    """The site whose plan is shown: that of the first line of the list, else the first the person may see."""
    for one in (*(line.site for line in rows), *sites, *all_places):
        if one in all_places:
            return one, all_places[one]
    return "", None


class PlaybookRow(Struct, frozen=True):
    """A step of the playbook with who did it when, "" if nobody yet."""

    id: str
    text: str
    mandatory: bool
    who: str
    when: str


class EvidenceRow(Struct, frozen=True):
    """One member event in the timeline."""

    id: str
    when: str
    kind: str
    said: str
    place: str
    domain: str
    source: str
    origin: str
    late: bool


def threat(listed: Listed, view: View, places: Premises | None, language: str, now_ms: int) -> dict[str, Any]:
    """Everything a threat's page shows."""
    one, handling = listed.threat, listed.handling
    speaks = _language(language)
    ticks = {tick.step: tick for tick in handling.ticks}
    lines = steps_in_words(one, places, speaks) if places is not None else []
    playbook = [
        _playbook_row(step, text, ticks.get(step.id), places) for step, text in zip(steps_for(one), lines, strict=False)
    ]
    evidence = [
        EvidenceRow(
            member.id,
            _time(member.time_ms, places, "%d.%m. %H:%M:%S"),
            member.kind,
            one_line(member.said),
            one_line(member.place_name or member.place),
            member.domain,
            member.source,
            one_line(member.origin or member.raw),
            member.late_ms > 0,
        )
        for member in one.members
    ]
    steps = [
        {
            "when": _time(step.t_ms, places, "%d.%m. %H:%M:%S"),
            "title": one_line(step.title),
            "says": one_line(step.says),
            "place": one_line(step.place_name),
            "joined": one_line(step.joined),
            "level": step.level,
            "expected": [one_line(text) for text in step.expected_absent],
        }
        for step in sorted(one.steps, key=lambda step: (step.t_ms, step.finding))
    ]
    told = [
        {
            "when": _time(act.at_ms, places, "%d.%m. %H:%M:%S"),
            "who": act.who,
            "verb": act.verb,
            "text": one_line(str(act.args.get("text") or act.args.get("reason") or act.args.get("verdict")
                                 or act.args.get("step") or act.args.get("receiver") or "")),
            "result": outcome.result,
            "reason": outcome.reason,
        }
        for _, act, outcome in view.acts(one.site, threat=one.id)
    ]  # fmt: skip
    impact = [
        {
            "place": one_line(hit.place_name or hit.asset),
            "type": type_words(hit.threat_type, speaks),
            "likelihood": f"{hit.likelihood:.0%}",
            "minutes": max(0, (hit.from_ms + hit.p50_ms - now_ms) // MINUTE_MS)
            if hit.from_ms
            else hit.p50_ms // MINUTE_MS,
            "when": _time(hit.from_ms + hit.p50_ms, places) if hit.from_ms else "",
            "service": hit.service,
            "path": " → ".join(one_line(part.place_name or part.asset) for part in hit.path),
        }
        for hit in one.impact
    ]
    advice = [
        {
            "title": one_line(f"{item.says} ({item.place_name})" if item.place_name else item.says),
            "saves": f"{item.saves:.1f}",
            "harms": f"{item.harms:.1f}" if item.harms else "",
            "advised": item.advised,
        }
        for item in one.advice
    ]
    return {
        "row": row(listed, places, language, now_ms),
        "threat": one,
        "handling": handling,
        "playbook": playbook,
        "mandatory": [step.id for step in steps_for(one) if step.mandatory],
        "evidence": evidence,
        "steps": steps,
        "told": told,
        "impact": impact,
        "advice": advice,
        "notes": [(note.who, _time(note.at_ms, places), note.text) for note in handling.notes],
        "windows": list(one.windows),
        "printed": _time(now_ms, places, "%d.%m.%Y %H:%M"),
    }


def _playbook_row(step: PlaybookStep, text: str, tick: Any, places: Premises | None) -> PlaybookRow:
    if tick is None:
        return PlaybookRow(step.id, text, step.mandatory, "", "")
    return PlaybookRow(step.id, text, step.mandatory, tick.who, _time(tick.at_ms, places, "%H:%M"))


def arguments(verb: str, asked: Mapping[str, str], one: Threat, now_ms: int) -> dict[str, Any]:
    """The arguments of an action from what a form said."""
    if verb == "step":
        return {"step": asked.get("step", "")[:100], "done": asked.get("done", "1") == "1"}
    if verb == "note":
        return {"text": asked.get("text", "")}
    if verb == "shelve":
        minutes = asked.get("minutes", "")
        until_ms = now_ms + int(minutes) * MINUTE_MS if minutes.isdigit() and len(minutes) < 6 else 0
        return {"reason": asked.get("reason", ""), "until_ms": until_ms, "severity": one.severity}
    if verb == "verdict":
        return {"verdict": asked.get("verdict", ""), "of": asked.get("of", "")}
    if verb == "close":
        mandatory = [step.id for step in steps_for(one) if step.mandatory]
        return {"verdict": asked.get("verdict", ""), "mandatory": mandatory, "reason": asked.get("reason", "")}
    return {}


def held_by(view: View, who: str, sites: tuple[str, ...]) -> dict[str, list[str]]:
    """Site -> threats that a person holds."""
    found: dict[str, list[str]] = {}
    for listed in view.threats(sites, limit=10_000):
        if who and who in (listed.handling.owner, listed.handling.acked_by):
            found.setdefault(listed.threat.site, []).append(listed.threat.id)
    return found


def handover(view: View, all_places: Mapping[str, Premises], sites: tuple[str, ...], now_ms: int) -> dict[str, Any]:
    """Open threats by who holds them, shelves and windows that end soon."""
    by_owner: dict[str, list[ListRow]] = {}
    for listed in view.threats(sites, limit=10_000):
        line = row(listed, all_places.get(listed.threat.site), "en", now_ms)
        by_owner.setdefault(line.owner, []).append(line)
    ending = [
        (one.kind, one.id, _time(one.until_ms, all_places.get(site)), one.who)
        for site in all_places
        for one in view.fold(site).declared.values()
        if now_ms <= one.until_ms < now_ms + 12 * HOUR_MS and (not sites or site in sites)
    ]
    return {"by_owner": dict(sorted(by_owner.items())), "ending": sorted(ending)}


def declared(view: View, all_places: Mapping[str, Premises], sites: tuple[str, ...], now_ms: int) -> dict[str, Any]:
    """Windows and exceptions that hold, and shelves with what is left of them."""
    rows = []
    for site, places in all_places.items():
        if sites and site not in sites:
            continue
        for one in view.fold(site).declared.values():
            if one.until_ms > now_ms:
                what = one.args.get("zones") or one.args.get("rule") or ""
                rows.append({
                    "site": site, "kind": one.kind, "who": one.who, "until": _time(one.until_ms, places),
                    "what": ", ".join(what) if isinstance(what, list) else str(what),
                    "reason": one_line(str(one.args.get("reason", ""))),
                })  # fmt: skip
    shelves = []
    for listed in view.threats(sites, limit=10_000):
        shelf = listed.handling.shelf
        if shelf is not None and now_ms < shelf.until_ms:
            here = all_places.get(listed.threat.site)
            left = (shelf.until_ms - now_ms) // MINUTE_MS
            shelves.append({
                "id": listed.threat.id, "title": one_line(listed.threat.title), "who": shelf.who, "left": left,
                "until": _time(shelf.until_ms, here, "%H:%M"), "reason": one_line(shelf.reason),
            })  # fmt: skip
    return {"rows": rows, "shelves": shelves, "sites": [one for one in all_places if not sites or one in sites]}


def load_of(view: View, sites: tuple[str, ...], now_ms: int) -> dict[str, Any]:
    """Alarm load of the last week: threats that alerted somebody, by when they opened."""
    alerts = []
    newest = 0
    for listed in view.threats(sites, open_only=False, limit=100_000):
        if listed.threat.phase == "watch":
            continue
        answered = listed.handling.acked_ms or listed.handling.closed_ms or -1
        rules = [step.rule for step in listed.threat.steps[:1]]
        alerts.append(Alert(listed.threat.opened_ms, listed.threat.severity, rules[0] if rules else "", answered))
        newest = max(newest, listed.threat.opened_ms)
    to_ms = now_ms if now_ms - newest < LOAD_DAYS * DAY_MS or not newest else newest + 1
    return {"load": load(alerts, to_ms - LOAD_DAYS * DAY_MS, to_ms), "days": LOAD_DAYS}


def journal(view: View, all_places: Mapping[str, Premises], sites: tuple[str, ...]) -> list[dict[str, Any]]:
    """The newest actions of the sites."""
    rows: list[dict[str, Any]] = []
    for site, places in all_places.items():
        if sites and site not in sites:
            continue
        for position, act, outcome in view.acts(site, limit=1_000_000)[-JOURNAL_ROWS:]:
            rows.append({
                "position": position, "at_ms": act.at_ms, "when": _time(act.at_ms, places, "%d.%m.%Y %H:%M:%S"),
                "site": site, "who": act.who, "verb": act.verb, "threat": act.threat, "result": outcome.result,
                "reason": outcome.reason,
            })  # fmt: skip
    return sorted(rows, key=lambda one: (-one["at_ms"], -one["position"]))[:JOURNAL_ROWS]


def cacao(one: Threat, places: Premises, language: str) -> bytes:
    """The playbook as CACAO 2.0."""
    return cacao_words.playbook(one, places, _language(language))


def cap(one: Threat, places: Premises) -> bytes:
    """A warning as CAP 1.2 in all languages: a draft."""
    return cap_words.draft(one, places, LANGUAGES, f"correlator@{one.site}", drill=is_drill(one, places))
