"""Receivers on loopback that note what arrives, and can refuse, hang or close."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Webhook:
    """An HTTP receiver. answers: status codes for the next requests, 200 after them; 0 hangs, -1 closes.

    context: TLS of the server; None for plain HTTP. patience: sent as Retry-After with every refusal.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: list[int] = []
        self.patience = ""
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status = outer.answers.pop(0) if outer.answers else 200
                if status == 0:
                    time.sleep(8)
                    return
                if status == -1:
                    self.connection.close()
                    return
                if status == 200:
                    outer.got.append((self.path, dict(self.headers), body))
                self.send_response(status)
                if status >= 400 and outer.patience:
                    self.send_header("Retry-After", outer.patience)
                self.end_headers()
                self.wfile.write(b"{}")

            do_PUT = do_POST  # noqa: N815 - names of http.server

            def do_GET(self) -> None:
                outer.got.append((self.path, dict(self.headers), b""))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def webhook(context: ssl.SSLContext | None = None) -> Iterator[Webhook]:
    receiver = Webhook(context)
    try:
        yield receiver
    finally:
        receiver.close()
