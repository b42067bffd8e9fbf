"""Routes and pages of the console.

`ROUTES` is the one table of what there is, who may see it and who may change it; everything not in it is
refused. A GET never changes anything (links in mails are followed by scanners). A button asks the journal,
and the page shows what the fold made of it: there is no optimistic screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Final, get_args
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

from correlator.clock import HOUR_MS, MINUTE_MS
from correlator.console import cases, graph, oidc, pages, proxy
from correlator.console.asking import Asking
from correlator.console.board import time_text
from correlator.console.forms import HTML, PUBLIC, Asked, Field, Page, Problem, whole
from correlator.console.hub import Hub
from correlator.console.plan import short
from correlator.console.raw import Raw, shown
from correlator.console.security import COOKIE, LoginRate, SecureHeaders, same_origin, token_fits
from correlator.console.settings import ConsoleSettings
from correlator.console.users import ROLES, Role, Session, Sessions, User, Users, allows
from correlator.errors import FaultyFile, UsageError
from correlator.events.event import LEVELS
from correlator.events.ids import digest
from correlator.events.kinds import KINDS
from correlator.events.threat import Evidence
from correlator.ingest import metrics
from correlator.journal.action import MAX_TEXT, VERDICTS, Act
from correlator.journal.fold import WarningKind, warning_kinds
from correlator.journal.store import Journal, JournalAway
from correlator.journal.verify import due
from correlator.journal.view import View
from correlator.journal.warning import warning
from correlator.outputs.format import one_line
from correlator.premises import Premises
from correlator.rules.load import LoadedRules
from correlator.words.language import LANGUAGES

WAIT_S: Final = 2.0  # for the view to pass what was just written
ANCHOR_S: Final = 60.0  # how often it looks whether an anchor of the journal is due
LONGEST_H: Final = 366 * 24.0  # of a window or an exception
FRAGMENTS: Final = 256  # lists kept as long as nothing changes; pages that show the same share one
LOCAL: Final = "local"  # who entered by the one-time link
PROXY: Final = "proxy"  # whom a proxy has logged in

Handler = Callable[["Console", Asked, Session | None], Awaitable[Response]]


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

# Names in paths: what they are.
PLACES: Final = {
    "threat": Field("threat", "Id of a threat"),
    "event": Field("event", "Id of an event that is evidence of the threat"),
    "verb": Field("verb", "What to do; verdict: analyst", one_of=tuple(VERBS)),
    "site": Field("site", "Id of a site"),
    "rule": Field("rule", "Id of a rule, or a kind of event that is a finding by itself"),
}
# What several pages take. A form is one action, however often it is sent: its id says so.
AFTER: Final = Field("after", "Only what is newer; the header Last-Event-ID says the same", least=0, most=1e15)
_ID: Final = Field("id", "Made with the page; the same id again changes nothing more")
_SEEN: Final = Field("seen", "Version that was on the page; who saw an older one is refused", least=0, most=999_999_999)
_REASON: Final = Field("reason", "Why", longest=MAX_TEXT)
_TO: Final = Field("to", "Path of the console that comes next; anything else is its start page", longest=2_000)
_REFUSED: Final = Field("refused", "Why the last action did not hold; it is shown", longest=300)
_SITE: Final = Field("site", "Id of a site")
_MESSAGE: Final = Field("message", "Proof of a message, as a threat's page shows it: is it why?", longest=300)
VIEW: Final = (
    Field("q", "Text in titles, places, owners and ids"),
    Field("zone", "Id of a zone"),
    Field("floor", "Floor of the plan"),
    _SITE,
    Field("severity", "A severity", longest=20, one_of=LEVELS),
    Field("all", "Also closed ones", one_of=("1",)),
    Field("mine", "Only those that the person has", one_of=("1",)),
    Field("page", "Of a hundred lines, from 0", least=0, most=99_999),
)
_EXCEPTION: Final = (
    _SITE,
    Field("rule", "Id of a rule, or a kind of event"),
    Field("asset", "Id of an asset; without fields there must be one"),
    Field("fields", "name=value, one a line: what events have that are let pass", longest=MAX_TEXT),
    Field("hours", "How long it holds; 24 if not said", least=0, most=LONGEST_H, whole=False),
    _REASON,
)

_DONE: Final = {303: ""}
_LOST: Final = {404: HTML}
_AWAY: Final = {503: HTML}  # the journal or a source does not answer
_SHOWN: Final = {200: HTML}
_TEXT: Final = "text/plain"
_JSON: Final = "application/json"

ROUTES: Final = (
    Page("/login", "GET", PUBLIC, "login_page", (_TO,)),
    Page("/login", "POST", PUBLIC, "login", (
        Field("name", "Name of a person", needed=True), Field("password", "Password", longest=1_000, needed=True), _TO,
    ), {**_DONE, 401: HTML, 429: HTML}),
    Page("/oidc", "GET", PUBLIC, "oidc_begin", (_TO,), {**_DONE, **_LOST, 429: HTML, **_AWAY}),
    Page("/oidc/callback", "GET", PUBLIC, "oidc_end", (
        Field("state", "As the login began"), Field("code", "Of the provider", longest=4_000),
        Field("error", "Of the provider", longest=100),
    ), {**_DONE, 403: HTML, **_LOST}),
    Page("/enter", "GET", PUBLIC, "enter_page", (Field("key", "Of a one-time link"),)),
    Page("/enter", "POST", PUBLIC, "enter", (Field("key", "Of a one-time link", needed=True),), _DONE),
    Page("/health/live", "GET", PUBLIC, "alive", (), {200: _TEXT}),
    Page("/health/ready", "GET", PUBLIC, "ready", (), {200: _TEXT, 503: _TEXT}),
    Page("/metrics", "GET", PUBLIC, "metrics", (), {200: _TEXT, 401: HTML, 403: HTML}),
    Page("/logout", "POST", "viewer", "logout", (), _DONE),
    Page("/language", "POST", "viewer", "language", (Field("language", "A language", one_of=LANGUAGES), _TO), _DONE),
    Page("/", "GET", "viewer", "overview", VIEW),
    Page("/fragments/overview", "GET", "viewer", "overview_fragment", VIEW),
    Page("/events", "GET", "viewer", "events", (AFTER, Field("threat", "Only changes of this threat")),
         {200: "text/event-stream"}),
    Page("/threats/{threat}", "GET", "viewer", "threat", (_REFUSED,), _SHOWN | _LOST),
    Page("/fragments/threats/{threat}", "GET", "viewer", "threat_fragment", (), _SHOWN | _LOST),
    Page("/threats/{threat}/print", "GET", "viewer", "print_card", (), _SHOWN | _LOST),
    Page("/threats/{threat}/playbook.json", "GET", "viewer", "playbook", (), {200: _JSON, **_LOST}),
    Page("/threats/{threat}/warning.xml", "GET", "analyst", "warning_file", (), {200: "application/cap+xml", **_LOST}),
    Page("/threats/{threat}/evidence/{event}", "GET", "operator", "evidence", (), _SHOWN | _LOST | _AWAY),
    Page("/threats/{threat}/evidence/{event}", "POST", "analyst", "reveal", (_ID, _REASON), _SHOWN | _LOST | _AWAY),
    Page("/threats/{threat}/warning", "GET", "analyst", "warning_page", (_REFUSED,), _SHOWN | _LOST),
    Page("/threats/{threat}/warning", "POST", "analyst", "warn", (
        _ID, _SEEN, _REASON, Field("kind", "What leaves", one_of=get_args(WarningKind)),
        Field("addresses", "To whom, with spaces between; none: to everybody", longest=2_000),
    ), _DONE | {400: HTML} | _LOST | _AWAY),
    Page("/threats/{threat}/case", "POST", "analyst", "send_case", (_ID,), _DONE | _LOST | _AWAY),
    Page("/threats/{threat}/{verb}", "POST", "operator", "act", (
        _ID, _SEEN, Field("reason", "Why: shelve, close", longest=MAX_TEXT),
        Field("text", "note: the note", longest=MAX_TEXT, cut=False),
        Field("step", "step: id of a step of the playbook", longest=100),
        Field("done", "step: 0 takes it back", one_of=("1", "0")),
        Field("minutes", "shelve: for how long", longest=5, least=0, most=99_999),
        Field("to", "assign: whose it is; nobody said: the one who asks"),
        Field("verdict", "verdict, close: what it was", one_of=VERDICTS),
        Field("of", "verdict, close: of which threat it is a duplicate", longest=100),
    ), _DONE | _LOST | _AWAY),
    Page("/handover", "GET", "operator", "handover_page"),
    Page("/handover", "POST", "operator", "handover", (_ID, Field("from", "Who hands over")), _DONE | _AWAY),
    Page("/declared", "GET", "viewer", "declared_page", (_REFUSED,)),
    Page("/declared", "POST", "analyst", "declare", (
        _ID, Field("kind", "What is declared; a window if not said", one_of=("window", "exception")), *_EXCEPTION,
        Field("zone", "window: ids of zones", many=True),
    ), _DONE | {400: HTML} | _LOST | _AWAY),
    Page("/exception", "GET", "analyst", "exception_page", _EXCEPTION, _SHOWN | _LOST),
    Page("/sources", "GET", "operator", "sources_page"),
    Page("/rules", "GET", "analyst", "rules_page", (Field("q", "Text in rules"), _MESSAGE)),
    Page("/rules/{site}/{rule}", "GET", "analyst", "rule_page", (_MESSAGE,), _SHOWN | _LOST),
    Page("/rules/{site}/{rule}/silence", "GET", "analyst", "silence_page", (_MESSAGE,), _SHOWN | _LOST),
    Page("/apart", "GET", "analyst", "apart_page", (
        _SITE, Field("first", "A finding", longest=300), Field("second", "Another finding", longest=300),
    ), _SHOWN | _LOST),
    Page("/users", "GET", "admin", "users_page", (_REFUSED,)),
    Page("/users", "POST", "admin", "put_user", (
        Field("name", "Name of a person, a pseudonym", longest=100, cut=False, needed=True),
        Field("role", "What the person may do", one_of=ROLES),
        Field("password", "A new one; the one before if not said", longest=1_000, cut=False),
        Field("sites", "Ids of the sites that the person sees; none: all", many=True),
        Field("remove", "Anything: the person is removed"),
    ), _DONE),
    Page("/load", "GET", "analyst", "load_page"),
    Page("/journal", "GET", "analyst", "journal_page"),
    Page("/export.csv", "GET", "analyst", "export_csv", VIEW, {200: "text/csv"}),
    Page("/export.json", "GET", "analyst", "export_json", VIEW, {200: _JSON}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Approving:
    """Public warnings: names of those who may let one go, and CAP's sender."""

    people: tuple[str, ...]
    sender: str


class Console:
    """What the pages work on.

    places: the site models by site id; rules: those in force, by site id. entry: a secret for logging in once
    without password (local use), "" for none; it gives the role analyst. approving: who may let public warnings
    go (they are the notifier's to send), None where nobody may. asking: answers why a rule did not match, None where
    there is no log to ask.
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
        rules: Mapping[str, LoadedRules] | None = None,
        entry: str = "",
        approving: Approving | None = None,
        asking: Asking | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings, self.view, self.hub, self.journal, self.places = settings, view, hub, journal, places
        self.users, self.sessions, self.now_ms = users, sessions, now_ms
        self.rules: Mapping[str, LoadedRules] = rules or {}
        self._entry, self._approving, self._asking = entry, approving, asking
        self._provider = oidc.Provider(settings.oidc) if settings.oidc is not None else None
        self._fragments: dict[Any, str] = {}
        self._fragments_of: Any = None
        self._rate_of_name, self._rate_of_address = LoginRate(tries=8), LoginRate(tries=60)
        self.texts: dict[str, dict[str, str]] = _texts()
        self._jinja = jinja2.Environment(
            loader=jinja2.PackageLoader("correlator.console"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._jinja.filters["shown"] = short

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
        tasks = [asyncio.create_task(self.hub.run()), asyncio.create_task(self._anchoring())]
        try:
            yield
        finally:
            self.hub.end()
            for task in tasks:
                task.cancel()

    async def _anchoring(self) -> None:
        """Writes an anchor into each site's journal once a day, so that a later change of it shows."""
        written: dict[str, int] = {}
        while True:
            await asyncio.sleep(ANCHOR_S)
            if self.hub.caught_up and not self.hub.away:
                for act in due({site: self.view.fold(site) for site in self.places}, written, self.now_ms()):
                    with contextlib.suppress(JournalAway):  # tomorrow there is another one
                        await asyncio.to_thread(self.journal.append, act)

    async def _lost(self, request: Request, _error: Exception) -> Response:
        return self._problem(request, self._session(request), Problem(404, "not_found"))

    async def _serve(self, page: Page, plain: Request) -> Response:
        request = Asked(page, plain)
        session = self._session(request, touch=page.name != "events")
        try:
            if page.role != PUBLIC:
                if session is None:
                    if page.method == "GET" and not page.live:
                        sent = self._sent(request)
                        if sent is not None:
                            await self._note_login(sent.name, held=True)
                            query = f"?{request.url.query}" if request.url.query else ""
                            return self._let_in(request, sent, _local(request.url.path + query), PROXY)
                        return RedirectResponse("/login?" + urlencode({"to": str(request.url.path)}), 303)
                    raise Problem(401, "log_in_first")
                role = page.role
                assert role in ROLES
                if not allows(session.user.role, role):
                    if page.name == "act":
                        await self._denied(request, session)
                    raise Problem(403, "not_allowed")
            # A state-changing request comes from our own page and, with a session, carries its token.
            if page.method == "POST" and not same_origin(request.headers):
                raise Problem(403, "cross_site")
            await request.read()
            if page.method == "POST" and page.role != PUBLIC:
                assert session is not None
                if not token_fits(session.csrf, request.csrf):
                    raise Problem(403, "cross_site")
            handler: Handler = getattr(Console, page.name)
            return await handler(self, request, session)
        except Problem as problem:
            return self._problem(request, session, problem)

    def _session(self, request: Request, *, touch: bool = True) -> Session | None:
        token = request.cookies.get(COOKIE)
        session = self._holds(token, touch=touch) if token else None
        if session is None or session.origin != PROXY:
            return session
        # Such a session is worth something on the proxy's own connections only, and while it says the same.
        sent, user = self._sent(request), session.user
        if sent is not None and (sent.name, sent.role, sent.sites) == (user.name, user.role, user.sites):
            return session
        if sent is not None:
            self.sessions.end(str(token))
        return None

    def _sent(self, request: Request) -> User | None:
        """Whom a proxy says a request is of; None without one."""
        if self.settings.proxy is None:
            return None
        address = request.client.host if request.client is not None else ""
        return proxy.sent_by(self.settings.proxy, address, request.headers)

    def _holds(self, token: str, *, touch: bool) -> Session | None:
        """The session of a token; it ends when its person is removed or gets another role or other sites."""
        session = self.sessions.find(token, self.now_ms(), touch=touch)
        if session is None or session.origin:
            return session
        with contextlib.suppress(FaultyFile):  # somebody is writing it: what was known holds
            self.users.fresh()
        known = self.users.get(session.user.name)
        if known is None or (known.role, known.sites) != (session.user.role, session.user.sites):
            self.sessions.end(token)
            return None
        return session

    def speaks(self, request: Request, session: Session | None) -> str:
        """The language of a page."""
        if session is not None and session.user.language in self.texts["login"]:
            return session.user.language
        wanted = [one.partition(";")[0].strip()[:2] for one in request.headers.get("accept-language", "").split(",")]
        return next((one for one in wanted if one in self.texts["login"]), self.settings.language)

    def render(self, template: str, language: str, /, **values: Any) -> str:
        """A template in a language."""

        def t(key: str, /, **said: object) -> str:
            return self.texts[key][language].format_map(said)

        return self._jinja.get_template(template).render({"t": t, "language": language, **values})

    def page(
        self, request: Request, session: Session | None, template: str, code: int = 200, /, **values: Any
    ) -> HTMLResponse:
        """A page from a template with what all of them need."""
        everything = {
            "languages": LANGUAGES,
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
        return HTMLResponse(self.render(template, self.speaks(request, session), **everything), code)

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

    async def _denied(self, request: Asked, session: Session) -> None:
        """A refused try is in the journal too, where it is about a threat."""
        threat = request.path("threat")
        verb: Any = request.path("verb")
        listed = self.view.threat(threat)
        if listed is not None and verb in VERBS:
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

    async def login_page(self, request: Asked, session: Session | None) -> Response:
        """The form."""
        return self.page(request, session, "login.html", to=_local(request.text("to")), failed=False,
                         provider=self._provider is not None)  # fmt: skip

    async def login(self, request: Asked, session: Session | None) -> Response:
        """Checks name and password."""
        name, to = request.text("name"), _local(request.text("to"))
        address = request.client.host if request.client is not None else ""
        now_ms = self.now_ms()
        allowed = self._rate_of_name.allowed(name, now_ms), self._rate_of_address.allowed(address, now_ms)
        if not all(allowed):
            raise Problem(429, "too_often")
        user = await asyncio.to_thread(self.users.check, name, request.text("password"))
        await self._note_login(name if user is not None else "", user is not None)
        if user is None:
            return self.page(
                request, session, "login.html", 401, to=to, failed=True, provider=self._provider is not None
            )
        return self._let_in(request, user, to)

    async def enter_page(self, request: Asked, session: Session | None) -> Response:
        """The page of a one-time link: its button logs in, the link alone does not."""
        return self.page(request, session, "enter.html", key=request.text("key"))

    async def enter(self, request: Asked, _session: Session | None) -> Response:
        """Logs in by the one-time secret of a local console."""
        if not self._entry or not token_fits(self._entry, request.text("key")):
            raise Problem(403, "link_used")
        self._entry = ""
        return self._let_in(request, User(LOCAL, "analyst", language=self.settings.language), "/", LOCAL)

    async def oidc_begin(self, request: Asked, _session: Session | None) -> Response:
        """Sends the browser to the identity provider."""
        if self._provider is None:
            raise Problem(404, "not_found")
        address = request.client.host if request.client is not None else ""
        if not self._rate_of_address.allowed(address, self.now_ms()):
            raise Problem(429, "too_often")
        try:
            url, cookie = await asyncio.to_thread(self._provider.begin, _local(request.text("to")))
        except oidc.LoginRefused as error:
            raise Problem(503, "provider_refused", str(error)) from error
        response = RedirectResponse(url, 303)
        response.set_cookie(oidc.COOKIE, cookie, oidc.ENDS_S, path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def oidc_end(self, request: Asked, _session: Session | None) -> Response:
        """What the identity provider says when it sends the browser back."""
        if self._provider is None:
            raise Problem(404, "not_found")
        cookie = request.cookies.get(oidc.COOKIE, "")
        try:
            user, to = await asyncio.to_thread(
                self._provider.end, cookie, request.text("state"), request.text("code"), request.text("error")
            )
        except oidc.LoginRefused as error:
            await self._note_login("", held=False)
            raise Problem(403, "provider_refused", str(error)) from error
        await self._note_login(user.name, held=True)
        response = self._let_in(request, user, _local(to), "oidc")
        response.delete_cookie(oidc.COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return response

    def _let_in(self, request: Request, user: User, to: str, origin: str = "") -> Response:
        old = request.cookies.get(COOKIE)
        if old:
            self.sessions.end(old)  # a session set by somebody else does not become a logged-in one
        response = RedirectResponse(to, 303)
        token = self.sessions.begin(user, self.now_ms(), origin)
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

    async def logout(self, request: Asked, _session: Session | None) -> Response:
        """Ends the session."""
        self.sessions.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def language(self, request: Asked, session: Session | None) -> Response:
        """Changes the language of a person, for this session and later ones."""
        assert session is not None
        wanted = request.text("language")
        if wanted in LANGUAGES:
            self.sessions.speak(request.cookies.get(COOKIE, ""), wanted)
            known = self.users.get(session.user.name)
            if known is not None and not session.origin:
                await asyncio.to_thread(self.users.put, msgspec.structs.replace(known, language=wanted))
        return RedirectResponse(_local(request.text("to")), 303)

    # ---- threats -------------------------------------------------------------------------------

    def _wanted(self, request: Asked, session: Session) -> pages.Wanted:
        text = request.text
        return pages.Wanted(
            text=text("q"), zone=text("zone"), floor=text("floor"), site=text("site"), severity=text("severity"),
            everything=text("all") == "1", mine=session.user.name if text("mine") == "1" else "",
            page=request.number("page", 0),
        )  # fmt: skip

    def _overview(self, request: Asked, session: Session) -> str:
        """List and plan as HTML. What nobody changed is not made again: open pages ask often, and most alike."""
        wanted, language = self._wanted(request, session), self.speaks(request, session)
        board, facts = self.hub.board, self.hub.facts
        stands = (board.version, facts.version, self.now_ms() // MINUTE_MS)
        if stands != self._fragments_of:
            self._fragments.clear()
            self._fragments_of = stands
        key = (language, session.user.sites, wanted)
        made = self._fragments.get(key)
        if made is None:
            told = pages.overview(
                board, self.view, facts, session.user.sites, self.texts, language, self.now_ms(), wanted
            )
            query = dict(_view_of(request))
            links = {one: "/?" + urlencode({**query, "page": at}) for one, at in
                     (("before", wanted.page - 1), ("after", wanted.page + 1))}  # fmt: skip
            kept = urlencode(_view_of(request, "floor", "page"))
            made = self.render("_overview.html", language, links=links, kept=kept, **told)
            if len(self._fragments) < FRAGMENTS:
                self._fragments[key] = made
        return made

    async def overview(self, request: Asked, session: Session | None) -> Response:
        """List and plan."""
        assert session is not None
        sites = session.user.sites
        listed = [(one, places.site.name) for one, places in self.places.items() if not sites or one in sites]
        return self.page(request, session, "overview.html", query=urlencode(_view_of(request)), sites=listed,
                         severities=LEVELS[::-1], wanted=self._wanted(request, session),
                         overview=self._overview(request, session))  # fmt: skip

    async def overview_fragment(self, request: Asked, session: Session | None) -> Response:
        """What of list and plan changes."""
        assert session is not None
        return HTMLResponse(self._overview(request, session))

    async def events(self, request: Asked, session: Session | None) -> Response:
        """The stream that tells pages to look again."""
        last = request.headers.get("last-event-id", "")
        after = whole(last, AFTER, -1) if last else request.number("after", -1)
        token = request.cookies.get(COOKIE, "")
        stream = self.hub.stream(after, lambda: self._holds(token, touch=False) is not None, request.text("threat"))
        return StreamingResponse(stream, media_type="text/event-stream")

    def _threat(self, request: Asked, session: Session) -> dict[str, Any]:
        listed = self._site_of(request.path("threat"), session)
        language = self.speaks(request, session)
        told = pages.threat(
            listed, self.view, self.places.get(listed.threat.site), language, self.hub.facts.now_ms(),
            {name: said[language] for name, said in self.texts.items()},
        )  # fmt: skip
        colleagues = [one for one in self.users.names() if one != session.user.name]
        rules = {step.rule: step for step in listed.threat.steps if step.rule}
        exceptions = [
            {"title": short(step.title), "address": "/exception?" + urlencode({
                "site": listed.threat.site, "rule": rule, "asset": step.asset, "hours": "24",
                "fields": "\n".join(f"{name}={value}" for name, value in step.group.items()),
            })} for rule, step in rules.items()
        ]  # fmt: skip
        return {**told, "colleagues": colleagues, "exceptions": exceptions, "known_rules": self._titles(),
                "has_cases": self.settings.cases is not None,
                "position": self.hub.number}  # fmt: skip

    async def threat(self, request: Asked, session: Session | None) -> Response:
        """One threat: story, what to do, evidence, impact, journal."""
        assert session is not None
        return self.page(request, session, "threat.html", refused=request.text("refused"),
                         **self._threat(request, session))  # fmt: skip

    async def threat_fragment(self, request: Asked, session: Session | None) -> Response:
        """What of a threat's page changes."""
        assert session is not None
        return self.page(request, session, "_threat.html", refused="", **self._threat(request, session))

    async def print_card(self, request: Asked, session: Session | None) -> Response:
        """The card on paper."""
        assert session is not None
        return self.page(request, session, "print.html", **self._threat(request, session))

    async def playbook(self, request: Asked, session: Session | None) -> Response:
        """The playbook as CACAO 2.0."""
        assert session is not None
        listed = self._site_of(request.path("threat"), session)
        places = self.places.get(listed.threat.site)
        if places is None:
            raise Problem(404, "not_found")
        body = pages.cacao(listed.threat, places, self.speaks(request, session))
        return Response(body, media_type="application/json")

    async def warning_file(self, request: Asked, session: Session | None) -> Response:
        """A public warning as CAP 1.2: a draft that somebody must approve elsewhere."""
        assert session is not None
        listed = self._site_of(request.path("threat"), session)
        return Response(self._draft(listed.threat), media_type="application/cap+xml")

    def _draft(self, threat: Any) -> bytes:
        places = self.places.get(threat.site)
        if places is None:
            raise Problem(404, "not_found")
        return pages.cap(threat, places, self._approving.sender if self._approving is not None else "")

    async def act(self, request: Asked, session: Session | None) -> Response:
        """Asks the journal for something to be done with a threat."""
        assert session is not None
        threat = request.path("threat")
        verb: Any = request.path("verb")
        if verb not in VERBS:
            raise Problem(404, "not_found")
        if not allows(session.user.role, VERBS[verb]):
            await self._denied(request, session)
            raise Problem(403, "not_allowed")
        listed = self._site_of(threat, session)
        act = Act(
            id=digest("console", request.text("id") or secrets.token_hex(8), session.user.name, verb),
            site=listed.threat.site, who=session.user.name, verb=verb, at_ms=self.now_ms(), threat=threat,
            seen_version=request.number("seen", -1),
            args=pages.arguments(verb, request.text, listed.threat, self.now_ms()),
        )  # fmt: skip
        refused = await self._append(act)
        query = "?" + urlencode({"refused": refused}) if refused else ""
        return RedirectResponse(f"/threats/{threat}{query}", 303)

    async def send_case(self, request: Asked, session: Session | None) -> Response:
        """Sends a threat to the case system; what became of it stands in the journal, as a note."""
        assert session is not None
        if self.settings.cases is None:
            raise Problem(404, "not_found")
        listed = self._site_of(request.path("threat"), session)
        said = await asyncio.to_thread(cases.send, self.settings.cases, listed.threat)
        act = Act(
            id=digest("case", request.text("id") or secrets.token_hex(8), session.user.name),
            site=listed.threat.site, who=session.user.name, verb="note", at_ms=self.now_ms(), threat=listed.threat.id,
            args={"text": f"case system: {said}"},
        )  # fmt: skip
        await self._append(act)
        return RedirectResponse(f"/threats/{listed.threat.id}", 303)

    async def warning_page(self, request: Asked, session: Session | None) -> Response:
        """The public warning as it would leave, and what left before."""
        assert session is not None
        listed = self._site_of(request.path("threat"), session)
        xml, places, approving = self._draft(listed.threat).decode(), self.places[listed.threat.site], self._approving
        return self.page(
            request, session, "warning.html", threat=listed.threat, title=short(listed.threat.title),
            handling=listed.handling, xml=xml,
            kinds=warning_kinds(listed.handling), refused=request.text("refused"),
            may_approve=approving is not None and session.user.name in approving.people and not session.origin,
            out=[(one.who, time_text(one.at_ms, places), one.kind, one.reason) for one in listed.handling.warnings],
        )  # fmt: skip

    async def warn(self, request: Asked, session: Session | None) -> Response:
        """Lets a public warning go, or takes it back: the notifier sends the very text that the journal keeps."""
        assert session is not None
        listed = self._site_of(request.path("threat"), session)
        places, approving = self.places.get(listed.threat.site), self._approving
        if places is None or approving is None:
            raise Problem(404, "not_found")
        allowed = session.user.name in approving.people and not session.origin
        addresses = tuple(request.text("addresses").split())
        try:
            act = warning(
                listed.threat, places, listed.handling, approving.sender, who=session.user.name,
                reason=request.text("reason"), at_ms=self.now_ms(), addresses=addresses,
                cancel=request.text("kind") == "Cancel",
            )  # fmt: skip
        except ValueError as error:
            raise Problem(400, "no_warning", str(error)) from error
        act = msgspec.structs.replace(
            act, id=digest("warn", request.text("id") or secrets.token_hex(8), session.user.name),
            seen_version=request.number("seen", -2),
            denied="" if allowed else f"{session.user.name} may not let a warning go",
        )  # fmt: skip
        refused = await self._append(act)
        query = "?" + urlencode({"refused": refused}) if refused else ""
        return RedirectResponse(f"/threats/{listed.threat.id}/warning{query}", 303)

    # ---- evidence ------------------------------------------------------------------------------

    async def _evidence(self, request: Asked, session: Session) -> tuple[Any, Evidence, Raw | None]:
        listed = self._site_of(request.path("threat"), session)
        found = graph.evidence_of(listed.threat, request.path("event"))
        if found is None:
            raise Problem(404, "not_found")
        feed = self.hub.facts_feed
        try:
            raw = await asyncio.to_thread(feed.raw, listed.threat.site, found) if feed is not None else None
        except JournalAway as error:
            raise Problem(503, "away_now", str(error)) from error
        return listed, found, raw

    def _evidence_page(
        self, request: Asked, session: Session, listed: Any, found: Evidence, raw: Raw | None, *, whole: bool,
        refused: str = "",
    ) -> Response:  # fmt: skip
        places = self.places.get(listed.threat.site)
        message = shown(raw, whole=whole) if raw is not None else None
        return self.page(
            request, session, "evidence.html", threat=listed.threat, title=short(listed.threat.title),
            evidence=pages.evidence_row(found, places), message=message, whole=whole, refused=refused,
            received=time_text(message.received_ms, places, "%d.%m.%Y %H:%M:%S") if message is not None else "",
        )  # fmt: skip

    async def evidence(self, request: Asked, session: Session | None) -> Response:
        """The raw message of a piece of evidence, without what identifies people."""
        assert session is not None
        listed, found, raw = await self._evidence(request, session)
        return self._evidence_page(request, session, listed, found, raw, whole=False)

    async def reveal(self, request: Asked, session: Session | None) -> Response:
        """The whole raw message, once the journal has who wanted to see it and why."""
        assert session is not None
        listed, found, raw = await self._evidence(request, session)
        asked = request.text("id") or secrets.token_hex(8)
        act = Act(
            id=digest("reveal", asked, session.user.name), site=listed.threat.site,
            who=session.user.name, verb="reveal", at_ms=self.now_ms(), threat=listed.threat.id,
            args={"event": found.id, "reason": request.text("reason")},
        )  # fmt: skip
        refused = await self._append(act)
        return self._evidence_page(request, session, listed, found, raw, whole=not refused, refused=refused)

    # ---- shifts, windows, load, journal --------------------------------------------------------

    async def handover_page(self, request: Asked, session: Session | None) -> Response:
        """What the outgoing shift leaves."""
        assert session is not None
        told = pages.handover(
            self.hub.board, self.view, session.user.sites, self.speaks(request, session), self.now_ms()
        )
        return self.page(request, session, "handover.html", **told)

    async def handover(self, request: Asked, session: Session | None) -> Response:
        """The incoming person confirms."""
        assert session is not None
        giver = request.text("from")
        for site, threats in pages.held_by(self.hub.board, giver, session.user.sites).items():
            act = Act(
                id=digest("handover", request.text("id"), site), site=site, who=session.user.name,
                verb="handover", at_ms=self.now_ms(), args={"from": giver, "threats": threats},
            )  # fmt: skip
            await self._append(act)
        return RedirectResponse("/handover", 303)

    async def declared_page(self, request: Asked, session: Session | None) -> Response:
        """Windows, exceptions and shelves."""
        assert session is not None
        told = pages.declared(
            self.view, self.hub.board, session.user.sites, self.speaks(request, session), self.now_ms()
        )
        return self.page(request, session, "declared.html", refused=request.text("refused"), **told)

    async def exception_page(self, request: Asked, session: Session | None) -> Response:
        """What an exception would have hidden, before it is declared."""
        assert session is not None
        asked = _exception(request.text)
        site = self._own_site(asked["site"], session)
        told = await asyncio.to_thread(pages.preview, self.hub.facts, self.view, site, asked)
        until = time_text(self.now_ms() + int(asked["hours"] * HOUR_MS), self.places[site], "%Y-%m-%dT%H:%M:%S%z")
        head = next((one["head"] for one in [self._rule(site, asked["rule"])] if one is not None), None)
        return self.page(request, session, "exception.html", asked=asked, head=head,
                         yaml=pages.exception_yaml(asked, until), **told)  # fmt: skip

    async def declare(self, request: Asked, session: Session | None) -> Response:
        """Declares a window or an exception."""
        assert session is not None
        site = self._own_site(request.text("site"), session)
        verb: Any = "exception" if request.text("kind") == "exception" else "window"
        now_ms = self.now_ms()
        until_ms = now_ms + int(_hours(request.text("hours")) * HOUR_MS)
        args: dict[str, Any] = {"id": digest("declared", request.text("id"))[:16], "reason": request.text("reason")}
        if verb == "window":
            zones = request.texts("zone")
            unknown = [one for one in zones if one not in self.places[site].site.zones]
            if unknown or not zones:
                raise Problem(400, "no_such_zone", ", ".join(unknown))
            args |= {"zones": zones, "from_ms": now_ms, "to_ms": until_ms}
        else:
            told = _exception(request.text)
            loaded = self.rules.get(site)
            known = told["rule"] in KINDS or loaded is None or told["rule"] in pages.rules_of(loaded)
            if not told["rule"] or not known or (not told["asset"] and not told["fields"]):
                raise Problem(400, "no_such_exception")
            args |= {pages.named(told["rule"]): told["rule"], "from_ms": now_ms, "until_ms": until_ms}
            args |= {name: told[name] for name in ("fields", "asset") if told[name]}
        act = Act(id=digest("declare", request.text("id")), site=site, who=session.user.name, verb=verb, at_ms=now_ms,
                  args=args)  # fmt: skip
        refused = await self._append(act)
        return RedirectResponse("/declared" + ("?" + urlencode({"refused": refused}) if refused else ""), 303)

    def _own_site(self, site: str, session: Session) -> str:
        """A site that the person may see. Raises Problem."""
        if site not in self.places or (session.user.sites and site not in session.user.sites):
            raise Problem(404, "not_found")
        return site

    async def load_page(self, request: Asked, session: Session | None) -> Response:
        """Alarm load after ISA-18.2."""
        assert session is not None
        told = await asyncio.to_thread(pages.load_of, self.view, session.user.sites, self.now_ms(), self._titles())
        return self.page(request, session, "load.html", **told)

    def _titles(self) -> dict[str, str]:
        """Rule -> title, of all sites."""
        return {
            key: one.head.title for loaded in self.rules.values() for key, one in pages.rules_of(loaded).items()
        }  # fmt: skip

    async def journal_page(self, request: Asked, session: Session | None) -> Response:
        """The journal of the sites, newest first."""
        assert session is not None
        rows = pages.journal(self.view, self.places, session.user.sites)
        return self.page(request, session, "journal.html", rows=rows)

    async def export_csv(self, request: Asked, session: Session | None) -> Response:
        """The list as CSV; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
        assert session is not None
        out = io.StringIO()
        writer = csv.writer(out)
        names = ("id", "site", "severity", "phase", "state", "owner", "title", "place", "first", "last")
        writer.writerow(names)
        for row in self._exported(request, session):
            writer.writerow([_cell(getattr(row, name)) for name in names])
        headers = {"content-disposition": "attachment; filename=threats.csv"}
        return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)

    async def export_json(self, request: Asked, session: Session | None) -> Response:
        """The list as JSON, threats whole."""
        assert session is not None
        listed = (self.view.threat(row.id) for row in self._exported(request, session))
        headers = {"content-disposition": "attachment; filename=threats.json"}
        body = msgspec.json.encode([one.threat for one in listed if one is not None])
        return Response(body, media_type="application/json", headers=headers)

    def _exported(self, request: Asked, session: Session) -> list[Any]:
        return pages.exported(self.hub.board, self.view, session.user.sites, self.speaks(request, session),
                              self.now_ms(), self._wanted(request, session))  # fmt: skip

    # ---- sources and rules ---------------------------------------------------------------------

    async def sources_page(self, request: Asked, session: Session | None) -> Response:
        """How sources and devices do, and names that the site file does not know."""
        assert session is not None
        language = self.speaks(request, session)
        words = {name: said[language] for name, said in self.texts.items()}
        told = pages.sources(self.hub.facts, self.view, session.user.sites, words)
        return self.page(request, session, "sources.html", told=told, facts_away=self.hub.facts_away)

    async def rules_page(self, request: Asked, session: Session | None) -> Response:
        """Rules with hit counts and what the overlay changed."""
        assert session is not None
        text = request.text("q")
        told = pages.rules(self.rules, self.hub.facts, self.view, session.user.sites, text)
        names = {site: places.site.name for site, places in self.places.items()}
        return self.page(request, session, "rules.html", told=told, names=names, text=text, message=_message(request),
                         when=lambda site, t_ms: time_text(t_ms, self.places.get(site)))  # fmt: skip

    def _rule(self, site: str, rule: str) -> dict[str, Any] | None:
        loaded = self.rules.get(site)
        told = pages.rule(loaded, self.hub.facts, site, rule) if loaded is not None else None
        return (
            {**told, "asked": _exception(lambda name: {"site": site, "rule": rule}.get(name, ""))}
            if told is not None
            else None
        )

    async def rule_page(self, request: Asked, session: Session | None) -> Response:
        """What a rule needs, and its newest matches."""
        assert session is not None
        told = self._rule(self._own_site(request.path("site"), session), request.path("rule"))
        if told is None:
            raise Problem(404, "not_found")
        return self.page(request, session, "rule.html", silence=None, message=_message(request), **told)

    async def silence_page(self, request: Asked, session: Session | None) -> Response:
        """Why a rule did not match, or not a message: it is run again, one question at a time."""
        assert session is not None
        site = self._own_site(request.path("site"), session)
        told = self._rule(site, request.path("rule"))
        if told is None:
            raise Problem(404, "not_found")
        message = _message(request)
        lines = await self._why_not(site, told["key"], message)
        return self.page(request, session, "rule.html", silence=lines, message=message, **told)

    async def apart_page(self, request: Asked, session: Session | None) -> Response:
        """Why two findings are not linked: the log is folded again."""
        assert session is not None
        allowed = [one for one in self.places if not session.user.sites or one in session.user.sites]
        site = self._own_site(request.text("site") or next(iter(allowed), ""), session)
        first, second = request.text("first").strip(), request.text("second").strip()
        lines = await self._why_not(site, first, second) if first and second else None
        return self.page(
            request, session, "apart.html", lines=lines, sites=allowed, site=site, first=first, second=second
        )

    async def _why_not(self, site: str, what: str, other: str) -> list[str]:
        return await asyncio.to_thread(self._asking.why_not, site, what, other) if self._asking is not None else []

    # ---- people --------------------------------------------------------------------------------

    async def users_page(self, request: Asked, session: Session | None) -> Response:
        """Who may log in."""
        assert session is not None
        listed = [one for one in (self.users.get(name) for name in self.users.names()) if one is not None]
        return self.page(request, session, "users.html", listed=listed, roles=ROLES, sites=list(self.places),
                         refused=request.text("refused"))  # fmt: skip

    async def put_user(self, request: Asked, session: Session | None) -> Response:
        """Adds, changes or removes a person; her sessions end."""
        assert session is not None
        name, role = request.text("name"), request.text("role")
        sites = tuple(one for one in request.texts("sites") if one in self.places)
        try:
            if not name or len(name) > 100 or name != one_line(name):
                raise UsageError("a name has 1 to 100 characters in one line")
            if request.text("remove"):
                await asyncio.to_thread(self.users.remove, name)
            else:
                known = next((one for one in ROLES if one == role), None)
                if known is None:
                    raise UsageError(f"role is one of {', '.join(ROLES)}")
                if name == session.user.name and known != "admin":
                    raise UsageError("nobody takes the own right away")
                before = self.users.get(name)
                user = User(name, known, language=before.language if before is not None else "", sites=sites)
                await asyncio.to_thread(self.users.put, user, request.text("password"))
            if name != session.user.name:
                self.sessions.end_all(name)
        except UsageError as error:
            return RedirectResponse("/users?" + urlencode({"refused": str(error)}), 303)
        return RedirectResponse("/users", 303)

    # ---- health --------------------------------------------------------------------------------

    async def alive(self, _request: Asked, _session: Session | None) -> Response:
        """The process answers."""
        return PlainTextResponse("alive\n")

    async def metrics(self, request: Asked, session: Session | None) -> Response:
        """Numbers for Prometheus: for this machine, and for people with the role admin."""
        if not _here(request):
            if session is None:
                raise Problem(401, "log_in_first")
            if not allows(session.user.role, "admin"):
                raise Problem(403, "not_allowed")
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    async def ready(self, _request: Asked, _session: Session | None) -> Response:
        """The sources answer, and the view has caught up with them."""
        why = self.hub.away or ("" if self.hub.caught_up else "catching up")
        return PlainTextResponse(f"not ready: {why}\n" if why else "ready\n", 503 if why else 200)


def _message(request: Asked) -> str:
    """The message that a rule is asked about: its proof as the threat's page shows it."""
    return request.text("message").strip()


def _here(request: Request) -> bool:
    """Whether a request comes from this machine, and not through a proxy on it."""
    address = request.client.host if request.client is not None else ""
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    return address in ("127.0.0.1", "::1") and not forwarded


def _local(to: str) -> str:
    """A path of ours; anything else (another host, a scheme) becomes the start page."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and "\n" not in to and "\r" not in to else "/"


def _view_of(request: Asked, *without: str) -> list[tuple[str, str]]:
    """What of an address says which part of the list is shown."""
    shown = ((one.name, request.text(one.name)) for one in VIEW if one.name not in without)
    return [(name, value) for name, value in shown if value]


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        return 0.0
    return min(max(hours, 0.0), LONGEST_H) if hours == hours else 0.0  # noqa: PLR0124 - not a number


def _exception(text: Callable[[str], str]) -> dict[str, Any]:
    """An exception as a form says it, text by name; its fields one a line, name=value."""
    pairs = (line.partition("=") for line in text("fields").splitlines())
    fields = {name.strip()[:200]: value.strip()[:500] for name, equals, value in pairs if equals and name.strip()}
    return {
        "site": text("site"), "rule": text("rule").strip(), "asset": text("asset").strip(), "fields": fields,
        "hours": _hours(text("hours")) or 24.0, "reason": text("reason"),
    }  # fmt: skip


def _cell(text: str) -> str:
    """A CSV cell that no spreadsheet runs."""
    plain = one_line(text)
    return "'" + plain if plain[:1] in ("=", "+", "-", "@") else plain


def _texts() -> dict[str, dict[str, str]]:
    text = files("correlator.console").joinpath("texts/texts.yaml").read_text(encoding="utf-8")
    texts: dict[str, dict[str, str]] = yaml.safe_load(text)
    return texts
