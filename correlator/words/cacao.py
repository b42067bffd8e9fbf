"""A threat's playbook as CACAO Security Playbook 2.0 (OASIS Committee Specification 01), for other tools.

Each step is an action with a manual command, done by a group of the site: a person reads and does it.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid5

from correlator.clock import DAY_MS, utc_text
from correlator.events.threat import Threat
from correlator.premises import Premises
from correlator.words.language import Language
from correlator.words.message import PlaybookStep, frame, headline, named, steps_for, steps_in_words, type_words

_SPACE = UUID("8d2b2f5e-52f7-5a1c-8f0e-2a6f6f0f9a77")
_PUBLISHED_MS = 20_454 * DAY_MS  # 2026-01-01: the playbooks' own date, so that the same threat gives the same bytes
_SEVERITIES = {"informational": 1, "low": 25, "medium": 50, "high": 75, "critical": 100}


def _id(kind: str, *of: str) -> str:
    return f"{kind}--{uuid5(_SPACE, '/'.join(of))}"


def playbook(threat: Threat, places: Premises, language: Language) -> bytes:
    """The playbook as indented JSON. Validates against the JSON Schemas of OASIS."""
    group = _id("group", threat.site)
    steps = steps_for(threat)
    names = [_id("action", threat.id, step.id) for step in steps]
    start, end = _id("start", threat.id), _id("end", threat.id)
    workflow: dict[str, Any] = {start: {"type": "start", "on_completion": names[0] if names else end}}
    texts = steps_in_words(threat, places, language)  # with phone numbers
    for number, (step, text) in enumerate(zip(steps, texts, strict=True)):
        after = names[number + 1] if number + 1 < len(names) else end
        workflow[names[number]] = _action(step, text, group, after)
    workflow[end] = {"type": "end"}
    told = {
        "type": "playbook",
        "spec_version": "cacao-2.0",
        "id": _id("playbook", threat.id, language),
        "name": headline(threat, places, language),
        "description": ", ".join(type_words(one, language) for one in threat.threat_types)
        or frame("suspicious", language),
        "playbook_types": ["mitigation"],
        "created_by": _id("identity", "correlator"),
        "created": utc_text(_PUBLISHED_MS),
        "modified": utc_text(_PUBLISHED_MS),
        "severity": _SEVERITIES.get(threat.severity, 0),
        "labels": list(threat.threat_types) or ["suspicious"],
        "workflow_start": start,
        "workflow": workflow,
        "agent_definitions": {group: {"type": "group", "name": named(places.site.name or threat.site)}},
    }
    return json.dumps(told, ensure_ascii=False, indent=2).encode() + b"\n"


def _action(step: PlaybookStep, text: str, agent: str, after: str) -> dict[str, Any]:
    return {
        "type": "action",
        "name": step.id,
        "description": text,
        "on_completion": after,
        "commands": [{"type": "manual", "command": text}],
        "agent": agent,
    }
