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

_INTERN_CHARS = 256  # of names that are remembered; a flood of longer ones cannot fill memory
_PAIRS_KEPT = 16_384  # pairs of addresses; a hospital's busy ones are fewer
# Beyond this a number is no time at all; it keeps every stored time a 64-bit integer.
_LARGEST_MS = 10**14


# ---- times --------------------------------------------------------------------------------------


def log_time(value: Any, name: str) -> tuple[int, int]:
    """(ms, ns below) of a field that must be a time: ISO text with offset, or an epoch in s, ms, us or ns.

    Raises Unreadable naming the field: missing_field, wrong_type or impossible_time.
    """
    kind = type(value)
    try:
        if kind is str and value:
            made = parse_iso(value) if value[4:5] == "-" or not value[:1].isdigit() else epoch_ms(float(value))
        elif kind is float or kind is int:
            made = epoch_ms(value)
        elif value is None or value == "":
            raise Unreadable("missing_field", f"field {name!r} is missing or empty")
        else:
            raise Unreadable("wrong_type", f"field {name!r} must be a time")
    except (ValueError, OverflowError) as error:
        raise Unreadable("wrong_type", f"field {name!r} is no time", value) from error
    if not -_LARGEST_MS < made[0] < _LARGEST_MS:
        raise Unreadable("impossible_time", f"field {name!r} is out of range", value)
    return made


# ---- fields -------------------------------------------------------------------------------------


def part(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The object in a field; an empty one where there is none."""
    value = data.get(name)
    return value if type(value) is dict else {}


def word(value: Any) -> str:
    """The text in a field of any type, "" for everything else."""
    return value if type(value) is str else ""


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
    if type(value) is not str:
        return None
    return _ip_entity(role, value) if len(value) <= _INTERN_CHARS else _ip_entity.__wrapped__(role, value)


@lru_cache(maxsize=_PAIRS_KEPT)
def _ends(origin: str, target: str) -> tuple[tuple[Entity, ...], str]:
    return present(ip_entity("origin", origin), ip_entity("target", target)), f" from {origin} to {target}"


def ends(origin: Any, target: Any) -> tuple[tuple[Entity, ...], str]:
    """The two ends of a connection, from fields of any type, and the words " from 192.0.2.1 to 192.0.2.2".

    An end that is no address of a machine is left out of the entities; the words are "" unless both
    fields are texts.
    """
    if type(origin) is str and type(target) is str:
        if len(origin) + len(target) <= _INTERN_CHARS:
            return _ends(origin, target)
        return _ends.__wrapped__(origin, target)
    return present(ip_entity("origin", origin), ip_entity("target", target)), ""


@lru_cache(maxsize=INTERNED)
def _mac_entity(role: str, text: str) -> Entity | None:
    digits = re.sub(r"[:.\-]", "", text.strip()).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits) or not digits.strip("0") or digits == "f" * 12:
        return None
    return Entity(role, "mac", ":".join(digits[at : at + 2] for at in range(0, 12, 2)))


def mac_entity(role: str, value: Any) -> Entity | None:
    """The hardware address of a field of any type; None for zeros, broadcast and what is none."""
    if type(value) is not str:
        return None
    return _mac_entity(role, value) if len(value) <= _INTERN_CHARS else _mac_entity.__wrapped__(role, value)


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


@lru_cache(maxsize=INTERNED)
def _host_entity(role: str, text: str) -> Entity | None:
    name = host_name(text)
    return entity(role, "host", name) if name else None


def host_entity(role: str, value: Any) -> Entity | None:
    """The host a field of any type names, None if it names none."""
    if type(value) is not str:
        return None
    return _host_entity(role, value) if len(value) <= _INTERN_CHARS else _host_entity.__wrapped__(role, value)


_NOBODY = re.compile(
    r"(?:|-|n/a|\(null\)|system|local system|localsystem|local service|network service|anonymous logon|anonymous|"
    r"iusr|dwm-\d+|umfd-\d+|s-1-0-0|s-1-5-(?:7|18|19|20))"
)


def account_name(text: str) -> str:
    """The canonical name of an account, "" where the text names nobody (unset, or the system itself)."""
    return _account_name(text) if len(text) <= _INTERN_CHARS else _account_name.__wrapped__(text)


@lru_cache(maxsize=INTERNED)
def _account_name(text: str) -> str:
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
    make = _account_entity if len(value) <= _INTERN_CHARS else _account_entity.__wrapped__
    return make(identity, role, value, machines)


@lru_cache(maxsize=INTERNED)
def _account_entity(identity: Identity, role: str, text: str, machines: bool) -> Entity | None:
    name = account_name(text)
    if not name:
        return None
    if name[-1] == "$" and not machines:
        return host_entity(role, name[:-1])
    token = identity.token("account", name)
    return entity(role, "account", token) if token else None


def present(*entities: Entity | None) -> tuple[Entity, ...]:
    """The entities that are there, in order."""
    return tuple([one for one in entities if one is not None])


# ---- settings -----------------------------------------------------------------------------------


def check_host_setting(settings: Any, file: str) -> list[Fault]:
    """Faults of the settings of a log that may lack host names: `{host: <name>}` or nothing."""
    return check_tables(settings, file, "a log", {}, ("host",))


def log_host(context: Context) -> Entity:
    """The host of a line that names none: the source's setting `host`, else the source's own name."""
    settings = context.settings
    named = settings.get("host") if isinstance(settings, dict) else None
    host = host_entity("target", named) if named is not None else None
    return host or host_entity("target", context.source) or entity("target", "host", "unknown")
