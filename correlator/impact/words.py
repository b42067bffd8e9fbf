"""The closed words of impact rules and counter-measures beside those of the site graph.

Adding a word is free, renaming one is a major version. `docs/impact.md` shows the same tables; a test
compares them.
"""

from __future__ import annotations

from typing import Final

EFFECTS: Final[dict[str, str]] = {
    "confidentiality": "somebody learns what they must not",
    "integrity": "records, readings or commands are wrong",
    "availability": "it cannot be used",
    "safety": "people may come to harm",
}

# What may stand between a cause and its consequence. A rule names what blocks it, a counter-measure
# what it puts up; live state puts some of them up by itself (`live` below).
BARRIERS: Final[dict[str, str]] = {
    "lock": "the door is locked",
    "guard": "a guard or member of staff stands there",
    "isolation": "it is cut off from the network",
    "account-block": "the account is disabled",
    "badge-block": "the badge is disabled",
    "port-block": "storage that is plugged in is refused",
    "mail-filter": "the mail is taken back from all mailboxes",
    "backup-supply": "a second supply carries the load",
    "local-control": "it is run by hand on the spot",
    "manual-procedure": "staff work on paper",
    "restore": "a clean copy takes over",
    "fire-fighting": "the fire is fought",
    "evacuated": "nobody is there",
}

WAYS: Final = ("along", "against", "both")
ITSELF: Final = "itself"  # `over: itself`: one threat becomes another on the same asset
SAME: Final = "same"  # `then.threat: same`
ANY: Final = "any"  # every asset class


def tables_markdown() -> str:
    """The tables of this module as Markdown, the text that `docs/impact.md` holds between its markers."""
    lines = ["| effect | what it means |", "|---|---|"]
    lines += [f"| `{name}` | {says} |" for name, says in EFFECTS.items()]
    lines += ["", "| barrier | what stands in the way |", "|---|---|"]
    lines += [f"| `{name}` | {says} |" for name, says in BARRIERS.items()]
    return "\n".join(lines) + "\n"
