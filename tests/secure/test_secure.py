"""The secured profile on real, secured brokers: each component works with its own rights and no further."""

from __future__ import annotations

import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import paho.mqtt.client as mqtt
import pytest
import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from correlator.cli.main import main
from correlator.config.load import load
from correlator.config.rights import kafka_rights, kafka_users
from correlator.delivery.process import run as deliver_all
from correlator.delivery.process import status
from correlator.events.event import Reject
from correlator.ingest.kafka import KafkaSettings
from correlator.journal.action import Act
from correlator.journal.feeds import KafkaFeed
from correlator.journal.kafka import KafkaJournal
from correlator.journal.store import JournalAway
from correlator.journal.view import View
from correlator.lab.brokers import KafkaBroker, MosquittoBroker
from correlator.lab.live import Service
from correlator.notifier.ownership import Ownership
from tests.brokers.fixtures import read_all
from tests.notifier.cases import THREATS

pytestmark = pytest.mark.xdist_group("secure")  # one secured Kafka for all of this file


@pytest.fixture(scope="module")
def profile(tmp_path_factory) -> Path:
    """What `correlator secure init` makes for a small site."""
    folder = tmp_path_factory.mktemp("secure")
    (folder / "correlator.yaml").write_text(
        'bridge: {routes: [{topics: "ev/#", to: raw.mqtt, site: h1}]}\n'
        "topics: {partitions: 1, raw_partitions: 1}\n"
        "ingest: {sources: [{input: raw.mqtt, dialect: zigbee2mqtt, site: h1}]}\n"
        "outputs: [{name: own, format: ocsf, to: {kind: kafka, topic: correlator-threats}}]\n"
    )
    assert main(["secure", "init", str(folder / "made"), "--config", str(folder / "correlator.yaml")]) == 0
    return folder / "made"


@pytest.fixture(scope="module")
def kafka(profile, tmp_path_factory):
    admin = (profile / "users/admin/kafka.password").read_text().strip()
    properties = profile / "kafka/server.properties"
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), properties=properties, users={"admin": admin}) as broker:
        config = ["--config", str(profile.parent / "correlator.yaml")]
        assert main(["secure", "apply", str(profile), "--kafka", broker.bootstrap, *config]) == 0
        file = write_settings(profile, broker, "admin")
        assert main(["topics", "create", "--config", str(file)]) == 0
        yield broker


@pytest.fixture(scope="module")
def mosquitto(profile, tmp_path_factory):
    with MosquittoBroker(tmp_path_factory.mktemp("mosquitto"), config=profile / "mosquitto/mosquitto.conf") as broker:
        yield broker


def write_settings(profile, kafka, user, mosquitto=None, **bridge) -> Path:
    """correlator.yaml with the generated part merged in, and the user of one component."""
    settings = yaml.safe_load((profile.parent / "correlator.yaml").read_text())
    made = yaml.safe_load((profile / "correlator.secure.yaml").read_text())
    settings["kafka"] = {
        **made["kafka"], "bootstrap": f"localhost:{kafka.port}", "username": user,
        "password_file": str(profile / f"users/{user}/kafka.password"),
    }  # fmt: skip
    if mosquitto is not None:
        settings["bridge"]["mqtt"] = {**made["bridge"]["mqtt"], "host": "localhost", "port": mosquitto.port, **bridge}
    file = profile.parent / f"{user}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def as_user(profile, kafka, user) -> KafkaSettings:
    return KafkaSettings(
        bootstrap=f"localhost:{kafka.port}", security="sasl_ssl", username=user, ca_file=profile / "ca.pem",
        password_file=profile / f"users/{user}/kafka.password",
    )  # fmt: skip


# ---- files ---------------------------------------------------------------------------------------------


def test_every_file_with_a_secret_is_for_its_owner_only(profile):
    open_to_all = {"ca.pem", "correlator.secure.yaml", "server.crt", "client.crt", "mosquitto.conf"}
    for path in profile.rglob("*"):
        if path.is_file():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o644 if path.name in open_to_all else 0o600), path


def test_nothing_that_exists_is_overwritten(profile, capsys):
    before = (profile / "ca.pem").read_bytes()
    assert main(["secure", "init", str(profile)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (profile / "ca.pem").read_bytes() == before


def test_a_secured_profile_takes_no_times_from_senders(profile, kafka, capsys):
    file = write_settings(profile, kafka, "bridge")
    text = file.read_text().replace("bridge:\n", "bridge:\n  trust_sender_time: true\n")
    other = file.with_name("trusting.yaml")
    other.write_text(text)
    assert main(["config", "check", "--config", str(other)]) == 2
    assert "trust_sender_time" in capsys.readouterr().err


class Running(Service):
    """A service of ours with its settings file."""

    def __init__(self, what: tuple[str, ...], file: Path, log: str) -> None:
        super().__init__(log, what, file.parent, {"PYTHONPATH": str(Path(__file__).resolve().parents[2])})
        self.command[-1] = str(file)
        self.start()

    def until_ready(self) -> None:
        until = time.monotonic() + 60
        while not self.ready:
            assert self.running, self.tail()
            assert time.monotonic() < until, self.tail()
            time.sleep(0.05)

    def ended(self) -> tuple[int, str]:
        assert self._process is not None
        return self._process.wait(60), self.tail()


# ---- ingest and worker (first: the tests below write into every topic) -----------------------------------------------------------------------------------


def test_ingest_and_worker_run_with_their_own_rights(profile, kafka):
    for part in ("ingest", "worker"):
        running = Running((part,), write_settings(profile, kafka, part), part)
        try:
            running.until_ready()
        finally:
            running.stop()


@pytest.mark.parametrize(("part", "user"), [("ingest", "worker"), ("worker", "ingest")])
def test_ingest_and_worker_say_why_with_the_rights_of_another(profile, kafka, part, user):
    file = write_settings(profile, kafka, user)
    running = Running((part,), file, f"{part}-as-{user}")
    try:
        code, said = running.ended()
    finally:
        running.stop()
    assert code != 0
    assert "Traceback" not in said
    assert f"Kafka refuses user '{user}' what {part} needs" in said


# ---- Kafka: what each user may and may not ---------------------------------------------------------------

TOPICS = ("raw.mqtt", "events", "events.enriched", "matches", "threats", "state", "rejects", "config",
          "console.actions", "evidence")  # fmt: skip


def can_write(profile, kafka, user, topic) -> bool:
    outcome: list[KafkaError | None] = []
    producer = Producer(as_user(profile, kafka, user).client(message__timeout__ms=15_000))
    producer.produce(topic, b"{}", b"try", partition=0, on_delivery=lambda error, _: outcome.append(error))
    producer.flush(20)
    assert outcome, f"{user} on {topic}: no answer"
    if outcome[0] is None:
        return True
    assert outcome[0].code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNKNOWN_PARTITION), outcome[0]
    return False


def can_read(profile, kafka, user, topic) -> bool:
    consumer = Consumer(
        as_user(profile, kafka, user).client(
            group__id="never-joined", enable__auto__commit=False, auto__offset__reset="earliest",
            enable__partition__eof=True,
        )
    )  # fmt: skip
    try:
        known = consumer.list_topics(topic, timeout=15).topics[topic].error
        if known is not None:
            assert known.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, known
            return False
        consumer.assign([TopicPartition(topic, 0, 0)])
        until = time.monotonic() + 15
        while time.monotonic() < until:
            for message in consumer.consume(1, timeout=1):
                error = message.error()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    return True
                if error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART):
                    return False
                # The group is nobody's; reading needs none.
                assert error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED, error
    finally:
        consumer.close()
    raise AssertionError(f"{user} on {topic}: no answer")


@pytest.mark.parametrize("user", ["bridge", "ingest", "worker", "outputs", "notifier", "console", "shipper"])
def test_a_user_reads_and_writes_what_the_table_gives_and_nothing_else(profile, kafka, user):
    settings = load(profile.parent / "correlator.yaml").settings
    rights = [right for right in kafka_rights(settings) if right.user == user and right.kind == "TOPIC"]

    def given(topic: str, operation: str) -> bool:
        return any(
            right.operation == operation and (topic.startswith(right.name) if right.prefixed else topic == right.name)
            for right in rights
        )

    for topic in TOPICS:
        assert can_write(profile, kafka, user, topic) == given(topic, "WRITE"), f"{user} writes {topic}"
    for topic in ("raw.mqtt", "events", "threats", "state", "config"):
        assert can_read(profile, kafka, user, topic) == given(topic, "READ"), f"{user} reads {topic}"


def test_no_component_may_make_topics_or_give_rights(profile, kafka):
    for user in kafka_users():
        admin = AdminClient(as_user(profile, kafka, user).client())
        with pytest.raises(KafkaException) as refused:
            admin.create_topics([NewTopic(f"of-{user}", 1, 1)])[f"of-{user}"].result(15)
        assert refused.value.args[0].code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        )  # fmt: skip


def test_rights_that_are_no_longer_in_the_table_are_taken_away(profile, kafka, capsys):
    wide = profile.parent / "wide.yaml"
    wide.write_text('bridge: {routes: [{topics: "ev/#", to: raw.extra, site: h1}]}\n')
    config = ["--config", str(wide)]
    assert main(["secure", "apply", str(profile), "--kafka", f"localhost:{kafka.port}", *config]) == 0
    # Another topic for the bridge; its former one and the output's own are in this file no more.
    assert "1 rights given, 2 taken away" in capsys.readouterr().out
    config = ["--config", str(profile.parent / "correlator.yaml")]
    assert main(["secure", "apply", str(profile), "--kafka", f"localhost:{kafka.port}", *config]) == 0
    assert "2 rights given, 1 taken away" in capsys.readouterr().out
    assert main(["secure", "apply", str(profile), "--kafka", f"localhost:{kafka.port}", *config]) == 0
    assert "0 rights given, 0 taken away" in capsys.readouterr().out


# ---- outputs and notifier ------------------------------------------------------------------------------


def test_outputs_deliver_reject_and_keep_their_place_with_their_own_rights(profile, kafka):
    """One threat goes to a topic of another name than threats.*, what is no threat to rejects; both are committed."""
    producer = Producer(as_user(profile, kafka, "admin").client())
    for value in (msgspec.json.encode(THREATS["combined"]), b"no threat"):
        producer.produce("threats", value, b"k", partition=0)
    assert producer.flush(30) == 0
    outputs = load(profile.parent / "correlator.yaml").settings.outputs
    settings, stop = as_user(profile, kafka, "outputs"), threading.Event()
    thread = threading.Thread(target=deliver_all, args=(outputs, settings, stop))
    thread.start()
    try:
        end = time.monotonic() + 60
        while [(name, waiting) for name, done, waiting in status(outputs, settings) if done >= 2] != [("own", 0)]:
            assert time.monotonic() < end
            time.sleep(0.2)
    finally:
        stop.set()
        thread.join(30)
    admin = as_user(profile, kafka, "admin").client()
    host = admin.pop("bootstrap.servers")
    assert [one.key() for one in read_all(host, "correlator-threats", **admin)] == [THREATS["combined"].id.encode()]
    said = [one.value() for one in read_all(host, "rejects", **admin) if one.value() != b"{}"]
    rejects = [msgspec.json.decode(one, type=Reject) for one in said]
    assert ("unreadable_threat", b"no threat") in [(one.reason, one.payload) for one in rejects]


def test_the_notifier_reads_writes_and_takes_over_with_its_own_rights(profile, kafka):
    client = as_user(profile, kafka, "notifier").client()
    journal = KafkaJournal(client)
    for _ in range(20):
        with suppress(JournalAway):  # a person would press again: logging in takes longer than a write may
            journal.append(Act(id="a", site="h1", who="notifier", verb="login", at_ms=1))
            break
    view, owner = View(":memory:"), Ownership(client, "console.actions")
    feed = KafkaFeed(client, view, enriched="events.enriched")
    try:
        end = time.monotonic() + 60
        while not (owner.mine() and feed.caught_up()):
            assert time.monotonic() < end
            feed.poll(view, 0.1)
        assert [act.id for _, act, _ in view.acts("h1")] == ["a"]
        admin = Producer(as_user(profile, kafka, "admin").client())
        admin.produce("console.actions", b"{}", b"h1", partition=0)
        assert admin.flush(30) == 0
        assert [act.id for _, act in journal.read(-1)] == ["a"], "what is no action stops nobody"
        assert journal.unreadable > 0
    finally:
        owner.close()
        feed.close()
        journal.close()


# ---- the bridge ----------------------------------------------------------------------------------------


def publish(profile, mosquitto, topic, payload, user="devices", password=None):
    """The reason code of a publish over TLS, as the device sees it."""
    reasons: list[object] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_publish = lambda _c, _u, _mid, reason, _p: reasons.append(reason)
    client.on_connect = lambda _c, _u, _f, reason, _p: reasons.append(reason) if reason.is_failure else None
    client.tls_set(str(profile / "ca.pem"))
    client.username_pw_set(user, password or (profile / f"users/{user}/mqtt.password").read_text().strip())
    client.connect("localhost", mosquitto.port)
    client.loop_start()
    client.publish(topic, payload, qos=1)
    until = time.monotonic() + 10
    while not reasons and time.monotonic() < until:
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()
    return str(reasons[0])


def test_the_bridge_carries_over_tls_with_its_own_rights(profile, kafka, mosquitto):
    running = Running(("bridge", "run"), write_settings(profile, kafka, "bridge", mosquitto), "carries")
    try:
        running.until_ready()
        assert publish(profile, mosquitto, "ev/door", b"over TLS") == "Success"
        until = time.monotonic() + 20
        security = as_user(profile, kafka, "admin").client()
        while b"over TLS" not in [m.value() for m in read_all(kafka.bootstrap, "raw.mqtt", **security)]:
            assert time.monotonic() < until, running.tail()
            time.sleep(0.1)
    finally:
        running.stop()


def test_mqtt_refuses_beyond_rights_and_wrong_passwords(profile, mosquitto):
    assert publish(profile, mosquitto, "ev/x", b"1") in ("Success", "No matching subscribers")
    assert publish(profile, mosquitto, "elsewhere", b"1") == "Not authorized"
    assert publish(profile, mosquitto, "ev/x", b"1", user="bridge") == "Not authorized"
    assert publish(profile, mosquitto, "ev/x", b"1", password="wrong") in (
        "Not authorized",
        "Bad user name or password",
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kafka": {"username": "notifier", "password_file": "notifier"}}, "topic raw.mqtt: Kafka refuses this user access to a topic"),
        ({"kafka": {"username": "nobody"}}, "Kafka refuses username or password (kafka.username, kafka.password_file)"),
        ({"mqtt": {"user": "devices"}}, "the MQTT broker does not let user 'devices' in"),
        ({"mqtt": {"tls": None, "user": "", "password_file": None}}, "is TLS on at one end only"),
        ({"mqtt": {"tls": {"ca": "/etc/ssl/certs/ca-certificates.crt"}}}, "certificate is not trusted (bridge.mqtt.tls.ca)"),
        ({"mqtt": {"tls": {"ca": "/nowhere.pem"}}}, "/nowhere.pem: no usable certificates (bridge.mqtt.tls.ca)"),
    ],
    ids=["no right", "wrong user", "wrong password", "no TLS", "other authority", "no file"],
)  # fmt: skip
def test_a_bridge_that_is_refused_says_why(profile, kafka, mosquitto, change, says):
    file = write_settings(profile, kafka, "bridge", mosquitto)
    settings = yaml.safe_load(file.read_text())
    settings["kafka"] |= change.get("kafka", {})
    if settings["kafka"]["password_file"] == "notifier":
        settings["kafka"]["password_file"] = str(profile / "users/notifier/kafka.password")
    settings["bridge"]["mqtt"] |= change.get("mqtt", {})
    other = file.with_name("refused.yaml")
    other.write_text(yaml.safe_dump(settings))
    running = Running(("bridge", "run"), other, f"refused-{abs(hash(says))}")
    try:
        until = time.monotonic() + 60
        while says not in running.log.read_text():
            assert running.running or says in running.log.read_text(), running.tail()
            assert time.monotonic() < until, running.tail()
            time.sleep(0.1)
        assert "Traceback" not in running.log.read_text()
    finally:
        running.stop()


def test_the_bridge_shows_its_certificate_to_a_broker_that_asks_for_one(profile, kafka, tmp_path):
    options = {"require_certificate": "true"}
    broker = MosquittoBroker(tmp_path / "mtls", config=profile / "mosquitto/mosquitto.conf", options=options)
    with broker:
        home = profile / "users/bridge"
        tls = {"ca": str(profile / "ca.pem")}
        without = Running(("bridge", "run"), write_settings(profile, kafka, "bridge", broker, tls=tls), "without")
        time.sleep(3)
        assert not without.ready
        without.stop()
        tls |= {"certificate": str(home / "client.crt"), "key": str(home / "client.key")}
        running = Running(("bridge", "run"), write_settings(profile, kafka, "bridge", broker, tls=tls), "mtls")
        try:
            running.until_ready()
        finally:
            running.stop()


def test_renewed_certificates_work_with_the_old_authority(profile, kafka, tmp_path):
    before = (profile / "mosquitto/server.crt").read_bytes()
    assert main(["secure", "renew", str(profile)]) == 0
    assert (profile / "mosquitto/server.crt").read_bytes() != before
    with MosquittoBroker(tmp_path / "renewed", config=profile / "mosquitto/mosquitto.conf") as broker:
        assert publish(profile, broker, "ev/x", b"1") in ("Success", "No matching subscribers")


def test_the_environment_file_names_user_and_password(profile):
    said = dict(line.split("=", 1) for line in (profile / "users/worker/kafka.env").read_text().splitlines())
    assert said["CORRELATOR_KAFKA__USERNAME"] == "worker"
    assert os.access(said["CORRELATOR_KAFKA__PASSWORD_FILE"], os.R_OK)
