"""A few of the outages that `make chaos` repeats 20 times: nothing is lost, and what comes twice is marked."""

from __future__ import annotations

import pytest

from tests.chaos.bridge import OUTAGES, run_outage


@pytest.mark.parametrize("outage", sorted(OUTAGES))
def test_nothing_is_lost_while_500_messages_a_second_flow(outage, kafka, mosquitto, topics, unique, tmp_path):
    topics("raw.mqtt")
    topics("rejects")
    result = run_outage(outage, kafka, mosquitto, unique, tmp_path, seed=7)
    assert result.lost == 0
    assert result.rate_per_s >= 500
    assert result.unflagged == 0
    assert result.in_order
