"""The site graph and what follows on it, for Gephi, Cytoscape and yEd: GraphML, and Cytoscape's JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import msgspec

from correlator.impact.graph import THREAT_NAMES, THREATS
from correlator.impact.model import ImpactModel
from correlator.impact.paths import UNAVAILABLE, Paths
from correlator.impact.rules import PPM
from correlator.impact.services import services_hit
from correlator.premises.graph import SiteGraph

_NODE_KEYS: Final = (
    ("class", "string"), ("name", "string"), ("zone", "string"), ("criticality", "int"), ("threat", "string"),
    ("likelihood", "double"),
)  # fmt: skip
_EDGE_KEYS: Final = (("type", "string"), ("likelihood", "double"), ("rule", "string"))


def site_parts(graph: SiteGraph, describe: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(nodes, edges) of a whole site as plain maps."""
    nodes = [
        {
            "id": asset.id, "class": asset.asset_class, "name": describe(asset.id), "zone": asset.zone,
            "criticality": asset.criticality,
        }
        for asset in graph.nodes.values()
    ]  # fmt: skip
    edges = [{"source": one.source, "target": one.target, "type": one.type} for one in graph.relations]
    return nodes, edges


def impact_parts(model: ImpactModel, paths: Paths) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(nodes, edges) of everything that was reached: a node is a threat on an asset, an edge a step of a rule."""
    hits = services_hit(paths)
    likelihood = {state: paths.likelihood(state) for state in paths.reached}
    for service, hit in hits.items():
        likelihood[service * THREATS + UNAVAILABLE] = hit.likelihood
    nodes = []
    for state in sorted(likelihood):
        asset, threat = divmod(state, THREATS)
        name = model.graph.ids[asset]
        nodes.append({
            "id": f"{name}|{THREAT_NAMES[threat]}", "name": model.describe(name), "threat": THREAT_NAMES[threat],
            "criticality": model.graph.criticality.get(asset, 0), "likelihood": likelihood[state] / PPM,
        })  # fmt: skip
    edges: dict[tuple[int, int], tuple[int, int]] = {}
    for labels in paths.labels_of.values():
        for label in labels:
            if paths.numbers[label] >= 0:
                key = paths.states[paths.parents[label]], paths.states[label]
                edges[key] = paths.steps[label], paths.numbers[label]
    for service, ends in paths.ends.items():
        for label, step, number in ends:
            edges[paths.states[label], service * THREATS + UNAVAILABLE] = step, number
    for service in hits:
        for to, step, number in paths.links(service * THREATS + UNAVAILABLE):
            if to in likelihood:
                edges[service * THREATS + UNAVAILABLE, to] = step, number
    return nodes, [
        {
            "source": _name(model, source), "target": _name(model, target), "type": "leads to",
            "likelihood": step / PPM, "rule": model.table.rules[number].id,
        }
        for (source, target), (step, number) in sorted(edges.items())
    ]  # fmt: skip


def _name(model: ImpactModel, state: int) -> str:
    return f"{model.graph.ids[state // THREATS]}|{THREAT_NAMES[state % THREATS]}"


def graphml(nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> Iterator[str]:
    """A GraphML document, line by line (graphml.graphdrawing.org, 1.0)."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
    for keys, what in ((_NODE_KEYS, "node"), (_EDGE_KEYS, "edge")):
        for name, kind in keys:
            yield f'  <key id="{what}-{name}" for="{what}" attr.name="{name}" attr.type="{kind}"/>\n'
    yield '  <graph edgedefault="directed">\n'
    for node in nodes:
        yield f"    <node id={quoteattr(node['id'])}>{_data('node', node, _NODE_KEYS)}</node>\n"
    for edge in edges:
        ends = f"source={quoteattr(edge['source'])} target={quoteattr(edge['target'])}"
        yield f"    <edge {ends}>{_data('edge', edge, _EDGE_KEYS)}</edge>\n"
    yield "  </graph>\n</graphml>\n"


def _data(what: str, values: dict[str, Any], keys: tuple[tuple[str, str], ...]) -> str:
    return "".join(
        f'<data key="{what}-{name}">{escape(str(values[name]))}</data>'
        for name, _ in keys
        if values.get(name) not in (None, "")
    )


def cytoscape(nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> bytes:
    """Cytoscape's JSON (js.cytoscape.org, "elements"), which Gephi reads as well."""
    elements = {
        "nodes": [{"data": node} for node in nodes],
        "edges": [{"data": {"id": f"e{number}", **edge}} for number, edge in enumerate(edges)],
    }
    return msgspec.json.format(msgspec.json.encode({"elements": elements}), indent=2) + b"\n"
