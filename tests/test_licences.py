"""Every dependency's licence is known, allowed and listed in docs/licences.md.

Run as a script it prints that list: `make licences`. Permissive licences, MPL and LGPL are allowed;
GPL and AGPL are not, nor what nobody has read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files, metadata, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "licences.md"
LOCKS = {
    "runtime": "requirements/runtime.txt",
    "build": "requirements/build.txt",
    "development": "requirements/dev.txt",
}

# Locked for another platform only, so not installed here to be read; licences as their metadata has them.
ELSEWHERE = {"colorama": "BSD-3-Clause"}

ALLOWED = re.compile(
    r"MIT|MIT-0|MIT-CMU|ISC|Zlib|Unlicense|0BSD|CC0-1\.0|PSF-2\.0|Python-2\.0|BSL-1\.0"
    r"|Apache(-| Software License| License).*|BSD|BSD(-| License).*|ISC License.*|MIT License|The Unlicense.*"
    r"|Python Software Foundation License|MPL-2\.0|Mozilla Public License 2\.0.*"
    r"|LGPL-.*|GNU (Lesser|Library) .*|GNU LGPL.*"
)


def locked(file: str) -> dict[str, str]:
    """name -> version of a lock file, also of packages for other platforms."""
    found = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line and line[0].isalnum():
            requirement = Requirement(line.rstrip(" \\"))
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def licence_of(about: Mapping[str, Any], classifiers: list[str]) -> str:
    """The licence a package states: License-Expression, else its classifiers, else the License field's first line."""
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    told = [line.rsplit(" :: ", 1)[1] for line in classifiers if line.startswith("License :: OSI Approved :: ")]
    if told:
        return " AND ".join(told)
    return (str(about.get("License") or "").strip().splitlines() or ["unknown"])[0]


def allowed(licence: str) -> bool:
    """Whether a licence may be depended on: one of alternatives, and each of several that hold together."""
    return any(
        all(
            ALLOWED.fullmatch(part.strip(" ()"))
            for part in re.split(r" AND | WITH [\w.-]+", choice)
            if part.strip(" ()")
        )
        for choice in re.split(r" OR ", licence)
    )


def licences() -> dict[str, tuple[str, str, str]]:
    """name -> (locked version, licence, what needs it)."""
    found: dict[str, tuple[str, str, str]] = {}
    for purpose, file in LOCKS.items():
        for name, locked_version in locked(file).items():
            if name not in found:
                found[name] = (locked_version, ELSEWHERE.get(name) or installed_licence(name), purpose)
    return dict(sorted(found.items()))


def installed_licence(name: str) -> str:
    about = metadata(name)
    told = licence_of({key: about[key] for key in about}, about.get_all("Classifier") or [])
    if told != "unknown":
        return told
    # Metadata that only names the file: its first line says which licence it is.
    texts = [one.read_text() for one in files(name) or [] if one.name == "LICENSE"]
    return texts[0].strip().splitlines()[0] if texts else told


def document() -> str:
    rows = [f"| {name} | {of[0]} | {of[1]} | {of[2]} |" for name, of in licences().items()]
    return "\n".join([
        "# Licences of the dependencies",
        "",
        "All packages of the lock files, with the licence that each one's metadata states. `make licences`",
        "writes this page; a test compares. Permissive licences, MPL and LGPL are allowed, GPL and AGPL are not.",
        "The project itself is Apache-2.0.",
        "",
        "| package | version | licence | needed for |",
        "|---|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def test_every_licence_is_allowed():
    found = licences()
    for name, (locked_version, licence, purpose) in found.items():
        print(f"{name} {locked_version}: {licence} ({purpose})")
    assert {name: of[1] for name, of in found.items() if not allowed(of[1])} == {}


def test_what_is_installed_is_what_is_locked():
    for name, (locked_version, _, _) in licences().items():
        if name not in ELSEWHERE:
            assert version(name) == locked_version, name


def test_what_is_not_installed_here_is_for_another_platform():
    for name in ELSEWHERE:
        with pytest.raises(PackageNotFoundError):
            version(name)


def test_the_document_lists_them():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `make licences`"


@pytest.mark.parametrize(
    ("licence", "may"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("MIT OR GPL-2.0-or-later", True),
        ("LGPL-2.1-only", True),
        ("GNU Lesser General Public License v2 (LGPLv2)", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0-only", False),
        ("MIT AND GPL-2.0-only", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GNU Affero General Public License v3", False),
        ("unknown", False),
        ("Proprietary", False),
    ],
)
def test_gpl_and_unread_licences_are_refused(licence, may):
    assert allowed(licence) is may


if __name__ == "__main__":
    print(document(), end="")
