"""Is every update local? Perturb each unit, see what moves, and hold it against the value/error graph.

Two levels. The whole engine is a black box whose every node's update, error and learning rule may react only to
nodes that the graph puts next to it. Inside a node and inside an edge the grain is found the same way: does a
unit read single units, or its whole node? The second is what a deep edge, a full precision or a softmax needs; it
is said, and is no fault.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcsim.circuit.graph import Circuit
from pcsim.engines.perturbation import Response, responses
from pcsim.engines.torch.program import Bound, EdgePlan, NodePlan, Program, ancestral
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.rng import Stream
from pcsim.inference.types import Kernel, Point, Rng, Tree

Grain = Literal["unit", "synapse", "node", "circuit"]
UNITS = 12
"""Units of an input that are moved, one after the other; two would already tell a synapse from a node."""
POINTS = 2
PER_NODE = "local per node, not per synapse"


class Row(NamedTuple):
    """One line of the audit."""

    what: str
    """`update of z`, `error of x`, `rule of z->x.0.weight`, `kernel`."""
    reads: tuple[str, ...]
    """What it was seen to react to."""
    allowed: tuple[str, ...]
    """What the graph puts next to it."""
    grain: Grain
    """Does one unit read single units (`unit`), what its synapses bring (`synapse`), or whole nodes (`node`)?"""
    note: str = ""

    @property
    def local(self) -> bool:
        """Did it react to its neighbours only?"""
        return set(self.reads) <= set(self.allowed)


def audit(
    circuit: Circuit, *, clamped: Iterable[str] | None = None, kernel: Kernel | None = None, seed: int = 0
) -> tuple[Row, ...]:
    """What every update, error and learning rule of a circuit depends on, measured at random points.

    `clamped` names the nodes that are held (default: the leaves that somebody predicts); past nodes are held always,
    at random values. In order: errors and updates of the nodes,
    messages of the edges, learning rules, independence of rows, the kernel. A row is local where all that it
    reacted to is next to it in `Circuit.with_errors()`: an error reads its node and the node's parents; an update
    reads its node's errors, hence their nodes; a synapse's rule reads the error and the value at its two ends.
    """
    program = Program(circuit)
    bound = program.bind(program.initial_parameters(torch.Generator().manual_seed(seed)))
    predicted = [name for name in circuit.leaves if circuit.parents(name)]
    engine = _Engine(bound, (*(predicted if clamped is None else clamped), *circuit.past))
    rng = Stream(torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        points = [ancestral(bound, rng, 1, _pasts(circuit, rng)) for _ in range(POINTS)]
        seen = responses(engine.respond, points, UNITS)
        grains = {n: g for edge in bound.edges for n, g in _edge_grains(edge, points).items()}
        rows = [
            row for node in bound.nodes for row in _node_rows(circuit, _At(node, bound, points), seen, grains)
        ]
        # nobody answers to a past node: no message goes there
        rows += [_message_row(edge, grains) for edge in bound.edges if edge.parent not in circuit.past]
        rows += [_rule_row(circuit, name, grains, seen, rows) for name in program.learned]
        rows.append(_row_independence(engine, points))
        if kernel is not None:
            rows.append(kernel_row(kernel, seed))
    return tuple(rows)


def _pasts(circuit: Circuit, rng: Stream) -> dict[str, Tensor]:
    """Random values of the past nodes: at their means, whatever multiplies them would hide."""
    like = torch.zeros((), dtype=torch.float64)
    return {name: rng.normal(like.expand(1, *circuit.nodes[name].shape)) for name in circuit.past}


class _Engine(NamedTuple):
    """The engine as a black box: values of all nodes in; errors, drifts and rules out."""

    bound: Bound
    clamped: tuple[str, ...]

    def respond(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The drift under its node's name, the error under ε(n), ∂U/∂θ under the parameter's name."""
        rows = len(next(iter(values.values())))
        target = CircuitTarget(self.bound, Clamp({n: values[n] for n in self.clamped}), rows, learn=True)
        found = target.evaluate({n: values[n] for n in target.free}, False)
        errors = {f"ε({name})": error for name, error in found.aux.errors.items()}
        return {**found.grad, **errors, **found.aux.gradient}


def _reads(seen: Mapping[tuple[str, str], Response], output: str) -> tuple[str, ...]:
    return tuple(source for (name, source), response in seen.items() if name == output and response.any)


class _At(NamedTuple):
    """One node, at some points of its circuit."""

    node: NodePlan
    bound: Bound
    points: list[dict[str, Tensor]]


def _node_rows(
    circuit: Circuit, at: _At, seen: Mapping[tuple[str, str], Response], grains: Mapping[str, "_EdgeGrain"]
) -> list[Row]:
    """Error and update of one node: which nodes move them, through the whole engine."""
    graph, name = circuit.with_errors(), at.node.name
    error, outputs = f"ε({name})", {output for output, _ in seen}
    grain, note = _node_grain(at)
    rows = []
    if error in outputs:
        allowed = tuple(graph.predecessors(error))
        rows.append(Row(f"error of {name}", _reads(seen, error), allowed, grain, note))
    if name in outputs:
        near = {value for e in graph.predecessors(name) for value in graph.predecessors(e)}
        allowed = tuple(n for n in circuit.nodes if n in near)
        coarse = [note] if note else []
        coarse += [grains[e.key].note for e in circuit.children(name) if grains[e.key].note]
        rows.append(
            Row(f"update of {name}", _reads(seen, name), allowed, "node" if coarse else "synapse",
                "; ".join(dict.fromkeys(coarse)))
        )  # fmt: skip
    return rows


def _node_grain(at: _At) -> tuple[Grain, str]:
    """Does the error of a unit, or its own part of the drift, read other units of its node?"""
    node, bound = at.node, at.bound

    def local(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = node.distribution.local(node.params, values["value"], values["prediction"])
        return {"error": found.error} | ({} if found.grad is None else {"own": found.grad})

    inputs = [
        {"value": p[node.name], "prediction": bound.prediction(node, p, 1)[0].contiguous()} for p in at.points
    ]
    if not any(response.beyond_own for response in responses(local, inputs, UNITS).values()):
        return "unit", ""
    why = "full precision" if "cholesky" in node.params else type(node.distribution).__name__.lower()
    return "node", f"{why}: local per node, not per unit"


class _EdgeGrain(NamedTuple):
    """What a message or a rule of one edge reads of the edge's two ends."""

    reads: tuple[str, ...]
    grain: Grain
    note: str


def _edge_grains(edge: EdgePlan, points: list[dict[str, Tensor]]) -> dict[str, _EdgeGrain]:
    """`{parameter or edge key: grain}`: does a synapse's rule, or the message, need more than the two ends?"""
    error = f"ε({edge.child})"

    def back(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        _, saved = edge.forward(values[edge.parent])
        found = edge.pullback(saved, values[error], message=True, learn=True)
        rules = {f"{edge.key}.{name}": gradient for name, gradient in found.gradient.items()}
        return {**rules, edge.key: _present(found.message, values[edge.parent])}

    inputs = [{edge.parent: p[edge.parent], error: _some_error(edge, p[edge.parent])} for p in points]
    seen = responses(back, inputs, UNITS)
    deep = seen[edge.key, edge.parent].beyond_own
    grains = {}
    for name in dict.fromkeys(output for output, _ in seen):
        coarse = deep if name == edge.key else any(seen[name, s].shared for s in (edge.parent, error))
        note = f"{'deep edge' if deep else 'shared weights'}: {PER_NODE}" if coarse else ""
        grains[name] = _EdgeGrain(_reads(seen, name), "node" if coarse else "synapse", note)
    return grains


def _message_row(edge: EdgePlan, grains: Mapping[str, _EdgeGrain]) -> Row:
    found = grains[edge.key]
    ends = (edge.parent, f"ε({edge.child})")
    return Row(f"message of {edge.key}", found.reads, ends, found.grain, found.note)


def _present(message: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if message is None else message


def _some_error(edge: EdgePlan, value: Tensor) -> Tensor:
    share, _ = edge.forward(value)
    return torch.linspace(-1.0, 1.3, share.numel(), dtype=share.dtype).reshape(share.shape)


def _rule_row(
    circuit: Circuit,
    name: str,
    grains: Mapping[str, _EdgeGrain],
    seen: Mapping[tuple[str, str], Response],
    nodes: list[Row],
) -> Row:
    """One learning rule: its reads at the ends of its edge, and whatever else moves it through the engine."""
    parent, _, child = name.split(".")[0].partition("->")
    error = f"ε({child or parent})"
    within = tuple(circuit.with_errors().predecessors(error))
    through = _reads(seen, name)
    if not child:
        own = next(row for row in nodes if row.what == f"error of {parent}")
        return Row(f"rule of {name}", through, within, own.grain, own.note)
    found = grains[name]
    # the child's and its other parents' values reach the rule by way of the error that it reads
    beyond = tuple(n for n in through if n not in within)
    return Row(f"rule of {name}", found.reads + beyond, (parent, error), found.grain, found.note)


def _row_independence(engine: _Engine, points: list[dict[str, Tensor]]) -> Row:
    """Does one image's chain read another's? Rows 0 and 1 are the points; row 0 is moved, row 1 must stay."""

    def second(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        both = {n: torch.cat([values[n], points[1][n]]) for n in values}
        found = engine.respond(both)
        names = [n for n in found if n in values or n.startswith("ε(")]
        return {"the other row": torch.cat([found[n][1].reshape(-1) for n in names])}

    seen = responses(second, [points[0]], UNITS)
    return Row("a row: other rows", _reads(seen, "the other row"), (), "unit")


class _Slope(NamedTuple):
    """A target whose gradient and energy are told apart, as no potential would: what reads the energy shows."""

    grad: Tensor
    height: Tensor
    mobility: Mapping[str, float | Tensor]

    def evaluate(self, z: Tree, energy: bool) -> Point:
        """The gradient z + grad, and when asked the energy height · Σ z, steep enough to turn any acceptance."""
        return Point({"z": self.grad + z["z"]}, 1e6 * self.height * z["z"].sum(1) if energy else None, None)


def kernel_row(kernel: Kernel, seed: int) -> Row:
    """What one unit's step reads: its own state and drift, or the energy of the whole circuit as well.

    Two steps from the same draws; the energy is an input of its own, so an acceptance test shows itself.
    """

    def stepped(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        target = _Slope(values["drift"], values["energy"][0], {})
        rng: Rng = Stream(torch.Generator().manual_seed(seed))
        state = kernel.init(target, rng, {"z": values["state"]})
        for _ in range(2):
            state, _ = kernel.step(target, rng, state)
        return {"step": state.position["z"]}

    generator = torch.Generator().manual_seed(seed + 2)
    state, drift = torch.randn(2, POINTS, 1, 4, generator=generator, dtype=torch.float64)
    height = torch.zeros(1, 1, dtype=torch.float64)
    points = [{"state": s, "drift": d, "energy": height} for s, d in zip(state, drift, strict=True)]
    seen = responses(stepped, points, 4)
    reads = tuple(n for n in ("state", "drift") if seen["step", n].any)
    others = any(seen["step", n].beyond_own for n in ("state", "drift"))
    whole = seen["step", "energy"].any
    reads += (("units elsewhere",) if others else ()) + (("energy of the circuit",) if whole else ())
    note = "its acceptance compares energies of the whole circuit" if others or whole else ""
    return Row("kernel's step of a unit", reads, ("state", "drift"), "circuit" if note else "unit", note)
