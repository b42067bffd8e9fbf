"""The site graph as linking asks it."""

from __future__ import annotations

from correlator.linking.settings import LinkingSettings
from correlator.premises import Premises
from correlator.premises.reach import Reach, ReachTable


class SiteGround:
    """Reaches, classes and floors of a site's assets."""

    def __init__(self, premises: Premises, settings: LinkingSettings) -> None:
        self.premises = premises
        self.timezone = premises.timezone
        self.table = ReachTable(premises.graph, settings.reach_cut)
        self._places: dict[str, tuple[str, str]] = {}

    def reach(self, asset: str, t_ms: int) -> Reach:
        """Where a cause at an asset can lead."""
        return self.table.of(asset, t_ms)

    def place_of(self, asset: str) -> tuple[str, str]:
        """(class, floor) of an asset; ("unknown", "") for what the site does not know."""
        place = self._places.get(asset)
        if place is None:
            node = self.premises.assets.get(asset)
            place = ("unknown", "") if node is None else (node.asset_class, self.premises.graph.floor_of(asset, 0))
            self._places[asset] = place
        return place

    def describe(self, asset: str) -> str:
        """An asset in plain words."""
        return self.premises.describe(asset)
