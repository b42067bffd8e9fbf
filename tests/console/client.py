"""A small HTTP client that behaves like our pages: cookie, token, Fetch Metadata."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlencode

from tests.console.house import PASSWORD


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.cookies = [value for name, value in response.getheaders() if name.lower() == "set-cookie"]
        self.text = response.read().decode()


class Browser:
    """Requests to one console with the cookie of one person."""

    def __init__(self, port: int, cookie: str = "") -> None:
        self.port, self.cookie = port, cookie

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=120
        )  # a log is folded again for some pages
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            said["Cookie"] = f"__Host-session={self.cookie}"
        body = None
        if method == "POST":
            said = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded", **said}
            body = urlencode(form or {})
        try:
            connection.request(method, path, body, said)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, /, _from: str = "/", **form: str) -> Answer:
        """Posts a form with the token of the page it stands on."""
        return self.ask("POST", path, {"csrf": self.csrf(_from), **form})

    def csrf(self, page: str = "/") -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(page).text)
        return found[1] if found else ""

    def login(self, name: str, password: str = PASSWORD) -> Answer:
        answer = self.ask("POST", "/login", {"name": name, "password": password, "to": "/"})
        for one in answer.cookies:
            self.cookie = one.partition("__Host-session=")[2].partition(";")[0]
        return answer
