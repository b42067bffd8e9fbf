"""Why a finding was not linked to an earlier one, in words, from the state linking had."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from correlator.linking import state
from correlator.linking.whynot import refusal

_spec = importlib.util.spec_from_file_location("ward", Path(__file__).parent / "ward.py")
assert _spec is not None and _spec.loader is not None
ward = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ward)

AT = ward.evening(5)


@pytest.fixture(scope="module")
def learned():
    """State after five ordinary days in which a logon fails on one PC fourteen times a day."""
    noisy = [ward.item("host.logon_failed", "a-pc-0", ward.START_MS + at * 103 * MINUTE_MS) for at in range(81)]
    before = [one for one in ward.ordinary(3, 6) if one.t_ms < AT]
    return state.snapshot(ward.fold(ward.engine(), [*before, *(one for one in noisy if one.t_ms < AT)]))


def asked(learned, kind, asset, delay_ms=4 * MINUTE_MS):
    of = ward.engine(from_ms=0)
    state.restore(of, learned)
    first = of.place(ward.item("door.forced", "a-door-0", AT))
    return "\n".join(refusal(of, first.episode, ward.item(kind, asset, AT + delay_ms)))


def test_without_a_path_it_says_from_where_to_where(learned):
    text = asked(learned, "usb.attached", "b-pc-3")
    assert text.startswith("no path from door")
    assert "b-pc-3" in text
    assert "0.004" in text


def test_what_is_common_there_is_the_worst_term_and_is_told_by_the_day(learned):
    text = asked(learned, "host.logon_failed", "a-pc-0")
    assert "14 times a day" in text
    assert "(worst)" in next(line for line in text.splitlines() if "14 times a day" in line)


def test_beyond_the_horizon_it_says_so(learned):
    assert "nothing links beyond 24 h" in asked(learned, "service.installed", "a-pc-0", DAY_MS + HOUR_MS)


def test_x_is_the_sum_of_the_terms_that_are_shown(learned):
    first, *rest = asked(learned, "temperature.high", "a-sensor-0", 3 * HOUR_MS).splitlines()
    shown = sum(float(line.split()[0]) for line in rest if line.startswith("  "))
    assert float(first.split()[2].rstrip(",")) == pytest.approx(shown, abs=0.3)
