"""`correlator secure`: certificates, users and rights for Kafka and Mosquitto, made and put in force.

    DIR/ca.pem, ca.key               who signs; take the key away once all certificates are made
    DIR/kafka/                       server.properties, server.pem, ca.pem: the broker's folder
    DIR/mosquitto/                   mosquitto.conf, server.crt, server.key, ca.pem, passwd, acl: the broker's folder
    DIR/users/<component>/           kafka.password, mqtt.password, kafka.env; the bridge also client.crt, client.key
    DIR/correlator.secure.yaml       what the part `kafka:` and `bridge.mqtt:` of correlator.yaml must say

Paths inside the brokers' files are relative to the broker's folder, so that the same files work in a container
and natively. Every file with a secret has mode 600. Nothing existing is overwritten.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported at run time, not in its stubs
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from correlator.config.rights import (
    ADMIN,
    BRIDGE,
    MQTT_BRIDGE,
    MQTT_DEVICES,
    Right,
    kafka_rights,
    kafka_users,
    mqtt_acl,
)
from correlator.config.settings import Settings
from correlator.data import folder as data_folder
from correlator.errors import UsageError
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.refusals import error_words

_CA_DAYS: Final = 3_650
_SERVER_DAYS: Final = 730
_SCRAM_ITERATIONS: Final = 8_192
_MOSQUITTO_ITERATIONS: Final = 10_000
_PASSWORD_BYTES: Final = 24
_ADMIN_S: Final = 30.0
_SECRET_MODE: Final = 0o600

Write = Callable[[str], object]


# ---- certificates ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs: a certificate and its key (EC P-256)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> Authority:
        """One that has signed nothing yet, valid for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("correlator certificate authority")
        made = (
            _certificate(name, name, key.public_key(), _CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
        )
        return cls(made.sign(key, hashes.SHA256()), key)

    def issue(self, common_name: str, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """(certificate, key) as PEM, for a server with these names and addresses, or for a client without any."""
        key = ec.generate_private_key(ec.SECP256R1())
        kind = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        made = _certificate(_name(common_name), self.certificate.subject, key.public_key(), _SERVER_DAYS)
        made = (
            made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([kind]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if hosts:
            made = made.add_extension(x509.SubjectAlternativeName([_host(one) for one in hosts]), critical=False)
        return made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), key_pem(key)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as unencrypted PKCS#8 PEM, which Kafka and Mosquitto read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of other machines may be behind
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=sign_certificates, crl_sign=sign_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


# ---- the folder --------------------------------------------------------------------------------------


def init(folder: Path, settings: Settings, kafka_hosts: Sequence[str], mqtt_hosts: Sequence[str], write: Write) -> int:
    """Makes everything new; gives 0. Raises UsageError if the folder holds anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; `correlator secure renew` makes new certificates in it")
    _folder(folder)
    authority = Authority.new()
    _put(folder / "ca.pem", authority.certificate.public_bytes(serialization.Encoding.PEM))
    _put(folder / "ca.key", key_pem(authority.key), secret=True)
    passwords = {user: secrets.token_urlsafe(_PASSWORD_BYTES) for user in (ADMIN, *kafka_users())}
    for user, password in passwords.items():
        home = _folder(folder / "users" / user)
        _put(home / "kafka.password", f"{password}\n".encode(), secret=True)
        _put(home / "kafka.env", _environment(user, home), secret=True)
    _kafka(folder, passwords[ADMIN])
    _mosquitto(folder, settings)
    _certificates(folder, authority, kafka_hosts, mqtt_hosts)
    _put(folder / "correlator.secure.yaml", _settings_part(folder, kafka_hosts, mqtt_hosts))
    for line in _next_steps(folder):
        write(f"{line}\n")
    return 0


def renew(folder: Path, kafka_hosts: Sequence[str], mqtt_hosts: Sequence[str], write: Write) -> int:
    """Makes new certificates with the same authority; passwords and rights stay. Gives 0. Raises UsageError."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: no certificate authority to sign with (ca.pem, ca.key): {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{folder / 'ca.key'}: not a key that `correlator secure init` made")
    _certificates(folder, Authority(certificate, key), kafka_hosts, mqtt_hosts)
    write(f"new certificates in {folder}, valid for {_SERVER_DAYS} days; restart Kafka, Mosquitto and the bridge\n")
    return 0


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def _put(path: Path, content: bytes, *, secret: bool = False) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SECRET_MODE if secret else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _certificates(folder: Path, authority: Authority, kafka_hosts: Sequence[str], mqtt_hosts: Sequence[str]) -> None:
    ca = authority.certificate.public_bytes(serialization.Encoding.PEM)
    certificate, key = authority.issue("kafka", kafka_hosts)
    _put(folder / "kafka" / "server.pem", key + certificate + ca, secret=True)  # in this order for Kafka's PEM store
    _put(folder / "kafka" / "ca.pem", ca)
    certificate, key = authority.issue("mosquitto", mqtt_hosts)
    _put(folder / "mosquitto" / "server.crt", certificate)
    _put(folder / "mosquitto" / "server.key", key, secret=True)
    _put(folder / "mosquitto" / "ca.pem", ca)
    certificate, key = authority.issue(MQTT_BRIDGE)
    _put(folder / "users" / BRIDGE / "client.crt", certificate)
    _put(folder / "users" / BRIDGE / "client.key", key, secret=True)


def _environment(user: str, home: Path) -> bytes:
    """Environment of a component, for systemd's EnvironmentFile and compose's env_file."""
    said = {
        "CORRELATOR_KAFKA__USERNAME": user,
        "CORRELATOR_KAFKA__PASSWORD_FILE": str(home.resolve() / "kafka.password"),
    }
    return "".join(f"{name}={value}\n" for name, value in said.items()).encode()


# ---- Kafka -------------------------------------------------------------------------------------------


def _kafka(folder: Path, admin_password: str) -> None:
    """The deployed properties with the listener's lines replaced."""
    home = _folder(folder / "kafka")
    controller_password = secrets.token_urlsafe(_PASSWORD_BYTES)
    changed = {
        "listeners": "SECURED://:9092,CONTROLLER://:9093",
        "advertised.listeners": "SECURED://kafka:9092",
        "listener.security.protocol.map": "CONTROLLER:SASL_PLAINTEXT,SECURED:SASL_SSL",
        "inter.broker.listener.name": "SECURED",
    }
    lines = []
    for line in (data_folder("deploy") / "kafka" / "server.properties").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        lines.append(f"{name}{separator}{changed.get(name, value)}")
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    login = f'{plain} username="controller" password="{controller_password}" user_controller="{controller_password}";'
    lines += [
        "sasl.enabled.mechanisms=SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512",
        "sasl.mechanism.controller.protocol=PLAIN",
        f'listener.name.secured.scram-sha-512.sasl.jaas.config={scram} username="{ADMIN}" password="{admin_password}";',
        "listener.name.controller.sasl.enabled.mechanisms=PLAIN",
        f"listener.name.controller.plain.sasl.jaas.config={login}",
        "ssl.keystore.type=PEM",
        "ssl.keystore.location=server.pem",
        "ssl.truststore.type=PEM",
        "ssl.truststore.location=ca.pem",
        # The broker speaks to itself under the address it listens on, which need not be in its certificate.
        "ssl.endpoint.identification.algorithm=",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        f"super.users=User:{ADMIN};User:controller",
    ]
    head = "# Written by `correlator secure init`. Format the storage with the first user:\n#   --add-scram"
    head += f" 'SCRAM-SHA-512=[name={ADMIN},password=<users/{ADMIN}/kafka.password>]'\n"
    _put(home / "server.properties", (head + "\n".join(lines) + "\n").encode(), secret=True)


def admin_settings(folder: Path, bootstrap: str) -> KafkaSettings:
    """How the administrator reaches the secured Kafka."""
    return KafkaSettings(
        bootstrap=bootstrap, security="sasl_ssl", username=ADMIN, ca_file=folder / "ca.pem",
        password_file=folder / "users" / ADMIN / "kafka.password",
    )  # fmt: skip


def apply(folder: Path, settings: Settings, bootstrap: str, write: Write) -> int:
    """Makes users and rights on a running Kafka as the table says, and takes away what it does not; gives 0.

    Rights of users that are not ours stay as they are. Raises UsageError.
    """
    admin = AdminClient(admin_settings(folder, bootstrap).client())
    try:
        changes: list[Any] = []
        for user in kafka_users():
            password = (folder / "users" / user / "kafka.password").read_text(encoding="utf-8").strip()
            credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
            changes.append(UserScramCredentialUpsertion(user, credential, password.encode()))
        for future in admin.alter_user_scram_credentials(changes, request_timeout=_ADMIN_S).values():
            future.result()
        wanted = {_binding(right) for right in kafka_rights(settings)}
        found = set(_known(admin))
        if missing := wanted - found:
            for future in admin.create_acls(list(missing), request_timeout=_ADMIN_S).values():
                future.result()
        if spare := found - wanted:
            for future in admin.delete_acls([_exactly(one) for one in spare], request_timeout=_ADMIN_S).values():
                future.result()
    except KafkaException as error:
        raise UsageError(error_words(error.args[0])) from error
    write(f"{len(changes)} users; {len(missing)} rights given, {len(spare)} taken away, {len(wanted)} in force\n")
    return 0


def _known(admin: AdminClient) -> Iterable[AclBinding]:
    anything: Any = None  # its stubs do not know that None means any
    every = AclBindingFilter(
        ResourceType.ANY, anything, ResourcePatternType.ANY, anything, anything, AclOperation.ANY,
        AclPermissionType.ANY,
    )  # fmt: skip
    ours = {f"User:{user}" for user in kafka_users()}
    return [one for one in admin.describe_acls(every, request_timeout=_ADMIN_S).result() if one.principal in ours]


def _binding(right: Right) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        ResourceType[right.kind], right.name, pattern, f"User:{right.user}", "*", AclOperation[right.operation],
        AclPermissionType.ALLOW,
    )  # fmt: skip


def _exactly(one: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation, one.permission_type
    )


# ---- Mosquitto ---------------------------------------------------------------------------------------


def _mosquitto(folder: Path, settings: Settings) -> None:
    """The deployed configuration with a TLS listener, users and rights."""
    home = _folder(folder / "mosquitto")
    changed = {"listener": "listener 8883", "allow_anonymous": "allow_anonymous false"}
    lines = []
    for line in (data_folder("deploy") / "mosquitto" / "mosquitto.conf").read_text(encoding="utf-8").splitlines():
        option = line.partition(" ")[0]
        if line and not line.startswith("#"):
            lines.append(changed.get(option, line))
    lines += ["cafile ca.pem", "certfile server.crt", "keyfile server.key", "tls_version tlsv1.2"]
    lines += ["password_file passwd", "acl_file acl"]
    _put(home / "mosquitto.conf", ("# Written by `correlator secure init`.\n" + "\n".join(lines) + "\n").encode())
    _put(home / "acl", mqtt_acl(settings).encode(), secret=True)
    entries = []
    for user in (MQTT_BRIDGE, MQTT_DEVICES):
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        entries.append(f"{user}:{mosquitto_hash(password)}\n")
        _put(_folder(folder / "users" / user) / "mqtt.password", f"{password}\n".encode(), secret=True)
    _put(home / "passwd", "".join(entries).encode(), secret=True)


def mosquitto_hash(password: str) -> str:
    """A password as Mosquitto 2 keeps it in its password_file: $7$, PBKDF2 with SHA-512."""
    salt = os.urandom(12)
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _MOSQUITTO_ITERATIONS, 64)
    return f"$7${_MOSQUITTO_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


# ---- what to do with it ------------------------------------------------------------------------------


def _settings_part(folder: Path, kafka_hosts: Sequence[str], mqtt_hosts: Sequence[str]) -> bytes:
    at = folder.resolve()
    said = {
        "kafka": {"bootstrap": f"{kafka_hosts[0]}:9092", "security": "sasl_ssl", "ca_file": str(at / "ca.pem")},
        "bridge": {
            "mqtt": {
                "host": mqtt_hosts[0],
                "port": 8883,
                "tls": {"ca": str(at / "ca.pem")},
                "user": MQTT_BRIDGE,
                "password_file": str(at / "users" / MQTT_BRIDGE / "mqtt.password"),
            }
        },
    }
    head = "# To be merged into correlator.yaml. User and password of Kafka come from users/<component>/kafka.env.\n"
    return (head + yaml.safe_dump(said, sort_keys=False)).encode()


def _next_steps(folder: Path) -> list[str]:
    return [
        f"made in {folder}: certificates for {_SERVER_DAYS} days, {len(kafka_users()) + 1} users of Kafka, 2 of MQTT",
        f"1. start Kafka with {folder}/kafka, Mosquitto with {folder}/mosquitto (docs/operations.md)",
        f"2. correlator secure apply {folder} --kafka HOST:PORT    makes the users and their rights",
        f"3. merge {folder}/correlator.secure.yaml into correlator.yaml",
        f"4. start each component with the environment of {folder}/users/<component>/kafka.env",
        f"5. take {folder}/ca.key off this machine; it is needed again for `correlator secure renew`",
    ]
