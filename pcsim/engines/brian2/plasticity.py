"""Learning inside the network: what may learn, the mean over rows, and the learned parameters in torch's form."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsim.circuit.distributions import Gaussian
from pcsim.circuit.graph import Circuit
from pcsim.circuit.layers.linear import Linear
from pcsim.engines.brian2.network import AVERAGE, Learned, Plan, Plasticity
from pcsim.engines.brian2.unroll import SUMS, Floats
from pcsim.engines.torch.program import Program
from pcsim.errors import CircuitError, Divergence, nearest
from pcsim.inference import limits

PRECISION = "log_precision"


def learned_names(circuit: Circuit, plasticity: Plasticity | None) -> frozenset[str]:
    """The parameters that move, by their names in torch.

    Raises `CircuitError` for a name that the circuit does not let learn, or that no local rule moves: weights that
    a convolution shares between places, full precisions, and parameters of distributions other than the Gaussian.
    """
    if plasticity is None:
        return frozenset()
    limits.positive("plasticity.step_size", plasticity.step_size)
    if plasticity.precision_step_size is not None:
        limits.positive("plasticity.precision_step_size", plasticity.precision_step_size)
    if plasticity.every < 1:
        raise CircuitError(f"plasticity.every: {plasticity.every} must be a number of steps, 1 or more")
    known = Program(circuit).learned
    asked = known if plasticity.parameters is None else plasticity.parameters
    for name in asked:
        if name not in known:
            raise CircuitError(f"plasticity.parameters: no {name!r} to learn; {nearest(name, known)}")
        _check_local(circuit, name)
    if not asked:
        raise CircuitError(
            "plasticity: the circuit has nothing to learn; give it weights, or learn: [precision]"
        )
    return frozenset(asked)


def _check_local(circuit: Circuit, name: str) -> None:
    for edge in circuit.edges:
        if name.startswith(f"{edge.key}."):
            index = int(name.removeprefix(f"{edge.key}.").split(".")[0])
            layer = edge.layers[index]
            if isinstance(layer, SUMS) and not isinstance(layer, Linear):
                raise CircuitError(
                    f"{name}: a {type(layer).__name__} shares one weight between many synapses, which no local rule "
                    "keeps equal; learn on torch, or name what learns in plasticity.parameters"
                )
            return
    node, _, parameter = name.partition(".")
    if parameter not in ("mean", PRECISION) or (
        parameter == PRECISION and not isinstance(circuit.nodes[node].distribution, Gaussian)
    ):
        raise CircuitError(
            f"{name}: the local rule is that of a Gaussian's precision per unit; learn it on torch, or name what "
            "learns in plasticity.parameters"
        )


def rates_of(plasticity: Plasticity | None) -> dict[str, float]:
    """The numbers that learning texts name."""
    if plasticity is None:
        return {}
    precision = plasticity.precision_step_size
    return {
        "learning_step": plasticity.step_size,
        "precision_step": plasticity.step_size if precision is None else precision,
        "every": plasticity.every,
    }


def average_rows(brian2: Any, plan: Plan, arrays: Mapping[Learned, Any], clock: Any) -> Any:
    """The operation that gives every row the mean of what the rows have learned in this step.

    arrays: a function per parameter that returns the live array, `[rows · n]`.
    """

    def average() -> None:
        for place, array in arrays.items():
            live = array().reshape(1 if place.pooled else plan.rows, -1)
            if place.pooled:
                live[...] = live.mean()
            elif plan.rows > 1:
                live[...] = live.mean(0)
            if place.variable == "sigma" and not (live > 0).all():
                raise Divergence(
                    round(float(clock.t / clock.dt)), place.name.partition(".")[0], float("nan"),
                    "a variance fell to 0 or below: a smaller plasticity.precision_step_size",
                )  # fmt: skip

    return brian2.NetworkOperation(average, clock=clock, when="groups", order=AVERAGE, name="average_rows")


def learned_parameters(
    plan: Plan, arrays: Mapping[Learned, Floats], params: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All parameters in torch's names, shapes and dtype, with those that the network has learned.

    arrays: `[rows · n]` per parameter, as they stand; params: those that the network began with.
    """
    connections = {c.name: c for c in plan.synapses}
    found = {name: value.clone() for name, value in params.items()}
    for place, array in arrays.items():
        one = torch.from_numpy(np.array(array[: len(array) // plan.rows]))
        old = params[place.name]
        if place.variable == "w":
            at = connections[place.owner]
            dense = torch.zeros(old.shape, dtype=torch.float64)
            dense[torch.from_numpy(at.post), torch.from_numpy(at.pre)] = one
            one = dense
        elif place.variable == "sigma":
            one = -one.log()[:1] if place.pooled else -one.log()
        found[place.name] = one.reshape(old.shape).to(old)
    return found


def places(
    plasticity: Plasticity | None, names: frozenset[str], candidates: Collection[Learned]
) -> tuple[Learned, ...]:
    """Where the learned parameters live; those of discrete leaves that drop out stay as they are.

    Raises `CircuitError` for one of these that was asked for by name.
    """
    there = {place.name for place in candidates}
    for name in sorted(names - there) if plasticity is not None and plasticity.parameters is not None else ():
        raise CircuitError(
            f"plasticity.parameters: {name}: its node is discrete and not clamped, so nothing can be learned there"
        )
    return tuple(place for place in candidates if place.name in names)
