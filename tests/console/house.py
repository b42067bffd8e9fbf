"""A console as a process of its own on files, with a user of each role: `house FOLDER PORT [REPLICA]`."""

from __future__ import annotations

import sys
from pathlib import Path

from correlator.console.app import Approving, Console
from correlator.console.board import Board
from correlator.console.facts import Facts
from correlator.console.hub import Hub
from correlator.console.server import serve
from correlator.console.settings import ConsoleSettings
from correlator.console.users import ROLES, Sessions, User, Users
from correlator.journal.feeds import FileFeed
from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from correlator.premises import load_site
from correlator.rules.load import load_rules

SITE = Path(__file__).parents[1] / "notifier" / "site.yaml"
PASSWORD = "correct horse battery"


def main(folder: Path, port: int, replica: str) -> None:
    users = Users(folder / "users.yaml")
    for role in ROLES:
        if users.get(f"p-{role}") is None:
            users.put(User(f"p-{role}", role), PASSWORD)
    journal = SqliteJournal(folder / "journal.db")
    view = View(folder / f"view{replica}.db")
    site = load_site(SITE)
    places = {site.site.id: site}
    hub = Hub(FileFeed(folder / "threats.ndjson", journal), view, Board(view, places), Facts(places))
    asked = folder / "console.json"
    rules = {site.site.id: load_rules([folder / "rules.yml"])} if (folder / "rules.yml").exists() else {}
    settings = ConsoleSettings.model_validate_json(asked.read_bytes()) if asked.exists() else ConsoleSettings()
    console = Console(
        settings, view, hub, journal, places, users,
        Sessions(folder / "sessions.db", 30 * 60_000, 12 * 3_600_000), rules=rules, entry="once",
        approving=Approving(("p-admin",), "security@hospital.example"),
    )  # fmt: skip
    serve(console.application(), hub, "127.0.0.1", port, settings.certificate, settings.key)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
