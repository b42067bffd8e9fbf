"""`correlator privacy`: who may look behind a token, and how one person is told of and taken out."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from correlator.cli.main import main
from correlator.config.load import load
from correlator.config.privacy import somebody
from correlator.journal.store import SqliteJournal
from correlator.privacy.evidence import Locker
from correlator.privacy.vault import Vault
from tests.embedded.feeding import Running, messages_of

from .keeping import key, named_in, tokenised

PASSWORDS = {"a-1": ("analyst", "lanterns over the river"), "o-1": ("operator", "kites in a cold wind"),
             "d-1": ("admin", "seven blue umbrellas")}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with correlator.yaml, users, and an embedded log of the vaccine theft with tokens."""
    folder = tmp_path_factory.mktemp("ran")
    one = tokenised(folder, "k1")
    running = Running(one, folder / "log.sqlite3", keep_raw_days=36_500)
    running.feed(messages_of(one))
    running.close()
    settings = {
        "sites": [{"site": str(one.site_file)}],
        "privacy": {"tokens": True, "keys": [{"id": "k1", "file": str(key(folder, "k1"))}], "vault": "vault.sqlite3"},
        "console": {"users": "users.yaml"},
    }
    (folder / "correlator.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        for name, (role, password) in PASSWORDS.items():
            patch.setattr("sys.stdin", io.StringIO(password + "\n"))
            assert main(["console", "user", name, "--role", role, "--users", str(folder / "users.yaml")]) == 0
    return folder


def asked(ran: Path, monkeypatch, capsys, *words: str, who: str = "a-1", why: str = "case 12") -> tuple[int, str, str]:
    """Exit code, output and errors of a command as somebody asks it."""
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORDS[who][1] + "\n"))
    log = str(ran / "log.sqlite3")
    code = main(
        ["privacy", *words, "--config", str(ran / "correlator.yaml"), "--embedded", log, "--as", who, "--why", why]
    )
    said = capsys.readouterr()
    return code, said.out, said.err


def journal(ran: Path) -> list:
    return [act for _, act in SqliteJournal(ran / "log.sqlite3.actions").read(-1)]


def token_of(ran: Path, value: str, kind: str) -> str:
    return Vault(ran / "vault.sqlite3").tokens_of([value], kind)[0].token


def test_a_token_is_revealed_to_an_analyst_with_a_reason_and_the_journal_has_it_without_the_name(
    ran, monkeypatch, capsys
):
    token = token_of(ran, "b-1030", "badge")
    assert asked(ran, monkeypatch, capsys, "reveal", token)[:2] == (0, "badge b-1030\n")
    act = journal(ran)[-1]
    assert (act.verb, act.who, act.site, act.args) == (
        "reveal",
        "a-1",
        "valmora",
        {"reason": "case 12", "token": token},
    )


def test_who_has_no_role_no_reason_or_no_password_sees_nothing_and_the_try_is_kept(ran, monkeypatch, capsys):
    token = token_of(ran, "b-1030", "badge")
    before = len(journal(ran))
    assert asked(ran, monkeypatch, capsys, "reveal", token, who="o-1")[:2] == (2, "")
    assert [act.denied for act in journal(ran)[before:]] == ["a operator may not reveal"]
    code, out, err = asked(ran, monkeypatch, capsys, "reveal", token, why="  ")
    assert (code, out) == (2, "") and "give the reason" in err
    monkeypatch.setitem(PASSWORDS, "a-1", ("analyst", "a guess"))
    code, out, err = asked(ran, monkeypatch, capsys, "reveal", token)
    assert (code, out) == (2, "") and "no user 'a-1' with this password" in err
    assert len(journal(ran)) == before + 1


def test_the_raw_message_of_an_event_is_revealed_too(ran, monkeypatch, capsys):
    db = sqlite3.connect(ran / "log.sqlite3")
    event, sealed = db.execute("SELECT event, payload FROM evidence WHERE channel LIKE 'access%' LIMIT 1").fetchone()
    code, out, _ = asked(ran, monkeypatch, capsys, "reveal", event)
    received = [payload.decode() for (payload,) in db.execute("SELECT payload FROM raw")]
    assert code == 0 and out.removesuffix("\n") in received
    assert b"door" not in sealed
    assert journal(ran)[-1].args == {"reason": "case 12", "event": event}


def test_what_is_kept_of_one_person_is_exported_and_others_in_it_stay_tokens(ran, monkeypatch, capsys):
    code, out, _ = asked(ran, monkeypatch, capsys, "export", "p-030", who="d-1")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert {one["what"] for one in lines} == {"identity", "events.enriched", "matches", "threats", "evidence"}
    assert {one["value"] for one in lines if one["what"] == "identity"} >= {"p-030", "b-1030", "u030"}
    everybody = {one.value for one in Vault(ran / "vault.sqlite3").everybody()}
    others = everybody - {one["value"] for one in lines if one["what"] == "identity"}
    assert named_in(out.encode(), others) == []
    assert journal(ran)[-1].verb == "export"
    assert asked(ran, monkeypatch, capsys, "export", "p-030", who="a-1")[0] == 2


def test_an_erased_person_is_found_nowhere_and_does_not_come_back(ran, monkeypatch, capsys):
    vault = Vault(ran / "vault.sqlite3")
    token = token_of(ran, "u030", "account")
    code, out, _ = asked(ran, monkeypatch, capsys, "erase", "u030", who="d-1", why="asked for it")
    assert code == 0 and "site.yaml: person p-030 is still there" in out
    assert vault.find(token) is None
    assert asked(ran, monkeypatch, capsys, "reveal", token)[1] == ""
    vault.learn([(token, "account", "u030")], 1)
    assert vault.find(token) is None
    everywhere = b"".join(file.read_bytes() for file in ran.glob("vault.sqlite3*"))
    assert named_in(everywhere, ["u030", "b-1030"]) == []
    db = sqlite3.connect(ran / "log.sqlite3")
    told = db.execute("SELECT count(*) FROM output WHERE instr(value, ?)", (token.encode(),)).fetchone()[0]
    assert told, "what was told keeps the token"
    kept = [Locker(vault).open(*row) for row in db.execute("SELECT event, payload FROM evidence")]
    assert named_in(b"\n".join(kept), ["u030", "b-1030", "p-030"]) == []
    assert any(token.encode() in payload for payload in kept)
    assert asked(ran, monkeypatch, capsys, "erase", "u030", who="d-1")[0] == 2, "there is nothing left to erase"


def test_a_threats_raw_messages_are_made_unreadable_by_its_key(ran, monkeypatch, capsys):
    db = sqlite3.connect(Vault(ran / "vault.sqlite3").file)
    event, threat = db.execute("SELECT event, threat FROM evidence WHERE threat != '' LIMIT 1").fetchone()
    assert asked(ran, monkeypatch, capsys, "reveal", event)[0] == 0
    assert asked(ran, monkeypatch, capsys, "erase", "--threat", threat, who="a-1")[0] == 2
    assert asked(ran, monkeypatch, capsys, "erase", "--threat", threat, who="d-1")[0] == 0
    act = journal(ran)[-1]
    assert (act.verb, act.threat, act.denied) == ("erase", threat, "")
    code, out, err = asked(ran, monkeypatch, capsys, "reveal", event)
    assert (code, out) == (2, "") and "can no longer be read" in err
    assert asked(ran, monkeypatch, capsys, "erase", "--threat", threat, who="d-1")[0] == 2


def test_a_name_that_stays_clear_and_a_number_of_another_kind_are_not_somebodys(tmp_path):
    (tmp_path / "site.yaml").write_text(
        "site: {id: h1, timezone: UTC}\n"
        "people:\n- {id: p-1, badges: ['417'], accounts: ['WARD\\vlumen', root]}\n- {id: p-2, accounts: ['417']}\n"
    )
    file = tmp_path / "correlator.yaml"
    file.write_text(
        f"sites: [{{site: site.yaml}}]\nprivacy: {{tokens: true, keys: [{{id: k1, file: {key(tmp_path, 'k1')}}}]}}\n"
    )
    vault = Vault(tmp_path / "vault.sqlite3")
    vault.learn([("tok-a", "badge", "417"), ("tok-b", "account", "417"), ("tok-c", "account", "X\\vlumen")], 1)
    found = somebody(load(file), vault, ["VLUMEN"])
    assert found.in_site.endswith("site.yaml: person p-1")
    assert {one.token for one in found.tokens if one.first_ms} == {"tok-a", "tok-c"}
    assert {(one.kind, one.value) for one in found.tokens if not one.first_ms} == {
        ("person", "p-1"), ("badge", "417"), ("account", "WARD\\vlumen"), ("account", "vlumen")
    }  # fmt: skip


def test_keys_and_vault_are_told_of_without_what_they_hold(ran, tmp_path, capsys):
    assert main(["privacy", "keys", "new", str(tmp_path / "k9")]) == 0
    assert (tmp_path / "k9").stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex((tmp_path / "k9").read_text())) == 32
    assert main(["privacy", "keys", "new", str(tmp_path / "k9")]) == 2
    capsys.readouterr()
    config = str(ran / "correlator.yaml")
    assert main(["privacy", "keys", "show", "--config", config]) == 0
    assert main(["privacy", "vault", "--config", config]) == 0
    out = capsys.readouterr().out
    assert out.startswith("k1            makes tokens\n") and "badge " in out and "tok-" not in out


def test_the_settings_refuse_rules_that_ask_for_a_part_of_a_name(ran, tmp_path, monkeypatch, capsys):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "r.yml").write_text(
        "title: t\nid: 11111111-1111-4111-8111-111111111111\nlogsource: {product: correlator}\n"
        "detection:\n  s:\n    kind: host.logon\n    account|startswith: u0\n  condition: s\n"
    )
    config = ran / "correlator.yaml"
    assert main(["rules", "check", str(rules)]) == 0
    for arguments in (["--config", str(config)], []):
        monkeypatch.chdir(ran if not arguments else tmp_path)
        assert main(["rules", "check", *arguments, str(rules)]) == 2
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert main(["rules", "check", str(rules)]) == 0, "the correlator.yaml of `init` says nothing of privacy"
    assert f"{rules}/r.yml:7:5: 'account' holds a token" in capsys.readouterr().out
    said = yaml.safe_load(config.read_text())
    said["sites"][0]["rules"] = [str(rules)]
    beside = ran / "with-rules.yaml"
    beside.write_text(yaml.safe_dump(said))
    assert main(["config", "check", "--config", str(beside)]) == 2
    assert f"{rules}/r.yml:7:5" in capsys.readouterr().err
