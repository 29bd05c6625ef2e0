"""From a circuit, its parameters and what is clamped to the groups and synapses of a network."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsim.circuit.distributions.base import LocalText, Textual
from pcsim.circuit.graph import Circuit, Edge, Node
from pcsim.circuit.layers.chain import Split, split_parameters
from pcsim.circuit.times import seconds
from pcsim.engines.brian2 import equations as eq
from pcsim.engines.brian2 import memory
from pcsim.engines.brian2.network import (
    BACK,
    ERROR,
    LATERAL,
    MOVE,
    PREDICT,
    SETTLE,
    Connections,
    Dynamics,
    Group,
    Plan,
)
from pcsim.engines.brian2.refusals import check_clamp, check_names, check_options, check_time_steps
from pcsim.engines.brian2.unroll import Floats, Rate, Stage, Unrolled, rate, unroll
from pcsim.engines.torch.target import Clamp
from pcsim.errors import CircuitError


class _Parts(NamedTuple):
    """One edge, unrolled, with its place in the circuit."""

    edge: Edge
    unrolled: Unrolled
    rates: tuple[Rate, ...]
    """After each stage; the last one in the variables of the child's error group."""
    returns: bool


def plan_network(
    circuit: Circuit,
    params: Mapping[str, Tensor],
    clamp: Clamp,
    rows: int,
    dynamics: Dynamics,
    *,
    switched: Collection[str] = (),
    memory_limit: float = memory.LIMIT,
) -> Plan:
    """The groups and synapses of a circuit at these parameters and clamps (`[row, *shape]`, as for torch).

    Discrete leaves that are not clamped drop out, as on torch. `switched` names nodes that will be held in
    some phases and free in others (`Simulation.clamp`); partly clamped ones are among them anyway.

    Raises `CircuitError` where the circuit has something without local text, a name that Brian2 reserves,
    a time step too long for a time constant, or more synapses than `memory_limit` bytes hold.
    """
    check_names(circuit)
    check_options(circuit)
    check_clamp(circuit, clamp, switched)
    roles = _roles(circuit, clamp, switched)
    split = {e.key: split_parameters(e.layers, params, f"{e.key}.") for e in circuit.edges}
    edges = [e for e in circuit.edges if e.child in roles.nodes]
    texts = {n: _text(node, params) for n, node in roles.nodes.items() if node.past is None}
    memory.check(edges, split, circuit, texts, rows, memory_limit)
    check_time_steps(roles.nodes, texts, dynamics.dt)
    parts = [_parts(e, split[e.key], circuit, e.parent in roles.free) for e in edges]
    groups: list[Group] = []
    synapses: list[Connections] = []
    for name, node in roles.nodes.items():
        out = [p for p in parts if p.edge.parent == name]
        groups.append(_value_group(node, out, dynamics, roles))
        if name in texts:
            into = [p for p in parts if p.edge.child == name]
            groups.append(_error_group(node, texts[name], into, params, roles))
            synapses += _lateral(node, texts[name])
    for part in parts:
        groups += _layer_groups(part)
        synapses += _edge_synapses(part)
    shapes = {n: node.shape for n, node in roles.nodes.items()}
    held = _start(clamp, roles.nodes, params, rows)
    return Plan(
        rows, dynamics, tuple(groups), tuple(synapses), shapes, roles.free, roles.switched, tuple(texts), held
    )  # fmt: skip


class _Roles(NamedTuple):
    """Who takes part, who moves, and who is held and released."""

    nodes: dict[str, Node]
    free: tuple[str, ...]
    switched: tuple[str, ...]


def _roles(circuit: Circuit, clamp: Clamp, switched: Collection[str]) -> _Roles:
    discrete = {n for n, node in circuit.nodes.items() if node.distribution.discrete}
    turned = tuple(n for n in circuit.nodes if n in (*clamp.masks, *switched) and n not in circuit.past)
    nodes = {n: v for n, v in circuit.nodes.items() if n not in discrete or n in (*clamp.values, *turned)}
    still = discrete | {n for n in clamp.values if n not in turned} | set(circuit.past)
    return _Roles(nodes, tuple(n for n in nodes if n not in still), turned)


def _start(clamp: Clamp, nodes: Mapping[str, Node], params: Mapping[str, Tensor], rows: int) -> Clamp:
    """The clamp, with past nodes at the value that they hold before the first frame."""
    given = {n: params[f"{n}.mean"].expand(rows, *node.shape) for n, node in nodes.items() if node.past}
    return Clamp({**given, **{n: v for n, v in clamp.values.items() if n in nodes}}, clamp.masks)


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


def _parts(edge: Edge, params: Split, circuit: Circuit, returns: bool) -> _Parts:
    unrolled = unroll(edge, params, circuit.nodes[edge.parent].shape)
    last = len(unrolled.stages) - 1
    rates = []
    for k, stage in enumerate(unrolled.stages):
        drive, bias = (f"mu_{edge.parent}", f"bias_{edge.parent}") if k == last else ("drive", "bias")
        x = drive if stage.bias is None else f"({drive} + {bias})"
        rates.append(rate(stage.functions, x))
    return _Parts(edge, unrolled, tuple(rates), returns)


def _value_group(node: Node, out: list[_Parts], dynamics: Dynamics, roles: _Roles) -> Group:
    moves, noisy = node.name in roles.free, dynamics.temperature > 0
    outgoing = tuple(eq.Outgoing(p.edge.child, rate(p.unrolled.functions, "z")) for p in out)
    lines = eq.value_lines(eq.Value(outgoing, "eps" if moves else None, noisy, node.name in roles.switched))
    if not moves:
        return Group(f"value_{node.name}", math.prod(node.shape), tuple(lines), MOVE, PREDICT - 1)
    tau = seconds(node.tau) if node.tau else dynamics.dt / dynamics.step_size
    if noisy:
        lines.append("noise : 1")
    return Group(
        f"value_{node.name}", math.prod(node.shape), tuple(lines), MOVE, PREDICT - 1,
        constants={"temperature": dynamics.temperature} if noisy else {},
        times={"tau": tau}, links={"eps": (f"error_{node.name}", "eps")},
    )  # fmt: skip


def _error_group(
    node: Node, text: LocalText, into: list[_Parts], params: Mapping[str, Tensor], roles: _Roles
) -> Group:
    incoming = tuple(
        eq.Incoming(p.edge.parent, p.rates[-1], p.unrolled.stages[-1].bias is not None, p.returns)
        for p in into
    )
    switched = node.name in roles.switched and node.name not in roles.free
    lines = eq.error_lines(
        eq.Error(
            text,
            incoming,
            node.error_tau is not None,
            switched,
            node.errors is not None and node.errors.split,
            node.adaptation is not None,
        )
    )
    units = math.prod(node.shape)
    constants, arrays = {}, {}
    for name, value in text.constants.items():
        if value.numel() == 1:
            constants[name] = float(value)
        else:
            lines.append(f"{name} : 1")
            arrays[name] = _flat(value)
    for part in into:
        bias = part.unrolled.stages[-1].bias
        if bias is not None:
            arrays[f"bias_{part.edge.parent}"] = bias
    if not into:
        arrays["mean"] = _flat(params[f"{node.name}.mean"].expand(node.shape))
    times = {} if node.error_tau is None else {"error_tau": seconds(node.error_tau)}
    if node.errors is not None and node.errors.split:
        positive, negative = node.errors.gain
        constants |= {"gain_positive": positive, "gain_negative": negative, "baseline": node.errors.baseline}
    if node.adaptation is not None:
        constants["strength"] = node.adaptation.strength
        times["adaptation_tau"] = seconds(node.adaptation.tau)
    return Group(
        f"error_{node.name}", units, tuple(lines), SETTLE, ERROR, arrays, constants, times,
        {"z": (f"value_{node.name}", "z")},
    )  # fmt: skip


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


def _layer_name(edge: Edge, k: int) -> str:
    return f"layer_{edge.parent}_{edge.child}_{k}"


def _layer_groups(part: _Parts) -> list[Group]:
    groups = []
    for k, (stage, after) in enumerate(zip(part.unrolled.stages[:-1], part.rates[:-1], strict=True)):
        lines = eq.layer_lines(after, stage.bias is not None, part.returns)
        arrays = {} if stage.bias is None else {"bias": stage.bias}
        groups.append(
            Group(_layer_name(part.edge, k), stage.size, tuple(lines), MOVE, PREDICT + 2 * k + 1, arrays)
        )
    return groups


def _edge_synapses(part: _Parts) -> list[Connections]:
    edge, last = part.edge, len(part.unrolled.stages) - 1
    made = []
    for k, stage in enumerate(part.unrolled.stages):
        first, final = k == 0, k == last
        source = f"value_{edge.parent}" if first else _layer_name(edge, k - 1)
        target = f"error_{edge.child}" if final else _layer_name(edge, k)
        through = not rate(part.unrolled.functions, "z").linear
        carried = (f"rate_{edge.child}" if through else "z") if first else "rate"
        into = f"mu_{edge.parent}" if final else "drive"
        back = f"back_{edge.child}" if first else "back"
        message = _message(part, final) if part.returns else None
        s = eq.Sum(carried, into, stage.weight is not None, message, back, edge.feedback is not None)
        orders = {f"{into}_post": PREDICT + 2 * k}
        if message is not None:
            orders[f"{back}_pre"] = BACK + last - k
        name = f"edge_{edge.parent}_{edge.child}" + (f"_{k}" if last else "")
        made.append(
            Connections(
                name,
                source,
                target,
                tuple(eq.synapse_lines(s)),
                stage.pre,
                stage.post,
                _weights(edge, stage, message),
                orders,
            )
        )
    return made


def _message(part: _Parts, final: bool) -> str:
    if not final:
        return "back_post*slope_post"
    return "eps_post" if part.rates[-1].linear else f"delta_{part.edge.parent}_post"


def _weights(edge: Edge, stage: Stage, message: str | None) -> dict[str, Floats]:
    if stage.weight is None:
        return {}
    arrays = {"w": stage.weight}
    if edge.feedback is not None and message is not None:
        arrays["b"] = np.asarray(edge.feedback, dtype=np.float64)[stage.pre, stage.post]
    return arrays
