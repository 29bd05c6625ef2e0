"""bogacz_variance: the learned variance at T = 1 and at T = 0, update by update, and where it ends."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import brentq

from pcsim.inference.kernels import langevin
from pcsim.inference.rng import Stream
from pcsim.inference.types import Rng
from pcsim.learning.draws import Draws
from pcsim.learning.learner import Batch, Method, learn_batch
from tests.circuits.shipped import described, learner_of, run_study
from tests.exact.gaussian_circuits import F64, Orthogonal

KEY = "phi.log_precision"
RATE = 0.3


def spread(variance: float, second: float, temperature: float, step: float) -> float:
    """E(φ − 5)² of the chain: s/λ² of its mean, and T/(λ(1 − γλ/2)) around it, λ = 1 + 1/Σ."""
    rate = 1 + 1 / variance
    return second / rate**2 + temperature / (rate * (1 - step * rate / 2))


def learn(start: float, second: float, temperature: float, step: float, updates: int) -> tuple[list, list]:
    """Σ after each update by the learner and by ln Σ ← ln Σ − η/2 (1 − E(φ − 5)²/Σ), on data 5 ± √s."""
    made = learner_of(described("bogacz_variance"), RATE)
    made.params[KEY].fill_(-math.log(start))
    data = 5 + math.sqrt(second) * torch.tensor([[1.0], [-1.0]], dtype=F64)
    found, exact, variance = [], [], start
    for update in range(updates):
        slowest = 1 - step * (1 + 1 / variance)
        steps = math.ceil(math.log(1e-10) / math.log(abs(slowest)))
        chains = steps + 3 if temperature else 1
        rng: Rng = Orthogonal(chains, images=2) if temperature else Stream(torch.Generator().manual_seed(0))
        method = Method(langevin(step, temperature), steps, "prior", Draws("final"), n_chain=chains)
        learn_batch(made, method, Batch({"u": data}, {}, torch.arange(2)), rng, update)
        variance *= math.exp(-RATE / 2 * (1 - spread(variance, second, temperature, step) / variance))
        found.append(math.exp(-float(made.params[KEY])))
        exact.append(variance)
    return found, exact


def fixed_point(second: float, step: float) -> float:
    """Where the chain's own spread about 5 is the variance, T = 1."""
    return brentq(lambda v: spread(v, second, 1.0, step) - v, 0.8, 20)


@pytest.mark.parametrize(("second", "truth"), [(3.0, 2.0), (5.0, 4.0)])
def test_langevin_finds_the_true_variance(second: float, truth: float) -> None:
    """Oracle: Σ = Σ²s/(Σ + 1)² + Σ/(Σ + 1) gives s − 1 as γ → 0; every update in closed form, to 1e-6.

    At γ = .1 the fixed point is that of the chain with its own step bias, and from both sides Σ goes there.
    """
    assert brentq(lambda v: spread(v, second, 1.0, 0.0) - v, 0.5, 20) == pytest.approx(truth)
    own = fixed_point(second, 0.1)
    for start in (0.5 * own, own, 1.5 * own):
        found, exact = learn(start, second, 1.0, 0.1, 8)
        np.testing.assert_allclose(found, exact, rtol=1e-6)
        assert abs(found[-1] - own) <= abs(start - own) + 1e-6
    assert own == pytest.approx(truth, rel=0.5)


def test_vanilla_pc_finds_too_small_a_variance() -> None:
    """Oracle: Σ = (s − 2 + √(s² − 4s))/2 = 2.618 for s = 5, where the truth is 4; to 1e-6."""
    exact = (3 + math.sqrt(5)) / 2
    assert exact == pytest.approx(2.618, abs=5e-4)
    found, recursion = learn(3.0, 5.0, 0.0, 0.5, 150)
    np.testing.assert_allclose(found, recursion, rtol=1e-6)
    assert found[-1] == pytest.approx(exact, rel=1e-4)


def test_vanilla_pc_loses_a_variance_of_two() -> None:
    """Oracle: for s = 3 < 4 Σ²s/(Σ + 1)² < Σ at every Σ: the variance falls at every update, and collapses."""
    grid = np.geomspace(1e-3, 1e3, 200)
    assert (np.array([spread(v, 3.0, 0.0, 0.0) for v in grid]) < grid).all()
    found, recursion = learn(2.0, 3.0, 0.0, 0.1, 55)
    np.testing.assert_allclose(found, recursion, rtol=1e-6)
    assert np.all(np.diff(found) < 0)
    assert found[-1] < 0.2


@pytest.mark.slow
def test_study(tmp_path) -> None:
    """Oracle: the fixed point at γ = .02, within 8 %, because Σ keeps moving with the draws of a batch.

    ln Σ descends ½(1 − (φ − 5)²/Σ), of one draw's standard deviation .53, .033 in the mean of 256 chains, against a
    slope of .22; chains remember 3.3 batches: √(.05 · .033² · 3.3/(2 · .22)) = .02, and 4 of them.
    """
    run_study("bogacz_variance", tmp_path / "run", "figures=[]", "learning.updates=600")
    found = math.exp(-float(load_file(tmp_path / "run" / "checkpoints" / "weights.safetensors")[KEY]))
    assert found == pytest.approx(fixed_point(3.0, 0.02), rel=0.08)
