"""`correlator replay --from-log`: a log read back, with what is in force and with other rules beside it.

A carrier hands its log over as a `LogReader`; both engines fold the same records and differ in rules
only. Times given (`from_ms`, `to_ms`) are of receiving. An engine that begins in the middle of a log knows
nothing of what came before: give it a start as long before the time of interest as your rules look back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import msgspec

from correlator.clock import utc_text
from correlator.errors import FaultyFile, UsageError
from correlator.events.threat import Match, Threat
from correlator.matching import Outputs
from correlator.rulepack import PACK as PACK_FOLDER
from correlator.rules.load import rule_texts, rules_of
from correlator.run.account import account
from correlator.run.bodies import rules_body, rules_from, sha256, site_from
from correlator.run.log import Action, Configuration, LogRecord
from correlator.run.site_engine import SiteEngine

_FOREVER_MS: Final = 1 << 62


class LogReader(Protocol):
    """A carrier's log, oldest record first."""

    def bodies(self) -> Mapping[str, bytes]:
        """Bodies of the configurations that the records name, by sha-256."""
        ...

    def read(self, newest: int = 0) -> Iterator[tuple[str, LogRecord]]:
        """(position, record) of all that the log still has; a position ends in a colon and the offset.

        newest: of the last so many records only.
        """
        ...

    def in_force(self) -> Mapping[str, Configuration]:
        """What each site has by now, as far as the carrier knows without its log."""
        ...


@dataclass(slots=True)
class Side:
    """What one set of rules found: threats by id as last told, matches by rule."""

    threats: dict[str, Threat] = field(default_factory=dict)
    matches: dict[str, set[str]] = field(default_factory=dict)

    def take(self, outputs: Outputs) -> None:
        """Counts what was decided; a match counts once, however often it was told."""
        for threat in outputs.threats:
            self.threats[threat.id] = threat
        for match in outputs.matches:
            self._match(match)

    def told(self) -> list[Threat]:
        """Threats that stand at the end, in order of time."""
        standing = [one for one in self.threats.values() if one.phase != "merged"]
        return sorted(standing, key=lambda one: (one.first_ms, one.id))

    def _match(self, match: Match) -> None:
        self.matches.setdefault(match.rule, set()).add(match.id)


@dataclass(frozen=True, slots=True)
class Found:
    """Both sides. other: None if no other rules were given. zone: of the site; names: rule key -> title."""

    site: str
    zone: tzinfo
    first_ms: int
    last_ms: int
    records: int
    events: int
    in_force: Side
    other: Side | None
    names: Mapping[str, str]


def other_rules(paths: Sequence[str], overlay: Path | None) -> tuple[str, bytes]:
    """(name, body) of rule files and folders; "pack" is the rule pack. Raises FaultyFile, UsageError."""
    texts: list[tuple[str, bytes]] = []
    for one in paths:
        folder = PACK_FOLDER if one == "pack" else Path(one)
        root = folder if folder.is_dir() else folder.parent
        prefix = "pack" if one == "pack" else folder.name
        texts += [(f"{prefix}/{name}", data) for name, data in rule_texts(root, [folder])]
    text = overlay.read_bytes() if overlay is not None else None
    loaded = rules_of(texts, (str(overlay), text) if text is not None else None)
    if loaded.errors:
        raise FaultyFile(loaded.errors)
    body = rules_body(texts, text)
    return sha256(body), body


def read_back(
    reader: LogReader, *, site: str = "", from_ms: int = -1, to_ms: int = -1, rules: tuple[str, bytes] | None = None
) -> Found:
    """Folds a site's records received from `from_ms` to `to_ms` (-1: all). Raises UsageError, BodyMissing.

    site: "" for the only one. rules: name and body of other rules.
    """
    bodies = dict(reader.bodies())
    if rules is not None:
        bodies[rules[0]] = rules[1]
    folding = _Folding(site, bodies, rules[0] if rules is not None else "")
    for _, record in reader.read():
        own = folding.own(record)
        if own is None:
            continue
        folding.take(own, from_ms, to_ms if to_ms >= 0 else _FOREVER_MS)
    return folding.found(to_ms)


def configuration_in(reader: LogReader, site: str) -> tuple[str, Configuration]:
    """(a site, what it has in force); "" for the only site. Raises UsageError."""
    found = dict(reader.in_force())
    if not found or (site and site not in found):  # its first state is not saved yet
        for _, record in reader.read():
            if record.configuration is not None:
                found[record.site] = record.configuration
    if not site and len(found) == 1:
        (site,) = found
    if site not in found:
        known = ", ".join(sorted(found)) or "none"
        raise UsageError(f"the log holds no configuration of the site {site or '(--site says which)'}: it has {known}")
    return site, found[site]


def zone_in(reader: LogReader, site: str) -> tzinfo:
    """The time zone of a site by its last configuration. Raises UsageError, BodyMissing."""
    return site_from(reader.bodies(), configuration_in(reader, site)[1].site).timezone


def own_part(record: LogRecord, site: str) -> tuple[LogRecord | None, str]:
    """(a site's part of a record, None if it has none; the site). The first site of a log is taken for ""."""
    if record.site:
        return (record if site in ("", record.site) else None), site or record.site
    return (LogRecord(ticks={site: record.ticks[site]}) if site in record.ticks else None), site


class _Folding:
    """Two engines of one site over one log."""

    def __init__(self, site: str, bodies: Mapping[str, bytes], other: str) -> None:
        self.site = site
        self._bodies = bodies
        self._other = other
        self._engines: list[tuple[SiteEngine, Side, str]] = []
        self._configuration: Configuration | None = None
        self._promised: dict[str, int] = {}
        self._actions: list[Action] = []
        self._begun = False
        self.records = self.events = 0
        self.first_ms = self.last_ms = -1

    def own(self, record: LogRecord) -> LogRecord | None:
        """The site's part of a record, None if it has none."""
        own, self.site = own_part(record, self.site)
        return own

    def take(self, record: LogRecord, from_ms: int, to_ms: int) -> None:
        """Folds what of a record was received from `from_ms` to `to_ms`; of what was before, only what holds on."""
        ticks = record.ticks.get(self.site, {})
        earlier = [event.received_ms for event in record.events if event.received_ms < from_ms]
        if earlier:
            self._promise(record.input, max(earlier))
        before = not self._begun and not self._within(record, from_ms, to_ms)
        for name, tick_ms in ticks.items():
            if before or tick_ms < from_ms:
                self._promise(name, tick_ms)
        if before:
            for name in record.inputs_out:
                self._promised.pop(name, None)
            self._configuration = record.configuration or self._configuration
            self._actions.extend(record.actions)
            return
        self._begin()
        chosen = [at for at, event in enumerate(record.events) if from_ms <= event.received_ms <= to_ms]
        kept = msgspec.structs.replace(
            record,
            events=tuple([record.events[at] for at in chosen]),
            offsets=tuple([record.offsets[at] for at in chosen]) if record.offsets else (),
            ticks={self.site: {name: min(tick_ms, to_ms) for name, tick_ms in ticks.items()}} if ticks else {},
        )
        self.records += 1
        self.events += len(chosen)
        for event in kept.events:
            self.first_ms = event.received_ms if self.first_ms < 0 else min(self.first_ms, event.received_ms)
            self.last_ms = max(self.last_ms, event.received_ms)
        self._receive(kept)

    def _within(self, record: LogRecord, from_ms: int, to_ms: int) -> bool:
        return any(from_ms <= event.received_ms <= to_ms for event in record.events)

    def _promise(self, name: str, up_to_ms: int) -> None:
        self._promised[name] = max(up_to_ms, self._promised.get(name, -1))

    def _begin(self) -> None:
        """Makes the engines at the first event of the span, with the configuration and promises of that time."""
        if self._begun:
            return
        self._begun = True
        for other in ("", self._other) if self._other else ("",):
            self._engines.append((SiteEngine(self.site, self._bodies), Side(), other))
        ticks = {self.site: self._promised} if self._promised else {}
        first = LogRecord(site=self.site, configuration=self._configuration, ticks=ticks, actions=tuple(self._actions))
        self._receive(first)

    def found(self, to_ms: int) -> Found:
        """What both found; time goes on to `to_ms`."""
        if not self._begun:
            raise UsageError("the log holds nothing of that site and time")
        for engine, side, _ in self._engines:
            if engine.pipeline is None:
                raise UsageError("the log holds no configuration of the site; without one nothing was decided")
            if to_ms >= 0:
                side.take(engine.pipeline.finish(to_ms))
        configuration = self._engines[0][0].configuration
        assert configuration is not None
        zone = site_from(self._bodies, configuration.site).timezone
        other = self._engines[1][1] if len(self._engines) > 1 else None
        names: dict[str, str] = {}
        for one in (configuration.rules, self._other) if self._other else (configuration.rules,):
            rules = rules_from(self._bodies, one).rules
            names |= {key: rule.head.title for key, rule in rules.detections.items()}
            names |= {key: rule.head.title for key, rule in rules.correlations.items()}
        return Found(
            self.site, zone, self.first_ms, self.last_ms, self.records, self.events, self._engines[0][1], other, names
        )

    def _receive(self, record: LogRecord) -> None:
        for engine, side, other in self._engines:
            given = record
            if other and record.configuration is not None:
                changed = msgspec.structs.replace(record.configuration, rules=other)
                given = msgspec.structs.replace(record, configuration=changed)
            side.take(engine.receive(given))


# ---- telling -----------------------------------------------------------------------------------


def tell(found: Found, out: TextIO, *, as_json: bool = False) -> None:
    """Writes what was found; with other rules, what they would have found beside what is in force."""
    if as_json:
        _tell_json(found, out)
        return
    span = f"{utc_text(found.first_ms)} to {utc_text(found.last_ms)}" if found.first_ms >= 0 else "no time"
    out.write(f"{found.site}: {found.records} records with {found.events} events, {span}\n")
    if found.other is None:
        out.write(f"{_many(len(found.in_force.told()))}\n\n")
        for threat in found.in_force.told():
            _account(threat, found.zone, out)
        return
    known, new = found.in_force.threats, found.other.threats
    only_new = [one for one in found.other.told() if one.id not in known]
    only_known = [one for one in found.in_force.told() if one.id not in new]
    both = [one for one in found.other.told() if one.id in known]
    out.write(
        f"in force: {_many(len(found.in_force.told()))}; with the other rules: {_many(len(found.other.told()))}\n"
    )
    out.write(f"\nonly with the other rules: {_many(len(only_new))}\n\n")
    for threat in only_new:
        _account(threat, found.zone, out)
    out.write(f"only in force: {_many(len(only_known))}\n")
    for threat in only_known:
        out.write(f"  {threat.severity.upper()}  {threat.title}, {utc_text(threat.first_ms)}, id {threat.id[:12]}\n")
    out.write(f"\nin both: {_many(len(both))}\n")
    for threat in both:
        before = known[threat.id]
        changed = _changed(before, threat)
        out.write(
            f"  {threat.severity.upper()}  {threat.title}, id {threat.id[:12]}{': ' + changed if changed else ''}\n"
        )
    _rules(found.in_force, found.other, found.names, out)


def _rules(known: Side, new: Side, names: Mapping[str, str], out: TextIO) -> None:
    rows = [
        (key, len(known.matches.get(key, ())), len(new.matches.get(key, ())))
        for key in sorted(known.matches.keys() | new.matches.keys())
    ]
    differing = [row for row in rows if row[1] != row[2]]
    out.write(f"\nmatches by rule ({len(rows) - len(differing)} rules matched as often with both)\n")
    for key, before, after in differing:
        out.write(f"  {before:>7} -> {after:<7} {names.get(key, key)}\n")


def _tell_json(found: Found, out: TextIO) -> None:
    for side, name in ((found.in_force, "in force"), (found.other, "other")):
        for threat in side.told() if side is not None else ():
            line: dict[str, Any] = {"rules": name, **msgspec.to_builtins(threat)}
            out.write(msgspec.json.encode(line, order="deterministic").decode() + "\n")


def _account(threat: Threat, zone: tzinfo, out: TextIO) -> None:
    out.write("\n".join(account(msgspec.to_builtins(threat), zone)) + "\n\n")


def _changed(before: Threat, after: Threat) -> str:
    said = []
    for name in ("phase", "severity"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            said.append(f"{name} {old} -> {new}")
    if len(before.steps) != len(after.steps):
        said.append(f"steps {len(before.steps)} -> {len(after.steps)}")
    return ", ".join(said)


def _many(count: int) -> str:
    return "no threat" if not count else "1 threat" if count == 1 else f"{count} threats"
