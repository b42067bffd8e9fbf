"""Heartbeats to receivers of the operator's choice, who raise the alarm when they stay away.

    HTTP   a request to the URL every `every_s` while correlation sees; none while it is blind (or, with
           `fail_url`, one there), so that a dead man's switch such as a monitoring service trips
    MQTT   a retained message on the topic, with a last will: the broker itself says "gone" when the
           process dies, and whoever watches the topic sees {"state": "blind", "since_ms": ...}

No heartbeat says more than: which process, sees or blind, since when, why.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import aiohttp
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.logs import Log

TIMEOUT_S = 10.0
_CONNECT_STEP_S = 0.2

_log = Log("heartbeat")


class HttpHeartbeat(BaseModel):
    """A URL that is asked every so often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://", description="asked (GET) while correlation sees")
    fail_url: str = Field(default="", description="asked instead while it is blind; empty: nothing is asked then")
    every_s: float = Field(default=30, gt=0, le=3600, description="how often")


class MqttHeartbeat(BaseModel):
    """A retained MQTT message with a last will."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mqtt"] = "mqtt"
    host: str = Field(description="name or address of the broker")
    port: int = Field(default=1883, ge=1, le=65535, description="1883, or 8883 with TLS")
    topic: str = Field(default="correlator/heartbeat", min_length=1, description="topic, without wildcards")
    ca: Path | None = Field(default=None, description="PEM file: who signed the broker's certificate; gives TLS")
    user: str = Field(default="", description="user name; empty: none")
    password: SecretStr | None = Field(default=None, description="its password; better password_file")
    password_file: Path | None = Field(default=None, description="file that holds the password")
    every_s: float = Field(default=30, gt=0, le=3600, description="how often")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        return self

    def secret(self) -> str | None:
        """The password itself. Raises UsageError if its file cannot be read."""
        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.password_file}: the password cannot be read: {error}") from error


Heartbeat = Annotated[HttpHeartbeat | MqttHeartbeat, Field(discriminator="kind")]
Blind = Callable[[], tuple[int, str]]  # (since when, ms UTC; 0: it sees), why


class Heartbeats:
    """Sends all heartbeats of a process until cancelled. blind: asked before each."""

    def __init__(self, receivers: Sequence[HttpHeartbeat | MqttHeartbeat], process: str, blind: Blind) -> None:
        self._receivers = receivers
        self._process = process
        self._blind = blind
        self._told_blind = False

    async def run(self) -> None:
        """Works until cancelled; a receiver that cannot be reached is told in the log and tried again."""
        await asyncio.gather(*(self._send(one) for one in self._receivers), self._watch())

    async def _watch(self) -> None:
        """Says in log and metrics when correlation becomes blind and when it sees again."""
        while True:
            since_ms, why = self._blind()
            metrics.blind_since_ms.labels(self._process).set(since_ms)
            if since_ms and not self._told_blind:
                _log.critical("blind", process=self._process, since_ms=since_ms, reason=why)
            elif not since_ms and self._told_blind:
                _log.warning("sees_again", process=self._process)
            self._told_blind = bool(since_ms)
            await asyncio.sleep(1.0)

    async def _send(self, receiver: HttpHeartbeat | MqttHeartbeat) -> None:
        if isinstance(receiver, HttpHeartbeat):
            await self._send_http(receiver)
        else:
            await self._send_mqtt(receiver)

    async def _send_http(self, receiver: HttpHeartbeat) -> None:
        failed = False
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                url = receiver.url if not self._blind()[0] else receiver.fail_url
                if url:
                    try:
                        async with session.get(url) as answer:
                            answer.raise_for_status()
                        failed = self._result("http", failed, "")
                    except (aiohttp.ClientError, TimeoutError, OSError) as error:
                        failed = self._result("http", failed, str(error) or type(error).__name__)
                await asyncio.sleep(receiver.every_s)

    async def _send_mqtt(self, receiver: MqttHeartbeat) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="", protocol=mqtt.MQTTv5)
        if receiver.user:
            client.username_pw_set(receiver.user, receiver.secret())
        if receiver.ca is not None:
            client.tls_set(ca_certs=str(receiver.ca))
        gone = json.dumps({"process": self._process, "state": "gone"})
        client.will_set(receiver.topic, gone, qos=1, retain=True)
        client.connect_async(receiver.host, receiver.port, keepalive=max(int(receiver.every_s), 5))
        client.loop_start()
        failed = False
        waited_s = 0.0
        try:
            while True:
                since_ms, why = self._blind()
                told = {"process": self._process, "state": "blind" if since_ms else "sees"}
                if since_ms:
                    told |= {"since_ms": str(since_ms), "why": why}
                if client.is_connected():
                    client.publish(receiver.topic, json.dumps(told), qos=1, retain=True)
                    failed = self._result("mqtt", failed, "")
                    await asyncio.sleep(receiver.every_s)
                    continue
                waited_s += _CONNECT_STEP_S
                if waited_s >= receiver.every_s:
                    waited_s = 0.0
                    failed = self._result("mqtt", failed, f"no connection to {receiver.host}:{receiver.port}")
                await asyncio.sleep(_CONNECT_STEP_S)
        finally:
            if client.is_connected():
                stopped = json.dumps({"process": self._process, "state": "stopped"})
                client.publish(receiver.topic, stopped, qos=1, retain=True)
                await asyncio.sleep(0.1)
            client.disconnect()
            client.loop_stop()

    def _result(self, receiver: str, failed: bool, why: str) -> bool:
        metrics.heartbeats.labels(receiver, "failed" if why else "sent").inc()
        if why and not failed:
            _log.warning("heartbeat_failed", receiver=receiver, detail=why)
        return bool(why)


def beat_in_thread(receivers: Sequence[HttpHeartbeat | MqttHeartbeat], process: str, blind: Blind) -> None:
    """Sends the heartbeats of a process whose own loop is busy, from a thread that ends with it."""
    beats = Heartbeats(receivers, process, blind)
    threading.Thread(target=lambda: asyncio.run(beats.run()), name="heartbeats", daemon=True).start()
