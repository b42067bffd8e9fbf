"""What a scenario expects: which threats, with which members, and nothing else.

expect.yaml:

    silence: true                    # a negative control: no threat at all
    threats:                         # or: these threats and no other
      - name: theft of vaccines
        severity: {at_least: high, at_most: critical}
        members:
          - {at: "inputs/access.ndjson:27", needed: true}
          - {at: "inputs/appointments.ndjson:1-24", redundant: twenty of these are enough}
        allow_extra: ["inputs/sensors.ndjson:4", "background:*"]

A member is named by its `origin`, file:line or file:first-last. needed: without this line the outcome
is another one; redundant: why it is not. Both must be found as members.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from correlator.errors import Fault, FaultyFile
from correlator.events.event import LEVEL_RANK, LEVELS
from correlator.marked import MarkedDict, MarkedList, load_file
from correlator.sources.settings import nearest, unknown_words, value_fault

_WORDS: Final = ("silence", "threats")
_THREAT_WORDS: Final = ("name", "severity", "members", "allow_extra")
_MEMBER_WORDS: Final = ("at", "needed", "redundant")
_SEVERITY_WORDS: Final = ("at_least", "at_most")
_AT: Final = re.compile(r"(.+):(\d+)(?:-(\d+))?")
_SHOWN_EXTRAS: Final = 5


@dataclass(frozen=True, slots=True)
class Member:
    """One expected member. redundant: why the outcome stays the same without it, "" if it is needed."""

    origin: str
    redundant: str = ""

    @property
    def needed(self) -> bool:
        """Whether removing this line must change the outcome."""
        return not self.redundant


@dataclass(frozen=True, slots=True)
class ExpectedThreat:
    """One threat that must come out; allow_extra holds patterns of origins (`*`, `?`)."""

    name: str
    members: tuple[Member, ...]
    at_least: str = LEVELS[0]
    at_most: str = LEVELS[-1]
    allow_extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """All of it; without threats silence is expected."""

    threats: tuple[ExpectedThreat, ...] = ()


def load_expect(path: Path, shown: str | None = None) -> Expectation:
    """The expectations of a file. Raises FaultyFile with every fault in it."""
    name = shown if shown is not None else str(path)
    documents = load_file(path, name)
    root = documents[0] if documents else None
    if len(documents) > 1 or not isinstance(root, MarkedDict):
        raise FaultyFile([Fault(name, 1, 1, "expectations are one mapping", "silence: true, or threats: [...]")])
    faults = unknown_words(root, _WORDS, name, "expect.yaml")
    silence, entries = root.get("silence"), root.get("threats")
    if silence is not None and silence is not True:
        faults.append(value_fault(root, "silence", name, "silence can only be true", "else list threats"))
    if (silence is True) == ("threats" in root):
        faults.append(Fault(name, *root.mark, "give either silence: true or threats"))
    threats: list[ExpectedThreat] = []
    if entries is not None:
        if not isinstance(entries, MarkedList) or not entries:
            faults.append(value_fault(root, "threats", name, "threats must be a list with at least one threat"))
        else:
            for entry, mark in zip(entries, entries.items_at, strict=True):
                if isinstance(entry, MarkedDict):
                    threats.append(_threat(entry, name, faults))
                else:
                    faults.append(Fault(name, *mark, "a threat is a mapping", "{name:, members:}"))
    if faults:
        raise FaultyFile(faults)
    return Expectation(tuple(threats))


def _threat(entry: MarkedDict, file: str, faults: list[Fault]) -> ExpectedThreat:
    faults += unknown_words(entry, _THREAT_WORDS, file, "a threat")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        faults.append(Fault(file, *entry.mark, "a threat needs a name"))
        name = ""
    members: list[Member] = []
    listed = entry.get("members")
    if not isinstance(listed, MarkedList) or not listed:
        faults.append(Fault(file, *entry.mark, "a threat needs members", '[{at: "inputs/x.ndjson:3", needed: true}]'))
    else:
        for one, mark in zip(listed, listed.items_at, strict=True):
            if isinstance(one, MarkedDict):
                members += _members(one, file, faults)
            else:
                faults.append(Fault(file, *mark, "a member is a mapping", '{at: "inputs/x.ndjson:3", needed: true}'))
    bounds = {"at_least": LEVELS[0], "at_most": LEVELS[-1]}
    severity = entry.get("severity")
    if severity is not None and not isinstance(severity, MarkedDict):
        faults.append(value_fault(entry, "severity", file, "severity must be a mapping", "{at_least: high}"))
    elif severity is not None:
        faults += unknown_words(severity, _SEVERITY_WORDS, file, "severity")
        for word in _SEVERITY_WORDS:
            level = severity.get(word, bounds[word])
            if level in LEVELS:
                bounds[word] = level
            else:
                faults.append(value_fault(severity, word, file, f"no level {level!r}", nearest(str(level), LEVELS)))
    extra = entry.get("allow_extra", ())
    if not isinstance(extra, list | tuple) or not all(isinstance(one, str) for one in extra):
        faults.append(value_fault(entry, "allow_extra", file, "allow_extra must be a list of origins"))
        extra = ()
    return ExpectedThreat(name, tuple(members), bounds["at_least"], bounds["at_most"], tuple(extra))


def _members(entry: MarkedDict, file: str, faults: list[Fault]) -> list[Member]:
    faults += unknown_words(entry, _MEMBER_WORDS, file, "a member")
    needed, why = entry.get("needed"), entry.get("redundant")
    if needed is not None and needed is not True:
        hint = "redundant: <why the outcome stays the same without it>"
        faults.append(value_fault(entry, "needed", file, "needed can only be true", hint))
    elif (needed is True) == (why is not None):
        hint = "needed: true, or redundant: <why>"
        faults.append(Fault(file, *entry.mark, "a member is either needed or redundant", hint))
    if why is not None and not (isinstance(why, str) and why):
        faults.append(value_fault(entry, "redundant", file, "redundant must say why"))
    found = _AT.fullmatch(str(entry.get("at", "")))
    if found is None:
        at = entry.values_at.get("at", entry.mark)
        faults.append(Fault(file, *at, "at must be file:line or file:first-last", "inputs/access.ndjson:12"))
        return []
    first, last = int(found[2]), int(found[3] or found[2])
    if not 1 <= first <= last:
        faults.append(value_fault(entry, "at", file, "lines count from 1 and go upwards"))
    return [Member(f"{found[1]}:{line}", str(why or "")) for line in range(first, last + 1)]


def check(expect: Expectation, threats: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is not as expected, in sentences; [] if all is.

    threats: dicts as `correlator.events.threat.Threat` encodes to JSON; of several revisions of one
    threat the last counts, and a threat that was merged into another does not. An expected threat is
    the found one with most members in common; ties go to the earlier one in both lists.
    """
    found = last_revisions(threats)
    origins = [origins_of(threat) for threat in found]
    problems: list[str] = []
    pairs = sorted(
        (-len({member.origin for member in wanted.members} & set(origins[at])), which, at)
        for which, wanted in enumerate(expect.threats)
        for at in range(len(found))
    )
    chosen: dict[int, int] = {}
    for common, which, at in pairs:
        if common < 0 and which not in chosen and at not in chosen.values():
            chosen[which] = at
    for which, wanted in enumerate(expect.threats):
        if which in chosen:
            problems += _compare(wanted, found[chosen[which]], origins[chosen[which]])
        else:
            problems.append(f"expected threat {wanted.name!r} was not found")
    for at, threat in enumerate(found):
        if at not in chosen.values():
            proofs = _listed(sorted(origins[at], key=_place))
            problems.append(f"unexpected threat {threat.get('title', '')!r} ({threat.get('severity')}): {proofs}")
    return problems


def last_revisions(threats: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last revision of each threat that was not merged into another."""
    last: dict[str, Mapping[str, Any]] = {}
    for threat in threats:
        known = last.get(threat["id"])
        if known is None or threat["revision"] >= known["revision"]:
            last[threat["id"]] = threat
    return [threat for threat in last.values() if threat["phase"] != "merged"]


def origins_of(threat: Mapping[str, Any]) -> dict[str, str]:
    """Origin (else raw position, else event id) -> what the message said, for each member."""
    return {
        member.get("origin") or member.get("raw") or member["id"]: member.get("said", "")
        for member in threat.get("members", ())
    }


def _compare(wanted: ExpectedThreat, threat: Mapping[str, Any], origins: Mapping[str, str]) -> list[str]:
    problems = []
    expected = {member.origin for member in wanted.members}
    missing = [member.origin for member in wanted.members if member.origin not in origins]
    if missing:
        problems.append(f"threat {wanted.name!r} lacks {_listed(missing)}")
    extra = [
        f"{origin} ({said})" if said else origin
        for origin, said in sorted(origins.items(), key=lambda item: _place(item[0]))
        if origin not in expected and not any(fnmatchcase(origin, one) for one in wanted.allow_extra)
    ]
    if extra:
        problems.append(f"threat {wanted.name!r} has members that were not expected: {_listed(extra)}")
    severity = str(threat.get("severity"))
    rank = LEVEL_RANK.get(severity, -1)
    if rank < LEVEL_RANK[wanted.at_least]:
        problems.append(f"threat {wanted.name!r} is {severity}; at least {wanted.at_least} was expected")
    if rank > LEVEL_RANK[wanted.at_most]:
        problems.append(f"threat {wanted.name!r} is {severity}; at most {wanted.at_most} was expected")
    return problems


def _place(origin: str) -> tuple[str, int]:
    file, _, line = origin.rpartition(":")
    return file, int(line) if line.isdigit() else 0


def _listed(places: list[str]) -> str:
    shown = ", ".join(places[:_SHOWN_EXTRAS])
    more = len(places) - _SHOWN_EXTRAS
    return shown + (f" and {more} more" if more > 0 else "")
