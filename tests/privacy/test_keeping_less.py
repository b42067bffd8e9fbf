"""Rejects without messages, and how long what is kept."""

from __future__ import annotations

import json
import sqlite3

import pytest

from correlator.bridge.mapping import Mapping
from correlator.bridge.settings import BridgeSettings, RouteSettings
from correlator.cli.embedded import embedded_parts
from correlator.clock import DAY_MS
from correlator.config.load import load
from correlator.embedded import EmbeddedLog, EmbeddedSettings, Turn
from correlator.embedded.retention import Retention
from correlator.errors import FaultyFile
from correlator.ingest.intake import Intake
from correlator.ingest.raw import RawMessage
from correlator.ingest.settings import IngestSettings, SourceSettings
from correlator.ingest.sources import SourceTable, source_rows
from correlator.privacy.private import Private
from correlator.run.bodies import site_from
from correlator.run.rendering import Rendered
from correlator.sources import Message
from correlator.stream.settings import TopicSettings
from correlator.stream.topics import table

from .keeping import NOW_MS, key, settings_with

BROKEN = b'{"event_type": "alert", "user": "p-017"'


def rejected(settings: IngestSettings, input: str = "raw.a"):
    rows = source_rows(settings.sources, "correlator.yaml")
    intake = Intake(SourceTable(rows), settings)
    intake.take(RawMessage(f"{input}/0", 7, "h1", Message(input, BROKEN, NOW_MS, raw=f"{input}/0:7")), 0)
    (one,) = intake.drain_rejects()
    return one


@pytest.mark.parametrize(
    ("source", "settings", "input", "bare"),
    [
        ({}, {}, "raw.a", False), ({"sensitive": True}, {}, "raw.a", True), ({}, {"reject_bytes": False}, "raw.a", True),
        ({}, {"reject_bytes": False}, "raw.unknown", True), ({}, {}, "raw.unknown", False),
    ],
)  # fmt: skip
def test_rejects_of_sensitive_sources_and_all_where_people_are_tokens_hold_no_message(source, settings, input, bare):
    sources = (SourceSettings(input="raw.a", dialect="suricata", **source),)
    one = rejected(IngestSettings(sources=sources, **settings), input)
    assert one.payload == (b"" if bare else BROKEN)
    assert (one.size, one.raw, len(one.sha256)) == (len(BROKEN), f"{input}/0:7", 64)
    assert one.reason in ("not_json", "unmapped")


def test_with_tokens_no_process_keeps_messages_in_rejects(tmp_path):
    file = tmp_path / "correlator.yaml"
    file.write_text(f"privacy: {{tokens: true, keys: [{{id: k1, file: {key(tmp_path, 'k1')}}}]}}\n")
    settings = load(file).settings
    assert (settings.ingest.reject_bytes, settings.bridge.reject_bytes) == (False, False)
    file.write_text("kafka: {}\n")
    settings = load(file).settings
    assert (settings.ingest.reject_bytes, settings.bridge.reject_bytes) == (True, True)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_bridge_rejects_with_or_without_the_message(keeps):
    settings = BridgeSettings(routes=(RouteSettings(topics=("a/#",), site="h1"),), reject_bytes=keeps)
    record = Mapping(settings)._reject(Message("b/c", BROKEN, NOW_MS), "h1", "unmapped", "nobody takes it")
    said = json.loads(record.value)
    assert ("payload" in said) is keeps
    assert said["size"] == len(BROKEN)


def test_old_keys_are_matched_as_long_as_the_log_is_kept(tmp_path):
    file = tmp_path / "correlator.yaml"
    keys = f"[{{id: k2, file: {key(tmp_path, 'k2')}}}, {{id: k1, file: {key(tmp_path, 'k1')}, replaced: 2027-01-01}}]"
    file.write_text(f"privacy: {{tokens: true, old_keys_days: 29, keys: {keys}}}\n")
    with pytest.raises(FaultyFile, match="the log is kept 30 days, and old keys as long"):
        load(file)
    file.write_text(f"privacy: {{tokens: true, keep_days: 364, keys: {keys}}}\n")
    with pytest.raises(FaultyFile, match="threats are kept 365 days, and who is in them as long"):
        load(file)


def test_who_was_not_seen_for_400_days_is_taken_out_of_the_vault_and_who_is_in_use_stays(tmp_path):
    private = Private(settings_with(tmp_path, "k1"), (), NOW_MS)
    gone, here = private.identity.token("badge", "b-1"), private.identity.token("badge", "b-2")
    private.vault.learn([(gone, "badge", "b-1")], NOW_MS - 401 * DAY_MS)
    private.vault.learn([(here, "badge", "b-2")], NOW_MS - 401 * DAY_MS)
    later = Private(settings_with(tmp_path, "k1"), (), NOW_MS)
    assert later.identity.token("badge", "b-2") == here
    later.flush(NOW_MS)
    assert later.vault.find(gone) is not None, "once a day is enough"
    later.flush(NOW_MS + DAY_MS)
    assert later.vault.find(gone) is None
    found = later.vault.find(here)
    assert found is not None and found.last_ms == NOW_MS + DAY_MS


def test_the_embedded_carrier_reads_and_writes_by_the_keys_of_its_settings(tmp_path):
    site, file = tmp_path / "site.yaml", tmp_path / "correlator.yaml"
    site.write_text("site: {id: h1, timezone: UTC}\npeople: [{id: p-17, badges: [b-1]}]\n")
    file.write_text(
        f"privacy: {{tokens: true, keys: [{{id: k1, file: {key(tmp_path, 'k1')}}}]}}\n"
        "sites: [{site: site.yaml, rules: []}]\n"
        "ingest: {sources: [{input: raw.a, dialect: suricata}]}\n"
    )
    parts = embedded_parts(file)
    (row,) = parts.rows
    assert row.context.identity is parts.private.identity and not parts.ingest.reject_bytes
    places = site_from(parts.bundle.bodies, parts.bundle.configuration.site)
    badge, person = (parts.private.identity.token(*one) for one in (("badge", "b-1"), ("person", "p-17")))
    assert places.person_of("badge", badge, 0) == person
    assert not any(b"p-17" in body or b"b-1" in body for body in parts.bundle.bodies.values())


def test_movement_data_is_kept_for_three_months_on_kafka_and_in_the_embedded_log():
    kept = {one.name: int(one.settings.get("retention.ms", 0)) / DAY_MS for one in table(TopicSettings(), ["raw.a"])}
    assert kept["events.enriched"] == kept["matches"] == kept["rejects"] == 90
    assert (kept["raw.a"], kept["events"], kept["threats"], kept["evidence"]) == (3, 14, 365, 365)
    other = {one.name: one.settings["retention.ms"] for one in table(TopicSettings(evidence_retention_h=1), [])
             if one.name in ("threats", "evidence")}  # fmt: skip
    assert other == {"threats": "31536000000", "evidence": "3600000"}
    embedded = EmbeddedSettings()
    assert (embedded.keep_movement_days, embedded.keep_rejects_days, embedded.keep_told_days) == (90, 90, 365)


def test_the_embedded_log_lets_each_topic_go_at_its_age(tmp_path):
    log = EmbeddedLog(tmp_path / "log.sqlite3", write=True)
    topics = ("events.enriched", "matches", "threats", "rejects")
    for days in (400, 100, 60, 1):
        outputs = [Rendered(topic, b"h1", b'{"reason": "empty"}', ()) for topic in topics]
        log.write(Turn(outputs=outputs, at_ms=NOW_MS - days * DAY_MS))
    settings = EmbeddedSettings(file=log.file, keep_rejects_days=30)
    Retention(log, settings, "h1", lambda: NOW_MS).step(0)
    rows = sqlite3.connect(log.file).execute("SELECT topic, count(*) FROM output GROUP BY topic")
    assert dict(rows) == {"events.enriched": 2, "matches": 2, "threats": 3, "rejects": 1}
    log.close()
