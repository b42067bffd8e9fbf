"""The soaks of `make soak`, in small: what they hold is held here too, and they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import flood, messages, weeks
from tests.stream.house import House


def test_a_flood_of_fresh_keys_does_not_push_a_slow_attack_out(tmp_path: Path) -> None:
    assert flood.run(tmp_path, keys=300, groups=300) == 0


def test_ten_weeks_of_an_embedded_site_level_off(tmp_path: Path) -> None:
    assert weeks.run(tmp_path / "log.sqlite3", messages=120, keep_days=14) == 0


@pytest.mark.xdist_group("stream")
def test_broken_messages_are_each_found_by_their_reason_and_no_good_one_is_lost(kafka, unique, tmp_path) -> None:
    house = House(kafka.bootstrap, unique, tmp_path, trust=True)
    try:
        assert messages.run(house, 3_000) == 0
    finally:
        house.stop()
