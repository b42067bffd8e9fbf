"""A threat goes to the case system by hand, and the journal says what became of it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from correlator.console.settings import CaseSettings
from tests.console.client import Browser
from tests.console.conftest import logged_in, until
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("console")
THREAT = THREATS["combined"]
PAGE = f"/threats/{THREAT.id}"


@pytest.fixture
def system():
    """A receiver: what it got, and what it answers next."""
    got: list[tuple[str, dict]] = []
    answers = [201]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.headers["Authorization"], body))
            self.send_response(answers[-1])
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/cases", got, answers
    server.shutdown()
    server.server_close()


def test_a_threat_is_sent_and_the_journal_says_so(house, system):
    url, got, answers = system
    (house.folder / "token").write_text("case-token\n")
    (house.folder / "console.json").write_text(json.dumps({
        "cases": {"url": url, "token_file": str(house.folder / "token"), "link": "https://c.example/threats/"}
    }))  # fmt: skip
    house.tell(THREAT)
    port = house.start()
    person = logged_in(port, "analyst")
    assert person.post(f"{PAGE}/case", PAGE, id="c1").status == 303
    ((token, finding),) = got
    assert (token, finding["class_uid"], finding["metadata"]["correlation_uid"]) == (
        "Bearer case-token",
        2004,
        THREAT.id,
    )
    until(lambda: "case system: sent: 201" in person.get(PAGE).text)
    for status in (503, 302):
        answers.append(status)
        person.post(f"{PAGE}/case", PAGE, id=f"c{status}")
        until(lambda status=status: f"case system: not sent: {status}" in person.get(PAGE).text)
    assert len(got) == 3  # no redirect is followed
    operator = logged_in(port, "operator")
    assert "Send to the case system" not in operator.get(PAGE).text
    assert operator.post(f"{PAGE}/case", PAGE).status == 403


def test_without_a_case_system_there_is_none(open_house):
    person: Browser = logged_in(open_house.processes[""][1], "analyst")
    assert person.post(f"{PAGE}/case", PAGE).status == 404


def test_a_case_system_is_over_tls_or_on_this_machine():
    with pytest.raises(ValidationError, match="must begin with https"):
        CaseSettings(url="http://cases.example/new")
