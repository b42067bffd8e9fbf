"""An embedded log read back: the same threats, what other rules would have found, and its rejects."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import pytest

from correlator.cli.main import main
from correlator.embedded.reading import LogOfFile
from correlator.errors import UsageError
from correlator.events.threat import Threat
from correlator.ingest.raw import RawMessage
from correlator.run.relog import other_rules, read_back, tell
from correlator.sources.dialect import Message
from tests.ingest.carried import SCENARIOS, replayed, scenario, told

from .feeding import Running, in_pieces, messages_of

NAME = "contractor-window"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = scenario(NAME)
    file = tmp_path_factory.mktemp("log") / "log.sqlite3"
    running = Running(one, file)
    in_pieces(messages_of(one), 400, running.feed)
    site = one.site_id
    broken = Message("attic/window", b"\xff{}", 1_616_046_000_000)
    running.feed([RawMessage("raw.mqtt/0", 0, site, broken), RawMessage("raw.none/0", 0, site, broken)])
    running.close()
    return file


def found(log: Path, **wishes):
    reader = LogOfFile(log)
    try:
        return read_back(reader, **wishes)
    finally:
        reader.close()


def last_told(name: str) -> list[bytes]:
    """The last revision of each threat of a replay, by time."""
    last: dict[str, Threat] = {}
    for value in replayed(scenario(name)):
        threat = msgspec.json.decode(value, type=Threat)
        last[threat.id] = threat
    standing = [one for one in last.values() if one.phase != "merged"]
    return [told(one) for one in sorted(standing, key=lambda one: (one.first_ms, one.id))]


def test_the_same_rules_find_the_same_again(log):
    assert [told(one) for one in found(log).in_force.told()] == last_told(NAME)


def test_what_other_rules_would_have_found_stands_beside_what_is_in_force(log):
    pack_only = other_rules(["pack"], None)
    both = found(log, rules=pack_only)
    assert both.other is not None
    assert [told(one) for one in both.in_force.told()] == last_told(NAME)
    out = io.StringIO()
    tell(both, out)
    assert "only with the other rules:" in out.getvalue()
    assert re.search(r"matches by rule \(\d+ rules matched as often with both\)", out.getvalue())
    fewer = found(log, rules=other_rules([str(Path(__file__).parent / "silence" / "rules")], None))
    assert fewer.other is not None
    assert not [one for one in fewer.other.told() if one.id in fewer.in_force.threats]
    assert set(fewer.other.matches) - set(fewer.in_force.matches) <= set(fewer.names)


def test_a_span_of_time_holds_only_what_was_received_in_it(log):
    whole = found(log)
    reader = LogOfFile(log)
    times = sorted(event.received_ms for _, record in reader.read() for event in record.events)
    reader.close()
    middle = times[len(times) // 2]
    first, second = found(log, to_ms=middle), found(log, from_ms=middle)
    assert first.last_ms <= middle <= second.first_ms
    assert (first.events, second.events) == (sum(one <= middle for one in times), sum(one >= middle for one in times))
    assert first.events < whole.events > second.events
    with pytest.raises(UsageError, match="nothing of that site and time"):
        found(log, from_ms=whole.last_ms + 10**12)
    with pytest.raises(UsageError, match="nothing of that site and time"):
        found(log, site="elsewhere")


def test_the_command_tells_accounts_or_json(log, capsys):
    assert main(["replay", "--from-log", str(log)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{scenario(NAME).site_id}: ")
    assert main(["replay", "--from-log", str(log), "--json", "--rules", "pack"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {msgspec.json.decode(line)["rules"] for line in lines} <= {"in force", "other"}
    assert main(["replay", "--from-log", str(log), "--from", "yesterday"]) == 2
    assert "--from: 'yesterday' is not a time" in capsys.readouterr().err
    assert main(["replay", "--from-log", str(SCENARIOS / "none.sqlite3")]) == 2
    assert "there is no embedded log" in capsys.readouterr().err
    assert main(["replay"]) == 2


def test_rejects_are_listed_by_reason_shown_and_marked_for_another_try(log, capsys):
    assert main(["rejects", "list", "--log", str(log), "--reason", "unmapped"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^ +2  unmapped$", said, re.MULTILINE)
    number = said.split()[0]
    assert main(["rejects", "show", number, "--log", str(log)]) == 0
    shown = capsys.readouterr().out
    assert "reason: unmapped" in shown
    assert shown.endswith("\\xff{}\n")
    assert main(["rejects", "retry", number, "--log", str(log)]) == 0
    reader = LogOfFile(log)
    assert reader._log.retries() == [int(number)]
    reader.close()
    assert main(["rejects", "show", "9999", "--log", str(log)]) == 2
