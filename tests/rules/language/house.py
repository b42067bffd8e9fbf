"""A house of three rooms in a row, written out by hand: outside | d-0 | hall | d-1 | pharmacy | d-2 | store."""

from __future__ import annotations

from collections.abc import Sequence

from correlator.events import Event

ROW = ["outside", "z-hall", "z-pharmacy", "z-store"]
ZONES = {
    "d-0": ("z-hall",), "d-1": ("z-hall", "z-pharmacy"), "d-2": ("z-pharmacy", "z-store"), "cam-1": ("z-hall",),
    "h-1": ("z-pharmacy",), "h-2": ("z-store",), **{zone: (zone,) for zone in ROW[1:]},
}  # fmt: skip
HOLDERS = {"b-1": "p-017", "b-2": "p-018", "acc-1": "p-017"}
OPENS_MS, CLOSES_MS = 1_000, 2_000  # the hall's hours, in the test's own time


class House:
    """Answers of the site model (`correlator.rules.places.Places`) for these rooms."""

    def resolve(self, kind: str, entity_id: str, t_ms: int) -> str:
        return entity_id if entity_id in ZONES or entity_id in HOLDERS else f"unknown:{kind}:{entity_id}"

    def zones_of(self, asset: str, t_ms: int) -> tuple[str, ...]:
        return ZONES.get(asset, ())

    def event_place(self, event: Event) -> str:
        for kind in ("host", "door", "camera", "zone"):
            if event.entity(kind) in ZONES:
                return event.entity(kind)
        return ""

    def person_of(self, kind: str, entity_id: str, t_ms: int) -> str | None:
        return entity_id if kind == "person" else HOLDERS.get(entity_id)

    def doors_between(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        return min(abs(ROW.index(a) - ROW.index(b)) for a in zones_a for b in zones_b)

    def walk_ms(self, zones_a: Sequence[str], zones_b: Sequence[str]) -> int | None:
        doors = self.doors_between(zones_a, zones_b)
        return None if doors is None else doors * 10_000

    def covers(self, camera: str, asset: str, t_ms: int) -> bool | None:
        return "z-hall" in self.zones_of(asset, t_ms) if camera == "cam-1" else None

    def reachable(self, host_a: str, host_b: str, t_ms: int) -> bool | None:
        return (host_a, host_b) == ("h-1", "h-2")

    def owns(self, person: str, kind: str, entity_id: str, t_ms: int) -> bool | None:
        return HOLDERS[entity_id] == person if entity_id in HOLDERS else None

    def presence(self, person: str, t_ms: int) -> tuple[str, float, int] | None:
        return {"p-017": ("z-pharmacy", 0.9, 100), "p-018": ("outside", 0.8, 5), "p-019": ("z-hall", 0.2, 9)}.get(
            person
        )

    def last_seen(self, kind: str, entity_id: str) -> tuple[str, int] | None:
        return ("z-hall", 500) if entity_id == "b-1" else None

    def unused_ms(self, kind: str, entity_id: str, t_ms: int) -> int | None:
        return {"b-1": 60_000, "b-2": 10}.get(entity_id)

    def working_hours(self, zone: str, t_ms: int) -> bool | None:
        return OPENS_MS <= t_ms < CLOSES_MS if zone == "z-hall" else None

    def restricted(self, asset: str, t_ms: int) -> bool | None:
        return "z-pharmacy" in ZONES[asset] if asset in ZONES else None

    def validity(self, kind: str, entity_id: str, t_ms: int) -> str:
        return {"b-1": "valid", "b-2": "expired"}.get(entity_id, "unknown")

    def in_window(self, event: Event) -> bool:
        return event.time_ms >= CLOSES_MS

    def floor_of(self, asset: str, t_ms: int) -> str:
        return "f-1" if asset in ZONES else ""

    def building_of(self, asset: str, t_ms: int) -> str:
        return "main" if asset in ZONES else ""
