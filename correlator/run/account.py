"""The account of a threat that a person wants to read: where, when, what, why, and the proof.

Works on the JSON form of `correlator.events.threat.Threat`, so that a replay, a file and later a
topic are told alike. Times are shown in the site's zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from itertools import groupby
from typing import Any

from correlator.clock import duration_text, local
from correlator.impact.tell import account_lines

_PLACES = 6  # in the head; each step names its own
_PROOFS_A_STEP = 8
_AGAIN = 3  # proofs of earlier steps that a step names once more


def account(threat: Mapping[str, Any], zone: tzinfo) -> list[str]:
    """Lines of plain text; every proof with its file:line."""
    members = {member["id"]: member for member in threat.get("members", ())}
    places = threat.get("places", ())
    more = f"; and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    lines = [
        f"{threat['severity'].upper()}  {threat['title']}",
        f"  where    {'; '.join(places[:_PLACES]) or 'place unknown'}{more}",
        f"  when     {_when(threat['first_ms'], threat['last_ms'], zone)}",
        f"  domains  {', '.join(threat.get('domains', ()))}",
        f"  state    {threat['phase']}, revision {threat['revision']}, id {threat['id'][:12]}",
    ]
    if threat.get("score") is not None:
        sure = threat["confidence"]
        lines.append(f"  linked   over the site graph with {threat['score']:.1f} nats, confidence {sure}")
    if threat.get("techniques"):
        lines.append(f"  methods  {', '.join(threat['techniques'])}")
    if threat.get("windows"):
        lines.append(f"  windows  {', '.join(threat['windows'])}")
    lines.append("")
    lines += account_lines(threat)
    told: set[str] = set()
    number = 1
    for _, alike in groupby(threat.get("steps", ()), key=_sameness):
        steps = list(alike)
        lines += _steps(number, steps, members, told, zone)
        number += len(steps)
    if threat.get("truncated"):
        lines.append(f"  and {threat['truncated']} more events than are listed here")
    return lines


def _sameness(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two steps have in common that are told as one: all but time, place and proof."""
    group = tuple(step.get("group", {}).items())
    absent = tuple(step.get("expected_absent", ()))
    return step["title"], step["level"], step.get("says"), step["joined"], step.get("condition"), group, absent


def _steps(
    number: int, steps: Sequence[Mapping[str, Any]], members: Mapping[str, Any], told: set[str], zone: tzinfo
) -> list[str]:
    """Steps that stand behind each other and are alike; mostly one. number: of the first."""
    step, last = steps[0], steps[-1]
    at = f"{local(step['t_ms'], zone):%H:%M:%S}"
    names = "; ".join(dict.fromkeys(one["place_name"] for one in steps if one.get("place_name")))
    place = f" - {names}" if names else ""
    lines = [f"  {number}. {at}  {step['title']} [{step['level']}]{place}"]
    if len(steps) > 1:
        numbers, until = f"{number} to {number + len(steps) - 1}", f"{local(last['t_ms'], zone):%H:%M:%S}"
        lines = [f"  {numbers}. {at} to {until}  {step['title']} [{step['level']}], {len(steps)} times{place}"]
    if step.get("says"):
        lines.append(f"       {step['says']}")
    lines.append(f"       why: {step['joined']}")
    if step.get("condition"):
        group = ", ".join(f"{name} {value}" for name, value in step.get("group", {}).items())
        lines.append(f"       rule: {step['condition']}" + (f" ({group})" if group else ""))
    for absent in step.get("expected_absent", ()):
        lines.append(f"       expected and did not happen: {absent}")
    shown = [members[one] for every in steps for one in every.get("events", ()) if one in members]
    again = sum(member["id"] in told for member in shown)
    if again > _AGAIN:
        shown = [member for member in shown if member["id"] not in told]
    most = _PROOFS_A_STEP * len(steps)
    for member in shown[:most]:
        seen = " (see above)" if member["id"] in told else ""
        told.add(member["id"])
        late = f", late by {duration_text(_rounded(member['late_ms']))}" if member.get("late_ms") else ""
        where = f" at {member['place_name']}" if member.get("place_name") else ""
        lines.append(
            f"         {local(member['time_ms'], zone):%H:%M:%S}  {member['said']}{where}{late}"
            f"  <{member.get('origin') or member.get('raw') or member['id']}>{seen}"
        )
    if len(shown) > most:
        lines.append(f"         and {len(shown) - most} more")
    if again > _AGAIN:
        lines.append(f"         and {again} that are told above")
    lines.append("")
    return lines


def _when(first_ms: int, last_ms: int, zone: tzinfo) -> str:
    first, last = local(first_ms, zone), local(last_ms, zone)
    if last_ms == first_ms:
        return f"{first:%A %d %B %Y, %H:%M:%S} ({zone})"
    end = f"{last:%H:%M:%S}" if last.date() == first.date() else f"{last:%A %d %B %Y, %H:%M:%S}"
    return f"{first:%A %d %B %Y, %H:%M:%S} to {end} ({zone}), {_long(last_ms - first_ms)}"


def _long(ms: int) -> str:
    """A duration for reading: "6 h 50 min", "4 min 10 s", "3 s"."""
    seconds = round(ms / 1000)
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _rounded(ms: int) -> int:
    return round(ms / 1000) * 1000 if ms >= 1000 else ms
