"""Timing: medians of several runs, what the machine is, and the rows of the printed tables.

Seconds are processor time of one thread: what other programs do on a shared machine disturbs it least.
On a quiet machine it is the same as the time on the wall, since nothing here waits.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from correlator.run.collector import settle_collector


def median_s(run: Callable[[], float], runs: int) -> tuple[float, float]:
    """(median, spread) of the seconds that `run` returns; spread is (max - min) / median.

    The collector is set as replay and the long-running processes set it: what exists before is out of
    its sight.
    """
    taken = []
    for _ in range(runs):
        settle_collector()
        taken.append(run())
    gc.unfreeze()
    middle = statistics.median(taken)
    return middle, (max(taken) - min(taken)) / middle if middle else 0.0


def undisturbed_s(runs: Sequence[Callable[[], object]], passes: int) -> tuple[float, float]:
    """(seconds, disturbance) of short runs that belong together: the sum of the best time of each.

    On a shared machine what others do (a core's other half, its caches) makes short runs slower and never
    faster. disturbance: how much longer a middling pass takes, as a part of the best.
    """
    taken: list[list[float]] = [[] for _ in runs]
    settle_collector()
    for _ in range(passes):
        for run, times in zip(runs, taken, strict=True):
            times.append(timed(run))
    gc.unfreeze()
    best = sum(map(min, taken))
    middling = sum(map(statistics.median, taken))
    return best, middling / best - 1 if best else 0.0


def timed(work: Callable[[], Any]) -> float:
    """Processor seconds that one call takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
    }


def one_core() -> None:
    """Keeps this process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def thousands(rate: float) -> str:
    """A rate in thousands a second, three digits: "92.4 k", "1,234 k"."""
    value = rate / 1000
    return f"{value:,.0f} k" if value >= 100 else f"{value:.1f} k" if value >= 10 else f"{value:.2f} k"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows in columns; the first is text, the others are numbers."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    lines = []
    for row in [head, tuple("-" * width for width in widths), *rows]:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
