"""/live, /ready and /metrics of a process, served from a thread of its own.

200 when it holds, 503 when not; for health checks of containers and for whoever restarts a process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from correlator.errors import UsageError
from correlator.ingest.metrics import REGISTRY


class Health:
    """The server; port 0 serves nothing. Raises UsageError if the address cannot be taken."""

    def __init__(self, host: str, port: int, alive: Callable[[], bool], ready: Callable[[], bool]) -> None:
        self._server: ThreadingHTTPServer | None = None
        if not port:
            return
        answers = {"/live": alive, "/ready": ready}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
                elif self.path in answers:
                    good = answers[self.path]()
                    self._answer(200 if good else 503, b"yes\n" if good else b"no\n", "text/plain")
                else:
                    self._answer(404, b"/live, /ready or /metrics\n", "text/plain")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a health check a second is no news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise UsageError(f"{host}:{port} cannot be used for health and metrics: {error.strerror}") from error
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        """Frees the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
