"""The contract every dialect keeps: what it declares, and that nothing but events and rejects comes out.

Samples: tests/sources/samples/<dialect>.ndjson, one message a line: channel, payload (a text as it is,
anything else as JSON) or payload_b64, received_ms, retained, expect (kinds, or "reject:<reason>"),
note; where needed settings, or map (a shipped one, or a file of tests/sources/maps).
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from correlator.events import ENTITY_KINDS, KINDS, LEVELS, REJECT_REASONS, ROLES, Event, Identity, Reject
from correlator.events.event import TimeQuality
from correlator.events.identity import IDENTIFYING_KINDS
from correlator.events.kinds import missing_roles
from correlator.matching import Engine, EngineSettings, Record
from correlator.rules.load import rules_text
from correlator.sources import DIALECTS, Context, Dialect, Message, prepared_settings
from correlator.sources.reading import parse_json

HERE = Path(__file__).parent
DIALECT_NAMES = list(DIALECTS)
every_dialect = pytest.mark.parametrize("name", DIALECT_NAMES)
NO_RULES = rules_text("").rules


class Sample(NamedTuple):
    dialect: str
    line: int
    row: dict[str, Any]
    message: Message

    @property
    def body(self) -> Any:
        """The payload as JSON, None if it is none."""
        try:
            return json.loads(self.message.payload)
        except ValueError:
            return None

    def with_body(self, body: Any) -> Message:
        payload = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return msgspec.structs.replace(self.message, payload=payload)


def message_of(row: dict[str, Any]) -> Message:
    if "payload_b64" in row:
        payload = base64.b64decode(row["payload_b64"])
    elif isinstance(row["payload"], str):
        payload = row["payload"].encode()
    else:
        payload = json.dumps(row["payload"], ensure_ascii=False).encode()
    return Message(row["channel"], payload, row["received_ms"], retained=row.get("retained", False))


@cache
def samples(name: str) -> list[Sample]:
    file = HERE / "samples" / f"{name}.ndjson"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []  # a dialect without samples fails below
    rows = [(at, json.loads(line)) for at, line in enumerate(lines, 1) if line.strip()]
    return [Sample(name, at, row, message_of(row)) for at, row in rows]


@cache
def mapped_by(name: str, named: str) -> Any:
    return prepared_settings(name, {"map": named}, str(HERE / "maps" / "settings"))[0]


class Hashed(Identity):
    """Tokens that hold nothing of the value, so that a leak can be seen."""

    __slots__ = ()

    def token(self, kind: str, value: str) -> str:
        return "tk" + blake2b(f"{kind}\x1f{value.strip()}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def context_of(dialect: Dialect, row: dict[str, Any], identity: Identity | None = None) -> Context:
    own = mapped_by(dialect.name, row["map"]) if "map" in row else row.get("settings")
    return Context(
        site="h1",
        source="src-1",
        clock=dialect.clock,
        identity=identity or Identity(),
        dialect=dialect.name,
        settings=own,
    )


def decode(sample: Sample, message: Message | None = None, identity: Identity | None = None) -> list[Event | Reject]:
    dialect = DIALECTS[sample.dialect]
    made = dialect.decode(message or sample.message, context_of(dialect, sample.row, identity))
    check(dialect, made)
    return made


def assert_events_or_one_reject(sample: Sample, message: Message) -> None:
    """The contract of whatever comes in: only events or one typed reject come out, and each is sound."""
    check(DIALECTS[sample.dialect], decode(sample, message))


def check(dialect: Dialect, made: list[Event | Reject]) -> None:
    """What holds of everything that comes out of a dialect, whatever went in."""
    assert isinstance(made, list)
    if any(isinstance(one, Reject) for one in made):
        assert len(made) == 1, "a message is taken or rejected, not both"
    ids = [one.id for one in made if isinstance(one, Event)]
    assert len(set(ids)) == len(ids), "events of one message have different ids"
    for one in made:
        assert one.dialect == dialect.name
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=type(one)) == one
        assert msgspec.json.encode(one).decode("utf-8")
        if isinstance(one, Reject):
            assert one.reason in REJECT_REASONS
            assert one.detail
            assert not (dialect.sensitive and one.payload)
            continue
        assert one.kind in KINDS
        assert not missing_roles(KINDS[one.kind], one.entities), one
        assert one.time_quality in TimeQuality.__args__  # type: ignore[attr-defined]
        assert one.level in ("", *LEVELS)
        assert 0 <= one.sub_ns < 1_000_000
        for entity in one.entities:
            assert entity.kind in ENTITY_KINDS
            assert entity.role in ROLES
            assert type(entity.id) is str and entity.id
        if one.state is not None:
            assert one.state.kind in ENTITY_KINDS
            assert one.state.id and one.state.attribute and one.state.value


def kinds(made: list[Event | Reject]) -> list[str]:
    return [f"reject:{one.reason}" if isinstance(one, Reject) else one.kind for one in made]


ALL_SAMPLES = [pytest.param(sample, id=f"{name}:{sample.line}") for name in DIALECT_NAMES for sample in samples(name)]


# ---- the declaration ---------------------------------------------------------------------------------


@every_dialect
def test_a_dialect_declares_itself(name: str) -> None:
    dialect = DIALECTS[name]
    assert dialect.name == name
    assert dialect.title and dialect.follows
    assert dialect.transport in ("mqtt", "lines")
    assert dialect.clock.basis in ("device", "received")
    assert dialect.retain in ("seed", "reject", "ignore")
    assert dialect.duplicates in ("native", "content", "none")
    assert bool(dialect.native_id) == (dialect.duplicates == "native")
    assert set(dialect.identity_fields.values()) <= IDENTIFYING_KINDS
    assert samples(name), "a dialect comes with samples"
    said = {kind for values in dialect.polarity.values() for kind in values.values()}
    assert said <= set(KINDS)


@pytest.mark.parametrize("sample", ALL_SAMPLES)
def test_a_sample_gives_what_its_line_expects(sample: Sample) -> None:
    assert kinds(decode(sample)) == sample.row["expect"], sample.row.get("note")


# ---- what may come in ----------------------------------------------------------------------------------


@every_dialect
def test_messages_of_other_dialects_never_raise(name: str) -> None:
    own = samples(name)[0]
    for other in DIALECT_NAMES:
        for foreign in samples(other):
            assert_events_or_one_reject(own, foreign.message)


@every_dialect
def test_a_truncated_message_gives_events_or_a_reject(name: str) -> None:
    for sample in samples(name):
        payload = sample.message.payload
        for cut in {0, 1, 2, len(payload) // 3, len(payload) // 2, len(payload) - 2, len(payload) - 1}:
            if 0 <= cut < len(payload):
                assert_events_or_one_reject(sample, msgspec.structs.replace(sample.message, payload=payload[:cut]))


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from paths(item, (*at, key))


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    body = copy.deepcopy(body)
    at = body
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return body


def without(body: Any, path: tuple[Any, ...]) -> Any:
    body = copy.deepcopy(body)
    at = body
    for part in path[:-1]:
        at = at[part]
    del at[path[-1]]
    return body


WRONG: tuple[Any, ...] = (None, "", "no such value", -1, 10**18, 1.5e300, True, [], ["x", 1], {}, {"a": {"b": []}})


@every_dialect
def test_any_field_may_be_absent_null_or_of_the_wrong_type(name: str) -> None:
    for sample in samples(name):
        body = sample.body
        if not isinstance(body, dict):
            continue
        for path in paths(body):
            assert_events_or_one_reject(sample, sample.with_body(without(body, path)))
            for value in WRONG:
                assert_events_or_one_reject(sample, sample.with_body(changed(body, path, value)))


@every_dialect
def test_words_of_a_line_may_be_missing_or_doubled(name: str) -> None:
    for sample in samples(name):
        if isinstance(sample.body, dict):
            continue
        words = sample.message.payload.split(b" ")
        for at in range(len(words)):
            for line in (words[:at] + words[at + 1 :], words[:at] + words[at:] * 2):
                message = msgspec.structs.replace(sample.message, payload=b" ".join(line))
                assert_events_or_one_reject(sample, message)


@every_dialect
def test_a_message_over_the_limit_is_too_large(name: str) -> None:
    sample = samples(name)[0]
    payload = sample.message.payload + b" " * 1_048_577
    made = decode(sample, msgspec.structs.replace(sample.message, payload=payload))
    assert kinds(made) == ["reject:too_large"]


@every_dialect
def test_nesting_without_end_is_a_reject(name: str) -> None:
    for sample in samples(name):
        body = sample.body
        if isinstance(body, dict) and body and sample.row["expect"] and "reject" not in sample.row["expect"][0]:
            payload = json.dumps(body)[:-1] + ', "zzz": ' + "[" * 5_000 + "]" * 5_000 + "}"
            made = decode(sample, msgspec.structs.replace(sample.message, payload=payload.encode()))
            assert kinds(made) == ["reject:too_deep"]


@pytest.mark.parametrize("escape", [r"\ud83d\ude00", r"\ud83d", r"\udc00\ud83d"])
@every_dialect
def test_a_broken_json_text_with_escaped_surrogates_is_a_reject(name: str, escape: str) -> None:
    for sample in samples(name):
        if isinstance(sample.body, dict) and sample.row["expect"] and "reject" not in sample.row["expect"][0]:
            payload = json.dumps(sample.body)[:-1] + f', "zzz": "{escape}" "and more"}}'
            made = decode(sample, msgspec.structs.replace(sample.message, payload=payload.encode()))
            assert kinds(made) == ["reject:not_json"]


@pytest.mark.parametrize("escape", [r"\ud83d", r"\udc00\ud83d"])
def test_a_lone_surrogate_becomes_the_replacement_character(escape: str) -> None:
    assert parse_json(f'{{"a": "x{escape}", "b": "\\ud83d\\ude00"}}'.encode()) == {
        "a": "x" + "\ufffd" * escape.count("u"),
        "b": "\N{GRINNING FACE}",
    }


# ---- retained and repeated messages ---------------------------------------------------------------------


@every_dialect
def test_a_retained_message_is_only_ever_a_seed(name: str) -> None:
    dialect = DIALECTS[name]
    seeds = 0
    for sample in samples(name):
        for one in decode(sample, msgspec.structs.replace(sample.message, retained=True)):
            if isinstance(one, Event):
                assert one.retained
                if dialect.transport == "mqtt":
                    assert one.state is not None
                    seeds += 1
    assert seeds or dialect.retain != "seed"


@every_dialect
def test_a_repeated_delivery_is_recognised_as_declared(name: str) -> None:
    dialect = DIALECTS[name]
    recognised = 0
    for sample in samples(name):
        sent = msgspec.structs.replace(sample.message, qos=1, packet_id=9)
        again = msgspec.structs.replace(sent, received_ms=sent.received_ms + 40, dup=True)
        first, second = decode(sample, sent), decode(sample, again)
        assert kinds(first) == kinds(second)
        for one, other in zip(first, second, strict=True):
            if not isinstance(one, Event) or not isinstance(other, Event):
                continue
            if one.dedupe:
                assert one.id == other.id
                recognised += 1
            assert one.dup_key and one.dup_key == other.dup_key
            if dialect.duplicates == "none":
                assert not one.dedupe
    assert bool(recognised) == (dialect.duplicates != "none")


@every_dialect
def test_what_an_mqtt_broker_gives_again_counts_once_whatever_a_dialect_declares(name: str) -> None:
    for sample in samples(name):
        sent = msgspec.structs.replace(sample.message, qos=1, packet_id=9, raw="raw/0:1")
        again = msgspec.structs.replace(sent, received_ms=sent.received_ms + 40, dup=True, raw="raw/0:2")
        later = msgspec.structs.replace(sent, received_ms=sent.received_ms + 41, packet_id=10, raw="raw/0:3")
        undisturbed, told = told_of(sample, sent, later), told_of(sample, sent, again, later)
        assert told == undisturbed
        if DIALECTS[name].duplicates == "none":
            assert len(told) == 2 * len(told_of(sample, sent)), "without the flag an equal message is another one"


def told_of(sample: Sample, *messages: Message) -> list[Event]:
    """The events of messages that the engine passes on, as they came: neither state nor rules have a say."""
    settings = EngineSettings(lateness_ms=3_600_000, max_late_ms=10**13, enriched="all")
    engine = Engine("h1", NO_RULES, settings=settings)
    events = [one for message in messages for one in decode(sample, message) if isinstance(one, Event)]
    plain = [msgspec.structs.replace(one, state=None, retained=False) for one in events]
    return [one.event for one in (*engine.receive(Record(plain)).enriched, *engine.finish(None).enriched)]


@every_dialect
def test_two_different_messages_have_different_ids(name: str) -> None:
    made = [one.id for sample in samples(name) for one in decode(sample) if isinstance(one, Event)]
    assert len(set(made)) == len(made)


@every_dialect
def test_decoding_is_a_pure_function(name: str) -> None:
    for sample in samples(name):
        assert decode(sample) == decode(sample)


# ---- clock -----------------------------------------------------------------------------------------------

_HOUR_MS = 3_600_000


@every_dialect
def test_a_device_time_counts_only_within_the_declared_skew(name: str) -> None:
    for sample in samples(name):
        for one in decode(sample):
            if not isinstance(one, Event) or one.device_ms is None:
                continue
            for shift, trusted in ((0, True), (24 * _HOUR_MS, False), (-24 * _HOUR_MS, False)):
                received = one.device_ms + shift
                moved = decode(sample, msgspec.structs.replace(sample.message, received_ms=received))
                twin = next(event for event in moved if isinstance(event, Event) and event.kind == one.kind)
                if twin.device_ms != one.device_ms:  # a time without year is read near the receive time
                    continue
                if one.device_ms < 978_307_200_000:
                    assert twin.time_quality == "unset"
                elif trusted:
                    assert (twin.time_ms, twin.time_quality) == (one.device_ms, "device")
                else:
                    assert (twin.time_ms, twin.time_quality) == (received, "skewed")


@every_dialect
def test_without_a_receive_time_the_device_time_counts(name: str) -> None:
    for sample in samples(name):
        for one in decode(sample, msgspec.structs.replace(sample.message, received_ms=-1)):
            if isinstance(one, Event):
                if one.device_ms is not None and one.time_quality == "device":
                    assert one.time_ms == one.received_ms == one.device_ms
                else:
                    assert one.time_ms == -1


@every_dialect
def test_a_policy_of_received_never_takes_the_device_time(name: str) -> None:
    dialect = DIALECTS[name]
    for sample in samples(name):
        context = context_of(dialect, sample.row)
        context.clock = replace(dialect.clock, basis="received")
        for one in dialect.decode(sample.message, context):
            if isinstance(one, Event):
                assert one.time_ms == sample.message.received_ms
                assert one.time_quality == "received"


@every_dialect
def test_another_zone_moves_only_times_without_offset(name: str) -> None:
    dialect = DIALECTS[name]
    for sample in samples(name):
        made = {}
        for zone in (UTC, timezone(timedelta(hours=5))):
            context = context_of(dialect, sample.row)
            context.clock = replace(dialect.clock, zone=zone)
            made[zone] = [one.device_ms for one in dialect.decode(sample.message, context) if isinstance(one, Event)]
        for here, there in zip(*made.values(), strict=True):
            assert here == there or here - there == 5 * _HOUR_MS


# ---- polarity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "value", "kind"),
    [
        (dialect.name, field, value, kind)
        for dialect in DIALECTS.values()
        for field, values in dialect.polarity.items()
        for value, kind in values.items()
    ],
)
def test_a_value_means_what_the_polarity_says(name: str, field: str, value: str, kind: str) -> None:
    path = tuple(field.split("."))
    others = set(DIALECTS[name].polarity[field].values()) - {kind}
    found = 0
    for sample in samples(name):
        body = sample.body
        if not isinstance(body, dict) or path not in set(paths(body)) or "map" in sample.row:
            continue
        made = kinds(decode(sample, sample.with_body(changed(body, path, json.loads(value)))))
        found += kind in made
        if kind in made:
            assert not others & set(made), "one value says one thing"
    assert found


# ---- identity ----------------------------------------------------------------------------------------------


def values_at(data: Any, path: str) -> Iterator[str]:
    """The clear values at a dotted path, which may be one key, or lead through lists."""
    if isinstance(data, list):
        for item in data:
            yield from values_at(item, path)
    elif isinstance(data, dict) and path in data:
        value = data[path]
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) or (isinstance(one, int) and not isinstance(one, bool)):
                yield str(one)
    elif isinstance(data, dict) and "." in path:
        first, _, rest = path.partition(".")
        yield from values_at(data.get(first), rest)


def clear_values(sample: Sample, plain: list[Event | Reject], field: str) -> set[str]:
    """Clear values of an identity field: from the payload, or where it is text from the attributes."""
    found = set(values_at(sample.body, field))
    for one in plain:
        if isinstance(one, Event):
            found |= set(values_at(one.attributes, field))
    return {value.strip() for value in found if len(value.strip()) >= 4}


@every_dialect
def test_identifying_values_never_stand_in_clear(name: str) -> None:
    dialect = DIALECTS[name]
    seen: set[str] = set()
    for sample in samples(name):
        plain = decode(sample)
        hashed = decode(sample, identity=Hashed())
        assert kinds(plain) == kinds(hashed)
        # All that a message can write into; kinds and our own words may well say "unknown".
        said = [
            (one.entities, one.attributes, one.state, one.text, one.summary) for one in hashed if isinstance(one, Event)
        ]
        encoded = msgspec.json.encode(said).decode() if said else ""
        for field in dialect.identity_fields:
            for value in clear_values(sample, plain, field):
                if encoded:
                    seen.add(field)
                assert json.dumps(value, ensure_ascii=False)[1:-1].lower() not in encoded.lower(), (sample.line, field)
        for one in hashed:
            if isinstance(one, Event):
                assert all(entity.id.startswith("tk") for entity in one.entities if entity.kind in IDENTIFYING_KINDS)
    if dialect.identity_fields:
        assert seen, "no sample shows an identity field"


@every_dialect
def test_every_declared_identity_field_stands_in_a_sample(name: str) -> None:
    missing = set(DIALECTS[name].identity_fields)
    for sample in samples(name):
        plain = decode(sample)
        missing -= {field for field in missing if clear_values(sample, plain, field)}
    assert not missing


# ---- fuzz ----------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
quick = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@every_dialect
@quick
@given(data=st.data())
def test_any_bytes_give_events_or_rejects(name: str, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(samples(name)))
    payload = data.draw(st.binary(max_size=200))
    if data.draw(st.booleans()):  # a message with a damaged middle
        whole = sample.message.payload
        at = data.draw(st.integers(0, len(whole)))
        payload = whole[:at] + payload[:8] + whole[at + data.draw(st.integers(0, 8)) :]
    assert_events_or_one_reject(sample, msgspec.structs.replace(sample.message, payload=payload))


@every_dialect
@quick
@given(data=st.data())
def test_values_shaped_like_the_samples_give_events_or_rejects(name: str, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(samples(name)))
    body = sample.body
    if not isinstance(body, dict):
        line = sample.message.payload.decode("utf-8", "replace")
        at = data.draw(st.integers(0, len(line)))
        text = line[:at] + data.draw(st.text(max_size=20)) + line[at:]
        payload = text.encode("utf-8", "surrogatepass")
        assert_events_or_one_reject(sample, msgspec.structs.replace(sample.message, payload=payload))
        return
    for _ in range(data.draw(st.integers(1, 3))):
        known = list(paths(body))
        if not known:
            break
        body = changed(body, data.draw(st.sampled_from(known)), data.draw(json_values))
    assert_events_or_one_reject(sample, sample.with_body(body))
