"""The console on the folder of a replay: threats from its file, a journal beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from correlator.console.app import Console
from correlator.console.asking import Asking
from correlator.console.board import Board
from correlator.console.facts import Facts
from correlator.console.feeds import ReplayFacts, scenario_of
from correlator.console.hub import Hub
from correlator.console.settings import ConsoleSettings
from correlator.console.users import Sessions, Users
from correlator.errors import UsageError
from correlator.journal.feeds import FileFeed
from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from correlator.premises import load_site
from correlator.run.replay import scenario_rules
from correlator.words.language import Language


def application(out: Path, site_file: Path | None, language: Language, entry: str) -> tuple[Any, Hub]:
    """The application and its hub. Raises UsageError where the folder is not that of a replay."""
    threats, about = out / "threats.ndjson", out / "replay.json"
    if not threats.is_file():
        raise UsageError(f"{out} has no threats.ndjson; `correlator replay SCENARIO --out {out}` writes one")
    folder = Path(msgspec.json.decode(about.read_bytes())["scenario"]) if about.is_file() else None
    scenario = scenario_of(folder) if folder is not None else None
    if site_file is None:
        if scenario is None:
            raise UsageError(f"{about} does not lead to a scenario: name the site file with --site")
        site_file = scenario.site_file
    loaded = scenario_rules(scenario) if scenario is not None else None
    places = load_site(site_file)
    site = places.site.id
    state = out / "console"
    state.mkdir(exist_ok=True)
    settings = ConsoleSettings(language=language)
    journal = SqliteJournal(state / "journal.db")
    view = View(":memory:")
    facts = Facts({site: places}, as_of_ms=scenario.until_ms if scenario is not None else 0)
    hub = Hub(
        FileFeed(threats, journal), view, Board(view, {site: places}), facts,
        ReplayFacts(out, scenario, places),
    )  # fmt: skip
    console = Console(
        settings, view, hub, journal, {site: places}, Users(state / "users.yaml"),
        Sessions(":memory:", settings.idle_min * 60_000, settings.session_h * 3_600_000),
        {site: loaded} if loaded is not None else {}, entry, asking=Asking("--from", str(out)),
    )  # fmt: skip
    return console.application(), hub
