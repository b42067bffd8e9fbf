"""The account of a threat that a person wants to read: where, when, what, why, and the proof.

Works on the JSON form of `correlator.events.threat.Threat`, so that a replay, a file and later a
topic are told alike. Times are shown in the site's zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from correlator.clock import duration_text, local
from correlator.impact.tell import account_lines

_PROOFS_A_STEP = 8


def account(threat: Mapping[str, Any], zone: tzinfo) -> list[str]:
    """Lines of plain text; every proof with its file:line."""
    members = {member["id"]: member for member in threat.get("members", ())}
    first, last = threat["first_ms"], threat["last_ms"]
    when = f"{local(first, zone):%A %d %B %Y, %H:%M:%S} to {local(last, zone):%H:%M:%S} ({zone})"
    lines = [
        f"{threat['severity'].upper()}  {threat['title']}",
        f"  where    {'; '.join(threat.get('places', ())) or 'place unknown'}",
        f"  when     {when}, {_long(last - first)}",
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
    for number, step in enumerate(threat.get("steps", ()), 1):
        lines += _step(number, step, members, told, zone)
    if threat.get("truncated"):
        lines.append(f"  and {threat['truncated']} more events than are listed here")
    return lines


def _step(number: int, step: Mapping[str, Any], members: Mapping[str, Any], told: set[str], zone: tzinfo) -> list[str]:
    at = f"{local(step['t_ms'], zone):%H:%M:%S}"
    place = f" - {step['place_name']}" if step.get("place_name") else ""
    lines = [f"  {number}. {at}  {step['title']} [{step['level']}]{place}"]
    if step.get("says"):
        lines.append(f"       {step['says']}")
    lines.append(f"       why: {step['joined']}")
    if step.get("condition"):
        group = ", ".join(f"{name} {value}" for name, value in step.get("group", {}).items())
        lines.append(f"       rule: {step['condition']}" + (f" ({group})" if group else ""))
    for absent in step.get("expected_absent", ()):
        lines.append(f"       expected and did not happen: {absent}")
    shown = [members[one] for one in step.get("events", ()) if one in members]
    for member in shown[:_PROOFS_A_STEP]:
        again = " (see above)" if member["id"] in told else ""
        told.add(member["id"])
        late = f", late by {duration_text(_rounded(member['late_ms']))}" if member.get("late_ms") else ""
        where = f" at {member['place_name']}" if member.get("place_name") else ""
        lines.append(
            f"         {local(member['time_ms'], zone):%H:%M:%S}  {member['said']}{where}{late}"
            f"  <{member.get('origin') or member.get('raw') or member['id']}>{again}"
        )
    if len(shown) > _PROOFS_A_STEP:
        lines.append(f"         and {len(shown) - _PROOFS_A_STEP} more")
    lines.append("")
    return lines


def _long(ms: int) -> str:
    """A duration for reading: "6 h 50 min", "4 min 10 s", "3 s"."""
    seconds = round(ms / 1000)
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _rounded(ms: int) -> int:
    return round(ms / 1000) * 1000 if ms >= 1000 else ms
