"""Law 3 on circuits: E g = 0 and E z g = T + (γ/2) G E g² for every free unit, and which modes break it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import CircuitTarget, Clamp
from pcsim.inference.chain import run_chain
from pcsim.inference.kernels import langevin
from pcsim.inference.preconditioners import corrected, frozen, printed
from pcsim.inference.rng import seed_stream
from pcsim.inference.types import Kernel
from tests.exact.oracle_circuits import F64, random_description


def coupled(rows: int) -> CircuitTarget:
    """Nonlinear, branching, with a student-t node, a skip edge and a partly held Gaussian leaf."""
    kinds = ("matrix", "student_t")
    description = random_description(3, kinds, ("bernoulli", "number"), ("tanh", "softplus"))
    program = Program(load_circuit(description))
    bound = program.bind(program.initial_parameters(torch.Generator().manual_seed(2)))
    rng = np.random.default_rng(0)
    nodes = program.circuit.nodes
    values = {n: torch.from_numpy(rng.integers(0, 2, nodes[n].shape)).to(F64) for n in ("n2", "n3")}
    mask = torch.zeros(nodes["n3"].shape, dtype=F64)
    mask[0] = 1.0
    held = {n: v.expand(rows, *v.shape).clone() for n, v in values.items()}
    return CircuitTarget(bound, Clamp(held, {"n3": mask}), rows)


def balances(
    kernel: Kernel, target: CircuitTarget, step: float, window: tuple[int, int], spread: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Per row and free unit, means over a window of steps of g and of z g − (γ/2) G g².

    Chains start from N(0, spread²). Not `run_chain`: its guard would stop `printed`.
    """
    skip, steps = window
    stream = seed_stream(3, "virial")
    shapes = {n.name: n.shape for n in target.bound.nodes}
    zero = {n: torch.zeros(target.rows, *shapes[n], dtype=F64) for n in target.free}
    state = kernel.init(target, stream, target.start({n: spread * stream.normal(z) for n, z in zero.items()}))
    free = torch.cat(
        [(torch.ones(shapes[n]) * target.mobility.get(n, 1.0)).flatten() > 0 for n in target.free]
    )
    pull = torch.zeros(target.rows, int(free.sum()), dtype=F64)
    balance = torch.zeros_like(pull)
    for t in range(steps):
        state, _info = kernel.step(target, stream, state)
        if t < skip:
            continue
        g = torch.cat([state.point.grad[n] for n in target.free], 1)
        z = torch.cat([state.position[n] for n in target.free], 1)
        drift = (
            state.scaling.drift if state.scaling is not None else {n: torch.ones_like(zero[n]) for n in zero}
        )
        factor = torch.cat([drift[n] for n in target.free], 1)
        pull += g[:, free] / (steps - skip)
        balance += (z * g - step / 2 * factor * g * g)[:, free] / (steps - skip)
    return pull, balance


@pytest.mark.parametrize("mode", ["none", "frozen"])
def test_virial_holds_on_a_nonlinear_circuit(mode: str) -> None:
    """Oracle: the identity, at a step whose bias is large; 5 s.e. of 1000 independent chains, every unit."""
    target, step = coupled(1000), 0.25
    kernel = langevin(step, 1.0, frozen(20) if mode == "frozen" else None)
    pull, balance = balances(kernel, target, step, (150, 450))
    for mean, expected in ((pull, 0.0), (balance, 1.0)):
        assert ((mean.mean(0) - expected).abs() < 5 * mean.std(0) / len(mean) ** 0.5).all()


def test_virial_sees_the_overheating_of_corrected_on_that_circuit() -> None:
    """Oracle: `corrected` at β = .25 lacks Γ: every unit of the same circuit is 10 s.e. and more above 1."""
    target, step = coupled(1000), 0.05
    _, balance = balances(langevin(step, 1.0, corrected(0.25)), target, step, (300, 500))
    surplus = (balance.mean(0) - 1) / (balance.std(0) / len(balance) ** 0.5)
    assert (surplus > 10).all()


def factorised(rows: int, precision: float) -> CircuitTarget:
    """z with two children, each unit seen by its own: the posterior's units are independent."""
    eye = np.diag([1.0, 0.7]).tolist()
    description: dict[str, Any] = {
        "nodes": {
            "z": {"shape": [2], "distribution": "gaussian"},
            "x": {"shape": [2], "distribution": {"gaussian": {"precision": precision}}},
            "y": {"shape": [2], "distribution": "gaussian"},
        },
        "edges": [
            {"from": "z", "to": "x", "layers": [{"linear": {"weight": np.eye(2).tolist()}}]},
            {"from": "z", "to": "y", "layers": [{"linear": {"weight": eye}}]},
        ],
    }
    program = Program(load_circuit(description))
    bound = program.bind(program.initial_parameters(torch.Generator()))
    held = {n: torch.zeros(rows, 2, dtype=F64) for n in ("x", "y")}
    return CircuitTarget(bound, Clamp(held), rows)


def test_corrected_doubles_the_temperature_of_a_circuit() -> None:
    """Oracle: as β, γ → 0 the density is ∝ π (|g| + ε): E z g = (2a + ε)/(a + ε), a = √(2λ/π), λ per unit.

    Allowance: 5 s.e., and ten per cent for the step size and the memory of β = .25.
    """
    rows, step, epsilon = 2000, 0.01, 0.01
    target = factorised(rows, 1.0)
    _, balance = balances(langevin(step, 1.0, corrected(0.25, epsilon)), target, step, (500, 900))
    a = torch.sqrt(2 * torch.tensor([3.0, 2.49], dtype=F64) / math.pi)
    expected = (2 * a + epsilon) / (a + epsilon)
    assert ((balance.mean(0) - expected).abs() < 0.2 + 5 * balance.std(0) / rows**0.5).all()


def test_printed_is_far_off_on_a_circuit() -> None:
    """Oracle: E z g = 1 + (γ/2) G E g² for a sampler; on a stiff circuit (λ = 100) `printed` is beyond 10.

    `frozen` with the same step, chains and steps holds the identity.
    """
    target, step = factorised(500, 98.0), 0.01
    _, balance = balances(langevin(step, 1.0, printed(0.25)), target, step, (20, 40), 0.1)
    assert (balance.abs().median(0).values > 10).all()
    _, valid = balances(langevin(step, 1.0, frozen(20)), target, step, (150, 400), 0.1)
    assert ((valid.mean(0) - 1).abs() < 5 * valid.std(0) / 500**0.5).all()


def test_held_units_of_a_masked_node_never_move() -> None:
    """Oracle: they stand at the data, to the bit, also with a preconditioner."""
    target = coupled(5)
    stream = seed_stream(1)
    start = target.start({n.name: torch.ones(5, *n.shape, dtype=F64) for n in target.bound.nodes})
    z = run_chain(langevin(0.1, 1.0, frozen(5)), target, stream, start, 30).position["n3"]
    assert torch.equal(z[:, 0], target.clamp.values["n3"][:, 0])
    assert not torch.equal(z[:, 1], start["n3"][:, 1])
