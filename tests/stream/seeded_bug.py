"""`correlator`, with a bug in the matcher: it fails at every event whose summary or attributes name POISON."""

from __future__ import annotations

import sys
from typing import Any

from correlator.cli.main import main
from correlator.matching.matcher import Matcher

fold = Matcher.fold


def failing(self: Matcher, event: Any, order_ms: int) -> Any:
    if "POISON" in str(event.attributes):
        raise IndexError("a bug, put here by a test")
    return fold(self, event, order_ms)


Matcher.fold = failing  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
