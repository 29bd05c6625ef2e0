"""What is known of a network before any synapse is listed: who takes part, in which words, and whether it fits."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch import Tensor

from pcsim.circuit.distributions.base import LocalText, Textual
from pcsim.circuit.graph import Circuit, Edge, Node
from pcsim.circuit.layers.chain import Split, split_parameters
from pcsim.engines.brian2 import memory
from pcsim.engines.brian2.delay import check_lines
from pcsim.engines.brian2.network import Dynamics
from pcsim.engines.brian2.plasticity import learned_names
from pcsim.engines.brian2.refusals import check_clamp, check_names, check_noise, check_time_steps
from pcsim.engines.torch.target import Clamp
from pcsim.errors import CircuitError


class Roles(NamedTuple):
    """Who takes part, who moves, and who is held and released."""

    nodes: dict[str, Node]
    free: tuple[str, ...]
    switched: tuple[str, ...]


class Outline(NamedTuple):
    """What is known of a network before any synapse is listed."""

    roles: Roles
    texts: dict[str, LocalText]
    edges: list[Edge]
    split: dict[str, Split]
    learned: frozenset[str]
    """Parameters that move while the network runs, by their names in torch."""


def outline_network(
    circuit: Circuit,
    params: Mapping[str, Tensor],
    clamp: Clamp,
    rows: int,
    dynamics: Dynamics,
    *,
    switched: Collection[str] = (),
    memory_limit: float = memory.LIMIT,
) -> Outline:
    """All that `plan_network` refuses, refused; of the clamp only the names count."""
    check_names(circuit)
    check_noise(circuit, dynamics.noise_on)
    check_clamp(circuit, clamp, switched)
    roles = _roles(circuit, clamp, switched)
    split = {e.key: split_parameters(e.layers, params, f"{e.key}.") for e in circuit.edges}
    edges = [e for e in circuit.edges if e.child in roles.nodes]
    texts = {n: _text(node, params) for n, node in roles.nodes.items() if node.past is None}
    check_time_steps(roles.nodes, texts, dynamics.dt)
    check_lines(edges, circuit, rows, dynamics.dt, memory_limit)
    memory.check(edges, split, circuit, texts, rows, memory_limit)
    return Outline(roles, texts, edges, split, learned_names(circuit, dynamics.plasticity))


def _roles(circuit: Circuit, clamp: Clamp, switched: Collection[str]) -> Roles:
    discrete = {n for n, node in circuit.nodes.items() if node.distribution.discrete}
    turned = tuple(n for n in circuit.nodes if n in (*clamp.masks, *switched) and n not in circuit.past)
    nodes = {n: v for n, v in circuit.nodes.items() if n not in discrete or n in (*clamp.values, *turned)}
    still = discrete | {n for n in clamp.values if n not in turned} | set(circuit.past)
    return Roles(nodes, tuple(n for n in nodes if n not in still), turned)


def _text(node: Node, params: Mapping[str, Tensor]) -> LocalText:
    start = f"{node.name}."
    own = {n.removeprefix(start): v for n, v in params.items() if n.startswith(start)}
    if not isinstance(node.distribution, Textual):
        kind = type(node.distribution).__name__
        raise CircuitError(
            f"node {node.name}: {kind} has no local text (a method `local_text`); use engine: torch"
        )
    try:
        text = node.distribution.local_text(own, node.shape)
    except CircuitError as failure:
        raise CircuitError(f"node {node.name}: {failure}; use engine: torch") from failure
    if node.error_tau is not None and text.covariance is None:
        raise CircuitError(
            f"node {node.name}: error_tau needs a Gaussian with a precision per unit, because a leaky error "
            "unit settles where its leak 1/precision balances z − η"
        )
    return text
