"""From an edge to synapses and hidden layers, in both directions, with what they learn."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from pcsim.circuit.graph import Circuit, Edge
from pcsim.circuit.layers.chain import Split
from pcsim.engines.brian2 import equations as eq
from pcsim.engines.brian2.delay import delay_steps
from pcsim.engines.brian2.network import BACK, PREDICT, Connections, Dynamics, Group, Learned
from pcsim.engines.brian2.plasticity import rates_of
from pcsim.engines.brian2.unroll import SUMS, Floats, Rate, Stage, Unrolled, rate, unroll


class Parts(NamedTuple):
    """One edge, unrolled, with its place in the circuit."""

    edge: Edge
    unrolled: Unrolled
    rates: tuple[Rate, ...]
    """After each stage; the last one in the variables of the child's error group."""
    returns: bool
    """Whether the parent may move."""
    delay: int
    """Steps."""
    learned: frozenset[int]
    """The stages whose weights learn."""
    biased: frozenset[int]
    """The stages whose biases learn."""

    @property
    def listens(self) -> bool:
        """Whether errors are carried back through the edge's own stages."""
        return self.returns or bool(self.learned | self.biased)

    @property
    def start(self) -> eq.Outgoing:
        """The edge as its parent sees it."""
        return eq.Outgoing(self.edge.child, rate(self.unrolled.functions, "z"), self.delay)

    def layer(self, k: int) -> str:
        """The name of the hidden layer after stage k."""
        return f"layer_{self.edge.parent}_{self.edge.child}_{k}"

    def connections(self, k: int) -> str:
        """The name of the synapses of stage k."""
        stem = f"edge_{self.edge.parent}_{self.edge.child}"
        return stem if len(self.unrolled.stages) == 1 else f"{stem}_{k}"


def plan_edge(
    edge: Edge,
    params: Split,
    circuit: Circuit,
    dynamics: Dynamics,
    *,
    returns: bool,
    learned: Collection[str],
) -> Parts:
    """The parts of one edge; `learned` holds the parameters that move, by their names in torch."""
    unrolled = unroll(edge, params, circuit.nodes[edge.parent].shape)
    last = len(unrolled.stages) - 1
    rates = []
    for k, stage in enumerate(unrolled.stages):
        drive, bias = (f"mu_{edge.parent}", f"bias_{edge.parent}") if k == last else ("drive", "bias")
        x = drive if stage.bias is None else f"({drive} + {bias})"
        rates.append(rate(stage.functions, x))
    weights, biases = (
        frozenset(k for k, name in enumerate(_names(edge, kind)) if name in learned)
        for kind in ("weight", "bias")
    )
    return Parts(
        edge, unrolled, tuple(rates), returns, delay_steps(edge, dynamics.dt), weights, biases
    )  # fmt: skip


def _names(edge: Edge, kind: str) -> list[str]:
    """In torch, of each stage's parameter of one kind."""
    return [f"{edge.key}.{i}.{kind}" for i, layer in enumerate(edge.layers) if isinstance(layer, SUMS)]


def learned_of(part: Parts) -> list[Learned]:
    """Where the edge's learned parameters live."""
    last, found = len(part.unrolled.stages) - 1, []
    for k, name in enumerate(_names(part.edge, "weight")):
        if k in part.learned:
            found.append(Learned(name, part.connections(k), "w"))
    for k, name in enumerate(_names(part.edge, "bias")):
        if k in part.biased:
            final = (f"error_{part.edge.child}", f"bias_{part.edge.parent}")
            found.append(Learned(name, *(final if k == last else (part.layer(k), "bias"))))
    return found


def layer_groups(part: Parts, dynamics: Dynamics) -> list[Group]:
    """The hidden layers of one edge."""
    groups = []
    for k, (stage, after) in enumerate(zip(part.unrolled.stages[:-1], part.rates[:-1], strict=True)):
        lines = eq.layer_lines(after, stage.bias is not None, part.listens)
        learns = k in part.biased
        groups.append(
            Group(
                part.layer(k), stage.size, tuple(lines), 0, PREDICT + 2 * k + 1,
                {} if stage.bias is None else {"bias": stage.bias},
                constants=rates_of(dynamics.plasticity) if learns else {},
                learn=(eq.BIAS_LEARNING,) if learns else (),
            )
        )  # fmt: skip
    return groups


def edge_synapses(part: Parts, dynamics: Dynamics) -> list[Connections]:
    """The weighted sums of one edge, each with its way back."""
    return [_stage(part, k, dynamics) for k in range(len(part.unrolled.stages))]


def _stage(part: Parts, k: int, dynamics: Dynamics) -> Connections:
    edge, stage, last = part.edge, part.unrolled.stages[k], len(part.unrolled.stages) - 1
    first, final = k == 0, k == last
    source = f"value_{edge.parent}" if first else part.layer(k - 1)
    target = f"error_{edge.child}" if final else part.layer(k)
    carried = "rate"
    if first:
        carried = part.start.source if part.start.rate.linear else f"rate_{edge.child}"
    into = f"mu_{edge.parent}" if final else "drive"
    home = "arriving" if part.delay else "back"
    back = f"{home}_{edge.child}" if first else "back"
    error = _error(part, final)
    message = error if part.returns or (part.listens and not first) else None
    s = eq.Sum(carried, into, stage.weight is not None, message, back, edge.feedback is not None)
    orders = {f"{into}_post": PREDICT + 2 * k}
    if message is not None:
        orders[f"{back}_pre"] = BACK + last - k
    learns = k in part.learned
    return Connections(
        part.connections(k), source, target, tuple(eq.synapse_lines(s)), stage.pre, stage.post,
        _weights(edge, stage, message), orders,
        learn=tuple(eq.weight_learning(s, error)) if learns else (),
        constants=rates_of(dynamics.plasticity) if learns else {},
    )  # fmt: skip


def _error(part: Parts, final: bool) -> str:
    """The error in front of φ of the stage's targets, as a synapse reads it."""
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
