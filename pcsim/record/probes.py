"""What a probe can read at one step of a chain; a new one is a function and a line in `PROBES`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from pcsim.errors import StudyError, nearest

Tree = Mapping[str, Tensor]


class Moment(NamedTuple):
    """One step as readers see it; rows first everywhere."""

    values: Tree
    """z per node that has a value at this step, `[row, *shape]`."""
    grad: Tree
    """∂U/∂z of the free nodes."""
    errors: Tree
    """ε of the nodes that take part in the energy."""
    energies: Tree
    """−log p(z_n | η_n) per node, `[row]`; empty when the energy was not asked for."""
    energy: Tensor | None
    mobility: Tree
    """G per free node where the kernel has a preconditioner."""
    acceptance: Tensor | None
    step_size: Tensor | None
    """`[row]`, where the kernel adapts it."""


class Probe(NamedTuple):
    """How a probe reads: `read(moment, node)`, `[row, *shape]` or `[row]`, None where there is nothing."""

    read: Callable[[Moment, str], Tensor | None]
    long_name: str
    per_unit: bool = False
    """One number per unit of a node (`z/value`); otherwise one per row."""
    root: bool = False
    """Stands at the root of the trace."""
    node: bool = False
    """Stands in each node's group."""
    units: str = "1"
    energy: bool = False
    """Needs the energy, which the target computes only when asked."""


def gradient_norm(moment: Moment, node: str) -> Tensor | None:
    """√Σ (∂U/∂z)² over all free units."""
    squares = [g.flatten(1).square().sum(1) for g in moment.grad.values()]
    return sum(squares[1:], squares[0]).sqrt() if squares else None


def energy(moment: Moment, node: str) -> Tensor | None:
    """U at the root (node is empty), −log p(z_n | η_n) in a node's group."""
    return moment.energies.get(node) if node else moment.energy


PROBES: dict[str, Probe] = {
    "value": Probe(lambda m, n: m.values.get(n), "state of the value nodes", per_unit=True, node=True),
    "error": Probe(
        lambda m, n: m.errors.get(n), "precision-weighted prediction error", per_unit=True, node=True
    ),
    "drift": Probe(
        lambda m, n: -m.grad[n] if n in m.grad else None, "local drift, minus dU/dz", per_unit=True, node=True
    ),
    "mobility": Probe(lambda m, n: m.mobility.get(n), "preconditioner G", per_unit=True, node=True),
    "energy": Probe(energy, "energy, minus log p", root=True, node=True, units="nat", energy=True),
    "gradient_norm": Probe(gradient_norm, "norm of dU/dz", root=True),
    "acceptance": Probe(lambda m, n: m.acceptance, "Metropolis acceptance probability", root=True),
    "step_size": Probe(lambda m, n: m.step_size, "step size of each chain", root=True),
}


def probe(name: str) -> Probe:
    """The probe of that name; raises `StudyError` with the nearest valid one."""
    if name not in PROBES:
        raise StudyError(f"no probe {name!r}; {nearest(name, PROBES)}")
    return PROBES[name]
