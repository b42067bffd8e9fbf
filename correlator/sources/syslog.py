"""Syslog lines: logons, privileged commands, accounts, DHCP leases, USB storage, and any other line as a note.

Follows: RFC 5424 section 6 (header, structured data, BOM), RFC 3164 section 4 and how it is really
written, RFC 6587 section 3.4.1 (octet count before the message); OpenSSH auth.c and auth2.c, Linux-PAM
pam_unix, sudo, su, shadow, dnsmasq, ISC dhcpd and Kea for the texts. One message a line:

    <34>1 2026-03-01T02:14:05.250Z ws1 sshd 812 - [meta sequenceId="7"] Failed password for ...
    <38>Mar  1 02:14:05 ws1 sshd[812]: Failed password for ...
    Mar  1 02:14:05 ws1 sshd[812]: ...         files have no PRI; relays may leave the host name out
    2026-03-01T02:14:05.250+01:00 ws1 sshd[812]: ...            rsyslog's file format
    2026-03-01 02:14:05.250 INFO  [kea-dhcp4.leases/24] ...     Kea's own log

RFC 3164 has no year and no zone: the zone is the clock policy's, the year the one that brings the time
nearest to the receive time (setting `year` for files that are replayed without receive times). A line
without host name is about the host of the setting `host`, else the one the source is named after.

Attributes: facility, severity (0 most severe), hostname, appname, procid, msgid, structured_data, and
what the text says (user, src_ip, src_port, method, ...). The text is the event's `text`, which keyword
rules search. A log line is attacker's text: names may hold " from 10.0.0.1", so lines are read from the
right. "message repeated 5 times: [ ... ]" is five events, at most 100, each with `repeated`.

A name may stand anywhere in the text of a program that no reader knows, also beside one that is recognised.
Where tokens are not the values themselves, a line that no reader understands keeps its text to itself
(`text_withheld`). The setting `nameless` lists programs whose lines name nobody, `named` those whose lines
name somebody only in forms that are recognised; cron is one of these.

What one logon says several times counts once: sshd's own "Failed"/"Accepted" lines count, the lines of
PAM and "Invalid user" about the same attempt are notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from correlator.clock import DAY_MS, parse_iso
from correlator.errors import Fault
from correlator.events.event import Entity, Event
from correlator.events.identity import keeps_values
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.hiding import Hidden, IdentityPaths, hide
from correlator.sources.logparts import account_entity, host_entity, ip_entity, log_host, mac_entity, present
from correlator.sources.reading import Unreadable
from correlator.sources.settings import unknown_words, value_fault

_MOST_REPEATED = 100
_LONGEST_READ = 8192  # longer texts are notes; RFC 5424 asks receivers for 2,048 octets

IDENTITY_FIELDS: Final[dict[str, str]] = {
    "user": "account",
    "target_user": "account",
    "ruser": "account",
    "logname": "account",
}
_IDENTITY_PATHS: Final = IdentityPaths(IDENTITY_FIELDS)


# ---- what a text says ---------------------------------------------------------------------------


class _Said(Struct, frozen=True, gc=False):
    """What one text says; actor and target are account names as written, source an address as written."""

    kind: str
    fields: dict[str, Any]
    words: str = ""
    actor: str = ""
    target: str = ""
    source: str = ""
    level: str = ""


def _note(**fields: Any) -> _Said:
    fields = {name: value for name, value in fields.items() if value is not None}
    return _Said("host.note", fields, actor=fields.get("user") or "", source=fields.get("src_ip") or "")


def _port(text: str | None) -> int | None:
    return int(text[:5]) if text else None


_ACCEPTED = re.compile(r"Accepted (\S+) for (.+) from (\S+) port (\d+)(?:\s+ssh2(?:: .*)?)?$")
_FAILED = re.compile(
    r"Failed (\S+) for (invalid user |illegal user )?(.*) from (\S+)(?: port (\d+))?"
    r"(?:\s+ssh2(?:: .*)?)?(?: \[preauth\])?$"
)
_SSH_PAM = re.compile(
    r"error: PAM: (.+?) for (?:illegal user |invalid user )?(.*) from (\S+?)(?: via \S+)?(?: \[preauth\])?\s*$"
)
_INVALID = re.compile(r"(?:Invalid|Illegal) user (.*) from (\S+)(?: port (\d+))?(?: \[preauth\])?$")
_DISCONNECTED = re.compile(
    r"(?:Disconnected from|Connection (?:closed|reset) by) "
    r"(?:(user|authenticating user|invalid user) (.*) )?(\S+) port (\d+)"
)
_MAXIMUM = re.compile(r"error: maximum authentication attempts exceeded for (invalid user )?(.*) from (\S+) port (\d+)")
_NOT_ALLOWED = re.compile(r"User (.*?)(?: from (\S+))? not allowed because ")
_ROOT_REFUSED = re.compile(r"ROOT LOGIN REFUSED FROM (\S+)(?: port (\d+))?")
_FROM = re.compile(r".*\b(?:from|with) \[?([0-9a-fA-F.:]{3,})\]?(?: port (\d+))?")


def _sshd(text: str) -> _Said | None:
    if text[:9] == "Accepted " and (found := _ACCEPTED.match(text)):
        method, user, source, port = found.groups()
        fields = {"user": user, "src_ip": source, "src_port": _port(port), "method": method}
        return _Said("host.logon", fields, f"ssh {method} logon", user, source=source)
    if text[:7] == "Failed " and (found := _FAILED.match(text)):
        method, invalid, user, source, port = found.groups()
        fields = {"user": user, "src_ip": source, "method": method, "invalid_user": bool(invalid)}
        if port:
            fields["src_port"] = _port(port)
        return _Said("host.logon_failed", fields, f"failed ssh {method} logon", user, source=source)
    if found := _ROOT_REFUSED.match(text):
        fields = {"user": "root", "src_ip": found[1]}
        return _Said("host.logon_failed", fields, "refused ssh logon", "root", source=found[1])
    if found := _MAXIMUM.match(text):
        fields = {"user": found[2], "src_ip": found[3], "src_port": _port(found[4]), "invalid_user": bool(found[1])}
        return _Said("host.alert", fields, "too many ssh logon attempts", found[2], source=found[3])
    if found := _DISCONNECTED.match(text):
        fields = {"src_ip": found[3], "src_port": _port(found[4])}
        if found[2]:
            fields["user"] = found[2]
        kind = "host.logoff" if found[1] == "user" else "host.note"
        return _Said(kind, fields, "ssh session ended" if found[1] == "user" else "", found[2] or "", source=found[3])
    if found := _SSH_PAM.match(text):
        return _note(user=found[2], src_ip=found[3], reason=found[1])
    if found := _INVALID.match(text):
        return _note(user=found[1], src_ip=found[2], src_port=_port(found[3]), invalid_user=True)
    if found := _NOT_ALLOWED.match(text):
        return _note(user=found[1], src_ip=found[2])
    if found := _FROM.match(text):
        return _note(src_ip=found[1], src_port=_port(found[2]))
    return None


_SUDO = re.compile(r"\s*(\S.*?) : (?:(.*?) ; )?TTY=(\S+) ; PWD=(.*?) ; USER=(\S+) ;(?:.*? ;)? COMMAND=(.*)$")
_WRONG_PASSWORDS = re.compile(r"\d+ incorrect password attempts?")


def _sudo(text: str) -> _Said | None:
    found = _SUDO.match(text)
    if not found:
        return None
    user, trouble, tty, directory, target, command = found.groups()
    fields = {"user": user, "target_user": target, "TTY": tty, "PWD": directory, "COMMAND": command}
    if not trouble:
        return _Said("command.run", fields, "sudo command", user, target)
    fields["reason"] = trouble
    if _WRONG_PASSWORDS.fullmatch(trouble):
        return _Said("host.logon_failed", fields, "failed sudo", user, target)
    return _Said("host.alert", fields, "refused sudo", user, target)


# Who, to whom, in the forms of util-linux, shadow and the BSDs.
_SU_FAILED: Final = (
    re.compile(r"FAILED SU \(to (?P<to>\S+)\) (?P<who>\S+) on "),
    re.compile(r"BAD SU (?P<who>\S+) to (?P<to>\S+) on "),
    re.compile(r"failed: \S+ changing from (?P<who>\S+) to (?P<to>\S+)"),
    re.compile(r"- \S+ (?P<who>[^\s:]+):(?P<to>\S+)"),
)
_SU_DONE: Final = (
    re.compile(r"\(to (?P<to>\S+)\) (?P<who>\S+) on "),
    re.compile(r"(?P<who>\S+) to (?P<to>\S+) on "),
    re.compile(r"\+ \S+ (?P<who>[^\s:]+):(?P<to>\S+)"),
)


def _su(text: str) -> _Said | None:
    for patterns, kind, words in (
        (_SU_FAILED, "host.logon_failed", "failed su"),
        (_SU_DONE, "privilege.assigned", "su"),
    ):
        for pattern in patterns:
            if found := pattern.match(text):
                who, to = found["who"], found["to"]
                return _Said(kind, {"user": who, "target_user": to}, words, who, to)
    return None


_PAM_NAME = re.compile(r"pam_\w+\(([\w.-]+)(?::\w+)?\): ")
_PAM_SESSION = re.compile(r"session (opened|closed) for user ([^\s(]+)")
_PAM_FAILURE = re.compile(r"(?:authentication failure|\d+ more authentication failures?); (.*)$")
_PAIRS = re.compile(r"(\w+)=(\S*)")
_TELL_THEMSELVES: Final = frozenset({"sshd", "sudo", "su", "su-l"})
_NO_PERSON: Final = frozenset({"sshd", "sudo", "su", "su-l", "cron", "crond", "systemd-user", "runuser", "atd"})
_CONSOLES: Final = ("login", "gdm", "lightdm", "sddm", "xdm", "kdm")


def _pam(program: str, text: str) -> _Said | None:
    """Lines of pam_unix, in the form "pam_unix(gdm-password:session): ..." or "su(pam_unix)[812]: ..."."""
    service = program
    if found := _PAM_NAME.match(text):
        service = found[1]
        text = text[found.end() :]
    if found := _PAM_SESSION.match(text):
        user = found[2]
        fields: dict[str, Any] = {"user": user, "service": service}
        if service in _NO_PERSON:
            return _Said("host.note", fields, "", user)
        console = service.startswith(_CONSOLES)
        if found[1] == "closed":
            return _Said("host.logoff", fields, "session ended", user)
        return _Said("host.logon", fields, "console logon" if console else f"{service} logon", user)
    if found := _PAM_FAILURE.match(text):
        pairs = {name: value for name, value in _PAIRS.findall(found[1]) if value}
        fields = {name: pairs[name] for name in ("user", "ruser", "logname", "tty", "rhost") if name in pairs}
        fields["service"] = service
        user, source = pairs.get("user", ""), pairs.get("rhost", "")
        if service in _TELL_THEMSELVES:
            return _Said("host.note", fields, "", user, source=source)
        return _Said("host.logon_failed", fields, f"failed {service} logon", user, source=source)
    return None


_NEW_USER = re.compile(r"new user: name=([^,\s]+)")
_DELETED_USER = re.compile(r"delete user '([^']+)'$")
_LOCKED_USER = re.compile(r"lock user '([^']+)' password")
_TO_GROUP = re.compile(r"add '([^']+)' to (?:shadow )?group '([^']+)'")
_GPASSWD = re.compile(r"user (\S+) added by (\S+) to group (\S+)")
_PASSWORD = re.compile(r".*password changed for (\S+)")


def _accounts(text: str) -> _Said | None:
    """useradd, userdel, usermod, gpasswd, passwd, chpasswd."""
    for pattern, kind in (
        (_NEW_USER, "account.created"),
        (_DELETED_USER, "account.deleted"),
        (_LOCKED_USER, "account.disabled"),
        (_PASSWORD, "account.password_reset"),
    ):
        if found := pattern.match(text):
            return _Said(kind, {"target_user": found[1]}, target=found[1])
    if found := _TO_GROUP.match(text):
        if "shadow group" in text:  # said twice, for /etc/group and /etc/gshadow
            return _note(target_user=found[1], group=found[2])
        return _Said("group.member_added", {"target_user": found[1], "group": found[2]}, target=found[1])
    if found := _GPASSWD.match(text):
        fields = {"target_user": found[1], "user": found[2], "group": found[3].rstrip(".")}
        return _Said("group.member_added", fields, actor=found[2], target=found[1])
    return None


_DHCP: Final = (
    re.compile(r"(?:\d+ )?DHCPACK\((?P<iface>\S+)\) (?P<ip>\S+) (?P<mac>\S+)(?: (?P<name>\S+))?$"),  # dnsmasq
    re.compile(r"DHCPACK on (?P<ip>\S+) to (?P<mac>\S+)(?: \((?P<name>[^)]*)\))?(?: via (?P<iface>\S+))?"),  # dhcpd
    re.compile(  # Kea; the name is not in this line
        r"(?:\w+\s+)?(?:\[[\w.-]+/\S+\] )?DHCP4_LEASE_ALLOC \[hwtype=\d+ (?P<mac>[0-9a-fA-F:]+)\]"
        r".*? lease (?P<ip>\S+) has been allocated"
    ),
)


def _dhcp(text: str) -> _Said | None:
    for pattern in _DHCP:
        if found := pattern.match(text):
            said = found.groupdict()
            fields = {"ip": said["ip"], "mac": said["mac"]}
            if said.get("name"):
                fields["client_host"] = said["name"]
            if said.get("iface"):
                fields["interface"] = said["iface"]
            return _Said("dhcp.lease", fields, f"{found['ip']} leased to {found['mac']}")
    return None


_KERNEL_TIME = re.compile(r"\[\s*\d+\.\d+\] ")
_USB_STORAGE = re.compile(r"usb-storage (\S+): USB Mass Storage device detected")
_USB_GONE = re.compile(r"usb (\S+): USB disconnect")
_USB_NEW = re.compile(r"usb (\S+): New USB device found, idVendor=(\w+), idProduct=(\w+)")


def _kernel(text: str) -> _Said | None:
    if found := _KERNEL_TIME.match(text):
        text = text[found.end() :]
    if found := _USB_STORAGE.match(text):
        return _Said("usb.attached", {"usb_port": found[1]}, "USB storage attached")
    if found := _USB_GONE.match(text):
        return _Said("usb.detached", {"usb_port": found[1]}, "USB device detached")
    if found := _USB_NEW.match(text):
        return _note(usb_port=found[1], usb_vendor=found[2], usb_product=found[3])
    return None


_READERS: Final[dict[str, Callable[[str], _Said | None]]] = {
    "sshd": _sshd,
    "sshd-session": _sshd,
    "sshd-auth": _sshd,
    "sudo": _sudo,
    "su": _su,
    "useradd": _accounts,
    "userdel": _accounts,
    "usermod": _accounts,
    "gpasswd": _accounts,
    "passwd": _accounts,
    "chpasswd": _accounts,
    "dnsmasq-dhcp": _dhcp,
    "dhcpd": _dhcp,
    "kea-dhcp4": _dhcp,
    "kernel": _kernel,
}
# Where a line that no reader understands names somebody: user=x, "user x", "by x", "(x) CMD", /home/x, x@y.
_NAMED: Final = (
    re.compile(r"(?i)\b(?:user|ruser|logname|acct|account|username|login|suser|duser)=[\"']?([^\s\"',;()]+)"),
    re.compile(r"(?i)\b(?:user|account|login|logon|owner|operator|by|for)[ :]+[\"'(]?([^\s\"',;()\[\]]{2,})"),
    re.compile(r"^\(([^\s()]+)\) "),
    re.compile(r"(?i)(?:/home/|\\Users\\)([^\s/\\\"',;()]+)"),
    re.compile(r"([\w.+-]+@[\w-]+(?:\.[\w-]+)*)"),
)
_NAMING_KEY: Final = re.compile(r"(?i)(?:.*[._-])?(?:[rsd]?user(?:name)?|acct|account|login|logname|owner)")
_NAMED_PROGRAMS: Final = frozenset({"CRON", "CROND", "cron", "crond", "anacron"})  # "(who) CMD (what)"
_NAMELESS_DATA: Final = frozenset({"meta", "origin", "timeQuality"})  # RFC 5424 section 7


def _read(program: str, text: str) -> _Said:
    if len(text) > _LONGEST_READ:
        return _Said("host.note", {})
    reader = _READERS.get(program)
    said = reader(text) if reader else None
    if said is None and ("pam_" in text or "session " in text or "authentication failure" in text):
        said = _pam(program, text)
    return said or _Said("host.note", {})


def _hidden(said: _Said, line: _Line, context: Context) -> str:
    """The text of a line without names; tokens take their places in the attributes too.

    A name can stand anywhere in a line that no reader understands: its text and its structured data stay
    behind, unless its program is known to name nobody, or only in forms that are found here.
    """
    attributes = line.attributes
    hidden = Hidden(context.identity)
    settings = context.settings if isinstance(context.settings, dict) else {}
    nameless = line.program in settings.get("nameless", ())
    shown = nameless or said.kind != "host.note" or bool(said.actor or said.target)
    if said.kind == "host.note" and len(line.text) <= _LONGEST_READ:
        known = line.program in _NAMED_PROGRAMS or line.program in settings.get("named", ())
        for pattern in _NAMED:
            for name in pattern.findall(line.text):
                hidden.add("account", name)
                shown = shown or known
    if data := attributes.get("structured_data"):
        kept = {}
        for id, element in data.items():
            if id not in _NAMELESS_DATA:
                element = _named_values(element, hidden, all_of_it=nameless) if shown else {}
            if element:
                kept[id] = element
        attributes["structured_data"] = kept
        if not kept:
            del attributes["structured_data"]
    hidden.hide(attributes, _IDENTITY_PATHS)
    if line.text and not shown:
        attributes["text_withheld"] = True
        return ""
    return hidden.text(line.text)


def _named_values(element: dict[str, str], hidden: Hidden, *, all_of_it: bool) -> dict[str, str]:
    """What a structured data element names somebody with, as tokens; and the rest of it, if asked for."""
    return {
        name: hidden.add("account", value) if value and _NAMING_KEY.fullmatch(name) else value
        for name, value in element.items()
        if all_of_it or _NAMING_KEY.fullmatch(name)
    }


# ---- the line -----------------------------------------------------------------------------------


class _Line(Struct, frozen=True, gc=False):
    """A line in its parts. program: "" where it has none; text: what stands behind the head."""

    attributes: dict[str, Any]
    host: str
    program: str
    text: str
    device_ms: int | None
    sub_ns: int
    seq: int


_OCTETS = re.compile(r"\d{1,7} (?=<)")
_PRI = re.compile(r"<(\d{1,3})>")
_HEADER = re.compile(r"<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) ?")
_ELEMENT = re.compile(r'\[([^ =\]"]{1,64})((?: +[^ =\]"]{1,64}="(?:[^"\\]|\\.)*")*) *\]', re.DOTALL)
_PARAM = re.compile(r'([^ =\]"]{1,64})="((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\\]])')

_BSD_TIME = re.compile(r"([A-Z][a-z]{2}) {1,2}(\d{1,2}) (?:(\d{4}) )?(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))? ")
_ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?) +")
_KEA = re.compile(r"(?:FATAL|ERROR|WARN|INFO|DEBUG) +\[(kea-\w+)[^\]]*\] ")
_TAG = re.compile(r"\[?([A-Za-z][\w./@+-]*?)\]?(?:\((\w[\w./:-]*)\))?(?:\[([\w.-]+)\])?(?::| (?=\[))\s*")
_PLAIN_TAG = re.compile(r"[A-Za-z][\w.-]*(?:\[[\w.-]+\])?")
_BARE_TAG = re.compile(r"\[([A-Za-z][\w./-]*)\]:? +")
_SOLARIS = re.compile(r"\[ID \d+ [\w.]+\] ")
_REPEATED = re.compile(r"message repeated (\d{1,9}) times: \[ ?(.*)\]$", re.DOTALL)
_LAST_REPEATED = re.compile(r"last message repeated (\d{1,9}) times?")

_LAST_DAY = 1_000_000  # of the year 4707: within what `datetime` knows
_MONTHS: Final = {name: at for at, name in enumerate(
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}  # fmt: skip


def _second_in_year(month: str, day: int, clock: str, year: int, zone: tzinfo) -> int | None:
    try:
        stamp = datetime(
            year, _MONTHS[month], day, int(clock[:2]), int(clock[3:5]), min(int(clock[6:8]), 59), tzinfo=zone
        )
    except (KeyError, ValueError):
        return None
    return int(stamp.timestamp()) * 1000


@lru_cache(maxsize=8192)
def _nearest(month: str, day: str, clock: str, received_day: int, zone: tzinfo) -> int | None:
    """The year that brings a date nearest to the noon of the day it was received; None if there is no such date."""
    near = (received_day * 2 + 1) * (DAY_MS // 2)
    year = (datetime(1970, 1, 1) + timedelta(days=received_day)).year  # noqa: DTZ001 - a count of days, no clock
    years = (_second_in_year(month, int(day), clock, year + by, zone) for by in (-1, 0, 1))
    return min((ms for ms in years if ms is not None), key=lambda ms: abs(ms - near), default=None)


def _bsd_time(found: re.Match[str], message: Message, context: Context) -> tuple[int | None, int]:
    """(ms, ns below) of "Mar  1 02:14:05", in the policy's zone and the year nearest to the receive time."""
    month, day, year, clock, fraction = found.groups()
    zone = context.clock.zone
    if zone is None:
        return None, 0
    if not year:
        settings = context.settings
        year = settings.get("year") if isinstance(settings, dict) else None
    if year is not None:
        second = _second_in_year(month, int(day), clock, int(year), zone)
    elif message.received_ms >= 0:
        second = _nearest(month, day, clock, min(message.received_ms // DAY_MS, _LAST_DAY), zone)
    else:
        return None, 0
    if second is None:
        raise Unreadable("impossible_time", "the time is no date", found[0].strip())
    if not fraction:
        return second, 0
    below = fraction.ljust(9, "0")
    return second + int(below[:3]), int(below[3:])


_SIGNS: Final = ("+", "-")


def _iso(text: str, context: Context) -> tuple[int | None, int]:
    zone = context.clock.zone
    try:
        if zone is None and text[-1] != "Z" and text[-6:-5] not in _SIGNS and text[-5:-4] not in _SIGNS:
            return None, 0
        return parse_iso(text, zone)
    except (ValueError, OverflowError) as error:
        raise Unreadable("impossible_time", "the time is no time", text[:40]) from error


def _structured_data(text: str) -> tuple[dict[str, dict[str, str]], str]:
    """({SD-ID: {name: value}}, rest) of RFC 5424 section 6.3. Raises Unreadable for a broken element."""
    if text[:1] == "-":
        return {}, text[1:]
    elements: dict[str, dict[str, str]] = {}
    at = 0
    while text[at : at + 1] == "[":
        found = _ELEMENT.match(text, at)
        if not found:
            raise Unreadable("not_this_dialect", "structured data is broken (RFC 5424 section 6.3)")
        inner = elements.setdefault(found[1], {})
        for name, value in _PARAM.findall(found[2]):
            inner[name] = _ESCAPED.sub(r"\1", value)
        at = found.end()
    if at == 0:
        raise Unreadable("not_this_dialect", "neither '-' nor structured data after MSGID (RFC 5424 section 6)")
    return elements, text[at:]


def _line_5424(found: re.Match[str], attributes: dict[str, Any], context: Context) -> _Line:
    _, stamp, host, program, process, kind = found.groups()
    device_ms, sub_ns = (None, 0) if stamp == "-" else _iso(stamp, context)
    elements, rest = _structured_data(found.string[found.end() :])
    if host != "-":
        attributes["hostname"] = host
    else:
        host = ""
    if program != "-":
        attributes["appname"] = program
    else:
        program = ""
    if process != "-":
        attributes["procid"] = process
    if kind != "-":
        attributes["msgid"] = kind
    seq = 0
    if elements:
        attributes["structured_data"] = elements
        number = elements.get("meta", {}).get("sequenceId", "")
        if number.isascii() and number.isdigit() and len(number) < 10:
            seq = int(number)
    body = rest.removeprefix(" ").removeprefix("\ufeff")
    return _Line(attributes, host, program, body, device_ms, sub_ns, seq)


def _line_3164(text: str, attributes: dict[str, Any], message: Message, context: Context, *, sure: bool) -> _Line:
    """A line without version: time, host and tag may each be missing. `sure`: a PRI said it is syslog."""
    device_ms, sub_ns = None, 0
    timed = True
    if found := _BSD_TIME.match(text):
        device_ms, sub_ns = _bsd_time(found, message, context)
    elif found := _ISO_TIME.match(text):
        device_ms, sub_ns = _iso(found[1], context)
    else:
        timed = False
    rest = text[found.end() :].lstrip() if found else text
    if timed and (kea := _KEA.match(rest)):
        attributes["appname"] = kea[1]
        return _Line(attributes, "", kea[1], rest[kea.end() :], device_ms, sub_ns, 0)
    host = ""
    if timed:
        first, _, after = rest.partition(" ")
        # A first word that ends in ":" or is bracketed is the tag: the relay left the host name out.
        if first[-1:] != ":" and first[:1] != "[" and first:
            host, rest = first, after.lstrip()
            attributes["hostname"] = host
    head, colon, body = rest.partition(": ")
    if colon and _PLAIN_TAG.fullmatch(head):  # nearly every line
        program, _, process = head.partition("[")
        attributes["appname"] = program
        if process:
            attributes["procid"] = process[:-1]
        return _Line(attributes, host, program, body.lstrip(), device_ms, sub_ns, 0)
    tag = _TAG.match(rest) or _BARE_TAG.match(rest)
    if tag is None:
        if not (sure or timed):
            raise Unreadable("not_this_dialect", "neither PRI, time nor tag: no syslog line")
        return _Line(attributes, host, "", rest, device_ms, sub_ns, 0)
    program = tag[1].rsplit("/", 1)[-1]
    attributes["appname"] = program
    if tag.re is _TAG and tag[3]:
        attributes["procid"] = tag[3]
    return _Line(attributes, host, program, rest[tag.end() :], device_ms, sub_ns, 0)


def _parse(message: Message, context: Context) -> _Line:
    text = message.payload.decode("utf-8", "replace").rstrip("\r\n\0 ").removeprefix("\ufeff")
    if not text or text.isspace():
        raise Unreadable("empty", "an empty line")
    if text[0].isdigit() and (counted := _OCTETS.match(text)):
        text = text[counted.end() :]
    attributes: dict[str, Any] = {}
    header = _HEADER.match(text) if text[:1] == "<" else None
    pri = header or _PRI.match(text)
    if pri:
        number = int(pri[1])
        if number > 191:
            raise Unreadable("not_this_dialect", f"PRI {number} is above 191 (RFC 5424 section 6.2.1)")
        attributes["facility"] = number >> 3
        attributes["severity"] = number & 7
        if header:
            return _line_5424(header, attributes, context)
        text = text[pri.end() :]
        if text[:1].isdigit() and text[1:2] == " ":
            raise Unreadable("not_this_dialect", "not a header of RFC 5424 version 1")
    elif text[0] in "{[" and text[-1] in "}]":
        raise Unreadable("not_this_dialect", "JSON, not a syslog line")
    return _line_3164(text, attributes, message, context, sure=pri is not None)


# ---- events -------------------------------------------------------------------------------------


def _entities(said: _Said, host: Entity, context: Context) -> tuple[Entity, ...]:
    identity = context.identity
    if said.kind == "dhcp.lease":
        return present(
            mac_entity("origin", said.fields.get("mac")),
            ip_entity("target", said.fields.get("ip")),
            host_entity("origin", said.fields.get("client_host")),
            entity("observer", "host", host.id),
        )
    invalid = said.actor.startswith("<")  # Solaris and macOS: "<invalid username>"
    source = ip_entity("origin", said.source) if said.source else None
    if source is None and said.source and "." not in said.source and ":" not in said.source:
        source = host_entity("origin", said.source)  # a DNS name from elsewhere would be cut to "www"
    return present(
        host,
        account_entity(identity, "actor", said.actor) if said.actor and not invalid else None,
        account_entity(identity, "target", said.target, machines=True) if said.target else None,
        source,
    )


def _summary(said: _Said, entities: tuple[Entity, ...], host: Entity) -> str:
    if not said.words:
        return ""
    if said.kind == "dhcp.lease":
        return said.words
    who = source = ""
    for one in entities:
        if one.role == "actor" and one.kind == "account":
            who = f" of {one.id}"
        elif one.role == "origin":
            source = f" from {one.id}"
    return f"{said.words}{who}{source} on {host.id}"


def decode_message(message: Message, context: Context) -> list[Event]:
    """The event of a line; as many as it says it stands for ("message repeated 5 times"), at most 100.

    Bytes that are not UTF-8 are replaced, never refused. Raises Unreadable: empty, not_this_dialect (no
    PRI, time or tag; broken structured data), impossible_time.
    """
    line = _parse(message, context)
    attributes, text = line.attributes, line.text
    if text[:4] == "[ID " and (found := _SOLARIS.match(text)):
        text = text[found.end() :]
    times = 1
    if "message repeated" in text:
        if found := _REPEATED.match(text):
            attributes["repeated"] = int(found[1])
            times, text = min(max(int(found[1]), 1), _MOST_REPEATED), found[2]
        elif found := _LAST_REPEATED.match(text):  # of which line only its file can tell
            attributes["repeated"] = int(found[1])
    said = _read(line.program, text)
    host = host_entity("target", line.host) or log_host(context)
    attributes.update(said.fields)
    if keeps_values(context.identity):
        shown = line.text
        hide(context.identity, attributes, _IDENTITY_PATHS)  # trims
    else:
        shown = _hidden(said, line, context)
    entities = _entities(said, host, context)
    summary = _summary(said, entities, host)
    made = []
    for index in range(times):
        made.append(
            context.event(
                message,
                said.kind,
                index=index,
                device_ms=line.device_ms,
                sub_ns=line.sub_ns,
                entities=entities,
                attributes=attributes,
                level=said.level,
                summary=summary,
                text=shown,
                seq=line.seq,
            )
        )
    return made


def check_settings(settings: Any, file: str) -> list[Fault]:
    """Faults of `{host: <name>, year: <year of a replayed file>, nameless: [<program>], named: [<program>]}`."""
    if settings is None:
        return []
    if not isinstance(settings, dict):
        return [Fault(file, 0, 0, "settings of syslog must be a mapping")]
    faults = unknown_words(settings, ("host", "year", "nameless", "named"), file, "settings of syslog")
    host, year = settings.get("host", "x"), settings.get("year", 2000)
    if not (isinstance(host, str) and host):
        faults.append(value_fault(settings, "host", file, "host must be a text", "the machine that writes the log"))
    if type(year) is not int or not 1970 <= year <= 2099:
        faults.append(value_fault(settings, "year", file, "year must be a number such as 2026"))
    for word, hint in (
        ("nameless", "programs whose lines name nobody: [kernel, ntpd]"),
        ("named", "programs whose lines name somebody only in forms that are recognised: [backup]"),
    ):
        programs = settings.get(word, [])
        if not (isinstance(programs, list) and all(isinstance(one, str) and one for one in programs)):
            faults.append(value_fault(settings, word, file, f"{word} must be a list of programs", hint))
    return faults


DIALECT: Final = Dialect(
    name="syslog",
    title="Syslog (RFC 5424 and RFC 3164)",
    follows="RFC 5424 section 6; RFC 3164 section 4; RFC 6587 section 3.4.1; texts of OpenSSH, PAM, sudo, su, DHCP",
    transport="lines",
    clock=ClockPolicy(),
    polarity={},
    retain="ignore",
    native_id="",
    duplicates="none",
    identity_fields=IDENTITY_FIELDS,
    decode_message=decode_message,
    check_settings=check_settings,
)
