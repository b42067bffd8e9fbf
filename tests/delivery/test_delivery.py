"""Threats reach other systems through real brokers and sockets, once each however often something is away."""

from __future__ import annotations

import io
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager

import msgspec
import pytest
from confluent_kafka import Producer

from correlator.clock import retry_after_ms
from correlator.delivery import process
from correlator.delivery.process import State, deliver, run, status, wanted
from correlator.delivery.settings import OutputSettings
from correlator.delivery.targets import Refused, open_target
from correlator.events.threat import Threat
from correlator.ingest.kafka import KafkaSettings
from correlator.lab.brokers import free_port
from correlator.outputs.formats import FORMATS
from correlator.stream.commands import list_rejects, show_reject
from tests.brokers.fixtures import read_all
from tests.notifier.cases import THREATS
from tests.notifier.peers import webhook

pytestmark = pytest.mark.xdist_group("brokers")
NO_KAFKA = KafkaSettings()


def output(format="ocsf", severity="low", name="siem", **to) -> OutputSettings:
    return OutputSettings.model_validate({"name": name, "format": format, "severity": severity, "to": to})


def numbered(n: int, **changes) -> Threat:
    return msgspec.structs.replace(THREATS["combined"], id=f"{n:032x}", **changes)


@contextmanager
def running(outputs, kafka):
    """All outputs at work until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(outputs, kafka, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def until(held, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not held():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def opened():
    """Opens a target and closes it behind the test."""
    senders = []

    def make(target: OutputSettings):
        senders.append(open_target(target.to, FORMATS[target.format], NO_KAFKA))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


@pytest.fixture
def cluster(kafka, topics, unique):
    """Settings of a cluster with the topics of a delivery."""
    for name in ("threats", "rejects", "threats.ocsf", "events.enriched", "evidence"):
        topics(name)
    return KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{unique}.")


def publish(cluster, *threats) -> None:
    producer = Producer(cluster.client())
    for threat in threats:
        value = threat if isinstance(threat, bytes) else msgspec.json.encode(threat)
        producer.produce(cluster.topic("threats"), value, b"k")
    assert producer.flush(15) == 0


# ---- which threats -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "severity", "goes"),
    [("combined", "high", True), ("combined", "critical", False), ("opened", "low", False), ("merged", "low", True)],
    ids=["severe enough", "not severe enough", "only watched", "merged is told"],
)
def test_which_threats_go_there(name, severity, goes):
    assert wanted(THREATS[name], output(severity=severity, kind="file", path="x")) is goes


def test_an_output_may_be_for_some_sites_and_for_watches():
    some = OutputSettings.model_validate(
        {"name": "a", "format": "ecs", "watches": True, "sites": ["other"], "to": {"kind": "file", "path": "x"}}
    )
    here = some.model_copy(update={"sites": ("h-test",)})
    assert [wanted(THREATS["opened"], one) for one in (some, here)] == [False, True]


# ---- Kafka -------------------------------------------------------------------------------------


def test_a_consumer_with_the_settings_of_the_recipe_reads_ocsf_from_its_topic(cluster, kafka):
    publish(cluster, *(numbered(n) for n in range(5)))
    outputs = [output(kind="kafka", topic="threats.ocsf")]
    with running(outputs, cluster):
        until(lambda: len(read_all(kafka.bootstrap, cluster.topic("threats.ocsf"))) == 5)
    messages = read_all(kafka.bootstrap, cluster.topic("threats.ocsf"))
    assert [json.loads(one.value())["finding_info"]["uid"] for one in messages] == [f"{n:032x}" for n in range(5)]
    assert [one.key().decode() for one in messages] == [f"{n:032x}" for n in range(5)]
    headers = dict(messages[0].headers())
    assert (headers["ce_type"], headers["content-type"]) == (b"correlator.threat.ocsf", b"application/json")
    assert status(outputs, cluster) == [("siem", 5, 0)]


def test_a_restarted_output_goes_on_where_it_stood(cluster, kafka):
    outputs = [output(kind="kafka", topic="threats.ocsf")]
    for start in (0, 5):
        publish(cluster, *(numbered(n) for n in range(start, start + 5)))
        with running(outputs, cluster):
            until(lambda end=start + 5: len(read_all(kafka.bootstrap, cluster.topic("threats.ocsf"))) >= end)
    assert len(read_all(kafka.bootstrap, cluster.topic("threats.ocsf"))) == 10


def test_one_output_that_waits_does_not_hold_the_others(cluster, kafka, tmp_path):
    publish(cluster, *(numbered(n) for n in range(3)))
    dead = output(name="dead", kind="http", url=f"http://127.0.0.1:{free_port()}/")
    alive = output(name="alive", kind="file", path=str(tmp_path / "out.ndjson"))
    with running([dead, alive], cluster):
        until(
            lambda: (tmp_path / "out.ndjson").exists() and len((tmp_path / "out.ndjson").read_bytes().splitlines()) == 3
        )
    assert [one[1:] for one in status([dead, alive], cluster)] == [(0, 3), (3, 0)]


def test_what_will_never_be_taken_goes_to_rejects_with_its_reason(cluster, kafka):
    with webhook() as peer:
        peer.answers = [400]
        publish(cluster, numbered(1), b"{not json", numbered(2))
        with running([output(kind="http", url=f"http://127.0.0.1:{peer.port}/")], cluster):
            until(lambda: len(peer.got) == 1)
        rejects = [json.loads(one.value()) for one in read_all(kafka.bootstrap, cluster.topic("rejects"))]
    assert [(one["reason"], one["detail"]) for one in rejects] == [
        ("output_refused", "127.0.0.1 answered 400"),
        ("unreadable_threat", rejects[1]["detail"]),
    ]
    assert json.loads(peer.got[0][2])["finding_info"]["uid"] == f"{2:032x}"


def test_rejects_of_an_output_are_listed_and_shown_like_all_others_and_what_is_none_is_said(cluster, kafka):
    with webhook() as peer:
        peer.answers = [400]
        publish(cluster, numbered(1))
        with running([output(kind="http", url=f"http://127.0.0.1:{peer.port}/")], cluster):
            until(lambda: len(read_all(kafka.bootstrap, cluster.topic("rejects"))) == 1)
    producer = Producer(cluster.client())
    producer.produce(cluster.topic("rejects"), b"{}", partition=0)
    assert producer.flush(10) == 0
    out = io.StringIO()
    list_rejects(cluster, out, reason="", site="", last=9)
    said = out.getvalue()
    assert "siem  output_refused: 127.0.0.1 answered 400" in said
    assert "is no reject: Object missing required field" in said
    listed = next(line for line in said.splitlines() if "output_refused:" in line)
    out = io.StringIO()
    show_reject(cluster, listed.split()[0], out)
    assert "raw: threats/0:0" in out.getvalue()
    assert f'"id":"{1:032x}"' in out.getvalue()


# ---- HTTP --------------------------------------------------------------------------------------


def test_forty_refusals_and_then_success_are_one_message(opened):
    with webhook() as peer:
        peer.answers = [503] * 40
        target = output(kind="http", url=f"http://127.0.0.1:{peer.port}/in?a=1")
        state = State()
        sender = opened(target)
        assert deliver(THREATS["combined"], target, sender, state, lambda _: False) == ""
        assert (state.tries, state.delivered, state.last_error) == (41, 1, "")
        assert [(path, headers["Idempotency-Key"]) for path, headers, _ in peer.got] == [
            ("/in?a=1", "0a1b2c3d4e5f60718293a4b5c6d7e8f9/3")
        ]


@pytest.mark.parametrize(("patience", "waits_s"), [("90", 90), ("", 0.5), ("86400", 3_600), ("soon", 0.5)])
def test_a_receiver_that_says_when_to_come_back_is_not_asked_before(patience, waits_s, opened):
    with webhook() as peer:
        peer.answers, peer.patience = [503], patience
        target, waited = output(kind="http", url=f"http://127.0.0.1:{peer.port}/"), []
        said = deliver(THREATS["combined"], target, opened(target), State(), lambda s: bool(waited.append(s)))
        assert (said, waited) == ("", [waits_s])


@pytest.mark.parametrize(
    ("header", "ms"),
    [
        ("120", 120_000),
        ("Sun, 25 Oct 2026 01:30:00 GMT", 90_000),
        ("Sun, 25 Oct 2026 01:00:00 GMT", 0),
        ("9" * 5_000, 86_400_000),
        ("-1", 0),
        ("soon", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, ms):
    assert retry_after_ms(header, now_ms=1_792_891_710_000) == ms  # 25 Oct 2026, 01:28:30 UTC


def test_the_token_of_a_file_is_sent_and_told_to_nobody(tmp_path, opened):
    (tmp_path / "token").write_text("s3cret\n")
    with webhook() as peer:
        target = output(
            kind="http",
            url=f"http://127.0.0.1:{peer.port}/",
            token_file=str(tmp_path / "token"),
            scheme="Splunk",
            wrap="splunk",
        )
        opened(target).send(THREATS["combined"], b'{"a":1}')
        ((_, headers, body),) = peer.got
    assert headers["Authorization"] == "Splunk s3cret"
    assert json.loads(body) == {
        "event": {"a": 1}, "time": 1792880341.0, "source": "correlator", "sourcetype": "correlator:threat",
    }  # fmt: skip
    assert "s3cret" not in repr(target)


def test_elastic_gets_a_bulk_request_that_overwrites_the_same_threat(opened):
    with webhook() as peer:
        target = output(format="ecs", kind="http", url=f"http://127.0.0.1:{peer.port}/threats/_bulk", wrap="elastic")
        deliver(THREATS["combined"], target, opened(target), State(), lambda _: True)
        ((path, headers, body),) = peer.got
    action, document, end = body.split(b"\n")
    assert (path, headers["Content-Type"], end) == ("/threats/_bulk", "application/x-ndjson", b"")
    assert json.loads(action) == {"index": {"_id": THREATS["combined"].id}}
    assert json.loads(document)["event"]["id"] == THREATS["combined"].id


def test_a_refusal_for_good_is_not_tried_again(opened):
    with webhook() as peer:
        peer.answers = [401]
        target = output(kind="http", url=f"http://127.0.0.1:{peer.port}/")
        with pytest.raises(Refused, match="answered 401"):
            opened(target).send(THREATS["combined"], b"{}")


# ---- syslog ------------------------------------------------------------------------------------


class Receiver(socketserver.StreamRequestHandler):
    """Reads octet-counted messages (RFC 6587, section 3.4.1)."""

    def handle(self) -> None:
        while True:
            digits = b""
            while not digits.endswith(b" "):
                byte = self.rfile.read(1)
                if not byte:
                    return
                digits += byte
            self.server.got.append(self.rfile.read(int(digits)))  # type: ignore[attr-defined]
            if self.server.close_after_each:  # type: ignore[attr-defined]
                return


@contextmanager
def syslog_receiver(context: ssl.SSLContext | None = None, *, close_after_each=False):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Receiver) as server:
        server.daemon_threads = True
        server.got, server.close_after_each = [], close_after_each  # type: ignore[attr-defined]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.mark.parametrize("format", ["cef", "leef"])
def test_syslog_over_tls_arrives_whole_and_apart(format, certificate, opened):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with syslog_receiver(context) as server:
        target = output(
            format=format, kind="syslog", host="localhost", port=server.server_address[1],
            ca_file=str(certificate / "cert.pem"),
        )  # fmt: skip
        sender = opened(target)
        for threat in THREATS.values():
            assert deliver(threat, target, sender, State(), lambda _: False) == ""
        until(lambda: len(server.got) == len(THREATS))
    marker = b"CEF:0|" if format == "cef" else b"LEEF:2.0|"
    assert all(one.count(marker) >= 1 and one.startswith(b"<") for one in server.got)


def test_a_receiver_whose_certificate_is_not_known_gets_nothing(certificate, opened):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with syslog_receiver(context) as server:
        target = output(format="cef", kind="syslog", host="localhost", port=server.server_address[1])
        state = State()
        with pytest.raises(Exception, match="certificate"):
            deliver(THREATS["combined"], target, opened(target), state, lambda _: True)
        assert server.got == []


def test_a_receiver_that_closes_after_each_message_loses_none(opened):
    with syslog_receiver(close_after_each=True) as server:
        target = output(format="cef", kind="syslog", host="127.0.0.1", port=server.server_address[1], transport="tcp")
        sender = opened(target)
        for n in range(5):
            deliver(numbered(n), target, sender, State(), lambda _: False)
            until(lambda n=n: len(server.got) == n + 1)
            time.sleep(0.02)  # the closing travels after the message
    assert len(server.got) == 5


def test_a_datagram_arrives(opened):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        target = output(format="leef", kind="syslog", host="127.0.0.1", port=receiver.getsockname()[1], transport="udp")
        deliver(THREATS["combined"], target, opened(target), State(), lambda _: True)
        assert b"LEEF:2.0|" in receiver.recv(65_536)


# ---- Alertmanager ------------------------------------------------------------------------------


@pytest.fixture
def alertmanager(tmp_path):
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    assert program is not None, "Alertmanager is missing: apt-get install --yes prometheus-alertmanager"
    (tmp_path / "am.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    port = free_port()
    command = [program, f"--config.file={tmp_path / 'am.yml'}", f"--storage.path={tmp_path}",
               f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]  # fmt: skip
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: _answers(port))
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_alertmanager_holds_one_alert_that_grows_and_ends(alertmanager, opened):
    target = output(format="alertmanager", kind="http", url=f"http://127.0.0.1:{alertmanager}/api/v2/alerts")
    sender = opened(target)
    now_ms = int(time.time() * 1000)
    told = msgspec.structs.replace(THREATS["combined"], opened_ms=now_ms - 1_000, decided_ms=now_ms)
    for threat in (told, msgspec.structs.replace(told, severity="critical", revision=4)):
        assert deliver(threat, target, sender, State(), lambda _: True) == ""
    (alert,) = amtool(alertmanager)
    assert alert["labels"] == {"alertname": "CompositeThreat", "site": "h-test", "threat": told.id}
    assert alert["annotations"]["severity"] == "critical"
    closed = msgspec.structs.replace(told, phase="quiet", revision=5, decided_ms=now_ms + 1)
    assert deliver(closed, target, sender, State(), lambda _: True) == ""
    until(lambda: amtool(alertmanager) == [])


def test_an_open_alert_stays_there_and_a_restart_goes_on_repeating_it(alertmanager, cluster, monkeypatch):
    """Alertmanager forgets an alert at its end; what is open must be repeated, also what was sent before a restart."""
    monkeypatch.setattr(process, "REPEAT_S", 1.0)
    monkeypatch.setattr(process, "STAY_MS", 6_000)
    now_ms = int(time.time() * 1000)
    still_open, gone = (numbered(n, opened_ms=now_ms - 60_000, decided_ms=now_ms - 50_000) for n in (1, 2))
    publish(cluster, still_open, gone, msgspec.structs.replace(gone, phase="quiet", revision=9, decided_ms=now_ms))
    outputs = [output(format="alertmanager", kind="http", url=f"http://127.0.0.1:{alertmanager}/api/v2/alerts")]
    with running(outputs, cluster):
        until(lambda: [one["labels"]["threat"] for one in amtool(alertmanager)] == [still_open.id])
        time.sleep(7)
        assert len(amtool(alertmanager)) == 1
    until(lambda: amtool(alertmanager) == [])
    assert status(outputs, cluster) == [("siem", 3, 0)]
    with running(outputs, cluster):
        until(lambda: [one["labels"]["threat"] for one in amtool(alertmanager)] == [still_open.id])


def amtool(port: int) -> list[dict]:
    command = ["amtool", f"--alertmanager.url=http://127.0.0.1:{port}", "alert", "query", "--output=json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
