"""Questions that fold a log again: why a rule did not match, why two findings are not linked.

They are `correlator explain` in a process of its own, so that no page waits for them, and one at a time.
"""

from __future__ import annotations

import subprocess
import sys
from threading import Lock
from typing import Final

LONGEST_S: Final = 120.0
_MOST_LINES: Final = 500


class Asking:
    """where: what `correlator explain` is told of where to look, such as ("--from", "kafka", "--config", "h1.yaml")."""

    def __init__(self, *where: str, longest_s: float = LONGEST_S) -> None:
        self._where, self._longest_s = where, longest_s
        self._one = Lock()

    def why_not(self, site: str, what: str, other: str = "") -> list[str]:
        """The answer, line by line. what: a rule, then other is a message or ""; or two findings."""
        command = [sys.executable, "-m", "correlator", "explain", f"--why-not={what}", f"--site={site}", *self._where]
        if other:
            command += ["--", other]
        with self._one:
            try:
                done = subprocess.run(
                    command, capture_output=True, timeout=self._longest_s, check=False, stdin=subprocess.DEVNULL
                )
            except subprocess.TimeoutExpired:
                return [f"no answer within {self._longest_s:.0f} s; ask `correlator explain` where there is more time"]
        said = (done.stdout if done.returncode == 0 else done.stderr).decode("utf-8", "replace").splitlines()
        return [line.removeprefix("correlator: ") for line in said[:_MOST_LINES]] or ["no answer"]
