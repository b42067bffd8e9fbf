"""The command `correlator`: reads arguments, calls `correlator.run`, gives the exit code.

The work of a command is imported when the command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from correlator import __version__
from correlator.cli import config as _config
from correlator.cli import stream as _stream
from correlator.cli.bridge import bridge as _bridge
from correlator.cli.console import console as _console
from correlator.cli.embedded import run as _embedded
from correlator.cli.ending import INTERRUPTED, OK, UNUSABLE, guarded
from correlator.cli.impact import impact as _impact
from correlator.cli.impact import site_campus as _site_campus
from correlator.cli.impact import site_lint as _site_lint
from correlator.cli.inputs import inputs_run as _inputs_run
from correlator.cli.journal import journal as _journal
from correlator.cli.link import baseline as _baseline
from correlator.cli.link import link as _link
from correlator.cli.live import SPEED
from correlator.cli.live import live as _live
from correlator.cli.live import simulate as _simulate
from correlator.cli.notifier import notifier as _notifier
from correlator.cli.options import PATH, Group, examples, kafka_guarded, scenario_folder
from correlator.cli.outputs import outputs as _outputs
from correlator.cli.privacy import privacy as _privacy_commands
from correlator.cli.secure import secure as _secure
from correlator.clock import duration_ms

if TYPE_CHECKING:
    from correlator.matching import Tells

# ---- argument types ------------------------------------------------------------------------------------


class _Lateness(click.ParamType):
    """A duration such as `10s`, or 0; gives milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value in ("0", "0s", "0ms"):
            return 0
        try:
            return duration_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_EXIT_CODES = """\b
Exit codes:
  0    done, everything as expected
  1    done, an expectation or a test does not hold
  2    not done: a faulty file, a wrong argument, a full disk
  130  interrupted"""

_from_out = click.option(
    "--from", "out_dir", type=PATH, default="out", show_default=True, metavar="DIR",
    help="The folder that a replay wrote with --out.",
)  # fmt: skip
_rule_paths = click.argument("paths", nargs=-1, type=PATH, metavar="[PATH]...")
_site_file = click.argument("file", type=PATH, metavar="FILE")


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "correlator replay vaccine-theft",
        "correlator match --rules rules/ auth.ndjson doors.ndjson",
        "correlator rules check my-rules/",
    )
    + "\n\n"
    + _EXIT_CODES,
)
@click.version_option(__version__, message="correlator %(version)s")
def app() -> None:
    """Correlate doors, badges, cameras, networks and hosts of a site into explained threats."""


# ---- replay, match, explain ------------------------------------------------------------------------------


@app.command(
    epilog=examples(
        "correlator replay vaccine-theft",
        "correlator replay scenarios/vaccine-theft --out out/",
        "correlator replay vaccine-theft --score",
        "correlator replay vaccine-theft --speed 60x",
        "correlator replay my-scenario --json | jq .title",
        "correlator replay --from-log correlator.sqlite3 --rules pack --rules my-rules/",
        "correlator replay --from-log kafka --config h1/correlator.yaml --from 2026-03-01",
    )
)
@click.argument("scenario", type=PATH, required=False)
@click.option("--out", type=PATH, metavar="DIR", help="Write threats, matches, events and rejects here.")
@click.option("--speed", type=SPEED, metavar="60x", help="Pace the replay; without it, as fast as it goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line a threat instead of the account.")
@click.option("--progress/--no-progress", default=None, help="Show progress; by default on a terminal.")
@click.option(
    "--linking",
    "linking",
    flag_value="graph",
    default="graph",
    help="Link over the site graph too; so it is by default.",
)
@click.option("--no-linking", "linking", flag_value="off", help="Join findings by shared evidence alone.")
@click.option(
    "--linking-only", "linking", flag_value="only", help="Link over the site graph, without correlation rules."
)
@click.option("--baseline", type=PATH, metavar="FILE", help="Link from rates saved by `baseline`, not from a history.")
@click.option("--score", "scored", is_flag=True, help="Print precision, recall and F against expect.yaml.")
@click.option("--tokens", is_flag=True, help="People as tokens, by the keys that --config names.")
@click.option("--from-log", "log", type=PATH, metavar="LOG", help="Read an embedded log back instead of a scenario.")
@click.option("--site", default="", metavar="ID", help="With --from-log: the site; by default the only one.")
@click.option("--from", "since", metavar="TIME", help="With --from-log: what was received from then on.")
@click.option("--to", "until", metavar="TIME", help="With --from-log: what was received up to then.")
@click.option("--rules", multiple=True, metavar="PATH", help="With --from-log: other rules to compare with; or pack.")
@click.option("--overlay", type=PATH, metavar="FILE", help="With --rules: an overlay for them.")
@click.option("-c", "--config", type=PATH, default="correlator.yaml", show_default=True, metavar="FILE",
              help="Settings: with --tokens, and --from-log kafka, which reads the topic events back.")  # fmt: skip
def replay(
    scenario: Path | None,
    out: Path | None,
    speed: float | None,
    as_json: bool,
    progress: bool | None,
    linking: Literal["graph", "only", "off"],
    baseline: Path | None,
    scored: bool,
    tokens: bool,
    log: Path | None,
    site: str,
    since: str | None,
    until: str | None,
    rules: tuple[str, ...],
    overlay: Path | None,
    config: Path,
) -> int:
    """Replay a scenario's messages and tell the threats in them.

    SCENARIO is a scenario folder or the name of one that comes along. Prints an account of each threat
    with its evidence and compares with the scenario's expect.yaml: exit code 0 when all expectations
    hold, 1 when not, 2 on unusable input.

    With --from-log what a log holds is folded again, as it was; with --rules also with other rules, and what
    they would have found is told beside what is in force.
    """
    if log is not None:
        from correlator.cli.embedded import replay_log

        return kafka_guarded(
            lambda: replay_log(
                log,
                sys.stdout,
                config=config,
                site=site,
                since=since,
                until=until,
                rules=rules,
                overlay=overlay,
                as_json=as_json,
            )
        )
    if scenario is None:
        raise click.UsageError("Missing argument 'SCENARIO' (or --from-log LOG).")
    from correlator.lab.background import background
    from correlator.run.replay import replay as work

    folder = scenario_folder(scenario)
    shown = sys.stderr.isatty() if progress is None else progress
    code = guarded(
        lambda: work(
            folder,
            out=out,
            speed=speed,
            as_json=as_json,
            progress=shown,
            stdout=sys.stdout,
            stderr=sys.stderr,
            background=background,
            linking=linking,
            baseline=baseline,
            scored=scored,
            privacy=_privacy(config) if tokens else None,
        )
    )
    return code if out is None or code > 1 else guarded(lambda: _report(out)) or code


def _report(out: Path) -> int:
    from correlator.lab.report import report

    click.echo(f"report to open in a browser: {report(out)}", err=True)
    return 0


def _privacy(config: Path) -> Any:
    from correlator.config.load import load
    from correlator.errors import UsageError

    privacy = load(config).settings.privacy
    if not privacy.tokens:
        raise UsageError(f"{config} does not say `privacy: {{tokens: true, ...}}`; docs/privacy.md shows how")
    return privacy


def _tells(follow: bool, first: bool) -> Tells:
    if follow and first:
        raise click.UsageError("--first and --follow exclude each other: what opens, or every revision of it")
    return "growing" if follow else "first" if first else "final"


@app.command(
    epilog=examples(
        "correlator match --rules rules/ events.ndjson",
        "correlator match --rules brute-force.yml --lateness 30s auth.ndjson vpn.ndjson",
        "zcat day.ndjson.gz | correlator match --rules rules/ -",
        "correlator match --rules rules/ --map badges.yaml --site site.yaml badges.csv",
    )
)
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@click.option("--rules", type=PATH, multiple=True, required=True, metavar="PATH",
              help="A rule file or folder; may be repeated.")  # fmt: skip
@click.option("--site", type=PATH, metavar="FILE", help="Site file, for rules about places and people.")
@click.option("--map", "map_file", type=PATH, metavar="FILE", help="Says which field is time, kind, entity.")
@click.option("--lateness", "lateness_ms", type=_Lateness(), default="10s", show_default=True, metavar="10s",
              help="How far a line may be behind the latest time read in its file.")  # fmt: skip
@click.option("--follow", is_flag=True, help="Print each revision of a growing match.")
@click.option("--first", is_flag=True, help="Print each match when it opens, as it stands then, and no more.")
@click.option("--strict", is_flag=True, help="Exit code 1 when a line came too late or cannot be read.")
@click.option("--sort", is_flag=True, help="Sort all lines by time first.")
def match(
    files: tuple[Path, ...],
    rules: tuple[Path, ...],
    site: Path | None,
    map_file: Path | None,
    lateness_ms: int,
    follow: bool,
    first: bool,
    strict: bool,
    sort: bool,
) -> int:
    """Match rules against files of JSON lines; one JSON line a match.

    FILE "-" is standard input. Without --map every key is a field, and the time is @timestamp,
    timestamp, time or ts (RFC 3339 or epoch). Files are merged by time. End of input closes every
    window. Everything but matches goes to standard error.
    """
    from correlator.run.match import match as work

    return guarded(
        lambda: work(
            rules=list(rules),
            site=site,
            map_file=map_file,
            lateness_ms=lateness_ms,
            files=list(files),
            tells=_tells(follow, first),
            strict=strict,
            sort=sort,
            stdout=sys.stdout,
            stderr=sys.stderr,
        )
    )


@app.command(
    epilog=examples(
        "correlator explain 3f2a --from out/",
        "correlator explain 3f2a --from correlator.sqlite3 --svg paths.svg",
        "correlator explain 3f2a --from kafka --config h1/correlator.yaml",
        "correlator explain --why-not badge_two_places --from out/",
        "correlator explain --why-not badge_two_places inputs/access.ndjson:12 --from out/",
        "correlator explain --why-not badge_two_places log:1841 --from correlator.sqlite3",
        "correlator explain --why-not inputs/eve.json:5 inputs/access.ndjson:46 --from out/",
        "correlator explain --why-not log:1841 log:2019 --from correlator.sqlite3",
    )
)
@click.argument("what", required=False, metavar="[THREAT | FILE:LINE | FINDING]")
@click.option("--why-not", metavar="RULE|FINDING", help="Say why this rule did not match (the message at FILE:LINE), "
              "or why two findings (id, FILE:LINE or position of one of their messages) are not linked.")  # fmt: skip
@click.option("--from", "source", type=PATH, default="out", show_default=True, metavar="DIR|LOG|kafka",
              help="The folder that a replay wrote with --out, an embedded log, or Kafka.")  # fmt: skip
@click.option("--site", default="", metavar="ID", help="Of a log with several sites: which.")
@click.option("-c", "--config", type=PATH, default="correlator.yaml", show_default=True, metavar="FILE",
              help="Settings, with --from kafka.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="A threat as JSON: links with their terms, paths, evidence.")
@click.option("--svg", type=PATH, metavar="FILE", help="Draw the paths to what a threat may lead to.")
def explain(
    what: str | None, why_not: str | None, source: Path, site: str, config: Path, as_json: bool, svg: Path | None
) -> int:
    """Explain a threat, or what did not match or did not link.

    THREAT is a threat's id or its beginning; FILE:LINE finds the one that holds that message. What a log holds
    is folded again for the question why two findings are not linked; a rule is run again over the newest events
    that it holds.
    """
    if what is None and why_not is None:
        raise click.UsageError("name a threat, or a rule with --why-not, or two findings with it")
    if why_not is not None and (as_json or svg is not None):
        raise click.UsageError("--json and --svg are for a threat")
    if str(source) == "kafka" or source.is_file():
        from correlator.cli.embedded import explain_log

        return kafka_guarded(lambda: explain_log(source, sys.stdout, config, site, what or "", why_not, as_json, svg))
    from correlator.lab.background import background
    from correlator.run.explain import ToldByReplay, explain_threat
    from correlator.run.explain import why_not as explain_why_not

    if why_not is not None:
        return guarded(lambda: explain_why_not(source, why_not, what, sys.stdout, background))
    assert what is not None
    return guarded(lambda: explain_threat(ToldByReplay(source), what, sys.stdout, as_json=as_json, svg=svg))


# ---- rules ---------------------------------------------------------------------------------------------


@app.group()
def rules() -> None:
    """Check, explain and test rule files."""


def _or_pack(paths: tuple[Path, ...]) -> list[Path]:
    from correlator.data import folder

    return list(paths) or [folder("rulepack")]


@rules.command(
    "check",
    epilog=examples(
        "correlator rules check my-rules/",
        "correlator rules check",
        "correlator rules check -c correlator.yaml my-rules/",
    ),
)
@_rule_paths
@click.option("--overlay", type=PATH, metavar="FILE", help="A site's overlay: rules switched, thresholds set.")
@click.option("-c", "--config", type=PATH, metavar="FILE", help="Settings; default: the correlator.yaml here.")
def rules_check(paths: tuple[Path, ...], overlay: Path | None, config: Path | None) -> int:
    """Say what is wrong in rule files, with line and column, and which parts are portable.

    PATHs are rule files and folders; without any, the rule pack is checked. Where the settings say that people
    are tokens, rules that ask for a part of a name are refused.
    """
    from correlator.run.rule_commands import check

    def work() -> int:
        from correlator.config.load import identity_fields

        return check(_or_pack(paths), overlay, sys.stdout, identity_fields(config))

    return guarded(work)


@rules.command(
    "explain",
    epilog=examples(
        "correlator rules explain --rule event_door_forced",
        "correlator rules explain my-rules/ --rule my-rule",
        "correlator rules explain --predicates",
    ),
)
@_rule_paths
@click.option("--rule", metavar="RULE", help="Id or name of the rule.")
@click.option("--predicates", is_flag=True, help="List the predicates that x-correlator.where knows.")
def rules_explain(paths: tuple[Path, ...], rule: str | None, predicates: bool) -> int:
    """Say in words when a rule matches, or list the predicates of x-correlator.

    PATHs are rule files and folders; without any, the rule is looked for in the rule pack.
    """
    if predicates:
        from correlator.run.predicates import list_predicates

        return guarded(lambda: list_predicates(sys.stdout))
    if rule is None:
        raise click.UsageError("name a rule with --rule, or ask for --predicates")
    from correlator.run.rule_commands import explain as work

    return guarded(lambda: work(_or_pack(paths), rule, sys.stdout))


@rules.command("test", epilog=examples("correlator rules test", "correlator rules test my-rules/"))
@_rule_paths
def rules_test(paths: tuple[Path, ...]) -> int:
    """Run the tests that rule files carry; exit code 1 when one fails.

    PATHs are rule files and folders; without any, the rule pack is tested.
    """
    from correlator.run.rule_commands import test

    return guarded(lambda: test(_or_pack(paths), sys.stdout))


# ---- site ----------------------------------------------------------------------------------------------


@app.group()
def site() -> None:
    """Check and show a site model."""


@site.command("check", epilog=examples("correlator site check site.yaml"))
@_site_file
def site_check(file: Path) -> int:
    """Say everything that is wrong in a site file, with line, column and what would be right."""
    from correlator.run.site_commands import check

    return guarded(lambda: check(file, sys.stdout))


@site.command("show", epilog=examples("correlator site show site.yaml", "correlator site show site.yaml --json"))
@_site_file
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def site_show(file: Path, as_json: bool) -> int:
    """Show a site's floors, zones, doors, assets, people and services."""
    from correlator.run.site_commands import show

    return guarded(lambda: show(file, sys.stdout, as_json))


@site.command("unknown", epilog=examples("correlator site unknown --from out/"))
@_from_out
def site_unknown(out_dir: Path) -> int:
    """List what events named and the site model does not know, with YAML to paste."""
    from correlator.run.site_commands import unknown

    return guarded(lambda: unknown(out_dir, sys.stdout))


# ---- sources, schemas, init ------------------------------------------------------------------------------


@app.group()
def sources() -> None:
    """Show what the dialects read, and try one on a file."""


@sources.command("list", epilog=examples("correlator sources list"))
def sources_list() -> int:
    """List the dialects with what each declares: document, clock, retained messages, repeats."""
    from correlator.run.source_commands import list_sources

    return guarded(lambda: list_sources(sys.stdout))


@sources.command(
    "try",
    epilog=examples(
        "correlator sources try suricata eve.json",
        "correlator sources try zigbee2mqtt capture.ndjson",
        "correlator sources try access badges.csv --settings my-map.yaml",
        "correlator sources try access capture.ndjson --mqtt --settings esp-rfid",
        "correlator sources try wazuh topic.ndjson --envelope filebeat",
    ),
)
@click.argument("dialect")
@click.argument("file", type=PATH)
@click.option("--settings", type=PATH, metavar="FILE", help="The dialect's settings, or a map (file or name).")
@click.option("--mqtt", is_flag=True, help="FILE is an MQTT capture; for MQTT dialects it always is.")
@click.option(
    "--envelope",
    type=click.Choice(["none", "filebeat", "vector", "fluentbit"]),
    default="none",
    help="What a shipper wrapped each line in.",
)
def sources_try(dialect: str, file: Path, settings: Path | None, mqtt: bool, envelope: str) -> int:
    """Decode a file line by line and print the events and rejects of each line.

    FILE holds log lines, or an MQTT capture: JSON lines of topic, payload, received.
    """
    from correlator.run.source_commands import try_source

    return guarded(lambda: try_source(dialect, file, settings, sys.stdout, mqtt=mqtt, envelope=envelope))


@app.group()
def schemas() -> None:
    """JSON Schemas of the published messages."""


@schemas.command("write", epilog=examples("correlator schemas write schemas"))
@click.argument("directory", type=PATH, default="schemas", metavar="[DIR]")
def schemas_write(directory: Path) -> int:
    """Write the schema of every published message to DIR/<name>/<major>.json, and the console's OpenAPI document."""
    from correlator.console import openapi
    from correlator.run.schema_commands import write

    return guarded(lambda: write(directory, {openapi.PATH: openapi.document_text()}, sys.stdout))


@app.command(epilog=examples("correlator init", "correlator init my-site"))
@click.argument("directory", type=PATH, default=".", metavar="[DIR]")
def init(directory: Path) -> int:
    """Write commented settings, a site and a scenario to start from.

    DIR is made if missing (default: here). Nothing is overwritten.
    """
    from correlator.run.init import init as work

    return guarded(lambda: work(directory, sys.stdout))


# ---- commands of other modules ------------------------------------------------------------------------

app.add_command(_impact)
site.add_command(_site_lint)
site.add_command(_site_campus)
app.add_command(_link)
app.add_command(_baseline)
app.add_command(_embedded)
app.add_command(_bridge)
app.add_command(_console)
app.add_command(_journal)
app.add_command(_notifier)
app.add_command(_outputs)
app.add_command(_privacy_commands)
app.add_command(_simulate)
app.add_command(_live)
app.add_command(_secure)
for _command in (_config.config, _stream.ingest, _stream.worker, _stream.topics, _stream.rejects, _stream.inputs,
                 _stream.state):  # fmt: skip
    app.add_command(_command)


_stream.inputs.add_command(_inputs_run)


# ---- entry -----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; arguments without the program's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a name's letters shows their code points instead of failing.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app.main(args=arguments, prog_name="correlator", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return UNUSABLE
    except click.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else OK


def run() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(main())
