"""A partition's engines are `correlator.run.partition`: the embedded log is one partition and feeds the same."""

from correlator.run.partition import (
    CHECKPOINT,
    GAPS,
    LEFT_OUT,
    OFFSET,
    POISON,
    SITE_MARK,
    TRIES,
    FoldCounts,
    Gap,
    PartitionEngine,
    Poison,
)

__all__ = [
    "CHECKPOINT",
    "GAPS",
    "LEFT_OUT",
    "OFFSET",
    "POISON",
    "SITE_MARK",
    "TRIES",
    "FoldCounts",
    "Gap",
    "PartitionEngine",
    "Poison",
]
