"""Console and notifier on an embedded log: one machine, no Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest

from correlator.embedded.log import EmbeddedLog, Turn
from correlator.errors import UsageError
from correlator.journal.action import Act
from correlator.journal.feeds import LogFeed
from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from correlator.lab.brokers import free_port
from correlator.run.rendering import Rendered
from tests.notifier.cases import THREATS
from tests.notifier.peers import webhook

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "tests/notifier/site.yaml"
THREAT = THREATS["combined"]


@pytest.fixture
def log(tmp_path):
    made = EmbeddedLog(tmp_path / "log.sqlite3", write=True)
    yield made
    made.close()


def tell(log, *values: bytes, topic: str = "threats") -> None:
    log.write(Turn(outputs=[Rendered(topic, b"k", value, ()) for value in values], at_ms=1))


def test_threats_come_as_they_are_written_and_once(log, tmp_path):
    view = View(":memory:")
    journal = SqliteJournal(log.file.with_name("actions"))
    feed = LogFeed(log.file, journal)
    assert feed.poll(view, 0.0) == set()
    tell(log, b"{}", topic="matches")
    tell(log, msgspec.json.encode(THREAT), b"no threat")
    assert feed.poll(view, 0.0) == {THREAT.id}
    assert feed.unreadable == 1
    assert feed.poll(view, 0.0) == set()
    journal.append(Act(id="a", site=THREAT.site, who="p-017", verb="ack", at_ms=5, threat=THREAT.id))
    assert feed.poll(view, 0.0) == {THREAT.id}
    assert view.threat(THREAT.id).handling.acked_by == "p-017"
    assert feed.caught_up()


def test_a_view_goes_on_where_it_stood_and_one_made_anew_is_the_same(log, tmp_path):
    journal = SqliteJournal(tmp_path / "actions")
    kept = View(tmp_path / "view.db")
    for number in range(1_200):
        tell(log, msgspec.json.encode(msgspec.structs.replace(THREAT, id=f"{number:032x}")))
        if number == 700:
            LogFeed(log.file, journal).poll(kept, 0.0)
    fresh = View(":memory:")
    for view in (kept, fresh):
        feed = LogFeed(log.file, journal)
        while feed.poll(view, 0.0):
            pass
        assert feed.caught_up()
    assert kept.digest() == fresh.digest()
    assert len(fresh.threats(limit=2_000)) == 1_200


def test_a_file_that_is_no_log_is_refused_in_words(tmp_path):
    journal = SqliteJournal(tmp_path / "actions")
    with pytest.raises(UsageError, match="there is no"):
        LogFeed(tmp_path / "none", journal)
    with pytest.raises(UsageError, match="no embedded log"):
        LogFeed(tmp_path / "actions", journal)


def test_the_commands_run_on_it_while_another_process_holds_it(log, tmp_path):
    tell(log, msgspec.json.encode(THREAT))
    port = free_port()
    with webhook() as hook:
        (tmp_path / "guard.url").write_text(f"json://127.0.0.1:{hook.port}/alerts\n")
        (tmp_path / "users.yaml").write_text("users: []\n")
        (tmp_path / "correlator.yaml").write_text(
            f"sites: [{{site: {SITE}}}]\n"
            f"console: {{port: {port}, users: users.yaml}}\n"
            "notifier:\n  receivers: [{name: guard, url_file: guard.url}]\n  routes: {receivers: [guard]}\n"
        )
        common = ["--config", str(tmp_path / "correlator.yaml"), "--embedded", str(log.file)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "correlator", part, "run", *common, "--state", str(tmp_path / part)],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for part in ("console", "notifier")
        ]  # fmt: skip
        try:
            end = time.monotonic() + 60
            while not (hook.got and ready(port)):
                assert time.monotonic() < end, [one.poll() for one in processes]
                time.sleep(0.2)
        finally:
            for one in processes:
                one.terminate()
            said = [one.communicate(timeout=30)[1].decode() for one in processes]
        assert [one.returncode for one in processes] == [0, 0], said
    journal = SqliteJournal(log.file.with_name(log.file.name + ".actions"))
    assert [act.verb for _, act in journal.read(-1)] == ["notified"]


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
