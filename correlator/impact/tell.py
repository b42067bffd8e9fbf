"""Impact and advice in words, from their JSON form, so that a replay, a file and a topic are told alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from correlator.premises.vocabulary import THREAT_TYPES

SHOWN: Final = 6  # impacts in an account; the message lists more
_MINUTE_MS: Final = 60_000


def account_lines(threat: Mapping[str, Any]) -> list[str]:
    """What a threat may lead to and what to do about it, as lines of an account; [] if there is nothing."""
    impacts: Sequence[Mapping[str, Any]] = threat.get("impact", ())
    lines: list[str] = []
    if impacts:
        loss = threat.get("expected_loss", 0.0)
        advised = any(one.get("advised") for one in threat.get("advice", ()))
        after = f", {threat.get('expected_loss_advised', 0.0):.2f} with the advice" if advised else ""
        lines.append(f"  may lead to (expected loss of care {loss:.2f}{after})")
        for impact in impacts[:SHOWN]:
            lines += [f"    {impact_words(impact)}", f"           {path_words(impact['path'])}"]
            lines += [f"           and {path_words(path)}" for path in impact.get("together", ())]
        more = len(impacts) - SHOWN + threat.get("impact_truncated", 0)
        if more > 0:
            lines.append(f"    and {more} more")
        lines.append("")
    advice = [one for one in threat.get("advice", ()) if one.get("advised")]
    others = [one for one in threat.get("advice", ()) if not one.get("advised")]
    if advice:
        lines.append("  what to do")
        lines += [f"    {number}. {advice_words(one)}" for number, one in enumerate(advice, 1)]
        if others:
            lines.append(f"       or: {'; '.join(one['says'] for one in others)}")
        lines.append("")
    return lines


def impact_words(impact: Mapping[str, Any]) -> str:
    """One impact: "90 %  Vaccine freezer: a host does not work, in about 5 min (0 to 30 min)"."""
    says = THREAT_TYPES[impact["threat_type"]].says
    effects = ", ".join(impact.get("effects", {}))
    grave = f"criticality {impact['criticality']}" if impact.get("criticality") else ""
    notes = "; ".join(part for part in (effects, grave) if part)
    middle = time_words(impact["p50_ms"])
    spread = f"({time_words(impact['p10_ms'])} to {time_words(impact['p90_ms'])})"
    when = f"{middle if impact['p50_ms'] < 1_000 else f'in about {middle}'} {spread}"
    return f"{percent(impact['likelihood']):>5}  {impact['place_name']}: {says}, {when}" + (
        f" [{notes}]" if notes else ""
    )


def path_words(path: Sequence[Mapping[str, Any]]) -> str:
    """The steps of a path with the likelihood of each."""
    parts = []
    for number, step in enumerate(path):
        if number:
            parts.append(f"{percent(step['step'])} {step['place_name']}: {step['threat_type']}")
        else:
            sure = "" if step["step"] >= 1 else f" ({percent(step['step'])} sure)"
            parts.append(f"{step['place_name']}: {step['threat_type']}{sure}")
    return " > ".join(parts)


def advice_words(advice: Mapping[str, Any]) -> str:
    """One counter-measure with what it saves and costs."""
    notes = [f"saves {advice['saves']:.2f}"]
    if advice.get("harms"):
        notes.append(f"costs care {advice['harms']:.2f}")
    if advice.get("cost"):
        notes.append(f"cost {advice['cost']:.2f}")
    if advice.get("takes_ms"):
        notes.append(f"takes {time_words(advice['takes_ms'])}")
    if advice.get("who"):
        notes.append(f"ask: {advice['who']}")
    return f"{advice['says']} ({', '.join(notes)})"


def percent(share: float) -> str:
    """A likelihood as "90 %", below ten as "7.5 %"."""
    return f"{share * 100:.0f} %" if share >= 0.1 or share == 0 else f"{share * 100:.1f} %"


def time_words(ms: int) -> str:
    """A time as "at once", "20 s", "5 min", "3 h" or "2 d": as exact as such estimates are."""
    if ms < 1_000:
        return "at once"
    if ms < _MINUTE_MS:
        return f"{ms // 1_000} s"
    minutes = round(ms / _MINUTE_MS)
    if minutes < 120:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} d"
