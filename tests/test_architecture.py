"""The invariants that ARCHITECTURE.md promises: what imports what, and what is absent."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "correlator"

# Stages that decide. They get time as an argument and give values back.
DECIDING = ("events", "sources", "premises", "rules", "matching", "linking", "impact", "threats")
NO_IMPORT = frozenset({
    "asyncio", "concurrent", "http", "logging", "multiprocessing", "os", "random", "secrets", "select",
    "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
})  # fmt: skip
# Names of calls that read a clock, chance, the order of a hash table, or the outside.
NO_CALL = frozenset({"now", "utcnow", "today", "hash", "open", "print", "input", "uuid1", "uuid4"})
# Of `socket` only the pure parts: text of an address to its bytes (faster than `ipaddress`).
PURE_OF_SOCKET = frozenset({"inet_pton", "inet_ntop", "AF_INET", "AF_INET6"})
# Modules that turn a user's file or a packaged one into values, before anything is decided.
MAY_OPEN = frozenset({"rules/load.py", "rules/overlay.py", "premises/load.py", "sources/mapfile.py"})


def modules_of(stages: tuple[str, ...]) -> list[str]:
    return sorted(
        str(path.relative_to(PACKAGE)) for stage in stages for path in (PACKAGE / stage).rglob("*.py") if path.is_file()
    )


def offences(source: str, may_open: bool = False) -> list[str]:
    """ "line: what" for each import and call that a deciding module must not have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module.split(".")[0]]
        if names == ["socket"] and isinstance(node, ast.Import):
            continue  # its uses are looked at one by one
        found += [f"{node.lineno}: import {name}" for name in names if name in NO_IMPORT]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket":
            if node.attr not in PURE_OF_SOCKET:
                found.append(f"{node.lineno}: socket.{node.attr}")
        if isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if called in NO_CALL and not (called == "open" and may_open):
                found.append(f"{node.lineno}: {called}()")
    return found


def test_a_folder_is_a_stage_and_imports_point_one_way(root):
    # In a process of its own: the linter sets up logging and silences what logs in this one.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", modules_of(DECIDING))
def test_what_decides_reads_no_clock_no_chance_and_does_no_io(module):
    assert offences((PACKAGE / module).read_text(encoding="utf-8"), module in MAY_OPEN) == []


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("import time", "1: import time"),
        ("from random import choice", "1: import random"),
        ("import os.path", "1: import os"),
        ("from socket import socket", "1: import socket"),
        (
            "import socket\nsocket.inet_pton(socket.AF_INET, a)\nsocket.create_connection(a)",
            "3: socket.create_connection",
        ),
        ("def f():\n    return datetime.now()", "2: now()"),
        ("order = hash('a')", "1: hash()"),
        ("data = open('x')", "1: open()"),
        ("with path.open() as f:\n    pass", "1: open()"),
        ("print('x')", "1: print()"),
    ],
)
def test_the_check_finds(source, offence):
    assert offences(source) == [offence]


def test_the_list_of_deciding_stages_names_folders_that_exist_or_are_planned():
    present = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert set(DECIDING) - present <= {"impact"}
