"""Where a message can go. `send` returns when the other side has it, or says what stands in the way.

Two ways to fail: `Later` (no connection, busy, a server's fault: the same message is tried again) and
`Refused` (it will not be taken however often it comes).
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, KafkaException, Producer

from correlator.clock import SECOND_MS, retry_after_ms
from correlator.delivery.settings import FileTarget, HttpTarget, SyslogTarget, Target, TopicTarget
from correlator.errors import CorrelatorError, UsageError
from correlator.events.threat import Threat
from correlator.ingest.kafka import KafkaSettings
from correlator.outputs import syslog
from correlator.outputs.format import Format, json_bytes

TIMEOUT_S = 10.0


class Later(CorrelatorError):
    """Not now. after_s: when the receiver wants to be asked again, 0 if it did not say."""

    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s


class Refused(CorrelatorError):
    """Never."""


class Sender(Protocol):
    """An open target."""

    def send(self, threat: Threat, body: bytes) -> None:
        """Delivers one message. Raises Later, Refused."""
        ...

    def close(self) -> None:
        """Lets go of the connection."""
        ...


def open_target(target: Target, form: Format, kafka: KafkaSettings) -> Sender:
    """A sender for a target; connects when the first message comes. Raises UsageError for unreadable files."""
    if isinstance(target, TopicTarget):
        return _Topic(target, form, kafka)
    if isinstance(target, SyslogTarget):
        return _Syslog(target)
    if isinstance(target, HttpTarget):
        return _Http(target, form)
    return _File(target)


class _Topic:
    def __init__(self, target: TopicTarget, form: Format, kafka: KafkaSettings) -> None:
        kafka = target.cluster or kafka
        self._topic = kafka.topic(target.topic)
        self._form = form
        more = {"enable__idempotence": True, "acks": "all", "linger__ms": 0, "partitioner": "murmur2_random",
                "message__timeout__ms": int(TIMEOUT_S * 1000)}  # fmt: skip
        self._producer = Producer(kafka.client(**more))

    def send(self, threat: Threat, body: bytes) -> None:
        told: list[KafkaError | None] = []
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", f"{threat.id}/{threat.revision}".encode()),
            ("ce_type", f"correlator.threat.{self._form.name}".encode()),
            ("ce_source", f"/correlator/{threat.site}".encode()),
            ("content-type", self._form.media_type.encode()),
        ]
        try:
            self._producer.produce(
                self._topic, body, threat.id.encode(), headers=headers, on_delivery=lambda error, _: told.append(error)
            )
        except (BufferError, KafkaException) as error:
            raise Later(str(error)) from error
        self._producer.flush(TIMEOUT_S + 1)
        if not told:
            raise Later("no broker answered")
        if told[0] is not None:
            failure = told[0]
            if failure.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError._INVALID_ARG):
                raise Refused(failure.str())
            raise Later(failure.str())

    def close(self) -> None:
        self._producer.flush(1)


class _Syslog:
    def __init__(self, target: SyslogTarget) -> None:
        self._target = target
        self._socket: socket.socket | None = None
        self._context = _tls(target.ca_file, target.certificate_file, target.key_file)

    def send(self, threat: Threat, body: bytes) -> None:
        if self._target.transport == "udp":
            self._datagram(body)
            return
        try:
            connection = self._connected()
            connection.sendall(syslog.framed(body))
        except (OSError, ssl.SSLError) as error:
            self.close()
            raise Later(f"{self._target.host}:{self._target.port}: {error}") from error

    def _connected(self) -> socket.socket:
        """The connection; a new one if the receiver closed the last. Syslog has no answers (RFC 5425,
        section 4.4), so a closed connection is looked for before each message."""
        if self._socket is not None and _closed(self._socket):
            self.close()
        if self._socket is None:
            plain = socket.create_connection((self._target.host, self._target.port), TIMEOUT_S)
            if self._target.transport == "tls":
                self._socket = self._context.wrap_socket(plain, server_hostname=self._target.host)
            else:
                self._socket = plain
        return self._socket

    def _datagram(self, body: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(body, (self._target.host, self._target.port))
            except OSError as error:
                if len(body) > 65_000:
                    raise Refused("longer than a datagram") from error
                raise Later(str(error)) from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Http:
    def __init__(self, target: HttpTarget, form: Format) -> None:
        self._target, self._form = target, form
        self._at = urlsplit(target.url)
        self._context = _tls(target.ca_file, None, None)
        self._connection: HTTPConnection | None = None
        self._authorization = f"{target.scheme} {_token(target)}".strip() if _token(target) else ""

    def send(self, threat: Threat, body: bytes) -> None:
        headers = {"Content-Type": self._form.media_type, **self._target.headers}
        headers["Idempotency-Key"] = f"{threat.id}/{threat.revision}"
        if self._authorization:
            headers["Authorization"] = self._authorization
        if self._target.wrap == "splunk":
            body = (
                b'{"event":'
                + body
                + b',"time":%d.%03d,"source":"correlator","sourcetype":"correlator:threat"}'
                % (divmod(threat.decided_ms, 1000))
            )
        elif self._target.wrap == "elastic":
            headers["Content-Type"] = "application/x-ndjson"
            body = json_bytes({"index": {"_id": threat.id}}) + b"\n" + body + b"\n"
        status, retry_after, said = self._post(body, headers)
        if 200 <= status < 300:
            if self._target.wrap == "elastic" and b'"errors":true' in said:
                raise Refused("the index refused the document")
            return
        where = f"{self._at.hostname} answered {status}"
        if status in (408, 425, 429) or status >= 500:
            raise Later(where, retry_after)
        raise Refused(where)

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, float, bytes]:
        path = (self._at.path or "/") + (f"?{self._at.query}" if self._at.query else "")
        for again in (True, False):
            fresh = self._connection is None
            try:
                connection = self._connected()
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                said = answer.read(65_536)
            except (OSError, HTTPException) as error:
                self.close()
                if again and not fresh:
                    continue  # the receiver had closed an idle connection
                raise Later(f"{self._at.hostname}: {type(error).__name__}: {error}") from error
            wait_ms = retry_after_ms(answer.headers.get("Retry-After", ""), time.time_ns() // 1_000_000)
            return answer.status, wait_ms / SECOND_MS, said
        raise AssertionError("unreachable")

    def _connected(self) -> HTTPConnection:
        if self._connection is None:
            host, port = self._at.hostname or "", self._at.port
            if self._at.scheme == "https":
                self._connection = HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._context)
            else:
                self._connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _File:
    def __init__(self, target: FileTarget) -> None:
        self._path = target.path

    def send(self, threat: Threat, body: bytes) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(body + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Later(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        pass


def _closed(connection: socket.socket) -> bool:
    """Whether the other side has closed; what it says is read and dropped."""
    connection.settimeout(0.0)
    try:
        return connection.recv(4096) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(TIMEOUT_S)


def _token(target: HttpTarget) -> str:
    if target.token is not None:
        return target.token.get_secret_value()
    if target.token_file is None:
        return ""
    try:
        return target.token_file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError as error:
        raise UsageError(f"{target.token_file}: the token cannot be read: {error.strerror}") from error


def _tls(ca_file: Path | None, certificate: Path | None, key: Path | None) -> Any:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{certificate or ca_file}: no usable certificate: {error}") from error
    return context
