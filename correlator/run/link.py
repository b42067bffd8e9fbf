"""`correlator link`: plain linking of findings that somebody already has, over a site file.

Reads JSON lines {id, kind, asset, t_ms, tactic?, domain?, level?, threat_type?, anchors?}, in any
order, from one or more files; sorts them by (t_ms, id); prints one JSON line a threat in its final form.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from operator import lt
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

import msgspec

from correlator.errors import UsageError
from correlator.events.event import LEVEL_RANK
from correlator.events.kinds import KINDS
from correlator.linking.engine import TERMS, Item, Link, LinkEngine, Settled, ThreatState
from correlator.linking.ground import SiteGround
from correlator.linking.settings import LinkingSettings
from correlator.linking.tables import shipped_tables
from correlator.premises import Premises, load_site

SHOWN_FAULTS: Final = 5
LATEST_MS: Final = 1 << 50
_json: Final = msgspec.json.Encoder()


class Line(msgspec.Struct, gc=False):
    """An input line; keys that are not here are left alone."""

    id: str | int
    kind: str
    asset: str
    t_ms: int | float
    domain: str = ""
    level: str = "informational"
    tactic: str | list[str] | None = None
    threat_type: str = ""
    anchors: list[str] = []


_read: Final = msgspec.json.Decoder(Line).decode


def link(
    *,
    site: Path,
    files: Iterable[Path],
    from_ms: int | None,
    everything: bool,
    strict: bool,
    stdout: TextIO,
    stderr: TextIO,
    settings: LinkingSettings | None = None,
) -> int:
    """Links the findings of the files; 1 with `strict` when a line could not be read. Raises FaultyFile, UsageError."""
    premises = load_site(site)
    lines, faults = read_lines(files)
    engine = link_lines(premises, lines, from_ms, settings)
    watch = engine.settings.watch
    told = 0
    for one in threats_json(engine):
        if everything or one["score"] >= watch:
            told += 1
            stdout.write(_json.encode(one).decode() + "\n")
    for fault in faults[:SHOWN_FAULTS]:
        stderr.write(f"{fault}\n")
    if len(faults) > SHOWN_FAULTS:
        stderr.write(f"... and {len(faults) - SHOWN_FAULTS} more lines that are no findings\n")
    unknown = sum(name not in premises.assets for name in engine.rates.assets)
    stderr.write(
        f"{len(lines)} findings, {engine.counters['episodes']} episodes, {told} threats told; "
        f"{len(faults)} lines rejected, {unknown} assets not in the site file\n"
    )
    taught = sum(one.t_ms < (engine.from_ms or 0) for one in lines)
    if from_ms is None and taught:
        stderr.write(
            f"{taught} findings of the first day taught what is usual, and only critical ones of them are told; "
            "--from says when telling begins\n"
        )
    return 1 if strict and faults else 0


def link_lines(
    premises: Premises, lines: list[Line], from_ms: int | None, settings: LinkingSettings | None = None
) -> LinkEngine:
    """Folds sorted lines into a fresh engine."""
    settings = settings if settings is not None else LinkingSettings()
    engine = LinkEngine(premises.site_id, SiteGround(premises, settings), shipped_tables(), settings, from_ms)
    goes_on, place, names = engine.goes_on, engine.place, _names(premises)
    gc.disable()  # what is made here lasts; a collector that looks at it again and again finds nothing
    try:
        for one in lines:
            asset = names.get(one.asset) or one.asset
            if not goes_on(asset, one.kind, one.t_ms, one.level):  # type: ignore[arg-type]
                place(_item(one, asset))
    finally:
        gc.enable()
    return engine


def _names(premises: Premises) -> dict[str, str]:
    """Other names that an input may use -> asset; a bare badge or account id where nothing else has it."""
    names: dict[str, str] = {}
    for asset, node in premises.assets.items():
        for alias in (*node.aliases, node.name if node.asset_class in ("badge", "account") else ""):
            if alias and alias not in premises.assets:
                names.setdefault(alias, asset)
    return names


def _item(line: Line, asset: str) -> Item:
    kind = KINDS.get(line.kind)
    tactic = line.tactic
    tactics = () if not tactic else (tactic,) if isinstance(tactic, str) else tuple(tactic)
    domain = line.domain or (kind.domain if kind is not None else "cyber")
    return Item(str(line.id), line.kind, asset, line.t_ms, domain, line.level, tactics,  # type: ignore[arg-type]
                line.threat_type, tuple(line.anchors))  # fmt: skip


def read_lines(files: Iterable[Path]) -> tuple[list[Line], list[str]]:
    """(findings in total order without repeats, what is wrong with the other lines). Raises UsageError."""
    lines: list[Line] = []
    faults: list[str] = []
    for path in files:
        for number, raw in enumerate(_raw_lines(path), start=1):
            try:
                line = _read(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                if not raw.strip():
                    continue
                faults.append(f"{path}:{number}: {error}")
                continue
            if line.level in LEVEL_RANK and line.t_ms.__class__ is int and (
                0 < line.t_ms < LATEST_MS and line.kind and line.asset and line.id != ""
            ):  # fmt: skip
                lines.append(line)
                continue
            problem = _problem(line)
            if problem:
                faults.append(f"{path}:{number}: {problem}")
            else:
                lines.append(line)
    times = [line.t_ms for line in lines]
    if len(set(times)) < len(times) or any(map(lt, times[1:], times)):
        lines.sort(key=lambda line: (line.t_ms, str(line.id), line.kind, line.asset))
    if len({line.id for line in lines}) == len(lines):
        return lines, faults
    seen: set[str | int] = set()
    unique: list[Line] = []
    for line in lines:
        if line.id not in seen:
            seen.add(line.id)
            unique.append(line)
    return unique, faults


def _raw_lines(path: Path) -> Iterator[bytes]:
    if str(path) == "-":
        yield from sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield from _of(file)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _of(file: BinaryIO) -> Iterator[bytes]:
    yield from file


def _problem(line: Line) -> str:
    if line.level not in LEVEL_RANK:
        return f"level {line.level!r} is none of {', '.join(LEVEL_RANK)}"
    if isinstance(line.t_ms, float):
        if not abs(line.t_ms) < 1e15:
            return "t_ms is no time"
        line.t_ms = round(line.t_ms)
    if not 0 <= line.t_ms < LATEST_MS:
        return "t_ms is no time in ms since 1970"
    if not line.kind or not line.asset or line.id == "":
        return "id, kind and asset must not be empty"
    return ""


# ---- output ------------------------------------------------------------------------------------------


def threats_json(engine: LinkEngine) -> list[dict[str, Any]]:
    """All threats in their final form, by first finding; parts that hold together only weakly stand alone."""
    told = [threat_json(threat, part, engine) for threat in engine.all_threats() for part in engine.settled(threat)]
    told.sort(key=lambda one: (one["first_ms"], one["id"]))
    return told


def threat_json(threat: ThreatState, part: Settled, engine: LinkEngine) -> dict[str, Any]:
    """A threat in its final form: score = root.gain + the gains of the links (+ others_gain)."""
    settings, episodes = engine.settings, threat.episodes
    links = [one for one in part.members.values() if one.source] + part.notes
    links.sort(key=lambda one: (episodes[one.target].t_ms if one.target in episodes else 0, one.target, one.source))
    debts = [one for one in part.members.values() if not one.source and one.target != part.root.target and one.gain]
    members = sorted(part.members, key=lambda one: (episodes[one].t_ms, one))
    told: dict[str, Any] = {
        "id": part.id,
        "score": round(part.score, 6),
        "phase": "threat" if part.score >= settings.threat else "watch" if part.score >= settings.watch else "none",
        "first_ms": episodes[members[0]].t_ms,
        "last_ms": max(episodes[one].t_ms for one in members),
        "members": members,
        "links": [_link_json(one) for one in links],
        "root": _root_json(part.root),
        "domains": sorted({episodes[one].domain for one in members}),
    }
    if debts:
        told["further_roots"] = [_root_json(one) for one in debts]
    if part.id == threat.id and threat.aliases:
        told["merged"] = sorted(threat.aliases)
    if part.id == threat.id and threat.counted:
        told["others"] = threat.counted
        told["others_gain"] = round(part.others_gain, 6)
    return told


def _root_json(link: Link) -> dict[str, Any]:
    return {"id": link.target, "gain": round(link.gain, 6), "terms": _terms(link)}


def _link_json(link: Link) -> dict[str, Any]:
    return {"from": link.source, "to": link.target, "x": round(link.x, 6), "gain": round(link.gain, 6),
            "how": link.how, "delay_ms": link.delay_ms, "terms": _terms(link)}  # fmt: skip


def _terms(link: Link) -> dict[str, float]:
    return {name: round(value, 6) for name, value in zip(TERMS, link.terms, strict=True) if value}
