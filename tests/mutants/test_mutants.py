"""The seeded faults, which `make mutants` runs, fit the code as it stands, and the paper lists them."""

from __future__ import annotations

from tests.mutants.run import load


def test_every_seeded_fault_applies_and_stands_in_the_paper(root) -> None:
    paper = (root / "docs/mutants.md").read_text(encoding="utf-8")
    assert [one.name for one in load() if f"| {one.name} (`{one.file}`) |" not in paper] == []
