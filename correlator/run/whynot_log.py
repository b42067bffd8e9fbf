"""`correlator explain --why-not RULE` of a carrier's log: the rule in force is run again over what the log holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from correlator.errors import UsageError
from correlator.events.event import Event
from correlator.premises import Premises
from correlator.run.bodies import rules_from, settings_from, site_from
from correlator.run.relog import LogReader, configuration_in, own_part
from correlator.run.rule_commands import find_rule
from correlator.run.whynot import AnyRule, explain_rule_at, explain_rule_silence

MOST_EVENTS: Final = 50_000  # the newest of a log that holds more: an answer in seconds
_MOST_RECORDS: Final = 50_000


@dataclass(frozen=True, slots=True)
class _Ground:
    """A site as a log has it in force."""

    site_id: str
    zone: tzinfo
    lateness_ms: int
    until_ms: int
    bodies: Mapping[str, bytes]
    model: str

    def premises(self) -> Premises:
        """Its model, fresh."""
        return site_from(self.bodies, self.model)


def rule_in_force(reader: LogReader, site: str, rule: str) -> AnyRule:
    """The rule of a site with that id, name or title. Raises UsageError, BodyMissing."""
    _, found = configuration_in(reader, site)
    return find_rule(rules_from(reader.bodies(), found.rules).rules, rule)


def explain_rule_in_log(reader: LogReader, site: str, rule: AnyRule, where: str = "") -> Iterator[str]:
    """Why a rule did not match the newest events of a log, or those of one message.

    site: "" for the only one. where: position, origin or event id of a message. Raises UsageError, BodyMissing.
    """
    site, found = configuration_in(reader, site)
    bodies = reader.bodies()
    events: deque[Event] = deque(maxlen=MOST_EVENTS)
    begins, held, until_ms = "", 0, 0
    for position, record in reader.read(_MOST_RECORDS):
        begins = begins or position
        own, _ = own_part(record, site)
        if own is not None:
            held += len(own.events)
            events.extend(own.events)
            until_ms = max([until_ms, *(event.received_ms for event in own.events)])
    if held > MOST_EVENTS or not begins.endswith((":0", ":1")):
        yield f"of this log the newest {len(events)} events are looked at"
    if where and not any(where in (event.id, event.raw, event.origin) for event in events):
        raise UsageError(f"no event of {where} is among the newest {len(events)} of the log")
    places = site_from(bodies, found.site)
    lateness_ms = settings_from(bodies, found.settings).engine.lateness_ms
    ground = _Ground(site, places.timezone, lateness_ms, until_ms, bodies, found.site)
    rules = rules_from(bodies, found.rules).rules
    if where:
        yield from explain_rule_at(ground, rules, rule, list(events), where)
    else:
        yield from explain_rule_silence(ground, rules, rule, list(events))
