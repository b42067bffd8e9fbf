"""README.md shows what `make demo` really prints, and no paper points to a file that is not there.

Run as a script it writes the demo's output into README.md: `make readme`.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from correlator.lab.background import background
from correlator.run.replay import replay

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DEMO = re.compile(r"(<!-- demo: .*? -->\n```text\n)(.*?)(```\n<!-- end of demo -->)", flags=re.DOTALL)
MOST_LINES = 80
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("scenarios/*/README.md")])


def demo_output() -> str:
    """What the demo prints on standard output; from MOST_LINES on cut with a mark."""
    out = io.StringIO()
    replay(
        ROOT / "scenarios" / "vaccine-theft",
        out=None,
        speed=None,
        as_json=False,
        progress=False,
        stdout=out,
        stderr=io.StringIO(),
        background=background,
    )
    lines = [line.rstrip() for line in out.getvalue().strip("\n").split("\n")]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], "..."]
    return "".join(f"{line}\n" for line in lines)


def test_the_readme_shows_the_real_output_of_the_demo():
    found = DEMO.search(README.read_text(encoding="utf-8"))
    assert found
    assert found[2] == demo_output(), "run `make readme`"


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(ROOT)))
def test_links_in_papers_lead_somewhere(paper):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", paper.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (paper.parent / link).exists()] == []


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(DEMO.sub(lambda found: found[1] + demo_output() + found[3], text), encoding="utf-8")
