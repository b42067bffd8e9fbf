"""Names in messages to assets of the site, by validity in time.

A name that leads nowhere becomes `unknown:<kind>:<id>`, an asset connected to nothing.
"""

from __future__ import annotations

from ipaddress import ip_address

from correlator.premises.graph import SiteGraph
from correlator.premises.live import LiveState
from correlator.premises.model import Credential, Span
from correlator.premises.vocabulary import KIND_CLASSES

CACHE_ENTRIES = 200_000  # answers kept per kind; a full cache is emptied, which changes nothing


class Resolver:
    r"""Finds what an entity names.

    Names are the asset's id and its aliases, per asset class. Hosts and accounts are also found in
    another case, and with or without their domain ("ws7.ward.example", "WARD\nurse7",
    "nurse7@ward.example") where that leads to one asset only.
    """

    def __init__(self, graph: SiteGraph, live: LiveState) -> None:
        self._graph = graph
        self._live = live
        self._names: dict[str, dict[str, str]] = {}
        self._lower: dict[str, dict[str, str]] = {}
        self._bare: dict[str, dict[str, str]] = {}
        self._macs: dict[str, str] = {}
        self._ips: dict[str, list[tuple[Span, str]]] = {}
        self._other_forms: dict[str, list[tuple[Span, str]]] = {}  # foreign addresses and unusual spellings
        self._holders: dict[str, dict[str, list[tuple[Credential, str]]]] = {"badge": {}, "account": {}}
        self._cache: dict[str, dict[str, str]] = {kind: {} for kind in KIND_CLASSES}
        self._index()

    def _index(self) -> None:
        for asset in self._graph.nodes.values():
            names = self._names.setdefault(asset.asset_class, {})
            if asset.asset_class not in ("badge", "account"):
                names[asset.id] = asset.id
            for alias in asset.aliases:
                names[alias] = asset.id
            for mac in asset.macs:
                self._macs[mac] = asset.id
            for address in asset.ips:
                self._ips.setdefault(address.ip, []).append((address.span, asset.id))
        for person in self._graph.site.people.values():
            for kind, credentials in (("badge", person.badges), ("account", person.accounts)):
                for one in credentials:
                    self._names.setdefault(kind, {})[one.id] = f"{kind}:{one.id}"
                    self._holders[kind].setdefault(one.id, []).append((one, person.id))
        for holders in self._holders.values():
            for held in holders.values():
                held.sort(key=lambda one: one[0].span.from_ms or 0)
        for asset_class, names in self._names.items():
            lower = {name.lower(): known for name, known in names.items()}
            bare: dict[str, set[str]] = {}
            for name, known in lower.items():
                bare.setdefault(_bare(asset_class, name), set()).add(known)
            self._lower[asset_class] = lower
            self._bare[asset_class] = {name: assets.pop() for name, assets in bare.items() if len(assets) == 1}

    def find(self, kind: str, entity_id: str, t_ms: int) -> str:
        """The asset an entity names at that time, "" if none is known."""
        cache = self._cache.get(kind)
        if cache is None:
            return ""
        if kind == "ip":
            return self._by_ip(entity_id, t_ms)
        found = cache.get(entity_id)
        if found is not None:
            return found
        asset = self._macs.get(_mac(entity_id), "") if kind == "mac" else self._by_name(kind, entity_id)
        node = self._graph.nodes.get(asset)
        if node is not None and node.span.limited:
            return asset if node.span.holds(t_ms) else ""
        if len(cache) >= CACHE_ENTRIES:
            cache.clear()
        cache[entity_id] = asset
        return asset

    def lasting_ip(self, text: str) -> bool:
        """Whether the site file gives this address to something for all times."""
        return any(not span.limited for span, _ in self._ips.get(text, ()))

    def _by_name(self, kind: str, name: str) -> str:
        classes = KIND_CLASSES[kind]
        for asset_class in classes:
            asset = self._names.get(asset_class, {}).get(name)
            if asset:
                return asset
        if kind not in ("host", "account"):
            return ""
        lower = name.lower()
        bare = _bare(kind, lower)
        # A name with a domain is that of one without, and the other way round, but never that of one with
        # another domain: the local administrator of one machine is not that of the next.
        other = self._bare if bare == lower else self._lower
        for tables, form in ((self._lower, lower), (other, bare)):
            for asset_class in classes:
                asset = tables.get(asset_class, {}).get(form)
                if asset:
                    return asset
        return ""

    def _by_ip(self, text: str, t_ms: int) -> str:
        """A lease seen on the wire tells more than the file; where it leads nowhere the file holds."""
        lease = self._live.lease(text, t_ms)
        if lease is not None:
            mac, host = lease
            asset = (self.find("mac", mac, t_ms) if mac else "") or (self.find("host", host, t_ms) if host else "")
            if asset:
                return asset
        entries = self._ips.get(text)
        if entries is None:
            entries = self._other_forms.get(text)
            if entries is None:
                try:
                    entries = self._ips.get(str(ip_address(text)), [])
                except ValueError:
                    entries = []
                if len(self._other_forms) >= CACHE_ENTRIES:
                    self._other_forms.clear()
                self._other_forms[text] = entries
        for span, asset in entries:
            if span.holds(t_ms):
                return asset
        return ""

    def credential(self, kind: str, entity_id: str) -> str:
        """A badge or account as the site file writes it; unchanged if the site does not know it."""
        asset = self.find(kind, entity_id, 0)
        return asset.partition(":")[2] if asset else entity_id

    def holdings(self, kind: str, entity_id: str) -> list[tuple[Credential, str]]:
        """Every (credential, person) of a badge or account, earliest first."""
        return self._holders[kind].get(self.credential(kind, entity_id), [])

    def holder(self, kind: str, entity_id: str, t_ms: int) -> tuple[Credential, str] | None:
        """Who holds a badge or account at that time; if nobody does, who held it last before, else who
        will hold it first: an expired badge still tells whose it was."""
        held = self.holdings(kind, entity_id)
        last: tuple[Credential, str] | None = None
        for one in held:
            if one[0].span.holds(t_ms):
                return one
            if one[0].span.from_ms is None or one[0].span.from_ms <= t_ms:
                last = one
        return last or (held[0] if held else None)


def _mac(text: str) -> str:
    return text.lower().replace("-", ":")


def _bare(kind: str, lower: str) -> str:
    """A host's first label, an account without its domain."""
    if kind == "account":
        return lower.rpartition("\\")[2].split("@", 1)[0]
    return lower.split(".", 1)[0]
