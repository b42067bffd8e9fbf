"""`correlator outputs`: keeps evidence, and delivers threats to every output, each at its own pace.

Each output is a consumer group of its own (`outputs-<name>`): its committed offset is the proof of what was
delivered, so a restart goes on there. At least once, by (id, revision). An output that cannot deliver waits
and tries again, the others go on; what the other side will never take goes to `rejects` with its reason.

A receiver that forgets what nobody repeats (Alertmanager) is told each open threat again every REPEAT_S; which
are open is read from the topic when the process starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from correlator import __version__
from correlator.delivery.evidence import Keeper
from correlator.delivery.rejects import Rejects
from correlator.delivery.settings import OutputSettings
from correlator.delivery.targets import Later, Refused, Sender, open_target
from correlator.events.event import LEVELS
from correlator.events.threat import Threat
from correlator.ingest import metrics
from correlator.ingest.kafka import KafkaSettings
from correlator.outputs.format import About, is_closed
from correlator.outputs.formats import FORMATS
from correlator.premises import Premises
from correlator.privacy.evidence import Locker

THREATS: Final = "threats"
REPEAT_S: Final = 120.0  # how often Alertmanager, which forgets, is told an open threat again
FORGETFUL: Final = ("alertmanager",)
STAY_MS: Final = 300_000  # until when it stays there if nobody repeats it
MAX_OPEN: Final = 20_000  # threats repeated by an output; the one told longest ago goes first
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
LONGEST_ASKED_S: Final = 3_600.0  # a receiver that asks for more patience is asked again all the same
_decode: Final = msgspec.json.Decoder(Threat).decode


@dataclass(slots=True)
class State:
    """What an output did since the process started. last_error: "" while it works.

    repeated: open threats told again; forgotten: open ones that are not repeated, since MAX_OPEN others are.
    """

    delivered: int = 0
    passed_over: int = 0
    refused: int = 0
    tries: int = 0
    repeated: int = 0
    forgotten: int = 0
    last_error: str = ""


def wanted(threat: Threat, output: OutputSettings) -> bool:
    """Whether an output takes a threat: severity, site, phase. What was merged or went quiet is told too."""
    if output.sites and threat.site not in output.sites:
        return False
    if LEVELS.index(threat.severity) < LEVELS.index(output.severity):
        return False
    return output.watches or threat.phase != "watch"


def deliver(
    threat: Threat, output: OutputSettings, sender: Sender, state: State, wait: Callable[[float], bool],
    place: Premises | None = None,
) -> str:  # fmt: skip
    """Delivers one threat, trying until it is taken; returns why it was given up, "" if it was not.

    wait: sleeps that many seconds; True: stop trying, the process ends (then Later is raised). place: its site.
    """
    until_ms = time.time_ns() // 1_000_000 + STAY_MS
    about = About(version=__version__, link=output.link, until_ms=until_ms, place=place)
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
            if wait(max(pause, min(error.after_s, LONGEST_ASKED_S))):
                raise
            pause = min(pause * 2, LONGEST_WAIT_S)
        else:
            state.delivered += 1
            metrics.output_delivered.labels(output=output.name).inc()
            state.last_error = ""
            return ""


class Delivery(threading.Thread):
    """One output at work."""

    def __init__(
        self, output: OutputSettings, kafka: KafkaSettings, stop: threading.Event, places: Mapping[str, Premises]
    ) -> None:
        super().__init__(name=f"output {output.name}", daemon=True)
        self._places = places
        self.output, self.state = output, State()
        self._kafka, self._ending = kafka, stop
        self._sender = open_target(output.to, FORMATS[output.format], kafka)
        self._rejects = Rejects(kafka, output.name)
        self.failure: BaseException | None = None
        self._open: dict[str, tuple[Threat, float]] = {}  # newest revision, when told; oldest first

    def run(self) -> None:
        """Until the stop event is set."""
        consumer = Consumer(self._kafka.client(**_group(self._kafka, self.output.name)))
        try:
            if self.output.format in FORGETFUL:
                self._look_back(consumer)
            consumer.subscribe([self._kafka.topic(THREATS)])
            while not self._ending.is_set():
                self._repeat()
                message = consumer.poll(0.2)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        self.state.last_error = "topic threats does not exist; `correlator topics create` makes it"
                    continue
                self._take(message)
                consumer.commit(message=message, asynchronous=True)
        except Later:
            pass  # the process ends while the other side is away: the message comes again
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.failure = error
            self._ending.set()
        finally:
            consumer.close()
            self._sender.close()

    def _take(self, message: Message) -> None:
        value = message.value()
        if value is None:
            return
        try:
            threat = _decode(value)
        except msgspec.DecodeError as error:
            self._rejects.write(message, "unreadable_threat", str(error))
            return
        if not wanted(threat, self.output):
            self.state.passed_over += 1
            return
        given_up = deliver(
            threat, self.output, self._sender, self.state, self._ending.wait, self._places.get(threat.site)
        )
        if given_up:
            self._rejects.write(message, "output_refused", given_up, threat.site)
        elif self.output.format in FORGETFUL:
            self._keep(threat, time.monotonic())

    def _keep(self, threat: Threat, told_s: float) -> None:
        """Notes that a threat is open, or no more."""
        self._open.pop(threat.id, None)
        if is_closed(threat):
            return
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
            self.state.forgotten += 1
        self._open[threat.id] = (threat, told_s)

    def _repeat(self) -> None:
        """Tells again what is open and was told long ago."""
        while self._open and not self._ending.is_set():
            threat, told_s = next(iter(self._open.values()))
            if time.monotonic() - told_s < REPEAT_S:
                return
            deliver(threat, self.output, self._sender, self.state, self._ending.wait, self._places.get(threat.site))
            self.state.repeated += 1
            self._keep(threat, time.monotonic())

    def _look_back(self, consumer: Consumer) -> None:
        """Reads what was delivered before this process started, for the threats that are still open."""
        topic = self._kafka.topic(THREATS)
        ends: dict[int, int] = {}
        while not self._ending.is_set():
            try:
                known = consumer.list_topics(topic, timeout=10).topics[topic].partitions
                stands = consumer.committed([TopicPartition(topic, one) for one in known], timeout=10)
            except KafkaException as error:  # a broker that starts has no coordinator yet
                self.state.last_error = str(error)
                self._ending.wait(FIRST_WAIT_S)
                continue
            ends = {one.partition: one.offset for one in stands if one.offset > 0}
            break
        consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in ends])
        while ends and not self._ending.is_set():
            message = consumer.poll(1.0)
            if message is None:
                continue
            ended, partition, offset, value = message.error(), message.partition(), message.offset(), message.value()
            if ended is not None:
                if ended.code() == KafkaError._PARTITION_EOF and partition is not None:
                    ends.pop(partition, None)
                continue
            assert partition is not None
            assert offset is not None
            if value is not None and offset < ends.get(partition, 0):
                self._was_told(value)
            if offset + 1 >= ends.get(partition, 0):
                ends.pop(partition, None)
        consumer.unassign()

    def _was_told(self, value: bytes) -> None:
        try:
            threat = _decode(value)
        except msgspec.DecodeError:
            return  # it is in `rejects` already
        if wanted(threat, self.output):
            self._keep(threat, float("-inf"))  # nobody knows when it was told last: again at once


def _group(kafka: KafkaSettings, name: str) -> dict[str, Any]:
    return {
        "group__id": f"{kafka.prefix}outputs-{name}",
        "auto__offset__reset": "earliest",
        "enable__auto__commit": False,
        "isolation__level": "read_committed",
        "session__timeout__ms": 10_000,
        "enable__partition__eof": True,
    }


def run(
    outputs: Iterable[OutputSettings], kafka: KafkaSettings, stop: threading.Event, locker: Locker | None = None,
    places: Mapping[str, Premises] | None = None,
) -> None:  # fmt: skip
    """Keeps evidence, locked by a locker, and runs all outputs until `stop` is set. Raises what ended one of them.

    places: site -> its model, for names and places of sites.
    """
    threads: list[Delivery | Keeper] = [
        Keeper(kafka, stop, locker),
        *(Delivery(output, kafka, stop, places or {}) for output in outputs),
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
