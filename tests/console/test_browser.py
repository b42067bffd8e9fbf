"""The pages in a real browser: live, by keyboard, on a phone, for everybody."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from correlator.config.secure import Authority
from correlator.lab.brokers import free_port
from tests.console.conftest import ROOT, faults_of, until
from tests.console.house import PASSWORD
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
THREAT = THREATS["combined"]

PAGES = [
    "/",
    f"/threats/{THREAT.id}",
    f"/threats/{THREATS['hostile'].id}",
    f"/threats/{THREAT.id}/evidence/{THREAT.members[0].id}",
    f"/threats/{THREAT.id}/warning",
    "/handover",
    "/declared",
    "/exception?site=h-test&rule=r1&asset=d-store&reason=known",
    "/sources",
    "/rules",
    "/rules?message=inputs/access.ndjson:7",
    "/apart?first=a",
    "/load",
    "/journal",
    "/users",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_breaks_a_rule_of_wcag_that_a_program_can_check(page, path, scheme):
    shown = page("admin", path, color_scheme=scheme)
    assert faults_of(shown) == []


@pytest.mark.parametrize("path", PAGES[:2])
def test_with_forced_colours_nothing_breaks_either(page, path):
    shown = page("analyst", path, forced_colors="active")
    assert faults_of(shown) == []
    assert shown.locator("h1").is_visible()


@pytest.mark.parametrize("path", PAGES)
def test_at_320_pixels_nothing_scrolls_sideways(page, path):
    shown = page("admin", path, viewport={"width": 320, "height": 640})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("path", PAGES[:2])
def test_everything_to_press_is_at_least_24_pixels(page, path):
    shown = page("analyst", path, viewport={"width": 390, "height": 844})
    small = shown.evaluate(
        """() => [...document.querySelectorAll('button, input:not([type=hidden]), select, summary, nav a')]
            .filter(e => e.offsetParent !== null)
            .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
            .filter(([, r]) => r.width < 24 || r.height < 24).map(([html]) => html)"""
    )
    assert small == []


def test_the_first_screen_of_a_phone_says_where_what_and_what_to_do_and_nothing_technical(page):
    shown = page("operator", f"/threats/{THREAT.id}", viewport={"width": 390, "height": 844})
    visible = shown.evaluate(
        """() => [...document.querySelectorAll('main h1, main p, main li, main h2')]
            .filter(e => e.getBoundingClientRect().top < innerHeight && e.offsetParent !== null)
            .map(e => e.innerText).join('\\n')"""
    )
    for expected in ("high", "Pharmacy store", "25.10. 00:14", "Send two guards to the place"):
        assert expected in visible
    for technical in ("10.9.0.2", "usb-after-entry", THREAT.id, "b2b2b2b2", "inputs/access"):
        assert technical not in visible


def test_acknowledged_by_keyboard_and_seen_by_others_without_reload(house, page):
    house.tell(THREAT)
    ports = [house.start("a"), house.start("b")]
    mine, other = (page("operator", f"/threats/{THREAT.id}", at=port) for port in ports)
    mine.focus("text=Acknowledge")
    mine.keyboard.press("Enter")
    mine.wait_for_selector("text=acknowledged (p-operator)")
    other.wait_for_selector("text=acknowledged (p-operator)", timeout=5_000)


def test_a_new_threat_comes_to_every_open_page_by_itself(house, page):
    port = house.start()
    shown = [page("viewer", at=port) for _ in range(6)]
    for one in shown:
        one.wait_for_selector("text=Nothing is open.")
    house.tell(THREAT)
    for one in shown:
        one.wait_for_selector(".threat.high")
    assert shown[0].locator('svg a[aria-label="Pharmacy store: high threat open"]').count() == 1


def test_twelve_open_pages_of_one_browser_are_all_live_over_tls(house, chromium):
    certificate, key = Authority.new().issue("localhost", ["localhost"])
    for name, content in (("c.pem", certificate), ("k.pem", key)):
        (house.folder / name).write_bytes(content)
    settings = {"certificate": str(house.folder / "c.pem"), "key": str(house.folder / "k.pem")}
    (house.folder / "console.json").write_text(json.dumps(settings))
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.console.house", str(house.folder), str(port)], cwd=ROOT)
    house.processes[""] = (process, port)
    until(lambda: answers(port), 60)
    context = chromium.new_context(ignore_https_errors=True)
    try:
        first = context.new_page()
        first.goto(f"https://localhost:{port}/login")
        first.fill("#name", "p-viewer")
        first.fill("#password", PASSWORD)
        first.click("form button")
        first.wait_for_selector("text=Nothing is open.")
        pages = [first, *(context.new_page() for _ in range(11))]
        for one in pages[1:]:
            one.goto(f"https://localhost:{port}/", timeout=15_000)
        spoken = first.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        house.tell(THREAT)
        for one in pages:
            one.wait_for_selector(".threat.high", timeout=10_000)
        assert spoken == "h2"
    finally:
        context.close()


def answers(port: int) -> bool:
    """Whether something speaks TLS at a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as plain:
            ssl._create_unverified_context().wrap_socket(plain).close()
    except OSError:
        return False
    return True


def test_the_page_says_when_it_is_not_live_and_catches_up_without_reload(house, page):
    house.tell(THREAT)
    port = house.start()
    shown = page("viewer", at=port)
    house.kill()
    shown.wait_for_selector("#stale:not([hidden])", timeout=18_000)
    assert "Not live" in shown.inner_text("#stale")
    house.tell(msgspec.structs.replace(THREAT, id="f" * 32))
    house.start("", port)
    shown.wait_for_selector(f'.threat a[href="/threats/{"f" * 32}"]', timeout=30_000)
    shown.wait_for_selector("#stale", state="hidden", timeout=15_000)


def test_without_script_pages_are_complete(page):
    shown = page("operator", script=False)
    assert shown.locator(".threat").count() >= 2
    shown.click(".threat a")
    shown.fill("#note", "written without script")
    shown.click("form[action$=note] button")
    assert shown.locator("blockquote", has_text="written without script").count() == 1


def test_whoever_logs_out_sees_nothing_more(page):
    shown = page("viewer", "/declared", person="leaving")
    shown.click("header summary")
    shown.click("text=Log out")
    shown.wait_for_selector("#password")
    shown.goto(shown.url.rpartition("/")[0] + "/declared")
    assert shown.locator("#password").count() == 1
    assert shown.locator("header summary").count() == 0


def test_what_somebody_is_writing_is_not_lost_when_somebody_else_acts(house, page):
    house.tell(THREAT)
    port = house.start()
    mine = page("operator", f"/threats/{THREAT.id}", at=port)
    mine.click("#details summary")
    mine.fill("#note", "half a sent")
    other = page("analyst", f"/threats/{THREAT.id}", at=port)
    other.click("text=Take over")
    mine.wait_for_selector("text=taken (p-analyst)", timeout=5_000)
    assert mine.input_value("#note") == "half a sent"
    assert mine.locator("#details").get_attribute("open") is not None
    mine.focus("#note")
    mine.keyboard.press("End")
    mine.keyboard.type("ence")
    assert mine.input_value("#note") == "half a sentence"


def test_a_threat_given_to_somebody_is_theirs(house, page):
    house.tell(THREAT)
    shown = page("operator", f"/threats/{THREAT.id}", at=house.start())
    shown.select_option("#to", "p-analyst")
    shown.click("form:has(#to) button")
    shown.wait_for_selector("text=taken (p-analyst)")


def test_from_the_link_in_a_message_to_the_acknowledgement_is_one_tap_after_the_login(house, page):
    house.tell(THREAT)
    port = house.start()
    shown = page("operator", "/login", at=port, viewport={"width": 390, "height": 844}, has_touch=True)
    shown.context.clear_cookies()
    shown.goto(f"http://localhost:{port}/threats/{THREAT.id}")
    shown.fill("#name", "p-operator")
    shown.fill("#password", PASSWORD)
    shown.tap("form button")
    shown.wait_for_selector("text=Acknowledge")
    assert shown.url.endswith(f"/threats/{THREAT.id}")
    box = shown.locator("text=Acknowledge").bounding_box()
    assert box["y"] + box["height"] < 844
    shown.tap("text=Acknowledge")
    shown.wait_for_selector("text=acknowledged (p-operator)")


def test_on_a_phone_the_list_stands_before_the_plan_and_each_page_begins_at_its_top(page):
    shown = page("analyst", viewport={"width": 390, "height": 844})
    assert shown.evaluate("scrollY") == 0
    at = [shown.locator(one).bounding_box()["y"] for one in (".threats", ".frame")]
    assert at == sorted(at)
    shown.goto(shown.url + "journal")
    assert shown.evaluate("scrollY") == 0
    here = shown.locator("header [aria-current]").bounding_box()
    assert here["x"] >= 0
    assert here["x"] + here["width"] <= shown.locator("header .me").bounding_box()["x"]


def test_the_address_holds_what_is_looked_for(page):
    shown = page("analyst")
    shown.fill("#q", "store")
    shown.select_option("#severity", "high")
    shown.click(".ask button")
    told = shown.locator("#overview").inner_text()
    assert "q=store" in shown.url
    assert "severity=high" in shown.url
    other = page("analyst", "/" + shown.url.split("/", 3)[3])
    assert other.locator("#overview").inner_text() == told
    assert other.input_value("#q") == "store"
    assert "severity=high" in other.get_attribute("text=CSV", "href")


def test_the_printed_card_has_boxes_the_way_it_may_go_and_who_printed_it(page):
    text = page("operator", f"/threats/{THREAT.id}/print").locator("article").inner_text()
    assert text.count("☐") + text.count("☑") >= 3
    assert "p-operator" in text
    assert "How likely" in text or not THREAT.impact
    for hit in THREAT.impact[:1]:
        assert hit.place_name in text


def test_the_card_prints_on_two_pages_at_most(page, tmp_path):
    shown = page("operator", f"/threats/{THREAT.id}/print")
    shown.emulate_media(media="print")
    body = shown.pdf(format="A4")
    assert 1 <= body.count(b"/Type /Page\n") + body.count(b"/Type /Page ") + body.count(b"/Type /Page/") <= 2
    assert shown.locator("button:visible").count() == 0


def test_what_is_shown_to_people_who_listen_is_what_it_was(house, page):
    house.tell(*THREATS.values())
    shown = page("operator", at=house.start())
    told = shown.locator("#overview").aria_snapshot()
    golden = Path(__file__).parent / "overview.aria.yaml"
    assert told + "\n" == golden.read_text()


# ---- the plan, larger -----------------------------------------------------------------------------

LARGE = """() => { const f = document.querySelector('.frame'), d = f.firstElementChild.getBoundingClientRect();
    return [d.width / f.clientWidth, f.scrollLeft, f.scrollTop]; }"""


def pinch(page, device, box, start: float, end: float) -> None:
    """Two fingers on the middle of a box, from `start` pixels apart to `end`."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for number in range(11):
        half = (start + (end - start) * number / 10) / 2
        points = [{"x": x - half, "y": y, "id": 1}, {"x": x + half, "y": y, "id": 2}]
        device.send(
            "Input.dispatchTouchEvent", {"type": "touchMove" if number else "touchStart", "touchPoints": points}
        )
    device.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_the_plan_grows_by_button_and_key_and_moves_by_arrows_and_mouse(page):
    shown = page("viewer", viewport={"width": 1280, "height": 900})
    shown.click('button[aria-label="Larger"]')
    shown.focus(".frame")
    for _ in range(5):
        shown.keyboard.press("+")
    size, left, _ = shown.evaluate(LARGE)
    assert size == pytest.approx(1.25**6, rel=0.02)
    assert left > 0
    shown.keyboard.press("ArrowLeft")
    shown.wait_for_function(f"() => document.querySelector('.frame').scrollLeft <= {left - 39}")
    box = shown.locator(".frame").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = shown.evaluate(LARGE)
    shown.mouse.move(x, y)
    shown.mouse.down()
    shown.mouse.move(x - 60, y - 20, steps=4)
    shown.mouse.up()
    after = shown.evaluate(LARGE)
    assert (after[1] - before[1], after[2] - before[2]) == pytest.approx((60, 20), abs=2)
    assert "zone=" not in shown.url  # a plan that is moved opens no room
    shown.click("text=Whole floor")
    assert shown.evaluate(LARGE)[0] <= 1


def test_two_fingers_make_the_plan_larger_and_smaller_until_it_fits(page):
    shown = page("viewer", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    device = shown.context.new_cdp_session(shown)
    shown.locator(".frame").scroll_into_view_if_needed()
    before = shown.evaluate(LARGE)[0]
    pinch(shown, device, shown.locator(".frame").bounding_box(), 60, 180)
    assert shown.evaluate(LARGE)[0] == pytest.approx(3 * before, rel=0.05)
    for _ in range(4):
        pinch(shown, device, shown.locator(".frame").bounding_box(), 200, 50)
    assert shown.evaluate(LARGE)[0] == pytest.approx(1, abs=0.02)
    assert shown.evaluate("visualViewport.scale") == 1
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_was_made_larger_stays_so_when_the_page_changes_and_a_focused_room_is_seen(house, page):
    port = house.start()
    shown = page("viewer", at=port, viewport={"width": 1280, "height": 900})
    shown.focus(".frame")
    for _ in range(7):
        shown.keyboard.press("+")
    before = shown.evaluate(LARGE)
    house.tell(THREAT)
    shown.wait_for_selector('svg a[aria-label="Pharmacy store: high threat open"]')
    assert shown.evaluate(LARGE) == before
    for _ in range(shown.locator("svg.plan a").count()):
        shown.keyboard.press("Tab")
        seen = shown.evaluate("""() => { const r = document.activeElement.getBoundingClientRect(),
            f = document.querySelector('.frame').getBoundingClientRect();
            return r.right > f.left && r.left < f.right && r.bottom > f.top && r.top < f.bottom; }""")
        assert seen


def test_without_script_there_is_nothing_to_press_that_does_nothing(page):
    assert page("viewer", script=False).locator(".zoom").is_hidden()
