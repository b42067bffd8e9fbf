"""All forms and addresses with anything in them: the console answers, changes nothing by accident, and runs nothing."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from correlator.console.app import ROUTES, VERBS
from tests.console.conftest import logged_in
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
THREAT = THREATS["combined"].id
GOOD = (200, 303, 400, 403, 404, 413, 429)
# Names of fields as the pages have them, beside names of none.
NAMES = ["id", "seen", "text", "step", "done", "minutes", "reason", "verdict", "of", "to", "from", "kind", "site", "zone",
         "hours", "rule", "asset", "fields", "name", "role", "sites", "password", "remove", "language", "key", "event"]  # fmt: skip
NASTY = st.sampled_from([
    "<script>alert(1)</script>", "{{ 7*7 }}", "'; DROP TABLE threats; --", "\x00", "\u202eevil", "-1", "1e309", "nan",
    "9" * 400, "../../etc/passwd", "=1+1", "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    "h-test", "exception", "window", "true", "z-store", "admin", "%s%n", "a=b\nc=d", "\r\nSet-Cookie: x=y", "x" * 5_000,
])  # fmt: skip
VALUES = st.one_of(st.text(max_size=60), NASTY, st.integers().map(str), st.floats().map(str))
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=10), VALUES), max_size=8)
POSTS = [page for page in ROUTES if page.method == "POST" and page.name not in ("logout", "login")]
GETS = [page for page in ROUTES if page.method == "GET" and page.path != "/events"]
EVERY = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def filled(path: str, draw_value: str) -> str:
    known = {"{threat}": THREAT, "{event}": THREATS["combined"].members[0].id, "{verb}": "note"}
    for name, value in known.items():
        path = path.replace(name, value)
    return re.sub(r"\{\w+\}", quote(draw_value, safe="", errors="replace") or "x", path)


@pytest.fixture(scope="module")
def admin(open_house):
    return logged_in(open_house.processes[""][1], "admin", "fuzz")


@pytest.fixture(scope="module")
def token(admin):
    return admin.csrf("/declared")


def harmless(answer) -> None:
    assert answer.status in GOOD
    if "html" not in answer.headers.get("content-type", ""):
        return
    assert "<script>alert" not in answer.text
    assert "set-cookie" not in answer.headers or "x=y" not in answer.headers["set-cookie"]
    assert "\u202e" not in answer.text or 'value="' in answer.text  # what somebody typed stands in her own field only


@pytest.mark.parametrize("page", POSTS, ids=lambda page: page.path)
def test_a_form_takes_or_refuses_anything(page, admin, token):
    verbs = sorted(VERBS) if page.name == "act" else [""]

    @EVERY
    @given(FIELDS, VALUES, st.sampled_from(verbs))
    def every(fields, value, verb):
        path = filled(page.path.replace("{verb}", verb), value)
        body = {"csrf": token, **{name: text for name, text in fields if name != "csrf"}}
        harmless(admin.ask("POST", path, body))

    every()


@pytest.mark.parametrize("page", GETS, ids=lambda page: page.path)
def test_an_address_shows_something_or_nothing_whatever_stands_in_it(page, admin):
    @EVERY
    @given(st.lists(st.tuples(st.sampled_from(["q", "zone", "floor", "site", "severity", "all", "mine", "page", "refused",
                                               "rule", "asset", "fields", "hours", "reason", "to", "key"]), VALUES), max_size=5),
           VALUES)  # fmt: skip
    def every(query, value):
        harmless(admin.get(f"{filled(page.path, value)}?{urlencode(query, errors='replace')}"))

    every()


def test_a_device_with_a_name_of_a_megabyte_harms_no_page(house):
    long = "\u202e<script>alert(1)</script>" + "A" * 1_000_000
    one = THREATS["combined"]
    step = msgspec.structs.replace(
        one.steps[0], title=long, says=long, place_name=long, joined=long, asset=long[:500_000]
    )
    member = msgspec.structs.replace(one.members[0], said=long, place_name=long, origin=long)
    house.tell(msgspec.structs.replace(
        one, id="b" * 32, title=long, places=(long,), steps=(step, *one.steps[1:]), members=(member, *one.members[1:]),
        assets=(long[:500_000],),
    ))  # fmt: skip
    port = house.start()
    person = logged_in(port, "analyst")
    for path in (
        "/",
        "/handover",
        "/?all=1",
        f"/threats/{'b' * 32}",
        f"/threats/{'b' * 32}/print",
        "/export.csv",
        "/load",
    ):
        answer = person.get(path)
        assert answer.status == 200, path
        assert "<script>alert" not in answer.text or path == "/export.csv"  # text that no browser runs
        assert "\u202e" not in answer.text
        assert len(answer.text) < 300_000, path
