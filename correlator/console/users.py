"""People who may log in, and their sessions.

Passwords are argon2id (RFC 9106) with the library's defaults; an unknown name costs the time of a known one.
Sessions live on the server: the cookie is 256 random bits, the file holds their hash (ASVS 5.0, chapter 7).
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Struct

from correlator.errors import Fault, FaultyFile, UsageError
from correlator.events.text import one_line
from correlator.marked import MarkedDict, MarkedList, load_file

Role = Literal["viewer", "operator", "analyst", "admin"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "analyst", "admin")
SHORTEST_PASSWORD: Final = 12
_COMMON: Final = ("password", "passwort", "motdepasse", "qwerty", "azerty", "123456", "letmein", "hospital", "ospedale")
LANGUAGES: Final = ("en", "fr", "it")

_hasher: Final = PasswordHasher()
_NOBODY: Final = _hasher.hash(secrets.token_hex(16))


class User(Struct, frozen=True):
    """A person. name is a pseudonym that stands in the journal; sites: ids, () means all."""

    name: str
    role: Role
    password: str = ""
    language: str = ""
    sites: tuple[str, ...] = ()


def allows(role: Role, needed: Role) -> bool:
    """Whether a role may do what another may."""
    return ROLES.index(role) >= ROLES.index(needed)


def password_problem(password: str) -> str:
    """What is wrong with a new password, "" if nothing is."""
    if len(password) < SHORTEST_PASSWORD:
        return f"a password has at least {SHORTEST_PASSWORD} characters"
    if len(password) > 1_000:
        return "a password has at most 1,000 characters"
    plain = password.lower().replace(" ", "")
    if any(word in plain and len(plain) - len(word) < 6 for word in _COMMON) or len(set(plain)) < 5:
        return "this password is among the first that anybody would try"
    return ""


def user_of(
    name: str, groups: Collection[str], roles: Mapping[str, Role], sites: Mapping[str, tuple[str, ...]]
) -> User | None:
    """Somebody whom others have logged in, by groups: the highest role counts; None if no group has one.

    sites: those of the groups named there; all where a person is in none of them.
    """
    held = [role for group, role in roles.items() if group in groups]
    if not name or len(name) > 100 or name != one_line(name) or not held:
        return None
    seen = tuple(site for group, theirs in sites.items() if group in groups for site in theirs)
    return User(name, max(held, key=ROLES.index), sites=seen)


class Users:
    """The file of users (YAML). Raises FaultyFile with every fault, UsageError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users: dict[str, User] = {}
        self._changed_ns = -1
        self.fresh()

    def fresh(self) -> None:
        """Reads the file again if it has changed. Raises FaultyFile; what was known before then holds."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
        except OSError:
            return
        if changed_ns != self._changed_ns:
            self._read()
            self._changed_ns = changed_ns

    def _read(self) -> None:
        documents = load_file(self._path)
        root = documents[0] if documents else None
        faults: list[Fault] = []
        users: dict[str, User] = {}
        rows = root.get("users") if isinstance(root, MarkedDict) else None
        if not isinstance(rows, MarkedList):
            raise FaultyFile([Fault(str(self._path), 1, 1, "a file of users holds a list `users`")])
        for number, row in enumerate(rows):
            line, column = rows.items_at[number]
            if not isinstance(row, MarkedDict) or not row.get("name"):
                faults.append(Fault(str(self._path), line, column, "a user has name, role and password"))
            elif row.get("role") not in ROLES:
                faults.append(Fault(str(self._path), line, column, f"role is one of {', '.join(ROLES)}"))
            else:
                users[str(row["name"])] = User(
                    str(row["name"]), row["role"], str(row.get("password", "")), str(row.get("language", "")),
                    tuple(str(one) for one in row.get("sites") or ()),
                )  # fmt: skip
        if faults:
            raise FaultyFile(faults)
        self._users = users

    def names(self) -> list[str]:
        """Names in the order of the alphabet."""
        return sorted(self._users)

    def get(self, name: str) -> User | None:
        """The user of a name."""
        return self._users.get(name)

    def check(self, name: str, password: str) -> User | None:
        """The user whose name and password these are."""
        user = self._users.get(name)
        try:
            _hasher.verify(user.password if user is not None else _NOBODY, password)
        except (VerificationError, InvalidHashError):
            return None
        return user

    def put(self, user: User, password: str = "") -> None:
        """Adds or changes a user and writes the file (mode 600); without a password the one before stays.

        Raises UsageError for a poor password, or none where there was none.
        """
        self.fresh()  # somebody else may have written it
        known = self._users.get(user.name)
        problem = password_problem(password) if password or known is None else ""
        if problem:
            raise UsageError(problem)
        hashed = _hasher.hash(password) if password or known is None else known.password
        self._users[user.name] = User(user.name, user.role, hashed, user.language, user.sites)
        self._write()

    def remove(self, name: str) -> None:
        """Removes a user; what stands in the journal stays. Raises UsageError for the last admin."""
        self.fresh()
        known = self._users.get(name)
        if known is None:
            return
        if known.role == "admin" and sum(one.role == "admin" for one in self._users.values()) == 1:
            raise UsageError("the last admin stays")
        del self._users[name]
        self._write()

    def _write(self) -> None:
        rows: list[dict[str, Any]] = []
        for one in sorted(self._users.values(), key=lambda known: known.name):
            row: dict[str, Any] = {"name": one.name, "role": one.role, "password": one.password}
            if one.language:
                row["language"] = one.language
            if one.sites:
                row["sites"] = list(one.sites)
            rows.append(row)
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.touch(mode=0o600)
        fresh.write_text(yaml.safe_dump({"users": rows}, sort_keys=False), encoding="utf-8")
        fresh.replace(self._path)
        self._changed_ns = self._path.stat().st_mtime_ns


class Session(Struct, frozen=True):
    """A login. csrf: token that forms carry; origin: who said who it is, "" the file of users; times in ms UTC."""

    user: User
    csrf: str
    began_ms: int
    seen_ms: int
    origin: str = ""


class Sessions:
    """Sessions in a SQLite file, shared by the replicas of one machine."""

    def __init__(self, path: Path | str, idle_ms: int, longest_ms: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        # Of another version's sessions nobody keeps anything: people log in again.
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS sessions_2 (hash BLOB PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,"
            " language TEXT NOT NULL, sites TEXT NOT NULL, csrf TEXT NOT NULL, origin TEXT NOT NULL,"
            " began_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._idle_ms, self._longest_ms = idle_ms, longest_ms

    def begin(self, user: User, now_ms: int, origin: str = "") -> str:
        """A new session; returns the token for the cookie."""
        token = secrets.token_urlsafe(32)
        row = (_hash(token), user.name, user.role, user.language, "\n".join(user.sites), secrets.token_urlsafe(32))
        self._db.execute("INSERT INTO sessions_2 VALUES (?,?,?,?,?,?,?,?,?)", (*row, origin, now_ms, now_ms))
        return token

    def find(self, token: str, now_ms: int, *, touch: bool = True) -> Session | None:
        """The session of a token, None if it ended. touch: this is a request of the person."""
        row = self._db.execute(
            "SELECT name, role, language, sites, csrf, origin, began_ms, seen_ms FROM sessions_2 WHERE hash = ?",
            (_hash(token),),
        ).fetchone()
        if row is None:
            return None
        name, role, language, sites, csrf, origin, began_ms, seen_ms = row
        if now_ms - seen_ms > self._idle_ms or now_ms - began_ms > self._longest_ms:
            self.end(token)
            return None
        if touch and now_ms - seen_ms > 1_000:
            self._db.execute("UPDATE sessions_2 SET seen_ms = ? WHERE hash = ?", (now_ms, _hash(token)))
        user = User(name, role, language=language, sites=tuple(one for one in sites.split("\n") if one))
        return Session(user, csrf, began_ms, now_ms, origin)

    def speak(self, token: str, language: str) -> None:
        """Changes the language of a session."""
        self._db.execute("UPDATE sessions_2 SET language = ? WHERE hash = ?", (language, _hash(token)))

    def end(self, token: str) -> None:
        """Logout."""
        self._db.execute("DELETE FROM sessions_2 WHERE hash = ?", (_hash(token),))

    def end_all(self, name: str) -> None:
        """Ends every session of a person, after a change of role or password."""
        self._db.execute("DELETE FROM sessions_2 WHERE name = ?", (name,))


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
