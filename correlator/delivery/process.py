"""`correlator outputs`: keeps evidence, and delivers threats to every output, each at its own pace.

Each output is a consumer group of its own (`outputs-<name>`): its committed offset is the proof of what was
delivered, so a restart goes on there. At least once, by (id, revision). An output that cannot deliver waits
and tries again, the others go on; what the other side will never take goes to `rejects` with its reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from correlator import __version__
from correlator.delivery.evidence import Keeper
from correlator.delivery.settings import OutputSettings
from correlator.delivery.targets import Later, Refused, Sender, open_target
from correlator.events.event import LEVELS
from correlator.events.threat import Threat
from correlator.ingest import metrics
from correlator.ingest.kafka import KafkaSettings
from correlator.outputs.format import About
from correlator.outputs.formats import FORMATS
from correlator.privacy.evidence import Locker

THREATS: Final = "threats"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
_decode: Final = msgspec.json.Decoder(Threat).decode


@dataclass(slots=True)
class State:
    """What an output did since the process started. last_error: "" while it works."""

    delivered: int = 0
    passed_over: int = 0
    refused: int = 0
    tries: int = 0
    last_error: str = ""


def wanted(threat: Threat, output: OutputSettings) -> bool:
    """Whether an output takes a threat: severity, site, phase. What was merged or went quiet is told too."""
    if output.sites and threat.site not in output.sites:
        return False
    if LEVELS.index(threat.severity) < LEVELS.index(output.severity):
        return False
    return output.watches or threat.phase != "watch"


def deliver(threat: Threat, output: OutputSettings, sender: Sender, state: State, wait: Callable[[float], bool]) -> str:
    """Delivers one threat, trying until it is taken; returns why it was given up, "" if it was not.

    wait: sleeps that many seconds; True: stop trying, the process ends (then Later is raised).
    """
    about = About(version=__version__, link=output.link)
    body = FORMATS[output.format].render(threat, about)
    began = time.monotonic()
    pause = FIRST_WAIT_S
    retries = metrics.output_retries.labels(output=output.name)
    while True:
        state.tries += 1
        try:
            sender.send(threat, body)
        except Refused as error:
            state.refused += 1
            metrics.output_refused.labels(output=output.name).inc()
            return str(error)
        except Later as error:
            state.last_error = str(error)
            retries.inc()
            if output.give_up_min and time.monotonic() - began >= output.give_up_min * 60:
                state.refused += 1
                metrics.output_refused.labels(output=output.name).inc()
                return f"not taken for {output.give_up_min} min: {error}"
            if wait(max(pause, error.after_s)):
                raise
            pause = min(pause * 2, LONGEST_WAIT_S)
        else:
            state.delivered += 1
            metrics.output_delivered.labels(output=output.name).inc()
            state.last_error = ""
            return ""


class Delivery(threading.Thread):
    """One output at work."""

    def __init__(self, output: OutputSettings, kafka: KafkaSettings, stop: threading.Event) -> None:
        super().__init__(name=f"output {output.name}", daemon=True)
        self.output, self.state = output, State()
        self._kafka, self._ending = kafka, stop
        self._sender = open_target(output.to, FORMATS[output.format], kafka)
        self._rejects = Producer(kafka.client(enable__idempotence=True, acks="all"))
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Until the stop event is set."""
        consumer = Consumer(self._kafka.client(**_group(self._kafka, self.output.name)))
        try:
            consumer.subscribe([self._kafka.topic(THREATS)])
            while not self._ending.is_set():
                message = consumer.poll(0.2)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        self.state.last_error = "topic threats does not exist; `correlator topics create` makes it"
                    continue
                self._take(message.value())
                consumer.commit(message=message, asynchronous=True)
        except Later:
            pass  # the process ends while the other side is away: the message comes again
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.failure = error
            self._ending.set()
        finally:
            consumer.close()
            self._sender.close()

    def _take(self, value: bytes | None) -> None:
        if value is None:
            return
        try:
            threat = _decode(value)
        except msgspec.DecodeError as error:
            self._reject("", value, "unreadable_threat", str(error))
            return
        if not wanted(threat, self.output):
            self.state.passed_over += 1
            return
        given_up = deliver(threat, self.output, self._sender, self.state, self._ending.wait)
        if given_up:
            self._reject(threat.site, value, "output_refused", given_up)

    def _reject(self, site: str, value: bytes, reason: str, detail: str) -> None:
        body = {
            "reason": reason, "detail": detail, "output": self.output.name, "site": site or "_unknown",
            "bytes": len(value), "raw": value[:65_536].decode("utf-8", "replace"), "schema_version": "1.0",
        }  # fmt: skip
        self._rejects.produce(self._kafka.topic("rejects"), msgspec.json.encode(body), (site or "_unknown").encode())
        self._rejects.flush(10)


def _group(kafka: KafkaSettings, name: str) -> dict[str, Any]:
    return {
        "group__id": f"{kafka.prefix}outputs-{name}",
        "auto__offset__reset": "earliest",
        "enable__auto__commit": False,
        "isolation__level": "read_committed",
        "session__timeout__ms": 10_000,
    }


def run(
    outputs: Iterable[OutputSettings], kafka: KafkaSettings, stop: threading.Event, locker: Locker | None = None
) -> None:
    """Keeps evidence, locked by a locker, and runs all outputs until `stop` is set. Raises what ended one of them."""
    threads: list[Delivery | Keeper] = [
        Keeper(kafka, stop, locker),
        *(Delivery(output, kafka, stop) for output in outputs),
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(15)
    for thread in threads:
        if thread.failure is not None:
            raise thread.failure


def status(outputs: Iterable[OutputSettings], kafka: KafkaSettings) -> list[tuple[str, int, int]]:
    """Of each output: its name, threats delivered or passed over, threats waiting. Raises KafkaException."""
    told = []
    topic = kafka.topic(THREATS)
    for output in outputs:
        consumer = Consumer(kafka.client(**_group(kafka, output.name)))
        try:
            topics = consumer.list_topics(topic, timeout=10).topics
            parts = [TopicPartition(topic, number) for number in topics[topic].partitions]
            done = waiting = 0
            for part in consumer.committed(parts, timeout=10):
                first, end = consumer.get_watermark_offsets(TopicPartition(topic, part.partition), timeout=10)
                at = part.offset if part.offset >= 0 else first
                done += at - first
                waiting += end - at
            told.append((output.name, done, waiting))
        finally:
            consumer.close()
    return told
