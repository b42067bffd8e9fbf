"""What all our SQLite files have in common: transactions that leave nothing behind, and reading beside a writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is one transaction; after an error nothing of it remains. Raises sqlite3.OperationalError.

    db: a connection with isolation_level None, in no transaction.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite rolls back by itself when a disk is full
            db.execute("ROLLBACK")
        raise


def read_only(file: Path) -> sqlite3.Connection:
    """A connection beside the process that writes the file. Raises sqlite3.OperationalError if it is missing."""
    return sqlite3.connect(
        f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0, isolation_level=None, check_same_thread=False
    )
