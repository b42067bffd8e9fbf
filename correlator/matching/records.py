"""What goes into the engine, what comes out, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from correlator.clock import DAY_MS, SECOND_MS
from correlator.events.event import Event, Reject
from correlator.events.threat import EnrichedEvent, Match, Threat

Tells = Literal["growing", "final", "first"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings that decide; part of the configuration hash. Times in ms, bounds in numbers of things.

    lateness_ms     how long after its time an event may be received and still count in windows
    max_late_ms     older than this behind the watermark: rejected as too_late
    dup_window_ms   how long an id is remembered, to drop a repeated delivery or number equal events
    group_idle_ms   a group is forgotten this long after its last event
    enriched        "all" | "notable" | "off": which events are told with their places
    max_groups      groups a group-by may hold; when full a new one takes the place of the youngest that
                    has a single event, so a flood of keys displaces itself and not a slow attack
    max_window_events  events a window keeps; the oldest go first
    max_members     members a match lists; the rest is counted
    tells           of an episode: "growing" its opening and its final form, "final" only that, "first" only its
                    opening (such an engine keeps no state: it is for one run from the first event to the last)
    track_changes   keep a list of changed state entries for `changes()`
    """

    lateness_ms: int = 2 * SECOND_MS
    max_late_ms: int = 7 * DAY_MS
    dup_window_ms: int = 60 * SECOND_MS
    group_idle_ms: int = 7 * DAY_MS
    enriched: str = "notable"
    max_groups: int = 1_000_000
    max_window_events: int = 100_000
    max_members: int = 2_000
    tells: Tells = "growing"
    track_changes: bool = False


@dataclass(slots=True)
class Record:
    """One record of the log.

    events of one input in the order received; ticks: input -> "everything received up to this time
    (ms) is in the log"; span: (first, last) raw offset of the input, so that a record that is read
    twice is known; offsets: raw offset of each event, so that a part of it is known as well (empty: the
    record is taken or dropped as a whole); inputs_out: inputs that a living ingest took out.
    """

    events: list[Event] = field(default_factory=list)
    ticks: dict[str, int] = field(default_factory=dict)
    input: str = ""
    span: tuple[int, int] | None = None
    inputs_out: tuple[str, ...] = ()
    offsets: Sequence[int] = ()


@dataclass(slots=True)
class Outputs:
    """What folding a record gave, each list in the order it was decided."""

    matches: list[Match] = field(default_factory=list)
    enriched: list[EnrichedEvent] = field(default_factory=list)
    threats: list[Threat] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
