"""`correlator impact` and `site lint` as a person runs them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from correlator.cli.main import main
from correlator.impact.graph import flat_graph
from correlator.impact.model import ImpactModel
from correlator.impact.rules import PPM, load_rules
from correlator.lab.campus import Campus
from correlator.premises import load_site
from correlator.run.site_lint import lint_site

# The worked example of docs/impact.md: a test below reads it from there.
FENCE = re.compile(r"```yaml\n(site: .*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    text = FENCE.search((root / "docs" / "impact.md").read_text(encoding="utf-8"))
    assert text is not None
    path = tmp_path_factory.mktemp("example") / "site.yaml"
    path.write_text(text[1], encoding="utf-8")
    return path


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main([str(one) for one in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def whatif(capsys, site, at: str, threat: str, *more: object) -> dict:
    code, out, err = run(capsys, "impact", "whatif", "--site", site, "--at", at, "--threat", threat, "--json", *more)
    assert code == 0, err
    return json.loads(out)


def chance(answer: dict, asset: str, threat: str) -> float:
    return next(one["likelihood"] for one in answer["impact"] if (one["asset"], one["threat_type"]) == (asset, threat))


# ---- the worked example ---------------------------------------------------------------------------------


def test_the_worked_example_of_the_page_holds(capsys, site):
    answer = whatif(capsys, site, "mains", "power-loss")
    assert chance(answer, "freezer", "system-failure") == 0.9
    assert chance(answer, "stock", "supply-loss") == 0.63
    stock, computers = 0.63 * 0.9, (0.9 * 0.9) ** 2
    service = 1 - (1 - stock) * (1 - computers)
    assert chance(answer, "pharmacy", "service-unavailable") == pytest.approx(service, abs=2e-6)
    assert answer["expected_loss"] == pytest.approx(4 * service, abs=1e-5)
    times = next(one for one in answer["impact"] if one["asset"] == "stock")
    assert times["p50_ms"] == (5 + 240) * 60_000


def test_every_number_of_the_page_is_what_the_command_says(capsys, site, root):
    text = (root / "docs" / "impact.md").read_text(encoding="utf-8")
    for at, threat, more in (
        ("mains", "power-loss", ()),
        ("corridor", "loitering", ()),
        ("corridor", "loitering", ("--dark", "cam")),
    ):
        words = " ".join(("--site site.yaml", "--at", at, "--threat", threat, *more))
        block = re.search(rf"\$ correlator impact whatif {re.escape(words)}\n(.*?)```", text, re.DOTALL)
        assert block is not None, words
        code, out, _ = run(capsys, "impact", "whatif", "--site", site, "--at", at, "--threat", threat, *more)
        assert code == 0
        assert block[1].rstrip() == out.rstrip()


# ---- what if --------------------------------------------------------------------------------------------


def test_a_measure_that_is_in_place_lowers_what_follows(capsys, site):
    before = whatif(capsys, site, "mains", "power-loss")
    after = whatif(capsys, site, "mains", "power-loss", "--do", "switch-to-backup@mains")
    assert after["expected_loss"] < before["expected_loss"]


def test_the_safecare_mode_scores(capsys, site):
    answer = whatif(capsys, site, "corridor", "loitering", "--mode", "safecare")
    scores = {(one["asset"], one["threat_type"]): one["score"] for one in answer["impact"]}
    assert scores["d-store", "forced-entry"] == 0.4
    assert scores["stock", "theft"] == 1.0


def test_a_picture_is_svg_without_scripts_and_with_escaped_names(capsys, site, tmp_path):
    picture = tmp_path / "a.svg"
    assert (
        run(capsys, "impact", "whatif", "--site", site, "--at", "mains", "--threat", "power-loss", "--svg", picture)[0]
        == 0
    )
    tree = ET.parse(picture)
    assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    text = picture.read_text(encoding="utf-8")
    assert "Hospital pharmacy" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--at", "mians", "--threat", "fire"), "the site has no asset 'mians'; did you mean 'mains'?"),
        (("--at", "mains", "--threat", "powerloss"), "'powerloss' is no threat type; did you mean 'power-loss'?"),
        (
            ("--at", "mains", "--threat", "fire", "--do", "lok-door@d-store"),
            "'lok-door@d-store' is no counter-measure at an asset such as lock-door@d-1; did you mean 'lock-door'?",
        ),
        (("--at", "mains", "--threat", "fire", "--dark", "camm"), "the site has no asset 'camm'; did you mean 'cam'?"),
    ],
)
def test_a_slip_is_answered_in_one_line(capsys, site, arguments, said):
    code, out, err = run(capsys, "impact", "whatif", "--site", site, *arguments)
    assert (code, out, err) == (2, "", f"correlator: {said}\n")


def test_one_finding_that_leads_nowhere_says_so(capsys, site):
    code, out, _ = run(capsys, "impact", "whatif", "--site", site, "--at", "cam", "--threat", "ransomware")
    assert code == 0
    assert "nothing follows" in out


# ---- check, test, export --------------------------------------------------------------------------------


def test_the_shipped_files_are_good_and_their_tests_pass(capsys):
    assert run(capsys, "impact", "check")[0] == 0
    assert run(capsys, "impact", "test")[0] == 0


def test_a_rule_of_ones_own_stands_beside_the_shipped_ones_and_takes_the_place_of_its_namesake(capsys, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n"
        "  - {id: fire-stops-hosted, says: x, if: {threat: fire, on: host}, over: hosts,\n"
        "     then: {threat: system-failure, on: software}, likelihood: 0.5, delay: [0, 1m]}\n"
        "tests:\n"
        "  - name: ours counts\n"
        "    assets: {a: host, b: software, c: service}\n"
        "    relations: [a hosts b, c depends_on b]\n"
        "    at: {a: fire}\n"
        "    expect: {b: {system-failure: 0.5}, c: {service-unavailable: 0.45}}\n"
        "  - name: this one fails\n"
        "    assets: {a: host, b: software}\n"
        "    relations: [a hosts b]\n"
        "    at: {a: fire}\n"
        "    expect: {b: {system-failure: [0.9, 1]}}\n"
        "    never: {b: system-failure}\n"
    )
    assert run(capsys, "impact", "check", path)[0] == 0
    code, out, _ = run(capsys, "impact", "test", path)
    assert code == 1
    assert out.splitlines() == [
        f"{path}:10: this one fails: system-failure on b has likelihood 0.5, expected 0.9 to 1",
        f"{path}:10: this one fails: system-failure on b is reached, likelihood 0.5",
        "2 tests, 1 failed",
    ]


def test_faults_are_listed_with_their_places(capsys, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - {id: a}\n")
    code, out, _ = run(capsys, "impact", "check", path)
    assert code == 2
    assert out.splitlines()[0] == f"{path}:2:5: a rule needs 'delay'"
    assert run(capsys, "impact", "check", tmp_path / "none.yaml")[0] == 2


def test_graphml_can_be_read_back(capsys, site):
    import networkx as nx

    code, out, _ = run(capsys, "impact", "export", "--site", site)
    assert code == 0
    whole = nx.parse_graphml(out)
    assert whole.nodes["freezer"]["class"] == "device"
    code, out, _ = run(capsys, "impact", "export", "--site", site, "--at", "mains", "--threat", "power-loss")
    part = nx.parse_graphml(out)
    assert part.nodes["freezer|system-failure"]["likelihood"] == 0.9
    assert part.edges["mains|power-loss", "freezer|system-failure"]["rule"] == "power-loss-stops-dependants"
    assert "pharmacy|service-unavailable" in part


def test_cytoscape_json_has_the_same_nodes(capsys, site):
    words = ("impact", "export", "--site", site, "--at", "mains", "--threat", "power-loss", "--format", "json")
    code, out, _ = run(capsys, *words)
    assert code == 0
    elements = json.loads(out)["elements"]
    assert "freezer|system-failure" in {node["data"]["id"] for node in elements["nodes"]}
    assert {"source", "target", "id"} <= set(elements["edges"][0]["data"])


# ---- campus ---------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_campus_and_another_seed_another():
    texts = ["".join(Campus(400, seed).site_yaml()) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_site_file_of_a_campus_is_the_campus(tmp_path):
    campus = Campus(400, seed=3)
    path = tmp_path / "campus.yaml"
    path.write_text("".join(campus.site_yaml()), encoding="utf-8")
    premises = load_site(path)
    read, made = flat_graph(premises.graph), campus.graph()
    assert set(read.ids) == set(made.ids)
    assert read.edges == made.edges
    rules = load_rules().rules
    models = [
        ImpactModel(read, rules, premises.site.protections.values()),
        ImpactModel(made, rules, campus.protections),
    ]
    losses = [model.assess(model.paths({model.seed("b1-mains", "power-loss"): PPM})).loss for model in models]
    assert losses[0] == losses[1] > 0


# ---- lint -----------------------------------------------------------------------------------------------

BLIND = """\
site: {id: blind, name: Blind, timezone: UTC}
floors:
  - id: f0
    zones: [{id: z-in}, {id: z-dark}, {id: z-nowhere}, {id: z-vault, restricted: true}]
    doors:
      - {id: d-main, between: [outside, z-in]}
      - {id: d-dark, between: [z-in, z-dark]}
      - {id: d-vault, between: [z-in, z-vault]}
assets:
  - {id: motion, class: sensor, zone: z-in}
  - {id: pc, class: host}
  - {id: mains, class: supply}
  - {id: fan, class: building_device, zone: z-dark}
  - {id: lonely, class: device}
  - {id: r-dark, class: reader}
  - {id: cam, class: camera, zone: z-in}
  - {id: shelf, class: supply, zone: z-in}
relations:
  - {from: fan, to: mains, type: depends_on}
  - {from: r-dark, to: d-dark, type: controls}
services:
  - {id: s, criticality: 3, needs: shelf}
protections:
  - {id: p-1, asset: d-dark, against: [forced-entry], of: [cam], degree: 0.4}
  - {id: p-2, asset: d-dark, against: [forced-entry], of: [cam], degree: 0.9}
  - {id: p-3, asset: d-vault, against: [forced-entry], degree: 0.9}
people:
  - {id: p-017, badges: [{id: "7017"}]}
  - {id: p-018, badges: [{id: "7018"}]}
"""


@pytest.fixture
def blind(tmp_path):
    path = tmp_path / "blind.yaml"
    path.write_text(BLIND, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("asset", "message"),
    [
        ("z-nowhere", "zone 'z-nowhere': no sensor, camera or reader sees it"),
        ("z-nowhere", "zone 'z-nowhere': no way leads there from outside"),
        ("pc", "host 'pc' stands in no room"),
        ("lonely", "asset 'lonely' is related to nothing"),
        ("mains", "supply 'mains': no care service depends on it"),
        ("z-vault", "restricted zone 'z-vault': no care service needs it or anything in it"),
        ("p-2", "protections 'p-1' and 'p-2' contradict each other"),
        ("p-3", "protection 'p-3' is given by nothing"),
    ],
)
def test_lint_finds(blind, asset, message):
    assert (asset, message) in [(found, says) for found, says, _ in lint_site(load_site(blind))]


def test_lint_says_nothing_of_what_is_in_order(blind):
    found = {(asset, says) for asset, says, _ in lint_site(load_site(blind))}
    assert not [one for one in found if one[0] in ("z-in", "shelf", "fan-ok", "motion", "cam")]


def test_lint_names_rules_without_a_threat_type(blind, tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a.yml").write_text(
        "title: A\nname: untyped\nlevel: high\nlogsource: {product: correlator}\n"
        "detection: {s: {kind: door.forced}, condition: s}\n"
    )
    says = [message for _, message, _ in lint_site(load_site(blind), [rules])]
    assert "1 rules name no threat type: untyped" in says


def badge_line(number: int, badge: str, door: str, seconds: int) -> str:
    t_ms = 1_772_438_400_000 + seconds * 1_000
    return json.dumps({
        "id": f"{number:032x}", "site": "blind", "source": "s", "dialect": "d", "kind": "badge.granted", "time_ms": t_ms,
        "received_ms": t_ms, "entities": [
            {"role": "where", "kind": "door", "id": door}, {"role": "actor", "kind": "badge", "id": badge},
        ],
    }) + "\n"  # fmt: skip


FAR = """\
site: {id: blind, name: Blind, timezone: UTC}
floors:
  - id: f0
    zones: [{id: a}, {id: b}, {id: c}, {id: d}]
    doors:
      - {id: d-ab, between: [a, b], walk_ms: 60000}
      - {id: d-bc, between: [b, c], walk_ms: 60000}
      - {id: d-cd, between: [c, d], walk_ms: 60000}
people:
  - {id: p-017, badges: [{id: "7017"}]}
  - {id: p-018, badges: [{id: "7018"}]}
"""


def drift(capsys, tmp_path, gap_s: int, badges=("7017", "7018")) -> str:
    site = tmp_path / "far.yaml"
    site.write_text(FAR)
    lines = []
    for number in range(4):
        badge = badges[number % len(badges)]
        lines.append(badge_line(2 * number, badge, "d-ab", number * 3_600))
        lines.append(badge_line(2 * number + 1, badge, "d-cd", number * 3_600 + gap_s))
    (tmp_path / "decoded.ndjson").write_text("".join(lines))
    (tmp_path / "unknown.json").write_text("[]")
    code, out, _ = run(capsys, "site", "lint", site, "--from", tmp_path)
    assert code == 0
    return out


def test_badges_that_walk_where_the_model_has_no_way_show_a_missing_one(capsys, tmp_path):
    out = drift(capsys, tmp_path, gap_s=8)
    assert "badges pass 'd-ab' and then 'd-cd' within 8 s (4 walks), the model needs 60 s between them" in out
    assert "  - {from: b, to: c, type: leads_to, delay_ms: 8000}" in out


@pytest.mark.parametrize(("gap_s", "badges"), [(59, ("7017", "7018")), (8, ("7017",))])
def test_walks_the_model_explains_or_of_one_badge_alone_prove_nothing(capsys, tmp_path, gap_s, badges):
    assert "badges pass" not in drift(capsys, tmp_path, gap_s, badges)


def test_badges_nobody_holds_are_counted_and_not_shown(capsys, blind, tmp_path):
    (tmp_path / "decoded.ndjson").write_text("")
    (tmp_path / "unknown.json").write_text('[{"kind": "badge", "id": "9999", "count": 3, "first_ms": 0, "last_ms": 1}]')
    code, out, _ = run(capsys, "site", "lint", blind, "--from", tmp_path, "--strict")
    assert code == 1
    assert "1 badges without a person, used 3 times" in out
    assert "9999" not in out


def test_lint_without_a_replay_says_what_to_do(capsys, blind, tmp_path):
    code, _, err = run(capsys, "site", "lint", blind, "--from", tmp_path / "none")
    assert code == 2
    assert "run correlator replay --out first" in err


def test_lint_warns_of_a_reach_that_holds_much_of_the_site(tmp_path):
    zones = ", ".join(f"{{id: z{number}}}" for number in range(46))
    relations = "".join(f"  - {{from: z0, to: z{number}, type: leads_to, strength: 1}}\n" for number in range(1, 46))
    path = tmp_path / "wide.yaml"
    path.write_text(
        f"site: {{id: w, timezone: UTC}}\nfloors:\n  - {{id: f, zones: [{zones}]}}\nrelations:\n{relations}"
    )
    wide = [says for asset, says, _ in lint_site(load_site(path)) if asset == "z0" and "the reach of" in says]
    assert wide == ["the reach of 'z0' holds 46 of 46 assets (100%)"]
