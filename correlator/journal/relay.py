"""What of the journal the engine hears: the decisions that the journal's own fold accepted.

The engine never reads the journal. Who reads an input (ingest, or the embedded core) also reads the actions,
in their order and from the first one on, and writes into the log those that change what is decided there: a
close that came too late, or that a viewer asked for, is kept in the journal and changes nothing anywhere.
"""

from __future__ import annotations

from correlator.journal.action import DECIDING, Act
from correlator.journal.fold import DEFAULT_MAX_SHELF_MS, Fold
from correlator.run.log import Action


class Relay:
    """The folds of the sites whose actions were read so far. max_shelf_ms: as console and notifier have it."""

    def __init__(self, max_shelf_ms: int = DEFAULT_MAX_SHELF_MS) -> None:
        self._max_shelf_ms = max_shelf_ms
        self._folds: dict[str, Fold] = {}

    def take(self, act: Act) -> Action | None:
        """The next action of the journal as the log holds it, None if it decides nothing or was refused."""
        fold = self._folds.get(act.site)
        if fold is None:
            fold = self._folds[act.site] = Fold(act.site, self._max_shelf_ms)
        outcome = fold.add(act)
        if outcome.result != "done" or act.verb not in DECIDING:
            return None
        body = {**act.args, "who": act.who}
        if act.threat:
            body["threat"] = act.threat
        if act.verb == "close":
            body["verdict"] = fold.handling(act.threat).verdict  # given now or before
        return Action(act.id, act.verb, act.at_ms, body)
