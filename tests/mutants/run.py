"""Seeds one fault after the other into a copy of the matching engine and tells which test finds it.

    python tests/mutants/run.py [--only NAME] [--jobs N] [--write docs/mutants.md]

A fault of mutants.yaml is {name, file, find, replace, why}: `find` must stand exactly once in
correlator/matching/FILE. For each, the decision vectors, the matching tests and the properties run with
-x on a copy of the package in a temporary folder. Exit code 1 if a fault survives or does not apply, or
if the tests fail without any.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SUITES = ("tests/rules/test_decisions.py", "tests/properties")
NEEDED = ("pyproject.toml", "docs/rules.md", "tests/rules/decisions", "tests/reference", *SUITES)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One seeded fault."""

    name: str
    file: str
    find: str
    replace: str
    why: str

    def pattern(self) -> re.Pattern[str]:
        """Finds the text: a part of one line, or whole lines at any one indentation."""
        if "\n" not in self.find:
            return re.compile(re.escape(self.find))
        lines = [re.escape(line) for line in self.find.rstrip("\n").split("\n")]
        return re.compile(r"^(?P<indent> *)" + r"\n(?P=indent)".join(lines) + r"\n", re.MULTILINE)

    def seeded(self, text: str) -> str:
        """The file's text with the fault."""

        def replacement(found: re.Match[str]) -> str:
            if "\n" not in self.find:
                indent = re.match(" *", text[text.rfind("\n", 0, found.start()) + 1 :])
                assert indent is not None
                return self.replace.rstrip("\n").replace("\n", "\n" + indent[0])
            return "".join(f"{found['indent']}{line}\n" for line in self.replace.rstrip("\n").split("\n") if line)

        return self.pattern().sub(replacement, text)


def load() -> list[Mutant]:
    """All faults, each applicable to the code as it stands. Raises SystemExit that names those that are not."""
    mutants = [Mutant(**one) for one in yaml.safe_load((HERE / "mutants.yaml").read_text())]
    stale = []
    for mutant in mutants:
        text = (ROOT / "correlator/matching" / mutant.file).read_text()
        count = len(mutant.pattern().findall(text))
        if count != 1:
            stale.append(f"{mutant.name}: its text stands {count} times in {mutant.file}")
        elif mutant.seeded(text) == text:
            stale.append(f"{mutant.name}: changes nothing")
    if len({mutant.name for mutant in mutants}) < len(mutants):
        stale.append("a name is given twice")
    if stale:
        raise SystemExit("\n".join(stale))
    return mutants


def first_failure(mutant: Mutant | None) -> str:
    """The test that fails on a copy with the fault, "" if all pass."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / "correlator", copy / "correlator", ignore=ignore)
        for name in NEEDED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=ignore)
            elif source.exists():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy / name)
        if mutant is not None:
            path = copy / "correlator/matching" / mutant.file
            path.write_text(mutant.seeded(path.read_text()))
        suites = [name for name in SUITES if (copy / name).exists()]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PROPERTY_SHRINK": "0"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *suites]
        try:
            ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            return "the run does not end"
        if ran.returncode == 0:
            return ""
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
        if not found:
            raise SystemExit(f"the tests do not run:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return found[1].removeprefix("tests/").replace("properties/test_engine_properties.py::", "")


def table(rows: list[tuple[Mutant, str]]) -> str:
    """Markdown: fault, what it breaks, which test found it first."""
    lines = ["| fault | what it does | found by |", "|---|---|---|"]
    lines += [
        f"| {mutant.name} (`{mutant.file}`) | {mutant.why} | {f'`{killer}`' if killer else '**nothing**'} |"
        for mutant, killer in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only the faults whose name contains this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", type=Path, help="write the table into this Markdown file, below its heading")
    chosen = parser.parse_args()
    mutants = [mutant for mutant in load() if chosen.only in mutant.name]
    broken = first_failure(None)
    if broken:
        print(f"without any fault {broken} fails", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(chosen.jobs) as pool:
        rows = list(zip(mutants, pool.map(first_failure, mutants), strict=True))
    told = table(rows)
    print(told, end="")
    if chosen.write:
        chosen.write.write_text(f"{HEADING}\n{told}")
    survived = [mutant.name for mutant, killer in rows if not killer]
    print(f"{len(rows) - len(survived)} of {len(rows)} faults were found", file=sys.stderr)
    return 1 if survived else 0


HEADING = """# Seeded faults

`make mutants` puts each of these faults into a copy of `correlator/matching/` and runs the decision
vectors and the properties on it. A fault that nothing finds is a hole in the tests.
"""


if __name__ == "__main__":
    sys.exit(main())
