"""Ten thousand open threats of twenty sites, 200 new ones a minute: every page works and hears of each.
How quick that is, `python -m benchmarks.console` says."""

from __future__ import annotations

import threading

import msgspec
import pytest

from tests.console.conftest import logged_in
from tests.console.crowd import crowd, made

pytestmark = pytest.mark.xdist_group("console")
COUNT, PAGES = 10_000, 20


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    house = crowd(tmp_path_factory.mktemp("crowded"), COUNT)
    yield house
    house.kill()


def test_every_open_threat_counts_and_every_page_of_the_list_can_be_reached(crowded, page):
    shown = page("viewer", at=crowded.processes[""][1])
    assert "(10000)" in shown.inner_text("#list-title").replace(",", "")
    assert shown.locator(".threat").count() == 100
    shown.click("text=Next page")
    shown.wait_for_selector("text=101 - 200 / 10000")
    shown.goto(f"http://localhost:{crowded.processes[''][1]}/?page=99")
    assert shown.locator(".threat").count() == 100


@pytest.mark.parametrize("path", ["/", "/?q=store", "/?page=50&severity=low", "/handover", "/load"])
def test_every_kind_of_list_is_made_of_them(crowded, path):
    assert logged_in(crowded.processes[""][1], "analyst").get(path).status == 200


def test_what_people_type_and_choose_stays_while_new_threats_come_to_every_page(crowded, page):
    shown = [page("viewer", at=crowded.processes[""][1]) for _ in range(PAGES)]
    first = shown[0]
    stop = threading.Event()

    def tell() -> None:
        number = COUNT
        while not stop.wait(0.3):
            crowded.tell(made(number))
            number += 1

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        first.focus("#q")
        first.keyboard.type("pharmacy", delay=20)
        first.check("[name=mine]")
        for number in range(4):
            newest = made(6)
            name = f"{COUNT + 500_000 + number:032x}"
            crowded.tell(msgspec.structs.replace(newest, id=name, decided_ms=newest.decided_ms + 10**9 + number))
            for one in shown:
                one.wait_for_selector(f"#t-{name}")
        assert first.input_value("#q") == "pharmacy"
        assert first.is_checked("[name=mine]")
    finally:
        stop.set()
        teller.join()
