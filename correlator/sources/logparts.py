r"""What the dialects of logs share: fast times, canonical names of hosts, addresses and accounts, tokens.

Canonical forms, so that two tools that speak of one thing give one entity:

    host     lower case, the first label of a DNS name ("WS5.hospital.example" -> "ws5"); an address stays whole
    ip       as `ipaddress` writes it, IPv4-mapped IPv6 as IPv4, no scope; loopback, unset ("-", 0.0.0.0) and
             unreadable ones are no entity
    mac      lower case with colons; all zeros is no entity
    account  lower case, without domain: "HOSPITAL\P-017", "p-017@HOSPITAL.EXAMPLE" and "p-017" are "p-017".
             Machine accounts ("WS5$") are hosts; the system's own (SYSTEM, DWM-1, anonymous) are nobody.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from correlator.clock import epoch_ms, parse_iso
from correlator.errors import Fault
from correlator.events.event import Entity
from correlator.events.identity import Identity
from correlator.sources.dialect import INTERNED, Context, entity
from correlator.sources.reading import Unreadable
from correlator.sources.settings import check_tables

# Beyond this a number is no time at all; it keeps every stored time a 64-bit integer.
_LARGEST_MS = 10**14


# ---- times --------------------------------------------------------------------------------------


_SIGNS = ("+", "-")


@lru_cache(maxsize=8192)
def _second_ms(text: str) -> int:
    """The ms of a whole second with offset; logs hold many lines a second, so this is nearly always cached."""
    return parse_iso(text)[0]


def iso_time(text: str) -> tuple[int, int]:
    """(ms, nanoseconds below the ms) of an ISO time that carries an offset: "Z", "+01:00" or "+0100".

    The same answers as `clock.parse_iso`, faster for the layout YYYY-MM-DDThh:mm:ss.f+offset.
    Raises ValueError if it is no time or has no offset.
    """
    if text[-1:] == "Z":
        end = len(text) - 1
    elif text[-5:-4] in _SIGNS:
        end = len(text) - 5
    elif text[-6:-5] in _SIGNS:
        end = len(text) - 6
    else:
        return parse_iso(text)
    fraction = text[20:end]
    if text[19:20] != "." or not (fraction.isascii() and fraction.isdigit()):
        return parse_iso(text)
    second = _second_ms(text[:19] + text[end:])
    if len(fraction) == 6:
        return second + int(fraction[:3]), int(fraction[3:]) * 1000
    below = fraction.ljust(9, "0")
    return second + int(below[:3]), int(below[3:9])


def log_time(value: Any, name: str) -> tuple[int, int]:
    """(ms, ns below) of a field that must be a time: ISO text with offset, or an epoch in s, ms, us or ns.

    Raises Unreadable naming the field: missing_field, wrong_type or impossible_time.
    """
    kind = type(value)
    try:
        if kind is str and value:
            made = iso_time(value) if value[4:5] == "-" or not value[:1].isdigit() else epoch_ms(float(value))
        elif kind is float or kind is int:
            made = epoch_ms(value)
        elif value is None or value == "":
            raise Unreadable("missing_field", f"field {name!r} is missing or empty")
        else:
            raise Unreadable("wrong_type", f"field {name!r} must be a time")
    except (ValueError, OverflowError) as error:
        raise Unreadable("wrong_type", f"field {name!r} is no time: {error}") from error
    if not -_LARGEST_MS < made[0] < _LARGEST_MS:
        raise Unreadable("impossible_time", f"field {name!r} is {value}")
    return made


# ---- entities -----------------------------------------------------------------------------------


@lru_cache(maxsize=INTERNED)
def _ip_entity(role: str, text: str) -> Entity | None:
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return None
    return Entity(role, "ip", str(address))


def ip_entity(role: str, value: Any) -> Entity | None:
    """The address of a field of any type, None where it names no address of a machine."""
    return _ip_entity(role, value) if type(value) is str else None


@lru_cache(maxsize=INTERNED)
def _mac_entity(role: str, text: str) -> Entity | None:
    digits = re.sub(r"[:.\-]", "", text.strip()).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits) or not digits.strip("0") or digits == "f" * 12:
        return None
    return Entity(role, "mac", ":".join(digits[at : at + 2] for at in range(0, 12, 2)))


def mac_entity(role: str, value: Any) -> Entity | None:
    """The hardware address of a field of any type; None for zeros, broadcast and what is none."""
    return _mac_entity(role, value) if type(value) is str else None


@lru_cache(maxsize=INTERNED)
def host_name(text: str) -> str:
    """The canonical name of a host, "" if the text names none."""
    name = text.strip().strip("\\").rstrip(".").lower()
    if not name or name in ("-", "localhost", "any", "unknown"):
        return ""
    try:
        address = ip_address(name)
    except ValueError:
        return name.partition(".")[0]
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def host_entity(role: str, value: Any) -> Entity | None:
    """The host a field of any type names, None if it names none."""
    if type(value) is not str:
        return None
    name = host_name(value)
    return entity(role, "host", name) if name else None


_NOBODY = re.compile(
    r"(?:|-|n/a|\(null\)|system|local system|localsystem|local service|network service|anonymous logon|anonymous|"
    r"iusr|dwm-\d+|umfd-\d+|s-1-0-0|s-1-5-(?:7|18|19|20))"
)


@lru_cache(maxsize=INTERNED)
def account_name(text: str) -> str:
    """The canonical name of an account, "" where the text names nobody (unset, or the system itself)."""
    name = text.strip().rpartition("\\")[2]
    if "@" in name[1:]:
        name = name.rpartition("@")[0]
    name = name.strip().lower()
    return "" if _NOBODY.fullmatch(name) else name


def account_entity(identity: Identity, role: str, value: Any, *, machines: bool = False) -> Entity | None:
    """The account a field of any type names, as its token; None for nobody.

    A machine account ("WS5$") becomes the host it stands for, unless `machines` asks for the account.
    """
    if type(value) is not str:
        return None
    name = account_name(value)
    if not name:
        return None
    if name[-1] == "$" and not machines:
        return host_entity(role, name[:-1])
    token = identity.token("account", name)
    return entity(role, "account", token) if token else None


def present(*entities: Entity | None) -> tuple[Entity, ...]:
    """The entities that are there, in order."""
    return tuple([one for one in entities if one is not None])


# ---- identities in place ------------------------------------------------------------------------

Path = tuple[str, ...]


class IdentityPaths:
    """`identity_fields` of a declaration, ready to be looked up; flat: a dotted name is one key.

    first  the keys at the top of a message that lead to such a field
    """

    __slots__ = ("first", "tree")

    def __init__(self, fields: dict[str, str], *, flat: bool = False) -> None:
        # key -> what lies below it, or (path, kind) where a field ends: a branch that a message does not
        # have costs one look, however many fields are declared below it.
        self.tree: dict[str, Any] = {}
        for name, kind in fields.items():
            path = (name,) if flat else tuple(name.split("."))
            at = self.tree
            for part in path[:-1]:
                at = at.setdefault(part, {})
            at[path[-1]] = (path, kind)
        self.first = frozenset(self.tree)

    def within(self, data: dict[str, Any]) -> list[tuple[Path, str, Any]]:
        """(path, kind, value) of the fields that a message holds, in the order of the declaration."""
        found: list[tuple[Path, str, Any]] = []
        _collect(self.tree, data, found)
        return found


def _collect(tree: dict[str, Any], data: dict[str, Any], found: list[tuple[Path, str, Any]]) -> None:
    for key, below in tree.items():
        if key in data:
            value = data[key]
            if type(below) is tuple:
                found.append((below[0], below[1], value))
            elif type(value) is dict:
                _collect(below, value, found)


class Hidden:
    """The identifying values of one message and what stands for them in its event.

    `hide` replaces the declared fields of a decoded message in place by their tokens, and every other
    place of the message that repeats one of the values (a path, a command line, a message text). With
    an identity whose tokens are the values themselves it changes nothing and costs a look at each field.
    """

    __slots__ = ("_identity", "_pattern", "_tokens")

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._tokens: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, kind: str, value: str) -> str:
        """The token of a value; the value and its canonical form are hidden in texts from now on."""
        token = self._identity.token(kind, value)
        if token != value.strip():
            self._tokens[value.strip().lower()] = token
            if kind == "account":
                name = account_name(value)
                if name:
                    self._tokens.setdefault(name, self._identity.token(kind, name))
            self._pattern = None
        return token

    def text(self, text: str) -> str:
        """A text with every known value replaced, whole words only, in any case."""
        if not self._tokens:
            return text
        if self._pattern is None:
            words = sorted((w for w in self._tokens if sum(map(str.isalnum, w)) > 1), key=len, reverse=True)
            if not words:
                return text
            either = "|".join(map(re.escape, words))
            self._pattern = re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])", re.IGNORECASE)
        tokens = self._tokens
        return self._pattern.sub(lambda found: tokens.get(found[0].lower(), "***"), text)

    def _everywhere(self, value: Any) -> Any:
        if type(value) is str:
            return self.text(value)
        if type(value) is dict:
            return {key: self._everywhere(item) for key, item in value.items()}
        if type(value) is list:
            return [self._everywhere(item) for item in value]
        return value

    def hide(self, data: dict[str, Any], fields: IdentityPaths) -> None:
        """Replaces in `data`: first wherever a value is repeated, then the declared fields themselves."""
        found: list[tuple[Path, Any]] = []
        if not self._tokens and fields.first.isdisjoint(data):
            return
        for path, kind, value in fields.within(data):
            if type(value) is str and value:
                token: Any = self._identity.token(kind, value)
                if token is value:
                    continue
                token = self.add(kind, value)
            elif type(value) is list:
                token = [self.add(kind, one) if type(one) is str and one else one for one in value]
            else:
                continue
            if token != value:
                found.append((path, token))
        if self._tokens:
            for key, value in data.items():
                data[key] = self._everywhere(value)
        for path, token in found:
            at = data
            for part in path[:-1]:
                at = at[part]
            at[path[-1]] = token


# ---- settings -----------------------------------------------------------------------------------


def check_host_setting(settings: Any, file: str) -> list[Fault]:
    """Faults of the settings of a log that may lack host names: `{host: <name>}` or nothing."""
    return check_tables(settings, file, "a log", {}, ("host",))


def log_host(context: Context) -> Entity:
    """The host of a line that names none: the source's setting `host`, else the source's own name."""
    settings = context.settings
    named = settings.get("host") if isinstance(settings, dict) else None
    return host_entity("target", named) or entity("target", "host", host_name(context.source) or "unknown")
