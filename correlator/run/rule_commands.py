"""`correlator rules check | explain | test`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TextIO

from correlator.clock import utc_text
from correlator.errors import Fault, FaultyFile, UsageError
from correlator.events.event import Event
from correlator.events.threat import Match
from correlator.matching import Engine, EngineSettings, Record
from correlator.premises import Premises, load_site, site_of
from correlator.privacy.fields import IdentityFields
from correlator.privacy.rules import check as check_identities
from correlator.rulepack import PACK
from correlator.rules.check import check as check_rules
from correlator.rules.check import explain_rule
from correlator.rules.load import LoadedRules, load_rules, rule_files
from correlator.rules.syntax import CorrelationRule, DetectionRule, RuleSet, RuleTest
from correlator.rules.testing import DEFAULT_START_MS, BadEvent, event_of


def _loaded(paths: Sequence[Path], overlay: Path | None = None) -> LoadedRules:
    return load_rules(list(paths) or [PACK], overlay=overlay)


def check(paths: Sequence[Path], overlay: Path | None, stdout: TextIO, tokens: IdentityFields | None = None) -> int:
    """Prints every fault and what is portable; 2 if a file is refused, else 0. Without paths: the rule pack.

    tokens: the fields that hold identities, where these are tokens.
    """
    loaded = _loaded(paths, overlay)
    faults = check_rules(loaded)
    if tokens is not None:
        files = rule_files(list(paths) or [PACK])
        faults += check_identities([(str(one), one.read_text("utf-8-sig", "replace")) for one in files], tokens)
    for fault in sorted(faults):
        stdout.write(f"{fault}\n")
    rules = loaded.rules
    errors = sum(fault.severity == "error" for fault in faults)
    stdout.write(
        f"{len(rules.detections)} detections, {len(rules.correlations)} correlations; "
        + ("no errors\n" if not errors else f"{errors} error{'s' if errors > 1 else ''}\n")
    )
    return 2 if errors else 0


def explain(paths: Sequence[Path], rule: str, stdout: TextIO) -> int:
    """Says in plain words what a rule (key, id, name) finds. Raises UsageError for an unknown one."""
    loaded = _loaded(paths)
    if loaded.errors:
        raise FaultyFile(loaded.errors)
    stdout.write(explain_rule(find_rule(loaded.rules, rule), loaded.rules) + "\n")
    return 0


def find_rule(rules: RuleSet, wanted: str) -> DetectionRule | CorrelationRule:
    """The rule with that id, name, title or beginning of an id. Raises UsageError with the nearest names."""
    every: dict[str, DetectionRule | CorrelationRule] = {**rules.detections, **rules.correlations}
    for one in every.values():
        if wanted in (one.head.key, one.head.id, one.head.name, one.head.title):
            return one
    begun = [one for key, one in every.items() if len(wanted) >= 6 and key.startswith(wanted)]
    if len(begun) == 1:
        return begun[0]
    from difflib import get_close_matches

    names = [one.head.name or one.head.key for one in every.values()]
    near = get_close_matches(wanted, names, 3)
    raise UsageError(f"no rule {wanted!r}" + (f"; near: {', '.join(near)}" if near else ""))


def test(paths: Sequence[Path], stdout: TextIO) -> int:
    """Runs the tests that rule files carry; 0 if all hold, 1 if not. Raises FaultyFile for faulty files."""
    loaded = _loaded(paths)
    if loaded.errors:
        raise FaultyFile(loaded.errors)
    ran = failed = 0
    every: list[DetectionRule | CorrelationRule] = [
        *loaded.rules.detections.values(), *loaded.rules.correlations.values()
    ]  # fmt: skip
    for rule in sorted(every, key=lambda one: (one.head.position.file, one.head.position.line)):
        for one in rule.head.tests:
            ran += 1
            found = run_test(loaded.rules, rule, one)
            if len(found) != one.expect:
                failed += 1
                stdout.write(f"{one.position}: {rule.head.title}: {one.name}: "
                             f"{len(found)} matches, {one.expect} expected\n")  # fmt: skip
                for match in found:
                    stdout.write(f"    {utc_text(match.first_ms)} to {utc_text(match.last_ms)} {match.group}"
                                 f" value {match.value}, {len(match.events)} events\n")  # fmt: skip
    stdout.write(f"{ran} tests, {failed} failed\n")
    return 1 if failed else 0


def run_test(rules: RuleSet, rule: DetectionRule | CorrelationRule, test_case: RuleTest) -> list[Match]:
    """The final matches of one rule for the events of one of its tests.

    The rule is run with those it refers to and no others. Raises FaultyFile for an event or site that
    cannot be read.
    """
    subset = only(rules, rule)
    premises = _site(test_case)
    base_ms = test_case.start_ms or DEFAULT_START_MS
    zone: tzinfo = premises.timezone if premises is not None else UTC
    site = premises.site_id if premises is not None else "test"
    events: list[Event] = []
    for index, spec in enumerate(test_case.events):
        try:
            events.append(event_of(dict(spec), index, base_ms, site))
        except BadEvent as error:
            position = test_case.position
            raise FaultyFile([Fault(position.file, position.line, position.column, str(error))]) from error
    engine = Engine(site, subset, premises, EngineSettings(enriched="off"), zone)
    matches: list[Match] = []
    for event in sorted(events, key=lambda one: one.received_ms):
        matches += engine.receive(Record(events=[event])).matches
    if test_case.until_ms:
        matches += engine.finish(base_ms + test_case.until_ms).matches
        matches += engine.matcher.open_matches()
    else:
        matches += engine.finish(None).matches
    last = {match.id: match for match in matches if match.rule == rule.head.key and not match.early}
    return list(last.values())


def only(rules: RuleSet, rule: DetectionRule | CorrelationRule) -> RuleSet:
    """A rule with all it refers to; the rule itself reports, those do not unless they say so."""
    keys: set[str] = set()
    todo = [rule.head.key]
    used: set[str] = set()
    while todo:
        key = todo.pop()
        if key in keys:
            continue
        keys.add(key)
        one = rules.correlations.get(key)
        if one is not None:
            todo.extend(one.rules)
            used.update(one.rules)
    return RuleSet(
        {key: one for key, one in rules.detections.items() if key in keys},
        {key: one for key, one in rules.correlations.items() if key in keys},
        frozenset(used & rules.used),
    )


def _site(test_case: RuleTest) -> Premises | None:
    if test_case.site_file:
        return load_site(Path(test_case.position.file).parent / test_case.site_file)
    return site_of(test_case.site, test_case.position.file) if test_case.site is not None else None
