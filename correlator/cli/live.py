"""`correlator simulate` and `correlator live`: a scenario played into real brokers."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

import click

from correlator.cli.ending import guarded
from correlator.cli.options import PATH, examples, scenario_folder
from correlator.errors import UsageError


class _Speed(click.ParamType):
    """`60x` or `60`: how many seconds of event time pass in one second."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            speed = float(str(value).removesuffix("x"))
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"{value!r} is not a speed such as 60x", param, ctx)
        return speed


SPEED: Final = _Speed()


class _Address(click.ParamType):
    """`host:port`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            self.fail(f"{value!r} is not host:port", param, ctx)
        return host, int(port)


def _until_stopped() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@click.command(
    epilog=examples(
        "correlator simulate vaccine-theft --kafka localhost:9092",
        "correlator simulate fire-drill --mqtt localhost:1883",
    )
)
@click.argument("scenario", type=PATH)
@click.option("--mqtt", "mqtt_at", type=_Address(), metavar="HOST:PORT", help="MQTT broker, for MQTT inputs.")
@click.option("--kafka", type=_Address(), metavar="HOST:PORT", help="Kafka without encryption, for logs.")
@click.option("-c", "--config", type=PATH, metavar="FILE", help="Reach Kafka as `kafka:` of this file says.")
@click.option("--speed", type=SPEED, metavar="60x", help="Pace; without it, as fast as the brokers take it.")
@click.option("--tick", "tick_ms", type=click.IntRange(1), metavar="MS",
              help="How often each input promises, in ms of scenario time.")  # fmt: skip
@click.option("--background/--no-background", default=True, show_default=True,
              help="Also play the ordinary traffic that the scenario wishes for.")  # fmt: skip
def simulate(
    scenario: Path,
    mqtt_at: tuple[str, int] | None,
    kafka: tuple[str, int] | None,
    config: Path | None,
    speed: float | None,
    tick_ms: int | None,
    background: bool,
) -> int:
    """Play a scenario's messages into real brokers.

    MQTT inputs are published, logs are written to raw.<input>. Messages carry the scenario's receive times;
    bridge and ingest take them only under trust_sender_time, else all of it happens now.
    """

    def work() -> int:
        from correlator.ingest.kafka import KafkaSettings
        from correlator.lab.simulate import simulate as play

        if kafka is not None and config is not None:
            raise UsageError("give --kafka or --config, not both")
        reach = KafkaSettings(bootstrap=f"{kafka[0]}:{kafka[1]}") if kafka is not None else None
        if config is not None:
            from correlator.config.load import load

            reach = load(config).settings.kafka
        return play(
            scenario_folder(scenario), mqtt_at=mqtt_at, kafka=reach, speed=speed, tick_ms=tick_ms,
            with_background=background, stop=_until_stopped(), write=_write,
        )  # fmt: skip

    return guarded(work)


@click.command(epilog=examples("correlator live", "correlator live fire-drill --speed 60x", "correlator live --once"))
@click.argument("scenario", type=PATH, default="vaccine-theft")
@click.option("--once", is_flag=True, help="End when the scenario has played; exit code 0 when its expectations hold.")
@click.option("--speed", type=SPEED, metavar="60x", help="Pace; without it a scenario plays in about a minute.")
@click.option("--kafka-port", type=click.IntRange(0, 65535), default=0, help="Port of Kafka; 0: a free one.")
@click.option("--mqtt-port", type=click.IntRange(0, 65535), default=0, help="Port of Mosquitto; 0: a free one.")
@click.option("--folder", type=PATH, metavar="DIR", help="Keep data, logs and settings here; else they go at the end.")
@click.option("--background/--no-background", default=True, show_default=True,
              help="Also play the ordinary traffic that the scenario wishes for.")  # fmt: skip
def live(
    scenario: Path,
    once: bool,
    speed: float | None,
    kafka_port: int,
    mqtt_port: int,
    folder: Path | None,
    background: bool,
) -> int:
    """Start the whole system here, play a scenario, show its threats.

    Kafka, Mosquitto, bridge, ingest, worker and console.

    Needs Java 17 and Maven (Kafka's jars are fetched once) and Mosquitto. Ends with Ctrl-C.
    """

    def work() -> int:
        from correlator.lab.live import Live, LiveOptions

        options = LiveOptions(once, speed, kafka_port, mqtt_port, folder, background)
        return Live(scenario_folder(scenario), options, _until_stopped(), _write).run()

    return guarded(work)
