"""`correlator secure`: certificates, users and rights for Kafka and Mosquitto."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from correlator.cli.ending import guarded
from correlator.cli.options import PATH, Group, examples

_folder = click.argument("folder", type=PATH, metavar="DIR")
_config = click.option(
    "-c", "--config", type=PATH, default="correlator.yaml", show_default=True, metavar="FILE",
    help="Settings that name topics, groups and MQTT topics; defaults if there is no such file.",
)  # fmt: skip
_kafka_hosts = click.option(
    "--kafka-host", "kafka_hosts", multiple=True, default=("kafka", "localhost", "127.0.0.1"), show_default=True,
    metavar="NAME", help="Name or address under which Kafka is reached; may be repeated.",
)  # fmt: skip
_mqtt_hosts = click.option(
    "--mqtt-host", "mqtt_hosts", multiple=True, default=("mosquitto", "localhost", "127.0.0.1"), show_default=True,
    metavar="NAME", help="Name or address under which Mosquitto is reached; may be repeated.",
)  # fmt: skip


def _settings(config: Path) -> Any:
    from correlator.config.load import load
    from correlator.config.settings import Settings

    return load(config).settings if config.exists() else Settings()


@click.group(cls=Group)
def secure() -> None:
    """Encryption, users and least rights for Kafka and Mosquitto."""


@secure.command(
    "init",
    epilog=examples("correlator secure init secure/", "correlator secure init secure/ --kafka-host kafka.h1.example"),
)
@_folder
@_config
@_kafka_hosts
@_mqtt_hosts
def secure_init(folder: Path, config: Path, kafka_hosts: tuple[str, ...], mqtt_hosts: tuple[str, ...]) -> int:
    """Make certificates, passwords and the brokers' files in DIR, which must be new or empty."""

    def work() -> int:
        from correlator.config.secure import init

        return init(folder, _settings(config), kafka_hosts, mqtt_hosts, sys.stdout.write)

    return guarded(work)


@secure.command("renew", epilog=examples("correlator secure renew secure/"))
@_folder
@_kafka_hosts
@_mqtt_hosts
def secure_renew(folder: Path, kafka_hosts: tuple[str, ...], mqtt_hosts: tuple[str, ...]) -> int:
    """Make new certificates in DIR with the same authority; passwords and rights stay."""

    def work() -> int:
        from correlator.config.secure import renew

        return renew(folder, kafka_hosts, mqtt_hosts, sys.stdout.write)

    return guarded(work)


@secure.command("apply", epilog=examples("correlator secure apply secure/ --kafka localhost:9092"))
@_folder
@_config
@click.option("--kafka", "bootstrap", default="localhost:9092", show_default=True, metavar="HOST:PORT",
              help="The running, secured Kafka.")  # fmt: skip
def secure_apply(folder: Path, config: Path, bootstrap: str) -> int:
    """Make users and rights on a running Kafka; rights that a component no longer needs are taken away."""

    def work() -> int:
        from correlator.config.secure import apply

        return apply(folder, _settings(config), bootstrap, sys.stdout.write)

    return guarded(work)
