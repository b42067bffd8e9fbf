"""Compiles the hot modules with mypyc, in a copy: `python -m benchmarks.compile DIR`.

DIR/correlator is a copy of the package in which the modules of `MODULES` are extension modules beside
their source. Python finds the extension first, so `PYTHONPATH=DIR` runs the compiled engine, and
without it the same source runs interpreted. The checkout itself is never changed. Needs mypy,
setuptools and a C compiler.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    "correlator/rules/fields.py",
    "correlator/rules/predicates.py",
    "correlator/matching/state.py",
    "correlator/matching/conditions.py",
    "correlator/matching/shapes.py",
    "correlator/matching/sorter.py",
    "correlator/matching/edges.py",
    "correlator/matching/select.py",
    "correlator/matching/plan.py",
    "correlator/matching/deadlines.py",
    "correlator/matching/episodes.py",
    "correlator/matching/general.py",
    "correlator/matching/matcher.py",
    "correlator/matching/engine.py",
    "correlator/events/ids.py",
)
MARK = "compiled-from"


def missing() -> str:
    """What this machine lacks to compile, "" if nothing."""
    for module in ("mypyc", "setuptools"):
        if importlib.util.find_spec(module) is None:
            return f"no {module}"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"no C compiler ({compiler})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "no Python.h"
    return ""


def fingerprint() -> str:
    """Hash of every source of the package and of the interpreter: a build with the same one can stay."""
    made = hashlib.sha256(sys.version.encode())
    for path in sorted((ROOT / "correlator").rglob("*.py")):
        made.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return made.hexdigest()


def build(folder: Path) -> float:
    """Copies the package into `folder` and compiles it there; seconds it took, 0 if it was up to date.

    Raises SystemExit (from setuptools) or CompileError where mypyc or the C compiler refuses something.
    """
    mark = folder / MARK
    if mark.exists() and mark.read_text() == fingerprint():
        return 0.0
    started = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "correlator", folder / "correlator", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("schemas", "scenarios"):
        (folder / name).symlink_to(ROOT / name)
    # mypy's own settings: only what it needs to read the package, not the strict checks.
    (folder / "mypy.ini").write_text("[mypy]\n[mypy-re2.*]\nignore_missing_imports = True\n")
    here = Path.cwd()
    os.chdir(folder)
    try:
        from mypyc.build import mypycify
        from setuptools import Distribution

        extensions = mypycify(["--config-file=mypy.ini", *MODULES], opt_level="3")
        made = Distribution({"name": "compiled", "ext_modules": extensions, "packages": []})
        command = made.get_command_obj("build_ext")
        command.inplace = True
        command.parallel = os.cpu_count()
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(here)
    mark.write_text(fingerprint())
    return time.perf_counter() - started


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    lack = missing()
    if lack:
        raise SystemExit(f"cannot compile: {lack}")
    with contextlib.redirect_stdout(sys.stderr):
        took = build(Path(sys.argv[1]).resolve())
    print(f"{sys.argv[1]}: {'up to date' if not took else f'compiled in {took:.0f} s'}")


if __name__ == "__main__":
    main()
