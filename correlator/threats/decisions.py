"""What people decide about threats and their site, checked: verdict, close, reopen, exception, window, state.

A decision takes its turn in event time like everything else: at the time the process that took it stamped on
it, or at the watermark if that is later. So a replay and every carrier let it act between the same events.
What it declares holds from there on and never back, or matches told before would change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from correlator.events.kinds import KINDS
from correlator.premises import Premises
from correlator.premises.live import CONDITIONS
from correlator.premises.model import Window
from correlator.rules.syntax import CorrelationRule, DetectionRule, RuleException

Rules = Mapping[str, CorrelationRule | DetectionRule]

# Verdicts as the journal has them -> what linking learns (docs/linking.md, "Feedback").
VERDICTS: Final = {
    "true": "confirmed", "benign": "benign", "drill": "benign", "false": "false", "duplicate": "duplicate",
}  # fmt: skip


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One decision as it waits for its turn, and afterwards if it declared something.

    due_ms: when it acts, ms UTC of event time. body: as people asked for it (docs/streaming.md, "Decisions").
    """

    id: str
    kind: str
    due_ms: int
    body: dict[str, Any]

    def text(self, name: str) -> str:
        """An argument as text, "" without it."""
        return str(self.body.get(name) or "")

    def name(self) -> str:
        """What it declares is known by; a later one of the same name takes its place."""
        return f"{self.kind}/{self.text('id') or self.id}"

    def until_ms(self) -> int:
        """When what it declares ends, 0 without an end."""
        until_ms = self.body.get("to_ms" if self.kind == "window" else "until_ms")
        return until_ms if type(until_ms) is int else 0


def fault_of(one: Decision, rules: Rules, places: Any) -> str:
    """Why a decision cannot be taken at this site, in words; "" if it can."""
    if one.kind in ("verdict", "close", "reopen"):
        return _fault_of_threat(one)
    if one.kind == "exception":
        return _fault_of_exception(one, rules)
    if not isinstance(places, Premises):
        return "there is no site model"
    if one.kind == "window":
        return _fault_of_window(one, places)
    if one.kind == "state":
        return _fault_of_state(one, places)
    return f"nothing is known of a decision {one.kind!r}"


def exception_of(one: Decision, rules: Rules) -> RuleException:
    """The exception that a decision declares; of a rule that is not in force any more it fits nothing."""
    body = one.body
    named = one.text("rule")
    fields = body.get("fields")
    return RuleException(
        rule=_key_of(named, rules) or named,
        kind=one.text("kind"),
        fields=tuple((name, _texts(texts)) for name, texts in sorted(fields.items())) if fields else (),
        asset=one.text("asset"),
        from_ms=max(_from_ms(body), one.due_ms + 1),
        until_ms=one.until_ms(),
        reason=_why(body),
    )


def window_of(one: Decision) -> Window:
    """The window that a decision declares."""
    body = one.body
    return Window(
        id=one.text("id") or one.id,
        from_ms=max(_from_ms(body), one.due_ms + 1),
        to_ms=one.until_ms(),
        why=_why(body),
        zones=_texts(body.get("zones")),
        assets=_texts(body.get("assets")),
        people=_texts(body.get("people")),
        kinds=_texts(body.get("kinds")),
    )


def _fault_of_threat(one: Decision) -> str:
    if not one.text("threat"):
        return "it names no threat"
    verdict = one.text("verdict")
    if verdict not in VERDICTS and (verdict or one.kind == "verdict"):
        return f"{verdict!r} is no verdict; one of {', '.join(VERDICTS)}"
    return ""


def _fault_of_exception(one: Decision, rules: Rules) -> str:
    rule, kind, fields = one.text("rule"), one.text("kind"), one.body.get("fields")
    if bool(rule) is bool(kind):
        return "an exception names a rule or a kind of event"
    if rule and not _key_of(rule, rules):
        return f"there is no rule {rule!r}"
    if kind and kind not in KINDS:
        return f"there is no kind of event {kind!r}"
    if fields is not None and not isinstance(fields, dict):
        return "fields must map names to values"
    return "" if one.until_ms() else "it has no end"


def _fault_of_window(one: Decision, places: Premises) -> str:
    places_named = (*_texts(one.body.get("zones")), *_texts(one.body.get("assets")))
    if not places_named:
        return "a window names zones or assets"
    for name in (*places_named, *_texts(one.body.get("people"))):
        if name not in places.graph.nodes:
            return f"the site has no {name!r}"
    return "" if one.until_ms() else "it has no end"


def _fault_of_state(one: Decision, places: Premises) -> str:
    asset, attribute, value = one.text("asset"), one.text("attribute"), one.body.get("value")
    if asset not in places.graph.nodes:
        return f"the site has no {asset!r}"
    if attribute in ("open", "locked"):
        if asset not in places.site.doors:
            return f"{asset!r} is no door"
        return "" if isinstance(value, bool) else f"{attribute} is true or false"
    if attribute == "health":
        return "" if value in CONDITIONS else f"health is one of {', '.join(CONDITIONS)}"
    return f"{attribute!r} is nothing that can be set; open, locked or health"


def _key_of(named: str, rules: Rules) -> str:
    """The key of a rule given by its key, id or name; "" if there is none."""
    if named in rules:
        return named
    return next((key for key, rule in rules.items() if named in (rule.head.id, rule.head.name)), "") if named else ""


def _from_ms(body: Mapping[str, Any]) -> int:
    from_ms = body.get("from_ms", -1)
    return from_ms if type(from_ms) is int else -1


def _why(body: Mapping[str, Any]) -> str:
    return str(body.get("reason") or body.get("why") or "")


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(str(one) for one in value)
    return () if value is None else (str(value),)
