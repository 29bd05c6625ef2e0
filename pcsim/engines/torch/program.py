"""A circuit lowered to plain tuples and pure torch functions: predictions, energy, errors, ancestral draws.

No networkx and no autograd in here: dynamo refuses the first inside traced code, and the second costs 1.8
times the local messages on a three-layer net.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from pcsim.circuit.distributions.base import Distribution, Draws
from pcsim.circuit.graph import Circuit, Edge, EncoderEdge, Node
from pcsim.circuit.layers.base import Layer, Pullback
from pcsim.circuit.layers.chain import chain_forward, chain_parameters, chain_pullback, split_parameters
from pcsim.errors import CircuitError

Params = dict[str, Tensor]


class EdgePlan(NamedTuple):
    """One edge, with views of its parameters: one dict per layer."""

    parent: str
    child: str
    key: str
    layers: tuple[Layer, ...]
    params: tuple[dict[str, Tensor], ...]
    dtype: torch.dtype | None
    """The precision inside the edge where it differs from the state's (bfloat16)."""
    feedback: Tensor | None = None
    """B `[in, out]`, where the message is B ε and not Wᵀ ε."""

    def forward(self, value: Tensor) -> tuple[Tensor, Any]:
        """This edge's share of the child's prediction, and what the pullback needs."""
        if self.dtype is None:
            return chain_forward(self.layers, self.params, value)
        share, saved = chain_forward(self.layers, self.params, value.to(self.dtype))
        return share.to(value.dtype), saved

    def pullback(self, saved: Any, error: Tensor, *, message: bool, learn: bool) -> Pullback:
        """The message Jᵀε (or B ε) to the parent, and the Hebbian parameter gradient."""
        if self.feedback is not None:
            own = self._replace(feedback=None).pullback(saved, error, message=False, learn=learn)
            return own._replace(message=error @ self.feedback.t() if message else None)
        if self.dtype is None:
            return chain_pullback(self.layers, self.params, saved, error, message=message, learn=learn)
        back = chain_pullback(
            self.layers, self.params, saved, error.to(self.dtype), message=message, learn=learn
        )
        return Pullback(
            None if back.message is None else back.message.to(error.dtype),
            {name: gradient.to(error.dtype) for name, gradient in back.gradient.items()},
        )


class NodePlan(NamedTuple):
    """One value node with views of its parameters."""

    name: str
    shape: tuple[int, ...]
    distribution: Distribution
    params: Mapping[str, Tensor]
    mean: Tensor
    """η of a root, `[*shape]`; zero for a node with parents."""
    learn_mean: bool
    parents: tuple[int, ...]
    """Indices into `Bound.edges`."""
    past: str | None = None
    """The node that this one remembers; it is held at that node's value of the frame before."""


class Bound(NamedTuple):
    """A program with parameters: nodes in topological order and edges, ready to evaluate.

    It holds views: an optimiser that moves the parameters in place moves this with them (bind again after a
    step when edges run in bfloat16, which is a copy).
    """

    nodes: tuple[NodePlan, ...]
    edges: tuple[EdgePlan, ...]

    def prediction(self, node: NodePlan, values: Mapping[str, Tensor], rows: int) -> tuple[Tensor, list[Any]]:
        """η = Σ over parents of f(z_parent), or the mean of a root, `[row, *shape]`; and what was saved."""
        if not node.parents:
            return node.mean.expand(rows, *node.shape), []
        eta: Tensor | None = None
        kept = []
        for index in node.parents:
            edge = self.edges[index]
            share, saved = edge.forward(values[edge.parent])
            eta = share if eta is None else eta + share
            kept.append(saved)
        assert eta is not None
        return eta, kept


@dataclass(frozen=True)
class Program:
    """The pure functions of one circuit; parameters are a flat dict, states are `{node: [row, *shape]}`."""

    circuit: Circuit
    edge_dtype: torch.dtype | None = None

    def initial_parameters(
        self, generator: Generator, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Params:
        """Every parameter, learned or fixed: `z->x.0.weight`, `x.log_precision`, `z.mean`, `encoder/x->z.…`.

        Weights not given in the description are drawn from `generator` (CPU, float64, so that the same seed
        gives the same weights in every precision and on every device).
        """
        params: Params = {}
        for node in self.circuit.nodes.values():
            for name, value in node.distribution.parameters(node.shape).items():
                params[f"{node.name}.{name}"] = value
            if not self.circuit.parents(node.name):
                mean = torch.tensor(node.mean, dtype=torch.float64)
                params[f"{node.name}.mean"] = mean.expand(node.shape).clone()
        for edge in (*self.circuit.edges, *self.circuit.encoder):
            shape = self.circuit.nodes[edge.parent].shape
            for name, value in chain_parameters(edge.layers, shape, generator).items():
                params[f"{edge.key}.{name}"] = value
        return {name: value.to(device=device, dtype=dtype) for name, value in params.items()}

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the parameters θ that learning may move: weights, learned precisions and means."""
        names: list[str] = []
        for node in self.circuit.nodes.values():
            names += [f"{node.name}.{name}" for name in node.distribution.learned]
            if node.learn_mean:
                names.append(f"{node.name}.mean")
        return tuple(names) + tuple(
            name for edge in self.circuit.edges for name in _edge_names(self.circuit, edge)
        )

    @property
    def encoder_learned(self) -> tuple[str, ...]:
        """Names of the encoder's parameters φ."""
        return tuple(name for edge in self.circuit.encoder for name in _edge_names(self.circuit, edge))

    def bind(self, params: Mapping[str, Tensor]) -> Bound:
        """The program at these parameters (views, not copies, unless edges run in another precision)."""
        edges = tuple(plan_edge(edge, params, self.edge_dtype) for edge in self.circuit.edges)
        index = {edge.key: i for i, edge in enumerate(self.circuit.edges)}
        nodes = tuple(
            _plan_node(node, params, tuple(index[e.key] for e in self.circuit.parents(node.name)))
            for node in self.circuit.nodes.values()
        )
        return Bound(nodes, edges)


def _edge_names(circuit: Circuit, edge: Edge) -> list[str]:
    shape = circuit.nodes[edge.parent].shape
    return [f"{edge.key}.{name}" for name in chain_parameters(edge.layers, shape, Generator())]


def plan_edge(edge: Edge | EncoderEdge, params: Mapping[str, Tensor], dtype: torch.dtype | None) -> EdgePlan:
    """The edge with one dict of parameters per layer, cast when the edge has a precision of its own."""
    split = split_parameters(edge.layers, params, f"{edge.key}.")
    like = None if edge.feedback is None else split[0]["weight"]
    if dtype is not None:
        split = tuple({name: value.to(dtype) for name, value in own.items()} for own in split)
    feedback = None
    if like is not None:
        feedback = torch.tensor(edge.feedback, dtype=like.dtype, device=like.device)
    return EdgePlan(edge.parent, edge.child, edge.key, edge.layers, split, dtype, feedback)


def _plan_node(node: Node, params: Mapping[str, Tensor], parents: tuple[int, ...]) -> NodePlan:
    prefix = f"{node.name}."
    own = {n.removeprefix(prefix): v for n, v in params.items() if n.startswith(prefix)}
    like = next(iter(params.values()), torch.zeros(()))
    mean = own.pop("mean", None)
    if mean is None:
        mean = torch.zeros(node.shape, dtype=like.dtype, device=like.device)
    return NodePlan(node.name, node.shape, node.distribution, own, mean, node.learn_mean, parents, node.past)


def ancestral(bound: Bound, draws: Draws, rows: int, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One joint draw per row, parents before children; nodes in `given` keep those values.

    The result ignores what `given` leaves says about their parents: it is a draw from the prior of the rest.
    """
    values: dict[str, Tensor] = {}
    for node in bound.nodes:
        if node.name in given:
            values[node.name] = given[node.name]
            continue
        eta, _ = bound.prediction(node, values, rows)
        values[node.name] = node.distribution.sample(node.params, eta.contiguous(), draws)
    return values


def energies(
    bound: Bound, values: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """−log p(z_n | η_n) per node and row, `{node: [row]}`; their sum is U.

    Nodes absent from `values` and past nodes drop out.
    """
    result = {}
    for node in bound.nodes:
        if node.name not in values or node.past is not None:
            continue
        eta, _ = bound.prediction(node, values, len(values[node.name]))
        mask = (masks or {}).get(node.name)
        local = node.distribution.local(node.params, values[node.name], eta, mask=mask, energy=True)
        if local.energy is None:
            raise CircuitError(f"node {node.name}: its distribution gave no energy when asked")
        result[node.name] = local.energy
    return result
