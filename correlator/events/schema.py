"""JSON Schemas of the messages that leave us, made from the structs themselves.

One schema a message and major version: schemas/<name>/<major>.json, JSON Schema 2020-12. Objects stay
open: a minor version only adds optional fields, so a reader that checks must let unknown ones pass.
"""

from __future__ import annotations

import inspect
import json
from typing import Any, Final, get_args

import msgspec

from correlator.events.event import ENTITY_KINDS, LEVELS, ROLES, SCHEMA_VERSION, Event, KeptMessage, Reject, TimeQuality
from correlator.events.threat import EnrichedEvent, Finding, Match, Threat

# name -> (struct, what it is)
PUBLISHED: Final[dict[str, tuple[type[msgspec.Struct], str]]] = {
    "event": (Event, "One normalised fact from one message"),
    "reject": (Reject, "A message or event that could not be taken, with its reason"),
    "match": (Match, "A rule's result for one group of events"),
    "finding": (Finding, "A match or notable event placed on an asset"),
    "enriched": (EnrichedEvent, "An event with its assets, place, people and the rules it hit"),
    "evidence": (KeptMessage, "A raw message kept as evidence of an event"),
    "threat": (Threat, "A composite threat with its evidence"),
}
MAJOR: Final = SCHEMA_VERSION.split(".", maxsplit=1)[0]

# What the structs leave to plain text or Any for speed, but readers may rely on: (struct, field) -> schema.
_CLOSER: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("Entity", "role"): {"enum": list(ROLES)},
    ("Entity", "kind"): {"enum": list(ENTITY_KINDS)},
    ("StateValue", "kind"): {"enum": list(ENTITY_KINDS)},
    ("Event", "attributes"): {"type": "object", "default": {}},
    ("Event", "level"): {"enum": ["", *LEVELS], "default": ""},
    ("Event", "time_quality"): {"enum": list(get_args(TimeQuality)), "default": "device"},
    ("EnrichedEvent", "event"): {"$ref": "#/$defs/Event"},
}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a published message. Raises KeyError for a name not in PUBLISHED."""
    struct, title = PUBLISHED[name]
    parts = msgspec.json.schema(struct)["$defs"]
    if struct is EnrichedEvent:
        parts |= msgspec.json.schema(Event)["$defs"]
    for part, body in parts.items():
        body.pop("title")
        body["description"] = inspect.cleandoc(body["description"])
        for field in body["properties"]:
            if (part, field) in _CLOSER:
                body["properties"][field] = _CLOSER[part, field]
        if "schema_version" in body["properties"]:
            body["properties"]["schema_version"] = {"type": "string", "pattern": f"^{MAJOR}\\.[0-9]+$"}
            body["required"] = [*body["required"], "schema_version"]
    root = parts.pop(struct.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:correlator:schema:{name}:{MAJOR}",
        "title": title,
        "schema_version": SCHEMA_VERSION,
        **root,
        **({"$defs": parts} if parts else {}),
    }


def schema_text(name: str) -> str:
    """The schema as it stands in its file: two spaces, one newline at the end."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"
