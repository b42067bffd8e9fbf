"""Login at an identity provider on loopback: what it says is checked, and its groups decide the role."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import ValidationError

from correlator.console.settings import OidcSettings
from correlator.lab.brokers import free_port
from tests.console.client import Browser

pytestmark = pytest.mark.xdist_group("console")
CLIENT, SECRET = "console", "a-secret-of-the-client"


class Provider:
    """A small provider: description, keys, and tokens for the codes it gave out."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, object] = {}  # what replaces the right claims
        self.signs = self.key
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, body: dict, status: int = 200) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                if self.path == "/.well-known/openid-configuration":
                    at = provider.issuer
                    self.answer({"issuer": at, "authorization_endpoint": f"{at}/auth", "token_endpoint": f"{at}/token",
                                 "jwks_uri": f"{at}/keys"})  # fmt: skip
                elif self.path == "/keys":
                    self.answer({"keys": [provider.key.as_dict(private=False)]})
                else:
                    self.answer({}, 404)

            def do_POST(self) -> None:
                form = {
                    k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
                }
                known = provider.codes.pop(form.get("code", ""), None)
                told = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ") or b"").decode()
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
                if known is None or told != f"{CLIENT}:{SECRET}" or challenge != known["code_challenge"]:
                    self.answer({"error": "invalid_grant"}, 400)
                    return
                now = int(time.time())
                claims = {"iss": provider.issuer, "aud": CLIENT, "sub": "p-77", "iat": now, "exp": now + 60,
                          "nonce": known["nonce"], "groups": ["guards", "staff"], **provider.claims}  # fmt: skip
                token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, provider.signs, algorithms=["RS256"])
                self.answer({"access_token": "x", "token_type": "Bearer", "id_token": token})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def log_in(self, url: str) -> str:
        """Somebody logs in at the provider: the parameters with which it sends the browser back."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
        assert (asked["client_id"], asked["code_challenge_method"], asked["response_type"]) == (CLIENT, "S256", "code")
        assert "openid" in asked["scope"].split()
        code = f"c{len(self.codes)}-{time.monotonic_ns()}"
        self.codes[code] = asked
        return urlencode({"code": code, "state": asked["state"]})


@pytest.fixture(scope="module")
def provider():
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def port(provider, tmp_path_factory):
    from tests.console.conftest import House

    house = House(tmp_path_factory.mktemp("oidc"))
    at = free_port()
    (house.folder / "secret").write_text(SECRET)
    (house.folder / "console.json").write_text(json.dumps({"oidc": {
        "issuer": provider.issuer, "client_id": CLIENT, "client_secret_file": str(house.folder / "secret"),
        "url": f"http://localhost:{at}", "roles": {"guards": "operator", "soc": "analyst"},
    }}))  # fmt: skip
    house.start("", at)
    yield at
    house.kill()


def begun(port: int, to: str = "/") -> tuple[str, str]:
    """(address at the provider, cookie) of a login that somebody begins."""
    answer = Browser(port).get(f"/oidc?to={to}")
    assert answer.status == 303
    (cookie,) = answer.cookies
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"secure", "httponly", "samesite=lax", "path=/", "max-age=300"} <= attributes
    return answer.headers["location"], cookie.partition(";")[0]


def ended(port: int, query: str, cookie: str):
    return Browser(port).ask("GET", f"/oidc/callback?{query}", Cookie=cookie)


def test_whoever_the_provider_knows_gets_the_role_of_the_group(provider, port):
    provider.claims = {}
    assert "/oidc?to=" in Browser(port).get("/login").text
    url, cookie = begun(port, "/handover")
    answer = ended(port, provider.log_in(url), cookie)
    assert (answer.status, answer.headers["location"]) == (303, "/handover")
    session = next(one for one in answer.cookies if one.startswith("__Host-session="))
    person = Browser(port, session.partition("=")[2].partition(";")[0])
    assert "p-77" in person.get("/").text
    assert (person.get("/handover").status, person.get("/journal").status) == (200, 403)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "another"}, "does not hold"), ({"aud": "somebody-else"}, "does not hold"),
        ({"iss": "https://evil.example"}, "does not hold"), ({"exp": 1}, "does not hold"),
        ({"sub": ""}, "has a role"), ({"groups": ["kitchen"]}, "has a role"), ({"groups": None}, "has a role"),
    ],
    ids=["nonce", "audience", "issuer", "expired", "nobody", "no group with a role", "no groups"],
)  # fmt: skip
def test_what_does_not_hold_lets_nobody_in(claims, why, provider, port):
    provider.claims = claims
    url, cookie = begun(port)
    answer = ended(port, provider.log_in(url), cookie)
    provider.claims = {}
    assert answer.status == 403
    assert why in answer.text or "does not hold" in answer.text
    assert not any(one.startswith("__Host-session=") for one in answer.cookies)


def test_a_token_of_another_key_lets_nobody_in(provider, port):
    provider.signs = RSAKey.generate_key(2048, {"kid": "k1"})
    url, cookie = begun(port)
    answer = ended(port, provider.log_in(url), cookie)
    provider.signs = provider.key
    assert answer.status == 403


def test_a_login_that_another_browser_began_is_nobodys(provider, port):
    url, _ = begun(port)
    _, other = begun(port)
    query = provider.log_in(url)
    for cookie in (other, "__Host-oidc=00", "__Host-oidc=zz", ""):
        assert ended(port, query, cookie).status == 403


def test_a_code_works_once_and_an_error_of_the_provider_is_told(provider, port):
    url, cookie = begun(port)
    query = provider.log_in(url)
    assert [ended(port, query, cookie).status for _ in range(2)] == [303, 403]
    url, cookie = begun(port)
    state = parse_qs(urlsplit(url).query)["state"][0]
    refused = ended(port, urlencode({"error": "access_denied", "state": state}), cookie)
    assert refused.status == 403
    assert "access_denied" in refused.text


def test_a_login_leads_to_no_other_host(provider, port):
    url, cookie = begun(port, "//evil.example")
    assert ended(port, provider.log_in(url), cookie).headers["location"] == "/"


def test_a_provider_that_is_away_is_told(house):
    (house.folder / "console.json").write_text(json.dumps({"oidc": {
        "issuer": f"http://127.0.0.1:{free_port()}", "client_id": CLIENT, "url": "http://localhost:1",
        "roles": {"guards": "operator"},
    }}))  # fmt: skip
    answer = Browser(house.start()).get("/oidc")
    assert answer.status == 503
    assert "does not answer" in answer.text


def test_only_a_provider_over_tls_or_on_this_machine_is_taken():
    with pytest.raises(ValidationError, match="must begin with https"):
        OidcSettings(issuer="http://login.example", client_id="c", url="https://console.example", roles={"g": "viewer"})
