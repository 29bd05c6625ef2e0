"""What holds for a circuit as a whole: no cycle, no second edge, nobody alone, one encoder per node."""

from collections.abc import Mapping
from typing import Any

import networkx as nx

from pcsim.circuit.graph import Edge, EncoderEdge, Node
from pcsim.circuit.source import Source


def check_encoder(source: Source, nodes: Mapping[str, Node], encoder: tuple[EncoderEdge, ...]) -> None:
    """Refuse two encoders of one node, one that reads what another one gives, and one of or from the past."""
    targets = [edge.child for edge in encoder]
    for index, edge in enumerate(encoder):
        for key, name in (("from", edge.parent), ("to", edge.child)):
            if (of := nodes[name].past) is not None:
                source.fail(("encoder", index, key), f"node {name} holds the past of node {of}: an encoder gives "
                            "present values from observed nodes")  # fmt: skip
        if targets.count(edge.child) > 1:
            source.fail(("encoder", index, "to"), f"node {edge.child} has two encoders; one each")
        if edge.parent in targets:
            source.fail(
                ("encoder", index, "from"),
                f"node {edge.parent} is itself given by the encoder; an encoder reads observed nodes only",
            )


def check_roots(source: Source, nodes: Mapping[str, Any], edges: tuple[Edge, ...]) -> None:
    """A mean is the prediction of a root; elsewhere the parents give it."""
    for edge in edges:
        value = nodes[edge.child]
        place, learned = ("nodes", edge.child), value.get("learn", [])
        if "mean" in value:
            source.fail(
                (*place, "mean"), f"node {edge.child} has a parent ({edge.parent}), which predicts it"
            )
        if "mean" in ([learned] if isinstance(learned, str) else learned):
            source.fail(
                (*place, "learn"), f"mean: node {edge.child} has a parent ({edge.parent}), which predicts it"
            )


def in_order(source: Source, nodes: Mapping[str, Node], edges: tuple[Edge, ...]) -> dict[str, Node]:
    """The nodes in topological order, ties as written; refuses cycles, second edges and nodes without any."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(nodes)
    for index, edge in enumerate(edges):
        if graph.has_edge(edge.parent, edge.child):
            source.fail(("edges", index), f"a second edge {edge.key}; at most one per pair")
        graph.add_edge(edge.parent, edge.child)
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [pair[0] for pair in nx.find_cycle(graph)]
        source.fail(("edges",), f"a cycle: {' -> '.join((*cycle, cycle[0]))}; a circuit is acyclic")
    for name in nodes:
        if len(nodes) > 1 and graph.degree(name) == 0:
            source.fail(("nodes", name), f"node {name} has no edge: no path leads from or to it")
    return {name: nodes[name] for name in nx.lexicographical_topological_sort(graph, key=list(nodes).index)}


def check_past(source: Source, nodes: Mapping[str, Node], edges: tuple[Edge, ...]) -> None:
    """A past node is given: nothing predicts it and no message returns to it."""
    for index, edge in enumerate(edges):
        if (of := nodes[edge.child].past) is not None:
            source.fail(
                ("edges", index, "to"),
                f"node {edge.child} holds the past of node {of}; nothing predicts it, it is given",
            )
        if nodes[edge.parent].past is not None and edge.feedback is not None:
            source.fail(
                ("edges", index, "feedback"), f"node {edge.parent} is given: no message returns to it"
            )
