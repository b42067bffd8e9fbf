"""Consoles as processes, two replicas where wanted, and browsers of people."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

import axe_playwright_python
import msgspec
import pytest
from playwright.sync_api import sync_playwright

from correlator.data import folder as data_folder
from correlator.lab.brokers import free_port
from correlator.run.replay import replay
from tests.console.client import Browser
from tests.notifier.cases import THREATS

ROOT = Path(__file__).parents[2]
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip


class House:
    """Threats, a journal, and consoles on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        (folder / "threats.ndjson").touch()

    def tell(self, *threats) -> None:
        with (self.folder / "threats.ndjson").open("ab") as file:
            for threat in threats:
                file.write(msgspec.json.encode(threat) + b"\n")

    def start(self, replica: str = "", port: int = 0) -> int:
        port = port or free_port()
        command = [sys.executable, "-m", "tests.console.house", str(self.folder), str(port), replica]
        process = subprocess.Popen(command, cwd=ROOT)
        self.processes[replica] = (process, port)
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the console did not start"
            assert time.monotonic() < end, "the console did not answer"
            try:
                if Browser(port).get("/health/ready").status == 200:
                    return port
            except OSError:
                time.sleep(0.05)

    def kill(self, replica: str = "") -> int:
        process, port = self.processes.pop(replica)
        process.kill()
        process.wait(10)
        return port

    def stop(self, replica: str = "") -> int:
        process, _ = self.processes.pop(replica)
        process.terminate()
        return process.wait(15)


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    for replica in list(made.processes):
        made.kill(replica)


@pytest.fixture(scope="module")
def open_house(tmp_path_factory):
    """One console for the tests of a module that only look, or look after themselves."""
    made = House(tmp_path_factory.mktemp("house"))
    made.tell(*THREATS.values())
    made.start()
    yield made
    for replica in list(made.processes):
        made.kill(replica)


@pytest.fixture(scope="module")
def browsers(open_house):
    """A logged-in browser of each role."""
    port = open_house.processes[""][1]
    told = {}
    for role in ("viewer", "operator", "analyst", "admin"):
        told[role] = Browser(port)
        assert told[role].login(f"p-{role}").status == 303
    return told


def until(held, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not held():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


# ---- a console on a replay -----------------------------------------------------------------------


class Story:
    """What `correlator replay` found in the vaccine theft, and `correlator console open` on it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        replay(data_folder("scenarios") / "vaccine-theft", out=out, speed=None, as_json=False, progress=False,
               stdout=io.StringIO(), stderr=io.StringIO())  # fmt: skip
        self.port = free_port()
        command = [sys.executable, "-m", "correlator", "console", "open", str(out), "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        key = self.process.stderr.readline().rpartition("key=")[2].strip()
        assert key, "the console did not start"
        self.person = Browser(self.port)
        until(self._up)
        (cookie,) = self.person.ask("POST", "/enter", {"key": key}).cookies
        self.person.cookie = cookie.partition("=")[2].partition(";")[0]
        until(lambda: "As it stood on" in self.person.get("/").text)
        self.threats = {}
        for line in self.lines("threats"):
            self.threats[line["id"]] = line
        self.threat = max(self.threats.values(), key=lambda one: len(one["members"]))

    def lines(self, name: str) -> list[dict]:
        return [msgspec.json.decode(line) for line in (self.out / f"{name}.ndjson").read_bytes().splitlines()]

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.process.stderr.close()

    def _up(self) -> bool:
        try:
            return self.person.get("/health/ready").status == 200
        except OSError:
            return False


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    made = Story(tmp_path_factory.mktemp("story"))
    yield made
    made.end()


# ---- a real browser ------------------------------------------------------------------------------


# A module, not a session: while it runs, its event loop is in the way of tests with one of their own.
@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


def launched(playwright):
    """The machine's own Chromium, which asks nobody but the console."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program is not None, "a browser is missing: apt-get install --yes chromium fonts-dejavu-core"
    return playwright.chromium.launch(executable_path=program, args=QUIET)


def opened(browser, port: int, cookie: str, **options):
    """An empty page of whoever the session cookie belongs to, in a context of its own."""
    context = browser.new_context(bypass_csp=False, **options)
    context.add_cookies([
        {"name": "__Host-session", "value": cookie, "url": f"https://localhost:{port}", "secure": True}
    ])  # fmt: skip
    return context.new_page()


_PEOPLE: dict[tuple[int, str], Browser] = {}


def logged_in(port: int, role: str, person: str = "") -> Browser:
    """A person of a role; logs in once a console, as people do."""
    if (port, role + person) not in _PEOPLE:
        found = Browser(port)
        assert found.login(f"p-{role}").status == 303
        _PEOPLE[port, role + person] = found
    return _PEOPLE[port, role + person]


@pytest.fixture
def page(chromium, request):
    """Makes pages of a logged-in person; afterwards no message of the console and no foreign host is left."""
    contexts, said, hosts = [], [], set()

    def make(role: str = "operator", path: str = "/", *, at: int = 0, script=True, person="", cookie="", **options):
        at = at or request.getfixturevalue("open_house").processes[""][1]
        cookie = cookie or logged_in(at, role, person).cookie
        made = opened(chromium, at, cookie, java_script_enabled=script, **options)
        contexts.append(made.context)
        made.on("console", lambda message: said.append(message.text))
        made.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
        made.goto(f"http://localhost:{at}{path}")
        return made

    yield make
    for context in contexts:
        context.close()
    assert hosts <= {"localhost"}
    # What a browser says of a console that a test ended.
    away = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE", "htmx:sse:error", "Failed to fetch")
    assert [text for text in said if not any(word in text for word in away)] == []


def faults_of(page) -> list:
    """Rules of WCAG 2.2 AA that a page breaks, as far as axe-core can tell."""
    page.evaluate(AXE)
    result = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", TAGS)
    return [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in result["violations"]]
