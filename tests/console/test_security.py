"""Who may what, and what protects the pages: every row of the table of routes, every header, every cookie."""

from __future__ import annotations

import http.client
import re
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import pytest
import yaml

from correlator.console.app import ROUTES, VERBS
from correlator.console.security import HEADERS, LoginRate
from correlator.console.users import ROLES, Sessions, User, Users, allows, password_problem
from correlator.errors import FaultyFile, UsageError
from tests.console.client import Browser
from tests.console.conftest import logged_in, until
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
THREAT = THREATS["combined"].id
GOOD_PASSWORD = "a lamp on the stairs"
FILLED = {
    "{threat}": THREAT,
    "{verb}": "note",
    "{event}": THREATS["combined"].members[0].id,
    "{site}": "h-test",
    "{rule}": "r1",
}


def address(path: str) -> str:
    for name, value in FILLED.items():
        path = path.replace(name, value)
    return path


PRIVATE = [page for page in ROUTES if page.role != "public"]
ROWS = [(page, role) for page in PRIVATE for role in ROLES if page.path != "/logout"]


@pytest.mark.parametrize(("page", "role"), ROWS, ids=[f"{p.method} {p.path} {r}" for p, r in ROWS])
def test_each_role_gets_what_the_table_says_and_nothing_else(page, role, browsers):
    browser = browsers[role]
    if page.path == "/events":
        assert allows(role, page.role)  # a stream has no end; it is read in the tests of live pages
        return
    if page.method == "GET":
        status = browser.get(address(page.path)).status
    else:
        status = browser.post(address(page.path), text="seen").status
    allowed = allows(role, page.role)
    assert (status == 403) is not allowed
    assert status in ((200, 303, 400, 404) if allowed else (403,))


@pytest.mark.parametrize("page", PRIVATE, ids=[f"{p.method} {p.path}" for p in PRIVATE])
def test_without_a_session_there_is_nothing(page, open_house):
    nobody = Browser(open_house.processes[""][1])
    answer = nobody.ask(page.method, address(page.path), {})
    assert answer.status in (303, 401)
    if answer.status == 303:
        assert answer.headers["location"].startswith("/login")
    assert THREATS["combined"].title not in answer.text


@pytest.mark.parametrize(
    "path", ["/", "/login", "/nothing", f"/threats/{THREAT}", "/export.csv", "/static/console.css"]
)
def test_every_answer_has_every_header(path, browsers):
    headers = browsers["analyst"].get(path).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert headers["cache-control"] == ("max-age=86400" if path.startswith("/static") else "no-store")


def test_numbers_are_for_this_machine_and_for_admins(browsers, open_house):
    nobody = Browser(open_house.processes[""][1])
    here = nobody.get("/metrics")
    assert here.status == 200
    assert "correlator_console_streams " in here.text
    elsewhere = {"X_Forwarded_For": "192.0.2.9"}
    assert nobody.get("/metrics", **elsewhere).status == 401
    told = {role: browsers[role].get("/metrics", **elsewhere).status for role in ("viewer", "analyst", "admin")}
    assert told == {"viewer": 403, "analyst": 403, "admin": 200}


def test_the_cookie_is_for_this_host_over_tls_and_not_for_scripts(open_house):
    (cookie,) = Browser(open_house.processes[""][1]).login("p-viewer").cookies
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert cookie.startswith("__Host-session=")
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)


def test_a_session_that_was_there_before_the_login_is_not_the_one_after_it(open_house):
    port = open_house.processes[""][1]
    planted = Browser(port, "planted-by-somebody")
    planted.login("p-viewer")
    assert planted.cookie != "planted-by-somebody"
    assert Browser(port, "planted-by-somebody").get("/").status == 303


def test_after_logout_the_cookie_is_worth_nothing(open_house):
    browser = Browser(open_house.processes[""][1])
    browser.login("p-viewer")
    assert browser.post("/logout").status == 303
    assert browser.get("/").status == 303


@pytest.mark.parametrize(
    ("headers", "csrf", "status"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, True, 403),
        ({"Sec_Fetch_Site": "same-site"}, True, 403),
        ({"Sec_Fetch_Site": "none"}, True, 403),
        ({}, False, 403),
        ({}, True, 303),
    ],
    ids=["another site", "a neighbour", "typed address", "no token", "our page"],
)
def test_only_our_own_pages_may_ask_for_changes(headers, csrf, status, browsers):
    browser = browsers["operator"]
    form = {"csrf": browser.csrf() if csrf else "", "text": "seen"}
    assert browser.ask("POST", f"/threats/{THREAT}/note", form, **headers).status == status


@pytest.mark.parametrize("page", [page for page in ROUTES if page.method == "GET"], ids=lambda page: page.path)
def test_looking_changes_nothing(page, browsers, open_house):
    if page.path == "/events":
        return
    before = (open_house.folder / "journal.db").stat().st_size, count(open_house)
    browsers["admin"].get(address(page.path))
    assert count(open_house) == before[1]


def count(house) -> int:
    import sqlite3

    with sqlite3.connect(house.folder / "journal.db") as db:
        (rows,) = db.execute("SELECT COUNT(*) FROM actions WHERE instr(body, '\"anchor\"') = 0").fetchone()
    db.close()
    return rows


def test_an_unknown_name_and_a_wrong_password_look_the_same(open_house):
    port = open_house.processes[""][1]
    answers = [Browser(port).login(name, "wrong password x") for name in ("p-viewer", "nobody-knows")]
    assert [one.status for one in answers] == [401, 401]
    assert answers[0].text == answers[1].text


def test_too_many_tries_are_refused_by_name_and_by_address():
    rate = LoginRate(tries=3)
    assert [rate.allowed("n", t) for t in (0, 1, 2, 3)] == [True, True, True, False]
    assert rate.allowed("m", 3)
    assert rate.allowed("n", 60_000)


@pytest.mark.parametrize("to", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_a_login_leads_to_no_other_host(to, open_house):
    answer = Browser(open_house.processes[""][1]).ask(
        "POST", "/login", {"name": "p-admin", "password": "correct horse battery", "to": to}
    )
    assert answer.headers["location"] == "/"


def test_a_refused_try_is_in_the_journal(browsers):
    browsers["viewer"].post(f"/threats/{THREAT}/assign")
    until(lambda: "a viewer may not assign" in browsers["analyst"].get("/journal").text)


def test_a_link_that_works_once_works_once(open_house):
    port = open_house.processes[""][1]
    assert 'value="once"' in Browser(port).get("/enter?key=once").text  # looking is not entering
    tries = [Browser(port).ask("POST", "/enter", {"key": key}).status for key in ("wrong", "once", "once")]
    assert tries == [403, 303, 403]


def test_a_form_that_is_too_large_is_refused(browsers):
    assert browsers["operator"].ask("POST", f"/threats/{THREAT}/note", {"text": "x" * 70_000}).status == 413


def test_a_form_that_does_not_say_how_large_it_is_is_refused_when_it_is_too_large(open_house):
    connection = http.client.HTTPConnection("127.0.0.1", open_house.processes[""][1], timeout=60)
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        connection.request("POST", "/login", iter([b"name=", *[b"x" * 10_000] * 7]), headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    finally:
        connection.close()


def test_a_form_of_more_values_than_anybody_fills_in_is_refused_with_a_page(browsers):
    answer = browsers["operator"].ask("POST", f"/threats/{THREAT}/note", {f"n{at}": "" for at in range(1_001)})
    assert (answer.status, answer.headers["content-type"]) == (413, "text/html; charset=utf-8")


def test_what_is_no_form_of_ours_is_refused(browsers):
    answer = browsers["operator"].ask("POST", f"/threats/{THREAT}/note", {}, Content_Type="multipart/form-data")
    assert answer.status == 415
    assert "not a form of the console" in answer.text


@pytest.mark.parametrize("number", ["²", "9" * 5_000, "-1", "0x1", ""])
def test_what_looks_like_a_number_is_none(number, browsers):
    person = browsers["operator"]
    assert person.post(f"/threats/{THREAT}/note", text="seen", seen=number).status == 303
    assert person.post(f"/threats/{THREAT}/shelve", reason="r", minutes=number).status == 303
    assert person.get("/?" + urlencode({"page": number})).status == 200
    assert person.ask("HEAD", "/events?" + urlencode({"after": number})).status == 200


def test_a_threat_of_a_site_whose_model_is_not_there_has_no_playbook(house):
    house.tell(msgspec.structs.replace(THREATS["combined"], site="h-away"))
    person = logged_in(house.start(), "analyst", "away")
    until(lambda: person.get(f"/threats/{THREAT}").status == 200)
    assert person.get(f"/threats/{THREAT}/playbook.json").status == 404


# ---- hostile texts -----------------------------------------------------------------------------


def test_what_a_device_is_called_harms_no_page(browsers):
    pages = ["/?all=1", f"/threats/{THREATS['hostile'].id}", f"/threats/{THREATS['hostile'].id}/print", "/handover"]
    for page in pages:
        text = browsers["analyst"].get(page).text
        assert "<script>alert" not in text
        assert "\u202e" not in text


def test_a_spreadsheet_runs_no_formula_of_the_export(browsers):
    text = browsers["analyst"].get("/export.csv?all=1").text
    cells = re.split(r"[,\r\n]", text)
    assert [cell for cell in cells if cell.lstrip('"')[:1] in ("=", "+", "-", "@")] == []


def test_a_search_for_anything_is_only_a_search(browsers):
    for text in ("%27%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "%25", "_", "%5C", "%00", "a" * 3_000):
        answer = browsers["viewer"].get(f"/?q={text}")
        assert answer.status == 200
        assert "<script>alert" not in answer.text


# ---- users -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("short", "12 characters"), ("aaaaaaaaaaaaaa", "first that anybody"), ("password1234", "first that anybody"),
        ("x" * 1_001, "at most"), ("correct horse battery", ""),
    ],
)  # fmt: skip
def test_poor_passwords_are_refused(password, problem):
    assert problem in password_problem(password)


def test_the_file_of_users_holds_no_password_and_is_for_its_owner_only(tmp_path):
    users = Users(tmp_path / "users.yaml")
    users.put(User("p-1", "operator", sites=("h1",)), "correct horse battery")
    text = (tmp_path / "users.yaml").read_text()
    assert "$argon2id$" in text
    assert "correct horse" not in text
    assert (tmp_path / "users.yaml").stat().st_mode & 0o077 == 0
    again = Users(tmp_path / "users.yaml").check("p-1", "correct horse battery")
    assert again is not None
    assert (again.role, again.sites) == ("operator", ("h1",))


def test_a_poor_password_changes_nothing(tmp_path):
    with pytest.raises(UsageError, match="12 characters"):
        Users(tmp_path / "users.yaml").put(User("p-1", "operator"), "short")
    assert not (tmp_path / "users.yaml").exists()


def test_every_fault_of_the_file_is_told_with_its_line(tmp_path):
    (tmp_path / "users.yaml").write_text("users:\n  - {name: a, role: boss}\n  - {role: viewer}\n")
    with pytest.raises(FaultyFile) as caught:
        Users(tmp_path / "users.yaml")
    assert [(fault.line, fault.message) for fault in caught.value.faults] == [
        (2, "role is one of viewer, operator, analyst, admin"), (3, "a user has name, role and password"),
    ]  # fmt: skip


def test_a_session_ends_by_idleness_by_age_and_by_order():
    sessions = Sessions(":memory:", idle_ms=2_000, longest_ms=5_000)
    user = User("p-1", "viewer")
    idle, old, ended = (sessions.begin(user, 0) for _ in range(3))
    assert sessions.find(idle, 2_001) is None
    for now_ms in range(0, 5_001, 1_200):
        assert (sessions.find(old, now_ms) is not None) is (now_ms <= 5_000)
    assert sessions.find(old, 5_001) is None
    sessions.end_all("p-1")
    assert sessions.find(ended, 1) is None


def page_of(house) -> tuple[Browser, int]:
    port = house.start()
    admin = Browser(port)
    assert admin.login("p-admin").status == 303
    return admin, port


def test_an_admin_adds_changes_and_removes_people_and_their_sessions_end(house):
    admin, port = page_of(house)
    assert (
        admin.post("/users", "/users", name="p-new", role="operator", password=GOOD_PASSWORD).headers["location"]
        == "/users"
    )
    new = Browser(port)
    assert new.login("p-new", GOOD_PASSWORD).status == 303
    assert new.get("/handover").status == 200
    admin.post("/users", "/users", name="p-new", role="viewer")  # the password stays
    assert new.get("/").headers["location"].startswith("/login")
    assert new.login("p-new", GOOD_PASSWORD).status == 303
    assert new.get("/handover").status == 403
    admin.post("/users", "/users", name="p-new", remove="1")
    assert new.get("/").status == 303
    assert new.login("p-new", GOOD_PASSWORD).status == 401


def test_nobody_locks_everybody_out(house):
    admin, _ = page_of(house)
    for form in ({"name": "p-admin", "role": "viewer"}, {"name": "p-admin", "remove": "1"}, {"name": "p-x", "role": "boss"},
                 {"name": "", "role": "viewer"}, {"name": "p-y", "role": "viewer", "password": "short"}):  # fmt: skip
        assert "refused=" in admin.post("/users", "/users", **form).headers["location"]
    assert admin.get("/users").status == 200


def test_what_is_changed_in_the_file_counts_at_once(house):
    _, port = page_of(house)
    operator = Browser(port)
    operator.login("p-operator")
    assert operator.get("/handover").status == 200
    Users(house.folder / "users.yaml").put(User("p-operator", "viewer"))
    assert operator.get("/handover").status == 303


def test_a_language_is_kept_for_the_next_login(house):
    _, port = page_of(house)
    person = Browser(port)
    person.login("p-viewer")
    person.post("/language", language="it", to="/")
    again = Browser(port)
    again.login("p-viewer")
    assert '<html lang="it">' in again.get("/").text


# ---- colours -----------------------------------------------------------------------------------


def colours() -> list[dict[str, str]]:
    """The variables of the style sheet, light and dark."""
    text = files("correlator.console").joinpath("static/console.css").read_text(encoding="utf-8")
    return [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL)]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, definition of contrast ratio."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_what_a_program_cannot_see_on_the_plan_has_enough_contrast(scheme):
    named = {**colours()[0], **colours()[scheme]}
    assert contrast(named["text"], named["room"]) >= 4.5
    assert contrast(named["soft"], named["back"]) >= 4.5
    for name in ("critical", "high", "medium", "low", "soft"):  # marks, outlines and signs
        assert contrast(named[name], named["room"]) >= 3, name


# ---- texts and vendored files ------------------------------------------------------------------


def test_every_text_of_the_templates_is_there_in_every_language():
    texts = yaml.safe_load(files("correlator.console").joinpath("texts/texts.yaml").read_text(encoding="utf-8"))
    missing = [
        (key, one) for key, said in texts.items() for one in ("en", "fr", "it") if not isinstance(said.get(one), str)
    ]
    used = set()
    for path in Path(str(files("correlator.console").joinpath("templates"))).glob("*.html"):
        used |= set(re.findall(r"\bt\('(\w+)'[,)]", path.read_text()))
    assert (missing, used - set(texts)) == ([], set())


def test_every_verb_has_a_role():
    assert set(VERBS.values()) <= set(ROLES)
