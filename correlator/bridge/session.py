"""MQTT clients as our settings want them, and the broker's refusals in words."""

from __future__ import annotations

import ssl

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from correlator.bridge.settings import BridgeSettings, MqttSettings, MqttTls
from correlator.errors import UsageError

_CONNECT_S = 5.0


def new_client(settings: BridgeSettings, client_id: str, *, keep_session: bool = True) -> mqtt.Client:
    """A client that is not connected yet. Raises UsageError for a secret that cannot be read."""
    version5 = settings.mqtt.version == "5"
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if version5 else not keep_session,
        protocol=mqtt.MQTTv5 if version5 else mqtt.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = _CONNECT_S
    if settings.mqtt.user:
        client.username_pw_set(settings.mqtt.user, mqtt_password(settings.mqtt))
    return client


def mqtt_password(settings: MqttSettings) -> str | None:
    """The password itself. Raises UsageError if its file cannot be read."""
    if settings.password is not None:
        return settings.password.get_secret_value()
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{settings.password_file}: the password cannot be read: {error}") from error


def apply_tls(client: mqtt.Client, tls: MqttTls | None) -> None:
    """Encrypts the client's connection, TLS 1.2 or newer. Raises UsageError that names a faulty file."""
    if tls is None:
        return
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{tls.ca}: no usable certificates (bridge.mqtt.tls.ca): {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        try:
            context.load_cert_chain(tls.certificate, tls.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{tls.certificate}, {tls.key}: no usable certificate and key: {error}") from error
    client.tls_set_context(context)


def refusal_words(reason: ReasonCode, settings: BridgeSettings) -> str:
    """Why the MQTT broker does not let us in, and which setting to look at."""
    words = {
        0x84: "the MQTT broker does not speak this protocol version (bridge.mqtt.version)",
        0x85: f"the MQTT broker refuses the client id {settings.id!r} (bridge.id)",
        0x86: f"the MQTT broker refuses user {settings.mqtt.user!r} or its password (bridge.mqtt.user, password_file)",
        0x87: f"the MQTT broker does not let user {settings.mqtt.user!r} in (bridge.mqtt.user, password_file)",
    }
    return words.get(reason.value, "the MQTT broker refuses the connection") + f": {reason}"
