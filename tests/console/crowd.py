"""A console whose view holds many open threats already, as one that has been running for a while."""

from __future__ import annotations

from pathlib import Path

import msgspec

from correlator.events.threat import Threat
from correlator.journal.view import View
from tests.console.conftest import House
from tests.notifier.cases import THREATS

SITES = 20
SEVERITIES = ("low", "low", "low", "medium", "medium", "high", "critical")


def made(number: int) -> Threat:
    """A threat of one of the sites; only those of the first have a plan."""
    model = THREATS["combined"]
    site = "h-test" if number % SITES == 0 else f"h-{number % SITES}"
    return msgspec.structs.replace(
        model, id=f"{number:032x}", site=site, severity=SEVERITIES[number % 7], decided_ms=model.decided_ms + number
    )


def crowd(folder: Path, threats: int) -> House:
    """The console, started, with `threats` open ones."""
    house = House(folder)
    view = View(folder / "view.db")
    with view.batch():
        for number in range(threats):
            view.add_threat(made(number))
    view.close()
    house.start()
    return house
