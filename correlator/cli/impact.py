"""`correlator impact` and `correlator site lint`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import click

from correlator.cli.ending import guarded
from correlator.cli.options import PATH, Group
from correlator.clock import parse_iso


class _Moment(click.ParamType):
    """An ISO 8601 time with offset; gives ms UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_iso(value)[0]
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-03-02T00:00:00Z", param, ctx)


_site = click.option("--site", type=PATH, required=True, metavar="FILE", help="The site file.")
_when = click.option("--when", "when_ms", type=_Moment(), metavar="ISO",
                     help="Relations valid at this time; now without it.")  # fmt: skip
_files = click.argument("paths", nargs=-1, type=PATH, metavar="[PATH]...")


@click.group(cls=Group)
def impact() -> None:
    """Say what a threat will hit, how soon, and what to do."""


@impact.command("check", epilog="\b\nExamples:\n  correlator impact check\n  correlator impact check my-rules/")
@_files
def impact_check(paths: tuple[Path, ...]) -> int:
    """Say what is wrong in impact rules and counter-measures, with line and column.

    PATHs are files and folders; without any, those that come along are checked.
    """
    from correlator.run.impact_commands import check

    return guarded(lambda: check(paths, sys.stdout))


@impact.command("test", epilog="\b\nExamples:\n  correlator impact test\n  correlator impact test my-rules/")
@_files
def impact_test(paths: tuple[Path, ...]) -> int:
    """Run the tests that files of impact rules carry; exit code 1 when one fails.

    Rules of PATHs stand beside the ones that come along; one with the same id takes its place.
    """
    from correlator.run.impact_commands import test

    return guarded(lambda: test(paths, sys.stdout))


@impact.command(
    "whatif",
    epilog="\b\nExamples:\n"
    "  correlator impact whatif --site site.yaml --at z-pharmacy --threat fire\n"
    "  correlator impact whatif --site site.yaml --at srv-ehr --threat malware --svg ehr.svg\n"
    "  correlator impact whatif --site s.yaml --at d-1 --threat forced-entry --dark cam-1\n"
    "  correlator impact whatif --site s.yaml --at pc --threat malware --do isolate-host@pc\n"
    "  correlator impact whatif --site s.yaml --at mail --threat phishing --mode safecare",
)
@_site
@click.option("--at", multiple=True, required=True, metavar="ASSET", help="Where it happens; may be given again.")
@click.option("--threat", required=True, metavar="TYPE", help="What happens: a threat type of the site vocabulary.")
@click.option("--mode", type=click.Choice(["quantitative", "safecare"]), default="quantitative", show_default=True,
              help="Likelihood and time, or the score 1 - gamma of SAFECARE.")  # fmt: skip
@click.option("--gamma", type=click.Choice(["max", "capped_sum", "noisy_or"]), help="How protections combine.")
@click.option("--rules", multiple=True, type=PATH, metavar="PATH", help="Your own impact rules.")
@click.option("--dark", multiple=True, metavar="ASSET", help="It does not work: what it protects is open.")
@click.option("--do", multiple=True, metavar="MEASURE@ASSET", help="A counter-measure that is in place.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--svg", type=PATH, metavar="FILE", help="Draw the paths.")
@_when
def impact_whatif(
    site: Path, at: tuple[str, ...], threat: str, mode: str, gamma: Any, rules: tuple[Path, ...],
    dark: tuple[str, ...], do: tuple[str, ...], as_json: bool, svg: Path | None, when_ms: int | None,
) -> int:  # fmt: skip
    """Say what follows from a threat at an asset: services hit, paths, times, counter-measures."""
    from correlator.run.impact_commands import whatif

    return guarded(
        lambda: whatif(
            site=site, at=at, threat=threat, mode=mode, gamma=gamma, rules=rules, dark=dark, do=do, as_json=as_json,
            svg=svg, when_ms=when_ms, out=sys.stdout,
        )
    )  # fmt: skip


@impact.command(
    "export",
    epilog="\b\nExamples:\n"
    "  correlator impact export --site site.yaml --out site.graphml\n"
    "  correlator impact export --site s.yaml --at srv-ehr --threat malware --format json",
)
@_site
@click.option("--at", multiple=True, metavar="ASSET", help="Where it happens; without it the whole site is written.")
@click.option("--threat", metavar="TYPE", help="What happens.")
@click.option("--format", "kind", type=click.Choice(["graphml", "json"]), default="graphml", show_default=True,
              help="GraphML for Gephi and yEd, or Cytoscape's JSON.")  # fmt: skip
@click.option("--out", type=PATH, metavar="FILE", help="Write here instead of standard output.")
@_when
def impact_export(
    site: Path, at: tuple[str, ...], threat: str | None, kind: str, out: Path | None, when_ms: int | None
) -> int:
    """Write a site's graph, or everything that follows from a threat, for graph tools."""
    from correlator.run.impact_commands import export

    return guarded(
        lambda: _to(out, lambda stream: export(site=site, at=at, threat=threat, kind=kind, when_ms=when_ms, out=stream))
    )


def _to(path: Path | None, work: Callable[[TextIO], int]) -> int:
    """Runs work with standard output, or with a file."""
    if path is None:
        return work(sys.stdout)
    with path.open("w", encoding="utf-8") as stream:
        return work(stream)


@click.command(
    "lint",
    epilog="\b\nExamples:\n"
    "  correlator site lint site.yaml\n"
    "  correlator site lint site.yaml --from out/\n"
    "  correlator site lint site.yaml --rules my-rules/ --strict",
)
@click.argument("file", type=PATH, metavar="FILE")
@click.option("--from", "out_dir", type=PATH, metavar="DIR",
              help="Compare with the badges in a replay's --out.")  # fmt: skip
@click.option("--rules", multiple=True, type=PATH, metavar="PATH", help="Rules whose threat types are looked up.")
@click.option("--strict", is_flag=True, help="Exit code 1 when something is found.")
def site_lint(file: Path, out_dir: Path | None, rules: tuple[Path, ...], strict: bool) -> int:
    """Find what makes a site model blind: no sensor, no room, no person, no way, too wide a reach."""
    from correlator.run.site_lint import lint

    return guarded(lambda: lint(file, out_dir, rules, strict, sys.stdout))


@click.command(
    "campus",
    epilog="\b\nExamples:\n  correlator site campus --assets 10000 --out campus.yaml",
)
@click.option(
    "--assets", type=click.IntRange(50, 1_000_000), default=10_000, show_default=True, help="At least so many."
)
@click.option("--out", type=PATH, metavar="FILE", help="Write here instead of standard output.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same campus.")
def site_campus(assets: int, out: Path | None, seed: int) -> int:
    """Write the site file of a generated hospital campus, to measure with."""
    from correlator.lab.campus import Campus

    def work(stream: TextIO) -> int:
        stream.writelines(Campus(assets, seed).site_yaml())
        return 0

    return guarded(lambda: _to(out, work))
