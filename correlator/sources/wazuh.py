"""Wazuh 4.x alerts (alerts.json): host intrusion detection, file integrity, logons, agents.

Follows: Wazuh 4 documentation, "Alert data" (alerts.json), "Rules classification" and "Ruleset: groups".
One object a line. Attributes are the object as it is (`rule.level`, `data.srcip`, `syscheck.path`);
`full_log` is the event's text. Wazuh 5 writes the Wazuh Common Schema, derived from ECS, which is another
format and is refused with that reason.

Level of an event, from `rule.level` (0..16):

    0-3 informational, 4-6 low, 7-11 medium, 12-14 high, 15-16 critical

The kind comes from `rule.groups` and, for what an agent says of itself, from `rule.id`; all else is
host.alert. Agent 000 is the manager and has no address.
"""

from __future__ import annotations

from typing import Any, Final

from correlator.events.event import Event
from correlator.sources.dialect import ClockPolicy, Context, Dialect, Message, entity
from correlator.sources.hiding import IdentityPaths, hide
from correlator.sources.logparts import account_entity, host_entity, ip_entity, log_time, part, present
from correlator.sources.reading import Unreadable, parse_object

_LEVELS: Final[tuple[str, ...]] = (
    *(("informational",) * 4), *(("low",) * 3), *(("medium",) * 5), *(("high",) * 3), *(("critical",) * 2),
)  # fmt: skip

# The first group that is listed decides, in this order: the more telling one stands first.
_GROUP_KINDS: Final[tuple[tuple[str, str], ...]] = (
    ("syscheck", "integrity.changed"),
    ("usb", "usb.attached"),
    ("virus", "file.verdict"),
    ("logs_cleared", "log.cleared"),
    ("log_clearing", "log.cleared"),
    ("authentication_failures", "host.logon_failed"),
    ("authentication_failed", "host.logon_failed"),
    ("win_authentication_failed", "host.logon_failed"),
    ("invalid_login", "host.logon_failed"),
    ("authentication_success", "host.logon"),
    ("service_availability", "host.note"),
)
_GROUP_RANKS: Final = {group: rank for rank, (group, _) in enumerate(_GROUP_KINDS)}
# Rules of the manager about its agents (0016-wazuh_rules.xml).
_AGENT_KINDS: Final[dict[str, str]] = {
    "501": "host.discovered",  # new agent connected
    "502": "host.note",  # manager started
    "503": "protection.enabled",  # agent started
    "504": "host.offline",  # agent disconnected
    "505": "protection.disabled",  # agent removed
    "506": "protection.disabled",  # agent stopped
    "593": "log.cleared",  # Windows audit log cleared
}

IDENTITY_FIELDS: Final[dict[str, str]] = {
    "data.srcuser": "account",
    "data.dstuser": "account",
    "data.uname": "account",
    "data.audit.auid": "account",
    "data.win.eventdata.targetUserName": "account",
    "data.win.eventdata.subjectUserName": "account",
    "data.win.eventdata.targetUserSid": "account",
    "data.win.eventdata.subjectUserSid": "account",
    "data.win.eventdata.memberSid": "account",
    "data.win.eventdata.memberName": "account",
    "data.win.eventdata.user": "account",
    "syscheck.uname_before": "account",
    "syscheck.uname_after": "account",
    "syscheck.audit.user.name": "account",
    "syscheck.audit.login_user.name": "account",
    "syscheck.audit.effective_user.name": "account",
}
_IDENTITY_PATHS: Final = IdentityPaths(IDENTITY_FIELDS)


def _kind(rule: dict[str, Any], groups: list[Any]) -> str:
    if "ossec" in groups or "wazuh" in groups:
        kind = _AGENT_KINDS.get(str(rule.get("id")))
        if kind:
            return kind
    first = len(_GROUP_KINDS)
    for group in groups:
        if type(group) is str and group in _GROUP_RANKS:
            first = min(first, _GROUP_RANKS[group])
    return _GROUP_KINDS[first][1] if first < len(_GROUP_KINDS) else "host.alert"


def _looks_like_5(data: dict[str, Any]) -> bool:
    return "@timestamp" in data and ("wazuh" in data or "event" in data or "ecs" in data)


def _account(data: dict[str, Any], fields: dict[str, Any], windows: dict[str, Any]) -> Any:
    return (
        fields.get("dstuser")
        or fields.get("srcuser")
        or windows.get("targetUserName")
        or windows.get("subjectUserName")
        or ("syscheck" in data and part(part(part(data, "syscheck"), "audit"), "user").get("name"))
    )


def decode_message(message: Message, context: Context) -> list[Event]:
    """The one event of an alert.

    Raises Unreadable: not_this_dialect for Wazuh 5, missing_field or wrong_type for `timestamp`, `rule`,
    `rule.level` and the host.
    """
    data = parse_object(message.payload)
    rule = data.get("rule")
    if _looks_like_5(data) and not (type(rule) is dict and "level" in rule and "timestamp" in data):
        raise Unreadable("not_this_dialect", "Wazuh 5 (Wazuh Common Schema); this dialect reads 4.x alerts.json")
    if type(rule) is not dict:
        if rule is None:
            raise Unreadable("missing_field", "no 'rule': an alert of alerts.json has one, archives.json may not")
        raise Unreadable("wrong_type", "field 'rule' must be an object")
    level = rule.get("level")
    if type(level) is not int:
        raise Unreadable("missing_field" if level is None else "wrong_type", "'rule.level' must be a number 0..16")
    device_ms, sub_ns = log_time(data.get("timestamp"), "timestamp")
    groups = rule.get("groups")
    kind = _kind(rule, groups if type(groups) is list else [])
    manager = part(data, "manager").get("name")
    agent = part(data, "agent")
    managers_own = agent.get("id") == "000"
    host = host_entity("target", manager if managers_own else agent.get("name"))
    if host is None:
        raise Unreadable("missing_field", "field 'agent.name' (or 'manager.name' for agent 000) names no host")
    fields = part(data, "data")
    windows = part(part(fields, "win"), "eventdata") if "win" in fields else {}
    account = _account(data, fields, windows)
    origin = fields.get("srcip") or windows.get("ipAddress")

    native = data.get("id")
    native_id = f"{manager}/{native}" if type(native) is str and native else ""

    if hide(context.identity, data, _IDENTITY_PATHS):  # read again: names in these are tokens now
        rule, agent = part(data, "rule"), part(data, "agent")
    path = part(data, "syscheck").get("path") if "syscheck" in data else None
    entities = present(
        host,
        None if managers_own else ip_entity("target", agent.get("ip")),
        account_entity(context.identity, "actor", account) if account else None,
        ip_entity("origin", origin) if origin else None,
        entity("target", "file", path) if type(path) is str and path else None,
    )
    description = rule.get("description")
    full_log = data.get("full_log")
    return [
        context.event(
            message,
            kind,
            device_ms=device_ms,
            sub_ns=sub_ns,
            native_id=native_id,
            entities=entities,
            attributes=data,
            level=_LEVELS[min(max(level, 0), 16)],
            summary=f"{description} ({host.id})" if type(description) is str else "",
            text=full_log if type(full_log) is str else "",
        )
    ]


DIALECT: Final = Dialect(
    name="wazuh",
    title="Wazuh 4.x alerts",
    follows="Wazuh 4 documentation, alerts.json, rules classification",
    transport="lines",
    clock=ClockPolicy(),
    polarity={},
    retain="ignore",
    native_id="manager.name and id (epoch.offset, unique to one manager)",
    duplicates="native",
    identity_fields=IDENTITY_FIELDS,
    decode_message=decode_message,
)
