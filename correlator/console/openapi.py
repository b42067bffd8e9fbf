"""The console's pages as an OpenAPI 3.1 document, made from the table of routes (`app.ROUTES`).

It is for whoever tests or guards the console: fuzzers, scanners, the rules of a proxy before it. Programs that want
threats read the topics and outputs instead (docs/outputs.md).
"""

from __future__ import annotations

import inspect
import json
from typing import Any, Final

from correlator import __version__
from correlator.console.app import PLACES, ROUTES, Console
from correlator.console.forms import FORM, HTML, PUBLIC, Field, Page
from correlator.console.security import COOKIE, LARGEST_FORM

PATH: Final = "console/openapi.json"  # in the folder of schemas
_THREATS: Final = {"type": "array", "items": {"$ref": "../threat/1.json"}}
# status -> what it says, wherever it is given
_SAYS: Final = {
    200: "What was asked for",
    303: "Another page comes next: after an action, or to log in",
    400: "The form does not hold together",
    401: "Not logged in",
    403: "The role may not, or the request does not come from a page of the console",
    404: "There is no such thing, or not for this person",
    413: f"More than {LARGEST_FORM:,} bytes or 1,000 values",
    415: f"Not {FORM}",
    429: "Too many tries",
    503: "What the answer needs is away or not ready",
}
_ABOUT: Final = """\
Pages and forms of the console. A GET changes nothing. A POST needs the header `Sec-Fetch-Site: same-origin` (or an \
`Origin` that is the host's) and, with a session, the session's token in the field `csrf`. Text that is longer than \
`maxLength`, another value than those of `enum` and a number out of its bounds are no error: text is cut, the others \
count as not said, or the action is refused with words. Every answer has the headers of docs/console.md, "What \
protects it". `x-role` is the least role that may; without it no session is needed."""


def document() -> dict[str, Any]:
    """The document, as plain values."""
    paths: dict[str, dict[str, Any]] = {}
    for page in ROUTES:
        paths.setdefault(page.path, {})[page.method.lower()] = _operation(page)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Console of the correlator", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "responses": {
                str(status): _told(status, "" if status == 303 else HTML) for status in sorted(_SAYS) if status > 200
            },
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": COOKIE}},
        },
    }


def document_text() -> str:
    """The document as it stands in its file: two spaces, one newline at the end."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _operation(page: Page) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": page.name,
        "summary": inspect.cleandoc(getattr(Console, page.name).__doc__).partition("\n")[0],
        "security": [] if page.role == PUBLIC else [{"session": []}],
    }
    if page.role != PUBLIC:
        said["x-role"] = page.role
    parameters = [_parameter(PLACES[name], "path") for name in page.places]
    if page.method == "GET":
        parameters += [_parameter(one, "query") for one in page.takes]
    if parameters:
        said["parameters"] = parameters
    if page.method == "POST":
        said["requestBody"] = {"required": True, "content": {FORM: {"schema": _form(page)}}}
    said["responses"] = {str(status): _answer(page, status, kind) for status, kind in page.may_answer.items()}
    return said


def _parameter(one: Field, place: str) -> dict[str, Any]:
    needed = {"required": True} if place == "path" or one.needed else {}
    return {"name": one.name, "in": place, "description": one.says, **needed, "schema": _schema(one)}


def _schema(one: Field) -> dict[str, Any]:
    if one.least is not None:
        told = {"type": "integer" if one.whole else "number", "minimum": one.least, "maximum": one.most}
        return {name: int(value) if isinstance(value, float) and one.whole else value for name, value in told.items()}
    text: dict[str, Any] = {"type": "string", "maxLength": one.longest}
    if one.one_of:
        text = {"type": "string", "enum": list(one.one_of)}
    return {"type": "array", "items": text} if one.many else text


def _form(page: Page) -> dict[str, Any]:
    token = [Field("csrf", "Token of the session, as it stands in every form", needed=True)]
    fields = [*(token if page.role != PUBLIC else ()), *page.takes]
    needed = [one.name for one in fields if one.needed]
    return {
        "type": "object",
        "properties": {one.name: {"description": one.says, **_schema(one)} for one in fields},
        **({"required": needed} if needed else {}),
    }


def _answer(page: Page, status: int, kind: str) -> dict[str, Any]:
    if status > 200 and kind in ("", HTML):  # alike wherever they are given
        return {"$ref": f"#/components/responses/{status}"}
    return _told(status, kind, _THREATS if page.name == "export_json" else None)


def _told(status: int, kind: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"description": _SAYS[status]}
    if status == 303:
        told["headers"] = {"location": {"required": True, "schema": {"type": "string"}}}
    if kind:
        told["content"] = {kind: {"schema": body or {"type": "object" if kind.endswith("json") else "string"}}}
    return told
