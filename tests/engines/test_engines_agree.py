"""Law 5: with the same draws, the torch engine and the Brian2 engine take the same steps, to rounding."""

from pathlib import Path

import numpy as np
import pytest

from pcsim.engines.brian2.plan import plan_network
from pcsim.engines.brian2.simulation import Simulation, State
from pcsim.engines.brian2.standalone import run_standalone
from pcsim.inference.rng import Replay
from tests.engines.random_circuits import ROWS, Case, Trajectory, case, conv_case, torch_run

STEPS = 200
AGREEMENT = 1e-9


class Compared:
    """A visitor: the largest difference from the torch trajectory, over nodes, errors and steps."""

    def __init__(self, expected: Trajectory) -> None:
        self.expected, self.worst, self.steps = expected, 0.0, 0

    def __call__(self, step: int, values: State, errors: State) -> None:
        assert set(errors) == set(self.expected.errors)
        for found, truth in ((values, self.expected.values), (errors, self.expected.errors)):
            for name, trajectory in truth.items():
                difference = np.abs(found[name] - trajectory[step]).max()
                assert np.isfinite(difference)
                self.worst = max(self.worst, float(difference))
        self.steps += 1


def in_python(c: Case, codegen: str) -> Compared:
    expected = torch_run(c, STEPS)
    simulation = Simulation(plan_network(c.circuit, c.params, c.clamp, ROWS, c.dynamics), codegen)
    simulation.start(c.start)
    compared = Compared(expected)
    simulation.run(Replay(expected.tape), STEPS, compared)
    assert compared.steps == STEPS + 1
    return compared


# 35 and 56 have masked Bernoulli and categorical leaves.
CASES = [
    *(pytest.param(case, seed, id=f"random-{seed}") for seed in (*range(16), 35, 56)),
    (conv_case, 1),
    (conv_case, 2),
]


@pytest.mark.parametrize(("make", "seed"), CASES)
def test_numpy_takes_the_steps_of_torch(make, seed: int) -> None:
    assert in_python(make(seed), "numpy").worst < AGREEMENT


@pytest.mark.slow
@pytest.mark.parametrize(("make", "seed"), [(case, 2), (case, 5), (conv_case, 2)])
def test_standalone_takes_the_steps_of_torch(make, seed: int, tmp_path: Path) -> None:
    c = make(seed)
    expected = torch_run(c, STEPS)
    compared = Compared(expected)
    plan = plan_network(c.circuit, c.params, c.clamp, ROWS, c.dynamics)
    run_standalone(plan, c.start, Replay(expected.tape), STEPS, compared, tmp_path / "build")
    assert compared.steps == STEPS + 1
    assert compared.worst < AGREEMENT


@pytest.mark.slow
def test_cython_takes_the_steps_of_torch() -> None:
    assert in_python(case(2), "cython").worst < AGREEMENT
