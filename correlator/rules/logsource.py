"""What `logsource` means for our events: one table from product, category and service to conditions.

The conditions read the dialect and the kind of the event itself (`@dialect`, `@kind`), which no
field of the source can shadow, and for Windows logs that came through a general map the channel and
the event number. A part that the table does not know restricts nothing, and the loader warns: a rule
that could never match would be lost in silence.

Names follow the Sigma taxonomy (specification 2.1.0, appendix "Taxonomy"); the event numbers are
those of Sysmon 15 and of the Windows Security log.
"""

from __future__ import annotations

from typing import Any

from correlator.events.kinds import KINDS
from correlator.rules.documents import nearest
from correlator.rules.syntax import All, Any_, FieldTest, LogSource, Not, Wild

OURS = "correlator"  # `product: correlator`: rules over our own kinds; category = object of the kind


def _equals(field: str, *values: str | int) -> Any:
    tests = tuple(FieldTest(field, "equals", value) for value in values)
    return tests[0] if len(tests) == 1 else Any_(tests)


def _starts(field: str, *values: str) -> Any:
    tests = tuple(FieldTest(field, "wildcard", (value, Wild("*"))) for value in values)
    return tests[0] if len(tests) == 1 else Any_(tests)


def _kinds(*kinds: str) -> Any:
    return _equals("@kind", *kinds)


def _channel(channel: str, *providers: str) -> Any:
    """A Windows log, by its channel, or by its provider where a shipper keeps no channel."""
    by_provider = tuple(_equals(name, *providers) for name in ("Provider_Name", "SourceName") if providers)
    return Any_((_equals("Channel", channel), *by_provider)) if by_provider else _equals("Channel", channel)


_SYSMON = Any_((
    _equals("@dialect", "sysmon"),
    _channel("Microsoft-Windows-Sysmon/Operational", "Microsoft-Windows-Sysmon"),
))  # fmt: skip
_SECURITY = _channel("Security", "Microsoft-Windows-Security-Auditing")
_WINDOWS = Any_((_starts("@dialect", "windows", "sysmon"), FieldTest("Channel", "exists", True)))


def _sysmon(kinds: tuple[str, ...], *numbers: int) -> Any:
    """A category: our kinds (none where no kind is that narrow), or these Sysmon event numbers."""
    numbered = All((_equals("EventID", *numbers), _SYSMON))
    return Any_((_kinds(*kinds), numbered)) if kinds else numbered


def _registry(*numbers: int) -> Any:
    """A registry category: our kind holds all of them, so other Sysmon numbers are kept out."""
    others = tuple(number for number in (12, 13, 14) if number not in numbers)
    return All((_sysmon(("registry.changed",), *numbers), Not(_equals("EventID", *others))))


PRODUCTS: dict[str, Any] = {
    OURS: None,
    "windows": _WINDOWS,
    "linux": _starts("@dialect", "syslog", "rfc5424", "sshd", "linux", "auditd"),
    "zeek": _starts("@dialect", "zeek"),
    "suricata": _starts("@dialect", "suricata"),
    "wazuh": _starts("@dialect", "wazuh"),
    "clamav": _starts("@dialect", "clamav"),
    "frigate": _starts("@dialect", "frigate"),
    "zigbee2mqtt": _starts("@dialect", "zigbee2mqtt"),
    "onvif": _starts("@dialect", "onvif"),
}

CATEGORIES: dict[str, Any] = {
    "process_creation": Any_((
        _kinds("process.created"),
        All((_equals("EventID", 1), _SYSMON)),
        All((_equals("EventID", 4688), _SECURITY)),
    )),
    "process_termination": _sysmon(("process.ended",), 5),
    "process_access": _sysmon(("process.accessed",), 10),
    "process_tampering": _sysmon((), 25),
    "create_remote_thread": _sysmon(("process.injected",), 8),
    "network_connection": _sysmon(("network.connection",), 3),
    "dns_query": _sysmon(("dns.query",), 22),
    "dns": _kinds("dns.query"),
    "file_event": _sysmon(("file.created",), 11),
    "file_change": _sysmon(("file.changed", "integrity.changed"), 2),
    "file_rename": _kinds("file.changed"),
    "file_delete": _sysmon(("file.deleted",), 23, 26),
    "file_access": _kinds("file.accessed"),
    "file_block_executable": _sysmon((), 27),
    "file_executable_detected": _sysmon((), 29),
    "create_stream_hash": _sysmon((), 15),
    "registry_event": _sysmon(("registry.changed",), 12, 13, 14),
    "registry_add": _registry(12),
    "registry_delete": _registry(12),
    "registry_set": _registry(13),
    "registry_rename": _registry(14),
    "image_load": _sysmon(("module.loaded",), 7),
    "driver_load": _sysmon(("driver.loaded",), 6),
    "pipe_created": _sysmon(("pipe.created",), 17, 18),
    "wmi_event": _sysmon(("wmi.subscribed",), 19, 20, 21),
    "raw_access_thread": _sysmon((), 9),
    "sysmon_status": _sysmon((), 4, 16),
    "sysmon_error": _sysmon((), 255),
    "ps_script": _equals("EventID", 4104),
    "ps_module": _equals("EventID", 4103),
    "ps_classic_start": _equals("EventID", 400),
    "antivirus": _kinds("file.verdict"),
    "firewall": _kinds("network.connection", "network.flow"),
    "proxy": _kinds("http.request"),
    "webserver": _kinds("http.request"),
    "ids": _kinds("ids.alert"),
}  # fmt: skip

_WINDOWS_SERVICES: dict[str, Any] = {
    "security": _SECURITY,
    "system": _channel("System"),
    "application": _channel("Application"),
    "sysmon": _SYSMON,
    "powershell": _channel("Microsoft-Windows-PowerShell/Operational", "Microsoft-Windows-PowerShell"),
    "powershell-classic": _channel("Windows PowerShell", "PowerShell"),
    "windefend": _channel("Microsoft-Windows-Windows Defender/Operational", "Microsoft-Windows-Windows Defender"),
    "taskscheduler": _channel("Microsoft-Windows-TaskScheduler/Operational", "Microsoft-Windows-TaskScheduler"),
    "terminalservices-localsessionmanager": _channel(
        "Microsoft-Windows-TerminalServices-LocalSessionManager/Operational"
    ),
    "firewall-as": _channel("Microsoft-Windows-Windows Firewall With Advanced Security/Firewall"),
    "driver-framework": _channel("Microsoft-Windows-DriverFrameworks-UserMode/Operational"),
    "ntlm": _channel("Microsoft-Windows-NTLM/Operational"),
    "wmi": _channel("Microsoft-Windows-WMI-Activity/Operational"),
    "bits-client": _channel("Microsoft-Windows-Bits-Client/Operational"),
    "applocker": _starts("Channel", "Microsoft-Windows-AppLocker/"),
    "codeintegrity-operational": _channel("Microsoft-Windows-CodeIntegrity/Operational"),
    "smbclient-security": _channel("Microsoft-Windows-SmbClient/Security"),
    "dns-server": _channel("DNS Server"),
}


def _zeek(path: str, *kinds: str) -> Any:
    """A Zeek log, by its path or by the kinds its lines become."""
    return Any_((_equals("_path", path), _kinds(*kinds))) if kinds else _equals("_path", path)


_ZEEK_SERVICES: dict[str, Any] = {
    "conn": _zeek("conn", "network.connection", "network.flow"),
    "dns": _zeek("dns", "dns.query"),
    "http": _zeek("http", "http.request"),
    "ssl": _zeek("ssl", "tls.handshake"),
    "ssh": _zeek("ssh", "ssh.connection"),
    "rdp": _zeek("rdp", "rdp.connection"),
    "smtp": _zeek("smtp", "mail.transferred"),
    "files": _zeek("files", "file.transferred"),
    "smb_files": _zeek("smb_files", "smb.access"),
    "smb_mapping": _zeek("smb_mapping", "smb.access"),
    "dhcp": _zeek("dhcp", "dhcp.lease"),
    "weird": _zeek("weird", "network.weird"),
    "notice": _zeek("notice", "ids.notice"),
    "kerberos": _zeek("kerberos", "kerberos.ticket", "kerberos.failed"),
    "dce_rpc": _zeek("dce_rpc"),
    "ntlm": _zeek("ntlm"),
    "x509": _zeek("x509"),
    "modbus": _zeek("modbus"),
    "mqtt_publish": _zeek("mqtt_publish", "mqtt.message"),
    "software": _zeek("software"),
}


def _program(*names: str) -> Any:
    """A Linux log, by the name of the program that wrote it."""
    return Any_(tuple(_equals(field, *names) for field in
                      ("@dialect", "app_name", "appname", "program", "process", "SYSLOG_IDENTIFIER")))  # fmt: skip


_LINUX_SERVICES: dict[str, Any] = {
    "sshd": _program("sshd", "sshd-session"),
    "auth": _program("sshd", "sshd-session", "sudo", "su", "login", "systemd-logind", "polkitd"),
    "sudo": _program("sudo"),
    "cron": _program("cron", "crond", "CRON"),
    "auditd": _starts("@dialect", "auditd"),
    "syslog": None,
    "clamav": _starts("@dialect", "clamav"),
}

SERVICES: dict[str, dict[str, Any]] = {
    "windows": _WINDOWS_SERVICES,
    "zeek": _ZEEK_SERVICES,
    "linux": _LINUX_SERVICES,
}

# category of `product: correlator` -> the kinds of that object
_OBJECTS: dict[str, tuple[str, ...]] = {}
for _kind in KINDS:
    _OBJECTS[_kind.partition(".")[0]] = (*_OBJECTS.get(_kind.partition(".")[0], ()), _kind)


def logsource_condition(logsource: LogSource) -> Any:
    """The condition tree of a log source; None where it restricts nothing."""
    parts = []
    product = PRODUCTS.get(logsource.product)
    if product is not None:
        parts.append(product)
    if logsource.category:
        if logsource.product == OURS:
            kinds = _OBJECTS.get(logsource.category)
            parts.append(_kinds(*kinds) if kinds else None)
        else:
            parts.append(CATEGORIES.get(logsource.category))
    if logsource.service:
        if logsource.product == OURS:
            parts.append(_equals("@dialect", logsource.service))
        else:
            parts.append(_service(logsource))
    known = tuple(part for part in parts if part is not None)
    if not known:
        return None
    return known[0] if len(known) == 1 else All(known)


def _service(logsource: LogSource) -> Any:
    if logsource.product:
        return SERVICES.get(logsource.product, {}).get(logsource.service)
    for services in SERVICES.values():
        if logsource.service in services:
            return services[logsource.service]
    return None


def unknown_parts(logsource: LogSource) -> list[tuple[str, str, str]]:
    """(part, message, hint) for each part that restricts nothing because the table does not know it."""
    found = []
    if logsource.product and logsource.product not in PRODUCTS:
        found.append(("product", logsource.product, nearest(logsource.product, PRODUCTS)))
    if logsource.category:
        known = _OBJECTS if logsource.product == OURS else CATEGORIES
        if logsource.category not in known:
            found.append(("category", logsource.category, nearest(logsource.category, known)))
    if logsource.service and logsource.product != OURS:
        services = SERVICES.get(logsource.product)
        if services is None and not logsource.product:
            services = {name: None for table in SERVICES.values() for name in table}
        if services is not None and logsource.service not in services:
            found.append(("service", logsource.service, nearest(logsource.service, services)))
    return [
        (part, f"log source {part} {value!r} is not known and restricts nothing", hint) for part, value, hint in found
    ]


def contains(wide: LogSource, narrow: LogSource) -> bool:
    """Whether a filter's log source covers a rule's: each part that it gives is the same there."""
    return (
        wide.product in ("", narrow.product)
        and wide.category in ("", narrow.category)
        and wide.service in ("", narrow.service)
    )
