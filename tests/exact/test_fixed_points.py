"""Law 8: where plain SGD ends in circuits whose end is known, and how vanilla PC fails in closed form.

One latent x ~ N(μ, 1) under y ~ N(W x, 1), data with mean ȳ and variance s², and one under a fixed link,
u ~ N(φ, 1), φ ~ N(0, Σ). Data are two images at ȳ ± s, so that their moments are exact.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from pcsim.circuit.read import load_circuit
from pcsim.engines.torch.program import Program
from pcsim.inference.kernels import langevin
from pcsim.inference.rng import Stream, seed_stream
from pcsim.inference.types import Rng
from pcsim.learning.draws import Draws
from pcsim.learning.learner import Batch, Learner, Method, learn_batch, make_learner
from pcsim.learning.optimizers import sgd
from tests.exact.gaussian_circuits import F64, Orthogonal


def scalar_circuit(weight: float, mean: float, learn_mean: bool) -> dict[str, Any]:
    learn = {"learn": ["mean"]} if learn_mean else {}
    return {
        "nodes": {
            "x": {"shape": [1], "distribution": {"gaussian": {"precision": 1.0}}, "mean": [mean], **learn},
            "y": {"shape": [1], "distribution": {"gaussian": {"precision": 1.0}}},
        },
        "edges": [{"from": "x", "to": "y", "layers": [{"linear": {"weight": [[weight]]}}]}],
    }


def make(description: dict[str, Any], rate: float) -> Learner:
    program = Program(load_circuit(description))
    params = program.initial_parameters(torch.Generator())
    return make_learner(program, params, lambda p: sgd(p, rate), lambda p: sgd(p, rate))


def two_images(name: str, mean: float, variance: float) -> Batch:
    values = mean + math.sqrt(variance) * torch.tensor([[1.0], [-1.0]], dtype=F64)
    return Batch({name: values}, {}, torch.arange(2))


KEY = "x->y.0.weight"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0.1, 1.7320508),
        (0.3, 1.3627703),
        pytest.param(0.01, 1.9693, marks=pytest.mark.slow),
    ],
)
def test_langevin_reaches_its_fixed_point(step: float, expected: float) -> None:
    """Oracle: W² = s²/(1 + γs²/2) − 1, μ = ȳ/W with s² = 5, ȳ = 1; to rounding, by draws of exact moments.

    With λ = 1 + W² the chain has mean W(y − Wμ)/λ and variance v = 1/(λ(1 − γλ/2)) around it. E[∂U/∂μ] = 0
    gives Wμ = ȳ; E[(y − Wx) x] = 0 gives s²/λ² = v, that is λ = s²(1 − γλ/2).
    """
    assert math.sqrt(5 / (1 + step * 5 / 2) - 1) == pytest.approx(expected, abs=5e-5)
    made, batch = make(scalar_circuit(1.5, 0.3, True), 0.2), two_images("y", 1.0, 5.0)
    steps = max(2, math.ceil(math.log(1e-9) / math.log(abs(1 - step * 2))))
    method = Method(langevin(step), steps, "prior", Draws("final"), n_chain=steps + 3)
    for update in range(300):
        rng: Rng = Orthogonal(steps + 3, images=2)
        learn_batch(made, method, batch, rng, update)
    weight, mean = float(made.params[KEY]), float(made.params["x.mean"])
    assert weight**2 == pytest.approx(5 / (1 + step * 5 / 2) - 1, rel=1e-6)
    assert mean == pytest.approx(1 / weight, rel=1e-6)


def test_langevin_fixed_point_with_ordinary_draws() -> None:
    """Oracle: the same, W = √3 at γ = .1; 5 s.e. from 12 blocks of 40 updates, each far beyond relaxation."""
    made, batch = make(scalar_circuit(1.7, 0.0, False), 0.2), two_images("y", 0.0, 5.0)
    method = Method(langevin(0.1), 45, "prior", Draws("last", 15), n_chain=100)
    path = []
    for update in range(520):
        learn_batch(made, method, batch, seed_stream(0, "lpc", update), update)
        path.append(float(made.params[KEY]))
    blocks = np.array(path[40:]).reshape(12, 40).mean(1)
    spread = np.var(path[40:])  # E W is off by −(curvature) Var W /2, of order Var W
    assert abs(blocks.mean() - math.sqrt(3)) < 5 * blocks.std(ddof=1) / 12**0.5 + spread


def test_vanilla_pc_diverges_as_the_fourth_root_of_time() -> None:
    """Oracle: W ← W + α s² W/(1 + W²)² at every update, hence W⁴/4 + W² + ln W = α s² t + const and t^¼.

    The mean exponent lies between the least and the greatest local one, d ln W/d ln t = α s² t/(1 + W²)², up
    to O(α s²/W⁴) for the finite step; from W = 6.6 to 9.1 that is .245 to .252.
    """
    rate, variance = 1.0, 5.0
    made, batch = make(scalar_circuit(3.0, 0.0, False), rate), two_images("y", 0.0, variance)
    made.previous["x"] = torch.zeros(2, 1, dtype=F64)
    method = Method(langevin(0.02, 0.0), 60, "previous", Draws("final"))
    weight, path, none = 3.0, [], Stream(torch.Generator())
    for update in range(320):
        learn_batch(made, method, batch, none, update)
        weight += rate * variance * weight / (1 + weight**2) ** 2
        path.append(float(made.params[KEY]))
        assert path[-1] == pytest.approx(weight, rel=1e-4)
    late = path[79:]
    assert late[0] > 6
    exponent = math.log(late[-1] / late[0]) / math.log(320 / 80)
    local = [rate * variance * t / (1 + w * w) ** 2 for t, w in enumerate(late, 80)]
    slack = rate * variance / late[0] ** 4
    assert min(local) - slack < exponent < max(local) + slack
    assert abs(exponent - 0.25) < 0.01
    assert np.all(np.diff(path) > 0)


def one_variance(start: float) -> dict[str, Any]:
    prior = {"gaussian": {"precision": 1 / start}}
    return {
        "nodes": {
            "phi": {"shape": [1], "distribution": prior, "learn": ["precision"]},
            "u": {"shape": [1], "distribution": {"gaussian": {"precision": 1.0}}},
        },
        "edges": [{"from": "phi", "to": "u", "layers": [{"linear": {"weight": [[1.0]]}}]}],
    }


def freeze_weight(made: Learner) -> Learner:
    """Only the variance learns."""
    return made._replace(theta=sgd([made.params["phi.log_precision"]], 0.3))


def learnt_variance(
    variance: float, temperature: float, step: float, updates: int, start: float
) -> list[float]:
    made, batch = freeze_weight(make(one_variance(start), 0.3)), two_images("u", 0.0, variance)
    steps = max(2, math.ceil(math.log(1e-9) / math.log(1 - step)))  # λ = 1 + 1/Σ is above 1
    n_chain = steps + 3 if temperature else 1
    method = Method(langevin(step, temperature), steps, "prior", Draws("final"), n_chain=n_chain)
    path = []
    for update in range(updates):
        rng: Rng = Orthogonal(max(n_chain, 4), images=2 if temperature else 1)
        if not temperature:
            rng = seed_stream(0, "start", update)
        learn_batch(made, method, batch, rng, update)
        path.append(float((-made.params["phi.log_precision"]).exp()))
    return path


def test_vanilla_pc_learns_too_small_a_variance() -> None:
    """Oracle: Σ² s/(Σ + 1)² = Σ, so Σ = (s − 2 + √(s² − 4s))/2 = 2.618 for s = 5, where the truth is 4."""
    path = learnt_variance(5.0, 0.0, 0.2, 260, 3.0)
    assert path[-1] == pytest.approx((3 + math.sqrt(5)) / 2, rel=1e-6)


def test_vanilla_pc_lets_the_variance_collapse() -> None:
    """Oracle: for s < 4 there is no fixed point; ln Σ falls by α/2 (1 − Σ s/(Σ + 1)²) at every update."""
    path, exact, sigma = learnt_variance(3.0, 0.0, 0.1, 60, 2.0), [], 2.0
    for _ in range(60):
        sigma *= math.exp(-0.15 * (1 - sigma * 3 / (sigma + 1) ** 2))
        exact.append(sigma)
    np.testing.assert_allclose(path, exact, rtol=1e-6)
    assert np.all(np.diff(path) < 0)
    assert path[-1] < 0.1


@pytest.mark.parametrize("step", [0.2, 0.1])
def test_langevin_learns_the_true_variance(step: float) -> None:
    """Oracle: Σ = Σ² s/(Σ + 1)² + 1/(λ(1 − γλ/2)), λ = 1 + 1/Σ; s − 1 = 4 as γ → 0."""

    def balance(sigma: float) -> float:
        rate = 1 + 1 / sigma
        return sigma**2 * 5 / (sigma + 1) ** 2 + 1 / (rate * (1 - step * rate / 2)) - sigma

    assert brentq(lambda s: s**2 * 5 / (s + 1) ** 2 + s / (s + 1) - s, 1, 9) == pytest.approx(4.0)
    path = learnt_variance(5.0, 1.0, step, 150, 4.2)
    assert path[-1] == pytest.approx(brentq(balance, 1, 9), rel=1e-6)
