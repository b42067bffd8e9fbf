"""Results that are kept between runs because making them anew is slow.

A cache decides nothing: what is missing, cut short, changed or unreadable is made anew, and where nothing
can be written nothing is kept. A file holds a digest of its body in front of it. Only the user can read
the files, since a site names people.

Where: `$CORRELATOR_CACHE` ("off": nowhere), else `$XDG_CACHE_HOME/correlator`, else `~/.cache/correlator`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Final

FILES_KEPT: Final = 8  # of one kind; the ones written longest ago go first

_DIGEST_BYTES: Final = 32


def cache_folder() -> Path | None:
    """Where results are kept; None: nowhere."""
    chosen = os.environ.get("CORRELATOR_CACHE", "")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base:
        return Path(base) / "correlator"
    try:
        return Path.home() / ".cache" / "correlator"
    except RuntimeError:  # a user without a home
        return None


def read_kept(kind: str, key: str) -> bytes | None:
    """The body kept of that kind under that key (hex digits), None if there is none that is whole."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        data = (folder / f"{kind}-{key}").read_bytes()
    except OSError:
        return None
    body = data[_DIGEST_BYTES:]
    return body if blake2b(body, digest_size=_DIGEST_BYTES).digest() == data[:_DIGEST_BYTES] else None


def keep(kind: str, key: str, body: bytes) -> None:
    """Keeps a body for later runs, where that is possible; a reader sees the whole file or none."""
    folder = cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=folder, prefix=".new-")  # readable by the user alone
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(blake2b(body, digest_size=_DIGEST_BYTES).digest())
                file.write(body)
            Path(made).replace(folder / f"{kind}-{key}")
        except OSError:
            Path(made).unlink(missing_ok=True)
            raise
        kept = sorted(folder.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[:-FILES_KEPT]:
            path.unlink(missing_ok=True)
