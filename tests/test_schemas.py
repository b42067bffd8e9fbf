"""The published schemas are those of the code, fit the messages, and within a major version only grow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError

from correlator.events.event import SCHEMA_VERSION, Entity, Event, KeptMessage, Reject, StateValue
from correlator.events.schema import MAJOR, PUBLISHED, schema, schema_text
from correlator.events.threat import EnrichedEvent, Evidence, Finding, Match, Step, Threat

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"

EVENT = Event(
    id="0" * 32,
    site="h1",
    source="doors",
    dialect="zigbee2mqtt",
    kind="door.opened",
    time_ms=1_768_205_551_000,
    received_ms=1_768_205_551_060,
    entities=(Entity("where", "door", "d-pharmacy"),),
    carried={"contact": False, "linkquality": 118},
    state=StateValue("door", "d-pharmacy", "contact", "open"),
    summary="contact open",
    device_ms=1_768_205_551_000,
    origin="inputs/doors.ndjson:2",
)
EVIDENCE = Evidence(id="0" * 32, time_ms=1, kind="door.opened", source="doors", said="door opened")
STEP = Step(
    finding="f",
    rule="door-forced",
    title="Door forced",
    says="The door was forced.",
    level="high",
    t_ms=1,
    joined="opened it",
)
# One message of each kind with its optional parts; the shortest one follows from the required fields.
MESSAGES = {
    "event": EVENT,
    "reject": Reject(
        site="h1", source="doors", dialect="", reason="not_json", detail="at byte 3", payload=b"\xff{", size=2, sha256="0" * 64
    ),
    "match": Match(
        id="m", site="h1", rule="r", title="t", level="high", group={"door": "d1"}, first_ms=1, last_ms=2, opened_ms=2,
        value=2.5, events=("a", "b"), state="final", tags=("attack.t1078",),
    ),
    "finding": Finding(
        id="f", site="h1", kind="r", title="t", asset="d1", t_ms=2, domain="physical", level="high", events=("a",)
    ),
    "enriched": EnrichedEvent(event=EVENT, assets=(("door:d-pharmacy", "d-pharmacy"),), zones=("z-hall", "z-pharmacy")),
    "evidence": KeptMessage(
        event="0" * 32, site="h1", channel="inputs/doors.ndjson", received_ms=1, payload=b"\xff{", size=2, sha256="0" * 64,
        raw="raw.mqtt/0:7",
    ),
    "threat": Threat(
        id="t", site="h1", title="t", phase="threat", revision=1, severity="high", first_ms=1, last_ms=2, opened_ms=2,
        decided_ms=2, steps=(STEP,), members=(EVIDENCE,),
    ),
}  # fmt: skip


def as_json(message: msgspec.Struct) -> dict:
    return json.loads(msgspec.json.encode(message))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_file_is_what_the_code_says(name):
    written = (SCHEMAS / name / f"{MAJOR}.json").read_text(encoding="utf-8")
    assert written == schema_text(name), "run `make schemas` and say in CHANGELOG.md what changed"


def test_no_schema_file_is_left_over():
    files = {str(path.relative_to(SCHEMAS)) for path in SCHEMAS.glob("*/[0-9]*.json")}
    assert files == {f"{name}/{MAJOR}.json" for name in PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_schema_is_a_valid_schema_with_id_title_and_version(name):
    made = schema(name)
    Draft202012Validator.check_schema(made)
    assert made["$id"] == f"urn:correlator:schema:{name}:{MAJOR}"
    assert made["title"]
    assert made["schema_version"].split(".")[0] == MAJOR


def problems(name, message):
    return [error.message for error in Draft202012Validator(schema(name)).iter_errors(message)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_message_fits_its_schema(name):
    assert problems(name, as_json(MESSAGES[name])) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_field_of_a_later_minor_version_is_let_pass(name):
    assert problems(name, as_json(MESSAGES[name]) | {"of_a_later_release": 1}) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_message_without_a_required_field_does_not_fit(name):
    required = schema(name)["required"]
    assert required
    for field in required:
        message = as_json(MESSAGES[name])
        del message[field]
        with pytest.raises(ValidationError):
            Draft202012Validator(schema(name)).validate(message)


@pytest.mark.parametrize("name", ["reject", "match", "enriched", "threat"])
def test_a_message_that_leaves_us_bears_its_version(name):
    message = as_json(MESSAGES[name])
    assert message["schema_version"] == SCHEMA_VERSION
    with pytest.raises(ValidationError):
        Draft202012Validator(schema(name)).validate(message | {"schema_version": f"{int(MAJOR) + 1}.0"})


def test_roles_and_entity_kinds_are_closed():
    message = as_json(EVENT)
    for field in ("role", "kind"):
        wrong = json.loads(json.dumps(message))
        wrong["entities"][0][field] = "window_cleaner"
        with pytest.raises(ValidationError):
            Draft202012Validator(schema("event")).validate(wrong)


# ---- releases ------------------------------------------------------------------------------------------


def breaking(old: object, new: object, path: str = "") -> list[str]:
    """What a reader of the old schema would trip over in messages of the new one, and the reverse.

    Allowed within a major version: a new optional property, a new definition, other words in
    descriptions and titles.
    """
    free = ("description", "title", "schema_version")
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{path}: {old!r} became {new!r}"]
    found = []
    for key in sorted(old.keys() | new.keys()):
        here = f"{path}/{key}"
        if key in free and not path.endswith("/properties"):
            continue
        if key not in new:
            found.append(f"{here}: is gone")
        elif key not in old:
            if not path.endswith(("/properties", "/$defs")):
                found.append(f"{here}: is new")
        elif key == "required":
            found += [f"{here}: {name} is newly required" for name in new[key] if name not in old[key]]
            found += [f"{here}: {name} is no longer sent for certain" for name in old[key] if name not in new[key]]
        else:
            found += breaking(old[key], new[key], here)
    return found


OLD = {"properties": {"id": {"type": "string"}, "title": {"type": "string"}}, "required": ["id"], "title": "A thing"}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (OLD, []),
        (OLD | {"title": "A better name"}, []),
        (OLD | {"properties": {**OLD["properties"], "level": {"type": "string"}}}, []),
        (OLD | {"properties": {"id": {"type": "string"}}}, ["/properties/title: is gone"]),
        (OLD | {"required": ["id", "title"]}, ["/required: title is newly required"]),
        (OLD | {"required": []}, ["/required: id is no longer sent for certain"]),
        (
            OLD | {"properties": {**OLD["properties"], "id": {"type": "integer"}}},
            ["/properties/id/type: 'string' became 'integer'"],
        ),
        (OLD | {"additionalProperties": False}, ["/additionalProperties: is new"]),
    ],
)
def test_only_a_new_optional_field_is_a_minor_change(new, expected):
    assert breaking(OLD, new) == expected


def released_versions() -> list[str]:
    """Versions that CHANGELOG.md calls released: `## [1.2.3] - date`."""
    changelog = (SCHEMAS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.MULTILINE)


def test_each_release_has_its_schemas_kept_and_no_other_folder_is_there():
    kept = sorted(path.name for path in (SCHEMAS / "released").glob("*") if path.is_dir())
    assert kept == sorted(released_versions())


def test_no_message_broke_with_a_release_of_its_major_version():
    problems = []
    for file in sorted((SCHEMAS / "released").glob("*/*/*.json")):
        now = SCHEMAS / file.parent.name / file.name
        if file.stem == MAJOR:
            problems += breaking(json.loads(file.read_bytes()), json.loads(now.read_bytes()), f"{file.parent.name}:")
    assert problems == []
