"""From a circuit, its parameters and what is clamped to the groups and synapses of a network."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsim.circuit.distributions.base import LocalText
from pcsim.circuit.graph import Circuit, Node
from pcsim.circuit.times import seconds
from pcsim.engines.brian2 import equations as eq
from pcsim.engines.brian2 import memory
from pcsim.engines.brian2.network import (
    ERROR,
    LATERAL,
    MOVE,
    PREDICT,
    SETTLE,
    Connections,
    Dynamics,
    Group,
    Learned,
    Plan,
)
from pcsim.engines.brian2.outline import Roles, outline_network
from pcsim.engines.brian2.plan_edges import Parts, edge_synapses, layer_groups, learned_of, plan_edge
from pcsim.engines.brian2.plasticity import PRECISION, places, rates_of
from pcsim.engines.brian2.unroll import Floats
from pcsim.engines.torch.target import Clamp


def plan_network(
    circuit: Circuit,
    params: Mapping[str, Tensor],
    clamp: Clamp,
    rows: int,
    dynamics: Dynamics,
    *,
    switched: Collection[str] = (),
    driven: Collection[str] = (),
    memory_limit: float = memory.LIMIT,
) -> Plan:
    """The groups and synapses of a circuit at these parameters and clamps (`[row, *shape]`, as for torch).

    Discrete leaves that are not clamped drop out, as on torch. `switched` names nodes that will be held in
    some phases and free in others (`Simulation.clamp`); partly clamped ones are among them anyway. `driven`
    names free nodes that something outside the circuit may pull (`Simulation.drive`).

    Raises `CircuitError` where the circuit has something without local text, a name that Brian2 reserves,
    a time step too long for a time constant, or more synapses than `memory_limit` bytes hold.
    """
    outline = outline_network(
        circuit, params, clamp, rows, dynamics, switched=switched, memory_limit=memory_limit
    )
    roles, texts, edges, split, learned = outline
    parts = [
        plan_edge(e, split[e.key], circuit, dynamics, returns=e.parent in roles.free, learned=learned)
        for e in edges
    ]
    groups: list[Group] = []
    synapses: list[Connections] = []
    for name, node in roles.nodes.items():
        out = [p for p in parts if p.edge.parent == name]
        groups.append(_value_group(node, out, dynamics, roles, name in driven))
        if name in texts:
            into = [p for p in parts if p.edge.child == name]
            groups.append(_error_group(_ErrorNode(node, texts[name], into, learned), params, roles, dynamics))
            synapses += _lateral(node, texts[name])
    for part in parts:
        groups += layer_groups(part, dynamics)
        synapses += edge_synapses(part, dynamics)
    shapes = {n: node.shape for n, node in roles.nodes.items()}
    held = _start(clamp, roles.nodes, params, rows)
    found = [
        *_learned_units(roles.nodes, params, learned),
        *(place for p in parts for place in learned_of(p)),
    ]
    return Plan(
        rows, dynamics, tuple(groups), tuple(synapses), shapes, roles.free, roles.switched, tuple(texts), held,
        places(dynamics.plasticity, learned, found),
    )  # fmt: skip


def _learned_units(
    nodes: Mapping[str, Node], params: Mapping[str, Tensor], learned: Collection[str]
) -> list[Learned]:
    """Where learned means and precisions live."""
    found = []
    for name in nodes:
        for parameter, variable in (("mean", "mean"), (PRECISION, "sigma")):
            if (key := f"{name}.{parameter}") in learned:
                pooled = params[key].ndim == 0 and math.prod(nodes[name].shape) > 1
                found.append(Learned(key, f"error_{name}", variable, pooled))
    return found


def _start(clamp: Clamp, nodes: Mapping[str, Node], params: Mapping[str, Tensor], rows: int) -> Clamp:
    """The clamp, with past nodes at the value that they hold before the first frame."""
    given = {n: params[f"{n}.mean"].expand(rows, *node.shape) for n, node in nodes.items() if node.past}
    return Clamp({**given, **{n: v for n, v in clamp.values.items() if n in nodes}}, clamp.masks)


def _value_group(node: Node, out: list[Parts], dynamics: Dynamics, roles: Roles, driven: bool) -> Group:
    moves = node.name in roles.free
    noisy = dynamics.temperature > 0 and dynamics.noise_on == "values"
    text = eq.Value(
        tuple(p.start for p in out), "eps" if moves else None, noisy, node.name in roles.switched, driven
    )  # fmt: skip
    lines, shift = eq.value_lines(text), tuple(eq.shift_lines(text))
    name, units = f"value_{node.name}", math.prod(node.shape)
    if not moves:
        return Group(name, units, tuple(lines), MOVE, PREDICT - 1, shift=shift)
    if noisy:
        lines.append("noise : 1")
    return Group(
        name, units, tuple(lines), MOVE, PREDICT - 1,
        constants={"temperature": dynamics.temperature} if noisy else {},
        times={"tau": _tau(node, dynamics)}, links={"eps": (f"error_{node.name}", "eps")}, shift=shift,
    )  # fmt: skip


def _tau(node: Node, dynamics: Dynamics) -> float:
    return seconds(node.tau) if node.tau else dynamics.dt / dynamics.step_size


class _ErrorNode(NamedTuple):
    node: Node
    text: LocalText
    into: list[Parts]
    learned: Collection[str]

    def learns(self, parameter: str) -> bool:
        return f"{self.node.name}.{parameter}" in self.learned

    def described(self, roles: Roles, noisy: bool) -> eq.Error:
        node = self.node
        incoming = tuple(
            eq.Incoming(p.edge.parent, p.rates[-1], p.unrolled.stages[-1].bias is not None, p.listens)
            for p in self.into
        )
        return eq.Error(
            self.text, incoming, node.error_tau is not None,
            node.name in roles.switched and node.name not in roles.free,
            node.errors is not None and node.errors.split, node.adaptation is not None,
            noisy, self.learns(PRECISION),
        )  # fmt: skip


def _error_group(of: _ErrorNode, params: Mapping[str, Tensor], roles: Roles, dynamics: Dynamics) -> Group:
    node, units = of.node, math.prod(of.node.shape)
    noisy = dynamics.temperature > 0 and dynamics.noise_on == "errors"
    described = of.described(roles, noisy)
    lines = eq.error_lines(described)
    constants, times = _error_constants(node, dynamics, noisy)
    arrays = {}
    for name, value in of.text.constants.items():
        if described.learns and name == "precision":
            arrays["sigma"] = np.broadcast_to(1 / _flat(value), units).copy()
        elif value.numel() == 1:
            constants[name] = float(value)
        else:
            lines.append(f"{name} : 1")
            arrays[name] = _flat(value)
    for part in of.into:
        bias = part.unrolled.stages[-1].bias
        if bias is not None:
            arrays[f"bias_{part.edge.parent}"] = bias
    if not of.into:
        arrays["mean"] = _flat(params[f"{node.name}.mean"].expand(node.shape))
    biased = [p.edge.parent for p in of.into if len(p.unrolled.stages) - 1 in p.biased]
    learn = eq.error_learning(described, biased, of.learns("mean"))
    return Group(
        f"error_{node.name}", units, tuple(lines), SETTLE, ERROR, arrays,
        {**constants, **(rates_of(dynamics.plasticity) if learn else {})}, times,
        {"z": (f"value_{node.name}", "z")}, learn=tuple(learn),
    )  # fmt: skip


def _error_constants(
    node: Node, dynamics: Dynamics, noisy: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Plain numbers, and times in seconds."""
    constants: dict[str, float] = {}
    times = {} if node.error_tau is None else {"error_tau": seconds(node.error_tau)}
    if noisy:
        constants["temperature"] = dynamics.temperature
        times["tau"] = _tau(node, dynamics)
    if node.errors is not None and node.errors.split:
        positive, negative = node.errors.gain
        constants |= {"gain_positive": positive, "gain_negative": negative, "baseline": node.errors.baseline}
    if node.adaptation is not None:
        constants["strength"] = node.adaptation.strength
        times["adaptation_tau"] = seconds(node.adaptation.tau)
    return constants, times


def _flat(value: Tensor) -> Floats:
    return value.detach().cpu().to(torch.float64).reshape(-1).numpy().copy()


def _lateral(node: Node, text: LocalText) -> list[Connections]:
    if text.lateral is None or text.weights is None:
        return []
    weights = text.weights.numpy()
    post, pre = weights.nonzero()
    lines = eq.lateral_lines(text)
    arrays = {"w": weights[post, pre]} if "w : 1" in lines else {}
    group = f"error_{node.name}"
    return [
        Connections(
            f"lateral_{node.name}", group, group, tuple(lines), pre, post, arrays, {"lateral_post": LATERAL}
        )
    ]
