"""The circuit: a directed acyclic graph of value nodes, and the value/error graph that it stands for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx

from pcsim.circuit.distributions.base import Distribution
from pcsim.circuit.layers.base import Layer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ErrorUnits:
    """Two rectified populations for the positive and the negative part of an error, with gains and a floor.

    Each fires at [baseline ± ε]₊; what the rest of the circuit reads as the error is
    g₊ ([baseline + ε]₊ − baseline) − g₋ ([baseline − ε]₊ − baseline). Equal gains of 1 and a baseline of 0
    give ε back.
    """

    split: bool = True
    gain: tuple[float, float] = (1.0, 1.0)
    baseline: float = 0.0


@dataclass(frozen=True)
class Adaptation:
    """Fatigue of a node's precision: π = π₀/(1 + a), tau da/dt = −a + strength·[η]₊², units by themselves."""

    tau: str
    strength: float


@dataclass(frozen=True)
class Node:
    """A value node z with its conditional distribution p(z | η); `mean` is η of a root."""

    name: str
    shape: Shape
    distribution: Distribution
    mean: Any = 0.0
    learn_mean: bool = False
    tau: str | None = None
    """Time constant of the value units: γ = dt/tau."""
    error_tau: str | None = None
    """Error units with dynamics of their own, tau_ε dε/dt = (z − η) − Σ ε (Bogacz, 2017); None: instantaneous."""
    past: str | None = None
    """The node whose value at the end of the previous frame this one holds; `mean` before the first frame."""
    errors: ErrorUnits | None = None
    adaptation: Adaptation | None = None


@dataclass(frozen=True)
class Edge:
    """f: parent value → its share of the child's prediction η, as a chain of layers."""

    parent: str
    child: str
    layers: tuple[Layer, ...]
    delay: str | None = None
    """Prediction and message both arrive this much later."""
    feedback: tuple[tuple[float, ...], ...] | None = None
    """B `[in, out]`: the message is B ε in place of Wᵀ ε, and the drift no gradient of an energy any more."""

    @property
    def key(self) -> str:
        """The prefix of the edge's parameters, `parent->child`."""
        return f"{self.parent}->{self.child}"


@dataclass(frozen=True)
class EncoderEdge(Edge):
    """observed → (mean, raw variance) of q(child | parent); variance = softplus(raw), sharpness β.

    softplus_β(r) = log(1 + e^{βr})/β. The last layer's output has the child's shape with the first axis
    doubled: the first half is the mean.
    """

    softplus_beta: float = 1.0

    @property
    def key(self) -> str:
        """The prefix of the edge's parameters, `encoder/parent->child`."""
        return f"encoder/{self.parent}->{self.child}"


@dataclass(frozen=True)
class Circuit:
    """Value nodes in topological order, the edges of the generative model, and the encoder's edges."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    encoder: tuple[EncoderEdge, ...] = ()
    description: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The description that this was built from, as plain values (what the trace and checkpoints carry)."""

    @cached_property
    def graph(self) -> "nx.DiGraph[str]":
        """The DAG of value nodes; each edge carries its `Edge` as the attribute `edge`."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for name, node in self.nodes.items():
            graph.add_node(name, node=node)
        for edge in self.edges:
            graph.add_edge(edge.parent, edge.child, edge=edge)
        return graph

    @property
    def roots(self) -> tuple[str, ...]:
        """Nodes without parents, whose prediction is their mean."""
        return tuple(n for n in self.nodes if self.graph.in_degree(n) == 0)

    @property
    def past(self) -> dict[str, str]:
        """`{past node: the node that it remembers}`."""
        return {name: node.past for name, node in self.nodes.items() if node.past is not None}

    @property
    def leaves(self) -> tuple[str, ...]:
        """Nodes without children."""
        return tuple(n for n in self.nodes if self.graph.out_degree(n) == 0)

    def parents(self, name: str) -> tuple[Edge, ...]:
        """The edges that end in a node, in the order of the description."""
        return tuple(e for e in self.edges if e.child == name)

    def children(self, name: str) -> tuple[Edge, ...]:
        """The edges that leave a node, in the order of the description."""
        return tuple(e for e in self.edges if e.parent == name)

    def with_errors(self) -> "nx.DiGraph[str]":
        """The explicit value/error graph: who reads whom.

        Each value node n has an error node `ε(n)`. Edges carry `role`: `value` n → ε(n), `prediction`
        parent → ε(child), `own` ε(n) → n, `message` ε(child) → parent. A unit's update reads only its
        in-neighbours here; this is the neighbourhood that locality means. A past node has no error and hears
        nothing.
        """
        graph: nx.DiGraph[str] = nx.DiGraph()
        for name, node in self.nodes.items():
            graph.add_node(name, kind="value", of=name)
            if node.past is not None:
                continue
            graph.add_node(f"ε({name})", kind="error", of=name)
            graph.add_edge(name, f"ε({name})", role="value")
            graph.add_edge(f"ε({name})", name, role="own")
        for edge in self.edges:
            graph.add_edge(edge.parent, f"ε({edge.child})", role="prediction")
            if self.nodes[edge.parent].past is None:
                graph.add_edge(f"ε({edge.child})", edge.parent, role="message")
        return graph
