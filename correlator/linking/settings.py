"""Parameters of linking; defaults and their sensitivity are in docs/linking.md. Times in ms, strengths in nats."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from correlator.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS


class LinkingSettings(BaseModel):
    """Settings that decide how findings are linked; part of the configuration hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gap_ms: int = Field(default=10 * MINUTE_MS, gt=0, description="longest silence inside an episode")
    burst_ms: int = Field(default=120 * SECOND_MS, gt=0, description="what comes within this on one asset is one burst")
    rate_half_life_ms: int = Field(default=7 * DAY_MS, gt=0, description="half-life of base rates")
    tail_half_life_ms: int = Field(default=2 * DAY_MS, gt=0, description="half-life of the tail of surprises")
    rate_pseudo_ms: int = Field(default=DAY_MS, gt=0, description="pseudo time of base rates")
    tail_pseudo_ms: int = Field(default=6 * HOUR_MS, gt=0, description="pseudo time of the tail")
    rate_shape: float = Field(default=0.5, ge=0, description="the same for rates of a kind")
    company: bool = Field(default=True, description="all members that lead to a finding count, not only the best")
    tail_shape: float = Field(
        default=0.5, ge=0, description="how alike assets are in their tails (shape of a gamma prior)"
    )
    tail_class: float = Field(default=4.0, ge=0, description="the same for assets of one class; 0: classes are alike")
    expected_cap: float = Field(default=1.5, ge=0, description="most that typed rules add")
    surge_half_life_ms: int = Field(default=30 * MINUTE_MS, ge=0, description="memory of a kind's spate; 0: off")
    surprise_cap: float = Field(default=6.0, gt=0, description="all first-evers share one class")
    hours: bool = Field(default=True, description="rates follow the time of day, by the wall clock of the site")
    floors: bool = Field(default=True, description="rates are shared within a class on one floor before the class")
    anchors: bool = Field(default=True, description="whom a finding names (badge, person, account) may link it too")
    anchor_cost: float = Field(
        default=1.4, ge=0, description="what a link by badge, person or account pays: people are where they work"
    )
    core_ms: int = Field(default=60 * SECOND_MS, gt=0, description="core of the delay density")
    horizon_ms: int = Field(default=DAY_MS, gt=0, description="no link beyond this delay")
    pace_shape: float = Field(
        default=1.0, ge=0, description="own delays that weigh as much as the general density of delays; 0: no pace"
    )
    pace_width: float = Field(default=1.0, gt=0, description="how far delays of one pace lie apart, in ln of the delay")
    reach_cut: float = Field(default=0.004, gt=0, lt=1, description="smallest product of weights that is still a path")
    triggered: float = Field(default=3.0, gt=0, description="further moments a real step is expected to trigger")
    predicted: float = Field(default=0.5, ge=0, lt=1, description="part of the consequences that typed rules predict")
    join: float = Field(default=1.5, description="a link joins above this, and above its cost")
    cost_floor: float = Field(default=0.5, ge=0, description="what the quickest link pays")
    cost_slope: float = Field(default=1.5, ge=0, description="what a link pays more once all followers were due")
    join_slope: float = Field(default=3.0, ge=0, description="how much later followers must be better")
    link_cap: float = Field(default=8.0, gt=0, description="most that one link is worth")
    rank: float = Field(default=0.7, gt=0, description="how far a weak threat stands back: its lack over this")
    merge: float = Field(default=8.0, description="a second threat that a finding follows from this strongly is merged")
    adopt: float = Field(default=2.0, description="a young threat with this much of its own follows its parent")
    parent: float = Field(default=2.0, description="weakest link to a reported threat that is remembered as parent")
    open_from: float = Field(default=-14.0, description="weakest root that opens a threat")
    prior_ms: int = Field(default=5 * DAY_MS, gt=0, description="one composite threat in this time is the prior")
    watch: float = Field(default=4.0, description="reported from this score")
    threat: float = Field(default=8.0, description="alerted from this score")
    new_tactic: float = Field(default=1.0, ge=0, description="first of its tactic")
    new_domain: float = Field(default=2.0, ge=0, description="first of its domain")
    look_back: float | None = Field(default=2.0, description="earlier findings that fit a confirmed threat; null: off")
    fringe: float = Field(default=2.0, description="a member below this that led to nothing is let go in the end")
    fringe_slope: float = Field(default=4.0, ge=0, description="how much better one that came later must be to stay")
    late_ms: int = Field(
        default=HOUR_MS, ge=0, description="a weak link later than this holds no two parts of a threat together"
    )
    late_slope: float = Field(default=8.0, ge=0, description="how much better such a link must be to hold them")
    side_from: int = Field(
        default=5, ge=2, description="members from which on a side of a threat that adds too little is let go"
    )
    side: float = Field(default=4.0, description="what each side of such a threat must add")
    side_plain: float = Field(default=0.5, description="and of that, besides what level, tactic and domain are worth")
    warm_up_ms: int = Field(default=DAY_MS, ge=0, description="a site's first findings only teach")
    new_kind_ms: int = Field(default=DAY_MS, ge=0, description="a new kind joins but does not open for this long")
    quiet_weak_ms: int = Field(default=2 * HOUR_MS, gt=0, description="a threat below 0 closes after this silence")
    quiet_ms: int = Field(default=DAY_MS, gt=0, description="any other closes after this silence")
    max_threats: int = Field(default=500, gt=0, description="open threats; the weakest unreported one goes first")
    max_members: int = Field(default=2000, gt=0, description="members a threat lists; the rest is counted")
    max_members_asset: int = Field(default=128, gt=0, description="members a threat lists on one asset")
    max_recent: int = Field(default=16, ge=0, description="findings on one asset kept for looking back")
    max_kinds: int = Field(default=2000, gt=0, description="kinds whose rates are kept; further ones share one rate")
    max_rates: int = Field(default=500_000, gt=0, description="pairs of kind and asset whose rates are kept")
