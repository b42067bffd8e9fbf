"""Works A, B, C, C2: events and rules of a fixed shape, so that figures of engines can be compared.

Events, about 1,000 a second of event time (each 0, 1 or 2 ms after the one before, so ties are there):

    type  A..H             uniform          key   k0000..k0999   uniform; group-by of A, C, C2
    user  u00..u49         uniform; B's     host  h000..h199     uniform; value_count counts it
    res   ok 80 %, deny 20 %; C2 asks for it            nine more fields of padding, about 300 bytes as JSON

    A   N ordered triples of types by key in 10 s: the eight cyclic ones first, then the other 328, then
        all again at 11 s, 12 s
    B   N event_counts of a type by user in 10 s (longer from rule 64 on); k is the mean of the window
        and 1 to 4.5 standard deviations
    C   event_count, value_count (distinct hosts), temporal, temporal_ordered in turn, selected by type
        alone, by key, 10 to 60 s, 2 to 4 steps. An event touches 16 of 64 rules: harsh
    C2  as C, the steps of the temporal kinds ask for res: deny. 6 of 64 rules: nearer to real rules

Dice are splitmix64 with fixed seeds: the same on every machine and Python.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from correlator.events import Event
from correlator.matching import Engine, EngineSettings, Record, Tells
from correlator.rules.load import rules_text
from correlator.rules.syntax import RuleSet
from correlator.run.collector import settle_collector

TYPES = "ABCDEFGH"
START_MS = 1_700_000_000_000
RECORD_EVENTS = 500
LATENESS_MS = 5_000
SETTINGS = EngineSettings(lateness_ms=LATENESS_MS, dup_window_ms=0, enriched="off")

_MASK = (1 << 64) - 1
_IDS = uuid.UUID("0d4c3c5e-53a8-4f3c-8a43-6d7c53b1f0aa")


class Dice:
    """splitmix64; `below(n)` gives 0..n-1."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) * n) >> 64


# ---- events --------------------------------------------------------------------------------------


def bodies(count: int) -> Iterator[dict[str, Any]]:
    """The fields of each event, in order of event time."""
    dice = Dice(20_261_124)
    ts = START_MS
    for number in range(1, count + 1):
        ts += dice.below(3)
        key = dice.below(1000)
        type_ = TYPES[dice.below(8)]
        user = f"u{dice.below(50):02d}"
        host = f"h{dice.below(200):03d}"
        res = "deny" if dice.below(5) == 0 else "ok"
        device = f"reader-{key:04d}"
        yield {
            "id": number, "ts": ts, "type": type_, "key": f"k{key:04d}", "user": user, "host": host, "res": res,
            "site": f"s{key % 7}", "zone": f"z{key % 40:02d}", "dev": device,
            "src": f"10.{key % 7}.{key % 40}.{key % 250}", "dst": f"10.200.0.{key % 9}", "sev": key % 5,
            "msg": f"normalised event from {device} at site s{key % 7} zone z{key % 40:02d}",
            "trace": f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 & (1 << 128) - 1:032x}", "ver": "1.0",
        }  # fmt: skip


def events(count: int) -> list[Event]:
    """Decoded events, received in order of event time."""
    return [event_of(body, body["ts"]) for body in bodies(count)]


def event_of(body: dict[str, Any], received_ms: int) -> Event:
    return Event(
        id=f"{body['id']:032x}", site="bench", source="bench", dialect="mapped", kind="log.entry", time_ms=body["ts"],
        received_ms=received_ms, carried=body, seq=body["id"],
    )  # fmt: skip


def late_events(count: int) -> list[Event]:
    """The same events, 5 % of them received 1 to 5,000 ms after their time, in order of arrival."""
    dice = Dice(5)
    arrived = []
    for body in bodies(count):
        delay = 1 + dice.below(LATENESS_MS) if dice.below(20) == 0 else 0
        arrived.append((body["ts"] + delay, body["id"], body))
    arrived.sort(key=lambda row: row[:2])
    return [event_of(body, received_ms) for received_ms, _, body in arrived]


# ---- rules ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One correlation: `types` are the event types of its steps, `res` what they ask of `res`, if anything."""

    number: int
    kind: str
    types: tuple[str, ...]
    by: str
    span_s: int
    least: int = 0
    field: str = ""
    res: str = ""

    @property
    def id(self) -> str:
        parts = (self.kind, *self.types, self.by, self.span_s, self.least, self.field, self.res)
        return str(uuid.uuid5(_IDS, "/".join(map(str, parts))))


def work_a(count: int) -> list[Rule]:
    cyclic = [(TYPES[at], TYPES[(at + 1) % 8], TYPES[(at + 2) % 8]) for at in range(8)]
    triples = cyclic + [one for one in itertools.permutations(TYPES, 3) if one not in cyclic]
    return [
        Rule(at, "temporal_ordered", triples[at % len(triples)], "key", 10 + at // len(triples)) for at in range(count)
    ]


def work_b(count: int) -> list[Rule]:
    made = []
    for at in range(count):
        span_s = 10 + at // 64
        mean = span_s * 1000 / 8 / 50
        least = math.ceil(mean + (1 + 0.5 * (at // 8 % 8)) * math.sqrt(mean))
        made.append(Rule(at, "event_count", (TYPES[at % 8],), "user", span_s, least))
    return made


def work_c(count: int, res: str = "") -> list[Rule]:
    made: list[Rule] = []
    seen: set[str] = set()
    dice = Dice(77)
    while len(made) < count:
        at = len(made)
        kind = ("event_count", "value_count", "temporal", "temporal_ordered")[at % 4]
        span_s = 10 + dice.below(51)
        if kind in ("event_count", "value_count"):
            mean = span_s / 8  # one event a second and key, eight types
            least = max(3, math.ceil(mean + (2 + dice.below(5) * 0.5) * math.sqrt(mean)))
            type_ = TYPES[at // 4 % 8 if at < 64 else dice.below(8)]
            rule = Rule(at, kind, (type_,), "key", span_s, least, "host" if kind == "value_count" else "")
        else:
            left = list(TYPES)
            types = tuple(left.pop(dice.below(len(left))) for _ in range(2 + dice.below(3)))
            rule = Rule(at, kind, types, "key", span_s, res=res)
        if rule.id not in seen:
            seen.add(rule.id)
            made.append(rule)
    return made


def work_c2(count: int) -> list[Rule]:
    return work_c(count, "deny")


WORKS: dict[str, Callable[[int], list[Rule]]] = {"A": work_a, "B": work_b, "C": work_c, "C2": work_c2}


def sigma(rules: Sequence[Rule], *, suppress: bool = False) -> str:
    """The rules as Sigma 2.1 text; every condition is written out, since engines differ in what they assume.

    suppress: with rsigma's own attribute that keeps a rule silent for one timespan after it fired.
    """
    docs = []
    steps = dict.fromkeys((type_, rule.res) for rule in rules for type_ in rule.types)
    for type_, res in steps:
        wanted = f"    type: {type_}\n" + (f"    res: {res}\n" if res else "")
        docs.append(
            f"title: {_step(type_, res)}\nid: {_step_id(type_, res)}\nname: {_step(type_, res)}\n"
            f"logsource:\n  product: bench\ndetection:\n  sel:\n{wanted}  condition: sel\nlevel: low\n"
        )
    for rule in rules:
        listed = "".join(f"    - {_step_id(type_, rule.res)}\n" for type_ in rule.types)
        text = (
            f"title: rule {rule.number}\nid: {rule.id}\ncorrelation:\n  type: {rule.kind}\n  rules:\n{listed}"
            f"  group-by:\n    - {rule.by}\n  timespan: {rule.span_s}s\n"
        )
        if rule.least:
            text += f"  condition:\n    gte: {rule.least}\n" + (f"    field: {rule.field}\n" if rule.field else "")
        elif rule.kind == "temporal":
            text += f"  condition:\n    gte: {len(rule.types)}\n"
        text += "level: high\n"
        if suppress:
            text += f"custom_attributes:\n  rsigma.suppress: {rule.span_s}s\n"
        docs.append(text)
    return "---\n".join(docs)


def _step(type_: str, res: str) -> str:
    return f"step_{type_}" + (f"_{res}" if res else "")


def _step_id(type_: str, res: str) -> str:
    return str(uuid.uuid5(_IDS, _step(type_, res)))


def loaded(text: str) -> RuleSet:
    """Rules as `correlator` loads them; a fault would make figures of something else."""
    read = rules_text(text)
    if read.errors:
        raise SystemExit("\n".join(map(str, read.errors)))
    return read.rules


# ---- runs ----------------------------------------------------------------------------------------

_encode = msgspec.json.Encoder(order="deterministic").encode


def run(
    rules: RuleSet, arrived: Sequence[Event], *, digest: bool = False, tells: Tells = "growing"
) -> tuple[float, int, str]:
    """(seconds, matches, hash of all matches) of folding events in records of 500, sorter and watermark on.

    tells: what is told of an episode. The hash is taken outside the seconds. The garbage collector is settled as in
    every command of ours.
    """
    settle_collector()
    engine = Engine("bench", rules, settings=replace(SETTINGS, tells=tells), filter_logsource=False)
    seconds = 0.0
    matches = 0
    made = hashlib.sha256()
    for start in range(0, len(arrived) + 1, RECORD_EVENTS):
        record = Record(events=list(arrived[start : start + RECORD_EVENTS]))
        started = time.process_time()
        told = engine.receive(record).matches
        if start + RECORD_EVENTS > len(arrived):
            told += engine.finish(None).matches
        seconds += time.process_time() - started
        matches += len(told)
        if digest:
            for match in told:
                made.update(_encode(match))
    folded = engine.counters()["folded"]
    if folded != len(arrived):
        raise SystemExit(f"{folded} of {len(arrived)} events were folded")
    return seconds, matches, made.hexdigest()[:16] if digest else ""
