"""What a book keeps is bounded: a flood of notable events drops the oldest that no threat holds, and says so."""

from __future__ import annotations

import msgspec
import pytest

from correlator.clock import SECOND_MS
from correlator.threats import book

from .test_decisions import House, opened
from .test_exceptions import T


def flood(restart_every: int) -> tuple[House, list[bytes]]:
    house = House()
    threat = opened(house)
    for n in range(300):
        house.refused("d-2", T + 3_600_000 + n * 700 * SECOND_MS)  # too far apart to be an episode
        if restart_every and n % restart_every == 0:
            house.restart()
    house.act("close", T + 3_600_000 + 301 * 700 * SECOND_MS, threat=threat, verdict="true")
    house.until(T + 3_600_000 + 400 * 700 * SECOND_MS)
    return house, [msgspec.json.encode(one) for one in (*house.told, *house.matches)]


@pytest.mark.parametrize("restart_every", [0, 7])
def test_a_flood_of_notable_events_drops_the_oldest_and_keeps_what_a_threat_holds(monkeypatch, restart_every):
    undisturbed = flood(0)[1]
    monkeypatch.setattr(book, "MAX_KEPT", 40)
    house, told = flood(restart_every)
    kept = house.line.book
    assert len(kept._evidence) <= 55
    assert len(kept._findings) <= 55
    assert house.line.counters()["evidence_dropped"] > 100
    assert house.line.counters()["evidence_missing"] == 0, "no threat lost a proof"
    assert told == undisturbed
