"""Links findings that share evidence: the linker until the site graph links without it.

A finding opens a threat when its rule is a correlation of at least medium level, or when it is
critical, unless all its events fit a declared window. It joins an open threat with which it shares a
member event, or whose rules name its rule for the same group. A finding that neither opens nor joins
is remembered for a while: when a threat later takes in one of its events, it follows. A threat that is
closed no longer grows; what would have joined it opens a new one that names it as `previous`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from correlator.clock import DAY_MS
from correlator.errors import StateRefused
from correlator.events.event import LEVEL_RANK
from correlator.events.ids import digest
from correlator.events.threat import Finding
from correlator.linking.api import Placement

REMEMBER_MS: Final = DAY_MS
MAX_CLOSED: Final = 20_000  # events of closed threats remembered; those of the oldest threats go first, counted
MAX_ALONE: Final = 20_000  # findings remembered that belong to no threat; the oldest go first, counted

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode


class SharedEvidenceLinker:
    """See the module's text. opens_from: lowest level at which a correlation opens a threat."""

    def __init__(self, opens_from: str = "medium") -> None:
        self._opens_from = LEVEL_RANK[opens_from]
        self._threat_of_event: dict[str, str] = {}
        self._events_of_threat: dict[str, list[str]] = {}
        self._threat_of_finding: dict[str, str] = {}
        self._named: dict[str, list[tuple[str, dict[str, Any]]]] = {}  # rule key -> (threat, group)
        self._alone: dict[str, Finding] = {}
        self._alone_of_event: dict[str, list[str]] = {}
        self._closed: dict[str, str] = {}  # event -> the closed threat it belonged to, as people know it
        self.dropped = 0
        self._changed = True  # its first entry is not written yet

    def place(self, finding: Finding) -> Placement:
        """Places a finding, or one that has grown (same id, more events)."""
        self._changed = True
        known = self._threat_of_finding.get(finding.id)
        found: dict[str, str] = {}
        if known is not None:
            found[known] = ""
        for event in finding.events:
            threat = self._threat_of_event.get(event)
            if threat is not None and threat not in found:
                found[threat] = "shares an event"
        if known is None:
            for threat, group in self._named.get(finding.rule, ()):
                if threat not in found and _same_group(group, finding.group):
                    found[threat] = "is named by its rule"
        if not found and finding.events and all(event in self._closed for event in finding.events):
            return Placement(threat=None, opened=False)  # it brings nothing that the closed threat does not have
        previous = self._previous(finding) if not found else None
        if not found and previous is None and not self._opens(finding):
            self._remember(finding)
            return Placement(threat=None, opened=False)
        opened = not found
        if opened:
            into = digest("threat", finding.site, finding.rule, finding.id, *((previous,) if previous else ()))
            reason = "opened it" if previous is None else "goes on from a threat that was closed"
            merged: tuple[tuple[str, str], ...] = ()
        else:
            into = known if known is not None else next(iter(found))
            reason = found[into]
            merged = tuple((threat, into) for threat in found if threat != into)
            for threat, _ in merged:
                self._move(threat, into)
        adopted = self._take(finding, into)
        return Placement(
            threat=into, opened=opened, merged=merged, reason=reason, adopted=adopted, previous=previous
        )  # fmt: skip

    def close(self, threat: str, told: str = "") -> None:
        """Ends a threat; only its events are remembered. told: the id people know it by, if another."""
        self._changed = True
        for event in self._events_of_threat.pop(threat, ()):
            if self._threat_of_event.get(event) == threat:
                del self._threat_of_event[event]
                self._closed.pop(event, None)
                self._closed[event] = told or threat
        while len(self._closed) > MAX_CLOSED:
            del self._closed[next(iter(self._closed))]
            self.dropped += 1
        for finding in [one for one, at in self._threat_of_finding.items() if at == threat]:
            del self._threat_of_finding[finding]
        for rule, places in list(self._named.items()):
            kept = [place for place in places if place[0] != threat]
            if kept:
                self._named[rule] = kept
            else:
                del self._named[rule]

    def verdict(self, threat: str, verdict: str, at_ms: int, into: str = "") -> None:
        """A duplicate moves into the other threat; there are no rates that could learn anything else."""
        if verdict == "duplicate" and into:
            self._changed = True
            self._move(threat, into)

    def reopen(self, threat: str, findings: Sequence[Finding]) -> tuple[str, ...]:
        """Books a closed threat's findings again. See `Linker.reopen`."""
        self._changed = True
        followers: list[str] = []
        for finding in findings:
            for event in finding.events:
                self._closed.pop(event, None)
            followers += self._take(finding, threat)
        return tuple(followers)

    def _previous(self, finding: Finding) -> str | None:
        """The closed threat that has an event of the finding."""
        return next((self._closed[event] for event in finding.events if event in self._closed), None)

    def _opens(self, finding: Finding) -> bool:
        if finding.windows or finding.late:
            return False
        if finding.level == "critical":
            return True
        return bool(finding.names) and LEVEL_RANK[finding.level] >= self._opens_from

    def _take(self, finding: Finding, into: str) -> tuple[str, ...]:
        """Books a finding's events to a threat; returns remembered findings that follow."""
        self._threat_of_finding[finding.id] = into
        self._forget(finding.id)
        for rule in finding.names:
            place = (into, finding.group)
            if place not in self._named.setdefault(rule, []):
                self._named[rule].append(place)
        events = self._events_of_threat.setdefault(into, [])
        adopted: list[str] = []
        for event in finding.events:
            if event not in self._threat_of_event:
                self._threat_of_event[event] = into
                events.append(event)
            for alone in list(self._alone_of_event.get(event, ())):
                follower = self._alone.get(alone)
                if follower is None:  # came along with another one that shares this event
                    continue
                adopted.append(alone)
                adopted.extend(self._take(follower, into))
        return tuple(adopted)

    def rename(self, told: Mapping[str, str]) -> None:
        """Its threats are known by other ids: its own -> as told."""
        self._changed = True
        for threat, into in told.items():
            if threat != into and threat in self._events_of_threat:
                self._move(threat, into)

    def places(self) -> dict[str, str]:
        """Finding -> open threat."""
        return dict(self._threat_of_finding)

    def _move(self, threat: str, into: str) -> None:
        events = self._events_of_threat.pop(threat, [])
        for event in events:
            self._threat_of_event[event] = into
        self._events_of_threat.setdefault(into, []).extend(events)
        for finding, at in self._threat_of_finding.items():
            if at == threat:
                self._threat_of_finding[finding] = into
        for rule, places in self._named.items():
            self._named[rule] = [(into if at == threat else at, group) for at, group in places]

    def _remember(self, finding: Finding) -> None:
        self._forget(finding.id)
        for event in finding.events:
            self._alone_of_event.setdefault(event, []).append(finding.id)
        self._alone[finding.id] = finding
        while self._alone:
            oldest = next(iter(self._alone))
            if len(self._alone) > MAX_ALONE:
                self.dropped += 1
            elif self._alone[oldest].t_ms >= finding.t_ms - REMEMBER_MS:
                break
            self._forget(oldest)

    def _forget(self, finding_id: str) -> None:
        finding = self._alone.pop(finding_id, None)
        if finding is None:
            return
        for event in finding.events:
            others = [one for one in self._alone_of_event.get(event, ()) if one != finding_id]
            if others:
                self._alone_of_event[event] = others
            else:
                self._alone_of_event.pop(event, None)

    # ---- state ---------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes | None]]:
        """One entry, if anything changed."""
        if not self._changed:
            return []
        self._changed = False
        return list(self.snapshot())

    def snapshot(self) -> list[tuple[str, bytes]]:
        """One entry: links are few beside events."""
        state = [
            self._threat_of_event, self._events_of_threat, self._threat_of_finding, self._named,
            list(self._alone.values()), self.dropped, self._closed,
        ]  # fmt: skip
        return [("1/linker", _pack(state))]

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes a snapshot back. Raises StateRefused for another version."""
        for key, value in entries:
            if key != "1/linker":
                raise StateRefused(f"linker state {key!r} is not of this release")
            (self._threat_of_event, self._events_of_threat, self._threat_of_finding, named, alone,
             self.dropped, *later) = _unpack(value)  # fmt: skip
            self._closed = dict(later[0]) if later else {}  # state of before closed threats were remembered has none
            self._named = {rule: [(at, group) for at, group in places] for rule, places in named.items()}
            for one in alone:
                finding = msgspec.convert(one, Finding)
                self._alone[finding.id] = finding
                for event in finding.events:
                    self._alone_of_event.setdefault(event, []).append(finding.id)


def _same_group(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two groups have a name in common and agree on all they have in common."""
    common = one.keys() & other.keys()
    return bool(common) and all(one[name] == other[name] for name in common)
