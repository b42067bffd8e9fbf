"""The recipes of docs/siem.md as they stand there, with only the receiver's address replaced, on real connections."""

from __future__ import annotations

import base64
import json
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from correlator.config.load import load
from correlator.delivery.process import State, deliver, wanted
from correlator.delivery.targets import open_target
from correlator.ingest.kafka import KafkaSettings
from correlator.outputs.formats import FORMATS
from tests.notifier.cases import THREATS
from tests.notifier.peers import webhook
from tests.outputs.test_scenarios import valid

PAGE = (Path(__file__).parents[2] / "docs/siem.md").read_text(encoding="utf-8")
RECIPES = {
    title: text
    for title, text in re.findall(r"^## ([^\n]+)\n\n```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    if text.startswith("outputs:")
}
THREAT = THREATS["combined"]


@pytest.fixture
def recipe(tmp_path, certificate):
    """The outputs of a recipe, loaded from a file with its secrets and certificate beside it."""

    def made(title: str, secret: str, port: int):
        (text,) = [text for name, text in RECIPES.items() if name.startswith(title)]
        said = yaml.safe_load(text)
        for one in said["outputs"]:
            at = urlsplit(one["to"]["url"])
            one["to"]["url"] = at._replace(netloc=f"localhost:{port}").geturl()
        file = tmp_path / "correlator.yaml"
        file.write_text(yaml.safe_dump(said))
        outputs = load(file).settings.outputs
        for one in outputs:
            one.to.token_file.parent.mkdir(exist_ok=True)
            one.to.token_file.write_text(secret + "\n")
            one.to.ca_file.parent.mkdir(exist_ok=True)
            one.to.ca_file.write_bytes((certificate / "cert.pem").read_bytes())
        return outputs

    return made


@pytest.fixture
def tls(certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def delivered(output) -> None:
    sender = open_target(output.to, FORMATS[output.format], KafkaSettings())
    try:
        assert wanted(THREAT, output)
        assert deliver(THREAT, output, sender, State(), lambda _: True) == ""
    finally:
        sender.close()


def test_splunk_gets_what_its_event_collector_takes(recipe, tls):
    """Splunk, "Format events for HTTP Event Collector": the token after the word Splunk; event, time in seconds with
    milliseconds, source, sourcetype."""
    with webhook(tls) as peer:
        (output,) = recipe("Splunk", "11111111-2222-3333-4444-555555555555", peer.port)
        delivered(output)
        ((path, headers, body),) = peer.got
    assert path == "/services/collector/event"
    assert headers["Authorization"] == "Splunk 11111111-2222-3333-4444-555555555555"
    told = json.loads(body)
    assert set(told) <= {"time", "host", "source", "sourcetype", "index", "fields", "event"}
    assert told["time"] == THREAT.decided_ms / 1000
    valid("ocsf", json.dumps(told["event"]).encode())


@pytest.mark.parametrize(
    ("title", "secret", "authorization"),
    [
        ("Elastic", "VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==", "ApiKey {}"),
        ("OpenSearch", base64.b64encode(b"correlator:secret").decode(), "Basic {}"),
    ],
)
def test_elastic_and_opensearch_get_a_bulk_request(title, secret, authorization, recipe, tls):
    """Elastic, "Bulk API": newline-delimited JSON, the action before the document, a newline at the end."""
    with webhook(tls) as peer:
        (output,) = recipe(title, secret, peer.port)
        delivered(output)
        ((path, headers, body),) = peer.got
    assert path.endswith("/_bulk")
    assert headers["Authorization"] == authorization.format(secret)
    assert headers["Content-Type"] == "application/x-ndjson"
    action, document, end = body.split(b"\n")
    assert (json.loads(action), end) == ({"index": {"_id": THREAT.id}}, b"")
    valid(output.format, document)


def test_sentinel_is_reached_as_event_hubs_wants_it(tmp_path):
    """Azure, "Use Event Hubs from Kafka applications": SASL over TLS, PLAIN, $ConnectionString and the string."""
    (text,) = [text for name, text in RECIPES.items() if name.startswith("Microsoft Sentinel")]
    (tmp_path / "correlator.yaml").write_text(text)
    (tmp_path / "secrets").mkdir()
    secret = "Endpoint=sb://namespace.example/;SharedAccessKeyName=send;SharedAccessKey=abc="
    (tmp_path / "secrets/eventhubs.connection").write_text(secret + "\n")
    (output,) = load(tmp_path / "correlator.yaml").settings.outputs
    client = output.to.cluster.client()
    assert {name: client[name] for name in client if name.startswith(("sasl", "security", "bootstrap"))} == {
        "bootstrap.servers": "NAMESPACE.servicebus.windows.net:9093", "security.protocol": "sasl_ssl",
        "sasl.mechanism": "PLAIN", "sasl.username": "$ConnectionString", "sasl.password": secret,
    }  # fmt: skip


def test_wazuh_follows_a_file_of_one_json_line_a_revision(tmp_path):
    (text,) = [text for name, text in RECIPES.items() if name.startswith("Wazuh")]
    (tmp_path / "correlator.yaml").write_text(text.replace("/var/log/correlator", "logs"))
    (tmp_path / "logs").mkdir()
    output = load(tmp_path / "correlator.yaml").settings.outputs[0]
    for _ in range(2):
        delivered(output)
    lines = (tmp_path / "logs/threats.ndjson").read_bytes().splitlines()
    assert len(lines) == 2
    for line in lines:
        valid("ecs", line)
        told = json.loads(line)
        # what the rules of the page ask for: Wazuh's JSON decoder joins names with dots
        assert re.search("^correlator.threats$", told["event"]["dataset"])
        assert re.search("^high$|^critical$", told["cps"]["severity"])
        assert "message" in told
