"""`correlator link`: plain linking of findings over a site file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from correlator.cli.ending import guarded
from correlator.cli.options import PATH, scenario_folder
from correlator.clock import parse_iso

_MS_DIGITS: Final = 12


class _Instant(click.ParamType):
    """An ISO 8601 time with offset, or ms since 1970 as findings have it; gives ms UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value.isdigit() and len(value) >= _MS_DIGITS:  # a bare year is no time
            return int(value)
        try:
            return parse_iso(value)[0]
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-03-02T00:00:00Z", param, ctx)


@click.command(
    epilog="\b\nExamples:\n"
    "  correlator link --site site.yaml findings.ndjson\n"
    "  correlator link --site site.yaml --from 2026-03-02T00:00:00Z findings.ndjson\n"
    "  correlator link --site site.yaml --all findings.ndjson | jq .score"
)
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FINDINGS...")
@click.option("--site", type=PATH, required=True, metavar="FILE", help="The site file.")
@click.option("--from", "from_ms", type=_Instant(), metavar="ISO",
              help="Findings before only teach; without it the first 24 hours do.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Print threats below 4 too.")
@click.option("--strict", is_flag=True, help="Exit code 1 when a line is no finding.")
def link(files: tuple[Path, ...], site: Path, from_ms: int | None, everything: bool, strict: bool) -> int:
    """Link findings into composite threats; one JSON line a threat.

    FINDINGS are JSON lines {id, kind, asset, t_ms, tactic?, domain, level} in any order; "-" is standard
    input. The site's graph says what can lead to what, the findings themselves how common a thing is.
    Lines that are no findings are counted on standard error.
    """
    from correlator.run.link import link as work

    return guarded(
        lambda: work(
            site=site,
            files=files,
            from_ms=from_ms,
            everything=everything,
            strict=strict,
            stdout=sys.stdout,
            stderr=sys.stderr,
        )
    )


@click.command(
    epilog="\b\nExamples:\n"
    "  correlator baseline vaccine-theft --days 7 --out rates.baseline\n"
    "  correlator baseline scenarios/vaccine-theft --seed 5 --out rates.baseline"
)
@click.argument("scenario", type=PATH)
@click.option("--days", type=click.IntRange(1, 60), default=3, show_default=True, help="Ordinary days to learn from.")
@click.option("--seed", type=int, default=None, help="Seed of these days; by default the scenario's and one.")
@click.option("--out", type=PATH, required=True, metavar="FILE", help="Where the rates go.")
def baseline(scenario: Path, days: int, seed: int | None, out: Path) -> int:
    """Save what is usual at a site, so that linking starts warm.

    Folds ordinary days before the scenario's own and keeps rates and habits, no threats.
    """
    from correlator.lab.background import background
    from correlator.run.linking import learned, save_baseline
    from correlator.run.replay import scenario_rules
    from correlator.run.scenario import History, load_scenario

    def work() -> int:
        loaded = load_scenario(scenario_folder(scenario))
        history = History(seed if seed is not None else loaded.seed + 1, days)
        entries = learned(loaded, scenario_rules(loaded), history, background)
        save_baseline(entries, out)
        sys.stderr.write(f"{len(entries)} entries of {days} days in {out}\n")
        return 0

    return guarded(work)
