"""What a recording pass is, and what its trace holds: one circuit, a few images, phases, probes."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsim.circuit.distributions import DiscretisedGaussian, Gaussian, StudentT
from pcsim.circuit.graph import Circuit
from pcsim.engines.torch.program import NodePlan, Params, Program
from pcsim.engines.torch.starts import Map
from pcsim.errors import StudyError, nearest
from pcsim.inference.types import Kernel
from pcsim.record import Coord, Layout, Variable, block_size, phases, recorded_steps
from pcsim.record.probes import probe

FLOATS = {torch.float32: "float32", torch.float64: "float64"}


class Wanted(NamedTuple):
    """One probe of a study: what, of which nodes and units, every how many steps."""

    read: tuple[str, ...]
    nodes: tuple[str, ...] | None = None
    units: tuple[int, ...] | None = None
    every: int = 1


class Session(NamedTuple):
    """One circuit at one set of parameters, watched while it infers a few images."""

    program: Program
    params: Params
    kernel: Kernel
    start: str | Map
    values: Mapping[str, Tensor]
    """Clamped nodes, `[image, *shape]`."""
    masks: Mapping[str, Tensor]
    stimulus: tuple[str, ...]
    """Clamped nodes that are released in the spontaneous phase."""
    n_chain: int
    spontaneous: int
    steps: int
    probes: tuple[Wanted, ...]
    mobility: Mapping[str, float] = {}
    scalars: Mapping[str, float] = {}
    """Numbers that stand at the root of the trace: `step_size`, `temperature`."""

    @property
    def n_image(self) -> int:
        """Number of images."""
        return len(next(iter(self.values.values()))) if self.values else 1


def layout_of(
    session: Session,
    *,
    dtype: str,
    block: int | None = None,
    updates: tuple[int, ...] | None = None,
    coords: tuple[Coord, ...] = (),
    attrs: Mapping[str, Any] | None = None,
) -> Layout:
    """What the trace of a session holds, before a step is taken."""
    circuit = session.program.circuit
    variables = [v for wanted in session.probes for v in _variables(circuit, wanted, dtype)]
    variables += _static(session, dtype)
    finest = min((w.every for w in session.probes), default=1)
    steps = recorded_steps(-session.spontaneous, session.steps, finest)
    fitting = block_size(tuple(variables), session.n_image * session.n_chain, steps)
    return Layout(
        tuple(variables), session.n_image, session.n_chain, steps,
        block=fitting if block is None else min(block, len(steps)), updates=updates,
        coords=(phases(steps), *coords), attrs=attrs or {},
    )  # fmt: skip


def _variables(circuit: Circuit, wanted: Wanted, dtype: str) -> list[Variable]:
    found = []
    for name in wanted.read:
        kind = probe(name)
        if kind.root and not wanted.nodes:
            found.append(
                Variable(name, every=wanted.every, dtype=dtype, units=kind.units, long_name=kind.long_name)
            )
        if not kind.node:
            continue
        for node_name in wanted.nodes or tuple(circuit.nodes):
            if node_name not in circuit.nodes:
                raise StudyError(f"record.probes: no node {node_name!r}; {nearest(node_name, circuit.nodes)}")
            shape = circuit.nodes[node_name].shape if kind.per_unit else ()
            select = wanted.units if kind.per_unit else None
            if select is not None:
                if max(select) >= shape[0]:
                    raise StudyError(f"record.probes: node {node_name} has units 0 to {shape[0] - 1}")
                shape = (len(select), *shape[1:])
            found.append(
                Variable(
                    f"{node_name}/{name}", shape, wanted.every, dtype=dtype, select=select,
                    units=kind.units, long_name=kind.long_name,
                )
            )  # fmt: skip
    return found


def _static(session: Session, dtype: str) -> list[Variable]:
    circuit = session.program.circuit
    found = [
        Variable(f"{name}/observed", circuit.nodes[name].shape, None, ("image",), dtype, per_update=False,
                 long_name="what the node is clamped to")
        for name in session.values
    ]  # fmt: skip
    recorded = {name for wanted in session.probes for name in wanted.read}
    found += [
        Variable(name, (), None, (), "float64", long_name=name.replace("_", " "))
        for name in session.scalars
        if name not in recorded
    ]
    for node in session.program.bind(session.params).nodes:
        value = precision_of(node)
        if value is not None:
            axes = ("unit", "other_unit") if value.dim() == 2 else None
            found.append(
                Variable(f"{node.name}/precision", tuple(value.shape), None, (), "float64", axes,
                         long_name="precision of the node's distribution")
            )  # fmt: skip
    if any("energy" in wanted.read for wanted in session.probes):
        found.append(
            Variable("energy_minimum", (), None, ("image",), "float64", units="nat",
                     long_name="least energy that descents from the chains' ends find")
        )  # fmt: skip
    for edge in circuit.encoder if {e.parent for e in circuit.encoder} <= set(session.values) else ():
        shape = circuit.nodes[edge.child].shape
        for name, text in (("mean", "mean of q(z|x)"), ("scale", "standard deviation of q(z|x)")):
            found.append(
                Variable(f"encoder/{edge.child}/{name}", shape, None, ("image",), dtype, long_name=text)
            )
    return found


def precision_of(node: NodePlan) -> Tensor | None:
    """The precision Π of a node: a number, per unit, or a matrix; None where the distribution has none."""
    distribution, params = node.distribution, node.params
    if isinstance(distribution, DiscretisedGaussian):
        log_scale = params.get("log_scale")
        sigma = torch.tensor(distribution.scale) if log_scale is None else 1 / 255 + log_scale.exp()
        return sigma.double() ** -2
    if not isinstance(distribution, Gaussian | StudentT):
        return None
    if "cholesky" in params:
        stored = params["cholesky"]
        factor = stored.tril(-1) + stored.diagonal().exp().diag_embed()
        return (factor @ factor.T).double()
    if "log_precision" in params:
        return params["log_precision"].exp().double()
    if "precision" in params:
        return params["precision"].double()
    return torch.tensor(distribution.precision, dtype=torch.float64)


def attributes(circuit: Circuit, **more: Any) -> dict[str, Any]:
    """Root attributes of a trace: the circuit as JSON, and whatever the caller knows."""
    return {"circuit": json.dumps(circuit.spec), **more}


def label_coord(labels: Tensor | None) -> tuple[Coord, ...]:
    """The images' labels as a coordinate, where there are any."""
    if labels is None:
        return ()
    return (
        Coord("label", ("image",), labels.cpu().numpy().astype(np.int64), long_name="class of the image"),
    )
