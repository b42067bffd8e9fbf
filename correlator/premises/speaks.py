"""Which source may speak for which device: a source that publishes for another's is not believed silently.

`sources:` of the site file lists the assets a source speaks for; one without a list may speak for all.
Looked at is who observed (sensor, camera, device, reader) and, where a source lists doors or readers, the
door or reader an event is about. Devices that the site does not know are told elsewhere (`site unknown`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from correlator.events.event import Entity, Event
from correlator.events.ids import digest
from correlator.premises.graph import SiteGraph
from correlator.premises.model import Site

FOREIGN: Final = "source.foreign"
_DEVICES: Final = frozenset({"sensor", "camera", "device", "reader", "door"})
_AT_DOORS: Final = frozenset({"door", "reader"})

Resolve = Callable[[str, str, int], str]  # (entity kind, id, time ms UTC) -> asset, "unknown:..." if it leads nowhere


class Speakers:
    """The sources of a site that have a list."""

    __slots__ = ("_at_doors", "_lists")

    def __init__(self, site: Site, graph: SiteGraph) -> None:
        self._lists = {note.name: frozenset(note.assets) for note in site.sources.values() if note.assets}
        self._at_doors = frozenset(
            name
            for name, assets in self._lists.items()
            if any(graph.nodes[one].asset_class in _AT_DOORS for one in assets)
        )

    def foreign(self, event: Event, resolve: Resolve) -> Event | None:
        """The event that tells so when a source speaks for a known device that is not on its list, else None."""
        own = self._lists.get(event.source)
        if own is None or event.kind == FOREIGN:
            return None
        for entity in event.entities:
            if entity.kind not in _DEVICES or not self._spoken_for(entity, event.source):
                continue
            asset = resolve(entity.kind, entity.id, event.time_ms)
            if asset not in own and not asset.startswith("unknown:"):
                return _told(event, entity, asset)
        return None

    def _spoken_for(self, entity: Entity, source: str) -> bool:
        return entity.role == "observer" or (entity.role == "where" and source in self._at_doors)


def _told(event: Event, entity: Entity, asset: str) -> Event:
    return Event(
        id=digest(event.id, FOREIGN, asset),
        site=event.site,
        source=event.source,
        dialect=event.dialect,
        kind=FOREIGN,
        time_ms=event.time_ms,
        received_ms=event.received_ms,
        sub_ns=event.sub_ns,
        seq=event.seq,
        entities=(Entity("target", entity.kind, entity.id),),
        carried={"claimed": asset, "said": event.kind},
        summary=f"{event.source} published {event.kind} for {asset}, which it does not speak for",
        time_quality=event.time_quality,
        origin=event.origin,
        raw=event.raw,
        late_ms=event.late_ms,
    )
