"""A link in plain words, largest terms first, never without the side of chance."""

from __future__ import annotations

import math
from collections.abc import Callable

from correlator.clock import HOUR_MS, MINUTE_MS, SECOND_MS
from correlator.events.kinds import KINDS
from correlator.linking.engine import TERMS, Link, LinkEngine, ThreatState

Describe = Callable[[str], str]


def opened_words() -> str:
    """What a step says that opened a threat."""
    return "opened it"


def duration_words(ms: int) -> str:
    """About how long: "40 s", "5 min", "3 h"."""
    if ms < 2 * MINUTE_MS:
        return f"{round(ms / SECOND_MS)} s"
    if ms < 2 * HOUR_MS:
        return f"{round(ms / MINUTE_MS)} min"
    return f"{round(ms / HOUR_MS)} h"


def recurrence_words(log_rate: float) -> str:
    """How often, from ln of a rate per second."""
    seconds = math.exp(-log_rate)
    if seconds < 2 * 3600:
        return f"about every {max(1, round(seconds / 60))} min"
    if seconds < 2 * 86_400:
        return f"about every {round(seconds / 3600)} h"
    return f"about once in {round(seconds / 86_400)} days"


def link_words(engine: LinkEngine, threat: ThreatState, link: Link, describe: Describe | None = None) -> str:
    """Why a member belongs: what led to it, how far, how long after, how unusual, and the sum."""
    say = describe if describe is not None else engine.ground.describe
    target, source = threat.episodes.get(link.target), threat.episodes.get(link.source)
    if target is None or source is None:
        return "belongs to it"
    if link.how == "again":
        level = f" (its level: {link.gain:+.1f})" if link.gain else ""
        return f"tells of the same moment as {kind_words(source.kind)} at {say(source.place.asset)}{level}"
    terms = dict(zip(TERMS, link.terms, strict=True))
    first, then = (target, source) if link.how == "earlier" else (source, target)
    share = math.exp(terms["share"])
    parts = [
        (
            terms["chance"],
            (f"something that unusual happens on {say(target.place.asset)} {recurrence_words(-terms['chance'])}"),
        ),
        (terms["delay"], (f"it came {duration_words(link.delay_ms)} {'before' if link.how == 'earlier' else 'later'}")),
        (
            terms["share"],
            f"{share_words(share)} of what can follow from {kind_words(first.kind)} goes to {say(then.place.asset)}",
        ),
    ]
    if terms["pace"]:
        parts.append((terms["pace"], f"{'as' if terms['pace'] > 0 else 'not as'} its other steps followed each other"))
    if terms["expected"]:
        parts.append(
            (terms["expected"], "it is an expected follow-up" if terms["expected"] > 0 else "no rule expects it")
        )
    parts.sort(key=lambda part: -abs(part[0]))
    told = "; ".join(f"{words} ({value:+.1f})" for value, words in parts)
    more = [f"{words} {terms[name]:+.1f}" for name, words in _EXTRA.items() if terms[name]]
    total = f"together {link.x:+.1f}" + (f", {', '.join(more)}" if more else "")
    verb = "led to it" if link.how == "earlier" else "follows"
    return f"{verb}: {kind_words(source.kind)} at {say(source.place.asset)}: {told}; {total} = {link.gain:+.1f}"


def share_words(share: float) -> str:
    """A share as "53 %", "2.1 %" or "less than 0.1 %"."""
    if share < 0.001:
        return "less than 0.1 %"
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


def kind_words(kind: str) -> str:
    """What a finding of a kind says."""
    known = KINDS.get(kind)
    return known.says if known is not None else "what a rule found"


_EXTRA = {
    "cost": "less cost",
    "cap": "capped",
    "discount": "shared cause",
    "tactic": "first of its tactic",
    "domain": "first of its domain",
    "evidence": "evidence of its own",
    "uncounted": "explained by what is there",
}
