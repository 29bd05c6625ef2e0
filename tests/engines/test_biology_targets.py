"""Delays, noise on errors, split and tired errors, and learning on the compiled targets: the numbers of numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcsim.circuit.read import load_circuit
from pcsim.engines.brian2.network import Dynamics, Plan, Plasticity
from pcsim.engines.brian2.plan import plan_network
from pcsim.engines.brian2.simulation import Simulation, State
from pcsim.engines.brian2.standalone import run_standalone
from pcsim.engines.torch.target import Clamp
from pcsim.inference.rng import seed_stream
from tests.engines.brian_runs import F64, Array, parameters

ROWS, STEPS = 2, 60
START = {n: torch.full((ROWS, 2), v, dtype=F64) for n, v in (("a", 0.3), ("b", -0.4), ("x", 0.0))}


def everything() -> dict[str, Any]:
    """Two delays, leaky errors, one with split populations and fatigue, a learned precision and a learned mean."""
    nodes = {
        "a": {"shape": [2], "distribution": "gaussian", "mean": 0.5, "learn": ["mean"], "error_tau": "4 ms"},
        "b": {"shape": [2], "distribution": {"gaussian": {"precision": 2.0}}, "error_tau": "3 ms",
              "errors": {"gain": [1.5, 0.5], "baseline": 0.3}, "adaptation": {"tau": "20 ms", "strength": 0.5}},
        "x": {"shape": [2], "distribution": {"gaussian": {"precision": [1.0, 2.0]}}, "learn": ["precision"],
              "error_tau": "4 ms"},
    }  # fmt: skip
    edges = [
        {"from": "a", "to": "x", "layers": ["tanh", {"linear": 3}, "softplus", {"linear": 2}], "delay": "3 ms"},
        {"from": "a", "to": "b", "layers": [{"linear": 2}], "delay": "1 ms"},
        {"from": "b", "to": "x", "layers": [{"linear": 2}, "tanh"]},
    ]  # fmt: skip
    return {"nodes": nodes, "edges": edges}


def planned(plasticity: Plasticity | None) -> Plan:
    circuit = load_circuit(everything())
    clamp = Clamp({"x": torch.tensor([[0.7, -1.2], [0.1, 0.4]], dtype=F64)})
    dynamics = Dynamics(1e-3, 0.05, noise_on="errors", plasticity=plasticity)
    return plan_network(circuit, parameters(everything()), clamp, ROWS, dynamics)


class Kept:
    """A visitor that keeps everything."""

    def __init__(self) -> None:
        self.steps: list[Array] = []

    def __call__(self, step: int, values: State, errors: State) -> None:
        self.steps.append(np.stack([v.copy() for v in (*values.values(), *errors.values())]))


def simulated(plan: Plan, codegen: str) -> tuple[Array, dict[str, torch.Tensor]]:
    simulation, kept = Simulation(plan, codegen), Kept()
    simulation.start(START)
    simulation.run(seed_stream(0, "all"), STEPS, kept)
    return np.stack(kept.steps), simulation.learned(parameters(everything()))


@pytest.mark.slow
def test_standalone_has_the_biology_of_numpy(tmp_path: Path) -> None:
    plan, kept = planned(None), Kept()
    run_standalone(plan, START, seed_stream(0, "all"), STEPS, kept, tmp_path / "build")
    expected = simulated(plan, "numpy")[0]
    np.testing.assert_allclose(np.stack(kept.steps), expected, atol=1e-11)
    assert np.abs(expected[-1] - expected[0]).max() > 0.1


@pytest.mark.slow
def test_cython_learns_what_numpy_learns() -> None:
    plan = planned(Plasticity(0.02, 0.01, every=3))
    (found, learned), (expected, truth) = (simulated(plan, target) for target in ("cython", "numpy"))
    np.testing.assert_allclose(found, expected, atol=1e-11)
    begun = parameters(everything())
    assert {p.name for p in plan.learned} >= {"a.mean", "x.log_precision", "a->x.1.weight", "a->x.1.bias"}
    for name, value in truth.items():
        np.testing.assert_allclose(learned[name].numpy(), value.numpy(), atol=1e-11)
    assert all((truth[p.name] != begun[p.name]).any() for p in plan.learned)
