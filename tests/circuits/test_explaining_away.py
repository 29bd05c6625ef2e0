"""explaining_away: two causes of one observation are anticorrelated by a known amount, whatever is observed."""

import numpy as np
import pytest

from pcsim.inference.kernels import langevin
from tests.circuits.shipped import (
    Array,
    assert_mean,
    described,
    joint_of,
    path_of,
    run_study,
    target_of,
    zeros,
)
from tests.exact.gaussian_circuits import Orthogonal, Posterior, condition

TABLE = [((1, 1, 1.0), -0.5), ((1, 1, 0.1), -0.909), ((1, -1, 1.0), 0.5), ((2, 1, 0.5), -0.770)]


def variant(first: float, second: float, noise: float) -> dict:
    """The circuit with other weights and another variance of the observation."""
    circuit = described("explaining_away")
    circuit["edges"][0]["layers"][0]["linear"]["weight"] = [[first]]
    circuit["edges"][1]["layers"][0]["linear"]["weight"] = [[second]]
    circuit["nodes"]["grass"]["distribution"]["gaussian"]["precision"] = 1 / noise
    return circuit


def posterior_of(circuit: dict, seen: float) -> Posterior:
    return condition(joint_of(circuit), np.array([False, False, True]), np.array([0.0, 0.0, seen]))


def correlation(covariance: Array) -> float:
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


@pytest.mark.parametrize(("weights", "tabled"), TABLE)
def test_correlation(weights: tuple[float, float, float], tabled: float) -> None:
    """Oracle: −w₁w₂/√((σ² + w₁²)(σ² + w₂²)), and [Λ(I − γΛ/2)]⁻¹ for the chain; to rounding, at x = 0, 1.5 and 4.

    The covariance does not depend on what is seen: linear predictive coding has no stimulus-dependent variability.
    """
    first, second, noise = weights
    expected = -first * second / np.sqrt((noise + first**2) * (noise + second**2))
    assert expected == pytest.approx(tabled, abs=5e-4)
    circuit = variant(*weights)
    posterior = posterior_of(circuit, 1.5)
    assert correlation(np.linalg.inv(posterior.precision)) == pytest.approx(expected)
    step = 0.5 / float(np.linalg.eigvalsh(posterior.precision).max())
    steps = int(
        np.ceil(np.log(1e-5) / np.log(1 - step))
    )  # the slowest direction, across the weights, has λ = 1
    rows = 2 * steps + 2
    for seen in (0.0, 1.5, 4.0):
        target = target_of(circuit, {"grass": [seen]}, rows)
        path = path_of(langevin(step), target, Orthogonal(rows), zeros(target), steps)
        draws = np.concatenate([path["rain"][-1], path["sprinkler"][-1]], 1)
        np.testing.assert_allclose(draws.mean(0), posterior_of(circuit, seen).mean, atol=1e-4)
        np.testing.assert_allclose(np.cov(draws.T, bias=True), posterior.ula(step, 1.0), atol=1e-8)


def test_causes_are_independent_before_the_observation() -> None:
    """Oracle: the prior, covariance I, when nothing is held (γ → 0 bias as always); to rounding."""
    circuit = described("explaining_away")
    joint = joint_of(circuit)
    posterior = condition(joint, np.zeros(3, dtype=bool), np.zeros(3))
    np.testing.assert_allclose(np.linalg.inv(posterior.precision)[:2, :2], np.eye(2), atol=1e-12)
    steps, step = 150, 0.4
    target = target_of(circuit, {}, 3 * steps + 2)
    path = path_of(langevin(step), target, Orthogonal(3 * steps + 2), zeros(target), steps)
    draws = np.concatenate([path[n][-1] for n in joint.parts], 1)
    np.testing.assert_allclose(np.cov(draws.T, bias=True), posterior.ula(step, 1.0), atol=1e-8)


def test_study(tmp_path) -> None:
    """Oracle: the chain's own covariance, correlation −.5 up to the step, mean x/3 each; 4 s.e. of 1000 chains."""
    trace = run_study("explaining_away", tmp_path / "run", "figures=[]")
    a, b = (
        trace[n]["value"].isel(image=0, unit=0).sel(step=slice(150, None)).to_numpy()
        for n in ("rain", "sprinkler")
    )
    posterior = posterior_of(described("explaining_away"), 1.5)
    exact = posterior.ula(0.05, 1.0)
    np.testing.assert_allclose(posterior.mean, 0.5)
    for cause in (a, b):
        assert_mean(cause.mean(1), 0.5)
        assert_mean(((cause - 0.5) ** 2).mean(1), exact[0, 0])
    assert_mean(((a - 0.5) * (b - 0.5)).mean(1), exact[0, 1])
    assert correlation(exact) == pytest.approx(-0.5, abs=0.04)
