"""Counts and Fano factors against doubly stochastic Poisson processes whose variance is known."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.integrate import quad

from pcsim.analysis.counts import (
    conditional_variance,
    fano_factor,
    mean_matched_fano,
    ou_fano_factor,
    poisson_counts,
    softplus_rate,
    threshold_power_rate,
)
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import ou

MEAN, DEVIATION, TAU, DT = 20.0, 5.0, 0.1, 0.005


def rates(chains: int, steps: int, seed: int) -> xr.DataArray:
    rate = MEAN + ou(1 / TAU, DT, (chains, steps), np.random.default_rng(seed), scale=DEVIATION)
    return xr.DataArray(rate.clip(min=0), dims=("chain", "step"), coords={"step": np.arange(steps)})


def discrete_fano(window: int) -> float:
    """1 + Var(dt Σ r)/E for rates at the steps themselves: what the surrogate has, without the integral's limit."""
    lag = np.abs(np.subtract.outer(np.arange(window), np.arange(window)))
    variance = DEVIATION**2 * DT**2 * np.exp(-lag * DT / TAU).sum()
    return 1 + float(variance) / (MEAN * window * DT)


def test_rates_are_the_stated_functions() -> None:
    z = xr.DataArray([-1.0, 0.0, 2.0], dims="unit")
    np.testing.assert_allclose(threshold_power_rate(z, 0.3, 0.5, 2.0), [0, 0, 0.3 * 1.5**2], rtol=1e-15)
    np.testing.assert_allclose(softplus_rate(z, 2.0), 2 * np.logaddexp(0, [-1, 0, 2]), rtol=1e-14)
    assert threshold_power_rate(z).attrs["units"] == "Hz"


def test_constant_rate_gives_poisson_counts() -> None:
    counts = poisson_counts(xr.full_like(rates(4000, 20, 0), 12.0), 20, DT, seed=1)
    found = fano_factor(counts.isel(step=0))
    mean = 12.0 * 20 * DT
    assert abs(float(found["mean"]) - mean) < 4 * np.sqrt(mean / 4000)
    assert abs(float(found["fano"]) - 1) < 4 * float(found["standard_error"])
    # the fourth central moment of a Poisson law, mean + 3 mean², makes the error √((2 + 1/mean − 1/mean)/n) = √(2/n)
    np.testing.assert_allclose(found["standard_error"], np.sqrt(2 / 4000), rtol=0.15)
    assert abs(float(conditional_variance(counts.isel(step=0)))) < 4 * mean * np.sqrt(2 / 4000)
    assert found.attrs["cautions"] == []


@pytest.mark.parametrize("window", [10, 20, 100])
def test_fano_factor_of_an_ou_rate(window: int) -> None:
    counts = poisson_counts(rates(6000, window, window), window, DT, seed=2).isel(step=0)
    found = fano_factor(counts)
    assert abs(float(found["fano"]) - discrete_fano(window)) < 4 * float(found["standard_error"])
    varce = (discrete_fano(window) - 1) * MEAN * window * DT
    away = counts - counts.mean()
    second, third, fourth = (float((away**k).mean()) for k in (2, 3, 4))
    error = np.sqrt((fourth - second**2 - 2 * third + second) / 6000)  # of variance − mean, to first order
    assert abs(float(conditional_variance(counts)) - varce) < 4 * error


@pytest.mark.parametrize("window", [0.05, 0.1, 0.5])
def test_ou_law_is_the_integral_of_the_covariance(window: float) -> None:
    covariance, _ = quad(lambda t: 2 * (window - t) * DEVIATION**2 * np.exp(-t / TAU), 0, window)
    assert ou_fano_factor(MEAN, DEVIATION, TAU, window) == pytest.approx(
        1 + covariance / (MEAN * window), rel=1e-9
    )


def test_counts_are_seeded_and_lazy() -> None:
    pytest.importorskip("dask")
    rate = rates(64, 100, 3).expand_dims(image=2).assign_coords(phase=("step", np.array(["evoked"] * 100)))
    whole = poisson_counts(rate, 25, DT, seed=5)
    assert whole.sizes == {"image": 2, "chain": 64, "step": 4}
    xr.testing.assert_identical(whole, poisson_counts(rate, 25, DT, seed=5))
    assert (whole != poisson_counts(rate, 25, DT, seed=6)).any()
    one_chunk = poisson_counts(rate.chunk(), 25, DT, seed=5)
    assert one_chunk.chunks is not None
    np.testing.assert_array_equal(one_chunk, whole)
    parts = poisson_counts(rate.chunk(chain=32), 25, DT, seed=5).compute()
    assert not np.array_equal(parts.isel(chain=slice(0, 32)), parts.isel(chain=slice(32, 64)))


def binomial(p: NDArray[np.float64], chains: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).binomial(20, p, (chains, *p.shape))


def test_mean_matching_removes_what_rates_alone_do() -> None:
    """Binomial counts have FF = 1 − p: rising rates alone let it fall; among pairs of equal p nothing changes."""
    p = np.stack([np.repeat([0.2, 0.4], 100), np.repeat([0.4, 0.6], 100)])
    counts = xr.DataArray(binomial(p, 400, 7), dims=("chain", "step", "unit"), coords={"step": [0, 1]})
    found = mean_matched_fano(counts, seed=0, bins=8)
    assert 80 <= int(found["kept"]) <= 100
    unmatched = found["unmatched"].to_numpy()
    slope = [
        (400 * (1 - q)).sum() / 400 / len(q) for q in p
    ]  # with weights 1/mean² a slope is the mean of var/mean
    se = np.sqrt(2 / 399 / 200)
    np.testing.assert_allclose(unmatched, slope, atol=4 * se)
    assert unmatched[0] - unmatched[1] > 0.1
    matched, error = found["fano"].to_numpy(), found["standard_error"].to_numpy()
    assert (np.abs(matched - 0.6) < 4 * error).all()
    assert error.max() < 2 * 0.6 * np.sqrt(2 / 399 / int(found["kept"]))
    assert found.attrs["cautions"] == []


def test_silent_units_have_no_place_in_the_regression() -> None:
    """Units that never fire have mean and variance 0: they would have infinite weight."""
    p = np.stack([np.r_[np.full(60, 0.4), np.zeros(40)]] * 2)
    counts = xr.DataArray(binomial(p, 400, 9), dims=("chain", "step", "unit"))
    found = mean_matched_fano(counts, seed=0, bins=8)
    assert int(found["kept"]) <= 60
    assert (np.abs(found["fano"] - 0.6) < 4 * found["standard_error"]).all()


def test_disjoint_rates_cannot_be_matched() -> None:
    p = np.stack([np.full(40, 0.1), np.full(40, 0.9)])
    counts = xr.DataArray(binomial(p, 100, 8), dims=("chain", "step", "unit"))
    found = mean_matched_fano(counts, seed=0)
    assert int(found["kept"]) == 0
    assert np.isnan(found["fano"]).all()
    assert any("0 of 40 pairs" in text for text in found.attrs["cautions"])


def test_refusals_and_cautions() -> None:
    rate = rates(5, 10, 0)
    assert fano_factor(poisson_counts(rate, 10, DT, seed=0)).attrs["cautions"]
    with pytest.raises(AnalysisError, match="window of 11 steps"):
        poisson_counts(rate, 11, DT, seed=0)
    with pytest.raises(AnalysisError, match="rates must be numbers"):
        poisson_counts(rate - 100, 10, DT, seed=0)
    with pytest.raises(AnalysisError, match="at least 2 repeats"):
        fano_factor(rate.isel(chain=[0]))
    with pytest.raises(AnalysisError, match="at least 10"):
        mean_matched_fano(rate, seed=0, draws=5)
