"""Texts of devices and people made safe to stand on one line of whatever follows: a log, a mail, a page."""

from __future__ import annotations

# Marks that turn the direction of what follows (UAX #9); controls, line and paragraph separators.
_TURNING = dict.fromkeys([0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], " ")
_UNSEEN = _TURNING | dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")


def one_line(text: str) -> str:
    """The text on one line: controls and marks of direction become spaces, runs of spaces one."""
    return " ".join(text.translate(_UNSEEN).split())


def straight(text: str) -> str:
    """The text with marks of direction as spaces, so that it reads in the order in which it is written."""
    return text.translate(_TURNING)


def shortened(text: str, longest: int) -> str:
    """The text, cut to `longest` characters with an ellipsis if it is longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
