"""Bias and variance of time averages against the exact linear chain."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.warm_up import linear_warm_up, warm_up
from pcsim.errors import AnalysisError

GAMMA, STEPS = 0.05, 100


def chains(
    bias: float, variance: float, count: int = 4000, seed: int = 0, steps: int = STEPS
) -> xr.DataArray:
    """ULA with λ = 1 about 0, dims (chain, step), start N(bias, variance) at step 0."""
    rng = np.random.default_rng(seed)
    z = bias + np.sqrt(variance) * rng.standard_normal(count)
    path = [z]
    for _ in range(steps):
        z = (1 - GAMMA) * z + np.sqrt(2 * GAMMA) * rng.standard_normal(count)
        path.append(z)
    return xr.DataArray(np.stack(path, 1), dims=("chain", "step"), coords={"step": np.arange(steps + 1)})


def test_known_numbers_of_the_closed_form() -> None:
    """λ = 1, γ = .05, T = 100: prior-like starts gain from burn-in (.607, .518), a warm one loses (.339, .418)."""
    cold = linear_warm_up(3, 0, GAMMA, STEPS, [0, 50])
    warm = linear_warm_up(1, 0.5, GAMMA, STEPS, [0, 30])
    np.testing.assert_allclose(cold["mse"], [0.607, 0.518], atol=5e-4)
    np.testing.assert_allclose(warm["mse"], [0.339, 0.418], atol=5e-4)


@pytest.mark.parametrize(("bias", "variance"), [(3.0, 0.0), (1.0, 0.5)])
def test_chains_follow_the_closed_form(bias: float, variance: float) -> None:
    """4000 chains, 4 standard errors; the variance of a normal average has relative error √(2/4000)."""
    discards = [0, 10, 30, 50, 80]
    found, exact = (
        warm_up(chains(bias, variance), 0.0, discards),
        linear_warm_up(bias, variance, GAMMA, STEPS, discards),
    )
    assert float(abs((found["mse"] - exact["mse"]) / found["mse_error"]).max()) < 4
    np.testing.assert_allclose(found["variance"], exact["variance"], rtol=4 * np.sqrt(2 / 4000))
    error = 2 * np.sqrt(exact["bias2"] * exact["variance"] / 4000) + exact["variance"] / 4000
    assert float((abs(found["bias2"] - exact["bias2"]) / error).max()) < 4
    assert found.attrs["cautions"] == []


def test_bias_is_unbiased_where_there_is_none() -> None:
    """Negative control: chains that start in equilibrium have bias² 0 within 4 s.e. over 200 repeats of 8 chains."""
    stationary = 2 / (2 - GAMMA)
    value = chains(0, stationary, count=1600, seed=1)
    folded = value.to_numpy().reshape(8, 200, -1)
    many = xr.DataArray(folded, dims=("chain", "unit", "step"), coords={"step": np.arange(STEPS + 1)})
    bias2 = warm_up(many, 0.0, [0])["bias2"].isel(discard=0)
    assert abs(float(bias2.mean())) < 4 * float(bias2.std()) / np.sqrt(200)


def test_average_is_that_of_the_steps_after_the_discarded() -> None:
    """Against plain averaging; the start itself is never averaged; lazy arrays and thinned steps alike."""
    value = chains(1, 1, count=20, seed=2).assign_coords(step=np.arange(STEPS + 1) * 2)
    found = warm_up(value, 0.5, [60, 0])
    np.testing.assert_array_equal(found["discard"], [0, 60])
    means = value.sel(step=slice(62, None)).mean("step")
    assert float(found["mse"].sel(discard=60)) == pytest.approx(float(((means - 0.5) ** 2).mean()), rel=1e-12)
    means = value.sel(step=slice(2, None)).mean("step")
    assert float(found["variance"].sel(discard=0)) == pytest.approx(float(means.var(ddof=1)), rel=1e-10)
    lazy = warm_up(value.chunk(step=13), 0.5, [60, 0])
    assert lazy["mse"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), found)


def test_few_chains_are_named_and_impossible_discards_refused() -> None:
    value = chains(1, 1, count=4)
    assert "must not be read" in warm_up(value, 0.0, [0]).attrs["cautions"][0]
    for wrong in ([], [-1], [STEPS]):
        with pytest.raises(AnalysisError, match="discard"):
            warm_up(value, 0.0, wrong)
    with pytest.raises(AnalysisError, match="one chain"):
        warm_up(value.isel(chain=[0]), 0.0, [0])


def test_a_chain_that_diverged_is_not_left_out() -> None:
    value = chains(0, 1, count=10)
    value[3, 60:] = np.nan
    found = warm_up(value, 0.0, [0, 50])
    assert bool(found["mse"].isnull().all())
