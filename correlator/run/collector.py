"""Python's cyclic garbage collector, told what lasts.

Rules, site and tables live as long as the process, and windows make no cycles: looking through them
again and again would be the largest cost of a run with many groups.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 100_000  # new containers between two looks at the young ones


def settle_collector() -> None:
    """Takes everything made so far out of the collector's sight, and lets it look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
