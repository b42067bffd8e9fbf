"""`correlator explain --why-not FINDING FINDING`: why two findings are not linked.

What was folded is folded again, from a replay's events or from a carrier's log, and the link is weighed at
the moment the later finding is about to be placed, from the state that linking then had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo

import msgspec

from correlator.clock import local
from correlator.errors import UsageError
from correlator.events.event import Event
from correlator.events.threat import Finding
from correlator.linking.engine import Episode, LinkEngine
from correlator.linking.linker import GraphLinker, item_of
from correlator.linking.whynot import refusal
from correlator.matching import Record
from correlator.run.log import LogRecord
from correlator.run.pipeline import Pipeline
from correlator.run.relog import LogReader, own_part
from correlator.run.site_engine import SiteEngine

RECORD_EVENTS = 500


def explain_pair(
    pipeline: Pipeline, events: Sequence[Event], until_ms: int, first: str, second: str, zone: tzinfo
) -> Iterator[str]:
    """Why the later of two findings does not follow from the earlier. pipeline: fresh, linking over the graph.

    first, second: id of a finding or its beginning, or the origin of one of its messages, in any order.
    Raises UsageError where a name means no finding.
    """
    asked = _Asked((first, second))
    asked.listen(pipeline)
    asked.note(events)
    for start in range(0, len(events), RECORD_EVENTS):
        pipeline.receive(Record(events=list(events[start : start + RECORD_EVENTS])))
    pipeline.finish(until_ms)
    yield from asked.answer(pipeline, zone, "this replay")


def explain_pair_in_log(reader: LogReader, site: str, first: str, second: str) -> Iterator[str]:
    """As `explain_pair`, from a carrier's log, folded from the first record that it still has.

    site: "" for the only one. first, second: also the carrier's position of a message ("log:17",
    "raw.suricata/0:4"). Raises UsageError, BodyMissing.
    """
    asked = _Asked((first, second))
    bodies = dict(reader.bodies())
    engine: SiteEngine | None = None
    listened: Pipeline | None = None
    begins = ""
    for position, record in reader.read():
        begins = begins or position
        own, site = own_part(record, site)
        if own is None:
            continue
        if engine is None:
            engine = SiteEngine(site, bodies)
            if not begins.endswith(":0"):  # the first configuration may be gone with what was before
                yield f"the log begins at {begins}: how often things happened before that does not count here"
                given = own.configuration or reader.in_force().get(site)
                own = msgspec.structs.replace(own, configuration=given)
        if own.configuration is not None:  # taken first, so that its linker is listened to from the first event on
            engine.receive(LogRecord(site=site, configuration=own.configuration))
            own = msgspec.structs.replace(own, configuration=None)
        if engine.pipeline is not listened and engine.pipeline is not None:
            listened = engine.pipeline
            asked.listen(listened)
        asked.note(own.events)
        engine.receive(own)
    if engine is None:
        raise UsageError("the log holds nothing of that site")
    if listened is None:
        raise UsageError("the log holds no configuration of the site; without one nothing was decided")
    yield from asked.answer(listened, listened.places.timezone, "what this log holds")


class _Asked:
    """Listens to findings until both that were asked for have come, and then weighs their link."""

    def __init__(self, names: tuple[str, str]) -> None:
        self.names = names
        self.found: tuple[list[Finding], list[Finding]] = ([], [])
        self.told: list[str] = []
        self._events: tuple[set[str], set[str]] = (set(), set())  # of the messages that a name means

    def listen(self, pipeline: Pipeline) -> None:
        """Listens to what this pipeline places over the site graph."""
        linker = pipeline.book.linker
        if isinstance(linker, GraphLinker):
            linker.watch = self.look

    def note(self, events: Iterable[Event]) -> None:
        """Called with events before they are folded."""
        for event in events:
            for name, its in zip(self.names, self._events, strict=True):
                if name in (event.origin, event.raw) or event.origin.endswith(f"/{name}"):
                    its.add(event.id)

    def look(self, engine: LinkEngine, finding: Finding) -> None:
        """Called before a finding is placed."""
        mine = [at for at, name in enumerate(self.names) if self._is(finding, at, name)]
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

    def answer(self, pipeline: Pipeline, zone: tzinfo, of: str) -> Iterator[str]:
        """The two findings, and why they are not linked. Raises UsageError where a name means no finding."""
        linker = pipeline.book.linker
        if not isinstance(linker, GraphLinker):
            raise UsageError(f"{of} was not linked over the site graph")
        for name, found in zip(self.names, self.found, strict=True):
            if not found:
                raise UsageError(f"{name!r} is no finding of {of}: neither a notable event nor a match on an asset")
        every = sorted({one.id: one for found in self.found for one in found}.values(), key=lambda one: one.t_ms)
        for finding in every:
            place = linker.engine.ground.describe(finding.asset)
            yield f"{local(finding.t_ms, zone):%d %b %H:%M:%S}  {finding.title} on {place}"
        together = {linker.threat_of(found[0].id) for found in self.found}
        if len(together) == 1 and None not in together:
            yield f"both are in the threat {together.pop()[:12]}"  # type: ignore[index]
        yield from self.told or ["they are one episode, or one finding"]

    def _is(self, finding: Finding, at: int, name: str) -> bool:
        return finding.id.startswith(name) or not self._events[at].isdisjoint(finding.events)


def _episode(engine: LinkEngine, finding: Finding) -> Episode | None:
    kinds = engine.latest(finding.asset)
    if finding.kind in kinds:
        return kinds[finding.kind]
    return next((one for one in engine.recent(finding.asset) if one.id == finding.id), None)
