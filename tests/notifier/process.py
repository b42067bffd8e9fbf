"""A notifier as a process of its own, on files, until everything is sent: `process FOLDER PORT`."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path

from correlator.journal.feeds import FileFeed
from correlator.journal.store import SqliteJournal
from correlator.journal.view import View
from correlator.notifier.outbox import LEASE_MS, Outbox
from correlator.notifier.service import Notifier
from correlator.premises import load_site
from tests.notifier.cases import HERE, made

logging.getLogger("correlator").addHandler(logging.NullHandler())  # a flood is what is wanted here
folder, port = Path(sys.argv[1]), sys.argv[2]
journal = SqliteJournal(folder / "journal.db")
box = Outbox(folder / "outbox.db")
notifier = Notifier(
    made(receivers=[{"name": "desk", "url": f"json://127.0.0.1:{port}/", "per_hour": 1_000}]),
    FileFeed(folder / "threats.ndjson", journal),
    View(folder / "view.db"),
    box,
    journal,
    {"h-test": load_site(HERE / "site.yaml")},
)
# A lease of a killed predecessor runs out by the clock; here the clock starts behind it.
skip_ms = LEASE_MS * (1 + len(list(folder.glob("started-*"))))
(folder / f"started-{time.time_ns()}").touch()
while True:
    notifier.step(int(time.time() * 1000) + skip_ms)
    if box.next_due_ms() == -1:
        break
    time.sleep(0.01)
(folder / "rows.json").write_text(json.dumps(dict(Counter(row.state for row in box.all()))))
