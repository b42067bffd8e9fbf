"""Every example of correlator.yaml in the papers is taken by the settings, and says nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from correlator.config.load import load
from correlator.notifier.routes import Situation, choose

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAPERS = ("console.md", "notifier.md", "siem.md")
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")
EXAMPLES = [
    pytest.param(text, id=f"{paper}-{number}")
    for paper in PAPERS
    for number, text in enumerate(BLOCK.findall((ROOT / "docs" / paper).read_text(encoding="utf-8")), 1)
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_taken(tmp_path, text):
    file = tmp_path / "correlator.yaml"
    file.write_text(text, encoding="utf-8")
    said = yaml.safe_load(text)
    loaded = load(file).settings
    assert all(getattr(loaded, section) for section in said)


def test_each_system_that_is_promised_has_a_recipe():
    text = (ROOT / "docs/siem.md").read_text(encoding="utf-8")
    recipes = [part for part in text.split("\n## ")[1:] if "outputs:" in part]
    for system in ("Splunk", "Elastic", "OpenSearch", "Microsoft Sentinel", "Wazuh"):
        (recipe,) = [part for part in recipes if part.startswith(f"{system}:")]
        assert "The analyst sees" in recipe or "One document a threat" in recipe, system
        assert "\nTested: " in recipe, system


def test_the_pharmacy_at_night_in_the_example_of_the_notifier(tmp_path):
    (text,) = BLOCK.findall((ROOT / "docs/notifier.md").read_text(encoding="utf-8"))
    file = tmp_path / "correlator.yaml"
    file.write_text(text, encoding="utf-8")
    settings = load(file).settings.notifier
    from zoneinfo import ZoneInfo

    one = Situation(
        "critical", "h1", frozenset({"z-pharmacy"}), frozenset(), frozenset({"physical", "cyber"}), frozenset()
    )
    told = choose(settings, one, 1_792_900_800_000, ZoneInfo("Europe/Rome"))
    assert [item.receiver for item in told] == ["it-on-call", "guard-desk", "pharmacist", "facility-phone"]


@pytest.mark.parametrize("paper", PAPERS)
def test_pictures_and_pages_that_a_paper_names_are_there(paper):
    text = (ROOT / "docs" / paper).read_text(encoding="utf-8")
    for name in PICTURE.findall(text):
        assert (ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG"), name
    for name in re.findall(r"docs/[\w/.-]+\.md", text):
        assert (ROOT / name).is_file(), name
