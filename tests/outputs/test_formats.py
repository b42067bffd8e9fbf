"""Each format: golden bytes, the published schema, and a reader that is not ours."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import idmefv2
import jsonschema
import msgspec
import pycef
import pytest
import stix2
from hypothesis import given
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from correlator.events.threat import Evidence, Step, Threat
from correlator.outputs import cef, leef, syslog
from correlator.outputs import idmefv2 as our_idmefv2
from correlator.outputs.format import About
from correlator.outputs.formats import FORMATS
from correlator.premises import load_site, site_of
from correlator.premises.vocabulary import THREAT_TYPES

HERE = Path(__file__).parent
PLACE = load_site(HERE.parent / "notifier" / "site.yaml")
ABOUT = About(version="0.0.0", host="siem-1", link="https://console.example/threats/", place=PLACE)
THREATS = {
    path.stem: msgspec.json.decode(path.read_bytes(), type=Threat) for path in sorted((HERE / "threats").glob("*.json"))
}
CASES = [(threat, name) for threat in THREATS for name in FORMATS]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
hexes = st.text("0123456789abcdef", min_size=32, max_size=32)
times = st.integers(min_value=0, max_value=4_000_000_000_000)
steps = st.builds(
    Step, finding=hexes, rule=text, title=text, says=text, level=st.just("low"), t_ms=times, joined=text, asset=text,
    place_name=text,
)  # fmt: skip
members = st.builds(
    Evidence, id=hexes, time_ms=times, kind=text, source=text, said=text, place=text, place_name=text,
    domain=st.sampled_from(["cyber", "physical", "building"]), origin=text,
)  # fmt: skip
threats = st.builds(
    Threat,
    id=hexes,
    site=text,
    title=text,
    phase=st.sampled_from(["watch", "threat", "quiet", "merged"]),
    revision=st.integers(min_value=1, max_value=99),
    severity=st.sampled_from(["informational", "low", "medium", "high", "critical"]),
    first_ms=times, last_ms=times, opened_ms=times, decided_ms=times,
    domains=st.sets(st.sampled_from(["cyber", "physical", "building"]), min_size=1).map(lambda s: tuple(sorted(s))),
    assets=st.lists(text | st.sampled_from(sorted(PLACE.assets)), max_size=3).map(tuple),
    places=st.lists(text, max_size=3).map(tuple),
    techniques=st.lists(st.sampled_from(["T1091", "T1052.001", "x-cps-fire"]), max_size=3, unique=True).map(tuple),
    threat_types=st.lists(st.sampled_from(sorted(THREAT_TYPES)), max_size=3, unique=True).map(tuple),
    steps=st.lists(steps, max_size=3).map(tuple),
    members=st.lists(members, max_size=3).map(tuple),
)  # fmt: skip


def rendered(threat: Threat, name: str) -> bytes:
    return FORMATS[name].render(threat, ABOUT)


# ---- golden bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("threat", "name"), CASES)
def test_what_leaves_is_byte_for_byte_what_it_was(threat, name):
    golden = HERE / "golden" / f"{threat}.{name}"
    assert rendered(THREATS[threat], name) == golden.read_bytes()


# ---- published schemas and other people's readers ----------------------------------------------


@cache
def ocsf_validator() -> Any:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0")).get_class_schema(
        class_name="detection_finding", profiles=[]
    )
    return jsonschema.Draft202012Validator(schema)


@given(threats)
def test_ocsf_is_valid_whatever_the_threat_says(threat):
    ocsf_validator().validate(json.loads(rendered(threat, "ocsf")))


@pytest.mark.parametrize("name", THREATS)
def test_ocsf_says_what_its_schema_cannot_check(name):
    threat = THREATS[name]
    told = json.loads(rendered(threat, "ocsf"))
    assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]
    # milliseconds: the schema takes seconds as well
    assert [told[key] for key in ("time", "start_time", "end_time")] == [
        threat.decided_ms, threat.first_ms, threat.last_ms,
    ]  # fmt: skip
    captions = {"activity_name": "activity_id", "severity": "severity_id", "status": "status_id"}
    known = {
        ("activity_id", 1): "Create", ("activity_id", 2): "Update", ("activity_id", 3): "Close",
        ("severity_id", 2): "Low", ("severity_id", 3): "Medium", ("severity_id", 4): "High",
        ("severity_id", 5): "Critical", ("status_id", 1): "New", ("status_id", 4): "Resolved",
    }  # fmt: skip
    assert {caption: told[caption] for caption in captions} == {
        caption: known[id, told[id]] for caption, id in captions.items()
    }


@pytest.mark.parametrize(
    ("name", "activity"), [("opened", 1), ("combined", 2), ("merged", 3)], ids=["create", "update", "close"]
)
def test_ocsf_activity_follows_revision_and_phase(name, activity):
    assert json.loads(rendered(THREATS[name], "ocsf"))["activity_id"] == activity


@cache
def idmefv2_validator() -> Any:
    path = next(Path(idmefv2.__file__).parent.rglob("*8*/**/IDMEFv2.schema"), None) or next(
        one for one in sorted(Path(idmefv2.__file__).parent.rglob("*.schema")) if "08" in str(one)
    )
    schema = json.loads(path.read_text())
    return jsonschema.validators.validator_for(schema)(schema)


@given(threats)
def test_idmefv2_is_valid_whatever_the_threat_says(threat):
    idmefv2_validator().validate(json.loads(rendered(threat, "idmefv2")))


@pytest.mark.parametrize("name", THREATS)
def test_idmefv2_is_read_by_the_package_of_its_authors(name):
    message = idmefv2.Message()
    message.update(json.loads(rendered(THREATS[name], "idmefv2")))
    message.validate()
    assert message["Version"] == "2.D.V08"


def test_idmefv2_names_the_message_it_replaces():
    first = msgspec.structs.replace(THREATS["combined"], revision=2)
    then = json.loads(rendered(THREATS["combined"], "idmefv2"))
    assert then["PredID"] == [json.loads(rendered(first, "idmefv2"))["ID"]]


@pytest.mark.parametrize(
    ("site", "floor", "told"),
    [
        ({}, {}, {}),
        ({"coordinates": [43.7731, 11.2558]}, {}, {"GeoLocation": "+43.773100, +11.255800"}),
        ({"coordinates": [43.7731, 11.2558]}, {"coordinates": [-1, -2.5]}, {"GeoLocation": "-1.000000, -2.500000"}),
        ({"unlocode": "IT FLR"}, {}, {"UnLocation": "IT FLR"}),
        ({"unlocode": "GB L22"}, {}, {}),  # a code with digits, which the draft does not take
    ],
)
def test_idmefv2_says_where_on_the_globe_what_the_site_file_places(site, floor, told):
    zone = {"id": "z-store"}
    place = site_of(
        {"site": {"id": "h-test", "timezone": "UTC", **site}, "floors": [{"id": "f", "zones": [zone], **floor}]}, "test"
    )
    threat = msgspec.structs.replace(THREATS["combined"], assets=("z-store", "unknown:host:x"))
    placed, unknown = json.loads(our_idmefv2.render(threat, About("0", place=place)))["Target"]
    assert {name: placed[name] for name in ("GeoLocation", "UnLocation") if name in placed} == told
    assert set(unknown) == {"ID", "Note", "Location"}


def test_idmefv2_has_a_category_for_every_threat_type():
    assert set(our_idmefv2.CATEGORIES) == set(THREAT_TYPES)


@given(threats)
def test_stix_is_read_by_the_package_of_oasis(threat):
    bundle = stix2.parse(rendered(threat, "stix").decode(), allow_custom=False)
    incident = next(one for one in bundle.objects if one["type"] == "incident")
    assert incident.name == (threat.title or threat.id)


def ecs_fields() -> dict[str, str]:
    rows = (HERE / "ecs-9.4.0.tsv").read_text().splitlines()
    return dict(row.split("\t") for row in rows if not row.startswith("#"))


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], f"{path}.{key}" if path else key)]
    return [(path, value)]


ECS_TYPES = {"keyword": str, "match_only_text": str, "long": int, "date": str, "wildcard": str}


@pytest.mark.parametrize("name", THREATS)
def test_ecs_uses_no_field_that_ecs_does_not_have_and_keeps_its_types(name):
    fields = ecs_fields()
    for path, value in leaves(json.loads(rendered(THREATS[name], "ecs"))):
        if path.startswith("cps."):
            continue
        assert path in fields
        for one in value if isinstance(value, list) else [value]:
            assert isinstance(one, ECS_TYPES[fields[path]]), path


@given(threats)
def test_cef_is_one_line_that_another_parser_reads_back(threat):
    line = cef.text(threat, ABOUT)
    assert re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", line) is None
    read = pycef.parse(line)
    assert read["externalId"] == threat.id
    assert read["rt"] == str(threat.decided_ms)
    assert read["Severity"] == str(cef.SEVERITIES[threat.severity])


@given(threats)
def test_leef_attributes_stay_apart_whatever_the_threat_says(threat):
    line = leef.text(threat, ABOUT)
    head, _, attributes = line.partition("|x09|")
    assert head.count("|") == 4
    names = [pair.partition("=")[0] for pair in attributes.split("\t")]
    assert set(names) <= {
        "cat", "devTime", "devTimeFormat", "sev", "threatId", "revision", "activity", "title", "site", "firstSeen",
        "lastSeen", "domains", "places", "assets", "techniques", "evidenceCount", "msg", "url",
    }  # fmt: skip
    assert len(names) == len(set(names))


RFC5424 = re.compile(
    rb"<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) "
    rb'\[(\S+)((?: [!-<>-~]+="(?:[^"\\\]]|\\["\\\]])*")*)\] \xef\xbb\xbf([^\x00-\x08\x0a-\x1f]*)'
)


@given(threats, st.sampled_from(["cef", "leef"]))
def test_a_syslog_message_is_one_message_by_the_grammar_of_rfc_5424(threat, name):
    message = rendered(threat, name)
    found = RFC5424.fullmatch(message)
    assert found is not None
    assert int(found[1]) == 13 * 8 + syslog.SEVERITIES[threat.severity]
    assert syslog.framed(message) == str(len(message)).encode() + b" " + message


@given(threats)
def test_alertmanager_gets_times_it_takes_and_labels_that_do_not_change(threat):
    (alert,) = json.loads(rendered(threat, "alertmanager"))
    assert alert["startsAt"] <= alert["endsAt"]
    later = msgspec.structs.replace(threat, severity="critical", title="grown", revision=threat.revision + 1)
    (again,) = json.loads(rendered(later, "alertmanager"))
    assert again["labels"] == alert["labels"]
    assert all(isinstance(value, str) for value in alert["annotations"].values())


# ---- the table of docs/outputs.md --------------------------------------------------------------


def native_names(name: str) -> set[str]:
    """Every field a format wrote for a threat that says everything."""
    body = rendered(THREATS["combined"], name)
    if name == "cef":
        line = body.decode().partition("CEF:")[2]
        return set(re.findall(r"(?:^|[ |])([A-Za-z0-9]+)=", line)) | {"Device Event Class ID", "Name", "Severity"}
    if name == "leef":
        attributes = body.decode().partition("|x09|")[2]
        return {pair.partition("=")[0] for pair in attributes.split("\t")} | {"EventID"}
    value = json.loads(body)
    if name == "stix":
        names = {"identity (organization)", "extension"} & {
            "identity (organization)" if any(one.get("identity_class") == "organization" for one in value["objects"])
            else "",
            "extension" if any("extensions" in one for one in value["objects"]) else "",
        }  # fmt: skip
        for one in value["objects"]:
            names |= paths({key: one[key] for key in one}, one["type"] + ".")
        return names
    return paths(value[0] if isinstance(value, list) else value)


def paths(value: Any, prefix: str = "") -> set[str]:
    if isinstance(value, dict):
        found = set()
        for key, inner in value.items():
            found |= {prefix + key} | paths(inner, f"{prefix}{key}.")
        return found | ({prefix + "*"} if prefix else set())
    if isinstance(value, list):
        base = prefix[:-1] + "[]"
        return {base}.union(*(paths(one, base + ".") for one in value))
    return set()


@pytest.mark.parametrize("name", FORMATS)
def test_every_field_of_the_table_is_one_that_the_format_writes(name):
    written = native_names(name) | ({"RelID"} if name == "idmefv2" else set())
    told = [field for fields, _ in FORMATS[name].fields for field in fields.split(", ")]
    assert [field for field in told if field not in written] == []


def test_the_document_has_the_table_of_every_format():
    document = (HERE.parents[1] / "docs" / "outputs.md").read_text()
    for one in FORMATS.values():
        for native, ours in one.fields:
            assert f"| {native} | {ours} |" in document


if __name__ == "__main__":  # writes the golden files anew: look at the difference before committing it
    for threat, name in CASES:
        (HERE / "golden" / f"{threat}.{name}").write_bytes(rendered(THREATS[threat], name))
