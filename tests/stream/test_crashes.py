"""A few kills of each kind; `python -m tests.stream.chaos` does twenty and prints the table of docs/reliability.md."""

from __future__ import annotations

import pytest

from tests.stream.chaos import KINDS, expected, run


@pytest.fixture(scope="module")
def wanted():
    return expected("vaccine-theft", 2_500)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_mid_stream_nothing_is_lost_and_nothing_told_twice(kind, kafka, unique, tmp_path, wanted):
    result = run(kafka.bootstrap, unique, tmp_path, kind, wanted, seed=len(kind))
    assert result.good(), result
    assert result.kills
