"""`correlator explain --why-not FINDING FINDING`: why two findings of a replay are not linked.

The replay's events are folded again through a fresh pipeline, and the link is weighed at the moment
the later finding is about to be placed, from the state that linking then had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo

from correlator.clock import local
from correlator.errors import UsageError
from correlator.events.event import Event
from correlator.events.threat import Finding
from correlator.linking.engine import Episode, LinkEngine
from correlator.linking.linker import GraphLinker, item_of
from correlator.linking.whynot import refusal
from correlator.matching import Record
from correlator.run.pipeline import Pipeline

RECORD_EVENTS = 500


def explain_pair(
    pipeline: Pipeline, events: Sequence[Event], until_ms: int, first: str, second: str, zone: tzinfo
) -> Iterator[str]:
    """Why the later of two findings does not follow from the earlier. pipeline: fresh, linking over the graph.

    first, second: id of a finding or its beginning, or the origin of one of its messages, in any order.
    Raises UsageError where a name means no finding.
    """
    linker = pipeline.book.linker
    if not isinstance(linker, GraphLinker):
        raise UsageError("this replay did not link over the site graph")
    asked = _Asked((first, second), {event.id: event.origin for event in events})
    linker.watch = asked.look
    for start in range(0, len(events), RECORD_EVENTS):
        pipeline.receive(Record(events=list(events[start : start + RECORD_EVENTS])))
    pipeline.finish(until_ms)
    for name, found in zip((first, second), asked.found, strict=True):
        if not found:
            raise UsageError(f"{name!r} is no finding of this replay: neither a notable event nor a match on an asset")
    for finding in sorted({one.id: one for found in asked.found for one in found}.values(), key=lambda one: one.t_ms):
        place = linker.engine.ground.describe(finding.asset)
        yield f"{local(finding.t_ms, zone):%d %b %H:%M:%S}  {finding.title} on {place}"
    together = {linker.threat_of(found[0].id) for found in asked.found}
    if len(together) == 1 and None not in together:
        yield f"both are in the threat {together.pop()[:12]}"  # type: ignore[index]
    yield from asked.told or ["they are one episode, or one finding"]


class _Asked:
    """Listens to findings until both that were asked for have come, and then weighs their link."""

    def __init__(self, names: tuple[str, str], origins: dict[str, str]) -> None:
        self.names = names
        self.found: tuple[list[Finding], list[Finding]] = ([], [])
        self.told: list[str] = []
        self._origins = origins

    def look(self, engine: LinkEngine, finding: Finding) -> None:
        """Called before a finding is placed."""
        mine = [at for at, name in enumerate(self.names) if self._is(finding, name)]
        for at in mine:
            others = self.found[1 - at]
            if others and not self.told:
                earlier = _episode(engine, others[0])
                if earlier is None:
                    self.told.append("the earlier one went on with an episode that is no longer remembered")
                else:
                    self.told += refusal(engine, earlier, item_of(finding))
            if finding.id not in [one.id for one in self.found[at]]:
                self.found[at].append(finding)

    def _is(self, finding: Finding, name: str) -> bool:
        if finding.id.startswith(name):
            return True
        origins = (self._origins.get(event, "") for event in finding.events)
        return any(origin == name or origin.endswith(f"/{name}") for origin in origins)


def _episode(engine: LinkEngine, finding: Finding) -> Episode | None:
    kinds = engine.latest(finding.asset)
    if finding.kind in kinds:
        return kinds[finding.kind]
    return next((one for one in engine.recent(finding.asset) if one.id == finding.id), None)
