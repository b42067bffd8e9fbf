"""All paths from what happened to what it leads to, and how likely each end is: the quantitative mode.

A path starts at a seed (a state that was found: a threat on an asset), takes one step of a rule after the
other, never comes back to an asset it left, and is followed while its likelihood, the product of its
steps, stays above the cutoff. Paths are kept as a tree of *labels*: a label is one state as reached by one
path. From the tree:

    likelihood of a state   the chance that at least one of its paths comes off; a step that several paths
                            share counts once, separate steps count as independent
    best path               its likeliest label
    time to impact          quantiles over its paths, weighted by their likelihood

so a state is never likelier than what all paths to it have in common, a circle cannot lift itself, and a
further protection can only lower things. Numbers are whole parts per million; ln(1 - x) is summed as a
whole number, so no sum depends on its order. What `revise` gives is therefore exactly what starting anew
gives (as long as no bound is met; with a bound met it does start anew).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from math import exp, isqrt, log1p
from typing import Final

from correlator.impact.conditions import NOTHING, Conditions
from correlator.impact.graph import THREAT_NUMBER, THREATS
from correlator.impact.rules import PPM
from correlator.impact.settings import ImpactSettings
from correlator.impact.table import Bearing, Link, Record, RuleTable

_SCALE: Final = 1 << 40  # units of one nat
_CERTAIN: Final = 40 * _SCALE  # -ln(1 - 1), large enough that nothing is left of it in ppm
UNAVAILABLE: Final = THREAT_NUMBER["service-unavailable"]
ROOT: Final = -1

Look = Callable[[Bearing], frozenset[int]]


def log_missed(ppm: int) -> int:
    """-ln(1 - x) of a likelihood in ppm, in units of 2^-40 nat."""
    return round(-log1p(-ppm / PPM) * _SCALE) if ppm < PPM else _CERTAIN


def from_log(log: int) -> int:
    """The likelihood in ppm whose `log_missed` this is."""
    return PPM if log >= _CERTAIN else round(PPM * (1.0 - exp(-log / _SCALE)))


class Paths:
    """What follows from some seeds under some conditions, kept so that it can be revised.

    Labels are numbers; a parent's is smaller than its children's. Per label:
    states, parents    the state, and the label before it (ROOT at a seed)
    steps, products    ppm of the last step, and of the whole path
    numbers            number of the rule of the last step, -1 at a seed
    Per state: `labels_of`. `ends`: labels that stop a service, service -> [(label, ppm of the step,
    number of the rule)].

    visited   states whose paths the last `revise` looked at; all others keep their likelihood
    refused   paths not followed because a bound was met
    at_services  states of services that are reached, without their unavailability
    stale     services some path to which changed since `known_hits` was written (`services_hit` does both)
    """

    def __init__(self, rules: RuleTable, settings: ImpactSettings) -> None:
        self.rules = rules
        self.settings = settings
        self.epoch = -1
        self.conditions = NOTHING
        self.seeds: dict[int, int] = {}
        self.states: list[int] = []
        self.parents: list[int] = []
        self.steps: list[int] = []
        self.products: list[int] = []
        self.numbers: list[int] = []
        self.labels_of: dict[int, list[int]] = {}
        self.ends: dict[int, list[tuple[int, int, int]]] = {}
        self.refused = 0
        self.visited: set[int] = set()
        self.stale: set[int] = set()
        self.at_services: set[int] = set()
        self.known_hits: dict[int, tuple[object, int]] = {}
        self._children: dict[int, list[int]] | None = None  # made when a path is first taken away
        self._stopped_by: dict[int, list[int]] = {}  # label -> services, made with the children
        self._links: dict[int, tuple[Link, ...]] = {}
        self._touched: frozenset[int] = frozenset()
        self._look: Look | None = None
        self.looked: set[Bearing] = set()  # what `look` was called with
        self._records: dict[int, Record] = {}
        self._dead = 0
        self._likelihood: dict[int, int] = {}
        self._cutoff = round(settings.cutoff * PPM)

    # ---- what follows --------------------------------------------------------------------------

    @property
    def reached(self) -> Iterable[int]:
        """Every state that some path reaches, without the unavailability of services."""
        return self.labels_of

    def likelihood(self, state: int) -> int:
        """The likelihood of a state in ppm, 0 if no path reaches it (services: see `Services`)."""
        found = self._likelihood.get(state)
        if found is None:
            labels = self.labels_of.get(state)
            if labels is None:
                return 0
            found = self.products[labels[0]] if len(labels) == 1 else self.union([(one, PPM) for one in labels])
            self._likelihood[state] = found
        return found

    def union(self, ends: Sequence[tuple[int, int]], under: int = ROOT) -> int:
        """The chance that at least one of these (label, ppm of a further step) comes off, ppm.

        under: given that this label has come off; labels that do not follow from it are left out.
        """
        parents, steps = self.parents, self.steps
        if len(ends) == 1:  # nothing to put together
            label, chance = ends[0]
            while label not in (under, ROOT):
                chance = chance * steps[label] // PPM
                label = parents[label]
            return chance if label == under else 0
        value: dict[int, int] = {}  # label -> chance of what was seen below it, ppm
        logs: dict[int, int] = {}  # the same as a logarithm, where several things are below
        queue: list[int] = []
        for label, ppm in ends:
            if label not in value:
                value[label] = ppm
                queue.append(-label)
            else:
                logs[label] = logs.get(label, log_missed(value[label])) + log_missed(ppm)
        heapq.heapify(queue)
        total = 0
        while queue:
            label = -heapq.heappop(queue)
            chance = from_log(logs[label]) if label in logs else value[label]
            # Along a stretch without branches nothing has to be put back into the queue.
            while True:
                if label == under:
                    return chance
                chance = chance * steps[label] // PPM
                parent = parents[label]
                if parent == ROOT:
                    total += log_missed(chance)
                    break
                if parent in value:
                    logs[parent] = logs.get(parent, log_missed(value[parent])) + log_missed(chance)
                    break
                if queue and parent < -queue[0]:
                    value[parent] = chance
                    heapq.heappush(queue, -parent)
                    break
                label = parent
        return from_log(total) if under == ROOT else 0

    def path(self, label: int) -> list[int]:
        """The labels from the seed to this one."""
        found = [label]
        while self.parents[found[-1]] != ROOT:
            found.append(self.parents[found[-1]])
        return found[::-1]

    def best(self, state: int) -> int:
        """The label of the likeliest path to a state; of equal ones the shortest, then by its states."""
        return min(self.labels_of[state], key=self._order)

    def _order(self, label: int) -> tuple[int, int, list[int]]:
        path = self.path(label)
        return -self.products[label], len(path), [self.states[one] for one in path]

    def times_ms(self, label: int) -> tuple[int, int, int]:
        """p10, p50, p90 of the time from the seed to the end of one path: the middles add, the spreads add
        in squares, as those of independent delays do."""
        middle = low = high = 0
        path = self.path(label)
        for before, after in pairwise(path):
            p10, p50, p90 = self.rules.delay_ms(self.states[before], self.numbers[after], self.states[after])
            middle += p50
            low += (p50 - p10) ** 2
            high += (p90 - p50) ** 2
        return max(0, middle - isqrt(low)), middle, middle + isqrt(high)

    # ---- revising ------------------------------------------------------------------------------

    def revise(self, seeds: Mapping[int, int], conditions: Conditions, epoch: int, look: Look | None = None) -> None:
        """Becomes what follows from these seeds (state -> ppm) under these conditions; costs what changes.

        look: called with what bears on the steps of a state before they are first weighed, once for the same; it
        may add to the conditions and returns the assets it added something about.
        Afterwards `visited` holds the states whose paths changed: those whose likelihood may differ.
        """
        self.visited = set()
        self._look = look
        self._records = self.rules.records(epoch)
        if epoch != self.epoch or self.refused or self._dead > len(self.states) // 2 + 1_000:
            self._anew(seeds, conditions, epoch)
        else:
            if conditions != self.conditions:
                self._change(conditions)
            self.conditions = conditions  # the same to the letter, but the object that `look` adds to
            self._reseed(seeds)
            if self.refused:
                self._anew(seeds, conditions, epoch)
        self._note(self.visited)

    def _note(self, states: Iterable[int]) -> None:
        """Forgets likelihoods that may differ, and keeps `at_services`."""
        services, reached = self.rules.services, self.labels_of
        for state in states:
            self._likelihood.pop(state, None)
            if state // THREATS in services and state % THREATS != UNAVAILABLE:
                if state in reached:
                    self.at_services.add(state)
                else:
                    self.at_services.discard(state)

    def _anew(self, seeds: Mapping[int, int], conditions: Conditions, epoch: int) -> None:
        self.visited.update(self.labels_of)
        for column in (self.states, self.parents, self.steps, self.products, self.numbers):
            column.clear()
        for table in (self.labels_of, self.ends, self._links, self.known_hits):
            table.clear()
        self._children = None
        self.refused = self._dead = 0
        self.seeds = {}
        self.conditions, self.epoch = conditions, epoch
        self._touched = self._touches(conditions)
        self._reseed(seeds)
        if self.refused:
            self._likeliest(seeds)

    def _reseed(self, seeds: Mapping[int, int]) -> None:
        for state in [one for one, ppm in self.seeds.items() if seeds.get(one) != ppm]:
            for label in [one for one in self.labels_of.get(state, ()) if self.parents[one] == ROOT]:
                self._remove(label)
        for state in sorted(one for one, ppm in seeds.items() if self.seeds.get(one) != ppm):
            self._grow(self._add(ROOT, state, seeds[state], seeds[state], -1))
        self.seeds = dict(seeds)

    # ---- barriers on trial ---------------------------------------------------------------------

    def stricter(self, conditions: Conditions) -> Paths:
        """Of these paths those that lead to a service, under conditions that only add barriers.

        Exact, because a barrier only lowers likelihoods: no path appears that was not there. The copy can
        be asked and made stricter again, not revised.
        """
        copy = Paths(self.rules, self.settings)
        copy.epoch, copy.seeds, copy.conditions = self.epoch, self.seeds, conditions
        copy._records = self.rules.records(self.epoch)
        copy._touched = copy._touches(conditions)
        renamed: dict[int, int] = {}
        for label in self._leading_to_services():
            state, parent = self.states[label], self.parents[label]
            if parent == ROOT:
                renamed[label] = copy._add(ROOT, state, self.steps[label], self.products[label], -1)
            elif parent in renamed:
                step = copy._step_now(self.states[parent], state, self.steps[label])
                product = copy.products[renamed[parent]] * step // PPM
                if product >= self._cutoff:
                    renamed[label] = copy._add(renamed[parent], state, step, product, self.numbers[label])
        for service, ends in self.ends.items():
            to = service * THREATS + UNAVAILABLE
            for label, step, number in ends:
                if label in renamed:
                    now = copy._step_now(self.states[label], to, step)
                    if copy.products[renamed[label]] * now // PPM >= self._cutoff:
                        copy.ends.setdefault(service, []).append((renamed[label], now, number))
        copy._note(copy.labels_of)
        return copy

    def _leading_to_services(self) -> list[int]:
        wanted: set[int] = set()
        services = self.rules.services
        tips = [label for ends in self.ends.values() for label, _, _ in ends]
        for state, labels in self.labels_of.items():
            if state // THREATS in services:
                tips += labels
        for label in tips:
            while label != ROOT and label not in wanted:
                wanted.add(label)
                label = self.parents[label]
        return sorted(wanted)

    def _step_now(self, source: int, to: int, step: int) -> int:
        if source // THREATS not in self._touched and to // THREATS not in self._touched:
            return step
        return self.rules.step(source, to, self.epoch, self.conditions)

    # ---- labels --------------------------------------------------------------------------------

    def _add(self, parent: int, state: int, step: int, product: int, number: int) -> int:
        label = len(self.states)
        self.states.append(state)
        self.parents.append(parent)
        self.steps.append(step)
        self.products.append(product)
        self.numbers.append(number)
        labels = self.labels_of.get(state)
        if labels is None:
            self.labels_of[state] = [label]
        else:
            labels.append(label)
        if self._children is not None and parent != ROOT:
            self._children.setdefault(parent, []).append(label)
        self.visited.add(state)
        return label

    def _grow(self, start: int) -> None:
        """Follows every path on from a label."""
        stack = [start]
        states, products, parents, cutoff = self.states, self.products, self.parents, self._cutoff
        services, all_links, labels_of = self.rules.services, self._links, self.labels_of
        children = self._children
        # As `_add`, written out below: that runs for every step of every path.
        add_state, add_parent, add_product = states.append, parents.append, products.append
        add_step, add_number = self.steps.append, self.numbers.append
        most = self.settings.max_paths + self._dead
        rules, epoch = self.rules, self.epoch
        bounds = rules.bounds(epoch)
        first = new = len(states)
        while stack:
            label = stack.pop()
            state, product = states[label], products[label]
            links = all_links.get(state)
            if links is None:
                bound = bounds.get(state)
                if bound is None:
                    bound = rules.bound(state, epoch)
                if product * bound // PPM < cutoff:
                    continue  # nothing can follow, so nothing has to be looked at
                links = self.links(state)
            own = state // THREATS
            left: set[int] | None = None
            for to, step, number in links:
                sent = product * step // PPM
                if sent < cutoff:
                    break  # the likeliest come first
                asset = to // THREATS
                if asset in services and to % THREATS == UNAVAILABLE:
                    if own not in services or state % THREATS != UNAVAILABLE:  # that is for `services_hit`
                        self._end(asset, label, step, number)
                    continue
                if left is None:  # assets of the path so far; it does not come back to one it left
                    left = {own}
                    before = parents[label]
                    while before != ROOT:
                        left.add(states[before] // THREATS)
                        before = parents[before]
                if asset in left and (asset != own or self._was_there(label, to)):
                    continue
                if new >= most:
                    self.refused += 1
                    self.visited.update(states[first:])
                    return
                add_state(to)
                add_parent(label)
                add_step(step)
                add_product(sent)
                add_number(number)
                labels = labels_of.get(to)
                if labels is None:
                    labels_of[to] = [new]
                else:
                    labels.append(new)
                if children is not None:
                    children.setdefault(label, []).append(new)
                stack.append(new)
                new += 1
        self.visited.update(states[first:])

    def _was_there(self, label: int, state: int) -> bool:
        while label != ROOT:
            if self.states[label] == state:
                return True
            label = self.parents[label]
        return False

    def _end(self, service: int, label: int, step: int, number: int) -> None:
        self.ends.setdefault(service, []).append((label, step, number))
        if self._children is not None:
            self._stopped_by.setdefault(label, []).append(service)
        self.visited.add(service * THREATS + UNAVAILABLE)
        self.stale.add(service)

    def _remove(self, start: int) -> None:
        """Takes a label and all paths through it away."""
        parent, children = self.parents[start], self._all_children()
        if parent != ROOT:
            children[parent].remove(start)
        stack, gone = [start], set()
        while stack:
            label = stack.pop()
            gone.add(label)
            stack += children.pop(label, ())
            state = self.states[label]
            self.visited.add(state)
            labels = self.labels_of[state]
            labels.remove(label)
            if not labels:
                del self.labels_of[state]
        self._dead += len(gone)
        for service in sorted({one for label in gone for one in self._stopped_by.pop(label, ())}):
            self.visited.add(service * THREATS + UNAVAILABLE)
            self.stale.add(service)
            kept = [end for end in self.ends.get(service, ()) if end[0] not in gone]
            if kept:
                self.ends[service] = kept
            else:
                self.ends.pop(service, None)

    def _all_children(self) -> dict[int, list[int]]:
        if self._children is None:
            self._children = {}
            for state in self.labels_of:
                for label in self.labels_of[state]:
                    if self.parents[label] != ROOT:
                        self._children.setdefault(self.parents[label], []).append(label)
            self._stopped_by = {}
            for service, ends in self.ends.items():
                for label, _, _ in ends:
                    self._stopped_by.setdefault(label, []).append(service)
        return self._children

    def _likeliest(self, seeds: Mapping[int, int]) -> None:
        """With too many paths: the likeliest ones, as many as the bound allows. The rest is counted."""
        for column in (self.states, self.parents, self.steps, self.products, self.numbers):
            column.clear()
        for table in (self.labels_of, self.ends):
            table.clear()
        self._children = None
        self.refused = self._dead = 0
        heap: list[tuple[int, int, int, int, int]] = []
        for state in sorted(seeds):
            heapq.heappush(heap, (-seeds[state], ROOT, state, seeds[state], -1))
        most = self.settings.max_paths
        while heap:
            negative, parent, state, step, number = heapq.heappop(heap)
            if len(self.states) >= most:
                self.refused += len(heap) + 1
                return
            label = self._add(parent, state, step, -negative, number)
            on_path = {self.states[one] // THREATS for one in self.path(label)}
            own = state // THREATS
            for to, ppm, rule in self.links(state):
                sent = -negative * ppm // PPM
                if sent < self._cutoff:
                    continue
                asset, threat = divmod(to, THREATS)
                if threat == UNAVAILABLE and asset in self.rules.services:
                    self._end(asset, label, ppm, rule)
                elif asset not in on_path or (asset == own and not self._was_there(label, to)):
                    if len(heap) < 4 * most:
                        heapq.heappush(heap, (-sent, label, to, ppm, rule))
                    else:
                        self.refused += 1

    # ---- conditions ----------------------------------------------------------------------------

    def _touches(self, conditions: Conditions) -> frozenset[int]:
        touched = set(conditions.eased) | set(conditions.barriers)
        for asset in conditions.dark:
            touched.update(self.rules.protections.by_giver.get(asset, ()))
        return frozenset(touched)

    def _change(self, conditions: Conditions) -> None:
        """Takes new conditions and follows anew what their change touches."""
        near: set[int] = set()
        for asset in self._moved(conditions):
            near.add(asset)
            near.update(self.rules.graph.neighbours_of(asset))
        sources = [state for state in self.labels_of if state // THREATS in near]
        before = {state: self._links.get(state) or self.links(state) for state in sources}
        self.conditions, self._touched = conditions, self._touches(conditions)
        for state in [one for one in self._links if one // THREATS in near]:
            del self._links[state]
        for state, links in before.items():
            now = self.links(state)
            if now == links:
                continue
            was = {to: step for to, step, _ in links}
            different = [link for link in now if was.get(link[0]) != link[1]]
            if different:
                self._follow_again(state, different)

    def _moved(self, conditions: Conditions) -> set[int]:
        """Assets the steps to and from which may have become more or less likely."""
        old = self.conditions
        moved = set(old.eased ^ conditions.eased)
        for asset in old.barriers.keys() | conditions.barriers.keys():
            if old.barriers.get(asset) != conditions.barriers.get(asset):
                moved.add(asset)
        for asset in old.dark ^ conditions.dark:
            moved.update(self.rules.protections.by_giver.get(asset, ()))
        return moved

    def _follow_again(self, state: int, links: list[Link]) -> None:
        """These steps from a state became more or less likely: paths over them are taken away and followed anew."""
        targets = {to for to, _, _ in links}
        for label in list(self.labels_of.get(state, ())):
            for child in [one for one in self._all_children().get(label, ()) if self.states[one] in targets]:
                self._remove(child)
            for to, step, number in links:
                asset, threat = divmod(to, THREATS)
                if threat == UNAVAILABLE and asset in self.rules.services:
                    kept = [end for end in self.ends.get(asset, ()) if end[0] != label]
                    self.ends[asset] = kept
                    self.visited.add(to)
                    self.stale.add(asset)
                    if self.products[label] * step // PPM >= self._cutoff:
                        self._end(asset, label, step, number)
                    elif not kept:
                        del self.ends[asset]
                    continue
                sent = self.products[label] * step // PPM
                on_path = {self.states[one] // THREATS for one in self.path(label)}
                if sent < self._cutoff or (
                    asset in on_path and (asset != state // THREATS or self._was_there(label, to))
                ):
                    continue
                self._grow(self._add(label, to, step, sent, number))

    def links(self, state: int) -> tuple[Link, ...]:
        """What a state leads to as things stand, with likelihoods in ppm."""
        found = self._links.get(state)
        if found is None:
            record = self._records.get(state) or self.rules.record(state, self.epoch)
            if self._look is not None and record[2] not in self.looked:
                self.looked.add(record[2])
                self._touched |= self._look(record[2])
            touched = self._touched
            if not touched or (state // THREATS not in touched and touched.isdisjoint(record[1])):
                found = record[0]
            else:
                found = self.rules.weighted(state, self.epoch, self.conditions)
            self._links[state] = found
        return found
