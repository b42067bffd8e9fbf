"""What correlator.yaml says about outputs, from the file to the broker."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from correlator.config.commands import check_file
from correlator.config.load import load
from correlator.delivery.settings import OutputSettings
from correlator.delivery.targets import open_target
from correlator.errors import FaultyFile
from correlator.ingest.kafka import KafkaSettings
from correlator.outputs.formats import FORMATS
from tests.brokers.fixtures import read_all
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("brokers")
ROOT = Path(__file__).resolve().parents[2]
THREAT = THREATS["combined"]

NAMED = """\
outputs:
  - {name: a, format: ecs, to: {kind: http, url: "https://siem.example/", token_file: secrets/t, ca_file: ca.pem}}
  - {name: b, format: ecs, to: {kind: file, path: out/threats.ndjson}}
console: {users: users.yaml}
notifier: {receivers: [{name: guard, url_file: guard.url}], routes: {receivers: [guard]}}
"""


def test_paths_start_at_the_file_and_not_where_the_command_is_called(tmp_path, monkeypatch):
    (tmp_path / "h1").mkdir()
    (tmp_path / "h1/correlator.yaml").write_text(NAMED + "kafka: {ca_file: kafka.pem, password_file: /run/secret}\n")
    monkeypatch.chdir(tmp_path)
    settings = load(Path("h1/correlator.yaml")).settings
    first, second = (one.to for one in settings.outputs)
    assert (first.token_file, first.ca_file) == (Path("h1/secrets/t"), Path("h1/ca.pem"))
    assert second.path == Path("h1/out/threats.ndjson")
    assert settings.console.users == Path("h1/users.yaml")
    assert settings.notifier.receivers[0].url_file == Path("h1/guard.url")
    assert (settings.kafka.ca_file, settings.kafka.password_file) == (Path("h1/kafka.pem"), Path("/run/secret"))


def test_all_files_that_are_not_there_are_told_in_one_run(tmp_path):
    file = tmp_path / "correlator.yaml"
    file.write_text(NAMED)
    with pytest.raises(FaultyFile) as faulty:
        check_file(file, io.StringIO())
    assert [one.message.partition(":")[0] for one in faulty.value.faults] == [
        "console.users",
        "notifier.receivers[0].url_file",
        "outputs[0].to.ca_file",
        "outputs[0].to.token_file",
        "outputs[1].to.path",
    ]
    for name in ("secrets/t", "ca.pem", "users.yaml", "guard.url"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "out").mkdir()
    out = io.StringIO()
    assert check_file(file, out) == 0
    assert out.getvalue().endswith("no fault\n")


def test_topics_of_outputs_are_made_with_the_others_unless_they_are_on_another_cluster(kafka, unique, tmp_path):
    (tmp_path / "correlator.yaml").write_text(
        f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: '{unique}.'}}\n"
        "topics: {partitions: 2, raw_partitions: 1, replication: 1}\n"
        "outputs:\n"
        "  - {name: here, format: ocsf, to: {kind: kafka, topic: threats.ocsf}}\n"
        "  - {name: there, format: ocsf, to: {kind: kafka, topic: threats.there, cluster: {bootstrap: 'k.example:9092'}}}\n"
    )
    call = [sys.executable, "-m", "correlator", "topics"]
    said = [
        subprocess.run(
            [*call, verb, "--config", str(tmp_path / "correlator.yaml")], cwd=ROOT, capture_output=True, text=True,
            check=False,
        )
        for verb in ("check", "create", "check")
    ]  # fmt: skip
    assert [one.returncode for one in said] == [1, 0, 0], said
    known = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=15).topics
    assert len(known[f"{unique}.threats.ocsf"].partitions) == 2
    assert f"{unique}.threats.there" not in known
    assert f"create {unique}.threats.ocsf: 2 partitions, compact" in said[1].stdout


def test_an_output_may_go_to_another_cluster(kafka, topics, unique):
    topics("threats.sent")
    other = {"bootstrap": kafka.bootstrap, "prefix": f"{unique}."}
    output = OutputSettings.model_validate(
        {"name": "a", "format": "ocsf", "to": {"kind": "kafka", "topic": "threats.sent", "cluster": other}}
    )
    sender = open_target(output.to, FORMATS["ocsf"], KafkaSettings(bootstrap="127.0.0.1:1"))
    try:
        sender.send(THREAT, b'{"a":1}')
    finally:
        sender.close()
    (message,) = read_all(kafka.bootstrap, f"{unique}.threats.sent")
    assert msgspec.json.decode(message.value()) == {"a": 1}
    assert message.key() == THREAT.id.encode()
