"""`correlator init`: commented settings, a site model, and a scenario with one capture to start from.

The files are those of correlator/run/skeleton, as they stand there; tests load and check them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from correlator.errors import UsageError

SKELETON = Path(__file__).parent / "skeleton"


def init(directory: Path, stdout: TextIO) -> int:
    """Writes the skeleton into a folder, made if missing; prints the paths and gives exit code 0.

    Raises UsageError, and writes nothing, if one of the files is there already. Raises OSError.
    """
    sources = sorted(path for path in SKELETON.rglob("*") if path.is_file())
    targets = [directory / path.relative_to(SKELETON) for path in sources]
    there = [str(target) for target in targets if target.exists()]
    if there:
        raise UsageError(f"{', '.join(there)} exists already; nothing was written")
    for source, target in zip(sources, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        print(f"wrote {target}", file=stdout)
    print(f"\nnext: correlator replay {directory}", file=stdout)
    print(f"live: correlator run --embedded -c {directory / 'correlator.yaml'}", file=stdout)
    return 0
