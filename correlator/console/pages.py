"""What the pages show, as plain values: functions of view, board, facts, site models and time. No requests here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from correlator.console import graph, plan
from correlator.console.board import Board, Line, ListRow, line_of, row_of, time_text
from correlator.console.facts import KEPT_DAYS, LEARNS_MS, Facts, MatchRow
from correlator.console.plan import short
from correlator.events.event import LEVELS
from correlator.events.identity import IDENTIFYING_KINDS
from correlator.events.kinds import KINDS
from correlator.events.threat import Advice, Evidence, Impact, Step, Threat
from correlator.journal.action import Act
from correlator.journal.fold import Outcome
from correlator.journal.load import Alert, load
from correlator.journal.view import Listed, View
from correlator.premises import Premises, unknown_yaml
from correlator.rules.check import explain_rule
from correlator.rules.load import LoadedRules
from correlator.rules.syntax import CorrelationRule, DetectionRule
from correlator.words import cacao as cacao_words
from correlator.words import cap as cap_words
from correlator.words.language import LANGUAGES, Language
from correlator.words.message import PlaybookStep, is_drill, severity_words, steps_for, steps_in_words, type_words

LISTED = 100  # lines of a page of the list
EXPORTED = 10_000
HELD_SHOWN = 100
LOAD_DAYS = 7
JOURNAL_ROWS = 500
HIDDEN_SHOWN = 20
UNKNOWN_SHOWN = 200
_PLAN_WORDS = ("room_alert", "room_quiet", "room_people", "room_dark", "door_open", "door_closed", "door_locked",
               "door_unknown", "health_ok", "health_offline", "health_disabled", "health_tampered",
               "health_unknown")  # fmt: skip


class Wanted(Struct, frozen=True):
    """What somebody wants to see of the list; "" and 0 for everything. page counts from 0."""

    text: str = ""
    zone: str = ""
    floor: str = ""
    site: str = ""
    severity: str = ""
    everything: bool = False
    mine: str = ""
    page: int = 0


def speaks(text: str) -> Language:
    """A language of ours, English for any other."""
    return next((one for one in LANGUAGES if one == text), "en")


def overview(
    board: Board,
    view: View,
    facts: Facts,
    sites: tuple[str, ...],
    texts: Mapping[str, Mapping[str, str]],
    language: str,
    now_ms: int,
    wanted: Wanted,
) -> dict[str, Any]:
    """The list, filtered, and the plan of one floor. The plan shows every open threat, whatever the filter."""
    all_places = board.places
    said = speaks(language)
    mine = [one for one in board.lines() if not sites or one.site in sites]
    if wanted.everything:
        lines, more = _closed_too(board, view, sites, said, wanted, LISTED)
        total = -1
    else:
        fitting = [one for one in mine if _fits(one, wanted, said, text=wanted.text)]
        total = len(fitting)
        lines = fitting[wanted.page * LISTED : (wanted.page + 1) * LISTED]
        more = total > (wanted.page + 1) * LISTED
    site, places = _planned(all_places, sites, wanted.site, lines)
    worst: dict[str, tuple[str, int]] = {}
    for one in mine:
        if one.site == site and one.phase == "threat":
            for name in one.zones:
                severity, count = worst.get(name, ("", 0))
                graver = not severity or LEVELS.index(one.severity) > LEVELS.index(severity)
                worst[name] = (one.severity if graver else severity, count + 1)
    drawing, floors, at = "", [], wanted.floor
    if places is not None:
        floors = [(one.id, one.name) for one in places.site.floors.values()]
        counts = {
            one: sum(n for name, (_, n) in worst.items() if places.site.zones[name].floor == one) for one, _ in floors
        }
        if wanted.floor not in counts:
            at = max(counts, key=lambda one: (counts[one], -list(counts).index(one))) if counts else ""
        words = {name: texts[name][language] for name in _PLAN_WORDS}
        words |= {name: severity_words(name, said) for name in LEVELS}
        live = facts.live.get(site)
        drawn = plan.rooms(places, at, worst, live, facts.now_ms(), words)
        drawing = plan.svg(places, at, drawn, words, live)
    return {
        "rows": [row_of(one, all_places.get(one.site), said, now_ms) for one in lines],
        "total": total,
        "first": wanted.page * LISTED + 1,
        "more": more,
        "drawing": drawing,
        "floors": floors,
        "floor": at,
        "wanted": wanted,
        "zone_name": plan.zone_of(places.site.zones, wanted.zone) if places is not None and wanted.zone else "",
        "site_name": places.site.name if places is not None else "",
        "sites": [(one, all_places[one].site.name) for one in all_places if not sites or one in sites],
        "live_as_of": time_text(facts.as_of_ms, places) if facts.as_of_ms and site in facts.live else "",
        "live": site in facts.live,
    }


def exported(
    board: Board, view: View, sites: tuple[str, ...], language: str, now_ms: int, wanted: Wanted
) -> list[ListRow]:
    """All lines that fit, not only those of one page, at most EXPORTED."""
    said = speaks(language)
    if wanted.everything:
        lines, _ = _closed_too(board, view, sites, said, wanted, EXPORTED)
    else:
        lines = [one for one in board.lines()
                 if (not sites or one.site in sites) and _fits(one, wanted, said, text=wanted.text)]  # fmt: skip
    return [row_of(one, board.places.get(one.site), said, now_ms) for one in lines[:EXPORTED]]


def _closed_too(
    board: Board, view: View, sites: tuple[str, ...], language: Language, wanted: Wanted, many: int
) -> tuple[list[Line], bool]:
    """A page of the list with what is closed, and whether there is more. The text is looked for in titles."""
    listed = view.threats(sites, open_only=False, text=wanted.text, limit=many + 1, skip=wanted.page * many)
    lines = [line_of(one, board.places.get(one.threat.site)) for one in listed[:many]]
    return [one for one in lines if _fits(one, wanted, language, text="")], len(listed) > many


def _fits(line: Line, wanted: Wanted, language: Language, text: str) -> bool:
    if wanted.zone and wanted.zone not in line.zones:
        return False
    if (wanted.site and line.site != wanted.site) or (wanted.mine and line.owner != wanted.mine):
        return False
    if wanted.severity and line.severity != wanted.severity:
        return False
    if not text:
        return True
    plain = text.casefold()
    return any(plain in one.casefold() for one in (line.titles[language], line.place, line.owner, line.id, line.site))


def _planned(
    all_places: Mapping[str, Premises], sites: tuple[str, ...], wanted: str, lines: list[Line]
) -> tuple[str, Premises | None]:
    """The site whose plan is shown: the wanted one, that of the first line, else the first the person may see."""
    allowed = [one for one in all_places if not sites or one in sites]
    for one in (wanted, *(line.site for line in lines), *allowed):
        if one in allowed:
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


def threat(
    listed: Listed, view: View, places: Premises | None, language: str, now_ms: int, texts: Mapping[str, str]
) -> dict[str, Any]:
    """Everything a threat's page shows. texts: of the language."""
    one, handling = listed.threat, listed.handling
    said = speaks(language)
    ticks = {tick.step: tick for tick in handling.ticks}
    lines = steps_in_words(one, places, said) if places is not None else []
    found = graph.links(one)
    return {
        "row": row_of(line_of(listed, places), places, said, now_ms),
        "threat": one,
        "handling": handling,
        "playbook": [
            _playbook_row(step, text, ticks.get(step.id), places)
            for step, text in zip(steps_for(one), lines, strict=False)
        ],
        "evidence": [evidence_row(member, places) for member in one.members],
        "steps": [_step_row(step, places) for step in graph.in_order(one)],
        "links": found,
        "links_picture": graph.links_svg(found, texts["links"]),
        "rest": _rest(one),
        "told": [_told_row(act, outcome, places) for _, act, outcome in view.acts(one.site, threat=one.id)],
        "impact": [_impact_row(hit, places, said, now_ms) for hit in one.impact],
        "impact_picture": graph.impact_svg(
            one, said, texts["danger"], lambda asset, name: _called(asset, name, places)
        ),
        "loss": (f"{one.expected_loss:.1f}", f"{one.expected_loss_advised:.1f}") if one.expected_loss else None,
        "advice": [_advice_row(item, places) for item in one.advice],
        "notes": [(note.who, time_text(note.at_ms, places), note.text) for note in handling.notes],
        "windows": list(one.windows),
        "printed": time_text(now_ms, places, "%d.%m.%Y %H:%M"),
    }


def _rest(one: Threat) -> str:
    """What of a score is not in the gains of its steps, so that the column adds up; "" for nothing.

    A second root of threats that became one is paid for, and a step may be held by a further link (docs/linking.md).
    """
    rest = one.score - sum(step.gain for step in one.steps) if one.score is not None else 0.0
    return f"{rest:+.1f}" if abs(rest) >= 0.05 else ""


def evidence_row(member: Evidence, places: Premises | None) -> EvidenceRow:
    """A member event as a line of the timeline."""
    return EvidenceRow(
        member.id,
        time_text(member.time_ms, places, "%d.%m. %H:%M:%S"),
        member.kind,
        short(member.said),
        short(member.place_name or member.place),
        member.domain,
        member.source,
        short(member.origin or member.raw),
        member.late_ms > 0,
    )


def _step_row(step: Step, places: Premises | None) -> dict[str, Any]:
    return {
        "when": time_text(step.t_ms, places, "%d.%m. %H:%M:%S"),
        "rule": step.rule,
        "title": short(step.title),
        # What is said of a single event may name who did it.
        "says": "" if step.rule in KINDS else short(step.says),
        "place": "" if _is_somebody(step.asset, places) else short(step.place_name),
        "level": step.level,
        "expected": [short(text) for text in step.expected_absent],
    }


def _is_somebody(asset: str, places: Premises | None) -> bool:
    """Whether an asset is a person, badge or account: the story names none of them."""
    known = places.assets.get(asset) if places is not None else None
    if known is not None:
        return known.asset_class in IDENTIFYING_KINDS
    return asset.removeprefix("unknown:").partition(":")[0] in IDENTIFYING_KINDS


def _called(asset: str, place_name: str, places: Premises | None) -> str:
    """What an asset is called where anybody may read: of a person, badge or account only what it is."""
    if not _is_somebody(asset, places):
        return short(place_name or asset)
    known = places.assets.get(asset) if places is not None else None
    return known.asset_class if known is not None else asset.removeprefix("unknown:").partition(":")[0]


def _told_row(act: Act, outcome: Outcome, places: Premises | None) -> dict[str, Any]:
    args = act.args
    text = args.get("text") or args.get("reason") or args.get("verdict") or args.get("step") or args.get("receiver")
    return {
        "when": time_text(act.at_ms, places, "%d.%m. %H:%M:%S"),
        "who": act.who,
        "verb": act.verb,
        "text": short(str(text or "")),
        "result": outcome.result,
        "reason": outcome.reason,
    }


def _impact_row(hit: Impact, places: Premises | None, language: Language, now_ms: int) -> dict[str, Any]:
    """minutes: until the middle of what is expected, counted from now while that lies ahead; None once it is past."""
    due_ms = hit.from_ms + hit.p50_ms
    return {
        "place": _called(hit.asset, hit.place_name, places),
        "type": type_words(hit.threat_type, language),
        "likelihood": f"{hit.likelihood:.0%}",
        "minutes": (due_ms - now_ms) // MINUTE_MS if due_ms > now_ms else None,
        "when": time_text(due_ms, places) if hit.from_ms else "",
        "soonest": _rounded(hit.p10_ms),
        "latest": _rounded(hit.p90_ms),
        "service": hit.service,
        "criticality": hit.criticality,
        "path": " → ".join(dict.fromkeys(_called(part.asset, part.place_name, places) for part in hit.path)),
    }


def _rounded(ms: int) -> str:
    """A duration as people say it: an estimate is not known to the millisecond."""
    for unit, name in ((DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "min")):
        if ms >= 2 * unit:
            return f"{round(ms / unit)} {name}"
    return f"{round(ms / SECOND_MS)} s"


def _advice_row(item: Advice, places: Premises | None) -> dict[str, Any]:
    says = short(item.says)
    if item.place_name and _is_somebody(item.asset, places):  # the words hold the name
        says = says.replace(short(item.place_name), _called(item.asset, "", places))
    return {
        "title": says,
        "saves": f"{item.saves:.1f}",
        "harms": f"{item.harms:.1f}" if item.harms else "",
        "minutes": item.takes_ms // MINUTE_MS,
        "who": item.who,
        "advised": item.advised,
    }


def _playbook_row(step: PlaybookStep, text: str, tick: Any, places: Premises | None) -> PlaybookRow:
    if tick is None:
        return PlaybookRow(step.id, text, step.mandatory, "", "")
    return PlaybookRow(step.id, text, step.mandatory, tick.who, time_text(tick.at_ms, places, "%H:%M"))


def arguments(verb: str, text: Callable[[str], str], one: Threat, now_ms: int) -> dict[str, Any]:
    """The arguments of an action from what a form said, text by name."""
    if verb == "step":
        return {"step": text("step"), "done": (text("done") or "1") == "1"}
    if verb == "note":
        return {"text": text("text")}
    if verb == "shelve":
        minutes = text("minutes")
        until_ms = now_ms + int(minutes) * MINUTE_MS if minutes.isascii() and minutes.isdigit() else 0
        return {"reason": text("reason"), "until_ms": until_ms, "severity": one.severity}
    if verb == "assign":
        return {"to": text("to")} if text("to") else {}
    if verb == "verdict":
        return {"verdict": text("verdict"), "of": text("of")}
    if verb == "close":
        mandatory = [step.id for step in steps_for(one) if step.mandatory]
        return {"verdict": text("verdict"), "mandatory": mandatory, "reason": text("reason"),
                "of": text("of").strip()}  # fmt: skip
    return {}


def held_by(board: Board, who: str, sites: tuple[str, ...]) -> dict[str, list[str]]:
    """Site -> open threats that a person holds."""
    found: dict[str, list[str]] = {}
    for line in board.lines():
        if who and who == line.owner and (not sites or line.site in sites):
            found.setdefault(line.site, []).append(line.id)
    return found


def handover(board: Board, view: View, sites: tuple[str, ...], language: str, now_ms: int) -> dict[str, Any]:
    """Open threats by who holds them, the gravest first; shelves and windows that end soon; notes of the last day."""
    by_owner: dict[str, list[ListRow]] = {}
    count: Counter[str] = Counter()
    for line in board.lines():
        if sites and line.site not in sites:
            continue
        count[line.owner] += 1
        if count[line.owner] <= HELD_SHOWN:
            here = board.places.get(line.site)
            by_owner.setdefault(line.owner, []).append(row_of(line, here, speaks(language), now_ms))
    ending, notes = [], []
    for site, places in board.places.items():
        if sites and site not in sites:
            continue
        for one in list(view.fold(site).declared.values()):
            if now_ms <= one.until_ms < now_ms + 12 * HOUR_MS:
                what = one.args.get("zones") or one.args.get("rule") or one.args.get("kind") or one.id
                ending.append((one.kind, ", ".join(what) if isinstance(what, list) else str(what),
                               time_text(one.until_ms, places), one.who))  # fmt: skip
        for _, act, outcome in view.acts(site, newest=JOURNAL_ROWS):
            if act.verb == "note" and outcome.result == "done" and act.at_ms > now_ms - DAY_MS:
                notes.append((act.threat, act.who, time_text(act.at_ms, places), str(act.args.get("text", ""))[:300]))
    return {"by_owner": dict(sorted(by_owner.items())), "counts": count, "ending": sorted(ending), "notes": notes[-20:],
            "shelves": shelves(board, sites, language, now_ms)}  # fmt: skip


def shelves(board: Board, sites: tuple[str, ...], language: str, now_ms: int) -> list[dict[str, Any]]:
    """What lies on a shelf now, with what is left of it; the first to end first."""
    told = []
    for line in board.lines():
        if line.shelf_from_ms <= now_ms < line.shelf_until_ms and (not sites or line.site in sites):
            here = board.places.get(line.site)
            told.append({
                "id": line.id, "title": line.titles[speaks(language)], "who": line.shelf_who,
                "left": (line.shelf_until_ms - now_ms) // MINUTE_MS, "reason": short(line.shelf_reason),
                "until": time_text(line.shelf_until_ms, here, "%H:%M"), "until_ms": line.shelf_until_ms,
            })  # fmt: skip
    return sorted(told, key=lambda one: (one["until_ms"], one["id"]))


def declared(view: View, board: Board, sites: tuple[str, ...], language: str, now_ms: int) -> dict[str, Any]:
    """Windows and exceptions that hold, and shelves with what is left of them."""
    rows = []
    for site, places in board.places.items():
        if sites and site not in sites:
            continue
        for one in list(view.fold(site).declared.values()):
            if one.until_ms > now_ms:
                what = one.args.get("zones") or one.args.get("rule") or one.args.get("kind") or ""
                fields = dict(one.args.get("fields") or {})
                rows.append({
                    "site": site, "kind": one.kind, "who": one.who, "until": time_text(one.until_ms, places),
                    "what": ", ".join(map(str, what)) if isinstance(what, list) else str(what),
                    "fields": ", ".join([*([str(one.args["asset"])] if one.args.get("asset") else []),
                                         *(f"{name}={value}" for name, value in fields.items())]),
                    "reason": short(str(one.args.get("reason", ""))),
                })  # fmt: skip
    zones = {
        site: [(zone.id, zone.name) for zone in places.site.zones.values()]
        for site, places in board.places.items() if not sites or site in sites
    }  # fmt: skip
    return {"rows": rows, "shelves": shelves(board, sites, language, now_ms), "zones": zones, "sites": list(zones)}


def load_of(view: View, sites: tuple[str, ...], now_ms: int, titles: Mapping[str, str]) -> dict[str, Any]:
    """Alarm load of the last week: threats that alerted somebody, by when they opened. titles: rule -> title."""
    alerts = [
        Alert(
            one.opened_ms,
            one.severity,
            titles.get(one.rule) or (one.rule if one.rule in KINDS else one.title),
            one.answered_ms,
        )
        for one in view.openings(sites)
    ]
    newest = max((one.t_ms for one in alerts), default=0)
    to_ms = now_ms if now_ms - newest < LOAD_DAYS * DAY_MS or not newest else newest + 1
    return {"load": load(alerts, to_ms - LOAD_DAYS * DAY_MS, to_ms), "days": LOAD_DAYS}


_ABOUT = ("from", "to", "receiver", "verdict", "step")  # what of an action's arguments its line in the journal tells


def journal(view: View, all_places: Mapping[str, Premises], sites: tuple[str, ...]) -> list[dict[str, Any]]:
    """The newest actions of the sites."""
    rows: list[dict[str, Any]] = []
    for site, places in all_places.items():
        if sites and site not in sites:
            continue
        for position, act, outcome in view.acts(site, newest=JOURNAL_ROWS):
            rows.append({
                "position": position, "at_ms": act.at_ms, "when": time_text(act.at_ms, places, "%d.%m.%Y %H:%M:%S"),
                "site": site, "who": act.who, "verb": act.verb, "threat": act.threat, "result": outcome.result,
                "about": ", ".join(f"{name} {short(str(act.args[name]))}" for name in _ABOUT if act.args.get(name)),
                "reason": outcome.reason or short(str(act.args.get("reason") or "")),
            })  # fmt: skip
    return sorted(rows, key=lambda one: (-one["at_ms"], -one["position"]))[:JOURNAL_ROWS]


# ---- sources, rules, exceptions ----------------------------------------------------------------


def sources(facts: Facts, view: View, sites: tuple[str, ...], texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """How each site's sources do: heard when, what was not taken, devices that are dark, names nobody knows."""
    told = []
    now_ms = facts.now_ms()
    for site, places in facts.places.items():
        if sites and site not in sites:
            continue
        live = facts.live.get(site)
        dark = []
        if live is not None:
            for zone, signs in plan.devices(places, live, texts).items():
                where = plan.zone_of(places.site.zones, zone)
                dark += [(where, one.title) for one in signs if one.state not in ("ok", "unknown")]
        unknown = facts.unknowns(site)
        notes = places.site.sources
        verdicts = judged(view, site, now_ms)[1]
        learns = facts.learning_from_ms.get(site, 0) + LEARNS_MS
        rows = []
        for one in facts.sources(site):
            note = notes.get(one.source)
            rows.append({
                "source": one.source, "dialect": one.dialect, "events": one.events,
                "last": time_text(one.last_ms, places, "%d.%m. %H:%M:%S") if one.last_ms else "",
                "silent": (now_ms - one.last_ms) // MINUTE_MS if one.last_ms else None,
                "reliability": f"{note.reliability:.0%}" if note is not None else "",
                "judged": verdicts.get(one.source),
                "refused": [(reason, count, short(detail)) for reason, count, detail in one.refused],
            })  # fmt: skip
        told.append({
            "id": site, "name": places.site.name, "rows": rows, "dark": sorted(dark),
            "low": [(one.thing, one.place) for one in view.health(site) if one.battery_low > one.battery_ok],
            "learning": time_text(learns, places) if learns > now_ms else "",
            "unknown": unknown[:UNKNOWN_SHOWN], "unknown_count": len(unknown),
            "yaml": unknown_yaml(unknown[:UNKNOWN_SHOWN]) if unknown else "",
        })  # fmt: skip
    return told


def judged(view: View, site: str, now_ms: int) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]:
    """(by rule, by source): how many of its threats of the last 30 days people called true, of how many judged.

    A duplicate and a drill say nothing about who told them.
    """
    rules: dict[str, tuple[int, int]] = {}
    sources: dict[str, tuple[int, int]] = {}
    for one in view.since((site,), now_ms - KEPT_DAYS * DAY_MS, handled=True):
        if one.handling.verdict not in ("true", "benign", "false"):
            continue
        was_true = one.handling.verdict == "true"
        for counts, names in (
            (rules, {step.rule for step in one.threat.steps if step.rule}),
            (sources, {member.source for member in one.threat.members}),
        ):
            for name in names:
                true, all_ = counts.get(name, (0, 0))
                counts[name] = (true + was_true, all_ + 1)
    return rules, sources


def rules_of(loaded: LoadedRules) -> dict[str, DetectionRule | CorrelationRule]:
    """All rules by key."""
    return {**loaded.rules.detections, **loaded.rules.correlations}


def rules(
    loaded: Mapping[str, LoadedRules], facts: Facts, view: View, sites: tuple[str, ...], text: str
) -> list[dict[str, Any]]:
    """The rules of each site with how often they matched and were right, those that match most first."""
    told = []
    plain = text.casefold()
    for site, found in loaded.items():
        if sites and site not in sites:
            continue
        hits = facts.hits(site)
        verdicts = judged(view, site, facts.now_ms())[0]
        changed = dict(found.changed)
        every = rules_of(found)
        rows = [
            {
                "key": key, "name": one.head.name, "title": one.head.title, "level": one.head.level,
                "kind": "correlation" if key in found.rules.correlations else "detection",
                "hits": hits.get(key), "changed": changed.pop(key, ""), "part": key in found.rules.used,
                "judged": verdicts.get(key),
            }
            for key, one in every.items()
            if not plain or plain in f"{one.head.title} {one.head.name} {key} {' '.join(one.head.tags)}".casefold()
        ]  # fmt: skip
        many = {key: one.month for key, one in hits.items()}
        rows.sort(key=lambda one: (-many.get(str(one["key"]), 0), str(one["title"])))
        off = sorted(changed.items()) if not plain else []
        told.append({"site": site, "rows": rows, "off": off, "count": len(every),
                     "exceptions": found.rules.exceptions})  # fmt: skip
    return told


def rule(loaded: LoadedRules, facts: Facts, site: str, key: str) -> dict[str, Any] | None:
    """One rule: what it needs in words, its newest matches; None where the site has no such rule."""
    one = rules_of(loaded).get(key)
    if one is None:
        return None
    places = facts.places.get(site)
    return {
        "site": site, "key": key, "head": one.head,
        "position": f"{Path(one.head.position.file).name}:{one.head.position.line}",
        "says": explain_rule(one, loaded.rules),
        "hits": facts.hits(site).get(key), "changed": dict(loaded.changed).get(key, ""),
        "matches": [_match_row(match, places) for match in facts.matches(site, key)],
    }  # fmt: skip


def _match_row(match: MatchRow, places: Premises | None) -> dict[str, Any]:
    return {
        "when": time_text(match.opened_ms, places, "%d.%m.%Y %H:%M:%S"),
        "where": short(places.describe(match.asset)) if places is not None and match.asset else short(match.asset),
        "asset": match.asset,
        "group": {name: short(str(value)) for name, value in match.group.items()},
    }


def preview(facts: Facts, view: View, site: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What an exception would have hidden in the last 30 days: matches, and threats of which nothing were left.

    asked: rule, asset, fields. judged: threats among them that people called true.
    """
    hidden = facts.would_hide(site, asked["rule"], asked["asset"], asked["fields"])
    ids = {one.id for one in hidden}
    gone, judged = [], []
    for one in view.since((site,), facts.now_ms() - KEPT_DAYS * DAY_MS):
        findings = [step for step in one.threat.steps if not step.inner] or list(one.threat.steps)
        fits = [step for step in one.threat.steps if step.rule == asked["rule"] and _step_fits(step, asked)]
        if fits and len(fits) >= len(findings):
            gone.append((one.threat.id, short(one.threat.title)))
        if fits and one.handling.verdict == "true":
            judged.append((one.threat.id, short(one.threat.title)))
    places = facts.places.get(site)
    return {
        "count": len(ids), "shown": [_match_row(one, places) for one in hidden[:HIDDEN_SHOWN]],
        "gone": gone[:HIDDEN_SHOWN], "gone_count": len(gone), "judged": judged[:HIDDEN_SHOWN], "days": KEPT_DAYS,
    }  # fmt: skip


def _step_fits(step: Step, asked: Mapping[str, Any]) -> bool:
    if asked["asset"] and step.asset != asked["asset"]:
        return False
    return all(str(step.group.get(name)) == value for name, value in asked["fields"].items())


def named(rule: str) -> str:
    """Whether an exception calls this its rule or its kind of event."""
    return "kind" if rule in KINDS else "rule"


def exception_yaml(asked: Mapping[str, Any], until: str) -> str:
    """The same exception for the site's overlay (docs/rules.md, section 10)."""
    entry = {named(asked["rule"]): asked["rule"]}
    entry |= {name: asked[name] for name in ("fields", "asset") if asked[name]}
    entry |= {"until": until, "reason": asked["reason"]}
    return yaml.safe_dump({"exceptions": [entry]}, sort_keys=False, allow_unicode=True, width=100)


def cacao(one: Threat, places: Premises, language: str) -> bytes:
    """The playbook as CACAO 2.0."""
    return cacao_words.playbook(one, places, speaks(language))


def cap(one: Threat, places: Premises, sender: str = "") -> bytes:
    """A warning as CAP 1.2 in all languages: a draft."""
    drill = is_drill(one, places)
    return cap_words.draft(one, places, LANGUAGES, sender or f"correlator@{one.site}", drill=drill)
