"""`correlator console run` as an operator starts it, on one machine without Kafka."""

from __future__ import annotations

import html
import re
import subprocess
import sys

import pytest
import yaml

from correlator.console.users import User, Users
from correlator.lab.brokers import free_port
from tests.console.client import Browser
from tests.console.conftest import ROOT, until
from tests.embedded.feeding import Running, in_pieces, messages_of
from tests.ingest.carried import scenario

pytestmark = pytest.mark.xdist_group("console")
PASSWORD = "a lamp on the stairs"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The vaccine theft in an embedded log, and a console on it with one analyst."""
    folder = tmp_path_factory.mktemp("run")
    one = scenario("vaccine-theft")
    running = Running(one, folder / "log.sqlite3")
    in_pieces(messages_of(one), 400, running.feed)
    running.close()
    Users(folder / "users.yaml").put(User("p-1", "analyst"), PASSWORD)
    port = free_port()
    (folder / "correlator.yaml").write_text(yaml.safe_dump({
        "sites": [{"site": str(one.site_file), "rules": ["pack"]}], "console": {"port": port, "users": "users.yaml"},
    }))  # fmt: skip
    command = [sys.executable, "-m", "correlator", "console", "run", "--config", str(folder / "correlator.yaml"),
               "--embedded", str(folder / "log.sqlite3"), "--state", str(folder / "state")]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    person = Browser(port)

    def up() -> bool:
        assert process.poll() is None
        try:
            return person.get("/health/ready").status == 200
        except OSError:
            return False

    until(up, 60)
    assert person.login("p-1", PASSWORD).status == 303
    yield person, folder
    process.terminate()
    assert process.wait(15) == 0


def test_it_shows_threats_plan_rules_and_sources(served):
    person, _ = served
    until(lambda: "devices that do not work: 1" in person.get("/").text)  # the camera in the north corridor
    text = person.get("/").text
    assert 'class="threat critical"' in text
    until(lambda: "cam-corridor-0n: does not answer" in person.get("/sources").text)
    assert "Smoke detected" in person.get("/rules").text


def test_a_rule_says_why_it_did_not_match_a_message_of_the_log(served):
    person, _ = served
    page = person.get("/").text.partition('href="/threats/')[2].partition('"')[0]
    proof = re.search(r"log:\d+|inputs/[\w.-]+:\d+", person.get(f"/threats/{page}").text)[0]
    (rule,) = re.findall(r'href="(/rules/valmora/[^"]+)">Smoke detected<', person.get("/rules").text)
    said = html.unescape(person.get(f"{rule}/silence?message={proof}").text)
    assert "did not match this event" in said
    assert '"Smoke detected"' in html.unescape(person.get(f"{rule}/silence").text).partition("Why it did not match")[2]


def test_what_is_done_stands_beside_the_log(served):
    person, folder = served
    page = person.get("/").text.partition('href="/threats/')[2].partition('"')[0]
    assert person.post(f"/threats/{page}/ack", f"/threats/{page}", id="a1", seen="0").status == 303
    assert "acknowledged (p-1)" in person.get(f"/threats/{page}").text
    assert (folder / "log.sqlite3.actions").stat().st_size > 0
