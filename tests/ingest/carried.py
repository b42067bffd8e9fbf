"""A scenario as a carrier would feed it: messages by input, through intake, into the site's engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from correlator.clock import HOUR_MS
from correlator.events.event import Reject
from correlator.events.kinds import KINDS
from correlator.events.threat import Threat
from correlator.ingest.intake import Intake
from correlator.ingest.raw import RawMessage
from correlator.ingest.settings import IngestSettings
from correlator.ingest.sources import SourceRow, SourceTable
from correlator.journal.action import Act
from correlator.journal.relay import Relay
from correlator.lab.background import background
from correlator.matching import EngineSettings, Record
from correlator.run.bodies import Bundle, TableFiles, bundle
from correlator.run.deciding import Deciding
from correlator.run.linking import learned, load_baseline, save_baseline
from correlator.run.log import LogRecord, decode, encode
from correlator.run.pipeline import Pipeline
from correlator.run.replay import make_pipeline, scenario_rules
from correlator.run.scenario import BackgroundMessage, History, Scenario, load_scenario
from correlator.run.site_engine import SiteEngine

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def scenario(name: str) -> Scenario:
    return load_scenario(SCENARIOS / name)


def scenario_table(one: Scenario) -> SourceTable:
    """The scenario's routes as ingest knows them: MQTT on raw.mqtt, each log on a topic of its own."""
    rows = []
    for given in one.inputs:
        name = "raw.mqtt" if given.carrier == "mqtt" else f"raw.{given.name}"
        for source in given.sources:
            rows.append(SourceRow(name, source.dialect, source.context, source.topics, one.site_id))
    return SourceTable(rows, {one.site_id: one.zone})


_FOLDER = tempfile.TemporaryDirectory(prefix="correlator-baselines-")  # gone with the process


@cache
def _baseline(name: str) -> Path:
    one = scenario(name)
    made = Path(_FOLDER.name) / name
    save_baseline(learned(one, scenario_rules(one), History(one.seed + 1, 1), _thin_day), made)
    return made


def _thin_day(one: Scenario, seed: int, events: int) -> Iterator[BackgroundMessage]:
    return iter(list(background(one, seed, events))[::8])


def baseline_of(one: Scenario) -> Path | None:
    """What is usual at a shipped scenario's site, so that linking speaks on its day; worked out once a process."""
    known = one.folder.parent == SCENARIOS and one.wish is not None and one.private is None
    return _baseline(one.folder.name) if known else None


def scenario_bundle(one: Scenario) -> Bundle:
    rules = ["pack" if rule == "pack" else Path(rule) for rule in one.rules]
    deciding = Deciding(EngineSettings(lateness_ms=one.lateness_ms))
    return bundle(one.site_file, rules, one.overlay, deciding, TableFiles(baseline=baseline_of(one)), one.private)


def warm_pipeline(one: Scenario) -> Pipeline:
    """The pipeline of a replay with what `scenario_bundle` has."""
    baseline = baseline_of(one)
    return make_pipeline(one, scenario_rules(one), baseline=load_baseline(baseline) if baseline is not None else ())[0]


def ordinary(one: Scenario, messages: int) -> Iterator[BackgroundMessage]:
    """About so many messages of an ordinary day around the scenario; the same each time."""
    if not messages:
        return iter(())
    day = list(background(one, seed=7, events=1))
    return iter(day[:: max(1, len(day) // messages)])


def raw_messages(one: Scenario, around: int = 0) -> Iterator[RawMessage]:
    """The scenario's messages, and so many around it, in order of receive time, with positions in their inputs."""
    offsets: dict[str, int] = {}
    carriers = {given.name: given.carrier for given in one.inputs}
    for name, _, _, message in one.read(ordinary(one, around)):
        if isinstance(message, Reject) or message.received_ms > one.until_ms:
            continue
        input = "raw.mqtt/0" if carriers[name] == "mqtt" else f"raw.{name}/0"
        offset = offsets.get(input, -1) + 1
        offsets[input] = offset
        raw = msgspec.structs.replace(message, raw=f"{input}:{offset}")
        yield RawMessage(input, offset, one.site_id, raw)


def last_promises(one: Scenario, messages: list[RawMessage]) -> list[RawMessage]:
    """What the simulator sends at the end: time goes on to `until` and no further."""
    until_ms = one.until_ms + one.lateness_ms + 1
    ends = {message.input: message.offset for message in messages}
    return [
        RawMessage(input, offset + 1, one.site_id, messages[0].message, until_ms)
        for input, offset in sorted(ends.items())
    ]


def with_promises(one: Scenario, messages: list[RawMessage], every: int = 10) -> list[RawMessage]:
    """The messages, and after each few of them a promise of every input, as the simulator sends them."""
    inputs = sorted({message.input for message in messages})
    at = dict.fromkeys(inputs, 0)
    found: list[RawMessage] = []

    def put(message: RawMessage) -> None:
        found.append(msgspec.structs.replace(message, offset=at[message.input]))
        at[message.input] += 1

    for number, message in enumerate(messages, 1):
        put(message)
        if number % every == 0:
            for input in inputs:
                put(RawMessage(input, 0, one.site_id, message.message, message.message.received_ms))
    until_ms = one.until_ms + one.lateness_ms + 1
    for input in inputs:
        put(RawMessage(input, 0, one.site_id, messages[0].message, until_ms))
    return found


def log_of(one: Scenario, **settings: int) -> tuple[list[LogRecord], Bundle, Intake]:
    """The scenario as records of the log, and the bodies they name."""
    made = scenario_bundle(one)
    intake = Intake(scenario_table(one), IngestSettings(trust_sender_time=True, **settings))
    messages = with_promises(one, list(raw_messages(one)))
    intake.configure(one.site_id, msgspec.structs.replace(made.configuration, serial=1), 0)
    intake.declare(one.site_id, sorted({message.input for message in messages}), 0)
    records: list[LogRecord] = []
    for number, message in enumerate(messages):
        intake.take(message, number)
        intake.poll(number)
        records += [record for _, record in intake.drain()]
    intake.flush(len(messages))
    records += [record for _, record in intake.drain()]
    return [decode(encode(record)) for record in records], made, intake


def engine_for(one: Scenario, made: Bundle) -> SiteEngine:
    return SiteEngine(one.site_id, made.bodies)


def told(threat: Threat) -> bytes:
    """A threat as it is written, without the carrier's positions."""
    return without_raw(msgspec.json.encode(msgspec.to_builtins(threat), order="deterministic"))


def without_raw(written: bytes) -> bytes:
    """A written threat without the carrier's positions; nothing else of it changes."""
    said = msgspec.json.decode(written)
    for member in said.get("members", ()):
        member.pop("raw", None)
    return msgspec.json.encode(said, order="deterministic")


def replayed(one: Scenario, around: int = 0, acts: Sequence[Act] = ()) -> list[bytes]:
    """Every revision of every threat that a replay tells up to `until`, with what people decided meanwhile."""
    return replay_of(one, around, acts)[0]


def replay_of(one: Scenario, around: int = 0, acts: Sequence[Act] = ()) -> tuple[list[bytes], dict[str, int]]:
    """As `replayed`, and the counters at its end."""
    pipeline = warm_pipeline(one)
    relay = Relay()
    for action in [relay.take(act) for act in acts]:
        if action is not None:
            assert not pipeline.act(action.id, action.kind, action.at_ms, action.body)
    threats: list[Threat] = []
    for batch in one.events(ordinary(one, around)):
        if batch.received_ms <= one.until_ms:
            threats += pipeline.receive(Record(events=list(batch.events))).threats
    threats += pipeline.receive(Record(ticks={"": one.until_ms + one.lateness_ms + 1})).threats
    return [told(threat) for threat in threats], pipeline.counters()


def acts_on(one: Scenario) -> list[Act]:
    """People at work while a scenario plays: one of each kind that decides, one refused and one denied."""
    threats = [msgspec.json.decode(threat) for threat in replayed(one)]
    threat = next(one for one in threats if one["phase"] == "threat" and one["revision"] == 2)
    at_ms, rule = (
        threat["decided_ms"] + 1_000,
        next(step["rule"] for step in threat["steps"] if step["rule"] not in KINDS),
    )
    asset = next(asset for asset in threat["assets"] if not asset.startswith("unknown:"))
    asked: list[tuple[Any, str, dict[str, Any]]] = [
        ("exception", "p-1", {"rule": rule, "until_ms": at_ms + HOUR_MS, "reason": "a test of the reader"}),
        ("window", "p-1", {"assets": [asset], "to_ms": at_ms + HOUR_MS, "reason": "repair"}),
        ("state", "p-1", {"asset": asset, "attribute": "health", "value": "offline"}),
        ("assign", "p-1", {}),
        ("close", "p-2", {"verdict": "true"}),
        ("verdict", "p-1", {"verdict": "benign"}),
        ("close", "p-1", {}),
        ("reopen", "p-1", {}),
    ]
    acts = [
        Act(id=f"a{n}", site=one.site_id, who=who, verb=verb, at_ms=at_ms + n * 500, args=args,
            threat="" if n < 3 else threat["id"], seen_version=0 if who == "p-2" else -1)
        for n, (verb, who, args) in enumerate(asked)
    ]  # fmt: skip
    return [*acts, Act(id="denied", site=one.site_id, who="p-3", verb="close", at_ms=at_ms + 9_000, threat=threat["id"],
                       args={"verdict": "true"}, denied="a viewer may not")]  # fmt: skip
