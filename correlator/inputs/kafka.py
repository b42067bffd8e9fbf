"""A sink on Kafka: raw topics, acknowledged when the brokers have written.

Topic `raw.<input>`, key the site, headers as correlator.ingest.raw says, the payload untouched. The
producer is idempotent and waits for ever (`message.timeout.ms` 0): while Kafka is away `keep` waits and
`congestion` says why. Lines of followed files are noted before they are sent, so that after a crash the
same lines are sent with the same receive time and become the same events.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.kafka import UNCONFIRMED, Confirmations, KafkaSettings
from correlator.ingest.logs import Log
from correlator.ingest.raw import TICK_MS, RawMessage, to_headers
from correlator.ingest.refusals import HOPELESS, error_words
from correlator.inputs.positions import PositionFile, Reading
from correlator.inputs.settings import raw_topic

DELIVERIES_REMEMBERED: Final = 100_000  # names of HTTP deliveries; a restart forgets them
_RETRY_S: Final = 1.0
_CLOSE_S: Final = 10.0

_log = Log("inputs")


class KafkaSink:
    """See the module's text. `failure` says what no waiting mends; the process then ends with it."""

    def __init__(self, kafka: KafkaSettings, receiver: str, positions: PositionFile | None) -> None:
        self.failure = ""
        self._kafka = kafka
        self._receiver = receiver
        self._positions = positions
        self._why = ""
        self._known: OrderedDict[str, None] = OrderedDict()
        self._confirmations = Confirmations(kafka)
        self._producer = Producer(
            kafka.client(
                client__id=receiver,
                enable__idempotence=True,
                acks="all",
                message__timeout__ms=0,
                linger__ms=1,
                compression__type="lz4",
                partitioner="murmur2_random",
                error_cb=self._error,
            )
        )
        self._polling = True
        self._poller = threading.Thread(target=self._poll, name="kafka-deliveries", daemon=True)
        self._poller.start()

    def check(self, inputs: Sequence[str], stopped: Callable[[], bool]) -> None:
        """Returns when every topic is there, or when stopped. Raises UsageError for one that is missing or refused."""
        for name in inputs:
            topic = self._kafka.topic(raw_topic(name))
            while not stopped():
                try:
                    error = self._producer.list_topics(topic, timeout=2).topics[topic].error
                    if error is None:
                        break
                    if error.code() in HOPELESS:
                        raise UsageError(f"topic {topic}: {error_words(error)}")
                except KafkaException as failed:
                    self._away(failed.args[0])
                if self.failure:
                    raise UsageError(self.failure)

    async def keep(self, messages: Sequence[RawMessage], reading: Reading | None = None, key: str = "") -> None:
        """Returns once the brokers have all messages and the position is noted. Raises ValueError (too large)."""
        if key and key in self._known:
            return
        if reading is not None and messages:
            await self._noted(reading, begin=True)
        await self._sent(messages)
        if reading is not None:
            await self._noted(reading, begin=False)
        if key:
            self._known[key] = None
            if len(self._known) > DELIVERIES_REMEMBERED:
                self._known.popitem(last=False)

    def congestion(self) -> str:
        """Why nothing can be kept at the moment, "" while all is well."""
        return self._why

    def close(self) -> None:
        """Gives what waits its last chance; what is not acknowledged comes again from its senders."""
        self._producer.flush(_CLOSE_S if not self.failure else 0)
        self._polling = False
        self._poller.join(_CLOSE_S)
        if self._positions is not None:
            self._positions.close()

    async def _sent(self, messages: Sequence[RawMessage]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[KafkaError | None] = loop.create_future()
        waiting = len(messages)
        refused: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            nonlocal waiting
            waiting -= 1
            if error is not None:
                refused.append(error)
            else:
                self._confirmations.confirmed()
                if self._why:
                    self._back()
            if not waiting:
                loop.call_soon_threadsafe(finish)

        def finish() -> None:
            if not done.done():
                done.set_result(refused[0] if refused else None)

        for one in messages:
            await self._produce(one, delivered)
        error = await done if messages else None
        if error is None:
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            raise ValueError(error_words(error))
        self.failure = self.failure or error_words(error)
        raise UsageError(self.failure)

    async def _produce(self, one: RawMessage, delivered: Callable[[KafkaError | None, Message], None]) -> None:
        headers: list[tuple[str, str | bytes | None]] = list(
            to_headers(one.message, site=one.site, receiver=self._receiver)
        )
        if one.tick_ms >= 0:
            headers.append((TICK_MS, str(one.tick_ms).encode()))
        while True:
            try:
                self._producer.produce(
                    self._kafka.topic(raw_topic(one.input)), one.message.payload, one.site.encode(),
                    headers=headers, on_delivery=delivered,
                )  # fmt: skip
                return
            except BufferError:  # librdkafka's queue is full
                await asyncio.sleep(0.05)

    async def _noted(self, reading: Reading, *, begin: bool) -> None:
        """Notes a reading; tries again while that fails (a full disk)."""
        assert self._positions is not None
        while True:
            try:
                await (self._positions.begin(reading) if begin else self._positions.done(reading))
                return
            except sqlite3.OperationalError as error:
                self._away_words(f"positions of followed files cannot be written: {error}")
                await asyncio.sleep(_RETRY_S)

    # ---- in librdkafka's threads -------------------------------------------------------------------

    def _poll(self) -> None:
        while self._polling:
            self._producer.poll(0.2)
            if self._confirmations.lost(len(self._producer)):
                self.failure = self.failure or UNCONFIRMED

    def _error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in HOPELESS:
            self.failure = self.failure or error_words(error)
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._away(error)

    def _away(self, error: KafkaError) -> None:
        self._away_words(error_words(error))

    def _away_words(self, why: str) -> None:
        if not self._why:
            metrics.congested.labels("inputs").set(1)
            _log.error("cannot_keep", detail=why)
        self._why = why

    def _back(self) -> None:
        self._why = ""
        metrics.congested.labels("inputs").set(0)
        _log.info("can_keep_again")
