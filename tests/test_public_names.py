"""Public names are listed by hand, and every public thing says what a reader cannot see."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "correlator"
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def name_of(folder: Path) -> str:
    return ".".join(("correlator", *folder.relative_to(PACKAGE).parts))


def undocumented(source: str) -> list[str]:
    """Names of public classes, functions and methods without a docstring, the module first.

    A method that a base class of the same module documents needs no text of its own.
    """
    tree = ast.parse(source)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def documented_above(node: ast.ClassDef) -> set[str]:
        found: set[str] = set()
        for base in node.bases:
            above = classes.get(base.id) if isinstance(base, ast.Name) else None
            if above is not None:
                found |= documented_above(above)
                found |= {one.name for one in above.body if isinstance(one, ast.FunctionDef) and ast.get_docstring(one)}
        return found

    missing = [] if ast.get_docstring(tree) else ["the module"]
    scopes: list[tuple[str, list[ast.stmt], set[str]]] = [("", tree.body, set())]
    while scopes:
        prefix, body, known = scopes.pop()
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and node.name not in known:
                missing.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{prefix}{node.name}.", node.body, documented_above(node)))
    return missing


@pytest.mark.parametrize("folder", PACKAGES, ids=name_of)
def test_what_a_package_lists_is_there(folder):
    package = importlib.import_module(name_of(folder))
    listed = getattr(package, "__all__", [])
    assert len(listed) == len(set(listed))
    assert [name for name in listed if not hasattr(package, name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_public_things_have_docstrings(module):
    assert undocumented((PACKAGE / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_left_to_do(module):
    text = (PACKAGE / module).read_text(encoding="utf-8")
    assert [word for word in ("TODO", "FIXME", "XXX") if word in text] == []


def test_the_check_finds_what_is_undocumented():
    source = '"""x"""\nclass A:\n    def b(self): ...\n    def _c(self): ...\ndef d():\n    """y"""\n'
    assert undocumented(source) == ["A", "A.b"]
    assert undocumented("") == ["the module"]
    above = '"""x"""\nclass A:\n    """a"""\n    def b(self):\n        """y"""\n'
    assert undocumented(above + 'class B(A):\n    """b"""\n    def b(self): ...\n    def c(self): ...\n') == ["B.c"]
