"""What `correlator site check|show|unknown` do: functions from a path and a stream to an exit code.

Exit code 0: good, also with warnings; 2: the file cannot be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from correlator.clock import local
from correlator.errors import UsageError
from correlator.premises import Premises, check_site, load_site, unknown_yaml
from correlator.premises.model import Need

_SHOWN = 40  # entries of one list; the rest is counted


def check(path: Path, out: TextIO) -> int:
    """Write every fault and warning of a site file, one a line. 2 with errors, else 0."""
    faults = check_site(path)
    for fault in faults:
        print(fault, file=out)
    errors = sum(fault.severity == "error" for fault in faults)
    warnings = len(faults) - errors
    if errors:
        print(f"{path}: {_count(errors, 'error')}, {_count(warnings, 'warning')}", file=out)
        return 2
    premises = load_site(path)
    said = f", {_count(warnings, 'warning')}" if warnings else ""
    print(f"{path}: good{said}: {_sizes(premises)}", file=out)
    return 0


def show(path: Path, out: TextIO, json: bool = False) -> int:
    """Write a site as a tree, or as JSON for programs. Raises FaultyFile."""
    premises = load_site(path)
    if json:
        out.write(msgspec.json.format(msgspec.json.encode(as_data(premises)), indent=2).decode() + "\n")
    else:
        Console(file=out, highlight=False, soft_wrap=True).print(_tree(premises))
    return 0


def unknown(source: Path, out: TextIO) -> int:
    """Write YAML to paste for the names a replay could not resolve.

    source: the replay's `--out` directory or its `unknown.json`, a list of {kind, id, count, first_ms,
    last_ms}. Raises UsageError if it is missing or is not that.
    """
    path = source / "unknown.json" if source.is_dir() else source
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Unknown])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; run correlator replay --out first") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not the unknown.json of a replay: {error}") from error
    if not entries:
        print("Every name in the messages is known to the site file.", file=out)
        return 0
    out.write(unknown_yaml([(one.kind, one.id, one.count, one.first_ms, one.last_ms) for one in entries]))
    return 0


class _Unknown(msgspec.Struct, frozen=True):
    kind: str
    id: str
    count: int
    first_ms: int
    last_ms: int


def as_data(premises: Premises) -> dict[str, Any]:
    """A site as plain data: the site file's own words and times in ms UTC, and what follows from them
    (resolved relations, description of each asset)."""
    site = premises.site
    data: dict[str, Any] = msgspec.to_builtins(site, enc_hook=lambda _zone: site.timezone_name)
    del data["timezone_name"]
    data["relations"] = [msgspec.to_builtins(one) for one in premises.graph.relations]
    data["described"] = {asset: premises.describe(asset) for asset in premises.assets}
    data["config_hash"] = premises.config_hash
    return data


# ---- the tree -------------------------------------------------------------------------------------


def _tree(premises: Premises) -> Tree:
    site = premises.site
    tree = Tree(f"[bold]{escape(site.name)}[/bold] ({escape(site.id)}), {site.timezone_name}: {_sizes(premises)}")
    standing: dict[str, list[str]] = {}
    nowhere: list[str] = []
    for asset in site.assets.values():
        name = f"{escape(asset.name or asset.id)} [dim]({asset.asset_class.replace('_', ' ')})[/dim]"
        zones = (asset.zone,) if asset.zone else premises.zones_of(asset.id, 0)
        for place in zones:
            standing.setdefault(place, []).append(name)
        if not zones:
            nowhere.append(name)
    for floor in site.floors.values():
        label = ", ".join(escape(part) for part in (floor.name, floor.building) if part)
        branch = tree.add(f"[bold]{label}[/bold]")
        for zone in [one for one in site.zones.values() if one.floor == floor.id]:
            marks = ["restricted"] if zone.restricted else []
            marks += ["has hours"] if zone.hours is not None else []
            note = f" [dim]({', '.join(marks)})[/dim]" if marks else ""
            _listed(branch.add(f"{escape(zone.name)}{note}"), standing.get(zone.id, []))
        doors = [premises.describe(one.id) for one in site.doors.values() if one.floor == floor.id]
        if doors:
            _listed(branch.add("doors"), [escape(door) for door in doors])
    if nowhere:
        _listed(tree.add("in no zone"), nowhere)
    if site.people:
        badges = sum(len(person.badges) for person in site.people.values())
        accounts = sum(len(person.accounts) for person in site.people.values())
        tree.add(f"{_count(len(site.people), 'person')}, {_count(badges, 'badge')}, {_count(accounts, 'account')}")
    if site.services:
        branch = tree.add("services")
        for service in site.services.values():
            branch.add(f"{escape(service.name)} (criticality {service.criticality}) needs {_needs(service.needs)}")
    if site.protections:
        _listed(tree.add("protections"), [
            f"{escape(one.id)}: {one.degree:g} against {', '.join(one.against)}, "
            f"{escape(premises.describe(one.asset))}"
            for one in site.protections.values()
        ])  # fmt: skip
    if site.windows:
        _listed(tree.add("windows"), [
            f"{_time(premises, one.from_ms)} to {_time(premises, one.to_ms)}: {escape(one.why)}"
            for one in site.windows.values()
        ])  # fmt: skip
    return tree


def _listed(branch: Tree, entries: list[str]) -> None:
    for entry in entries[:_SHOWN]:
        branch.add(entry)
    if len(entries) > _SHOWN:
        branch.add(f"and {len(entries) - _SHOWN} more")


def _needs(need: Need) -> str:
    parts = [escape(part) if isinstance(part, str) else f"({_needs(part)})" for part in need.of]
    if len(parts) == 1:
        return parts[0]
    if need.k == len(parts):
        return " and ".join(parts)
    return " or ".join(parts) if need.k == 1 else f"{need.k} of {', '.join(parts)}"


def _time(premises: Premises, ms: int) -> str:
    return f"{local(ms, premises.timezone):%Y-%m-%d %H:%M}"


def _sizes(premises: Premises) -> str:
    site = premises.site
    counts = (
        (len(site.zones), "zone"), (len(site.doors), "door"), (len(site.assets), "asset"),
        (len(site.people), "person"), (len(premises.graph.relations), "relation"), (len(site.services), "service"),
    )  # fmt: skip
    return ", ".join(_count(n, what) for n, what in counts if n)


def _count(n: int, what: str) -> str:
    plural = {"person": "people"}.get(what, f"{what}s")
    return f"{n:,} {what if n == 1 else plural}"
