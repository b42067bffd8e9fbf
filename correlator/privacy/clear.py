"""Names that identify nobody and stay as they are: the system's own accounts and groups, machines, addresses.

Rules look for them in parts ("ends with $", "contains AUTHORI"), and an account of the system says what
happened, not who did it. Sources: Microsoft, "Well-known SIDs", "Local accounts", "Active Directory
security groups"; Debian, base-passwd 3.6 (users and groups).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from correlator.sources.logparts import account_name

ACCOUNTS: Final = frozenset({
    # Windows
    "administrator", "administrateur", "amministratore", "guest", "invité", "defaultaccount", "wdagutilityaccount",
    "krbtgt", "system", "trustedinstaller", "service", "local service", "network service", "everyone",
    # Unix
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
    "backup", "list", "irc", "gnats", "_apt", "nobody", "sshd", "systemd-network", "systemd-resolve",
    "systemd-timesync", "messagebus", "syslog", "postfix", "postgres", "mysql", "ntp", "cron", "admin",
    # groups, which the records of group changes name in the same fields
    "administrators", "domain admins", "enterprise admins", "schema admins", "key admins", "enterprise key admins",
    "dnsadmins", "account operators", "backup operators", "print operators", "server operators",
    "network configuration operators", "cryptographic operators", "hyper-v administrators", "remote desktop users",
    "remote management users", "group policy creator owners", "domain users", "domain computers",
    "domain controllers", "protected users", "users", "guests", "power users", "wheel", "sudo", "adm", "docker",
})  # fmt: skip
_RIDS: Final = ("500", "501", "502", "503", "512", "513", "514", "515", "516", "517", "518", "519", "520", "521", "522",
                "525", "526", "527", "544", "545", "546", "548", "549", "550", "551", "553")  # fmt: skip
_SID: Final = re.compile(
    r"s-1-(?:0-0|1-0|2-[01]|3-\d|5-(?:\d|1\d|20)|5-32-\d+|5-80-.*|5-90-.*|5-96-.*|16-\d+)"
    rf"|s-1-5-21-.*-(?:{'|'.join(_RIDS)})"
)
_UNSET: Final = frozenset({"0", "-1", "4294967295", "unset", "unknown", "(unknown)", "none", "null"})

# What a partial test may look for, since only names that stay clear have it (lower case).
STARTS: Final = (
    "nt authority\\", "nt service\\", "iis apppool\\", "window manager\\", "font driver host\\", "dwm-", "umfd-",
)  # fmt: skip
_SHORTEST_PART: Final = 4
PARTS: Final = ("authori", "autori", "nt service", "autorite nt", "autorité nt")


def stays_clear(kind: str, value: str) -> bool:
    """Whether a value names nobody: kinds are those of `Identity.token`; badges and people always identify."""
    if kind != "account":
        return not value.strip()
    lower = value.strip().lower()
    if lower.endswith("$") or lower.startswith(STARTS) or lower in _UNSET or _SID.fullmatch(lower):
        return True
    name = account_name(value)
    return not name or name in ACCOUNTS or _is_address(lower)


def finds_clear_names(how: str, part: str) -> str:
    """What a partial test (startswith, endswith, contains) still finds among tokens.

    "only": it can only mean names that stay clear; else a name that stays clear and has that part, which is
    all it finds; "" if there is none.
    """
    lower = part.lower()
    if lower.endswith("$") and how != "startswith":
        return "only"
    if how == "endswith" and lower.startswith("-") and lower[1:] in _RIDS:
        return "only"
    if how == "startswith" and lower.startswith((*STARTS, "s-1-5-32")):
        return "only"
    if how == "startswith" and len(lower) >= _SHORTEST_PART and any(one.startswith(lower) for one in STARTS):
        return "only"
    if how == "contains" and any(one in lower for one in PARTS):
        return "only"
    if len(lower) < _SHORTEST_PART:
        return ""
    has = {"startswith": str.startswith, "endswith": str.endswith, "contains": str.__contains__}[how]
    return next((name for name in sorted(ACCOUNTS) if has(name, lower)), "")


def _is_address(text: str) -> bool:
    if not text[:1].isalnum() and text[:1] != ":":
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
