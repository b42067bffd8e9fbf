"""Which messages a threat needs now. A pure function, so that every replica finds the same rows.

One threat is one notification that grows: the first message to each receiver, one more when the severity
rises or a further care service is in danger, escalation while nobody acknowledges, a reminder when somebody
did and nothing followed. Beside these: a public warning that a person approved, and the summary of a week.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS, local
from correlator.events.event import LEVELS
from correlator.events.threat import Threat
from correlator.journal.fold import Handling
from correlator.notifier.outbox import Row
from correlator.notifier.routes import Situation, choose, named, quiet_until_ms
from correlator.notifier.settings import DAYS, NotifierSettings

ANSWERED_DROPS = ("escalated",)
CLOSED_DROPS = ("first", "grown", "escalated", "reminder")  # an approved warning is sent all the same


def plan(
    settings: NotifierSettings,
    threat: Threat,
    one: Situation,
    handling: Handling,
    told: list[Row],
    now_ms: int,
    zone: tzinfo,
) -> list[Row]:
    """Rows that must exist now, whether they exist already or not.

    told: rows of this threat so far. Nothing for a watch, for what is closed, and for what lies on a shelf
    (unless its severity has risen above that at which it was shelved).
    """
    if threat.phase != "threat" or handling.state == "closed" or _shelved(threat, handling, now_ms):
        return []
    chosen = choose(settings, one, now_ms, zone)
    firsts = [row for row in told if row.occasion == "first"]
    rows = [
        _row(settings, threat, item.receiver, "first", str(len(one.services)), item.why, now_ms, now_ms, zone)
        for item in chosen
        if not any(row.receiver == item.receiver for row in told)
    ]
    if not firsts:
        return rows
    began_ms = min(row.made_ms for row in firsts)
    grade = _grade(threat, one)
    if grade not in {_grade_of(row) for row in told} and _more(grade, told):
        # What quiet hours hold was not told yet: growth does not wait for it, and what is critical passes at once.
        last = [row.due_ms for row in told if row.occasion in ("first", "grown") and not row.held]
        due_ms = max(now_ms, max(last) + settings.growth_min * MINUTE_MS) if last else now_ms
        for item in chosen:
            if any(row.receiver == item.receiver for row in firsts):
                rows.append(_row(settings, threat, item.receiver, "grown", grade, item.why, now_ms, due_ms, zone))
    if handling.state == "new":
        for number, step in enumerate(settings.escalation, 1):
            which = f"{number}.{handling.returns}" if handling.returns else str(number)
            due_ms = max(began_ms, handling.touched_ms) + step.after_min * MINUTE_MS
            for name in named(settings, step.receivers, step.roles, local(due_ms, zone)):
                if one.drill and settings.receiver(name).outside:
                    continue
                why = f"nobody answered for {step.after_min} min"
                rows.append(_row(settings, threat, name, "escalated", which, why, now_ms, due_ms, zone))
    elif now_ms - handling.touched_ms >= settings.remind_min * MINUTE_MS:
        times = (now_ms - handling.touched_ms) // (settings.remind_min * MINUTE_MS)
        for name in dict.fromkeys(row.receiver for row in firsts):
            which = f"{handling.version}.{times}"
            why = f"no news for {times * settings.remind_min} min"
            rows.append(_row(settings, threat, name, "reminder", which, why, now_ms, now_ms, zone))
    return rows


def back_to_queue(settings: NotifierSettings, handling: Handling, now_ms: int) -> bool:
    """Whether a threat that somebody took is to go back to everybody: two reminders without an answer."""
    return (
        handling.state in ("acknowledged", "assigned")
        and now_ms - handling.touched_ms >= 3 * settings.remind_min * MINUTE_MS
    )


def _shelved(threat: Threat, handling: Handling, now_ms: int) -> bool:
    shelf = handling.shelf
    if shelf is None or not shelf.at_ms <= now_ms < shelf.until_ms:
        return False
    before = LEVELS.index(shelf.severity) if shelf.severity in LEVELS else len(LEVELS)
    return LEVELS.index(threat.severity) <= before


def _grade(threat: Threat, one: Situation) -> str:
    """What a receiver wants to hear of again: severity and number of care services in danger."""
    return f"{LEVELS.index(threat.severity)}.{len(one.services)}"


def _grade_of(row: Row) -> str:
    number = row.key.rsplit("/", 1)[1]
    return number if row.occasion == "grown" else f"{LEVELS.index(row.severity)}.{number}"


def _more(grade: str, told: list[Row]) -> bool:
    level, services = (int(part) for part in grade.split("."))
    known = [
        tuple(int(part) for part in _grade_of(row).split(".")[:2]) for row in told if row.occasion in ("first", "grown")
    ]
    return level > max(one[0] for one in known) or services > max(one[1] for one in known)


def _row(
    settings: NotifierSettings,
    threat: Threat,
    receiver: str,
    occasion: str,
    number: str,
    why: str,
    now_ms: int,
    due_ms: int,
    zone: tzinfo,
) -> Row:
    wanted_ms = due_ms
    if threat.severity != "critical":
        due_ms = quiet_until_ms(settings.receiver(receiver).quiet, due_ms, zone)
    key = f"{threat.id}/{occasion}/{receiver}/{number}"
    held = int(due_ms > wanted_ms)
    return Row(key, threat.site, threat.id, receiver, occasion, threat.severity, why, now_ms, due_ms, held=held)


def warnings(settings: NotifierSettings, threat: Threat, one: Situation, handling: Handling, now_ms: int) -> list[Row]:
    """Rows of the public warnings that somebody with that right approved; of a drill nothing leaves the site."""
    chosen = settings.warnings
    if chosen is None:
        return []
    return [
        Row(f"{threat.id}/warning/{name}/{number}", threat.site, threat.id, name, "warning", threat.severity,
            f"approved by {warned.who}", now_ms, now_ms)
        for number, warned in enumerate(handling.warnings)
        if warned.who in chosen.approvers
        for name in chosen.receivers
        if not (one.drill and settings.receiver(name).outside)
    ]  # fmt: skip


def summaries(settings: NotifierSettings, site: str, now_ms: int, zone: tzinfo) -> list[Row]:
    """Rows of a site's last weekly summary. One that is a day late or more is not sent any more."""
    chosen = settings.summary
    if chosen is None:
        return []
    due_ms = _last_ms(DAYS.index(chosen.day), chosen.at, now_ms, zone)
    if now_ms - due_ms >= DAY_MS:
        return []
    return [
        Row(f"{site}/summary/{name}/{due_ms}", site, "", name, "summary", "low", "once a week", due_ms, due_ms)
        for name in chosen.receivers
    ]


def _last_ms(weekday: int, clock: str, now_ms: int, zone: tzinfo) -> int:
    """When it was last this time of this day of the week, ms UTC; wall-clock time decides."""
    now = local(now_ms, zone)
    day = now.date() - timedelta(days=(now.weekday() - weekday) % 7)
    minutes = int(clock[:2]) * 60 + int(clock[3:])
    for back in (0, 7):
        at = datetime(day.year, day.month, day.day, tzinfo=zone) - timedelta(days=back) + timedelta(minutes=minutes)
        if at.timestamp() * 1000 <= now_ms:
            break
    return int(at.timestamp() * 1000)


def too_many(settings: NotifierSettings, row: Row, sent_last_hour: int) -> bool:
    """Whether a receiver has had its hour's worth; critical messages pass."""
    return row.severity != "critical" and sent_last_hour >= settings.receiver(row.receiver).per_hour


OVERFLOW_WAIT_MS = HOUR_MS // 4
