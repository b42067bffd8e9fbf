"""`correlator inputs run`: files, syslog and webhooks to raw topics on Kafka."""

from __future__ import annotations

import asyncio
import signal
import threading

from correlator.errors import UsageError
from correlator.ingest import metrics
from correlator.ingest.health import Health
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.logs import Log
from correlator.inputs.kafka import KafkaSink
from correlator.inputs.positions import PositionFile
from correlator.inputs.receivers import Receivers
from correlator.inputs.settings import InputsSettings
from correlator.inputs.sink import now_ms

_log = Log("inputs")


def input_names(settings: InputsSettings) -> list[str]:
    """Names of all inputs, sorted."""
    names = [one.name for one in settings.files]
    names += [one.name for one in settings.syslog]
    names += [one.name for one in settings.http]
    return sorted(names)


def run_inputs(settings: InputsSettings, kafka: KafkaSettings, site: str) -> int:
    """Receives until stopped by a signal. Raises UsageError for what no waiting mends.

    site: of inputs that name none, "" if there is no only one.
    """
    names = input_names(settings)
    if not names:
        raise UsageError("there are no inputs: inputs.files, inputs.syslog or inputs.http list them")
    sites = [(one.name, one.site) for one in settings.files]
    sites += [(one.name, one.site) for one in settings.syslog]
    sites += [(one.name, one.site) for one in settings.http]
    for name, own in sites:
        if not (own or site):
            raise UsageError(f"input {name}: say which `site` its messages are of; correlator.yaml has several")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    positions = PositionFile(settings.positions)
    sink = KafkaSink(kafka, settings.id, positions)
    metrics.started_ms.labels("inputs").set(now_ms())
    try:
        sink.check(names, stop.is_set)
        health = Health(
            settings.health_host,
            settings.health_port,
            alive=lambda: not sink.failure,
            ready=lambda: not sink.congestion(),
        )
        receivers = Receivers(settings, site, sink, positions)
        try:
            asyncio.run(
                receivers.run(
                    lambda: stop.is_set() or bool(sink.failure),
                    lambda: _log.info("ready", id=settings.id, count=len(names)),
                )
            )
        finally:
            health.stop()
    finally:
        sink.close()
    if sink.failure:
        raise UsageError(sink.failure)
    _log.info("stopped", id=settings.id)
    return 0
