"""The console's OpenAPI document says what the console does: it is made from the table of routes, handlers read nothing
that it does not describe, and Schemathesis asks everything that it describes, as everybody.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import textwrap
import time
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from correlator import console
from correlator.console import app, openapi, pages
from correlator.console.app import PLACES, ROUTES, VERBS, Console
from correlator.console.security import COOKIE, HEADERS
from correlator.console.users import ROLES, Sessions, User, allows
from correlator.rulepack import PACK
from correlator.rules.load import load_rules
from tests.console.client import Browser
from tests.console.conftest import House
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
FILE = Path(__file__).parents[2] / "schemas" / openapi.PATH
PAGES = {f"{page.method} {page.path}": page for page in ROUTES}

# ---- the document --------------------------------------------------------------------------------


def test_the_file_is_what_the_code_says():
    assert FILE.read_text(encoding="utf-8") == openapi.document_text(), "run `make schemas`"


def test_the_document_has_the_routes_of_the_table_and_no_others():
    told = {f"{method.upper()} {path}" for path, said in openapi.document()["paths"].items() for method in said}
    assert told == set(PAGES)
    assert len(PAGES) == len(ROUTES)


def test_the_application_answers_on_the_routes_of_the_table_and_on_static_files():
    made = object.__new__(Console)
    routes = made.application().routes
    served = {f"{method} {route.path}" for route in routes for method in getattr(route, "methods", None) or ("STATIC",)}
    assert {one for one in served if not one.startswith("HEAD ")} == {*PAGES, "STATIC /static"}


@pytest.mark.parametrize("page", ROUTES, ids=lambda page: page.name)
def test_an_operation_describes_its_path_its_fields_its_role_and_its_refusals(page):
    said = openapi.document()["paths"][page.path][page.method.lower()]
    told = {(one["in"], one["name"]) for one in said.get("parameters", ())}
    fields = {one.name for one in page.takes}
    query = fields if page.method == "GET" else set()
    assert told == {("path", name) for name in page.places} | {("query", name) for name in query}
    assert len(fields) == len(page.takes)
    if page.method == "POST":
        (form,) = said["requestBody"]["content"].values()
        token = {"csrf"} if page.role != "public" else set()
        assert set(form["schema"]["properties"]) == fields | token
        assert token <= set(form["schema"].get("required", ()))
    assert said.get("x-role", "public") == page.role
    assert said["summary"]
    assert {int(status) for status in said["responses"]} == set(page.may_answer)


def test_every_name_of_a_path_is_described():
    assert {name for page in ROUTES for name in page.places} == set(PLACES)


# ---- handlers read what is described -------------------------------------------------------------

RAW = {"query_params", "path_params", "form", "multi_items", "getlist", "body", "stream", "json"}
READERS = {"text", "texts", "number"}


def called(node: ast.AST) -> set[str]:
    """Names of functions that are given the request, or its reader."""
    return {
        one.func.attr if isinstance(one.func, ast.Attribute) else ast.unparse(one.func)
        for one in ast.walk(node)
        if isinstance(one, ast.Call) and {"request", "request.text"} & {ast.unparse(given) for given in one.args}
    }


def reads(node: ast.AST) -> set[str]:
    """Names given to `request.text("...")` and its like, also where `text` was handed over."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            name = one.func.attr if isinstance(one.func, ast.Attribute) else getattr(one.func, "id", "")
            if name in READERS and one.args and isinstance(one.args[0], ast.Constant):
                found.add(one.args[0].value)
    return found


def functions() -> dict[str, ast.AST]:
    """Functions and methods of the modules that read requests, by name."""
    trees = [ast.parse(inspect.getsource(module)) for module in (app, pages)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]
    # A name may be there twice (`Console.page`, `pages.threat`): the one that reads requests counts.
    return {node.name: node for node in sorted(found, key=lambda node: bool(reads(node)))}


def read_by(name: str, known: dict[str, ast.AST]) -> set[str]:
    """Everything that a handler reads, itself or by what it calls of the same modules."""
    handler = ast.parse(textwrap.dedent(inspect.getsource(getattr(Console, name))))
    found, seen, ahead = reads(handler), {name}, called(handler)
    while ahead:
        one = ahead.pop()
        if one in known and one not in seen:
            seen.add(one)
            found |= reads(known[one])
            ahead |= called(known[one])
    return found


@pytest.mark.parametrize("page", ROUTES, ids=lambda page: page.name)
def test_a_handler_reads_what_its_page_describes_and_nothing_else(page):
    assert read_by(page.name, functions()) == {one.name for one in page.takes}


def test_requests_are_read_in_one_module_only():
    found = []
    for file in sorted(Path(console.__file__).parent.glob("*.py")):
        if file.name != "forms.py":
            tree = ast.parse(file.read_bytes())
            found += [
                f"{file.name}:{node.lineno}: {node.attr}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and node.attr in RAW and ast.unparse(node.value).endswith("request")
            ]
    assert found == []


# ---- Schemathesis --------------------------------------------------------------------------------

# An endless stream: no answer of it is whole. tests/console/test_feeds.py and test_browser.py read it.
ENDLESS = "GET /events"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
          response_schema_conformance]  # fmt: skip
HOSTILE = '\'"><x-hostile onfocus="h0stile">{{ 7*7 }}'
COMBINED = THREATS["combined"]
AWAY = msgspec.structs.replace(COMBINED, id="t-away", site="h-away")  # of a site whose model is not there
RULES = PACK / "badges.yml"
# Values of things that are there, for names in paths and of fields.
KNOWN = {
    "threat": [COMBINED.id, THREATS["hostile"].id, AWAY.id],
    "event": [COMBINED.members[0].id],
    "verb": list(VERBS),
    "site": ["h-test"],
    "rule": sorted(pages.rules_of(load_rules([RULES])))[:1],
}
THERE = {"site": "h-test", "rule": KNOWN["rule"][0], "zone": ["z-store"], "asset": "d-store", "hours": "2", "kind": "exception",
         "seen": "0", "verdict": "true", "minutes": "60"}  # fmt: skip
PEOPLE = ("", *ROLES)  # "": nobody is logged in


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("openapi"))
    house.tell(*THREATS.values(), AWAY)
    shutil.copy(RULES, house.folder / "rules.yml")
    yield house.start(), Sessions(house.folder / "sessions.db", 30 * 60_000, 12 * 3_600_000)
    for replica in list(house.processes):
        house.kill(replica)


@pytest.fixture(scope="module")
def described():
    schema = schemathesis.openapi.from_path(FILE, config=schemathesis.Config())
    schema.config.generation.update(with_security_parameters=False, deterministic=True)
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


def cases(operation, page):
    """What the document allows, and what it does not, about things that are there and about others."""
    places = [st.none()] + [st.fixed_dictionaries({name: st.sampled_from(KNOWN[name]) for name in page.places})] * 2
    modes = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    return st.tuples(modes, st.one_of(places) if page.places else st.none()).flatmap(
        lambda one: operation.as_strategy(one[0], path_parameters=one[1])
    )


def logged_in(sessions: Sessions, role: str) -> tuple[dict[str, str], str]:
    """(cookie, token of its forms) of a new session; logging in as people do is slow, and counted."""
    if not role:
        return {}, ""
    now_ms = time.time_ns() // 1_000_000
    cookie = sessions.begin(User(f"p-{role}", role), now_ms)
    return {COOKIE: cookie}, sessions.find(cookie, now_ms).csrf


def filled(case, page, token: str, hostile: bool, there: bool) -> None:
    """Puts the session's token into a form, hostile text where text may be anything, and names of what is there."""
    values = case.body if page.method == "POST" else case.query
    if not isinstance(values, dict):
        return
    if hostile:
        values |= {one.name: HOSTILE for one in page.takes if not one.one_of and not one.many and one.least is None}
    if there:
        values |= {one.name: THERE[one.name] for one in page.takes if one.name in THERE}
    if page.method == "POST" and page.role != "public":
        values["csrf"] = token


def patiently(ask):
    """An answer, asked for again where an action is in the journal and only the page is late: two seconds for that are
    short on a busy machine, and the same form again is the same action."""
    for _ in range(5):
        answer = ask()
        if "Recorded, but not seen yet" not in answer.text:
            break
    return answer


def examine(response, page, role: str) -> None:
    """What holds of every answer, whatever was asked."""
    headers = {name: ", ".join(values) for name, values in response.headers.items()}
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert headers["cache-control"] == "no-store"
    if "json" not in headers.get("content-type", ""):
        assert "<x-hostile" not in response.text
        assert 'onfocus="h0stile' not in response.text
    assert not headers.get("location", "/").startswith(("//", "http"))
    if page.role == "public":
        return
    if not role:
        assert response.status_code in (303, 401)
        assert response.status_code == 401 or headers["location"].startswith("/login?")
    elif not allows(role, page.role):
        assert response.status_code == 403
    else:
        assert response.status_code != 401


@pytest.mark.parametrize("role", PEOPLE, ids=lambda role: role or "nobody")
@pytest.mark.parametrize("label", [label for label in PAGES if label != ENDLESS])
def test_every_answer_is_one_that_the_document_tells(label, role, described, port):
    at, sessions = port
    page, operation = PAGES[label], described[label]
    login = logged_in(sessions, role)

    @settings(max_examples=8, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=cases(operation, page), hostile=st.booleans(), there=st.booleans())
    def ask(case, hostile, there):
        cookies, token = logged_in(sessions, role) if page.name == "logout" else login
        filled(case, page, token, hostile, there)
        headers = {"Sec-Fetch-Site": "same-origin"} if page.method == "POST" else {}
        how = {"cookies": cookies, "headers": headers, "allow_redirects": False, "timeout": 60}
        response = patiently(partial(case.call, f"http://127.0.0.1:{at}", **how))
        case.validate_response(response, checks=CHECKS)
        examine(response, page, role)

    ask()


def test_hostile_text_that_is_kept_is_escaped_wherever_it_is_shown(port):
    at, sessions = port
    login, token = logged_in(sessions, "admin")
    person = Browser(at, login[COOKIE])
    window = {"site": "h-test", "kind": "window", "zone": "z-store", "hours": "2", "reason": HOSTILE}
    for path, form in ((f"/threats/{COMBINED.id}/note", {"text": HOSTILE}), ("/declared", window)):
        send = partial(person.ask, "POST", path, {"csrf": token, "id": path, **form})
        assert patiently(send).status == 303
    shown = {}
    for page in ROUTES:
        if page.method == "GET" and f"GET {page.path}" != ENDLESS:
            path = page.path.format_map({name: values[0] for name, values in KNOWN.items()})
            answer = person.get(path + "?" + urlencode({one.name: HOSTILE for one in page.takes}))
            shown[page.name] = answer.text if "json" not in answer.headers.get("content-type", "") else ""
    assert [name for name, text in shown.items() if "<x-hostile" in text or 'onfocus="h0stile' in text] == []
    for name in ("threat", "threat_fragment", "journal_page", "declared_page", "handover_page"):
        assert "&lt;x-hostile" in shown[name], name
