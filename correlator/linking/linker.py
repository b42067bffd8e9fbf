"""The linker of a site with a graph: shared evidence and links over the graph, in one set of threats.

What shares evidence belongs together for certain, so `SharedEvidenceLinker` goes on deciding that;
`LinkEngine` says what else is better explained as a consequence than as chance. A threat of either may
take in findings of the other; threats that turn out to be one are merged into the older. A threat that
only the graph made is told when its score reaches `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from correlator.errors import StateRefused
from correlator.events.threat import Finding
from correlator.linking import state
from correlator.linking.api import Placement
from correlator.linking.engine import TERMS, Item, Link, LinkEngine, ThreatState
from correlator.linking.ground import SiteGround
from correlator.linking.settings import LinkingSettings
from correlator.linking.shared import SharedEvidenceLinker
from correlator.linking.tables import LinkTables, shipped_tables
from correlator.linking.words import link_words, opened_words
from correlator.premises import Premises

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode


class GraphLinker:
    """A `Linker` over the site graph. shared: who joins by evidence; None: the graph alone decides.

    from_ms: findings before it only teach; None: the first 24 hours do (settings.warm_up_ms).
    baseline: state entries with what was usual before (`state.rates_of`); with them it speaks at once, and
    they count only where no state is restored. Raises StateRefused.
    With it the book places notable single events too, as findings of their own.
    """

    def __init__(
        self,
        premises: Premises,
        settings: LinkingSettings | None = None,
        tables: LinkTables | None = None,
        shared: SharedEvidenceLinker | None = None,
        from_ms: int | None = None,
        baseline: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        settings = settings if settings is not None else LinkingSettings()
        self.tables = tables if tables is not None else shipped_tables()
        self._made = partial(
            LinkEngine, premises.site_id, SiteGround(premises, settings), self.tables, settings, from_ms
        )
        self.engine = self._made()
        self.shared = shared
        self._warm = bool(baseline)
        if baseline:
            state.restore(self.engine, baseline)
            self.engine.from_ms = 0
            self.engine.changed_assets.update(self.engine.rates.assets)
            self.engine.changed_kinds.update(self.engine.rates.kinds)
        self._told: dict[str, str] = {}  # threat of the engine or of shared evidence -> threat as told
        self._finding_at: dict[str, str] = {}  # finding -> threat as told, while it is open
        self._changed = True  # its entry is not written yet
        self.watch: Callable[[LinkEngine, Finding], None] | None = None  # told of each finding before it is placed

    def learning(self, now_ms: int) -> bool:
        """Whether at a time (ms UTC, of events) findings over the graph only teach yet."""
        return self.engine.from_ms is None or now_ms < self.engine.from_ms

    def place(self, finding: Finding) -> Placement:
        """Places a finding, or one that has grown. See `Linker.place`."""
        by_evidence = self.shared.place(finding) if self.shared is not None else Placement(None, opened=False)
        threat, adopted, reason, terms, gain = self._by_graph(finding)
        targets: list[str] = []
        for key in (by_evidence.threat, threat.id if threat is not None else None):
            if key is not None:
                told = self._told.get(key)
                if told is not None and told not in targets:
                    targets.append(told)
        known = self._finding_at.get(finding.id)
        if known is not None and known not in targets:
            targets.insert(0, known)
        for source in [source for source, _ in by_evidence.merged] + (
            list(threat.aliases) if threat is not None else []
        ):
            told = self._told.get(source)
            if told is not None and told not in targets:
                targets.append(told)
        if by_evidence.threat is None and threat is None and known is None:
            return Placement(None, opened=False)
        self._changed = True
        fresh = not targets
        into = targets[0] if targets else (by_evidence.threat or (threat.id if threat is not None else ""))
        for old in targets[1:]:
            self._rename(old, into)
        for key in (by_evidence.threat, threat.id if threat is not None else None):
            if key is not None:
                self._told[key] = into
        followers = [
            one for one in (*by_evidence.adopted, *adopted) if self._finding_at.get(one) != into and one != finding.id
        ]
        for one in (finding.id, *followers):
            self._finding_at[one] = into
        return Placement(
            threat=into,
            opened=fresh,
            gain=gain,
            terms=terms,
            merged=tuple((old, into) for old in targets[1:]),
            adopted=tuple(dict.fromkeys(followers)),
            reason=reason if by_evidence.threat is None and reason else by_evidence.reason,
            previous=by_evidence.previous if fresh else None,
            score=round(self.engine.core_score(threat), 6)
            if threat is not None and by_evidence.threat is None
            else None,
        )

    def _by_graph(
        self, finding: Finding
    ) -> tuple[ThreatState | None, list[str], str, tuple[tuple[str, float], ...], float]:
        """(reported threat or None, members that follow, words, terms, gain) by the graph."""
        if finding.id in self._finding_at or self.engine.knows(finding.id) or not finding.asset:
            return None, [], "", (), 0.0
        if self.watch is not None:
            self.watch(self.engine, finding)
        placed = self.engine.place(item_of(finding))
        self.engine.closed.clear()  # the book keeps what is ended
        threat = placed.threat if placed is not None else None
        if threat is None or not (threat.reported or threat.score >= self.engine.settings.watch):
            return None, [], "", (), 0.0
        threat.reported = True
        core = self.engine.core(threat)
        link = threat.members.get(finding.id)
        if link is not None and finding.id not in core:  # it may follow later, when it has led to something
            return None, [], "", (), 0.0
        words = link_words(self.engine, threat, link) if link is not None and link.source else opened_words()
        return threat, list(core), words, told_terms(link), link.gain if link is not None else 0.0

    def threat_of(self, finding: str) -> str | None:
        """The open threat, as told, that a finding is in."""
        return self._finding_at.get(finding)

    def close(self, threat: str) -> None:
        """The threat no longer grows."""
        self._changed = True
        for key in [key for key, told in self._told.items() if told == threat]:
            del self._told[key]
            if self.shared is not None:
                self.shared.close(key, told=threat)
            state_ = self.engine.threats.get(key)
            if state_ is not None:
                self.engine.end(state_)
        for finding in [one for one, told in self._finding_at.items() if told == threat]:
            del self._finding_at[finding]
        self.engine.closed.clear()

    def verdict(self, threat: str, verdict: str, at_ms: int, into: str = "") -> None:
        """Takes a person's verdict: benign, false, confirmed or duplicate (of `into`).

        Benign: what came together is a habit from now on. False: the members' kinds weigh 2 nats less for
        30 days. Confirmed: the members leave the rates, or the same intruder is a habit by the third visit.
        """
        for key in [key for key, told in self._told.items() if told == threat]:
            state_ = self.engine.threats.get(key)
            if state_ is not None:
                self.engine.judge(state_, verdict, at_ms)
        if verdict == "duplicate" and into:
            self._rename(threat, into)

    def reopen(self, threat: str, findings: Sequence[Finding]) -> tuple[str, ...]:
        """A closed threat grows again by shared evidence; over the graph what comes joins it by that alone."""
        self._changed = True
        followers = self.shared.reopen(threat, findings) if self.shared is not None else ()
        self._told[threat] = threat
        self._finding_at.update((one, threat) for one in (*(finding.id for finding in findings), *followers))
        return followers

    def _rename(self, old: str, into: str) -> None:
        """What was told as one threat is told as another from now on."""
        self._changed = True
        for table in (self._told, self._finding_at):
            for key in [key for key, value in table.items() if value == old]:
                table[key] = into

    def counters(self) -> dict[str, int]:
        """What bounds took away so far: weak threats for want of room, members that are only counted."""
        counted = {**self.engine.counters, **self.engine.rates.counters}
        names = ("evicted", "members_counted", "kinds_shared", "rates_dropped")
        return {f"linking_{name}": counted[name] for name in names}

    def names(self) -> dict[str, str]:
        """Threat of shared evidence or of the graph -> the id people know it by."""
        return dict(self._told)

    # ---- state ---------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes | None]]:
        """State entries changed since the last call."""
        entries = state.changes(self.engine)
        if self.shared is not None:
            entries += self.shared.changes()
        if self._changed:
            self._changed = False
            entries.append(("1/linker/told", self._pack_told()))
        return sorted(entries, key=lambda entry: entry[0])

    def _pack_told(self) -> bytes:
        return _pack([sorted(self._told.items()), sorted(self._finding_at.items())])

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All state entries, sorted by key."""
        entries = [*state.snapshot(self.engine), ("1/linker/told", self._pack_told())]
        if self.shared is not None:
            entries += self.shared.snapshot()
        return sorted(entries)

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes entries, in order of their keys. Raises StateRefused for another version."""
        if self._warm and any(key == f"{state.PREFIX}site" for key, _ in entries):
            self.engine = self._made()
            self._warm = False
        for key, value in sorted(entries):
            if key == "1/linker":
                if self.shared is None:
                    raise StateRefused("this state links by evidence too; start with linking by evidence")
                self.shared.restore([(key, value)])
                self._finding_at = self.shared.places()
                self._told = {threat: threat for threat in self._finding_at.values()}
            elif key == "1/linker/told":
                told, at = _unpack(value)
                self._told, self._finding_at = dict(told), dict(at)
                self._changed = False
            else:
                state.restore(self.engine, [(key, value)])


def item_of(finding: Finding) -> Item:
    """A finding as the engine takes it: its place, and whom it names as further anchors."""
    return Item(finding.id, finding.kind, finding.asset, finding.t_ms, finding.domain, finding.level, finding.tactics,
                finding.threat_type, finding.anchors, bool(finding.windows))  # fmt: skip


def told_terms(link: Link | None) -> tuple[tuple[str, float], ...]:
    """The terms of a link that are not zero, rounded as they leave; their sum is the gain."""
    if link is None:
        return ()
    return tuple((name, round(value, 6)) for name, value in zip(TERMS, link.terms, strict=True) if value)
