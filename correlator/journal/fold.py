"""What follows from the actions of a site, in their order. A pure function of the journal.

The fold decides, not the button: two people may press at once on two replicas, and every reader of the
journal must find the same owner. So an action carries the version its asker saw, one that comes too late
is refused and kept with its reason, and no clock but the actions' own `at_ms` is read.

Handling of a threat: new, acknowledged (somebody looks at it), assigned (somebody owns it), closed with
a verdict. It belongs to people; phases belong to the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, Literal

from msgspec import Struct, field

from correlator.clock import HOUR_MS
from correlator.journal.action import MAX_TEXT, VERDICTS, Act, to_bytes

WarningKind = Literal["Alert", "Update", "Cancel"]
State = Literal["new", "acknowledged", "assigned", "closed"]
DEFAULT_MAX_SHELF_MS: Final = 8 * HOUR_MS
MAX_WARNINGS: Final = 20  # of a threat
MAX_WARNING: Final = 64_000  # characters of a warning
OVERTAKEN: Final = "another action came first"  # why an anchor says nothing
MAX_NOTES: Final = 500  # of a threat; older ones stay in the journal


class Tick(Struct, frozen=True, gc=False):
    """A step of the playbook that somebody did."""

    step: str
    who: str
    at_ms: int


class Note(Struct, frozen=True, gc=False):
    """What somebody wrote about a threat."""

    who: str
    at_ms: int
    text: str


class Shelf(Struct, frozen=True, gc=False):
    """A threat set aside until a time, with a reason; a higher severity than `severity` ends it."""

    who: str
    at_ms: int
    until_ms: int
    reason: str
    severity: str


class Warned(Struct, frozen=True, gc=False):
    """A warning (CAP 1.2) that somebody approved. xml: the very text that was approved, and that leaves."""

    who: str
    at_ms: int
    reason: str
    kind: WarningKind
    xml: str


class Handling(Struct, gc=False):
    """What people did with a threat. version counts accepted actions that changed it, returns how often it came
    back to the queue: released or reopened."""

    state: State = "new"
    owner: str = ""
    version: int = 0
    acked_by: str = ""
    acked_ms: int = 0
    touched_ms: int = 0
    verdict: str = ""
    ticks: list[Tick] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    shelf: Shelf | None = None
    closed_ms: int = 0
    warnings: list[Warned] = field(default_factory=list)
    returns: int = 0


class Declared(Struct, frozen=True, gc=False):
    """A maintenance window or an exception that somebody declared; args as in the action."""

    id: str
    kind: Literal["window", "exception"]
    who: str
    at_ms: int
    until_ms: int
    args: dict[str, Any]


class Outcome(Struct, frozen=True, gc=False):
    """Whether an action held: "done", "refused" with a reason for the asker, or "repeated"."""

    result: Literal["done", "refused", "repeated"]
    reason: str = ""


DONE: Final = Outcome("done")
REPEATED: Final = Outcome("repeated")


def _refused(reason: str) -> Outcome:
    return Outcome("refused", reason)


def warning_kinds(handling: Handling) -> tuple[WarningKind, ...]:
    """Which warnings a threat may get next: a first one, or what replaces the one that is out."""
    out = bool(handling.warnings) and handling.warnings[-1].kind != "Cancel"
    return ("Update", "Cancel") if out else ("Alert",)


def seen_key(id: str) -> bytes:
    """16 bytes that stand for an action's id."""
    return blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Fold:
    """The state of one site's journal. max_shelf_ms: how long a shelf may last."""

    __slots__ = ("_seen", "chain", "count", "declared", "handlings", "max_shelf_ms", "site")

    def __init__(self, site: str, max_shelf_ms: int = DEFAULT_MAX_SHELF_MS) -> None:
        self.site = site
        self.max_shelf_ms = max_shelf_ms
        self.handlings: dict[str, Handling] = {}
        self.declared: dict[str, Declared] = {}
        self.chain = b""  # running hash over all actions, so that an edited one shows
        self.count = 0
        self._seen: set[bytes] = set()

    def handling(self, threat: str) -> Handling:
        """How a threat is handled; a fresh one if nobody did anything."""
        return self.handlings.get(threat) or Handling()

    def add(self, act: Act) -> Outcome:
        """Folds the next action of the site's journal and tells whether it held."""
        key = seen_key(act.id)
        before = self.chain
        self.chain = blake2b(before + to_bytes(act), digest_size=32).digest()
        self.count += 1
        if key in self._seen:
            return REPEATED
        self._seen.add(key)
        if act.denied:
            return _refused(act.denied)
        if act.verb == "anchor":
            count = act.args.get("count")
            if type(count) is int and count < self.count - 1:
                return _refused(OVERTAKEN)  # `journal verify` looks back
            held = act.args.get("chain") == before.hex()
            return DONE if held else _refused("the journal is not what it was when this anchor was written")
        return _FOLDS[act.verb](self, act)

    def shelved(self, threat: str, now_ms: int) -> Shelf | None:
        """The shelf a threat lies on at a time, None if on none; shelves end by themselves."""
        shelf = self.handling(threat).shelf
        return shelf if shelf is not None and shelf.at_ms <= now_ms < shelf.until_ms else None

    def restore(
        self, handlings: dict[str, Handling], declared: dict[str, Declared], chain: bytes, count: int, seen: set[bytes]
    ) -> None:
        """Takes over what a view kept (`seen`: `seen_key` of every action's id)."""
        self.handlings, self.declared, self.chain, self.count, self._seen = handlings, declared, chain, count, seen

    # ---- one method a verb ---------------------------------------------------------------------

    def _changed(self, act: Act) -> Handling:
        handling = self.handlings.setdefault(act.threat, Handling())
        handling.version += 1
        handling.touched_ms = act.at_ms
        return handling

    def _stale(self, act: Act, handling: Handling) -> Outcome | None:
        """A refusal if the asker had not seen the last change."""
        if act.seen_version in (-1, handling.version):
            return None
        if handling.owner and handling.owner != act.who:
            return _refused(f"already taken by {handling.owner}")
        if handling.state == "closed":
            return _refused("already closed")
        return _refused("changed in the meantime")

    def _ack(self, act: Act) -> Outcome:
        handling = self.handling(act.threat)
        if handling.state == "closed":
            return _refused("already closed")
        if handling.state != "new":
            by = handling.owner or handling.acked_by
            return REPEATED if by == act.who else _refused(f"already taken by {by}")
        handling = self._changed(act)
        handling.state = "acknowledged"
        handling.acked_by, handling.acked_ms = act.who, act.at_ms
        return DONE

    def _assign(self, act: Act) -> Outcome:
        handling = self.handling(act.threat)
        to = str(act.args.get("to") or act.who)
        if handling.state == "closed":
            return _refused("already closed")
        if handling.owner == to:
            return REPEATED
        refusal = self._stale(act, handling)
        if refusal is not None:
            return refusal
        handling = self._changed(act)
        handling.state, handling.owner = "assigned", to
        if not handling.acked_by:
            handling.acked_by, handling.acked_ms = act.who, act.at_ms
        return DONE

    def _release(self, act: Act) -> Outcome:
        handling = self.handling(act.threat)
        if handling.state not in ("acknowledged", "assigned"):
            return _refused("nobody has it")
        if (handling.owner or handling.acked_by) != act.who and not act.args.get("for_owner"):
            return _refused(f"held by {handling.owner or handling.acked_by}")
        refusal = self._stale(act, handling)
        if refusal is not None:
            return refusal
        handling = self._changed(act)
        handling.state, handling.owner, handling.acked_by, handling.acked_ms = "new", "", "", 0
        handling.returns += 1
        return DONE

    def _step(self, act: Act) -> Outcome:
        step = str(act.args.get("step", ""))
        if not step:
            return _refused("no step named")
        done = any(tick.step == step for tick in self.handling(act.threat).ticks)
        if bool(act.args.get("done", True)) == done:
            return REPEATED
        handling = self._changed(act)
        if done:
            handling.ticks = [tick for tick in handling.ticks if tick.step != step]
        else:
            handling.ticks.append(Tick(step, act.who, act.at_ms))
        return DONE

    def _note(self, act: Act) -> Outcome:
        text = str(act.args.get("text", "")).strip()
        if not text:
            return _refused("an empty note")
        if len(text) > MAX_TEXT:
            return _refused(f"a note has at most {MAX_TEXT} characters")
        handling = self._changed(act)
        handling.notes.append(Note(act.who, act.at_ms, text))
        del handling.notes[:-MAX_NOTES]
        return DONE

    def _shelve(self, act: Act) -> Outcome:
        reason, until_ms = _reason(act), act.args.get("until_ms")
        if not reason:
            return _refused("a shelf needs a reason")
        if type(until_ms) is not int or until_ms <= act.at_ms:
            return _refused("a shelf needs an end in the future")
        if until_ms > act.at_ms + self.max_shelf_ms:
            return _refused(f"a shelf lasts at most {self.max_shelf_ms // HOUR_MS} hours")
        if self.handling(act.threat).state == "closed":
            return _refused("already closed")
        self._changed(act).shelf = Shelf(act.who, act.at_ms, until_ms, reason, str(act.args.get("severity", "")))
        return DONE

    def _unshelve(self, act: Act) -> Outcome:
        if self.shelved(act.threat, act.at_ms) is None:
            return _refused("not on a shelf")
        self._changed(act).shelf = None
        return DONE

    def _declare(self, act: Act) -> Outcome:
        until_ms = act.args.get("to_ms" if act.verb == "window" else "until_ms")
        if not _reason(act):
            return _refused(f"this {act.verb} needs a reason")
        if type(until_ms) is not int or until_ms <= act.at_ms:
            return _refused(f"this {act.verb} needs an end in the future")
        name = str(act.args.get("id") or act.id)
        kind: Literal["window", "exception"] = "window" if act.verb == "window" else "exception"
        self.declared[name] = Declared(name, kind, act.who, act.at_ms, until_ms, act.args)
        return DONE

    def _verdict(self, act: Act) -> Outcome:
        verdict = act.args.get("verdict")
        if verdict not in VERDICTS:
            return _refused(f"a verdict is one of {', '.join(VERDICTS)}")
        if verdict == "duplicate" and not act.args.get("of"):
            return _refused("a duplicate of which threat?")
        self._changed(act).verdict = verdict
        return DONE

    def _close(self, act: Act) -> Outcome:
        handling = self.handling(act.threat)
        if handling.state == "closed":
            return REPEATED
        verdict = act.args.get("verdict") or handling.verdict
        if verdict not in VERDICTS:
            return _refused(f"closing needs a verdict: {', '.join(VERDICTS)}")
        refusal = self._stale(act, handling)
        if refusal is not None:
            return refusal
        done = {tick.step for tick in handling.ticks}
        still_open = [step for step in _texts(act.args.get("mandatory")) if step not in done]
        if still_open and not _reason(act):
            return _refused(f"mandatory steps are open ({', '.join(still_open)}): give a reason")
        handling = self._changed(act)
        handling.state, handling.verdict, handling.closed_ms, handling.shelf = "closed", verdict, act.at_ms, None
        return DONE

    def _reopen(self, act: Act) -> Outcome:
        if self.handling(act.threat).state != "closed":
            return _refused("not closed")
        handling = self._changed(act)
        handling.state, handling.owner, handling.verdict, handling.closed_ms = "new", "", "", 0
        handling.acked_by, handling.acked_ms = "", 0
        handling.returns += 1
        return DONE

    def _warn(self, act: Act) -> Outcome:
        """Approves a public warning. Who may is for the asker's process to check; the notifier does it again."""
        handling = self.handling(act.threat)
        kind, xml = act.args.get("kind"), act.args.get("xml")
        if not _reason(act):
            return _refused("a public warning needs a reason")
        if not isinstance(xml, str) or not 0 < len(xml) <= MAX_WARNING:
            return _refused("no warning to approve")
        if len(handling.warnings) >= MAX_WARNINGS:
            return _refused(f"{MAX_WARNINGS} warnings of one threat are enough")
        if act.seen_version != handling.version or kind not in warning_kinds(handling):
            return self._stale(act, handling) or _refused("changed in the meantime")
        self._changed(act).warnings.append(Warned(act.who, act.at_ms, _reason(act), kind, xml))
        return DONE

    def _handover(self, act: Act) -> Outcome:
        """The incoming person confirms: what the outgoing one holds of the listed threats moves."""
        giver = str(act.args.get("from", ""))
        if not giver or giver == act.who:
            return _refused("a hand-over is from somebody else")
        for threat in _texts(act.args.get("threats")):
            handling = self.handling(threat)
            if handling.state != "closed" and giver in (handling.owner, handling.acked_by):
                handling = self.handlings.setdefault(threat, handling)
                handling.version += 1
                handling.touched_ms = act.at_ms
                handling.state, handling.owner = "assigned", act.who
        return DONE

    def _reveal(self, act: Act) -> Outcome:
        return DONE if _reason(act) else _refused("revealing an identity needs a reason")

    def _kept(self, act: Act) -> Outcome:
        """Kept for the record; changes nothing here."""
        return DONE


def _reason(act: Act) -> str:
    return str(act.args.get("reason") or act.args.get("why") or "").strip()[:MAX_TEXT]


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


_FOLDS: Final[dict[str, Callable[[Fold, Act], Outcome]]] = {
    "ack": Fold._ack,
    "assign": Fold._assign,
    "release": Fold._release,
    "step": Fold._step,
    "note": Fold._note,
    "shelve": Fold._shelve,
    "unshelve": Fold._unshelve,
    "window": Fold._declare,
    "exception": Fold._declare,
    "state": Fold._kept,
    "verdict": Fold._verdict,
    "warn": Fold._warn,
    "close": Fold._close,
    "reopen": Fold._reopen,
    "handover": Fold._handover,
    "notified": Fold._kept,
    "reveal": Fold._reveal,
    "export": Fold._reveal,
    "erase": Fold._reveal,
    "login": Fold._kept,
}
