"""People work on threats: what they press is in the journal, and every replica shows the same."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import threading
import time

import msgspec
import pytest

from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from tests.console.client import Browser
from tests.console.conftest import until
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
THREAT = THREATS["combined"]
PAGE = f"/threats/{THREAT.id}"


@pytest.fixture
def two(house):
    """Two replicas on one journal, an operator at one and an analyst at the other."""
    house.tell(THREAT)
    ports = [house.start("a"), house.start("b")]
    browsers = [Browser(port) for port in ports]
    browsers[0].login("p-operator")
    browsers[1].login("p-analyst")
    return browsers


def test_two_people_press_at_once_on_two_replicas_and_one_has_it(two):
    answers: list[str] = []

    def press(browser: Browser) -> None:
        answers.append(browser.post(f"{PAGE}/assign", PAGE, id=f"x{id(browser)}", seen="0").headers["location"])

    threads = [threading.Thread(target=press, args=(browser,)) for browser in two]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [one for one in answers if "refused=already+taken+by" in one]
    assert len(refused) == 1
    shown = {"(p-operator)" if "(p-operator)" in browser.get(PAGE).text else "(p-analyst)" for browser in two}
    assert len(shown) == 1


def test_what_is_pressed_twice_counts_once(two):
    for _ in range(3):
        two[0].post(f"{PAGE}/note", PAGE, id="same", text="looked at it")
    assert two[0].get(PAGE).text.count("<p>looked at it</p>") == 1


def test_a_step_that_is_ticked_is_ticked_everywhere_within_two_seconds(two):
    two[0].post(f"{PAGE}/step", PAGE, id="s1", step="guard", done="1")
    until(lambda: "done by p-operator" in two[1].get(PAGE).text, 2.0)


def test_closing_with_a_mandatory_step_open_asks_for_a_reason(two):
    refused = two[0].post(f"{PAGE}/close", PAGE, id="c1", verdict="true", seen="0").headers["location"]
    assert "mandatory+steps+are+open" in refused
    done = (
        two[0].post(f"{PAGE}/close", PAGE, id="c2", verdict="true", seen="0", reason="nobody there").headers["location"]
    )
    assert done == PAGE
    until(lambda: THREAT.id not in two[1].get("/").text, 2.0)
    assert THREAT.id in two[1].get("/?all=1").text


def test_list_and_plan_never_differ(house):
    ids = [f"{n:032x}" for n in range(5)]
    house.tell(
        *(msgspec.structs.replace(THREAT, id=one, severity="critical" if one == ids[0] else "high") for one in ids)
    )
    browser = Browser(house.start())
    browser.login("p-viewer")
    text = browser.get("/").text
    assert text.count('class="threat ') == 5
    assert 'aria-label="Pharmacy store: critical threat open"' in text
    assert 'aria-label="Ward 3: nothing open"' in text


def test_what_is_on_the_shelf_says_until_when(two):
    two[0].post(f"{PAGE}/shelve", PAGE, id="h1", minutes="60", reason="known")
    until(lambda: "shelved until" in two[1].get("/").text, 2.0)
    assert "known" in two[1].get("/declared").text


def test_the_incoming_person_confirms_and_has_it(two):
    two[0].post(f"{PAGE}/assign", PAGE, id="t1", seen="0")
    until(lambda: "(p-operator)" in two[1].get(PAGE).text, 2.0)
    two[1].post("/handover", "/handover", id="o1", **{"from": "p-operator"})
    until(lambda: "(p-analyst)" in two[0].get(PAGE).text, 2.0)
    told = two[1].get("/journal").text
    assert re.search(r"<td>p-analyst</td><td>handover <span[^<]*from p-operator<", told)


def test_the_language_of_a_person_is_that_of_her_pages(two):
    two[0].post("/language", language="fr", to="/")
    assert '<html lang="fr">' in two[0].get("/").text
    assert "Menaces ouvertes" in two[0].get("/").text
    assert '<html lang="it">' in Browser(two[1].port).get("/login", Accept_Language="it-CH,it;q=0.9").text


def test_a_playbook_and_a_warning_can_be_taken_along(two):
    assert json.loads(two[1].get(f"{PAGE}/playbook.json").text)["spec_version"] == "cacao-2.0"
    assert "<status>Draft</status>" in two[1].get(f"{PAGE}/warning.xml").text


def test_a_public_warning_leaves_only_when_somebody_with_that_right_lets_it_go(house):
    house.tell(THREAT)
    port = house.start()
    analyst, admin = Browser(port), Browser(port)
    analyst.login("p-analyst")
    admin.login("p-admin")
    page = f"{PAGE}/warning"
    assert "&lt;status&gt;Draft" in analyst.get(page).text
    assert 'name="addresses"' not in analyst.get(page).text
    assert "may+not+let" in analyst.post(page, page, id="w0", reason="gas", seen="0").headers["location"]
    assert "needs+a+reason" in admin.post(page, page, id="w1", reason="", seen="0").headers["location"]
    assert admin.post(page, page, id="w2", reason="gas in the street", seen="0").headers["location"] == page
    assert "gas in the street (p-admin)" in analyst.get(page).text
    assert "changed+in+the+meantime" in admin.post(page, page, id="w3", reason="again", seen="0").headers["location"]
    assert admin.post(page, page, id="w4", reason="all clear", seen="1", kind="Cancel").headers["location"] == page
    acts = [act for _, act in SqliteJournal(house.folder / "journal.db").read(-1) if act.verb == "warn"]
    assert [act.args["kind"] for act in acts if act.args["reason"] in ("gas in the street", "all clear")] == [
        "Alert", "Cancel",
    ]  # fmt: skip
    assert "<status>Actual</status>" in acts[-1].args["xml"]


def test_killed_at_any_point_the_replicas_agree_with_a_view_built_anew(house):
    """Presses while a console is killed and started again; what was answered is in the journal."""
    house.tell(THREAT)
    dice = random.Random(7)
    port = house.start("a")
    browser = Browser(port)
    browser.login("p-operator")
    answered = []
    for n in range(40):
        if n in (9, 21, 33):
            house.kill("a")
            house.start("a", port)
            browser = Browser(port, browser.cookie)
        verb = dice.choice(["note", "step", "assign", "release"])
        form = {"text": f"note {n}", "step": dice.choice("abc"), "done": dice.choice("01")}
        if browser.post(f"{PAGE}/{verb}", PAGE, id=f"n{n}", **form).status == 303:
            answered.append(n)
    assert len(answered) == 40
    house.kill("a")
    fresh = View(":memory:")
    with fresh.batch():
        fresh.add_threat(THREAT)
        for position, act in SqliteJournal(house.folder / "journal.db").read(-1):
            fresh.add_act(act, position)
    assert View(house.folder / "viewa.db").digest() == fresh.digest()


def test_when_the_journal_cannot_be_written_nothing_is_pretended(two, house):
    lock = sqlite3.connect(house.folder / "journal.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        answer = two[0].post(f"{PAGE}/ack", PAGE, id="k1")
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert answer.status == 503
    assert "Not recorded" in answer.text
    assert "nobody yet" in two[0].get(PAGE).text


def test_whoever_is_removed_loses_the_stream_too(house):
    port = house.start()
    browser, admin = Browser(port), Browser(port)
    browser.login("p-viewer")
    admin.login("p-admin")
    ended = threading.Event()

    def read() -> None:
        browser.get("/events")
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    time.sleep(0.5)
    assert not ended.is_set()
    admin.post("/users", "/users", name="p-viewer", remove="1")
    assert ended.wait(12)  # at the next beat


def test_it_stops_at_once_with_a_stream_open(house):
    port = house.start()
    browser = Browser(port)
    browser.login("p-viewer")
    reader = threading.Thread(target=lambda: browser.get("/events"), daemon=True)
    reader.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert house.stop() == 0
    assert time.monotonic() - began < 5
