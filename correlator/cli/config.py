"""`correlator config`: check, show and apply correlator.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from correlator.cli.ending import guarded
from correlator.cli.options import Group, config_option, examples, kafka_guarded, reach_kafka


@click.group(cls=Group)
def config() -> None:
    """Check, show and apply correlator.yaml."""


@config.command(
    "check", epilog=examples("correlator config check", "correlator config check --config h1/correlator.yaml")
)
@config_option
def config_check(file: Path) -> int:
    """Read the file and every rule, site and map it names; report all faults with line and column."""
    from correlator.config.commands import check_file

    return guarded(lambda: check_file(file, sys.stdout))


@config.command(
    "show", epilog=examples("correlator config show", "CORRELATOR_KAFKA__BOOTSTRAP=k1:9092 correlator config show")
)
@config_option
def config_show(file: Path) -> int:
    """Print what is in force here: the file, the environment, and defaults; secrets are masked."""
    from correlator.config.commands import show

    return guarded(lambda: show(file, sys.stdout))


@config.command("apply", epilog=examples("correlator config apply --dry-run", "correlator config apply"))
@config_option
@click.option("--dry-run", is_flag=True, help="Say what would change and write nothing.")
def config_apply(file: Path, dry_run: bool) -> int:
    """Put rules, sites and engine settings in force, from the next record of each site's log on.

    Says what changes. With a fault anywhere nothing is written.
    """

    def work() -> int:
        from correlator.config.commands import apply_file

        return apply_file(file, sys.stdout, reach_kafka, dry_run=dry_run)

    return kafka_guarded(work)


@config.command("describe", epilog=examples("correlator config describe", "correlator config describe | less"))
def config_describe() -> int:
    """Print every setting with its default and what it does (docs/configuration.md)."""

    def work() -> int:
        from correlator.config.describe import tables

        sys.stdout.write(tables())
        return 0

    return guarded(work)
