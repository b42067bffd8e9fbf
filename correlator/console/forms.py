"""What a page takes and may answer, and the only way in which handlers read it.

A handler asks an `Asked` for a value by name; what its page does not describe cannot be read. So the description that
is published (`console/openapi.py`) cannot tell less than what the code does.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from correlator.console.security import LARGEST_FORM
from correlator.console.users import Role

PUBLIC: Final = "public"
FORM: Final = "application/x-www-form-urlencoded"
HTML: Final = "text/html"
_FIELDS: Final = 1_000  # values of one form
_PLACE: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a form or of the query of an address.

    longest: characters; what is longer is cut, or, where `cut` is false, refused with words. one_of: the values that
    mean something, any other means nothing; () for any text. least, most: a number between them, both may be it.
    whole: the number has no fraction. many: it may be there several times. needed: without it the answer is a refusal.
    """

    name: str
    says: str
    longest: int = 200
    one_of: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    whole: bool = True
    many: bool = False
    needed: bool = False
    cut: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """One row of the table of routes.

    role: the least that may; "public": anybody, also without a session. name: of the handler. takes: what it reads,
    of a GET from the query of the address, of a POST from the form. answers: status -> media type, "" for no body;
    beside these there are those of `may_answer`.
    """

    path: str
    method: str
    role: Role | str
    name: str
    takes: tuple[Field, ...] = ()
    answers: Mapping[int, str] = field(default_factory=lambda: {200: HTML})

    @property
    def places(self) -> list[str]:
        """Names in the path."""
        return _PLACE.findall(self.path)

    @property
    def live(self) -> bool:
        """Whether a page in the browser asks for it, and not a person: a login form would be of no use there."""
        return self.path == "/events" or self.path.startswith("/fragments/")

    @property
    def may_answer(self) -> dict[int, str]:
        """Status -> media type, with what is decided before the handler: no session, no right, not our form."""
        told = dict(self.answers)
        if self.role != PUBLIC:
            told.update({303: ""} if self.method == "GET" and not self.live else {401: HTML})
            if self.role != "viewer":
                told[403] = HTML
        if self.method == "POST":
            told.update(dict.fromkeys((403, 413, 415), HTML))
        return dict(sorted(told.items()))


class Problem(Exception):
    """A request that ends with a page saying why. status: of HTTP; word: key of the text."""

    def __init__(self, status: int, word: str, detail: str = "") -> None:
        super().__init__(word)
        self.status, self.word, self.detail = status, word, detail


class Asked(Request):
    """A request to a page: its values as the page describes them, cut to their length.

    Asking for a value that the page does not describe is a KeyError, and our fault.
    """

    def __init__(self, page: Page, request: Request) -> None:
        super().__init__(request.scope, request.receive)
        self._page = page
        self._described = {one.name: one for one in page.takes}
        self._values: list[tuple[str, str]] = []
        self.csrf = ""

    async def read(self) -> None:
        """Reads the values. Raises Problem for what is no form of ours, or too large."""
        if self._page.method == "GET":
            self._values = self.query_params.multi_items()
            return
        length, kind = self.headers.get("content-length", "0"), self.headers.get("content-type", FORM)
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > LARGEST_FORM:
            raise Problem(413, "too_large")
        if kind.partition(";")[0].strip().lower() != FORM:
            raise Problem(415, "not_a_form")
        try:
            form = await self.form(max_fields=_FIELDS, max_part_size=LARGEST_FORM)
        except HTTPException as error:  # more values than anybody fills in
            raise Problem(413, "too_large") from error
        self._values = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        self.csrf = next((value for name, value in self._values if name == "csrf"), "")

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece; a sender need not say how long it is. Raises Problem."""
        size = 0
        async for piece in super().stream():
            size += len(piece)
            if size > LARGEST_FORM:
                raise Problem(413, "too_large")
            yield piece

    def path(self, name: str) -> str:
        """A name of the path."""
        return str(self.path_params[name])

    def texts(self, name: str) -> list[str]:
        """Every value of a name."""
        one = self._described[name]
        longest = one.longest if one.cut else one.longest + 1
        return [value[:longest] for key, value in self._values if key == name]

    def text(self, name: str) -> str:
        """The last value of a name, "" without one."""
        return next(reversed(self.texts(name)), "")

    def number(self, name: str, otherwise: int) -> int:
        """A whole number; `otherwise` if there is none, or it is out of bounds."""
        return whole(self.text(name), self._described[name], otherwise)


def whole(text: str, described: Field, otherwise: int) -> int:
    """The number of a text within the bounds of its field. Only 0 to 9 are digits: int() reads more, and less long."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        return otherwise
    assert described.least is not None
    assert described.most is not None
    return int(text) if described.least <= int(text) <= described.most else otherwise
