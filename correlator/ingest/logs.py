"""Structured logs of the running processes: one JSON object a line, no identifying values.

    {"at": "2026-03-01T02:14:05.250Z", "level": "warning", "part": "inputs", "what": "file_gap", "input": "eve"}

`what` is a fixed word, so that an operator can search and alarm on it. Every other field stands in
FIELDS: names of our own things (inputs, sites, rules, topics), numbers, reasons. What a message says
(badges, accounts, addresses of patients' devices) has no field, so it cannot be logged by accident; a
field that is not listed is refused where it is logged.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

FIELDS: Final = frozenset({
    "address", "bound", "bytes", "code", "count", "detail", "directory", "elapsed_ms", "events", "expected", "found",
    "from_offset", "group", "hash", "host", "id", "input", "lag", "line", "offset", "partition", "path", "port",
    "process", "reason", "receiver", "records", "rule", "rules", "seconds", "site", "since_ms", "source", "to_offset",
    "topic", "topics", "trace", "tries", "until_ms", "url", "version", "waiting", "worker",
})  # fmt: skip
ROOT: Final = "correlator.process"


class Log:
    """Says what happens in one part of a process ("inputs", "embedded", "worker" ...)."""

    __slots__ = ("_logger", "part")

    def __init__(self, part: str) -> None:
        self.part = part
        self._logger = logging.getLogger(f"{ROOT}.{part}")

    def debug(self, what: str, **fields: Any) -> None:
        """For whoever looks for a fault; off by default."""
        self._say(logging.DEBUG, what, fields)

    def info(self, what: str, **fields: Any) -> None:
        """Ordinary course of things: started, stopped, rotated."""
        self._say(logging.INFO, what, fields)

    def warning(self, what: str, **fields: Any) -> None:
        """Something is lost, late or refused; the process goes on."""
        self._say(logging.WARNING, what, fields)

    def error(self, what: str, **fields: Any) -> None:
        """The process cannot do its work at the moment."""
        self._say(logging.ERROR, what, fields)

    def critical(self, what: str, **fields: Any) -> None:
        """Correlation is blind, or a decision may be missing."""
        self._say(logging.CRITICAL, what, fields)

    def _say(self, level: int, what: str, fields: dict[str, Any]) -> None:
        unknown = sorted(set(fields) - FIELDS)
        if unknown:
            raise ValueError(f"no log field {unknown[0]!r}; add it to FIELDS if it can hold nothing identifying")
        if self._logger.isEnabledFor(level):
            self._logger.log(level, what, extra={"told": {"part": self.part, **fields}})


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told: dict[str, Any] = {"at": at, "level": record.levelname.lower()}
        given = getattr(record, "told", None)
        if given is None:  # a library's own line
            told |= {"part": record.name, "what": "library", "detail": record.getMessage()}
        else:
            told |= {"part": given["part"], "what": record.getMessage(), **given}
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        return json.dumps(told, ensure_ascii=False, default=str)


def log_to(stream: TextIO = sys.stderr, level: str = "info") -> None:
    """Sends the logs of this process, and warnings of libraries, to a stream as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
