"""`correlator bridge run --dry-run`: what each message would become, with nothing written and nothing taken.

Listens with a client id and session of its own, so that the running bridge keeps its messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode

from correlator.bridge.mapping import Mapping, MqttMessage, subscriptions
from correlator.bridge.session import apply_tls, new_client, refusal_words
from correlator.bridge.settings import BridgeSettings
from correlator.errors import UsageError

_SHOWN_HEADERS = ("correlator-site", "correlator-retained", "correlator-dup", "correlator-qos", "correlator-tick-ms")


def told(mapping: Mapping, message: MqttMessage) -> list[str]:
    """One line for each record a message becomes."""
    lines = []
    for record in mapping.records(message):
        if record.reason:
            what = f"reject ({record.reason}) on {record.topic}"
        else:
            said = [
                f"{name.removeprefix('correlator-')} {value.decode()}"
                for name, value in record.headers
                if name in _SHOWN_HEADERS
            ]
            what = f"{record.topic} key {record.key.decode()} " + ", ".join(said)
        lines.append(f"{message.topic} ({len(message.payload)} bytes) -> {what}")
    return lines or [f"{message.topic} ({len(message.payload)} bytes) -> nothing: a probe of the doctor"]


def dry_run(settings: BridgeSettings, stop: threading.Event, write: Callable[[str], object]) -> int:
    """Writes lines until stopped; gives 0. Raises UsageError if the broker does not let us in."""
    mapping = Mapping(settings)
    refused: list[str] = []

    def on_connect(client: mqtt.Client, _: Any, __: Any, reason: ReasonCode, ___: Any) -> None:
        if reason.is_failure:
            refused.append(refusal_words(reason, settings))
            stop.set()
            return
        for one in subscriptions(settings)[:-1]:
            client.subscribe(one, 1)

    def on_message(_: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        now_ms = time.time_ns() // 1_000_000
        user = tuple(getattr(message.properties, "UserProperty", ()))
        given = MqttMessage(
            message.topic, bytes(message.payload), now_ms, message.qos, bool(message.retain), bool(message.dup),
            user=user, packet_id=message.mid if message.qos else 0,
        )  # fmt: skip
        for line in told(mapping, given):
            write(line + "\n")

    client = new_client(settings, f"{settings.id}-dry-run", keep_session=False)
    apply_tls(client, settings.mqtt.tls)
    client.on_connect = on_connect
    client.on_message = on_message
    try:
        client.connect(settings.mqtt.host, settings.mqtt.port)
    except OSError as error:
        raise UsageError(f"no MQTT broker at {settings.mqtt.host}:{settings.mqtt.port}: {error}") from error
    client.loop_start()
    stop.wait()
    client.disconnect()
    client.loop_stop()
    if refused:
        raise UsageError(refused[0])
    return 0
