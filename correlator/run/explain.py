"""`correlator explain`: a threat down to its proofs, and why a rule did not match.

A threat is read from what a replay wrote to --out, or from what a carrier told and keeps (`Told`). What is
shown of events is what was decoded of them; badge numbers are replaced by their marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import msgspec

from correlator.clock import local, zone_named
from correlator.errors import UsageError
from correlator.events.event import Event, KeptMessage
from correlator.impact.picture import impact_rows, paths_picture
from correlator.run.account import account
from correlator.run.linking import Background, usual
from correlator.run.replay import Linking, make_pipeline, scenario_rules
from correlator.run.rule_commands import find_rule
from correlator.run.scenario import Scenario, load_scenario
from correlator.run.whynot import explain_rule_at, explain_rule_silence, plain
from correlator.run.whynot_links import explain_pair

_read_event = msgspec.json.Decoder(Event).decode
_read_json = msgspec.json.Decoder().decode
_ATTRIBUTES_SHOWN = 8
_IDS_SHOWN = 20
# What tells of a change between two revisions, in the order it is told.
_TOLD = ("phase", "severity")
_GROWN = (("domains", "domain"), ("assets", "asset"), ("steps", "finding"), ("members", "event"))


@dataclass(frozen=True, slots=True)
class _About:
    """What replay.json says: the scenario as it was given, its time zone, whether people are tokens, how it linked."""

    scenario: Path
    zone: tzinfo
    tokens: bool
    linking: Linking
    baseline: Path | None


class _Enriched(msgspec.Struct):
    event: Event


class Told(Protocol):
    """Where a threat and its proofs are read. Each call raises UsageError for what cannot be read."""

    where: str

    def zone(self, site: str) -> tzinfo:
        """The time zone of a site."""
        ...

    def threats(self) -> Iterator[dict[str, Any]]:
        """Every revision that is there, those of one threat in order."""
        ...

    def events(self, wanted: set[str]) -> dict[str, Event]:
        """Those of some events that are still there, by id."""
        ...

    def messages(self, wanted: set[str]) -> dict[str, KeptMessage]:
        """Raw messages kept as evidence of some events, by event."""
        ...


class Keeping(Protocol):
    """What a carrier told and keeps: `correlator.config.kept` has both."""

    def told(self, topic: str) -> Iterator[bytes]:
        """Everything told on a topic, oldest first."""
        ...

    def evidence(self) -> Iterator[KeptMessage]:
        """Every raw message kept as evidence."""
        ...


# ---- a threat ----------------------------------------------------------------------------------


def explain_threat(told: Told, threat: str, stdout: TextIO, *, as_json: bool = False, svg: Path | None = None) -> int:
    """Prints the account of a threat, how it grew, and each proof down to its message; gives 0.

    threat: its id or the beginning of it, or where one of its messages stands; its last revision counts.
    as_json: all of that as one JSON object, with the terms of every link and the steps of every path. svg: a
    picture of these paths goes there. Raises UsageError if there is no such threat, or more than one, or what was
    told cannot be read.
    """
    revisions: dict[str, list[dict[str, Any]]] = {}
    for one in told.threats():
        revisions.setdefault(one["id"], []).append(one)
    found = [one for one in revisions if one.startswith(threat)]
    found = found or [one for one, history in revisions.items() if _holds(history[-1], threat)]
    if len(found) != 1:
        raise UsageError(_which(threat, found, list(revisions), told.where))
    history = revisions[found[0]]
    last = history[-1]
    zone = told.zone(last["site"])
    wanted = {event for step in last["steps"] for event in step.get("events", ())}
    events, messages = told.events(wanted), told.messages(wanted)
    if svg is not None:
        svg.write_text(paths_picture(last["title"], impact_rows(last.get("impact", ()))), encoding="utf-8")
    if as_json:
        grown = [{"revision": one["revision"], "decided_ms": one["decided_ms"], "says": says}
                 for one, says in zip(history, _grown(history), strict=True)]  # fmt: skip
        evidence = {one: _proof_plain(events.get(one), messages.get(one)) for one in sorted(wanted)}
        found_json = {"threat": last, "history": grown, "evidence": evidence}
        stdout.write(msgspec.json.encode(found_json, order="deterministic").decode() + "\n")
        return 0
    lines = account(last, zone)
    lines += ["Revisions", *_history(history, zone), "", "Evidence"]
    said = {member["id"]: member for member in last.get("members", ())}
    for number, step in enumerate(last["steps"], 1):
        lines.append(f"  {number}. {step['title']}")
        for event_id in step.get("events", ()):
            lines += _proof(event_id, events.get(event_id), said.get(event_id), messages.get(event_id), zone)
    stdout.write("\n".join(lines) + "\n")
    return 0


class ToldByReplay:
    """What a replay wrote to a folder. Raises UsageError where that is none."""

    def __init__(self, out_dir: Path) -> None:
        self.where = f"the replay in {out_dir}"
        self._out_dir = out_dir
        self._zone = _about(out_dir).zone

    def zone(self, site: str) -> tzinfo:
        """The replay's."""
        return self._zone

    def threats(self) -> Iterator[dict[str, Any]]:
        """Lines of threats.ndjson."""
        return _lines(self._out_dir, "threats")

    def events(self, wanted: set[str]) -> dict[str, Event]:
        """From decoded.ndjson."""
        return {event.id: event for event in _events(self._out_dir) if event.id in wanted}

    def messages(self, wanted: set[str]) -> dict[str, KeptMessage]:
        """None: a replay's messages lie where its events say."""
        return {}


class ToldByCarrier:
    """What a carrier told and keeps. zone: the time zone of a site; where: the carrier in words."""

    def __init__(self, kept: Keeping, zone: Callable[[str], tzinfo], where: str) -> None:
        self.where = where
        self.zone = zone
        self._kept = kept

    def threats(self) -> Iterator[dict[str, Any]]:
        """Revisions that are kept; a topic keeps the last one for certain."""
        return self._read("threats", _read_json)

    def events(self, wanted: set[str]) -> dict[str, Event]:
        """Of those that were told as events."""
        told: Iterator[_Enriched] = self._read("events.enriched", msgspec.json.Decoder(_Enriched).decode)
        return {one.event.id: one.event for one in told if one.event.id in wanted}

    def messages(self, wanted: set[str]) -> dict[str, KeptMessage]:
        """From the evidence store."""
        return {one.event: one for one in self._kept.evidence() if one.event in wanted}

    def _read(self, topic: str, read: Callable[[bytes], Any]) -> Iterator[Any]:
        for value in self._kept.told(topic):
            try:
                yield read(value)
            except msgspec.DecodeError as error:
                raise UsageError(f"{self.where} holds {topic} that cannot be read: {error}") from error


def _holds(threat: dict[str, Any], place: str) -> bool:
    """Whether a message of a threat stands at FILE:LINE or at a position of the log."""
    return any(place in (member.get("origin"), member.get("raw")) for member in threat.get("members", ()))


def _which(threat: str, found: list[str], every: list[str], where: str) -> str:
    if found:
        return f"{threat!r} fits {len(found)} threats: {_ids(found)}"
    if not every:
        return f"there is no threat {threat!r}: {where} holds none"
    return f"there is no threat {threat!r}; there are: {_ids(every)}"


def _ids(ids: list[str]) -> str:
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return ", ".join(one[:12] for one in ids[:_IDS_SHOWN]) + more


def _history(revisions: list[dict[str, Any]], zone: tzinfo) -> Iterator[str]:
    for told, what in zip(revisions, _grown(revisions), strict=True):
        yield f"  {told['revision']:>3}. {local(told['decided_ms'], zone):%d %b %H:%M:%S}  {what}"


def _grown(revisions: list[dict[str, Any]]) -> Iterator[str]:
    """What each revision changed."""
    before: dict[str, Any] | None = None
    for told in revisions:
        yield "opened" if before is None else "; ".join(_changes(before, told)) or "told again"
        before = told


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in _TOLD:
        if before[key] != now[key]:
            yield f"{key} is now {now[key]}"
    for key, word in _GROWN:
        many = len(now.get(key, ())) - len(before.get(key, ()))
        if many > 0:
            yield f"{many} more {word}{'s' if many > 1 else ''}"
    was = {step["finding"]: step for step in before.get("steps", ())}
    ended = grew = 0
    for step in now.get("steps", ()):
        old = was.get(step["finding"])
        if old is not None and old.get("state") != step.get("state"):
            ended += 1
        elif old is not None and old != step:
            grew += 1
    if ended:
        yield f"{ended} finding{'s' if ended > 1 else ''} came to an end"
    if grew:
        yield f"{grew} finding{'s' if grew > 1 else ''} grew"
    if now.get("merged_into"):
        yield f"merged into {now['merged_into'][:12]}"


def _proof(
    event_id: str, event: Event | None, member: Mapping[str, Any] | None, kept: KeptMessage | None, zone: tzinfo
) -> Iterator[str]:
    where = (member.get("origin") or member.get("raw") or "") if member is not None else ""
    if event is not None:
        yield f"     {local(event.time_ms, zone):%H:%M:%S}  {event.kind}  <{event.origin or event.raw or event.id}>"
        for entity in event.entities:
            yield f"         {entity.role}: {entity.kind} {plain(entity.id, event)}"
        for name, value in list(event.attributes.items())[:_ATTRIBUTES_SHOWN]:
            yield f"         {name}: {plain(value, event)}"
        more = len(event.attributes) - _ATTRIBUTES_SHOWN
        if more > 0:
            yield f"         and {more} more attributes"
    elif kept is not None and member is not None:
        yield f"     {local(member['time_ms'], zone):%H:%M:%S}  {member['kind']}  <{where or event_id}>"
    else:
        # A repeated event without an id of its own is numbered behind the decoder and gets another id.
        yield f"     {where or event_id}: see the message there; it repeats an earlier one word for word"
    if kept is not None:
        yield f"         message: {kept.size} bytes on {kept.channel}, kept as evidence, sha-256 {kept.sha256[:16]}"


def _proof_plain(event: Event | None, kept: KeptMessage | None) -> dict[str, Any]:
    """What is shown of an event, and where its message is kept; {} of one of which nothing is left."""
    found: dict[str, Any] = {}
    if event is not None:
        found = {
            "time_ms": event.time_ms, "kind": event.kind, "origin": event.origin, "raw": event.raw,
            "entities": [{"role": one.role, "kind": one.kind, "id": plain(one.id, event)} for one in event.entities],
            "attributes": {name: plain(value, event) for name, value in event.attributes.items()},
        }  # fmt: skip
    if kept is not None:
        found["message"] = {"channel": kept.channel, "received_ms": kept.received_ms, "size": kept.size,
                            "sha256": kept.sha256}  # fmt: skip
    return found


# ---- why not -----------------------------------------------------------------------------------


# How a finding is named: where one of its messages stands (inputs/a.ndjson:12, log:17), or its id.
_FINDING: Final = re.compile(r":\d+$|^[0-9a-f]{4,32}$")


def why_not(out_dir: Path, rule: str, where: str | None, stdout: TextIO, background: Background | None = None) -> int:
    """Prints how often a rule matched and, if never, what was missing; gives 0.

    With two findings instead of a rule (`rule` and `where`: ids or origins): why they are not linked.
    background: makes the ordinary traffic from which the replay learned what is usual.

    rule: id, name, title or beginning of an id. where: the origin of a message ("inputs/a.ndjson:12"):
    what of the rule failed on its events. The rules are read anew from the scenario, so a change to them
    can be tried. Raises UsageError if the scenario is gone, FaultyFile if its rules are faulty.
    """
    about = _about(out_dir)
    if about.tokens:
        raise UsageError("people are tokens in this replay, not in the rules: replay without --config to ask that")
    scenario = _scenario(about.scenario)
    rules = scenario_rules(scenario).rules
    events = list(_events(out_dir))
    try:
        chosen = find_rule(rules, rule)
    except UsageError:
        if where is None or not _FINDING.search(rule):
            raise
        stdout.writelines(f"{line}\n" for line in _why_no_link(about, scenario, events, rule, where, background))
        return 0
    if where is None:
        stdout.writelines(f"{line}\n" for line in explain_rule_silence(scenario, rules, chosen, events))
        return 0
    meant = _origin(where, events, out_dir)
    stdout.writelines(f"{line}\n" for line in explain_rule_at(scenario, rules, chosen, events, meant))
    return 0


def _why_no_link(
    about: _About, scenario: Scenario, events: list[Event], first: str, second: str, background: Background | None
) -> Iterator[str]:
    loaded = scenario_rules(scenario)
    entries = usual(scenario, loaded, background, about.baseline) if about.linking != "off" else ()
    pipeline, _ = make_pipeline(scenario, loaded, about.linking, entries)
    yield from explain_pair(pipeline, events, scenario.until_ms, first, second, about.zone)


def _scenario(path: Path) -> Scenario:
    try:
        return load_scenario(path)
    except UsageError as error:
        raise UsageError(f"the scenario of this replay cannot be read any more: {error}") from error


def _origin(where: str, events: list[Event], out_dir: Path) -> str:
    """The origin that is meant: as given, or the only one that ends with it. Raises UsageError."""
    origins = {event.origin for event in events}
    if where in origins:
        return where
    ends = sorted(one for one in origins if one.endswith(f"/{where}") or where.endswith(f"/{one}"))
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UsageError(f"{where} may be any of: {', '.join(ends)}")
    for told in _lines(out_dir, "rejects"):
        if told.get("origin") == where:
            raise UsageError(f"{where} was rejected and reached no rule: {told['reason']}: {told['detail']}")
    raise UsageError(f"no event came from {where}; it is written as in the account, such as inputs/doors.ndjson:12")


# ---- files -------------------------------------------------------------------------------------


def _about(out_dir: Path) -> _About:
    path = out_dir / "replay.json"
    try:
        told = _read_json(path.read_bytes())
        scenario, baseline = Path(told["scenario"]), told.get("baseline")
        return _About(
            scenario,
            zone_named(told["zone"]),
            bool(told.get("tokens")),
            told.get("linking", "graph"),
            Path(baseline) if baseline else None,
        )
    except FileNotFoundError as error:
        raise UsageError(f"{out_dir} holds no replay; write one with `correlator replay --out {out_dir}`") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not what a replay writes: {error}") from error


def _raw_lines(out_dir: Path, name: str) -> Iterator[bytes]:
    path = out_dir / f"{name}.ndjson"
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _lines(out_dir: Path, name: str) -> Iterator[dict[str, Any]]:
    try:
        for line in _raw_lines(out_dir, name):
            yield _read_json(line)
    except msgspec.DecodeError as error:
        raise UsageError(f"{out_dir / name}.ndjson is damaged: {error}") from error


def _events(out_dir: Path) -> Iterator[Event]:
    try:
        for line in _raw_lines(out_dir, "decoded"):
            yield _read_event(line)
    except msgspec.DecodeError as error:
        raise UsageError(f"{out_dir / 'decoded.ndjson'} is damaged: {error}") from error
