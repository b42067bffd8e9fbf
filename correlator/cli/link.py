"""`correlator link`: plain linking of findings over a site file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from correlator.cli.ending import guarded
from correlator.clock import parse_iso

_PATH: Any = click.Path(path_type=Path)


class _Instant(click.ParamType):
    """An ISO 8601 time with offset, or ms since 1970; gives ms UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value.isdigit():
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
@click.argument("files", nargs=-1, required=True, type=_PATH, metavar="FINDINGS...")
@click.option("--site", type=_PATH, required=True, metavar="FILE", help="The site file.")
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
