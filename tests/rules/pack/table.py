"""docs/rulepack.md from the rule files: `python tests/rules/pack/table.py > docs/rulepack.md`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
PACK = ROOT / "correlator" / "rulepack"
THEMES = (
    "doors", "badges", "cameras", "identity", "endpoints", "network", "controllers", "building", "sources", "records",
)  # fmt: skip

HEAD = """\
# The rule pack

{count} rules, on by default, in `correlator/rulepack/`. Each carries its own tests: `correlator rules
test correlator/rulepack`. A site switches rules off or changes their thresholds in its overlay file,
with a reason. `events.yml` holds the plain detections that the correlations refer to; load the folder
as a whole.

**Levels.** Critical is kept for what is a threat by itself: fire, smoke, gas, panic button, duress
code. A door alarm alone is rarely a break-in, so a lone forced door is medium and a lone held door low;
what makes them high is company: a second door, somebody inside, a USB stick in the room. Rules at low
level never alert by themselves; they are there to be joined.

**What they need.** Rules about rooms, people and times ask the site model (restricted zones, hours, who
holds which badge). What the model does not know counts as not known, and such a rule is then silent.
Rules about records read `record_count`, which the map of the care application gives.

This page is written by `tests/rules/pack/table.py`; a test compares it with the files.
"""


def documents(path: Path) -> list[dict[str, Any]]:
    """The rule documents of one file, in order."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def is_reported(rule: dict[str, Any]) -> bool:
    """Whether the rule is for people; helper detections and inner patterns only serve other rules."""
    return not rule["name"].startswith(("event_", "pattern_"))


def markdown() -> str:
    """The text of docs/rulepack.md."""
    sections = []
    count = 0
    for theme in THEMES:
        rows = ["| rule | what it finds | level | false positives | technique |", "|---|---|---|---|---|"]
        for rule in documents(PACK / f"{theme}.yml"):
            if is_reported(rule):
                count += 1
                cells = (
                    f"`{rule['name']}`",
                    f"**{rule['title']}.** {rule['description']}",
                    rule["level"],
                    "; ".join(rule["falsepositives"]),
                    ", ".join(rule["tags"]),
                )
                rows.append("| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |")
        sections.append("\n".join((f"## {theme.capitalize()}", "", *rows)))
    return HEAD.format(count=count) + "\n" + "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
