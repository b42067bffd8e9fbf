"""The console on the folder of a replay: threats from its file, a journal beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from correlator.console.app import Console
from correlator.console.hub import Hub
from correlator.console.settings import ConsoleSettings
from correlator.console.users import Sessions, Users
from correlator.errors import UsageError
from correlator.journal.feeds import FileFeed
from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from correlator.premises import load_site
from correlator.run.scenario import load_scenario
from correlator.words.language import Language


def application(out: Path, site_file: Path | None, language: Language, entry: str) -> tuple[Any, Hub]:
    """The application and its hub. Raises UsageError where the folder is not that of a replay."""
    threats, about = out / "threats.ndjson", out / "replay.json"
    if not threats.is_file():
        raise UsageError(f"{out} has no threats.ndjson; `correlator replay SCENARIO --out {out}` writes one")
    if site_file is None:
        if not about.is_file():
            raise UsageError(f"{about} is missing: name the site file with --site")
        scenario = Path(msgspec.json.decode(about.read_bytes())["scenario"])
        site_file = load_scenario(scenario).site_file
    places = load_site(site_file)
    state = out / "console"
    state.mkdir(exist_ok=True)
    settings = ConsoleSettings(language=language)
    journal = SqliteJournal(state / "journal.db")
    view = View(":memory:")
    hub = Hub(FileFeed(threats, journal), view)
    console = Console(
        settings, view, hub, journal, {places.site.id: places}, Users(state / "users.yaml"),
        Sessions(":memory:", settings.idle_min * 60_000, settings.session_h * 3_600_000), entry,
    )  # fmt: skip
    return console.application(), hub
