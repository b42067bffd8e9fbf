"""Each threat reaches somebody, and one can ask who and why."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from correlator.notifier.routes import Situation, choose, quiet_until_ms, situation, within
from correlator.notifier.settings import Times
from tests.notifier.cases import T0, made

ROME = ZoneInfo("Europe/Rome")
TREE = {
    "receivers": ["desk"],
    "routes": [
        {"match": {"zones": ["z-store"], "severity": "high"}, "receivers": ["manager"], "goes_on": True},
        {
            "match": {"domains": ["cyber"]},
            "receivers": ["it"],
            "routes": [{"match": {"times": [{"from": "20:00", "to": "06:00"}]}, "receivers": ["desk"]}],
        },
        {"match": {"services": ["s-dispensing"]}, "receivers": ["manager"]},
    ],
}


def some(severity="high", zones=("z-store",), domains=("physical",), services=()) -> Situation:
    return Situation(
        severity, "h-test", frozenset(zones), frozenset(services), frozenset(domains), frozenset({"forced-entry"})
    )


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("one", "at", "told"),
    [
        (some(severity="low"), "2026-10-20T12:00+02:00", {"desk": "the default route"}),
        (some(), "2026-10-20T12:00+02:00", {"manager": "severity high and zone z-store"}),
        (some(domains=("cyber",), zones=()), "2026-10-20T12:00+02:00", {"it": "domain cyber"}),
        (some(domains=("cyber",), zones=()), "2026-10-20T23:00+02:00", {"desk": "domain cyber > at Tue 23:00"}),
        (
            some(domains=("cyber",)), "2026-10-20T12:00+02:00",
            {"manager": "severity high and zone z-store", "it": "domain cyber"},
        ),
        (some(zones=(), services=("s-dispensing",)), "2026-10-20T12:00+02:00", {"manager": "service s-dispensing"}),
    ],
)  # fmt: skip
def test_the_tree_tells_who_and_why(one, at, told):
    assert {item.receiver: item.why for item in choose(made(routes=TREE), one, ms(at), ROME)} == told


GUARDS = [
    {"name": "desk", "url": "json://a/"},
    {"name": "early", "url": "json://a/", "role": "guard", "duty": [{"from": "06:00", "to": "14:00"}]},
    {"name": "late", "url": "json://a/", "role": "guard", "duty": [{"from": "14:00", "to": "22:00"}]},
    {"name": "town", "url": "json://a/", "outside": True},
]


@pytest.mark.parametrize(
    ("at", "told"),
    [("07:00", ["desk", "early"]), ("15:00", ["desk", "late"]), ("23:00", ["desk", "early", "late"])],
    ids=["one shift", "the other", "nobody on duty: all of them"],
)
def test_a_role_is_whoever_has_it_and_is_on_duty(at, told):
    settings = made(receivers=GUARDS, routes={"receivers": ["desk"], "roles": ["guard"]})
    assert [item.receiver for item in choose(settings, some(), ms(f"2026-10-20T{at}+02:00"), ROME)] == told


def test_a_drill_is_told_to_nobody_outside():
    settings = made(receivers=GUARDS, routes={"receivers": ["desk", "town"]})
    drill = msgspec.structs.replace(some(), drill=True)
    assert [[item.receiver for item in choose(settings, one, T0, ROME)] for one in (some(), drill)] == [
        ["desk", "town"], ["desk"],
    ]  # fmt: skip


def test_the_situation_of_a_threat_names_its_zones(threat, places):
    assert situation(threat, places).zones == {"z-store", "z-corridor"}


@given(
    st.sampled_from(["informational", "low", "medium", "high", "critical"]),
    st.sets(st.sampled_from(["cyber", "physical", "building"]), min_size=1),
    st.sets(st.sampled_from(["z-store", "z-ward3"])),
    st.integers(0, 7 * 86_400_000),
)
def test_each_threat_reaches_somebody(severity, domains, zones, later_ms):
    one = some(severity, tuple(zones), tuple(domains))
    assert choose(made(routes=TREE), one, T0 + later_ms, ROME) != []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"routes": {"receivers": []}}, "no default"),
        ({"routes": {"receivers": ["desk"], "match": {"severity": "high"}}}, "default route and matches everything"),
        ({"routes": {"receivers": ["nobody"]}}, "no receiver is called nobody"),
        ({"escalation": [{"after_min": 5, "receivers": ["nobody"]}]}, "no receiver is called nobody"),
        ({"routes": {"receivers": ["desk"], "roles": ["guard"]}}, "no receiver has the role guard"),
        ({"escalation": [{"after_min": 5}]}, "an escalation step needs receivers or roles"),
        ({"summary": {"receivers": ["nobody"]}}, "no receiver is called nobody"),
        ({"receivers": [{"name": "desk"}]}, "needs either url or url_file"),
        ({"receivers": [{"name": "desk", "url": "json://a"}] * 2}, "two receivers are called desk"),
        ({"routes": {"receivers": ["desk"], "routes": [{"match": {"times": [{"from": "25:00"}]}}]}}, "25:00"),
    ],
)
def test_a_tree_that_would_lose_threats_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        made(**changes)


NIGHT = Times.model_validate({"from": "22:00", "to": "06:00"})


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-10-20T21:59+02:00", "2026-10-20T21:59+02:00"),
        ("2026-10-20T22:00+02:00", "2026-10-21T06:00+02:00"),
        ("2026-10-24T23:00+02:00", "2026-10-25T06:00+01:00"),  # the clock goes back: an hour longer
        ("2026-03-28T23:00+01:00", "2026-03-29T06:00+02:00"),  # and forward: an hour shorter
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(at, until):
    assert quiet_until_ms((NIGHT,), ms(at), ROME) == ms(until)


def test_two_to_four_lasts_three_hours_when_the_clock_goes_back():
    span = Times.model_validate({"from": "02:00", "to": "04:00"})
    minutes = [ms("2026-10-25T00:00+02:00") + minute * 60_000 for minute in range(8 * 60)]
    held = [t for t in minutes if within(span, datetime.fromtimestamp(t / 1000, ROME))]
    assert len(held) == 180


def test_a_night_belongs_to_the_day_on_which_it_begins():
    friday = Times.model_validate({"days": ["fri"], "from": "22:00", "to": "06:00"})
    at = [datetime(2026, 10, day, hour, tzinfo=ROME) for day, hour in ((23, 23), (24, 5), (24, 23), (23, 5))]
    assert [within(friday, one) for one in at] == [True, True, False, False]
