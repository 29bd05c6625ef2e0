"""posner_precision: gain, rate, reaction time, variability and error responses at three sensory precisions."""

import numpy as np
import pytest
import torch

from pcsim.inference.kernels import langevin
from tests.circuits.shipped import Array, assert_mean, described, path_of, run_study, target_of
from tests.exact.gaussian_circuits import F64, Orthogonal

PRECISION = np.array([4.0, 2.0, 1.0])
RATE = PRECISION + 1
GAIN = PRECISION / RATE
STEP = 0.01
THRESHOLD = 0.4


def reaction_time(mean: Array) -> Array:
    """When the mean of `[step, place]` first exceeds the threshold, by linear interpolation between steps."""
    after = (mean > THRESHOLD).argmax(0)
    places = np.arange(mean.shape[1])
    low, high = mean[after - 1, places], mean[after, places]
    found: Array = STEP * (after - 1 + (THRESHOLD - low) / (high - low))
    return found


def exact_path(steps: int) -> tuple[Array, Array]:
    """Mean and variance of v after 0 … steps steps from the prior, `[step, place]`; a = 1 − γλ."""
    a = (1 - STEP * RATE) ** np.arange(steps + 1)[:, None]
    own = 1 / (RATE * (1 - STEP * RATE / 2))
    return GAIN * (1 - a), a**2 + (1 - a**2) * own


def test_mean_and_variance_along_the_path() -> None:
    """Oracle: m(1 − aᵗ) and a²ᵗ + (1 − a²ᵗ)/(λ(1 − γλ/2)) from rest; to rounding, by draws of exact moments."""
    steps, rows = 120, 3 * 121 + 2
    target = target_of(described("posner_precision"), {"x": [1.0, 1.0, 1.0]}, rows)
    rng = Orthogonal(rows)
    start = {"v": rng.normal(torch.zeros(rows, 3, dtype=F64))}
    v = path_of(langevin(STEP), target, rng, start, steps)["v"]
    mean, variance = exact_path(steps)
    np.testing.assert_allclose(v.mean(1), mean, atol=1e-10)
    np.testing.assert_allclose(v.var(1), variance, atol=1e-10)


def test_reaction_times_are_ordered_by_precision() -> None:
    """Oracle: (1/λ) ln(m/(m − θ)) = .139, .305, .805 for the valid, neutral and invalid cue; Euler's are O(γ) away."""
    exact = np.log(GAIN / (GAIN - THRESHOLD)) / RATE
    np.testing.assert_allclose(exact, [0.1386, 0.3054, 0.8047], atol=5e-5)
    mean, _ = exact_path(400)
    found = reaction_time(mean)
    np.testing.assert_allclose(found, exact, atol=STEP * np.log(GAIN / (GAIN - THRESHOLD)).max())
    assert (np.diff(found) > 0).all()


def test_study(tmp_path) -> None:
    """Oracle: gain .8, .67, .5; variance 1/λ; errors π(x − v) from π to π/(π + 1); 4 s.e. of 2000 chains."""
    trace = run_study("posner_precision", tmp_path / "run", "figures=[]")
    v, error = trace["v"]["value"].isel(image=0), trace["x"]["error"].isel(image=0)
    mean, variance = exact_path(400)
    for step in (0, 10, 50, 400):
        here = v.sel(step=step).to_numpy()
        assert_mean(here, mean[step])
        assert_mean((here - mean[step]) ** 2, variance[step])
    late = v.sel(step=slice(350, None)).mean("step").to_numpy()
    assert_mean(late, GAIN, slack=float(np.abs(mean[350] - GAIN).max()))
    assert_mean(error.sel(step=0).to_numpy(), PRECISION)
    assert_mean(error.sel(step=slice(350, None)).mean("step").to_numpy(), PRECISION / RATE, slack=1e-3)
    assert (np.diff(reaction_time(v.mean("chain").to_numpy())) > 0).all()
    assert np.diff(variance[-1]).min() > 0  # what is attended varies least
    assert variance[-1] == pytest.approx(1 / RATE, rel=0.03)
