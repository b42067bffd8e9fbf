"""The command line: help with examples, exit codes, and no traceback for a person's mistake."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

import correlator
from correlator.cli.ending import INTERRUPTED, READER_GONE, UNUSABLE, error_text, guarded
from correlator.cli.main import app, main
from correlator.errors import Fault, FaultyFile, UsageError
from correlator.rulepack import PACK
from correlator.rules.load import load_rules

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "correlator"]


def commands(group: click.Group = app, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command that does something, groups left out."""
    found = []
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


def told(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    """A run of the command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment, **more)


# ---- help ----------------------------------------------------------------------------------------------


def test_all_commands_are_there():
    assert {" ".join(words) for words in commands()} == {
        "replay",
        "match",
        "baseline",
        "explain",
        "init",
        "rules check",
        "rules explain",
        "rules test",
        "site check",
        "site show",
        "site unknown",
        "sources list",
        "sources try",
        "schemas write",
        "bridge doctor",
        "bridge run",
        "config apply",
        "config check",
        "config describe",
        "config show",
        "console open",
        "console run",
        "console user",
        "impact check",
        "impact export",
        "impact test",
        "impact whatif",
        "journal verify",
        "ingest",
        "inputs out",
        "inputs run",
        "link",
        "live",
        "notifier preview",
        "notifier routes",
        "notifier run",
        "notifier status",
        "notifier test-alert",
        "notifier warn",
        "outputs list",
        "outputs run",
        "outputs status",
        "outputs try",
        "privacy erase",
        "privacy export",
        "privacy keys new",
        "privacy keys show",
        "privacy reveal",
        "privacy vault",
        "rejects list",
        "rejects retry",
        "rejects show",
        "run",
        "secure apply",
        "secure init",
        "secure renew",
        "simulate",
        "site campus",
        "site lint",
        "state export",
        "state import",
        "topics check",
        "topics create",
        "worker",
    }


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_shows_an_example_that_the_command_line_takes(words, capsys):
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    examples = re.findall(r"^ +(?:.*\| )?(correlator [^|\n]+)", text.split("Examples:")[1], flags=re.MULTILINE)
    assert examples
    for example in examples:
        arguments = shlex.split(example)[1:]
        command: click.Command = app
        context = click.Context(app, info_name="correlator")
        while isinstance(command, click.Group):
            name, command, arguments = command.resolve_command(context, arguments)
            context = command.make_context(name, list(arguments), parent=context)
        assert tuple(context.command_path.split()[1:]) == words


def test_rules_that_examples_name_are_in_the_pack(capsys):
    loaded = load_rules([PACK]).rules
    names = {rule.head.name for rule in [*loaded.detections.values(), *loaded.correlations.values()]}
    named: set[str] = set()
    for words in commands():
        main([*words, "--help"])
        found = re.findall(r"--(?:rule|why-not) ([a-z_-]+)$", capsys.readouterr().out, flags=re.MULTILINE)
        named |= {one for one in found if not one.startswith("my-")}
    assert named
    assert named <= names


@pytest.mark.parametrize("words", [(), *commands()], ids=" ".join)
def test_no_line_of_help_is_longer_than_a_terminal(words, capsys):
    main([*words, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 90


@pytest.mark.parametrize("words", sorted({words[:place] for words in commands() for place in range(len(words))}))
def test_the_list_of_commands_says_of_each_what_it_does_in_full(words, capsys):
    assert main([*words, "--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:")[1].split("Examples:")[0].splitlines()
    assert listed
    assert [line for line in listed if line.endswith("...")] == []


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"correlator {correlator.__version__}\n"


def test_the_tools_for_help_do_not_load_the_engine():
    code = "import sys; from correlator.cli.main import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert "correlator.matching" not in done.stderr
    assert "'sigma'" not in done.stderr


# ---- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reply"], "No such command 'reply'"),
        (["replay"], "Missing argument 'SCENARIO'"),
        (["replay", "no-such-scenario"], "no-such-scenario"),
        (["replay", "x", "--speed", "fast"], "'fast' is not a speed such as 60x"),
        (["replay", "x", "--speed", "0x"], "'0x' is not a speed such as 60x"),
        (["replay", "x", "--speed", "nan"], "'nan' is not a speed such as 60x"),
        (["match", "x.ndjson"], "Missing option '--rules'"),
        (["match", "--rules", "r"], "Missing argument 'FILE...'"),
        (["match", "--rules", "r", "--lateness", "soon", "f"], "'soon' is not a duration"),
        (["link", "--site", "s", "--from", "2026", "f"], "'2026' is not a time such as"),
        (["explain"], "name a threat, or a rule with --why-not"),
        (["rules", "explain"], "name a rule with --rule, or ask for --predicates"),
        (["sources", "try", "suricatta", "f"], "did you mean 'suricata'?"),
        (["sources", "try", "mapped", "f"], "mapped needs --settings"),
        (["sources", "try", "suricata", "no-such-file"], "no-such-file: cannot be read"),
        (["site", "check", "no-such-file"], "no-such-file: cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_said_in_words_with_exit_code_2(arguments, said, capsys):
    assert main(arguments) == UNUSABLE
    out, err = capsys.readouterr()
    assert said in out + err
    assert "Traceback" not in err


def test_several_faults_are_all_told_and_counted():
    faulty = FaultyFile([
        Fault("site.yaml", 3, 5, "no zone 'z-hal'", "did you mean 'z-hall'?"),
        Fault("site.yaml", 9, 1, "no hours", severity="warning"),
        Fault("site.yaml", 7, 1, "no class"),
    ])  # fmt: skip
    assert error_text(faulty).splitlines() == [
        "site.yaml:3:5: no zone 'z-hal' (did you mean 'z-hall'?)",
        "site.yaml:7:1: no class",
        "site.yaml:9:1: warning: no hours",
        "2 errors, 1 warning",
    ]


def test_a_mistake_that_is_ours_is_not_hidden():
    def work() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(work)


def test_a_usage_error_of_the_work_gives_exit_code_2(capsys):
    def work() -> int:
        raise UsageError("there is no input 'x'")

    assert guarded(work) == UNUSABLE
    assert capsys.readouterr().err == "correlator: there is no input 'x'\n"


# ---- the world around ------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_full_disk_is_said_in_words():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "sources", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == UNUSABLE
    assert done.stderr == "correlator: the disk is full; what was written so far is incomplete\n"


def test_a_folder_that_is_not_to_be_written_is_said_in_words(tmp_path):
    (tmp_path / "out").write_text("a file where a folder should be", encoding="utf-8")
    done = told("schemas", "write", "out", cwd=tmp_path)
    assert done.returncode == UNUSABLE
    assert done.stderr.startswith("correlator: out")
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen(
        [*COMMAND, "sources", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (READER_GONE, b"")


def test_the_keyboard_interrupts_without_a_traceback(tmp_path):
    waiting = tmp_path / "pipe"
    os.mkfifo(waiting)
    process = subprocess.Popen(
        [*COMMAND, "sources", "try", "suricata", str(waiting)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with waiting.open("wb") as writer:  # opens when the command has opened its end
        writer.write(b'{"event_type":"stats"}\n')
        writer.flush()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (INTERRUPTED, b"correlator: interrupted\n")


# ---- the commands that are whole here --------------------------------------------------------------------


def test_init_writes_files_that_are_in_order_and_never_overwrites(tmp_path, capsys):
    assert main(["init", str(tmp_path / "my-site")]) == 0
    assert main(["site", "check", str(tmp_path / "my-site" / "site.yaml")]) == 0
    assert main(["config", "check", "--config", str(tmp_path / "my-site" / "correlator.yaml")]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "my-site" / "site.yaml").write_text("mine", encoding="utf-8")
    (tmp_path / "my-site" / "correlator.yaml").unlink()
    capsys.readouterr()
    assert main(["init", str(tmp_path / "my-site")]) == UNUSABLE
    assert "site.yaml" in capsys.readouterr().err
    assert (tmp_path / "my-site" / "site.yaml").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "my-site" / "correlator.yaml").exists()
    assert len(before) == 4


def test_what_init_writes_can_be_replayed(tmp_path, capsys):
    main(["init", str(tmp_path)])
    assert main(["replay", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "threats.ndjson").exists()


def test_settings_and_scenario_are_told_apart(tmp_path, capsys):
    main(["init", str(tmp_path)])
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "correlator.yaml")]) == UNUSABLE
    assert "settings of processes are no scenario" in capsys.readouterr().err
    assert main(["config", "check", "--config", str(tmp_path / "scenario.yaml")]) == UNUSABLE
    assert "a scenario is no correlator.yaml" in capsys.readouterr().err


def test_what_init_leaves_as_comments_is_taken_too(tmp_path, capsys):
    main(["init", str(tmp_path)])
    file = tmp_path / "correlator.yaml"
    lines = file.read_text(encoding="utf-8").partition("\nsites:\n")[2].splitlines()
    settings = [re.sub(r"^( *)# (?=[ -]*\{|[a-z]+:( |$)| )", r"\1", line) for line in lines]
    file.write_text("sites:\n" + "\n".join(settings) + "\n", encoding="utf-8")
    for name in ("overlay.yaml", "users.yaml", "doors.token"):
        (tmp_path / name).touch()
    capsys.readouterr()
    code = main(["config", "check", "--config", str(file)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "sources: 4, of inputs: 4\n" in captured.out
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert list(told) == ["sites", "bridge", "inputs", "ingest", "embedded", "console", "notifier"]


FINDING = '{"id": "a", "kind": "door.forced", "asset": "d-pharmacy", "t_ms": 1772348400000, "level": "critical"}\n'


def test_link_says_that_the_first_day_only_teaches(tmp_path, capsys):
    main(["init", str(tmp_path)])
    file = tmp_path / "findings.ndjson"
    file.write_text(FINDING, encoding="utf-8")
    site = str(tmp_path / "site.yaml")
    assert main(["link", "--site", site, str(file)]) == 0
    assert "1 findings of the first day taught what is usual" in capsys.readouterr().err
    assert main(["link", "--site", site, "--from", "2026-03-01T00:00:00Z", str(file)]) == 0
    assert "taught" not in capsys.readouterr().err


def test_sources_list_shows_each_declaration(capsys):
    from correlator.sources import DIALECTS

    assert main(["sources", "list"]) == 0
    text = capsys.readouterr().out
    for name, dialect in DIALECTS.items():
        assert f"{name}: {dialect.title}\n" in text
        assert dialect.follows in text


def test_sources_try_prints_what_each_line_gives(tmp_path, capsys):
    file = tmp_path / "capture.ndjson"
    file.write_text(
        '{"topic":"zigbee2mqtt/contact-1","payload":{"contact":false},"received":"2026-01-12T08:00:00Z"}\n'
        "\n"
        "not a message\n",
        encoding="utf-8",
    )
    assert main(["sources", "try", "zigbee2mqtt", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}:1"
    assert lines[1] == "  contact.opened  2026-01-12T08:00:00.000Z  (received)"
    assert f"{file}:3" in lines
    assert any(line.startswith("  reject not_json: ") for line in lines)
    assert lines[-1] == "2 lines: 1 events, 1 rejects, 0 lines without either"


def test_sources_try_reads_the_header_of_a_csv_file(tmp_path, capsys):
    (tmp_path / "map.yaml").write_text(
        "map: access\nformat: csv\ndelimiter: ';'\ntime: at\nbadge: card\ndoor: door\nevent: [{is: badge.granted}]\n",
        encoding="utf-8",
    )
    file = tmp_path / "badges.csv"
    file.write_text("at;card;door\n2026-03-01T07:00:00Z;b-1;d-1\n", encoding="utf-8")
    assert main(["sources", "try", "access", str(file), "--settings", str(tmp_path / "map.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"{file}:1", "  the header: at, card, door", f"{file}:2"]
    assert lines[3].startswith("  badge.granted  2026-03-01T07:00:00.000Z")


def test_a_map_that_comes_along_is_found_by_its_name(tmp_path, capsys):
    file = tmp_path / "capture.ndjson"
    file.write_text(
        '{"topic":"esp-rfid/send","payload":{"type":"access","time":1768204800,"isKnown":"true","access":"Always",'
        '"username":"p-017","uid":"b-1017","hostname":"esp-1","doorName":"d-1"},"received":"2026-01-12T08:00:00Z"}\n',
        encoding="utf-8",
    )
    assert main(["sources", "try", "access", str(file), "--mqtt", "--settings", "esp-rfid"]) == 0
    assert "badge.granted" in capsys.readouterr().out


def test_schemas_write_makes_the_published_files(tmp_path, capsys):
    assert main(["schemas", "write", str(tmp_path)]) == 0
    for line in capsys.readouterr().out.splitlines():
        made = Path(line)
        assert made.read_bytes() == (ROOT / "schemas" / made.relative_to(tmp_path)).read_bytes()


def test_predicates_are_listed_with_meaning_and_options(capsys):
    from correlator.rules.syntax import WHERE_PREDICATES

    assert main(["rules", "explain", "--predicates"]) == 0
    text = capsys.readouterr().out
    for word, (_, options, says) in WHERE_PREDICATES.items():
        assert re.search(rf"^{word}: ", text, flags=re.MULTILINE)
        assert says in text
        for option in options:
            assert f"    {option}: " in text
