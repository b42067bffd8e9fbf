"""`make audit` asks about every locked package, and ends with an error for one that is known to be vulnerable.

The command of the Makefile is run against a service on loopback that speaks as OSV does (`POST /v1/query`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCKS = [ROOT / "requirements" / f"{name}.txt" for name in ("runtime", "build", "dev")]


def locked() -> dict[str, str]:
    """name -> version of every package that is locked for this platform."""
    lines = [line for lock in LOCKS for line in lock.read_text(encoding="utf-8").splitlines()]
    wanted = [Requirement(line.rstrip(" \\")) for line in lines if line and line[0].isalnum()]
    return {one.name: str(one.specifier)[2:] for one in wanted if one.marker is None or one.marker.evaluate()}


@contextmanager
def osv(vulnerable: str):
    """A service that knows one advisory, for every version of one package. Gives (address, what was asked)."""
    asked: dict[str, str] = {}

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["content-length"])))
            package = question["package"]
            asked[package["name"]] = question["version"]
            ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9999"}]}]
            advisory = {"schema_version": "1.6.0", "id": "PYSEC-0000-1", "summary": "An invented advisory.",
                        "affected": [{"package": package, "ranges": ranges}]}  # fmt: skip
            body = json.dumps({"vulns": [advisory]} if package["name"] == vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(address: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Runs what `make audit` runs, with another address to ask."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    program, *arguments = shown.stdout.splitlines()[-1].split()
    assert Path(program).name == "pip-audit"
    command = [sys.executable, "-m", "pip_audit", *arguments, "--osv-url", address, "--cache-dir", str(scratch)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"no_proxy": "127.0.0.1"}
    )


def test_a_package_that_is_known_to_be_vulnerable_is_told_and_is_an_error(tmp_path):
    with osv("starlette") as (address, _):
        done = audit(address, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Found 1 known vulnerability in 1 package" in done.stderr
    assert re.search(rf"^starlette +{re.escape(locked()['starlette'])} +PYSEC-0000-1 +9999", done.stdout, re.MULTILINE)


def test_without_one_all_is_well_and_every_locked_package_was_asked_about(tmp_path):
    with osv("") as (address, asked):
        done = audit(address, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No known vulnerabilities found" in done.stderr
    assert asked == locked()
