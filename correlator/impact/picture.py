"""A picture of what follows, as SVG: one row a path, one box a state, an arrow a step.

Plain SVG 1.1 without scripts, fonts or links, so that it can be mailed and printed. Red is likely,
orange moderate, grey unlikely; a score of 0 (full barrier) is drawn with a heavy border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from correlator.impact.tell import percent, time_words

_BOX_WIDTH: Final = 210
_BOX_HEIGHT: Final = 58
_GAP_X: Final = 92
_GAP_Y: Final = 22
_MARGIN: Final = 24
_HEAD: Final = 54
_LETTERS: Final = 32


@dataclass(frozen=True, slots=True)
class Box:
    """A state as drawn. value: likelihood or score 0..1; step: what stands at the arrow to it."""

    name: str
    threat: str
    value: float
    step: str


def paths_picture(title: str, rows: Sequence[Sequence[Box]]) -> str:
    """An SVG document of rows of boxes; rows that begin alike share their boxes."""
    places: dict[tuple[str, ...], tuple[int, int]] = {}
    boxes: list[tuple[tuple[str, ...], Box]] = []
    for number, row in enumerate(rows):
        key: tuple[str, ...] = ()
        for column, box in enumerate(row):
            key = (*key, f"{box.name}\n{box.threat}")
            if key not in places:
                places[key] = (column, number)
                boxes.append((key, box))
    columns = max((len(row) for row in rows), default=1)
    width = 2 * _MARGIN + columns * _BOX_WIDTH + (columns - 1) * _GAP_X
    height = _HEAD + 2 * _MARGIN + max(1, len(rows)) * (_BOX_HEIGHT + _GAP_Y)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="34" font-size="16" font-weight="bold" fill="#1a1a1a">{escape(title)}</text>',
    ]
    for key, box in boxes:
        x, y = _corner(places[key])
        if len(key) > 1:
            lines += _arrow(_corner(places[key[:-1]]), (x, y), box.step)
        lines += _box(x, y, box)
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def impact_rows(impacts: Sequence[Mapping[str, Any]]) -> list[list[Box]]:
    """Rows of a picture from impacts in their JSON form; further paths that must come off as well follow."""
    rows = []
    for impact in impacts:
        for path in (impact["path"], *impact.get("together", ())):
            row = []
            for number, step in enumerate(path):
                last = number == len(path) - 1 and path is impact["path"]
                value = impact["likelihood"] if last else step["likelihood"]
                label = f"{percent(step['step'])}, {time_words(step.get('p50_ms', 0))}" if number else ""
                row.append(Box(step["place_name"], step["threat_type"], value, label))
            rows.append(row)
    return rows


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    column, row = place
    return _MARGIN + column * (_BOX_WIDTH + _GAP_X), _HEAD + _MARGIN + row * (_BOX_HEIGHT + _GAP_Y)


def _box(x: int, y: int, box: Box) -> list[str]:
    fill, edge = _colour(box.value)
    heavy = 3 if box.value == 0 else 1
    name = box.name if len(box.name) <= _LETTERS else box.name[: _LETTERS - 1] + "…"
    says = f"{escape(box.threat)} {percent(box.value)}"
    edges = f'rx="6" fill="{fill}" stroke="{edge}" stroke-width="{heavy}"'
    return [
        f"<g><title>{escape(box.name)}: {escape(box.threat)}</title>",
        f'<rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" {edges}/>',
        f'<text x="{x + 10}" y="{y + 22}" fill="#1a1a1a">{escape(name)}</text>',
        f'<text x="{x + 10}" y="{y + 42}" fill="#1a1a1a" font-weight="bold">{says}</text></g>',
    ]


def _arrow(start: tuple[int, int], end: tuple[int, int], label: str) -> list[str]:
    x1, y1 = start[0] + _BOX_WIDTH, start[1] + _BOX_HEIGHT // 2
    x2, y2 = end[0], end[1] + _BOX_HEIGHT // 2
    bend = x1 + 14
    return [
        f'<path d="M{x1} {y1} H{bend} V{y2} H{x2 - 7}" fill="none" stroke="#555555"/>',
        f'<path d="M{x2} {y2} l-8 -4 v8 z" fill="#555555"/>',
        f'<text x="{x2 - 10}" y="{y2 - 5}" text-anchor="end" font-size="10" fill="#333333">{escape(label)}</text>',
    ]


def _colour(value: float) -> tuple[str, str]:
    if value >= 0.5:
        return "#f8c4bd", "#b3261e"
    if value >= 0.15:
        return "#fde0b5", "#b26a00"
    return "#ececec", "#777777"
