"""Of what a site wants to hear nothing: which findings fit an exception of its overlay (docs/rules.md section 10)
or one that people declared (docs/streaming.md, "Decisions")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from correlator.events.event import Event
from correlator.events.threat import EnrichedEvent, Finding
from correlator.rules.fields import Accessor, accessor_of, keys_of
from correlator.rules.syntax import RuleException


class Exceptions:
    """The exceptions of a site, by the rule or kind of event that they name. places: the site, or None."""

    def __init__(self, exceptions: Sequence[RuleException], places: Any) -> None:
        self._places = places
        self._of_site = tuple(exceptions)
        self._accessors: dict[str, Accessor] = {}
        self.declare(())

    def declare(self, exceptions: Iterable[RuleException]) -> None:
        """Those that people declared, all of them, beside the overlay's."""
        self._by_rule: dict[str, list[RuleException]] = {}
        self._by_kind: dict[str, list[RuleException]] = {}
        for one in (*self._of_site, *exceptions):
            table = self._by_rule if one.rule else self._by_kind
            table.setdefault(one.rule or one.kind, []).append(one)
            for name, _ in one.fields:
                self._accessors[name] = accessor_of(name, self._places)

    def __bool__(self) -> bool:
        return bool(self._by_rule or self._by_kind)

    def fits(self, finding: Finding, members: Sequence[EnrichedEvent], deciding: Event | None) -> RuleException | None:
        """The first exception that a finding fits, by the time at which it was opened.

        A kind of event fits a finding whose members are all of that kind; a field is that of the group,
        else of the deciding event.
        """
        listed = self._by_rule.get(finding.rule, []) if finding.rule else []
        kinds = {one.event.kind for one in members}
        if len(kinds) == 1:
            listed = [*listed, *self._by_kind.get(kinds.pop(), [])]
        for one in listed:
            in_time = one.from_ms <= finding.t_ms < one.until_ms
            if in_time and (not one.asset or one.asset == finding.asset) and self._has(one, finding, deciding):
                return one
        return None

    def _has(self, exception: RuleException, finding: Finding, deciding: Event | None) -> bool:
        for name, texts in exception.fields:
            if name in finding.group:
                values = keys_of(finding.group[name])
            else:
                values = keys_of(self._accessors[name].get(deciding)) if deciding is not None else ()
            if not any(value in texts for value in values):
                return False
        return True
