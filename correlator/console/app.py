"""Routes and pages of the console.

`ROUTES` is the one table of what there is, who may see it and who may change it; everything not in it is
refused. A GET never changes anything (links in mails are followed by scanners). A button asks the journal,
and the page shows what the fold made of it: there is no optimistic screen.
"""

from __future__ import annotations

import asyncio
import csv
import io
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

import jinja2
import msgspec
import yaml
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from correlator.clock import HOUR_MS
from correlator.console import pages
from correlator.console.hub import Hub
from correlator.console.security import COOKIE, LARGEST_FORM, LoginRate, SecureHeaders, same_origin, token_fits
from correlator.console.settings import ConsoleSettings
from correlator.console.users import ROLES, Role, Session, Sessions, User, Users, allows
from correlator.events.ids import digest
from correlator.ingest import metrics
from correlator.journal.action import MAX_TEXT, Act
from correlator.journal.store import Journal, JournalAway
from correlator.journal.view import View
from correlator.outputs.format import one_line
from correlator.premises import Premises

WAIT_S: Final = 2.0  # for the view to pass what was just written
LISTED: Final = 200
_PUBLIC: Final = "public"

Handler = Callable[["Console", Request, Session | None], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """One row of the table. role: the least that may; "public": anybody, also without a session."""

    path: str
    method: str
    role: Role | str
    name: str


ROUTES: Final = (
    Page("/login", "GET", _PUBLIC, "login_page"),
    Page("/login", "POST", _PUBLIC, "login"),
    Page("/enter", "GET", _PUBLIC, "enter_page"),
    Page("/enter", "POST", _PUBLIC, "enter"),
    Page("/health/live", "GET", _PUBLIC, "alive"),
    Page("/health/ready", "GET", _PUBLIC, "ready"),
    Page("/metrics", "GET", _PUBLIC, "metrics"),
    Page("/logout", "POST", "viewer", "logout"),
    Page("/language", "POST", "viewer", "language"),
    Page("/", "GET", "viewer", "overview"),
    Page("/fragments/overview", "GET", "viewer", "overview_fragment"),
    Page("/events", "GET", "viewer", "events"),
    Page("/threats/{threat}", "GET", "viewer", "threat"),
    Page("/fragments/threats/{threat}", "GET", "viewer", "threat_fragment"),
    Page("/threats/{threat}/print", "GET", "viewer", "print_card"),
    Page("/threats/{threat}/playbook.json", "GET", "viewer", "playbook"),
    Page("/threats/{threat}/warning.xml", "GET", "analyst", "warning"),
    Page("/threats/{threat}/{verb}", "POST", "operator", "act"),
    Page("/handover", "GET", "operator", "handover_page"),
    Page("/handover", "POST", "operator", "handover"),
    Page("/declared", "GET", "viewer", "declared_page"),
    Page("/declared", "POST", "analyst", "declare"),
    Page("/load", "GET", "analyst", "load_page"),
    Page("/journal", "GET", "analyst", "journal_page"),
    Page("/export.csv", "GET", "analyst", "export_csv"),
    Page("/export.json", "GET", "analyst", "export_json"),
)

# What may be done with a threat, and the least role that may.
VERBS: Final[dict[str, Role]] = {
    "ack": "operator",
    "assign": "operator",
    "release": "operator",
    "step": "operator",
    "note": "operator",
    "shelve": "operator",
    "unshelve": "operator",
    "close": "operator",
    "reopen": "operator",
    "verdict": "analyst",
}


class Problem(Exception):
    """A request that ends with a page saying why. status: of HTTP; word: key of the text."""

    def __init__(self, status: int, word: str, detail: str = "") -> None:
        super().__init__(word)
        self.status, self.word, self.detail = status, word, detail


class Console:
    """What the pages work on.

    places: the site models by site id. entry: a secret for logging in once without password (local use),
    "" for none; it gives the role analyst.
    """

    def __init__(
        self,
        settings: ConsoleSettings,
        view: View,
        hub: Hub,
        journal: Journal,
        places: Mapping[str, Premises],
        users: Users,
        sessions: Sessions,
        entry: str = "",
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings, self.view, self.hub, self.journal, self.places = settings, view, hub, journal, places
        self.users, self.sessions, self.now_ms = users, sessions, now_ms
        self._entry = entry
        self._rate_of_name, self._rate_of_address = LoginRate(tries=8), LoginRate(tries=60)
        self.texts: dict[str, dict[str, str]] = _texts()
        self._jinja = jinja2.Environment(
            loader=jinja2.PackageLoader("correlator.console"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._jinja.filters["shown"] = one_line

    # ---- plumbing ------------------------------------------------------------------------------

    def application(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route(page.path, partial(self._serve, page), methods=[page.method], name=page.name) for page in ROUTES
        ]
        static = StaticFiles(packages=[("correlator.console", "static")])
        app = Starlette(routes=[*routes, Mount("/static", static)], lifespan=self._living)
        app.add_middleware(SecureHeaders)
        app.add_exception_handler(404, self._lost)
        return app

    @asynccontextmanager
    async def _living(self, _app: Starlette) -> AsyncIterator[None]:
        reading = asyncio.create_task(self.hub.run())
        try:
            yield
        finally:
            self.hub.end()
            reading.cancel()

    async def _lost(self, request: Request, _error: Exception) -> Response:
        return self._problem(request, self._session(request), Problem(404, "not_found"))

    async def _serve(self, page: Page, request: Request) -> Response:
        session = self._session(request, touch=page.name != "events")
        try:
            if page.role != _PUBLIC:
                if session is None:
                    if request.method == "GET" and page.name not in ("events", "overview_fragment", "threat_fragment"):
                        return RedirectResponse("/login?" + urlencode({"to": str(request.url.path)}), 303)
                    raise Problem(401, "log_in_first")
                role = page.role
                assert role in ROLES
                if not allows(session.user.role, role):
                    await self._denied(page, request, session)
                    raise Problem(403, "not_allowed")
            if request.method == "POST":
                await self._guard(page, request, session)
            handler: Handler = getattr(Console, page.name)
            return await handler(self, request, session)
        except Problem as problem:
            return self._problem(request, session, problem)

    async def _guard(self, page: Page, request: Request, session: Session | None) -> None:
        """A state-changing request comes from our own page and, with a session, carries its token."""
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > LARGEST_FORM:
            raise Problem(413, "too_large")
        if not same_origin(request.headers):
            raise Problem(403, "cross_site")
        if page.role != _PUBLIC:
            assert session is not None
            form = await request.form()
            if not token_fits(session.csrf, str(form.get("csrf", ""))):
                raise Problem(403, "cross_site")

    def _session(self, request: Request, *, touch: bool = True) -> Session | None:
        token = request.cookies.get(COOKIE)
        return self.sessions.find(token, self.now_ms(), touch=touch) if token else None

    def speaks(self, request: Request, session: Session | None) -> str:
        """The language of a page."""
        if session is not None and session.user.language in self.texts["login"]:
            return session.user.language
        wanted = [one.partition(";")[0].strip()[:2] for one in request.headers.get("accept-language", "").split(",")]
        return next((one for one in wanted if one in self.texts["login"]), self.settings.language)

    def page(
        self, request: Request, session: Session | None, template: str, code: int = 200, /, **values: Any
    ) -> HTMLResponse:
        """A page from a template with what all of them need."""
        language = self.speaks(request, session)

        def t(key: str, /, **said: object) -> str:
            return self.texts[key][language].format_map(said)

        everything = {
            "t": t,
            "language": language,
            "languages": ("en", "fr", "it"),
            "user": session.user if session is not None else None,
            "csrf": session.csrf if session is not None else "",
            "may": lambda role: session is not None and allows(session.user.role, role),
            "fresh_id": secrets.token_hex(16),
            "path": request.url.path,
            "position": self.hub.number,
            "away": self.hub.away,
            "now_ms": self.now_ms(),
            **values,
        }
        return HTMLResponse(self._jinja.get_template(template).render(everything), code)

    def _problem(self, request: Request, session: Session | None, problem: Problem) -> Response:
        return self.page(
            request,
            session,
            "problem.html",
            problem.status,
            word=problem.word,
            detail=problem.detail,
            status=problem.status,
        )

    def _site_of(self, threat: str, session: Session) -> Any:
        """A threat that the person may see, with its handling. Raises Problem (404 also where it may not)."""
        listed = self.view.threat(threat)
        if listed is None or (session.user.sites and listed.threat.site not in session.user.sites):
            raise Problem(404, "not_found")
        return listed

    async def _append(self, act: Act) -> str:
        """Writes an action, waits until the view has it, and returns why it was refused ("" if it held)."""
        try:
            position = await asyncio.to_thread(self.journal.append, act)
        except JournalAway as error:
            raise Problem(503, "not_recorded", str(error)) from error
        found: list[tuple[int, Act, Any]] = []

        def passed() -> bool:
            found[:] = self.view.acts(act.site, after=position - 1, limit=1)
            return bool(found)

        if not await self.hub.until(passed, WAIT_S):
            raise Problem(503, "not_yet_seen")
        outcome = found[0][2]
        if outcome.result == "refused":
            metrics.actions_refused.labels(site=act.site).inc()
        return outcome.reason if outcome.result == "refused" else ""

    async def _denied(self, page: Page, request: Request, session: Session) -> None:
        """A refused try is in the journal too, where it is about a threat."""
        threat = request.path_params.get("threat", "")
        verb = request.path_params.get("verb", "")
        listed = self.view.threat(threat) if threat else None
        if request.method == "POST" and listed is not None and verb in VERBS:
            metrics.actions_refused.labels(site=listed.threat.site).inc()
            act = Act(
                id=secrets.token_hex(16), site=listed.threat.site, who=session.user.name, verb=verb, threat=threat,
                at_ms=self.now_ms(), denied=f"a {session.user.role} may not {verb}",
            )  # fmt: skip
            try:
                await asyncio.to_thread(self.journal.append, act)
            except JournalAway:
                return  # nothing was changed either

    # ---- login ---------------------------------------------------------------------------------

    async def login_page(self, request: Request, session: Session | None) -> Response:
        """The form."""
        return self.page(request, session, "login.html", to=_local(request.query_params.get("to", "/")), failed=False)

    async def login(self, request: Request, session: Session | None) -> Response:
        """Checks name and password."""
        form = await request.form()
        name, to = str(form.get("name", ""))[:200], _local(str(form.get("to", "/")))
        address = request.client.host if request.client is not None else ""
        now_ms = self.now_ms()
        allowed = self._rate_of_name.allowed(name, now_ms), self._rate_of_address.allowed(address, now_ms)
        if not all(allowed):
            raise Problem(429, "too_often")
        user = await asyncio.to_thread(self.users.check, name, str(form.get("password", ""))[:1_000])
        await self._note_login(name if user is not None else "", user is not None)
        if user is None:
            return self.page(request, session, "login.html", 401, to=to, failed=True)
        return self._let_in(request, user, to)

    async def enter_page(self, request: Request, session: Session | None) -> Response:
        """The page of a one-time link: its button logs in, the link alone does not."""
        return self.page(request, session, "enter.html", key=request.query_params.get("key", ""))

    async def enter(self, request: Request, _session: Session | None) -> Response:
        """Logs in by the one-time secret of a local console."""
        form = await request.form()
        if not self._entry or not token_fits(self._entry, str(form.get("key", ""))):
            raise Problem(403, "link_used")
        self._entry = ""
        return self._let_in(request, User("local", "analyst", language=self.settings.language), "/")

    def _let_in(self, request: Request, user: User, to: str) -> Response:
        old = request.cookies.get(COOKIE)
        if old:
            self.sessions.end(old)  # a session set by somebody else does not become a logged-in one
        response = RedirectResponse(to, 303)
        token = self.sessions.begin(user, self.now_ms())
        response.set_cookie(COOKIE, token, path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def _note_login(self, name: str, held: bool) -> None:
        site = next(iter(self.places), "")
        act = Act(id=secrets.token_hex(16), site=site, who=name or "_unknown", verb="login", at_ms=self.now_ms(),
                  args={"held": held})  # fmt: skip
        try:
            await asyncio.to_thread(self.journal.append, act)
        except JournalAway:
            return  # people must get in to see why nothing is recorded

    async def logout(self, request: Request, _session: Session | None) -> Response:
        """Ends the session."""
        self.sessions.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def language(self, request: Request, _session: Session | None) -> Response:
        """Changes the language of the session."""
        form = await request.form()
        wanted = str(form.get("language", ""))
        if wanted in ("en", "fr", "it"):
            self.sessions.speak(request.cookies.get(COOKIE, ""), wanted)
        return RedirectResponse(_local(str(form.get("to", "/"))), 303)

    # ---- threats -------------------------------------------------------------------------------

    def _overview(self, request: Request, session: Session) -> dict[str, Any]:
        asked = request.query_params
        return pages.overview(
            self.view, self.places, session.user.sites, self.texts, self.speaks(request, session), self.now_ms(),
            text=asked.get("q", "")[:200], zone=asked.get("zone", ""), floor=asked.get("floor", ""),
            everything=asked.get("all") == "1", mine=session.user.name if asked.get("mine") == "1" else "",
        )  # fmt: skip

    async def overview(self, request: Request, session: Session | None) -> Response:
        """List and plan."""
        assert session is not None
        query = urlencode(
            [(k, v) for k, v in request.query_params.multi_items() if k in ("q", "zone", "floor", "all", "mine")]
        )
        return self.page(request, session, "overview.html", query=query, **self._overview(request, session))

    async def overview_fragment(self, request: Request, session: Session | None) -> Response:
        """What of list and plan changes."""
        assert session is not None
        return self.page(request, session, "_overview.html", **self._overview(request, session))

    async def events(self, request: Request, session: Session | None) -> Response:
        """The stream that tells pages to look again."""
        last = request.headers.get("last-event-id") or request.query_params.get("after", "-1")
        after = int(last) if last.lstrip("-").isdigit() else -1
        token = request.cookies.get(COOKIE, "")
        stream = self.hub.stream(after, lambda: self.sessions.find(token, self.now_ms(), touch=False) is not None)
        return StreamingResponse(stream, media_type="text/event-stream")

    def _threat(self, request: Request, session: Session) -> dict[str, Any]:
        listed = self._site_of(request.path_params["threat"], session)
        return pages.threat(
            listed, self.view, self.places.get(listed.threat.site), self.speaks(request, session), self.now_ms()
        )

    async def threat(self, request: Request, session: Session | None) -> Response:
        """One threat: story, what to do, evidence, impact, journal."""
        assert session is not None
        return self.page(request, session, "threat.html", refused=request.query_params.get("refused", "")[:300],
                         **self._threat(request, session))  # fmt: skip

    async def threat_fragment(self, request: Request, session: Session | None) -> Response:
        """What of a threat's page changes."""
        assert session is not None
        return self.page(request, session, "_threat.html", refused="", **self._threat(request, session))

    async def print_card(self, request: Request, session: Session | None) -> Response:
        """The card on paper."""
        assert session is not None
        return self.page(request, session, "print.html", **self._threat(request, session))

    async def playbook(self, request: Request, session: Session | None) -> Response:
        """The playbook as CACAO 2.0."""
        assert session is not None
        listed = self._site_of(request.path_params["threat"], session)
        body = pages.cacao(listed.threat, self.places[listed.threat.site], self.speaks(request, session))
        return Response(body, media_type="application/json")

    async def warning(self, request: Request, session: Session | None) -> Response:
        """A public warning as CAP 1.2: a draft that somebody must approve elsewhere."""
        assert session is not None
        listed = self._site_of(request.path_params["threat"], session)
        return Response(pages.cap(listed.threat, self.places[listed.threat.site]), media_type="application/cap+xml")

    async def act(self, request: Request, session: Session | None) -> Response:
        """Asks the journal for something to be done with a threat."""
        assert session is not None
        verb, threat = request.path_params["verb"], request.path_params["threat"]
        if verb not in VERBS:
            raise Problem(404, "not_found")
        if not allows(session.user.role, VERBS[verb]):
            await self._denied(Page("", "POST", "analyst", ""), request, session)
            raise Problem(403, "not_allowed")
        listed = self._site_of(threat, session)
        form = await request.form()
        asked = {key: str(value)[: MAX_TEXT + 1] for key, value in form.multi_items()}
        seen = asked.get("seen", "")
        act = Act(
            id=digest("console", asked.get("id", "") or secrets.token_hex(8), session.user.name, verb),
            site=listed.threat.site, who=session.user.name, verb=verb, at_ms=self.now_ms(), threat=threat,
            seen_version=int(seen) if seen.isdigit() and len(seen) < 10 else -1,
            args=pages.arguments(verb, asked, listed.threat, self.now_ms()),
        )  # fmt: skip
        refused = await self._append(act)
        query = "?" + urlencode({"refused": refused}) if refused else ""
        return RedirectResponse(f"/threats/{threat}{query}", 303)

    # ---- shifts, windows, load, journal --------------------------------------------------------

    async def handover_page(self, request: Request, session: Session | None) -> Response:
        """What the outgoing shift leaves."""
        assert session is not None
        told = pages.handover(self.view, self.places, session.user.sites, self.now_ms())
        return self.page(request, session, "handover.html", **told)

    async def handover(self, request: Request, session: Session | None) -> Response:
        """The incoming person confirms."""
        assert session is not None
        form = await request.form()
        giver = str(form.get("from", ""))[:200]
        for site, threats in pages.held_by(self.view, giver, session.user.sites).items():
            act = Act(
                id=digest("handover", str(form.get("id", "")), site), site=site, who=session.user.name,
                verb="handover", at_ms=self.now_ms(), args={"from": giver, "threats": threats},
            )  # fmt: skip
            await self._append(act)
        return RedirectResponse("/handover", 303)

    async def declared_page(self, request: Request, session: Session | None) -> Response:
        """Windows, exceptions and shelves."""
        assert session is not None
        told = pages.declared(self.view, self.places, session.user.sites, self.now_ms())
        return self.page(
            request, session, "declared.html", refused=request.query_params.get("refused", "")[:300], **told
        )

    async def declare(self, request: Request, session: Session | None) -> Response:
        """Declares a window or an exception."""
        assert session is not None
        form = await request.form()
        asked = {key: str(value)[:MAX_TEXT] for key, value in form.multi_items()}
        site = asked.get("site", "")
        if site not in self.places or (session.user.sites and site not in session.user.sites):
            raise Problem(404, "not_found")
        verb: Any = "exception" if asked.get("kind") == "exception" else "window"
        try:
            hours = float(asked.get("hours", "0"))
        except ValueError:
            hours = 0.0
        now_ms = self.now_ms()
        until_ms = now_ms + int(min(max(hours, 0.0), 24 * 366) * HOUR_MS)
        what = [one.strip() for one in asked.get("what", "").split(",") if one.strip()]
        args: dict[str, Any] = {"id": digest("declared", asked.get("id", ""))[:16], "reason": asked.get("reason", "")}
        if verb == "window":
            args |= {"zones": what, "from_ms": now_ms, "to_ms": until_ms}
        else:
            args |= {"rule": what[0] if what else "", "from_ms": now_ms, "until_ms": until_ms}
        act = Act(id=digest("declare", asked.get("id", "")), site=site, who=session.user.name, verb=verb, at_ms=now_ms,
                  args=args)  # fmt: skip
        refused = await self._append(act)
        return RedirectResponse("/declared" + ("?" + urlencode({"refused": refused}) if refused else ""), 303)

    async def load_page(self, request: Request, session: Session | None) -> Response:
        """Alarm load after ISA-18.2."""
        assert session is not None
        return self.page(request, session, "load.html", **pages.load_of(self.view, session.user.sites, self.now_ms()))

    async def journal_page(self, request: Request, session: Session | None) -> Response:
        """The journal of the sites, newest first."""
        assert session is not None
        rows = pages.journal(self.view, self.places, session.user.sites)
        return self.page(request, session, "journal.html", rows=rows)

    async def export_csv(self, request: Request, session: Session | None) -> Response:
        """The list as CSV; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
        assert session is not None
        listed = self._overview(request, session)["rows"]
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["id", "site", "severity", "phase", "handling", "owner", "title", "place", "first", "last"])
        for row in listed:
            cells = [
                row.id,
                row.site,
                row.severity,
                row.phase,
                row.state,
                row.owner,
                row.title,
                row.place,
                row.first,
                row.last,
            ]
            writer.writerow([_cell(one) for one in cells])
        headers = {"content-disposition": "attachment; filename=threats.csv"}
        return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)

    async def export_json(self, request: Request, session: Session | None) -> Response:
        """The list as JSON, threats whole."""
        assert session is not None
        ids = [row.id for row in self._overview(request, session)["rows"]]
        threats = [listed.threat for listed in (self.view.threat(one) for one in ids) if listed is not None]
        headers = {"content-disposition": "attachment; filename=threats.json"}
        return Response(msgspec.json.encode(threats), media_type="application/json", headers=headers)

    # ---- health --------------------------------------------------------------------------------

    async def alive(self, _request: Request, _session: Session | None) -> Response:
        """The process answers."""
        return PlainTextResponse("alive\n")

    async def metrics(self, request: Request, session: Session | None) -> Response:
        """Numbers for Prometheus: for this machine, and for people with the role admin."""
        if not _here(request):
            if session is None:
                raise Problem(401, "log_in_first")
            if not allows(session.user.role, "admin"):
                raise Problem(403, "not_allowed")
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    async def ready(self, _request: Request, _session: Session | None) -> Response:
        """The sources answer."""
        return PlainTextResponse(
            f"not ready: {self.hub.away}\n" if self.hub.away else "ready\n", 503 if self.hub.away else 200
        )


def _here(request: Request) -> bool:
    """Whether a request comes from this machine, and not through a proxy on it."""
    address = request.client.host if request.client is not None else ""
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    return address in ("127.0.0.1", "::1") and not forwarded


def _local(to: str) -> str:
    """A path of ours; anything else (another host, a scheme) becomes the start page."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and "\n" not in to and "\r" not in to else "/"


def _cell(text: str) -> str:
    """A CSV cell that no spreadsheet runs."""
    plain = one_line(text)
    return "'" + plain if plain[:1] in ("=", "+", "-", "@") else plain


def _texts() -> dict[str, dict[str, str]]:
    text = files("correlator.console").joinpath("texts/texts.yaml").read_text(encoding="utf-8")
    texts: dict[str, dict[str, str]] = yaml.safe_load(text)
    return texts
