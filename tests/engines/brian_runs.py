"""Short runs of a Brian2 network over many independent rows, and the linear oracles that they are held against."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from pcsim.circuit.read import load_circuit
from pcsim.engines.brian2.network import Dynamics
from pcsim.engines.brian2.plan import plan_network
from pcsim.engines.brian2.simulation import Simulation, State
from pcsim.engines.torch.program import Params, Program
from pcsim.engines.torch.target import Clamp
from pcsim.inference.noise import Filter, Noise
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Rng

F64 = torch.float64
Array = NDArray[np.float64]


def parameters(description: dict[str, Any]) -> Params:
    """The parameters that the description states (and seeded draws of those that it does not)."""
    return Program(load_circuit(description)).initial_parameters(torch.Generator().manual_seed(0))


def network(
    description: dict[str, Any], dynamics: Dynamics, rows: int = 1, held: dict[str, Any] | None = None
) -> Simulation:
    """The network with some nodes held at one value in every row, everything else at 0."""
    circuit = load_circuit(description)
    values = {
        n: torch.as_tensor(np.asarray(v, dtype=float)).expand(rows, *circuit.nodes[n].shape).clone()
        for n, v in (held or {}).items()
    }
    plan = plan_network(circuit, parameters(description), Clamp(values), rows, dynamics)
    simulation = Simulation(plan)
    simulation.start({n: torch.zeros(rows, *s, dtype=F64) for n, s in plan.shapes.items()})
    return simulation


def stream(simulation: Simulation, noise: Noise | None = None, seed: int = 0) -> Rng:
    """Seeded draws, shaped as `noise` says."""
    source = seed_stream(seed, "biology")
    if noise is None:
        return source
    shaped = Filter(source, noise)
    shaped.leaves(simulation.plan.drawing(simulation.plan.clamp))
    return shaped


def path(simulation: Simulation, node: str, steps: int, rng: Rng, *, error: bool = False) -> Array:
    """The value (or error) of one node after steps 0 … n, `[step, row, *shape]`."""
    kept: list[Array] = []

    def visit(step: int, values: State, errors: State) -> None:
        kept.append((errors if error else values)[node].copy())

    simulation.run(rng, steps, visit)
    return np.stack(kept)


def assert_covariance(samples: Array, expected: Array) -> None:
    """Of independent Gaussian rows `[row, d]`: every entry within 4 standard errors of what is expected."""
    expected = np.atleast_2d(expected)
    found = np.atleast_2d(np.cov(samples.reshape(len(samples), -1).T))
    spread = np.outer(np.diag(expected), np.diag(expected)) + expected**2
    np.testing.assert_array_less(np.abs(found - expected), 4 * np.sqrt(spread / len(samples)))


def euler_covariance(drift: Array, noise: Array, dt: float) -> Array:
    """S of y ← y + dt A y + √dt B ξ, the exact law of Euler's chain: S = M S Mᵀ + dt B Bᵀ, M = 1 + dt A."""
    step = np.eye(len(drift)) + dt * drift
    assert np.abs(np.linalg.eigvals(step)).max() < 1
    found: Array = solve_discrete_lyapunov(step, dt * noise @ noise.T)
    return found
