"""Autocorrelation, integrated time, ESS and R-hat against AR(1), against ArviZ, and on chains that do not mix."""

import numpy as np
import pytest
import xarray as xr

from pcsim.analysis.convergence import (
    autocorrelation,
    effective_sample_size,
    integrated_time,
    split_rhat,
    unconverged,
)
from pcsim.errors import AnalysisError
from tests.analysis.surrogates import ar1, named, random_walk

COEFFICIENTS = [0.5, 0.9, 0.99]


def series(a: float, chains: int, steps: int, units: int, seed: int = 0) -> xr.DataArray:
    """AR(1) chains as a trace has them."""
    return named(ar1(a, (chains, units, steps), np.random.default_rng(seed)).swapaxes(1, 2))


@pytest.mark.parametrize("a", COEFFICIENTS)
def test_integrated_time_of_ar1_within_five_percent(a: float) -> None:
    """Oracle: tau = (1+a)/(1−a). Sokal (1997): var of the windowed estimate is 2(2M+1)/N tau²; the mean over units
    makes it small against 5 %."""
    tau = integrated_time(series(a, chains=4, steps=20_000 if a < 0.95 else 100_000, units=8))
    assert float(tau.mean()) == pytest.approx((1 + a) / (1 - a), rel=0.05)
    assert tau.attrs["cautions"] == []


@pytest.mark.parametrize("a", COEFFICIENTS)
def test_autocorrelation_of_ar1(a: float) -> None:
    """Oracle: rho(k) = a^k; Bartlett's standard error is at most √(tau/(chains N)); bound 4 of them."""
    value = series(a, chains=8, steps=20_000, units=1)
    rho = autocorrelation(value, lags=50)
    error = 4 * np.sqrt((1 + a) / (1 - a) / (8 * 20_000))
    np.testing.assert_allclose(rho.isel(unit=0), a ** np.arange(50.0), atol=error)


def test_equal_to_arviz() -> None:
    """Oracle: ArviZ's ess(method="mean") and rhat(method="split"), on short, odd, antithetic and drifting chains."""
    arviz = pytest.importorskip("arviz")
    rng = np.random.default_rng(1)
    for length in (16, 101, 500):
        for a in (-0.7, 0.0, 0.6, 0.95):
            values = ar1(a, (5, length), rng)
            values[0] += np.linspace(0, 0.5, length)
            value = xr.DataArray(values, dims=("chain", "step"))
            mine = float(effective_sample_size(value))
            assert mine == pytest.approx(float(arviz.ess(values, method="mean")), rel=1e-9)
            assert float(split_rhat(value)) == pytest.approx(
                float(arviz.rhat(values, method="split")), rel=1e-9
            )


def test_float32_is_taken_as_float64() -> None:
    """Oracle: the same numbers in float64. A mean of 1000 costs float32 sums three digits."""
    value = (series(0.9, chains=4, steps=4000, units=2) + 1000).astype(np.float32)
    xr.testing.assert_allclose(
        effective_sample_size(value), effective_sample_size(value.astype(np.float64)), rtol=1e-12
    )


@pytest.mark.parametrize("budget", [2**12, 2**40])
def test_slabs_make_no_difference(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each unit by itself; names, order and coordinates of the dims survive, lazy or not."""
    pytest.importorskip("dask.array")
    from pcsim.analysis import slabs

    value = (
        series(0.8, chains=4, steps=500, units=7)
        .expand_dims(image=["a", "b"])
        .assign_coords(unit=range(7, 14))
    )
    whole = effective_sample_size(value)
    monkeypatch.setattr(slabs.by_slab, "__defaults__", (budget,))
    for given in (value, value.chunk(step=100)):
        found = effective_sample_size(given)
        assert found.dims == ("image", "unit")
        xr.testing.assert_allclose(found, whole)
    alone = effective_sample_size(value.sel(image="b", unit=9))
    assert float(found.sel(image="b", unit=9)) == pytest.approx(float(alone), rel=1e-12)


def test_converged_chains_have_no_caution() -> None:
    """Oracle: independent draws."""
    assert unconverged(series(0.0, chains=4, steps=1000, units=20)) == []


def test_random_walks_do_not_converge() -> None:
    """Negative control: a walk has no stationary law; R-hat and ESS both say so."""
    walks = named(random_walk((4, 5, 1000), np.random.default_rng(0)).swapaxes(1, 2))
    assert (split_rhat(walks) > 1.05).all()
    assert (effective_sample_size(walks) < 40).all()
    text = " ".join(unconverged(walks))
    assert "R-hat is above 1.01 in 5 of 5 series" in text
    assert "fewer than 400" in text


def test_chains_in_two_modes_do_not_converge() -> None:
    """Negative control: white chains about −3 and 3; each by itself is perfect."""
    value = series(0.0, chains=4, steps=2000, units=1)
    apart = value + xr.DataArray([-3.0, 3.0, -3.0, 3.0], dims="chain")
    assert unconverged(value) == []
    assert split_rhat(apart).item() > 2
    assert autocorrelation(apart, lags=100).isel(lag=-1).item() > 0.8


def test_shuffled_steps_lose_their_correlation() -> None:
    """Negative control: a slow series in random order is white, tau = 1 within 4 √(2/N)."""
    value = series(0.95, chains=4, steps=20_000, units=1)
    order = np.random.default_rng(2).permutation(20_000)
    shuffled = value.copy(data=value.to_numpy()[:, order])
    assert float(integrated_time(shuffled).item()) == pytest.approx(1.0, abs=0.1)


def test_what_never_moves_is_named() -> None:
    """Vanilla PC at its minimum: no fluctuation, no diagnostics, and a caution instead of a perfect score."""
    value = series(0.0, chains=2, steps=1000, units=3)
    value[:, :, 1] = 0.7
    tau = integrated_time(value)
    np.testing.assert_array_equal(np.isnan(tau), [False, True, False])
    text = " ".join(tau.attrs["cautions"])
    assert "1 of 3 series: they never move" in text
    assert "2 of at least 4 chains" in text


def test_a_missing_dim_names_the_nearest() -> None:
    with pytest.raises(AnalysisError, match="no dim 'steps'; did you mean 'step'"):
        autocorrelation(series(0.0, chains=1, steps=20, units=1), dim="steps")
