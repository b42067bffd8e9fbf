"""A source speaks for the devices that the site file lists for it; for another's it is found out."""

from __future__ import annotations

import pytest

from correlator.events.event import Entity, Event, StateValue
from correlator.matching import Engine, Record
from correlator.premises.load import read_site
from correlator.premises.premises import Premises
from correlator.rulepack import PACK
from correlator.rules.load import load_rules

SITE = """
site: {id: h1, name: Test hospital, timezone: UTC}
floors:
  - id: f0
    zones: [{id: z-a}, {id: z-b}]
    doors: [{id: d-1, between: [z-a, z-b]}, {id: d-2, between: [z-a, z-b]}]
assets:
  - {id: s-1, class: sensor, zone: z-a}
  - {id: s-2, class: sensor, zone: z-a}
  - {id: cam-1, class: camera, zone: z-a}
sources:
  - {name: zigbee, reliability: 0.9, assets: [s-1, s-2]}
  - {name: badges, reliability: 0.9, assets: [d-1]}
  - {name: anything, reliability: 0.5}
"""


def places() -> Premises:
    site, faults = read_site(SITE, "site.yaml")
    assert site is not None, faults
    return Premises(site)


def event(source: str, entity: Entity, kind: str = "motion.detected", at: int = 1_772_000_000_000, **more) -> Event:
    return Event(
        id=f"{at:032x}", site="h1", source=source, dialect="test", kind=kind, time_ms=at, received_ms=at,
        entities=(entity,), **more,
    )  # fmt: skip


CASES = [
    ("its own sensor", "zigbee", Entity("observer", "sensor", "s-1"), False),
    ("another's camera", "zigbee", Entity("observer", "camera", "cam-1"), True),
    ("a sensor that the site does not know", "zigbee", Entity("observer", "sensor", "s-99"), False),
    ("a place is no device", "zigbee", Entity("where", "zone", "z-b"), False),
    ("a door, from a source that lists no doors", "zigbee", Entity("where", "door", "d-1"), False),
    ("its own door", "badges", Entity("where", "door", "d-1"), False),
    ("another door", "badges", Entity("where", "door", "d-2"), True),
    ("a source without a list", "anything", Entity("observer", "camera", "cam-1"), False),
    ("a source the site file does not name", "new", Entity("observer", "camera", "cam-1"), False),
]


@pytest.mark.parametrize(("case", "source", "entity", "foreign"), CASES, ids=[case[0] for case in CASES])
def test_a_source_speaks_for(case, source, entity, foreign):
    found = places().foreign(event(source, entity))
    assert (found is not None) == foreign
    if found is not None:
        assert (found.kind, found.source, found.attributes["claimed"]) == ("source.foreign", source, entity.id)
        assert places().foreign(found) is None


def test_one_match_a_device_and_hour_however_often_it_is_repeated_and_even_if_the_first_value_is_a_seed():
    engine = Engine("h1", load_rules([PACK]).rules, places())
    camera = Entity("observer", "camera", "cam-1")
    events = []
    for n in range(50):
        state = StateValue("camera", "cam-1", "motion", "on" if n % 2 else "off")
        events.append(event("zigbee", camera, at=1_772_000_000_000 + n * 1000, state=state))
    outputs = [engine.receive(Record(events=part, input="i")) for part in (events[:1], events[1:])]
    outputs.append(engine.finish(1_772_000_000_000 + 4_000_000))
    titles = {match.id: match.title for one in outputs for match in one.matches}
    assert list(titles.values()) == ["Source publishes for a device that is not its own"]
