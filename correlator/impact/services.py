"""Which services cannot be given: what each needs, with redundancy and common causes.

A service fails when too many parts of what it needs fail: one of `all_of`, all of `any_of`, n - k + 1 of
`k_of`. Parts count as independent, unless one cause takes them together: every step that leads to two or
more of them is looked at as *the* cause as well, and the likelier of the two counts. Two generators in
the room that burns are one risk, not two small ones. Services that need services come after those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from correlator.impact.graph import THREATS, Group
from correlator.impact.paths import ROOT, UNAVAILABLE, Paths, from_log, log_missed
from correlator.impact.rules import PPM

End = tuple[int, int, int]  # label, ppm of the step that stops the service, number of its rule


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing whose loss stops a service: the end of a path, or another service that stops.

    label: of the path, -1 for another service; source: the state it ends at; likelihood with the last step.
    """

    label: int
    source: int
    likelihood: int
    step: int
    number: int


@dataclass(frozen=True, slots=True)
class ServiceHit:
    """A service that may not be given: how likely (ppm), and the likeliest set of causes that suffices."""

    service: int
    likelihood: int
    because: tuple[Cause, ...]
    ways: int


@dataclass(slots=True)
class _Parts:
    """What stops one service: ends of paths by the asset they come from, other services, a seed."""

    ends: dict[int, list[End]]
    services: dict[int, tuple[int, int, int]]  # service -> likelihood with the step, step, rule
    seed: int


def services_hit(paths: Paths, explain: bool = True) -> dict[int, ServiceHit]:
    """Every service that may not be given, by number. Circles of services are cut at their first member.

    explain: find the likeliest causes as well.
    """
    parts: dict[int, _Parts] = {}
    for service in paths.ends:
        parts[service] = _Parts({}, {}, 0)
    for state, ppm in paths.seeds.items():
        service, threat = divmod(state, THREATS)
        if threat == UNAVAILABLE and service in paths.rules.services:
            parts.setdefault(service, _Parts({}, {}, 0)).seed = ppm
    hits: dict[int, ServiceHit] = {}
    for service in _in_order(paths, sorted(parts)):
        mine = parts.get(service)
        if mine is None:
            continue
        hit = hits[service] = _hit(paths, service, mine, True) if explain else _known(paths, service, mine)
        for to, step, number in paths.links(service * THREATS + UNAVAILABLE):
            other, threat = divmod(to, THREATS)
            sent = hit.likelihood * step // PPM
            if threat == UNAVAILABLE and other in paths.rules.services and other not in hits and sent:
                known = parts.setdefault(other, _Parts({}, {}, 0))
                known.services[service] = (sent, step, number)
    if not explain:
        paths.stale.clear()
    return hits


def _known(paths: Paths, service: int, parts: _Parts) -> ServiceHit:
    """A hit without causes; worked out again only where a path, another service or the seed changed."""
    basis = (parts.seed, tuple(sorted(parts.services.items())))
    known = paths.known_hits.get(service)
    if known is None or service in paths.stale or known[0] != basis:
        known = paths.known_hits[service] = basis, _hit(paths, service, parts, False).likelihood
    return ServiceHit(service, known[1], (), 0)


def _in_order(paths: Paths, starts: Sequence[int]) -> list[int]:
    """The services and those that need them, each after all it needs (depth first, without recursion)."""
    done: dict[int, None] = {}
    entered: set[int] = set()
    for start in starts:
        stack = [(start, False)]
        while stack:
            service, left = stack.pop()
            if left:
                done[service] = None
                continue
            if service in entered:
                continue
            entered.add(service)
            stack.append((service, True))
            for to, _, _ in paths.links(service * THREATS + UNAVAILABLE):
                other, threat = divmod(to, THREATS)
                if threat == UNAVAILABLE and other in paths.rules.services and other not in entered:
                    stack.append((other, False))
    return list(done)[::-1]


def _hit(paths: Paths, service: int, parts: _Parts, explain: bool) -> ServiceHit:
    for end in paths.ends.get(service, ()):
        parts.ends.setdefault(paths.states[end[0]] // THREATS, []).append(end)
    group = paths.rules.graph.needs.get(service)
    log = log_missed(parts.seed)
    because: tuple[Cause, ...] = ()
    needed: frozenset[int] = frozenset()
    if group is not None:
        needed = paths.rules.leaves[service]
        if needed & parts.ends.keys() or needed & parts.services.keys():
            log += log_missed(_fails_for_any_cause(paths, group, parts, needed))
            because = _likeliest(paths, group, parts) if explain else ()
    others = [end for asset, ends in parts.ends.items() if asset not in needed for end in ends]
    if others:
        log += log_missed(paths.union([(label, step) for label, step, _ in others]))
    for other in sorted(parts.services.keys() - needed):
        log += log_missed(parts.services[other][0])
    if not explain:
        return ServiceHit(service, from_log(log), (), 0)
    single = [_cause(paths, end) for end in others]
    single += [_from_service(other, parts) for other in sorted(parts.services.keys() - needed)]
    best = _product(because)
    for cause in sorted(single, key=lambda one: _order(paths, one)):
        if cause.likelihood > best:
            best, because = cause.likelihood, (cause,)
    ways = sum(len(ends) for ends in parts.ends.values()) + len(parts.services)
    return ServiceHit(service, from_log(log), because, ways)


def _cause(paths: Paths, end: End) -> Cause:
    label, step, number = end
    return Cause(label, paths.states[label], paths.products[label] * step // PPM, step, number)


def _order(paths: Paths, cause: Cause) -> tuple[int, int, list[int]]:
    """Likeliest first; of equal ones by the states of their paths, never by the order they were found in."""
    way = [paths.states[one] for one in paths.path(cause.label)] if cause.label >= 0 else []
    return -cause.likelihood, cause.source, way


def _from_service(service: int, parts: _Parts) -> Cause:
    likelihood, step, number = parts.services[service]
    return Cause(-1, service * THREATS + UNAVAILABLE, likelihood, step, number)


def _product(causes: Sequence[Cause]) -> int:
    found = PPM if causes else 0
    for cause in causes:
        found = found * cause.likelihood // PPM
    return found


# ---- groups ---------------------------------------------------------------------------------------------


def _fails_for_any_cause(paths: Paths, group: Group, parts: _Parts, needed: frozenset[int]) -> int:
    """How likely too much of what the service needs is missing, ppm. needed: the group's leaves."""
    likeliest = _fails(paths, group, parts, ROOT)
    if not _redundant(group):
        return likeliest  # one loss suffices: shared steps are already counted once
    shared: dict[int, int] = {}
    below: dict[int, int] = {}  # label -> ends that follow from it
    parents = paths.parents
    for asset in sorted(needed & parts.ends.keys()):
        above: set[int] = set()
        for label, _, _ in parts.ends[asset]:
            while label != ROOT:
                above.add(label)
                below[label] = below.get(label, 0) + 1
                label = parents[label]
        for label in above:
            shared[label] = shared.get(label, 0) + 1
    # Where all that follows from a label follows from the next one, that one is the likelier cause.
    passed = {parents[label] for label, ends in below.items() if ends == below.get(parents[label])}
    for label, count in shared.items():
        product = paths.products[label]
        # A certain start is no cause of its own, and what is unlikelier than the result cannot raise it.
        wanted = count > 1 and label not in passed
        if wanted and likeliest < product and (product < PPM or len(paths.seeds) > 1):
            likeliest = max(likeliest, product * _fails(paths, group, parts, label) // PPM)
    return likeliest


def _redundant(group: Group) -> bool:
    return group.k < len(group.parts) or any(isinstance(part, Group) and _redundant(part) for part in group.parts)


def _fails(paths: Paths, group: Group, parts: _Parts, under: int) -> int:
    """How likely the group fails, given that the label `under` came off (ROOT: in general), ppm."""
    missing = len(group.parts) - group.k + 1  # so many missing parts stop the group
    if missing == 1:
        log = 0
        ends: list[tuple[int, int]] = []
        for part in group.parts:
            if isinstance(part, Group):
                log += log_missed(_fails(paths, part, parts, under))
                continue
            if part in parts.ends:
                ends += [(label, step) for label, step, _ in parts.ends[part]]
            if part in parts.services:
                log += log_missed(parts.services[part][0])
        if not ends:
            return from_log(log) if log else 0
        union = paths.union(ends, under)
        return from_log(log + log_missed(union)) if log else union
    at_least = [PPM] + [0] * missing  # at_least[j]: at least j of the parts so far are missing
    for part in group.parts:
        one = _fails(paths, part, parts, under) if isinstance(part, Group) else _part(paths, part, parts, under)
        if one:
            for count in range(missing, 0, -1):
                lower = at_least[count]
                at_least[count] = lower + (at_least[count - 1] - lower) * one // PPM
    return at_least[missing]


def _part(paths: Paths, asset: int, parts: _Parts, under: int) -> int:
    ends = parts.ends.get(asset)
    union = paths.union([(label, step) for label, step, _ in ends], under) if ends else 0
    if asset not in parts.services:
        return union
    return from_log(log_missed(union) + log_missed(parts.services[asset][0]))


def _likeliest(paths: Paths, group: Group, parts: _Parts) -> tuple[Cause, ...]:
    """The likeliest set of causes whose loss stops the group; () if nothing does."""
    found: list[tuple[Cause, ...]] = []
    for part in group.parts:
        if isinstance(part, Group):
            causes = _likeliest(paths, part, parts)
        else:
            single = [_cause(paths, end) for end in parts.ends.get(part, ())]
            if part in parts.services:
                single.append(_from_service(part, parts))
            causes = (min(single, key=lambda one: _order(paths, one)),) if single else ()
        if causes:
            found.append(causes)
    missing = len(group.parts) - group.k + 1
    if len(found) < missing:
        return ()
    found.sort(key=lambda causes: (-_product(causes), [one.source for one in causes]))
    return tuple(cause for causes in found[:missing] for cause in causes)
