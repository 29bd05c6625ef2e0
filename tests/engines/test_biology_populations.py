"""Split error populations of unequal gain and a floor, and feedback weights that are not the transposed ones."""

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad

from pcsim.analysis.irreversibility import irreversibility
from pcsim.engines.brian2.network import Dynamics
from tests.circuits.euler_law import euler_law
from tests.engines.brian_runs import Array, assert_covariance, euler_covariance, network, path, stream

STEP = 0.01
ROWS = 8000


def split(gain: tuple[float, float], baseline: float, variance: float) -> dict[str, Any]:
    """One node N(0, Σ) with a positive and a negative error population."""
    errors = {"split": True, "gain": list(gain), "baseline": baseline}
    node = {"shape": [1], "distribution": {"gaussian": {"precision": 1 / variance}}, "errors": errors}
    return {"nodes": {"z": node}, "edges": []}


def read_error(z: Array, gain: tuple[float, float], baseline: float, variance: float) -> Array:
    """g₊([b + ε]₊ − b) − g₋([b − ε]₊ − b), ε = z/Σ."""
    error = z / variance
    up, down = np.maximum(baseline + error, 0) - baseline, np.maximum(baseline - error, 0) - baseline
    return np.asarray(gain[0] * up - gain[1] * down)


def chain_moments(
    gain: tuple[float, float], baseline: float, variance: float, step: float
) -> tuple[float, float]:
    """Mean and variance of the Euler chain, from its exact transition density on a grid."""
    width = math.sqrt(2 * step) / 1.5
    grid = np.arange(-8, 8 + width, width)
    law = euler_law((grid,), lambda p: read_error(p, gain, baseline, variance), step)
    mass, points = law.stationary(), law.points[:, 0]
    mean = float(mass @ points)
    return mean, float(mass @ (points - mean) ** 2)


def test_two_piece_normal_is_the_limit_of_short_steps() -> None:
    """No floor: p ∝ exp(−g± z²/2Σ), mean √(2/π)(σ₊ − σ₋), σ± = √(Σ/g±), for shorter and shorter steps.

    By quadrature the variance is (1 − 2/π)(σ₊ − σ₋)² + σ₊σ₋.
    """
    gain, variance = (2.0, 0.5), 1.5
    above, below = (math.sqrt(variance / g) for g in gain)
    mean, second = (
        math.sqrt(2 / math.pi) * (above - below),
        (1 - 2 / math.pi) * (above - below) ** 2 + above * below,
    )

    def half(power: int, scale: float, low: float, high: float) -> float:
        return float(quad(lambda z: z**power * math.exp(-z * z / (2 * scale**2)), low, high)[0])

    def moment(power: int) -> float:
        return half(power, below, -30, 0) + half(power, above, 0, 30)

    assert moment(1) / moment(0) == pytest.approx(mean, rel=1e-8)
    assert moment(2) / moment(0) - mean**2 == pytest.approx(second, rel=1e-8)
    gaps = []
    for step in (0.04, 0.02):
        found = chain_moments(gain, 0.0, variance, step)
        gaps.append((found[0] - mean, found[1] - second))
    # first order: the stiffer side alone is γ g₊/2Σ = .013 too wide; the mean's error is of higher order
    assert np.abs(gaps[1]).max() < 0.013 * second
    ratio = np.divide(*gaps)
    assert ratio[1] == pytest.approx(2.0, abs=0.1)
    assert ratio[0] > 2.0


@pytest.mark.parametrize(("gain", "baseline"), [((2.0, 0.5), 0.0), ((1.0, 1.0), 0.4), ((1.5, 0.5), 0.3)])
def test_law_of_split_errors(gain: tuple[float, float], baseline: float) -> None:
    """Oracle: the transition density of the Euler chain on a grid; 4 s.e. of 8000 rows, from their own moments."""
    variance = 1.5
    simulation = network(split(gain, baseline, variance), Dynamics(1e-3, STEP), ROWS)
    simulation.run(stream(simulation), 1200)
    z = simulation.values["z"][:, 0]
    mean, second = chain_moments(gain, baseline, variance, STEP)
    assert z.mean() == pytest.approx(mean, abs=4 * z.std() / math.sqrt(ROWS))
    square = (z - mean) ** 2
    assert square.mean() == pytest.approx(second, abs=4 * square.std() / math.sqrt(ROWS))
    if gain[0] != gain[1]:
        assert abs(mean) > 8 * z.std() / math.sqrt(ROWS)
    else:  # inside the floor both populations answer: a node twice as stiff there
        assert second < variance - 8 * square.std() / math.sqrt(ROWS)


W = np.array([[1.0, 0.5], [0.2, -1.0], [0.3, 0.4]])
B = np.array([[1.0, 1.0, 0.9], [-0.8, -0.7, 0.2]])
PRECISION = 2.0


def hierarchy(feedback: Array | None) -> dict[str, Any]:
    """Two causes, three observations; messages by Wᵀ or by weights of their own."""
    edge: dict[str, Any] = {
        "from": "z",
        "to": "x",
        "layers": [{"linear": {"weight": W.tolist(), "bias": False}}],
    }
    if feedback is not None:
        edge["feedback"] = {"weight": feedback.tolist()}
    nodes = {"z": {"shape": [2], "distribution": "gaussian"},
             "x": {"shape": [3], "distribution": {"gaussian": {"precision": PRECISION}}}}  # fmt: skip
    return {"nodes": nodes, "edges": [edge]}


@pytest.mark.parametrize("feedback", [None, B])
def test_feedback_of_its_own_is_irreversible(feedback: Array | None) -> None:
    """A_01(τ) = C_01 − C_10 of unit variance: 0 with Wᵀ, (M^k S)₁₀ − (M^k S)₀₁ by Lyapunov with B; 4 s.e."""
    rows, lag = 200, 20
    simulation = network(hierarchy(feedback), Dynamics(1e-3, STEP), rows, {"x": [0.5, -1.0, 2.0]})
    simulation.run(stream(simulation), 800)
    z = path(simulation, "z", 2000, stream(simulation, seed=1))
    back = W.T if feedback is None else feedback
    drift = -np.eye(2) - PRECISION * back @ W
    s = euler_covariance(drift, math.sqrt(2) * np.eye(2), STEP)
    later = np.linalg.matrix_power(np.eye(2) + STEP * drift, lag) @ s
    expected = (later[1, 0] - later[0, 1]) / math.sqrt(s[0, 0] * s[1, 1])
    found = irreversibility(xr.DataArray(z, dims=("step", "chain", "unit")), lag)
    error = float(found["asymmetry_error"][0, 1])
    # dividing by the variance that was found, of 4000 relaxation times, adds less than the slack
    assert float(found["asymmetry"][0, 1]) == pytest.approx(expected, abs=4 * error + 0.01 * abs(expected))
    if feedback is None:
        assert expected == pytest.approx(0, abs=1e-12)
    else:
        assert abs(expected) > 12 * error
        assert float(found["total"]) > 3 * float(found["null_total"])
    assert_covariance(z[-1], s)
