"""correlator.yaml: faults with places, the environment before the file, secrets never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from correlator.cli.main import main
from correlator.config.describe import tables
from correlator.config.load import check, load
from correlator.config.preflight import reach
from correlator.errors import FaultyFile, UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.lab.brokers import free_port

SITE = """\
site: {id: h1, timezone: Europe/Rome}
floors: [{id: g, zones: [{id: z1}], doors: [{id: d1, between: [outside, z1]}]}]
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    (tmp_path / "site.yaml").write_text(SITE)
    monkeypatch.delenv("CORRELATOR_KAFKA__BOOTSTRAP", raising=False)

    def write(text: str) -> Path:
        file = tmp_path / "correlator.yaml"
        file.write_text(text)
        return file

    return write


GOOD = """\
kafka: {bootstrap: "k1:9092", security: sasl_ssl, username: engine, password: swordfish}
sites:
  - {site: site.yaml, engine: {lateness_ms: 3000}}
ingest:
  sources:
    - {input: raw.mqtt, topics: ["zigbee2mqtt/#"], dialect: zigbee2mqtt, source: zigbee, site: h1}
    - {input: raw.suricata, dialect: suricata, clock: {skew: 2m}}
"""

MEASURE = """\
measures:
  - {id: own-guard, says: "send our guard to {asset}", on: zone, barrier: guard, degree: 0.5, cost: 0.1}
"""

# (what is written, line:column, words that the fault must have)
FAULTS = [
    ("kafka: {bootstarp: x}\n", "1:9", "did you mean 'bootstrap'"),
    ("kafka:\n  security: tls\n", "2:13", "kafka.security"),
    ("kafkaa: {}\n", "1:1", "did you mean 'kafka'"),
    ("sites: [{rules: [pack]}]\n", "1:9", "'site' is missing"),
    ("ingest:\n  pack_events: 0\n", "2:16", "greater than or equal to 1"),
    ("ingest:\n  sources:\n    - {input: a, dialect: b, srouce: c}\n", "3:30", "did you mean 'source'"),
    ("worker: {batch_ms: soon}\n", "1:20", "worker.batch_ms: must be a whole number"),
    ("inputs:\n  - {name: a}\n", "2:3", "inputs: must be a mapping"),
    ("sites: site.yaml\n", "1:8", "sites: must be a list"),
    ("kafka: {security: sasl_ssl}\n", "1:8", "needs a username"),
    ("sites:\n  - {site: site.yaml, linking: {jion: 2}}\n", "2:33", "did you mean 'join'"),
    ("sites: [{site: site.yaml, impact: {gamma: sum}}]\n", "1:43", "gamma"),
    ("- a\n", "1:1", "one mapping"),
    ("kafka: {a: 1, a: 2}\n", "1:15", "given twice"),
]


@pytest.mark.parametrize(("text", "place", "words"), FAULTS)
def test_a_fault_is_told_with_line_and_column(written, text, place, words):
    file = written(text)
    with pytest.raises(FaultyFile) as found:
        load(file)
    told = [str(fault) for fault in found.value.faults]
    assert any(one.startswith(f"{file}:{place}:") and words in one for one in told), told


def test_every_fault_of_a_file_is_found_in_one_run(written):
    with pytest.raises(FaultyFile) as found:
        load(written("kafka: {security: tls}\nworker: {batch_ms: 0}\ningest: {tick_ms: 1}\n"))
    assert len(found.value.faults) == 3


def test_faults_of_rules_site_and_sources_are_found_together(written, tmp_path):
    (tmp_path / "site.yaml").write_text("site: {id: h1}\n")
    (tmp_path / "bad.yml").write_text(
        "title: x\ndetection: {a: {b: 1}, condition: c}\nlogsource: {product: correlator}\n"
    )
    loaded = load(
        written("sites: [{site: site.yaml, rules: [bad.yml]}]\ningest: {sources: [{input: a, dialect: zigbe}]}\n")
    )
    with pytest.raises(FaultyFile) as found:
        check(loaded)
    told = "\n".join(str(fault) for fault in found.value.faults)
    assert "timezone" in told
    assert "bad.yml" in told
    assert "no dialect 'zigbe'" in told


def test_an_input_that_no_source_reads_is_a_fault(written):
    more = "inputs:\n  files: [{name: raw.suricatta, path: eve.json}]\n"
    with pytest.raises(FaultyFile, match=r"inputs\.files\[0\]: input 'raw\.suricatta' has no row .*'raw\.suricata'"):
        check(load(written(GOOD + more)))
    only_receives = "bridge: {routes: [{topics: a, to: raw.far, site: h1}]}\n" + more
    assert check(load(written(only_receives))) == {}, "the file of a machine that only receives"


@pytest.mark.parametrize(
    "command", ["topics check", "config apply", "ingest", "worker", "outputs run", "journal verify"]
)
def test_a_kafka_that_is_away_is_said_in_words(written, command, capsys, monkeypatch):
    monkeypatch.setattr("correlator.cli.options._COMMAND_WAITS_S", 0.0)
    monkeypatch.setattr("correlator.cli.options._PROCESS_WAITS_S", 0.0)
    address = f"127.0.0.1:{free_port()}"
    file = written(f"kafka: {{bootstrap: '{address}'}}\nsites: [{{site: site.yaml, rules: []}}]\n")
    assert main([*command.split(), "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("correlator: the connection to Kafka failed (kafka.bootstrap")
    assert address in said
    assert len(said.splitlines()) == 1


def test_kafka_is_tried_again_and_that_is_told_once():
    told: list[str] = []
    with pytest.raises(UsageError, match=r"kafka\.bootstrap"):
        reach(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"), told.append, 2.5)
    assert len(told) == 1


def test_the_environment_comes_before_the_file(written, monkeypatch):
    file = written(GOOD)
    monkeypatch.setenv("CORRELATOR_KAFKA__BOOTSTRAP", "other:9093")
    monkeypatch.setenv("CORRELATOR_WORKER__INSTANCE", "w7")
    settings = load(file).settings
    assert settings.kafka.bootstrap == "other:9093"
    assert settings.kafka.username == "engine", "the rest of the section stays the file's"
    assert settings.worker.instance == "w7"


def test_a_fault_of_the_environment_names_the_variable(written, monkeypatch):
    file = written(GOOD)
    monkeypatch.setenv("CORRELATOR_WORKER__BATCH_MS", "soon")
    with pytest.raises(FaultyFile, match="CORRELATOR_WORKER__BATCH_MS"):
        load(file)


def test_show_prints_settings_that_load_again_and_no_secret(written, capsys, monkeypatch):
    file = written(GOOD)
    monkeypatch.setenv("CORRELATOR_KAFKA__BOOTSTRAP", "other:9093")
    assert main(["config", "show", "--config", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "swordfish" not in shown
    assert "# from the environment: CORRELATOR_KAFKA__BOOTSTRAP" in shown
    said = yaml.safe_load(shown)
    assert said["kafka"]["bootstrap"] == "other:9093"
    assert said["sites"][0]["engine"]["lateness_ms"] == 3000
    assert said["ingest"]["tick_ms"] == 100


def test_a_secret_is_read_from_a_file_and_never_shown(written, tmp_path, capsys):
    (tmp_path / "secret").write_text("swordfish\n")
    text = GOOD.replace("password: swordfish", f"password_file: {tmp_path / 'secret'}")
    file = written(text)
    assert load(file).settings.kafka.secret() == "swordfish"
    assert main(["config", "show", "--config", str(file)]) == 0
    assert "swordfish" not in capsys.readouterr().out


PATHS = """\
bridge: {mqtt: {user: b, password_file: mqtt.secret}, alive_file: alive}
inputs: {files: [{name: ids, path: eve.json}, {name: far, path: /var/log/eve.json}]}
"""


def test_paths_start_from_the_folder_of_the_file_and_not_from_where_a_process_starts(written, tmp_path, monkeypatch):
    written(PATHS)
    monkeypatch.chdir(tmp_path.parent)
    folder = Path(tmp_path.name)
    settings = load(folder / "correlator.yaml").settings
    assert settings.bridge.mqtt.password_file == folder / "mqtt.secret"
    assert settings.bridge.alive_file == folder / "alive"
    assert [one.path for one in settings.inputs.files] == [folder / "eve.json", Path("/var/log/eve.json")]
    assert settings.inputs.positions == folder / "positions.sqlite3"


def test_one_topic_filter_needs_no_brackets(written):
    text = GOOD.replace('topics: ["zigbee2mqtt/#"]', 'topics: "zigbee2mqtt/#"')
    assert load(written(text)).settings.ingest.sources[0].topics == ("zigbee2mqtt/#",)


def test_trusting_senders_clocks_is_refused_where_the_path_is_secured(written):
    with pytest.raises(FaultyFile, match="for simulations"):
        load(written(GOOD.replace("ingest:\n", "ingest:\n  trust_sender_time: true\n")))


def test_check_says_what_is_there(written, capsys):
    assert main(["config", "check", "--config", str(written(GOOD))]) == 0
    shown = capsys.readouterr().out
    assert "site h1: " in shown
    assert "sources: 2, of inputs: 2\n" in shown


def test_a_missing_file_is_no_traceback(tmp_path, capsys):
    assert main(["config", "check", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "there is no" in capsys.readouterr().err
    with pytest.raises(UsageError):
        load(tmp_path / "none.yaml")


def test_apply_prints_what_changes_and_writes_it_once(written, kafka, topics, unique, capsys, tmp_path):
    topics("config")
    base = f"kafka: {{bootstrap: '{kafka.bootstrap}', prefix: '{unique}.'}}\n"
    file = written(base + "sites: [{site: site.yaml, rules: [rules.yml]}]\n")
    rule = "title: {0}\nname: {0}\nlogsource: {{product: correlator}}\ndetection: {{a: {{kind: door.opened}}, condition: a}}\n"
    rules = tmp_path / "rules.yml"
    rules.write_text(rule.format("one"))

    def apply(*more: str) -> str:
        code = main(["config", "apply", "--config", str(file), *more])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    assert "new: 1 detections" in apply("--dry-run")
    assert "configuration 1 is written" in apply()
    assert "nothing changes" in apply()
    rules.write_text(rule.format("two"))
    (tmp_path / "own.yaml").write_text(MEASURE)
    more = "engine: {lateness_ms: 9000}, linking: {join: 1.75}, impact: {gamma: noisy_or, measures: [own.yaml]}"
    file.write_text(base + f"sites: [{{site: site.yaml, rules: [rules.yml], {more}}}]\n")
    told = apply("--dry-run")
    assert "~ linking.join: 1.5 -> 1.75" in told
    assert "~ impact.gamma: max -> noisy_or" in told
    assert "+ counter-measure own-guard" in told
    assert "+ rule two" in told
    assert "- rule one" in told
    assert "~ lateness_ms: 2000 -> 9000" in told
    assert "configuration 2 is written" in apply()
    file.write_text(base + "sites: [{site: site.yaml, rules: [rules.yml], linking: {enabled: false}}]\n")
    assert "~ linking: on -> off" in apply("--dry-run")
    (tmp_path / "site.yaml").write_text("site: {id: h1}\n")
    assert main(["config", "apply", "--config", str(file)]) == 2


def test_the_page_of_settings_is_what_the_settings_say(root, capsys):
    page = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    shown = page.partition("## Every setting\n\n")[2].partition("\n<!-- settings: end -->")[0]
    assert main(["config", "describe"]) == 0
    assert shown.strip() == capsys.readouterr().out.strip(), "print it anew with `correlator config describe`"


def test_every_setting_says_what_it_does():
    assert [line for line in tables().splitlines() if line.startswith("| `") and line.endswith("|  |")] == []


def test_the_example_of_the_page_is_taken(root, written):
    page = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    text = page.partition("```yaml\n")[2].partition("```")[0]
    settings = load(written(text)).settings
    assert settings.topics.replication == 3
    assert settings.worker.instance == "worker-1"
