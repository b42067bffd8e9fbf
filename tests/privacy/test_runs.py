"""People as tokens in whole runs: the same threats, no name anywhere but in the three places, keys that change."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator

import msgspec
import pytest

from correlator.console.feeds import LogFacts
from correlator.console.raw import shown
from correlator.errors import UsageError
from correlator.events.threat import Threat
from correlator.matching import Record
from correlator.privacy.evidence import Locker
from correlator.privacy.private import with_tokens
from correlator.privacy.tokens import TOKEN
from correlator.run.deciding import Entries
from correlator.run.explain import why_not
from correlator.run.linking import load_baseline
from correlator.run.replay import make_pipeline, replay, scenario_rules
from correlator.run.scenario import Scenario
from tests.embedded.feeding import Running, messages_of
from tests.ingest.carried import baseline_of, last_promises, raw_messages, scenario, scenario_table, told, without_raw

from .keeping import back, ids_by_order, named_in, tokenised

STORY = "vaccine-theft"


def values_of(private) -> list[str]:
    return sorted({one.value for one in private.vault.everybody()})


def told_by(one: Scenario, baseline: Entries = ()) -> Iterator[str]:
    """Every revision of every threat that a replay tells up to `until`."""
    pipeline, _ = make_pipeline(one, scenario_rules(one), baseline=baseline)
    records = [Record(events=list(batch.events)) for batch in one.events() if batch.received_ms <= one.until_ms]
    for record in [*records, Record(ticks={"": one.until_ms + one.lateness_ms + 1})]:
        for threat in pipeline.receive(record).threats:
            yield told(threat).decode()


@pytest.fixture(scope="module")
def clear() -> list[str]:
    """The threats of the scenario as they are without tokens."""
    return list(told_by(scenario(STORY)))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """An embedded run of the scenario with tokens: its folder and the scenario."""
    folder = tmp_path_factory.mktemp("embedded")
    one = tokenised(folder, "k1")
    running = Running(one, folder / "log.sqlite3", keep_raw_days=36_500)
    running.feed(messages_of(one))
    running.close()
    return folder, one


def same_story(told: list[str], clear: list[str]) -> None:
    """Gain and times are compared too; ids of groups that are tokens are others."""
    found, wanted = ids_by_order(told), ids_by_order(clear)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert sorted_story(one) == sorted_story(other)


def sorted_story(text: str):
    """A threat whose lists that are ordered by id or name have an order of their own."""

    def ordered(value):
        if isinstance(value, dict):
            return {name: ordered(one) for name, one in value.items()}
        if isinstance(value, list):
            inner = [ordered(one) for one in value]
            return sorted(inner, key=lambda one: msgspec.json.encode(one, order="sorted"))
        return value

    return ordered(msgspec.json.decode(text))


def test_a_replay_with_tokens_tells_the_same_threats_also_by_what_was_learned(tmp_path):
    plain, one = scenario(STORY), tokenised(tmp_path, "k1")
    learned = load_baseline(baseline_of(plain))
    renamed = one.private.texts([], None, one.site_file.read_bytes(), str(one.site_file))[3]
    # what was learned of people that the site does not know has no token to go by, and is left out
    of_known = [entry for entry in learned if with_tokens([entry], renamed)]
    assert 0 < len(learned) - len(of_known) < 5
    clear = list(told_by(plain, of_known))
    threats = list(told_by(one, with_tokens(learned, renamed)))
    assert TOKEN.search("".join(threats))
    one.private.flush(0)
    same_story(list(back(threats, one.private)), clear)


def test_no_file_of_a_replay_names_anybody(tmp_path):
    out, stdout = tmp_path / "out", io.StringIO()
    one = tokenised(tmp_path, "k1")
    assert replay(
        one.folder, out=out, speed=None, as_json=False, progress=False, stdout=stdout, stderr=io.StringIO(),
        linking="off", privacy=one.private.settings,
    ) == 0  # fmt: skip
    values = values_of(one.private)
    assert {"b-1030", "u030", "VALMORA\\u030"} <= set(values)
    written = {file.name: named_in(file.read_bytes(), values) for file in out.iterdir()}
    assert not any(written.values()) and len(written) == 7
    assert named_in(stdout.getvalue().encode(), values) == []
    with pytest.raises(UsageError, match="people are tokens in this replay"):
        why_not(out, "badge_two_places", None, stdout)


def test_an_embedded_log_tells_the_same_threats_and_names_people_in_raw_messages_only(embedded, clear):
    folder, one = embedded
    db = sqlite3.connect(folder / "log.sqlite3")
    rows = db.execute("SELECT value FROM output WHERE topic = 'threats'")
    same_story(list(back([without_raw(value).decode() for (value,) in rows], one.private)), clear)
    values = values_of(one.private)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    naming = {}
    for table in tables:
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
        every = b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for row in rows for cell in row)
        naming[table] = named_in(every, values)
    assert naming.pop("raw")
    assert not any(naming.values()), naming
    db.close()


def test_evidence_opens_with_the_key_of_its_threat_and_with_it_gone_no_more(embedded):
    folder, one = embedded
    vault = one.private.vault
    db = sqlite3.connect(folder / "log.sqlite3")
    kept = dict(db.execute("SELECT event, payload FROM evidence"))
    event, threat = sqlite3.connect(vault.file).execute(
        "SELECT event, threat FROM evidence WHERE threat != '' ORDER BY event LIMIT 1"
    ).fetchone()  # fmt: skip
    locker = Locker(vault)
    opened = locker.open(event, kept[event])
    assert opened in {payload for (payload,) in db.execute("SELECT payload FROM raw")}
    assert opened not in kept[event]
    other = next(name for name in kept if name != event)
    with pytest.raises(Exception, match="damaged"):
        locker.open(other, kept[event])
    vault.forget_threat(threat)
    with pytest.raises(Exception, match="is gone"):
        locker.open(event, kept[event])
    db.close()


def test_keys_that_change_in_mid_run_change_no_threat(tmp_path, clear):
    messages = list(raw_messages(scenario(STORY)))
    first, second = messages[: len(messages) // 2], messages[len(messages) // 2 :]
    before = tokenised(tmp_path, "k1")
    running = Running(before, tmp_path / "log.sqlite3")
    running.feed(first)
    running.close()
    after = tokenised(tmp_path, "k2", "k1")
    running = Running(after, tmp_path / "log.sqlite3")
    running.feed(second + last_promises(before, messages))
    threats = [threat.decode() for threat in running.threats()]
    running.close()
    records = sqlite3.connect(tmp_path / "log.sqlite3").execute("SELECT record FROM events").fetchall()
    assert {hit[1] for (record,) in records for hit in TOKEN.finditer(record.decode("latin-1"))} == {"k1", "k2"}
    # While both keys are matched, whom the site knows goes on under the older one.
    assert {hit[1] for hit in TOKEN.finditer("".join(threats))} == {"k1"}
    same_story(list(back(threats, after.private)), clear)


def test_the_console_shows_evidence_under_lock_redacted_and_whole_to_who_may_see_it(tmp_path):
    one = tokenised(tmp_path, "k1")
    running = Running(one, tmp_path / "log.sqlite3", keep_raw_days=36_500)
    running.feed(messages_of(one))
    running.close()
    names = {row.value for row in one.private.vault.everybody()}
    facts = LogFacts(tmp_path / "log.sqlite3", scenario_table(scenario(STORY)), Locker(one.private.vault))
    threat = msgspec.json.decode(without_raw(running_threat(tmp_path)), type=Threat)
    member = next(one for one in threat.members if one.kind.startswith("badge."))
    raw = facts.raw(one.site_id, member)
    assert raw is not None and named_in(raw.message.payload, names)
    page = shown(raw, whole=False)
    assert page.redacted and named_in(page.text.encode(), names) == []
    assert named_in(shown(raw, whole=True).text.encode(), names)
    facts.close()


def running_threat(folder) -> bytes:
    """The last revision of the threat with the most members."""
    rows = sqlite3.connect(folder / "log.sqlite3").execute("SELECT value FROM output WHERE topic = 'threats'")
    return max((value for (value,) in rows), key=len)
