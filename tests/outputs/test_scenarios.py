"""Every output of every scenario is valid in its format, and no name in it harms who reads it."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import msgspec
import pycef
import pytest
import stix2

from correlator.data import folder
from correlator.events.threat import Threat
from correlator.outputs.formats import FORMATS
from correlator.premises import load_site
from correlator.run.replay import replay
from correlator.words import cacao, cap
from correlator.words.language import LANGUAGES
from correlator.words.message import Occasion, message
from tests.notifier.test_words import CAP_SCHEMA, cacao_validator
from tests.outputs.test_formats import (
    ABOUT,
    ECS_TYPES,
    RFC5424,
    THREATS,
    ecs_fields,
    idmefv2_validator,
    leaves,
    ocsf_validator,
)

SCENARIOS = sorted(path.name for path in folder("scenarios").iterdir() if (path / "scenario.yaml").is_file())
TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def valid(name: str, body: bytes) -> None:
    """Raises if the bytes are not what the format's schema or a reader that is not ours takes."""
    if name == "ocsf":
        ocsf_validator().validate(json.loads(body))
    elif name == "idmefv2":
        idmefv2_validator().validate(json.loads(body))
    elif name == "stix":
        stix2.parse(body.decode(), allow_custom=False)
    elif name == "ecs":
        fields = ecs_fields()
        for path, value in leaves(json.loads(body)):
            if not path.startswith("cps."):
                for one in value if isinstance(value, list) else [value]:
                    assert isinstance(one, ECS_TYPES[fields[path]]), path
    elif name == "alertmanager":
        (alert,) = json.loads(body)
        assert alert["startsAt"] <= alert["endsAt"]
        assert all(isinstance(one, str) for part in ("labels", "annotations") for one in alert[part].values())
    else:
        found = RFC5424.fullmatch(body)
        assert found is not None
        if name == "cef":
            assert pycef.parse(found[found.lastindex].decode())["externalId"]


@pytest.fixture(scope="module")
def revisions(tmp_path_factory):
    found = {}
    for name in SCENARIOS:
        out = tmp_path_factory.mktemp(name)
        replay(
            folder("scenarios") / name, out=out, speed=None, as_json=True, progress=False, stdout=io.StringIO(),
            stderr=io.StringIO(),
        )  # fmt: skip
        lines = (out / "threats.ndjson").read_bytes().splitlines()
        found[name] = [msgspec.json.decode(line, type=Threat) for line in lines]
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_every_revision_of_every_scenario_is_valid(name, revisions):
    assert sum(len(threats) for threats in revisions.values()) > 50
    for threats in revisions.values():
        for threat in threats:
            valid(name, FORMATS[name].render(threat, ABOUT))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_playbooks_and_warnings_of_a_scenario_are_valid_and_messages_name_nobody(scenario, revisions):
    places = load_site(folder("scenarios") / scenario / "site.yaml")
    people = places.site.people.values()
    secret = {one for person in people for one in (person.id, person.name, *person.aliases) if one}
    secret |= {one.id for person in people for one in (*person.badges, *person.accounts)}
    for threat in {one.id: one for one in revisions[scenario]}.values():
        for language in LANGUAGES:
            cacao_validator().validate(json.loads(cacao.playbook(threat, places, language)))
            body = message(threat, places, language, Occasion()).body
            words = set(re.findall(r"[\w.@-]+", body))
            assert words & secret == set(), body
        CAP_SCHEMA.validate(cap.draft(threat, places, LANGUAGES, "security@h.example").decode())


MEGABYTE = "=cmd|' /C calc'!A0 \u202e<script>alert(1)</script>\r\n" * 20_000


@pytest.mark.parametrize("name", FORMATS)
def test_a_name_of_a_megabyte_that_turns_the_text_and_breaks_lines_leaves_a_valid_and_small_message(name):
    hostile = THREATS["hostile"]
    step = msgspec.structs.replace(hostile.steps[0], place_name=MEGABYTE, says=MEGABYTE, asset=MEGABYTE)
    member = msgspec.structs.replace(hostile.members[0], said=MEGABYTE, source=MEGABYTE, place_name=MEGABYTE)
    threat = msgspec.structs.replace(
        hostile, title=MEGABYTE, assets=(MEGABYTE,), places=(MEGABYTE,), steps=(step,), members=(member,)
    )
    body = FORMATS[name].render(threat, ABOUT)
    valid(name, body)
    assert len(body) < 40_000
    assert TURNING.search(body.decode()) is None
    assert name not in ("cef", "leef") or (b"\n" not in body and len(body) <= 8_192)


def test_a_hostile_name_stays_in_its_place_in_messages_playbooks_and_warnings():
    places = load_site(Path(__file__).parents[1] / "notifier/site.yaml")
    zone = dataclasses.replace(places.site.zones["z-store"], name=MEGABYTE)
    places.site.zones["z-store"] = zone
    threat = msgspec.structs.replace(THREATS["combined"], windows=(MEGABYTE,))
    told = message(threat, places, "en", Occasion())
    assert len(told.body) < 3_000
    assert "\n" not in told.subject
    assert len(told.subject) < 300
    assert TURNING.search(told.subject + told.body) is None
    warning = cap.draft(threat, places, LANGUAGES, "security@h.example").decode()
    CAP_SCHEMA.validate(warning)
    assert "<script>" not in warning
    assert len(warning) < 10_000
    cacao_validator().validate(json.loads(cacao.playbook(threat, places, "en")))
