"""What the engine tells: matches, findings, threats, and events with their places.

These are the messages of the topics `matches`, `threats`, `events.enriched`; their JSON Schemas are
generated into schemas/. Times are ms UTC. `schema_version` is major.minor: minor means only new
optional fields.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from correlator.events.event import schema_version

MatchState = Literal["open", "final", "excepted"]
Phase = Literal["watch", "threat", "quiet", "merged"]


class Match(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A rule's result for one group of events: an episode, which may grow.

    rule is the rule's key (id, else name). events are member event ids in total order; members of
    inner matches included. `inner` lists the ids of inner matches. opened_ms is when it was decided.
    `early`: left on arrival by the fast lane; the same id follows in its turn. revision counts from 1.
    late: the deciding event came late. truncated: members beyond the bound that are only counted.
    """

    id: str
    site: str
    rule: str
    title: str
    level: str
    group: dict[str, Any] = {}
    first_ms: int
    last_ms: int
    opened_ms: int
    decided_by: str = ""
    value: float | int | None = None
    events: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    state: MatchState = "open"
    revision: int = 1
    early: bool = False
    late: bool = False
    truncated: int = 0
    threat_type: str = ""
    asset: str = ""
    tags: tuple[str, ...] = ()
    schema_version: str = field(default_factory=schema_version)


class Finding(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What linking works on: a match or a notable single event, placed on an asset.

    kind feeds rates (a rule key or an event kind, never text a sender can vary); t_ms is the event or
    deadline that decided; events are the member event ids known so far. names: the rules that its
    correlation refers to. windows: declared windows that all its events fit. anchors: whom the deciding event
    names, as assets (badge, person, account).
    """

    id: str
    site: str
    kind: str
    title: str
    asset: str
    t_ms: int
    domain: str
    level: str
    threat_type: str = ""
    tactics: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    match: str = ""
    rule: str = ""
    names: tuple[str, ...] = ()
    group: dict[str, Any] = {}
    events: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    late: bool = False
    anchors: tuple[str, ...] = ()


class EnrichedEvent(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """An event with its resolved assets, place and people, and the rules it hit by then.

    windows: declared windows open there and then; in_window: it fits one of them.
    """

    event: Any
    assets: tuple[tuple[str, str], ...] = ()
    place: str = ""
    place_name: str = ""
    zones: tuple[str, ...] = ()
    person: str = ""
    windows: tuple[str, ...] = ()
    in_window: bool = False
    rules: tuple[str, ...] = ()
    schema_version: str = field(default_factory=schema_version)


class Evidence(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One member event of a threat, as a person needs it: when, where, what the message said, where
    the proof lies (`origin` is file:line, `raw` the carrier's position)."""

    id: str
    time_ms: int
    kind: str
    source: str
    said: str
    place: str = ""
    place_name: str = ""
    domain: str = ""
    origin: str = ""
    raw: str = ""
    late_ms: int = 0
    time_quality: str = "device"


class Step(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One finding of a threat with its evidence: a node of the evidence tree.

    joined: in words, why it belongs to the threat ("opened it", "shares ... with ..."). expected_absent:
    what the rule expected and did not happen. inner: the inner matches' steps, for chained rules.
    """

    finding: str
    rule: str
    title: str
    says: str
    level: str
    t_ms: int
    joined: str
    gain: float = 0.0
    terms: dict[str, float] = {}
    threat_type: str = ""
    expected_absent: tuple[str, ...] = ()
    group: dict[str, Any] = {}
    value: float | int | None = None
    condition: str = ""
    state: str = "open"
    asset: str = ""
    place_name: str = ""
    events: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    truncated: int = 0


class ImpactStep(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One step of the path to an impact: what it comes to on which asset.

    step: how likely this step is by itself; likelihood: of the whole path up to here. rule: id of the
    rule, "" at the start. p50_ms: the middle of the time this step takes.
    """

    asset: str
    place_name: str
    threat_type: str
    step: float
    likelihood: float
    rule: str = ""
    says: str = ""
    p50_ms: int = 0


class Impact(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What a threat may lead to: a threat type on an asset or care service, how likely and how soon.

    likelihood   0..1, over all paths; path is the likeliest of them, `ways` tells how many there are
    p10_ms ...   time from the finding the path starts at, along that path
    from_ms      when that finding was decided, ms UTC
    effects      confidentiality, integrity, availability, safety: how far, 0..1
    together     further paths that must come off as well, where a redundant need has to fail entirely
    """

    asset: str
    place_name: str
    threat_type: str
    likelihood: float
    p10_ms: int
    p50_ms: int
    p90_ms: int
    from_ms: int = 0
    service: bool = False
    criticality: int = 0
    effects: dict[str, float] = {}
    ways: int = 1
    path: tuple[ImpactStep, ...] = ()
    together: tuple[tuple[ImpactStep, ...], ...] = ()


class Advice(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A counter-measure that lowers the expected loss, alone or in the advised set.

    saves: expected loss it takes away by itself; of an advised one what would come back without it. harms:
    what it costs care itself; cost: of doing it, all in units of one service of criticality 1. advised: it
    is in the best set of up to three.
    takes_ms: until it works. who: the contact role to ask.
    """

    measure: str
    says: str
    asset: str
    place_name: str
    saves: float
    harms: float
    cost: float
    advised: bool = False
    takes_ms: int = 0
    who: str = ""


class Threat(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A composite threat: linked findings with life cycle, evidence and severity.

    severity is the highest of member levels and of the criticality of care services likely to be hit; it
    never falls while open. impact is what it may lead to, the gravest first (impact_truncated more are not
    listed); expected_loss sums criticality x likelihood over the services, expected_loss_advised what would
    be left of it with the advised measures; advice is what to do. members are all member events in total
    order. previous: the quiet or closed threat that a finding of this one would have joined.
    """

    id: str
    site: str
    title: str
    phase: Phase
    revision: int
    severity: str
    first_ms: int
    last_ms: int
    opened_ms: int
    decided_ms: int
    domains: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    threat_types: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    members: tuple[Evidence, ...] = ()
    windows: tuple[str, ...] = ()
    previous: str = ""
    score: float | None = None
    confidence: str = ""
    merged_into: str = ""
    reason: str = ""
    truncated: int = 0
    impact: tuple[Impact, ...] = ()
    impact_truncated: int = 0
    expected_loss: float = 0.0
    expected_loss_advised: float = 0.0
    advice: tuple[Advice, ...] = ()
    schema_version: str = field(default_factory=schema_version)
