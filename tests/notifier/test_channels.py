"""Messages reach real peers: a mail server, a webhook, ntfy's interface, an MQTT broker."""

from __future__ import annotations

import json
import time

import apprise
import paho.mqtt.client as mqtt
import pytest
from aiosmtpd.controller import Controller

from correlator.lab.brokers import MosquittoBroker, free_port
from correlator.notifier.channels import _with_options, masked, send
from correlator.words.message import Message
from tests.notifier.peers import webhook

TOLD = Message("Pharmacy store: Door forced open", "Since 00:14.\n")


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(envelope.content.decode())
        return "250 OK"


def test_a_mail_has_the_key_as_its_reference_and_is_marked_as_automatic():
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        url = f"mailto://127.0.0.1:{controller.port}?from=correlator@h.example&to=desk@h.example&mode=insecure"
        assert send(url, TOLD, "high", "t1/first/desk/0").error == ""
    finally:
        controller.stop()
    (mail,) = box.mails
    assert "Subject: Pharmacy store: Door forced open" in mail
    assert "References: <t1@correlator> <t1.first.desk.0@correlator>" in mail
    assert "Auto-Submitted: auto-generated" in mail


def test_a_webhook_gets_the_key_to_tell_repetitions_apart():
    with webhook() as peer:
        assert send(f"json://127.0.0.1:{peer.port}/alerts", TOLD, "critical", "t1/first/desk/0").ok
        ((path, headers, body),) = peer.got
    assert (path, headers["Idempotency-Key"]) == ("/alerts", "t1.first.desk.0")
    assert json.loads(body)["title"] == TOLD.subject


@pytest.mark.parametrize(
    ("url", "option"), [("pagerduty://A@B", "dedup=t1"), ("opsgenie://key", "alias=t1")], ids=["PagerDuty", "Opsgenie"]
)
def test_a_threat_is_one_incident_there(url, option):
    told = _with_options(url, "high", "t1/grown/desk/4.2")
    assert option in told.split("?")[1].split("&")
    assert apprise.Apprise.instantiate(told) is not None


def test_ntfy_gets_the_priority_and_no_address_of_a_public_picture():
    with webhook() as peer:
        assert send(f"ntfy://127.0.0.1:{peer.port}/pharmacy", TOLD, "critical", "k").ok
        ((_, headers, body),) = peer.got
    said = {**{key.lower(): value for key, value in headers.items()}, **json.loads(body)}
    assert (said["topic"], said["title"]) == ("pharmacy", TOLD.subject)
    assert said["x-priority"] == "max"
    assert "http" not in body.decode()


def test_a_message_over_mqtt_arrives(tmp_path):
    with MosquittoBroker(tmp_path) as broker:
        host, _, port = broker.address.rpartition(":")
        got: list[bytes] = []
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.on_message = lambda _client, _data, message: got.append(message.payload)
        client.on_connect = lambda client, *_: client.subscribe("alerts/desk", qos=1)
        subscribed: list[int] = []
        client.on_subscribe = lambda *_: subscribed.append(1)
        client.connect(host, int(port))
        client.loop_start()
        _until(lambda: subscribed)
        assert send(f"mqtt://{host}:{port}/alerts/desk", TOLD, "high", "k").error == ""
        _until(lambda: got)
        client.loop_stop()
        client.disconnect()
    assert b"Door forced open" in got[0]


def _until(held) -> None:
    end = time.monotonic() + 10
    while not held():
        assert time.monotonic() < end, "nothing came in ten seconds"
        time.sleep(0.02)


@pytest.mark.parametrize("answer", [503, 0, -1], ids=["503", "hangs", "closes"])
def test_a_receiver_that_does_not_take_it_is_an_error_in_words(answer):
    with webhook() as peer:
        peer.answers = [answer]
        began = time.monotonic()
        result = send(f"json://user:secret@127.0.0.1:{peer.port}/", TOLD, "high", "k")
        assert not result.ok
        assert result.error
        assert "secret" not in result.error
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("scheme", ["json", "ntfy"])
def test_a_busy_receiver_says_when_it_wants_to_be_asked_again(scheme):
    with webhook() as peer:
        peer.answers, peer.patience = [429], "120"
        url = f"{scheme}://127.0.0.1:{peer.port}/guards"
        assert send(url, TOLD, "high", "k").retry_after_ms == 120_000
        assert send(url, TOLD, "high", "k").ok
        peer.answers, peer.patience = [503], ""
        assert send(url, TOLD, "high", "k").retry_after_ms == 0


def test_a_channel_that_nobody_knows_is_an_error_in_words():
    assert send("carrierpigeon://roof", TOLD, "high", "k").error == (
        "carrierpigeon is no channel that Apprise knows, or its URL is incomplete"
    )


def test_secrets_do_not_stand_in_errors():
    assert masked("POST https://u:pw@h/x?token=abc&a=1 failed") == "POST https://***h/x?***&a=1 failed"
