"""A threat in the words of the person who is told: where, what, since when, what to do now.

Pure functions of threat, site and language. Nothing that identifies a person enters: no badge number, no
name, no address of a computer; those stand on the threat's page, behind a login. Names that devices gave stand
on one line, cut, and without marks of direction, whatever they hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import yaml
from msgspec import Struct

from correlator.clock import MINUTE_MS, local
from correlator.events.kinds import KINDS
from correlator.events.text import one_line, shortened
from correlator.events.threat import Step, Threat
from correlator.premises import Premises
from correlator.words.language import Language

STEPS_TOLD, DUTIES_TOLD = 3, 3
LONGEST = 120  # characters of a name or of what a step says
HIT_LIKELIHOOD = 0.3  # from here on a care service counts as in danger (as for severity)


class PlaybookStep(Struct, frozen=True):
    """A step of a playbook; text by language; call: role of the contact to phone, "" for none."""

    id: str
    text: dict[str, str]
    types: tuple[str, ...]
    call: str = ""
    mandatory: bool = False


class Message(Struct, frozen=True):
    """What a receiver reads."""

    subject: str
    body: str


class Occasion(Struct, frozen=True):
    """Why a message is written now: first, grown, escalated, reminder (with minutes), or again after quiet hours."""

    kind: str = "first"
    minutes: int = 0


@cache
def _words() -> Mapping[str, Any]:
    text = files("correlator.words").joinpath("texts/words.yaml").read_text(encoding="utf-8")
    words: Mapping[str, Any] = yaml.safe_load(text)
    return words


@cache
def playbook() -> tuple[PlaybookStep, ...]:
    """All steps, in order."""
    text = files("correlator.words").joinpath("texts/playbooks.yaml").read_text(encoding="utf-8")
    return tuple(
        PlaybookStep(one["id"], one["text"], tuple(one["for"]), one.get("call", ""), one.get("mandatory", False))
        for one in yaml.safe_load(text)["steps"]
    )


def frame(name: str, language: Language, **values: object) -> str:
    """A sentence of words.yaml with its values."""
    text: str = _words()["frames"][name][language]
    return text.format_map(values)


def named(text: str) -> str:
    """A name or sentence that did not come from us, as it may stand in a message."""
    return shortened(one_line(text), LONGEST)


def type_words(threat_type: str, language: Language) -> str:
    """What a threat type is called; a word for anything suspicious where it is none of the vocabulary."""
    known = _words()["threat_types"].get(threat_type)
    return str(known[language]) if known is not None else frame("suspicious", language)


def severity_words(severity: str, language: Language) -> str:
    """A severity in a language."""
    return str(_words()["severities"][severity][language])


def steps_for(threat: Threat) -> list[PlaybookStep]:
    """The playbook of a threat: the steps of all its types, each once, in the order of the file."""
    types = set(threat.threat_types)
    return [one for one in playbook() if types.intersection(one.types)]


def headline(threat: Threat, places: Premises, language: Language) -> str:
    """Place and what is wrong: of the gravest step, the latest of them."""
    step = _gravest(threat)
    place = _place(step, threat, places, language)
    return frame("headline", language, place=place, what=_what(step, threat, places, language))


def is_drill(threat: Threat, places: Premises) -> bool:
    """Whether the threat fell into a declared drill: a window that names kinds which are critical by themselves."""
    windows = [places.site.windows[one] for one in threat.windows if one in places.site.windows]
    return any(kind in KINDS and KINDS[kind].level == "critical" for one in windows for kind in one.kinds)


def message(
    threat: Threat, places: Premises, language: Language, occasion: Occasion, link: str = "", *, drill: bool = False
) -> Message:
    """Subject and body. link: address of the threat's page, "" for none."""
    title = headline(threat, places, language)
    if drill:
        title = f"{frame('drill', language)} - {title}"
    lines = [title]
    if occasion.kind in ("grown", "escalated", "reminder"):
        lines.append(frame(occasion.kind, language, minutes=occasion.minutes))
    since = local(threat.first_ms, places.site.timezone)
    lines.append(
        frame("since", language, time=f"{since:%d.%m. %H:%M}", severity=severity_words(threat.severity, language))
    )
    if threat.windows:
        lines.append(frame("window", language, windows=named(", ".join(threat.windows))))
    lines += ["", frame("happened", language), *_happened(threat, places, language)]
    danger = _danger(threat, places, language)
    if danger:
        lines += ["", danger]
    duties = steps_in_words(threat, places, language)[:DUTIES_TOLD]
    if duties:
        lines += ["", frame("duties", language), *(f"{number}. {text}" for number, text in enumerate(duties, 1))]
    if link:
        lines += ["", frame("details", language, link=link)]
    return Message(title, "\n".join(lines) + "\n")


def steps_in_words(threat: Threat, places: Premises, language: Language) -> list[str]:
    """The steps of the playbook in words, with phone numbers where the site file has them."""
    zones = [zone for asset in threat.assets for zone in places.zones_of(asset, threat.last_ms)]
    told = []
    for step in steps_for(threat):
        text = step.text[language]
        phone = _phone(places, step.call, zones) if step.call else ""
        told.append(frame("call", language, text=text, role=step.call, phone=phone) if phone else text)
    return told


def _phone(places: Premises, role: str, zones: list[str]) -> str:
    """The phone of a contact with that role, one of these zones first."""
    fitting = [one for one in places.site.contacts if one.role.lower() == role.lower()]
    near = [one for one in fitting if set(one.zones) & set(zones)]
    everywhere = [one for one in fitting if not one.zones]
    return next((one.phone for one in (*near, *everywhere)), "")


def _gravest(threat: Threat) -> Step | None:
    order = _words()["severities"]
    ranks = {name: rank for rank, name in enumerate(order)}
    steps = sorted(threat.steps, key=lambda one: (ranks.get(one.level, 0), one.t_ms, one.finding))
    return steps[-1] if steps else None


@lru_cache(maxsize=8)
def _somebody(places: Premises) -> frozenset[str]:
    """What people of a site are called in messages: names, ids, badges, accounts."""
    people = places.site.people.values()
    named = {one for person in people for one in (person.id, person.name, *person.aliases) if one}
    return frozenset(named | {one.id for person in people for one in (*person.badges, *person.accounts)})


def _names_somebody(text: str, places: Premises) -> bool:
    known = _somebody(places)
    return bool(known) and any(word in known for word in re.findall(r"[\w.@#-]+", text))


def _what(step: Step | None, threat: Threat, places: Premises, language: Language) -> str:
    if step is None:
        return type_words(threat.threat_types[0] if threat.threat_types else "", language)
    if language == "en" and step.says and not _names_somebody(step.says, places):
        return named(step.says.rstrip("."))
    if step.threat_type:
        return type_words(step.threat_type, language)
    return type_words(threat.threat_types[0] if threat.threat_types else "", language)


def _place(step: Step | None, threat: Threat, places: Premises, language: Language) -> str:
    """The zone's name, else the site's words for the asset; never an address or an account."""
    asset = step.asset if step is not None else next(iter(threat.assets), "")
    for zone in places.zones_of(asset, threat.last_ms) if asset else ():
        known = places.site.zones.get(zone)
        if known is not None:
            return named(known.name)
    return frame("unknown_place", language)


def _happened(threat: Threat, places: Premises, language: Language) -> list[str]:
    """Up to three lines: time, what, where; what is said twice stands once."""
    told: dict[str, str] = {}
    for step in sorted(threat.steps, key=lambda one: (one.t_ms, one.finding)):
        what = f"{_what(step, threat, places, language)} ({_place(step, threat, places, language)})"
        told.setdefault(what, f"- {local(step.t_ms, places.site.timezone):%H:%M} {what}")
    lines = list(told.values())
    if len(lines) <= STEPS_TOLD:
        return lines
    return [*lines[:STEPS_TOLD], "- " + frame("more", language, count=len(lines) - STEPS_TOLD)]


def _danger(threat: Threat, places: Premises, language: Language) -> str:
    """Which care services are in danger, and how soon at the earliest."""
    impacts = [one for one in threat.impact if one.service and one.likelihood >= HIT_LIKELIHOOD]
    if not impacts:
        return ""
    services = places.site.services
    names = list(
        dict.fromkeys(named(services[one.asset].name if one.asset in services else one.place_name) for one in impacts)
    )
    soonest = min(one.from_ms + one.p50_ms for one in impacts) - threat.decided_ms
    listed = ", ".join(names[:5])
    if soonest <= 0:
        return frame("endangers", language, services=listed)
    return frame("endangers_within", language, services=listed, minutes=-(-soonest // MINUTE_MS))
