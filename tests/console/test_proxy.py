"""Login by headers of a proxy: they count from the proxy's address and from nowhere else."""

from __future__ import annotations

import http.client
import json

import pytest
from pydantic import ValidationError

from correlator.console.settings import ProxySettings
from tests.console.client import Answer, Browser
from tests.console.conftest import House
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
PROXY, OTHER = "127.0.0.5", "127.0.0.6"
GUARD = [("X-Forwarded-User", "p-77"), ("X-Forwarded-Groups", "kitchen, guards")]
ANALYST = [("X-Forwarded-User", "p-77"), ("X-Forwarded-Groups", "soc")]


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("proxy"))
    house.tell(*THREATS.values())
    settings = {"addresses": [f"{PROXY}/32", "2001:db8::/64"], "roles": {"guards": "operator", "soc": "analyst"}}
    (house.folder / "console.json").write_text(json.dumps({"proxy": settings}))
    yield house.start()
    house.kill()


def asked(port: int, headers, *, of: str = PROXY, path: str = "/", cookie: str = "") -> Answer:
    """A GET whose connection comes from an address, with headers as they are, twice if given twice."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(of, 0))
    try:
        connection.putrequest("GET", path)
        for name, value in [*headers, *([("Cookie", cookie)] if cookie else [])]:
            connection.putheader(name, value)
        connection.endheaders()
        return Answer(connection.getresponse())
    finally:
        connection.close()


def entered(port: int, headers) -> str:
    """The cookie of somebody whom the proxy sends."""
    answer = asked(port, headers, path="/?zone=z-store")
    assert (answer.status, answer.headers["location"]) == (303, "/?zone=z-store")
    (cookie,) = answer.cookies
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
    return cookie.partition(";")[0]


def nobody(answer: Answer) -> bool:
    return answer.status == 303 and answer.headers["location"].startswith("/login?") and not answer.cookies


def test_whom_the_proxy_sends_has_the_role_of_the_groups_and_stands_in_the_journal(port):
    cookie = entered(port, GUARD)
    assert "p-77" in asked(port, GUARD, cookie=cookie).text
    assert asked(port, GUARD, path="/handover", cookie=cookie).status == 200
    assert asked(port, GUARD, path="/journal", cookie=cookie).status == 403
    admin = Browser(port)
    assert admin.login("p-admin").status == 303  # people of the file log in as ever
    assert "p-77" in admin.get("/journal").text


SPOOFED = {
    "another address": (GUARD, OTHER),
    "this machine": (GUARD, "127.0.0.1"),
    "an address in a header": ([*GUARD, ("X-Forwarded-For", PROXY), ("Forwarded", f"for={PROXY}")], OTHER),
    "a name twice": ([*GUARD, ("x-forwarded-user", "p-1")], PROXY),
    "groups twice": ([*GUARD, ("X-Forwarded-Groups", "soc")], PROXY),
    "another spelling": ([("X_Forwarded_User", "p-1"), GUARD[1]], PROXY),
    "no groups": (GUARD[:1], PROXY),
    "no group with a role": ([GUARD[0], ("X-Forwarded-Groups", "kitchen")], PROXY),
    "no name": ([("X-Forwarded-User", " "), GUARD[1]], PROXY),
    "a name too long": ([("X-Forwarded-User", "p" * 101), GUARD[1]], PROXY),
}


@pytest.mark.parametrize("name", SPOOFED)
def test_who_only_says_so_is_nobody(name, port):
    headers, of = SPOOFED[name]
    assert nobody(asked(port, headers, of=of))


def test_a_session_is_worth_nothing_beside_the_proxy(port):
    cookie = entered(port, GUARD)
    assert nobody(asked(port, GUARD, of=OTHER, cookie=cookie))
    assert nobody(asked(port, [], cookie=cookie))
    assert asked(port, GUARD, path="/events", of=OTHER, cookie=cookie).status == 401
    assert asked(port, GUARD, cookie=cookie).status == 200  # and nobody was logged out by that


@pytest.mark.parametrize("now", [ANALYST, [("X-Forwarded-User", "p-78"), GUARD[1]]], ids=["other groups", "another"])
def test_what_the_proxy_says_now_counts_at_once(now, port):
    before = entered(port, GUARD)
    answer = asked(port, now, cookie=before)
    assert answer.status == 303
    (after,) = (one.partition(";")[0] for one in answer.cookies)
    assert after != before
    assert now[0][1] in asked(port, now, cookie=after).text
    assert asked(port, now, path="/journal", cookie=after).status == (200 if now is ANALYST else 403)
    fresh = asked(port, GUARD, cookie=before)  # the old session ended
    assert (fresh.status, len(fresh.cookies)) == (303, 1)


def test_without_the_setting_headers_say_nothing(open_house):
    assert nobody(asked(open_house.processes[""][1], GUARD))


@pytest.mark.parametrize(
    "wrong", [{"addresses": []}, {"addresses": ["proxy.example"]}, {"roles": {}}, {"name_header": "User: x"}]
)
def test_a_proxy_needs_an_address_and_a_role(wrong):
    with pytest.raises(ValidationError):
        ProxySettings.model_validate({"addresses": [PROXY], "roles": {"guards": "operator"}, **wrong})
