"""Tokens: how they are made, which names stay clear, the site file by the same keys, what rules may ask."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import date

import pytest

from correlator.errors import FaultyFile, UsageError
from correlator.privacy.fields import IdentityFields
from correlator.privacy.private import Private, with_tokens
from correlator.privacy.rules import TokenisedRules, check
from correlator.privacy.settings import KeySettings, PrivacySettings
from correlator.privacy.site import TokenisedSite
from correlator.privacy.tokens import KeyedIdentity, read_keys
from correlator.rulepack import PACK
from correlator.rules.load import rule_texts, rules_of

from .keeping import NOW_MS, key, named_in, settings_with

SITE = """\
site: {id: h1, timezone: Europe/Rome}   # asked for by Vera Lumen
people:
  - {id: p-17, name: Vera Lumen, aliases: ["Vera L."], badges: [b-4711, {id: "0417", valid_to: 2026-01-01}], accounts: ['WARD\\vlumen', administrator]}
windows:
  - {id: w1, zones: [z], people: [p-17], from: 2026-03-03T08:00, to: 2026-03-03T17:00, why: Vera Lumen paints}
floors: [{id: f, zones: [{id: z}]}]
contacts: [{role: porter, name: Vera Lumen, phone: "0417"}]
relations: [{from: p-17, to: badge:b-4711, type: holds}]
"""
NAMES = ["p-17", "Vera Lumen", "Vera", "Lumen", "b-4711", "vlumen"]


@pytest.fixture
def identity(tmp_path) -> KeyedIdentity:
    return Private(settings_with(tmp_path, "k1"), (), NOW_MS).identity


def test_a_token_is_a_keyed_hash_of_kind_and_value_with_the_name_of_its_key(tmp_path, identity):
    secret = bytes.fromhex(key(tmp_path, "k1").read_text())
    made = hmac.new(secret, b"badge\0b-4711", hashlib.sha256).digest()[:16]
    token = f"tok-k1-{base64.b32encode(made).decode().rstrip('=').lower()}"
    assert identity.token("badge", "b-4711") == identity.token("badge", " B-4711 ") == token
    assert identity.token("account", "b-4711") != token


@pytest.mark.parametrize(
    ("kind", "value", "clear"),
    [
        ("account", "SYSTEM", True), ("account", "NT AUTHORITY\\SYSTEM", True), ("account", "Administrator", True),
        ("account", "WARD\\Administrator", True), ("account", "root", True), ("account", "WS5$", True),
        ("account", "S-1-5-18", True), ("account", "S-1-5-21-1-2-3-512", True), ("account", "192.0.2.7", True),
        ("account", "2001:db8::1", True), ("account", "Domain Admins", True), ("account", "svc-scan", True),
        ("account", "S-1-5-21-1-2-3-1104", False), ("account", "vlumen", False), ("account", "rooty", False),
        ("person", "root", False), ("badge", "192.0.2.7", False), ("account", "admin-vlumen", False),
    ],
)  # fmt: skip
def test_names_of_a_table_machines_and_addresses_stay_clear(tmp_path, kind, value, clear):
    settings = settings_with(tmp_path, "k1").model_copy(update={"clear": ("svc-scan",)})
    token = Private(settings, (), NOW_MS).identity.token(kind, value)
    assert (token == value) is clear
    assert token.startswith("tok-k1-") is not clear


def test_a_key_that_others_can_read_that_is_none_or_that_is_missing_is_refused(tmp_path):
    good = key(tmp_path, "k1")
    good.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others; chmod 600"):
        read_keys(PrivacySettings(keys=(KeySettings(id="k1", file=good),)), date(2027, 1, 1))
    for text, says in (("not hex", "is no key"), ("abcd", "holds 2 bytes")):
        file = tmp_path / "bad"
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(UsageError, match=says):
            read_keys(PrivacySettings(keys=(KeySettings(id="k1", file=file),)), date(2027, 1, 1))
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(PrivacySettings(keys=(KeySettings(id="k1", file=tmp_path / "gone"),)), date(2027, 1, 1))


def test_an_old_key_is_matched_until_what_it_made_has_expired(tmp_path):
    settings = settings_with(tmp_path, "k2", "k1").model_copy(update={"old_keys_days": 30})  # replaced 1 January 2027
    assert [one.id for one in read_keys(settings, date(2027, 1, 30))] == ["k2", "k1"]
    assert [one.id for one in read_keys(settings, date(2027, 1, 31))] == ["k2"]


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"tokens": True}, "tokens need a key"),
        ({"keys": [{"id": "k1", "file": "k", "replaced": "2027-01-01"}]}, "the first key makes new tokens"),
        ({"keys": [{"id": "k2", "file": "k"}, {"id": "k1", "file": "l"}]}, "since when is it replaced"),
        ({"keys": [{"id": "k1", "file": "k"}, {"id": "k1", "file": "l", "replaced": "2027-01-01"}]}, "given twice"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(said, says):
    with pytest.raises(ValueError, match=says):
        PrivacySettings.model_validate(said)


# ---- the site file -------------------------------------------------------------------------------------


def test_the_site_file_with_tokens_names_nobody_and_resolves_what_events_say(tmp_path, identity):
    private = Private(settings_with(tmp_path, "k1"), (), NOW_MS)
    text = TokenisedSite(SITE, identity, "site.yaml").text
    assert named_in(text.encode(), NAMES) == [], text
    places = private.premises(SITE.encode(), "site.yaml")
    person = identity.token("person", "p-17")
    assert places.person_of("badge", identity.token("badge", "b-4711"), 0) == person
    assert places.person_of("badge", identity.token("badge", "0417"), 0) == person
    assert places.person_of("account", identity.token("account", "vlumen"), 0) == person
    assert places.person_of("account", "administrator", 0) == person
    assert places.person_of("person", identity.token("person", "Vera L."), 0) == person
    assert places.site.windows["w1"].people == (person,)
    assert [one.name for one in places.site.contacts] == [""]
    kept = private.premises(SITE.encode(), "site.yaml", contacts=True)
    assert [one.name for one in kept.site.contacts] == ["Vera Lumen"]


def test_a_token_that_somebody_pasted_into_the_site_file_stays_itself(tmp_path, identity):
    stranger = identity.token("badge", "b-9999")
    private = Private(settings_with(tmp_path, "k1"), (), NOW_MS)
    places = private.premises(SITE.replace("badges: [b-4711,", f"badges: [b-4711, {stranger},").encode(), "site.yaml")
    assert places.person_of("badge", stranger, 0) == identity.token("person", "p-17")


def test_two_identities_with_one_token_are_refused(identity):
    twice = SITE.replace("badges: [b-4711,", "badges: [b-4711, B-4711,")
    with pytest.raises(FaultyFile, match="two identities differ in case only"):
        TokenisedSite(twice, identity, "site.yaml")


NAMES = ("d-1", "badge:b-4711", "p-17", "unknown:badge:b-9", "who badge:b-4711", "who p-17", "who badge:b-9")


def test_what_was_learned_goes_on_with_tokens_and_knows_no_strangers(identity):
    renamed = TokenisedSite(SITE, identity, "site.yaml").references
    entries = [(f"1/linker/asset/{one}", b"") for one in NAMES]
    badge, person = identity.token("badge", "b-4711"), identity.token("person", "p-17")
    assert [key.rpartition("/")[2] for key, _ in with_tokens(entries, renamed)] == [
        "d-1", f"badge:{badge}", person, f"who badge:{badge}", f"who {person}",
    ]  # fmt: skip
    again = [(f"1/linker/asset/{one}", b"") for one in (f"badge:{badge}", f"who badge:{badge}")]
    assert with_tokens(again, renamed) == again, "learned with tokens"


# ---- rules ---------------------------------------------------------------------------------------------

RULE = """\
title: t
id: 11111111-1111-4111-8111-111111111111
logsource: {{product: {product}}}
detection:
  selection:
    kind: host.logon
    {line}
  condition: selection
"""


@pytest.mark.parametrize(
    ("product", "line", "says"),
    [
        (
            "correlator",
            "account|startswith: p-0",
            "r.yml:7:5: 'account' holds a token, since it is an account: startswith",
        ),
        (
            "correlator",
            "actor.badge|re: b-.*",
            "r.yml:7:5: 'actor.badge' holds a token, since it is a badge: re cannot",
        ),
        ("correlator", "person: ['x', 'lum?n']", "r.yml:7:19: 'person' holds a token, since it is a person: a pattern"),
        ("correlator", "person: '*lumen'", "r.yml:7:13: 'person' holds a token, since it is a person: endswith"),
        ("windows", "TargetUserName|contains: lum", "r.yml:7:5: 'TargetUserName' holds a token"),
        ("zeek", "user|contains|all: [a, b]", "r.yml:7:5: 'user' holds a token"),
        ("correlator", "card|endswith: '7'", "r.yml:7:5: 'card' holds a token, since it is a badge"),
    ],
)
def test_what_a_token_cannot_answer_is_refused_with_its_place(product, line, says):
    found = check([("r.yml", RULE.format(product=product, line=line))], IdentityFields([("card", "badge")]))
    assert [str(fault)[: len(says)] for fault in found if fault.severity == "error"] == [says]


@pytest.mark.parametrize(
    "line",
    [
        "account|endswith: $", "account: '*$'", "User|contains: [AUTHORI, AUTORI]", "TargetSid|endswith: '-512'",
        "account|startswith: 'NT AUTHORITY\\'", "account|startswith: NT AUTH", "account: [p-17, vlumen]", "account|exists: true", "account: null",
        "account|cidr: 192.0.2.0/24", "host|startswith: ws", "door|re: d-.*", "badge|fieldref: Data.Card", "account: '*'",
    ],
)  # fmt: skip
def test_whole_values_names_that_stay_clear_and_other_fields_may_be_asked_for(line):
    assert check([("r.yml", RULE.format(product="windows", line=line))], IdentityFields()) == []


def test_words_that_are_identities_of_the_site_are_searched_as_tokens(tmp_path):
    private = Private(settings_with(tmp_path, "k1"), (), NOW_MS)
    made = TokenisedRules(private.identity, private.fields, {"vlumen": "account"}, {})
    text = RULE.format(product="linux", line="host: x") + "# seen with VLumen\n"
    words = text.replace(
        "  selection:\n    kind: host.logon\n    host: x\n", "  one: VLumen\n  two: [failed, vlumen]\n"
    )
    token = private.identity.token("account", "vlumen")
    rule = made.rules(words.replace("condition: selection", "condition: one or two"))
    assert f'one: "{token}"' in rule and f'two: [failed, "{token}"]' in rule
    assert "umen" not in rule


def test_the_rule_pack_can_be_asked_of_tokens():
    texts = [(name, data.decode()) for name, data in rule_texts(PACK, [PACK])]
    assert [fault for fault in check(texts, IdentityFields()) if fault.severity == "error"] == []


def test_constants_become_tokens_of_every_key_that_is_matched(tmp_path):
    private = Private(settings_with(tmp_path, "k2", "k1"), (), NOW_MS)
    identity = private.identity
    made = TokenisedRules(identity, private.fields, {"vlumen": "account"}, {"badge:b-4711": "badge:tok-x"})
    text = RULE.format(
        product="correlator", line="account: [x-1, vlumen, root]\n    badge|expand: '%lost%'\n    host: x-1"
    )
    rule = made.rules(text + "x-correlator: {tests: [{name: Vera Lumen, events: [], expect: 0}]}\n")
    overlay = made.overlay(
        "lists: {lost: [b-4711], hosts: [x-1]}\n"
        "exceptions:\n- {kind: door.forced, fields: {person: p-9, host: x-1}, asset: 'badge:b-4711', until: 2027-01-01T00:00:00Z, reason: r}\n"
    )
    new, old = (token for token in identity.tokens("account", "x-1"))
    known = identity.tokens("account", "vlumen")[1]
    assert f'account: ["{new}", "{old}", "{known}", root]' in rule
    assert "host: x-1" in rule and "Vera" not in rule
    lost = ", ".join(f'"{one}"' for one in identity.tokens("badge", "b-4711"))
    assert f"lists: {{lost: [{lost}], hosts: [x-1]}}" in overlay
    person = ", ".join(f'"{one}"' for one in identity.tokens("person", "p-9"))
    assert f'fields: {{person: [{person}], host: x-1}}, asset: "badge:tok-x"' in overlay
    assert not rules_of([("r.yml", rule.encode())], ("o.yaml", overlay.encode())).errors
