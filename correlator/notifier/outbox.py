"""Messages that are due, with what became of them: a table that survives a crash.

A row's key is threat/route/step/receiver/n, so whatever is asked twice is one row. The sender claims a
row with a lease, sends, and writes the result; a sender that dies lets the lease run out, and the next one
sends again with the same key, which receivers take as the same message. At least once is the contract.

    due --claim--> leased --ok--> sent
                          --error--> due again after 1 s, doubling to 5 min; "failed" after give_up_ms
    due, held --gather--> gathered: several held messages (quiet hours, more than a receiver's hour's worth)
                          leave as one, the digest, and end as it ends
    dropped: answered before it left
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import Final

from msgspec import Struct

from correlator.clock import MINUTE_MS, SECOND_MS
from correlator.events.event import LEVELS
from correlator.events.ids import digest
from correlator.sqlite import transaction

LEASE_MS: Final = 30 * SECOND_MS
FIRST_RETRY_MS: Final = SECOND_MS
LONGEST_RETRY_MS: Final = 5 * MINUTE_MS
SCHEMA_VERSION: Final = 2

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS outbox (
  key TEXT PRIMARY KEY, site TEXT NOT NULL, threat TEXT NOT NULL, receiver TEXT NOT NULL, occasion TEXT NOT NULL,
  severity TEXT NOT NULL, why TEXT NOT NULL, made_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL,
  lease_ms INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, last_error TEXT NOT NULL,
  ended_ms INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0, digest TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS learned (site TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""
_FROM_1: Final = """
ALTER TABLE outbox ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN digest TEXT NOT NULL DEFAULT '';
"""
_INDEXES: Final = """
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (state, due_ms);
CREATE INDEX IF NOT EXISTS outbox_threat ON outbox (threat);
CREATE INDEX IF NOT EXISTS outbox_digest ON outbox (digest) WHERE digest != '';
"""


class Row(Struct, frozen=True):
    """One message to one receiver. state: due, gathered, sent, failed, dropped. Times in ms UTC of the sender's clock.

    made_ms: when it was first asked for; lease_ms: until when somebody is sending it, 0: nobody. held: 1 if it
    waited for quiet hours or its hour's worth; digest: key of the message it leaves in, "" if by itself.
    """

    key: str
    site: str
    threat: str
    receiver: str
    occasion: str
    severity: str
    why: str
    made_ms: int
    due_ms: int
    lease_ms: int = 0
    attempt: int = 0
    state: str = "due"
    last_error: str = ""
    ended_ms: int = 0
    held: int = 0
    digest: str = ""


_COLUMNS: Final = ", ".join(Row.__struct_fields__)


class Outbox:
    """The table in a SQLite file; several senders may open it. now_ms is always passed in."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 1:
            self._db.executescript(_FROM_1)
        self._db.executescript(_TABLE + _INDEXES)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def ask(self, rows: Iterable[Row]) -> int:
        """Adds rows that are not there yet, and makes dropped ones due again; how many that were."""
        marks = ",".join("?" * len(Row.__struct_fields__))
        before = self._db.total_changes
        for row in rows:
            values = tuple(getattr(row, name) for name in Row.__struct_fields__)
            self._db.execute(
                f"INSERT INTO outbox ({_COLUMNS}) VALUES ({marks}) ON CONFLICT (key) DO UPDATE SET state = 'due',"  # noqa: S608
                " due_ms = excluded.due_ms, attempt = 0, last_error = '', ended_ms = 0 WHERE state = 'dropped'",
                values,
            )
        return self._db.total_changes - before

    def gather(self, now_ms: int) -> None:
        """Held messages that are due to one receiver become one message, the digest; a single one stays itself.

        The digest's key derives from its members, so whoever sends it again sends it under the same key.
        """
        waiting = "state = 'due' AND held = 1 AND occasion != 'digest' AND due_ms <= ? AND lease_ms <= ?"
        with self.batch():
            held = self._rows(f"WHERE {waiting} ORDER BY made_ms, key", now_ms, now_ms)
            for site, receiver in dict.fromkeys((row.site, row.receiver) for row in held):
                rows = [row for row in held if (row.site, row.receiver) == (site, receiver)]
                if len(rows) < 2:
                    continue
                key = f"{site}/digest/{receiver}/{digest(*(row.key for row in rows))}"
                worst = max((row.severity for row in rows), key=LEVELS.index)
                why = f"{len(rows)} messages were held"
                self.ask([Row(key, site, "", receiver, "digest", worst, why, now_ms, now_ms, held=1)])
                self._db.executemany(
                    "UPDATE outbox SET state = 'gathered', digest = ? WHERE key = ?", [(key, row.key) for row in rows]
                )

    def members(self, key: str) -> list[Row]:
        """The messages that leave in a digest and are still wanted."""
        return self._rows("WHERE digest = ? AND state != 'dropped' ORDER BY made_ms, key", key)

    def learn(self, site: str, position: int, rows: Iterable[Row]) -> None:
        """What the site's journal says was sent, up to a position: it need not be sent by whoever reads it here."""
        with self.batch():
            for row in rows:
                self.ask([row])
                self._db.execute(
                    "UPDATE outbox SET state = 'sent', lease_ms = 0, last_error = '', ended_ms = ?"
                    " WHERE key = ? AND state IN ('due', 'gathered')",
                    (row.ended_ms, row.key),
                )
            self._db.execute("INSERT OR REPLACE INTO learned VALUES (?, ?)", (site, position))

    def learned(self, site: str) -> int:
        """How far the site's journal was learned, -1 for nothing yet."""
        row = self._db.execute("SELECT position FROM learned WHERE site = ?", (site,)).fetchone()
        return -1 if row is None else int(row[0])

    def claim(self, now_ms: int, limit: int = 20) -> list[Row]:
        """Takes rows that are due and that nobody is sending, for LEASE_MS; oldest first."""
        with self.batch():
            found = self._rows("WHERE state = 'due' AND due_ms <= ? AND lease_ms <= ? ORDER BY due_ms, key LIMIT ?",
                               now_ms, now_ms, limit)  # fmt: skip
            self._db.executemany(
                "UPDATE outbox SET lease_ms = ?, attempt = attempt + 1 WHERE key = ?",
                [(now_ms + LEASE_MS, row.key) for row in found],
            )
        return found

    def batch(self) -> AbstractContextManager[None]:
        """Everything inside is one transaction; inside another one it is part of that."""
        return nullcontext() if self._db.in_transaction else transaction(self._db)

    def sent(self, key: str, now_ms: int) -> None:
        """The receiver's channel took the message, and with it those it gathers."""
        self._db.execute(
            "UPDATE outbox SET state = 'sent', lease_ms = 0, last_error = '', ended_ms = ?"
            " WHERE key = ? OR (digest = ? AND state = 'gathered')",
            (now_ms, key, key),
        )

    def failed(self, row: Row, error: str, now_ms: int, give_up_ms: int, retry_after_ms: int = 0) -> bool:
        """The channel did not take it; True if this was the last try. retry_after_ms: what the receiver asked for; it
        cannot put off the moment at which the channel counts as dead."""
        if now_ms - row.made_ms >= give_up_ms:
            self._db.execute(
                "UPDATE outbox SET state = 'failed', lease_ms = 0, last_error = ?, ended_ms = ?"
                " WHERE key = ? OR (digest = ? AND state = 'gathered')",
                (error, now_ms, row.key, row.key),
            )
            return True
        asked_ms = min(retry_after_ms, row.made_ms + give_up_ms - now_ms)
        wait_ms = max(retry_ms(row.key, row.attempt + 1), asked_ms)
        self._db.execute(
            "UPDATE outbox SET lease_ms = 0, due_ms = ?, last_error = ? WHERE key = ?",
            (now_ms + wait_ms, error, row.key),
        )
        return False

    def hold(self, key: str, until_ms: int) -> None:
        """Not now: due again at a time, together with what else is held; the try does not count."""
        self._db.execute(
            "UPDATE outbox SET due_ms = ?, lease_ms = 0, held = 1, attempt = MAX(attempt - 1, 0) WHERE key = ?",
            (until_ms, key),
        )

    def drop(self, threat: str, occasions: tuple[str, ...], now_ms: int, why: str) -> int:
        """Messages of these occasions that have not left need not leave any more; how many."""
        marks = ",".join("?" * len(occasions))
        done = self._db.execute(
            "UPDATE outbox SET state = 'dropped', last_error = ?, ended_ms = ? WHERE threat = ?"  # noqa: S608
            f" AND state IN ('due', 'gathered') AND occasion IN ({marks})",
            (why, now_ms, threat, *occasions),
        )
        return done.rowcount

    def end(self, key: str, now_ms: int, why: str) -> None:
        """One message need not leave."""
        self._db.execute(
            "UPDATE outbox SET state = 'dropped', lease_ms = 0, last_error = ?, ended_ms = ? WHERE key = ?",
            (why, now_ms, key),
        )

    def trim(self, before_ms: int, known: Callable[[str], bool]) -> int:
        """Lets go of messages that ended before a time; how many. known: whether a threat may still be planned for,
        whose rows are what keeps it from being told again."""
        old = "state IN ('sent', 'failed', 'dropped') AND ended_ms < ?"
        with self.batch():
            named = self._db.execute(f"SELECT DISTINCT threat FROM outbox WHERE {old}", (before_ms,)).fetchall()  # noqa: S608
            gone = [(before_ms, threat) for (threat,) in named if not threat or not known(threat)]
            return self._db.executemany(f"DELETE FROM outbox WHERE {old} AND threat = ?", gone).rowcount  # noqa: S608

    def of(self, threat: str) -> list[Row]:
        """All rows of a threat in the order made."""
        return self._rows("WHERE threat = ? ORDER BY made_ms, key", threat)

    def first(self, site: str, from_ms: int, to_ms: int) -> list[Row]:
        """The first messages about threats of a site that were asked for in a time, in that order."""
        where = "WHERE site = ? AND occasion = 'first' AND made_ms >= ? AND made_ms < ? ORDER BY made_ms, key"
        return self._rows(where, site, from_ms, to_ms)

    def all(self, state: str = "") -> list[Row]:
        """All rows, or those in a state."""
        if state:
            return self._rows("WHERE state = ? ORDER BY made_ms, key", state)
        return self._rows("ORDER BY made_ms, key")

    def sent_since(self, receiver: str, since_ms: int) -> int:
        """How many messages a receiver got since a time; a digest is one."""
        (count,) = self._db.execute(
            "SELECT COUNT(*) FROM outbox WHERE receiver = ? AND state = 'sent' AND ended_ms >= ? AND digest = ''",
            (receiver, since_ms),
        ).fetchone()
        return int(count)

    def next_due_ms(self) -> int:
        """When the next message is due, -1 if none is."""
        (due,) = self._db.execute("SELECT MIN(MAX(due_ms, lease_ms)) FROM outbox WHERE state = 'due'").fetchone()
        return -1 if due is None else int(due)

    def depth(self, now_ms: int) -> tuple[int, int, int]:
        """(messages due, messages failed for good, how long the oldest due one is overdue in ms)."""
        due, failed, oldest_ms = self._db.execute(
            "SELECT COUNT(*) FILTER (WHERE state = 'due'), COUNT(*) FILTER (WHERE state = 'failed'),"
            " MIN(due_ms) FILTER (WHERE state = 'due') FROM outbox WHERE state IN ('due', 'failed')"
        ).fetchone()
        return int(due), int(failed), max(0, now_ms - oldest_ms) if oldest_ms is not None else 0

    def _rows(self, clause: str, *values: object) -> list[Row]:
        return [Row(*row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM outbox {clause}", values)]  # noqa: S608


def retry_ms(key: str, attempt: int) -> int:
    """How long to wait after the n-th try: 1 s doubling to 5 min, each up to a quarter longer, so that many
    messages to one dead receiver do not return together. The same key waits the same."""
    base = min(FIRST_RETRY_MS << min(max(attempt, 1) - 1, 20), LONGEST_RETRY_MS)
    spread = int.from_bytes(blake2b(f"{key}/{attempt}".encode(), digest_size=4).digest(), "big")
    return base + spread * base // 4 // 0xFFFF_FFFF
