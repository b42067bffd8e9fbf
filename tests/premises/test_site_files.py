"""What a site file may say, and every fault of one found in one run."""

import gc
import itertools
import random
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.errors import FaultyFile
from correlator.marked import load_documents
from correlator.premises import check_site, load_site, read_site, site_of, vocabulary
from correlator.premises.model import Need

HERE = Path(__file__).parent
FAULTS = yaml.safe_load((HERE / "faults.yaml").read_text())
CLINIC = (HERE / "clinic.yaml").read_text()


@pytest.mark.parametrize("row", FAULTS, ids=[row["name"] for row in FAULTS])
def test_each_fault_has_its_place_and_says_what_would_be_right(row):
    _, faults = read_site(row["site"], "site.yaml")
    assert [str(fault).removeprefix("site.yaml:") for fault in faults] == row["expect"]


def test_a_good_file_has_no_faults():
    assert check_site(HERE / "clinic.yaml") == []


def test_loading_a_faulty_file_raises_all_errors_and_no_warnings(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "site: {id: h1, timezone: UTC}\n"
        "floors: [{id: g, zones: [{id: a}]}]\n"
        "assets: [{id: x, class: hosst}, {id: x, class: host}]\n"
    )
    with pytest.raises(FaultyFile) as caught:
        load_site(path)
    assert [(fault.line, fault.column) for fault in caught.value.faults] == [(3, 25), (3, 38)]
    assert len(check_site(path)) == 3


def test_a_missing_file_is_a_fault_of_the_file(tmp_path):
    (fault,) = check_site(tmp_path / "nowhere.yaml")
    assert "cannot be read" in str(fault)


def test_ids_are_kept_as_written_even_where_yaml_sees_a_number():
    site, faults = read_site(
        "site: {id: h1, timezone: UTC}\npeople:\n  - {id: p1, badges: [0417, 1_000, {id: 0x1f}], accounts: [7.50]}\n",
        "s",
    )
    assert faults == []
    assert [badge.id for badge in site.people["p1"].badges] == ["0417", "1_000", "0x1f"]
    assert [account.id for account in site.people["p1"].accounts] == ["7.50"]


def test_a_date_is_the_whole_local_day_and_a_time_is_that_instant():
    site, _ = read_site(
        "site: {id: h1, timezone: Europe/Rome}\n"
        "people: [{id: p1, badges: [{id: a, valid_from: 2026-03-28, valid_to: 2026-03-29},"
        " {id: b, valid_from: 2026-03-28T10:00, valid_to: '2026-03-28T10:00:00Z'}]}]\n",
        "s",
    )
    day, instant = (badge.span for badge in site.people["p1"].badges)
    hours = 3_600_000
    # The clocks go forward in the night to 29 March 2026, so these two days have 47 hours.
    assert day.to_ms - day.from_ms == 47 * hours
    assert instant.to_ms - instant.from_ms == 1 * hours


def test_needs_nest_and_count_what_still_works():
    site, _ = read_site(CLINIC, "s")
    power = site.services["power"].needs
    assert power == Need(1, ("ups", Need(1, ("generator-1", "generator-2"))))
    assert power.met(frozenset({"generator-2"}))
    assert not power.met(frozenset())
    assert site.services["dispensing"].needs.k == 3


def test_an_already_parsed_site_is_read_like_a_file():
    data = {"site": {"id": "h1", "timezone": "UTC"}, "assets": [{"id": "a", "class": "host"}]}
    assert site_of(data, "inline").assets["a"].asset_class == "host"
    with pytest.raises(FaultyFile, match="unknown class 'hots'"):
        site_of({"site": {"id": "h1", "timezone": "UTC"}, "assets": [{"id": "a", "class": "hots"}]}, "inline")


def plain(value):
    """Marked YAML as ordinary dicts and lists, which another YAML library can write."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def test_the_order_of_sections_and_items_does_not_matter():
    document = plain(load_documents(CLINIC, "s")[0])
    expected, _ = read_site(CLINIC, "s")
    expected_hash = site_of(document, "s").config_hash
    shuffler = random.Random(7)
    for _ in range(5):
        names = list(document)
        shuffler.shuffle(names)
        turned = {name: document[name] for name in names}
        for name in ("floors", "assets", "people", "services", "relations"):
            turned[name] = shuffler.sample(document[name], len(document[name]))
        site, faults = read_site(yaml.safe_dump(turned, sort_keys=False), "s")
        assert faults == []
        assert site.zones == expected.zones
        assert site.people == expected.people
        assert sorted(map(repr, site.relations)) == sorted(map(repr, expected.relations))
        assert site_of(turned, "s").config_hash == expected_hash


def test_any_change_of_the_site_changes_its_hash():
    before = site_of(load_documents(CLINIC, "s")[0], "s").config_hash
    for old, new in (("12000", "12001"), ("degree: 0.6", "degree: 0.5"), ("Europe/Rome", "Europe/Paris")):
        assert site_of(load_documents(CLINIC.replace(old, new), "s")[0], "s").config_hash != before


words = st.sampled_from(
    ["site", "floors", "assets", "id", "class", "host", "zone", "between", "needs", "of", "k_of", ""]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | words | st.just("2026-01-01"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
SECTIONS = (
    "site",
    "floors",
    "assets",
    "people",
    "relations",
    "services",
    "protections",
    "windows",
    "contacts",
    "sources",
)


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(st.sampled_from(SECTIONS), values | st.lists(values, max_size=3), max_size=6))
def test_whatever_a_file_holds_the_answer_is_a_list_of_faults(data):
    site, faults = read_site(yaml.safe_dump(data), "s")
    assert site is not None or faults
    assert all(fault.line for fault in faults)


def test_a_site_of_5000_assets_loads_quickly_and_leaves_the_collector_running(tmp_path):
    lines = ["site: {id: big, timezone: UTC}", "floors:", "  - id: f", "    zones:"]
    lines += [f"      - {{id: z{n}}}" for n in range(250)]
    lines += [
        "    doors:",
        *(f"      - {{id: d{n}, between: [z{n}, z{(n + 1) % 250}]}}" for n in range(250)),
        "assets:",
    ]
    lines += [
        f"  - {{id: a{n}, class: device, zone: z{n % 250}, ip: [10.0.{n // 250}.{n % 250}]}}" for n in range(5_000)
    ]
    lines += [
        "relations:",
        *(f"  - {{from: a{n}, to: a{n * 7 % 4_999 + 1}, type: depends_on}}" for n in range(0, 4_000, 2)),
    ]
    path = tmp_path / "big.yaml"
    path.write_text("\n".join(lines))
    started = time.process_time()
    premises = load_site(path)
    assert len(premises.site.assets) == 5_000
    # About 0.3 s on one core; the bound only tells an accidental square from a line.
    assert time.process_time() - started < 5
    assert gc.isenabled()


def test_every_word_of_the_file_format_is_in_the_documentation():
    page = (HERE.parents[1] / "docs" / "site.md").read_text()
    assert vocabulary.tables_markdown() in page
    from correlator.premises.load import _KEYS

    for what, keys in _KEYS.items():
        for key in keys:
            assert f"`{key}`" in page or f"{key}:" in page, (what, key)


def test_the_example_in_the_documentation_is_a_good_site():
    page = (HERE.parents[1] / "docs" / "site.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    assert read_site(example, "docs")[1] == []


def test_vocabulary_tables_are_consistent():
    for kind, classes in vocabulary.KIND_CLASSES.items():
        assert set(classes) <= set(vocabulary.ASSET_CLASSES), kind
    for relation in vocabulary.RELATION_TYPES.values():
        assert set(relation.sources) | set(relation.targets) <= set(vocabulary.ASSET_CLASSES)
        weights = (relation.forward, relation.backward, relation.impact_forward, relation.impact_backward)
        assert all(0 <= weight <= 1 for weight in weights)
    for threat in vocabulary.THREAT_TYPES.values():
        assert threat.domain in ("physical", "cyber", "building")
        assert all(id_[0] == "T" and len(id_.split(".")[0]) == 5 for id_ in threat.techniques)
    owned = [threat.own_id for threat in vocabulary.THREAT_TYPES.values()]
    assert len(set(owned)) == len(owned)


def test_positions_of_large_files_are_exact():
    text = "".join(f"k{n}: [{'x, ' * n}{{deep: {n}}}]\n" for n in range(50))
    (document,) = load_documents(text, "f")
    lines = text.splitlines()
    for n, key in enumerate(document):
        assert document.keys_at[key] == (n + 1, 1)
        assert document.values_at[key] == (n + 1, lines[n].index("[") + 1)
        last = document[key][-1]
        assert document[key].items_at[-1] == last.mark == (n + 1, lines[n].index("{") + 1)
        assert last.values_at["deep"] == (n + 1, lines[n].index("deep") + 7)
    assert list(itertools.islice(document, 2)) == ["k0", "k1"]
