"""A replay as one HTML file that opens from disk: what was found, drawn, and how it compares with what was expected.

No script, no network, no font from elsewhere: a policy in the page forbids them. The page holds what the evidence
says, pseudonyms of people included: it is for the researcher who has the captures anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup
from msgspec import Struct

from correlator.clock import local
from correlator.errors import UsageError
from correlator.events.event import LEVELS
from correlator.events.text import one_line, shortened
from correlator.events.threat import Evidence, Impact, Threat
from correlator.lab import drawings
from correlator.outputs.reading import newest
from correlator.premises import Premises, load_site
from correlator.run.expect import Expectation, check, load_expect
from correlator.run.scenario import load_scenario

FILE = "report.html"
MOST_THREATS, MOST_EVIDENCE = 20, 300
MARKS = {"critical": "◆", "high": "▲", "medium": "■", "low": "●", "informational": "●"}


class Score(Struct, frozen=True):
    """An expected threat against the found one that has most members in common with it.

    hit, missed, extra: origins of members; severity: of the found threat, "" if none was found.
    """

    name: str
    hit: int
    missed: tuple[str, ...]
    extra: tuple[str, ...]
    severity: str

    @property
    def recall(self) -> float:
        """Part of the expected members that were found."""
        return self.hit / max(self.hit + len(self.missed), 1)

    @property
    def precision(self) -> float:
        """Part of the found members that were expected."""
        return self.hit / max(self.hit + len(self.extra), 1)


def report(out: Path) -> Path:
    """Writes OUT/report.html about the replay in a folder and returns its path. Raises UsageError, FaultyFile."""
    about_file, threats_file = out / "replay.json", out / "threats.ndjson"
    if not about_file.is_file() or not threats_file.is_file():
        raise UsageError(f"{out} holds no replay; `correlator replay SCENARIO --out {out}` writes one")
    about = msgspec.json.decode(about_file.read_bytes())
    scenario = load_scenario(Path(about["scenario"]))
    expected = load_expect(scenario.expect_file) if scenario.expect_file.exists() else None
    page = render(newest(threats_file), load_site(scenario.site_file), about, expected)
    target = out / FILE
    target.write_text(page, encoding="utf-8")
    return target


def render(threats: Iterable[Threat], places: Premises, about: dict[str, Any], expected: Expectation | None) -> str:
    """The page. about: what replay.json says (name, counts); expected: None where the scenario has no expectations."""
    found = [one for one in threats if one.phase != "merged"]
    found.sort(key=lambda one: (-LEVELS.index(one.severity), one.first_ms, one.id))
    zone = places.site.timezone
    shown = {
        "about": about,
        "site": places.site,
        "counts": about.get("counts", {}),
        "threats": [_threat(one, places) for one in found[:MOST_THREATS]],
        "left_out": max(0, len(found) - MOST_THREATS),
        "expected": expected,
        "scores": scores(expected, found) if expected is not None else [],
        "problems": check(expected, [msgspec.to_builtins(one) for one in found]) if expected is not None else [],
        "marks": MARKS,
        "first": min((local(one.first_ms, zone) for one in found), default=None),
        "last": max((local(one.last_ms, zone) for one in found), default=None),
    }
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"line": lambda text: shortened(one_line(str(text)), 400), "span": _span}
    text = files("correlator.lab").joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(shown)


def scores(expected: Expectation, found: Sequence[Threat]) -> list[Score]:
    """A score for each expected threat; each found one is given at most once, to whom it has most in common with."""
    members = [{_origin(member) for member in threat.members} for threat in found]
    pairs = sorted(
        (-len({one.origin for one in wanted.members} & members[at]), which, at)
        for which, wanted in enumerate(expected.threats)
        for at in range(len(found))
    )
    chosen: dict[int, int] = {}
    for common, which, at in pairs:
        if common < 0 and which not in chosen and at not in chosen.values():
            chosen[which] = at
    told = []
    for which, wanted in enumerate(expected.threats):
        wished = {one.origin for one in wanted.members}
        got = members[chosen[which]] if which in chosen else set()
        severity = found[chosen[which]].severity if which in chosen else ""
        told.append(
            Score(wanted.name, len(wished & got), tuple(sorted(wished - got)), tuple(sorted(got - wished)), severity)
        )
    return told


def _origin(member: Evidence) -> str:
    return member.origin or member.raw or member.id


def _threat(threat: Threat, places: Premises) -> dict[str, Any]:
    zone = places.site.timezone
    steps = drawings.ordered(threat)
    rows = []
    for number, step in enumerate(steps):
        joined = drawings.joined_to(steps, number)
        rows.append({
            "number": number + 1, "when": f"{local(step.t_ms, zone):%H:%M:%S}", "step": step,
            "to": joined[0] + 1 if joined is not None else None,
        })  # fmt: skip
    return {
        "threat": threat,
        "first": local(threat.first_ms, zone),
        "last": local(threat.last_ms, zone),
        "long": _span(threat.last_ms - threat.first_ms),
        "timeline": Markup(drawings.timeline(threat, places)),  # noqa: S704 - drawings escapes every text
        "floors": [(name, Markup(plan)) for name, plan in drawings.floors(threat, places)],  # noqa: S704
        "links": Markup(drawings.links(threat)),  # noqa: S704
        "impact": Markup(drawings.impact(threat)) if threat.impact else "",  # noqa: S704
        "impacts": [(one, _when(one)) for one in threat.impact],
        "rows": rows,
        "evidence": [
            {"when": f"{local(one.time_ms, zone):%d.%m. %H:%M:%S}", "one": one, "origin": _origin(one)}
            for one in threat.members[:MOST_EVIDENCE]
        ],
        "evidence_left_out": max(0, len(threat.members) - MOST_EVIDENCE) + threat.truncated,
    }


def _when(one: Impact) -> str:
    return f"{_span(one.p50_ms)} ({_span(one.p10_ms)} to {_span(one.p90_ms)})"


def _span(ms: int) -> str:
    """A duration for reading, at most two units: "3 h 20 min"."""
    seconds = round(ms / 1000)
    for unit, name, inner, inner_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit:
            whole, rest = divmod(seconds, unit)
            return f"{whole} {name} {rest // inner} {inner_name}" if rest // inner else f"{whole} {name}"
    return f"{seconds} s"
