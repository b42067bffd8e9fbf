"""Bodies of the configuration: rules, site and settings as bytes that are named by their sha-256.

A body is immutable and the same on every machine for the same files, so the hashes in a configuration
record say exactly what decided. A worker needs no disk: the carrier hands it the bodies that the
records name. On Kafka a body stands on the topic `config` in chunks (`chunks`, `joined`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from correlator.errors import BodyMissing, FaultyFile, StateRefused
from correlator.matching import EngineSettings
from correlator.premises.load import read_site
from correlator.premises.premises import Premises
from correlator.rulepack import PACK as PACK_FOLDER
from correlator.rules.load import LoadedRules, rule_texts, rules_of
from correlator.run.log import Configuration

CHUNK_BYTES: Final = 512 * 1024
FORM: Final = 1  # version of the bodies' form

_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")
_decode: Final = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything a site's pipeline is made of: the bodies by hash, and their names.

    configuration has serial 0; whoever applies it gives it the next one.
    """

    site_id: str
    configuration: Configuration
    bodies: dict[str, bytes]


def sha256(body: bytes) -> str:
    """The name of a body."""
    return hashlib.sha256(body).hexdigest()


def rules_body(texts: list[tuple[str, bytes]], overlay: bytes | None, *, regex_backtracking: bool = False) -> bytes:
    """The body of rule files; their order does not matter."""
    return _encoder.encode([FORM, "rules", sorted(texts), overlay, regex_backtracking])


def site_body(text: bytes) -> bytes:
    """The body of a site file."""
    return _encoder.encode([FORM, "site", text])


def settings_body(settings: EngineSettings) -> bytes:
    """The body of the settings that decide, with the version of the time zone rules."""
    said = {name: getattr(settings, name) for name in EngineSettings.__dataclass_fields__ if name != "track_changes"}
    return _encoder.encode([FORM, "settings", said, version("tzdata")])


def bundle(site_file: Path, rules: list[Path | str], overlay: Path | None, settings: EngineSettings) -> Bundle:
    """The bodies of a site from its files. rules: folders and files; "pack" is the rule pack.

    Raises FaultyFile with every fault of rules and site, UsageError for a missing path.
    """
    texts: list[tuple[str, bytes]] = []
    shown: dict[str, str] = {}  # name in the body -> path as the person knows it
    for one in rules:
        folder = PACK_FOLDER if one == "pack" else Path(one)
        prefix = "pack" if one == "pack" else folder.name
        for name, data in rule_texts(folder if folder.is_dir() else folder.parent, [folder]):
            texts.append((f"{prefix}/{name}", data))
            shown[f"{prefix}/{name}"] = str((folder if folder.is_dir() else folder.parent) / name)
    overlay_text = overlay.read_bytes() if overlay is not None else None
    site_text = site_file.read_bytes()
    found = rules_of(texts, ("rules-overlay.yaml", overlay_text) if overlay_text is not None else None)
    faults = [replace(fault, file=shown.get(fault.file, str(overlay))) for fault in found.errors]
    site, site_faults = read_site(site_text.decode("utf-8-sig", "replace"), str(site_file))
    faults += [fault for fault in site_faults if fault.severity == "error"]
    if faults or site is None:
        raise FaultyFile(faults)
    bodies = {
        sha256(body): body for body in (rules_body(texts, overlay_text), site_body(site_text), settings_body(settings))
    }
    rules_hash, site_hash, settings_hash = bodies
    return Bundle(site.id, Configuration(0, rules_hash, site_hash, settings_hash), bodies)


# ---- reading -----------------------------------------------------------------------------------


def rules_from(bodies: Mapping[str, bytes], name: str) -> LoadedRules:
    """The rules of a body. Raises BodyMissing, StateRefused, FaultyFile."""
    texts, overlay, backtracking = _parts(bodies, name, "rules")
    loaded = rules_of(
        [(file, data) for file, data in texts],
        ("rules-overlay.yaml", overlay) if overlay is not None else None,
        regex_backtracking=backtracking,
    )
    if loaded.errors:
        raise FaultyFile(loaded.errors)
    return loaded


def site_from(bodies: Mapping[str, bytes], name: str) -> Premises:
    """The site model of a body. Raises BodyMissing, StateRefused, FaultyFile."""
    (text,) = _parts(bodies, name, "site")
    site, faults = read_site(text.decode("utf-8-sig"), "site.yaml")
    errors = [fault for fault in faults if fault.severity == "error"]
    if site is None or errors:
        raise FaultyFile(errors)
    return Premises(site)


def settings_from(bodies: Mapping[str, bytes], name: str) -> EngineSettings:
    """The settings of a body; one that this release does not know is refused. Raises BodyMissing, StateRefused."""
    said, _tzdata = _parts(bodies, name, "settings")
    unknown = sorted(set(said) - set(EngineSettings.__dataclass_fields__))
    if unknown:
        raise StateRefused(f"the configuration sets {', '.join(unknown)}, which this release does not know; upgrade it")
    return EngineSettings(**said, track_changes=True)


def _parts(bodies: Mapping[str, bytes], name: str, kind: str) -> list[Any]:
    body = bodies.get(name)
    if body is None:
        raise BodyMissing(
            f"the {kind} {name[:12]} that the log names are not at hand; `correlator config apply` writes them"
        )
    form, found, *parts = _decode(body)
    if form != FORM or found != kind:
        raise StateRefused(f"body {name[:12]} is {found} of form {form}; this release reads {kind} of form {FORM}")
    return list(parts)


# ---- chunks ------------------------------------------------------------------------------------


def chunks(name: str, body: bytes) -> list[tuple[str, bytes]]:
    """(key, bytes) of a body's parts: keys `<sha-256>/<n>/<of>`, n from 0."""
    count = max(1, -(-len(body) // CHUNK_BYTES))
    return [(f"{name}/{n}/{count}", body[n * CHUNK_BYTES : (n + 1) * CHUNK_BYTES]) for n in range(count)]


class Chunks:
    """Puts bodies together from their parts, in any order; `bodies` holds the whole ones, checked."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self._parts: dict[str, dict[int, bytes]] = {}

    def add(self, key: str, part: bytes) -> None:
        """Takes one part. Raises StateRefused if a whole body is not what its name says."""
        name, number, count = key.split("/")
        if name in self.bodies:
            return
        parts = self._parts.setdefault(name, {})
        parts[int(number)] = part
        if len(parts) == int(count):
            body = b"".join(parts[n] for n in range(int(count)))
            if sha256(body) != name:
                raise StateRefused(f"body {name[:12]} of the configuration is damaged; apply it again")
            self.bodies[name] = body
            del self._parts[name]
