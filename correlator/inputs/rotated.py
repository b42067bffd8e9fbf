"""Parts of a rotated log: which files they are, in which order, and which one was being read.

Rotation leaves parts behind under other names, moved (rename), copied (copytruncate) or compressed. A
part is known by the beginning of its content, which none of these changes, and ordered by its time of
last change, which they keep (gzip and logrotate copy it over). While a part is being compressed both
forms exist; the plain one is read.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from correlator.inputs.positions import FINGERPRINT_BYTES, FilePosition, fingerprint

COMPRESSED = (".gz", ".bz2", ".xz")
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Part:
    """One rotated part. changed_ns: time of last change; beginning: up to FINGERPRINT_BYTES of content."""

    path: Path
    device: int
    inode: int
    changed_ns: int
    beginning: bytes

    def is_at(self, position: FilePosition) -> bool:
        """Whether a position is one in this part's content."""
        return begins_as(self.beginning, position)


def begins_as(beginning: bytes, position: FilePosition) -> bool:
    """Whether content with this beginning is what a position was in; never for one at the very start."""
    size = position.head_bytes
    return 0 < size <= len(beginning) and fingerprint(beginning[:size]) == position.head


def open_part(path: Path) -> BinaryIO:
    """A part's content as bytes, decompressed by its name. Raises OSError."""
    match path.suffix:
        case ".gz":
            return cast("BinaryIO", gzip.open(path, "rb"))
        case ".bz2":
            return cast("BinaryIO", bz2.open(path, "rb"))
        case ".xz":
            return cast("BinaryIO", lzma.open(path, "rb"))
        case _:
            return path.open("rb")


def rotated_parts(live: Path, globs: tuple[str, ...]) -> list[Part]:
    """The readable parts beside a live file, oldest first, each content once.

    globs: relative ones are looked for beside the live file; () stands for the names that logrotate gives
    (`eve.json.1`, `eve.json-20260301.gz`). Wider ones (`eve-*`) could take another live log for a part.
    """
    patterns = globs or (f"{live.name}.*", f"{live.name}-*")
    paths: set[Path] = set()
    for pattern in patterns:
        folder, _, name = pattern.rpartition("/")
        if folder.startswith("/"):
            root = Path(folder.split("*", 1)[0].rpartition("/")[0] or "/")
            paths.update(root.glob(str(Path(pattern).relative_to(root))))
        else:
            paths.update(live.parent.glob(f"{folder}/{name}" if folder else name))
    parts = []
    for path in sorted(paths - {live}):
        part = _part(path)
        if part is not None:
            parts.append(part)
    # Plain before compressed, so that of two forms of one content the plain one stays.
    parts.sort(key=lambda part: (part.path.suffix in COMPRESSED, str(part.path)))
    seen: set[bytes] = set()
    kept = []
    for part in parts:
        if part.beginning and part.beginning not in seen:
            seen.add(part.beginning)
            kept.append(part)
    return sorted(kept, key=lambda part: (part.changed_ns, str(part.path)))


def _part(path: Path) -> Part | None:
    try:
        if not path.is_file():
            return None
        with open_part(path) as file:
            found = path.stat()
            return Part(path, found.st_dev, found.st_ino, found.st_mtime_ns, file.read(FINGERPRINT_BYTES))
    except UNREADABLE:
        return None  # vanished, being written by gzip, or no log at all
