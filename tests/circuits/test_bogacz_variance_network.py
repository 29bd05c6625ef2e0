"""bogacz_variance inside the Brian2 network: the variance learned while φ is sampled, at T = 1 and at T = 0."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.engines.torch.target import Clamp
from pcsim.inference.rng import seed_stream
from tests.circuits.shipped import described, run_study
from tests.circuits.test_bogacz_variance import KEY, fixed_point, spread
from tests.exact.gaussian_circuits import F64

pytest.importorskip("brian2", reason="the optional dependency brian2 is not installed")

STEP, ROWS = 0.1, 200


def learned(
    start: float, second: float, temperature: float, steps: int, rate: float, seed: int = 0
) -> list[float]:
    """Σ after every step, on data 5 ± √s, half of the rows each."""
    from pcsim.engines.brian2.network import Dynamics, Plasticity
    from pcsim.engines.brian2.plan import plan_network
    from pcsim.engines.brian2.simulation import Simulation

    description: dict[str, Any] = described("bogacz_variance")
    description["nodes"]["phi"]["distribution"]["gaussian"]["precision"] = 1 / start
    circuit = load_circuit(description)
    params = Program(circuit).initial_parameters(torch.Generator().manual_seed(0))
    data = 5 + math.sqrt(second) * torch.tensor([1.0, -1.0], dtype=F64).repeat(ROWS // 2)[:, None]
    dynamics = Dynamics(1e-3, STEP, temperature, plasticity=Plasticity(rate))
    simulation = Simulation(plan_network(circuit, params, Clamp({"u": data}), ROWS, dynamics))
    simulation.start({"phi": data})
    kept: list[float] = []

    def visit(step: int, values: Any, errors: Any) -> None:
        kept.append(float(simulation.assembly.parameter(simulation.plan.learned[0])[0]))

    simulation.run(seed_stream(seed, "variance"), steps, visit)
    assert math.exp(-float(simulation.learned(params)[KEY])) == pytest.approx(kept[-1], rel=1e-12)
    return kept


@pytest.mark.parametrize("second", [3.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_the_network_finds_the_variance_that_torch_finds(second: float) -> None:
    """Oracle: the fixed point of the chain with its own step, near the truth s − 1; 4 s.e. of 5 runs from two sides."""
    exact = fixed_point(second, STEP)
    found = [
        np.mean(learned(exact * (0.8 if seed % 2 else 1.2), second, 1.0, 3000, 0.05, seed)[1500:])
        for seed in range(5)
    ]  # fmt: skip
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(exact, abs=4 * error)
    assert error < 0.05 * exact


def test_vanilla_pc_loses_a_variance_of_two() -> None:
    """T = 0, s = 3: where the update is slow, Σ += α(E(φ − 5)²/Σ − 1) at φ's mode, and nothing holds it above 0.

    Oracle: that recursion, to the lag of φ behind Σ, which is of the order of α.
    """
    rate = 0.002
    found = learned(2.0, 3.0, 0.0, 2000, rate)
    # the first hundred steps bring φ from the data to its mode
    sigma, expected = found[100], []
    for _ in range(1900):
        expected.append(sigma)
        sigma += rate * (spread(sigma, 3.0, 0.0, STEP) / sigma - 1)
    np.testing.assert_allclose(found[100:-1], expected, rtol=5 * rate)
    assert (np.diff(found[100:]) < 0).all()
    assert found[-1] < 0.75 * found[100]


@pytest.mark.slow
def test_study(tmp_path: Path) -> None:
    """Oracle: the fixed point of the chain at its step, .02, within 4 standard deviations of Σ about it.

    Σ relaxes at α s, s the slope of 1 − E(φ − 5)²/Σ, under the mean of 500 chains of (φ − 5)²/Σ, of variance
    (2 v² + 4 m² v)/(500 Σ²) and with a memory of 1/γλ steps: variance α · that · memory/s.
    """
    step, rate, chains = 0.02, 0.003, 500
    run_study("bogacz_variance_network", tmp_path / "run")
    found = math.exp(-float(load_file(tmp_path / "run" / "checkpoints" / "weights.safetensors")[KEY]))
    exact = fixed_point(3.0, step)
    stiffness = 1 + 1 / exact
    mean, variance = math.sqrt(3) / stiffness, 1 / stiffness
    kick = (2 * variance**2 + 4 * mean**2 * variance) / (chains * exact**2)
    below, above = (spread(v, 3.0, 1.0, step) / v for v in (exact - 0.01, exact + 0.01))
    slope = (below - above) / 0.02
    error = math.sqrt(rate * kick / (step * stiffness * slope))
    assert math.exp(-rate * slope * 8000) < error
    assert found == pytest.approx(exact, abs=4 * error)
    assert error < 0.05
