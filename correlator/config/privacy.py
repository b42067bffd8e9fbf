"""`correlator privacy ...`: who is behind a token, what is kept of somebody, and how it goes.

Whoever looks behind a token or takes somebody out is a user of the console with the role for it, gives a
reason, and stands in the journal before anything is shown or changed; a refused try stands there too.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from correlator.config.kept import Kept
from correlator.config.load import Loaded, private_of
from correlator.console.users import Role, User, Users, allows
from correlator.errors import UsageError
from correlator.events.identity import IDENTIFYING_KINDS
from correlator.journal.action import Act, Verb
from correlator.journal.store import Journal
from correlator.premises import load_site
from correlator.privacy.clear import stays_clear
from correlator.privacy.evidence import Locker, without
from correlator.privacy.locks import Locked
from correlator.privacy.settings import PrivacySettings
from correlator.privacy.tokens import TOKEN, expires
from correlator.privacy.vault import Identified, Vault
from correlator.sources.logparts import account_name

REVEALS: Final[Role] = "analyst"
ERASES: Final[Role] = "admin"
TOLD: Final = ("events.enriched", "matches", "threats")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the console knows them, for which site, and why."""

    user: User
    site: str
    reason: str
    journal: Journal
    now_ms: int

    def may(self, verb: Verb, role: Role, threat: str = "", **args: Any) -> None:
        """Writes that it is asked for. Raises UsageError for a missing role or reason, JournalAway."""
        denied = "" if allows(self.user.role, role) else f"a {self.user.role} may not {verb}"
        if self.user.sites and self.site not in self.user.sites:
            denied = f"{self.user.name} is of other sites"
        if not denied and not self.reason.strip():
            raise UsageError("give the reason with --why; it stands in the journal")
        self.journal.append(
            Act(id=secrets.token_hex(16), site=self.site, who=self.user.name, verb=verb, at_ms=self.now_ms,
                threat=threat, args={"reason": self.reason.strip(), **args}, denied=denied)
        )  # fmt: skip
        if denied:
            raise UsageError(denied)


def asker(loaded: Loaded, name: str, password: Callable[[], str], site: str, reason: str, journal: Journal) -> Asker:
    """Who asks, once the password is right. site: "" for the only one. Raises UsageError."""
    file = loaded.settings.console.users
    if file is None or not file.is_file():
        raise UsageError(f"{loaded.file}: console.users names no file; who asks must be one of the console's users")
    sites = [load_site(loaded.folder / one.site).site_id for one in loaded.settings.sites]
    if not site and len(sites) != 1:
        raise UsageError(f"{loaded.file} names {len(sites)} sites; choose with --site")
    if site and site not in sites:
        raise UsageError(f"{loaded.file} has no site {site!r}; there are: {', '.join(sites)}")
    user = Users(file).check(name, password())
    if user is None:
        raise UsageError(f"no user {name!r} with this password")
    return Asker(user, site or sites[0], reason, journal, now_ms())


def now_ms() -> int:
    """This machine's time, ms UTC."""
    return time.time_ns() // 1_000_000


# ---- reveal ----------------------------------------------------------------------------------------------


def reveal(loaded: Loaded, who: Asker, what: str, kept: Kept, out: TextIO) -> int:
    """Says who a token stands for, or prints the raw message of an event (its id). Raises UsageError, Locked."""
    vault = Vault(loaded.settings.privacy.vault, write=False)
    if TOKEN.fullmatch(what):
        who.may("reveal", REVEALS, token=what)
        found = vault.find(what)
        if found is None:
            raise UsageError(f"{what} leads nowhere: it was erased, or never made here")
        out.write(f"{found.kind} {found.value}\n")
        return 0
    found_message = next((one for one in kept.evidence() if one.event == what), None)
    if found_message is not None and found_message.site != who.site:
        raise UsageError(f"event {what} is of site {found_message.site!r}; choose it with --site")
    who.may("reveal", REVEALS, event=what)
    if found_message is None:
        raise UsageError(f"{what!r} is no token, and no message is kept for an event of that id")
    out.write(Locker(vault).open(what, found_message.payload).decode("utf-8", "replace") + "\n")
    return 0


# ---- one person ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Somebody:
    """What stands for one person. tokens: all that lead there, each with what a message may have said.

    in_site: where the site file has the person, "" if it does not.
    """

    tokens: tuple[Identified, ...]
    in_site: str


def somebody(loaded: Loaded, vault: Vault, names: Iterable[str]) -> Somebody:
    """The person of these names, badges or accounts: with everything that the site file and the vault add.

    Names that stay clear (root, a machine) are nobody's.
    """
    wanted = {one.strip().lower() for one in names}
    known: dict[tuple[str, str], None] = {}
    in_site = ""
    for site in loaded.settings.sites:
        file = loaded.folder / site.site
        for person in load_site(file).site.people.values():
            own = [("person", one) for one in (person.id, *person.aliases, person.name) if one]
            own += [("badge", one.id) for one in person.badges]
            own += [("account", name) for one in person.accounts for name in (one.id, account_name(one.id)) if name]
            if wanted & {value.lower() for _, value in own}:
                in_site = f"{file}: person {person.id}"
                known.update(dict.fromkeys(own))
    if not known:
        known = {(kind, one.strip()): None for one in names for kind in sorted(IDENTIFYING_KINDS)}
    private = private_of(loaded)
    clear = stays_clear if private is None else private.identity.is_clear
    tokens: dict[str, Identified] = {}
    for kind, value in known:
        if clear(kind, value):
            continue
        tokens |= {one.token: one for one in vault.tokens_of([value], kind)}
        for token in private.identity.tokens(kind, value) if private is not None else ():
            tokens.setdefault(token, Identified(token, kind, value, 0))
    return Somebody(tuple(tokens.values()), in_site)


def export(loaded: Loaded, who: Asker, names: list[str], kept: Kept, out: TextIO) -> int:
    """Everything kept of one person as JSON lines: who they are, then each record that names them.

    Others in these records stay tokens; of raw messages position, size and hash are told.
    """
    vault = Vault(loaded.settings.privacy.vault, write=False)
    found = somebody(loaded, vault, names)
    known = [one for one in found.tokens if one.first_ms]
    who.may("export", ERASES, tokens=sorted(one.token for one in known))
    for identified in sorted(known, key=lambda one: (one.kind, one.value)):
        _line(out, "identity", msgspec.to_builtins(identified))
    clear = {one.token: one.value for one in found.tokens}
    events: set[str] = set()
    for topic in TOLD:
        for value in kept.told(topic):
            text = value.decode()
            if any(hit[0] in clear for hit in TOKEN.finditer(text)):
                own = TOKEN.sub(lambda hit: _inside_json(clear.get(hit[0], hit[0])), text)
                _line(out, topic, msgspec.json.decode(own))
                if topic == "events.enriched":
                    events.add(msgspec.json.decode(value)["event"]["id"])
    for one in kept.evidence():
        if one.event in events:
            _line(out, "evidence", {"event": one.event, "received_ms": one.received_ms, "channel": one.channel,
                                    "size": one.size, "sha256": one.sha256})  # fmt: skip
    return 0


def erase(loaded: Loaded, who: Asker, names: list[str], kept: Kept, out: TextIO) -> int:
    """Takes one person out: vault and evidence; what remains are tokens that lead nowhere."""
    vault = Vault(loaded.settings.privacy.vault, write=False)
    found = somebody(loaded, vault, names)
    tokens = sorted(one.token for one in found.tokens)
    if not any(one.first_ms for one in found.tokens):
        raise UsageError(f"nothing in the vault leads to {', '.join(names)}")
    who.may("erase", ERASES, tokens=[one.token for one in found.tokens if one.first_ms])
    done = _redact(Locker(vault), found, kept)
    count = vault.erase(tokens, now_ms())
    out.write(f"{count} tokens lead nowhere now; {done} raw messages of evidence are redacted\n")
    if found.in_site:
        out.write(f"{found.in_site} is still there: take it out, then `correlator config apply` or a restart\n")
    return 0


def erase_threat(loaded: Loaded, who: Asker, threat: str, out: TextIO) -> int:
    """Deletes the key of a threat's evidence: no raw message of it can be read again, on any topic or backup."""
    vault = Vault(loaded.settings.privacy.vault, write=False)
    who.may("erase", ERASES, threat, what="evidence")
    if not vault.forget_threat(threat):
        raise UsageError(f"the vault has no key for the evidence of threat {threat!r}")
    out.write(f"no raw message of threat {threat} can be read any more\n")
    return 0


def _redact(locker: Locker, found: Somebody, kept: Kept) -> int:
    """Puts tokens in the place of somebody in all kept messages; gives the number of messages changed."""
    instead = {one.value: one.token for one in found.tokens}
    changed: dict[str, bytes] = {}
    for one in kept.evidence():
        try:
            payload = locker.open(one.event, one.payload)
        except Locked:
            continue  # nobody can read it any more
        left = without(payload, instead)
        if left != payload:
            changed[one.event] = left
    locker.prepare(changed, now_ms())
    kept.replace({event: locker.seal(event, left) for event, left in changed.items()})
    return len(changed)


def _inside_json(text: str) -> str:
    """A text as it stands between the quotes of JSON."""
    return msgspec.json.encode(text)[1:-1].decode()


def _line(out: TextIO, what: str, said: dict[str, Any]) -> None:
    out.write(msgspec.json.encode({"what": what, **said}).decode() + "\n")


# ---- keys and vault --------------------------------------------------------------------------------------


def new_key(file: Path, out: TextIO) -> int:
    """Writes a fresh key that nobody else can read. Raises UsageError if the file is there."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as opened:
            opened.write(secrets.token_hex(32) + "\n")
    except FileExistsError:
        raise UsageError(f"{file} exists; a key is never overwritten, or what it made leads nowhere") from None
    out.write(f"{file}: keep a copy where only who may reveal can reach it\n")
    return 0


def show_keys(settings: PrivacySettings, today: Any, out: TextIO) -> int:
    """Each key and what it does today."""
    for one in settings.keys:
        end = expires(one, settings)
        if end is None:
            state = "makes tokens" if settings.tokens else "would make tokens (privacy.tokens is off)"
        elif today < end:
            state = f"matched until {end}"
        else:
            state = f"matched no more since {end}: take it out and destroy {one.file}"
        out.write(f"{one.id:<14}{state}\n")
    if not settings.keys:
        out.write("no keys; people stay as they are\n")
    return 0


def show_vault(settings: PrivacySettings, out: TextIO) -> int:
    """What the vault holds, in numbers. Raises UsageError."""
    vault = Vault(settings.vault, write=False)
    kinds: dict[str, int] = {}
    for one in vault.everybody():
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
    for kind in sorted(kinds):
        out.write(f"{kind:<14}{kinds[kind]} tokens\n")
    counts = vault.counts()
    out.write(f"erased        {counts['erased']} tokens\n")
    out.write(f"evidence      keys of {counts['evidence']} messages and {counts['threat']} threats\n")
    return 0
