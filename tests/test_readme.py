"""README.md shows what `make demo` really prints, and no paper names a file, command or option that is not there.

Run as a script it writes the demo's output into README.md: `make readme`.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import click
import pytest

from correlator.cli.main import app
from correlator.lab.background import background
from correlator.run.replay import replay

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DEMO = re.compile(r"(<!-- demo: .*? -->\n```text\n)(.*?)(```\n<!-- end of demo -->)", flags=re.DOTALL)
MOST_LINES = 64
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


COMMANDS = re.compile(r"^(?:\$ |    )?(?:\.venv/bin/)?(correlator [^#\n]*)|`(correlator [^`]*)`", flags=re.MULTILINE)


def unknown_in(text: str) -> list[str]:
    """The commands of a paper, in blocks and in sentences, that the command line has not, or not with these options."""
    unknown: list[str] = []
    for block, inline in COMMANDS.findall(text):
        said = " ".join((block or inline).split())
        several: list[click.Command] = [app]  # `rules check|explain` names two
        for word in said.split()[1:]:
            if isinstance(several[0], click.Group):
                found = [several[0].commands.get(one) for one in word.strip(",;").split("|")]
                if None in found:
                    unknown.append(said)
                    break
                several = found
            elif word.startswith("--"):
                known = {name for one in several for each in one.params for name in [*each.opts, *each.secondary_opts]}
                if word.strip(":,;") not in known:
                    unknown.append(said)
    return unknown


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(ROOT)))
def test_commands_that_a_paper_names_are_there_with_their_options(paper):
    assert unknown_in(paper.read_text(encoding="utf-8")) == []


def test_a_command_or_option_that_is_not_there_is_found():
    text = "`correlator replay x --outt out` and `correlator rules check|list`\n```\ncorrelator inits\n```\n"
    assert unknown_in(text) == ["correlator replay x --outt out", "correlator rules check|list", "correlator inits"]


def test_every_decision_stands_in_their_list():
    folder = ROOT / "docs" / "adr"
    titles = [path.read_text(encoding="utf-8").splitlines()[0] for path in sorted(folder.glob("0*.md"))[1:]]
    listed = re.findall(
        r"^(\d+\. )\[(.*)\]", (folder / "0000-about.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert [f"# {number}{title}" for number, title in listed] == titles


def test_the_words_of_the_glossary_stand_in_order_and_once():
    rows = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("|---|---|\n")[1].splitlines()
    words = [row.split("|")[1].strip().lower() for row in rows]
    assert words == sorted(set(words))


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(DEMO.sub(lambda found: found[1] + demo_output() + found[3], text), encoding="utf-8")
