"""Topic filters as of MQTT 3.1.1, section 4.7."""

from __future__ import annotations

import pytest

from correlator.sources import Route, Router, filter_problem, route, topic_matches


@pytest.mark.parametrize(
    ("filter", "topic", "fits"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "a/b/c", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/broker/load", False),
        ("+/broker/load", "$SYS/broker/load", False),
        ("$SYS/#", "$SYS/broker/load", True),
        ("a/b", "a/B", False),
        ("a//b", "a/b", False),
        ("a/+/c", "a/b b/c", True),
        ("a/#/c", "a/b/c", False),
        ("a+/b", "a+/b", False),
        ("", "a", False),
    ],
)
def test_a_filter_fits_a_topic(filter: str, topic: str, fits: bool) -> None:
    assert topic_matches(filter, topic) is fits
    assert (Router([Route(filter, "d", "s")]).route(topic) is not None) is fits


def test_the_first_route_that_fits_is_taken() -> None:
    routes = [
        Route("zigbee2mqtt/bridge/#", "zigbee2mqtt", "bridge"),
        Route("zigbee2mqtt/#", "zigbee2mqtt", "ward"),
        Route("+/send", "access", "badges"),
    ]
    router = Router(routes)
    for topic, source in (
        ("zigbee2mqtt/bridge/state", "bridge"),
        ("zigbee2mqtt/a/b", "ward"),
        ("ctl3/send", "badges"),
        ("ctl3/tag", None),
    ):
        for _ in range(2):
            found = router.route(topic)
            assert found == route(topic, routes)
            assert (found.source if found else None) == source


@pytest.mark.parametrize("filter", ["", "a/#/b", "a#", "a/b+", "a\0b"])
def test_a_faulty_filter_is_told(filter: str) -> None:
    assert filter_problem(filter)


def test_a_flood_of_topics_does_not_fill_memory() -> None:
    router = Router([Route("a/#", "d", "s")])
    for number in range(70_000):
        router.route(f"a/{number}")
    assert len(router._known) <= 65_536
