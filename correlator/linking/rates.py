"""How common a finding is, learned from the stream itself in event time.

Decayed counts of (kind, asset), (kind, class on a floor), (kind, class) and kind give a rate by
shrinkage; its surprise falls into a bin; a decayed histogram of bins per asset and for the site says
how often anything at least that surprising happens here. That tail, not the rate, is the chance side
of every link (docs/linking.md). Counts are kept as (value, time) and decayed when read. Times are ms,
rates per second.
"""

from __future__ import annotations

import math
from datetime import tzinfo
from typing import Final

from correlator.clock import DAY_MS, HOUR_MS, local
from correlator.linking.settings import LinkingSettings

BINS: Final = 54  # floor(2 (s + 20)) for s up to the cap of 6, and one to spare
HOUR_PSEUDO: Final = 6.0  # findings' worth of trust in the next coarser profile of the day
REBASE: Final = 40.0  # half-lives' exponent after which inflated counts are brought down again
MAX_BURST_KINDS: Final = 32
OTHER_KINDS: Final = "other kinds"  # what is counted under one name once there is no room for more
DECAYED: Final = 0.01  # a count below this has been forgotten
WHO: Final = "who "  # before an asset and its class where findings name it: its own rates, a population of its own

Count = list[float]  # [value, time ms]


class KindState:
    """What is known of a kind: its count, its day, counts by class and floor, what comes along with it."""

    __slots__ = ("count", "first_ms", "groups", "hours", "pairs", "recent")

    def __init__(self, first_ms: int) -> None:
        self.first_ms = first_ms
        self.count: Count = [0.0, float(first_ms)]
        self.hours: list[float] = [0.0] * 24
        self.groups: dict[str, Count] = {}
        self.pairs: dict[str, Count] = {}
        self.recent: dict[str, Count] = {}


class AssetState:
    """What is known of an asset: counts by kind, its tail, its present burst."""

    __slots__ = ("asset", "burst_bin", "burst_kinds", "burst_ms", "cls", "floor", "rates", "tail",
                 "tail_ms")  # fmt: skip

    def __init__(self, asset: str, cls: str, floor: str) -> None:
        self.asset = asset
        self.cls = cls
        self.floor = floor
        self.rates: dict[str, Count] = {}
        self.tail: dict[int, float] = {}
        self.tail_ms = 0
        self.burst_ms = -(1 << 60)
        self.burst_bin = -1
        self.burst_kinds: list[str] = []


class Rates:
    """Rates of one site. timezone: for the wall clock's hour."""

    def __init__(self, settings: LinkingSettings, timezone: tzinfo) -> None:
        self.settings = settings
        self.zone = timezone
        self.tau_ms = settings.rate_half_life_ms / math.log(2)
        self.tail_tau_ms = settings.tail_half_life_ms / math.log(2)
        self.surge_tau_ms = (settings.surge_half_life_ms or HOUR_MS) / math.log(2)
        self.rho = settings.rate_pseudo_ms / 1000
        self.tail_rho = settings.tail_pseudo_ms / 1000
        self.start_ms = -1
        self.heard: list[str] = []  # classes in the order in which something was first heard of one
        self.doubted: dict[str, int] = {}  # kind -> until when its evidence counts for less
        self.changed_kinds: set[str] = set()
        self.kinds: dict[str, KindState] = {}
        self.assets: dict[str, AssetState] = {}
        self.of_class: dict[str, int] = {}
        self.named = 0  # of `assets`: badges, persons and accounts as findings name them
        self.pairs_kept = 0
        self.counters: dict[str, int] = {"kinds_shared": 0, "rates_dropped": 0}
        self.tail: list[float] = [0.0] * BINS
        self.class_tail: dict[str, list[float]] = {}
        self.tail_ms = 0
        self.hours: list[float] = [0.0] * 24
        self._hour_at: dict[int, int] = {}

    # ---- reading ----------------------------------------------------------------------------------

    def rate(self, state: AssetState, kind: str, t_ms: int) -> tuple[float, float]:
        """(rate per second of this kind on this asset, surprise s in nats), before it is counted."""
        tau_ms, rho, settings, exp = self.tau_ms, self.rho, self.settings, math.exp
        time = tau_ms / 1000 * (1 - exp((self.start_ms - t_ms) / tau_ms))
        assets = self.number_like(state)
        known = self.kinds.get(kind)
        if known is None:
            kind = self.name_of(kind)
            known = self.kinds.get(kind)
        n_kind = n_class = n_floor = 0.0
        hour = 1.0
        if known is not None:
            value, at_ms = known.count
            n_kind = value * exp((at_ms - t_ms) / tau_ms)
            group = known.groups.get(state.cls)
            if group is not None:
                n_class = group[0] * exp((group[1] - t_ms) / tau_ms)
            group = known.groups.get(state.floor)
            if group is not None:
                n_floor = group[0] * exp((group[1] - t_ms) / tau_ms)
            if settings.hours:
                hour = self.hour_factor(known, t_ms)
        own = state.rates.get(kind)
        n_own = own[0] * exp((own[1] - t_ms) / tau_ms) if own is not None else 0.0
        shape = settings.rate_shape
        if shape:
            rate = (n_kind + 0.5) / (time * assets + rho)
            n = self.of_class[state.cls]
            rate = (n_class + shape) / (time * n + shape / rate)
            n = self.of_class[state.floor]
            rate = (n_floor + 2.0) / (time * n + 2.0 / rate) if settings.floors else rate
            rate = (n_own + shape) / (time + shape / rate) * hour
        else:
            rate = (n_kind + rho / ((time + rho) * assets)) / (time * assets + rho)
            rate = (n_class + rate * rho) / (time * self.of_class[state.cls] + rho)
            if settings.floors:
                rate = (n_floor + rate * rho) / (time * self.of_class[state.floor] + rho)
            rate = (n_own + rate * rho) / (time + rho) * hour
        surprise = -math.log(rate * (time + rho))
        return rate, min(settings.surprise_cap, surprise)

    def hour_factor(self, kind: KindState, t_ms: int) -> float:
        """How much more often than on the mean of the day this kind comes at this hour."""
        hour = self.hour_of(t_ms)
        begin = self.hour_of(self.start_ms)
        passed, rest = divmod((t_ms - self.start_ms) / HOUR_MS, 24)
        before, after = hour - 1, (hour + 1) % 24
        # The part of a day's hours that was heard: this one twice, its neighbours once.
        part = rest - (hour - begin) % 24
        exposure = 4 * passed + 2 * (1.0 if part >= 1.0 else max(0.0, part))
        part = rest - (before - begin) % 24
        exposure += 1.0 if part >= 1.0 else max(0.0, part)
        part = rest - (after - begin) % 24
        exposure += 1.0 if part >= 1.0 else max(0.0, part)
        exposure /= 4 * max(passed * 24 + rest, 1e-9)
        site, own = self.hours, kind.hours
        here = (2 * site[hour] + site[before] + site[after]) / 4
        factor = (here + HOUR_PSEUDO) / (sum(site) * exposure + HOUR_PSEUDO)
        here = (2 * own[hour] + own[before] + own[after]) / 4
        return (here + HOUR_PSEUDO * factor) / (sum(own) * exposure + HOUR_PSEUDO)

    def hour_of(self, t_ms: int) -> int:
        """Hour of the day by the wall clock of the site."""
        at = t_ms // HOUR_MS
        hour = self._hour_at.get(at)
        if hour is None:
            if len(self._hour_at) > 10_000:
                self._hour_at.clear()
            hour = self._hour_at[at] = local(t_ms, self.zone).hour
        return hour

    @staticmethod
    def bin_of(surprise: float) -> int:
        """The bin of the tail's histogram."""
        return min(max(math.floor(2 * (surprise + 20)), 0), BINS - 1)

    def tail_rates(self, state: AssetState, bin_: int, t_ms: int) -> tuple[float, float]:
        """(R_site, R_asset): how often a second anything at least as surprising happens, site and asset."""
        tau_ms, rho, settings = self.tail_tau_ms, self.tail_rho, self.settings
        time = tau_ms / 1000 * (1 - math.exp((self.start_ms - t_ms) / tau_ms)) + rho
        assets = self.number_like(state)
        decay = math.exp((self.tail_ms - t_ms) / tau_ms)
        above = math.fsum(self.tail[bin_:]) * decay
        site = (above + 1) / time
        above = 0.0
        if state.tail:
            above = math.fsum([n for at, n in state.tail.items() if at >= bin_])
            above *= math.exp((state.tail_ms - t_ms) / tau_ms)
        shape = settings.tail_shape
        if not shape:
            asset = (above + site * rho / assets) / time
            return site, max(asset, 1 / (assets * time))
        mean = site / assets
        k = settings.tail_class
        if k:
            group = self.class_tail.get(state.cls)
            if group is not None:
                of_class = math.fsum(group[bin_:]) * decay
                mean = (of_class + k) / ((time - rho) * self.of_class[state.cls] + k / mean)
        return site, (above + shape) / (time - rho + shape / mean)

    def surge(self, state: AssetState, kind: str, t_ms: int) -> float:
        """Rate per second and asset by which a kind is in spate on this class and floor right now.

        A drill or a detector's bad day makes one kind come everywhere; then one more proves little. The
        first two of a kind are no spate.
        """
        known = self.kinds.get(kind) or self.kinds.get(self.name_of(kind))
        if known is None:
            return 0.0
        most, tau_ms = 0.0, self.surge_tau_ms
        for group in (state.cls, state.floor):
            count = known.recent.get(group)
            if count is not None:
                n = count[0] * math.exp((count[1] - t_ms) / tau_ms) - 1.0
                if n > 0:
                    most = max(most, n / (self.of_class[group] * tau_ms / 1000))
        age_ms = t_ms - known.first_ms
        if age_ms < DAY_MS:  # a new detector: its own short life says how common it is
            n = known.count[0]
            most = max(most, n / (self.of_class[state.cls] * (age_ms + HOUR_MS) / 1000))
        return most

    def habit(self, first: str, then: str, t_ms: int) -> float:
        """How often `then` came in one burst after `first`, of the times that `first` came."""
        known = self.kinds.get(self.name_of(first))
        pair = known.pairs.get(self.name_of(then)) if known is not None else None
        if known is None or pair is None:
            return 0.0
        tau_ms = self.tau_ms
        n_pair = pair[0] * math.exp((pair[1] - t_ms) / tau_ms)
        n_first = known.count[0] * math.exp((known.count[1] - t_ms) / tau_ms)
        return n_pair / (n_first + 1)

    def name_of(self, kind: str) -> str:
        """The name under which a kind is counted: its own, or that of all for which there is no room."""
        return kind if kind in self.kinds or len(self.kinds) < self.settings.max_kinds else OTHER_KINDS

    def number_like(self, state: AssetState) -> int:
        """How many assets were seen; of those that findings name, how many of these."""
        return self.named if state.cls.startswith(WHO) else len(self.assets) - self.named

    # ---- counting ---------------------------------------------------------------------------------

    def asset(self, asset: str, cls: str, floor: str) -> AssetState:
        """A new asset's state; it counts as seen from now on."""
        state = self.assets[asset] = AssetState(asset, cls, f"{cls}@{floor}")
        if cls.startswith(WHO):
            self.named += 1
        elif cls not in self.of_class:
            self.heard.append(cls)
        self.of_class[cls] = self.of_class.get(cls, 0) + 1
        self.of_class[state.floor] = self.of_class.get(state.floor, 0) + 1
        return state

    def count(self, state: AssetState, kind: str, t_ms: int, of_day: bool = True) -> None:
        """Counts an episode, at its onset and once more per gap that it goes on.

        of_day: it tells something of the rhythm of the day; what never stops does not.
        """
        tau_ms, surge_tau_ms, own = self.tau_ms, self.surge_tau_ms, self.name_of(kind)
        self.counters["kinds_shared"] += own != kind
        kind = own
        self.changed_kinds.add(kind)
        known = self.kinds.get(kind)
        if known is None:
            known = self.kinds[kind] = KindState(t_ms)
        _add(known.count, 1.0, t_ms, tau_ms)
        for group in (state.cls, state.floor):
            for counts, its_tau_ms in ((known.recent, surge_tau_ms), (known.groups, tau_ms)):
                count = counts.get(group)
                if count is None:
                    counts[group] = [1.0, float(t_ms)]
                else:
                    _add(count, 1.0, t_ms, its_tau_ms)
        count = state.rates.get(kind)
        if count is None:
            self._keep(state, kind, t_ms)
        else:
            _add(count, 1.0, t_ms, tau_ms)
        if of_day:
            hour = self.hour_of(t_ms)
            known.hours[hour] += 1
            self.hours[hour] += 1

    def _keep(self, state: AssetState, kind: str, t_ms: int) -> None:
        """Begins the count of a kind on an asset, where there is room: those that are there are never pushed out.

        What has decayed on this asset goes first; without room the kind counts in its class and floor alone.
        """
        if self.pairs_kept >= self.settings.max_rates:
            gone = [one for one, (n, at) in state.rates.items() if n * math.exp((at - t_ms) / self.tau_ms) < DECAYED]
            for one in gone:
                del state.rates[one]
            self.pairs_kept -= len(gone)
        if self.pairs_kept >= self.settings.max_rates:
            self.counters["rates_dropped"] += 1
            return
        state.rates[kind] = [1.0, float(t_ms)]
        self.pairs_kept += 1

    def count_burst(self, state: AssetState, kind: str, bin_: int, t_ms: int) -> None:
        """Counts a new episode in the tail (one count a burst: its highest bin) and among the habits."""
        kind = self.name_of(kind)
        if t_ms - state.burst_ms > self.settings.burst_ms:
            state.burst_ms, state.burst_bin, state.burst_kinds = t_ms, bin_, [kind]
            self._count_tail(state, bin_, t_ms)
            return
        for first in state.burst_kinds:
            self.pair(first, kind, t_ms, 1.0)
        if len(state.burst_kinds) < MAX_BURST_KINDS and kind not in state.burst_kinds:
            state.burst_kinds.append(kind)
        if bin_ > state.burst_bin:
            self._count_tail(state, state.burst_bin, state.burst_ms, -1.0)
            self._count_tail(state, bin_, state.burst_ms)
            state.burst_bin = bin_

    def count_anchor(self, state: AssetState, bin_: int, t_ms: int) -> None:
        """Counts an episode in the tail of a further anchor: not the site's, which has it by its asset."""
        self._count_tail(state, bin_, t_ms, of_site=False)

    def pair(self, first: str, then: str, t_ms: int, times: float) -> None:
        """Counts an ordered pair of kinds as a habit."""
        first, then = self.name_of(first), self.name_of(then)
        self.changed_kinds.add(first)
        pairs = self.kinds[first].pairs
        count = pairs.get(then)
        if count is None:
            pairs[then] = [times, float(t_ms)]
        else:
            _add(count, times, t_ms, self.tau_ms)

    def uncount(self, state: AssetState, kind: str, t_ms: int) -> None:
        """Takes one count back: what a confirmed attack did is no base rate."""
        kind = self.name_of(kind)
        known = self.kinds[kind]
        self.changed_kinds.add(kind)
        own = state.rates.get(kind)
        for count in (known.count, known.groups[state.cls], known.groups[state.floor], *([own] if own else [])):
            _add(count, -1.0, t_ms, self.tau_ms)
            count[0] = max(0.0, count[0])

    def _count_tail(self, state: AssetState, bin_: int, t_ms: int, times: float = 1.0, *, of_site: bool = True) -> None:
        tau_ms = self.tail_tau_ms
        if (t_ms - self.tail_ms) / tau_ms > REBASE:
            factor = math.exp((self.tail_ms - t_ms) / tau_ms)
            self.tail = [n * factor for n in self.tail]
            self.class_tail = {cls: [n * factor for n in tail] for cls, tail in self.class_tail.items()}
            self.tail_ms = t_ms
        weight = times * math.exp((t_ms - self.tail_ms) / tau_ms)
        if of_site:
            self.tail[bin_] = max(0.0, self.tail[bin_] + weight)
        group = self.class_tail.get(state.cls)
        if group is None:
            group = self.class_tail[state.cls] = [0.0] * BINS
        group[bin_] = max(0.0, group[bin_] + weight)
        if (t_ms - state.tail_ms) / tau_ms > REBASE:
            factor = math.exp((state.tail_ms - t_ms) / tau_ms)
            state.tail = {at: n * factor for at, n in state.tail.items()}
            state.tail_ms = t_ms
        value = state.tail.get(bin_, 0.0) + times * math.exp((t_ms - state.tail_ms) / tau_ms)
        state.tail[bin_] = max(0.0, value)


def _add(count: Count, times: float, t_ms: int, tau_ms: float) -> None:
    value, at_ms = count
    if t_ms >= at_ms:
        count[0] = value * math.exp((at_ms - t_ms) / tau_ms) + times
        count[1] = t_ms
    else:  # a late one counts for less
        count[0] = value + times * math.exp((t_ms - at_ms) / tau_ms)
