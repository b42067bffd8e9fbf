"""What is installed works without the checkout, and only what is locked gets installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import correlator

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("runtime", "build", "dev")
# One worker for all of this file: the environment is made once.
pytestmark = pytest.mark.xdist_group("packaging")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", lock_text(name), flags=re.MULTILINE))


def outside(**more: str) -> dict[str, str]:
    """The environment of a shell that knows nothing of the checkout."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "PYTEST"))}
    return kept | more


# ---- locks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_each_locked_package_has_hashes(lock):
    for entry in re.split(r"\n(?=\w)", lock_text(lock).strip()):
        assert re.match(r"[\w.-]+==", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_no_path(lock):
    assert not re.search(r"://|--index|--find-links|/", lock_text(lock))


def test_the_lock_holds_what_the_project_declares():
    runtime = locked("runtime")
    for declared in map(Requirement, PROJECT["project"]["dependencies"]):
        name = canonicalize_name(declared.name)
        assert declared.specifier.contains(runtime[name]), f"{declared}: locked {runtime[name]}; run `make lock`"
    dev = locked("dev")
    for group in ("build", "dev"):
        for entry in PROJECT["dependency-groups"][group]:
            if isinstance(entry, str):
                declared = Requirement(entry)
                assert declared.specifier.contains(dev[canonicalize_name(declared.name)]), declared


def test_all_locks_agree():
    dev = locked("dev")
    for lock in ("runtime", "build"):
        assert {name: dev.get(name) for name in locked(lock)} == locked(lock)


# ---- the wheel -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(out), str(ROOT)], check=True, cwd=out, env=outside(), stdin=subprocess.DEVNULL)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of commands of an environment that holds the locked packages and the wheel, no more."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=True)
    pip = [
        str(home / "bin" / "python"),
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "--no-compile",
    ]
    for what in (["--require-hashes", "-r", str(ROOT / "requirements" / "runtime.txt")], ["--no-deps", str(wheel)]):
        subprocess.run([*pip, *what], check=True, cwd=home, env=outside(), stdin=subprocess.DEVNULL)
    return home / "bin"


def in_empty_folder(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(installed / "correlator"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=outside(), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def test_the_wheel_carries_its_data_and_nothing_beside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"correlator", f"cyber_physical_correlator-{correlator.__version__}.dist-info"}
    committed = subprocess.run(
        ["git", "ls-files", "correlator", "schemas", "scenarios"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    wanted = {
        name if name.startswith("correlator/") else f"correlator/_data/{name}"
        for name in committed
        if (ROOT / name).is_file()
    }
    assert wanted - set(names) == set()


def test_the_installed_command_tells_its_version(installed, tmp_path):
    done = in_empty_folder(installed, tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"correlator {correlator.__version__}\n", "")


def test_the_installed_command_runs_the_demo_without_the_checkout(installed, tmp_path):
    done = in_empty_folder(installed, tmp_path, "replay", "vaccine-theft", "--out", "out")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "Traceback" not in done.stderr
    assert str(ROOT) not in done.stdout + done.stderr
    assert (tmp_path / "out" / "threats.ndjson").stat().st_size > 0


def test_the_installed_command_reads_its_own_maps_and_rules(installed, tmp_path):
    listed = in_empty_folder(installed, tmp_path, "sources", "list")
    assert listed.returncode == 0, listed.stderr
    assert "suricata: " in listed.stdout
    assert "esp-rfid" in listed.stdout
    checked = in_empty_folder(installed, tmp_path, "rules", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_skeleton_of_the_installed_command_can_be_replayed(installed, tmp_path):
    assert in_empty_folder(installed, tmp_path, "init", "my-site").returncode == 0
    done = in_empty_folder(installed, tmp_path, "replay", "my-site")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
