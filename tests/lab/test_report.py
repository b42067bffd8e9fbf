"""A replay's report is one page that needs nothing else, says what was found, and is harmed by no device's name."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from correlator.cli.main import main
from correlator.errors import UsageError
from correlator.events.threat import Evidence, Impact, ImpactStep, Step
from correlator.lab.drawings import joined_to, layout, ordered
from correlator.lab.report import render, report, scores
from correlator.outputs.reading import newest
from correlator.premises import load_site
from correlator.run.expect import Expectation, ExpectedThreat, Member
from tests.notifier.cases import HERE, THREATS

ABOUT = {"name": "a <b>day</b>", "zone": "Europe/Rome", "counts": {"messages": 12, "events": 10, "rejects": 0}}
VALMORA = Path(__file__).parents[2] / "scenarios/vaccine-theft/site.yaml"


@pytest.fixture(scope="module")
def places():
    return load_site(HERE / "site.yaml")


class Seen(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_a_page_loads_nothing_and_runs_nothing_whatever_devices_are_called(places):
    huge = msgspec.structs.replace(
        THREATS["hostile"], id="f" * 32, title="x" * 1_000_000,
        impact=(Impact(asset="<img src=x>", place_name="\u202e<script>" * 9_999, threat_type="theft", likelihood=0.5,
                       p10_ms=1, p50_ms=2, p90_ms=3, path=(ImpactStep(asset="<i>", place_name='"><script>', threat_type="theft", step=1.0, likelihood=1.0),)),),
    )  # fmt: skip
    page = render([*THREATS.values(), huge], places, ABOUT, None)
    seen = Seen(page)
    assert seen.tags & {"script", "img", "link", "iframe", "object", "a", "i", "b"} == {"b"}  # b: our own figures
    assert [one for one in seen.names if one.startswith("on") or one in ("src", "href", "srcset")] == []
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "default-src 'none'" in page
    assert "\u202e" not in page
    assert len(page) < 200_000
    assert "<script>alert(1)</script>" in seen.text  # as text it stays what it was


def test_what_was_expected_is_compared_with_what_was_found(places):
    members = tuple(
        Evidence(id=f"{n:032x}", time_ms=n, kind="door.forced", source="s", said="forced", origin=f"in.ndjson:{n}")
        for n in (1, 2, 9)
    )
    found = msgspec.structs.replace(THREATS["combined"], members=members)
    wanted = ExpectedThreat("theft", tuple(Member(f"in.ndjson:{n}") for n in (1, 2, 3)))
    nowhere = ExpectedThreat("fire", (Member("in.ndjson:5"),))
    first, second = scores(Expectation((wanted, nowhere)), [found])
    assert (first.hit, first.missed, first.extra) == (2, ("in.ndjson:3",), ("in.ndjson:9",))
    assert (round(first.recall, 3), round(first.precision, 3)) == (0.667, 0.667)
    assert (second.severity, second.recall) == ("", 0.0)
    text = Seen(render([found], places, ABOUT, Expectation((wanted, nowhere)))).text
    assert "theft high 2 of 3 0.667 0.667 in.ndjson:3 in.ndjson:9" in text
    assert "expected threat 'fire' was not found" in text


def test_a_quiet_day_says_so(places):
    text = Seen(render([], places, ABOUT, Expectation())).text
    assert "Silence was expected. All expectations hold. No threat was found." in text


def steps(*told) -> list[Step]:
    made = [
        Step(finding=str(n), rule="", title=title, says="", level="low", t_ms=n, joined=joined, place_name=place,
             events=events)
        for n, (title, events, place, joined) in enumerate(told)
    ]  # fmt: skip
    return ordered(msgspec.structs.replace(THREATS["combined"], steps=tuple(made)))


def test_a_link_leads_to_the_step_that_the_reason_names():
    told = steps(
        ("Mail", ("a",), "account", "opened it"),
        ("Alert", ("b",), "server", 'shares 1 event with "Scan"'),
        ("Scan", ("a", "b"), "desk", 'shares 1 event with "Mail"'),
        ("Smoke", ("c",), "pharmacy", "follows: what a rule found at server: something that unusual"),
        ("Water", ("d",), "cellar", "opened it"),
    )
    assert [joined_to(told, n) for n in range(5)] == [(2, True), (2, True), (0, True), (1, False), None]


def test_a_floor_without_outlines_is_laid_out_with_every_room_once_and_none_over_another():
    known = load_site(VALMORA).site
    zones = {id: dataclasses.replace(zone, outline=()) for id, zone in known.zones.items()}
    for floor in known.floors:
        rooms = layout(floor, SimpleNamespace(site=SimpleNamespace(zones=zones, doors=known.doors)))
        assert set(rooms) == {id for id, zone in zones.items() if zone.floor == floor}
        boxes = [(x0, y0, x1, y1) for (x0, y0), _, (x1, y1), _ in (room.outline for room in rooms.values())]
        for n, (ax0, ay0, ax1, ay1) in enumerate(boxes):
            for bx0, by0, bx1, by1 in boxes[n + 1 :]:
                assert min(ax1, bx1) - max(ax0, bx0) <= 0.01 or min(ay1, by1) - max(ay0, by0) <= 0.01


def test_replay_writes_the_report_and_says_where(tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["replay", "contractor-window", "--out", str(out)]) in (0, 1)
    assert f"report to open in a browser: {out / 'report.html'}" in capfd.readouterr().err
    assert "contractor-window" in (out / "report.html").read_text()


def test_a_folder_without_a_replay_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match="holds no replay"):
        report(tmp_path)
    (tmp_path / "t.ndjson").write_text("{}\n")
    with pytest.raises(UsageError, match=r"t\.ndjson:1: not a threat"):
        newest(tmp_path / "t.ndjson")
