"""What people read: complete in three languages, short, without anything that identifies a person."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
import xmlschema
from referencing import Registry, Resource

from correlator.premises.vocabulary import THREAT_TYPES
from correlator.words import cacao, cap
from correlator.words.message import Occasion, _words, is_drill, message, playbook, steps_for, steps_in_words
from tests.notifier.cases import HERE, THREATS

LANGUAGES = ("en", "fr", "it")


def test_every_word_is_there_in_every_language():
    missing = [
        (table, key, language)
        for table in ("threat_types", "severities", "frames")
        for key, words in _words()[table].items()
        for language in LANGUAGES
        if not words.get(language)
    ]
    missing += [("step", step.id, one) for step in playbook() for one in LANGUAGES if not step.text.get(one)]
    assert missing == []


def test_every_threat_type_has_words_and_something_to_do():
    assert set(_words()["threat_types"]) == set(THREAT_TYPES)
    assert {one for step in playbook() for one in step.types} == set(THREAT_TYPES)


def test_frames_ask_for_the_same_values_in_every_language():
    for name, words in _words()["frames"].items():
        wanted = {language: sorted(re.findall(r"\{(\w+)\}", words[language])) for language in LANGUAGES}
        assert len(set(map(tuple, wanted.values()))) == 1, name


def test_sentences_are_short():
    texts = [step.text[one] for step in playbook() for one in LANGUAGES]
    assert max(len(sentence.split()) for text in texts for sentence in re.split(r"[.;:]", text)) <= 20


EXPECTED = """\
Pharmacy store: A removable disk was plugged in
Since 25.10. 00:14. Severity: high.
During announced work: w-paint.

What happened:
- 00:14 The door was opened without a badge (Pharmacy store)
- 00:19 A removable disk was plugged in (Pharmacy store)

What to do now:
1. Send two guards to the place; look, do not touch. head of security: +39 055 0101.
2. Close and lock the doors around it; leave escape routes open.
3. Count what is kept there with the person in charge. pharmacist on duty: +39 055 0102.

Details: https://console.example/t/0a1b2c3d4e5f60718293a4b5c6d7e8f9
"""


def test_a_message_says_where_what_since_when_and_what_to_do(threat, places):
    told = message(threat, places, "en", Occasion(), "https://console.example/t/" + threat.id)
    assert told.subject == "Pharmacy store: A removable disk was plugged in"
    assert told.body.replace("(Corridor)", "(Pharmacy store)") == EXPECTED


@pytest.mark.parametrize("name", THREATS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_address_account_or_event_id_is_in_a_message(name, language, places):
    body = message(THREATS[name], places, language, Occasion()).body
    assert re.search(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]{16}|account|u-77|ws-dispense", body) is None


def test_other_languages_take_the_words_of_the_threat_type(threat, places):
    assert "Porte forcée" in message(threat, places, "fr", Occasion()).body
    assert "Porta forzata" in message(threat, places, "it", Occasion()).body


def test_a_drill_says_so_first(places):
    drill = msgspec.structs.replace(THREATS["merged"], phase="threat", windows=("w-fire-drill",))
    assert is_drill(drill, places)
    assert not is_drill(THREATS["combined"], places)
    assert message(drill, places, "it", Occasion(), drill=True).subject.startswith("ESERCITAZIONE - ")


def test_a_phone_number_is_of_the_contact_for_the_zone(threat, places):
    elsewhere = msgspec.structs.replace(threat, assets=("z-ward3",))
    assert any("0102" in line for line in steps_in_words(threat, places, "en"))
    assert not any("0102" in line for line in steps_in_words(elsewhere, places, "en"))


def test_a_playbook_has_each_step_once(threat):
    ids = [step.id for step in steps_for(threat)]
    assert len(ids) == len(set(ids)) > 0


# ---- CACAO and CAP -----------------------------------------------------------------------------


def cacao_validator() -> jsonschema.Draft7Validator:
    folder = HERE / "published" / "cacao-2.0"
    resources = []
    for path in folder.rglob("*.json"):
        schema = json.loads(path.read_text())
        resources.append((schema["$id"], Resource.from_contents(schema)))
    return jsonschema.Draft7Validator(
        json.loads((folder / "playbook.json").read_text()), registry=Registry().with_resources(resources)
    )


@pytest.mark.parametrize("name", THREATS)
def test_a_playbook_is_valid_cacao(name, places):
    told = json.loads(cacao.playbook(THREATS[name], places, "en"))
    cacao_validator().validate(told)
    at, seen = told["workflow_start"], []
    while at is not None:  # from the start to the end through every step
        seen.append(at)
        at = told["workflow"][at].get("on_completion")
    assert sorted(seen) == sorted(told["workflow"])


def test_a_playbook_tells_whom_to_phone(threat, places):
    told = json.loads(cacao.playbook(threat, places, "en"))
    commands = [one["commands"][0]["command"] for one in told["workflow"].values() if one["type"] == "action"]
    assert any("head of security: +39 055 0101" in one for one in commands)


CAP_SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "published" / "cap-1.2" / "CAP-v1.2.xsd"))
NS = {"c": cap.NAMESPACE}


@pytest.mark.parametrize("name", THREATS)
@pytest.mark.parametrize("drill", [False, True], ids=["alert", "drill"])
def test_a_warning_is_valid_cap(name, drill, places):
    CAP_SCHEMA.validate(cap.draft(THREATS[name], places, LANGUAGES, "security@h.example", drill=drill).decode())


def test_a_warning_is_a_draft_until_somebody_approves_it(threat, places):
    draft = cap.draft(threat, places, ["en"], "security@h.example").decode()
    let_go = cap.draft(
        threat, places, ["en"], "security@h.example", cap.Approval("p-1", 1_792_880_400_000, "Public")
    ).decode()
    assert ("<status>Draft</status>" in draft, "<scope>Private</scope>" in draft) == (True, True)
    assert ("<status>Actual</status>" in let_go, "<scope>Public</scope>" in let_go) == (True, True)
    assert "<sent>2026-10-25T00:20:00+02:00</sent>" in let_go


def test_a_drill_stays_an_exercise_whoever_approves(threat, places):
    told = cap.draft(threat, places, ["en"], "s@h.example", cap.Approval("p-1", 0, "Public"), drill=True).decode()
    assert "<status>Exercise</status>" in told
    assert "<scope>Private</scope>" in told


@pytest.mark.parametrize("sender", ["", "a b", "a,b", "a<b", "a&b"])
def test_a_sender_that_cap_does_not_take_is_refused(sender, threat, places):
    with pytest.raises(ValueError, match="CAP sender"):
        cap.draft(threat, places, ["en"], sender)
