"""How findings become threats: episodes, links by likelihood ratio, threats that grow, merge and end.

Everything is in nats, so it adds up: a threat's score is its root's gain and the gains of its links,
and each gain is the sum of its terms (docs/linking.md has the formulas). A finding is scored with the
rates as they stood before it is counted. Findings are placed in total order; times are ms of event
time. Nothing here reads a clock or depends on the order of a hash table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import tzinfo
from heapq import heappop, heappush
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from correlator.clock import DAY_MS, HOUR_MS
from correlator.events.ids import digest
from correlator.linking.rates import WHO, AssetState, Rates
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import NEVER, LinkTables

EVIDENCE: Final = {"informational": 0.0, "low": 0.0, "medium": 2.0, "high": 6.0, "critical": 12.0}
CRITICAL: Final = 12.0
ROOT_CAP: Final = 8.0
WARM_SHARE: Final = 0.1  # a continuing episode keeps its asset active for this part of its mean recurrence
WARM_MAX_MS: Final = 2 * HOUR_MS
HABIT_TIMES: Final = 5.0  # a benign verdict counts as that many times seen together
DOUBT_MS: Final = 30 * DAY_MS  # how long a false verdict lowers the evidence of a kind
DOUBT: Final = 2.0
STEADY_S: Final = 3600.0  # what recurs on an asset more often than this proves nothing there
NOVEL: Final = 1.5  # a new kind's first two findings are no detector switched on
MAX_SHARES: Final = 100_000  # shares kept; a full cache is emptied, which costs time and changes nothing
UNHEARD: Final = 0.2  # weight in a share of a class of which nothing was ever heard: it may have no detector
COMPANION: Final = 0.5  # how far a companion, or what fits a declared window, is itself a member
ANCHORED: Final = "of "  # before a kind: how often it names this badge, person or account
PEOPLE: Final = frozenset({"badge", "person", "account"})  # classes of who did it
CROWD: Final = 64.0  # members on one asset that halve the gain of the next
_HALF_NORMAL: Final = math.sqrt(math.pi / 2)  # what a normal density of width 1 and height 1 holds on one side
PACE_BINS: Final = 4.0  # delays of a pace are counted in bins of a quarter of a nat
MANY_SIDES: Final = 64  # members up to which the sides of a threat are weighed: each costs a look at all members

# Links of findings that prove nothing of their own: they hold as their source does.
_FIRM: Final = ("companion", "again")
# Links whose delays tell a threat's pace: a step that follows another.
_PACED: Final = ("link", "earlier")

# The terms of a link in the order they are summed. Those before the cost are x; all of them are the gain.
TERMS: Final = (
    "expected",
    "triggered",
    "member",
    "share",
    "delay",
    "pace",
    "chance",
    "cost",
    "cap",
    "discount",
    "tactic",
    "domain",
    "evidence",
    "uncounted",
    "prior",
)
OF_X: Final = TERMS.index("cost")  # how many terms x has
_DISCOUNT: Final = TERMS.index("discount")
_BONUS: Final = slice(TERMS.index("tactic"), TERMS.index("evidence") + 1)
_UNCOUNTED: Final = TERMS.index("uncounted")


class ReachLike(Protocol):
    """What the engine needs of a reach: asset -> ln of its share."""

    log_share: dict[str, float]
    weights: dict[str, float]


class Ground(Protocol):
    """What the engine asks of a site. `correlator.linking.ground` has the site graph's."""

    timezone: tzinfo

    def reach(self, asset: str, t_ms: int) -> ReachLike:
        """Where a cause at an asset can lead."""
        ...

    def place_of(self, asset: str) -> tuple[str, str]:
        """(class, floor) of an asset; "unknown" and "" for what the site does not know."""
        ...

    def describe(self, asset: str) -> str:
        """An asset in plain words."""
        ...


class Item(Struct, frozen=True, gc=False):
    """A finding as the engine takes it.

    asset first of `anchors` in meaning: the further ones (badge, person, account) may link it too.
    type: threat type or "". calm: it fits a declared window, so it joins at gain 0 and never opens.
    """

    id: str
    kind: str
    asset: str
    t_ms: int
    domain: str
    level: str
    tactics: tuple[str, ...] = ()
    type: str = ""
    anchors: tuple[str, ...] = ()
    calm: bool = False


class Episode:
    """All findings of one (kind, asset) with short gaps. chance: ln of the tail rate at its onset.

    habit: how often a second its kind comes along with what came just before it on the same asset.
    """

    __slots__ = (
        "anchors",
        "bin",
        "calm",
        "chance",
        "counted_ms",
        "domain",
        "evidence",
        "habit",
        "id",
        "kind",
        "last_ms",
        "place",
        "root_chance",
        "size",
        "t_ms",
        "tactics",
        "threat",
        "type",
        "warm_ms",
    )

    def __init__(self, item: Item, place: AssetState, type_: str, evidence: float) -> None:
        self.id = item.id
        self.kind = item.kind
        self.place = place
        self.anchors: tuple[tuple[str, float], ...] = ()  # further anchors with ln of the tail rate there
        self.type = type_
        self.domain = item.domain
        self.tactics = item.tactics
        self.evidence = evidence
        self.calm = item.calm
        self.t_ms = item.t_ms
        self.last_ms = item.t_ms
        self.counted_ms = item.t_ms
        self.size = 1
        self.bin = 0
        self.chance = 0.0
        self.habit = 0.0
        self.root_chance = 0.0
        self.warm_ms = 0
        self.threat = ""


class Link(NamedTuple):
    """Why `target` belongs to `source`: x, what it adds, and its terms in the order of TERMS."""

    source: str
    target: str
    x: float
    gain: float
    terms: tuple[float, ...]
    delay_ms: int
    how: str  # root, link, companion, again, merge, adopted, earlier


class Touch:
    """The latest member on an asset of a threat, and where it can lead.

    since: when the asset was first touched, and how many classes had been heard of by then.
    """

    __slots__ = ("asset", "episode", "expected", "log_resp", "log_share", "since")

    def __init__(
        self,
        asset: str,
        episode: Episode,
        log_resp: float,
        log_share: dict[str, float],
        expected: dict[str, float],
        since: tuple[int, int],
    ) -> None:
        self.asset = asset
        self.episode = episode
        self.log_resp = log_resp
        self.log_share = log_share
        self.expected = expected
        self.since = since

    def active_ms(self) -> int:
        """Last activity on the asset; noise that never stops cannot keep it active for long."""
        episode = self.episode
        return min(episode.t_ms + episode.warm_ms, episode.last_ms)


class ThreatState:
    """An open threat. members: finding id -> how it came in, in the order they came.

    pace: how many links between its steps have which delay, by ln(1 + delay / core) in bins of 1 / PACE_BINS.
    """

    __slots__ = (
        "aliases",
        "bursts",
        "counted",
        "counted_gain",
        "crowd",
        "domains",
        "episodes",
        "first_ms",
        "id",
        "kinds",
        "last_ms",
        "members",
        "notes",
        "pace",
        "parent",
        "reported",
        "root",
        "score",
        "tactics",
        "touches",
        "opened_by",
    )

    def __init__(self, id_: str, t_ms: int) -> None:
        self.id = id_
        self.first_ms = t_ms
        self.last_ms = t_ms
        self.score = 0.0
        self.root: Link | None = None
        self.opened_by = ""
        self.members: dict[str, Link] = {}
        self.episodes: dict[str, Episode] = {}
        self.notes: list[Link] = []  # links that add nothing or joined threats
        self.touches: dict[str, Touch] = {}
        self.kinds: dict[str, int] = {}
        self.tactics: set[str] = set()
        self.domains: set[str] = set()
        self.bursts: dict[str, list[int]] = {}
        self.crowd: dict[str, int] = {}
        self.counted = 0
        self.counted_gain = 0.0
        self.pace: dict[int, int] = {}
        self.parent: tuple[str, Link] | None = None
        self.reported = False
        self.aliases: list[str] = []


class Settled(NamedTuple):
    """A threat, or a part of one that holds together: score = gains of members and notes + others_gain."""

    id: str
    score: float
    root: Link
    members: dict[str, Link]
    notes: list[Link]
    others_gain: float


class Placed(NamedTuple):
    """Where a new episode went. merged: threats that ended in it."""

    threat: ThreatState | None
    opened: bool
    merged: tuple[str, ...] = ()
    episode: Episode | None = None


class LinkEngine:
    """Links the findings of one site. from_ms: findings before it only teach; None: a day from the first."""

    def __init__(
        self,
        site: str,
        ground: Ground,
        tables: LinkTables,
        settings: LinkingSettings | None = None,
        from_ms: int | None = None,
    ) -> None:
        self.site = site
        self.ground = ground
        self.tables = tables
        self.settings = settings = settings if settings is not None else LinkingSettings()
        self.rates = Rates(settings, ground.timezone)
        self._gap_ms = settings.gap_ms
        self.from_ms = from_ms
        self.new_kind_ms = 0 if from_ms is not None else settings.new_kind_ms
        self.threats: dict[str, ThreatState] = {}
        self.closed: list[ThreatState] = []
        self.counters: dict[str, int] = {"findings": 0, "episodes": 0, "evicted": 0, "members_counted": 0}
        self._episodes: dict[str, dict[str, Episode]] = {}  # asset -> kind -> latest
        self._recent: dict[str, list[Episode]] = {}
        self._leads: dict[str, dict[str, None]] = {}  # asset -> assets ever touched whose reach holds it
        self._led: dict[str, ReachLike] = {}  # touched asset -> the reach that `_leads` holds
        self._at: dict[str, dict[str, Touch]] = {}  # touched asset -> open threat -> touch
        self._people_at: set[str] = set()  # assets ever touched that are a badge, person or account
        self._due: list[tuple[int, str]] = []
        self._expected = tables.expected(settings.predicted, settings.expected_cap)
        self._types: dict[str, str] = {}
        self._shares: dict[tuple[str, int], tuple[ReachLike, dict[str, float]]] = {}
        self._member_of: set[str] = set()  # of open threats
        self.changed_kinds = self.rates.changed_kinds
        self.changed_assets: set[str] = set()
        self.changed_threats: set[str] = set()
        self._log_span = math.log(1 + settings.horizon_ms / settings.core_ms)
        self._norm = math.log(math.log(1 + settings.horizon_ms / settings.core_ms))
        self._log_triggered = math.log(settings.triggered)
        self._log_prior = math.log(settings.prior_ms / 1000)

    # ---- findings ---------------------------------------------------------------------------------

    def place(self, item: Item) -> Placed | None:
        """Places one finding; None when it only goes on with an episode."""
        if self.goes_on(item.asset, item.kind, item.t_ms, item.level):
            return None
        return self._onset(item)

    def goes_on(self, asset: str, kind: str, t_ms: int, level: str) -> bool:
        """Whether a finding only goes on with an open episode; if so it is taken in. A critical one in an
        episode that was not critical opens its own."""
        kinds = self._episodes.get(asset)
        episode = kinds.get(kind) if kinds is not None else None
        if episode is None or t_ms - episode.last_ms > self._gap_ms:
            return False
        if level == "critical" and episode.evidence < CRITICAL:
            return False
        episode.size += 1
        self.changed_assets.add(asset)
        if t_ms > episode.last_ms:
            episode.last_ms = t_ms
        if t_ms - episode.counted_ms >= self._gap_ms:
            episode.counted_ms = t_ms
            self.rates.count(episode.place, kind, t_ms, of_day=False)
        return True

    def _onset(self, item: Item) -> Placed:
        rates, settings, t_ms = self.rates, self.settings, item.t_ms
        self.counters["episodes"] += 1
        if rates.start_ms < 0:
            rates.start_ms = t_ms
            if self.from_ms is None:
                self.from_ms = t_ms + settings.warm_up_ms
        if self._due and self._due[0][0] < t_ms:
            self.advance(t_ms)
        episode, rate, people = self.weigh(item)
        place, bin_ = episode.place, episode.bin
        steady = rate * STEADY_S > 1 and episode.evidence < EVIDENCE["high"]
        if (t_ms >= self.from_ms and not steady) or episode.evidence >= CRITICAL:  # type: ignore[operator]
            placed = self._join_or_open(episode, item)
        else:
            placed = Placed(None, False, (), episode)
        rates.count(place, item.kind, t_ms, not steady)
        rates.count_burst(place, item.kind, bin_, t_ms)
        for who, who_bin in people:
            rates.count(who, ANCHORED + item.kind, t_ms, not steady)
            rates.count_anchor(who, who_bin, t_ms)
            self.changed_assets.add(who.asset)
        latest = self._episodes.setdefault(item.asset, {})
        before = latest.get(item.kind)
        if before is not None and before.threat in self.threats:
            self.changed_threats.add(before.threat)
        latest[item.kind] = episode
        self._remember(episode)
        self.changed_assets.add(item.asset)
        return placed

    def weigh(self, item: Item) -> tuple[Episode, float, list[tuple[AssetState, int]]]:
        """(episode, rate per second of its kind there, further anchors) as things stand, before it is counted."""
        rates, settings, t_ms = self.rates, self.settings, item.t_ms
        place = rates.assets.get(item.asset)
        if place is None:
            place = rates.asset(item.asset, *self.ground.place_of(item.asset))
        type_ = item.type or self._type_of(item.kind)
        evidence = EVIDENCE[item.level]
        if evidence < CRITICAL and rates.doubted.get(item.kind, 0) > t_ms:
            evidence = max(0.0, evidence - DOUBT)
        if evidence < EVIDENCE["high"] and self._kind_is_young(item.kind, t_ms):
            evidence = 0.0  # what a detector's level is worth shows when it has been heard for a day
        episode = Episode(item, place, type_, evidence)
        if self._kind_is_new(episode):
            episode.calm = True  # a new detector's findings may join, and prove nothing
        rate, surprise = rates.rate(place, item.kind, t_ms)
        episode.bin = bin_ = rates.bin_of(surprise)
        site, asset = rates.tail_rates(place, bin_, t_ms)
        surge = rates.surge(place, item.kind, t_ms) if settings.surge_half_life_ms else 0.0
        episode.chance, episode.root_chance = math.log(asset + surge), math.log(site + surge * rates.number_like(place))
        people = self._people(episode, item) if item.anchors and settings.anchors else []
        episode.warm_ms = min(WARM_MAX_MS, int(WARM_SHARE * 1000 / rate))
        if t_ms - place.burst_ms <= settings.burst_ms:
            along = math.fsum(rates.habit(first, item.kind, t_ms) for first in place.burst_kinds)
            episode.habit = along * 1000 / settings.burst_ms
        return episode, rate, people

    def _people(self, episode: Episode, item: Item) -> list[tuple[AssetState, int]]:
        """(state, bin) of each further anchor; the episode learns how usual it is of this one.

        As with places, what somebody does every hour and what is in spate among all (a drill) proves little.
        """
        rates, t_ms, kind = self.rates, item.t_ms, ANCHORED + item.kind
        found: list[tuple[AssetState, int]] = []
        chances: list[tuple[str, float]] = []
        for anchor in dict.fromkeys(item.anchors):
            if anchor == item.asset:
                continue
            state = rates.assets.get(WHO + anchor)
            if state is None:
                cls, floor = self.ground.place_of(anchor)
                state = rates.asset(WHO + anchor, WHO + cls, floor)
            rate, surprise = rates.rate(state, kind, t_ms)
            bin_ = rates.bin_of(surprise)
            found.append((state, bin_))
            if rate * STEADY_S > 1:
                continue
            surge = rates.surge(state, kind, t_ms) if self.settings.surge_half_life_ms else 0.0
            chance = rates.tail_rates(state, bin_, t_ms)[1] + surge
            chances.append((anchor, math.log(chance) + self.settings.anchor_cost))
        episode.anchors = tuple(chances)
        return found

    def _type_of(self, kind: str) -> str:
        found = self._types.get(kind)
        if found is None:
            found = self._types[kind] = self.tables.kind_type(kind)
        return found

    def _remember(self, episode: Episode) -> None:
        recent = self._recent.setdefault(episode.place.asset, [])
        recent.append(episode)
        if len(recent) > self.settings.max_recent:
            if recent[0].threat in self.threats:
                self.changed_threats.add(recent[0].threat)
            del recent[0]

    # ---- links ------------------------------------------------------------------------------------

    def _best(
        self, pace: dict[int, int], touches: list[Touch], asset: str, episode: Episode, chance: float
    ) -> tuple[float, float, Touch, tuple[float, ...], int] | None:
        """(x, x without habit, touch, terms, delay) of the strongest link of a threat's touches to an episode.

        What comes along with something that was just there is explained by that, whoever else may have led to it.
        """
        settings, triggered, norm = self.settings, self._log_triggered, self._norm
        horizon_ms, core_ms = settings.horizon_ms, settings.core_ms
        t_ms, type_ = episode.t_ms, episode.type
        log_bg = _either(chance, episode.habit) if asset == episode.place.asset else chance
        best = None
        best_x = NEVER
        near: list[float] = []
        for touch in touches:
            active_ms = touch.active_ms()
            d_ms = t_ms - active_ms if t_ms > active_ms else 0
            if d_ms >= horizon_ms:
                continue
            share = touch.log_share.get(asset)
            if share is None:
                continue
            expected = touch.expected.get(type_, 0.0)
            delay = -math.log((d_ms + core_ms) / 1000) - norm
            paced = self._paced(pace, d_ms) if pace else 0.0
            plain = expected + triggered + touch.log_resp + share + delay + paced
            x = plain - log_bg
            if x > -20:
                near.append(math.exp(x))
            if x > best_x or (x == best_x and best is not None and touch.asset < best[2].asset):
                best_x = x
                terms = (expected, triggered, touch.log_resp, share, delay, paced, -log_bg)
                best = (x, plain - chance, touch, terms, d_ms)
        if best is None or not settings.company or best_x < -20:
            return best
        x, x0, touch, terms, d_ms = best
        more = math.log(math.fsum(near)) - x if len(near) > 1 else 0.0
        return x + more, x0 + more, touch, (*terms[:2], terms[2] + more, *terms[3:]), d_ms

    def _step(self, threat: ThreatState, link: Link) -> None:
        """Counts the delay of a link between steps in a threat's pace."""
        if link.how in _PACED and self.settings.pace_shape:
            at = round(PACE_BINS * self._log_delay(link.delay_ms))
            threat.pace[at] = threat.pace.get(at, 0) + 1

    def _paced(self, pace: dict[int, int], d_ms: int) -> float:
        """What a delay is worth beyond the general density of delays, by those between the steps that a threat has.

        In u = ln(1 + delay / core) each of them is a density that is even up to its own u and falls off beyond as a
        normal one: quicker is as good, so that x falls with the delay at any pace. The general density, even in u
        up to the horizon, counts as `pace_shape` of them.
        """
        settings = self.settings
        general, width, at = settings.pace_shape, settings.pace_width, self._log_delay(d_ms)
        tail = width * _HALF_NORMAL
        own = []
        for bin_, times in pace.items():
            its = bin_ / PACE_BINS
            height = math.exp(-0.5 * ((at - its) / width) ** 2) if at > its else 1.0
            own.append(times * height / (its + tail))
        return math.log((general + math.fsum(own) * self._log_span) / (general + sum(pace.values())))

    def _candidates(
        self, episode: Episode, item: Item
    ) -> dict[str, tuple[float, float, Touch, tuple[float, ...], int]]:
        """Threat id -> its best link, over all anchors of the finding.

        Whom a finding names leads to what the same person does, and to no place; a place leads to nobody who
        is only named: who works or passes where something happened is no suspect for that reason.
        """
        found: dict[str, tuple[float, float, Touch, tuple[float, ...], int]] = {}
        for asset, chance in ((item.asset, episode.chance), *episode.anchors):
            touched: dict[str, list[Touch]] = {}
            leads = self._leads.get(asset)
            if leads is None:
                continue
            named = asset is not item.asset
            someone = named or self.ground.place_of(asset)[0] in PEOPLE
            for source in leads.keys() & self._at.keys():  # in any order: nothing below depends on it
                person = source in self._people_at
                if named and not person:
                    continue
                for threat_id, touch in self._at[source].items():
                    if person and not someone and touch.episode.place.asset != source:
                        continue
                    if threat_id in touched:
                        touched[threat_id].append(touch)
                    else:
                        touched[threat_id] = [touch]
            for threat_id, touches in touched.items():
                best = self._best(self.threats[threat_id].pace, touches, asset, episode, chance)
                if best is not None and (threat_id not in found or best[0] > found[threat_id][0]):
                    found[threat_id] = best
        return found

    def _join_or_open(self, episode: Episode, item: Item) -> Placed:
        settings = self.settings
        told = self._told_already(episode)
        if told is not None:
            return self._again(told, episode)
        joins: list[tuple[float, float, str]] = []
        companions: list[tuple[float, float, str]] = []
        parent: tuple[float, str] | None = None
        found = self._candidates(episode, item)
        for threat_id, (x, x0, touch, _, d_ms) in found.items():
            threat = self.threats[threat_id]
            if x0 > settings.join and x0 > (join := self.join_at(d_ms)):  # x0 is never less than x
                rank = x + min(0.0, threat.score - settings.watch) / settings.rank
                if x > join:
                    joins.append((rank, threat.score, threat_id))
                    continue
                if d_ms <= settings.burst_ms and touch.asset == episode.place.asset:
                    companions.append((rank, threat.score, threat_id))
                    continue
            if threat.score >= settings.watch and x >= settings.parent:
                if parent is None or (-x, threat_id) < (-parent[0], parent[1]):
                    parent = x, threat_id
        if joins:
            return self._join(episode, joins, found)
        if companions:
            chosen = self.threats[self._first(companions)]
            x, _, touch, terms, d_ms = found[chosen.id]
            self._add(chosen, episode, x, touch, terms, d_ms, "companion")
            return Placed(chosen, False, (), episode)
        root = self._root_gain(episode)
        if episode.calm or not (root >= settings.open_from or episode.evidence >= CRITICAL):
            return Placed(None, False, (), episode)
        threat = self._open(episode, root)
        if parent is not None:
            x, _, touch, terms, d_ms = found[parent[1]]
            link = _link(touch.episode.id, episode.id, x, terms, d_ms, "adopted")
            threat.parent = parent[1], link
        return Placed(threat, True, (), episode)

    def _told_already(self, episode: Episode) -> ThreatState | None:
        """The threat that has a finding of the same moment on the same asset: two rules that tell of one event."""
        if episode.evidence >= CRITICAL:
            return None
        same = [
            self.threats[threat_id]
            for threat_id, touch in self._at.get(episode.place.asset, _NO_TOUCH).items()
            if touch.episode.t_ms == episode.t_ms
        ]
        return min(same, key=lambda one: (one.first_ms, one.id), default=None)

    def _again(self, threat: ThreatState, episode: Episode) -> Placed:
        """Takes in what was told already: it proves no more than its level does beyond that of the first telling."""
        asset = episode.place.asset
        first = threat.touches[asset].episode
        known = [one.evidence for one in self.recent(asset) if one.t_ms == first.t_ms and one.threat == threat.id]
        more = 0.0 if episode.calm else max(0.0, episode.evidence - max(known, default=first.evidence))
        terms = (*(0.0,) * 12, more, 0.0, 0.0)
        threat.score += more
        self._book(threat, episode, Link(first.id, episode.id, 0.0, more, terms, 0, "again"))
        if not more:
            self._mark(threat)
            return Placed(threat, False, (), episode)
        return self._grown(threat, episode, [])

    def join_at(self, d_ms: int) -> float:
        """What a link must be worth to join: later followers must be better."""
        return max(self.settings.join, self.settings.cost_floor + self.settings.join_slope * self._passed(d_ms))

    def terms_of(self, first: Episode, then: Episode) -> tuple[int, dict[str, float] | None]:
        """(delay in ms, terms of the plain link of two episodes by name); None where no path leads there."""
        share = self._share(first.place.asset, first.t_ms, len(self.rates.heard)).get(then.place.asset)
        d_ms = max(0, then.t_ms - max(first.t_ms, min(first.last_ms, first.t_ms + first.warm_ms)))
        if share is None:
            return d_ms, None
        return d_ms, {
            "expected": self._expected.get(first.type, _NOTHING).get(then.type, 0.0),
            "triggered": self._log_triggered,
            "share": share,
            "delay": -math.log((d_ms + self.settings.core_ms) / 1000) - self._norm,
            "chance": -_either(then.chance, then.habit),
        }

    def _cost(self, d_ms: int) -> float:
        """What a link pays for the followers that were expected by then and did not come."""
        return self.settings.cost_floor + self.settings.cost_slope * self._passed(d_ms)

    def _passed(self, d_ms: int) -> float:
        """The part of all followers that was expected by then."""
        return self._log_delay(d_ms) / self._log_span

    def _log_delay(self, d_ms: int) -> float:
        """ln(1 + delay / core): 0 at once, `_log_span` at the horizon; in it the general density of delays is even."""
        return math.log(1 + d_ms / self.settings.core_ms)

    def _plain_root(self, episode: Episode) -> float:
        return -episode.root_chance - self._log_prior + episode.evidence

    def _root_gain(self, episode: Episode) -> float:
        """What a finding is worth that opens a threat: a critical one is a threat by itself."""
        gain = min(ROOT_CAP, self._plain_root(episode))
        return max(gain, self.settings.watch + 4) if episode.evidence >= CRITICAL else gain

    def _kind_is_new(self, episode: Episode) -> bool:
        """Whether the kind was first seen so lately that its findings are a new detector's novelty."""
        if episode.evidence >= EVIDENCE["high"] or not self.new_kind_ms:
            return False
        known = self.rates.kinds.get(self.rates.name_of(episode.kind))
        return known is not None and known.count[0] > NOVEL and self._kind_is_young(episode.kind, episode.t_ms)

    def _kind_is_young(self, kind: str, t_ms: int) -> bool:
        """Whether a kind was never heard before the last `new_kind_ms`."""
        known = self.rates.kinds.get(self.rates.name_of(kind))
        return self.new_kind_ms > 0 and (known is None or t_ms - known.first_ms < self.new_kind_ms)

    def _first(self, ranked: list[tuple[float, float, str]]) -> str:
        """The best by (rank, score), then the older threat."""
        return min(ranked, key=lambda one: (-one[0], -one[1], self.threats[one[2]].first_ms, one[2]))[2]

    def _open(self, episode: Episode, root: float) -> ThreatState:
        threat = ThreatState(digest("threat", self.site, episode.kind, episode.id), episode.t_ms)
        cap = root - self._plain_root(episode)
        terms = (
            0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -episode.root_chance, 0.0, cap, 0.0, 0.0, 0.0, episode.evidence, 0.0,
            -self._log_prior,
        )  # fmt: skip
        threat.root = Link("", episode.id, root, root, terms, 0, "root")
        threat.score = root
        threat.opened_by = episode.id
        self._book(threat, episode, threat.root)
        threat.tactics.update(episode.tactics)
        threat.domains.add(episode.domain)
        self._touch(threat, episode, 0.0)
        self.threats[threat.id] = threat
        self._mark(threat)
        self._await(threat)
        if len(self.threats) > self.settings.max_threats:
            self._evict()
        return threat

    def _join(
        self,
        episode: Episode,
        joins: list[tuple[float, float, str]],
        found: dict[str, tuple[float, float, Touch, tuple[float, ...], int]],
    ) -> Placed:
        settings = self.settings
        chosen = self.threats[self._first(joins)]
        x, _, touch, terms, d_ms = found[chosen.id]
        self._add(chosen, episode, x, touch, terms, d_ms, "link")
        merged: list[str] = []
        others = [one for one in joins if one[2] != chosen.id]
        others.sort(key=lambda one: (-one[0], -one[1], self.threats[one[2]].first_ms, one[2]))
        for _, _, other_id in others:
            x, _, touch, terms, d_ms = found[other_id]
            other = self.threats[other_id]
            note = _link(touch.episode.id, episode.id, x, terms, d_ms, "merge")
            if x >= settings.merge and self._merge_gain(chosen, other, note) >= 0:
                chosen, gone = self._merge(chosen, other, note)
                merged.append(gone)
        return self._grown(chosen, episode, merged)

    def _grown(self, threat: ThreatState, episode: Episode, merged: list[str]) -> Placed:
        """What follows from a gain: a young threat may be adopted, earlier findings may fit."""
        threat, adopted = self._adopt(threat)
        merged += adopted
        merged += self._look_back(threat, episode)
        self._mark(threat)
        return Placed(threat, False, tuple(merged), episode)

    def _adopt(self, threat: ThreatState) -> tuple[ThreatState, list[str]]:
        """Merges a young threat into the reported one that may have led to it, once it carries itself."""
        if threat.parent is None or threat.root is None:
            return threat, []
        parent = self.threats.get(threat.parent[0])
        link = threat.parent[1]
        if parent is None or parent is threat:
            return threat, []
        cost = self._cost(link.delay_ms)
        if threat.score - threat.root.gain + link.x - cost < self.settings.adopt:
            return threat, []
        terms: tuple[float, ...] = (*link.terms[:OF_X], -cost, *(0.0,) * 7)
        counted = Link(link.source, link.target, link.x, math.fsum(terms), terms, link.delay_ms, "adopted")
        into, gone = self._merge(parent, threat, counted)
        return into, [gone]

    def _add(
        self,
        threat: ThreatState,
        episode: Episode,
        x: float,
        touch: Touch,
        terms: tuple[float, ...],
        d_ms: int,
        how: str,
        *,
        touched: bool = True,
    ) -> None:
        """Takes an episode in: the gain of its link, discounted for shared causes, and the bonuses."""
        settings, asset, t_ms = self.settings, episode.place.asset, episode.t_ms
        burst = threat.bursts.get(asset)
        if burst is None or abs(t_ms - burst[0]) > settings.burst_ms:
            burst = threat.bursts[asset] = [t_ms, 0]
        same, crowd = threat.kinds.get(episode.kind, 0), threat.crowd.get(asset, 0)
        companion = how == "companion"
        if companion or episode.calm:
            extra = (0.0,) * 6 + (-x, 0.0)
        else:
            capped = min(x, settings.link_cap)
            divisor = (1 + same) * math.sqrt(1 + burst[1]) * (1 + crowd / CROWD)
            cost = self._cost(d_ms)
            plain = capped - cost
            tactic = settings.new_tactic if any(one not in threat.tactics for one in episode.tactics) else 0.0
            domain = settings.new_domain if episode.domain not in threat.domains else 0.0
            evidence = episode.evidence if not same or episode.evidence >= CRITICAL else 0.0
            extra = (-cost, capped - x, plain / divisor - plain, tactic, domain, evidence, 0.0, 0.0)
        all_terms = terms + extra
        gain = math.fsum(all_terms)
        link = Link(touch.episode.id, episode.id, x, gain, all_terms, d_ms, how)
        burst[1] += 1
        threat.score += gain
        self._book(threat, episode, link)
        if not (companion or episode.calm):
            threat.tactics.update(episode.tactics)
            threat.domains.add(episode.domain)
        resp = math.log(COMPANION) if companion or episode.calm else -math.log1p(math.exp(-x))
        if touched:
            self._touch(threat, episode, resp)
        self._mark(threat)

    def _book(self, threat: ThreatState, episode: Episode, link: Link) -> None:
        """Writes a member down, within the bounds: a flood on one asset cannot push others out."""
        self.changed_threats.add(threat.id)
        settings, asset = self.settings, episode.place.asset
        threat.kinds[episode.kind] = threat.kinds.get(episode.kind, 0) + 1
        here = threat.crowd[asset] = threat.crowd.get(asset, 0) + 1
        threat.first_ms = min(threat.first_ms, episode.t_ms)
        threat.last_ms = max(threat.last_ms, episode.t_ms)
        episode.threat = threat.id
        self.changed_assets.add(asset)
        if here > settings.max_members_asset or len(threat.members) >= settings.max_members:
            threat.counted += 1
            threat.counted_gain += link.gain
            self.counters["members_counted"] += 1
            return
        threat.members[episode.id] = link
        self._step(threat, link)
        threat.episodes[episode.id] = episode
        self._member_of.add(episode.id)

    def _touch(self, threat: ThreatState, episode: Episode, log_resp: float) -> None:
        self._touch_at(threat, episode.place.asset, episode, log_resp)
        for anchor, _ in episode.anchors:
            self._touch_at(threat, anchor, episode, log_resp)

    def _touch_at(self, threat: ThreatState, asset: str, episode: Episode, log_resp: float) -> None:
        expected = self._expected.get(episode.type, _NOTHING)
        touch = threat.touches.get(asset)
        if touch is not None:
            touch.episode, touch.log_resp, touch.expected = episode, log_resp, expected
            return
        heard = len(self.rates.heard)
        share = self._share(asset, episode.t_ms, heard)
        touch = threat.touches[asset] = Touch(asset, episode, log_resp, share, expected, (episode.t_ms, heard))
        self._near_by(threat.id, touch)

    def _share(self, asset: str, t_ms: int, heard: int) -> dict[str, float]:
        """ln of each asset's share of a reach; less for classes not among the first `heard` ever heard of."""
        reach = self.ground.reach(asset, t_ms)
        known = self._shares.get((asset, heard))
        if known is not None and known[0] is reach:
            return known[1]
        classes = frozenset(self.rates.heard[:heard])
        place_of = self.ground.place_of
        kept = {
            name: weight if place_of(name)[0] in classes else weight * UNHEARD for name, weight in reach.weights.items()
        }
        log_total = math.log(math.fsum(kept.values()))
        share = {name: math.log(weight) - log_total for name, weight in kept.items()}
        if len(self._shares) >= MAX_SHARES:
            self._shares.clear()
        self._shares[asset, heard] = reach, share
        return share

    def _near_by(self, threat_id: str, touch: Touch) -> None:
        """Makes a touch findable from every asset that it can lead to."""
        asset = touch.asset
        at = self._at.get(asset)
        if at is None:
            at = self._at[asset] = {}
        at[threat_id] = touch
        if self.ground.place_of(asset)[0] in PEOPLE:
            self._people_at.add(asset)
        reach = self.ground.reach(asset, touch.since[0])
        if self._led.get(asset) is not reach:
            self._led[asset] = reach
            leads = self._leads
            for other in touch.log_share:
                if other in leads:
                    leads[other][asset] = None
                else:
                    leads[other] = {asset: None}

    def _leave(self, threat: ThreatState) -> None:
        """Takes a threat out of the index."""
        for asset in threat.touches:
            at = self._at[asset]
            at.pop(threat.id, None)
            if not at:
                del self._at[asset]

    # ---- looking back -----------------------------------------------------------------------------

    def _look_back(self, threat: ThreatState, newest: Episode) -> list[str]:
        """Takes in earlier findings that fit a confirmed threat: common first steps cannot open one."""
        limit = self.settings.look_back
        if limit is None or threat.score < self.settings.watch:
            return []
        members = [newest] if threat.reported else list(threat.episodes.values())
        threat.reported = True
        while members:
            found: list[Episode] = []
            for member in members:
                best = self._earlier(threat, member, limit)
                if best is not None:
                    found.append(best)
            members = found
        return []

    def _earlier(self, threat: ThreatState, member: Episode, limit: float) -> Episode | None:
        """The best earlier finding that leads to a member, taken in; None if nothing fits well enough."""
        settings = self.settings
        link = threat.members.get(member.id)
        resp = 0.0 if link is None or link.how in ("root", *_FIRM) else -math.log1p(math.exp(-link.x))
        best: tuple[float, Episode, tuple[float, ...], int] | None = None
        asset = member.place.asset
        for other in self.ground.reach(asset, member.t_ms).log_share:
            for episode in self._recent.get(other, ()):
                if episode.threat or episode.calm or episode.t_ms > member.t_ms or episode is member:
                    continue
                d_ms = max(0, member.t_ms - max(episode.t_ms, min(episode.last_ms, episode.t_ms + episode.warm_ms)))
                if d_ms >= settings.horizon_ms:
                    continue
                share = self.ground.reach(other, episode.t_ms).log_share.get(asset)
                if share is None:
                    continue
                expected = self._expected.get(episode.type, _NOTHING).get(member.type, 0.0)
                delay = -math.log((d_ms + settings.core_ms) / 1000) - self._norm
                paced = self._paced(threat.pace, d_ms) if threat.pace else 0.0
                log_bg = episode.chance
                if other == asset and d_ms <= settings.burst_ms:
                    habit = max(
                        self.rates.habit(episode.kind, member.kind, member.t_ms),
                        self.rates.habit(member.kind, episode.kind, member.t_ms),
                    )
                    log_bg = _either(log_bg, habit * 1000 / settings.burst_ms)
                terms: tuple[float, ...] = (expected, self._log_triggered, resp, share, delay, paced, -log_bg)
                x = math.fsum(terms)
                if x > limit and (
                    best is None or (-x, episode.t_ms, episode.id) < (-best[0], best[1].t_ms, best[1].id)
                ):
                    best = x, episode, terms, d_ms
        if best is None:
            return None
        x, episode, terms, d_ms = best
        touch = Touch(asset, member, 0.0, {}, {}, (member.t_ms, 0))
        self._add(threat, episode, x, touch, terms, d_ms, "earlier", touched=episode.place.asset not in threat.touches)
        return episode

    # ---- merging and ending -----------------------------------------------------------------------

    def _merge_gain(self, one: ThreatState, other: ThreatState, link: Link) -> float:
        """What the better of two threats gains by the other: its gains, and a second root that needs a reason.

        A root is a chance of its own. The link that joins the two explains the lesser one as far as it goes.
        """
        assert one.root is not None
        assert other.root is not None
        lesser = min(one.root.gain, other.root.gain)
        weaker = one if one.score < other.score else other
        assert weaker.root is not None
        better_root = max(one.root.gain, other.root.gain) - (one if weaker is other else other).root.gain  # type: ignore[union-attr]
        return weaker.score - weaker.root.gain + self._root_debt(lesser, link.x) + better_root

    @staticmethod
    def _root_debt(root_gain: float, x: float) -> float:
        return min(0.0, root_gain + max(0.0, x))

    def _merge(self, one: ThreatState, other: ThreatState, link: Link) -> tuple[ThreatState, str]:
        """Makes two threats one: gains add, the higher root is kept, the older one's id stays."""
        into, source = sorted((one, other), key=lambda threat: (threat.first_ms, threat.id))
        assert into.root is not None
        assert source.root is not None
        gains = (into.score - into.root.gain) + (source.score - source.root.gain) + link.gain
        if source.root.gain > into.root.gain:
            kept, lesser = source.root, into.root
        else:
            kept, lesser = into.root, source.root
        debt = 0.0 if link.how == "adopted" else self._root_debt(lesser.gain, link.x)
        self._leave(source)
        del self.threats[source.id]
        self.changed_threats.update((source.id, into.id))
        into.root = kept
        into.score = kept.gain + gains + debt
        members = {**into.members, **source.members}
        members[lesser.target] = lesser._replace(gain=debt, terms=_owing(lesser.terms, debt - lesser.gain))
        into.members = members
        into.episodes.update(source.episodes)
        for episode in source.episodes.values():
            episode.threat = into.id
            self.changed_assets.add(episode.place.asset)
        into.notes += [*source.notes, link]
        for asset, touch in source.touches.items():
            mine = into.touches.get(asset)
            if mine is None:
                into.touches[asset] = touch
                self._near_by(into.id, touch)
            elif (touch.episode.t_ms, touch.episode.id) > (mine.episode.t_ms, mine.episode.id):
                mine.episode, mine.log_resp, mine.expected = touch.episode, touch.log_resp, touch.expected
        for kind, n in source.kinds.items():
            into.kinds[kind] = into.kinds.get(kind, 0) + n
        for asset, n in source.crowd.items():
            into.crowd[asset] = into.crowd.get(asset, 0) + n
        for asset, burst in source.bursts.items():
            mine_burst = into.bursts.get(asset)
            if mine_burst is None or burst[0] > mine_burst[0]:
                into.bursts[asset] = burst
        for at, times in source.pace.items():
            into.pace[at] = into.pace.get(at, 0) + times
        into.tactics |= source.tactics
        into.domains |= source.domains
        into.first_ms, into.last_ms = min(into.first_ms, source.first_ms), max(into.last_ms, source.last_ms)
        into.counted += source.counted
        into.counted_gain += source.counted_gain
        into.reported = into.reported or source.reported
        into.aliases += [*source.aliases, source.id]
        if into.parent is None or into.parent[0] in (source.id, into.id):
            into.parent = source.parent if source.parent is not None and source.parent[0] != into.id else None
        self._mark(into)
        return into, source.id

    def _mark(self, threat: ThreatState) -> None:
        self.changed_threats.add(threat.id)
        if threat.score >= self.settings.watch and threat.root is not None and len(threat.members) == 1:
            threat.reported = True  # a critical finding by itself

    def _idle_ms(self, threat: ThreatState) -> int:
        weak = threat.score < 0 and not threat.reported
        return self.settings.quiet_weak_ms if weak else self.settings.quiet_ms

    def _await(self, threat: ThreatState) -> None:
        heappush(self._due, (threat.last_ms + self._idle_ms(threat), threat.id))

    def advance(self, before_ms: int) -> None:
        """Ends threats that fell idle before a time."""
        while self._due and self._due[0][0] < before_ms:
            _, threat_id = heappop(self._due)
            threat = self.threats.get(threat_id)
            if threat is None:
                continue
            due_ms = threat.last_ms + self._idle_ms(threat)
            if due_ms >= before_ms:
                heappush(self._due, (due_ms, threat_id))
            else:
                self.end(threat)

    def end(self, threat: ThreatState) -> None:
        """The threat no longer grows."""
        self.changed_threats.add(threat.id)
        self._leave(threat)
        del self.threats[threat.id]
        self._member_of.difference_update(threat.members)
        self.closed.append(threat)

    def _evict(self) -> None:
        """Makes room: the lowest score that was never reported, else the one that is silent longest."""
        self.counters["evicted"] += 1
        open_ = [one for one in self.threats.values() if not one.reported]
        if open_:
            self.end(min(open_, key=lambda one: (one.score, one.last_ms, one.id)))
        else:
            self.end(min(self.threats.values(), key=lambda one: (one.last_ms, one.id)))

    # ---- for state.py -----------------------------------------------------------------------------

    def knows(self, finding: str) -> bool:
        """Whether a finding is a member of an open threat."""
        return finding in self._member_of

    def judge(self, threat: ThreatState, verdict: str, at_ms: int) -> None:
        """Learns from a person's verdict on a threat (docs/linking.md, "Feedback")."""
        members = sorted(threat.episodes.values(), key=lambda one: (one.t_ms, one.id))
        if verdict == "benign":
            for number, first in enumerate(members):
                for then in members[number + 1 :]:
                    if then.kind != first.kind:
                        self.rates.pair(first.kind, then.kind, at_ms, HABIT_TIMES)
        elif verdict == "false":
            for one in members:
                self.rates.doubted[one.kind] = at_ms + DOUBT_MS
        elif verdict == "confirmed":
            for one in members:
                self.rates.uncount(one.place, one.kind, at_ms)

    def latest(self, asset: str) -> dict[str, Episode]:
        """The latest episode of each kind on an asset."""
        return self._episodes.get(asset, {})

    def recent(self, asset: str) -> list[Episode]:
        """Latest episodes on an asset, oldest first."""
        return self._recent.get(asset, [])

    def keep(self, asset: str, latest: dict[str, Episode], recent: list[Episode]) -> None:
        """Takes back what `latest` and `recent` gave."""
        self._episodes[asset] = latest
        self._recent[asset] = recent

    def readmit(self, threat: ThreatState, touches: list[tuple[str, Episode, float, tuple[int, int]]]) -> None:
        """Takes an open threat back with what it touched: (asset, episode, ln resp, since)."""
        for link in threat.members.values():
            self._step(threat, link)
        for asset, episode, log_resp, since in touches:
            share = self._share(asset, *since)
            expected = self._expected.get(episode.type, _NOTHING)
            threat.touches[asset] = Touch(asset, episode, log_resp, share, expected, since)
            self._near_by(threat.id, threat.touches[asset])
        self.threats[threat.id] = threat
        self._member_of.update(threat.members)
        self._await(threat)

    # ---- letting go -------------------------------------------------------------------------------

    def settled(self, threat: ThreatState) -> list[Settled]:
        """The parts of a threat that hold together by themselves, the best first.

        A threat grows by links that were the best at their time. Looking back, some led to nothing, and some
        late ones are too weak to hold what they joined: each part is then scored alone. Of a part of many members,
        a side that adds little came in by chance among so many.
        """
        assert threat.root is not None
        counted = threat.counted_gain
        members = self._held(threat, threat.members, threat.notes)
        notes = [note for note in threat.notes if note.source in members and note.target in members]
        links = [*members.values(), *notes]
        holding = [link for link in links if link.source not in members or not self._late(threat, link)]
        groups = _connected(members, holding) if len(holding) < len(links) else []
        if len(groups) < 2:
            parts = [_scored(threat.id, members, notes, threat.root.target, 0.0)]
        else:
            parts = [self._part(threat, members, notes, group) for group in groups]
        if not threat.counted:
            parts = [one for part in parts for one in self._without_sides(threat, part)]
        best, *others = sorted(parts, key=lambda one: (-one.score, -len(one.members), one.root.target))
        return [best._replace(id=threat.id, score=best.score + counted, others_gain=counted), *others]

    def core(self, threat: ThreatState) -> dict[str, Link]:
        """What is told of a threat while it grows: its best part, and each other that is worth telling by itself."""
        best, *others = self.settled(threat)
        core = dict(best.members)
        for part in others:
            if part.score >= self.settings.watch:
                core.update(part.members)
        return core

    def core_score(self, threat: ThreatState) -> float:
        """The score of the best part of a threat."""
        return self.settled(threat)[0].score

    def _held(self, threat: ThreatState, given: dict[str, Link], notes: list[Link]) -> dict[str, Link]:
        """Members without leaves and without a root of weak links.

        Such a member joined on trust and led to nothing, or led to all the rest by one weak link only. The
        member that this link led to is then the root.
        """
        members = dict(given)
        tied = {end for note in notes for end in (note.source, note.target)}
        while True:
            children: dict[str, list[Link]] = {}
            for link in members.values():
                children.setdefault(link.source, []).append(link)
            fringe = [id_ for id_, link in members.items() if self._weak(threat, link) and id_ not in children]
            fringe = [id_ for id_ in fringe if id_ not in tied]
            first = next(iter(children.get("", ())), None)
            if first is not None and len(children[""]) == 1 and first.target not in tied and not fringe:
                led = children.get(first.target, [])
                heavy = threat.episodes[first.target].evidence >= EVIDENCE["high"]
                calm = len(led) == 1 and threat.episodes[led[0].target].calm  # which never opens a threat
                if (
                    len(led) == 1
                    and len(members) > 2
                    and not (heavy or calm)
                    and self._weak(threat, led[0], heavy=True)
                ):
                    fringe = [first.target]
                    members[led[0].target] = self._own_root(threat.episodes[led[0].target])
            if not fringe:
                return members
            for id_ in fringe:
                del members[id_]

    def _late(self, threat: ThreatState, link: Link) -> bool:
        """Whether a link came so late that, weak as it is, it holds no two parts of a threat together."""
        settings = self.settings
        if link.delay_ms < settings.late_ms or link.how in _FIRM or threat.episodes[link.target].calm:
            return False  # what is calm never opens a threat, so it is no part by itself
        return link.x < settings.cost_floor + settings.late_slope * self._passed(link.delay_ms)

    def _weak(self, threat: ThreatState, link: Link, *, heavy: bool = False) -> bool:
        """Whether a link alone does not hold its target. heavy: whatever evidence the target has by itself."""
        settings = self.settings
        limit = max(settings.fringe, settings.cost_floor + settings.fringe_slope * self._passed(link.delay_ms))
        if not link.source or link.how in _FIRM or link.x >= limit:
            return False
        return heavy or threat.episodes[link.target].evidence < EVIDENCE["high"]

    def _own_root(self, episode: Episode) -> Link:
        """What a finding is worth that opens a threat by itself."""
        plain = self._plain_root(episode)
        gain = self._root_gain(episode)
        prior = -self._log_prior
        terms = (*(0.0,) * 6, -episode.root_chance, 0.0, gain - plain, 0.0, 0.0, 0.0, episode.evidence, 0.0, prior)
        return Link("", episode.id, gain, gain, terms, 0, "root")

    def _part(
        self, threat: ThreatState, members: dict[str, Link], notes: list[Link], group: dict[str, None]
    ) -> Settled:
        """A part by itself. Whom a link from elsewhere brought has another link here, or is a root."""
        inside = [note for note in notes if note.source in group and note.target in group]
        strongest = max((note.x for note in inside), default=0.0)
        held: dict[str, Link] = {}
        roots: dict[str, Link] = {}
        for one in group:
            held[one] = link = members[one]
            if link.source in group or (link.source and link.source not in members):
                continue
            others = [note for note in inside if note.target == one] if link.source else []
            if others:
                best = max(others, key=lambda note: (note.x, note.source))
                inside.remove(best)
                held[one] = self._joining(best, threat.episodes[one])
            else:
                roots[one] = self._own_root(threat.episodes[one])
        first = max(roots, key=lambda one: (roots[one].gain, one))
        for one, root in roots.items():
            debt = 0.0 if one == first else self._root_debt(root.gain, strongest) - root.gain
            held[one] = root._replace(gain=root.gain + debt, terms=_owing(root.terms, debt))
        held = self._held(threat, held, inside)
        return _scored(digest("threat", self.site, first), held, inside, first, 0.0)

    def _without_sides(self, threat: ThreatState, part: Settled) -> list[Settled]:
        """A part without what adds little to its many members, and what of that is worth telling by itself."""
        settings, apart = self.settings, []
        while settings.side_from <= len(part.members) <= MANY_SIDES and part.score >= settings.watch:
            least = self._least_side(threat, part)
            if least is None:
                break
            rest, side = least
            alone = self._part(threat, part.members, part.notes, side)
            if alone.score >= settings.watch:
                apart.append(alone)
            part = rest
        return [part, *apart]

    def _least_side(self, threat: ThreatState, part: Settled) -> tuple[Settled, dict[str, None]] | None:
        """(the rest by itself, the side of a link that lacks most); None if each adds what it must."""
        members, notes, episodes, settings = part.members, part.notes, threat.episodes, self.settings
        links = [*(link for link in members.values() if link.source in members), *notes]
        whole, whole_plain = _shown(part), _shown(part, plain=True)
        least: tuple[float, Settled, dict[str, None]] | None = None
        for cut in links:
            if cut.how == "again" or episodes[cut.target].calm:
                continue
            groups = _connected(members, [link for link in links if link is not cut])
            for rest, side in itertools.permutations(groups, 2):
                if any(episodes[one].evidence >= EVIDENCE["high"] for one in side):
                    continue
                alone = self._part(threat, members, notes, rest)
                lacks = max(
                    settings.side - (whole - _shown(alone)),
                    settings.side_plain - (whole_plain - _shown(alone, plain=True)),
                )
                if lacks > 0 and (least is None or lacks > least[0]):
                    least = lacks, alone, side
        return None if least is None else least[1:]

    def _joining(self, note: Link, episode: Episode) -> Link:
        """A link that was only noted, as the one that brings its target in."""
        cost, cap = self._cost(note.delay_ms), min(0.0, self.settings.link_cap - note.x)
        terms = (*note.terms[:OF_X], -cost, cap, 0.0, 0.0, 0.0, episode.evidence, 0.0, 0.0)
        return note._replace(gain=math.fsum(terms), terms=terms, how="link")

    def all_threats(self) -> Iterator[ThreatState]:
        """Ended and open ones, by first finding."""
        yield from sorted((*self.closed, *self.threats.values()), key=lambda one: (one.first_ms, one.id))


def _scored(id_: str, members: dict[str, Link], notes: list[Link], first: str, others_gain: float) -> Settled:
    """first: the root, unless it was let go."""
    root = members[first] if first in members else next(link for link in members.values() if not link.source)
    score = math.fsum([*(link.gain for link in (*members.values(), *notes)), others_gain])
    return Settled(id_, score, root, members, notes, others_gain)


def _shown(part: Settled, *, plain: bool = False) -> float:
    """The score of a part as if none of its members repeated what others show.

    plain: without what level, tactic and domain add to links: some of it most strangers bring, too.
    """
    links = (*part.members.values(), *part.notes)
    shown = math.fsum(link.gain - link.terms[_DISCOUNT] for link in links)
    return shown - math.fsum(math.fsum(link.terms[_BONUS]) for link in links if link.source) if plain else shown


def _connected(members: dict[str, Link], links: list[Link]) -> list[dict[str, None]]:
    """The groups of members that links hold together, by their first, each in the order of members."""
    group = {one: {one} for one in members}
    first = next(iter(members))
    for link in links:
        # a source that is no member was only counted: it was with the first
        one, other = group.get(link.source or link.target, group[first]), group[link.target]
        if one is not other:
            lesser, greater = sorted((one, other), key=len)
            greater |= lesser
            for member in lesser:
                group[member] = greater
    groups: dict[int, dict[str, None]] = {}
    for member, its in group.items():
        groups.setdefault(id(its), {})[member] = None
    return list(groups.values())


_NOTHING: Final[dict[str, float]] = {}
_NO_TOUCH: Final[dict[str, Touch]] = {}


def _either(chance: float, habit: float) -> float:
    """ln of the rate a second at which something comes by chance (given as its ln) or by a habit."""
    return math.log(math.exp(chance) + habit) if habit > 0 else chance


def _owing(terms: tuple[float, ...], debt: float) -> tuple[float, ...]:
    """The terms of a root that does not count in full."""
    return (*terms[:_UNCOUNTED], debt, *terms[_UNCOUNTED + 1 :])


def _link(source: str, target: str, x: float, terms: tuple[float, ...], delay_ms: int, how: str) -> Link:
    """A link that is told but adds nothing."""
    extra = (0.0,) * 6 + (-math.fsum(terms), 0.0)
    return Link(source, target, x, 0.0, terms + extra, delay_ms, how)
