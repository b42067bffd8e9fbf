"""A person lets a public warning go: the action that says so, with the very text that leaves (CAP 1.2)."""

from __future__ import annotations

from correlator.events.ids import digest
from correlator.events.threat import Threat
from correlator.journal.action import Act
from correlator.journal.fold import Handling, warning_kinds
from correlator.premises import Premises
from correlator.words import cap
from correlator.words.language import LANGUAGES
from correlator.words.message import is_drill


def warning(
    threat: Threat,
    places: Premises,
    handling: Handling,
    sender: str,
    *,
    who: str,
    reason: str,
    at_ms: int,
    addresses: tuple[str, ...] = (),
    cancel: bool = False,
) -> Act:
    """The action by which `who` approves a warning, in all languages.

    addresses: who may read it; none: everybody (scope Public). cancel: takes the last warning back.
    Raises ValueError for a sender or addresses that CAP does not take, and if nothing is out to be cancelled.
    """
    kinds = warning_kinds(handling)
    kind = kinds[-1] if cancel else kinds[0]
    if cancel and kind != "Cancel":
        raise ValueError("no warning is out that could be cancelled")
    before = tuple(one.at_ms for one in handling.warnings)
    approval = cap.Approval(who, at_ms, "Private" if addresses else "Public", addresses, kind, before)
    xml = cap.draft(threat, places, LANGUAGES, sender, approval, drill=is_drill(threat, places)).decode()
    return Act(
        id=digest("warn", threat.id, who, str(at_ms)),
        site=threat.site,
        who=who,
        verb="warn",
        at_ms=at_ms,
        threat=threat.id,
        seen_version=handling.version,
        args={"kind": kind, "reason": reason, "revision": threat.revision, "xml": xml},
    )
