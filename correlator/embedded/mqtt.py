"""MQTT for the embedded log: the bridge as it is, with the log in Kafka's place.

The bridge hands records to a producer and acknowledges to the MQTT broker when the producer says they
are delivered; here delivered means: committed to the log. Everything else (session, order, duplicates,
back-pressure that keeps the connection alive) is the bridge's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from correlator.bridge.bridge import Bridge
from correlator.bridge.settings import BridgeSettings
from correlator.embedded.core import Core, Submission
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.raw import from_headers
from correlator.run.rendering import Rendered

_POLL_S = 0.05


class LogProducer:
    """What the bridge uses of confluent-kafka's Producer, over the embedded log."""

    def __init__(self, core: Core, rejects: str) -> None:
        self._core = core
        self._rejects = rejects
        self._waiting = 0
        self._lock = threading.Lock()

    def produce(
        self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]], on_delivery: Callable[..., Any]
    ) -> None:
        """Hands a record over; `on_delivery(None, None)` is called when it is committed."""
        with self._lock:
            self._waiting += 1

        def done() -> None:
            with self._lock:
                self._waiting -= 1
            on_delivery(None, None)

        if topic == self._rejects:
            told = Rendered("rejects", key, value, tuple(headers))
            self._core.submit(Submission(rejects=[told], done=done))
            return
        raw = from_headers(headers, value, input=topic, offset=0, channel=topic, received_ms=0, raw="")
        self._core.submit(Submission(messages=[raw], done=done))

    def poll(self, timeout: float = 0.0) -> int:
        """Deliveries are told by the deciding thread itself."""
        time.sleep(timeout)
        return 0

    def flush(self, timeout: float = 0.0) -> int:
        """Waits until all is committed; gives the number of records that are not."""
        end = time.monotonic() + timeout
        while self._waiting and time.monotonic() < end:
            time.sleep(_POLL_S)
        return self._waiting

    def purge(self) -> None:
        """Nothing is held here: what was handed over is the log's."""


class EmbeddedBridge(Bridge):
    """A bridge into the embedded log."""

    def __init__(self, settings: BridgeSettings, core: Core, stop: threading.Event) -> None:
        self._core = core
        super().__init__(settings, KafkaSettings(), stop)

    def _new_producer(self, **more: Any) -> Any:
        return LogProducer(self._core, self.settings.rejects)

    def _await_kafka(self) -> None:
        self._core.ready.wait()
