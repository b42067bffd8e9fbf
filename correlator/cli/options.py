"""What the commands share: options, examples in their help, settings, and a word for a Kafka that is away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from correlator.cli.ending import guarded

if TYPE_CHECKING:
    from correlator.config.load import Loaded

PATH: Final[Any] = click.Path(path_type=Path)

config_option = click.option(
    "-c", "--config", "file", type=PATH, default="correlator.yaml", show_default=True, metavar="FILE", help="Settings."
)
log_level_option = click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True,
    help="Least level that is logged (JSON lines on standard error).",
)  # fmt: skip


class Group(click.Group):
    """Lists its commands with the whole first sentence of each, wrapped; click's own cuts it at the line's end."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list."""
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(_WHOLE)) for name, one in commands if not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


Group.group_class = Group  # of the groups below one, too

_Command = TypeVar("_Command", bound=Callable[..., Any])

_WHOLE: Final = 1_000  # characters

_COMMAND_WAITS_S: Final = 10.0
_PROCESS_WAITS_S: Final = 30.0


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be typed."""
    # \b alone on a line tells the help formatter to keep the line breaks of the paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def health_options(part: str) -> Callable[[_Command], _Command]:
    """Options of the health server of a process that has no settings of its own for it."""

    def add(command: _Command) -> _Command:
        host = click.option(
            "--health-host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
            envvar=f"CORRELATOR_{part}_HEALTH_HOST", help="Where /live, /ready and /metrics are served.",
        )  # fmt: skip
        port = click.option(
            "--health-port", type=click.IntRange(0, 65_535), default=0, show_default=True,
            envvar=f"CORRELATOR_{part}_HEALTH_PORT", help="Their port; 0 serves none.",
        )  # fmt: skip
        return host(port(command))

    return add


def settings_of(file: Path) -> Loaded:
    """A checked correlator.yaml. Raises UsageError, FaultyFile."""
    from correlator.config.load import load

    return load(file)


def reach_kafka(loaded: Loaded) -> None:
    """Says so when no broker answers. Raises UsageError when none does for ten seconds."""
    from correlator.config.preflight import reach

    def away(words: str) -> None:
        click.echo(f"correlator: {words}; trying on", err=True)

    reach(loaded.settings.kafka, away, _COMMAND_WAITS_S)


def on_kafka(file: Path) -> Loaded:
    """As settings_of, for a command whose work is on Kafka, once a broker answers."""
    loaded = settings_of(file)
    reach_kafka(loaded)
    return loaded


def process_on_kafka(loaded: Loaded, part: str) -> None:
    """Waits half a minute for a broker before a process starts, and logs that it does. Raises UsageError then.

    A process that cannot begin ends, and what started it starts it again.
    """
    from correlator.config.preflight import reach
    from correlator.ingest.logs import Log

    reach(loaded.settings.kafka, lambda words: Log(part).error("kafka_away", detail=words), _PROCESS_WAITS_S)


def scenario_folder(scenario: Path) -> Path:
    """The folder of a scenario, which may be the name of one that comes along."""
    from correlator.run.scenario import packaged_scenarios

    return scenario if scenario.exists() else packaged_scenarios().get(str(scenario), scenario)


def kafka_guarded(work: Callable[[], int]) -> int:
    """As guarded, and what Kafka refuses is told in one line with what mends it."""
    from confluent_kafka import KafkaException

    from correlator.errors import UsageError
    from correlator.ingest.refusals import error_words

    def told() -> int:
        try:
            return work()
        except KafkaException as error:
            raise UsageError(error_words(error.args[0])) from error

    return guarded(told)
