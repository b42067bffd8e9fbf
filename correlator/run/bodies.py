"""Bodies of the configuration: rules, site, settings, tables and baseline as bytes named by their sha-256.

A body is immutable and the same on every machine for the same files, so the hashes in a configuration
record say exactly what decided. A worker needs no disk: the carrier hands it the bodies that the
records name. On Kafka a body stands on the topic `config` in chunks (`chunks`, `joined`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from correlator.errors import BodyMissing, Fault, FaultyFile, StateRefused
from correlator.impact.measures import SHIPPED_MEASURES, Measure, measures_of
from correlator.impact.rules import SHIPPED, RuleBase, texts_of
from correlator.impact.rules import rules_of as impact_rules_of
from correlator.impact.settings import ImpactSettings
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import FOLDER, table_files, tables_of
from correlator.matching import EngineSettings
from correlator.premises.load import read_site
from correlator.premises.premises import Premises
from correlator.privacy.private import Private, with_tokens
from correlator.rulepack import PACK as PACK_FOLDER
from correlator.rules.load import LoadedRules, rule_texts, rules_of
from correlator.run.deciding import Deciding, Entries, Tables, tables_that_come_along
from correlator.run.linking import load_baseline
from correlator.run.log import Configuration

CHUNK_BYTES: Final = 512 * 1024
FORM: Final = 1  # version of the bodies' form

_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")
_decode: Final = msgspec.msgpack.Decoder().decode

Texts = list[tuple[str, bytes]]  # names and contents of files, names the same on every machine


@dataclass(frozen=True, slots=True)
class TableFiles:
    """Files of a site's own tables. links: a folder with both tables of linking instead of the shipped ones;
    impact_rules, measures: files and folders beside the shipped ones; baseline: what was usual before."""

    links: Path | None = None
    impact_rules: tuple[Path, ...] = ()
    measures: tuple[Path, ...] = ()
    baseline: Path | None = None


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


def settings_body(deciding: Deciding) -> bytes:
    """The body of the settings that decide, with the version of the time zone rules."""
    engine = deciding.engine
    said = {name: getattr(engine, name) for name in EngineSettings.__dataclass_fields__ if name != "track_changes"}
    return _encoder.encode([FORM, "settings", said, version("tzdata"), _said(deciding.linking), _said(deciding.impact)])


def _said(settings: BaseModel | None) -> dict[str, Any] | None:
    return settings.model_dump() if settings is not None else None


def tables_body(links: Texts, impact_rules: tuple[Texts, Texts], measures: tuple[Texts, Texts]) -> bytes:
    """The body of the tables, those that come along included: (shipped, own) of impact rules and measures."""
    return _encoder.encode([FORM, "tables", links, impact_rules, measures])


def baseline_body(entries: Entries) -> bytes:
    """The body of what was learned before."""
    return _encoder.encode([FORM, "baseline", [list(one) for one in entries]])


def bundle(
    site_file: Path,
    rules: list[Path | str],
    overlay: Path | None,
    deciding: Deciding,
    tables: TableFiles = TableFiles(),
    private: Private | None = None,
) -> Bundle:
    """The bodies of a site from its files. rules: folders and files; "pack" is the rule pack. private: people,
    badges and accounts stand in them as tokens.

    Raises FaultyFile with every fault of rules, site and tables, UsageError for a missing path.
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
    if private is not None:
        faults += [replace(fault, file=shown.get(fault.file, fault.file)) for fault in private.refused(texts)]
    tables_said, table_faults = _tables(tables)
    faults += table_faults
    if faults or site is None:
        raise FaultyFile(faults)
    renamed: dict[str, str] = {}
    if private is not None:
        texts, overlay_text, site_text, renamed = private.texts(texts, overlay_text, site_text, str(site_file))
    made = [rules_body(texts, overlay_text), site_body(site_text), settings_body(deciding), tables_said]
    if tables.baseline is not None:
        entries = load_baseline(tables.baseline)
        made.append(baseline_body(entries if private is None else with_tokens(entries, renamed)))
    names = [sha256(body) for body in made]
    return Bundle(site.id, Configuration(0, *names), dict(zip(names, made, strict=True)))


def _tables(files: TableFiles) -> tuple[bytes, list[Fault]]:
    """(body of the tables, what is wrong with them)."""
    shown: dict[str, str] = {}
    links = _named(table_files(files.links or FOLDER), shown)
    impact_rules = _named([SHIPPED], shown, "shipped"), _named(files.impact_rules, shown)
    measures = _named([SHIPPED_MEASURES], shown, "shipped"), _named(files.measures, shown)
    faults = [*_impact_rules(*impact_rules)[1], *_measures(*measures)[1]]
    try:
        tables_of(links)
    except FaultyFile as faulty:
        faults += faulty.faults
    return tables_body(links, impact_rules, measures), [replace(one, file=shown[one.file]) for one in faults]


def _named(paths: Iterable[Path], shown: dict[str, str], within: str = "") -> Texts:
    """Files and those in folders under names that are the same on every machine; shown: name -> path."""
    found: Texts = []
    for path in paths:
        root = path if path.is_dir() else path.parent
        for file, data in texts_of([path]):
            name = f"{within or root.name}/{Path(file).relative_to(root).as_posix()}"
            shown[name] = file
            found.append((name, data))
    return found


def _impact_rules(shipped: Texts, own: Texts) -> tuple[RuleBase, list[Fault]]:
    base, faults = impact_rules_of(shipped)
    beside, more = impact_rules_of(own)
    return base.with_own(beside), faults + more


def _measures(shipped: Texts, own: Texts) -> tuple[tuple[Measure, ...], list[Fault]]:
    base, faults = measures_of(shipped)
    beside, more = measures_of(own)
    return tuple({one.id: one for one in (*base, *beside)}.values()), faults + more


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


def settings_from(bodies: Mapping[str, bytes], name: str) -> Deciding:
    """The settings of a body; one that this release does not know is refused. Raises BodyMissing, StateRefused."""
    said, _tzdata, linking, impact = _parts(bodies, name, "settings")
    unknown = sorted(set(said) - set(EngineSettings.__dataclass_fields__))
    for model, given in ((LinkingSettings, linking), (ImpactSettings, impact)):
        unknown += sorted(set(given or ()) - set(model.model_fields))
    if unknown:
        raise StateRefused(f"the configuration sets {', '.join(unknown)}, which this release does not know; upgrade it")
    return Deciding(
        EngineSettings(**said, track_changes=True),
        None if linking is None else LinkingSettings(**linking),
        None if impact is None else ImpactSettings(**impact),
    )


def tables_from(bodies: Mapping[str, bytes], name: str) -> Tables:
    """The tables of a body; "" are those of this release. Raises BodyMissing, StateRefused, FaultyFile."""
    if not name:
        return tables_that_come_along()
    _parts(bodies, name, "tables")
    return _read_tables(bodies[name])


@lru_cache(maxsize=8)
def _read_tables(body: bytes) -> Tables:
    _form, _kind, links, impact_rules, measures = _decode(body)
    rules, faults = _impact_rules(*impact_rules)
    found, more = _measures(*measures)
    if faults or more:
        raise FaultyFile([*faults, *more])
    return Tables(tables_of(links), rules, found)


def baseline_from(bodies: Mapping[str, bytes], name: str) -> Entries:
    """The entries of a baseline's body; "" is none. Raises BodyMissing, StateRefused."""
    if not name:
        return ()
    (entries,) = _parts(bodies, name, "baseline")
    return [(key, value) for key, value in entries]


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
