"""What a large site file says is kept between runs, and a kept file is never believed against the site file."""

from __future__ import annotations

from pathlib import Path

import pytest

from correlator import kept
from correlator.errors import FaultyFile
from correlator.premises import Premises, load, load_site

SITE = """\
site: {id: h1, name: Example, timezone: Europe/Rome}
floors:
  - id: f0
    name: Ground floor
    zones:
      - {id: z-a, name: A, hours: {mon: ["07:00-19:00"]}, outline: [[0, 0], [1.5, 2], [3, 0]]}
      - {id: z-b, name: B, restricted: true}
    doors: [{id: d-1, between: [z-a, z-b], at: [1, 2]}]
assets:
  - {id: ws-1, class: host, zone: z-a, ip: [10.0.0.9, {ip: 10.0.0.8, valid_to: 2026-01-01}], mac: ["02:00:00:00:00:01"]}
  - {id: cam-1, class: camera, zone: z-b, criticality: 3, aliases: [cam1]}
people: [{id: p-017, badges: [{id: b-017, valid_from: 2026-02-01}], accounts: [{id: a-017}], works_in: [z-a]}]
relations: [{from: cam-1, to: z-b, type: covers, strength: 0.5}]
services: [{id: s-1, name: S, criticality: 5, needs: {any_of: [ws-1, {all_of: [cam-1, ws-1]}]}}]
windows: [{id: w-1, zones: [z-a], from: 2026-02-01T00:00:00, to: 2026-02-02T00:00:00, why: painting}]
contacts: [{role: technician on duty, phone: "100"}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in which sites of any size are kept."""
    monkeypatch.setenv("CORRELATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "KEPT_FROM_BYTES", 0)
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def read_without_yaml(path: Path, monkeypatch: pytest.MonkeyPatch) -> Premises:
    """Loads a site and fails if its YAML is read."""
    with monkeypatch.context() as patch:
        patch.setattr(load, "read_site", lambda *_: pytest.fail("the YAML was read"))
        return load_site(path)


def test_the_second_load_reads_no_yaml_and_gives_the_same_site(folder, site, monkeypatch):
    first = load_site(site)
    second = read_without_yaml(site, monkeypatch)
    assert second.site == first.site
    assert list(second.site.assets) == list(first.site.assets)
    assert second.config_hash == first.config_hash
    assert second.graph.relations == first.graph.relations


@pytest.mark.parametrize("harm", [b"", b"x", "cut", "turned"])
def test_a_damaged_file_is_ignored_and_made_anew(folder, site, monkeypatch, harm):
    first = load_site(site)
    (path,) = folder.iterdir()
    data = path.read_bytes()
    middle = len(data) // 2
    turned = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    path.write_bytes({"cut": data[:-1], "turned": turned}.get(harm, harm))
    assert load_site(site).site == first.site
    assert path.read_bytes() == data
    read_without_yaml(site, monkeypatch)


def test_a_whole_file_that_is_no_site_is_ignored(folder, site):
    first = load_site(site)
    (path,) = folder.iterdir()
    kept.keep("site", path.name.partition("-")[2], b"\x93\x01\x02\x03")
    assert load_site(site).site == first.site


def test_any_change_of_the_site_file_is_read(folder, site):
    load_site(site)
    site.write_text(SITE.replace("name: Example", "name: Another"))
    assert load_site(site).name == "Another"


def test_other_time_zone_rules_read_the_file_again(folder, site, monkeypatch):
    before = load_site(site).config_hash
    monkeypatch.setattr("correlator.premises.load.zone_rules_version", lambda: "2199.1")
    monkeypatch.setattr("correlator.premises.premises.zone_rules_version", lambda: "2199.1")
    assert load_site(site).config_hash != before
    assert len(list(folder.iterdir())) == 2


def test_a_faulty_file_is_not_kept(folder, site):
    site.write_text(SITE.replace("zone: z-a, ip", "zone: z-9, ip"))
    with pytest.raises(FaultyFile):
        load_site(site)
    assert not folder.exists()


def test_only_the_user_can_read_what_is_kept_and_old_files_go(folder, site):
    for number in range(kept.FILES_KEPT + 2):
        site.write_text(f"{SITE}# {number}\n")
        load_site(site)
    assert len(list(folder.iterdir())) == kept.FILES_KEPT
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())} == {0}


def test_where_nothing_can_be_written_the_site_is_read_all_the_same(site, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "KEPT_FROM_BYTES", 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CORRELATOR_CACHE", str(tmp_path / "file" / "cache"))
    assert load_site(site).name == "Example"
    monkeypatch.setenv("CORRELATOR_CACHE", "off")
    assert load_site(site).name == "Example"


def test_a_small_file_is_not_kept(site, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRELATOR_CACHE", str(tmp_path / "cache"))
    load_site(site)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"CORRELATOR_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/correlator")),
        ({"HOME": "/home/x"}, Path("/home/x/.cache/correlator")),
        ({"CORRELATOR_CACHE": "off", "XDG_CACHE_HOME": "/b"}, None),
    ],
)
def test_the_cache_lies_where_the_user_says(variables, where, monkeypatch):
    for name in ("CORRELATOR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert kept.cache_folder() == where
