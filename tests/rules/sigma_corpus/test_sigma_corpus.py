"""Sigma detections in the shapes that people really write: each finds its event and not its near miss.

The rules are our own; field names, log sources and modifiers are those of rules for Sysmon, the Windows
logs, Zeek and Linux. A case's `text` is the free text of the message, all else attributes as the log
names them; the dialect comes from the file, the kind from the case where the log source needs one.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import yaml

from correlator.events.event import Event
from correlator.rules.load import load_rules
from correlator.rules.predicates import compile_condition
from correlator.rules.syntax import DetectionRule

HERE = Path(__file__).parent
FAMILIES = ("sysmon", "windows", "zeek", "linux")
DIALECTS = {"sysmon": "sysmon", "windows": "windows", "zeek": "zeek", "linux": "syslog"}
KINDS = {  # what the dialect makes of such a line; the log source is decided by it
    "process_creation": "process.created", "network_connection": "network.connection",
    "file_event": "file.created", "registry_set": "registry.changed", "process_access": "process.accessed",
    "driver_load": "driver.loaded", "dns_query": "dns.query", "pipe_created": "pipe.created",
    "conn": "network.connection", "dns": "dns.query", "http": "http.request", "ssl": "tls.handshake",
    "ssh": "ssh.connection", "rdp": "rdp.connection", "smb_files": "smb.access", "notice": "ids.notice",
    "dhcp": "dhcp.lease",
}  # fmt: skip

LOADED = load_rules([HERE / "rules"])
RULES = {rule.head.name: rule for rule in LOADED.rules.detections.values()}
CASES: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    name: (family, case)
    for family in FAMILIES
    for name, case in yaml.safe_load((HERE / "cases" / f"{family}.yaml").read_text(encoding="utf-8")).items()
}


def event_of(family: str, rule: DetectionRule, fields: dict[str, Any]) -> Event:
    attributes = {key: value for key, value in fields.items() if key != "text"}
    if rule.logsource.service == "security":
        attributes["Channel"] = "Security"
    return Event(
        id="0" * 32, site="h1", source=family, time_ms=0, received_ms=0,
        dialect="auditd" if rule.logsource.service == "auditd" else DIALECTS[family],
        kind=KINDS.get(rule.logsource.category or rule.logsource.service, "log.entry"),
        carried=attributes, text=fields.get("text", ""),
    )  # fmt: skip


def finds(family: str, name: str, fields: dict[str, Any]) -> bool:
    rule = RULES[name]
    predicate = compile_condition(rule.condition, rule.logsource, rule.head.where, None, UTC)
    return predicate.test(event_of(family, rule, fields))


def test_the_corpus_loads_without_a_fault_and_every_rule_has_its_case() -> None:
    assert LOADED.faults == ()
    assert len(RULES) >= 50
    assert set(RULES) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_its_event(name: str) -> None:
    family, case = CASES[name]
    assert finds(family, name, case["hit"])


@pytest.mark.parametrize("name", CASES)
def test_a_rule_does_not_find_the_near_miss(name: str) -> None:
    family, case = CASES[name]
    assert not finds(family, name, case["near_miss"])


@pytest.mark.parametrize("name", CASES)
def test_a_rule_does_not_look_at_another_log(name: str) -> None:
    """The same fields from a door controller are no Windows log."""
    _, case = CASES[name]
    rule = RULES[name]
    predicate = compile_condition(rule.condition, rule.logsource, rule.head.where, None, UTC)
    attributes = {key: value for key, value in case["hit"].items() if key not in {"text", "Channel", "appname"}}
    stray = Event(
        id="0" * 32, site="h1", source="doors", dialect="zigbee2mqtt", kind="door.opened", time_ms=0, received_ms=0,
        carried=attributes, text=case["hit"].get("text", ""),
    )  # fmt: skip
    assert not predicate.test(stray)


def test_the_corpus_uses_every_modifier_that_such_rules_use() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((HERE / "rules").glob("*.yml")))
    for part in (
        "|contains|all", "|endswith", "|startswith", "|re:", "|cidr", "|base64offset", "|base64|", "|wide|",
        "|windash", "|fieldref", "|exists", "|cased", "|gt:", "|gte:", "|lt:", "|neq", ": null", "'|all':",
        "1 of selection_*", "all of selection_*", "not 1 of filter_*", "keywords:",
    ):  # fmt: skip
        assert part in text, part
