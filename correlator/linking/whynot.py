"""Why a finding was not linked to an earlier one: the link as it was weighed, its worst term marked.

Everything is recomputed from the engine's state just before the later finding is placed, so the answer
is the arithmetic of the decision itself and not a second opinion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from correlator.clock import HOUR_MS
from correlator.linking.engine import EVIDENCE, STEADY_S, Episode, Item, LinkEngine
from correlator.linking.tables import NEVER
from correlator.linking.words import duration_words, kind_words, recurrence_words, share_words

DAY_S: Final = 86_400.0
# What the terms of a link that holds are about, so that the worst is the one that is furthest below.
_GOOD: Final = {"expected": 0.5, "triggered": 1.0, "share": -3.0, "delay": -8.0, "chance": 16.0}


def refusal(engine: LinkEngine, first: Episode, item: Item) -> Iterator[str]:
    """Sentences on why `item`, which is about to be placed, does not follow from the episode `first`."""
    settings, say = engine.settings, engine.ground.describe
    then, rate, _ = engine.weigh(item)
    here, there = say(item.asset), say(first.place.asset)
    often = f"{kind_words(item.kind)} happens {often_words(rate)} at {here}"
    if engine.from_ms is not None and item.t_ms < engine.from_ms:
        yield "the site was still learning what is usual: nothing was linked yet"
    if item.calm:
        yield "it fits a declared window, so it proves nothing"
    delay_ms, terms = engine.terms_of(first, then)
    if terms is None:
        yield f"no path from {there} to {here} within a product of edge weights of {settings.reach_cut:g}; {often}"
        return
    if delay_ms >= settings.horizon_ms:
        yield f"it came {duration_words(delay_ms)} later, and nothing links beyond {settings.horizon_ms // HOUR_MS} h"
        return
    if terms["expected"] == NEVER:
        yield f"{then.type} cannot follow from {first.type}"
        return
    if rate * STEADY_S > 1 and then.evidence < EVIDENCE["high"]:
        yield f"{often}: what recurs hourly proves nothing there"
        return
    x, join = math.fsum(terms.values()), engine.join_at(delay_ms)
    yield f"x is {x:+.1f}, and such a link joins above {join:+.1f}:"
    words = {
        "expected": "a rule expects it" if terms["expected"] > 0 else "no rule expects it",
        "triggered": "a step leads to further ones",
        "share": (
            f"{share_words(math.exp(terms['share']))} of what can follow from {kind_words(first.kind)} goes to {here}"
        ),
        "delay": f"it came {duration_words(delay_ms)} later",
        "chance": f"something that unusual happens at {here} {recurrence_words(-terms['chance'])}; {often}",
    }
    worst = min(terms, key=lambda name: terms[name] - _GOOD[name])
    for name in sorted(terms, key=lambda name: (name != worst, terms[name])):
        yield f"  {terms[name]:+6.1f}  {words[name]}" + ("  (worst)" if name == worst else "")
    if x > join:
        yield "this link would hold: another threat had a better one, or neither was told as a threat"


def often_words(rate: float) -> str:
    """How often, from a rate per second: "14 times a day", "about once in 3 days"."""
    a_day = rate * DAY_S
    return f"{a_day:.0f} times a day" if a_day >= 1.5 else f"about once in {max(1, round(1 / a_day))} days"
