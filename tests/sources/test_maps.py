"""Map files: what is wrong in one is said in one run, with line, column and the word that was meant."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from correlator.errors import FaultyFile
from correlator.sources import (
    DIALECTS,
    Context,
    MapSpec,
    Message,
    load_map,
    map_settings,
    prepared_settings,
    shipped_maps,
)

T = 1_772_330_400_000


def faults(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(FaultyFile) as caught:
        load_map(file, "m.yaml")
    return [str(fault) for fault in caught.value.faults]


def spec_of(tmp_path: Path, text: str) -> MapSpec:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    return load_map(file)


def decode(spec: MapSpec, line: str, received_ms: int = T) -> list[object]:
    dialect = DIALECTS[spec.dialect]
    context = Context(site="h1", source="s", clock=dialect.clock, dialect=dialect.name, settings=spec)
    return list(dialect.decode(Message("x", line.encode(), received_ms), context))


@pytest.mark.parametrize("name", sorted(shipped_maps()))
def test_a_shipped_map_loads_and_says_what_it_follows(name: str) -> None:
    path = shipped_maps()[name]
    spec = load_map(path)
    assert spec.name == name
    assert spec.version == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert "follows:" in path.read_text()


def test_all_faults_of_a_map_come_in_one_run(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        "map: mapped\n"
        "formt: json\n"
        "time: {field: t, format: isoo}\n"
        "kind: {field: what, table: {a: host.logn}}\n"
        "level: hihg\n"
        "entities:\n"
        "  - {role: targt, kind: hst, field: h}\n"
        "where: [a]\n",
    )
    assert said == [
        "m.yaml:2:1: a map for mapped has no word 'formt' (did you mean 'format'?)",
        "m.yaml:3:26: 'isoo' is no time format (iso, epoch, or a pattern such as %d/%m/%Y %H:%M:%S)",
        "m.yaml:4:32: 'host.logn' is no event kind (did you mean 'host.logon'?)",
        "m.yaml:5:8: 'hihg' is no level (did you mean 'high'?)",
        "m.yaml:7:12: role has no word 'targt' (did you mean 'target'?)",
        "m.yaml:7:25: kind has no word 'hst' (did you mean 'host'?)",
        "m.yaml:8:8: where must be a mapping ({<field>: <value or list of values>})",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n", "m.yaml:1:1: map must be `mapped` or `access`"),
        ("map: acess\n", "did you mean 'access'?"),
        ("- a\n", "a map file holds one mapping"),
        ("map: mapped\n", "kind is missing"),
        ("map: mapped\nkind: door.opened\n", "door.opened needs an entity where:door, and the map names none"),
        ("map: access\ndoor: d\nevent: {field: e}\n", "event by field needs a table"),
        ("map: access\ndoor: d\nevent: [{when: {a: 1}}]\n", "a case needs `is`"),
        ("map: access\ndoor: d\nevent: [{is: door.openned}]\n", "did you mean 'door.opened'?"),
        ("map: mapped\nkind: log.entry\ntime: {field: t, zone: Rome}\n", "'Rome' is not an IANA time zone"),
        ("map: mapped\nkind: log.entry\ntime: {field: t, format: '%d.%m. %H:%M'}\n", "the pattern has no year"),
        ("map: mapped\nkind: log.entry\ntime: {field: t, format: '%Y %Q'}\n", "the pattern cannot be read"),
        ("map: mapped\nkind: log.entry\ntime: {format: iso}\n", "time needs a field"),
        ("map: mapped\nkind: log.entry\nformat: xml\n", "format has no word 'xml'"),
        ("map: mapped\nkind: log.entry\ncolumns: [a]\n", "columns belong to `format: csv`"),
        ("map: mapped\nkind: log.entry\nformat: csv\ncolumns: [a, a]\n", "a column is named twice"),
        ("map: mapped\nkind: log.entry\nidentity: {a: host}\n", "'host' is no identifying kind"),
        ("map: mapped\nkind: log.entry\nentities: [{kind: host, field: h}]\n", "an entity needs role"),
        ("map: mapped\nkind: log.entry\nentities: [x]\n", "an entity must be a mapping"),
        ("map: mapped\nkind: log.entry\nrepeats: often\n", "repeats must be true or false"),
        ("map: mapped\nkind: log.entry\ndelimiter: ab\n", "delimiter must be one character"),
    ],
)
def test_a_fault_names_the_place_and_what_would_be_right(tmp_path: Path, text: str, said: str) -> None:
    found = faults(tmp_path, text)
    assert any(said in one for one in found), found
    assert all(one.startswith("m.yaml:") for one in found)


def test_a_level_comes_from_a_field_through_a_table(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, 'map: mapped\nkind: log.entry\nlevel: {field: s, table: {"1": high}, default: low}\n')
    assert [decode(spec, line)[0].level for line in ('{"s": 1}', '{"s": "9"}', "{}")] == ["high", "low", "low"]  # type: ignore[attr-defined]


def test_an_epoch_is_told_apart_by_magnitude_or_by_its_unit(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "map: mapped\nkind: log.entry\ntime: {field: t, format: epoch}\n")
    for value in ("1772330400", "1772330400000", "1772330400000000", '"1772330400.0"', "1772330400000000000"):
        assert decode(spec, f'{{"t": {value}}}')[0].device_ms == T  # type: ignore[attr-defined]
    spec = spec_of(tmp_path, "map: mapped\nkind: log.entry\ntime: {field: t, format: epoch, unit: ms}\n")
    assert decode(spec, '{"t": 90000}')[0].device_ms == 90_000  # type: ignore[attr-defined]


def test_a_time_may_stand_in_two_columns_and_without_a_year(tmp_path: Path) -> None:
    text = (
        "map: mapped\nkind: log.entry\nformat: csv\ncolumns: [day, clock, text]\n"
        "time: {field: [day, clock], format: '%d/%m %H:%M:%S', year: 2026, zone: UTC}\n"
    )
    assert decode(spec_of(tmp_path, text), "01/03,02:00:00,hello")[0].device_ms == T  # type: ignore[attr-defined]


def test_a_dotted_name_is_one_key_first_then_a_path(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "map: mapped\nkind: log.entry\nattributes: [a.b]\n")
    assert decode(spec, '{"a.b": 1, "a": {"b": 2}}')[0].attributes == {"a.b": 1}  # type: ignore[attr-defined]
    assert decode(spec, '{"a": {"b": 2}}')[0].attributes == {"a.b": 2}  # type: ignore[attr-defined]


def test_a_csv_map_without_columns_takes_them_from_the_first_line(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "map: mapped\nkind: log.entry\nformat: csv\ndelimiter: ';'\n")
    assert spec.needs_header
    assert decode(spec, "1;2")[0].reason == "not_csv"  # type: ignore[attr-defined]
    spec = spec.with_header("\ufeffa;b")
    assert decode(spec, "a;b") == []
    assert decode(spec, "1;2")[0].attributes == {"a": "1", "b": "2"}  # type: ignore[attr-defined]


def test_wildcards_and_lists_in_conditions(tmp_path: Path) -> None:
    text = (
        "map: mapped\nwhere: {a: [x*, 7, null]}\n"
        "kind:\n  - {when: {b: ['*fail*', bad]}, is: host.alert}\n  - {is: log.entry}\n"
        "entities: [{role: target, kind: host, value: h1}]\n"
    )
    spec = spec_of(tmp_path, text)
    lines = ('{"a": "Xyz"}', '{"a": 7, "b": "login FAILED"}', '{"b": "bad"}', '{"a": "y"}')
    said = [[event.kind for event in decode(spec, line)] for line in lines]  # type: ignore[attr-defined]
    assert said == [["log.entry"], ["host.alert"], ["host.alert"], []]


def test_identity_fields_and_dropped_fields(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "map: mapped\nkind: log.entry\nidentity: {u.name: person}\ndrop: [u.pin]\n")
    event = decode(spec, '{"u": {"name": " p-017 ", "pin": "1234", "x": 1}}')[0]
    assert event.attributes == {"u": {"name": "p-017", "x": 1}}  # type: ignore[attr-defined]


def test_map_version_travels_with_the_settings(tmp_path: Path) -> None:
    spec, version = prepared_settings("access", {"map": "net2"}, "sources.yaml")
    assert version == spec.version
    (tmp_path / "own.yaml").write_text("map: mapped\nkind: log.entry\n")
    spec, version = prepared_settings("mapped", {"map": "own.yaml"}, str(tmp_path / "sources.yaml"))
    assert version == hashlib.sha256((tmp_path / "own.yaml").read_bytes()).hexdigest()[:16]


def test_settings_of_a_mapped_source_are_checked(tmp_path: Path) -> None:
    with pytest.raises(FaultyFile) as caught:
        map_settings({"mpa": "x", "map": "net3", "names": {"dor": {}}, "zone": "Nowhere"}, "s.yaml")
    said = str(caught.value)
    for part in ("did you mean 'map'?", "did you mean 'net2'?", "did you mean 'door'?", "'Nowhere' is not"):
        assert part in said
    with pytest.raises(FaultyFile, match="the map is for dialect 'access'"):
        prepared_settings("mapped", {"map": "net2"}, "s.yaml")


@pytest.mark.parametrize(
    ("dialect", "settings", "said"),
    [
        ("zigbee2mqtt", {"device": {}}, "did you mean 'devices'?"),
        ("zigbee2mqtt", {"devices": {"a": {"dor": "d1"}}}, "did you mean 'door'?"),
        ("zigbee2mqtt", {"devices": {"a": {"door": 7}}}, "devices.a.door must be a text"),
        ("zigbee2mqtt", {"devices": {"a": {"users": "p"}}}, "devices.a.users must be a mapping"),
        ("frigate", {"cameras": {"c": "c1"}}, "cameras.c must be a mapping"),
        ("frigate", {"topic_prefix": 3}, "topic_prefix must be a text"),
        ("onvif", {"doors": []}, "doors must be a mapping"),
        ("onvif", [], "settings of onvif must be a mapping"),
    ],
)
def test_settings_of_a_dialect_are_checked(dialect: str, settings: object, said: str) -> None:
    with pytest.raises(FaultyFile) as caught:
        prepared_settings(dialect, settings, "s.yaml")
    assert said in str(caught.value)


DOC = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()


@pytest.mark.parametrize("text", [block for block in DOC.split("```yaml\n")[1:] if block.startswith("map:")])
def test_a_map_in_the_documentation_loads(tmp_path: Path, text: str) -> None:
    assert spec_of(tmp_path, text.partition("```")[0]).kind


def test_the_documentation_names_every_dialect_and_shipped_map() -> None:
    for name in (*DIALECTS, *shipped_maps()):
        assert f"`{name}`" in DOC
