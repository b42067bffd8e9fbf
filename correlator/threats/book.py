"""Keeps the books of threats: findings into members, evidence, phases and revisions.

A `Sink` of the engine: it hears of every event that hit a rule or is notable, and of every match, in
the order they are decided, and asks a linker where each finding belongs. A revision is told on first
report; when phase, severity, domains or places change; on merge and close; mere growth at most once
per 10 s of event time. Times are ms UTC of event time; nothing here reads a clock.
"""

from __future__ import annotations

from heapq import heappop, heappush
from operator import itemgetter
from typing import Any, Final

import msgspec

from correlator.clock import DAY_MS, SECOND_MS
from correlator.errors import StateRefused
from correlator.events.event import LEVEL_RANK, Event
from correlator.events.kinds import KINDS
from correlator.events.threat import Advice, EnrichedEvent, Evidence, Finding, Match, Step, Threat
from correlator.impact.live import LiveImpact, Outlook
from correlator.linking.api import Linker, Placement
from correlator.linking.engine import PEOPLE
from correlator.linking.linker import GraphLinker
from correlator.linking.tables import shipped_tables
from correlator.premises import Premises
from correlator.rules.syntax import CorrelationRule, DetectionRule, RuleSet
from correlator.threats.decisions import VERDICTS, Decision, exception_of, fault_of, window_of
from correlator.threats.exceptions import Exceptions
from correlator.threats.tracked import Tracked
from correlator.threats.words import condition_words, expected_absent, masked, said

ALERT: Final = 8.0  # a threat that links made is alerted from this score, and on the watch list below
GROWTH_MS: Final = 10 * SECOND_MS
IDLE_MS: Final = DAY_MS
EVIDENCE_MS: Final = 2 * DAY_MS  # how long an event is kept for a threat that may still take it in
# Kinds that move live state on which impact depends: doors, and the health of cameras, sensors and readers.
STATE_KINDS: Final = frozenset(
    name for name in KINDS
    if name.partition(".")[0] in ("door", "contact", "camera", "sensor", "reader", "recorder", "protection", "badge")
)  # fmt: skip
MAX_ENDED: Final = 200  # ended threats kept for people to reopen, for EVIDENCE_MS; the oldest go first
MAX_KEPT: Final = 20_000  # events, and matches, kept that no threat holds; the oldest go first, counted
MAX_DECLARED: Final = 1_000  # windows and exceptions that people declared; further ones are refused
MAX_MEMBERS: Final = 1_000  # member events a threat message lists: about 300 KB, under the 512 KB bound

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder().decode
_read_enriched: Final = msgspec.msgpack.Decoder(EnrichedEvent).decode
_read_decision: Final = msgspec.msgpack.Decoder(Decision).decode


class OpenThreat(msgspec.Struct, gc=False):
    """A threat as it is kept: its findings, and what was told last."""

    id: str
    phase: str
    findings: list[str]
    joined: dict[str, str]
    opened_ms: int
    last_ms: int
    revision: int = 0
    told_key: tuple[Any, ...] = ()
    told_ms: int = 0
    dirty: bool = False
    decided_ms: int = 0
    severity: str = ""
    told_services: str = ""
    score: float | None = None
    terms: dict[str, dict[str, float]] = {}
    previous: str = ""
    verdict: str = ""  # the last that linking learned from


class Ended(msgspec.Struct, gc=False):
    """A threat that is quiet or closed, with what it takes to reopen it."""

    threat: OpenThreat
    ended_ms: int
    findings: list[Finding]
    matches: list[Match]


_read_ended: Final = msgspec.msgpack.Decoder(Ended).decode


class ThreatBook:
    """Threats of one site. places: the site model, or None; impact: what threats may lead to, or None."""

    def __init__(
        self, site: str, rules: RuleSet, linker: Linker, places: Any = None, impact: LiveImpact | None = None
    ) -> None:
        self.site = site
        self.linker = linker
        self._rules: dict[str, CorrelationRule | DetectionRule] = {**rules.detections, **rules.correlations}
        # Notable events that no detection of its own speaks of are findings too, where the linker wants them.
        self._takes_events = isinstance(linker, GraphLinker)
        self._types = linker.tables if isinstance(linker, GraphLinker) else shipped_tables()
        self._speaking = frozenset(rules.detections) - rules.used if self._takes_events else frozenset()
        self._exceptions = Exceptions(rules.exceptions, places)
        self._places = places
        self._impact = impact
        self._evidence: Tracked[EnrichedEvent] = Tracked()
        self._evidence_sweep_ms = -1
        self._matches: Tracked[Match] = Tracked()
        self._findings: Tracked[Finding] = Tracked()
        self._told_entries: dict[str, bytes] = {}  # entries of open threats and the book, as `changes` last told them
        self._open: dict[str, OpenThreat] = {}
        self._ended: Tracked[Ended] = Tracked()
        self._waiting: Tracked[Decision] = Tracked()  # decisions whose turn has not come, by id
        self._declared: Tracked[Decision] = Tracked()  # windows and exceptions of people, by name
        self._deadlines: list[tuple[int, str, str]] = []
        self._now_ms = 0
        self.evidence_missing = 0
        self.decisions_missed = 0  # those that found no threat to act on
        self.evidence_dropped = 0
        self._thin_at = [MAX_KEPT * 5 // 4] * 2  # events and findings at which it is looked for what can go
        self.out: list[Threat] = []

    # ---- what the engine tells -----------------------------------------------------------------

    def seen(self, event: Event, enriched: EnrichedEvent | None) -> None:
        """Keeps an event as evidence, so that a slow attack keeps its first steps."""
        if enriched is not None:
            self._evidence[event.id] = enriched
            self._now_ms = max(self._now_ms, event.time_ms)
            if self._evidence_sweep_ms < 0:
                self._evidence_sweep_ms = event.time_ms + EVIDENCE_MS
            elif event.time_ms > self._evidence_sweep_ms:
                self._forget_evidence(event.time_ms)
            if len(self._evidence) > self._thin_at[0]:
                self._thin_out()
            if self._takes_events and not self._speaking.intersection(enriched.rules):
                self._notable(event, enriched)
            if self._impact is not None and event.kind in STATE_KINDS and self._open:
                self._look_again(self._impact, enriched)

    def _notable(self, event: Event, enriched: EnrichedEvent) -> None:
        """A notable event as a finding of its own."""
        kind = KINDS.get(event.kind)
        if kind is None or not kind.notable or not enriched.place:
            return
        finding = Finding(
            id=event.id,
            site=self.site,
            kind=event.kind,
            title=kind.says[:1].upper() + kind.says[1:],
            asset=enriched.place,
            t_ms=event.time_ms,
            domain=kind.domain,
            level=event.level or kind.level,
            threat_type=self._types.kind_type(event.kind),
            events=(event.id,),
            windows=enriched.windows if enriched.in_window else (),
            late=event.late_ms > 0,
            anchors=self._named(enriched),
        )
        if self._exceptions and self._exceptions.fits(finding, [enriched], event) is not None:
            return
        self._findings[finding.id] = finding
        self._placed(finding, self.linker.place(finding))

    def _look_again(self, impact: LiveImpact, enriched: EnrichedEvent) -> None:
        """What a door or device tells may change what a threat leads to: looked at once it stands in live state."""
        self._impact_moved(impact, [asset for _, asset in enriched.assets])

    def _impact_moved(self, impact: LiveImpact, assets: list[str]) -> None:
        due_ms = self._now_ms
        for threat_id, threat in self._open.items():
            if not impact.knows(threat_id):  # restored: what it watches is worked out anew
                self._outlook(threat)
            if impact.watches(threat_id, assets) and (due_ms, "impact", threat_id) not in self._deadlines:
                heappush(self._deadlines, (due_ms, "impact", threat_id))

    def told(self, match: Match) -> None:
        """A match opened, grew into its final form, or was decided at once."""
        if match.early:
            return
        now_ms = match.opened_ms if match.state == "open" or match.revision == 1 else match.last_ms
        self._now_ms = max(self._now_ms, now_ms)
        finding = self._finding(match)
        if self._exceptions and self._is_excepted(match, finding):
            return
        self._matches[match.id] = match
        self._findings[finding.id] = finding
        self._placed(finding, self.linker.place(finding))
        if len(self._findings) > self._thin_at[1]:
            self._thin_out()

    def next_deadline_ms(self) -> int:
        """When a revision of mere growth or a close falls due, -1 if nothing does."""
        return self._deadlines[0][0] if self._deadlines else -1

    def advance(self, before_ms: int) -> None:
        """Tells growth and closes idle threats that fall due before a time."""
        while self._deadlines and self._deadlines[0][0] < before_ms:
            due_ms, what, threat_id = heappop(self._deadlines)
            if what == "act":
                self._now_ms = max(self._now_ms, due_ms)
                self._act(self._waiting.pop(threat_id))
                continue
            threat = self._open.get(threat_id)
            if threat is None:
                continue
            self._now_ms = max(self._now_ms, due_ms)
            if what == "grow":
                if threat.dirty:
                    self._tell(threat)
            elif what == "impact":
                self._revise(threat)
            elif threat.last_ms + IDLE_MS <= due_ms:
                self._close(threat)
            else:
                heappush(self._deadlines, (threat.last_ms + IDLE_MS, "idle", threat_id))

    def drain(self) -> list[Threat]:
        """Revisions told since the last call, in order."""
        out, self.out = self.out, []
        return out

    def open_threats(self, matches: list[Match]) -> list[Threat]:
        """Every open threat as it stands, with the open matches as they stand; a revision where it has grown."""
        for match in matches:
            if match.id in self._matches and self._matches[match.id].state == "open":
                self.told(match)
        for threat in self._open.values():
            if threat.dirty:
                self._tell(threat)
        return self.drain()

    def as_written(self, matches: list[Match]) -> list[Match]:
        """Matches as they leave: those that fit an exception of the site have the state `excepted`."""
        if not self._exceptions:
            return matches
        return [
            msgspec.structs.replace(one, state="excepted")
            if not one.early and self._is_excepted(one, self._finding(one))
            else one
            for one in matches
        ]

    def _is_excepted(self, match: Match, finding: Finding) -> bool:
        members = [self._evidence[one] for one in match.events if one in self._evidence]
        deciding = self._evidence.get(match.decided_by)
        return self._exceptions.fits(finding, members, deciding.event if deciding is not None else None) is not None

    # ---- decisions of people -------------------------------------------------------------------

    def decide(self, decision: Decision) -> str:
        """Takes a decision, which acts in its turn; or tells why it cannot be taken."""
        fault = fault_of(decision, self._rules, self._places)
        if not fault and decision.kind in ("window", "exception") and len(self._declared) >= MAX_DECLARED:
            fault = f"{MAX_DECLARED} windows and exceptions are declared already"
        if not fault:
            self._waiting[decision.id] = decision
            heappush(self._deadlines, (decision.due_ms, "act", decision.id))
        return fault

    def _act(self, one: Decision) -> None:
        if one.kind in ("window", "exception"):
            self._declare(one)
        elif one.kind == "state":
            self._set_state(one)
        elif one.kind == "reopen":
            self._reopen(one.text("threat"))
        else:
            threat = self._open.get(one.text("threat"))
            if threat is None:
                self.decisions_missed += 1
                return
            verdict = one.text("verdict")
            if verdict:
                self._judge(threat, VERDICTS[verdict], one.text("of"))
            if one.kind == "close" and threat.id in self._open:
                self._close(threat)

    def _judge(self, threat: OpenThreat, verdict: str, of: str) -> None:
        """Linking learns from a verdict, once; a duplicate becomes part of the other threat."""
        other = self._open.get(of) if verdict == "duplicate" and of != threat.id else None
        if threat.verdict == verdict or (verdict == "duplicate" and other is None):
            return
        threat.verdict = verdict
        self.linker.verdict(threat.id, verdict, self._now_ms, of if other is not None else "")
        if other is not None:
            self._merge(threat.id, other)
            other.last_ms = max(other.last_ms, threat.last_ms)
            other.decided_ms = self._now_ms
            other.dirty = True
            self._revise(other)

    def _reopen(self, threat_id: str) -> None:
        ended = self._ended.pop(threat_id, None)
        if ended is None:
            self.decisions_missed += 1
            return
        threat = ended.threat
        threat.phase = "threat" if threat.score is None or threat.score >= ALERT else "watch"
        threat.verdict = ""
        threat.last_ms = threat.decided_ms = self._now_ms
        for finding in ended.findings:
            self._findings[finding.id] = finding
        for match in ended.matches:
            self._matches[match.id] = match
        self._open[threat.id] = threat
        heappush(self._deadlines, (threat.last_ms + IDLE_MS, "idle", threat.id))
        for one in self.linker.reopen(threat.id, ended.findings):
            if one in self._findings and one not in threat.joined:
                threat.findings.append(one)
                threat.joined[one] = "shares an event"
        self._tell(threat)

    def _declare(self, one: Decision) -> None:
        name = one.name()
        before = self._declared.get(name)
        if before is not None and one.kind == "exception":
            # What was excepted until now stays so: a match is written after its record is folded.
            body = {**before.body, "until_ms": min(before.until_ms(), one.due_ms + 1)}
            self._declared[f"{name}#{one.due_ms}"] = msgspec.structs.replace(before, body=body)
        self._declared[name] = one
        self._use_declared()

    def _use_declared(self) -> None:
        declared = [one for _, one in sorted(self._declared.items())]
        self._exceptions.declare(exception_of(one, self._rules) for one in declared if one.kind == "exception")
        if isinstance(self._places, Premises):
            self._places.declare(window_of(one) for one in declared if one.kind == "window")

    def _set_state(self, one: Decision) -> None:
        asset = one.text("asset")
        self._places.live.put(asset, one.text("attribute"), one.body["value"], one.due_ms)
        if self._impact is not None:
            self._impact_moved(self._impact, [asset])

    # ---- findings ------------------------------------------------------------------------------

    def _finding(self, match: Match) -> Finding:
        rule = self._rules[match.rule]
        members = [self._evidence[one] for one in match.events if one in self._evidence]
        deciding = self._evidence.get(match.decided_by) or (members[-1] if members else None)
        names = rule.rules if isinstance(rule, CorrelationRule) else ()
        windows: tuple[str, ...] = ()
        if members and all(one.in_window for one in members):
            windows = tuple(sorted({window for one in members for window in one.windows}))
        domain = KINDS[deciding.event.kind].domain if deciding is not None and deciding.event.kind in KINDS else "cyber"
        return Finding(
            id=match.id,
            site=self.site,
            kind=match.rule,
            title=match.title,
            asset=self._asset(rule, match, members, deciding),
            t_ms=match.opened_ms,
            domain=domain,
            level=match.level,
            threat_type=match.threat_type,
            tactics=tuple(tag[7:] for tag in match.tags if tag.startswith("attack.") and not tag[7:8].isdigit()
                          and not tag.startswith("attack.t")),
            techniques=techniques(match.tags),
            match=match.id,
            rule=match.rule,
            names=names,
            group=match.group,
            events=match.events,
            windows=windows,
            late=match.late,
            anchors=self._named(deciding) if deciding is not None else (),
        )  # fmt: skip

    def _named(self, one: EnrichedEvent) -> tuple[str, ...]:
        """Whom an event names: assets of the site that are a badge, person or account, each once."""
        known = self._places.assets if self._places is not None else {}
        return tuple(dict.fromkeys(
            asset for _, asset in one.assets if asset in known and known[asset].asset_class in PEOPLE
        ))  # fmt: skip

    def _asset(self, rule: Any, match: Match, members: list[EnrichedEvent], deciding: EnrichedEvent | None) -> str:
        """What the rule's `asset:` names, else the group's entity, else the place of the deciding event."""
        step, _, field = match.asset.rpartition(".")
        wanted = field or match.asset
        if wanted:
            for one in reversed(members):
                if step and not self._is_step(one, step):
                    continue
                for role, asset in one.assets:
                    entity = next((e for e in one.event.entities if e.role == role and e.kind == wanted), None)
                    if entity is not None:
                        return asset if self._places is None else self._places.resolve(
                            wanted, entity.id, one.event.time_ms
                        )  # fmt: skip
                if wanted == "asset" and one.place:
                    return one.place
        for name, value in match.group.items():
            kind = name.rpartition(".")[2]
            if self._places is not None and kind in ("door", "host", "device", "zone", "camera", "sensor", "reader"):
                return str(self._places.resolve(kind, str(value), match.opened_ms))
        return deciding.place if deciding is not None else ""

    def _is_step(self, one: EnrichedEvent, step: str) -> bool:
        name = step.partition("#")[0]
        return any(key == name or (key in self._rules and self._rules[key].head.name == name) for key in one.rules)

    # ---- books ---------------------------------------------------------------------------------

    def _placed(self, finding: Finding, placement: Placement) -> None:
        if placement.threat is None:
            return
        threat = self._open.get(placement.threat)
        if threat is None:
            threat = OpenThreat(
                id=placement.threat, phase="threat", findings=[], joined={}, opened_ms=finding.t_ms,
                last_ms=finding.t_ms, previous=placement.previous or "",
            )  # fmt: skip
            self._open[threat.id] = threat
            heappush(self._deadlines, (finding.t_ms + IDLE_MS, "idle", threat.id))
        for source, _ in placement.merged:
            self._merge(source, threat)
        for one in (finding.id, *placement.adopted):
            if one not in threat.joined and one in self._findings:
                threat.findings.append(one)
                threat.joined[one] = placement.reason if one == finding.id else self._followed(one, placement)
        if placement.score is not None:
            threat.score = placement.score
            alerted = placement.score >= ALERT or (threat.phase == "threat" and threat.revision > 0)
            threat.phase = "threat" if alerted else "watch"
        else:
            threat.phase = "threat"
        if placement.terms:
            threat.terms[finding.id] = dict(placement.terms)
        threat.last_ms = max(threat.last_ms, self._now_ms)
        threat.decided_ms = self._now_ms
        threat.dirty = True
        self._revise(threat)

    def _followed(self, finding: str, placement: Placement) -> str:
        """Why an earlier finding came along."""
        return "shares an event" if placement.score is None else "came before what confirmed the threat"

    def _revise(self, threat: OpenThreat) -> None:
        """Tells a change that matters at once; growth waits for its timer."""
        if self._key(threat) != threat.told_key or self._services_text(threat) != threat.told_services:
            self._tell(threat)
            return
        if not threat.dirty:
            return
        due_ms = threat.told_ms + GROWTH_MS
        if due_ms <= self._now_ms:
            self._tell(threat)
        elif (due_ms, "grow", threat.id) not in self._deadlines:
            heappush(self._deadlines, (due_ms, "grow", threat.id))

    def _outlook(self, threat: OpenThreat) -> Outlook | None:
        if self._impact is None:
            return None
        findings = [self._findings[one] for one in threat.findings]
        return self._impact.revise(threat.id, findings, self._now_ms)

    def _services_text(self, threat: OpenThreat) -> str:
        """The care services likely to be hit, for comparing with what was told."""
        outlook = self._outlook(threat)
        return outlook.key if outlook is not None else ""

    def _merge(self, source: str, into: OpenThreat) -> None:
        other = self._open.pop(source, None)
        if other is None:
            return
        for finding in other.findings:
            if finding not in into.joined:
                into.findings.append(finding)
                into.joined[finding] = other.joined[finding]
        into.opened_ms = min(into.opened_ms, other.opened_ms)
        into.previous = into.previous or other.previous
        other.phase = "merged"
        self._tell(other, merged_into=into.id)
        if self._impact is not None:
            self._impact.forget(source)

    def _close(self, threat: OpenThreat) -> None:
        threat.phase = "quiet"
        self._tell(threat)
        del self._open[threat.id]
        self.linker.close(threat.id)
        if self._impact is not None:
            self._impact.forget(threat.id)
        findings = [found for one in threat.findings if (found := self._findings.get(one)) is not None]
        matches = [self._matches[one] for one in threat.findings if one in self._matches]
        # What links over the graph may stand in two threats.
        held = {one for other in self._open.values() for one in other.findings}
        for one in threat.findings:
            if one not in held:
                self._findings.pop(one, None)
                self._matches.pop(one, None)
        self._ended[threat.id] = Ended(threat, self._now_ms, findings, matches)
        if len(self._ended) > MAX_ENDED:
            del self._ended[min(self._ended, key=lambda one: (self._ended[one].ended_ms, one))]

    def _key(self, threat: OpenThreat) -> tuple[Any, ...]:
        findings = [self._findings[one] for one in threat.findings]
        return (
            threat.phase,
            max(LEVEL_RANK[one.level] for one in findings),
            tuple(sorted(self._domains(findings))),
            tuple(sorted({one.asset for one in findings if one.asset})),
        )

    def _domains(self, findings: list[Finding]) -> set[str]:
        found = {one.domain for one in findings}
        for finding in findings:
            for event in finding.events:
                evidence = self._evidence.get(event)
                kind = KINDS.get(evidence.event.kind) if evidence is not None else None
                if kind is not None:
                    found.add(kind.domain)
        return found

    def _tell(self, threat: OpenThreat, merged_into: str = "") -> None:
        threat.revision += 1
        threat.told_key = self._key(threat)
        threat.told_services = self._services_text(threat)
        threat.told_ms = self._now_ms
        threat.dirty = False
        self.out.append(self._message(threat, merged_into))

    def _message(self, threat: OpenThreat, merged_into: str) -> Threat:
        findings = sorted((self._findings[one] for one in threat.findings), key=lambda one: (one.t_ms, one.id))
        events: dict[str, EnrichedEvent] = {}
        for finding in findings:
            for event_id in finding.events:
                evidence = self._evidence.get(event_id)
                if evidence is None:
                    self.evidence_missing += 1
                else:
                    events[event_id] = evidence
        ordered = sorted(
            events.values(), key=lambda one: (one.event.time_ms, one.event.sub_ns, one.event.source, one.event.seq,
                                              one.event.id)
        )  # fmt: skip
        worst = max(findings, key=lambda one: (LEVEL_RANK[one.level], -one.t_ms, one.id))
        places = [one.place_name for one in ordered if one.place_name]
        named = list(dict.fromkeys([self._describe(one.asset) for one in findings if one.asset] + places))
        first_ms = min([one.event.time_ms for one in ordered] + [one.t_ms for one in findings])
        last_ms = max([one.event.time_ms for one in ordered] + [one.t_ms for one in findings])
        outlook = self._outlook(threat)
        levels = [worst.level, threat.severity, outlook.severity if outlook is not None else ""]
        threat.severity = max((level for level in levels if level), key=LEVEL_RANK.__getitem__)
        impact = self._impact.tell(threat.id) if self._impact is not None else None
        advice: tuple[Advice, ...] = ()
        advised = 0.0
        if impact is not None and self._impact is not None and threat.phase not in ("merged", "quiet"):
            advice, advised = self._impact.advise(threat.id)
        return Threat(
            id=threat.id,
            site=self.site,
            title=self._title(worst, findings),
            phase=threat.phase,  # type: ignore[arg-type]
            revision=threat.revision,
            severity=threat.severity,
            first_ms=first_ms,
            last_ms=last_ms,
            opened_ms=threat.opened_ms,
            decided_ms=threat.decided_ms,
            domains=tuple(sorted(self._domains(findings))),
            assets=tuple(dict.fromkeys(one.asset for one in findings if one.asset)),
            places=tuple(named),
            techniques=tuple(sorted({one for finding in findings for one in finding.techniques})),
            threat_types=tuple(sorted({one.threat_type for one in findings if one.threat_type})),
            steps=tuple(self._step(threat, finding, findings) for finding in findings),
            members=tuple(self._proof(one) for one in ordered[:MAX_MEMBERS]),
            windows=tuple(sorted({window for finding in findings for window in finding.windows})),
            score=threat.score,
            confidence="" if threat.score is None else confidence(threat.score),
            previous=threat.previous,
            merged_into=merged_into,
            truncated=max(0, len(ordered) - MAX_MEMBERS),
            impact=impact.impacts if impact is not None else (),
            impact_truncated=impact.more if impact is not None else 0,
            expected_loss=impact.loss if impact is not None else 0.0,
            expected_loss_advised=advised,
            advice=advice,
        )

    def _title(self, worst: Finding, findings: list[Finding]) -> str:
        others = len(findings) - 1
        place = self._describe(worst.asset)
        at = f" - {place}" if place else ""
        more = f", with {others} more finding{'s' if others > 1 else ''}" if others else ""
        return f"{worst.title}{at}{more}"

    def _describe(self, asset: str) -> str:
        if not asset or self._places is None:
            return asset
        return str(self._places.describe(asset))

    def _step(self, threat: OpenThreat, finding: Finding, findings: list[Finding]) -> Step:
        terms = threat.terms.get(finding.id, {})
        gain = round(sum(terms.values(), 0.0), 6)
        if not finding.match:
            evidence = self._evidence.get(finding.events[0])
            return Step(
                finding=finding.id,
                rule=finding.kind,
                title=finding.title,
                says=said(evidence.event, evidence.person) if evidence is not None else finding.title,
                level=finding.level,
                t_ms=finding.t_ms,
                joined=threat.joined[finding.id],
                gain=gain,
                terms=terms,
                threat_type=finding.threat_type,
                state="final",
                asset=finding.asset,
                place_name=self._describe(finding.asset),
                events=finding.events,
            )
        match = self._matches[finding.match]
        rule = self._rules[finding.rule]
        reason = threat.joined[finding.id]
        if reason == "shares an event":
            mine = set(finding.events)
            other = next((one for one in findings if one.id != finding.id and mine & set(one.events)), None)
            shared = len(mine & set(other.events)) if other is not None else 0
            if other is not None:
                reason = f'shares {shared} event{"s" if shared > 1 else ""} with "{other.title}"'
        elif reason == "is named by its rule":
            other = next((one for one in findings if finding.rule in one.names), None)
            reason = f'is a part of "{other.title}" for the same group' if other is not None else reason
        head = rule.head
        return Step(
            finding=finding.id,
            rule=finding.rule,
            title=finding.title,
            says=head.said,
            level=finding.level,
            t_ms=finding.t_ms,
            threat_type=finding.threat_type,
            joined=reason,
            gain=gain,
            terms=terms,
            expected_absent=expected_absent(rule, self._rules),
            group=masked(match.group),
            value=match.value,
            condition=condition_words(rule, self._rules),
            state=match.state,
            asset=finding.asset,
            place_name=self._describe(finding.asset),
            events=finding.events,
            inner=match.inner,
            truncated=match.truncated,
        )

    def _proof(self, one: EnrichedEvent) -> Evidence:
        event = one.event
        kind = KINDS.get(event.kind)
        return Evidence(
            id=event.id,
            time_ms=event.time_ms,
            kind=event.kind,
            source=event.source,
            said=said(event, one.person),
            place=one.place,
            place_name=one.place_name,
            domain=kind.domain if kind is not None else "",
            origin=event.origin,
            raw=event.raw,
            late_ms=event.late_ms,
            time_quality=event.time_quality,
        )

    def _thin_out(self) -> None:
        """Drops the oldest events and findings that no threat holds, beyond MAX_KEPT of each."""
        of_threats = {one for threat in self._open.values() for one in threat.findings}
        held = {event for one in of_threats for event in self._findings[one].events}
        held.update(event for ended in self._ended.values() for one in ended.findings for event in one.events)
        free = sorted((kept.event.time_ms, one) for one, kept in self._evidence.items() if one not in held)
        for _, one in free[: max(0, len(free) - MAX_KEPT)]:
            del self._evidence[one]
            self.evidence_dropped += 1
        alone = sorted(
            (finding.t_ms, one) for one, finding in self._findings.items()
            if one not in of_threats and (one not in self._matches or self._matches[one].state != "open")
        )  # fmt: skip
        for _, one in alone[: max(0, len(alone) - MAX_KEPT)]:
            del self._findings[one]
            self._matches.pop(one, None)
            self.evidence_dropped += 1
        # What threats hold stays, and is not looked through again at every event.
        self._thin_at = [
            max(MAX_KEPT * 5 // 4, len(table) + MAX_KEPT // 4) for table in (self._evidence, self._findings)
        ]

    def _forget_evidence(self, now_ms: int) -> None:
        """Drops old events that no threat holds, open or to be reopened, and what people declared until then."""
        oldest = now_ms - EVIDENCE_MS
        for threat_id in [one for one, ended in self._ended.items() if ended.ended_ms < oldest]:
            del self._ended[threat_id]
        over = [name for name, one in self._declared.items() if one.until_ms() < oldest]
        for name in over:
            del self._declared[name]
        if over:
            self._use_declared()
        held = {
            event for threat in self._open.values() for one in threat.findings for event in self._findings[one].events
        }
        held.update(event for ended in self._ended.values() for one in ended.findings for event in one.events)
        for event_id in [
            one for one, kept in self._evidence.items() if kept.event.time_ms < oldest and one not in held
        ]:
            del self._evidence[event_id]
        in_threats = {one for threat in self._open.values() for one in threat.findings}
        for match_id in [
            one for one, match in self._matches.items()
            if one not in in_threats and match.state != "open" and match.last_ms < oldest
        ]:  # fmt: skip
            del self._matches[match_id]
            self._findings.pop(match_id, None)
        if self._takes_events:
            for name in [
                one for one, finding in self._findings.items()
                if not finding.match and one not in in_threats and finding.t_ms < oldest
            ]:  # fmt: skip
                del self._findings[name]
        self._evidence_sweep_ms = now_ms + EVIDENCE_MS // 2

    def counters(self) -> dict[str, int]:
        """What could not be shown or done."""
        return {
            "evidence_missing": self.evidence_missing,
            "evidence_dropped": self.evidence_dropped,
            "decisions_missed": self.decisions_missed,
        }

    # ---- state ---------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Entries changed (None: deleted) since the last call or restore, sorted by key."""
        found: list[tuple[str, bytes | None]] = []
        for name, table in self._tables():
            found += [(f"1/{name}/{key}", None if value is None else _pack(value)) for key, value in table.take()]
        # Open threats are few and change in place.
        now = self._open_entries()
        told = self._told_entries
        found += [(key, value) for key, value in now.items() if told.get(key) != value]
        found += [(key, None) for key in told if key not in now]
        self._told_entries = now
        return sorted([*found, *self.linker.changes()], key=itemgetter(0))

    def _book_entry(self) -> bytes:
        numbers = (self.evidence_missing, self.decisions_missed, self.evidence_dropped, *self._thin_at)
        return _pack([self._now_ms, self._evidence_sweep_ms, sorted(self._deadlines), *numbers])

    def _open_entries(self) -> dict[str, bytes]:
        entries = {f"1/threat/{one}": _pack(threat) for one, threat in self._open.items()}
        entries["1/book"] = self._book_entry()
        return entries

    def _tables(self) -> tuple[tuple[str, Tracked[Any]], ...]:
        return (
            ("evidence", self._evidence), ("finding", self._findings), ("match", self._matches),
            ("ended", self._ended), ("waiting", self._waiting), ("declared", self._declared),
        )  # fmt: skip

    def snapshot(self) -> list[tuple[str, bytes]]:
        """All state entries, sorted by key."""
        entries = [(f"1/{name}/{key}", _pack(value)) for name, table in self._tables() for key, value in table.items()]
        entries += self._open_entries().items()
        entries += self.linker.snapshot()
        return sorted(entries)

    def restore(self, entries: list[tuple[str, bytes]]) -> None:
        """Takes a snapshot into a fresh book. Raises StateRefused for what it cannot read."""
        threats: list[OpenThreat] = []
        of_linker: list[tuple[str, bytes]] = []
        for key, value in entries:
            version, _, rest = key.partition("/")
            component, _, name = rest.partition("/")
            if version != "1":
                raise StateRefused(f"state entry {key!r} is of version {version}; this release reads 1")
            if component == "evidence":
                kept = _read_enriched(value)
                self._evidence[name] = msgspec.structs.replace(kept, event=msgspec.convert(kept.event, Event))
            elif component == "match":
                self._matches[name] = msgspec.msgpack.decode(value, type=Match)
            elif component == "finding":
                self._findings[name] = msgspec.msgpack.decode(value, type=Finding)
            elif component == "threat":
                threats.append(msgspec.msgpack.decode(value, type=OpenThreat))
            elif component == "book":
                self._now_ms, self._evidence_sweep_ms, deadlines, self.evidence_missing, *later = _unpack(value)
                numbers: list[int] = [*later, *[0] * (2 - len(later))]
                self.decisions_missed, self.evidence_dropped = numbers[:2]
                self._thin_at = numbers[2:] or self._thin_at
                self._deadlines = [(due, what, threat) for due, what, threat in deadlines]
            elif component == "ended":
                self._ended[name] = _read_ended(value)
            elif component == "waiting":
                self._waiting[name] = _read_decision(value)
            elif component == "declared":
                self._declared[name] = _read_decision(value)
            elif component == "linker":
                of_linker.append((key, value))
            else:
                raise StateRefused(f"state entry {key!r} is of no component that this release knows")
        for threat in sorted(threats, key=lambda one: (one.opened_ms, one.id)):
            threat.told_key = tuple(tuple(one) if isinstance(one, list) else one for one in threat.told_key)
            self._open[threat.id] = threat
        self.linker.restore(of_linker)
        for _, table in self._tables():
            table.changed.clear()
        self._use_declared()
        self._told_entries = self._open_entries()


def confidence(score: float) -> str:
    """A score in words; never a probability, since its parts are independent only roughly."""
    return "low" if score < ALERT else "medium" if score < 2 * ALERT else "high"


def techniques(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Technique ids among a rule's tags: ATT&CK ids in capitals, own ones as x-cps-*."""
    found = []
    for tag in tags:
        name = tag.removeprefix("attack.")
        if tag.startswith("attack.t") and name[1:2].isdigit():
            found.append(name.upper())
        elif tag.startswith("x-cps."):
            found.append("x-cps-" + tag[6:])
    return tuple(found)
